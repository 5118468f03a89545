/** What the parts of the mirror are tested with in place of the real thing. */

import { afterEach, beforeEach, jest, spyOn } from 'bun:test';
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import type { Stats } from 'node:fs';
import { Absence } from '../../../src/mirror/absence.ts';
import { type Batch, type Change, UNKNOWN } from '../../../src/mirror/changes.ts';
import { type Host, hostsOf } from '../../../src/mirror/config.ts';
import { readConfig } from '../../../src/mirror/environment.ts';
import type { Event, Kind } from '../../../src/mirror/events.ts';
import type { Watcher } from '../../../src/mirror/inotifywait.ts';
import type { Outcome } from '../../../src/mirror/rsync.ts';
import { Spell } from '../../../src/mirror/spell.ts';
import { Voice } from '../../../src/mirror/voice.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { children } from '../../../src/service/processes.ts';

/** The target that variables describe. */
export function hostFor(variables: Record<string, string>, sshSettings: string[] = []): Host {
  const [host] = hostsOf(readConfig({ SOURCE_DIR: '/tmp/', ...variables }), sshSettings);
  return host as Host;
}

/** An event as inotifywait tells it. */
export function event(kind: Kind, changes: Partial<Event> = {}): Event {
  const names = `${kind.toUpperCase()}${changes.isDirectory ? ',ISDIR' : ''}`;
  return { kind, isDirectory: false, path: '', cookie: '', names, ...changes };
}

interface Thing {
  type?: 'file' | 'directory' | 'link';
  nlink?: number;
  size?: number;
  ino?: number;
}

/** What lstat says of a thing, on device 1: of a small file with one name unless told otherwise. */
export function statsOf({ type = 'file', nlink = 1, size = 0, ino = 1 }: Thing = {}): Stats {
  const answers = {
    isFile: () => type === 'file',
    isDirectory: () => type === 'directory',
    isSymbolicLink: () => type === 'link',
  };
  return { ...answers, nlink, size, ino, dev: 1 } as Stats;
}

/** A change of which only this is known. */
export const change = (known: Partial<Change> = {}): Change => ({ ...UNKNOWN, ...known });

/** The outcome of a sync, that of a list which went well unless told otherwise. */
export const outcome = (changes: Partial<Outcome> = {}): Outcome => ({
  ...{ mode: 'incremental', kind: 'done', status: 0, seconds: 0.5, unrepeated: [] },
  ...changes,
});

/** A voice that tells all. */
export const aloud = () => new Voice(new Spell(), new Absence(), { log: () => {}, warn: () => {} });

/** A watcher that says what a test has it say. Its watches stand at once unless told otherwise. */
export class StandInWatcher extends EventEmitter implements Watcher {
  watches = 1;
  isEnded = false;
  isStopped = false;
  /** What it answers when it is asked whether it is silent, and the questions. */
  silence: Promise<boolean> = Promise.resolve(true);
  /** What comes of the next marks; all is told where nothing else is said. */
  readonly marks: Promise<boolean>[] = [];
  readonly asked: [least: number, most: number][] = [];

  constructor(readonly established: Promise<void> = Promise.resolve()) {
    super();
  }

  waitForSilence(least: number, most: number): Promise<boolean> {
    this.asked.push([least, most]);
    return this.silence;
  }

  mark(): Promise<boolean> {
    return this.marks.shift() ?? Promise.resolve(true);
  }

  countWatches(): Promise<number> {
    return Promise.resolve(this.watches);
  }

  listInodes(): Promise<string[]> {
    return Promise.resolve([]);
  }

  end(): void {
    this.isEnded = true;
    this.emit('exit', null, 'SIGKILL');
  }

  giveUp(): void {
    this.end();
  }
}

/** What a watch asks whether all is watched: nothing is missed unless a test says so. */
export class StandInCoverage {
  missed: string[] = [];

  inspect(): Promise<string[]> {
    return Promise.resolve(this.missed);
  }
}

/** Nothing goes beside what is sent. */
export const nothingBeside = {
  isBusy: false,
  split: (batch: Batch) => batch,
  finish: async () => true,
  clear: async () => {},
  note: () => {},
  isInTheWayOf: () => false,
  touchesMoves: () => false,
  takeTotals: () => ({ files: 0, bytes: 0, created: 0, deleted: 0 }),
};

/** Nothing keeps a target from being sent anything. */
export const neverPaused = { passed: async () => true };

/** Nothing is mounted below the source. */
export const standInPlaces = { refresh: async () => [] as string[], keep: async () => {}, isTold: () => true };

/** Keeps what the program prints until the end of the block, so that it can be looked at and is not seen among the tests. */
export function keepLog(): { text: string; writes: number } & Disposable {
  const kept = { text: '', writes: 0, [Symbol.dispose]: () => spy.mockRestore() };
  const spy = spyOn(process.stdout, 'write').mockImplementation((chunk: unknown, ...rest: unknown[]) => {
    kept.text += String(chunk);
    kept.writes++;
    for (const done of rest) if (typeof done === 'function') done();
    return true;
  });
  return kept;
}

/** Lists the programs that have been started from now on and have not ended, whatever other tests of the process have left. */
export function startedFromNow(): () => ChildProcess[] {
  const before = new Set(children);
  return () => [...children].filter((child) => !before.has(child));
}

/** Lets all go on that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  for (let n = 0; n < 50; n++) await Promise.resolve();
}

/** Lets time pass on a clock that stands still otherwise, ms, with all that it sets going on its way. */
export async function pass(ms: number): Promise<void> {
  await settle();
  for (let rest = ms; rest > 0; rest -= 1) {
    jest.advanceTimersByTime(Math.min(1, rest));
    await settle();
  }
}
/** The same for long times, in which nothing depends on a few milliseconds. */
export async function passSeconds(seconds: number): Promise<void> {
  await settle();
  for (let n = 0; n < seconds * 10; n++) {
    jest.advanceTimersByTime(100);
    await settle();
  }
}

/** Has the program be about to stop: `stopping` at once, and all waits end with the signal. */
export const request = new (class {
  controller = new AbortController();

  begin(): void {
    this.controller = new AbortController();
    Object.defineProperty(lifecycle, 'signal', { configurable: true, get: () => this.controller.signal });
  }

  stop(): void {
    lifecycle.stopping = true;
    this.controller.abort();
  }

  end(): void {
    this.controller.abort(); // no wait goes on behind the test
    lifecycle.stopping = false;
    Reflect.deleteProperty(lifecycle, 'signal');
  }
})();

/** Has each test of a file run with a clock of its own and a log that is kept, and end with nothing going on behind it. */
export function withOwnClock(): { readonly text: string } {
  let log: ReturnType<typeof keepLog>;
  beforeEach(() => {
    jest.useFakeTimers();
    request.begin();
    log = keepLog();
  });
  afterEach(async () => {
    request.end();
    await settle();
    log[Symbol.dispose]();
    jest.useRealTimers();
  });
  return {
    get text() {
      return log.text;
    },
  };
}
