/** Renames and deletes as a session does: one of its own would be fenced in, so the test does it itself. */

import { closeSync, openSync } from 'node:fs';
import { Keeping } from '../../../src/backup/history-door.ts';
import { Removals } from '../../../src/backup/removals.ts';
import { type Kept, PLACE, renameBelow } from '../../../src/backup/renames.ts';

function inSession<T>(directory: string, root: string, work: (place: number, keeping: Kept) => T): T {
  const history = new Keeping(root, true);
  using keeper = history.keeper(directory);
  const place = openSync(directory, PLACE);
  try {
    return work(place, { keeper, isHistory: (at) => history.isHistory(at) });
  } finally {
    closeSync(place);
  }
}

/** Does renames; returns how many could be done. */
export const renameIn = (directory: string, root: string, pairs: readonly [from: string, to: string][]): number =>
  inSession(
    directory,
    root,
    (place, keeping) => pairs.filter(([from, to]) => renameBelow(place, from, to, keeping)).length,
  );

/** Has things deleted below a directory. */
export const within = <T>(directory: string, root: string, work: (removals: Removals) => T): T =>
  inSession(directory, root, (place, keeping) => work(new Removals(place, keeping, () => 0xef53)));
