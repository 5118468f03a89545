/**
 * Whether all that has happened in the source until now has been told: each watcher watches a file of ours, too, and what it tells of
 * that comes after all that has happened before. Where something may have been lost, all of the source is in doubt first.
 *
 *   const markers = new Markers(doubts, () => watch.distrust(''));
 *   markers.add(watcher, 1);
 *   await markers.pass(); // what had happened when that was asked has been told, or was looked for by a watcher that came later
 */
import { EventEmitter } from 'node:events';
import { parentOf } from '../service/files.ts';
import { t } from '../service/language.ts';
import { lifecycle, shared } from '../service/lifecycle.ts';
import { Failure } from '../service/text.ts';
import type { Doubts } from './doubts.ts';
import type { Watcher } from './inotifywait.ts';

/** Emits `added` with each watcher. */
export class Markers extends EventEmitter {
  /** Those whose watches stand, and that may still have something to tell. */
  private readonly watchers = new Set<Watcher>();
  /** Those that were silent for so long that they have told all that happened before others stood in their place. */
  private readonly silent = new WeakSet<Watcher>();

  /** The number of the last one. */
  private standing = 0;

  /** @param distrust puts all of the source in doubt */
  constructor(
    private readonly doubts: Pick<Doubts, 'covers'>,
    private readonly distrust: () => void,
  ) {
    super();
  }

  /** Takes a watcher whose watches stand, once what it has looked for is no longer in doubt. */
  add(watcher: Watcher, number: number): void {
    this.standing = number;
    this.watchers.add(watcher);
    watcher.once('exit', () => this.watchers.delete(watcher));
    this.emit('added');
  }

  /**
   * Whether what a watcher tells of a path is surely about that: no other one tells, too, under names of its own, and where the path lies
   * is not in doubt. @param last the number of the one that was started last
   */
  trusts(path: string, number: number, last: number): boolean {
    const isAlone = number === last && number === this.standing && this.watchers.size === 1;
    return isAlone && !this.doubts.covers(parentOf(path));
  }

  /** Says of a watcher that it has nothing left to tell. */
  release(watcher: Watcher): void {
    this.silent.add(watcher);
    this.watchers.delete(watcher);
  }

  /**
   * Resolves once all has been told that had happened when it was asked. It may take as long as nothing can be watched. All that ask
   * meanwhile share one answer. @throws {Failure} where the service stops
   */
  readonly pass = shared(async (): Promise<void> => {
    while (!(await this.haveAllTold())) if (lifecycle.stopping) throw new Failure(t`服务正在停止`);
  });

  /** Resolves with whether all watchers have told what had happened; not where there is none, or all is in doubt. */
  private async haveAllTold(): Promise<boolean> {
    const watchers = [...this.watchers];
    if (watchers.length === 0 || this.doubts.covers('')) {
      await lifecycle.waitFor(this, 'added');
      return false;
    }
    const marks = await Promise.all(watchers.map((watcher) => watcher.mark()));
    const isTold = watchers.every((watcher, n) => marks[n] || this.silent.has(watcher));
    if (!isTold && !lifecycle.stopping && !this.doubts.covers('')) this.distrust();
    return isTold && !this.doubts.covers('');
  }
}
