import { expect, test } from 'bun:test';
import type { Batch } from '../../../src/mirror/changes.ts';
import { Later } from '../../../src/mirror/later.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { event, passSeconds, withOwnClock } from './stand-ins.ts';

withOwnClock();

function bed() {
  const handed: string[][] = [];
  return { handed, later: new Later((batch: Batch) => handed.push([...batch.keys()])) };
}

test('directories wait for ten seconds after the first of them, and go together', async () => {
  const { handed, later } = bed();
  later.defer(['d']);
  await passSeconds(8);
  later.defer(['d', 'e']);
  expect([handed, [...later.waiting.keys()]]).toEqual([[], ['d', 'e']]);
  await passSeconds(3);
  expect([handed, later.waiting.size]).toEqual([[['d', 'e']], 0]);
  await passSeconds(20);
  later.defer(['f']);
  await passSeconds(11);
  expect(handed).toEqual([['d', 'e'], ['f']]);
});

test('they go at once where somebody waits for them, or where they are many', async () => {
  const { handed, later } = bed();
  later.hasten();
  later.defer(['d']);
  later.hasten();
  later.defer(Array.from({ length: 1001 }, (_, n) => `${n}`));
  await passSeconds(20);
  expect(handed.map(({ length }) => length)).toEqual([1, 1001]);
});

test('those that have gone are forgotten, with what was in them', async () => {
  const { handed, later } = bed();
  later.defer(['d', 'd/sub', 'da', '']);
  later.forget('d');
  await passSeconds(11);
  expect(handed).toEqual([['da', '']]);
  const state = new TargetState('one', false);
  state.later.defer(['d', 'e']);
  for (const [path, kind, isDirectory] of [
    ['d', 'delete', true],
    ['e', 'moved_from', false],
  ] as const)
    state.note(path, event(kind, { isDirectory }), undefined);
  expect([...state.later.waiting.keys()]).toEqual(['e']);
});

test('a target lacks them, since something was seen in them first', async () => {
  const state = new TargetState('one', false);
  await passSeconds(1);
  const seen = performance.now();
  await passSeconds(2);
  state.later.defer(['d'], seen);
  expect(state.later.waiting.get('d')?.since).toBe(seen);
  const since = state.oldestPending;
  await passSeconds(5);
  expect([state.pending, state.changes.size, state.report().state]).toEqual([1, 0, 'down']);
  expect(Math.round(((state.oldestPending ?? 0) - (since ?? 0)) / 1000)).toBe(0);
  await passSeconds(6);
  expect([state.pending, state.changes.waiting.get('d')?.tree]).toEqual([1, false]);
  expect(Math.round(((state.oldestPending ?? 0) - (since ?? 0)) / 1000)).toBe(0);
});
