/** Mirrors that take turns, each on trees of its own, so that all meet the same machine at the same time. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Bed, breathe, type Run } from './bed.ts';
import type { Mirror } from './mirrors.ts';
import { tell } from './progress.ts';
import { limited } from './scope.ts';
import { append, type Column, failureOf, never, percentile, type Row, type Value } from './section.ts';

/** What a mirror is to do. */
export interface Plan {
  mirror: Mirror;
  /** How many turns it takes. */
  rounds: number;
  /** How long it rests in between, ms. */
  restMs: number;
  /** The column that its samples are for, where the turns of several plans differ in that. */
  key?: string;
  /** How many files its tree has, where that differs. */
  files?: number;
}

/** No turn and no start takes longer, ms; what does is left out. */
const TURN_MS = 180_000;
const START_MS = 240_000;

/** A mirror that takes its turns. */
export class Lane {
  readonly samples: Record<string, number[]> = {};
  /** How many turns it has taken. */
  round = 0;
  private readonly lost: Record<string, Value> = {};
  private readyAt = 0;

  /** @param failure why it has not started */
  constructor(
    readonly plan: Plan,
    readonly run: Run | undefined,
    private failure?: Value,
  ) {
    this.rest();
  }

  private rest(): void {
    const { mirror, restMs } = this.plan;
    this.readyAt = performance.now() + restMs + Math.random() * (mirror.pollMs ?? 0);
  }

  get done(): boolean {
    return this.failure !== undefined || Object.keys(this.lost).length > 0 || this.round >= this.plan.rounds;
  }

  get ready(): boolean {
    return !this.done && performance.now() >= this.readyAt;
  }

  /** Adds what was measured, nothing where it did not come to an end within `limit` ms. */
  note(key: string, value: number | undefined, limit: number): void {
    if (value === undefined) this.lost[key] = never(limit);
    else append(this.samples, key, value);
  }

  /** Waits until what a change has set off is over, so that it disturbs nothing; of those that poll, for a moment at random. */
  async pause(): Promise<void> {
    await this.run?.settled(150, 5000);
    await sleep(Math.random() * (this.plan.mirror.pollMs ?? 0));
  }

  /** Takes a turn, and the wait until all that it set off is over. One that fails is the last one. */
  async turn(work: (lane: Lane, run: Run) => Promise<void>): Promise<void> {
    if (!this.run || this.done) return;
    try {
      const { run } = this;
      await limited(TURN_MS, () => work(this, run));
      await run.settled(150, 10_000);
    } catch (error) {
      this.failure = failureOf(error);
      tell(`  ${this.plan.mirror.name} is left out`);
      await this.run[Symbol.asyncDispose]();
    }
    this.round += 1;
    this.rest();
  }

  /** The share `p` of the samples for a column, or why there are none. */
  at(key: string, p: number): Value {
    const value = this.lost[key] ?? percentile(this.samples[key] ?? [], p);
    return value === '–' ? (this.failure ?? value) : value;
  }

  /** Medians by column. */
  row(columns: Column[]): Row {
    const { name, role } = this.plan.mirror;
    const values = Object.fromEntries(columns.map(({ key }) => [key, this.at(key, 0.5)]));
    return { name, role, values, samples: this.samples };
  }
}

/** Starts the mirrors one after the other, each in the bed that is made for it; one that does not start is left out. */
export async function openLanes(
  beds: AsyncDisposableStack,
  plans: Plan[],
  makeBed: (plan: Plan) => Promise<Bed>,
): Promise<Lane[]> {
  const lanes: Lane[] = [];
  for (const plan of plans) {
    tell(`  ${plan.mirror.name}`);
    try {
      const bed = beds.use(await makeBed(plan));
      const run = await limited(START_MS, () => bed.start(plan.mirror));
      await run.settled(300, 10_000);
      lanes.push(new Lane(plan, run));
    } catch (error) {
      lanes.push(new Lane(plan, undefined, failureOf(error)));
      tell(`  ${plan.mirror.name} does not start and is left out`);
    }
  }
  return lanes;
}

/** Has them take turns until all are done. */
export async function takeTurns(lanes: Lane[], work: (lane: Lane, run: Run) => Promise<void>): Promise<void> {
  while (!lanes.every(({ done }) => done)) {
    for (const lane of lanes) if (lane.ready) await lane.turn(work);
    await breathe();
    await sleep(20);
  }
}

/** The same for several groups, one after the other: those that poll would disturb all others. */
export async function takeTurnsInGroups(
  groups: Plan[][],
  makeBed: (plan: Plan, beds: AsyncDisposableStack) => Promise<Bed>,
  work: (lane: Lane, run: Run) => Promise<void>,
): Promise<Lane[]> {
  const lanes: Lane[] = [];
  for (const plans of groups.filter(({ length }) => length > 0)) {
    await using beds = new AsyncDisposableStack();
    const group = await openLanes(beds, plans, (plan) => makeBed(plan, beds));
    await takeTurns(group, work);
    lanes.push(...group);
  }
  return lanes;
}
