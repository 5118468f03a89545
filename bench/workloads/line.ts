/** A large file is on its way over a slow line: how long does a small change take beside it? */
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { latencyOf, writeRandom } from '../changes.ts';
import { type Lane, openLanes, type Plan } from '../lanes.ts';
import { lsyncdAtOnce, oursAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { tell } from '../progress.ts';
import { Relay } from '../relay.ts';
import { type Column, goal, ratio, type Section } from '../section.ts';

const MEGABYTES = 40;
const LINE = { delayMs: 10, bytesPerSecond: 2_000_000 };
const LIMIT_MS = 60_000;
const ROUNDS = 3;
/** How many changes there are while the line is free, in each round. */
const ALONE = 3;
/** When the small change comes, after the large file was written, ms. */
const AFTER_MS = 2000;

const COLUMNS: Column[] = [
  { key: 'alone', title: 'on the free line', unit: 'ms' },
  { key: 'beside', title: `beside ${MEGABYTES} MB`, unit: 'ms' },
  { key: 'large', title: `the ${MEGABYTES} MB`, unit: 's' },
];

async function makeBed(_: Plan, beds: AsyncDisposableStack): Promise<Bed> {
  const bed = await Bed.make('line');
  bed.port = beds.use(await Relay.to(bed.pair.port, LINE)).port;
  await bed.authorise();
  for (const file of ['file', 'other']) writeFileSync(bed.path('source', file), '');
  return bed;
}

async function alone(lane: Lane, run: Run): Promise<void> {
  for (let n = 0; n < ALONE && !lane.done; n++) {
    await lane.pause();
    await sleep(500);
    lane.note('alone', await latencyOf(run, 'file', LIMIT_MS), LIMIT_MS);
  }
}

/** Resolves with when (`performance.now`) a new file is at the backup as a whole, undefined if not within `LIMIT_MS`. */
async function arrivalOf({ bed }: Run, file: string, size: number): Promise<number | undefined> {
  const copy = bed.path('backup', file);
  for (const deadline = performance.now() + LIMIT_MS; performance.now() < deadline; await sleep(50))
    if (existsSync(copy) && statSync(copy).size === size) return performance.now();
  return undefined;
}

async function beside(lane: Lane, run: Run): Promise<void> {
  const large = `large-${lane.round}`;
  const started = performance.now();
  writeRandom(run.bed.path('source', large), MEGABYTES * 1_000_000);
  const arriving = arrivalOf(run, large, MEGABYTES * 1_000_000);
  await sleep(AFTER_MS);
  lane.note('beside', await latencyOf(run, 'other', LIMIT_MS), LIMIT_MS);
  const arrived = await arriving;
  lane.note('large', arrived && (arrived - started) / 1000, LIMIT_MS);
}

export async function line(): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const plans = [oursAtOnce, ...lsyncdAtOnce, ...others].map((mirror) => ({ mirror, rounds: 2 * ROUNDS, restMs: 0 }));
  const lanes = await openLanes(beds, plans, (plan) => makeBed(plan, beds));
  for (let round = 0; round < ROUNDS; round++) {
    for (const lane of lanes) await lane.turn(alone);
    tell(`  ${MEGABYTES} MB, each on a line of its own`);
    await Promise.all(lanes.map((lane) => lane.turn(beside)));
  }
  const rows = lanes.map((lane) => lane.row(COLUMNS));
  const [own] = rows;
  return {
    workload: 'line',
    title: `A small change while ${MEGABYTES} MB are on a line of 2 MB/s`,
    note: `A relay carries 2 MB/s in each direction, ${LINE.delayMs} ms each way, shared fairly between connections, with buffers of 16 KiB; each mirror has one of its own. Medians of ${ROUNDS} rounds; the change comes ${AFTER_MS / 1000} s after the large file.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'beside',
    base: oursAtOnce.name,
    goals: [goal('beside ÷ on the free line', ratio(own?.values.beside, own?.values.alone), 3)],
  };
}
