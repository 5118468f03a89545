/**
 * What becomes of syncs to a target that have failed although it can be reached: what fails is found, told by name and tried again by
 * itself, so that all else is mirrored at once.
 *
 *   if (!(await recovery.settle(batch, outcome))) changes.add(batch);   // nothing is known of what fails
 *   const part = recovery.next();                                       // what is to be sent before all else
 */
import type { Stats } from 'node:fs';
import { lifecycle, newBackoff } from '../service/lifecycle.ts';
import { decodePath, escapeText, showPath } from '../service/text.ts';
import { type Batch, type Change, UNKNOWN } from './changes.ts';
import { divide, type List } from './division.ts';
import type { Fault } from './faults.ts';
import { Flaws } from './flaws.ts';
import { meaningOf, type Outcome } from './rsync.ts';
import type { Sender } from './sender.ts';
import { LOST_AND_FOUND } from './source.ts';
import type { TargetState } from './target-state.ts';
import { isLostAndFound } from './unmirrored.ts';

/** How many parts a batch is sent in at most, until it has to wait like any other that fails. */
const MAX_PARTS = 64;
/** How long no batch is divided after one was, ms: where its parts do not fail, that has found nothing. */
const DIVISION_REST_MS = 600_000;
/** Errors that say that a file is too large for the room that there is: ENOSPC, EDQUOT and EFBIG (errno(3)). */
const NO_ROOM = [28, 122, 27];
/** By how much the size of files that are sent is lowered where those that were left out were not enough. */
const STEP = 16;
/** How many times as long as a try has taken it rests at least until the next one. */
const REST_RATIO = 10;
/** How many paths of a sync are told. */
const TOLD = 20;

/** What is known of a batch that is sent because another one has failed. */
interface Part {
  /** Whether it is to find what fails, so that there is no need that it fails again. */
  isPart: boolean;
  /** How large a file may be that is sent, bytes, and how often there was no room for one. */
  ceiling?: number | undefined;
  timesFull: number;
  /** Whether it is what was set aside, tried again. */
  isRetry?: boolean;
}
const WHOLE: Part = { isPart: false, timesFull: 0 };

/** What it works with. */
interface Parts {
  state: TargetState;
  sender: Pick<Sender, 'answers'>;
  look: (path: string) => Stats | undefined;
  list: List;
  /** Whether a path can be read, and entered where it is a directory. */
  isReadable: (path: string) => boolean;
  /** Whether rsync may be told how large a file may be. */
  mayLimitSize: boolean;
  /** Seconds between two regular comparisons, 0 for never. */
  interval: number;
  /** Says that there is something to be sent. */
  wake: () => void;
}

export class Recovery {
  private queue: Batch[] = [];
  private readonly known = new WeakMap<Batch, Part>();
  /** How many parts were sent since the last batch that was none. */
  private sent = 0;
  /** The exit status of the last sync, where it failed. */
  private lastStatus: number | null = null;
  private backoff = newBackoff();
  private isResting = false;
  /** When a batch may be divided again at the earliest, ms on the clock of `performance.now()`. */
  private dividableAt = 0;
  /** How long the last try of what failed has taken, where it failed again, ms. */
  private lastTryMs = 0;
  private readonly flaws: Flaws;

  constructor(private readonly parts: Parts) {
    this.flaws = new Flaws(parts);
  }

  /** Whether there is something to be sent before all else. */
  get isDue(): boolean {
    return this.queue.length > 0 || this.flaws.isDue;
  }

  /** Hands out what is to be sent before all else, if there is anything. */
  next(): Batch | undefined {
    const batch = this.queue.shift();
    this.sent = batch ? this.sent + 1 : 0;
    return batch ?? (this.flaws.isDue ? this.flaws.take() : undefined);
  }

  /** Leaves out beforehand what is nobody's loss: where all of a disk is mirrored, most users may not read what it keeps for itself. */
  prepare(): void {
    if (!this.parts.isReadable(LOST_AND_FOUND)) this.leavesAlone({ path: LOST_AND_FOUND, kind: 'reading' });
  }

  /** Has what could not be read looked at again that has changed, and can be read now. */
  meet(batch: Batch): void {
    const { unmirrored } = this.parts.state;
    if (unmirrored.size === 0) return;
    for (const path of unmirrored.filter(
      ({ isAside, kind, path: it }) => isAside && kind === 'reading' && batch.has(it),
    )) {
      if (!this.parts.isReadable(path)) continue;
      unmirrored.unhide(path);
      batch.set(path, { ...UNKNOWN, ...batch.get(path), ...this.shapeOf(path) });
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

  /** Takes in how a sync went that was not cut off from the target; resolves with whether nothing of the batch needs to be put back. */
  async settle(batch: Batch, outcome: Outcome): Promise<boolean> {
    const { kind, status } = outcome;
    const isRepeated = status !== null && status === this.lastStatus;
    this.lastStatus = kind === 'failed' ? status : null;
    const isRetry = this.known.get(batch)?.isRetry === true;
    this.flaws.note(outcome);
    if (isRetry) this.lastTryMs = kind === 'done' ? 0 : outcome.seconds * 1000;
    if (kind === 'failed') return this.settleFailed(batch, outcome, isRepeated);
    this.settlePaths(batch, outcome);
    this.addLeftOut(batch, outcome);
    if (kind === 'partial') this.settlePartial(batch, outcome);
    else if (isRetry) this.hasten();
    if (kind !== 'partial' && this.parts.state.failed.size === 0) this.backoff = newBackoff();
    return true;
  }

  /** Tells what is mirrored that has failed before. */
  private settlePaths(batch: Batch, { faults, kind }: Outcome): void {
    const { state, look } = this.parts;
    const { unmirrored } = state;
    if (unmirrored.size === 0 || (kind === 'partial' && !faults?.isComplete)) return;
    const failing = new Set(faults?.list.filter(({ kind: it }) => it !== 'attributes').map(({ path }) => path));
    const covered = unmirrored.filter(({ path, isAside }) => !isAside && !failing.has(path) && covers(batch, path));
    for (const path of covered) {
      if (state.failed.waiting.has(path)) continue; // it was left out of this one
      unmirrored.settle(path);
      if (look(path)) state.log('file.recovered', `${showPath(path)} 已同步 ✓`, { path: decodePath(path) });
    }
  }

  /** Keeps the files that were too large for this sync for a later one. */
  private addLeftOut(batch: Batch, { leftOut }: Outcome): void {
    if (leftOut === undefined) return;
    if (leftOut === 'many') this.retryApart(batch);
    else if (leftOut.length > 0) this.retryApart(new Map(leftOut.map((path) => [path, batch.get(path) ?? UNKNOWN])));
  }

  /** Tries again by themselves the files that have failed, and at once the rest, where they have kept rsync from deleting. */
  private settlePartial(batch: Batch, { faults }: Outcome): void {
    const faulty = faults?.list.filter(({ kind }) => kind !== 'attributes') ?? [];
    const lacking = faulty.filter((fault) => !this.leavesAlone(fault));
    this.noteAll(lacking);
    const unread = lacking.filter(({ kind }) => kind === 'reading').map(({ path }) => path);
    const { unmirrored } = this.parts.state;
    const hidden = unread.filter((path) => unmirrored.setAside(path));
    const isFurther = hidden.length > 0 || lacking.length < faulty.length;
    if (faults?.isComplete) this.retryApart(this.changesFor(lacking, batch));
    else this.retryApart(batch);
    if (!isFurther || this.sent >= MAX_PARTS) return;
    this.queue.push(this.push(new Map(batch), this.known.get(batch) ?? WHOLE));
    this.parts.wake();
  }

  /** Leaves out for good what is nobody's loss; returns whether it is. */
  private leavesAlone({ path, kind }: Pick<Fault, 'path' | 'kind'>): boolean {
    const { state, look } = this.parts;
    if (kind !== 'reading' || !isLostAndFound(path, look(path))) return false;
    if (state.unmirrored.ignore(path))
      state.log('file.ignored', `${showPath(path)} 是文件系统自用的目录，当前用户无权读取，不同步`, {
        path: decodePath(path),
      });
    return true;
  }

  /** Says what has changed where these have failed. What is below a directory that cannot be made has not been told. */
  private changesFor(faults: Fault[], batch: Batch): Batch {
    return new Map(faults.map(({ path }) => [path, { ...(batch.get(path) ?? UNKNOWN), ...this.shapeOf(path) }]));
  }

  private shapeOf(path: string): Partial<Change> {
    return this.parts.look(path)?.isDirectory() ? { isDirectory: true, tree: true } : {};
  }

  /** Tells what fails, though not all of many. */
  private noteAll(faults: Fault[]): void {
    const { state, look } = this.parts;
    const fresh = faults.filter((fault) => state.unmirrored.note(fault, look(fault.path)?.isDirectory() ?? false));
    for (const fault of fresh.slice(0, TOLD)) {
      const why = `${escapeText(fault.text)}${adviceFor(fault)}`;
      const fields = { path: decodePath(fault.path), reason: fault.text };
      state.error('file.failed', `无法同步 ${showPath(fault.path)}：${why}。其余照常同步，它将单独重试`, fields);
    }
    if (fresh.length <= TOLD) return;
    const more = fresh.length - TOLD;
    state.error('file.failed_more', `另有 ${more} 个路径无法同步，未逐条列出`, { count: more });
  }

  private async settleFailed(batch: Batch, outcome: Outcome, isRepeated: boolean): Promise<boolean> {
    if (this.sent >= MAX_PARTS) {
      this.queue = [];
      return false;
    }
    const part = this.known.get(batch) ?? WHOLE;
    const culprits = (outcome.faults?.list ?? []).filter(({ kind }) => kind !== 'attributes');
    const large = culprits.filter(({ code = 0 }) => NO_ROOM.includes(code));
    if (large.length > 0) return this.makeRoom(batch, part, large);
    if (!part.isPart && !isRepeated) return false;
    if (culprits.length > 0 && this.takeOut(culprits, batch)) return this.sendFirst(batch, part);
    return this.find(batch, part, outcome);
  }

  /** Sets aside what there is no room for, and after the first such file all that is not smaller. */
  private makeRoom(batch: Batch, part: Part, large: Fault[]): boolean {
    const sizes = large.map(({ path }) => this.parts.look(path)?.size ?? 0);
    const smaller = Math.min(...sizes) - 1;
    const isNew = this.takeOut(large, batch);
    const ceiling = part.ceiling === undefined ? smaller : Math.min(smaller, Math.floor(part.ceiling / STEP));
    const timesFull = part.timesFull + 1;
    if (isNew && (timesFull === 1 || !this.parts.mayLimitSize)) return this.sendFirst(batch, { ...part, timesFull });
    if (!this.parts.mayLimitSize || ceiling < 0) return false;
    return this.sendFirst(batch, { ...part, ceiling, timesFull });
  }

  /** Sets aside what fails, to be tried again by itself; returns whether anything was not before. */
  private takeOut(faults: Fault[], batch: Batch): boolean {
    this.noteAll(faults);
    const hidden = faults.filter(({ path }) => this.parts.state.unmirrored.setAside(path));
    this.retryApart(this.changesFor(faults, batch));
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
  private async find(batch: Batch, part: Part, { status }: Outcome): Promise<boolean> {
    if (!part.isPart && (performance.now() < this.dividableAt || !(await this.parts.sender.answers()))) return false;
    const smaller = divide(batch, this.parts.list);
    const [path] = batch.keys();
    if (!smaller) {
      if (path !== undefined)
        this.takeOut([{ path, kind: 'content', text: meaningOf(status ?? 0), code: undefined }], batch);
      return true;
    }
    if (!part.isPart) {
      this.dividableAt = performance.now() + DIVISION_REST_MS;
      const message = `这批变化反复失败，分成小份查找失败的文件，其余先行同步`;
      this.parts.state.warn('sync.divided', message, { changes: batch.size, exit_code: status });
      this.queue.unshift(this.push(new Map(batch), part)); // at last as a whole once more, without what fails
    }
    this.queue.unshift(...smaller.map((it) => this.push(it, { ...part, isPart: true })));
    return true;
  }

  /** Tries changes again beside all others, after a while. */
  retryApart(batch: Batch): void {
    const { failed } = this.parts.state;
    failed.add(batch);
    if (failed.size > 0) this.rest(this.backoff.next().value);
  }

  /** Tries again at once what is set aside: there may be room now. */
  private hasten(): void {
    this.backoff = newBackoff();
    if (this.parts.state.failed.size > 0) this.rest(0);
  }

  private rest(ms: number): void {
    if (this.isResting) return;
    this.isResting = true;
    const { state, wake } = this.parts;
    const delay = Math.max(ms, REST_RATIO * this.lastTryMs);
    if (ms > 0)
      state.warn('sync.retry', `${Math.round(delay / 1000)} 秒后重试，${state.failed.size} 处变化等待同步`, {
        delay_ms: delay,
        pending: state.failed.size,
      });
    const retry = async () => {
      await lifecycle.pause(delay);
      this.isResting = false;
      if (lifecycle.stopping) return;
      this.queueRetries();
      wake();
    };
    lifecycle.background(retry());
  }

  /** Has what failed tried again: what is set aside one by one, for each may fail by itself. */
  private queueRetries(): void {
    const { failed, unmirrored } = this.parts.state;
    const all = [...failed.take(0)];
    const [first, ...others] = all.filter(([path]) => unmirrored.isAside(path));
    const rest = all.filter(([path]) => !unmirrored.isAside(path));
    if (others.length > 0) failed.add(new Map(others));
    if (rest.length > 0) this.queue.push(this.push(new Map(rest), { ...WHOLE, isRetry: true }));
    if (!first) return;
    unmirrored.unhide(first[0]);
    this.queue.push(this.push(new Map([first]), { ...WHOLE, isPart: true, isRetry: true }));
  }
}

/** Whether a batch holds a path, or a directory as a whole in which that lies. */
function covers(batch: Batch, path: string): boolean {
  return (
    batch.has(path) || [...batch].some(([other, { tree }]) => tree && (other === '' || path.startsWith(`${other}/`)))
  );
}

/** Says what to do about a fault, where that is known. */
function adviceFor({ kind, code = 0 }: Fault): string {
  if (kind === 'reading') return '，请检查源目录中它的权限或磁盘';
  if (code === 28) return '，请检查目标的磁盘空间和 inode';
  if (code === 122) return '，请检查目标的磁盘配额';
  if (code === 27) return '，目标的文件系统放不下这么大的文件';
  if (code === 30) return '，目标是只读的';
  if (code === 36) return '，目标的文件系统不支持这么长的名称';
  if (code === 22) return '，目标的文件系统不支持这样的名称';
  return code > 0 ? '，请检查目标上的权限和磁盘' : '';
}
