/**
 * The arguments of every ssh and rsync: who is trusted, which connection is shared, what is copied where.
 *
 *   run`ssh ${sshArgs(host, { knownHosts })} ${loginOf(host)} ${'echo ok'}`;
 */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run, runWithin } from '../service/processes.ts';
import { Failure, lastLine, reasonOf, t } from '../service/text.ts';
import { destinationOf, type Host, isDaemon, loginOf } from './config.ts';
import { reasonOfDaemon, roomIn } from './daemon-words.ts';

/** The exit status of ssh, and of an rsync over it, where it could not connect or log in. */
export const UNREACHABLE = 255;

/** How ssh gets to the backup. */
export interface Route {
  /** Where a connection is shared, if one is. */
  socket?: string | undefined;
  /** The file of the host keys that count, if the backup has published any. */
  knownHosts?: string | undefined;
}

const asOptions = (settings: readonly string[]) => settings.flatMap((setting) => ['-o', setting]);
const sshEscaped = (path: string) => path.replaceAll('%', '%%');
const sshQuoted = (path: string) => `"${sshEscaped(path)}"`;

/**
 * Builds the arguments of an ssh, which takes the first value that it is given. Which host keys count and which connection
 * is shared is ours to say: a connection that is shared by the user's configuration would outlive us; of `-S` the last
 * one counts. For the rest, the user's options come first.
 */
export function sshArgs(host: Host, { socket = 'none', knownHosts }: Route = {}): string[] {
  const { SSH_DIR } = host.config;
  const defaults = [
    'BatchMode=yes',
    'StrictHostKeyChecking=accept-new',
    'ConnectTimeout=10',
    'ServerAliveInterval=10', // a network that is silent for 30 s is cut
    'ServerAliveCountMax=2',
    'IdentitiesOnly=yes',
    `IdentityFile=${sshQuoted(join(SSH_DIR, 'id_rsa'))}`,
    `UserKnownHostsFile=${sshQuoted(join(SSH_DIR, 'known_hosts'))}`,
  ];
  const ours = ['ControlMaster=no', ...(knownHosts ? [...pinnedTo(knownHosts), ...host.sshSettings] : [])];
  return [...asOptions(ours), ...host.sshWords, '-S', sshEscaped(socket), ...asOptions(defaults)];
}

/** Lists settings under which ssh takes no host keys but those in a file, whatever else the user's options and files say. */
function pinnedTo(knownHosts: string): string[] {
  return [
    'StrictHostKeyChecking=yes',
    `UserKnownHostsFile=${sshQuoted(knownHosts)}`,
    'GlobalKnownHostsFile=/dev/null',
    'VerifyHostKeyDNS=no',
    'NoHostAuthenticationForLocalhost=no',
    'UpdateHostKeys=no', // or the backup could add to the file
    'CheckHostIP=no',
  ];
}

/** Settings for the same end that only some ssh know: since 8.5, or with the distributions' patch for Kerberos, which needs no host key. */
const SOMETIMES_KNOWN = ['KnownHostsCommand=none', 'GSSAPIKeyExchange=no'];

/** Asks this machine's ssh which of them it knows. @throws {Failure} where it does not say: without them it might trust other hosts */
export async function knownSettings(): Promise<string[]> {
  if (await knows(SOMETIMES_KNOWN)) return SOMETIMES_KNOWN;
  const answers = SOMETIMES_KNOWN.map(async (setting) => ((await knows([setting])) ? [setting] : []));
  return (await Promise.all(answers)).flat();
}

/** Whether this machine's ssh knows all of these settings. @throws {Failure} where it does not say */
async function knows(settings: readonly string[]): Promise<boolean> {
  const answer = await run`ssh -G -T -F none ${asOptions(settings)} host`;
  if (/^.*(Bad configuration|Unsupported) option/m.test(answer.stderr)) return false;
  if (answer.exitCode !== 0) throw new Failure(t`ssh 没有说明它是否支持 ${settings.join(t`、`)}：${reasonOf(answer)}`);
  return true;
}

/** Quotes a word for rsync's `-e`, which knows quotes (doubled inside themselves) but no backslashes. */
export function quoteForRsh(word: string): string {
  return /^[^\s'"]+$/.test(word) ? word : `'${word.replaceAll("'", "''")}'`;
}

/**
 * Without it, a file that is rewritten at the same size within a second counts as unchanged (rsync(1), --modify-window). An rsync
 * before 3.1.3 does not know it on the other side, and an rrsync does not let it pass.
 */
const TO_THE_NANOSECOND = '--modify-window=-1';
/** What the other side says where it refuses it: `rsync: -@-1: unknown option`, and rrsync does not say which option it means. */
const REFUSED_PRECISION = /(^|[\s'"])-@-1\b|\binvalid rsync-command syntax or options|\brefuse --modify-window\b/m;

/**
 * Takes in what the other side says: where it does not take times to the nanosecond, it gets whole seconds from then on; and a daemon may
 * have room for a few rsyncs only.
 */
export function noteLimits({ peer }: Host, said: string): void {
  peer.isCoarse ||= REFUSED_PRECISION.test(said);
  const room = roomIn(said);
  if (room === undefined) return;
  peer.room = room;
  peer.refusals++;
}

/**
 * Builds the arguments of an rsync.
 * @param extra options that come after the user's
 * @param source what is copied, all of the source if not given
 * @param words the options, the user's if not given
 */
export function rsyncArgs(
  host: Host,
  route: Route = {},
  extra: readonly string[] = [],
  source = host.config.SOURCE_DIR,
  words: readonly string[] = host.plan.words,
): string[] {
  const before = [...(host.peer.isCoarse ? [] : [TO_THE_NANOSECOND]), ...defaultsFor(host)];
  return [...before, ...words, ...extra, ...wayTo(host, route), '--', source, destinationOf(host)];
}

/** How long an rsync may take to reach a daemon, seconds. */
const CONNECT_S = 15;

/** Lists what holds unless the user's options say otherwise: a daemon's greeting to people would be in the log with each change. */
const defaultsFor = (host: Host) => (isDaemon(host) ? ['--no-motd', `--contimeout=${CONNECT_S}`] : []);

/** Says to rsync how it gets to the backup. */
function wayTo(host: Host, route: Route): string[] {
  if (!isDaemon(host)) return ['-e', rshFor(host, route)];
  const { RSYNC_PASSWORD_FILE: password } = host.config;
  return password ? [`--password-file=${password}`] : [];
}

/** Says to rsync what ssh it gets to the backup by. */
const rshFor = (host: Host, route: Route) => ['ssh', ...sshArgs(host, route)].map(quoteForRsh).join(' ');

/**
 * Builds the arguments of an rsync that fetches.
 * @param from places on the backup @param to a directory of ours
 */
export function fetchArgs(
  host: Host,
  route: Route,
  words: readonly string[],
  { from: [first = '', ...more], to }: { from: string[]; to: string },
): string[] {
  const others = more.map((place) => (isDaemon(host) ? `::${place}` : `:${place}`));
  const places = [destinationOf({ ...host, directory: first }), ...others];
  return [TO_THE_NANOSECOND, ...defaultsFor(host), ...words, ...wayTo(host, route), '--', ...places, to];
}

/** What ssh says where the ssh or the program has ended that it connects through; of why, it says nothing. */
const PROXY_ENDED = /\bUNKNOWN port 65535\b/;
const AFTERMATH = /^((kex|ssh)_exchange_identification:|stdio forwarding failed|.*\bUNKNOWN port 65535\b)/;

/** Whether it was not ssh itself that has failed, but what it connects through. */
export const hasProxyFailed = (said: string) => PROXY_ENDED.test(said.slice(said.trimEnd().lastIndexOf('\n') + 1)); // a jump host may have its ssh print anything before

/** Finds in what ssh says why it could not connect, '' where it says nothing. */
export function reasonOfSsh(said: string): string {
  if (!hasProxyFailed(said)) return lastLine(said);
  const lines = said.split(/\r?\n/).filter((line) => !AFTERMATH.test(line));
  return t`经由跳板机或 ProxyCommand 连接失败：${lastLine(lines.join('\n')) || lastLine(said)}`;
}

/** Says why a try to log in has failed, '' where nothing says it. */
export const reasonOfLogin = (host: Host, said: string) => (isDaemon(host) ? reasonOfDaemon(said) : reasonOfSsh(said));

/** How long a login may take that works, ms. */
const LOGIN_MS = 60_000;

/** How a login went; why it failed is what was said last on `stderr`. */
type Login = Pick<Awaited<ReturnType<typeof run>>, 'exitCode' | 'signal' | 'stderr'>;

/**
 * Tries to log in, within so many ms: exit status 0 says that it works. A key that may start nothing but rsync, as rrsync has it,
 * and a shell that says something by itself, which rsync would take for the other rsync, cannot be tried otherwise than by an rsync,
 * nor can a daemon.
 */
export async function tryLogin(host: Host, route: Route, ms = LOGIN_MS): Promise<Login> {
  if (isDaemon(host)) return tryRsync(host, route, ms);
  const login = await runWithin(ms)`ssh ${sshArgs(host, route)} ${loginOf(host)} ${'echo ok'}`;
  const { exitCode, stdout } = login;
  if (exitCode === null || exitCode === UNREACHABLE || (exitCode === 0 && /^ok\r?\n?$/.test(stdout))) return login;
  const rsync = await tryRsync(host, route, ms);
  if (rsync.exitCode === 0 || rsync.exitCode === UNREACHABLE) return rsync;
  return exitCode === 0 ? { exitCode: rsync.exitCode, signal: rsync.signal, stderr: noiseOf(stdout) } : login;
}

/** Says what a shell has said besides the answer. */
function noiseOf(said: string): string {
  const noise = lastLine(said.replace(/ok\s*$/, ''));
  return t`备份端的登录 shell 在执行命令时自己也输出内容（${noise}），rsync 因此无法工作；请让 ~/.bashrc 等文件只在交互登录时输出`;
}

/** Has an rsync look at DEST_DIR that has nothing to send; once more where the other side has to be told less for it. */
async function tryRsync(host: Host, route: Route, ms: number): ReturnType<ReturnType<typeof runWithin>> {
  const { isCoarse } = host.peer;
  const args = rsyncArgs(host, route, ['--dry-run', '--files-from=/dev/null'], '/', host.plan.startWords);
  const result = await runWithin(ms)`rsync ${args}`;
  noteLimits(host, result.stderr);
  return host.peer.isCoarse === isCoarse ? result : tryRsync(host, route, ms);
}

/** How often sshd is looked for while it is waited for, ms. */
const POLL_MS = 200;

/** How servers greet, SSH's perhaps behind other lines (RFC 4253, 4.2). */
const GREETINGS = { ssh: /^SSH-/m, daemon: /^@RSYNCD: /m };
/** How a target greets that is one of these. */
export const greetingOf = (host: Pick<Host, 'daemonPort'>) => GREETINGS[isDaemon(host) ? 'daemon' : 'ssh'];

/** Whether a server greets within that time, ms. */
export async function answersWithin(
  ms: number,
  host: string,
  port: number,
  greeting = GREETINGS.ssh,
): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (performance.now() < deadline) {
    const socket = await greeted(host, port, deadline - performance.now(), greeting);
    socket?.destroy();
    if (socket) return true;
    await sleep(POLL_MS);
  }
  return false;
}

/** How much a server may say before it greets, and with that behind it until it is asked something, characters. */
const MAX_GREETING = 65_536;

/** Tries once: a port that is merely open (a proxy's, say) is not enough. Resolves with the connection, which stands still open. */
export function greeted(host: string, port: number, ms: number, form: RegExp): Promise<Socket | undefined> {
  return new Promise((settle) => {
    const socket = connect({ host, port });
    const done = (isGreeted: boolean) => {
      clearTimeout(timer);
      if (!isGreeted) socket.destroy();
      settle(isGreeted ? socket : undefined);
    };
    const timer = setTimeout(done, Math.min(ms, 2000), false);
    let greeting = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      greeting += chunk;
      if (form.test(greeting)) done(true);
      if (greeting.length > MAX_GREETING) socket.destroy();
    });
    socket.once('error', () => done(false)).once('close', () => done(false));
  });
}
