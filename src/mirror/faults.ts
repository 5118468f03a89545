/**
 * What an rsync complains of, path by path: what it could not read, what the backup could not take, and attributes that the
 * backup could not set.
 *
 *   const faults = new Faults(locatorFor(source, '/data/backup/'));
 *   faults.read('rsync: [receiver] write failed on "/data/backup/a": No space left on device (28)\n');
 *   faults.list; // [{ path: 'a', kind: 'content', text: 'No space left on device', code: 28 }]
 */
import { withParents } from '../service/files.ts';
import { showPath, t } from '../service/text.ts';
import { unescapeName } from './differences.ts';
import type { Source } from './source.ts';

/**
 * `reading` is what the source could not be read of, for which rsync leaves deletions undone; `content` what the backup could not
 * take; `attributes` what it has, but for owner, mode, times, ACLs or extended attributes.
 */
export type FaultKind = 'reading' | 'content' | 'attributes';

export interface Fault {
  /** Below the source, as bytes in a latin1 string. */
  path: string;
  kind: FaultKind;
  /** What failed as the system tells it: `Permission denied`. */
  text: string;
  /** Its number in errno(3), nothing where rsync itself has refused. */
  code: number | undefined;
  /** Whether it is a directory of the target that could not be read, so that nothing is deleted there. */
  atTarget?: boolean;
}

/** How many faults of each kind are kept of an rsync; of more than that it is only known that there were more. */
const MAX_FAULTS = 1000;
/** How many lines about attributes are passed on of an rsync where they have not been told before. */
const MAX_ATTRIBUTE_LINES = 5;
/** How many lines about other faults are passed on of an rsync: where much fails, it says so again with each try. */
const MAX_LINES = 200;
/** How many lines about other faults are looked at of an rsync: that the faults are not all known is certain long before. */
const MAX_LOOKS = 10_000;
/** How many readings of a line are tried: where a name holds that many quotes, it stays unknown. */
const MAX_READINGS = 100;
/** How much may come that is none of what rsync complains of, characters, until it is taken for talk without end. */
export const MAX_CHATTER = 1_000_000;
/** What a line of it counts at least, characters: each makes an entry of the log. */
const ENTRY = 100;
/** How many lines are passed on of an rsync altogether, those among them that say that a file has vanished, for example. */
const MAX_ALL_LINES = 10_000;
const AND_SO_ON = t`rsync: （同一次同步中更多的此类错误不再逐行显示）\n`;
/** How long a line may be that is read, characters: rsync names two paths at most, each byte as `\#ooo`. */
const MAX_LINE = 70_000;

/** `rsync: [receiver] mkstemp "/data/backup/.a.x1y2z3" failed: Permission denied (13)`; older ones do not say who. */
const SYSTEM_ERROR = /^rsync: (?:\[(\w+)\] )?(.*): ([^:()]+) \((\d+)\)$/;
/** What rsync refuses by itself; the path comes last. */
const OWN_REFUSAL =
  /^(?:rsync: )?(?:\[\w+\] )?(skipping overly long name|temporary filename too long|filename overflows max-path len by \d+|could not make way for new [a-z-]+(?: [a-z]+)?|recv_files|symlink has no referent): (.*?)(?: is a directory)?$/;
/** With --iconv, a name or what a link leads to that is not in the character set that it should be in. */
const CONVERSION = /^\[(\w+)\] cannot convert (?:filename|symlink data for): (.*) \(([^()]+)\)$/;
/** What rrsync says where one rsync has the directory for itself: ours is one that waits. */
const LOCKED = 'rrsync error: Another instance of rrsync is already accessing this directory.';
/** What start-sshd says comes from where rsync's own errors come from. */
const REFUSAL = 'start-sshd: ';
/** What it says, in each language that a backup may speak, where that has taken over, and where it refuses an option of rsync. */
const PROMOTION = /拒绝执行：备份端已接管|refused: the backup has taken over/;
const OF_AN_OPTION = / rsync 选项 | rsync option /;
/** What it says behind that for sources of other releases. */
export const ECHO = Buffer.from('start-sshd: 拒绝执行：不允许该 rsync 选项 ').toString('latin1');
/** Whether start-sshd says that the backup has taken over, so that nothing is received. */
export const saysPromoted = (said = '') => PROMOTION.test(said);
/** Whether it refuses an option, and not whatever is sent. */
export const saysOption = (said = '') => OF_AN_OPTION.test(said);
/** How much of it is kept, bytes. */
const MAX_REFUSAL = 2000;
const CHANGING = /^ERROR: (.*) failed verification -- update discarded\.$/;
/** Lines that say no more than that a connection has ended or that there were errors before. */
const NO_FAULT =
  /^(rsync error: |rsync warning: |WARNING: |file has vanished: |IO error encountered|cannot delete non-empty directory|skipping non-regular file|$)|connection unexpectedly closed|\] (write|read) error: |\(see previous errors\)/;
/** How the lines begin that rsync has for each of many files, and what `-v` in SSH_OPTS asks for: there may be any number of them. */
const COUNTLESS =
  /^(rsync: |\[\w+\] |ERROR: |WARNING: |\*\*\* Skipping |file has vanished: |cannot delete |could not make way |skipping |symlink has |debug\d: )/;
const OF_ATTRIBUTES =
  /^(chown|chgrp|failed to (set|modify) (times|permissions) on|set_acl|change_sacl_perms|rsync_xal_set|set_xattr_acl|copy_xattrs|failed to (re-)?(read|write) xattr|delete of stat xattr)\b/;
const OF_READING =
  /^(opendir|readdir|readlink_stat|link_stat|send_files|read errors mapping|get_acl|get_xattr|symlink has|filename overflows|skipping overly)/;
/** How long a path in the source is at least whose name below it is too long for a path, bytes: far less than the limit of 4096. */
const DEEP = 2048;
/** A file that rsync writes to until it is whole. */
const TEMPORARY = /^(.*\/)?\.([^/]+)\.[A-Za-z0-9]{6}$/s;

/** Kinds of attributes, by what rsync calls that which failed. */
const ATTRIBUTES: [RegExp, Attribute][] = [
  [/^chown/, 'owner'],
  [/^chgrp/, 'group'],
  [/times/, 'times'],
  [/permissions/, 'mode'],
  [/acl/, 'acl'],
  [/./, 'xattr'],
];
export type Attribute = 'owner' | 'group' | 'times' | 'mode' | 'acl' | 'xattr';

export class Faults {
  private readonly known = new Map<string, Fault>();
  private readonly counts: Record<FaultKind, number> = { reading: 0, content: 0, attributes: 0 };
  /** Which attributes could not be set, with one path each. */
  readonly attributes = new Map<Attribute, Fault>();
  /** Whether every fault is known by its path. */
  isComplete = true;
  /** Why start-sshd on the backup does not do what it is asked for, in its own words, safe to print. */
  refusal: string | undefined;
  private rest = '';
  private passed = 0;
  /** How many lines were about other faults, and about attributes. */
  private lines = 0;
  private attributeLines = 0;
  private passedLines = 0;
  /** How much came that is none of it, characters. */
  private chatter = 0;

  /**
   * @param locate says what a path that rsync tells is called below the source, nothing where it is not there
   * @param told the attributes of which it has been told before that they cannot be set
   * @param nameGone says the same of what could not be deleted, which is not there any more
   */
  constructor(
    private readonly locate: (told: string) => string | undefined,
    private readonly told: ReadonlySet<Attribute> = new Set(),
    private readonly nameGone: (told: string) => string | undefined = () => undefined,
  ) {}

  get list(): Fault[] {
    return [...this.known.values()];
  }

  /** Whether something is known to be wrong, and every fault by its path. */
  get isTold(): boolean {
    return this.isComplete && this.list.length + this.attributes.size > 0;
  }

  /** Whether nothing is wrong but attributes. */
  get isOfAttributes(): boolean {
    return this.isComplete && this.attributes.size > 0 && this.list.every(({ kind }) => kind === 'attributes');
  }

  /** Whether rsync may have left deletions undone for one of them. */
  get mayHaveKept(): boolean {
    return !this.isComplete || this.list.some(({ kind }) => kind === 'reading');
  }

  /** Whether there is no end of what is none of it. */
  get isFlooded(): boolean {
    return this.chatter > MAX_CHATTER;
  }

  /** Adds what another rsync of the same sync has complained of. */
  join(other: Faults): this {
    for (const fault of other.list) this.keep(fault);
    for (const [attribute, fault] of other.attributes) this.attributes.set(attribute, fault);
    this.isComplete &&= other.isComplete;
    this.refusal ??= other.refusal;
    return this;
  }

  /** Reads what rsync says, bytes in a latin1 string; returns what is to be passed on of it. */
  readonly read = (chunk: string): string => {
    const lines = (this.rest + chunk).split('\n');
    this.rest = lines.pop() ?? '';
    if (this.rest.length <= MAX_LINE) return lines.map((line) => this.pass(line)).join('');
    const tooLong = this.rest;
    this.rest = '';
    this.isComplete = false;
    this.chatter += tooLong.length;
    return lines.map((line) => `${line}\n`).join('') + tooLong;
  };

  /** Takes in a line; returns what is to be passed on of it. */
  private pass(line: string): string {
    if (!COUNTLESS.test(line)) this.chatter += line.length + ENTRY;
    const before = this.lines;
    const isShown = this.take(line);
    const isOfFaults = this.lines > before;
    if (!isShown || (isOfFaults && this.lines > MAX_LINES + 1) || this.passedLines >= MAX_ALL_LINES) return '';
    const isLast = (isOfFaults && this.lines > MAX_LINES) || ++this.passedLines === MAX_ALL_LINES;
    return isLast ? Buffer.from(AND_SO_ON).toString('latin1') : `${line}\n`;
  }

  /** Takes in a line; returns whether it may be passed on. */
  private take(line: string): boolean {
    const [, who, what = '', text = '', code] = SYSTEM_ERROR.exec(line) ?? [];
    if (NO_FAULT.test(line)) return true;
    if (line.endsWith(LOCKED))
      this.refusal = t`的 rrsync 一次只允许一个 rsync，请在 authorized_keys 中为 rrsync 加上 -no-lock`;
    if (line === ECHO) return false;
    if (line.startsWith(REFUSAL)) this.refusal = showPath(line.slice(REFUSAL.length, MAX_REFUSAL));
    if (what && OF_ATTRIBUTES.test(what) && who !== 'sender') return this.takeAttribute(what, text, Number(code));
    const [, refusal = '', named = ''] = OWN_REFUSAL.exec(line) ?? [];
    const [, changing] = CHANGING.exec(line) ?? [];
    const [, side, odd, why = ''] = CONVERSION.exec(line) ?? [];
    if (what.startsWith('delete_file')) this.addUndeleted(pathsIn(what), text, Number(code));
    else if (what) this.add(pathsIn(what), this.kindOf(what, who), text, Number(code), isTarget(who));
    else if (refusal) this.add(refusedIn(refusal, named), this.kindOf(refusal, who), refusal, undefined);
    else if (changing) this.add([changing], 'content', 'failed verification', undefined);
    else if (odd !== undefined) this.add([odd.replace(/^"|"$/g, '')], this.kindOf('', side), why, undefined);
    else if (line.startsWith('rsync: ')) this.isComplete = false;
    return true;
  }

  private kindOf(what: string, who: string | undefined): FaultKind {
    return who === 'sender' || OF_READING.test(what) ? 'reading' : 'content';
  }

  private takeAttribute(what: string, text: string, code: number): boolean {
    const [, attribute = 'xattr'] = ATTRIBUTES.find(([form]) => form.test(what)) ?? [];
    const path = this.attributeLines++ < MAX_LOOKS ? this.find(pathsIn(what)) : undefined;
    if (path !== undefined && !this.known.has(path)) this.keep({ path, kind: 'attributes', text, code });
    if (!this.attributes.has(attribute))
      this.attributes.set(attribute, { path: path ?? '', kind: 'attributes', text, code });
    return !this.told.has(attribute) && this.passed++ < MAX_ATTRIBUTE_LINES;
  }

  private add(candidates: string[], kind: FaultKind, text: string, code: number | undefined, atTarget = false): void {
    const path = this.lines++ < MAX_LOOKS ? this.find(candidates) : undefined;
    if (path === undefined) this.isComplete = false;
    else this.keep({ path, kind, text, code, ...(atTarget && { atTarget }) });
  }

  /** What could not be deleted has a name with any bracket in it: where the source has none of them, it is the longest. */
  private addUndeleted(candidates: string[], text: string, code: number): void {
    const isLookedFor = this.lines++ < MAX_LOOKS;
    const path = isLookedFor
      ? (this.find(candidates) ?? this.nameGone(unescapeName(candidates.at(-1) ?? '')))
      : undefined;
    if (path === undefined) this.isComplete = false;
    else this.keep({ path, kind: 'content', text, code });
  }

  /** Keeps a fault. That something could not be read counts before all else of it, for it has kept rsync from deleting. */
  private keep(fault: Fault): void {
    if (this.known.get(fault.path)?.kind === 'reading') return;
    if (this.known.has(fault.path) || this.counts[fault.kind]++ < MAX_FAULTS) this.known.set(fault.path, fault);
    else if (fault.kind !== 'attributes') this.isComplete = false;
  }

  /** Finds the first of these that is there. */
  private find(candidates: string[]): string | undefined {
    for (const candidate of candidates) {
      const told = unescapeName(candidate);
      const path = this.locate(told) ?? this.locate(told.replace(TEMPORARY, '$1$2'));
      if (path !== undefined) return path;
    }
    return undefined;
  }
}

/** Whether a process of rsync runs on the target. */
const isTarget = (who: string | undefined) => who === 'generator' || who === 'receiver';

/**
 * Lists what may be meant as a path in what rsync says, for a name may hold quotes itself: `rename "/b/.a.x1y2z3" -> "a"`,
 * `send_files failed to open "/s/a"`, `delete_file: unlink(a/b) failed`, `set_acl: sys_acl_set_file(a, ACL_TYPE_ACCESS)`.
 */
export function pathsIn(what: string): string[] {
  const opening = what.indexOf('"');
  const [start, ends] = opening >= 0 ? [opening + 1, /"/g] : [what.indexOf('(') + 1, /,|\)/g];
  if (start === 0) return [];
  const rest = what.slice(start);
  const places = [...rest.matchAll(ends)].map(({ index }) => index);
  if (places.length > MAX_READINGS) places.splice(MAX_READINGS - 1, places.length - MAX_READINGS); // the longest is the last one
  return places.map((index) => rest.slice(0, index));
}

/** Lists what may be meant where rsync refuses a path: nothing can look at one that is too long, but at a directory above it. */
function refusedIn(refusal: string, named: string): string[] {
  const path = named.replace(/^"|"$/g, '');
  if (!refusal.startsWith('filename overflows')) return [path];
  return withParents(path).filter((it) => it.length >= DEEP);
}

/** How many components of a path are left out at most until it is known below the source. */
const MAX_LEFT_OUT = 40;

/**
 * Makes a function that finds the path below the source of what rsync names: what is in the source it names in full, what is on the
 * backup in full or relative to where it is. For what lies in a directory that may not be entered, that directory is found.
 * @param directory the destination
 */
export function locatorFor(
  source: Pick<Source, 'root' | 'realRoot' | 'prefix' | 'look' | 'isReadable' | 'isUnknown'>,
  directory: string,
) {
  const destination = `${Buffer.from(directory).toString('latin1').replace(/\/+$/, '')}/`;
  // Without a slash behind SOURCE_DIR its own name stands first on the target, and with -R all of its path.
  const starts = ['', source.prefix.slice(1), source.root.replace(/^\/+/, '')];
  const find = (path: string) =>
    starts
      .flatMap((start) => (path.startsWith(start) ? path.slice(start.length) : []))
      .find((it) => source.look(it) || source.isUnknown(it));
  return (told: string): string | undefined => {
    const roots = [source.root, `${source.realRoot}/`, destination];
    const root = roots.find((it) => told.startsWith(it)) ?? '';
    let path = told.slice(root.length).replace(/^(\.?\/)+|(\/\.?)+$/g, '');
    if (path.split('/').includes('..')) return undefined; // the backup may say anything: this would be sent from beside the source
    if (path === '.' || (path === '' && root)) return '';
    const closed = root && root !== destination ? closedAbove(source, path) : undefined;
    if (closed !== undefined) return closed;
    // Only in a full path that begins with none of these is it not known where the source begins.
    if (path && (root || !told.startsWith('/'))) return find(path);
    for (let n = 0; path && n < MAX_LEFT_OUT; n++) {
      if (source.look(path)) return path;
      path = path.includes('/') ? path.slice(path.indexOf('/') + 1) : '';
    }
    return undefined;
  };
}

/** Makes a function that finds the path below the source of what is not there any more, which the backup names relative to where it is. */
export function namerFor({ root, prefix }: Pick<Source, 'root' | 'prefix'>) {
  const starts = [root.replace(/^\/+/, ''), prefix.slice(1)];
  return (told: string): string | undefined => {
    if (!told || told.startsWith('/') || told.split('/').includes('..')) return undefined;
    const start = starts.find((it) => told.startsWith(it));
    return start === undefined ? undefined : told.slice(start.length).replace(/\/+$/, '') || undefined;
  };
}

/** Finds the directory above a path that may not be entered, if there is one. */
function closedAbove({ look, isReadable }: Pick<Source, 'look' | 'isReadable'>, path: string): string | undefined {
  if (look(path)) return undefined;
  const [nearest] = withParents(path).filter((it) => it !== path && look(it));
  return nearest && !isReadable(nearest) ? nearest : undefined;
}
