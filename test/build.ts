/** Builds the two binaries before the tests where they are older than what they are made of. */

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dir, '..');
const age = (...path: string[]) => statSync(join(root, ...path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
const scripts = readdirSync(join(root, 'scripts')).map((name) => age('scripts', name));
const newest = Math.max(age('package.json'), age('bun.lockb'), ...scripts);

if (['rsync-inotify', 'start-sshd'].some((name) => age('dist', name) < newest)) {
  const built = spawnSync(process.execPath, ['run', 'build'], { cwd: root, encoding: 'utf8' });
  if (built.status !== 0) throw new Error(`bun run build failed:\n${built.stdout}${built.stderr}`);
}
