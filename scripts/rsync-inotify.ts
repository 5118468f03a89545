#!/usr/bin/env bun
/**
 * rsync-inotify: mirrors a directory tree to a backup host, one way, every change as it happens.
 *
 * Makes an SSH key and shares it, waits for the backup's sshd, copies the whole tree once and then
 * follows inotify events. It starts the real ssh, rsync and inotifywait, as rsync-inotify.sh did.
 * All configuration is by environment:
 *
 *   SOURCE_DIR=/srv/web/ DEST_HOST=backup DEST_DIR=/backup/web/ bun run scripts/rsync-inotify.ts
 */
import { isUtf8 } from 'node:buffer';
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import {
  accessSync,
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
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, isIPv6 } from 'node:net';
import { homedir, hostname, constants as osConstants, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Chalk } from 'chalk';
import { cleanEnv, makeExactValidator } from 'envalid';
import { split } from 'shlex';
import sshKeygen from 'ssh-keygen-lite';
import { $, expBackoff, ProcessOutput, which } from 'zx';

const VERSION = '1.0.0';

/** How long a try of `MAX_RETRIES` lasts while waiting for SSH, ms. */
const TRY_MS = 5000;
/** How often sshd is looked for within a try, ms. */
const POLL_MS = 200;
/** How long a running sync may go on after a signal to stop, ms; `docker compose stop` shall take less than 5 s. */
const STOP_MS = 2500;
/** How long changes that have just happened are waited for at most after it, ms. */
const STOP_SILENCE_MS = 800;
/** How many changes of a batch the log names. */
const LISTED_CHANGES = 50;
/** How many paths wait at most, so that memory stays bounded while the backup is away; beyond, the whole tree is compared. */
const MAX_PENDING = 100_000;
/** How long nothing shall have changed before a batch starts, so that files written together go together, ms. */
const QUIET_MS = 3;
/** How long a batch waits for that at most, ms. */
const MAX_QUIET_MS = 100;
/** How large a file with a public key may be, bytes. */
const MAX_KEY_BYTES = 16_384;
/** How much of the log may wait for a reader who has stalled, bytes; beyond, it is left out and counted. */
const MAX_UNREAD = 8_000_000;

const WATCHED_EVENTS = [
  ...['CREATE', 'MODIFY', 'DELETE', 'MOVED_TO', 'CLOSE_WRITE'],
  ...['MOVED_FROM', 'ATTRIB', 'DELETE_SELF', 'MOVE_SELF', 'UNMOUNT', 'Q_OVERFLOW'],
];

/** Without it, a file that is rewritten at the same size within a second counts as unchanged (rsync(1), --modify-window). */
const TO_THE_NANOSECOND = '--modify-window=-1';

const PROGRAMS = {
  rsync: 'rsync',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  inotifywait: 'inotify-tools',
};

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

const text = checked(() => {});
const target = checked(parseTarget);

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
  const { status, stderr } = spawnSync('rsync', [...words, '--version'], { encoding: 'utf8' });
  if (status) throw new Error(`rsync 不接受这些选项：${escapeText(stderr.trim().split('\n')[0] ?? '')}`);
});

/** Asks ssh. Words that are no options, and options that leave no way to run rsync, are refused too. */
const sshOptions = checked((value) => {
  const { status, stdout, stderr } = spawnSync('ssh', ['-G', ...parseWords(value), 'host'], { encoding: 'utf8' });
  if (status) throw new Error(`ssh 不接受这些选项：${lastLine(stderr)}`);
  if (status === 0 && !/^hostname /m.test(stdout)) throw new Error('不能包含只显示信息的选项，例如 -V');
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

const count = makeExactValidator<number>((value) => {
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 1_000_000) {
    throw new Error('应为 1 到 1000000 之间的整数，例如 10');
  }
  return Number(value);
});

const flag = makeExactValidator<boolean>((value) => {
  if (value !== 'true' && value !== 'false') throw new Error('应为 true 或 false');
  return value === 'true';
});

const excludedDirectories = checked((value) => {
  const isRelative = (path: string) => !/(^|\/)\.{0,2}\//.test(path.replace(/\/?$/, '/'));
  if (!value.split(':').filter(Boolean).every(isRelative)) {
    throw new Error('应为 SOURCE_DIR 下目录的相对路径，以冒号分隔，例如 cache:var/tmp');
  }
});

const variables = {
  SOURCE_DIR: sourceDirectory({ default: '/data/source/', desc: '源目录；结尾有无斜杠的含义与 rsync 相同' }),
  DEST_HOST: target({ default: 'rsync-backup', desc: '目标主机，[user@]host，省略用户时为 root' }),
  DEST_DIR: remoteDirectory({ default: '/data/backup/', desc: '目标主机上的目录' }),
  RSYNC_OPTS: rsyncOptions({ default: '-avz --delete', desc: 'rsync 选项；可用引号，不做任何展开' }),
  SSH_OPTS: sshOptions({
    default: '-o StrictHostKeyChecking=no',
    desc: 'ssh 选项，例如 -p 2222；其中指定的端口在各处生效',
  }),
  SYNC_INTERVAL: seconds({ default: 5, desc: '同步间隔（秒），可带小数，0 = 不间隔；这段时间内最多开始一次同步' }),
  MAX_RETRIES: count({ default: 10, desc: '等待 SSH 和测试登录的最大重试次数，每次 5 秒' }),
  FULL_SYNC_INTERVAL: seconds({ default: 3600, desc: '定期全量比较的间隔（秒），作为安全网，0 = 从不' }),
  WATCH_EXCLUDE: excludedDirectories({
    default: '',
    desc: '不监控的目录，SOURCE_DIR 下的相对路径，以冒号分隔；全量同步仍包含它们',
  }),
  ALLOW_EMPTY_SOURCE: flag({ default: false, desc: 'true = 允许空的源目录清空非空的备份' }),
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: '用来交换公钥的共享卷' }),
  SSH_DIR: directory({ default: join(homedir(), '.ssh'), desc: '密钥对所在目录' }),
  NO_COLOR: text({ default: '', desc: '设置为任意值 = 日志不带颜色' }),
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
    reporter: ({ errors }) => {
      const mistakes = Object.entries(errors).map(
        ([name, error]) => `配置错误: ${name}="${escapeText(values[name] ?? '')}"：${error?.message}`,
      );
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

/** Makes a path absolute, so that it is never taken for an option or a remote host, and keeps what its end means to rsync. */
export function absoluteSource(path: string): string {
  const contents = /(^|\/)\.{0,2}$/.test(path);
  const absolute = resolve(path);
  return contents && absolute !== '/' ? `${absolute}/` : absolute;
}

function missingPrograms(): string[] {
  return Object.entries(PROGRAMS)
    .filter(([program]) => !which.sync(program, { nothrow: true }))
    .map(([program, name]) => `缺少程序 ${program}：请安装软件包 ${name}（例如 apt-get install ${name}）`);
}

/** Everything is checked before anything is done. */
async function checkConfig(): Promise<{ config: Config; address: Address }> {
  const config = readConfig(process.env, missingPrograms());
  return { config, address: await resolveAddress(config) };
}

function help(): string {
  const rows = Object.entries(variables).map(([name, { default: value, desc }]) => {
    const shown = name === 'SSH_DIR' ? '$HOME/.ssh' : String(value) || '–';
    return `  ${name.padEnd(16)} ${shown.padEnd(28)} ${desc}`;
  });
  return `rsync-inotify ${VERSION}：把一个目录树的每次变化实时镜像到备份主机

用法: rsync-inotify [--help | --version | --check]
  --check   检查配置和所需程序后退出

环境变量（名称、默认值、说明）:
${rows.join('\n')}

退出状态: 0 收到 SIGTERM/SIGINT 后停止；1 启动步骤失败；2 配置或用法错误
`;
}

// ── Log ──────────────────────────────────────────────────────────────────────────────────────────

const colour = new Chalk({ level: process.env.NO_COLOR ? 0 : 1 });
const RULE = '='.repeat(42);
/** Whether the last output of rsync ended in the middle of a line. */
let midLine = false;

const now = () => new Date().toLocaleString('sv-SE');
const log = (message: string) => writeLine(colour.green(`[${now()}]`), message);
const info = (message: string) => writeLine(colour.blue(`[INFO ${now()}]`), message);
const warn = (message: string) => writeLine(colour.yellow(`[WARN ${now()}]`), message);
const error = (message: string) => writeLine(colour.red(`[ERROR ${now()}]`), message);

function writeLine(prefix: string, message: string): void {
  write(`${midLine ? '\n' : ''}${prefix} ${message}\n`);
  midLine = false;
}

/** What the reader of the log has not taken yet, bytes. */
let unread = 0;
let omitted = 0;

/** A reader of the log who has stalled must not make it pile up in memory. */
function write(text: string | Buffer): void {
  const length = Buffer.byteLength(text);
  if (unread > MAX_UNREAD) {
    omitted += length;
    return;
  }
  unread += length;
  process.stdout.write(text, () => {
    unread -= length;
  });
  if (omitted === 0) return;
  const lost = omitted;
  omitted = 0;
  warn(`日志读取过慢，省略了 ${lost} 字节`);
}

/** Passes a program's own output on, in which a hostile backup may have put what controls a terminal. */
function passOn(output: Readable): void {
  let held = '';
  output.setEncoding('latin1').on('data', (chunk: string) => {
    const bytes = held + chunk;
    held = bytes.endsWith('\xc2') ? '\xc2' : ''; // the half of a control character, or of another one
    if (bytes === held) return;
    write(Buffer.from(showControls(bytes.slice(0, bytes.length - held.length)), 'latin1'));
    midLine = !bytes.endsWith('\n');
  });
}

/** Shows control characters other than line ends and tabs as rsync does, by their bytes: `\#033`. Bytes are latin1. */
export function showControls(bytes: string): string {
  const octal = (byte: string) => `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`;
  return bytes.replace(/[[\p{ASCII}&&\p{Cc}]--[\n\r\t]]|\xc2[\x80-\x9f]/gv, (control) =>
    [...control].map(octal).join(''),
  );
}

function heading(title: string): void {
  log(RULE);
  log(title);
  log(RULE);
}

/** Makes text from outside safe to print: it can neither start a line nor control a terminal. */
export function escapeText(untrusted: string): string {
  const names: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };
  return untrusted.replace(/[\p{Cc}\p{Zl}\p{Zp}\u200e\u200f\u202a-\u202e\u2066-\u2069\\]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return names[character] ?? (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  });
}

/** A path for the log. Paths are bytes, kept as latin1 strings; those that are not UTF-8 are shown as `\xff`. */
export function showPath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  if (isUtf8(bytes)) return escapeText(bytes.toString());
  return escapeText(path).replace(/[\xa0-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

// ── Processes ────────────────────────────────────────────────────────────────────────────────────

const children = new Set<ChildProcess>();

/** Starts a program in a process group of its own: Ctrl-C reaches only us, and what ends it ends all it started. */
function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const child = spawn(command, args, { ...options, detached: true });
  children.add(child);
  for (const event of ['exit', 'error']) child.once(event, () => children.delete(child));
  child.once('exit', () => child.stdin?.destroy());
  child.stdin?.on('error', () => {}); // why it reads no more, its status tells
  return child;
}

/** Removes $0 and ends the command when its standard input, a pipe of ours, is closed: also when we are killed. */
const LEASH = 'exec 3<&0; (read -r _ <&3; rm -rf -- "$0"; kill 0) & exec "$@" 3<&- </dev/null';

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

/** Starts a program that would run on without us. What it leaves in `directory` goes with it. */
function startOnLeash(command: string[], stdout: 'ignore' | 'pipe', directory = ''): ChildProcess {
  return start('/bin/sh', ['-c', LEASH, directory, ...command], { cwd, stdio: ['pipe', stdout, 'pipe'] });
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid && children.has(child)) process.kill(-child.pid, signal);
  } catch {
    // it has ended this moment
  }
}

async function endChildren(): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const running = [...children];
    for (const child of running) signalGroup(child, signal);
    await Promise.race([Promise.all(running.map((child) => once(child, 'exit'))), sleep(1000)]);
  }
}

// zx for what runs once. It quotes every interpolated word; /bin/sh is on every machine, bash is not.
$.spawn = start as typeof spawn;
$.shell = '/bin/sh';
$.prefix = '';
$.quote = (word) => `'${word.replaceAll("'", `'\\''`)}'`;
// `sudo -u` may leave us in a directory that the user may not enter.
const cwd = existsSync(process.cwd()) ? process.cwd() : '/';
const run = $({ nothrow: true, quiet: true, cwd, stdio: ['ignore', 'pipe', 'pipe'] });

/** How ssh gets to the backup. */
interface Route {
  /** Where a connection is shared, if one is. */
  socket?: string | undefined;
  /** The file of the host keys that count, if the backup has published any. */
  knownHosts?: string | undefined;
}

const asOptions = (settings: string[]) => settings.flatMap((setting) => ['-o', setting]);
const escaped = (path: string) => path.replaceAll('%', '%%');
const quoted = (path: string) => `"${escaped(path)}"`;

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
    `IdentityFile=${quoted(join(config.SSH_DIR, 'id_rsa'))}`,
    `UserKnownHostsFile=${quoted(join(config.SSH_DIR, 'known_hosts'))}`,
  ];
  const ours = ['ControlMaster=no', ...(knownHosts ? pinnedTo(knownHosts) : [])];
  return [...asOptions(ours), ...parseWords(config.SSH_OPTS), '-S', escaped(socket), ...asOptions(defaults)];
}

/** Settings under which ssh takes no host keys but those in a file, whatever else the user's options and files say. */
function pinnedTo(knownHosts: string): string[] {
  return [
    'StrictHostKeyChecking=yes',
    `UserKnownHostsFile=${quoted(knownHosts)}`,
    'GlobalKnownHostsFile=/dev/null',
    'VerifyHostKeyDNS=no',
    'NoHostAuthenticationForLocalhost=no',
    'UpdateHostKeys=no', // or the backup could add to the file
    'CheckHostIP=no',
    ...knownToSsh(),
  ];
}

let familiar: string[] | undefined;
/** Settings that only some ssh know: since 8.5, or with the distributions' patch for Kerberos, which needs no host key. */
function knownToSsh(): string[] {
  familiar ??= ['KnownHostsCommand=none', 'GSSAPIKeyExchange=no'].filter((setting) => {
    const { status, stderr } = spawnSync('ssh', ['-G', '-T', '-F', 'none', '-o', setting, 'host']);
    return status === 0 && stderr.length === 0;
  });
  return familiar;
}

/** Quotes a word for rsync's `-e`, which knows quotes (doubled inside themselves) but no backslashes. */
export function quoteForRsh(word: string): string {
  return /^[^\s'"]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`;
}

/**
 * The arguments for every rsync.
 * @param extra options that come after the user's
 * @param source what is copied, all of the source if not given
 */
export function rsyncArgs(config: Config, route?: Route, extra: string[] = [], source = config.SOURCE_DIR): string[] {
  const { user, host } = parseTarget(config.DEST_HOST);
  const ssh = ['ssh', ...sshArgs(config, route)].map(quoteForRsh).join(' ');
  const destination = `${user}@${host.includes(':') ? `[${host}]` : host}:${config.DEST_DIR}`;
  return [TO_THE_NANOSECOND, ...parseWords(config.RSYNC_OPTS), ...extra, '-e', ssh, '--', source, destination];
}

interface Address {
  host: string;
  port: number;
  /** Reached through another host or program, so that a TCP connection of our own says nothing. */
  proxied: boolean;
}

/** Asks ssh where its options and its configuration files lead. */
async function resolveAddress(config: Config): Promise<Address> {
  const { user, host } = parseTarget(config.DEST_HOST);
  const result = await run`ssh -G ${sshArgs(config)} ${`${user}@${host}`}`;
  if (result.exitCode !== 0) throw new Failure(`无法确定目标主机的地址：${reasonOf(result)}`);
  const settings = new Map(
    result.stdout.split('\n').map((line) => [line.replace(/ .*/, ''), line.replace(/^\S+ /, '')]),
  );
  const proxied = ['proxycommand', 'proxyjump'].some((name) => (settings.get(name) ?? 'none') !== 'none');
  return { host: settings.get('hostname') ?? host, port: Number(settings.get('port')), proxied };
}

// ── Steps 1 and 2: SSH key pair, its public half shared ──────────────────────────────────────────

async function setupSshKeys(config: Config): Promise<void> {
  heading('配置 SSH 密钥（自动化）');
  const key = join(config.SSH_DIR, 'id_rsa');
  try {
    if (statSync(key, { throwIfNoEntry: false })?.size) {
      log('SSH 密钥已存在 ✓');
    } else {
      log('生成 SSH 密钥对...');
      const generating = generateKey(key);
      work = generating.catch(() => {});
      await generating;
      log('SSH 密钥生成完成 ✓');
    }
  } catch (cause) {
    throw new Failure(`无法生成 SSH 密钥对 ${escapeText(key)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
  log('共享公钥到备份服务器...');
  await sharePublicKey(config, key);
  log('公钥已共享 ✓');
}

/** Makes the pair in a directory of its own and moves it into place whole, the private half last. */
async function generateKey(key: string): Promise<void> {
  const directory = resolve(key, '..');
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

async function sharePublicKey(config: Config, key: string): Promise<void> {
  const derived = await run`ssh-keygen -y -P ${''} -f ${key}`;
  if (derived.exitCode !== 0) {
    throw new Failure(
      `无法读取 SSH 私钥 ${escapeText(key)}：${reasonOf(derived)}。它应没有口令、权限为 0600；移走它后重启会生成新的密钥对`,
    );
  }
  try {
    if (!existsSync(`${key}.pub`)) replaceFile(`${key}.pub`, derived.stdout, 0o644);
  } catch {} // nothing needs it
  try {
    mkdirSync(config.SHARED_KEYS_DIR, { recursive: true, mode: 0o755 });
    const shared = join(config.SHARED_KEYS_DIR, 'id_rsa.pub');
    if (!holdsKey(shared, derived.stdout)) replaceFile(shared, derived.stdout, 0o644);
  } catch (cause) {
    const where = `SHARED_KEYS_DIR=${escapeText(config.SHARED_KEYS_DIR)}`;
    throw new Failure(`无法写入 ${where}：${reasonOf(cause)}。请检查共享卷的挂载和权限`);
  }
}

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
  if (!found.isFile() || found.size > MAX_KEY_BYTES) throw new Error(`应为不超过 ${MAX_KEY_BYTES} 字节的普通文件`);
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

/** Programs say at last why they gave up. */
const lastLine = (output: string) => escapeText(output.trim().split(/\r?\n/).at(-1) ?? '');

/** What went wrong: of a command its own words, and of errors too, which ssh-keygen-lite throws as strings. */
function reasonOf(cause: unknown): string {
  if (cause instanceof ProcessOutput && cause.stderr.trim()) return lastLine(cause.stderr);
  return escapeText(cause instanceof Error ? cause.message : String(cause).trim());
}

// ── Step 3: wait for sshd ────────────────────────────────────────────────────────────────────────

async function waitForSsh(config: Config, address: Address): Promise<void> {
  const { host, port } = address;
  heading('等待 SSH 服务就绪');
  log(`目标主机: ${escapeText(host)}:${port}`);
  for (let attempt = 1; !address.proxied && !(await answersWithin(TRY_MS, host, port)); attempt++) {
    if (attempt === config.MAX_RETRIES) {
      const where = `${escapeText(host)}:${port} 在 ${(attempt * TRY_MS) / 1000} 秒内没有应答`;
      throw new Failure(`SSH 服务未就绪: ${where}。请检查备份端是否运行、主机名和端口是否正确`);
    }
    warn(`SSH 连接重试... (${attempt}/${config.MAX_RETRIES})`);
  }
  log('SSH 服务已就绪 ✓');
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

// ── Step 4: the backup's host keys ───────────────────────────────────────────────────────────────

/** The host keys that the backup has published in the shared volume, as ssh is to know them. */
export class HostKeys {
  /** The file for ssh, once there was something published; until then, SSH_OPTS decide what host is trusted. */
  file: string | undefined;
  private keys: string[] = [];
  private complaints: string[] = [];
  private refusalTold = false;
  private own: string | undefined;

  constructor(private readonly config: Config) {}

  /**
   * Reads anew what is published, before a connection is made; returns the file for ssh. What was published once is not
   * given up because it cannot be seen any more. @throws {Failure} where the keys cannot be read or kept
   */
  refresh(): string | undefined {
    const names = this.publishedNames();
    if (names.length === 0 && !this.file) return undefined;
    const complaints: string[] = [];
    this.keys = names.flatMap((name) => {
      try {
        return parsePublicKey(readSmallFile(join(this.directory, name)));
      } catch (cause) {
        complaints.push(`忽略了公布的主机密钥 ${escapeText(name)}：${reasonOf(cause)}`);
        return [];
      }
    });
    for (const complaint of complaints) if (!this.complaints.includes(complaint)) warn(complaint);
    this.complaints = complaints;
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
      if (!this.own) return keepFile(path, lines);
    } catch {} // a mounted secret, for example
    try {
      if (!this.own || !existsSync(this.own)) this.own = this.makeDirectory();
      return keepFile(join(this.own, 'known_hosts'), lines);
    } catch (cause) {
      throw new Failure(`无法保存公布的主机密钥：${reasonOf(cause)}`);
    }
  }

  private makeDirectory(): string {
    const directory = temporaryDirectory(this.config);
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    return directory;
  }

  /** Tells, once until a connection stands, that the host is not the one that was published, if ssh said so. */
  explain(said: string): void {
    if (this.file && said.includes('Host key verification failed')) this.tellRefusal();
  }

  private tellRefusal(): void {
    if (this.refusalTold) return;
    this.refusalTold = true;
    const where = escapeText(this.directory);
    const expected = this.keys.map(fingerprint).join(' 或 ');
    const [what, advice] = expected
      ? [
          `备份主机的密钥与 ${where} 中公布的不符，可能有人在冒充备份主机！`,
          `应为 ${expected}。若备份端是重建的，它的 start-sshd 启动时会公布新密钥，请检查两端是否挂载了同一个共享卷`,
        ]
      : [
          `${where} 中没有有效的主机密钥，无法确认备份主机的身份。`,
          '备份端的 start-sshd 启动时会公布它们，请检查共享卷；若备份端确实不再公布，请清空该目录并重启服务',
        ];
    error(`${what}已拒绝连接，没有发送任何数据。${advice}`);
  }

  /** Tells that a connection stands: from now on, a refusal is news again. */
  connected(): void {
    this.refusalTold = false;
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

// ── Step 4: test the connection ──────────────────────────────────────────────────────────────────

async function testSshConnection(config: Config, hostKeys: HostKeys): Promise<void> {
  heading('测试 SSH 连接');
  const { user, host } = parseTarget(config.DEST_HOST);
  for (let attempt = 1; ; attempt++) {
    const result =
      await run`ssh ${sshArgs(config, { knownHosts: hostKeys.refresh() })} ${`${user}@${host}`} ${'echo ok'}`;
    if (result.exitCode === 0) break;
    if (stopping) return;
    hostKeys.explain(result.stderr);
    const reason = reasonOf(result);
    if (attempt > config.MAX_RETRIES) {
      throw new Failure(`SSH 免密登录测试失败 (退出码: ${result.exitCode})：${reason}。请检查密钥、用户和备份端日志`);
    }
    warn(`SSH 连接重试... (${attempt}/${config.MAX_RETRIES})：${reason}`);
    // A new key is in force within a second. From then on slowly: sshd shuts out who fails often (PerSourcePenalties).
    await sleep(attempt === 1 ? 1000 : TRY_MS);
  }
  hostKeys.connected();
  log('SSH 免密登录测试成功 ✓');
  if (!hostKeys.file) warn('备份端没有在共享卷中公布主机密钥，未能验证它的身份，是否信任它由 SSH_OPTS 决定');
}

// ── Step 5: full sync ────────────────────────────────────────────────────────────────────────────

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

/** All but some files was transferred; these may fail again. */
const PARTIAL = 23;
const VANISHED = 24;
/** `--max-delete` was reached: what trying again would only wear down. */
const LIMITED = 25;

/** Lets a started rsync run to its end, with names on its standard input; resolves with its exit status, 128 + n for signal n. */
async function finish(rsync: ChildProcess, names?: Buffer): Promise<number> {
  for (const output of [rsync.stdout, rsync.stderr]) if (output) passOn(output);
  rsync.stdin?.end(names);
  const [code, signal] = (await once(rsync, 'close')) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + (signal ? osConstants.signals[signal] : 0);
}

/** One sync, told in the log: resolves with rsync's exit status, 0 also where files vanished on the way. */
async function sync(transfer: () => Promise<number>): Promise<number> {
  const started = performance.now();
  const status = await transfer().catch((cause) => {
    if (cause instanceof Failure) return cause;
    error(`无法启动 rsync：${reasonOf(cause)}`); // no memory or no process to be had, for example
    return 126;
  });
  if (status instanceof Failure) {
    error(status.message);
    return status.status;
  }
  if (status !== 0 && status !== VANISHED) {
    error(`同步失败 (退出码: ${status})：${meaningOf(status)}`);
    return status;
  }
  log(`同步成功 (耗时: ${Math.round((performance.now() - started) / 1000)}秒) ✓`);
  return 0;
}

/** Resolves with rsync's exit status. Files that fail are no reason not to mirror the others: they are tried again. */
async function fullSync(backup: Target): Promise<number> {
  heading('首次全量同步');
  const status = await sync(() => backup.compareAll());
  if (stopping) return status;
  if (status === PARTIAL) warn('首次全量同步未能传输全部文件，其余文件照常同步，失败的文件将自动重试');
  else if (status !== 0 && status !== LIMITED) throw new Failure('首次全量同步失败');
  else log('首次全量同步完成 ✓');
  return status;
}

// ── Step 6: what has changed ─────────────────────────────────────────────────────────────────────

/** What is known of a path that waits. */
interface Change {
  events: string;
  /** When it was first seen, ms on the clock of `performance.now()`. */
  since: number;
  /** A file that is being written: it waits until it is closed. */
  open: boolean;
  /** A directory that is new, moved or in doubt: all below it counts as changed. */
  tree: boolean;
  /** A file that was made while it waited, so that no older name of it can be in the tree. */
  fresh: boolean;
  /** A file that was changed under this name and may have others, which get no event. */
  shared: boolean;
}

/** Changed paths below the source, as bytes in latin1 strings; '' is the source itself. */
type Batch = Map<string, Change>;

const UNKNOWN: Change = { events: '', since: 0, open: false, tree: false, fresh: false, shared: false };
const TREE: Change = { ...UNKNOWN, tree: true };
/** All of the source. */
const ALL: Batch = new Map([['', TREE]]);

/** The changes that wait for the next sync of a target. */
class Changes extends EventEmitter {
  private pending: Batch = new Map();
  private closed = 0;
  private last = 0;
  private listed = 0;
  private unlisted = 0;

  get size(): number {
    return this.pending.size;
  }

  /** Resolves as soon as a change waits, or when `signal` is aborted. */
  async arrived(signal: AbortSignal): Promise<void> {
    if (this.size === 0) await once(this, 'arrived', { signal }).catch(() => {});
  }

  /** Notes an event, and names it in the log unless it repeats itself or many were named. */
  report(path: string, events: string, source: Source): void {
    const known = this.pending.get(path);
    if (known?.events !== events) {
      if (this.listed < LISTED_CHANGES) info(`检测到文件变化: ${showPath(source.root + path)} ${events}`);
      else this.unlisted++;
      this.listed++;
    }
    this.set(
      path,
      changeAfter(events, known, () => source.look(path)),
    );
  }

  /** A file that was renamed is the same file under another name. */
  renamed(from: string, to: string): void {
    const old = this.pending.get(from);
    const change = this.pending.get(to);
    if (!old?.shared || !change) return;
    change.shared = true;
    old.shared = false;
  }

  /** Adds changes that no event has named, or that failed before; what is known of a path already is newer. */
  add(batch: Batch): void {
    for (const [path, { tree, shared }] of batch) {
      const known = this.pending.get(path);
      this.set(path, { ...UNKNOWN, ...known, tree: tree || !!known?.tree, shared: shared || !!known?.shared });
    }
  }

  /** Beyond a number, all of the source counts as changed. That needs no paths, so memory stays bounded. */
  private set(path: string, change: Change): void {
    this.last = performance.now();
    const known = this.pending.get(path);
    if (!known && (this.size >= MAX_PENDING || this.pending.get('')?.tree)) {
      this.pending = new Map(ALL);
      this.closed = 1;
    } else {
      this.pending.set(path, { ...change, since: known?.since ?? this.last });
      this.closed += Number(!change.open) - Number(known ? !known.open : false);
    }
    this.emit('arrived');
  }

  /** How long the next batch waits, ms: for a short quiet, but not beyond `latest`, and for `patience` where all files are open. */
  wait(latest: number, patience: number): number {
    const now = performance.now();
    const [oldest] = this.pending.values();
    const ready = this.closed > 0 || !oldest ? now : oldest.since + patience;
    return Math.max(Math.min(this.last + QUIET_MS, latest), ready) - now;
  }

  /** Hands out what waits, except files that are open and came less than `patience` ago, ms. */
  take(patience: number): Batch {
    if (this.unlisted > 0) info(`另有 ${this.unlisted} 处文件变化未逐条列出`);
    this.listed = this.unlisted = this.closed = 0;
    const latest = performance.now() - patience;
    const waits = (change: Change) => change.open && change.since > latest;
    const batch = new Map([...this.pending].filter(([, change]) => !waits(change)));
    this.pending = new Map([...this.pending].filter(([, change]) => waits(change)));
    return batch;
  }
}

/** What is known of a path after an event of inotifywait. */
function changeAfter(events: string, known: Change = UNKNOWN, look: () => Stats | undefined): Change {
  const change = { ...known, events };
  if (events.endsWith('ISDIR')) {
    change.open = false;
  } else if (events === 'CREATE') {
    const found = look();
    change.fresh = change.open = found?.isFile() === true && found.nlink === 1; // the others are never closed
  } else {
    change.fresh &&= events !== 'MOVED_TO';
    change.open = events === 'MODIFY' || (events === 'ATTRIB' && known.open);
    change.shared ||= !change.fresh && /^(MODIFY|ATTRIB|CLOSE_WRITE)/.test(events);
  }
  return change;
}

// ── Step 6: what rsync has to look at ────────────────────────────────────────────────────────────

/** The source directory. Paths in it are relative to it, as bytes in latin1 strings. */
class Source {
  /** What stands before every path that inotifywait prints. */
  readonly root: string;
  /** Where rsync starts, for names, and what stands before a path of the source there. */
  readonly start: string;
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
    this.start = isContents ? directory : dirname(directory);
    this.prefix = isContents ? '/' : `/${basename(bytes)}/`;
    this.identity = this.identify();
  }

  /** Looks for files with several names. Where that is not possible, there may be some. */
  async findLinks(): Promise<void> {
    const { stdout, exitCode } = await run`find ${`${this.directory}/`} -type f -links +1 -print -quit`;
    this.linked = exitCode !== 0 || stdout !== '';
  }

  private identify(): string {
    const { dev, ino } = statSync(this.directory, { bigint: true });
    return `${dev}:${ino}`;
  }

  /** What a volume leaves behind that is not mounted must not be taken for the source. @throws {Failure} */
  check(): void {
    let found = '';
    try {
      found = this.identify();
    } catch {}
    if (found === this.identity) return;
    const what = `源目录 ${escapeText(this.directory)} ${found ? '已不是启动时的目录' : '不见了'}`;
    throw new Failure(`${what}，为保护备份拒绝同步。请检查挂载；若是有意更换，请重启服务`);
  }

  isEmpty(): boolean {
    this.check();
    return readdirSync(this.directory).length === 0;
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
    for (const [path, { tree, shared }] of batch) {
      await breathe();
      const { reached, found } = this.normalise(path);
      if (found ? this.hasOtherNames(found) : this.linked && (shared || tree)) return undefined;
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

// ── Step 6: the backup host ──────────────────────────────────────────────────────────────────────

const LIST_OPTIONS = ['--no-recursive', '--dirs', '--ignore-missing-args', '--files-from=-', '--from0'];
/** How long a connection may take, ms. */
const CONNECT_MS = 30_000;
/** A process that dies sooner than this after its start is not replaced at once, ms. */
const SHORT_LIFE_MS = 5000;

/** A backup host: the connection to it, the rsync that waits there for the next batch, and the changes that it lacks. */
class Target extends EventEmitter {
  readonly changes = new Changes();
  readonly method: Method;
  private readonly mayArm: boolean;
  /** With -H, an rsync that scans as it goes waits for itself forever when files vanish on the way (seen in 3.5.0). */
  private readonly keepsLinks: boolean;
  private readonly deletes: boolean;
  private readonly ruleFiles: string[];
  /** Where the connection is shared while there is one. */
  private socket: string | undefined;
  private connection: ChildProcess | undefined;
  private armed: ChildProcess | undefined;
  private syncing = false;
  /** Whether a regular comparison is due. */
  private isRegular = false;
  /** What waits to be tried again. */
  private readonly failed = new Changes();
  private partialBackoff = newBackoff();

  constructor(
    readonly config: Config,
    private readonly source: Source,
    private readonly hostKeys: HostKeys,
  ) {
    super();
    const words = parseWords(config.RSYNC_OPTS);
    const options = parseOptions(words).map(({ name }) => name);
    this.method = methodFor(words);
    this.mayArm = this.method === 'list' && !options.includes('--timeout'); // rsync would give up while it waits
    this.deletes = options.some((name) => name.startsWith('--del'));
    this.keepsLinks = options.includes('-H') || options.includes('--hard-links');
    this.ruleFiles = parseOptions(words)
      .filter(({ name }) => /^--(ex|in)clude-from$/.test(name))
      .map(({ value = '' }) => Buffer.from(resolve(value)).toString('latin1'));
  }

  /** Keeps one SSH connection open for all that goes to the target. */
  async keepConnected(): Promise<void> {
    let backoff = newBackoff();
    for (let lost = false; !stopping; ) {
      const opened = await this.connect().catch((cause) => {
        if (!lost && !stopping) warn(`无法建立共享的 SSH 连接，将自动重试：${reasonOf(cause)}`);
      });
      this.connection = opened ?? undefined;
      this.emit('tried');
      if (!opened) {
        lost = true;
        await pause(backoff.next().value ?? 0);
        continue;
      }
      if (lost) log('SSH 连接已恢复 ✓');
      this.hostKeys.connected();
      backoff = newBackoff();
      this.emit('connected');
      this.arm();
      if (children.has(opened)) await once(opened, 'exit');
      this.connection = this.socket = undefined;
      if (this.armed) signalGroup(this.armed, 'SIGTERM'); // it waits for names and does not notice
      this.armed = undefined;
      lost = true;
      if (!stopping) warn('SSH 连接已断开，正在重新连接...');
    }
  }

  /** Resolves once the connection stands. @throws {Failure} with the last words of ssh */
  private async connect(): Promise<ChildProcess> {
    const { user, host } = parseTarget(this.config.DEST_HOST);
    const knownHosts = this.hostKeys.refresh();
    const directory = temporaryDirectory(this.config);
    const socket = join(directory, 'ssh');
    const args = sshArgs(this.config, { socket, knownHosts });
    const options = ['-N', '-o', 'ControlMaster=yes', '-o', 'ControlPersist=no', ...args];
    const ssh = startOnLeash(['ssh', ...options, `${user}@${host}`], 'ignore', directory);
    ssh.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    let said = '';
    ssh.stderr?.on('data', (chunk) => {
      said = `${said}${chunk}`.slice(-1000);
    });
    const latest = performance.now() + CONNECT_MS;
    while (children.has(ssh) && performance.now() < latest) {
      if (existsSync(socket)) {
        this.socket = socket;
        return ssh;
      }
      await sleep(10);
    }
    signalGroup(ssh, 'SIGKILL');
    this.hostKeys.explain(said);
    throw new Failure(lastLine(said) || '超时');
  }

  /** Starts the rsync of the next batch: it connects now, so that only names are missing when the batch is due. */
  private arm(): void {
    if (stopping || this.syncing || this.armed || !this.connection || !this.mayArm) return;
    const started = performance.now();
    const rsync = this.startList();
    this.armed = rsync;
    const replace = () => {
      if (this.armed !== rsync) return;
      this.armed = undefined;
      const age = performance.now() - started;
      pause(age < SHORT_LIFE_MS ? SHORT_LIFE_MS : 0).then(() => this.arm());
    };
    rsync.once('exit', replace).once('error', replace);
  }

  /** A connection of its own is one to a host that must be known. */
  private get route(): Route {
    const { socket, hostKeys } = this;
    return { socket, knownHosts: socket ? hostKeys.file : hostKeys.refresh() };
  }

  private startRsync(extra: string[] = [], source?: string): ChildProcess {
    const args = rsyncArgs(this.config, this.route, extra, source);
    return start('rsync', args, { cwd, stdio: ['pipe', 'pipe', 'pipe'] });
  }

  private startList(): ChildProcess {
    return this.startRsync(LIST_OPTIONS, this.source.start);
  }

  /** Compares the whole tree. @throws {Failure} where the source is not what it was, or would empty the backup */
  async compareAll(): Promise<number> {
    this.source.check();
    if (this.deletes && !this.config.ALLOW_EMPTY_SOURCE && this.source.isEmpty()) await this.refuseToEmpty();
    return this.startAll();
  }

  private startAll(): Promise<number> {
    return finish(this.startRsync(this.keepsLinks ? ['--no-inc-recursive'] : []));
  }

  /** A volume that is not mounted looks like an empty source. rsync tells by status 25 that it would have to delete. */
  private async refuseToEmpty(): Promise<void> {
    const options = '-r --delete --max-delete=0 --dry-run';
    const probe = rsyncArgs({ ...this.config, RSYNC_OPTS: options }, this.route);
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
    if (batch.get('')?.tree) return this.compareAll();
    this.source.check();
    const isWhole = this.method === 'full' || [...batch.keys()].some((path) => this.holdsRules(path));
    const scopes = isWhole ? undefined : await this.source.survey(batch);
    if (scopes && this.method === 'list') return this.syncList(listOf(scopes, this.source.prefix));
    const rules = scopes && rulesOf(scopes, this.source.prefix);
    return rules ? finish(this.startRsync(rules)) : this.startAll();
  }

  /** Whether a file in the source decides what rsync lets in elsewhere. */
  private holdsRules(path: string): boolean {
    const isRuleFile = basename(path) === '.rsync-filter' || this.ruleFiles.includes(this.source.root + path);
    return this.method === 'rules' && isRuleFile;
  }

  /** An rsync that waited for long may have lost its connection without noticing: that says nothing of the batch. */
  private async syncList(names: Buffer): Promise<number> {
    const armed = this.armed;
    this.armed = undefined;
    if (armed && children.has(armed)) {
      const started = performance.now();
      const status = await finish(armed, names);
      const stale = [12, 20, 30, 255].includes(status) && performance.now() - started < 1000;
      if (!stale || stopping) return status;
    }
    return finish(this.startList(), names);
  }

  /** At most one sync starts in `SYNC_INTERVAL`; the last change of a burst is synced when that time is over. */
  async watchLoop(firstStart: number): Promise<void> {
    let lastStart = firstStart;
    let backoff = newBackoff();
    while (true) {
      await this.due(lastStart);
      if (this.changes.size === 0) return;
      const batch = this.takeBatch();
      lastStart = performance.now();
      const { connection } = this;
      const status = await this.syncBatch(batch);
      if (status === 0 || status === LIMITED) {
        backoff = newBackoff();
        if (this.failed.size === 0) this.partialBackoff = newBackoff();
      } else if (stopping) {
        return warn(`${batch.size} 处变化尚未同步，下次启动时的全量同步会包含它们`);
      } else if (status === PARTIAL) {
        this.tryAgain(batch).catch(fail);
      } else {
        this.changes.add(batch);
        const delay = this.announce(backoff, batch.size);
        const isAnew = this.connection && this.connection !== connection;
        if (!isAnew) await pauseOr(delay, this, 'connected');
      }
    }
  }

  /** Returns when a batch is due, or when a request to stop leaves no time to wait. */
  private async due(lastStart: number): Promise<void> {
    await this.changes.arrived(stopRequest.signal);
    await pause(lastStart + this.config.SYNC_INTERVAL * 1000 - performance.now());
    const latest = performance.now() + MAX_QUIET_MS;
    while (!stopRequest.signal.aborted) {
      const ms = this.changes.wait(latest, this.patience);
      if (ms <= 0) return;
      await pauseOr(ms, this.changes, 'arrived');
    }
  }

  /** How long a file may stay open before it is mirrored as it is, ms. */
  private get patience(): number {
    return stopRequest.signal.aborted ? 0 : Math.max(this.config.SYNC_INTERVAL * 1000, MAX_QUIET_MS);
  }

  private takeBatch(): Batch {
    const batch = this.changes.take(this.patience);
    for (const path of this.source.doubts.keys()) batch.set(path, { ...UNKNOWN, ...batch.get(path), tree: true });
    return batch;
  }

  private async syncBatch(batch: Batch): Promise<number> {
    log(this.isRegular ? '触发定期全量同步...' : '触发批量同步...');
    this.isRegular = false;
    this.syncing = true;
    const status = await sync(() => this.syncChanges(batch));
    this.syncing = false;
    this.arm();
    return status;
  }

  /** Tells when the next try will be, and how far away that is, ms. */
  private announce(backoff: Backoff, count: number): number {
    const delay = backoff.next().value ?? 0;
    warn(`${delay / 1000} 秒后重试，${count} 处变化等待同步`);
    return delay;
  }

  /** Files that fail for good must not hold back the others, nor have these pay for every try. */
  async tryAgain(batch: Batch): Promise<void> {
    const isWaiting = this.failed.size > 0;
    this.failed.add(batch);
    if (isWaiting) return;
    await pause(this.announce(this.partialBackoff, this.failed.size));
    this.changes.add(this.failed.take(0));
  }

  /** The safety net: whatever went wrong unnoticed is mended by a comparison of all now and then. */
  async compareRegularly(): Promise<void> {
    while (this.config.FULL_SYNC_INTERVAL > 0) {
      await pause(this.config.FULL_SYNC_INTERVAL * 1000);
      if (stopRequest.signal.aborted) return;
      this.isRegular = true;
      this.changes.add(ALL);
    }
  }
}

// ── Step 6: watch ────────────────────────────────────────────────────────────────────────────────

/** The parts of one record of inotifywait, `COOKIE|EVENTS|PATH`; the two halves of a rename share their cookie. */
export function parseEvent(record: string): { cookie: string; events: string; path: string } {
  const [, cookie = '', events = '', path = ''] = /^([^|]*)\|([^|]*)\|(.*)$/s.exec(record) ?? [];
  return { cookie, events, path };
}

function inotifywaitArgs(config: Config): string[] {
  const events = WATCHED_EVENTS.flatMap((event) => ['-e', event.toLowerCase()]);
  const excluded = config.WATCH_EXCLUDE.split(':').filter(Boolean);
  const exclusions = excluded.map((path) => `@${resolve(config.SOURCE_DIR, path)}`);
  return ['-m', '-r', ...events, '--format', '%c|%e|%w%f%0', '--no-newline', ...exclusions, '--', config.SOURCE_DIR];
}

interface Watcher {
  process: ChildProcess;
  /** When it last had something to say, ms on the clock of `performance.now()`. */
  heard: number;
}

/** More directories in doubt than this are as good as all of the source. */
const MAX_DOUBTS = 10_000;
/** How many of a watcher's complaints the log tells. */
const MAX_COMPLAINTS = 10;
/** How long a watcher must be silent before it may be ended, and how long that is waited for at most, ms. */
const SILENCE_MS = 100;
const MAX_SILENCE_MS = 5000;
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
  private moved = { cookie: '', path: '' };
  /** Whether the limits leave no room for two watchers at a time. */
  private alone = false;
  /** Whether something was lost, and not only in doubt. */
  private isRecovering = false;

  constructor(
    private readonly config: Config,
    private readonly source: Source,
    private readonly changes: Changes,
  ) {
    super();
    stopRequest.signal.addEventListener('abort', () => this.watcher && signalGroup(this.watcher.process, 'SIGTERM'));
  }

  /** Starts a watcher; resolves when its watches stand and what was in doubt before is settled. @throws {Failure} */
  async start(): Promise<void> {
    this.source.check();
    const number = ++this.started;
    const child = startOnLeash(['inotifywait', ...inotifywaitArgs(this.config)], 'pipe');
    const watcher = { process: child, heard: performance.now() };
    let rest = '';
    child.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
      watcher.heard = performance.now();
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
    this.settle(number);
  }

  private ended(watcher: Watcher): void {
    if (stopping || this.watcher !== watcher) return;
    const { exitCode, signalCode } = watcher.process;
    error(`inotifywait 意外退出 (退出码: ${exitCode ?? signalCode})，正在重新启动监控`);
    this.watcher = undefined;
    this.doubt('');
    this.emit('ended');
  }

  private handle({ cookie, events, path: shown }: ReturnType<typeof parseEvent>): void {
    if (!shown.startsWith(this.source.root)) return; // a directory that was moved, so in doubt, and has lost its name
    const path = shown.slice(this.source.root.length).replace(/\/$/, '');
    if (path === '' ? /SELF|UNMOUNT/.test(events) : events.includes('UNMOUNT')) this.doubt(path);
    if (events.includes('_SELF')) return; // its directory has told as well, and under the right name
    this.changes.report(path, events, this.source);
    if (events.startsWith('MOVED_FROM')) this.moved = { cookie, path };
    else if (events.startsWith('MOVED_TO') && cookie === this.moved.cookie) this.changes.renamed(this.moved.path, path);
    // One that was moved away is still watched, wherever it is now.
    if (/^(CREATE|MOVED_TO|MOVED_FROM),ISDIR/.test(events)) this.doubt(path);
  }

  private overflowed(): void {
    if (this.source.doubts.get('') !== this.started) {
      warn(
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
    this.emit('doubt');
  }

  /** What was in doubt before a watcher was started is looked at once more, now that it is watched. */
  private settle(number: number): void {
    const settled = [...this.source.doubts].filter(([, seenBy]) => seenBy < number).map(([path]) => path);
    for (const path of settled) this.source.doubts.delete(path);
    if (this.isRecovering && settled.includes('')) {
      this.isRecovering = false;
      log('监控已恢复，将进行一次全量同步');
    }
    this.changes.add(trees(settled));
  }

  /** Replaces the watcher whenever something is in doubt, but spends no more than a tenth of the time on it. */
  async keepWatching(): Promise<void> {
    let backoff = newBackoff();
    for (let [rest, least] = [SILENCE_MS, SILENCE_MS]; !stopping; ) {
      if (this.source.doubts.size === 0) await once(this, 'doubt', { signal: stopRequest.signal }).catch(() => {});
      if (this.watcher) await pauseOr(rest - least, this, 'ended'); // without one, nothing is seen
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
    const latest = performance.now() + ms;
    const silent = () => !this.watcher || performance.now() > this.watcher.heard + SILENCE_MS;
    await sleep(SILENCE_MS / 2); // lets it report what has just happened
    while (!silent() && performance.now() < latest) await sleep(10);
    return silent();
  }

  /** Ends a watcher once it is silent: what it had not told yet would be lost. */
  private async end(watcher: Watcher | undefined): Promise<void> {
    if (!watcher) return;
    if (this.watcher === watcher) {
      this.watcher = undefined;
      this.doubt('');
    }
    const latest = performance.now() + MAX_SILENCE_MS;
    const silent = () => performance.now() > Math.min(watcher.heard + SILENCE_MS, latest);
    while (children.has(watcher.process) && !silent() && !stopping) await sleep(10);
    signalGroup(watcher.process, 'SIGTERM');
  }

  /** Tells why no watcher could be started; resolves with how long to wait for the next try, ms. */
  private failed(cause: unknown, backoff: Backoff): number {
    if (stopping) return 0;
    error(reasonOf(cause));
    if (!this.alone && /upper limit|amount of inotify watches|initialize inotify/.test(reasonOf(cause))) {
      this.alone = true;
      return 0;
    }
    const delay = backoff.next().value ?? 0;
    warn(`${delay / 1000} 秒后重新启动监控`);
    this.changes.add(trees([...this.source.doubts.keys()])); // what is not watched is looked at now and then
    return delay;
  }
}

const trees = (paths: string[]): Batch => new Map(paths.map((path) => [path, TREE]));

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
      if (told++ < MAX_COMPLAINTS) warn(`inotifywait: ${said}`);
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

/** Waits of 1, 2, 4 … 60 s, given in ms. */
const newBackoff = () => expBackoff('60s', '1s');
type Backoff = ReturnType<typeof newBackoff>;

/** Waits, ms; a request to stop ends it. */
async function pause(ms: number, signal = stopRequest.signal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
}

/** Waits, ms, or until an event. */
async function pauseOr(ms: number, emitter: EventEmitter, event: string): Promise<void> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stopRequest.signal]);
  await Promise.race([pause(ms, signal), once(emitter, event, { signal }).catch(() => {})]);
  over.abort();
}

function logConfig(config: Config): void {
  heading('Rsync + Inotify 自动化实时同步服务');
  log(`版本: 自动化 v${VERSION.replace(/\.\d+$/, '')}`);
  log('配置信息：');
  log(`  源目录: ${escapeText(config.SOURCE_DIR)}`);
  log(`  目标主机: ${config.DEST_HOST}`);
  log(`  目标目录: ${escapeText(config.DEST_DIR)}`);
  log(`  Rsync 选项: ${escapeText(config.RSYNC_OPTS)}`);
  log(`  同步间隔: ${config.SYNC_INTERVAL}秒`);
  log(`  最大重试: ${config.MAX_RETRIES}次`);
  log(RULE);
}

function logWatching({ config, method }: Target): void {
  heading('实时监控已启动');
  log(`监控目录: ${escapeText(config.SOURCE_DIR)}`);
  log(`批量同步间隔: ${config.SYNC_INTERVAL}秒`);
  log(`监控事件: ${WATCHED_EVENTS.join(', ')}`);
  if (method === 'full') log('RSYNC_OPTS 含有不能逐个文件执行的选项，每次变化都进行全量同步');
  log(RULE);
  log('✓ 服务运行中，实时监控文件变化...');
}

/** All from the first full sync on: what a request to stop lets finish. */
async function mirror(source: Source, backup: Target, watch: Watch): Promise<void> {
  source.findLinks().catch(fail);
  backup.keepConnected().catch(fail);
  await once(backup, 'tried');
  const started = performance.now();
  const status = await fullSync(backup);
  if (stopping) return;
  if (status === PARTIAL) backup.tryAgain(ALL).catch(fail);
  logWatching(backup);
  watch.keepWatching().catch(fail);
  backup.compareRegularly().catch(fail);
  await backup.watchLoop(started);
}

// ── Start and stop ───────────────────────────────────────────────────────────────────────────────

let stopping = false;
let watch: Watch | undefined;
const stopRequest = new AbortController();
/** The work that a request to stop lets finish. */
let work: Promise<unknown> = Promise.resolve();

/** A closed terminal stops us too, so that no child is left behind, unless nohup has SIGHUP (bit 0) ignored. */
function stopSignals(): string[] {
  const nohup = /^SigIgn:.*[13579bdf]$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return ['SIGTERM', 'SIGINT', ...(nohup ? [] : ['SIGHUP'])];
}

async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log(`收到 ${signal}，正在停止服务...`);
  if (watch && !(await watch.silence(STOP_SILENCE_MS)))
    warn('变化仍在不断发生，停止前最后的变化由下次启动时的全量同步包含');
  stopRequest.abort();
  await Promise.race([work, sleep(STOP_MS)]);
  await endChildren();
  await Promise.race([work, sleep(100)]);
  log('服务已停止 ✓');
  await exit(0);
}

/** The one place where errors end. */
async function fail(cause: unknown): Promise<void> {
  if (stopping) return;
  stopping = true;
  const isExpected = cause instanceof Failure;
  const message = isExpected ? cause.message : String(cause instanceof Error ? cause.stack : cause);
  for (const line of message.split('\n')) error(isExpected ? line : escapeText(line));
  await endChildren();
  await exit(isExpected ? cause.status : 1);
}

/** Exits once the log is written: process.exit alone would cut a pipe off. */
async function exit(status: number): Promise<void> {
  await Promise.race([new Promise<void>((written) => process.stdout.write('', () => written())), sleep(1000)]);
  process.exit(status);
}

/** What the flags ask for instead of the service, if anything. */
async function answerFlags(): Promise<string | undefined> {
  const options = { help: { type: 'boolean' }, version: { type: 'boolean' }, check: { type: 'boolean' } } as const;
  let flags: { help?: boolean; version?: boolean; check?: boolean };
  try {
    flags = parseArgs({ options }).values;
  } catch (cause) {
    throw new Failure(`用法错误: ${reasonOf(cause)}。请参阅 rsync-inotify --help`, 2);
  }
  if (flags.help) return help();
  if (flags.version) return `rsync-inotify ${VERSION}\n`;
  if (!flags.check) return undefined;
  await checkConfig();
  return '配置有效，所需程序齐全 ✓\n';
}

async function main(): Promise<void> {
  for (const signal of stopSignals()) process.on(signal, () => stop(signal).catch(fail));
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const answer = await answerFlags();
  if (answer) {
    process.stdout.write(answer);
    return exit(0);
  }
  const { config, address } = await checkConfig();
  logConfig(config);
  await setupSshKeys(config);
  if (!stopping) await waitForSsh(config, address);
  const hostKeys = new HostKeys(config);
  if (!stopping) await testSshConnection(config, hostKeys);
  if (stopping) return;
  const source = new Source(config.SOURCE_DIR);
  const backup = new Target(config, source, hostKeys);
  const watcher = new Watch(config, source, backup.changes);
  await watcher.start(); // before the full sync, so that nothing in between is lost
  watch = watcher;
  const mirroring = mirror(source, backup, watcher);
  work = mirroring.catch(() => {});
  await mirroring;
}

if (import.meta.main) main().catch(fail);
