/**
 * Reports what goes wrong and when it is well again, to each receiver by itself: one that hangs or refuses holds up nobody.
 *
 *   const reporter = new Reporter({ receivers, after: 120_000, origin, memory, wake: touch });
 *   reporter.observe(sightings, isPartial);
 */

import type { IncidentMemory } from './incident-memory.ts';
import { IncidentLog, type Sighting } from './incidents.ts';
import { lifecycle } from './lifecycle.ts';
import { log, warn } from './log.ts';
import { type Receiver, refusalOf, requestFor } from './receivers.ts';
import { type Aside, type Origin, writeReport } from './report-words.ts';
import { type Reply, type Request, send } from './requests.ts';
import { reasonOf, t } from './text.ts';

/** How much time lies between two messages to a receiver at least, and between two tries at most, unless it asks for more, ms. */
const PACE_MS = 60_000;
const MOST_PACE_MS = 600_000;
/** A service that fails is started again within a minute, by Docker; what takes longer is no restart, ms. */
const MOST_DOWNTIME_MS = 120_000;
/** What is further ahead was set down before the clock was set back, ms. */
const HORIZON_MS = 3_600_000;

interface Parts {
  receivers: readonly Receiver[];
  /** How long something has to be wrong, ms. */
  after: number;
  origin: Origin;
  memory: Pick<IncidentMemory, 'data' | 'save'>;
  /** Has somebody call `observe` soon. */
  wake: () => void;
  send?: (request: Request) => Promise<Reply>;
  /** The clocks: ms since 1970, and one that nobody sets. */
  now?: () => number;
  clock?: () => number;
}

export class Reporter {
  private readonly incidents: IncidentLog;
  /** When it was looked last, on the clock that nobody sets. */
  private looked: number;
  private readonly failures = new Map<string, number>();
  private readonly busy = new Set<string>();
  private alarm: NodeJS.Timeout | undefined;
  /** What is told with each report at present. */
  private aside: Aside | undefined;

  constructor(private readonly parts: Parts) {
    const { receivers, after, memory } = parts;
    const ids = receivers.map(({ id }) => id);
    this.incidents = new IncidentLog(after, ids, memory.data.incidents);
    this.looked = this.clock - this.downtime;
    for (const id of Object.keys(memory.data.next)) if (!ids.includes(id)) delete memory.data.next[id];
  }

  /** How long the program did not run, as far as that was a restart: what was wrong before and after was so meanwhile, ms. */
  private get downtime(): number {
    const ms = this.now - this.parts.memory.data.saved;
    return ms > 0 && ms <= MOST_DOWNTIME_MS ? ms : 0;
  }

  private get now(): number {
    return (this.parts.now ?? Date.now)();
  }

  private get clock(): number {
    return (this.parts.clock ?? (() => performance.now()))();
  }

  /**
   * Takes down what is wrong now, and tells whoever does not know.
   * @param isPartial whether more may be wrong than can be seen
   * @param aside what is to be told beside it, if it is told now
   */
  observe(sightings: readonly Sighting[], isPartial = false, aside?: Aside): void {
    const { clock } = this;
    this.aside = aside;
    const before = this.incidents.shape;
    this.incidents.observe(sightings, { now: this.now, passed: clock - this.looked, isPartial });
    this.looked = clock;
    if (this.incidents.shape !== before) this.parts.memory.save();
    for (const receiver of this.parts.receivers) lifecycle.background(this.serve(receiver));
    this.setAlarm();
  }

  /** Looks again when there will be news, or a receiver may be told again. */
  private setAlarm(): void {
    clearTimeout(this.alarm);
    const rests = this.parts.receivers.map(({ id }) => this.restFor(id)).filter((rest) => rest > 0);
    const soonest = Math.min(this.incidents.due ?? Number.POSITIVE_INFINITY, ...rests);
    if (Number.isFinite(soonest)) this.alarm = setTimeout(this.parts.wake, soonest).unref();
  }

  /** Says for how long a receiver is to be left alone, ms. */
  private restFor(id: string): number {
    const { next } = this.parts.memory.data;
    const rest = (next[id] ?? 0) - this.now;
    return rest > HORIZON_MS ? 0 : rest;
  }

  /** Tells a receiver what it does not know, if there is anything and it may be told. */
  private async serve(receiver: Receiver): Promise<void> {
    const { id } = receiver;
    const { memory, origin } = this.parts;
    const news = this.incidents.newsFor(id);
    const count = news.begun.length + news.ended.length;
    if (count === 0 || this.busy.has(id) || this.restFor(id) > 0 || lifecycle.stopping) return;
    this.busy.add(id);
    memory.data.next[id] = this.now + PACE_MS;
    const request = requestFor(receiver, writeReport(origin, news, this.now, this.aside), this.now);
    const { refusal, wait = 0 } = await this.post(receiver, request);
    this.busy.delete(id);
    if (lifecycle.stopping && refusal !== undefined) return;
    if (refusal === undefined) {
      this.incidents.confirm(id, news);
      this.failures.delete(id);
      const fields = { problems: news.begun.length, recovered: news.ended.length };
      log(
        'notify.sent',
        t`已向 ${receiver.name} 报告 ${news.begun.length} 个故障、${news.ended.length} 个恢复`,
        fields,
      );
    } else this.postpone(receiver, refusal, wait);
    memory.save();
    this.setAlarm();
  }

  private async post(receiver: Receiver, request: Request): Promise<{ refusal: string | undefined; wait?: number }> {
    try {
      const reply = await (this.parts.send ?? send)(request);
      return { refusal: refusalOf(receiver, reply), ...(reply.wait ? { wait: reply.wait } : {}) };
    } catch (cause) {
      return { refusal: reasonOf(cause) };
    }
  }

  /** Leaves a receiver alone that does not take what it is sent, longer each time; told once until it takes something. */
  private postpone({ id, name }: Receiver, refusal: string, wait: number): void {
    const failures = this.failures.get(id) ?? 0;
    this.failures.set(id, failures + 1);
    const pace = Math.max(Math.min(PACE_MS * 2 ** failures, MOST_PACE_MS), wait);
    this.parts.memory.data.next[id] = this.now + pace;
    if (failures > 0) return;
    warn('notify.failed', t`无法向 ${name} 发送报告：${refusal}。将继续重试`);
  }
}
