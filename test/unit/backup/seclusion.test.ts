import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { canSeclude } from '../../../src/backup/seclusion.ts';
import { ROOT } from '../../project.ts';
import { scratch } from '../service/scratch.ts';

if (!canSeclude()) console.warn('SKIPPED: the seclusion: this user may have no mounts of its own');

test.skipIf(!canSeclude())(
  'that is only for reading shows a directory but for one thing in it, and lets nothing be written',
  () => {
    using directory = scratch();
    const root = join(directory.path, 'root');
    for (const name of ['shown/deep', '.history']) mkdirSync(join(root, name), { recursive: true });
    for (const name of ['shown/deep/file', '.history/file', '../outside']) writeFileSync(join(root, name), '');
    const script = `
  import { spawnSync } from 'node:child_process';
  import { readFileSync, writeFileSync } from 'node:fs';
  import { secludeForReading } from '${join(ROOT, 'src', 'backup', 'seclusion.ts')}';
  import { neededBy } from '${join(ROOT, 'src', 'backup', 'confinement.ts')}';
  const told = [secludeForReading('${root}', '.history', neededBy('/bin/cat'))];
  const tell = (act) => {
    try {
      act();
      told.push('done');
    } catch (cause) {
      told.push(cause.code);
    }
  };
  for (const name of ['shown/deep/file', '.history/file', '../outside']) tell(() => readFileSync('${root}/' + name));
  for (const name of ['new', 'shown/deep/file']) tell(() => writeFileSync('${root}/' + name, ''));
  for (const name of ['shown/deep/file', '../outside']) told.push(spawnSync('cat', ['${root}/' + name]).status);
  console.log(JSON.stringify(told));
  process.exit(0);`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--no-env-file', '-e', script], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual([true, 'done', 'ENOENT', 'ENOENT', 'EROFS', 'EROFS', 0, 1]);
  },
);
