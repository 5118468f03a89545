/**
 * Whether a file that `-F` has rsync read rules from is near what it has to look at: where none is, that option changes nothing.
 *
 *   isNearRules(source, ['a/b'], scopes); // false: no .rsync-filter beside, above or below
 */
import { lstatSync } from 'node:fs';
import { parentOf, withParents } from '../service/files.ts';
import type { Scopes } from './scopes.ts';
import type { Source } from './source.ts';

/** The file that `-F` names. */
export const RULE_FILE = '.rsync-filter';

/** Whether there is one at a path, bytes in a latin1 string, or nobody can say. */
function isThere(path: string): boolean {
  try {
    return lstatSync(Buffer.from(path, 'latin1'), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

/**
 * Looks beside and above all of it, up to the root of the file system, and in each directory that is looked at as a whole.
 * @param changed the paths that have changed: other rules may leave out what those in a file let in
 */
export function isNearRules(
  source: Pick<Source, 'root' | 'realRoot'>,
  changed: Iterable<string>,
  scopes: Scopes,
): boolean {
  const directories = new Set<string>();
  for (const path of changed) {
    if (withParents(path).some((it) => it === RULE_FILE || it.endsWith(`/${RULE_FILE}`))) return true;
    for (const it of withParents(parentOf(path))) directories.add(it);
  }
  for (const [path, scope] of scopes)
    for (const it of withParents(scope === 'entry' || scope === 'gone' ? parentOf(path) : path)) directories.add(it);
  const above = [source.root, source.realRoot].flatMap((root) => withParents(root.replace(/\/+$/, '')));
  const places = [...above.map((it) => `${it}/`), ...[...directories].map((it) => source.root + (it && `${it}/`))];
  return places.some((place) => isThere(place + RULE_FILE));
}
