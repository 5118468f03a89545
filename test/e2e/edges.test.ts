import { expect, setDefaultTimeout, test } from 'bun:test';
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pair, theOnly, watchersOf } from '../pair.ts';
import { content, count, eventually, type Program, processesWith } from '../processes.ts';

setDefaultTimeout(120_000);

const SYNC = '触发批量同步...';
/** Waits until nothing is synced any more. */
async function isQuiet(source: Program): Promise<void> {
  await eventually(async () => {
    const before = source.output.length;
    await sleep(1000);
    return before === source.output.length;
  });
}

test.concurrent('one file that fails for good has the others mirrored once, and is tried again ever more slowly', async () => {
  await using pair = await Pair.withKeys('one-fails');
  mkdirSync(pair.path('backup', 'blocked', 'full'), { recursive: true });
  const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av' });
  for (let n = 0; n < 40; n++) {
    writeFileSync(pair.path('source', 'blocked'), `${n}`);
    writeFileSync(pair.path('source', `other-${n}`), '');
    await sleep(50);
  }
  await eventually(() => existsSync(pair.path('backup', 'other-39')));
  const offset = source.output.length;
  await sleep(10_000);
  expect(count(source.output.slice(offset), SYNC)).toBeLessThanOrEqual(5);
});

test.concurrent('--max-delete is not worn down by tries', async () => {
  await using pair = await Pair.withKeys('max-delete');
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  for (const name of names) writeFileSync(pair.path('source', name), '');
  const { source } = await pair.run({ SYNC_INTERVAL: '1', RSYNC_OPTS: '-av --delete --max-delete=1' });
  await sleep(1000);
  for (const name of names.slice(1)) rmSync(pair.path('source', name));
  await source.shows('同步失败 (退出码: 25)：达到 --max-delete 限制');
  await sleep(4000);
  expect(readdirSync(pair.path('backup')).length).toBeGreaterThanOrEqual(3); // one a batch, and the burst may be two
  expect(source.running).toBe(true);
});

test.concurrent.each(['another file is moved to', 'a new file is made at'])(
  'a file is mirrored that was changed under another name of it, which %s since',
  async (what) => {
    await using pair = await Pair.withKeys('taken-name');
    const [file, name, other] = ['file', 'name', 'other'].map((path) => pair.path('source', path)) as [
      string,
      string,
      string,
    ];
    for (const path of [file, other]) writeFileSync(path, 'words');
    linkSync(file, name);
    const { source } = await pair.run({ SYNC_INTERVAL: '2', FULL_SYNC_INTERVAL: '0' });
    await isQuiet(source);
    const offset = source.output.length;
    writeFileSync(pair.path('source', 'first'), ''); // from now on there is an interval, in which all of it happens
    await source.shows('同步成功', offset);
    appendFileSync(name, ' and more');
    if (what.startsWith('another')) renameSync(other, name);
    else {
      rmSync(name);
      writeFileSync(name, 'new words');
    }
    await pair.isMirrored();
    expect(readFileSync(pair.path('backup', 'file'), 'utf8')).toBe('words and more');
  },
);

test.concurrent('a directory that was moved out of the source is not watched any more', async () => {
  await using pair = await Pair.withKeys('moved-out');
  mkdirSync(pair.path('source', 'a', 'b', 'c'), { recursive: true });
  const { source } = await pair.run({ SYNC_INTERVAL: '0' });
  const old = await theOnly(watchersOf, pair);
  renameSync(pair.path('source', 'a'), pair.path('elsewhere'));
  await eventually(() => !existsSync(pair.path('backup', 'a')) && !watchersOf(pair).includes(old));
  await isQuiet(source);
  const offset = source.output.length;
  writeFileSync(pair.path('elsewhere', 'b', 'c', 'file'), '');
  await sleep(1000);
  expect(source.output.slice(offset)).toBe('');
});

test.concurrent('a killed program leaves neither processes nor sockets behind', async () => {
  await using pair = await Pair.withKeys('killed-hard');
  using TMPDIR = temporary();
  const { source } = await pair.run({ TMPDIR: TMPDIR.path });
  await eventually(() => readdirSync(TMPDIR.path).length === 1);
  await source.stop('SIGKILL');
  const isOurs = (command: string) => /^(inotifywait|ssh|rsync|\/bin\/sh) /.test(command);
  await eventually(() => ![...processesWith(pair.directory).values()].some(isOurs));
  await eventually(() => readdirSync(TMPDIR.path).length === 0);
});

test.concurrent('a stopped program leaves no socket behind', async () => {
  await using pair = await Pair.withKeys('stopped');
  using TMPDIR = temporary();
  const { source } = await pair.run({ TMPDIR: TMPDIR.path });
  await eventually(() => readdirSync(TMPDIR.path).length === 1);
  expect(await source.stop()).toBe(0);
  expect(readdirSync(TMPDIR.path)).toEqual([]);
});

test.concurrent('a long TMPDIR and a connection that the user shares are no obstacle', async () => {
  await using pair = await Pair.withKeys('sharing');
  const TMPDIR = pair.path('t'.repeat(100));
  mkdirSync(TMPDIR);
  const SSH_OPTS = `-p ${pair.port} -S ${pair.path('shared-by-user')} -o ControlMaster=auto`;
  const { source } = await pair.run({ TMPDIR, SSH_OPTS, SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
  expect(existsSync(pair.path('shared-by-user'))).toBe(false);
  expect(source.output).not.toContain('无法建立共享的 SSH 连接');
});

test.concurrent('WATCH_EXCLUDE knows names that are not ASCII', async () => {
  await using pair = await Pair.withKeys('é-目录');
  mkdirSync(pair.path('source', '缓存'));
  const { source } = await pair.run({ SYNC_INTERVAL: '0', WATCH_EXCLUDE: '缓存/' });
  const offset = source.output.length;
  writeFileSync(pair.path('source', '缓存', 'file'), '');
  await sleep(1000);
  expect(source.output.slice(offset)).toBe('');
  writeFileSync(pair.path('source', 'file'), '');
  await eventually(() => existsSync(pair.path('backup', 'file')));
});

test.concurrent('old versions stay where filters and --backup come together', async () => {
  await using pair = await Pair.withKeys('versions');
  await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-ab --delete --exclude=none' });
  mkdirSync(pair.path('source', 'd'));
  for (const version of ['1', '22']) {
    writeFileSync(pair.path('new'), version);
    renameSync(pair.path('new'), pair.path('source', 'd', 'f')); // as a whole: an empty one in between would be a version, too
    await eventually(() => content(pair.path('backup', 'd', 'f')) === version);
  }
  expect(content(pair.path('backup', 'd', 'f~'))).toBe('1');
  renameSync(pair.path('source', 'd'), pair.path('source', 'e'));
  renameSync(pair.path('source', 'e'), pair.path('source', 'd'));
  writeFileSync(pair.path('source', 'last'), '');
  await eventually(() => existsSync(pair.path('backup', 'last')));
  await sleep(1000);
  expect(content(pair.path('backup', 'd', 'f~'))).toBe('1');
});

test.concurrent('a source that is a link needs its slash', async () => {
  await using pair = await Pair.withKeys('link');
  symlinkSync('source', pair.path('link'));
  const refused = pair.start('rsync-inotify', { SOURCE_DIR: pair.path('link') });
  expect(await refused.exited).toBe(2);
  expect(refused.output).toMatch(/SOURCE_DIR=.*是符号链接/);
  await pair.run({ SOURCE_DIR: `${pair.path('link')}/`, SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'file'), '');
  await pair.isMirrored();
});

/** A short path, which a test's directory below the home directory is not. */
function temporary(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'ri-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}
