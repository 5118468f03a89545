import { describe, expect, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Batch, REGULAR, TREE } from '../../../src/mirror/changes.ts';
import { Pruning } from '../../../src/mirror/pruning.ts';
import type { Scope, Scopes } from '../../../src/mirror/scopes.ts';
import { scratch } from '../service/scratch.ts';
import { change, hostFor } from './stand-ins.ts';

/** A source with a directory that is empty and others that are not, and what is left once things were deleted by name. */
function pruningFor(path: string, rest: [string, Scope][], RSYNC_OPTS = '-am --delete') {
  for (const name of ['a/empty', 'a/filled', 'b/c']) mkdirSync(join(path, name), { recursive: true });
  for (const name of ['a/filled/x', 'b/c/x']) writeFileSync(join(path, name), '');
  const added: Batch[] = [];
  const pruning = new Pruning({
    host: hostFor({ RSYNC_OPTS }),
    source: { root: `${path}/`, prefix: '/' },
    state: { changes: { add: (batch) => void added.push(batch) } },
    removals: { foresee: () => new Map(rest) },
    isHidden: () => false,
  });
  return { pruning, added };
}

const ONE: Batch = new Map([['a/x', change()]]);
const FOUND: Scopes = new Map([['a/x', 'gone']]);

describe('where empty directories are left out, names do justice to a batch', () => {
  test.each<[string, [string, Scope][], boolean]>([
    [
      'of single things',
      [
        ['a/x', 'entry'],
        ['a', 'directory'],
      ],
      true,
    ],
    [
      'of what is compared in a directory that holds no empty one',
      [
        ['b/x', 'gone'],
        ['b', 'tree'],
        ['b/c', 'inside'],
      ],
      true,
    ],
    ['but not in one that does: rsync would make that', [['a/x', 'gone']], false],
    ['nor of a new one that does', [['a', 'tree']], false],
    ['nor of what is empty and cannot be deleted by its name', [['a/empty', 'hollow']], false],
  ])('%s', async (_, rest, suits) => {
    using directory = scratch();
    const { pruning } = pruningFor(directory.path, rest);
    expect(await pruning.suits(ONE, FOUND)).toBe(suits);
    expect(await pruningFor(directory.path, rest, '-a --delete').pruning.suits(ONE, FOUND)).toBe(true);
  });

  test('but not to one of many changes that leave something empty: nobody has weighed what that deletes', async () => {
    using directory = scratch();
    const many: Batch = new Map(Array.from({ length: 1001 }, (_, n) => [`d/${n}`, TREE]));
    const { pruning } = pruningFor(directory.path, []);
    expect(await pruning.suits(many, FOUND)).toBe(true);
    expect(await pruning.suits(many, new Map([['d', 'hollow']]))).toBe(false);
  });

  test('and all is compared soon where the backup does not do what was foreseen', async () => {
    using directory = scratch();
    const { pruning, added } = pruningFor(directory.path, [['b/x', 'gone']]);
    await pruning.suits(ONE, FOUND);
    pruning.check(new Map([['b/x', 'gone']]));
    expect(added).toEqual([]);
    pruning.check(new Map([['a/empty', 'hollow']]));
    pruning.check(
      new Map([
        ['b/x', 'gone'],
        ['a/x', 'gone'],
      ]),
    );
    expect(added).toEqual([REGULAR, REGULAR]);
  });
});
