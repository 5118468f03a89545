/**
 * What sshd says, record by record. It passes on user names with the line ends that a client has put into them, so that by lines
 * anybody could have it say anything; but it writes each record at once, and to a socket that keeps apart what is written.
 *
 *   const records = openRecords();
 *   const child = startOnLeash(records.leading(['sshd', '-D', '-e']), 'ignore', '', records.file);
 *   records.follow(child, (words) => …);
 */
import { ptr } from 'bun:ffi';
import type { ChildProcess } from 'node:child_process';
import { closeSync } from 'node:fs';
import { cFunctions } from '../service/libc.ts';

/** Of Linux on all machines that Bun is for: socket(2), recv(2). */
const [AF_UNIX, SOCK_SEQPACKET, SOCK_CLOEXEC, MSG_DONTWAIT] = [1, 5, 0o2000000, 0x40];
/** Commands of fcntl(2), and how a file is asked to tell by SIGIO that there is something: nothing of Bun's keeps records apart. */
const [SET_STATUS, SET_OWNER, O_ASYNC] = [4, 8, 0o20000];
/** How often it is looked whether there is something, ms: where nothing tells, and where it is told, for which a signal may still be lost. */
const [UNTOLD_MS, TOLD_MS] = [250, 5000];
/** How long a record may be, bytes: sshd's have no more than 1024. */
const MAX_RECORD = 8192;

/** Opens a socket for records, nothing where the C library cannot be asked. */
export function openRecords(): Records | undefined {
  const calls = cFunctions({
    socketpair: { args: ['i32', 'i32', 'i32', 'ptr'], returns: 'i32' },
    recv: { args: ['i32', 'ptr', 'u64', 'i32'], returns: 'i32' },
    fcntl: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  });
  const ends = new Int32Array(2);
  if (calls?.socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ptr(ends)) !== 0) return undefined;
  const [end = -1, file = -1] = ends;
  const record = Buffer.alloc(MAX_RECORD);
  const take = () => {
    const length = calls.recv(end, ptr(record), record.length, MSG_DONTWAIT);
    return length > 0 ? record.toString('utf8', 0, length) : undefined;
  };
  /** Has `drain` called when there is something; returns whether that could be had. The signal would end us if nobody heard it. */
  const tell = (drain: () => void) => {
    process.on('SIGIO', drain);
    const isOwned = calls.fcntl(end, SET_OWNER, process.pid) === 0;
    return isOwned && calls.fcntl(end, SET_STATUS, O_ASYNC) === 0;
  };
  return new Records(file, take, tell);
}

class Records {
  /**
   * @param file the descriptor that the program is to write to
   * @param take reads a record, nothing where there is none now
   * @param tell has a function called when there is something to be read; returns whether it will be
   */
  constructor(
    readonly file: number,
    private readonly take: () => string | undefined,
    private readonly tell: (drain: () => void) => boolean,
  ) {}

  /** Has a command that gets the descriptor as its number 4 write its errors there. */
  leading(command: string[]): string[] {
    return ['/bin/sh', '-c', 'exec "$@" 2>&4 4>&-', 'sh', ...command];
  }

  /** Hands each record of a started program to `hear`, without its line end; all of them before others hear that it has ended. */
  follow(child: ChildProcess, hear: (words: string) => void): void {
    closeSync(this.file);
    const drain = () => {
      for (let words = this.take(); words !== undefined; words = this.take()) hear(words.replace(/\r?\n$/, ''));
    };
    const looking = setInterval(drain, this.tell(drain) ? TOLD_MS : UNTOLD_MS);
    drain(); // what was said before that
    for (const event of ['exit', 'close']) child.once(event, drain);
    for (const event of ['error', 'close']) child.once(event, () => clearInterval(looking));
  }
}
