/** What cannot be mirrored costs itself only: a file for which the backup has no room, a name that it cannot hold, owners that it cannot set. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { exfatAt, mayHaveExfat } from '../exfat.ts';
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
  ['rules', '-avz --delete -F'],
  ['comparisons of everything', '-avz --delete --checksum-seed=1'],
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
    await until(source, () => bed.holds('later'));
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
    await until(source, () => bed.holds('d/later'));
    const status = () => JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8'));
    await until(
      source,
      () => status().problems.some(({ problem }: { problem: string }) => problem === 'failed'),
      60_000,
    );
    expect(status().targets[0].failed.paths[0].path).toStartWith('d/large-');
  });
});

describe.if(mayMount)('a backup that can take nothing', () => {
  test('for it has no inodes left is told, and catches up once it has', async () => {
    await using bed = await smallBackup('size=20m,nr_inodes=12');
    const { pair } = bed;
    const source = bed.start();
    await source.shows('✓ 服务运行中');
    for (let n = 0; n < 20; n++) writeFileSync(pair.path('source', `file-${n}`), '');
    await source.shows(/无法同步 file-\d+：No space left on device，请检查目标的磁盘空间和 inode/);
    bed.inside('mount -o remount,nr_inodes=100 .');
    await until(source, () => Array.from({ length: 20 }, (_, n) => n).every((n) => bed.holds(`file-${n}`)), 90_000);
    await source.shows(/file-\d+ 已同步 ✓/);
  });

  test('for it is read-only is told, and catches up once it is not', async () => {
    await using bed = await smallBackup('size=20m');
    const { pair } = bed;
    writeFileSync(pair.path('source', 'old'), 'old');
    const source = bed.start();
    await source.shows('✓ 服务运行中');
    bed.inside('mount -o remount,ro .');
    writeFileSync(pair.path('source', 'new'), 'new');
    rmSync(pair.path('source', 'old'));
    await source.shows(/同步失败 \(退出码: \d+\)/);
    await source.shows('无法同步 new：Read-only file system，目标是只读的');
    bed.inside('mount -o remount,rw .');
    await until(source, () => bed.holds('new') && !bed.holds('old'), 90_000);
    await until(source, () => problemsOf(pair).length === 0, 60_000);
  });
});

/** What is wrong, as the status file has it. */
const problemsOf = (pair: Pair): string[] =>
  JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).problems.map(
    ({ problem }: { problem: string }) => problem,
  );

describe('what rsync does not name', () => {
  /** An rsync that fails as long as it has to do with something of that name. */
  function poisoned(pair: Pair): string {
    mkdirSync(pair.path('bin'));
    const real = Bun.which('rsync');
    const script = `#!/bin/sh
case " $* " in
*--dry-run*|*'H /d/poison'*|*--version*) exec ${real} "$@" ;;
*--files-from=-*) cat >"$0.$$"; ! tr '\\0' '\\n' <"$0.$$" | grep -qx '.*/d/\\|.*/d/poison' || exit 13; exec ${real} "$@" <"$0.$$" ;;
*) exit 13 ;;
esac
`;
    writeFileSync(pair.path('bin', 'rsync'), script, { mode: 0o755 });
    return `${pair.path('bin')}:${process.env.PATH}`;
  }

  test('is found in parts, at the start and later, and costs itself only', async () => {
    await using pair = await Pair.withKeys('unnamed');
    for (const name of ['a', 'b', 'd', 'e']) mkdirSync(pair.path('source', name));
    for (const path of ['a/1', 'd/0', 'd/poison', 'd/z', 'e/1']) writeFileSync(pair.path('source', path), path);
    mkdirSync(pair.path('backup', 'd'), { recursive: true });
    for (const path of ['gone', 'd/gone']) writeFileSync(pair.path('backup', path), '');
    const { source } = await pair.run({ PATH: poisoned(pair), SYNC_INTERVAL: '0.1' });
    const backup = (...names: string[]) => pair.path('backup', ...names);
    await source.shows('分成小份查找失败的文件');
    await source.shows('无法同步 d/poison：程序诊断错误');
    await until(source, () => ['a/1', 'd/0', 'd/z', 'e/1'].every((path) => existsSync(backup(path))));
    await until(source, () => !existsSync(backup('gone')) && !existsSync(backup('d/gone')));
    writeFileSync(pair.path('source', 'd', 'later'), '');
    await until(source, () => existsSync(backup('d', 'later')));
    expect(existsSync(backup('d', 'poison'))).toBe(false);
    rmSync(pair.path('source', 'd', 'poison'));
    await until(source, () => problemsOf(pair).length === 0, 60_000);
  });
});

test('a name that is not in the character set that --iconv tells costs itself only', async () => {
  await using pair = await Pair.withKeys('iconv');
  const odd = Buffer.from(`${pair.path('source')}/caf\xe9`, 'latin1');
  const { source } = await pair.run({ SYNC_INTERVAL: '0.1', RSYNC_OPTS: '-av --delete --iconv=UTF-8,ISO-8859-1' });
  for (const name of ['a', 'z']) writeFileSync(pair.path('source', name), name);
  writeFileSync(odd, '');
  await source.shows('无法同步 caf');
  for (const name of ['a', 'z']) rmSync(pair.path('source', name));
  await until(source, () => readdirSync(pair.path('backup')).length === 0);
  rmSync(odd);
  await until(source, () => problemsOf(pair).length === 0, 60_000);
});

describe.if(Bun.which('prlimit') !== null)('a file that is larger than the backup can hold', () => {
  const LIMIT = 'exec prlimit --fsize=1000000 "$@"';
  const ROWS = [
    ['and says so', `trap '' XFSZ; ${LIMIT}`, '无法同步 large：File too large，目标的文件系统放不下这么大的文件'],
    ['for which its rsync is killed', LIMIT, '无法同步 large：'],
  ] as const;

  test.each(ROWS)('%s costs itself only', async (_, script, said) => {
    await using pair = await Pair.withKeys('file-size');
    pair.start('start-sshd', {}, ['sh', '-c', script, 'sh']);
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0.1' });
    await source.shows('✓ 服务运行中');
    makeSparse(pair.path('source', 'large'), 5);
    for (const name of ['a', 'z']) writeFileSync(pair.path('source', name), name);
    await source.shows(said);
    await until(source, () => ['a', 'z'].every((name) => existsSync(pair.path('backup', name))));
    rmSync(pair.path('source', 'large'));
    await pair.isMirrored();
  });
});

describe.if(isRoot && Bun.which('setpriv') !== null)('a backup that cannot set owners', () => {
  test('has the content, is told of once with what to set, and is well', async () => {
    await using pair = await Pair.withKeys('owners');
    for (const name of ['a', 'b']) writeFileSync(pair.path('source', name), name);
    for (const name of ['a', 'b']) chownSync(pair.path('source', name), 1234, 1234);
    pair.start('start-sshd', {}, ['setpriv', '--bounding-set', '-chown', '--inh-caps', '-chown']);
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0.1' });
    await source.shows('首次全量同步完成 ✓');
    await source.shows(/目标上不能设置属主，例如 \S+：Operation not permitted。内容已同步，.*--no-owner --no-group/);
    await source.shows('✓ 服务运行中');
    const said = () => source.output.match(/^rsync: .*chown/gm)?.length ?? 0;
    const before = said();
    for (let n = 0; n < 5; n++) {
      writeFileSync(pair.path('source', `c${n}`), '');
      chownSync(pair.path('source', `c${n}`), 1234, 1234);
      await until(source, () => existsSync(pair.path('backup', `c${n}`)));
    }
    expect(source.output.match(/目标上不能设置属主/g)).toHaveLength(1);
    expect(said()).toBe(before);
    expect(source.output).not.toContain('同步失败');
    expect(problemsOf(pair)).toEqual([]);
    expect(JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).targets[0].unsettable).toContain('owner');
  });
});

/** Whether files here can be made such that not even root may remove them. */
function maySeal(): boolean {
  const file = join(mkdtempSync(join(homedir(), '.rsync-inotify-test-seal-')), 'file');
  writeFileSync(file, '');
  const isSealed = isRoot && spawnSync('chattr', ['+i', file]).status === 0;
  if (isSealed) spawnSync('chattr', ['-i', file]);
  rmSync(dirname(file), { recursive: true });
  return isSealed;
}

test.skipIf(!maySeal())('a deletion that the backup refuses is told by name, and done once it may be', async () => {
  await using pair = await Pair.withKeys('sealed');
  mkdirSync(pair.path('source', 'd'));
  for (const name of ['d/sealed', 'd/other', 'e']) writeFileSync(pair.path('source', name), name);
  const { source } = await pair.run({ SYNC_INTERVAL: '0.1' });
  spawnSync('chattr', ['+i', pair.path('backup', 'd', 'sealed')]);
  try {
    rmSync(pair.path('source', 'd'), { recursive: true });
    writeFileSync(pair.path('source', 'new'), '');
    await source.shows('无法删除目标上的 d/sealed：Operation not permitted，请检查目标上的权限和磁盘');
    await until(source, () => existsSync(pair.path('backup', 'new')) && !existsSync(pair.path('backup', 'd', 'other')));
  } finally {
    spawnSync('chattr', ['-i', pair.path('backup', 'd', 'sealed')]);
  }
  await pair.isMirrored(90_000);
  await until(source, () => problemsOf(pair).length === 0, 60_000);
});

describe.skipIf(!mayHaveExfat)('a backup on exFAT', () => {
  test('has all that it can hold, and each name that it cannot is told', async () => {
    await using pair = await Pair.withKeys('exfat');
    using _ = exfatAt(pair.path('backup'));
    for (const name of ['a', 'b: c', 'z']) writeFileSync(pair.path('source', name), name);
    symlinkSync('a', pair.path('source', 'link'));
    for (const name of ['a', 'z']) chownSync(pair.path('source', name), 1234, 1234);
    const { source } = await pair.run({ SYNC_INTERVAL: '0.1' });
    await source.shows('无法同步 b: c：');
    await source.shows('无法同步 link：');
    expect(readdirSync(pair.path('backup')).sort()).toEqual(['a', 'z']);
    for (const name of ['d', 'e?']) writeFileSync(pair.path('source', name), name);
    rmSync(pair.path('source', 'a'));
    await source.shows('无法同步 e?：');
    await until(source, () => readdirSync(pair.path('backup')).sort().join() === 'd,z');
    for (const name of ['b: c', 'e?', 'link']) rmSync(pair.path('source', name));
    await until(source, () => problemsOf(pair).length === 0, 60_000);
    expect(source.output.match(/目标上不能设置/g)?.length ?? 0).toBeLessThan(5);
  });
});
