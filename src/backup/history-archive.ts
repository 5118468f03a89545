/**
 * Reads what is in DEST_DIR and in its history, for --history and --recover.
 *
 *   using archive = new Archive('/data/backup');
 *   archive.visitCurrent(() => true, ({ path }) => console.log(path));
 */
import { type BigIntStats, readFileSync } from 'node:fs';
import { isWithin } from '../service/files.ts';
import { mountsBelow, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { Held, type Met, walkTree } from './held-tree.ts';
import type { Life } from './history-lookup.ts';
import { type Move, movesIn } from './history-moves.ts';
import { baseOf, type Entry, entryOf, HISTORY, MARK, MOVES, slotOf } from './history-names.ts';

/** Where something is: in DEST_DIR, relative to it, and what tells it from others. There may be millions. */
export interface Origin {
  location: string;
  device: bigint;
  inode: bigint;
  isDirectory: boolean;
}

const originOf = (location: string, status: BigIntStats): Origin => ({
  location,
  device: status.dev,
  inode: status.ino,
  isDirectory: status.isDirectory(),
});

/** What one session has kept. */
interface Shelf {
  name: string;
  /** When it was there at the latest, ms since 1970. */
  end: number;
  entry: Entry;
  /** Of a session that may run: its directory and its renames. They get another name at any time. */
  place: Held | undefined;
  journal: Buffer | undefined;
  hasJournal: boolean;
}

/** How often it is looked anew where a name has changed in the midst of a look. */
const LOOKS = 20;
/** How often where one may have changed, and was met under neither. */
const QUIET_LOOKS = 5;

export type Version = Life<Origin>;

/** Is told of what is met. */
interface Visit {
  version: (it: Version, status: BigIntStats) => void;
  former: (it: Version, status: BigIntStats) => void;
  directory: (it: Version) => void;
}

const msOf = (ns: bigint) => Number(ns) / 1e6;

/** What one process has kept in turn is numbered. */
const { compare } = new Intl.Collator('en', { numeric: true });
const byTurn = ([a]: [string, unknown], [b]: [string, unknown]) => compare(a, b);

export class Archive implements Disposable {
  private readonly place: Held;
  /** The names of what sessions have kept that have ended, the oldest first, a slash behind each. There may be a million. */
  private kept = Buffer.alloc(0);
  /** Those of them that have a journal. */
  private journals = new Set<string>();
  private running: Shelf[] = [];

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
    this.refresh();
  }

  /** Looks for what was kept meanwhile. */
  refresh(): void {
    using history = this.place.find(HISTORY);
    for (let look = 1; ; look++) {
      this.release();
      try {
        const changed = history?.statusOf('.')?.mtimeNs;
        if (history) this.list(history);
        if (look >= QUIET_LOOKS || changed === history?.statusOf('.')?.mtimeNs) return;
      } catch (cause) {
        if (look >= LOOKS) throw cause;
      }
    }
  }

  /** @throws where something of a session has got another name meanwhile */
  private list(history: Held): void {
    const open = new Map<string, boolean>();
    const kept: string[] = [];
    for (const name of history.entries()) {
      const base = baseOf(name);
      const kind = entryOf(base)?.kind;
      if (kind === 'kept') kept.push(base);
      else if (kind === 'open') open.set(base, open.get(base) || base === name);
      if (kind && base !== name) this.journals.add(base);
    }
    this.kept = Buffer.from(kept.sort().concat('').join('/'), 'latin1'); // by time, as such names are
    const end = Math.max(this.now, Date.now()) + 1; // until then, and they go on
    for (const [name, isThere] of [...open].sort(byTurn))
      this.running.push(this.openShelf(history, name, { isThere, end }));
  }

  private shelfNamed(name: string): Shelf {
    const entry = entryOf(name) as Extract<Entry, { kind: 'kept' }>;
    const hasJournal = this.journals.has(name);
    return { name, entry, end: entry.time, place: undefined, journal: undefined, hasJournal };
  }

  /** @param isThere whether more than its journal is @throws where something of it has got another name meanwhile */
  private openShelf(history: Held, name: string, { isThere, end }: { isThere: boolean; end: number }): Shelf {
    const entry = entryOf(name) as Entry;
    const hasJournal = this.journals.has(name);
    const journal = hasJournal ? readJournal(history, name + MOVES) : undefined;
    const isDirectory = history.statusOf(name)?.isDirectory() ?? isThere;
    return { name, entry, end, place: isDirectory ? history.enter(name) : undefined, journal, hasJournal };
  }

  private *names(): Generator<string> {
    let last = '';
    for (let from = 0, end = 0; from < this.kept.length; from = end + 1) {
      end = this.kept.indexOf('/', from);
      const name = this.kept.toString('latin1', from, end);
      if (name !== last) yield name; // its journal may have told it, too
      last = name;
    }
  }

  /** Lists what sessions have kept, the oldest first. @param isWanted says of which session */
  private *shelves(isWanted: (name: string) => boolean = () => true): Generator<Shelf> {
    const open = [...this.running];
    for (const name of this.names()) {
      if (!isWanted(name)) continue;
      const shelf = this.shelfNamed(name);
      while (open[0] && open[0].end < shelf.end) yield open.shift() as Shelf;
      yield shelf;
    }
    yield* open;
  }

  private release(): void {
    for (const { place } of this.running) place?.[Symbol.dispose]();
    [this.kept, this.running, this.journals] = [Buffer.alloc(0), [], new Set()];
  }

  /** DEST_DIR itself. */
  get top(): Origin {
    const status = this.place.statusOf('.');
    if (!status) throw new Error('DEST_DIR');
    return originOf('.', status);
  }

  /** The time from which on all that was replaced was kept, and is still; nothing where that is not known. */
  get since(): number | undefined {
    using history = this.place.find(HISTORY);
    const status = history?.statusOf(MARK);
    return status && msOf(status.mtimeNs);
  }

  /** Lists all renames. */
  moves(): Move[] {
    using history = this.place.find(HISTORY);
    const moves: Move[] = [];
    for (const { name, end, journal, hasJournal } of this.shelves((it) => this.journals.has(it))) {
      if (!history || !hasJournal) continue;
      try {
        const bytes = journal ?? readJournal(history, name + MOVES);
        for (const move of bytes ? movesIn(bytes, end) : []) moves.push(move);
      } catch {}
    }
    return moves;
  }

  /**
   * Visits versions that were there at a time or later, and those before it whose successors may have been thinned out.
   * @param at ms since 1970; -Infinity for all
   * @param isWanted says of a directory whether what is in it is
   */
  visitVersions(at: number, isWanted: (path: string) => boolean, visit: Visit): void {
    using history = this.place.find(HISTORY);
    for (const shelf of this.shelves()) {
      const isThinned = this.isThinnedAt(shelf, at);
      if (!history || (shelf.end <= at && !isThinned)) continue;
      this.visitShelf(history, shelf, isWanted, (version, status) => {
        if (status.isDirectory()) visit.directory(version);
        else if (version.until > at) visit.version(version, status);
        else if (isThinned) visit.former(version, status);
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
    history: Held,
    { name, end, place: held }: Shelf,
    isWanted: (path: string) => boolean,
    visit: (it: Version, status: BigIntStats) => void,
  ): void {
    using place = held ? held.find('.') : history.find(name);
    const begun = place?.statusOf('.')?.birthtimeNs ?? 0n;
    if (!place) return;
    walkTree(place, ({ path, status }) => {
      if (path === HISTORY || (status.isDirectory() && !isWanted(path))) return 'skip';
      const life = lifeOf({ path, status }, { begun, end });
      const isCopy = this.mounts.some((mount) => isWithin(path, mount)); // rsync has made it when it was replaced
      const origin = originOf(`${HISTORY}/${name}/${path}`, status);
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
        origin: originOf(path, status),
      });
      return undefined;
    });
  }

  /** Opens the directory of something that was found, and hands on its path there; nothing where it is gone, even if that was meanwhile. */
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
    for (const it of history?.entries() ?? []) if (it !== name) yield [HISTORY, it, ...rest].join('/');
  }

  private openAt<T>({ location, inode, device }: Origin, use: (at: Buffer, status: BigIntStats) => T): T | undefined {
    const end = location.lastIndexOf('/') + 1;
    using place = this.place.find(location.slice(0, end));
    const name = location.slice(end);
    const status = place?.statusOf(name);
    if (!place || status?.ino !== inode || status.dev !== device) return undefined;
    const isThere = () => place.statusOf(name)?.ino === inode;
    try {
      const done = use(place.at(name), status);
      return isThere() ? done : undefined; // or it was replaced meanwhile, and something else was used
    } catch (cause) {
      if (isThere()) throw cause;
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    this.release();
    this.place[Symbol.dispose]();
  }
}

/** Reads a journal of renames, nothing where something else has its name. @throws where it is gone */
function readJournal(history: Held, name: string): Buffer | undefined {
  const status = history.statusOf(name);
  return status && !status.isFile() ? undefined : readFileSync(history.at(name));
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
