/**
 * The changes that wait for the next sync of a target: a map from paths to what is known of them.
 *
 *   const changes = new Changes();
 *   changes.note('web/index.html', event, undefined, false);
 *   if (changes.wait(latest, patience) <= 0) send(changes.take(patience));
 */
import { EventEmitter } from 'node:events';
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';
import type { Event, Kind } from './events.ts';

/** How many paths wait at most, so that memory stays bounded while the backup is away; beyond, the whole tree is compared. */
export const MAX_PENDING = 100_000;
/** How long nothing shall have changed before a batch starts, so that files written together go together, ms. */
const QUIET_MS = 3;
/** How long the first half of a rename waits for the other one, which may be read a little later (inotify(7)), ms. */
const HALF_MS = 30;

/** What is known of a path that waits. */
export interface Change {
  /** The event that it had last, nothing where none has named it. */
  kind: Kind | undefined;
  isDirectory: boolean;
  /** When it was first seen, ms on the clock of `performance.now()`; 0 is not known, infinity that nobody waits for it. */
  since: number;
  /** A file that is being written: it waits until it is closed. */
  open: boolean;
  /** A directory that is new, moved or in doubt: all below it counts as changed. */
  tree: boolean;
  /** A file that was made while it waited, so that no older name of it can be in the tree. */
  fresh: boolean;
  /** A file that was changed under this name and may have others, which get no event. */
  shared: boolean;
  /** Something that may have taken the place of another thing. */
  replaced: boolean;
  /** What was there before was changed under this name and may have others. */
  hidden: boolean;
  /** Up to which time of a file, or of one below, size and time do not say what it holds (`Dating`), ms since 1970; 0 where they do. */
  dated: number;
  /** When an event has named it last, ms on the clock of `performance.now()`; 0 where none has. */
  at: number;
  /** When it came into being while the target surely had nothing of that name (`Unsent`); 0 where it may have had. */
  born: number;
}

/** Changed paths below the source, as bytes in latin1 strings; '' is the source itself. */
export type Batch = Map<string, Change>;

export const UNKNOWN: Change = {
  ...{ kind: undefined, isDirectory: false, since: 0, open: false, tree: false },
  ...{ fresh: false, shared: false, replaced: false, hidden: false, dated: 0, at: 0, born: 0 },
};
export const TREE: Change = { ...UNKNOWN, tree: true };
/** All of the source. */
export const ALL: Batch = new Map([['', TREE]]);
/** The same, where it stands for the changes of a batch. */
export function allFor(batch: Batch): Batch {
  const oldest = oldestOf(batch);
  return new Map([['', { ...TREE, since: Number.isFinite(oldest) ? oldest : 0 }]]);
}
/** The same where nothing is known to have changed, so that nobody waits for it. */
export const REGULAR: Batch = new Map([['', { ...TREE, since: Number.POSITIVE_INFINITY }]]);

/**
 * Works out what is known of a path after an event. `replaced` and `hidden` stay once they are true, and `shared` too.
 *
 *   event                      open             fresh            shared        replaced       hidden
 *   of a directory             no               as before        as before     (below)        (below)
 *   create                     a single name    a single name    as before     if lacking     if lacking and shared
 *   moved_to                   no               no               as before     yes            if shared
 *   modify                     yes              as before        unless fresh  as before      as before
 *   attrib                     as before        as before        unless fresh  yes            as before
 *   close_write                no               as before        unless fresh  as before      as before
 *   delete, moved_from, …      no               as before        as before     as before      as before
 *
 * @param found what is there now, for `create`; only a file with a single name is closed by who made it
 * @param isLacking whether an earlier change of this path has not been mirrored yet
 */
export function changeAfter(
  { kind, isDirectory }: Pick<Event, 'kind' | 'isDirectory'>,
  known: Change,
  found: Stats | undefined,
  isLacking: boolean,
): Change {
  const isOther = kind === 'moved_to' || (kind === 'create' && isLacking);
  const mayHaveOldTime = kind === 'attrib' && !isDirectory; // its time may have been put back after it was written
  const change = { ...known, kind, isDirectory };
  change.replaced ||= isOther || mayHaveOldTime;
  change.hidden ||= isOther && known.shared;
  if (isDirectory) return { ...change, open: false };
  if (kind === 'create') {
    const isSingle = found?.isFile() === true && found.nlink === 1;
    return { ...change, open: isSingle, fresh: isSingle };
  }
  change.open = kind === 'modify' || (kind === 'attrib' && known.open);
  change.fresh &&= kind !== 'moved_to';
  const isChanged = kind === 'modify' || kind === 'attrib' || kind === 'close_write';
  change.shared ||= isChanged && !change.fresh;
  return change;
}

/**
 * Whether what a file holds may have changed since the target was sent it. What was tried before, or was renamed, does not tell any more
 * what its last event under that name was.
 */
export const isWritten = ({ kind, shared }: Change) =>
  kind === 'modify' || kind === 'close_write' || (shared && (kind === undefined || kind === 'moved_to'));

/** Emits `arrived` with each change. */
export class Changes extends EventEmitter {
  waiting: Batch = new Map();
  private closed = 0;
  /** When it has been quiet for long enough, unless more comes, ms on the clock. */
  private quiet = 0;

  /** @param now the clock, ms */
  constructor(private readonly now = () => performance.now()) {
    super();
  }

  get size(): number {
    return this.waiting.size;
  }

  /**
   * Notes an event; returns whether it does not merely repeat itself.
   * @param isLacking whether an earlier change of this path, which does not wait any more, is not mirrored yet
   * @param dated up to which time of a file size and time do not say what it holds, ms since 1970
   * @param born when it came into being, if the target surely had nothing of that name
   */
  note(path: string, event: Event, found: Stats | undefined, isLacking: boolean, dated = 0, born = 0): boolean {
    const known = this.waiting.get(path);
    const since = known && Number.isFinite(known.since) ? known.since : 0; // a regular comparison waits for nothing
    const change = changeAfter(event, known ?? UNKNOWN, found, isLacking || !!known);
    change.replaced ||= dated > 0;
    this.set(path, { ...change, since, dated: Math.max(change.dated, dated), at: this.now(), born });
    if (event.kind === 'moved_from') this.quiet += HALF_MS;
    return known?.kind !== event.kind || known.isDirectory !== event.isDirectory;
  }

  /** Moves what is known of the names of a file along with it. */
  rename(from: string, to: string): void {
    const old = this.waiting.get(from);
    const change = this.waiting.get(to);
    if (!old?.shared || !change) return;
    change.shared = true;
    old.shared = false;
  }

  /** Adds changes that no event has named, or that failed before; what is known of a path already is newer. */
  add(batch: Batch): void {
    for (const [path, { tree, shared, replaced, hidden, dated, since }] of batch) {
      const before = this.waiting.get(path) ?? UNKNOWN;
      const flags = {
        tree: tree || before.tree,
        shared: shared || before.shared,
        replaced: replaced || before.replaced,
        hidden: hidden || before.hidden,
        dated: Math.max(dated, before.dated),
        born: 0, // some of it may have been sent
      };
      this.set(path, { ...before, ...flags, since });
    }
  }

  /** Puts back changes that were handed out and not sent; what is known of a path already is newer. */
  restore(batch: Batch): void {
    const unknown = [...batch].filter(([path]) => !this.waiting.has(path));
    this.add(new Map([...batch].filter(([path]) => this.waiting.has(path))));
    for (const [path, change] of unknown) this.set(path, { ...change, born: 0 });
  }

  /** Keeps a change. Beyond a number, all of the source counts as changed: that needs no paths, so memory stays bounded. */
  private set(path: string, change: Change): void {
    const now = this.now();
    this.quiet = now + QUIET_MS;
    if (!this.waiting.has(path) && this.size >= MAX_PENDING) this.gather(change.since || now);
    const known = this.waiting.get(path);
    const since = Math.min(known?.since ?? Number.POSITIVE_INFINITY, change.since || now);
    const dated = Math.max(known?.dated ?? 0, change.dated);
    this.waiting.set(path, { ...change, since, dated });
    this.closed += Number(!change.open) - Number(known ? !known.open : false);
    this.emit('arrived');
  }

  /**
   * Has all of the source stand for what waits: that finds all but what only its content tells, which waits on beside it, unless that is
   * most of it.
   */
  private gather(now: number): void {
    const { dated: known = 0 } = this.waiting.get('') ?? {};
    const since = Math.min(now, oldestOf(this.waiting));
    const dated = [...this.waiting].filter(([path, change]) => path !== '' && change.dated > known);
    const isTooMuch = dated.length > MAX_PENDING / 2;
    const latest = isTooMuch ? dated.reduce((most, [, change]) => Math.max(most, change.dated), 0) : known;
    this.waiting = new Map([['', { ...TREE, since, dated: latest }], ...(isTooMuch ? [] : dated)]);
    this.closed = [...this.waiting.values()].filter(({ open }) => !open).length;
  }

  /**
   * Says how long the next batch waits, ms: for a short quiet, but not beyond `latest`, and for `patience` where all files are open.
   * @param latest ms on the clock
   * @param patience ms
   */
  wait(latest: number, patience: number): number {
    const now = this.now();
    const [oldest] = this.waiting.values();
    const ready = this.closed > 0 || !oldest ? now : oldest.since + patience;
    return Math.max(Math.min(this.quiet, latest), ready) - now;
  }

  /** Hands out what waits, except files that are open and came less than `patience` ago, ms. */
  take(patience: number): Batch {
    this.closed = 0;
    const latest = this.now() - patience;
    const waits = (change: Change) => change.open && change.since > latest;
    const batch = new Map([...this.waiting].filter(([, change]) => !waits(change)));
    this.waiting = new Map([...this.waiting].filter(([, change]) => waits(change)));
    return batch;
  }
}

/** Finds what is known of a path that was not named itself: what holds for all below a directory. */
export function changeIn(batch: Batch, path: string): Change | undefined {
  const change = batch.get(path);
  if (change) return change;
  const above = withParents(path).map((it) => batch.get(it));
  const dated = Math.max(0, ...above.map((it) => it?.dated ?? 0));
  return dated > 0 ? { ...UNKNOWN, dated } : undefined;
}

/** Whether a path, or something that it lies in, is still to be looked at as a whole. */
export function isUnseen(batches: readonly Batch[], path: string): boolean {
  return withParents(path).some((it) => batches.some((batch) => batch.get(it)?.tree));
}

/** Finds when the first change of a batch was seen, infinity where none is known. */
export function oldestOf(batch: Batch): number {
  let oldest = Number.POSITIVE_INFINITY;
  for (const { since } of batch.values()) if (since > 0 && since < oldest) oldest = since;
  return oldest;
}
