/**
 * Tends the older versions in DEST_DIR/.history: names what a session has kept that has ended, puts back what a source has moved there,
 * removes what is too old, and thins out the rest. It is a process of its own, which a disk that hangs may hold up, and it can be ended at
 * any time: what is left to do is seen by the next one.
 *
 *   start-sshd --tend-history '{"days":30,"time":…,"stamp":…,"since":…,"isToCount":true}' // prints an Outcome
 */
import { type BigIntStats, realpathSync, renameSync, unlinkSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { fence } from './confinement.ts';
import { Held, type Met, removeEmpty, removeTree, walkTree } from './held-tree.ts';
import { noteLost } from './history-door.ts';
import {
  baseOf,
  DAY_MS,
  entryOf,
  HISTORY,
  MARK,
  MOVES,
  type Moment,
  nameOf,
  RECOVERED,
  type Slot,
  slotOf,
} from './history-names.ts';
import { goneOf } from './history-sessions.ts';

/** What starts it. */
export const TEND = '--tend-history';

export interface Orders extends Moment {
  /** How many days versions are kept. */
  days: number;
  /** When it was thinned out last, by the clock that versions age by; null where that is not to be done now. */
  since: number | null;
  /** Whether all is to be counted. */
  isToCount: boolean;
}

/** What was found and done. Amounts are differences, unless all was counted. */
export interface Outcome {
  versions: number;
  bytes: number;
  /** How many versions a source had moved, and were put back. */
  disturbed: number;
  /** What else is there that is none of ours. */
  foreign: string[];
  /** Why something could not be done. */
  failure: string;
  /** When something was made or named there last, before what is open was listed. */
  changed: string;
  /** What sessions keep that run. */
  open: string[];
}

/** What a session has kept that has ended. */
interface Kept extends Moment {
  name: string;
}

/** A slot that something is in. */
interface Filled extends Slot {
  sessions: number;
  /** Whether something in it was in no such slot when they were thinned out last. */
  isDue: boolean;
}

const keyOf = ({ from, to }: Slot) => `${from} ${to}`;

/** How many files of a slot are remembered while it is thinned out, and in how many parts it is done where there are more. */
const MAX_REMEMBERED = 300_000;
const PARTS = 4;
/** How many sessions are listed at a time. */
const MAX_LISTED = 200_000;
/** After how many entries it waits, and for how long, ms: the mirror goes first. */
const [BREATH, BREATH_MS] = [64, 1];
const MAX_FOREIGN = 5;

const roomOf = ({ blocks }: BigIntStats) => Number(blocks) * 512;

export class Tender {
  private readonly outcome: Outcome = {
    ...{ versions: 0, bytes: 0, disturbed: 0, foreign: [], failure: '', changed: '', open: [] },
  };
  private breath = 0;

  constructor(
    private readonly history: Held,
    private readonly orders: Orders,
    private readonly mayRest = true,
    private readonly most = { remembered: MAX_REMEMBERED, listed: MAX_LISTED },
  ) {}

  /** @param gone the names of what sessions have kept that have ended */
  tend(gone: readonly string[]): Outcome {
    for (const name of gone) this.attempt(() => this.settle(name));
    this.outcome.changed = String(this.history.statusOf('.')?.mtimeNs ?? '');
    this.attempt(() => this.thin(this.survey()));
    if (this.orders.isToCount) this.count();
    return this.outcome;
  }

  private attempt(work: () => void): void {
    try {
      work();
    } catch (cause) {
      this.outcome.failure = (cause as NodeJS.ErrnoException).code ?? String(cause);
    }
  }

  /** Lists what sessions have kept that have ended, in no order. There may be millions, of which none is remembered here. @param others is told of what else is there */
  private *kept(others: (name: string) => void = () => {}): Generator<Kept> {
    for (const name of this.history.entries()) {
      const entry = entryOf(name);
      if (entry?.kind !== 'kept') others(name);
      const isBeside = name.endsWith(MOVES) && this.history.statusOf(baseOf(name)); // a journal by itself counts, too
      if (entry?.kind === 'kept' && !isBeside) yield { ...entry, name: baseOf(name) };
    }
  }

  /** Lists all there is: removes what is too old, and finds what is none of ours, what is still kept on, and the slots of all else. */
  private survey(): Filled[] {
    const slots = new Map<string, Filled>();
    const isOurs = (name: string) => name === MARK || name === RECOVERED;
    const note = (name: string) => {
      const { foreign, open } = this.outcome;
      if (entryOf(name)) open.push(name);
      else if (!isOurs(name) && foreign.length < MAX_FOREIGN) foreign.push(name);
    };
    for (const { name, time, stamp } of this.kept(note)) {
      if (this.orders.stamp - stamp > this.orders.days * DAY_MS) this.attempt(() => this.expire(name, time));
      else this.fill(slots, stamp);
    }
    return [...slots.values()];
  }

  private rest(): void {
    if (this.mayRest && ++this.breath % BREATH === 0) Bun.sleepSync(BREATH_MS);
  }

  private add(status: BigIntStats, sign: 1 | -1): void {
    this.outcome.versions += sign;
    this.outcome.bytes += sign * roomOf(status);
  }

  // ── What sessions have kept ────────────────────────────────────────────────────────────────────

  /** Gives what a session has kept the name of its time. */
  private settle(name: string): void {
    const { history } = this;
    this.putBack(name);
    if (removeEmpty(history, name)) return;
    const status = history.statusOf(name);
    if (status?.size === 0n && name.endsWith(MOVES)) unlinkSync(history.at(name));
    else this.dub(name);
  }

  private dub(name: string): void {
    const { history } = this;
    const to = this.freeName(name);
    renameSync(history.at(name), history.at(to));
    using place = history.find(to);
    if (place) walkTree(place, (met) => met.status.isDirectory() || this.add(met.status, 1));
  }

  /** Finds a name for this time that is not there. A journal gets one of its own. */
  private freeName(name: string): string {
    const ending = name.endsWith(MOVES) ? MOVES : '';
    const plain = nameOf(this.orders);
    for (let turn = 1; ; turn++) {
      const free = (turn > 1 ? `${plain}-${turn}` : plain) + ending;
      if (!this.history.statusOf(free)) return free;
    }
  }

  /** Puts back what a session has moved from among the versions: with its own rsync, a source can have it write there. */
  private putBack(name: string): void {
    using place = this.history.find(name);
    using moved = place?.find(HISTORY);
    if (!place || !moved) return;
    walkTree(
      moved,
      (met) => {
        const [first = ''] = met.path.split('/');
        if (met.status.isDirectory() || !(entryOf(first) || first === MARK)) return;
        if (this.putBackOne(met.place.at(met.name), met.path, met.status)) this.outcome.disturbed++;
      },
      (met) => removeEmpty(met.place, met.name),
    );
    removeEmpty(place, HISTORY);
  }

  /** Puts one version back, unless an older file is in its place. */
  private putBackOne(from: Buffer, path: string, { birthtimeNs }: BigIntStats): boolean {
    const end = path.lastIndexOf('/') + 1;
    try {
      using place = this.history.make(path.slice(0, end));
      const there = place.statusOf(path.slice(end));
      if (there && (there.isDirectory() || there.birthtimeNs <= birthtimeNs)) return false;
      renameSync(from, place.at(path.slice(end)));
      return true;
    } catch {
      return false; // what is in the way was put there by a source
    }
  }

  // ── What goes ──────────────────────────────────────────────────────────────────────────────────

  private expire(name: string, time: number): void {
    noteLost(this.history.at(MARK), time);
    for (const it of [name, name + MOVES])
      removeTree(this.history, it, (status) => {
        this.rest();
        if (it === name) this.add(status, -1);
      });
  }

  /** Counts a session for its slot. */
  private fill(slots: Map<string, Filled>, stamp: number): void {
    const { since, stamp: now } = this.orders;
    const slot = slotOf(stamp, now);
    if (since === null || !slot) return;
    const filled = slots.get(keyOf(slot)) ?? { ...slot, sessions: 0, isDue: false };
    slots.set(keyOf(slot), filled);
    const before = slotOf(stamp, since);
    filled.sessions++;
    filled.isDue ||= !before || keyOf(before) !== keyOf(slot);
  }

  /** Keeps the oldest version of each file in each slot. Slots that were thinned out before and in which nothing has changed are left alone. */
  private thin(slots: readonly Filled[]): void {
    let [group, listed]: [Filled[], number] = [[], 0];
    for (const slot of slots.filter(({ sessions, isDue }) => isDue && sessions > 1)) {
      if (listed + slot.sessions > this.most.listed) {
        this.thinSlots(group);
        [group, listed] = [[], 0];
      }
      group.push(slot);
      listed += slot.sessions;
    }
    this.thinSlots(group);
  }

  private thinSlots(slots: readonly Filled[]): void {
    const [first] = slots;
    if (!first) return;
    const isLarge = first.sessions > this.most.listed; // and alone
    if (isLarge) this.attempt(() => this.thinSlot(() => this.sessionsIn(first)));
    else for (const list of this.listed(slots).values()) this.attempt(() => this.thinSlot(() => list));
  }

  /** Lists what was kept in slots from some time to another one, the oldest first. */
  private listed(
    slots: readonly Slot[],
    from = Number.NEGATIVE_INFINITY,
    to = Number.POSITIVE_INFINITY,
  ): Map<string, Kept[]> {
    const lists = new Map(slots.map((slot): [string, Kept[]] => [keyOf(slot), []]));
    for (const it of this.kept()) {
      const slot = slotOf(it.stamp, this.orders.stamp);
      if (slot && it.stamp >= from && it.stamp < to) lists.get(keyOf(slot))?.push(it);
    }
    for (const list of lists.values()) list.sort((a, b) => a.stamp - b.stamp || (a.name < b.name ? -1 : 1));
    return lists;
  }

  /** Lists what was kept in a slot, the oldest first: one part of its time after the other. */
  private *sessionsIn(slot: Filled): Generator<Kept> {
    const length = (slot.to - slot.from) / Math.ceil(slot.sessions / this.most.listed);
    for (let from = slot.from; from < slot.to; from += length)
      for (const list of this.listed([slot], from, Math.min(from + length, slot.to)).values()) yield* list;
  }

  /** Thins a slot out, or one of so many parts of what is in it, in parts of its own where there is too much in it. */
  private thinSlot(slot: () => Iterable<Kept>, part = 0, parts = 1): void {
    const first = new Map<number, string>();
    let isTooMuch = false;
    const visit = (met: Met, name: string) => {
      this.rest();
      const key = Number(BigInt.asUintN(53, BigInt(Bun.hash(Buffer.from(met.path, 'latin1')))));
      if (met.status.isDirectory() || key % parts !== part) return;
      const former = first.get(key);
      if (former !== undefined) this.drop(met, former);
      else if (first.size < this.most.remembered) first.set(key, name);
      else isTooMuch = true;
    };
    for (const { name } of slot()) {
      using top = this.history.find(name);
      if (!top) continue;
      walkTree(
        top,
        (met) => visit(met, name),
        (met) => removeEmpty(met.place, met.name),
      );
      removeEmpty(this.history, name);
    }
    if (isTooMuch) for (let n = 0; n < PARTS; n++) this.thinSlot(slot, part + n * parts, parts * PARTS);
  }

  /** Removes a version of which an older one is there. */
  private drop({ place, name, path, status }: Met, former: string): void {
    if (!this.hasVersion(former, path)) return;
    unlinkSync(place.at(name));
    this.add(status, -1);
  }

  private hasVersion(name: string, path: string): boolean {
    const end = path.lastIndexOf('/') + 1;
    using place = this.history.find(`${name}/${path.slice(0, end)}`);
    const status = place?.statusOf(path.slice(end));
    return status !== undefined && !status.isDirectory();
  }

  private count(): void {
    const total = this.outcome;
    [total.versions, total.bytes] = [0, 0];
    for (const { name } of this.kept()) {
      using top = this.history.find(name);
      if (!top) continue;
      walkTree(top, ({ status }) => {
        this.rest();
        if (status.isDirectory()) return;
        total.versions++;
        total.bytes += roomOf(status);
      });
    }
  }
}

/** Does what the service orders, and prints what came of it. */
export function tendHistory(orders: string): Outcome {
  setPriority(19);
  const root = realpathSync(process.env.DEST_DIR ?? '');
  const path = Buffer.from(join(root, HISTORY)).toString('latin1');
  using history = Held.open(path);
  const gone = goneOf(history.entries());
  const moved = sinceThen(JSON.parse(orders));
  fence(root); // the source may put links there
  return new Tender(history, moved).tend(gone);
}

/** Has orders go by the time that it is now: what sessions have kept was kept before it was seen that they have ended, and not before they were given. */
export function sinceThen(orders: Orders, now = Date.now()): Orders {
  const passed = Math.max(0, now - orders.time);
  return { ...orders, time: orders.time + passed, stamp: orders.stamp + passed };
}
