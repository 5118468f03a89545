/**
 * Who watches the source when, and what is in doubt: a watcher, and another one in its place whenever it may not see
 * everything. It misses what happens in a new directory before it watches that, and misnames what is in one that was renamed.
 *
 *   const watch = new Watch(parts, watcherFor(config, places, root, terrain));
 *   await watch.start();
 *   lifecycle.background(watch.keep());
 */
import { EventEmitter } from 'node:events';
import type { Stats } from 'node:fs';
import { resolve } from 'node:path';
import { parentOf } from '../service/files.ts';
import { type Backoff, lifecycle, newBackoff } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { reasonOf, t } from '../service/text.ts';
import type { Announcer } from './announcer.ts';
import { isUnseen, TREE } from './changes.ts';
import type { Config } from './config.ts';
import { Coverage } from './coverage.ts';
import type { Doubts } from './doubts.ts';
import type { Event } from './events.ts';
import type { Watcher } from './inotifywait.ts';
import { watcherFor } from './inotifywaits.ts';
import { Markers } from './markers.ts';
import { identityOf } from './moves.ts';
import { Places } from './places.ts';
import { Renames } from './renames.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import { Terrain } from './terrain.ts';
import { Unwatched } from './unwatched.ts';

/** How large a file is at least that is worth a rename on the target, which takes some 30 ms, bytes. */
const MIN_MOVED = 262_144;
/** How long a watcher must be silent before it may be ended, and how long that is waited for at most, ms. */
const SILENCE_MS = 100;
const MAX_SILENCE_MS = 5000;
/** How long changes that have just happened are waited for at most after a signal to stop, ms. */
const STOP_SILENCE_MS = 800;
/** How long to wait for more changes before the watches are counted, ms. */
const COUNT_MS = 1000;
/** When the next one is started where one has died, at the latest, ms; later only where starting fails. */
const REPLACE_MS = 1000;
/** How long the next watcher waits where two do not fit into the limits, for each costs a full sync, ms. */
const ALONE_MS = 60_000;

/** What a watch is about. */
interface Subject {
  source: Pick<Source, 'root' | 'look' | 'check'>;
  doubts: Doubts;
  targets: TargetState[];
  announcer: Announcer;
}

/** What it works with besides. */
interface Parts extends Subject {
  coverage: Pick<Coverage, 'inspect'>;
  unwatched: Unwatched;
  places: Pick<Places, 'refresh' | 'keep' | 'isTold'>;
  /** What nobody wants to be watched. */
  excluded?: string[];
}

/** Emits `lost` when a watcher has died. */
export class Watch extends EventEmitter {
  private directories = 0;
  private events = 0;
  private overflows = 0;
  private restarts = 0;
  private watcher: Watcher | undefined;
  /** How many watchers were started: the number of the last one. */
  private started = 0;
  private readonly renames = new Renames();
  private readonly markers: Markers;
  /** Watchers that have nothing left to say, for another one stands in their place. */
  private readonly relieved = new WeakSet<Watcher>();
  private counting: NodeJS.Timeout | undefined;
  /** Whether the limits leave no room for two watchers at a time. */
  private isAlone = false;
  /** How long it took to look for what the last watcher has missed, ms. */
  private inspection = 0;
  /** Whether events were lost for certain. */
  private isRecovering = false;

  constructor(
    private readonly parts: Parts,
    private readonly startWatcher: (tell: (event: Event) => void) => Watcher,
  ) {
    super();
    this.markers = new Markers(parts.doubts, () => this.distrust(''));
    for (const { unsent } of parts.targets) unsent.marker = this.markers.pass;
    lifecycle.signal.addEventListener('abort', () => this.watcher?.end());
    parts.unwatched.on('open', (path: string) => this.distrust(path));
  }

  report() {
    const { directories, events, overflows, restarts } = this;
    const in_doubt = this.parts.doubts.since?.toISOString() ?? null;
    const unwatched = this.parts.unwatched.report();
    return { running: this.watcher !== undefined, directories, events, overflows, restarts, in_doubt, unwatched };
  }

  /** Starts a watcher; resolves when its watches stand and what was in doubt before is settled. @throws {Failure} */
  async start(): Promise<void> {
    this.parts.source.check();
    for (const path of await this.parts.places.refresh()) this.distrust(path);
    const number = ++this.started;
    const began = new Date();
    const watcher = this.startWatcher((event) => this.receive(event, number));
    await watcher.established;
    try {
      this.parts.source.check(); // it may have been replaced meanwhile
    } catch (cause) {
      watcher.end();
      throw cause;
    }
    this.watcher = watcher;
    watcher.once('exit', (code, signal) => this.noticeDeath(watcher, code, signal));
    this.settle(number, began);
    this.markers.add(watcher, number);
    lifecycle.background(this.count());
    lifecycle.background(this.inspect(watcher));
  }

  /** Has the next watcher watch what this one has missed. */
  private async inspect(watcher: Watcher): Promise<void> {
    const began = performance.now();
    const missed = await this.parts.coverage.inspect(watcher);
    this.inspection = performance.now() - began;
    if (watcher === this.watcher) for (const path of missed) this.distrust(path);
  }

  private noticeDeath(watcher: Watcher, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.relieved.has(watcher)) return;
    this.lose(watcher);
    if (lifecycle.stopping) return;
    error('watch.ended', t`inotifywait 意外退出 (退出码: ${code ?? signal})，正在重新启动监控`, {
      exit_code: code,
      signal,
    });
    this.restarts++;
    this.distrust('');
    this.emit('lost');
  }

  private receive(event: Event, number: number): void {
    const { kind, isDirectory, path: absolute } = event;
    const { source } = this.parts;
    if (kind === 'q_overflow') {
      this.noticeOverflow();
      return;
    }
    if (!absolute.startsWith(source.root)) return; // a directory that was moved, so in doubt, and has lost its name
    const path = absolute.slice(source.root.length).replace(/\/$/, '');
    if (event.isCut) {
      this.lookInto([parentOf(path)]); // too long to be told
      return;
    }
    const isSelf = kind === 'delete_self' || kind === 'move_self';
    if (kind === 'unmount' || (isSelf && path === '')) this.distrust(path);
    if (isSelf) return; // its parent has told as well, and under the right name
    this.events++;
    const isArrival = kind === 'create' || kind === 'moved_to';
    const found = isArrival && !(kind === 'create' && isDirectory) ? source.look(path) : undefined;
    const isSure = this.markers.trusts(path, number, this.started) && this.parts.places.isTold(path);
    this.note(path, event, found, isSure);
    if (kind === 'delete' && isDirectory) this.countSoon(); // new ones have a new watcher anyway
    // What was in it was not seen to go: nobody can say how much that was.
    if (kind === 'delete' && isDirectory && this.parts.unwatched.has(path)) this.lookInto([path]);
    if (kind === 'attrib' && isDirectory) lifecycle.background(this.parts.unwatched.retry(path));
    // One that was moved away is still watched, wherever it is now.
    if (isDirectory && (isArrival || kind === 'moved_from')) this.distrust(path);
  }

  /** Hands a change to every target. */
  private note(path: string, event: Event, found: Stats | undefined, isSure: boolean): void {
    const { source, targets, announcer, doubts } = this.parts;
    const { kind, cookie } = event;
    const isFirst = kind !== 'moved_from' || this.renames.begin(cookie, path, !doubts.covers(path));
    if (event.isDirectory && isFirst) for (const { departures } of targets) departures.note(path, kind);
    const isNew = targets.map((target) => target.note(path, event, found, isSure));
    if (isNew.includes(true)) announcer.announce(source.root + path, event.names);
    if (kind === 'create' || kind === 'moved_to') for (const { moves } of targets) moves.forget(path, cookie);
    if (kind === 'moved_to') this.noteRename(path, cookie, found);
  }

  private noteRename(to: string, cookie: string, found: Stats | undefined): void {
    const half = this.renames.complete(cookie);
    if (!half) return;
    const { from, isCertain } = half;
    const isSmall = found && !found.isDirectory() && !(found.isFile() && found.size >= MIN_MOVED);
    const isRepeatable = isCertain && !isSmall && !this.parts.doubts.covers(parentOf(to));
    const identity = found && identityOf(found); // it may have been renamed again
    for (const target of this.parts.targets) {
      target.changes.rename(from, to);
      target.departures.arrive(from, to, isCertain && !isUnseen(target.lacking, from));
      target.unmirrored.move(from, to);
      if (isRepeatable) target.noteMove({ from, to, cookie, identity });
    }
  }

  /** Has every target look at whole subtrees. @param since when they came to be in doubt, ms on the clock of `performance.now()` */
  private lookInto(paths: string[], since = 0): void {
    const batch = new Map(paths.map((path) => [path, { ...TREE, since }]));
    for (const { changes } of this.parts.targets) changes.add(batch);
  }

  private countSoon(): void {
    this.counting ??= setTimeout(() => lifecycle.background(this.count()), COUNT_MS);
  }

  private async count(): Promise<void> {
    this.counting = undefined;
    const { watcher } = this;
    const watches = await watcher?.countWatches().catch(() => undefined); // it may have ended this moment
    if (watches !== undefined && watcher === this.watcher) this.directories = watches;
    touch();
  }

  private noticeOverflow(): void {
    if (!this.parts.doubts.isAllSeenBy(this.started)) {
      this.overflows++;
      warn(
        'watch.overflow',
        t`inotify 事件队列溢出，有变化未被看到，将重新建立监控并全量同步。可增大 sysctl fs.inotify.max_queued_events`,
      );
    }
    this.distrust('');
  }

  /** Has a directory, or all of the source, watched and looked at anew. */
  distrust(path: string): void {
    this.isRecovering ||= path === '';
    this.parts.doubts.add(path, this.started);
  }

  /** Looks once more at what was in doubt before a watcher was started, now that it is watched. */
  private settle(number: number, began: Date): void {
    const { doubts } = this.parts;
    const since = (doubts.since ?? began).getTime() - Date.now() + performance.now();
    const settled = doubts.settle(number, began);
    if (this.isRecovering && settled.includes('')) {
      this.isRecovering = false;
      log('watch.restored', t`监控已恢复，将进行一次全量同步`);
    }
    this.lookInto(settled, since);
  }

  /** Replaces the watcher whenever something is in doubt, but spends no more than a tenth of the time on it. */
  async keep(): Promise<void> {
    lifecycle.background(this.parts.places.keep((path) => this.distrust(path)));
    let backoff = newBackoff();
    let rest = SILENCE_MS;
    let least = rest; // of it, where no watcher sees anything meanwhile
    lifecycle.background(this.parts.unwatched.keep());
    while (!lifecycle.stopping) {
      if (this.parts.doubts.size === 0) await lifecycle.waitFor(this.parts.doubts, 'added');
      if (this.watcher) await lifecycle.pauseOr(rest - least + 9 * this.inspection, this, 'lost');
      await lifecycle.pause(least);
      if (lifecycle.stopping) return;
      const old = this.watcher;
      if (this.isAlone) await this.relieve(old);
      const began = performance.now();
      try {
        await this.start();
        backoff = newBackoff();
        rest = this.isAlone ? ALONE_MS : Math.max(SILENCE_MS, 9 * (performance.now() - began));
        least = Math.min(rest, REPLACE_MS);
        await this.relieve(old);
      } catch (cause) {
        rest = least = this.tellFailure(cause, backoff);
      }
    }
  }

  /** Resolves once every target knows of all that has happened until now: it has or lacks it. @throws {Failure} where the service stops */
  async marker(): Promise<void> {
    await this.markers.pass();
    this.lookInto(this.parts.doubts.paths);
    for (const { later } of this.parts.targets) later.hasten();
  }

  /** Lists what is not watched, '' where that is too much to be known by name: no event tells of what happens there. */
  unseen(): string[] {
    const { unwatched, excluded = [] } = this.parts;
    return unwatched.paths.length < unwatched.size ? [''] : [...unwatched.paths, ...excluded];
  }

  /** Waits for what the watcher still has to say, at most `ms`; resolves with whether it is silent. */
  async waitForSilence(ms: number): Promise<boolean> {
    return !this.watcher || this.watcher.waitForSilence(SILENCE_MS / 2, ms);
  }

  /** Waits at a stop for what the watcher still has to say, though not for long. */
  async finish(): Promise<void> {
    if (await this.waitForSilence(STOP_SILENCE_MS)) return;
    warn('watch.busy', t`变化仍在不断发生，停止前最后的变化由下次启动时的全量同步包含`);
  }

  /** Ends a watcher once it is silent: what it has not told yet would be lost. */
  private async relieve(watcher: Watcher | undefined): Promise<void> {
    if (!watcher) return;
    if (this.watcher === watcher) {
      this.lose(watcher);
      this.distrust('');
    }
    const isSilent = await watcher.waitForSilence(SILENCE_MS, MAX_SILENCE_MS);
    if (!isSilent && watcher.isStopped) return watcher.giveUp();
    this.relieved.add(watcher);
    if (isSilent) this.markers.release(watcher);
    watcher.end();
  }

  private lose(watcher: Watcher): void {
    if (this.watcher !== watcher) return;
    this.watcher = undefined;
    this.directories = 0;
    touch();
  }

  /** Tells why no watcher could be started; returns how long to wait for the next try, ms. */
  private tellFailure(cause: unknown, backoff: Backoff): number {
    if (lifecycle.stopping) return 0;
    error('watch.failed', reasonOf(cause));
    if (!this.isAlone && /upper limit|amount of inotify watches|initialize inotify/.test(reasonOf(cause))) {
      this.isAlone = true;
      return 0;
    }
    const delay = backoff.next().value;
    warn('watch.retry', t`${delay / 1000} 秒后重新启动监控`, { delay_ms: delay });
    this.lookInto(this.parts.doubts.paths); // what is not watched is looked at now and then
    return delay;
  }
}

/** Puts together what watches the source. */
export function watchFor(config: Config, subject: Subject & { source: Source }): Watch {
  const { root } = subject.source;
  const excluded = config.WATCH_EXCLUDE.map((path) => Buffer.from(resolve('/', path).slice(1)).toString('latin1'));
  const terrain = new Terrain(root, excluded);
  const unwatched = new Unwatched(root);
  const coverage = new Coverage(root, terrain, unwatched);
  const places = new Places(subject.source, excluded);
  return new Watch({ ...subject, coverage, unwatched, places, excluded }, watcherFor(config, places, root, terrain));
}
