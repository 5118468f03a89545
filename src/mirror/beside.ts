/**
 * Has large files go beside all else, so that they hold nothing up: a line that is slow takes long for one. While some are on their way,
 * what changes elsewhere is sent as ever, and what might touch them waits. That a large file has got there says only that nothing is
 * left to be sent: it counts as mirrored once an ordinary sync has looked at it.
 *
 *   const batch = beside.split(changes.take(patience)); // what is to be sent now
 *   await beside.clear(scopes);                         // an rsync may look at these
 */
import { parentOf, withParents } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { Failure, t } from '../service/text.ts';
import type { Batch } from './changes.ts';
import { type LargeFiles, MAX_LOOKS } from './large-files.ts';
import { addTotals, hasRun, NOTHING, type Outcome, type Totals } from './rsync.ts';
import type { Scopes } from './scopes.ts';
import type { Reached } from './source.ts';
import type { TargetState } from './target-state.ts';

/** How many files go at a time; those beyond go next. */
const MAX_FILES = 16;
/** How long none is sent beside others after that has failed, ms: there may be no room for another connection. */
const REST_MS = 300_000;

/** Some files, and what lies around them. */
export class Zone {
  private readonly paths: Set<string>;
  /** They themselves and all directories in which they lie. */
  private readonly way: Set<string>;

  constructor(paths: Iterable<string>) {
    this.paths = new Set(paths);
    this.way = new Set(['', ...[...this.paths].flatMap(withParents)]);
  }

  /** Whether a path is one of them, or a directory in which one lies. */
  leadsThere(path: string): boolean {
    return this.paths.size > 0 && this.way.has(path);
  }

  /** Whether a path is one of them, or lies below one. */
  isThere(path: string): boolean {
    return withParents(path).some((it) => this.paths.has(it));
  }

  touches(path: string): boolean {
    return this.leadsThere(path) || this.isThere(path);
  }

  /** Whether an rsync that looks at these might look at one of them, too. Attributes of directories above them are set by any. */
  meets(scopes: Scopes): boolean {
    return [...scopes].some(([path, scope]) => {
      if (scope === 'directory') return this.isThere(path);
      return this.touches(path) || (scope === 'gone' && this.leadsThere(parentOf(path)));
    });
  }
}

/** What has come of files that were sent beside all else. */
export interface Carried {
  /** The exit status of rsync, nothing where it was not let run. */
  status: number | undefined;
  totals: Totals;
}

interface Parts {
  state: Pick<
    TargetState,
    'changes' | 'moves' | 'beside' | 'withheld' | 'beginBeside' | 'endBeside' | 'withhold' | 'log' | 'warn' | 'voice'
  >;
  large: Pick<LargeFiles, 'find' | 'note'>;
  /** Finds what there is of a path, from the root down. */
  reach: (path: string) => Reached | undefined;
  /** Sends files, deletes nothing. */
  carry: (paths: string[]) => Promise<Carried>;
}

export class Beside {
  private zone = new Zone([]);
  /** Resolves once nothing is on its way any more. */
  private over: Promise<void> | undefined;
  /** Whether all went well the last time, and until when nothing is sent, ms on the clock of `performance.now()`. */
  private wentWell = true;
  private restsUntil = 0;
  /** The paths that are to be sent in the ordinary way first. */
  private readonly barred = new Set<string>();
  private totals = NOTHING;

  constructor(private readonly parts: Parts) {}

  /** Whether something is on its way. */
  get isBusy(): boolean {
    return this.over !== undefined;
  }

  /** Sends the large files of a batch on their way, if none are, and keeps back what might touch them; returns the rest. */
  split(batch: Batch): Batch {
    const large = new Map([...this.parts.large.find(batch)].filter(([path]) => !this.barred.has(path)));
    const lot = this.isBusy ? undefined : this.choose(batch, large);
    if (lot?.size === 0) return batch;
    if (lot) this.begin(lot);
    const waitsAll = batch.size > MAX_LOOKS || this.touchesMoves();
    const [rest, waiting]: [Batch, Batch] = [new Map(), new Map()];
    for (const [path, change] of batch) {
      if (lot?.has(path)) continue;
      const waits = waitsAll || large.has(path) || this.mayTouch(path);
      (waits ? waiting : rest).set(path, change);
    }
    this.parts.state.withhold(waiting);
    return rest;
  }

  /** Chooses those large files that nothing else of the batch may touch, nor a rename. */
  private choose(batch: Batch, large: Batch): Batch {
    const { moves: all } = this.parts.state;
    if (performance.now() < this.restsUntil || all.size > MAX_LOOKS) return new Map();
    const moves = [...all.values()].flatMap(({ from, to }) => [from, to]);
    const isAlone = (path: string) => {
      const zone = new Zone([path]);
      return (
        withParents(path).every((it) => it === path || !batch.has(it)) &&
        !batch.has('') &&
        !moves.some((it) => zone.touches(it))
      );
    };
    return new Map([...large].filter(([path]) => isAlone(path)).slice(0, MAX_FILES));
  }

  /** Whether what an rsync looks at for a change might be one of the files that are on their way. */
  private mayTouch(path: string): boolean {
    const { zone } = this;
    const { reached, found } = this.parts.reach(path) ?? { reached: path, found: undefined };
    return zone.touches(path) || zone.touches(reached) || (!found && zone.leadsThere(parentOf(reached)));
  }

  /** Whether a rename that waits is one of the files that are on their way, or of what lies around them. */
  touchesMoves(): boolean {
    return [...this.parts.state.moves.values()].some(
      ({ from, to }) => this.zone.touches(from) || this.zone.touches(to),
    );
  }

  private begin(lot: Batch): void {
    this.parts.state.beginBeside(lot);
    this.zone = new Zone(lot.keys());
    this.over = this.send(lot);
  }

  private async send(lot: Batch): Promise<void> {
    const { state, large, carry } = this.parts;
    const started = performance.now();
    if (state.voice.remarks('sync.beside'))
      state.log('sync.beside', t`大文件另行传输，其余变化照常同步`, { changes: lot.size });
    const { status, totals } = await carry([...lot.keys()]);
    const seconds = (performance.now() - started) / 1000;
    this.wentWell = status === 0;
    this.totals = addTotals(this.totals, totals);
    if (status !== undefined && hasRun(status)) large.note(lot, seconds);
    else this.restsUntil = performance.now() + REST_MS;
    const told = status === undefined ? '' : t` (退出码: ${status})`;
    if (!this.wentWell)
      state.warn('sync.beside_failed', t`大文件另行传输失败${told}，改为照常同步`, {
        exit_code: status ?? null,
        changes: lot.size,
      });
    this.settle(lot);
  }

  /** Has all that waited go on, and an ordinary sync look at what was sent, unless it has changed since and can be sent once more. */
  private settle(lot: Batch): void {
    const { state } = this.parts;
    const isAnew = (path: string) => this.wentWell && state.withheld.has(path);
    const rest: Batch = new Map([...lot].filter(([path]) => !isAnew(path)));
    for (const path of rest.keys()) this.barred.add(path);
    this.zone = new Zone([]);
    this.over = undefined;
    state.endBeside(rest);
  }

  /** Takes in how an ordinary sync went: what it has mirrored may go beside others again. */
  note(batch: Batch, { kind, seconds }: Pick<Outcome, 'kind' | 'seconds'>): void {
    if (kind !== 'done') return;
    if (batch.get('')?.tree) this.barred.clear();
    else this.parts.large.note(new Map([...batch].filter(([path]) => !this.barred.has(path))), seconds);
    for (const path of batch.keys()) this.barred.delete(path);
  }

  /** Resolves once nothing is on its way, with whether there is time to send more: not where a request to stop has cut it off. */
  async finish(): Promise<boolean> {
    if (!this.over) return true;
    await this.over;
    return this.wentWell || !lifecycle.stopping;
  }

  /** Resolves once an rsync may look at these, or at everything. @throws {Failure} where there is no time for it any more */
  async clear(scopes?: Scopes): Promise<void> {
    if (!this.over || (scopes && !this.zone.meets(scopes))) return;
    if (!(await this.finish())) throw new Failure(t`服务正在停止`);
  }

  /** Whether an rsync that looks at these has to wait. */
  isInTheWayOf(scopes: Scopes): boolean {
    return this.isBusy && this.zone.meets(scopes);
  }

  /** Hands out what was done that no sync has told of yet. */
  takeTotals(): Totals {
    const { files, bytes, created, deleted } = this.totals;
    this.totals = NOTHING;
    return { files, bytes, created, deleted };
  }
}
