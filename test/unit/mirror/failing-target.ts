/** A target in the memory that fails when rsync would see what is poison for it, and the whole way of a change to it. */
import { EventEmitter } from 'node:events';
import { type Batch, TREE } from '../../../src/mirror/changes.ts';
import { type Fault, Faults } from '../../../src/mirror/faults.ts';
import { Recovery } from '../../../src/mirror/recovery.ts';
import type { Outcome } from '../../../src/mirror/rsync.ts';
import { Target } from '../../../src/mirror/target.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { withParents } from '../../../src/service/files.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { event, neverPaused, nothingBeside, outcome, statsOf } from './stand-ins.ts';

/** What is wrong with a path: rsync ends without a name, cannot read it, cannot write it, or has no room for it. */
export type Poison = 'unnamed' | 'reading' | 'content' | 'room';

/** Says how an rsync ends that has met with these. */
const STATUS: Record<Poison, number> = { unnamed: 13, reading: 23, content: 23, room: 11 };
const CODES: Record<Poison, number | undefined> = { unnamed: undefined, reading: 13, content: 5, room: 28 };

export interface Entry {
  /** Nothing for a directory. */
  content?: string;
  size?: number;
}

/** Paths are added with all directories above them. */
export class FailingTarget {
  readonly source = new Map<string, Entry>([['', {}]]);
  readonly backup = new Map<string, Entry>([['', {}]]);
  readonly poison = new Map<string, Poison>();
  /** How many bytes a file may have that there is room for. */
  room = Number.POSITIVE_INFINITY;
  syncs = 0;
  /** How many faults rsync names at most, so that it is known that there are more. */
  named = 1000;
  isReachable = true;
  isOver = false;
  onSync = () => {};
  answers = true;
  /** Whether every sync fails, whatever is in it. */
  isBroken = false;
  seconds = 0.01;
  readonly state = new TargetState('backup', false);
  readonly connection = Object.assign(new EventEmitter(), { socket: '/run/ssh/1' as string | undefined });
  readonly target: Target;
  readonly recovery: Recovery;

  constructor({ mayLimitSize = true, mayDivide = true, FULL_SYNC_INTERVAL = 0 } = {}) {
    const { state, connection } = this;
    this.recovery = new Recovery({
      ...{ state, look: this.look, mayLimitSize, mayDivide, interval: FULL_SYNC_INTERVAL },
      list: (path) =>
        [...this.source.keys()]
          .filter((it) => it !== '' && (withParents(it)[1] ?? '') === path)
          .map((it) => ({
            name: it.slice(path === '' ? 0 : path.length + 1),
            isDirectory: () => this.isDirectory(it),
          })),
      isReadable: (path) => this.source.has(path) && this.poison.get(path) !== 'reading',
      isUnknown: () => false,
      sender: { answers: async () => this.isReachable && this.answers },
      wake: () => state.changes.emit('arrived'),
    });
    const sender = {
      send: async (batch: Batch, ceiling?: number) => this.sync(batch, ceiling),
      arm: () => {},
      answers: async () => true,
    };
    const parts = { state, connection, sender, recovery: this.recovery, doubts: { paths: [], since: undefined } };
    this.target = new Target(
      { SYNC_INTERVAL: 0, FULL_SYNC_INTERVAL, MAX_RETRIES: 0 },
      { ...parts, beside: nothingBeside, pause: neverPaused, announcer: { closeBatch: () => 0 } },
    );
  }

  readonly look = (path: string) => {
    const found = this.source.get(path);
    if (!found) return undefined;
    return statsOf({ type: found.content === undefined ? 'directory' : 'file', size: found.size ?? 1 });
  };

  private isDirectory(path: string): boolean {
    return this.source.get(path)?.content === undefined;
  }

  /** Has a file in the source. */
  write(path: string, content: string, size = 1): void {
    for (const parent of withParents(path).slice(1).reverse()) {
      if (this.source.has(parent)) continue;
      this.source.set(parent, {});
      this.note(parent, 'create', true);
      this.state.changes.add(new Map([[parent, TREE]])); // in doubt until it is watched
    }
    const kind = this.source.has(path) ? 'close_write' : 'create';
    this.source.set(path, { content, size });
    this.note(path, kind, false);
    this.note(path, 'close_write', false);
  }

  /** Deletes a path with all below it, and tells of all of it. */
  remove(path: string): void {
    for (const it of [...this.source.keys()]
      .filter((other) => other === path || other.startsWith(`${path}/`))
      .reverse()) {
      const isDirectory = this.isDirectory(it);
      this.source.delete(it);
      this.note(it, 'delete', isDirectory);
    }
  }

  /** Moves a path with all below it. */
  move(from: string, to: string): void {
    const isDirectory = this.isDirectory(from);
    for (const [path, entry] of [...this.source])
      if (path === from || path.startsWith(`${from}/`)) {
        this.source.delete(path);
        this.source.set(to + path.slice(from.length), entry);
        const poison = this.poison.get(path);
        if (poison) this.poison.set(to + path.slice(from.length), poison);
      }
    this.note(from, 'moved_from', isDirectory);
    this.note(to, 'moved_to', isDirectory);
    this.state.departures.arrive(from, to);
    this.state.unmirrored.move(from, to);
    if (isDirectory) this.state.changes.add(new Map([[to, TREE]]));
  }

  private note(
    path: string,
    kind: 'create' | 'close_write' | 'delete' | 'moved_from' | 'moved_to',
    isDirectory: boolean,
  ): void {
    this.state.note(path, event(kind, { isDirectory }), kind === 'create' ? undefined : this.look(path));
  }

  /** Begins with a comparison of all, and sends what comes. */
  run(): void {
    const work = async () => {
      this.target.begin(await this.target.send());
      for await (const { batch } of this.target.batches())
        await this.target.settle(batch, await this.target.send(batch));
      this.isOver = true;
    };
    lifecycle.background(work());
  }

  /** Does what an rsync does: it walks from the root down, and ends at the first thing at which it must. */
  private sync(batch: Batch, ceiling = Number.POSITIVE_INFINITY): Outcome {
    this.syncs++;
    this.onSync();
    if (!this.isReachable) return outcome({ kind: 'unreachable', status: 255, seconds: this.seconds });
    const seen = this.seenBy(batch);
    const faults = new Faults((told) => told);
    const list: Fault[] = [];
    const leftOut: string[] = [];
    const mode = batch.get('')?.tree ? ('full' as const) : ('incremental' as const);
    const result = { mode, seconds: this.seconds, ...(ceiling === Number.POSITIVE_INFINITY ? {} : { leftOut }) };
    const end = (status: number) => {
      const kind = status === 0 ? ('done' as const) : status === 23 ? ('partial' as const) : ('failed' as const);
      const named = ['reading', 'content'].flatMap((it) =>
        list.filter((fault) => fault.kind === it).slice(0, this.named),
      );
      Object.defineProperty(faults, 'list', { value: named });
      faults.isComplete = list.length === named.length;
      return outcome({ ...result, kind, status, faults });
    };
    if (this.isBroken || seen.some((path) => this.poison.get(path) === 'unnamed')) return end(13);
    let isUnread = false;
    const skipped: string[] = [];
    for (const path of seen) {
      const entry = this.source.get(path);
      if (!entry || skipped.some((it) => path.startsWith(`${it}/`))) continue;
      const { size = 0 } = entry;
      const poison = this.poison.get(path) ?? (size > this.room ? 'room' : undefined);
      if (entry.content !== undefined && size > ceiling) {
        if (this.backup.get(path)?.content !== entry.content) leftOut.push(path);
        continue;
      }
      if (poison) {
        list.push({ path, kind: poison === 'reading' ? 'reading' : 'content', text: poison, code: CODES[poison] });
        if (STATUS[poison] !== 23) return end(STATUS[poison]);
        isUnread ||= poison === 'reading';
        if (entry.content === undefined) skipped.push(path);
        continue;
      }
      const old = this.backup.get(path);
      if (old && (old.content === undefined) !== (entry.content === undefined)) this.wipe(path);
      this.backup.set(path, { ...entry });
    }
    if (!isUnread) this.deleteFor(batch);
    return end(list.length > 0 ? 23 : 0);
  }

  private wipe(path: string): void {
    for (const it of [...this.backup.keys()]) if (it === path || it.startsWith(`${path}/`)) this.backup.delete(it);
  }

  /** Lists what rsync looks at for a batch, a directory before what is in it. */
  private seenBy(batch: Batch): string[] {
    const { unmirrored } = this.state;
    const isIn = (path: string) => batch.has(path) || withParents(path).some((it) => batch.get(it)?.tree);
    const paths = [...this.source.keys()].filter((path) => isIn(path) && !unmirrored.isHidden(path));
    const above = paths.flatMap((path) => withParents(path).slice(1)).filter((path) => this.source.has(path));
    return [...new Set([...above, ...paths])].sort();
  }

  private deleteFor(batch: Batch): void {
    const { unmirrored } = this.state;
    // The first component that is missing in the source, as `Source.survey` does it.
    const missing = [...batch.keys()].filter((path) => !this.source.has(path) && !unmirrored.isHidden(path));
    const reached = new Set(missing.map((path) => withParents(path).findLast((it) => !this.source.has(it))));
    const isIn = (path: string) => withParents(path).some((it) => reached.has(it) || batch.get(it)?.tree);
    const keeps = (path: string) => [...this.backup.keys()].some((it) => it.startsWith(`${path}/`));
    for (const path of [...this.backup.keys()].sort().reverse())
      if (!this.source.has(path) && isIn(path) && !unmirrored.isHidden(path) && !keeps(path)) this.backup.delete(path);
  }

  /** What the source and the backup have that the other has not, but for these paths and all below them. */
  differences(but: Iterable<string> = []): string[] {
    const excepted = new Set(but);
    const isExcepted = (path: string) => withParents(path).some((it) => excepted.has(it));
    const text = (tree: Map<string, Entry>) =>
      [...tree].filter(([path]) => !isExcepted(path)).map(([path, { content = '/' }]) => `${path}=${content}`);
    const [source, backup] = [new Set(text(this.source)), new Set(text(this.backup))];
    return [...source.symmetricDifference(backup)].sort();
  }

  /** Whether nothing is left to be done. */
  get isIdle(): boolean {
    const { state } = this;
    return state.pending === 0 && state.unmirrored.size === 0;
  }
}
