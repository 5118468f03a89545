/**
 * The duty of the first process of a container, which is given all that others leave behind: without an init (docker run
 * without --init, a pod of Kubernetes) that is this program, and what it does not reap stays in the table of processes.
 *
 *   reapOrphans();
 */
import { readFileSync } from 'node:fs';
import { children, startedBy } from './processes.ts';

/** How often it is looked for processes that have ended, ms. One that has ended is reaped at the second look. */
const LOOK_MS = 2000;

/** Reaps from now on what has ended and was started by a process that has ended before it, if that falls to us. */
export function reapOrphans(): void {
  if (process.pid !== 1) return;
  let seen: number[] = [];
  setInterval(async () => {
    const dead = startedBy(process.pid).filter((pid) => isDead(pid) && !isOwn(pid)); // Bun waits for what it has started itself
    const [old, fresh] = [dead.filter((pid) => seen.includes(pid)), dead.filter((pid) => !seen.includes(pid))];
    seen = fresh;
    for (const pid of old) await reap(pid);
  }, LOOK_MS).unref();
}

const isOwn = (pid: number) => [...children].some((child) => child.pid === pid);

/** Whether a process has ended and nobody has asked for its exit status (proc(5), stat). */
function isDead(pid: number): boolean {
  try {
    return /\) Z [^)]*$/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false; // it is gone altogether
  }
}

/** Takes the exit status of a process that has ended: waitpid(2). */
async function reap(pid: number): Promise<void> {
  const { cFunctions } = await import('./libc.ts'); // only the first process of a container needs it
  const NO_HANG = 1;
  cFunctions({ waitpid: { args: ['i32', 'ptr', 'i32'], returns: 'i32' } })?.waitpid(pid, null, NO_HANG);
}
