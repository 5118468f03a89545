/** Changes over a long link: one by itself, and one soon after another. */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { latencyOf } from '../changes.ts';
import { type Lane, type Plan, takeTurnsInGroups } from '../lanes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { Relay } from '../relay.ts';
import { type Column, goal, ratio, type Section } from '../section.ts';

/** One way. */
const DELAY_MS = 50;
const LIMIT_MS = 30_000;
const ROUNDS = 5;
const FEW = 2;
/** How many follow the first one, and how soon after it has arrived, ms. */
const IN_A_ROW = 3;
const AFTER_MS = 200;

const COLUMNS: Column[] = [
  { key: 'isolated', title: 'isolated', unit: 'ms' },
  { key: 'row', title: `${AFTER_MS / 1000} s after the last`, unit: 'ms' },
];

async function makeBed(_: Plan, beds: AsyncDisposableStack): Promise<Bed> {
  const bed = await Bed.make('link');
  bed.port = beds.use(await Relay.to(bed.pair.port, { delayMs: DELAY_MS })).port;
  await bed.authorise();
  writeFileSync(bed.path('source', 'file'), '');
  return bed;
}

async function work(lane: Lane, run: Run): Promise<void> {
  await lane.pause();
  await sleep(1000);
  lane.note('isolated', await latencyOf(run, 'file', LIMIT_MS), LIMIT_MS);
  for (let n = 0; n < IN_A_ROW && !lane.done; n++) {
    await sleep(AFTER_MS);
    lane.note('row', await latencyOf(run, 'file', LIMIT_MS), LIMIT_MS);
  }
}

export async function link(): Promise<Section> {
  const planOf = (mirror: Mirror, rounds: number): Plan => ({ mirror, rounds, restMs: 0 });
  const side = [oursAtOnce, ...lsyncdAtOnce].map((mirror) => planOf(mirror, ROUNDS));
  const lanes = await takeTurnsInGroups([side, others.map((mirror) => planOf(mirror, FEW))], makeBed, work);
  const rows = lanes.map((lane) => lane.row(COLUMNS));
  const [own] = rows;
  const roundTrips = (key: string) => ratio(own?.values[key], 2 * DELAY_MS);
  return {
    workload: 'link',
    title: `One file rewritten over a link with a round trip of ${2 * DELAY_MS} ms`,
    note: `A relay adds ${DELAY_MS} ms each way. Medians of ${ROUNDS} turns, ${FEW} where a program takes a second: a change while all is idle, then ${IN_A_ROW}, each ${AFTER_MS / 1000} s after the last one has arrived.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'row',
    base: oursAtOnce.name,
    goals: [
      goal('isolated, round trips', roundTrips('isolated'), 1.7),
      goal(`${AFTER_MS / 1000} s after the last one has arrived, round trips`, roundTrips('row'), 1.7),
    ],
  };
}
