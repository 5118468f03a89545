/** Volumes of containers below the source, and the source's own: what comes with another container must not empty the backup. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { buildImage, docker, dockerObstacle } from '../docker.ts';
import { eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const reason = dockerObstacle();
if (reason) console.warn(`SKIPPED: volumes below the source: ${reason}`);

const NAME = `rsync-inotify-test-mounts-${process.pid}`;
const IMAGE = `${NAME}:latest`;
const volume = (name: string) => `${NAME}-${name}`;
const VOLUMES = ['data', 'photos', 'empty', 'other', 'ssh', 'keys', 'backup', 'backup-ssh'].map(volume);

/** Starts a container with these volumes, `NAME:/path` each. */
function start(name: string, program: string, volumes: string[], env: string[]): void {
  const mounts = volumes.flatMap((it) => ['-v', `${NAME}-${it}`]);
  const settings = env.flatMap((it) => ['-e', it]);
  docker([
    'run',
    '-d',
    '--init',
    '--name',
    `${NAME}-${name}`,
    '--network',
    NAME,
    ...mounts,
    ...settings,
    IMAGE,
    program,
  ]);
}

function startSource(...volumes: string[]): void {
  const own = ['ssh:/root/.ssh', 'keys:/shared-keys'];
  const env = [`DEST_HOST=${NAME}-backup`, 'SYNC_INTERVAL=0', 'NO_COLOR=1'];
  start('source', 'rsync-inotify', [...own, ...volumes], env);
}

const replaceSource = (...volumes: string[]) => {
  docker(['rm', '-f', `${NAME}-source`]);
  startSource(...volumes);
};

const logOf = (name: string) => docker(['logs', `${NAME}-${name}`]);
const run = (name: string, command: string) => docker(['exec', `${NAME}-${name}`, 'bash', '-ec', command]);
const namesInBackup = () => run('backup', 'cd /data/backup && find . -mindepth 1 | sort').trim().split('\n');

async function logs(line: string | RegExp): Promise<void> {
  await eventually(() => logOf('source').match(line)).catch((cause) => {
    throw new Error(`${cause}\n${logOf('source')}\n${logOf('backup')}`);
  });
}

const healthOf = () =>
  spawnSync('docker', ['exec', `${NAME}-source`, 'rsync-inotify', '--healthcheck'], { encoding: 'utf8' });

describe.skipIf(reason !== '')('volumes of the source', () => {
  beforeAll(async () => {
    buildImage(IMAGE);
    docker(['network', 'create', NAME]);
    const volumes = ['backup:/data/backup', 'backup-ssh:/root/.ssh', 'keys:/shared-keys'];
    start('backup', 'start-sshd', volumes, ['HOST_KEY_DIR=/root/.ssh/host_keys', 'NO_COLOR=1']);
    startSource('data:/data/source', 'photos:/data/source/photos');
    await logs('✓ 服务运行中');
    run('source', 'cd /data/source; echo >file; mkdir photos/deep; echo >photos/one; echo >photos/deep/two');
    await eventually(() => namesInBackup().includes('./photos/deep/two'));
  }, 300_000);

  afterAll(() => {
    for (const name of ['source', 'backup']) spawnSync('docker', ['rm', '-f', `${NAME}-${name}`]);
    spawnSync('docker', ['network', 'rm', NAME]);
    for (const name of VOLUMES) spawnSync('docker', ['volume', 'rm', name]);
    spawnSync('docker', ['rmi', IMAGE]);
  });

  const KEPT = ['./photos', './photos/deep', './photos/deep/two', './photos/one'];

  test('below it: a new container without one leaves its copy alone and is unhealthy', async () => {
    replaceSource('data:/data/source');
    await logs(/\[ERROR .*\] 源目录下的挂载点 photos 不见了/);
    await logs('✓ 服务运行中');
    run('source', 'echo >/data/source/beside; rm /data/source/file');
    await eventually(() => namesInBackup().includes('./beside'));
    await eventually(() => !namesInBackup().includes('./file'));
    expect(namesInBackup()).toEqual(['./beside', ...KEPT]);
    await eventually(() => healthOf().status === 1);
    expect(healthOf().stdout).toContain('挂载点不见了');
  });

  test('below it: a new one that is empty leaves the copy of the former one alone', async () => {
    replaceSource('data:/data/source', 'empty:/data/source/photos');
    await logs(/\[ERROR .*\] 源目录下的挂载点 photos 换成了另一个空的文件系统/);
    await logs('✓ 服务运行中');
    run('source', 'echo >/data/source/photos/new');
    await eventually(() => namesInBackup().includes('./photos/new'));
    expect(namesInBackup()).toEqual(['./beside', ...KEPT.toSpliced(3, 0, './photos/new')]);
  });

  test('below it: the former one is mirrored again when it is back', async () => {
    replaceSource('data:/data/source', 'photos:/data/source/photos');
    await logs('✓ 服务运行中');
    await eventually(() => `${namesInBackup()}` === `${['./beside', ...KEPT]}`);
    await eventually(() => healthOf().status === 0);
    expect(logOf('source')).not.toContain('ERROR');
  });

  test('its own: another one that is empty leaves the backup alone', async () => {
    replaceSource('other:/data/source');
    await logs('源目录为空而备份不为空');
    expect(namesInBackup()).toEqual(['./beside', ...KEPT]);
  });

  test('of the backup: one that was emptied while it was down is filled again at once', async () => {
    replaceSource('data:/data/source', 'photos:/data/source/photos');
    await logs('✓ 服务运行中');
    docker(['stop', `${NAME}-backup`]);
    docker([
      'run',
      '--rm',
      '-v',
      `${NAME}-backup:/data/backup`,
      IMAGE,
      'find',
      '/data/backup',
      '-mindepth',
      '1',
      '-delete',
    ]);
    docker(['start', `${NAME}-backup`]);
    await logs(/\[WARN .*\] 备份端.*立即进行一次全量比较/);
    await eventually(() => `${namesInBackup()}` === `${['./beside', ...KEPT]}`);
  });
});
