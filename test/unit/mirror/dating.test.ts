import { beforeEach, describe, expect, test } from 'bun:test';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import { Dating, isUntold } from '../../../src/mirror/dating.ts';
import type { Kind } from '../../../src/mirror/events.ts';
import { change, event } from './stand-ins.ts';

/** The time and the clock of what waits stand one million apart. */
let now = 0;
let dating: Dating;
beforeEach(() => {
  now = 1_001_000;
  dating = new Dating(
    () => now,
    () => now - 1_000_000,
  );
});

const batch = (changes: Record<string, Partial<Change>> = {}): Batch =>
  new Map(Object.entries(changes).map(([path, known]) => [path, change(known)]));
const after = (kind: Kind, waiting: Batch = batch(), isDirectory = false, mayHoldMore = false) =>
  dating.after('a', event(kind, { isDirectory }), [waiting], mayHoldMore);

/** Lets syncs of these batches come and go, each at a time of its own. */
function sync(...batches: [at: number, batch: Batch][]): void {
  for (const [at, it] of batches) {
    now = at;
    dating.begin(it);
    now += 100;
    dating.end();
  }
  now += 1000;
}

describe('size and time do not say what a file holds', () => {
  test('that has come in the place of another one, but for one that was written since the sync before the last', () => {
    sync([1_002_000, batch()], [1_003_000, batch({ b: {} })]);
    expect(after('moved_to')).toBe(1_002_000);
  });

  test('that has come in the place of one that the last sync was about, but for one that was written since', () => {
    sync([1_002_000, batch()], [1_003_000, batch({ a: {} })]);
    expect(after('moved_to')).toBe(1_003_000);
    sync([1_005_000, batch({ '': { tree: true } })]);
    expect(after('moved_to')).toBe(1_005_000);
  });

  test('that has come in the place of one that went beside a sync, until another sync was about that', () => {
    dating.beginBeside(['a', 'b/c']);
    sync([1_002_000, batch()], [1_003_000, batch({ d: {} })]);
    expect(after('moved_to')).toBe(now);
    expect(dating.after('b', event('moved_to', { isDirectory: true }), [batch({ 'b/c': {} })], false)).toBe(now);
    sync([1_005_000, batch({ a: {} })], [1_006_000, batch()]);
    expect(after('moved_to')).toBe(1_005_000);
    dating.beginBeside(['a']);
    sync([1_007_000, batch({ '': { tree: true } })]);
    expect(after('moved_to')).toBe(1_007_000);
  });

  test('that has changed before while a sync was under way or just over, which may have seen that', () => {
    const waiting = batch({ a: { kind: 'moved_to', at: 3_050 } });
    sync([1_002_000, batch()]);
    now = 1_003_000;
    dating.begin(batch());
    now = 1_003_060;
    expect(after('moved_to', waiting)).toBe(1_003_050);
    dating.end();
    now = 1_003_100;
    expect(after('moved_to', waiting)).toBe(1_003_050);
    now = 1_009_000;
    expect(after('moved_to', waiting)).toBe(1_002_000);
  });

  test('that was made where the target may have one', () => {
    expect(after('create')).toBe(0);
    expect(after('create', batch({ a: { kind: 'delete' } }))).toBeGreaterThan(0);
    expect(after('create', batch(), false, true)).toBeGreaterThan(0);
  });

  test('whose time may have been put back after it was written, but not one of which the target has nothing', () => {
    const rewritten = [batch({ a: { kind: 'modify' } }), batch({ a: { kind: 'close_write' } })];
    for (const waiting of rewritten) expect(after('attrib', waiting)).toBeGreaterThan(0);
    for (const kind of ['attrib', 'create', 'delete'] as const) expect(after('attrib', batch({ a: { kind } }))).toBe(0);
    expect(after('attrib', batch({ a: { kind: 'modify', fresh: true } }))).toBe(0);
    expect(after('attrib', batch({ a: { kind: 'modify', fresh: true, dated: 1 } }))).toBeGreaterThan(0);
    expect(after('attrib', rewritten[0], true)).toBe(0);
  });

  test('whose time may have been put back while the sync of what was written was under way or just over, but not later', () => {
    now = 1_002_000;
    dating.begin(batch({ a: { kind: 'close_write' } }));
    expect(after('attrib')).toBe(1_002_000);
    dating.end();
    expect(after('attrib')).toBe(1_002_000);
    now += 6000;
    expect(after('attrib')).toBe(0);
  });

  test('that was made anew after what had gone, where the sync may have seen the new one that was about the old one', () => {
    now = 1_002_000;
    dating.begin(batch({ a: { kind: 'delete' }, 'd/e': { kind: 'delete' } }));
    const isIt = () => [
      after('create') > 0,
      dating.after('d', event('moved_to', { isDirectory: true }), [], false) > 0,
    ];
    expect(isIt()).toEqual([true, true]);
    dating.end();
    now += 4000;
    expect(isIt()).toEqual([true, true]);
    now += 2000;
    expect(isIt()).toEqual([false, false]);
  });

  test('that was written before it was tried, or renamed, and its time put back after that', () => {
    for (const kind of [undefined, 'moved_to'] as const)
      expect(after('attrib', batch({ a: { kind, shared: true } }))).toBeGreaterThan(0);
    expect(after('attrib', batch({ a: { kind: 'attrib', shared: true } }))).toBe(0);
  });

  test('below a directory that has taken the place of what was there, and not of nothing', () => {
    expect(after('moved_to', batch(), true)).toBe(0);
    expect(after('moved_to', batch({ ab: {} }), true)).toBe(0);
    for (const path of ['a', 'a/b']) expect(after('moved_to', batch({ [path]: {} }), true)).toBeGreaterThan(0);
    const many = Object.fromEntries(Array.from({ length: 1001 }, (_, n) => [`x${n}`, {}]));
    expect(after('moved_to', batch(many), true)).toBeGreaterThan(0);
  });

  test('below a directory that was exchanged for another one: it comes, and then seems to go', () => {
    expect(after('moved_from', batch({ a: { kind: 'moved_to' } }), true)).toBeGreaterThan(0);
    expect(after('moved_from', batch({ a: { kind: 'create' } }), true)).toBe(0);
  });

  test('in no other case', () => {
    for (const kind of ['modify', 'close_write', 'delete', 'moved_from'] as const)
      expect(after(kind, batch({ a: { kind: 'modify' } }), false, true)).toBe(0);
  });
});

test('the time of a file tells nothing if it is no later than what is known, or still to come', () => {
  const is = (mtimeMs: number, dated: number) => isUntold({ mtimeMs }, dated, 2000);
  expect([is(1000, 1000), is(1500, 1000), is(2500, 1000)]).toEqual([true, false, true]);
  expect([is(1000, 0), is(2500, 0)]).toEqual([false, false]);
});
