/**
 * Where things have gone that were moved away, so that what a target has in an old place is not taken for lost.
 * Paths are bytes in latin1 strings.
 *
 *   departures.leave('photos');                  // a directory has gone, nobody knows where to
 *   departures.arrive('photos', 'archive/2026'); // it is still in the source
 *   departures.locate('photos/a.jpg');           // 'archive/2026/a.jpg'
 */
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';
import type { Kind } from './events.ts';

/** Finds what the source has at a path. */
type Look = (path: string) => Stats | undefined;

/** How many are kept at most; beyond, nothing is known of any. */
export const MAX_DEPARTURES = 100_000;
/** Of how many directories that have come last it is kept where they came from. */
export const MAX_EXPLAINED = 1000;

interface Departure {
  /** Where it went within the source, nothing where it is not known to be there. */
  to: string | undefined;
  /** Which one it was: what was moved later may have been moved on. */
  number: number;
}

export class Departures {
  private readonly places = new Map<string, Departure>();
  /** Directories of which it is not known where they went. */
  private readonly lost = new Set<string>();
  /** Directories that were made, or moved from a place that is known: nothing that is lost is there under such a name. */
  private readonly explained = new Set<string>();
  /** How many things were moved away so far. */
  private count = 0;
  /** How many files arrived elsewhere in the source since this was set to 0: infinitely many where directories are among them. */
  arrived = 0;
  /** Whether there were more than are kept. */
  isIncomplete = false;

  /** Notes an event of a directory. */
  note(path: string, kind: Kind): void {
    if (kind === 'create') this.explain(path);
    if (kind === 'moved_from') this.leave(path);
    if (kind === 'delete' || kind === 'moved_to') this.explained.delete(path); // what was in it has gone before
  }

  /** Notes that a directory was moved away. */
  leave(path: string): void {
    this.set(path, undefined);
    for (const place of this.explained)
      if (place === path || place.startsWith(`${path}/`)) this.explained.delete(place);
  }

  /** Notes that a directory has come, and from where is known. */
  private explain(path: string): void {
    this.explained.delete(path);
    this.explained.add(path);
    const [oldest = ''] = this.explained;
    if (this.explained.size > MAX_EXPLAINED) this.explained.delete(oldest);
  }

  /** Whether it is known of a directory where it came from. */
  isExplained(path: string): boolean {
    return this.explained.has(path);
  }

  /** Notes where something went that was moved within the source. @param isKnown whether it had long been where it was */
  arrive(from: string, to: string, isKnown = true): void {
    const isDirectory = this.lost.has(from);
    this.arrived += isDirectory ? Number.POSITIVE_INFINITY : 1;
    if (isDirectory && isKnown) this.explain(to);
    this.set(from, to);
  }

  private set(path: string, to: string | undefined): void {
    this.places.delete(path);
    if (this.places.size >= MAX_DEPARTURES) {
      this.places.clear();
      this.lost.clear();
      this.isIncomplete = true;
    }
    if (to === undefined) this.lost.add(path);
    else this.lost.delete(path);
    this.places.set(path, { to, number: this.count++ });
  }

  /** Finds where what was at a path is now, if that or what it lay in was moved within the source. */
  locate(path: string): string | undefined {
    if (this.places.size === 0) return undefined;
    let place = path;
    for (let after = -1; ; ) {
      const found = this.nearest(place, after);
      if (!found) return place === path ? undefined : place;
      if (found.to === undefined) return undefined;
      place = found.to + place.slice(found.from.length);
      after = found.number;
    }
  }

  /** Whether what was at a path is still in the source. */
  has(path: string, look: Look): boolean {
    const place = this.locate(path);
    return place !== undefined && look(place) !== undefined;
  }

  /** Finds the directory that was moved nobody knows where to, if a path lay in one. */
  lostAbove(path: string): string | undefined {
    return withParents(path).find((it) => this.hasLost(it));
  }

  /** Whether a directory of this name was moved out of the source, as far as is known. */
  hasLost(path: string): boolean {
    const departure = this.places.get(path);
    return departure !== undefined && this.locate(path) === undefined;
  }

  /** Forgets what a target has taken in. @param isWaiting whether a path has changed again since */
  settle(paths: Iterable<string>, isWaiting: (path: string) => boolean): void {
    for (const path of paths) {
      if (isWaiting(path)) continue;
      this.places.delete(path);
      this.lost.delete(path);
    }
  }

  /** The same once a target was compared as a whole. */
  settleAll(isWaiting: (path: string) => boolean): void {
    this.isIncomplete = false;
    this.settle([...this.places.keys()], isWaiting);
  }

  /** Finds the next move of what is at a path, by the path itself or what it lies in. */
  private nearest(path: string, after: number): (Departure & { from: string }) | undefined {
    for (const from of withParents(path)) {
      const departure = this.places.get(from);
      if (departure && departure.number > after) return { ...departure, from };
    }
    return undefined;
  }
}

/** How many paths are looked for before a directory counts as lost. */
const MAX_TRIES = 10;

/** A search for directories that nobody saw arrive, for what they are in was new: by the names of what was in them. */
export class Search {
  /** By what was lost: the directories that may be it, and how many paths were looked for. */
  private readonly found = new Map<string, { places: string[]; tries: number }>();

  /** @param arrivals directories that are new, or lie in one that is */
  constructor(
    private readonly departures: Departures,
    private readonly arrivals: readonly string[],
    private readonly look: Look,
  ) {}

  /** Whether what was at a path is in one of them. */
  finds(path: string): boolean {
    const lost = this.arrivals.length > 0 ? this.departures.lostAbove(path) : undefined;
    if (lost === undefined) return false;
    const rest = path.slice(lost.length);
    const isIn = (place: string) => this.look(place + rest) !== undefined;
    const known = this.found.get(lost) ?? { places: [], tries: 0 };
    this.found.set(lost, known);
    const tells = rest !== '' || known.tries === 0; // of one in which there was something, its name says nothing
    if (tells && known.places.length === 0 && known.tries++ < MAX_TRIES) known.places = this.arrivals.filter(isIn);
    return known.places.some(isIn);
  }
}
