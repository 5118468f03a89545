/**
 * Pairs the two events of a rename by the kernel's cookie: inotifywait may only be wrong about the names of directories.
 *
 *   renames.begin('7', 'old', true);
 *   renames.complete('7'); // { from: 'old', isCertain: true }
 */
import { MAX_MOVES } from './moves.ts';

/** How many renames may wait for their other half: what is moved out of the source has none. */
const MAX_HALVES = 1000;
/** How many renames are remembered that were told, so that none is taken for another one when it is told twice. */
const MAX_TOLD = 2 * MAX_MOVES;

/** The first half of a rename. */
export interface Half {
  from: string;
  /** Whether nothing was in doubt there. */
  isCertain: boolean;
}

export class Renames {
  private readonly halves = new Map<string, Half>();
  /** From where the last ones went that were complete, by their cookies: while a watcher takes the place of another one, both tell of each. */
  private readonly told = new Map<string, string>();

  /** Takes the first half; returns whether it is not merely told once more. */
  begin(cookie: string, from: string, isCertain: boolean): boolean {
    const before = this.told.get(cookie);
    if (before !== undefined) return before !== from; // one of the watchers may have an old name for a directory
    this.halves.set(cookie, { from, isCertain });
    dropOldest(this.halves, MAX_HALVES);
    return true;
  }

  /** Takes the second half; returns the first one, nothing where there was none. */
  complete(cookie: string): Half | undefined {
    const half = this.halves.get(cookie);
    if (!half) return undefined;
    this.halves.delete(cookie);
    this.told.set(cookie, half.from);
    dropOldest(this.told, MAX_TOLD);
    return half;
  }
}

/** Drops the oldest entry beyond `most`. */
function dropOldest(kept: Map<string, unknown>, most: number): void {
  const [oldest] = kept.keys();
  if (oldest !== undefined && kept.size > most) kept.delete(oldest);
}
