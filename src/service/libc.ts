/**
 * Functions of the C library that Bun has none for.
 *
 *   cFunctions({ getpid: { args: [], returns: 'i32' } })?.getpid();
 */
import { dlopen, type FFIFunction } from 'bun:ffi';

/** Finds functions of the C library, nothing where there is none that it knows. */
export function cFunctions<const F extends Record<string, FFIFunction>>(functions: F) {
  const musl = `libc.musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`;
  for (const name of ['libc.so.6', musl]) {
    try {
      return dlopen(name, functions).symbols;
    } catch {}
  }
}
