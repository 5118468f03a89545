/** Changes to a source, and when they have arrived at the backup. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
  writeSync,
} from 'node:fs';
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

/** Resolves with whether something is so in a directory within `ms`. inotify tells, so that waiting takes no CPU time. */
async function becomes(directory: string, isSo: () => boolean, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const check = () => {
    if (isSo()) resolve(true);
  };
  const watcher = watch(directory, check);
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

/** Changes something and resolves with how long the backup took to be so, ms, or with undefined after `limit` ms. */
async function timeOf(run: Run, directory: string, change: () => void, isSo: () => boolean, limit: number) {
  const arrival = becomes(run.bed.path('backup', directory), isSo, limit);
  const started = performance.now();
  change();
  const pushed: Program | undefined = run.mirror.push?.(run);
  const arrived = await arrival;
  const ended = performance.now();
  await pushed?.exited;
  return arrived ? ended - started : undefined;
}

/** Writes a file or rewrites it; its directory must be at the backup already. Resolves as `timeOf` does. */
export function latencyOf(run: Run, file: string, limit: number): Promise<number | undefined> {
  const [path, copy] = [run.bed.path('source', file), run.bed.path('backup', file)];
  const content = contentUnlike(contentOf(path));
  const write = () => writeFileSync(path, content);
  return timeOf(run, dirname(file), write, () => contentOf(copy) === content, limit);
}

/** Saves a file as editors do: all into another one, which then takes its place. Resolves as `timeOf` does. */
export function saveTime(run: Run, file: string, limit: number): Promise<number | undefined> {
  const [path, copy] = [run.bed.path('source', file), run.bed.path('backup', file)];
  const content = contentUnlike(contentOf(path));
  const save = () => {
    writeFileSync(`${path}.new`, content);
    renameSync(`${path}.new`, path);
  };
  const isSaved = () => contentOf(copy) === content && !existsSync(`${copy}.new`);
  return timeOf(run, dirname(file), save, isSaved, limit);
}

/** Deletes a file. Resolves as `timeOf` does. */
export function deletionTime(run: Run, file: string, limit: number): Promise<number | undefined> {
  const [path, copy] = [run.bed.path('source', file), run.bed.path('backup', file)];
  return timeOf(
    run,
    dirname(file),
    () => rmSync(path),
    () => !existsSync(copy),
    limit,
  );
}

/** Rewrites a probe that the backup does not have yet, in case that a change is missed, until it has. */
export async function followed(run: Run, probe: string, limit: number): Promise<void> {
  const deadline = performance.now() + limit;
  for (let tries = 0; contentOf(run.bed.path('backup', probe)) === ''; tries++) {
    if (performance.now() > deadline) throw new Error(`no change mirrored within ${limit} ms`);
    if (tries % 50 === 0) writeFileSync(run.bed.path('source', probe), `${tries}`);
    await sleep(2);
  }
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

/** The names of `count` files of one directory. */
export const directoryFiles = (count: number) => Array.from({ length: count }, (_, n) => `directory/file-${n}`);

/** Writes small files as fast as it goes. */
export function writeFiles(root: string, files: string[], contentFor = nameAsContent): void {
  files.forEach((file, index) => {
    const path = join(root, file);
    if (index % PER_DIRECTORY === 0) mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, contentFor(file));
  });
}

/** Writes random bytes, which do not compress. */
export function writeRandom(file: string, bytes: number): void {
  const piece = new Uint8Array(65_536);
  const fd = openSync(file, 'w');
  for (let rest = bytes; rest > 0; rest -= piece.length) {
    crypto.getRandomValues(piece);
    writeSync(fd, piece, 0, Math.min(rest, piece.length));
  }
  closeSync(fd);
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
  await copyToBackup(bed);
}

/** Gives the backup what the source has. */
export async function copyToBackup(bed: Bed): Promise<void> {
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
