/**
 * Keeps what a peer can have logged at will from filling LOG_FILE, which would push out the first of it: beyond so many an hour it is
 * counted.
 *
 *   const ceiling = new Ceiling('sshd 的日志', 200);
 *   const told = ceiling.count(); // 'told', 'last' for the last one that is, or 'omitted'
 *   summariseAll(); // at the end
 */
import { warn } from '../service/log.ts';
import { localTime, t } from '../service/text.ts';

/** How long it is counted, ms. */
const WINDOW_MS = 3_600_000;

/** What is said with the last one that is told. */
export const LAST = t`（此类记录一小时内不再逐条写入，只计数）`;

const ceilings: Ceiling[] = [];

export class Ceiling {
  private seen = 0;
  private first: Date | undefined;
  private last: Date | undefined;
  private end: NodeJS.Timeout | undefined;

  /**
   * @param what is told so, as a noun
   * @param most how many of them an hour
   */
  constructor(
    private readonly what: string,
    private readonly most: number,
    private readonly windowMs = WINDOW_MS,
  ) {
    ceilings.push(this);
  }

  /** Takes down one more; says whether it is to be told, and whether it is the last one within the hour. */
  count(): 'told' | 'last' | 'omitted' {
    this.end ??= setTimeout(() => this.summarise(), this.windowMs).unref();
    this.seen++;
    if (this.seen < this.most) return 'told';
    if (this.seen === this.most) return 'last';
    this.last = new Date();
    this.first ??= this.last;
    return 'omitted';
  }

  /** Tells how many were left out, and begins anew. */
  summarise(): void {
    clearTimeout(this.end);
    const { what, first, last } = this;
    const count = this.seen - this.most;
    this.seen = 0;
    this.end = this.first = this.last = undefined;
    if (!first || !last) return;
    const times = { first: first.toISOString(), last: last.toISOString() };
    const when = t`首次 ${localTime(first)}，末次 ${localTime(last)}`;
    warn('log.limited', t`${what}：另有 ${count} 条未逐条记录（${when}）`, { what, count, ...times });
  }
}

/** Tells what was left out so far, before the program ends. */
export function summariseAll(): void {
  for (const ceiling of ceilings) ceiling.summarise();
}
