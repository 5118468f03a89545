/**
 * Directories of which a target lacks nothing but their time, for something has come and gone in them that it was never sent: they wait
 * for a while, so that many of these cost one sync.
 *
 *   later.defer(['d']); // within LATER_MS, d is a change like any other
 */
import { isWithin } from '../service/files.ts';
import { touch } from '../service/status.ts';
import { type Batch, type Change, UNKNOWN } from './changes.ts';

/** How long they wait at most, ms, and how many of them. */
const LATER_MS = 10_000;
const MAX_LATER = 1000;

export class Later {
  private readonly known = new Map<string, Change>();
  private timer: NodeJS.Timeout | undefined;

  /** @param hand takes them as changes */
  constructor(private readonly hand: (batch: Batch) => void) {}

  /** Those that wait, with since when. */
  get waiting(): Batch {
    return this.known;
  }

  /** @param since when the first of what has come and gone in them was seen, ms on the clock of `performance.now()` */
  defer(directories: Iterable<string>, since = performance.now()): void {
    for (const path of directories)
      if (!this.known.has(path)) this.known.set(path, { ...UNKNOWN, isDirectory: true, since });
    if (this.known.size > MAX_LATER) this.hasten();
    else if (this.known.size > 0) this.timer ??= setTimeout(() => this.hasten(), LATER_MS).unref();
    touch();
  }

  /** Forgets a directory that has gone, with all that is in it: it has no time any more. */
  forget(directory: string): void {
    for (const path of this.known.keys()) if (isWithin(path, directory)) this.known.delete(path);
  }

  /** Has them sent with the next sync, which is due. */
  hasten(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const batch = new Map(this.known);
    this.known.clear();
    if (batch.size > 0) this.hand(batch);
  }
}
