/**
 * Accounts for the processes of a mirror by /proc. The mirror's mark is the path of its ssh control socket. A process
 * belongs to it when it carries the mark in its environment, when it is the ssh behind that socket, which has left its
 * parent and overwritten its environment, or when it descends from such a process.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const MARK = 'RSYNC_INOTIFY_BENCH';
/** Of a second; the kernel shows all times to programs in this unit. */
const TICKS = 100;

export const markedEnv = (mark: string): Record<string, string> => ({ [MARK]: mark });

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return ''; // it has ended
  }
}

/** The fields of proc_pid_stat(5) from the third on: the second, the name, may hold anything. */
const statOf = (pid: number) => {
  const text = read(pid, 'stat');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
};

export function processesOf(mark: string): number[] {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const children = Map.groupBy(all.map(Number), (pid) => Number(statOf(pid)[1]));
  const belongs = (pid: number) =>
    read(pid, 'environ').split('\0').includes(`${MARK}=${mark}`) ||
    read(pid, 'cmdline').startsWith(`ssh: ${mark} [mux]`);
  const found = new Set(all.map(Number).filter(belongs));
  for (const pid of found) for (const child of children.get(pid) ?? []) found.add(child); // a Set grows while it is walked
  return [...found];
}

/** CPU time so far, seconds, with that of the children that have ended. */
export function cpuSeconds(pids: number[]): number {
  const ticks = pids.flatMap((pid) => statOf(pid).slice(11, 15).map(Number));
  return ticks.reduce((sum, each) => sum + each, 0) / TICKS;
}

/** Memory now, MiB: `pss` counts a page that n processes share as 1/n in each, `rss` in full. */
export function memory(pids: number[]): { pss: number; rss: number } {
  const sum = { pss: 0, rss: 0 };
  for (const pid of pids) {
    const rollup = read(pid, 'smaps_rollup');
    sum.pss += Number(/^Pss: +(\d+)/m.exec(rollup)?.[1] ?? 0) / 1024;
    sum.rss += Number(/^Rss: +(\d+)/m.exec(rollup)?.[1] ?? 0) / 1024;
  }
  return sum;
}

/** Waits until no process with one of the marks came, went or worked for `quiet` ms, or for `limit` ms. */
export async function settled(marks: string[], quiet: number, limit: number): Promise<void> {
  const state = () => {
    const pids = marks.flatMap(processesOf);
    return `${pids.sort()} ${cpuSeconds(pids)}`;
  };
  const deadline = performance.now() + limit;
  let last = '';
  while (performance.now() < deadline) {
    const now = state();
    if (now === last) return;
    last = now;
    await sleep(quiet);
  }
}

/** Ends what is still there: first SIGTERM, then SIGKILL. */
export async function endProcesses(mark: string): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const pid of processesOf(mark)) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended this moment
      }
    }
    for (let tries = 0; tries < 100 && processesOf(mark).length > 0; tries++) await sleep(20);
  }
}
