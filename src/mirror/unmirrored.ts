/**
 * What a target lacks because it fails, path by path, and why. What fails may keep rsync from mirroring other things: then it is set
 * aside, rsync does not see it, and its copy stays as it is until it is tried again by itself.
 *
 *   unmirrored.note(fault, true);
 *   unmirrored.rules('/');     // for rsync: --filter=P /a, --filter=H /a
 *   unmirrored.settle('a');    // it is mirrored now
 */
import type { Stats } from 'node:fs';
import { isWithin, withParents } from '../service/files.ts';
import type { Fault } from './faults.ts';
import { hideRules, keepRules } from './scopes.ts';
import { LOST_AND_FOUND } from './source.ts';
import type { Unread } from './unread.ts';

/** How many paths are known at most, and how long the rules may be by which some of them are set aside, bytes. */
const MAX_PATHS = 1000;
const MAX_RULES = 100_000;

interface Entry extends Fault {
  /** When it failed first, ms since 1970. */
  since: number;
  isDirectory: boolean;
  /** Where it is in the source now, if it was moved away from here. */
  place?: string;
}

export class Unmirrored {
  private readonly known = new Map<string, Entry>();
  /** Which of them are set aside, the one that was last at the end, and how long the rules for each are, bytes. */
  private readonly aside = new Map<string, number>();
  /** Where things are now that were moved within the source, by where they were; a target may have them nowhere else. */
  private readonly moved = new Map<string, string>();
  /** What is nobody's loss, and left out for good. */
  private readonly ignored = new Set<string>();

  get size(): number {
    return this.known.size;
  }

  /** Since when it has lacked the first of them, ms since 1970. */
  get since(): number | undefined {
    return this.size > 0 ? Math.min(...[...this.known.values()].map(({ since }) => since)) : undefined;
  }

  has(path: string): boolean {
    return this.known.has(path);
  }

  isAside(path: string): boolean {
    return this.aside.has(path);
  }

  /** Lists what is set aside, what has waited longest first. */
  get allAside(): Entry[] {
    return [...this.aside.keys()].flatMap((path) => this.known.get(path) ?? []);
  }

  /** Lists what fails and is not set aside, so that it goes with all else. */
  get others(): string[] {
    return [...this.known.keys()].filter((path) => !this.aside.has(path));
  }

  /** Lists those that were noted first. */
  first(most: number): { path: string; text: string }[] {
    return [...this.known.values()].slice(0, most).map(({ path, text }) => ({ path, text }));
  }

  /** Notes that a path fails; returns whether that is new, or it fails for another reason than before. */
  note(fault: Fault, isDirectory: boolean): boolean {
    const before = this.known.get(fault.path);
    if (!before && this.size >= MAX_PATHS) return false;
    this.known.set(fault.path, { since: Date.now(), ...before, ...fault, isDirectory });
    return before?.text !== fault.text;
  }

  /** Has rsync leave out a path that is known to fail, where there is room for one more rule; returns whether it did not before. */
  setAside(path: string): boolean {
    const entry = this.known.get(path);
    if (!entry || this.aside.has(path) || path === '') return false; // without the source itself, nothing would be left
    const length = rulesFor([entry], '/').join('').length;
    if (length + [...this.aside.values()].reduce((sum, it) => sum + it, 0) > MAX_RULES) return false;
    this.aside.set(path, length);
    return true;
  }

  /** Has rsync see a path again that was set aside; returns whether it was a directory. */
  unhide(path: string): boolean {
    this.aside.delete(path);
    return this.known.get(path)?.isDirectory === true;
  }

  /** Notes that something was moved within the source, and with it what lies in it: the only copy may be that of its old name. */
  move(from: string, to: string): void {
    for (const entry of this.known.values())
      for (const old of [entry.path, entry.place])
        if (old !== undefined && isWithin(old, from)) entry.place = to + old.slice(from.length);
    for (const [old, place] of this.moved)
      if (isWithin(place, from)) this.moved.set(old, to + place.slice(from.length));
    if (this.moved.size < MAX_PATHS) this.moved.set(from, to);
  }

  /**
   * Sets aside the old places of what was moved and cannot be read in its new one, before anything is deleted there.
   * @param isDue whether what is at a path is about to be mirrored; of all else that was moved, a target has it by now
   * @param find finds what cannot be read at a place
   * @param isThere whether there is something at a path again
   */
  keepMoved(
    isDue: (path: string) => boolean,
    find: (place: string) => Unread[],
    isThere: (path: string) => boolean,
  ): void {
    for (const [from, to] of this.moved) {
      if (!isDue(to)) this.moved.delete(from);
      for (const { path, isDirectory } of isDue(to) ? find(to) : []) {
        const old = from + path.slice(to.length);
        if (!isThere(old)) this.keepOld(old, path, isDirectory);
      }
    }
  }

  private keepOld(path: string, place: string, isDirectory: boolean): void {
    const fault: Fault = { path, kind: 'reading', text: 'Permission denied', code: 13 };
    if (!this.has(path)) this.note(fault, isDirectory);
    const entry = this.known.get(path);
    if (entry) entry.place = place;
    this.setAside(path);
  }

  /** Leaves a path out for good that only the system itself has a use for; returns whether it was not left out before. */
  ignore(path: string): boolean {
    if (this.ignored.has(path)) return false;
    this.ignored.add(path);
    return true;
  }

  /** Forgets a path that is mirrored now. */
  settle(path: string): void {
    this.known.delete(path);
    this.aside.delete(path);
  }

  /** Whether a path is left out, or lies in what is. */
  isHidden(path: string): boolean {
    if (this.aside.size + this.ignored.size === 0) return false;
    return withParents(path).some((it) => this.aside.has(it) || this.ignored.has(it));
  }

  /** Writes the rules by which rsync leaves out what is set aside. @param prefix what stands before a path of the source where rsync starts */
  rules(prefix: string): string[] {
    const ignored = [...this.ignored].map((path) => ({ path, isDirectory: true }));
    return rulesFor([...ignored, ...this.allAside], prefix);
  }
}

function rulesFor(entries: Pick<Entry, 'path' | 'isDirectory'>[], prefix: string): string[] {
  const pathsOf = (isTree: boolean) => entries.filter((it) => it.isDirectory === isTree).map(({ path }) => path);
  const both = (paths: string[], ends: string[]) => [
    ...keepRules(paths, prefix, ends),
    ...hideRules(paths, prefix, ends),
  ];
  return [...both(pathsOf(true), ['/***']), ...both(pathsOf(false), [''])];
}

/** Whether what cannot be read is the directory that a file system keeps for its own repairs. */
export const isLostAndFound = (path: string, found: Pick<Stats, 'uid' | 'isDirectory'> | undefined) =>
  /[^/]*$/.exec(path)?.[0] === LOST_AND_FOUND && found?.uid === 0 && found.isDirectory() && process.getuid?.() !== 0;
