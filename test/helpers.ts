import {
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  type SpawnOptions,
  spawn,
  spawnSync,
} from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const ROOT = join(import.meta.dir, '..');
export const binary = (name: string) => join(ROOT, 'dist', name);

/** How long a test waits for what shall happen, ms. It says nothing of the program's pace: the machine may be busy. */
export const PATIENCE_MS = 30_000;

/** Polls until `check` returns something true and returns that; fails with what `check` threw or returned last. */
export async function eventually<T>(check: () => T | Promise<T>, ms = PATIENCE_MS): Promise<NonNullable<T>> {
  const deadline = performance.now() + ms;
  while (true) {
    let last: unknown;
    try {
      const answer = await check();
      if (answer) return answer as NonNullable<T>;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${check}\nlast: ${last}`);
    await sleep(20);
  }
}

/** A program under test with all that it printed. */
export class Program {
  output = '';
  readonly exited: Promise<number | string>;
  private readonly child: ChildProcess;

  constructor(command: string, args: string[], options: SpawnOptions) {
    this.child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => {
        this.output += chunk;
      });
    }
    this.exited = once(this.child, 'close').then(([code, signal]) => code ?? signal);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** The lines of the log, without what rsync printed between them. */
  get lines(): string[] {
    return this.output.split('\n').filter((line) => line.startsWith('['));
  }

  /** Waits until the output, from `offset` on, matches; fails at once when the program is dead, with its output. */
  async shows(pattern: string | RegExp, offset = 0, ms = PATIENCE_MS): Promise<void> {
    const found = () => {
      const text = this.output.slice(offset);
      return typeof pattern === 'string' ? text.includes(pattern) : pattern.test(text);
    };
    const deadline = performance.now() + ms;
    while (!found()) {
      if (!this.running && !found()) throw new Error(`ended without ${pattern}:\n${this.output}`);
      if (performance.now() > deadline) throw new Error(`no ${pattern} within ${ms} ms:\n${this.output}`);
      await sleep(10);
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ends the program and returns its exit status. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    if (this.running) this.signal(signal);
    const killer = setTimeout(() => this.signal('SIGKILL'), 10_000);
    const status = await this.exited;
    clearTimeout(killer);
    return status;
  }
}

export interface Answer {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** What a program answers to its input, at its end. */
export async function answerOf(child: ChildProcessWithoutNullStreams, input: Buffer | string): Promise<Answer> {
  const answer: Answer = { status: null, stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (chunk) => {
      answer[name] += chunk;
    });
  child.stdin.on('error', () => {}).end(input);
  [answer.status] = await once(child, 'close');
  return answer;
}

const givenPorts = new Set<number>();

/** A port that nobody listens on at the moment, and that no other test was given: tests run side by side. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  const port = typeof address === 'object' && address ? address.port : 0;
  if (givenPorts.has(port)) return freePort();
  givenPorts.add(port);
  return port;
}

/**
 * A source and a backup in a directory of their own: `await using pair = await Pair.make('name')`.
 * The directory is below the home directory, where sshd's StrictModes accepts keys.
 */
export class Pair {
  readonly programs: Program[] = [];
  private constructor(
    readonly directory: string,
    readonly port: number,
    private readonly user: User,
  ) {}

  static async make(name: string, user: User = currentUser()): Promise<Pair> {
    return Pair.below(user.home, name, user);
  }

  static async below(parent: string, name: string, user: User = currentUser()): Promise<Pair> {
    const directory = mkdtempSync(join(parent, `.rsync-inotify-test-${name}-`));
    const pair = new Pair(directory, await freePort(), user);
    mkdirSync(pair.path('source'));
    for (const path of [directory, pair.path('source')]) chownSync(path, user.uid, user.gid);
    return pair;
  }

  /** A pair that has its keys already: making them takes most of the CPU that a start costs. */
  static async withKeys(name: string): Promise<Pair> {
    const pair = await Pair.make(name);
    for (const directory of ['source-ssh', 'host-keys'])
      cpSync(join(sharedKeys(), directory), pair.path(directory), { recursive: true });
    return pair;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  get sourceEnv(): Record<string, string> {
    return {
      SOURCE_DIR: `${this.path('source')}/`,
      DEST_HOST: `${this.user.name}@127.0.0.1`,
      DEST_DIR: `${this.path('backup')}/`,
      SSH_OPTS: `-p ${this.port}`,
      SHARED_KEYS_DIR: this.path('shared'),
      SSH_DIR: this.path('source-ssh'),
      STATUS_FILE: this.path('source-status.json'),
    };
  }

  get backupEnv(): Record<string, string> {
    return {
      DEST_DIR: `${this.path('backup')}/`,
      SHARED_KEYS_DIR: this.path('shared'),
      SSH_DIR: this.path('backup-ssh'),
      HOST_KEY_DIR: this.path('host-keys'),
      STATUS_FILE: this.path('backup-status.json'),
      SSHD_PORT: String(this.port),
      SSHD_LISTEN: '127.0.0.1',
    };
  }

  /** @param wrapper a command that runs the program, in a namespace for example */
  start(name: 'rsync-inotify' | 'start-sshd', env: Record<string, string> = {}, wrapper: string[] = []): Program {
    const own = name === 'rsync-inotify' ? this.sourceEnv : this.backupEnv;
    const { uid, gid, home, name: USER } = this.user;
    const isSelf = uid === process.getuid?.();
    const [command = '', ...args] = [...wrapper, isSelf ? binary(name) : copyOfBinary(name, this.directory)];
    const program = new Program(command, args, {
      env: { ...cleanEnv(), HOME: home, USER, NO_COLOR: '1', ...own, ...env },
      ...(isSelf ? {} : { uid, gid }),
    });
    return this.keep(program);
  }

  /** Takes a program along to the end of the pair. */
  keep(program: Program): Program {
    this.programs.push(program);
    return program;
  }

  /** Starts the backup, then the source, and waits until it watches. */
  async run(env: Record<string, string> = {}, sign = '✓ 服务运行中'): Promise<{ source: Program; backup: Program }> {
    const backup = this.start('start-sshd');
    const source = this.start('rsync-inotify', env);
    await source.shows(sign);
    return { source, backup };
  }

  /** Waits until both trees hold the same, as a plain rsync sees it. */
  async isMirrored(ms = PATIENCE_MS): Promise<void> {
    await eventually(() => expectEqual(this.path('source'), this.path('backup')), ms).catch((error) => {
      throw new Error(`${error}\n${this.programs.map((program) => program.output).join('\n---\n')}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.programs.map((program) => program.stop()));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Keys for all pairs that need none of their own, made once. */
function sharedKeys(): string {
  const keys = join(ROOT, 'dist', 'test-keys');
  if (existsSync(keys)) return keys;
  const directory = mkdtempSync(`${keys}-`);
  const makeKey = (type: string, ...path: string[]) => {
    mkdirSync(join(directory, path[0] ?? ''), { recursive: true, mode: 0o700 });
    const { status } = spawnSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-f', join(directory, ...path)]);
    if (status !== 0) throw new Error('ssh-keygen has made no key');
  };
  makeKey('rsa', 'source-ssh', 'id_rsa');
  for (const type of ['rsa', 'ecdsa', 'ed25519']) makeKey(type, 'host-keys', `ssh_host_${type}_key`);
  try {
    renameSync(directory, keys);
  } catch {
    rmSync(directory, { recursive: true }); // another worker was faster
  }
  return keys;
}

/** A binary where another user can reach it: the project may lie in a home directory. */
export function copyOfBinary(name: string, directory: string): string {
  const copy = join(directory, name);
  copyFileSync(binary(name), copy);
  chmodSync(copy, 0o755);
  return copy;
}

/** Compares two trees by content, type, mode, time and link target; throws with what differs. */
export function expectEqual(source: string, backup: string, options: string[] = []): true {
  const args = [...options, '-anc', '--delete', '--itemize-changes', '--out-format=%i %n', `${source}/`, `${backup}/`];
  const { stdout, stderr, status } = spawnSync('rsync', args, { encoding: 'utf8' });
  if (status !== 0 || stdout.trim() !== '') throw new Error(`trees differ:\n${stdout}${stderr}`);
  return true;
}

/** This process's environment without the variables that the programs read. */
export function cleanEnv(): NodeJS.ProcessEnv {
  const { PATH, HOME, USER, LANG } = process.env;
  return { PATH, HOME, USER, LANG };
}

interface User {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

const idOf = (flag: string, name?: string) =>
  spawnSync('id', [flag, ...(name ? [name] : [])], { encoding: 'utf8' }).stdout.trim();

export const userName = () => idOf('-un');

const currentUser = (): User => ({
  name: userName(),
  uid: Number(idOf('-u')),
  gid: Number(idOf('-g')),
  home: homedir(),
});

/** An ordinary user, made for the test and removed with all that is theirs: `using user = ordinaryUser()`. */
export function ordinaryUser(shell = '/bin/sh'): User & Disposable {
  const name = `rsync-test-${process.pid}`;
  spawnSync('useradd', ['--create-home', '--shell', shell, name]);
  return {
    name,
    uid: Number(idOf('-u', name)),
    gid: Number(idOf('-g', name)),
    home: `/home/${name}`,
    [Symbol.dispose]: () => spawnSync('userdel', ['--remove', name]),
  };
}

export const isRoot = process.getuid?.() === 0;

/** What a file holds, nothing while it is not there. */
export const content = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

export const count = (text: string, part: string) => text.split(part).length - 1;

/** The processes of a pair whose command line begins like that. */
const pidsOf = (pair: Pair, command: RegExp) =>
  [...processesWith(pair.directory)].filter(([, words]) => command.test(words)).map(([pid]) => pid);

export const watchersOf = (pair: Pair) => pidsOf(pair, /^inotifywait /);
/** The connection that all of a source's rsyncs share. */
export const connectionsOf = (pair: Pair) => pidsOf(pair, /^ssh -N /);
/** The rsyncs of the source that were started for a list of names, which they may still wait for. */
export const listedRsyncsOf = (pair: Pair) => pidsOf(pair, /^rsync (?!--server).*--files-from=-/);
/** The halves of rsyncs that run at the backup. */
export const remoteRsyncsOf = (pair: Pair) => pidsOf(pair, /^rsync --server/);

/** Waits for the one that there is, and tells its process id. */
export const theOnly = (processes: (pair: Pair) => number[], pair: Pair) =>
  eventually(() => {
    const found = processes(pair);
    return found.length === 1 ? found[0] : 0;
  });

/** The processes of this machine whose command line or working directory holds the text, by process id. */
export function processesWith(text: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const pid of readdirSync('/proc').map(Number).filter(Number.isInteger)) {
    const [command, directory] = [commandOf(pid), directoryOf(pid)];
    if ((command.includes(text) || directory.includes(text)) && pid !== process.pid) found.set(pid, command);
  }
  return found;
}

const orEmpty = (read: () => string) => {
  try {
    return read();
  } catch {
    return ''; // it has ended
  }
};

const commandOf = (pid: number) => orEmpty(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
const directoryOf = (pid: number) => orEmpty(() => readlinkSync(`/proc/${pid}/cwd`));

/** Replaces what differs from run to run, so that a log can be compared with the guide's. */
export function masked(lines: string[], values: Record<string, string>): string[] {
  return lines.map((line) =>
    Object.entries(values).reduce(
      (text, [name, value]) => text.replaceAll(value, name),
      line.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/, 'TIME'),
    ),
  );
}
