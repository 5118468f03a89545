/** The backup takes over: nothing is mirrored into it any more, by whichever session, until it is a backup again. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { CHEAP_LOGIN, Pair, userName } from '../pair.ts';
import { answerOf, eventually, processesWith } from '../processes.ts';
import { binary } from '../project.ts';
import { run } from '../thief.ts';

setDefaultTimeout(120_000);

/** Asks a program of a pair. */
const askBackup = (pair: Pair, args: string[], env: Record<string, string> = {}) =>
  run(binary('start-sshd'), args, '', { ...process.env, ...pair.backupEnv, ...env });
const checkSource = (pair: Pair) =>
  run(binary('rsync-inotify'), ['--healthcheck'], '', { ...process.env, ...pair.sourceEnv });

/** Logs in with the source's key. */
function ssh(pair: Pair, ...words: string[]) {
  const known = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'];
  const identity = ['-i', pair.path('source-ssh', 'id_rsa'), '-o', CHEAP_LOGIN];
  const options = ['-F', 'none', '-p', `${pair.port}`, ...identity, ...known];
  return { options, run: () => run('ssh', [...options, `${userName()}@127.0.0.1`, ...words]) };
}

/** Mirrors as an older source does, or somebody by hand. */
const rsyncByHand = (pair: Pair, below: string, options: string[] = []) => {
  const to = `${userName()}@127.0.0.1:${pair.path('backup')}/${below}`;
  return spawn('rsync', [
    '-a',
    ...options,
    '-e',
    ['ssh', ...ssh(pair).options].join(' '),
    `${pair.path('other')}/`,
    to,
  ]);
};

const statusOf = (pair: Pair) => JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8'));
const stateOf = (pair: Pair): string => statusOf(pair).targets[0].state;
const timesOf = (text: string, what: string) => text.split(what).length - 1;

/** All that is in the backup, with what would tell that somebody has touched it. */
const snapshot = (pair: Pair): string[] =>
  readdirSync(pair.path('backup'), { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const { ino, size, mtimeMs, ctimeMs } = lstatSync(pair.path('backup', name));
      return [name, ino, size, mtimeMs, ctimeMs].join(' ');
    });

/** Changes the source all the time, in all ways, until it is told to stop. */
function work(source: string): () => Promise<void> {
  let isOver = false;
  const change = async () => {
    for (let n = 0; !isOver; n++) {
      writeFileSync(join(source, `f${n % 7}`), `${n}`.repeat(1 + (n % 900)));
      if (n % 3 === 0) rmSync(join(source, `f${(n + 3) % 7}`), { force: true });
      if (n % 5 === 0 && existsSync(join(source, 'd'))) renameSync(join(source, 'd'), join(source, 'e'));
      else if (n % 5 === 2 && existsSync(join(source, 'e'))) renameSync(join(source, 'e'), join(source, 'd'));
      await Bun.sleep(3);
    }
  };
  const changing = change();
  return () => {
    isOver = true;
    return changing;
  };
}

test('a source whose first full sync is cut off by --promote rests, and mirrors after --demote', async () => {
  await using pair = await Pair.withKeys('promote-first');
  pair.start('start-sshd');
  mkdirSync(pair.path('source'), { recursive: true });
  writeFileSync(pair.path('source', 'large'), Buffer.alloc(2_000_000, 'x'));
  const source = pair.start('rsync-inotify', { RSYNC_OPTS: '-av --delete --bwlimit=1000', MAX_RETRIES: '2' });
  await eventually(() => readdirSync(pair.path('backup')).some((name) => name.startsWith('.large.')));
  expect((await askBackup(pair, ['--promote'])).status).toBe(0);
  await source.shows('备份端已接管');
  await Bun.sleep(8000); // in which it would have given up
  expect(source.output).not.toContain('首次全量同步失败');
  expect(stateOf(pair)).toBe('promoted');
  expect((await askBackup(pair, ['--demote'])).status).toBe(0);
  await source.shows('✓ 服务运行中', 0, 90_000);
  await pair.isMirrored();
}, 150_000);

test('nothing is written once --promote has returned, the source tells it once and rests, and --demote has all compared', async () => {
  await using pair = await Pair.withKeys('promote');
  for (const name of ['source/d', 'source/waiting-by-hand', 'source/slow-by-hand', 'other'])
    mkdirSync(pair.path(name), { recursive: true });
  for (const name of ['source/d/large', 'other/large']) writeFileSync(pair.path(name), Buffer.alloc(400_000, 'x'));
  writeFileSync(pair.path('source', 'old'), 'of the source');
  const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
  await pair.isMirrored();
  const stop = work(pair.path('source'));
  await eventually(() => timesOf(source.output, '同步成功') > 5);
  const waiting = rsyncByHand(pair, 'waiting-by-hand/not-yet/', ['--files-from=-']);
  const waited = answerOf(waiting);
  await eventually(() => processesWith('./not-yet/').size > 0);
  const slow = answerOf(rsyncByHand(pair, 'slow-by-hand/', ['--bwlimit=50']));
  await eventually(() => readdirSync(pair.path('backup', 'slow-by-hand')).some((it) => it.startsWith('.large.')));

  const { status, stdout } = await askBackup(pair, ['--promote']);
  const before = snapshot(pair);
  expect([status, stdout]).toEqual([0, expect.stringContaining(`备份端已接管 DEST_DIR=${pair.path('backup')}，自 `)]);
  await eventually(() => stateOf(pair) === 'promoted');
  waiting.stdin.end('large\n');
  for (const one of [waited, slow]) expect((await one).status).not.toBe(0);
  const tried = timesOf(source.output, '触发批量同步');
  await Bun.sleep(2500); // in which changes go on, and a try would come
  await stop();
  expect(snapshot(pair)).toEqual(before);
  expect(timesOf(source.output, '触发批量同步')).toBe(tried);
  expect(timesOf(source.output, '[ERROR')).toBeLessThan(4); // what was cut off, and that
  expect(source.lines.filter((line) => line.includes('备份端已接管'))).toHaveLength(1);
  expect(statusOf(pair).problems).toEqual([{ problem: 'promoted', target: statusOf(pair).targets[0].target }]);
  expect(await checkSource(pair)).toMatchObject({ status: 1, stdout: expect.stringContaining('备份端已接管') });

  // Whoever else has the key: the login test passes, and nothing else.
  expect(await ssh(pair, 'echo', 'ok').run()).toMatchObject({ status: 0, stdout: 'ok\n' });
  const refused = '拒绝执行：备份端已接管 (start-sshd --promote)';
  for (const command of ['--identify', '--errands', '--rename'])
    expect((await ssh(pair, `start-sshd ${command} ${pair.path('backup')}`).run()).stderr).toContain(refused);
  const rsync = await answerOf(rsyncByHand(pair, ''));
  expect([rsync.status, rsync.stderr]).toEqual([12, expect.stringContaining(refused)]);
  expect((await askBackup(pair, ['--healthcheck'])).stdout).toContain('健康: 备份端已接管');
  expect(await askBackup(pair, ['--allow-restore'])).toMatchObject({
    ...{ status: 1, stdout: expect.stringContaining('请先停止源端的服务') },
  });
  expect((await askBackup(pair, ['--status'])).stdout).toContain('不接收镜像，直到 start-sshd --demote');

  // It outlives the service, and what was written on the backup stays.
  const offset = source.output.length;
  await backup.stop();
  const next = pair.start('start-sshd');
  await next.shows('备份端已接管');
  await source.shows('SSH 连接已恢复', offset);
  writeFileSync(pair.path('backup', 'new'), 'of the application');
  writeFileSync(pair.path('source', 'old'), 'changed');
  await Bun.sleep(1000);
  expect(readFileSync(pair.path('backup', 'new'), 'utf8')).toBe('of the application');
  expect(readFileSync(pair.path('backup', 'old'), 'utf8')).toBe('of the source');

  expect(await askBackup(pair, ['--demote'])).toMatchObject({ status: 0 });
  await source.shows('备份端重新接收镜像');
  await pair.isMirrored();
  await eventually(() => statusOf(pair).problems.length === 0);
  expect(existsSync(pair.path('backup', 'new'))).toBe(false);
  writeFileSync(pair.path('source', 'later'), '');
  await eventually(() => existsSync(pair.path('backup', 'later')));
  expect(await askBackup(pair, ['--demote'])).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('没有被接管'),
  });
});

test('it is given while no service runs; a source that starts then waits, and deletes no more than MAX_DELETE at its end', async () => {
  await using pair = await Pair.withKeys('promote-stopped');
  for (let n = 0; n < 3; n++) writeFileSync(pair.path('source', `f${n}`), '');
  const first = await pair.run({ SYNC_INTERVAL: '0' });
  await first.source.stop();
  await first.backup.stop();
  const elsewhere = await askBackup(pair, ['--promote'], { DEST_DIR: pair.path('source') });
  expect([elsewhere.status, elsewhere.stdout]).toEqual([1, expect.stringContaining('没有 start-sshd 曾以')]);
  const { status, stdout } = await askBackup(pair, ['--promote']);
  expect([status, stdout]).toEqual([0, expect.stringMatching(/备份端已接管.*从下次启动起生效/s)]);
  for (let n = 0; n < 30; n++) writeFileSync(pair.path('backup', `new${n}`), 'of the application');

  const backup = pair.start('start-sshd');
  await backup.shows('备份端已接管');
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', MAX_DELETE: '10' });
  await source.shows('备份端已接管');
  await eventually(() => stateOf(pair) === 'promoted');
  expect(readdirSync(pair.path('backup'))).toHaveLength(33);
  expect(source.running).toBe(true);

  expect(await askBackup(pair, ['--demote'])).toMatchObject({ status: 0 });
  await source.shows('已暂缓删除');
  writeFileSync(pair.path('source', 'later'), '');
  await eventually(() => existsSync(pair.path('backup', 'later')));
  expect(readdirSync(pair.path('backup'))).toHaveLength(34);
});

test('with ALLOW_SHELL the key runs nothing while the backup has taken over', async () => {
  await using pair = await Pair.withKeys('promote-shell');
  const backup = pair.start('start-sshd', { ALLOW_SHELL: 'true' });
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  const touch = (name: string) => ssh(pair, 'touch', pair.path(name)).run();
  expect(await touch('one')).toMatchObject({ status: 0 });
  expect(await askBackup(pair, ['--promote'])).toMatchObject({ status: 0 });
  expect((await touch('two')).stderr).toContain('备份端已接管');
  await eventually(() => stateOf(pair) === 'promoted');
  expect(await askBackup(pair, ['--demote'])).toMatchObject({ status: 0 });
  expect(await touch('three')).toMatchObject({ status: 0 });
  expect(['one', 'two', 'three'].map((name) => existsSync(pair.path(name)))).toEqual([true, false, true]);
  await eventually(() => stateOf(pair) === 'idle');
  expect(backup.output).not.toContain('已被修改');
});
