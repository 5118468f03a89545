/**
 * When a target is sent what, and what becomes of it: at most one sync starts in SYNC_INTERVAL, and what failed is tried again.
 *
 *   for await (const { batch } of target.batches()) await target.settle(batch, await target.send(batch));
 */
import { EventEmitter } from 'node:events';
import { type Backoff, lifecycle, newBackoff } from '../service/lifecycle.ts';
import { t } from '../service/text.ts';
import type { Announcer } from './announcer.ts';
import type { Beside } from './beside.ts';
import { ALL, type Batch, REGULAR, TREE, UNKNOWN } from './changes.ts';
import type { Connection } from './connection.ts';
import type { Doubts } from './doubts.ts';
import { saysPromoted } from './faults.ts';
import type { Pause } from './pause.ts';
import type { Recovery } from './recovery.ts';
import { NOT_SENT, type Outcome } from './rsync.ts';
import type { Sender } from './sender.ts';
import type { TargetState } from './target-state.ts';

/** How long a batch waits for a short quiet at most, ms. */
const MAX_QUIET_MS = 100;
/** After how long the only target is asked again that did not answer, ms: soon, for it may have known our key by a former name; then as at the start. */
const [SOON_MS, TRY_MS] = [1000, 5000];

/** What is sent at a time. */
export interface Due {
  batch: Batch;
  /** Whether the regular comparison is part of it. */
  isRegular: boolean;
}

/** What a target's schedule works with. */
interface Parts {
  state: TargetState;
  connection: EventEmitter & Pick<Connection, 'socket'>;
  sender: Pick<Sender, 'send' | 'arm' | 'answers'>;
  recovery: Pick<Recovery, 'prepare' | 'next' | 'isDue' | 'isPart' | 'ceilingOf' | 'meet' | 'settle' | 'takeBack'>;
  beside: Pick<Beside, 'split' | 'finish' | 'note' | 'isBusy'>;
  pause: Pick<Pause, 'passed'>;
  doubts: Pick<Doubts, 'paths' | 'since'>;
  announcer: Pick<Announcer, 'closeBatch'>;
}

/** Emits `begun` when the whole tree was compared for the first time, or that has failed for what is in it. */
export class Target extends EventEmitter {
  readonly state: TargetState;
  /** When the last sync was started, ms on the clock of `performance.now()`. */
  private lastStart = 0;
  /** Where the connection stood then. */
  private socket: string | undefined;
  /** Whether a regular comparison is due. */
  private isRegular = false;
  private hasBegun = false;
  /** Whether a request to stop has left something that cannot be sent any more. */
  private hasGivenUp = false;
  private backoff = newBackoff();

  /** @param config intervals in seconds */
  constructor(
    private readonly config: { SYNC_INTERVAL: number; FULL_SYNC_INTERVAL: number; MAX_RETRIES: number },
    private readonly parts: Parts,
  ) {
    super();
    this.state = parts.state;
    parts.connection.on('connected', () => this.emit('roused'));
    parts.state.on('roused', () => this.emit('roused'));
  }

  /** Mirrors a batch, or all of the source if none is given, and has the next rsync wait. */
  async send(batch?: Batch): Promise<Outcome> {
    const { state, connection, sender, recovery, beside, pause } = this.parts;
    if (!(await pause.passed())) return NOT_SENT;
    if (!batch) recovery.prepare();
    if (!batch || !recovery.isPart(batch)) this.lastStart = performance.now(); // what is tried again holds nothing up
    this.socket = connection.socket;
    state.begin(batch ?? new Map());
    const outcome = await sender.send(batch ?? ALL, batch && recovery.ceilingOf(batch));
    state.record(outcome);
    if (outcome.kind === 'failed' && saysPromoted(outcome.faults?.refusal)) state.promote();
    beside.note(batch ?? ALL, outcome);
    sender.arm(); // also where the one that waited has died meanwhile
    return outcome;
  }

  /** Whether a sync has failed for what it had to mirror, or for a connection that can be had again, so that the mirror can go on. */
  async mayGoOn(outcome: Outcome): Promise<boolean> {
    const { kind, status } = outcome;
    if (status === null) return false;
    if (kind !== 'failed' && kind !== 'unreachable') return true;
    for (let tries = 0; !lifecycle.stopping && !this.state.isPromoted; tries++) {
      if (await this.parts.sender.answers()) return true;
      if (tries >= this.config.MAX_RETRIES || this.state.isOneOfMany || !this.isCutOff(outcome)) break;
      await lifecycle.pause(tries === 0 ? SOON_MS : TRY_MS);
    }
    return false;
  }

  /** Hands out each batch when it is due, until a request to stop leaves nothing to be sent. */
  async *batches(): AsyncGenerator<Due> {
    const { recovery, beside } = this.parts;
    while (await this.outlastPromotion()) {
      if (recovery.isDue && !this.hasGivenUp && !(await this.finishBeside())) return;
      if (recovery.isDue) await this.parts.pause.passed(); // what is handed out is lacked by the target only once it is on its way
      const part = this.hasGivenUp ? undefined : recovery.next();
      if (part) {
        yield { batch: part, isRegular: false };
        continue;
      }
      await this.waitUntilDue();
      const maySend = await this.parts.pause.passed();
      if (this.state.isPromoted || (recovery.isDue && !lifecycle.stopping)) continue;
      if (lifecycle.signal.aborted) this.state.later.hasten();
      if (this.hasGivenUp || (this.state.changes.size === 0 && !beside.isBusy)) return;
      if (!maySend) return this.giveUp(this.state.changes.take(0));
      if (this.state.changes.size === 0) {
        if (await this.finishBeside()) continue;
        return;
      }
      const batch = beside.split(this.takeBatch());
      if (batch.size === 0) continue;
      const { isRegular } = this;
      this.isRegular = false;
      yield { batch, isRegular };
    }
  }

  /** Waits while the backup has taken over; resolves with whether there is time to send anything then. */
  private async outlastPromotion(): Promise<boolean> {
    const { state } = this;
    while (state.isPromoted && !lifecycle.signal.aborted) await lifecycle.waitFor(state, 'demoted');
    if (state.isPromoted && state.pending > 0) this.giveUp(state.changes.take(0));
    return !state.isPromoted;
  }

  /** Waits until what goes beside is there, if anything does; resolves with whether there is time to send more. */
  private async finishBeside(): Promise<boolean> {
    const isInTime = await this.parts.beside.finish();
    if (!isInTime) this.giveUp(this.state.changes.take(0));
    return isInTime;
  }

  /** Returns when a batch is due, or when a request to stop leaves no time to wait. */
  private async waitUntilDue(): Promise<void> {
    const { changes } = this.state;
    if (changes.size === 0) await lifecycle.waitFor(changes, 'arrived');
    if (this.parts.recovery.isDue) return;
    const rest = this.lastStart + this.config.SYNC_INTERVAL * 1000 - performance.now();
    if (!this.state.isHurried) await lifecycle.pauseOr(rest, this.state, 'hurried');
    const latest = performance.now() + MAX_QUIET_MS;
    while (!lifecycle.signal.aborted) {
      const ms = changes.wait(latest, this.patience);
      if (ms <= 0) return;
      await lifecycle.pauseOr(ms, changes, 'arrived');
    }
  }

  /** How long a file may stay open before it is mirrored as it is, ms. */
  private get patience(): number {
    return lifecycle.signal.aborted || this.state.isHurried
      ? 0
      : Math.max(this.config.SYNC_INTERVAL * 1000, MAX_QUIET_MS);
  }

  private takeBatch(): Batch {
    this.parts.announcer.closeBatch();
    const batch = this.state.changes.take(this.patience);
    this.state.isHurried = false;
    const { paths, since } = this.parts.doubts;
    const at = since ? since.getTime() - Date.now() + performance.now() : 0;
    for (const path of paths) batch.set(path, { ...UNKNOWN, at, ...batch.get(path), tree: true });
    this.parts.recovery.meet(batch);
    return batch;
  }

  /** Takes in a target after its first full sync, or the try of one. */
  begin(outcome: Outcome | undefined): void {
    if (outcome) lifecycle.background(this.settle(new Map(ALL), outcome));
    else this.lastStart = performance.now();
    if (!outcome) this.state.changes.add(ALL);
    if (outcome && wasTried(outcome)) this.noteBegin();
    lifecycle.background(this.compareRegularly());
  }

  private noteCompare({ kind }: Outcome): void {
    if (kind === 'failed' || kind === 'unreachable') return;
    this.state.mirrored = true;
    this.noteBegin();
  }

  private noteBegin(): void {
    if (!this.hasBegun) this.emit('begun');
    this.hasBegun = true;
  }

  /** Decides what becomes of a batch that was sent; resolves when the next one may be. */
  async settle(batch: Batch, outcome: Outcome): Promise<void> {
    const everything = batch.get('');
    if (everything?.tree) this.noteCompare(outcome);
    if (everything?.since === Number.POSITIVE_INFINITY) batch.set('', TREE); // from now on it is missed, if it failed
    const { kind } = outcome;
    const isWell = kind === 'done' || kind === 'limited';
    if (!isWell && lifecycle.stopping) return this.giveUp(batch);
    const isSettled = !this.isCutOff(outcome) && (await this.parts.recovery.settle(batch, outcome));
    if (!isSettled) await this.retry(batch, outcome);
    else if (kind !== 'failed' && !this.parts.recovery.isPart(batch)) this.backoff = newBackoff();
  }

  /** Whether a sync says nothing of what was sent, for it was not let run, or had no connection, or one that is lost. */
  private isCutOff({ kind, status }: Outcome): boolean {
    const { socket } = this.parts.connection;
    if (kind === 'failed') return status === null || !socket || socket !== this.socket;
    return kind === 'unreachable';
  }

  private giveUp(batch: Batch): void {
    this.hasGivenUp = true;
    const { beside, withheld } = this.state;
    const pending = new Set([batch, beside, withheld].flatMap((it) => [...it.keys()])).size;
    const message = t`${pending} 处变化尚未同步，下次启动时的全量同步会包含它们`;
    this.state.warn('sync.postponed', message, { pending });
  }

  /** Puts a batch back, and waits before it is tried again unless the target has come back meanwhile. */
  private async retry(batch: Batch, { unrepeated }: Outcome): Promise<void> {
    if (!this.parts.recovery.takeBack(batch)) this.state.changes.add(batch);
    this.state.moves.restore(unrepeated);
    if (this.state.isPromoted) return; // it is sent once the backup receives again
    const delay = this.announceRetry(this.backoff, batch.size);
    const { connection } = this.parts;
    const isReconnected = connection.socket && connection.socket !== this.socket;
    if (!isReconnected) await lifecycle.pauseOr(delay, this, 'roused');
  }

  /** Tells when the next try will be, and how far away that is, ms. */
  private announceRetry(backoff: Backoff, count: number): number {
    const delay = backoff.next().value;
    const fields = { delay_ms: delay, pending: count };
    const { telling } = this.state.absence;
    if (telling === 'nothing' || telling === 'reminder') return delay;
    const more = telling === 'retry' ? t`。恢复之前不再逐次记录，每 5 分钟报告一次` : '';
    this.state.warn('sync.retry', `${t`${delay / 1000} 秒后重试，${count} 处变化等待同步`}${more}`, fields);
    return delay;
  }

  /** Has all compared now and then, the safety net: whatever went wrong unnoticed is mended by that. */
  private async compareRegularly(): Promise<void> {
    while (this.config.FULL_SYNC_INTERVAL > 0) {
      await lifecycle.pause(this.config.FULL_SYNC_INTERVAL * 1000);
      if (lifecycle.signal.aborted) return;
      this.isRegular = true;
      this.state.changes.add(REGULAR);
    }
  }
}

/** Whether an rsync was let run and has reached the target, however that went. */
const wasTried = ({ kind, status }: Outcome) => kind !== 'unreachable' && status !== null;
