/** A backup whose disk hangs: the service goes on, tells it, and ends when it is asked to. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { startedBy } from '../../src/service/processes.ts';
import { connectionsOf, isRoot, Pair, remoteRsyncsOf, theOnly } from '../pair.ts';
import { cleanEnv, content, count, eventually, Program, signalAll } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

const canHang = isRoot && existsSync('/dev/fuse') && spawnSync('unshare', ['-m', 'true']).status === 0;
if (!canHang) console.warn('SKIPPED: a disk that hangs: needs root, unshare and /dev/fuse');

/** Has a directory hang for a program with mounts of its own: it becomes a file system that answers nothing. */
async function hang(pair: Pair, program: Program, directory: string): Promise<void> {
  const mountsOf = (pid: string | number) => readlinkSync(`/proc/${pid}/ns/mnt`);
  await eventually(() => mountsOf(program.pid) !== mountsOf('self'));
  const options = 'fd=9,rootmode=40000,user_id=0,group_id=0';
  const script = `exec 9<>/dev/fuse; mount -i -t fuse -o ${options} none '${directory}' && echo hangs && exec sleep 100`;
  const holder = pair.keep(new Program('nsenter', ['-t', `${program.pid}`, '-m', 'sh', '-c', script], {}));
  await holder.shows('hangs');
}

function healthOf(pair: Pair): string {
  const env = { ...cleanEnv(), STATUS_FILE: pair.path('backup-status.json') };
  return spawnSync(binary('start-sshd'), ['--healthcheck'], { env, encoding: 'utf8' }).stdout;
}

test.skipIf(!canHang)('a disk that hangs holds up neither a new key nor the end, and is told', async () => {
  await using pair = await Pair.withKeys('hung');
  const shared = pair.path('shared', 'id_rsa.pub');
  mkdirSync(pair.path('shared'));
  copyFileSync(pair.path('source-ssh', 'id_rsa.pub'), shared);
  const backup = pair.start('start-sshd', {}, ['unshare', '-m', '--propagation', 'private']);
  await backup.shows('SSH 服务器就绪');
  await eventually(() => healthOf(pair).startsWith('健康: '));

  await hang(pair, backup, pair.path('backup'));
  await eventually(() => healthOf(pair) === `不健康: 目标目录 ${pair.path('backup')} 无法写入\n`);
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('next')]);
  copyFileSync(pair.path('next.pub'), shared);
  await eventually(() => content(pair.path('backup-ssh', 'authorized_keys')).includes(content(shared).trim()));

  const asked = performance.now();
  expect(await backup.stop()).toBe(0);
  expect(performance.now() - asked).toBeLessThan(5000);
  expect(healthOf(pair)).toBe('不健康: 服务已停止\n');
});

test.skipIf(!canHang)('a disk that hangs at the start holds up no end', async () => {
  await using pair = await Pair.withKeys('hung-start');
  mkdirSync(pair.path('backup'));
  const script = 'sleep 1; exec "$@"';
  const backup = pair.start('start-sshd', {}, ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh']);
  await hang(pair, backup, pair.path('backup'));
  await backup.shows('配置 SSH 服务...');
  expect(healthOf(pair)).toBe('不健康: 正在启动\n');
  expect(await backup.stop()).toBe(0);
});

test('a receiving rsync that was stopped is ended, and what it was sent is sent again', async () => {
  await using pair = await Pair.withKeys('stopped');
  const { backup } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-a --delete --bwlimit=4000' });
  writeFileSync(pair.path('source', 'big'), randomBytes(16_000_000));
  const receiving = await eventually(() => {
    const found = remoteRsyncsOf(pair).filter((pid) => startedBy(pid).length > 0);
    return found.length > 0 ? found : undefined;
  });
  signalAll(receiving.flatMap(startedBy), 'SIGSTOP'); // one of the two that receive
  await backup.shows(/\[WARN .*接收镜像的进程 \d+ 已被暂停 \d+ 秒，已结束它，由源端重试/, 0, 60_000);
  await pair.isMirrored(60_000);
});

test.skipIf(!canHang)('a receiving rsync whose disk hangs is told', async () => {
  await using pair = await Pair.withKeys('hung-disk');
  for (const name of ['backup/disk', 'shared']) mkdirSync(pair.path(name), { recursive: true });
  copyFileSync(pair.path('source-ssh', 'id_rsa.pub'), pair.path('shared', 'id_rsa.pub'));
  const backup = pair.start('start-sshd', {}, ['unshare', '-m', '--propagation', 'private']);
  await backup.shows('SSH 服务器就绪');
  await hang(pair, backup, pair.path('backup', 'disk'));
  mkdirSync(pair.path('source', 'disk'));
  writeFileSync(pair.path('source', 'disk', 'file'), 'words');
  pair.start('rsync-inotify');
  await backup.shows(/\[WARN .*接收镜像的进程 \d+ 等待磁盘已 \d+ 秒/, 0, 90_000);
  await eventually(() => healthOf(pair) === `不健康: 目标目录 ${pair.path('backup')} 所在的磁盘没有应答\n`);
});

test.skipIf(!canHang)(
  'a shared volume that hangs holds up neither side, and what was known of it goes on counting',
  async () => {
    await using pair = await Pair.withKeys('hung-shared');
    const wrapper = ['unshare', '-m', '--propagation', 'private'];
    const backup = pair.start('start-sshd', {}, wrapper);
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' }, wrapper);
    await source.shows('✓ 服务运行中');
    for (const program of [backup, source]) await hang(pair, program, pair.path('shared'));
    await backup.shows(/\[ERROR .*\] 共享卷没有应答: .*id_rsa.pub。已授权的公钥继续有效/);
    const lost = await theOnly(connectionsOf, pair);
    process.kill(lost, 'SIGKILL');
    await source.shows(/\[WARN .*\] 共享卷没有应答: .*host_keys。在此之前公布的主机密钥继续有效/);
    await source.shows('SSH 连接已恢复 ✓');
    writeFileSync(pair.path('source', 'file'), 'words');
    await eventually(() => existsSync(pair.path('backup', 'file')) && content(pair.path('backup', 'file')) === 'words');
    expect(count(backup.output, '共享卷没有应答')).toBe(1);
    expect(await Promise.all([source.stop(), backup.stop()])).toEqual([0, 0]);
  },
);
