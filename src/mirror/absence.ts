/**
 * How a target that cannot be reached is told of: once, every few minutes, and when it is back.
 *
 *   const absence = new Absence();
 *   absence.note('同步失败 (退出码: 255)', now); // 'failure'
 *   absence.end(now);                            // { seconds: 35, tries: 6 }
 */

/** How often it is told that a target is still away, ms. */
export const REMIND_MS = 300_000;
/** How many reasons are told apart. */
const MAX_REASONS = 20;

/** What is told of a sync that has reached nobody: all; only when the next try is; how long that has gone on; nothing. */
export type Telling = 'failure' | 'retry' | 'reminder' | 'nothing';

export class Absence {
  /** What is told of the last try. */
  telling: Telling | undefined;
  tries = 0;
  private since: number | undefined;
  private toldAt = 0;
  private readonly reasons = new Set<string>();

  /** Whether it is known already. */
  get isKnown(): boolean {
    return this.tries > 0;
  }

  /** Notes that the connection is lost. @param now ms on the clock of `performance.now()` */
  begin(now: number): void {
    this.since ??= now;
  }

  /**
   * Notes a sync that has reached nobody; returns what is told of it. The first two tell when the next try is: most are away no longer.
   * @param reason why, for people; one that is new is told
   */
  note(reason: string, now: number): Telling {
    this.begin(now);
    this.tries++;
    const isNew = !this.reasons.has(reason) && this.reasons.size < MAX_REASONS;
    if (isNew) this.reasons.add(reason);
    if (isNew) this.telling = 'failure';
    else if (this.tries === 2) this.telling = 'retry';
    else this.telling = now - this.toldAt >= REMIND_MS ? 'reminder' : 'nothing';
    if (this.telling !== 'nothing') this.toldAt = now;
    return this.telling;
  }

  /** For how long it has been away, seconds. */
  secondsAt(now: number): number {
    return Math.round((now - (this.since ?? now)) / 1000);
  }

  /** Notes that it can be reached; tells for how long it could not, unless no sync has noticed. */
  end(now: number): { seconds: number; tries: number } | undefined {
    const ended = this.isKnown ? { seconds: this.secondsAt(now), tries: this.tries } : undefined;
    this.since = this.telling = undefined;
    this.tries = 0;
    this.reasons.clear();
    return ended;
  }
}
