/**
 * Keeps what the source asks for within DEST_DIR: paths are looked through before anything is done, and the kernel
 * fences off the process that does it.
 *
 *   const { real, root } = locate('/data/backup/web/', DEST_DIR);
 *   const rest = enter(real, root);
 *   fence(root, neededBy('/usr/bin/rsync'));
 */
import { ptr } from 'bun:ffi';
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, relative } from 'node:path';
import { isWithin, realPath } from '../service/files.ts';
import { fenceOff, type Grant } from '../service/landlock.ts';
import { cFunctions } from '../service/libc.ts';
import { t } from '../service/text.ts';

/** Why a command of the source is not run. */
export class Refusal extends Error {}

// ── Where paths lead ─────────────────────────────────────────────────────────────────────────────

/**
 * Resolves what a word of the source names to its real path.
 * @throws {Refusal} where that is not within DEST_DIR
 */
export function confinedPath(word: string, base: string, root: string): string {
  try {
    const path = realPath(word.startsWith('/') ? word : `${base}/${word}`);
    if (isWithin(path, root)) return path;
  } catch {}
  throw new Refusal(t`${word} 不在 DEST_DIR=${root} 之内`);
}

/**
 * Says where a destination of the source really is, and the real path of what it may be in.
 * @throws {Refusal}
 */
export function locate(destination: string, allowed: string): { real: string; root: string } {
  const root = realpathSync(allowed);
  const path = destination.replace(/^~(?=\/|$)/, homedir()); // no shell does it for others
  return { real: confinedPath(path, homedir(), root), root };
}

/**
 * Enters the destination, or of one that does not exist yet the last directory that does; returns what is left.
 * @throws {Refusal}
 */
export function enter(destination: string, root: string): string {
  let existing = destination;
  while (!statSync(existing, { throwIfNoEntry: false })?.isDirectory()) existing = dirname(existing);
  process.chdir(existing);
  // Whatever it was when it was looked at: it must be within now, and from here on it stays what it is.
  if (!isWithin(readlinkSync('/proc/self/cwd'), root)) throw new Refusal(t`目标目录在检查时被替换`);
  return `./${relative(existing, destination)}`;
}

// ── The fence: landlock(7) ───────────────────────────────────────────────────────────────────────

/** What rsync and the C library read besides, and may execute. Names of users and groups come from here too. */
const READABLE = [
  ...['/usr', '/lib', '/lib64', '/bin', '/etc/ld.so.cache', '/etc/ld.so.preload', '/etc/localtime'],
  ...['/etc/passwd', '/etc/group', '/etc/nsswitch.conf', '/etc/ssl/openssl.cnf', '/var/lib/sss', '/dev/null'],
  '/dev/urandom', // names of temporary files: without it, each session takes the same ones
];
/** Others keep their data there; what rsync needs is there only where rsync is. */
const READABLE_WITH_RSYNC = ['/opt', '/nix'];

/** Lists all that rsync needs outside of the directory that it writes. */
export function neededBy(rsync: string): string[] {
  const binary = realpathSync(rsync);
  return [binary, ...READABLE_WITH_RSYNC.filter((path) => isWithin(binary, path)), ...READABLE];
}

/**
 * Fences this process and what it becomes off from all files but those below a directory: versions of rsync before
 * 3.5.0 can be led out of it by links that the source has planted there. Without Landlock it does nothing.
 * @param readable what may be read and executed besides
 * @returns whether there is a fence
 * @throws where it does not stand
 */
export function fence(root: string, readable: string[] = []): boolean {
  return checkFence(root, fenceOff([[root, 'anything'], ...besides(readable)]));
}

/**
 * The same, where nothing may be written: what is in a directory may be read, but for one thing directly in it. What comes into the
 * directory later cannot be read then, either.
 * @param hidden the name of what may not be read, '' for nothing
 */
export function fenceForReading(directory: string, hidden: string, readable: string[]): boolean {
  const names = hidden ? readdirSync(directory, { encoding: 'buffer' }) : [];
  const shown = names.filter((name) => !name.equals(Buffer.from(hidden)));
  const grants: Grant[] = shown.map((name) => [Buffer.concat([Buffer.from(`${directory}/`), name]), 'reading']);
  const top: Grant = [directory, hidden ? 'listing' : 'reading'];
  return checkFence(directory, fenceOff([top, ...grants, ...besides(readable)]));
}

const besides = (readable: string[]): Grant[] => [
  ['/dev/null', 'exchanging'],
  ...readable.map((path) => [path, 'running'] as const),
];

/** @throws where a fence that should stand does not */
function checkFence(root: string, isFenced: boolean): boolean {
  if (isFenced && !isRootDirectory(root) && canOpen('/')) throw new Error(t`Landlock 没有生效`);
  return isFenced;
}

/** Whether a directory is that of the whole machine, under whatever name: then nothing is outside. */
function isRootDirectory(path: string): boolean {
  const [given, whole] = [statSync(path), statSync('/')];
  return given.dev === whole.dev && given.ino === whole.ino;
}

function canOpen(directory: string): boolean {
  try {
    closeSync(openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY));
    return true;
  } catch {
    return false;
  }
}

// ── Devices: mount_setattr(2) ────────────────────────────────────────────────────────────────────

/**
 * Has all mounts that root's process sees anew hold no devices (Linux 5.12): an rsync that writes into files as they
 * are would write to a disk, if the source has meanwhile mirrored the disk's node in a file's place. In a container
 * neither that nor the disk is allowed.
 * @throws where devices can be opened although mounts of our own were allowed
 */
export function forbidDevices(): void {
  const calls = cFunctions({
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
    unshare: { args: ['i32'], returns: 'i32' },
  });
  const [NEW_NAMESPACE, MOUNT_SETATTR, CURRENT, RECURSIVE] = [0x20000, 442, -100, 0x8000];
  const [NO_DEVICES, PRIVATE] = [4n, 0x40000n];
  if (process.getuid?.() !== 0 || calls?.unshare(NEW_NAMESPACE) !== 0) return;
  const attributes = new BigUint64Array([NO_DEVICES, 0n, PRIVATE, 0n]);
  const status = calls.syscall(MOUNT_SETATTR, CURRENT, ptr(Buffer.from('/\0')), RECURSIVE, ptr(attributes), 32);
  if (status !== 0) throw new Error(t`内核拒绝了 mount_setattr（Linux 5.12 起）`);
  const mounts = readFileSync('/proc/thread-self/mountinfo', 'latin1').trim().split('\n');
  const open = mounts.map((mount) => mount.split(' ')).find(([, , , , , options = '']) => !/\bnodev\b/.test(options));
  if (open) throw new Error(t`挂载点 ${open[4]} 上的设备文件仍可打开`);
}
