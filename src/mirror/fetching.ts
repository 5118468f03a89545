/**
 * The rsyncs of a restore: one that fetches, and one that compares by checksum what has come with what the backup has.
 *
 *   const { status } = await fetchAll(job);
 *   const { differences } = await compareAll(job, false);
 */
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readLines } from '../service/lines.ts';
import { drawLine, drawsLines, log } from '../service/log.ts';
import { exitStatus, startOnLeash } from '../service/processes.ts';
import { type Host, nameOf } from './config.ts';
import { statusOf } from './connection.ts';
import { type Difference, parseDifference } from './differences.ts';
import { Faults } from './faults.ts';
import { describeRestore, type Progress, progressFilter } from './progress.ts';
import { carriedWords } from './restore-wish.ts';
import { limitTalk, passOn, passOnGathered } from './rsync.ts';
import { withoutOptions } from './rsync-options.ts';
import { fetchArgs, type Route } from './ssh.ts';

/** How often the log tells of the progress, ms. */
const PROGRESS_MS = 10_000;
/** How many differences are named. */
const NAMED = 20;

/** What is fetched from where to where. */
export interface Job {
  host: Host;
  route: Route;
  /** Places on the backup: a directory, or what is wished for in it, behind `/./`. */
  places: string[];
  /** A directory of ours. */
  to: string;
  /** What keeps others from our directory as long as an rsync of this restore lives. */
  lock: number;
}

/** What came of an rsync. */
export interface Came {
  status: number;
  /** What start-sshd on the backup has said, nothing where it has said nothing. */
  refusal: string | undefined;
}

/** Starts an rsync that ends with us, however we end. */
function startRsync({ host, route, places, to, lock }: Job, carried: string[], words: string[]): ChildProcess {
  const [first = ''] = places;
  const relative = first.includes('/./') ? ['--relative'] : [];
  const options = [...carried, ...relative, ...host.plan.scanOptions, ...words];
  return startOnLeash(['rsync', ...fetchArgs(host, route, options, { from: places, to })], 'pipe', '', lock);
}

/** Waits for an rsync, and passes on what it complains of. @throws {Failure} where the backup talks without end */
async function outlast(rsync: ChildProcess, { host, route }: Job, flush: () => void): Promise<Came> {
  const faults = new Faults(() => undefined);
  const talk = limitTalk(rsync);
  const hear = (bytes: string) => {
    flush(); // what it has said before is told before
    const shown = faults.read(bytes);
    talk.weigh(faults, host.plan);
    return shown;
  };
  if (rsync.stderr) passOn(rsync.stderr, nameOf(host), hear);
  const status = await exitStatus(rsync);
  talk.check();
  return { status: await statusOf(status, host, () => route), refusal: faults.refusal };
}

/** Shows how far it has come: on a terminal always, in the log now and then. */
function showProgress() {
  let latest: Progress | undefined;
  const telling = setInterval(() => {
    if (latest && !drawsLines()) log('restore.progress', describeRestore(latest), { ...latest });
  }, PROGRESS_MS);
  return {
    show: (progress: Progress) => {
      latest = progress;
      if (drawsLines()) drawLine(describeRestore(progress));
    },
    files: () => latest?.files,
    [Symbol.dispose]: () => clearInterval(telling),
  };
}

/** Fetches what is wished for. Names of files are told as RSYNC_OPTS would have them told. @throws {Failure} */
export async function fetchAll(job: Job): Promise<Came & { files: number | undefined }> {
  using progress = showProgress();
  const rsync = startRsync(job, carriedWords(job.host.plan.words), ['--info=progress2']);
  const filter = progressFilter(progress.show);
  const flush = rsync.stdout ? passOnGathered(rsync.stdout, nameOf(job.host), filter) : () => {};
  return { ...(await outlast(rsync, job, flush)), files: progress.files() };
}

/** Has it tell all that differs, and change nothing. */
const COMPARE_OPTIONS = [
  ...['--dry-run', '--checksum', '--no-human-readable', '--no-itemize-changes', '--no-verbose', '--info=none,name,del'],
];
/** What lies in a directory that was empty may only be what has come; a new file system has a directory of its own there. */
const EXTRA_OPTIONS = ['--filter=P /lost+found', '--delete', '--max-delete=2147483647'];

/** What a comparison has found: some of the differences, and how many there are. */
export interface Compared extends Came {
  differences: Difference[];
  count: number;
}

/** Takes out what no comparison can tell: whoever reads a file changes when it was read last. */
const withoutAtimes = (words: readonly string[]) =>
  withoutOptions(words, ({ name }) => name === '-U' || name === '--atimes');

/** Compares. @param isAlone whether nothing else than what was fetched should be there @throws {Failure} */
export async function compareAll(job: Job, isAlone: boolean): Promise<Compared> {
  const mark = `${randomUUID()} `; // nothing else that rsync prints begins like that
  const extra = isAlone ? EXTRA_OPTIONS : [];
  const carried = withoutAtimes(carriedWords(job.host.plan.words));
  const rsync = startRsync(job, carried, [...COMPARE_OPTIONS, ...extra, `--out-format=${mark}%i %n`]);
  const found: { differences: Difference[]; count: number } = { differences: [], count: 0 };
  readLines(rsync.stdout, (line) => {
    const difference = line.startsWith(mark) ? parseDifference(line.slice(mark.length)) : undefined;
    if (!difference) return;
    found.count++;
    if (found.differences.length < NAMED) found.differences.push(difference);
  });
  return { ...(await outlast(rsync, job, () => {})), ...found };
}
