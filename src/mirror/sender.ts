/**
 * How a batch is sent to a target: by the rsync that waits there for names, by rules, or by a comparison of all; renames first.
 *
 *   sender.arm();
 *   const outcome = await sender.send(batch);
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { basename, join } from 'node:path';
import { quote } from 'shlex';
import { lifecycle } from '../service/lifecycle.ts';
import { drawLine, drawsLines } from '../service/log.ts';
import { children, cwd, exitStatus, run, signalGroup, start, tailOf } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { escapeText, Failure, lastLine, reasonOf } from '../service/text.ts';
import { ALL, type Batch } from './changes.ts';
import { type Host, loginOf } from './config.ts';
import type { Connection } from './connection.ts';
import type { Move } from './moves.ts';
import { describeProgress, type Progress, progressFilter } from './progress.ts';
import {
  type Mode,
  mayBeDisconnected,
  type Outcome,
  outcomeOf,
  passOn,
  type Totals,
  takeReport,
  UNREACHABLE,
} from './rsync.ts';
import { LIST_OPTIONS, listOf, rulesOf } from './scopes.ts';
import { LOST_AND_FOUND, type Source } from './source.ts';
import { rsyncArgs, sshArgs } from './ssh.ts';
import type { TargetState } from './target-state.ts';

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
}

/** What came of an rsync. */
interface Sent extends Totals {
  status: number;
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
  /** Whether the backup knows how to rename, as far as it has been asked. */
  private canRename = true;

  constructor(
    private readonly host: Host,
    private readonly source: Source,
    private readonly state: TargetState,
    private readonly connection: Connection,
  ) {
    this.isPinned = source.prefix === '/' && host.plan.mayPin;
    connection.on('connected', () => {
      this.canRename = true;
      this.arm();
    });
    connection.on('lost', () => this.disarm());
  }

  /** Mirrors a batch, told by an outcome in every case. */
  async send(batch: Batch): Promise<Outcome> {
    const started = performance.now();
    const isWhole = batch.get('')?.tree || this.host.plan.method === 'full';
    const attempt: Attempt = { mode: isWhole ? 'full' : 'incremental', unrepeated: [] };
    const result = await this.transfer(batch, attempt).then(describeSent, describeFailure);
    return { ...attempt, ...result, seconds: (performance.now() - started) / 1000 };
  }

  /** Compares the whole tree. */
  compareAll(): Promise<Outcome> {
    return this.send(ALL);
  }

  /** Starts the rsync of the next batch: it connects now, so that only names are missing when the batch is due. */
  arm(): void {
    const { state, connection, host } = this;
    if (lifecycle.stopping || state.syncing || this.armed || !connection.socket || !host.plan.mayArm) return;
    const started = performance.now();
    const transfer = this.startList();
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

  /** @param format what rsync reports of each file; names have no place there */
  private startRsync(extra: string[], source?: string, format = '%i'): Transfer {
    const place = this.isPinned ? { from: './', cwd: this.source.base } : { from: source, cwd };
    const report = this.nextReport();
    const options = report ? [`--log-file=${report}`, `--log-file-format=${format}`] : [];
    const args = rsyncArgs(this.host, this.connection.findRoute(), [...extra, ...options], place.from);
    const transfer: Transfer = { rsync: start('rsync', args, { cwd: place.cwd }), totals: {} };
    if (report) transfer.rsync.once('close', () => Object.assign(transfer.totals, takeReport(report)));
    return transfer;
  }

  /** Where rsync may put down what it has done: it goes with the connection. */
  private nextReport(): string | undefined {
    const { socket, directory } = this.connection;
    return socket && directory && this.host.plan.mayReport ? join(directory, `${++this.reports}.log`) : undefined;
  }

  private startList(): Transfer {
    return this.startRsync(LIST_OPTIONS, this.source.base);
  }

  private holdsSource({ rsync }: Transfer): boolean {
    return !this.isPinned || this.source.holds(rsync);
  }

  /**
   * Lets a started rsync run to its end, with names on its standard input.
   * @throws {Failure} where it was started in something else than the source
   */
  private async finish(transfer: Transfer, names?: Buffer, filter?: (bytes: string) => string): Promise<Sent> {
    const { rsync } = transfer;
    if (!this.holdsSource(transfer)) {
      signalGroup(rsync, 'SIGKILL');
      this.source.refuse();
    }
    if (rsync.stdout) passOn(rsync.stdout, this.state.name, filter);
    if (rsync.stderr) passOn(rsync.stderr, this.state.name);
    rsync.stdin?.end(names);
    const status = await exitStatus(rsync);
    return { status, ...transfer.totals };
  }

  /** @throws {Failure} where the source is not what it was, or would empty the backup */
  private async transfer(batch: Batch, attempt: Attempt): Promise<Sent> {
    this.source.check();
    if (batch.get('')?.tree) {
      this.state.moves.clear();
      await this.checkNotEmptied();
      return this.sendAll();
    }
    attempt.unrepeated = await this.repeatMoves();
    this.source.check(); // the backup may have taken long
    const { method } = this.host.plan;
    const isWhole = method === 'full' || [...batch.keys()].some((path) => this.holdsRules(path));
    const scopes = isWhole ? undefined : await this.source.survey(batch);
    if (scopes && method === 'list') return this.sendList(listOf(scopes, this.source.prefix));
    const rules = scopes && rulesOf(scopes, this.source.prefix);
    if (rules) return this.finish(this.startRsync(rules));
    attempt.mode = 'full';
    return this.sendAll();
  }

  /** Whether a file in the source decides what rsync lets in elsewhere. */
  private holdsRules(path: string): boolean {
    const { method, ruleFiles } = this.host.plan;
    const isRuleFile = basename(path) === '.rsync-filter' || ruleFiles.includes(this.source.root + path);
    return method === 'rules' && isRuleFile;
  }

  /** Sends names. An rsync that waited for long may have lost its connection without noticing: that says nothing of the batch. */
  private async sendList(names: Buffer): Promise<Sent> {
    const { armed } = this;
    this.armed = undefined;
    if (armed && !this.holdsSource(armed)) signalGroup(armed.rsync, 'SIGKILL');
    else if (armed && children.has(armed.rsync)) {
      const started = performance.now();
      const sent = await this.finish(armed, names);
      const isStale = mayBeDisconnected(sent.status) && performance.now() - started < LOST_BEFORE_MS;
      if (!isStale || lifecycle.stopping) return sent;
    }
    return this.finish(this.startList(), names);
  }

  /** Compares the whole tree and tells how far it has come. */
  private async sendAll(): Promise<Sent> {
    const { scanOptions, mayProgress } = this.host.plan;
    const filter = mayProgress ? progressFilter((progress) => this.showProgress(progress)) : undefined;
    const extra = [...scanOptions, ...(mayProgress ? ['--info=progress2'] : [])];
    const telling = setInterval(() => this.logProgress(), PROGRESS_MS);
    try {
      const sent = await this.finish(this.startRsync(extra, undefined, ''), undefined, filter);
      return { ...sent, files: this.state.progress?.files };
    } finally {
      clearInterval(telling);
    }
  }

  private showProgress(progress: Progress): void {
    this.state.progress = progress;
    touch();
    if (drawsLines) drawLine(describeProgress(progress));
  }

  private logProgress(): void {
    const { progress } = this.state;
    if (progress && !drawsLines) this.state.log('sync.progress', describeProgress(progress), { ...progress });
  }

  /** A volume that is not mounted looks like an empty source. rsync tells by status 25 that it would have to delete. @throws {Failure} */
  private async checkNotEmptied(): Promise<void> {
    const { plan, config } = this.host;
    if (!plan.deletes || config.ALLOW_EMPTY_SOURCE || !this.source.isEmpty()) return;
    const words = ['-r', '--delete', '--max-delete=0', '--dry-run', `--exclude=${LOST_AND_FOUND}`];
    const probe = rsyncArgs(this.host, this.connection.findRoute(), [], config.SOURCE_DIR, words);
    const { exitCode, stderr } = await run`rsync ${probe}`;
    const kind = outcomeOf(exitCode ?? UNREACHABLE);
    if (kind === 'done') return;
    const reason = `退出码: ${exitCode}，${escapeText(stderr.trim().split('\n')[0] ?? '')}`;
    if (kind !== 'limited') throw new Failure(`源目录为空，且无法确定备份是否为空 (${reason})，拒绝同步`);
    throw new Failure(
      '源目录为空而备份不为空，为保护备份拒绝同步。请检查源目录的挂载；若确实要清空备份，请设置 ALLOW_EMPTY_SOURCE=true',
    );
  }

  /**
   * Has the backup rename what was renamed here. Whatever comes of it, the batch then mirrors both places.
   * @returns the renames that it could not be asked for
   */
  private async repeatMoves(): Promise<Move[]> {
    const moves = this.state.moves.take(this.source.look, this.state.lacking);
    if (moves.length === 0 || !this.host.plan.mayRename || !this.canRename) return [];
    const { status, renamed, said } = await this.rename(moves);
    if (status === UNREACHABLE) return moves;
    if (status !== 0) {
      this.canRename = false;
      this.state.log('sync.rename_refused', `目标不支持重命名 (${said})，移动的内容将再次传输`);
    } else if (renamed > 0) {
      this.state.log('sync.renamed', `已在目标上重命名 ${renamed} 项，无需再次传输`, { renamed });
    }
    return [];
  }

  private async rename(moves: Move[]): Promise<{ status: number; renamed: number; said: string }> {
    const command = `start-sshd --rename ${quote(this.host.directory)}`;
    const args = [...sshArgs(this.host, this.connection.findRoute()), loginOf(this.host), command];
    const ssh = start('ssh', args, {});
    const prefix = this.source.prefix.slice(1);
    const names = moves.flatMap(({ from, to }) => [from, to]).map((path) => `${prefix}${path}\0`);
    ssh.stdin?.end(names.join(''), 'latin1');
    const [renamed, said] = [tailOf(ssh.stdout), tailOf(ssh.stderr)];
    const [code] = await once(ssh, 'close');
    return { status: code ?? UNREACHABLE, renamed: Number(renamed()), said: lastLine(said()) };
  }
}

const describeSent = (sent: Sent) => ({ ...sent, kind: outcomeOf(sent.status) });

/** A sync that was not let run says nothing of rsync; one that could not be started, for lack of memory for example, has the shell's status for it. */
function describeFailure(cause: unknown) {
  if (cause instanceof Failure) return { kind: 'failed' as const, status: null, reason: cause.message };
  return { kind: 'failed' as const, status: 126, reason: `无法启动 rsync：${reasonOf(cause)}` };
}
