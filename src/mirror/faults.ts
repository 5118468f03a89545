/**
 * What an rsync complains of, path by path: what it could not read, what the backup could not take, and attributes that the
 * backup could not set.
 *
 *   const faults = new Faults(locatorFor(source, '/data/backup/'));
 *   faults.read('rsync: [receiver] write failed on "/data/backup/a": No space left on device (28)\n');
 *   faults.list; // [{ path: 'a', kind: 'content', text: 'No space left on device', code: 28 }]
 */
import { showPath, t } from '../service/text.ts';
import { refusalOf, saysLittle } from './daemon-words.ts';
import { unescapeName } from './differences.ts';
import { pathsIn, refusedIn } from './told-paths.ts';

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
/** What an rsync says that was built without something, and by which option it is not needed; and a sudo that somebody is to answer. */
const LACKING = /^rsync: (ACLs|extended attributes|hard links) are not supported on this server$/;
const NOT_NEEDED: Record<string, string> = { ACLs: '--no-A', 'extended attributes': '--no-X', 'hard links': '--no-H' };
const ASKING = /^sudo: a (password|terminal) is required/;
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
/** What a daemon has a filter of its own for. */
const UNWANTED = /^ERROR: daemon refused to receive (?:file|directory) "(.*)"$/;
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
  /** Why start-sshd, or an rsync daemon, on the backup does not do what it is asked for, safe to print. */
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
    const refused = refusalOf(line);
    if (refused !== undefined) this.refusal = refused;
    if (saysLittle(line)) return false;
    if (NO_FAULT.test(line)) return true;
    if (line.endsWith(LOCKED))
      this.refusal = t`的 rrsync 一次只允许一个 rsync，请在 authorized_keys 中为 rrsync 加上 -no-lock`;
    const [, lacked = ''] = LACKING.exec(line) ?? [];
    if (lacked)
      this.refusal = t`的 rsync 不支持 ${lacked}，请在 RSYNC_OPTS 或只为此目标在 DEST_RSYNC_OPTS 中写 ${NOT_NEEDED[lacked] ?? ''}`;
    if (ASKING.test(line)) this.refusal = t`的 sudo 要求输入密码，请在 sudoers 中以 NOPASSWD 允许 rsync`;
    if (line === ECHO) return false;
    if (line.startsWith(REFUSAL)) this.refusal = showPath(line.slice(REFUSAL.length, MAX_REFUSAL));
    if (what && OF_ATTRIBUTES.test(what) && who !== 'sender') return this.takeAttribute(what, text, Number(code));
    if (refused !== undefined) return true;
    const [, refusal = '', named = ''] = OWN_REFUSAL.exec(line) ?? [];
    const [, changing] = CHANGING.exec(line) ?? [];
    const [, unwanted] = UNWANTED.exec(line) ?? [];
    const [, side, odd, why = ''] = CONVERSION.exec(line) ?? [];
    if (what.startsWith('delete_file')) this.addUndeleted(pathsIn(what), text, Number(code));
    else if (what) this.add(pathsIn(what), this.kindOf(what, who), text, Number(code), isTarget(who));
    else if (refusal) this.add(refusedIn(refusal, named), this.kindOf(refusal, who), refusal, undefined);
    else if (changing) this.add([changing], 'content', 'failed verification', undefined);
    else if (unwanted !== undefined) this.add([unwanted], 'content', 'daemon refused to receive', undefined);
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
