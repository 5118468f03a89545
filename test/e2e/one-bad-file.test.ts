/** What cannot be mirrored costs itself only: a file for which the backup has no room, a name that it cannot hold, owners that it cannot set. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { isRoot, Pair } from '../pair.ts';
import { eventually, type Program } from '../processes.ts';

setDefaultTimeout(180_000);

const mayMount = isRoot && mayHaveNamespace();
if (!mayMount) console.log('SKIPPED: backups without room (needs root and mount namespaces)');

/** A pair whose backup lies on a file system of its own, and what the backup sees there. */
async function smallBackup(options: string, RSYNC_OPTS = '-avz --delete') {
  const namespace = await Namespace.make();
  const pair = await Pair.withKeys('bad-file');
  mkdirSync(pair.path('backup'));
  namespace.run(`mount -t tmpfs -o ${options} tmpfs "$1"`, pair.path('backup'));
  const inside = (script: string) => namespace.run(`cd "$1"; ${script}`, pair.path('backup'));
  const start = () => {
    pair.start('start-sshd', {}, namespace.wrapper);
    return pair.start('rsync-inotify', { RSYNC_OPTS, SYNC_INTERVAL: '0.2' });
  };
  const holds = (path: string) => {
    try {
      inside(`test -e '${path}'`);
      return true;
    } catch {
      return false;
    }
  };
  const dispose = async () => {
    await pair[Symbol.asyncDispose]();
    await namespace[Symbol.asyncDispose]();
  };
  return { pair, inside, start, holds, [Symbol.asyncDispose]: dispose };
}

/** Makes a file that takes no room here. */
function makeSparse(path: string, megabytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, megabytes * 1_048_576);
}

const until = (source: Program, condition: () => boolean, ms?: number) =>
  eventually(condition, ms).catch((cause) => {
    throw new Error(`${cause}\n${source.output}`);
  });

const METHODS = [
  ['a list', '-avz --delete'],
  ['rules', '-avz --delete --exclude=*.none'],
  ['comparisons of everything', '-avzH --delete'],
] as const;

describe.if(mayMount)('a file for which the backup has no room', () => {
  test.each(METHODS)('holds back no other change, sent by %s', async (_, options) => {
    await using bed = await smallBackup('size=20m', options);
    const { pair } = bed;
    writeFileSync(pair.path('source', 'old'), 'old');
    const source = bed.start();
    await source.shows('✓ 服务运行中');
    makeSparse(pair.path('source', 'm-large'), 60);
    writeFileSync(pair.path('source', 'a'), 'a');
    writeFileSync(pair.path('source', 'z'), 'z');
    rmSync(pair.path('source', 'old'));
    await until(source, () => bed.holds('z') && bed.holds('a') && !bed.holds('old'));
    writeFileSync(pair.path('source', 'later'), 'later');
    await until(source, () => bed.holds('later'), 5000);
    await source.shows('无法同步 m-large：No space left on device，请检查目标的磁盘空间和 inode');
    expect(bed.holds('m-large')).toBe(false);
    truncateSync(pair.path('source', 'm-large'), 1_048_576);
    await until(source, () => source.output.includes('m-large 已同步 ✓'), 90_000);
    expect(bed.inside('stat -c %s m-large').trim()).toBe('1048576');
  });

  test('is no reason not to start, and health knows', async () => {
    await using bed = await smallBackup('size=20m');
    const { pair } = bed;
    for (const name of ['a', 'z']) writeFileSync(pair.path('source', name), name);
    mkdirSync(pair.path('source', 'd'));
    for (let n = 0; n < 5; n++) makeSparse(pair.path('source', 'd', `large-${n}`), 60 + n);
    const source = bed.start();
    await source.shows('首次全量同步未能传输全部文件');
    await source.shows('✓ 服务运行中');
    await until(source, () => bed.holds('a') && bed.holds('z'));
    writeFileSync(pair.path('source', 'd', 'later'), 'later');
    await until(source, () => bed.holds('d/later'), 10_000);
    const status = () => JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8'));
    await until(
      source,
      () => status().problems.some(({ problem }: { problem: string }) => problem === 'failed'),
      60_000,
    );
    expect(status().targets[0].failed.paths[0].path).toStartWith('d/large-');
  });
});
