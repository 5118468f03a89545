/**
 * Programs that are started: each in a process group of its own, and none outlives us.
 *
 *   const { stdout, exitCode } = await run`ssh-keygen -y -f ${key}`;
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { quote } from 'shlex';
import type { ProcessOutput } from 'zx/core';
import { allHeard } from './intake.ts';
import { inUnits, t } from './text.ts';

/** The programs that run. */
export const children = new Set<ChildProcess>();

/** Where programs are started: `sudo -u` may leave us in a directory that the user may not enter. */
export const cwd = existsSync(process.cwd()) ? process.cwd() : '/';

/** Variables with tokens in them, which are shown to nobody, and known to no program that is started. */
export const SECRETS = ['NOTIFY_URL', 'HEARTBEAT_URL'];

const withoutSecrets = (env: NodeJS.ProcessEnv) =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !SECRETS.includes(name)));

/** Starts a program in a process group of its own: Ctrl-C reaches only us, and what ends it ends all it started. */
export function start(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const env = withoutSecrets(options.env ?? process.env);
  const child = spawn(command, args, { cwd, ...options, env, detached: true });
  children.add(child);
  for (const event of ['exit', 'error']) child.once(event, () => children.delete(child));
  child.once('exit', () => child.stdin?.destroy());
  child.stdin?.on('error', () => {}); // its exit status says why it reads no more
  return child;
}

/**
 * Removes $0 and ends the command, and what it has started in groups of their own, when its standard input, a pipe of ours, is closed:
 * also when we are killed.
 */
const LEASH =
  'exec 3<&0; (read -r _ <&3; rm -rf -- "$0"; for it in $(cat /proc/$$/task/$$/children); do kill -- -$it; done 2>&-; kill 0) & exec "$@" 3<&- </dev/null';

/**
 * Starts a program that would run on without us. What it leaves in `directory` goes with it.
 * @param file a descriptor of ours that it gets as its number 4
 */
export function startOnLeash(
  command: string[],
  stdout: 'ignore' | 'pipe' | number,
  directory = '',
  file?: number,
): ChildProcess {
  const files = file === undefined ? [] : (['ignore', file] as const);
  return start('/bin/sh', ['-c', LEASH, directory, ...command], { stdio: ['pipe', stdout, 'pipe', ...files] });
}

/** How much a program may say that runs once, bytes: what it is asked for is short, but another machine may answer. */
const MAX_SAID = 1_000_000;

type Run = (words: TemplateStringsArray, ...values: (string | string[])[]) => Promise<ProcessOutput>;

/**
 * Starts what runs once and waits for it, with zx, which is loaded only here: that takes longer than all that --healthcheck does.
 * Where it says too much, it is ended, and that is what it has said last.
 */
export const run = runWithin();

/** Makes a `run` that takes no longer than that, ms: another machine may never answer. */
export function runWithin(ms?: number): Run {
  return async (words, ...values) => {
    const { $ } = await import('zx/core');
    const store = { stdout: [], stderr: [] as Buffer[], stdall: [] };
    const excess: Buffer[] = [];
    const startLimited = (command: string, args: string[], how: SpawnOptions) => {
      const child = start(command, args, how);
      limit(child, { ms, told: (why) => excess.push(Buffer.from(`\n${why}`)) });
      return child;
    };
    const shell = { shell: '/bin/sh', prefix: '', quote }; // on every machine; bash is not
    const options = { ...shell, spawn: startLimited as typeof spawn, nothrow: true, quiet: true, cwd, store };
    const output = await $({ ...options, stdio: ['ignore', 'pipe', 'pipe'] })(words, ...values);
    store.stderr.push(...excess); // it is put together when it is asked for
    return output;
  };
}

/** Up to where a program is let run. */
interface Limits {
  /** How much it may say, bytes, on its standard output and its standard error together. */
  bytes?: number;
  /** How much of that may come without the end of a line, bytes. */
  line?: number;
  /** How long it may take, ms. */
  ms?: number | undefined;
  /** Is told which limit it was that has ended it, in words for people. */
  told?: (excess: string) => void;
}

/**
 * Ends a program with all that it has started once it says more or takes longer than it may; what it says then is not read any more.
 * @returns ends it for another reason
 */
export function limit(child: ChildProcess, { bytes = MAX_SAID, line = bytes, ms, told }: Limits) {
  const streams = [child.stdout, child.stderr];
  let isEnded = false;
  const end = (excess: string) => {
    if (isEnded) return;
    isEnded = true;
    clearTimeout(timer);
    told?.(excess);
    signalGroup(child, 'SIGKILL');
    for (const stream of streams) stream?.destroy();
  };
  const late = () => end(t`在 ${Math.round((ms ?? 0) / 1000)} 秒内没有答复完，已中止`);
  const timer = ms === undefined ? undefined : setTimeout(late, ms);
  let said = 0;
  for (const stream of streams) {
    let length = 0;
    stream?.on('data', (chunk: Buffer | string) => {
      const last = Math.max(chunk.lastIndexOf('\n'), chunk.lastIndexOf('\r'));
      length = last < 0 ? length + chunk.length : chunk.length - last - 1;
      said += chunk.length;
      if (said > bytes) end(t`答复超过 ${inUnits(bytes)}，不是所要的答复，已中止`);
      else if (length > line) end(t`的输出中有一行超过 ${inUnits(line)} 仍未结束，不是 rsync 的输出，已中止`);
    });
  }
  for (const event of ['close', 'error']) child.once(event, () => clearTimeout(timer));
  return end;
}

/** Sends a signal to a program of ours and all that it has started, if it still runs. */
export function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid && children.has(child)) sendSignal(-child.pid, signal);
}

/** Sends to a process, or to a group by its negative number; returns whether it is there. 0 only asks. */
function sendSignal(id: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(id, signal);
  } catch {
    return false;
  }
}

/** Lists the processes that a process has started (proc(5)); none where the kernel keeps no such list, or it has ended. */
export function startedBy(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

/** How long a process may take to stand still once it is stopped, ms: one that waits for a disk may take for ever. */
const HALT_MS = 100;

/** Stops a process; resolves once it stands still, for what it does at that moment, such as to start another one, is done first. */
async function halt(pid: number): Promise<void> {
  sendSignal(pid, 'SIGSTOP');
  const isMoving = () => (observe(pid)?.doing ?? 'stopped') !== 'stopped';
  for (const deadline = performance.now() + HALT_MS; isMoving() && performance.now() < deadline; ) await sleep(1);
}

/** Ends all programs of ours with what they have started, sessions of sshd among them, each of which leads a group: by SIGTERM, then by SIGKILL. */
export async function endChildren(): Promise<void> {
  const own = [...children].flatMap(({ pid }) => pid ?? []);
  await Promise.all(own.map(halt)); // or an sshd might start a session that is not known below, and outlives it
  const led = [...new Set([1, 2, 3].flatMap(() => own.flatMap(startedBy)))]; // one that ends meanwhile may hide the next (proc(5))
  for (const pid of startedBy(process.pid)) if (!own.includes(pid)) sendSignal(pid, 'SIGKILL'); // ssh-keygen-lite hands out no process
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const running = [...children];
    for (const child of running) signalGroup(child, signal);
    for (const group of led) sendSignal(-group, signal);
    for (const pid of own) sendSignal(pid, 'SIGCONT');
    const ends = running.map((child) => once(child, 'exit'));
    await Promise.race([Promise.all([...ends, groupsEnd(led)]), sleep(1000)]);
  }
}

/** Ends groups of processes, stopped ones too: by SIGTERM, and what is left of them after 1 s by SIGKILL. */
export async function endGroups(groups: number[]): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (const group of groups) for (const each of [signal, 'SIGCONT'] as const) sendSignal(-group, each);
    await groupsEnd(groups);
  }
}

/** Resolves when no process of these groups is left, after 1 s at the latest. */
async function groupsEnd(groups: number[]): Promise<void> {
  const deadline = performance.now() + 1000;
  while (groups.some((group) => sendSignal(-group, 0)) && performance.now() < deadline) await sleep(10);
}

/** What a process does (proc(5), stat): somebody has stopped it, it waits for a disk, or for something else, or it works. */
export type Doing = 'stopped' | 'disk' | 'waiting' | 'working';

const DOING: Record<string, Doing> = { T: 'stopped', t: 'stopped', D: 'disk', S: 'waiting', I: 'waiting' };

/** What a process does now, and all that it has done so far in a form that stays the same while it does nothing; nothing where it has ended. */
export function observe(pid: number): { doing: Doing; done: string } | undefined {
  try {
    const [state = '', ...fields] = /\) (.*)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1]?.split(' ') ?? [];
    const [user, system] = fields.slice(10, 12);
    return { doing: DOING[state] ?? 'working', done: `${pid} ${user} ${system} ${transferredBy(pid)}` };
  } catch {
    return undefined;
  }
}

/** The words that a process was started with, bytes in latin1 strings; none where it has ended. */
export function commandLineOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** What a process has read and written, '' where that is nobody's to know. */
function transferredBy(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/io`, 'latin1');
  } catch {
    return '';
  }
}

/** Keeps the end of what a program says, at most 1000 characters. */
export function tailOf(stream: Readable | null): () => string {
  let tail = '';
  stream?.on('data', (chunk) => {
    tail = `${tail}${chunk}`.slice(-1000);
  });
  return () => tail;
}

/** Resolves when a program has ended and all that it has said is read: with its exit status, 128 + n for signal n. */
export async function exitStatus(child: ChildProcess): Promise<number> {
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  await allHeard(child);
  return code ?? 128 + (signal ? constants.signals[signal] : 0);
}

/** Whether a process waits for something to happen. */
export const isWaiting = (child: ChildProcess) => stateOf(child) === 'S';

/** Whether a process was stopped, by a signal or by a debugger. */
export const isStopped = (child: ChildProcess) => /[Tt]/.test(stateOf(child));

/** Says what a process does as proc(5), stat, has it; '' where it has ended this moment. */
function stateOf({ pid }: ChildProcess): string {
  try {
    const [, state = ''] = /.*\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
    return state;
  } catch {
    return '';
  }
}
