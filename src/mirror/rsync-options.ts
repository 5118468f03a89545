/**
 * The words of RSYNC_OPTS as rsync itself reads them (popt(3)): short options may share a word, a value stands in the word of
 * its option or is the next one, whatever that looks like, and no name may be shortened.
 *
 *   parseOptions(['-avT', '/tmp', '--delete']); // -a, -v, -T with the value /tmp, --delete
 *   complaintsAbout(['-avn']); // ['不能包含 -n：…']
 */
import { escapeText, t, wordsOf } from '../service/text.ts';

const wordSet = (list: string) => new Set(wordsOf(list));

/** Options that have a value (options.c in rsync). */
const WITH_VALUE = wordSet(
  `-@ -B -M -T -e -f --address --backup-dir --block-size --bwlimit --cc --checksum-choice --checksum-seed --chmod --chown
  --compare-dest --compress-choice --compress-level --compress-threads --config --confine-root --contimeout --copy-as
  --copy-dest --debug --dparam --early-input --exclude --exclude-from --files-from --filter --groupmap --iconv --include
  --include-from --info --link-dest --log-file --log-file-format --log-format --max-alloc --max-delete --max-size --min-size
  --modify-window --only-write-batch --out-format --outbuf --partial-dir --password-file --port --protocol --read-batch
  --remote-option --rsh --rsync-path --skip-compress --sockopts --stderr --stop-after --stop-at --suffix --temp-dir
  --time-limit --timeout --usermap --write-batch --zc --zl --zt`,
);

export interface Option {
  name: string;
  value?: string | undefined;
}

/** A word with the options in it, and the word behind it if that is the value of the last one. Without options, rsync takes it for a file. */
interface Group {
  words: string[];
  options: Option[];
}

/** Finds the option in a word that begins with two dashes. */
function readLong(word: string): Option {
  const [, name = word, value] = /^([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
  return { name, value };
}

/** Finds the options in a word that begins with one dash: what follows one that has a value is that value. */
function readShort(word: string): Option[] {
  const options: Option[] = [];
  for (let n = 1; n < word.length; n++) {
    const name = `-${word[n]}`;
    const rest = word.slice(n + 1);
    if (!WITH_VALUE.has(name) || rest === '') options.push({ name });
    else return [...options, { name, value: rest.replace(/^=/, '') }];
  }
  return options;
}

function readWord(word: string): Option[] {
  if (word.startsWith('--')) return word === '--' ? [] : [readLong(word)];
  return word.startsWith('-') ? readShort(word) : [];
}

/** Reads words one after the other, each with the value that it takes from behind it. */
export function groupsOf(words: readonly string[]): Group[] {
  const groups: Group[] = [];
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const group = { words: [word], options: readWord(word) };
    groups.push(group);
    const last = group.options.at(-1);
    const [next] = rest;
    if (!last || last.value !== undefined || !WITH_VALUE.has(last.name) || next === undefined) continue;
    last.value = next;
    group.words.push(next);
    rest.shift();
  }
  return groups;
}

/** Finds names and values of the options in a list of words, `-avz` as `-a`, `-v` and `-z`. */
export const parseOptions = (words: readonly string[]): Option[] => groupsOf(words).flatMap(({ options }) => options);

/** Takes options out of a list of words, with their values; words of which none is taken out stay as they are. */
export function withoutOptions(words: readonly string[], isUnwanted: (option: Option) => boolean): string[] {
  return groupsOf(words).flatMap((group) => {
    const kept = group.options.filter((option) => !isUnwanted(option));
    if (kept.length === group.options.length) return group.words;
    if (kept.length === 0) return [];
    const value = kept.at(-1)?.value;
    return [`-${kept.map(({ name }) => name.slice(1)).join('')}`, ...(value === undefined ? [] : [value])];
  });
}

/** Settings that are off unless an option sets them, so that one that is unset again (`--no-NAME`) may as well not be there. */
const SWITCHES = [
  ...['-A --acls', '-X --xattrs', '-H --hard-links', '-O --omit-dir-times', '-J --omit-link-times', '-S --sparse'],
  ...['-c --checksum', '-i --itemize-changes', '-m --prune-empty-dirs', '-x --one-file-system', '-y --fuzzy'],
  ...[
    '--append --append-verify',
    '--bwlimit',
    '--delay-updates',
    '--force',
    '--ignore-errors',
    '--inplace',
    '--mkpath',
  ],
  ...['--numeric-ids', '--open-noatime', '--timeout'],
].map((names) => {
  const setting = wordsOf(names);
  return { setting, unsetting: setting.map((name) => `--no-${name.replace(/^-+/, '')}`) };
});

/**
 * Takes out of a list of words what later ones undo, as `-A … --no-A` does, and what undoes it: all that is known of options is then
 * what rsync makes of them, too. What -a sets, and what is set otherwise if nothing is said, stays.
 */
export function withoutUndone(words: readonly string[]): string[] {
  const options = parseOptions(words);
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const keepsModes = has('-a', '--archive', '-p', '--perms') && !has('--no-p', '--no-perms'); // -A says -p, too
  let place = 0;
  return withoutOptions(words, ({ name }) => {
    const later = options.slice(++place);
    return SWITCHES.some(({ setting, unsetting }) => {
      if (setting[0] === '-A' && !keepsModes) return false;
      return unsetting.includes(name) || (setting.includes(name) && later.some((it) => unsetting.includes(it.name)));
    });
  });
}

/** Whether the last one of options that set and unset something sets it. */
export function isSet(options: readonly Option[], setting: readonly string[], unsetting: readonly string[]): boolean {
  const last = options.findLast(({ name }) => setting.includes(name) || unsetting.includes(name));
  return last !== undefined && setting.includes(last.name);
}

const DELETING = '--del --delete --delete-before --delete-during --delete-delay --delete-after --delete-excluded';
/** Options that delete what the source does not have. */
const DELETES = wordSet(DELETING);
/** These, and those that make no sense without them. */
const FOR_DELETIONS = wordSet(`${DELETING} --delete-missing-args --max-delete --force --ignore-errors`);

/** Whether options delete what the source does not have; of names that the user lists, what is missing. */
export function isDeleting(options: readonly Option[]): boolean {
  const has = (wanted: string) => options.some(({ name }) => name === wanted);
  return options.some(({ name }) => DELETES.has(name)) || (has('--delete-missing-args') && has('--files-from'));
}

/** Takes the options that delete out of a list of words, with their values. */
export const withoutDeleting = (words: readonly string[]) =>
  withoutOptions(words, ({ name }) => FOR_DELETIONS.has(name));

/** Takes the options that silence rsync out of a list of words. */
export const withoutQuiet = (words: readonly string[]) =>
  withoutOptions(words, ({ name }) => name === '-q' || name === '--quiet');

// ── what makes no mirror ─────────────────────────────────────────────────────────────────────────

const ONLY_SHOWS = t`只显示信息，不传输任何内容`;
const IS_SERVICE = t`会让 rsync 作为服务端运行，不传输任何内容`;
const TAKES_AWAY = t`会删除源目录中已经传输的文件`;
/** Options under which nothing is mirrored, or the source is lost, and why. */
const NO_MIRROR: Record<string, string> = {
  '-n': t`只是演练，不传输任何内容`,
  '--dry-run': t`只是演练，不传输任何内容`,
  '--list-only': t`只列出文件，不传输任何内容`,
  '--only-write-batch': t`只写批处理文件，不传输任何内容`,
  '--read-batch': t`不能用于远程目标`,
  '--help': ONLY_SHOWS,
  '--version': ONLY_SHOWS,
  '-V': ONLY_SHOWS,
  '--server': IS_SERVICE,
  '--sender': IS_SERVICE,
  '--daemon': IS_SERVICE,
  '--config': IS_SERVICE,
  '--dparam': IS_SERVICE,
  '--detach': IS_SERVICE,
  '--no-detach': IS_SERVICE,
  '--password-file': t`rsync:// 目标的密码文件请写入 RSYNC_PASSWORD_FILE`,
  '--remove-source-files': TAKES_AWAY,
  '--remove-sent-files': TAKES_AWAY,
};
/** Of what the user says in another variable, or not at all. */
const ITS_SSH = t`连接总是由 ssh 建立，这里的命令不会采用；ssh 的选项请写入 SSH_OPTS，例如 SSH_OPTS="-p 2222 -i /keys/id"`;
/** ssh, perhaps with options that ask for what is so anyway: many have written `-e "ssh -o StrictHostKeyChecking=no"` for years. */
const OWN_SSH =
  /^(\/usr\/bin\/)?ssh(\s+(-[Tqxa]+|-o\s*"?(StrictHostKeyChecking[ =]no|UserKnownHostsFile[ =]\/dev\/null|BatchMode[ =]yes|LogLevel[ =]\w+|Compression[ =]no)"?))*\s*$/;
/** Options that name a file with lines to be read. */
const FROM_FILE = wordSet('--files-from --exclude-from --include-from');
const isFilter = (name: string) => name === '-f' || name === '--filter';
/** Options that the other side's rsync gets and that ours would have to know of, or it waits for ever or fails. */
const NOT_FOR_REMOTE = new Set([...DELETES, '--files-from']);

/** Says why nothing would be mirrored under an option, nothing where that is not so. */
function complaintAbout({ name, value = '' }: Option): string | undefined {
  const refuse = (why: string) => t`不能包含 ${escapeText(name)}：${why}`;
  const reason = NO_MIRROR[name];
  if (reason) return refuse(reason);
  if ((name === '-e' || name === '--rsh') && !OWN_SSH.test(value)) return refuse(ITS_SSH);
  if ((name === '--info' || name === '--debug') && /(^|,)help(,|$)/i.test(value)) return refuse(`help ${ONLY_SHOWS}`);
  if (FROM_FILE.has(name) ? value === '-' : isFilter(name) && /^(\.|merge)\S* -$/.test(value))
    return refuse(t`“-” 指标准输入，服务在那里读不到任何内容；请写文件的完整路径`);
  if (name !== '-M' && name !== '--remote-option') return undefined;
  const [remote] = parseOptions([value]).filter((it) => it.name in NO_MIRROR || NOT_FOR_REMOTE.has(it.name));
  return remote && refuse(t`只让备份端的 rsync 采用 ${escapeText(remote.name)}，同步会失败或永远等待`);
}

/** Whether a word was meant to be an option, by a dash that an editor has made longer. */
const LONG_DASH = /^-*(?!-)[\p{Pd}\u2212]/u;

/** Short options in one word as people write them: `avz`, `aHAX`. Names of long options have other letters, too, or are longer. */
const SHORT_ONES = /^[aAcDEghHiIklLmNoOpPrRStuUvWxXyz]{1,7}$/;

/** Says what is wrong with a word that rsync would take for a file. */
export function complaintAboutFile(word: string): string {
  const shown = escapeText(word);
  if (LONG_DASH.test(word)) {
    const name = word.replace(/^[\p{Pd}\u2212]+/u, '');
    const meant = `${SHORT_ONES.test(name) ? '-' : '--'}${escapeText(name)}`;
    return t`只能包含选项：“${shown}” 开头的长横线不是连字符（可能被编辑器替换），应写作 ${meant}`;
  }
  return t`只能包含选项，例如 -avz --delete：“${shown}” 不是选项，rsync 会将它当作另一个要镜像的文件；若是选项的值，应写作 --选项=值，有几个值就写几次`;
}

/** Says what is wrong with a word and the options in it. */
function complaintsAboutGroup({ words: [word = '', next], options }: Group): string[] {
  if (options.length === 0) return [complaintAboutFile(word)];
  const complaints = options.flatMap((option) => complaintAbout(option) ?? []);
  // rsync takes -delete for -d and -e with the value `lete`. In `-avze ssh` the value is a word of its own.
  const isMistyped = !next && options.at(-1)?.name === '-e' && /^-(?!.*ssh)[a-z][a-z-]{3,}(=.*)?$/.test(word);
  if (isMistyped) return [t`“${escapeText(word)}” 应以两个连字符开头：-${escapeText(word)}`];
  const last = options.at(-1);
  if (complaints.length > 0 || !last || !WITH_VALUE.has(last.name) || last.value !== undefined) return complaints;
  // At the end of the list: rsync would take the next word for the value, which is one of ours.
  return [t`${escapeText(last.name)} 之后缺少它的值；请补上，或去掉这个选项`];
}

const RECURSIVE = ['-r', '--recursive', '-a', '--archive'];
const NOT_RECURSIVE = ['--no-r', '--no-recursive'];
const isRecursive = (options: readonly Option[]) => isSet(options, RECURSIVE, NOT_RECURSIVE);

const OLD_DIRS = ['--old-d', '--old-dirs'];
const DIRS = ['-d', '--dirs'];
const NO_DIRS = ['--no-d', '--no-dirs'];

/** Whether rsync goes into the source, of which it would otherwise only say that it skips it. */
function entersSource(options: readonly Option[]): boolean {
  const listsTop = isSet(options, [...DIRS, ...OLD_DIRS], NO_DIRS);
  return isRecursive(options) || listsTop || options.some(({ name }) => name === '--files-from');
}

/**
 * Says why a source would be mirrored as nobody expects it.
 * @param given SOURCE_DIR as it was given, before it was made absolute
 */
export function complaintsAboutSource(words: readonly string[], given: string): string[] {
  const options = parseOptions(words);
  const isRelative = isSet(options, ['-R', '--relative'], ['--no-R', '--no-relative']);
  const listsTop = isSet(options, OLD_DIRS, [...DIRS, ...NO_DIRS]) || !isRecursive(options);
  const hasList = options.some(({ name }) => name === '--files-from');
  return [
    ...(isRelative && !hasList && (!given.startsWith('/') || given.includes('/./'))
      ? [
          t`与 -R 一起使用时应为不含 /./ 的完整路径；要在目标上省去前面的目录，请从 RSYNC_OPTS 中去掉 -R，并把其余目录写入 DEST_DIR`,
        ]
      : []),
    ...(listsTop && !hasList && !/(^|\/)\.{0,2}$/.test(given)
      ? [t`RSYNC_OPTS 只复制一层，没有结尾的斜杠时仅在目标上建立一个空目录；请加上结尾的斜杠`]
      : []),
  ];
}

/** Says why rsync would mirror nothing, or not the source alone, with these words; nothing where it would. */
export function complaintsAbout(words: readonly string[]): string[] {
  const groups = groupsOf(words);
  const options = groups.flatMap((group) => group.options);
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const complaints = new Set(groups.flatMap(complaintsAboutGroup));
  if (complaints.size === 0 && !entersSource(options))
    complaints.add(t`没有 -a 或 -r（或被 --no-r 取消），rsync 会跳过源目录，不传输任何内容`);
  if (has('--ignore-existing') && has('--existing', '--ignore-non-existing'))
    complaints.add(t`--existing 与 --ignore-existing 合用时不传输任何内容`);
  return [...complaints];
}
