import { expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot, ordinaryUser, Pair } from '../pair.ts';
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
