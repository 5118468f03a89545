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
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { isIP } from 'node:net';
import { homedir, hostname, networkInterfaces } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
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
const MAX_KEY_BYTES = 16_384;
/** The line above ours in `authorized_keys`; lines of other people stay as they are. */
const MARKER = '# start-sshd: the next line is the key from the shared volume and is replaced with it';

const HOST_KEYS = [
  { type: 'rsa', size: '3072' },
  { type: 'ecdsa', size: '256' },
  { type: 'ed25519', size: '256' },
] as const;

/** sshd starts rsync for the source. */
const PROGRAMS = { sshd: 'openssh-server', 'ssh-keygen': 'openssh-client', rsync: 'rsync' };

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

/** sshd reads such a path from a quoted option, where a quote cannot be escaped. */
const directoryBelow = (base: string) =>
  makeExactValidator<string>((value) => {
    if (/^~|["\p{Cc}]/u.test(value)) throw new Error('应为目录的完整路径；~ 不会展开，不能包含双引号和控制字符');
    return resolve(base, value);
  });

const directory = directoryBelow('.');
/** A relative path means to rsync one below the home directory. */
const destination = directoryBelow(homedir());

const wholeNumber = (least: number, most: number) =>
  makeExactValidator<number>((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= least && number <= most)) throw new Error(`应为 ${least} 到 ${most} 之间的整数`);
    return number;
  });

const address = makeExactValidator<string>((value) => {
  if (value && !isIP(value)) throw new Error('应为 IP 地址，例如 127.0.0.1 或 ::1');
  return value;
});

const variables = {
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: '用来交换公钥的共享卷' }),
  SSH_DIR: directory({ default: join(homedir(), '.ssh'), desc: 'authorized_keys 所在目录；其他人的公钥保留不变' }),
  HOST_KEY_DIR: directory({ default: '/etc/ssh', desc: '主机密钥所在目录；缺少的会生成' }),
  SSHD_PORT: wholeNumber(1, 65535)({ default: 22, desc: 'sshd 监听的端口' }),
  SSHD_LISTEN: address({ default: '', desc: 'sshd 监听的 IP 地址，默认为所有地址' }),
  DEST_DIR: destination({ default: '/data/backup/', desc: '接收镜像的目录，不存在时创建' }),
  KEY_RETRIES: wholeNumber(1, 1_000_000)({ default: 30, desc: '等待源端公钥的次数，每次 2 秒' }),
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

/** The path of a program: sshd must be started by an absolute one, and is rarely on an ordinary user's PATH. */
function find(program: string): string | null {
  return which.sync(program, { nothrow: true, path: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` });
}

function missingPrograms(): string[] {
  return Object.entries(PROGRAMS)
    .filter(([program]) => !find(program))
    .map(([program, name]) => `缺少程序 ${program}：请安装软件包 ${name}（例如 apt-get install ${name}）`);
}

/** Everything is checked before anything is done. */
function checkConfig(): Config {
  return readConfig(process.env, missingPrograms());
}

function help(): string {
  const rows = Object.entries(variables).map(([name, { default: value, desc }]) => {
    const shown = name === 'SSH_DIR' ? '$HOME/.ssh' : String(value) || '–';
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

/** What went wrong; ssh-keygen-lite throws strings. */
function reasonOf(cause: unknown): string {
  return escapeText(cause instanceof Error ? cause.message : String(cause).trim());
}

// zx for what runs once. It quotes every interpolated word; /bin/sh is on every machine, bash is not.
$.shell = '/bin/sh';
$.prefix = '';
$.quote = (word) => `'${word.replaceAll("'", `'\\''`)}'`;
// `sudo -u` may leave us in a directory that the user may not enter.
const cwd = existsSync(process.cwd()) ? process.cwd() : '/';
const run = $({ nothrow: true, quiet: true, cwd, stdio: ['ignore', 'pipe', 'pipe'] });

// ── Step 1: host keys ────────────────────────────────────────────────────────────────────────────

const hostKeyFile = (config: Config, type: string) => join(config.HOST_KEY_DIR, `ssh_host_${type}_key`);

async function generateHostKeys(config: Config): Promise<void> {
  try {
    const missing = HOST_KEYS.filter(
      ({ type }) => !statSync(hostKeyFile(config, type), { throwIfNoEntry: false })?.size,
    );
    if (missing.length === 0) return log('SSH 主机密钥已存在 ✓');
    log('生成 SSH 主机密钥...');
    mkdirSync(config.HOST_KEY_DIR, { recursive: true });
    const generating = Promise.allSettled(
      missing.map(({ type, size }) => generateKey(type, size, hostKeyFile(config, type))),
    );
    work = generating;
    for (const outcome of await generating) if (outcome.status === 'rejected') throw outcome.reason;
  } catch (cause) {
    throw new Failure(
      `无法生成主机密钥：${reasonOf(cause)}。请检查 HOST_KEY_DIR=${config.HOST_KEY_DIR} 的权限和磁盘空间`,
    );
  }
  log('SSH 主机密钥生成完成 ✓');
}

/** Makes the pair in a directory of its own and moves it into place whole, the private half last. */
async function generateKey(type: 'rsa' | 'ecdsa' | 'ed25519', size: string, key: string): Promise<void> {
  const workshop = `${key}.new`;
  rmSync(workshop, { recursive: true, force: true }); // of a start that was cut short
  mkdirSync(workshop, { mode: 0o700 });
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
 * The whole configuration of sshd, on its command line: the machine's sshd_config is not read, because its addresses
 * and Match blocks would add to these. PAM works for root only, and lets a root without a password in by key.
 */
export function sshdArgs(config: Config, user: string, strictModes: 'yes' | 'no'): string[] {
  const options = [
    ...HOST_KEYS.map(({ type }) => `HostKey="${hostKeyFile(config, type)}"`),
    ...(config.SSHD_LISTEN ? [`ListenAddress=${config.SSHD_LISTEN}`] : []),
    `AuthorizedKeysFile="${join(config.SSH_DIR, 'authorized_keys').replaceAll('%', '%%')}"`,
    `StrictModes=${strictModes}`,
    `AllowUsers=${user}`,
    'PubkeyAuthentication=yes',
    'PasswordAuthentication=no',
    'KbdInteractiveAuthentication=no',
    'PermitRootLogin=prohibit-password',
    'PidFile=none',
    `UsePAM=${user === 'root' ? 'yes' : 'no'}`,
  ];
  return ['-f', '/dev/null', '-p', String(config.SSHD_PORT), ...options.flatMap((option) => ['-o', option])];
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
function prepareDestination({ DEST_DIR }: Config): void {
  try {
    mkdirSync(DEST_DIR, { recursive: true });
    accessSync(DEST_DIR, constants.W_OK);
  } catch (cause) {
    warn(`目标目录 ${DEST_DIR} 无法写入：${reasonOf(cause)}。请检查 DEST_DIR 和权限`);
  }
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
  prepareDestination(config);
  const args = sshdArgs(config, user, strictModesFor(config.SSH_DIR, process.getuid?.() ?? 0));
  const check = await run`${find('sshd') ?? 'sshd'} -t ${args}`;
  if (check.exitCode !== 0) {
    const lines = check.stderr.trim().split(/\r?\n/).map(escapeText);
    throw new Failure(['sshd 配置无效：', ...lines].join('\n'));
  }
  log('SSH 配置完成 ✓');
  return args;
}

// ── Step 3: the source's public key ──────────────────────────────────────────────────────────────

/** What the shared key file holds, nothing while there is none. Throws when it is no key file or cannot be read. */
function readSharedKey(config: Config): string {
  const file = join(config.SHARED_KEYS_DIR, 'id_rsa.pub');
  const status = statSync(file, { throwIfNoEntry: false });
  if (!status) return '';
  if (!status.isFile() || status.size > MAX_KEY_BYTES)
    throw new Error(`${file} 应为不超过 ${MAX_KEY_BYTES} 字节的文件`);
  return readFileSync(file, 'utf8').trim();
}

/** One line of `TYPE BASE64 [COMMENT]` without options, whole in the eyes of ssh-keygen. Throws on anything else. */
export function parsePublicKey(line: string): string {
  const form = /^(ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp\d+|sk-[\w@.-]+) [A-Za-z0-9+/]+={0,3}( [^\p{Cc}]*)?$/u;
  const isKey = form.test(line) && spawnSync('ssh-keygen', ['-l', '-f', '-'], { input: `${line}\n` }).status === 0;
  if (!isKey) throw new Error('公钥文件应为完整的一行: 类型 BASE64 [注释]');
  return line;
}

/** Puts our key into what `authorized_keys` holds: in place of the last one of ours, beside the lines of others. */
export function mergeAuthorizedKeys(content: string, key: string): string {
  const [type, body] = key.split(' ');
  const isOurs = (line: string) => line === `${type} ${body}` || line.startsWith(`${type} ${body} `);
  const lines = content.split('\n');
  const others = lines.filter((line, n) => line !== MARKER && lines[n - 1] !== MARKER && !isOurs(line));
  return [...others.filter(Boolean), MARKER, key, ''].join('\n');
}

/** Bytes stay bytes (latin1): comments of others need not be UTF-8. */
function authorize(config: Config, key: string): void {
  let file = join(config.SSH_DIR, 'authorized_keys');
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    if (existsSync(file)) file = realpathSync(file);
    const present = existsSync(file) ? readFileSync(file, 'latin1') : '';
    const content = mergeAuthorizedKeys(present, Buffer.from(key).toString('latin1'));
    writeFileSync(temporary, content, { mode: 0o600, encoding: 'latin1' });
    renameSync(temporary, file);
  } catch (cause) {
    if (existsSync(temporary)) rmSync(temporary);
    throw new Error(`无法写入 ${file}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** What the shared file held when its key came into force, the key found last, and why the file was last refused. */
const shared = { content: '', found: '', complaint: '' };

/** Authorises the shared key where it is new. One that is refused, told once, leaves the key in force as it is. */
function adoptSharedKey(config: Config): boolean {
  try {
    const content = readSharedKey(config);
    if (content && content !== shared.content) {
      const key = parsePublicKey(content);
      if (key !== shared.found) log('发现源端公钥，配置授权...');
      shared.found = key;
      authorize(config, key);
      shared.content = content;
      log('SSH 免密登录配置完成 ✓');
    }
    shared.complaint = '';
  } catch (cause) {
    const complaint = reasonOf(cause);
    if (complaint !== shared.complaint) error(`源端公钥未生效: ${complaint}`);
    shared.complaint = complaint;
  }
  return shared.content !== '';
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
  if (!shared.content) warn('没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权');
}

/** From then on a new key takes the old one's place. */
function followSharedKey(config: Config): void {
  setInterval(adoptSharedKey, FOLLOW_MS, config);
}

// ── Step 4: sshd ─────────────────────────────────────────────────────────────────────────────────

/** Starts sshd in the foreground, its log in ours; resolves when it listens. */
async function startSshd(config: Config, args: string[]): Promise<ChildProcess> {
  log('启动 SSH 服务...');
  // A process group of its own: Ctrl-C reaches only us.
  const options: SpawnOptions = { detached: true, stdio: ['ignore', 'ignore', 'pipe'] };
  const child = spawn(find('sshd') ?? 'sshd', ['-D', '-e', ...args], options);
  sshd = child; // at once, so that a signal to stop finds it
  const { promise, resolve: listening, reject } = Promise.withResolvers<ChildProcess>();
  createInterface({ input: child.stderr as Readable }).on('line', (line) => {
    if (line.startsWith('Server listening')) return listening(child);
    info(`sshd: ${escapeText(line)}`);
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
/** The work that a request to stop lets finish. */
let work: Promise<unknown> = Promise.resolve();
let sshd: ChildProcess | undefined;

/** The process groups of sshd and of its sessions: each session leaves sshd's group. */
function sshdGroups(pid: number): number[] {
  try {
    const sessions = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return [pid, ...sessions.map(Number)];
  } catch {
    return [pid]; // a kernel without that list, or sshd has just ended
  }
}

/** Whether the group was there to get the signal; 0 only asks. */
function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, signal);
  } catch {
    return false;
  }
}

async function endSshd(): Promise<void> {
  if (!sshd?.pid) return;
  const groups = sshdGroups(sshd.pid);
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const group of groups) signalGroup(group, signal);
    const deadline = performance.now() + 1000;
    while (groups.some((group) => signalGroup(group, 0)) && performance.now() < deadline) await sleep(10);
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
  await Promise.race([work, sleep(3000)]);
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

/** Exits once the log is written: process.exit alone would cut a pipe off. */
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
    throw new Failure(`用法错误: ${reasonOf(cause)}。请参阅 start-sshd --help`, 2);
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
  if (stopping) return;
  const args = await configureSshd(config);
  await waitForKey(config);
  if (stopping) return;
  const child = await startSshd(config, args);
  logReady(config);
  followSharedKey(config);
  const [code, signal] = await once(child, 'exit');
  throw new Failure(`sshd 意外退出 (退出码: ${code ?? signal})`);
}

if (import.meta.main) main().catch(fail);
