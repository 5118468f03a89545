/**
 * The directories without any file below them, which --prune-empty-dirs has rsync leave out as if they were not there. What counts as
 * a file is all that is no directory, also what another option keeps from being transferred; but nothing that a filter hides. A
 * directory that a filter protects from deletion counts like a file.
 *
 *   const hollows = new Hollows('/data/source/', { prefix: '/' });
 *   hollows.topmost('a/b/c'); // 'a/b' where there is a file in a, but none in a/b
 */
import { lstatSync, readdirSync } from 'node:fs';
import { isWithin, withParents } from '../service/files.ts';
import type { FilterRules } from './filter-rules.ts';

/** How many entries are looked at for one answer at most. */
const MAX_ENTRIES = 5000;
/** Errors that say that nothing is there any more. */
const GONE = ['ENOENT', 'ENOTDIR'];

/** Whether there is a file below a directory; unsure is also where something is hidden from rsync for other reasons than filters. */
export type Filling = 'filled' | 'hollow' | 'unsure';

interface Rules {
  /** What stands before a path of the source where rsync starts. */
  prefix: string;
  filters?: FilterRules | undefined;
  /** Whether a path is to be left out with all below it, so that its copy stays. */
  isHidden?: ((path: string) => boolean) | undefined;
}

const look = (path: Buffer) => lstatSync(path, { throwIfNoEntry: false });

export class Hollows {
  /** What was found out, for as long as one batch is looked at. */
  private readonly known = new Map<string, Filling>();

  /** @param root what stands before each path, bytes in a latin1 string */
  constructor(
    private readonly root: string,
    private readonly rules: Rules,
    private readonly most = MAX_ENTRIES,
  ) {}

  /**
   * Finds the topmost of a directory and those above it that has no file below it; nothing where each has one, and '', the source
   * itself, also where that cannot be said.
   */
  topmost(path: string): string | undefined {
    let found: string | undefined;
    for (const directory of withParents(path)) {
      const filling = this.fillingOf(directory);
      if (filling === 'unsure') return '';
      if (filling === 'filled') return found;
      found = directory;
    }
    return found;
  }

  /** Looks for a file below a directory. */
  fillingOf(directory: string): Filling {
    const known = this.known.get(directory);
    if (known) return known;
    const { filling, below } = this.search(directory);
    for (const path of withParents(below)) if (isWithin(path, directory)) this.known.set(path, filling);
    this.known.set(directory, filling);
    return filling;
  }

  /** The same, and in which directory the file is. */
  private search(top: string): { filling: Filling; below: string } {
    let filling: Filling = 'hollow';
    let looked = 0;
    for (const rest = [top]; rest.length > 0; ) {
      const directory = rest.pop() ?? '';
      if (this.isKept(directory)) return { filling: 'filled', below: directory };
      const entries = this.list(directory);
      if (!entries) filling = 'unsure';
      for (const { name, type } of entries ?? []) {
        if (++looked > this.most) return { filling: 'unsure', below: top };
        const path = directory === '' ? name : `${directory}/${name}`;
        if (this.rules.isHidden?.(path)) filling = 'unsure';
        else if (!this.isSeen(path, type === 'directory')) continue;
        else if (type === 'file') return { filling: 'filled', below: directory };
        else rest.push(path);
      }
    }
    return { filling, below: top };
  }

  /** Whether a directory directly in this one has no file below it, as far as can be seen. */
  mayHoldHollow(directory: string): boolean {
    const entries = this.list(directory) ?? [];
    return entries.some(({ name, type }) => {
      const path = directory === '' ? name : `${directory}/${name}`;
      if (type === 'file' || this.rules.isHidden?.(path) || !this.isSeen(path, true)) return false;
      return this.fillingOf(path) !== 'filled';
    });
  }

  private isKept(directory: string): boolean {
    return directory !== '' && this.rules.filters?.isProtected(this.rules.prefix.slice(1) + directory, true) === true;
  }

  private isSeen(path: string, isDirectory: boolean): boolean {
    return this.rules.filters?.isHidden(this.rules.prefix.slice(1) + path, isDirectory) !== true;
  }

  /** Lists a directory; nothing where that is not possible, or somebody else's to know. */
  private list(directory: string): { name: string; type: 'file' | 'directory' }[] | undefined {
    const place = Buffer.from(`${this.root}${directory}/`, 'latin1');
    try {
      const entries = readdirSync(place, { encoding: 'latin1', withFileTypes: true });
      return entries.flatMap((entry) => {
        const { name } = entry;
        const isClear = entry.isDirectory() || entry.isFile() || entry.isSymbolicLink(); // some file systems do not tell types here
        const found = isClear ? entry : look(Buffer.concat([place, Buffer.from(name, 'latin1')]));
        return found ? [{ name, type: found.isDirectory() ? 'directory' : 'file' }] : [];
      });
    } catch (cause) {
      return GONE.includes((cause as NodeJS.ErrnoException).code ?? '') ? [] : undefined;
    }
  }
}
