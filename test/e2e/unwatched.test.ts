/** What cannot be watched costs itself only: it is told once, and all else is mirrored, at the start and later. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { isRoot, ordinaryUser, Pair, watchersOf } from '../pair.ts';
import { count, eventually } from '../processes.ts';

setDefaultTimeout(180_000);

interface Watching {
  watch: {
    directories: number;
    in_doubt: string | null;
    unwatched: { count: number; places: { path: string; reason: string }[] };
  };
}

const watchingOf = (pair: Pair) =>
  (JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')) as Watching).watch;
const unwatchedOf = (pair: Pair) => watchingOf(pair).unwatched.places;
const isSettled = (pair: Pair) => eventually(() => watchingOf(pair).in_doubt === null);

/** Goes deeper than a path can be long; what is made last has the name `end`. */
const CHAIN =
  'cd "$1"; n=$(printf %0250d 0); i=0; while [ $i -lt 20 ]; do mkdir $n; cd -P $n; i=$((i+1)); done; touch end';
/** Mounts a FUSE file system whose program has gone: from then on nobody can look at it. */
const MOUNT_DEAD = `my ($source, $type, $at) = ("dead", "fuse", $ARGV[0]); open my $f, "+<", "/dev/fuse" or die $!;
my $options = "fd=" . fileno($f) . ",rootmode=40000,user_id=0,group_id=0";
syscall(165, $source, $at, $type, 6, $options) == 0 or die $!;`;
const makeChain = (path: string) => spawnSync('bash', ['-c', CHAIN, 'bash', path]);

/** A directory that is made, and a file that is made there once it is no news any more, arrive. */
async function newDirectoryIsMirrored(pair: Pair, path: string): Promise<void> {
  mkdirSync(pair.path('source', path));
  await eventually(() => existsSync(pair.path('backup', path)));
  await isSettled(pair);
  writeFileSync(pair.path('source', path, 'later'), 'later');
  await eventually(() => existsSync(pair.path('backup', path, 'later')));
}

describe('a path that is too long', () => {
  test('is told once, at the start, and all else is watched', async () => {
    await using pair = await Pair.withKeys('long');
    mkdirSync(pair.path('source', 'a', 'beside'), { recursive: true });
    makeChain(pair.path('source', 'a'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    await newDirectoryIsMirrored(pair, 'b');
    await newDirectoryIsMirrored(pair, 'a/beside/c');
    expect(unwatchedOf(pair)).toMatchObject([{ reason: 'ENAMETOOLONG' }]);
    expect(count(source.output, '无法监控')).toBe(1);
    expect(source.output).not.toContain('重新启动监控');
  });

  test('keeps nothing else from being deleted', async () => {
    await using pair = await Pair.withKeys('long');
    for (const path of [pair.path('source', 'a'), pair.path('backup', 'gone')]) mkdirSync(path, { recursive: true });
    makeChain(pair.path('source', 'a'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    await source.shows(/无法同步 a\/.*其中有过长的路径/);
    await eventually(() => !existsSync(pair.path('backup', 'gone')));
  });

  test('that is made while all is watched is left out of the next watchers, and not any more once it is gone', async () => {
    await using pair = await Pair.withKeys('long');
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    mkdirSync(pair.path('source', 'a'));
    makeChain(pair.path('source', 'a'));
    await eventually(() => unwatchedOf(pair).length === 1);
    await isSettled(pair);
    await newDirectoryIsMirrored(pair, 'b');
    expect(count(source.output, '无法监控')).toBe(1);
    expect(source.output).not.toContain('意外退出');
    spawnSync('rm', ['-r', pair.path('source', 'a')]);
    await newDirectoryIsMirrored(pair, 'c');
    await eventually(() => unwatchedOf(pair).length === 0);
    await eventually(() => watchersOf(pair).length === 1);
  });
});

/** Makes a directory whose path is nearly as long as one can be; with `$2`, a file in it whose path is too long. */
const DEEPEST = `cd "$1"; n=$(printf %0200d 0); while [ $(pwd | wc -c) -lt 3850 ]; do mkdir -p $n; cd $n; done
  n=$(printf %0$((4075 - $(pwd | wc -c)))d 0); mkdir -p $n; cd $n; [ -z "$2" ] || touch $(printf %0100d 1)`;

test('a change that is told behind one with a path that is too long is not lost', async () => {
  await using pair = await Pair.withKeys('cut');
  const deepest = (more: string) => spawnSync('bash', ['-c', DEEPEST, 'bash', pair.path('source'), more]);
  deepest('');
  const { source } = await pair.run({ SYNC_INTERVAL: '0' });
  await isSettled(pair);
  deepest('and a file');
  mkdirSync(pair.path('source', 'new')); // of which one event tells
  await source.shows(`检测到文件变化: ${pair.path('source', 'new')} CREATE,ISDIR\n`);
  await eventually(() => existsSync(pair.path('backup', 'new')));
});

/** Has files come and go in all directories until it is killed. */
const CHURN = 'cd "$1"; while :; do for d in */; do for f in 1 2 3 4 5; do : >$d$f; done; done; rm -f */[1-5]; done';

test('a directory in which files go while inotifywait looks at them is watched nevertheless', async () => {
  await using pair = await Pair.withKeys('churn');
  const names = Array.from({ length: 200 }, (_, n) => `d${n}`);
  for (const name of names)
    for (let n = 0; n < 20; n++) mkdirSync(pair.path('source', name, `s${n}`), { recursive: true });
  const churn = spawn('bash', ['-c', CHURN, 'bash', pair.path('source')]);
  try {
    await pair.run({ SYNC_INTERVAL: '0' });
  } finally {
    churn.kill('SIGKILL');
  }
  await eventually(() => watchingOf(pair).directories === 4201 && watchingOf(pair).in_doubt === null);
  for (const name of names) writeFileSync(pair.path('source', name, 's19', 'later'), 'later');
  await pair.isMirrored();
});

const mayBeAnother = isRoot && Bun.which('useradd') !== null;
if (!mayBeAnother) console.warn('SKIPPED: directories that may not be entered: needs root and useradd');

describe.skipIf(!mayBeAnother)('a directory that may not be entered', () => {
  test('for a moment is watched from when it may', async () => {
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('forbidden', user);
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    const at = (...names: string[]) => pair.path('source', ...names);
    mkdirSync(at('closed', 'below'), { recursive: true, mode: 0o700 });
    await eventually(() => unwatchedOf(pair).length === 1);
    await source.shows(/无法监控 closed：没有进入的权限.*WATCH_EXCLUDE/);
    await isSettled(pair);
    for (const path of ['closed/below', 'closed']) chmodSync(at(path), 0o755);
    await eventually(() => unwatchedOf(pair).length === 0);
    await isSettled(pair);
    writeFileSync(at('closed', 'below', 'later'), 'later', { mode: 0o644 });
    await eventually(() => existsSync(pair.path('backup', 'closed', 'below', 'later')));
  });

  test('for good is told once, is in no batch, and all else is watched', async () => {
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('forbidden', user);
    mkdirSync(pair.path('source', 'closed'), { mode: 0o700 });
    const { source } = await pair.run({ SYNC_INTERVAL: '0' }, '✓ 服务运行中');
    await eventually(() => unwatchedOf(pair).length === 1);
    for (const name of ['a', 'b', 'c']) {
      mkdirSync(pair.path('source', name), { mode: 0o755 });
      await isSettled(pair);
      writeFileSync(pair.path('source', name, 'later'), 'later', { mode: 0o644 });
      await eventually(() => existsSync(pair.path('backup', name, 'later')));
    }
    expect(count(source.output, '无法监控')).toBe(1);
    await isSettled(pair);
  });
});

const mayHaveFuse = isRoot && mayHaveNamespace() && existsSync('/dev/fuse') && Bun.which('perl') !== null;
if (!mayHaveFuse) console.warn('SKIPPED: a dead FUSE mount: needs root, mount namespaces, /dev/fuse and perl');

test.skipIf(!mayHaveFuse)(
  'a dead FUSE mount in the source itself leaves all else watched, at the start and later',
  async () => {
    await using pair = await Pair.withKeys('dead');
    await using namespace = await Namespace.make();
    const at = (...names: string[]) => pair.path('source', ...names);
    for (const path of ['mnt', 'beside/deep', 'caf\u00e9']) mkdirSync(at(path), { recursive: true });
    namespace.run(`perl -e '${MOUNT_DEAD}' "$1"`, at('mnt'));
    const backup = pair.start('start-sshd', {}, namespace.wrapper);
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' }, namespace.wrapper);
    await source.shows('✓ 服务运行中');
    expect(backup.output).not.toContain('ERROR');
    for (const path of ['later', 'beside/later', 'beside/deep/later', 'café/later']) {
      writeFileSync(at(path), 'later');
      await eventually(() => existsSync(pair.path('backup', path)));
    }
    await newDirectoryIsMirrored(pair, 'new');
    await newDirectoryIsMirrored(pair, 'beside/new');
    expect(unwatchedOf(pair)).toMatchObject([{ path: 'mnt', reason: 'ENOTCONN' }]);
    expect(count(source.output, '无法监控')).toBe(1);
    namespace.run('umount "$1"', at('mnt'));
    await newDirectoryIsMirrored(pair, 'back');
    await eventually(() => unwatchedOf(pair).length === 0);
  },
);
