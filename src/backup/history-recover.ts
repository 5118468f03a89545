/**
 * Puts together what DEST_DIR, or some paths in it, were at a time, in a directory of its own.
 *
 *   const recovery = new Recovery(archive, { at, to: '/restore', paths: ['web'] });
 *   recovery.run(); // { files: 120, directories: 7, … }
 */
import type { BigIntStats } from 'node:fs';
import { linkSync } from 'node:fs';
import { isWithin, withParents } from '../service/files.ts';
import type { Archive, Origin, Version } from './history-archive.ts';
import { copyAttributes, copyEntry, makeDirectory } from './history-copy.ts';
import { type Choice, Lookup } from './history-lookup.ts';

interface Wish {
  /** ms since 1970. */
  at: number;
  /** An empty directory, bytes in a latin1 string. */
  to: string;
  /** Relative to DEST_DIR, bytes in latin1 strings; all of it where there are none. */
  paths: readonly string[];
}

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

export class Recovery {
  private readonly lookup: Lookup<Origin>;
  /** Directories, those that are there now before those that were remembered with a version. */
  private readonly directories = new Map<string, Version>();
  private readonly names = new Map<string, string>();
  private readonly moved: boolean;
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
  ) {
    const moves = archive.moves();
    this.moved = moves.some(({ time }) => time > wish.at);
    this.lookup = new Lookup(wish.at, moves);
  }

  run(): Recovered {
    this.gather();
    const chosen = [...this.lookup.chosen()].filter(({ path }) => this.isWished(path));
    const made = new Map<string, Origin | undefined>();
    for (const choice of chosen.sort(inOrder)) this.attempt(choice.path, () => this.place(choice, made));
    for (const [path, origin] of [...made].reverse()) if (origin) this.attempt(path, () => this.finish(path, origin));
    this.result.directories = made.size;
    if (this.wish.paths.length === 0) this.attempt('.', () => this.finish('.', this.archive.top));
    return this.result;
  }

  private gather(): void {
    const isWanted = (path: string) => this.moved || this.leadsToWish(path);
    this.archive.visitCurrent(isWanted, (it) => void this.lookup.add(it));
    this.archive.visitVersions(this.wish.at, isWanted, {
      version: (it) => void this.lookup.add(it),
      former: (it) => void this.lookup.addFormer(it),
      directory: (it) => void this.directories.set(this.lookup.pathOf(it), it),
    });
  }

  private isWished(path: string): boolean {
    const { paths } = this.wish;
    return paths.length === 0 || paths.some((it) => isWithin(path, it));
  }

  private leadsToWish(path: string): boolean {
    return this.isWished(path) || this.wish.paths.some((it) => isWithin(it, path));
  }

  private target(path: string): Buffer {
    return Buffer.from(`${this.wish.to}/${path}`, 'latin1');
  }

  private attempt(path: string, work: () => void): void {
    try {
      work();
    } catch {
      this.result.failed.add(path);
    }
  }

  private place(choice: Choice<Origin>, made: Map<string, Origin | undefined>): void {
    const { path, origin, doubt } = choice;
    const { status } = origin;
    const above = withParents(path).slice(1, -1).reverse();
    for (const it of status.isDirectory() ? [...above, path] : above) this.makeDirectory(it, made);
    if (status.isDirectory()) return;
    const isWhole = this.archive.open(origin, (at, now) => this.copy(at, path, now));
    if (isWhole === undefined) throw new Error('it is gone');
    this.result.files++;
    if (!isWhole) this.result.plain.add(path);
    if (doubt) this.result[doubt].add(path);
  }

  private makeDirectory(path: string, made: Map<string, Origin | undefined>): void {
    if (made.has(path)) return;
    makeDirectory(this.target(path));
    const there = this.lookup.find(path);
    const known = there?.origin.status.isDirectory() ? there : this.directories.get(path);
    made.set(path, known?.origin);
  }

  /** Copies a file, or gives one that was copied already another name, as it had two. */
  private copy(at: Buffer, path: string, status: BigIntStats): boolean {
    const key = `${status.dev} ${status.ino}`;
    const former = status.nlink > 1n ? this.names.get(key) : undefined;
    if (former !== undefined) {
      linkSync(this.target(former), this.target(path));
      return true;
    }
    if (status.nlink > 1n) this.names.set(key, path);
    return copyEntry(at, this.target(path), status);
  }

  private finish(path: string, origin: Origin): void {
    const isWhole = this.archive.open(origin, (at, status) => copyAttributes(at, this.target(path), status));
    if (!isWhole) this.result.plain.add(path);
  }
}

/** Directories come before what is in them. */
const inOrder = ({ path: a }: { path: string }, { path: b }: { path: string }) => (a < b ? -1 : 1);
