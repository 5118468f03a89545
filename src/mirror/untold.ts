/**
 * What has gone before an event has told that: the event is on its way. Taken for a thing that has long been gone, it would have a whole
 * directory compared for it, and be deleted on the backup where it was merely renamed. So it goes with the next batch.
 *
 *   const untold = new Untold(state);
 *   const isLess = await untold.putBack(batch, scopes); // that batch goes without it
 */
import { withParents } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import type { Batch, Change } from './changes.ts';
import type { Scopes } from './scopes.ts';
import type { TargetState } from './target-state.ts';

/** How long an event is waited for at most, ms: where one was missed, it never comes. */
const LATE_MS = 100;

const isGone = (change: Change | undefined) => change?.kind === 'delete' || change?.kind === 'moved_from';

export class Untold {
  /** What was put back last: something comes and goes there, which must not put it off for ever. */
  private last: ReadonlySet<string> = new Set();

  constructor(private readonly state: Pick<TargetState, 'changes' | 'unsent' | 'failingSince' | 'unmirrored' | 'up'>) {}

  /**
   * Has what is gone, and was told to be only after the batch was taken, wait for the next one. Nothing waits of what is tried again.
   * @param scopes what was found for the batch
   * @returns whether anything does
   */
  async putBack(batch: Batch, scopes: Scopes): Promise<boolean> {
    const { changes, unsent, failingSince, unmirrored, up } = this.state;
    const { last } = this;
    this.last = new Set();
    const isUntold = (path: string) => scopes.get(path) === 'gone' && !isGone(batch.get(path)) && !last.has(path);
    const gone = [...scopes.keys()].filter(isUntold);
    if (gone.length === 0 || !up || failingSince !== undefined || unmirrored.size > 0) return false;
    const isTold = (path: string) => isGone(changes.waiting.get(path));
    if (!gone.every(isTold)) await Promise.race([unsent.marker().catch(() => {}), lifecycle.pause(LATE_MS)]); // at a stop, none comes
    const late = new Set(gone.filter(isTold));
    if (late.size === 0) return false;
    const back: Batch = new Map([...batch].filter(([path]) => withParents(path).some((it) => late.has(it))));
    for (const path of back.keys()) batch.delete(path);
    changes.restore(back);
    this.last = late;
    return true;
  }
}
