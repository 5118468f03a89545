/**
 * One inotifywait: it tells of events until it ends.
 *
 *   const watcher = startInotifywait(['-m', '-r', …, '/data/source/'], (event) => console.log(event.names));
 *   await watcher.established;
 */
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHeard } from '../service/intake.ts';
import { lifecycle, shared } from '../service/lifecycle.ts';
import { error, warn } from '../service/log.ts';
import { children, isStopped, isWaiting, signalGroup, startOnLeash } from '../service/processes.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { type Event, parseEvent } from './events.ts';
import { hangs, newProbe, PROBE, type Probe, type Talker } from './vigil.ts';
import { WatcherWords } from './watcher-words.ts';

/** How many of a watcher's complaints the log tells. */
const MAX_COMPLAINTS = 10;
/** How often it is looked at whether a watcher is silent, ms. */
const TICK_MS = 10;
/** How long one must be silent that was never seen to answer when it was asked for all that has happened, and how long that is tried, ms. */
const SILENCE_MS = 500;
const MAX_SILENCE_MS = 5000;

/** Something that tells of events; emits `exit` with code and signal. */
export interface Watcher extends EventEmitter {
  /** Resolves once its watches stand. Rejects with a Failure, its last words, where it ends before that. */
  readonly established: Promise<void>;
  /**
   * Waits until it has had nothing to say for `least` ms, but no longer than `most` ms or its end; resolves with whether it
   * came to that.
   */
  waitForSilence(least: number, most: number): Promise<boolean>;
  /** Resolves once it has told all that has happened until now, with true; with false where it ends or loses some of that before. */
  mark(): Promise<boolean>;
  /** Counts the directories that it watches. */
  countWatches(): Promise<number>;
  /** Lists the inodes of what it watches, in hexadecimal, but for the file of ours. */
  listInodes(): Promise<string[]>;
  end(): void;
  /** Whether it was stopped by a signal: it neither tells of anything nor ends. */
  readonly isStopped: boolean;
  /** Ends it as one that has died, with what it has not told: it does not answer. */
  giveUp(): void;
}

/** Becomes inotifywait; paths may be written in octal, for no argument of ours can hold all bytes. */
const START = `for word do
  shift
  case $word in \\\\*) word=$(printf "\${word}x"); word=\${word%x};; esac
  set -- "$@" "$word"
done
exec inotifywait "$@"`;

/** Starts an inotifywait that hands each event to `tell`. @param words its arguments, paths among them as text or in octal */
export function startInotifywait(words: readonly string[], tell: (event: Event) => void): Watcher {
  const isPlain = !words.some((word) => word.startsWith('\\'));
  const probe = newProbe();
  const all = probe ? [...words, PROBE] : words;
  const command = isPlain ? ['inotifywait', ...all] : ['sh', '-c', START, 'sh', ...all];
  return new Inotifywait(
    startHeard((stdout) => startOnLeash(command, stdout, '', probe?.file)),
    tell,
    probe,
  );
}

class Inotifywait extends EventEmitter implements Watcher, Talker {
  readonly established: Promise<void>;
  /** How often it had something to say. */
  told = 0;
  hasAnswered = false;
  /** The beginning of a record whose end is yet to come. */
  private rest = '';
  /** Whether something may be lost that it should have told. */
  private isDeaf = false;
  /** Takes what comes of the mark that is awaited. */
  private settle: ((isTold: boolean) => void) | undefined;
  /** Whether it was ever seen to tell of a mark. */
  private hasMarked = false;

  constructor(
    private readonly process: ChildProcess,
    private readonly tell: (event: Event) => void,
    private readonly probe: Probe | undefined,
  ) {
    super();
    process.stdout?.setEncoding('latin1').on('data', (chunk: string) => this.read(chunk));
    const ended = new AbortController();
    process.once('exit', () => ended.abort());
    for (const event of ['exit', 'error']) process.once(event, () => this.growDeaf());
    for (const event of ['close', 'error']) process.once(event, () => probe?.close());
    process.once('exit', (code, signal) => this.emit('exit', code, signal));
    this.established = establishment(process);
    this.established.then(this.ask, () => {});
    lifecycle.background(hangs(this, ended.signal).then((isHung) => isHung && this.giveUp()));
  }

  private read(chunk: string): void {
    this.told++;
    const records = (this.rest + chunk).split('\0');
    this.rest = records.pop() ?? '';
    for (const record of records) {
      const event = parseEvent(record);
      if (event?.path === PROBE) this.hearAnswer(event);
      else if (event) this.tell(event);
      if (event?.kind === 'q_overflow') this.growDeaf();
    }
  }

  private hearAnswer({ kind }: Event): void {
    this.hasAnswered = true;
    if (kind !== 'modify') return;
    this.hasMarked = true;
    this.settle?.(true);
  }

  private growDeaf(): void {
    this.isDeaf = true;
    this.settle?.(false);
  }

  /** Only one mark is on its way at a time: to inotify, two in a row are one, and none tells which one it is. */
  readonly mark = shared(async (): Promise<boolean> => {
    if (this.isDeaf) return false;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.settle = resolve;
    const isMarked = this.probe?.mark() === true;
    if (!isMarked || !this.hasMarked) lifecycle.background(this.markBySilence(resolve));
    return promise.finally(() => {
      this.settle = undefined;
    });
  });

  /** Takes long silence for a mark where none may come. */
  private async markBySilence(settle: (isTold: boolean) => void): Promise<void> {
    while (!this.isDeaf && !lifecycle.signal.aborted && !this.hasMarked)
      if (await this.waitForSilence(SILENCE_MS, MAX_SILENCE_MS)) return settle(true);
    if (lifecycle.signal.aborted) settle(false);
  }

  /** Waits for silence: time in which it was not let run, or we were not, does not count. */
  async waitForSilence(least: number, most: number): Promise<boolean> {
    const latest = performance.now() + most;
    for (let silent = 0; silent < least; ) {
      if (!children.has(this.process) || performance.now() > latest) return false;
      const { told } = this;
      await sleep(TICK_MS);
      silent = this.told === told && isWaiting(this.process) ? silent + TICK_MS : 0;
    }
    return true;
  }

  async countWatches(): Promise<number> {
    return (await this.listInodes()).length;
  }

  /** Reads the lines that the kernel tells of its files, one for each watch (proc(5), fdinfo). */
  async listInodes(): Promise<string[]> {
    const directory = `/proc/${this.process.pid}/fdinfo`;
    const files = (await readdir(directory)).map((name) => readFile(join(directory, name), 'latin1'));
    const lines = (await Promise.all(files)).join('').matchAll(/^inotify .*?\bino:([0-9a-f]+)/gm);
    const inodes = Array.from(lines, ([, inode = '']) => inode);
    const place = this.probe ? inodes.indexOf(this.probe.inode) : -1;
    return place < 0 ? inodes : inodes.toSpliced(place, 1);
  }

  readonly ask = () => this.probe?.touch() ?? false;

  get isStopped(): boolean {
    return isStopped(this.process);
  }

  giveUp(): void {
    error('watch.hung', t`inotifywait 没有应答 (可能被 SIGSTOP 暂停，或已卡住)，将强行终止并更换，随后全量同步`);
    this.end();
    this.growDeaf();
    this.emit('exit', null, 'SIGKILL'); // it may not end soon: where a file system hangs, not even by that
  }

  /** Ends it by SIGKILL, for it leaves nothing behind, and one that is stopped ends by nothing else. */
  end(): void {
    signalGroup(this.process, 'SIGKILL');
  }
}

/** Resolves once the watches of an inotifywait stand. @throws {Failure} with its last words where it ends before that */
function establishment(watcher: ChildProcess): Promise<void> {
  const { promise, resolve: done, reject } = Promise.withResolvers<void>();
  const words = new WatcherWords();
  let told = 0;
  if (watcher.stderr) {
    createInterface({ input: watcher.stderr }).on('line', (line) => {
      const meaning = words.hear(line);
      if (meaning === 'established') done();
      if (meaning === 'complaint' && told++ < MAX_COMPLAINTS)
        warn('watch.complaint', `inotifywait: ${escapeText(line)}`);
    });
  }
  watcher.once('error', (cause) => reject(new Failure(t`无法启动 inotifywait：${reasonOf(cause)}`)));
  watcher.once('close', (code, signal) => {
    const { last, advice } = words;
    if (code === 126 || code === 127) return reject(new Failure(t`无法启动 inotifywait：${last}`));
    const said = [last, advice].filter(Boolean).join(t`。`);
    reject(new Failure(t`inotifywait 退出 (退出码: ${code ?? signal})：${said}`));
  });
  return promise;
}
