/**
 * What DEST_RSYNC_OPTS say: options of rsync for single targets, behind those that hold for all.
 *
 *   readOwnOptions('nas: --no-A --no-X pi: --bwlimit=500'); // [{ name: 'nas', words: ['--no-A', '--no-X'] }, { name: 'pi', … }]
 */
import { join } from 'shlex';
import { escapeText, t } from '../service/text.ts';
import { showsPassword } from '../service/variables.ts';
import type { parseDestination } from './destinations.ts';
import { parseWords } from './options.ts';
import { complaintAboutFile, groupsOf } from './rsync-options.ts';

/** Options of some targets, as words. */
interface OwnOptions {
  /** How the targets are called. */
  name: string;
  words: string[];
}

const EXPECTED = t`应以“目标:”开头，后接它的 rsync 选项，例如 nas: --no-A --no-X pi: --bwlimit=500`;

/**
 * Reads a list of options in which `NAME:` says of which target those are that follow. A value of an option is never taken for that,
 * and a target needs no quotes.
 * @throws where options are no target's, or what stands there is neither
 */
export function readOwnOptions(list: string): OwnOptions[] {
  const all: OwnOptions[] = [];
  for (const { words, options } of groupsOf(parseWords(list))) {
    const [word = ''] = words;
    if (options.length === 0 && word.endsWith(':')) all.push({ name: word.slice(0, -1), words: [] });
    else if (all.length === 0) throw new Error(EXPECTED);
    else if (options.length === 0) throw new Error(t`${complaintAboutFile(word)}；目标名须以冒号结尾`);
    else all.at(-1)?.words.push(...words);
  }
  return all;
}

type Place = Pick<ReturnType<typeof parseDestination>, 'given' | 'host' | 'directory'>;

/** Whether a target is called so: by its word in DEST_HOSTS, that without the directory, or its host alone. */
const isCalled = ({ given, host, directory }: Place, name: string) =>
  [given, host, `[${host}]`, `${given}:${directory}`, `${given}/${directory}`].includes(name);

/** Finds the options of a target, '' if it has none. */
export const ownOptionsOf = (place: Place, all: readonly OwnOptions[]) =>
  join(all.filter(({ name }) => isCalled(place, name)).flatMap(({ words }) => words));

/** Says what is wrong with options of single targets: those that are nobody's, and targets that have some twice. */
export function complaintsAboutOwners(own: readonly OwnOptions[], places: readonly Place[]): string[] {
  const known = places.map(({ given }) => escapeText(given)).join(t`、`);
  const strangers = own.filter(({ name }) => !places.some((place) => isCalled(place, name)));
  const twice = places.filter((place) => own.filter(({ name }) => isCalled(place, name)).length > 1);
  return [
    ...strangers.map(
      ({ name }) => t`没有名为 ${showsPassword(name) ? '***' : escapeText(name)} 的目标，现有目标为 ${known}`,
    ),
    ...twice.map(({ given }) => t`目标 ${escapeText(given)} 出现了多次；请把它的选项写在一处`),
  ];
}
