/**
 * Notices an rsync that does nothing any more in the midst of its work: its other side was stopped, or the disk there hangs. That
 * does not end by itself, nor by rsync's --timeout where one of the two processes there still greets this side.
 *
 *   using _ = new Standstill(rsync, { state, isPrompt: true });
 */
import type { ChildProcess } from 'node:child_process';
import { observe, signalGroup, startedBy } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { t } from '../service/text.ts';
import type { TargetState } from './target-state.ts';

/** How often it is looked at, ms. */
const LOOK_MS = 5000;
/** How long nothing may happen until it is told, ms: a disk may write out its cache for some time. */
const TOLD_MS = 120_000;
/** How long until it is ended, so that the next try takes another way; without --checksum no side is silent for as long. */
export const ENDED_MS = 1_800_000;

interface Parts {
  state: Pick<TargetState, 'warn' | 'log' | 'stalledSince'>;
  /** Whether the other side has no whole files to read before it answers. */
  isPrompt: boolean;
  /** Finds what a process and all that it has started have done; a stand-in serves tests. */
  look?: (pid: number) => string;
}

export class Standstill implements Disposable {
  private readonly looking: NodeJS.Timeout;
  private work = '';
  /** Since when nothing has happened, ms on the clock of `performance.now()`. */
  private since = performance.now();

  constructor(
    private readonly rsync: ChildProcess,
    private readonly parts: Parts,
  ) {
    this.looking = setInterval(() => this.inspect(), LOOK_MS);
  }

  private inspect(): void {
    const { look = workOf, isPrompt, state } = this.parts;
    const work = look(this.rsync.pid ?? 0);
    const ms = performance.now() - this.since;
    if (work !== this.work) {
      this.work = work;
      this.since = performance.now();
      this.resume();
    } else if (ms >= (isPrompt ? TOLD_MS : ENDED_MS) && state.stalledSince === undefined)
      this.tell(Math.round(ms / 1000));
    if (ms < ENDED_MS || !isPrompt) return;
    state.warn('sync.ended', t`同步已 30 分钟没有任何进展，已中止，将重试`, { seconds: Math.round(ms / 1000) });
    this.since = performance.now();
    signalGroup(this.rsync, 'SIGTERM');
  }

  private tell(seconds: number): void {
    const { state } = this.parts;
    state.stalledSince = Date.now() - seconds * 1000;
    touch();
    const what = t`同步已 ${seconds} 秒没有任何进展。请检查备份端的磁盘和 rsync 进程；有进展后自动继续`;
    state.warn('sync.stalled', what, { seconds });
  }

  /** Says that something happens again, if it was told that nothing did. */
  private resume(): void {
    const { state } = this.parts;
    if (state.stalledSince === undefined) return;
    state.stalledSince = undefined;
    touch();
    state.log('sync.resumed', t`同步又有进展 ✓`);
  }

  [Symbol.dispose](): void {
    clearInterval(this.looking);
    this.parts.state.stalledSince = undefined;
  }
}

/** Several rsyncs of a target that run side by side: since when nothing has happened is told of the one that has stood still for longest. */
export class Stalls {
  private readonly since = new Map<number, number>();
  private count = 0;

  constructor(private readonly state: Parts['state']) {}

  /** Makes a state for one of them. */
  add(): Parts['state'] {
    const { since, state } = this;
    const own = ++this.count;
    return {
      warn: state.warn,
      log: state.log,
      get stalledSince() {
        return since.get(own);
      },
      set stalledSince(time) {
        if (time === undefined) since.delete(own);
        else since.set(own, time);
        state.stalledSince = since.size > 0 ? Math.min(...since.values()) : undefined;
      },
    };
  }
}

/** Finds what a process and all that it has started have done. */
function workOf(pid: number): string {
  return [observe(pid)?.done ?? '', ...startedBy(pid).map(workOf)].join(' ');
}
