/**
 * One comparison of the source with a target by checksum, in which rsync changes nothing.
 *
 *   const comparison = new Comparison(host, source, []);
 *   const differences = await comparison.run();
 */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { lifecycle } from '../service/lifecycle.ts';
import { readLines } from '../service/lines.ts';
import { exitStatus, start } from '../service/processes.ts';
import { Failure, showPath, t } from '../service/text.ts';
import { UNKNOWN } from './changes.ts';
import { type Host, isDaemon } from './config.ts';
import { statusOf } from './connection.ts';
import { type Differences, parseDifference, pathBelow } from './differences.ts';
import { ECHO, Faults } from './faults.ts';
import { HostKeys } from './host-keys.ts';
import { limitTalk, meaningOf, outcomeOf } from './rsync.ts';
import { withoutQuiet } from './rsync-options.ts';
import { hideRules, keepRules, LIST_OPTIONS, listOf, rulesOf } from './scopes.ts';
import type { Source } from './source.ts';
import { noteLimits, type Route, rsyncArgs } from './ssh.ts';

/** What rsync is told after the user's options: to change nothing, to tell all that it would change, and not to give up. */
const VERIFY_OPTIONS = [
  ...['--dry-run', '--checksum', '--no-itemize-changes', '--no-human-readable', '--info=none,name,del,stats2'],
  ...['--debug=none', '--log-file=/dev/null', '--max-delete=2147483647', '--timeout=0', '--no-append'],
];
/** What is said besides why it failed: what follows from that, and ssh's frames and greetings. */
const NO_REASON =
  /^(rsync error:|rsync: connection unexpectedly closed|@|Warning: Permanently added|kex_exchange_identification:|.*UNKNOWN port 65535)/;
/** How often it is tried to find room at a daemon that takes few rsyncs at a time, and how long after another, ms. */
const [MAX_REFUSALS, ROOM_MS] = [10, 500];
/** How many differences of a target are told at most, and how long their paths may be altogether, characters. */
const MAX_DIFFERENCES = 100_000;
const MAX_PATHS = 50_000_000;
/** How much is told of why it failed, characters. */
const MAX_REASON = 1000;

export class Comparison {
  /** How many files were compared. */
  files: number | undefined;
  /** Differences beyond those that are told. */
  untold = 0;
  /** How long the paths of all differences are together, characters. */
  private length = 0;
  /** Why not everything could be compared. */
  readonly reasons = new Set<string>();
  private readonly hostKeys: HostKeys;
  private readonly words: string[];
  /** What stands before a path of the source in what rsync tells. */
  private readonly prefix: string;

  /** @param missing the mounts below the source that are not there: nothing can be said of their copies */
  constructor(
    private readonly host: Host,
    private readonly source: Source,
    missing: string[],
  ) {
    this.hostKeys = new HostKeys(host.config);
    const prefix = host.plan.isRelative ? source.root : source.prefix;
    this.words = [...keepRules(missing, prefix), ...hideRules(missing, prefix), ...withoutQuiet(host.plan.words)];
    this.prefix = prefix.slice(1);
    for (const path of missing) this.reasons.add(t`挂载点 ${showPath(path)} 没有挂载，其中的内容没有比较`);
  }

  /** Asks what rsync would do, to these paths or to all. @throws {Failure} where it cannot tell */
  async run(paths?: ReadonlyMap<string, unknown>): Promise<Differences> {
    const mark = `${randomUUID()} `; // nothing else that rsync prints begins like that
    const rsync = await this.startRsync([...VERIFY_OPTIONS, `--out-format=${mark}%i %n`], paths);
    const { isCoarse, refusals } = this.host.peer;
    const found: Differences = new Map();
    let said = '';
    let isOld = false;
    readLines(rsync.stdout, (line) => {
      if (line.startsWith(mark)) this.take(line.slice(mark.length), found, paths);
      isOld ||= line.startsWith(`${mark}<f?????????`); // before protocol 29, whatever the difference
      if (!paths && line.startsWith('Number of files: ')) this.files = Number(line.replace(/ \(.*|\D/g, ''));
    });
    const [talk, faults] = [limitTalk(rsync), new Faults(() => undefined)];
    readLines(rsync.stderr, (line) => {
      if (!NO_REASON.test(line) && line !== ECHO) said = line.slice(0, MAX_REASON);
      faults.read(`${line}\n`);
      noteLimits(this.host, line);
      talk.weigh(faults, this.host.plan);
    });
    const status = await exitStatus(rsync);
    talk.check();
    if (this.host.peer.isCoarse !== isCoarse) return this.run(paths);
    if (this.host.peer.refusals > refusals && refusals < MAX_REFUSALS) {
      await lifecycle.pause(ROOM_MS); // an rsync of the service may need it at this moment
      return this.run(paths);
    }
    said = isDaemon(this.host) && faults.refusal ? t`备份端${faults.refusal}` : showPath(said);
    this.checkStatus(await statusOf(status, this.host, () => this.route), said);
    if (!this.files) throw new Failure(t`rsync 没有说明比较了多少文件，请检查 RSYNC_OPTS`);
    if (isOld) throw new Failure(t`rsync 没有说明差异是什么，请检查两端 rsync 版本`);
    return found;
  }

  private take(line: string, found: Differences, paths: ReadonlyMap<string, unknown> | undefined): void {
    const difference = parseDifference(line);
    const path = difference?.path.replace(/(?<=.)\/$/, '');
    if (!difference || !path) return;
    const hasRoom = found.size < MAX_DIFFERENCES && this.length < MAX_PATHS;
    if (!paths) this.length += path.length;
    if (paths?.has(path) ?? hasRoom) found.set(path, difference);
    else if (!paths) this.untold++;
  }

  /** Says what a path is called below the source. */
  below(told: string): string {
    return pathBelow(told, this.prefix);
  }

  private async startRsync(extra: string[], paths?: ReadonlyMap<string, unknown>): Promise<ChildProcess> {
    const { method, prunes, errorOptions, scanOptions } = this.host.plan;
    const { source } = this;
    const batch = new Map([...(paths?.keys() ?? [])].map((path) => [this.below(path), UNKNOWN]));
    const scopes = paths && method !== 'full' && !prunes ? await source.survey(batch, this.host.plan) : undefined;
    const names = scopes && method === 'list' ? listOf(scopes, source.prefix) : undefined;
    const rules = (scopes && !names && rulesOf(scopes, source.prefix)) || [];
    const options = [...extra, ...errorOptions, ...scanOptions, ...(names ? LIST_OPTIONS : rules)];
    const args = rsyncArgs(this.host, this.route, options, names && source.base, this.words);
    const rsync = start('rsync', args, {});
    rsync.stdin?.end(names);
    return rsync;
  }

  /** How ssh gets to the target: nothing is shared. */
  private get route(): Route {
    return isDaemon(this.host) ? {} : { knownHosts: this.hostKeys.refresh() };
  }

  private checkStatus(status: number, said: string): void {
    const kind = outcomeOf(status);
    if (kind === 'done') return;
    const reason = t`${meaningOf(status)} (退出码: ${status})：${said}`;
    if (kind !== 'partial') throw new Failure(reason);
    this.reasons.add(reason);
  }
}
