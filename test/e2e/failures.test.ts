import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, Pair, type Program, processesWith } from '../helpers.ts';

setDefaultTimeout(60_000);

const sshdPid = (backup: Program) => Number(/PID: (\d+)/.exec(backup.output)?.[1]);
const content = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

describe('stopping', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'by %s ends both with a line, status 0 and no child left',
    async (signal) => {
      await using pair = await Pair.make('stop');
      const { source, backup } = await pair.run();
      expect(processesWith(pair.directory).size).toBeGreaterThan(0);
      expect(await source.stop(signal)).toBe(0);
      expect(source.lines.slice(-2).map((line) => line.slice(22))).toEqual([
        `收到 ${signal}，正在停止服务...`,
        '服务已停止 ✓',
      ]);
      expect(await backup.stop(signal)).toBe(0);
      expect(backup.output).toContain(`收到 ${signal}，正在停止服务...`);
      expect(backup.lines.at(-1)).toEndWith('服务已停止 ✓');
      await eventually(() => processesWith(pair.directory).size === 0);
    },
  );

  test('sends what is still waiting for its interval', async () => {
    await using pair = await Pair.make('pending');
    const { source } = await pair.run({ SYNC_INTERVAL: '60' });
    writeFileSync(pair.path('source', 'last'), 'words');
    expect(await source.stop()).toBe(0);
    expect(content(pair.path('backup', 'last'))).toBe('words');
  });

  test('ends a long sync within 5 s, leaves no child on either side, and the next start completes it', async () => {
    await using pair = await Pair.make('long');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av --delete --bwlimit=100' });
    spawnSync('sh', ['-c', 'head -c 20000000 /dev/urandom > "$1"', 'sh', pair.path('source', 'big')]);
    await eventually(() => [...processesWith(pair.directory).values()].some((command) => command.includes('--server')));
    const started = performance.now();
    expect(await source.stop()).toBe(0);
    expect(performance.now() - started).toBeLessThan(5000);
    expect(source.output).toMatch(/\[WARN .*\] \d+ 处变化尚未同步，下次启动时的全量同步会包含它们/);
    await eventually(
      () => ![...processesWith(pair.directory).values()].some((command) => /^(rsync|ssh|inotifywait) /.test(command)),
    );
    const again = pair.start('rsync-inotify');
    await again.shows('✓ 服务运行中');
    await pair.isMirrored();
  });

  test('is possible in every phase of the start', async () => {
    await using pair = await Pair.make('early');
    const waiting = pair.start('rsync-inotify');
    await waiting.shows('目标主机: 127.0.0.1:');
    expect(await waiting.stop()).toBe(0);
    const backup = pair.start('start-sshd', { SHARED_KEYS_DIR: pair.path('empty') });
    await backup.shows('(1/30)');
    expect(await backup.stop()).toBe(0);
    expect(processesWith(pair.directory).size).toBe(0);
  });
});

describe('a backup that goes away', () => {
  test('for ten seconds delays changes and loses none; the log gives code, meaning and the next try', async () => {
    await using pair = await Pair.make('away');
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
    await backup.stop();
    const stopped = performance.now();
    const offset = source.output.length;
    writeFileSync(pair.path('source', 'one'), '1');
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: 255\)：SSH 连接失败/, offset);
    await source.shows(/\[WARN .*\] 1 秒后重试，1 处变化等待同步/, offset);
    await source.shows(/\[WARN .*\] 2 秒后重试/, offset);
    writeFileSync(pair.path('source', 'two'), '2');
    await sleep(Math.max(0, 10_000 - (performance.now() - stopped)));
    expect(source.running).toBe(true);
    pair.start('start-sshd');
    await pair.isMirrored(20_000);
    expect(content(pair.path('backup', 'two'))).toBe('2');
  });

  test('in the middle of a transfer is survived', async () => {
    await using pair = await Pair.make('cut');
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av --delete --bwlimit=1000' });
    const offset = source.output.length;
    spawnSync('sh', ['-c', 'head -c 3000000 /dev/urandom > "$1"', 'sh', pair.path('source', 'big')]);
    await source.shows('触发批量同步', offset);
    await sleep(500);
    await backup.stop();
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: (12|20|30|255)\)/, offset);
    pair.start('start-sshd');
    await pair.isMirrored(30_000);
  });
});

describe('files that cannot be written', () => {
  test('are told with code 23 and tried again, at the start and later, while others are mirrored', async () => {
    await using pair = await Pair.make('partial');
    mkdirSync(pair.path('backup', 'blocked', 'full'), { recursive: true });
    writeFileSync(pair.path('source', 'blocked'), 'a file where the backup has a directory that is not empty');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av' });
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: 23\)：部分文件传输失败/);
    expect(source.output).toContain('首次全量同步未能传输全部文件');
    writeFileSync(pair.path('source', 'other'), 'other');
    await eventually(() => content(pair.path('backup', 'other')) === 'other');
    rmSync(pair.path('backup', 'blocked'), { recursive: true });
    await pair.isMirrored(20_000);
  });
});

describe('the watcher', () => {
  test('is replaced when it is killed, and what happened meanwhile is mirrored', async () => {
    await using pair = await Pair.make('watcher');
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    const watcher = [...processesWith(`${pair.directory}/source/`)].find(([, command]) => /^inotifywait/.test(command));
    process.kill(watcher?.[0] ?? 0, 'SIGKILL');
    await source.shows('inotifywait 意外退出');
    writeFileSync(pair.path('source', 'unseen'), 'but mirrored');
    await source.shows('监控已恢复');
    await pair.isMirrored();
    writeFileSync(pair.path('source', 'seen'), 'again');
    await pair.isMirrored();
  });

  test('does not outlive a killed program for longer than the next change', async () => {
    await using pair = await Pair.make('killed');
    const { source } = await pair.run();
    await source.stop('SIGKILL');
    writeFileSync(pair.path('source', 'file'), '');
    writeFileSync(pair.path('source', 'file'), '');
    await eventually(
      () => ![...processesWith(pair.directory).values()].some((command) => /^inotifywait/.test(command)),
    );
  });
});

describe('the shared key', () => {
  test('is in force within 2 s when a new source brings a new one, beside the keys of others', async () => {
    await using pair = await Pair.make('rekey');
    mkdirSync(pair.path('backup-ssh'), { mode: 0o700 });
    writeFileSync(pair.path('backup-ssh', 'authorized_keys'), 'ssh-ed25519 AAAAsomebodyelse admin\n', { mode: 0o600 });
    const { source } = await pair.run();
    const old = content(pair.path('shared', 'id_rsa.pub')).trim();
    await source.stop();
    rmSync(pair.path('source-ssh'), { recursive: true });
    const recreated = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await recreated.shows('公钥已共享');
    const shared = performance.now();
    const key = content(pair.path('shared', 'id_rsa.pub')).trim();
    expect(key).not.toBe(old);
    await eventually(() => content(pair.path('backup-ssh', 'authorized_keys')).includes(key), 2000);
    expect(performance.now() - shared).toBeLessThan(2000);
    expect(content(pair.path('backup-ssh', 'authorized_keys'))).not.toContain(old);
    expect(content(pair.path('backup-ssh', 'authorized_keys'))).toContain('AAAAsomebodyelse');
    await recreated.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'file'), 'new key');
    await pair.isMirrored();
  });

  test('is refused when broken, told once, and the key in force stays', async () => {
    await using pair = await Pair.make('broken');
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
    const good = content(pair.path('shared', 'id_rsa.pub'));
    for (const broken of ['rubbish', 'command="reboot" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ', `${good}${good}`]) {
      writeFileSync(pair.path('shared', 'id_rsa.pub'), broken);
      await sleep(500);
    }
    await backup.shows(/\[ERROR .*\] 源端公钥未生效: 公钥文件应为一行/);
    expect(backup.output.split('源端公钥未生效').length - 1).toBe(1);
    writeFileSync(pair.path('source', 'file'), 'still mirrored');
    await pair.isMirrored();
    expect(source.output).not.toContain('同步失败');
  });
});

describe('sshd', () => {
  test('that dies ends the backup with status 1', async () => {
    await using pair = await Pair.make('dies');
    const { backup } = await pair.run();
    process.kill(sshdPid(backup), 'SIGKILL');
    expect(await backup.exited).toBe(1);
    expect(backup.output).toMatch(/\[ERROR .*\] sshd 意外退出 \(退出码: SIGKILL\)/);
  });

  test('that cannot have its port ends the backup with status 1 and its own words', async () => {
    await using pair = await Pair.make('port');
    const server = createServer().listen(pair.port, '127.0.0.1');
    mkdirSync(pair.path('shared'));
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', pair.path('shared', 'id_rsa')]);
    const backup = pair.start('start-sshd');
    expect(await backup.exited).toBe(1);
    server.close();
    expect(backup.output).toMatch(/sshd: .*Bind to port \d+ on 127\.0\.0\.1 failed: Address already in use/);
    expect(backup.output).toMatch(/\[ERROR .*\] sshd 启动失败 \(退出码: 255\)：.*Cannot bind any address/);
  });

  test('writes its log into ours', async () => {
    await using pair = await Pair.make('log');
    const { backup } = await pair.run();
    await backup.shows(/\[INFO .*\] sshd: Accepted publickey for \S+ from 127\.0\.0\.1/);
  });
});
