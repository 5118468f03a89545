/** From the start of the programs until changes are mirrored. */
import { Bed } from '../bed.ts';
import { followed } from '../changes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce, plainAtOnce } from '../mirrors.ts';
import { type Column, percentile, type Row, rowOf, type Section } from '../section.ts';

const REPETITIONS = 5;
const LIMIT_MS = 30_000;

const COLUMNS: Column[] = [
  { key: 'log', title: 'until the log says so', unit: 's' },
  { key: 'probe', title: 'until a change is mirrored', unit: 's' },
];

/** Seconds. Ours makes its keys and starts its sshd within this time; for the peers both are there before. */
async function upOf(mirror: Mirror): Promise<{ log: number; probe: number }> {
  await using bed = await Bed.make('up');
  const run = bed.prepare(mirror);
  const isOurs = mirror.role === 'ours';
  if (!isOurs) {
    await bed.authorise();
    await run.serve().shows('SSH 服务器就绪');
  }
  const started = performance.now();
  if (isOurs) run.serve();
  await mirror.launch(run);
  const log = (performance.now() - started) / 1000;
  await followed(run, 'probe', LIMIT_MS);
  return { log, probe: (performance.now() - started) / 1000 };
}

async function measure(mirror: Mirror): Promise<Pick<Row, 'values' | 'samples'>> {
  const log: number[] = [];
  const probe: number[] = [];
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const seconds = await upOf(mirror);
    log.push(seconds.log);
    probe.push(seconds.probe);
  }
  return { values: { log: percentile(log, 0.5), probe: percentile(probe, 0.5) }, samples: { log, probe } };
}

export async function up(): Promise<Section> {
  const rows: Row[] = [];
  for (const mirror of [oursAtOnce, ...lsyncdAtOnce, plainAtOnce]) {
    rows.push(await rowOf(mirror, COLUMNS, () => measure(mirror)));
  }
  return {
    workload: 'up',
    title: 'From the start until changes are mirrored',
    note: `Median of ${REPETITIONS}. Ours makes its keys and starts its sshd within this time; the peers find both ready.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'probe',
    base: oursAtOnce.name,
    goals: [],
  };
}
