/**
 * Whether all directories of the source are watched. inotifywait passes over those that it may not enter without a word, and
 * over those in which something goes while it looks at them, so that the watches that the kernel has are compared with the tree.
 *
 *   const coverage = new Coverage('/data/source/', terrain, unwatched);
 *   await coverage.inspect(watcher); // ['missed']: to be watched by the next one
 */
import { type BigIntStats, closeSync, constants, lstatSync, openSync } from 'node:fs';
import { listByFind } from './directories.ts';
import type { Watcher } from './inotifywait.ts';
import { breather, LOST_AND_FOUND } from './source.ts';
import type { Terrain } from './terrain.ts';
import type { Unwatched } from './unwatched.ts';

/** How many directories are watched anew one by one at most; more are as good as all. */
const MAX_MISSED = 1000;
/** How often in a row a directory is missed before it is watched by itself. */
const MANY = 2;
/** How often in a row one may seem to be missed while as many watches belong to no directory: then the numbers are not comparable. */
const ENOUGH = 3;
/** How many of them are watched by themselves at most. */
const MAX_CALMED = 100;

export class Coverage {
  /** How often in a row directories were missed. */
  private missed = new Map<string, number>();

  constructor(
    private readonly root: string,
    private readonly terrain: Terrain,
    private readonly unwatched: Pick<Unwatched, 'update'>,
  ) {}

  /** Finds directories that a watcher has missed; those that cannot be watched are told of instead. */
  async inspect(watcher: Pick<Watcher, 'listInodes'>): Promise<string[]> {
    const directories = await listDirectories(this.root, this.terrain);
    const inodes = directories && (await watcher.listInodes().catch(() => undefined));
    if (!directories || !inodes) return [];
    const { without, spare } = await this.compare(directories, inodes);
    const faults = this.terrain.faults;
    const missed: string[] = [];
    for (const path of without) {
      const code = faultOf(this.root + path);
      if (code === 'ENOENT' || faults.has(path)) continue; // it is gone again
      const isNobodys = code === 'EACCES' && path.split('/').pop() === LOST_AND_FOUND;
      if (isNobodys) continue;
      if (code) faults.set(path, code);
      else missed.push(path);
    }
    this.unwatched.update(faults);
    return this.count(missed, spare);
  }

  /** Finds the directories that have no watch, and how many watches belong to none. Several file systems may have the same numbers. */
  private async compare(directories: string[], inodes: string[]): Promise<{ without: string[]; spare: number }> {
    const breathe = breather();
    const places = new Map<string, Map<bigint, string>>();
    for (const path of directories) {
      await breathe();
      const found = this.terrain.isExcluded(path) ? undefined : look(this.root + path);
      if (!found?.isDirectory()) continue;
      const inode = found.ino.toString(16);
      const others = places.get(inode);
      if (others) others.set(found.dev, path);
      else places.set(inode, new Map([[found.dev, path]]));
    }
    const watches = new Map<string, number>();
    for (const inode of inodes) watches.set(inode, (watches.get(inode) ?? 0) + 1);
    const missing = [...places].filter(([inode, { size }]) => size > (watches.get(inode) ?? 0));
    const spare = [...watches].reduce((sum, [inode, count]) => sum + Math.max(0, count - sizeOf(places, inode)), 0);
    return { without: missing.flatMap(([, paths]) => [...paths.values()]), spare };
  }

  /** Counts how often each was missed; returns those that are to be watched anew. */
  private count(paths: string[], spare: number): string[] {
    const before = this.missed;
    this.missed = new Map(paths.map((path) => [path, (before.get(path) ?? 0) + 1]));
    const isDoubtful = spare >= paths.length;
    const again = [...this.missed].filter(([, times]) => !isDoubtful || times < ENOUGH);
    if (again.length > MAX_MISSED) return [''];
    if (again.length <= MAX_CALMED) for (const [path, times] of again) if (times >= MANY) this.terrain.calm(path);
    return again.map(([path]) => path);
  }
}

const sizeOf = (places: ReadonlyMap<string, { size: number }>, inode: string) => places.get(inode)?.size ?? 0;

function look(path: string): BigIntStats | undefined {
  try {
    return lstatSync(Buffer.from(path, 'latin1'), { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined; // what cannot be looked at is no obstacle to others where it has not been told of as one
  }
}

/** Finds why a directory cannot be watched: the error of the system, nothing where it can. */
function faultOf(path: string): string | undefined {
  try {
    closeSync(openSync(Buffer.from(path, 'latin1'), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW));
    return undefined;
  } catch (cause) {
    const { code = 'EIO' } = cause as NodeJS.ErrnoException;
    return code === 'ENOTDIR' || code === 'ELOOP' ? 'ENOENT' : code; // something else has taken its place
  }
}

/** Lists all directories of the source that can be seen; nothing where that takes too long. */
async function listDirectories(root: string, terrain: Terrain): Promise<string[] | undefined> {
  const listed = await listByFind(root, terrain.excluded);
  if (listed !== 'beyond') return listed;
  const paths: string[] = [];
  for await (const [path] of terrain.walk()) paths.push(path);
  return paths;
}
