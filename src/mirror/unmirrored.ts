/**
 * What a target lacks because it fails, path by path, and why. What fails may keep rsync from mirroring other things: then it is set
 * aside, rsync does not see it, and its copy stays as it is until it is tried again by itself.
 *
 *   unmirrored.note(fault, true);
 *   unmirrored.rules('/');     // for rsync: --filter=P /a, --filter=H /a
 *   unmirrored.settle('a');    // it is mirrored now
 */
import type { Stats } from 'node:fs';
import { isWithin } from '../service/files.ts';
import type { Fault } from './faults.ts';
import { hideRules, keepRules } from './scopes.ts';
import { LOST_AND_FOUND } from './source.ts';

/** How many paths are known at most, and how long the rules may be by which some of them are set aside, bytes. */
const MAX_PATHS = 1000;
const MAX_RULES = 100_000;

interface Entry extends Fault {
  /** When it failed first, ms since 1970. */
  since: number;
  isAside: boolean;
  isDirectory: boolean;
}

export class Unmirrored {
  private readonly known = new Map<string, Entry>();
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
    return this.known.get(path)?.isAside === true;
  }

  /** Lists those that were noted first. */
  first(most: number): { path: string; text: string }[] {
    return [...this.known.values()].slice(0, most).map(({ path, text }) => ({ path, text }));
  }

  /** Notes that a path fails; returns whether that is new, or it fails for another reason than before. */
  note(fault: Fault, isDirectory: boolean): boolean {
    const before = this.known.get(fault.path);
    if (!before && this.size >= MAX_PATHS) return false;
    const { since = Date.now(), isAside = false } = before ?? {};
    this.known.set(fault.path, { ...fault, since, isAside, isDirectory });
    return before?.text !== fault.text;
  }

  /** Has rsync leave out a path that is known to fail, where there is room for one more rule; returns whether it did not before. */
  setAside(path: string): boolean {
    const entry = this.known.get(path);
    if (!entry || entry.isAside || path === '') return false; // without the source itself, nothing would be left
    entry.isAside = true;
    entry.isAside = this.rules('/').join('').length <= MAX_RULES;
    return entry.isAside;
  }

  /** Has rsync see a path again that was set aside. */
  unhide(path: string): void {
    const entry = this.known.get(path);
    if (entry) entry.isAside = false;
  }

  /** Leaves a path out for good that only the system itself has a use for; returns whether it was not left out before. */
  ignore(path: string): boolean {
    if (this.ignored.has(path)) return false;
    this.ignored.add(path);
    return true;
  }

  /** Forgets a path that is mirrored now; returns whether it was known. */
  settle(path: string): boolean {
    return this.known.delete(path);
  }

  /** Lists the paths that a condition holds for. */
  filter(holds: (entry: Entry) => boolean): string[] {
    return [...this.known.values()].filter(holds).map(({ path }) => path);
  }

  /** Whether a path is left out, or lies in what is. */
  isHidden(path: string): boolean {
    const isIn = (other: string) => isWithin(path, other);
    return [...this.ignored].some(isIn) || [...this.known.values()].some((entry) => entry.isAside && isIn(entry.path));
  }

  /** Writes the rules by which rsync leaves out what is set aside. @param prefix what stands before a path of the source where rsync starts */
  rules(prefix: string): string[] {
    const aside = [...this.known.values()].filter(({ isAside }) => isAside);
    const trees = [...aside.filter(({ isDirectory }) => isDirectory).map(({ path }) => path), ...this.ignored];
    const files = aside.filter(({ isDirectory }) => !isDirectory).map(({ path }) => path);
    const both = (paths: string[], end: string) => [...keepRules(paths, prefix, end), ...hideRules(paths, prefix, end)];
    return [...both(trees, '/***'), ...both(files, '')];
  }
}

/** Whether what cannot be read is the directory that a file system keeps for its own repairs. */
export const isLostAndFound = (path: string, found: Pick<Stats, 'uid' | 'isDirectory'> | undefined) =>
  /[^/]*$/.exec(path)?.[0] === LOST_AND_FOUND && found?.uid === 0 && found.isDirectory() && process.getuid?.() !== 0;
