/**
 * Finds what cannot be read in a part of the source, for only its copy on a target is left to be had.
 *
 *   findUnread('d', source, budget); // [{ path: 'd/secret', isDirectory: false }]
 */
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';

/** How much is looked at, at most: it is looked at without a pause. */
export const MAX_LOOKS = 5000;

export interface Unread {
  /** Below the source, as bytes in a latin1 string. */
  path: string;
  isDirectory: boolean;
}

/** How the source is looked at. */
interface Looks {
  look: (path: string) => Pick<Stats, 'isDirectory' | 'isFile'> | undefined;
  list: (path: string) => { name: string }[];
  isReadable: (path: string) => boolean;
}

/**
 * Finds the files and directories at a path and below it that cannot be read.
 * @param budget how many may still be looked at; what is looked at is taken off
 * @param isDeep whether there may be some below what can be read
 */
export function findUnread(
  top: string,
  { look, list, isReadable }: Looks,
  budget: { left: number },
  isDeep = process.getuid?.() !== 0,
): Unread[] {
  const unread: Unread[] = [];
  for (const rest = [top]; rest.length > 0 && budget.left > 0; budget.left--) {
    const path = rest.pop() ?? '';
    const found = look(path);
    const isDirectory = found?.isDirectory() === true;
    if (!found && mayBeThere(path, { look, isReadable })) unread.push({ path, isDirectory });
    if (!isDirectory && !found?.isFile()) continue;
    if (!isReadable(path)) unread.push({ path, isDirectory });
    else if (isDirectory && isDeep) for (const { name } of list(path)) rest.push(`${path}/${name}`);
  }
  return unread;
}

/** Whether there is something at a path, or nobody can see whether there is: it may lie in a directory that may not be entered. */
export function mayBeThere(path: string, { look, isReadable }: Pick<Looks, 'look' | 'isReadable'>): boolean {
  const nearest = withParents(path).find((it) => look(it));
  if (nearest === undefined || nearest === path) return nearest === path;
  return look(nearest)?.isDirectory() === true && !isReadable(nearest);
}
