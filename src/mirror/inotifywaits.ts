/**
 * What watches the source: one inotifywait, or several where one alone would give up because of what it cannot look at.
 *
 *   const start = watcherFor(config, places, '/data/source/', new Terrain('/data/source/', []));
 *   const watcher = start((event) => console.log(event.names));
 *   await watcher.established;
 */
import { EventEmitter } from 'node:events';
import { resolve } from 'node:path';
import { inOctal } from '../service/mounts.ts';
import { Failure, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { type Event, FORMAT, WATCHED_EVENTS } from './events.ts';
import { startInotifywait, type Watcher } from './inotifywait.ts';
import type { Places } from './places.ts';
import type { Terrain, WatchPlan } from './terrain.ts';

/** How often it is tried at once to start one in another way. */
const MAX_TRIES = 6;
/** How many trees one inotifywait takes, for 4.23 has room for 1024 paths, and how many run at most. */
const MAX_TREES = 500;
const MAX_GROUPS = 8;

const OPTIONS = [...WATCHED_EVENTS.flatMap((event) => ['-e', event.toLowerCase()]), '--format', FORMAT, '--no-newline'];

/** Writes the arguments of each inotifywait that is needed. @param root what stands before each path */
export function argumentsFor(
  { SOURCE_DIR, WATCH_EXCLUDE }: Pick<Config, 'SOURCE_DIR' | 'WATCH_EXCLUDE'>,
  root: string,
  plan: WatchPlan | undefined,
): string[][] {
  const exclusions = WATCH_EXCLUDE.map((path) => `@${resolve(SOURCE_DIR, path)}`);
  if (!plan) return [['-m', '-r', ...OPTIONS, ...exclusions, '--', SOURCE_DIR]];
  exclusions.push(...plan.exclusions.map((path) => inOctal(`@${root}${path}`)));
  const all = plan.trees.slice(0, MAX_GROUPS * MAX_TREES);
  const groups = Array.from({ length: Math.ceil(all.length / MAX_TREES) }, (_, n) =>
    all.slice(n * MAX_TREES, (n + 1) * MAX_TREES),
  );
  const trees = groups.map((group) => ['-m', '-r', ...OPTIONS, ...exclusions, '--', ...pathsOf(group, root)]);
  const alone = plan.alone.length > 0 ? [['-m', ...OPTIONS, '--', ...pathsOf(plan.alone, root)]] : [];
  return [...trees, ...alone];
}

const pathsOf = (paths: string[], root: string) => paths.map((path) => inOctal(root + path));

/** What starts a watcher of the source. */
export const watcherFor =
  (config: Config, places: Places, root: string, terrain: Terrain) =>
  (tell: (event: Event) => void): Watcher =>
    new Inotifywaits(
      terrain,
      (plan) => withFiles(argumentsFor(config, root, plan), places.files),
      (words) => startInotifywait(words, places.spread(tell)),
    );

/** Has the first of several inotifywaits watch files as well. */
const withFiles = ([first, ...others]: string[][], files: string[]) => (first ? [[...first, ...files], ...others] : []);

export class Inotifywaits extends EventEmitter implements Watcher {
  readonly established: Promise<void>;
  private parts: Watcher[] = [];
  private isEnded = false;

  constructor(
    private readonly terrain: Pick<Terrain, 'plan' | 'explore' | 'calm' | 'limitDepth'>,
    private readonly argumentsOf: (plan: WatchPlan | undefined) => string[][],
    private readonly startOne: (words: string[]) => Watcher,
  ) {
    super();
    this.established = this.establish();
  }

  private async establish(): Promise<void> {
    for (let tries = 1; ; tries++) {
      const lists = this.argumentsOf(await this.terrain.plan());
      if (this.isEnded) throw new Failure(t`监控已停止`);
      const parts = lists.map((words) => this.startOne(words));
      this.parts = parts;
      for (const part of parts) part.once('exit', (code, signal) => this.noticeEnd(parts, code, signal));
      try {
        await Promise.all(parts.map(({ established }) => established));
        return;
      } catch (cause) {
        this.parts = [];
        for (const part of parts) part.end();
        if (this.isEnded || tries >= MAX_TRIES || !(await this.learn(reasonOf(cause), tries))) throw cause;
      }
    }
  }

  /** Finds out why one has given up; resolves with whether there is another way. */
  private async learn(reason: string, tries: number): Promise<boolean> {
    if (!/Couldn't watch /.test(reason)) return false;
    if (/No such file or directory/.test(reason)) {
      if (tries > 1) this.terrain.calm(''); // files come and go there faster than it looks at them
      return true;
    }
    if (/Too many open files/.test(reason)) this.terrain.limitDepth();
    return this.terrain.explore();
  }

  /** Ends the others where one has ended. */
  private noticeEnd(parts: Watcher[], code: number | null, signal: NodeJS.Signals | null): void {
    if (this.parts !== parts) return;
    this.parts = [];
    for (const part of parts) part.end();
    this.emit('exit', code, signal);
  }

  async waitForSilence(least: number, most: number): Promise<boolean> {
    const silences = await Promise.all(this.parts.map((part) => part.waitForSilence(least, most)));
    return silences.length > 0 && !silences.includes(false);
  }

  async mark(): Promise<boolean> {
    const { parts } = this;
    const marks = await Promise.all(parts.map((part) => part.mark()));
    return parts.length > 0 && this.parts === parts && !marks.includes(false);
  }

  async countWatches(): Promise<number> {
    return (await this.listInodes()).length;
  }

  async listInodes(): Promise<string[]> {
    return (await Promise.all(this.parts.map((part) => part.listInodes()))).flat();
  }

  get isStopped(): boolean {
    return this.parts.some((part) => part.isStopped);
  }

  giveUp(): void {
    for (const part of this.parts.filter(({ isStopped }) => isStopped)) part.giveUp();
  }

  end(): void {
    this.isEnded = true;
    for (const part of this.parts) part.end();
  }
}
