/** Builds the programs before the tests where they are older than what they are made of. */

import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { binary, bundle, ROOT } from './project.ts';

const age = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
/** When a directory, or anything below it, was changed last: what was removed shows in the directory alone. */
const ageOfAll = (directory: string) =>
  Math.max(
    age(directory),
    ...readdirSync(directory, { recursive: true }).map((name) => age(join(directory, `${name}`))),
  );

const directories = ['scripts', 'src'].map((name) => ageOfAll(join(ROOT, name)));
const newest = Math.max(age(join(ROOT, 'package.json')), age(join(ROOT, 'bun.lockb')), ...directories);
const built = ['rsync-inotify', 'start-sshd'].flatMap((name) => [binary(name), bundle(name)]);

if (built.some((file) => age(file) < newest)) {
  const build = spawnSync(process.execPath, ['run', 'build'], { cwd: ROOT, encoding: 'utf8' });
  if (build.status !== 0) throw new Error(`bun run build failed:\n${build.stdout}${build.stderr}`);
}
