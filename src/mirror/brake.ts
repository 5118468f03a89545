/**
 * Holds deletions on a target back that are too many to be meant, until somebody lets them through. What would be deleted is
 * counted before anything is; rsync is asked only where that is not certain to be little.
 *
 *   const status = await brake.weigh(batch, { options: LIST_OPTIONS, names });
 *   if (status === undefined) send(brake.words);
 *   await brake.record(batch, outcome);
 */
import { EventEmitter } from 'node:events';
import { touch } from '../service/status.ts';
import { t } from '../service/text.ts';
import type { Allowance } from './allowance.ts';
import { Census } from './census.ts';
import { ALL, type Batch, REGULAR } from './changes.ts';
import type { Host } from './config.ts';
import { estimate } from './estimate.ts';
import type { Forecast, Question } from './forecast.ts';
import { describeHeld, directoriesOf } from './held.ts';
import { Ledger, type Weighed } from './ledger.ts';
import type { Count, Losses } from './losses.ts';
import type { Held, Memory, RememberedTarget } from './memory.ts';
import { type Entries, hasRun, type Outcome } from './rsync.ts';
import type { RuleFiles } from './rule-files.ts';
import type { Source } from './source.ts';
import type { Tally } from './tally.ts';
import type { TargetState } from './target-state.ts';

/** A source that was never seen may not delete so many files where that is so many times what it holds: a disk may be missing. */
const STRANGE_FILES = 50;
const STRANGE_RATIO = 10;
/** How soon all is compared again at the earliest while deletions are held, ms: more may have gone since, or be back. */
const RECOUNT_MS = 10_000;
/** How many times as long as it takes to count there is between two counts at least. */
const RECOUNT_RATIO = 10;
/** How many more than were foreseen an rsync deletes at most before it is weighed again: what has gone since was not weighed. */
const UNFORESEEN = 1000;
/** Which part of what may be deleted an rsync that waits leaves to deletions by name. */
const SPARE_PART = 10;

/** What the brake of a target works with. */
interface Parts {
  host: Host;
  source: Pick<Source, 'directory' | 'look'>;
  state: TargetState;
  memory: Pick<Memory, 'target' | 'save' | 'saveSoon'>;
  allowance: Allowance;
  forecast: Pick<Forecast, 'isEmpty' | 'checkNotEmptied' | 'faults'>;
  losses: Pick<Losses, 'count'>;
  rules: Pick<RuleFiles, 'describe'>;
  /** Whether an rsync that compares all will tell how many files the source holds, as `Census` counts them. */
  willCount: () => boolean;
  /** Whether something of the source is hidden from rsync, whose copy stays. */
  isHiding: () => boolean;
}

/** Emits `changed` when deletions come to be held, and when they are let through. */
export class Brake extends EventEmitter {
  private readonly remembered: RememberedTarget;
  private readonly ledger: Ledger;
  private weighed: Weighed | undefined;
  /** What RSYNC_OPTS meant when all was weighed last: files that they name may have been changed. */
  private options: string;
  /** Whether the next comparison of all may delete whatever it likes. */
  private isAccepted = false;
  /** Whether it is the second one that may. */
  private isRepeated = false;
  /** How many entries the sync that runs has deleted so far, by name, or where it would have deleted more than was foreseen. */
  private cut: number | undefined;
  /** How many were told to be held last. */
  private told: number | undefined;
  /** How long after a change all is to be counted again, ms, and what waits for that. */
  private recountMs = RECOUNT_MS;
  private recount: NodeJS.Timeout | undefined;

  constructor(private readonly parts: Parts) {
    super();
    this.options = parts.host.config.RSYNC_OPTS;
    this.remembered = parts.memory.target(parts.state.name);
    const { allowance, memory, source, state } = parts;
    this.ledger = new Ledger({
      ...{ remembered: this.remembered, memory, allowance, departures: state.departures },
      ...{ directory: source.directory, options: () => this.options },
    });
    if (!this.isOn || (!allowance.isLimited && this.remembered.held?.count)) this.ledger.forget();
    state.held = this.remembered.held;
  }

  /** Whether anything may be deleted, and not without a limit, or something is held that may be the rest of a restore. */
  private get isOn(): boolean {
    return this.parts.host.plan.deletes && (this.parts.allowance.isLimited || this.remembered.held !== undefined);
  }

  /** Whether deletions stay undone. */
  get isHolding(): boolean {
    return this.remembered.held !== undefined && !this.isAccepted;
  }

  /** The user's options, without those that delete while deletions are held, or nobody can say whether they would have to be. */
  get words(): readonly string[] {
    const { words, keepingWords } = this.parts.host.plan;
    return this.isHolding || this.weighed?.isDoubtful ? keepingWords : words;
  }

  /** Refuses to empty the backup. @throws {Failure} */
  readonly checkNotEmptied = () => this.parts.forecast.checkNotEmptied();
  /** Tells why an rsync could not say what would be deleted. */
  readonly faults = () => this.parts.forecast.faults;

  /**
   * Decides whether a batch may delete what it would.
   * @returns nothing once it may be sent, else the exit status of an rsync that could not tell
   * @throws {Failure} where mounts have changed meanwhile
   */
  async weigh(batch: Batch, question: Question): Promise<number | undefined> {
    const { state, source, host } = this.parts;
    if (!this.isOn) return undefined;
    if (this.isHolding) return this.recountSoon();
    state.departures.arrived = 0;
    const guess = estimate(batch, state.departures, source.look, host.config.WATCH_EXCLUDE);
    this.weighed = { ...guess, isAccepted: false, isVast: false, isDoubtful: false, census: undefined };
    const isForeseen = guess.isCertain && guess.count <= this.left && this.cut === undefined;
    if (!this.isLimited || isForeseen) return undefined;
    const { status, tally } = await this.count(this.weighed, question, batch);
    if (!hasRun(status)) return status;
    if (tally.count <= this.left) return undefined;
    if (!this.ledger.isCounted && !this.parts.isHiding()) await this.recountTarget();
    if (tally.count > this.left && !this.ledger.isSmall) this.hold(tally, this.describeExcess());
    return undefined;
  }

  /** Finds out how many files the target holds, so that nothing is held only because that is not known. */
  private async recountTarget(): Promise<void> {
    const { losses, host } = this.parts;
    const { status, present } = await losses.count({ options: host.plan.scanOptions }, new Map(), () => false);
    if (hasRun(status)) this.learn(present);
  }

  /** Takes what rsync has counted for what the target holds, unless some of that was hidden from it. */
  private learn(present: number | undefined): void {
    if (!this.ledger.isCounted && present !== undefined && !this.parts.isHiding()) this.ledger.recount(present);
  }

  /** How many more may be deleted now. */
  private get left(): number {
    return Math.max(0, this.ledger.left - (this.cut ?? 0));
  }

  /** Whether the target holds more than may be deleted. */
  private get isLimited(): boolean {
    return this.isOn && !this.isHolding && !this.ledger.isSmall && this.ledger.present > this.ledger.left;
  }

  /** How many entries an rsync may delete, whatever has gone since it was weighed. */
  get limit(): number {
    const { isAccepted = false, isVast = false, isCertain = false, count = 0, moved = 0 } = this.weighed ?? {};
    if (!this.isLimited || isAccepted || isVast) return Number.POSITIVE_INFINITY;
    const elsewhere = Number.isFinite(moved) ? moved : 0; // the target has renamed directories, if all went well
    // One that waits goes on to do when others were deleted by name.
    const spare = this.weighed || !this.parts.host.plan.mayRemove ? 0 : Math.floor(this.left / SPARE_PART);
    return Math.min(this.left - spare + elsewhere, Math.max(UNFORESEEN, isCertain ? count + elsewhere : 0));
  }

  /** Has what was deleted by name before an rsync count for how many that may delete. */
  noteRemoved(count: number): void {
    if (count > 0) this.cut = (this.cut ?? 0) + count;
  }

  /** Whether an rsync that was started with that limit may send what was weighed. */
  suits(limit: number): boolean {
    const { isCertain = false, count = 0, moved = 0 } = this.weighed ?? {};
    const needed = isCertain && this.isLimited ? count + (Number.isFinite(moved) ? moved : 0) : 0;
    return needed <= limit && limit <= this.limit;
  }

  /** Has a sync weighed more closely that would have deleted more than its limit, by what it has done so far. */
  reconsider({ deleted }: Entries): void {
    this.cut = deleted ?? (this.cut ?? 0) + this.limit;
    const fields = { count: this.cut };
    this.parts.state.log('deletions.recount', t`待删除的内容比预计的多，已删除 ${this.cut} 个后停下，重新统计`, fields);
  }

  /** Decides the same of a comparison of all, for a batch or without one. */
  async weighAll(batch: Batch = new Map()): Promise<number | undefined> {
    const { source, host, state } = this.parts;
    if (!this.isOn) return undefined;
    this.options = await this.parts.rules.describe();
    const census = new Census(`${source.directory}/`, host.plan.isOneFileSystem ? ['-xdev'] : []);
    state.departures.arrived = 0;
    const { isAccepted } = this;
    this.weighed = { count: 0, moved: 0, isCertain: false, isAccepted, isVast: false, isDoubtful: false, census };
    if (isAccepted) return undefined;
    const isHarmless = () => (this.ledger.isKnown ? this.ledger.isHarmless(census) : this.parts.forecast.isEmpty());
    if (!this.isHolding && (await isHarmless())) {
      this.weighed.isVast = this.cut !== undefined; // as much has come as has gone
      if (this.parts.willCount()) census.stop();
      return undefined;
    }
    const counted = await this.count(this.weighed, { options: host.plan.scanOptions }, batch);
    const { status, isWhole, tally, present } = counted;
    if (!hasRun(status)) return status;
    if (this.isHolding) return this.holdOn(counted);
    this.learn(present);
    if (tally.count > this.left && !this.ledger.isSmall) this.hold(tally, this.describeExcess());
    else if (await this.isStrange(tally, census)) this.hold(tally, t`，而源目录首次见到且几乎为空，可能没有挂载`);
    else if (!isWhole && this.isStranger) this.weighed.isDoubtful = true;
    return undefined;
  }

  /** Whether the source was never seen, or was another directory than it is now. */
  private get isStranger(): boolean {
    const { ledger, parts } = this;
    return !(ledger.isKnown && ledger.isSamePlace) && !parts.host.config.ALLOW_EMPTY_SOURCE;
  }

  /** Whether such a source is nearly empty, while the backup is not. */
  private async isStrange({ count }: Tally, census: Census): Promise<boolean> {
    return this.isStranger && count >= STRANGE_FILES && count >= STRANGE_RATIO * ((await census.total) ?? 0);
  }

  /** Counts what would be deleted, with care where that is too much. */
  private async count(weighed: Weighed, question: Question, batch: Batch): Promise<Count> {
    const { allowance, losses } = this.parts;
    const left = (present: number | undefined) => allowance.left(this.remembered.files ?? present) - (this.cut ?? 0);
    const isMuch = ({ tally, present }: Count) => tally.count > left(present);
    const began = performance.now();
    const count = await losses.count(question, batch, (it) => !this.isHolding && hasRun(it.status) && isMuch(it));
    this.recountMs = Math.max(RECOUNT_MS, RECOUNT_RATIO * (performance.now() - began));
    Object.assign(weighed, { count: count.tally.count, moved: count.moved, isCertain: count.isWhole });
    return count;
  }

  private hold(tally: Tally, reason: string): void {
    const before = this.remembered.held;
    const held = { count: tally.count, directories: tally.largest(), since: before?.since ?? Date.now() };
    this.keep(held);
    if (held.count !== this.told) this.tell(held, reason);
    this.told = held.count;
    if (before) return;
    this.emit('changed');
    this.recountSoon();
  }

  /** Has all compared before long: what is held may be more by now, or have come back. */
  private recountSoon(): undefined {
    this.recount ??= setTimeout(() => {
      this.recount = undefined;
      if (this.isHolding) this.parts.state.changes.add(REGULAR);
    }, this.recountMs).unref();
  }

  /** Goes on to hold what would be deleted, if there is anything left; and as it is where nobody can say whether there is. */
  private holdOn({ tally, isWhole }: Count): undefined {
    if (!isWhole) return;
    if (tally.count > 0) this.hold(tally, '');
    else this.release();
  }

  private release(): void {
    this.isAccepted = false;
    this.told = undefined;
    if (!this.remembered.held) return;
    this.keep(undefined);
    this.parts.state.log('deletions.released', t`已没有被暂缓的删除，恢复正常同步 ✓`);
    this.emit('changed');
  }

  private keep(held: Held | undefined): void {
    this.remembered.held = held;
    this.parts.state.held = held;
    this.parts.memory.save();
    touch();
  }

  private describeExcess(): string {
    const [most, spent] = [this.parts.allowance.most(), this.parts.allowance.spent() + (this.cut ?? 0)];
    return t`，超出一小时内的限额 ${most} 个${spent > 0 ? t`（已删除 ${spent} 个）` : ''}`;
  }

  private tell(held: Held, reason: string): void {
    const { state, host, allowance } = this.parts;
    const why = `${reason} (MAX_DELETE=${host.config.MAX_DELETE})`;
    const fields = { count: held.count, limit: allowance.most(), directories: directoriesOf(held) };
    state.error('deletions.held', describeHeld(held, why), fields);
  }

  /** Has rsync asked before the next comparison of all: the target may hold something else than it did. */
  distrust(): void {
    this.ledger.distrust();
  }

  /** Lets what is held through, with a comparison of all that is due at once; returns what that is, if anything. */
  accept(): Held | undefined {
    const { held } = this.remembered;
    if (!held?.count) return undefined; // a restore is under way, or was cut off, and nothing was counted yet
    const fields = { count: held.count };
    this.parts.state.log('deletions.accepted', t`放行被暂缓的 ${held.count} 个文件的删除，即将全量同步`, fields);
    this.isAccepted = true;
    this.parts.state.changes.add(ALL);
    this.emit('changed');
    return held;
  }

  /** Records what a sync has done. */
  async record(batch: Batch, outcome: Outcome): Promise<void> {
    const { weighed, ledger } = this;
    this.weighed = undefined;
    this.cut = undefined;
    if (outcome.status === null || !hasRun(outcome.status)) {
      if (this.isOn) ledger.noteBatch(weighed, { ...outcome, deleted: outcome.deleted ?? 0 });
      return;
    }
    if (outcome.kind !== 'partial') this.settleDepartures(batch, outcome);
    if (!weighed?.census) {
      if (this.isOn) ledger.noteBatch(weighed, outcome);
      return;
    }
    if (weighed.isDoubtful) return this.recordDoubtful(weighed, outcome);
    const sourceFiles = await weighed.census.total;
    if (weighed.isAccepted && !this.isStillDue(outcome)) this.release();
    ledger.noteAll(weighed, outcome, {
      counted: sourceFiles,
      isWhole: outcome.kind === 'done' && !this.parts.isHiding(),
    });
  }

  /** Records a sync that has deleted nothing for want of knowledge. The source is as strange as before; what fails is tried again anyway. */
  private recordDoubtful(weighed: Weighed, outcome: Outcome): void {
    weighed.census?.stop();
    this.ledger.noteBatch(weighed, outcome);
    if (outcome.kind === 'done') setTimeout(() => this.parts.state.changes.add(REGULAR), this.recountMs).unref();
  }

  /** Whether what was let through is still undone for an error in reading: then it is let through once more, without what cannot be read. */
  private isStillDue({ kind, faults }: Outcome): boolean {
    const isUndone = kind === 'partial' && faults?.mayHaveKept !== false;
    this.isRepeated = isUndone && !this.isRepeated;
    return this.isRepeated;
  }

  private settleDepartures(batch: Batch, { mode }: Outcome): void {
    const { departures, changes, failed, unmirrored } = this.parts.state;
    const isWaiting = (path: string) =>
      [changes.waiting, failed.waiting].some((it) => it.has(path) || it.has('')) || unmirrored.isHidden(path);
    if (mode === 'full') departures.settleAll(isWaiting);
    else departures.settle(batch.keys(), isWaiting);
  }
}
