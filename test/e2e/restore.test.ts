import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isRoot, Pair } from '../pair.ts';
import { cleanEnv, content, eventually, Program } from '../processes.ts';
import { binary } from '../project.ts';
import { Thief } from '../thief.ts';
import { expectEqual } from '../tree.ts';

/** Asks the backup's program for something. */
function ask(pair: Pair, ...args: string[]) {
  const env = { ...process.env, ...pair.backupEnv };
  const { status, stdout, stderr } = spawnSync(binary('start-sshd'), args, { env, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const allow = (pair: Pair, duration: string) => expect(ask(pair, '--allow-restore', duration).status).toBe(0);

/** Starts a restore. */
const restore = (pair: Pair, args: string[] = [], env: Record<string, string> = {}) =>
  pair.keep(
    new Program(binary('rsync-inotify'), ['--restore', ...args], {
      env: { ...cleanEnv(), NO_COLOR: '1', ...pair.sourceEnv, ...env },
    }),
  );

const stateOf = (pair: Pair) => JSON.parse(content(pair.path('source-status.json')) || '{}').targets?.[0]?.state;

/** Fills a directory with a bit of everything. */
function fill(directory: string, files = 3): void {
  mkdirSync(join(directory, 'sub', 'deep'), { recursive: true });
  for (let n = 0; n < files; n++) writeFileSync(join(directory, 'sub', `file ${n}`), `${n}\n`.repeat(2000 * (n + 1)));
  writeFileSync(join(directory, 'sub', 'deep', 'a [1]*'), 'odd');
  symlinkSync('file 0', join(directory, 'sub', 'link'));
  chmodSync(join(directory, 'sub', 'file 1'), 0o751);
  if (isRoot) chownSync(join(directory, 'sub', 'file 2'), 1234, 4321);
  for (const name of ['sub/file 0', 'sub/deep', 'sub']) utimesSync(join(directory, name), 1_000_000_000, 1_234_567_890);
}

test('a host that was made anew gets all back, and the backup loses nothing by it', async () => {
  await using pair = await Pair.withKeys('restore-anew');
  rmSync(pair.path('source-ssh'), { recursive: true });
  fill(pair.path('backup'));
  const backup = pair.start('start-sshd');
  await backup.shows('等待源端公钥');
  const refused = restore(pair);
  expect(await refused.exited).toBe(1);
  expect(refused.output).toContain('备份端现在不允许读取');
  expect(readdirSync(pair.path('source'))).toEqual([]);

  allow(pair, '5m');
  await eventually(() => ask(pair, '--status').output.includes('允许恢复'));
  const restored = restore(pair);
  expect(await restored.exited, restored.output).toBe(0);
  expect(restored.output).toContain('恢复完成，与备份相同');
  expectEqual(pair.path('source'), pair.path('backup'));
  expect(isRoot ? statSync(pair.path('source', 'sub', 'file 2')).uid : 1234).toBe(1234);
  await backup.shows('源端读取');

  const again = restore(pair);
  expect([await again.exited, again.output.includes('不是空的')]).toEqual([1, true]);

  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  rmSync(pair.path('source', 'sub', 'file 0'));
  writeFileSync(pair.path('source', 'new'), 'new');
  await pair.isMirrored();
  expect(readdirSync(pair.path('backup', 'sub')).sort()).toEqual(['deep', 'file 1', 'file 2', 'link']);
});

test('the service sends nothing meanwhile, and deletes nothing for what a killed restore has not brought', async () => {
  await using pair = await Pair.withKeys('restore-live');
  const [source, backup] = [pair.path('source'), pair.path('backup')];
  mkdirSync(join(backup, 'many'), { recursive: true });
  for (let n = 0; n < 40; n++) writeFileSync(join(backup, 'many', `${n}`), 'x'.repeat(100_000));
  const kept = pair.path('kept');
  spawnSync('cp', ['-a', backup, kept]);
  const door = pair.start('start-sshd');
  await door.shows('等待源端公钥');
  allow(pair, '1h');
  const opts = (limit = '') => ({ RSYNC_OPTS: `-a --delete ${limit}`, SYNC_INTERVAL: '0', MAX_DELETE: 'off' });

  const killed = restore(pair, [], opts('--bwlimit=200'));
  await eventually(() => existsSync(join(source, 'many', '1')));
  killed.signal('SIGKILL');
  await killed.exited;
  const service = pair.start('rsync-inotify', opts());
  await service.shows('暂缓删除');
  await service.shows('✓ 服务运行中');
  expect(readdirSync(join(backup, 'many')).length).toBe(40);

  const second = restore(pair, ['.'], opts('--bwlimit=1000'));
  await second.shows('从备份恢复'); // the sync that went on is over
  await eventually(() => stateOf(pair) === 'paused');
  writeFileSync(join(source, 'meanwhile'), 'x');
  const third = restore(pair, ['many'], opts());
  expect([await third.exited, third.output.includes('另一个恢复正在进行')]).toEqual([1, true]);
  expect([stateOf(pair), existsSync(join(backup, 'meanwhile'))]).toEqual(['paused', false]);
  expect(await second.exited, second.output).toBe(0);
  await eventually(() => existsSync(join(backup, 'meanwhile')));
  rmSync(join(source, 'meanwhile')); // which is deleted there again: nothing is held any more
  await eventually(() => !existsSync(join(backup, 'meanwhile')));
  expectEqual(join(kept, 'many'), join(backup, 'many'), ['--omit-dir-times']);
});

test('a restore ends with the time that it was allowed for, and says so', async () => {
  await using pair = await Pair.withKeys('restore-late');
  const backup = pair.start('start-sshd');
  mkdirSync(pair.path('backup'), { recursive: true });
  writeFileSync(pair.path('backup', 'large'), 'x'.repeat(20_000_000));
  await backup.shows('等待源端公钥');
  allow(pair, '7s');
  const late = restore(pair, ['--to', pair.path('elsewhere')], { RSYNC_OPTS: '-a --bwlimit=1000' });
  expect(await late.exited).toBe(1);
  expect(late.output).toContain('恢复没有完成');
  expect(late.output).toContain('恢复的许可已结束');
  await backup.shows('已中断 1 个正在进行的读取');
  expect(readdirSync(pair.path('source'))).toEqual([]);
});

test('a stolen key reads nothing but DEST_DIR, no older versions, and changes nothing', async () => {
  await using pair = await Pair.withKeys('restore-thief');
  const thief = new Thief(pair);
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  await backup.shows('SSH 服务器就绪');
  const place = `${pair.path('backup')}/`;
  const write = (path: string, text: string) => {
    mkdirSync(join(place, path, '..'), { recursive: true });
    writeFileSync(join(place, path), text);
  };
  write('a', 'of the backup');
  write('.history/.start-sshd', '');
  write('.history/20251009T120000.000Z/a', 'an older version');
  write('.history/recovered/before/a', 'recovered');
  symlinkSync(pair.path('outside'), join(place, 'way'));
  linkSync(join(place, 'a'), join(place, 'b'));
  const loot = pair.path('loot');
  const fetch = (from: string, ...options: string[]) =>
    thief.rsync('-a', ...options, `${thief.host}:${from}`, `${loot}/`);
  const found = () => spawnSync('find', [loot, '-mindepth', '1', '-printf', '%P\n'], { encoding: 'utf8' }).stdout;

  expect((await fetch(place)).status).not.toBe(0);
  allow(pair, '5m');
  for (const [from, ...options] of [
    [pair.path('outside/')],
    [`${place}way/`],
    [`${place}./way/secret`, '-R'],
    [`${place}./../outside/secret`, '-R'],
    [`${place}.history/`],
    [`${place}.history/recovered/`],
    [`${place}./.history/20251009T120000.000Z/a`, '-R'],
    [place, '-L'],
    [place, '-k'],
    [place, '--copy-unsafe-links'],
    [place, '--remove-source-files'],
    [place, '-s'],
  ] as [string, ...string[]][]) {
    expect([from, ...options, (await fetch(from, ...options)).status]).not.toContain(0);
    expect(found()).toBe('');
  }
  expect((await fetch(place, '--include=/.history/***')).status).toBe(0);
  expect(found().trim().split('\n').sort()).toEqual(['a', 'b', 'way']);
  expect(readFileSync(join(loot, 'a'), 'utf8')).toBe('of the backup');
  expect((await fetch(`${place}.history/recovered/before/`)).status).toBe(0);
  expect(readFileSync(join(loot, 'a'), 'utf8')).toBe('recovered');
  expect(readFileSync(join(place, 'a'), 'utf8')).toBe('of the backup');
  allow(pair, '0s');
  expect((await fetch(place)).status).not.toBe(0);
});

test('whatever a backup has rsync do, nothing is written outside of the directory that is filled', async () => {
  await using pair = await Pair.withKeys('restore-fence');
  const backup = pair.start('start-sshd');
  fill(pair.path('backup'));
  await backup.shows('等待源端公钥');
  allow(pair, '5m');
  const { stdout: real } = spawnSync('sh', ['-c', 'command -v rsync'], { encoding: 'utf8' });
  const [outside, inside] = [pair.path('outside'), pair.path('source')];
  mkdirSync(pair.path('bin'));
  writeFileSync(
    pair.path('bin', 'rsync'),
    `#!/bin/sh\ncase "$*" in *progress2*) echo x > ${outside}; echo x > ${inside}/within;; esac\nexec ${real.trim()} "$@"\n`,
    { mode: 0o755 },
  );
  const led = restore(pair, [], { PATH: `${pair.path('bin')}:${process.env.PATH}` });
  expect(await led.exited, led.output).toBe(1);
  expect(led.output).toContain('恢复后与备份有 1 处不同'); // for all is fetched, and what should not be there is beside it
  expect(existsSync(join(inside, 'sub', 'file 0')), led.output).toBe(true);
  expect(existsSync(join(inside, 'within'))).toBe(true);
  expect(existsSync(outside)).toBe(false);
});

test('what was recovered is fetched by its name', async () => {
  await using pair = await Pair.withKeys('restore-from');
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  writeFileSync(pair.path('source', 'a'), 'good');
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  await eventually(() => content(pair.path('backup', 'a')) === 'good');
  await Bun.sleep(50); // the kernel's clock for files goes in steps
  const at = new Date().toISOString();
  await Bun.sleep(50);
  writeFileSync(pair.path('source', 'a'), 'encrypted');
  await eventually(() => content(pair.path('backup', 'a')) === 'encrypted');
  const tree = pair.path('backup', '.history', 'recovered', 'good');
  expect(ask(pair, '--recover', '--at', at, '--to', tree)).toMatchObject({ status: 0 });
  allow(pair, '5m');
  const restored = restore(pair, ['a', '--from', '.history/recovered/good']);
  expect(await restored.exited, restored.output).toBe(0);
  expect(content(pair.path('source', 'a'))).toBe('good');
  await eventually(() => content(pair.path('backup', 'a')) === 'good');
  expect(backup.output).not.toContain('history.foreign');
});
