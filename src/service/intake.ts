/**
 * What a program says that may say much, read in few pieces. It writes line by line, and each piece that is read costs as much as
 * hundreds of lines do: once it writes fast, what it writes is left to gather for a moment. The stream of a child's pipe reads on while it
 * is paused, until it is full; a socket of Bun's own does not.
 *
 *   const rsync = startHeard((stdout) => start('rsync', args, { stdio: ['pipe', stdout, 'pipe'] }));
 *   rsync.stdout.on('data', take);
 */
import { ptr } from 'bun:ffi';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { cFunctions } from './libc.ts';

/** How many pieces are read in a while, ms, before it is left to gather until the while is over: what is said of one change comes in fewer. */
const PIECES = 8;
const WHILE_MS = 5;

/** Of socket(2), on Linux. */
const [AF_UNIX, SOCK_STREAM, SOCK_CLOEXEC] = [1, 1, 0o2000000];

const c = cFunctions({ socketpair: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' } });

/** `Bun.connect`, which its types do not let have a descriptor that is connected already. */
const connect = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;

/** Makes two sockets that are connected, nothing where there are none to be had. */
function socketPair(): [number, number] | undefined {
  const ends = new Int32Array(2);
  const [ours = -1, theirs = -1] = c?.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ptr(ends)) === 0 ? ends : [];
  return ours < 0 ? undefined : [ours, theirs];
}

/** Has `begin` start a program with a standard output that is read in few pieces; with a pipe where that is not to be had. */
export function startHeard(begin: (stdout: 'pipe' | number) => ChildProcess): ChildProcess {
  const [ours, theirs] = socketPair() ?? [];
  if (ours === undefined || theirs === undefined) return begin('pipe');
  const intake = new Intake(ours);
  try {
    const child = Object.defineProperty(begin(theirs), 'stdout', { value: intake });
    const letGo = () => void (intake.readableFlowing === null && intake.resume()); // nobody ever will read it
    for (const event of ['close', 'error']) child.once(event, letGo);
    return child;
  } catch (cause) {
    intake.destroy();
    throw cause;
  } finally {
    closeSync(theirs);
  }
}

/** Reads what comes over a socket. */
class Intake extends Readable {
  private socket: Bun.Socket | undefined;
  /** When the while began that is counted, ms, and how many pieces were read in it. */
  private began = 0;
  private pieces = 0;
  /** What ends the time in which nothing is read. */
  private rest: NodeJS.Timeout | undefined;
  /** Whether there is enough that nobody has taken yet. */
  private isFull = false;

  /** @param fd becomes its own */
  constructor(fd: number) {
    super();
    const finish = () => void this.push(null);
    const socket = {
      open: (opened: Bun.Socket) => this.open(opened),
      data: (_: Bun.Socket, piece: Buffer) => this.receive(piece),
      ...{ end: finish, close: finish },
      error: () => void this.destroy(), // its program cannot say any more then, and ends by that
    };
    connect({ fd, socket }).catch(() => this.destroy());
  }

  private open(socket: Bun.Socket): void {
    this.socket = socket;
    if (this.destroyed) socket.terminate();
  }

  private receive(piece: Buffer): void {
    this.isFull = !this.push(piece);
    const age = performance.now() - this.began;
    if (age > WHILE_MS) [this.began, this.pieces] = [performance.now(), 0];
    if (++this.pieces >= PIECES) this.pauseFor(WHILE_MS - age);
    if (this.isFull) this.socket?.pause();
  }

  private pauseFor(ms: number): void {
    this.socket?.pause();
    this.rest ??= setTimeout(() => {
      this.rest = undefined;
      this.goOn();
    }, ms);
  }

  private goOn(): void {
    if (!this.rest && !this.isFull) this.socket?.resume();
  }

  override _read(): void {
    this.isFull = false;
    this.goOn();
  }

  override _destroy(cause: Error | null, done: (cause: Error | null) => void): void {
    clearTimeout(this.rest);
    this.socket?.terminate();
    done(cause);
  }
}

/** Resolves when all was read that such a program has said, where somebody reads it. */
export async function allHeard({ stdout }: ChildProcess): Promise<void> {
  if (stdout instanceof Intake && stdout.readableFlowing && !stdout.closed) await once(stdout, 'close');
}
