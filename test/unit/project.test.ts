import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { binary, ROOT } from '../helpers.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const help = (name: string) => Bun.spawnSync([binary(name), '--help']).stdout.toString();
const manifest = JSON.parse(read('package.json'));

/** Name and default of each variable in a help text. */
function variablesOf(name: string): [string, string][] {
  const rows = help(name).matchAll(/^ {2}([A-Z_]+) +(\S(?:.*?\S)?) {2,}\S/gm);
  return [...rows].map(([, variable = '', value = '']) => [variable, value]);
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
  const logOf = (name: string) => /^const colour[\s\S]*?(?=\nfunction writeLine)/m.exec(read('scripts', name))?.[0];
  const escapeOf = (name: string) => /^\/\*\* Makes text from outside[\s\S]*?^}/m.exec(read('scripts', name))?.[0];
  expect(escapeOf('start-sshd.ts')).toBe(escapeOf('rsync-inotify.ts') ?? 'missing');
  expect(logOf('start-sshd.ts')?.split('\n').slice(-5)).toEqual(logOf('rsync-inotify.ts')?.split('\n').slice(-5));
  for (const name of ['rsync-inotify.ts', 'start-sshd.ts']) expect(read('scripts', name)).not.toMatch(/from '\.\.?\//);
});

describe.each(['README.md', 'README.zh-CN.md'])('%s', (readme) => {
  test.each(['rsync-inotify', 'start-sshd'])('has the variables of %s with their defaults', (name) => {
    const variables = variablesOf(name);
    expect(variables.length).toBeGreaterThan(7);
    for (const [variable, value] of variables) {
      const shown = value === '–' ? '–' : `\`${value}\``;
      expect(read(readme)).toContain(`| \`${variable}\` | ${shown} |`);
    }
  });
});

test('compose.yml and .env.example know the variables of both programs with the same defaults', () => {
  const inContainers = ['SHARED_KEYS_DIR', 'SSH_DIR', 'HOST_KEY_DIR', 'SSHD_LISTEN']; // fixed there by the volumes
  for (const [variable, value] of [...variablesOf('rsync-inotify'), ...variablesOf('start-sshd')]) {
    if (inContainers.includes(variable)) continue;
    const shown = value === '–' ? '' : value;
    expect(read('compose.yml')).toContain(`${variable}: \${${variable}:-${shown}}`);
    expect(read('.env.example')).toContain(`#${variable}=${shown}\n`);
  }
});
