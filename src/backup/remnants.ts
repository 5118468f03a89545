/**
 * Removes what a receiving rsync leaves that was killed: the file that it was writing, under a name that it had for the time being. Ended
 * in any other way it removes that itself; nobody else knows whose it is, and without --delete it would stay for ever.
 *
 * So it is looked at again and again which files such an rsync has open to write, and once the process is gone, a file that is still the
 * same one under the same name is what it has left.
 *
 *   const remnants = new Remnants(() => sshd.commands(), config.DEST_DIR);
 *   await remnants.keep();
 */
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type FileHandle, lstat, open, readFile, realpath, stat, unlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { isWithin } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { warn } from '../service/log.ts';
import { commandLineOf, startedBy } from '../service/processes.ts';
import { reasonOf, showPath, t } from '../service/text.ts';
import { isAbsence } from './admission.ts';
import { HISTORY } from './history-names.ts';
import { readLong } from './receiver-options.ts';
import { PLACE } from './renames.ts';
import { STAGE } from './seclusion.ts';

/** How long the end of the service waits for the last look, ms. */
const LAST_MS = 500;
/** How many files of one process are kept in mind: rsync writes one at a time. */
const MAX_FILES = 4;

/** The name that rsync gives a file until it is complete: a dot before, and what mkstemp(3) has found behind. */
const TEMPORARY = /\/\.[^/]+\.[A-Za-z0-9]{6}$/;
/** Options with which rsync keeps what is not complete, writes into files as they are, or elsewhere; a sender writes nothing. */
const OTHERWISE =
  'partial partial-dir delay-updates temp-dir inplace append append-verify write-devices sender daemon'.split(' ');
/** The same as letters. */
const OTHER_LETTERS = /^-(?!-)[^e]*[PT]/;

/** A file that is being written. */
interface Unfinished {
  /** Its real path, bytes in a latin1 string. */
  path: string;
  device: bigint;
  inode: bigint;
  birth: bigint;
}

/** A process that writes files, told from a later one of the same number by when it was started. */
interface Writer {
  start: string;
  files: Unfinished[];
}

export class Remnants {
  private readonly writers = new Map<number, Writer>();
  /** The look that is under way: of a disk that hangs only one hangs with it. */
  private looking: Promise<void> | undefined;

  /**
   * @param commands lists the processes that lead what runs for sessions
   * @param directory DEST_DIR: nothing is removed elsewhere
   */
  constructor(
    private readonly commands: () => number[],
    private readonly directory: string,
  ) {}

  /** Looks at each beat which files are being written, until the program ends: what takes less time is small. */
  async keep(): Promise<void> {
    while (!lifecycle.stopping) {
      await Promise.race([this.inspect(), lifecycle.nextBeat()]);
      await lifecycle.nextBeat();
    }
  }

  /** Looks a last time, once all that ran for sessions was ended. */
  async settle(): Promise<void> {
    await Promise.race([this.inspect(), sleep(LAST_MS)]);
  }

  /** Looks once, unless that is being done; resolves when it is, which may be never. */
  inspect(): Promise<void> {
    this.looking ??= this.look().finally(() => {
      this.looking = undefined;
    });
    return this.looking;
  }

  private async look(): Promise<void> {
    const gone = [...this.writers].filter(([pid, { start }]) => startOf(pid) !== start);
    for (const [pid] of gone) this.writers.delete(pid);
    for (const pid of this.commands().flatMap(withAllStarted)) await this.note(pid);
    const written = [...this.writers.values()].flatMap(({ files }) => files.map(({ path }) => path));
    for (const [pid, { files }] of gone)
      for (const file of files) if (!written.includes(file.path)) await this.remove(pid, file);
  }

  /** Notes what a process writes. What it wrote before stays noted: at its end, its files are closed before it is gone. */
  private async note(pid: number): Promise<void> {
    const start = startOf(pid);
    if (start === undefined || !cleansUp(commandLineOf(pid))) return;
    const files = await writtenBy(pid);
    if (files.length > 0 && startOf(pid) === start) this.writers.set(pid, { start, files });
  }

  /** Removes what a process has left, if it is still that. */
  private async remove(pid: number, file: Unfinished): Promise<void> {
    const root = await realpath(this.directory, { encoding: 'buffer' }).catch(() => Buffer.of());
    const path = pathWithin(root.toString('latin1'), file.path);
    if (path === undefined) return;
    const what = t`接收镜像的进程 ${pid} 没有正常结束（例如被 kill -9，或因内存不足被系统终止）`;
    const name = t`它没有写完的临时文件 ${showPath(path)}`;
    const fields = { pid, file: showPath(path) };
    try {
      if (await removeExactly(root.toString('latin1'), { ...file, path }))
        warn('session.killed', t`${what}，已删除${name}`, fields);
    } catch (cause) {
      if (isAbsence(cause)) return; // it was complete, or somebody else has removed it
      warn('session.killed', t`${what}，无法删除${name}：${reasonOf(cause)}。请手工删除`, fields);
    }
  }
}

/** Says where DEST_DIR has what a process has open, which may see it in mounts of its own; nothing where it is elsewhere, or an older version. */
function pathWithin(root: string, seen: string): string | undefined {
  const path = seen.startsWith(`${STAGE}/`) ? seen.slice(STAGE.length) : seen;
  return root && isWithin(path, root) && !isVersion(path, root) ? path : undefined;
}

/** Whether a path is that of an older version, or of one of a source that has a directory of its own. */
const isVersion = (path: string, root: string) =>
  path.slice(root.length).split('/').filter(Boolean).slice(0, 2).includes(HISTORY);

/** Lists a process and all that it has started. */
const withAllStarted = (pid: number): number[] => [pid, ...startedBy(pid).flatMap(withAllStarted)];

/** Says when a process was started (proc(5), stat); nothing where it has ended. */
function startOf(pid: number): string | undefined {
  try {
    const [, state = 'X', start] =
      /.*\) (\S) (?:\S+ ){18}(\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
    return 'ZX'.includes(state) ? undefined : start;
  } catch {
    return undefined;
  }
}

/**
 * Whether these are the words of a receiving rsync that writes each file under another name first, and leaves nothing of that on purpose.
 * Its options have to be known: with -s, they do not stand among its words.
 */
export function cleansUp([program, server, ...words]: readonly string[]): boolean {
  if (program !== 'rsync' || server !== '--server' || words.at(-2) !== '.') return false;
  return !words.slice(0, -2).some((word) => {
    const { name, value } = readLong(word);
    if (name === 'backup-dir') return !value?.includes(`/${HISTORY}/`); // a copy may be made there
    return OTHERWISE.includes(name) || OTHER_LETTERS.test(word);
  });
}

/** Lists the files that a process writes under a name for the time being. */
async function writtenBy(pid: number): Promise<Unfinished[]> {
  const directory = `/proc/${pid}/fd`;
  const files: Unfinished[] = [];
  for (const number of namesIn(directory)) {
    const path = pathAt(`${directory}/${number}`);
    if (!TEMPORARY.test(path)) continue;
    const file = await unfinishedAt(pid, number, path).catch(() => undefined); // it was closed meanwhile
    if (file && files.length < MAX_FILES) files.push(file);
  }
  return files;
}

/** Lists what a process has open: the kernel knows that, and no disk is asked. */
function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // it has ended, or is not ours
  }
}

/** Says under which path something was opened, '' where it was closed meanwhile. */
function pathAt(at: string): string {
  try {
    return readlinkSync(at, { encoding: 'buffer' }).toString('latin1');
  } catch {
    return '';
  }
}

/** Finds what a process has open under a number, if that is such a file. */
async function unfinishedAt(pid: number, number: string, path: string): Promise<Unfinished | undefined> {
  const at = `/proc/${pid}/fd/${number}`;
  const [, flags = '0'] = /^flags:\s*(\d+)/m.exec(await readFile(`/proc/${pid}/fdinfo/${number}`, 'latin1')) ?? [];
  if ((Number.parseInt(flags, 8) & (constants.O_WRONLY | constants.O_RDWR)) === 0) return undefined;
  const status = await stat(at, { bigint: true });
  if (!status.isFile() || status.nlink !== 1n) return undefined;
  return { path, device: status.dev, inode: status.ino, birth: status.birthtimeNs };
}

/**
 * Removes a file if it is still what it was under its path. No link is followed on the way, whoever may put one there meanwhile.
 * @param root a real path that it lies below
 * @returns whether it was
 * @throws where it is not there, or cannot be removed
 */
async function removeExactly(root: string, { path, device, inode, birth }: Unfinished): Promise<boolean> {
  const names = path.slice(root.length).split('/').filter(Boolean);
  const name = names.pop() ?? '';
  let place: FileHandle = await open(Buffer.from(root, 'latin1'), PLACE);
  const at = (entry: string) => Buffer.from(`/proc/self/fd/${place.fd}/${entry}`, 'latin1');
  try {
    for (const directory of names) {
      const below = await open(at(directory), PLACE);
      await place.close();
      place = below;
    }
    const status = await lstat(at(name), { bigint: true });
    const isSame = status.dev === device && status.ino === inode && status.birthtimeNs === birth;
    if (!isSame || !status.isFile() || status.nlink !== 1n) return false;
    await unlink(at(name));
    return true;
  } finally {
    await place.close();
  }
}
