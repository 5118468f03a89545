/** One file is rewritten under options that people set: does it cost what it costs under the default settings? */
import { writeFileSync } from 'node:fs';
import { Bed, type Run } from '../bed.ts';
import { latencyOf, makeTree, treeFiles } from '../changes.ts';
import { type Lane, openLanes, type Plan, takeTurns } from '../lanes.ts';
import { oursIn } from '../mirrors.ts';
import { type Column, type Goal, goal, type Row, ratio, type Section } from '../section.ts';

const LIMIT_MS = 30_000;
const ROUNDS = 7;
/** The default has an interval of 5 s, and so have all of these. */
const REST_MS = 5300;
const BASE = 'default';
/** There is one in every tree. */
const FILE = treeFiles(1)[0] ?? '';

/** A file of rules that leave nothing of the tree out. */
const RULES = 'rules';

/** What is added to the default options. `--contimeout` is not there: rsync refuses it over ssh. */
const SETS = [
  ...['', '--exclude=*.tmp', '--exclude-from=', '-F', '-H', '-x', '--timeout=60'],
  ...['--delay-updates', '--partial-dir=.partial', '--delete-excluded', '--prune-empty-dirs'],
];
/** Those that had all compared at each change, also in a large tree. */
const IN_LARGE = ['', '-H', '--delay-updates'];

const columnOf = (files: number): Column => ({
  key: String(files),
  title: `${files.toLocaleString('en')} files`,
  unit: 'ms',
});

const settingOf = (set: string) => set.replace(/=$/, '') || BASE;
const nameOf = (set: string) => `rsync-inotify, ${settingOf(set)}`;

const optionsOf = (bed: Bed, set: string) =>
  `-avz --delete ${set === '--exclude-from=' ? `${set}${bed.path(RULES)}` : set}`;

/** Without options of its own, `RSYNC_OPTS` is not set at all. */
function planOf(set: string, files: number): Plan {
  const envOf = ({ bed }: Run): Record<string, string> => (set ? { RSYNC_OPTS: optionsOf(bed, set) } : {});
  return { mirror: oursIn(settingOf(set), envOf), rounds: ROUNDS, restMs: REST_MS, key: String(files), files };
}

async function makeBed({ files = 1 }: Plan): Promise<Bed> {
  const bed = await Bed.make('options');
  await bed.authorise();
  writeFileSync(bed.path(RULES), '*.tmp\n*.swp\n');
  await makeTree(bed, treeFiles(files));
  return bed;
}

/** One row for each set of options, of its lanes in both trees. */
function rowsOf(lanes: Lane[]): Row[] {
  return SETS.map((set) => {
    const own = lanes.filter(({ plan }) => plan.mirror.name === nameOf(set));
    const values = Object.fromEntries(own.map((lane) => [lane.plan.key, lane.at(lane.plan.key ?? '', 0.5)]));
    const samples = Object.assign({}, ...own.map((lane) => lane.samples));
    return { name: nameOf(set), role: 'ours', values, samples };
  });
}

/** The one of the others that is furthest from the default; one that has failed is further than all. */
function worst(rows: Row[], files: number): Goal {
  const base = rows.find((row) => row.name === nameOf(''))?.values[files];
  const measured = rows.filter((row) => row.name !== nameOf('') && files in row.values);
  const distance = (row: Row) => ratio(row.values[files], base);
  const order = (row: Row) => Number(distance(row)) || Number.POSITIVE_INFINITY;
  const [slowest] = measured.toSorted((a, b) => order(b) - order(a));
  const what = slowest?.name.replace('rsync-inotify, ', '');
  const value = slowest ? distance(slowest) : '–';
  return goal(`in ${files.toLocaleString('en')} files, the slowest (${what}) ÷ default`, value, 1.3);
}

/** @param small how many files are in the tree for all sets of options, @param large in that for a few of them */
export async function moreOptions(small: number, large: number): Promise<Section> {
  await using beds = new AsyncDisposableStack();
  const plans = [...SETS.map((set) => planOf(set, small)), ...IN_LARGE.map((set) => planOf(set, large))];
  const lanes = await openLanes(beds, plans, makeBed);
  await takeTurns(lanes, async (lane, run) => {
    const { plan } = lane;
    lane.note(plan.key ?? '', await latencyOf(run, FILE, LIMIT_MS), LIMIT_MS);
  });
  const rows = rowsOf(lanes);
  return {
    workload: 'options',
    title: 'One file rewritten while idle, with more options in RSYNC_OPTS',
    note: `p50 of ${ROUNDS}, taken by turns. --exclude=*.tmp and a file of such rules leave nothing of the tree out.`,
    columns: [small, large].map(columnOf),
    rows,
    ratioOf: String(small),
    base: nameOf(''),
    goals: [worst(rows, small), worst(rows, large)],
  };
}
