/**
 * What keeps inotifywait from watching a tree: one entry that it cannot look at (EIO, ENOTCONN, ENAMETOOLONG) has it give up all,
 * and one that goes while it looks has it pass over the directory without a word (inotifytools_watch_recursively). Such a
 * directory is watched by itself, without a look at what is in it, and what is in it by others.
 *
 *   const terrain = new Terrain('/data/source/', []);
 *   await terrain.explore(); // after inotifywait has given up
 *   await terrain.plan(); // { exclusions: ['a'], alone: ['a'], trees: ['a/b'] }
 */
import { lstatSync, readdirSync } from 'node:fs';
import { isDirectory, isWithin, parentOf } from '../service/files.ts';
import { breather } from './source.ts';
import { CROWDED } from './unwatched.ts';

/** How many obstacles inotifywait is told at most, and how long their paths may be together, bytes: it gets them as arguments. */
const MAX_OBSTACLES = 300;
const MAX_BYTES = 250_000;
/** How long something is taken for an obstacle that cannot be looked at again by itself, ms. */
const LASTING_MS = 600_000;
/** How deep inotifywait goes where only so many files may be open, directories: it keeps one open for each. */
const MAX_DEPTH = 900;
/** Errors with which inotifywait goes on. */
const HARMLESS = ['EACCES', 'ENOENT', 'ELOOP', 'ENOTDIR'];

interface Obstacle {
  /** What in it cannot be looked at, itself where it cannot be read, with the errors of the system. */
  faults: Map<string, string>;
  /** Whether it can be watched by itself. */
  isReadable: boolean;
  /** The directories in it. */
  directories: string[];
  /** Until when it is one without another look, ms on the clock of `performance.now()`. */
  until: number;
}

/** What inotifywait is to watch in place of all of the source; paths in it, as bytes in latin1 strings. */
export interface WatchPlan {
  /** What it must not enter. */
  exclusions: string[];
  /** What is watched by itself. */
  alone: string[];
  /** What is watched with all that is in it. */
  trees: string[];
}

export class Terrain {
  private obstacles = new Map<string, Obstacle>();
  private maxDepth = Number.POSITIVE_INFINITY;

  /**
   * @param root what stands before each path
   * @param excluded directories that are not watched, with all that is in them
   */
  constructor(
    private readonly root: string,
    readonly excluded: readonly string[],
  ) {}

  /** Whether a path is not to be watched. */
  isExcluded(path: string): boolean {
    return this.excluded.some((it) => isWithin(path, it));
  }

  /** What cannot be watched, with the errors of the system. */
  get faults(): Map<string, string> {
    return new Map([...this.obstacles.values()].flatMap(({ faults }) => [...faults]));
  }

  /** Says what is to be watched; nothing where there is no obstacle any more, so that it is all of the source. */
  async plan(): Promise<WatchPlan | undefined> {
    const breathe = breather();
    for (const [path, known] of this.obstacles) {
      await breathe();
      const now = this.lookAgain(path, known);
      if (now) this.obstacles.set(path, now);
      else this.obstacles.delete(path);
    }
    if (this.obstacles.size === 0) return undefined;
    const all = [...this.obstacles];
    const readable = all.filter(([, { isReadable }]) => isReadable);
    const trees = readable.flatMap(([, { directories }]) => directories).filter((it) => !this.obstacles.has(it));
    return {
      exclusions: all.map(([path]) => path).filter((path) => path !== ''),
      alone: readable.map(([path]) => path),
      trees: this.obstacles.has('') ? trees : ['', ...trees],
    };
  }

  /** Looks whether an obstacle still is one. */
  private lookAgain(path: string, known: Obstacle): Obstacle | undefined {
    if (!isDirectory(this.root + path)) return undefined;
    const { obstacle, directories } = this.examine(path);
    if (obstacle) return { ...obstacle, until: known.until };
    return known.until > performance.now() ? { ...known, directories: known.isReadable ? directories : [] } : undefined;
  }

  /** Keeps inotifywait from looking at what is in a directory for some time: there is too much coming and going. */
  calm(path: string): void {
    if (this.obstacles.size >= MAX_OBSTACLES || this.obstacles.has(path)) return;
    const { directories } = this.examine(path);
    this.obstacles.set(path, { faults: new Map(), isReadable: true, directories, until: later() });
  }

  /** Keeps it from going deeper than files may be open at a time. */
  limitDepth(): void {
    this.maxDepth = MAX_DEPTH;
  }

  /** Walks all of the source and finds the obstacles; resolves with whether they are others than before. */
  async explore(): Promise<boolean> {
    const before = this.signature;
    const found = new Map([...this.obstacles].filter(([, { until }]) => until > performance.now()));
    for await (const [path, obstacle] of this.walk()) if (obstacle && !found.has(path)) found.set(path, obstacle);
    this.obstacles = found;
    this.gather();
    return this.signature !== before;
  }

  private get signature(): string {
    return JSON.stringify([...this.obstacles.keys()].sort());
  }

  /** Walks all of the source; each directory comes with what is in the way there. */
  async *walk(): AsyncGenerator<[path: string, obstacle: Obstacle | undefined]> {
    const breathe = breather();
    for (const rest: [string, number][] = [['', 0]]; rest.length > 0; ) {
      await breathe();
      const [path, depth] = rest.pop() as [string, number];
      const { obstacle, directories } = this.examine(path);
      const isTooDeep = depth >= this.maxDepth;
      yield [path, isTooDeep ? { ...leftOut(path, 'EMFILE'), until: later() } : obstacle];
      if (!isTooDeep) for (const directory of directories) rest.push([directory, depth + 1]);
    }
  }

  /** Looks at a directory as inotifywait does. */
  private examine(path: string): { obstacle?: Obstacle | undefined; directories: string[] } {
    const faults = new Map<string, string>();
    const directories: string[] = [];
    let names: string[];
    try {
      names = readdirSync(Buffer.from(`${this.root}${path}/`, 'latin1'), { encoding: 'latin1' });
    } catch (cause) {
      const code = codeOf(cause);
      return { obstacle: HARMLESS.includes(code) ? undefined : leftOut(path, code), directories };
    }
    for (const name of names) {
      const entry = path === '' ? name : `${path}/${name}`;
      try {
        const found = lstatSync(Buffer.from(this.root + entry, 'latin1'), { throwIfNoEntry: false });
        if (found?.isDirectory() && !this.isExcluded(entry)) directories.push(entry);
      } catch (cause) {
        if (!HARMLESS.includes(codeOf(cause))) faults.set(entry, codeOf(cause));
      }
    }
    return faults.size > 0
      ? { obstacle: { faults, isReadable: true, directories, until: 0 }, directories }
      : { directories };
  }

  /** Leaves out more as a whole where there are too many obstacles to be told one by one: what lies deepest first. */
  private gather(): void {
    const bytes = () => [...this.obstacles.keys()].reduce((sum, path) => sum + path.length, 0);
    while (this.obstacles.size > MAX_OBSTACLES || bytes() > MAX_BYTES) {
      const depth = Math.max(...[...this.obstacles.keys()].map(depthOf));
      if (depth <= 1) return;
      const deepest = [...this.obstacles.keys()].filter((path) => depthOf(path) === depth);
      for (const path of deepest) this.obstacles.delete(path);
      for (const parent of new Set(deepest.map(parentOf)))
        this.obstacles.set(parent, { ...leftOut(parent, CROWDED), until: later() });
    }
  }
}

const later = () => performance.now() + LASTING_MS;

const depthOf = (path: string) => (path === '' ? 0 : path.split('/').length);

const codeOf = (cause: unknown) => (cause as NodeJS.ErrnoException).code ?? 'EIO';

/** An obstacle of which nothing is watched. */
const leftOut = (path: string, reason: string): Obstacle => ({
  ...{ faults: new Map([[path, reason]]), isReadable: false, directories: [], until: 0 },
});
