/** Changes to a source, and when they have arrived at the backup. */
import { mkdirSync, readFileSync, statSync, watch, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, Program } from '../test/processes.ts';
import { expectEqual } from '../test/tree.ts';
import { type Bed, breathe, type Run } from './bed.ts';

let version = 0;

export function contentOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // it is not there yet
  }
}

/** Resolves with whether the file has the content within `ms`. inotify tells, so that waiting takes no CPU time. */
async function holds(file: string, content: string, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const check = () => {
    if (contentOf(file) === content) resolve(true);
  };
  const watcher = watch(dirname(file), check);
  const inCase = setInterval(check, 250);
  const deadline = setTimeout(resolve, ms, false);
  try {
    return await promise;
  } finally {
    watcher.close();
    clearInterval(inCase);
    clearTimeout(deadline);
  }
}

/** New content of another length: rsync takes a file of the same length and the same second for unchanged. */
const contentUnlike = (last: string) => `version ${++version}`.padEnd(last.length === 20 ? 21 : 20);

/**
 * Rewrites a file and resolves with how long the backup took to have it, ms, or with undefined after `limit` ms.
 * Its directory must be at the backup already.
 */
export async function latencyOf(run: Run, file: string, limit: number): Promise<number | undefined> {
  const content = contentUnlike(contentOf(run.bed.path('source', file)));
  const arrival = holds(run.bed.path('backup', file), content, limit);
  const started = performance.now();
  writeFileSync(run.bed.path('source', file), content);
  const pushed: Program | undefined = run.mirror.push?.(run);
  const arrived = await arrival;
  const ended = performance.now();
  await pushed?.exited;
  return arrived ? ended - started : undefined;
}

const PER_DIRECTORY = 100;

/** The names of `count` files, 100 to a directory and 100 directories to a directory. */
export function treeFiles(count: number): string[] {
  return Array.from({ length: count }, (_, number) => {
    const directory = Math.floor(number / PER_DIRECTORY);
    return join(`group-${Math.floor(directory / PER_DIRECTORY)}`, `directory-${directory}`, `file-${number}`);
  });
}

const nameAsContent = (file: string) => `${file}\n`;

/** Writes small files as fast as it goes. */
export function writeFiles(root: string, files: string[], contentFor = nameAsContent): void {
  files.forEach((file, index) => {
    const path = join(root, file);
    if (index % PER_DIRECTORY === 0) mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, contentFor(file));
  });
}

const sizeOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.size;

/**
 * Makes the tree, and the same at the backup, so that no full sync has to send it. Its files are empty: what is in those
 * that do not change does not matter, and a million of them need no room.
 */
export async function makeTree(bed: Bed, files: string[]): Promise<void> {
  for (let from = 0; from < files.length; from += 1000) {
    writeFiles(bed.path('source'), files.slice(from, from + 1000), () => '');
    await breathe();
  }
  const copy = bed.pair.keep(new Program('cp', ['-a', `${bed.source}.`, bed.path('backup')], {}));
  if ((await copy.exited) !== 0) throw new Error(`cp: ${copy.output}`);
}

/** Resolves when all files are at the backup in full size: each is looked for until it is there, then never again. */
export async function allThere(bed: Bed, files: string[], deadline: number): Promise<boolean> {
  for (const file of files) {
    const size = sizeOf(bed.path('source', file));
    while (sizeOf(bed.path('backup', file)) !== size) {
      if (performance.now() > deadline) return false;
      await sleep(5);
    }
  }
  return true;
}

/** Compares the trees by content, type and mode. The times of directories are left out: not all mirrors keep them. */
export async function equalWithin(bed: Bed, ms: number): Promise<boolean> {
  const compare = () => expectEqual(bed.path('source'), bed.path('backup'), ['--omit-dir-times']);
  return eventually(compare, ms).catch(() => false);
}

/** Resolves with when (`performance.now`) the trees were equal, undefined if not within `ms`. */
export async function equalSince(bed: Bed, files: string[], ms: number): Promise<number | undefined> {
  const deadline = performance.now() + ms;
  if (!(await allThere(bed, files, deadline))) return undefined;
  const there = performance.now();
  if (await equalWithin(bed, 0)) return there;
  return (await equalWithin(bed, deadline - there)) ? performance.now() : undefined;
}
