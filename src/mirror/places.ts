/**
 * Where in the source a thing can be found that is there more than once, for a part of a file system may be mounted at several
 * places: the kernel tells of it once (inotify(7) watches inodes), and inotifywait names one of the places. And the files that
 * are mounted there by themselves, of which the directory that they are in tells nothing.
 *
 *   await places.refresh();
 *   const watcher = startInotifywait([...words, ...places.files], places.spread(tell));
 */
import { isUtf8 } from 'node:buffer';
import { lstat } from 'node:fs/promises';
import { isWithin, withParents } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { type Mount, mountOf, mountsBelow, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { isInTime } from '../service/patience.ts';
import { wordsOf } from '../service/text.ts';
import type { Event } from './events.ts';
import type { Source } from './source.ts';
import { watchable } from './watchable.ts';

/** How many overlaps of places are known at most. */
const MAX_OVERLAPS = 10_000;
/** How many files that are mounted by themselves are watched at most: each is an argument of inotifywait. */
const MAX_FILES = 500;
/** How long a look at what is mounted may take, ms: its file system may not answer. */
const GLANCE_MS = 1000;

/**
 * Types of file systems in which nothing changes but through the kernel of this machine, which tells of it. What others change in a share, or
 * behind a program of FUSE, it does not.
 */
const OWN_TYPES = new Set(
  wordsOf(
    'ext2 ext3 ext4 xfs btrfs zfs f2fs bcachefs jfs nilfs2 reiserfs tmpfs ramfs overlay vfat exfat ntfs3 hfs hfsplus udf',
  ),
);

/** A part of a file system at a place in the source. Paths are bytes in latin1 strings: '' at the top, and `/a/b` below. */
export interface Place {
  /** The number of the device, which all parts of a file system share. */
  device: string;
  /** Where it is in the file system. */
  inside: string;
  /** Where it is in the source. */
  path: string;
}

/** Finds the places at and below a real path. */
export function placesBelow(mounts: readonly Mount[], root: string): Place[] {
  const topless = (path: string) => (path === '/' ? '' : path);
  const rest = (path: string, above: string) => topless(path).slice(topless(above).length);
  const holder = mountOf(mounts, root);
  const below = mountsBelow(mounts, root).filter(({ path }) => path !== root);
  const top = holder && { ...holder, root: topless(holder.root) + rest(root, holder.path), path: root };
  const isLost = (mount: Mount) => mount.root.endsWith('//deleted'); // it has no place in its file system any more
  return [...(top ? [top] : []), ...below]
    .filter((mount) => !isLost(mount))
    .map(({ device, root: inside, path }) => ({ device, inside: topless(inside), path: rest(path, root) }));
}

/** Finds the places at and below a real path where things may change of which the kernel does not tell. */
function foreignBelow(mounts: readonly Mount[], root: string): string[] {
  const holder = mountOf(mounts, root);
  const isOwn = ({ type }: Mount) => OWN_TYPES.has(type);
  const below = mountsBelow(mounts, root).filter((mount) => mount.path !== root && !isOwn(mount));
  const pathsBelow = below.map(({ path }) => path.slice(root === '/' ? 0 : root.length));
  return holder && isOwn(holder) ? pathsBelow : [''];
}

/** The places of a source that show what others show as well. */
export class Overlaps {
  private readonly places: ReadonlyMap<string, Place>;
  /** Those that overlap with others, by their device. */
  private readonly byDevice = new Map<string, Set<Place>>();
  /** The paths of what can be found at several places, at each of them. */
  readonly paths = new Set<string>();

  constructor(places: readonly Place[]) {
    this.places = new Map(places.map((place) => [place.path, place]));
    const keyOf = (device: string, inside: string) => `${device} ${inside}`;
    const byInside = Map.groupBy(places, ({ device, inside }) => keyOf(device, inside));
    let count = 0;
    for (const place of places) {
      for (const above of withParents(place.inside))
        for (const other of byInside.get(keyOf(place.device, above)) ?? [])
          if (place !== other && count++ < MAX_OVERLAPS) this.add(place, other);
    }
  }

  /** Takes in that `other` holds all that `place` shows, unless that is covered there. */
  private add(place: Place, other: Place): void {
    const path = other.path + place.inside.slice(other.inside.length);
    if (this.holderOf(path) !== other) return;
    const places = this.byDevice.get(place.device) ?? new Set();
    this.byDevice.set(place.device, places.add(place).add(other));
    this.paths.add(place.path).add(path);
  }

  /** Finds the place that holds a path. */
  private holderOf(path: string): Place | undefined {
    const above = withParents(path).find((it) => this.places.has(it));
    return above === undefined ? undefined : this.places.get(above);
  }

  /** Finds the other paths of what is at a path, with the places that hold them. */
  othersOf(path: string): { path: string; place: Place }[] {
    const holder = this.holderOf(path);
    const places = holder && this.byDevice.get(holder.device);
    if (!holder || !places?.has(holder)) return [];
    const inside = holder.inside + path.slice(holder.path.length);
    return [...places].flatMap((place) => {
      if (place === holder || !isWithin(inside, place.inside)) return [];
      const other = place.path + inside.slice(place.inside.length);
      return this.holderOf(other) === place ? [{ path: other, place }] : [];
    });
  }

  /** What tells them from others. */
  get signature(): string {
    return JSON.stringify([...this.byDevice.values()].map((places) => [...places]));
  }
}

/** How old an answer of the kernel may be where it is asked again and again, ms: others ask at the same beat. */
const SAME_BEAT_MS = 100;

export class Places {
  /** The files that are mounted by themselves, as inotifywait is to name them. */
  files: string[] = [];
  private overlaps = new Overlaps([]);
  /** Where things may change unseen. */
  private foreign = [''];
  private seen: { root: string; text: string } | undefined;

  /**
   * @param excluded what is not watched, relative to the source
   * @param isFile whether there is a file at a path; stand-ins serve tests
   * @param mayWatch finds those that may be watched
   */
  constructor(
    private readonly source: Pick<Source, 'root' | 'realRoot'>,
    private readonly excluded: readonly string[],
    private readonly readKernel = readMountinfo,
    private readonly isFile = isThereFile,
    private readonly mayWatch: (files: string[]) => Promise<string[]> = watchable,
  ) {}

  /**
   * Asks the kernel what is mounted; resolves with the paths that the next watcher has to watch in another way.
   * @param age how old its answer may be, ms
   */
  async refresh(age = 0): Promise<string[]> {
    const [text, root] = [this.readKernel(age), this.source.realRoot];
    if (text === this.seen?.text && root === this.seen.root) return [];
    const isFirst = this.seen === undefined;
    this.seen = { root, text };
    const { overlaps, files } = this;
    const mounts = parseMountinfo(text);
    const places = placesBelow(mounts, root);
    this.foreign = foreignBelow(mounts, root);
    this.overlaps = new Overlaps(places);
    this.files = await this.findFiles(places);
    const isSame = overlaps.signature === this.overlaps.signature;
    if (isFirst) return [];
    const changed = isSame ? [] : [...overlaps.paths, ...this.overlaps.paths];
    const added = this.files.filter((file) => !files.includes(file)).map((file) => this.bytesOf(file));
    return [...new Set([...changed.map((path) => path.slice(1)), ...added])];
  }

  /** Follows what is mounted from now on. @param distrust has a path watched anew */
  async keep(distrust: (path: string) => void): Promise<void> {
    while (!lifecycle.stopping) {
      await lifecycle.nextBeat();
      for (const path of await this.refresh(SAME_BEAT_MS)) distrust(path);
    }
  }

  /** Has each event told at every place where what it is about can be found. */
  spread(tell: (event: Event) => void): (event: Event) => void {
    const { root } = this.source;
    return (event) => {
      tell(event);
      if (this.overlaps.paths.size === 0 || !event.path.startsWith(root) || event.kind.endsWith('_self')) return;
      const path = event.path.slice(root.length - 1).replace(/\/$/, '');
      for (const { path: other, place } of this.overlaps.othersOf(path)) {
        // The halves of a rename belong together at each place by themselves.
        if (this.isWatched(other))
          tell({ ...event, path: root + other.slice(1), cookie: `${event.cookie}@${place.path}` });
      }
    };
  }

  /** Whether the kernel tells of all that becomes of a path, bytes in a latin1 string relative to the source. */
  isTold(path: string): boolean {
    return !this.foreign.some((it) => isWithin(`/${path}`, it));
  }

  private isWatched(path: string): boolean {
    return !this.excluded.some((it) => isWithin(path, `/${it}`));
  }

  private async findFiles(places: readonly Place[]): Promise<string[]> {
    const root = this.source.root.slice(0, -1);
    const bound = places.filter(({ path, inside }) => path !== '' && inside !== '' && this.isWatched(path));
    const named = bound.map(({ path }) => Buffer.from(root + path, 'latin1')).filter((path) => isUtf8(path));
    const found = await Promise.all(
      named.slice(0, 2 * MAX_FILES).map(async (path) => (await this.isFile(path)) && path),
    );
    return this.mayWatch(found.flatMap((path) => (path ? [path.toString()] : [])).slice(0, MAX_FILES));
  }

  /** The path of a file, relative to the source. */
  private bytesOf(file: string): string {
    return Buffer.from(file).toString('latin1').slice(this.source.root.length);
  }
}

/** Whether there is a file; not where that takes too long to say. */
async function isThereFile(path: Buffer): Promise<boolean> {
  const looking = lstat(path).then(
    (found) => found.isFile(),
    () => false,
  );
  return (await isInTime(looking, GLANCE_MS)) && looking;
}
