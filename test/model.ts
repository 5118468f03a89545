/**
 * Random work on a directory tree, chosen by a seed: what programs and people do to files, with names that
 * collide and names that nobody expects, at full speed and with pauses.
 *
 *   const model = new Model(42, '/path/source', '/path/outside');
 *   await model.work(3000);
 *
 * What no program can see who reads events and compares size and time as rsync does is left out: writing
 * through a name outside of the tree, and two versions of files that agree in size and time, but for those of which events tell.
 */

import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  futimesSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { cFunctions } from '../src/service/libc.ts';
import { eventually } from './processes.ts';
import { bytes, type Difference, Expectation, namesIn, type Places, shown } from './tree.ts';

/** Numbers that depend on a seed alone: mulberry32. */
export class Random {
  constructor(private state: number) {}

  /** A number from 0 to 1, without 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number from 0 to `limit`, without `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of the list; an operation that finds nothing to choose from is skipped. */
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Skipped();
    return list[this.below(list.length)] as T;
  }

  /** Each of the list with that probability, but at least one. */
  some<T>(list: readonly T[], probability: number): T[] {
    const chosen = list.filter(() => this.chance(probability));
    return chosen.length > 0 ? chosen : [this.pick(list)];
  }
}

class Skipped extends Error {}

const latin1 = (text: string) => Buffer.from(text).toString('latin1');

export const PLAIN_NAMES = ['a', 'b', 'c', 'd', 'e', 'x.txt', 'y.txt', 'b.tmp', 'a~', '.hidden'];

/** Names that a shell, rsync's lists and filter rules, a log or UTF-8 could stumble over. */
const ODD_NAMES = [
  ...[
    'with space',
    ' leading',
    'trailing  ',
    ' ',
    `quo'te"s`,
    'new\nline',
    '\n',
    'cr\r',
    'tab\t',
    'back\\slash',
    '\\*',
  ],
  ...['-', '-rf', '--delete', '#x', ';x', '- a', '+ b', '!', '*', '**', '***', '?', '[a]', '[a-z]', '{a,b}', 'a:b'],
  ...['$HOME', '%n', '~', '...', '..a', 'caf\xe9', '\xff\xfe\x80', '\xc3(', latin1('中文 ✓'), latin1('é.txt')],
  ...['n'.repeat(255), `${'n'.repeat(251)}.txt`, latin1('字'.repeat(85))],
];

/** Beyond this number of entries more is removed than made, below the other one it is the other way round. */
const MOST_ENTRIES = 300;
const FEWEST_ENTRIES = 15;
/** How deep directories are made, and how deep a tree may get when it is moved. */
const DEPTH = 4;
const MOST_DEPTH = 7;
const LOGGED = 2000;

/** Of what is written, bytes; the largest is worth a rename on the target. */
const SIZES = [1, 7, 100, 100, 1000, 5000, 300_000];

const NEW = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY;
const REPLACE = constants.O_CREAT | constants.O_TRUNC | constants.O_WRONLY;
const APPEND = constants.O_CREAT | constants.O_APPEND | constants.O_WRONLY;
const IN_PLACE = constants.O_RDWR;

interface Item {
  path: string;
  type: 'file' | 'directory' | 'link';
  depth: number;
}

/** One thing that was done, with the paths it was done to. */
interface Done {
  number: number;
  at: number;
  what: string;
  paths: string[];
}

/** The tree, what can be done to it in one step, and the log of that. */
class Disk {
  /** Of the operation that is under way. */
  operation = '';
  number = 0;
  names: readonly string[] = PLAIN_NAMES;
  sizes: readonly number[] = SIZES;
  readonly done: Done[] = [];
  readonly source: string;
  readonly outside: string;
  private items: Item[] = [];
  private readonly versions = new Set<string>();
  private readonly heldInodes = new Set<bigint>();
  private readonly started = performance.now();

  constructor(
    readonly random: Random,
    source: string,
    outside: string,
  ) {
    this.source = latin1(source);
    this.outside = latin1(outside);
  }

  // ── What there is ──

  /** Looks at what is there now. */
  refresh(): void {
    this.items = [];
    const visit = (directory: string, depth: number) => {
      for (const name of namesIn(directory)) {
        if (name === RULE_FILE) continue;
        const path = `${directory}/${name}`;
        const type = typeOf(path);
        this.items.push({ path, type, depth });
        if (type === 'directory') visit(path, depth + 1);
      }
    };
    visit(this.source, 1);
  }

  get size(): number {
    return this.items.length;
  }

  name(): string {
    return this.random.pick(this.names);
  }

  /** An entry of the tree; from time to time one that has gone since. */
  any(type?: Item['type']): string {
    return this.random.pick(type ? this.items.filter((item) => item.type === type) : this.items).path;
  }

  file(): string {
    return this.any('file');
  }

  directory(): string {
    return this.any('directory');
  }

  /** A directory or the root. */
  parent(): string {
    const parents = this.items.filter(({ type, depth }) => type === 'directory' && depth < DEPTH);
    return this.random.pick([this.source, this.source, ...parents.map(({ path }) => path)]);
  }

  /** A path where something may or may not be. */
  place(): string {
    return `${this.parent()}/${this.name()}`;
  }

  below(path: string): Item[] {
    return this.items.filter((item) => item.path.startsWith(`${path}/`));
  }

  // ── What can be done ──

  /** Opens a file, not through a link, and works on it. */
  edit(what: string, path: string, flags: number, work: (fd: number) => void): void {
    const fd = openSync(bytes(path), flags | constants.O_NOFOLLOW, 0o644);
    try {
      this.note(what, path);
      work(fd);
      this.distinguish(fd);
    } finally {
      closeSync(fd);
    }
  }

  /** Something that no other write has written, of one of the usual sizes or that many bytes. */
  content(size = this.random.pick(this.sizes)): Buffer {
    return Buffer.alloc(size, `${this.number}.${this.random.below(1e6)} `);
  }

  /**
   * Keeps every version of every file apart from all others in size or time, else no rsync could tell them
   * apart: two files that change places may have been written within one tick of the clock.
   */
  distinguish(file: number | string): void {
    while (true) {
      const status = statusOf(file);
      const version = `${status.mtimeNs} ${status.size}`;
      if (status.size === 0n || !this.versions.has(version)) {
        this.versions.add(version);
        return;
      }
      const later = Number(status.mtimeNs / 1000n) / 1e6 + 0.001;
      if (typeof file === 'number') futimesSync(file, later, later);
      else utimesSync(bytes(file), later, later);
    }
  }

  truncate(path: string, size: number): void {
    if (typeOf(path) !== 'file') throw new Skipped();
    truncateSync(bytes(path), size);
    this.note(`truncate to ${size}`, path);
    this.distinguish(path);
  }

  rename(from: string, to: string): void {
    const depth = to.startsWith(this.source) ? to.slice(this.source.length).split('/').length - 1 : 0;
    const height = Math.max(0, ...this.below(from).map((item) => item.path.slice(from.length).split('/').length - 1));
    if (depth + height > MOST_DEPTH) throw new Skipped();
    renameSync(bytes(from), bytes(to));
    this.note('rename', from, to);
  }

  /** Has two things change places in one step. */
  exchange(one: string, other: string): void {
    exchange(one, other);
    this.note('exchange', one, other);
  }

  /** Writes a file that nothing but its content tells from another one. */
  imitate(model: string, path: string): void {
    const { size, mtimeNs, nlink } = statusOf(model);
    if (mtimeNs % 1_000_000_000n !== 0n || nlink > 1n) throw new Skipped(); // no other time can be set to the nanosecond
    const fd = openSync(bytes(path), REPLACE | constants.O_NOFOLLOW, 0o644);
    try {
      writeSync(fd, this.content(Number(size)));
      futimesSync(fd, Number(mtimeNs / 1_000_000_000n), Number(mtimeNs / 1_000_000_000n));
      this.note('write with the size and time of the other', path, model);
    } finally {
      closeSync(fd);
    }
  }

  /** Not of a file that is held open: writing to it would become a change without an event under the new name. */
  link(from: string, to: string): void {
    const status = statusOf(from);
    if (!status.isFile() || this.heldInodes.has(status.ino)) throw new Skipped();
    linkSync(bytes(from), bytes(to));
    this.note('link', from, to);
  }

  symlink(target: string, path: string): void {
    symlinkSync(bytes(target), bytes(path));
    this.note(`symlink to ${shown(target)}`, path);
  }

  unlink(path: string): void {
    unlinkSync(bytes(path));
    this.note('unlink', path);
  }

  mkdir(path: string): void {
    mkdirSync(bytes(path), 0o755);
    this.note('mkdir', path);
  }

  /** Removes whatever is there. */
  remove(path: string): void {
    if (typeOf(path) === 'directory') this.removeDirectory(path);
    else this.unlink(path);
  }

  private removeDirectory(path: string): void {
    for (const name of namesIn(path)) this.remove(`${path}/${name}`);
    rmdirSync(bytes(path));
    this.note('rmdir', path);
  }

  /** Removes what is there, if anything. */
  clear(path: string): void {
    if (exists(path)) this.remove(path);
  }

  /** The owner can always read, and enter directories: an ordinary user would stand before closed doors. */
  chmod(path: string): void {
    const type = typeOf(path);
    if (type === 'link') throw new Skipped();
    const special = this.random.chance(0.1) ? this.random.pick([0o1000, 0o2000, 0o4000]) : 0;
    const mode = (type === 'directory' ? 0o700 : 0o400) | this.random.below(0o1000) | special;
    chmodSync(bytes(path), mode);
    this.note(`chmod ${mode.toString(8)}`, path);
  }

  /** Sets the time of last change, seconds. */
  touch(path: string, seconds: number): void {
    const type = typeOf(path);
    if (type === 'link') lutimesSync(bytes(path), seconds, seconds);
    else utimesSync(bytes(path), seconds, seconds);
    this.note(`touch ${seconds}`, path);
    if (type === 'file') this.distinguish(path);
  }

  /** A new file that stays open while it is written piece by piece. Nobody else has a name for it. */
  async hold(path: string, pieces: Buffer[], pause: number): Promise<void> {
    const fd = openSync(bytes(path), NEW, 0o644);
    const { ino } = fstatSync(fd, { bigint: true });
    const { number } = this;
    this.heldInodes.add(ino);
    this.note(`keep open for ${pieces.length} × ${pause} ms`, path);
    for (const piece of pieces) {
      await sleep(pause);
      writeSync(fd, piece);
      this.distinguish(fd);
      this.record(number, 'hold: write to what was made as', path);
    }
    this.heldInodes.delete(ino);
    closeSync(fd);
    this.record(number, 'hold: close what was made as', path);
  }

  // ── What was done ──

  private note(what: string, ...paths: string[]): void {
    this.record(this.number, `${this.operation}: ${what}`, ...paths);
  }

  private record(number: number, what: string, ...paths: string[]): void {
    const at = Math.round(performance.now() - this.started);
    this.done.push({ number, at, what, paths: paths.map(this.relative) });
    if (this.done.length > LOGGED) this.done.splice(0, LOGGED / 10);
  }

  private readonly relative = (path: string) =>
    path.startsWith(this.outside)
      ? `../outside${path.slice(this.outside.length)}`
      : path.slice(this.source.length + 1) || '.';
}

const statusOf = (file: number | string) =>
  typeof file === 'number' ? fstatSync(file, { bigint: true }) : lstatSync(bytes(file), { bigint: true });

function typeOf(path: string): Item['type'] {
  const status = statusOf(path);
  if (status.isSymbolicLink()) return 'link';
  return status.isDirectory() ? 'directory' : 'file';
}

function exists(path: string): boolean {
  return lstatSync(bytes(path), { throwIfNoEntry: false }) !== undefined;
}

const { renameat2 } =
  cFunctions({
    renameat2: { args: ['i32', 'buffer', 'i32', 'buffer', 'u32'], returns: 'i32' },
  }) ?? {};
const AT_FDCWD = -100;
const RENAME_EXCHANGE = 2;
/** A path as C has it. */
const cPath = (path: string) => Buffer.from(`${path}\0`, 'latin1');

/** Has two things change places in one step (renameat2(2)); @throws where that is not possible, between a directory and what is in it for example */
export function exchange(one: string, other: string): void {
  if (renameat2?.(AT_FDCWD, cPath(one), AT_FDCWD, cPath(other), RENAME_EXCHANGE) !== 0)
    throw Object.assign(new Error(`cannot exchange ${shown(one)} and ${shown(other)}`), { code: 'EINVAL' });
}

const secondsOf = (path: string) => Number(statusOf(path).mtimeNs / 1000n) / 1e6;

/** A time that no other file has. */
const ownTime = (disk: Disk) => 1_000_000_000 + disk.number * 1000 + disk.random.below(1000) / 1000;

/** Writes over what is there, so that the size stays. */
function overwrite(disk: Disk, path: string): void {
  disk.edit('overwrite', path, IN_PLACE, (fd) => {
    const size = Number(statusOf(fd).size);
    if (size > 0) writeSync(fd, disk.content(size), 0, size, 0);
  });
}

const append = (disk: Disk, path: string) => disk.edit('append', path, APPEND, (fd) => writeSync(fd, disk.content()));

const write = (disk: Disk, path: string, content = disk.content()) =>
  disk.edit('write', path, REPLACE, (fd) => writeSync(fd, content));

/** Makes a directory with all that is missing above it. */
function mkdirs(disk: Disk, path: string): void {
  if (exists(path)) return;
  mkdirs(disk, path.slice(0, path.lastIndexOf('/')));
  disk.mkdir(path);
}

function copy(disk: Disk, from: string, to: string): void {
  const type = typeOf(from);
  if (type === 'link') disk.symlink(readlinkSync(bytes(from), { encoding: 'buffer' }).toString('latin1'), to);
  if (type === 'file') disk.edit('copy', to, NEW, (fd) => writeSync(fd, readFileSync(bytes(from))));
  if (type !== 'directory') return;
  const names = namesIn(from);
  disk.mkdir(to);
  for (const name of names) copy(disk, `${from}/${name}`, `${to}/${name}`);
}

const LINK_TARGETS = ['a', 'b', '../a', '../../c', 'x.txt', '.', '..', '/', '/nowhere', 'no where\n', 'caf\xe9', '*'];

const retarget = (disk: Disk, path: string) => disk.symlink(disk.random.pick([...LINK_TARGETS, ...disk.names]), path);

/** What makes something new at a path where nothing is, one of each type. */
const MAKERS: ((disk: Disk, path: string) => void)[] = [
  write,
  retarget,
  (disk, path) => disk.mkdir(path),
  (disk, path) => {
    disk.mkdir(path);
    write(disk, `${path}/${disk.name()}`);
  },
];

const outsideEntry = (disk: Disk) => `${disk.outside}/${disk.random.pick(namesIn(disk.outside))}`;

type Operation = (disk: Disk) => void | Promise<void>;

const CONTENT: Record<string, Operation> = {
  create: (disk) => disk.edit('create', disk.place(), NEW, (fd) => writeSync(fd, disk.content())),
  empty: (disk) => disk.edit('create empty', disk.place(), REPLACE, () => {}),
  write: (disk) => write(disk, disk.file()),
  writeAnywhere: (disk) => write(disk, disk.place()),
  append: (disk) => append(disk, disk.file()),
  truncate: (disk) => disk.truncate(disk.file(), disk.random.pick([0, 1, 50, 3000])),
  sameSize: (disk) => {
    const path = disk.file();
    const times = 1 + disk.random.below(3);
    for (let n = 0; n < times; n++) overwrite(disk, path);
  },
  sameSizeReplaced: (disk) => {
    const path = disk.file();
    write(disk, path, disk.content(Number(statusOf(path).size)));
  },
  patch: (disk) =>
    disk.edit('patch', disk.file(), IN_PLACE, (fd) => {
      writeSync(fd, disk.content(3), 0, 3, disk.random.below(200));
    }),
  large: (disk) => {
    if (disk.random.chance(0.9)) throw new Skipped();
    write(disk, disk.place(), disk.content(1_000_000 + disk.random.below(2_000_000)));
  },
  hold: (disk) => {
    if (disk.random.chance(0.8)) throw new Skipped();
    const pieces = Array.from({ length: 2 + disk.random.below(4) }, () => disk.content());
    return disk.hold(disk.place(), pieces, disk.random.pick([5, 40, 100, 150]));
  },
  saveAsEditorsDo: (disk) => {
    const path = disk.file();
    const fresh = `${path.slice(0, path.lastIndexOf('/'))}/.${disk.number}.swp`;
    write(disk, fresh);
    disk.rename(fresh, path);
  },
  passing: (disk) => {
    const path = disk.place();
    disk.edit('create', path, NEW, (fd) => writeSync(fd, disk.content()));
    disk.unlink(path);
  },
};

const NAMES: Record<string, Operation> = {
  rename: (disk) => disk.rename(disk.any(), disk.place()),
  renameFile: (disk) => disk.rename(disk.file(), disk.place()),
  renameOver: (disk) => disk.rename(disk.any(), disk.any()),
  renameOverFile: (disk) => disk.rename(disk.file(), disk.file()),
  renameOverEmpty: (disk) => {
    const from = disk.directory();
    const to = disk.place();
    disk.mkdir(to);
    disk.rename(from, to);
  },
  exchange: (disk) => disk.exchange(disk.any(), disk.any()),
  exchangeDirectories: (disk) => disk.exchange(disk.directory(), disk.directory()),
  imitate: (disk) => {
    const path = disk.file();
    const other = `${disk.parent()}/.${disk.number}.same`;
    disk.imitate(path, other);
    if (disk.random.chance(0.3)) disk.exchange(path, other);
    else disk.rename(other, path);
  },
  imitateAnew: (disk) => {
    const path = disk.file();
    const other = `${disk.parent()}/.${disk.number}.same`;
    disk.imitate(path, other);
    disk.unlink(path);
    disk.rename(other, path);
  },
  imitateInPlace: (disk) => {
    const path = disk.file();
    disk.imitate(path, path);
  },
  chain: (disk) => {
    let path = disk.any();
    for (const next of [disk.place(), disk.place(), disk.place()]) {
      disk.rename(path, next);
      path = next;
    }
  },
  swap: (disk) => {
    const [one, other] = [disk.any(), disk.any()];
    const third = `${disk.parent()}/.${disk.number}`;
    disk.rename(one, third);
    disk.rename(other, one);
    disk.rename(third, other);
  },
  workInMovingDirectory: (disk) => {
    const paths = [disk.place(), disk.place(), disk.place()] as const;
    disk.mkdir(paths[0]);
    disk.rename(paths[0], paths[1]);
    write(disk, `${paths[1]}/${disk.name()}`);
    disk.rename(paths[1], paths[2]);
    write(disk, `${paths[2]}/${disk.name()}`);
  },
  workInRenamedDirectory: (disk) => {
    const to = disk.place();
    disk.rename(disk.directory(), to);
    write(disk, `${to}/${disk.name()}`);
    disk.mkdir(`${to}/${disk.name()}`);
  },
  moveOut: (disk) => disk.rename(disk.any(), `${disk.outside}/${disk.name()}`),
  moveIn: (disk) => disk.rename(outsideEntry(disk), disk.place()),
  moveOutAndBack: (disk) => {
    const path = disk.any();
    const away = `${disk.outside}/.${disk.number}`;
    disk.rename(path, away);
    disk.rename(away, disk.random.chance(0.5) ? path : disk.place());
  },
  exchangeWithOutside: (disk) => {
    const path = disk.directory();
    const other = outsideEntry(disk);
    disk.rename(path, `${disk.outside}/.${disk.number}`);
    disk.rename(other, disk.random.chance(0.5) ? path : disk.place());
  },
  workOutside: (disk) =>
    disk.edit('create', `${outsideEntry(disk)}/${disk.name()}`, NEW, (fd) => writeSync(fd, disk.content())),
  remove: (disk) => disk.unlink(disk.random.chance(0.8) ? disk.file() : disk.any('link')),
  removeTree: (disk) => disk.remove(disk.directory()),
  changeType: (disk) => {
    const path = disk.any();
    disk.remove(path);
    disk.random.pick(MAKERS)(disk, path);
  },
  replace: (disk) => {
    const path = disk.place();
    disk.clear(path);
    disk.random.pick(MAKERS)(disk, path);
  },
};

const LINKS: Record<string, Operation> = {
  link: (disk) => disk.link(disk.file(), disk.place()),
  linkAndChange: (disk) => {
    const [path, other] = [disk.file(), disk.place()];
    disk.link(path, other);
    overwrite(disk, disk.random.chance(0.5) ? path : other);
  },
  changeAndUnlink: (disk) => {
    const files = disk.below(disk.source).filter(({ type }) => type === 'file');
    const linked = files.filter((file) => exists(file.path) && statusOf(file.path).nlink > 1n);
    const { path } = disk.random.pick(linked);
    append(disk, path);
    disk.unlink(path);
  },
};

const OTHERS: Record<string, Operation> = {
  symlink: (disk) => retarget(disk, disk.place()),
  retarget: (disk) => {
    const path = disk.any('link');
    disk.unlink(path);
    retarget(disk, path);
  },
  chmod: (disk) => disk.chmod(disk.random.chance(0.9) ? disk.any() : disk.source),
  touch: (disk) => disk.touch(disk.random.chance(0.9) ? disk.any() : disk.source, ownTime(disk)),
  touchOwnSecond: (disk) => disk.touch(disk.file(), Math.floor(ownTime(disk))),
  touchWholeSecond: (disk) => {
    const path = disk.any();
    disk.touch(path, Math.floor(secondsOf(path)));
  },
  appendKeepingTime: (disk) => {
    const path = disk.file();
    const seconds = secondsOf(path);
    append(disk, path);
    disk.touch(path, seconds);
  },
  mkdir: (disk) => disk.mkdir(disk.place()),
  mkdirs: (disk) => {
    const path = `${disk.place()}/${disk.name()}/${disk.name()}`;
    mkdirs(disk, path);
    write(disk, `${path}/${disk.name()}`);
  },
  copyTree: (disk) => {
    const from = disk.directory();
    const to = disk.place();
    if (disk.below(from).length > 40 || to.startsWith(`${from}/`)) throw new Skipped();
    copy(disk, from, to);
  },
};

const OPERATIONS: Record<string, Operation> = { ...CONTENT, ...NAMES, ...LINKS, ...OTHERS };
/** Those after which size or time tell that something has changed: where events are lost, nothing else does. */
export const SHOWN_BY_STATUS = Object.keys(OPERATIONS).filter((name) => !name.startsWith('imitate'));
const GROWING = ['create', 'mkdir', 'mkdirs'];

/** What an operation may meet because others were there first, an ordinary user works here, or something is mounted there. */
const EXPECTED_CODES = [
  ...['ENOENT', 'EEXIST', 'ENOTEMPTY', 'ENOTDIR', 'EISDIR', 'EINVAL', 'ELOOP', 'ENAMETOOLONG', 'EMLINK', 'EXDEV'],
  ...['EACCES', 'EPERM', 'EBUSY'],
];

/** The file that `-F` has rsync read rules from, which nothing else writes to or moves by itself. */
const RULE_FILE = '.rsync-filter';

/** Gives a directory other rules, or takes them away. */
function changeRules(disk: Disk, rules: string): void {
  const path = `${disk.parent()}/${RULE_FILE}`;
  if (disk.random.chance(0.3)) disk.unlink(path);
  else disk.edit(`have rules ${JSON.stringify(rules)}`, path, REPLACE, (fd) => writeSync(fd, rules));
}

/** How often rules change instead of something else. */
const RULES_CHANGE = 0.02;

/** How many operations come at once, and how long the pause after them is, ms. */
const BURSTS = [1, 1, 4, 30, 300];
const PAUSES = [0, 0, 3, 12, 40, 100, 300];

/** How long the last changes may take to reach the backup, ms. */
const SETTLED_MS = 60_000;

/** The log without the names of what changed and was transferred. */
const lastWords = (output: string) =>
  output
    .split('\n')
    .filter((line) => /^(\[(?!INFO)|rsync)/.test(line))
    .slice(-40)
    .join('\n');

export class Model {
  private readonly disk: Disk;
  private readonly random: Random;
  private chosen: string[] = [];
  private readonly held = new Set<Promise<void>>();
  /** Makes up what a file of rules holds, where there are any. */
  rules: ((random: Random) => string) | undefined;

  /** `outside` is a directory in the same file system; the sizes are those of what is written, bytes. */
  constructor(seed: number, source: string, outside: string, sizes = SIZES) {
    this.random = new Random(seed);
    this.disk = new Disk(this.random, source, outside);
    this.disk.sizes = sizes;
  }

  /** How many operations were chosen. */
  get count(): number {
    return this.disk.number;
  }

  /**
   * Works for that time, ms, and ends with nothing held open. Every time with some of the operations and some
   * of the names alone: what one kind breaks must not always be mended by another.
   */
  async work(ms: number, operations = Object.keys(OPERATIONS)): Promise<void> {
    this.chosen = this.random.some(operations, this.random.pick([0.15, 0.4, 0.8]));
    this.disk.names = [
      ...this.random.some(PLAIN_NAMES, 0.7),
      ...this.random.some(ODD_NAMES, this.random.pick([0, 0.1, 0.5])),
    ];
    const end = performance.now() + ms;
    do {
      await this.burst(this.random.pick(BURSTS), end);
      await sleep(this.random.pick(PAUSES));
    } while (performance.now() < end);
    await this.burst(1, Number.POSITIVE_INFINITY); // what nothing follows must be seen for itself
    await Promise.all(this.held);
  }

  /** The names of all operations. */
  static readonly operations = Object.keys(OPERATIONS);

  /**
   * Does one thing, and nothing else. Returns whether there was something to do it to: some operations need
   * what others leave behind.
   */
  async once(operation: string): Promise<boolean> {
    const last = this.disk.done.at(-1);
    for (let n = 0; n < 30 && this.disk.done.at(-1) === last; n++) {
      this.disk.refresh();
      this.step(operation);
      await Promise.all(this.held);
    }
    return this.disk.done.at(-1) !== last;
  }

  /**
   * Waits until the backup is what a plain rsync with these options makes of the source, which is quiet by now.
   * @param output what the program has printed so far
   * @throws after a minute, with what is different and what has led to it
   */
  async isMirrored(places: Places, options: string, output: () => string): Promise<void> {
    const expectation = new Expectation(places, options);
    let last: Difference[] = [];
    const agree = async () => {
      await sleep(50);
      last = expectation.differences();
      return last.length === 0;
    };
    await eventually(agree, SETTLED_MS).catch((error) => {
      throw new Error(last.length > 0 ? this.report(last, output()) : `${error}`);
    });
  }

  private report(found: Difference[], output: string): string {
    const paths = [...new Set(found.map(({ path }) => path))].slice(0, 10);
    return [
      ...found.slice(0, 40).map(({ path, what }) => `${shown(path)} ${what}`),
      `… ${found.length} differences`,
      ...paths.map((path) => `\nWhat was done to ${shown(path)}:\n${this.log([path], 15)}`),
      `\nWhat was done last:\n${this.log([], 20)}`,
      `\nThe program’s last words:\n${lastWords(output)}`,
    ].join('\n');
  }

  private async burst(length: number, end: number): Promise<void> {
    for (let n = 0; n < length && performance.now() < end; n++) {
      if (n % 8 === 0) {
        await nextTurn(); // for what is held open, and for those who read the output of programs
        this.disk.refresh();
      }
      const { rules } = this;
      if (rules && this.random.chance(RULES_CHANGE))
        this.step('changeRules', (disk) => changeRules(disk, rules(this.random)));
      else this.step(this.choose());
    }
  }

  private step(operation: string, work = OPERATIONS[operation]): void {
    this.disk.number++;
    this.disk.operation = operation;
    try {
      const holding = work?.(this.disk);
      if (holding) this.keep(holding);
    } catch (error) {
      skipExpected(error);
    }
  }

  private choose(): string {
    if (this.disk.size > MOST_ENTRIES) return this.random.pick(['removeTree', 'remove', 'moveOut']);
    return this.random.pick(this.disk.size < FEWEST_ENTRIES ? GROWING : this.chosen);
  }

  private keep(holding: Promise<void>): void {
    const kept: Promise<void> = holding.catch(skipExpected).finally(() => this.held.delete(kept));
    this.held.add(kept);
  }

  /** The last of what was done to any of the paths, to what is above or below them, or to all. */
  private log(paths: string[], limit: number): string {
    const touches = (path: string) =>
      paths.some((other) => path === other || path.startsWith(`${other}/`) || other.startsWith(`${path}/`));
    return this.disk.done
      .filter((entry) => paths.length === 0 || entry.paths.some(touches))
      .slice(-limit)
      .map((entry) => `#${entry.number} ${entry.at} ms ${entry.what} ${entry.paths.map(shown).join(' → ')}`)
      .join('\n');
  }
}

function skipExpected(error: unknown): void {
  if (error instanceof Skipped) return;
  if (!EXPECTED_CODES.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
}
