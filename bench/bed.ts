/**
 * Where a mirror is measured: a source, a backup with its sshd on loopback, and a key that opens it, in a directory of
 * their own.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { Pair, userName } from '../test/pair.ts';
import { cleanEnv, eventually, type Program } from '../test/processes.ts';
import type { Mirror } from './mirrors.ts';
import { cpuSeconds, endProcesses, markedEnv, memory, processesOf, settled } from './processes.ts';
import { goOn, started } from './scope.ts';

/** Where the directories are made. */
export const place = { directory: homedir() };

const beds = new Set<Bed>();
let ended = false;
const forever = new Promise<never>(() => {});

/**
 * Ends what still runs and removes all directories. Not earlier: a file system may be slow for minutes in making files
 * after many were deleted (ext4 without a journal is). Nobody gets a new bed or a new run from then on.
 */
export async function removeAll(): Promise<void> {
  ended = true;
  for (const bed of beds) {
    await bed[Symbol.asyncDispose]();
    await bed.pair[Symbol.asyncDispose]();
  }
  beds.clear();
}

/** Lets signals be heard in the midst of long work; once all is being removed, or its time is over, it does not go on. */
export const breathe = () => (ended ? forever : goOn());

let keys: Promise<string> | undefined;

/** A directory with the keys of both sides, the source's as rsync-inotify makes it. Making them takes seconds. */
function preparedKeys(): Promise<string> {
  keys ??= Bed.make('keys').then((bed) => {
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '4096', '-N', '', '-f', bed.path('id_rsa')]);
    return bed.path();
  });
  return keys;
}

export class Bed implements AsyncDisposable {
  private readonly runs = new Set<Run>();
  /** For start-sshd, which makes its own if there are none yet. */
  hostKeys: Record<string, string> = {};
  /** Where the source finds the backup, which itself listens at the port of the pair: a line may lie between. */
  port: number;

  private constructor(readonly pair: Pair) {
    this.port = pair.port;
  }

  static async make(name: string): Promise<Bed> {
    await breathe();
    const bed = started(new Bed(await Pair.below(place.directory, `bench-${name}`)));
    beds.add(bed);
    mkdirSync(bed.path('backup'));
    return bed;
  }

  /** Gives it keys before the start, so that all mirrors log in with the same. */
  async authorise(): Promise<this> {
    const prepared = await preparedKeys();
    for (const name of ['source-ssh', 'shared']) mkdirSync(this.path(name), { mode: 0o700 });
    const key = this.path('source-ssh', 'id_rsa');
    for (const end of ['', '.pub']) copyFileSync(`${prepared}/id_rsa${end}`, `${key}${end}`);
    copyFileSync(`${key}.pub`, this.path('shared', 'id_rsa.pub'));
    const options = ['IdentitiesOnly yes', 'BatchMode yes', 'StrictHostKeyChecking no', 'LogLevel ERROR'];
    const files = [`IdentityFile "${key}"`, `UserKnownHostsFile "${this.path('known_hosts')}"`];
    writeFileSync(this.path('ssh_config'), [`Port ${this.port}`, ...options, ...files, ''].join('\n'));
    this.hostKeys = { HOST_KEY_DIR: prepared };
    return this;
  }

  path(...names: string[]): string {
    return this.pair.path(...names);
  }

  get source(): string {
    return `${this.path('source')}/`;
  }

  get host(): string {
    return `${userName()}@127.0.0.1`;
  }

  get target(): string {
    return `${this.host}:${this.path('backup')}/`;
  }

  /** The socket of a shared ssh connection, if there is one; the path also marks the processes of the source side. */
  get control(): string {
    return this.path('control');
  }

  /** Marks the processes of the backup side. */
  get backupMark(): string {
    return this.path('backup');
  }

  /** The ssh that reaches the backup, as words. */
  get ssh(): string[] {
    return ['ssh', '-F', this.path('ssh_config')];
  }

  /** A mirror that is not started yet. */
  prepare(mirror: Mirror): Run {
    const run = started(new Run(this, mirror));
    this.runs.add(run);
    return run;
  }

  /** Starts sshd and the mirror, and resolves when it follows changes. */
  async start(mirror: Mirror): Promise<Run> {
    await breathe();
    const run = this.prepare(mirror);
    await run.open();
    await mirror.launch(run);
    return run;
  }

  forget(run: Run): void {
    this.runs.delete(run);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.runs].map((run) => run[Symbol.asyncDispose]()));
    await Promise.all(this.pair.programs.map((program) => program.stop()));
  }
}

/** A mirror at work. */
export class Run implements AsyncDisposable {
  private readonly programs: Program[] = [];
  private backup: Program | undefined;
  private ending: Promise<void> | undefined;

  constructor(
    readonly bed: Bed,
    readonly mirror: Mirror,
  ) {}

  /** For the processes of the source side, by which they are found. */
  get env(): Record<string, string> {
    return markedEnv(this.bed.control);
  }

  /** Starts the backup's sshd. */
  serve(): Program {
    const { mirror, bed } = this;
    this.backup = bed.pair.start('start-sshd', { ...mirror.backupEnv, ...bed.hostKeys, ...markedEnv(bed.backupMark) });
    return this.backup;
  }

  /** Starts what the mirror has at the backup and waits until it can be reached. */
  async open(): Promise<void> {
    if (this.mirror.open) this.backup = await this.mirror.open(this);
    else await this.serve().shows('SSH 服务器就绪');
  }

  keep(program: Program): Program {
    this.programs.push(program);
    return program;
  }

  /** The environment of a peer. */
  get peerEnv(): NodeJS.ProcessEnv {
    return { ...cleanEnv(), ...this.env };
  }

  /** The environment of what a peer has at the backup. */
  get peerBackupEnv(): NodeJS.ProcessEnv {
    return { ...cleanEnv(), ...markedEnv(this.bed.backupMark) };
  }

  /** What its programs have printed. */
  get output(): string {
    return this.programs.map(({ output }) => output).join('\n');
  }

  processes(): number[] {
    return processesOf(this.bed.control);
  }

  backupProcesses(): number[] {
    return processesOf(this.bed.backupMark);
  }

  cpuSeconds(): number {
    return cpuSeconds(this.processes());
  }

  backupCpuSeconds(): number {
    return cpuSeconds(this.backupProcesses());
  }

  memory(): { pss: number; rss: number } {
    return memory(this.processes());
  }

  backupMemory(): { pss: number; rss: number } {
    return memory(this.backupProcesses());
  }

  /** Waits until both sides rest, ms: a source that waits for a login does not. */
  async settled(quiet = 300, limit = 60_000): Promise<void> {
    await settled([this.bed.control, this.bed.backupMark], quiet, limit);
  }

  /** Ends the source's programs, then what they left, which may hold their output open. */
  async halt(): Promise<void> {
    for (const program of this.programs) if (program.running) program.signal('SIGTERM');
    await eventually(() => this.programs.every((program) => !program.running), 10_000).catch(() => {});
    await endProcesses(this.bed.control);
    this.programs.length = 0;
  }

  private async end(): Promise<void> {
    await this.halt();
    await this.backup?.stop();
    await endProcesses(this.bed.backupMark);
    this.bed.forget(this);
  }

  /** Ends all of it; whoever comes while it is ending waits for that, too. */
  [Symbol.asyncDispose](): Promise<void> {
    this.ending ??= this.end();
    return this.ending;
  }
}
