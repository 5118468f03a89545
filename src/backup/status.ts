/**
 * What operators look at: the state of the backup as a file, and what --status and --healthcheck make of it.
 *
 *   const status = new ServiceStatus({ config, doors, destination, guard, keys, sshd, reports, stalls, history, promotion });
 *   await status.publishFirst();
 */
import { hostname } from 'node:os';
import { serveAlone } from '../service/control.ts';
import { incidentFile } from '../service/incident-memory.ts';
import type { Sighting } from '../service/incidents.ts';
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { startReporting } from '../service/reporting.ts';
import {
  ageOf,
  complaints,
  describeComplaints,
  describeProgram,
  checkHealth as healthOf,
  onShow,
  Publisher,
  readStatusFile,
  StateFile,
  touch,
} from '../service/status.ts';
import { escapeText, Failure, inUnits, localTime, t, table } from '../service/text.ts';
import { type Config, originOf, PROGRAM, variables, version } from './config.ts';
import type { Destination } from './destination.ts';
import { doorFor } from './door-choice.ts';
import type { Doors } from './doors.ts';
import type { Guard, Trouble } from './guard.ts';
import type { Histories } from './histories.ts';
import { type Promotion, sourceIn } from './promotion.ts';
import type { Reports } from './reports.ts';
import type { Shortage } from './room.ts';
import type { SourceKeys } from './source-keys.ts';
import {
  aboutSources,
  describeSources,
  latestOf,
  promotionSighting,
  restoreOf,
  sightingsOfSources,
  sourcesOf,
} from './source-status.ts';
import type { Sshd } from './sshd.ts';
import type { Stalls } from './stalls.ts';

/** How long the first state waits for a look at DEST_DIR, and the start for that state to be written, ms. */
const FIRST_MS = 1000;

/** The parts of the service that tell of themselves. */
interface Parts {
  config: Config;
  doors: Pick<Doors, 'list'>;
  destination: Destination;
  guard: Guard;
  keys: Pick<SourceKeys, 'report' | 'fingerprintOf'>;
  sshd: Sshd;
  reports: Reports;
  stalls: Pick<Stalls, 'report'>;
  history: Pick<Histories, 'report' | 'of'>;
  promotion: Pick<Promotion, 'report' | 'commands' | 'unlessPromoted'>;
}

/** The state of the service in STATUS_FILE. */
export class ServiceStatus {
  private phase: 'starting' | 'serving' | 'stopped' = 'starting';
  private readonly started = new Date().toISOString();
  private readonly publisher = new Publisher(() => {
    const status = this.report();
    return { ...status, problems: problemsOf(status) };
  });
  private readonly file: StateFile;

  constructor(private readonly parts: Parts) {
    this.file = new StateFile('STATUS_FILE', parts.config.STATUS_FILE, () => this.publisher.shown);
  }

  /** Sees to it that no other service writes the same file, and obeys commands. @throws {Failure} where one does */
  async standAlone(): Promise<void> {
    const { config, doors, promotion, reports } = this.parts;
    try {
      const allow = promotion.unlessPromoted((request, gone) => {
        const { name } = doorFor(doors.list(), sourceIn(request));
        return reports.of(name).leave.allow(request, gone);
      });
      const commands = { ...promotion.commands, 'allow-restore': allow };
      lifecycle.onExit(await serveAlone(config.STATUS_FILE, commands));
    } catch (cause) {
      if (cause instanceof Failure) throw cause; // where the file cannot be written either, that is told
    }
  }

  /** Publishes the state from now on. What hangs, DEST_DIR or the file, makes nobody wait for long. */
  async publishFirst(): Promise<void> {
    await briefly(this.parts.destination.inspect());
    const { config } = this.parts;
    const file = incidentFile(config.SSH_DIR, PROGRAM, config.DEST_DIR);
    startReporting(this.publisher, { config, origin: originOf(config), file, look });
    this.publisher.on('published', () => lifecycle.background(this.file.write()));
    this.publisher.on('published', () => lifecycle.background(this.parts.destination.inspect()));
    lifecycle.onStop(async () => lifecycle.background(this.publishLast())); // a busy disk may need longer than an exit waits
    lifecycle.onExit(() => this.publishLast());
    onShow(() => this.show());
    await briefly(this.show());
  }

  private show(): Promise<void> {
    this.publisher.publish();
    return this.file.write();
  }

  /** Says that sshd takes connections now. */
  enterService(): void {
    this.phase = 'serving';
    touch();
  }

  private async publishLast(): Promise<void> {
    this.phase = 'stopped';
    await this.show();
  }

  /** Pulls the state from all parts. */
  report() {
    const { config, destination, guard, keys, sshd, reports, stalls, history, promotion } = this.parts;
    const sources = sourcesOf(this.parts);
    return {
      program: PROGRAM,
      version,
      pid: process.pid,
      host: hostname(),
      started: this.started,
      updated: new Date().toISOString(),
      phase: this.phase,
      sshd: sshd.report(),
      destination: { ...destination.report(), trouble: guard.report() },
      key: keys.report(),
      sessions: sshd.countSessions(),
      received: latestOf(sources.map(({ received }) => received)),
      stalled: stalls.report(),
      refused: reports.report(),
      shell: config.ALLOW_SHELL,
      restore: restoreOf(sources),
      doubled: reports.doubled,
      history: history.report(),
      promoted: promotion.report(),
      sources,
      errors: complaints,
    };
  }
}

/** Waits for something, but not long. */
const briefly = (work: Promise<unknown>) => Promise.race([work, lifecycle.pause(FIRST_MS)]);

export type Status = ReturnType<ServiceStatus['report']>;

/** What may be wrong while the service runs. */
export const PROBLEMS = ['starting', 'no_key', 'destination', 'disk_full', 'stalled', 'doubled'] as const;

type Problem = 'stopped' | 'stale' | (typeof PROBLEMS)[number];

const TROUBLES: Record<Trouble, string> = {
  replaced: t`已不是启动时的目录`,
  unmounted: t`所在的磁盘没有挂载`,
  failed: t`无法写入`,
  unexamined: t`正在核对上次是否正常停止或卸载`,
};

const SHORTAGES: Record<Shortage, string> = {
  read_only: t`所在的文件系统是只读的`,
  full: t`所在的磁盘已满`,
  nearly_full: t`所在的磁盘几乎已满`,
  no_files: t`所在的磁盘没有空闲的 inode，不能再创建文件`,
  quota: t`的磁盘配额已用完`,
};

/** Says what is wrong with DEST_DIR, '' where it can take a mirror. */
function troubleOf({ destination: { trouble, writable, shortage } }: Status): string {
  if (trouble) return TROUBLES[trouble];
  if (shortage === 'read_only') return SHORTAGES.read_only;
  return writable ? '' : TROUBLES.failed;
}

/** Says what DEST_DIR has too little of, '' where it has enough. */
function shortageOf({ destination: { shortage, free_bytes } }: Status): string {
  if (!shortage || shortage === 'read_only') return '';
  return `${SHORTAGES[shortage]}${shortage === 'nearly_full' ? t`，剩余 ${inUnits(free_bytes)}` : ''}`;
}

/** Says which sources mirror into a directory, each of which has named both. */
const describeDoubled = ({ directory, sources }: Status['doubled'][0]) =>
  `${escapeText(directory)} (${sources.map(escapeText).join(t`、`)})`;

/** Lists the sources that have names. */
const namedIn = ({ sources }: Status) => (sources ?? []).filter(({ name }) => name); // an older service tells of none

/** Lists what is wrong, nothing where the backup can take a mirror. */
export function problemsOf(status: Status, now = Date.parse(status.updated)): Problem[] {
  if (status.phase === 'stopped') return ['stopped'];
  if (ageOf(status, now).isStale) return ['stale'];
  if (status.phase === 'starting') return ['starting'];
  const problems: Problem[] = [];
  const named = namedIn(status);
  if (named.length > 0 ? named.some(({ key }) => !key) : !status.key) problems.push('no_key');
  if (troubleOf(status)) problems.push('destination');
  if (shortageOf(status)) problems.push('disk_full');
  if (status.stalled) problems.push('stalled');
  if (status.doubled?.length > 0) problems.push('doubled');
  return problems;
}

/** Puts what is wrong into words. */
export function sightingsOf(status: Status, now = Date.parse(status.updated)): Sighting[] {
  const words: Record<Problem, string> = {
    starting: t`正在启动`,
    stopped: t`服务已停止`,
    stale: t`状态已过期 ${ageOf(status, now).age} 秒，服务可能已不在运行`,
    no_key: t`没有源端公钥，源端无法登录`,
    destination: t`目标目录 ${status.destination.directory} ${troubleOf(status)}`,
    doubled: t`多个 rsync-inotify 同时镜像到 ${status.doubled?.map(describeDoubled).join(t`、`)}，请只保留一个`,
    disk_full: t`目标目录 ${status.destination.directory} ${shortageOf(status)}`,
    stalled: t`目标目录 ${status.destination.directory} 所在的磁盘没有应答`,
  };
  const named = sightingsOfSources(namedIn(status), describeDoubled);
  return problemsOf(status, now).flatMap((problem) => {
    const own = named.filter((sighting) => sighting.problem === problem);
    return own.length > 0 ? own : [{ problem, text: words[problem] }];
  });
}

/** How many of the things that are wrong are told in a line. */
const MAX_TOLD = 5;

/** Says in a line whether the backup can take a mirror, or why not. */
export function judge(status: Status, now = Date.now()): { healthy: boolean; line: string } {
  const problems = sightingsOf(status, now).map(({ text }) => text);
  const more = problems.length > MAX_TOLD ? [t`…另有 ${problems.length - MAX_TOLD} 个问题，见 --status`] : [];
  const told = [...problems.slice(0, MAX_TOLD), ...more];
  if (told.length > 0) return { healthy: false, line: t`不健康: ${told.join(t`；`)}` };
  if (status.promoted)
    return { healthy: true, line: t`健康: 备份端已接管，自 ${localTime(status.promoted)} 起不接收镜像` };
  const line = t`健康: SSH 服务运行中，${status.sessions} 个连接`;
  return { healthy: true, line: `${line}${aboutSources(namedIn(status))}` };
}

/** Sees of a state what is to be reported: that the backup has taken over is worth it, though it is no fault. */
export function look(status: Status): { sightings: Sighting[]; isHealthy: boolean; isPartial: boolean } {
  const now = Date.parse(status.updated);
  const promoted = { problem: 'promoted', text: t`备份端已接管，不接收镜像，直到执行 start-sshd --demote` };
  const taken = namedIn(status)
    .filter((source) => source.promoted)
    .map(promotionSighting);
  return {
    sightings: [...sightingsOf(status, now), ...(status.promoted ? [promoted] : taken)],
    isHealthy: judge(status, now).healthy,
    isPartial: status.phase === 'starting',
  };
}

const readStatus = () => readStatusFile<Status>(PROGRAM, String(variables.STATUS_FILE.default));

/** Answers --healthcheck. */
export const checkHealth = (): Answer => healthOf(() => judge(readStatus()));

/**
 * Answers --status with a table for people.
 * @throws {Failure} where no service tells of itself
 */
export function showStatus(): Answer {
  return { text: describe(readStatus()), status: 0 };
}

/** Tells that the source may read, and until when. */
function describeLeave({ restore }: Status): string[][] {
  if (!restore) return [];
  const reading = restore.reading > 0 ? t`，${restore.reading} 个正在进行` : '';
  return [[t`允许恢复`, t`到 ${localTime(restore.until)} 为止${reading}`]];
}

/** Tells what older versions cost. */
function describeHistory({ history }: Status): string[][] {
  if (!history) return [];
  const { days, versions, bytes } = history;
  const cost = versions === null ? t`正在统计` : t`${versions} 个，占用 ${inUnits(bytes ?? 0)}`;
  return [[t`旧版本`, t`${cost}，保留 ${days} 天`]];
}

/** Tells since when the backup has taken over, and how it becomes a backup again. */
const describePromotion = ({ promoted }: Status): string[][] =>
  promoted ? [[t`接管`, t`自 ${localTime(promoted)} 起不接收镜像，直到 start-sshd --demote`]] : [];

/** Describes the state as a table for people. */
export function describe(status: Status): string {
  const { sshd, destination, key, sessions, received, refused, errors } = status;
  const trouble = troubleOf(status) || shortageOf(status);
  const named = namedIn(status);
  const rows = table([
    [t`SSH 服务`, t`PID ${sshd.pid ?? '–'}，${sshd.listen ?? t`所有地址`}，端口 ${sshd.port}`],
    [t`目标目录`, `${destination.directory}${trouble && t`（${trouble}）`}`],
    ...(named.length > 0 ? [] : [[t`源端公钥`, key ?? '–']]),
    ...describePromotion(status),
    [t`连接`, String(sessions)],
    [t`最近接收`, received ? localTime(received) : '–'],
    [t`拒绝的命令`, String(refused)],
    ...(sshd.unlisted_logins > 0 ? [[t`日志未逐条记录的登录`, String(sshd.unlisted_logins)]] : []),
    ...(named.length > 0 ? [] : describeLeave(status)),
    ...describeHistory(status),
  ]);
  const lines = [...rows, ...describeSources(named), ...describeComplaints(errors), ''];
  return [describeProgram(status), judge(status).line, '', ...lines].join('\n');
}
