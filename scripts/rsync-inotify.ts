#!/usr/bin/env bun
/**
 * rsync-inotify: mirrors a directory tree to a backup host, one way, every change as it happens.
 *
 * Makes an SSH key and shares it, waits for the backup's sshd, copies the whole tree once and then
 * follows inotify events. It starts the real ssh, rsync and inotifywait, as rsync-inotify.sh did.
 * All configuration is by environment:
 *
 *   SOURCE_DIR=/srv/web/ DEST_HOST=backup DEST_DIR=/backup/web/ bun run --no-env-file scripts/rsync-inotify.ts
 *
 * The steps of that script, each under its own headline and in its order; `main`, at the end, goes through them:
 *
 *   1, 2  setupSshKeys        make the key pair, share its public half
 *   3     waitForSsh          until sshd answers
 *   4     testSshConnection   with the host keys that the backup has published
 *   5     fullSync            the whole tree, once
 *   6     Watch               inotifywait tells what has happened
 *         Changes, Moves      what waits to be mirrored
 *         Source              what rsync has to look at for it
 *         TargetState         what is known of a target
 *         Connection          one for all that goes to it
 *         Target              sends it: `syncLoop` is the other half of the script's loop
 *
 * Behind them: what they stand on (processes, files and keys, what rsync says), what operators look at, --verify.
 */
import { isUtf8 } from 'node:buffer';
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import {
  accessSync,
  type BigIntStats,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect, isIP, isIPv6 } from 'node:net';
import { homedir, hostname, constants as osConstants, tmpdir } from 'node:os';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Chalk } from 'chalk';
import { cleanEnv, makeExactValidator, str } from 'envalid';
import type { RotatingFileStream } from 'rotating-file-stream';
import { join as joinWords, quote, split } from 'shlex';
import sshKeygen from 'ssh-keygen-lite';
import type { ProcessOutput } from 'zx';

const VERSION = '1.0.0';

// ── Configuration ────────────────────────────────────────────────────────────────────────────────

/** A failure that the user can mend: its message is all that is shown. `status` is the exit status. */
class Failure extends Error {
  constructor(
    message: string,
    readonly status = 1,
  ) {
    super(message);
  }
}

/** A text that stays as it is once `check` has not thrown. */
const checked = (check: (value: string) => unknown) =>
  makeExactValidator<string>((value) => {
    check(value);
    return value;
  });

const target = checked(parseTarget);
const targets = checked((value) => wordsOf(value).forEach(parseDestination));

const sourceDirectory = makeExactValidator<string>((value) => {
  const path = absoluteSource(value);
  let isLink = false;
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
    isLink = lstatSync(path).isSymbolicLink();
    if (statSync(path).isDirectory() && !isLink) return path;
  } catch (cause) {
    throw new Error(`应为已存在且当前用户可读的目录 (${(cause as NodeJS.ErrnoException).code})`);
  }
  throw new Error(isLink ? '是符号链接，rsync 只会复制链接本身；在结尾加上斜杠表示它所指目录的内容' : '应为目录');
});

/** ssh reads such a path from a quoted option, where neither a quote nor `${…}` can be escaped. */
const UNQUOTABLE = /^~|["\p{Cc}]|\$\{/u;
const directory = makeExactValidator<string>((value) => {
  if (UNQUOTABLE.test(value)) throw new Error('应为目录的完整路径；~ 不会展开，不能包含双引号、${ 和控制字符');
  return resolve(value);
});

/** A leading colon would ask for an rsync daemon. */
const remoteDirectory = checked((value) => {
  if (/^:|[\r\n]/.test(value)) throw new Error('应为目标主机上的目录，不能以冒号开头或包含换行符');
});

/** What rsync itself refuses is refused here; words that it would take for files have no place among options. */
const rsyncOptions = checked((value) => {
  const words = parseWords(value);
  if (words.includes('--') || /^[^-]/.test(words[0] ?? '-')) throw new Error('只能包含选项，例如 -avz --delete');
  const asked = [...words, '--log-file=/dev/null', '--version']; // or it would answer in the user's log, too
  const { status, stderr } = spawnSync('rsync', asked, { encoding: 'utf8' });
  if (status) throw new Error(`rsync 不接受这些选项：${escapeText(stderr.trim().split('\n')[0] ?? '')}`);
});

/** Asks ssh. Words that are no options, and options that leave no way to run rsync, are refused too. */
const sshOptions = checked((value) => {
  const { status, stdout, stderr } = spawnSync('ssh', ['-G', ...parseWords(value), 'host'], { encoding: 'utf8' });
  if (status === null) return; // no ssh, which is told elsewhere
  if (status) throw new Error(`ssh 不接受这些选项：${lastLine(stderr)}`);
  if (!/^hostname /m.test(stdout)) throw new Error('不能包含只显示信息的选项，例如 -V');
  if (/^host (?!host$)/m.test(stdout)) throw new Error('只能包含选项，例如 -p 2222');
  if (/^(sessiontype (none|subsystem)|forkafterauthentication yes|stdinnull yes)$/m.test(stdout)) {
    throw new Error('不能包含 -N、-s、-f 或 -n，否则无法运行 rsync');
  }
});

/** The upper bound keeps the delay within what a timer can hold (2³¹ ms). */
const seconds = makeExactValidator<number>((value) => {
  if (!/^\d+(\.\d+)?$/.test(value) || Number(value) > 2_000_000) {
    throw new Error('应为 0 到 2000000 之间的秒数，可带小数，例如 5 或 0.5');
  }
  return Number(value);
});

const countUpTo = (most: number) =>
  makeExactValidator<number>((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : 0;
    if (number < 1 || number > most) throw new Error(`应为 1 到 ${most} 之间的整数，例如 10`);
    return number;
  });

const file = makeExactValidator<string>((value) => {
  if (/^~|\/$|\0/.test(value)) throw new Error('应为文件的完整路径；~ 不会展开');
  const path = value && resolve(value);
  if (path && existsSync(path) && !statSync(path).isFile()) throw new Error('应为普通文件，不能是目录或设备');
  return path;
});

/** A value of a certain form: what is said of any other, and what becomes of its text. */
const matching = <T>(form: RegExp, expected: string, read: (text: string) => T) =>
  makeExactValidator<T>((value) => {
    if (!form.test(value)) throw new Error(expected);
    return read(value);
  });

const logFormat = matching(/^(text|json)$/, '应为 text 或 json', String);
const logSize = matching(/^[1-9]\d{0,5}[KMG]$/, '应为整数加单位 K、M 或 G，例如 10M', String);
const flag = matching(/^(true|false)$/, '应为 true 或 false', (text) => text === 'true');

const port = checked((value) => {
  if (value && !(/^[1-9]\d{0,4}$/.test(value) && Number(value) <= 65535)) throw new Error('应为 1 到 65535 之间的端口');
});

const address = checked((value) => {
  if (!isIP(value)) throw new Error('应为 IP 地址，例如 127.0.0.1 或 0.0.0.0');
});

const relativeDirectories = makeExactValidator<string[]>((value) => {
  const paths = value.split(':').filter(Boolean);
  const isRelative = (path: string) => !/(^|\/)\.{0,2}\//.test(path.replace(/\/?$/, '/'));
  if (paths.every(isRelative)) return paths;
  throw new Error('应为 SOURCE_DIR 下目录的相对路径，以冒号分隔，例如 cache:var/tmp');
});

const variables = {
  SOURCE_DIR: sourceDirectory({ default: '/data/source/', desc: '源目录；结尾有无斜杠的含义与 rsync 相同' }),
  DEST_HOST: target({ default: 'rsync-backup', desc: '目标主机，[user@]host，省略用户时为 root' }),
  DEST_HOSTS: targets({ default: '', desc: '多个目标，以空格或逗号分隔：[user@]host[:dir]；设置后取代 DEST_HOST' }),
  DEST_DIR: remoteDirectory({ default: '/data/backup/', desc: '目标主机上的目录' }),
  RSYNC_OPTS: rsyncOptions({ default: '-avz --delete', desc: 'rsync 选项；可用引号，不做任何展开' }),
  SSH_OPTS: sshOptions({
    default: '-o StrictHostKeyChecking=no',
    desc: 'ssh 选项，例如 -p 2222；其中指定的端口在各处生效',
  }),
  SYNC_INTERVAL: seconds({ default: 5, desc: '同步间隔（秒），可带小数，0 = 不间隔；这段时间内最多开始一次同步' }),
  MAX_RETRIES: countUpTo(1_000_000)({ default: 10, desc: '等待 SSH 和测试登录的最大重试次数，每次 5 秒' }),
  FULL_SYNC_INTERVAL: seconds({ default: 3600, desc: '定期全量比较的间隔（秒），作为安全网，0 = 从不' }),
  WATCH_EXCLUDE: relativeDirectories({
    default: [],
    desc: '不监控的目录，SOURCE_DIR 下的相对路径，以冒号分隔；全量同步仍包含它们',
  }),
  ALLOW_EMPTY_SOURCE: flag({ default: false, desc: 'true = 允许空的源目录清空非空的备份' }),
  RENAME_ON_TARGET: flag({ default: true, desc: 'true = 目录树内移动的文件和目录在目标上直接重命名，不再传输' }),
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: '用来交换公钥的共享卷' }),
  SSH_DIR: directory({ default: join(homedir(), '.ssh'), desc: '密钥对所在目录' }),
  STATUS_FILE: file({
    default: '/run/rsync-inotify/status.json',
    desc: '状态文件，供 --status 和 --healthcheck 使用，整体替换',
  }),
  MAX_LAG: seconds({
    default: 300,
    desc: '备份落后源目录超过这么久（秒，另加 SYNC_INTERVAL）时 --healthcheck 视为不健康，0 = 不限',
  }),
  LOG_FORMAT: logFormat({ default: 'text', desc: '日志格式：text，或 json（每行一个对象）' }),
  LOG_FILE: file({ default: '', desc: '日志同时写入此文件，不带颜色，例如 /var/log/rsync/sync.log' }),
  LOG_MAX_SIZE: logSize({ default: '10M', desc: 'LOG_FILE 达到此大小后轮转，单位 K、M 或 G' }),
  LOG_MAX_FILES: countUpTo(999)({ default: 5, desc: '保留多少个轮转后的 LOG_FILE' }),
  METRICS_FILE: file({ default: '', desc: 'Prometheus 指标文件，整体替换，例如 /var/metrics/rsync.prom' }),
  METRICS_PORT: port({ default: '', desc: '在此端口提供状态页 /、/metrics 和 /healthz' }),
  METRICS_LISTEN: address({
    default: '127.0.0.1',
    desc: 'METRICS_PORT 监听的 IP 地址，0.0.0.0 = 所有地址（compose 中的默认值）',
  }),
  NO_COLOR: str({ default: '', desc: '设置为任意值 = 日志不带颜色' }),
};

/**
 * Reads and checks the variables; an empty one counts as not set, as `${NAME:-default}` does in a shell.
 * @param missing what else is wrong, one line each, to be reported together
 * @throws {Failure} one line for every variable that is wrong (status 2) and for what is missing (by itself, status 1)
 */
export function readConfig(env: NodeJS.ProcessEnv, missing: string[] = []) {
  const given = Object.entries(variables).map(([name, { default: value }]) => [name, env[name] || String(value)]);
  const values: Record<string, string> = Object.fromEntries(given);
  return cleanEnv(values, variables, {
    reporter: ({ errors, env: config }) => {
      const mistakes = Object.entries(errors).map(
        ([name, error]) => `配置错误: ${name}="${escapeText(values[name] ?? '')}"：${error?.message}`,
      );
      if (!errors.SOURCE_DIR && !errors.WATCH_EXCLUDE) mistakes.push(...mistakesInFiles(config as Config));
      const lines = [...mistakes, ...missing];
      if (lines.length > 0) throw new Failure(lines.join('\n'), mistakes.length > 0 ? 2 : 1);
    },
  });
}

type Config = ReturnType<typeof readConfig>;

/** Splits a list of words as a shell would: quotes work, nothing is expanded. Throws on an open quote. */
export function parseWords(list: string): string[] {
  try {
    return split(list);
  } catch {
    throw new Error('引号或反斜杠没有配对，应为以空格分隔、可带引号的选项列表');
  }
}

/** `[user@]host`, where the host may be an IPv6 address with or without brackets. Throws on anything else. */
export function parseTarget(value: string): { user: string; host: string } {
  const form = /^(?:([\w.][\w.-]*)@)?(?:\[([^\]]+)\]|([\w.:%][\w.:%-]*))$/;
  const [, user = 'root', bracketed, plain = ''] = form.exec(value) ?? [];
  const host = bracketed ?? plain;
  const isName = /^[\w.-]+$/.test(plain);
  if (!isName && !isIPv6(host.replace(/%\w+$/, ''))) {
    throw new Error('应为 [user@]host，例如 root@rsync-backup 或 192.0.2.7；端口写在 SSH_OPTS 里');
  }
  return { user, host };
}

const wordsOf = (list: string) => list.split(/[\s,]+/).filter(Boolean);

/** `[user@]host[:dir]`, where an IPv6 address needs brackets before a directory. Throws on anything else. */
function parseDestination(word: string): { target: string; directory: string } {
  const form = /^((?:[^@:[\]]+@)?(?:\[[^\]]+\]|[^@:[\]]+)):([^:]+)$/;
  const [, target = word, directory = ''] = form.exec(word) ?? [];
  try {
    parseTarget(target);
  } catch {
    throw new Error(
      `${escapeText(word)} 应为 [user@]host[:dir]，例如 root@rsync-backup:/data/backup/；IPv6 地址须加方括号`,
    );
  }
  return { target, directory };
}

function loginOf({ DEST_HOST }: Config): string {
  const { user, host } = parseTarget(DEST_HOST);
  return `${user}@${host}`;
}

function destinationOf({ DEST_HOST, DEST_DIR }: Config): string {
  const { user, host } = parseTarget(DEST_HOST);
  return `${user}@${host.includes(':') ? `[${host}]` : host}:${DEST_DIR}`;
}

/** The configuration of each target. */
function targetsOf(config: Config): Config[] {
  const destinations = wordsOf(config.DEST_HOSTS).map(parseDestination);
  if (destinations.length === 0) return [config];
  return destinations.map(({ target: DEST_HOST, directory }) => {
    return { ...config, DEST_HOST, DEST_DIR: directory || config.DEST_DIR };
  });
}

/** Makes a path absolute, so that it is never taken for an option or a remote host, and keeps what its end means to rsync. */
export function absoluteSource(path: string): string {
  const contents = /(^|\/)\.{0,2}$/.test(path);
  const absolute = resolve(path);
  return contents && absolute !== '/' ? `${absolute}/` : absolute;
}

/** The programs that are needed, and the packages that they come in. */
const PROGRAMS = {
  rsync: 'rsync',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  inotifywait: 'inotify-tools',
};

function missingPrograms(): string[] {
  return Object.entries(PROGRAMS)
    .filter(([program]) => !Bun.which(program))
    .map(([program, name]) => `缺少程序 ${program}：请安装软件包 ${name}（例如 apt-get install ${name}）`);
}

/** Whether writing a file would be seen as a change. */
function isWatched({ SOURCE_DIR, WATCH_EXCLUDE }: Config, file: string): boolean {
  const path = realPath(dirname(file));
  const isWithin = (directory: string) => `${path}/`.startsWith(realPath(directory).replace(/\/?$/, '/'));
  return isWithin(SOURCE_DIR) && !WATCH_EXCLUDE.some((name) => isWithin(resolve(SOURCE_DIR, name)));
}

/** What is wrong with files of ours: one that is watched would cause a sync, which would have it written again. */
function mistakesInFiles(config: Config): string[] {
  const names = (['STATUS_FILE', 'LOG_FILE', 'METRICS_FILE'] as const).filter((name) => config[name]);
  const watched = names.filter((name) => isWatched(config, config[name]));
  const shared = names.filter((name) => names.some((other) => other < name && config[other] === config[name]));
  const mistake = (advice: string) => (name: (typeof names)[number]) =>
    `配置错误: ${name}="${escapeText(config[name])}"：${advice}`;
  return [
    ...watched.map(mistake('不能位于 SOURCE_DIR 之内，否则每次写入都会触发同步；或将其目录加入 WATCH_EXCLUDE')),
    ...shared.map(mistake('已用于另一个变量，请使用不同的文件')),
  ];
}

/** Where a path leads that need not exist yet. */
const realPath = (path: string): string =>
  existsSync(path) ? realpathSync.native(path) : join(realPath(dirname(path)), basename(path));

interface Address {
  host: string;
  port: number;
  /** Reached through another host or program, so that a TCP connection of our own says nothing. */
  proxied: boolean;
}

/** A target as it is to be reached. */
interface Host {
  config: Config;
  address: Address;
}

/** Where a mirror is kept: what lies in it begins with the same. */
function placeOf({ config: { DEST_HOST, DEST_DIR }, address: { host, port } }: Host): string {
  const home = join('~', parseTarget(DEST_HOST).user);
  const path = isAbsolute(DEST_DIR) ? DEST_DIR : join(home, DEST_DIR.replace(/^~(\/|$)/, ''));
  return join(`${host}:${port}`, path, '/');
}

/** Mirrors of which one lies in the other would undo each other's work. */
function mistakesInPlaces(hosts: Host[]): string[] {
  return hosts.flatMap((host, n) => {
    const place = placeOf(host);
    const isNested = (other: string) => other.startsWith(place) || place.startsWith(other);
    const other = hosts.slice(0, n).find((it) => isNested(placeOf(it)));
    if (!other) return [];
    const [former, latter] = [other, host].map(({ config }) => escapeText(destinationOf(config)));
    return [`配置错误: DEST_HOSTS 中的 ${former} 和 ${latter} 相同或互相包含，两份镜像会互相破坏`];
  });
}

/** Asks ssh where its options and its configuration files lead. */
async function resolveAddress(config: Config): Promise<Address> {
  const result = await run`ssh -G ${sshArgs(config)} ${loginOf(config)}`;
  if (result.exitCode !== 0) throw new Failure(`无法确定目标主机的地址：${reasonOf(result)}`);
  const setting = (name: string) => new RegExp(`^${name} (.*)$`, 'm').exec(result.stdout)?.[1];
  const proxied = ['proxycommand', 'proxyjump'].some((name) => (setting(name) ?? 'none') !== 'none');
  return { host: setting('hostname') ?? parseTarget(config.DEST_HOST).host, port: Number(setting('port')), proxied };
}

/** Everything is checked before anything is done. */
async function checkConfig(): Promise<{ config: Config; hosts: Host[] }> {
  const config = readConfig(process.env, missingPrograms());
  const resolved = targetsOf(config).map(async (own) => ({ config: own, address: await resolveAddress(own) }));
  const hosts = await Promise.all(resolved);
  const mistakes = mistakesInPlaces(hosts);
  if (mistakes.length > 0) throw new Failure(mistakes.join('\n'), 2);
  return { config, hosts };
}

function help(): string {
  const rows = Object.entries(variables).map(([name, { default: value, desc }]) => {
    const shown = name === 'SSH_DIR' ? '$HOME/.ssh' : String(value) || '–';
    return `  ${name.padEnd(18)} ${shown.padEnd(30)}  ${desc}`;
  });
  return `rsync-inotify ${VERSION}：把一个目录树的每次变化实时镜像到备份主机

用法: rsync-inotify [--help | --version | --check | --status | --healthcheck | --verify]
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明镜像是否正常；退出状态 0 正常，1 不正常
  --verify        按校验和比较源目录与每个目标，不做任何更改；退出状态 0 相同，1 不同，2 无法判断

环境变量（名称、默认值、说明）:
${rows.join('\n')}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败或缺少程序；2 配置或用法错误
`;
}

// ── Log ──────────────────────────────────────────────────────────────────────────────────────────

/** How much of the log may wait for a reader who has stalled, bytes; beyond, it is left out and counted. */
const MAX_UNREAD = 8_000_000;
/** How often it is looked at whether LOG_FILE is still the file that was opened, ms. */
const LOOK_MS = 1000;
/** How many warnings and errors are kept to be looked at. */
const MAX_COMPLAINTS = 20;

type Level = 'log' | 'info' | 'warn' | 'error';
type Fields = Record<string, unknown>;

const colour = new Chalk({ level: process.env.NO_COLOR ? 0 : 1 });
const COLOURS = { log: colour.green, info: colour.blue, warn: colour.yellow, error: colour.red };
const RULE = '='.repeat(42);
const isJson = process.env.LOG_FORMAT === 'json';

const log = (event: string, message: string, fields?: Fields) => record('log', event, message, fields);
const info = (event: string, message: string, fields?: Fields) => record('info', event, message, fields);
const warn = (event: string, message: string, fields?: Fields) => record('warn', event, message, fields);
const error = (event: string, message: string, fields?: Fields) => record('error', event, message, fields);

/** The last warnings and errors, newest first, and how often each has come. */
const complaints: { time: string; level: Level; event: string; message: string; count: number }[] = [];

function complain(time: string, level: Level, event: string, message: string): void {
  const known = complaints.findIndex((other) => other.event === event && other.message === message);
  const count = (known >= 0 ? (complaints.splice(known, 1)[0]?.count ?? 0) : 0) + 1;
  complaints.unshift({ time, level, event, message, count });
  complaints.splice(MAX_COMPLAINTS);
  touch();
}

/** One entry of the log: the message is for people, `event` and `fields` are for programs. */
function record(level: Level, event: string, message: string, fields: Fields = {}): void {
  const time = new Date();
  if (level === 'warn' || level === 'error') complain(time.toISOString(), level, event, message);
  if (isJson) {
    const entry = { time: time.toISOString(), level: level === 'log' ? 'info' : level, event, message, ...fields };
    write(`${JSON.stringify(entry).replace(UNSAFE, unicodeEscape)}\n`);
  } else {
    const prefix = `[${level === 'log' ? '' : `${level.toUpperCase()} `}${time.toLocaleString('sv-SE')}]`;
    write(`${unfinished}${prefix} ${message}\n`, `${unfinished}${COLOURS[level](prefix)} ${message}\n`);
  }
}

/** A line that says to people what the fields of an entry say to programs. */
function detail(message: string): void {
  if (!isJson) log('', message);
}

function heading(event: string, title: string, fields?: Fields): void {
  detail(RULE);
  log(event, title, fields);
  detail(RULE);
}

/** What has to come before the next line: the line end that the text before it lacks. */
let unfinished = '';
/** What wipes out the line that is drawn on a terminal, if one is. */
const terminal = { drawn: '' };
/** What the reader of the log has not taken yet, bytes. */
let unread = 0;
let omitted = 0;

/** Writes text, to stdout perhaps with colours. A reader who has stalled must not make it pile up in memory. */
function write(text: string | Buffer, coloured = text): void {
  unfinished = Buffer.from(text).at(-1) === 10 ? '' : '\n';
  logFile?.write(text);
  const length = Buffer.byteLength(coloured);
  if (unread > MAX_UNREAD) {
    omitted += length;
    return;
  }
  unread += length;
  if (terminal.drawn) process.stdout.write(terminal.drawn);
  terminal.drawn = '';
  process.stdout.write(coloured, () => {
    unread -= length;
  });
  if (omitted === 0) return;
  const lost = omitted;
  omitted = 0;
  warn('log.omitted', `日志读取过慢，省略了 ${lost} 字节`, { bytes: lost });
}

/** LOG_FILE: the log without colours. What goes wrong with it is told once, and is tried again. */
class LogFile {
  private stream: RotatingFileStream | undefined;
  private inode: bigint | undefined;
  private isBroken = false;
  private missing = 0;
  /** When the file is looked at next, ms on the clock of `performance.now()`. */
  private next = 0;

  constructor(
    private readonly path: string,
    private readonly open: () => RotatingFileStream,
  ) {}

  write(text: string | Buffer): void {
    if (performance.now() > this.next) this.look();
    if (!this.stream || this.stream.writableLength > MAX_UNREAD) {
      this.missing++;
      return;
    }
    this.stream.write(text, (cause) => {
      if (cause) this.missing++;
      else if (this.isBroken || this.missing > 0) this.mended();
    });
  }

  /** Opens the file, anew where it is no longer the one that was opened: it was moved or removed, or its directory was. */
  private look(): void {
    this.next = performance.now() + LOOK_MS;
    const inode = inodeOf(this.path);
    if (this.stream && (inode === this.inode || this.inode === undefined)) return;
    this.stream?.end();
    const stream = this.open();
    if (this.isBroken && inode !== undefined) stream.write('\n'); // what was written last may have been cut off
    this.stream = stream;
    this.inode = undefined;
    stream.on('open', () => {
      this.inode = inodeOf(this.path);
    });
    stream.on('error', (cause) => this.broke(stream, cause));
  }

  private broke(stream: RotatingFileStream, cause: Error): void {
    if (this.stream === stream) this.stream = undefined;
    if (this.isBroken) return;
    this.isBroken = true;
    error(
      'log.file_failed',
      `无法写入日志文件 ${escapeText(this.path)}：${reasonOf(cause)}。请检查磁盘空间、目录和权限`,
    );
  }

  private mended(): void {
    this.isBroken = false;
    const { missing } = this;
    this.missing = 0;
    warn('log.file_restored', `日志文件已恢复写入，其中最多缺少 ${missing} 条日志`, { missing });
  }

  /** Resolves when all is written that can be. */
  async end(): Promise<void> {
    const { stream } = this;
    if (stream) await new Promise<void>((ended) => stream.once('error', () => ended()).end(ended));
  }
}

function inodeOf(path: string): bigint | undefined {
  try {
    return statSync(path, { bigint: true }).ino;
  } catch {
    return undefined;
  }
}

let logFile: LogFile | undefined;

/** The library is loaded only here: what starts often has no use for it. */
async function openLogFile({ LOG_FILE, LOG_MAX_SIZE: size, LOG_MAX_FILES: rotate }: Config): Promise<void> {
  if (!LOG_FILE) return;
  const { createStream } = await import('rotating-file-stream');
  logFile = new LogFile(LOG_FILE, () => createStream(LOG_FILE, { size, rotate }));
}

/** Characters that end a line, control a terminal or turn text around. */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;
const unicodeEscape = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Makes text from outside safe to print: it can neither start a line nor control a terminal. */
export function escapeText(untrusted: string): string {
  const names: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  const hex = (code: number) => (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  return untrusted
    .replaceAll('\\', '\\\\')
    .replace(UNSAFE, (character) => names[character] ?? hex(character.charCodeAt(0)));
}

/** The last line of what a program says is the reason why it gave up. */
const lastLine = (output: string) => escapeText(output.trim().replace(/.*\n\s*/s, '')).replace(/\.$/, '');

/** What went wrong: of a command its own words, and of errors too, which ssh-keygen-lite throws as strings. */
function reasonOf(cause: unknown): string {
  if (cause instanceof Failure) return cause.message; // is escaped already
  if (!(cause instanceof Error)) return escapeText(String(cause).trim());
  if (!('stderr' in cause)) return escapeText(cause.message);
  const [unstarted] = cause.message.split('\n'); // zx lists the callers behind that, and its exit code last
  return lastLine(String(cause.stderr).trim() || unstarted || cause.message);
}

/** A path for the log. Paths are bytes, kept as latin1 strings; those that are not UTF-8 are shown as `\xff`. */
export function showPath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  if (isUtf8(bytes)) return escapeText(bytes.toString());
  return escapeText(path).replace(/[\xa0-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

/** A path for programs: as it is where that is possible. */
function decodePath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  return isUtf8(bytes) ? bytes.toString() : showPath(path);
}

// ── Steps 1 and 2: SSH key pair, its public half shared ──────────────────────────────────────────

async function setupSshKeys(config: Config): Promise<void> {
  heading('key.setup', '配置 SSH 密钥（自动化）');
  const key = join(config.SSH_DIR, 'id_rsa');
  await ensureKey(key);
  log('key.share', '共享公钥到备份服务器...');
  sharePublicKey(config, await publicHalfOf(key));
  log('key.shared', '公钥已共享 ✓');
}

async function ensureKey(key: string): Promise<void> {
  try {
    if (statSync(key, { throwIfNoEntry: false })?.size) {
      log('key.present', 'SSH 密钥已存在 ✓');
    } else {
      log('key.generate', '生成 SSH 密钥对...');
      const generating = generateKey(key);
      work = generating.catch(() => {}); // a request to stop lets it finish
      await generating;
      log('key.generated', 'SSH 密钥生成完成 ✓');
    }
  } catch (cause) {
    throw new Failure(`无法生成 SSH 密钥对 ${escapeText(key)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** Makes the pair in a directory of its own and moves it into place whole, the private half last. */
async function generateKey(key: string): Promise<void> {
  const directory = dirname(key);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const workshop = join(directory, '.new-id_rsa');
  rmSync(workshop, { recursive: true, force: true }); // of a start that was cut short
  mkdirSync(workshop, { mode: 0o700 });
  try {
    const location = join(workshop, 'key');
    const comment = `rsync-inotify@${hostname()}`;
    await sshKeygen({ location, type: 'rsa', size: '3072', comment, force: false, read: false });
    renameSync(`${location}.pub`, `${key}.pub`);
    renameSync(location, key);
  } finally {
    rmSync(workshop, { recursive: true });
  }
}

/** The public half of a private key, also put beside it: ssh offers what that file says, even if it belongs to a former key. */
async function publicHalfOf(key: string): Promise<string> {
  const derived = await run`ssh-keygen -y -P ${''} -f ${key}`;
  if (derived.exitCode !== 0) {
    throw new Failure(
      `无法读取 SSH 私钥 ${escapeText(key)}：${reasonOf(derived)}。它应没有口令、权限为 0600；移走它后重启会生成新的密钥对`,
    );
  }
  try {
    if (!holdsKey(`${key}.pub`, derived.stdout)) replaceFile(`${key}.pub`, derived.stdout, 0o644);
  } catch {} // without it, ssh takes what it needs from the private one
  return derived.stdout;
}

function sharePublicKey({ SHARED_KEYS_DIR }: Config, line: string): void {
  try {
    mkdirSync(SHARED_KEYS_DIR, { recursive: true, mode: 0o755 });
    const shared = join(SHARED_KEYS_DIR, 'id_rsa.pub');
    if (!holdsKey(shared, line)) replaceFile(shared, line, 0o644);
  } catch (cause) {
    const where = `SHARED_KEYS_DIR=${escapeText(SHARED_KEYS_DIR)}`;
    throw new Failure(`无法写入 ${where}：${reasonOf(cause)}。请检查共享卷的挂载和权限`);
  }
}

// ── Step 3: wait for sshd ────────────────────────────────────────────────────────────────────────

/** How long a try of `MAX_RETRIES` lasts while waiting for SSH, ms. */
const TRY_MS = 5000;
/** How often sshd is looked for within a try, ms. */
const POLL_MS = 200;

async function waitForSsh({ config, address }: Host, backup: TargetState): Promise<void> {
  const { host, port } = address;
  backup.heading('ssh.wait', '等待 SSH 服务就绪', { host, port });
  detail(`目标主机: ${escapeText(host)}:${port}`);
  for (let attempt = 1; !address.proxied && !(await answersWithin(TRY_MS, host, port)); attempt++) {
    if (stopping) return;
    if (attempt === config.MAX_RETRIES) {
      const where = `${escapeText(host)}:${port} 在 ${(attempt * TRY_MS) / 1000} 秒内没有应答`;
      throw new Failure(`SSH 服务未就绪: ${where}。请检查备份端是否运行、主机名和端口是否正确`);
    }
    backup.warn('ssh.retry', `SSH 连接重试... (${attempt}/${config.MAX_RETRIES})`, { attempt });
  }
  backup.log('ssh.ready', 'SSH 服务已就绪 ✓');
}

async function answersWithin(ms: number, host: string, port: number): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (performance.now() < deadline) {
    if (await isSshServer(host, port, deadline - performance.now())) return true;
    await sleep(POLL_MS);
  }
  return false;
}

/** Whether an SSH server greets within that time: a port that is merely open (a proxy's, say) is not enough. */
function isSshServer(host: string, port: number, ms: number): Promise<boolean> {
  return new Promise((settle) => {
    const socket = connect({ host, port });
    const done = (answer: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      settle(answer);
    };
    const timer = setTimeout(done, Math.min(ms, 2000), false);
    let greeting = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      greeting += chunk;
      if (/^SSH-/m.test(greeting)) done(true); // other lines may come first (RFC 4253, 4.2)
    });
    socket.once('error', () => done(false)).once('close', () => done(false));
  });
}

// ── Step 4.1: the backup's host keys ─────────────────────────────────────────────────────────────

/** The host keys that the backup has published in the shared volume, as ssh is to know them. */
export class HostKeys {
  /** The file for ssh, once there was something published; until then, SSH_OPTS decide what host is trusted. */
  file: string | undefined;
  private keys: string[] = [];
  private ignored: string[] = [];
  private refusalTold = false;
  private ownDirectory: string | undefined;

  constructor(
    private readonly config: Config,
    private readonly backup: Pick<TargetState, 'error'> = { error },
  ) {}

  /**
   * Reads anew what is published, before a connection is made; returns the file for ssh. What was published once is not
   * given up because it cannot be seen any more. @throws {Failure} where the keys cannot be read or kept
   */
  refresh(): string | undefined {
    const names = this.publishedNames();
    if (names.length === 0 && !this.file) return undefined;
    const ignored: string[] = [];
    this.keys = names.flatMap((name) => {
      try {
        return parsePublicKey(readSmallFile(join(this.directory, name)));
      } catch (cause) {
        ignored.push(`忽略了公布的主机密钥 ${escapeText(name)}：${reasonOf(cause)}`);
        return [];
      }
    });
    for (const line of ignored) if (!this.ignored.includes(line)) warn('host_key.ignored', line);
    this.ignored = ignored;
    this.file = this.keep([...new Set(this.keys)].map((key) => `* ${key}\n`).join(''));
    if (this.keys.length === 0) this.tellRefusal();
    return this.file;
  }

  private get directory(): string {
    return join(this.config.SHARED_KEYS_DIR, 'host_keys');
  }

  private publishedNames(): string[] {
    try {
      return readdirSync(this.directory)
        .filter((name) => name.endsWith('.pub'))
        .sort();
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw new Failure(`无法读取公布的主机密钥：${reasonOf(cause)}。请检查共享卷的挂载和权限`);
    }
  }

  /** Keeps the lines for ssh in SSH_DIR, under a name that no other pair uses, or else in a directory of our own. */
  private keep(lines: string): string {
    const { SSH_DIR, SHARED_KEYS_DIR } = this.config;
    const path = join(SSH_DIR, `known_hosts${SHARED_KEYS_DIR.replaceAll('/', '-')}`);
    try {
      if (!this.ownDirectory) return keepFile(path, lines);
    } catch {} // a mounted secret, for example
    try {
      if (!this.ownDirectory || !existsSync(this.ownDirectory)) {
        const directory = temporaryDirectory(this.config);
        process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
        this.ownDirectory = directory;
      }
      return keepFile(join(this.ownDirectory, 'known_hosts'), lines);
    } catch (cause) {
      throw new Failure(`无法保存公布的主机密钥：${reasonOf(cause)}`);
    }
  }

  /** Tells, once until a connection stands, why the host is not trusted, if ssh said so. */
  explain(said: string): void {
    if (said.includes('Host key verification failed')) this.tellRefusal();
  }

  private tellRefusal(): void {
    if (this.refusalTold) return;
    this.refusalTold = true;
    const where = escapeText(this.directory);
    const expected = this.keys.map(fingerprint).join(' 或 ');
    const [what, advice] = expected
      ? [
          `备份主机的密钥与 ${where} 中公布的不符，可能有人在冒充备份主机！`,
          `应为 ${expected}。若备份端是重建的，它的 start-sshd 启动时会公布新密钥，请检查两端是否挂载了同一个共享卷；没有共享卷时，请将新的 host_keys 复制过来`,
        ]
      : [
          `${where} 中没有有效的主机密钥，无法确认备份主机的身份。`,
          this.file
            ? '备份端的 start-sshd 启动时会公布它们，请检查共享卷；若备份端确实不再公布，请清空该目录并重启服务'
            : '备份端的 start-sshd 启动时会公布它们，请检查共享卷；没有共享卷时，请将备份端的 host_keys 复制过来',
        ];
    this.backup.error('host_key.refused', `${what}已拒绝连接，没有发送任何数据。${advice}`);
  }

  /** Tells that a connection stands: from now on, a refusal is news again. */
  connected(): void {
    this.refusalTold = false;
  }
}

// ── Step 4.2: test the connection ────────────────────────────────────────────────────────────────

async function testSshConnection(config: Config, hostKeys: HostKeys, backup: TargetState): Promise<void> {
  backup.heading('ssh.test', '测试 SSH 连接');
  for (let attempt = 1; ; attempt++) {
    const result = await tryLogin(config, { knownHosts: hostKeys.refresh() });
    if (result.exitCode === 0) break;
    if (stopping) return;
    hostKeys.explain(result.stderr);
    const reason = reasonOf(result);
    if (attempt > config.MAX_RETRIES) {
      throw new Failure(`SSH 免密登录测试失败 (退出码: ${result.exitCode})：${reason}。请检查密钥、用户和备份端日志`);
    }
    backup.warn('ssh.retry', `SSH 连接重试... (${attempt}/${config.MAX_RETRIES})：${reason}`, {
      attempt,
      exit_code: result.exitCode,
    });
    // A new key is in force within a second. From then on slowly: sshd shuts out who fails often (PerSourcePenalties).
    await sleep(attempt === 1 ? 1000 : TRY_MS);
  }
  hostKeys.connected();
  backup.log('ssh.tested', 'SSH 免密登录测试成功 ✓');
  if (hostKeys.file) return;
  backup.warn('host_key.unpublished', '备份端没有在共享卷中公布主机密钥，未能验证它的身份，是否信任它由 SSH_OPTS 决定');
}

// ── Step 5: full sync ────────────────────────────────────────────────────────────────────────────

/**
 * Resolves with rsync's exit status. Files that fail are no reason not to mirror the others: they are tried again.
 * @throws {Failure} where the only target cannot be mirrored to
 */
async function fullSync(backup: Target): Promise<number> {
  backup.state.heading('sync.first', '首次全量同步');
  const status = await backup.sync(() => backup.compareAll());
  if (stopping) return status;
  if (status === PARTIAL) {
    backup.state.warn('sync.first_partial', '首次全量同步未能传输全部文件，其余文件照常同步，失败的文件将自动重试');
  } else if (status === 0 || status === LIMITED) backup.state.log('sync.first_done', '首次全量同步完成 ✓');
  else if (state.targets.length === 1) throw new Failure('首次全量同步失败');
  return status;
}

// ── Step 6.1: watch ──────────────────────────────────────────────────────────────────────────────

const WATCHED_EVENTS =
  'CREATE MODIFY DELETE MOVED_TO CLOSE_WRITE MOVED_FROM ATTRIB DELETE_SELF MOVE_SELF UNMOUNT Q_OVERFLOW'.split(' ');

/** The parts of one record of inotifywait, `COOKIE|EVENTS|PATH`; the two halves of a rename share their cookie. */
export function parseEvent(record: string): { cookie: string; events: string; path: string } {
  const [, cookie = '', events = '', path = ''] = /^([^|]*)\|([^|]*)\|(.*)$/s.exec(record) ?? [];
  return { cookie, events, path };
}

function logWatching(config: Config): void {
  const { SOURCE_DIR: source, SYNC_INTERVAL: interval } = config;
  const method = methodFor(parseWords(config.RSYNC_OPTS));
  heading('watch.start', '实时监控已启动', { source, interval, watched: WATCHED_EVENTS });
  detail(`监控目录: ${escapeText(source)}`);
  detail(`批量同步间隔: ${interval}秒`);
  detail(`监控事件: ${WATCHED_EVENTS.join(', ')}`);
  if (method === 'full') log('sync.always_full', 'RSYNC_OPTS 含有不能逐个文件执行的选项，每次变化都进行全量同步');
  detail(RULE);
  log('service.ready', '✓ 服务运行中，实时监控文件变化...');
}

function inotifywaitArgs(config: Config): string[] {
  const events = WATCHED_EVENTS.flatMap((event) => ['-e', event.toLowerCase()]);
  const exclusions = config.WATCH_EXCLUDE.map((path) => `@${resolve(config.SOURCE_DIR, path)}`);
  return ['-m', '-r', ...events, '--format', '%c|%e|%w%f%0', '--no-newline', ...exclusions, '--', config.SOURCE_DIR];
}

/** How many changes of a batch the log names. */
const LISTED_CHANGES = 50;
/** How many changes are kept to be looked at, and how much of the names of their events, characters. */
const MAX_CHANGES = 20;
const MAX_EVENTS = 100;

/** How many changes there were since the last batch. */
let announced = 0;

/** Names a change in the log, unless many were named since the last batch. */
function announceChange(path: string, events: string): void {
  remember(path, events);
  if (announced++ >= LISTED_CHANGES) return;
  info('file.changed', `检测到文件变化: ${showPath(path)} ${events}`, { path: decodePath(path), events });
}

function announceRest(): void {
  const unlisted = announced - LISTED_CHANGES;
  if (unlisted > 0) info('file.omitted', `另有 ${unlisted} 处文件变化未逐条列出`, { changes: unlisted });
  announced = 0;
}

/** Keeps a change to be looked at: one entry for all that happens to a path in a row. */
function remember(path: string, events: string): void {
  const [last] = state.recent;
  const before = last?.path === path ? `${state.recent.shift()?.events} ` : '';
  state.recent.unshift({ time: Date.now(), path, events: `${before}${events}`.slice(-MAX_EVENTS) });
  state.recent.splice(MAX_CHANGES);
  touch();
}

interface Watcher {
  process: ChildProcess;
  /** How often it had something to say. */
  told: number;
  /** Whether it has nothing left to say, for another one stands in its place. */
  isRelieved?: boolean;
}

/** How many renames wait at most; what was renamed beyond is sent. */
const MAX_MOVES = 10_000;
/** How large a file is at least that is worth a rename on the target, which takes some 30 ms, bytes. */
const MIN_MOVED = 262_144;
/** More directories in doubt than this are as good as all of the source. */
const MAX_DOUBTS = 10_000;
/** How many renames may wait for their other half: what is moved out of the source has none. */
const MAX_HALVES = 1000;
/** How many renames are remembered that were told, so that none is taken for another one when it is told twice. */
const MAX_TOLD_COOKIES = 2 * MAX_MOVES;
/** How many of a watcher's complaints the log tells. */
const MAX_WATCHER_COMPLAINTS = 10;
/** How long a watcher must be silent before it may be ended, and how long that is waited for at most, ms. */
const SILENCE_MS = 100;
const MAX_SILENCE_MS = 5000;
/** How often that is looked at, ms. */
const TICK_MS = 10;
/** How long to wait for more changes before the watches are counted, ms. */
const COUNT_MS = 1000;
/** When the next one is started where one has died, at the latest, ms; later only where starting fails. */
const REPLACE_MS = 1000;
/** How long the next watcher waits where two do not fit into the limits, for each costs a full sync, ms. */
const ALONE_MS = 60_000;

/**
 * inotifywait, and another one in its place whenever it may not see everything. It misses what happens in a new
 * directory before it watches that, and misnames what is in one that was renamed: such a directory is in doubt, and
 * wholly in each batch, until a watcher that was started later has its watches.
 */
class Watch extends EventEmitter {
  private watcher: Watcher | undefined;
  private started = 0;
  /** The first halves of renames, by their cookies, and whether nothing is in doubt there. */
  private readonly halves = new Map<string, { from: string; isCertain: boolean }>();
  /** The cookies of the last renames that were told: while a watcher takes the place of another one, both tell of each. */
  private readonly told = new Set<string>();
  private counting: NodeJS.Timeout | undefined;
  /** Whether the limits leave no room for two watchers at a time. */
  private alone = false;
  /** Whether events were lost for certain. */
  private isRecovering = false;

  constructor(
    private readonly config: Config,
    private readonly source: Source,
    private readonly targets: TargetState[],
  ) {
    super();
    stopRequest.signal.addEventListener('abort', () => this.watcher && signalGroup(this.watcher.process, 'SIGTERM'));
  }

  /** Starts a watcher; resolves when its watches stand and what was in doubt before is settled. @throws {Failure} */
  async start(): Promise<void> {
    this.source.check();
    const number = ++this.started;
    const began = new Date().toISOString();
    const child = startOnLeash(['inotifywait', ...inotifywaitArgs(this.config)], 'pipe');
    const watcher: Watcher = { process: child, told: 0 };
    let rest = '';
    child.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
      watcher.told++;
      const records = (rest + chunk).split('\0');
      rest = records.pop() ?? '';
      for (const record of records.map(parseEvent)) {
        if (record.events.includes('Q_OVERFLOW')) this.overflowed();
        else this.handle(record);
      }
    });
    await established(child);
    try {
      this.source.check(); // it may have been replaced meanwhile
    } catch (cause) {
      signalGroup(child, 'SIGTERM');
      throw cause;
    }
    this.watcher = watcher;
    child.once('exit', () => this.ended(watcher));
    this.settle(number, began);
    state.watch.running = true;
    this.count();
  }

  private ended(watcher: Watcher): void {
    if (stopping || watcher.isRelieved) return;
    const { exitCode, signalCode } = watcher.process;
    error('watch.ended', `inotifywait 意外退出 (退出码: ${exitCode ?? signalCode})，正在重新启动监控`, {
      exit_code: exitCode,
      signal: signalCode,
    });
    state.watch.restarts++;
    this.lose(watcher);
    this.doubt('');
    this.emit('ended');
  }

  private handle({ cookie, events, path: absolute }: ReturnType<typeof parseEvent>): void {
    if (!absolute.startsWith(this.source.root)) return; // a directory that was moved, so in doubt, and has lost its name
    const path = absolute.slice(this.source.root.length).replace(/\/$/, '');
    if (path === '' ? /SELF|UNMOUNT/.test(events) : events.includes('UNMOUNT')) this.doubt(path);
    if (events.includes('_SELF')) return; // its parent has told as well, and under the right name
    state.watch.events++;
    const found = /^(CREATE$|MOVED_TO)/.test(events) ? this.source.look(path) : undefined;
    const isNew = this.targets.map((target) => target.changed(path, events, found));
    if (isNew.includes(true)) announceChange(this.source.root + path, events);
    if (events.startsWith('DELETE,ISDIR')) this.countSoon(); // new ones have a new watcher anyway
    if (/^(CREATE|MOVED_TO)/.test(events)) for (const { moves } of this.targets) moves.forget(path, cookie);
    if (events.startsWith('MOVED_FROM')) this.movedFrom(path, cookie);
    if (events.startsWith('MOVED_TO')) this.movedTo(path, cookie, found);
    // One that was moved away is still watched, wherever it is now.
    if (/^(CREATE|MOVED_TO|MOVED_FROM),ISDIR/.test(events)) this.doubt(path);
  }

  /** The kernel says by the cookie what belongs together; inotifywait may only be wrong about the names of directories. */
  private movedFrom(path: string, cookie: string): void {
    if (this.told.has(cookie)) return;
    this.halves.set(cookie, { from: path, isCertain: !this.isInDoubt(path) });
    forgetOldest(this.halves, MAX_HALVES);
  }

  private movedTo(to: string, cookie: string, found: Stats | undefined): void {
    const { from, isCertain } = this.halves.get(cookie) ?? {};
    this.halves.delete(cookie);
    if (from === undefined) return;
    this.told.add(cookie);
    forgetOldest(this.told, MAX_TOLD_COOKIES);
    const isSmall = found && !found.isDirectory() && !(found.isFile() && found.size >= MIN_MOVED);
    const isRepeatable = isCertain && !isSmall && !this.isInDoubt(parentOf(to));
    const identity = found && identityOf(found); // it may have been renamed again
    for (const target of this.targets) {
      target.changes.renamed(from, to);
      if (isRepeatable) target.moved({ from, to, cookie, identity });
    }
  }

  private isInDoubt(path: string): boolean {
    return withParents(path).some((it) => this.source.doubts.has(it));
  }

  /** Has every target look at whole subtrees. */
  private lookInto(paths: string[], since = 0): void {
    const batch = new Map(paths.map((path) => [path, { ...TREE, since }]));
    for (const { changes } of this.targets) changes.add(batch);
  }

  private countSoon(): void {
    this.counting ??= setTimeout(() => this.count(), COUNT_MS);
  }

  private async count(): Promise<void> {
    this.counting = undefined;
    const watcher = this.watcher?.process;
    const watches = watcher && (await countWatches(watcher).catch(() => undefined)); // it may have ended this moment
    if (watches !== undefined && watcher === this.watcher?.process) state.watch.directories = watches;
    touch();
  }

  private overflowed(): void {
    if (this.source.doubts.get('') !== this.started) {
      state.watch.overflows++;
      warn(
        'watch.overflow',
        'inotify 事件队列溢出，有变化未被看到，将重新建立监控并全量同步。可增大 sysctl fs.inotify.max_queued_events',
      );
    }
    this.doubt('');
  }

  private doubt(path: string): void {
    const { doubts } = this.source;
    this.isRecovering ||= path === '';
    const all = doubts.size >= MAX_DOUBTS;
    if (all) doubts.clear();
    doubts.set(all ? '' : path, this.started);
    state.watch.in_doubt ??= new Date().toISOString();
    this.emit('doubt');
  }

  /** What was in doubt before a watcher was started is looked at once more, now that it is watched. */
  private settle(number: number, began: string): void {
    const settled = [...this.source.doubts].filter(([, seenBy]) => seenBy < number).map(([path]) => path);
    for (const path of settled) this.source.doubts.delete(path);
    if (this.isRecovering && settled.includes('')) {
      this.isRecovering = false;
      log('watch.restored', '监控已恢复，将进行一次全量同步');
    }
    const since = Date.parse(state.watch.in_doubt ?? began) - Date.now() + performance.now();
    state.watch.in_doubt = this.source.doubts.size > 0 ? began : null;
    this.lookInto(settled, since);
  }

  /** Replaces the watcher whenever something is in doubt, but spends no more than a tenth of the time on it. */
  async keepWatching(): Promise<void> {
    let backoff = newBackoff();
    let rest = SILENCE_MS;
    let least = rest; // of it, where no watcher sees anything meanwhile
    while (!stopping) {
      if (this.source.doubts.size === 0) await happened(this, 'doubt');
      if (this.watcher) await pauseOr(rest - least, this, 'ended');
      await pause(least);
      if (stopping) return;
      const old = this.watcher;
      if (this.alone) await this.end(old);
      const began = performance.now();
      try {
        await this.start();
        backoff = newBackoff();
        rest = this.alone ? ALONE_MS : Math.max(SILENCE_MS, 9 * (performance.now() - began));
        least = Math.min(rest, REPLACE_MS);
        await this.end(old);
      } catch (cause) {
        rest = least = this.failed(cause, backoff);
      }
    }
  }

  /** Waits for what the watcher still has to say, at most `ms`; resolves with whether it is silent. */
  async silence(ms: number): Promise<boolean> {
    return !this.watcher || isSilent(this.watcher, SILENCE_MS / 2, ms);
  }

  /** Ends a watcher once it is silent: what it has not told yet would be lost. */
  private async end(watcher: Watcher | undefined): Promise<void> {
    if (!watcher) return;
    if (this.watcher === watcher) {
      this.lose(watcher);
      this.doubt('');
    }
    await isSilent(watcher, SILENCE_MS, MAX_SILENCE_MS);
    watcher.isRelieved = true;
    signalGroup(watcher.process, 'SIGTERM');
  }

  private lose(watcher: Watcher): void {
    if (this.watcher !== watcher) return;
    this.watcher = undefined;
    Object.assign(state.watch, { running: false, directories: 0 });
    touch();
  }

  /** Tells why no watcher could be started; returns how long to wait for the next try, ms. */
  private failed(cause: unknown, backoff: Backoff): number {
    if (stopping) return 0;
    error('watch.failed', reasonOf(cause));
    if (!this.alone && /upper limit|amount of inotify watches|initialize inotify/.test(reasonOf(cause))) {
      this.alone = true;
      return 0;
    }
    const delay = backoff.next().value;
    warn('watch.retry', `${delay / 1000} 秒后重新启动监控`, { delay_ms: delay });
    this.lookInto([...this.source.doubts.keys()]); // what is not watched is looked at now and then
    return delay;
  }
}

/** Lets the oldest entry go where there are more than `most`. */
function forgetOldest(kept: Map<string, unknown> | Set<string>, most: number): void {
  const [oldest] = kept.keys();
  if (oldest !== undefined && kept.size > most) kept.delete(oldest);
}

/**
 * Waits until a watcher has had nothing to say for `least` ms, but no longer than `most` ms or its end; resolves
 * with whether it came to that. Time in which it was not let run, or we were not, does not count.
 */
async function isSilent(watcher: Watcher, least: number, most: number): Promise<boolean> {
  const latest = performance.now() + most;
  for (let silent = 0; silent < least; ) {
    if (!children.has(watcher.process) || performance.now() > latest) return false;
    const { told } = watcher;
    await sleep(TICK_MS);
    silent = watcher.told === told && isWaiting(watcher.process) ? silent + TICK_MS : 0;
  }
  return true;
}

/** Whether a process waits for something to happen (proc(5), stat). */
function isWaiting({ pid }: ChildProcess): boolean {
  try {
    return / S /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false; // it has ended this moment
  }
}

/** How many watches a watcher has: each is a line in what the kernel tells of its files (proc(5), fdinfo). */
async function countWatches({ pid }: ChildProcess): Promise<number> {
  const directory = `/proc/${pid}/fdinfo`;
  const files = (await readdir(directory)).map((name) => readFile(join(directory, name), 'latin1'));
  return (await Promise.all(files)).join('').match(/^inotify /gm)?.length ?? 0;
}

/** Resolves once the watches of an inotifywait stand. @throws {Failure} with its last words where it ends before that */
function established(watcher: ChildProcess): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  let said = '';
  let told = 0;
  if (watcher.stderr) {
    createInterface({ input: watcher.stderr }).on('line', (line) => {
      if (line.startsWith('Watches established')) return done();
      // A directory that is gone again needs no watch, and one that was moved is in doubt.
      if (/^Setting up watches|No such file or directory$|Not a directory$|remov(e|ing) watch/.test(line)) return;
      said = escapeText(line);
      if (told++ < MAX_WATCHER_COMPLAINTS) warn('watch.complaint', `inotifywait: ${said}`);
    });
  }
  watcher.once('error', (cause) => reject(new Failure(`无法启动 inotifywait：${reasonOf(cause)}`)));
  watcher.once('close', (code, signal) => {
    if (code === 126 || code === 127) return reject(new Failure(`无法启动 inotifywait：${said}`));
    const advice = '若达到监控数量上限，请执行 sysctl fs.inotify.max_user_watches=1048576';
    reject(new Failure(`inotifywait 退出 (退出码: ${code ?? signal})：${said}。${advice}`));
  });
  return promise;
}

// ── Step 6.2: what has changed ───────────────────────────────────────────────────────────────────

/** How many paths wait at most, so that memory stays bounded while the backup is away; beyond, the whole tree is compared. */
const MAX_PENDING = 100_000;
/** How long nothing shall have changed before a batch starts, so that files written together go together, ms. */
const QUIET_MS = 3;
/** How long the first half of a rename waits for the other one, which may be read a little later (inotify(7)), ms. */
const HALF_MS = 30;
/** How long a batch waits for that at most, ms. */
const MAX_QUIET_MS = 100;

/** What is known of a path that waits. */
interface Change {
  events: string;
  /** When it was first seen, ms on the clock of `performance.now()`; 0 is not known, infinity that nobody waits for it. */
  since: number;
  /** A file that is being written: it waits until it is closed. */
  open: boolean;
  /** A directory that is new, moved or in doubt: all below it counts as changed. */
  tree: boolean;
  /** A file that was made while it waited, so that no older name of it can be in the tree. */
  fresh: boolean;
  /** A file that was changed under this name and may have others, which get no event. */
  shared: boolean;
  /** Something that may have taken the place of another thing. */
  replaced: boolean;
  /** What was there before was changed under this name and may have others. */
  hidden: boolean;
}

/** Changed paths below the source, as bytes in latin1 strings; '' is the source itself. */
type Batch = Map<string, Change>;

const UNKNOWN: Change = {
  ...{ events: '', since: 0, open: false, tree: false },
  ...{ fresh: false, shared: false, replaced: false, hidden: false },
};
const TREE: Change = { ...UNKNOWN, tree: true };
/** All of the source. */
const ALL: Batch = new Map([['', TREE]]);
/** The same where nothing is known to have changed, so that nobody waits for it. */
const REGULAR: Batch = new Map([['', { ...TREE, since: Number.POSITIVE_INFINITY }]]);

/** The changes that wait for the next sync of a target. Emits `arrived`. */
class Changes extends EventEmitter {
  waiting: Batch = new Map();
  private closed = 0;
  /** When it has been quiet for long enough, unless more comes, ms on the clock of `performance.now()`. */
  private quiet = 0;

  get size(): number {
    return this.waiting.size;
  }

  /** Notes an event; returns whether it does not merely repeat itself. `isLacking`: whether an earlier change there is not done yet. */
  note(path: string, events: string, found: Stats | undefined, isLacking: boolean): boolean {
    const known = this.waiting.get(path);
    const since = known && Number.isFinite(known.since) ? known.since : 0; // a regular comparison waits for nothing
    this.set(path, { ...changeAfter(events, known, found, isLacking || !!known), since });
    if (events.startsWith('MOVED_FROM')) this.quiet += HALF_MS;
    return known?.events !== events;
  }

  /** A file that was renamed is the same file under another name. */
  renamed(from: string, to: string): void {
    const old = this.waiting.get(from);
    const change = this.waiting.get(to);
    if (!old?.shared || !change) return;
    change.shared = true;
    old.shared = false;
  }

  /** Adds changes that no event has named, or that failed before; what is known of a path already is newer. */
  add(batch: Batch): void {
    for (const [path, { tree, shared, replaced, hidden, since }] of batch) {
      const before = this.waiting.get(path) ?? UNKNOWN;
      const flags = {
        tree: tree || before.tree,
        shared: shared || before.shared,
        replaced: replaced || before.replaced,
        hidden: hidden || before.hidden,
      };
      this.set(path, { ...before, ...flags, since });
    }
  }

  /** Beyond a number, all of the source counts as changed. That needs no paths, so memory stays bounded. */
  private set(path: string, change: Change): void {
    const now = performance.now();
    this.quiet = now + QUIET_MS;
    const known = this.waiting.get(path);
    const since = change.since || now;
    if (!known && (this.size >= MAX_PENDING || this.waiting.get('')?.tree)) {
      this.waiting = new Map([['', { ...TREE, since: Math.min(oldestOf(this.waiting), since) }]]);
      this.closed = 1;
    } else {
      this.waiting.set(path, { ...change, since: Math.min(known?.since ?? since, since) });
      this.closed += Number(!change.open) - Number(known ? !known.open : false);
    }
    this.emit('arrived');
  }

  /** How long the next batch waits, ms: for a short quiet, but not beyond `latest`, and for `patience` where all files are open. */
  wait(latest: number, patience: number): number {
    const now = performance.now();
    const [oldest] = this.waiting.values();
    const ready = this.closed > 0 || !oldest ? now : oldest.since + patience;
    return Math.max(Math.min(this.quiet, latest), ready) - now;
  }

  /** Hands out what waits, except files that are open and came less than `patience` ago, ms. */
  take(patience: number): Batch {
    this.closed = 0;
    const latest = performance.now() - patience;
    const waits = (change: Change) => change.open && change.since > latest;
    const batch = new Map([...this.waiting].filter(([, change]) => !waits(change)));
    this.waiting = new Map([...this.waiting].filter(([, change]) => waits(change)));
    return batch;
  }
}

/** When the first change of a batch was seen, infinity where none is known. */
function oldestOf(batch: Batch): number {
  let oldest = Number.POSITIVE_INFINITY;
  for (const { since } of batch.values()) if (since > 0 && since < oldest) oldest = since;
  return oldest;
}

/** What is known of a path after an event of inotifywait. */
function changeAfter(events: string, known = UNKNOWN, found: Stats | undefined, isLacking: boolean): Change {
  const change = { ...known, events };
  const isOther = events.startsWith('MOVED_TO') || (events.startsWith('CREATE') && isLacking);
  change.replaced ||= isOther;
  change.hidden ||= isOther && known.shared;
  if (events.endsWith('ISDIR')) {
    change.open = false;
  } else if (events === 'CREATE') {
    change.fresh = change.open = found?.isFile() === true && found.nlink === 1; // the others are never closed
  } else {
    change.fresh &&= events !== 'MOVED_TO';
    change.open = events === 'MODIFY' || (events === 'ATTRIB' && known.open);
    change.replaced ||= events === 'ATTRIB'; // its time may have been put back after it was written
    change.shared ||= !change.fresh && /^(MODIFY|ATTRIB|CLOSE_WRITE)/.test(events);
  }
  return change;
}

// ── Step 6.3: what was renamed ───────────────────────────────────────────────────────────────────

/** A rename within the source, which a target can repeat instead of having all that was renamed sent once more. */
interface Move {
  from: string;
  to: string;
  /** The kernel's number of the rename (inotify(7)). */
  cookie: string;
  /** Device and inode of what was renamed, nothing where it was not found there any more. */
  identity: string | undefined;
  /** Whether an rsync was under way since: it may have put into the old place what has come there after the rename. */
  isExposed?: boolean | undefined;
  /** Whether it had on its way what may have taken the place of another thing below. */
  isMixed?: boolean | undefined;
}

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const identityOf = ({ dev, ino }: Pick<Stats | BigIntStats, 'dev' | 'ino'>) => `${dev}:${ino}`;

/** A path, all directories above it, and the source itself. */
function withParents(path: string): string[] {
  const paths = [''];
  for (let end = path.length; end > 0; end = path.lastIndexOf('/', end - 1)) paths.push(path.slice(0, end));
  return paths;
}

/** The renames that a target lacks, from where it has a thing to where the source has it, in their order. */
class Moves extends Map<string, Move> {
  add(move: Move): void {
    const { from, isExposed, isMixed } = this.get(move.from) ?? move; // it was renamed before
    this.delete(move.from);
    this.delete(move.to);
    if (from !== move.to && this.size < MAX_MOVES)
      this.set(move.to, { ...move, from, isExposed: isExposed || move.isExposed, isMixed });
  }

  /** Something else has come to a path. A rename may be told twice, by a watcher and by the one that takes its place. */
  forget(path: string, cookie: string): void {
    if (this.get(path)?.cookie !== cookie) this.delete(path);
  }

  /** Puts back those that have come to nothing, before those that were done since. */
  restore(moves: Move[]): void {
    const since = [...this.values()];
    this.clear();
    for (const move of moves) this.add({ ...move, isExposed: true });
    for (const move of since) this.add(move);
  }

  /** Hands out those that lead to what the source still has there. */
  take(source: Source, lacking: Batch[]): Move[] {
    const moves = [...this.values()];
    if (moves.length === 0) return [];
    this.clear();
    const replaced = replacedBelow(lacking);
    const isGone = (from: string) =>
      !source.look(from) ||
      lacking.some((changes) => !(changes.get(from)?.events ?? 'MOVED_FROM').startsWith('MOVED_FROM'));
    const last = new Map(moves.map(({ from }, n) => [from, n]));
    const isTaken = (from: string) => lacking.some((changes) => changes.get(from)?.replaced);
    return moves.filter(({ from, to, identity, isExposed, isMixed }, n) => {
      const found = source.look(to);
      if (!found || identityOf(found) !== identity) return false;
      if (found.isDirectory() && (isMixed || replaced.has(from) || replaced.has(to))) return false;
      if (!isGone(from) || (isExposed && isTaken(from))) return false;
      return (last.get(to) ?? -1) <= n; // one of a circle gives way
    });
  }
}

/** The directories below which something may have taken the place of another thing. */
function replacedBelow(batches: Batch[]): Set<string> {
  const paths = batches.flatMap((batch) => [...batch].filter(([, { replaced }]) => replaced));
  return new Set(paths.flatMap(([path]) => withParents(parentOf(path))));
}

// ── Step 6.4: what rsync has to look at ──────────────────────────────────────────────────────────

/** What a new file system holds. */
const LOST_AND_FOUND = 'lost+found';

/** The source directory. Paths in it are relative to it, as bytes in latin1 strings. */
class Source {
  /** What stands before every path that inotifywait prints. */
  readonly root: string;
  /** Where rsync starts, for names, and what stands before a path of the source there. */
  readonly base: string;
  readonly prefix: string;
  /** Directories whose events may be missing or come under other names, with the watcher that saw them, by its number. */
  readonly doubts = new Map<string, number>();
  /** Whether files may have several names. */
  private linked = true;
  private readonly identity: string;

  constructor(private readonly directory: string) {
    const bytes = Buffer.from(directory).toString('latin1');
    const isContents = directory.endsWith('/');
    this.root = isContents ? bytes : `${bytes}/`;
    this.base = isContents ? directory : dirname(directory);
    this.prefix = isContents ? '/' : `/${basename(bytes)}/`;
    this.identity = this.identify();
  }

  /** Looks for files with several names. Where that is not possible, there may be some. */
  async findLinks(): Promise<void> {
    const { stdout, exitCode } = await run`find ${`${this.directory}/`} -type f -links +1 -print -quit`;
    this.linked = exitCode !== 0 || stdout !== '';
  }

  private identify(path = this.directory): string {
    return identityOf(statSync(path, { bigint: true }));
  }

  /** Whether a process that was started in the source is there: it stays, whatever is mounted in its place. */
  holds({ pid }: ChildProcess): boolean {
    try {
      return this.identify(`/proc/${pid}/cwd`) === this.identity;
    } catch {
      return true; // it has ended
    }
  }

  /** What a volume leaves behind that is not mounted must not be taken for the source. @throws {Failure} */
  check(): void {
    try {
      state.sourceFound = this.identify() === this.identity;
    } catch {
      state.sourceFound = false;
    }
    if (!state.sourceFound) this.refuse();
  }

  /** @throws {Failure} always */
  refuse(): never {
    state.sourceFound = false;
    touch();
    const what = `源目录 ${escapeText(this.directory)} ${existsSync(this.directory) ? '已不是启动时的目录' : '不见了'}`;
    throw new Failure(`${what}，为保护备份拒绝同步。请检查挂载；若是有意更换，请重启服务`);
  }

  isEmpty(): boolean {
    this.check();
    return readdirSync(this.directory).every((name) => name === LOST_AND_FOUND);
  }

  look(path: string): Stats | undefined {
    try {
      return lstatSync(Buffer.from(this.root + path, 'latin1'), { throwIfNoEntry: false });
    } catch {
      return undefined; // its directory may not be entered any more, for example
    }
  }

  private entries(path: string) {
    try {
      return readdirSync(Buffer.from(this.root + path, 'latin1'), { encoding: 'latin1', withFileTypes: true });
    } catch {
      return []; // it is gone again
    }
  }

  /**
   * What rsync has to look at for a batch, or nothing where only the whole tree will do: a file with several names
   * changes under all of them, and one that is gone does not tell any more whether it had others.
   */
  async survey(batch: Batch): Promise<Scopes | undefined> {
    const scopes = new Map<string, Scope>();
    const breathe = breather();
    for (const [path, { tree, shared, hidden }] of batch) {
      await breathe();
      const { reached, found } = this.normalise(path);
      if (this.linked && (hidden || (!found && (shared || tree)))) return undefined;
      if (found && this.hasOtherNames(found)) return undefined;
      if (tree && found?.isDirectory() && reached === path) {
        if (!(await this.surveyTree(path, scopes, breathe))) return undefined;
      } else if (!scopes.has(reached)) {
        scopes.set(reached, !found ? 'gone' : found.isDirectory() ? 'directory' : 'entry');
      }
      if (scopes.size > MAX_PENDING) return undefined;
    }
    return scopes;
  }

  private hasOtherNames(found: Stats): boolean {
    const several = found.isFile() && found.nlink > 1;
    this.linked ||= several;
    return several;
  }

  /** The part of a path that is there, from the root down: to the first component that is missing or is no directory. */
  private normalise(path: string): { reached: string; found: Stats | undefined } {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
      const reached = path.slice(0, end);
      const found = this.look(reached);
      if (!found?.isDirectory()) return { reached, found };
    }
    return { reached: path, found: this.look(path) };
  }

  /** Adds every directory of a subtree; resolves with whether a list can do it justice. */
  private async surveyTree(top: string, scopes: Map<string, Scope>, breathe: () => Promise<void>): Promise<boolean> {
    if (scopes.get(top) === 'tree' || scopes.get(top) === 'inside') return true; // below another one
    scopes.set(top, 'tree');
    for (const rest = [top]; rest.length > 0 && scopes.size <= MAX_PENDING; ) {
      await breathe();
      const directory = rest.pop() ?? '';
      for (const entry of this.entries(directory)) {
        const path = `${directory}/${entry.name}`;
        const found = entry.isDirectory() ? entry : this.look(path); // some file systems do not tell types here
        if (found?.isDirectory()) {
          rest.push(path);
          scopes.set(path, 'inside');
        } else if (found && this.hasOtherNames(found as Stats)) {
          return false;
        }
      }
    }
    return true;
  }
}

/** A path that is there; a directory, but not what is in it; a path that is gone; a subtree; a directory inside of one. */
type Scope = 'entry' | 'directory' | 'gone' | 'tree' | 'inside';
type Scopes = ReadonlyMap<string, Scope>;

/** Gives way to events every few milliseconds of long work: inotifywait must never wait for us, or the kernel's queue overflows. */
function breather(): () => Promise<void> {
  let since = performance.now();
  return async () => {
    if (performance.now() - since < 10) return;
    await immediate();
    since = performance.now();
  };
}

/** How rsync is told what to look at. */
type Method = 'list' | 'rules' | 'full';

const wordSet = (list: string) => new Set(list.split(/\s+/));
/** Options whose value may be the next word. */
const WITH_VALUE = wordSet(
  `-B -T -e -f -M -@ --compress-choice --zc --compress-level --zl --compress-threads --zt --skip-compress --checksum-choice
  --cc --chmod --backup-dir --suffix --max-delete --max-size --min-size --chown --usermap --groupmap --modify-window
  --block-size --temp-dir --bwlimit --timeout --rsync-path --rsh --info --debug --out-format --log-file --log-file-format
  --outbuf --stderr --exclude --exclude-from --include --include-from --filter`,
);
/** Options that let in what they let in by rules that come before ours. */
const FILTERS = wordSet('-f -F --filter --exclude --exclude-from --include --include-from');
/** Other rules name a file in each directory that holds more of them. */
const SIMPLE_RULE = /^([-+PHSR]|(exclude|include|protect|hide|show|risk)\b)/;
/** Other options that mean the same for names on a list as for the whole tree. */
const FOR_LISTS = wordSet(
  `-a -r -l -p -t -g -o -D -v -q -h -z -W -P -c -u -S -i -I -A -X -E -O -J -b -y -s -4 -6 -8
  --archive --recursive --links --perms --times --group --owner --devices --specials --acls --xattrs --executability
  --verbose --quiet --human-readable --progress --stats --itemize-changes --8-bit-output --no-motd --compress --whole-file
  --checksum --update --inplace --append --append-verify --sparse --preallocate --partial --fsync --backup --numeric-ids
  --super --fake-super --omit-dir-times --omit-link-times --ignore-times --size-only --existing --ignore-existing --delete
  --del --delete-before --delete-during --delete-delay --delete-after --force --ignore-errors --safe-links --munge-links
  --fuzzy --blocking-io --ipv4 --ipv6 --mkpath --open-noatime --secluded-args --protect-args --old-args --no-inc-recursive`,
);
/** Those under which a thing that is new to the backup is treated otherwise than one that it has. */
const AGAINST_RENAMES = wordSet(
  `-b -u -@ --backup --backup-dir --suffix --update --existing --ignore-existing --size-only --append --append-verify
  --max-delete --max-size --min-size --modify-window --safe-links`,
);
const NEGATED = /^--no-(perms|p|owner|o|group|g|times|t|devices|specials|D|links|l|compress|z|whole-file|W|verbose|v)$/;

interface Option {
  name: string;
  value?: string | undefined;
}

/** Names and values of the options in a list of words, `-avz` as `-a`, `-v` and `-z`. */
export function parseOptions(list: string[]): Option[] {
  const options: Option[] = [];
  const rest = [...list];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const [, long, attached] = /^(--[^=]+)=?(.*)$/s.exec(word) ?? [];
    if (long) {
      const value = word.includes('=') ? attached : WITH_VALUE.has(long) ? rest.shift() : undefined;
      options.push({ name: long, value });
      continue;
    }
    for (let n = 1; n < word.length; n++) {
      const name = `-${word[n]}`;
      const value = WITH_VALUE.has(name) ? word.slice(n + 1).replace(/^=/, '') || rest.shift() : undefined;
      options.push({ name, value });
      if (value !== undefined) break;
    }
  }
  return options;
}

/** Options that mean something else where rsync is started in the source, unless they name an absolute path. */
const FROM_HERE = wordSet(
  `-R -e -f --relative --rsh --filter --exclude-from --include-from --files-from --password-file --log-file --early-input
  --read-batch --write-batch --only-write-batch`,
);

/** Whether options name, or may name, files from where this program was started. */
export function namesFiles(options: Option[], sshOptions: string): boolean {
  const isFromHere = ({ name, value = '' }: Option) =>
    FROM_HERE.has(name) && !value.startsWith('/') && !(/^(-f|--filter)$/.test(name) && SIMPLE_RULE.test(value));
  const mayBeRelative = /(^|\s)-[FiIEw]\s*[^/~\s]|(File|Path|Command|Provider)["\s=]+(?!["\s=/~])/i;
  return options.some(isFromHere) || mayBeRelative.test(sshOptions);
}

/** What the options allow: a list, rules where they hold filter rules, else only all of the source each time. */
export function methodFor(list: string[]): Method {
  const options = parseOptions(list);
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const isFilter = ({ name, value = '' }: Option) =>
    FILTERS.has(name) && (!/^(-f|--filter)$/.test(name) || SIMPLE_RULE.test(value));
  const isKnown = ({ name }: Option) =>
    FOR_LISTS.has(name) || NEGATED.test(name) || (WITH_VALUE.has(name) && !FILTERS.has(name) && name !== '-M');
  const recursive = has('-a', '-r', '--archive', '--recursive');
  if (!recursive || !options.every((option) => isFilter(option) || isKnown(option))) return 'full';
  if (!options.some(isFilter)) return 'list';
  // To keep old versions, rsync adds a rule behind all others, where it would come too late.
  return has('-b', '--backup') ? 'full' : 'rules';
}

/** All that follows from the options, worked out once. */
function planFor({ RSYNC_OPTS, SSH_OPTS, RENAME_ON_TARGET }: Config) {
  const words = parseWords(RSYNC_OPTS);
  const options = parseOptions(words);
  const has = (names: RegExp) => options.some(({ name }) => names.test(name));
  const method = methodFor(words);
  const deletes = has(/^--del/);
  const isAgainstRenames = options.some(({ name }) => AGAINST_RENAMES.has(name));
  const asksForProgress = options.some(({ name, value }) => name === '--info' && value?.includes('progress'));
  const ruleFiles = options.filter(({ name }) => /^--(ex|in)clude-from$/.test(name));
  return {
    method,
    deletes,
    mayArm: method === 'list' && !has(/^--timeout$/), // rsync would give up while it waits
    mayRename: RENAME_ON_TARGET && method === 'list' && deletes && !isAgainstRenames,
    mayProgress: !asksForProgress && !has(/^(-P|--progress|-q|--quiet|--stderr|--msgs2stderr)$/),
    mayReport: !has(/^--log-file$/), // a log that the options ask for is the user's
    isRelative: has(/^(-R|--relative)$/),
    /** Has errors told apart from the rest where the options mix them. */
    errorOptions: has(/^--(stderr|msgs2stderr)$/) ? ['--stderr=errors'] : [],
    /** Whether rsync may start in the source, so that what is mounted in its place in the meantime cannot be taken for it. */
    mayPin: !namesFiles(options, SSH_OPTS),
    /** With -H, an rsync that scans as it goes waits for itself forever when files vanish on the way (seen in 3.5.0). */
    scanOptions: has(/^(-H|--hard-links)$/) ? ['--no-inc-recursive'] : [],
    ruleFiles: ruleFiles.map(({ value = '' }) => Buffer.from(resolve(value)).toString('latin1')),
  };
}

/** How much rules may be passed as arguments, bytes. */
const MAX_RULES = 200_000;

/**
 * The names for `--files-from`. `path` is the entry itself, `directory/` what is directly in it and, with `--delete`,
 * what is not there any more.
 */
export function listOf(scopes: Scopes, prefix: string): Buffer {
  const names = new Set<string>();
  for (const [path, scope] of scopes) {
    if (scope === 'entry' || scope === 'directory') names.add(path);
    else if (scope === 'gone') names.add(path.includes('/') ? path.replace(/[^/]*$/, '') : '');
    else names.add(`${path}/`);
  }
  const start = prefix === '/' ? './' : prefix; // the dot has rsync mirror the attributes of the source itself, too
  return Buffer.from([...names].map((name) => `${start}${name}\0`).join(''), 'latin1');
}

/** The same as rules that come after the user's, which thereby still exclude what they exclude. */
export function rulesOf(scopes: Scopes, prefix: string): string[] | undefined {
  const patterns = new Set<string>();
  for (const [path, scope] of scopes) {
    if (scope === 'inside') continue;
    const parts = (prefix + path).split('/').filter(Boolean);
    for (let n = 1; n <= parts.length; n++) patterns.add(pattern(`/${parts.slice(0, n).join('/')}`));
    if (scope !== 'directory') patterns.add(pattern(`${prefix}${path}`, '/***'));
  }
  const rules = [...[...patterns].map((text) => `--include=${text}`), '--exclude=*'];
  return rules.join('').length > MAX_RULES ? undefined : rules;
}

/** A path as a pattern: escapes count only where there are wildcards; `?` stands for bytes that an argument cannot hold. */
function pattern(path: string, end = ''): string {
  const hasWildcards = end !== '' || /[*?[\x80-\xff]/.test(path);
  return (hasWildcards ? path.replace(/[\\*?[]/g, '\\$&').replace(/[\x80-\xff]/g, '?') : path) + end;
}

// ── Step 6.5: what is known of a target ──────────────────────────────────────────────────────────

/** A minute of a target's history. */
interface Minute {
  syncs: number;
  failures: number;
  bytes: number;
}

/** What is known of a target. */
class TargetState {
  readonly name: string;
  /** Whether it can be reached. */
  up = false;
  syncing = false;
  /** Whether the last sync failed, so that it is tried again. */
  failing = false;
  /** Whether it has been compared as a whole, so that what it lacks are changes. */
  mirrored = false;
  progress: Progress | null = null;
  readonly syncs = { full: { success: 0, failure: 0 }, incremental: { success: 0, failure: 0 } };
  bytes = 0;
  lastSuccess: Date | null = null;
  lastStatus: number | null = null;
  /** The changes that it lacks: those that wait, those on their way and those that failed. */
  readonly changes = new Changes();
  batch: Batch = new Map();
  readonly failed = new Changes();
  readonly moves = new Moves();
  /** The directories of the batch that is on its way below which something may have taken the place of another thing. */
  private mixed: { batch: Batch; paths: Set<string> } | undefined;
  private readonly history = new Map<number, Minute>();

  constructor(config: Config) {
    this.name = escapeText(destinationOf(config));
  }

  readonly log = this.telling(log);
  readonly warn = this.telling(warn);
  readonly error = this.telling(error);
  readonly heading = this.telling(heading);

  /** What is logged of a target names it in a field, and to people where there are others. */
  private telling(entry: typeof log): typeof log {
    return (event, message, fields) => entry(event, this.named(message), { target: this.name, ...fields });
  }

  named(message: string): string {
    return state.targets.length > 1 ? `${message} [${this.name}]` : message;
  }

  get lacking(): Batch[] {
    return [this.changes.waiting, this.batch, this.failed.waiting];
  }

  /** Notes an event; returns whether it does not merely repeat itself. */
  changed(path: string, events: string, found?: Stats): boolean {
    return this.changes.note(path, events, found, this.batch.has(path) || this.failed.waiting.has(path));
  }

  /** Notes a rename, where it is certain that the target has what was renamed, in its old place. */
  moved(move: Move): void {
    const isReplaced = (changes: Batch) => changes.get(move.from)?.replaced && !this.moves.has(move.from);
    const isUnseen = (changes: Batch) => withParents(move.from).some((path) => changes.get(path)?.tree);
    if (!this.mirrored || this.lacking.some((changes) => isReplaced(changes) || isUnseen(changes))) return;
    if (this.mixed?.batch !== this.batch) this.mixed = { batch: this.batch, paths: replacedBelow([this.batch]) };
    this.moves.add({ ...move, isExposed: this.syncing, isMixed: this.mixed.paths.has(move.from) });
  }

  get pending(): number {
    return this.lacking.reduce((sum, { size }) => sum + size, 0);
  }

  /** Since when it has lacked a change, ms since 1970. */
  get oldestPending(): number | undefined {
    const oldest = Math.min(...this.lacking.map(oldestOf));
    return Number.isFinite(oldest) ? Date.now() - (performance.now() - oldest) : undefined;
  }

  /** Takes down how a sync went. Where files vanish on the way, that is no failure. */
  noteSync({ mode, status, seconds, bytes = 0 }: Result): void {
    const succeeded = status === 0 || status === VANISHED;
    this.syncs[mode][succeeded ? 'success' : 'failure']++;
    this.bytes += bytes;
    const minute = Math.floor(Date.now() / 60_000);
    const entry = this.history.get(minute) ?? { ...NO_MINUTE };
    entry.syncs++;
    entry.failures += Number(!succeeded);
    entry.bytes += bytes;
    this.history.set(minute, entry);
    for (const old of this.history.keys()) if (old <= minute - 60) this.history.delete(old);
    if (succeeded) this.lastSuccess = new Date();
    if (succeeded || status === PARTIAL || status === LIMITED) this.up = true;
    else if (status === UNREACHABLE) this.up = false;
    this.failing = !succeeded && status !== LIMITED;
    this.lastStatus = status;
    views.emit('synced', this.name, mode, seconds);
    touch();
  }

  report() {
    const oldest = this.oldestPending;
    const minute = Math.floor(Date.now() / 60_000);
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
      history: Array.from({ length: 60 }, (_, n) => this.history.get(minute - 59 + n) ?? NO_MINUTE),
    };
  }

  private describe(): 'syncing' | 'down' | 'retrying' | 'waiting' | 'idle' {
    if (this.syncing) return 'syncing';
    if (!this.up) return 'down';
    if (this.failing) return 'retrying';
    return this.pending > 0 ? 'waiting' : 'idle';
  }
}

const NO_MINUTE: Minute = { syncs: 0, failures: 0, bytes: 0 };

// ── Step 6.6: the connection ─────────────────────────────────────────────────────────────────────

/** How long it may take to connect, ms. */
const CONNECT_MS = 30_000;

/** The SSH connection that all that goes to a backup host shares. Emits `tried`, `connected` and `lost`. */
class Connection extends EventEmitter {
  /** Where it is shared, while it stands. */
  socket: string | undefined;
  private hasStood = false;

  constructor(
    private readonly config: Config,
    private readonly hostKeys: HostKeys,
    private readonly backup: TargetState,
  ) {
    super();
  }

  /** How ssh gets to the backup. Where nothing is shared, it connects by itself: the host keys are read anew. */
  findRoute(): Route {
    const { socket, hostKeys } = this;
    return { socket, knownHosts: socket ? hostKeys.file : hostKeys.refresh() };
  }

  /** Opens it, and anew whenever it ends; looks again soon after the backup has come or gone. */
  async keep(): Promise<void> {
    let backoff = newBackoff();
    let wasUp = false;
    for (let lost = false; !stopping; lost = true) {
      const ssh = await this.open().catch((cause) => {
        if (lost || stopping) return;
        this.backup.warn('connection.failed', `无法建立共享的 SSH 连接，将自动重试：${reasonOf(cause)}`);
      });
      if (ssh) this.backup.up = this.hasStood = true;
      else if (this.backup.up || !this.hasStood) this.backup.up = await this.answers().catch(() => false);
      touch();
      this.emit('tried');
      if (this.backup.up !== wasUp) backoff = newBackoff();
      wasUp = this.backup.up;
      if (ssh) {
        if (lost) this.backup.log('connection.restored', 'SSH 连接已恢复 ✓');
        await this.stand(ssh);
      } else {
        await pause(backoff.next().value);
      }
    }
  }

  /** Whether a login works without it. Throws where nothing is known any more of the host's keys. */
  private async answers(): Promise<boolean> {
    return (await tryLogin(this.config, this.findRoute())).exitCode === 0;
  }

  /** Resolves when it has ended. */
  private async stand(ssh: ChildProcess): Promise<void> {
    this.hostKeys.connected();
    this.emit('connected');
    if (children.has(ssh)) await once(ssh, 'exit');
    this.socket = undefined;
    this.backup.up = false;
    this.emit('lost');
    if (!stopping) this.backup.warn('connection.lost', 'SSH 连接已断开，正在重新连接...');
  }

  /** Resolves once it stands. @throws {Failure} with the last words of ssh */
  private async open(): Promise<ChildProcess> {
    const knownHosts = this.hostKeys.refresh();
    const directory = temporaryDirectory(this.config);
    const socket = join(directory, 'ssh');
    const args = sshArgs(this.config, { socket, knownHosts });
    const options = ['-N', '-o', 'ControlMaster=yes', '-o', 'ControlPersist=no', ...args];
    const ssh = startOnLeash(['ssh', ...options, loginOf(this.config)], 'ignore', directory);
    ssh.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    const said = tailOf(ssh.stderr);
    const latest = performance.now() + CONNECT_MS;
    while (children.has(ssh) && performance.now() < latest) {
      if (existsSync(socket)) {
        this.socket = socket;
        return ssh;
      }
      await sleep(10);
    }
    signalGroup(ssh, 'SIGKILL');
    this.hostKeys.explain(said());
    throw new Failure(lastLine(said()) || '超时');
  }
}

// ── Step 6.7: the target ─────────────────────────────────────────────────────────────────────────

const LIST_OPTIONS = ['--no-recursive', '--dirs', '--ignore-missing-args', '--files-from=-', '--from0'];
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

/** A backup host: the rsync that waits there for the next batch, and how what has changed is sent. */
class Target extends EventEmitter {
  readonly state: TargetState;
  private readonly config: Config;
  private readonly plan: ReturnType<typeof planFor>;
  private readonly isPinned: boolean;
  private readonly hostKeys: HostKeys;
  private readonly connection: Connection;
  private reaching: Promise<void> | undefined;
  private armed: Transfer | undefined;
  private reports = 0;
  /** What is known of the sync that runs. */
  private sent: { mode: Mode } & Totals = { mode: 'incremental' };
  /** Whether a regular comparison is due. */
  private isRegular = false;
  private partialBackoff = newBackoff();
  /** Whether the backup knows how to rename, as far as it has been asked. */
  private canRename = true;
  /** The renames for which the backup could not be reached; they wait on if the batch cannot reach it either. */
  private unrepeated: Move[] = [];

  constructor(
    private readonly host: Host,
    private readonly source: Source,
  ) {
    super();
    this.config = host.config;
    this.plan = planFor(host.config);
    this.isPinned = source.prefix === '/' && this.plan.mayPin;
    this.state = new TargetState(host.config);
    this.hostKeys = new HostKeys(host.config, this.state);
    this.connection = new Connection(host.config, this.hostKeys, this.state);
    this.connection.on('connected', () => {
      this.canRename = true;
      this.arm();
    });
    this.connection.on('lost', () => {
      if (this.armed) signalGroup(this.armed.rsync, 'SIGTERM'); // it waits for names and does not notice
      this.armed = undefined;
    });
  }

  /** Steps 3 and 4. @throws {Failure} */
  reach(): Promise<void> {
    this.reaching ??= this.tryToReach();
    return this.reaching;
  }

  private async tryToReach(): Promise<void> {
    try {
      await waitForSsh(this.host, this.state);
      if (!stopping) await testSshConnection(this.config, this.hostKeys, this.state);
    } catch (cause) {
      throw cause instanceof Failure ? new Failure(this.state.named(cause.message)) : cause;
    }
  }

  /** All from the first full sync on; where there are other targets, this one is taken in when it can be. @throws {Failure} */
  async mirror(): Promise<void> {
    const isHere = await this.reach().then(
      () => true,
      (cause) => this.missed(cause),
    );
    if (stopping) return;
    this.connection.keep().catch(fail);
    await once(this.connection, 'tried');
    const started = performance.now();
    const status = isHere ? await fullSync(this) : UNREACHABLE;
    if (stopping) return;
    this.noteFirstCompare(status);
    if (status === PARTIAL) this.tryAgain(ALL).catch(fail);
    else if (!this.state.mirrored) this.state.changes.add(ALL);
    this.compareRegularly().catch(fail);
    await this.syncLoop(started);
  }

  private missed(cause: unknown): false {
    if (!(cause instanceof Failure)) throw cause;
    for (const line of cause.message.split('\n'))
      warn('target.missed', `${line}。其他目标照常同步，此目标恢复后自动加入`, { target: this.state.name });
    return false;
  }

  /** Emits `mirrored` when the whole tree was compared for the first time. */
  private noteFirstCompare(status: number): void {
    if (this.state.mirrored || ![0, PARTIAL, LIMITED].includes(status)) return;
    this.state.mirrored = true;
    this.emit('mirrored');
  }

  /** Starts the rsync of the next batch: it connects now, so that only names are missing when the batch is due. */
  private arm(): void {
    if (stopping || this.state.syncing || this.armed || !this.connection.socket || !this.plan.mayArm) return;
    const started = performance.now();
    const transfer = this.startList();
    this.armed = transfer;
    const replace = () => {
      if (this.armed !== transfer) return;
      this.armed = undefined;
      const age = performance.now() - started;
      pause(age < SHORT_LIFE_MS ? SHORT_LIFE_MS : 0).then(() => this.arm());
    };
    transfer.rsync.once('exit', replace).once('error', replace);
  }

  /** @param format what rsync reports of each file; names have no place there */
  private startRsync(extra: string[], source?: string, format = '%i'): Transfer {
    const place = this.isPinned ? { from: './', cwd: this.source.base } : { from: source, cwd };
    const report = this.reportFile();
    const options = report ? [`--log-file=${report}`, `--log-file-format=${format}`] : [];
    const args = rsyncArgs(this.config, this.connection.findRoute(), [...extra, ...options], place.from);
    const transfer: Transfer = { rsync: start('rsync', args, { cwd: place.cwd }), totals: {} };
    if (report) transfer.rsync.once('close', () => Object.assign(transfer.totals, takeReport(report)));
    return transfer;
  }

  /** Where rsync may put down what it has done: it goes with the connection. */
  private reportFile(): string | undefined {
    const { socket } = this.connection;
    if (!socket || !this.plan.mayReport || isWatched(this.config, socket)) return undefined;
    return join(dirname(socket), `${++this.reports}.log`);
  }

  private holdsSource({ rsync }: Transfer): boolean {
    return !this.isPinned || this.source.holds(rsync);
  }

  private startList(): Transfer {
    return this.startRsync(LIST_OPTIONS, this.source.base);
  }

  /**
   * Lets a started rsync run to its end, with names on its standard input; resolves with its exit status, 128 + n for
   * signal n. @throws {Failure} where it was started in something else than the source
   */
  private async finish(transfer: Transfer, names?: Buffer, filter?: (bytes: string) => string): Promise<number> {
    const { rsync } = transfer;
    if (!this.holdsSource(transfer)) {
      signalGroup(rsync, 'SIGKILL');
      this.source.refuse();
    }
    if (rsync.stdout) passOn(rsync.stdout, this.state.name, filter);
    if (rsync.stderr) passOn(rsync.stderr, this.state.name);
    rsync.stdin?.end(names);
    const status = await exitStatus(rsync);
    this.sent = { ...this.sent, ...transfer.totals };
    return status;
  }

  /** Compares the whole tree. @throws {Failure} where the source is not what it was, or would empty the backup */
  async compareAll(): Promise<number> {
    this.sent.mode = 'full';
    this.source.check();
    await this.checkNotEmptied();
    return this.sendAll();
  }

  /** Compares the whole tree and tells how far it has come. */
  private async sendAll(): Promise<number> {
    this.sent.mode = 'full';
    const { scanOptions, mayProgress } = this.plan;
    const filter = mayProgress ? progressFilter((progress) => this.progressed(progress)) : undefined;
    const extra = [...scanOptions, ...(mayProgress ? ['--info=progress2'] : [])];
    const telling = setInterval(() => this.logProgress(), PROGRESS_MS);
    try {
      const status = await this.finish(this.startRsync(extra, undefined, ''), undefined, filter);
      this.sent.files = this.state.progress?.files;
      return status;
    } finally {
      clearInterval(telling);
      this.state.progress = null;
    }
  }

  private progressed(progress: Progress): void {
    this.state.progress = progress;
    touch();
    if (!drawsProgress) return;
    process.stdout.write(`${WIPE}${describeProgress(progress)}`);
    terminal.drawn = WIPE;
  }

  private logProgress(): void {
    const { progress } = this.state;
    if (progress && !drawsProgress) this.state.log('sync.progress', describeProgress(progress), { ...progress });
  }

  /** A volume that is not mounted looks like an empty source. rsync tells by status 25 that it would have to delete. */
  private async checkNotEmptied(): Promise<void> {
    if (!this.plan.deletes || this.config.ALLOW_EMPTY_SOURCE || !this.source.isEmpty()) return;
    const options = `-r --delete --max-delete=0 --dry-run --exclude=${LOST_AND_FOUND}`;
    const probe = rsyncArgs({ ...this.config, RSYNC_OPTS: options }, this.connection.findRoute());
    const { exitCode, stderr } = await run`rsync ${probe}`;
    if (exitCode === 0 || exitCode === VANISHED) return;
    const reason = `退出码: ${exitCode}，${escapeText(stderr.trim().split('\n')[0] ?? '')}`;
    if (exitCode !== LIMITED) throw new Failure(`源目录为空，且无法确定备份是否为空 (${reason})，拒绝同步`);
    throw new Failure(
      '源目录为空而备份不为空，为保护备份拒绝同步。请检查源目录的挂载；若确实要清空备份，请设置 ALLOW_EMPTY_SOURCE=true',
    );
  }

  /** Mirrors a batch; resolves with rsync's exit status. @throws {Failure} where the source is not what it was */
  private async syncChanges(batch: Batch): Promise<number> {
    this.unrepeated = [];
    if (batch.get('')?.tree) {
      this.state.moves.clear();
      return this.compareAll();
    }
    this.source.check();
    await this.repeatMoves();
    this.source.check(); // the backup may have taken long
    const { method } = this.plan;
    const isWhole = method === 'full' || [...batch.keys()].some((path) => this.holdsRules(path));
    const scopes = isWhole ? undefined : await this.source.survey(batch);
    if (scopes && method === 'list') return this.syncList(listOf(scopes, this.source.prefix));
    const rules = scopes && rulesOf(scopes, this.source.prefix);
    return rules ? this.finish(this.startRsync(rules)) : this.sendAll();
  }

  /** Has the backup rename what was renamed here. Whatever comes of it, the batch then mirrors both places. */
  private async repeatMoves(): Promise<void> {
    const moves = this.state.moves.take(this.source, this.state.lacking);
    if (moves.length === 0 || !this.plan.mayRename || !this.canRename) return;
    this.unrepeated = moves;
    const { status, renamed, said } = await this.rename(moves);
    if (status === UNREACHABLE) return;
    this.unrepeated = [];
    if (status === 0) {
      if (renamed > 0) this.state.log('sync.renamed', `已在目标上重命名 ${renamed} 项，无需再次传输`, { renamed });
    } else {
      this.canRename = false;
      this.state.log('sync.rename_refused', `目标不支持重命名 (${said})，移动的内容将再次传输`);
    }
  }

  private async rename(moves: Move[]): Promise<{ status: number; renamed: number; said: string }> {
    const command = `start-sshd --rename ${quote(this.config.DEST_DIR)}`;
    const ssh = start('ssh', [...sshArgs(this.config, this.connection.findRoute()), loginOf(this.config), command], {
      cwd,
    });
    const prefix = this.source.prefix.slice(1);
    const names = moves.flatMap(({ from, to }) => [from, to]).map((path) => `${prefix}${path}\0`);
    ssh.stdin?.end(names.join(''), 'latin1');
    const [renamed, said] = [tailOf(ssh.stdout), tailOf(ssh.stderr)];
    const [code] = await once(ssh, 'close');
    return { status: code ?? UNREACHABLE, renamed: Number(renamed()), said: lastLine(said()) };
  }

  /** Whether a file in the source decides what rsync lets in elsewhere. */
  private holdsRules(path: string): boolean {
    const { method, ruleFiles } = this.plan;
    const isRuleFile = basename(path) === '.rsync-filter' || ruleFiles.includes(this.source.root + path);
    return method === 'rules' && isRuleFile;
  }

  /** An rsync that waited for long may have lost its connection without noticing: that says nothing of the batch. */
  private async syncList(names: Buffer): Promise<number> {
    const armed = this.armed;
    this.armed = undefined;
    if (armed && !this.holdsSource(armed)) signalGroup(armed.rsync, 'SIGKILL');
    else if (armed && children.has(armed.rsync)) {
      const started = performance.now();
      const status = await this.finish(armed, names);
      const stale = [12, 20, 30, 255].includes(status) && performance.now() - started < LOST_BEFORE_MS;
      if (!stale || stopping) return status;
    }
    return this.finish(this.startList(), names);
  }

  /** At most one sync starts in `SYNC_INTERVAL`; the last change of a burst is synced when that time is over. */
  async syncLoop(firstStart: number): Promise<void> {
    let lastStart = firstStart;
    let backoff = newBackoff();
    while (true) {
      await this.due(lastStart);
      if (this.state.changes.size === 0) return;
      const batch = this.takeBatch();
      lastStart = performance.now();
      const { socket } = this.connection;
      const status = await this.syncBatch(batch);
      const everything = batch.get('');
      if (everything?.tree) this.noteFirstCompare(status);
      if (everything?.since === Number.POSITIVE_INFINITY) batch.set('', TREE); // from now on it is missed, if it failed
      if (status === 0 || status === LIMITED) {
        backoff = newBackoff();
        if (this.state.failed.size === 0) this.partialBackoff = newBackoff();
      } else if (stopping) {
        const message = `${batch.size} 处变化尚未同步，下次启动时的全量同步会包含它们`;
        return this.state.warn('sync.postponed', message, { pending: batch.size });
      } else if (status === PARTIAL) {
        this.tryAgain(batch).catch(fail);
      } else {
        this.state.changes.add(batch);
        this.state.moves.restore(this.unrepeated);
        const delay = this.announce(backoff, batch.size);
        const isAnew = this.connection.socket && this.connection.socket !== socket;
        if (!isAnew) await pauseOr(delay, this.connection, 'connected');
      }
    }
  }

  /** Returns when a batch is due, or when a request to stop leaves no time to wait. */
  private async due(lastStart: number): Promise<void> {
    if (this.state.changes.size === 0) await happened(this.state.changes, 'arrived');
    await pause(lastStart + this.config.SYNC_INTERVAL * 1000 - performance.now());
    const latest = performance.now() + MAX_QUIET_MS;
    while (!stopRequest.signal.aborted) {
      const ms = this.state.changes.wait(latest, this.patience);
      if (ms <= 0) return;
      await pauseOr(ms, this.state.changes, 'arrived');
    }
  }

  /** How long a file may stay open before it is mirrored as it is, ms. */
  private get patience(): number {
    return stopRequest.signal.aborted ? 0 : Math.max(this.config.SYNC_INTERVAL * 1000, MAX_QUIET_MS);
  }

  private takeBatch(): Batch {
    announceRest();
    const batch = this.state.changes.take(this.patience);
    for (const path of this.source.doubts.keys()) batch.set(path, { ...UNKNOWN, ...batch.get(path), tree: true });
    return batch;
  }

  private async syncBatch(batch: Batch): Promise<number> {
    const what = this.isRegular ? '触发定期全量同步...' : '触发批量同步...';
    this.state.log('sync.start', what, { changes: batch.size });
    this.isRegular = false;
    this.state.batch = batch;
    const status = await this.sync(() => this.syncChanges(batch));
    this.state.batch = new Map();
    return status;
  }

  /** One sync, told in the log: resolves with rsync's exit status, 0 also where files vanished on the way. */
  async sync(transfer: () => Promise<number>): Promise<number> {
    const started = performance.now();
    this.sent = { mode: this.plan.method === 'full' ? 'full' : 'incremental' };
    this.state.syncing = true;
    touch();
    let reason: string | undefined;
    const status = await transfer().catch((cause) => {
      reason = cause instanceof Failure ? cause.message : `无法启动 rsync：${reasonOf(cause)}`; // no memory, for example
      return cause instanceof Failure ? cause.status : 126;
    });
    this.state.syncing = false;
    const result = { ...this.sent, status, seconds: (performance.now() - started) / 1000 };
    this.state.noteSync(result);
    this.logResult(result, reason);
    this.arm(); // also where the one that waited has died meanwhile
    return status === VANISHED ? 0 : status;
  }

  private logResult({ mode, status, seconds, files, bytes }: Result, reason?: string): void {
    const fields = { mode, duration_ms: Math.round(seconds * 1000), files, bytes, exit_code: status };
    if (status === 0 || status === VANISHED) {
      this.state.log('sync.success', `同步成功 (耗时: ${Math.round(seconds)}秒) ✓`, fields);
    } else {
      this.state.error('sync.failure', reason ?? `同步失败 (退出码: ${status})：${meaningOf(status)}`, fields);
    }
  }

  /** Tells when the next try will be, and how far away that is, ms. */
  private announce(backoff: Backoff, count: number): number {
    const delay = backoff.next().value;
    const fields = { delay_ms: delay, pending: count };
    this.state.warn('sync.retry', `${delay / 1000} 秒后重试，${count} 处变化等待同步`, fields);
    return delay;
  }

  /** Files that fail for good must not hold back the others, nor have these pay for every try. */
  async tryAgain(batch: Batch): Promise<void> {
    const { failed, changes } = this.state;
    const isWaiting = failed.size > 0;
    failed.add(batch);
    if (isWaiting) return;
    await pause(this.announce(this.partialBackoff, failed.size));
    changes.add(failed.take(0));
  }

  /** The safety net: whatever went wrong unnoticed is mended by a comparison of all now and then. */
  async compareRegularly(): Promise<void> {
    while (this.config.FULL_SYNC_INTERVAL > 0) {
      await pause(this.config.FULL_SYNC_INTERVAL * 1000);
      if (stopRequest.signal.aborted) return;
      this.isRegular = true;
      this.state.changes.add(REGULAR);
    }
  }
}

// ── Processes ────────────────────────────────────────────────────────────────────────────────────

/** Whether the program is to end. */
let stopping = false;
/** Ends all waits, a little later: once inotifywait has told of the last changes. */
const stopRequest = new AbortController();
/** The work that a request to stop lets finish. */
let work: Promise<unknown> = Promise.resolve();

/** Waits of 1, 2, 4 … 60 s, given in ms. */
function* newBackoff(): Generator<number, never> {
  for (let ms = 1000; ; ms = Math.min(2 * ms, 60_000)) yield ms;
}
type Backoff = ReturnType<typeof newBackoff>;

/** Waits, ms; a request to stop ends it. */
async function pause(ms: number, signal = stopRequest.signal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
}

/** Waits for an event; a request to stop ends it. */
async function happened(emitter: EventEmitter, event: string, signal = stopRequest.signal): Promise<void> {
  await once(emitter, event, { signal }).catch(() => {});
}

/** Waits, ms, or until an event. */
async function pauseOr(ms: number, emitter: EventEmitter, event: string): Promise<void> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stopRequest.signal]);
  await Promise.race([pause(ms, signal), happened(emitter, event, signal)]);
  over.abort();
}

const children = new Set<ChildProcess>();

// `sudo -u` may leave us in a directory that the user may not enter.
const cwd = existsSync(process.cwd()) ? process.cwd() : '/';

/** Starts a program in a process group of its own: Ctrl-C reaches only us, and what ends it ends all it started. */
function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true });
  children.add(child);
  for (const event of ['exit', 'error']) child.once(event, () => children.delete(child));
  child.once('exit', () => child.stdin?.destroy());
  child.stdin?.on('error', () => {}); // its exit status says why it reads no more
  return child;
}

/** A directory that nobody else may enter. Its path is short, for a socket (unix(7): 108 bytes, of which ssh needs some). */
function temporaryDirectory(config: Config): string {
  const isUsable = (path: string) => Buffer.byteLength(path) <= 60 && !UNQUOTABLE.test(path);
  const parents = [tmpdir(), '/tmp', config.SSH_DIR].filter(isUsable);
  for (const parent of parents) {
    try {
      return mkdtempSync(join(parent, 'rsync-inotify-'));
    } catch {}
  }
  throw new Error(`无法在 ${parents.join('、')} 中创建临时目录，请检查权限和磁盘空间`);
}

/** Removes $0 and ends the command when its standard input, a pipe of ours, is closed: also when we are killed. */
const LEASH = 'exec 3<&0; (read -r _ <&3; rm -rf -- "$0"; kill 0) & exec "$@" 3<&- </dev/null';

/** Starts a program that would run on without us. What it leaves in `directory` goes with it. */
function startOnLeash(command: string[], stdout: 'ignore' | 'pipe', directory = ''): ChildProcess {
  return start('/bin/sh', ['-c', LEASH, directory, ...command], { cwd, stdio: ['pipe', stdout, 'pipe'] });
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid && children.has(child)) sendSignal(-child.pid, signal);
}

/** Sends to a process, or to a group by its negative number. */
function sendSignal(id: number, signal: NodeJS.Signals): void {
  try {
    process.kill(id, signal);
  } catch {
    // it has ended this moment
  }
}

/** The processes that this one has started (proc(5)); none where the kernel keeps no such list. */
function startedProcesses(): number[] {
  try {
    return readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

async function endChildren(): Promise<void> {
  const own = new Set([...children].map(({ pid }) => pid));
  for (const pid of startedProcesses()) if (!own.has(pid)) sendSignal(pid, 'SIGKILL'); // ssh-keygen-lite hands out no process
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const running = [...children];
    for (const child of running) signalGroup(child, signal);
    await Promise.race([Promise.all(running.map((child) => once(child, 'exit'))), sleep(1000)]);
  }
}

/** Keeps the end of what a program says. */
function tailOf(stream: Readable | null): () => string {
  let tail = '';
  stream?.on('data', (chunk) => {
    tail = `${tail}${chunk}`.slice(-1000);
  });
  return () => tail;
}

/** Resolves when a program has ended and all that it has said is read: with its exit status, 128 + n for signal n. */
async function exitStatus(child: ChildProcess): Promise<number> {
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + (signal ? osConstants.signals[signal] : 0);
}

/** zx for what runs once; loaded only here, because it takes longer than all that --healthcheck does. */
async function run(words: TemplateStringsArray, ...values: (string | string[])[]): Promise<ProcessOutput> {
  const { $ } = await import('zx');
  const shell = { shell: '/bin/sh', prefix: '', quote }; // on every machine; bash is not
  const options = { ...shell, spawn: start as typeof spawn, nothrow: true, quiet: true, cwd };
  return $({ ...options, stdio: ['ignore', 'pipe', 'pipe'] })(words, ...values);
}

/** How ssh gets to the backup. */
interface Route {
  /** Where a connection is shared, if one is. */
  socket?: string | undefined;
  /** The file of the host keys that count, if the backup has published any. */
  knownHosts?: string | undefined;
}

const asOptions = (settings: string[]) => settings.flatMap((setting) => ['-o', setting]);
const sshEscaped = (path: string) => path.replaceAll('%', '%%');
const sshQuoted = (path: string) => `"${sshEscaped(path)}"`;

/**
 * The arguments for every ssh, which takes the first value that it is given. Which host keys count and which connection
 * is shared is ours to say: a connection that is shared by the user's configuration would outlive us; of `-S` the last
 * one counts. For the rest, the user's options come first.
 */
export function sshArgs(config: Config, { socket = 'none', knownHosts }: Route = {}): string[] {
  const defaults = [
    'BatchMode=yes',
    'StrictHostKeyChecking=accept-new',
    'ConnectTimeout=10',
    'ServerAliveInterval=10', // a network that is silent for 30 s is cut
    'ServerAliveCountMax=2',
    'IdentitiesOnly=yes',
    `IdentityFile=${sshQuoted(join(config.SSH_DIR, 'id_rsa'))}`,
    `UserKnownHostsFile=${sshQuoted(join(config.SSH_DIR, 'known_hosts'))}`,
  ];
  const ours = ['ControlMaster=no', ...(knownHosts ? pinnedTo(knownHosts) : [])];
  return [...asOptions(ours), ...parseWords(config.SSH_OPTS), '-S', sshEscaped(socket), ...asOptions(defaults)];
}

/** Settings under which ssh takes no host keys but those in a file, whatever else the user's options and files say. */
function pinnedTo(knownHosts: string): string[] {
  return [
    'StrictHostKeyChecking=yes',
    `UserKnownHostsFile=${sshQuoted(knownHosts)}`,
    'GlobalKnownHostsFile=/dev/null',
    'VerifyHostKeyDNS=no',
    'NoHostAuthenticationForLocalhost=no',
    'UpdateHostKeys=no', // or the backup could add to the file
    'CheckHostIP=no',
    ...optionalSettings(),
  ];
}

let optional: string[] | undefined;
/** Settings that only some ssh know: since 8.5, or with the distributions' patch for Kerberos, which needs no host key. */
function optionalSettings(): string[] {
  optional ??= ['KnownHostsCommand=none', 'GSSAPIKeyExchange=no'].filter((setting) => {
    const { status, stderr } = spawnSync('ssh', ['-G', '-T', '-F', 'none', '-o', setting, 'host']);
    return status === 0 && stderr.length === 0;
  });
  return optional;
}

/** Quotes a word for rsync's `-e`, which knows quotes (doubled inside themselves) but no backslashes. */
export function quoteForRsh(word: string): string {
  return /^[^\s'"]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`;
}

/** Without it, a file that is rewritten at the same size within a second counts as unchanged (rsync(1), --modify-window). */
const TO_THE_NANOSECOND = '--modify-window=-1';

/**
 * The arguments for every rsync.
 * @param extra options that come after the user's
 * @param source what is copied, all of the source if not given
 */
export function rsyncArgs(config: Config, route?: Route, extra: string[] = [], source = config.SOURCE_DIR): string[] {
  const ssh = ['ssh', ...sshArgs(config, route)].map(quoteForRsh).join(' ');
  const options = [TO_THE_NANOSECOND, ...parseWords(config.RSYNC_OPTS), ...extra];
  return [...options, '-e', ssh, '--', source, destinationOf(config)];
}

/** Tries to log in: exit status 0 says that it works. */
const tryLogin = (config: Config, route: Route) => run`ssh ${sshArgs(config, route)} ${loginOf(config)} ${'echo ok'}`;

// ── Files and keys ───────────────────────────────────────────────────────────────────────────────

/** How large a file with a public key may be, bytes. */
const MAX_KEY_BYTES = 16_384;

/** Writes a file whole or not at all. Others may write in its directory, too: what they put there is not followed. */
function replaceFile(path: string, content: string, mode: number): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const remove = () => rmSync(temporary, { recursive: true, force: true });
  remove(); // of a start that was cut short
  const umask = process.umask(0); // the mode is meant as it is
  try {
    writeFileSync(temporary, content, { mode, flag: 'wx' });
    if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) renameSync(path, `${path}.${Date.now()}.old`);
    renameSync(temporary, path);
  } finally {
    process.umask(umask);
    remove();
  }
}

/** What a small file holds. Throws where it is something else: others may have put it there. */
function readSmallFile(path: string): string {
  const found = lstatSync(path);
  if (!found.isFile() || found.size > MAX_KEY_BYTES)
    throw new Error(`应为不超过 ${MAX_KEY_BYTES} 字节的普通文件，不能是链接`);
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const bytes = Buffer.alloc(MAX_KEY_BYTES);
    return bytes.toString('utf8', 0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}

/** `TYPE BASE64` of a line `TYPE BASE64 [COMMENT]`. Throws on anything else: options, markers, more lines, half a key. */
export function parsePublicKey(content: string): string {
  const form = /^(ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)) ([A-Za-z0-9+/]+={0,2})(?: [^\p{Cc}]*)?\n?$/u;
  const [, type = '', body = ''] = form.exec(content) ?? [];
  const blob = Buffer.from(body, 'base64');
  const [name, ...rest] = partsOf(blob);
  if (!name || name !== type || rest.length === 0 || blob.toString('base64') !== body) {
    throw new Error('应为完整的一行公钥: 类型 BASE64 [注释]');
  }
  return `${type} ${body}`;
}

/** The parts of a key, each of which says how long it is (RFC 4253, 6.6); none where they do not add up to it. */
function partsOf(blob: Buffer): string[] {
  const parts: string[] = [];
  let end = 0;
  while (end + 4 <= blob.length) {
    const start = end + 4;
    end = start + blob.readUInt32BE(end);
    parts.push(blob.toString('latin1', start, end));
  }
  return end === blob.length ? parts : [];
}

function holdsKey(path: string, line: string): boolean {
  try {
    return parsePublicKey(readSmallFile(path)) === parsePublicKey(line);
  } catch {
    return false; // written anew
  }
}

/** The fingerprint of `TYPE BASE64`, as ssh and ssh-keygen show it. */
export function fingerprint(key: string): string {
  const blob = Buffer.from(key.replace(/.* /, ''), 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/** Sees to it that a private file holds just that; returns its path. */
function keepFile(path: string, content: string): string {
  const held = lstatSync(path, { throwIfNoEntry: false })?.isFile() ? readFileSync(path, 'utf8') : undefined;
  if (held !== content) replaceFile(path, content, 0o600);
  return path;
}

// ── What rsync says ──────────────────────────────────────────────────────────────────────────────

type Mode = 'full' | 'incremental';

/** How far a comparison of the whole tree has come; while rsync is scanning, there may be more to come. */
interface Progress {
  percent: number;
  files: number;
  bytes_per_second: number;
  scanning: boolean;
}

/** What was transferred, as far as the options of rsync let it be known. */
interface Totals {
  files?: number | undefined;
  /** What went over the network, both ways. */
  bytes?: number | undefined;
}

/** How a sync went. */
interface Result extends Totals {
  mode: Mode;
  status: number;
  seconds: number;
}

/** Exit codes of rsync(1) and ssh(1): what they mean and what to do. */
const EXIT_CODES: Record<number, string> = {
  1: '语法或用法错误，请检查 RSYNC_OPTS',
  2: '协议不兼容，请检查两端 rsync 版本',
  3: '选择输入输出文件或目录出错，请检查目录和权限',
  4: '不支持请求的操作，请检查两端 rsync 版本',
  5: '启动客户端与服务器协议出错，请检查备份端',
  6: '无法写入日志文件',
  10: '套接字读写错误，请检查网络',
  11: '文件读写错误，请检查备份端磁盘空间、目录和权限',
  12: 'rsync 协议数据流错误或协议版本不匹配，请检查网络、备份端磁盘空间和两端 rsync 版本',
  13: '程序诊断错误',
  14: '进程间通信错误',
  20: '收到终止信号',
  21: 'waitpid() 出错',
  22: '内存分配失败，请检查内存',
  23: '部分文件传输失败，请检查权限、磁盘空间',
  24: '部分源文件在传输前消失',
  25: '达到 --max-delete 限制，部分文件没有删除',
  30: '数据收发超时，请检查网络',
  35: '等待守护进程连接超时，请检查网络',
  126: 'rsync 无法执行，请检查权限和系统资源',
  127: '备份端找不到 rsync，请在备份端安装 rsync',
  255: 'SSH 连接失败，请检查 SSH 服务、密钥配置',
};

function meaningOf(status: number): string {
  if (status > 128 && status < 255) return `rsync 被信号 ${status - 128} 终止；信号 9 多为内存不足`;
  return EXIT_CODES[status] ?? '未知错误，请参阅 rsync(1)';
}

/** ssh could not connect or log in. */
const UNREACHABLE = 255;
/** All but some files were transferred. */
const PARTIAL = 23;
const VANISHED = 24;
/** `--max-delete` was reached: to try again would delete the next lot. */
const LIMITED = 25;

/** Reads what rsync has put down in a log of its own, and removes that. */
function takeReport(path: string): Totals {
  try {
    const report = readFileSync(path, 'latin1');
    rmSync(path);
    return parseReport(report);
  } catch {
    return {}; // it is gone with the connection
  }
}

/** The files that were sent, one line each, and the bytes that went over the network, both ways. */
export function parseReport(report: string): Totals {
  const [, sent, received] = /^\S+ \S+ \[\d+\] sent (\S+) bytes +received (\S+) bytes/m.exec(report) ?? [];
  const files = report.match(/\] [<>]f/g)?.length ?? 0;
  return sent && received ? { files, bytes: parseAmount(sent) + parseAmount(received) } : {};
}

/** A number as rsync writes it: `1,234`, or with -h `1.23K`. */
function parseAmount(text: string): number {
  const [, number = '', unit = ''] = /^([\d.,']+)([KMGTP]?)$/.exec(text) ?? [];
  if (!unit) return Number(number.replace(/\D/g, ''));
  return Math.round(Number(number.replace(',', '.')) * 1000 ** ('KMGTP'.indexOf(unit) + 1));
}

const drawsProgress = process.stdout.isTTY && !isJson;
/** Wipes out the line of progress on a terminal. */
const WIPE = '\r\x1b[K';

/** Passes rsync's own output on, in which a hostile backup may have put what controls a terminal. */
function passOn(output: Readable, target: string, filter = (bytes: string) => bytes): void {
  let held = '';
  const pass = (bytes: string) => {
    const safe = showControls(bytes);
    if (!isJson) return write(Buffer.from(safe, 'latin1'));
    const lines = Buffer.from(safe, 'latin1').toString().trimEnd().split(/\n+/).filter(Boolean);
    for (const line of lines) info('rsync.output', line, { target });
  };
  output.setEncoding('latin1').on('data', (chunk: string) => {
    const bytes = held + filter(chunk);
    // A chunk may end within a character, and an entry for programs is a whole line: the rest waits for the next one.
    const whole = isJson ? bytes.lastIndexOf('\n') + 1 : bytes.length - Number(bytes.endsWith('\xc2'));
    held = bytes.slice(whole);
    if (whole > 0) pass(bytes.slice(0, whole));
  });
  output.once('end', () => held && pass(held));
}

/** Shows control characters other than line ends and tabs as rsync does, by their bytes: `\#033`. Bytes are latin1. */
export function showControls(bytes: string): string {
  const octal = (byte: string) => `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`;
  return bytes.replace(/[[\p{ASCII}&&\p{Cc}]--[\n\r\t]]|\xc2[\x80-\x9f]/gv, (control) =>
    [...control].map(octal).join(''),
  );
}

/** What rsync says of its progress (--info=progress2); in the middle of a file it does not repeat all that it said before. */
export function parseProgress(text: string, before?: Progress): Progress | undefined {
  const form = /\r *[\d.,']+[KMGTP]? +(\d+)% +([\d.,]+)([kMGT]?)B\/s +\S+(?: +\(xfr#(\d+), (ir|to)-chk=)?/;
  const [piece, percent, rate = '', unit = '', files, scan] = form.exec(text) ?? [];
  if (!piece) return undefined;
  const bytes = Number(rate.replace(',', '.')) * 1024 ** ' kMGT'.indexOf(unit || ' ');
  return {
    percent: Number(percent),
    files: Number(files ?? before?.files ?? 0),
    bytes_per_second: Math.round(bytes),
    scanning: scan ? scan === 'ir' : !!before?.scanning,
  };
}

/** Output may follow on the same line: where rsync reports an error, it ends the line on another stream. */
const PROGRESS = /\r *[\d.,']+[KMGTP]? +\d+% +\S+B\/s +[\d:?]+ *(\(xfr#\d+, \w+-chk=\d+\/\d+\))?\n?/g;

/** Takes progress out of rsync's output, in which a carriage return comes before each piece of it, and tells the last. */
export function progressFilter(tell: (progress: Progress) => void): (bytes: string) => string {
  let held = '';
  let before: Progress | undefined;
  return (chunk) => {
    const bytes = held + chunk;
    const last = bytes.lastIndexOf('\r');
    const progress = parseProgress(bytes.slice(Math.max(0, last)), before);
    if (progress) tell(progress);
    before = progress ?? before;
    const end = last < 0 || bytes.includes('\n', last) ? bytes.length : last;
    held = bytes.slice(end);
    return bytes.slice(0, end).replace(PROGRESS, '');
  };
}

const inUnits = (bytes: number) => {
  const unit = Math.min(4, Math.floor(Math.log(Math.max(1, bytes)) / Math.log(1000)));
  return `${(bytes / 1000 ** unit).toFixed(unit > 0 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`;
};

function describeProgress({ percent, files, bytes_per_second, scanning }: Progress): string {
  const rate = `${files} 个文件，${inUnits(bytes_per_second)}/s`;
  return `同步进度: ${percent}%，${rate}${scanning ? '，仍在扫描' : ''}`;
}

// ── State: what operators look at ────────────────────────────────────────────────────────────────

/** How soon a change of the state can be seen from outside, and how often it is told that nothing has changed, ms. */
const PUBLISH_MS = 500;
const HEARTBEAT_MS = 10_000;
/** A state that is older says nothing about a running service, ms. */
const STALE_MS = 30_000;

/** All that the status file, the metrics and the page tell. `syncing` is the phase of the first full sync. */
const state = {
  phase: 'starting' as 'starting' | 'syncing' | 'mirroring' | 'stopped',
  started: new Date(),
  source: '',
  /** Whether the source is what it was at the start. */
  sourceFound: true,
  maxLag: 0,
  watch: {
    ...{ running: false, directories: 0, events: 0, overflows: 0, restarts: 0 },
    /** Since when changes may have come that were not seen, but are looked for. */
    in_doubt: null as string | null,
  },
  targets: [] as TargetState[],
  /** The last changes, newest first. */
  recent: [] as { time: number; path: string; events: string }[],
};

/** Emits `changed`, at most every `PUBLISH_MS`, and `synced` with target, mode and seconds. */
const views = new EventEmitter().setMaxListeners(0);
/** The state as it was told last. */
let shown = '';
/** The next time that it is told, if it has changed. */
let publishing: NodeJS.Timeout | undefined;

/** Has whoever looks at the state see it anew soon. */
function touch(): void {
  publishing ??= setTimeout(publish, PUBLISH_MS);
}

function publish(): void {
  clearTimeout(publishing);
  publishing = undefined;
  const status = reportStatus();
  shown = JSON.stringify({ ...status, problems: problemsOf(status) });
  views.emit('changed');
}

/** All that there is to be told, as the status file and the page have it. */
function reportStatus() {
  return {
    program: 'rsync-inotify',
    version: VERSION,
    pid: process.pid,
    host: hostname(),
    started: state.started.toISOString(),
    updated: new Date().toISOString(),
    phase: state.phase,
    source: state.source,
    source_found: state.sourceFound,
    max_lag_seconds: state.maxLag,
    watch: state.watch,
    targets: state.targets.map((target) => target.report()),
    changes: state.recent.map(({ time, path, events }) => ({
      time: new Date(time).toISOString(),
      path: showPath(path),
      events,
    })),
    errors: complaints,
  };
}

type Status = ReturnType<typeof reportStatus>;

interface Problem {
  problem: 'stopped' | 'stale' | 'starting' | 'source' | 'watcher' | 'target_down' | 'lag';
  target?: string;
}

/** What is wrong, nothing where the mirror works. In a target's first full sync changes wait for its end, however long it takes. */
export function problemsOf(status: Status, now = Date.parse(status.updated)): Problem[] {
  const { phase, max_lag_seconds: limit } = status;
  if (phase === 'stopped') return [{ problem: 'stopped' }];
  if (Math.abs(now - Date.parse(status.updated)) > STALE_MS) return [{ problem: 'stale' }];
  if (phase === 'starting') return [{ problem: 'starting' }];
  const isLate = ({ oldest_pending, mirrored, state }: Status['targets'][0]) =>
    limit > 0 && lagOf(oldest_pending, now) > limit && (mirrored || state !== 'syncing');
  return [
    ...(status.source_found === false ? [{ problem: 'source' } as const] : []),
    ...(status.watch.running ? [] : [{ problem: 'watcher' } as const]),
    ...status.targets.filter(({ up }) => !up).map(({ target }) => ({ problem: 'target_down', target }) as const),
    ...status.targets.filter(isLate).map(({ target }) => ({ problem: 'lag', target }) as const),
  ];
}

/** How long a change has been waiting, seconds. */
const lagOf = (oldest: string | null, now: number) => (oldest ? Math.max(0, (now - Date.parse(oldest)) / 1000) : 0);

// ── Status, metrics and page: how the state is seen from outside ─────────────────────────────────

/** A file that always holds the newest state, replaced whole. What goes wrong with it is told once until it works again. */
class StateFile {
  private isBroken = false;
  private isOld = false;
  private writing: Promise<void> | undefined;

  constructor(
    private readonly name: 'STATUS_FILE' | 'METRICS_FILE',
    private readonly path: string,
    private readonly content: () => string | Promise<string>,
  ) {}

  /** Where the disk hangs, one write hangs with it, and nothing else. */
  write(): Promise<void> {
    this.isOld = true;
    this.writing ??= this.keepUp().finally(() => {
      this.writing = undefined;
    });
    return this.writing;
  }

  private async keepUp(): Promise<void> {
    while (this.isOld) {
      this.isOld = false;
      await this.replace();
    }
  }

  private async replace(): Promise<void> {
    const temporary = `${this.path}.${process.pid}.tmp`;
    try {
      await mkdir(dirname(this.path), { recursive: true });
      await rm(temporary, { recursive: true, force: true });
      await using file = await open(temporary, 'wx');
      await file.chmod(0o644); // whatever the umask
      await file.writeFile(await this.content());
      await rename(temporary, this.path);
      this.isBroken = false;
    } catch (cause) {
      await rm(temporary, { recursive: true, force: true }).catch(() => {});
      const what = `无法写入 ${this.name}=${escapeText(this.path)}：${reasonOf(cause)}`;
      if (!this.isBroken) warn('status.failed', `${what}。请检查目录和权限，或更改 ${this.name}`);
      this.isBroken = true;
    }
  }
}

const stateFiles: StateFile[] = [];

/** Shows the state to whoever is to see it. */
async function openViews(config: Config): Promise<void> {
  const { METRICS_FILE, METRICS_PORT, STATUS_FILE } = config;
  stateFiles.push(new StateFile('STATUS_FILE', STATUS_FILE, () => shown));
  const metrics = METRICS_FILE || METRICS_PORT ? await defineMetrics() : undefined;
  if (metrics && METRICS_FILE) stateFiles.push(new StateFile('METRICS_FILE', METRICS_FILE, () => metrics.metrics()));
  if (metrics && METRICS_PORT) await serve(config, () => metrics.metrics());
  views.on('changed', () => {
    for (const file of stateFiles) file.write();
  });
  publish();
  setInterval(publish, HEARTBEAT_MS);
}

/** Has those who look later see that the service has stopped. */
async function closeViews(): Promise<void> {
  state.phase = 'stopped';
  state.watch.running = false;
  for (const target of state.targets) target.up = false;
  publish();
  await Promise.all(stateFiles.map((file) => file.write()));
}

type Samples = [value: number | null, labels?: Record<string, string>][];

const ofTargets = (value: (target: TargetState) => number | null) => (): Samples =>
  state.targets.map((target) => [value(target), { target: target.name }]);

const syncsByResult = (): Samples =>
  state.targets.flatMap(({ name: target, syncs }) =>
    (['full', 'incremental'] as const).flatMap((mode) =>
      (['success', 'failure'] as const).map((result): Samples[0] => [syncs[mode][result], { target, mode, result }]),
    ),
  );

const successTime = ({ lastSuccess }: TargetState) => lastSuccess && lastSuccess.getTime() / 1000;
const lagOfTarget = ({ oldestPending: oldest }: TargetState) => (oldest ? (Date.now() - oldest) / 1000 : 0);

const { watch: watched } = state;
/** The metrics that are taken from the state when they are asked for: kind, name, labels, meaning, values. */
const METRICS: ['Counter' | 'Gauge', string, string, string, () => Samples][] = [
  ['Counter', 'rsync_sync_total', 'target mode result', 'Syncs, by what was compared and result', syncsByResult],
  ['Counter', 'rsync_events_total', '', 'Events of inotifywait', () => [[watched.events]]],
  ['Counter', 'rsync_watch_overflows_total', '', 'Overflows of the queue of events', () => [[watched.overflows]]],
  ['Counter', 'rsync_watch_restarts_total', '', 'Watchers that ended and were replaced', () => [[watched.restarts]]],
  ['Counter', 'rsync_transferred_bytes_total', 'target', 'Bytes sent and received', ofTargets(({ bytes }) => bytes)],
  ['Gauge', 'rsync_pending_changes', 'target', 'Changes that the target lacks', ofTargets(({ pending }) => pending)],
  ['Gauge', 'rsync_oldest_pending_seconds', 'target', 'How long it has lacked the oldest', ofTargets(lagOfTarget)],
  ['Gauge', 'rsync_last_success_timestamp_seconds', 'target', 'When a sync last succeeded', ofTargets(successTime)],
  ['Gauge', 'rsync_target_up', 'target', 'Whether it can be reached', ofTargets(({ up }) => Number(up))],
  ['Gauge', 'rsync_watched_directories', '', 'Directories that are watched', () => [[watched.directories]]],
  ['Gauge', 'rsync_start_time_seconds', '', 'When the program was started', () => [[state.started.getTime() / 1000]]],
  ['Gauge', 'rsync_build_info', 'version', 'The version, in a label', () => [[1, { version: VERSION }]]],
];

async function defineMetrics() {
  const prometheus = await import('prom-client');
  const registry = new prometheus.Registry();
  const registers = [registry];
  for (const [kind, name, labels, help, collect] of METRICS) {
    new prometheus[kind]({
      ...{ name, help, registers, labelNames: labels.split(' ').filter(Boolean) },
      collect() {
        this.reset();
        for (const [value, labels = {}] of collect()) if (value !== null) this.inc(labels, value);
      },
    });
  }
  const duration = new prometheus.Histogram({
    name: 'rsync_sync_duration_seconds',
    help: 'How long syncs took',
    labelNames: ['target', 'mode'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200],
    registers,
  });
  views.on('synced', (target: string, mode: Mode, seconds: number) => duration.observe({ target, mode }, seconds));
  return registry;
}

/** What the policy lets in: the page's own element of that name, by its content. */
const hashOf = (element: string, page: string) => {
  const [, content = ''] = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(page) ?? [];
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
};

/** The page holds all that it needs, may load nothing else and may not be shown inside of another. */
const securityHeaders = (page: string) => ({
  'Content-Security-Policy': [
    `default-src 'none'; script-src ${hashOf('script', page)}; style-src ${hashOf('style', page)}; connect-src 'self'`,
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
});

/** How many connections there may be: each takes a descriptor, without which no rsync starts. */
const MAX_CONNECTIONS = 200;
/** How many readers may follow the page at a time. */
const MAX_FOLLOWERS = 50;

/** Serves the page and the metrics. */
async function serve({ METRICS_PORT, METRICS_LISTEN }: Config, metrics: () => Promise<string>): Promise<void> {
  const { default: asset } = await import('./status.html', { with: { type: 'text' } });
  const page = String(asset);
  const headers = securityHeaders(page);
  const send = (response: ServerResponse, status: number, type: string, body: string) =>
    response.writeHead(status, { ...headers, 'Content-Type': `${type}; charset=utf-8` }).end(body);
  const answers: Record<string, (response: ServerResponse) => Promise<unknown>> = {
    '/': async (response) => send(response, 200, 'text/html', page),
    '/metrics': async (response) => send(response, 200, 'text/plain; version=0.0.4', await metrics()),
    '/healthz': async (response) => {
      const { healthy, line } = judge(reportStatus());
      send(response, healthy ? 200 : 503, 'text/plain', `${line}\n`);
    },
    '/events': async (response) => {
      if (views.listenerCount('changed') > MAX_FOLLOWERS) return send(response, 503, 'text/plain', '');
      follow(response.writeHead(200, { ...headers, 'Content-Type': 'text/event-stream' }));
    },
  };
  const server = createServer(({ url = '', method }, response) => {
    const path = url.replace(/\?.*/s, '');
    const answer = Object.hasOwn(answers, path) && answers[path];
    if (!answer) return send(response, 404, 'text/plain', '404\n');
    if (method === 'GET') return answer(response).catch(() => response.destroy());
    response.setHeader('Allow', 'GET');
    send(response, 405, 'text/plain', '405\n');
  });
  server.maxConnections = MAX_CONNECTIONS;
  keepListening(server, Number(METRICS_PORT), METRICS_LISTEN);
}

/** A port that is not to be had is no reason not to mirror: it is tried again. */
function keepListening(server: Server, port: number, address: string): void {
  const where = `${address}:${port}`;
  const listen = () => server.listen(port, address);
  let isTold = false;
  server.on('listening', () => isTold && log('http.restored', `已在 ${where} 提供状态页和指标`));
  server.on('error', (cause) => {
    if (!isTold)
      error('http.failed', `无法监听 ${where}：${reasonOf(cause)}。状态页和指标不可用，将继续重试；镜像不受影响`);
    isTold = true;
    setTimeout(listen, HEARTBEAT_MS).unref();
  });
  listen();
}

/** Sends the state whenever it has changed, unless the reader has not taken the last one yet. */
function follow(response: ServerResponse): void {
  let isTaken = true;
  const tell = () => {
    if (!isTaken) return;
    isTaken = response.write(`data: ${shown}\n\n`);
    if (!isTaken) response.once('drain', () => (isTaken = true));
  };
  views.on('changed', tell);
  response.once('close', () => views.off('changed', tell)).on('error', () => {});
  tell();
}

// ── --healthcheck and --status ───────────────────────────────────────────────────────────────────

/** Whether the mirror works, and a line that says so or why not. */
export function judge(status: Status, now = Date.parse(status.updated)): { healthy: boolean; line: string } {
  const lag = Math.round(Math.max(0, ...status.targets.map(({ oldest_pending }) => lagOf(oldest_pending, now))));
  const words: Record<Problem['problem'], string> = {
    starting: '正在启动，还没有开始镜像',
    stopped: '服务已停止',
    stale: `状态已过期 ${Math.round((now - Date.parse(status.updated)) / 1000)} 秒，服务可能已不在运行`,
    source: `源目录 ${status.source} 不见了或被替换`,
    watcher: '监控进程不在运行，正在重新启动',
    target_down: '无法连接目标',
    lag: `落后 ${lag} 秒，超过了 MAX_LAG=${status.max_lag_seconds}`,
  };
  const problems = problemsOf(status, now);
  const reasons = problems.map(({ problem, target }) => [words[problem], target].filter(Boolean).join(' '));
  if (problems.length > 0) return { healthy: false, line: `不健康: ${reasons.join('；')}` };
  if (status.phase === 'syncing') return { healthy: true, line: '健康: 正在进行首次全量同步' };
  return { healthy: true, line: `健康: 正在实时镜像，落后 ${lag} 秒` };
}

/** What the running service says of itself; no other variable counts. @throws {Failure} where there is nothing */
function readStatus(): Status {
  const path = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  try {
    const status = JSON.parse(readFileSync(path, 'utf8'));
    if (status.program !== 'rsync-inotify') throw new Error(`是 ${status.program} 的状态`);
    return status;
  } catch (cause) {
    throw new Failure(`无法读取状态文件 ${escapeText(path)}：${reasonOf(cause)}。服务没有运行，或 STATUS_FILE 不同`);
  }
}

function checkHealth(): Answer {
  try {
    const { healthy, line } = judge(readStatus(), Date.now());
    return { text: `${line}\n`, status: healthy ? 0 : 1 };
  } catch (cause) {
    return { text: `不健康: ${reasonOf(cause)}\n`, status: 1 };
  }
}

function tellStatus(): string {
  const status = readStatus();
  try {
    return showStatus(status);
  } catch (cause) {
    throw new Failure(`状态来自版本 ${escapeText(String(status.version))}，无法显示：${reasonOf(cause)}`);
  }
}

const STATES = { idle: '空闲', waiting: '等待', syncing: '同步中', retrying: '重试中', down: '无法连接' };

const localTime = (iso: string) => new Date(iso).toLocaleString('sv-SE');

/** The state as a table for people. */
function showStatus(status: Status): string {
  const now = Date.now();
  const { watch, targets } = status;
  const rows = targets.map((target) => [
    target.target,
    STATES[target.state],
    `${Math.round(lagOf(target.oldest_pending, now))}秒`,
    String(target.pending),
    target.last_success ? localTime(target.last_success) : '–',
    `${target.syncs.full.success + target.syncs.incremental.success}/${target.syncs.full.failure + target.syncs.incremental.failure}`,
    inUnits(target.bytes),
  ]);
  const lines = [
    `${status.program} ${status.version} (PID ${status.pid})，启动于 ${localTime(status.started)}`,
    judge(status, now).line,
    `源目录: ${status.source}，监控 ${watch.directories} 个目录，${watch.events} 个事件，重启 ${watch.restarts} 次，溢出 ${watch.overflows} 次`,
    '',
    ...table([['目标', '状态', '落后', '待同步', '最近成功', '成功/失败', '传输'], ...rows]),
    ...targets.flatMap(({ target, progress }) => (progress ? [`${target} ${describeProgress(progress)}`] : [])),
    ...(status.errors.length > 0 ? ['', '最近的警告和错误:'] : []),
    ...status.errors
      .slice(0, 5)
      .map(({ time, level, message }) => `  [${level.toUpperCase()} ${localTime(time)}] ${message}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** Columns as wide as their widest cell: a Chinese character is two wide. */
function table(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, n) => Math.max(...rows.map((row) => Bun.stringWidth(row[n] ?? ''))));
  const pad = (cell: string, n: number) => cell + ' '.repeat((widths[n] ?? 0) - Bun.stringWidth(cell));
  return rows.map((row) => row.map(pad).join('  ').trimEnd());
}

// ── --verify ─────────────────────────────────────────────────────────────────────────────────────

/** What rsync is told after the user's options: to change nothing, to tell all that it would change, and not to give up. */
const VERIFY_OPTIONS = [
  ...['--dry-run', '--checksum', '--no-itemize-changes', '--no-human-readable', '--info=none,name,del,stats2'],
  ...['--debug=none', '--log-file=/dev/null', '--max-delete=2147483647', '--timeout=0', '--no-append'],
];
/** What is said besides why it failed: what follows from that, and ssh's frames and greetings. */
const NO_REASON = /^(rsync error:|rsync: connection unexpectedly closed|@|Warning: Permanently added)/;
/** How many differences of a target are told at most. */
const MAX_DIFFERENCES = 100_000;
/** How often differences are looked at again that may be changes on their way. */
const MAX_ROUNDS = 3;
/** How much later than a change the service may tell of it, ms. */
const EVENT_MS = 1000;
/** How long to wait, beyond `SYNC_INTERVAL`, for a service that gets nowhere, ms. */
const PATIENCE_MS = 20_000;
/** How often its state is looked at meanwhile, ms. */
const GLANCE_MS = 50;

/** What a letter of rsync's itemized changes stands for (rsync(1), --itemize-changes). */
const ATTRIBUTES = new Map(
  Object.entries({ s: 'size', t: 'time', p: 'mode', o: 'owner', g: 'group', u: 'atime', a: 'acl', x: 'xattr' }),
);
const WORDS: Record<string, string> = {
  ...{ equal: '相同', different: '不同', unknown: '无法判断' },
  ...{ missing: '缺少', extra: '多余', content: '内容不同', attributes: '属性不同' },
  ...{ size: '大小', time: '时间', mode: '权限', owner: '属主', group: '属组', atime: '访问时间', acl: 'ACL' },
  ...{ xattr: '扩展属性', target: '链接目标', device: '设备号', links: '硬链接' },
};

/** What a plain rsync would mend. */
interface Difference {
  /** Below DEST_DIR, as bytes in a latin1 string; that of a directory ends with a slash. */
  path: string;
  /** Missing is also what is of another type. */
  difference: 'missing' | 'extra' | 'content' | 'attributes';
  attributes: string[];
}
type Differences = Map<string, Difference>;

/** Puts the bytes back that rsync shows as `\#ooo`: it escapes what looks like that by itself, too. */
export const unescapeName = (name: string) =>
  name.replace(/\\#([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Reads `%i %n` of rsync(1). Nothing is different where it only tells that it has looked. */
export function parseDifference(line: string): Difference | undefined {
  const [, sign, type = '', changes = '', name] = /^(.)(.)(.{9}) (.+)$/.exec(line) ?? [];
  if (!name) return undefined;
  const path = unescapeName(name);
  if (sign === '*') return { path, difference: 'extra', attributes: [] };
  if (changes === '+++++++++') return { path, difference: 'missing', attributes: [] };
  const attributes = [...changes].flatMap((letter) => ATTRIBUTES.get(letter) ?? []);
  if (type === 'f' && /[cs]/.test(changes)) return { path, difference: 'content', attributes };
  if (changes.includes('c')) attributes.push(type === 'L' ? 'target' : 'device');
  if (sign === 'h' && attributes.length === 0) attributes.push('links');
  return attributes.length > 0 ? { path, difference: 'attributes', attributes } : undefined;
}

/** Whether rsync may be the reason, while it writes: in a file of its own, in a directory that has another time until then. */
const isPassing = ({ path, difference, attributes }: Difference) =>
  difference === 'extra'
    ? /(^|\/)\.[^/]+\.[A-Za-z0-9]{6}$/.test(path)
    : path.endsWith('/') && String(attributes) === 'time';

/** The options without those that silence rsync. */
export function withoutQuiet(list: string): string {
  const isValue = (before = '') => WITH_VALUE.has(before) || /^-[^\W_]*[BTefM]$/.test(before);
  const words = parseWords(list).map((word, n, all) =>
    isValue(all[n - 1]) ? word : word.replace(/^-[^\W_BTefM]+/, (flags) => flags.replaceAll('q', '')),
  );
  return joinWords(words.filter((word) => word !== '-' && word !== '--quiet'));
}

/** How far the service has come. */
interface Horizon {
  /** What has changed before is at the target, ms since 1970. Where no service runs, nothing is on its way. */
  mirrored: number;
  /** Other than before where syncs took place meanwhile. */
  syncs: string;
  isSyncing: boolean;
}

/** Whether a service whose state is old may still run: its clock may have been set back. */
const isAlive = ({ phase, pid }: Status) => phase !== 'stopped' && existsSync(`/proc/${pid}`);

function horizonOf(config: Config): Horizon {
  const nobody = { mirrored: Number.POSITIVE_INFINITY, syncs: '', isSyncing: false };
  try {
    const status = readStatus();
    const target = status.targets.find(({ target }) => target === escapeText(destinationOf(config)));
    const isOver = problemsOf(status, Date.now()).some(({ problem }) => problem === 'stopped' || problem === 'stale');
    if (!target || status.source !== config.SOURCE_DIR || (isOver && !isAlive(status))) return nobody;
    if (isOver) return { ...nobody, mirrored: Number.NEGATIVE_INFINITY };
    const isKnown = status.phase === 'mirroring' && target.mirrored && status.watch.running && status.source_found;
    const { updated } = status;
    const open = [updated, target.oldest_pending ?? updated, status.watch.in_doubt ?? updated].map(Date.parse);
    const since = Math.min(...open) - EVENT_MS;
    return {
      mirrored: isKnown ? since : Number.NEGATIVE_INFINITY,
      syncs: JSON.stringify([target.state, target.syncs]),
      isSyncing: target.state === 'syncing',
    };
  } catch {
    return nobody;
  }
}

/** A difference that may be a change on its way. */
interface Suspect {
  /** What was there on the source when it was looked at last. */
  print: string;
  /** When that or a directory above it has last changed, and when it was looked at, ms since 1970. */
  changed: number;
  seen: number;
}

/** The comparison of the source with a target. */
class Verification {
  readonly name: string;
  readonly differences: Differences = new Map();
  private readonly hostKeys: HostKeys;
  private readonly config: Config;
  private readonly plan: ReturnType<typeof planFor>;
  /** What stands before a path of the source in what rsync tells. */
  private readonly prefix: string;
  private files: number | undefined;
  /** Differences that may be changes on their way, paths that kept changing, and differences beyond those that are told. */
  private pending = 0;
  private changing = 0;
  private untold = 0;
  private readonly reasons = new Set<string>();
  private readonly unreadable: string[] = [];
  private seconds = 0;

  constructor(
    config: Config,
    private readonly source: Source,
  ) {
    this.name = escapeText(destinationOf(config));
    this.hostKeys = new HostKeys(config);
    this.config = { ...config, RSYNC_OPTS: withoutQuiet(config.RSYNC_OPTS) };
    this.plan = planFor(this.config);
    this.prefix = (this.plan.isRelative ? source.root : source.prefix).slice(1);
  }

  /** What differs is looked at again once the service has mirrored what may have been on its way. */
  async run(): Promise<this> {
    const started = performance.now();
    try {
      let found = await this.compare();
      await this.findUnreadable();
      for (let round = 1; found.size > 0; round++) {
        const suspects = new Map([...found.keys()].map((path) => [path, this.look(path)]));
        const { syncs } = horizonOf(this.config);
        const isInTime = await this.waitForService(suspects);
        const horizon = horizonOf(this.config);
        found = await this.compare(suspects);
        const after = horizonOf(this.config);
        const isBusy = after.isSyncing || after.syncs !== syncs;
        for (const [path, suspect] of suspects) this.judge(path, suspect, found, horizon, isBusy);
        if (isInTime && round < MAX_ROUNDS) continue;
        this[isInTime ? 'changing' : 'pending'] = found.size;
        break;
      }
    } catch (cause) {
      this.reasons.add(reasonOf(cause));
    }
    this.seconds = Math.round((performance.now() - started) / 1000);
    return this;
  }

  /** Takes what was found a second time for a difference, unless it may still be on its way. */
  private judge(path: string, before: Suspect, found: Differences, { mirrored }: Horizon, isBusy: boolean): void {
    const difference = found.get(path);
    if (!difference) return;
    const { print, changed } = this.look(path);
    const isMirrored = changed < mirrored || (print === before.print && before.seen < mirrored);
    if (!isMirrored || (isBusy && isPassing(difference))) return;
    found.delete(path);
    if (difference.difference === 'content' && !this.isReadable(path)) this.unreadable.push(showPath(path));
    else this.differences.set(path, difference);
  }

  /** Where neither side can read a file, rsync has the same checksum for both. Filters may leave it out. */
  private async findUnreadable(): Promise<void> {
    if (process.getuid?.() === 0 || this.plan.method === 'rules') return;
    const { exitCode, stdout } = await run`find ${this.config.SOURCE_DIR} -type f ! -readable -print -quit`;
    if (exitCode === 0 && stdout) this.unreadable.push(escapeText(stdout.trimEnd()));
  }

  /** rsync gives a file that it cannot read a checksum of its own, and says nothing. */
  private isReadable(path: string): boolean {
    try {
      accessSync(Buffer.from(this.source.root + this.below(path), 'latin1'), constants.R_OK);
      return true;
    } catch {
      return false;
    }
  }

  /** A path as it is called below the source. With -R, some rsyncs tell names that begin with a slash. */
  private below(told: string): string {
    const path = told.replace(/^\//, '');
    if (path === '.' || `${path}/` === this.prefix) return '';
    return path.startsWith(this.prefix) ? path.slice(this.prefix.length) : path;
  }

  private look(path: string): Suspect {
    const parts = this.below(path).split('/');
    const names = ['', ...parts.map((_, n) => parts.slice(0, n + 1).join('/'))];
    const found = names.map((name) => this.source.look(name));
    const last = found.at(-1);
    const print = `${found.map((stats) => stats?.ino ?? '')}:${last?.ctimeMs ?? ''}`;
    return { print, changed: Math.max(0, ...found.map((stats) => stats?.ctimeMs ?? 0)), seen: Date.now() };
  }

  /** Waits while the service may have to mirror one of these; resolves with whether it has, or gets nowhere. */
  private async waitForService(suspects: Map<string, Suspect>): Promise<boolean> {
    const patience = this.config.SYNC_INTERVAL * 1000 + PATIENCE_MS;
    let reached = Number.NEGATIVE_INFINITY;
    let latest = performance.now() + patience;
    while (true) {
      const { mirrored, isSyncing } = horizonOf(this.config);
      const isAway = ({ changed, seen }: Suspect) => mirrored <= changed && mirrored <= seen;
      if (![...suspects.values()].some(isAway)) return true;
      if (mirrored > reached || isSyncing) latest = performance.now() + patience;
      if (performance.now() > latest) return false;
      reached = mirrored;
      await pause(GLANCE_MS);
      // What comes and goes must not seem to have stayed away.
      for (const [path, suspect] of suspects) if (this.look(path).print !== suspect.print) suspect.print = 'changed';
    }
  }

  /** What rsync would do, to these paths or to all. @throws {Failure} where it cannot tell */
  private async compare(paths?: ReadonlyMap<string, unknown>): Promise<Differences> {
    const mark = `${randomUUID()} `; // nothing else that rsync prints begins like that
    const rsync = await this.startRsync([...VERIFY_OPTIONS, `--out-format=${mark}%i %n`], paths);
    const found: Differences = new Map();
    let said = '';
    let isOld = false;
    const read = (stream: Readable | null, take: (line: string) => void) =>
      stream && createInterface({ input: stream.setEncoding('latin1') }).on('line', take);
    read(rsync.stdout, (line) => {
      const difference = line.startsWith(mark) ? parseDifference(line.slice(mark.length)) : undefined;
      const path = difference?.path.replace(/(?<=.)\/$/, '');
      if (difference && path && (paths?.has(path) ?? found.size < MAX_DIFFERENCES)) found.set(path, difference);
      else if (difference && !paths) this.untold++;
      isOld ||= line.startsWith(`${mark}<f?????????`); // before protocol 29, whatever the difference
      if (!paths && line.startsWith('Number of files: ')) this.files = Number(line.replace(/ \(.*|\D/g, ''));
    });
    read(rsync.stderr, (line) => {
      if (!NO_REASON.test(line)) said = line;
    });
    this.checkStatus(await exitStatus(rsync), said);
    if (!this.files) throw new Failure('rsync 没有说明比较了多少文件，请检查 RSYNC_OPTS');
    if (isOld) throw new Failure('rsync 没有说明差异是什么，请检查两端 rsync 版本');
    return found;
  }

  private async startRsync(extra: string[], paths?: ReadonlyMap<string, unknown>): Promise<ChildProcess> {
    const { method, errorOptions, scanOptions } = this.plan;
    const batch = new Map([...(paths?.keys() ?? [])].map((path) => [this.below(path), UNKNOWN]));
    const scopes = paths && method !== 'full' ? await this.source.survey(batch) : undefined;
    const names = scopes && method === 'list' ? listOf(scopes, this.source.prefix) : undefined;
    const rules = (scopes && !names && rulesOf(scopes, this.source.prefix)) || [];
    const options = [...extra, ...errorOptions, ...scanOptions, ...(names ? LIST_OPTIONS : rules)];
    const args = rsyncArgs(this.config, { knownHosts: this.hostKeys.refresh() }, options, names && this.source.base);
    const rsync = start('rsync', args, { cwd });
    rsync.stdin?.end(names);
    return rsync;
  }

  private checkStatus(status: number, said: string): void {
    if (status === 0 || status === VANISHED) return;
    const reason = `${meaningOf(status)} (退出码: ${status})：${showPath(said)}`;
    if (status !== PARTIAL) throw new Failure(reason);
    this.reasons.add(reason);
  }

  get result(): 'equal' | 'different' | 'unknown' {
    if (this.reasons.size + this.unreadable.length > 0) return 'unknown';
    if (this.differences.size > 0) return 'different';
    return this.pending + this.untold > 0 ? 'unknown' : 'equal';
  }

  /** All that was found out. */
  get report(): string {
    const differences = [...this.differences.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    return (isJson ? this.forPrograms(differences) : this.forPeople(differences)).map((line) => `${line}\n`).join('');
  }

  private forPrograms(differences: Difference[]): string[] {
    const { name: target, result, files, seconds, reason } = this;
    const total = { target, result, differences: differences.length, files, seconds, reason: reason || undefined };
    const entries = differences.map(({ path, difference, attributes }) => {
      return { target, path: decodePath(path), difference, attributes: attributes[0] ? attributes : undefined };
    });
    return [total, ...entries].map((entry) => JSON.stringify(entry).replace(UNSAFE, unicodeEscape));
  }

  private forPeople(differences: Difference[]): string[] {
    const { name, result, files, seconds, reason } = this;
    const facts = [
      ...(differences.length > 0 ? [`${differences.length} 处差异`] : []),
      ...(files === undefined ? [] : [`${files} 个文件`]),
      `耗时: ${seconds}秒`,
    ];
    const lines = differences.map(({ path, difference, attributes }) => {
      const which = attributes.length > 0 ? ` (${attributes.map((name) => WORDS[name]).join('、')})` : '';
      return `  ${WORDS[difference]}${which} ${showPath(path)}`;
    });
    return [`${name} ${WORDS[result]} (${facts.join('，')})${reason && `：${reason}`}`, ...lines];
  }

  /** Why not everything can be told, nothing where it can. */
  private get reason(): string {
    const { pending, changing, untold, unreadable } = this;
    return [
      ...this.reasons,
      ...(unreadable.length > 0 ? [`无法读取 ${unreadable.length} 个文件，例如 ${unreadable[0]}`] : []),
      ...(pending > 0 ? [`另有 ${pending} 处差异可能是服务还没有同步的变化`] : []),
      ...(changing > 0 ? [`另有 ${changing} 个路径一直在变化，未作判断`] : []),
      ...(untold > 0 ? [`差异过多，另有 ${untold} 处未再次核对`] : []),
    ].join('；');
  }
}

/** Compares the source with every target and tells what differs. */
async function verify(): Promise<Answer> {
  for (const signal of stopSignals()) process.removeAllListeners(signal).on(signal, () => abandon().catch(fail));
  try {
    const { config, hosts } = await checkConfig();
    const source = new Source(config.SOURCE_DIR);
    const verifications = hosts.map((host) => new Verification(host.config, source));
    const running = verifications.map((verification) => verification.run());
    for (const run of running) {
      const { report } = await run;
      if (!stopping) await new Promise((written) => process.stdout.write(report, written));
    }
    const results = verifications.map(({ result }) => result);
    return { text: '', status: results.includes('unknown') ? 2 : Number(results.includes('different')) };
  } catch (cause) {
    throw new Failure(reasonOf(cause), 2); // 1 would say that they differ
  }
}

/** Ends what runs. Nothing was changed, and nothing can be told. */
async function abandon(): Promise<void> {
  stopping = true;
  await endChildren();
  await exit(2);
}

// ── Start and stop ───────────────────────────────────────────────────────────────────────────────

/** How long a running sync may go on after a signal to stop, ms; `docker compose stop` shall take less than 5 s. */
const STOP_MS = 2500;
/** How long changes that have just happened are waited for at most after it, ms. */
const STOP_SILENCE_MS = 800;

/** A closed terminal stops us too, so that no child is left behind, unless nohup has SIGHUP (bit 0) ignored. */
function stopSignals(): string[] {
  const nohup = /^SigIgn:.*[13579bdf]$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return ['SIGTERM', 'SIGINT', ...(nohup ? [] : ['SIGHUP'])];
}

let watch: Watch | undefined;

async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log('service.stopping', `收到 ${signal}，正在停止服务...`, { signal });
  if (watch && !(await watch.silence(STOP_SILENCE_MS)))
    warn('watch.busy', '变化仍在不断发生，停止前最后的变化由下次启动时的全量同步包含');
  stopRequest.abort();
  await Promise.race([work, sleep(STOP_MS)]);
  await endChildren();
  await Promise.race([work, sleep(500)]);
  log('service.stopped', '服务已停止 ✓');
  await exit(0);
}

/** The one place where errors end. */
async function fail(cause: unknown): Promise<void> {
  if (stopping) return;
  stopping = true;
  const isExpected = cause instanceof Failure;
  const message = isExpected ? cause.message : String(cause instanceof Error ? cause.stack : cause);
  const fields = { exit_code: isExpected ? cause.status : 1 };
  for (const line of message.split('\n')) error('service.failed', isExpected ? line : escapeText(line), fields);
  await endChildren();
  await exit(isExpected ? cause.status : 1);
}

/** Text without control codes: others may have written what an answer tells. */
const printable = (text: string) => text.replace(UNSAFE, (code) => (code === '\n' ? code : unicodeEscape(code)));

/** Exits once the log is written: process.exit alone would cut a pipe off. */
async function exit(status: number): Promise<void> {
  await Promise.race([closeViews(), sleep(1000)]);
  const written = new Promise<void>((done) => process.stdout.write('', () => done()));
  await Promise.race([Promise.all([written, logFile?.end()]), sleep(1000)]);
  process.exit(status);
}

interface Answer {
  text: string;
  status: number;
}

function parseFlags() {
  const flag = { type: 'boolean' } as const;
  const options = { help: flag, version: flag, check: flag, status: flag, healthcheck: flag, verify: flag };
  try {
    return parseArgs({ options }).values;
  } catch (cause) {
    throw new Failure(`用法错误: ${reasonOf(cause)}。请参阅 rsync-inotify --help`, 2);
  }
}

/** What the flags ask for instead of the service, if anything. */
async function answerFlags(): Promise<Answer | undefined> {
  const flags = parseFlags();
  if (flags.help) return { text: help(), status: 0 };
  if (flags.version) return { text: `rsync-inotify ${VERSION}\n`, status: 0 };
  if (flags.healthcheck) return checkHealth();
  if (flags.status) return { text: tellStatus(), status: 0 };
  if (flags.verify) return verify();
  if (!flags.check) return undefined;
  await checkConfig();
  return { text: '配置有效，所需程序齐全 ✓\n', status: 0 };
}

function logConfig(config: Config): void {
  const { SOURCE_DIR: source, SYNC_INTERVAL: interval } = config;
  const names = state.targets.map(({ name }) => name);
  const [{ DEST_HOST, DEST_DIR } = config] = targetsOf(config);
  const target = names.join(' ');
  heading('service.start', 'Rsync + Inotify 自动化实时同步服务', { version: VERSION, source, target, interval });
  detail(`版本: 自动化 v${VERSION.replace(/\.\d+$/, '')}`);
  detail('配置信息：');
  detail(`  源目录: ${escapeText(source)}`);
  detail(`  目标主机: ${names.length > 1 ? target : DEST_HOST}`);
  if (names.length === 1) detail(`  目标目录: ${escapeText(DEST_DIR)}`);
  detail(`  Rsync 选项: ${escapeText(config.RSYNC_OPTS)}`);
  detail(`  同步间隔: ${interval}秒`);
  detail(`  最大重试: ${config.MAX_RETRIES}次`);
  detail(RULE);
}

/** Steps 3 and 4 for all targets side by side: one that is reached is enough. @throws {Failure} where none is */
async function reachAny(targets: Target[]): Promise<void> {
  try {
    await Promise.any(targets.map((target) => target.reach()));
  } catch (cause) {
    const { errors } = cause as AggregateError;
    const fault = errors.find((error) => !(error instanceof Failure));
    throw fault ?? new Failure(errors.map(({ message }) => message).join('\n'));
  }
}

/** All from the first full sync on, each target for itself: what a request to stop lets finish. */
async function mirrorAll(config: Config, source: Source, targets: Target[], watch: Watch): Promise<void> {
  state.phase = 'syncing';
  source.findLinks().catch(fail);
  const begun = Promise.race(targets.map((target) => once(target, 'mirrored')));
  const mirroring = Promise.all(targets.map((target) => target.mirror()));
  await Promise.race([begun, mirroring]);
  if (!stopping) {
    state.phase = 'mirroring';
    touch();
    logWatching(config);
    watch.keepWatching().catch(fail);
  }
  await mirroring;
}

async function main(): Promise<void> {
  for (const signal of stopSignals()) process.on(signal, () => stop(signal).catch(fail));
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const answer = await answerFlags();
  if (answer) {
    process.stdout.write(printable(answer.text));
    return exit(answer.status);
  }
  const { config, hosts } = await checkConfig();
  await openLogFile(config);
  state.source = config.SOURCE_DIR;
  state.maxLag = config.MAX_LAG && config.MAX_LAG + config.SYNC_INTERVAL;
  const source = new Source(config.SOURCE_DIR);
  const targets = hosts.map((host) => new Target(host, source));
  state.targets = targets.map((target) => target.state);
  await openViews(config);
  logConfig(config);
  await setupSshKeys(config); // steps 1 and 2
  if (!stopping) await reachAny(targets); // steps 3 and 4
  if (stopping) return;
  watch = new Watch(config, source, state.targets);
  await watch.start(); // before the full sync, so that nothing in between is lost
  const mirroring = mirrorAll(config, source, targets, watch); // steps 5 and 6
  work = mirroring.catch(() => {});
  await mirroring;
}

if (import.meta.main) main().catch(fail);
