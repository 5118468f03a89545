/**
 * How a batch is sent to a target: by the rsync that waits there for names, by rules, or by a comparison of all; renames first.
 *
 *   sender.arm();
 *   const outcome = await sender.send(batch);
 */
import { basename } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { Failure, t } from '../service/text.ts';
import type { Beside } from './beside.ts';
import type { Brake } from './brake.ts';
import { ByContent, forgetDates, joined } from './by-content.ts';
import { type Batch, oldestOf } from './changes.ts';
import { type Host, isDaemon } from './config.ts';
import { Errands } from './errands.ts';
import { leaveRoom } from './foothold.ts';
import type { Link } from './link.ts';
import type { Mounts } from './mounts.ts';
import type { Move } from './moves.ts';
import { isAtRisk, isNearRules, RULE_FILE } from './near-rules.ts';
import { Peer } from './peer.ts';
import { Pruning } from './pruning.ts';
import { RemoteRenames } from './remote-renames.ts';
import { Removals } from './removals.ts';
import {
  addTotals,
  describeFailure,
  describeSent,
  hasRun,
  type Mode,
  mayBeDisconnected,
  type Outcome,
  type Sent,
} from './rsync.ts';
import { LIST_OPTIONS, listOf, mayDelete, mayReplace, NO_NAME, rulesOf, type Scopes } from './scopes.ts';
import type { Source } from './source.ts';
import { noteLimits } from './ssh.ts';
import type { TargetState } from './target-state.ts';
import { type Transfer, Transfers } from './transfers.ts';
import { leaveOut, looksAround } from './unsent.ts';
import { Untold } from './untold.ts';
import { Waiting } from './waiting.ts';
import { WholeTree } from './whole-tree.ts';

/** Has an rsync only find out whether it can do its work, and say nothing of what it would do: under --delete-excluded, delete all. */
const PROBE_OPTIONS = ['--dry-run', '--exclude=*', '--no-itemize-changes', '--info=none'];
/** How often a sync is weighed at most where more goes each time than was foreseen. */
const MAX_WEIGHINGS = 5;
/** An rsync that waited, and fails sooner than this with the names it was given, had lost its connection before, ms. */
const LOST_BEFORE_MS = 5000;

/** What is known of a sync while it runs. */
interface Attempt {
  mode: Mode;
  unrepeated: Move[];
}

/** What rsync has to look at, nothing where that is all, and whether names say it. */
interface Surveyed {
  scopes: Scopes | undefined;
  isList: boolean;
  /** What is left of the batch without what was never sent and is gone. */
  rest: Batch;
}

export class Sender {
  /** The rsyncs that wait for names. */
  private readonly waiting: Waiting<Transfer>;
  private readonly errands: Errands;
  private readonly renames: RemoteRenames;
  private readonly untold: Untold;
  private readonly removals: Removals;
  private readonly pruning: Pruning;
  private readonly transfers: Transfers;
  private readonly byContent: ByContent;
  private readonly peer: Peer;
  private readonly wholeTree: WholeTree;

  constructor(
    private readonly host: Host,
    private readonly source: Source,
    private readonly mounts: Mounts,
    private readonly state: TargetState,
    private readonly connection: Link,
    private readonly brake: Brake,
    private readonly beside: Pick<Beside, 'clear' | 'isInTheWayOf' | 'touchesMoves' | 'takeTotals'>,
  ) {
    this.errands = new Errands({ host, state, connection });
    this.renames = new RemoteRenames({ host, state, connection, errands: this.errands, prefix: source.prefix });
    this.transfers = new Transfers({ host, source, mounts, connection, brake, state });
    const { transfers, isHidden } = this;
    this.byContent = new ByContent({ host, source, state, transfers, beside, isHidden });
    this.waiting = new Waiting({
      start: () => this.transfers.startWaiting(),
      mayStart: () => !lifecycle.stopping && connection.socket !== undefined && host.plan.mayArm && !state.isPromoted,
      intervalMs: host.config.SYNC_INTERVAL * 1000,
      room: () => host.peer.room - 1, // one for what cannot wait
      hear: (said) => noteLimits(host, said),
    });
    this.peer = new Peer({ host, state, endWaiting: () => this.waiting.endAll('SIGKILL') }); // by SIGTERM, rsync takes 0.4 s
    if (isDaemon(host)) lifecycle.background(this.waiting.keepUsable((it) => !this.transfers.isCut(it)));
    const { errands } = this;
    this.untold = new Untold(state);
    this.removals = new Removals({ host, source, mounts, state, errands, brake, transfers });
    this.pruning = new Pruning({ host, source, state, removals: this.removals, isHidden: this.isHidden });
    this.wholeTree = new WholeTree({ host, source, state, transfers: this.transfers });
    mounts.on('changed', () => this.renewRules());
    brake.on('changed', () => this.waiting.endAll());
    brake.on('changed', () => state.unsent.doubt());
    connection.on('connected', () => this.begin());
    connection.on('lost', () => this.disarm());
    state.on('demoted', () => this.begin());
    state.on('promoted', () => this.disarm());
  }

  /** Begins with a backup of which nothing is known. */
  private begin(): void {
    this.renames.reset();
    this.byContent.reset();
    this.waiting.reset();
    this.errands.reset();
    if (this.state.mirrored) this.arm();
    else this.waiting.fill(); // all is compared first, and the rest armed afterwards
  }

  /** Ends all that waits. */
  private disarm(): void {
    this.waiting.endAll();
    this.errands.disarm();
  }

  /**
   * Mirrors a batch, told by an outcome in every case.
   * @param ceiling how large a file may be that is mirrored now, bytes; larger ones are left out
   */
  async send(batch: Batch, ceiling?: number): Promise<Outcome> {
    const started = performance.now();
    const isWhole = batch.get('')?.tree || (this.host.plan.method === 'full' && !this.host.plan.unruled);
    const { state } = this;
    state.unsent.name(batch, state.changes.waiting);
    const attempt: Attempt = { mode: isWhole ? 'full' : 'incremental', unrepeated: [] };
    const result = await this.peer.sendWithin(() =>
      this.transfers
        .run(ceiling, () => this.sendBatch(batch, attempt))
        .then(async (sent) => ({ ...sent, status: await this.connection.statusOf(sent.status) }))
        .then(describeSent, describeFailure),
    );
    const { leftOut } = this.transfers;
    const done = addTotals(this.transfers.done, this.beside.takeTotals());
    const outcome = { ...attempt, ...done, leftOut, ...result, seconds: (performance.now() - started) / 1000 };
    await this.brake.record(batch, outcome);
    state.unsent.end(outcome, state.held === undefined && state.unmirrored.size === 0);
    return outcome;
  }

  /** Whether an rsync that mirrors nothing comes to a good end, so that one that does not has met with something that it cannot mirror. */
  async answers(): Promise<boolean> {
    const trying = this.transfers.run(undefined, () => this.transfers.finish(this.transfers.start(PROBE_OPTIONS)));
    return trying.then(
      ({ status }) => hasRun(status),
      () => false,
    );
  }

  /** Starts the rsyncs of the next batches, unless they wait: they connect now, so that only names are missing when a batch is due. */
  arm(): void {
    if (this.state.isPromoted) return;
    this.errands.arm();
    this.waiting.fill();
  }

  /** Ends an rsync that might delete the copy of a mount that is gone, and has the next one wait with other rules. */
  private renewRules(): void {
    this.transfers.checkRunning();
    this.waiting.endAll();
    this.arm();
  }

  /** Sends a batch by what it allows. @throws {Failure} where the source is not what it was, or would empty the backup */
  private async sendBatch(batch: Batch, attempt: Attempt): Promise<Sent> {
    this.source.check();
    this.host.plan.refresh();
    if (batch.get('')?.tree) {
      await this.beside.clear();
      this.state.moves.clear();
      await this.brake.checkNotEmptied();
      return this.compare(batch);
    }
    await this.repeatMoves(batch, attempt);
    this.source.check(); // the backup may have taken long
    const hasNewRules = [...batch.keys()].some((path) => this.holdsRules(path));
    if (hasNewRules) this.brake.distrust(); // they may exclude what --delete-excluded would delete
    const nowhere = { scopes: undefined, isList: false, rest: batch };
    const { scopes, isList, rest } = hasNewRules ? nowhere : await this.surveyClear(batch);
    if (scopes && rest.size === 0 && this.state.up) return this.defer(batch, scopes);
    const names = scopes && isList ? listOf(scopes, this.source.prefix) : undefined;
    const mayHaveRules = scopes && !names && this.host.plan.mayLeaveOut && !isAtRisk(this.source, scopes);
    const rules = mayHaveRules ? rulesOf(scopes, this.source.prefix) : undefined;
    if (!scopes || !(names || rules)) {
      attempt.mode = 'full';
      return this.compare(batch);
    }
    if (rules) this.state.unsent.cover();
    if (rules) await this.beside.clear();
    const sent = await this.sendWeighed(
      () => this.brake.weigh(rest, { options: rules ?? LIST_OPTIONS, names }),
      () => (names ? this.sendNames(batch, scopes) : this.transfers.finish(this.transfers.start(rules ?? []))),
    );
    return this.sendByContent(rest, sent);
  }

  /** Sends nothing now, for a target lacks nothing but the time of directories. */
  private defer(batch: Batch, scopes: Scopes): Sent {
    const since = Math.min(oldestOf(batch), performance.now());
    const directories = [...scopes.keys()].map((path) => (path === NO_NAME ? '' : path));
    this.state.later.defer(directories, since);
    return { status: 0 };
  }

  /** Finds what rsync has to look at for a batch, once nothing is on its way that it might touch, and events have told of what has gone. */
  private async surveyClear(batch: Batch): Promise<Surveyed> {
    let surveyed = await this.survey(batch);
    if (surveyed.scopes && (await this.untold.putBack(batch, surveyed.scopes))) surveyed = await this.survey(batch);
    if (!surveyed.scopes || !this.beside.isInTheWayOf(surveyed.scopes)) return surveyed;
    await this.beside.clear();
    return this.survey(batch);
  }

  /** Has the backup delete by name what it can, and sends the names of the rest. @throws {Failure} where the source is not what it was */
  private async sendNames(batch: Batch, scopes: Scopes): Promise<Sent> {
    const rest = await this.removals.remove(batch, scopes);
    this.pruning.check(rest);
    const { unsent, changes } = this.state;
    unsent.name(rest, changes.waiting);
    if (looksAround(rest)) unsent.cover();
    const { mounted, files } = this.mounts;
    return this.sendList(listOf(rest, this.source.prefix), mayReplace(rest, mounted, files));
  }

  /** Finds what rsync has to look at, if that is not all, and whether names say it: also where no rules are near that stand in the source. */
  private async survey(batch: Batch): Promise<Surveyed> {
    const { plan } = this.host;
    const [{ unruled, method }, { isHidden }] = [plan, this];
    const mayList = (found: Scopes) => plan.mayDeleteByNames || !mayDelete(found);
    const listed = unruled && (await this.source.survey(batch, { ...plan, filters: unruled, isHidden }));
    if (listed && mayList(listed) && !isNearRules(this.source, batch.keys(), listed))
      return { scopes: listed, isList: true, rest: batch };
    const nowhere = { scopes: undefined, isList: false, rest: batch };
    const all = method === 'full' ? undefined : await this.source.survey(batch, { ...plan, isHidden });
    if (!all) return nowhere;
    const { prefix } = this.source;
    const { scopes, batch: rest } = leaveOut(this.state.unsent, { plan, prefix }, batch, all);
    if (!(await this.pruning.suits(batch, scopes))) return nowhere;
    return { scopes, isList: method === 'list' && mayList(scopes), rest };
  }

  /**
   * Compares the whole tree, and deletes no more than may be. What is to be compared by content goes first, or rsync would take it for
   * the other names of a file; and once more, for the tree may have kept it from being sent.
   * @throws {Failure} where the source is not what it was
   */
  private async compare(batch: Batch): Promise<Sent> {
    this.state.unsent.cover();
    await this.beside.clear();
    await this.byContent.send(batch);
    const sent = await this.sendWeighed(
      () => this.brake.weighAll(batch),
      () => this.wholeTree.send(),
    );
    return this.sendByContent(batch, sent);
  }

  /** Sends of a batch whose rest was sent what only its content tells. @throws {Failure} where the source is not what it was */
  private async sendByContent(batch: Batch, sent: Sent): Promise<Sent> {
    if (!hasRun(sent.status)) return sent;
    if ([...batch.values()].some(({ dated }) => dated > 0)) this.state.unsent.cover(); // it looks at whole directories, too
    return joined(sent, await this.byContent.send(batch));
  }

  /** Sends what was weighed, and weighs it again where more has gone meanwhile. @throws {Failure} where that does not end */
  private async sendWeighed(weigh: () => Promise<number | undefined>, send: () => Promise<Sent>): Promise<Sent> {
    for (let times = 0; times < MAX_WEIGHINGS; times++) {
      const status = await weigh();
      this.source.check(); // it may have taken long to ask the backup
      if (status !== undefined) return failedWith(status, this.brake.faults());
      const sent = await send();
      if (!sent.isCut) return sent;
      this.brake.reconsider(this.transfers.done);
    }
    throw new Failure(t`待删除的内容在同步期间不断增多，其余部分保留在备份上，将重新同步`);
  }

  /** Whether rsync is not to see a path. */
  private readonly isHidden = (path: string) => this.mounts.isHidden(path) || this.state.unmirrored.isHidden(path);

  /** Whether a file in the source decides what rsync lets in elsewhere. */
  private holdsRules(path: string): boolean {
    const { method, ruleFiles } = this.host.plan;
    const isForDirectory = method !== 'list' && basename(path) === RULE_FILE;
    return isForDirectory || ruleFiles.includes(this.source.root + path);
  }

  /**
   * Sends names. An rsync that waited for long may have lost its connection without noticing: that says nothing of the batch.
   * @param reachesMounts whether it has to go on seeing what is mounted, which one that waited would not
   */
  private async sendList(names: Buffer, reachesMounts: boolean): Promise<Sent> {
    const isTooEarly = (reachesMounts && this.transfers.mayKeepMounts) || !leaveRoom(names);
    const armed = isTooEarly ? undefined : this.waiting.take((it) => this.transfers.isUpToDate(it));
    if (armed) {
      const started = performance.now();
      const sending = this.transfers.finish(armed, { names, mayBeLost: isDaemon(this.host) });
      if (this.waiting.isPressed) this.arm();
      const sent = await sending;
      this.waiting.noteWork(performance.now() - started);
      const isStale = mayBeDisconnected(sent.status) && performance.now() - started < LOST_BEFORE_MS;
      if (!isStale || lifecycle.stopping) return sent;
      this.waiting.endAll(); // nor have the others noticed
    }
    return this.transfers.finish(this.transfers.startList(), { names });
  }

  /** Has the backup rename what was renamed here, but for what lies in mounts that are gone. */
  private async repeatMoves(batch: Batch, attempt: Attempt): Promise<void> {
    const { filters } = this.host.plan;
    const isLeftAlone = (path: string) => this.mounts.isKept(path) || this.isHidden(path);
    const mayMove = (path: string, isDirectory: boolean) =>
      !isLeftAlone(path) && filters?.leavesAlone(this.source.prefix.slice(1) + path, isDirectory) !== false;
    const mayRepeat = ({ from, to }: Move) => {
      const isDirectory = this.source.look(to)?.isDirectory() === true;
      return mayMove(from, isDirectory) && mayMove(to, isDirectory);
    };
    if (this.beside.touchesMoves()) await this.beside.clear();
    const moves = this.state.moves.take(this.source.look, this.state.lacking).filter(mayRepeat);
    const isRepeated = await this.renames.repeat(moves, attempt);
    if (isRepeated)
      forgetDates(
        batch,
        moves.map(({ to }) => to),
      ); // what the target had has gone along
  }
}

/** What comes of a sync where an rsync could not say what it would delete. */
const failedWith = (status: number, faults: Sent['faults']): Sent => ({ status, ...(faults && { faults }) });
