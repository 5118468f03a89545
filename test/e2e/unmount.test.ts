/** The disks of the source and of the backup can be unmounted while nothing is mirrored, without stopping anything. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync } from 'node:fs';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { isRoot, listedRsyncsOf, Pair, remoteRsyncsOf } from '../pair.ts';
import { content, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const isPossible = isRoot && mayHaveNamespace();
if (!isPossible) console.warn('SKIPPED: disks that are unmounted while an rsync waits: needs root and unshare');

/** A pair with a disk at the source and one at the backup, each with another one below it, while an rsync waits for names. */
async function withDisks(name: string) {
  const pair = await Pair.withKeys(name);
  const namespace = await Namespace.make();
  for (const side of ['source', 'backup']) {
    for (const place of [side, `disk-of-${side}`, `inner-of-${side}`]) mkdirSync(pair.path(place), { recursive: true });
    namespace.run('mount -t tmpfs tmpfs "$1"; mkdir "$1/inner"', pair.path(`disk-of-${side}`));
    namespace.run('mount -t tmpfs tmpfs "$1"', pair.path(`inner-of-${side}`));
    namespace.run('mount --bind "$1" "$2"', pair.path(`disk-of-${side}`), pair.path(side));
    namespace.run('mount --bind "$1" "$2"', pair.path(`inner-of-${side}`), pair.path(side, 'inner'));
  }
  const backup = pair.start('start-sshd', {}, namespace.wrapper);
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' }, namespace.wrapper);
  await source.shows('✓ 服务运行中');
  /** Writes a file, waits until it is mirrored and an rsync waits for the next one. */
  const mirror = async (path: string) => {
    const offset = source.output.length;
    namespace.run('echo words >"$1"', pair.path('source', path));
    await eventually(() => namespace.run('cat "$1" 2>&1 || true', pair.path('backup', path)) === 'words\n');
    await source.shows('同步成功', offset); // the rsync that has sent it is none that waits
    // on a busy machine there may be two
    await eventually(() => remoteRsyncsOf(pair).length > 0 && listedRsyncsOf(pair).length > 0).catch((cause) => {
      throw new Error(`${cause}\n${listedRsyncsOf(pair)} ${remoteRsyncsOf(pair)}\n${source.output}`);
    });
  };
  await mirror('first');
  return {
    ...{ pair, namespace, backup, source, mirror },
    async [Symbol.asyncDispose]() {
      await pair[Symbol.asyncDispose]();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

/** For a moment somebody may look at what is mounted, or mirror it: then one tries again, for 5 s at most. */
const UNMOUNT =
  'unmount() { for try in $(seq 50); do umount "$1" 2>/dev/null && return; sleep 0.1; done; umount "$1"; }';

describe.skipIf(!isPossible).concurrent('while an rsync waits for names, somebody can unmount', () => {
  test('the source and what is mounted in it, which goes on when it is back', async () => {
    await using bed = await withDisks('unmount-source');
    const { pair, namespace, source, mirror } = bed;
    namespace.run(`${UNMOUNT}; unmount "$1/inner"; unmount "$1"`, pair.path('source'));
    await source.shows('已不是启动时的目录');
    namespace.run('mount --bind "$1" "$2"', pair.path('disk-of-source'), pair.path('source'));
    namespace.run('mount --bind "$1" "$2"', pair.path('inner-of-source'), pair.path('source', 'inner'));
    await eventually(() => JSON.parse(content(pair.path('source-status.json'))).problems.length === 0);
    await mirror('second');
    await mirror('inner/third');
  });

  test('the backup and what is mounted in it, which goes on when it is back', async () => {
    await using bed = await withDisks('unmount-backup');
    const { pair, namespace, backup, mirror } = bed;
    namespace.run(`${UNMOUNT}; unmount "$1/inner"; unmount "$1"`, pair.path('backup'));
    await backup.shows(/\[ERROR .*已不是启动时的目录/);
    namespace.run('mount --bind "$1" "$2"', pair.path('disk-of-backup'), pair.path('backup'));
    namespace.run('mount --bind "$1" "$2"', pair.path('inner-of-backup'), pair.path('backup', 'inner'));
    await backup.shows('又是启动时的目录');
    await mirror('second');
    await mirror('inner/third');
  });

  test('the backup, where what is mirrored before that is noticed gets into nothing else', async () => {
    await using bed = await withDisks('unnoticed');
    const { pair, namespace, backup, source, mirror } = bed;
    backup.signal('SIGSTOP'); // it does not notice anything
    namespace.run(`${UNMOUNT}; unmount "$1/inner"; unmount "$1"; touch "$1/kept"`, pair.path('backup'));
    const offset = source.output.length;
    namespace.run('rm "$1/first"; echo words >"$1/second"', pair.path('source'));
    await source.shows(/同步失败 \(退出码: 23\)/, offset);
    expect(readdirSync(pair.path('backup'))).toEqual(['kept']);
    backup.signal('SIGCONT');
    await backup.shows(/\[ERROR .*已不是启动时的目录/);
    namespace.run('mount --bind "$1" "$2"', pair.path('disk-of-backup'), pair.path('backup'));
    namespace.run('mount --bind "$1" "$2"', pair.path('inner-of-backup'), pair.path('backup', 'inner'));
    await eventually(() => namespace.run('ls "$1"', pair.path('backup')) === 'inner\nsecond\n');
    await mirror('third');
  });
});
