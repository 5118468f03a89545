/**
 * Locks on files and directories that all processes of this machine see, whatever container they are in, and that the kernel takes back
 * when who holds them has ended: fcntl(2), "Open file description locks". Whoever may read a file can lock it.
 *
 *   const lock = lockFile('/root/.ssh/rsync-inotify.lock');
 *   isLocked('/root/.ssh/rsync-inotify.lock'); // true, everywhere
 */
import { ptr } from 'bun:ffi';
import { closeSync, constants, openSync } from 'node:fs';
import { cFunctions } from './libc.ts';
import { t } from './text.ts';

/** Commands and values of fcntl(2), the same on every machine that Bun knows. */
const [GET_LOCK, SET_LOCK] = [36, 37];
const [SHARED, EXCLUSIVE, NONE] = [0, 1, 2];

let calls: ReturnType<typeof findCalls> | undefined;
const findCalls = () => cFunctions({ fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' } });

/** Asks the kernel about a whole file; returns what it answers, nothing where it keeps no such locks. */
function lock(file: number, command: number, type: number): number | undefined {
  calls ??= findCalls();
  const words = Buffer.alloc(32); // a struct flock
  words.writeInt16LE(type, 0);
  return calls?.fcntl(file, command, ptr(words)) === 0 ? words.readInt16LE(0) : undefined;
}

/** Whether somebody else has locked an open file. */
const isTaken = (file: number) => ![NONE, undefined].includes(lock(file, GET_LOCK, EXCLUSIVE));

/** Whether somebody else has locked a file or a directory; not where it is not there. */
export function isLocked(path: string): boolean {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    return isTaken(file);
  } finally {
    closeSync(file);
  }
}

/**
 * Locks a file, which is made where there is none and only we may read then, until the descriptor is closed that it returns; nothing where
 * somebody else has locked it.
 * @throws where it cannot be made, or the file system knows no locks
 */
export const lockFile = (path: string) =>
  lockOpen(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600), EXCLUSIVE);

/**
 * Locks a directory in the same way. It cannot be opened to be written, and only that would allow the other kind of lock: where two come
 * at the same moment, both may give up.
 */
export const lockDirectory = (path: string) =>
  lockOpen(openSync(path, constants.O_RDONLY | constants.O_DIRECTORY), SHARED);

function lockOpen(file: number, type: number): number | undefined {
  const isFree = () => !isTaken(file);
  if (isFree()) {
    if (lock(file, SET_LOCK, type) !== undefined && isFree()) return file;
    if (isFree()) {
      closeSync(file);
      throw new Error(t`文件系统不支持锁`);
    }
  }
  closeSync(file);
  return undefined;
}
