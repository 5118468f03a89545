/**
 * The mark beside the host keys that says that the backup has taken over: while it is there, nothing is mirrored into DEST_DIR. It outlives
 * containers, and each session looks for it by itself, whatever the service does meanwhile.
 *
 *   const mark = new PromotionMark(config);
 *   mark.put();
 *   promotedSince(mark.file); // 2025-10-09T04:00:00.000Z
 */
import { closeSync, fsyncSync, lstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readSmallFile } from '../service/files.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';

/** The variable by which sessions know where the mark would be. */
export const MARK_VARIABLE = 'START_SSHD_PROMOTED';
const MAX_BYTES = 65_536;

/**
 * Says since when the backup has taken over, nothing where it has not. That the mark is there is what counts, whatever it holds.
 * @throws where it cannot be known whether it is there
 */
export function promotedSince(file: string): Date | undefined {
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (!found) return undefined;
  try {
    const since = new Date(JSON.parse(readSmallFile(file, MAX_BYTES)).since);
    if (!Number.isNaN(since.getTime())) return since;
  } catch {} // somebody else has made it
  return found.mtime;
}

const nameFor = (directory: string) =>
  `promoted-${new Bun.CryptoHasher('sha256').update(directory).digest('hex').slice(0, 16)}.json`;

/**
 * Says since when nothing is mirrored into a directory.
 * @param whole the file of the mark of all of DEST_DIR, beside which that of the directory would be
 * @throws where it cannot be known whether either is there
 */
export const promotedIn = (whole: string, directory: string): Date | undefined =>
  promotedSince(whole) ?? promotedSince(join(dirname(whole), nameFor(directory)));

export class PromotionMark {
  readonly file: string;
  private readonly directory: string;

  /** Several services may have the same host keys, and several sources a directory each: each DEST_DIR has a mark of its own. */
  constructor({ HOST_KEY_DIR, DEST_DIR }: Pick<Config, 'HOST_KEY_DIR' | 'DEST_DIR'>) {
    this.file = join(HOST_KEY_DIR, nameFor(DEST_DIR));
    this.directory = DEST_DIR;
  }

  /** Since when it is there. @throws where that cannot be known */
  get since(): Date | undefined {
    return promotedSince(this.file);
  }

  /** Makes it, and has it get to its disk; one that is there stays. @throws {Failure} */
  put(since = new Date()): void {
    this.change(() => {
      if (this.since) return;
      const temporary = `${this.file}.${process.pid}.tmp`;
      rmSync(temporary, { force: true }); // of one that was cut short
      const descriptor = openSync(temporary, 'wx', 0o600);
      writeSync(descriptor, `${JSON.stringify({ directory: this.directory, since })}\n`);
      flush(descriptor);
      renameSync(temporary, this.file);
    });
  }

  /** Takes it away. @throws {Failure} */
  remove(): void {
    this.change(() => rmSync(this.file, { force: true }));
  }

  /** Does something to it, and has the names in its directory get to their disk. */
  private change(work: () => void): void {
    try {
      work();
      flush(openSync(dirname(this.file), 'r'));
    } catch (cause) {
      throw new Failure(t`无法写入 ${escapeText(this.file)}：${reasonOf(cause)}。请检查 HOST_KEY_DIR 的权限和磁盘空间`);
    }
  }
}

/** Has what was written get to its disk, and closes it: fsync(2). */
function flush(descriptor: number): void {
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
