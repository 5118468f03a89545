/** A file is created, rewritten, saved and deleted in a large directory: does it cost what it weighs? */
import { Bed, type Run } from '../bed.ts';
import { deletionTime, directoryFiles, latencyOf, makeTree, saveTime } from '../changes.ts';
import { type Lane, type Plan, takeTurnsInGroups } from '../lanes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { type Column, goal, type Row, ratio, type Section } from '../section.ts';

const LIMIT_MS = 30_000;
const ROUNDS = 5;
/** Of a peer that takes a second for each. */
const FEW = 2;

/** In the order of a turn. */
const OPERATIONS = {
  create: latencyOf,
  rewrite: latencyOf,
  save: saveTime,
  delete: deletionTime,
};
type Operation = keyof typeof OPERATIONS;

const keyOf = (operation: string, files: number) => `${operation}-${files}`;

const columnsOf = (sizes: number[]): Column[] =>
  sizes.flatMap((files) =>
    Object.keys(OPERATIONS).map((operation) => ({
      key: keyOf(operation, files),
      title: `${operation}, ${files.toLocaleString('en')}`,
      unit: 'ms' as const,
    })),
  );

async function makeBed({ files = 0 }: Plan): Promise<Bed> {
  const bed = await Bed.make('directories');
  await bed.authorise();
  await makeTree(bed, directoryFiles(files));
  return bed;
}

async function work(lane: Lane, run: Run): Promise<void> {
  const { files = 0 } = lane.plan;
  for (const [operation, timeOf] of Object.entries(OPERATIONS)) {
    await lane.pause();
    lane.note(keyOf(operation, files), await timeOf(run, `directory/new-${lane.round}`, LIMIT_MS), LIMIT_MS);
    if (lane.done) return;
  }
}

/** One row for each mirror, of its lanes in all directories. */
function rowsOf(lanes: Lane[], columns: Column[]): Row[] {
  return [...Map.groupBy(lanes, ({ plan }) => plan.mirror)].map(([{ name, role }, own]) => {
    const of = ({ plan }: Lane) => columns.filter(({ key }) => key.endsWith(`-${plan.files}`));
    const rows = own.map((lane) => lane.row(of(lane)));
    const join = (key: 'values' | 'samples') => Object.assign({}, ...rows.map((row) => row[key]));
    return { name, role, values: join('values'), samples: join('samples') };
  });
}

/** What stands in the table of goals: to lsyncd in the small directory, and the large one to the small one. */
function goalsOf(rows: Row[], [small = 0, large = 0]: number[]) {
  const valuesOf = (name: string | undefined) => rows.find((row) => row.name === name)?.values ?? {};
  const [own, lsyncd] = [valuesOf(oursAtOnce.name), valuesOf(lsyncdAtOnce[0]?.name)];
  const both = (operation: Operation) => {
    const [little, much] = [keyOf(operation, small), keyOf(operation, large)];
    const [few, many] = [small, large].map((files) => files.toLocaleString('en'));
    return [
      goal(`${operation} ÷ lsyncd, in ${few} files`, ratio(own[little], lsyncd[little]), 0.5),
      goal(`${operation}, ${many} ÷ ${few} files`, ratio(own[much], own[little]), 1.5),
    ];
  };
  return (['delete', 'save'] as const).flatMap(both);
}

export async function directories(sizes: number[]): Promise<Section> {
  const columns = columnsOf(sizes);
  const plansOf = (mirror: Mirror, rounds: number) =>
    sizes.map((files): Plan => ({ mirror, rounds, restMs: 100, files }));
  const side = [oursAtOnce, ...lsyncdAtOnce].flatMap((mirror) => plansOf(mirror, ROUNDS));
  const lanes = await takeTurnsInGroups([side, ...others.map((mirror) => plansOf(mirror, FEW))], makeBed, work);
  const rows = rowsOf(lanes, columns);
  return {
    workload: 'directories',
    title: 'One file created, rewritten, saved and deleted in a directory of so many files',
    note: `p50 of ${ROUNDS}, of ${FEW} where a program takes a second; saved is by a temporary file that is renamed. This program and lsyncd take turns.`,
    columns,
    rows,
    ratioOf: keyOf('delete', sizes.at(-1) ?? 0),
    base: oursAtOnce.name,
    goals: goalsOf(rows, sizes),
  };
}
