import { describe, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { BackupGuard, PROMOTED, UNASKED } from '../../../src/mirror/backup-guard.ts';
import type { OutcomeKind } from '../../../src/mirror/rsync.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { hostFor, outcome, passSeconds, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** A guard of a backup that answers what a test has it answer. */
class Bed {
  readonly state = new TargetState('backup', false);
  readonly connection = Object.assign(new EventEmitter(), { findRoute: () => ({ knownHosts: undefined }) });
  readonly remembered: { backup: string | undefined };
  /** What the backup says, nothing where it does not know how to. */
  answer: string | undefined | Promise<string | undefined>;
  /** For how many days it says that it keeps older versions. */
  days: number | undefined;
  compared = 0;
  saved = 0;
  asked = 0;

  constructor(remembered?: string, answer = remembered) {
    this.remembered = { backup: remembered };
    this.answer = answer;
    const { state, connection } = this;
    new BackupGuard(
      {
        ...{ host: hostFor({}), state, connection: connection as never, remembered: this.remembered },
        save: () => this.saved++,
        compareAll: () => this.compared++,
      },
      async (_host, _connection, hear) => {
        this.asked++;
        hear?.(this.days);
        return this.answer;
      },
    );
  }

  async connect(): Promise<void> {
    this.connection.emit('connected');
    await settle();
  }

  async reconnect(): Promise<void> {
    this.connection.emit('lost');
    await passSeconds(1);
    await this.connect();
  }

  /** Tells of a sync that has just ended, after so many seconds. */
  async sync(mode: 'full' | 'incremental' = 'full', seconds = 0, kind: OutcomeKind = 'done'): Promise<void> {
    this.state.record(outcome({ mode, kind, seconds, status: kind === 'done' ? 0 : 23 }));
    this.state.mirrored ||= mode === 'full';
    await settle();
  }
}

/** A bed whose backup says `one`, as it did when it was compared as a whole. */
async function comparedBed(answer: string | undefined = 'one'): Promise<Bed> {
  const bed = new Bed(undefined, answer);
  await bed.connect();
  await passSeconds(1);
  await bed.sync();
  bed.saved = 0;
  return bed;
}

test('for how long a backup keeps older versions is known from what it said last', async () => {
  const bed = await comparedBed();
  expect(bed.state.report().history_days).toBeNull();
  for (const [days, known] of [
    [30, 30],
    [0, 0],
    [undefined, null],
  ] as const) {
    bed.days = days;
    await bed.reconnect();
    expect(bed.state.report().history_days).toBe(known);
  }
});

describe('a backup that says what it is', () => {
  test('is remembered once it was compared as a whole, and not compared once more for that', async () => {
    const bed = new Bed(undefined, 'one');
    await bed.connect();
    await passSeconds(1);
    await bed.sync('incremental');
    expect(bed.remembered.backup).toBeUndefined();
    await bed.sync('full');
    expect(bed.remembered.backup).toBe('one');
    expect([bed.saved, bed.compared]).toEqual([1, 0]);
    await bed.sync('full');
    expect(bed.saved).toBe(1);
    expect(log.text).toBe('');
  });

  test('later than it takes to compare it is not compared once more for that', async () => {
    const bed = new Bed();
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    bed.answer = promise;
    await bed.connect();
    await passSeconds(1);
    await bed.sync('full');
    resolve('one');
    await settle();
    expect([bed.remembered.backup, bed.compared]).toEqual(['one', 0]);
    expect(log.text).toBe('');
  });

  test('and is the same after a lost connection is left alone, however often', async () => {
    const bed = await comparedBed();
    for (let n = 0; n < 3; n++) await bed.reconnect();
    expect([bed.saved, bed.compared]).toEqual([0, 0]);
    expect(log.text).toBe('');
  });

  test('is compared at once where it is another one, told, and remembered when that is done', async () => {
    const bed = await comparedBed();
    bed.answer = 'two';
    await bed.reconnect();
    expect(bed.compared).toBe(1);
    expect(log.text).toMatch(/\[WARN.*备份端已重新启动，或目标目录已更换，立即进行一次全量比较/);
    expect(bed.remembered.backup).toBe('one');
    await bed.sync('incremental');
    expect(bed.remembered.backup).toBe('one');
    await passSeconds(1);
    await bed.sync();
    expect([bed.remembered.backup, bed.saved]).toEqual(['two', 1]);
    await bed.reconnect();
    expect(bed.compared).toBe(1);
  });

  test('is compared anew with each connection until a comparison has gone well', async () => {
    const bed = await comparedBed();
    bed.answer = 'two';
    for (const kind of ['failed', 'partial', 'unreachable', 'limited'] as const) {
      await bed.reconnect();
      await passSeconds(1);
      await bed.sync('full', 0, kind);
    }
    expect([bed.compared, bed.remembered.backup]).toEqual([4, 'one']);
  });

  test('is not remembered for a comparison that had begun before it was asked', async () => {
    const bed = await comparedBed();
    bed.answer = 'two';
    await bed.reconnect();
    await passSeconds(3);
    await bed.sync('full', 5); // 2 s before the connection, so partly perhaps to the one before
    expect(bed.remembered.backup).toBe('one');
    await passSeconds(3);
    await bed.sync('full', 2);
    expect(bed.remembered.backup).toBe('two');
  });

  test('only after a comparison is remembered when the answer comes', async () => {
    const bed = await comparedBed();
    const { promise, resolve } = Promise.withResolvers<string>();
    bed.answer = promise;
    await bed.reconnect();
    await passSeconds(1);
    await bed.sync();
    expect(bed.remembered.backup).toBe('one');
    resolve('two');
    await settle();
    expect(bed.remembered.backup).toBe('two');
  });

  test('is compared where another one was remembered over a restart, though not before the first comparison', async () => {
    const bed = new Bed('one', 'two');
    await bed.connect();
    expect(bed.compared).toBe(0); // everything is about to be
    await passSeconds(1);
    await bed.sync();
    expect(bed.remembered.backup).toBe('two');
    expect([bed.compared, log.text]).toEqual([0, '']);
  });
});

describe('a backup that does not say what it is', () => {
  const answered = { answer: undefined };

  test('is compared when its connection was lost, and told', async () => {
    const bed = Object.assign(await comparedBed(), answered);
    await bed.reconnect();
    expect(bed.compared).toBe(1);
    expect(log.text).toMatch(/\[WARN.*连接曾经中断，无法得知它是否已更换，立即进行一次全量比较/);
    await bed.sync();
    expect(bed.remembered.backup).toBe('one'); // of one that says nothing, nothing is remembered
  });

  test('is left alone where no connection was lost', async () => {
    const bed = Object.assign(await comparedBed(), answered);
    await bed.connect();
    expect([bed.compared, log.text]).toEqual([0, '']);
  });

  test('is compared at most every five minutes, and the last loss counts, too', async () => {
    const bed = Object.assign(await comparedBed(), answered);
    for (let n = 0; n < 20; n++) await bed.reconnect();
    expect(bed.compared).toBe(1);
    await passSeconds(275);
    expect(bed.compared).toBe(1);
    await passSeconds(10);
    expect(bed.compared).toBe(2);
    await passSeconds(400);
    expect(bed.compared).toBe(2);
    await bed.reconnect();
    expect(bed.compared).toBe(3);
  });
});

describe('a backup that has taken over', () => {
  test('is told once, asked every minute, and compared with care once it receives again', async () => {
    const bed = await comparedBed();
    bed.answer = PROMOTED;
    await bed.reconnect();
    expect([bed.state.isPromoted, bed.compared, bed.asked]).toEqual([true, 0, 2]);
    await passSeconds(59);
    expect(bed.asked).toBe(2);
    await passSeconds(182);
    await bed.reconnect();
    expect(bed.asked).toBe(7);
    expect(log.text.match(/\[ERROR.*备份端已接管/g)).toHaveLength(1);
    bed.answer = 'two';
    await passSeconds(61);
    expect([bed.state.isPromoted, bed.compared, bed.asked]).toEqual([false, 1, 8]);
    expect(log.text).toContain('备份端重新接收镜像');
    expect(log.text).not.toContain('已重新启动');
    await passSeconds(200);
    expect(bed.asked).toBe(8);
  });

  test('has taken over still where nobody can be asked, and not where something else answers', async () => {
    const bed = await comparedBed();
    bed.answer = PROMOTED;
    await bed.reconnect();
    bed.answer = UNASKED;
    await passSeconds(61);
    await bed.reconnect();
    expect([bed.state.isPromoted, bed.compared]).toEqual([true, 0]);
    bed.answer = undefined; // an sshd without start-sshd, or an older one
    await passSeconds(61);
    expect([bed.state.isPromoted, bed.compared]).toEqual([false, 1]);
  });

  test('may have done so before it was ever compared, or tell an rsync', async () => {
    const bed = new Bed(undefined, PROMOTED);
    await bed.connect();
    expect(bed.state.isPromoted).toBe(true);
    const other = await comparedBed();
    other.state.promote();
    await passSeconds(61);
    expect([other.state.isPromoted, other.compared]).toEqual([false, 1]);
  });
});
