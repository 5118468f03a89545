/**
 * An operator has the service send nothing for a time: it goes on to watch, what changes piles up as for a target that is away, and all of it
 * is sent when the time is over. The pause outlives restarts, and ends by itself.
 *
 *   const pause = new Pause({ memory, targets, restoring });
 *   if (!(await pause.passed())) return; // a request to stop has come first
 */
import { EventEmitter } from 'node:events';
import type { Command } from '../service/control.ts';
import { MAX_DURATION_MS } from '../service/duration.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { log } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { localTime, t } from '../service/text.ts';
import type { Memory, Span } from './memory.ts';
import type { Restoring } from './restoring.ts';
import type { TargetState } from './target-state.ts';

/** How often it is looked whether it is over, and whether a sync that was begun before has ended, ms. */
const LOOK_MS = 1000;
const BUSY_MS = 100;

const timeOf = (ms: number) => localTime(new Date(ms));

interface Parts {
  memory: { data: Pick<Memory['data'], 'pause'>; save: () => boolean };
  targets: Pick<TargetState, 'pause' | 'resume' | 'isSending'>[];
  /** What else keeps the service from sending. */
  restoring: Pick<Restoring, 'passed'>;
}

/** Emits `over` when it has ended. */
export class Pause extends EventEmitter {
  /** Whether the log tells of it: one that a former start has left is told when something waits for its end. */
  private isTold = true;

  /** Goes on with a pause that a former start has left. */
  constructor(private readonly parts: Parts) {
    super();
    this.setMaxListeners(0); // each target waits
    if (this.isOn) this.isTold = false;
    if (this.span) this.start();
  }

  private get span(): Span | undefined {
    return this.parts.memory.data.pause;
  }

  get isOn(): boolean {
    return this.span !== undefined;
  }

  /** Resolves when something may be sent, also for a restore: with false where a request to stop has come first. */
  async passed(): Promise<boolean> {
    while (!lifecycle.signal.aborted) {
      if (this.isOn) await this.waitForEnd();
      if (!(await this.parts.restoring.passed())) return false;
      if (!this.isOn) return true;
    }
    return !this.isOn && this.parts.restoring.passed();
  }

  private async waitForEnd(): Promise<void> {
    if (!this.isTold && this.span)
      log('pause.kept', t`启动前的暂停仍然有效，到 ${timeOf(this.span.until)} 为止：不同步，继续监控`);
    this.isTold = true;
    await lifecycle.waitFor(this, 'over');
  }

  /** Has nothing be sent for so long from now on, ms; a pause that is on gets this end. Returns whether that outlives a restart. */
  private begin(ms: number): boolean {
    const { memory } = this.parts;
    const now = Date.now();
    const until = now + ms;
    memory.data.pause = { since: Math.min(this.span?.since ?? now, now), until }; // the clock may have been set back since
    this.isTold = true;
    const text = t`已按要求暂停同步，到 ${timeOf(until)} 为止，继续监控`;
    log('pause.begun', text, { until: new Date(until).toISOString() });
    this.start();
    return memory.save();
  }

  private start(): void {
    for (const target of this.parts.targets) target.pause = this.span;
    touch();
    lifecycle.background(this.outlast());
  }

  /** Ends it in time. A clock that is set back makes it no longer than it was asked for. */
  private async outlast(): Promise<void> {
    const { span } = this;
    if (!span) return;
    const left = () => span.until - Math.max(Date.now(), span.since);
    const latest = performance.now() + left();
    for (;;) {
      const ms = Math.min(left(), latest - performance.now());
      if (ms <= 0) return this.end(t`已到期`);
      await lifecycle.pause(Math.min(ms, LOOK_MS));
      if (lifecycle.signal.aborted || this.span !== span) return;
    }
  }

  private end(how: string): void {
    const { memory, targets } = this.parts;
    memory.data.pause = undefined;
    memory.save();
    log('pause.ended', t`暂停${how}，继续同步`);
    for (const target of targets) target.resume();
    touch();
    this.emit('over');
  }

  /** Answers --pause: done is it once nothing is sent any more. */
  readonly pause: Command = async ({ ms }, gone) => {
    if (typeof ms !== 'number' || !(ms > 0 && ms <= MAX_DURATION_MS)) return { isDone: false, text: t`时长无效` };
    const isKept = this.begin(ms);
    const { span } = this;
    await lifecycle.pause(1); // whatever was let through this moment has begun then
    while (this.span === span && this.isSending && !gone.aborted && !lifecycle.stopping) await lifecycle.pause(BUSY_MS);
    if (!span || this.span !== span)
      return { isDone: false, text: t`暂停已被结束或更改，而之前开始的同步可能仍在进行` };
    if (this.isSending) return { isDone: false, text: t`服务正在停止，之前开始的同步尚未结束` };
    const warning = isKept ? '' : t`（无法保存在 SSH_DIR 中：服务重启后就不再暂停）`;
    return {
      isDone: true,
      text: t`已暂停同步，到 ${timeOf(span.until)} 为止；没有同步在进行，变化继续累积${warning}`,
    };
  };

  private get isSending(): boolean {
    return this.parts.targets.some((target) => target.isSending);
  }

  /** Answers --resume: done is it where the pause was still on, so that nothing was sent until now. */
  readonly resume: Command = async () => {
    const { span } = this;
    if (!span) return { isDone: false, text: t`没有暂停：可能从未开始，或已到期` };
    this.end(t`已按要求结束`);
    return { isDone: true, text: t`已结束自 ${timeOf(span.since)} 起的暂停，继续同步` };
  };
}
