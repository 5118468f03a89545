/** The first full sync of many small files: what does a mirror add to a bare rsync, or save? */
import { treeFiles } from '../changes.ts';
import { makeSource, type Passed, syncOnce } from '../first-sync.ts';
import { bareWith, lsyncdAtOnce, type Mirror, oursWith } from '../mirrors.ts';
import { tersely } from '../peers.ts';
import { tell } from '../progress.ts';
import { limited } from '../scope.ts';
import { append, type Column, failedRow, goal, percentile, type Row, ratio, type Section } from '../section.ts';

const ROUNDS = 3;
const LIMIT_MS = 60_000;

const COLUMNS: Column[] = [
  { key: 's', title: 'the sync', unit: 's' },
  { key: 'up', title: 'from the start until changes are mirrored', unit: 's' },
];

const [bareVerbose, bareQuiet] = [bareWith('-avz'), bareWith('-az')];
const [oursVerbose, oursQuiet] = [oursWith('-avz'), oursWith('-az')];

/** The bare rsync with the same options: peers are not verbose. */
const floorOf = (mirror: Mirror) => (mirror === oursVerbose ? bareVerbose : bareQuiet).name;

/** A row that grows from round to round; a mirror that has failed takes no more part. */
async function addRound(row: Row, mirror: Mirror, source: Passed): Promise<void> {
  tell(`  ${mirror.name}`);
  const bed = await source.toNewBed();
  const run = bed.prepare(mirror);
  const { samples = {} } = row;
  try {
    for (const [key, value] of Object.entries(await limited(LIMIT_MS, () => syncOnce(run, LIMIT_MS)))) {
      append(samples, key, value);
      row.values[key] = percentile(samples[key] ?? [], 0.5);
    }
  } catch (error) {
    Object.assign(row, failedRow(mirror, COLUMNS, error));
  }
  await run[Symbol.asyncDispose]();
}

export async function full(size: number): Promise<Section> {
  const mirrors = [bareVerbose, oursVerbose, bareQuiet, oursQuiet];
  const source = await makeSource(treeFiles(size));
  const rows = [...mirrors, ...lsyncdAtOnce, ...tersely].map((mirror): [Mirror, Row] => [
    mirror,
    { name: mirror.name, role: mirror.role, floor: floorOf(mirror), values: { s: '–', up: '–' }, samples: {} },
  ]);
  for (let round = 0; round < ROUNDS; round++) {
    const isTaking = ([mirror, { values }]: [Mirror, Row]) =>
      round === 0 || (mirrors.includes(mirror) && typeof values.s === 'number');
    for (const [mirror, row] of rows.filter(isTaking)) await addRound(row, mirror, source);
  }
  const of = ({ name }: Mirror) => rows.find(([mirror]) => mirror.name === name)?.[1].values.s;
  return {
    workload: 'full',
    title: `First full sync of ${size.toLocaleString('en')} files of 100 bytes`,
    note: `Medians of ${ROUNDS}, by turns, each to a new backup; of the peers one each. Ours is what its log says of the sync; a bare rsync, too, goes over a connection that is there already; a peer starts and connects within the time.`,
    columns: COLUMNS,
    rows: rows.map(([, row]) => row),
    ratioOf: 's',
    base: oursQuiet.name,
    goals: [
      goal('ours ÷ bare rsync, both with -avz', ratio(of(oursVerbose), of(bareVerbose)), 0.75),
      goal('ours ÷ bare rsync, both with -az', ratio(of(oursQuiet), of(bareQuiet)), 0.75),
    ],
  };
}
