/**
 * The variables of rsync-inotify, and what follows from them for each target.
 *
 *   const hosts = hostsOf(readConfig({ SOURCE_DIR: '/srv/web/', DEST_HOST: 'me@backup' }));
 *   hosts.map(destinationOf); // ['me@backup:/data/backup/']
 */
import { accessSync, constants, lstatSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { type CleanedEnv, makeExactValidator } from 'envalid';
import { version } from '../../package.json';
import { reportVariables } from '../service/receivers.ts';
import type { Origin } from '../service/report-words.ts';
import { isSourceName, NAME_FORM } from '../service/source-names.ts';
import { escapeText, t, wordsOf } from '../service/text.ts';
import { homeDirectory } from '../service/user.ts';
import {
  checked,
  colourVariable,
  countUpTo,
  describeVariables,
  file,
  flag,
  logVariables,
  seconds,
  webVariables,
} from '../service/variables.ts';
import { type Limits, withoutLimits } from './daemon-settings.ts';
import { DAEMON_PORT, type Destination, parseDestination, parseOne } from './destinations.ts';
import { type Plan, parseWords, planFor } from './options.ts';
import { ownOptionsOf, readOwnOptions } from './own-options.ts';
import { complaintsAbout } from './rsync-options.ts';

const target = checked(parseOne);
const targets = checked((value) => wordsOf(value).forEach(parseDestination));

const sourceDirectory = makeExactValidator<string>((value) => {
  const path = absoluteSource(value);
  let isLink = false;
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
    isLink = lstatSync(path).isSymbolicLink();
    if (statSync(path).isDirectory() && !isLink) return path;
  } catch (cause) {
    throw new Error(t`应为已存在且当前用户可读的目录 (${(cause as NodeJS.ErrnoException).code})`);
  }
  throw new Error(isLink ? t`是符号链接，rsync 只会复制链接本身；在结尾加上斜杠表示它所指目录的内容` : t`应为目录`);
});

/** ssh reads such a path from a quoted option, where neither a quote nor `${…}` can be escaped. */
export const UNQUOTABLE = /^~|["\p{Cc}]|\$\{/u;
const directory = makeExactValidator<string>((value) => {
  if (UNQUOTABLE.test(value)) throw new Error(t`应为目录的完整路径；~ 不会展开，不能包含双引号、\${ 和控制字符`);
  return resolve(value);
});

/** A leading colon would ask for an rsync daemon. */
const remoteDirectory = checked((value) => {
  if (/^:|[\r\n]/.test(value)) throw new Error(t`应为目标主机上的目录，不能以冒号开头或包含换行符`);
});

const rsyncOptions = checked((value) => {
  const complaints = complaintsAbout(parseWords(value));
  if (complaints.length > 0) throw new Error(complaints.join(t`；`));
});

const ownOptions = checked(readOwnOptions);

const sshOptions = checked(parseWords);

/** How much may be deleted on a target within an hour. */
export type Limit = { kind: 'files'; files: number } | { kind: 'percent'; percent: number } | { kind: 'off' };

/** Reads a number of files, a percentage or `off`. @throws on anything else */
export function parseLimit(value: string): Limit {
  const [, number = '', sign] = /^(\d{1,9})(%?)$/.exec(value) ?? [];
  if (value === 'off') return { kind: 'off' };
  if (number && !sign) return { kind: 'files', files: Number(number) };
  if (Number(number) >= 1 && Number(number) <= 100) return { kind: 'percent', percent: Number(number) };
  throw new Error(t`应为文件数、1% 到 100% 之间的百分比或 off，例如 50% 或 2000`);
}
const limit = checked(parseLimit);

const sourceName = checked((value) => {
  if (value && !isSourceName(value)) throw new Error(t`应为${NAME_FORM}，例如 web1`);
});

const relativeDirectories = makeExactValidator<string[]>((value) => {
  const paths = value.split(':').filter(Boolean);
  const isRelative = (path: string) => !/(^|\/)\.{0,2}\//.test(path.replace(/\/?$/, '/'));
  if (paths.every(isRelative)) return paths;
  throw new Error(t`应为 SOURCE_DIR 下目录的相对路径，以冒号分隔，例如 cache:var/tmp`);
});

export const variables = {
  SOURCE_DIR: sourceDirectory({ default: '/data/source/', desc: t`源目录；结尾有无斜杠的含义与 rsync 相同` }),
  DEST_HOST: target({
    default: 'rsync-backup',
    desc: t`目标主机，[user@]host，省略用户时为 root；rsync 守护进程写作 rsync://[user@]host[:port]/module/dir`,
  }),
  DEST_HOSTS: targets({
    default: '',
    desc: t`多个目标，以空格或逗号分隔：[user@]host[:dir] 或 rsync://…；设置后取代 DEST_HOST`,
  }),
  DEST_DIR: remoteDirectory({ default: '/data/backup/', desc: t`目标主机上的目录` }),
  RSYNC_OPTS: rsyncOptions({ default: '-avz --delete', desc: t`rsync 选项；可用引号，不做任何展开` }),
  DEST_RSYNC_OPTS: ownOptions({
    default: '',
    desc: t`个别目标另加的 rsync 选项，写在“目标:”之后，接在 RSYNC_OPTS 后面，例如 nas: --no-A pi: --bwlimit=500`,
  }),
  SSH_OPTS: sshOptions({
    default: '-o StrictHostKeyChecking=no',
    desc: t`ssh 选项，例如 -p 2222；其中指定的端口在各处生效`,
  }),
  RSYNC_PASSWORD_FILE: file({
    default: '',
    desc: t`rsync:// 目标的密码文件，只有当前用户可读，例如 /run/secrets/rsync-password`,
  }),
  SYNC_INTERVAL: seconds({ default: 5, desc: t`同步间隔（秒），可带小数，0 = 不间隔；这段时间内最多开始一次同步` }),
  MAX_RETRIES: countUpTo(1_000_000)({
    default: 10,
    desc: t`等待 SSH、测试登录、首次全量同步断线后的最大重试次数，每次 5 秒`,
  }),
  FULL_SYNC_INTERVAL: seconds({ default: 3600, desc: t`定期全量比较的间隔（秒），作为安全网，0 = 从不` }),
  WATCH_EXCLUDE: relativeDirectories({
    default: [],
    desc: t`不监控的目录，SOURCE_DIR 下的相对路径，以冒号分隔；全量同步仍包含它们`,
  }),
  ALLOW_EMPTY_SOURCE: flag({ default: false, desc: t`true = 允许空的源目录清空非空的备份` }),
  MAX_DELETE: limit({
    default: '50%',
    desc: t`一小时内在一个目标上最多删除多少，超出则暂缓删除：文件数、上次全量比较时文件数的百分比（不少于 1000 个文件）或 off`,
  }),
  RENAME_ON_TARGET: flag({ default: true, desc: t`true = 目录树内移动的文件和目录在目标上直接重命名，不再传输` }),
  SOURCE_NAME: sourceName({
    default: '',
    desc: t`多个源端镜像到同一备份时本源端的名称：公钥发布为 sources/名称.pub，镜像位于各目标目录下以它命名的目录`,
  }),
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: t`用来交换公钥的共享卷` }),
  SSH_DIR: directory({ default: join(homeDirectory(), '.ssh'), desc: t`密钥对所在目录` }),
  STATUS_FILE: file({
    default: '/run/rsync-inotify/status.json',
    desc: t`状态文件，供 --status 和 --healthcheck 使用，整体替换`,
  }),
  MAX_LAG: seconds({
    default: 300,
    desc: t`备份落后源目录超过这么久（秒，另加 SYNC_INTERVAL）时 --healthcheck 视为不健康，0 = 不限`,
  }),
  ...reportVariables(t`镜像`),
  ...logVariables('/var/log/rsync/sync.log'),
  METRICS_FILE: file({ default: '', desc: t`Prometheus 指标文件，整体替换，例如 /var/metrics/rsync.prom` }),
  ...webVariables(t`状态页 /、/metrics 和 /healthz`),
  ...colourVariable,
};

export type Config = CleanedEnv<typeof variables>;

/** Says who reports. */
export const originOf = ({ SOURCE_DIR, SOURCE_NAME }: Pick<Config, 'SOURCE_DIR' | 'SOURCE_NAME'>): Origin => ({
  ...{ program: 'rsync-inotify', version, host: hostname(), directory: SOURCE_DIR },
  place: `${t`源目录: ${escapeText(SOURCE_DIR)}`}${SOURCE_NAME && t`，源端名称: ${SOURCE_NAME}`}`,
});

/** Lists the targets as they are given, each with its options. */
export function placesOf({ DEST_HOST, DEST_HOSTS, RSYNC_OPTS, DEST_RSYNC_OPTS }: Config) {
  const several = wordsOf(DEST_HOSTS).map(parseDestination);
  const places = several.length > 0 ? several : [parseOne(DEST_HOST)];
  const all = readOwnOptions(DEST_RSYNC_OPTS);
  return places.map((place) => {
    const own = ownOptionsOf(place, all);
    return { ...place, own, options: [RSYNC_OPTS, own].filter(Boolean).join(' ') };
  });
}

/** A target as the variables describe it: all words are parsed. */
export interface Host extends Destination {
  /** The variables, of which RSYNC_OPTS are those of this target. */
  readonly config: Config;
  /** Options of rsync that only this target has, '' if none. */
  readonly own: string;
  readonly plan: Plan;
  readonly sshWords: readonly string[];
  /** Settings besides ours that this machine's ssh knows (`knownSettings`). */
  readonly sshSettings: readonly string[];
  /** What the other side takes, as far as it has been heard. */
  readonly peer: Limits;
}

/** Says what a source mirrors into that has a name, or none. */
const placeFor = (base: string, name: string) => (name ? `${base.replace(/\/*$/, '/')}${name}/` : base);

/** Lists the targets, one at least. */
export function hostsOf(config: Config, sshSettings: readonly string[] = []): Host[] {
  return placesOf(config).map(({ options, ...place }) => {
    const its = { ...config, RSYNC_OPTS: options };
    return {
      config: its,
      ...place,
      directory: placeFor(place.directory || config.DEST_DIR, config.SOURCE_NAME),
      plan: planFor(its, { hasHelper: !isDaemon(place) }),
      sshWords: parseWords(config.SSH_OPTS),
      sshSettings,
      peer: withoutLimits(),
    };
  });
}

/** Whether a target is an rsync daemon, to which no ssh leads: nothing there does us any service but rsync. */
export const isDaemon = ({ daemonPort }: Pick<Destination, 'daemonPort'>) => daemonPort !== undefined;

/** Says where ssh logs in. */
export const loginOf = ({ user, host }: Host) => `${user}@${host}`;

/** Names the target to rsync. */
export function destinationOf({ user, host, directory: path, daemonPort }: Host): string {
  const place = host.includes(':') ? `[${host}]` : host;
  if (daemonPort === undefined) return `${user}@${place}:${path}`;
  const port = daemonPort === DAEMON_PORT ? '' : `:${daemonPort}`;
  return `rsync://${user && `${user}@`}${place}${port}/${path.replace(/^\/+/, '')}`;
}

/** Says what the target's own rsync calls the directory: a daemon leaves the module out. */
export const placeOnTarget = (host: Pick<Host, 'directory' | 'daemonPort'>) =>
  isDaemon(host) ? host.directory.replace(/^\/*[^/]*/, '') || '/' : host.directory;

/** Names the target to people. */
export const nameOf = (host: Host) => escapeText(destinationOf(host));

/** Makes a path absolute, so that it is never taken for an option or a remote host, and keeps what its end means to rsync. */
export function absoluteSource(path: string): string {
  const contents = /(^|\/)\.{0,2}$/.test(path);
  const absolute = resolve(path);
  return contents && absolute !== '/' ? `${absolute}/` : absolute;
}

/** Writes the text of --help. */
export function help(): string {
  return t`rsync-inotify ${version}：把一个目录树的每次变化实时镜像到备份主机

用法: rsync-inotify [--help | --version | --check | --status | --healthcheck | --verify | --accept-deletions]
      rsync-inotify --sync [时长] | --pause [时长] | --resume | --notify-test
      rsync-inotify --restore [路径…] [--from 目录] [--to 目录]
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明镜像是否正常；退出状态 0 正常，1 不正常
  --verify        按校验和比较源目录与每个目标，不做任何更改；退出状态 0 相同，1 不同，2 无法判断
  --accept-deletions
                  让正在运行的服务放行被暂缓的删除；退出状态 0 已办理，1 服务没有运行
  --sync          让正在运行的服务立即同步，此前发生的一切都到达每个目标后返回；退出状态 0 都已到达，1 没有，
                  或超过时长（如 30s、10m，默认不限），并说明哪个目标缺少什么
  --pause         让正在运行的服务暂停同步，继续监控，变化在结束后同步；时长如 90s、10m、2h、1d，默认 1h，最长 7d，
                  到时自动结束，重启后仍然有效。没有同步在进行时返回；退出状态 0 已暂停，1 没有
  --resume        提前结束暂停；退出状态 0 已结束，1 没有暂停（可能已到期）或服务没有运行
  --notify-test   向 NOTIFY_URL 的每个 URL 发送一份测试报告，并说明收到的应答；退出状态 0 都已接受，1 没有
  --restore       从备份取回整个目录或其中的路径，之后按校验和比较；备份端须先执行 start-sshd --allow-restore。
                  目标默认为 SOURCE_DIR，须是空的，除非指明路径（. 表示全部）；恢复期间服务暂停同步。
                  --from 备份上的另一个目录，例如 --recover 恢复出的；退出状态 0 相同，1 没有完成或不同

环境变量（名称、默认值、说明）:
${describeVariables(variables, 18, 30)}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败或缺少程序；2 配置或用法错误
`;
}
