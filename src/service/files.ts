/**
 * Files that others may write to as well: where paths really lead, and how a file is read and replaced safely.
 *
 *   replaceFile('/shared-keys/id_rsa.pub', line, 0o644);
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { t } from './text.ts';

/** Holds on to something without opening it, and without the right to read it (open(2)). */
export const O_PATH = 0o10000000;

/**
 * Says where a path leads that need not exist yet: links are followed as far as it does.
 * `..` goes up from where a link leads, which only the native call knows. What is not there yet may be soon.
 * @throws where a link leads nowhere
 */
export function realPath(path: string): string {
  const existing = (it: string) => lstatSync(it, { throwIfNoEntry: false }) && realpathSync.native(it);
  const name = path.replace(/(?!^)\/+$/, ''); // a link that leads nowhere is none with a slash behind it
  const found = existing(name);
  if (found) return found;
  const below = join(realPath(dirname(name)), basename(name));
  return existing(below) ?? below;
}

/** Whether a path is a directory or lies below it; both are real paths. */
export const isWithin = (path: string, root: string) => path === root || path.startsWith(root.replace(/\/?$/, '/'));

/** Lists a path and all that it lies below, the nearest first; the last one is ''. */
export function withParents(path: string): string[] {
  const paths: string[] = [];
  for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) paths.push(path.slice(0, end));
  return [...paths, ''];
}

/** Says what a path lies in, '' where that is what it is relative to. */
export const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')));

/** Whether a file holds just these bytes; anything but a file does not. */
function holds(path: string, bytes: Buffer): boolean {
  try {
    return readBytes(path, bytes.length).equals(bytes);
  } catch {
    return false;
  }
}

/** Sets a directory aside that is in a file's place: it may hold more than can be removed at once. */
function setAside(path: string): void {
  const isInTheWay = lstatSync(path, { throwIfNoEntry: false })?.isDirectory();
  if (isInTheWay) renameSync(path, `${path}.${Date.now()}.old`);
}

/**
 * Writes a file whole or not at all. Others may write in its directory, too: what they put there is not followed, and not waited for.
 * One that holds this already stays as it is: it may be on a read-only volume.
 * @param content text is written as UTF-8
 */
export function replaceFile(path: string, content: string | Buffer, mode: number): void {
  const bytes = Buffer.from(content);
  if (holds(path, bytes)) return;
  const temporary = `${path}.${process.pid}.tmp`;
  setAside(temporary);
  rmSync(temporary, { force: true }); // of a start that was cut short
  const umask = process.umask(0); // the mode is meant as it is
  try {
    writeFileSync(temporary, bytes, { mode, flag: 'wx' });
    setAside(path);
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw cause;
  } finally {
    process.umask(umask);
  }
}

/**
 * Reads a small file as UTF-8.
 * @param most how large it may be, bytes
 * @throws where it is larger or something else than a file: others may have put it there
 */
export const readSmallFile = (path: string, most: number) => readBytes(path, most).toString();

/** Opens something; it is closed at the end of the block. Devices and pipes wait for nobody. */
function openBriefly(path: string, flags: number): Disposable & { fd: number } {
  const fd = openSync(path, flags | constants.O_NONBLOCK);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

/** Reads a small file, which is held before it is opened: to open a pipe or a device can do more than to read. */
function readBytes(path: string, most: number): Buffer {
  using found = openBriefly(path, O_PATH | constants.O_NOFOLLOW);
  const stats = fstatSync(found.fd);
  if (!stats.isFile() || stats.size > most) throw new Error(t`应为不超过 ${most} 字节的普通文件，不能是链接`);
  using file = openBriefly(`/proc/self/fd/${found.fd}`, constants.O_RDONLY);
  const bytes = Buffer.alloc(stats.size);
  return bytes.subarray(0, readSync(file.fd, bytes));
}

/** A directory that stays the one that it was found as, whatever is put in its place meanwhile. */
export interface HeldDirectory extends Disposable {
  /** Names something in it. */
  at(name: string): string;
}

/**
 * Holds on to a directory in a place where others may write.
 * @throws where it is something else, be it a link to one
 */
export function holdDirectory(path: string): HeldDirectory {
  const place = openBriefly(path, O_PATH | constants.O_NOFOLLOW);
  if (fstatSync(place.fd).isDirectory()) return { ...place, at: (name) => `/proc/self/fd/${place.fd}/${name}` };
  place[Symbol.dispose]();
  throw new Error(t`应为目录，不能是链接`);
}

/** FAT, exFAT, CIFS, SMB and FUSE: numbers of statfs(2) for file systems that number a directory anew once nobody looks at it. */
const RENUMBERING = ['4d44', '2011bab0', 'ff534d42', 'fe534d42', '65735546'];

/** Whether a file system of this type, in hexadecimal, gives a directory one number for good. */
export const hasLastingInodes = (type: string) => !RENUMBERING.includes(type);

/** Whether a directory is there, and no link to one. @param path bytes in a latin1 string */
export function isDirectory(path: string): boolean {
  try {
    return lstatSync(Buffer.from(path, 'latin1')).isDirectory();
  } catch {
    return false; // it is gone, or lies below a file, or cannot be looked at
  }
}
