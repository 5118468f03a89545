/**
 * Whether a directory takes two names for one that differ in the case of letters only, as exFAT, FAT and NTFS do, and others where
 * they are told to. There, what was renamed so must be deleted before it is transferred, or the deletion takes what has come.
 *
 *   if (foldingOf(here) !== 'no') options = deletingFirst(options);
 */
import { type Dirent, lstatSync, opendirSync } from 'node:fs';
import { mountsBelow, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { DELETES_LAST } from './receiver-options.ts';

/** Whether it does: where nothing is there yet whose name has letters, that is not known. */
export type Folding = 'yes' | 'no' | 'unknown';

/** How many entries are looked at in a directory at most, and how many directories until one has a name with letters. */
const MAX_ENTRIES = 100;
const MAX_DIRECTORIES = 50;
/** Has rsync delete in each directory before it transfers anything there: that is the receiver's affair alone. */
export const deletingFirst = (options: readonly string[]) =>
  options.map((option) => (DELETES_LAST.test(option) ? '--delete-during' : option));

/** Finds out about a directory and what is mounted below it. @param path a real one, bytes in a latin1 string */
export function foldingOf(path: string): Folding {
  const mounts = mountsBelow(parseMountinfo(readMountinfo()), path).map((mount) => mount.path);
  const answers = [...new Set([path, ...mounts])].map((it) => foldingBy(namesBelow(it), isThere));
  return answers.find((it) => it === 'yes') ?? answers.find((it) => it === 'unknown') ?? 'no';
}

/** Judges by paths that are there, whose last names have letters: one is enough that is not there in the other case. */
export function foldingBy(paths: readonly string[], isPresent: (path: string) => boolean): Folding {
  if (paths.some((path) => !isPresent(inOtherCase(path)) && isPresent(path))) return 'no';
  return paths.length > 0 ? 'yes' : 'unknown';
}

/** Changes the case of the last name of a path, of those letters that are the same in every encoding. */
const inOtherCase = (path: string) =>
  path.replace(/[^/]+$/, (name) =>
    name.replace(/[a-z]/gi, (letter) => (letter < 'a' ? letter.toLowerCase() : letter.toUpperCase())),
  );

/** Finds paths with letters in the first directory that has some. */
function namesBelow(top: string): string[] {
  const rest = [top];
  for (let count = 0; rest.length > 0 && count < MAX_DIRECTORIES; count++) {
    const directory = rest.shift() ?? '';
    const entries = entriesOf(directory).filter(({ name }) => /^[ -~]+$/.test(name));
    const names = entries.filter(({ name }) => /[a-z]/i.test(name));
    if (names.length > 0) return names.map(({ name }) => `${directory}/${name}`);
    rest.push(...entries.filter((entry) => entry.isDirectory()).map(({ name }) => `${directory}/${name}`));
  }
  return [];
}

/** Reads the first entries of a directory; none where it cannot be read. */
function entriesOf(path: string): Dirent[] {
  const entries: Dirent[] = [];
  try {
    using directory = opendirSync(Buffer.from(path, 'latin1'));
    for (let entry = directory.readSync(); entry && entries.length < MAX_ENTRIES; entry = directory.readSync())
      entries.push(entry);
  } catch {}
  return entries;
}

function isThere(path: string): boolean {
  try {
    return lstatSync(Buffer.from(path, 'latin1'), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true; // which is not known
  }
}
