import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { lchownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { quote } from 'shlex';
import { type FilterRules, readRules } from '../../../src/mirror/filter-rules.ts';
import { planFor } from '../../../src/mirror/options.ts';
import { parseOptions } from '../../../src/mirror/rsync-options.ts';
import { LIST_OPTIONS } from '../../../src/mirror/scopes.ts';
import { Random } from '../../model.ts';

const bytes = (path: string) => Buffer.from(path, 'latin1');
const NAMES = [
  'a',
  'b',
  'ab',
  'a.b',
  'b.a',
  'A',
  '[a]',
  '*',
  '\\a',
  'a b',
  '-a',
  '#a',
  '!',
  ']',
  '\xc3\xa9',
  '\xff',
  '^',
  'a\nb',
];
const PIECES = [
  ...NAMES,
  '*',
  '**',
  '***',
  '?',
  '/',
  '/',
  '/',
  '[a]',
  '[!a]',
  '[^b]',
  '[a-b]',
  '[]a]',
  '[[:upper:]]',
  '[[:punct:]]',
];
const ODD_PIECES = [
  '[[:nothing:]]',
  '[',
  '[a',
  '\\',
  '\\*',
  '\\[',
  '[\\]]',
  '[b-a]',
  '[[:alpha:]_-]',
  '[a\\-b]',
  '[é]',
  '//',
  '[![:space:]]',
  '[^-b]',
];

/** What a run of rsync would transfer and delete, by its own words. */
function askRsync(words: readonly string[], source: string, target: string) {
  const args = ['-rn', '--delete', '--out-format=%o %n', ...words, `${source}/`, `${target}/`];
  const { stdout, stderr, status } = spawnSync('rsync', args, { encoding: 'latin1' });
  const unescaped = (name: string) =>
    name.replace(/\\#(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  const seen = { send: new Set<string>(), 'del.': new Set<string>() };
  for (const line of stdout.split('\n')) {
    const [, what, name = ''] = /^(send|del\.) (.*)$/s.exec(line) ?? [];
    if (what) seen[what as keyof typeof seen].add(unescaped(name).replace(/\/$/, ''));
  }
  return { status, stderr, ...seen };
}

describe('rules mean to us what they mean to rsync', () => {
  let directory = '';
  const paths: { path: string; isDirectory: boolean }[] = [];
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'filter-rules-'));
    for (const root of ['full', 'bare', 'empty']) mkdirSync(join(directory, root));
    const grow = (below: string, depth: number) => {
      for (const name of NAMES) {
        const path = below + name;
        const isDirectory = depth > 0 && 'ab[a]\xff'.includes(name);
        paths.push({ path, isDirectory });
        for (const root of ['full', 'bare']) {
          const full = bytes(`${directory}/${root}/${path}`);
          if (isDirectory) mkdirSync(full);
          else if (root === 'full') writeFileSync(full, '');
        }
        if (isDirectory) grow(`${path}/`, depth - 1);
      }
    };
    grow('', 2);
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  /** Whether a path is out of sight, itself or by something above it. */
  const isOut = (rules: FilterRules, path: string, isDirectory: boolean) => {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1))
      if (rules.isHidden(path.slice(0, end), true)) return true;
    return rules.isHidden(path, isDirectory);
  };

  function compare(words: readonly string[]): boolean {
    const rules = readRules(parseOptions(words));
    if (!rules) return false;
    const written = [...rules.words, ...words.filter((word) => word === '--delete-excluded')];
    compareBy(written, rules, words);
    if (words.includes('--filter=!')) compareBy(words, rules, words); // what that takes back is not written
    return true;
  }

  function compareBy(all: readonly string[], rules: FilterRules, words: readonly string[]): void {
    const sent = askRsync(all, join(directory, 'full'), join(directory, 'empty'));
    if (sent.status !== 0) throw new Error(`rsync refuses ${JSON.stringify(words)}: ${sent.stderr}`);
    const expected = paths.filter(({ path, isDirectory }) => !isOut(rules, path, isDirectory)).map(({ path }) => path);
    expect({ words, seen: [...sent.send].filter((it) => it !== '.').sort() }).toEqual({ words, seen: expected.sort() });
    const { 'del.': deleted } = askRsync(all, join(directory, 'bare'), join(directory, 'full'));
    const isDeletable = (path: string) =>
      !path.includes('/') || !isOut(rules, path.slice(0, path.lastIndexOf('/')), true);
    const gone = paths
      .filter(({ path, isDirectory }) => !isDirectory && isDeletable(path) && !rules.isProtected(path, false))
      .map(({ path }) => path);
    const found = [...deleted]
      .filter((path) => paths.some((it) => it.path === path && !it.isDirectory))
      .filter(isDeletable);
    expect({ words, gone: found.sort() }).toEqual({ words, gone: gone.sort() });
  }

  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  test(`random rules, seed ${seed}`, () => {
    const random = new Random(seed);
    const pattern = () => {
      const pieces = random.chance(0.3) ? [...PIECES, ...ODD_PIECES] : PIECES;
      const text = Array.from({ length: 1 + random.below(4) }, () => random.pick(pieces)).join('');
      const ends = random.chance(0.2) ? '/' : '';
      return Buffer.from((random.chance(0.25) ? '/' : '') + text + ends, 'latin1').toString();
    };
    const rule = () => {
      const text = pattern();
      const kind = random.below(8);
      if (kind < 3) return `--exclude=${text}`;
      if (kind < 5) return `--include=${text}`;
      const name = random.pick([
        '-',
        '+',
        'H',
        'S',
        'P',
        'R',
        '-!',
        '+!',
        '-s',
        '-r',
        '+s',
        '-rs',
        '-p',
        '-,s',
        'exclude',
        'hide,!',
        'protect',
        'risk',
        'include,r',
      ]);
      return random.chance(0.03) ? '--filter=!' : `--filter=${name}${random.pick([' ', '_'])}${text}`;
    };
    let understood = 0;
    const rounds = Number(process.env.ROUNDS ?? 60);
    for (let n = 0; n < rounds; n++) {
      const words = Array.from({ length: 1 + random.below(5) }, rule);
      if (random.chance(0.15)) words.push('--delete-excluded');
      understood += Number(compare(words));
    }
    expect(understood).toBeGreaterThan(rounds / 2);
  }, 120_000);
});

const rulesOf = (...words: string[]) => readRules(parseOptions(words)) as FilterRules;

test('what lies in a directory that is not seen is nobody’s business', () => {
  const rules = rulesOf('--exclude=cache/', '--exclude=*.tmp', '--filter=H hidden');
  const ways: [string, boolean | undefined, ReturnType<FilterRules['wayTo']>][] = [
    ['a', false, 'itself'],
    ['cache', true, 'gone'], // there may have been a file
    ['cache', false, 'itself'],
    ['cache', undefined, 'itself'],
    ['cache/x', false, undefined],
    ['a/cache/x/y', undefined, undefined],
    ['a.tmp', false, 'around'],
    ['a.tmp', undefined, 'around'],
    ['hidden', true, 'around'],
  ];
  for (const [path, isDirectory, way] of ways)
    expect({ path, isDirectory, way: rules.wayTo(path, isDirectory) }).toEqual({ path, isDirectory, way });
});

test('what a rule may touch is not left alone, on either side', () => {
  const wild = rulesOf('--exclude=*.tmp', '--filter=P kept', '--exclude=/build/');
  for (const [path, isDirectory, isLeft] of [
    ['a', false, true],
    ['a.tmp', false, false],
    ['kept', false, false],
    ['build', false, false], // it would be touched as a directory
    ['build/x', false, false],
    ['a', true, false], // there may be anything in it on the backup
  ] as const)
    expect({ path, isDirectory, isLeft: wild.leavesAlone(path, isDirectory) }).toEqual({ path, isDirectory, isLeft });
  const plain = rulesOf('--exclude=/build/', '--exclude=/a/b');
  for (const [path, isLeft] of [
    ['c', true],
    ['a', false],
    ['a/b', false],
    ['a/b/c', false],
    ['a/c', true],
  ] as const)
    expect({ path, isLeft: plain.leavesAlone(path, true) }).toEqual({ path, isLeft });
});

test.each([
  ...['-F', '-C', '--filter=: .rules', '--filter=. /rules', '--filter=-/ /home/x', '--filter=x y', '--filter=-'],
  ...['--exclude=', '--exclude-from=/nowhere', '--exclude-from=-', '--filter=Hs x'],
])('what is not sure is not taken for known: %s', (option) =>
  expect(readRules([...parseOptions([option])])).toBeUndefined(),
);

test('no name makes a pattern take long', () => {
  const started = performance.now();
  const long = 'a'.repeat(255);
  for (const pattern of [
    `${'*a'.repeat(20)}*b`,
    `${'**a'.repeat(20)}**b`,
    `${'**a*a'.repeat(10)}b`,
    `${'*'.repeat(4000)}b`,
  ])
    expect(rulesOf(`--exclude=${pattern}`).isHidden(`${`${long}/`.repeat(10)}${long}`, false)).toBe(false);
  expect(performance.now() - started).toBeLessThan(5000);
});

test.each([
  ['--delay-updates', '.~tmp~', true],
  ['--partial-dir=.part', '.part', true],
  ['--partial-dir=.part//', '.part', true],
  ['--delay-updates --partial-dir=a/b', 'x/a/b', true],
  ['--delay-updates --exclude=x --filter=!', '.~tmp~', true],
  ['--delay-updates --include=.~tmp~', '.~tmp~', false],
  ['--partial-dir=/x', 'x', false],
  ['--partial-dir= --delay-updates', '.~tmp~', false],
])('%s has rsync keep to itself what it has begun to receive: %s', (options, path, isHidden) => {
  const rules = rulesOf(...options.split(' '));
  expect(rules.isHidden(path, true)).toBe(isHidden);
  expect(rules.isHidden(path, false)).toBe(false);
  expect(rules.wayTo(`${path}/file`, false)).toBe(isHidden ? undefined : 'itself');
  expect(rules.leavesAlone('other', true)).toBe(!options.includes('--include'));
});

describe('with names on a list, the source itself', () => {
  /** Whether an rsync that is given a name of nothing mirrors the source itself, too. */
  const isMirrored = (words: readonly string[]) => {
    const directory = mkdtempSync(join(tmpdir(), 'filter-rules-'));
    const [source, target] = ['source', 'target'].map((name) => join(directory, name)) as [string, string];
    for (const path of [source, target]) mkdirSync(path);
    utimesSync(source, 1, 1);
    const args = ['-rtni', ...words, ...LIST_OPTIONS, `${source}/`, `${target}/`];
    const { stdout, stderr } = spawnSync('rsync', args, { encoding: 'utf8', input: './nothing\0' });
    rmSync(directory, { recursive: true });
    expect(stderr).toBe('');
    return stdout === '.d..t...... ./\n';
  };

  test.each([
    ...['--exclude=*', '--exclude=/*', '--exclude=.', '--exclude=.*', '--exclude=?', '--filter=-! /x', '--filter=H *'],
    ...['--filter=-r *', '--exclude=**', '--exclude=*.tmp', '--exclude=/x', '--exclude=*/', '--include=*/|--exclude=*'],
    ...['--exclude=*|--filter=!', '--filter=!|--exclude=*', '--include=/x|--exclude=*', '--filter=P *'],
  ])('is mirrored under %s, if by a rule of ours', (options) => {
    const RSYNC_OPTS = ['-a', ...options.split('|')].map(quote).join(' ');
    const { words, listRules } = planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true });
    expect(isMirrored(words)).toBe(listRules.length === 0);
    expect(isMirrored([...listRules, ...words])).toBe(true);
  });
});

test('rules of files are arguments, comments and empty lines are none, and a list may be begun anew', () => {
  const directory = mkdtempSync(join(tmpdir(), 'filter-rules-'));
  const file = join(directory, 'rules');
  writeFileSync(file, '# a\n; b\n\n- c\r\n+ d\n!\ne f \n');
  expect(rulesOf(`--include-from=${file}`, '--exclude', 'x').words).toEqual([...['--include=e f ', '--exclude=x']]);
  expect(rulesOf(`--exclude-from=${file}`).isHidden('c', false)).toBe(false);
  writeFileSync(file, Buffer.from([0xff, 0x0a]));
  expect(readRules(parseOptions([`--exclude-from=${file}`]))).toBeUndefined();
  rmSync(directory, { recursive: true });
});

test('a file of rules is read where rsync would read it, and never for long', () => {
  const directory = mkdtempSync(join(tmpdir(), 'filter-rules-'));
  const at = (name: string) => join(directory, name);
  writeFileSync(at('rules'), '*.tmp\n');
  mkdirSync(at('own'));
  symlinkSync('../rules', at('own/link'));
  symlinkSync('own', at('way'));
  const read = (name: string, ...more: string[]) =>
    readRules(parseOptions([`--exclude-from=${at(name)}`, ...more]))?.words;
  for (const name of ['rules', 'own/link', 'way/link']) expect(read(name)).toEqual(['--exclude=*.tmp']);
  expect(read('rules', '--from0')).toBeUndefined(); // the line end is part of the pattern
  symlinkSync('/dev/zero', at('endless'));
  symlinkSync('round', at('round'));
  spawnSync('mkfifo', [at('pipe')]);
  writeFileSync(at('large'), 'x\n'.repeat(60_000));
  for (const name of ['endless', 'round', 'pipe', 'large', 'own']) expect(read(name)).toBeUndefined();
  rmSync(directory, { recursive: true });
});

test.if(process.geteuid?.() === 0)('a link of somebody else leads to no file of rules', () => {
  const directory = mkdtempSync(join(tmpdir(), 'filter-rules-'));
  const file = join(directory, 'rules');
  symlinkSync('/etc/hostname', file);
  lchownSync(file, 12345, 12345);
  expect(readRules(parseOptions([`--exclude-from=${file}`]))).toBeUndefined();
  const { status } = spawnSync('rsync', ['-n', `--exclude-from=${file}`, `${directory}/`, `${directory}/`]);
  expect([0, 11]).toContain(status as number); // 11 since rsync 3.5.0
  rmSync(directory, { recursive: true });
});
