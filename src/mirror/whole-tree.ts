/**
 * Compares the whole tree with a target, and tells how far that has come: by one rsync, or by two side by side.
 *
 *   const sent = await new WholeTree(parts).send();
 */
import { lifecycle } from '../service/lifecycle.ts';
import type { Host } from './config.ts';
import { type Division, divisionOf, isStillThere, mayDivide, rulesOfParts } from './parts.ts';
import { type Progress, SumOfProgress } from './progress.ts';
import { hasRun, NOTHING, outcomeOf, type Sent, tellingOf } from './rsync.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import type { Transfers } from './transfers.ts';

/** How often the log tells of the progress, ms. */
const PROGRESS_MS = 10_000;
/** How many deletions each of two rsyncs is let do where there is a limit for both, if no more of them are known of. */
const LIMIT_OF_BOTH = 1000;
/** By how much longer one of two may take than the other one before the tree is divided anew, and how long both take at least, ms. */
const UNEVEN = 1.4;
const WORTH_DIVIDING_MS = 500;

/** Whether all was mirrored, but for what has vanished on the way. */
const isGood = ({ status, isCut }: Sent) => outcomeOf(status) === 'done' && !isCut;

/** What came of one of two rsyncs. */
interface Part {
  sent: Sent;
  listed: number | undefined;
  /** Whether it may have deleted directories. */
  hasTakenAway: boolean;
  ms: number;
}

interface Parts {
  host: Host;
  source: Source;
  state: TargetState;
  transfers: Transfers;
  /** How many cores this machine has, if that is not to be asked. */
  cores?: number;
}

export class WholeTree {
  /** How the tree was divided last, if that was even. */
  private division: Division | undefined;

  constructor(private readonly parts: Parts) {}

  /** @throws {Failure} where the source is not what it was */
  async send(): Promise<Sent> {
    const { state } = this.parts;
    const telling = setInterval(() => state.logProgress(), PROGRESS_MS);
    try {
      const division = await this.divide();
      const sent = (division && (await this.sendParts(division))) ?? (await this.sendAll());
      return { ...sent, files: state.progress?.files };
    } finally {
      clearInterval(telling);
    }
  }

  private sendAll(): Promise<Sent> {
    const run = this.start([], 1, this.advance);
    return this.parts.transfers.finish(run.transfer, run);
  }

  /** Finds parts, where two rsyncs make of the target what one would. */
  private async divide(): Promise<Division | undefined> {
    const { host, source, transfers, cores } = this.parts;
    const { limit } = transfers;
    const isLimitShared = limit === Number.POSITIVE_INFINITY || limit === LIMIT_OF_BOTH;
    const isFirst = transfers.done === NOTHING; // or it was cut, and is weighed more closely
    if (!isFirst || !isLimitShared || !transfers.isUnhindered || !mayDivide(host.plan, cores)) return undefined;
    if (!this.division || !isStillThere(this.division, source)) this.division = await divisionOf(source);
    source.check();
    return this.division;
  }

  /** Compares two parts side by side; nothing where one of them could not be, so that all is to be compared at once. */
  private async sendParts(division: Division): Promise<Sent | undefined> {
    const { host, source, transfers } = this.parts;
    const started = performance.now();
    const progress = new SumOfProgress(2, this.advance);
    const runs = rulesOfParts(division, source.prefix).map(async (rules, n) => {
      const run = this.start(rules, 2, (it) => progress.add(n, it));
      const sent = await transfers.finish(run.transfer, run);
      const { listed, directories } = run.transfer.totals;
      return { sent, listed, hasTakenAway: directories !== 0, ms: performance.now() - started };
    });
    const all = Promise.all(runs);
    await all.catch(() => transfers.abandonAll()); // what one must not go on with, no other one must
    await Promise.allSettled(runs);
    const [one, other] = (await all) as [Part, Part];
    this.judge(one.ms, other.ms);
    const listed = [one, other].every((it) => it.listed !== undefined)
      ? (one.listed ?? 0) + (other.listed ?? 0) - division.shared.length
      : undefined;
    transfers.done = { ...transfers.done, listed };
    // Where the target tells no letter case, that may be what the other one was filling under the name that it has now.
    const isDoubtful = host.plan.deletes && (one.hasTakenAway || other.hasTakenAway) && !lifecycle.stopping;
    const sent = this.combine(one.sent, other.sent);
    return isDoubtful && sent && isGood(sent) ? undefined : sent;
  }

  /**
   * Puts together what came of both. Where something has failed, one rsync finds out what that means for the whole, unless there is
   * nobody to answer, or no more may be deleted.
   */
  private combine(one: Sent, other: Sent): Sent | undefined {
    const [worse, better] = isGood(one) ? [other, one] : [one, other];
    if (isGood(worse)) return { ...better, status: Math.max(one.status, other.status) };
    const isOver = lifecycle.stopping || one.isCut || other.isCut || !(hasRun(one.status) || hasRun(other.status));
    return isOver ? { ...worse, isCut: !!one.isCut || !!other.isCut } : undefined;
  }

  /** Has the tree divided anew the next time where one part has taken much longer than the other. */
  private judge(one: number, other: number): void {
    const [less, more] = [Math.min(one, other), Math.max(one, other)];
    if (more > UNEVEN * less && more > WORTH_DIVIDING_MS) this.division = undefined;
  }

  private start(rules: readonly string[], share: number, show: (progress: Progress) => void) {
    const { host, transfers } = this.parts;
    const { options, filter } = tellingOf(host.plan, show);
    const extra = [...host.plan.scanOptions, ...rules, ...options];
    return { transfer: transfers.start(extra, { format: '', share }), filter };
  }

  private readonly advance = (progress: Progress) => this.parts.state.advance(progress);
}
