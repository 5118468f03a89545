/**
 * How many deletions a batch means, as far as the batch itself says.
 *
 *   estimate(batch, departures, source.look, []); // { count: 3, moved: 1, isCertain: true }
 */
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';
import type { Batch, Change } from './changes.ts';
import type { Departures } from './departures.ts';

export interface Estimate {
  /** Paths that are gone; some of them the target may never have had. */
  count: number;
  /** Paths that are elsewhere in the source, which the target may not have renamed: infinitely many where directories are among them. */
  moved: number;
  /** Whether no more than these can be deleted: nothing is gone of which it is not known what was in it. */
  isCertain: boolean;
}

/**
 * Counts the paths of a batch that are gone, but for those that are elsewhere in the source.
 * @param look what the source has at a path
 * @param unwatched directories in which nothing is seen
 */
export function estimate(
  batch: Batch,
  departures: Departures,
  look: (path: string) => Stats | undefined,
  unwatched: readonly string[],
): Estimate {
  const found: Estimate = { count: 0, moved: 0, isCertain: !departures.isIncomplete };
  for (const [path, change] of batch) {
    if (departures.hasLost(path)) found.isCertain = false;
    if (!isGone(path, change, look)) continue;
    if (departures.has(path, look)) {
      found.moved += change.isDirectory || change.kind === undefined ? Number.POSITIVE_INFINITY : 1;
      continue;
    }
    found.count++;
    if (mayHideMore(path, change, batch, unwatched)) found.isCertain = false;
  }
  return found;
}

/** Whether there is nothing any more at a path. Where an event has named it, that says so. */
function isGone(path: string, { kind }: Change, look: (path: string) => Stats | undefined): boolean {
  if (kind === undefined) return path !== '' && look(path) === undefined;
  return kind === 'delete' || kind === 'moved_from';
}

/** Whether a directory that was deleted may have held what was deleted unseen. */
function mayHideMore(path: string, { kind, isDirectory }: Change, batch: Batch, unwatched: readonly string[]): boolean {
  if (kind !== undefined && !isDirectory) return false;
  return unwatched.includes(path) || withParents(path).some((it) => batch.get(it)?.tree);
}
