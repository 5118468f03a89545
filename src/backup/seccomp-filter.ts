/**
 * The filter of seccomp(2) by which the kernel asks before something is renamed, deleted, linked, or has its attributes changed.
 *
 *   const numbers = ownNumbers();
 *   if (numbers) install(programOf(numbers, randomBytes(8)));
 */

/** Numbers of system calls, which differ between machines; those that are asked about stand under what is asked for. */
const NUMBERS = {
  x64: {
    ...{ arch: 0xc000003e, unlink: 87, unlinkat: 263, rename: 82, renameat: 264, renameat2: 316 },
    ...{ seccomp: 317, readv: 310, link: 86, linkat: 265 },
    /** Change attributes of an open file: fchmod, fchown, fsetxattr, fremovexattr. */
    open: [91, 93, 190, 199],
    /** Those of a path: chmod, chown, lchown, utime, utimes, setxattr, lsetxattr, removexattr, lremovexattr. */
    path: [90, 92, 94, 132, 235, 188, 189, 197, 198],
    /** Those of a path that may be relative to an open directory: fchmodat, fchownat, futimesat, utimensat, and later ones. */
    below: [268, 260, 261, 280],
  },
  arm64: {
    ...{ arch: 0xc00000b7, unlink: -1, unlinkat: 35, rename: -1, renameat: 38, renameat2: 276 },
    ...{ seccomp: 277, readv: 270, link: -1, linkat: 37 },
    ...{ open: [52, 55, 7, 16], path: [5, 6, 14, 15], below: [53, 54, 88] },
  },
};
/** The same on every machine: fchmodat2, setxattrat, removexattrat, file_setattr. */
const LATER = [452, 463, 466, 469];
export type Numbers = (typeof NUMBERS)['x64'];

/** The numbers of this machine, nothing where they are not known. */
export function ownNumbers(): Numbers | undefined {
  const numbers = process.arch === 'x64' || process.arch === 'arm64' ? NUMBERS[process.arch] : undefined;
  return numbers && { ...numbers, below: [...numbers.below, ...LATER] };
}

const REMOVE_DIRECTORY = 0x200;
/** Instructions of the filter: load a word of what is known of the call, compare it, return. */
const [LOAD, IS_EQUAL, HAS_BIT, RETURN] = [0x20, 0x15, 0x45, 0x06];
const [ALLOW, ASK] = [0x7fff0000, 0x7fc00000];
/** Where in that the words are: the number, the machine, and the arguments, of which each is two. */
const [AT_NUMBER, AT_ARCH] = [0, 4];
const atArgument = (n: number, half: 0 | 1) => 16 + 8 * n + 4 * half;

type Instruction = [operation: number, yes: number, no: number, value: number];

/** Writes the filter. A call of our own is known by its last argument, which no such call has. */
export function programOf(numbers: Numbers, secret: Buffer): Buffer {
  const { arch, unlinkat, unlink, rename, renameat, renameat2, link, linkat, open, path, below } = numbers;
  const asked = [rename, renameat, renameat2, unlink, link, linkat, ...open, ...path, ...below].filter((n) => n >= 0);
  const tail: Instruction[] = [
    [LOAD, 0, 0, atArgument(2, 0)], // a directory goes only where it is empty
    [HAS_BIT, 5, 0, REMOVE_DIRECTORY],
    [LOAD, 0, 0, atArgument(5, 0)],
    [IS_EQUAL, 0, 2, secret.readUInt32LE(0)],
    [LOAD, 0, 0, atArgument(5, 1)],
    [IS_EQUAL, 1, 0, secret.readUInt32LE(4)],
    [RETURN, 0, 0, ASK],
    [RETURN, 0, 0, ALLOW],
  ];
  const isAsked = asked.map((number, n): Instruction => [IS_EQUAL, asked.length - n + 2, 0, number]);
  const head: Instruction[] = [
    [LOAD, 0, 0, AT_ARCH],
    [IS_EQUAL, 0, asked.length + 9, arch],
    [LOAD, 0, 0, AT_NUMBER],
  ];
  return encode([...head, ...isAsked, [IS_EQUAL, 0, tail.length - 1, unlinkat], ...tail]);
}

function encode(code: readonly Instruction[]): Buffer {
  const program = Buffer.alloc(8 * code.length);
  for (const [n, [operation, yes, no, value]] of code.entries()) {
    program.writeUInt16LE(operation, 8 * n);
    program.writeUInt8(yes, 8 * n + 2);
    program.writeUInt8(no, 8 * n + 3);
    program.writeUInt32LE(value, 8 * n + 4);
  }
  return program;
}
