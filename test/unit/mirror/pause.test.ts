import { describe, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { MAX_PENDING } from '../../../src/mirror/changes.ts';
import type { Memory } from '../../../src/mirror/memory.ts';
import { Pause } from '../../../src/mirror/pause.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { change, event, neverPaused, pass, passSeconds, request, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();
const here = new AbortController().signal;

/** What a memory holds, and how often it was written down. */
class StandInMemory {
  data: Pick<Memory['data'], 'pause'> = {};
  saves = 0;
  isBroken = false;
  save(): boolean {
    this.saves++;
    return !this.isBroken;
  }
}

class Bed {
  readonly states = [new TargetState('one', true), new TargetState('two', true)];
  readonly pause: Pause;
  constructor(
    readonly memory = new StandInMemory(),
    restoring: { passed: () => Promise<boolean> } = neverPaused,
  ) {
    this.pause = new Pause({ memory, targets: this.states, restoring });
  }

  get words(): string[] {
    return this.states.map((state) => state.describe());
  }

  ask(command: 'pause' | 'resume', ms?: unknown, gone = here) {
    return this.pause[command]({ command, ms }, gone);
  }

  /** Whether something that wants to be sent now has passed. */
  async isPast(): Promise<boolean> {
    let isPast = false;
    void this.pause.passed().then((may) => {
      isPast = may;
    });
    await settle();
    return isPast;
  }
}

/** What comes of a command, once time has passed for it. */
async function done<T>(answer: Promise<T>, ms = 2): Promise<T> {
  await pass(ms);
  return answer;
}

test('nothing is sent until a pause ends by itself, and all targets say so', async () => {
  const bed = new Bed();
  expect(await bed.isPast()).toBe(true);
  const { isDone, text } = await done(bed.ask('pause', 3000));
  expect([isDone, text]).toEqual([true, expect.stringMatching(/^已暂停同步，到 \S+ \S+ 为止；没有同步在进行/)]);
  expect(bed.words).toEqual(['paused', 'paused']);
  expect(bed.states[0]?.report().pause).toEqual(
    expect.objectContaining({ until: new Date(bed.memory.data.pause?.until ?? 0).toISOString() }),
  );
  let isPast = false;
  void bed.pause.passed().then((may) => {
    isPast = may;
  });
  await pass(2990);
  expect(isPast).toBe(false);
  await pass(20);
  expect(isPast).toBe(true);
  expect(bed.memory.data.pause).toBeUndefined();
  expect(bed.states.map((state) => state.report())).toMatchObject([{ pause: null }, { pause: null }]);
  expect(log.text).toContain('暂停已到期，继续同步');
});

test('--resume ends it, and says where there was none any more', async () => {
  const bed = new Bed();
  expect(await bed.ask('resume')).toEqual({ isDone: false, text: '没有暂停：可能从未开始，或已到期' });
  await done(bed.ask('pause', 60_000));
  expect((await bed.ask('resume')).isDone).toBe(true);
  expect(await bed.isPast()).toBe(true);
  await passSeconds(60);
  expect((await bed.ask('resume')).isDone).toBe(false);
  expect(log.text).not.toContain('已到期，继续');
});

test('another --pause sets another end, and the first one does not end it', async () => {
  const bed = new Bed();
  await done(bed.ask('pause', 2000));
  const since = bed.memory.data.pause?.since;
  await done(bed.ask('pause', 10_000));
  expect(bed.memory.data.pause?.since).toBe(since as number);
  await passSeconds(5);
  expect(bed.words).toEqual(['paused', 'paused']);
  await passSeconds(6);
  expect(bed.memory.data.pause).toBeUndefined();
});

describe('a command is answered', () => {
  test('once the sync that went on has ended', async () => {
    const bed = new Bed();
    const [state] = bed.states;
    state?.begin(new Map([['a', change()]]));
    let answer: { isDone: boolean } | undefined;
    void bed.ask('pause', 60_000).then((reply) => {
      answer = reply;
    });
    await passSeconds(5);
    expect(answer).toBeUndefined();
    expect(bed.words).toEqual(['syncing', 'paused']);
    if (state) state.syncing = false;
    state?.beginBeside(new Map([['large', change()]]));
    await passSeconds(5);
    expect(answer).toBeUndefined();
    state?.endBeside(new Map());
    await passSeconds(1);
    expect(answer?.isDone).toBe(true);
  });

  test('with what is wrong, where the pause is over before that sync', async () => {
    const bed = new Bed();
    bed.states[0]?.begin(new Map());
    const answer = bed.ask('pause', 2000);
    await passSeconds(3);
    expect(await answer).toEqual({ isDone: false, text: expect.stringContaining('之前开始的同步可能仍在进行') });
  });

  test('with no, where it is no duration', async () => {
    for (const ms of [0, -1, Number.NaN, '10m', undefined, 8 * 86_400_000]) {
      const bed = new Bed();
      expect(await bed.ask('pause', ms)).toEqual({ isDone: false, text: '时长无效' });
      expect(bed.words).not.toContain('paused');
    }
  });

  test('with a warning, where it would not outlive a restart', async () => {
    const bed = new Bed();
    bed.memory.isBroken = true;
    expect((await done(bed.ask('pause', 1000))).text).toContain('服务重启后就不再暂停');
  });
});

describe('a restart', () => {
  test('goes on with a pause, and says so where something waits for its end', async () => {
    const before = new Bed();
    await done(before.ask('pause', 60_000));
    const memory = new StandInMemory();
    memory.data = structuredClone(before.memory.data);
    await passSeconds(40);
    const bed = new Bed(memory);
    expect(bed.words).toEqual(['paused', 'paused']);
    expect(log.text).not.toContain('启动前的暂停');
    expect(await bed.isPast()).toBe(false);
    expect(log.text).toContain('启动前的暂停仍然有效');
    await passSeconds(21);
    expect(await bed.isPast()).toBe(true);
  });

  test('ends one whose time is over, and one that begins later than now is no longer than it was', async () => {
    const memory = new StandInMemory();
    memory.data.pause = { since: Date.now() - 2000, until: Date.now() - 1 };
    const over = new Bed(memory);
    expect(await over.isPast()).toBe(true);
    expect(memory.data.pause).toBeUndefined();
    const later = new StandInMemory();
    later.data.pause = { since: Date.now() + 1_000_000_000, until: Date.now() + 1_000_005_000 };
    const bed = new Bed(later);
    await passSeconds(4);
    expect(await bed.isPast()).toBe(false);
    await passSeconds(2);
    expect(await bed.isPast()).toBe(true);
  });
});

test('a clock that was set back makes no other pause end at once', async () => {
  const bed = new Bed();
  await done(bed.ask('pause', 600_000));
  const { pause } = bed.memory.data;
  if (pause) pause.since += 7_200_000; // as it is once the clock was set back by two hours
  await done(bed.ask('pause', 60_000));
  await passSeconds(50);
  expect(bed.words).toEqual(['paused', 'paused']);
  await passSeconds(11);
  expect(bed.memory.data.pause).toBeUndefined();
});

test('what begins while a restore is waited for is waited for as well, and a restore within a pause', async () => {
  const restore = new EventEmitter();
  let isRestoring = true;
  const restoring = {
    passed: async () => {
      if (isRestoring) await new Promise((resolve) => restore.once('over', resolve));
      return true;
    },
  };
  const bed = new Bed(new StandInMemory(), restoring);
  let isPast = false;
  void bed.pause.passed().then(() => {
    isPast = true;
  });
  await done(bed.ask('pause', 60_000));
  isRestoring = false;
  restore.emit('over');
  await settle();
  expect(isPast).toBe(false);
  await bed.ask('resume');
  await settle();
  expect(isPast).toBe(true);
});

test('a request to stop is not waited for, and the pause stays for the next start', async () => {
  const bed = new Bed();
  await done(bed.ask('pause', 60_000));
  const passing = bed.pause.passed();
  await settle();
  request.stop();
  expect(await passing).toBe(false);
  expect(bed.memory.data.pause).toBeDefined();
});

test('more changes than are kept by name become a comparison of all', async () => {
  const bed = new Bed();
  await done(bed.ask('pause', 60_000));
  const [state] = bed.states as [TargetState];
  for (let n = 0; n <= MAX_PENDING; n++) state.note(`${n}`, event('close_write'), undefined);
  expect([...state.changes.waiting].map(([path, { tree }]) => [path, tree])).toEqual([
    ['', true],
    [`${MAX_PENDING}`, false],
  ]);
  expect(state.describe()).toBe('paused');
});
