import { describe, expect, test } from 'bun:test';
import {
  closeSync,
  type Dirent,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { renameBelow } from '../../../src/backup/renames.ts';

/** A directory by its names, a file by what it holds, a link by where it leads. */
type Node = Map<string, Node> | string;

/** What rename(2) does below a directory when links on the way are no directories, in a model of the directory. */
function renameInModel(root: Map<string, Node>, from: string, to: string): boolean {
  const [source, target] = [from.split('/'), to.split('/')];
  if ([...source, ...target].some((name) => ['', '.', '..'].includes(name))) return false;
  const [sourceName, targetName] = [source.pop() ?? '', target.pop() ?? ''];
  let [sourcePlace, targetPlace]: [Node | undefined, Node] = [root, root];
  for (const name of source) sourcePlace = sourcePlace instanceof Map ? sourcePlace.get(name) : undefined;
  const moved = sourcePlace instanceof Map ? sourcePlace.get(sourceName) : undefined;
  if (!(sourcePlace instanceof Map) || moved === undefined) return false;
  let isIntoItself = false;
  for (const name of target) {
    const next: Node = targetPlace.get(name) ?? new Map();
    if (!(next instanceof Map)) return false;
    targetPlace.set(name, next);
    targetPlace = next;
    isIntoItself ||= next === moved;
  }
  const replaced = targetPlace.get(targetName);
  if (sourcePlace === targetPlace && sourceName === targetName) return true;
  if (isIntoItself || (replaced instanceof Map && replaced.size > 0)) return false;
  if (replaced !== undefined && replaced instanceof Map !== moved instanceof Map) return false;
  sourcePlace.delete(sourceName);
  targetPlace.set(targetName, moved);
  return true;
}

/** A directory as it is on the disk. */
function modelOf(directory: string): Map<string, Node> {
  const nodeOf = (entry: Dirent): Node => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return modelOf(path);
    return entry.isSymbolicLink() ? `-> ${readlinkSync(path)}` : readFileSync(path, 'utf8');
  };
  return new Map(readdirSync(directory, { withFileTypes: true }).map((entry) => [entry.name, nodeOf(entry)]));
}

describe('renameBelow', () => {
  const part = fc.constantFrom('a', 'a', 'a', 'b', 'b', 'c', 'd');
  const plain = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const odd = fc
    .array(fc.constantFrom('a', 'b', 'c', '.', '..', '', 'outside'), { maxLength: 4 })
    .map((parts) => parts.join('/'));
  const path = fc.oneof({ arbitrary: plain, weight: 4 }, odd);
  const target = fc.constantFrom('.', '..', 'a', '../a', '../../outside', '../outside/a', 'TOP/outside', 'TOP/root/a');
  const what = fc.oneof(fc.constant('directory'), fc.constant('file'), target);
  const tree = fc.array(fc.tuple(plain, what), { minLength: 2, maxLength: 12 });

  test('does what rename(2) does where no link is, follows none, and changes nothing outside', () => {
    let renamed = 0;
    const isRight = (entries: [string, string][], moves: [string, string][]) => {
      const top = mkdtempSync(join(tmpdir(), 'start-sshd-test-'));
      const [inside, outside] = [join(top, 'root'), join(top, 'outside')];
      mkdirSync(inside);
      for (const name of ['a', 'b']) mkdirSync(join(outside, 'a', name), { recursive: true });
      writeFileSync(join(outside, 'b'), 'secret');
      for (const [name, kind] of entries) plant(join(inside, name), kind.replace('TOP', top), name);
      const before = modelOf(top);
      const model = before.get('root') as Map<string, Node>;
      const root = openSync(inside, 'r');
      try {
        for (const [from, to] of moves) {
          const isDone = renameInModel(model, from, to);
          expect(renameBelow(root, from, to)).toBe(isDone);
          if (isDone) renamed++;
        }
        expect(modelOf(top)).toEqual(before);
      } finally {
        closeSync(root);
        rmSync(top, { recursive: true });
      }
    };
    const plant = (full: string, kind: string, content: string) => {
      try {
        mkdirSync(kind === 'directory' ? full : dirname(full), { recursive: true });
        if (kind === 'file') writeFileSync(full, content, { flag: 'wx' });
        else if (kind !== 'directory') symlinkSync(kind, full);
      } catch {} // something else is there
    };
    fc.assert(fc.property(tree, fc.array(fc.tuple(path, path), { minLength: 5, maxLength: 20 }), isRight), {
      numRuns: 200,
    });
    expect(renamed).toBeGreaterThan(100);
  }, 30_000);

  test('leaves nothing open', () => {
    const top = mkdtempSync(join(tmpdir(), 'start-sshd-test-'));
    const root = openSync(top, 'r');
    mkdirSync(join(top, 'a'));
    symlinkSync('.', join(top, 'link'));
    const open = () => readdirSync('/proc/self/fd').length;
    const before = open();
    for (const [from, to] of ['a x/y/a', 'x/y/a b', 'b link/c', 'link/b c', 'no/no b', '../x b', 'b x/link/../c'].map(
      (two) => two.split(' ') as [string, string],
    ))
      renameBelow(root, from, to);
    const [after, names] = [open(), readdirSync(top).sort()];
    closeSync(root);
    rmSync(top, { recursive: true });
    expect(after).toBe(before);
    expect(names).toEqual(['b', 'link', 'x']);
  });
});
