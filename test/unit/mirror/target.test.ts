import { describe, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { ALL, type Batch, REGULAR } from '../../../src/mirror/changes.ts';
import { Faults } from '../../../src/mirror/faults.ts';
import type { Move } from '../../../src/mirror/moves.ts';
import { Recovery } from '../../../src/mirror/recovery.ts';
import type { Outcome, OutcomeKind } from '../../../src/mirror/rsync.ts';
import { type Due, Target } from '../../../src/mirror/target.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import {
  change,
  event,
  neverPaused,
  nothingBeside,
  outcome,
  pass,
  passSeconds,
  request,
  settle,
  statsOf,
  withOwnClock,
} from './stand-ins.ts';

const log = withOwnClock();

/** What an rsync complains of that start-sshd has not let run. */
const refusing = (refusal: string) => Object.assign(new Faults(() => undefined), { refusal });

/** A target whose sender answers what a test has it answer. */
class Bed {
  readonly state: TargetState;
  readonly connection = Object.assign(new EventEmitter(), { socket: '/run/ssh/1' as string | undefined });
  readonly sent: (string[] | 'all')[] = [];
  readonly doubts: { paths: string[]; since: Date | undefined } = { paths: [], since: undefined };
  answer: Partial<Outcome> = {};
  /** When an rsync that mirrors nothing was tried, and from when on it comes to a good end, ms since the start. */
  readonly asked: number[] = [];
  answersFrom = Number.POSITIVE_INFINITY;
  armed = 0;
  closed = 0;
  readonly target: Target;
  /** The batches that came to be due, and when, ms since the start. */
  readonly due: { at: number; paths: string[]; isRegular: boolean }[] = [];
  isOver = false;
  private readonly start = performance.now();

  constructor(
    config: { SYNC_INTERVAL?: number; FULL_SYNC_INTERVAL?: number } = {},
    pause = neverPaused,
    isOneOfMany = false,
  ) {
    this.state = new TargetState('backup', isOneOfMany);
    const sender = {
      send: async (batch: Batch) => {
        this.sent.push(batch === ALL ? 'all' : [...batch.keys()]);
        return outcome({ mode: batch === ALL ? 'full' : 'incremental', ...this.answer });
      },
      arm: () => this.armed++,
      answers: async () => {
        this.asked.push(this.now);
        return this.now >= this.answersFrom;
      },
    };
    const { state, connection, doubts } = this;
    const recovery = new Recovery({
      ...{ state, look: () => statsOf(), list: () => [], isReadable: () => true, mayLimitSize: true, interval: 0 },
      mayDivide: true,
      isUnknown: () => false,
      sender: { answers: async () => false },
      wake: () => state.changes.emit('arrived'),
    });
    const parts = {
      state,
      connection,
      sender,
      recovery,
      beside: nothingBeside,
      pause,
      doubts,
      announcer: { closeBatch: () => this.closed++ },
    };
    this.target = new Target({ SYNC_INTERVAL: 0, FULL_SYNC_INTERVAL: 0, MAX_RETRIES: 2, ...config }, parts);
  }

  get now(): number {
    return Math.round(performance.now() - this.start);
  }

  delete(path: string): void {
    this.state.note(path, event('delete'), undefined);
  }

  create(path: string): void {
    this.state.note(path, event('create'), statsOf());
  }

  /** Sends batches as they come to be due; `use` decides what becomes of each. */
  run(use: (due: Due) => Promise<void> = async () => {}): void {
    const work = async () => {
      for await (const due of this.target.batches()) {
        this.due.push({ at: this.now, paths: [...due.batch.keys()], isRegular: due.isRegular });
        await use(due);
      }
      this.isOver = true;
    };
    lifecycle.background(work());
  }

  /** The whole way: each batch is sent and settled. */
  mirror(): void {
    this.run(async ({ batch }) => this.target.settle(batch, await this.target.send(batch)));
  }

  get waiting(): string[] {
    return [...this.state.changes.waiting.keys()];
  }
}

describe('a batch is due', () => {
  test('3 ms after its last change where nothing was sent for long', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 5 });
    await passSeconds(5);
    bed.run();
    await passSeconds(1);
    bed.delete('a');
    await pass(2);
    bed.delete('b');
    await pass(2);
    expect(bed.due).toEqual([]);
    await pass(1);
    expect(bed.due).toEqual([{ at: 6005, paths: ['a', 'b'], isRegular: false }]);
    expect(bed.closed).toBe(1);
    expect(bed.waiting).toEqual([]);
  });

  test('once the interval since the last start is over, and then without a wait for those that are old', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 5 });
    await passSeconds(5);
    bed.mirror();
    bed.delete('a');
    await pass(10);
    bed.delete('b');
    await passSeconds(4);
    bed.delete('c');
    await passSeconds(2);
    expect(bed.due).toMatchObject([
      { at: 5003, paths: ['a'] },
      { at: 10_003, paths: ['b', 'c'] },
    ]);
  });

  test('after 100 ms at the latest, however many changes come', async () => {
    const bed = new Bed();
    bed.run();
    await pass(5); // not at the very start
    for (let n = 0; n < 110; n++) {
      bed.delete(`${n}`);
      await pass(1);
    }
    expect(bed.due).toHaveLength(1);
    expect(bed.due[0]?.at).toBe(105);
    expect(bed.due[0]?.paths).toHaveLength(100);
  });

  test('without files that are open, which are waited for as long as the interval, or 100 ms', async () => {
    for (const [SYNC_INTERVAL, patience] of [
      [0, 100],
      [0.2, 200],
    ] as const) {
      const bed = new Bed({ SYNC_INTERVAL });
      await passSeconds(1);
      bed.run();
      bed.create('open');
      await pass(10);
      bed.delete('a');
      await pass(patience);
      expect(bed.due).toMatchObject([
        { at: 1013, paths: ['a'] },
        { at: 1000 + patience, paths: ['open'] },
      ]);
    }
  });

  test('at once where it is hurried, with files that are open, and the next one after the interval again', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 60 });
    await passSeconds(60);
    bed.mirror();
    bed.delete('a');
    await pass(10);
    bed.state.hurry(); // nothing waits
    bed.create('open');
    bed.delete('b');
    await passSeconds(10);
    expect(bed.due).toMatchObject([{ paths: ['a'] }]);
    bed.state.hurry();
    await pass(5);
    expect(bed.due).toMatchObject([{ paths: ['a'] }, { at: 70_010, paths: ['open', 'b'] }]);
    bed.delete('c');
    await passSeconds(59);
    expect(bed.due).toHaveLength(2);
    await passSeconds(2);
    expect(bed.due).toMatchObject([{}, {}, { paths: ['c'] }]);
    bed.delete('d');
    await passSeconds(1);
    bed.state.hurry();
    await pass(5);
    expect(bed.due[3]?.paths).toEqual(['d']);
  });

  test('with everything that is in doubt, as trees', async () => {
    const bed = new Bed();
    const batches: Batch[] = [];
    bed.run(async ({ batch }) => {
      batches.push(batch);
    });
    bed.doubts.paths = ['new', 'a'];
    bed.delete('a');
    await pass(5);
    bed.delete('b');
    await pass(5);
    expect(bed.due).toMatchObject([{ paths: ['a', 'new'] }, { paths: ['b', 'new', 'a'] }]);
    expect(batches[0]?.get('a')).toMatchObject({ kind: 'delete', tree: true });
    expect(batches[0]?.get('new')).toEqual(change({ tree: true }));
    expect(batches[1]?.get('b')).toMatchObject({ tree: false });
  });

  test('no more where nothing waits at a request to stop', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 5 });
    bed.run();
    await pass(5);
    expect(bed.isOver).toBe(false);
    request.stop();
    await settle();
    expect(bed.isOver).toBe(true);
    expect(bed.due).toEqual([]);
  });

  test('at once at a request to stop, with files that are still open', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 5 });
    bed.run();
    bed.create('open');
    bed.delete('a');
    await pass(5);
    expect(bed.due).toEqual([]);
    request.stop();
    await settle();
    expect(bed.due).toMatchObject([{ at: 5, paths: ['open', 'a'] }]);
    expect(bed.isOver).toBe(true);
  });
});

describe('to send', () => {
  test('is to tell the state, to have the next rsync wait, and to start the interval anew', async () => {
    const bed = new Bed();
    const seen: boolean[] = [];
    bed.state.on('synced', () => seen.push(bed.state.syncing));
    bed.answer = { bytes: 7 };
    const batch: Batch = new Map([['a', change()]]);
    expect(await bed.target.send(batch)).toMatchObject({ kind: 'done', mode: 'incremental', bytes: 7 });
    expect(await bed.target.send()).toMatchObject({ mode: 'full' });
    expect(bed.sent).toEqual([['a'], 'all']);
    expect(bed.armed).toBe(2);
    expect(seen).toEqual([false, false]);
    expect(bed.state.report()).toMatchObject({ bytes: 14, up: true, last_exit_code: 0, pending: 0 });
  });
});

describe('after a first full sync that was not done, the mirror goes on', () => {
  /** Resolves once that is decided, with the moments in which the target was asked, s. @param socket of the connection by then */
  async function decide(bed: Bed, given: Partial<Outcome>, socket = bed.connection.socket) {
    await bed.target.send();
    bed.connection.socket = socket || undefined;
    const deciding = bed.target.mayGoOn(outcome(given));
    await passSeconds(10);
    return { decided: await deciding, asked: bed.asked.map((ms) => Math.round(ms / 100) / 10) };
  }

  test('with what was sent, and asks nothing', async () => {
    for (const kind of ['done', 'limited', 'partial'] as const)
      expect(await decide(new Bed(), { kind })).toEqual({ decided: true, asked: [] });
  });

  test('where the target answers, so that what was sent has failed', async () => {
    const bed = new Bed();
    bed.answersFrom = 0;
    expect(await decide(bed, { kind: 'failed', status: 11 })).toEqual({ decided: true, asked: [0] });
    expect(await decide(new Bed(), { kind: 'failed', status: 11 })).toEqual({ decided: false, asked: [0] });
  });

  test.each([
    ['unreachable', 255, '/run/ssh/1'],
    ['failed', 12, ''],
    ['failed', 12, '/run/ssh/2'],
  ] as const)(
    'where the target is back within MAX_RETRIES after its connection was lost: %s (%d) %p',
    async (kind, status, socket) => {
      const cut = { kind, status };
      for (const [from, asked] of [
        [0, [0]],
        [500, [0, 1]],
        [5500, [0, 1, 6]],
      ] as const) {
        const bed = new Bed();
        bed.answersFrom = from;
        expect(await decide(bed, cut, socket)).toEqual({ decided: true, asked: [...asked] });
      }
      expect(await decide(new Bed(), cut, socket)).toEqual({ decided: false, asked: [0, 1, 6] });
    },
  );

  test('not where the sync was not let run, or where a request to stop comes while it is waited', async () => {
    expect(await decide(new Bed(), { kind: 'failed', status: null })).toEqual({ decided: false, asked: [] });
    const bed = new Bed();
    const deciding = decide(bed, { kind: 'unreachable', status: 255 });
    await settle();
    await settle();
    request.stop();
    expect(await deciding).toEqual({ decided: false, asked: [0] });
  });

  test('without waiting for one of many, which is taken in when it can be', async () => {
    const bed = new Bed({}, neverPaused, true);
    expect(await decide(bed, { kind: 'unreachable', status: 255 })).toEqual({ decided: false, asked: [0] });
  });
});

const NOT_NOW: OutcomeKind[] = ['unreachable', 'failed'];

describe('what becomes of a batch', () => {
  const move: Move = { from: 'a', to: 'b', cookie: '7', identity: '1:1' };

  test.each(['done', 'limited'] as const)('%s: nothing is left of it', async (kind) => {
    const bed = new Bed();
    bed.answer = { kind };
    bed.mirror();
    bed.delete('a');
    await pass(10);
    expect(bed.sent).toEqual([['a']]);
    await passSeconds(120);
    expect(bed.sent).toEqual([['a']]);
    expect(bed.state.pending).toBe(0);
  });

  test('partial: it is tried again apart, after 1, 2, 4 s, and holds back no other', async () => {
    const bed = new Bed();
    bed.answer = { kind: 'partial', status: 23, seconds: 0.01 };
    bed.mirror();
    await pass(5);
    bed.delete('a');
    await pass(3);
    expect(bed.sent).toEqual([['a']]);
    expect([...bed.state.failed.waiting.keys()]).toEqual(['a']);
    bed.answer = { kind: 'done' };
    bed.delete('b');
    await pass(3);
    expect(bed.sent).toEqual([['a'], ['b']]);
    bed.answer = { kind: 'partial', status: 23, seconds: 0.01 };
    await passSeconds(8);
    bed.answer = { kind: 'done' };
    await passSeconds(120);
    const times = bed.due.map(({ at, paths }) => [Math.floor(at / 1000), ...paths]);
    expect(times).toEqual([
      [0, 'a'],
      [0, 'b'],
      [1, 'a'],
      [3, 'a'],
      [7, 'a'],
      [15, 'a'],
    ]);
    expect(bed.state.pending).toBe(0);
    expect(log.text).toContain('4 秒后重试，1 处变化等待同步');
  });

  test('partial: what fails meanwhile is tried again with it', async () => {
    const bed = new Bed();
    bed.answer = { kind: 'partial', status: 23 };
    bed.mirror();
    bed.delete('a');
    await pass(5);
    bed.delete('b');
    await pass(5);
    bed.answer = { kind: 'done' };
    await passSeconds(2);
    expect(bed.sent).toEqual([['a'], ['b'], ['a', 'b']]);
    expect(log.text.match(/秒后重试/g)).toHaveLength(1);
    await passSeconds(10);
    expect(bed.sent).toHaveLength(3);
    bed.answer = { kind: 'partial', status: 23 };
    bed.delete('c');
    await pass(5);
    bed.answer = { kind: 'done' };
    await passSeconds(2);
    expect(bed.sent).toEqual([['a'], ['b'], ['a', 'b'], ['c'], ['c']]); // after 1 s again: all had been well
  });

  test.each(NOT_NOW)(
    '%s: it waits 1, 2, 4 … 60 s, is merged with what has come since, and goes as one',
    async (kind) => {
      const bed = new Bed();
      bed.answer = { kind, status: 12 };
      bed.mirror();
      await pass(1);
      bed.delete('a');
      await pass(500);
      bed.create('a');
      bed.delete('b');
      expect(bed.state.changes.waiting.get('a')).toMatchObject({ kind: 'create', replaced: true });
      expect(Math.round(performance.now() - (bed.state.changes.waiting.get('a')?.since ?? 0))).toBe(500);
      await passSeconds(200);
      const seconds = bed.due.map(({ at }) => Math.floor(at / 1000));
      expect(seconds).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183]);
      expect(bed.sent.slice(0, 2)).toEqual([['a'], ['a', 'b']]);
      expect(bed.waiting).toEqual(['a', 'b']);
      bed.answer = { kind: 'done' };
      await passSeconds(50);
      expect(bed.state.pending).toBe(0);
      bed.answer = { kind, status: 12 };
      bed.delete('c');
      await pass(10);
      expect(log.text.trimEnd()).toEndWith('1 秒后重试，1 处变化等待同步'); // from the start again
    },
  );

  test('unreachable: that it is tried is told twice, and then every five minutes, with how much waits', async () => {
    const bed = new Bed();
    bed.answer = { kind: 'unreachable', status: 255 };
    bed.mirror();
    bed.delete('a');
    bed.delete('b');
    await passSeconds(750);
    expect(log.text.match(/秒后重试/g)).toHaveLength(2);
    expect(log.text).toContain('2 秒后重试，2 处变化等待同步。恢复之前不再逐次记录，每 5 分钟报告一次');
    expect(log.text.match(/目标已有 \d+ 分钟无法连接，重试了 \d+ 次，将继续重试；2 处变化等待同步/g)).toHaveLength(2);
    bed.answer = { kind: 'done' };
    await passSeconds(60);
    expect(log.text).toMatch(/目标恢复连接，此前 \d{3} 秒无法连接，重试了 \d+ 次 ✓/);
  });

  test.each(NOT_NOW)('%s: it goes at once when the target is connected again', async (kind) => {
    const bed = new Bed();
    bed.answer = { kind, status: 12 };
    bed.mirror();
    for (let n = 0; n < 3; n++) {
      bed.delete('a');
      await passSeconds(2 ** n);
      await pass(10);
    }
    const tries = bed.sent.length;
    expect(tries).toBe(4);
    bed.answer = { kind: 'done' };
    await pass(10);
    expect(bed.sent).toHaveLength(tries);
    bed.connection.emit('connected');
    await pass(10);
    expect(bed.sent).toHaveLength(tries + 1);
  });

  test.each(NOT_NOW)('%s: what has come while all was compared is still known beside it', async (kind) => {
    const bed = new Bed();
    bed.answer = { kind, status: 12 };
    bed.delete('a');
    lifecycle.background(bed.target.settle(new Map(ALL), await bed.target.send(ALL)));
    await settle();
    expect(bed.waiting).toEqual(['a', '']); // made anew with its size and time, it is to be compared by content
  });

  test('failed: it goes at once where the target was connected again while it was sent', async () => {
    const bed = new Bed();
    bed.state.note('a', event('delete'), undefined);
    bed.answer = { kind: 'failed', status: 12 };
    bed.run(async ({ batch }) => {
      const result = await bed.target.send(batch);
      bed.connection.socket = `/run/ssh/${bed.due.length + 1}`;
      bed.answer = { kind: 'done' };
      await bed.target.settle(batch, result);
    });
    await pass(10);
    expect(bed.sent).toEqual([['a'], ['a']]);
  });

  test.each([undefined, '/run/ssh/1'])(
    'failed: it waits where nobody is connected afterwards, before: %p',
    async (socket) => {
      const bed = new Bed();
      bed.connection.socket = socket;
      bed.answer = { kind: 'failed', status: 12 };
      bed.run(async ({ batch }) => {
        const result = await bed.target.send(batch);
        bed.connection.socket = undefined;
        await bed.target.settle(batch, result);
      });
      bed.delete('a');
      await pass(900);
      expect(bed.sent).toHaveLength(1);
      await pass(200);
      expect(bed.sent).toHaveLength(2);
    },
  );

  test('failed: the renames that the backup could not be asked for come before newer ones', async () => {
    const bed = new Bed();
    const batch: Batch = new Map([['a', change()]]);
    bed.state.moves.add({ ...move, from: 'b', to: 'c', cookie: '8' });
    const done = bed.target.settle(batch, outcome({ kind: 'unreachable', status: 255, unrepeated: [move] }));
    await settle();
    expect([...bed.state.moves.values()]).toMatchObject([{ from: 'a', to: 'c', isExposed: true }]);
    await pass(1001);
    await done;
  });

  test('at a request to stop it is given up, unless it is done', async () => {
    for (const kind of ['partial', 'failed', 'unreachable'] as const) {
      const bed = new Bed();
      bed.answer = { kind, status: 12 };
      bed.delete('a');
      bed.run(async ({ batch }) => {
        lifecycle.stopping = true;
        bed.delete('b');
        await bed.target.settle(batch, await bed.target.send(batch));
      });
      await pass(10);
      expect(bed.sent).toEqual([['a']]); // what has come since is given up as well
      expect(bed.isOver).toBe(true);
      expect(bed.waiting).toEqual(['b']);
      expect(log.text).toContain('1 处变化尚未同步，下次启动时的全量同步会包含它们');
      lifecycle.stopping = false;
    }
    const bed = new Bed();
    bed.delete('a');
    bed.run(async ({ batch }) => {
      if (!lifecycle.stopping) bed.delete('b');
      request.stop();
      await bed.target.settle(batch, await bed.target.send(batch));
    });
    await pass(10);
    expect(bed.sent).toEqual([['a'], ['b']]);
    expect(bed.isOver).toBe(true);
  });
});

describe('the regular comparison', () => {
  test('is marked, is waited for by nobody, and comes again and again', async () => {
    const bed = new Bed({ FULL_SYNC_INTERVAL: 60 });
    bed.mirror();
    bed.target.begin(outcome({ mode: 'full' }));
    await passSeconds(59);
    bed.delete('a');
    await passSeconds(2);
    expect(bed.due.map(({ paths, isRegular }) => ({ paths, isRegular }))).toEqual([
      { paths: ['a'], isRegular: false },
      { paths: [''], isRegular: true },
    ]);
    await passSeconds(60);
    bed.delete('b');
    await passSeconds(1);
    expect(bed.due.map(({ isRegular }) => isRegular)).toEqual([false, true, true, false]);
  });

  test('is nothing that the target lacks', async () => {
    const bed = new Bed({ FULL_SYNC_INTERVAL: 60 });
    bed.target.begin(outcome({ mode: 'full' }));
    await passSeconds(61);
    expect(bed.waiting).toEqual(['']);
    expect(bed.state.oldestPending).toBeUndefined();
  });

  test('never comes where it is not wanted, and none is left behind by a request to stop', async () => {
    const bed = new Bed();
    bed.mirror();
    bed.target.begin(outcome());
    await passSeconds(100);
    expect(bed.due).toEqual([]);
    const other = new Bed({ FULL_SYNC_INTERVAL: 60 });
    other.target.begin(outcome());
    await passSeconds(1);
    request.stop();
    await settle();
    expect(other.waiting).toEqual([]);
  });

  test('that has failed is missed, so that it counts from then on', async () => {
    const bed = new Bed();
    await pass(5);
    const batch: Batch = new Map(REGULAR);
    const before = performance.now();
    const done = bed.target.settle(batch, outcome({ kind: 'failed', status: 12 }));
    await settle();
    expect(bed.state.changes.waiting.get('')).toEqual(change({ tree: true, since: before }));
    expect(bed.state.oldestPending).toBeDefined();
    await pass(1001);
    await done;
  });
});

describe('a target that begins', () => {
  /** Whether it counts as mirrored, and what is to be sent, after its first full sync. */
  const TABLE: [kind: OutcomeKind | 'not tried', hasBegun: boolean, waits: string[], failed: string[]][] = [
    ['done', true, [], []],
    ['limited', true, [], []],
    ['partial', true, [], ['']],
    ['failed', true, [''], []],
    ['unreachable', false, [''], []],
    ['not tried', false, [''], []],
  ];

  test.each(TABLE)('%s: begun %p, waiting %j, failed %j', async (kind, hasBegun, waits, failed) => {
    const bed = new Bed();
    let begun = 0;
    bed.target.on('begun', () => begun++);
    bed.target.begin(kind === 'not tried' ? undefined : outcome({ mode: 'full', kind, status: 11 }));
    await settle();
    expect(bed.state.mirrored).toBe(hasBegun && kind !== 'failed');
    expect(begun).toBe(Number(hasBegun));
    expect(bed.waiting).toEqual(waits);
    expect([...bed.state.failed.waiting.keys()]).toEqual(failed);
  });

  test('without a try waits for the interval before its first one', async () => {
    const bed = new Bed({ SYNC_INTERVAL: 5 });
    await passSeconds(7);
    bed.target.begin(undefined);
    bed.mirror();
    await passSeconds(4.9);
    expect(bed.sent).toEqual([]);
    await passSeconds(0.2);
    expect(bed.sent).toEqual([['']]);
    expect(bed.state.mirrored).toBe(true);
  });

  test('tells once that it has begun, and only when all of the source has been compared', async () => {
    const bed = new Bed();
    let begun = 0;
    bed.target.on('begun', () => begun++);
    await bed.target.settle(new Map([['a', change({ tree: true })]]), outcome());
    await bed.target.settle(new Map([['', change()]]), outcome());
    expect(begun).toBe(0);
    await bed.target.settle(new Map(ALL), outcome());
    await bed.target.settle(new Map(ALL), outcome());
    bed.target.begin(outcome());
    expect(begun).toBe(1);
  });
});

test('what is to be sent before all else is lacked by the target for as long as a pause keeps it back', async () => {
  const over = Promise.withResolvers<boolean>();
  let isPaused = false;
  const bed = new Bed({}, { passed: () => (isPaused ? over.promise : Promise.resolve(true)) });
  const faults = new Faults((path) => path);
  faults.read('rsync: [sender] opendir "closed" failed: Permission denied (13)\n');
  bed.answer = { kind: 'partial', status: 23, faults };
  bed.run(async ({ batch }) => {
    const sent = await bed.target.send(batch);
    isPaused = bed.sent.length === 1; // while the first one goes on
    await bed.target.settle(batch, sent);
  });
  for (const path of ['a', 'closed']) bed.delete(path);
  await passSeconds(5);
  const isLacking = () => bed.state.lacking.some((batch) => batch.has('a'));
  expect([bed.sent, isLacking()]).toEqual([[['a', 'closed']], true]);
  bed.answer = {};
  over.resolve(true);
  await passSeconds(1);
  expect([bed.sent[1], isLacking()]).toEqual([['a'], false]);
});

describe('a backup that has taken over', () => {
  const refusal = {
    kind: 'failed',
    status: 12,
    faults: refusing('拒绝执行：备份端已接管 (start-sshd --promote)'),
  } as const;

  test('is sent nothing, whatever changes, and all once it receives again', async () => {
    const bed = new Bed();
    bed.mirror();
    bed.delete('a');
    await passSeconds(1);
    bed.answer = refusal;
    bed.delete('b');
    await passSeconds(1);
    expect([bed.sent, bed.state.isPromoted]).toEqual([[['a'], ['b']], true]);
    expect(bed.waiting).toEqual(['b']);
    bed.delete('c');
    await passSeconds(600);
    expect(bed.sent).toHaveLength(2);
    expect(log.text).not.toContain('秒后重试');
    expect(log.text.match(/备份端已接管/g)).toHaveLength(1);
    bed.answer = {};
    bed.state.demote();
    await passSeconds(1);
    expect(bed.sent[2]).toEqual(['b', 'c']);
    expect(bed.waiting).toEqual([]);
  });

  test('is sent nothing either at the first change after a long rest, nor at the end', async () => {
    const bed = new Bed();
    bed.mirror();
    await passSeconds(5);
    bed.state.promote();
    bed.delete('a');
    await passSeconds(5);
    expect(bed.sent).toEqual([]);
    request.stop();
    await settle();
    expect([bed.isOver, bed.sent]).toEqual([true, []]);
    expect(log.text).toContain('1 处变化尚未同步');
  });
});
