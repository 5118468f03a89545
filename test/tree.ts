/** What a directory tree holds, to the nanosecond, and what the backup of one should hold. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { split } from 'shlex';

/** Paths are bytes, kept as latin1 strings: names need not be UTF-8. */
export const bytes = (path: string) => Buffer.from(path, 'latin1');

/** A path as it can be printed. */
export const shown = (path: string) => {
  const printable = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  const short = path.replace(/(.{1,3}?)\1{20,}/gs, (run, part: string) => `${part}{${run.length / part.length}}`);
  return `'${short.replace(/[^ -~]/g, printable)}'`;
};

/** Compares two trees by content, type, mode, time and link target; throws with what differs. */
export function expectEqual(source: string, backup: string, options: string[] = []): true {
  const args = ['-anc', '--delete', ...options, '--itemize-changes', '--out-format=%i %n', `${source}/`, `${backup}/`];
  const { stdout, stderr, status } = spawnSync('rsync', args, { encoding: 'utf8' });
  if (status !== 0 || stdout.trim() !== '') throw new Error(`trees differ:\n${stdout}${stderr}`);
  return true;
}

/** What is compared of a file, a directory or a link. */
interface Entry {
  type: 'file' | 'directory' | 'link' | 'other';
  mode: string;
  mtime: string;
  /** Of a file: its size and a hash. */
  content: string;
  /** Of a link: where it leads. */
  target: string;
  /** Of a file with several names in the tree: all of them. */
  names: string;
}

type Field = keyof Entry;

/** Entries by their path below the root, which is `.` itself. */
type Tree = Map<string, Entry>;

/** Reads a tree; throws when it changes meanwhile. */
function readTree(root: string): Tree {
  const tree: Tree = new Map();
  const inodes = new Map<string, string[]>();
  const visit = (path: string, full: string) => {
    const status = lstatSync(bytes(full), { bigint: true });
    const entry = describe(full, status);
    tree.set(path, entry);
    if (entry.type === 'file' && status.nlink > 1n) {
      inodes.set(`${status.ino}`, [...(inodes.get(`${status.ino}`) ?? []), path]);
    }
    for (const name of entry.type === 'directory' ? namesIn(full) : []) {
      visit(path === '.' ? name : `${path}/${name}`, `${full}/${name}`);
    }
  };
  visit('.', Buffer.from(root).toString('latin1'));
  for (const group of inodes.values()) {
    for (const path of group.length > 1 ? group : []) {
      const entry = tree.get(path);
      if (entry) entry.names = group.map(shown).join(' = ');
    }
  }
  return tree;
}

/** The names in a directory, sorted: their order on the disk is different everywhere. */
export const namesIn = (path: string) =>
  readdirSync(bytes(path), { encoding: 'buffer' })
    .map((name) => name.toString('latin1'))
    .sort();

function describe(full: string, status: BigIntStats): Entry {
  const entry: Entry = { type: 'other', mode: '', mtime: `${status.mtimeNs}`, content: '', target: '', names: '' };
  if (status.isSymbolicLink()) {
    const target = readlinkSync(bytes(full), { encoding: 'buffer' }).toString('latin1');
    return { ...entry, type: 'link', target: shown(target) };
  }
  entry.mode = (status.mode & 0o7777n).toString(8);
  if (status.isDirectory()) return { ...entry, type: 'directory' };
  return status.isFile() ? { ...entry, type: 'file', content: summary(readFileSync(bytes(full))) } : entry;
}

const summary = (content: Buffer) =>
  `${content.length} bytes ${shown(content.subarray(0, 12).toString('latin1'))} ${createHash('sha1').update(content).digest('hex').slice(0, 8)}`;

/** A path and what is wrong there. */
export interface Difference {
  path: string;
  what: string;
}

/** In what `actual` is not what is expected, apart from fields that do not count. */
function differences(expected: Tree, actual: Tree, ignored: Field[] = []): Difference[] {
  const found: Difference[] = [];
  for (const [path, entry] of expected) {
    const other = actual.get(path);
    if (other) found.push(...unequal(entry, other, ignored).map((what) => ({ path, what })));
    else found.push({ path, what: `is missing (${entry.type})` });
  }
  for (const [path, { type }] of actual) {
    if (!expected.has(path)) found.push({ path, what: `should not be there (${type})` });
  }
  return found;
}

function unequal(expected: Entry, actual: Entry, ignored: Field[]): string[] {
  if (expected.type !== actual.type) return [`is a ${actual.type}, not a ${expected.type}`];
  return (Object.keys(expected) as Field[])
    .filter((field) => !ignored.includes(field) && expected[field] !== actual[field])
    .map((field) => `${field}: ${actual[field]}, not ${expected[field]}`);
}

/**
 * Runs rsync as a user would by hand, but to the nanosecond: else what changes twice in a second with its size kept
 * may be skipped, and directories may keep the time at which rsync filled them.
 */
function plainRsync(options: string[], from: string, to: string): void {
  const { status, stderr } = spawnSync('rsync', [...options, '--modify-window=-1', `${from}/`, `${to}/`]);
  // What takes the place of a directory fails where that may not go; files do not vanish from a quiet tree.
  const mayKeep = !options.includes('--delete') || options.some((option) => KEEPS.test(option));
  if (status === 0 || (status === 23 && mayKeep)) return;
  throw new Error(`rsync ${options.join(' ')} (${status})\n${stderr}`);
}

/** A rule by which a backup may keep what the source has shown and does not have any more. */
const KEEPS = /^--filter=(P|S|protect|show|[-+],?[!p]*[rs])/;

/** Where the two trees are, and where there is space for trees that show what is expected. */
export interface Places {
  source: string;
  backup: string;
  scratch: string;
}

/**
 * What the backup of a source that is quiet by now should be: what a plain rsync would have made of it.
 * `options` are those of RSYNC_OPTS.
 */
export class Expectation {
  private readonly words: string[];
  private readonly source: Tree;
  /** What rsync makes of the source where nothing is yet. Without --delete a backup holds more. */
  private readonly anew: Tree | undefined;
  private readonly ignored: Field[] = [];

  constructor(
    private readonly places: Places,
    options: string,
  ) {
    this.words = split(options);
    const letters = this.words.filter((word) => /^-\w/.test(word)).join('');
    if (!letters.includes('a')) this.ignored.push('mode');
    if (!letters.includes('H')) this.ignored.push('names');
    mkdirSync(places.scratch, { recursive: true });
    this.source = readTree(places.source);
    const deletes = this.words.some((word) => /^--delete/.test(word));
    if (deletes && !this.words.some((word) => KEEPS.test(word))) this.anew = this.copyOfSource();
  }

  private copyOfSource(): Tree {
    const copy = join(this.places.scratch, 'anew');
    rmSync(copy, { recursive: true, force: true });
    mkdirSync(copy);
    plainRsync(this.words, this.places.source, copy);
    return readTree(copy);
  }

  /** In what the backup is not as expected; throws while it changes. */
  differences(): Difference[] {
    const backup = this.withoutParts(readTree(this.places.backup));
    const found = this.anew ? differences(this.anew, backup, this.ignored) : [];
    if (found.length > 0) return found;
    return [...this.staleFiles(backup), ...this.leftToDo()];
  }

  /** Leaves out what rsync keeps with --delay-updates of files that changed while they were sent, and removes with their next version alone. */
  private withoutParts(tree: Tree): Tree {
    if (!this.words.includes('--delay-updates')) return tree;
    return new Map([...tree].filter(([path]) => !path.split('/').includes('.~tmp~')));
  }

  /** Files whose content is not that of the source, whatever size and time say. */
  private staleFiles(backup: Tree): Difference[] {
    return [...backup].flatMap(([path, { type, content }]) => {
      const entry = this.source.get(path);
      const isStale = type === 'file' && entry?.type === 'file' && entry.content !== content;
      return isStale ? [{ path, what: `content: ${content}, not ${entry.content}` }] : [];
    });
  }

  /** What a plain rsync would still change in the backup. */
  private leftToDo(): Difference[] {
    const copy = join(this.places.scratch, 'copy');
    rmSync(copy, { recursive: true, force: true });
    const { status, stderr } = spawnSync('cp', ['-a', this.places.backup, copy], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`cp -a: ${stderr}`);
    const before = this.withoutParts(readTree(copy));
    plainRsync(this.words, this.places.source, copy);
    return differences(this.withoutParts(readTree(copy)), before).map(({ path, what }) => ({
      path,
      what: `${what}, says rsync`,
    }));
  }
}
