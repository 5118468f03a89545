import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyOfBinary, isRoot, ordinaryUser, Pair } from '../pair.ts';
import { cleanEnv, eventually, freePort, Program } from '../processes.ts';
import { ROOT } from '../project.ts';

setDefaultTimeout(120_000);

const canMakeUsers = isRoot && Bun.which('useradd') !== null;
if (!canMakeUsers)
  console.warn('SKIPPED: the pair as another user: needs root and useradd; other tests run it as this user');

test.if(canMakeUsers)('the pair runs as an ordinary user over a real sshd', async () => {
  using user = ordinaryUser();
  await using pair = await Pair.make('user', user);
  await pair.run({ SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'file'), 'content');
  chmodSync(pair.path('source', 'file'), 0o644);
  await eventually(() => existsSync(pair.path('backup', 'file')));
  expect(statSync(pair.path('backup', 'file')).uid).toBe(user.uid);
});

test.if(canMakeUsers)('what ~/.bashrc has bash do is not in the way of a transfer', async () => {
  using user = ordinaryUser('/bin/bash');
  const habits = ['echo Welcome home', 'echo Welcome home >&2', 'export DEST_DIR=/ PATH=/nowhere', 'exit 1'];
  writeFileSync(join(user.home, '.bashrc'), habits.join('\n'));
  await using pair = await Pair.make('bashrc', user);
  const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
  for (const name of ['file', 'another']) {
    writeFileSync(pair.path('source', name), 'content');
    chmodSync(pair.path('source', name), 0o644);
    await eventually(() => existsSync(pair.path('backup', name)));
  }
  for (const { output } of [source, backup]) expect(output).not.toMatch(/Welcome|失败|拒绝/);
});

/** Says what a program finds wrong at its start as a user whom nobody knows. */
function checkAsStranger(name: 'rsync-inotify' | 'start-sshd', env: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'stranger-'));
  try {
    chmodSync(directory, 0o755);
    const { PATH } = process.env;
    const { stdout, stderr, status } = spawnSync(copyOfBinary(name, directory), ['--check'], {
      ...{ uid: 61_234, gid: 61_234, cwd: '/', encoding: 'utf8' },
      env: { PATH, NO_COLOR: '1', SOURCE_DIR: '/tmp/', DEST_DIR: '/tmp/backup', ...env },
    });
    expect(stderr).toBe('');
    expect(status).toBe(1);
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe.if(isRoot)('a user without an entry in passwd is told what is missing', () => {
  test.each(['rsync-inotify', 'start-sshd'] as const)('by %s, with a home directory and without', (name) => {
    const line = (home: string) => `请在 /etc/passwd 中加上一行 mirror:x:61234:61234::${home}:/bin/sh（`;
    for (const [env, home] of [[{}, '/'] as const, [{ HOME: '/tmp' }, '/tmp'] as const]) {
      const told = checkAsStranger(name, env);
      expect(told).toMatch(/^\[ERROR [^\n]*运行本程序的用户 \(uid 61234\) 在 \/etc\/passwd 中没有条目[^\n]*\n$/);
      expect(told).toContain(line(home));
    }
  });
});

test('the demo mirrors ./data/source, shows both logs and where to write, and Ctrl-C ends all of it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'demo-'));
  const home = mkdtempSync(join(homedir(), '.rsync-inotify-test-demo-'));
  const demo = new Program(process.execPath, ['run', join(ROOT, 'test', 'demo.ts')], {
    cwd: directory,
    env: { ...cleanEnv(), HOME: home, SSHD_PORT: String(await freePort()), NO_COLOR: '1', SYNC_INTERVAL: '0' },
  });
  try {
    await demo.shows(`write files into:   ${directory}/data/source`);
    await demo.shows(/^start-sshd {4}\| \[.*\] SSH 服务器就绪/m);
    await demo.shows(/^rsync-inotify \| \[.*\] ✓ 服务运行中/m);
    writeFileSync(join(directory, 'data', 'source', 'hello'), 'demo');
    await eventually(() => readFileSync(join(directory, 'data', 'backup', 'hello'), 'utf8') === 'demo');
  } finally {
    expect(await demo.stop('SIGINT')).toBe(0);
    rmSync(directory, { recursive: true });
    rmSync(home, { recursive: true });
  }
});
