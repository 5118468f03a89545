/**
 * Files that others may write to as well: where paths really lead, and how a file is read and replaced safely.
 *
 *   replaceFile('/shared-keys/id_rsa.pub', line, 0o644);
 */
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

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

/**
 * Writes a file whole or not at all. Others may write in its directory, too: what they put there is not followed.
 * One that holds this already stays as it is: it may be on a read-only volume.
 * @param content text is written as UTF-8
 */
export function replaceFile(path: string, content: string | Buffer, mode: number): void {
  const bytes = Buffer.from(content);
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isFile() && found.size === bytes.length && readFileSync(path).equals(bytes)) return;
  const temporary = `${path}.${process.pid}.tmp`;
  const remove = () => rmSync(temporary, { recursive: true, force: true });
  remove(); // of a start that was cut short
  const umask = process.umask(0); // the mode is meant as it is
  try {
    writeFileSync(temporary, bytes, { mode, flag: 'wx' });
    if (found?.isDirectory()) renameSync(path, `${path}.${Date.now()}.old`);
    renameSync(temporary, path);
  } finally {
    process.umask(umask);
    remove();
  }
}

/**
 * Reads a small file as UTF-8.
 * @param most how large it may be, bytes
 * @throws where it is larger or something else than a file: others may have put it there
 */
export function readSmallFile(path: string, most: number): string {
  const found = lstatSync(path);
  if (!found.isFile() || found.size > most) throw new Error(`${path} 应为不超过 ${most} 字节的普通文件，不能是链接`);
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(most);
    return bytes.toString('utf8', 0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
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
