import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Archive } from '../../../src/backup/history-archive.ts';
import { Recovery } from '../../../src/backup/history-recover.ts';
import { isRoot } from '../../pair.ts';
import { scratch } from '../service/scratch.ts';

const MAKERS = { btrfs: 'mkfs.btrfs -q', xfs: 'mkfs.xfs -q -m reflink=1', ext4: 'mkfs.ext4 -q' };
const SIZE = 32_000_000;

const shell = (script: string, ...args: string[]) => spawnSync('sh', ['-ec', script, 'sh', ...args]).status === 0;

/** Mounts a new file system until it is disposed of; nothing where that is not possible here. */
function mount(type: keyof typeof MAKERS, directory: string): Disposable | undefined {
  mkdirSync(directory);
  const script = `truncate -s 400M "$1"; ${MAKERS[type]} "$1"; mount -o loop -t ${type} "$1" "$2"`;
  if (!shell(script, `${directory}.image`, directory)) return undefined;
  return { [Symbol.dispose]: () => void shell('umount "$1"', directory) };
}

/** How much is in use, bytes. */
function used(path: string): number {
  spawnSync('sync', ['-f', path]);
  const { blocks, bfree, bsize } = statfsSync(path);
  return (blocks - bfree) * bsize;
}

for (const type of Object.keys(MAKERS) as (keyof typeof MAKERS)[]) {
  const hasTools = isRoot && Bun.which(`mkfs.${type}`) !== null;
  if (!hasTools) console.warn(`SKIPPED: versions on ${type}: needs root and mkfs.${type}`);
  test.skipIf(!hasTools)(
    `a file that is recovered takes room once where the file system shares it: ${type}`,
    async () => {
      using place = scratch();
      const disk = join(place.path, 'disk');
      using mounted = mount(type, disk);
      if (!mounted) return console.warn(`SKIPPED: ${type} cannot be mounted here`);
      const root = join(disk, 'backup');
      mkdirSync(join(root, '.history', 'now-1-2'), { recursive: true });
      const content = Buffer.alloc(SIZE, 'content ');
      writeFileSync(join(root, 'file'), content);
      await Bun.sleep(25);
      const at = Date.now();
      await Bun.sleep(25);
      renameSync(join(root, 'file'), join(root, '.history', 'now-1-2', 'file'));
      const [to, before] = [join(disk, 'to'), used(disk)];
      mkdirSync(to);
      {
        using archive = new Archive(root);
        using recovery = new Recovery(archive, { at, to, paths: [] });
        expect(recovery.run().files).toBe(1);
      }
      expect(readFileSync(join(to, 'file')).equals(content)).toBe(true);
      const isShared = used(disk) - before < SIZE / 4;
      expect(isShared).toBe(type !== 'ext4');
    },
  );
}
