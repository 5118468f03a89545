/** One file is rewritten while all is idle: how long until the backup has it? */
import { writeFileSync } from 'node:fs';
import { Bed } from '../bed.ts';
import { latencyOf } from '../changes.ts';
import { type Lane, openLanes, type Plan, takeTurns } from '../lanes.ts';
import { bareRsync, lsyncdAll, lsyncdAtOnce, oursAtOnce, oursDefault, plainAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { type Column, goal, type Row, ratio, type Section } from '../section.ts';

const LIMIT_MS = 15_000;

const COLUMNS: Column[] = [
  { key: 'p50', title: 'p50', unit: 'ms' },
  { key: 'p99', title: 'p99', unit: 'ms' },
  { key: 'samples', title: 'samples', unit: '' },
];

/** The default has an interval of 5 s. */
const PLANS: Plan[] = [
  { mirror: oursDefault, rounds: 15, restMs: 5300 },
  { mirror: oursAtOnce, rounds: 60, restMs: 300 },
  ...lsyncdAll.map((mirror) => ({ mirror, rounds: mirror.name.endsWith('1') ? 10 : 20, restMs: 300 })),
  ...others.map((mirror) => ({ mirror, rounds: 10, restMs: 300 })),
  { mirror: plainAtOnce, rounds: 15, restMs: 300 },
  { mirror: bareRsync, rounds: 15, restMs: 300 },
];

async function makeBed(): Promise<Bed> {
  const bed = await Bed.make('latency');
  await bed.authorise();
  writeFileSync(bed.path('source', 'file'), '');
  return bed;
}

function rowOf(lane: Lane): Row {
  const { name, role } = lane.plan.mirror;
  const ms = lane.samples.ms ?? [];
  const values = { p50: lane.at('ms', 0.5), p99: lane.at('ms', 0.99), samples: ms.length };
  return { name, role, values, samples: { ms } };
}

export async function latency(): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const lanes = await openLanes(beds, PLANS, makeBed);
  await takeTurns(lanes, async (lane, run) => lane.note('ms', await latencyOf(run, 'file', LIMIT_MS), LIMIT_MS));
  const rows = lanes.map(rowOf);
  const p50 = (name: string | undefined) => rows.find((row) => row.name === name)?.values.p50 ?? '–';
  const ours = p50(oursDefault.name);
  return {
    workload: 'latency',
    title: 'One file rewritten while idle, until the backup has it',
    note: 'All run side by side and take turns. The plain loop runs rsync at every event, its fastest form. p99 of few samples is the slowest.',
    columns: COLUMNS,
    rows,
    ratioOf: 'p50',
    base: oursDefault.name,
    goals: [
      goal('p50 at default settings, ms', ours, 10),
      goal('p50 at default settings ÷ lsyncd', ratio(ours, p50(lsyncdAtOnce[0]?.name)), 0.35),
    ],
  };
}
