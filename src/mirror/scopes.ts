/**
 * What rsync has to look at for a batch, as names on a list or as rules.
 *
 *   listOf(new Map([['a/b', 'entry'], ['c', 'gone']]), '/'); // ./a/b and ./
 */
import { isUtf8 } from 'node:buffer';
import { isWithin, parentOf } from '../service/files.ts';

/**
 * A path that is there; a directory, but not what is in it; a path that is gone; a subtree; a directory inside of one; a directory that
 * counts as if it were not there, for it has no file below it.
 */
export type Scope = 'entry' | 'directory' | 'gone' | 'tree' | 'inside' | 'hollow';
export type Scopes = ReadonlyMap<string, Scope>;

/** The options under which rsync waits for such a list. */
export const LIST_OPTIONS = [
  ...['--no-recursive', '--dirs', '--ignore-missing-args', '--files-from=-', '--from0'],
  '--no-prune-empty-dirs', // a directory that is listed without what is in it would be taken for an empty one
];
/** A name of nothing: any name has rsync mirror the attributes of the source itself, too. */
export const NO_NAME = '.rsync-inotify-nothing';
/** How much rules may be passed as arguments, bytes. */
const MAX_RULES = 200_000;

/**
 * Writes the names for `--files-from`. `path` is the entry itself, `directory/` what is directly in it and, with `--delete`,
 * what is not there any more.
 * @param prefix what stands before a path of the source where rsync starts
 */
export function listOf(scopes: Scopes, prefix: string): Buffer {
  const names = new Set<string>();
  for (const [path, scope] of scopes) {
    if (scope === 'entry' && isListedAround(path, scopes)) continue;
    if (scope === 'entry' || scope === 'directory') names.add(path);
    else if (scope === 'gone') names.add(path.includes('/') ? path.replace(/[^/]*$/, '') : '');
    else if (scope === 'hollow') names.add(parentOf(path) || NO_NAME);
    else names.add(`${path}/`);
  }
  const start = prefix === '/' ? './' : prefix; // the dot has rsync mirror the attributes of the source itself, too
  return Buffer.from([...names].map((name) => `${start}${name}\0`).join(''), 'latin1');
}

/** Whether all that is directly in the directory of a path is listed: to rsync, each name beside that is work on both sides. */
function isListedAround(path: string, scopes: Scopes): boolean {
  const around = path.includes('/') ? scopes.get(parentOf(path)) : undefined;
  return around === 'tree' || around === 'inside';
}

/** Whether something in a directory may be deleted. */
export const mayDelete = (scopes: Scopes) =>
  [...scopes.values()].some((scope) => scope !== 'entry' && scope !== 'directory');

/**
 * Writes the same as rules that come after the user's, which thereby still exclude what they exclude; nothing where they are too long.
 * They name both sides: under `--delete-excluded`, what one leaves out would be deleted otherwise.
 */
export function rulesOf(scopes: Scopes, prefix: string): string[] | undefined {
  const patterns = new Set<string>();
  for (const [path, scope] of scopes) {
    if (scope === 'inside') continue;
    const parts = (prefix + path).split('/').filter(Boolean);
    for (let n = 1; n <= parts.length; n++) patterns.add(patternOf(`/${parts.slice(0, n).join('/')}`));
    if (scope !== 'directory') patterns.add(patternOf(`${prefix}${path}`, '/***'));
  }
  const rules = [...[...patterns].map((text) => `--filter=+rs ${text}`), '--filter=-rs *'];
  return rules.join('').length > MAX_RULES ? undefined : rules;
}

/**
 * Whether something may be deleted at one of these paths or below it, or one of the files be sent anew: where nothing is mounted
 * there any more, what lies below it would take the place of its copy.
 */
export function mayReplace(scopes: Scopes, paths: readonly string[], files: readonly string[]): boolean {
  const named = new Set(files);
  const around = new Set(files.map(parentOf));
  return [...scopes].some(([path, scope]) => {
    if (scope === 'entry') return named.has(path);
    if (scope === 'directory') return false;
    return around.has(scope === 'gone' ? parentOf(path) : path) || paths.some((it) => isWithin(path, it));
  });
}

/** What stands behind a path for all that may be there, a file as well as a directory with what is in it. */
const ALL_OF_IT = ['', '/***'];

/** Writes the rules by which rsync deletes nothing at or below paths. @param prefix what stands before a path of the source */
export const keepRules = (paths: string[], prefix: string, ends = ALL_OF_IT) =>
  paths.flatMap((path) => ends.map((end) => `--filter=P ${patternOf(`${prefix}${path}`, end)}`));

/** Writes the rules by which rsync does not look at paths nor below them, with `/**` only below them, or with nothing only at them. */
export const hideRules = (paths: string[], prefix: string, ends = ALL_OF_IT) =>
  paths.flatMap((path) => ends.map((end) => `--filter=H ${patternOf(`${prefix}${path}`, end)}`));

/** Writes a path as a pattern: where there are no wildcards, rsync takes a backslash for itself. */
export function patternOf(path: string, end = ''): string {
  const escaped = withBytes(path.replace(/[\\*?[]/g, '\\$&'));
  return (/[*?[]/.test(escaped + end) ? escaped : withBytes(path)) + end;
}

const withBytes = (text: string) => text.replace(/[\x80-\xff]+/g, writeBytes);

/** Writes bytes that are no ASCII: those that are no UTF-8 cannot be in an argument, and any other one stands for each of them. */
function writeBytes(text: string): string {
  const bytes = Buffer.from(text, 'latin1');
  return isUtf8(bytes) ? bytes.toString() : '[^ -~]'.repeat(bytes.length);
}
