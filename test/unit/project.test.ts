import { describe, expect, test } from 'bun:test';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PAGES_WITH_RESULTS, withResults } from '../../bench/summary.ts';
import { below, fileOf, headingsOf, LANGUAGES, PAGES, pagesIn, read } from '../pages.ts';
import { mistakesFoundBy } from '../processes.ts';
import { binary, programCode, ROOT } from '../project.ts';

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
  expect(read('compose.base.yml')).toContain(`\${BUN_IMAGE:-oven/bun:${bun}}`);
  for (const name of ['rsync-inotify', 'start-sshd']) expect(help(name)).toStartWith(`${name} ${manifest.version}`);
});

test('bun.lockb is the only lock file', () => {
  expect(existsSync(join(ROOT, 'bun.lockb'))).toBe(true);
  for (const other of ['bun.lock', 'package-lock.json']) expect(existsSync(join(ROOT, other))).toBe(false);
});

describe.each(['rsync-inotify', 'start-sshd'])('the variables of %s', (name) => {
  const variables = variablesOf(name);
  const row = (variable: string, value: string) => `| \`${variable}\` | ${value === '–' ? '–' : `\`${value}\``} |`;

  test('are on a page with their defaults', () => {
    const table = below(`\`${name}\``);
    expect(variables.length).toBeGreaterThan(7);
    for (const [variable, value] of variables) expect(table).toContain(row(variable, value));
  });

  test('are on the Chinese page just as --help shows them', () => {
    const plain = below(`\`${name}\``, 'zh-CN').replaceAll('`', '');
    for (const [variable, value, meaning] of variables) {
      expect(plain).toContain(`${row(variable, value).replaceAll('`', '')} ${meaning} |\n`);
    }
  });
});

test.each(LANGUAGES)('the README in %s has the defaults of the variables that most people set', (language) => {
  const title = { en: 'Variables', 'zh-CN': '变量' }[language];
  const [, section = ''] =
    new RegExp(`^## ${title}\n([\\s\\S]*?)^## `, 'm').exec(read(fileOf('README', language))) ?? [];
  const rows = [...section.matchAll(/^\| `(\w+)` \| (\S.*?) \|/gm)].map(
    ([, name, value = '']) => `${name}=${value.replaceAll('`', '')}`,
  );
  expect(rows).toHaveLength(10);
  const known = [...variablesOf('rsync-inotify'), ...variablesOf('start-sshd')].map(
    ([name, value]) => `${name}=${value}`,
  );
  expect(rows.filter((row) => !known.includes(row))).toEqual([]);
});

test('compose.base.yml and .env.example know the variables of both programs with the same defaults', () => {
  const inContainers = ['SHARED_KEYS_DIR', 'SSH_DIR', 'HOST_KEY_DIR', 'SSHD_LISTEN', 'STATUS_FILE']; // fixed there
  for (const [variable, value] of [...variablesOf('rsync-inotify'), ...variablesOf('start-sshd')]) {
    if (inContainers.includes(variable)) continue;
    const shown = { '–': '', '127.0.0.1': '0.0.0.0' }[value] ?? value; // a container's own loopback is of no use
    expect(read('compose.base.yml')).toContain(`${variable}: \${${variable}:-${shown}}`);
    expect(read('.env.example')).toContain(`#${variable}=${shown}\n`);
  }
});

/** The blocks of code in a document, without comments in the languages that have such. */
const blocksOf = (name: string, language = '\\w+') =>
  [...read(name).matchAll(new RegExp(`^\`\`\`(${language})\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, kind = '', block = '']) =>
      kind === 'bash' || kind === 'yaml' ? block.replace(/(^|[ \t]+)# .*/gm, '').trim() : block,
  );

test('each page is there in both languages', () => {
  expect(pagesIn('zh-CN')).toEqual(pagesIn('en'));
});

test.each(PAGES)(
  '%s shows the same commands, files and output in both languages, but for the comments in them',
  (page) => {
    expect(blocksOf(fileOf(page, 'zh-CN'))).toEqual(blocksOf(fileOf(page, 'en')));
  },
);

test('no command of a page names a container: only compose.yml gives them names', () => {
  for (const file of ['compose.base.yml', 'compose.source.yml', 'compose.backup.yml'])
    expect(read(file)).not.toContain('container_name');
  const blocks = PAGES.flatMap((page) => blocksOf(fileOf(page, 'en'), 'bash'));
  expect(blocks.length).toBeGreaterThan(50);
  const commands = blocks.join('\n').split('\n');
  const promotions = commands.filter((line) => /docker compose exec .*start-sshd --promote/.test(line));
  expect(promotions.length).toBeGreaterThan(1);
  expect(commands.filter((line) => /docker (exec|logs|inspect) rsync-/.test(line))).toEqual([]);
});

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

test.each([...PAGES.flatMap((page) => LANGUAGES.map((language) => fileOf(page, language))), 'CONTRIBUTING.md'])(
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

test.each(PAGES)('%s has the same headings, tables, images and links in both languages', (page) => {
  const [english, chinese] = [fileOf(page, 'en'), fileOf(page, 'zh-CN')];
  const levelsOf = (document: string) => headingsOf(document).map(({ level }) => level);
  expect(levelsOf(chinese)).toEqual(levelsOf(english));
  expect(tablesOf(chinese)).toEqual(tablesOf(english));
  const inBoth = (document: string) =>
    linksOf(document).map(({ file, ...rest }) => ({ ...rest, file: file.replace('.zh-CN.', '.') }));
  expect(inBoth(chinese)).toEqual(inBoth(english));
});

/** Of each row of a table, how many cells it has, and what it names first, where that is code and nothing else. */
const tablesOf = (name: string) =>
  [...proseOf(name).matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) => {
    const cells = row.split(/ \| /);
    const isCode = /^(`[^`\p{Script=Han}]+`[,、\s]*)+$/u.test(cells[0] ?? '');
    return { cells: cells.length, of: isCode ? codeIn(cells[0]) : [] };
  });
const codeIn = (text = '') => [...text.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code);

test('pictures are small, and those that have words are the same in both languages but for these', () => {
  const pictures = PAGES.flatMap((page) => linksOf(fileOf(page, 'en'))).filter(({ image }) => image);
  for (const { file } of pictures) expect(statSync(join(ROOT, file)).size).toBeLessThan(200_000);
  const shapesOf = (name: string) => read('docs', name).replace(/(<(text|title)[^>]*>)[^<]*/g, '$1');
  expect(shapesOf('how-it-works.zh-CN.svg')).toBe(shapesOf('how-it-works.svg'));
});

/** The cells of the tables in a text, row by row, without the rows of the heads. */
function rowsOf(text: string): string[][] {
  const rows = [...text.matchAll(/^\| (.*) \|$/gm)].map(([, row = '']) => row.split(' | '));
  const isRule = (cells?: string[]) => /^:?-+:?$/.test(cells?.[0] ?? '');
  return rows.filter((cells, n) => !isRule(cells) && !isRule(rows[n + 1]));
}

/** Finds what a quoted message has, besides what stands for something else in it, that the code has not. */
const missingIn = (code: string, text: string) =>
  text
    .replace('Cannot mirror …', 'Cannot …') // two texts, one of which is put into the other
    .split(/…|\b(?:NAME|ADDRESS:PORT|N|255)\b|\b[A-Z]+_[A-Z]+=(?=…)|\/\S+|"[^"]*"/)
    .filter((part) => !code.includes(part.trim()));

test('the pages in English quote what the programs say, in both languages', () => {
  const quotes = PAGES.flatMap((page) => [
    ...proseOf(fileOf(page, 'en')).matchAll(/`([^`\n]+)` \(`([^`\n]*\p{Script=Han}[^`\n]*)`\)/gu),
  ]);
  expect(quotes.length).toBeGreaterThan(50);
  const [code, english] = [programCode(), read('src/service/english.ts')];
  for (const [quote, said = '', inChinese = ''] of quotes)
    expect([quote, missingIn(english, said), missingIn(code, inChinese)]).toEqual([quote, [], []]);
});

const TITLES = {
  en: { recipes: 'Recipes', alerts: 'Alerts', docker: 'With Docker' },
  'zh-CN': { recipes: '配方', alerts: '告警', docker: '使用 Docker' },
};

describe.each(LANGUAGES)('the tables in %s', (language) => {
  const { recipes, alerts, docker } = TITLES[language];
  const code = programCode();

  test('name recipes that the program and the compose file take', () => {
    const settings = rowsOf(below(recipes, language)).flatMap(([, line]) => codeIn(line));
    expect(settings.length).toBeGreaterThan(5);
    for (const setting of settings) {
      const [, name = '', value = ''] = /^(\w+)=(.*)$/.exec(setting) ?? [];
      expect(read('compose.base.yml')).toContain(`${name}: \${${name}:-`);
      if (name === 'TZ') continue; // is for the C library
      expect(variablesOf('rsync-inotify').map(([variable]) => variable)).toContain(name);
      expect(mistakesFoundBy(binary('rsync-inotify'), { SOURCE_DIR: tmpdir(), [name]: value })).toBe('');
    }
  });

  test('name volumes and alerts that there are, all of them', () => {
    const volumes = rowsOf(below(docker, language)).flatMap(([cell]) => codeIn(cell));
    expect(volumes.sort()).toEqual(
      Object.keys((Bun.YAML.parse(read('compose.yml')) as { volumes: object }).volumes).sort(),
    );
    const rules = read('monitoring', 'alerts.yml') + read('monitoring', 'backup-alerts.yml');
    const known = [...rules.matchAll(/alert: (\w+)/g)].map(([, name = '']) => name);
    expect(
      rowsOf(below(alerts, language))
        .flatMap(([cell]) => codeIn(cell))
        .sort(),
    ).toEqual(known.sort());
  });

  test('quote what the programs say, and rsync’s exit codes that they explain', () => {
    const symptoms = rowsOf(read(fileOf('docs/troubleshooting', language))).map(([cell]) => cell ?? '');
    const said = symptoms.flatMap(codeIn).filter((text) => /\p{Script=Han}/u.test(text));
    expect(said.length).toBeGreaterThan(15);
    for (const text of said) expect([text, missingIn(code, text)]).toEqual([text, []]);
    const codes = symptoms.filter((cell) => /^\d+$/.test(cell));
    expect(codes).toContain('255');
    for (const status of codes) expect(code).toMatch(new RegExp(`^  ${status}: t\``, 'm'));
  });
});

test('pages have the numbers of the bench as it wrote them', () => {
  const { machine, sections } = JSON.parse(read('bench', 'results', 'results.json'));
  for (const page of PAGES_WITH_RESULTS)
    for (const language of LANGUAGES) {
      const text = read(fileOf(page, language));
      expect(withResults(text, machine, sections, language)).toBe(text);
      expect(text).toMatch(/<!-- bench:(all|short) -->\n\n\| +\| rsync-inotify \|/);
    }
});

test.each(PAGES)('%s has files for Compose that name its services', (page) => {
  for (const block of blocksOf(fileOf(page, 'en'), 'yaml')) {
    const { services = {} } = Bun.YAML.parse(block) as { services?: object }; // or a part of a manifest of Kubernetes
    for (const service of Object.keys(services)) expect(['rsync-source', 'rsync-backup']).toContain(service);
  }
});

test.each(LANGUAGES)(
  'the page on what surprised us names each script of findings/ once, with the versions (%s)',
  (language) => {
    const page = read(fileOf('docs/findings', language));
    const scripts = readdirSync(join(ROOT, 'findings')).map((name) => name.replace(/\.sh$/, ''));
    const named = [...page.matchAll(/\| `([\w-]+)` \|$/gm)].map(([, name]) => name);
    expect(named.sort()).toEqual(scripts.sort());
    for (const [, version = ''] of page.matchAll(/(?:rsync|inotify-tools) (\d[\w.+-]*\w)/g))
      expect(scripts.some((name) => read(`findings/${name}.sh`).includes(version))).toBe(true);
  },
);

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

test.each(['compose.base.yml', 'compose.monitoring-base.yml'])(
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

describe.each(['multi', 'sources', 'source', 'backup', 'reversed-source', 'reversed-backup'])(
  'compose.%s.yml',
  (name) => {
    const text = read(`compose.${name}.yml`);
    type Services = Record<string, { extends?: { file: string; service: string } }>;
    const servicesOf = (yaml: string) => (Bun.YAML.parse(yaml) as { services: Services }).services;

    test('has its variables in .env.example, with the same defaults', () => {
      const own = text.replace(/(DEST_HOSTS|DEST_HOST|SSH_OPTS): .*|\$\{SOURCE_NAME:-web1\}/g, ''); // .env.example says in words what these are
      for (const [, variable, value] of own.matchAll(/\$\{(\w+):-([^}]*)\}/g)) {
        expect(read('.env.example')).toContain(`#${variable}=${value}\n`);
      }
      for (const [, variable] of text.matchAll(/\$\{(\w+)/g)) expect(read('.env.example')).toContain(`#${variable}=`);
    });

    test('takes from compose.base.yml what a service is and may do', () => {
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
        expect(volume).toMatch(/^(source2?|backup2?|reversed-(source|backup))-(data|ssh)$/);
      expect(Object.keys(volumes)).toHaveLength(2);
    });
  },
);
