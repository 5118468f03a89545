import { expect, test } from 'bun:test';
import { Absence, REMIND_MS } from '../../../src/mirror/absence.ts';

test('a target that is away is told of once, then every few minutes, and whenever there is another reason', () => {
  const absence = new Absence();
  const tries: [at: number, reason: string, telling: string][] = [
    [0, '255', 'failure'],
    [1000, '255', 'retry'],
    [3000, '255', 'nothing'],
    [7000, '255', 'nothing'],
    [1000 + REMIND_MS - 1, '255', 'nothing'],
    [1000 + REMIND_MS, '255', 'reminder'],
    [1001 + REMIND_MS, '255', 'nothing'],
    [1002 + REMIND_MS, 'host key', 'failure'],
    [1003 + REMIND_MS, '255', 'nothing'],
    [1002 + 2 * REMIND_MS, 'host key', 'reminder'],
  ];
  for (const [at, reason, telling] of tries) expect([at, absence.note(reason, at)]).toEqual([at, telling as 'retry']);
});

test('when it is back, it is told for how long it was away: since the connection was lost, if a sync has noticed', () => {
  const absence = new Absence();
  absence.begin(1000);
  expect(absence.isKnown).toBe(false);
  expect(absence.end(5000)).toBeUndefined();
  absence.begin(10_000);
  absence.note('255', 20_000);
  absence.note('255', 21_000);
  expect(absence.isKnown).toBe(true);
  expect(absence.secondsAt(40_000)).toBe(30);
  expect(absence.end(45_000)).toEqual({ seconds: 35, tries: 2 });
  expect(absence.isKnown).toBe(false);
  expect(absence.note('255', 50_000)).toBe('failure'); // all is told anew
  expect(absence.end(52_000)).toEqual({ seconds: 2, tries: 1 });
});

test('reasons without end are not all told', () => {
  const absence = new Absence();
  const told = Array.from({ length: 1000 }, (_, n) => absence.note(`reason ${n}`, n));
  expect(told.filter((it) => it === 'failure').length).toBe(20);
});
