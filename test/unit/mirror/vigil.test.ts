import { describe, expect, jest, spyOn, test } from 'bun:test';
import { fstatSync, readlinkSync } from 'node:fs';
import { hangs, newProbe, prepareProbe, type Talker } from '../../../src/mirror/vigil.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { passSeconds, settle, withOwnClock } from './stand-ins.ts';

withOwnClock();

/** A watcher that answers as long as a test has it do so. */
class Bed implements Talker {
  told = 0;
  hasAnswered = false;
  isStopped = false;
  answers = true;
  isAskable = true;
  asked = 0;
  verdict: boolean | undefined;
  private readonly end = new AbortController();

  constructor() {
    const watching = hangs(this, this.end.signal).then((verdict) => {
      this.verdict = verdict;
    });
    lifecycle.background(watching);
  }

  ask(): boolean {
    this.asked++;
    if (!this.isAskable) return false;
    if (this.answers) this.told++;
    this.hasAnswered ||= this.answers;
    return true;
  }

  async finish(): Promise<boolean | undefined> {
    this.end.abort();
    await settle();
    return this.verdict;
  }
}

describe('a watcher that says nothing', () => {
  test('is asked now and then, and is left alone as long as it answers', async () => {
    const bed = new Bed();
    await passSeconds(300);
    expect(bed.verdict).toBeUndefined();
    expect(bed.asked).toBeGreaterThan(10);
    expect(await bed.finish()).toBe(false);
  });

  test('hangs, if it has answered before and does so no more, within less than a minute', async () => {
    const bed = new Bed();
    await passSeconds(30);
    expect(bed.hasAnswered).toBe(true);
    bed.answers = false;
    await passSeconds(58);
    expect(bed.verdict).toBe(true);
  });

  test('does not hang where no answer was ever seen, unless it was stopped', async () => {
    const bed = new Bed();
    bed.answers = false;
    await passSeconds(300);
    expect(bed.verdict).toBeUndefined();
    bed.isStopped = true;
    await passSeconds(58);
    expect(bed.verdict).toBe(true);
  });

  test('does not hang where it could not be asked', async () => {
    const bed = new Bed();
    await passSeconds(30);
    bed.isAskable = false;
    await passSeconds(300);
    expect(bed.verdict).toBeUndefined();
    expect(await bed.finish()).toBe(false);
  });
});

test('time in which we were not let run ourselves does not count', async () => {
  const bed = new Bed();
  await passSeconds(30);
  bed.answers = false;
  const clock = spyOn(performance, 'now').mockImplementation(() => 3 * Date.now()); // each wait takes three times as long
  await passSeconds(300);
  clock.mockRestore();
  expect(bed.asked).toBe(2);
  expect(bed.verdict).toBeUndefined();
  await passSeconds(20);
  expect(bed.verdict).toBe(true);
});

test('one that says something is not asked', async () => {
  const bed = new Bed();
  for (let n = 0; n < 100; n++) {
    bed.told++;
    await passSeconds(1);
  }
  expect(bed.asked).toBe(0);
  expect(await bed.finish()).toBe(false);
});

test('the file that is watched to that end is one, has no name, can be touched, and is gone once it is closed', async () => {
  jest.useRealTimers();
  await prepareProbe();
  const [probe, other] = [newProbe(), newProbe()];
  const file = probe?.file ?? 0;
  expect(fstatSync(file).nlink).toBe(0);
  expect(fstatSync(file).ino.toString(16)).toBe(probe?.inode as string);
  expect(probe?.inode).not.toBe(other?.inode);
  expect(readlinkSync(`/proc/self/fd/${file}`)).toEndWith(' (deleted)');
  expect([probe?.touch(), probe?.mark()]).toEqual([true, true]);
  probe?.close();
  probe?.close();
  expect(() => fstatSync(file)).toThrow();
  expect([probe?.touch(), probe?.mark()]).toEqual([false, false]);
  other?.close();
});
