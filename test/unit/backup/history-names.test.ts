import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { baseOf, doneNameOf, entryOf, isOurs, nameOf, openNameOf, slotOf } from '../../../src/backup/history-names.ts';

const HOUR = 3_600_000;
const time = fc.integer({ min: 0, max: 4_000_000_000_000 });

describe('names', () => {
  test('say when, are in the order of time, and are taken for what they are', () => {
    fc.assert(
      fc.property(time, time, fc.integer({ min: -1e12, max: 1e12 }), (a, b, lag) => {
        const name = nameOf({ time: a, stamp: a + lag });
        expect(entryOf(name)).toEqual({ kind: 'kept', time: a, stamp: a + lag });
        expect(entryOf(`${name}-2`)).toEqual({ kind: 'kept', time: a, stamp: a + lag });
        expect(entryOf(`${name}.moves`)).toEqual({ kind: 'kept', time: a, stamp: a + lag });
        const [one, other] = [nameOf({ time: a, stamp: a }), nameOf({ time: b, stamp: b })];
        expect(one < other).toBe(a < b);
      }),
    );
  });

  test('of what is kept at the moment have the process', () => {
    const name = openNameOf(4711, '83120');
    expect(entryOf(name)).toEqual({ kind: 'open', isDone: false, pid: 4711, start: '83120' });
    expect(entryOf(doneNameOf(name, 1))).toEqual({ kind: 'open', isDone: true, pid: 4711, start: '83120' });
    expect(doneNameOf(`${name}-1.moves`, 2)).toBe('done-4711-83120-1-2.moves');
    expect(baseOf(`${name}.moves`)).toBe(name);
  });

  test.each(['', 'main.ts', '20251009', '20251399T120000.000Z', 'now-', 'now-1', '20251009T120000.000Z/x', '..'])(
    '%s is none',
    (name) => expect(entryOf(name)).toBeUndefined(),
  );

  test('tell whether a directory is ours', () => {
    expect(isOurs([])).toBe(true);
    expect(isOurs(['main.ts'])).toBe(false);
    expect(isOurs(['main.ts', '.start-sshd'])).toBe(true);
    expect(isOurs(['now-1-2', nameOf({ time: 0, stamp: 0 })])).toBe(true);
  });
});

test('all of the last hour is kept, then one an hour, after a day one a day', () => {
  const now = 1_000 * 24 * HOUR + 1;
  expect(slotOf(now - HOUR + 1, now)).toBeUndefined();
  const lengthOf = (stamp: number) => {
    const { from, to } = slotOf(stamp, now) ?? { from: 0, to: 0 };
    expect(from <= stamp && stamp < to).toBe(true);
    return to - from;
  };
  expect(lengthOf(now - HOUR)).toBe(HOUR);
  expect(lengthOf(now - 23 * HOUR)).toBe(HOUR);
  expect(lengthOf(now - 24 * HOUR)).toBe(24 * HOUR);
});
