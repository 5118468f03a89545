/**
 * Copies a file as `cp -a --reflink=auto` does: with owner, mode, time and attributes; what is no file is made anew.
 *
 *   copyEntry(place.at('name'), Buffer.from('/restore/name'), status);
 */
import { ptr } from 'bun:ffi';
import {
  type BigIntStats,
  chmodSync,
  constants,
  copyFileSync,
  lchownSync,
  mkdirSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { cFunctions } from '../service/libc.ts';

const { COPYFILE_EXCL, COPYFILE_FICLONE } = constants;
/** Numbers for utimensat(2): paths are whole ones, and a link is not followed. */
const [HERE, NO_FOLLOW] = [-100, 0x100];
/** How much room the names and the values of attributes may take, bytes: xattr(7). */
const MAX_ATTRIBUTE = 65_536;

const calls = cFunctions({
  utimensat: { args: ['i32', 'ptr', 'ptr', 'i32'], returns: 'i32' },
  mknod: { args: ['ptr', 'u32', 'u64'], returns: 'i32' },
  llistxattr: { args: ['ptr', 'ptr', 'u64'], returns: 'i64' },
  lgetxattr: { args: ['ptr', 'ptr', 'ptr', 'u64'], returns: 'i64' },
  lsetxattr: { args: ['ptr', 'ptr', 'ptr', 'u64', 'i32'], returns: 'i32' },
});

const text = (path: Buffer) => Buffer.concat([path, Buffer.alloc(1)]);

/**
 * Copies what is no directory, under a name that is not there yet.
 * @returns whether owner, times and attributes are those of the original, too
 * @throws where it cannot be copied
 */
export function copyEntry(from: Buffer, to: Buffer, status: BigIntStats): boolean {
  if (status.isSymbolicLink()) symlinkSync(readlinkSync(from, { encoding: 'buffer' }), to);
  else if (status.isFile()) copyFileSync(from, to, COPYFILE_EXCL | COPYFILE_FICLONE);
  else if (calls?.mknod(ptr(text(to)), Number(status.mode), status.rdev) !== 0) throw new Error('mknod');
  return copyAttributes(from, to, status);
}

/** Makes a directory, to be filled and then given its attributes. */
export function makeDirectory(to: Buffer): void {
  mkdirSync(to, { mode: 0o700 });
}

/** Gives a copy owner, mode, times and attributes of the original; returns whether all could be given. */
export function copyAttributes(from: Buffer, to: Buffer, status: BigIntStats): boolean {
  const isOwned = chown(to, status);
  const isLink = status.isSymbolicLink();
  if (!isLink) chmodSync(to, Number(status.mode & 0o7777n));
  const hasAttributes = copyExtended(from, to);
  const times = new BigInt64Array([status.atimeNs, status.mtimeNs].flatMap(secondsOf));
  return calls?.utimensat(HERE, ptr(text(to)), ptr(times), NO_FOLLOW) === 0 && isOwned && hasAttributes;
}

const secondsOf = (time: bigint) => {
  const rest = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n; // before 1970, too
  return [(time - rest) / 1_000_000_000n, rest];
};

function chown(to: Buffer, { uid, gid }: BigIntStats): boolean {
  try {
    lchownSync(to, Number(uid), Number(gid));
    return true;
  } catch {
    return false; // only root may
  }
}

/** Copies extended attributes, ACLs among them; returns whether all could be set. */
function copyExtended(from: Buffer, to: Buffer): boolean {
  if (!calls) return false;
  const names = Buffer.alloc(MAX_ATTRIBUTE);
  const length = Number(calls.llistxattr(ptr(text(from)), ptr(names), names.length));
  if (length <= 0) return true; // there are none, or the file system knows none
  const value = Buffer.alloc(MAX_ATTRIBUTE);
  let isWhole = true;
  for (const name of names.toString('latin1', 0, length).split('\0').filter(Boolean)) {
    const key = text(Buffer.from(name, 'latin1'));
    const size = Number(calls.lgetxattr(ptr(text(from)), ptr(key), ptr(value), value.length));
    isWhole = size >= 0 && calls.lsetxattr(ptr(text(to)), ptr(key), ptr(value), size, 0) === 0 && isWhole;
  }
  return isWhole;
}
