import { afterEach, beforeEach, describe, expect, spyOn, test } from 'bun:test';
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { Waiting } from '../../../src/mirror/waiting.ts';
import { children } from '../../../src/service/processes.ts';
import { pass, passSeconds, settle, withOwnClock } from './stand-ins.ts';

withOwnClock();

/** An rsync that waits until it is ended. */
class StandInRsync extends EventEmitter {
  readonly stderr = new PassThrough();
  isEnded = false;

  constructor(readonly pid: number) {
    super();
    children.add(this as unknown as ChildProcess);
  }

  exit(): void {
    if (this.isEnded) return;
    this.isEnded = true;
    children.delete(this as unknown as ChildProcess);
    this.emit('exit', 0, null);
  }
}

type Armed = { rsync: ChildProcess; id: number };

/** A target's rsyncs, numbered as they are started, from 1 on. */
class Bed {
  readonly started: StandInRsync[] = [];
  mayStart = true;
  readonly waiting: Waiting<Armed>;

  constructor(intervalMs = 0) {
    this.waiting = new Waiting({ start: () => this.start(), mayStart: () => this.mayStart, intervalMs });
  }

  private start(): Armed {
    const id = this.started.push(new StandInRsync(1_000_000_000 + this.started.length));
    return { rsync: this.started[id - 1] as unknown as ChildProcess, id };
  }

  /** Those that run, by number: those that wait and those that were handed out. */
  get running(): number[] {
    return this.started.flatMap(({ isEnded }, index) => (isEnded ? [] : index + 1));
  }

  take(isUsable: (id: number) => boolean = () => true): number | undefined {
    return this.waiting.take(({ id }) => isUsable(id))?.id;
  }

  rsync(id: number): StandInRsync {
    return this.started[id - 1] as StandInRsync;
  }

  /** Does all that goes with a sync that takes so long, ms; returns who has done it. */
  async sync(ms: number): Promise<number | undefined> {
    const id = this.take();
    if (this.waiting.isPressed) this.waiting.fill();
    await pass(ms);
    if (id !== undefined) this.rsync(id).exit();
    this.waiting.noteWork(ms);
    this.waiting.fill();
    return id;
  }
}

let kill: ReturnType<typeof spyOn>;
let bed: Bed;

beforeEach(() => {
  bed = new Bed();
  kill = spyOn(process, 'kill').mockImplementation((pid: number) => {
    bed.started.find((it) => it.pid === -pid)?.exit();
    return true;
  });
});

afterEach(() => {
  kill.mockRestore();
  for (const rsync of bed.started) rsync.exit();
});

describe('how many wait', () => {
  test('one, and the next one once the sync is over, while changes come one at a time', async () => {
    bed.waiting.fill();
    bed.waiting.fill();
    expect(bed.running).toEqual([1]);
    for (let n = 1; n <= 5; n++) {
      expect(await bed.sync(5)).toBe(n);
      expect(bed.running).toEqual([n + 1]);
      await pass(1000);
    }
  });

  test('as many as are used up while one is made, no more than four, and one again once all is quiet', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 20; n++) await bed.sync(10);
    expect(bed.running).toHaveLength(4);
    bed.take();
    expect(bed.waiting.isPressed).toBe(true);
    bed.waiting.fill();
    expect(bed.running).toHaveLength(5); // one of which transfers
    await passSeconds(5);
    expect(bed.running).toHaveLength(2);
  });

  test('two on a long link also while all is quiet, unless no two syncs begin so soon after each other', async () => {
    for (const [intervalMs, count] of [
      [0, 2],
      [5000, 1],
    ] as const) {
      bed = new Bed(intervalMs);
      bed.waiting.fill();
      for (let n = 0; n < 3; n++) await bed.sync(160);
      await passSeconds(10);
      expect(bed.running).toHaveLength(count);
    }
  });

  test('none where none may be started', () => {
    bed.mayStart = false;
    bed.waiting.fill();
    expect(bed.running).toEqual([]);
  });
});

describe('one that waits', () => {
  test('is handed out only if it can be used, the oldest one first; the others are ended', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 20; n++) await bed.sync(10);
    const [first = 0, second = 0, third = 0] = bed.running;
    expect(bed.take((id) => id >= third)).toBe(third);
    expect(bed.running).not.toContain(first);
    expect(bed.running).not.toContain(second);
    expect(bed.take(() => false)).toBeUndefined();
    expect(bed.running).toEqual([third]);
  });

  test('is replaced at once where it dies late, and after a while where it dies early, one for all that have died', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 20; n++) await bed.sync(10);
    for (const id of bed.running) bed.rsync(id).exit();
    await passSeconds(4);
    bed.waiting.fill();
    expect(bed.running).toEqual([]);
    await passSeconds(2);
    expect(bed.running).toHaveLength(1);
    await passSeconds(6);
    const [last = 0] = bed.running;
    bed.rsync(last).exit();
    await settle();
    expect(bed.running).toEqual([last + 1]);
  });

  test('is ended with all others, and none takes its place by itself', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 20; n++) await bed.sync(10);
    bed.waiting.endAll();
    await passSeconds(10);
    expect(bed.running).toEqual([]);
    bed.waiting.fill();
    expect(bed.running).not.toEqual([]);
  });
});

describe('a session that the server refuses', () => {
  const refusal = 'mux_client_request_session: session request failed: Session open refused by peer\r\n';
  const refuse = (id: number) => {
    bed.rsync(id).stderr.write(refusal);
    bed.rsync(id).stderr.emit('readable');
  };

  test('is ended, and no more are started than the server has room for, until it may be another one', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 20; n++) await bed.sync(10);
    const [first = 0, ...others] = bed.running;
    expect(others).toHaveLength(3);
    for (const id of others) refuse(id);
    expect(bed.running).toEqual([first]);
    expect(await bed.sync(10)).toBe(first);
    expect(bed.running).toHaveLength(1);
    await bed.sync(10);
    expect(bed.running).toHaveLength(1);
    bed.waiting.reset();
    await bed.sync(10);
    expect(bed.running.length).toBeGreaterThan(1);
  });

  test('is kept where it is the only one: ssh has made a connection for it', () => {
    bed.waiting.fill();
    refuse(1);
    expect(bed.running).toEqual([1]);
    expect(bed.take()).toBe(1);
    expect(String(bed.rsync(1).stderr.read())).toBe(refusal);
  });
});

describe('what one says while it waits', () => {
  const say = (id: number, words: string) => {
    bed.rsync(id).stderr.write(words);
    bed.rsync(id).stderr.emit('readable');
  };

  test('is there when it is used, all of it', () => {
    bed.waiting.fill();
    for (const word of ['one, ', 'two, ', 'three']) say(1, word);
    expect(bed.rsync(1).stderr.readableLength).toBe(0); // nobody has to wait until it is read
    expect(bed.take()).toBe(1);
    expect(String(bed.rsync(1).stderr.read())).toBe('one, two, three');
  });

  test('is too much once it is more than 64 kB: it is ended, and another one is started after a while', async () => {
    bed.waiting.fill();
    for (let n = 0; n < 64; n++) say(1, '.'.repeat(1024));
    expect(bed.running).toEqual([1]);
    say(1, '.');
    expect(bed.running).toEqual([]);
    expect(bed.rsync(1).stderr.destroyed).toBe(true);
    await passSeconds(4.9);
    expect(bed.take()).toBeUndefined();
    await passSeconds(0.2);
    expect(bed.running).toEqual([2]);
    expect(bed.take()).toBe(2);
  });
});
