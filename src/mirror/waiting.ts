/**
 * The rsyncs that are connected to a target already and wait for the names of the next batches: as many as are used up while one is
 * made anew.
 *
 *   waiting.fill();
 *   const armed = waiting.take(isUpToDate); // its names make it transfer at once
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { lifecycle } from '../service/lifecycle.ts';
import { children, signalGroup } from '../service/processes.ts';

/** How many wait at most: with one that transfers and the sessions beside it, that is well below the ten of sshd's `MaxSessions`. */
const MAX_WAITING = 4;
/** One that dies sooner than this after its start is not replaced at once, ms. */
const SHORT_LIFE_MS = 5000;
/** How much one may say while it waits, bytes: warnings, which are told once it is used. */
const MAX_SAID = 65_536;
/** How long nothing is sent until no more wait than while all is quiet, ms. */
const IDLE_MS = 3000;
/** What it takes to make one: programs are started on both sides, ms, and answers are awaited so many times as long as a small sync takes. */
const START_MS = 40;
const START_SYNCS = 3.5;
/** How many of the last syncs tell how long a small one takes, and how few do not: the machine may be busy. */
const MAX_SAMPLES = 16;
const MIN_SAMPLES = 3;
/** From when on one takes long to be made, ms: then the next one is begun before the sync is over. */
const LONG_MS = 300;
/** What ssh says where the server has no room for another session in a connection (`MaxSessions`); it then makes a connection by itself. */
const REFUSED = 'Session open refused by peer';

/** How often it is looked whether those that wait can still be used, in beats of a second. */
const LOOK_BEATS = 2;

/** What waits. */
interface Armed {
  rsync: ChildProcess;
}

/** What it works with. */
interface Parts<T extends Armed> {
  /** Starts one. */
  start: () => T;
  /** Whether one may be started now. */
  mayStart: () => boolean;
  /** How long there is between two syncs at least, ms. */
  intervalMs: number;
  /** How many may be there, besides what may be known of that here. */
  room?: () => number;
  /** Takes in what one says while it waits. */
  hear?: (said: string) => void;
}

export class Waiting<T extends Armed> {
  private idle: T[] = [];
  /** Those that were handed out and have not ended. */
  private readonly used = new Set<T>();
  /** What each of those that wait has said. */
  private readonly said = new Map<T, Buffer[]>();
  /** How many sessions the server has room for, as far as it has refused one. */
  private room = Number.POSITIVE_INFINITY;
  /** When the last ones were handed out, and how long their work took, ms. */
  private taken: number[] = [];
  private samples: number[] = [];
  /** Whether one has died since the last one was handed out. */
  private hasFailed = false;
  /** What ends the time in which none is started, and what ends those that are not needed any more. */
  private rest: NodeJS.Timeout | undefined;
  private quiet: NodeJS.Timeout | undefined;

  constructor(private readonly parts: Parts<T>) {}

  /** How long it takes until a new one waits, ms, judged by how long the quickest of the last syncs took. */
  private get makingMs(): number {
    return this.samples.length < MIN_SAMPLES ? 0 : START_MS + START_SYNCS * Math.min(...this.samples);
  }

  /** How many shall wait: as many as were handed out within the time in which one is made, and a second one on a long link. */
  private get wanted(): number {
    if (this.hasFailed) return 1;
    const { makingMs } = this;
    const since = performance.now() - 1.5 * makingMs;
    const pace = this.taken.filter((at) => at > since).length;
    const least = makingMs > Math.max(LONG_MS, this.parts.intervalMs) ? 2 : 1;
    return Math.min(Math.max(pace, least), MAX_WAITING);
  }

  /** Starts those that are missing, where there is room for them. */
  fill(): void {
    if (this.rest) return;
    for (let { wanted } = this; this.idle.length < wanted && this.hasRoom && this.parts.mayStart(); ) this.add();
  }

  private get hasRoom(): boolean {
    return this.idle.length + this.used.size < Math.min(this.room, this.parts.room?.() ?? this.room);
  }

  private add(): void {
    const [armed, started] = [this.parts.start(), performance.now()];
    this.idle.push(armed);
    const { rsync } = armed;
    if (rsync.stderr) this.hear(armed, rsync.stderr);
    const end = () => {
      this.used.delete(armed);
      this.said.delete(armed);
      if (this.remove(armed)) this.replace(performance.now() - started);
    };
    rsync.once('exit', end).once('error', end);
  }

  private remove(armed: T): boolean {
    const isIdle = this.idle.includes(armed);
    this.idle = this.idle.filter((it) => it !== armed);
    return isIdle;
  }

  /** Starts one in place of one that has died; where it did not live long, all rest for a while, whichever of them have died. */
  private replace(age: number): void {
    this.hasFailed = true;
    if (age >= SHORT_LIFE_MS) this.fill();
    else this.restFor(SHORT_LIFE_MS);
  }

  private restFor(ms: number): void {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.rest = undefined;
      this.fill();
    }, ms).unref();
  }

  /**
   * Keeps what one says for when it is used: all sessions share a connection, which stands still where that is not read. Ends one that
   * talks without end, and one that the server has no room for where others are there: no more than it has room for are started then.
   */
  private hear(armed: T, stderr: Readable): void {
    const said: Buffer[] = [];
    this.said.set(armed, said);
    stderr.on('readable', () => {
      for (let chunk: Buffer | null = stderr.read(); chunk; chunk = stderr.read()) said.push(chunk);
      if (!this.idle.includes(armed)) return;
      const all = Buffer.concat(said);
      this.parts.hear?.(all.toString('latin1'));
      const others = this.idle.length + this.used.size - 1;
      const isRefused = others > 0 && all.includes(REFUSED);
      if (isRefused) this.room = others;
      if (isRefused || all.length > MAX_SAID) this.end(armed);
      if (all.length > MAX_SAID) this.replace(0);
    });
  }

  /** Puts back what one has said while it waited. */
  private hush(armed: T): void {
    const { stderr } = armed.rsync;
    const said = Buffer.concat(this.said.get(armed) ?? []);
    this.said.delete(armed);
    stderr?.removeAllListeners('readable');
    if (said.length > 0 && !stderr?.readableEnded) stderr?.unshift(said);
  }

  /** Hands out one that can be used; ends those that cannot. */
  take(isUsable: (armed: T) => boolean): T | undefined {
    const now = performance.now();
    this.taken = [...this.taken, now].slice(-2 * MAX_WAITING);
    this.hasFailed = false;
    this.endSpareSoon();
    while (true) {
      const armed = this.idle.shift();
      if (!armed) return undefined;
      if (isUsable(armed) && children.has(armed.rsync)) {
        this.hush(armed);
        this.used.add(armed);
        return armed;
      }
      this.end(armed, 'SIGKILL');
    }
  }

  /** Has new ones wait in place of those that cannot be used any more, before they are needed; until a request to stop. */
  async keepUsable(isUsable: (armed: T) => boolean): Promise<void> {
    while (!lifecycle.signal.aborted) {
      await lifecycle.nextBeat(LOOK_BEATS);
      for (const armed of this.idle) if (!isUsable(armed)) this.end(armed);
      this.fill();
    }
  }

  /** Whether the next one is to be started before the sync is over that was just begun: it would be missed. */
  get isPressed(): boolean {
    return this.wanted > 1;
  }

  /** Takes in how long the work of one took, ms. */
  noteWork(ms: number): void {
    this.samples = [...this.samples, ms].slice(-MAX_SAMPLES);
  }

  /** Ends those that are not needed while all is quiet, once it is. */
  private endSpareSoon(): void {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => {
      for (const spare of this.idle.slice(this.wanted)) this.end(spare);
    }, IDLE_MS).unref();
  }

  private end(armed: T, signal: NodeJS.Signals = 'SIGTERM'): void {
    this.remove(armed);
    this.said.delete(armed);
    signalGroup(armed.rsync, signal);
    armed.rsync.stderr?.destroy();
  }

  /** Ends all: they wait for names and do not notice that their connection is lost, or have rules that are none any more. */
  endAll(signal: NodeJS.Signals = 'SIGTERM'): void {
    for (const armed of this.idle) this.end(armed, signal);
  }

  /** Forgets how many sessions the server has room for, and that some did not live long: it may be another one. */
  reset(): void {
    this.room = Number.POSITIVE_INFINITY;
    clearTimeout(this.rest);
    this.rest = undefined;
  }
}
