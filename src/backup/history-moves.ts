/**
 * What was renamed in the backup by name, so that a version is found under the name that it had: a rename makes no new file.
 *
 *   const journal = new MovesJournal('/data/backup/.history/now-4711-83120.moves');
 *   journal.around('old', 'new', () => rename());
 *   movesIn(bytes, 0); // [{ time: 1795889034123, from: 'old', to: 'new' }]
 */
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';

/** A rename, of a file or a directory with all in it. Paths are relative to DEST_DIR, bytes in latin1 strings. */
export interface Move {
  /** When it was done, ms since 1970; what it has replaced was replaced before. */
  time: number;
  from: string;
  to: string;
}

/** How many digits a time has: it is written over once the rename is done. */
const DIGITS = 16;
const digitsOf = (time: number) => String(time).padStart(DIGITS, '0');

export class MovesJournal {
  private file: number | undefined;
  private length = 0;

  constructor(private readonly path: string) {}

  /**
   * Does a rename that is written down before: where there is no room for that, it is not done.
   * @returns whether it was done
   */
  around(from: string, to: string, rename: () => boolean): boolean {
    const file = this.open();
    const record = Buffer.from(`${digitsOf(0)}\0${from}\0${to}\0`, 'latin1');
    let isDone = false;
    try {
      const written = writeSync(file, record, 0, record.length, this.length);
      isDone = written === record.length && rename();
    } finally {
      if (!isDone) ftruncateSync(file, this.length);
    }
    if (!isDone) return false;
    writeSync(file, digitsOf(Math.ceil(Date.now()) + 1), this.length);
    this.length += record.length;
    return true;
  }

  /** Opens it for the first rename. */
  private open(): number {
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    this.file ??= openSync(Buffer.from(this.path, 'latin1'), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    return this.file;
  }

  [Symbol.dispose](): void {
    if (this.file !== undefined) closeSync(this.file);
  }
}

/** Reads a journal; a record that was cut short at its end is left out. A rename whose time was not written is taken for one at the end. */
export function movesIn(journal: Buffer, end: number): Move[] {
  const fields = journal.toString('latin1').split('\0');
  const moves: Move[] = [];
  for (let n = 0; n + 3 < fields.length; n += 3) {
    const time = Number(fields[n]) || end;
    moves.push({ time, from: fields[n + 1] ?? '', to: fields[n + 2] ?? '' });
  }
  return moves;
}

/** A rename and its place in the order in which all were done. */
interface Ranked extends Move {
  rank: number;
}

/** Renames by where they have led, so that those of one path are found among many. */
export class Moves {
  private readonly times: number[];
  private readonly byTarget = new Map<string, Ranked[]>();

  /** @param moves those of a time and of the same time in the order in which they were done */
  constructor(moves: readonly Move[]) {
    const ranked = moves.toSorted((a, b) => a.time - b.time).map((move, rank) => ({ ...move, rank }));
    this.times = ranked.map(({ time }) => time);
    for (const move of ranked) {
      const list = this.byTarget.get(move.to);
      if (list) list.push(move);
      else this.byTarget.set(move.to, [move]);
    }
  }

  /** Finds where something was before all these renames that lay at a path until a time. */
  before(path: string, until: number): string {
    let former = path;
    let rank = this.rankOf(until);
    for (let move = this.lastTo(former, rank); move; move = this.lastTo(former, rank)) {
      former = move.from + former.slice(move.to.length);
      rank = move.rank;
    }
    return former;
  }

  /** Says how many of them were done before a time. */
  private rankOf(until: number): number {
    let [low, high] = [0, this.times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.times[middle] ?? 0) < until) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Finds the last rename before others that has led to a path or to a directory above it. */
  private lastTo(path: string, rank: number): Ranked | undefined {
    if (rank === 0) return undefined;
    let last: Ranked | undefined;
    for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) {
      const found = this.byTarget.get(path.slice(0, end))?.findLast((it) => it.rank < rank);
      if (found && found.rank >= (last?.rank ?? 0)) last = found;
    }
    return last;
  }
}
