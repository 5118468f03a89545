/**
 * What a mount below the source is, by what a look at it has found and what is remembered of it.
 *
 *   decide(remembered, await examineMount('/data/source/photos')); // 'mounted'
 */
import { opendir, stat } from 'node:fs/promises';
import { type Identity, identify, isFile, isSameDirectory } from '../service/mounts.ts';
import type { RememberedMount } from './memory.ts';
import { LOST_AND_FOUND } from './source.ts';

/**
 * What a known mount is:
 *   mounted    there, and mirrored
 *   checking   there, but it is not known yet what it is; hidden meanwhile
 *   missing    not there, or it does not answer, or an empty directory is there for a file; hidden, its copy stays
 *   resting    not there, but an automounter will mount it when somebody needs it; hidden, its copy stays, nothing is wrong
 *   replaced   something else is there that was empty when it came; mirrored, but what was there before stays on the backup
 *   fresh      never seen before, and empty: until it is seen that there is something in it, what is in it is hidden, and what
 *              the backup may have there stays
 */
export type MountState = 'mounted' | 'checking' | 'missing' | 'resting' | 'replaced' | 'fresh';

/** What a look at the root of a mount has found. */
export interface Found {
  identity: Identity | undefined;
  isFilled: boolean;
}

/** Decides what a mount is that was looked at. */
export function decide({ identity, isFilled, isReplaced }: RememberedMount, found: Found): MountState {
  if (!found.identity) return 'missing';
  if (!identity) return found.isFilled ? 'mounted' : 'fresh';
  if (isSameDirectory(identity, found.identity)) return 'mounted';
  // A container gets an empty directory where a file was to be mounted that is not there: that is nothing to be mirrored.
  if (isFilled && !found.isFilled && isFile(identity) !== isFile(found.identity)) return 'missing';
  return isReplaced || (isFilled && !found.isFilled) ? 'replaced' : 'mounted';
}

/** Whether a mount is another one than the remembered one. */
export const isOther = ({ identity }: RememberedMount, found: Found) =>
  identity !== undefined && found.identity !== undefined && !isSameDirectory(identity, found.identity);

/** Looks at the root of a mount, a directory or a file. */
export async function examineMount(path: string): Promise<Found> {
  const identity = await identify(path);
  return { identity, isFilled: identity !== undefined && (await holdsAnything(path)) };
}

/** Whether there is something in a directory besides what each new file system holds, or in a file. */
export async function holdsAnything(path: string): Promise<boolean> {
  try {
    const found = await stat(Buffer.from(path, 'latin1'));
    if (!found.isDirectory()) return found.size > 0;
    for await (const { name } of await opendir(Buffer.from(path, 'latin1'))) if (name !== LOST_AND_FOUND) return true;
  } catch {} // where it cannot be seen, it counts as empty
  return false;
}
