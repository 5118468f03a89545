/**
 * How much may still be deleted on a target within an hour.
 *
 *   const allowance = new Allowance(parseLimit('50%'), memory.target(name));
 *   allowance.spend(400);
 *   allowance.left(); // 600 of the 1,000 that are always allowed
 */
import type { Limit } from './config.ts';
import type { RememberedTarget } from './memory.ts';

/** How long a deletion counts, ms. */
const HOUR = 3_600_000;
/** Deletions so close to each other are kept as one, ms; so there are some 120 entries at most. */
const MINUTE = 60_000;
/** A percentage never means fewer files than these. */
const LEAST = 1000;

export class Allowance {
  constructor(
    private readonly limit: Limit,
    private readonly remembered: Pick<RememberedTarget, 'files' | 'deletions'>,
    private readonly now = Date.now,
  ) {}

  /** Whether there is a limit at all. */
  get isLimited(): boolean {
    return this.limit.kind !== 'off';
  }

  /** Whether so many files are too few for a percentage of them to be held. */
  isSmall(files: number): boolean {
    return this.limit.kind === 'percent' && files <= LEAST;
  }

  /** Says how many may be deleted within an hour. @param files how many the target held when it was last compared as a whole */
  most(files = this.remembered.files ?? 0): number {
    if (this.limit.kind === 'off') return Number.POSITIVE_INFINITY;
    if (this.limit.kind === 'files') return this.limit.files;
    return Math.max(LEAST, Math.floor((files * this.limit.percent) / 100));
  }

  /** Says how many of them are left. */
  left(files?: number): number {
    return Math.max(0, this.most(files) - this.spent());
  }

  /**
   * Says how many files fewer the target holds than at some time within the last hour: what comes and goes, as caches do, is
   * no loss. The clock may have been set back since.
   */
  spent(): number {
    const now = this.now();
    const recent = this.remembered.deletions.filter(({ time }) => Math.abs(now - time) < HOUR);
    this.remembered.deletions = recent;
    let [sum, most] = [0, 0];
    for (const { count } of recent.toReversed()) {
      sum += count;
      most = Math.max(most, sum);
    }
    return most;
  }

  /** Notes that so many files were deleted now, less those that came. */
  spend(count: number): void {
    if (count === 0) return;
    this.spent(); // drops what is too old
    const { deletions } = this.remembered;
    const last = deletions.at(-1);
    const isRecent = last !== undefined && this.isWithinMinute(last.time);
    if (!isRecent || (last.count < 0 && count > 0)) deletions.push({ time: this.now(), count });
    else last.count += count;
    this.mergeArrivals();
  }

  /** Takes what has come within a minute together, so that a minute has two entries at most: what has come, and what was lost since. */
  private mergeArrivals(): void {
    const { deletions } = this.remembered;
    const [before, last] = deletions.slice(-2);
    if (!before || !last || before.count > 0 || last.count > 0 || !this.isWithinMinute(before.time)) return;
    before.count += last.count;
    deletions.pop();
  }

  private isWithinMinute(time: number): boolean {
    const now = this.now();
    return now >= time && now - time < MINUTE;
  }

  /** Forgets what was deleted: somebody has looked at it. */
  restart(): void {
    this.remembered.deletions = [];
  }
}
