/**
 * Whether a file that `-F` has rsync read rules from is near what it has to look at: where none is, that option changes nothing. And
 * whether one that is lets rsync delete what it was not to look at.
 *
 *   isNearRules(source, ['a/b'], scopes); // false: no .rsync-filter beside, above or below
 *   isAtRisk(source, scopes);             // true: one above holds `risk *.tmp`
 */
import { lstatSync } from 'node:fs';
import { parentOf, withParents } from '../service/files.ts';
import { isSafeBefore } from './options.ts';
import { readRuleLines } from './rule-lines.ts';
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

/** Lists the directories from the source down in which something is looked at. */
const onTheWayTo = (scopes: Scopes) =>
  new Set([...scopes].flatMap(([path, it]) => withParents(it === 'entry' || it === 'gone' ? parentOf(path) : path)));

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
  for (const it of onTheWayTo(scopes)) directories.add(it);
  const above = [source.root, source.realRoot].flatMap((root) => withParents(root.replace(/\/+$/, '')));
  const places = [...above.map((it) => `${it}/`), ...[...directories].map((it) => source.root + (it && `${it}/`))];
  return places.some((place) => isThere(place + RULE_FILE));
}

/** Whether the rules in a file, bytes in a latin1 string, may be ones by which rsync deletes what rules behind them leave out; also where nobody can say. */
function isRisky(path: string): boolean {
  if (!isThere(path)) return false;
  try {
    return !readRuleLines(Buffer.from(path, 'latin1').toString()).every(
      (line) => isSafeBefore(line) || /^(!|clear)$/.test(line),
    );
  } catch {
    return true;
  }
}

/** Whether a file of rules on the way to something lets rsync delete beside it what no rule has it look at. */
export function isAtRisk(source: Pick<Source, 'root'>, scopes: Scopes): boolean {
  return [...onTheWayTo(scopes)].some((path) => isRisky(`${source.root}${path && `${path}/`}${RULE_FILE}`));
}
