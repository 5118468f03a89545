import { afterAll, expect, test } from 'bun:test';
import { lstatSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Coverage } from '../../../src/mirror/coverage.ts';
import { listByFind } from '../../../src/mirror/directories.ts';
import { Terrain } from '../../../src/mirror/terrain.ts';

const root = `${mkdtempSync(join(tmpdir(), 'coverage-'))}/`;
const ALL = ['', 'a', 'a/b', 'c', 'caf\xc3\xa9*'];
for (const path of ALL) mkdirSync(Buffer.from(root + path, 'latin1'), { recursive: true });
afterAll(() => rmSync(root, { recursive: true }));

const inode = (path: string) => lstatSync(Buffer.from(root + path, 'latin1')).ino.toString(16);
/** What watches these directories, and others that are not in the source. */
const watcherOf = (paths: string[], others = 0) => ({
  listInodes: () => Promise.resolve([...paths.map(inode), ...Array(others).fill('0')]),
});

function coverageOf(excluded: string[] = []) {
  const terrain = new Terrain(root, excluded);
  const told: [string, string][][] = [];
  const coverage = new Coverage(root, terrain, { update: (found) => told.push([...found]) });
  return { coverage, terrain, told };
}

test('find lists all directories but for those that are excluded', async () => {
  expect((await listByFind(root, [])) as string[]).toHaveLength(ALL.length);
  expect(((await listByFind(root, ['a'])) as string[]).sort()).toEqual(['', 'c', 'caf\xc3\xa9*']);
  expect(((await listByFind(root, ['caf\xc3\xa9*'])) as string[]).sort()).toEqual(['', 'a', 'a/b', 'c']);
  expect(await listByFind(`${root}nothing/`, [])).toBeUndefined();
});

test('nothing is missed where each directory has a watch, or needs none', async () => {
  const { coverage, told } = coverageOf();
  expect(await coverage.inspect(watcherOf(ALL))).toEqual([]);
  expect(told).toEqual([[]]);
  expect(await coverageOf(['a']).coverage.inspect(watcherOf(['', 'c', 'caf\xc3\xa9*']))).toEqual([]);
});

test('a directory that was passed over is missed, and is watched by itself when that happens again', async () => {
  const { coverage, terrain } = coverageOf();
  const watcher = watcherOf(ALL.filter((path) => path !== 'a'));
  expect(await coverage.inspect(watcher)).toEqual(['a']);
  expect(await terrain.plan()).toBeUndefined();
  expect(await coverage.inspect(watcher)).toEqual(['a']);
  expect(await terrain.plan()).toEqual({ exclusions: ['a'], alone: ['a'], trees: ['', 'a/b'] });
});

test('numbers that cannot be compared have nothing watched anew for ever', async () => {
  const { coverage } = coverageOf();
  const watcher = watcherOf([], ALL.length);
  const counts: number[] = [];
  for (let n = 0; n < 5; n++) counts.push((await coverage.inspect(watcher)).length);
  expect(counts).toEqual([ALL.length, ALL.length, 0, 0, 0]);
});

test('a watcher that has ended meanwhile has missed nothing', async () => {
  const { coverage } = coverageOf();
  expect(await coverage.inspect({ listInodes: () => Promise.reject(new Error('ENOENT')) })).toEqual([]);
});
