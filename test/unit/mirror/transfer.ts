/** A transfer by rsync between two directories: what it printed, and what it put down in a log. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { scratch } from '../service/scratch.ts';

/** Copies three files of 350,000 bytes together, and an empty one whose name looks like the end of a log. */
export function transfer(options: string[], use: (report: string, output: string) => void): void {
  using directory = scratch();
  const from = join(directory.path, 'from');
  mkdirSync(join(from, 'sub'), { recursive: true });
  for (const name of ['a', 'b', 'sub/c']) writeFileSync(join(from, name), name.repeat(50_000));
  writeFileSync(join(from, ' sent 9 bytes  received 9 bytes '), '');
  const log = join(directory.path, 'log');
  const args = [...options, '--whole-file', `--log-file=${log}`, '--log-file-format=%i', 'from/', 'to/'];
  const { stdout } = spawnSync('rsync', args, { cwd: directory.path, encoding: 'latin1' });
  use(readFileSync(log, 'latin1'), stdout);
}
