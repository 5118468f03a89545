/**
 * Names in DEST_DIR/.history: a directory for each process that has replaced or removed something, `20261128T180354.123Z` once that has
 * ended, `now-4711-83120` before; beside it, where something was renamed, a journal with `.moves` behind that name.
 *
 *   nameOf({ time: Date.now(), stamp: Date.now() }); // '20261128T180354.123Z'
 *   entryOf('20261128T180354.123Z-2'); // { kind: 'kept', time: 1795889034123, stamp: 1795889034123 }
 */

/** Where older versions are, below DEST_DIR. */
export const HISTORY = '.history';
/** What marks it as ours: a source may have a directory of this name, too. */
export const MARK = '.start-sshd';
/** Where trees may be that somebody has recovered, so that the source can fetch them: nothing that the source does reaches them there. */
export const RECOVERED = 'recovered';
/** Ends the name of a journal of renames. */
export const MOVES = '.moves';

/** When something was kept, ms since 1970. */
export interface Moment {
  /** By the clock of this machine as it was then. */
  time: number;
  /** By the clock that versions age by: it is the same unless that of the machine has jumped. */
  stamp: number;
}

export type Entry = ({ kind: 'kept' } & Moment) | { kind: 'open'; isDone: boolean; pid: number; start: string };

const KEPT = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.(\d{3})Z(?:~(-?\d{1,15}))?(?:-\d{1,9})?$/;
const OPEN = /^(now|done)-(\d{1,10})-(\d{1,20})(?:-\d{1,9})*$/;

/** Names what was kept by a process that has ended. */
export function nameOf({ time, stamp }: Moment): string {
  const lag = Math.round(stamp - time);
  return new Date(time).toISOString().replace(/[-:]/g, '') + (lag === 0 ? '' : `~${lag}`);
}

/** Names what is kept by a process that runs. @param start when it was started, as proc(5) tells it */
export const openNameOf = (pid: number, start: string) => `now-${pid}-${start}`;

/** Names what was kept by a process that runs on and will keep nothing more under that name. */
export const doneNameOf = (name: string, turn: number) =>
  `${baseOf(name).replace(/^now-/, 'done-')}-${turn}${name.endsWith(MOVES) ? MOVES : ''}`;

/** Says what a name stands for, that of a journal among them; nothing for one that is none of ours. */
export function entryOf(name: string): Entry | undefined {
  const plain = baseOf(name);
  const [, word, pid, start = ''] = OPEN.exec(plain) ?? [];
  if (word) return { kind: 'open', isDone: word === 'done', pid: Number(pid), start };
  const [isKept, year, month, day, hour, minute, second, ms, lag = '0'] = KEPT.exec(plain) ?? [];
  const time = isKept ? Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${ms}Z`) : Number.NaN;
  return Number.isNaN(time) ? undefined : { kind: 'kept', time, stamp: time + Number(lag) };
}

/** Takes from the name of a journal that of the directory that it belongs to. */
export const baseOf = (name: string) => (name.endsWith(MOVES) ? name.slice(0, -MOVES.length) : name);

/** Whether a directory with these entries is ours: an empty one may become that. */
export const isOurs = (names: readonly string[]) =>
  names.includes(MARK) || names.every((name) => name === RECOVERED || entryOf(name));

// ── Which versions are kept ──────────────────────────────────────────────────────────────────────

const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

/** A span of time of which the oldest version of each file is kept, ms since 1970. */
export interface Slot {
  from: number;
  to: number;
}

/** Finds the slot of what was kept at a time; none for the last hour, of which all is kept, hours for the last day, then days. */
export function slotOf(stamp: number, now: number): Slot | undefined {
  const age = now - stamp;
  if (age < HOUR_MS) return undefined;
  const length = age < DAY_MS ? HOUR_MS : DAY_MS;
  const from = Math.floor(stamp / length) * length;
  return { from, to: from + length };
}
