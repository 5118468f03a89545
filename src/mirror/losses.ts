/**
 * What a target would lose by a sync: what rsync would delete there, but for what was only moved within the source.
 *
 *   const { status, tally } = await losses.count(question, scopes, ({ tally }) => tally.count > 1000);
 */
import type { Stats } from 'node:fs';
import { lifecycle } from '../service/lifecycle.ts';
import { type Batch, type Change, TREE } from './changes.ts';
import { Search } from './departures.ts';
import type { Forecast, Question } from './forecast.ts';
import { hasRun } from './rsync.ts';
import type { Scope, Scopes } from './scopes.ts';
import { Tally } from './tally.ts';
import type { TargetState } from './target-state.ts';

/** How long a move may take to be told as a whole, ms. */
const CONFIRM_MS = 150;

/** What rsync would delete. */
export interface Count {
  /** Its exit status: it may not have been able to tell. */
  status: number;
  /** Whether it has told of all: what it has counted is the least, otherwise. */
  isWhole: boolean;
  tally: Tally;
  /** How many it would delete in one place that are in another one of the source. */
  moved: number;
  /** How many files the target holds. */
  present: number | undefined;
}

/** What is needed to count. */
interface Parts {
  forecast: Pick<Forecast, 'ask'>;
  look: (path: string) => Stats | undefined;
  /** Finds what a batch means in the source, but for what is hidden. */
  survey: (batch: Batch) => Promise<Scopes | undefined>;
  state: Pick<TargetState, 'changes' | 'departures'>;
}

export class Losses {
  constructor(private readonly parts: Parts) {}

  /**
   * Counts what would be lost, and where that is much, counts it again a little later: a move that was under way when rsync
   * looked is known by then.
   * @param batch what is known to have changed
   */
  async count(question: Question, batch: Batch, isMuch: (count: Count) => boolean): Promise<Count> {
    const count = await this.ask(question, []);
    if (!isMuch(count)) return count;
    await lifecycle.pause(CONFIRM_MS);
    const again = await this.ask(question, await this.findArrivals(batch));
    return again.isWhole || !hasRun(again.status) ? again : count;
  }

  private async ask(question: Question, arrivals: string[]): Promise<Count> {
    const { forecast, look, state } = this.parts;
    const { departures } = state;
    const search = new Search(departures, arrivals, look);
    const tally = new Tally();
    let moved = 0;
    const answer = await forecast.ask(question, (path) => {
      const name = path.replace(/\/$/, '');
      if (departures.has(name, look) || search.finds(name)) moved++;
      else tally.add(path);
    });
    return { ...answer, tally, moved };
  }

  /** Finds the directories that are new and came nobody knows from where, those that wait for the next batch among them. */
  private async findArrivals(batch: Batch): Promise<string[]> {
    const { state, look, survey } = this.parts;
    const changes = [...batch, ...state.changes.waiting].filter(([path, change]) => path !== '' && isNew(change));
    const arrived = changes.filter(([path]) => look(path)?.isDirectory());
    const found = await survey(new Map(arrived.map(([path]) => [path, TREE])));
    const isTree = ([path, scope]: [string, Scope]) =>
      (scope === 'tree' || scope === 'inside') && !state.departures.isExplained(path);
    return [...(found ?? [])].filter(isTree).map(([path]) => path);
  }
}

/** Whether a change may be a directory that has come. */
const isNew = ({ kind, isDirectory, tree }: Change) =>
  tree || (isDirectory && kind !== 'delete' && kind !== 'moved_from');
