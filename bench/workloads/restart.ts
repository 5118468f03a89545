/** The source is started once more, with equal trees: how long until changes are mirrored? */
import { Bed, type Run } from '../bed.ts';
import { followed, makeTree, treeFiles } from '../changes.ts';
import { type Lane, type Plan, takeTurnsInGroups } from '../lanes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce } from '../mirrors.ts';
import { others } from '../peers.ts';
import { type Column, goal, ratio, type Section } from '../section.ts';

const FILES = 1000;
const LIMIT_MS = 60_000;
const ROUNDS = 5;
const FEW = 3;

const COLUMNS: Column[] = [
  { key: 'log', title: 'until the log says so', unit: 's' },
  { key: 'probe', title: 'until a change is mirrored', unit: 's' },
];

async function makeBed(): Promise<Bed> {
  const bed = await Bed.make('restart');
  await bed.authorise();
  await makeTree(bed, treeFiles(FILES));
  return bed;
}

async function work(lane: Lane, run: Run): Promise<void> {
  await run.halt();
  await run.settled(300, 10_000);
  const started = performance.now();
  const seconds = () => (performance.now() - started) / 1000;
  await run.mirror.launch(run);
  lane.note('log', seconds(), LIMIT_MS);
  await followed(run, `probe-${lane.round}`, LIMIT_MS);
  lane.note('probe', seconds(), LIMIT_MS);
}

export async function restart(): Promise<Section> {
  const planOf = (mirror: Mirror, rounds: number): Plan => ({ mirror, rounds, restMs: 0 });
  const side = [oursAtOnce, ...lsyncdAtOnce].map((mirror) => planOf(mirror, ROUNDS));
  const lanes = await takeTurnsInGroups([side, ...others.map((mirror) => [planOf(mirror, FEW)])], makeBed, work);
  const rows = lanes.map((lane) => lane.row(COLUMNS));
  const of = (name: string | undefined) => rows.find((row) => row.name === name)?.values.probe;
  return {
    workload: 'restart',
    title: 'The source restarted with equal trees, until changes are mirrored',
    note: `Medians of ${ROUNDS}, by turns, of Unison and Syncthing ${FEW}; trees of ${FILES.toLocaleString('en')} files, and the backup goes on.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'probe',
    base: oursAtOnce.name,
    goals: [goal('ours ÷ lsyncd', ratio(of(oursAtOnce.name), of(lsyncdAtOnce[0]?.name)), 1.2)],
  };
}
