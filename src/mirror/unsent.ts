/**
 * Which names a target was surely never sent, so that nothing is to be done about them once they are gone. A name that comes into being
 * was not there before, as the kernel tells it; the target may have it nevertheless, where something is left on it that the source does
 * not have any more, or where a sync has seen it before its event was told. So none is trusted while the target may hold more than the
 * source, while anything about it is on its way, and after a sync until a marker says that all has been told that it may have seen.
 *
 *   unsent.name(batch, waiting);           // a sync of these
 *   unsent.cover();                       // it looks at whole directories, and not only at what events have named
 *   unsent.end(outcome, true);             // it has ended, and the target holds nothing more than the source
 *   const born = unsent.now('a', lacking); // a file comes into being
 *   unsent.isUnsent({ ...change, born });  // it is gone again, and was never sent
 */
import { parentOf, withParents } from '../service/files.ts';
import type { Batch, Change } from './changes.ts';
import type { Event } from './events.ts';
import type { Plan } from './options.ts';
import { mayDelete, NO_NAME, type Scopes } from './scopes.ts';

/** How many of what was named to syncs are kept of which no marker has told that all is told; beyond, anything may have been sent. */
const MAX_RECENT = 16;

export class Unsent {
  /** Resolves once all has been told that has happened until now. */
  marker: () => Promise<void> = () => Promise.withResolvers<void>().promise;
  /** Counts the syncs that have looked at whole directories: what was new before one may have been sent by it. */
  private time = 1;
  /** Whether the target holds nothing but what the source has, as far as is known, and what it is known to lack. */
  private isCertain = false;
  /** Whether something may have been sent whose event is not told yet. */
  private isSeen = true;
  /** What was named to syncs that may have seen more of it than is told. */
  private readonly recent = new Set<{ has(path: string): boolean }>();

  /** Says what a sync names, before it looks at that. @param waiting what has been told since its batch was taken: it may see that, too */
  name(names: Batch | Scopes, waiting: Batch): void {
    this.recent.add(names);
    for (const path of names.keys()) {
      const change = waiting.get(path);
      if (change) change.born = 0;
    }
  }

  /** Says that it is about to look at whole directories. */
  cover(): void {
    this.time++;
    this.isSeen = true;
  }

  /**
   * Says that a sync has ended. @param holdsNoMore whether all was done that was to be, deletions above all
   */
  end({ mode, kind }: { mode: 'full' | 'incremental'; kind: string }, holdsNoMore: boolean): void {
    if (kind === 'done' && mode === 'full') this.isCertain = holdsNoMore;
    else if (!holdsNoMore || (kind !== 'done' && kind !== 'unreachable')) this.isCertain = false; // the latter is sent again
    const named = [...this.recent];
    if (named.length > MAX_RECENT) this.cover();
    const { time } = this;
    if (named.length > MAX_RECENT) this.forget(named);
    const settle = () => {
      this.forget(named);
      if (this.time === time) this.isSeen = false;
    };
    void this.marker().then(settle, () => {}); // at a stop, nothing is asked any more
  }

  private forget(named: { has(path: string): boolean }[]): void {
    for (const names of named) this.recent.delete(names);
  }

  /** Says that the target may hold anything, until all is compared. */
  doubt(): void {
    this.isCertain = false;
  }

  /** Says for something that comes into being when that is, so that it can be told later whether it was sent; 0 where it may have been. */
  now(path: string, lacking: Batch[]): number {
    if (!this.isCertain || this.isSeen) return 0;
    if ([...this.recent].some((names) => names.has(path))) return 0;
    const isLacking = withParents(path).some((it) => lacking.some((batch) => batch.has(it)));
    return isLacking ? 0 : this.time;
  }

  /** Finds when what an event is about came into being, if it was surely not sent since. @param known what waits of it already */
  bornAt(path: string, { kind }: Pick<Event, 'kind'>, known: Change | undefined, lacking: Batch[]): number {
    if (kind === 'moved_to') return 0; // the target may have what was moved, and what that has replaced
    if (known) return known.born;
    return kind === 'create' ? this.now(path, lacking) : 0;
  }

  /** Whether something has gone that the target was never sent. */
  isUnsent(change: Change | undefined): boolean {
    const isGone = change?.kind === 'delete' || change?.kind === 'moved_from';
    return isGone && this.isCertain && change.born === this.time;
  }
}

/** What rules and limits there are for deletions, and where the source is. */
interface Given {
  plan: Pick<Plan, 'deletes' | 'maxDelete' | 'hasFilters' | 'filters' | 'backupDirectory'>;
  /** What stands before a path of the source where rsync starts. */
  prefix: string;
}

/**
 * Leaves out of a batch, and of what rsync has to look at for it, what has gone and was never sent. The time of the directory that it was
 * in is another one all the same.
 */
export function leaveOut(
  unsent: Unsent,
  { plan, prefix }: Given,
  batch: Batch,
  scopes: Scopes,
): { scopes: Scopes; batch: Batch } {
  const mayBeKept = plan.deletes && (plan.maxDelete < Number.POSITIVE_INFINITY || plan.backupDirectory !== undefined);
  const isPlain = (path: string, isDirectory: boolean) =>
    !plan.hasFilters || plan.filters?.leavesAlone(prefix.slice(1) + path, isDirectory) === true;
  const out = new Set<string>();
  for (const [path, scope] of scopes) {
    const change = batch.get(path);
    if (scope !== 'gone' || mayBeKept || !unsent.isUnsent(change)) continue;
    const isNameable = path.includes('/') || prefix === '/'; // no name stands for the source without what is in it
    if (isNameable && isPlain(path, change?.isDirectory === true)) out.add(path);
  }
  const isTime = prefix === '/' && scopes.get('') === 'directory' && batch.get('')?.kind === undefined;
  if (out.size === 0 && !isTime) return { scopes, batch };
  const rest = new Map(scopes);
  if (isTime && rest.delete('')) rest.set(NO_NAME, 'entry'); // what is in the source itself need not be listed for that
  for (const path of out) {
    const parent = parentOf(path);
    rest.delete(path);
    if (parent === '') rest.set(NO_NAME, 'entry');
    else if (!rest.has(parent)) rest.set(parent, 'directory');
  }
  // What has changed in a directory that was renamed may be told under its old name.
  const isOut = (path: string, { dated }: Change) =>
    out.has(path) || (dated === 0 && withParents(path).some((it) => out.has(it)));
  return { scopes: rest, batch: new Map([...batch].filter(([path, change]) => !isOut(path, change))) };
}

/** Whether an rsync looks at whole directories, and so may see what no event has named yet. */
export const looksAround = (scopes: Scopes) => scopes.has('') || mayDelete(scopes);
