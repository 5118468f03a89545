/** File systems that are mounted below the source: what lies in one that has gone stays on the backup. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { HeldRsync } from '../held-rsync.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair } from '../pair.ts';
import { content, count, eventually, type Program } from '../processes.ts';

setDefaultTimeout(120_000);

const namesIn = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
const statusOf = (pair: Pair) => JSON.parse(content(pair.path('source-status.json')) || '{}');
const problemsOf = (pair: Pair): string[] =>
  (statusOf(pair).problems ?? []).map(({ problem }: { problem: string }) => problem);

/** Files that the tests put on a disk, and what is in the backup of it then. */
const FILL = 'mkdir -p "$1/deep"; echo one >"$1/one"; echo two >"$1/deep/two"';
const KEPT = ['deep', 'deep/two', 'one'];

/** Options under which a batch is sent as a list, by rules, and by comparing everything. */
const METHODS = [
  ['a list', '-avz --delete'],
  ['rules', '-avz --delete -F'],
  ['comparisons of everything', '-avz --delete --checksum-seed=1'],
] as const;

/** A pair whose source has a disk mounted at `disk`, which is mirrored. */
async function withDisk(name: string, env: Record<string, string>, disk = 'disk', hold?: (pair: Pair) => HeldRsync) {
  const pair = await Pair.withKeys(name);
  const rsync = hold?.(pair);
  const namespace = await Namespace.make();
  const [volume, point] = [pair.path('volume'), pair.path('source', disk)];
  mkdirSync(volume);
  mkdirSync(point, { recursive: true });
  namespace.run(`mount -t tmpfs tmpfs "$2"; set -- "$2" "$1"; ${FILL}; mount --bind "$1" "$2"`, point, volume);
  writeFileSync(pair.path('source', 'beside'), 'content');
  const backup = pair.start('start-sshd');
  const start = async (sign = '✓ 服务运行中') => {
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', ...rsync?.env, ...env }, namespace.wrapper);
    await source.shows(sign);
    return source;
  };
  const source = await start();
  const copy = pair.path('backup', disk);
  expect(namesIn(copy)).toEqual(KEPT);
  return {
    ...{ pair, namespace, volume, point, copy, backup, source, start, rsync },
    async [Symbol.asyncDispose]() {
      await pair[Symbol.asyncDispose]();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

/** Changes something beside the disk and waits until that is mirrored. */
async function changesBeside(pair: Pair, source: Program): Promise<void> {
  const text = `${Math.random()}`;
  writeFileSync(pair.path('source', 'beside'), text);
  mkdirSync(pair.path('source', 'passing'), { recursive: true });
  writeFileSync(pair.path('source', 'passing', 'file'), text);
  await eventually(() => content(pair.path('backup', 'passing', 'file')) === text).catch((cause) => {
    throw new Error(`${cause}\n${source.output}`);
  });
  rmSync(pair.path('source', 'passing'), { recursive: true });
  await eventually(() => !readdirSync(pair.path('backup')).includes('passing'));
  expect(content(pair.path('backup', 'beside'))).toBe(text);
}

const isPossible = mayHaveNamespace();
if (!isPossible) console.log('SKIPPED: mounts below the source (needs mount namespaces)');

describe.skipIf(!isPossible).concurrent('a disk below the source', () => {
  test.each(METHODS)(
    'that is unmounted keeps its copy, is told, and is mirrored again when it is back: %s',
    async (...given) => {
      const [, RSYNC_OPTS] = given;
      await using bed = await withDisk('unmounted', { RSYNC_OPTS, FULL_SYNC_INTERVAL: '2' });
      const { pair, namespace, source, point, volume, copy } = bed;
      namespace.run('until umount "$1"; do sleep 0.05; done', point);
      await source.shows(/\[ERROR .*\] 源目录下的挂载点 disk 不见了.*--accept-deletions/);
      await eventually(() => problemsOf(pair).includes('mount'));
      expect(statusOf(pair).mounts).toEqual([{ path: 'disk', state: 'missing' }]);
      await changesBeside(pair, source);
      const comparisons = count(source.output, '同步成功');
      await eventually(() => count(source.output, '同步成功') > comparisons + 1);
      expect(namesIn(copy)).toEqual(KEPT);
      namespace.run('echo three >"$2/three"; rm "$2/one"; mount --bind "$2" "$1"', point, volume);
      await source.shows('挂载点 disk 已恢复');
      await eventually(() => `${namesIn(copy)}` === 'deep,deep/two,three');
      namespace.run('echo four >"$1/deep/four"', point);
      await eventually(() => namesIn(copy).includes('deep/four'));
      await eventually(() => problemsOf(pair).length === 0);
    },
  );

  test('that is unmounted lazily while its files are open keeps its copy, also where its place is removed', async () => {
    await using bed = await withDisk('lazy', { FULL_SYNC_INTERVAL: '2' });
    const { pair, namespace, source, point, copy } = bed;
    namespace.run('umount --lazy "$1"; rmdir "$1"', point);
    await source.shows('挂载点 disk 不见了');
    await changesBeside(pair, source);
    await sleep(2500);
    expect(namesIn(copy)).toEqual(KEPT);
    await eventually(() => `${problemsOf(pair)}` === 'mount');
  });

  test.each(METHODS)(
    'that is unmounted lazily while rsync runs, too late for anybody to notice, keeps its copy: %s',
    async (...given) => {
      const [, RSYNC_OPTS] = given;
      await using bed = await withDisk('lazily', { RSYNC_OPTS }, 'disk', (pair) => new HeldRsync(pair));
      const { namespace, source, point, copy, rsync } = bed;
      rsync?.hold();
      namespace.run('rm "$1/one"', point);
      await rsync?.isHeld();
      namespace.run('umount --lazy "$1"', point);
      await source.shows('挂载点 disk 不见了');
      rsync?.leave();
      await source.shows('为保护备份已中止'); // which is told once it has ended
      expect(namesIn(copy)).toEqual(['deep', 'deep/two']);
    },
  );

  test('that is replaced by an empty one in one go, about which the kernel says the same, keeps its copy', async () => {
    await using bed = await withDisk('in-one-go', { FULL_SYNC_INTERVAL: '2' });
    const { namespace, source, point, copy } = bed;
    const replace = 'until umount "$1"; do sleep 0.05; done; mount -t tmpfs tmpfs "$1"';
    namespace.run(`${replace}; ${FILL}`, point);
    await source.shows(/\[WARN .*\] 源目录下的挂载点 disk 换成了另一个文件系统|\[ERROR .*空的文件系统/);
    await eventually(() => `${namesIn(copy)}` === `${KEPT}`);
    const offset = source.output.length;
    namespace.run(replace, point);
    await source.shows('挂载点 disk 换成了另一个空的文件系统', offset);
    await sleep(2500);
    expect(namesIn(copy)).toEqual(KEPT);
    namespace.run('echo new >"$1/new"', point);
    await eventually(() => namesIn(copy).includes('new')); // what is new there is mirrored
    expect(namesIn(copy)).toEqual([...KEPT, 'new'].sort());
  });

  test('that comes back while rsync runs does not end that, and is mirrored after it', async () => {
    await using bed = await withDisk('back', {}, 'disk', (its) => new HeldRsync(its));
    const { pair, namespace, source, point, volume, copy, rsync } = bed;
    namespace.run('until umount "$1"; do sleep 0.05; done', point);
    await source.shows('挂载点 disk 不见了');
    await changesBeside(pair, source);
    rsync?.hold();
    writeFileSync(pair.path('source', 'beside'), 'changed');
    await rsync?.isHeld();
    namespace.run('echo three >"$2/three"; mount --bind "$2" "$1"', point, volume);
    await source.shows('挂载点 disk 已恢复');
    rsync?.leave();
    await eventually(() => namesIn(copy).includes('three'));
    expect(content(pair.path('backup', 'beside'))).toBe('changed');
    expect(source.output).not.toContain('为保护备份已中止');
  });

  test('that is missing at the next start, or another one that is empty, keeps its copy', async () => {
    await using bed = await withDisk('restart', {});
    const { pair, namespace, source, point, copy, start } = bed;
    expect(await source.stop()).toBe(0);
    namespace.run('umount "$1"; echo hidden >"$1/hidden"', point);
    const second = await start();
    expect(second.output).toMatch(/\[ERROR .*\] 源目录下的挂载点 disk 不见了/);
    await changesBeside(pair, second);
    expect(namesIn(copy)).toEqual(KEPT);
    expect(await second.stop()).toBe(0);
    namespace.run('mount -t tmpfs tmpfs "$1"', point);
    const third = await start();
    expect(third.output).toMatch(/\[ERROR .*\] 源目录下的挂载点 disk 换成了另一个空的文件系统/);
    namespace.run('echo new >"$1/new"', point);
    await eventually(() => namesIn(copy).includes('new'));
    await changesBeside(pair, third);
    expect(namesIn(copy)).toEqual([...KEPT, 'new'].sort());
    await eventually(() => `${problemsOf(pair)}` === 'mount');
  });

  test('that is mounted after the start is watched and mirrored, also over a directory that is watched', async () => {
    await using bed = await withDisk('later', {});
    const { pair, namespace, source, volume } = bed;
    const over = pair.path('source', 'over');
    mkdirSync(`${over}/before`, { recursive: true });
    writeFileSync(`${over}/before/file`, '');
    await eventually(() => namesIn(pair.path('backup')).includes('over/before/file'));
    const began = performance.now();
    namespace.run('mount --bind "$2" "$1"', over, volume);
    await eventually(() => `${namesIn(pair.path('backup', 'over'))}` === `${KEPT}`);
    expect(performance.now() - began).toBeLessThan(5000);
    await source.shows('源目录下有新的挂载点 over');
    const inside = performance.now();
    namespace.run('mkdir "$1/later"; echo >"$1/later/file"', over);
    await eventually(() => namesIn(pair.path('backup', 'over')).includes('later/file'));
    expect(performance.now() - inside).toBeLessThan(5000);
    await eventually(() => problemsOf(pair).length === 0);
  });

  test('that went on purpose is forgotten when somebody says so, and its copy goes', async () => {
    await using bed = await withDisk('forgotten', {});
    const { pair, namespace, source, point } = bed;
    namespace.run('until umount "$1"; do sleep 0.1; done; rmdir "$1"', point);
    await source.shows('挂载点 disk 不见了');
    const command = pair.start('rsync-inotify', {}, ['sh', '-c', 'exec "$0" --accept-deletions']);
    expect(await command.exited).toBe(0);
    expect(command.output).toContain('挂载点 disk: 不再保留其在备份上的内容');
    await eventually(() => !readdirSync(pair.path('backup')).includes('disk'));
    await eventually(() => problemsOf(pair).length === 0);
    expect(content(pair.path('backup', 'beside'))).toBe('content');
  });

  test('in another one, with names that the kernel escapes, keeps its copy, and a renamed place is followed', async () => {
    const name = 'a b\\c\n[2025-10-09 12:00:00] d';
    await using bed = await withDisk('names', {}, `outer/${name}`);
    const { pair, namespace, source, point, copy } = bed;
    renameSync(pair.path('source', 'outer'), pair.path('source', 'moved'));
    const moved = pair.path('backup', 'moved', name);
    await eventually(() => `${namesIn(moved)}` === `${KEPT}`);
    await eventually(() => !readdirSync(pair.path('backup')).includes('outer'));
    expect(copy).toContain('outer');
    await eventually(() => problemsOf(pair).length === 0);
    namespace.run('until umount "$1"; do sleep 0.1; done', point.replace('/outer/', '/moved/'));
    await source.shows(/\[ERROR .*\] 源目录下的挂载点 moved\/a b\\\\c\\n\[2025/);
    await changesBeside(pair, source);
    expect(namesIn(moved)).toEqual(KEPT);
  });
});
