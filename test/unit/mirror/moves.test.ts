import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import type { Stats } from 'node:fs';
import fc from 'fast-check';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import { identityOf, MAX_MOVES, type Move, Moves, replacedBelow } from '../../../src/mirror/moves.ts';
import { contentsOf, Model } from './model.ts';
import { change, keepLog, statsOf } from './stand-ins.ts';

setDefaultTimeout(60_000);

/** A rename of a thing that is known by its inode. */
const move = (from: string, to: string, ino = 1, more: Partial<Move> = {}): Move => ({
  ...{ from, to, cookie: `${from}>${to}`, identity: `1:${ino}` },
  ...more,
});
/** Looks into a source that holds things at paths. */
const looking = (things: Record<string, Stats>) => (path: string) => things[path];
const lacking = (changes: Record<string, Partial<Change>> = {}): Batch[] => [
  new Map(Object.entries(changes).map(([path, known]) => [path, change(known)])),
];
const pairs = (moves: Iterable<Pick<Move, 'from' | 'to'>>) => [...moves].map(({ from, to }) => `${from} > ${to}`);
const add = (...all: Move[]) => {
  const moves = new Moves();
  for (const each of all) moves.add(each);
  return moves;
};
const FILE = statsOf();
const DIRECTORY = statsOf({ type: 'directory' });

test('a thing is known by its device and its inode', () => {
  expect(identityOf({ dev: 3, ino: 14 })).toBe('3:14');
  expect(identityOf({ dev: 3n, ino: 9_007_199_254_740_993n })).toBe('3:9007199254740993');
});

describe('renames that wait', () => {
  test('are one where a thing was renamed several times, in the place of the last', () => {
    expect(pairs(add(move('a', 'b'), move('x', 'y'), move('b', 'c'), move('c', 'd')).values())).toEqual([
      'x > y',
      'a > d',
    ]);
  });

  test('are none where a thing is back in its place', () => {
    expect(pairs(add(move('a', 'b'), move('b', 'a')).values())).toEqual([]);
  });

  test('are none where two things were exchanged: the second one is not the first one that goes on', () => {
    expect(pairs(add(move('x', 'a', 1), move('a', 'b', 1), move('b', 'a', 2)).values())).toEqual([]);
  });

  test('give way to what takes their place', () => {
    expect(pairs(add(move('a', 'c'), move('b', 'c')).values())).toEqual(['b > c']);
    expect(pairs(add(move('a', 'c'), move('x', 'y'), move('b', 'c')).values())).toEqual(['x > y', 'b > c']);
  });

  test('of a thing that was renamed before remember what was under way at its first rename', () => {
    const exposed = { isExposed: true, isMixed: true };
    const [kept] = add(move('a', 'b', 1, exposed), move('b', 'c')).values();
    expect(kept).toMatchObject({ from: 'a', to: 'c', cookie: 'b>c', isExposed: true, isMixed: true });
    const [late] = add(move('a', 'b'), move('b', 'c', 1, exposed)).values();
    expect(late).toMatchObject({ isExposed: true, isMixed: undefined });
  });

  test('are forgotten when something else comes there, but not when they are told twice', () => {
    const moves = add(move('a', 'b'), move('x', 'y'));
    moves.forget('b', 'a>b');
    moves.forget('nothing', '7');
    expect(pairs(moves.values())).toEqual(['a > b', 'x > y']);
    moves.forget('b', '7');
    expect(pairs(moves.values())).toEqual(['x > y']);
  });

  test('are no more than a number: what is renamed beyond is sent', () => {
    const moves = new Moves();
    for (let n = 0; n <= MAX_MOVES; n++) moves.add(move(`from ${n}`, `to ${n}`));
    expect(moves.size).toBe(MAX_MOVES);
    expect(moves.has(`to ${MAX_MOVES}`)).toBe(false);
    moves.add(move('to 0', 'again')); // one of them was renamed once more
    expect(pairs([moves.get('again') as Move])).toEqual(['from 0 > again']);
  });

  test('that came to nothing are put back before newer ones, and an rsync has been under way since', () => {
    const moves = add(move('b', 'c'), move('y', 'z'));
    moves.restore([move('a', 'b', 1, { isMixed: true }), move('m', 'n')]);
    expect(pairs(moves.values())).toEqual(['m > n', 'a > c', 'y > z']);
    expect([...moves.values()].map(({ isExposed }) => !!isExposed)).toEqual([true, true, false]);
    expect(moves.get('c')).toMatchObject({ cookie: 'b>c', isMixed: true });
    const after = add(move('b', 'c'));
    after.restore([move('c', 'd')]); // two things, one behind the other
    expect(pairs(after.values())).toEqual(['c > d', 'b > c']);
  });
});

describe('renames that are handed out', () => {
  test('are handed out once, in their order, whatever the kind of thing', () => {
    const link = statsOf({ type: 'link', ino: 3 });
    const moves = add(move('a', 'b'), move('d', 'e', 2), move('l', 'm', 3));
    const look = looking({ b: FILE, e: statsOf({ type: 'directory', ino: 2 }), m: link });
    expect(pairs(moves.take(look, lacking()))).toEqual(['a > b', 'd > e', 'l > m']);
    expect(moves.take(look, lacking())).toEqual([]);
  });

  test('lead to the very thing: not to nothing, not to another one, not to what was not found at the time', () => {
    const look = looking({ b: FILE });
    expect(pairs(add(move('a', 'b', 1)).take(look, lacking()))).toEqual(['a > b']);
    expect(add(move('a', 'b', 2)).take(look, lacking())).toEqual([]);
    expect(add(move('a', 'b', 1, { identity: undefined })).take(look, lacking())).toEqual([]);
    expect(add(move('a', 'gone', 1)).take(look, lacking())).toEqual([]);
  });

  test('lead away from where the thing is not any more: nothing is there, or something else has come', () => {
    const from = (known?: Partial<Change>) =>
      add(move('a', 'b')).take(looking({ a: statsOf({ ino: 2 }), b: FILE }), lacking(known ? { a: known } : {})).length;
    expect(from({ kind: 'create' })).toBe(1);
    expect(from({ kind: 'moved_to' })).toBe(1);
    expect(from({ kind: 'moved_from' })).toBe(0);
    expect(from({ kind: undefined })).toBe(0);
    expect(from()).toBe(0);
  });

  test('are not exposed to an rsync that may have put into the old place what has come there since', () => {
    const exposed = add(move('a', 'b', 1, { isExposed: true }), move('c', 'd', 1, { isExposed: true }));
    const known = lacking({ a: { kind: 'create', replaced: true }, c: { kind: 'moved_from' } });
    expect(pairs(exposed.take(looking({ a: FILE, b: FILE, d: FILE }), known))).toEqual(['c > d']);
    expect(pairs(add(move('a', 'b')).take(looking({ a: FILE, b: FILE }), known))).toEqual(['a > b']);
  });

  test('are no directories below which something may have taken the place of another thing, before or after', () => {
    const take = (known: Record<string, Partial<Change>>, more: Partial<Move> = {}, thing = DIRECTORY) =>
      add(move('d', 'e', 1, more)).take(looking({ e: thing }), lacking(known)).length;
    const replaced = { kind: 'attrib', replaced: true } as const;
    expect(take({ e: replaced, d: { kind: 'moved_from' }, 'x/y': replaced })).toBe(1); // the directory itself is known
    expect(take({ 'd/x': replaced })).toBe(0);
    expect(take({ 'd/f/x': replaced })).toBe(0);
    expect(take({ 'e/x': replaced })).toBe(0);
    expect(take({ 'e/x': { kind: 'modify' } })).toBe(1);
    expect(take({}, { isMixed: true })).toBe(0);
    expect(take({ 'e/x': replaced }, { isMixed: true }, FILE)).toBe(1);
  });

  test('leave out one of a circle, and keep what merely follows another', () => {
    const swap = add(move('a', 't', 1), move('b', 'a', 2), move('t', 'b', 1));
    const look = looking({ a: statsOf({ ino: 2 }), b: statsOf({ ino: 1 }) });
    const known = lacking({ a: { kind: 'moved_to' }, b: { kind: 'moved_to' } });
    expect(pairs(swap.take(look, known))).toEqual(['a > b']);
    const chain = add(move('b', 'c', 2), move('a', 'b', 1));
    const after = looking({ b: statsOf({ ino: 1 }), c: statsOf({ ino: 2 }) });
    expect(pairs(chain.take(after, known))).toEqual(['b > c', 'a > b']);
  });
});

test('what may have taken the place of another thing concerns all directories above it', () => {
  const batches = [...lacking({ 'a/b/c': { replaced: true }, 'x/y': {} }), ...lacking({ z: { replaced: true } })];
  expect([...replacedBelow(batches)].sort()).toEqual(['', 'a', 'a/b']);
  expect([...replacedBelow(lacking({ 'x/y': {} }))]).toEqual([]);
});

describe('on a tree of a model', () => {
  const PATHS = ['a', 'b', 'd/', 'd/x', 'd/y', 'd/f/', 'd/f/x', 'e/'];
  const path = fc.constantFrom(
    ...['a', 'b', 'c', 'd', 'e', 'd/x', 'd/y', 'e/x', 'e/y', 'd/f', 'e/f', 'd/f/x', 'e/f/x', 'd/e', 'd/e/x'],
  );
  type Step = (model: Model) => unknown;
  const steps = {
    rename: fc.tuple(path, path).map(
      ([from, to]): Step =>
        (model) =>
          model.rename(from, to),
    ),
    write: fc.tuple(path, fc.boolean()).map(
      ([file, isOld]): Step =>
        (model) =>
          model.write(file, isOld),
    ),
    makeDirectory: path.map(
      (it): Step =>
        (model) =>
          model.makeDirectory(it),
    ),
    remove: path.map(
      (it): Step =>
        (model) =>
          model.remove(it),
    ),
    begin: fc.constant<Step>((model) => model.begin()),
    copy: fc.integer({ min: 1, max: 4 }).map(
      (count): Step =>
        (model) =>
          model.copy(count),
    ),
    end: fc.boolean().map(
      (isDone): Step =>
        (model) =>
          model.end(isDone),
    ),
    watchAnew: fc.constant<Step>((model) => model.watchAnew()),
  };
  const several = (weights: Partial<Record<keyof typeof steps, number>>) =>
    fc.array(
      fc.oneof(
        ...Object.entries(weights).map(([name, weight]) => {
          return { weight, arbitrary: steps[name as keyof typeof steps] };
        }),
      ),
      { minLength: 2, maxLength: 14 },
    );

  /** Lets things happen, and mirrors what is left; returns how often the backup had what it was asked to rename. */
  async function play(happenings: Step[]): Promise<number> {
    const model = new Model(PATHS);
    await model.watchAnew();
    for (const step of happenings) await step(model);
    await model.finish();
    const done = model.moves.filter(({ had }) => had !== undefined);
    for (const { move: told, had, has } of done) expect({ told, had }).toEqual({ told, had: has });
    expect(contentsOf(model.backup)).toEqual(contentsOf(model.source));
    return done.length;
  }

  async function check(happenings: fc.Arbitrary<Step[]>): Promise<void> {
    using _ = keepLog();
    let done = 0;
    const property = fc.asyncProperty(happenings, async (all) => {
      done += await play(all);
    });
    await fc.assert(property, { numRuns: 1500 });
    expect(done).toBeGreaterThan(500); // the model asks for renames indeed
  }

  test('renames lead from where the backup has a thing to where the source has it, and nothing is lost or misplaced', () =>
    check(several({ rename: 8, write: 2, makeDirectory: 1, remove: 1 })));

  test('the same while rsyncs are under way, fail halfway, and watchers take each other’s place', () =>
    check(several({ rename: 8, write: 2, makeDirectory: 1, remove: 1, begin: 2, copy: 2, end: 2, watchAnew: 1 })));

  // The source has had the time of what it replaces put back: the backup must not have renamed what rsync then takes for it.
  test('a file that was renamed and then written, with its old time, is sent', async () => {
    using _ = keepLog();
    await play([(model) => model.rename('a', 'c'), (model) => model.write('c', true)]);
  });
});
