#!/usr/bin/env bun
/**
 * start-sshd: receives the mirror that rsync-inotify keeps.
 *
 * Makes the host keys that are missing, waits for the source's public key on the shared volume,
 * authorises it, runs the real sshd in the foreground and follows the key from then on, as
 * start-sshd.sh did. All configuration is by environment:
 *
 *   SSHD_PORT=2222 SHARED_KEYS_DIR=/mnt/keys DEST_DIR=/backup/web/ bun run scripts/start-sshd.ts
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { isIP } from 'node:net';
import { homedir, hostname, networkInterfaces } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Chalk } from 'chalk';
import { cleanEnv, makeExactValidator } from 'envalid';
import sshKeygen from 'ssh-keygen-lite';
import { $, which } from 'zx';

const VERSION = '1.0.0';

/** How long a try of `KEY_RETRIES` lasts, ms. */
const TRY_MS = 2000;
/** How often the shared key is looked at while it is waited for, and from then on, ms. */
const POLL_MS = 200;
const FOLLOW_MS = 500;
/** The line above ours in `authorized_keys`; lines of other people stay as they are. */
const MARKER = '# start-sshd: the next line is the key from the shared volume and is replaced with it';

const HOST_KEYS = [
  { type: 'rsa', size: '3072' },
  { type: 'ecdsa', size: '256' },
  { type: 'ed25519', size: '256' },
] as const;

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

const text = makeExactValidator<string>((value) => value);

/** sshd reads these paths from a line of options, where a quote cannot be escaped. */
const directory = makeExactValidator<string>((value) => {
  if (/["\r\n]/.test(value)) throw new Error('不能包含双引号或换行符');
  return resolve(value);
});

const port = makeExactValidator<number>((value) => {
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 65535)
    throw new Error('应为 1 到 65535 之间的端口号');
  return Number(value);
});

const address = makeExactValidator<string>((value) => {
  if (value && !isIP(value)) throw new Error('应为 IP 地址，例如 127.0.0.1 或 ::1');
  return value;
});

const count = makeExactValidator<number>((value) => {
  if (!/^\d+$/.test(value) || Number(value) < 1 || Number(value) > 1_000_000) {
    throw new Error('应为 1 到 1000000 之间的整数，例如 30');
  }
  return Number(value);
});

const variables = {
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: '用来交换公钥的共享卷' }),
  SSH_DIR: directory({ default: join(homedir(), '.ssh'), desc: 'authorized_keys 所在目录' }),
  HOST_KEY_DIR: directory({ default: '/etc/ssh', desc: '主机密钥所在目录' }),
  SSHD_PORT: port({ default: 22, desc: 'sshd 监听的端口' }),
  SSHD_LISTEN: address({ default: '', desc: 'sshd 监听的 IP 地址，默认为所有地址' }),
  DEST_DIR: directory({ default: '/data/backup/', desc: '接收镜像的目录，不存在时创建' }),
  KEY_RETRIES: count({ default: 30, desc: '等待源端公钥的次数，每次 2 秒' }),
  NO_COLOR: text({ default: '', desc: '设置为任意值 = 日志不带颜色' }),
};

/**
 * Reads and checks the variables; an empty one counts as not set, as `${NAME:-default}` does in a shell.
 * @throws {Failure} status 2, with one line for every variable that is wrong
 */
export function readConfig(env: NodeJS.ProcessEnv) {
  const given = Object.entries(variables).map(([name, { default: value }]) => [name, env[name] || String(value)]);
  const values: Record<string, string> = Object.fromEntries(given);
  return cleanEnv(values, variables, {
    reporter: ({ errors }) => {
      const mistakes = Object.entries(errors).map(
        ([name, error]) => `配置错误: ${name}="${escapeText(values[name] ?? '')}"：${error?.message}`,
      );
      if (mistakes.length > 0) throw new Failure(mistakes.join('\n'), 2);
    },
  });
}

type Config = ReturnType<typeof readConfig>;

/** sshd's own path: it must be started by an absolute one, and is rarely on an ordinary user's PATH. */
function findSshd(): string | null {
  return which.sync('sshd', { nothrow: true, path: `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin` });
}

function missingPrograms(): string[] {
  const missing: string[] = [];
  if (!findSshd()) missing.push('缺少程序 sshd：请安装软件包 openssh-server（例如 apt-get install openssh-server）');
  if (!which.sync('ssh-keygen', { nothrow: true })) {
    missing.push('缺少程序 ssh-keygen：请安装软件包 openssh-client（例如 apt-get install openssh-client）');
  }
  // sshd starts it for the source
  if (!which.sync('rsync', { nothrow: true }))
    missing.push('缺少程序 rsync：请安装软件包 rsync（例如 apt-get install rsync）');
  return missing;
}

/** Everything is checked before anything is done. */
function checkConfig(): Config {
  const missing = missingPrograms();
  let config: Config;
  try {
    config = readConfig(process.env);
  } catch (error) {
    if (error instanceof Failure) error.message = [error.message, ...missing].join('\n');
    throw error;
  }
  if (missing.length > 0) throw new Failure(missing.join('\n'));
  return config;
}

function help(): string {
  const rows = Object.entries(variables).map(([name, { default: value, desc }]) => {
    const shown = String(value).replace(homedir(), '$HOME') || '–';
    return `  ${name.padEnd(16)} ${shown.padEnd(16)} ${desc}`;
  });
  return `start-sshd ${VERSION}：运行 sshd，接收 rsync-inotify 的镜像

用法: start-sshd [--help | --version | --check]
  --check   检查配置和所需程序后退出

环境变量（名称、默认值、说明）:
${rows.join('\n')}

退出状态: 0 收到 SIGTERM/SIGINT 后停止；1 启动步骤失败或 sshd 退出；2 配置或用法错误
`;
}

// ── Log ──────────────────────────────────────────────────────────────────────────────────────────

const colour = new Chalk({ level: process.env.NO_COLOR ? 0 : 1 });
const RULE = '='.repeat(42);

const now = () => new Date().toLocaleString('sv-SE');
const log = (message: string) => writeLine(colour.green(`[${now()}]`), message);
const info = (message: string) => writeLine(colour.blue(`[INFO ${now()}]`), message);
const warn = (message: string) => writeLine(colour.yellow(`[WARN ${now()}]`), message);
const error = (message: string) => writeLine(colour.red(`[ERROR ${now()}]`), message);

function writeLine(prefix: string, message: string): void {
  process.stdout.write(`${prefix} ${message}\n`);
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

/** What an error says; ssh-keygen-lite rejects with strings. */
function reasonOf(cause: unknown): string {
  return escapeText(cause instanceof Error ? cause.message : String(cause).trim());
}

// zx for what runs once. It quotes every interpolated word; /bin/sh is on every machine, bash is not.
$.shell = '/bin/sh';
$.prefix = '';
$.quote = (word) => `'${word.replaceAll("'", `'\\''`)}'`;
const run = $({ nothrow: true, quiet: true, stdio: ['ignore', 'pipe', 'pipe'] });

// ── Step 1: host keys ────────────────────────────────────────────────────────────────────────────

const hostKeyFile = (config: Config, type: string) => join(config.HOST_KEY_DIR, `ssh_host_${type}_key`);

async function generateHostKeys(config: Config): Promise<void> {
  const missing = HOST_KEYS.filter(({ type }) => !statSync(hostKeyFile(config, type), { throwIfNoEntry: false })?.size);
  if (missing.length === 0) return log('SSH 主机密钥已存在 ✓');
  log('生成 SSH 主机密钥...');
  try {
    mkdirSync(config.HOST_KEY_DIR, { recursive: true });
    await Promise.all(missing.map(({ type, size }) => generateKey(type, size, hostKeyFile(config, type))));
  } catch (cause) {
    throw new Failure(
      `无法生成主机密钥：${reasonOf(cause)}。请检查 HOST_KEY_DIR=${config.HOST_KEY_DIR} 的权限和磁盘空间`,
    );
  }
  log('SSH 主机密钥生成完成 ✓');
}

/** Makes the pair in a directory of its own and moves it into place whole, the private half last. */
async function generateKey(type: 'rsa' | 'ecdsa' | 'ed25519', size: string, key: string): Promise<void> {
  const workshop = mkdtempSync(`${key}.new-`);
  try {
    const location = join(workshop, 'key');
    await sshKeygen({ location, type, size, comment: `root@${hostname()}`, force: false, read: false });
    renameSync(`${location}.pub`, `${key}.pub`);
    renameSync(location, key);
  } finally {
    rmSync(workshop, { recursive: true });
  }
}

// ── Step 2: sshd configuration ───────────────────────────────────────────────────────────────────

/**
 * The options that sshd gets on its command line; they win over the machine's sshd_config.
 * An ordinary user's sshd leaves that file alone: it cannot read all of it, and PAM works for root only.
 */
export function sshdArgs(config: Config, user: string): string[] {
  const keys = HOST_KEYS.map(({ type }) => `HostKey="${hostKeyFile(config, type)}"`);
  const options = [
    ...keys,
    ...(config.SSHD_LISTEN ? [`ListenAddress=${config.SSHD_LISTEN}`] : []),
    `AuthorizedKeysFile="${join(config.SSH_DIR, 'authorized_keys').replaceAll('%', '%%')}"`,
    `AllowUsers=${user}`,
    'PubkeyAuthentication=yes',
    'PasswordAuthentication=no',
    'KbdInteractiveAuthentication=no',
    'PermitRootLogin=prohibit-password',
    'LogLevel=INFO', // "Server listening" says that it is up
    'PidFile=none',
    ...(user === 'root' ? [] : ['UsePAM=no']),
  ];
  const file = user === 'root' ? [] : ['-f', '/dev/null'];
  return [...file, '-p', String(config.SSHD_PORT), ...options.flatMap((option) => ['-o', option])];
}

/** Debian's sshd separates privileges in a directory that the boot makes; if it cannot be made, `sshd -t` says so. */
function makePrivsepDirectory(): void {
  try {
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  } catch {}
}

/** Resolves with the arguments for sshd, which have been checked. */
async function configureSshd(config: Config): Promise<string[]> {
  log('配置 SSH 服务...');
  const user = (await run`id -un`).stdout.trim();
  if (user === 'root') makePrivsepDirectory();
  const destination = resolve(homedir(), config.DEST_DIR);
  try {
    mkdirSync(destination, { recursive: true });
    accessSync(destination, constants.W_OK);
  } catch (cause) {
    warn(`目标目录 ${destination} 无法写入：${reasonOf(cause)}。请检查 DEST_DIR 和权限`);
  }
  const args = sshdArgs(config, user);
  const check = await run`${findSshd() ?? 'sshd'} -t ${args}`;
  if (check.exitCode !== 0) throw new Failure(`sshd 配置无效：${escapeText(check.stderr.trim())}`);
  log('SSH 配置完成 ✓');
  return args;
}

// ── Step 3: the source's public key ──────────────────────────────────────────────────────────────

/** The shared public key, or nothing while there is none. Throws when it cannot be read or is not one key. */
function readSharedKey(config: Config): string | undefined {
  const file = join(config.SHARED_KEYS_DIR, 'id_rsa.pub');
  if (!statSync(file, { throwIfNoEntry: false })?.size) return undefined;
  return parsePublicKey(readFileSync(file, 'utf8'));
}

/** One line of `TYPE BASE64 [COMMENT]`, without options. Throws on anything else. */
export function parsePublicKey(content: string): string {
  const line = content.trim();
  const form = /^(ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp\d+|sk-[\w@.-]+) [A-Za-z0-9+/]{16,}={0,3}( [^\p{Cc}]*)?$/u;
  if (!form.test(line)) throw new Error('公钥文件应为一行: 类型 BASE64 [注释]');
  return line;
}

/** Puts our key into what `authorized_keys` holds: in place of the last one of ours, beside the keys of others. */
export function mergeAuthorizedKeys(content: string, key: string): string {
  const lines = content.split('\n');
  const body = key.split(' ')[1] ?? key;
  const others = lines.filter((line, n) => line !== MARKER && lines[n - 1] !== MARKER && !line.includes(body));
  return [...others.filter(Boolean), MARKER, key, ''].join('\n');
}

function authorize(config: Config, key: string): void {
  const file = join(config.SSH_DIR, 'authorized_keys');
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    const present = statSync(file, { throwIfNoEntry: false }) ? readFileSync(file, 'utf8') : '';
    writeFileSync(temporary, mergeAuthorizedKeys(present, key), { mode: 0o600 });
    renameSync(temporary, file);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new Failure(`无法写入 ${file}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** The key in force, and why the shared file was last refused, so that each is told once. */
const shared = { key: '', complaint: '' };

/** Authorises the shared key where it is new. One that is refused leaves the key in force as it is. */
function adoptSharedKey(config: Config): boolean {
  try {
    const key = readSharedKey(config);
    if (key && key !== shared.key) {
      if (!shared.complaint) log('发现源端公钥，配置授权...');
      authorize(config, key);
      shared.key = key;
      log('SSH 免密登录配置完成 ✓');
    }
    shared.complaint = '';
  } catch (cause) {
    const complaint = reasonOf(cause);
    if (complaint !== shared.complaint) error(`源端公钥未生效: ${complaint}`);
    shared.complaint = complaint;
  }
  return shared.key !== '';
}

/** Without a key sshd starts all the same: the key is authorised as soon as it is there. */
async function waitForKey(config: Config): Promise<void> {
  log('等待源端公钥...');
  for (let attempt = 1; attempt <= config.KEY_RETRIES; attempt++) {
    if (adoptSharedKey(config)) return;
    info(`等待源端生成公钥... (${attempt}/${config.KEY_RETRIES})`);
    const deadline = performance.now() + TRY_MS;
    while (performance.now() < deadline && !adoptSharedKey(config)) await sleep(POLL_MS);
  }
  if (!shared.key) warn('没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权');
}

// ── Step 4: sshd ─────────────────────────────────────────────────────────────────────────────────

/** Starts sshd in the foreground, its log in ours; resolves when it listens. */
async function startSshd(args: string[]): Promise<ChildProcess> {
  log('启动 SSH 服务...');
  // A process group of its own: Ctrl-C reaches only us, and what ends sshd ends its sessions.
  const options: SpawnOptions = { detached: true, stdio: ['ignore', 'ignore', 'pipe'] };
  const child = spawn(findSshd() ?? 'sshd', ['-D', '-e', ...args], options);
  const { promise, resolve: listening, reject } = Promise.withResolvers<ChildProcess>();
  let lastLine = '';
  if (child.stderr) {
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (line.startsWith('Server listening')) return listening(child);
      lastLine = escapeText(line);
      info(`sshd: ${lastLine}`);
    });
  }
  child.once('error', reject);
  child.once('close', (code, signal) => reject(new Failure(`sshd 启动失败 (退出码: ${code ?? signal})：${lastLine}`)));
  return promise;
}

function logReady(config: Config): void {
  log('SSH 服务已启动 ✓');
  log(`  PID: ${sshd?.pid}`);
  log(`  端口: ${config.SSHD_PORT}`);
  log(`  主机名: ${hostname()}`);
  log(`  IP 地址: ${config.SSHD_LISTEN || ownAddress()}`);
  log(RULE);
  log('SSH 服务器就绪，等待连接...');
  log(RULE);
}

/** The address that other hosts most likely know this one by. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outside = addresses.filter(({ internal }) => !internal);
  const first = outside.find(({ family }) => family === 'IPv4') ?? outside[0];
  return first?.address ?? '127.0.0.1';
}

// ── Start and stop ───────────────────────────────────────────────────────────────────────────────

let stopping = false;
let sshd: ChildProcess | undefined;

async function endSshd(): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!sshd?.pid) return;
    const ended = sshd.exitCode !== null || sshd.signalCode !== null ? Promise.resolve() : once(sshd, 'exit');
    try {
      process.kill(-sshd.pid, signal);
    } catch {
      return; // nothing is left of the group
    }
    await Promise.race([ended, sleep(1000)]);
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
  log(`收到 ${signal}，正在停止服务...`);
  await endSshd();
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
  await endSshd();
  await exit(failure.status);
}

/** Exits once the log has been read: process.exit alone would cut a pipe off. */
async function exit(status: number): Promise<void> {
  await Promise.race([new Promise<void>((written) => process.stdout.write('', () => written())), sleep(1000)]);
  process.exit(status);
}

/** What the flags ask for instead of the service, if anything. */
function answerFlags(): string | undefined {
  const options = { help: { type: 'boolean' }, version: { type: 'boolean' }, check: { type: 'boolean' } } as const;
  let flags: { help?: boolean; version?: boolean; check?: boolean };
  try {
    flags = parseArgs({ options }).values;
  } catch (cause) {
    throw new Failure(`用法错误: ${reasonOf(cause)}。请看 start-sshd --help`, 2);
  }
  if (flags.help) return help();
  if (flags.version) return `start-sshd ${VERSION}\n`;
  if (!flags.check) return undefined;
  checkConfig();
  return '配置有效，所需程序齐全 ✓\n';
}

async function main(): Promise<void> {
  for (const signal of stopSignals()) process.on(signal, () => stop(signal).catch(fail));
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const answer = answerFlags();
  if (answer) {
    process.stdout.write(answer);
    return exit(0);
  }
  const config = checkConfig();
  heading('SSH 服务器 - 自动配置启动');
  await generateHostKeys(config);
  const args = await configureSshd(config);
  await waitForKey(config);
  sshd = await startSshd(args);
  logReady(config);
  setInterval(adoptSharedKey, FOLLOW_MS, config);
  const [code, signal] = await once(sshd, 'exit');
  throw new Failure(`sshd 意外退出 (退出码: ${code ?? signal})`);
}

if (import.meta.main) main().catch(fail);
