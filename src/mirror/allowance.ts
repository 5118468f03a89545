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
/** Deletions so close to each other are kept as one, ms; so there are 61 of them at most. */
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

  /** Says how many were deleted within the last hour. The clock may have been set back since. */
  spent(): number {
    const now = this.now();
    const recent = this.remembered.deletions.filter(({ time }) => Math.abs(now - time) < HOUR);
    this.remembered.deletions = recent;
    return recent.reduce((sum, { count }) => sum + count, 0);
  }

  /** Notes that so many were deleted now. */
  spend(count: number): void {
    if (count === 0) return;
    this.spent(); // drops what is too old
    const last = this.remembered.deletions.at(-1);
    const now = this.now();
    if (last && now >= last.time && now - last.time < MINUTE) last.count += count;
    else this.remembered.deletions.push({ time: now, count });
  }

  /** Forgets what was deleted: somebody has looked at it. */
  restart(): void {
    this.remembered.deletions = [];
  }
}
