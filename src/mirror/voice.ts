/**
 * What is told of a target's syncs: where much goes on, or it cannot be reached, only what is new.
 *
 *   if (voice.begins(false)) log('sync.start', …);
 *   if (voice.tells(outcome)) log('sync.success', …); // otherwise it is counted
 */
import type { Entry } from '../service/log.ts';
import { t } from '../service/text.ts';
import type { Absence } from './absence.ts';
import { Complaints, Excerpt, type Selection } from './excerpt.ts';
import { describeFailed, type Outcome } from './rsync.ts';
import type { Spell } from './spell.ts';

export class Voice {
  /** Whether the sync that is under way is told of only where it fails. */
  private isMuted = false;
  /** Whether it is told of in any case, and takes no room from others. */
  private isOwed = true;
  /** How many changes had been named when the last batch was sent. */
  private seen = 0;

  constructor(
    private readonly spell: Spell,
    private readonly absence: Absence,
    private readonly state: { log: Entry; warn: Entry },
  ) {}

  /** Decides whether it is told that a batch is sent: one in which nothing is new is not. @param isOwed whether it is in any case */
  begins(isOwed: boolean): boolean {
    const { spell, absence } = this;
    const now = performance.now();
    const isNew = spell.named !== this.seen;
    this.seen = spell.named;
    this.isMuted = absence.isKnown || (spell.isThin(now) && !isNew && !isOwed);
    this.isOwed = isOwed;
    if (!this.isMuted && !isOwed) spell.spend(2, now); // with the one that says how it went
    return !this.isMuted;
  }

  /** Notes a sync that could not reach the target, and tells now and then for how long that has gone on. */
  noteAway(outcome: Outcome, pending: number): void {
    const { absence, spell } = this;
    const now = performance.now();
    const reason = describeFailed(outcome);
    const telling = absence.note(reason, now);
    if (telling === 'nothing') spell.count({ tries: 1 });
    if (telling !== 'reminder') return;
    const [seconds, { tries }] = [absence.secondsAt(now), absence];
    const what = t`目标已有 ${Math.round(seconds / 60)} 分钟无法连接，重试了 ${tries} 次，将继续重试；${pending} 处变化等待同步`;
    this.state.warn('target.away', t`${what}。${reason}`, { seconds, tries, pending, exit_code: outcome.status });
  }

  /** Notes that the target can be reached, and tells for how long it could not: all is told again. */
  noteReached(): void {
    const ended = this.absence.end(performance.now());
    if (!ended) return;
    this.isMuted = false;
    const { seconds, tries } = ended;
    this.state.log('target.back', t`目标恢复连接，此前 ${seconds} 秒无法连接，重试了 ${tries} 次 ✓`, {
      seconds,
      tries,
    });
  }

  /** Decides whether it is told how a sync went, and counts it otherwise. */
  tells({ kind, files, bytes, seconds }: Pick<Outcome, 'kind' | 'files' | 'bytes' | 'seconds'>): boolean {
    if (kind === 'unreachable') return (this.absence.telling ?? 'failure') === 'failure';
    if (kind !== 'done' || !this.isMuted) return true;
    this.spell.omit({ syncs: 1, files: files ?? 0, bytes: bytes ?? 0, seconds }, performance.now());
    return false;
  }

  /** Decides whether something is told that belongs to a sync, and says the same each time. */
  remarks(event: string): boolean {
    const now = performance.now();
    const isTold = this.spell.tellsKind(event, now);
    if (!isTold) this.spell.omit({ lines: 1 }, now);
    return isTold;
  }

  /** Selects what is told of what an rsync of the sync prints. */
  lines<Line>(): Selection<Line> {
    const { spell, isMuted, isOwed } = this;
    const excerpt = new Excerpt<Line>();
    const take = (line: Line) => {
      const told = isMuted ? [] : excerpt.take(line);
      if (isMuted) spell.omit({ lines: 1 }, performance.now());
      else if (!isOwed) spell.spend(told.length, performance.now());
      return told;
    };
    return { take, end: () => this.counted(excerpt.end()) };
  }

  /** Selects what is told of what it complains of: what is new in any case. */
  complaints<Line extends { text: string }>(): Selection<Line> {
    const isThin = () => this.isMuted || this.absence.isKnown || this.spell.isThin(performance.now());
    const complaints = new Complaints<Line>((kind) => this.spell.tellsKind(kind, performance.now(), isThin()));
    return { take: (line) => complaints.take(line), end: () => this.counted(complaints.end(), isThin()) };
  }

  /** Counts what was left out, of which the log says so unless it says little. */
  private counted<Line>({ omitted, last }: { omitted: number; last: Line[] }, isThin = false) {
    if (isThin && omitted > 0) this.spell.omit({ lines: omitted }, performance.now());
    else this.spell.count({ lines: omitted });
    return { omitted: isThin ? 0 : omitted, last };
  }
}
