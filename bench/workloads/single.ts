/** First full syncs that one rsync does, for two would help nothing or break something: what does a mirror add to a bare one? */
import { spawnSync } from 'node:child_process';
import { directoryFiles, treeFiles } from '../changes.ts';
import { makeSource, type Passed, syncOnce } from '../first-sync.ts';
import { bareWith, type Mirror, oursWith } from '../mirrors.ts';
import { tell } from '../progress.ts';
import { limited } from '../scope.ts';
import { append, type Column, goal, percentile, type Row, ratio, type Section } from '../section.ts';

const FILES = 30_000;
const ROUNDS = 5;
const LIMIT_MS = 60_000;

interface Kind {
  name: string;
  options: string;
  files: string[];
  /** Those that all of it runs on, as taskset takes them; all where there are none. */
  cores?: string;
}

const KINDS: Kind[] = [
  { name: '-H', options: '-avzH', files: treeFiles(FILES) },
  { name: 'one directory', options: '-avz', files: directoryFiles(FILES) },
  { name: 'one core', options: '-avz', files: treeFiles(FILES), cores: '0' },
];

const COLUMNS: Column[] = [{ key: 's', title: 'the sync', unit: 's' }];

/** Has this process, and what it starts, run on some cores alone; returns what lets it run on all of them again. */
function confine(cores: string): Disposable {
  const set = (...words: string[]) => spawnSync('taskset', ['-a', '-p', ...words, String(process.pid)]);
  const all = /: (\S+)\n/.exec(spawnSync('taskset', ['-p', String(process.pid)]).stdout.toString())?.[1];
  if (all === undefined || set('-c', cores).status !== 0) throw new Error('taskset does not run');
  return { [Symbol.dispose]: () => void set(all) };
}

async function secondsOf(mirror: Mirror, source: Passed): Promise<number> {
  const bed = await source.toNewBed();
  await using run = bed.prepare(mirror);
  const { s = Number.NaN } = await limited(LIMIT_MS, () => syncOnce(run, LIMIT_MS));
  return s;
}

/** A bare rsync and ours, by turns. */
async function rowsOf({ name, options, files, cores }: Kind): Promise<Row[]> {
  const source = await makeSource(files);
  using confined = new DisposableStack();
  if (cores !== undefined) confined.use(confine(cores));
  const samples: Record<string, number[]> = {};
  const [floor, own] = [bareWith(options), oursWith(options)];
  for (let round = 0; round < ROUNDS; round++) {
    for (const mirror of [floor, own]) {
      tell(`  ${mirror.name}, ${name}`);
      append(samples, mirror.role, await secondsOf(mirror, source));
    }
  }
  const rowFor = ({ role }: Mirror, program: string): Row => ({
    ...{ name: `${program}, ${name}`, role, floor: `bare rsync, ${name}` },
    ...{ values: { s: percentile(samples[role] ?? [], 0.5) }, samples: { s: samples[role] ?? [] } },
  });
  return [rowFor(floor, 'bare rsync'), rowFor(own, 'rsync-inotify')];
}

export async function single(): Promise<Section> {
  const rows: Row[] = [];
  for (const kind of KINDS) rows.push(...(await rowsOf(kind)));
  const of = (program: string, { name }: Kind) => rows.find((row) => row.name === `${program}, ${name}`)?.values.s;
  const toBare = (kind: Kind) => ratio(of('rsync-inotify', kind), of('bare rsync', kind));
  return {
    workload: 'single',
    title: `First full sync of ${FILES.toLocaleString('en')} files of 100 bytes by one rsync`,
    note: `Medians of ${ROUNDS}, by turns, each to a new backup: with hard links, of one directory that holds all, and on one core. The log of ours says how long the sync took; a bare rsync goes over a connection that is there already.`,
    columns: COLUMNS,
    rows,
    ratioOf: 's',
    base: 'rsync-inotify, -H',
    goals: KINDS.map((kind) => goal(`ours ÷ bare rsync, ${kind.name}`, toBare(kind), 1.05)),
  };
}
