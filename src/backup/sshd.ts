/**
 * The real sshd, which runs as long as we do: its files, its process and its sessions.
 *
 *   const sshd = new Sshd(config);
 *   await sshd.configure('root');
 *   await sshd.listen();
 */
import type { ChildProcess } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lifecycle } from '../service/lifecycle.ts';
import { readLines } from '../service/lines.ts';
import { info } from '../service/log.ts';
import { endChildren, endGroups, startedBy, startOnLeash } from '../service/processes.ts';
import { escapeText, Failure, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import type { Config } from './config.ts';
import { Owners } from './owners.ts';
import { findProgram } from './programs.ts';
import { receivedAt } from './receipt-mark.ts';
import { openRecords } from './records.ts';
import { Remnants } from './remnants.ts';
import {
  configWord,
  includeMachineConfig,
  isAccepted,
  type SessionFiles,
  SOMETIMES_KNOWN,
  serverOptions,
  sessionOptions,
  strictModesFor,
} from './sshd-options.ts';
import { haveMembers, keyOf, straysOf } from './strays.ts';
import { VisitLog } from './visits.ts';

/** How many lines of sshd are passed on an hour: those that say who has logged in, and the others, which any scanner brings about. */
const [MAX_LOGINS_TOLD, MAX_WORDS_TOLD] = [100, 200];

/** How often it is looked whether all has ended, ms: that nobody has asked for an exit status yet is not waited for. */
const END_POLL_MS = 20;

export class Sshd {
  private command: string[] = [];
  private process: ChildProcess | undefined;
  /** Holds sshd's configuration and the socket for reports, for nobody else to see. */
  private directory = '';
  /** The processes of connections that were seen last. */
  private seen: number[] = [];
  /** The sessions that are being ended. */
  private ending: Promise<void> = Promise.resolve();
  private remnants: Remnants | undefined;
  private readonly owners = new Owners((pid) => commandsBelow(pid));
  private readonly visits = new VisitLog();
  private readonly logins = new Ceiling(t`sshd 的登录记录`, MAX_LOGINS_TOLD);
  private readonly words = new Ceiling(t`sshd 的其他输出`, MAX_WORDS_TOLD);

  constructor(private readonly config: Config) {}

  /** What sessions and the service know each other by. */
  get sessionFiles(): SessionFiles {
    return { reports: join(this.directory, 'reports'), admission: join(this.directory, 'admission') };
  }

  /**
   * Makes the directory of these files again where somebody has removed it, as cleaners of /tmp do.
   * @throws {Failure} where somebody else has
   */
  restoreDirectory(): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const found = lstatSync(this.directory);
    if (found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0) return;
    throw new Failure(t`运行目录 ${this.directory} 被他人替换。请重新启动 start-sshd`);
  }

  get pid(): number | undefined {
    return this.process?.pid;
  }

  /**
   * Writes the configuration that lets `user` in, and has sshd check it.
   * @throws {Failure}
   */
  async configure(user: string): Promise<void> {
    const { config } = this;
    this.directory = makeRuntimeDirectory();
    lifecycle.onExit(async () => {
      await endGroups(this.strays());
      rmSync(this.directory, { recursive: true, force: true });
    });
    const [file, sessionFile] = [join(this.directory, 'sshd_config'), join(this.directory, 'session.conf')];
    const server = serverOptions(config, user, strictModesFor(config.SSH_DIR, process.getuid?.() ?? 0));
    const session = sessionOptions(config, user, this.sessionFiles);
    writeFileSync(sessionFile, ['Match all', ...session, ''].join('\n'));
    this.command = [findProgram('sshd') ?? 'sshd', '-f', file, '-p', String(config.SSHD_PORT)];
    const write = (options: string[]) =>
      writeFileSync(file, [`Include ${configWord(sessionFile)}`, ...options, ''].join('\n'));
    for (const options of SOMETIMES_KNOWN) {
      write([...server, ...options]);
      if (await isAccepted(this.command)) server.push(...options);
    }
    write(server);
    await includeMachineConfig(file, [...server, ...session], this.command, user);
  }

  /**
   * Starts sshd in the foreground, its log in ours; resolves when it listens.
   * @throws {Failure}
   */
  async listen(): Promise<void> {
    const [program = '', ...args] = this.command;
    const records = openRecords();
    const command = [program, '-D', '-e', ...args];
    const child = startOnLeash(records?.leading(command) ?? command, 'ignore', this.directory, records?.file); // or, if we are killed, the next start has no port
    this.process = child;
    const remnants = new Remnants(() => this.commands(), this.config.DEST_DIR);
    this.remnants = remnants;
    lifecycle.background(remnants.keep());
    lifecycle.onStop(async () => {
      this.visits.summarise();
      this.endSessions(); // commands that ALLOW_SHELL has let run would outlive their connections
      await this.ending;
      await remnants.settle();
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const hear = (words: string) => this.hear(words, resolve, reject);
    records?.follow(child, hear);
    child.once('error', reject);
    child.once('close', (code, signal) => reject(new Failure(t`sshd 启动失败 (退出码: ${code ?? signal})`)));
    // What is said before sshd runs, and all where there are no records.
    readLines(child.stderr, (line) => hear(Buffer.from(line, 'latin1').toString()));
    return promise;
  }

  /** Passes on what sshd says, and finds in it whether it listens. */
  private hear(words: string, resolve: () => void, reject: (cause: Failure) => void): void {
    if (/^Server listening on \S+ port \d+\.$/.test(words)) {
      resolve();
      return;
    }
    this.tell(words);
    // Of several addresses sshd would make do with those that are free.
    if (/^(error: )?Bind to port .* Address already in use/.test(words)) {
      reject(new Failure(t`端口 ${this.config.SSHD_PORT} 已被占用。请停止占用它的程序，或更改 SSHD_PORT`));
    }
  }

  /** Passes on a line; who has logged in is counted apart from what anybody can have sshd say. */
  private tell(line: string): void {
    const isLogin = line.startsWith('Accepted ');
    const alive = isLogin ? this.connections().length : undefined; // sees this one
    if (this.visits.counts(line, alive)) return;
    const turn = isLogin ? this.logins.count() : this.words.count();
    if (turn !== 'omitted') info('sshd.output', `sshd: ${escapeText(line)}${turn === 'last' ? LAST : ''}`);
  }

  /**
   * Waits for the next beat; the end of sshd and a request to stop end that.
   * @throws {Failure} where sshd has ended without such a request
   */
  async nextBeat(): Promise<void> {
    const { process: child } = this;
    if (!child) return;
    const exit = () => child.exitCode ?? child.signalCode;
    const over = new AbortController();
    if (exit() === null) await Promise.race([lifecycle.nextBeat(), lifecycle.waitFor(child, 'exit', over.signal)]);
    over.abort();
    if (exit() === null || lifecycle.stopping) return;
    this.endSessions();
    await this.ending;
    throw new Failure(t`sshd 意外退出 (退出码: ${exit()})`);
  }

  /**
   * Lists the processes that sshd has started for connections, the oldest first; its leash is none. They outlive an sshd that was killed,
   * and the source would go on asking there for what nobody lets it do any more: then they are those that were seen last.
   */
  connections(): number[] {
    const { pid } = this;
    if (!pid) return [];
    const found = startedBy(pid).filter(isSshd);
    if (!isRunning(pid)) return this.seen.filter((it) => isSshd(it) && isRunning(it));
    this.seen = found;
    return found;
  }

  /** Tells how many connections there are. */
  countSessions(): number {
    return this.connections().length;
  }

  /** Tells when a session of a source last began to receive something, or made ready to; nothing where none has. */
  receivedOf(name: string): Date | undefined {
    return this.directory ? receivedAt(this.directory, name) : undefined;
  }

  /** Lists the processes that lead what runs for sessions: each is started by one of sshd's own. */
  commands(): number[] {
    return this.connections().flatMap(commandsBelow);
  }

  /** Lists those of one connection. */
  commandsOf(connection: number): number[] {
    return commandsBelow(connection);
  }

  /** Finds the fingerprint of the key of each connection, as far as something has run over it. */
  owned(): ReadonlyMap<number, string> {
    return this.owners.look(this.connections());
  }

  /** Ends the connections of one key with what runs for them, or ran for one that is gone; of ALLOW_SHELL, where nobody can tell, all. */
  endSessionsOf(fingerprint: string): number {
    return this.end(this.connectionsOf(fingerprint), this.strays(fingerprint));
  }

  /** Ends all connections with what runs for them, or ran for one that is gone; sshd itself goes on. Returns how many there were. */
  endSessions(): number {
    return this.end(this.connectionsOf(), this.strays());
  }

  /**
   * Ends them, and waits for that, and for what it leaves to be removed.
   * @param fingerprint of a key, of whose sessions alone this is to be so
   * @returns how many connections there were, and whether nothing is left of what ran when it was called
   */
  async endSessionsForGood(fingerprint?: string): Promise<{ sessions: number; isOver: boolean }> {
    const [connections, strays] = [this.connectionsOf(fingerprint), this.strays(fingerprint)];
    const groups = [...connections.flatMap(withAllStarted), ...strays];
    const sessions = this.end(connections, strays);
    let isPending = true;
    const ending = this.ending.finally(() => {
      isPending = false;
    });
    while (isPending && haveMembers(groups)) await Promise.race([ending, sleep(END_POLL_MS)]);
    await this.remnants?.settle();
    return { sessions, isOver: !haveMembers(groups) };
  }

  /** Lists connections, those of one key or all: one that ends meanwhile may hide the next (proc(5)). */
  private connectionsOf(fingerprint?: string): number[] {
    const found = [...new Set([1, 2, 3].flatMap(() => this.connections()))];
    if (fingerprint === undefined || this.config.ALLOW_SHELL) return found;
    const owned = this.owners.look(found);
    return found.filter((pid) => owned.get(pid) === fingerprint);
  }

  /** Lists the groups of all that runs for a source's key, one or any, also where its connection is gone. */
  private strays(fingerprint?: string): number[] {
    const { admission } = this.sessionFiles;
    const isOwn = (pid: string) =>
      fingerprint === undefined || this.config.ALLOW_SHELL || keyOf(Number(pid)) === fingerprint;
    return straysOf((file, pid) => file === admission && isOwn(pid));
  }

  /** Ends some connections with what runs for them; returns how many. */
  end(connections: number[], more: number[] = []): number {
    for (const connection of connections) stopGroup(connection); // or one might start a command that is not known below
    this.ending = endGroups([...connections.flatMap(withAllStarted), ...more]);
    lifecycle.background(this.ending);
    return connections.length;
  }

  /** Ends sshd with all that runs for its connections, when the service stops; resolves with whether nothing of that is left. */
  async shutDown(): Promise<boolean> {
    const running = [...this.connections().flatMap(withAllStarted), ...this.strays()];
    await endChildren(); // sshd, too: the source would come back at once
    await endGroups(running);
    return !running.some(isRunning);
  }

  /** Tells which process listens where. */
  report() {
    const { SSHD_PORT, SSHD_LISTEN } = this.config;
    return { pid: this.pid ?? null, port: SSHD_PORT, listen: SSHD_LISTEN || null, unlisted_logins: this.visits.total };
  }
}

/** Lists what processes of sshd have started, and they alone, that is none of them. */
const commandsBelow = (pid: number): number[] => (isSshd(pid) ? startedBy(pid).flatMap(commandsBelow) : [pid]);

/** Whether a process is one of sshd's own, by its name (proc(5), comm): sshd, sshd-session or sshd-auth. */
function isSshd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('sshd');
  } catch {
    return true; // it has ended
  }
}

/** Stops a group of processes for now. */
function stopGroup(group: number): void {
  try {
    process.kill(-group, 'SIGSTOP');
  } catch {} // it has ended
}

/** Whether a process has not ended: one that only waits to be asked for its exit status has no words (proc(5), cmdline). */
function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1') !== '';
  } catch {
    return false;
  }
}

/** Lists a process and all that it has started. sshd has each connection and each command lead a group of its own. */
const withAllStarted = (pid: number): number[] => [pid, ...startedBy(pid).flatMap(withAllStarted)];

/** Whether a directory can hold one with a socket: an address has room for 107 bytes (unix(7)). */
const isUsable = (path: string) => path !== '' && Buffer.byteLength(path) <= 80;

/**
 * Makes a directory that nobody else can enter.
 * @throws {Failure}
 */
function makeRuntimeDirectory(): string {
  const { RUNTIME_DIRECTORY, XDG_RUNTIME_DIR } = process.env; // of systemd, which may name several
  const parents = [RUNTIME_DIRECTORY?.split(':')[0] ?? '', '/run', XDG_RUNTIME_DIR ?? '', tmpdir()].filter(isUsable);
  for (const parent of parents) {
    try {
      return mkdtempSync(join(parent, 'start-sshd-'));
    } catch {}
  }
  throw new Failure(t`无法在 ${parents.join(t`、`)} 中创建运行目录，请检查权限和磁盘空间`);
}

/** Makes the directory in which Debian's sshd separates privileges, as the boot does; if it cannot be made, sshd says so. */
export function makePrivsepDirectory(): void {
  try {
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  } catch {}
}

/** Finds the address that other hosts most likely know this one by. */
export function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outside = addresses.filter(({ internal }) => !internal);
  const first = outside.find(({ family }) => family === 'IPv4') ?? outside[0];
  return first?.address ?? '127.0.0.1';
}
