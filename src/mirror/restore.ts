/**
 * --restore: fetches what the backup holds, over the same connection as the mirror, and compares it afterwards. The backup allows that only
 * for a time (start-sshd --allow-restore).
 *
 *   await answerRestore(['--restore', 'web', '--to', '/tmp/web']); // { text: '', status: 0 } where it is equal
 */
import { closeSync, lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { ask, isServed, socketOf } from '../service/control.ts';
import { isWithin } from '../service/files.ts';
import { fenceOff } from '../service/landlock.ts';
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { lockDirectory, lockFile } from '../service/locks.ts';
import { detail, error, heading, info, log, warn } from '../service/log.ts';
import { escapeText, Failure, reasonOf, showPath, t } from '../service/text.ts';
import { checkConfig, type LocatedHost } from './check.ts';
import { type Config, isDaemon, nameOf } from './config.ts';
import { describeDifference } from './differences.ts';
import { type Came, compareAll, fetchAll, type Job } from './fetching.ts';
import { HostKeys } from './host-keys.ts';
import { hasKey, keyFile, makeKey, publicHalfOf, sharePublicKey } from './keys.ts';
import { Memory, restoreLockOf } from './memory.ts';
import { carriedWords, keepsOwners, placeOn, placesIn, readWish, type Wish } from './restore-wish.ts';
import { BUSY, COMPLETE, markRestored, PAUSE } from './restoring.ts';
import { meaningOf } from './rsync.ts';
import { LOST_AND_FOUND, Source } from './source.ts';
import { type Route, reasonOfLogin, tryLogin } from './ssh.ts';

/** How long a login is tried, ms: the backup has to take a new key first. */
const [REACH_MS, REACH_ANEW_MS] = [10_000, 60_000];
/** How soon it is tried again, and how often it is looked whether the service has come to the end of a sync, ms. */
const [RETRY_MS, POLL_MS] = [2000, 300];

/** Answers --restore; nothing where something else is asked for: exit status 0 where all is there and equal. @throws {Failure} */
export async function answerRestore(args: readonly string[]): Promise<Answer | undefined> {
  if (!args.includes('--restore')) return undefined;
  lifecycle.abandonOnSignal(1);
  const { config, hosts } = await checkConfig();
  const wish = readWish(args, config.SOURCE_DIR);
  const place = findTarget(wish, config);
  checkRights(hosts);
  using _ = place;
  const isPaused = place.isLive && (await pauseService(config, hosts));
  const isNew = !hosts.every(isDaemon) && (await ensureKey(config));
  const routes = await reachAll(hosts, isNew ? REACH_ANEW_MS : REACH_MS);
  fenceOff([['/', 'running'], [place.to, 'anything'], ...DEVICES]); // whatever the backup sends
  const isEqual = await fetchFromAny(routes, wish, place);
  if (isEqual && isPaused) await ask(socketOf(config.STATUS_FILE), { command: COMPLETE }).catch(() => {}); // it may have ended, and finds out by itself
  return { text: '', status: isEqual ? 0 : 1 };
}

const DEVICES = [
  ['/dev/null', 'exchanging'],
  ['/dev/tty', 'exchanging'],
] as const;

// ── where to ─────────────────────────────────────────────────────────────────────────────────────

interface Target extends Disposable {
  /** A real path. */
  to: string;
  /** What holds off others. */
  lock: number;
  /** Whether it is in the source, or around it, so that what comes would be mirrored. */
  isLive: boolean;
}

/** Finds the directory that is to be filled, and locks it. @throws {Failure} */
function findTarget({ to, paths }: Wish, config: Config): Target {
  const { SOURCE_DIR } = config;
  const source = realpathSync(SOURCE_DIR);
  try {
    if (to !== undefined) mkdirSync(resolve(to), { recursive: true, mode: 0o700 });
    const real = to === undefined ? source : realpathSync(resolve(to));
    const isLive = isWithin(real, source) || isWithin(source, real);
    checkRoom(real, paths); // before the lock, which would have the service pause
    const lock = isLive ? lockSource(config) : lockDirectory(real);
    if (lock === undefined) throw new Error(t`另一个恢复正在进行`);
    checkRoom(real, paths); // nor has another restore filled it meanwhile
    return { to: real, lock, isLive, [Symbol.dispose]: () => closeSync(lock) };
  } catch (cause) {
    throw new Failure(t`无法恢复到 ${escapeText(to ?? SOURCE_DIR)}：${reasonOf(cause)}`);
  }
}

/** Locks the source, by which its service knows that it must send nothing. @throws where that is not possible */
function lockSource(config: Config): number | undefined {
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    return lockFile(restoreLockOf(config));
  } catch (cause) {
    throw new Error(
      t`需要在 SSH_DIR 中加锁，使服务暂停同步：${reasonOf(cause)}。请使 SSH_DIR 可写，或用 --to 恢复到别处`,
    );
  }
}

/** Refuses to fill a directory that is not empty, unless it was said what is to be restored in it. @throws {Failure} */
function checkRoom(to: string, paths: readonly string[]): void {
  if (paths.length > 0 || readdirSync(to).every((name) => name === LOST_AND_FOUND)) return;
  const advice = t`只恢复其中的路径，请逐一指明；要在现有内容之上恢复全部（例如继续中断的恢复），请指明 .（rsync-inotify --restore .）`;
  throw new Failure(t`目录不是空的。${advice}`);
}

/** Numbers of capabilities (capabilities(7)) that root needs to give files their owners, and to change what is another's then. */
const NEEDED = { CHOWN: 0n, DAC_OVERRIDE: 1n, FOWNER: 3n };

/** Refuses a restore that would lose the owners, where root is not allowed to set them, as in the container of the source. @throws {Failure} */
function checkRights(hosts: LocatedHost[]): void {
  if (process.getuid?.() !== 0 || !hosts.some(({ plan }) => keepsOwners(carriedWords(plan.words)))) return;
  const [, mask = '0'] = /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  const missing = Object.entries(NEEDED).filter(([, bit]) => ((BigInt(`0x${mask}`) >> bit) & 1n) === 0n);
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name).join(t`、`);
  throw new Failure(
    t`没有权能 ${names}，无法恢复文件的属主。容器中请先停止源端，再执行 docker compose run --rm --cap-add CHOWN --cap-add FOWNER --cap-add FSETID --cap-add MKNOD --cap-add SETFCAP rsync-source rsync-inotify --restore，其后的参数与这次相同`,
  );
}

// ── the service, the key, the backup ─────────────────────────────────────────────────────────────

/** Has the service of this source send nothing as long as the source is locked; returns whether one runs. @throws {Failure} */
async function pauseService(config: Config, hosts: LocatedHost[]): Promise<boolean> {
  const socket = socketOf(config.STATUS_FILE);
  const owner = lstatSync(socket, { throwIfNoEntry: false })?.uid;
  if (owner !== undefined && owner !== process.getuid?.())
    throw new Failure(t`服务由另一个用户（${owner}）运行，请以该用户执行 --restore，或用 --to 恢复到源目录之外`);
  if (!(await isServed(socket))) {
    rememberRestore(config, hosts);
    return false;
  }
  for (let isTold = false; ; isTold = true) {
    const { isDone, text } = await ask(socket, { command: PAUSE });
    if (isDone) return true;
    if (text !== BUSY) throw new Failure(t`正在运行的服务没有暂停，不能恢复到源目录：${text}`);
    if (!isTold) info('restore.waiting', t`等待正在进行的同步结束...`);
    await lifecycle.pause(POLL_MS);
  }
}

/** Has the next start of the service hold deletions until it has found that nothing would be deleted. */
function rememberRestore(config: Config, hosts: LocatedHost[]): void {
  const memory = new Memory(config);
  for (const host of hosts) if (host.plan.deletes) markRestored(memory.target(nameOf(host)));
  memory.save();
}

/** Makes the key pair where there is none, as on a host that was made anew, and shares its public half; returns whether it is new. @throws {Failure} */
async function ensureKey(config: Config): Promise<boolean> {
  const key = keyFile(config);
  const isNew = !hasKey(key);
  try {
    if (isNew) await makeKey(key);
  } catch (cause) {
    throw new Failure(t`无法生成 SSH 密钥对 ${escapeText(key)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
  if (isNew) log('key.generated', t`SSH 密钥生成完成 ✓`);
  sharePublicKey(config, await publicHalfOf(key));
  return isNew;
}

/** A backup that lets us in, and how it is reached. */
type Reached = { host: LocatedHost; route: Route };

/** Finds those that do. @throws {Failure} where none does */
async function reachAll(hosts: LocatedHost[], ms: number): Promise<Reached[]> {
  const reached = (await Promise.all(hosts.map((host) => reach(host, ms)))).filter((it) => it !== undefined);
  if (reached.length === 0) throw new Failure(t`没有可以登录的备份主机，没有恢复。请检查备份端是否运行、网络和密钥`);
  return reached;
}

async function reach(host: LocatedHost, ms: number): Promise<Reached | undefined> {
  const hostKeys = new HostKeys(host.config, { error }, host.address.jump);
  for (const latest = performance.now() + ms; ; await lifecycle.pause(RETRY_MS)) {
    const route = isDaemon(host) ? {} : { knownHosts: hostKeys.refresh() };
    const result = await tryLogin(host, route);
    if (result.exitCode === 0) return { host, route };
    if (performance.now() < latest) continue;
    hostKeys.explain(result.stderr);
    const reason = reasonOfLogin(host, result.stderr) || reasonOf(result);
    warn('restore.unreachable', t`无法登录 ${nameOf(host)}：${reason}`, { target: nameOf(host) });
    return undefined;
  }
}

// ── what is fetched ──────────────────────────────────────────────────────────────────────────────

/** Fetches from the first backup that allows it; returns whether all is there and equal. */
async function fetchFromAny(reached: Reached[], wish: Wish, { to, lock }: Target): Promise<boolean> {
  for (const [n, { host, route }] of reached.entries()) {
    const source = new Source(host.config.SOURCE_DIR);
    const place = placeOn(host, wish, host.plan.isRelative ? source.root : source.prefix);
    const job = { host, route, places: placesIn(place, wish), to: `${to}/`, lock };
    logBegin(job, place, wish);
    const began = performance.now();
    const came = await fetchAll(job);
    const isLast = n === reached.length - 1;
    if (came.status !== 0 && came.refusal !== undefined && came.files === undefined && !isLast) {
      warn('restore.refused', t`${nameOf(host)} ${came.refusal}，改从下一个备份恢复`, { target: nameOf(host) });
      continue;
    }
    return cameWell(came) && (await isEqualTo(job, wish, { files: came.files ?? 0, began }));
  }
  return false;
}

function logBegin({ host, to }: Job, place: string, { paths }: Wish): void {
  heading('restore.start', t`从备份恢复`, { target: nameOf(host), from: place, to });
  detail(t`备份目录: ${nameOf({ ...host, directory: place })}`);
  detail(t`恢复到: ${escapeText(to)}`);
  if (paths.length > 0) detail(t`路径: ${paths.map((path) => escapeText(path || '.')).join(t`、`)}`);
}

/** Exit statuses that are about this side where something is fetched. */
const MEANINGS: Record<number, string> = {
  11: t`文件读写错误，请检查本机的磁盘空间、目录和权限`,
  12: t`rsync 协议数据流错误，请检查网络、备份端和本机的磁盘空间`,
  23: t`部分内容没有恢复，请查看上面 rsync 的错误信息`,
};

/** Whether all was fetched; tells why not. */
function cameWell({ status, refusal }: Came): boolean {
  if (status === 0) return true;
  const reason = refusal === undefined ? (MEANINGS[status] ?? meaningOf(status)) : t`备份端${refusal}`;
  error('restore.failure', t`恢复没有完成 (退出码: ${status})：${reason}`, { exit_code: status });
  return false;
}

/** Compares by checksum, and tells how it went. */
async function isEqualTo(job: Job, wish: Wish, { files, began }: { files: number; began: number }): Promise<boolean> {
  log('restore.compare', t`已取回全部内容，正在按校验和与备份比较...`);
  const compared = await compareAll(job, wish.paths.length === 0);
  const seconds = Math.round((performance.now() - began) / 1000);
  if (!cameWell(compared)) return false;
  if (compared.count === 0) {
    log('restore.done', t`恢复完成，与备份相同 (${files} 个文件，耗时: ${seconds}秒) ✓`, { files, seconds });
    return true;
  }
  const { count, differences } = compared;
  error('restore.different', t`恢复后与备份有 ${count} 处不同；期间可能有程序在写入，请停止它们后再次恢复`, {
    count,
    paths: differences.map(({ path }) => showPath(path)),
  });
  for (const difference of differences) detail(`  ${describeDifference(difference)}`);
  return false;
}
