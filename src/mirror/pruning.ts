/**
 * Whether names on a list can do a batch justice where directories without any file below them are left out: rsync makes them where it is
 * given names. What is on a list without all that is in it looks empty, so that a waiting rsync must not leave anything out itself.
 *
 *   const pruning = new Pruning({ host, source, state, removals, isHidden });
 *   if (await pruning.suits(batch, scopes)) send(scopes);
 */
import { parentOf } from '../service/files.ts';
import { type Batch, REGULAR } from './changes.ts';
import type { Host } from './config.ts';
import { Hollows } from './hollows.ts';
import type { Removals } from './removals.ts';
import type { Scopes } from './scopes.ts';
import { breather, type Source } from './source.ts';
import type { TargetState } from './target-state.ts';

/** How many changes there are at most where something has become empty: what that deletes is not weighed by itself. */
const MAX_CHANGES = 1000;

interface Parts {
  host: Pick<Host, 'plan'>;
  source: Pick<Source, 'root' | 'prefix'>;
  state: { changes: Pick<TargetState['changes'], 'add'> };
  removals: Pick<Removals, 'foresee'>;
  /** Whether rsync is not to see a path. */
  isHidden: (path: string) => boolean;
}

const hasHollow = (scopes: Scopes) => [...scopes.values()].includes('hollow');
const countGone = (scopes: Scopes) => [...scopes.values()].filter((it) => it === 'gone').length;

export class Pruning {
  /** How much of the batch that is under way is gone and left for rsync, as far as was foreseen. */
  private left = 0;

  constructor(private readonly parts: Parts) {}

  /** Whether nothing will be made that is to be left out, and what has become empty will be deleted by its name. */
  async suits(batch: Batch, scopes: Scopes): Promise<boolean> {
    const { host, source, removals, isHidden } = this.parts;
    if (!host.plan.prunes) return true;
    if (hasHollow(scopes) && batch.size > MAX_CHANGES) return false;
    const rest = removals.foresee(batch, scopes);
    if (hasHollow(rest)) return false;
    this.left = countGone(rest);
    const hollows = new Hollows(source.root, { prefix: source.prefix, filters: host.plan.filters, isHidden });
    const breathe = breather();
    const listed = [...rest].filter(([, scope]) => scope !== 'entry' && scope !== 'directory');
    for (const directory of new Set(listed.map(([path, scope]) => (scope === 'gone' ? parentOf(path) : path)))) {
      await breathe();
      if (hollows.mayHoldHollow(directory)) return false;
    }
    return true;
  }

  /** Has all compared soon where more is left than was foreseen. */
  check(rest: Scopes): void {
    if (!this.parts.host.plan.prunes) return;
    if (hasHollow(rest) || countGone(rest) > this.left) this.parts.state.changes.add(REGULAR);
  }
}
