import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { isRoot, Pair } from '../pair.ts';
import { count, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const mayMount = isRoot && existsSync('/dev/fuse') && Bun.which('mount.exfat-fuse') && Bun.which('mkfs.exfat');
if (!mayMount) console.warn('SKIPPED: a backup that knows no letter case: needs root, exfat-fuse and exfatprogs');

const shell = (script: string, ...args: string[]) => {
  const { status, stderr } = spawnSync('sh', ['-ec', script, 'sh', ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
};

/** Mounts a new exFAT there until it is disposed of. */
function exfatAt(directory: string): Disposable {
  mkdirSync(directory);
  const make = 'truncate -s 32M "$1"; mkfs.exfat "$1" >/dev/null; disk=$(losetup -f --show "$1")';
  shell(`${make}; mount.exfat-fuse "$disk" "$2" >/dev/null; losetup -d "$disk"`, `${directory}.image`, directory);
  return { [Symbol.dispose]: () => shell('umount --lazy "$1"', directory) };
}

/** Whether the backup has these names, and a file holds what it should. */
function holds(pair: Pair, names: string[], [name, content]: [name: string, content: string]): true {
  expect(readdirSync(pair.path('backup')).sort()).toEqual(names);
  expect(readFileSync(pair.path('backup', name), 'utf8')).toBe(content);
  return true;
}

test.skipIf(!mayMount).each(['--delete', '--delete-after', '--delete-delay'])(
  'a file that is renamed in letter case only is kept where the backup tells no case, with %s',
  async (option) => {
    await using pair = await Pair.withKeys('letter-case');
    using _ = exfatAt(pair.path('backup'));
    const write = (name: string) => {
      writeFileSync(pair.path('source', name), name);
      utimesSync(pair.path('source', name), 1e9, 1e9);
    };
    for (const name of ['First', 'Second', 'Third', 'same']) write(name);
    const env = { RSYNC_OPTS: `-rt ${option}`, SYNC_INTERVAL: '0', RENAME_ON_TARGET: 'false' };
    const { source, backup } = await pair.run(env);
    expect(readdirSync(pair.path('backup')).sort()).toEqual(['First', 'Second', 'Third', 'same']);
    renameSync(pair.path('source', 'First'), pair.path('source', 'first'));
    await eventually(() => holds(pair, ['Second', 'Third', 'first', 'same'], ['first', 'First']));
    await source.stop();
    renameSync(pair.path('source', 'Second'), pair.path('source', 'second')); // a comparison of all finds that
    const again = pair.start('rsync-inotify', { ...env, RENAME_ON_TARGET: 'true' });
    await again.shows('✓ 服务运行中');
    holds(pair, ['Third', 'first', 'same', 'second'], ['second', 'Second']);
    renameSync(pair.path('source', 'Third'), pair.path('source', 'third'));
    await eventually(() => holds(pair, ['first', 'same', 'second', 'third'], ['third', 'Third']));
    expect(count(backup.output, '按 --delete-during 执行')).toBe(option === '--delete' ? 0 : 1);
  },
);
