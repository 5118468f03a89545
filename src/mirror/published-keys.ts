/**
 * Reads the host keys that the backup has published in the shared volume, where others may write, too: nothing outside of it is read
 * for them, nothing is waited for, and they do not pile up.
 *
 *   const { keys, faults, isEmpty } = readPublishedKeys('/shared-keys/host_keys');
 */
import { lstatSync, readdirSync } from 'node:fs';
import { type HeldDirectory, holdDirectory, readSmallFile } from '../service/files.ts';
import { MAX_KEY_BYTES, parsePublicKey } from '../service/keys.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';

/** How many files are read: each backup has three, and one that is made anew under another name leaves them behind. */
const MAX_FILES = 1000;
/** How many are looked at to find the newest. */
const MAX_LOOKED_AT = 10_000;
/** How many of those that hold no key are told by name. */
const MAX_TOLD = 20;

interface Published {
  /** The keys as `TYPE BASE64`, in the order of the names of their files. */
  keys: string[];
  /** What is not taken, and why, as lines for people. */
  faults: string[];
  /** Whether nothing is published at all. */
  isEmpty: boolean;
}

/**
 * Reads what is published.
 * @throws {Failure} where the directory is there and cannot be read
 */
export function readPublishedKeys(directory: string): Published {
  try {
    using place = holdDirectory(directory);
    const names = readdirSync(place.at('')).filter((name) => name.endsWith('.pub'));
    const taken = newest(place, names).sort();
    const { keys, faults } = readKeys(place, taken);
    const advice = t`请删除 ${escapeText(directory)} 中不再使用的文件`;
    const left = t`公布的主机密钥有 ${names.length} 个，只采用了最新的 ${MAX_FILES} 个。${advice}`;
    return { keys, faults: names.length > MAX_FILES ? [left, ...faults] : faults, isEmpty: names.length === 0 };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { keys: [], faults: [], isEmpty: true };
    throw new Failure(t`无法读取公布的主机密钥 ${escapeText(directory)}：${reasonOf(cause)}。请检查共享卷的挂载和权限`);
  }
}

/** Picks those that were written last, where there are more than are read. */
function newest(place: HeldDirectory, names: string[]): string[] {
  if (names.length <= MAX_FILES) return names;
  const timeOf = (name: string) => lstatSync(place.at(name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const dated = names.slice(0, MAX_LOOKED_AT).map((name) => ({ name, time: timeOf(name) }));
  return dated
    .sort((a, b) => b.time - a.time)
    .slice(0, MAX_FILES)
    .map(({ name }) => name);
}

function readKeys(place: HeldDirectory, names: string[]): Pick<Published, 'keys' | 'faults'> {
  const faults: string[] = [];
  const keys = names.flatMap((name) => {
    try {
      return parsePublicKey(readSmallFile(place.at(name), MAX_KEY_BYTES)).key;
    } catch (cause) {
      faults.push(t`忽略了公布的主机密钥 ${escapeText(name)}：${reasonOf(cause)}`);
      return [];
    }
  });
  const more = faults.length - MAX_TOLD;
  return { keys, faults: more > 0 ? [...faults.slice(0, MAX_TOLD), t`另外忽略了 ${more} 个公布的主机密钥`] : faults };
}
