/**
 * The renames that a target can repeat instead of having all that was renamed sent once more.
 *
 *   moves.add({ from: 'a', to: 'b', cookie: '7', identity: identityOf(found) });
 *   for (const { from, to } of moves.take(look, lacking)) …
 */
import type { BigIntStats, Stats } from 'node:fs';
import { parentOf, withParents } from '../service/files.ts';
import type { Batch } from './changes.ts';

/** How many renames wait at most; what was renamed beyond is sent. */
export const MAX_MOVES = 10_000;

/** A rename within the source. */
export interface Move {
  from: string;
  to: string;
  /** The kernel's number of the rename (inotify(7)). */
  cookie: string;
  /** Device and inode of what was renamed, nothing where it was not found there any more. */
  identity: string | undefined;
  /** Whether an rsync was under way since: it may have put into the old place what has come there after the rename. */
  isExposed?: boolean | undefined;
  /** Whether it had on its way what may have taken the place of another thing below. */
  isMixed?: boolean | undefined;
}

/** Names a thing by its device and inode, which stay the same when it is renamed. */
export const identityOf = ({ dev, ino }: Pick<Stats | BigIntStats, 'dev' | 'ino'>) => `${dev}:${ino}`;

/** The renames that a target lacks, from where it has a thing to where the source has it, in their order. */
export class Moves extends Map<string, Move> {
  /** Adds a rename, to the one that led to where it begins if there is one. */
  add(move: Move): void {
    const before = this.get(move.from);
    const { from, isExposed, isMixed } = before ?? move; // it was renamed before
    this.delete(move.from);
    this.delete(move.to);
    if (before?.identity && move.identity && before.identity !== move.identity) return; // it was not: two were exchanged
    if (from !== move.to && this.size < MAX_MOVES)
      this.set(move.to, { ...move, from, isExposed: isExposed || move.isExposed, isMixed });
  }

  /** Drops what led to a path to which something else has come. A rename may be told twice, by a watcher and by the one that takes its place. */
  forget(path: string, cookie: string): void {
    if (this.get(path)?.cookie !== cookie) this.delete(path);
  }

  /** Puts back those that have come to nothing, before those that were done since. */
  restore(moves: Move[]): void {
    const since = [...this.values()];
    this.clear();
    for (const move of moves) this.add({ ...move, isExposed: true });
    for (const move of since) this.add(move);
  }

  /**
   * Hands out those that lead to what the source still has there.
   * @param look what the source has at a path
   * @param lacking the changes that the target lacks
   */
  take(look: (path: string) => Stats | undefined, lacking: Batch[]): Move[] {
    const moves = [...this.values()];
    if (moves.length === 0) return [];
    this.clear();
    const replaced = replacedBelow(lacking);
    const isGone = (from: string) =>
      !look(from) || lacking.some((batch) => (batch.get(from)?.kind ?? 'moved_from') !== 'moved_from');
    const last = new Map(moves.map(({ from }, n) => [from, n]));
    const isTaken = (from: string) => lacking.some((batch) => batch.get(from)?.replaced);
    return moves.filter(({ from, to, identity, isExposed, isMixed }, n) => {
      const found = look(to);
      if (!found || identityOf(found) !== identity) return false;
      if (found.isDirectory() && (isMixed || replaced.has(from) || replaced.has(to))) return false;
      if (!isGone(from) || (isExposed && isTaken(from))) return false;
      return (last.get(to) ?? -1) <= n; // one of a circle gives way
    });
  }
}

/** Finds the directories below which something may have taken the place of another thing. */
export function replacedBelow(batches: Batch[]): Set<string> {
  const paths = batches.flatMap((batch) => [...batch].filter(([, { replaced }]) => replaced));
  return new Set(paths.flatMap(([path]) => withParents(parentOf(path))));
}
