/**
 * The options of a receiving rsync that the source may send, and which of them the operator refuses by REFUSE_OPTIONS.
 *
 *   const refused = new Set(refusedBy('inplace, delete-*'));
 *   refusalOf('-vlogDtpre.iLsfxCIvu', refused); // undefined
 *   withWholeFiles(['--inplace', '--no-W']); // --inplace --whole-file
 */
import { t } from '../service/text.ts';

const namesIn = (list: string) => list.split(/\s+/);

/** Short options that only say what is transferred and how. K, L and k follow links, s hides words from us. */
const SHORT: Record<string, string> = {
  ...{ A: 'acls', C: 'cvs-exclude', D: 'devices', E: 'executability', H: 'hard-links', I: 'ignore-times' },
  ...{ J: 'omit-link-times', N: 'crtimes', O: 'omit-dir-times', R: 'relative', S: 'sparse', U: 'atimes' },
  ...{ W: 'whole-file', X: 'xattrs', b: 'backup', c: 'checksum', d: 'dirs', g: 'group', l: 'links' },
  ...{ m: 'prune-empty-dirs', n: 'dry-run', o: 'owner', p: 'perms', q: 'quiet', r: 'recursive', t: 'times' },
  ...{ u: 'update', v: 'verbose', x: 'one-file-system', y: 'fuzzy', z: 'compress' },
};
const SHORT_WORD = new RegExp(`^-(?=.)([${Object.keys(SHORT).join('')}]*)(e\\d*\\.\\w*)?$|^-@-?\\d+$`);
/** Long ones, and those with a value that names no file: what a client may send (rrsync(1)) to a receiver that follows no link. */
const FLAGS = namesIn(
  `append copy-unsafe-links delay-updates delete delete-after delete-before delete-delay delete-during delete-excluded
  delete-missing-args dirs existing fake-super force from0 fsync fuzzy group hard-links ignore-errors ignore-existing
  ignore-missing-args ignore-times inplace links mkpath msgs2stderr munge-links new-compress no-W no-msgs2stderr no-r
  no-relative no-specials numeric-ids old-compress one-file-system open-noatime owner partial perms preallocate
  recursive safe-links size-only specials stats super times use-qsort`,
);
const VALUES = namesIn(
  `bwlimit checksum-choice checksum-seed compress-choice compress-level compress-threads groupmap iconv info
  log-format max-alloc max-delete max-size min-size modify-window skip-compress stderr suffix timeout usermap`,
);
/** Options that name a directory, as one word or two. */
export const DIRECTORIES = ['backup-dir', 'compare-dest', 'copy-dest', 'link-dest', 'partial-dir', 'temp-dir'];

const LONG_WORD = /^--([\w-]+)(?:=(.*))?$/;

/** Finds name and value in a long option; no name in any other word. */
export function readLong(word: string): { name: string; value: string | undefined } {
  const [, name = '', value] = LONG_WORD.exec(word) ?? [];
  return { name, value };
}

/** Whether a word is an option that rsync gets as it is. */
export function isHarmless(word: string): boolean {
  const { name, value } = readLong(word);
  return SHORT_WORD.test(word) || (value === undefined ? FLAGS : VALUES).includes(name);
}

// ── How long blocks are ──────────────────────────────────────────────────────────────────────────

/** A length of blocks, which may be the next word. */
const BLOCK_LENGTH = /^(-B(-?\d+)?|--block-size(=.*)?)$/;
const SPLIT_BLOCK_LENGTH = /^(-B|--block-size)$/;

/**
 * Says how many words from the first one on say how long the blocks shall be whose checksums rsync sends; 0 for none. That is left to
 * rsync: the checksum of a block of one byte is that byte, and those of blocks of 700 and of 701 bytes differ by the byte that only one has.
 */
export function countBlockWords([word = '', next]: readonly string[]): 0 | 1 | 2 {
  if (!BLOCK_LENGTH.test(word)) return 0;
  return SPLIT_BLOCK_LENGTH.test(word) && next !== '.' ? 2 : 1;
}

/** Has rsync ask for whole files: it sends no checksums of blocks then. An option that takes that back is left out. */
export const withWholeFiles = (options: readonly string[]) => [
  ...options.filter((option) => option !== '--no-W'),
  '--whole-file',
];

/** Whether rsync writes into files as they are. */
export const writesInPlace = (options: readonly string[]) =>
  options.some((option) => option === '--inplace' || option === '--append');

/** Whether rsync writes into files as they are, or makes room for what it may not write: their size and time may be on the disk without their content. */
export const writesLoosely = (options: readonly string[]) =>
  writesInPlace(options) || options.includes('--preallocate') || options.some((word) => /^-(?!-)[^e]*S/.test(word));

/** Options of rsync that delete once all was transferred. */
export const DELETES_LAST = /^--delete-(after|delay)$/;

/** Whether rsync is to delete last. */
export const deletesLast = (options: readonly string[]) => options.some((option) => DELETES_LAST.test(option));

/** What a client says in one word with short options that its protocol can do. */
const ABILITIES = new RegExp(`^(-[${Object.keys(SHORT).join('')}]*e\\d*\\.)(\\w*)$`);

/**
 * Takes the ability out of a word to have parts written in place: rsync takes any file for one that a client calls a part, even without
 * --partial-dir, and would write into what snapshots share with it, or to a device. A part is copied first then.
 */
export const withoutPartsInPlace = (word: string) =>
  word.replace(ABILITIES, (_, options: string, abilities: string) => options + abilities.replaceAll('I', ''));

// ── What the operator refuses ────────────────────────────────────────────────────────────────────

/** What the operator refuses to have files transferred as a whole. */
export const NO_DELTA = 'no-whole-file';
/** What rsync-inotify adds by itself, whatever RSYNC_OPTS are: without these nothing is mirrored. */
const NEEDED = namesIn(
  'dirs dry-run info log-format max-delete max-size modify-window no-r recursive relative rsh server',
);
/** Other names of options, which mean the same here. */
const ALIASES: Record<string, string> = {
  ...{ B: 'block-size', e: 'rsh', '@': 'modify-window', 'out-format': 'log-format', 'no-W': NO_DELTA },
  ...{ 'append-verify': 'append', del: 'delete-during', cc: 'checksum-choice', zc: 'compress-choice' },
  ...{ zl: 'compress-level', zt: 'compress-threads', 'ignore-non-existing': 'existing', qsort: 'use-qsort' },
  ...{ chown: 'usermap', a: 'archive' },
};
/** What an option asks for besides: who refuses that refuses the option. */
const MEANS: Record<string, string[]> = {
  ...{ append: ['inplace'], 'delay-updates': ['partial'], 'partial-dir': ['partial'] },
  ...{ 'compress-choice': ['compress'], 'new-compress': ['compress'], 'old-compress': ['compress'] },
  ...{ devices: ['specials'], 'backup-dir': ['backup'] },
};
const ARCHIVE = namesIn('devices group links owner perms specials times');

/** All names that may be refused. */
const NAMES = [
  ...new Set([...Object.values(SHORT), ...FLAGS, ...VALUES, ...DIRECTORIES, 'block-size', 'rsh', 'server', NO_DELTA]),
].filter((name) => name !== 'no-W');

/** Finds what a wild card of rsyncd.conf(5) stands for: what every transfer needs is not among it, nor what only takes something back. */
function matchesOf(pattern: string): string[] {
  const wild = (text: string) =>
    text
      .replace(/[.+^${}()|\\[\]]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
  const parts = pattern.split(/(\[!?[\w-]+\])/).map((part, n) => (n % 2 ? part.replace('[!', '[^') : wild(part)));
  const form = new RegExp(`^${parts.join('')}$`);
  return NAMES.filter((name) => form.test(name) && !NEEDED.includes(name) && !name.startsWith('no-'));
}

/**
 * Finds the names that a word of REFUSE_OPTIONS stands for.
 * @throws for people, where there is none
 */
function namesOf(term: string): string[] {
  const given = term.replace(/^--?(?=.)/, '');
  const name = ALIASES[given] ?? SHORT[given] ?? given;
  if (name === 'archive') return ARCHIVE;
  const names = /[*?[]/.test(given) ? matchesOf(given) : NAMES.filter((it) => it === name);
  if (names.length > 0) return names;
  throw new Error(t`“${term}” 不是源端可以使用的 rsync 选项；应为选项的名称或字母，例如 inplace append checksum`);
}

/**
 * Reads REFUSE_OPTIONS: names or letters of options as `refuse options` in rsyncd.conf(5) has them, wild cards and `!` among them,
 * by spaces or commas; what comes later counts. Returns the names of what is refused.
 * @throws for people
 */
export function refusedBy(list: string): string[] {
  const refused = new Set<string>();
  for (const term of list.split(/[\s,]+/).filter(Boolean)) {
    const names = namesOf(term.replace(/^!(?=.)/, ''));
    for (const name of names) term.startsWith('!') ? refused.delete(name) : refused.add(name);
  }
  const needed = NEEDED.find((name) => refused.has(name));
  if (needed) throw new Error(t`不能包含 ${needed}：每次镜像都需要它`);
  if (!refused.has(NO_DELTA)) return [...refused];
  refused.delete('whole-file');
  return [...refused.add('append')]; // which sends a part of a file
}

/** Lists what a word of rsync's asks for, each with the way in which it is written there. */
function askedBy(word: string): [name: string, written: string][] {
  const { name } = readLong(word);
  if (name) return [[ALIASES[name] ?? name, `--${name}`]];
  const [, letters = ''] = SHORT_WORD.exec(word) ?? [];
  if (countBlockWords([word])) return [['block-size', '-B']];
  return [...letters].map((letter) => [SHORT[letter] ?? '', t`-${letter}（--${SHORT[letter]}）`]);
}

/** Whether what rsync asks for where it is to delete is refused, so that nothing else may delete, either. */
export const refusesDeletions = (refused: ReadonlySet<string>) =>
  ['delete', 'delete-during'].some((it) => refused.has(it));

/** Says which option in a word is refused, nothing where none is. */
export function refusalOf(word: string, refused: ReadonlySet<string>): string | undefined {
  const isRefused = (name: string): boolean => {
    if (name === NO_DELTA) return false; // it is left out
    if ([name, ...(MEANS[name] ?? [])].some((it) => refused.has(it))) return true;
    return /^delete-/.test(name) && refused.has('delete');
  };
  return askedBy(word).find(([name]) => isRefused(name))?.[1];
}
