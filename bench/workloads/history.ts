/** One file is rewritten while all is idle, with a backup that keeps older versions and with one that keeps none: what does that cost? */
import { writeFileSync } from 'node:fs';
import { Bed } from '../bed.ts';
import { latencyOf } from '../changes.ts';
import { openLanes, type Plan, takeTurns } from '../lanes.ts';
import { type Mirror, oursAtOnce } from '../mirrors.ts';
import { type Column, goal, ratio, type Section } from '../section.ts';

const LIMIT_MS = 15_000;
const ROUNDS = 40;

const COLUMNS: Column[] = [
  { key: 'ms', title: 'p50', unit: 'ms' },
  { key: 'p99', title: 'p99', unit: 'ms' },
];

const keeping: Mirror = {
  ...oursAtOnce,
  name: `${oursAtOnce.name}, HISTORY_DAYS=30`,
  backupEnv: { ...oursAtOnce.backupEnv, HISTORY_DAYS: '30' },
};
const PLANS: Plan[] = [oursAtOnce, keeping].map((mirror) => ({ mirror, rounds: ROUNDS, restMs: 300 }));

async function makeBed(): Promise<Bed> {
  const bed = await Bed.make('history');
  await bed.authorise();
  writeFileSync(bed.path('source', 'file'), '');
  return bed;
}

export async function history(): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const lanes = await openLanes(beds, PLANS, makeBed);
  await takeTurns(lanes, async (lane, run) => lane.note('ms', await latencyOf(run, 'file', LIMIT_MS), LIMIT_MS));
  const rows = lanes.map((lane) => ({
    ...lane.row(COLUMNS),
    values: { ms: lane.at('ms', 0.5), p99: lane.at('ms', 0.99) },
  }));
  const [without, kept] = rows.map(({ values }) => values.ms);
  return {
    workload: 'history',
    title: 'One file rewritten while idle, with older versions kept by the backup',
    note: 'Both run side by side and take turns. p99 of few samples is the slowest.',
    columns: COLUMNS,
    rows,
    ratioOf: 'ms',
    base: oursAtOnce.name,
    goals: [goal('p50 with older versions ÷ without', ratio(kept, without), 1.15)],
  };
}
