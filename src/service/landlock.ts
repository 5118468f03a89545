/**
 * Fences a process off from files: landlock(7). What it starts, or becomes, is behind the same fence.
 *
 *   const isFenced = fenceOff([['/data/backup', 'anything'], ['/usr', 'running']]);
 */
import { ptr } from 'bun:ffi';
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { O_PATH } from './files.ts';
import { cFunctions } from './libc.ts';

/** Numbers of system calls, the same on every machine. */
const [CREATE_RULESET, ADD_RULE, RESTRICT_SELF] = [444, 445, 446];
const NO_NEW_PRIVS = 38;

const systemCalls = () =>
  cFunctions({
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
    prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
  });

type SystemCalls = NonNullable<ReturnType<typeof systemCalls>>;

/** Rights of landlock(7): of a file these, of a directory all that its version knows. */
const [EXECUTE, WRITE_FILE, READ_FILE, READ_DIRECTORY] = [1, 2, 4, 8];
const OF_FILES = EXECUTE | WRITE_FILE | READ_FILE;

/** What may be done at a path and below it. */
type Use = 'anything' | 'running' | 'reading' | 'listing' | 'exchanging';
const RIGHTS: Record<Exclude<Use, 'anything'>, number> = {
  running: EXECUTE | READ_FILE | READ_DIRECTORY,
  reading: READ_FILE | READ_DIRECTORY,
  listing: READ_DIRECTORY,
  exchanging: READ_FILE | WRITE_FILE,
};

/** Versions of Landlock that forbid to link and rename between directories are of no use for a mirror. */
const LEAST_LANDLOCK = 2;

/** Asks for the version of Landlock that the kernel has, 0 or less for none. */
const versionOf = (calls: SystemCalls) => calls.syscall(CREATE_RULESET, 0, 0, 1, 0, 0);

/** Whether the kernel can fence a process off. */
export function canFence(): boolean {
  const calls = systemCalls();
  return calls !== undefined && versionOf(calls) >= LEAST_LANDLOCK;
}

/** A path that may be used, and for what. Where it is not there, it is passed over; a link is followed unless only to read. */
export type Grant = readonly [path: string | Buffer, use: Use];

/**
 * Fences this process off from all files but those that are granted. Without Landlock it does nothing.
 * @returns whether there is a fence
 * @throws where it cannot be made
 */
export function fenceOff(grants: readonly Grant[]): boolean {
  const calls = systemCalls();
  const version = calls ? versionOf(calls) : 0;
  if (!calls || version < LEAST_LANDLOCK) return false;
  const all = version === LEAST_LANDLOCK ? 0x3fff : 0x7fff;
  const ruleset = calls.syscall(CREATE_RULESET, ptr(new BigUint64Array([BigInt(all)])), 8, 0, 0, 0);
  for (const [path, use] of grants) addRule(calls, ruleset, path, use, use === 'anything' ? all : RIGHTS[use]);
  if (calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) || calls.syscall(RESTRICT_SELF, ruleset, 0, 0, 0, 0))
    throw new Error('Landlock');
  return true;
}

/** Lets what is below a path be used, if it is there. */
function addRule(calls: SystemCalls, ruleset: number, path: string | Buffer, use: Use, rights: number): void {
  const file = openOrNothing(path, use === 'reading' ? constants.O_NOFOLLOW : 0);
  if (file === undefined) return;
  const found = fstatSync(file);
  const rule = Buffer.alloc(12);
  rule.writeUInt32LE(found.isDirectory() ? rights : rights & OF_FILES);
  rule.writeInt32LE(file, 8);
  const status = found.isSymbolicLink() ? 0 : calls.syscall(ADD_RULE, ruleset, 1, ptr(rule), 0, 0);
  closeSync(file);
  if (status !== 0) throw new Error(`Landlock: ${path}`);
}

function openOrNothing(path: string | Buffer, flags: number): number | undefined {
  try {
    return openSync(path, O_PATH | flags);
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes((cause as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw cause;
  }
}
