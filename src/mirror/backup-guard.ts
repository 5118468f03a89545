/**
 * Watches whether a target is still what was compared as a whole: another start of start-sshd, another boot or another
 * directory may lack what was mirrored before, so that everything is compared at once.
 *
 *   const guard = new BackupGuard({ host, state, connection, remembered, compareAll });
 */
import type { EventEmitter } from 'node:events';
import { quote } from 'shlex';
import { lifecycle } from '../service/lifecycle.ts';
import { exitStatus, limit, start, tailOf } from '../service/processes.ts';
import { type Host, loginOf } from './config.ts';
import type { Connection } from './connection.ts';
import type { Outcome } from './rsync.ts';
import { sshArgs } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How long the backup may take to say what it is, ms. */
const PATIENCE_MS = 10_000;
/** How often a backup that does not say it is compared at most because its connection was lost, ms. */
const UNKNOWN_MS = 300_000;
/** An answer of start-sshd: what start, which boot and what directory it is. */
const ANSWER = /^\{"start":"([\w-]{1,64})","boot":"([\w-]{1,64})","directory":"([\w:./ -]{1,200})"\}\n?$/;

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

  /** @param ask asks the backup what it is; a stand-in serves tests */
  constructor(
    private readonly parts: Parts,
    private readonly ask = askBackup,
  ) {
    const { connection, state } = parts;
    connection.on('lost', () => {
      this.isLost = true;
    });
    connection.on('connected', () => {
      this.asking = this.examine();
      lifecycle.background(this.asking);
    });
    state.on('synced', ({ mode, kind }: Outcome) => {
      const { comparedAt } = state;
      if (mode === 'full' && kind === 'done') lifecycle.background(this.asking.then(() => this.note(comparedAt)));
    });
  }

  /** Asks what the backup is, over a connection that has just been made. */
  private async examine(): Promise<void> {
    const { host, connection, remembered, state } = this.parts;
    const wasLost = this.isLost;
    this.isLost = false;
    this.askedAt = performance.now();
    const isAwaited = !state.mirrored; // everything is about to be compared, perhaps sooner than this is answered
    this.identity = await this.ask(host, connection);
    if (isAwaited) return;
    if (this.identity === undefined) {
      if (wasLost) this.compareUnknown();
    } else if (this.identity !== remembered.backup) this.compare('已重新启动，或目标目录已更换');
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
    this.compare('的连接曾经中断，无法得知它是否已更换');
  }

  private compare(why: string): void {
    this.parts.state.warn('backup.changed', `备份端${why}，立即进行一次全量比较`);
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

/** Asks start-sshd on the backup what it is; nothing where something else is there, or it does not answer in time. */
export async function askBackup(host: Host, connection: Route): Promise<string | undefined> {
  const said = await askRemote(host, connection, `start-sshd --identify ${quote(host.directory)}`);
  return said === undefined ? undefined : ANSWER.exec(said)?.slice(1).join(' ');
}

/** Has the backup run a command, and tells the end of what it says; nothing where it refuses, fails or does not answer in time. */
export async function askRemote(host: Host, connection: Route, command: string): Promise<string | undefined> {
  try {
    const args = [...sshArgs(host, connection.findRoute()), loginOf(host), command];
    const ssh = start('ssh', args, { stdio: ['ignore', 'pipe', 'ignore'] });
    const said = tailOf(ssh.stdout);
    limit(ssh, { ms: PATIENCE_MS });
    return (await exitStatus(ssh)) === 0 ? said() : undefined;
  } catch {
    return undefined; // nothing is known any more of the host's keys, for example
  }
}
