/**
 * What becomes of syncs to a target that have failed although it can be reached: what fails is found, told by name and tried again by
 * itself, so that all else is mirrored at once.
 *
 *   if (!(await recovery.settle(batch, outcome))) changes.add(batch);   // nothing is known of what fails
 *   const part = recovery.next();                                       // what is to be sent before all else
 */
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';
import { decodePath, showPath, t } from '../service/text.ts';
import { allFor, type Batch, changeIn, UNKNOWN } from './changes.ts';
import { divide, type List } from './division.ts';
import { tellFailures } from './failures.ts';
import type { Fault } from './faults.ts';
import { Flaws } from './flaws.ts';
import { Retries, type Retry } from './retries.ts';
import { meaningOf, type Outcome } from './rsync.ts';
import type { Sender } from './sender.ts';
import { LOST_AND_FOUND } from './source.ts';
import type { TargetState } from './target-state.ts';
import { isLostAndFound } from './unmirrored.ts';
import { findUnread, MAX_LOOKS, mayBeThere } from './unread.ts';

/** How many parts a batch is sent in at most, until it has to wait like any other that fails. */
const MAX_PARTS = 64;
/** The same where every one of them fails: it is hardly what is in them. To come from a million files to one takes 20. */
const MAX_FAILING = 24;
/** How long no batch is divided after that has found nothing, ms. */
const DIVISION_REST_MS = 600_000;
/** Errors that say that a file is too large for the room that there is: ENOSPC, EDQUOT and EFBIG (errno(3)). */
const NO_ROOM = [28, 122, 27];
/** By how much the size of files that are sent is lowered where those that were left out were not enough. */
const STEP = 16;

/** What is known of a batch that is sent because another one has failed. */
interface Part {
  /** Whether it is to find what fails, so that there is no need that it fails again. */
  isPart: boolean;
  /** Whether one comes after it that holds all of it, and does the deletions that parts of a directory cannot. */
  isCovered: boolean;
  /** Whether it is that one. */
  isLast: boolean;
  /** Whether it is what failed before, tried again by itself, and whether that was set aside. */
  isRetry: boolean;
  isAside: boolean;
  /** How large a file may be that is sent, bytes, and how often there was no room for one. */
  ceiling: number | undefined;
  timesFull: number;
}
const WHOLE: Part = {
  ...{ isPart: false, isCovered: false, isLast: false, isRetry: false, isAside: false },
  ...{ ceiling: undefined, timesFull: 0 },
};

/** What it works with. */
interface Parts {
  state: TargetState;
  sender: Pick<Sender, 'answers'>;
  look: (path: string) => Stats | undefined;
  list: List;
  /** Whether a path can be read, and entered where it is a directory. */
  isReadable: (path: string) => boolean;
  /** Whether nobody can say what is at a path, for its disk fails. */
  isUnknown: (path: string) => boolean;
  /** Whether rsync may be told how large a file may be. */
  mayLimitSize: boolean;
  /** Whether a part of the source can be sent by itself. */
  mayDivide: boolean;
  /** Seconds between two regular comparisons, 0 for never. */
  interval: number;
  /** Says that there is something to be sent. */
  wake: () => void;
}

export class Recovery {
  private readonly known = new WeakMap<Batch, Part>();
  /** How many parts were sent since the last batch that was none, and whether one of them was mirrored. */
  private sent = 0;
  private isFruitful = false;
  /** The exit status of the last batch that was no part, where it failed. */
  private lastStatus: number | null = null;
  /** When a batch may be divided again at the earliest, ms on the clock of `performance.now()`. */
  private dividableAt = 0;
  private readonly retries: Retries;
  private readonly flaws: Flaws;

  constructor(private readonly parts: Parts) {
    this.flaws = new Flaws(parts);
    this.retries = new Retries({ ...parts, hand: (retries) => this.queueRetries(retries) });
  }

  private get queue(): Batch[] {
    return this.parts.state.queued;
  }

  /** Whether there is something to be sent before all else. */
  get isDue(): boolean {
    return this.queue.length > 0 || this.flaws.isDue;
  }

  /** Hands out what is to be sent before all else, if there is anything. */
  next(): Batch | undefined {
    const batch = this.queue.shift();
    if (!batch) {
      this.sent = 0;
      this.isFruitful = false;
      return this.flaws.isDue ? this.flaws.take() : undefined;
    }
    this.sent++;
    if (this.known.get(batch)?.isAside) for (const path of batch.keys()) this.unhide(path, batch);
    return batch;
  }

  /** Has rsync see a path again with a batch: of what has changed or gone in it meanwhile, nothing has been sent. */
  private unhide(path: string, batch: Batch): void {
    const change = batch.get(path) ?? UNKNOWN;
    const tree = this.parts.state.unmirrored.unhide(path) || change.tree;
    batch.set(path, this.retries.shape(path, { ...change, tree }));
  }

  /** Leaves out beforehand what is nobody's loss: where all of a disk is mirrored, most users may not read what it keeps for itself. */
  prepare(): void {
    if (!this.parts.isReadable(LOST_AND_FOUND)) this.leavesAlone({ path: LOST_AND_FOUND, kind: 'reading' });
  }

  /** Has what is set aside looked at again that has changed, where it can be read now, or is gone. */
  meet(batch: Batch): void {
    const { state, look, isReadable, isUnknown } = this.parts;
    const budget = { left: MAX_LOOKS };
    const [isDue, isThere] = [(path: string) => covers(batch, path), (path: string) => look(path) !== undefined];
    state.unmirrored.keepMoved(isDue, (place) => findUnread(place, this.parts, budget), isThere);
    for (const { path, kind, place } of state.unmirrored.allAside) {
      if (!batch.has(path) || isUnknown(path) || this.retries.mayBeOnlyCopy(path, place)) continue;
      if (look(path) ? kind === 'reading' && isReadable(path) : !(place && mayBeThere(place, this.parts)))
        this.unhide(path, batch);
    }
  }

  /** How large a file may be that is sent with a batch, bytes; nothing where it does not matter. */
  ceilingOf(batch: Batch): number | undefined {
    return this.known.get(batch)?.ceiling;
  }

  /** Whether a batch is sent because another one has failed, so that it says nothing of the target when it does not. */
  isPart(batch: Batch): boolean {
    return this.known.has(batch);
  }

  private push(batch: Batch, part: Part): Batch {
    this.known.set(batch, part);
    return batch;
  }

  private queueRetries(retries: Retry[]): void {
    for (const { batch, isAside } of retries)
      this.queue.push(this.push(batch, { ...WHOLE, isRetry: true, isPart: isAside, isAside }));
    this.parts.wake();
  }

  /** Takes a batch back that was not sent, or has failed, where it is tried again apart; returns whether it is. */
  takeBack(batch: Batch): boolean {
    const part = this.known.get(batch);
    if (!part?.isRetry) return false;
    if (part.isAside) for (const path of batch.keys()) this.parts.state.unmirrored.setAside(path);
    this.retries.add(batch);
    this.rest();
    return true;
  }

  /** Has what has failed tried again after a while, once nothing of it is being tried. */
  private rest(): void {
    if (!this.queue.some((batch) => this.known.get(batch)?.isRetry)) this.retries.rest();
  }

  /** Takes in how a sync went that was not cut off from the target; resolves with whether nothing of the batch needs to be put back. */
  async settle(batch: Batch, outcome: Outcome): Promise<boolean> {
    const { kind, status, seconds } = outcome;
    const part = this.known.get(batch);
    const isRepeated = part !== undefined || (status !== null && status === this.lastStatus);
    if (!part) this.lastStatus = kind === 'failed' ? status : null;
    if (part && kind !== 'failed') this.isFruitful = true;
    if (part?.isRetry) this.retries.noteTry(seconds);
    this.flaws.note(outcome);
    const isSettled =
      kind === 'failed' ? await this.settleFailed(batch, outcome, isRepeated) : this.settleRun(batch, outcome);
    const isDone = isSettled || this.takeBack(batch);
    this.rest();
    return isDone;
  }

  private settleRun(batch: Batch, outcome: Outcome): boolean {
    const isRetry = this.known.get(batch)?.isRetry === true;
    this.addLeftOut(batch, outcome);
    const recovered = this.settlePaths(batch, outcome);
    if (outcome.kind === 'partial') this.settlePartial(batch, outcome);
    else if (isRetry && recovered > 0) this.retries.hasten();
    return true;
  }

  /** Tells what is mirrored that has failed before; returns how many paths. */
  private settlePaths(batch: Batch, { faults, kind, leftOut }: Outcome): number {
    const { state, look } = this.parts;
    const { unmirrored } = state;
    if (unmirrored.size === 0 || leftOut === 'many' || (kind === 'partial' && !faults?.isTold)) return 0;
    const failing = new Set(faults?.list.filter(({ kind: it }) => it !== 'attributes').map(({ path }) => path));
    const isLacking = (path: string) =>
      failing.has(path) || unmirrored.isHidden(path) || state.failed.waiting.has(path);
    const mirrored = unmirrored.others.filter((path) => covers(batch, path) && !isLacking(path));
    for (const path of mirrored) {
      unmirrored.settle(path);
      if (path === '' || !look(path)) continue;
      state.log('file.recovered', t`路径 ${showPath(path)} 已同步 ✓`, { path: decodePath(path) });
    }
    return mirrored.length;
  }

  /** Keeps the files that were too large for this sync for a later one. */
  private addLeftOut(batch: Batch, { leftOut = [] }: Outcome): void {
    if (leftOut === 'many') this.retries.add(batch);
    else this.retries.add(new Map(leftOut.map((path) => [path, batch.get(path) ?? UNKNOWN])));
  }

  /** Tries again by themselves the files that have failed, and at once the rest, where they have kept rsync from deleting. */
  private settlePartial(batch: Batch, { faults }: Outcome): void {
    const faulty = faults?.list.filter(({ kind }) => kind !== 'attributes') ?? [];
    const lacking = faulty.filter((fault) => !this.leavesAlone(fault));
    tellFailures(lacking, this.parts);
    const { unmirrored } = this.parts.state;
    const unread = lacking.filter(({ kind }) => kind === 'reading');
    const hidden = unread.filter(({ path }) => unmirrored.setAside(path));
    this.retries.add(faults?.isTold ? this.changesFor(lacking, batch) : batch);
    const isFurther = hidden.length > 0 || lacking.length < faulty.length;
    if (isFurther && this.sent < MAX_PARTS) this.sendFirst(batch, this.known.get(batch) ?? WHOLE);
    else if (isFurther || unread.length > 0) this.retries.add(batch); // something may not have been deleted
  }

  /** Leaves out for good what is nobody's loss; returns whether it is. */
  private leavesAlone({ path, kind }: Pick<Fault, 'path' | 'kind'>): boolean {
    const { state, look } = this.parts;
    if (kind !== 'reading' || !isLostAndFound(path, look(path))) return false;
    if (state.unmirrored.ignore(path))
      state.log('file.ignored', t`路径 ${showPath(path)} 是文件系统自用的目录，当前用户无权读取，不同步`, {
        path: decodePath(path),
      });
    return true;
  }

  /** Says what has changed where these have failed. */
  private changesFor(faults: Fault[], batch: Batch): Batch {
    return new Map(faults.map(({ path }) => [path, this.retries.shape(path, changeIn(batch, path))]));
  }

  private async settleFailed(batch: Batch, outcome: Outcome, isRepeated: boolean): Promise<boolean> {
    if (this.sent >= (this.isFruitful ? MAX_PARTS : MAX_FAILING)) return this.putBack();
    const part = this.known.get(batch) ?? WHOLE;
    if (outcome.faults?.refusal) return false; // it is not about what was sent
    const culprits = (outcome.faults?.list ?? []).filter(({ kind }) => kind !== 'attributes');
    const large = culprits.filter(({ code = 0 }) => NO_ROOM.includes(code));
    if (large.length > 0) return this.makeRoom(batch, part, large);
    if (!isRepeated) return false;
    if (culprits.length > 0 && this.takeOut(culprits, batch)) return this.sendFirst(batch, part);
    return this.find(batch, part, outcome);
  }

  /** Has all that is left of what was divided wait like any other batch that fails. */
  private putBack(): false {
    if (!this.isFruitful) this.dividableAt = performance.now() + DIVISION_REST_MS;
    for (const batch of this.queue.splice(0)) {
      if (this.known.get(batch)?.isRetry) this.retries.add(batch);
      else this.parts.state.changes.add(batch);
    }
    return false;
  }

  /** Sets aside what there is no room for, and after the first such file all that is not smaller. */
  private makeRoom(batch: Batch, part: Part, large: Fault[]): boolean {
    const { look, mayLimitSize } = this.parts;
    const smaller = Math.min(...large.map(({ path }) => look(path)?.size ?? 0)) - 1;
    const isNew = this.takeOut(large, batch);
    const timesFull = part.timesFull + 1;
    if (isNew && (timesFull === 1 || !mayLimitSize)) return this.sendFirst(batch, { ...part, timesFull });
    const ceiling = part.ceiling === undefined ? smaller : Math.min(smaller, Math.floor(part.ceiling / STEP));
    if (!mayLimitSize || ceiling < 0 || part.ceiling === 0) return false;
    return this.sendFirst(batch, { ...part, ceiling, timesFull });
  }

  /** Sets aside what fails, to be tried again by itself; returns whether anything was not before. */
  private takeOut(faults: Fault[], batch: Batch): boolean {
    tellFailures(faults, this.parts);
    const hidden = faults.filter(({ path }) => this.parts.state.unmirrored.setAside(path));
    this.retries.add(this.changesFor(faults, batch));
    return hidden.length > 0;
  }

  /** Sends a batch before all else, but for what is set aside by now. */
  private sendFirst(batch: Batch, part: Part): boolean {
    const { unmirrored } = this.parts.state;
    const rest: Batch = new Map([...batch].filter(([path]) => !unmirrored.isHidden(path)));
    if (rest.size > 0) this.queue.unshift(this.push(rest, part));
    return true;
  }

  /** Looks for what fails by sending the batch in parts, unless no sync would work at all. */
  private async find(batch: Batch, part: Part, { status, mode }: Outcome): Promise<boolean> {
    const blame = ([path = '']: Iterable<string>) => [
      { path, kind: 'content' as const, text: meaningOf(status ?? 0), code: undefined },
    ];
    if (!this.parts.mayDivide) return false;
    const isOther = mode === 'full' && !batch.get('')?.tree; // all had to be compared for it, and anything may have failed
    if (part.isLast || (part.isPart && isOther)) {
      if (!isOther) tellFailures(blame(batch.keys()), this.parts);
      this.retries.add(batch);
      return true;
    }
    if (!part.isPart && !(await this.mayDivideNow(batch))) return false;
    const suspects = isOther ? allFor(batch) : batch;
    const smaller = divide(suspects, this.parts.list);
    if (smaller) return this.sendParts(suspects, part, smaller, status);
    if (!part.isRetry) this.dividableAt = 0; // it has found something
    this.takeOut(blame(suspects.keys()), batch);
    return true;
  }

  /** Whether it makes sense to divide a batch: not soon after that has found nothing, nor where nothing can be sent at all. */
  private async mayDivideNow(batch: Batch): Promise<boolean> {
    if (performance.now() < this.dividableAt) return false;
    this.queue.unshift(batch); // the target lacks it meanwhile
    const answers = await this.parts.sender.answers();
    this.queue.splice(this.queue.indexOf(batch), 1);
    return answers;
  }

  /** Sends a batch in parts. Where it was a directory, that comes as a whole at last, for what is to be deleted in it is in no part. */
  private sendParts(batch: Batch, part: Part, smaller: Batch[], status: number | null): true {
    if (!part.isPart) {
      this.dividableAt = performance.now() + DIVISION_REST_MS;
      const message = t`这批变化反复失败，分成小份查找失败的文件，其余先行同步`;
      this.parts.state.warn('sync.divided', message, { changes: batch.size, exit_code: status });
    }
    const needsLast = batch.size === 1 && !part.isCovered;
    const common = { ...part, isCovered: part.isCovered || needsLast, isAside: false };
    const parts = smaller.map((it) => this.push(it, { ...common, isPart: true }));
    if (needsLast) parts.push(this.push(new Map(batch), { ...common, isLast: true }));
    this.queue.unshift(...parts);
    return true;
  }
}

/** Whether a batch holds a path, or a directory as a whole in which that lies. */
const covers = (batch: Batch, path: string) => batch.has(path) || withParents(path).some((it) => batch.get(it)?.tree);
