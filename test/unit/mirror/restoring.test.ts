import { expect, test } from 'bun:test';
import type { RememberedTarget } from '../../../src/mirror/memory.ts';
import { BUSY, Restoring } from '../../../src/mirror/restoring.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { passSeconds, request, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();
const gone = new AbortController().signal;

class Bed {
  isLocked = false;
  saves = 0;
  readonly state = new TargetState('backup', false);
  readonly remembered = { held: undefined } as RememberedTarget;
  readonly restoring = new Restoring({
    directory: '/data/source/',
    memory: { target: () => this.remembered, save: () => ++this.saves > 0, restoreLock: '/root/.ssh/lock' },
    targets: [this.state],
    deletes: true,
    isLocked: () => this.isLocked,
  });
}

test('nothing is held up where nobody restores', async () => {
  const bed = new Bed();
  expect(await bed.restoring.passed()).toBe(true);
  expect(bed.remembered.held).toBeUndefined();
});

test('nothing is sent as long as somebody restores, and nothing held where all is there then', async () => {
  const bed = new Bed();
  bed.isLocked = true;
  let isPast = false;
  void bed.restoring.passed().then((may) => {
    isPast = may;
  });
  await settle();
  expect(bed.state.report()).toMatchObject({ state: 'paused', held: null });
  expect(bed.remembered.held).toMatchObject({ count: 0 });
  await bed.restoring.complete({ command: 'restored' }, gone);
  await passSeconds(1);
  expect(isPast).toBe(false);
  bed.isLocked = false;
  await passSeconds(1);
  expect(isPast).toBe(true);
  expect(bed.remembered.held).toBeUndefined();
  expect(bed.state.changes.waiting.get('')?.tree).toBe(true);
  expect(log.text).toContain('恢复已结束，继续同步');
});

test('deletions stay held where it was cut off', async () => {
  const bed = new Bed();
  bed.isLocked = true;
  void bed.restoring.passed();
  await settle();
  bed.isLocked = false;
  await passSeconds(1);
  expect(bed.remembered.held).toMatchObject({ count: 0 });
  expect(bed.state.held).toBe(bed.remembered.held);
});

test('what was held before stays held', async () => {
  const bed = new Bed();
  const held = { count: 7, directories: [], since: 1 };
  bed.remembered.held = held;
  bed.isLocked = true;
  void bed.restoring.passed();
  await settle();
  await bed.restoring.complete({ command: 'restored' }, gone);
  bed.isLocked = false;
  await passSeconds(1);
  expect(bed.remembered.held).toBe(held);
});

test('a restore has to wait for the sync that goes on', async () => {
  const bed = new Bed();
  const ask = () => bed.restoring.pause({ command: 'restore' }, gone);
  expect((await ask()).isDone).toBe(false);
  bed.isLocked = true;
  bed.state.begin(new Map());
  expect(await ask()).toEqual({ isDone: false, text: BUSY });
  bed.state.syncing = false;
  expect((await ask()).isDone).toBe(true);
});

test('a request to stop is not waited for', async () => {
  const bed = new Bed();
  bed.isLocked = true;
  const passing = bed.restoring.passed();
  await settle();
  request.stop();
  expect(await passing).toBe(false);
});
