/**
 * Renames in the backup what was moved in the source, so that rsync need not transfer it once more.
 *
 *   renameIn('/data/backup/web/', DEST_DIR); // FROM\0TO\0 … on standard input; returns how often it could be done
 */
import { closeSync, constants, lstatSync, mkdirSync, openSync, readSync, renameSync } from 'node:fs';
import { O_PATH } from '../service/files.ts';
import { t } from '../service/text.ts';
import { enter, fence, locate, Refusal } from './confinement.ts';
import { type Keeper, keepingOf } from './history-door.ts';

/** How long a path may be of which something is asked, bytes. */
export const MAX_PATH_BYTES = 4096;
/** How a directory is opened that is only a place to go on from: never through a link. */
export const PLACE = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Names an entry of an open directory, wherever that has been moved meanwhile. Bytes are latin1. */
export const inPlace = (place: number, name: string) => Buffer.from(`/proc/self/fd/${place}/${name}`, 'latin1');

export const openPlace = (place: number, name: string) => openSync(inPlace(place, name), PLACE);

/** Opens a directory, which is made where it is not there; rsync gives it its mode and owner afterwards. */
function makePlace(place: number, name: string): number {
  try {
    return openPlace(place, name);
  } catch {
    mkdirSync(inPlace(place, name), 0o700);
    return openPlace(place, name);
  }
}

/**
 * Walks a relative path below an open directory. No link is followed, whoever may put one there meanwhile: each
 * directory is opened in the one before, and what is open cannot be replaced. The last one stays open until it is
 * disposed of.
 * @throws where the path leads up or names no more than where it starts
 */
export function walk(root: number, path: string, open: typeof openPlace) {
  const names = path.split('/');
  if (names.some((name) => /^\.{0,2}$/.test(name))) throw new Error(t`${path} 应为不含 . 和 .. 的相对路径`);
  const last = names.pop() ?? '';
  let place = openPlace(root, '.');
  for (const name of names) {
    const above = place;
    try {
      place = open(above, name);
    } finally {
      closeSync(above);
    }
  }
  return { place, name: last, last: inPlace(place, last), [Symbol.dispose]: () => closeSync(place) };
}

/** What becomes of what a rename replaces. */
export interface Kept {
  keeper: Keeper | undefined;
  /** Whether it is the directory with older versions. */
  isHistory: (at: Buffer) => boolean;
}

/** Opens a directory, unless it is the one with older versions. */
export const outside = (keeping: Kept, open: typeof openPlace) => (place: number, name: string) => {
  if (keeping.isHistory(inPlace(place, name))) throw new Error(t`旧版本不能改动`);
  return open(place, name);
};

/** Renames, and keeps what is replaced. */
function renameKept(source: Buffer, target: Buffer, replaced: string, keeper: Keeper | undefined): boolean {
  keeper?.copy(target, replaced);
  renameSync(source, target);
  return true;
}

/** Renames below an open directory as rename(2) does; returns whether it could be done. rsync mirrors both places anyway. */
export function renameBelow(root: number, from: string, to: string, keeping?: Kept): boolean {
  try {
    using source = walk(root, from, keeping ? outside(keeping, openPlace) : openPlace);
    lstatSync(source.last); // nothing is made for what is not there
    using target = walk(root, to, keeping ? outside(keeping, makePlace) : makePlace);
    if (keeping?.isHistory(source.last) || keeping?.isHistory(target.last)) return false;
    const rename = () => renameKept(source.last, target.last, to, keeping?.keeper);
    return keeping?.keeper ? keeping.keeper.rename(from, to, rename) : rename();
  } catch {
    return false;
  }
}

/**
 * Reads pairs of paths from standard input, a NUL behind each path. Bytes are latin1.
 * @throws {Refusal}
 */
function* readPairs(): Generator<[from: string, to: string]> {
  const chunk = Buffer.alloc(65_536);
  let rest = '';
  for (let length = readSync(0, chunk); length > 0; length = readSync(0, chunk)) {
    const paths = (rest + chunk.toString('latin1', 0, length)).split('\0');
    if (paths.some((path) => path.length > MAX_PATH_BYTES)) throw new Refusal(t`路径超过 ${MAX_PATH_BYTES} 字节`);
    let next = 0;
    for (; next + 2 < paths.length; next += 2) yield [paths[next] ?? '', paths[next + 1] ?? ''];
    rest = paths.slice(next).join('\0');
  }
  if (rest) throw new Refusal(t`最后一对路径不完整`);
}

/**
 * Renames in a directory what standard input asks for. It is done by this thread itself, the only one that is fenced in.
 * @returns how often that was possible
 * @throws {Refusal}
 */
export function renameIn(directory: string, allowed: string): number {
  const { real, root } = locate(directory, allowed);
  const history = keepingOf(root, real);
  history?.refuse([real]);
  if (enter(real, root) !== './') return 0; // there is nothing yet
  using keeper = history?.keeper(real);
  fence(keeper ? root : '.');
  const place = openSync('.', PLACE);
  const keeping = history && { keeper, isHistory: (at: Buffer) => history.isHistory(at) };
  let done = 0;
  for (const [from, to] of readPairs()) if (renameBelow(place, from, to, keeping)) done++;
  return done;
}
