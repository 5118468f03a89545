/**
 * What the service tells of itself, what is wrong with it, and how --healthcheck and --status say so.
 *
 *   judge(readStatus(), Date.now()); // { healthy: true, line: '健康: 正在实时镜像，落后 0 秒' }
 */
import { hostname } from 'node:os';
import { version } from '../../package.json';
import type { Sighting } from '../service/incidents.ts';
import { language } from '../service/language.ts';
import type { Aside } from '../service/report-words.ts';
import { backupCommand } from '../service/source-names.ts';
import { ageOf, complaints, describeComplaints, describeProgram, readStatusFile } from '../service/status.ts';
import { escapeText, Failure, inUnits, localTime, reasonOf, t, table } from '../service/text.ts';
import type { Announcer } from './announcer.ts';
import { type Config, variables } from './config.ts';
import type { Mounts } from './mounts.ts';
import { describeProgress } from './progress.ts';
import type { Source } from './source.ts';
import type { SourceGuard } from './source-guard.ts';
import type { TargetState } from './target-state.ts';
import { describeReason } from './unwatched.ts';
import type { Watch } from './watch.ts';

/** `syncing` is the phase of the first full sync. */
export type Phase = 'starting' | 'syncing' | 'mirroring' | 'stopped';

/** The parts of the service, each of which reports for itself. */
export interface Parts {
  config: Config;
  source: Source;
  guard: SourceGuard;
  mounts: Mounts;
  watch: Watch;
  targets: TargetState[];
  announcer: Announcer;
}

/** The service as a whole. */
export class Service {
  phase: Phase = 'starting';
  readonly started = new Date();

  constructor(private readonly parts: Parts) {}

  /** All that there is to be told, with what is wrong, as the status file and the page have it. */
  report() {
    const status = this.describe();
    return { ...status, problems: problemsOf(status) };
  }

  /** Pulls the state from all parts. */
  describe() {
    const { config, mounts, watch, targets, announcer } = this.parts;
    const watching = watch.report();
    return {
      program: 'rsync-inotify',
      version,
      pid: process.pid,
      host: hostname(),
      started: this.started.toISOString(),
      updated: new Date().toISOString(),
      phase: this.phase,
      source: config.SOURCE_DIR,
      source_name: config.SOURCE_NAME || null,
      source_found: this.isSourceFound,
      source_moved: this.isMoving(),
      mounts: mounts.report(),
      max_lag_seconds: config.MAX_LAG && config.MAX_LAG + config.SYNC_INTERVAL,
      watch: { ...watching, running: watching.running && this.phase !== 'stopped' },
      targets: targets.map((target) => target.report()),
      changes: announcer.report(),
      language,
      omitted: announcer.reportOmitted(),
      errors: complaints,
    };
  }

  /** Whether the source is there, and what was mirrored before. */
  get isSourceFound(): boolean {
    return this.parts.source.isFound && this.parts.source.refusal === undefined;
  }

  /** How many file systems below the source are gone. */
  get missingMounts(): number {
    return this.parts.mounts.report().length;
  }

  /** Whether the source has moved, and a target has not been compared as a whole since. */
  private isMoving(): boolean {
    const { movedAt } = this.parts.guard;
    return movedAt !== undefined && this.parts.targets.some(({ comparedAt }) => comparedAt < movedAt);
  }
}

export type Status = ReturnType<Service['describe']>;

interface Problem {
  problem:
    | 'stopped'
    | 'stale'
    | 'starting'
    | 'source'
    | 'moved'
    | 'mount'
    | 'deletions'
    | 'promoted'
    | 'pause'
    | 'rivals'
    | 'watcher'
    | 'target_down'
    | 'failed'
    | 'stalled'
    | 'lag';
  target?: string;
  mount?: string;
}

/** How long something may have failed until that is a problem, seconds: most of it is over by then. */
const FAILED_SECONDS = 30;
/** How much longer than it should a pause may last until that is a problem, seconds. */
const OVERDUE_SECONDS = 30;

/** Finds what is wrong, nothing where the mirror works. In a target's first full sync changes wait for its end, however long it takes. */
export function problemsOf(status: Status, now = Date.parse(status.updated)): Problem[] {
  const { phase, max_lag_seconds: limit } = status;
  if (phase === 'stopped') return [{ problem: 'stopped' }];
  if (ageOf(status, now).isStale) return [{ problem: 'stale' }];
  const source: Problem[] = status.source_found === false ? [{ problem: 'source' }] : [];
  if (phase === 'starting') return [{ problem: 'starting' }, ...source];
  const isLate = ({ oldest_pending, mirrored, state, pause, resumed }: Status['targets'][0]) =>
    limit > 0 &&
    Math.min(lagOf(oldest_pending, now), resumed ? lagOf(resumed, now) : limit + 1) > limit &&
    !pause &&
    !['paused', 'promoted'].includes(state) &&
    (mirrored || state !== 'syncing');
  const isFailing = ({ up, failed }: Status['targets'][0]) => up && lagOf(failed?.since ?? null, now) > FAILED_SECONDS;
  return [
    ...source,
    ...(status.source_moved ? [{ problem: 'moved' } as const] : []),
    ...(status.mounts ?? []).map(({ path }) => ({ problem: 'mount', mount: path }) as const),
    ...status.targets.filter(({ held }) => held).map(({ target }) => ({ problem: 'deletions', target }) as const),
    ...status.targets
      .filter(({ promoted }) => promoted)
      .map(({ target }) => ({ problem: 'promoted', target }) as const),
    ...status.targets
      .filter(({ rivals }) => rivals?.length > 0)
      .map(({ target }) => ({ problem: 'rivals', target }) as const),
    ...status.targets
      .filter(({ pause }) => pause && lagOf(pause.until, now) > OVERDUE_SECONDS)
      .map(({ target }) => ({ problem: 'pause', target }) as const),
    ...(status.watch.running ? [] : [{ problem: 'watcher' } as const]),
    ...status.targets.filter(({ up }) => !up).map(({ target }) => ({ problem: 'target_down', target }) as const),
    ...status.targets.filter(isFailing).map(({ target }) => ({ problem: 'failed', target }) as const),
    ...status.targets.filter(({ stalled }) => stalled).map(({ target }) => ({ problem: 'stalled', target }) as const),
    ...status.targets.filter(isLate).map(({ target }) => ({ problem: 'lag', target }) as const),
  ];
}

/** Says how long a change has been waiting, seconds. */
const lagOf = (oldest: string | null, now: number) => (oldest ? Math.max(0, (now - Date.parse(oldest)) / 1000) : 0);

/** Says how long the oldest change of all targets has been waiting, seconds. */
const longestLag = ({ targets }: Status, now: number) =>
  Math.round(Math.max(0, ...targets.map(({ oldest_pending }) => lagOf(oldest_pending, now))));

/** Puts what is wrong into words. */
export function sightingsOf(status: Status, now = Date.parse(status.updated)): Sighting[] {
  const words: Record<Problem['problem'], string> = {
    starting: t`正在启动，还没有开始镜像`,
    stopped: t`服务已停止`,
    stale: t`状态已过期 ${ageOf(status, now).age} 秒，服务可能已不在运行`,
    source: t`源目录 ${status.source} 不见了或被替换`,
    moved: t`源目录指向了新的位置，正在重新同步`,
    mount: t`挂载点不见了，它在备份上的内容保持不变:`,
    deletions: t`删除过多，已暂缓，确认后请执行 rsync-inotify --accept-deletions:`,
    promoted: t`备份端已接管，不接收镜像，直到在备份端执行 ${backupCommand('--demote', status.source_name)}:`,
    pause: t`暂停应已结束，却仍未继续同步，请执行 rsync-inotify --resume:`,
    rivals: t`另一个 rsync-inotify 也在镜像到目标，请只保留一个:`,
    watcher: t`监控进程不在运行，正在重新启动`,
    target_down: t`无法连接目标`,
    failed: t`有内容无法同步，见 --status 和日志:`,
    stalled: t`同步没有任何进展，请检查备份端的磁盘:`,
    lag: t`落后 ${longestLag(status, now)} 秒，超过了 ${status.max_lag_seconds} 秒 (MAX_LAG + SYNC_INTERVAL):`,
  };
  return problemsOf(status, now).map(({ problem, target, mount: part }) => ({
    ...{ problem, target, part, text: words[problem] },
  }));
}

/** Says in a line whether the mirror works, or why not. */
export function judge(status: Status, now = Date.parse(status.updated)): { healthy: boolean; line: string } {
  const reasons = sightingsOf(status, now).map(({ text, target, part }) =>
    [text, target, part].filter(Boolean).join(' '),
  );
  if (reasons.length > 0) return { healthy: false, line: t`不健康: ${reasons.join(t`；`)}` };
  const pause = pauseOf(status);
  if (pause) return { healthy: true, line: t`健康: 已按要求暂停同步，到 ${localTime(pause.until)} 为止，继续监控` };
  if (status.targets.some(({ state }) => state === 'paused'))
    return { healthy: true, line: t`健康: 正在恢复源目录，暂停同步` };
  if (status.phase === 'syncing') return { healthy: true, line: t`健康: 正在进行首次全量同步` };
  return { healthy: true, line: t`健康: 正在实时镜像，落后 ${longestLag(status, now)} 秒` };
}

/** Finds the pause that an operator has asked for, which is the same for all targets. */
const pauseOf = ({ targets }: Status) => targets.find(({ pause }) => pause)?.pause;

/** Says with reports that a pause is on: what is wrong meanwhile may be meant. */
export function asideOf(status: Status): Aside | undefined {
  const pause = pauseOf(status);
  if (!pause) return undefined;
  const { since, until } = pause;
  return {
    line: t`已按要求暂停同步，到 ${localTime(until)} 为止，继续监控`,
    fields: { paused_since: since, paused_until: until },
  };
}

/** Reads what the running service says of itself. @throws {NoStatus} */
export const readStatus = () => readStatusFile<Status>('rsync-inotify', String(variables.STATUS_FILE.default));

/** Answers --status. @throws {Failure} */
export function tellStatus(): string {
  const status = readStatus();
  try {
    return showStatus(status);
  } catch (cause) {
    throw new Failure(t`状态来自版本 ${escapeText(String(status.version))}，无法显示：${reasonOf(cause)}`);
  }
}

const STATES = {
  idle: t`空闲`,
  waiting: t`等待`,
  syncing: t`同步中`,
  retrying: t`重试中`,
  down: t`无法连接`,
  paused: t`已暂停`,
  promoted: t`备份端已接管`,
};

/** Says what is held back on a target, and how to let it through. */
function showHeld({ count, directories, since }: NonNullable<Status['targets'][0]['held']>): string {
  const most = directories.map(({ path, count: files }) => `${path} (${files})`).join(t`、`);
  return t`自 ${localTime(since)} 起暂缓删除 ${count} 个文件，主要位于 ${most}；确认后请执行 rsync-inotify --accept-deletions`;
}

/** Says since when and until when nothing is sent, and how to go on. */
const showPause = (pause: Status['targets'][0]['pause'] | undefined): string[] =>
  pause
    ? [
        t`自 ${localTime(pause.since)} 起按要求暂停同步，到 ${localTime(pause.until)} 为止；提前继续请执行 rsync-inotify --resume`,
      ]
    : [];

/** Says what fails by itself, and since when. */
function showFailed({ count, since, paths }: NonNullable<Status['targets'][0]['failed']>): string {
  const some = paths.map(({ path, reason }) => `${path} (${reason})`).join(t`、`);
  return t`自 ${localTime(since)} 起有 ${count} 个路径无法同步：${some}`;
}

/** Says which options it has besides, what each change costs because of options, and for how long the backup keeps older versions. */
function showTraits(traits: Status['targets'][0]): string[] {
  const { target, costly_options: options, history_days: days, rsync_options: own } = traits;
  const costly = t`RSYNC_OPTS 中的选项 ${options?.join(' ')} 不能逐个文件执行，每次变化都进行全量同步`;
  return [
    ...(own ? [t`${target} 另加的 rsync 选项（DEST_RSYNC_OPTS）: ${own}`] : []),
    ...(options?.length > 0 ? [`${target} ${costly}`] : []),
    ...(days ? [t`${target} 备份端保留 ${days} 天内的旧版本 (HISTORY_DAYS)`] : []),
  ];
}

/** Lists what cannot be watched, as far as it is told by name. */
function showUnwatched({ count, places }: Status['watch']['unwatched']): string[] {
  if (count === 0) return [];
  const told = places.map(
    ({ path, reason, since }) => t`  ${path}：${describeReason(reason)}，自 ${localTime(since)} 起`,
  );
  return [t`无法监控 ${count} 处，其中的变化由全量同步镜像：`, ...told, ...(count > places.length ? ['  …'] : [])];
}

/** Tells what the log has left out since the start, if anything. */
function showOmitted({ omitted }: Status): string[] {
  const { changes = 0, syncs = 0, lines = 0, tries = 0 } = omitted ?? {};
  if (changes + syncs + lines + tries === 0) return [];
  return [t`日志中未逐条列出: ${changes} 处文件变化，${syncs} 次成功的同步，${lines} 行 rsync 输出，${tries} 次重试`];
}

/** Shows the state as a table for people. */
function showStatus(status: Status): string {
  const now = Date.now();
  const { watch, targets } = status;
  const rows = targets.map((target) => [
    target.target,
    STATES[target.state],
    t`${Math.round(lagOf(target.oldest_pending, now))}秒`,
    String(target.pending),
    target.last_success ? localTime(target.last_success) : '–',
    `${target.syncs.full.success + target.syncs.incremental.success}/${target.syncs.full.failure + target.syncs.incremental.failure}`,
    inUnits(target.bytes),
  ]);
  const lines = [
    describeProgram(status),
    judge(status, now).line,
    ...(status.source_name ? [t`源端名称: ${status.source_name}`] : []),
    t`源目录: ${status.source}，监控 ${watch.directories} 个目录，${watch.events} 个事件，重启 ${watch.restarts} 次，溢出 ${watch.overflows} 次`,
    ...showUnwatched(watch.unwatched),
    '',
    ...table([[t`目标`, t`状态`, t`落后`, t`待同步`, t`最近成功`, t`成功/失败`, t`传输`], ...rows]),
    ...targets.flatMap(({ target, progress }) => (progress ? [`${target} ${describeProgress(progress)}`] : [])),
    ...targets.flatMap(({ target, failed }) => (failed?.count ? [`${target} ${showFailed(failed)}`] : [])),
    ...targets.flatMap(({ target, held }) => (held ? [`${target} ${showHeld(held)}`] : [])),
    ...targets.flatMap(({ target, promoted }) =>
      promoted ? [t`${target} 自 ${localTime(promoted)} 起得知备份端已接管 (start-sshd --promote)，变化暂不同步`] : [],
    ),
    ...showPause(pauseOf(status)),
    ...targets.flatMap(({ target, rivals }) =>
      rivals?.length > 0 ? [t`${target} 也被另一个 rsync-inotify 镜像: ${rivals.join(t`、`)}`] : [],
    ),
    ...targets.flatMap(showTraits),
    ...showOmitted(status),
    ...describeComplaints(status.errors),
  ];
  return `${lines.join('\n')}\n`;
}
