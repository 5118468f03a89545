/**
 * The source directory: whether it is what it was at the start, and what rsync has to look at in it for a batch.
 * Paths in it are relative to it, as bytes in latin1 strings.
 *
 *   const source = new Source('/data/source/');
 *   source.check();
 *   const scopes = await source.survey(batch, { isHidden: (path) => mounts.isHidden(path) });
 */
import type { ChildProcess } from 'node:child_process';
import {
  accessSync,
  type BigIntStats,
  constants,
  existsSync,
  lstatSync,
  readdirSync,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import { parentOf } from '../service/files.ts';
import { run } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { type Batch, type Change, MAX_PENDING, UNKNOWN } from './changes.ts';
import type { FilterRules } from './filter-rules.ts';
import { Hollows } from './hollows.ts';
import { identityOf } from './moves.ts';
import type { Scope, Scopes } from './scopes.ts';

/** What a new file system holds. */
export const LOST_AND_FOUND = 'lost+found';
/** Errors that say why something is not seen, and not that its disk fails. */
const EXPLAINED = ['EACCES', 'EPERM', 'ELOOP', 'ENAMETOOLONG'];
/** How long a path may be, bytes (PATH_MAX, with the NUL behind it): others can go deeper, step by step. */
export const MAX_PATH = 4095;

/** How late an event may be told, ms. */
const LATE_MS = 5000;

/** What rsync sees of the source. */
export interface Sight {
  /** Whether a path is to be left out with all below it. */
  isHidden?: (path: string) => boolean;
  filters?: FilterRules | undefined;
  /** Whether it does not look into what is mounted. */
  isOneFileSystem?: boolean;
  /** Whether it leaves out directories without any file below them. */
  prunes?: boolean;
}

/** The part of a path, from the root down, that rsync has to look at, and what is there. */
export interface Reached {
  reached: string;
  found: Stats | undefined;
}

/** How long before a change is seen its directory may have changed with it, ms. */
const SEEN_MS = 10_000;

/** Whether a change may have changed the directory that it is in, and is not one of a file that has long been there. */
function mayTouch({ ctimeMs }: Stats, { kind, isDirectory, fresh, replaced, since }: Change): boolean {
  const isContent = (kind === 'modify' || kind === 'close_write') && !isDirectory && !fresh && !replaced;
  const seen = Date.now() - (performance.now() - since);
  return !isContent || since === 0 || ctimeMs > seen - SEEN_MS;
}

export class Source {
  /** What stands before every path that inotifywait prints. */
  readonly root: string;
  /** Where rsync starts, for names, and what stands before a path of the source there. */
  readonly base: string;
  readonly prefix: string;
  /** Whether it was what it was at the start when it was looked at last. */
  isFound = true;
  /** Why nothing may be mirrored from it although it is there, for people. */
  refusal: string | undefined;
  /** Since when no file has had several names, ms on the clock of `performance.now()`; infinity where there may be some. */
  private singleSince = Number.POSITIVE_INFINITY;
  /** Whether one was seen that has. */
  private hasLinks = false;
  private identity = '';
  /** Where it really was when it was taken for the source, as bytes in a latin1 string. */
  private real = '';

  constructor(readonly directory: string) {
    const bytes = Buffer.from(directory).toString('latin1');
    const isContents = directory.endsWith('/');
    this.root = isContents ? bytes : `${bytes}/`;
    this.base = isContents ? directory : dirname(directory);
    this.prefix = isContents ? '/' : `/${basename(bytes)}/`;
    this.adopt();
  }

  /** Takes the directory that is there now for the source. */
  adopt(): void {
    this.identity = this.identify();
    this.real = Buffer.from(realpathSync.native(this.directory)).toString('latin1');
    this.isFound = true;
    this.refusal = undefined;
  }

  /** Where it really is, as bytes in a latin1 string. */
  get realRoot(): string {
    return this.real;
  }

  /** Whether a directory with these is the source. */
  is(found: Pick<BigIntStats, 'dev' | 'ino'>): boolean {
    return identityOf(found) === this.identity;
  }

  /**
   * Looks for files with several names. Where that is not possible, there may be some; but of those that lie in a directory that
   * may not be entered, nothing is mirrored, and one that has a name elsewhere, too, is found by that. That there are none says
   * nothing of what has changed until then: one may have lost its other names before it was looked at.
   */
  async findLinks(): Promise<void> {
    const { stdout, stderr, exitCode } = await run`find ${`${this.directory}/`} -type f -links +1 -print -quit`;
    const isForbidden = exitCode === 1 && /^(find: .*: Permission denied\n)+$/.test(stderr);
    this.hasLinks ||= (exitCode !== 0 && !isForbidden) || stdout !== '';
    if (!this.hasLinks) this.singleSince = performance.now() + LATE_MS;
  }

  /** Whether a file may have had several names when something changed. */
  private mayHaveLinks({ since, at }: Change): boolean {
    return this.hasLinks || (since || at) < this.singleSince;
  }

  private identify(path = this.directory): string {
    return identityOf(statSync(path, { bigint: true }));
  }

  /** Whether a process that was started in the source is there: it stays, whatever is mounted in its place. */
  holds({ pid }: ChildProcess): boolean {
    try {
      return this.identify(`/proc/${pid}/cwd`) === this.identity;
    } catch {
      return true; // it has ended
    }
  }

  /** Looks whether the source is there: what a volume leaves behind that is not mounted must not be taken for it. @throws {Failure} */
  check(): void {
    if (this.refusal) throw new Failure(this.refusal);
    try {
      this.isFound = this.identify() === this.identity;
    } catch {
      this.isFound = false;
    }
    if (!this.isFound) this.refuse();
  }

  /** Says what has become of it. */
  describeLoss(): string {
    const what = t`源目录 ${escapeText(this.directory)} ${existsSync(this.directory) ? t`已不是启动时的目录` : t`不见了`}`;
    return t`${what}，为保护备份拒绝同步。请检查挂载；若是有意更换，请重启服务`;
  }

  /** Refuses to mirror. @throws {Failure} always */
  refuse(): never {
    this.isFound = false;
    touch();
    throw new Failure(this.describeLoss());
  }

  /** Whether there is nothing in it to mirror. @throws {Failure} where it is not what it was */
  isEmpty(): boolean {
    this.check();
    try {
      return readdirSync(this.directory).every((name) => name === LOST_AND_FOUND);
    } catch (cause) {
      throw new Failure(t`无法读取源目录 ${escapeText(this.directory)}：${reasonOf(cause)}。请检查它的权限和磁盘`);
    }
  }

  /** Finds what is at a path: nothing where there is nothing or it cannot be seen. */
  readonly look = (path: string): Stats | undefined => {
    try {
      const found = lstatSync(Buffer.from(this.root + path, 'latin1'), { throwIfNoEntry: false });
      if (found) this.hasOtherNames(found);
      return found;
    } catch {
      return undefined; // its directory may not be entered any more, for example
    }
  };

  /** Whether nobody can say what is at a path, for its disk fails: not that nothing is there, nor that it may not be seen. */
  readonly isUnknown = (path: string): boolean => {
    try {
      lstatSync(Buffer.from(this.root + path, 'latin1'), { throwIfNoEntry: false });
      return false;
    } catch (cause) {
      return !EXPLAINED.includes((cause as NodeJS.ErrnoException).code ?? '');
    }
  };

  /** Lists what is directly in a directory, nothing where that cannot be read. */
  readonly list = (path: string) => {
    try {
      return readdirSync(Buffer.from(this.root + path, 'latin1'), { encoding: 'latin1', withFileTypes: true });
    } catch {
      return []; // it is gone again
    }
  };

  /** Whether a path can be read, and entered where it is a directory. */
  readonly isReadable = (path: string): boolean => {
    const mode = constants.R_OK | (this.look(path)?.isDirectory() ? constants.X_OK : 0);
    try {
      accessSync(Buffer.from(this.root + path, 'latin1'), mode);
      return true;
    } catch {
      return false;
    }
  };

  /**
   * Finds what rsync has to look at for a batch, or nothing where only the whole tree will do: a file with several names
   * changes under all of them, and one that is gone does not tell any more whether it had others.
   */
  async survey(batch: Batch, sight: Sight = {}): Promise<Scopes | undefined> {
    const scopes = new Map<string, Scope>();
    const breathe = breather();
    const hollows = sight.prunes ? new Hollows(this.root, { prefix: this.prefix, ...sight }) : undefined;
    for (const [path, change] of batch) {
      await breathe();
      const there = sight.isHidden?.(path) ? undefined : this.normalise(path, sight);
      if (!there) continue;
      const shown = this.shownOf(there, change, sight);
      if (this.mayBeElsewhere(there.found, change, shown?.reached === there.reached)) return undefined;
      if (!shown) continue;
      const { reached, found } = shown;
      const { tree } = change;
      const isFile = found && !found.isDirectory(); // or what lies above it may count as empty
      const hollow = isFile ? undefined : hollows?.topmost(found ? reached : parentOf(reached));
      if (hollow === '') return undefined;
      if (hollow) scopes.set(hollow, 'hollow');
      else if (tree && found?.isDirectory() && reached === path && this.isEntered(found, sight)) {
        if (!(await this.surveyTree(path, scopes, sight, breathe))) return undefined;
      } else if (!scopes.has(reached)) {
        scopes.set(reached, !found ? 'gone' : found.isDirectory() ? 'directory' : 'entry');
      }
      if (scopes.size > MAX_PENDING) return undefined;
    }
    return scopes;
  }

  /**
   * Whether a change may be one of files elsewhere, too.
   * @param isSeen whether rsync sees what is there; otherwise what counts is that its content has changed, and not how many names it has
   */
  private mayBeElsewhere(found: Stats | undefined, change: Change, isSeen: boolean): boolean {
    const { shared, tree, hidden } = change;
    if ((hidden || (!found && (shared || tree))) && this.mayHaveLinks(change)) return true;
    return found !== undefined && (isSeen || shared) && this.hasOtherNames(found);
  }

  private hasOtherNames(found: Stats): boolean {
    const several = found.isFile() && found.nlink > 1;
    this.hasLinks ||= several;
    return several;
  }

  /** Whether rsync looks into a directory. */
  isEntered({ dev }: Stats, { isOneFileSystem }: Sight): boolean {
    return !isOneFileSystem || dev === this.look('')?.dev;
  }

  /** Finds the part of a path that rsync has to look at; nothing where it does not see it. */
  reach(path: string, sight: Sight): Reached | undefined {
    const there = sight.isHidden?.(path) ? undefined : this.normalise(path, sight);
    const shown = there && this.shownOf(there, UNKNOWN, sight);
    return shown?.reached === there?.reached ? shown : undefined;
  }

  /** Finds what filters leave of what is there; nothing where that is nothing. */
  private shownOf(there: Reached, change: Change, { filters }: Sight): Reached | undefined {
    const { reached, found } = there;
    const name = (this.prefix.slice(1) + reached).replace(/\/$/, '');
    if (!filters || !name) return there;
    const way = filters.wayTo(name, found?.isDirectory());
    if (way === 'itself') return there;
    if (!way || !reached) return undefined; // the source itself may be left out
    if (way === 'gone') return { reached, found: undefined };
    const around = parentOf(reached);
    const directory = this.look(around);
    return directory && mayTouch(directory, change) ? { reached: around, found: directory } : undefined;
  }

  /** Finds the part of a path that is there, from the root down: to the first component that is missing or is no directory. */
  private normalise(path: string, sight: Sight): Reached | undefined {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
      const reached = path.slice(0, end);
      const found = this.look(reached);
      if (!found?.isDirectory()) return { reached, found };
      if (!this.isEntered(found, sight)) return undefined;
    }
    return { reached: path, found: this.look(path) };
  }

  /** Adds every directory of a subtree; resolves with whether a list can do it justice. */
  private async surveyTree(
    top: string,
    scopes: Map<string, Scope>,
    sight: Sight,
    breathe: () => Promise<void>,
  ): Promise<boolean> {
    if (scopes.get(top) === 'tree' || scopes.get(top) === 'inside') return true; // below another one
    scopes.set(top, 'tree');
    for (const rest = [top]; rest.length > 0 && scopes.size <= MAX_PENDING; ) {
      await breathe();
      const directory = rest.pop() ?? '';
      for (const entry of this.list(directory)) {
        const path = `${directory}/${entry.name}`;
        if (sight.isHidden?.(path) || this.root.length + path.length > MAX_PATH) continue; // rsync cannot name it either
        const isKnown = entry.isDirectory() && !sight.isOneFileSystem;
        const found = isKnown ? entry : this.look(path); // some file systems do not tell types here
        if (found?.isDirectory()) {
          if (sight.filters?.isHidden(this.prefix.slice(1) + path, true)) continue;
          if (found !== entry && !this.isEntered(found as Stats, sight)) continue;
          rest.push(path);
          scopes.set(path, 'inside');
        } else if (found && this.hasOtherNames(found as Stats)) {
          return false;
        }
      }
    }
    return true;
  }
}

/** Gives way to events every few milliseconds of long work: inotifywait must never wait for us, or the kernel's queue overflows. */
export function breather(): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < 10) return;
    await immediate();
    since = performance.now();
  };
}
