/** The source directory itself: covered, replaced, another disk, or a link that leads elsewhere now. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { tellMeanwhile } from '../command.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair } from '../pair.ts';
import { content, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const namesIn = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
const problemsOf = (pair: Pair): string[] =>
  (JSON.parse(content(pair.path('source-status.json')) || '{}').problems ?? []).map(
    ({ problem }: { problem: string }) => problem,
  );

/** How soon it is to be noticed, ms. */
const SOON = 5000;

describe.concurrent('a source whose path is a link', () => {
  /** A pair with two releases, of which `current` leads to the first. */
  async function withReleases(name: string) {
    const pair = await Pair.withKeys(name);
    for (const release of ['one', 'two']) {
      mkdirSync(pair.path('releases', release, 'deep'), { recursive: true });
      writeFileSync(pair.path('releases', release, 'deep', release), release);
      writeFileSync(pair.path('releases', release, 'same'), release);
    }
    symlinkSync('one', pair.path('releases', 'current'));
    const SOURCE_DIR = `${pair.path('releases', 'current')}/`;
    const { source } = await pair.run({ SOURCE_DIR, SYNC_INTERVAL: '0' });
    expect(namesIn(pair.path('backup'))).toEqual(['deep', 'deep/one', 'same']);
    const flip = (to: string) => {
      symlinkSync(to, pair.path('releases', 'next'));
      renameSync(pair.path('releases', 'next'), pair.path('releases', 'current'));
    };
    return { pair, source, flip, SOURCE_DIR, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
  }

  test('is followed to the next release, which is watched from then on, and back', async () => {
    await using bed = await withReleases('flip');
    const { pair, source, flip } = bed;
    const began = performance.now();
    flip('two');
    await source.shows(/\[WARN .*\] 源目录 .*current\/ 现在指向 .*releases\/two（原为 .*releases\/one）/);
    expect(performance.now() - began).toBeLessThan(SOON);
    await eventually(() => `${namesIn(pair.path('backup'))}` === 'deep,deep/two,same');
    writeFileSync(pair.path('releases', 'two', 'deep', 'later'), '');
    await eventually(() => namesIn(pair.path('backup')).includes('deep/later'));
    await eventually(() => problemsOf(pair).length === 0);
    flip('one');
    expect(await tellMeanwhile(pair, '--sync')).toMatchObject({ status: 0 });
    expect(namesIn(pair.path('backup'))).toEqual(['deep', 'deep/one', 'same']);
    writeFileSync(pair.path('releases', 'two', 'deep', 'unseen'), '');
    writeFileSync(pair.path('releases', 'one', 'seen'), '');
    await eventually(() => namesIn(pair.path('backup')).includes('seen'));
    expect(namesIn(pair.path('backup'))).toEqual(['deep', 'deep/one', 'same', 'seen']);
  });

  test('is followed nowhere that is empty or missing, and resumes when it leads back', async () => {
    await using bed = await withReleases('flip-empty');
    const { pair, source, flip } = bed;
    const before = namesIn(pair.path('backup'));
    mkdirSync(pair.path('releases', 'empty'));
    for (const where of ['empty', 'nowhere']) {
      const began = performance.now();
      const offset = source.output.length;
      flip(where);
      await source.shows(/\[ERROR .*\] 源目录 .*(已不是启动时的目录|不见了)，为保护备份拒绝同步/, offset);
      expect(performance.now() - began).toBeLessThan(SOON);
      await eventually(() => problemsOf(pair).includes('source'));
      await sleep(1500);
      expect(namesIn(pair.path('backup'))).toEqual(before);
      flip('one');
      await source.shows('已恢复', offset);
    }
    writeFileSync(pair.path('releases', 'one', 'after'), '');
    await eventually(() => namesIn(pair.path('backup')).includes('after'));
    await eventually(() => problemsOf(pair).length === 0);
  });
});

const isPossible = mayHaveNamespace();
if (!isPossible) console.log('SKIPPED: disks below SOURCE_DIR (needs mount namespaces)');

describe.skipIf(!isPossible).concurrent('a source on a disk', () => {
  test('that something is mounted over is refused within seconds, and goes on when that is gone', async () => {
    await using pair = await Pair.withKeys('covered');
    await using namespace = await Namespace.make();
    writeFileSync(pair.path('source', 'file'), '');
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' }, namespace.wrapper);
    await source.shows('✓ 服务运行中');
    const began = performance.now();
    namespace.run('mount -t tmpfs tmpfs "$1"; echo >"$1/other"', pair.path('source'));
    await source.shows(/\[ERROR .*\] 源目录 .* 已不是启动时的目录，为保护备份拒绝同步/);
    expect(performance.now() - began).toBeLessThan(SOON);
    await eventually(() => problemsOf(pair).includes('source'));
    writeFileSync(pair.path('source', 'meanwhile'), ''); // below what was mounted
    await sleep(1500);
    expect(namesIn(pair.path('backup'))).toEqual(['file']);
    namespace.run('until umount "$1"; do sleep 0.05; done', pair.path('source'));
    await eventually(() => `${namesIn(pair.path('backup'))}` === 'file,meanwhile');
    await eventually(() => problemsOf(pair).length === 0);
  });

  test('that is not mounted at the next start, or is another one, waits until it is back', async () => {
    await using pair = await Pair.withKeys('other-disk');
    await using namespace = await Namespace.make();
    const SOURCE_DIR = `${pair.path('source')}/`;
    for (const name of ['first', 'second']) mkdirSync(pair.path(name));
    const image = (name: string) => [pair.path(`${name}.img`), pair.path(name)];
    for (const name of ['first', 'second'])
      namespace.run(
        'truncate -s 8M "$1"; mkfs.ext4 -q "$1"; mount -o loop "$1" "$2"; touch "$2/$3"',
        ...image(name),
        name,
      );
    namespace.run('mount --bind "$1" "$2"', pair.path('first'), pair.path('source'));
    pair.start('start-sshd');
    const start = () => pair.start('rsync-inotify', { SYNC_INTERVAL: '0', SOURCE_DIR }, namespace.wrapper);
    const before = start();
    await before.shows('✓ 服务运行中');
    expect(namesIn(pair.path('backup'))).toContain('first');
    expect(await before.stop()).toBe(0);

    namespace.run('umount "$1"; touch "$1/.gitkeep"', pair.path('source'));
    const unmounted = start();
    await unmounted.shows(/\[ERROR .*\] 源目录 .* 位于另一个文件系统上.*--accept-deletions/);
    await eventually(() => problemsOf(pair).includes('source'));
    expect(await unmounted.stop()).toBe(0);
    namespace.run('mount --bind "$1" "$2"', pair.path('second'), pair.path('source'));
    const other = start();
    await other.shows('位于另一个文件系统上');
    await sleep(1500);
    expect(namesIn(pair.path('backup'))).toContain('first');
    expect(namesIn(pair.path('backup'))).not.toContain('second');
    namespace.run('umount "$2"; mount --bind "$1" "$2"; touch "$1/later"', pair.path('first'), pair.path('source'));
    await other.shows('✓ 服务运行中');
    expect(namesIn(pair.path('backup'))).toContain('later');
    expect(await other.stop()).toBe(0);

    namespace.run('umount "$2"; mount --bind "$1" "$2"', pair.path('second'), pair.path('source'));
    const accepted = start();
    await accepted.shows('位于另一个文件系统上');
    const command = pair.start('rsync-inotify', {}, ['sh', '-c', 'exec "$0" --accept-deletions']);
    expect(await command.exited).toBe(0);
    expect(command.output).toContain('源目录: 以现在的目录为准');
    await accepted.shows('✓ 服务运行中');
    await eventually(() => namesIn(pair.path('backup')).includes('second'));
    expect(namesIn(pair.path('backup'))).not.toContain('first');
    await eventually(() => problemsOf(pair).length === 0);
  });
});
