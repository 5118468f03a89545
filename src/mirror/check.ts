/**
 * The check before anything is done: the variables, the programs that are needed, and what rsync and ssh say of their options.
 *
 *   const { config, hosts } = await checkConfig();
 */
import { isAbsolute, join } from 'node:path';
import { run } from '../service/processes.ts';
import { escapeText, Failure, lastLine, reasonOf, t } from '../service/text.ts';
import { missingUser } from '../service/user.ts';
import { type Mistake, missingPrograms, mistake, refuseMistakes } from '../service/variables.ts';
import { type Config, type Host, hostsOf, isDaemon, loginOf, nameOf, variables } from './config.ts';
import { readEnvironment } from './environment.ts';
import { parseWords } from './options.ts';
import { knownSettings, sshArgs } from './ssh.ts';

/** The programs that are needed, and the packages that they come in. */
const PROGRAMS = {
  rsync: 'rsync',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  inotifywait: 'inotify-tools',
};

/** Where a target answers. */
interface Address {
  host: string;
  port: number;
  /** Reached through another host or program, so that a TCP connection of our own says nothing. */
  proxied: boolean;
  /** The host or hosts that it is reached through, as `-J` names them, '' if none are. */
  jump: string;
}

/** A target as it is to be reached. */
export interface LocatedHost extends Host {
  readonly address: Address;
}

/**
 * Checks everything before anything is done.
 * @throws {Failure} with all that is wrong
 */
export async function checkConfig(): Promise<{ config: Config; hosts: LocatedHost[] }> {
  const { config, isRight, mistakes } = readEnvironment(process.env);
  const strangers = missingUser();
  const locating = locate(config); // at the same time as what is asked below, for each answer takes its time
  locating.catch(() => {}); // it is awaited once it is known whether anything is wrong
  const refused = await Promise.all([
    isRight('RSYNC_OPTS') ? refusedByRsync(config.RSYNC_OPTS, mistakes.length === 0 ? hostsOf(config) : []) : [],
    isRight('SSH_OPTS') && strangers.length === 0 ? refusedBySsh(config.SSH_OPTS) : [],
  ]);
  const missing = [...missingPrograms(PROGRAMS, Bun.which), ...strangers];
  refuseMistakes(variables, [...mistakes, ...refused.flat()], missing);
  const hosts = await locating;
  if (hosts.some(isDaemon)) process.env.RSYNC_PASSWORD ??= ''; // or rsync would ask for it, and take the first name for the answer
  const nested = mistakesInPlaces(hosts);
  if (nested.length > 0) throw new Failure(nested.join('\n'), 2);
  return { config, hosts };
}

/** Finds out where the targets are, and what ssh knows besides. @throws {Failure} */
async function locate(config: Config): Promise<LocatedHost[]> {
  const hosts = hostsOf(config);
  const settings = hosts.every(isDaemon) ? [] : knownSettings();
  const [sshSettings, ...addresses] = await Promise.all([settings, ...hosts.map(resolveAddress)]);
  return hosts.map((host, n) => ({ ...host, sshSettings, address: addresses[n] as Address }));
}

/** A host that nobody names. */
const STAND_IN = 'target.invalid';
/** How an rsync ends whose options leave nothing to be mirrored, are wrong, or name a file that cannot be read. */
const NOT_BEGUN = [0, 1, 2, 3, 4, 11];

/** Finds what rsync refuses of the options for all targets, or else of those that are a target's own. */
async function refusedByRsync(options: string, hosts: readonly Host[]): Promise<Mistake[]> {
  if (!Bun.which('rsync')) return [];
  const why = await rsyncComplaint(options, hosts.length > 0 && hosts.every(isDaemon));
  if (why) return [mistake('RSYNC_OPTS', options, why)];
  const others = hosts.filter(({ own }) => own);
  const complaints = others.map(async (host) => {
    const { config, given } = host;
    const complaint = await rsyncComplaint(config.RSYNC_OPTS, isDaemon(host));
    return complaint ? [mistake('DEST_RSYNC_OPTS', config.DEST_RSYNC_OPTS, `${escapeText(given)} ${complaint}`)] : [];
  });
  return (await Promise.all(complaints)).flat();
}

/** What has rsync go as far as it does before it would connect, by ssh or to a daemon: what it would connect with is a program that only fails. */
const NO_SSH = ['-e', 'false', '--', '/', `${STAND_IN}:/`];
const NO_DAEMON = ['--', '/', `rsync://${STAND_IN}/module/`];
const NO_WAY = 'RSYNC_CONNECT_PROG=false';

/** Says what rsync refuses of options: some only together, or only then. */
async function rsyncComplaint(options: string, isForDaemon: boolean): Promise<string | undefined> {
  // Otherwise it would write into the user's log, or a batch.
  const ours = ['--log-file=/dev/null', '--dry-run', ...(isForDaemon ? NO_DAEMON : NO_SSH)];
  const { exitCode, stderr } = await run`env ${NO_WAY} rsync ${parseWords(options)} ${ours}`;
  if (!NOT_BEGUN.includes(exitCode ?? 0)) return undefined;
  const [reason = ''] = stderr.trim().split('\n');
  return exitCode === 0 ? t`rsync 不传输任何内容就结束` : t`rsync 不接受这些选项：${escapeText(reason)}`;
}

/** Asks ssh what it makes of its options: words that are no options, and options that leave no way to run rsync, are refused too. */
async function refusedBySsh(options: string): Promise<Mistake[]> {
  if (!Bun.which('ssh')) return [];
  const { exitCode, stdout, stderr } = await run`ssh -G ${parseWords(options)} ${STAND_IN}`;
  const reason = sshComplaint(exitCode ?? 255, stdout, stderr);
  return reason ? [mistake('SSH_OPTS', options, reason)] : [];
}

/** Says what is wrong with options by what ssh makes of them, nothing where they are right. */
function sshComplaint(status: number, settings: string, said: string): string | undefined {
  if (status !== 0) return t`ssh 不接受这些选项：${lastLine(said)}`;
  if (!/^hostname /m.test(settings)) return t`不能包含只显示信息的选项，例如 -V`;
  if (!new RegExp(`^host ${STAND_IN}$`, 'm').test(settings)) return t`只能包含选项，例如 -p 2222`;
  if (/^(sessiontype (none|subsystem)|forkafterauthentication yes|stdinnull yes)$/m.test(settings))
    return t`不能包含 -N、-s、-f 或 -n，否则无法运行 rsync`;
  return undefined;
}

/** Asks ssh where its options and its configuration files lead, unless that is said. @throws {Failure} */
async function resolveAddress(host: Host): Promise<Address> {
  if (host.daemonPort !== undefined) return { host: host.host, port: host.daemonPort, proxied: false, jump: '' };
  const result = await run`ssh -G ${sshArgs(host)} ${loginOf(host)}`;
  if (result.exitCode !== 0) throw new Failure(t`无法确定目标主机的地址：${reasonOf(result)}`);
  const setting = (name: string) => new RegExp(`^${name} (.*)$`, 'm').exec(result.stdout)?.[1];
  const [command, jump] = ['proxycommand', 'proxyjump'].map((way) => (setting(way) ?? 'none').replace(/^none$/, ''));
  const [real, port] = [setting('hostname') ?? host.host, Number(setting('port'))];
  return { host: real, port, proxied: !!(command || jump), jump: jump ?? '' };
}

/** Says where a mirror is kept: what lies in it begins with the same. */
function placeOf({ user, directory, address: { host, port }, daemonPort }: LocatedHost): string {
  if (daemonPort !== undefined) return join(`rsync:${host}:${port}`, directory, '/');
  const path = isAbsolute(directory) ? directory : join('~', user, directory.replace(/^~(\/|$)/, ''));
  return join(`${host}:${port}`, path, '/');
}

/** Finds mirrors of which one lies in the other: they would undo each other's work. */
function mistakesInPlaces(hosts: LocatedHost[]): string[] {
  return hosts.flatMap((host, n) => {
    const place = placeOf(host);
    const isNested = (it: string) => it.startsWith(place) || place.startsWith(it);
    const other = hosts.slice(0, n).find((it) => isNested(placeOf(it)));
    if (!other) return [];
    return [t`配置错误: DEST_HOSTS 中的 ${nameOf(other)} 和 ${nameOf(host)} 相同或互相包含，两份镜像会互相破坏`];
  });
}
