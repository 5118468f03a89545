/** One file is rewritten while all is idle: how long until the backup has it? */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { latencyOf } from '../changes.ts';
import { bareRsync, lsyncdAll, type Mirror, oursAtOnce, oursDefault, plainAtOnce } from '../mirrors.ts';
import { type Column, failedRow, goal, never, percentile, type Row, type Section } from '../section.ts';

const LIMIT_MS = 15_000;

const COLUMNS: Column[] = [
  { key: 'p50', title: 'p50', unit: 'ms' },
  { key: 'p99', title: 'p99', unit: 'ms' },
  { key: 'samples', title: 'samples', unit: '' },
];

/** A mirror that takes its turns. */
class Lane {
  readonly samples: number[] = [];
  private lost = false;
  private readyAt = 0;

  constructor(
    readonly run: Run,
    private readonly wanted: number,
    private readonly restMs: number,
  ) {
    this.rest();
  }

  private rest(): void {
    this.readyAt = performance.now() + this.restMs;
  }

  get done(): boolean {
    return this.lost || this.samples.length >= this.wanted;
  }

  get ready(): boolean {
    return !this.done && performance.now() >= this.readyAt;
  }

  /** One change, and the wait until what it set off is over, so that it disturbs no other. */
  async turn(): Promise<void> {
    const taken = await latencyOf(this.run, 'file', LIMIT_MS);
    if (taken === undefined) this.lost = true;
    else this.samples.push(taken);
    await this.run.settled(150);
    this.rest();
  }

  get row(): Row {
    const { name, role } = this.run.mirror;
    const { samples } = this;
    const at = (p: number) => (this.lost ? never(LIMIT_MS) : percentile(samples, p));
    return { name, role, values: { p50: at(0.5), p99: at(0.99), samples: samples.length }, samples: { ms: samples } };
  }
}

/** The mirrors, how many samples each gives, and how long each rests in between, ms: the default has an interval of 5 s. */
const LANES: [Mirror, number, number][] = [
  [oursDefault, 20, 5300],
  [oursAtOnce, 100, 300],
  ...lsyncdAll.map((mirror): [Mirror, number, number] => [mirror, mirror.name.endsWith('1') ? 20 : 30, 300]),
  [plainAtOnce, 30, 300],
  [bareRsync, 30, 300],
];

async function openLane(beds: AsyncDisposableStack, mirror: Mirror, wanted: number, restMs: number): Promise<Lane> {
  const bed = beds.use(await Bed.make('latency'));
  await bed.authorise();
  writeFileSync(bed.path('source', 'file'), '');
  const run = await bed.start(mirror);
  await run.settled();
  return new Lane(run, wanted, restMs);
}

export async function latency(): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const lanes: Lane[] = [];
  const failed: Row[] = [];
  for (const [mirror, wanted, restMs] of LANES) {
    await openLane(beds, mirror, wanted, restMs).then(
      (lane) => lanes.push(lane),
      (error) => failed.push(failedRow(mirror, COLUMNS, error)),
    );
  }
  while (!lanes.every(({ done }) => done)) {
    for (const lane of lanes) if (lane.ready) await lane.turn();
    await sleep(20);
  }
  const rows = [...lanes.map(({ row }) => row), ...failed];
  const ours = rows.find(({ name }) => name === oursDefault.name)?.values.p50 ?? '–';
  return {
    workload: 'latency',
    title: 'One file rewritten while idle, until the backup has it',
    note: 'All run side by side and take turns. The plain loop runs rsync at every event, its fastest form. p99 of few samples is the slowest.',
    columns: COLUMNS,
    rows,
    ratioOf: 'p50',
    base: oursDefault.name,
    goals: [goal('p50 at default settings, ms', ours, 10)],
  };
}
