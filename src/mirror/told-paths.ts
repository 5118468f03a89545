/**
 * Which path of the source rsync means by what it says: a name may hold whatever ends it there, and the backup has it under other
 * directories than the source.
 *
 *   pathsIn('write failed on "/data/backup/a"');           // ['/data/backup/a']
 *   locatorFor(source, '/data/backup/')('/data/backup/a'); // 'a'
 */
import { withParents } from '../service/files.ts';
import type { Source } from './source.ts';

/** How many readings of a line are tried: where a name holds that many quotes, it stays unknown. */
const MAX_READINGS = 100;

/**
 * Lists what may be meant as a path in what rsync says, for a name may hold quotes itself: `rename "/b/.a.x1y2z3" -> "a"`,
 * `send_files failed to open "/s/a"`, `delete_file: unlink(a/b) failed`, `set_acl: sys_acl_set_file(a, ACL_TYPE_ACCESS)`.
 */
export function pathsIn(what: string): string[] {
  const opening = what.indexOf('"');
  const [start, ends] = opening >= 0 ? [opening + 1, /"/g] : [what.indexOf('(') + 1, /,|\)/g];
  if (start === 0) return [];
  const rest = what.slice(start);
  const places = [...rest.matchAll(ends)].map(({ index }) => index);
  if (places.length > MAX_READINGS) places.splice(MAX_READINGS - 1, places.length - MAX_READINGS); // the longest is the last one
  return places.map((index) => rest.slice(0, index));
}

/** How long a path in the source is at least whose name below it is too long for a path, bytes: far less than the limit of 4096. */
const DEEP = 2048;

/** Lists what may be meant where rsync refuses a path: nothing can look at one that is too long, but at a directory above it. */
export function refusedIn(refusal: string, named: string): string[] {
  const path = named.replace(/^"|"$/g, '');
  if (!refusal.startsWith('filename overflows')) return [path];
  return withParents(path).filter((it) => it.length >= DEEP);
}

/** How many components of a path are left out at most until it is known below the source. */
const MAX_LEFT_OUT = 40;

/**
 * Makes a function that finds the path below the source of what rsync names: what is in the source it names in full, what is on the
 * backup in full or relative to where it is. For what lies in a directory that may not be entered, that directory is found.
 * @param directory the destination
 */
export function locatorFor(
  source: Pick<Source, 'root' | 'realRoot' | 'prefix' | 'look' | 'isReadable' | 'isUnknown'>,
  directory: string,
) {
  const destination = `${Buffer.from(directory).toString('latin1').replace(/\/+$/, '')}/`;
  // Without a slash behind SOURCE_DIR its own name stands first on the target, and with -R all of its path.
  const starts = ['', source.prefix.slice(1), source.root.replace(/^\/+/, '')];
  const find = (path: string) =>
    starts
      .flatMap((start) => (path.startsWith(start) ? path.slice(start.length) : []))
      .find((it) => source.look(it) || source.isUnknown(it));
  return (told: string): string | undefined => {
    const roots = [source.root, `${source.realRoot}/`, destination];
    const root = roots.find((it) => told.startsWith(it)) ?? '';
    let path = told.slice(root.length).replace(/^(\.?\/)+|(\/\.?)+$/g, '');
    if (path.split('/').includes('..')) return undefined; // the backup may say anything: this would be sent from beside the source
    if (path === '.' || (path === '' && root)) return '';
    const closed = root && root !== destination ? closedAbove(source, path) : undefined;
    if (closed !== undefined) return closed;
    // Only in a full path that begins with none of these is it not known where the source begins.
    if (path && (root || !told.startsWith('/'))) return find(path);
    for (let n = 0; path && n < MAX_LEFT_OUT; n++) {
      if (source.look(path)) return path;
      path = path.includes('/') ? path.slice(path.indexOf('/') + 1) : '';
    }
    return undefined;
  };
}

/** Makes a function that finds the path below the source of what is not there any more, which the backup names relative to where it is. */
export function namerFor({ root, prefix }: Pick<Source, 'root' | 'prefix'>) {
  const starts = [root.replace(/^\/+/, ''), prefix.slice(1)];
  return (told: string): string | undefined => {
    if (!told || told.startsWith('/') || told.split('/').includes('..')) return undefined;
    const start = starts.find((it) => told.startsWith(it));
    return start === undefined ? undefined : told.slice(start.length).replace(/\/+$/, '') || undefined;
  };
}

/** Finds the directory above a path that may not be entered, if there is one. */
function closedAbove({ look, isReadable }: Pick<Source, 'look' | 'isReadable'>, path: string): string | undefined {
  if (look(path)) return undefined;
  const [nearest] = withParents(path).filter((it) => it !== path && look(it));
  return nearest && !isReadable(nearest) ? nearest : undefined;
}
