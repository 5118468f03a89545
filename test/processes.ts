/** The programs under test: how one is started, read, asked and ended, and what of it runs on this machine. */

import {
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
  type SpawnOptions,
  spawn,
  spawnSync,
} from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type ListenOptions, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long a test waits for what shall happen, ms. It says nothing of the program's pace: the machine may be busy. */
export const PATIENCE_MS = 30_000;

/** Polls until `check` returns something true and returns that; fails with what `check` threw or returned last. */
export async function eventually<T>(check: () => T | Promise<T>, ms = PATIENCE_MS): Promise<NonNullable<T>> {
  const deadline = performance.now() + ms;
  while (true) {
    const asked = performance.now();
    let last: unknown;
    try {
      const answer = await check();
      if (answer) return answer as NonNullable<T>;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${check}\nlast: ${last}`);
    await sleep(Math.min(Math.max(performance.now() - asked, 20), 200)); // as long as it looked: what it waits for needs the CPU, too
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
export async function answerOf(child: ChildProcessWithoutNullStreams, input?: Buffer | string): Promise<Answer> {
  const answer: Answer = { status: null, stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (chunk) => {
      answer[name] += chunk;
    });
  child.stdin.on('error', () => {});
  if (input !== undefined) child.stdin.end(input);
  [answer.status] = await once(child, 'close');
  return answer;
}

/** Sends a signal to processes of which some may have ended meanwhile, as one does whose other half was killed. */
export function signalAll(pids: Iterable<number>, signal: NodeJS.Signals): void {
  for (const pid of pids)
    try {
      process.kill(pid, signal);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
    }
}

/** Below those that the kernel takes for connections (ip_local_port_range), which come and go beside the tests. */
const PORTS = { first: 10_000, count: 20_000 };
/** What holds the ports that were given, as long as this process lives: other ones run tests, too. */
const holders: Server[] = [];

/** Listens on a port or a socket; nothing where somebody else does. */
async function listenOn(place: ListenOptions): Promise<Server | undefined> {
  const server = createServer().listen(place);
  return once(server, 'listening').then(
    () => server,
    () => undefined,
  );
}

/** A port that nobody listens on at the moment, and that no other test was given: tests run side by side, and what listens may be started anew. */
export async function freePort(): Promise<number> {
  const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
  const holder = await listenOn({ path: `\0rsync-inotify-test-port-${port}` }); // an abstract socket leaves nothing behind
  if (!holder) return freePort();
  holders.push(holder.unref());
  const server = await listenOn({ port, host: '127.0.0.1' });
  if (!server) return freePort();
  server.close();
  await once(server, 'close');
  return port;
}

/** This process's environment without the variables that the programs read. */
export function cleanEnv(): NodeJS.ProcessEnv {
  const { PATH, HOME, USER, LANG } = process.env;
  return { PATH, HOME, USER, LANG };
}

/** What a program's --check finds wrong with variables, '' if nothing: it asks rsync and ssh, too. */
export function mistakesFoundBy(program: string, env: Record<string, string>): string {
  const { stdout, stderr, status } = spawnSync(program, ['--check'], {
    env: { ...cleanEnv(), NO_COLOR: '1', ...env },
    encoding: 'utf8',
  });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

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

/** What a file holds, nothing while it is not there. */
export const content = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

export const count = (text: string, part: string) => text.split(part).length - 1;

/** Replaces what differs from run to run, so that a log can be compared with the guide's. */
export function masked(lines: string[], values: Record<string, string>): string[] {
  return lines.map((line) =>
    Object.entries(values).reduce(
      (text, [name, value]) => text.replaceAll(value, name),
      line.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/, 'TIME'),
    ),
  );
}
