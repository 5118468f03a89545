import { describe, expect, test } from 'bun:test';
import type { Move } from '../../../src/mirror/moves.ts';
import type { Outcome, OutcomeKind } from '../../../src/mirror/rsync.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { change, event, keepLog, outcome, statsOf } from './stand-ins.ts';

const NAME = 'root@backup:/data/backup/';

describe('the outcome of a sync', () => {
  const STATUSES: Record<OutcomeKind, number> = { done: 0, partial: 23, limited: 25, unreachable: 255, failed: 12 };
  /** Whether the target can be reached afterwards, `as before` where that is not known; whether it is tried again; how it is counted. */
  const TABLE: [kind: OutcomeKind, up: boolean | 'as before', failing: boolean, counted: 'success' | 'failure'][] = [
    ['done', true, false, 'success'],
    ['partial', true, true, 'failure'],
    ['limited', true, false, 'failure'],
    ['unreachable', false, true, 'failure'],
    ['failed', 'as before', true, 'failure'],
  ];
  const rows = TABLE.flatMap((row) => [false, true].map((before) => [...row, before] as const));

  test.each(rows)('%s: up %p, failing %p, a %s, where it was up before: %p', (kind, up, failing, counted, before) => {
    const state = new TargetState(NAME, false);
    state.up = before;
    state.begin(new Map([['a', change()]]));
    state.progress = { percent: 1, files: 1, bytes_per_second: 1, scanning: false };
    expect([state.syncing, state.pending]).toEqual([true, 1]);
    const told: Outcome[] = [];
    state.on('synced', (it) => told.push(it));
    const result = outcome({ kind, status: STATUSES[kind], bytes: 1000 });
    state.record(result);
    expect(state.up).toBe(up === 'as before' ? before : up);
    expect(state.failingSince !== undefined).toBe(failing);
    expect(state.syncs.full).toEqual({ success: 0, failure: 0 });
    expect(state.syncs.incremental).toEqual({
      success: Number(counted === 'success'),
      failure: Number(counted === 'failure'),
    });
    expect(state.lastStatus).toBe(STATUSES[kind]);
    expect(state.lastSuccess === null).toBe(counted === 'failure');
    expect([state.syncing, state.pending]).toEqual([false, 0]);
    expect(state.progress).toBeNull();
    expect(told).toEqual([result]);
  });

  test('is added up, by what was compared', () => {
    const state = new TargetState(NAME, false);
    state.record(outcome({ mode: 'full', bytes: 1000 }));
    state.record(outcome({ bytes: 35 }));
    state.record(outcome({ kind: 'failed', status: null }));
    const { syncs, bytes, last_exit_code, history } = state.report();
    expect(syncs).toEqual({ full: { success: 1, failure: 0 }, incremental: { success: 1, failure: 1 } });
    expect([bytes, last_exit_code]).toEqual([1035, null]);
    expect(history).toHaveLength(60);
    const sum = (of: 'syncs' | 'failures' | 'bytes') => history.reduce((total, minute) => total + minute[of], 0);
    expect([sum('syncs'), sum('failures'), sum('bytes')]).toEqual([3, 1, 1035]);
    expect(history.slice(0, 57)).toEqual(Array(57).fill({ syncs: 0, failures: 0, bytes: 0 }));
  });
});

test('the state is told by the first word that fits', () => {
  const state = new TargetState(NAME, false);
  const word = () => state.report().state;
  expect(word()).toBe('down');
  state.up = true;
  expect(word()).toBe('idle');
  state.note('a', event('delete'), undefined);
  expect(word()).toBe('waiting');
  state.failingSince = 1000;
  expect(word()).toBe('retrying');
  state.up = false;
  expect(word()).toBe('down');
  state.begin(new Map());
  expect(word()).toBe('syncing');
  state.promote();
  expect(word()).toBe('promoted');
});

test('what is lacking is what waits, what is on its way and what has failed, since the oldest of it', () => {
  const state = new TargetState(NAME, false);
  expect([state.pending, state.oldestPending, state.report().oldest_pending]).toEqual([0, undefined, null]);
  state.changes.add(
    new Map([
      ['a', change({ since: 300 })],
      ['b', change({ since: 200 })],
    ]),
  );
  state.failed.add(new Map([['c', change({ since: 10 })]]));
  state.begin(
    new Map([
      ['d', change({ since: 100 })],
      ['e', change()],
    ]),
  );
  expect(state.pending).toBe(5);
  /** The oldest, ms on the clock of `performance.now()`, give or take what the two clocks differ by. */
  const oldest = () => (state.oldestPending ?? 0) - Date.now() + performance.now();
  expect(oldest()).toBeWithin(5, 15);
  expect(Date.parse(state.report().oldest_pending ?? '') - (state.oldestPending ?? 0)).toBeWithin(-2, 3);
  state.failed.take(0);
  expect(oldest()).toBeWithin(95, 105);
});

test('what is made again while it is on its way, or after it has failed, may take the place of another thing', () => {
  const state = new TargetState(NAME, false);
  state.begin(new Map([['sent', change()]]));
  state.failed.add(new Map([['failed', change()]]));
  state.beginBeside(new Map([['beside', change()]]));
  state.withhold(new Map([['withheld', change()]]));
  for (const path of ['new', 'sent', 'failed', 'beside', 'withheld']) state.note(path, event('create'), statsOf());
  const replaced = [...state.changes.waiting].map(([path, it]) => [path, it.replaced]);
  expect(replaced).toEqual([
    ['new', false],
    ['sent', true],
    ['failed', true],
    ['beside', true],
    ['withheld', true],
  ]);
  expect(state.pending).toBe(9);
  state.endBeside(new Map());
  expect(state.pending).toBe(7);
});

describe('a rename', () => {
  const move: Move = { from: 'd/a', to: 'b', cookie: '7', identity: '1:1' };
  const stateWith = (place: 'waiting' | 'sent' | 'failed', path: string, known: object) => {
    const state = new TargetState(NAME, false);
    state.mirrored = true;
    const batch = new Map([[path, change(known)]]);
    if (place === 'waiting') state.changes.add(batch);
    else if (place === 'failed') state.failed.add(batch);
    else state.begin(batch);
    state.noteMove(move);
    return state;
  };

  test.each(['waiting', 'sent', 'failed'] as const)('is noted where it is certain what the target has: %s', (place) => {
    const isNoted = (path: string, known: object) => stateWith(place, path, known).moves.has('b');
    expect(isNoted('d/a', { kind: 'modify' })).toBe(true);
    expect(isNoted('other', { replaced: true, tree: true })).toBe(true);
    expect(isNoted('b', { replaced: true, tree: true })).toBe(true);
    expect(isNoted('d', { replaced: true })).toBe(true);
    expect(isNoted('d/a', { replaced: true })).toBe(false); // the target has something else there
    for (const path of ['d/a', 'd', '']) expect(isNoted(path, { tree: true })).toBe(false); // or perhaps nothing
  });

  test('is noted only where the target has been compared as a whole', () => {
    const state = new TargetState(NAME, false);
    state.noteMove(move);
    expect(state.moves.size).toBe(0);
    state.mirrored = true;
    state.noteMove(move);
    expect(state.moves.get('b')).toMatchObject({ ...move, isExposed: false, isMixed: false });
  });

  test('of something that was renamed before is noted, though it has replaced something in between', () => {
    const state = new TargetState(NAME, false);
    state.mirrored = true;
    state.noteMove({ ...move, from: 'd/a', to: 't' });
    state.changes.add(new Map([['t', change({ kind: 'moved_to', replaced: true })]]));
    state.noteMove({ ...move, from: 't', to: 'b' });
    expect(state.moves.get('b')).toMatchObject({ from: 'd/a' });
  });

  test('remembers that a sync is under way, and what that may have put below', () => {
    expect(stateWith('sent', 'd/a/x', { replaced: true }).moves.get('b')).toMatchObject({
      isExposed: true,
      isMixed: true,
    });
    expect(stateWith('sent', 'd/a', {}).moves.get('b')).toMatchObject({ isExposed: true, isMixed: false });
    expect(stateWith('waiting', 'd/a/x', { replaced: true }).moves.get('b')).toMatchObject({
      isExposed: false,
      isMixed: false,
    });
    const next = stateWith('sent', 'd/a/x', { replaced: true });
    next.begin(new Map());
    next.noteMove({ ...move, to: 'c' });
    expect(next.moves.get('c')).toMatchObject({ isMixed: false });
  });
});

describe('an entry of the log', () => {
  const entry = (isOneOfMany: boolean) => {
    using kept = keepLog();
    new TargetState(NAME, isOneOfMany).log('x', '同步成功');
    return kept.text.trimEnd();
  };

  test('names the target where there are others', () => {
    expect(entry(false)).toEndWith(' 同步成功');
    expect(entry(true)).toEndWith(` 同步成功 [${NAME}]`);
  });
});
