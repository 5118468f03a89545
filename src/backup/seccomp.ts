/**
 * Has the kernel ask this process before another one renames, deletes or links anything, or changes its attributes: seccomp_unotify(2).
 * What is to be renamed or deleted is done here, in directories that are held open meanwhile, so that nobody can put something else in
 * the way between the look and the deed. The rest the kernel does itself, if it may: it needs the name alone, in a directory that is held
 * open by who asks, as rsync does from version 3.5.0 on.
 *
 *   const filter = Filter.install(); // nothing where the kernel cannot do it
 *   const child = spawn('rsync', …); // what this thread starts from now on is asked about
 *   filter?.serve(child.pid, { work: ({ from, to }) => (to ? filter.rename(from, to) : filter.unlink(from)), … });
 */
import { ptr, read } from 'bun:ffi';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { constants as machine } from 'node:os';
import { O_PATH } from '../service/files.ts';
import { cFunctions } from '../service/libc.ts';
import { type Numbers, ownNumbers, programOf } from './seccomp-filter.ts';

const PIDFD_OPEN = 434;
/** Flags of seccomp(2): one that asks, and goes on asking although a signal has come (Linux 5.19), or a rename would be done twice. */
const [SET_FILTER, NEW_LISTENER, WAIT_KILLABLE] = [1, 8, 32];
/** Requests of ioctl(2), with the sizes of what they take. */
const [RECEIVE, SEND, IS_VALID] = [0xc0502100, 0xc0182101, 0x40082102];
const [NOTIFICATION_BYTES, ANSWER_BYTES] = [80, 24];
/** The flag of an answer that lets the kernel do it. */
const CONTINUE = 1;
const NO_NEW_PRIVS = 38;
const HERE = -100;
const PLACE = O_PATH | constants.O_DIRECTORY;
const POLL_IN = 1;
const PATH_MAX = 4096;
const [DOT, SLASH] = [46, 47];

const { EFAULT, EINVAL, ENAMETOOLONG, EPERM } = machine.errno;

const systemCalls = () =>
  cFunctions({
    syscall: { args: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64', 'u64'], returns: 'i32' },
    prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
    ioctl: { args: ['i32', 'u64', 'ptr'], returns: 'i32' },
    poll: { args: ['ptr', 'u64', 'i32'], returns: 'i32' },
    openat: { args: ['i32', 'ptr', 'i32', 'i32'], returns: 'i32' },
    __errno_location: { args: [], returns: 'ptr' },
  });

type SystemCalls = NonNullable<ReturnType<typeof systemCalls>>;

function errnoOf({ __errno_location: locate }: SystemCalls): number {
  const at = locate();
  return at ? read.i32(at, 0) : EPERM;
}

/** Something by its name in a directory that is held open. */
export interface Entry {
  place: number;
  name: Buffer;
}

/** What is asked for: something is to be deleted, or renamed. */
export interface Request {
  from: Entry;
  to: Entry | undefined;
  flags: number;
}

/** Something by its name in a directory, or an open file. */
export interface Target {
  /** A link to that in proc(5). */
  at: string;
  /** Empty for an open file itself. */
  name: Buffer;
}

/** Does what is asked for, or lets the kernel do it. */
interface Worker {
  /** @throws what has an errno */
  work(request: Request): void;
  /** Lets attributes be changed. @throws what has an errno */
  letChange(target: Target): void;
  /** Lets something get one more name. @throws what has an errno */
  letLink(from: Target, to: Target): void;
  /** Is told where it cannot be seen what is asked for: the kernel does it then. */
  overlook(): void;
  /** Whether it has something to tell, for which nothing is answered meanwhile. */
  readonly hasNews: boolean;
}

/** Why something was not done: errno(3). */
export class Errno extends Error {
  constructor(readonly errno: number) {
    super(`errno ${errno}`);
  }
}

/** Whether a name is that of a directory itself, or of the one above. */
const isStep = (name: Buffer) => name[0] === DOT && name.length <= 2 && (name.length === 1 || name[1] === DOT);

/** What was asked for cannot be read. */
class Unreadable extends Error {}

/** What the kernel tells of a system call. */
interface Call {
  id: bigint;
  pid: number;
  number: number;
  args: bigint[];
}

// ── What is asked for ────────────────────────────────────────────────────────────────────────────

/** Whether the kernel can ask before something is done, and what it asks about can be read. */
export function canAsk(): boolean {
  const [calls, numbers] = [systemCalls(), ownNumbers()];
  if (!calls || !numbers) return false;
  calls.syscall(numbers.seccomp, SET_FILTER, NEW_LISTENER | WAIT_KILLABLE, 0, 0, 0, 0n);
  return errnoOf(calls) === EFAULT && canRead(calls, numbers); // that filter is none, but all else was right
}

/** Whether memory of processes can be read, which engines of containers may forbid. */
function canRead({ syscall }: SystemCalls, { readv }: Numbers): boolean {
  const memory = Buffer.alloc(1);
  const part = ptr(new BigUint64Array([BigInt(ptr(memory)), 1n]));
  return syscall(readv, process.pid, part, 1, part, 1, 0n) === 1;
}

export class Filter {
  private readonly notification = Buffer.alloc(NOTIFICATION_BYTES);
  private readonly text = Buffer.alloc(2 * PATH_MAX);

  private constructor(
    private readonly calls: SystemCalls,
    private readonly numbers: Numbers,
    private readonly listener: number,
    private readonly secret: bigint,
  ) {}

  /** Has this thread and what it starts asked about from now on; nothing where that cannot be done, or somebody else has it done. */
  static install(): Filter | undefined {
    const [calls, numbers] = [systemCalls(), ownNumbers()];
    if (!calls || !numbers || !canRead(calls, numbers) || calls.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) !== 0) return undefined;
    const secret = randomBytes(8);
    const program = programOf(numbers, secret);
    const filter = Buffer.alloc(16);
    filter.writeUInt16LE(program.length / 8, 0);
    filter.writeBigUInt64LE(BigInt(ptr(program)), 8);
    const listener = calls.syscall(numbers.seccomp, SET_FILTER, NEW_LISTENER | WAIT_KILLABLE, ptr(filter), 0, 0, 0n);
    return listener < 0 ? undefined : new Filter(calls, numbers, listener, secret.readBigUInt64LE());
  }

  /**
   * Answers until a process has ended, or the worker has news; returns whether it has ended.
   * @param pid a process that this one has started
   */
  serve(pid: number, worker: Worker): boolean {
    const end = this.calls.syscall(PIDFD_OPEN, pid, 0, 0, 0, 0, 0n);
    if (end < 0) return true;
    const polled = Buffer.alloc(16);
    for (const [n, file] of [this.listener, end].entries()) {
      polled.writeInt32LE(file, 8 * n);
      polled.writeInt16LE(POLL_IN, 8 * n + 4);
    }
    const hasEnded = () => polled.readInt16LE(14) !== 0;
    while (!hasEnded() && !worker.hasNews) {
      if (this.calls.poll(ptr(polled), 2, -1) < 0) continue;
      const call = polled.readInt16LE(6) === 0 ? undefined : this.receive();
      if (call) this.answer(call, worker);
    }
    closeSync(end);
    return hasEnded();
  }

  /** Does all that an answer takes, to no effect: the first one would be late otherwise by what is compiled only then. */
  rehearse(worker: Worker): void {
    const path = Buffer.from('/proc/self/fd/none\0');
    const [here, at] = [BigInt.asUintN(64, BigInt(HERE)), BigInt(ptr(path))];
    const call = { id: 0n, pid: process.pid, number: this.numbers.renameat, args: [here, at, here, at] };
    for (const number of [call.number, ...this.numbers.open.slice(0, 1), ...this.numbers.below.slice(0, 1)])
      this.answer({ ...call, number }, worker); // nobody has asked that
    using opened = new Opened();
    const entry = this.entryOf(process.pid, { directory: HERE, text: this.read(process.pid, at) }, opened);
    for (const to of [entry, undefined]) {
      try {
        worker.work({ from: entry, to, flags: 0 });
      } catch {} // there is no such file
    }
  }

  private receive(): Call | undefined {
    const { notification } = this;
    notification.fill(0);
    if (this.calls.ioctl(this.listener, RECEIVE, ptr(notification)) !== 0) return undefined; // who asked has ended
    const args = [0, 1, 2, 3, 4, 5].map((n) => notification.readBigUInt64LE(32 + 8 * n));
    const [pid, number] = [notification.readUInt32LE(8), notification.readInt32LE(16)];
    return { id: notification.readBigUInt64LE(0), pid, number, args };
  }

  private answer(call: Call, worker: Worker): void {
    const answer = Buffer.alloc(ANSWER_BYTES);
    answer.writeBigUInt64LE(call.id, 0);
    try {
      using opened = new Opened();
      const isDone = this.handle(call, worker, opened);
      if (!isDone) answer.writeUInt32LE(CONTINUE, 20);
    } catch (cause) {
      if (cause instanceof Unreadable) answer.writeUInt32LE(CONTINUE, 20);
      else answer.writeInt32LE(-Math.abs((cause as NodeJS.ErrnoException).errno ?? EPERM), 16);
      if (cause instanceof Unreadable) worker.overlook();
    }
    this.calls.ioctl(this.listener, SEND, ptr(answer));
  }

  /** Does what is asked for; returns whether it has, or else the kernel is to do it. @throws what has an errno */
  private handle(call: Call, worker: Worker, opened: Opened): boolean {
    const { link, linkat, open, path, below } = this.numbers;
    const { pid, number, args } = call;
    const [first = 0n, second = 0n, third = 0n, fourth = 0n] = args;
    const target = (directory: bigint, text: bigint) => this.targetOf(pid, directory, text, opened);
    if (open.includes(number)) worker.letChange(target(first, 0n));
    else if (below.includes(number)) worker.letChange(target(first, second));
    else if (path.includes(number)) worker.letChange(target(BigInt(HERE), first));
    else if (number === linkat) worker.letLink(target(first, second), target(third, fourth));
    else if (number === link) worker.letLink(target(BigInt(HERE), first), target(BigInt(HERE), second));
    else {
      worker.work(this.requestOf(call, opened));
      return true;
    }
    return false;
  }

  /** Finds what a process names, as the kernel would; an open file where it gives no path. */
  private targetOf(pid: number, directory: bigint, address: bigint, opened: Opened): Target {
    const base = Number(BigInt.asIntN(32, directory));
    const at = base === HERE ? `/proc/${pid}/cwd` : `/proc/${pid}/fd/${base}`;
    const text = address === 0n ? Buffer.alloc(0) : this.read(pid, address);
    if (!text.includes(SLASH) && !isStep(text)) return { at, name: text };
    const name = text.subarray(text.lastIndexOf(SLASH) + 1);
    const whole = isStep(name) ? Buffer.concat([text, Buffer.from('/')]) : text;
    const entry = this.entryOf(pid, { directory: base, text: whole }, opened);
    return { at: `/proc/self/fd/${entry.place}`, name: entry.name.subarray(0, -1) };
  }

  private requestOf({ id, pid, number, args }: Call, opened: Opened): Request {
    const { unlink, unlinkat, rename } = this.numbers;
    const entry = (directory: number | bigint, path = 0n) => {
      const text = this.read(pid, path);
      return this.entryOf(pid, { directory: Number(BigInt.asIntN(32, BigInt(directory))), text }, opened);
    };
    const [first = 0n, second, third = 0n, fourth, flags = 0n] = args;
    const isPlain = number === unlink || number === rename;
    const from = isPlain ? entry(HERE, first) : entry(first, second);
    const isUnlink = number === unlink || number === unlinkat;
    const to = isUnlink ? undefined : isPlain ? entry(HERE, second) : entry(third, fourth);
    const valid = Buffer.alloc(8);
    valid.writeBigUInt64LE(id);
    if (this.calls.ioctl(this.listener, IS_VALID, ptr(valid)) !== 0) throw new Errno(EINVAL); // another process may have its number
    return { from, to, flags: number === this.numbers.renameat2 ? Number(flags) : 0 };
  }

  /** Reads a path from the memory of a process. @throws {Unreadable} */
  private read(pid: number, address: bigint): Buffer {
    const { text } = this;
    const first = BigInt(PATH_MAX) - (address % BigInt(PATH_MAX)); // the next page may not be there
    const local = new BigUint64Array([BigInt(ptr(text)), BigInt(text.length)]);
    const remote = new BigUint64Array([address, first, address + first, BigInt(PATH_MAX)]);
    const length = this.calls.syscall(this.numbers.readv, pid, ptr(local), 1, ptr(remote), 2, 0n);
    if (length < 0) throw new Unreadable();
    const end = text.subarray(0, length).indexOf(0);
    if (end < 0) throw new Errno(ENAMETOOLONG);
    return Buffer.from(text.subarray(0, end));
  }

  /** Opens the directory of what a process names, as the kernel would find it. */
  private entryOf(pid: number, { directory, text }: { directory: number; text: Buffer }, opened: Opened): Entry {
    const end = text.lastIndexOf('/') + 1;
    const base = directory === HERE ? `/proc/${pid}/cwd` : `/proc/${pid}/fd/${directory}`;
    const from = text[0] === SLASH ? HERE : opened.add(openSync(base, PLACE));
    const above = Buffer.concat([end > 0 ? text.subarray(0, end) : Buffer.from('.'), Buffer.alloc(1)]);
    const place = this.calls.openat(from, ptr(above), PLACE, 0);
    if (place < 0) throw this.failure();
    return { place: opened.add(place), name: Buffer.concat([text.subarray(end), Buffer.alloc(1)]) };
  }

  private failure(): Errno {
    return new Errno(errnoOf(this.calls));
  }

  // ── What is done ───────────────────────────────────────────────────────────────────────────────

  /** Deletes what is no directory. @throws {Errno} */
  unlink({ place, name }: Entry): void {
    if (this.calls.syscall(this.numbers.unlinkat, place, ptr(name), 0, 0, 0, this.secret) !== 0) throw this.failure();
  }

  /** Renames. @param flags as renameat2(2) has them @throws {Errno} */
  rename(from: Entry, to: Entry, flags = 0): void {
    const { renameat2 } = this.numbers;
    const status = this.calls.syscall(
      renameat2,
      from.place,
      ptr(from.name),
      to.place,
      ptr(to.name),
      flags,
      this.secret,
    );
    if (status !== 0) throw this.failure();
  }
}

/** Files that are closed together. */
class Opened implements Disposable {
  private readonly files: number[] = [];

  add(file: number): number {
    this.files.push(file);
    return file;
  }

  [Symbol.dispose](): void {
    for (const file of this.files) closeSync(file);
  }
}
