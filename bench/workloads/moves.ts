/** A large file and a large directory are renamed: how long until the backup has them in their new place alone? */
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { allThere, copyToBackup, equalWithin, writeRandom } from '../changes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce, oursWithoutRenames, plainAtOnce } from '../mirrors.ts';
import { type Column, goal, never, percentile, type Row, rowOf, type Section, type Value } from '../section.ts';

const MEGABYTES = 300;
/** Of the directory, which is as large. */
const FILES = 1000;
const REPETITIONS = 3;
const LIMIT_MS = 60_000;

const COLUMNS: Column[] = [
  { key: 'file', title: `file of ${MEGABYTES} MB`, unit: 's' },
  { key: 'directory', title: `directory of ${FILES} files, ${MEGABYTES} MB`, unit: 's' },
];

const filesIn = (name: string) =>
  name.startsWith('file') ? [name] : Array.from({ length: FILES }, (_, n) => `${name}/${n}`);

function makeFiles({ source }: Bed): void {
  writeRandom(`${source}/file`, MEGABYTES * 1_000_000);
  mkdirSync(`${source}/directory`);
  for (const file of filesIn('directory')) writeRandom(`${source}/${file}`, (MEGABYTES * 1_000_000) / FILES);
}

/** Seconds until all is in the new place and nothing in the old one; nothing where it never is. */
async function moveOf({ bed }: Run, from: string, to: string): Promise<number | undefined> {
  const started = performance.now();
  renameSync(bed.path('source', from), bed.path('source', to));
  const deadline = started + LIMIT_MS;
  const arrived = await allThere(bed, filesIn(to), deadline);
  while (arrived && existsSync(bed.path('backup', from)) && performance.now() < deadline) await sleep(2);
  const took = (performance.now() - started) / 1000;
  return arrived && (await equalWithin(bed, deadline - performance.now())) ? took : undefined;
}

/** Renames to and fro. */
async function measureMoves(run: Run, name: string): Promise<{ value: Value; samples: number[] }> {
  const samples: number[] = [];
  const names = [name, `${name} under another name`] as const;
  while (samples.length < REPETITIONS) {
    await run.settled(1000);
    const took = await moveOf(run, names[samples.length % 2] ?? '', names[1 - (samples.length % 2)] ?? '');
    if (took === undefined) return { value: never(LIMIT_MS), samples };
    samples.push(took);
  }
  return { value: percentile(samples, 0.5), samples };
}

async function measure(mirror: Mirror): Promise<Pick<Row, 'values' | 'samples'>> {
  await using bed = await Bed.make('moves');
  await bed.authorise();
  makeFiles(bed);
  await copyToBackup(bed);
  const run = await bed.start(mirror);
  const [file, directory] = [await measureMoves(run, 'file'), await measureMoves(run, 'directory')];
  return {
    values: { file: file.value, directory: directory.value },
    samples: { file: file.samples, directory: directory.samples },
  };
}

export async function moves(): Promise<Section> {
  const rows: Row[] = [];
  for (const mirror of [oursAtOnce, oursWithoutRenames, ...lsyncdAtOnce, plainAtOnce])
    rows.push(await rowOf(mirror, COLUMNS, () => measure(mirror)));
  const ours = rows[0]?.values ?? {};
  return {
    workload: 'moves',
    title: 'A rename of 300 MB, until the backup has them in their new place',
    note: `Median of ${REPETITIONS}, to and fro. RENAME_ON_TARGET=false has rsync delete and send all again.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'file',
    base: oursAtOnce.name,
    goals: [
      goal('seconds for a file', ours.file ?? '–', 0.5),
      goal('seconds for a directory', ours.directory ?? '–', 0.5),
    ],
  };
}
