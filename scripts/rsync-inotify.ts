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
import { EventEmitter, once } from 'node:events';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, isIPv6 } from 'node:net';
import { homedir, hostname, constants as osConstants } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
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
/** How many changes of a batch the log names. */
const LISTED_CHANGES = 50;
/** How many paths wait at most, so that memory stays bounded while the backup is away. */
const MAX_PENDING = 100_000;

const WATCHED_EVENTS = [
  ...['CREATE', 'MODIFY', 'DELETE', 'MOVED_TO', 'CLOSE_WRITE'],
  ...['MOVED_FROM', 'ATTRIB', 'DELETE_SELF', 'MOVE_SELF', 'UNMOUNT', 'Q_OVERFLOW'],
];

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
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
    if (statSync(path).isDirectory()) return path;
  } catch (cause) {
    throw new Error(`应为已存在且当前用户可读的目录 (${(cause as NodeJS.ErrnoException).code})`);
  }
  throw new Error('应为目录');
});

/** ssh reads such a path from a quoted option, where neither a quote nor `${…}` can be escaped. */
const directory = makeExactValidator<string>((value) => {
  if (/^~|["\p{Cc}]|\$\{/u.test(value))
    throw new Error('应为目录的完整路径；~ 不会展开，不能包含双引号、${ 和控制字符');
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
  process.stdout.write(`${midLine ? '\n' : ''}${prefix} ${message}\n`);
  midLine = false;
}

/** Passes a program's own output on as it is. */
function passOn(chunk: Buffer): void {
  process.stdout.write(chunk);
  midLine = chunk.at(-1) !== 0x0a;
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
  child.once('exit', () => children.delete(child));
  child.once('error', () => children.delete(child));
  return child;
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

/** The arguments for every ssh. The user's come first, and ssh takes the first value it is given. */
export function sshArgs(config: Config): string[] {
  const quoted = (file: string) => `"${join(config.SSH_DIR, file).replaceAll('%', '%%')}"`;
  const defaults = [
    'BatchMode=yes',
    'StrictHostKeyChecking=accept-new',
    'ConnectTimeout=10',
    'ServerAliveInterval=15',
    'ServerAliveCountMax=2',
    'ControlMaster=no', // a master of the user's configuration would outlive us
    'ControlPath=none',
    'IdentitiesOnly=yes',
    `IdentityFile=${quoted('id_rsa')}`,
    `UserKnownHostsFile=${quoted('known_hosts')}`,
  ];
  return [...parseWords(config.SSH_OPTS), ...defaults.flatMap((option) => ['-o', option])];
}

/** Quotes a word for rsync's `-e`, which knows quotes (doubled inside themselves) but no backslashes. */
export function quoteForRsh(word: string): string {
  return /^[^\s'"]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`;
}

export function rsyncArgs(config: Config): string[] {
  const { user, host } = parseTarget(config.DEST_HOST);
  const ssh = ['ssh', ...sshArgs(config)].map(quoteForRsh).join(' ');
  const destination = `${user}@${host.includes(':') ? `[${host}]` : host}:${config.DEST_DIR}`;
  return [...parseWords(config.RSYNC_OPTS), '-e', ssh, '--', config.SOURCE_DIR, destination];
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
    throw new Failure(`无法生成 SSH 密钥对 ${key}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
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
      `无法读取 SSH 私钥 ${key}：${reasonOf(derived)}。它应没有口令、权限为 0600；移走它后重启会生成新的密钥对`,
    );
  }
  try {
    mkdirSync(config.SHARED_KEYS_DIR, { recursive: true });
    replaceFile(join(config.SHARED_KEYS_DIR, 'id_rsa.pub'), derived.stdout, 0o644);
  } catch (cause) {
    throw new Failure(
      `无法写入 SHARED_KEYS_DIR=${config.SHARED_KEYS_DIR}：${reasonOf(cause)}。请检查共享卷的挂载和权限`,
    );
  }
}

/** Writes a file whole or not at all. */
function replaceFile(path: string, content: string, mode: number): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, content, { mode });
    renameSync(temporary, path);
  } finally {
    if (existsSync(temporary)) rmSync(temporary);
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

// ── Step 4: test the connection ──────────────────────────────────────────────────────────────────

async function testSshConnection(config: Config): Promise<void> {
  heading('测试 SSH 连接');
  const { user, host } = parseTarget(config.DEST_HOST);
  for (let attempt = 1; ; attempt++) {
    const result = await run`ssh ${sshArgs(config)} ${`${user}@${host}`} ${'echo ok'}`;
    if (result.exitCode === 0) break;
    if (stopping) return;
    const reason = reasonOf(result);
    if (attempt > config.MAX_RETRIES) {
      throw new Failure(`SSH 免密登录测试失败 (退出码: ${result.exitCode})：${reason}。请检查密钥、用户和备份端日志`);
    }
    warn(`SSH 连接重试... (${attempt}/${config.MAX_RETRIES})：${reason}`);
    // A new key is in force within a second. From then on slowly: sshd shuts out who fails often (PerSourcePenalties).
    await sleep(attempt === 1 ? 1000 : TRY_MS);
  }
  log('SSH 免密登录测试成功 ✓');
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

/** Most was transferred, the rest may never be: errors with single files, and `--max-delete`. */
const PARTIAL = [23, 25];
const VANISHED = 24;

/** Runs rsync over the whole tree; resolves with its exit status, 128 + n for signal n. */
async function runRsync(config: Config): Promise<number> {
  const child = start('rsync', rsyncArgs(config), { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout?.on('data', passOn);
  child.stderr?.on('data', passOn);
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + (signal ? osConstants.signals[signal] : 0);
}

/** One sync, told in the log: resolves with rsync's exit status, 0 also where files vanished on the way. */
async function sync(config: Config): Promise<number> {
  const started = performance.now();
  const status = await runRsync(config).catch((cause) => {
    error(`无法启动 rsync：${reasonOf(cause)}`); // no memory or no process to be had, for example
    return 126;
  });
  if (status !== 0 && status !== VANISHED) {
    error(`同步失败 (退出码: ${status})：${meaningOf(status)}`);
    return status;
  }
  log(`同步成功 (耗时: ${Math.round((performance.now() - started) / 1000)}秒) ✓`);
  return 0;
}

/** Resolves with whether all is mirrored. Files that fail are no reason not to mirror the others: they are tried again. */
async function fullSync(config: Config): Promise<boolean> {
  heading('首次全量同步');
  const status = await sync(config);
  if (stopping) return false;
  if (PARTIAL.includes(status)) warn('首次全量同步未能传输全部文件，其余文件照常同步，失败的文件将自动重试');
  else if (status !== 0) throw new Failure('首次全量同步失败');
  else log('首次全量同步完成 ✓');
  return status === 0;
}

/** Mirrors a batch of changed paths; resolves with rsync's exit status. A comparison of the whole tree covers any batch. */
async function syncChanges(config: Config, _batch: Batch): Promise<number> {
  return sync(config);
}

// ── Step 6: watch ────────────────────────────────────────────────────────────────────────────────

/** Changed paths, as bytes in latin1 strings, with the latest events of each. */
type Batch = Map<string, string>;

/** The changes that wait for the next sync. */
class Changes extends EventEmitter {
  private pending: Batch = new Map();
  private listed = 0;
  private unlisted = 0;

  get size(): number {
    return this.pending.size;
  }

  /** Resolves as soon as a change waits, or when `signal` is aborted. */
  async arrived(signal: AbortSignal): Promise<void> {
    if (this.size === 0) await once(this, 'arrived', { signal }).catch(() => {});
  }

  /** Notes a change that was seen, and names it in the log unless it repeats itself or many were named. */
  report(path: string, events: string): void {
    if (this.pending.get(path) === events) return;
    if (this.listed < LISTED_CHANGES) {
      this.listed++;
      info(`检测到文件变化: ${showPath(path)} ${events}`);
    } else {
      this.unlisted++;
    }
    this.add(path, events);
  }

  /** Beyond a number no more paths are kept: a comparison of the whole tree does not need them. */
  add(path: string, events: string): void {
    if (this.pending.size < MAX_PENDING || this.pending.has(path)) this.pending.set(path, events);
    this.emit('arrived');
  }

  /** Hands out all that waits. */
  take(): Batch {
    if (this.unlisted > 0) info(`另有 ${this.unlisted} 处文件变化未逐条列出`);
    const batch = this.pending;
    this.pending = new Map();
    this.listed = 0;
    this.unlisted = 0;
    return batch;
  }

  /** Takes back a batch that failed; what came since is newer. */
  giveBack(batch: Batch): void {
    for (const [path, events] of batch) if (!this.pending.has(path)) this.add(path, events);
  }
}

/** The event and the path of one record of inotifywait, `EVENTS|PATH`. */
export function parseEvent(record: string): { events: string; path: string } {
  const bar = record.indexOf('|');
  return { events: record.slice(0, bar), path: record.slice(bar + 1) };
}

function inotifywaitArgs(config: Config): string[] {
  const events = WATCHED_EVENTS.flatMap((event) => ['-e', event.toLowerCase()]);
  return ['-m', '-r', ...events, '--format', '%e|%w%f%0', '--no-newline', '--', config.SOURCE_DIR];
}

/**
 * Starts inotifywait and hands its events on.
 * @returns the process, as soon as its watches stand
 * @throws {Failure} when it ends before that
 */
async function startWatcher(config: Config, changes: Changes): Promise<ChildProcess> {
  const watcher = start('inotifywait', inotifywaitArgs(config), { stdio: ['ignore', 'pipe', 'pipe'] });
  let rest = '';
  watcher.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
    const records = (rest + chunk).split('\0');
    rest = records.pop() ?? '';
    for (const { path, events } of records.map(parseEvent)) changes.report(path, events);
  });
  stopRequest.signal.addEventListener('abort', () => signalGroup(watcher, 'SIGTERM'));
  const { promise, resolve: established, reject } = Promise.withResolvers<ChildProcess>();
  let said = '';
  if (watcher.stderr) {
    createInterface({ input: watcher.stderr }).on('line', (line) => {
      if (line.startsWith('Watches established')) return established(watcher);
      if (line.startsWith('Setting up watches')) return;
      said = escapeText(line);
      warn(`inotifywait: ${said}`);
    });
  }
  watcher.once('error', (cause) => reject(new Failure(`无法启动 inotifywait：${reasonOf(cause)}`)));
  watcher.once('close', (code, signal) => {
    const advice = '若达到监控数量上限，请执行 sysctl fs.inotify.max_user_watches=1048576';
    reject(new Failure(`inotifywait 退出 (退出码: ${code ?? signal})：${said}。${advice}`));
  });
  return promise;
}

/** Replaces every watcher that ends. What happened in between is not known, so the whole tree counts as changed. */
async function keepWatching(config: Config, changes: Changes, first: ChildProcess): Promise<void> {
  let watcher = first;
  while (true) {
    if (children.has(watcher)) await once(watcher, 'exit');
    if (stopping) return;
    for (const delay of expBackoff('60s', '1s')) {
      error(
        `inotifywait 意外退出 (退出码: ${watcher.exitCode ?? watcher.signalCode})，${delay / 1000} 秒后重新启动监控`,
      );
      await pause(delay);
      if (stopping) return;
      const next = await startWatcher(config, changes).catch((cause) => error(reasonOf(cause)));
      if (!next) continue;
      watcher = next;
      break;
    }
    log('监控已恢复，将进行一次全量同步');
    changes.add(config.SOURCE_DIR, 'WATCHER_RESTART');
  }
}

/** At most one sync starts in `SYNC_INTERVAL`; the last change of a burst is synced when that time is over. */
async function watchLoop(config: Config, changes: Changes, firstStart: number): Promise<void> {
  let lastStart = firstStart;
  let backoff = expBackoff('60s', '1s');
  while (true) {
    await changes.arrived(stopRequest.signal);
    await pause(lastStart + config.SYNC_INTERVAL * 1000 - performance.now());
    if (changes.size === 0) return;
    const batch = changes.take();
    log('触发批量同步...');
    lastStart = performance.now();
    const status = await syncChanges(config, batch);
    if (status === 0) {
      backoff = expBackoff('60s', '1s');
      continue;
    }
    if (!stopping) {
      const delay = backoff.next().value ?? 0;
      warn(`${delay / 1000} 秒后重试，${batch.size} 处变化等待同步`);
      await (PARTIAL.includes(status) ? pauseOrChange(delay, changes) : pause(delay));
    }
    changes.giveBack(batch);
    if (stopping) return warn(`${changes.size} 处变化尚未同步，下次启动时的全量同步会包含它们`);
  }
}

/** Waits, ms; a request to stop ends it. */
async function pause(ms: number, signal = stopRequest.signal): Promise<void> {
  if (ms > 0) await sleep(ms, undefined, { signal }).catch(() => {});
}

/** Waits, ms, or until something changes: files that fail for good must not hold back the others. */
async function pauseOrChange(ms: number, changes: Changes): Promise<void> {
  const over = new AbortController();
  const signal = AbortSignal.any([over.signal, stopRequest.signal]);
  await Promise.race([pause(ms, signal), changes.arrived(signal)]);
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

function logWatching(config: Config): void {
  heading('实时监控已启动');
  log(`监控目录: ${escapeText(config.SOURCE_DIR)}`);
  log(`批量同步间隔: ${config.SYNC_INTERVAL}秒`);
  log(`监控事件: ${WATCHED_EVENTS.join(', ')}`);
  log(RULE);
  log('✓ 服务运行中，实时监控文件变化...');
}

/** All from the first full sync on: what a request to stop lets finish. */
async function mirror(config: Config, changes: Changes, watcher: ChildProcess): Promise<void> {
  const started = performance.now();
  if (!(await fullSync(config))) changes.add(config.SOURCE_DIR, 'RETRY');
  if (stopping) return;
  logWatching(config);
  keepWatching(config, changes, watcher).catch(fail);
  await watchLoop(config, changes, started);
}

// ── Start and stop ───────────────────────────────────────────────────────────────────────────────

let stopping = false;
let watching = false;
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
  if (watching) await sleep(100); // lets the watcher report what has just happened
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
  const failure =
    cause instanceof Failure ? cause : new Failure(cause instanceof Error ? `${cause.stack}` : String(cause));
  for (const line of failure.message.split('\n')) error(line);
  await endChildren();
  await exit(failure.status);
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
  if (!stopping) await testSshConnection(config);
  if (stopping) return;
  const changes = new Changes();
  const watcher = await startWatcher(config, changes); // before the full sync, so that nothing in between is lost
  watching = true;
  const mirroring = mirror(config, changes, watcher);
  work = mirroring.catch(() => {});
  await mirroring;
}

if (import.meta.main) main().catch(fail);
