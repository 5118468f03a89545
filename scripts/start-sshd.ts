#!/usr/bin/env bun
/**
 * start-sshd: receives the mirror that rsync-inotify keeps.
 *
 * Makes the host keys that are missing, waits for the source's public key on the shared volume, authorises it, runs the real sshd in the
 * foreground and follows the key from then on, as start-sshd.sh did. The key may do no more than mirror: whatever it asks sshd for, sshd
 * starts this program instead, which becomes rsync's receiving side, renames, deletes or refuses. All configuration is by environment:
 *
 *   SSHD_PORT=2222 SHARED_KEYS_DIR=/mnt/keys DEST_DIR=/backup/web/ bun run --no-env-file scripts/start-sshd.ts
 *
 *   the shell's line                    here                               the file behind it
 *   its variables                       readStartConfig                    src/backup/config.ts
 *   log error warn info                 log error warn info                src/service/log.ts
 *   1 ssh-keygen: host keys             generateHostKeys, publishHostKeys  src/service/keys.ts
 *   2 sshd's configuration              configureSshd                      src/backup/sshd.ts, sshd-options.ts
 *   3 .ssh and authorized_keys          prepareAuthorizedKeys              src/backup/authorized-keys.ts
 *   4 wait for the key, authorise it    waitForKey                         src/backup/source-keys.ts, authorized-keys.ts
 *   5 sshd                              startSshd, logReady                src/backup/sshd.ts
 *   6 follow the key while sshd lives   followSharedKeys                   src/backup/source-keys.ts, key-sessions.ts
 *   – what the source may run           answerSource                       src/backup/forced-command.ts, confinement.ts
 *   – where it may write                guard.watch                        src/backup/guard.ts, destination.ts
 *   – what is asked of the program      answerCommand, answerFlags         src/backup/commands.ts, status.ts
 */
import { chmodSync, mkdirSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { sharedKeyFile } from '../src/backup/authorized-keys.ts';
import { summariseAll } from '../src/backup/ceiling.ts';
import { answerCommand } from '../src/backup/commands.ts';
import { type Config, help, PROGRAM, readStartConfig, version } from '../src/backup/config.ts';
import { Crowd } from '../src/backup/crowd.ts';
import { Destination } from '../src/backup/destination.ts';
import { Doors } from '../src/backup/doors.ts';
import { answerSource } from '../src/backup/forced-command.ts';
import { Guard } from '../src/backup/guard.ts';
import { Histories } from '../src/backup/histories.ts';
import { openViews } from '../src/backup/monitor.ts';
import { Promotion } from '../src/backup/promotion.ts';
import { Reports } from '../src/backup/reports.ts';
import { canSeclude } from '../src/backup/seclusion.ts';
import { SourceKeys } from '../src/backup/source-keys.ts';
import { makePrivsepDirectory, ownAddress, Sshd } from '../src/backup/sshd.ts';
import { HOST_KEY_TYPES, hostKeyFile } from '../src/backup/sshd-options.ts';
import { Stalls } from '../src/backup/stalls.ts';
import { checkHealth, ServiceStatus, showStatus } from '../src/backup/status.ts';
import { endLeftovers } from '../src/backup/strays.ts';
import { holdDirectory, replaceFile } from '../src/service/files.ts';
import { generateKeyPair } from '../src/service/keys.ts';
import { canFence } from '../src/service/landlock.ts';
import { type Answer, lifecycle } from '../src/service/lifecycle.ts';
import { detail, error, heading, info, log, openLogFile, warn } from '../src/service/log.ts';
import { run } from '../src/service/processes.ts';
import { escapeText, Failure, reasonOf, t } from '../src/service/text.ts';
import { parseFlags } from '../src/service/variables.ts';

// ── Step 1: host keys ────────────────────────────────────────────────────────────────────────────

/** Makes the keys that sshd is known by, as far as they are missing. */
async function generateHostKeys(config: Config): Promise<void> {
  try {
    const isThere = (type: string) => statSync(hostKeyFile(config, type), { throwIfNoEntry: false })?.size;
    const missing = HOST_KEY_TYPES.filter((type) => !isThere(type));
    if (missing.length === 0) return log('host_key.present', t`SSH 主机密钥已存在 ✓`);
    log('host_key.generate', t`生成 SSH 主机密钥...`);
    mkdirSync(config.HOST_KEY_DIR, { recursive: true, mode: 0o700 });
    for (const type of missing) {
      const key = hostKeyFile(config, type);
      if (!lifecycle.stopping) await generateKeyPair(key, type, 'root', `${key}.new`);
    }
    if (lifecycle.stopping) return; // the next start makes the others
  } catch (cause) {
    const where = `HOST_KEY_DIR=${config.HOST_KEY_DIR}`;
    throw new Failure(t`无法生成主机密钥：${reasonOf(cause)}。请检查 ${where} 的权限和磁盘空间`);
  }
  log('host_key.generated', t`SSH 主机密钥生成完成 ✓`);
}

/** Tells the source which keys to connect to and no other. Without the volume it can only be told so. */
async function publishHostKeys(config: Config): Promise<void> {
  const directory = join(config.SHARED_KEYS_DIR, 'host_keys');
  try {
    const isNew = mkdirSync(directory, { recursive: true }) !== undefined;
    using place = holdDirectory(directory);
    if (isNew) chmodSync(place.at(''), 0o755); // whatever the umask
    for (const type of HOST_KEY_TYPES) {
      const key = await run`ssh-keygen -y -P ${''} -f ${hostKeyFile(config, type)}`;
      if (key.exitCode !== 0) throw new Error(key.stderr.trim());
      replaceFile(place.at(`${hostname()}.${type}.pub`), key.stdout, 0o644);
    }
  } catch (cause) {
    const what = t`无法在 ${directory} 公布主机密钥，源端无法据此验证本机：${reasonOf(cause)}`;
    warn('host_key.unpublished', t`${what}。请检查共享卷的挂载和权限`);
  }
}

// ── Step 2: sshd's configuration ─────────────────────────────────────────────────────────────────

const NO_LANDLOCK = t`内核没有 Landlock（Linux 5.19 起）：源端的命令仍逐条检查`;
const UNFENCED = t`${NO_LANDLOCK}，但 rsync 可能被备份内的链接引到目录之外`;
const SECLUDED = t`${NO_LANDLOCK}，rsync 改在只有 DEST_DIR 和系统程序的挂载命名空间中运行`;

/** Settles what sshd lets in and what a session may do; nothing of the machine's own configuration can change that. */
async function configureSshd(config: Config, sshd: Sshd, guard: Guard): Promise<void> {
  log('sshd.configure', t`配置 SSH 服务...`);
  const user = (await run`id -un`).stdout.trim();
  if (user === 'root') makePrivsepDirectory();
  await sshd.configure(user);
  await guard.settle();
  const isVoid = config.REFUSE_OPTIONS ? t`，REFUSE_OPTIONS 因此不起作用` : '';
  if (config.ALLOW_SHELL) warn('sshd.shell_allowed', t`ALLOW_SHELL=true：源端的密钥可以在本机执行任意命令${isVoid}`);
  else if (!canFence() && canSeclude()) info('sshd.secluded', SECLUDED);
  else if (!canFence()) warn('sshd.no_landlock', UNFENCED);
  log('sshd.configured', t`SSH 配置完成 ✓`);
}

// ── Step 3: authorized_keys ──────────────────────────────────────────────────────────────────────

/** Gives the keys of an earlier start no more than this start does, even while none is shared. */
function prepareAuthorizedKeys(keys: SourceKeys): void {
  try {
    keys.restrictFormer();
  } catch (cause) {
    error('key.unrestricted', t`原有公钥的限制未更新: ${reasonOf(cause)}`);
  }
}

// ── Step 4: the source's public key ──────────────────────────────────────────────────────────────

/** How long a try of `KEY_RETRIES` lasts, and how often the shared key is looked at meanwhile, ms. */
const [TRY_MS, POLL_MS] = [2000, 200];

/** Waits for a key. Without it sshd starts all the same: the key is authorised as soon as it is there. */
async function waitForKey(config: Config, keys: SourceKeys): Promise<void> {
  log('key.wait', t`等待源端公钥...`);
  const isToEnd = async () => {
    await keys.adopt();
    return keys.isInForce || lifecycle.stopping;
  };
  for (let attempt = 1; attempt <= config.KEY_RETRIES; attempt++) {
    if (await isToEnd()) return;
    info('key.retry', t`等待源端生成公钥... (${attempt}/${config.KEY_RETRIES})`, { attempt });
    const deadline = performance.now() + TRY_MS;
    while (performance.now() < deadline && !(await isToEnd())) await lifecycle.pause(POLL_MS);
  }
  if (keys.isInForce || lifecycle.stopping) return;
  warn('key.missing', t`没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权: ${escapeText(sharedKeyFile(config))}`);
}

// ── Step 5: sshd ─────────────────────────────────────────────────────────────────────────────────

/** Starts sshd and waits until it listens. */
async function startSshd(sshd: Sshd): Promise<void> {
  log('sshd.start', t`启动 SSH 服务...`);
  await sshd.listen();
}

/** Tells by which address the source can reach us. */
function logReady({ SSHD_PORT: port, SSHD_LISTEN }: Config, { pid }: Sshd): void {
  const address = SSHD_LISTEN || ownAddress();
  log('sshd.started', t`SSH 服务已启动 ✓`, { pid, port, host: hostname(), address });
  detail(`  PID: ${pid}`);
  detail(t`  端口: ${port}`);
  detail(t`  主机名: ${hostname()}`);
  detail(t`  IP 地址: ${address}`);
  heading('service.ready', t`SSH 服务器就绪，等待连接...`);
}

// ── Step 6: follow the key ───────────────────────────────────────────────────────────────────────

/** Puts a new key in the old one's place as long as sshd lives, and ends sessions that may not go on, or are too many. */
async function followSharedKeys(keys: SourceKeys, sshd: Sshd): Promise<void> {
  const crowd = new Crowd(sshd, () => keys.names());
  while (!lifecycle.stopping) {
    if (await keys.answers()) await keys.adopt();
    crowd.inspect(performance.now());
    await sshd.nextBeat();
  }
}

/** Says what the flags ask for instead of the service, if anything. */
function answerFlags(): Answer | undefined {
  const flags = parseFlags(PROGRAM, ['help', 'version', 'check', 'status', 'healthcheck']);
  if (flags.help) return { text: help(), status: 0 };
  if (flags.version) return { text: `${PROGRAM} ${version}\n`, status: 0 };
  if (flags.healthcheck) return checkHealth();
  if (flags.status) return showStatus();
  if (!flags.check) return undefined;
  readStartConfig();
  return { text: t`配置有效，所需程序齐全 ✓\n`, status: 0 };
}

/** Takes the steps in the order of the log. What sshd starts for a session is answered first: it needs none of them. */
async function main(): Promise<void> {
  if (await answerSource(process.argv.slice(2))) return;
  lifecycle.handleSignals();
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const answer = (await answerCommand(process.argv.slice(2))) ?? answerFlags();
  if (answer) return lifecycle.answer(answer);
  const config = readStartConfig();
  await openLogFile(config);
  lifecycle.onStop(async () => summariseAll());
  const [destination, sshd, reports] = [new Destination(config.DEST_DIR), new Sshd(config), new Reports()];
  const [doors, stalls] = [new Doors(config), new Stalls(() => sshd.commands())];
  doors.onChange(() => reports.keepOnly(doors.list().map(({ name }) => name)));
  const guard = new Guard({ config, doors, destination, sshd, reports });
  const [keys, history] = [new SourceKeys({ config, doors, guard, sshd }), new Histories({ config, doors, guard })];
  const promotion = new Promotion({ config, doors, guard, keys, sshd, reports });
  const parts = { config, doors, destination, guard, keys, sshd, reports, stalls, history, promotion };
  const status = new ServiceStatus(parts);
  for (const prepare of [
    () => status.standAlone(),
    async () => lifecycle.background(endLeftovers()),
    () => openViews(config, status),
    async () => lifecycle.onStop(() => guard.leave()), // after the status, which says so meanwhile
    () => heading('service.start', t`SSH 服务器 - 自动配置启动`, { version }),
    () => lifecycle.finishFirst(generateHostKeys(config)), // 1
    () => lifecycle.finishFirst(publishHostKeys(config)),
    () => configureSshd(config, sshd, guard), // 2
    () => prepareAuthorizedKeys(keys), // 3
    () => waitForKey(config, keys), // 4
    () => reports.listen(sshd.sessionFiles.reports),
  ]) {
    await prepare();
    if (lifecycle.stopping) return;
  }
  await startSshd(sshd); // 5
  status.enterService();
  logReady(config, sshd);
  lifecycle.background(Promise.all([guard.watch(), stalls.keep(), keys.keep(), history.keep(), promotion.keep()]));
  await followSharedKeys(keys, sshd); // 6
}

/** Runs the program. */
export const start = () => lifecycle.background(main());

if (import.meta.main) start();
