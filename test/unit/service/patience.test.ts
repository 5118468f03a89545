import { expect, test } from 'bun:test';
import { lstat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isInTime } from '../../../src/service/patience.ts';

test('what is over within its time is in time, be it done or failed', async () => {
  expect(await isInTime(sleep(20), 20_000)).toBe(true);
  expect(await isInTime(lstat('/no such file'), 20_000)).toBe(true);
  expect(await isInTime(Promise.reject(new Error('failed')), 0)).toBe(true);
});

test('what takes longer is not, and goes on', async () => {
  const { promise, resolve } = Promise.withResolvers();
  const began = performance.now();
  expect(await isInTime(promise, 200)).toBe(false);
  expect(performance.now() - began).toBeGreaterThan(195);
  resolve('done');
  expect(await promise).toBe('done');
});

test('the time in which this process is stopped does not count', async () => {
  for (let n = 0; n < 10; n++) {
    const inTime = isInTime(lstat('/'), 100);
    Bun.sleepSync(200);
    expect(await inTime).toBe(true);
  }
});
