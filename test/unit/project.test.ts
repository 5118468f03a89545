import { describe, expect, test } from 'bun:test';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { LANGUAGES, summary } from '../../bench/summary.ts';
import { mistakesFoundBy } from '../processes.ts';
import { binary, programCode, ROOT } from '../project.ts';

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

/** The blocks of code in a document, without comments in the languages that have such. */
const blocksOf = (name: string, language = '\\w+') =>
  [...read(name).matchAll(new RegExp(`^\`\`\`(${language})\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, kind = '', block = '']) =>
      kind === 'bash' || kind === 'yaml' ? block.replace(/(^|[ \t]+)# .*/gm, '').trim() : block,
  );

test.each(['README', 'docs/recovery'])(
  '%s shows the same commands, files and output in both languages, but for the comments in them',
  (name) => {
    expect(blocksOf(`${name}.md`).length).toBeGreaterThan(10);
    expect(blocksOf(`${name}.zh-CN.md`)).toEqual(blocksOf(`${name}.md`));
  },
);

test.each(['README', 'docs/recovery'])(
  'no command of %s names a container: only compose.yml gives them names',
  (name) => {
    for (const file of ['compose.source.yml', 'compose.backup.yml'])
      expect(read(file)).toContain('container_name: !reset null');
    const commands = blocksOf(`${name}.md`, 'bash').join('\n').split('\n');
    expect(commands.filter((line) => /docker compose exec .*start-sshd --promote/.test(line)).length).toBeGreaterThan(
      0,
    );
    expect(commands.filter((line) => /docker (exec|logs|inspect) rsync-/.test(line))).toEqual([]);
  },
);

test('docs/recovery says of all commands on which host they are run, the same in both languages', () => {
  const hostsIn = (name: string, words: RegExp) =>
    [...read('docs', name).matchAll(/^```bash\n(.*)\n/gm)].map(([, line = '']) => words.exec(line)?.[1] ?? line);
  const hosts = hostsIn('recovery.md', /^# on the (?:new )?(source|backup)$/);
  expect(new Set(hosts)).toEqual(new Set(['source', 'backup']));
  const names: Record<string, string> = { 源: 'source', 备份: 'backup' };
  const said = hostsIn('recovery.zh-CN.md', /^# 在(?:新的)?(源|备份)主机上$/);
  expect(said.map((name) => names[name] ?? name)).toEqual(hosts);
});

/** A document without its code, in which there are neither headings nor links. */
const proseOf = (name: string) => read(name).replace(/^```[\s\S]*?^```/gm, '');

/** The headings with their levels and the anchors that GitHub gives them. */
function headingsOf(name: string): { level: number; anchor: string }[] {
  const seen = new Map<string, number>();
  return [...proseOf(name).matchAll(/^(#+) (.+)$/gm)].map(([, { length: level } = '', title = '']) => {
    const slug = title
      .toLowerCase()
      .replace(/[^\p{L}\p{M}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-');
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    return { level, anchor: times > 0 ? `${slug}-${times}` : slug };
  });
}

/** Where the links and images of a document lead: a file or page, and the number of the heading there. */
function linksOf(name: string): { image: boolean; file: string; heading?: number }[] {
  const links = proseOf(name)
    .replace(/`[^`\n]*`/g, '')
    .matchAll(/(!?)\[[^\]]*\]\(([^)\s]+)\)/g);
  return [...links].map(([, mark, to = '']) => {
    const image = mark === '!';
    if (to.startsWith('https://')) return { image, file: to };
    const [path = '', anchor] = to.split('#');
    const file = path ? join(dirname(name), path) : name;
    if (anchor === undefined) return { image, file };
    return { image, file, heading: headingsOf(file).findIndex((heading) => heading.anchor === anchor) };
  });
}

const DOCUMENTS = ['README', 'SECURITY', 'docs/recovery'];

test.each([...DOCUMENTS.flatMap((name) => [`${name}.md`, `${name}.zh-CN.md`]), 'CONTRIBUTING.md'])(
  '%s links to files and headings that exist',
  (name) => {
    const links = linksOf(name).filter(({ file }) => !file.startsWith('https://'));
    expect(links.length).toBeGreaterThan(0);
    for (const { file, heading } of links) {
      expect({ file, exists: existsSync(join(ROOT, file)) }).toEqual({ file, exists: true });
      if (heading !== undefined) expect({ file, heading }).not.toEqual({ file, heading: -1 });
    }
  },
);

test.each(DOCUMENTS)('%s has the same headings, images and links in both languages', (name) => {
  const [english, chinese] = [`${name}.md`, `${name}.zh-CN.md`];
  const levelsOf = (document: string) => headingsOf(document).map(({ level }) => level);
  expect(levelsOf(chinese)).toEqual(levelsOf(english));
  const inBoth = (document: string) =>
    linksOf(document).map(({ file, ...rest }) => ({ ...rest, file: file.replace('.zh-CN.', '.') }));
  expect(inBoth(chinese)).toEqual(inBoth(english));
});

test('pictures are small, and those that have words are the same in both languages but for these', () => {
  const pictures = DOCUMENTS.flatMap((name) => linksOf(`${name}.md`)).filter(({ image }) => image);
  for (const { file } of pictures) expect(statSync(join(ROOT, file)).size).toBeLessThan(200_000);
  const shapesOf = (name: string) => read('docs', name).replace(/(<(text|title)[^>]*>)[^<]*/g, '$1');
  expect(shapesOf('how-it-works.zh-CN.svg')).toBe(shapesOf('how-it-works.svg'));
});

/** The cells of the tables below a heading, row by row, without the rows of the heads. */
function rowsBelow(name: string, heading: string): string[][] {
  const text = read(name);
  const [section = ''] = text
    .slice(text.indexOf(`\n${heading}\n`) + 1)
    .split(/^#{2,3} /m)
    .filter(Boolean);
  const rows = section.matchAll(/^\| (.*) \|$/gm);
  return [...rows]
    .map(([, row = '']) => row.split(' | '))
    .filter((cells, n, all) => !/^:?-+:?$/.test(all[n + 1]?.[0] ?? '') && !/^:?-+:?$/.test(cells[0] ?? ''));
}
const codeIn = (text = '') => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);

describe.each([
  {
    ...{
      readme: 'README.md',
      recipes: 'Recipes',
      troubles: 'Troubleshooting',
      alerts: 'Alerts',
      docker: 'With Docker',
    },
    language: 'en' as const,
  },
  {
    ...{ readme: 'README.zh-CN.md', recipes: '配方', troubles: '故障排查', alerts: '告警', docker: '使用 Docker' },
    language: 'zh-CN' as const,
  },
])('the tables of $readme', ({ readme, recipes, troubles, alerts, docker, language }) => {
  const code = programCode();

  test('name recipes that the program and the compose file take', () => {
    const settings = rowsBelow(readme, `## ${recipes}`).flatMap(([, line]) => codeIn(line));
    expect(settings.length).toBeGreaterThan(5);
    for (const setting of settings) {
      const [, name = '', value = ''] = /^(\w+)=(.*)$/.exec(setting) ?? [];
      expect(read('compose.yml')).toContain(`${name}: \${${name}:-`);
      if (name === 'TZ') continue; // is for the C library
      expect(variablesOf('rsync-inotify').map(([variable]) => variable)).toContain(name);
      expect(mistakesFoundBy(binary('rsync-inotify'), { SOURCE_DIR: tmpdir(), [name]: value })).toBe('');
    }
  });

  test('name volumes and alerts that there are, all of them', () => {
    const volumes = rowsBelow(readme, `### ${docker}`).flatMap(([cell]) => codeIn(cell));
    expect(volumes.sort()).toEqual(
      Object.keys((Bun.YAML.parse(read('compose.yml')) as { volumes: object }).volumes).sort(),
    );
    const rules = read('monitoring', 'alerts.yml') + read('monitoring', 'backup-alerts.yml');
    const known = [...rules.matchAll(/alert: (\w+)/g)].map(([, name = '']) => name);
    expect(
      rowsBelow(readme, `### ${alerts}`)
        .flatMap(([cell]) => codeIn(cell))
        .sort(),
    ).toEqual(known.sort());
  });

  test('quote what the programs say, and rsync’s exit codes that they explain', () => {
    const symptoms = rowsBelow(readme, `## ${troubles}`).map(([cell]) => cell ?? '');
    const said = symptoms.flatMap(codeIn).filter((text) => /\p{Script=Han}/u.test(text));
    expect(said.length).toBeGreaterThan(15);
    for (const text of said) {
      const parts = text.split(/…|\b(?:NAME|ADDRESS:PORT|N|255)\b|\/\S+/).map((part) => part.trim());
      expect([text, parts.filter((part) => !code.includes(part))]).toEqual([text, []]);
    }
    const codes = symptoms.filter((cell) => /^\d+$/.test(cell));
    expect(codes).toContain('255');
    for (const status of codes) expect(code).toMatch(new RegExp(`^  ${status}: t\``, 'm'));
  });

  test('have the numbers of the bench as it wrote them', () => {
    const name = `summary${language === 'en' ? '' : `.${language}`}.md`;
    const { machine, sections } = JSON.parse(read('bench', 'results', 'results.json'));
    expect(LANGUAGES).toContain(language);
    expect(read('bench', 'results', name)).toBe(summary(machine, sections, language));
    expect(read(readme)).toContain(`\n${read('bench', 'results', name)}`);
  });

  test('stand beside files for Compose that name its services', () => {
    for (const block of blocksOf(readme, 'yaml')) {
      const { services } = Bun.YAML.parse(block) as { services: object };
      for (const service of Object.keys(services)) expect(['rsync-source', 'rsync-backup']).toContain(service);
    }
  });
});

test('CONTRIBUTING.md names files, scripts and classes that there are', () => {
  const text = read('CONTRIBUTING.md');
  for (const [, name = ''] of text.matchAll(/(?:npm|bun) run (?!--)(\w+)/g))
    expect(manifest.scripts).toHaveProperty(name);
  for (const [path] of text.matchAll(/(?:test|scripts|src|bench)\/[\w./-]+\w/g)) {
    expect({ path, exists: existsSync(join(ROOT, path)) }).toEqual({ path, exists: true });
  }
  const path = text.slice(text.indexOf('## From an event'), text.indexOf('## The model test'));
  const code = programCode();
  const isThere = (form: string) => new RegExp(form, 'm').test(code);
  for (const name of codeIn(path).filter((word) => /^[A-Z][a-z]+[A-Za-z]*$/.test(word)))
    expect({ name, exists: isThere(`^(export )?(class|interface|type) ${name}\\b`) }).toEqual({ name, exists: true });
  for (const name of codeIn(path).filter((word) => /^[a-z]+[A-Z]\w+$/.test(word)))
    expect({ name, exists: isThere(`function ${name}\\(|const ${name} = `) }).toEqual({ name, exists: true });
});

test.each(['compose.yml', 'compose.monitoring.yml'])(
  '%s bounds the log of each container, for Docker does not',
  (file) => {
    type Service = { image?: string; logging?: { driver: string; options: Record<string, string> } };
    const { services } = Bun.YAML.parse(read(file)) as { services: Record<string, Service> };
    const own = Object.values(services).filter(({ image }) => image);
    expect(own).not.toEqual([]);
    for (const { logging } of own)
      expect(logging).toEqual({ driver: 'json-file', options: { 'max-size': '10m', 'max-file': '5' } });
  },
);

describe.each(['multi', 'source', 'backup', 'reversed-source', 'reversed-backup'])('compose.%s.yml', (name) => {
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
    const settled =
      'image command init read_only tmpfs security_opt cap_drop cap_add restart healthcheck logging'.split(' ');
    for (const service of Object.values(servicesOf(text))) {
      for (const key of settled) expect(service).not.toHaveProperty(key);
      const { file, service: base = '' } = service.extends ?? {};
      if (file) expect(Object.keys(servicesOf(read(file)))).toContain(base);
    }
  });

  test('keeps each tree and each private key in a volume of its own', () => {
    const { volumes } = Bun.YAML.parse(text) as { volumes: object };
    for (const volume of Object.keys(volumes))
      expect(volume).toMatch(/^(source|backup2?|reversed-(source|backup))-(data|ssh)$/);
    expect(Object.keys(volumes)).toHaveLength(2);
  });
});
