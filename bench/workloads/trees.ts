/** One change in trees of growing size: does it cost what it weighs, or what the tree weighs? */
import { Bed } from '../bed.ts';
import { latencyOf, makeTree, treeFiles } from '../changes.ts';
import { bareRsync, lsyncdAtOnce, type Mirror, oursAtOnce, plainAtOnce } from '../mirrors.ts';
import { tell } from '../progress.ts';
import { type Column, goal, never, percentile, type Row, ratio, rowOf, type Section } from '../section.ts';

const LIMIT_MS = 60_000;
const SAMPLES = 11;
/** A mirror that needs long gives fewer samples: after this time none is begun, ms. */
const ENOUGH_MS = 6_000;

const MIRRORS: Mirror[] = [bareRsync, oursAtOnce, ...lsyncdAtOnce, plainAtOnce];

async function measure(bed: Bed, mirror: Mirror, file: string): Promise<Pick<Row, 'values' | 'samples'>> {
  await using run = await bed.start(mirror);
  const ms: number[] = [];
  const deadline = performance.now() + ENOUGH_MS;
  while (ms.length < SAMPLES && (ms.length === 0 || performance.now() < deadline)) {
    await run.settled();
    const taken = await latencyOf(run, file, LIMIT_MS);
    if (taken === undefined) return { values: { ms: never(LIMIT_MS) } };
    ms.push(taken);
  }
  return { values: { ms: percentile(ms, 0.5) }, samples: { ms } };
}

const columnOf = (size: number): Column => ({
  key: String(size),
  title: `${size.toLocaleString('en')} files`,
  unit: 'ms',
});

/** One row for each mirror, with the one column of this size. */
async function measureAll(size: number): Promise<Row[]> {
  tell(` ${columnOf(size).title}`);
  const files = treeFiles(size);
  const file = files[Math.floor(size / 2)] ?? '';
  await using bed = await Bed.make('trees');
  await bed.authorise();
  await makeTree(bed, files);
  const rows: Row[] = [];
  for (const mirror of MIRRORS) {
    const { values, samples, ...row } = await rowOf(mirror, [columnOf(size)], () => measure(bed, mirror, file));
    rows.push({ ...row, values: { [size]: values.ms ?? '–' }, samples: { [size]: samples?.ms ?? [] } });
  }
  return rows;
}

/** Joins the columns of the sizes. */
function joined(bySize: Row[][]): Row[] {
  return MIRRORS.map(({ name, role }) => {
    const parts = bySize.flat().filter((row) => row.name === name);
    const values = Object.assign({}, ...parts.map((part) => part.values));
    return { name, role, values, samples: Object.assign({}, ...parts.map((part) => part.samples)) };
  });
}

export async function trees(sizes: number[]): Promise<Section> {
  const bySize: Row[][] = [];
  for (const size of sizes) bySize.push(await measureAll(size));
  const rows = joined(bySize);
  const [smallest, largest] = [Math.min(...sizes), Math.max(...sizes)].map(columnOf);
  const ours = rows.find(({ name }) => name === oursAtOnce.name)?.values ?? {};
  return {
    workload: 'trees',
    title: 'One file rewritten in a tree of this size, until the backup has it',
    note: `100 files to a directory, empty but for the one. p50 of ${SAMPLES} samples, of fewer where one takes seconds.`,
    columns: sizes.map(columnOf),
    rows,
    ratioOf: largest?.key ?? '',
    base: oursAtOnce.name,
    goals: [
      goal(
        `ours, ${largest?.title} ÷ ${smallest?.title}`,
        ratio(ours[largest?.key ?? ''], ours[smallest?.key ?? '']),
        1.2,
      ),
    ],
  };
}
