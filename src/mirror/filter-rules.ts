/**
 * The filter rules of RSYNC_OPTS as rsync reads them (rsync(1), "FILTER RULES"): which paths it does not see, and which it protects
 * from deletion. Paths are relative to where rsync starts, as bytes in latin1 strings.
 *
 *   const rules = readRules(parseOptions(['-a', '--exclude=*.log']));
 *   rules?.isHidden('web/access.log', false); // true
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { isWithin } from '../service/files.ts';
import { cwd } from '../service/processes.ts';
import { compilePattern, type Pattern } from './filter-pattern.ts';
import type { Option } from './rsync-options.ts';

/** How long all rules may be together, bytes: they are passed as arguments. */
const MAX_BYTES = 100_000;
/** How long a pattern may be that rsync does not discard, bytes (MAXPATHLEN). */
const MAX_PATTERN = 4095;

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
  const matches = compilePattern(pattern);
  if (!matches) return undefined;
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

/** Lists the lines of a file of rules. */
const linesOf = (content: string) => content.split(/[\n\r]/).filter((line) => line !== '' && !/^[#;]/.test(line));

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
    const lines = linesOf(readFileSync(resolve(cwd, value), 'latin1'));
    return lines.map((text) => ({ option: name.replace('-from', ''), text }));
  } catch {
    return undefined;
  }
}

/** Options that say something about filters in a way that is understood, if what they say is. */
const OPTIONS = new Set(['-f', '--filter', '--exclude', '--include', '--exclude-from', '--include-from']);
export const isFilterOption = ({ name }: Option) => OPTIONS.has(name);

export class FilterRules {
  /**
   * @param words the rules as options for rsync, none of which names a file
   * @param rules of those that match, the first one decides
   */
  constructor(
    readonly words: readonly string[],
    private readonly rules: readonly Rule[],
  ) {}

  /** Whether rsync does not see what is at a path; of what lies above it, nothing is said. */
  isHidden(path: string, isDirectory: boolean): boolean {
    const decides = (rule: Rule) => rule.hides && rule.matches(path, isDirectory);
    return this.rules.find(decides)?.includes === false;
  }

  /** Whether rsync deletes nothing at a path that is gone. */
  isProtected(path: string, isDirectory: boolean): boolean {
    const decides = (rule: Rule) => rule.protects && rule.matches(path, isDirectory);
    return this.rules.find(decides)?.includes === false;
  }

  /**
   * Says what rsync has to look at of a path: what is there, or that what the backup may have there is gone, since it was a directory
   * and is none now, or the reverse, which rsync does not see; nothing where it neither sees it nor has ever seen it.
   * @param isDirectory what is there now, nothing where it is gone
   */
  wayTo(path: string, isDirectory: boolean | undefined): 'itself' | 'gone' | undefined {
    for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1))
      if (this.isHidden(path.slice(0, end), true)) return undefined;
    const isSeenAs = (kind: boolean) => !this.isHidden(path, kind);
    if (isDirectory === undefined) return isSeenAs(true) || isSeenAs(false) ? 'itself' : undefined;
    if (isSeenAs(isDirectory)) return 'itself';
    return isSeenAs(!isDirectory) ? 'gone' : undefined;
  }

  /** Whether no rule has anything to say of a path, nor of what may be below it on either side. */
  leavesAlone(path: string, isDirectory: boolean): boolean {
    if (isDirectory) return this.rules.every(({ place }) => place !== undefined && areApart(place, path));
    const kinds = [true, false];
    const isPlain = (kind: boolean) => !this.isHidden(path, kind) && !this.isProtected(path, kind);
    return kinds.every(isPlain) && this.wayTo(path, isDirectory) === 'itself';
  }
}

const areApart = (one: string, other: string) => !isWithin(one, other) && !isWithin(other, one);

/** Reads the rules of options; nothing where it is not sure what they mean. */
export function readRules(options: readonly Option[]): FilterRules | undefined {
  const written = options.filter(isFilterOption).map(writeOut);
  if (options.some(({ name }) => /^(-F|-C|--cvs-exclude)$/.test(name)) || written.includes(undefined)) return undefined;
  const kinds = options.some(({ name }) => name === '--delete-excluded') ? KINDS_DELETING : KINDS;
  let rules: Rule[] = [];
  const words: string[] = [];
  for (const { option, text } of written.flatMap((it) => it ?? [])) {
    const rule =
      option === '--filter' ? readRule(text, kinds) : readOldRule(text, option === '--include' ? '+' : '-', kinds);
    const bytes = Buffer.from(text, 'latin1');
    if (rule === undefined || !isUtf8(bytes) || text.includes('\0')) return undefined; // it cannot be an argument
    words.push(`${option}=${bytes}`);
    if (rule === 'clear') rules = [];
    else if (rule !== 'none') rules.push(rule);
  }
  return words.join('').length > MAX_BYTES ? undefined : new FilterRules(words, rules);
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
