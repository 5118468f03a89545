/** Nothing happens: what does that cost? */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { treeFiles, writeFiles } from '../changes.ts';
import { lsyncdAtOnce, type Mirror, oursDefault, plainThrottled } from '../mirrors.ts';
import { type Column, failedRow, goal, type Row, type Section } from '../section.ts';

const SECONDS = 30;
const FILES = treeFiles(1000);

const COLUMNS: Column[] = [
  { key: 'cpu', title: 'CPU of a core', unit: '%' },
  { key: 'pss', title: 'PSS', unit: 'MiB' },
  { key: 'rss', title: 'RSS', unit: 'MiB' },
  { key: 'processes', title: 'processes', unit: '' },
];

async function rowOfIdle(run: Run): Promise<Row> {
  const before = run.cpuSeconds();
  await sleep(SECONDS * 1000);
  const cpu = (100 * (run.cpuSeconds() - before)) / SECONDS;
  const { name, role } = run.mirror;
  return { name, role, values: { cpu, ...run.memory(), processes: run.processes().length } };
}

async function startIdle(beds: AsyncDisposableStack, mirror: Mirror): Promise<Run> {
  const bed = beds.use(await Bed.make('idle'));
  await bed.authorise();
  writeFiles(bed.path('source'), FILES);
  return bed.start(mirror);
}

export async function idle(): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const runs: Run[] = [];
  const failed: Row[] = [];
  for (const mirror of [oursDefault, ...lsyncdAtOnce, plainThrottled]) {
    await startIdle(beds, mirror).then(
      (run) => runs.push(run),
      (error) => failed.push(failedRow(mirror, COLUMNS, error)),
    );
  }
  for (const run of runs) await run.settled();
  const rows = [...(await Promise.all(runs.map(rowOfIdle))), ...failed];
  const ours = rows.find(({ role }) => role === 'ours')?.values ?? {};
  return {
    workload: 'idle',
    title: 'Nothing happens',
    note: `Over ${SECONDS} s, all processes of the source side, side by side, in trees of ${FILES.length} files.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'pss',
    base: oursDefault.name,
    goals: [
      goal('CPU at default settings, % of a core', ours.cpu ?? '–', 0.2),
      goal('memory (PSS) with children, MiB', ours.pss ?? '–', 60),
    ],
  };
}
