/** A file system that knows neither letter case nor owners, modes, links and some characters, for backups of tests. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { isRoot } from './pair.ts';

/** Whether this machine lets a test have one. */
export const mayHaveExfat =
  isRoot && existsSync('/dev/fuse') && Bun.which('mount.exfat-fuse') !== null && Bun.which('mkfs.exfat') !== null;
if (!mayHaveExfat) console.warn('SKIPPED: a backup on exFAT: needs root, exfat-fuse and exfatprogs');

const shell = (script: string, ...args: string[]) => {
  const { status, stderr } = spawnSync('sh', ['-ec', script, 'sh', ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
};

/** Mounts a new exFAT in a new directory until it is disposed of. */
export function exfatAt(directory: string): Disposable {
  mkdirSync(directory);
  const make = 'truncate -s 32M "$1"; mkfs.exfat "$1" >/dev/null; disk=$(losetup -f --show "$1")';
  shell(`${make}; mount.exfat-fuse "$disk" "$2" >/dev/null; losetup -d "$disk"`, `${directory}.image`, directory);
  return { [Symbol.dispose]: () => shell('umount --lazy "$1"', directory) };
}
