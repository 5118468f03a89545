/**
 * What rsync would delete on a target, asked without changing anything there.
 *
 *   const { status } = await forecast.ask({ options: LIST_OPTIONS, names }, (path) => tally.add(path));
 */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { lifecycle } from '../service/lifecycle.ts';
import { readLines } from '../service/lines.ts';
import { exitStatus, runWithin, start } from '../service/processes.ts';
import { Failure, lastLine, reasonOf, t } from '../service/text.ts';
import type { Host } from './config.ts';
import { parseDifference, pathBelow } from './differences.ts';
import { Faults } from './faults.ts';
import { temporaryDirectory } from './host-keys.ts';
import type { Link } from './link.ts';
import { LIMITED, limitTalk, meaningOf, outcomeOf, passOn } from './rsync.ts';
import { withoutQuiet } from './rsync-options.ts';
import { LOST_AND_FOUND, type Source } from './source.ts';
import { noteLimits, rsyncArgs, UNREACHABLE } from './ssh.ts';
import { ENDED_MS, Standstill } from './standstill.ts';
import type { TargetState } from './target-state.ts';

/** What rsync is told after the user's options: to change nothing, and to tell all that it would delete. */
const ASK_OPTIONS = [
  ...['--dry-run', '--no-itemize-changes', '--no-human-readable', '--info=none,del,stats2', '--debug=none'],
  ...['--log-file=/dev/null', '--max-delete=2147483647'],
];

/** What rsync is to look at: all of the source, unless names or rules say otherwise. */
export interface Question {
  options: readonly string[];
  /** Names for its standard input. */
  names?: Buffer | undefined;
}

interface Answer {
  status: number;
  /**
   * Whether it has told of all that would be deleted: after an error, on either side, rsync leaves undone all further deletions. A part of
   * them, or none, says nothing of how many there are.
   */
  isWhole: boolean;
  /** How many files the target holds of those that were asked about. */
  present: number | undefined;
}

/** What a forecast is made with. */
interface Parts {
  host: Host;
  source: Pick<Source, 'base' | 'root' | 'prefix' | 'isEmpty'>;
  connection: Pick<Link, 'findRoute' | 'statusOf'>;
  state: Pick<TargetState, 'name' | 'warn' | 'log' | 'stalledSince' | 'voice'>;
  /** The rules by which rsync leaves copies of mounts alone. */
  rules: () => string[];
}

export class Forecast {
  /** What the last rsync has said of what it could not do. */
  faults: Faults | undefined;

  constructor(private readonly parts: Parts) {}

  /**
   * Asks what would be deleted.
   * @param take gets each path below the source; that of a directory ends with a slash
   * @throws {Failure} where a mount has come or gone meanwhile
   */
  async ask({ options, names }: Question, take: (path: string) => void): Promise<Answer> {
    const { host, source, connection } = this.parts;
    const { plan } = host;
    const rules = this.parts.rules();
    const mark = `${randomUUID()} `; // nothing else that rsync prints begins like that
    const words = [...rules, ...withoutQuiet(plan.words), ...rules];
    const extra = [...options, ...ASK_OPTIONS, `--out-format=${mark}%i %n`, ...plan.errorOptions];
    const args = rsyncArgs(host, connection.findRoute(), extra, names && source.base, words);
    const rsync = start('rsync', args, {});
    const told = new DryRunReader(mark, (plan.isRelative ? source.root : source.prefix).slice(1), take);
    readLines(rsync.stdout, (line) => told.read(line));
    const status = await this.outlast(rsync, names);
    if (rules.join('\0') !== this.parts.rules().join('\0'))
      throw new Failure(t`统计待删除的文件时源目录下的挂载点发生了变化，将重新同步`);
    const isWhole = outcomeOf(status) === 'done';
    return { status, isWhole, present: isWhole ? told.present : undefined };
  }

  /** Lets an rsync run to its end; returns its exit status. @throws {Failure} where the backup talks without end */
  private async outlast(rsync: ChildProcess, names: Buffer | undefined): Promise<number> {
    const { host, state } = this.parts;
    const [talk, faults] = [limitTalk(rsync), new Faults(() => undefined)];
    this.faults = faults;
    const hear = (bytes: string) => {
      const shown = faults.read(bytes);
      noteLimits(host, bytes);
      talk.weigh(faults, host.plan);
      return shown;
    };
    if (rsync.stderr) passOn(rsync.stderr, state.name, hear, state.voice.complaints());
    rsync.stdin?.end(names);
    using _ = new Standstill(rsync, { state, isPrompt: !host.plan.comparesContent });
    const status = await exitStatus(rsync);
    await lifecycle.pause(host.peer.settleMs);
    talk.check();
    return status;
  }

  /** Whether the backup holds nothing, as far as it can be told. */
  async isEmpty(): Promise<boolean> {
    const directory = temporaryDirectory(this.parts.host.config);
    try {
      const { exitCode } = await this.compareWith(`${directory}/`);
      return exitCode === 0;
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  /** Refuses to empty the backup: a volume that is not mounted looks empty. @throws {Failure} */
  async checkNotEmptied(): Promise<void> {
    const { plan, config } = this.parts.host;
    if (!plan.deletes || config.ALLOW_EMPTY_SOURCE || !this.parts.source.isEmpty()) return;
    const answer = await this.compareWith(config.SOURCE_DIR);
    const { exitCode, stderr } = answer;
    if (exitCode === 0) return;
    const status = await this.parts.connection.statusOf(exitCode ?? UNREACHABLE);
    const [first = ''] = stderr.trim().split('\n', 1); // the last one says no more than that it has failed
    const reason = t`退出码: ${status}，${exitCode === null ? reasonOf(answer) : lastLine(first)}`;
    if (status !== LIMITED)
      throw new Failure(t`源目录为空，且无法确定备份是否为空 (${reason})，拒绝同步：${meaningOf(status)}`);
    throw new Failure(
      t`源目录为空而备份不为空，为保护备份拒绝同步。请检查源目录的挂载；若确实要清空备份，请设置 ALLOW_EMPTY_SOURCE=true`,
    );
  }

  /** Compares the backup with an empty directory: rsync tells by status 25 that it would have to delete. */
  private async compareWith(empty: string) {
    const { host, connection } = this.parts;
    const question = ['-r', '--delete', '--max-delete=0', '--dry-run', `--exclude=${LOST_AND_FOUND}`];
    const words = [...question, ...host.plan.startWords];
    const answer = await runWithin(ENDED_MS)`rsync ${rsyncArgs(host, connection.findRoute(), [], empty, words)}`;
    noteLimits(host, answer.stderr);
    await lifecycle.pause(host.peer.settleMs);
    return answer;
  }
}

/** Reads what rsync tells of a dry run, line by line. */
export class DryRunReader {
  private listed: number | undefined;
  private created = 0;
  private deleted = 0;

  constructor(
    private readonly mark: string,
    private readonly prefix: string,
    private readonly take: (path: string) => void,
  ) {}

  read(line: string): void {
    if (line.startsWith(this.mark)) this.readChange(line.slice(this.mark.length));
    else if (line.startsWith('Number of files: ')) this.listed = numberIn(line);
    else if (line.startsWith('Number of created files: ')) this.created = numberIn(line);
  }

  private readChange(line: string): void {
    if (!line.startsWith('*')) return;
    const path = parseDifference(line)?.path;
    if (path === undefined) return;
    this.deleted++;
    this.take(pathBelow(path, this.prefix));
  }

  /** How many files there are on the target. */
  get present(): number | undefined {
    return this.listed === undefined ? undefined : this.listed - this.created + this.deleted;
  }
}

/** Reads the number in a line of rsync's statistics: `Number of files: 1,234 (reg: 1,000, …)`. */
const numberIn = (line: string) => Number(line.replace(/ \(.*|\D/g, ''));
