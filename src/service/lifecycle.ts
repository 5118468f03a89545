/**
 * How a program ends: on a signal, by a failure, or with an answer. One object knows whether it is to stop; all waits ask it.
 *
 *   lifecycle.handleSignals();
 *   while (!lifecycle.stopping) await lifecycle.pause(1000);
 */
import { type EventEmitter, once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeLog, error, log, print, printed } from './log.ts';
import { reapOrphans } from './orphans.ts';
import { children, endChildren } from './processes.ts';
import { escapeText, Failure, printable, t } from './text.ts';

/** How long work may go on after a signal to stop, ms; `docker compose stop` shall take less than 5 s. */
const STOP_MS = 2500;
/** How long what runs at an exit may take, ms. */
const EXIT_MS = 1000;

/** How often all looks that are taken again and again are taken, ms. */
const BEAT_MS = 1000;

/** What a program prints instead of doing its work, and its exit status. */
export interface Answer {
  text: string;
  /** What follows it, piece by piece, where that may be much. */
  more?: Iterable<string>;
  status: number;
}

class Lifecycle {
  /** Whether the program is to end. */
  stopping = false;
  private readonly request = new AbortController();
  /** The work that a request to stop lets finish. */
  private work: Promise<unknown> = Promise.resolve();
  private readonly stopHooks: (() => Promise<unknown>)[] = [];
  private readonly exitHooks: (() => unknown)[] = [];
  /** The wait for the next beat, while anybody waits for it. */
  private beating: Promise<void> | undefined;
  private react = (signal: string) => this.stop(signal);

  /** Aborted when waits are to end, a little after `stopping`: once the hooks of `onStop` are done. */
  get signal(): AbortSignal {
    return this.request.signal;
  }

  /** Has `hook` run when the program is to stop, before all waits end. */
  onStop(hook: () => Promise<unknown>): void {
    this.stopHooks.push(hook);
  }

  /** Has `hook` run at every exit, for EXIT_MS at most. */
  onExit(hook: () => unknown): void {
    this.exitHooks.push(hook);
  }

  /** Has a request to stop let this work finish, for STOP_MS at most; returns it. */
  finishFirst<T>(work: Promise<T>): Promise<T> {
    this.work = work.catch(() => {});
    return work;
  }

  /** Has work go on that nobody waits for, some of it until the end: if it fails, the program does. */
  background(work: Promise<unknown>): void {
    void work.catch((cause) => this.fail(cause));
  }

  /** Stops the program on SIGTERM, SIGINT and SIGHUP. Where it is the first one of a container, it reaps what others leave behind. */
  handleSignals(): void {
    reapOrphans();
    for (const signal of stopSignals()) process.on(signal, () => this.background(this.react(signal)));
  }

  /** Has a signal end the program with `status` from now on, and say nothing: there is nothing to finish. */
  abandonOnSignal(status: number): void {
    this.react = async () => {
      this.stopping = true;
      await endChildren();
      await this.exit(status);
    };
  }

  /** Stops with exit status 0, once work has finished that may. */
  async stop(signal: string): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    log('service.stopping', t`收到 ${signal}，正在停止服务...`, { signal });
    for (const hook of this.stopHooks) await hook();
    this.request.abort();
    await Promise.race([this.work, sleep(STOP_MS)]);
    await endChildren();
    await Promise.race([this.work, sleep(500)]);
    log('service.stopped', t`服务已停止 ✓`);
    await this.exit(0);
  }

  /** Tells what went wrong and ends the program: the one place where errors end. */
  async fail(cause: unknown): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    const isExpected = cause instanceof Failure;
    const message = isExpected ? cause.message : String(cause instanceof Error ? cause.stack : cause);
    const fields = { exit_code: isExpected ? cause.status : 1 };
    for (const line of message.split('\n')) error('service.failed', isExpected ? line : escapeText(line), fields);
    await endChildren();
    await this.exit(isExpected ? cause.status : 1);
  }

  /** Prints an answer, as fast as its reader takes it, and exits. */
  async answer({ text, more = [], status }: Answer): Promise<void> {
    print(printable(text));
    for (const piece of more) {
      await printed();
      print(printable(piece));
    }
    await printed();
    await this.exit(status);
  }

  /** Exits once the log is written: process.exit alone would cut a pipe off. */
  async exit(status: number): Promise<void> {
    await Promise.race([Promise.all(this.exitHooks.map(async (hook) => hook())), sleep(EXIT_MS)]);
    await Promise.race([closeLog(), sleep(EXIT_MS)]);
    if (children.size > 0) await endChildren(); // work that goes on until now may have started them
    process.exit(status);
  }

  /** Waits, ms; a request to stop ends it. */
  async pause(ms: number, signal = this.signal): Promise<void> {
    if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
  }

  /**
   * Waits for so many beats, the first of which comes within a second; a request to stop ends it. Whoever looks again and again looks at the
   * same moment as all others: what looking costs is for the most part the waking, of which there is one then.
   */
  async nextBeat(count = 1): Promise<void> {
    for (let n = 0; n < count && !this.signal.aborted; n++) {
      this.beating ??= this.pause(BEAT_MS).finally(() => {
        this.beating = undefined;
      });
      await this.beating;
    }
  }

  /** Waits for an event; a request to stop ends it. */
  async waitFor(emitter: EventEmitter, event: string, signal = this.signal): Promise<void> {
    await once(emitter, event, { signal }).catch(() => {});
  }

  /** Waits, ms, or until an event; a request to stop ends it. */
  async pauseOr(ms: number, emitter: EventEmitter, event: string): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.signal]);
    await Promise.race([this.pause(ms, signal), this.waitFor(emitter, event, signal)]);
    over.abort();
  }
}

/** Lists the signals that stop us: a closed terminal's too, so that no child is left behind, unless nohup has SIGHUP (bit 0) ignored. */
function stopSignals(): string[] {
  const nohup = /^SigIgn:.*[13579bdf]$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return ['SIGTERM', 'SIGINT', ...(nohup ? [] : ['SIGHUP'])];
}

export const lifecycle = new Lifecycle();

/** Gives waits of 1, 2, 4 … 60 s, in ms. @param most how long one lasts at most, ms */
export function* newBackoff(most = 60_000): Generator<number, never> {
  for (let ms = 1000; ; ms = Math.min(2 * ms, most)) yield ms;
}
export type Backoff = ReturnType<typeof newBackoff>;

/**
 * Has all who ask for the same work while it is under way share the next one: what had begun before they asked says nothing of what
 * happened in between.
 */
export function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | undefined;
  let next: Promise<T> | undefined;
  const begin = () => {
    current = work().finally(() => {
      current = undefined;
    });
    return current;
  };
  const follow = () => {
    next = undefined;
    return begin();
  };
  return () => {
    if (next) return next;
    if (!current) return begin();
    next = current.then(follow, follow);
    return next;
  };
}
