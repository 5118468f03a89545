/**
 * How many files the source holds now, directories and all else among them. Names with line ends count once.
 *
 *   const census = new Census('/data/source/', []);
 *   await census.reaches(1000); // as soon as that is certain
 *   await census.total;
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { signalGroup, start } from '../service/processes.ts';

/** How long a directory may take to be read, ms: a file system that does not answer must not hold up the mirror. */
const SILENCE_MS = 10_000;

export class Census {
  /** How many there are, nothing where that could not be found out. */
  readonly total: Promise<number | undefined>;
  /** How many were seen so far: the first one is the directory itself. */
  private seen = -1;
  private readonly find: ChildProcess;
  private isStopped = false;
  private readonly waiting: { count: number; settle: () => void }[] = [];

  /**
   * Starts to count.
   * @param options for find(1), which BusyBox has to know too
   * @param silence how long nothing may come, ms
   */
  constructor(directory: string, options: readonly string[], silence = SILENCE_MS) {
    this.find = start('find', [directory, ...options, '-print0'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const { promise: hung, resolve: giveUp } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => {
      this.stop();
      giveUp(undefined);
    }, silence);
    this.find.stdout?.on('data', (chunk: Buffer) => {
      timer.refresh();
      this.take(chunk);
    });
    const ended = once(this.find, 'close').then(
      // What it may not enter is not compared either; but one that was killed had not seen all.
      ([status]) => (status !== null && this.seen >= 0 && !this.isStopped ? this.seen : undefined),
      () => undefined,
    );
    this.total = Promise.race([ended, hung]).finally(() => clearTimeout(timer));
  }

  private take(chunk: Buffer): void {
    for (let end = chunk.indexOf(0); end >= 0; end = chunk.indexOf(0, end + 1)) this.seen++;
    for (const { count, settle } of this.waiting) if (this.seen >= count) settle();
  }

  /** Ends it before all is counted. */
  stop(): void {
    this.isStopped = true;
    signalGroup(this.find, 'SIGKILL');
  }

  /** Resolves with whether there are so many, without waiting for the rest of them. */
  async reaches(count: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.waiting.push({ count, settle: resolve });
    if (this.seen < count) await Promise.race([promise, this.total]);
    return this.seen >= count;
  }
}
