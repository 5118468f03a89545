/**
 * What is known of a target: what it lacks, how it can be reached, how its syncs went.
 *
 *   const state = new TargetState('root@backup:/data/backup/', false);
 *   state.note('a', event, undefined);
 *   state.report(); // for the status
 */
import { EventEmitter } from 'node:events';
import type { Stats } from 'node:fs';
import { lifecycle } from '../service/lifecycle.ts';
import { drawLine, drawsLines, type Entry, error, heading, log, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { escapeText, showPath, t } from '../service/text.ts';
import { Absence } from './absence.ts';
import { type Batch, Changes, isUnseen, isWritten, oldestOf, UNKNOWN } from './changes.ts';
import { Dating } from './dating.ts';
import { Departures } from './departures.ts';
import type { Event } from './events.ts';
import type { Attribute } from './faults.ts';
import { reportHeld } from './held.ts';
import { LastHour } from './last-hour.ts';
import { Later } from './later.ts';
import type { Held, Span } from './memory.ts';
import { type Move, Moves, replacedBelow } from './moves.ts';
import { describeProgress, type Progress } from './progress.ts';
import type { Outcome } from './rsync.ts';
import { Spell } from './spell.ts';
import { Unmirrored } from './unmirrored.ts';
import { Unsent } from './unsent.ts';
import { Voice } from './voice.ts';

/** How many paths that fail are named. */
const NAMED = 5;

const PROMOTED = t`备份端已接管 (start-sshd --promote)，不接收镜像：变化暂不同步，每分钟查看一次`;

/**
 * Emits `synced` with each outcome, `promoted` where the backup has taken over, and `demoted` when it receives again; `hurried` where
 * what waits is to be sent at once, and `roused` where what has failed is to be tried again.
 */
export class TargetState extends EventEmitter {
  /** Whether it can be reached. */
  up = false;
  syncing = false;
  /** Whether nothing is sent because somebody restores into the source, or since when and until when because an operator wants that. */
  isRestoring = false;
  pause: Span | undefined;
  /** Whether what waits is to be sent at once. */
  isHurried = false;
  /** How often what fails by itself was tried again. */
  tries = 0;
  /** When something could be sent again, ms since 1970. */
  resumedAt: number | undefined;
  /** Since when nothing has happened in the sync that is under way, ms since 1970; nothing where it goes on. */
  stalledSince: number | undefined;
  /** Since when its syncs have failed one after the other, ms since 1970, nothing where the last one did not. */
  failingSince: number | undefined;
  /** Whether it has been compared as a whole, so that what it lacks are changes. */
  mirrored = false;
  progress: Progress | null = null;
  readonly syncs = { full: { success: 0, failure: 0 }, incremental: { success: 0, failure: 0 } };
  bytes = 0;
  lastSuccess: Date | null = null;
  lastStatus: number | null = null;
  /** When the last comparison of all that has come to an end was started, ms on the clock of `performance.now()`. */
  comparedAt = Number.NEGATIVE_INFINITY;
  /** The changes that it lacks: those that wait, those on their way, those that failed and those that are tried again. */
  readonly changes = new Changes();
  batch: Batch = new Map();
  readonly failed = new Changes();
  /** The large files that are on their way beside all else, and what waits until they are there. */
  beside: Batch = new Map();
  withheld: Batch = new Map();
  /** What is sent before all else, for it was part of what failed, or has failed itself before. */
  readonly queued: Batch[] = [];
  /** What fails by itself, and is tried again apart from all else. */
  readonly unmirrored = new Unmirrored();
  /** The attributes of which it was told that the target cannot set them. */
  readonly unsettable = new Set<Attribute>();
  readonly moves = new Moves();
  readonly departures = new Departures();
  readonly dating = new Dating();
  readonly unsent = new Unsent();
  readonly later = new Later((batch) => this.changes.add(batch));
  /** Whether it may hold what the source does not have any more. */
  mayHoldMore = () => false;
  /** Lists the options for which each change costs a comparison of everything. */
  costlyOptions: () => string[] = () => [];
  ownOptions: string | null = null; // for rsync, where they are not those for all targets
  /** How many days the backup keeps older versions, as far as it says. */
  historyDays: number | undefined;
  /** The deletions that wait for somebody to let them through. */
  held: Held | undefined;
  /** Since when it is known that the backup has taken over and receives nothing, ms since 1970; nothing where it receives. */
  promotedSince: number | undefined;
  /** The names of others that mirror into the same directory. */
  rivals: string[] = [];
  /** The directories of the batch that is on its way below which something may have taken the place of another thing. */
  private mixed: { batch: Batch; paths: Set<string> } | undefined;
  private readonly lastHour = new LastHour();
  readonly absence = new Absence();
  readonly voice: Voice;

  /**
   * @param isOneOfMany whether people need its name to tell it from others @param spell what the log has room for
   * @param demotion the command on the backup that has it receive again
   */
  constructor(
    readonly name: string,
    readonly isOneOfMany: boolean,
    spell = new Spell(),
    private readonly demotion = 'start-sshd --demote',
  ) {
    super();
    this.voice = new Voice(spell, this.absence, this);
  }

  readonly log = this.withName(log);
  readonly warn = this.withName(warn);
  readonly error = this.withName(error);
  readonly heading = this.withName(heading);

  /** Has an entry of the log name the target in a field, and to people where there are others. */
  private withName(entry: Entry): Entry {
    return (event, message, fields) => entry(event, this.addName(message), { target: this.name, ...fields });
  }

  /** Adds the name to a line for people where there are other targets. */
  addName(message: string): string {
    return this.isOneOfMany ? `${message} [${this.name}]` : message;
  }

  get lacking(): Batch[] {
    return [this.changes.waiting, this.batch, this.beside, this.withheld, ...this.queued, this.failed.waiting];
  }

  /** Notes an event; returns whether it does not merely repeat itself. @param isSure whether it is surely about that path, and told once */
  note(path: string, event: Event, found: Stats | undefined, isSure = false): boolean {
    // One that was renamed, rewritten and given its old time again would pass for what the target has.
    if (event.kind === 'attrib' && this.lacking.some((batch) => isWritten(batch.get(path) ?? UNKNOWN)))
      this.moves.delete(path);
    if (event.isDirectory && (event.kind === 'moved_from' || event.kind === 'delete')) this.later.forget(path);
    const dated = this.dating.after(path, event, this.lacking, this.mayHoldMore());
    const sent = [this.batch, this.beside, this.withheld, this.failed.waiting];
    const isLacking = sent.some((batch) => batch.has(path));
    const born = isSure ? this.unsent.bornAt(path, event, this.changes.waiting.get(path), this.lacking) : 0;
    return this.changes.note(path, event, found, isLacking, dated, born);
  }

  /** Notes a rename, where it is certain that the target has what was renamed, in its old place. */
  noteMove(move: Move): void {
    const isReplaced = (batch: Batch) => batch.get(move.from)?.replaced && !this.moves.has(move.from);
    if (!this.mirrored || isUnseen(this.lacking, move.from) || this.lacking.some(isReplaced)) return;
    if (this.mixed?.batch !== this.batch) this.mixed = { batch: this.batch, paths: replacedBelow([this.batch]) };
    const isMixed = this.mixed.paths.has(move.from) || replacedBelow([this.beside]).has(move.from);
    this.moves.add({ ...move, isExposed: this.syncing || this.beside.size > 0, isMixed });
  }

  get pending(): number {
    return this.lacking.reduce((sum, { size }) => sum + size, this.later.waiting.size);
  }

  /** Since when it has lacked a change, ms since 1970. */
  get oldestPending(): number | undefined {
    const oldest = Math.min(...[...this.lacking, this.later.waiting].map(oldestOf));
    return Number.isFinite(oldest) ? Date.now() - (performance.now() - oldest) : undefined;
  }

  /** Decides whether it is told that a batch is sent: one is that may end what has failed, or is asked for. */
  beginsAloud(isRegular: boolean): boolean {
    return this.voice.begins(isRegular || this.failingSince !== undefined || lifecycle.stopping);
  }

  /** Says that a sync begins, of a batch or of all. */
  begin(batch: Batch): void {
    this.batch = batch;
    this.syncing = true;
    this.dating.begin(batch);
    touch();
  }

  /** Says that large files go beside all else from now on. */
  beginBeside(lot: Batch): void {
    this.beside = lot;
    this.dating.beginBeside(lot.keys());
    touch();
  }

  /** Keeps changes back until they are there; what was kept back of a path before is older. */
  withhold(batch: Batch): void {
    const changes = new Changes();
    changes.waiting = new Map(batch);
    changes.add(this.withheld);
    this.withheld = changes.waiting;
  }

  /** Has all that was kept back wait for the next sync, with those that an ordinary sync is to look at. */
  endBeside(rest: Batch): void {
    const { withheld } = this;
    this.beside = new Map();
    this.withheld = new Map();
    this.changes.restore(withheld);
    this.changes.add(rest);
    touch();
  }

  /** Shows how far it has come. */
  advance(progress: Progress): void {
    this.progress = progress;
    touch();
    if (drawsLines()) drawLine(describeProgress(progress));
  }

  /** Tells in the log how far it has come, unless that is shown already. */
  logProgress(): void {
    if (this.progress && !drawsLines())
      this.log('sync.progress', describeProgress(this.progress), { ...this.progress });
  }

  /** Records the outcome of that sync. */
  record(outcome: Outcome): void {
    const { mode, kind, bytes = 0 } = outcome;
    const { pending } = this;
    this.batch = new Map();
    this.syncing = false;
    this.dating.end();
    this.progress = null;
    this.syncs[mode][kind === 'done' ? 'success' : 'failure']++;
    this.bytes += bytes;
    this.lastHour.add({ syncs: 1, failures: Number(kind !== 'done'), bytes });
    if (kind === 'done') this.lastSuccess = new Date();
    if (kind === 'done' || kind === 'partial' || kind === 'limited') {
      this.up = true;
      if (mode === 'full') this.comparedAt = performance.now() - outcome.seconds * 1000;
    } else if (kind === 'unreachable') this.up = false;
    if (kind === 'unreachable') this.voice.noteAway(outcome, pending);
    else this.voice.noteReached();
    this.failingSince = kind === 'done' || kind === 'limited' ? undefined : (this.failingSince ?? Date.now());
    this.lastStatus = outcome.status;
    this.emit('synced', outcome);
    touch();
  }

  /** Whether nothing is sent for now. */
  get isPaused(): boolean {
    return this.isRestoring || this.pause !== undefined;
  }

  /** Whether something is on its way. */
  get isSending(): boolean {
    return this.syncing || this.beside.size > 0;
  }

  /** Has what waits be sent at once, if anything does. */
  hurry(): void {
    if (this.isHurried || this.changes.size === 0) return;
    this.isHurried = true;
    this.changes.emit('arrived');
    this.emit('hurried');
  }

  /** Has what has failed be tried again at once. */
  rouse(): void {
    this.emit('roused');
  }

  /** Says that a pause of an operator has ended. */
  resume(): void {
    this.pause = undefined;
    this.resumedAt = Date.now();
  }

  /** Whether the backup has taken over: nothing is sent to it. */
  get isPromoted(): boolean {
    return this.promotedSince !== undefined;
  }

  /** Notes that the backup has taken over, which is told once. */
  promote(): void {
    this.failingSince = undefined; // that is why
    if (this.isPromoted) return;
    this.promotedSince = Date.now();
    this.unsent.doubt(); // others write there
    this.error('backup.promoted', t`${PROMOTED}。若要恢复镜像，请在备份端执行 ${this.demotion}`);
    this.emit('promoted');
    touch();
  }

  /** Notes that it receives again. */
  demote(): void {
    if (!this.isPromoted) return;
    this.promotedSince = undefined;
    this.log('backup.demoted', t`备份端重新接收镜像 (start-sshd --demote) ✓，立即进行一次全量比较`);
    this.emit('demoted');
    touch();
  }

  report() {
    const oldest = this.oldestPending;
    return {
      target: this.name,
      up: this.up,
      state: this.describe(),
      mirrored: this.mirrored,
      pending: this.pending,
      oldest_pending: oldest === undefined ? null : new Date(oldest).toISOString(),
      last_success: this.lastSuccess?.toISOString() ?? null,
      last_exit_code: this.lastStatus,
      syncs: this.syncs,
      bytes: this.bytes,
      progress: this.progress,
      held: this.held && this.held.count > 0 ? reportHeld(this.held) : null,
      failed: this.reportFailed(),
      pause: this.pause ? { since: isoOf(this.pause.since), until: isoOf(this.pause.until) } : null,
      resumed: this.resumedAt === undefined ? null : isoOf(this.resumedAt),
      stalled: this.stalledSince === undefined ? null : new Date(this.stalledSince).toISOString(),
      unsettable: [...this.unsettable],
      promoted: this.promotedSince === undefined ? null : new Date(this.promotedSince).toISOString(),
      rivals: this.rivals,
      costly_options: this.costlyOptions(),
      rsync_options: this.ownOptions,
      history_days: this.historyDays ?? null,
      history: this.lastHour.report(),
    };
  }

  /** Tells what fails, and since when. */
  private reportFailed() {
    const { unmirrored, failingSince } = this;
    const since = unmirrored.since ?? failingSince;
    if (since === undefined) return null;
    const paths = unmirrored.first(NAMED).map(({ path, text }) => ({ path: showPath(path), reason: escapeText(text) }));
    return { count: unmirrored.size, since: new Date(since).toISOString(), paths };
  }

  /** The word for what it is doing. */
  describe(): 'promoted' | 'syncing' | 'down' | 'retrying' | 'waiting' | 'idle' | 'paused' {
    if (this.isPromoted) return 'promoted';
    if (this.isSending) return 'syncing';
    if (this.isPaused) return 'paused';
    if (!this.up) return 'down';
    if (this.failingSince !== undefined || this.unmirrored.size > 0) return 'retrying';
    return this.pending > 0 ? 'waiting' : 'idle';
  }
}

const isoOf = (ms: number) => new Date(ms).toISOString();
