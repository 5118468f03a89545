/**
 * DEST_DIR as it was when sessions were let in.
 *
 *   const home = await moveIn('/data/backup/', root);
 *   home?.place; // what tells it from any other directory
 */
import { chmod, stat, statfs } from 'node:fs/promises';
import { hasLastingInodes } from '../service/files.ts';
import { type Identity, identify, type Mount, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import type { Place } from './admission.ts';
import { placeAt } from './destination.ts';
import { bytesOf, homeMount } from './mount-memory.ts';

export interface Home {
  /** Its real path, bytes in a latin1 string. */
  root: string;
  place: Place;
  mount: Mount | undefined;
  identity: Identity | undefined;
}

/** The number of overlayfs, in which a directory is made anew by the first change if it comes from an image. */
const OVERLAY = 0x794c7630;

/**
 * Finds out what tells DEST_DIR from any other directory; nothing where it is gone.
 * @param root its real path, bytes in a latin1 string
 */
export async function moveIn(directory: string, root: string): Promise<Home | undefined> {
  const path = bytesOf(root);
  const { type } = await statfs(path).catch(() => ({ type: 0 }));
  if (type === OVERLAY)
    await stat(path)
      .then(({ mode }) => chmod(path, mode & 0o7777))
      .catch(() => {});
  const identity = await identify(root).catch(() => undefined);
  const place = await placeAt(directory);
  if (!place) return undefined;
  const inode = hasLastingInodes(type.toString(16)) ? place.inode : '';
  return { root, place: { ...place, inode }, mount: homeMount(parseMountinfo(readMountinfo()), root), identity };
}
