/**
 * Counts what would be deleted, and in which directories most of it lies. rsync tells of what is in a directory before it
 * tells of the directory. Paths are bytes in latin1 strings.
 *
 *   const tally = new Tally();
 *   for (const path of ['photos/a', 'photos/b', 'photos/', 'notes']) tally.add(path);
 *   tally.count;      // 4
 *   tally.largest();  // [{ path: 'photos', count: 3 }, { path: '', count: 1 }]
 */
import { parentOf } from '../service/files.ts';

/** How many directories are told apart at most; what lies in others is counted all the same. */
const MAX_DIRECTORIES = 10_000;
/** How many of them are named. */
const NAMED = 3;

export class Tally {
  count = 0;
  /** How many are deleted below a directory that stays, or of which it is not known yet whether it does. */
  private readonly below = new Map<string, number>();
  /** Directories that are deleted with all that is in them, and how many that makes, by what they lie in. */
  private readonly gone = new Map<string, Map<string, number>>();
  private named = 0;

  /** Counts a path; that of a directory ends with a slash. */
  add(path: string): void {
    this.count++;
    const name = path.replace(/\/$/, '');
    if (name !== path) this.addDirectory(name);
    else this.addBelow(parentOf(name), 1);
  }

  /** Takes a directory for one that is deleted as a whole; what was known of those in it is part of that. */
  private addDirectory(name: string): void {
    const count = (this.below.get(name) ?? 0) + 1;
    this.below.delete(name);
    this.named -= this.gone.get(name)?.size ?? 0;
    this.gone.delete(name);
    const parent = parentOf(name);
    this.addBelow(parent, count);
    if (this.named >= MAX_DIRECTORIES) return;
    const siblings = this.gone.get(parent) ?? new Map<string, number>();
    this.gone.set(parent, siblings.set(name, count));
    this.named++;
  }

  private addBelow(directory: string, count: number): void {
    const known = this.below.get(directory);
    if (known === undefined && this.below.size >= MAX_DIRECTORIES) return;
    this.below.set(directory, (known ?? 0) + count);
  }

  /** Names the directories that lose most: those that go as a whole, and those that lose some of what is directly in them. */
  largest(): { path: string; count: number }[] {
    const whole = [...this.gone.values()].flatMap((siblings) => [...siblings]);
    const parts = [...this.below].map(([path, count]): [string, number] => {
      const inGone = [...(this.gone.get(path)?.values() ?? [])].reduce((sum, one) => sum + one, 0);
      return [path, count - inGone];
    });
    const all = [...whole, ...parts].filter(([, count]) => count > 0).sort(([, a], [, b]) => b - a);
    return all.slice(0, NAMED).map(([path, count]) => ({ path, count }));
  }
}
