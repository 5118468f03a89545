/**
 * Reads what is in DEST_DIR and in its history, for --history and --recover.
 *
 *   using archive = new Archive('/data/backup');
 *   for (const version of archive.versions()) version.path;
 */
import { type BigIntStats, readFileSync } from 'node:fs';
import { isWithin } from '../service/files.ts';
import { mountsBelow, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { Held, type Met, walkTree } from './held-tree.ts';
import type { Life } from './history-lookup.ts';
import { type Move, movesIn } from './history-moves.ts';
import { baseOf, type Entry, entryOf, HISTORY, MOVES, slotOf } from './history-names.ts';

/** Where something is: in DEST_DIR, relative to it, with what is known of it. */
export interface Origin {
  location: string;
  status: BigIntStats;
}

/** What one session has kept. */
interface Shelf {
  name: string;
  /** When it was there at the latest, ms since 1970. */
  end: number;
  entry: Entry;
}

export type Version = Life<Origin>;

const msOf = (ns: bigint) => Number(ns) / 1e6;

export class Archive implements Disposable {
  private readonly place: Held;
  private readonly shelves: Shelf[];

  /** What is mounted below DEST_DIR, relative to it. */
  private readonly mounts: string[];

  /** @param root the real path of DEST_DIR, bytes in a latin1 string @param now ms since 1970 */
  constructor(
    root: string,
    private readonly now = Date.now(),
  ) {
    this.place = Held.open(root);
    const paths = mountsBelow(parseMountinfo(readMountinfo()), root).map(({ path }) => path);
    this.mounts = paths.filter((path) => path !== root).map((path) => path.slice(root.length + 1));
    using history = this.place.find(HISTORY);
    const names = [...new Set((history?.names() ?? []).map(baseOf))];
    this.shelves = names
      .flatMap((name) => this.shelfOf(name))
      .sort((a, b) => a.end - b.end || (a.name < b.name ? -1 : 1));
  }

  private shelfOf(name: string): Shelf[] {
    const entry = entryOf(name);
    if (!entry) return [];
    return [{ name, entry, end: entry.kind === 'kept' ? entry.time : this.now }];
  }

  /** DEST_DIR itself. */
  get top(): Origin {
    const status = this.place.statusOf('.');
    if (!status) throw new Error('DEST_DIR');
    return { location: '.', status };
  }

  /** The time from which on what was there is known; nothing where no version is. */
  get oldest(): number | undefined {
    return this.shelves[0]?.end;
  }

  /** Lists all renames. */
  moves(): Move[] {
    return this.shelves.flatMap(({ name, end }) => {
      try {
        using history = this.place.find(HISTORY);
        const path = history?.at(name + MOVES);
        return path && history?.statusOf(name + MOVES)?.isFile() ? movesIn(readFileSync(path), end) : [];
      } catch {
        return [];
      }
    });
  }

  /**
   * Visits versions that were there at a time or later, and those before it whose successors may have been thinned out.
   * @param at ms since 1970; -Infinity for all
   * @param isWanted says of a directory whether what is in it is
   */
  visitVersions(
    at: number,
    isWanted: (path: string) => boolean,
    visit: { version: (it: Version) => void; former: (it: Version) => void; directory: (it: Version) => void },
  ): void {
    for (const shelf of this.shelves) {
      const isThinned = this.isThinnedAt(shelf, at);
      if (shelf.end <= at && !isThinned) continue;
      this.visitShelf(shelf, isWanted, (version, status) => {
        if (status.isDirectory()) visit.directory(version);
        else if (version.until > at) visit.version(version);
        else if (isThinned) visit.former(version);
      });
    }
  }

  /** Whether later versions than these, which were there at a time, may have been thinned out. */
  private isThinnedAt({ entry }: Shelf, at: number): boolean {
    if (entry.kind === 'open') return false;
    const slot = slotOf(entry.stamp, this.now);
    return slot !== undefined && at + entry.stamp - entry.time < slot.to;
  }

  private visitShelf(
    { name, end }: Shelf,
    isWanted: (path: string) => boolean,
    visit: (it: Version, status: BigIntStats) => void,
  ): void {
    using place = this.place.find(`${HISTORY}/${name}`);
    const begun = place?.statusOf('.')?.birthtimeNs ?? 0n;
    if (!place) return;
    walkTree(place, ({ path, status }) => {
      if (path === HISTORY || (status.isDirectory() && !isWanted(path))) return 'skip';
      const life = lifeOf({ path, status }, { begun, end });
      const isCopy = this.mounts.some((mount) => isWithin(path, mount)); // rsync has made it when it was replaced
      const origin = { location: `${HISTORY}/${name}/${path}`, status };
      if (life) visit({ ...life, path, origin, ...(isCopy ? { born: undefined } : {}) }, status);
      return undefined;
    });
  }

  /** Visits what is there now. */
  visitCurrent(isWanted: (path: string) => boolean, visit: (it: Version) => void): void {
    walkTree(this.place, ({ path, status }) => {
      if (path === HISTORY || (status.isDirectory() && !isWanted(path))) return 'skip';
      visit({
        path,
        born: bornAt(status),
        until: Number.POSITIVE_INFINITY,
        isExact: true,
        origin: { location: path, status },
      });
      return undefined;
    });
  }

  /** Opens the directory of something that was found, and hands on its path there; nothing where it is gone. */
  open<T>(origin: Origin, use: (at: Buffer, status: BigIntStats) => T): T | undefined {
    for (const location of this.locationsOf(origin)) {
      const done = this.openAt({ ...origin, location }, use);
      if (done !== undefined) return done;
    }
    return undefined;
  }

  /** Lists where something may be: a session may have ended meanwhile, and what it has kept has another name then. */
  private *locationsOf({ location }: Origin): Generator<string> {
    yield location;
    const [first, name, ...rest] = location.split('/');
    if (first !== HISTORY) return;
    using history = this.place.find(HISTORY);
    for (const it of history?.names() ?? []) if (it !== name) yield [HISTORY, it, ...rest].join('/');
  }

  private openAt<T>({ location, status: known }: Origin, use: (at: Buffer, status: BigIntStats) => T): T | undefined {
    const end = location.lastIndexOf('/') + 1;
    using place = this.place.find(location.slice(0, end));
    const name = location.slice(end);
    const status = place?.statusOf(name);
    const isSame = status?.ino === known.ino && status.dev === known.dev;
    return place && status && isSame ? use(place.at(name), status) : undefined;
  }

  [Symbol.dispose](): void {
    this.place[Symbol.dispose]();
  }
}

/** Says when something was made; nothing where the file system does not tell. */
const bornAt = ({ birthtimeNs }: BigIntStats) => (birthtimeNs > 0n ? msOf(birthtimeNs) : undefined);

/**
 * Says when a version was there. It was kept when its status changed last, unless that is too late or before anything was kept there. What was
 * made later still is none: a source has put it there.
 * @param begun when its directory was made, ns @param end when it was there at the latest, ms
 */
function lifeOf(
  { status }: Pick<Met, 'path' | 'status'>,
  { begun, end }: { begun: bigint; end: number },
): Pick<Version, 'born' | 'until' | 'isExact'> | undefined {
  const { birthtimeNs, ctimeNs } = status;
  if (!status.isDirectory() && msOf(birthtimeNs) > end) return undefined;
  const isExact = ctimeNs >= begun && msOf(ctimeNs) <= end;
  return { born: bornAt(status), until: isExact ? msOf(ctimeNs) : end, isExact };
}
