/**
 * The filter rules of RSYNC_OPTS as rsync reads them (rsync(1), "FILTER RULES"): which paths it does not see, and which it protects
 * from deletion. Paths are relative to where rsync starts, as bytes in latin1 strings.
 *
 *   const rules = readRules(parseOptions(['-a', '--exclude=*.log']));
 *   rules?.isHidden('web/access.log', false); // true
 */
import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isWithin } from '../service/files.ts';
import { cwd } from '../service/processes.ts';
import { compilePattern, type Pattern } from './filter-pattern.ts';
import type { Option } from './rsync-options.ts';
import { MAX_RULES_BYTES, readRuleLines } from './rule-lines.ts';

/** How long a pattern may be that rsync does not discard, bytes (MAXPATHLEN). */
const MAX_PATTERN = 4095;

/** Where classes of characters such as `[:alpha:]` are known to hold no byte beyond ASCII: not in a locale of eight bits. */
const { LC_ALL, LC_CTYPE, LANG } = process.env;
const hasPlainClasses = /^(C|POSIX|)$|utf-?8/i.test(LC_ALL || LC_CTYPE || LANG || '');

/** A rule: whether it lets in what it matches, where it counts, and what it matches. */
interface Rule {
  includes: boolean;
  /** Whether it counts where the source is read. */
  hides: boolean;
  /** Whether it counts where something would be deleted. */
  protects: boolean;
  /** The one path that it matches, where it is such a rule. */
  place?: string | undefined;
  matches: Pattern;
}

type Kind = Omit<Rule, 'matches' | 'place'>;
type Found = Rule | 'clear' | 'none' | undefined;

/** What a rule's first word says by itself; of those that name a file with more rules, nothing is known here. */
const KINDS: Record<string, Kind> = {
  '-': { includes: false, hides: true, protects: true },
  '+': { includes: true, hides: true, protects: true },
  H: { includes: false, hides: true, protects: false },
  S: { includes: true, hides: true, protects: false },
  P: { includes: false, hides: false, protects: true },
  R: { includes: true, hides: false, protects: true },
};
/** The same under `--delete-excluded`: a rule that names no side does not count for the other one. */
const KINDS_DELETING: Record<string, Kind> = {
  ...KINDS,
  '-': { includes: false, hides: true, protects: false },
  '+': { includes: true, hides: true, protects: false },
};
const LONG_NAMES: Record<string, string> = {
  ...{ exclude: '-', include: '+', hide: 'H', show: 'S', protect: 'P', risk: 'R', clear: '!' },
};

/** `- *.log`, `-s,… /tmp`, `hide,! x`: the name of a kind, modifiers, and behind a space or `_` the pattern. */
const RULE = /^(?:([-+HSPR]),?|(exclude|include|hide|show|protect|risk)(?:,|(?=[\s_])))([!srpx]*)[ _](.+)$/s;

/** Reads a rule of `--filter`: 'clear' takes back those before it, 'none' is not about files, and undefined is not sure. */
function readRule(text: string, kinds: Record<string, Kind>): Found {
  if (text === '!' || text === 'clear') return 'clear';
  const [, letter, name = '', modifiers = '', pattern = ''] = RULE.exec(text) ?? [];
  const kind = kinds[letter ?? LONG_NAMES[name] ?? ''];
  if (!kind) return undefined;
  const isForSides = /[rs]/.test(modifiers);
  if (isForSides && !/^[-+]$/.test(letter ?? LONG_NAMES[name] ?? '')) return undefined; // a usage error
  if (modifiers.includes('x')) return 'none';
  const sides = isForSides ? { hides: modifiers.includes('s'), protects: modifiers.includes('r') } : {};
  return ruleFor({ ...kind, ...sides }, pattern, modifiers.includes('!'));
}

function ruleFor(kind: Kind, pattern: string, isNegated = false): Found {
  if (pattern.length > MAX_PATTERN) return 'none';
  if (!hasPlainClasses && pattern.includes('[:')) return undefined;
  const matches = compilePattern(pattern);
  if (isNegated) return { ...kind, matches: (path, isDirectory) => !matches(path, isDirectory) };
  const [, place] = /^\/([^*?[]+?)\/?$/.exec(pattern) ?? [];
  return { ...kind, matches, place };
}

/** Reads a rule of `--exclude` or `--include`, or a line of a file of such. */
function readOldRule(text: string, sign: '-' | '+', kinds: Record<string, Kind>): Found {
  if (text === '!') return 'clear';
  const [, ownSign, rest] = /^([-+]) (.*)$/s.exec(text) ?? [];
  const pattern = rest ?? text;
  return pattern === '' ? undefined : ruleFor(kinds[ownSign ?? sign] as Kind, pattern); // without one, a usage error
}

const bytesOf = (word: string) => Buffer.from(word).toString('latin1');

/** A rule as an option, in a form that does not name a file. */
interface Written {
  option: string;
  text: string;
}

/** Writes out what an option says about filters, line by line where it names a file; nothing where that cannot be read. */
function writeOut({ name, value = '' }: Option): Written[] | undefined {
  if (name === '-f' || name === '--filter') return [{ option: '--filter', text: bytesOf(value) }];
  if (name === '--exclude' || name === '--include') return [{ option: name, text: bytesOf(value) }];
  try {
    return readRuleLines(resolve(cwd, value)).map((text) => ({ option: name.replace('-from', ''), text }));
  } catch {
    return undefined;
  }
}

/** Where rsync keeps what it has only begun to receive, as options say; nothing where that is beside the file itself, or elsewhere. */
export function partialDirOf(options: readonly Option[]): string | undefined {
  const has = (...names: string[]) => options.some(({ name }) => names.includes(name));
  const given = options.findLast(({ name }) => name === '--partial-dir')?.value?.replace(/(?<=.)\/+$/, '');
  const usual = has('--delay-updates') ? '.~tmp~' : undefined;
  const place = given ?? usual ?? (has('--partial', '-P') ? process.env.RSYNC_PARTIAL_DIR : undefined);
  return place === '' || place?.startsWith('/') ? undefined : place;
}

/** The rule that rsync adds behind all others for that directory (compat.c), whose content it never sends nor deletes. */
function ruleForPartial(options: readonly Option[], kinds: Record<string, Kind>): Found {
  const place = partialDirOf(options);
  if (place === undefined) return 'none';
  const isClean = place.split('/').every((name) => !/^\.{0,2}$/.test(name)); // rsync cleans the others in its own way
  return isClean ? ruleFor(kinds['-'] as Kind, bytesOf(`${place}/`)) : undefined;
}

/** Options that say something about filters in a way that is understood, if what they say is. */
const OPTIONS = new Set(['-f', '--filter', '--exclude', '--include', '--exclude-from', '--include-from']);
export const isFilterOption = ({ name }: Option) => OPTIONS.has(name);

export class FilterRules {
  private readonly rules: readonly Rule[];

  /**
   * @param words the rules as options for rsync, none of which names a file
   * @param given of those that match, the first one decides
   * @param implied one behind all of those that rsync adds by itself
   */
  constructor(
    readonly words: readonly string[],
    private readonly given: readonly Rule[],
    implied?: Rule,
  ) {
    this.rules = implied ? [...given, implied] : given;
  }

  /** Whether anything is left out or kept. */
  get isEmpty(): boolean {
    return this.rules.length === 0;
  }

  /** Whether rsync does not see what is at a path; of what lies above it, nothing is said. */
  isHidden(path: string, isDirectory: boolean): boolean {
    const decides = (rule: Rule) => rule.hides && rule.matches(path, isDirectory);
    return this.rules.find(decides)?.includes === false;
  }

  /**
   * Whether the source itself is left out with names on a list, to which it merely belongs: there it is a directory like any other one, which
   * `- *` excludes, too.
   */
  get hidesSource(): boolean {
    return this.isHidden('.', true);
  }

  /** Whether rsync deletes nothing at a path that is gone. */
  isProtected(path: string, isDirectory: boolean): boolean {
    const decides = (rule: Rule) => rule.protects && rule.matches(path, isDirectory);
    return this.rules.find(decides)?.includes === false;
  }

  /**
   * Says what rsync has to look at of a path: what is there; or that what the backup may have there is gone, since it was a directory
   * and is none now, or the reverse, which rsync does not see; or the time of its directory alone, where it neither sees it nor has
   * ever seen it; nothing where it does not see the directory either.
   * @param isDirectory what is there now, nothing where it is gone
   */
  wayTo(path: string, isDirectory: boolean | undefined): 'itself' | 'gone' | 'around' | undefined {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1))
      if (this.isHidden(path.slice(0, end), true)) return undefined;
    const isSeenAs = (kind: boolean) => !this.isHidden(path, kind);
    if (isDirectory === undefined) return isSeenAs(true) || isSeenAs(false) ? 'itself' : 'around';
    if (isSeenAs(isDirectory)) return 'itself';
    return isSeenAs(!isDirectory) ? 'gone' : 'around';
  }

  /**
   * Whether no rule has anything to say of a path, nor of what may be below it on either side; but what rsync has begun to receive
   * into a directory may stay in it.
   */
  leavesAlone(path: string, isDirectory: boolean): boolean {
    const kinds = [true, false];
    const isPlain = (kind: boolean) => !this.isHidden(path, kind) && !this.isProtected(path, kind);
    if (!kinds.every(isPlain) || this.wayTo(path, isDirectory) !== 'itself') return false;
    return !isDirectory || this.given.every(({ place }) => place !== undefined && areApart(place, path));
  }
}

const areApart = (one: string, other: string) => !isWithin(one, other) && !isWithin(other, one);

/** Reads the rules of options; nothing where it is not sure what they mean. */
export function readRules(options: readonly Option[]): FilterRules | undefined {
  const written = options.filter(isFilterOption).map(writeOut);
  const isOther = ({ name }: Option) => /^(-F|-C|--cvs-exclude|-0|--from0)$/.test(name); // the last two: of the lines of files
  if (options.some(isOther) || written.includes(undefined)) return undefined;
  const kinds = options.some(({ name }) => name === '--delete-excluded') ? KINDS_DELETING : KINDS;
  let rules: Rule[] = [];
  let words: string[] = [];
  for (const { option, text } of written.flatMap((it) => it ?? [])) {
    const rule =
      option === '--filter' ? readRule(text, kinds) : readOldRule(text, option === '--include' ? '+' : '-', kinds);
    const bytes = Buffer.from(text, 'latin1');
    if (rule === undefined || !isUtf8(bytes) || text.includes('\0')) return undefined; // it cannot be an argument
    if (rule === 'clear')
      [rules, words] = [[], []]; // else it would take back those of ours, too
    else words.push(`${option}=${bytes}`);
    if (typeof rule === 'object') rules.push(rule);
  }
  const implied = ruleForPartial(options, kinds);
  if (implied === undefined || words.join('').length > MAX_RULES_BYTES) return undefined;
  return new FilterRules(words, rules, typeof implied === 'object' ? implied : undefined);
}

/** The rules of options as they are now: some may stand in files. */
export class RulesInForce {
  /** Nothing where it is not sure what they mean. */
  known: FilterRules | undefined;
  private readonly files: string[];
  private print: string;

  constructor(private readonly options: readonly Option[]) {
    const inFiles = options.filter(({ name }) => name.endsWith('-from') && isFilterOption({ name }));
    this.files = inFiles.map(({ value = '' }) => resolve(cwd, value));
    this.print = this.look();
    this.known = readRules(options);
  }

  /** Reads them again where a file is not what it was; returns whether it has. */
  refresh(): boolean {
    const print = this.look();
    if (print === this.print) return false;
    this.print = print;
    this.known = readRules(this.options);
    return true;
  }

  private look(): string {
    const prints = this.files.map((file) => {
      const found = statSync(file, { bigint: true, throwIfNoEntry: false });
      return found ? [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':') : '';
    });
    return prints.join();
  }
}
