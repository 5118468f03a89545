/**
 * What a power cut, or a disk that was taken away, may leave in DEST_DIR: files with the size and the time that they should have,
 * and other content. rsync writes into a file or makes room for it (--inplace, --sparse), the file system keeps size and time and
 * has not come to write the content, and no comparison by size and time finds that. So after an end that was not clean the files
 * that were written last get another time: any source, also one that was started anew, then compares their content.
 *
 *   const aftermath = new Aftermath(config);
 *   await aftermath.settle(root); // { files: 12, unchanged: 0, … }
 *   await aftermath.leave(root);
 */
import type { Stats } from 'node:fs';
import { lstat, lutimes, readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { exitStatus, signalGroup, start } from '../service/processes.ts';
import { CleanMark } from './clean-mark.ts';
import type { Config } from './config.ts';

/**
 * How long before the last change on the disk a file may have been written and still lack its content, ms. The kernel begins to
 * write after 30 s (vm.dirty_expire_centisecs), and to write what it holds back at most, 20 % of the memory, takes minutes.
 */
const WINDOW_MS = 600_000;
/** By how much the time of a file in doubt is put back, s: further than any --modify-window, and --update takes it for older. */
const BACK_S = 86_400;
/** Marks a time that was put back, ms beyond a whole second: of a start that is killed again and again, one day is enough. */
const MARK_MS = 0.977;
/** How many files are looked at together. */
const TOGETHER = 64;
/** How long what was received may take to get to the disk when the service ends, ms. */
const FLUSH_MS = 1500;

/** What was found after an end that was not clean. */
export interface Doubts {
  /** From when on files are in doubt. */
  since: Date;
  /** How many files there are, and how many of them could not be given another time. */
  files: number;
  failed: number;
}

export class Aftermath {
  /** @param window how long before the last change a file may have been written that is in doubt, ms */
  constructor(
    private readonly config: Pick<Config, 'HOST_KEY_DIR'>,
    private readonly window = WINDOW_MS,
  ) {}

  /**
   * Has files compared by content that may lack it, unless DEST_DIR was left clean.
   * @param root its real path, bytes in a latin1 string
   * @returns nothing where no file is in doubt
   */
  async settle(root: string): Promise<Doubts | undefined> {
    const mark = new CleanMark(this.config, root);
    const { clean, since } = await mark.take().catch(() => ({ clean: false, since: undefined }));
    if (clean) return undefined;
    const newest = await newestIn(root);
    const from = Math.min(newest - this.window, since ?? newest);
    await mark.doubt(from).catch(() => {}); // of a HOST_KEY_DIR that is read-only nothing is taken for clean
    const doubts = { since: new Date(from), files: 0, failed: 0 };
    await forEachFile(root, async (path, status) => {
      if (!isInDoubt(status, from)) return;
      doubts.files++;
      if (!isSetBack(status) && !(await setBack(path, status))) doubts.failed++;
    });
    if (doubts.files > 0) await exitStatus(startSync(root)).catch(() => {});
    if (doubts.failed === 0) await mark.clear().catch(() => {});
    return doubts.files > 0 ? doubts : undefined;
  }

  /** Marks DEST_DIR as clean once all of it is on its disk, if that does not take long. Nothing may be received any more. */
  async leave(root: string): Promise<void> {
    const sync = startSync(root);
    const late = sleep(FLUSH_MS, 1, { ref: false });
    const status = await Promise.race([exitStatus(sync).catch(() => 1), late]);
    if (status === 0) await new CleanMark(this.config, root).leave();
    else signalGroup(sync, 'SIGKILL');
  }
}

/** Has all of the file system of a directory get to its disk: sync(1), a process that may hang without us. */
const startSync = (root: string) => start('sync', ['-f', Buffer.from(root, 'latin1').toString()], { stdio: 'ignore' });

/** Finds when a file below a directory was changed last, ms since 1970; 0 where there is none, or the clock is behind all of them. */
async function newestIn(root: string): Promise<number> {
  const now = Date.now();
  let newest = 0;
  await forEachFile(root, (_, { ctimeMs }) => {
    if (ctimeMs <= now) newest = Math.max(newest, ctimeMs);
  });
  return newest;
}

/** Visits all files below a directory, in no order. What cannot be looked at cannot be received into, either, and is left out. */
async function forEachFile(root: string, visit: (path: Buffer, status: Stats) => Promise<void> | void): Promise<void> {
  const directories = [root];
  const look = async (path: string) => {
    const bytes = Buffer.from(path, 'latin1');
    const status = await lstat(bytes).catch(() => undefined);
    if (status?.isDirectory()) directories.push(path);
    else if (status?.isFile()) await visit(bytes, status);
  };
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    const names = await readdir(Buffer.from(directory, 'latin1'), { encoding: 'buffer' }).catch(() => []);
    const parent = directory.replace(/\/?$/, '/');
    for (let n = 0; n < names.length; n += TOGETHER)
      await Promise.all(names.slice(n, n + TOGETHER).map((name) => look(parent + name.toString('latin1'))));
  }
}

/**
 * Whether a file may have been written since then. One with several names that was made and has a time before has only got another name,
 * as a snapshot by hard links gives one to all files: to send them all again would have the snapshot share nothing any more.
 */
function isInDoubt({ ctimeMs, nlink, birthtimeMs, mtimeMs }: Stats, from: number): boolean {
  const hasOnlyAnotherName = nlink > 1 && birthtimeMs > 0 && birthtimeMs < from && mtimeMs < from;
  return ctimeMs >= from && !hasOnlyAnotherName;
}

const isSetBack = ({ mtimeMs }: Stats) => Math.abs((mtimeMs % 1000) - MARK_MS) < 0.001;

/** Puts the time of a file back; returns whether that has worked, or there is no such file any more. */
function setBack(path: Buffer, { atimeMs, mtimeMs }: Stats): Promise<boolean> {
  const seconds = Math.max(0, Math.floor(mtimeMs / 1000));
  const other = seconds < BACK_S ? seconds + BACK_S : seconds - BACK_S; // a time before 1970 would be taken for now
  return lutimes(path, atimeMs / 1000, other + MARK_MS / 1000).then(
    () => true,
    (cause) => (cause as NodeJS.ErrnoException).code === 'ENOENT',
  );
}
