/**
 * Has the backup rename what was renamed in the source, so that it need not be sent once more.
 *
 *   const renames = new RemoteRenames({ host, state, connection, errands, prefix: '/' });
 *   await renames.repeat(moves, attempt);
 */
import { once } from 'node:events';
import { quote } from 'shlex';
import { limit, start, tailOf } from '../service/processes.ts';
import { lastLine, t } from '../service/text.ts';
import { type Host, loginOf } from './config.ts';
import type { Connection } from './connection.ts';
import type { Errands } from './errands.ts';
import { saysPromoted } from './faults.ts';
import type { Move } from './moves.ts';
import { sshArgs, UNREACHABLE } from './ssh.ts';
import { ENDED_MS, Standstill } from './standstill.ts';
import type { TargetState } from './target-state.ts';

/** What stands for the exit status of an ssh that was ended: the other side says too much, or takes too long. */
const EXCESSIVE = 1;

/** What came of it: ssh's exit status, how many renames could be done, and the last words of the other side. */
interface Answer {
  status: number;
  renamed: number;
  said: string;
}

/** What is needed to ask. */
interface Parts {
  host: Host;
  state: Pick<TargetState, 'log' | 'warn' | 'stalledSince' | 'voice'>;
  connection: Pick<Connection, 'findRoute'>;
  /** What waits at the backup for such orders, where it does. */
  errands: Pick<Errands, 'isReady' | 'ask'>;
  /** What stands before a path of the source in the backup, with a slash before it. */
  prefix: string;
}

/** The exit status of a shell that does not find a command; not every one says so in its last line. */
const NOT_FOUND = 127;

export class RemoteRenames {
  /** Whether the backup knows how to rename, as far as it has been asked. */
  private isKnown = true;

  constructor(private readonly parts: Parts) {}

  /** Has the next ones asked for again: the backup may be another one. */
  reset(): void {
    this.isKnown = true;
  }

  /**
   * Has the backup rename what was renamed here. Whatever comes of it, the batch then mirrors both places.
   * `attempt` holds the renames that the backup could not be asked for, also where this throws. Resolves with whether all were done.
   */
  async repeat(moves: Move[], attempt: { unrepeated: Move[] }): Promise<boolean> {
    const { host, state } = this.parts;
    if (moves.length === 0 || !host.plan.mayRename || !this.isKnown) return false;
    attempt.unrepeated = moves;
    const { status, renamed, said } = await this.ask(moves);
    if (status === UNREACHABLE || saysPromoted(said)) return false;
    attempt.unrepeated = [];
    if (status !== 0) {
      this.isKnown = false;
      state.log('sync.rename_refused', t`目标不支持重命名 (${said})，移动的内容将再次传输`);
    } else if (renamed > 0 && state.voice.remarks('sync.renamed')) {
      state.log('sync.renamed', t`已在目标上重命名 ${renamed} 项，无需再次传输`, { renamed });
    }
    return status === 0 && renamed === moves.length;
  }

  /** Asks what waits at the backup. */
  private async ask(moves: Move[]): Promise<Answer> {
    const { errands, prefix } = this.parts;
    if (!errands.isReady) return this.askAnew(moves);
    const orders = moves.flatMap(({ from, to }) => [`r${prefix.slice(1)}${from}`, `${prefix.slice(1)}${to}`]);
    const answer = await errands.ask(orders, 0);
    return { status: answer ? 0 : UNREACHABLE, renamed: answer?.renamed ?? 0, said: '' };
  }

  /** Asks a start-sshd on the backup that is started for it. */
  private async askAnew(moves: Move[]): Promise<Answer> {
    const { host, state, connection, prefix } = this.parts;
    const command = `start-sshd --rename ${quote(host.directory)}`;
    const ssh = start('ssh', [...sshArgs(host, connection.findRoute()), loginOf(host), command], {});
    const names = moves.flatMap(({ from, to }) => [from, to]).map((path) => `${prefix.slice(1)}${path}\0`);
    ssh.stdin?.end(names.join(''), 'latin1');
    const [renamed, said] = [tailOf(ssh.stdout), tailOf(ssh.stderr)];
    let excess: string | undefined;
    const told = (why: string) => {
      excess = why;
    };
    limit(ssh, { ms: ENDED_MS, told });
    using _ = new Standstill(ssh, { state, isPrompt: true });
    const [code] = await once(ssh, 'close');
    if (code === NOT_FOUND) return { status: code, renamed: 0, said: t`备份端没有 start-sshd` };
    if (excess) return { status: EXCESSIVE, renamed: 0, said: excess };
    return { status: code ?? UNREACHABLE, renamed: Number(renamed()), said: lastLine(said()) };
  }
}
