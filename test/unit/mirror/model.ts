/**
 * A source and a backup in memory, between which the real parts of the mirror stand: what inotify would tell of the source goes
 * to a `Watch`, and what these parts ask for is done to the backup.
 */

import type { Stats } from 'node:fs';
import { Announcer } from '../../../src/mirror/announcer.ts';
import { type Batch, UNKNOWN } from '../../../src/mirror/changes.ts';
import { Doubts } from '../../../src/mirror/doubts.ts';
import type { Event, Kind } from '../../../src/mirror/events.ts';
import type { Move } from '../../../src/mirror/moves.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { Unwatched } from '../../../src/mirror/unwatched.ts';
import { Watch } from '../../../src/mirror/watch.ts';
import { parentOf, withParents } from '../../../src/service/files.ts';
import { event, outcome, StandInCoverage, StandInWatcher, standInPlaces, statsOf } from './stand-ins.ts';

interface Thing {
  type: 'file' | 'directory';
  ino: number;
  content: number;
  /** By which rsync knows a content from another one of the same size: its time. */
  stamp: number;
  /** Whether the backup has renamed it to where the source had something else by then, which only the content tells. */
  isMisplaced?: boolean;
}

type Tree = Map<string, Thing>;

const below = (tree: Tree, path: string) => [...tree.keys()].filter((other) => other.startsWith(path && `${path}/`));

/** As rename(2) does it; returns whether it could be done. */
function renameIn(tree: Tree, from: string, to: string): boolean {
  const [thing, other] = [tree.get(from), tree.get(to)];
  if (!thing || from === to || withParents(to).includes(from)) return false;
  if (parentOf(to) !== '' && tree.get(parentOf(to))?.type !== 'directory') return false;
  if (other && (other.type !== thing.type || below(tree, to).length > 0)) return false;
  for (const path of [from, ...below(tree, from)]) {
    const moved = tree.get(path) as Thing;
    tree.delete(path);
    tree.set(to + path.slice(from.length), moved);
  }
  return true;
}

/** How large a file is that is worth a rename. */
const SIZE = 300_000;
/** The time that all files have at the start, and that may be put back. */
const OLD = 0;

export class Model {
  readonly source: Tree = new Map();
  readonly backup: Tree = new Map();
  readonly state = new TargetState('backup', false);
  /** What was handed out, with what the backup had there, and what the source has. */
  readonly moves: { move: Move; had: number | undefined; has: number | undefined }[] = [];
  private last = 1;
  private readonly doubts = new Doubts();
  private readonly watch: Watch;
  private tell: (event: Event) => void = () => {};
  /** What rsync still has to look at: an entry, or with a slash behind it what is directly in a directory, or is gone from there. */
  private flight: string[] | undefined;

  constructor(paths: readonly string[]) {
    for (const path of paths) {
      const type = path.endsWith('/') ? 'directory' : 'file';
      const thing: Thing = { type, ino: ++this.last, content: ++this.last, stamp: OLD };
      this.source.set(path.replace(/\/$/, ''), thing);
      this.backup.set(path.replace(/\/$/, ''), { ...thing });
    }
    this.state.mirrored = true;
    const source = { root: '/source/', check: () => {}, look: (path: string) => this.look(path) };
    const parts = { source, doubts: this.doubts, targets: [this.state], announcer: new Announcer() };
    const [coverage, unwatched] = [new StandInCoverage(), new Unwatched('/source/')];
    this.watch = new Watch({ ...parts, coverage, unwatched, places: standInPlaces }, (tell) => {
      this.tell = tell;
      return new StandInWatcher();
    });
  }

  private look(path: string): Stats | undefined {
    const thing = this.source.get(path);
    return thing && statsOf({ type: thing.type, ino: thing.ino, size: SIZE });
  }

  private happens(kind: Kind, path: string, isDirectory = false, cookie = ''): void {
    this.tell(event(kind, { path: `/source/${path}`, isDirectory, cookie }));
  }

  private holds(path: string): boolean {
    return path === '' || this.source.get(path)?.type === 'directory';
  }

  /** Another watcher takes the place of the one before. */
  async watchAnew(): Promise<void> {
    await this.watch.start();
  }

  makeDirectory(path: string): void {
    if (this.source.has(path) || !this.holds(parentOf(path))) return;
    this.source.set(path, { type: 'directory', ino: ++this.last, content: 0, stamp: OLD });
    this.happens('create', path, true);
  }

  /** Writes a file, which is made where it is not there. @param isTimePutBack whether it gets a time that others have, too */
  write(path: string, isTimePutBack: boolean): void {
    const known = this.source.get(path);
    if (known?.type === 'directory' || !this.holds(parentOf(path))) return;
    const stamp = isTimePutBack ? OLD : ++this.last;
    this.source.set(path, { type: 'file', ino: known?.ino ?? ++this.last, content: ++this.last, stamp });
    if (!known) this.happens('create', path);
    this.happens('modify', path);
    this.happens('close_write', path);
    if (isTimePutBack) this.happens('attrib', path);
  }

  remove(path: string): void {
    const thing = this.source.get(path);
    if (!thing) return;
    for (const inner of below(this.source, path).filter((it) => parentOf(it) === path)) this.remove(inner);
    this.source.delete(path);
    this.happens('delete', path, thing.type === 'directory');
  }

  rename(from: string, to: string): void {
    const isDirectory = this.source.get(from)?.type === 'directory';
    if (!renameIn(this.source, from, to)) return;
    const cookie = `${++this.last}`;
    this.happens('moved_from', from, isDirectory, cookie);
    this.happens('moved_to', to, isDirectory, cookie);
  }

  /** A batch is taken; the backup does the renames, and rsync is told what to look at. */
  begin(): void {
    if (this.flight || this.state.changes.size + this.doubts.size === 0) return;
    const batch = this.state.changes.take(0);
    for (const path of this.doubts.paths) batch.set(path, { ...UNKNOWN, ...batch.get(path), tree: true });
    this.state.begin(batch);
    for (const move of this.state.moves.take((path) => this.look(path), this.state.lacking)) this.repeat(move);
    this.flight = [...this.survey(batch)];
  }

  private repeat(move: Move): void {
    const { from, to } = move;
    this.moves.push({ move, had: this.backup.get(from)?.ino, has: this.source.get(to)?.ino });
    if (!this.backup.has(from)) return;
    this.makeParents(to);
    if (!renameIn(this.backup, from, to)) return;
    for (const path of [to, ...below(this.backup, to)]) {
      const thing = this.backup.get(path) as Thing;
      const due = this.source.get(path);
      thing.isMisplaced = due?.type === 'file' && due.stamp === thing.stamp && due.content !== thing.content;
    }
  }

  private makeParents(path: string): void {
    for (const parent of withParents(parentOf(path)).reverse()) {
      if (parent && !this.backup.has(parent))
        this.backup.set(parent, { type: 'directory', ino: 0, content: 0, stamp: OLD });
    }
  }

  private survey(batch: Batch): Set<string> {
    const names = new Set<string>();
    for (const [path, { tree }] of batch) {
      const missing = [...withParents(path)].reverse().find((it) => it && !this.source.has(it));
      const broken = [...withParents(parentOf(path))].reverse().find((it) => this.source.get(it)?.type === 'file');
      if (broken !== undefined) names.add(broken);
      else if (missing !== undefined) names.add(`${parentOf(missing)}/`);
      else {
        names.add(path);
        if (tree && this.holds(path)) {
          const inner = below(this.source, path).filter((it) => this.holds(it));
          for (const directory of [path, ...inner]) names.add(`${directory}/`);
        }
      }
    }
    return names;
  }

  /** rsync looks at so much of what it was told, as it is now. */
  copy(count: number): void {
    for (const name of this.flight?.splice(0, count) ?? []) {
      const path = name.replace(/\/$/, '');
      if (withParents(parentOf(path)).some((it) => it && this.source.get(it)?.type !== 'directory')) continue;
      for (const parent of withParents(path).reverse()) if (parent && this.source.has(parent)) this.copyEntry(parent);
      if (name.endsWith('/') && this.holds(path)) this.copyContents(path);
    }
  }

  private copyContents(path: string): void {
    const children = (tree: Tree) => [...tree.keys()].filter((it) => parentOf(it) === path);
    for (const child of children(this.backup)) if (!this.source.has(child)) this.removeFromBackup(child);
    for (const child of children(this.source)) this.copyEntry(child);
  }

  private removeFromBackup(path: string): void {
    for (const it of [path, ...below(this.backup, path)]) this.backup.delete(it);
  }

  /** rsync mirrors what is there, except where a rename has put something that only its content tells from what belongs there. */
  private copyEntry(path: string): void {
    const [thing, other] = [this.source.get(path) as Thing, this.backup.get(path)];
    if (other && other.type !== thing.type) this.removeFromBackup(path);
    const isTaken = other?.isMisplaced && other.type === thing.type && other.stamp === thing.stamp;
    if (!isTaken) this.backup.set(path, { ...thing });
  }

  /** rsync ends: having looked at everything, or before that. */
  end(isDone: boolean): void {
    if (!this.flight) return;
    if (isDone) this.copy(this.flight.length);
    const { batch } = this.state;
    this.flight = undefined;
    this.state.record(outcome(isDone ? {} : { kind: 'failed', status: 12 }));
    if (!isDone) this.state.changes.add(batch);
  }

  /** Whether the target is to be told that something was renamed to this path. */
  isRenamed(path: string): boolean {
    return this.state.moves.has(path);
  }

  /** Lets everything be mirrored. */
  async finish(): Promise<void> {
    this.end(true);
    await this.watchAnew();
    this.begin();
    this.end(true);
  }
}

/** What a tree holds, to be compared. */
export const contentsOf = (tree: Tree) =>
  Object.fromEntries([...tree].map(([path, { type, content }]) => [path, `${type} ${content}`]).sort());
