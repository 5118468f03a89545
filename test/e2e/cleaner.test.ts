import { expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectionsOf, Pair, theOnly, userName } from '../pair.ts';
import { count, eventually, Program } from '../processes.ts';

setDefaultTimeout(90_000);

/** Removes all that lies in a directory, as systemd-tmpfiles or tmpreaper do in /tmp with what is old. */
function clean(directory: string): void {
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
}

test('a source whose temporary directory is cleaned makes its connection anew, and says so once', async () => {
  await using pair = await Pair.withKeys('cleaner');
  const TMPDIR = pair.path('tmp');
  mkdirSync(TMPDIR);
  const { source } = await pair.run({ TMPDIR, SYNC_INTERVAL: '0' });
  expect(readdirSync(TMPDIR).length).toBe(1);
  clean(TMPDIR);
  await source.shows('SSH 连接已恢复');
  for (const name of ['one', 'two', 'three']) {
    writeFileSync(pair.path('source', name), name);
    await pair.isMirrored();
  }
  expect(count(source.output, `${TMPDIR}/`)).toBe(1);
  expect(source.output).toContain('被删除，例如被清理临时文件的程序，正在重新连接...');
  expect(source.output).not.toMatch(/同步失败|log-file/);
  expect(await source.stop()).toBe(0);
  await eventually(() => readdirSync(TMPDIR).length === 0);
});

test('a backup whose runtime directory is cleaned goes on receiving and refusing, and says so once', async () => {
  await using pair = await Pair.withKeys('cleaner-backup');
  const RUNTIME_DIRECTORY = pair.path('run');
  mkdirSync(RUNTIME_DIRECTORY);
  const backup = pair.start('start-sshd', { RUNTIME_DIRECTORY });
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  const before = readdirSync(join(RUNTIME_DIRECTORY, readdirSync(RUNTIME_DIRECTORY)[0] ?? ''));
  clean(RUNTIME_DIRECTORY);
  await backup.shows('已重新写入');
  const [made = ''] = readdirSync(RUNTIME_DIRECTORY);
  expect(before).toEqual(expect.arrayContaining(readdirSync(join(RUNTIME_DIRECTORY, made))));
  process.kill(await theOnly(connectionsOf, pair), 'SIGKILL');
  await source.shows('SSH 连接已恢复');
  writeFileSync(pair.path('source', 'after'), 'content');
  await pair.isMirrored();
  const options = ['-p', `${pair.port}`, '-i', pair.path('source-ssh', 'id_rsa'), '-o', 'StrictHostKeyChecking=no'];
  pair.keep(
    new Program('ssh', [...options, '-o', 'UserKnownHostsFile=/dev/null', `${userName()}@127.0.0.1`, 'id'], {}),
  );
  await backup.shows('拒绝执行源端的命令：');
  expect(count(backup.output, '已重新写入')).toBe(1);
  expect(source.output).not.toContain('同步失败');
});
