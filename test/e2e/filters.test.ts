/** Filter rules on a list of names: what a change costs, and what comes to the backup, is as without a list. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair } from '../pair.ts';
import { count, eventually, type Program } from '../processes.ts';

setDefaultTimeout(120_000);

/** Large enough to be worth a rename. */
const SIZE = 300_000;
const AT_ONCE = { SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0' };

function write(pair: Pair, ...names: string[]): void {
  const content = Buffer.alloc(SIZE, 'content');
  for (const name of names) {
    mkdirSync(dirname(pair.path('source', name)), { recursive: true });
    writeFileSync(pair.path('source', name), content);
  }
}

const isOnBackup = (pair: Pair, name: string) => existsSync(pair.path('backup', name));
const arrives = (pair: Pair, name: string) => eventually(() => isOnBackup(pair, name));
/** How many entries each rsync has looked at, the first full sync and what was in doubt then first. */
const looked = (source: Program) =>
  [...source.output.matchAll(/^Number of files: ([\d,]+)/gm)].map(([, n]) => Number(n?.replaceAll(',', '')));

describe.concurrent('with filter rules', () => {
  test('what lies in an excluded directory is not sent, and a change costs what it weighs', async () => {
    await using pair = await Pair.withKeys('filters');
    write(pair, 'node_modules/a/b', ...Array.from({ length: 50 }, (_, n) => `web/${n}`));
    const RSYNC_OPTS = "-a --delete --stats --exclude=node_modules --include='*.keep.tmp' --exclude='*.tmp'";
    const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS });
    write(pair, 'node_modules/a/b', 'node_modules/a/c', 'web/node_modules/x', 'web/x.tmp');
    write(pair, 'web/x.keep.tmp');
    await arrives(pair, 'web/x.keep.tmp');
    write(pair, 'web/last');
    await arrives(pair, 'web/last');
    for (const name of ['node_modules', 'web/node_modules', 'web/x.tmp']) expect(isOnBackup(pair, name)).toBe(false);
    await eventually(() => (looked(source).at(-1) ?? 9) < 5); // it says so once the file is there
  });

  test('what is another kind of thing now, which a rule does not let in, is gone from the backup', async () => {
    await using pair = await Pair.withKeys('filters-kind');
    write(pair, 'cache', 'd/cache');
    await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-a --delete --exclude=cache/' });
    await arrives(pair, 'd/cache');
    for (const name of ['cache', 'd/cache']) rmSync(pair.path('source', name));
    write(pair, 'cache/deep/file', 'd/cache/file');
    await eventually(() => !isOnBackup(pair, 'cache') && !isOnBackup(pair, 'd/cache'));
    rmSync(pair.path('source', 'cache'), { recursive: true });
    write(pair, 'cache');
    await arrives(pair, 'cache');
  });

  test('rules in files mean the same, line by line', async () => {
    await using pair = await Pair.withKeys('filters-files');
    writeFileSync(pair.path('rules'), '# comment\n; comment\n\n+ *.keep.log\n*.log\r\n/build/\n');
    const RSYNC_OPTS = `-a --delete --exclude-from=${pair.path('rules')}`;
    const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS });
    write(pair, 'a.log', 'build/x', '# comment', 'web/build/x', 'a.keep.log', 'last');
    for (const name of ['web/build/x', 'a.keep.log', '# comment', 'last']) await arrives(pair, name);
    for (const name of ['a.log', 'build']) expect(isOnBackup(pair, name)).toBe(false);
    expect(source.output).not.toContain('同步失败');
  });

  test('the time of the source itself is mirrored, also where all but a few names are left out', async () => {
    await using pair = await Pair.withKeys('filters-time');
    write(pair, 'x');
    const RSYNC_OPTS = "-a --delete --filter='- /x' --filter=! --include=/x --exclude='*'";
    await pair.run({ ...AT_ONCE, RSYNC_OPTS });
    const time = (root: string) => statSync(pair.path(root)).mtimeMs;
    await eventually(() => time('backup') === time('source'));
    write(pair, 'left out');
    await eventually(() => time('backup') === time('source'));
    rmSync(pair.path('source', 'x'));
    await eventually(() => !isOnBackup(pair, 'x') && time('backup') === time('source'));
    expect(isOnBackup(pair, 'left out')).toBe(false);
  });

  test('what no rule is about is renamed on the target', async () => {
    await using pair = await Pair.withKeys('filters-renames');
    write(pair, 'file', 'directory/file', 'other/file', 'other/deep/file');
    const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-a --delete --exclude=*.tmp' });
    const inode = (name: string) => statSync(pair.path('backup', name)).ino;
    const [file, other] = [inode('file'), inode('other')];
    renameSync(pair.path('source', 'file'), pair.path('source', 'renamed'));
    await eventually(() => isOnBackup(pair, 'renamed') && !isOnBackup(pair, 'file'));
    expect(inode('renamed')).toBe(file);
    writeFileSync(pair.path('backup', 'other', 'kept.tmp'), ''); // as a run of rsync keeps it where it is
    renameSync(pair.path('source', 'other'), pair.path('source', 'another'));
    await eventually(() => isOnBackup(pair, 'another/deep/file') && !isOnBackup(pair, 'other/deep'));
    expect(isOnBackup(pair, 'another/kept.tmp')).toBe(false);
    expect(inode('another')).not.toBe(other);
    expect(count(source.output, '同步失败')).toBeLessThanOrEqual(1); // the directory that cannot be deleted
  });
});

describe.if(mayHaveNamespace())('with -x', () => {
  test('what is mounted below the source is not sent, and a change costs what it weighs', async () => {
    await using pair = await Pair.withKeys('one-file-system');
    await using namespace = await Namespace.make();
    write(pair, 'disk/under', 'elsewhere/gone', 'elsewhere/stays', ...Array.from({ length: 50 }, (_, n) => `web/${n}`));
    namespace.run('mount -t tmpfs tmpfs "$1"', pair.path('source', 'disk'));
    mkdirSync(pair.path('backup', 'elsewhere'), { recursive: true });
    namespace.run('mount -t tmpfs tmpfs "$1"', pair.path('backup', 'elsewhere'));
    pair.start('start-sshd', {}, namespace.wrapper);
    const env = { ...AT_ONCE, RSYNC_OPTS: '-ax --delete --stats' };
    const source = pair.start('rsync-inotify', env, namespace.wrapper);
    await source.shows('✓ 服务运行中');
    namespace.run('mkdir -p "$1/deep" && echo x > "$1/file" && echo x > "$1/deep/file"', pair.path('source', 'disk'));
    write(pair, 'web/last');
    await arrives(pair, 'web/last');
    await arrives(pair, 'disk');
    expect(isOnBackup(pair, 'disk/file')).toBe(false);
    expect(isOnBackup(pair, 'disk/deep')).toBe(false);
    await eventually(() => (looked(source).at(-1) ?? 9) < 5); // it says so once the file is there
    rmSync(pair.path('source', 'elsewhere', 'gone'));
    rmSync(pair.path('source', 'web', '1'));
    await eventually(() => !isOnBackup(pair, 'web/1'));
    // rsync does not go into what is mounted in the backup to delete there
    expect(namespace.run('ls "$1"', pair.path('backup', 'elsewhere'))).toBe('gone\nstays\n');
  });
});
