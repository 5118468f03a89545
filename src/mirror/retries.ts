/**
 * When what has failed on a target is tried again by itself: after 1, 2, 4 … 60 s, and no sooner than ten times as long as that takes.
 *
 *   retries.add(batch);  // it has failed
 *   retries.rest();      // once nothing of it is tried any more
 */
import type { EventEmitter } from 'node:events';
import type { Stats } from 'node:fs';
import { withParents } from '../service/files.ts';
import { lifecycle, newBackoff } from '../service/lifecycle.ts';
import { t } from '../service/text.ts';
import { type Batch, type Change, UNKNOWN } from './changes.ts';
import type { TargetState } from './target-state.ts';
import { mayBeThere } from './unread.ts';

/** How many times as long as a try has taken it rests at least until the next one. */
const REST_RATIO = 10;

/** What is tried again at a time. */
export interface Retry {
  batch: Batch;
  /** Whether it was set aside until now. */
  isAside: boolean;
}

/** What it works with. */
interface Parts {
  state: EventEmitter & Pick<TargetState, 'failed' | 'unmirrored' | 'lacking' | 'warn' | 'tries'>;
  look: (path: string) => Stats | undefined;
  /** Whether a path can be read, and entered where it is a directory. */
  isReadable: (path: string) => boolean;
  /** Takes what is to be tried again now. */
  hand: (retries: Retry[]) => void;
}

export class Retries {
  private backoff = newBackoff();
  private isResting = false;
  private isHastened = false;
  /** How long the tries have taken since it rested last, ms. */
  private tookMs = 0;

  constructor(private readonly parts: Parts) {}

  /** Has changes tried again beside all others. */
  add(batch: Batch): void {
    this.parts.state.failed.add(batch);
  }

  /** Notes how long a try has taken, s. */
  noteTry(seconds: number): void {
    this.tookMs += seconds * 1000;
    this.parts.state.tries++;
  }

  /** Has what is set aside tried again at once: what was mirrored now shows that it may be, too. */
  hasten(): void {
    this.isHastened = true;
  }

  /** Adds what is at a path now to what is known of it. What is below a directory that failed has not been told. */
  shape(path: string, change: Change = UNKNOWN): Change {
    return this.parts.look(path)?.isDirectory() ? { ...change, isDirectory: true, tree: true } : change;
  }

  /** Waits until what has failed is to be tried again, if there is anything. */
  rest(): void {
    const { state } = this.parts;
    if (this.isResting) return;
    const count = Math.max(state.failed.size, state.unmirrored.allAside.length);
    if (count === 0 || this.isHastened) this.backoff = newBackoff();
    const delay = this.isHastened ? 0 : Math.max(this.backoff.next().value, REST_RATIO * this.tookMs);
    this.isHastened = false;
    this.tookMs = 0;
    if (count === 0) this.backoff = newBackoff();
    else lifecycle.background(this.retryAfter(delay, count));
  }

  private async retryAfter(delay: number, count: number): Promise<void> {
    this.isResting = true;
    if (delay > 0)
      this.parts.state.warn('sync.retry', t`${Math.round(delay / 1000)} 秒后重试，${count} 处变化等待同步`, {
        delay_ms: Math.round(delay),
        pending: count,
      });
    await lifecycle.pauseOr(delay, this.parts.state, 'roused');
    this.isResting = false;
    if (lifecycle.stopping) return;
    const retries = this.take();
    if (retries.length > 0) this.parts.hand(retries);
    else this.rest();
  }

  /**
   * Takes what is to be tried again. Of what is set aside, all that could not be read is tried at a time, for rsync names what of that
   * fails again; of all else one, for it may be what makes an rsync fail.
   */
  private take(): Retry[] {
    const { failed, unmirrored } = this.parts.state;
    const changes = failed.take(0);
    const due = unmirrored.allAside.filter(({ path, place }) => !this.mayBeOnlyCopy(path, place));
    const unread = due.filter(({ kind }) => kind === 'reading').map(({ path }) => path);
    const alone = due.filter(({ kind }) => kind !== 'reading').map(({ path }) => path);
    const [known, others] = [new Set([...unread, ...alone.slice(0, 1)]), new Map(changes)];
    for (const path of known) others.delete(path);
    const aside = new Map([...others].filter(([path]) => unmirrored.isAside(path)));
    for (const path of aside.keys()) others.delete(path);
    failed.add(aside);
    const batchOf = (paths: string[]): Batch => new Map(paths.map((path) => [path, changes.get(path) ?? UNKNOWN]));
    return [
      { batch: others, isAside: false },
      { batch: batchOf(unread), isAside: true },
      { batch: batchOf(alone.slice(0, 1)), isAside: true },
    ].filter(({ batch }) => batch.size > 0);
  }

  /** Whether the source has only moved what a target may still have nowhere but in its old place. */
  mayBeOnlyCopy(path: string, place: string | undefined): boolean {
    const { look, state } = this.parts;
    if (place === undefined || look(path) || !mayBeThere(place, this.parts)) return false;
    const { unmirrored, lacking } = state;
    const paths = withParents(place);
    return (
      unmirrored.has(place) || unmirrored.isHidden(place) || paths.some((it) => lacking.some((batch) => batch.has(it)))
    );
  }
}
