/**
 * Looks whether a place on a disk answers: where the disk hangs, one look hangs with it, and nothing else.
 *
 *   const glance = new Glance('/shared-keys/host_keys');
 *   if (await glance.answers()) …
 */
import { closeSync, constants, open } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isInTime } from './patience.ts';

/** How long an answer may take, ms. */
const PATIENCE_MS = 2000;

export class Glance {
  private looking: Promise<void> | undefined;

  constructor(private readonly path: string) {}

  /** Whether it answers in time, be it that nothing is there. While a look hangs, no other one is taken. */
  async answers(): Promise<boolean> {
    this.looking ??= look(this.path)
      .catch(() => {})
      .finally(() => {
        this.looking = undefined;
      });
    return isInTime(this.looking, PATIENCE_MS);
  }
}

/** Among how many of a directory's entries a file is looked for that can be opened. */
const MAX_ENTRIES = 20;

/** Looks at what is to be read, as reading does: what only tells of it may be known without the disk, and so may be what a directory lists. */
async function look(path: string): Promise<void> {
  const found = await lstat(path);
  if (found.isFile())
    closeSync(await promisify(open)(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  if (!found.isDirectory()) return;
  for (const name of (await readdir(path)).slice(0, MAX_ENTRIES)) {
    const file = join(path, name);
    if ((await lstat(file)).isFile()) return look(file);
  }
}
