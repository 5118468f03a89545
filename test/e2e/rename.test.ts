/**
 * What is moved in the source is renamed in the backup. The commands go over the source's connection to the real sshd,
 * with Landlock and without: that no link leads out of the backup must not hang on the kernel alone.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Pair, userName } from '../pair.ts';
import { type Answer, answerOf, content, eventually, Program, processesWith } from '../processes.ts';
import { binary, ROOT } from '../project.ts';
import { bytes, namesIn } from '../tree.ts';

setDefaultTimeout(120_000);

type Move = [from: string, to: string];

/** What is below a directory, by paths of bytes: of a file what it holds, of a link where it leads, of a directory `/`. */
type Listing = Record<string, string>;

const linkTo = (target: string) => `-> ${target}`;

function plant(root: string, listing: Listing): void {
  mkdirSync(root, { recursive: true });
  for (const [path, what] of Object.entries(listing)) {
    const full = bytes(`${root}/${path}`);
    mkdirSync(what === '/' ? full : bytes(dirname(`${root}/${path}`)), { recursive: true });
    if (what.startsWith('-> ')) symlinkSync(what.slice(3), full);
    else if (what !== '/') writeFileSync(full, what);
  }
}

function listingOf(root: string, way = ''): Listing {
  const entries = namesIn(`${root}/${way}`).flatMap((name): [string, string][] => {
    const [path, full] = [`${way}${name}`, bytes(`${root}/${way}${name}`)];
    const status = lstatSync(full);
    if (status.isSymbolicLink()) return [[path, linkTo(readlinkSync(full))]];
    if (!status.isDirectory()) return [[path, readFileSync(full, 'utf8')]];
    return [[path, '/'], ...Object.entries(listingOf(root, `${path}/`))];
  });
  return Object.fromEntries(entries);
}

const asInput = (moves: Move[]) => bytes(moves.map(([from, to]) => `${from}\0${to}\0`).join(''));

/** The source's side of a pair, which has connected. */
class Source {
  private constructor(
    readonly pair: Pair,
    readonly backup: Program,
  ) {}

  static async connect(name: string, wrapper: string[] = [], env: Record<string, string> = {}): Promise<Source> {
    const pair = await Pair.withKeys(name);
    mkdirSync(pair.path('shared'));
    copyFileSync(pair.path('source-ssh', 'id_rsa.pub'), pair.path('shared', 'id_rsa.pub'));
    plant(pair.path('outside'), { secret: 'of the backup', 'deep/file': 'below', 'empty/': '/' });
    mkdirSync(pair.path('backup'));
    const source = new Source(pair, pair.start('start-sshd', env, wrapper));
    await source.backup.shows('SSH 服务器就绪');
    pair.keep(new Program('ssh', [...source.sshOptions, '-M', '-N', source.host], {}));
    await eventually(() => existsSync(pair.path('control')));
    return source;
  }

  readonly host = `${userName()}@127.0.0.1`;

  get sshOptions(): string[] {
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
    const more = [`IdentityFile=${this.pair.path('source-ssh', 'id_rsa')}`, `ControlPath=${this.pair.path('control')}`];
    return ['-F', 'none', '-p', `${this.pair.port}`, ...[...options, ...more].flatMap((option) => ['-o', option])];
  }

  begin(command: string) {
    return spawn('ssh', [...this.sshOptions, this.host, '--', command]);
  }

  /** Runs a command at the backup to its end. */
  async ask(command: string, input: Buffer | string): Promise<Answer> {
    return answerOf(this.begin(command), input);
  }

  rename(moves: Move[], directory = this.pair.path('backup')): Promise<Answer> {
    return this.ask(`start-sshd --rename '${directory}/'`, asInput(moves));
  }

  /** All that a rename would change outside of the backup. */
  get outside(): string[] {
    const names = ['.', ...readdirSync(this.pair.path('outside'), { recursive: true, encoding: 'utf8' }).sort()];
    return names.map((name) => {
      const { ino, ctimeNs, mtimeNs } = lstatSync(this.pair.path('outside', name), { bigint: true });
      return [name, ino, ctimeNs, mtimeNs].join(' ');
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.pair[Symbol.asyncDispose]();
  }
}

const done = (count: number): Answer => ({ status: 0, stdout: `${count}\n`, stderr: '' });

/** What is there before, what is moved, how often that is possible, and what is there then. OUT is beside the backup. */
type Case = [name: string, before: Listing, moves: Move[], count: number, after: Listing];

const ODD_NAMES = [
  '-rf',
  ' a  b ',
  '\xff\xfe',
  'new\nline',
  '\xe4\xb8\xad',
  '*',
  '$(id)',
  "'",
  '"',
  '\\',
  '...',
  '\t\r\x1b',
];
const LONG = `${'d'.repeat(200)}/`.repeat(15);

const MOVES: Case[] = [
  ['a file', { a: '1' }, [['a', 'b']], 1, { b: '1' }],
  [
    'a directory with all that is in it',
    { 'a/b/c': '1', 'a/link': linkTo('nowhere') },
    [['a', 'z']],
    1,
    { z: '/', 'z/b': '/', 'z/b/c': '1', 'z/link': linkTo('nowhere') },
  ],
  [
    'to where no directory is yet',
    { a: '1' },
    [['a', 'x/y/z/a']],
    1,
    { x: '/', 'x/y': '/', 'x/y/z': '/', 'x/y/z/a': '1' },
  ],
  [
    'up and into what is there',
    { 'x/y/a': '1', 'z/b': '2' },
    [['x/y/a', 'z/a']],
    1,
    { x: '/', 'x/y': '/', z: '/', 'z/a': '1', 'z/b': '2' },
  ],
  [
    'names of all bytes, both ways',
    Object.fromEntries(ODD_NAMES.map((name) => [name, Buffer.from(name).toString('hex')])),
    ODD_NAMES.map((name): Move => [name, `d${name}/${name}`]),
    ODD_NAMES.length,
    Object.fromEntries(
      ODD_NAMES.flatMap((name) => [
        [`d${name}`, '/'],
        [`d${name}/${name}`, Buffer.from(name).toString('hex')],
      ]),
    ),
  ],
  [
    'logs that are rotated, in order',
    { log: '0', 'log.1': '1', 'log.2': '2' },
    [
      ['log.2', 'log.3'],
      ['log.1', 'log.2'],
      ['log', 'log.1'],
    ],
    3,
    { 'log.1': '0', 'log.2': '1', 'log.3': '2' },
  ],
  [
    'two that change places',
    { a: '1', 'b/c': '2' },
    [
      ['a', 't'],
      ['b', 'a'],
      ['t', 'b'],
    ],
    3,
    { a: '/', 'a/c': '2', b: '1' },
  ],
  ['a file in the place of a file', { a: '1', b: '2' }, [['a', 'b']], 1, { b: '1' }],
  ['a directory in the place of an empty one', { 'a/c': '1', b: '/' }, [['a', 'b']], 1, { b: '/', 'b/c': '1' }],
  [
    'not over a directory that is not empty',
    { 'a/c': '1', 'b/d': '2' },
    [['a', 'b']],
    0,
    { a: '/', 'a/c': '1', b: '/', 'b/d': '2' },
  ],
  [
    'no file over a directory',
    { a: '1', b: '/', 'c/d': '2' },
    [
      ['a', 'b'],
      ['a', 'c'],
    ],
    0,
    { a: '1', b: '/', c: '/', 'c/d': '2' },
  ],
  ['no directory over a file', { 'a/c': '1', b: '2' }, [['a', 'b']], 0, { a: '/', 'a/c': '1', b: '2' }],
  [
    'no directory into itself',
    { 'a/c': '1' },
    [
      ['a', 'a/c/d'],
      ['a', 'a/e'],
    ],
    0,
    { a: '/', 'a/c': '1' },
  ],
  [
    'nothing below a file',
    { a: '1', b: '2' },
    [
      ['a', 'b/c'],
      ['b/c', 'd'],
    ],
    0,
    { a: '1', b: '2' },
  ],
  [
    'what is there after what is not, for which no directory is made',
    { a: '1' },
    [
      ['no', 'x'],
      ['no/no', 'y/z'],
      ['no', 'y/z'],
      ['a', 'b'],
      ['a', 'c'],
    ],
    1,
    { b: '1' },
  ],
  [
    'names as long as they can be',
    { a: '1', b: '2' },
    [
      ['a', 'x'.repeat(255)],
      ['b', 'x'.repeat(256)],
    ],
    1,
    { b: '2', ['x'.repeat(255)]: '1' },
  ],
  [
    'a long way',
    { a: '1', b: '2' },
    [
      ['a', `${LONG}a`],
      ['b', `${LONG}b`],
      [`${LONG}a`, 'a'],
      ['d'.repeat(200), 'd'],
    ],
    4,
    Object.fromEntries([
      ['a', '1'],
      ...Array.from({ length: 15 }, (_, n) => [['d', ...Array(n).fill('d'.repeat(200))].join('/'), '/']),
      [`d/${LONG.slice(201)}b`, '2'],
    ]),
  ],
];

/** Directories outside, as links may lead to them from a directory in the backup. */
const OUT = {
  relative: linkTo('../../outside'),
  absolute: linkTo('OUT'),
  chain: linkTo('relative'),
  far: linkTo('chain/deep'),
};

const LINKS: Case[] = [
  [
    'is not followed to what is outside',
    OUT,
    Object.keys(OUT).flatMap((link): Move[] => [
      [`${link}/secret`, 'a'],
      [`${link}/deep`, 'b'],
      [`${link}/file`, 'c'],
      [`${link}/empty`, 'd/e'],
    ]),
    0,
    OUT,
  ],
  [
    'lets nothing out',
    { ...OUT, a: '1', 'b/c': '2' },
    Object.keys(OUT).flatMap((link): Move[] => [
      ['a', `${link}/a`],
      ['b', `${link}/empty`],
      ['a', `${link}/secret`],
      ['b', `${link}/new/b`],
      ['b/c', `${link}/deep/file`],
      ['a', `b/../${link}/a`],
    ]),
    0,
    { ...OUT, a: '1', b: '/', 'b/c': '2' },
  ],
  [
    'is not followed within, either',
    { in: linkTo('real'), self: linkTo('.'), up: linkTo('..'), 'real/a': '1' },
    [
      ['in/a', 'b'],
      ['real/a', 'in/b'],
      ['self/real', 'b'],
      ['real', 'self/b'],
      ['up/x', 'b'],
      ['real/a', 'in/new/b'],
    ],
    0,
    { in: linkTo('real'), self: linkTo('.'), up: linkTo('..'), real: '/', 'real/a': '1' },
  ],
  [
    'is not followed behind a directory',
    { 'a/b/out': linkTo('../../../../outside'), c: '1' },
    [
      ['a/b/out/secret', 'd'],
      ['c', 'a/b/out/d'],
    ],
    0,
    { a: '/', 'a/b': '/', 'a/b/out': linkTo('../../../../outside'), c: '1' },
  ],
  [
    'is not followed when it has been moved there',
    { ...OUT, a: '/', b: '1' },
    [
      ['relative', 'a/x'],
      ['a/x/secret', 'c'],
      ['b', 'a/x/b'],
      ['absolute', 'y'],
      ['y/secret', 'c'],
    ],
    2,
    { chain: OUT.chain, far: OUT.far, a: '/', 'a/x': OUT.relative, y: OUT.absolute, b: '1' },
  ],
  [
    'is renamed itself',
    { ...OUT, no: linkTo('nowhere') },
    [...Object.keys(OUT), 'no'].map((link): Move => [link, `new/${link}`]),
    5,
    {
      new: '/',
      ...Object.fromEntries(
        Object.entries({ ...OUT, no: linkTo('nowhere') }).map(([name, leads]) => [`new/${name}`, leads]),
      ),
    },
  ],
  [
    'gives its place to a file, and to no directory',
    { relative: OUT.relative, absolute: OUT.absolute, a: '1', b: '/' },
    [
      ['b', 'relative'],
      ['a', 'relative'],
      ['b', 'absolute'],
    ],
    1,
    { relative: '1', absolute: OUT.absolute, b: '/' },
  ],
  [
    'takes the place of a file, and of no directory',
    { relative: OUT.relative, absolute: OUT.absolute, a: '1', b: '/' },
    [
      ['relative', 'a'],
      ['absolute', 'b'],
    ],
    1,
    { a: OUT.relative, absolute: OUT.absolute, b: '/' },
  ],
];

const ODD_PATHS = [
  '',
  '.',
  '..',
  '/',
  '//',
  '../',
  '../x',
  '../../outside/secret',
  '../../outside/x',
  'OUT/secret',
  'OUT/x',
  '/x',
  'd/..',
  'd/../x',
  'd/../../../outside/secret',
  './x',
  'd/.',
  'd//x',
  'd/',
  'd/x/',
  'new/',
  'new/../x',
  'new/.',
  '/proc/self/cwd/x',
  '/etc/hostname',
];

const KERNELS: [string, string[]][] = [
  ['with Landlock', []],
  ['without Landlock', [process.execPath, '--no-env-file', join(ROOT, 'test', 'without-landlock.ts')]],
];

describe.each(KERNELS)('%s,', (_kernel, wrapper) => {
  let source: Source;
  let before: string[];
  /** All is asked for in one command, each case in a directory of its own. */
  const cases = [...MOVES, ...LINKS];
  const directoryOf = (one: Case) => `${cases.indexOf(one)}`;
  let answer: Answer;

  beforeAll(async () => {
    source = await Source.connect('rename', wrapper);
    before = source.outside;
    for (const one of cases) plant(source.pair.path('backup', directoryOf(one)), given(one[1]));
    const below = (one: Case) => one[2].map((move) => move.map((path) => `${directoryOf(one)}/${path}`) as Move);
    answer = await source.rename(cases.flatMap(below));
  });
  afterAll(() => source[Symbol.asyncDispose]());

  const given = <T>(what: T): T => JSON.parse(JSON.stringify(what).replaceAll('OUT', source.pair.path('outside')));

  const isAsExpected = (one: Case) =>
    expect(listingOf(source.pair.path('backup', directoryOf(one)))).toEqual(given(one[4]));

  test('the kernel is what it is said to be, and what is possible is done', () => {
    if (wrapper.length > 0) expect(source.backup.output).toContain('内核没有 Landlock');
    else if (source.backup.output.includes('内核没有 Landlock')) console.warn('SKIPPED: this kernel has no Landlock');
    expect(answer).toEqual(done(cases.reduce((sum, [, , , count]) => sum + count, 0)));
  });

  test.each(MOVES.map((one) => [one[0], one] as const))('moves %s', (_, one) => isAsExpected(one));

  test.each(LINKS.map((one) => [one[0], one] as const))('a link %s', (_, one) => {
    isAsExpected(one);
    expect(source.outside).toEqual(before);
  });

  test('no path leads up, to its start, or elsewhere', async () => {
    const directory = source.pair.path('backup', 'odd');
    const there = { a: '1', d: '/', 'd/x': '2', e: '/' };
    plant(directory, there);
    const from = (path: string): Move[] => [
      [path, 'b'],
      [path, path],
    ];
    const to = (path: string) => Object.keys(there).map((name): Move => [name, path]);
    const asked = given(ODD_PATHS.flatMap((path) => [...from(path), ...to(path)]));
    expect(await source.rename(asked, directory)).toEqual(done(0));
    expect(listingOf(directory)).toEqual(there);
    expect(source.outside).toEqual(before);
  });

  test('nothing outside changes while a directory on the way is replaced by a link and put back', async () => {
    const directory = source.pair.path('backup', 'race');
    const [place, link, aside] = ['place', 'link', 'aside'].map((name) => join(directory, name)) as [
      string,
      string,
      string,
    ];
    const rounds = Array.from({ length: 1000 }, (_, n) => n);
    plant(directory, { 'place/secret': '1', link: linkTo('../../outside') });
    for (const n of rounds) writeFileSync(join(directory, `${n}`), '');
    const moves = rounds.flatMap((n): Move[] => [
      ['place/secret', 'taken'],
      ['taken', 'place/secret'],
      ['place/deep', 'taken-too'],
      [`${n}`, n % 2 ? `place/${n}` : `place/new/${n}`],
    ]);
    const asked = source.rename(moves, directory).finally(() => {
      isAsked = false;
    });
    let isAsked = true;
    let made = 0;
    const put = (what: string) => {
      while (true) {
        try {
          return renameSync(what, place);
        } catch {
          renameSync(place, join(directory, `made-meanwhile-${made++}`));
        }
      }
    };
    for (let n = 0; isAsked; n++) {
      renameSync(place, aside);
      put(link);
      renameSync(place, link);
      put(aside);
      if (n % 50 === 0) await nextTurn();
    }
    expect(await asked).toEqual({ status: 0, stdout: expect.any(String), stderr: '' });
    const left = rounds.filter((n) => existsSync(join(directory, `${n}`))).length;
    expect(left).toBeGreaterThan(0); // a link was in the way
    expect(left).toBeLessThan(rounds.length);
    expect(source.outside).toEqual(before);
  });
});

test.concurrent('10,000 renames are one process', async () => {
  await using source = await Source.connect('many');
  const names = Array.from({ length: 1000 }, (_, n) => `file ${n}`);
  mkdirSync(source.pair.path('backup', '0'));
  for (const name of names) writeFileSync(source.pair.path('backup', '0', name), '');
  const moves = Array.from({ length: 10 }, (_, n) => names.map((name): Move => [`${n}/${name}`, `${n + 1}/${name}`]));
  const start = performance.now();
  const answer = await source.rename(moves.flat());
  const ms = performance.now() - start;
  console.log(`10,000 renames: ${ms.toFixed()} ms`);
  expect(answer).toEqual(done(10_000));
  expect(readdirSync(source.pair.path('backup', '10'))).toHaveLength(1000);
  expect(ms).toBeLessThan(10_000); // with a process for each it would be minutes
});

const [PARTIAL, LONG_PATH] = ['最后一对路径不完整', '路径超过 4096 字节'];
const REFUSED: [string, string, Listing][] = [
  ['a', PARTIAL, { a: '1' }],
  ['a\0', PARTIAL, { a: '1' }],
  ['a\0b', PARTIAL, { a: '1' }],
  ['\0', PARTIAL, { a: '1' }],
  ['a\0b\0b', PARTIAL, { b: '1' }],
  ['a\0b\0b\0', PARTIAL, { b: '1' }],
  ['a\0b\0\0', PARTIAL, { b: '1' }],
  ['a\0b\0b\0c', PARTIAL, { b: '1' }],
  [`${'x'.repeat(4097)}\0b\0`, LONG_PATH, { a: '1' }],
  [`a\0${'x/'.repeat(2048)}x\0`, LONG_PATH, { a: '1' }],
  ['x'.repeat(3_000_000), LONG_PATH, { a: '1' }],
];

test.concurrent('of input that is cut off or too long, what is whole is done, and the rest is refused and told', async () => {
  await using source = await Source.connect('cut');
  const { pair, backup } = source;
  for (const [n, [input, reason, after]] of REFUSED.entries()) {
    const directory = pair.path('backup', `${n}`);
    plant(directory, { a: '1' });
    const { status, stdout, stderr } = await source.ask(`start-sshd --rename '${directory}'`, input);
    expect({ n, status, stdout }).toEqual({ n, status: 1, stdout: '' });
    expect(stderr).toContain(`start-sshd: 拒绝执行：${reason}`);
    await backup.shows(`${reason}。命令: start-sshd --rename '${directory}'\n`);
    expect(listingOf(directory)).toEqual(after);
  }
  const longest: Move[] = [
    ['x'.repeat(4096), 'b'],
    [`${'x/'.repeat(2047)}yz`, 'b'],
    ['a', 'x'.repeat(4096)],
  ];
  for (const moves of [
    [],
    [
      ['', ''],
      ['', 'a'],
      ['a', ''],
    ] as Move[],
    longest,
  ])
    expect(await source.rename(moves, pair.path('backup', '0'))).toEqual(done(0));
  expect(listingOf(pair.path('backup', '0'))).toEqual({ a: '1' });
  expect(await source.rename([['a', 'b/c/a']], pair.path('backup', '0'))).toEqual(done(1));
  for (const made of ['b', 'b/c']) expect(statSync(pair.path('backup', '0', made)).mode & 0o7777).toBe(0o700);
});

test.concurrent('before a path is read, the kernel has fenced the process in', async () => {
  await using source = await Source.connect('fence');
  if (source.backup.output.includes('内核没有 Landlock')) return console.warn('SKIPPED: this kernel has no Landlock');
  const directory = source.pair.path('backup', 'here');
  mkdirSync(directory);
  const child = source.begin(`start-sshd --rename '${directory}'`);
  const isFenced = ([pid]: [number, string]) => /^NoNewPrivs:\t1$/m.test(content(`/proc/${pid}/status`));
  await eventually(() => [...processesWith(directory)].filter(isFenced).length === 1);
  child.stdin.end();
  expect((await once(child, 'close'))[0]).toBe(0);
});

test.concurrent('the directory may be named as rsync’s is, and need not be there', async () => {
  await using source = await Source.connect('named');
  const { pair } = source;
  plant(pair.path('backup'), { real: '/', link: linkTo('real'), a: '1', 'real/a': '2', file: '3' });
  const [command, home] = ['start-sshd --rename', pair.directory.replace(/^.*\//, '~/')];
  const move = asInput([['a', 'b']]);
  for (const none of ['new', 'new/deep/', 'file', 'file/', 'real/x'])
    expect(await source.ask(`${command} "${pair.path('backup', none)}"`, move)).toEqual(done(0));
  expect(await source.ask(`${command} '${home}/backup'`, move)).toEqual(done(1));
  expect(await source.ask(`${command} ${pair.path('backup', 'link')}/`, move)).toEqual(done(1));
  expect(listingOf(pair.path('backup'))).toEqual({ real: '/', link: linkTo('real'), b: '1', 'real/b': '2', file: '3' });
  expect(source.backup.output).not.toContain('拒绝');
});

test.concurrent('with ALLOW_SHELL a shell starts the program for the source', async () => {
  await using source = await Source.connect('by-shell', [], { ALLOW_SHELL: 'true' });
  const { pair } = source;
  plant(pair.path('backup'), { a: '1', out: linkTo('../outside') });
  const [before, program] = [source.outside, binary('start-sshd')];
  const found = `env -u DEST_DIR -u START_SSHD_REPORTS 'PATH=${dirname(program)}:/usr/bin:/bin' start-sshd`;
  const directory = `'${pair.path('backup')}/'`;
  expect(await source.ask(`${found} --rename ${directory}`, 'a\0b\0out/secret\0c\0')).toEqual(done(1));
  expect(await source.ask(`${program} --rename ${directory}`, 'b\0\xff\0out/secret\0c\0')).toEqual(done(1));
  const cut = await source.ask(`${found} --rename ${directory}`, 'b');
  expect(cut).toEqual({ status: 1, stdout: '', stderr: 'start-sshd: 拒绝执行：最后一对路径不完整\n' });
  for (const more of ['--rename', `--rename=${directory}`, `--rename ${directory} x`, `--rename ''`])
    expect(spawnSync('sh', ['-c', `${program} ${more}`], { input: 'b\0c\0' }).status).toBe(2);
  expect(Object.keys(listingOf(pair.path('backup')))).toHaveLength(2);
  expect(source.outside).toEqual(before);
  expect(spawnSync(program, ['--help'], { encoding: 'utf8' }).stdout).not.toContain('rename');
});
