import { expect, test } from 'bun:test';
import { mkdirSync, readdirSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Held } from '../../../src/backup/held-tree.ts';
import { scratch } from '../service/scratch.ts';

const openFiles = () => readdirSync('/proc/self/fd').length;

test('a directory is listed piece by piece, whatever is removed meanwhile, and is held open no longer than that', () => {
  using place = scratch();
  const names = Array.from({ length: 5000 }, (_, n) => `name-${n}-${'x'.repeat(n % 40)}`);
  for (const name of [...names, 'späte Datei']) writeFileSync(join(place.path, name), '');
  using top = Held.open(place.path);
  const before = openFiles();
  const latin1 = Buffer.from('späte Datei').toString('latin1');
  expect([...top.entries()].sort()).toEqual([...names, latin1].sort());
  for (const _ of top.entries()) break;
  let met = 0;
  for (const name of top.entries()) {
    met++;
    unlinkSync(top.at(name));
  }
  expect([met, top.names()]).toEqual([5001, []]);
  expect(openFiles()).toBe(before);
});

test('a small directory is not held open while its names are looked at, and one that is gone has none', () => {
  using place = scratch();
  mkdirSync(join(place.path, 'd', 'e'), { recursive: true });
  using top = Held.open(join(place.path, 'd'));
  const before = openFiles();
  for (const name of top.entries()) expect([name, openFiles()]).toEqual(['e', before]);
  rmdirSync(join(place.path, 'd', 'e'));
  rmdirSync(join(place.path, 'd'));
  expect([...top.entries()]).toEqual([]);
});
