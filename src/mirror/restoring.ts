/**
 * Has the service send nothing while somebody restores into the source: a tree that is only half there must not be mirrored back. It goes
 * on to watch, and mirrors again when the restore has ended, however it did.
 *
 *   if (!(await restoring.passed())) return; // a request to stop has come first
 */
import { EventEmitter } from 'node:events';
import type { Command } from '../service/control.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { isLocked } from '../service/locks.ts';
import { log } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { escapeText, t } from '../service/text.ts';
import { ALL } from './changes.ts';
import type { Memory, RememberedTarget } from './memory.ts';
import type { TargetState } from './target-state.ts';

/** By these a restore asks the service to send nothing, and tells it that all is there. */
export const [PAUSE, COMPLETE] = ['restore', 'restored'];
/** What it answers while a sync goes on that was begun before: nobody reads it, and a restore of any release knows it by these characters. */
export const BUSY = '同步尚未结束';
/** How often it is looked at whether it has ended, ms. */
const POLL_MS = 200;

/** Whether deletions are held for nothing but a restore: none was counted yet. */
const isMark = ({ held }: RememberedTarget) => held?.count === 0;

/**
 * Has deletions on a target held until the whole tree was compared and nothing would be deleted: what a restore that was cut off has not
 * brought is missing in the source, and must not be deleted on the backup for that.
 */
export function markRestored(remembered: RememberedTarget): void {
  remembered.held ??= { count: 0, directories: [], since: Date.now() };
}

interface Parts {
  directory: string;
  memory: Pick<Memory, 'target' | 'save' | 'restoreLock'>;
  targets: Pick<TargetState, 'name' | 'held' | 'isRestoring' | 'resumedAt' | 'changes' | 'isSending'>[];
  /** Whether anything is deleted on targets. */
  deletes: boolean;
  isLocked?: (path: string) => boolean;
}

/** Emits `over` when a restore has ended. */
export class Restoring extends EventEmitter {
  isOn = false;
  /** Whether the restore says that all is there that was to come. */
  private isWhole = false;

  constructor(private readonly parts: Parts) {
    super();
    this.setMaxListeners(0); // each target waits
  }

  /** Resolves when something may be sent: with false where a request to stop has come first. */
  async passed(): Promise<boolean> {
    if (this.look()) await lifecycle.waitFor(this, 'over');
    return !this.isOn;
  }

  /** Whether somebody restores now. */
  private look(): boolean {
    if (!this.isOn && this.isLocked()) this.begin();
    return this.isOn;
  }

  private isLocked(): boolean {
    return (this.parts.isLocked ?? isLocked)(this.parts.memory.restoreLock);
  }

  private begin(): void {
    const { directory, targets, memory, deletes } = this.parts;
    this.isOn = true;
    this.isWhole = false;
    log('restore.paused', t`正在恢复源目录 ${escapeText(directory)}，暂停同步，继续监控`);
    for (const target of targets) {
      target.isRestoring = true;
      if (deletes) markRestored(memory.target(target.name));
      target.held = memory.target(target.name).held;
    }
    memory.save();
    touch();
    lifecycle.background(this.outlast());
  }

  /** Waits for its end. */
  private async outlast(): Promise<void> {
    while (this.isLocked()) {
      if (lifecycle.signal.aborted) return;
      await lifecycle.pause(POLL_MS);
    }
    const { targets, memory } = this.parts;
    for (const target of targets) {
      const remembered = memory.target(target.name);
      if (this.isWhole && isMark(remembered)) remembered.held = undefined;
      target.held = remembered.held;
      target.isRestoring = false;
      target.resumedAt = Date.now();
      target.changes.add(ALL);
    }
    memory.save();
    this.isOn = false;
    log('restore.resumed', t`恢复已结束，继续同步：随即全量比较`);
    touch();
    this.emit('over');
  }

  /** Answers whoever is about to restore, and has locked the source: done is it once nothing is sent any more. */
  readonly pause: Command = async () => {
    if (!this.look()) return { isDone: false, text: t`源目录没有被恢复锁定` };
    const isBusy = this.parts.targets.some(({ isSending }) => isSending);
    return isBusy ? { isDone: false, text: BUSY } : { isDone: true, text: '' };
  };

  /** Hears from a restore that all is there: nothing has to be held for it. */
  readonly complete: Command = async () => {
    this.isWhole = this.isOn;
    return { isDone: this.isOn, text: '' };
  };
}
