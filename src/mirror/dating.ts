/**
 * Tells of which files size and time may not say what they hold: where another file takes the place of one, or its time is put back
 * after it was written, the target may have one of the same size and time and other content.
 *
 *   dating.begin(batch);                           // a sync begins
 *   dating.after('a', event, [waiting], false);    // a file at 'a' whose time is no later than that is to be compared by content
 */
import type { Stats } from 'node:fs';
import { type Batch, type Change, isWritten } from './changes.ts';
import type { Event } from './events.ts';

/** How long after a sync has ended an event may still be told of what that has seen, ms. */
const LATE_MS = 5000;
/** The time of a file may be told by a clock that ticks, and ours drops what is less than this, ms. */
const TICK_MS = 1;
/** How many changes are looked through at most for one below a directory; of more, there may be one. */
const MAX_LOOKS = 1000;

/** Whether the time of a file tells nothing of its content: it is no later than that, or still to come, which nobody writes at. */
export const isUntold = ({ mtimeMs }: Pick<Stats, 'mtimeMs'>, dated: number, now = Date.now()) =>
  dated > 0 && (mtimeMs <= dated + TICK_MS || mtimeMs > now + TICK_MS);

/** What must be known of an event. */
type Told = Pick<Event, 'kind' | 'isDirectory'>;

export class Dating {
  /** When the last two syncs were begun, and when the last one has ended, ms since 1970. */
  private begun: number;
  private previous: number;
  private ended: number;
  private isUnderWay = false;
  /** What the last one was about. */
  private batch: Batch = new Map();
  /** What was sent beside it, or may have been, until another sync has looked at that. */
  private readonly beside = new Set<string>();

  /** @param now the time, ms since 1970 @param clock the clock of what waits, ms */
  constructor(
    private readonly now: () => number = Date.now,
    private readonly clock = () => performance.now(),
  ) {
    this.begun = this.previous = this.ended = now();
  }

  begin(batch: Batch): void {
    [this.previous, this.begun, this.batch, this.isUnderWay] = [this.begun, this.now(), batch, true];
  }

  /** Says that files go beside what is sent else, whenever that is. */
  beginBeside(paths: Iterable<string>): void {
    for (const path of paths) this.beside.add(path);
  }

  end(): void {
    if (this.batch.get('')?.tree) this.beside.clear();
    for (const path of this.batch.keys()) this.beside.delete(path);
    [this.ended, this.isUnderWay] = [this.now(), false];
  }

  /**
   * Says after an event how late the time of a file there, or below, may be at most that tells nothing of its content, ms since 1970;
   * 0 where size and time will do. What the target has there has changed last before the sync that has brought it began: a file
   * that was written later has another time. So what is saved by a temporary file and a rename is sent as ever.
   * @param lacking what has changed and is not mirrored, what waits for the next sync at first
   * @param mayHoldMore whether the target may hold what the source has not had there any more
   */
  after(path: string, event: Told, lacking: Batch[], mayHoldMore: boolean): number {
    if (!this.mayBeOther(path, event, lacking, mayHoldMore)) return 0;
    if (this.mayLieBeside(path)) return this.now();
    const isInLast = this.batch.has(path) || this.batch.get('')?.tree === true;
    const since = isInLast ? this.begun : this.previous;
    const known = lacking[0]?.get(path);
    return known && this.isRecent ? Math.max(since, this.now() - (this.clock() - known.at)) : since;
  }

  /** Whether the target may have there, or below, what went beside a sync, at a time that is not known. */
  private mayLieBeside(path: string): boolean {
    return [...this.beside].some((it) => it === path || it.startsWith(`${path}/`));
  }

  /** Whether the last sync may have seen what was there between changes that have just been told. */
  private get isRecent(): boolean {
    return this.isUnderWay || this.now() < this.ended + LATE_MS;
  }

  /** Whether a target may have something else there that is like what the source has in size and time. */
  private mayBeOther(path: string, { kind, isDirectory }: Told, lacking: Batch[], mayHoldMore: boolean): boolean {
    const seen = this.isRecent ? [...lacking, this.batch] : lacking;
    const isKnown = () => mayHoldMore || seen.some((batch) => batch.has(path));
    if (kind === 'create') return isKnown();
    // Of directories, only an empty one gives way, unless two are exchanged: then the first one has come and seems to go again.
    if (kind === 'moved_to') return !isDirectory || isKnown() || hasBelow(seen, path);
    if (kind === 'moved_from') return isDirectory && lacking[0]?.get(path)?.kind === 'moved_to';
    if (kind !== 'attrib' || isDirectory) return false;
    return seen.some((batch) => isRewritten(batch.get(path)));
  }
}

/** Whether something below a directory has changed, as far as that is soon found out. */
function hasBelow(batches: Batch[], directory: string): boolean {
  if (batches.reduce((sum, { size }) => sum + size, 0) > MAX_LOOKS) return true;
  return batches.some((batch) => [...batch.keys()].some((path) => path.startsWith(`${directory}/`)));
}

/** Whether what the target has was written to, so that only the time can tell, which may be put back. */
function isRewritten(change: Change | undefined): boolean {
  return change !== undefined && isWritten(change) && (!change.fresh || change.dated > 0);
}
