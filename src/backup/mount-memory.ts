/**
 * Remembers beside the host keys, which outlive a container, on which mount point DEST_DIR was: a directory that is made
 * where a disk is not mounted takes a mirror that nobody finds again.
 *
 *   const memory = new MountMemory(config);
 *   await memory.findMissing(); // '/mnt/disk'
 */
import { lstat, realpath, stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { isWithin, readSmallFile, replaceFile } from '../service/files.ts';
import {
  type Identity,
  isSameFileSystem,
  type Mount,
  mountOf,
  parseMountinfo,
  readMountinfo,
} from '../service/mounts.ts';
import type { Config } from './config.ts';

const MAX_BYTES = 65_536;
/** How many directories are remembered. */
const MAX_ENTRIES = 50;

/** The mount that DEST_DIR was on. Its path is bytes in a latin1 string. */
export interface Remembered {
  mount: string;
  /** What tells the root of its file system from others; null where that could not be found out. */
  identity: Identity | null;
}

export const bytesOf = (path: string) => Buffer.from(path, 'latin1');
export const latin1Of = (path: string) => Buffer.from(path).toString('latin1');

/** The file that holds the mounts of all DEST_DIRs that have been served with these host keys. */
export class MountMemory {
  readonly file: string;
  private readonly directory: string;

  constructor(
    { HOST_KEY_DIR, DEST_DIR }: Pick<Config, 'HOST_KEY_DIR' | 'DEST_DIR'>,
    private readonly mountsNow: () => Mount[] = () => parseMountinfo(readMountinfo()),
    name = 'destination.json',
  ) {
    this.file = join(HOST_KEY_DIR, name);
    this.directory = DEST_DIR;
  }

  /** Finds the mount point that DEST_DIR was on, if nothing is mounted there now. */
  async findMissing(): Promise<string | undefined> {
    const mount = this.recall()?.mount;
    if (mount === undefined || mount === '/') return undefined;
    await stat(bytesOf(`${mount}/`)).catch(() => {}); // an automounter mounts what is looked at
    if (homeMount(this.mountsNow(), mount)?.path === mount) return undefined;
    return (await leadsElsewhere(this.directory, mount)) ? undefined : mount;
  }

  /**
   * Remembers the mount that DEST_DIR is on.
   * @returns the one before, where it was of another file system
   * @throws where the file cannot be written
   */
  remember(mount: string, identity: Identity | undefined): Remembered | undefined {
    const all = this.read();
    const former = all[this.directory];
    const { [this.directory]: _, ...others } = all;
    const entries = [...Object.entries(others), [this.directory, { mount, identity: identity ?? null }]];
    replaceFile(this.file, `${JSON.stringify(Object.fromEntries(entries.slice(-MAX_ENTRIES)), null, 2)}\n`, 0o600);
    if (!former?.identity || !identity || isSameFileSystem(former.identity, identity)) return undefined;
    return former;
  }

  private recall(): Remembered | undefined {
    return this.read()[this.directory];
  }

  /** Reads all that is remembered: nothing where the file is missing, or is none of ours. */
  private read(): Record<string, Remembered> {
    try {
      return JSON.parse(readSmallFile(this.file, MAX_BYTES)) ?? {};
    } catch {
      return {};
    }
  }
}

/**
 * Finds the mount that a real path is on. What is mounted over itself is none: systemd does so with all that a service may
 * write, whether a disk is there or not.
 */
export function homeMount(mounts: readonly Mount[], path: string): Mount | undefined {
  const found = mountOf(mounts, path);
  return found && originOf(mounts, found);
}

function originOf(mounts: readonly Mount[], mount: Mount): Mount {
  const shows = ({ path, root }: Mount) => join(root, relative(path, mount.path)) === mount.root;
  const isAbove = ({ path }: Mount) => path.length < mount.path.length && isWithin(mount.path, path);
  const origin = mounts.find((it) => it.device === mount.device && isAbove(it) && shows(it));
  return origin ? originOf(mounts, origin) : mount;
}

/** Whether a path leads to a place outside of a directory; one that leads nowhere, through a link, does not. */
async function leadsElsewhere(path: string, directory: string): Promise<boolean> {
  for (let existing = path; ; existing = dirname(existing)) {
    const real = await realpath(existing).catch(() => undefined);
    if (real !== undefined) return !isWithin(latin1Of(join(real, relative(existing, path))), directory);
    const isLink = await lstat(existing).then(Boolean, () => false);
    if (isLink) return false;
  }
}
