import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stateOf, statusOf, tell } from '../command.ts';
import { copyOfBinary, isRoot, ordinaryUser, Pair } from '../pair.ts';
import { cleanEnv, content, eventually } from '../processes.ts';

test('a pause keeps all back, outlives a kill, shows everywhere, and ends by itself or when told', async () => {
  await using pair = await Pair.withKeys('pause');
  expect(tell(pair, '--pause', '10m')).toEqual({ status: 1, output: expect.stringContaining('服务没有运行') });
  const metrics = { METRICS_FILE: pair.path('metrics'), SYNC_INTERVAL: '0' };
  const { source } = await pair.run(metrics);
  const at = (name: string) => content(pair.path('backup', name));
  writeFileSync(pair.path('source', 'before'), 'x');
  await eventually(() => at('before') === 'x');

  expect(tell(pair, '--pause', '1h')).toEqual({ status: 0, output: expect.stringMatching(/^已暂停同步，到 .* 为止/) });
  expect([stateOf(pair), tell(pair, '--status').output]).toEqual(['paused', expect.stringContaining('按要求暂停同步')]);
  await source.shows('已按要求暂停同步');
  writeFileSync(pair.path('source', 'meanwhile'), 'x');
  rmSync(pair.path('source', 'before'));
  await eventually(() => statusOf(pair).targets?.[0]?.pending === 2 && stateOf(pair) === 'paused');
  expect(tell(pair, '--healthcheck')).toEqual({ status: 0, output: expect.stringContaining('健康: 已按要求暂停同步') });
  expect(tell(pair, '--status').output).toMatch(/起按要求暂停同步，到 .* 为止；提前继续请执行 rsync-inotify --resume/);
  await eventually(() => content(pair.path('metrics')).includes('\nrsync_paused 1\n'));
  expect(content(pair.path('metrics'))).toMatch(/^rsync_target_state\{target="[^"]+",state="paused"\} 1$/m);

  source.signal('SIGKILL');
  await source.exited;
  const next = pair.start('rsync-inotify', metrics);
  await next.shows('启动前的暂停仍然有效');
  expect([at('meanwhile'), at('before')]).toEqual(['', 'x']);
  expect(tell(pair, '--resume')).toEqual({ status: 0, output: expect.stringContaining('已结束自') });
  await next.shows('✓ 服务运行中');
  await pair.isMirrored();
  expect(at('meanwhile')).toBe('x');
  expect(tell(pair, '--resume')).toEqual({ status: 1, output: expect.stringContaining('没有暂停') });

  expect(tell(pair, '--pause', '2s').status).toBe(0);
  writeFileSync(pair.path('source', 'later'), 'x');
  await next.shows('暂停已到期，继续同步');
  await pair.isMirrored();

  expect(tell(pair, '--pause', '1h').status).toBe(0);
  writeFileSync(pair.path('source', 'last'), 'x');
  await eventually(() => statusOf(pair).targets?.[0]?.pending === 1);
  await next.stop();
  expect(next.output).toContain('1 处变化尚未同步，下次启动时的全量同步会包含它们');
  expect(next.output).not.toContain('ERROR');
  expect(at('last')).toBe('');
});

test('a pause is on once the sync that went on has ended, and not before', async () => {
  await using pair = await Pair.withKeys('pause-busy');
  mkdirSync(pair.path('backup'), { recursive: true });
  const { source } = await pair.run({ RSYNC_OPTS: '-a --bwlimit=500', SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'large'), 'x'.repeat(2_000_000));
  await eventually(() => stateOf(pair) === 'syncing');
  expect(tell(pair, '--pause', '1s')).toMatchObject({ status: 1 });
  await source.shows('暂停已到期');
  const { status, output } = tell(pair, '--pause', '1h');
  expect([status, content(pair.path('backup', 'large')).length]).toEqual([0, 2_000_000]);
  expect(output).toContain('等待正在进行的同步结束');
});

/** A directory that everybody may enter, for as long as a test runs. */
function openPlace(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'rsync-inotify-test-'));
  chmodSync(path, 0o755);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test('what is wrong with a command is said, with exit status 2, and nobody but the user of the service may give one', async () => {
  using place = openPlace(); // so that nothing but the socket itself keeps others away
  await using pair = await Pair.withKeys('pause-refused');
  for (const args of [
    ['--pause', '0s'],
    ['--pause', '10'],
    ['--pause', '8d'],
    ['--pause', '1m', '2m'],
    ['--resume', '1m'],
    ['--pause', '--resume'],
  ])
    expect([args, tell(pair, ...args)]).toEqual([args, { status: 2, output: expect.stringContaining('用法错误') }]);
  if (!isRoot) return console.warn('SKIPPED: a command of another user: only root can become one');
  using user = ordinaryUser();
  const STATUS_FILE = join(place.path, 'status.json');
  await pair.run({ STATUS_FILE });
  const env = { ...cleanEnv(), STATUS_FILE };
  const { status, stdout, stderr } = spawnSync(copyOfBinary('rsync-inotify', place.path), ['--pause'], {
    ...{ env, uid: user.uid, gid: user.gid, encoding: 'utf8' },
  });
  expect([status, stdout + stderr]).toEqual([1, expect.stringContaining('无权控制服务，请以运行服务的用户执行')]);
  expect(JSON.parse(content(STATUS_FILE)).targets[0].state).not.toBe('paused');
});
