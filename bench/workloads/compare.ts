/** All is compared, and hardly anything is to be deleted: what does it cost to make sure of that before? */
import { writeFileSync } from 'node:fs';
import { Bed } from '../bed.ts';
import { makeTree, treeFiles } from '../changes.ts';
import { bareWith, type Mirror, ours } from '../mirrors.ts';
import { type Column, goal, percentile, type Row, ratio, type Section } from '../section.ts';

const FILES = treeFiles(100_000);
/** How often each is measured, after a first time in which it gets to know the target. */
const ROUNDS = 5;
/** How many files the target has that the source has not. */
const STRAYS = 10;

const unlimited = ours('MAX_DELETE=off', { MAX_DELETE: 'off', LOG_FORMAT: 'json' });
const limited = ours('default', { LOG_FORMAT: 'json' });
const bare = bareWith('-avz');
const MIRRORS = [unlimited, limited, bare];

const COLUMNS: Column[] = [
  { key: 's', title: 'p50', unit: 's' },
  { key: 'fastest', title: 'fastest', unit: 's' },
];

/** The first full sync of a start, as the log tells of it, or all that a bare rsync does, s. */
async function compareOnce(bed: Bed, mirror: Mirror): Promise<number> {
  for (let n = 0; n < STRAYS; n++) writeFileSync(bed.path('backup', `stray-${n}`), '');
  await using run = bed.prepare(mirror);
  await run.open();
  const started = performance.now();
  await mirror.launch(run);
  if (mirror.push) return (performance.now() - started) / 1000;
  const line = run.output.split('\n').find((text) => text.includes('"sync.success"'));
  if (!line) throw new Error(`no full sync in:\n${run.output}`);
  return JSON.parse(line).duration_ms / 1000;
}

const rowOf = ({ name, role }: Mirror, s: number[]): Row => ({
  ...{ name, role, samples: { s } },
  values: { s: percentile(s, 0.5), fastest: percentile(s, 0) },
});

export async function compare(): Promise<Section> {
  const beds = [await Bed.make('compare'), await Bed.make('compare')];
  const samples: number[][] = MIRRORS.map(() => []);
  for (const bed of beds) await makeTree(await bed.authorise(), FILES);
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [n, mirror] of MIRRORS.entries()) {
      const taken = await compareOnce(beds[n % beds.length] as Bed, mirror);
      if (round > 0) samples[n]?.push(taken);
    }
  }
  const rows = MIRRORS.map((mirror, n) => rowOf(mirror, samples[n] ?? []));
  const [without, guarded, direct] = rows.map(({ values }) => values.s);
  return {
    workload: 'compare',
    title: `All of ${FILES.length.toLocaleString('en')} equal files is compared, and ${STRAYS} are deleted`,
    note: `The first full sync of ${ROUNDS} starts of each, by turns; with a limit, what the source holds is counted before. A bare rsync goes over a connection that is there already.`,
    columns: COLUMNS,
    rows,
    ratioOf: 's',
    base: limited.name,
    goals: [
      goal('default ÷ MAX_DELETE=off', ratio(guarded, without), 1.05),
      goal('default ÷ bare rsync', ratio(guarded, direct), 0.75),
    ],
  };
}
