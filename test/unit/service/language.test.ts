import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync, Visitor } from 'oxc-parser';
import { saysOption, saysPromoted } from '../../../src/mirror/faults.ts';
import { english } from '../../../src/service/english.ts';
import { fileOf, PAGES, read } from '../../pages.ts';
import { cleanEnv } from '../../processes.ts';
import { binary, bundle, modules, ROOT } from '../../project.ts';

/** Chinese characters, and the punctuation that goes with them. */
const CHINESE = /[\p{Script=Han}\u3001\u3002\u300a-\u300d\uff01-\uff5e“”‘’]/u;

/** Chinese that is no text for people: it is compared with what other releases write, whatever the language. */
const NO_TEXTS = [
  "'同步尚未结束'", // the answer by which a restore of any release knows that a sync goes on
  '/拒绝执行：备份端已接管|refused: the backup has taken over/', // what a backup says in its language
  '/ rsync 选项 | rsync option /',
  "'start-sshd: 拒绝执行：备份端已接管\\n'", // what a source knows these by that knows Chinese alone
  "'start-sshd: 拒绝执行：不允许该 rsync 选项 \\n'",
  "'start-sshd: 拒绝执行：不允许该 rsync 选项 '", // left out by others
];

/** What the modules say to people in Chinese: texts marked with `t`, by where they are, and strings that are not marked. */
function readModules() {
  const texts = new Map<string, string>();
  const unmarked: string[] = [];
  for (const path of modules().filter((name) => name !== 'src/service/english.ts')) {
    const source = readFileSync(join(ROOT, path), 'utf8');
    const { program, errors } = parseSync(path, source);
    expect(errors).toEqual([]);
    const placeOf = ({ start }: { start: number }) => `${path}:${source.slice(0, start).split('\n').length}`;
    const marked = new Set<unknown>();
    const keep = (node: { start: number }, text: string) => {
      if (CHINESE.test(text) && !NO_TEXTS.includes(text)) unmarked.push(`${placeOf(node)} ${text}`);
    };
    const visitor = new Visitor({
      TaggedTemplateExpression: (node) => {
        if (node.tag.type !== 'Identifier' || node.tag.name !== 't') return;
        for (const quasi of node.quasi.quasis) marked.add(quasi);
        const parts = node.quasi.quasis.map(({ value }) => value.cooked ?? '');
        const text = parts.reduce((before, part, n) => `${before}{${n - 1}}${part}`);
        if (!texts.has(text)) texts.set(text, placeOf(node));
      },
      TemplateElement: (node) => {
        if (!marked.has(node)) keep(node, node.value.raw);
      },
      Literal: (node) => keep(node, node.raw ?? ''),
    });
    visitor.visit(program);
  }
  return { texts, unmarked };
}

const { texts, unmarked } = readModules();
const pairs = Object.entries(english);
const valuesOf = (text: string) => (text.match(/\{\d+\}/g) ?? []).sort();

/** Lists the pairs for which something does not hold. */
const pairsBut = (holds: (chinese: string, translated: string) => boolean) =>
  pairs.filter(([chinese, translated]) => !holds(chinese, translated));

describe('the texts for people', () => {
  test('are all marked as such, but for those that are compared', () => {
    expect(unmarked).toEqual([]);
  });

  test('are all in the catalogue, which has no others', () => {
    const untranslated = [...texts].filter(([text]) => !Object.hasOwn(english, text));
    expect(untranslated.map(([text, place]) => `${place} ${text}`)).toEqual([]);
    expect(pairs.map(([chinese]) => chinese).filter((chinese) => !texts.has(chinese))).toEqual([]);
    expect(texts.size).toBeGreaterThan(700);
  });

  test('have the same values in both languages', () => {
    expect(pairsBut((chinese, translated) => Bun.deepEquals(valuesOf(chinese), valuesOf(translated)))).toEqual([]);
  });

  test('are English without a Chinese character', () => {
    expect(pairsBut((_, translated) => translated !== '' && !CHINESE.test(translated))).toEqual([]);
  });

  test('begin and end in English so that what is put together of them reads well', () => {
    const begins: [RegExp, RegExp][] = [
      [/^[，；：。、]/, /^[,;:.] /],
      [/^（/, /^ \(/],
    ];
    const ends: [RegExp, RegExp][] = [
      [/[，；、]$/, /[,;] $/],
      [/[：:]$/, /: ?$/],
      [/✓$/, /✓$/],
      [/\.\.\.$/, /\.\.\.$/],
      [/）$/, /\)$/],
      [/\n$/, /\n$/],
    ];
    const rules = [...begins, ...ends];
    expect(
      pairsBut((chinese, translated) => rules.every(([zh, en]) => !zh.test(chinese) || en.test(translated))),
    ).toEqual([]);
    expect(
      pairsBut((chinese, translated) => !/^[\s,;:.]/.test(translated) || /^[\s，；：。、（]/.test(chinese)),
    ).toEqual([]);
    expect(pairsBut((chinese, translated) => !/\s$/.test(translated) || /[\s，；：。、]$/.test(chinese))).toEqual([]);
    expect(
      pairsBut(
        (_, translated) => !/[^\n ] {2}| [,;](\s|$)|[,;][^\s'"]/.test(translated) || translated.includes('\n\n'),
      ),
    ).toEqual([]);
  });
});

test('a value in a text is shown as it is, whatever it looks like', () => {
  const say =
    "import { t } from './src/service/language.ts'; const it = '{0} {1} $&'; console.log(t`监控目录: " + '$' + '{it}`)';
  const options = { cwd: ROOT, env: { ...cleanEnv(), LOG_LANG: 'en' }, encoding: 'utf8' } as const;
  expect(spawnSync(process.execPath, ['-e', say], options).stdout).toBe('Watched directory: {0} {1} $&\n');
});

test.each([
  ['a bundle', [process.execPath, 'run', '--no-env-file', bundle('start-sshd')]],
  ['its source', [process.execPath, 'run', '--no-env-file', join(ROOT, 'scripts', 'start-sshd.ts')]],
])('a program speaks English from %s, too', (_, [command = '', ...args]) => {
  const options = { env: { ...cleanEnv(), LOG_LANG: 'en' }, encoding: 'utf8' } as const;
  const { stdout, status } = spawnSync(command, [...args, '--help'], options);
  expect([stdout, status]).toEqual([ask('start-sshd', '--help', { LOG_LANG: 'en' }).stdout, 0]);
});

test('what a source acts upon is known to it in both languages', () => {
  const refusals = pairs.filter(([chinese]) => chinese.includes(' rsync 选项 ')).flat();
  expect(refusals.length).toBeGreaterThanOrEqual(6);
  expect(refusals.filter((refusal) => !saysOption(refusal))).toEqual([]);
  const promoted = pairs.filter(([chinese]) =>
    chinese.startsWith('备份端已接管 (start-sshd --promote)，不接收镜像，直到在备份端'),
  );
  expect(
    promoted.map(([chinese, translated]) => [`拒绝执行：${chinese}`, `refused: ${translated}`].map(saysPromoted)),
  ).toEqual([[true, true]]);
  expect(pairs.flat().filter(saysPromoted)).toEqual([]);
});

test('pages quote lines of the log as they are in both languages', () => {
  const pages = PAGES.map((page) => read(fileOf(page, 'en'))).join('\n');
  const quoted = [...pages.matchAll(/`([^`|]+)` \(`([^`]*\p{Script=Han}[^`]*)`\)/gu)];
  const partsOf = (quote: string) =>
    quote.split(/…|ADDRESS:PORT|\/etc\/\S+|DEST_DIR=|\bNAME\b|\bN\b|255|"/).map((part) => part.trim());
  const isIn = (text: string, quote: string) => partsOf(quote).every((part) => text.includes(part));
  const isRight = ([, translated = '', chinese = '']: string[]) =>
    pairs.some(([zh, en]) => isIn(zh, chinese) && isIn(en, translated));
  const composed = ['无法同步 …', 'DEST_DIR=… 已不是启动时的目录', '目标目录 … 无法写入', '源目录 … 不见了'];
  expect(quoted.length).toBeGreaterThan(50);
  expect(
    quoted.filter((quote) => !composed.includes(quote[2] ?? '') && !isRight(quote)).map(([quote]) => quote),
  ).toEqual([]);
});

/** What a program answers to a flag, and its exit status. */
function ask(name: string, flag: string, env: Record<string, string>) {
  const options = { env: { ...cleanEnv(), NO_COLOR: '1', ...env }, encoding: 'utf8' } as const;
  const { stdout, status } = spawnSync(binary(name), [flag], options);
  return { stdout, status };
}

describe.each(['rsync-inotify', 'start-sshd'])('%s', (name) => {
  test('explains itself in English with LOG_LANG=en, with the same variables', () => {
    const variablesIn = (text: string) => text.match(/^ {2}[A-Z_]{5,}/gm);
    const { stdout, status } = ask(name, '--help', { LOG_LANG: 'en' });
    expect(status).toBe(0);
    expect(stdout).not.toMatch(CHINESE);
    expect(stdout).toContain('Usage: ');
    expect(variablesIn(stdout)).toEqual(variablesIn(ask(name, '--help', {}).stdout));
    expect(ask(name, '--help', { LOG_LANG: 'zh' })).toEqual(ask(name, '--help', {}));
  });

  test('names mistakes and refusals in English', () => {
    const wrong = ask(name, '--check', { LOG_LANG: 'en', LOG_FORMAT: 'xml', SOURCE_DIR: '/tmp' });
    expect(wrong.stdout).toEndWith(' Configuration error: LOG_FORMAT="xml": should be text or json\n');
    expect(wrong.status).toBe(2);
    const unknown = ask(name, '--nope', { LOG_LANG: 'en' });
    expect(unknown.stdout).toEndWith(` Usage error: Unknown option '--nope'. See ${name} --help\n`);
    expect(unknown.status).toBe(2);
    const absent = ask(name, '--healthcheck', { LOG_LANG: 'en', STATUS_FILE: '/no/such' });
    expect(absent.stdout).toStartWith('unhealthy: Cannot read the status file /no/such: ENOENT');
    expect(absent.stdout).not.toMatch(CHINESE);
    expect(absent.status).toBe(1);
  });

  test.each(['EN', 'english', 'zh_CN'])('refuses LOG_LANG=%s in words for everybody', (LOG_LANG) => {
    const { stdout, status } = ask(name, '--check', { LOG_LANG, SOURCE_DIR: '/tmp' });
    expect(stdout).toEndWith(` 配置错误: LOG_LANG="${LOG_LANG}"：应为 zh 或 en (must be zh or en)\n`);
    expect(status).toBe(2);
  });
});
