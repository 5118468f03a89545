/** Nothing happens: what does that cost? */
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type Run } from '../bed.ts';
import { treeFiles, writeFiles } from '../changes.ts';
import { lsyncdAtOnce, type Mirror, oursDefault, plainThrottled } from '../mirrors.ts';
import { others } from '../peers.ts';
import { type Column, failedRow, goal, type Row, type Section } from '../section.ts';

const SECONDS = 30;
/** How long ours rests before that, s: Bun tidies up once a second until there has been nothing to tidy for half a minute. */
const REST_SECONDS = 40;
const FILES = treeFiles(1000);

const COLUMNS: Column[] = [
  { key: 'cpu', title: 'CPU of a core', unit: '%' },
  { key: 'pss', title: 'PSS', unit: 'MiB' },
  { key: 'rss', title: 'RSS', unit: 'MiB' },
  { key: 'processes', title: 'processes', unit: '' },
  { key: 'backupCpu', title: 'backup: CPU', unit: '%' },
  { key: 'backupPss', title: 'backup: PSS', unit: 'MiB' },
];

async function rowOfIdle(run: Run): Promise<Row> {
  const before = [run.cpuSeconds(), run.backupCpuSeconds()] as const;
  await sleep(SECONDS * 1000);
  const percent = (seconds: number) => (100 * seconds) / SECONDS;
  const [cpu, backupCpu] = [percent(run.cpuSeconds() - before[0]), percent(run.backupCpuSeconds() - before[1])];
  const source = { cpu, ...run.memory(), processes: run.processes().length };
  const { name, role } = run.mirror;
  return { name, role, values: { ...source, backupCpu, backupPss: run.backupMemory().pss } };
}

async function startIdle(beds: AsyncDisposableStack, mirror: Mirror): Promise<Run> {
  const bed = beds.use(await Bed.make('idle'));
  await bed.authorise();
  writeFiles(bed.path('source'), FILES);
  return bed.start(mirror);
}

/** Measures them side by side. */
async function idleOf(mirrors: Mirror[], restSeconds = 0): Promise<Row[]> {
  await using beds = new AsyncDisposableStack();
  const runs: Run[] = [];
  const failed: Row[] = [];
  for (const mirror of mirrors) {
    await startIdle(beds, mirror).then(
      (run) => runs.push(run),
      (error) => failed.push(failedRow(mirror, COLUMNS, error)),
    );
  }
  for (const run of runs) await run.settled(300, 10_000);
  await sleep(restSeconds * 1000);
  return [...(await Promise.all(runs.map(rowOfIdle))), ...failed];
}

export async function idle(): Promise<Section> {
  const own = await idleOf([oursDefault], REST_SECONDS);
  const rows = [...own, ...(await idleOf([...lsyncdAtOnce, plainThrottled, ...others]))];
  const ours = rows.find(({ role }) => role === 'ours')?.values ?? {};
  return {
    workload: 'idle',
    title: 'Nothing happens',
    note: `Over ${SECONDS} s, all processes of the source side, in trees of ${FILES.length} files; ours by itself, so that it shares no memory, and after ${REST_SECONDS} s of rest, then the others side by side. At the backup lsyncd, the loop and Unison have our sshd, which is most of what is there.`,
    columns: COLUMNS,
    rows,
    ratioOf: 'pss',
    base: oursDefault.name,
    goals: [
      goal('CPU at default settings, % of a core', ours.cpu ?? '–', 0.1),
      goal('memory (PSS) with children, MiB', ours.pss ?? '–', 32),
    ],
  };
}
