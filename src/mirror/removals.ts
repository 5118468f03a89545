/**
 * Has the backup delete by name what is gone, so that rsync need not compare all that lies beside it. What is not sure to be what rsync
 * would delete is left to rsync.
 *
 *   const removals = new Removals({ host, source, mounts, state, errands, brake, transfers });
 *   const rest = await removals.remove(batch, scopes); // what is left for rsync to look at
 */
import { closeSync, constants, fstatSync, lstatSync, openSync } from 'node:fs';
import { Readable } from 'node:stream';
import { isWithin, O_PATH, parentOf } from '../service/files.ts';
import type { Brake } from './brake.ts';
import type { Batch, Change } from './changes.ts';
import type { Host } from './config.ts';
import { type Errands, MAX_ORDERS } from './errands.ts';
import { Hollows } from './hollows.ts';
import type { Mounts } from './mounts.ts';
import { passOn } from './rsync.ts';
import { NO_NAME, type Scope, type Scopes } from './scopes.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import type { Transfers } from './transfers.ts';

/** Bytes that rsync writes as numbers. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\x00-\x1f\x7f]/g;
const writeByte = (byte: string) => `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`;

/** What was deleted in the source, as far as events say it. */
export interface Gone {
  path: string;
  isDirectory: boolean;
  /** Whether it is there, but without any file below it. */
  isHollow?: boolean;
}

interface Parts {
  host: Pick<Host, 'plan'>;
  source: Pick<Source, 'directory' | 'prefix' | 'is' | 'check'>;
  mounts: Pick<Mounts, 'isKept' | 'mounted' | 'refresh'>;
  state: Pick<TargetState, 'name' | 'unmirrored' | 'voice'>;
  errands: Pick<Errands, 'isReady' | 'ask'>;
  brake: Pick<Brake, 'isHolding' | 'limit' | 'noteRemoved'>;
  transfers: Pick<Transfers, 'noteRemoved'>;
}

export class Removals {
  constructor(private readonly parts: Parts) {}

  /**
   * Has the backup delete what can be deleted by name of a batch that was weighed.
   * @param scopes what rsync would have to look at
   * @returns what is left for it
   * @throws {Failure} where the source is not what it was
   */
  async remove(batch: Batch, scopes: Scopes): Promise<Scopes> {
    const { errands, brake, transfers, source } = this.parts;
    const gone = this.choose(batch, scopes);
    if (gone.length === 0) return scopes;
    const orders = gone.map(({ path, isDirectory }) => `${isDirectory ? 'd' : 'f'}${source.prefix.slice(1)}${path}`);
    const answer = await errands.ask(orders, brake.limit);
    const count = answer?.removed ?? gone.length; // without an answer, it may have done all
    brake.noteRemoved(count);
    transfers.noteRemoved(count);
    source.check(); // the backup may have taken long
    if (!answer) return scopes;
    const done = gone.filter((_, number) => !answer.left.has(number));
    this.tell(gone.filter((_, number) => !answer.left.has(number) && !answer.absent.has(number)));
    return withoutRemoved(scopes, done);
  }

  /** Says what will be left for rsync if the backup does all that it can be asked for now. */
  foresee(batch: Batch, scopes: Scopes): Scopes {
    return withoutRemoved(scopes, this.choose(batch, scopes));
  }

  /** Chooses what the backup is asked to delete, if it can be asked now. */
  private choose(batch: Batch, scopes: Scopes): Gone[] {
    const { errands, brake } = this.parts;
    if (brake.isHolding || !errands.isReady) return [];
    const gone = this.find(batch, scopes);
    return gone.length > MAX_ORDERS ? [] : gone;
  }

  /** Says the same as rsync where its options have it say what it deletes. */
  private tell(removed: Gone[]): void {
    const { host, source, state } = this.parts;
    const { deletionWord } = host.plan;
    if (deletionWord === undefined || removed.length === 0) return;
    const nameOf = ({ path, isDirectory }: Gone) => `${source.prefix.slice(1)}${path}${isDirectory ? '/' : ''}`;
    const lines = removed.map((it) => `${deletionWord}${nameOf(it).replace(CONTROL, writeByte)}\n`);
    passOn(Readable.from([Buffer.from(lines.join(''), 'latin1')]), state.name, undefined, state.voice.lines());
  }

  /** Finds those that rsync would delete, whatever rules there are: nothing but what the source lacks at this moment. */
  find(batch: Batch, scopes: Scopes): Gone[] {
    const { host, mounts } = this.parts;
    const { plan } = host;
    if (!plan.mayRemove || (plan.hasFilters && !plan.filters)) return [];
    mounts.refresh();
    const gone = [...scopes].flatMap(([path, scope]) => this.nameGone(path, scope, batch.get(path), scopes));
    return gone.length === 0 ? [] : this.keepLacking(gone);
  }

  /** Says what has gone at a path, where an event has told that and nothing keeps its copy. */
  private nameGone(path: string, scope: Scope, change: Change | undefined, scopes: Scopes): Gone[] {
    const isHollow = scope === 'hollow';
    if (!isHollow && (scope !== 'gone' || !isDeletion(change))) return [];
    const parent = parentOf(path);
    const around = scopes.get(parent);
    if (around === 'tree' || around === 'inside') return []; // all that is in it is compared anyway
    if (parent === '' && this.parts.source.prefix !== '/') return []; // no name stands for the source without what is in it
    const isDirectory = isHollow || change?.isDirectory === true;
    return this.mayRemove(path, isDirectory) ? [{ path, isDirectory, ...(isHollow && { isHollow }) }] : [];
  }

  private mayRemove(path: string, isDirectory: boolean): boolean {
    const { mounts, state, host, source } = this.parts;
    if (mounts.isKept(path) || mounts.mounted.some((it) => isWithin(path, it) || isWithin(it, path))) return false;
    if (isDirectory && state.unmirrored.rules('/').length > 0) return false; // some of it may be left out
    return host.plan.filters?.leavesAlone(source.prefix.slice(1) + path, isDirectory) !== false;
  }

  /** Looks once more for each in what is the source for certain, whatever is mounted in its place. */
  private keepLacking(gone: Gone[]): Gone[] {
    const { source } = this.parts;
    let place: number | undefined;
    try {
      place = openSync(source.directory, O_PATH | constants.O_DIRECTORY);
      if (!source.is(fstatSync(place, { bigint: true }))) return [];
      const root = `/proc/self/fd/${place}/`;
      const hollows = new Hollows(root, { prefix: source.prefix, filters: this.parts.host.plan.filters });
      const isHollow = (path: string) => hollows.fillingOf(path) === 'hollow';
      return gone.filter((it) => (it.isHollow ? isHollow(it.path) : isLacking(Buffer.from(root + it.path, 'latin1'))));
    } catch {
      return []; // rsync will say why
    } finally {
      if (place !== undefined) closeSync(place);
    }
  }
}

/** Whether an event has told that something has gone, of which all is known. */
const isDeletion = (change: Change | undefined) =>
  change?.tree === false && (change.kind === 'delete' || change.kind === 'moved_from');

/** Whether nothing is there; not that it cannot be seen what is. */
function isLacking(path: Buffer): boolean {
  try {
    lstatSync(path);
    return false;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

/** Leaves of what rsync has to look at what is left once things were deleted: the time of the directory that they were in is another one. */
export function withoutRemoved(scopes: Scopes, removed: readonly Gone[]): Scopes {
  const rest = new Map(scopes);
  for (const { path, isHollow } of removed) {
    const parent = parentOf(path);
    rest.delete(path);
    if (parent === '')
      rest.set(isHollow ? NO_NAME : path, 'entry'); // any name there, even of nothing, has rsync mirror the source itself, too
    else if (!rest.has(parent)) rest.set(parent, 'directory');
  }
  return rest;
}
