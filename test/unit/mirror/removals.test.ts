import { describe, expect, test } from 'bun:test';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Batch, TREE } from '../../../src/mirror/changes.ts';
import { Removals, withoutRemoved } from '../../../src/mirror/removals.ts';
import type { Scope, Scopes } from '../../../src/mirror/scopes.ts';
import { listOf } from '../../../src/mirror/scopes.ts';
import { Source } from '../../../src/mirror/source.ts';
import { Unmirrored } from '../../../src/mirror/unmirrored.ts';
import { scratch } from '../service/scratch.ts';
import { aloud, change, hostFor } from './stand-ins.ts';

const GONE = change({ kind: 'delete' });
const GONE_DIRECTORY = change({ kind: 'delete', isDirectory: true });

interface Circumstances {
  RSYNC_OPTS?: string;
  slash?: string;
  mounted?: string[];
  kept?: string[];
  isHolding?: boolean;
  left?: number[];
  answers?: boolean;
}

/** What is asked for, and what is left for rsync, where this is gone from a source. */
async function remove(root: string, batch: Batch, scopes: [string, Scope][], circumstances: Circumstances = {}) {
  const { RSYNC_OPTS = '-a --delete', slash = '/', mounted = [], kept = [], isHolding = false } = circumstances;
  const asked: string[] = [];
  const counted: number[] = [];
  const { left = [], answers = true } = circumstances;
  const source = new Source(`${root}${slash}`);
  const removals = new Removals({
    host: hostFor({ RSYNC_OPTS }),
    source,
    mounts: { mounted, refresh: () => {}, isKept: (path) => kept.includes(path) },
    state: { name: 'backup', unmirrored: new Unmirrored(), voice: aloud() },
    errands: {
      isReady: true,
      ask: async (orders) => {
        asked.push(...orders);
        return answers ? { renamed: 0, removed: orders.length, left: new Set(left), absent: new Set() } : undefined;
      },
    },
    brake: { isHolding, limit: 1000, noteRemoved: (count) => void counted.push(count) },
    transfers: { noteRemoved: (count) => void counted.push(count) },
  });
  const given: Scopes = new Map(scopes);
  const rest = await removals.remove(batch, given);
  return {
    asked,
    counted,
    isUntouched: rest === given,
    list: `${listOf(rest, source.prefix)}`.split('\0').filter(Boolean),
  };
}

const batchOf = (...paths: string[]): Batch => new Map(paths.map((path) => [path, GONE]));
const scopesOf = (...paths: string[]) => paths.map((path): [string, Scope] => [path, 'gone']);

describe('what is gone', () => {
  test('is deleted by name, and of where it was only the attributes are mirrored', async () => {
    using directory = scratch();
    mkdirSync(join(directory.path, 'd'));
    const batch: Batch = new Map([...batchOf('d/a', 'b'), ['d/c', GONE_DIRECTORY]]);
    const scopes: [string, Scope][] = [...scopesOf('d/a', 'd/c', 'b'), ['d/x', 'entry']];
    expect(await remove(directory.path, batch, scopes)).toEqual({
      asked: ['fd/a', 'dd/c', 'fb'],
      counted: [3, 3],
      isUntouched: false,
      list: ['./d/x', './d', './b'],
    });
    const some = await remove(directory.path, batch, scopes, { left: [0] });
    expect(some.list).toEqual(['./d/', './d/x', './d', './b']);
    const unknown = await remove(directory.path, batch, scopes, { answers: false });
    expect(unknown).toMatchObject({ counted: [3, 3], isUntouched: true });
  });

  test('is deleted by name, too, where it is a directory without any file below it, as long as it is one', async () => {
    using directory = scratch();
    for (const name of ['d/hollow/deep', 'top', 'filled']) mkdirSync(join(directory.path, name), { recursive: true });
    writeFileSync(join(directory.path, 'filled/x'), '');
    const RSYNC_OPTS = '-am --delete';
    const scopes: [string, Scope][] = ['d/hollow', 'top', 'filled'].map((it) => [it, 'hollow']);
    const { asked, list } = await remove(directory.path, new Map(), scopes, { RSYNC_OPTS });
    expect(asked).toEqual(['dd/hollow', 'dtop']);
    expect(list).toEqual(['./.rsync-inotify-nothing', './d']); // not ./top, or rsync would make it
    const withRule = { RSYNC_OPTS: `${RSYNC_OPTS} --exclude=*.tmp` };
    expect(await remove(directory.path, new Map(), scopes, withRule)).toMatchObject({ asked: [], isUntouched: true });
    const mounted = { RSYNC_OPTS, mounted: ['d/hollow/deep', 'top'] };
    expect(await remove(directory.path, new Map(), scopes, mounted)).toMatchObject({ asked: [], isUntouched: true });
  });

  const untouched: [string, Batch, [string, Scope][], Circumstances][] = [
    ['it is there', batchOf('there'), scopesOf('there'), {}],
    ['it lies in what is looked through', batchOf('d/a'), [...scopesOf('d/a'), ['d', 'tree']], {}],
    ['no event has told it', new Map([['a', change()]]), scopesOf('a'), {}],
    ['its directory is what is gone', batchOf('x/a'), scopesOf('x'), {}],
    ['it is in doubt', new Map([['a', { ...GONE, ...TREE, kind: 'delete' }]]), scopesOf('a'), {}],
    ['something is mounted around it', batchOf('d/a'), scopesOf('d/a'), { mounted: ['d'] }],
    ['its copy stays', batchOf('a'), scopesOf('a'), { kept: ['a'] }],
    ['deletions are held', batchOf('a'), scopesOf('a'), { isHolding: true }],
    ['the source is named by what it lies in', batchOf('a'), scopesOf('a'), { slash: '' }],
    ...['-a', '-a --delete -b', '-a --delete -x', '-a --delete --max-delete=9', '-a --delete --exclude=a'].map(
      (RSYNC_OPTS): [string, Batch, [string, Scope][], Circumstances] => [
        RSYNC_OPTS,
        batchOf('a'),
        scopesOf('a'),
        { RSYNC_OPTS },
      ],
    ),
    [
      'a rule may be about what is in a directory',
      new Map([['c', GONE_DIRECTORY]]),
      scopesOf('c'),
      { RSYNC_OPTS: '-a --delete --exclude=*.log' },
    ],
  ];
  test.each(untouched)('is left to rsync where %s', async (_, batch, scopes, circumstances) => {
    using directory = scratch();
    mkdirSync(join(directory.path, 'd'));
    writeFileSync(join(directory.path, 'there'), '');
    expect(await remove(directory.path, batch, scopes, circumstances)).toMatchObject({ asked: [], isUntouched: true });
  });

  test('is not looked for in another directory in the place of the source', async () => {
    using directory = scratch();
    const root = join(directory.path, 'source');
    mkdirSync(root);
    const source = new Source(`${root}/`);
    renameSync(root, `${root}.old`);
    mkdirSync(root);
    const removals = new Removals({
      host: hostFor({ RSYNC_OPTS: '-a --delete' }),
      source,
      mounts: { mounted: [], refresh: () => {}, isKept: () => false },
      state: { name: 'backup', unmirrored: new Unmirrored(), voice: aloud() },
    } as never);
    expect(removals.find(batchOf('a'), new Map(scopesOf('a')))).toEqual([]);
  });
});

test('where a directory is looked through anyway, that stays', () => {
  const scopes: Scopes = new Map([
    ['d/a', 'gone'],
    ['d', 'tree'],
  ]);
  expect([...withoutRemoved(scopes, [{ path: 'd/a', isDirectory: false }])]).toEqual([['d', 'tree']]);
});
