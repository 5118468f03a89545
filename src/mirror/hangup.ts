/**
 * Whether an rsync that waits for names still has its connection, of which it knows nothing itself: a daemon's `timeout` ends it there.
 *
 *   const watch = new Hangups();
 *   watch.hasHungUp(rsync); // true once it had a connection, and has none any more
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A connection that stands, in proc_net_tcp(5). */
const ESTABLISHED = '01';

export class Hangups {
  /** Those that were seen with one: at first they have none yet. */
  private readonly seen = new WeakSet<ChildProcess>();

  /** Whether the other side has hung up on a process; not where that cannot be told. */
  hasHungUp(program: ChildProcess): boolean {
    const isConnected = hasConnection(program.pid ?? 0);
    if (isConnected) this.seen.add(program);
    return isConnected === false && this.seen.has(program);
  }
}

/** Whether one of the TCP connections of a process stands, nothing where it has just ended. */
function hasConnection(pid: number): boolean | undefined {
  try {
    const own = new Set(socketsOf(pid));
    const tables = ['tcp', 'tcp6'].map((table) => `/proc/${pid}/net/${table}`).filter((table) => existsSync(table));
    return tables.some((table) => standingIn(table).some((inode) => own.has(inode)));
  } catch {
    return undefined;
  }
}

/** Lists the sockets that a process holds, by their inodes. */
function socketsOf(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).flatMap(
    (fd) => /^socket:\[(\d+)\]$/.exec(readlinkSync(`${directory}/${fd}`))?.[1] ?? [],
  );
}

/** Lists the inodes of the connections in a table that stand. */
function standingIn(table: string): string[] {
  const rows = readFileSync(table, 'latin1').split('\n');
  const fields = rows.map((row) => row.trim().split(/\s+/));
  return fields.filter(([, , , state]) => state === ESTABLISHED).map((row) => row[9] ?? '');
}
