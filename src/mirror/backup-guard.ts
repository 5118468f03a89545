/**
 * Watches whether a target is still what was compared as a whole: another start of start-sshd, another boot or another
 * directory may lack what was mirrored before, so that everything is compared at once. One that has taken over receives nothing, and is
 * asked now and then whether that is so still.
 *
 *   const guard = new BackupGuard({ host, state, connection, remembered, compareAll }, askBackup);
 */
import type { EventEmitter } from 'node:events';
import { quote } from 'shlex';
import { lifecycle } from '../service/lifecycle.ts';
import { exitStatus, limit, start, tailOf } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { t } from '../service/text.ts';
import { type Host, isDaemon, loginOf } from './config.ts';
import type { Connection } from './connection.ts';
import { saysPromoted } from './faults.ts';
import type { Outcome } from './rsync.ts';
import { sshArgs, tryLogin, UNREACHABLE } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How long the backup may take to say what it is, ms. */
const PATIENCE_MS = 10_000;
/** How often a backup that does not say it is compared at most because its connection was lost, ms. */
const UNKNOWN_MS = 300_000;
/** How often one that has taken over is asked whether it receives again, ms. */
const ASK_AGAIN_MS = 60_000;
/** What stands for the answer of a backup that has taken over, and for none because nobody could be asked. */
export const [PROMOTED, UNASKED] = ['promoted', 'unasked'];
/** An answer of start-sshd: what start, which boot and what directory it is. */
const ANSWER = /^\{"start":"([\w-]{1,64})","boot":"([\w-]{1,64})","directory":"([\w:./ -]{1,200})"\}\n?$/;

/** What start-sshd says beside that, and did not say before: how many days it keeps older versions. */
const HISTORY = /^start-sshd: history (\d{1,6})$/m;

/** What a guard works with. */
interface Parts {
  host: Host;
  state: TargetState;
  connection: EventEmitter & Pick<Connection, 'findRoute'>;
  /** What was remembered of the target, and how it is remembered from now on. */
  remembered: { backup: string | undefined };
  save: () => void;
  /** Has all of the source compared at once. */
  compareAll: () => void;
}

export class BackupGuard {
  /** What the backup said when it was asked last; nothing where it does not know how to. */
  private identity: string | undefined;
  private asking: Promise<unknown> = Promise.resolve();
  private askedAt = Number.POSITIVE_INFINITY;
  /** When a backup that says nothing was compared last because its connection was lost, ms on the clock of `performance.now()`. */
  private comparedAt = Number.NEGATIVE_INFINITY;
  private isLost = false;
  private waiting: NodeJS.Timeout | undefined;
  /** The next time that a backup that has taken over is asked. */
  private next: NodeJS.Timeout | undefined;

  /** @param ask asks the backup what it is: `askBackup`, but for a daemon, which says nothing */
  constructor(
    private readonly parts: Parts,
    private readonly ask: typeof askBackup,
  ) {
    const { connection, state } = parts;
    connection.on('lost', () => {
      this.isLost = true;
    });
    connection.on('connected', () => this.begin());
    state.on('promoted', () => this.askAgain());
    state.on('synced', ({ mode, kind }: Outcome) => {
      const { comparedAt } = state;
      if (mode === 'full' && kind === 'done') lifecycle.background(this.asking.then(() => this.note(comparedAt)));
    });
  }

  private begin(): void {
    this.asking = this.examine();
    lifecycle.background(this.asking);
  }

  private askAgain(): void {
    clearTimeout(this.next);
    this.next = setTimeout(() => this.begin(), ASK_AGAIN_MS).unref();
  }

  /** Asks what the backup is, over a connection that has just been made, or because it has taken over. */
  private async examine(): Promise<void> {
    const { host, connection, remembered, state } = this.parts;
    const wasLost = this.isLost;
    this.isLost = false;
    this.askedAt = performance.now();
    const isAwaited = !state.mirrored; // everything is about to be compared, perhaps sooner than this is answered
    const said = await this.ask(host, connection, (days) => this.noteHistory(days));
    this.identity = said === PROMOTED || said === UNASKED ? undefined : said;
    if (said === PROMOTED || state.isPromoted) return this.followPromotion(said);
    if (isAwaited) return;
    if (this.identity === undefined) {
      if (wasLost) this.compareUnknown();
    } else if (this.identity !== remembered.backup) this.compare(t`已重新启动，或目标目录已更换`);
  }

  /** Notes how many days the backup keeps older versions, nothing where it does not say. */
  private noteHistory(days: number | undefined): void {
    this.parts.state.historyDays = days;
    touch();
  }

  /** Notes whether the backup has taken over; once it receives again, it may hold what is newer, and all is compared with care. */
  private followPromotion(said: string | undefined): void {
    const { state, compareAll } = this.parts;
    if (said === PROMOTED) state.promote();
    if (said === PROMOTED || said === UNASKED) {
      this.askAgain();
      return;
    }
    clearTimeout(this.next);
    compareAll();
    state.demote();
  }

  /** Has a backup that says nothing compared, though not more often than UNKNOWN_MS. */
  private compareUnknown(): void {
    const rest = this.comparedAt + UNKNOWN_MS - performance.now();
    if (rest > 0) {
      this.waiting ??= setTimeout(() => {
        this.waiting = undefined;
        this.compareUnknown();
      }, rest).unref();
      return;
    }
    this.comparedAt = performance.now();
    this.compare(t`的连接曾经中断，无法得知它是否已更换`);
  }

  private compare(why: string): void {
    this.parts.state.warn('backup.changed', t`备份端${why}，立即进行一次全量比较`);
    this.parts.compareAll();
  }

  /** Remembers what was compared as a whole, if it was asked what it is before that began. */
  private note(comparedAt: number): void {
    const { remembered, save } = this.parts;
    if (comparedAt < this.askedAt) return;
    if (this.identity === undefined || this.identity === remembered.backup) return;
    remembered.backup = this.identity;
    save();
  }
}

type Route = Pick<Connection, 'findRoute'>;

/**
 * Asks start-sshd on the backup what it is; nothing where something else is there, or it does not answer in time.
 * @param hear is told for how many days it keeps older versions, nothing where it does not say
 */
export async function askBackup(
  host: Host,
  connection: Route,
  hear: (days: number | undefined) => void = () => {},
): Promise<string | undefined> {
  const { status, said, complaint } = await consult(host, connection, `start-sshd --identify ${quote(host.directory)}`);
  const [, days] = HISTORY.exec(complaint) ?? [];
  if (status === 0) hear(days === undefined ? undefined : Number(days));
  if (status === 0) return ANSWER.exec(said)?.slice(1).join(' ');
  if (saysPromoted(complaint)) return PROMOTED;
  return status > 128 ? UNASKED : undefined; // ssh could not connect, or was ended
}

/** How start-sshd begins what it says of a command that it does not run, whose exit status is 1 then. */
const REFUSED = /^start-sshd: /m;

/**
 * Tries to log in, and where the source has a name, whether it is let into its directory: the backup knows a key by its former name for up to
 * a second after that was changed. Exit status 0 says that it works.
 */
export async function tryEntrance(host: Host, connection: Route): ReturnType<typeof tryLogin> {
  const login = await tryLogin(host, connection.findRoute());
  if (login.exitCode !== 0 || !host.config.SOURCE_NAME || isDaemon(host)) return login;
  const { status, complaint } = await consult(host, connection, `start-sshd --identify ${quote(host.directory)}`);
  const isRefused = status === 1 && REFUSED.test(complaint) && !saysPromoted(complaint);
  return isRefused ? { exitCode: status, signal: null, stderr: complaint } : login;
}

/** Has the backup run a command, and tells the end of what it says; nothing where it refuses, fails or does not answer in time. */
export async function askRemote(host: Host, connection: Route, command: string): Promise<string | undefined> {
  const { status, said } = await consult(host, connection, command);
  return status === 0 ? said : undefined;
}

/** Has the backup run a command; tells the ends of what it says, and ssh's exit status. */
async function consult(host: Host, connection: Route, command: string) {
  try {
    const args = [...sshArgs(host, connection.findRoute()), loginOf(host), command];
    const ssh = start('ssh', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const [said, complaint] = [tailOf(ssh.stdout), tailOf(ssh.stderr)];
    limit(ssh, { ms: PATIENCE_MS });
    return { status: await exitStatus(ssh), said: said(), complaint: complaint() };
  } catch {
    return { status: UNREACHABLE, said: '', complaint: '' }; // nothing is known any more of the host's keys, for example
  }
}
