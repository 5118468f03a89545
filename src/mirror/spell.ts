/**
 * What the log tells while much goes on: all of it at first, then only what is new. What it tells again and again is counted.
 *
 *   const spell = new Spell();
 *   if (spell.tellsChange('/data/a MODIFY', now)) info(…); // otherwise it is counted
 *   spell.summarise();                                     // { changes: 5800, syncs: 58, … }
 */

/**
 * How many lines the log has room for at once, and how many more each second, for each target: a file that somebody saves makes about ten,
 * so that sixty of them in a row, and one every ten seconds for ever, are told in full. A file that is written all the time uses that up
 * within a minute.
 */
export const LINES_AT_ONCE = 600;
const LINES_PER_SECOND = 1;
/** How many lines more what is new may use while what is known is left out. */
export const RESERVE = 300;
/** After how long what was told is told again, ms, and how much that was told is remembered. */
export const AGAIN_MS = 600_000;
const MOST_REMEMBERED = 2000;
/** How long nothing must have been left out until all is told again, ms. */
export const REST_MS = 60_000;

/** What was left out of the log. */
export interface Omitted {
  /** Changes that are not named. */
  changes: number;
  /** Syncs that went well, the files and bytes that went with them, and how long they took, seconds. */
  syncs: number;
  files: number;
  bytes: number;
  seconds: number;
  /** Lines of rsync, and remarks on a sync. */
  lines: number;
  /** Tries to reach a target that is known to be away. */
  tries: number;
}

const nothing = (): Omitted => ({ changes: 0, syncs: 0, files: 0, bytes: 0, seconds: 0, lines: 0, tries: 0 });

export class Spell {
  /** Whether what is known is left out. */
  isBusy = false;
  /** How many changes were named, by which it shows whether there is news. */
  named = 0;
  /** Whether no target can be reached: what changes meanwhile is named once. */
  isAway = () => false;
  /** Told when something is left out. */
  onOmitted = () => {};
  /** What was left out since the start, and since it was summed up. */
  readonly total = nothing();
  private recent = nothing();
  private left: number;
  /** When that was so, and when something was left out last, ms on the clock of `performance.now()`. */
  private at: number | undefined;
  private lastOmitted = Number.NEGATIVE_INFINITY;
  /** When what was told last, the oldest first. */
  private readonly told = new Map<string, number>();

  /** @param targets how many there are: each tells of its own syncs */
  constructor(private readonly targets = 1) {
    this.left = LINES_AT_ONCE * targets;
  }

  /** Whether what is known is left out at present. */
  isThin(now: number): boolean {
    this.refill(now);
    if (this.isBusy && now - this.lastOmitted >= REST_MS && this.left > 0) this.isBusy = false;
    return this.isBusy || this.isAway();
  }

  /** Decides whether a change is named. @param key what makes two changes the same for a reader */
  tellsChange(key: string, now: number): boolean {
    const isTold = this.isThin(now) ? this.isNews(key, now) && this.left > -RESERVE : true;
    if (!isTold) {
      this.omit({ changes: 1 }, now);
      return false;
    }
    this.remember(key, now);
    this.named++;
    this.spend(1, now);
    return true;
  }

  /**
   * Decides whether something is told that says the same each time: where what is known is left out, it is once in a while, however
   * little room there is.
   */
  tellsKind(kind: string, now: number, isThin = this.isThin(now)): boolean {
    const isTold = !isThin || this.isNews(kind, now);
    if (isTold) this.remember(kind, now);
    return isTold;
  }

  /** Takes lines out of what there is room for. */
  spend(lines: number, now: number): void {
    this.refill(now);
    this.left -= lines;
    if (this.left > 0 || this.isBusy) return;
    this.isBusy = true;
    this.lastOmitted = now;
    this.onOmitted();
  }

  /** Counts what is left out. */
  omit(what: Partial<Omitted>, now: number): void {
    add(this.recent, what);
    this.count(what);
    this.lastOmitted = now;
    this.onOmitted();
  }

  /** Counts what is left out, and of which the log says so by itself. */
  count(what: Partial<Omitted>): void {
    add(this.total, what);
  }

  /** Hands out what was left out since the last time; nothing where that is nothing. */
  summarise(): Omitted | undefined {
    const { recent } = this;
    this.recent = nothing();
    return Object.values(recent).some((count) => count > 0) ? recent : undefined;
  }

  private refill(now: number): void {
    const seconds = (now - (this.at ?? now)) / 1000;
    this.at = now;
    const { targets } = this;
    this.left = Math.min(LINES_AT_ONCE * targets, this.left + seconds * LINES_PER_SECOND * targets);
  }

  private isNews(key: string, now: number): boolean {
    return now - (this.told.get(key) ?? Number.NEGATIVE_INFINITY) >= AGAIN_MS;
  }

  private remember(key: string, now: number): void {
    this.told.delete(key);
    this.told.set(key, now);
    const [oldest] = this.told.keys();
    if (this.told.size > MOST_REMEMBERED && oldest !== undefined) this.told.delete(oldest);
  }
}

function add(sum: Omitted, what: Partial<Omitted>): void {
  for (const [key, count] of Object.entries(what)) sum[key as keyof Omitted] += count;
}
