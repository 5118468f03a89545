/**
 * Becomes a program for which the kernel has no Landlock: what holds there does not hang on that alone.
 *
 *   bun test/without-landlock.ts PROGRAM [ARGUMENT...]
 */
import { dlopen, ptr } from 'bun:ffi';
import { existsSync } from 'node:fs';

/** A rule of seccomp(2): what to do, where to go on if it is so and if not, and with which number. */
const rule = (code: number, ifSo: number, ifNot: number, number: number) => {
  const bytes = Buffer.from([code, 0, ifSo, ifNot, 0, 0, 0, 0]);
  bytes.writeUInt32LE(number, 4);
  return bytes;
};

const [LOAD, IS_EQUAL, RETURN] = [0x20, 0x15, 0x06];
const [CREATE_RULESET, ALLOWED, NOT_IMPLEMENTED] = [444, 0x7fff0000, 0x50026];
const [SET_SECCOMP, FILTER, NO_NEW_PRIVS] = [22, 2, 38];

const isMusl = existsSync('/etc/alpine-release');
const { prctl } = dlopen(isMusl ? `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1` : 'libc.so.6', {
  prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' },
}).symbols;
const rules = Buffer.concat([
  rule(LOAD, 0, 0, 0), // the number of the call
  rule(IS_EQUAL, 0, 1, CREATE_RULESET),
  rule(RETURN, 0, 0, NOT_IMPLEMENTED),
  rule(RETURN, 0, 0, ALLOWED),
]);
const filter = new BigUint64Array([BigInt(rules.length / 8), BigInt(ptr(rules))]);
if (prctl(NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(SET_SECCOMP, FILTER, ptr(filter), 0, 0)) throw new Error('seccomp');
const [program = '', ...args] = process.argv.slice(2);
process.execve?.(program, [program, ...args], process.env);
