/**
 * How many connections there may be: a key that has logged in may open as many as it will, and each costs memory.
 *
 *   const crowd = new Crowd(sshd);
 *   crowd.inspect(performance.now()); // again and again
 */
import { warn } from '../service/log.ts';
import { t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { about, fieldsOf } from './doors.ts';
import type { Sshd } from './sshd.ts';
import { LOGIN_SECONDS, MAX_STRANGERS } from './sshd-options.ts';

/**
 * How many connections of a key there may be. A source needs one for each directory that it mirrors into, one more for moments where it
 * tries to log in or compares, and after a cable was cut the one before for another minute: 32 are enough for ten directories.
 */
export const MAX_CONNECTIONS = 32;
/** Whoever is there for so long has logged in, ms. */
const LOGGED_IN_MS = (LOGIN_SECONDS + 5) * 1000;
/** How often this is told an hour. */
const MAX_TOLD = 10;

export class Crowd {
  /** Since when the connections are known, ms. */
  private since = new Map<number, number>();
  /** By the names of sources: what is told of one hides nothing of another. */
  private readonly ceilings = new Map<string, Ceiling>();

  /** @param names the names of sources by the fingerprints of their keys: each may have so many, and so may those of whom nothing is known */
  constructor(
    private readonly sshd: Pick<Sshd, 'connections' | 'commandsOf' | 'end' | 'owned'>,
    private readonly names: () => ReadonlyMap<string, string> = () => new Map(),
  ) {}

  /**
   * Ends connections that are too many. Those of strangers, who have not logged in, do not take a place from the source; sshd limits them
   * by itself.
   * @param now ms on the clock of `performance.now()`
   */
  inspect(now: number): void {
    const connections = this.sshd.connections();
    this.since = new Map(connections.map((pid) => [pid, this.since.get(pid) ?? now]));
    const names = this.names();
    const owned: ReadonlyMap<number, string> = names.size > 0 ? this.sshd.owned() : new Map();
    const nameOf = (pid: number) => names.get(owned.get(pid) ?? '') ?? '';
    for (const name of names.values()) {
      const own = connections.filter((pid) => nameOf(pid) === name);
      if (own.length > MAX_CONNECTIONS) this.endSome(own, own.length - MAX_CONNECTIONS, name);
    }
    this.inspectUnknown(
      connections.filter((pid) => !nameOf(pid)),
      now,
    );
  }

  private inspectUnknown(connections: number[], now: number): void {
    if (connections.length <= MAX_CONNECTIONS) return;
    const old = connections.filter((pid) => now - (this.since.get(pid) ?? now) >= LOGGED_IN_MS);
    const isOver = old.length > MAX_CONNECTIONS;
    const excess = isOver ? old.length - MAX_CONNECTIONS : connections.length - MAX_CONNECTIONS - MAX_STRANGERS;
    if (excess > 0) this.endSome(isOver ? old : connections, excess);
  }

  /** Ends those first over which nothing runs, then the youngest. @param connections the oldest first */
  private endSome(connections: number[], excess: number, name = ''): void {
    const young = connections.toReversed();
    const isIdle = (pid: number) => this.sshd.commandsOf(pid).length === 0;
    const [idle, busy] = [young.filter(isIdle), young.filter((pid) => !isIdle(pid))];
    const sessions = this.sshd.end([...idle, ...busy].slice(0, excess));
    const turn = this.ceilingOf(name).count();
    const what = t`连接多达 ${connections.length} 个，超过上限 ${MAX_CONNECTIONS} 个，已断开其中 ${sessions} 个`;
    if (turn !== 'omitted')
      warn('sshd.crowded', about(name, turn === 'last' ? `${what}${LAST}` : what), { sessions, ...fieldsOf(name) });
  }

  private ceilingOf(name: string): Ceiling {
    const ceiling = this.ceilings.get(name) ?? new Ceiling(about(name, t`因连接过多而断开连接`), MAX_TOLD);
    this.ceilings.set(name, ceiling);
    return ceiling;
  }
}
