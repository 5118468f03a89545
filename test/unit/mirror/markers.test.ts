import { describe, expect, test } from 'bun:test';
import { Doubts } from '../../../src/mirror/doubts.ts';
import { Markers } from '../../../src/mirror/markers.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { request, StandInWatcher, settle, withOwnClock } from './stand-ins.ts';

withOwnClock();

/** Watchers whose marks come back when a test says so, and what has become of those that wait for them. */
class Bed {
  readonly doubts = new Doubts();
  distrusted = 0;
  private count = 0;
  readonly markers = new Markers(this.doubts, () => {
    this.distrusted++;
    this.doubts.add('', 1);
  });
  readonly passed: string[] = [];
  private readonly settles: ((isTold: boolean) => void)[] = [];

  /** A watcher that stands, and has so many marks come back by `answer`. */
  add(marks = 1): StandInWatcher {
    const watcher = new StandInWatcher();
    for (let n = 0; n < marks; n++) watcher.marks.push(new Promise((resolve) => this.settles.push(resolve)));
    this.markers.add(watcher, ++this.count);
    return watcher;
  }

  /** Has the oldest mark that is on its way come back, or be lost. */
  async answer(isTold = true): Promise<void> {
    this.settles.shift()?.(isTold);
    await settle();
  }

  async ask(name: string): Promise<void> {
    const asked = this.markers.pass().then(
      () => this.passed.push(name),
      (cause) => this.passed.push(`${name}: ${cause.message}`),
    );
    lifecycle.background(asked);
    await settle();
  }
}

test('all has been told once the watcher has told of its mark', async () => {
  const bed = new Bed();
  bed.add();
  await bed.ask('one');
  expect(bed.passed).toEqual([]);
  await bed.answer();
  expect(bed.passed).toEqual(['one']);
});

test('while one takes the place of another, both must have told', async () => {
  const bed = new Bed();
  bed.add();
  bed.add();
  await bed.ask('one');
  await bed.answer();
  expect(bed.passed).toEqual([]);
  await bed.answer();
  expect(bed.passed).toEqual(['one']);
});

test('one that has ended after it was silent has told all', async () => {
  const bed = new Bed();
  const old = bed.add();
  bed.add(0);
  await bed.ask('one');
  bed.markers.release(old);
  await bed.answer(false);
  expect(bed.passed).toEqual(['one']);
  expect(bed.distrusted).toBe(0);
});

test('who asks while a mark is on its way waits for the next one, which all of them share', async () => {
  const bed = new Bed();
  const watcher = bed.add(2);
  await bed.ask('one');
  for (let n = 0; n < 1000; n++) await bed.ask('other');
  expect(watcher.marks).toHaveLength(1);
  await bed.answer();
  expect(bed.passed).toEqual(['one']);
  expect(watcher.marks).toHaveLength(0);
  await bed.answer();
  expect(bed.passed).toHaveLength(1001);
});

describe('where something may be lost', () => {
  test('a watcher that has ended has all of the source in doubt, and the next one has to tell', async () => {
    const bed = new Bed();
    const old = bed.add();
    await bed.ask('one');
    old.end();
    await bed.answer(false);
    expect([bed.passed, bed.distrusted]).toEqual([[], 1]);
    bed.doubts.settle(2, new Date());
    bed.add();
    await settle();
    expect(bed.passed).toEqual([]);
    await bed.answer();
    expect(bed.passed).toEqual(['one']);
  });

  test('what is known of already is not in doubt once more', async () => {
    const bed = new Bed();
    bed.add();
    await bed.ask('one');
    bed.doubts.add('', 1); // it has died, or its queue has overflowed
    await bed.answer(false);
    expect([bed.passed, bed.distrusted]).toEqual([[], 0]);
  });

  test('a mark that has come nevertheless says nothing before the next watcher stands', async () => {
    const bed = new Bed();
    bed.add(2);
    await bed.ask('one');
    bed.doubts.add('', 1);
    await bed.answer();
    expect(bed.passed).toEqual([]);
    bed.doubts.settle(2, new Date());
    bed.add();
    await settle();
    await bed.answer();
    await bed.answer();
    expect(bed.passed).toEqual(['one']);
  });

  test('where nobody watches, it waits until somebody does', async () => {
    const bed = new Bed();
    await bed.ask('one');
    bed.add();
    await settle();
    await bed.answer();
    expect(bed.passed).toEqual(['one']);
  });
});

test('a request to stop ends all waits', async () => {
  const bed = new Bed();
  await bed.ask('one');
  await bed.ask('two');
  request.stop();
  await settle();
  expect(bed.passed).toEqual(['one: 服务正在停止', 'two: 服务正在停止']);
});

test('so it does where a watcher was asked, which ends by that', async () => {
  const bed = new Bed();
  bed.add();
  await bed.ask('one');
  request.stop();
  await bed.answer(false);
  expect([bed.passed, bed.distrusted]).toEqual([['one: 服务正在停止'], 0]);
});
