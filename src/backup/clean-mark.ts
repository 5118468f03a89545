/**
 * Remembers whether DEST_DIR was left with all on its disk that was received. The mark is a random word in two places: beside the
 * host keys, where it is taken away before anything is received, and at DEST_DIR itself, where an image or a snapshot of the disk
 * has the word of its own time.
 *
 *   const mark = new CleanMark(config, root);
 *   await mark.take(); // { isKnown: true, clean: false, since: undefined }
 *   await mark.leave();
 */
import { ptr } from 'bun:ffi';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readSmallFile } from '../service/files.ts';
import { cFunctions } from '../service/libc.ts';
import type { Config } from './config.ts';

const NAME = 'user.start-sshd.clean';
const MAX_BYTES = 256;

/** What a start keeps beside the host keys for the next one. */
interface Left {
  /** The word that DEST_DIR has, too, if nothing has been received since; '' where it has no room for one; none while something may be received. */
  word?: string;
  /** From when on files are in doubt, ms since 1970, where a start has ended before it was done with them. */
  since?: number;
  /** Whether files were ever written in a way that may leave them with their size and time and without their content. */
  isLoose?: boolean;
}

/** How the directory was left. */
export interface Former {
  /** Whether that is known; it is not at the first start. */
  isKnown: boolean;
  clean: boolean;
  since: number | undefined;
}

export class CleanMark {
  readonly file: string;
  private isLoose = false;

  /** @param root the real path of DEST_DIR, bytes in a latin1 string: several services may have the same host keys */
  constructor(
    { HOST_KEY_DIR }: Pick<Config, 'HOST_KEY_DIR'>,
    private readonly root: string,
  ) {
    const name = createHash('sha256').update(root, 'latin1').digest('hex').slice(0, 16);
    this.file = join(HOST_KEY_DIR, `shutdown-${name}.json`);
  }

  /** Whether files were ever written in a way that may leave them with their size and time and without their content. */
  get hasBeenLoose(): boolean {
    return this.isLoose;
  }

  /** Tells how the directory was left, and takes the mark away for good: from now on something may be received. */
  async take(): Promise<Former> {
    const left = this.read();
    const isKnown = left !== undefined;
    const { word, since, isLoose } = left ?? {};
    this.isLoose ||= isLoose === true;
    const clean = typeof word === 'string' && (word === '' || attributeOf(this.root) === word);
    const former = { isKnown, clean, since: typeof since === 'number' ? since : undefined };
    if (clean || !isKnown) await this.open();
    return former;
  }

  /** Remembers from when on files are in doubt, ms since 1970, until `open`: it may be that we do not come to the end of it. */
  doubt(since: number): Promise<void> {
    return this.write({ since });
  }

  /** Remembers that something may be received. */
  open(): Promise<void> {
    return this.write({});
  }

  /** Remembers that files are written in place, or with holes. */
  async loosen(): Promise<void> {
    if (this.isLoose) return;
    this.isLoose = true;
    await this.open();
  }

  /** Marks the directory as clean, of which all is on its disk. */
  leave(): Promise<void> {
    const word = randomUUID();
    return this.write({ word: setAttribute(this.root, word) ? word : '' });
  }

  /** Reads it; nothing where there is none. */
  private read(): Left | undefined {
    try {
      return JSON.parse(readSmallFile(this.file, MAX_BYTES)) ?? {};
    } catch {
      return existsSync(this.file) ? {} : undefined;
    }
  }

  private async write(left: Omit<Left, 'isLoose'>): Promise<void> {
    const temporary = `${this.file}.${process.pid}.tmp`;
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(JSON.stringify({ ...left, isLoose: this.isLoose }));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.file);
    await flush(dirname(this.file));
  }
}

/** Has the names in a directory get to its disk: fsync(2). */
async function flush(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const textOf = (path: string) => Buffer.from(`${path}\0`, 'latin1');
const calls = () =>
  cFunctions({
    getxattr: { args: ['ptr', 'ptr', 'ptr', 'u64'], returns: 'i64' },
    setxattr: { args: ['ptr', 'ptr', 'ptr', 'u64', 'i32'], returns: 'i32' },
  });

/** Reads the word at a directory; nothing where there is none, or its file system has no room for one: getxattr(2). */
function attributeOf(path: string): string | undefined {
  const value = Buffer.alloc(MAX_BYTES);
  const size = Number(calls()?.getxattr(ptr(textOf(path)), ptr(textOf(NAME)), ptr(value), value.length) ?? -1);
  return size < 0 ? undefined : value.toString('latin1', 0, size);
}

/** Writes a word at a directory; returns whether it has one now: setxattr(2). */
function setAttribute(path: string, word: string): boolean {
  const value = Buffer.from(word);
  return calls()?.setxattr(ptr(textOf(path)), ptr(textOf(NAME)), ptr(value), value.length, 0) === 0;
}
