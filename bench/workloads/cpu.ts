/** What does one sync cost in CPU time, on both sides? */
import { writeFileSync } from 'node:fs';
import { Bed, type Run } from '../bed.ts';
import { latencyOf } from '../changes.ts';
import { type Lane, type Plan, takeTurnsInGroups } from '../lanes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { type Column, goal, ratio, type Section } from '../section.ts';

const LIMIT_MS = 15_000;
const ROUNDS = 4;
/** Syncs in a turn: the kernel counts in hundredths of a second. */
const SYNCS = 15;
const FEW = 5;

const COLUMNS: Column[] = [
  { key: 'both', title: 'both sides', unit: 'ms' },
  { key: 'source', title: 'source', unit: 'ms' },
  { key: 'backup', title: 'backup', unit: 'ms' },
];

async function makeBed(): Promise<Bed> {
  const bed = await Bed.make('cpu');
  await bed.authorise();
  writeFileSync(bed.path('source', 'file'), '');
  return bed;
}

/** Changes one after the other, each when all that the last one set off is over. */
async function work(lane: Lane, run: Run): Promise<void> {
  const syncs = lane.plan.rounds === ROUNDS ? SYNCS : FEW;
  const before = { source: run.cpuSeconds(), backup: run.backupCpuSeconds() };
  for (let n = 0; n < syncs && !lane.done; n++) {
    const arrived = await latencyOf(run, 'file', LIMIT_MS);
    if (arrived === undefined) return lane.note('both', arrived, LIMIT_MS);
    await lane.pause();
  }
  const ms = (seconds: number) => (seconds * 1000) / syncs;
  const [source, backup] = [ms(run.cpuSeconds() - before.source), ms(run.backupCpuSeconds() - before.backup)];
  for (const [key, value] of Object.entries({ source, backup, both: source + backup })) lane.note(key, value, LIMIT_MS);
}

export async function cpu(): Promise<Section> {
  const planOf = (mirror: Mirror, rounds: number): Plan => ({ mirror, rounds, restMs: 300 });
  const side = [oursAtOnce, ...lsyncdAtOnce].map((mirror) => planOf(mirror, ROUNDS));
  const lanes = await takeTurnsInGroups([side, ...others.map((mirror) => [planOf(mirror, 2)])], makeBed, work);
  const rows = lanes.map((lane) => lane.row(COLUMNS));
  const of = (name: string | undefined) => rows.find((row) => row.name === name)?.values.both;
  return {
    workload: 'cpu',
    title: 'CPU time of one sync of one small file',
    note: `Of all processes of a side, until all is over; medians of ${ROUNDS} turns of ${SYNCS} syncs, 2 of ${FEW} where a program takes a second. What a program does of itself meanwhile is in it.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'both',
    base: oursAtOnce.name,
    goals: [goal('both sides ÷ lsyncd', ratio(of(oursAtOnce.name), of(lsyncdAtOnce[0]?.name)), 1)],
  };
}
