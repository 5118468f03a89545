/** Key pairs as ssh-keygen makes them. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from './scratch.ts';

export const KEY_TYPES = ['rsa', 'ecdsa', 'ed25519'] as const;

/** Makes a pair at `path`; returns the public half. */
export function makeKeyFile(path: string, ...options: string[]): string {
  const { status, stderr } = spawnSync('ssh-keygen', ['-q', ...options, '-N', '', '-C', '备份 root@host', '-f', path]);
  if (status !== 0) throw new Error(`ssh-keygen ${options.join(' ')}: ${stderr}`);
  return readFileSync(`${path}.pub`, 'utf8');
}

/** Calls with a directory of its own, in which there is a key of each type. */
export function withKeys(check: (directory: string, keys: string[]) => void): void {
  using directory = scratch();
  const keys = KEY_TYPES.map((type) => makeKeyFile(join(directory.path, type), '-t', type));
  check(directory.path, keys);
}
