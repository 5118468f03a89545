/**
 * What inotifywait tells, as values.
 *
 *   parseEvent('0|CREATE,ISDIR|/data/source/new'); // { kind: 'create', isDirectory: true, path: '/data/source/new', … }
 */

/** The events that are asked for, by their names in inotify(7). */
export const KINDS = [
  ...(['create', 'modify', 'delete', 'moved_to', 'close_write'] as const),
  ...(['moved_from', 'attrib', 'delete_self', 'move_self', 'unmount', 'q_overflow'] as const),
];
export type Kind = (typeof KINDS)[number];

/** Their names as inotifywait prints them. */
export const WATCHED_EVENTS = KINDS.map((kind) => kind.toUpperCase());

export interface Event {
  kind: Kind;
  isDirectory: boolean;
  /** As inotifywait names it, bytes in a latin1 string. */
  path: string;
  /** The kernel's number of a rename, which both halves of it share. */
  cookie: string;
  /** All its names as inotifywait prints them, `CREATE,ISDIR`. */
  names: string;
  /** Whether the path is not whole. */
  isCut?: boolean;
}

/**
 * What inotifywait is to print of an event, a NUL behind it and one before it: it cuts off what is too long for it, with what
 * stands behind it.
 */
export const FORMAT = '%0%c|%e|%w%f%0';
/** How long a record may be that was not cut off, bytes: inotifywait prints 4095 with both NULs (inotifytools_snprintf). */
const MAX_RECORD = 4093;

/** Reads one record of that form; nothing where it holds no event that was asked for. */
export function parseEvent(record: string): Event | undefined {
  const [, cookie = '', names = '', path = ''] = /^([^|]*)\|([^|]*)\|(.*)$/s.exec(record) ?? [];
  const words = names.split(',');
  const kind = KINDS.find((known) => words.includes(known.toUpperCase()));
  if (!kind) return undefined;
  const event = { kind, isDirectory: words.includes('ISDIR'), path, cookie, names };
  return record.length > MAX_RECORD ? { ...event, isCut: true } : event;
}
