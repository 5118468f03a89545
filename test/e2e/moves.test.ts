/** What is moved within the source is renamed on the target, so that none of it is sent again. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model } from '../model.ts';
import { Pair, remoteRsyncsOf, theOnly, watchersOf } from '../pair.ts';
import { count, eventually, type Program, signalAll } from '../processes.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

/** Large enough to be worth a rename. */
const SIZE = 300_000;
/** Of many sizes: where one file takes another's place while rsync sends it, rsync itself knows them by size and time alone. */
const SIZES = Array.from({ length: 1000 }, (_, n) => SIZE + n);
const OLD = new Date('2026-01-02T03:04:05Z');

const inSource = (pair: Pair, name: string) => pair.path('source', name);
const inBackup = (pair: Pair, name: string) => pair.path('backup', name);

/** A file of random words, or of words that are like those of another file in size and time. */
function write(pair: Pair, name: string, word?: string): void {
  mkdirSync(dirname(inSource(pair, name)), { recursive: true });
  writeFileSync(inSource(pair, name), Buffer.alloc(SIZE, word ?? crypto.randomUUID()));
  if (word) utimesSync(inSource(pair, name), OLD, OLD);
}

const move = (pair: Pair, from: string, to: string) => renameSync(inSource(pair, from), inSource(pair, to));

/** The file itself: a copy of it would be another one, made later. */
function fileOf(path: string): string {
  const { ino, birthtimeNs } = statSync(path, { bigint: true });
  return `${ino} ${birthtimeNs}`;
}
const inodeOf = (pair: Pair, name: string) => fileOf(inBackup(pair, name));

/** Has the backup stand still meanwhile, with all connections to it. */
async function slowly(pair: Pair, work: () => Promise<void>): Promise<void> {
  const group = /PID: (\d+)/.exec(pair.programs[0]?.output ?? '')?.[1] ?? '';
  const pids = [group];
  for (const pid of pids)
    pids.push(...spawnSync('pgrep', ['-P', pid], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean));
  const signal = (name: NodeJS.Signals) => spawnSync('kill', ['-s', name.slice(3), ...pids]); // one may have ended meanwhile
  signal('SIGSTOP');
  await work().finally(() => signal('SIGCONT'));
}

/** Both trees by content, whatever sizes and times say. */
async function isSame(pair: Pair): Promise<void> {
  await eventually(() => expectEqual(pair.path('source'), pair.path('backup'))).catch((error) => {
    throw new Error(`${error}\n${pair.programs.map((program) => program.output).join('\n---\n')}`);
  });
}

/** Waits until nothing is under way any more, nor in doubt: then the watcher stays the same. */
async function isQuiet(pair: Pair, source: Program): Promise<void> {
  const seen = () => `${watchersOf(pair)} ${source.output}`;
  await eventually(async () => {
    const before = seen();
    await sleep(1000);
    return watchersOf(pair).length === 1 && seen() === before;
  });
}

/** A pair that mirrors some files at once, and is quiet. */
async function start(pair: Pair, files: string[], env: Record<string, string> = {}): Promise<Program> {
  for (const name of files) write(pair, name);
  const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0', ...env });
  await isQuiet(pair, source);
  return source;
}

const bytesOf = (pair: Pair): number =>
  JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).targets[0].bytes;

const RENAMED = /已在目标上重命名 (\d+) 项，无需再次传输/;

describe.concurrent('moved within the source', () => {
  test('300 MB are renamed on the target: nothing is sent', async () => {
    await using pair = await Pair.withKeys('large');
    writeFileSync(inSource(pair, 'large'), '');
    truncateSync(inSource(pair, 'large'), 300_000_000);
    const source = await start(pair, ['other'], { SYNC_INTERVAL: '5' });
    await sleep(5000); // the interval is over
    const [inode, bytes] = [inodeOf(pair, 'large'), await eventually(() => bytesOf(pair))];
    const began = performance.now();
    move(pair, 'large', 'under another name');
    await eventually(() => existsSync(inBackup(pair, 'under another name')));
    console.log(`renamed on the target after ${Math.round(performance.now() - began)} ms`);
    await source.shows(/重命名 1 项.*\n(.*\n)*.*同步成功/);
    console.log(`the batch was over after ${Math.round(performance.now() - began)} ms`);
    await isSame(pair);
    expect(inodeOf(pair, 'under another name')).toBe(inode);
    await eventually(() => bytesOf(pair) > bytes);
    expect(bytesOf(pair) - bytes).toBeLessThan(2000);
  });

  test('a directory is, with all that is in it', async () => {
    await using pair = await Pair.withKeys('directory');
    const names = Array.from({ length: 200 }, (_, n) => `some/where/${n % 7}/${n}`);
    const source = await start(pair, [...names, 'else/file']);
    const inodes = names.map((name) => inodeOf(pair, name));
    move(pair, 'some/where', 'else/there');
    await source.shows(RENAMED);
    await isSame(pair);
    expect(names.map((name) => inodeOf(pair, name.replace('some/where', 'else/there')))).toEqual(inodes);
  });

  test('files with any name are, into directories new to the backup and out of them', async () => {
    await using pair = await Pair.withKeys('names');
    const source = await start(pair, ['new\nline', '-rf', ' a b ', 'c'], { SYNC_INTERVAL: '3' });
    const names = { 'new\nline': 'deep/er/中文 ✓', '-rf': 'deep/--delete', ' a b ': 'deep/er/$HOME', c: '\\*' };
    const inodes = Object.keys(names).map((name) => inodeOf(pair, name));
    mkdirSync(inSource(pair, 'deep/er'), { recursive: true });
    await eventually(() => existsSync(inBackup(pair, 'deep/er')));
    await isQuiet(pair, source);
    write(pair, 'now');
    await eventually(() => existsSync(inBackup(pair, 'now'))); // all that comes now goes in one batch
    const watcher = await theOnly(watchersOf, pair);
    process.kill(watcher, 'SIGSTOP'); // also on a busy machine
    for (const [from, to] of Object.entries(names)) move(pair, from, to);
    process.kill(watcher, 'SIGCONT');
    await isSame(pair);
    await isQuiet(pair, source);
    expect(Object.values(names).map((name) => inodeOf(pair, name))).toEqual(inodes);
    move(pair, 'deep/er/$HOME', 'out'); // alone: a batch on its way that looks into its directory would delete it there
    await isSame(pair);
    expect(inodeOf(pair, 'out')).toBe(inodes[2] ?? '');
  });

  test('again and again before the next batch, a file is renamed once, from the first place to the last', async () => {
    await using pair = await Pair.withKeys('chain');
    const source = await start(pair, ['a'], { SYNC_INTERVAL: '2' });
    const inode = inodeOf(pair, 'a');
    write(pair, 'first');
    await eventually(() => existsSync(inBackup(pair, 'first')));
    for (const [from, to] of ['ab', 'bc', 'cd']) move(pair, from ?? '', to ?? '');
    await isSame(pair);
    expect(inodeOf(pair, 'd')).toBe(inode);
    await source.shows('重命名 1 项');
  });

  test('logs that rotate are', async () => {
    await using pair = await Pair.withKeys('rotation');
    const source = await start(pair, ['log', 'log.1', 'log.2', 'log.3'], { SYNC_INTERVAL: '5' });
    const inodes = ['log', 'log.1', 'log.2'].map((name) => inodeOf(pair, name));
    const offset = source.output.length;
    write(pair, 'other');
    await source.shows('同步成功', offset); // all of it happens in one interval, and nothing is on its way
    for (const n of [2, 1]) move(pair, `log.${n}`, `log.${n + 1}`);
    move(pair, 'log', 'log.1');
    write(pair, 'log');
    await isSame(pair);
    await source.shows(RENAMED);
    expect(['log.1', 'log.2', 'log.3'].map((name) => inodeOf(pair, name))).toEqual(inodes);
  });

  test('files that change places are right', async () => {
    await using pair = await Pair.withKeys('places');
    await start(pair, ['a', 'b', 'x/c', 'y/d'], { SYNC_INTERVAL: '2' });
    write(pair, 'other'); // from now on there is an interval, in which all of it happens
    await isSame(pair);
    for (const [from, to] of ['at', 'ba', 'tb']) move(pair, from ?? '', to ?? '');
    for (const [from, to] of ['xz', 'yx', 'zy']) move(pair, from ?? '', to ?? '');
    await isSame(pair);
  });

  test('what a target missed while it was away is, too', async () => {
    await using pair = await Pair.withKeys('away');
    const source = await start(pair, ['one', 'deep/two', 'tree/three']);
    const inodes = ['one', 'tree/three'].map((name) => inodeOf(pair, name));
    await pair.programs[0]?.stop();
    await source.shows('SSH 连接已断开');
    move(pair, 'one', 'deep/one');
    await source.shows('2 秒后重试'); // not even the first try has made it be forgotten
    move(pair, 'deep/one', 'deep/once more');
    move(pair, 'tree', 'deep/tree');
    await pair.start('start-sshd').shows('SSH 服务器就绪');
    await isSame(pair);
    expect(['deep/once more', 'deep/tree/three'].map((name) => inodeOf(pair, name))).toEqual(inodes);
  });

  test('all targets have it renamed', async () => {
    await using pair = await Pair.withKeys('both');
    const second = { SSHD_LISTEN: '127.0.0.2', DEST_DIR: pair.path('backup2/'), SSH_DIR: pair.path('backup-ssh2') };
    pair.start('start-sshd', { ...second, STATUS_FILE: pair.path('backup2.json') });
    const DEST_HOSTS = `127.0.0.1:${pair.path('backup/')} 127.0.0.2:${pair.path('backup2/')}`;
    const source = await start(pair, ['file'], { DEST_HOSTS });
    await eventually(() => ['backup', 'backup2'].every((name) => existsSync(pair.path(name, 'file'))));
    await isQuiet(pair, source);
    const inodes = ['backup', 'backup2'].map((name) => fileOf(pair.path(name, 'file')));
    move(pair, 'file', 'moved');
    await eventually(() => existsSync(pair.path('backup2', 'moved')) && existsSync(pair.path('backup', 'moved')));
    await isSame(pair);
    expect(['backup', 'backup2'].map((name) => fileOf(pair.path(name, 'moved')))).toEqual(inodes);
  });

  test('a file is, though inotifywait tells of the second half of its rename a little later', async () => {
    await using pair = await Pair.withKeys('halves');
    mkdirSync(pair.path('bin'));
    const late = `perl -0 -ne 'BEGIN { $| = 1 } select(undef, undef, undef, 0.015) if /MOVED_TO/; print'`;
    const script = `#!/bin/bash\nexec -a inotifywait ${Bun.which('inotifywait')} "$@" > >(${late})\n`;
    writeFileSync(pair.path('bin', 'inotifywait'), script, { mode: 0o755 });
    const source = await start(pair, ['0'], { PATH: `${pair.path('bin')}:${process.env.PATH}` });
    for (let n = 0; n < 20; n++) {
      const inode = inodeOf(pair, `${n}`);
      const offset = source.output.length;
      move(pair, `${n}`, `${n + 1}`);
      await isSame(pair);
      await isQuiet(pair, source);
      if (RENAMED.test(source.output.slice(offset))) return expect(inodeOf(pair, `${n + 1}`)).toBe(inode);
    } // a busy machine may make it so late that it is another file
    throw new Error(source.output);
  });

  test('a source that is mirrored with its name is', async () => {
    await using pair = await Pair.withKeys('named');
    write(pair, 'file');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', SOURCE_DIR: pair.path('source') });
    await isQuiet(pair, source);
    const inode = fileOf(pair.path('backup', 'source', 'file'));
    move(pair, 'file', 'moved');
    await eventually(() => existsSync(pair.path('backup', 'source', 'moved')));
    await source.shows(RENAMED);
    expect(fileOf(pair.path('backup', 'source', 'moved'))).toBe(inode);
  });
});

test('whatever is renamed at random is mirrored, and much of it is renamed on the target', async () => {
  await using pair = await Pair.withKeys('random');
  mkdirSync(pair.path('outside'));
  const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
  const model = new Model(seed, pair.path('source'), pair.path('outside'), SIZES);
  await model.work(50);
  const places = { source: pair.path('source'), backup: pair.path('backup'), scratch: pair.path('expected') };
  const source = await start(pair, [], { SYNC_INTERVAL: '0.3' });
  const renames = ['rename', 'renameFile', 'renameOver', 'renameOverFile', 'chain', 'swap', 'saveAsEditorsDo'];
  for (const end = performance.now() + 15_000; performance.now() < end; ) {
    await model.work(50, [...renames, 'create', 'append', 'moveOutAndBack', 'remove']);
    await model.isMirrored(places, '-avz --delete', () => source.output);
    await sleep(300); // what was in doubt is settled
  }
  const done = [...source.output.matchAll(new RegExp(RENAMED, 'g'))].reduce((sum, [, n]) => sum + Number(n), 0);
  console.log(`MODEL_SEED=${seed}: ${model.count} operations, ${done} renames on the target`);
  expect(done).toBeGreaterThan(0);
});

/** Has a sync take place: what is done from now on is done within one interval. */
async function beginInterval(pair: Pair, source: Program): Promise<void> {
  const offset = source.output.length;
  write(pair, 'other');
  await source.shows('同步成功', offset);
}

describe.concurrent('content is right, though sizes and times agree,', () => {
  /** Two files that rsync cannot tell apart where one is in the place of the other. */
  const twins = async (pair: Pair, env = {}) => {
    write(pair, 'dir/a', 'first');
    const source = await start(pair, ['other'], env);
    return source;
  };

  test('where another file took the place of the one that was moved, before', async () => {
    await using pair = await Pair.withKeys('replaced');
    const source = await twins(pair, { SYNC_INTERVAL: '2' });
    await beginInterval(pair, source);
    write(pair, 'tmp', 'other');
    move(pair, 'tmp', 'dir/a');
    move(pair, 'dir/a', 'dir/b');
    await isSame(pair);
  });

  test('where it was deleted and made anew', async () => {
    await using pair = await Pair.withKeys('anew');
    const source = await twins(pair, { SYNC_INTERVAL: '2' });
    await beginInterval(pair, source);
    rmSync(inSource(pair, 'dir/a'));
    write(pair, 'dir/a', 'other');
    move(pair, 'dir/a', 'dir/b');
    await isSame(pair);
  });

  test('where that happened in a directory that was moved, before or after', async () => {
    await using pair = await Pair.withKeys('within');
    const source = await twins(pair, { SYNC_INTERVAL: '2' });
    write(pair, 'dir2/a', 'first');
    await isSame(pair);
    await beginInterval(pair, source);
    write(pair, 'tmp', 'other');
    write(pair, 'tmp2', 'other');
    move(pair, 'tmp', 'dir/a');
    move(pair, 'dir', 'moved');
    move(pair, 'dir2', 'moved2');
    move(pair, 'tmp2', 'moved2/a');
    await isSame(pair);
  });

  test('where it was written over, and its time put back', async () => {
    await using pair = await Pair.withKeys('written-over');
    const source = await twins(pair, { SYNC_INTERVAL: '2' });
    await beginInterval(pair, source);
    write(pair, 'dir/a', 'other');
    move(pair, 'dir/a', 'dir/b');
    await isSame(pair);
  });

  test('where it was made anew while the deletion of the old one was on its way, and failed', async () => {
    await using pair = await Pair.withKeys('failed-deletion');
    await twins(pair);
    signalAll(remoteRsyncsOf(pair), 'SIGSTOP'); // a backup that is slow
    rmSync(inSource(pair, 'dir/a'));
    await sleep(1500);
    write(pair, 'dir/a', 'other');
    await sleep(100);
    move(pair, 'dir/a', 'dir/b');
    await sleep(200);
    signalAll(remoteRsyncsOf(pair), 'SIGKILL'); // and has no memory left
    await isSame(pair);
  });

  test('where it was made, moved and made anew while a batch was on its way that looks into its directory', async () => {
    await using pair = await Pair.withKeys('on-its-way');
    for (const name of ['dir/x', 'dir/z']) write(pair, name);
    const options = { RSYNC_OPTS: '-avz --delete --timeout=60', SYNC_INTERVAL: '0.3' };
    await start(pair, ['other'], options);
    await slowly(pair, async () => {
      move(pair, 'dir/x', 'dir/y');
      rmSync(inSource(pair, 'dir/z'));
      await sleep(700);
      write(pair, 'dir/a', 'first');
      await sleep(50);
      move(pair, 'dir/a', 'dir/b');
      write(pair, 'dir/a', 'other');
      await sleep(200);
    });
    await isSame(pair);
  });

  test('where another took its new place', async () => {
    await using pair = await Pair.withKeys('new-place');
    const source = await twins(pair, { SYNC_INTERVAL: '2' });
    await beginInterval(pair, source);
    write(pair, 'tmp', 'other');
    move(pair, 'dir/a', 'dir/b');
    move(pair, 'tmp', 'dir/b');
    await isSame(pair);
  });
});

test('a source that is replaced while the backup takes long to rename does not empty the backup', async () => {
  await using pair = await Pair.withKeys('replaced-source');
  const source = await start(pair, ['dir/a', 'kept'], { RSYNC_OPTS: '-avz --delete --timeout=60' });
  await slowly(pair, async () => {
    move(pair, 'dir/a', 'dir/b');
    await sleep(500);
    renameSync(pair.path('source'), pair.path('unmounted'));
    mkdirSync(pair.path('source'));
    await sleep(500);
  });
  await source.shows('已不是启动时的目录');
  await sleep(1000);
  expect(existsSync(inBackup(pair, 'kept'))).toBe(true);
});

describe.concurrent('nothing is renamed on the target', () => {
  test.each([
    ['where RENAME_ON_TARGET=false', { RENAME_ON_TARGET: 'false' }],
    ['where old versions are kept', { RSYNC_OPTS: '-av --delete --backup --suffix=.old' }],
    ['where each directory may have rules of its own', { RSYNC_OPTS: '-av --delete -F' }],
    ['where a rule would touch a directory of the new name', { RSYNC_OPTS: '-av --delete --exclude=moved/' }],
    ['where newer files of the backup stay', { RSYNC_OPTS: '-av --delete --update' }],
  ])('%s', async (_, env) => {
    await using pair = await Pair.withKeys('not');
    const source = await start(pair, ['file'], env);
    const inode = inodeOf(pair, 'file');
    move(pair, 'file', 'moved');
    await eventually(() => existsSync(inBackup(pair, 'moved')) && !existsSync(inBackup(pair, 'file')));
    await isQuiet(pair, source);
    expect(inodeOf(pair, 'moved')).not.toBe(inode);
    expect(source.output).not.toMatch(RENAMED);
  });

  test('where the backup keeps what the source deletes', async () => {
    await using pair = await Pair.withKeys('kept');
    const source = await start(pair, ['file'], { RSYNC_OPTS: '-av' });
    move(pair, 'file', 'moved');
    await eventually(() => existsSync(inBackup(pair, 'moved')));
    await isQuiet(pair, source);
    expect(existsSync(inBackup(pair, 'file'))).toBe(true);
  });

  test('where the backup does not know how: it says so once, and all is mirrored', async () => {
    await using pair = await Pair.withKeys('unknown');
    const backup = pair.start('start-sshd', { ALLOW_SHELL: 'true' }); // a shell, in whose PATH there is no start-sshd
    for (const name of ['one', 'two']) write(pair, name);
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    for (const name of ['one', 'two']) {
      await isQuiet(pair, source);
      move(pair, name, `${name} moved`);
      await isSame(pair);
    }
    expect(count(source.output, '目标不支持重命名')).toBe(1);
    expect(source.output).not.toContain('ERROR');
    expect(backup.running).toBe(true);
  });

  test('where small files are moved, which are sent faster', async () => {
    await using pair = await Pair.withKeys('small');
    const source = await start(pair, ['large']);
    copyFileSync(import.meta.path, inSource(pair, 'small'));
    await isSame(pair);
    await isQuiet(pair, source);
    move(pair, 'small', 'moved');
    await isSame(pair);
    expect(source.output).not.toMatch(RENAMED);
  });
});

test('a file that is moved into a directory which was a link on the backup does not leave the backup', async () => {
  await using pair = await Pair.withKeys('link');
  mkdirSync(pair.path('outside'));
  const source = await start(pair, ['file']);
  spawnSync('ln', ['-s', pair.path('outside'), inBackup(pair, 'dir')]); // what a source may have had there before
  mkdirSync(inSource(pair, 'dir'));
  await isQuiet(pair, source);
  move(pair, 'file', 'dir/file');
  await isSame(pair);
  expect(existsSync(pair.path('outside', 'file'))).toBe(false);
});
