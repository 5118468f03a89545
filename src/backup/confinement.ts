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
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, relative } from 'node:path';
import { isWithin, O_PATH, realPath } from '../service/files.ts';
import { cFunctions } from '../service/libc.ts';

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
  throw new Refusal(`${word} 不在 DEST_DIR=${root} 之内`);
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
  if (!isWithin(readlinkSync('/proc/self/cwd'), root)) throw new Refusal('目标目录在检查时被替换');
  return `./${relative(existing, destination)}`;
}

// ── The fence: landlock(7) ───────────────────────────────────────────────────────────────────────

/** Numbers of system calls, the same on every machine. */
const [MOUNT_SETATTR, CREATE_RULESET, ADD_RULE, RESTRICT_SELF] = [442, 444, 445, 446];

/** Finds calls of the kernel that Bun has no function for. */
const systemCalls = () =>
  cFunctions({
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
    unshare: { args: ['i32'], returns: 'i32' },
    prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
  });

type SystemCalls = NonNullable<ReturnType<typeof systemCalls>>;

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

/** Rights of landlock(7): of a file these, of a directory all that its version knows. */
const [EXECUTE, WRITE_FILE, READ_FILE, READ_DIRECTORY] = [1, 2, 4, 8];
/** Versions of Landlock that forbid to link and rename between directories are of no use for a mirror. */
const LEAST_LANDLOCK = 2;

/** Asks for the version of Landlock that the kernel has, 0 or less for none. */
const landlockVersion = (calls: SystemCalls) => calls.syscall(CREATE_RULESET, 0, 0, 1, 0, 0);

/** Whether the kernel can fence a process off. */
export function canFence(): boolean {
  const calls = systemCalls();
  return calls !== undefined && landlockVersion(calls) >= LEAST_LANDLOCK;
}

/**
 * Fences this process and what it becomes off from all files but those below a directory: versions of rsync before
 * 3.5.0 can be led out of it by links that the source has planted there. Without Landlock it does nothing.
 * @param readable what may be read and executed besides
 * @returns whether there is a fence
 * @throws where it does not stand
 */
export function fence(root: string, readable: string[] = []): boolean {
  const calls = systemCalls();
  const version = calls ? landlockVersion(calls) : 0;
  if (!calls || version < LEAST_LANDLOCK) return false;
  const all = version === LEAST_LANDLOCK ? 0x3fff : 0x7fff;
  const ruleset = calls.syscall(CREATE_RULESET, ptr(new BigUint64Array([BigInt(all)])), 8, 0, 0, 0);
  const allow = (path: string, rights: number) => addRule(calls, ruleset, path, rights);
  allow(root, all);
  allow('/dev/null', READ_FILE | WRITE_FILE);
  for (const path of readable) allow(path, EXECUTE | READ_FILE | READ_DIRECTORY);
  const isAll = isRootDirectory(root);
  const NO_NEW_PRIVS = 38;
  if (calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) || calls.syscall(RESTRICT_SELF, ruleset, 0, 0, 0, 0))
    throw new Error('Landlock');
  if (!isAll && canOpen('/')) throw new Error('Landlock 没有生效');
  return true;
}

/** Lets what is below a path be used, if it is there. */
function addRule(calls: SystemCalls, ruleset: number, path: string, rights: number): void {
  if (!existsSync(path)) return;
  const file = openSync(path, O_PATH);
  const rule = Buffer.alloc(12);
  rule.writeUInt32LE(fstatSync(file).isDirectory() ? rights : rights & (EXECUTE | WRITE_FILE | READ_FILE));
  rule.writeInt32LE(file, 8);
  if (calls.syscall(ADD_RULE, ruleset, 1, ptr(rule), 0, 0) !== 0) throw new Error(`Landlock: ${path}`);
  closeSync(file);
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
  const calls = systemCalls();
  const [NEW_NAMESPACE, CURRENT, RECURSIVE] = [0x20000, -100, 0x8000];
  const [NO_DEVICES, PRIVATE] = [4n, 0x40000n];
  if (process.getuid?.() !== 0 || calls?.unshare(NEW_NAMESPACE) !== 0) return;
  const attributes = new BigUint64Array([NO_DEVICES, 0n, PRIVATE, 0n]);
  const status = calls.syscall(MOUNT_SETATTR, CURRENT, ptr(Buffer.from('/\0')), RECURSIVE, ptr(attributes), 32);
  if (status !== 0) throw new Error('内核拒绝了 mount_setattr（Linux 5.12 起）');
  const mounts = readFileSync('/proc/thread-self/mountinfo', 'latin1').trim().split('\n');
  const open = mounts.map((mount) => mount.split(' ')).find(([, , , , , options = '']) => !/\bnodev\b/.test(options));
  if (open) throw new Error(`挂载点 ${open[4]} 上的设备文件仍可打开`);
}
