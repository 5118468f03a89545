import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { Pair, remoteRsyncsOf, userName } from '../pair.ts';
import { eventually, freePort } from '../processes.ts';

setDefaultTimeout(90_000);

/** The process that has written a STATUS_FILE last. */
const writerOf = (path: string): number => JSON.parse(readFileSync(path, 'utf8')).pid;

test('a source says who it is, and is told of no other one, not even after a restart', async () => {
  await using pair = await Pair.withKeys('alone');
  const { source, backup } = await pair.run();
  await source.stop('SIGKILL');
  await pair.start('rsync-inotify').shows('✓ 服务运行中');
  const command = `start-sshd --announce ${pair.path('backup')} one@host`;
  const options = ['-p', `${pair.port}`, '-i', pair.path('source-ssh', 'id_rsa'), '-o', 'StrictHostKeyChecking=no'];
  const args = [...options, '-o', 'UserKnownHostsFile=/dev/null', `${userName()}@127.0.0.1`];
  const ask = (words: string) => spawnSync('ssh', [...args, words], { encoding: 'utf8' });
  expect(ask(command)).toMatchObject({ status: 0, stdout: '[]\n' });
  expect(backup.output).not.toContain('拒绝执行');
  expect(ask(`${command}!`).stderr).toContain('源端的名称无效');
  expect(JSON.parse(readFileSync(pair.path('backup-status.json'), 'utf8')).doubled).toEqual([]);
});

test('a backup that was killed starts again on its port, and no session of it is left', async () => {
  await using pair = await Pair.withKeys('killed');
  const { source, backup } = await pair.run();
  const [before] = remoteRsyncsOf(pair);
  await backup.stop('SIGKILL');
  const next = pair.start('start-sshd');
  await next.shows('服务器就绪');
  await source.shows('SSH 连接已恢复');
  await eventually(() => !remoteRsyncsOf(pair).includes(before as number)); // the source may be back while it is being ended
  writeFileSync(pair.path('source', 'after'), 'text');
  await eventually(() => existsSync(pair.path('backup', 'after')));
  expect(next.output).not.toContain('已被占用');
});

describe('a second service with the same STATUS_FILE', () => {
  test.each(['rsync-inotify', 'start-sshd'] as const)(
    'ends and says why, and the first one goes on: %s',
    async (name) => {
      await using pair = await Pair.withKeys('same-status-file');
      const { source, backup } = await pair.run();
      const [first, file] = name === 'start-sshd' ? [backup, 'backup-status.json'] : [source, 'source-status.json'];
      const second = pair.start(name, { SSHD_PORT: String(await freePort()) });
      expect(await second.exited).toBe(1);
      expect(second.output).toContain(`另一个服务正在运行，并使用同一个 STATUS_FILE=${pair.path(file)}`);
      expect(second.lines.length).toBe(2);
      expect(writerOf(pair.path(file))).toBe(first.pid);
      expect(first.running).toBe(true);
    },
  );

  test.each(['rsync-inotify', 'start-sshd'] as const)(
    'begins when the first one has ended, however: %s',
    async (name) => {
      await using pair = await Pair.withKeys('next-status-file');
      const { source, backup } = await pair.run();
      const [first, file] = name === 'start-sshd' ? [backup, 'backup-status.json'] : [source, 'source-status.json'];
      const second = pair.start(name, { SSHD_PORT: String(await freePort()) });
      await second.shows('等待它结束');
      first.signal('SIGKILL');
      await second.shows(name === 'start-sshd' ? '服务器就绪' : '✓ 服务运行中');
      await eventually(() => writerOf(pair.path(file)) === second.pid);
      await second.stop('SIGKILL');
      const third = pair.start(name, { SSHD_PORT: String(await freePort()) });
      await eventually(() => writerOf(pair.path(file)) === third.pid);
      expect(third.output).not.toContain('等待它结束');
    },
  );
});
