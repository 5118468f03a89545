import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { lchownSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readConfig } from '../../../src/mirror/environment.ts';
import { HostKeys, temporaryDirectory } from '../../../src/mirror/host-keys.ts';
import { parsePublicKey } from '../../../src/service/keys.ts';
import { isRoot } from '../../pair.ts';
import { withKeys } from '../service/key-files.ts';
import { scratch } from '../service/scratch.ts';

const SOURCE_DIR = '/tmp/';

test('the published host keys are kept in one file in the order of their names, which is written where it changes', () => {
  withKeys((directory, [rsa = '', ecdsa = '']) => {
    const hostKeys = new HostKeys(readConfig({ SOURCE_DIR, SSH_DIR: directory, SHARED_KEYS_DIR: `${directory}/a/b` }));
    expect(hostKeys.refresh()).toBeUndefined();
    const published = join(directory, 'a', 'b', 'host_keys');
    mkdirSync(published, { recursive: true });
    expect(hostKeys.refresh()).toBeUndefined();
    writeFileSync(join(published, 'z.rsa.pub'), rsa);
    writeFileSync(join(published, 'a.ecdsa.pub'), ecdsa);
    writeFileSync(join(published, 'same.pub'), rsa);
    const file = hostKeys.refresh() ?? '';
    expect(file).toBe(join(directory, `known_hosts${directory.replaceAll('/', '-')}-a-b`));
    const lines = [ecdsa, rsa].map((key) => `* ${parsePublicKey(key).key}\n`);
    expect(readFileSync(file, 'utf8')).toBe(lines.join(''));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { ino } = statSync(file);
    hostKeys.refresh();
    expect(statSync(file).ino).toBe(ino);
    rmSync(join(published, 'a.ecdsa.pub'));
    hostKeys.refresh();
    expect(readFileSync(file, 'utf8')).toBe(lines[1] ?? '');
  });
});

test('a host on the way that is not trusted is told as that, and not as an impostor of the backup', () => {
  withKeys((directory, [rsa = '']) => {
    const config = readConfig({ SOURCE_DIR, SSH_DIR: directory, SHARED_KEYS_DIR: join(directory, 'shared') });
    mkdirSync(join(directory, 'shared', 'host_keys'), { recursive: true });
    writeFileSync(join(directory, 'shared', 'host_keys', 'rsa.pub'), rsa);
    const told: string[] = [];
    const target = { error: (event: string, message: string) => void told.push(`${event} ${message}`) };
    const hostKeys = new HostKeys(config, target, 'me@bastion:2222');
    hostKeys.refresh();
    const refused = 'Host key verification failed.\r\n';
    const ended =
      'kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n';
    hostKeys.explain(`ssh: connect to host bastion port 2222: Connection refused\r\n${ended}`);
    expect(told).toEqual([]);
    for (let n = 0; n < 2; n++) hostKeys.explain(refused + ended);
    expect(told).toHaveLength(1);
    expect(told[0]).toStartWith('host_key.jump_refused 跳板机 me@bastion:2222 的主机密钥未知，或已改变');
    for (let n = 0; n < 2; n++) hostKeys.explain(`a banner of ${ended}${refused}`);
    expect(told).toHaveLength(2);
    expect(told[1]).toMatch(/^host_key.refused .*可能有人在冒充备份主机/);
  });
});

test('a directory behind a link of another user is named without it, for rsync writes no log through that', () => {
  using directory = scratch();
  const [real, link] = [join(directory.path, 'real'), join(directory.path, 'link')];
  mkdirSync(real);
  symlinkSync(real, link);
  if (isRoot) lchownSync(link, 65534, 65534);
  const { TMPDIR } = process.env;
  process.env.TMPDIR = link;
  try {
    const made = temporaryDirectory(readConfig({ SOURCE_DIR, SSH_DIR: directory.path }));
    expect(made).toStartWith(`${real}/rsync-inotify-`);
    const log = join(made, 'log');
    const { stderr } = spawnSync('rsync', ['-a', `--log-file=${log}`, '--dry-run', `${real}/`, `${real}/`]);
    expect(stderr.toString()).toBe('');
    expect(readFileSync(log, 'utf8')).toContain('building file list');
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
});

test('a temporary directory is made where no cleaner looks, if there is such a place', () => {
  using directory = scratch();
  const before = process.env.RUNTIME_DIRECTORY;
  try {
    process.env.RUNTIME_DIRECTORY = `${directory.path}:/other`;
    expect(dirname(temporaryDirectory(readConfig({ SOURCE_DIR })))).toBe(directory.path);
    process.env.RUNTIME_DIRECTORY = join(directory.path, 'none'.repeat(30));
    const STATUS_FILE = '/var/lib/rsync-inotify/status.json';
    const made = temporaryDirectory(readConfig({ SOURCE_DIR, STATUS_FILE }));
    expect(dirname(made)).toBe(tmpdir());
    rmSync(made, { recursive: true });
  } finally {
    if (before === undefined) delete process.env.RUNTIME_DIRECTORY;
    else process.env.RUNTIME_DIRECTORY = before;
  }
});
