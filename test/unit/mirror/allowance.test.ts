import { describe, expect, test } from 'bun:test';
import { Allowance } from '../../../src/mirror/allowance.ts';
import { parseLimit } from '../../../src/mirror/config.ts';

const MINUTE = 60_000;

/** An allowance with a clock that a test sets, minutes. */
function allowanceOf(limit: string, files?: number) {
  const clock = { minutes: 1_000_000 };
  const remembered = { files, deletions: [] as { time: number; count: number }[] };
  return {
    clock,
    remembered,
    allowance: new Allowance(parseLimit(limit), remembered, () => clock.minutes * MINUTE),
  };
}

describe('MAX_DELETE', () => {
  test('is a number of files, a percentage, or off', () => {
    expect(parseLimit('100')).toEqual({ kind: 'files', files: 100 });
    expect(parseLimit('0')).toEqual({ kind: 'files', files: 0 });
    expect(parseLimit('50%')).toEqual({ kind: 'percent', percent: 50 });
    expect(parseLimit('off')).toEqual({ kind: 'off' });
    for (const wrong of ['', '-1', '0%', '101%', '50 %', '1.5%', 'none', '10M', '9999999999'])
      expect(() => parseLimit(wrong)).toThrow('应为文件数、1% 到 100% 之间的百分比或 off');
  });

  test('as a percentage is one of what the target held, but never fewer than 1,000 files', () => {
    expect(allowanceOf('50%', 100_000).allowance.most()).toBe(50_000);
    expect(allowanceOf('50%', 100_001).allowance.most()).toBe(50_000);
    expect(allowanceOf('50%', 1999).allowance.most()).toBe(1000);
    expect(allowanceOf('1%', 5000).allowance.most()).toBe(1000);
    expect(allowanceOf('50%').allowance.most()).toBe(1000);
    expect(allowanceOf('50%').allowance.most(10_000)).toBe(5000);
  });

  test('as a number is that number, however much the target holds', () => {
    expect(allowanceOf('100', 1_000_000).allowance.left()).toBe(100);
    expect(allowanceOf('0', 10).allowance.left()).toBe(0);
  });

  test('off is no limit', () => {
    const { allowance } = allowanceOf('off', 10);
    allowance.spend(1_000_000);
    expect(allowance.isLimited).toBe(false);
    expect(allowance.left()).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('what was deleted', () => {
  test('counts for an hour, from each time on', () => {
    const { allowance, clock } = allowanceOf('100');
    allowance.spend(40);
    clock.minutes += 30;
    allowance.spend(50);
    expect([allowance.spent(), allowance.left()]).toEqual([90, 10]);
    clock.minutes += 29;
    expect(allowance.left()).toBe(10);
    clock.minutes += 1;
    expect(allowance.left()).toBe(50);
    clock.minutes += 30;
    expect(allowance.left()).toBe(100);
  });

  test('may be more than was allowed, and leaves nothing then', () => {
    const { allowance } = allowanceOf('100');
    allowance.spend(250);
    expect(allowance.left()).toBe(0);
  });

  test('is kept minute by minute, and no longer than it counts', () => {
    const { allowance, clock, remembered } = allowanceOf('100');
    for (let n = 0; n < 10_000; n++) {
      allowance.spend(1);
      clock.minutes += 0.1;
    }
    expect(remembered.deletions.length).toBeLessThanOrEqual(61);
    expect(allowance.spent()).toBeGreaterThan(580);
    expect(allowance.spent()).toBeLessThanOrEqual(610);
    allowance.spend(0);
    clock.minutes += 60;
    expect(allowance.spent()).toBe(0);
    expect(remembered.deletions).toEqual([]);
  });

  test('counts no longer when the clock was set back or on by more than an hour', () => {
    for (const minutes of [-61, 61]) {
      const { allowance, clock } = allowanceOf('100');
      allowance.spend(90);
      clock.minutes += minutes;
      expect(allowance.left()).toBe(100);
    }
    const { allowance, clock } = allowanceOf('100');
    allowance.spend(90);
    clock.minutes -= 10;
    allowance.spend(5);
    expect(allowance.left()).toBe(5);
  });

  test('is forgotten once somebody has looked at it', () => {
    const { allowance } = allowanceOf('100');
    allowance.spend(90);
    allowance.restart();
    expect(allowance.left()).toBe(100);
  });
});

describe('what has come', () => {
  test('makes up for what goes, so that what comes and goes all the time is no loss', () => {
    const { allowance, clock, remembered } = allowanceOf('100');
    for (let n = 0; n < 600; n++) {
      allowance.spend(-90);
      allowance.spend(90);
      clock.minutes += 0.1;
    }
    expect(allowance.left()).toBe(10);
    expect(remembered.deletions.length).toBeLessThanOrEqual(122);
  });

  test('makes up for nothing that goes later, or did not come in the same hour', () => {
    const { allowance, clock } = allowanceOf('100');
    allowance.spend(-5000); // the first full sync
    allowance.spend(40);
    allowance.spend(30);
    expect(allowance.spent()).toBe(70);
    clock.minutes += 5;
    allowance.spend(-20);
    allowance.spend(25);
    expect(allowance.spent()).toBe(75);
    clock.minutes += 56;
    expect(allowance.spent()).toBe(25);
  });
});
