/**
 * The rsyncs that are started for a target, which never transfer the same path at a time: each leaves alone what must be left
 * alone, and is ended where that comes to be more while it runs.
 *
 *   await transfers.run(undefined, async () => transfers.finish(transfers.start(options)));
 *   transfers.done; // what the rsyncs of that sync have done
 */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { startHeard } from '../service/intake.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { holdOpen, keepMounted, mayKeepMounted } from '../service/mounts.ts';
import { cwd, exitStatus, signalGroup, start } from '../service/processes.ts';
import { Failure, t } from '../service/text.ts';
import type { Brake } from './brake.ts';
import { type Host, isDaemon, placeOnTarget } from './config.ts';
import { withoutLoss } from './daemon-words.ts';
import { Faults } from './faults.ts';
import { Foothold, mayFindFiles } from './foothold.ts';
import { Hangups } from './hangup.ts';
import type { Link } from './link.ts';
import type { Mounts } from './mounts.ts';
import { Report } from './report.ts';
import {
  addTotals,
  type Filter,
  hasRun,
  hearLimit,
  LIMITED,
  limitTalk,
  NOTHING,
  passOn,
  passOnGathered,
  type Sent,
  type Totals,
} from './rsync.ts';
import { LIST_OPTIONS } from './scopes.ts';
import { type LeftOut, SizeLimit } from './size-limit.ts';
import type { Source } from './source.ts';
import { noteLimits, rsyncArgs } from './ssh.ts';
import { Stalls, Standstill } from './standstill.ts';
import type { TargetState } from './target-state.ts';
import { locatorFor, namerFor } from './told-paths.ts';

/** How often it is looked at whether a mount has gone while an rsync runs, ms. */
const LOOK_MS = 50;
/** How many rsyncs the other side has room for at least where several transfer at a time, and others wait. */
export const MIN_ROOM = 4;
/** Where an rsync looks that has to be told where the source is. */
const ROOT = '/';

/** An rsync that was started, and what it has told of its transfer once it has ended. */
export interface Transfer {
  rsync: ChildProcess;
  totals: Totals;
  /** The rules by which it leaves alone what it must. */
  rules: string[];
  /** The options that it was started with, but for those rules. */
  words: readonly string[];
  /** How many entries it may delete at most. */
  limit: number;
  /** Whether it was started in the source, or will go there by itself; otherwise it has to be told with its names where that is. */
  isHome: boolean;
  /** What has it leave out files that are too large for now. */
  size: SizeLimit | undefined;
  /** Whether it was ended because it might delete what it must not. */
  isOutdated: boolean;
}

/** How an rsync is let run: what it is given, what of its output is passed on, and whether it says something before long. */
interface Way {
  names?: Buffer | undefined;
  filter?: Filter;
  isPrompt?: boolean;
  /** Whether its connection may be lost already, which is not told then. */
  mayBeLost?: boolean;
}

/** What rsyncs are started with. */
interface Parts {
  host: Host;
  source: Source;
  mounts: Mounts;
  connection: Pick<Link, 'socket' | 'directory' | 'findRoute'>;
  brake: Brake;
  state: Pick<TargetState, 'name' | 'unmirrored' | 'unsettable' | 'warn' | 'log' | 'stalledSince' | 'voice'>;
}

export class Transfers {
  /** What the rsyncs of the sync that is under way have done. */
  done = NOTHING;
  /** Whether an rsync can be had that goes on seeing what is mounted. */
  mayKeepMounts = false;
  /** Leaves out files that are too large for now. */
  private size: SizeLimit | undefined;
  /** Says what a path that rsync tells is called below the source. */
  private readonly locate: (told: string) => string | undefined;
  /** Numbers the files in which rsyncs report. */
  private reports = 0;
  /** Whether rsync starts in the source. */
  private readonly isPinned: boolean;
  /** The rsyncs that transfer. */
  private readonly running = new Set<Transfer>();
  private readonly stalls: Stalls;
  private readonly hangups = new Hangups();

  constructor(private readonly parts: Parts) {
    const { host, source } = parts;
    this.isPinned = source.prefix === '/' && host.plan.mayPin;
    this.locate = locatorFor(source, placeOnTarget(host));
    this.stalls = new Stalls(parts.state);
  }

  /**
   * Does the work of a sync, and looks often meanwhile whether a mount has gone.
   * @param ceiling how large a file may be that is mirrored, bytes
   * @throws {Failure}
   */
  async run(ceiling: number | undefined, work: () => Promise<Sent>): Promise<Sent> {
    const { mounts } = this.parts;
    this.done = NOTHING;
    this.size = ceiling === undefined ? undefined : new SizeLimit(ceiling, this.locate);
    await mounts.verify();
    if (this.mounted.length > 0) this.mayKeepMounts = await mayKeepMounted();
    const looking = setInterval(() => mounts.refresh(), LOOK_MS);
    try {
      return await work();
    } finally {
      clearInterval(looking);
    }
  }

  /**
   * Starts an rsync with options that come after the user's.
   * @param format what it reports of each file; names have no place there
   * @param isForLater whether it may wait for days: it neither goes on seeing what is unmounted by force, nor leaves out what is too large now
   * @param own the user's options, those that the brake allows unless told otherwise
   * @param share how many are started for the same work, which share what may be deleted
   */
  start(
    extra: readonly string[],
    {
      place = this.homeFor(this.parts.host.config.SOURCE_DIR),
      format = '%i',
      isForLater = false,
      own = this.parts.brake.words,
      share = 1,
    } = {},
  ): Transfer {
    const { host, brake, connection } = this.parts;
    const report = this.nextReport();
    const options = report ? [`--log-file=${report}`, `--log-file-format=${format}`] : [];
    const rules = this.protection();
    const limit = Math.floor(brake.limit / share);
    if (limit < host.plan.maxDelete) options.push(`--max-delete=${limit}`);
    const size = isForLater ? undefined : this.size;
    if (size) options.push(...size.options);
    const first = extra.includes('--files-from=-') ? host.plan.listRules : [];
    const words = [...first, ...rules, ...own, ...rules]; // the user's may hold one that clears those before
    const args = rsyncArgs(host, connection.findRoute(), [...extra, ...options], place.from, words);
    const [kept, rsync] = [!isForLater && this.mayKeepMounts ? this.mounted : [], ['rsync', ...args]];
    const command = kept.length > 0 ? keepMounted(this.parts.source.realRoot, kept, place.cwd, rsync) : rsync;
    const transfer: Transfer = {
      rsync: startHeard((stdout) =>
        start(command[0] as string, command.slice(1), { cwd: place.cwd, stdio: ['pipe', stdout, 'pipe'] }),
      ),
      ...{ totals: {}, rules, words: own, limit, size, isHome: place.from !== ROOT, isOutdated: false },
    };
    if (report) follow(transfer, new Report(report));
    return transfer;
  }

  /** Counts what was deleted by name among what the rsyncs of the sync have deleted. */
  noteRemoved(deleted: number): void {
    this.done = addTotals(this.done, { ...NOTHING, deleted });
  }

  /** Starts one that is given names at once. */
  startList(): Transfer {
    return this.start(this.listOptions, { place: this.homeFor(this.parts.source.base) });
  }

  /** Starts one that compares files by content, and deletes nothing. */
  startComparing(extra: readonly string[]): Transfer {
    return this.start(extra, { place: this.homeFor(this.parts.source.base), own: this.parts.host.plan.keepingWords });
  }

  /** Starts one that may wait for its names for days: neither in the source, which could not be unmounted then, nor with what is mounted in it. */
  startWaiting(): Transfer {
    const { host, source } = this.parts;
    const away = { from: ROOT, cwd: host.plan.mayPin ? ROOT : cwd };
    return this.start(this.listOptions, { place: mayFindFiles() ? away : this.homeFor(source.base), isForLater: true });
  }

  /** The options of one that is given names. Where times are whole seconds, what an event has named is sent whatever its time. */
  get listOptions(): string[] {
    return this.parts.host.peer.isCoarse ? [...LIST_OPTIONS, '--ignore-times'] : LIST_OPTIONS;
  }

  /** Where an rsync starts that looks at the source, or at what that lies in, and what it looks at there. */
  private homeFor(directory: string) {
    return this.isPinned ? { from: './', cwd: this.parts.source.base } : { from: directory, cwd };
  }

  /** The files that were left out in the sync that is under way because they are too large, nothing where size does not matter. */
  get leftOut(): LeftOut | undefined {
    return this.size?.leftOut;
  }

  /** Names the file in which rsync may put down what it has done: it goes with the connection. */
  private nextReport(): string | undefined {
    const { connection, host } = this.parts;
    const { socket, directory } = connection;
    return socket && directory && host.plan.mayReport ? join(directory, `${++this.reports}.log`) : undefined;
  }

  /** Where something is mounted that is mirrored; of no interest where nothing is deleted. */
  private get mounted(): string[] {
    const { host, mounts, source } = this.parts;
    return host.plan.deletes ? mounts.mounted.map((path) => source.root + path) : [];
  }

  /** The rules that mounts need now, and what is set aside. */
  private protection(): string[] {
    const { host, mounts, source, state } = this.parts;
    const prefix = host.plan.isRelative ? source.root : source.prefix;
    return [...mounts.rules(prefix), ...state.unmirrored.rules(prefix)];
  }

  /** Whether an rsync leaves alone all that must be left alone now. It may leave more alone, which has come back since. */
  private isProtective({ rules }: Transfer): boolean {
    return this.protection().every((rule) => rules.includes(rule));
  }

  /** Whether an rsync that waited is what would be started now. */
  isUpToDate(armed: Transfer): boolean {
    const { rules, words, limit, size } = armed;
    const { brake } = this.parts;
    const hasSameWords = `${[...rules, ...words]}` === `${[...this.protection(), ...brake.words]}`;
    return !this.isCut(armed) && this.holdsSource(armed) && hasSameWords && size === this.size && brake.suits(limit);
  }

  /** Whether a daemon has hung up on one that waits. */
  isCut({ rsync }: Transfer): boolean {
    return isDaemon(this.parts.host) && this.hangups.hasHungUp(rsync);
  }

  /** Whether an rsync that was started in the source is in what the source is. */
  private holdsSource({ rsync, isHome }: Transfer): boolean {
    return !isHome || !this.isPinned || this.parts.source.holds(rsync);
  }

  /** Ends the rsyncs that run where they might delete the copy of a mount that is gone. */
  checkRunning(): void {
    if (!this.parts.host.plan.deletes) return;
    for (const transfer of this.running) if (!this.isProtective(transfer)) this.abandon(transfer);
  }

  /** Ends all that run. */
  abandonAll(): void {
    for (const transfer of this.running) this.abandon(transfer);
  }

  /** How many entries an rsync may delete now. */
  get limit(): number {
    return this.parts.brake.limit;
  }

  /** Whether nothing is to be left alone or out, and there is room for several rsyncs over a connection that stands. */
  get isUnhindered(): boolean {
    const { connection, host } = this.parts;
    const isFree = host.peer.room >= MIN_ROOM && connection.socket !== undefined;
    return isFree && !this.size && this.protection().length === 0;
  }

  /** Ends an rsync that might delete what it must not. */
  private abandon(transfer: Transfer): void {
    transfer.isOutdated = true;
    signalGroup(transfer.rsync, 'SIGTERM');
  }

  /** Finds how an rsync gets to the source that is not there; ends one that would look at something else. @throws {Failure} */
  private findFoothold(transfer: Transfer): Foothold | undefined {
    const { source } = this.parts;
    try {
      if (!transfer.isHome) return new Foothold(source);
      if (!this.holdsSource(transfer)) source.refuse();
    } catch (cause) {
      signalGroup(transfer.rsync, 'SIGKILL');
      throw cause;
    }
  }

  /**
   * Lets a started rsync run to its end.
   * @throws {Failure} where it would look at something else than the source
   */
  async finish(
    transfer: Transfer,
    { names, filter, isPrompt = !this.parts.host.plan.comparesContent, mayBeLost = false }: Way = {},
  ): Promise<Sent> {
    const { rsync } = transfer;
    const { state, host } = this.parts;
    using foothold = this.findFoothold(transfer);
    using _ = holdOpen(this.mounted); // none of them goes any more but by force
    if (!this.isProtective(transfer)) this.abandon(transfer);
    const faults = new Faults(this.locate, state.unsettable, namerFor(this.parts.source));
    const pass = this.size?.filter ?? ((bytes: string) => bytes);
    const explain = foothold?.explain ?? ((bytes: string) => bytes);
    const talk = limitTalk(rsync);
    const sift = (bytes: string) => pass(explain(filter ? filter(bytes) : bytes));
    const flush = rsync.stdout ? passOnGathered(rsync.stdout, state.name, sift, state.voice.lines()) : () => {};
    const isLimited = rsync.stderr ? hearLimit(rsync.stderr) : () => false;
    const hear = (bytes: string) => {
      flush(); // what it has said before is told before
      const shown = faults.read(explain(mayBeLost ? withoutLoss(bytes) : bytes));
      noteLimits(host, bytes);
      talk.weigh(faults, host.plan);
      return shown;
    };
    if (rsync.stderr) passOn(rsync.stderr, state.name, hear, state.voice.complaints());
    rsync.stdin?.end(names && foothold ? foothold.locate(names) : names);
    using _standstill = new Standstill(rsync, { state: this.stalls.add(), isPrompt });
    this.running.add(transfer);
    const status = await exitStatus(rsync).finally(() => this.running.delete(transfer));
    await lifecycle.pause(host.peer.settleMs);
    talk.check();
    const { totals, limit, isOutdated } = transfer;
    const told = names ? { ...totals, listed: undefined } : totals; // of names it has listed these, and not all that there is
    // What the other side has made last may not have been reported where it did not come to its end.
    this.done = addTotals(this.done, isOutdated || !hasRun(status) ? { ...told, created: undefined } : told);
    if (isOutdated) throw new Failure(t`同步期间源目录下的挂载点发生了变化，为保护备份已中止，将重新同步`);
    return { status, faults, isCut: limit < host.plan.maxDelete && (status === LIMITED || isLimited()) };
  }
}

/** Takes what an rsync has put down of its work into what is known of it, once it has ended. */
function follow({ rsync, totals }: Transfer, report: Report): void {
  for (const event of ['close', 'error']) rsync.once(event, () => Object.assign(totals, report.take()));
}
