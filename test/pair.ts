/** A source and a backup that are a test's own, with their keys, their users and their processes. */

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { cleanEnv, eventually, freePort, PATIENCE_MS, Program, processesWith } from './processes.ts';
import { binary, ROOT } from './project.ts';
import { expectEqual } from './tree.ts';

/** Says what each thread of a program does, and where in the kernel: one that stands still says nothing by itself. */
function doingOf({ pid }: Program): string {
  const threads = `/proc/${pid}/task`;
  const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').trim() : '');
  const doing = (id: string) => `${read(`${threads}/${id}/stat`).slice(0, 40)} ${read(`${threads}/${id}/wchan`)}`;
  return existsSync(threads) ? readdirSync(threads).map(doing).join('; ') : `process ${pid} has ended`;
}

/**
 * Has ssh agree on the keys of a session at a seventh of the CPU that OpenSSH's own choice costs, which is more than all else that
 * a login does. Pairs that make keys of their own, and containers, go by that choice.
 */
export const CHEAP_LOGIN = 'KexAlgorithms=curve25519-sha256';

/**
 * A source and a backup in a directory of their own: `await using pair = await Pair.make('name')`.
 * The directory is below the home directory, where sshd's StrictModes accepts keys.
 */
export class Pair {
  readonly programs: Program[] = [];
  private sshOptions = '';
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
  static async withKeys(name: string, user: User = currentUser()): Promise<Pair> {
    const pair = await Pair.make(name, user);
    for (const directory of ['source-ssh', 'host-keys']) {
      cpSync(join(sharedKeys(), directory), pair.path(directory), { recursive: true });
      for (const file of ['', ...readdirSync(pair.path(directory))])
        chownSync(pair.path(directory, file), user.uid, user.gid);
    }
    pair.sshOptions = ` -o ${CHEAP_LOGIN}`;
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
      SSH_OPTS: `-p ${this.port}${this.sshOptions}`,
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

  /**
   * Starts an sshd of the machine's own, which lets the source do what it wants, of a pair that has its keys.
   * @param confinement what stands before the source's key in authorized_keys @param more settings of sshd
   * @param keys where authorized_keys is, which the user who logs in has to read
   */
  async startPlainSshd(
    port = this.port,
    { confinement = '', more = [] as string[], keys = this.path('authorized_keys') } = {},
  ): Promise<Program> {
    const { stdout } = spawnSync('ssh-keygen', ['-y', '-f', this.path('source-ssh', 'id_rsa')], { encoding: 'utf8' });
    writeFileSync(keys, `${confinement} ${stdout}`.trimStart(), { mode: 0o644 });
    const settings = [
      `Port=${port}`,
      'ListenAddress=127.0.0.1',
      `HostKey=${this.path('host-keys', 'ssh_host_ed25519_key')}`,
      `AuthorizedKeysFile=${keys}`,
      ...['PermitRootLogin=yes', 'MaxStartups=100', `PidFile=${this.path('sshd.pid')}`],
      ...more,
      'SetEnv=SHLVL=1', // as start-sshd does: without it bash runs its user's ~/.bashrc, which may take longer than all else
    ];
    const args = ['-D', '-e', '-f', '/dev/null', ...settings.flatMap((setting) => ['-o', setting])];
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true });
    const sshd = this.keep(new Program('/usr/sbin/sshd', args, {}));
    await sshd.shows('Server listening');
    return sshd;
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
      const told = this.programs.map((program) => `${doingOf(program)}\n${program.output}`);
      throw new Error(`${error}\n${told.join('\n---\n')}`);
    });
  }

  /** Waits until what is deleted in the source is deleted by name on the backup, where a helper must be ready for that. */
  async deletesByName(directory: string): Promise<void> {
    const [probe, copy] = ['source', 'backup'].map((root) => this.path(root, directory, 'probe')) as [string, string];
    const beside = `${copy}-beside`; // a comparison of the directory would delete it
    for (;;) {
      writeFileSync(probe, '');
      await eventually(() => existsSync(copy)); // what was sent before has ended
      if (existsSync(beside)) break;
      writeFileSync(beside, '');
      rmSync(probe);
      await eventually(() => !existsSync(copy));
    }
    rmSync(beside);
    rmSync(probe);
    await eventually(() => !existsSync(copy));
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
  rmSync(copy, { force: true }); // of an earlier start: to copy would be to write into the binary itself
  try {
    linkSync(binary(name), copy); // a hundred megabytes less to write
  } catch {
    copyFileSync(binary(name), copy); // to another file system
  }
  chmodSync(copy, 0o755);
  return copy;
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
