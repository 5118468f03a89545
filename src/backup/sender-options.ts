/**
 * The options of a sending rsync that the source may send where it restores: only those of which its `--restore` makes use, or that say
 * the same in another way. None of them follows a link, names a file, or changes anything.
 *
 *   parseSender(['rsync', '--server', '--sender', '-logDtpre.iLsfxCIvu', '.', '/data/backup/']).directory; // '/data/backup/'
 */
import { basename } from 'node:path';
import { t } from '../service/text.ts';
import { Refusal } from './confinement.ts';
import { readLong } from './receiver-options.ts';

const namesIn = (list: string) => list.split(/\s+/);

/** Short options that only say what is told of a file and how: no L nor k, which follow links, and no s, which hides words from us. */
const SHORT_WORD = /^-(?=.)[vqnldWHogDtUNpAXrcISzR]*(e\d*\.\w*)?$/;
const FLAGS = namesIn(
  `fake-super msgs2stderr munge-links new-compress no-msgs2stderr no-specials numeric-ids old-compress open-noatime
  specials use-qsort`,
);
const VALUES = namesIn(
  `bwlimit checksum-choice checksum-seed compress-choice compress-level compress-threads iconv info max-alloc
  skip-compress timeout`,
);

/** Whether a word is an option that a sending rsync gets as it is. */
function isHarmless(word: string): boolean {
  const { name, value } = readLong(word);
  return SHORT_WORD.test(word) || (value === undefined ? FLAGS : VALUES).includes(name);
}

/** Whether the source asks for a sending rsync. */
export const asksToRead = ([program = '', server, sender]: readonly string[]) =>
  basename(program) === 'rsync' && server === '--server' && sender === '--sender';

/** What a source wants to read. */
interface Wanted {
  options: string[];
  directory: string;
  /** What in it, all if there are none. */
  names: string[];
}

/** What stands between a directory and a name in it, which is sent with its parents (rsync(1), --relative). */
const BELOW = '/./';

/**
 * Takes `rsync --server --sender OPTION... . DIRECTORY/` apart, or `… . DIRECTORY/./NAME...`: known options only. Names in a file, or over
 * the connection, would be seen by rsync alone.
 * @throws {Refusal}
 */
export function parseSender([, , , ...words]: string[]): Wanted {
  const end = words.indexOf('.');
  const options = words.slice(0, Math.max(0, end));
  const unknown = options.find((word) => !isHarmless(word));
  if (unknown !== undefined) throw new Refusal(t`恢复时不允许 rsync 选项 ${unknown}`);
  const places = end < 0 ? [] : words.slice(end + 1);
  const parts = places.map((place) => place.split(BELOW));
  const [directory = ''] = parts[0] ?? [];
  const isAlone = places.length === 1 && parts[0]?.length === 1;
  if (!directory || !(isAlone || parts.every(([its, name], n) => its === directory && name && parts[n]?.length === 2)))
    throw new Refusal(t`恢复时 rsync 命令应有一个目录，或同一目录中的若干路径`);
  return { options, directory, names: isAlone ? [] : parts.map(([, name = '']) => name) };
}
