/** The first full sync of many small files: what does a mirror add to a bare rsync, or save? */
import { renameSync, rmdirSync } from 'node:fs';
import { Bed, breathe, type Run } from '../bed.ts';
import { followed, treeFiles, writeFiles } from '../changes.ts';
import { bareWith, lsyncdAtOnce, type Mirror, ours } from '../mirrors.ts';
import { others } from '../peers.ts';
import { tell } from '../progress.ts';
import { limited } from '../scope.ts';
import { append, type Column, failedRow, goal, percentile, type Row, ratio, type Section } from '../section.ts';

const ROUNDS = 3;
const LIMIT_MS = 60_000;
const CONTENT = `${'a small file '.repeat(8)}\n`.slice(-100);

const COLUMNS: Column[] = [
  { key: 's', title: 'the sync', unit: 's' },
  { key: 'up', title: 'from the start until changes are mirrored', unit: 's' },
];

const [bareVerbose, bareQuiet] = [bareWith('-avz'), bareWith('-az')];
const oursWith = (options: string) =>
  ours(options, { RSYNC_OPTS: `${options} --delete`, SYNC_INTERVAL: '0', LOG_FORMAT: 'json' });
const [oursVerbose, oursQuiet] = [oursWith('-avz'), oursWith('-az')];

/** The bare rsync with the same options: peers are not verbose. */
const floorOf = (mirror: Mirror) => (mirror === oursVerbose ? bareVerbose : bareQuiet).name;

/** How long the first full sync took, as the log tells of it, s; of others, all that the start took. */
function syncSeconds(run: Run, upSeconds: number): number {
  if (run.mirror.role !== 'ours') return upSeconds;
  const line = run.output.split('\n').find((text) => text.includes('"sync.success"'));
  if (!line) throw new Error(`no full sync in:\n${run.output.slice(-5000)}`);
  return JSON.parse(line).duration_ms / 1000;
}

/** Mirrors the source into a new backup, s. */
async function syncOnce(run: Run): Promise<Record<string, number>> {
  await run.open();
  const started = performance.now();
  await run.mirror.launch(run);
  const seconds = () => (performance.now() - started) / 1000;
  const s = syncSeconds(run, seconds());
  if (run.mirror.push) return { s };
  await followed(run, `probe of ${run.mirror.name}`.replaceAll(/\W/g, '-'), LIMIT_MS);
  return { s, up: seconds() };
}

/** The source, which goes from one bed to the next, so that each has a backup that never held anything. */
class Passed {
  constructor(private at: string) {}

  async toNewBed(): Promise<Bed> {
    const bed = await Bed.make('full');
    await bed.authorise();
    rmdirSync(bed.path('source'));
    renameSync(this.at, bed.path('source'));
    this.at = bed.path('source');
    return bed;
  }
}

async function makeSource(size: number): Promise<Passed> {
  const bed = await Bed.make('full');
  const files = treeFiles(size);
  for (let from = 0; from < size; from += 1000) {
    writeFiles(bed.path('source'), files.slice(from, from + 1000), () => CONTENT);
    await breathe();
  }
  return new Passed(bed.path('source'));
}

/** A row that grows from round to round; a mirror that has failed takes no more part. */
async function addRound(row: Row, mirror: Mirror, source: Passed): Promise<void> {
  tell(`  ${mirror.name}`);
  const bed = await source.toNewBed();
  const run = bed.prepare(mirror);
  const { samples = {} } = row;
  try {
    for (const [key, value] of Object.entries(await limited(LIMIT_MS, () => syncOnce(run)))) {
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
  const source = await makeSource(size);
  const rows = [...mirrors, ...lsyncdAtOnce, ...others].map((mirror): [Mirror, Row] => [
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
