/** Key pairs as ssh-keygen makes them. */

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from './scratch.ts';

export const KEY_TYPES = ['rsa', 'ecdsa', 'ed25519'] as const;

/** Makes a pair at `path`; returns the public half. */
export function makeKeyFile(path: string, ...options: string[]): string {
  const { status, stderr } = spawnSync('ssh-keygen', ['-q', ...options, '-N', '', '-C', '备份 root@host', '-f', path]);
  if (status !== 0) throw new Error(`ssh-keygen ${options.join(' ')}: ${stderr}`);
  return readFileSync(`${path}.pub`, 'utf8');
}

/** The halves of a key of each type, which take time to make. */
let halves: [secret: string, open: string][] | undefined;

function makeHalves(): [secret: string, open: string][] {
  using directory = scratch();
  return KEY_TYPES.map((type) => {
    const file = join(directory.path, type);
    const open = makeKeyFile(file, '-t', type);
    return [readFileSync(file, 'utf8'), open];
  });
}

/** Calls with a directory of its own, in which there is a key of each type. */
export function withKeys(check: (directory: string, keys: string[]) => void): void {
  using directory = scratch();
  halves ??= makeHalves();
  for (const [n, [secret, open]] of halves.entries()) {
    const file = join(directory.path, KEY_TYPES[n] ?? '');
    writeFileSync(file, secret, { mode: 0o600 });
    writeFileSync(`${file}.pub`, open);
  }
  check(
    directory.path,
    halves.map(([, open]) => open),
  );
}
