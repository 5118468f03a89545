import { afterAll, beforeEach, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Terrain } from '../../../src/mirror/terrain.ts';

let directory = mkdtempSync(join(tmpdir(), 'terrain-'));
const remove = () => spawnSync('rm', ['-rf', directory]);
const make = (...paths: string[]) => {
  for (const path of paths) mkdirSync(join(directory, path), { recursive: true });
};

/** Makes a chain of directories below a path that goes beyond the longest path. */
const CHAIN = 'cd "$1"; n=$(printf %0250d 0); i=0; while [ $i -lt 18 ]; do mkdir $n; cd -P $n; i=$((i+1)); done';
const makeChain = (path: string) => spawnSync('bash', ['-c', CHAIN, 'bash', join(directory, path)]);

beforeEach(() => {
  remove();
  directory = mkdtempSync(join(tmpdir(), 'terrain-'));
});
afterAll(remove);

const terrainOf = (excluded: string[] = []) => new Terrain(`${directory}/`, excluded);

test('a tree that can be looked at everywhere is watched as a whole', async () => {
  make('a/b', 'c');
  const terrain = terrainOf();
  expect(await terrain.explore()).toBe(false);
  expect(await terrain.plan()).toBeUndefined();
  expect(terrain.faults.size).toBe(0);
});

test('a directory with a path in it that is too long is watched by itself, until that is gone', async () => {
  make('a/beside', 'c');
  makeChain('a');
  const terrain = terrainOf();
  expect(await terrain.explore()).toBe(true);
  expect(await terrain.explore()).toBe(false); // nothing new
  const plan = await terrain.plan();
  expect(plan?.trees).toEqual(['']);
  expect(plan?.alone).toHaveLength(1);
  expect(plan?.alone).toEqual(plan?.exclusions as string[]);
  const [[path, code] = []] = terrain.faults;
  expect(code).toBe('ENAMETOOLONG');
  expect(path?.startsWith(`${plan?.alone[0]}/`)).toBe(true);
  spawnSync('rm', ['-rf', join(directory, 'a')]);
  expect(await terrain.plan()).toBeUndefined();
  expect(terrain.faults.size).toBe(0);
});

test('what is excluded is none of it', async () => {
  make('a');
  makeChain('a');
  const terrain = terrainOf(['a']);
  expect(await terrain.explore()).toBe(false);
  expect(terrain.isExcluded('a/b')).toBe(true);
  expect(terrain.isExcluded('ab')).toBe(false);
});

test('a directory in which too much goes is watched by itself, and what is in it by others as it comes', async () => {
  make('a/b', 'c', 'd');
  writeFileSync(join(directory, 'a', 'file'), '');
  const terrain = terrainOf(['c']);
  terrain.calm('a');
  expect(await terrain.plan()).toEqual({ exclusions: ['a'], alone: ['a'], trees: ['', 'a/b'] });
  make('a/e');
  terrain.calm('');
  expect(await terrain.plan()).toMatchObject({ exclusions: ['a'], alone: ['a', ''] });
  expect((await terrain.plan())?.trees.sort()).toEqual(['a/b', 'a/e', 'd']);
  rmSync(join(directory, 'a'), { recursive: true });
  expect(await terrain.plan()).toEqual({ exclusions: [], alone: [''], trees: ['d'] });
});

test('more obstacles than can be told are left out as a whole, from what lies deepest', async () => {
  make('many', 'other/a');
  const half = Array(8).fill('0'.repeat(250)).join('/');
  const script =
    'cd "$1"; for i in $(seq 301); do (mkdir -p $i/$2; cd -P $i/$2; mkdir -p $2/$3; cd -P $2; mkdir -p $3/$3); done';
  spawnSync('bash', ['-c', script, 'bash', join(directory, 'many'), half, '0'.repeat(250)]);
  const terrain = terrainOf();
  expect(await terrain.explore()).toBe(true);
  const plan = await terrain.plan();
  expect(plan?.exclusions).toEqual(['many']);
  expect(plan?.alone).toEqual([]);
  expect(plan?.trees).toEqual(['']);
  expect([...terrain.faults]).toEqual([['many', 'CROWDED']]);
});

test('no directory lies deeper than files may be open at a time', async () => {
  make(Array(901).fill('d').join('/'));
  const terrain = terrainOf();
  expect(await terrain.explore()).toBe(false);
  terrain.limitDepth();
  expect(await terrain.explore()).toBe(true);
  const path = Array(900).fill('d').join('/');
  expect([...terrain.faults]).toEqual([[path, 'EMFILE']]);
  expect(await terrain.plan()).toEqual({ exclusions: [path], alone: [], trees: [''] });
});
