import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Pair, userName } from '../pair.ts';
import { eventually, Program } from '../processes.ts';

setDefaultTimeout(120_000);

test('the pair runs below /tmp as well, where sshd’s StrictModes would refuse every key', async () => {
  await using pair = await Pair.below(tmpdir(), 'tmp');
  await pair.run({ SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
});

test('two hosts that share no volume mirror once the public halves of their keys were carried across', async () => {
  await using pair = await Pair.make('apart');
  const [here, there] = [pair.path('source-shared'), pair.path('backup-shared')];
  for (const path of [here, there, pair.path('source-ssh')]) mkdirSync(path, { mode: 0o700 });
  const key = pair.path('source-ssh', 'id_rsa');
  spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '3072', '-N', '', '-f', key]);
  for (const path of [here, there]) copyFileSync(`${key}.pub`, `${path}/id_rsa.pub`);
  const backup = pair.start('start-sshd', { SHARED_KEYS_DIR: there });
  await backup.shows('SSH 服务器就绪');
  cpSync(`${there}/host_keys`, `${here}/host_keys`, { recursive: true });
  const source = pair.start('rsync-inotify', { SHARED_KEYS_DIR: here, SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
  expect(source.output + backup.output).not.toMatch(/WARN|ERROR/);

  rmSync(pair.path('host-keys'), { recursive: true });
  await backup.stop();
  await pair.start('start-sshd', { SHARED_KEYS_DIR: there }).shows('SSH 服务器就绪');
  await source.shows('可能有人在冒充备份主机'); // its new keys have not been carried across
  cpSync(`${there}/host_keys`, `${here}/host_keys`, { recursive: true });
  await source.shows('SSH 连接已恢复 ✓');
});

// The shell scripts know of the shared volume only that it holds id_rsa.pub.

test('a backup that merely copies the public key and runs sshd is mirrored to', async () => {
  await using pair = await Pair.make('old-backup');
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await eventually(() => existsSync(pair.path('shared', 'id_rsa.pub')));
  mkdirSync(pair.path('backup-ssh'), { mode: 0o700 });
  copyFileSync(pair.path('shared', 'id_rsa.pub'), pair.path('backup-ssh', 'authorized_keys'));
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('host_key')]);
  const options = [
    `HostKey=${pair.path('host_key')}`,
    `AuthorizedKeysFile=${pair.path('backup-ssh', 'authorized_keys')}`,
  ];
  const listen = ['ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no'];
  const args = [
    '-D',
    '-e',
    '-f',
    '/dev/null',
    '-p',
    `${pair.port}`,
    ...[...options, ...listen].flatMap((o) => ['-o', o]),
  ];
  if (userName() === 'root') mkdirSync('/run/sshd', { recursive: true });
  pair.keep(new Program('/usr/sbin/sshd', args, {}));
  await source.shows('✓ 服务运行中');
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
});

test('a source that makes its own key, copies the public half and starts rsync can mirror', async () => {
  await using pair = await Pair.make('old-source');
  const backup = pair.start('start-sshd');
  await backup.shows('(1/30)');
  spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '2048', '-N', '', '-f', pair.path('id_rsa')]);
  mkdirSync(pair.path('shared'), { recursive: true });
  copyFileSync(pair.path('id_rsa.pub'), pair.path('shared', 'id_rsa.pub'));
  await backup.shows('SSH 服务器就绪');
  writeFileSync(pair.path('source', 'file'), 'content');
  const ssh = `ssh -p ${pair.port} -i ${pair.path('id_rsa')} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null`;
  const target = `${userName()}@127.0.0.1:${pair.path('backup')}/`;
  const { status } = spawnSync('rsync', ['-avz', '--delete', '-e', ssh, `${pair.path('source')}/`, target]);
  expect(status).toBe(0);
  await pair.isMirrored();
});
