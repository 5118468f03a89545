/**
 * Has root's rsync see nothing but DEST_DIR and what it needs itself, where the kernel has no Landlock: in mounts of its own, whatever
 * link the source has planted or put there meanwhile.
 *
 *   const isSecluded = seclude('/data/backup', neededBy('/usr/bin/rsync'));
 */
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { cFunctions } from '../service/libc.ts';
import { mountsBelow, parseMountinfo } from '../service/mounts.ts';

/** A directory that every machine has and rsync has no use for: in its place there is what rsync sees. */
export const STAGE = '/sys';
const NEW_NAMESPACE = 0x20000;
/** Flags of mount(2). */
const [READ_ONLY, NO_SET_UID, REMOUNT, BIND, RECURSIVE, SLAVE] = [1, 2, 32, 4096, 16_384, 0x80000];
/** The number of the capability that mounts need (capabilities(7)). */
const SYS_ADMIN = 21n;

/** Whether this process may have mounts of its own. */
export function canSeclude(): boolean {
  const [, capabilities = '0'] = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  return process.getuid?.() === 0 && ((BigInt(`0x${capabilities}`) >> SYS_ADMIN) & 1n) === 1n;
}

const systemCalls = () =>
  cFunctions({
    unshare: { args: ['i32'], returns: 'i32' },
    mount: { args: ['ptr', 'ptr', 'ptr', 'u64', 'ptr'], returns: 'i32' },
    chroot: { args: ['ptr'], returns: 'i32' },
  });

type SystemCalls = NonNullable<ReturnType<typeof systemCalls>>;

/** Gives a text to the kernel. */
const text = (it: string | Buffer) => Buffer.concat([Buffer.from(it), Buffer.from([0])]);

function mount(calls: SystemCalls, source: string, target: string | Buffer, flags: number): void {
  const type = flags === 0 ? source : 'none';
  if (calls.mount(text(source), text(target), text(type), flags, null) !== 0) throw new Error(`mount: ${target}`);
}

/** Shows a file or a directory on the stage under its own name. */
function show(calls: SystemCalls, path: string): void {
  const target = `${STAGE}${path}`;
  if (statSync(path).isDirectory()) mkdirSync(target, { recursive: true });
  else if (!existsSync(target)) {
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, '');
  }
  mount(calls, path, target, BIND | RECURSIVE);
}

/** Lists what is mounted for this process. */
const mounts = () => parseMountinfo(readFileSync('/proc/thread-self/mountinfo', 'latin1'));

/**
 * Leaves for a place where nothing is to be seen but a directory, which may be written, and what else may be read. Where this process
 * is not root, or may have no mounts of its own, it does nothing.
 * @param root a real path
 * @returns whether it has
 * @throws where it might and could not: everything is as before, as far as this process sees it
 */
export const seclude = (root: string, readable: string[]) =>
  root !== '/' && leave(readable, (calls) => show(calls, root));

/**
 * The same, where the directory may only be read, and one thing directly in it not at all.
 * @param hidden the name of a directory that is there, '' for none
 */
export const secludeForReading = (root: string, hidden: string, readable: string[]) =>
  root !== '/' &&
  leave([...readable, root], (calls) => {
    if (hidden) mount(calls, 'tmpfs', `${STAGE}${root}/${hidden}`, 0);
  });

/** Leaves for a place where nothing is to be seen but what may be read. @param add shows more there, or less */
function leave(readable: string[], add: (calls: SystemCalls) => void): boolean {
  const calls = systemCalls();
  if (!calls || !canSeclude() || calls.unshare(NEW_NAMESPACE) !== 0) return false;
  mount(calls, 'none', '/', RECURSIVE | SLAVE); // what is unmounted on the machine is unmounted here, too, and a disk not kept in use
  mount(calls, 'tmpfs', STAGE, 0);
  const before = mounts().map(({ id }) => id);
  for (const path of [...readable, '/dev/null']) if (existsSync(path)) show(calls, path);
  const shown = mountsBelow(mounts(), STAGE).filter(({ id }) => !before.includes(id));
  for (const { path } of shown)
    mount(calls, 'none', Buffer.from(path, 'latin1'), REMOUNT | BIND | READ_ONLY | NO_SET_UID);
  add(calls);
  mount(calls, 'none', STAGE, REMOUNT | BIND | READ_ONLY);
  if (calls.chroot(text(STAGE)) !== 0) throw new Error('chroot');
  process.chdir('/');
  return true;
}
