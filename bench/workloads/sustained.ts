/** 500 changes a second for half a minute: how old is what the backup has, and what does it cost? */
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { contentOf, equalWithin, treeFiles, writeFiles } from '../changes.ts';
import { lsyncdAtOnce, type Mirror, oursAtOnce, oursDefault, plainAtOnce } from '../mirrors.ts';
import { type Column, goal, never, percentile, type Row, ratio, rowOf, type Section } from '../section.ts';

const SECONDS = 20;
const TICK_MS = 20;
/** The changes of a tick: one to the probe, the others at random. */
const PER_TICK = 10;
const SAMPLE_MS = 200;
const LIMIT_MS = 20_000;
/** The interval of the default settings, and a sync. */
const LAST_MS = 5500;
const FILES = treeFiles(300);

const COLUMNS: Column[] = [
  { key: 'p50', title: 'lag p50', unit: 'ms' },
  { key: 'max', title: 'lag max', unit: 'ms' },
  { key: 'equal', title: 'equal after the end', unit: 'ms' },
  { key: 'rate', title: 'changes/s', unit: '' },
  { key: 'pss', title: 'peak PSS', unit: 'MiB' },
  { key: 'cpu', title: 'CPU', unit: '%' },
];

/** The same numbers in each run (mulberry32), from 0 up to 1. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Creates, rewrites or deletes a file. */
function changeOne(bed: Bed, random: () => number): void {
  const file = bed.path('source', FILES[Math.floor(random() * FILES.length)] ?? '');
  if (random() < 0.3) rmSync(file, { force: true });
  else writeFileSync(file, 'x'.repeat(100 + Math.floor(random() * 2000)));
}

/**
 * Resolves with the number of changes. The probe says when it was written, in another length each time,
 * because rsync takes a file of the same length and the same second for unchanged.
 */
async function changeMany(bed: Bed, started: number): Promise<number> {
  const random = randomNumbers(1);
  let changes = 0;
  for (let tick = 0; tick * TICK_MS < SECONDS * 1000; tick++) {
    await sleep(Math.max(0, started + tick * TICK_MS - performance.now()));
    for (let each = 1; each < PER_TICK; each++) changeOne(bed, random);
    writeFileSync(bed.path('source', 'probe'), String(performance.now() - started).padEnd(20 + (tick % 50)));
    changes += PER_TICK;
  }
  return changes;
}

interface Watched {
  /** ms, at each look. */
  lag: number[];
  /** The highest, MiB. */
  pss: number;
}

/** Looks at the backup and at the memory until `over`. */
async function watchRun(run: Run, started: number, over: AbortSignal): Promise<Watched> {
  const watched: Watched = { lag: [], pss: 0 };
  for (let sample = 1; !over.aborted; sample++) {
    await sleep(Math.max(0, started + sample * SAMPLE_MS - performance.now()));
    const now = performance.now() - started;
    const lag = now - Number(contentOf(run.bed.path('backup', 'probe')));
    watched.lag.push(lag);
    if (sample % 5 === 0) watched.pss = Math.max(watched.pss, run.memory().pss);
  }
  return watched;
}

async function measure(mirror: Mirror): Promise<Pick<Row, 'values' | 'samples'>> {
  await using bed = await Bed.make('sustained');
  await bed.authorise();
  writeFiles(bed.path('source'), FILES);
  writeFileSync(bed.path('source', 'probe'), '0');
  const run = await bed.start(mirror);
  await run.settled();
  const over = new AbortController();
  const cpu = run.cpuSeconds();
  const started = performance.now();
  const watching = watchRun(run, started, over.signal);
  const changes = await changeMany(bed, started);
  over.abort();
  const ended = performance.now();
  const used = run.cpuSeconds() - cpu;
  const { lag, pss } = await watching;
  const equal = (await equalWithin(bed, LIMIT_MS)) ? performance.now() - ended : never(LIMIT_MS);
  const seconds = (ended - started) / 1000;
  return {
    values: {
      ...{ p50: percentile(lag, 0.5), max: percentile(lag, 1), equal },
      ...{ rate: Math.round(changes / seconds), pss, cpu: (100 * used) / seconds },
    },
    samples: { lag },
  };
}

export async function sustained(): Promise<Section> {
  const rows: Row[] = [];
  for (const mirror of [oursDefault, oursAtOnce, ...lsyncdAtOnce, plainAtOnce]) {
    rows.push(await rowOf(mirror, COLUMNS, () => measure(mirror)));
  }
  const p50 = (name: string | undefined) => rows.find((row) => row.name === name)?.values.p50;
  return {
    workload: 'sustained',
    title: `500 changes/s for ${SECONDS} s`,
    note: `Files created, rewritten and deleted among ${FILES.length}. Lag: how old the backup's newest probe is; a probe is written every ${TICK_MS} ms.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'p50',
    base: oursAtOnce.name,
    goals: [
      goal('lag ÷ lsyncd', ratio(p50(oursAtOnce.name), p50(lsyncdAtOnce[0]?.name)), 0.6),
      goal('until the last change is there at default settings, ms', rows[0]?.values.equal ?? '–', LAST_MS),
    ],
  };
}
