#!/usr/bin/env bun
/**
 * rsync-inotify: mirrors a directory tree to a backup host, one way, every change as it happens.
 *
 * Makes an SSH key and shares it, waits for the backup's sshd (or rsync daemon), copies the whole tree once and then
 * follows inotify events. It starts the real ssh, rsync and inotifywait, as rsync-inotify.sh did.
 * All configuration is by environment:
 *
 *   SOURCE_DIR=/srv/web/ DEST_HOST=backup DEST_DIR=/backup/web/ bun run --no-env-file scripts/rsync-inotify.ts
 *
 * A port of that script, in its order:
 *
 *   the shell's line                          here                 the file behind it
 *   SOURCE_DIR=${SOURCE_DIR:-…}               checkConfig          src/mirror/config.ts, check.ts
 *   log() error() warn() info()               log, error, …        src/service/log.ts
 *   setup_ssh_keys()     1 make, share        setupSshKeys         src/mirror/keys.ts
 *   wait_for_ssh()       2 nc -z              waitForSsh           src/mirror/ssh.ts
 *   test_ssh_connection() 3 ssh … echo ok     testSshConnection    src/mirror/ssh.ts, host-keys.ts
 *   do_sync()            rsync $RSYNC_OPTS    doSync               src/mirror/sender.ts, rsync.ts, scopes.ts
 *   first do_sync        4                    firstFullSync        src/mirror/target.ts
 *   inotifywait -m -r …  5                    startWatching        src/mirror/watch.ts, inotifywait.ts
 *   | while read; do … do_sync; done          mirrorChanges        src/mirror/changes.ts, target.ts
 *   trap … TERM INT                           lifecycle            src/service/lifecycle.ts
 *   main "$@"                                 main
 *   – what may be deleted                     guard, watchMounts   src/mirror/source-guard.ts, mounts.ts, brake.ts
 *
 * With several targets, steps 2 to 5 are done for each of them, side by side.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { version } from '../package.json';
import { Announcer } from '../src/mirror/announcer.ts';
import { tryEntrance } from '../src/mirror/backup-guard.ts';
import { type Backup, backupsFor } from '../src/mirror/backups.ts';
import type { Batch } from '../src/mirror/changes.ts';
import { checkConfig, type LocatedHost } from '../src/mirror/check.ts';
import { answerCommand, commandsFor } from '../src/mirror/commands.ts';
import { type Config, help, isDaemon } from '../src/mirror/config.ts';
import { Doubts } from '../src/mirror/doubts.ts';
import { WATCHED_EVENTS } from '../src/mirror/events.ts';
import { hasKey, keyFile, makeKey, publicHalfOf, sharePublicKey } from '../src/mirror/keys.ts';
import { loginWordsOf } from '../src/mirror/login-words.ts';
import { Memory } from '../src/mirror/memory.ts';
import { openViews } from '../src/mirror/monitor.ts';
import { Mounts } from '../src/mirror/mounts.ts';
import { refuseNested } from '../src/mirror/nesting.ts';
import { warnOfOptions } from '../src/mirror/option-warnings.ts';
import { answerRestore } from '../src/mirror/restore.ts';
import { describeFailed, NOT_SENT, type Outcome } from '../src/mirror/rsync.ts';
import { RuleFiles } from '../src/mirror/rule-files.ts';
import { Source } from '../src/mirror/source.ts';
import { SourceGuard } from '../src/mirror/source-guard.ts';
import { answersWithin, greetingOf, reasonOfLogin } from '../src/mirror/ssh.ts';
import { judge, readStatus, Service, tellStatus } from '../src/mirror/status.ts';
import { verify } from '../src/mirror/verify.ts';
import { prepareProbe } from '../src/mirror/vigil.ts';
import { type Watch, watchFor } from '../src/mirror/watch.ts';
import { type Answer, lifecycle } from '../src/service/lifecycle.ts';
import { detail, heading, log, openLogFile, RULE, warn } from '../src/service/log.ts';
import { checkHealth, touch } from '../src/service/status.ts';
import { escapeText, Failure, reasonOf, t } from '../src/service/text.ts';
import { parseFlags } from '../src/service/variables.ts';

// ── 1: the SSH key pair, its public half shared ──────────────────────────────────────────────────

/** Makes the key pair if there is none, and puts its public half into the shared volume. @throws {Failure} */
async function setupSshKeys(config: Config): Promise<void> {
  heading('key.setup', t`配置 SSH 密钥（自动化）`);
  const key = keyFile(config);
  await ensureKey(key);
  log('key.share', t`共享公钥到备份服务器...`);
  sharePublicKey(config, await publicHalfOf(key));
  log('key.shared', t`公钥已共享 ✓`);
}

/** Makes the key pair if there is none. @throws {Failure} */
async function ensureKey(key: string): Promise<void> {
  try {
    if (hasKey(key)) return log('key.present', t`SSH 密钥已存在 ✓`);
    log('key.generate', t`生成 SSH 密钥对...`);
    await lifecycle.finishFirst(makeKey(key));
    log('key.generated', t`SSH 密钥生成完成 ✓`);
  } catch (cause) {
    throw new Failure(t`无法生成 SSH 密钥对 ${escapeText(key)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

// ── 2: wait for sshd ─────────────────────────────────────────────────────────────────────────────

/** How long a try of `MAX_RETRIES` lasts, ms. */
const TRY_MS = 5000;

/** Waits until sshd answers, or an rsync daemon, unless it is reached through something else that does. @throws {Failure} where it does not */
async function waitForSsh({ host: target, state }: Backup): Promise<void> {
  const { config, address } = target;
  const [{ host, port }, words, greeting] = [address, loginWordsOf(target), greetingOf(target)];
  state.heading(`${words.kind}.wait`, words.wait, { host, port });
  detail(t`目标主机: ${escapeText(host)}:${port}`);
  for (let attempt = 1; !address.proxied && !(await answersWithin(TRY_MS, host, port, greeting)); attempt++) {
    if (lifecycle.stopping) return;
    if (attempt === config.MAX_RETRIES) {
      const where = t`${escapeText(host)}:${port} 在 ${(attempt * TRY_MS) / 1000} 秒内没有应答`;
      throw new Failure(words.unready(where));
    }
    state.warn(`${words.kind}.retry`, words.again(attempt, config.MAX_RETRIES), { attempt });
  }
  state.log(`${words.kind}.ready`, words.ready);
}

// ── 3: test the connection ───────────────────────────────────────────────────────────────────────

/** Logs in with the host keys that the backup has published, again and again until that works. @throws {Failure} where it does not */
async function testSshConnection({ host, hostKeys, connection, state }: Backup): Promise<void> {
  const words = loginWordsOf(host);
  state.heading(`${words.kind}.test`, words.test);
  await connection.openAhead();
  const { MAX_RETRIES: most } = host.config;
  for (let attempt = 1; ; attempt++) {
    const result = await tryEntrance(host, connection);
    if (result.exitCode === 0) break;
    if (lifecycle.stopping) return;
    await connection.explain(result.stderr);
    const reason = reasonOfLogin(host, result.stderr) || reasonOf(result);
    if (attempt > most) throw new Failure(words.failed(result.exitCode ?? result.signal, reason));
    state.warn(`${words.kind}.retry`, words.retry(attempt, most, reason), { attempt, exit_code: result.exitCode });
    // A new key is in force within a second. From then on slowly: sshd shuts out who fails often (PerSourcePenalties).
    await sleep(attempt === 1 ? 1000 : TRY_MS);
    if (result.exitCode === 1) await connection.renewAhead(); // refused by the name that it had when it was opened
  }
  hostKeys.forgetRefusal();
  state.log(`${words.kind}.tested`, words.tested);
  if (hostKeys.file || isDaemon(host)) return;
  state.warn('host_key.unpublished', t`备份端没有在共享卷中公布主机密钥，未能验证它的身份，是否信任它由 SSH_OPTS 决定`);
}

/** Takes steps 2 and 3. @throws {Failure} */
async function reach(backup: Backup): Promise<void> {
  try {
    await waitForSsh(backup);
    if (!lifecycle.stopping) await testSshConnection(backup);
    if (!lifecycle.stopping) await refuseNested(backup.host, backup.connection);
  } catch (cause) {
    throw cause instanceof Failure ? new Failure(backup.state.addName(cause.message), cause.status) : cause;
  }
}

/** Resolves when one target is reached: one is enough. @throws {Failure} where none is */
async function reachAny(reaching: Promise<void>[]): Promise<void> {
  try {
    await Promise.any(reaching);
  } catch (cause) {
    const { errors } = cause as AggregateError;
    const fault = errors.find((error) => !(error instanceof Failure) || error.status === 2);
    throw fault ?? new Failure(errors.map(({ message }) => message).join('\n'));
  }
}

// ── do_sync ──────────────────────────────────────────────────────────────────────────────────────

/** Mirrors a batch, or all of the source if none is given, and tells how it went. */
async function doSync({ target, state }: Backup, batch?: Batch): Promise<Outcome> {
  const outcome = await target.send(batch);
  const { mode, kind, status, seconds, files, bytes } = outcome;
  if (!state.voice.tells(outcome)) return outcome;
  const fields = { mode, duration_ms: Math.round(seconds * 1000), files, bytes, exit_code: status };
  if (kind === 'done') state.log('sync.success', t`同步成功 (耗时: ${Math.round(seconds)}秒) ✓`, fields);
  else if (!state.isPromoted && outcome !== NOT_SENT) state.error('sync.failure', describeFailed(outcome), fields);
  return outcome;
}

// ── 4: the first full sync ───────────────────────────────────────────────────────────────────────

/**
 * Mirrors all of the source. Files that fail are no reason not to mirror the others: they are tried again.
 * @throws {Failure} where the only target cannot be mirrored to
 */
async function firstFullSync(backup: Backup): Promise<Outcome> {
  const { state, target } = backup;
  state.heading('sync.first', t`首次全量同步`);
  const outcome = await doSync(backup);
  if (lifecycle.stopping || state.isPromoted) return outcome;
  if (outcome.kind === 'done' || outcome.kind === 'limited') state.log('sync.first_done', t`首次全量同步完成 ✓`);
  else if (await target.mayGoOn(outcome))
    state.warn('sync.first_partial', t`首次全量同步未能传输全部文件，其余文件照常同步，失败的文件将自动重试`);
  else if (!state.isOneOfMany && !lifecycle.stopping && !state.isPromoted) throw new Failure(t`首次全量同步失败`);
  return outcome;
}

// ── 5: watch, and mirror every change ────────────────────────────────────────────────────────────

/** Tells what is watched from now on. */
function logWatching({ SOURCE_DIR: source, SYNC_INTERVAL: interval }: Config, backups: Backup[]): void {
  heading('watch.start', t`实时监控已启动`, { source, interval, watched: WATCHED_EVENTS });
  detail(t`监控目录: ${escapeText(source)}`);
  detail(t`批量同步间隔: ${interval}秒`);
  detail(t`监控事件: ${WATCHED_EVENTS.join(', ')}`);
  for (const { host, state } of backups) {
    const options = host.plan.costly.join(' ');
    const what = t`RSYNC_OPTS 含有不能逐个文件执行的选项 (${options})，每次变化都进行全量同步`;
    if (host.plan.method === 'full' && !host.plan.unruled) state.log('sync.always_full', what, { options });
  }
  detail(RULE);
  log('service.ready', t`✓ 服务运行中，实时监控文件变化...`);
}

/** The other half of `inotifywait | while read`: sends each batch when it is due. */
async function mirrorChanges(backup: Backup): Promise<void> {
  const { target, state } = backup;
  for await (const { batch, isRegular } of target.batches()) {
    if (state.beginsAloud(isRegular))
      state.log('sync.start', isRegular ? t`触发定期全量同步...` : t`触发批量同步...`, { changes: batch.size });
    await target.settle(batch, await doSync(backup, batch));
  }
}

/** Takes steps 4 and 5 for a target: where there are others, one that is missed is taken in when it can be. @throws {Failure} */
async function mirror(backup: Backup, reaching: Promise<void>): Promise<void> {
  const isReached = await reaching.then(
    () => true,
    (cause) => tellMissed(backup, cause),
  );
  if (lifecycle.stopping) return;
  lifecycle.background(backup.connection.keep());
  await once(backup.connection, 'tried');
  const outcome = isReached ? await firstFullSync(backup) : undefined;
  if (lifecycle.stopping) return;
  backup.target.begin(outcome);
  await mirrorChanges(backup);
}

/** Tells why a target was not reached, where that is no reason to end. @throws {Failure} where the configuration is wrong */
function tellMissed({ state }: Backup, cause: unknown): false {
  if (!(cause instanceof Failure) || cause.status === 2) throw cause;
  for (const line of cause.message.split('\n'))
    warn('target.missed', t`${line}。其他目标照常同步，此目标恢复后自动加入`, { target: state.name });
  return false;
}

// ── main ─────────────────────────────────────────────────────────────────────────────────────────

/** Says what the flags ask for instead of the service, if anything. */
async function answerFlags(): Promise<Answer | undefined> {
  const names = ['help', 'version', 'check', 'status', 'healthcheck', 'verify'] as const;
  const flags = parseFlags('rsync-inotify', names);
  if (flags.help) return { text: help(), status: 0 };
  if (flags.version) return { text: `rsync-inotify ${version}\n`, status: 0 };
  if (flags.healthcheck) return checkHealth(() => judge(readStatus(), Date.now()));
  if (flags.status) return { text: tellStatus(), status: 0 };
  if (flags.verify) return verify();
  if (!flags.check) return undefined;
  await checkConfig();
  return { text: t`配置有效，所需程序齐全 ✓\n`, status: 0 };
}

/** Tells how the service was configured. */
function logConfig(config: Config, backups: Backup[]): void {
  const { SOURCE_DIR: source, SYNC_INTERVAL: interval } = config;
  const target = backups.map(({ state }) => state.name).join(' ');
  heading('service.start', t`Rsync + Inotify 自动化实时同步服务`, { version, source, target, interval });
  detail(t`版本: 自动化 v1.0`); // the name of this way of working, which the scripts have given it; --version tells the release
  detail(t`配置信息：`);
  detail(t`  源目录: ${escapeText(source)}`);
  const [first, ...others] = backups;
  detail(t`  目标主机: ${others.length > 0 ? target : first?.host.given}`);
  if (first && others.length === 0) detail(t`  目标目录: ${escapeText(first.host.directory)}`);
  detail(t`  Rsync 选项: ${escapeText(config.RSYNC_OPTS)}`);
  for (const { state, host } of backups) if (host.own) detail(t`  Rsync 选项 (${state.name}): ${escapeText(host.own)}`);
  detail(t`  同步间隔: ${interval}秒`);
  detail(t`  最大重试: ${config.MAX_RETRIES}次`);
  detail(RULE);
  warnOfOptions(backups.map(({ host }) => host));
}

/** Starts to watch once the source may be mirrored, before the full sync, so that nothing in between is lost. @throws {Failure} */
async function startWatching(hosts: LocatedHost[], { source, guard, mounts }: Guards, watch: Watch) {
  await Promise.all([guard.admit(), prepareProbe()]);
  if (lifecycle.stopping) return;
  if (!hosts.every(({ plan }) => plan.isOneFileSystem)) await watchMounts(mounts, watch);
  await watch.start();
  lifecycle.onStop(() => watch.finish());
  for (const work of [guard.keep(), source.findLinks()]) lifecycle.background(work);
}

/** Finds what is mounted below the source, and has what is mounted later watched and mirrored. */
async function watchMounts(mounts: Mounts, watch: Watch): Promise<void> {
  await mounts.start();
  mounts.on('arrived', (path: string) => watch.distrust(path));
  lifecycle.background(mounts.keep());
}

interface Guards {
  source: Source;
  memory: Memory;
  mounts: Mounts;
  guard: SourceGuard;
}

/** Listens for commands from now on, and writes down at the exit what is remembered. @throws {Failure} where another service does */
async function obeyCommands({ STATUS_FILE }: Config, backups: Backup[], parts: Guards & { watch: Watch }) {
  await commandsFor({ backups, ...parts }).listen(STATUS_FILE);
  if (!lifecycle.stopping) lifecycle.onExit(() => parts.memory.save());
}

/** Takes the steps of the script; each target takes those from 2 on by itself. */
async function main(): Promise<void> {
  lifecycle.handleSignals();
  process.stdout.on('error', () => {}); // the mirror outlives the reader of its log
  const args = process.argv.slice(2);
  const answer = (await answerRestore(args)) ?? (await answerCommand(args)) ?? (await answerFlags());
  if (answer) return lifecycle.answer(answer);
  const { config, hosts } = await checkConfig();
  await openLogFile(config);
  const [source, doubts, announcer] = [new Source(config.SOURCE_DIR), new Doubts(), new Announcer(hosts.length)];
  const memory = new Memory(config);
  const mounts = new Mounts(memory, () => source.realRoot);
  const backups = backupsFor(hosts, { source, memory, mounts, doubts, announcer });
  const targets = backups.map(({ state }) => state);
  const watch = watchFor(config, { source, doubts, targets, announcer });
  const guard = new SourceGuard(source, memory, () => watch.distrust(''));
  const service = new Service({ config, source, guard, mounts, watch, targets, announcer });
  const guards = { source, memory, mounts, guard };
  await obeyCommands(config, backups, { ...guards, watch });
  if (lifecycle.stopping) return;
  await openViews(config, { service, watch, targets });
  logConfig(config, backups);

  if (!hosts.every(isDaemon)) await setupSshKeys(config); // 1
  if (lifecycle.stopping) return;
  const tries = backups.map((backup) => ({ backup, reaching: reach(backup) })); // 2 and 3
  const watching = startWatching(hosts, guards, watch); // for 5, while others are waited for
  watching.catch(() => {}); // it is awaited once a target is reached
  await reachAny(tries.map(({ reaching }) => reaching));
  await watching;
  if (lifecycle.stopping) return;
  service.phase = 'syncing';
  lifecycle.background(RuleFiles.ofAll(hosts).keep(targets));
  const begun = Promise.race(backups.map(({ target }) => once(target, 'begun')));
  const mirroring = Promise.all(tries.map(({ backup, reaching }) => mirror(backup, reaching))); // 4
  lifecycle.finishFirst(mirroring).catch(() => {}); // it is awaited below
  await Promise.race([begun, mirroring]);
  if (!lifecycle.stopping) {
    service.phase = 'mirroring';
    touch();
    logWatching(config, backups); // 5
    lifecycle.background(watch.keep());
  }
  await mirroring;
}

if (import.meta.main) lifecycle.background(main());
