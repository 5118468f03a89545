/**
 * Mounts and file systems: what is mounted below a directory, and whether a directory is still the one that it was.
 * Paths are bytes in latin1 strings.
 *
 *   const [mount] = mountsBelow(parseMountinfo(readMountinfo()), '/data/source');
 *   const identity = await identify(mount.path);
 */
import { type BigIntStats, closeSync, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { hasLastingInodes, isWithin, O_PATH, withParents } from './files.ts';
import { isInTime } from './patience.ts';
import { run } from './processes.ts';

/** A file system, or a part of one, at a place in the tree. */
export interface Mount {
  /** The kernel's number of it, which no other mount has as long as it is there. */
  id: number;
  /** That of the mount that it lies on. */
  parent: number;
  /** The number of its device, `8:1`. */
  device: string;
  /** Which part of the file system is mounted, `/` for all of it. */
  root: string;
  path: string;
  /** The type of the file system, `ext4`. */
  type: string;
}

/** A space alone ends a field: other bytes in names, those of `à` among them, may look like white space. */
const LINE = /^(\d+) (\d+) ([^ ]+) ([^ ]+) ([^ ]+) .*? - ([^ ]+) /;

/** Reads the mounts of this process from a text in the form of /proc/self/mountinfo (proc(5)). */
export function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [, id, parent, device = '', root = '', path = '', type = ''] = LINE.exec(line) ?? [];
    const where = { root: unescapeOctal(root), path: unescapeOctal(path) };
    return id ? [{ id: Number(id), parent: Number(parent), device, ...where, type }] : [];
  });
}

/** The kernel writes white space and backslashes as `\040`. */
const unescapeOctal = (text: string) =>
  text.replace(/\\([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Where the mounts are read into, which grows as they need; and what was read last. */
let page = Buffer.alloc(16_384);
let last = { bytes: Buffer.alloc(0), text: '', at: Number.NEGATIVE_INFINITY };

/**
 * What the kernel says of the mounts of this process, as text. It is asked often, and nothing is made anew where nothing has changed.
 * @param age how old the answer may be, ms
 */
export function readMountinfo(age = 0): string {
  const now = performance.now();
  if (age > 0 && now - last.at < age) return last.text;
  const bytes = readWhole('/proc/self/mountinfo');
  if (last.bytes.equals(bytes)) last.at = now;
  else last = { bytes: Buffer.from(bytes), text: bytes.toString('latin1'), at: now };
  return last.text;
}

/** Reads a file of the kernel's, which does not say how long it is; the bytes are good until the next one is read. */
function readWhole(path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    let length = 0;
    for (let more = -1; more !== 0; length += more) {
      if (length === page.length) page = Buffer.concat([page], 2 * length);
      more = readSync(file, page, length, page.length - length, null);
    }
    return page.subarray(0, length);
  } finally {
    closeSync(file);
  }
}

/** Finds the mounts that can be seen at or below a real path: others may be mounted over them, or over what they lie in. */
export function mountsBelow(mounts: readonly Mount[], path: string): Mount[] {
  const isVisible = visibility(mounts);
  return mounts.filter((mount) => isWithin(mount.path, path) && isVisible(mount));
}

/** Finds the mount that holds a real path. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  const isVisible = visibility(mounts);
  const above = mounts.filter((mount) => isWithin(path, mount.path) && isVisible(mount));
  return above.reduce<Mount | undefined>(
    (best, it) => (best && best.path.length > it.path.length ? best : it),
    undefined,
  );
}

/** Tells of a mount whether nothing is mounted over it, or over its place in what it is mounted on, and so on. */
function visibility(mounts: readonly Mount[]): (mount: Mount) => boolean {
  const byId = new Map(mounts.map((mount) => [mount.id, mount]));
  const places = new Set(mounts.map(({ parent, path }) => `${parent} ${path}`));
  const isCovered = ({ path }: Mount, on: Mount) =>
    withParents(path)
      .map((above) => above || '/')
      .some((above) => above !== path && isWithin(above, on.path) && places.has(`${on.id} ${above}`));
  return (mount) => {
    if (places.has(`${mount.id} ${mount.path}`)) return false;
    let it = mount;
    for (let on = byId.get(it.parent); on && on !== it; on = byId.get(it.parent)) {
      if (isCovered(it, on)) return false;
      it = on;
    }
    return true;
  };
}

/**
 * What tells a directory from any other one, also from one at the same place of another disk. A file is told from those of other
 * file systems alone: whoever edits it may well put another one in its place.
 */
export interface Identity {
  /** The file system's own number, in hexadecimal. */
  fileSystem: string;
  /** Its type as statfs(2) numbers it, in hexadecimal. */
  type: string;
  /** 0 for a file. */
  inode: string;
  /** When the directory was made, ns since 1970; 0 where the file system does not tell, and for a file. */
  birth: string;
}

/** Whether it is a file that was identified. */
export const isFile = ({ inode }: Identity) => inode === '0';
const inodeOf = (found: BigIntStats) =>
  found.isDirectory() ? { inode: String(found.ino), birth: String(found.birthtimeNs) } : { inode: '0', birth: '0' };

/** How long a file system may take to answer, ms. */
const PATIENCE = '10';
/** XFS numbers a file system by its device, which may have another number after the next boot. */
const XFS = '58465342';
/** Writes a path for printf(1): no argument can hold all bytes. */
export const inOctal = (path: string) =>
  [...Buffer.from(path, 'latin1')].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');

/** Has stat(1) tell of a path that is written in octal. */
const STAT = `path=$(printf "$2x"); exec timeout "$1" stat -f -L -c "%i %t" -- "\${path%x}"`;

/** Identifies a directory or a file, links followed; nothing where it is not there, or its file system does not answer. */
export async function identify(path: string): Promise<Identity | undefined> {
  const { exitCode, stdout } = await run`sh -c ${STAT} sh ${PATIENCE} ${inOctal(path)}`;
  const [, fileSystem, type] = /^(\w+) (\w+)$/.exec(stdout.trim()) ?? [];
  if (exitCode !== 0 || fileSystem === undefined || type === undefined) return undefined;
  const found = await stat(Buffer.from(path, 'latin1'), { bigint: true }).catch(() => undefined);
  return found && { fileSystem, type, ...inodeOf(found) };
}

/** Whether two directories are on the same file system, as far as it can be told from another one. */
export function isSameFileSystem(one: Identity, other: Identity): boolean {
  if (one.type !== other.type) return false;
  return one.fileSystem === other.fileSystem || (one.type === XFS && isSameInode(one, other));
}

/** Whether they are the same directory. */
export const isSameDirectory = (one: Identity, other: Identity) =>
  isSameFileSystem(one, other) && isSameInode(one, other);

const isSameInode = (one: Identity, other: Identity) =>
  isFile(one) === isFile(other) &&
  (!hasLastingInodes(one.type) || (one.inode === other.inode && one.birth === other.birth));

/** How long the root of a mount may take to be looked at before it is sent from, ms. */
const GLANCE_MS = 1000;

/** Whether a directory is still the one that was identified, as far as its inode tells; one that does not answer is. */
export async function isStill(path: string, identity: Identity): Promise<boolean> {
  const looking = stat(Buffer.from(path, 'latin1'), { bigint: true }).then(
    (found) => isSameInode(identity, { ...identity, ...inodeOf(found) }),
    () => false,
  );
  return !(await isInTime(looking, GLANCE_MS)) || looking;
}

/** Says what the kernel calls a mount: a number that is free is given to the next one. */
export const nameOfMount = ({ id, device, root, type }: Mount) => `${id} ${device} ${root} ${type}`;

/** Keeps directories and files in use, so that what is mounted there cannot be unmounted meanwhile, unless it is done lazily. */
export function holdOpen(mounted: string[]): Disposable {
  const files = mounted.flatMap((path) => {
    try {
      return openSync(Buffer.from(path, 'latin1'), O_PATH);
    } catch {
      return []; // it has gone this moment
    }
  });
  return {
    [Symbol.dispose]() {
      for (const file of files) closeSync(file);
    },
  };
}

/**
 * Mounts a tree, written in octal, once more over itself, where nothing that happens elsewhere reaches it; makes sure that the
 * mounts below it are there, goes where the last path leads, and becomes the program behind that.
 */
const KEEP = `decode() { path=$(printf "$1x"); path=\${path%x}; }
decode "$1"; shift
mount --rbind -- "$path" "$path" && mount --make-rprivate -- "$path" || exit 126
while [ "$1" != -- ]; do decode "$1"; mount --make-private -- "$path" || exit 126; shift; done
shift; cd -- "$1" || exit 126
shift; exec "$@"`;

/**
 * Has a program go on to see what is mounted below a directory, even if it is unmounted by force meanwhile
 * (mount_namespaces(7)). All that is mounted elsewhere comes and goes as before.
 * @param mounted what is mounted below it: where one of them is not any more, the program is not started, with status 126
 * @param cwd where it is started, as text
 */
export const keepMounted = (directory: string, mounted: readonly string[], cwd: string, command: readonly string[]) => [
  ...['unshare', '--mount', '--propagation', 'slave', '--', 'sh', '-c', KEEP, 'sh'],
  ...[inOctal(directory), ...mounted.map(inOctal), '--', cwd, ...command],
];

let mayKeep: Promise<boolean> | undefined;

/** Whether this process may do that: as root, though seldom in a container. */
export function mayKeepMounted(): Promise<boolean> {
  mayKeep ??= run`unshare --mount --propagation slave true`.then(({ exitCode }) => exitCode === 0);
  return mayKeep;
}
