/**
 * Puts together what DEST_DIR, or some paths in it, were at a time, in a directory of its own.
 *
 *   using recovery = new Recovery(archive, { at, to: '/restore', paths: ['web'] });
 *   recovery.run(); // { files: 120, directories: 7, … }
 */
import { type BigIntStats, linkSync, rmSync } from 'node:fs';
import { isWithin, withParents } from '../service/files.ts';
import { Held } from './held-tree.ts';
import type { Archive, Origin, Version } from './history-archive.ts';
import { copyAttributes, copyEntry, makeDirectory } from './history-copy.ts';
import { type Choice, Lookup } from './history-lookup.ts';
import type { Move } from './history-moves.ts';

interface Wish {
  /** ms since 1970. */
  at: number;
  /** An empty directory, bytes in a latin1 string. */
  to: string;
  /** Relative to DEST_DIR, bytes in latin1 strings; all of it where there are none. */
  paths: readonly string[];
}

/** How many paths are put together at a time: of more, one part after the other is looked for in all there is. */
const MAX_FOUND = 250_000;
/** Parts are not all of the same size. */
const MARGIN = 1.2;
/** How often it is looked at all where the mirror goes on renaming. */
const TURNS = 3;

/** How many paths are named of which something is not known or has failed. */
const MAX_NAMED = 20;

/** Counts paths, and remembers the first ones. */
export class Paths {
  count = 0;
  readonly first: string[] = [];
  add(path: string): void {
    if (this.count++ < MAX_NAMED) this.first.push(path);
  }
}

/** What was done, and of what it is not known whether it is right. */
export interface Recovered {
  files: number;
  directories: number;
  /** What lay there some time before, for later versions were thinned out. */
  thinned: Paths;
  /** What may have come later only: the file system does not tell since when it was there. */
  unborn: Paths;
  /** What has another owner, time or attributes. */
  plain: Paths;
  failed: Paths;
}

export class Recovery implements Disposable {
  private lookup: Lookup<Origin>;
  private moves: Move[];
  /** Where all is put. */
  private readonly top: Held;
  /** Those that were made, by their paths, and what they get their attributes from. */
  private readonly made = new Map<string, Origin | undefined>();
  /** What is not where it was found: files, and what directories get their attributes from. */
  private readonly gone = new Set<string>();
  private readonly bare = new Set<string>();
  private readonly names = new Map<string, string>();
  private hasMoved = false;
  private readonly result: Recovered = {
    files: 0,
    directories: 0,
    thinned: new Paths(),
    unborn: new Paths(),
    plain: new Paths(),
    failed: new Paths(),
  };

  constructor(
    private readonly archive: Archive,
    private readonly wish: Wish,
    private readonly most = MAX_FOUND,
  ) {
    this.top = Held.open(wish.to);
    this.moves = archive.moves();
    this.lookup = new Lookup(wish.at, this.moves);
  }

  run(): Recovered {
    this.recover();
    this.findDirectories();
    this.finishAll();
    this.result.directories = this.made.size;
    if (this.wish.paths.length === 0) this.attempt('.', () => this.finish('.', this.archive.top));
    for (const path of this.gone) this.result.failed.add(path);
    for (const path of this.bare) this.result.plain.add(path);
    return this.result;
  }

  /** Gives directories their attributes, what is in them before them. */
  private finishAll(): void {
    const finish = (isMeant: (path: string) => boolean) => {
      for (const [path, origin] of [...this.made].sort(inOrder).reverse())
        if (origin && isMeant(path)) this.attempt(path, () => this.finish(path, origin));
    };
    finish(() => true);
    this.retry(this.bare, (isMeant) => {
      this.gather(() => false);
      for (const path of this.made.keys()) if (isMeant(path)) this.made.set(path, this.directoryAt(path));
      this.findDirectories();
      finish(isMeant);
    });
  }

  /** Does something once more for paths that were renamed meanwhile in the backup, as long as there are any, but not for ever. */
  private retry(paths: Set<string>, work: (isMeant: (path: string) => boolean) => void): void {
    for (let turn = 1; paths.size > 0 && turn <= TURNS; turn++) {
      const meant = new Set(paths);
      work((path) => meant.has(path));
    }
  }

  /** Recovers all paths, in parts where there are too many to be looked for at a time. */
  private recover(): void {
    const count = this.gather(() => true);
    const parts = count <= this.most ? 1 : Math.ceil((count * MARGIN) / this.most);
    const again = (isMeant: (path: string) => boolean) => {
      this.gather(isMeant, Number.POSITIVE_INFINITY);
      this.placeAll(isMeant);
    };
    if (parts === 1) this.placeAll(() => true);
    else for (let part = 0; part < parts; part++) again((path: string) => Bun.hash.xxHash32(path) % parts === part);
    this.retry(this.gone, again);
  }

  private placeAll(isMeant: (path: string) => boolean): void {
    const chosen = [...this.lookup.chosen()].filter(({ path }) => isMeant(path) && this.isWished(path));
    for (const choice of chosen.sort((a, b) => (a.path < b.path ? -1 : 1)))
      this.attempt(choice.path, () => this.place(choice));
  }

  /** Finds what was there, once more where something was renamed meanwhile; returns how much that is. */
  private gather(isMeant: (path: string) => boolean, most = this.most): number {
    for (let turn = 1; ; turn++) {
      const count = this.gatherOnce(isMeant, most);
      const { length } = this.moves;
      this.moves = this.archive.moves();
      if (length === this.moves.length || turn === TURNS) return count;
    }
  }

  /** Finds all directories, and of what else is meant no more than so much. */
  private gatherOnce(isMeant: (path: string) => boolean, most: number): number {
    this.hasMoved = this.moves.some(({ time }) => time > this.wish.at);
    this.lookup = new Lookup(this.wish.at, this.moves);
    let count = 0;
    const isWanted = (path: string) => this.hasMoved || this.leadsToWish(path);
    const take = (it: Version, add: (version: Version) => boolean) => {
      if (it.origin.isDirectory) add(it);
      else if (isMeant(this.lookup.pathOf(it)) && (count >= most ? this.lookup.has(it) : add(it))) count++;
    };
    const version = (it: Version) => take(it, (found) => this.lookup.add(found));
    this.archive.visitCurrent(isWanted, version);
    this.archive.refresh(); // what was replaced before it was met there is among the versions by now
    this.archive.visitVersions(this.wish.at, isWanted, {
      version,
      former: (it) => take(it, (found) => this.lookup.addFormer(found)),
      directory: nothing,
    });
    return count;
  }

  /** Finds what directories were that are gone: they were remembered with versions, and the first time after the one that is asked for comes closest. */
  private findDirectories(): void {
    const lacking = new Map<string, number>();
    for (const [path, origin] of this.made) if (!origin) lacking.set(path, Number.POSITIVE_INFINITY);
    if (lacking.size === 0) return;
    const directory = (it: Version) => {
      const path = this.lookup.pathOf(it);
      const distance = distanceOf(it.born ?? it.until, this.wish.at); // sessions side by side are met in any order
      if (distance >= (lacking.get(path) ?? 0)) return;
      lacking.set(path, distance);
      this.made.set(path, it.origin);
    };
    const isWanted = (path: string) => this.hasMoved || this.leadsToWish(path);
    this.archive.visitVersions(this.wish.at, isWanted, { version: nothing, former: nothing, directory });
  }

  private isWished(path: string): boolean {
    const { paths } = this.wish;
    return paths.length === 0 || paths.some((it) => isWithin(path, it));
  }

  private leadsToWish(path: string): boolean {
    return this.isWished(path) || this.wish.paths.some((it) => isWithin(it, path));
  }

  /** Names something in what is recovered, from its directory: all of its path may be longer than the kernel takes. */
  private at<T>(path: string, use: (at: Buffer) => T): T {
    const end = path.lastIndexOf('/') + 1;
    using place = this.top.find(path.slice(0, end));
    if (!place) throw new Error('its directory is not there');
    return use(place.at(path.slice(end)));
  }

  private attempt(path: string, work: () => void): void {
    try {
      work();
    } catch {
      this.result.failed.add(path);
    }
  }

  private place({ path, origin, doubt }: Choice<Origin>): void {
    const above = withParents(path).slice(1, -1).reverse();
    for (const it of origin.isDirectory ? [...above, path] : above) this.makeDirectory(it);
    if (origin.isDirectory) return;
    this.gone.delete(path);
    const isWhole = this.archive.open(origin, (at, now) => this.copy(at, path, now));
    if (isWhole === undefined) {
      this.takeBack(path, origin);
      return;
    }
    this.result.files++;
    if (!isWhole) this.result.plain.add(path);
    if (doubt) this.result[doubt].add(path);
  }

  /** Removes a copy that may be one of something else, for what it should be was not there any more. */
  private takeBack(path: string, { device, inode }: Origin): void {
    this.gone.add(path);
    this.at(path, (to) => rmSync(to, { force: true }));
    if (this.names.get(`${device} ${inode}`) === path) this.names.delete(`${device} ${inode}`);
  }

  private makeDirectory(path: string): void {
    if (this.made.has(path)) return;
    this.at(path, makeDirectory);
    this.made.set(path, this.directoryAt(path));
  }

  private directoryAt(path: string): Origin | undefined {
    const there = this.lookup.find(path)?.origin;
    return there?.isDirectory ? there : undefined;
  }

  /** Copies a file, or gives one that was copied already another name, as it had two. */
  private copy(at: Buffer, path: string, status: BigIntStats): boolean {
    const key = `${status.dev} ${status.ino}`;
    const former = status.nlink > 1n ? this.names.get(key) : undefined;
    if (former !== undefined) {
      this.at(former, (from) => this.at(path, (to) => linkSync(from, to)));
      return true;
    }
    if (status.nlink > 1n) this.names.set(key, path);
    return this.at(path, (to) => copyEntry(at, to, status));
  }

  private finish(path: string, origin: Origin): void {
    this.bare.delete(path);
    const isWhole = this.archive.open(origin, (at, status) => this.at(path, (to) => copyAttributes(at, to, status)));
    if (isWhole === undefined) this.bare.add(path);
    else if (!isWhole) this.result.plain.add(path);
  }

  [Symbol.dispose](): void {
    this.top[Symbol.dispose]();
  }
}

const nothing = () => {};

/** Says how far what was remembered at one time is from what was at another: what was remembered before that is farther than all that came later. */
const distanceOf = (time: number, at: number) => (time >= at ? time - at : Number.MAX_SAFE_INTEGER - time);

/** Directories come before what is in them. */
const inOrder = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1);
