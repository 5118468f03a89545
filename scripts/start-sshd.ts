#!/usr/bin/env bun
/**
 * start-sshd: receives the mirror that rsync-inotify keeps.
 *
 * Makes the host keys that are missing, waits for the source's public key on the shared volume,
 * authorises it, runs the real sshd in the foreground and follows the key from then on, as
 * start-sshd.sh did. The key may do no more than mirror: whatever it asks sshd for, sshd starts this
 * program instead, which becomes rsync's receiving side, renames what was renamed in the source, or refuses.
 * All configuration is by environment:
 *
 *   SSHD_PORT=2222 SHARED_KEYS_DIR=/mnt/keys DEST_DIR=/backup/web/ bun run --no-env-file scripts/start-sshd.ts
 *
 * The steps of that script, each under its own headline; `main`, at the end, takes them in the order of the log, where
 * sshd starts to listen last:
 *
 *   1  generateHostKeys, publishHostKeys   the keys that sshd is known by
 *      configureSshd, startSshd            what it lets in, and sshd itself
 *   2  waitForKey, readSharedKey           the source's public key
 *   3  adoptSharedKey, authorize           its line in authorized_keys
 *   4  followSharedKey                     a new key takes its place
 *
 * Behind them: `serve`, which answers the source's commands, what operators look at, start and stop.
 */
import { dlopen, ptr } from 'bun:ffi';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect, createServer, isIP } from 'node:net';
import { homedir, hostname, networkInterfaces, tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Chalk } from 'chalk';
import { cleanEnv, makeExactValidator, str } from 'envalid';
import type { RotatingFileStream } from 'rotating-file-stream';
import sshKeygen from 'ssh-keygen-lite';

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

/** A value of a certain form: what is said of any other, and what becomes of its text. */
const matching = <T>(form: RegExp, expected: string, read: (text: string) => T) =>
  makeExactValidator<T>((value) => {
    if (!form.test(value)) throw new Error(expected);
    return read(value);
  });

const logFormat = matching(/^(text|json)$/, '应为 text 或 json', String);
const logSize = matching(/^[1-9]\d{0,5}[KMG]$/, '应为整数加单位 K、M 或 G，例如 10M', String);
const flag = matching(/^(true|false)$/, '应为 true 或 false', (text) => text === 'true');

/** sshd reads such a path from a quoted option, where a quote cannot be escaped. */
const directoryBelow = (base: string) =>
  matching(/^(?!~)[^"\p{Cc}]*$/u, '应为目录的完整路径；~ 不会展开，不能包含双引号和控制字符', (text) =>
    resolve(base, text),
  );
const directory = directoryBelow('.');
/** A relative path means to rsync one below the home directory. */
const destination = directoryBelow(homedir());

const countUpTo = (most: number) =>
  makeExactValidator<number>((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : 0;
    if (number < 1 || number > most) throw new Error(`应为 1 到 ${most} 之间的整数`);
    return number;
  });

const address = makeExactValidator<string>((value) => {
  if (value && !isIP(value)) throw new Error('应为 IP 地址，例如 127.0.0.1 或 ::1');
  return value;
});

const file = makeExactValidator<string>((value) => {
  if (/^~|\/$|\0/.test(value)) throw new Error('应为文件的完整路径；~ 不会展开');
  const path = value && resolve(value);
  if (path && existsSync(path) && !statSync(path).isFile()) throw new Error('应为普通文件，不能是目录或设备');
  return path;
});

const variables = {
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: '用来交换公钥的共享卷' }),
  SSH_DIR: directory({ default: join(homedir(), '.ssh'), desc: 'authorized_keys 所在目录；其他人的公钥保留不变' }),
  HOST_KEY_DIR: directory({ default: '/etc/ssh', desc: '主机密钥所在目录；缺少的会生成' }),
  SSHD_PORT: countUpTo(65535)({ default: 22, desc: 'sshd 监听的端口' }),
  SSHD_LISTEN: address({ default: '', desc: 'sshd 监听的 IP 地址，默认为所有地址' }),
  DEST_DIR: destination({ default: '/data/backup/', desc: '接收镜像的目录，不存在时创建' }),
  KEY_RETRIES: countUpTo(1_000_000)({ default: 30, desc: '等待源端公钥的次数，每次 2 秒' }),
  ALLOW_SHELL: flag({ default: false, desc: 'true = 源端密钥可以执行任意命令，而不只是镜像到 DEST_DIR' }),
  STATUS_FILE: file({
    default: '/run/start-sshd/status.json',
    desc: '状态文件，供 --status 和 --healthcheck 使用，整体替换',
  }),
  LOG_FORMAT: logFormat({ default: 'text', desc: '日志格式：text，或 json（每行一个对象）' }),
  LOG_FILE: file({ default: '', desc: '日志同时写入此文件，不带颜色，例如 /var/log/rsync/sshd.log' }),
  LOG_MAX_SIZE: logSize({ default: '10M', desc: 'LOG_FILE 达到此大小后轮转，单位 K、M 或 G' }),
  LOG_MAX_FILES: countUpTo(999)({ default: 5, desc: '保留多少个轮转后的 LOG_FILE' }),
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

/** The programs that are needed and their packages; it is sshd that starts rsync. */
const PROGRAMS = { sshd: 'openssh-server', 'ssh-keygen': 'openssh-client', rsync: 'rsync' };

/** The path of a program: sshd must be started by an absolute one, and is rarely on an ordinary user's PATH. */
function find(program: string): string | null {
  return Bun.which(program, { PATH: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` });
}

function missingPrograms(): string[] {
  return Object.entries(PROGRAMS)
    .filter(([program]) => !find(program))
    .map(([program, name]) => `缺少程序 ${program}：请安装软件包 ${name}（例如 apt-get install ${name}）`);
}

function help(): string {
  const rows = Object.entries(variables).map(([name, { default: value, desc }]) => {
    const shown = name === 'SSH_DIR' ? '$HOME/.ssh' : String(value) || '–';
    return `  ${name.padEnd(16)} ${shown.padEnd(28)}  ${desc}`;
  });
  return `start-sshd ${VERSION}：运行 sshd，接收 rsync-inotify 的镜像

用法: start-sshd [--help | --version | --check | --status | --healthcheck]
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明备份端能否接收镜像；退出状态 0 能，1 不能

环境变量（名称、默认值、说明）:
${rows.join('\n')}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败、缺少程序或 sshd 退出；2 配置或用法错误`;
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

/** What went wrong; ssh-keygen-lite throws strings. */
function reasonOf(cause: unknown): string {
  if (cause instanceof Failure) return cause.message; // is escaped already
  return escapeText(cause instanceof Error ? cause.message : String(cause).trim());
}

// ── Step 1.1: host keys ──────────────────────────────────────────────────────────────────────────

const HOST_KEY_TYPES = ['rsa', 'ecdsa', 'ed25519'] as const;
const hostKeyFile = (config: Config, type: string) => join(config.HOST_KEY_DIR, `ssh_host_${type}_key`);

async function generateHostKeys(config: Config): Promise<void> {
  try {
    const isThere = (type: string) => statSync(hostKeyFile(config, type), { throwIfNoEntry: false })?.size;
    const missing = HOST_KEY_TYPES.filter((type) => !isThere(type));
    if (missing.length === 0) return log('host_key.present', 'SSH 主机密钥已存在 ✓');
    log('host_key.generate', '生成 SSH 主机密钥...');
    mkdirSync(config.HOST_KEY_DIR, { recursive: true, mode: 0o700 });
    for (const type of missing) if (!stopping) await generateKey(type, hostKeyFile(config, type));
    if (stopping) return; // the next start makes the others
  } catch (cause) {
    const where = `HOST_KEY_DIR=${config.HOST_KEY_DIR}`;
    throw new Failure(`无法生成主机密钥：${reasonOf(cause)}。请检查 ${where} 的权限和磁盘空间`);
  }
  log('host_key.generated', 'SSH 主机密钥生成完成 ✓');
}

/** Makes the pair in a directory of its own and moves it into place whole, the private half last. */
async function generateKey(type: (typeof HOST_KEY_TYPES)[number], key: string): Promise<void> {
  const workshop = `${key}.new`;
  rmSync(workshop, { recursive: true, force: true }); // of a start that was cut short
  mkdirSync(workshop, { mode: 0o700 });
  try {
    const [location, size] = [join(workshop, 'key'), type === 'rsa' ? '3072' : '256'];
    await sshKeygen({ location, type, size, comment: `root@${hostname()}`, force: false, read: false });
    renameSync(`${location}.pub`, `${key}.pub`);
    renameSync(location, key);
  } finally {
    rmSync(workshop, { recursive: true });
  }
}

/** The source connects to a host with these keys and to no other. Without the volume it can only be told so. */
async function publishHostKeys(config: Config): Promise<void> {
  const directory = join(config.SHARED_KEYS_DIR, 'host_keys');
  try {
    if (mkdirSync(directory, { recursive: true })) chmodSync(directory, 0o755); // whatever the umask
    if (!lstatSync(directory).isDirectory()) throw new Error('应为目录，不能是链接');
    for (const type of HOST_KEY_TYPES) {
      const key = await run`ssh-keygen -y -P ${''} -f ${hostKeyFile(config, type)}`;
      if (key.exitCode !== 0) throw new Error(key.stderr.trim());
      replaceFile(join(directory, `${hostname()}.${type}.pub`), key.stdout, 0o644);
    }
  } catch (cause) {
    const what = `无法在 ${directory} 公布主机密钥，源端无法据此验证本机：${reasonOf(cause)}`;
    warn('host_key.unpublished', `${what}。请检查共享卷的挂载和权限`);
  }
}

// ── Step 1.2: sshd's configuration ───────────────────────────────────────────────────────────────

/** Resolves with the command that runs sshd by its configuration, which has been checked. */
async function configureSshd(config: Config): Promise<string[]> {
  log('sshd.configure', '配置 SSH 服务...');
  const user = (await run`id -un`).stdout.trim();
  if (user === 'root') makePrivsepDirectory();
  prepareDestination(config);
  runtimeDirectory = makeRuntimeDirectory();
  const [file, sessionFile] = [join(runtimeDirectory, 'sshd_config'), join(runtimeDirectory, 'session.conf')];
  const server = serverOptions(config, user, strictModesFor(config.SSH_DIR, process.getuid?.() ?? 0));
  const session = sessionOptions(config, user);
  writeFileSync(sessionFile, ['Match all', ...session, ''].join('\n'));
  writeFileSync(file, [`Include ${configWord(sessionFile)}`, ...server, ''].join('\n'));
  const command = [find('sshd') ?? 'sshd', '-f', file, '-p', String(config.SSHD_PORT)];
  await includeMachineConfig(file, [...server, ...session], command, user);
  if (config.ALLOW_SHELL) warn('sshd.shell_allowed', 'ALLOW_SHELL=true：源端的密钥可以在本机执行任意命令');
  else if (landlockVersion() < LEAST_LANDLOCK) warn('sshd.no_landlock', NO_LANDLOCK);
  log('sshd.configured', 'SSH 配置完成 ✓');
  return command;
}

/** The machine's own configuration: it may add to ours, a banner for example. */
const MACHINE_CONFIG = '/etc/ssh/sshd_config';

/** A word of sshd's configuration. */
const configWord = (word: string) => `"${word.replaceAll('\\', '\\\\')}"`;

/**
 * What a session finds in its environment. By SHLVL bash sees that it need not run ~/.bashrc, which may print into
 * the transfer or take its time; rsync is then the one that the start has found.
 */
function sessionVariables({ DEST_DIR }: Config): string[] {
  const { PATH = '' } = process.env;
  const path = /^[^"\p{Cc}]+$/u.test(PATH) ? [`PATH=${PATH}`] : [];
  return ['SHLVL=1', ...path, `DEST_DIR=${DEST_DIR}`, `START_SSHD_REPORTS=${reportSocket()}`];
}

/** What a session may do. It stands in a Match block that comes first, which no other Match block can override. */
export function sessionOptions(config: Config, user: string): string[] {
  return [
    `AllowUsers ${user}`,
    `AuthorizedKeysFile ${configWord(join(config.SSH_DIR, 'authorized_keys').replaceAll('%', '%%'))}`,
    `PermitRootLogin ${config.ALLOW_SHELL ? 'prohibit-password' : 'forced-commands-only'}`,
    'AuthenticationMethods publickey',
    'PubkeyAuthentication yes',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'HostbasedAuthentication no',
    'PermitEmptyPasswords no',
    'AuthorizedKeysCommand none',
    'AuthorizedPrincipalsFile none',
    'TrustedUserCAKeys none',
    'MaxAuthTries 3',
    'DisableForwarding yes',
    'AllowTcpForwarding no',
    'AllowStreamLocalForwarding no',
    'AllowAgentForwarding no',
    'X11Forwarding no',
    'GatewayPorts no',
    'PermitTunnel no',
    'PermitTTY no',
    'PermitUserRC no',
    `SetEnv ${sessionVariables(config).map(configWord).join(' ')}`,
    'AcceptEnv NONE', // a name that nobody sends: an empty list could be added to
    'ForceCommand none', // the one in authorized_keys counts
    'ChrootDirectory none',
  ];
}

/** What holds before anybody has logged in. PAM works for root only, and lets a root without a password in by key. */
export function serverOptions(config: Config, user: string, strictModes: 'yes' | 'no'): string[] {
  return [
    ...HOST_KEY_TYPES.map((type) => `HostKey ${configWord(hostKeyFile(config, type))}`),
    ...(config.SSHD_LISTEN ? [`ListenAddress ${config.SSHD_LISTEN}`] : []),
    `StrictModes ${strictModes}`,
    `UsePAM ${user === 'root' ? 'yes' : 'no'}`,
    'PermitUserEnvironment no',
    'PidFile none',
    'LogLevel INFO',
    'LoginGraceTime 20',
    'MaxStartups 10:50:30',
    'ClientAliveInterval 15',
    'ClientAliveCountMax 3',
    'KexAlgorithms -diffie-hellman-group1-*,diffie-hellman-group14-*,diffie-hellman-group-exchange-*,ecdh-sha2-*',
    'Ciphers -3des*,*-cbc,arcfour*',
    'MACs -*md5*,*sha1*,umac-64*,hmac-sha2-256,hmac-sha2-512,umac-128@openssh.com',
    'HostKeyAlgorithms -ssh-rsa*,ssh-dss*',
    'PubkeyAcceptedKeyTypes -ssh-rsa*,ssh-dss*',
  ];
}

/** Holds sshd's configuration and the socket for reports, for nobody else to see. It goes when we go. */
let runtimeDirectory = '';
const reportSocket = () => join(runtimeDirectory, 'reports');

function makeRuntimeDirectory(): string {
  const parents = ['/run', process.env.XDG_RUNTIME_DIR, tmpdir()].filter((path) => path !== undefined);
  for (const parent of parents) {
    try {
      return mkdtempSync(join(parent, 'start-sshd-'));
    } catch {}
  }
  throw new Failure(`无法在 ${parents.join('、')} 中创建运行目录，请检查权限和磁盘空间`);
}

const withParents = (path: string): string[] => (path === '/' ? [path] : [...withParents(dirname(path)), path]);

/**
 * Whether sshd shall check that nobody else can replace the keys in a directory: `no` only where all that it would
 * object to is a directory with the sticky bit, such as /tmp, in which nobody can replace what is not theirs.
 */
export function strictModesFor(directory: string, uid: number): 'yes' | 'no' {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const all = withParents(realpathSync(directory)).map((path) => statSync(path));
    const writable = all.filter(({ mode }) => (mode & 0o022) !== 0);
    const isSafe =
      all.every((s) => s.uid === 0 || s.uid === uid) && writable.every(({ mode }) => (mode & 0o1000) !== 0);
    return writable.length > 0 && isSafe ? 'no' : 'yes';
  } catch {
    return 'yes'; // why it cannot be made is told when the key is to be written
  }
}

/** rsync makes no more than the last directory of a path. */
function prepareDestination({ DEST_DIR, SSH_DIR, HOST_KEY_DIR, LOG_FILE, STATUS_FILE }: Config): void {
  try {
    mkdirSync(DEST_DIR, { recursive: true });
    accessSync(DEST_DIR, constants.W_OK);
    const isExposed = (path: string) => isWithin(realPath(path), realpathSync(DEST_DIR));
    for (const path of [LOG_FILE, STATUS_FILE].filter((name) => name && isExposed(dirname(name)))) {
      warn('destination.exposed', `${path} 在 DEST_DIR=${DEST_DIR} 之内：源端可以改写或删除它。请更改其中一个`);
    }
    for (const path of [SSH_DIR, HOST_KEY_DIR].filter(isExposed)) {
      warn('destination.exposed', `${path} 在 DEST_DIR=${DEST_DIR} 之内：源端可以改写其中的密钥。请更改其中一个`);
    }
  } catch (cause) {
    warn('destination.failed', `目标目录 ${DEST_DIR} 无法写入：${reasonOf(cause)}。请检查 DEST_DIR 和权限`);
  }
}

/** Debian's sshd separates privileges in a directory that the boot makes; if it cannot be made, sshd says so. */
function makePrivsepDirectory(): void {
  try {
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  } catch {}
}

/** What sshd makes of its configuration, in its own words, one option a line. @throws {Failure} where it is none */
async function effectiveOptions(command: string[], user: string): Promise<string[]> {
  const check = await run`${command} -T -C ${`user=${user},host=localhost,addr=127.0.0.1`}`;
  if (check.exitCode === 0) return check.stdout.trim().split('\n');
  const lines = check.stderr.trim().split(/\r?\n/).map(escapeText);
  throw new Failure(['sshd 配置无效：', ...lines].join('\n'));
}

/** The name of an option in a line of sshd's configuration, as `sshd -T` writes it. */
const nameOf = (line: string) => line.replace(/ .*/, '').toLowerCase();

/** Lets the machine's configuration add to ours, unless it would change what ours settles or where sshd listens. */
async function includeMachineConfig(file: string, ours: string[], command: string[], user: string): Promise<void> {
  const own = await effectiveOptions(command, user);
  if (!existsSync(MACHINE_CONFIG)) return;
  const settled = [...ours, 'Port', 'ListenAddress'].map(nameOf);
  const content = readFileSync(file, 'utf8');
  writeFileSync(file, `${content}Include ${MACHINE_CONFIG}\n`);
  try {
    const others = (await effectiveOptions(command, user)).filter((line) => !own.includes(line));
    const changed = others.filter((line) => settled.includes(nameOf(line)));
    if (changed.length > 0) throw new Failure(`它会放宽 start-sshd 的设置：${escapeText(changed.join('、'))}`);
  } catch (cause) {
    writeFileSync(file, content);
    for (const line of reasonOf(cause).split('\n')) warn('sshd.config_ignored', `未采用 ${MACHINE_CONFIG}：${line}`);
  }
}

// ── Step 1.3: sshd ───────────────────────────────────────────────────────────────────────────────

let sshd: ChildProcess | undefined;

/** Starts sshd in the foreground, its log in ours; resolves when it listens. */
async function startSshd(config: Config, [program = '', ...args]: string[]): Promise<ChildProcess> {
  log('sshd.start', '启动 SSH 服务...');
  // A process group of its own: Ctrl-C reaches only us.
  const child = spawn(program, ['-D', '-e', ...args], { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  sshd = child; // at once, so that a signal to stop finds it
  const { promise, resolve: listening, reject } = Promise.withResolvers<ChildProcess>();
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.startsWith('Server listening')) return listening(child);
    info('sshd.output', `sshd: ${escapeText(line)}`);
    // Of several addresses sshd would make do with those that are free.
    if (/Bind to port .* Address already in use/.test(line)) {
      reject(new Failure(`端口 ${config.SSHD_PORT} 已被占用。请停止占用它的程序，或更改 SSHD_PORT`));
    }
  });
  child.once('error', reject);
  child.once('close', (code, signal) => reject(new Failure(`sshd 启动失败 (退出码: ${code ?? signal})`)));
  return promise;
}

function logReady(config: Config): void {
  const address = config.SSHD_LISTEN || ownAddress();
  log('sshd.started', 'SSH 服务已启动 ✓', { pid: sshd?.pid, port: config.SSHD_PORT, host: hostname(), address });
  detail(`  PID: ${sshd?.pid}`);
  detail(`  端口: ${config.SSHD_PORT}`);
  detail(`  主机名: ${hostname()}`);
  detail(`  IP 地址: ${address}`);
  heading('service.ready', 'SSH 服务器就绪，等待连接...');
}

/** The address that other hosts most likely know this one by. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outside = addresses.filter(({ internal }) => !internal);
  const first = outside.find(({ family }) => family === 'IPv4') ?? outside[0];
  return first?.address ?? '127.0.0.1';
}

// ── Step 2: the source's public key ──────────────────────────────────────────────────────────────

/** How long a try of `KEY_RETRIES` lasts, and how often the shared key is looked at meanwhile, ms. */
const TRY_MS = 2000;
const POLL_MS = 200;
const MAX_KEY_BYTES = 16_384;
const MIN_RSA_BITS = 2048;

const sharedKeyFile = (config: Config) => join(config.SHARED_KEYS_DIR, 'id_rsa.pub');

/** Without a key sshd starts all the same: the key is authorised as soon as it is there. */
async function waitForKey(config: Config): Promise<void> {
  log('key.wait', '等待源端公钥...');
  for (let attempt = 1; attempt <= config.KEY_RETRIES; attempt++) {
    if (adoptSharedKey(config)) return;
    info('key.retry', `等待源端生成公钥... (${attempt}/${config.KEY_RETRIES})`, { attempt });
    const deadline = performance.now() + TRY_MS;
    while (performance.now() < deadline && !adoptSharedKey(config)) await sleep(POLL_MS);
  }
  if (!shared.inForce)
    warn('key.missing', `没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权: ${escapeText(sharedKeyFile(config))}`);
}

/** What the shared key file holds, nothing while there is none. Throws when it is no key file or cannot be read. */
function readSharedKey(config: Config): string {
  const path = sharedKeyFile(config);
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (!status) return '';
  if (!status.isFile() || status.size > MAX_KEY_BYTES)
    throw new Error(`${path} 应为不超过 ${MAX_KEY_BYTES} 字节的普通文件，不能是链接`);
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const content = Buffer.alloc(MAX_KEY_BYTES);
    return content.toString('utf8', 0, readSync(file, content)).trim();
  } finally {
    closeSync(file);
  }
}

/** One line of `TYPE BASE64 [COMMENT]` without options, whole in the eyes of ssh-keygen. Throws on anything else. */
export function parsePublicKey(line: string): string {
  const form = /^(ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp\d+|sk-[\w@.-]+) [A-Za-z0-9+/]+={0,3}( [^\p{Cc}]*)?$/u;
  const input = { input: `${line}\n`, encoding: 'utf8' } as const;
  const shown = form.test(line) ? spawnSync('ssh-keygen', ['-l', '-f', '-'], input) : undefined;
  if (shown?.status !== 0) throw new Error('公钥文件应为完整的一行: 类型 BASE64 [注释]');
  if (line.startsWith('ssh-rsa ') && Number.parseInt(shown.stdout, 10) < MIN_RSA_BITS)
    throw new Error(`RSA 公钥应至少有 ${MIN_RSA_BITS} 位`);
  return line;
}

// ── Step 3: authorized_keys ──────────────────────────────────────────────────────────────────────

/** The line above ours in `authorized_keys`; lines of other people stay as they are. */
const MARKER = '# start-sshd: the next line is the key from the shared volume and is replaced with it';

/** The key in force, the one found last, and why the file was refused last. */
const shared = { inForce: '', found: '', complaint: '' };

/** Authorises the shared key where it is new; one that is refused, told once, changes nothing. Returns whether one is in force. */
function adoptSharedKey(config: Config): boolean {
  try {
    const content = readSharedKey(config);
    if (content && content !== shared.inForce) {
      const key = parsePublicKey(content);
      if (key !== shared.found) log('key.found', '发现源端公钥，配置授权...');
      shared.found = key;
      authorize(config, key);
      shared.inForce = key;
      touch();
      log('key.authorized', 'SSH 免密登录配置完成 ✓', { fingerprint: fingerprint(key) });
    }
    shared.complaint = '';
  } catch (cause) {
    const complaint = reasonOf(cause);
    if (complaint !== shared.complaint) error('key.refused', `源端公钥未生效: ${complaint}`);
    shared.complaint = complaint;
  }
  return shared.inForce !== '';
}

/** The key's line in `authorized_keys`: what sshd starts for it instead of what it asks for (sshd(8)). */
export function authorizedLine(config: Config, key: string): string {
  if (config.ALLOW_SHELL) return `restrict ${key}`;
  const script = import.meta.path.startsWith('/$bunfs/') ? [] : ['--no-env-file', import.meta.path];
  const program = process.execPath.replace(/ \(deleted\)$/, ''); // replaced by a newer one since we were started
  const command = ['exec', ...[program, ...script, FORCED_COMMAND].map(quote)].join(' ');
  return `restrict,command="${command.replaceAll('"', '\\"')}" ${key}`;
}

/**
 * Puts our line into what `authorized_keys` holds, in place of the last one of ours. It comes first: if a line of
 * somebody else lets the same key in, with other restrictions or none, sshd goes by the first.
 */
export function mergeAuthorizedKeys(content: string, line: string, key: string): string {
  const [type, body] = key.split(' ');
  const isOurs = (other: string) => `${other} `.startsWith(`${type} ${body} `);
  const lines = content.split('\n');
  const others = lines.filter((other, n) => other !== MARKER && lines[n - 1] !== MARKER && !isOurs(other));
  return [MARKER, line, ...others.filter(Boolean), ''].join('\n');
}

/** Bytes stay bytes (latin1): comments of others need not be UTF-8. */
function authorize(config: Config, key: string): void {
  let file = join(config.SSH_DIR, 'authorized_keys');
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    if (existsSync(file)) file = realpathSync(file);
    const present = existsSync(file) ? readFileSync(file, 'latin1') : '';
    const line = Buffer.from(authorizedLine(config, key)).toString('latin1');
    replaceFile(file, mergeAuthorizedKeys(present, line, key), 0o600);
  } catch (cause) {
    throw new Failure(`无法写入 ${escapeText(file)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** A line of ours that an earlier start has left gives its key no more than this start does. */
function restrictFormerKey(config: Config): void {
  const file = join(config.SSH_DIR, 'authorized_keys');
  const [, line = ''] = existsSync(file) ? readFileSync(file, 'utf8').split(`${MARKER}\n`) : [];
  const [key] = /\S+ AAAA[^\n]*/.exec(line.split('\n')[0] ?? '') ?? [];
  try {
    if (key) authorize(config, key);
  } catch (cause) {
    error('key.unrestricted', `原有公钥的限制未更新: ${reasonOf(cause)}`);
  }
}

// ── Step 4: follow the key ───────────────────────────────────────────────────────────────────────

/** How often the shared key is looked at once sshd runs, ms. */
const FOLLOW_MS = 500;

/** From now on a new key takes the old one's place. */
function followSharedKey(config: Config): void {
  setInterval(adoptSharedKey, FOLLOW_MS, config);
}

// ── The source's commands: how they are answered ─────────────────────────────────────────────────

/** What sshd starts for the source, whatever it asks for. */
const FORCED_COMMAND = '--forced-command';
/** What the source asks for where it has moved something: `start-sshd --rename DIRECTORY`. */
const RENAME = '--rename';
/** How much is told of a command that is refused, characters. */
const MAX_SHOWN = 500;

/** Why a command of the source is not run. */
class Refusal extends Error {}

/** Answers the source, unless it becomes the program that does, or refuses. */
async function serve(command: string, answer: typeof answerTo): Promise<void> {
  try {
    writeSync(1, `${answer(command)}\n`);
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).slice(0, MAX_SHOWN);
    writeSync(2, `start-sshd: 拒绝执行：${escapeText(reason)}\n`);
    await report(`${reason}。命令: ${command.slice(0, MAX_SHOWN)}`);
    process.exit(1);
  }
}

/** What a command of the source is answered with, the test of the connection for example. @throws {Refusal} */
function answerTo(command: string): string | number {
  const { DEST_DIR, START_SSHD_REPORTS } = process.env;
  if (!DEST_DIR || !START_SSHD_REPORTS) throw new Refusal('只能经由 start-sshd 启动的 sshd 使用');
  if (!command) throw new Refusal('不提供 shell');
  const words = parseCommand(command);
  const [program, option, directory] = words;
  if (program === 'echo') return words.slice(1).join(' ');
  const isRename = program === 'start-sshd' && option === RENAME && words.length === 3;
  return isRename ? renameIn(directory ?? '', DEST_DIR) : receive(words, DEST_DIR);
}

/** Becomes the receiving rsync. @throws {Refusal} */
function receive(words: string[], allowed: string): never {
  const { options, directories, destination } = parseReceiver(words);
  const { real, root } = locate(destination, allowed);
  for (const directory of directories) confinedPath(directory, real, root);
  const rsync = find('rsync');
  if (!rsync || !process.execve) throw new Refusal('本机没有 rsync');
  const rest = enter(real, root) + (destination.endsWith('/') ? '/' : ''); // a directory to be, for a single file
  if (options.some((option) => /^--(inplace|append)$/.test(option))) forbidDevices();
  confine(root, neededBy(rsync));
  return process.execve(rsync, ['rsync', '--server', ...options, '.', rest], process.env);
}

/** Tells the service, in whose log it belongs, what was refused. */
async function report(message: string): Promise<void> {
  const { START_SSHD_REPORTS: service } = process.env;
  if (!service) return;
  const socket = connect(service).resume().end(message);
  await Promise.race([once(socket, 'close'), sleep(1000)]).catch(() => {}); // without the service there is no log
}

/** Takes the reports of forced commands. */
function listenForReports(): void {
  const server = createServer((socket) => {
    let message = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      message = `${message}${chunk}`.slice(0, 4 * MAX_SHOWN);
    });
    socket.once('end', () => {
      state.refused++;
      warn('command.refused', `拒绝执行源端的命令：${escapeText(message)}`);
    });
    socket.on('error', () => {});
  });
  server
    .on('error', (cause) => warn('command.unreported', `拒绝执行的命令不会记入日志：${reasonOf(cause)}`))
    .listen(reportSocket());
}

// ── The source's commands: which are let through ─────────────────────────────────────────────────

/** How long a command may be, bytes. */
const MAX_COMMAND_BYTES = 65_536;
/** Short options of rsync that only say what is transferred and how. K, L and k follow links, s hides words from us. */
const LETTERS = 'ACDEHIJNORSUWXbcdglmnopqrtuvxyz';
const SHORT_OPTION = new RegExp(`^-(?=.)[${LETTERS}]*(e\\d*\\.\\w*)?$|^-[@B]-?\\d+$`);
const wordsOf = (list: string) => list.split(/\s+/);
/** Long ones, and those with a value that names no file: what a client may send (rrsync(1)) to a receiver that follows no link. */
const FLAGS = wordsOf(
  `append copy-unsafe-links delay-updates delete delete-after delete-before delete-delay delete-during delete-excluded
  delete-missing-args dirs existing fake-super force from0 fsync fuzzy group hard-links ignore-errors ignore-existing
  ignore-missing-args ignore-times inplace links mkpath msgs2stderr munge-links new-compress no-W no-msgs2stderr no-r
  no-relative no-specials numeric-ids old-compress one-file-system open-noatime owner partial perms preallocate
  recursive safe-links size-only specials stats super times use-qsort`,
);
const VALUES = wordsOf(
  `block-size bwlimit checksum-choice checksum-seed compress-choice compress-level compress-threads groupmap iconv info
  log-format max-alloc max-delete max-size min-size modify-window skip-compress stderr suffix timeout usermap`,
);
/** Options that name a directory, as one word or two. */
const DIRECTORIES = ['backup-dir', 'compare-dest', 'copy-dest', 'link-dest', 'partial-dir', 'temp-dir'];

/** A run of white space or a part of a word: escaped, in single quotes, in double quotes, plain, or a quote without its end. */
const PART = /( +)|\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^ '"\\]+)|(.)/gu;

/**
 * Splits a command into words as a shell would; what only a shell would expand stays as it is. shlex takes other
 * characters for escaped than a shell does, and seconds for a word of many quotes. @throws {Refusal}
 */
export function parseCommand(command: string): string[] {
  if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) throw new Refusal(`命令超过 ${MAX_COMMAND_BYTES} 字节`);
  if (/[\p{Cc}\ufffd]/u.test(command)) throw new Refusal('命令包含控制字符或不是 UTF-8');
  const words: string[] = [];
  let inWord = false;
  for (const [, space, escaped, single, double, plain, unpaired] of command.matchAll(PART)) {
    if (unpaired) throw new Refusal('引号或反斜杠没有配对');
    if (!space && !inWord) words.push('');
    inWord = !space;
    words[words.length - 1] += escaped ?? single ?? double?.replace(/\\([\\"$`])/g, '$1') ?? plain ?? '';
  }
  return words;
}

/** Takes `rsync --server OPTION... . DESTINATION` apart: known options only, and the directories in them. @throws {Refusal} */
export function parseReceiver([program = '', server, ...words]: string[]) {
  if (basename(program) !== 'rsync' || server !== '--server') throw new Refusal('只允许 rsync 向本机写入镜像');
  const [options, directories]: [string[], string[]] = [[], []];
  while (words[0] !== '.') {
    const word = words.shift();
    const [, name = '', value] = /^--([\w-]+)(?:=(.*))?$/.exec(word ?? '') ?? [];
    if (word === undefined) throw new Refusal('rsync 命令不完整');
    if (DIRECTORIES.includes(name)) {
      const directory = value ?? words.shift() ?? '';
      directories.push(directory);
      options.push(`--${name}=${directory}`);
    } else if (SHORT_OPTION.test(word) || (value === undefined ? FLAGS : VALUES).includes(name)) options.push(word);
    else throw new Refusal(`不允许 rsync 选项 ${word}`);
  }
  if (words.length !== 2) throw new Refusal('rsync 命令应只有一个目标目录');
  return { options, directories, destination: words[1] ?? '' };
}

// ── The source's commands: where they lead ───────────────────────────────────────────────────────

/**
 * Where a path leads that need not exist yet: links are followed as far as it does. Throws where it leads nowhere.
 * `..` goes up from where a link leads, which only the native call knows. What is not there yet may be soon.
 */
function realPath(path: string): string {
  const existing = (name: string) => lstatSync(name, { throwIfNoEntry: false }) && realpathSync.native(name);
  const name = path.replace(/(?!^)\/+$/, ''); // a link that leads nowhere is none with a slash behind it
  const found = existing(name);
  if (found) return found;
  const below = join(realPath(dirname(name)), basename(name));
  return existing(below) ?? below;
}

const isWithin = (path: string, root: string) => path === root || path.startsWith(root.replace(/\/?$/, '/'));

/** The real path of what a word of the source names. @throws {Refusal} where it is not within DEST_DIR */
export function confinedPath(word: string, base: string, root: string): string {
  try {
    const path = realPath(word.startsWith('/') ? word : `${base}/${word}`);
    if (isWithin(path, root)) return path;
  } catch {}
  throw new Refusal(`${word} 不在 DEST_DIR=${root} 之内`);
}

/** Enters the destination, or of one that does not exist yet the last directory that does; returns what is left. */
function enter(destination: string, root: string): string {
  let existing = destination;
  while (!statSync(existing, { throwIfNoEntry: false })?.isDirectory()) existing = dirname(existing);
  process.chdir(existing);
  // Whatever it was when it was looked at: it must be within now, and from here on it stays what it is.
  if (!isWithin(readlinkSync('/proc/self/cwd'), root)) throw new Refusal('目标目录在检查时被替换');
  return `./${relative(existing, destination)}`;
}

/** Where a destination of the source really is, and the real path of what it may be in. @throws {Refusal} */
function locate(destination: string, allowed: string): { real: string; root: string } {
  mkdirSync(allowed, { recursive: true });
  const root = realpathSync(allowed);
  const path = destination.replace(/^~(?=\/|$)/, homedir()); // no shell does it for others
  return { real: confinedPath(path, homedir(), root), root };
}

// ── The source's commands: renames ───────────────────────────────────────────────────────────────

/** How long a path may be that is to be renamed, bytes. */
const MAX_PATH_BYTES = 4096;
const O_PATH = 0o10000000;
/** How a directory is opened that is only a place to go on from: never through a link. */
const PLACE = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** What a name stands for in an open directory, wherever that has been moved meanwhile. Bytes are latin1. */
const inPlace = (place: number, name: string) => Buffer.from(`/proc/self/fd/${place}/${name}`, 'latin1');

const openPlace = (place: number, name: string) => openSync(inPlace(place, name), PLACE);

/** Where the directory is not there, it is made; rsync gives it its mode and owner afterwards. */
function makePlace(place: number, name: string): number {
  try {
    return openPlace(place, name);
  } catch {
    mkdirSync(inPlace(place, name), 0o700);
    return openPlace(place, name);
  }
}

/**
 * Goes a path's way below an open directory. No link is followed, whoever may put one there meanwhile: each directory
 * is opened in the one before, and what is open cannot be replaced. The last one stays open until it is disposed of.
 * Throws where the path leads up or names no more than where it starts.
 */
function follow(root: number, path: string, open: typeof openPlace) {
  const names = path.split('/');
  if (names.some((name) => /^\.{0,2}$/.test(name))) throw new Error(`${path} 应为不含 . 和 .. 的相对路径`);
  const last = names.pop() ?? '';
  let place = openPlace(root, '.');
  for (const name of names) {
    const above = place;
    try {
      place = open(above, name);
    } finally {
      closeSync(above);
    }
  }
  return { last: inPlace(place, last), [Symbol.dispose]: () => closeSync(place) };
}

/** Renames below an open directory as rename(2) does; returns whether it could be done. rsync mirrors both places anyway. */
export function renameBelow(root: number, from: string, to: string): boolean {
  try {
    using source = follow(root, from, openPlace);
    lstatSync(source.last); // nothing is made for what is not there
    using target = follow(root, to, makePlace);
    renameSync(source.last, target.last);
    return true;
  } catch {
    return false;
  }
}

/** The pairs of paths on standard input, a NUL behind each path. Bytes are latin1. @throws {Refusal} */
function* readPairs(): Generator<[from: string, to: string]> {
  const chunk = Buffer.alloc(65_536);
  let rest = '';
  for (let length = readSync(0, chunk); length > 0; length = readSync(0, chunk)) {
    const paths = (rest + chunk.toString('latin1', 0, length)).split('\0');
    if (paths.some((path) => path.length > MAX_PATH_BYTES)) throw new Refusal(`路径超过 ${MAX_PATH_BYTES} 字节`);
    let next = 0;
    for (; next + 2 < paths.length; next += 2) yield [paths[next] ?? '', paths[next + 1] ?? ''];
    rest = paths.slice(next).join('\0');
  }
  if (rest) throw new Refusal('最后一对路径不完整');
}

/**
 * Renames in a directory what standard input asks for, so that rsync need not transfer what has only been moved.
 * It is done by this thread itself, the only one that is fenced in.
 * @returns how often that was possible
 * @throws {Refusal}
 */
function renameIn(directory: string, allowed: string): number {
  const { real, root } = locate(directory, allowed);
  if (enter(real, root) !== './') return 0; // there is nothing yet
  confine('.');
  const place = openSync('.', PLACE);
  let done = 0;
  for (const [from, to] of readPairs()) if (renameBelow(place, from, to)) done++;
  return done;
}

// ── The source's commands: their fence (landlock(7)) ─────────────────────────────────────────────

/** What rsync and the C library read besides, and may execute. Names of users and groups come from here too. */
const READABLE = [
  ...['/usr', '/lib', '/lib64', '/bin', '/etc/ld.so.cache', '/etc/ld.so.preload', '/etc/localtime'],
  ...['/etc/passwd', '/etc/group', '/etc/nsswitch.conf', '/etc/ssl/openssl.cnf', '/var/lib/sss', '/dev/null'],
];
/** Others keep their data there; what rsync needs is there only where rsync is. */
const READABLE_WITH_RSYNC = ['/opt', '/nix'];

/** All that rsync needs outside of the directory that it writes. */
function neededBy(rsync: string): string[] {
  const binary = realpathSync(rsync);
  return [binary, ...READABLE_WITH_RSYNC.filter((path) => isWithin(binary, path)), ...READABLE];
}

/** Rights of landlock(7): of a file these, of a directory all that its version knows. */
const [EXECUTE, WRITE_FILE, READ_FILE, READ_DIRECTORY] = [1, 2, 4, 8];
const NO_LANDLOCK =
  '内核没有 Landlock（Linux 5.19 起）：源端的命令仍逐条检查，但旧版 rsync 可能被备份内的链接引到目录之外';
/** Versions of Landlock that forbid to link and rename between directories are of no use for a mirror. */
const LEAST_LANDLOCK = 2;

/** Numbers of system calls, the same on every machine. */
const [MOUNT_SETATTR, CREATE_RULESET, ADD_RULE, RESTRICT_SELF] = [442, 444, 445, 446];

/** Calls of the kernel that Bun has no function for, nothing where it does not find the C library. */
function systemCalls() {
  const musl = `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`;
  const calls = {
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
    unshare: { args: ['i32'], returns: 'i32' },
    prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
  } as const;
  for (const name of ['libc.so.6', musl]) {
    try {
      return dlopen(name, calls).symbols;
    } catch {}
  }
}

/** The version of Landlock that the kernel has, 0 or less for none. */
function landlockVersion(calls = systemCalls()): number {
  return calls?.syscall(CREATE_RULESET, 0, 0, 1, 0, 0) ?? 0;
}

/**
 * Has all mounts that root's process sees anew hold no devices (mount_setattr(2), Linux 5.12): an rsync that writes into
 * files as they are would write to a disk, if the source has meanwhile mirrored the disk's node in a file's place.
 * In a container neither that nor the disk is allowed.
 */
function forbidDevices(): void {
  const calls = systemCalls();
  const [NEW_NAMESPACE, CURRENT, RECURSIVE] = [0x20000, -100, 0x8000];
  const [NO_DEVICES, PRIVATE] = [4n, 0x40000n];
  if (process.getuid?.() !== 0 || calls?.unshare(NEW_NAMESPACE) !== 0) return;
  const attributes = new BigUint64Array([NO_DEVICES, 0n, PRIVATE, 0n]);
  calls.syscall(MOUNT_SETATTR, CURRENT, ptr(Buffer.from('/\0')), RECURSIVE, ptr(attributes), 32);
}

/**
 * Fences this process and what it becomes off from all files but those below a directory (landlock(7)): versions of
 * rsync before 3.5.0 can be led out of it by links that the source has planted there. Without Landlock it does nothing.
 * @param readable what may be read and executed besides
 */
function confine(root: string, readable: string[] = []): void {
  const calls = systemCalls();
  const version = landlockVersion(calls);
  if (!calls || version < LEAST_LANDLOCK) return;
  const all = version === LEAST_LANDLOCK ? 0x3fff : 0x7fff;
  const ruleset = calls.syscall(CREATE_RULESET, ptr(new BigUint64Array([BigInt(all)])), 8, 0, 0, 0);
  const allow = (path: string, rights: number) => {
    if (!existsSync(path)) return;
    const file = openSync(path, O_PATH);
    const rule = Buffer.alloc(12);
    rule.writeUInt32LE(fstatSync(file).isDirectory() ? rights : rights & (EXECUTE | WRITE_FILE | READ_FILE));
    rule.writeInt32LE(file, 8);
    if (calls.syscall(ADD_RULE, ruleset, 1, ptr(rule), 0, 0) !== 0) throw new Error(`Landlock: ${path}`);
    closeSync(file);
  };
  allow(root, all);
  allow('/dev/null', READ_FILE | WRITE_FILE);
  for (const path of readable) allow(path, EXECUTE | READ_FILE | READ_DIRECTORY);
  const NO_NEW_PRIVS = 38;
  if (calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) || calls.syscall(RESTRICT_SELF, ruleset, 0, 0, 0, 0))
    throw new Error('Landlock');
}

// ── Commands and files ───────────────────────────────────────────────────────────────────────────

/** Makes a word of a shell's command line of any text. */
const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;

/** zx for what runs once; loaded only here, because it takes longer than all that the forced command does. */
async function run(words: TemplateStringsArray, ...values: (string | string[])[]) {
  const { $ } = await import('zx');
  const shell = { shell: '/bin/sh', prefix: '', quote }; // on every machine; bash is not
  // `sudo -u` may leave us in a directory that the user may not enter.
  const cwd = existsSync(process.cwd()) ? process.cwd() : '/';
  return $({ ...shell, nothrow: true, quiet: true, cwd, stdio: ['ignore', 'pipe', 'pipe'] })(words, ...values);
}

/**
 * Writes a file whole or not at all; one that holds this already may be on a read-only volume. Others may write in its
 * directory, too: links that they put there are not followed. Bytes are latin1.
 */
function replaceFile(path: string, content: string, mode: number): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isFile() && found.size === content.length && readFileSync(path, 'latin1') === content) return;
  const temporary = `${path}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  const umask = process.umask(0); // the mode is meant as it is
  try {
    writeFileSync(temporary, content, { mode, encoding: 'latin1', flag: 'wx' });
    renameSync(temporary, path);
  } finally {
    process.umask(umask);
    rmSync(temporary, { force: true });
  }
}

// ── Status: what operators look at ───────────────────────────────────────────────────────────────

/** How soon a change of the state can be seen from outside, and how often it is told that nothing has changed, ms. */
const PUBLISH_MS = 500;
const HEARTBEAT_MS = 10_000;
/** A state that is older says nothing about a running service, ms. */
const STALE_MS = 30_000;
/** With less room, a disk is as good as full, bytes. */
const LEAST_FREE = 1_000_000;

const state = {
  phase: 'starting' as 'starting' | 'serving' | 'stopped',
  started: new Date(),
  config: undefined as Config | undefined,
  refused: 0,
};

/** The next time that the status file is written, if the state has changed. */
let publishing: NodeJS.Timeout | undefined;

/** Has the status file follow the state soon. */
function touch(): void {
  publishing ??= setTimeout(publish, PUBLISH_MS);
}

let isStatusBroken = false;

/** Writes the status file. What goes wrong with it is told once until it works again. */
function publish(): void {
  clearTimeout(publishing);
  publishing = undefined;
  if (!state.config) return;
  const { STATUS_FILE } = state.config;
  try {
    const status = reportStatus(state.config);
    mkdirSync(dirname(STATUS_FILE), { recursive: true });
    const content = Buffer.from(JSON.stringify({ ...status, problems: problemsOf(status) }));
    replaceFile(STATUS_FILE, content.toString('latin1'), 0o644);
    isStatusBroken = false;
  } catch (cause) {
    const what = `无法写入 STATUS_FILE=${escapeText(STATUS_FILE)}：${reasonOf(cause)}`;
    if (!isStatusBroken) warn('status.failed', `${what}。请检查目录和权限，或更改 STATUS_FILE`);
    isStatusBroken = true;
  }
}

function reportStatus(config: Config) {
  const { DEST_DIR, SSHD_PORT, SSHD_LISTEN } = config;
  return {
    program: 'start-sshd',
    version: VERSION,
    pid: process.pid,
    host: hostname(),
    started: state.started.toISOString(),
    updated: new Date().toISOString(),
    phase: state.phase,
    sshd: { pid: sshd?.pid ?? null, port: SSHD_PORT, listen: SSHD_LISTEN || null },
    destination: { directory: DEST_DIR, writable: isWritable(DEST_DIR), free_bytes: freeBytes(DEST_DIR) },
    key: shared.inForce ? fingerprint(shared.inForce) : null,
    sessions: sshd?.pid ? startedBy(sshd.pid).length : 0,
    refused: state.refused,
    errors: complaints,
  };
}

type Status = ReturnType<typeof reportStatus>;

function isWritable(directory: string): boolean {
  try {
    accessSync(join(directory, '/'), constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The room that is left for us on the disk of a directory, any amount where its file system does not tell. */
function freeBytes(directory: string): number {
  try {
    const { bavail, bfree, blocks, bsize } = statfsSync(directory);
    if (blocks > 0) return bsize * (process.getuid?.() === 0 ? bfree : bavail);
  } catch {}
  return Number.MAX_SAFE_INTEGER;
}

/** The fingerprint of a public key, as ssh and ssh-keygen show it. */
function fingerprint(key: string): string {
  const blob = Buffer.from(key.split(' ')[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

type Problem = 'stopped' | 'stale' | 'starting' | 'no_key' | 'destination' | 'disk_full';

/** What is wrong, nothing where the backup can take a mirror. */
function problemsOf(status: Status, now = Date.parse(status.updated)): Problem[] {
  if (status.phase === 'stopped') return ['stopped'];
  if (Math.abs(now - Date.parse(status.updated)) > STALE_MS) return ['stale'];
  if (status.phase === 'starting') return ['starting'];
  const problems: Problem[] = [];
  if (!status.key) problems.push('no_key');
  if (!status.destination.writable) problems.push('destination');
  if (status.destination.free_bytes < LEAST_FREE) problems.push('disk_full');
  return problems;
}

/** What is printed, and the exit status. */
type Answer = { text: string; status: number };

/** A line that says whether the backup can take a mirror or why not. */
function judge(status: Status): Answer {
  const now = Date.now();
  const words: Record<Problem, string> = {
    starting: '正在启动',
    stopped: '服务已停止',
    stale: `状态已过期 ${Math.round((now - Date.parse(status.updated)) / 1000)} 秒，服务可能已不在运行`,
    no_key: '没有源端公钥，源端无法登录',
    destination: `目标目录 ${status.destination.directory} 无法写入`,
    disk_full: `目标目录 ${status.destination.directory} 所在的磁盘已满`,
  };
  const problems = problemsOf(status, now).map((problem) => words[problem]);
  if (problems.length > 0) return { text: `不健康: ${problems.join('；')}`, status: 1 };
  return { text: `健康: SSH 服务运行中，${status.sessions} 个连接`, status: 0 };
}

/** What the running service says of itself; no other variable counts. @throws {Failure} where there is nothing */
function readStatus(): Status {
  const path = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  try {
    const status = JSON.parse(readFileSync(path, 'utf8'));
    if (status.program !== 'start-sshd') throw new Error(`是 ${status.program} 的状态`);
    return status;
  } catch (cause) {
    throw new Failure(`无法读取状态文件 ${escapeText(path)}：${reasonOf(cause)}。服务没有运行，或 STATUS_FILE 不同`);
  }
}

function checkHealth(): Answer {
  try {
    return judge(readStatus());
  } catch (cause) {
    return { text: `不健康: ${reasonOf(cause)}`, status: 1 };
  }
}

/** The state as a table for people. */
function showStatus(status: Status): string {
  const local = (time: string) => new Date(time).toLocaleString('sv-SE');
  const rows: [name: string, value: string][] = [
    ['SSH 服务', `PID ${status.sshd.pid ?? '–'}，${status.sshd.listen ?? '所有地址'}，端口 ${status.sshd.port}`],
    ['目标目录', `${status.destination.directory}${status.destination.writable ? '' : '（无法写入）'}`],
    ['源端公钥', status.key ?? '–'],
    ['连接', String(status.sessions)],
    ['拒绝的命令', String(status.refused)],
  ];
  const width = Math.max(...rows.map(([name]) => Bun.stringWidth(name)));
  const lines = [
    `${status.program} ${status.version} (PID ${status.pid})，启动于 ${local(status.started)}`,
    judge(status).text,
    '',
    ...rows.map(([name, value]) => `${name}${' '.repeat(width - Bun.stringWidth(name))}  ${value}`),
    ...(status.errors.length > 0 ? ['', '最近的警告和错误:'] : []),
    ...status.errors
      .slice(0, 5)
      .map(({ time, level, message }) => `  [${level.toUpperCase()} ${local(time)}] ${message}`),
  ];
  return lines.join('\n');
}

// ── Start and stop ───────────────────────────────────────────────────────────────────────────────

let stopping = false;
/** The work that a request to stop lets finish. */
let work: Promise<unknown> = Promise.resolve();

/** The processes that a process has started (proc(5)); none where the kernel keeps no such list, or it has ended. */
function startedBy(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** Sends to a process, or to a group by its negative number; returns whether it is there. 0 only asks. */
function sendSignal(id: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(id, signal);
  } catch {
    return false;
  }
}

/** Ends sshd and its sessions, each a group of processes. */
async function endChildren(): Promise<void> {
  for (const pid of startedBy(process.pid)) if (pid !== sshd?.pid) sendSignal(pid, 'SIGKILL'); // ssh-keygen-lite hands out no process
  if (!sshd?.pid) return;
  const groups = [sshd.pid, ...startedBy(sshd.pid)];
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const group of groups) sendSignal(-group, signal);
    const deadline = performance.now() + 1000;
    while (groups.some((group) => sendSignal(-group, 0)) && performance.now() < deadline) await sleep(10);
  }
}

/** A closed terminal stops us too, so that no child is left behind, unless nohup has SIGHUP (bit 0) ignored. */
function stopSignals(): string[] {
  const nohup = /^SigIgn:.*[13579bdf]$/m.test(readFileSync('/proc/self/status', 'utf8'));
  return ['SIGTERM', 'SIGINT', ...(nohup ? [] : ['SIGHUP'])];
}

async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  log('service.stopping', `收到 ${signal}，正在停止服务...`, { signal });
  await Promise.race([Promise.allSettled([work]), sleep(3000)]);
  await endChildren();
  await Promise.race([Promise.allSettled([work]), sleep(500)]);
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
  if (runtimeDirectory) rmSync(runtimeDirectory, { recursive: true, force: true });
  state.phase = 'stopped';
  publish();
  const written = new Promise<void>((done) => process.stdout.write('', () => done()));
  await Promise.race([Promise.all([written, logFile?.end()]), sleep(1000)]);
  process.exit(status);
}

function parseFlags() {
  const type = 'boolean' as const;
  const options = { help: { type }, version: { type }, check: { type }, status: { type }, healthcheck: { type } };
  try {
    return parseArgs({ options }).values;
  } catch (cause) {
    throw new Failure(`用法错误: ${reasonOf(cause)}。请参阅 start-sshd --help`, 2);
  }
}

/** What the flags ask for instead of the service, if anything. */
function answerFlags(): Answer | undefined {
  const flags = parseFlags();
  if (flags.help) return { text: help(), status: 0 };
  if (flags.version) return { text: `start-sshd ${VERSION}`, status: 0 };
  if (flags.healthcheck) return checkHealth();
  if (flags.status) return { text: showStatus(readStatus()), status: 0 };
  if (!flags.check) return undefined;
  readConfig(process.env, missingPrograms());
  return { text: '配置有效，所需程序齐全 ✓', status: 0 };
}

async function main(): Promise<void> {
  const [flag, directory, ...more] = process.argv.slice(2);
  if (flag === FORCED_COMMAND) return serve(process.env.SSH_ORIGINAL_COMMAND ?? '', answerTo);
  // With ALLOW_SHELL the source's shell starts us as it starts rsync: both may write anywhere.
  if (flag === RENAME && directory && more.length === 0)
    return serve(`start-sshd ${RENAME} ${directory}`, () => renameIn(directory, '/'));
  for (const signal of stopSignals()) process.on(signal, () => stop(signal).catch(fail));
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const answer = answerFlags();
  if (answer) {
    process.stdout.write(`${printable(answer.text)}\n`);
    return exit(answer.status);
  }
  const config = readConfig(process.env, missingPrograms());
  await openLogFile(config);
  state.config = config;
  publish();
  setInterval(publish, HEARTBEAT_MS);
  heading('service.start', 'SSH 服务器 - 自动配置启动', { version: VERSION });
  for (const step of [generateHostKeys, publishHostKeys]) {
    work = step(config);
    await work;
    if (stopping) return;
  }
  const command = await configureSshd(config);
  restrictFormerKey(config);
  await waitForKey(config); // steps 2 and 3
  if (stopping) return;
  listenForReports();
  const child = await startSshd(config, command);
  state.phase = 'serving';
  touch();
  logReady(config);
  followSharedKey(config); // step 4
  const [code, signal] = await once(child, 'exit');
  throw new Failure(`sshd 意外退出 (退出码: ${code ?? signal})`);
}

if (import.meta.main) main().catch(fail);
