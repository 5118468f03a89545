/**
 * Directories whose events may be missing or come under other names: each is wholly in every batch until a watcher that was
 * started later has its watches.
 *
 *   doubts.add('new', 1);      // seen by the first watcher
 *   doubts.settle(2, began);   // the second one stands: ['new']
 */
import { EventEmitter } from 'node:events';
import { withParents } from '../service/files.ts';
import { touch } from '../service/status.ts';

/** More directories than this are as good as all of the source. */
const MAX_DOUBTS = 10_000;

/** Emits `added`. */
export class Doubts extends EventEmitter {
  /** Since when changes may have come that were not seen, but are looked for. */
  since: Date | undefined;
  /** The directories, with the watcher that saw them, by its number. */
  private readonly seenBy = new Map<string, number>();

  get size(): number {
    return this.seenBy.size;
  }

  get paths(): string[] {
    return [...this.seenBy.keys()];
  }

  /** Whether a path lies in one of them. */
  covers(path: string): boolean {
    return this.size > 0 && withParents(path).some((it) => this.seenBy.has(it));
  }

  /** Whether a watcher has seen itself that all of the source is in doubt. */
  isAllSeenBy(watcher: number): boolean {
    return this.seenBy.get('') === watcher;
  }

  /** Adds a directory, '' for all of the source. */
  add(path: string, watcher: number): void {
    const isFull = this.size >= MAX_DOUBTS;
    if (isFull) this.seenBy.clear();
    this.seenBy.set(isFull ? '' : path, watcher);
    this.since ??= new Date();
    touch();
    this.emit('added');
  }

  /**
   * Ends the doubts about what was seen before a watcher was started.
   * @param began when it was started
   * @returns the directories, to be looked at once more now that they are watched
   */
  settle(watcher: number, began: Date): string[] {
    const settled = [...this.seenBy].filter(([, seenBy]) => seenBy < watcher).map(([path]) => path);
    for (const path of settled) this.seenBy.delete(path);
    this.since = this.size > 0 ? began : undefined;
    return settled;
  }
}
