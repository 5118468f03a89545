/**
 * What a path was at a time. A version that was kept, or what is there now, was made when it was received, and was there until it was
 * replaced or removed.
 *
 *   const found = new Lookup(at, moves);
 *   found.add({ path: 'a/b', born: 10, until: 20, isExact: true, origin });
 *   found.chosen(); // the path at that time, and what it was
 */
import { type Move, Moves } from './history-moves.ts';

/** Something that is, or was, at a path. Times are ms since 1970. */
export interface Life<Origin> {
  /** Where it was last: relative to DEST_DIR, bytes in a latin1 string. */
  path: string;
  /** Since when it was there; nothing where the file system does not tell. */
  born: number | undefined;
  /** Until when, Infinity for what is there now. */
  until: number;
  /** Whether that is the time when it was replaced or removed, and not only one before which that was. */
  isExact: boolean;
  origin: Origin;
}

/** What a path was, and whether that is sure. */
export interface Choice<Origin> extends Life<Origin> {
  doubt: Doubt | undefined;
}

/** Why it is not sure: versions of that time were thinned out, or the file system does not tell when this one was made. */
type Doubt = 'thinned' | 'unborn';

export class Lookup<Origin> {
  private readonly found = new Map<string, Choice<Origin>>();
  private readonly moves: Moves;

  /** @param at the time that is asked for @param moves all renames */
  constructor(
    private readonly at: number,
    moves: readonly Move[],
  ) {
    this.moves = new Moves(moves.filter(({ time }) => time > at));
  }

  /** Says whether something was there at that time, as far as it is known. */
  has({ born, until }: Life<Origin>): boolean {
    return until > this.at && (born ?? 0) <= this.at;
  }

  /** Takes something into account. Returns whether it is what its path was, for now. */
  add(life: Life<Origin>): boolean {
    if (!this.has(life)) return false;
    const doubt = life.born === undefined ? 'unborn' : undefined;
    return this.offer({ ...life, path: this.pathOf(life), doubt });
  }

  /** Says where something was at that time. */
  pathOf({ path, until }: Pick<Life<Origin>, 'path' | 'until'>): string {
    return this.moves.before(path, until);
  }

  /** Takes what was at a path before that time, and of which later versions may have been thinned out: better than nothing. Returns whether it is that, for now. */
  addFormer(life: Life<Origin>): boolean {
    const other = this.found.get(life.path);
    if (other && (other.doubt !== 'thinned' || other.until >= life.until)) return false;
    this.found.set(life.path, { ...life, doubt: 'thinned' });
    return true;
  }

  private offer(choice: Choice<Origin>): boolean {
    const other = this.found.get(choice.path);
    if (other && !isBetter(choice, other)) return false;
    this.found.set(choice.path, choice);
    return true;
  }

  /** Lists what was there, the paths in no order. */
  chosen(): IterableIterator<Choice<Origin>> {
    return this.found.values();
  }

  find(path: string): Choice<Origin> | undefined {
    return this.found.get(path);
  }
}

/**
 * Whether of two that may have been there the first one was: the one that was replaced first, for what was received meanwhile was not in
 * place yet. Where it is not known when that was, it is the one that was made last.
 */
function isBetter<Origin>(one: Choice<Origin>, other: Choice<Origin>): boolean {
  if (other.doubt === 'thinned') return true;
  if (one.isExact && other.isExact) return one.until < other.until;
  return (one.born ?? 0) > (other.born ?? 0);
}
