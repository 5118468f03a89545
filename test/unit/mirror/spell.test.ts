import { describe, expect, test } from 'bun:test';
import { AGAIN_MS, LINES_AT_ONCE, RESERVE, REST_MS, Spell } from '../../../src/mirror/spell.ts';

/** A spell in which the log has no room left, at 0 ms. */
function busySpell(): Spell {
  const spell = new Spell();
  spell.spend(LINES_AT_ONCE, 0);
  return spell;
}

/** How many of so many changes are named, one each `every` ms from `from` on. */
function named(spell: Spell, keys: (n: number) => string, { count, every, from = 0 }: Record<string, number>): number {
  return Array.from({ length: count as number }, (_, n) =>
    spell.tellsChange(keys(n), (from ?? 0) + n * (every as number)),
  ).filter(Boolean).length;
}

describe('a change is named', () => {
  test.each([
    ['each save of a file that is saved every ten seconds for two hours', 720, 10_000, 10, 7200],
    ['sixty saves in a row', 59, 1, 10, 590],
    ['a file that is written all the time, as long as there is room', 100_000, 10, 1, 606],
  ])('%s', (_, times, every, lines, told) => {
    const spell = new Spell();
    let count = 0;
    for (let n = 0; n < times; n++)
      for (let line = 0; line < lines; line++) count += Number(spell.tellsChange('same', n * every));
    // Once in ten minutes in any case.
    expect(count).toBeWithin(told - 5, told + 5);
    expect(spell.total.changes).toBe(times * lines - count);
  });

  test('each save of a file that is saved every thirty seconds for five hours, with what ten targets tell of it', () => {
    const spell = new Spell(10);
    for (let n = 0; n < 600; n++) {
      for (let line = 0; line < 2; line++) spell.tellsChange('same', n * 30_000);
      spell.spend(10 * 8, n * 30_000);
    }
    expect(spell.total.changes).toBe(0);
    spell.spend(10 * LINES_AT_ONCE, 600 * 30_000);
    expect(spell.isBusy).toBe(true);
  });

  test('where there is no room for what is known, if it is new, and not for ever', () => {
    const spell = busySpell();
    expect(named(spell, (n) => `new ${n}`, { count: 1000, every: 0 })).toBe(RESERVE);
    expect(named(spell, (n) => `newer ${n}`, { count: 1000, every: 0, from: 10_000 })).toBe(10); // a line each second
    expect(spell.tellsChange('new 0', 20_000)).toBe(false);
  });

  test('once more when it was told long ago', () => {
    const spell = busySpell();
    const times = [0, 1, AGAIN_MS - 1, AGAIN_MS, AGAIN_MS + 1, 2 * AGAIN_MS];
    const told = times.map((now) => {
      spell.omit({ changes: 1 }, now); // it goes on
      return spell.tellsChange('a', now);
    });
    expect(told).toEqual([true, false, false, true, false, true]);
  });

  test('once while no target can be reached, however much room there is', () => {
    const spell = new Spell();
    spell.isAway = () => true;
    expect(['a', 'a', 'b', 'a', 'b'].map((key) => spell.tellsChange(key, 0))).toEqual([
      true,
      false,
      true,
      false,
      false,
    ]);
    expect(spell.isBusy).toBe(false);
    spell.isAway = () => false;
    expect(spell.tellsChange('a', 0)).toBe(true);
  });
});

test('all is told again once nothing was left out for a while', () => {
  const spell = busySpell();
  spell.tellsChange('a', 0);
  expect(spell.tellsChange('a', 5000)).toBe(false);
  const times = [5001, 5000 + REST_MS - 1, 5000 + REST_MS];
  expect(times.map((now) => spell.isThin(now))).toEqual([true, true, false]);
  expect(spell.tellsChange('a', 5000 + REST_MS)).toBe(true);
});

test('what says the same each time is told without room, too, and then not for a while', () => {
  const spell = busySpell();
  spell.spend(10_000, 0);
  expect([0, 1, AGAIN_MS].map((now) => spell.tellsKind('vanished', now))).toEqual([true, false, true]);
  expect(spell.tellsKind('denied', 1)).toBe(true);
  const calm = new Spell();
  expect([0, 0].map((now) => calm.tellsKind('vanished', now))).toEqual([true, true]);
  expect([0, 0].map((now) => calm.tellsKind('vanished', now, true))).toEqual([false, false]); // of a target that is away
});

test('what is left out is summed up, and handed out once', () => {
  const spell = busySpell();
  let calls = 0;
  spell.onOmitted = () => void calls++;
  for (let n = 0; n < 3; n++) spell.omit({ syncs: 1, files: 2, bytes: 100, seconds: 0.5 }, n);
  spell.omit({ changes: 40, lines: 6 }, 3);
  spell.count({ lines: 1000 });
  const sum = { changes: 40, syncs: 3, files: 6, bytes: 300, seconds: 1.5, lines: 6, tries: 0 };
  expect(spell.summarise()).toEqual(sum);
  expect(spell.summarise()).toBeUndefined();
  expect(spell.total).toEqual({ ...sum, lines: 1006 });
  expect(calls).toBe(4);
});

test('what was told is not remembered without end', () => {
  const spell = busySpell();
  for (let n = 0; n < 10_000; n++) spell.tellsKind(`kind ${n}`, 0);
  expect(spell.tellsKind('kind 9999', 0)).toBe(false);
  expect(spell.tellsKind('kind 0', 0)).toBe(true); // forgotten
});
