/** 10,000 small files are written at once: how long until both trees are equal? */
import { Bed } from '../bed.ts';
import { equalSince, treeFiles, writeFiles } from '../changes.ts';
import { bareRsync, lsyncdAtOnce, type Mirror, oursAtOnce, plainAtOnce, plainThrottled } from '../mirrors.ts';
import { type Column, goal, never, percentile, type Row, ratio, rowOf, type Section } from '../section.ts';

const FILES = treeFiles(10_000);
const REPETITIONS = 3;
const LIMIT_MS = 30_000;

const COLUMNS: Column[] = [
  { key: 'equal', title: 'until equal', unit: 's' },
  { key: 'writing', title: 'writing', unit: 's' },
];

/** Seconds; `equal` is undefined if the trees never were. Bare rsync starts when the files are written. */
async function burstOf(mirror: Mirror): Promise<{ equal: number | undefined; writing: number }> {
  await using bed = await Bed.make('burst');
  await bed.authorise();
  const run = await bed.start(mirror);
  await run.settled();
  const started = performance.now();
  writeFiles(bed.source, FILES);
  const written = performance.now();
  run.mirror.push?.(run);
  const from = mirror.push ? written : started;
  const equal = await equalSince(bed, FILES, LIMIT_MS);
  return { equal: equal && (equal - from) / 1000, writing: (written - started) / 1000 };
}

async function measure(mirror: Mirror): Promise<Pick<Row, 'values' | 'samples'>> {
  const equal: number[] = [];
  const writing: number[] = [];
  while (equal.length < REPETITIONS) {
    const seconds = await burstOf(mirror);
    writing.push(seconds.writing);
    if (seconds.equal === undefined) return { values: { equal: never(LIMIT_MS), writing: percentile(writing, 0.5) } };
    equal.push(seconds.equal);
  }
  return { values: { equal: percentile(equal, 0.5), writing: percentile(writing, 0.5) }, samples: { equal, writing } };
}

export async function burst(): Promise<Section> {
  const mirrors = [bareRsync, oursAtOnce, ...lsyncdAtOnce, plainAtOnce, plainThrottled];
  const rows: Row[] = [];
  for (const mirror of mirrors) rows.push(await rowOf(mirror, COLUMNS, () => measure(mirror)));
  const equal = (name: string) => rows.find((row) => row.name === name)?.values.equal;
  return {
    workload: 'burst',
    title: '10,000 small files written at once, until both trees are equal',
    note: `Median of ${REPETITIONS}, each on new trees: 100 new directories of 100 files. Bare rsync starts when all is written.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'equal',
    base: oursAtOnce.name,
    goals: [goal('ours ÷ bare rsync', ratio(equal(oursAtOnce.name), equal(bareRsync.name)), 1)],
  };
}
