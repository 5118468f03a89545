/**
 * Sends once more what was refused because the other side takes less than it was given: times to the nanosecond, or so many rsyncs.
 *
 *   const result = await new Peer({ host, state, endWaiting }).sendWithin(send);
 */
import { lifecycle } from '../service/lifecycle.ts';
import { t } from '../service/text.ts';
import type { Host } from './config.ts';
import type { Outcome } from './rsync.ts';
import type { TargetState } from './target-state.ts';
import { MIN_ROOM } from './transfers.ts';

/** How long it takes until a daemon has noticed that a connection has ended, ms: at first, and at last where it takes ever longer. */
const [SETTLE_MS, MAX_SETTLE_MS] = [100, 1600];

interface Parts {
  host: Pick<Host, 'peer'>;
  state: Pick<TargetState, 'warn'>;
  /** Ends the rsyncs that wait, at once. */
  endWaiting: () => void;
}

export class Peer {
  /** What was told: that times are compared in whole seconds only, and for how many rsyncs there is room. */
  private isCoarse = false;
  private room = Number.POSITIVE_INFINITY;

  constructor(private readonly parts: Parts) {}

  /** Has what is sent be sent once more where the other side has just said that it takes less, or that it has no room now. */
  async sendWithin<T extends Pick<Outcome, 'kind'>>(send: () => Promise<T>): Promise<T> {
    const { peer } = this.parts.host;
    for (let ms = SETTLE_MS; ; ms *= 2) {
      const { isCoarse, refusals } = peer;
      const result = await send();
      if (peer.isCoarse) this.tellCoarse();
      const isCrowded = result.kind === 'unreachable' && peer.refusals > refusals;
      if (peer.refusals > 0) this.tellRoom(peer.room);
      if (!isCrowded) this.settle();
      if (peer.isCoarse === isCoarse && (!isCrowded || ms > MAX_SETTLE_MS || lifecycle.stopping)) return result;
      if (!isCrowded) continue;
      peer.settleMs = ms;
      this.parts.endWaiting();
      await lifecycle.pause(ms);
    }
  }

  /** Waits less after each rsync from now on: there may have been no room for the rsyncs of others, which have ended since. */
  private settle(): void {
    const { peer } = this.parts.host;
    const least = peer.room < MIN_ROOM ? SETTLE_MS : 0;
    peer.settleMs = Math.min(peer.settleMs, Math.max(least, Math.floor(peer.settleMs / 2)));
  }

  private tellCoarse(): void {
    if (this.isCoarse) return;
    this.isCoarse = true;
    this.parts.state.warn(
      'times.coarse',
      t`备份端的 rsync 早于 3.1.3 或受 rrsync 限制，不接受纳秒精度：文件时间只比较到整秒；变化的文件不论时间一律发送`,
    );
  }

  private tellRoom(room: number): void {
    if (room >= MIN_ROOM || room === this.room) return;
    this.room = room;
    const what = t`rsync 守护进程的模块最多同时接受 ${room} 个连接 (max connections)，等待变化的 rsync 因此不超过 ${room - 1} 个`;
    this.parts.state.warn('daemon.crowded', t`${what}，每次变化可能要先建立连接。设为 4 或更多就不受影响`, { room });
  }
}
