/**
 * Has a session of the source keep what it overwrites or deletes: in DEST_DIR/.history, which the source cannot name.
 *
 *   const keeping = keepingOf(root);
 *   keeping?.refuse(real, options);
 *   become(rsync, ['rsync', '--server', ...options, ...(keeping?.wordsFor(real) ?? []), '.', real], process.env);
 */
import {
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { isWithin } from '../service/files.ts';
import { t } from '../service/text.ts';
import { Refusal } from './confinement.ts';
import { Held } from './held-tree.ts';
import { copyAttributes } from './history-copy.ts';
import { MovesJournal } from './history-moves.ts';
import { doneNameOf, HISTORY, isOurs, MARK, MOVES, openNameOf } from './history-names.ts';
import { readLong } from './receiver-options.ts';

/** The variable by which sessions know that older versions are kept. */
export const HISTORY_VARIABLE = 'START_SSHD_HISTORY';

/** Options by which rsync would write into a version, or keep it elsewhere. */
const REFUSED = ['inplace', 'append', 'backup', 'backup-dir', 'suffix'];
const BACKUP_LETTER = /^-(?!-)[^e]*b/;

const isSame = (path: string, { dev, ino }: { dev: number; ino: number }) => {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.dev === dev && found.ino === ino;
};

/** Says which option of rsync's is not allowed while versions are kept, as RSYNC_OPTS may have it; nothing where all are. */
export function unkeptOption(options: readonly string[]): string | undefined {
  const found = options.find((word) => REFUSED.includes(readLong(word).name) || BACKUP_LETTER.test(word));
  return found?.startsWith('--') ? found : found && '--backup (-b, --backup-dir)'; // nobody has written the letters that rsync sends
}

/** Lists what is in a directory, nothing where there is none. */
function namesIn(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

/** Whether older versions are in a DEST_DIR, those of another time among them. @param root its real path */
export function hasHistory(root: string): boolean {
  try {
    return lstatSync(join(root, HISTORY, MARK), { throwIfNoEntry: false }) !== undefined;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOTDIR') return false; // it is a single file
    throw cause;
  }
}

/**
 * Makes the directory for older versions.
 * @param root the real path of DEST_DIR
 * @throws where something else has its name
 */
export function makeHistory(root: string): void {
  const directory = join(root, HISTORY);
  if (hasHistory(root) && lstatSync(directory).isDirectory()) return; // with a million names, maybe, which each session would list
  const names = namesIn(directory);
  if (names && !(lstatSync(directory).isDirectory() && isOurs(names)))
    throw new Error(t`${directory} 已存在，却不是 start-sshd 的版本目录：请在源端改名或排除它，并从备份中移走`);
  if (!names) mkdirSync(directory, { mode: 0o700 });
  if (!names?.includes(MARK)) writeFileSync(join(directory, MARK), '', { mode: 0o600 });
}

/** Has --recover know that of what was replaced until a time, ms since 1970, not all is kept. @param mark the path of what marks the directory for versions */
export function noteLost(mark: string | Buffer, until: number): void {
  const status = lstatSync(mark, { throwIfNoEntry: false });
  try {
    if (status && status.mtimeMs < until) lutimesSync(mark, until / 1000, until / 1000);
  } catch {} // it is another user's: all else goes on
}

/** What becomes of older versions in this session. */
export class Keeping {
  private readonly history: string;
  /** The path of what this session keeps. It is made once there is something to keep. */
  private readonly place: string;

  /** @param root the real path of DEST_DIR @param isOn whether versions are kept, or those that there are only protected */
  constructor(
    private readonly root: string,
    private readonly isOn: boolean,
  ) {
    this.history = join(root, HISTORY);
    const [, start = '0'] = /.*\) (?:\S+ ){19}(\d+) /s.exec(readFileSync('/proc/self/stat', 'latin1')) ?? [];
    this.place = join(this.history, openNameOf(process.pid, start)); // which cannot be read any more behind the fence
  }

  /**
   * Refuses what would write into versions, or keep them elsewhere.
   * @param paths real paths that the source names
   * @throws {Refusal}
   */
  refuse(paths: readonly string[], options: readonly string[] = []): void {
    const inside = paths.find((path) => this.isInside(path));
    if (inside !== undefined) throw new Refusal(t`${inside} 在保存旧版本的 ${this.history} 之内，源端不能使用`);
    const option = this.isOn && unkeptOption(options);
    if (option)
      throw new Refusal(
        t`备份端已设置 HISTORY_DAYS，由它保留旧版本，不允许 rsync 选项 ${option}：请从 RSYNC_OPTS 中去掉`,
      );
  }

  /** Whether a real path lies there, or would: by whatever name, where letter case does not count for example. */
  private isInside(path: string): boolean {
    const history = statSync(this.history, { throwIfNoEntry: false });
    if (isWithin(path, this.history)) return true;
    for (let above = path; history && isWithin(above, this.root) && above !== this.root; above = dirname(above))
      if (isSame(above, history)) return true;
    return false;
  }

  /** Has a receiving rsync keep what it overwrites or deletes. @param real the real path of its destination */
  wordsFor(real: string): string[] {
    const status = statSync(real, { throwIfNoEntry: false });
    const base = status && !status.isDirectory() ? dirname(real) : real; // of a single file
    const rules = base === this.root ? [`--filter=P /${HISTORY}`] : [];
    if (!this.isOn) return rules;
    const below = relative(this.root, base);
    return [...rules, '--backup', `--backup-dir=${join(this.place, below)}`, '--suffix='];
  }

  /** Where versions are, and the name of the directory for those of this session; nothing where none are kept. */
  get guarded(): { history: string; name: string } | undefined {
    return this.isOn ? { history: this.history, name: relative(this.history, this.place) } : undefined;
  }

  /** Makes what renames and deletes by name keep what it replaces or deletes. @param real the directory that its paths are relative to */
  keeper(real: string): Keeper | undefined {
    return this.isOn ? new Keeper(this.root, this.place, relative(this.root, real)) : undefined;
  }

  /** Whether an open directory is the one with the versions. */
  isHistory(at: Buffer): boolean {
    const [found, history] = [
      statSync(at, { throwIfNoEntry: false }),
      statSync(this.history, { throwIfNoEntry: false }),
    ];
    return found !== undefined && found.dev === history?.dev && found.ino === history.ino;
  }
}

/** Keeps what is replaced or deleted by name. */
export class Keeper implements Disposable {
  private readonly journal: MovesJournal;
  private readonly name: string;
  /** The directories that hold something. */
  private readonly used = new Set<string>();
  private readonly root: Held;
  private readonly top: Held;

  /** @param root the real path of DEST_DIR @param below what its paths are relative to, relative to that */
  constructor(
    root: string,
    place: string,
    private readonly below: string,
  ) {
    this.journal = new MovesJournal(place + MOVES);
    this.name = basename(place);
    this.root = Held.open(Buffer.from(root).toString('latin1'));
    this.top = this.root.enter(HISTORY);
  }

  private pathOf(path: string): string {
    return this.below ? `${Buffer.from(this.below).toString('latin1')}/${path}` : path;
  }

  /** Keeps what is about to be replaced, if anything is: it has two names until then. @throws where it cannot be kept */
  copy(at: Buffer, path: string): void {
    const status = lstatSync(at, { throwIfNoEntry: false });
    if (status && !status.isDirectory()) this.store(path, (kept) => linkSync(at, kept));
  }

  /** Moves something here that is to be deleted, and that is no directory. @throws where that cannot be done */
  take(at: Buffer, path: string): void {
    this.store(path, (kept) => renameSync(at, kept));
  }

  /** Writes a rename down that is done meanwhile; returns whether it was done. */
  rename(from: string, to: string, rename: () => boolean): boolean {
    return this.journal.around(this.pathOf(from), this.pathOf(to), rename);
  }

  /** Stores something under its path; what was replaced twice by one session lies beside what was there first, and that is not replaced. */
  private store(path: string, put: (kept: Buffer) => void): void {
    const whole = this.pathOf(path);
    const name = whole.slice(whole.lastIndexOf('/') + 1);
    for (let turn = 0, isStored = false; !isStored; turn++) {
      const top = `${this.name}${turn ? `-${turn}` : ''}`;
      const below = `${top}/${whole.slice(0, -name.length)}`;
      this.used.add(top);
      using place = this.top.make(below, (at, depth) => this.dress(at, below.split('/').slice(1, depth).join('/')));
      isStored = !place.statusOf(name);
      if (isStored) put(place.at(name));
    }
  }

  /** Gives a directory for versions what the one has that they lie in, which may be deleted next: rsync does so, too. */
  private dress(at: Buffer, path: string): void {
    using place = path ? this.root.find(path) : undefined; // the topmost one is ours alone
    const status = place?.statusOf('.');
    if (!place || !status) return;
    const mine = process.geteuid?.() === 0 ? 0n : 0o700n; // or nothing more could be kept in it
    try {
      copyAttributes(place.at('.'), at, Object.assign(status, { mode: status.mode | mine }));
    } catch {} // what is kept counts more
  }

  /** Says that nothing more is kept under these names, for this process may run on for days. */
  [Symbol.dispose](): void {
    this.journal[Symbol.dispose]();
    batches++;
    for (const name of [...this.used, this.name + MOVES].filter((it) => this.top.statusOf(it)))
      renameSync(this.top.at(name), this.top.at(doneNameOf(name, batches)));
    this.top[Symbol.dispose]();
    this.root[Symbol.dispose]();
  }
}

/** How many batches were done by this process. */
let batches = 0;

/**
 * Says what is to become of older versions in a DEST_DIR; nothing where there are none, and none are kept. Where all was moved into a
 * directory, for a source that gets a name and is not known by it yet, its history is there, and what it mirrors must not delete that.
 * @param root the real path of DEST_DIR @param real that of what is mirrored into
 * @throws where that is not possible
 */
export function keepingOf(root: string, real = root): Keeping | undefined {
  const isOn = Boolean(process.env[HISTORY_VARIABLE]);
  const own = isOn && !hasHistory(root) && hasHistory(real) ? real : root;
  if (isOn) makeHistory(own);
  else noteLost(join(root, HISTORY, MARK), Date.now());
  return isOn || hasHistory(root) ? new Keeping(own, isOn) : undefined;
}
