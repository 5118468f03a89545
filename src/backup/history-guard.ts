/**
 * Runs a receiving rsync that can put older versions where they belong, and take none away or change it: what it would rename or delete goes through
 * this process, which moves a version aside that is in the way, and refuses all else among the versions; so is what would change their
 * attributes, or give them a name elsewhere, under which these could be changed. A client that is no rsync can
 * have one transfer receive a file twice, or write to a path among the versions; Landlock cannot tell these from the rest of DEST_DIR.
 *
 *   process.exitCode = await runGuarded('/usr/bin/rsync', words, { history, name });
 */
import { spawn } from 'node:child_process';
import { lstatSync, readlinkSync } from 'node:fs';
import { constants as machine } from 'node:os';
import { dirname } from 'node:path';
import { isWithin } from '../service/files.ts';
import { exitStatus } from '../service/processes.ts';
import { t } from '../service/text.ts';
import { Held } from './held-tree.ts';
import { HISTORY } from './history-names.ts';
import { type Entry, Errno, Filter, type Request, type Target } from './seccomp.ts';
import { sendReport } from './session-reports.ts';

const { EACCES, EDQUOT, EEXIST, EINVAL, EISDIR, ENOENT } = machine.errno;
const NO_REPLACE = 1;
/** How many versions of a file one transfer may leave: an rsync leaves one, two where letter case does not count. */
const MAX_TURNS = 100;

const NEWS = {
  refused: t`不能移动、替换或删除 DEST_DIR/${HISTORY} 中的旧版本，也不能改动其权限、属主和时间。若不是误操作，源端的密钥可能已被盗用`,
  unprotected: t`可能删除它自己刚保留的旧版本：内核不允许查看 rsync 的请求`,
};

/** Where versions are. */
interface Place {
  /** The directory of all of them, a real path. */
  history: string;
  /** The name of the directory for those of this session. */
  name: string;
}

/** Where a link of proc(5) leads, bytes in a latin1 string. */
const pathAt = (link: string) => readlinkSync(link, { encoding: 'buffer' }).toString('latin1');
/** Where an open directory is now. */
const pathOf = (place: number) => pathAt(`/proc/self/fd/${place}`);
const targetOf = ({ place, name }: Entry): Target => ({ at: `/proc/self/fd/${place}`, name: name.subarray(0, -1) });
const statusAt = ({ at, name }: Target) =>
  lstatSync(Buffer.concat([Buffer.from(`${at}/`), name]), { throwIfNoEntry: false, bigint: true });
const statusOf = (entry: Entry) => statusAt(targetOf(entry));

export class HistoryGuard {
  private readonly top: Held;
  /** Where all versions are, and those of this session, as the kernel names that now: DEST_DIR may be moved. */
  private history = '';
  private own = '';
  /** What is to be told, and what was told, each once. */
  private readonly untold = new Set<keyof typeof NEWS>();
  private readonly told = new Set<keyof typeof NEWS>();

  constructor(
    private readonly filter: Pick<Filter, 'rename' | 'unlink'>,
    private readonly place: Place,
  ) {
    this.top = Held.open(Buffer.from(place.history).toString('latin1'));
  }

  /** Does what an rsync wants renamed or deleted. @throws what has an errno */
  work({ from, to, flags }: Request): void {
    this.locate();
    const isFromHere = this.isKept(targetOf(from));
    const isToHere = to !== undefined && this.isKept(targetOf(to));
    if (isFromHere) this.demandOwn(from);
    if (to && isFromHere && !isToHere) throw this.refusal();
    if (to && isToHere) this.keep(from, to);
    else if (to) this.filter.rename(from, to, flags);
    else if (isFromHere) this.putAside(from);
    else this.filter.unlink(from);
  }

  /** Lets attributes be changed of what is no version, or is kept by this session: rsync gives directories for versions theirs. */
  letChange(target: Target): void {
    this.locate();
    if (!this.isKept(target)) return;
    const names = target.name.length > 0 ? [target.name.toString('latin1')] : [];
    if (!isWithin([pathAt(target.at), ...names].join('/'), this.own)) throw this.refusal();
  }

  /** Lets rsync keep something by one more name, and no version have one elsewhere. */
  letLink(from: Target, to: Target): void {
    this.locate();
    if (this.isKept(from)) throw this.refusal();
    this.letChange(to);
  }

  private locate(): void {
    this.history = pathOf(this.top.fd);
    this.own = `${this.history}/${this.place.name}`;
  }

  /** Renames something to where versions of this session are; what is there is put aside. */
  private keep(from: Entry, to: Entry): void {
    this.demandOwn(to);
    while (!this.move(from, to)) this.putAside(to);
  }

  /** Moves a version to where nothing else has its name, and nothing can be taken away. */
  private putAside(entry: Entry): void {
    const status = statusOf(entry);
    if (!status || status.isDirectory()) throw new Errno(status ? EISDIR : ENOENT);
    const below = pathOf(entry.place).slice(this.own.length);
    for (let turn = 1; turn <= MAX_TURNS; turn++) {
      using place = this.top.make(`${this.place.name}-${turn}${below}`);
      if (this.move(entry, { place: place.fd, name: entry.name })) return;
    }
    throw new Errno(EDQUOT);
  }

  /** Renames something to what is not there; returns whether it was not. */
  private move(from: Entry, to: Entry): boolean {
    try {
      this.filter.rename(from, to, NO_REPLACE);
      return true;
    } catch (cause) {
      const { errno } = cause as Errno;
      if (errno === EEXIST) return false;
      if (errno !== EINVAL) throw cause; // the file system cannot tell
    }
    if (statusOf(to)) return false;
    this.filter.rename(from, to);
    return true;
  }

  /** Whether something is among the versions, or is the directory with all of them. */
  private isKept(target: Target): boolean {
    const place = pathAt(target.at);
    if (isWithin(place, this.history)) return true;
    if (place !== dirname(this.history) || target.name.length === 0) return false;
    const [status, history] = [statusAt(target), this.top.statusOf('.')];
    return status?.ino === history?.ino && status?.dev === history?.dev;
  }

  /** @throws {Errno} where something is not among the versions of this session */
  private demandOwn({ place }: Entry): void {
    if (!isWithin(pathOf(place), this.own)) throw this.refusal();
  }

  private refusal(): Errno {
    this.tell('refused');
    return new Errno(EACCES);
  }

  overlook(): void {
    this.tell('unprotected');
  }

  private tell(kind: keyof typeof NEWS): void {
    if (!this.told.has(kind)) this.untold.add(kind);
  }

  get hasNews(): boolean {
    return this.untold.size > 0;
  }

  /** Takes what is to be told. */
  news(): [kind: keyof typeof NEWS, what: string][] {
    const kinds = [...this.untold];
    this.untold.clear();
    for (const kind of kinds) this.told.add(kind);
    return kinds.map((kind) => [kind, NEWS[kind]]);
  }
}

/**
 * Runs an rsync to its end.
 * @returns its exit status; nothing where it cannot be guarded, and was not started
 */
export async function runGuarded(rsync: string, words: string[], place: Place): Promise<number | undefined> {
  const filter = Filter.install();
  if (!filter) return undefined;
  const guard = new HistoryGuard(filter, place);
  const [argv0 = rsync, ...args] = words;
  const child = spawn(rsync, args, { argv0, stdio: 'inherit' });
  const ended = exitStatus(child);
  filter.rehearse(guard);
  while (child.pid && !filter.serve(child.pid, guard))
    for (const [kind, what] of guard.news()) await sendReport(kind, what);
  return ended;
}
