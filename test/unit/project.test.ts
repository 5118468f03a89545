import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { binary, ROOT } from '../helpers.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const help = (name: string) => Bun.spawnSync([binary(name), '--help']).stdout.toString();
const manifest = JSON.parse(read('package.json'));

/** Name, default and meaning of each variable in a help text. */
function variablesOf(name: string): [string, string, string][] {
  const rows = help(name).matchAll(/^ {2}([A-Z_]+) +(\S(?:.*?\S)?) {2,}(\S.*)$/gm);
  return [...rows].map(([, variable = '', value = '', meaning = '']) => [variable, value, meaning]);
}

test('the pinned versions agree wherever they are named', () => {
  const [, bun] = manifest.packageManager.split('@');
  expect(manifest.devDependencies['bun-types']).toBe(bun);
  expect(read('rsync_inotify.dockerfile')).toContain(`ARG BUN_IMAGE=oven/bun:${bun}\n`);
  expect(read('compose.yml')).toContain(`\${BUN_IMAGE:-oven/bun:${bun}}`);
  for (const name of ['rsync-inotify', 'start-sshd']) expect(help(name)).toStartWith(`${name} ${manifest.version}`);
});

test('bun.lockb is the only lock file', () => {
  expect(existsSync(join(ROOT, 'bun.lockb'))).toBe(true);
  for (const other of ['bun.lock', 'package-lock.json']) expect(existsSync(join(ROOT, other))).toBe(false);
});

test('the scripts carry the same log, and import no module of the project', () => {
  const logOf = (name: string) =>
    /^type Level[\s\S]*^export function escapeText[\s\S]*?^}/m.exec(read('scripts', name))?.[0];
  expect(logOf('start-sshd.ts')).toBe(logOf('rsync-inotify.ts') ?? 'missing');
  for (const name of ['rsync-inotify.ts', 'start-sshd.ts']) {
    expect(read('scripts', name)).not.toMatch(/from '\.\.?\/[^']*(?<!html)'/); // a page may be imported as text
  }
});

describe.each(['rsync-inotify', 'start-sshd'])('the variables of %s', (name) => {
  const variables = variablesOf(name);
  const row = (variable: string, value: string) => `| \`${variable}\` | ${value === '–' ? '–' : `\`${value}\``} |`;

  test('are in README.md with their defaults', () => {
    expect(variables.length).toBeGreaterThan(7);
    for (const [variable, value] of variables) expect(read('README.md')).toContain(row(variable, value));
  });

  test('are in README.zh-CN.md just as --help shows them', () => {
    const plain = read('README.zh-CN.md').replaceAll('`', '');
    for (const [variable, value, meaning] of variables) {
      expect(plain).toContain(`${row(variable, value).replaceAll('`', '')} ${meaning} |\n`);
    }
  });
});

test('compose.yml and .env.example know the variables of both programs with the same defaults', () => {
  const inContainers = ['SHARED_KEYS_DIR', 'SSH_DIR', 'HOST_KEY_DIR', 'SSHD_LISTEN', 'STATUS_FILE']; // fixed there
  for (const [variable, value] of [...variablesOf('rsync-inotify'), ...variablesOf('start-sshd')]) {
    if (inContainers.includes(variable)) continue;
    const shown = { '–': '', '127.0.0.1': '0.0.0.0' }[value] ?? value; // a container's own loopback is of no use
    expect(read('compose.yml')).toContain(`${variable}: \${${variable}:-${shown}}`);
    expect(read('.env.example')).toContain(`#${variable}=${shown}\n`);
  }
});

test('both READMEs show the same commands and files, but for the comments in them', () => {
  const blocksOf = (name: string) =>
    [...read(name).matchAll(/^```(?:bash|yaml)\n([\s\S]*?)^```/gm)].map(([, block = '']) =>
      block.replace(/(^|[ \t]+)# .*/gm, '').trim(),
    );
  expect(blocksOf('README.md').length).toBeGreaterThan(10);
  expect(blocksOf('README.zh-CN.md')).toEqual(blocksOf('README.md'));
});

describe.each(['multi', 'source', 'backup'])('compose.%s.yml', (name) => {
  const text = read(`compose.${name}.yml`);
  type Services = Record<string, { extends?: { file: string; service: string } }>;
  const servicesOf = (yaml: string) => (Bun.YAML.parse(yaml) as { services: Services }).services;

  test('has its variables in .env.example, with the same defaults', () => {
    const own = text.replace(/(DEST_HOSTS|DEST_HOST|SSH_OPTS): .*/g, ''); // .env.example says in words what these are
    for (const [, variable, value] of own.matchAll(/\$\{(\w+):-([^}]*)\}/g)) {
      expect(read('.env.example')).toContain(`#${variable}=${value}\n`);
    }
    for (const [, variable] of text.matchAll(/\$\{(\w+)/g)) expect(read('.env.example')).toContain(`#${variable}=`);
  });

  test('takes from compose.yml what a service is and may do', () => {
    const settled = 'image command init read_only tmpfs security_opt cap_drop cap_add restart healthcheck'.split(' ');
    for (const service of Object.values(servicesOf(text))) {
      for (const key of settled) expect(service).not.toHaveProperty(key);
      const { file, service: base = '' } = service.extends ?? {};
      if (file) expect(Object.keys(servicesOf(read(file)))).toContain(base);
    }
  });

  test('keeps each tree and each private key in a volume of its own', () => {
    const { volumes } = Bun.YAML.parse(text) as { volumes: object };
    for (const volume of Object.keys(volumes)) expect(volume).toMatch(/^(source|backup2?)-(data|ssh)$/);
    expect(Object.keys(volumes)).toHaveLength(2);
  });
});
