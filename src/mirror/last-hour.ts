/**
 * How many syncs there were in each minute of the last hour, how many of them failed, and what went over the line.
 *
 *   const hour = new LastHour();
 *   hour.add({ syncs: 1, failures: 0, bytes: 4096 });
 *   hour.report(); // sixty minutes, the oldest first
 */

/** A minute. */
interface Minute {
  syncs: number;
  failures: number;
  bytes: number;
}

const NO_MINUTE: Minute = { syncs: 0, failures: 0, bytes: 0 };
const MINUTES = 60;
const minuteNow = () => Math.floor(Date.now() / 60_000);

export class LastHour {
  private readonly minutes = new Map<number, Minute>();

  add({ syncs, failures, bytes }: Minute): void {
    const minute = minuteNow();
    const entry = this.minutes.get(minute) ?? NO_MINUTE;
    this.minutes.set(minute, {
      syncs: entry.syncs + syncs,
      failures: entry.failures + failures,
      bytes: entry.bytes + bytes,
    });
    for (const old of this.minutes.keys()) if (old <= minute - MINUTES) this.minutes.delete(old);
  }

  report(): Minute[] {
    const first = minuteNow() - MINUTES + 1;
    return Array.from({ length: MINUTES }, (_, n) => this.minutes.get(first + n) ?? NO_MINUTE);
  }
}
