/**
 * What sshd is told: options that the machine's own configuration may add to but not override.
 *
 *   const lines = serverOptions(config, 'root', strictModesFor(config.SSH_DIR, 0));
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { withParents } from '../service/files.ts';
import { warn } from '../service/log.ts';
import { run } from '../service/processes.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { HISTORY_VARIABLE } from './history-door.ts';
import { MARK_VARIABLE, PromotionMark } from './promotion-mark.ts';
import { refusedBy } from './receiver-options.ts';

export const HOST_KEY_TYPES = ['rsa', 'ecdsa', 'ed25519'] as const;
/** Names the file of the private half of one of the keys that sshd is known by. */
export const hostKeyFile = (config: Config, type: string) => join(config.HOST_KEY_DIR, `ssh_host_${type}_key`);

/** The machine's own configuration: it may add to ours, a banner for example. */
const MACHINE_CONFIG = '/etc/ssh/sshd_config';

/** Writes a word of sshd's configuration. */
export const configWord = (word: string) => `"${word.replaceAll('\\', '\\\\')}"`;

/** What sessions and the service know each other by. */
export interface SessionFiles {
  /** The socket that takes the reports of sessions. */
  reports: string;
  /** The file that lets them in. */
  admission: string;
}

/**
 * Lists what a session finds in its environment. By SHLVL bash sees that it need not run ~/.bashrc, which may print into
 * the transfer or take its time; rsync is then the one that the start has found.
 */
function sessionVariables(config: Config, { reports, admission }: SessionFiles): string[] {
  const { DEST_DIR, REFUSE_OPTIONS, HISTORY_DAYS, LOG_LANG } = config;
  const { PATH = '' } = process.env;
  const path = /^[^"\p{Cc}]+$/u.test(PATH) ? [`PATH=${PATH}`] : [];
  const ours = [`START_SSHD_REPORTS=${reports}`, `START_SSHD_ADMISSION=${admission}`];
  const refused = refusedBy(REFUSE_OPTIONS).join(' ');
  const history = HISTORY_DAYS > 0 ? [`${HISTORY_VARIABLE}=${HISTORY_DAYS}`] : [];
  return [
    'SHLVL=1',
    ...(LOG_LANG === 'zh' ? [] : [`LOG_LANG=${LOG_LANG}`]),
    ...path,
    ...history,
    `DEST_DIR=${DEST_DIR}`,
    ...(refused ? [`REFUSE_OPTIONS=${refused}`] : []),
    `${MARK_VARIABLE}=${new PromotionMark(config).file}`,
    ...ours,
  ];
}

/**
 * Lists what a session may do. It stands in a Match block that comes first, which no other Match block can override.
 */
export function sessionOptions(config: Config, user: string, files: SessionFiles): string[] {
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
    `SetEnv ${sessionVariables(config, files).map(configWord).join(' ')}`,
    'AcceptEnv NONE', // a name that nobody sends: an empty list could be added to
    'ForceCommand none', // the one in authorized_keys counts
    'ChrootDirectory none',
  ];
}

/** How long a login may take, seconds. */
export const LOGIN_SECONDS = 20;
/** How many may be logging in at a time; from half of that on, every second one more is turned away. */
export const MAX_STRANGERS = 120;
/**
 * Options that an sshd may not know yet, by the release that brought them.
 *
 * Since OpenSSH 8.5: how many of those may come from one address, for IPv6 from one network, so that one alone locks nobody out. After a
 * restart all sources come at once, and fifty of them may share an address (NAT): who is turned away tries again within seconds.
 *
 * Since 9.8, sshd shuts out for minutes an address from which some have failed to log in, or have only looked whether it is there: one source
 * whose key is not in force yet would lock out all others at its address. Nobody guesses a key, and what strangers cost is limited above.
 */
export const SOMETIMES_KNOWN = [['PerSourceMaxStartups 30', 'PerSourceNetBlockSize 32:64'], ['PerSourcePenalties no']];

/** Lists what holds before anybody has logged in. PAM works for root only, and lets a root without a password in by key. */
export function serverOptions(config: Config, user: string, strictModes: 'yes' | 'no'): string[] {
  return [
    ...HOST_KEY_TYPES.map((type) => `HostKey ${configWord(hostKeyFile(config, type))}`),
    ...(config.SSHD_LISTEN ? [`ListenAddress ${config.SSHD_LISTEN}`] : []),
    `StrictModes ${strictModes}`,
    `UsePAM ${user === 'root' ? 'yes' : 'no'}`,
    'PermitUserEnvironment no',
    'PidFile none',
    'LogLevel INFO',
    `LoginGraceTime ${LOGIN_SECONDS}`,
    `MaxStartups ${MAX_STRANGERS / 2}:50:${MAX_STRANGERS}`,
    'ClientAliveInterval 10', // a source that is silent for 30 s is cut; OpenSSH 9.2 takes twice as long
    'ClientAliveCountMax 2',
    'KexAlgorithms -diffie-hellman-group1-*,diffie-hellman-group14-*,diffie-hellman-group-exchange-*,ecdh-sha2-*',
    'Ciphers -3des*,*-cbc,arcfour*',
    'MACs -*md5*,*sha1*,umac-64*,hmac-sha2-256,hmac-sha2-512,umac-128@openssh.com',
    'HostKeyAlgorithms -ssh-rsa*,ssh-dss*',
    'PubkeyAcceptedKeyTypes -ssh-rsa*,ssh-dss*',
  ];
}

/**
 * Says whether sshd shall check that nobody else can replace the keys in a directory: `no` only where all that it would
 * object to is a directory with the sticky bit, such as /tmp, in which nobody can replace what is not theirs.
 */
export function strictModesFor(directory: string, uid: number): 'yes' | 'no' {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const all = withParents(realpathSync(directory)).map((path) => statSync(path || '/'));
    const writable = all.filter(({ mode }) => (mode & 0o022) !== 0);
    const isSafe =
      all.every((s) => s.uid === 0 || s.uid === uid) && writable.every(({ mode }) => (mode & 0o1000) !== 0);
    return writable.length > 0 && isSafe ? 'no' : 'yes';
  } catch {
    return 'yes'; // why it cannot be made is told when the key is to be written
  }
}

/**
 * Asks sshd what it makes of its configuration, in its own words, one option a line.
 * @throws {Failure} where it is none
 */
async function effectiveOptions(command: string[], user: string): Promise<string[]> {
  const check = await run`${command} -T -C ${`user=${user},host=localhost,addr=127.0.0.1`}`;
  if (check.exitCode === 0) return check.stdout.trim().split('\n');
  const lines = check.stderr.trim().split(/\r?\n/).map(escapeText);
  throw new Failure([t`sshd 配置无效：`, ...lines].join('\n'));
}

/** Whether sshd takes its configuration. */
export const isAccepted = async (command: string[]) => (await run`${command} -t`).exitCode === 0;

/** Finds the name of an option in a line of sshd's configuration, as `sshd -T` writes it. */
const nameOf = (line: string) => line.replace(/ .*/, '').toLowerCase();

/**
 * Checks a configuration of ours, and lets that of the machine add to it, unless it would change what ours settles or
 * where sshd listens.
 * @param file holds it
 * @param ours its options
 * @param command runs sshd by it
 * @throws {Failure} where sshd does not take it
 */
export async function includeMachineConfig(
  file: string,
  ours: string[],
  command: string[],
  user: string,
): Promise<void> {
  const own = await effectiveOptions(command, user);
  if (!existsSync(MACHINE_CONFIG)) return;
  const settled = [...ours, 'Port', 'ListenAddress'].map(nameOf);
  const content = readFileSync(file, 'utf8');
  writeFileSync(file, `${content}Include ${MACHINE_CONFIG}\n`);
  try {
    const others = (await effectiveOptions(command, user)).filter((line) => !own.includes(line));
    const changed = others.filter((line) => settled.includes(nameOf(line)));
    if (changed.length > 0) throw new Failure(t`它会放宽 start-sshd 的设置：${escapeText(changed.join(t`、`))}`);
  } catch (cause) {
    writeFileSync(file, content);
    for (const line of reasonOf(cause).split('\n')) warn('sshd.config_ignored', t`未采用 ${MACHINE_CONFIG}：${line}`);
  }
}
