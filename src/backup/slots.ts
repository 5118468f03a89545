/**
 * How many commands may run for the source's key at a time: each holds a lock that the kernel takes from it when it has ended, however
 * that was.
 *
 *   if (!takeSlot('/run/start-sshd-x/slots', MAX_COMMANDS)) throw new Refusal('…');
 *   return become('/usr/bin/rsync', ['rsync', '--server', …], process.env); // which holds it on
 */
import { ptr } from 'bun:ffi';
import { closeSync, constants, openSync } from 'node:fs';
import { cFunctions } from '../service/libc.ts';
import { t } from '../service/text.ts';

/**
 * How many commands may run at a time. A source needs two or three for each directory that it mirrors into, an rsync that waits, one that
 * transfers, and for moments one that renames or asks; five leave room for more that wait. After a cable was cut, those before are there
 * for another minute: 64 are enough for six directories with five each, and as many that end. sshd allows each connection ten.
 */
export const MAX_COMMANDS = 64;
/** How many of them may be this program itself, at the wish of the source: one takes 9 MB, an rsync that waits 1 MB. One a directory is needed. */
export const MAX_HELPERS = 16;
/** How many may be this program while it waits for something to do: one a directory, and as many that end. Those beyond do without. */
export const MAX_WAITING = 16;

/** Commands and values of fcntl(2), the same on every machine that Bun knows. */
const [SET_FLAGS, SET_LOCK] = [2, 37];
const [SHARED, EXCLUSIVE] = [0, 1];

const calls = () =>
  cFunctions({
    fcntl: { args: ['i32', 'i32', 'ptr'], returns: 'i32' },
    execve: { args: ['ptr', 'ptr', 'ptr'], returns: 'i32' },
  });

/**
 * Takes one of the slots for as long as this process runs, or what it becomes; returns whether one was free. Where the kernel keeps no
 * such locks, all are.
 * @param file in which each byte stands for a slot
 */
export function takeSlot(file: string, most: number): boolean {
  const { fcntl } = calls() ?? {};
  if (!fcntl) return true;
  const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o600);
  const lock = (type: number, byte: number) => fcntl(descriptor, SET_LOCK, ptr(lockOf(type, byte))) === 0;
  for (let slot = 0; slot < most; slot++) {
    if (!lock(EXCLUSIVE, slot)) continue;
    fcntl(descriptor, SET_FLAGS, null); // it stays open in what this process becomes
    return true;
  }
  const canLock = lock(SHARED, most);
  closeSync(descriptor);
  return !canLock;
}

/** Makes a struct flock for one byte of a file: fcntl(2). */
function lockOf(type: number, byte: number): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(byte), 8);
  lock.writeBigInt64LE(1n, 16);
  return lock;
}

/**
 * Becomes another program: execve(2). Bun's own call closes all files but the first three, and with that one the slot would be free.
 * @throws where that is not possible
 */
export function become(program: string, words: string[], env: NodeJS.ProcessEnv): never {
  const strings: Buffer[] = [];
  const pointerTo = (text: string) => ptr(strings[strings.push(Buffer.from(`${text}\0`)) - 1] as Buffer);
  const list = (texts: string[]) => new BigUint64Array([...texts.map((text) => BigInt(pointerTo(text))), 0n]);
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const [argv, envp] = [list(words), list(variables)];
  calls()?.execve(pointerTo(program), ptr(argv), ptr(envp));
  throw new Error(t`${program} 无法启动`);
}
