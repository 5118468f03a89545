import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pair } from '../pair.ts';
import { count, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

describe('the mirror', () => {
  test('has what was there before, and every kind of change since', async () => {
    await using pair = await Pair.withKeys('changes');
    const source = (...names: string[]) => pair.path('source', ...names);
    const backup = (...names: string[]) => pair.path('backup', ...names);
    mkdirSync(source('old'));
    writeFileSync(source('old', 'file'), 'before');
    await pair.run({ SYNC_INTERVAL: '0' });
    expect(readFileSync(backup('old', 'file'), 'utf8')).toBe('before');

    writeFileSync(source('created'), 'one');
    await eventually(() => readFileSync(backup('created'), 'utf8') === 'one');
    appendFileSync(source('created'), ' two');
    await eventually(() => readFileSync(backup('created'), 'utf8') === 'one two');
    renameSync(source('created'), source('renamed'));
    await eventually(() => existsSync(backup('renamed')) && !existsSync(backup('created')));
    chmodSync(source('renamed'), 0o751);
    await eventually(() => (statSync(backup('renamed')).mode & 0o777) === 0o751);
    renameSync(source('old'), pair.path('outside'));
    await eventually(() => !existsSync(backup('old')));
    renameSync(pair.path('outside'), source('returned'));
    await eventually(() => existsSync(backup('returned', 'file')));
    renameSync(source('renamed'), pair.path('outside')); // a file: only its directory's watch can tell
    await eventually(() => !existsSync(backup('renamed')));
    renameSync(pair.path('outside'), source('renamed'));
    symlinkSync('renamed', source('link'));
    await pair.isMirrored();
    rmSync(source('renamed'));
    rmSync(source('returned'), { recursive: true });
    await eventually(() => !existsSync(backup('renamed')) && !existsSync(backup('returned')));
    await pair.isMirrored();
  });

  test('holds files of any name, and no name can forge a line of the log', async () => {
    await using pair = await Pair.withKeys('names');
    const forged = 'x\n[2025-10-09 12:00:00] 同步成功 (耗时: 1秒) ✓';
    const names = [
      'with space',
      ' leading and trailing ',
      `quotes ' " and \` backtick`,
      'back\\slash',
      forged,
      'carriage\rreturn',
      '-avz',
      '--delete',
      '*',
      '?[a-z]{b,c}',
      '$(touch pwned); echo $HOME',
      'escape\u001b[31mred',
      '中文 ✓ 🎉',
      'a|b',
      '#hash',
      'colon:host',
      'n'.repeat(255),
    ].map((name) => Buffer.from(name));
    names.push(Buffer.from([0x66, 0xff, 0xfe, 0x80]), Buffer.from([0xc3, 0x28]));
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    const at = (side: 'source' | 'backup', name: Buffer) => Buffer.concat([Buffer.from(`${pair.path(side)}/`), name]);
    for (const name of names) {
      writeFileSync(at('source', name), 'content');
      // A batch of its own, so that the log names it.
      if (/[^ -~]/.test(name.toString())) await eventually(() => existsSync(at('backup', name)));
    }
    await pair.isMirrored();
    const mirrored = readdirSync(pair.path('backup'), { encoding: 'buffer' }).map((name) => name.toString('hex'));
    expect(mirrored.sort()).toEqual(names.map((name) => name.toString('hex')).sort());
    await source.shows('x\\n[2025-10-09');
    await source.shows('f\\xff\\xfe\\x80');
    await source.shows('escape\\x1b[31mred');
    expect(source.output).not.toContain('\n[2025-10-09 12:00:00]');
    expect(source.output).not.toContain('\u001b');
  });

  test('takes a source without a trailing slash as rsync does', async () => {
    await using pair = await Pair.withKeys('slash');
    await pair.run({ SYNC_INTERVAL: '0', SOURCE_DIR: pair.path('source') });
    writeFileSync(pair.path('source', 'file'), 'content');
    await eventually(() => existsSync(pair.path('backup', 'source', 'file')));
  });

  test('goes to a directory of which only the root is there yet', async () => {
    await using pair = await Pair.withKeys('nested');
    const DEST_DIR = `${pair.path('not', 'yet', 'there')}/`;
    pair.start('start-sshd', { DEST_DIR });
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', DEST_DIR });
    await source.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'file'), 'content');
    await eventually(() => existsSync(pair.path('not', 'yet', 'there', 'file')));
  });

  test('takes directories and options with spaces, quotes and percent signs', async () => {
    await using pair = await Pair.withKeys("a 'quoted' 100%h pair");
    await pair.run({
      SYNC_INTERVAL: '0',
      RSYNC_OPTS: `-avz --delete --exclude='not this' --exclude "nor;that $(touch ${pair.path('pwned')})"`,
      SSH_OPTS: `-p ${pair.port} -o 'SetEnv=A="b c"'`,
    });
    writeFileSync(pair.path('source', 'not this'), '');
    writeFileSync(pair.path('source', 'but this'), '');
    await eventually(() => existsSync(pair.path('backup', 'but this')));
    expect(existsSync(pair.path('backup', 'not this'))).toBe(false);
    expect(existsSync(pair.path('pwned'))).toBe(false);
  });

  test('loses nothing that changes while the first full sync runs', async () => {
    await using pair = await Pair.withKeys('meanwhile');
    mkdirSync(pair.path('source', 'many'));
    for (let n = 0; n < 3000; n++) writeFileSync(pair.path('source', 'many', `${n}`), `${n}`);
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0.1' });
    await source.shows('首次全量同步');
    let written = 0;
    while (!source.output.includes('✓ 服务运行中')) {
      writeFileSync(pair.path('source', 'many', `${written % 3000}`), `changed ${written}`);
      written++;
      await sleep(1);
    }
    expect(written).toBeGreaterThan(10);
    await pair.isMirrored();
  });
});

describe('SYNC_INTERVAL', () => {
  test('lets the first change go at once and the last of a burst when it is over, without another event', async () => {
    await using pair = await Pair.withKeys('burst');
    const { source } = await pair.run({ SYNC_INTERVAL: '3' });
    await sleep(3000);
    const offset = source.output.length;
    const started = performance.now();
    writeFileSync(pair.path('source', 'first'), '1');
    await eventually(() => existsSync(pair.path('backup', 'first')), 2500);
    for (let n = 0; n < 10; n++) writeFileSync(pair.path('source', 'last'), `${n}`);
    await sleep(500);
    expect(existsSync(pair.path('backup', 'last'))).toBe(false);
    await eventually(() => readFileSync(pair.path('backup', 'last'), 'utf8') === '9', 5000);
    expect(performance.now() - started).toBeGreaterThan(2900);
    expect(count(source.output.slice(offset), '触发批量同步...')).toBe(2);
  });

  test('starts no more than one sync in its time', async () => {
    await using pair = await Pair.withKeys('interval');
    const { source } = await pair.run({ SYNC_INTERVAL: '1.5' });
    const syncs = () => count(source.output, '触发批量同步...');
    const started = performance.now();
    while (performance.now() - started < 6000 || syncs() < 3) {
      appendFileSync(pair.path('source', 'growing'), 'x');
      await sleep(50);
    }
    await pair.isMirrored();
    expect(syncs()).toBeLessThanOrEqual(Math.ceil((performance.now() - started) / 1500) + 1);
  });
});

describe('the log of changes', () => {
  test('names a change with its events, a batch’s first fifty, and counts the others', async () => {
    await using pair = await Pair.withKeys('many');
    const { source } = await pair.run({ SYNC_INTERVAL: '1' });
    await sleep(1000);
    writeFileSync(pair.path('source', 'test.txt'), 'Hello');
    await source.shows(`检测到文件变化: ${pair.path('source', 'test.txt')} CLOSE_WRITE,CLOSE`);
    await pair.isMirrored();
    const offset = source.output.length;
    for (let n = 0; n < 500; n++) writeFileSync(pair.path('source', `file-${n}`), '');
    await pair.isMirrored();
    await source.shows(/另有 \d+ 处文件变化未逐条列出/, offset);
    const named = source.output
      .slice(offset)
      .split('触发批量同步...')
      .map((batch) => count(batch, '检测到文件变化'));
    expect(Math.max(...named)).toBeGreaterThanOrEqual(40);
    for (const part of source.output.split('触发批量同步...')) {
      expect(count(part, '检测到文件变化')).toBeLessThanOrEqual(100); // changes during a sync count for the next batch
    }
  });
});
