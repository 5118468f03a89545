/**
 * Which of the sessions that keep older versions have ended.
 *
 *   goneOf(['now-4711-83120', 'done-4712-83121-1']); // ['done-4712-83121-1'], while process 4711 runs
 */
import { readFileSync } from 'node:fs';
import { type Entry, entryOf } from './history-names.ts';

/** Whether no process runs any more that keeps versions under a name. */
function isGone({ pid, start }: Extract<Entry, { kind: 'open' }>): boolean {
  try {
    const [, now] = /.*\) (?:\S+ ){19}(\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
    if (now === start) return false;
  } catch {}
  try {
    return !process.kill(-pid, 0); // the other half of an rsync whose first one has ended
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code !== 'EPERM';
  }
}

/** Finds the names of what sessions have kept that have ended. */
export function goneOf(names: Iterable<string>): string[] {
  const gone: string[] = [];
  for (const name of names) {
    const entry = entryOf(name);
    if (entry?.kind === 'open' && (entry.isDone || isGone(entry))) gone.push(name);
  }
  return gone;
}
