/**
 * What RSYNC_OPTS ask for and allow: their words, the options in them, and how rsync may be told what to look at.
 *
 *   const plan = planFor({ RSYNC_OPTS: '-avz --delete', SSH_OPTS: '', RENAME_ON_TARGET: true });
 *   plan.method; // 'list'
 */
import { resolve } from 'node:path';
import { split } from 'shlex';
import { t, wordsOf } from '../service/text.ts';
import { type FilterRules, isFilterOption, partialDirOf, RulesInForce, readRules } from './filter-rules.ts';
import {
  isDeleting,
  isSet,
  type Option,
  parseOptions,
  withoutDeleting,
  withoutOptions,
  withoutUndone,
} from './rsync-options.ts';

/** How rsync is told what to look at. */
export type Method = 'list' | 'rules' | 'full';

/**
 * Splits a list of words as a shell would: quotes work, nothing is expanded.
 * @throws on an open quote
 */
export function parseWords(list: string): string[] {
  try {
    return split(list);
  } catch {
    throw new Error(t`引号或反斜杠没有配对，应为以空格分隔、可带引号的选项列表`);
  }
}

const wordSet = (list: string) => new Set(wordsOf(list));
/** Options that let in what they let in by rules that come before ours. */
const FILTERS = wordSet('-f -F --filter --exclude --exclude-from --include --include-from');
/** Other rules name a file in each directory that holds more of them. */
const SIMPLE_RULE = /^([-+PHSR]|(exclude|include|protect|hide|show|risk)\b)/;
/** Rules that let rsync delete what they do not have it send. */
const RISKING_RULE = /^(R|risk\b|(\+|include)[^ _]*r)/;
/** Whether rules of ours that come behind a rule keep what they leave out, whatever that one matches. */
export const isSafeBefore = (rule: string) => SIMPLE_RULE.test(rule) && !RISKING_RULE.test(rule);
/** Other options that mean the same for names on a list as for the whole tree. */
const FOR_LISTS = wordSet(
  `-a -r -l -p -t -g -o -D -v -q -h -z -W -P -c -u -S -i -I -A -X -E -O -J -b -y -s -x -H -4 -6 -8
  --archive --recursive --links --perms --times --group --owner --devices --specials --acls --xattrs --executability
  --verbose --quiet --human-readable --progress --stats --itemize-changes --8-bit-output --motd --no-motd --compress --whole-file
  --checksum --update --inplace --append --append-verify --sparse --preallocate --partial --fsync --backup --numeric-ids
  --super --fake-super --omit-dir-times --omit-link-times --ignore-times --size-only --existing --ignore-existing --delete
  --del --delete-before --delete-during --delete-delay --delete-after --force --ignore-errors --safe-links --munge-links
  --fuzzy --blocking-io --ipv4 --ipv6 --mkpath --open-noatime --secluded-args --protect-args --old-args --no-inc-recursive
  -B -T -e -@ --compress-choice --zc --compress-level --zl --compress-threads --zt --skip-compress --checksum-choice --cc
  --chmod --backup-dir --suffix --max-delete --max-size --min-size --chown --usermap --groupmap --modify-window
  --block-size --temp-dir --bwlimit --timeout --rsync-path --rsh --info --debug --out-format --log-file --log-file-format
  --outbuf --stderr --hard-links --one-file-system --delay-updates --partial-dir --delete-excluded -m --prune-empty-dirs
  --no-m --no-prune-empty-dirs --trust-sender --new-compress --old-compress --no-iconv --no-msgs2stderr --max-alloc`,
);
/** Those under which a thing that is new to the backup is treated otherwise than one that it has. */
const AGAINST_RENAMES = wordSet(
  `-b -u -@ --backup --backup-dir --suffix --update --existing --ignore-existing --size-only --append --append-verify
  --max-delete --max-size --min-size --modify-window --safe-links`,
);
/** Those under which rsync keeps some of what is gone, deletes it in another way, or tells of it where nobody else can. */
const AGAINST_REMOVALS = wordSet(
  `-b -x --backup --backup-dir --suffix --max-delete --one-file-system --delay-updates --partial-dir --log-file --out-format
  --log-file-format`,
);
/** What the other side's rsync may be told besides, which changes how it keeps things, and not what it gets. */
const FOR_REMOTE = wordSet('--fake-super --super --fsync --no-fsync --preallocate --numeric-ids');
const isForRemote = ({ name, value = '' }: Option) => /^(-M|--remote-option)$/.test(name) && FOR_REMOTE.has(value);
const NEGATED = /^--no-(perms|p|owner|o|group|g|times|t|devices|specials|D|links|l|compress|z|whole-file|W|verbose|v)$/;

/** Options that mean something else where rsync is started in the source, unless they name an absolute path. */
const FROM_HERE = wordSet(
  `-R -f --relative --filter --exclude-from --include-from --files-from --log-file --early-input --write-batch`,
);

/** Whether options name, or may name, files from where this program was started. */
export function namesFiles(options: Option[], sshOptions: string): boolean {
  const isFromHere = ({ name, value = '' }: Option) =>
    FROM_HERE.has(name) && !value.startsWith('/') && !(/^(-f|--filter)$/.test(name) && SIMPLE_RULE.test(value));
  const mayBeRelative = /(^|\s)-[FiIEw]\s*[^/~\s]|(File|Path|Command|Provider)["\s=]+(?!["\s=/~])/i;
  return options.some(isFromHere) || mayBeRelative.test(sshOptions);
}

/** Has rules that stand in files be arguments, so that no rsync reads them by itself: `--from0` is for such files, too. */
const withRules = (words: readonly string[], filters: FilterRules | undefined) =>
  filters ? [...withoutOptions(words, isFilterOption), ...filters.words] : words;

/** Picks the filters out of a list of words. */
export const filterWords = (words: readonly string[]) =>
  withoutOptions(words, ({ name }) => !FILTERS.has(name) && !/^(-C|--cvs-exclude)$/.test(name));

/** Whether rsync adds a rule behind all others, for old versions and for what has begun to come, where it would come too late. */
const addsRules = (options: readonly Option[]) =>
  options.some(({ name }) => /^(-b|--backup|--backup-dir)$/.test(name)) || partialDirOf(options) !== undefined;

/** Whether directories without any file below them are left out. */
const isPruning = (options: readonly Option[]) =>
  isSet(options, ['-m', '--prune-empty-dirs'], ['--no-m', '--no-prune-empty-dirs']);

/**
 * Whether options mean something else for names on a list although each alone does not: a directory that is listed is what -xx starts
 * at, however it is mounted; and a file whose names are no longer one is written under all of them on the backup.
 */
function differsOnLists(options: readonly Option[]): boolean {
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const stops = options.filter(({ name }) => name === '-x' || name === '--one-file-system').length;
  const needsRules = stops > 0 && isDeleting(options);
  if (isPruning(options) && (stops > 0 || !isDeleting(options) || addsRules(options))) return true;
  if (stops > 1 || (needsRules && addsRules(options))) return true;
  return has('-H', '--hard-links') && has('--inplace', '--append', '--append-verify');
}

/** Decides what the options allow: a list, rules where they hold filter rules, else only all of the source each time. */
export function methodFor(words: readonly string[], filters = readRules(parseOptions(words))): Method {
  const options = parseOptions(words);
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const isFilter = ({ name, value = '' }: Option) =>
    FILTERS.has(name) && (!/^(-f|--filter)$/.test(name) || SIMPLE_RULE.test(value));
  const isKnown = (option: Option) => FOR_LISTS.has(option.name) || NEGATED.test(option.name) || isForRemote(option);
  const isRecursive = has('-a', '-r', '--archive', '--recursive');
  const isOneOf = (...kinds: ((option: Option) => boolean)[]) => options.every((it) => kinds.some((is) => is(it)));
  if (!isRecursive || differsOnLists(options)) return 'full';
  if (filters && isOneOf(isKnown, isFilterOption)) return 'list';
  if (!isOneOf(isKnown, isFilter)) return 'full';
  return addsRules(options) || isPruning(options) ? 'full' : 'rules';
}

/** Names the options for which all of the source is compared each time: those that ask for it alone, else those that do so together. */
export function costlyOptions(words: readonly string[]): string[] {
  const names = parseOptions(words).map(({ name }) => name);
  const isBasic = (option: Option) => /^(-a|-r|--archive|--recursive)$/.test(option.name) || isDeleting([option]);
  const isAsking = (isUnwanted: (option: Option) => boolean) => methodFor(withoutOptions(words, isUnwanted)) === 'full';
  if (!isAsking(() => false)) return [];
  const alone = names.filter((name) => isAsking((option) => option.name !== name && !isBasic(option)));
  return alone.length > 0 ? alone : names.filter((name) => !isAsking((option) => option.name === name));
}

/** What takes back all rules before it, those of ours among them. */
const CLEARS = /^(!|clear)$/;

/**
 * Finds the rules of options whose `-F` changes nothing, where a list can do them justice; nothing where it cannot, or there is no `-F`.
 * Rules in files would have to be arguments, and so come before those of `-F`.
 */
function rulesWithoutFiles(words: readonly string[]): FilterRules | undefined {
  const rest = withoutOptions(words, ({ name }) => name === '-F');
  const isOther = ({ name, value }: Option) =>
    name.endsWith('-from') || (isFilterOption({ name, value }) && CLEARS.test(value ?? ''));
  if (rest.join('\0') === words.join('\0') || parseOptions(words).some(isOther) || isPruning(parseOptions(words)))
    return undefined;
  const rules = readRules(parseOptions(rest));
  return rules && methodFor(rest, rules) === 'list' ? rules : undefined;
}

/** What is never passed on: after an error in reading, rsync would delete what it has not been able to read. */
const DANGEROUS = '--ignore-errors';
/** Takes out what would turn errors in reading into deletions, on either side. */
const withoutDangerous = (words: readonly string[]) =>
  withoutOptions(
    words,
    ({ name, value }) => name === DANGEROUS || (/^(-M|--remote-option)$/.test(name) && value === DANGEROUS),
  );

interface Options {
  RSYNC_OPTS: string;
  SSH_OPTS: string;
  RENAME_ON_TARGET: boolean;
}

function deletionWordFor(options: Option[]): string | undefined {
  const isSaid = (...names: string[]) => options.some(({ name }) => names.includes(name));
  if (isSaid('-i', '--itemize-changes')) return '*deleting   ';
  return isSet(options, ['-v', '--verbose'], ['--no-v', '--no-verbose']) ? 'deleting ' : undefined;
}

/** What follows from the options whatever their filters say. */
function traitsOf(options: Option[]) {
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const asksForProgress = options.some(({ name, value }) => name === '--info' && value?.includes('progress'));
  const maxDelete = options.findLast(({ name }) => name === '--max-delete')?.value;
  const ruleFiles = options.filter(({ name }) => /^--(ex|in)clude-from$/.test(name));
  return {
    deletes: isDeleting(options),
    /** How many entries an rsync may delete as far as the options say. */
    maxDelete: maxDelete === undefined ? Number.POSITIVE_INFINITY : Math.max(0, Number(maxDelete)),
    mayProgress: !asksForProgress && !has('-P', '--progress', '-q', '--quiet', '--stderr', '--msgs2stderr'),
    /** Whether rsync may be told how large a file may be, and will say which are larger. */
    mayLimitSize: !has('--max-size', '-q', '--quiet', '--stderr', '--msgs2stderr'),
    hasFilters: options.some(({ name }) => FILTERS.has(name)),
    /** Whether rules behind those of the options keep what they leave out. */
    mayLeaveOut: options.every(({ name, value = '' }) => !/^(-f|--filter)$/.test(name) || isSafeBefore(value)),
    asksForStats: has('--stats', '--info') || options.filter(({ name }) => /^(-v|--verbose)$/.test(name)).length > 1,
    /** Whether a side reads whole files before it says anything. */
    comparesContent: has('-c', '--checksum'),
    /** Whether files count as the same by size and time. */
    trustsTimes: !has('-c', '--checksum', '-I', '--ignore-times', '--size-only'),
    timesOut: has('--timeout'),
    /** How the other side's rsync is started, which any rsync has to say. */
    startWords: options
      .filter(({ name }) => name === '--rsync-path')
      .map(({ name, value }) => `${name}=${value ?? ''}`),
    /** Where rsync itself keeps older versions, if that is said. */
    backupDirectory: options.findLast(({ name }) => name === '--backup-dir')?.value,
    isVerbose: isSet(options, ['-v', '--verbose'], ['--no-v', '--no-verbose']),
    /** What rsync says before the name of what it has deleted, nothing where it says nothing. */
    deletionWord: has('-q', '--quiet') ? undefined : deletionWordFor(options),
    mayReport: !has('--log-file'), // a log that the options ask for is the user's
    isRelative: isSet(options, ['-R', '--relative'], ['--no-R', '--no-relative']),
    /** Whether what is mounted below the source is left out. */
    isOneFileSystem: isSet(options, ['-x', '--one-file-system'], ['--no-x', '--no-one-file-system']),
    prunes: isPruning(options),
    /** Has errors told apart from the rest where the options mix them. */
    errorOptions: has('--stderr', '--msgs2stderr') ? ['--stderr=errors'] : [],
    /** With -H, an rsync that scans as it goes waits for itself forever when files vanish on the way (seen in 3.5.0). */
    scanOptions: has('-H', '--hard-links') ? ['--no-inc-recursive'] : [],
    ruleFiles: ruleFiles.map(({ value = '' }) => Buffer.from(resolve(value)).toString('latin1')),
  };
}

/** Works out all that follows from the options. @param hasHelper whether something on the target may do more than rsync does */
export function planFor({ RSYNC_OPTS, SSH_OPTS, RENAME_ON_TARGET }: Options, { hasHelper = true } = {}) {
  const given = withoutUndone(parseWords(RSYNC_OPTS));
  const safe = withoutDangerous(given);
  const options = parseOptions(safe);
  const traits = traitsOf(options);
  const isAgainstRenames = options.some(({ name }) => AGAINST_RENAMES.has(name));
  const isAgainstRemovals = options.some(({ name }) => AGAINST_REMOVALS.has(name));
  const rules = new RulesInForce(options);
  /** What follows from what the filters say now. */
  const current = () => {
    const [words, method] = [withRules(safe, rules.known), methodFor(safe, rules.known)];
    const unruled = rulesWithoutFiles(safe);
    return {
      words,
      /** The same without what deletes. */
      keepingWords: withoutDeleting(words),
      method,
      /** Whether an rsync may wait for names. */
      mayArm: method === 'list' || unruled !== undefined,
      /** What the filters are for names on a list where no file is near that `-F` has rsync read, nothing where that makes no difference. */
      unruled,
      /** The options for which each change costs a comparison of everything. */
      costly: method === 'full' && !unruled ? costlyOptions(safe) : [],
      mayRename: hasHelper && RENAME_ON_TARGET && method === 'list' && traits.deletes && !isAgainstRenames,
      /** Whether rsync may delete by names: with -x, what is mounted in the backup, which it would not go into, is where it starts then. */
      mayDeleteByNames: (method === 'list' || unruled !== undefined) && !(traits.deletes && traits.isOneFileSystem),
      /** Whether the backup may be asked to delete what is gone by its name. */
      mayRemove: hasHelper && method === 'list' && traits.deletes && !isAgainstRemovals,
      /** The rule that a list needs before all others, so that the source itself is mirrored with it. */
      listRules: (rules.known ?? unruled)?.hidesSource ? ['--filter=+s /.'] : [],
      /** What is known of the filters, nothing where there are none or it is not sure what they mean. */
      filters: rules.known?.isEmpty ? undefined : rules.known,
    };
  };
  const plan = {
    ...traits,
    ...current(),
    ignoresErrors: safe.join('\0') !== given.join('\0'),
    /** Whether rsync may start in the source, so that what is mounted in its place in the meantime cannot be taken for it. */
    mayPin: !namesFiles(options, SSH_OPTS),
    /** Reads the files that hold filters where they have changed. */
    refresh: () => {
      if (rules.refresh()) Object.assign(plan, current());
    },
  };
  return plan;
}

export type Plan = ReturnType<typeof planFor>;
