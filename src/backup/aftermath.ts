/**
 * What a power cut, or a disk that was taken away, may leave in DEST_DIR: files with the size and the time that they should have,
 * and other content. rsync writes into a file or makes room for it (--inplace, --sparse), the file system keeps size and time and
 * has not come to write the content, and no comparison by size and time finds that. So after an end that was not clean the files
 * that were written last get another time: any source, also one that was started anew, then compares their content.
 *
 * As rsync writes without such options, into new files, the file systems of most backups keep no size before the content: there, times
 * stay what they are.
 *
 *   const aftermath = new Aftermath(config, root, []);
 *   await aftermath.settle(); // { files: 12, failed: 0, … }
 *   await aftermath.loosen(); // a source writes in place
 *   await aftermath.leave();
 */
import type { Stats } from 'node:fs';
import { lstat, lutimes, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountOf, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { exitStatus, signalGroup, start } from '../service/processes.ts';
import { CleanMark, type Former } from './clean-mark.ts';
import type { Config } from './config.ts';
import { hasHistory } from './history-door.ts';
import { HISTORY } from './history-names.ts';

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

/** File systems, by statfs(2), that keep no size of a new file before its content: ext4, XFS, Btrfs, ZFS, and those that keep nothing or ask another one. */
const ORDERED = [0xef53, 0x58465342, 0x9123683e, 0x2fc12fc1, 0x01021994, 0x794c7630, 0x6969];
/** An option of ext4 under which it does. */
const UNORDERED = /(^|,)data=writeback(,|$)/;

export class Aftermath {
  private readonly mark: CleanMark;
  private readonly versions: string;

  /**
   * @param root the real path of DEST_DIR, bytes in a latin1 string
   * @param apart real paths of directories in it that are left alone
   * @param window how long before the last change a file may have been written that is in doubt, ms
   */
  constructor(
    config: Pick<Config, 'HOST_KEY_DIR'>,
    private readonly root: string,
    private readonly apart: readonly string[],
    private readonly window = WINDOW_MS,
  ) {
    this.mark = new CleanMark(config, root);
    this.versions = join(root, HISTORY);
  }

  /** Has files compared by content that may lack it, unless DEST_DIR was left clean. Returns nothing where no file is in doubt. */
  async settle(): Promise<Doubts | undefined> {
    const { mark } = this;
    const { isKnown, clean, since } = await mark.take().catch(() => UNKNOWN); // HOST_KEY_DIR may be read-only
    if (clean || !isKnown) return undefined;
    const isAtRisk = since !== undefined || mark.hasBeenLoose || !(await isOrdered(this.root));
    const doubts = isAtRisk ? await this.setBackAll(since) : undefined;
    if (!doubts?.failed) await mark.open().catch(() => {});
    return doubts;
  }

  private async setBackAll(since: number | undefined): Promise<Doubts | undefined> {
    const { root, mark } = this;
    const newest = await this.findNewest();
    const from = Math.min(newest - this.window, since ?? newest);
    await mark.doubt(from).catch(() => {});
    const doubts = { since: new Date(from), files: 0, failed: 0 };
    await this.forEachFile(async (path, status) => {
      if (!isInDoubt(status, from)) return;
      doubts.files++;
      if (!isSetBack(status) && !(await setBack(path, status))) doubts.failed++;
    });
    if (doubts.files > 0) await exitStatus(startSync(root)).catch(() => {});
    return doubts.files > 0 ? doubts : undefined;
  }

  /** Finds when a file was changed last, ms since 1970; 0 where there is none, or the clock is behind all of them. */
  private async findNewest(): Promise<number> {
    const now = Date.now();
    let newest = 0;
    await this.forEachFile((_, { ctimeMs }) => {
      if (ctimeMs <= now) newest = Math.max(newest, ctimeMs);
    });
    return newest;
  }

  /** Visits all files, in no order. What cannot be looked at cannot be received into, either, and is left out, as are older versions, which nothing is written into. */
  private async forEachFile(visit: (path: Buffer, status: Stats) => Promise<void> | void): Promise<void> {
    const directories = [this.root];
    const look = async (path: string) => {
      const bytes = Buffer.from(path, 'latin1');
      const status = await lstat(bytes).catch(() => undefined);
      if (status?.isDirectory() && !this.isApart(path)) directories.push(path);
      else if (status?.isFile()) await visit(bytes, status);
    };
    for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
      const names = await readdir(Buffer.from(directory, 'latin1'), { encoding: 'buffer' }).catch(() => []);
      const parent = directory.replace(/\/?$/, '/');
      for (let n = 0; n < names.length; n += TOGETHER)
        await Promise.all(names.slice(n, n + TOGETHER).map((name) => look(parent + name.toString('latin1'))));
    }
  }

  private isApart(path: string): boolean {
    return (
      this.apart.includes(path) || (path === this.versions && hasHistory(Buffer.from(this.root, 'latin1').toString()))
    );
  }

  /** Remembers that files are written in place, or with holes, before that has got far. */
  async loosen(): Promise<void> {
    await this.mark.loosen().catch(() => {});
  }

  /** Marks DEST_DIR as clean once all of it is on its disk, if that does not take long. Nothing may be received any more. */
  async leave(): Promise<void> {
    const sync = startSync(this.root);
    const late = sleep(FLUSH_MS, 1, { ref: false });
    const status = await Promise.race([exitStatus(sync).catch(() => 1), late]);
    if (status === 0) await this.mark.leave();
    else signalGroup(sync, 'SIGKILL');
  }
}

const UNKNOWN: Former = { isKnown: false, clean: false, since: undefined };

/** Whether the file system of a directory keeps no size of a new file before its content. */
async function isOrdered(root: string): Promise<boolean> {
  const { type } = await statfs(Buffer.from(root, 'latin1')).catch(() => ({ type: 0 }));
  const text = readMountinfo();
  const mount = mountOf(parseMountinfo(text), root);
  const [line = ''] = text.split('\n').filter((it) => it.startsWith(`${mount?.id} `)); // its last field has the options
  return ORDERED.includes(type) && !UNORDERED.test(line.replace(/.* /, ''));
}

/** Has all of the file system of a directory get to its disk: sync(1), a process that may hang without us. */
const startSync = (root: string) => start('sync', ['-f', Buffer.from(root, 'latin1').toString()], { stdio: 'ignore' });

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
