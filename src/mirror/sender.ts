/**
 * How a batch is sent to a target: by the rsync that waits there for names, by rules, or by a comparison of all; renames first.
 *
 *   sender.arm();
 *   const outcome = await sender.send(batch);
 */
import type { ChildProcess } from 'node:child_process';
import { basename, join } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { holdOpen, keepMounted, mayKeepMounted } from '../service/mounts.ts';
import { children, cwd, exitStatus, signalGroup, start } from '../service/processes.ts';
import { Failure } from '../service/text.ts';
import type { Brake } from './brake.ts';
import type { Batch } from './changes.ts';
import type { Host } from './config.ts';
import type { Connection } from './connection.ts';
import type { Mounts } from './mounts.ts';
import type { Move } from './moves.ts';
import { RemoteRenames } from './remote-renames.ts';
import {
  addTotals,
  describeFailure,
  describeSent,
  type Filter,
  hasRun,
  hearLimit,
  LIMITED,
  type Mode,
  mayBeDisconnected,
  NOTHING,
  type Outcome,
  passOn,
  type Sent,
  type Totals,
  takeReport,
  tellingOf,
} from './rsync.ts';
import { LIST_OPTIONS, listOf, mayDelete, rulesOf } from './scopes.ts';
import type { Source } from './source.ts';
import { rsyncArgs } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How often it is looked at whether a mount has gone while an rsync runs, ms. */
const LOOK_MS = 50;
/** How often a sync is weighed at most where more goes each time than was foreseen. */
const MAX_WEIGHINGS = 5;
/** How often the log tells of the progress of a full sync, ms. */
const PROGRESS_MS = 10_000;
/** A process that dies sooner than this after its start is not replaced at once, ms. */
const SHORT_LIFE_MS = 5000;
/** An rsync that waited, and fails sooner than this with the names it was given, had lost its connection before, ms. */
const LOST_BEFORE_MS = 5000;

/** An rsync that was started, and what it has told of its transfer once it has ended. */
interface Transfer {
  rsync: ChildProcess;
  totals: Totals;
  /** The rules by which it leaves copies of mounts alone. */
  rules: string[];
  /** How many entries it may delete at most. */
  limit: number;
  /** Whether it was ended because it might delete what it must not. */
  isOutdated: boolean;
}

/** What is known of a sync while it runs. */
interface Attempt {
  mode: Mode;
  unrepeated: Move[];
}

export class Sender {
  /** The rsync that waits for names. */
  private armed: Transfer | undefined;
  /** Numbers the files in which rsyncs report. */
  private reports = 0;
  /** Whether rsync starts in the source. */
  private readonly isPinned: boolean;
  private readonly renames: RemoteRenames;
  /** The rsync that transfers. */
  private running: Transfer | undefined;
  /** What the rsyncs of the sync that is under way have done. */
  private done = NOTHING;
  /** Whether an rsync can be had that goes on seeing what is mounted. */
  private mayKeepMounts = false;

  constructor(
    private readonly host: Host,
    private readonly source: Source,
    private readonly mounts: Mounts,
    private readonly state: TargetState,
    private readonly connection: Connection,
    private readonly brake: Brake,
  ) {
    this.isPinned = source.prefix === '/' && host.plan.mayPin;
    this.renames = new RemoteRenames({ host, state, connection, prefix: source.prefix });
    mounts.on('changed', () => this.renewRules());
    brake.on('changed', () => this.disarm());
    connection.on('connected', () => {
      this.renames.reset();
      this.arm();
    });
    connection.on('lost', () => this.disarm());
  }

  /** Mirrors a batch, told by an outcome in every case. */
  async send(batch: Batch): Promise<Outcome> {
    const started = performance.now();
    const isWhole = batch.get('')?.tree || this.host.plan.method === 'full';
    const attempt: Attempt = { mode: isWhole ? 'full' : 'incremental', unrepeated: [] };
    this.done = NOTHING;
    const result = await this.transfer(batch, attempt)
      .then(async (sent) => ({ ...sent, status: await this.connection.statusOf(sent.status) }))
      .then(describeSent, describeFailure);
    const outcome = { ...attempt, ...this.done, ...result, seconds: (performance.now() - started) / 1000 };
    await this.brake.record(batch, outcome);
    return outcome;
  }

  /** Starts the rsync of the next batch, unless one waits: it connects now, so that only names are missing when the batch is due. */
  arm(): void {
    const { state, connection, host } = this;
    if (lifecycle.stopping || state.syncing || this.armed || !connection.socket || !host.plan.mayArm) return;
    const started = performance.now();
    const transfer = this.startList(false); // for it may wait for days
    this.armed = transfer;
    const replace = () => {
      if (this.armed !== transfer) return;
      this.armed = undefined;
      const age = performance.now() - started;
      lifecycle.background(lifecycle.pause(age < SHORT_LIFE_MS ? SHORT_LIFE_MS : 0).then(() => this.arm()));
    };
    transfer.rsync.once('exit', replace).once('error', replace);
  }

  /** Ends the rsync that waits: it waits for names and does not notice that its connection is lost. */
  private disarm(): void {
    if (this.armed) signalGroup(this.armed.rsync, 'SIGTERM');
    this.armed = undefined;
  }

  /**
   * Starts an rsync with options that come after the user's.
   * @param format what it reports of each file; names have no place there
   * @param keepsMounts whether it goes on seeing what is mounted if that is unmounted by force
   */
  private startRsync(
    extra: string[],
    { source = this.host.config.SOURCE_DIR, format = '%i', keepsMounts = true } = {},
  ): Transfer {
    const place = this.isPinned ? { from: './', cwd: this.source.base } : { from: source, cwd };
    const report = this.nextReport();
    const options = report ? [`--log-file=${report}`, `--log-file-format=${format}`] : [];
    const rules = this.protection();
    const { limit } = this.brake;
    if (limit < this.host.plan.maxDelete) options.push(`--max-delete=${limit}`);
    const words = [...rules, ...this.brake.words, ...rules]; // the user's may hold one that clears those before
    const args = rsyncArgs(this.host, this.connection.findRoute(), [...extra, ...options], place.from, words);
    const [kept, rsync] = [keepsMounts && this.mayKeepMounts ? this.mounted : [], ['rsync', ...args]];
    const command = kept.length > 0 ? keepMounted(this.source.realRoot, kept, place.cwd, rsync) : rsync;
    const transfer: Transfer = {
      rsync: start(command[0] as string, command.slice(1), { cwd: place.cwd }),
      ...{ totals: {}, rules, limit, isOutdated: false },
    };
    if (report) transfer.rsync.once('close', () => Object.assign(transfer.totals, takeReport(report)));
    return transfer;
  }

  /** Names the file in which rsync may put down what it has done: it goes with the connection. */
  private nextReport(): string | undefined {
    const { socket, directory } = this.connection;
    return socket && directory && this.host.plan.mayReport ? join(directory, `${++this.reports}.log`) : undefined;
  }

  private startList(keepsMounts: boolean): Transfer {
    return this.startRsync(LIST_OPTIONS, { source: this.source.base, keepsMounts });
  }

  /** Where something is mounted that is mirrored; of no interest where nothing is deleted. */
  private get mounted(): string[] {
    return this.host.plan.deletes ? this.mounts.mounted.map((path) => this.source.root + path) : [];
  }

  /** The rules that the mounts need now. */
  private protection(): string[] {
    return this.mounts.rules(this.host.plan.isRelative ? this.source.root : this.source.prefix);
  }

  /** Whether an rsync leaves alone all that must be left alone now. It may leave more alone, which has come back since. */
  private isProtective({ rules }: Transfer): boolean {
    return this.protection().every((rule) => rules.includes(rule));
  }

  /** Whether an rsync that waited is what would be started now. */
  private isUpToDate(armed: Transfer): boolean {
    const { rules, limit } = armed;
    return this.holdsSource(armed) && `${rules}` === `${this.protection()}` && this.brake.suits(limit);
  }

  /** Ends an rsync that might delete the copy of a mount that is gone, and has the next one wait with other rules. */
  private renewRules(): void {
    const { running } = this;
    if (running && this.host.plan.deletes && !this.isProtective(running)) this.abandon(running);
    this.disarm();
    this.arm();
  }

  /** Whether an rsync that was started in the source is in what the source is. */
  private holdsSource({ rsync }: Transfer): boolean {
    return !this.isPinned || this.source.holds(rsync);
  }

  /**
   * Lets a started rsync run to its end.
   * @throws {Failure} where it was started in something else than the source
   */
  private async finish(transfer: Transfer, { names, filter }: { names?: Buffer; filter?: Filter } = {}): Promise<Sent> {
    const { rsync } = transfer;
    if (!this.holdsSource(transfer)) {
      signalGroup(rsync, 'SIGKILL');
      this.source.refuse();
    }
    using _ = holdOpen(this.mounted); // none of them goes any more but by force
    if (!this.isProtective(transfer)) this.abandon(transfer);
    if (rsync.stdout) passOn(rsync.stdout, this.state.name, filter);
    const isLimited = rsync.stderr ? hearLimit(rsync.stderr) : () => false;
    if (rsync.stderr) passOn(rsync.stderr, this.state.name);
    rsync.stdin?.end(names);
    this.running = transfer;
    const status = await exitStatus(rsync);
    this.running = undefined;
    const { totals, limit, isOutdated } = transfer;
    // What the other side has made last may not have been reported where it did not come to its end.
    this.done = addTotals(this.done, isOutdated || !hasRun(status) ? { ...totals, created: undefined } : totals);
    if (isOutdated) throw new Failure('同步期间源目录下的挂载点发生了变化，为保护备份已中止，将重新同步');
    return { status, isCut: limit < this.host.plan.maxDelete && (status === LIMITED || isLimited()) };
  }

  /** Looks often whether a mount has gone while it sends. @throws {Failure} */
  private async transfer(batch: Batch, attempt: Attempt): Promise<Sent> {
    await this.mounts.verify();
    if (this.mounted.length > 0) this.mayKeepMounts = await mayKeepMounted();
    const looking = setInterval(() => this.mounts.refresh(), LOOK_MS);
    try {
      return await this.sendBatch(batch, attempt);
    } finally {
      clearInterval(looking);
    }
  }

  /** Ends an rsync that might delete what it must not. */
  private abandon(transfer: Transfer): void {
    transfer.isOutdated = true;
    signalGroup(transfer.rsync, 'SIGTERM');
  }

  /** Sends a batch by what it allows. @throws {Failure} where the source is not what it was, or would empty the backup */
  private async sendBatch(batch: Batch, attempt: Attempt): Promise<Sent> {
    this.source.check();
    if (batch.get('')?.tree) {
      this.state.moves.clear();
      await this.brake.checkNotEmptied();
      return this.compare();
    }
    await this.repeatMoves(attempt);
    this.source.check(); // the backup may have taken long
    const { method } = this.host.plan;
    const isWhole = method === 'full' || [...batch.keys()].some((path) => this.holdsRules(path));
    const scopes = isWhole ? undefined : await this.source.survey(batch, (path) => this.mounts.isHidden(path));
    const names = scopes && method === 'list' ? listOf(scopes, this.source.prefix) : undefined;
    const rules = scopes && !names ? rulesOf(scopes, this.source.prefix) : undefined;
    if (!scopes || !(names || rules)) {
      attempt.mode = 'full';
      return this.compare();
    }
    return this.sendWeighed(
      () => this.brake.weigh(batch, { options: rules ?? LIST_OPTIONS, names }, scopes),
      () =>
        names
          ? this.sendList(names, mayDelete(scopes, this.mounts.mounted))
          : this.finish(this.startRsync(rules ?? [])),
    );
  }

  /** Compares the whole tree, and deletes no more than may be. @throws {Failure} where the source is not what it was */
  private compare(): Promise<Sent> {
    return this.sendWeighed(
      () => this.brake.weighAll(),
      () => this.sendAll(),
    );
  }

  /** Sends what was weighed, and weighs it again where more has gone meanwhile. @throws {Failure} where that does not end */
  private async sendWeighed(weigh: () => Promise<number | undefined>, send: () => Promise<Sent>): Promise<Sent> {
    for (let times = 0; times < MAX_WEIGHINGS; times++) {
      const status = await weigh();
      this.source.check(); // it may have taken long to ask the backup
      if (status !== undefined) return { status };
      const sent = await send();
      if (!sent.isCut) return sent;
      this.brake.reconsider(this.done);
    }
    throw new Failure('待删除的内容在同步期间不断增多，其余部分保留在备份上，将重新同步');
  }

  /** Whether a file in the source decides what rsync lets in elsewhere. */
  private holdsRules(path: string): boolean {
    const { method, ruleFiles } = this.host.plan;
    const isRuleFile = basename(path) === '.rsync-filter' || ruleFiles.includes(this.source.root + path);
    return method === 'rules' && isRuleFile;
  }

  /**
   * Sends names. An rsync that waited for long may have lost its connection without noticing: that says nothing of the batch.
   * @param reachesMounts whether it has to go on seeing what is mounted, which one that waited would not
   */
  private async sendList(names: Buffer, reachesMounts: boolean): Promise<Sent> {
    const { armed } = this;
    this.armed = undefined;
    const isTooEarly = reachesMounts && this.mayKeepMounts;
    if (armed && (isTooEarly || !this.isUpToDate(armed))) signalGroup(armed.rsync, 'SIGKILL');
    else if (armed && children.has(armed.rsync)) {
      const started = performance.now();
      const sent = await this.finish(armed, { names });
      const isStale = mayBeDisconnected(sent.status) && performance.now() - started < LOST_BEFORE_MS;
      if (!isStale || lifecycle.stopping) return sent;
    }
    return this.finish(this.startList(true), { names });
  }

  /** Compares the whole tree and tells how far it has come. */
  private async sendAll(): Promise<Sent> {
    const { options, filter } = tellingOf(this.host.plan, (progress) => this.state.advance(progress));
    const extra = [...this.host.plan.scanOptions, ...options];
    const telling = setInterval(() => this.state.logProgress(), PROGRESS_MS);
    try {
      const sent = await this.finish(this.startRsync(extra, { format: '' }), { filter });
      return { ...sent, files: this.state.progress?.files };
    } finally {
      clearInterval(telling);
    }
  }

  /** Has the backup rename what was renamed here, but for what lies in mounts that are gone. */
  private repeatMoves(attempt: Attempt): Promise<void> {
    const mayRepeat = ({ from, to }: Move) => !this.mounts.isKept(from) && !this.mounts.isKept(to);
    const moves = this.state.moves.take(this.source.look, this.state.lacking).filter(mayRepeat);
    return this.renames.repeat(moves, attempt);
  }
}
