import { expect, test } from 'bun:test';
import fc from 'fast-check';
import { type Life, Lookup } from '../../../src/backup/history-lookup.ts';
import { type Move, Moves } from '../../../src/backup/history-moves.ts';

const NAMES = ['a', 'b', 'd/a', 'd/b', 'e/a'];
const name = fc.constantFrom(...NAMES);
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), path: name }),
  fc.record({ kind: fc.constant('delete' as const), path: name }),
  fc.record({
    kind: fc.constant('move' as const),
    path: fc.constantFrom('a', 'd', 'd/b'),
    to: fc.constantFrom('b', 'f', 'e/a'),
  }),
);

/** A naive model: the tree at each time, and what a history would have of it. */
function play(steps: { kind: string; path: string; to?: string }[]) {
  const tree = new Map<string, { id: number; born: number }>();
  const lives: Life<number>[] = [];
  const moves: Move[] = [];
  const states = [new Map<string, number>()];
  const end = (path: string, until: number) => {
    const file = tree.get(path);
    if (!file) return;
    lives.push({ path, born: file.born, until, isExact: true, origin: file.id });
    tree.delete(path);
  };
  steps.forEach(({ kind, path, to = '' }, n) => {
    const now = 10 * (n + 1);
    if (kind === 'write' || kind === 'delete') end(path, now);
    const below = kind === 'write' ? [...tree.keys()].filter((it) => it.startsWith(`${path}/`)) : [];
    for (const it of below) end(it, now); // a file takes the place of a directory
    if (kind === 'write') tree.set(path, { id: n, born: now });
    if (kind === 'move') {
      const inside = [...tree].filter(([it]) => it === path || it.startsWith(`${path}/`));
      const isFree = ![...tree.keys()].some((it) => it.startsWith(`${to}/`)) || tree.has(to);
      if (inside.length > 0 && isFree && !(tree.has(to) && !tree.has(path)) && !to.startsWith(path)) {
        end(to, now);
        for (const [it] of inside) tree.delete(it);
        for (const [it, file] of inside) tree.set(to + it.slice(path.length), file);
        moves.push({ time: now + 1, from: path, to });
      }
    }
    states.push(new Map([...tree].map(([it, { id }]) => [it, id])));
  });
  for (const [path, { id, born }] of tree)
    lives.push({ path, born, until: Number.POSITIVE_INFINITY, isExact: true, origin: id });
  return { lives, moves, states };
}

test('what was at a path at a time is found, through renames of files and directories', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
      const { lives, moves, states } = play(steps);
      for (let n = 0; n <= steps.length; n++) {
        const lookup = new Lookup<number>(10 * n + 5, moves);
        for (const life of lives) lookup.add(life);
        const found = new Map([...lookup.chosen()].map(({ path, origin }) => [path, origin]));
        expect([...found].sort()).toEqual([...(states[n] ?? [])].sort());
      }
    }),
  );
});

test('renames are undone one after the other, the last one first, also those of the same time', () => {
  const moves = new Moves([
    { time: 3, from: 'c', to: 'd' },
    { time: 2, from: 'a', to: 'c/x' },
    { time: 5, from: 'd/x/f', to: 'g' },
    { time: 5, from: 'g', to: 'h' },
  ]);
  expect(moves.before('d/x/f', 5)).toBe('a/f');
  expect(moves.before('d/x/f', 3)).toBe('d/x/f');
  expect(moves.before('dd', 9)).toBe('dd');
  expect(moves.before('h', 9)).toBe('a/f');
});

test('what was received meanwhile was not in place before the former version was replaced', () => {
  const lookup = new Lookup<string>(15, []);
  lookup.add({ path: 'a', born: 12, until: Number.POSITIVE_INFINITY, isExact: true, origin: 'new' });
  lookup.add({ path: 'a', born: 1, until: 20, isExact: true, origin: 'old' });
  expect(lookup.find('a')?.origin).toBe('old');
});

test('what is not known is said', () => {
  const lookup = new Lookup<string>(15, []);
  lookup.add({ path: 'copy', born: undefined, until: 20, isExact: true, origin: 'x' });
  lookup.addFormer({ path: 'gap', born: 1, until: 10, isExact: true, origin: 'y' });
  lookup.add({ path: 'sure', born: 12, until: 30, isExact: true, origin: 'z' });
  lookup.addFormer({ path: 'sure', born: 1, until: 10, isExact: true, origin: 'y' });
  expect([...lookup.chosen()].map(({ path, doubt }) => [path, doubt])).toEqual([
    ['copy', 'unborn'],
    ['gap', 'thinned'],
    ['sure', undefined],
  ]);
});
