import { describe, expect, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  type Stats,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { planFor } from '../../../src/mirror/options.ts';
import { divisionOf, isStillThere, mayDivide, rulesOfParts } from '../../../src/mirror/parts.ts';
import { Source } from '../../../src/mirror/source.ts';
import { Random } from '../../model.ts';
import { bytes, expectEqual } from '../../tree.ts';
import { scratch } from '../service/scratch.ts';

const NAMES = [
  'a',
  'b1',
  'b2',
  '[a]',
  '*',
  'a b',
  '\\a',
  '\xc3\xa9',
  '\xff',
  '.a',
  '-x',
  '#5',
  '!',
  'c3.d',
  '**',
  '?1',
];
const nameFrom = (random: Random) => (random.chance(0.4) ? random.pick(NAMES) : `n${random.below(60)}`);
const oldTime = (random: Random) => 1_000_000_000 + random.below(1000);

/** Fills a directory with about so many files, links and directories; times are long past, or every directory would have the same. */
function fill(random: Random, directory: string, count: number): void {
  mkdirSync(bytes(directory), { recursive: true });
  for (let rest = count; rest > 0; ) {
    const path = `${directory}/${nameFrom(random)}`;
    if (lstatSync(bytes(path), { throwIfNoEntry: false })) {
      rest--;
    } else if (random.chance(0.4)) {
      const inner = random.below(rest);
      fill(random, path, inner);
      rest -= inner + 1;
    } else if (random.chance(0.1)) {
      symlinkSync(random.pick(NAMES), bytes(path));
      rest--;
    } else {
      writeFileSync(bytes(path), 'x'.repeat(random.below(5)), { mode: random.pick([0o600, 0o644, 0o755]) });
      utimesSync(bytes(path), oldTime(random), oldTime(random));
      rest--;
    }
  }
  if (random.chance(0.2)) chmodSync(bytes(directory), random.pick([0o755, 0o500, 0o711, 0o1777]));
  utimesSync(bytes(directory), oldTime(random), oldTime(random));
}

/** Runs rsyncs side by side; resolves with their exit statuses. */
const sideBySide = (runs: string[][]) =>
  Promise.all(runs.map(async (args) => (await once(spawn('rsync', args, { stdio: 'inherit' }), 'close'))[0] as number));

describe('two rsyncs, each with a part of a tree,', () => {
  const seeds = Array.from({ length: 10 }, (_, n) => n + Number(process.env.PARTS_SEED ?? 1));

  test.each(seeds)('make of a target what one would, whatever it held (seed %d)', async (seed) => {
    using directory = scratch();
    const [source, target, expected] = ['source', 'target', 'expected'].map((it) => join(directory.path, it));
    const random = new Random(seed);
    fill(random, source as string, 150);
    fill(random, target as string, 150);
    if (random.chance(0.5)) spawnSync('rsync', ['-a', `${source}/`, `${target}/`]); // much of it is there already
    spawnSync('cp', ['-a', target as string, expected as string]);
    const isContents = random.chance(0.7);
    const from = isContents ? `${source}/` : (source as string);
    const seen = new Source(from);
    const division = await divisionOf(seen, 10);
    if (!division) return;
    const options = ['-a', '--delete', '--modify-window=-1'];
    spawnSync('rsync', [...options, from, `${expected}/`]);
    const runs = rulesOfParts(division, seen.prefix).map((rules) => [...options, ...rules, from, `${target}/`]);
    const statuses = await sideBySide(runs);
    // Where a file of the target stands in the place of a directory, one may try to delete what the other has made: all is compared once more.
    if (statuses.some((status) => status !== 0)) spawnSync('rsync', [...options, from, `${target}/`]);
    const name = isContents ? '' : 'source'; // what the source is in has the time of the rsync that was the last
    expectEqual(join(expected as string, name), join(target as string, name), ['--modify-window=-1']);
    expect(readdirSync(target as string).length).toBe(readdirSync(expected as string).length);
  });

  test('share no path', async () => {
    using directory = scratch();
    const source = join(directory.path, 'source');
    fill(new Random(7), source, 400);
    const seen = new Source(`${source}/`);
    const division = await divisionOf(seen, 10);
    const lists = rulesOfParts(division ?? { shared: [], apart: [] }, '/').map((rules) => {
      const { stdout } = spawnSync('rsync', [
        '-an',
        '-8',
        '--out-format=%n',
        ...rules,
        `${source}/`,
        `${directory.path}/t/`,
      ]);
      return new Set(stdout.toString('latin1').split('\n').filter(Boolean));
    });
    const [rest = new Set<string>(), apart = new Set<string>()] = lists;
    const both = [...rest].filter((path) => apart.has(path));
    expect(both.map((path) => path.replace(/^\.?\/$|\/$/, '')).sort()).toEqual([...(division?.shared ?? [])].sort());
    expect(apart.size).toBeGreaterThan(rest.size / 5);
  });
});

describe('a tree', () => {
  const treeOf = (directory: string, names: string[], files: number) => {
    for (const name of names) {
      mkdirSync(join(directory, name), { recursive: true });
      for (let n = 0; n < files; n++) writeFileSync(join(directory, name, `${n}`), '');
    }
    return new Source(`${directory}/`);
  };

  test('of a few directories is divided by their names', async () => {
    using directory = scratch();
    const source = treeOf(directory.path, ['a', 'b', 'c', 'd'], 10);
    const division = await divisionOf(source, 10);
    expect(division?.apart.map(({ name, isPattern }) => ({ name, isPattern })).length).toBe(2);
    expect(division?.shared).toEqual(['']);
  });

  test('of many is divided by how their names end', async () => {
    using directory = scratch();
    const names = Array.from({ length: 100 }, (_, n) => `all/in/directory-${n}`);
    const source = treeOf(directory.path, names, 1);
    const division = await divisionOf(source, 10);
    expect(division?.shared).toEqual(['', 'all', 'all/in']);
    expect(division?.apart).toEqual([
      { parent: 'all/in', name: expect.stringMatching(/^\*\[\d{5}\]$/), isPattern: true },
    ]);
  });

  test('is divided within the directory that holds most of it', async () => {
    using directory = scratch();
    const names = [...Array.from({ length: 40 }, (_, n) => `few-${n}`), 'most/x', 'most/y'];
    treeOf(directory.path, names, 0);
    const source = treeOf(directory.path, ['most/x', 'most/y'], 100);
    expect(await divisionOf(source, 10)).toMatchObject({ shared: ['', 'most'], apart: [{ parent: 'most' }] });
  });

  test('stays whole where it is small, or one directory holds nearly all of it, or must not be written in by its owner', async () => {
    using directory = scratch();
    const source = treeOf(directory.path, ['a', 'b'], 10);
    expect(await divisionOf(source, 100)).toBeUndefined();
    const flat = treeOf(join(directory.path, 'flat'), ['one', 'other'], 0);
    for (let n = 0; n < 100; n++) writeFileSync(join(directory.path, 'flat', 'one', `${n}`), '');
    expect(await divisionOf(flat, 10)).toBeUndefined();
    chmodSync(directory.path, 0o555);
    expect(await divisionOf(source, 10)).toBeUndefined();
  });

  test('is not listed within a directory that is huge, and no directory is shared in which nothing is apart', async () => {
    using directory = scratch();
    const { list, look } = treeOf(directory.path, ['a/x', 'a/y', 'b', 'c'], 10);
    const listed: string[] = [];
    const source = {
      list: (path: string) => {
        listed.push(path);
        return list(path);
      },
      look: (path: string) => Object.assign(look(path) ?? {}, path === 'a' && { size: 4_000_001 }) as Stats,
    };
    expect(await divisionOf(source, 10)).toBeUndefined();
    expect(listed).toEqual(['', 'b', 'c']);
    const flat = treeOf(join(directory.path, 'flat'), ['b', 'c'], 10);
    treeOf(join(directory.path, 'flat'), ['a'], 40);
    expect((await divisionOf(flat, 10))?.shared).toEqual(['']);
  });

  test('is divided anew once a directory has gone that is apart or holds one', async () => {
    using directory = scratch();
    const source = treeOf(directory.path, ['a/x', 'a/y'], 10);
    const division = await divisionOf(source, 10);
    if (!division) throw new Error('it is not divided');
    expect(isStillThere(division, source)).toBe(true);
    const [{ name = '' } = {}] = division.apart;
    renameSync(join(directory.path, 'a', name), join(directory.path, 'z'));
    expect(isStillThere(division, source)).toBe(false);
    rmSync(join(directory.path, 'a'), { recursive: true });
    expect(isStillThere(division, source)).toBe(false);
  });
});

describe('whether a comparison of all may be divided', () => {
  const isDivided = (RSYNC_OPTS: string, cores = 2) =>
    mayDivide(planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true }), cores);

  test.each(['-avz --delete', '-az --delete', '-aAX', '-a --numeric-ids --timeout=60', '-ac', '-ax --delete'])(
    'it may with %s',
    (options) => expect(isDivided(options)).toBe(true),
  );

  test('it may not on one core', () => expect(isDivided('-avz --delete', 1)).toBe(false));

  test.each([
    '-aH',
    '-a --exclude=a',
    '-aF',
    '-aC',
    '-a --bwlimit=100',
    '-a --delete --max-delete=5',
    '-a --delete-after',
    '-a --delete-before',
    '-a --delete-delay',
    '-a --delete-excluded',
    '-ab',
    '-a --backup-dir=/b',
    '-a --delay-updates',
    '-a --partial-dir=.p',
    '-am',
    '-aR',
    '-aL',
    '-ay',
    '-a --chmod=u-w',
    '-aP',
    '-a --stats',
    '-a --info=name',
    '-ai',
    '-a --temp-dir=/t',
    '-a --iconv=utf8,latin1',
    '-a --log-file=/l',
  ])('it may not with %s', (options) => expect(isDivided(options)).toBe(false));
});
