/**
 * What `--restore` is asked to fetch, from where and to where, and what rsync is told of it.
 *
 *   const wish = readWish(['--restore', 'web', '--to', '/tmp/web'], '/data/source/'); // { paths: ['web'], from: undefined, to: '/tmp/web' }
 *   placesIn('/data/backup/', wish); // ['/data/backup/./web']
 */
import { isAbsolute, join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { isWithin } from '../service/files.ts';
import { escapeText, Failure, reasonOf, t, wordsOf } from '../service/text.ts';
import type { Host } from './config.ts';
import { isSet, parseOptions, withoutOptions } from './rsync-options.ts';

export interface Wish {
  /** Below SOURCE_DIR, '' for all of it; all of it, if there are none. */
  paths: string[];
  /** A directory of the backup in the place of DEST_DIR. */
  from: string | undefined;
  /** A directory of ours in the place of SOURCE_DIR. */
  to: string | undefined;
}

const usage = (what: string) => new Failure(t`用法错误: ${what}。请参阅 rsync-inotify --help`, 2);

/** Reads what is wished. @param source SOURCE_DIR @throws {Failure} (status 2) */
export function readWish(args: readonly string[], source: string): Wish {
  const options = { restore: { type: 'boolean' }, from: { type: 'string' }, to: { type: 'string' } } as const;
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
    for (const name of ['from', 'to'] as const) if (values[name] === '') throw usage(t`--${name} 之后应为目录`);
    return { paths: positionals.map((path) => pathBelow(path, source)), from: values.from, to: values.to };
  } catch (cause) {
    throw cause instanceof Failure ? cause : usage(reasonOf(cause));
  }
}

/** Takes a path relative to SOURCE_DIR, or a whole one within it. @throws {Failure} */
function pathBelow(path: string, source: string): string {
  const root = resolve(source);
  const whole = resolve(root, path);
  if (path === '' || !isWithin(whole, root))
    throw usage(t`${escapeText(path)} 不在 SOURCE_DIR=${escapeText(root)} 之内`);
  return relative(root, whole);
}

/** Whether the whole tree is wished for. */
const isWhole = ({ paths }: Wish) => paths.length === 0 || paths.includes('');

/** How long the command may be that start-sshd takes, bytes: some room is left for options. */
const MAX_NAMES = 60_000;

/**
 * Writes what rsync is to fetch of a directory of the backup: all that is in it, or what is named, with the directories on the way. What a
 * shell on the other side would take for wild cards stands for itself.
 * @throws {Failure} where that is too much
 */
export function placesIn(directory: string, wish: Wish): string[] {
  if (isWhole(wish)) return [directory];
  const places = wish.paths.map((path) => `${directory}./${path.replace(/[*?[]/g, '\\$&')}`);
  if (Buffer.byteLength(places.join(' ')) <= MAX_NAMES) return places;
  throw usage(t`路径太多，请分几次恢复，或指明它们所在的目录`);
}

/** Names the directory of the backup that stands for SOURCE_DIR. @param below what a path of the source begins with there, bytes */
export function placeOn({ directory }: Pick<Host, 'directory'>, { from }: Wish, below: string): string {
  const base = from === undefined ? directory : isAbsolute(from) ? from : join(directory, from);
  return join(base, Buffer.from(below, 'latin1').toString(), '/');
}

/**
 * Options that say what of a file is kept, and how it is transferred: they mean the same in the other direction. All others are about what
 * is mirrored, what is deleted, or how a file is written; parts of files would be taken for files.
 */
const CARRIED = new Set(
  wordsOf(
    `-a -r -l -p -t -g -o -D -A -X -H -U -N -S -E -O -J -z -W -v -h -8 --archive --recursive --links --perms --times --group
    --owner --devices --specials --acls --xattrs --hard-links --atimes --crtimes --sparse --executability --omit-dir-times
    --omit-link-times --compress --compress-choice --zc --compress-level --zl --compress-threads --zt --skip-compress
    --checksum-choice --cc --numeric-ids --bwlimit --whole-file --verbose --human-readable --8-bit-output --fsync --iconv
    --rsync-path --open-noatime`,
  ),
);
const NEGATED =
  /^--no-(perms|p|owner|o|group|g|times|t|devices|specials|D|links|l|acls|A|xattrs|X|hard-links|H|recursive|r)$/;
/** What the other side has kept files under, so that it has to read them so. */
const FOR_REMOTE = ['--fake-super', '--munge-links'];

/** Picks from the user's options those that count for a restore. */
export function carriedWords(words: readonly string[]): string[] {
  return withoutOptions(words, ({ name, value = '' }) => {
    if (name === '-M' || name === '--remote-option') return !FOR_REMOTE.includes(value);
    return !CARRIED.has(name) && !NEGATED.test(name);
  });
}

/** Whether owners are to be restored. */
export const keepsOwners = (words: readonly string[]) =>
  isSet(parseOptions(words), ['-a', '--archive', '-o', '--owner'], ['--no-o', '--no-owner']);
