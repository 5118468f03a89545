import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pair } from '../pair.ts';
import { cleanEnv, content, count, eventually, freePort, Program, processesWith } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

const sshdPid = (backup: Program) => Number(/PID: (\d+)/.exec(backup.output)?.[1]);
const watcherOf = (pair: Pair) =>
  [...processesWith(`${pair.directory}/source/`)].find(([, command]) => /^inotifywait/.test(command))?.[0] ?? 0;
/** Resolves once no process of a pair is there: what was killed is, until it has a core to end on. */
const areGone = (pair: Pair) => eventually(() => processesWith(pair.directory).size === 0);
/** What a second backup of a pair needs of its own. */
const ofItsOwn = async (pair: Pair) => ({ SSHD_PORT: `${await freePort()}`, STATUS_FILE: pair.path('second.json') });

describe('stopping', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'by %s ends both with a line, status 0 and no child left',
    async (signal) => {
      await using pair = await Pair.withKeys('stop');
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
      await areGone(pair);
    },
  );

  test('by a closed terminal does the same, but not under nohup', async () => {
    await using pair = await Pair.withKeys('terminal');
    const { source, backup } = await pair.run();
    const underNohup = pair.keep(
      new Program('nohup', [binary('start-sshd')], {
        env: { ...cleanEnv(), NO_COLOR: '1', ...pair.backupEnv, ...(await ofItsOwn(pair)) },
      }),
    );
    await underNohup.shows('SSH 服务器就绪');
    underNohup.signal('SIGHUP');
    expect(await source.stop('SIGHUP')).toBe(0);
    expect(await backup.stop('SIGHUP')).toBe(0);
    expect(underNohup.running).toBe(true);
    expect(underNohup.output).not.toContain('收到 SIGHUP');
    expect(await underNohup.stop()).toBe(0);
    await areGone(pair);
  });

  test('sends what is still waiting for its interval', async () => {
    await using pair = await Pair.withKeys('pending');
    const { source } = await pair.run({ SYNC_INTERVAL: '60' });
    writeFileSync(pair.path('source', 'last'), 'words');
    await sleep(500);
    expect(content(pair.path('backup', 'last'))).toBe(''); // the first full sync was less than 60 s ago
    expect(await source.stop()).toBe(0);
    expect(content(pair.path('backup', 'last'))).toBe('words');
  });

  test('ends a long sync within 5 s, leaves no child on either side, and the next start completes it', async () => {
    await using pair = await Pair.withKeys('long');
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

  test('ends a long first sync too', async () => {
    await using pair = await Pair.withKeys('long-first');
    spawnSync('sh', ['-c', 'head -c 20000000 /dev/urandom > "$1"', 'sh', pair.path('source', 'big')]);
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { RSYNC_OPTS: '-av --bwlimit=100' });
    await source.shows('sending incremental file list');
    const started = performance.now();
    expect(await source.stop()).toBe(0);
    expect(performance.now() - started).toBeLessThan(5000);
    expect(source.output).not.toContain('首次全量同步失败');
    expect(source.output).not.toContain('实时监控已启动');
  });

  test.each(['rsync-inotify', 'start-sshd'] as const)(
    '%s while keys are made leaves neither process nor half a key',
    async (name) => {
      await using pair = await Pair.make('keygen');
      const program = pair.start(name);
      await program.shows(/生成 SSH (主机)?密钥/);
      expect(await program.stop()).toBe(0);
      await areGone(pair);
      const left = readdirSync(pair.directory, { recursive: true, encoding: 'utf8' });
      expect(left.filter((path) => path.includes('new'))).toEqual([]);
    },
  );

  test.each(['rsync-inotify', 'start-sshd'] as const)('%s ends keys that take long to make', async (name) => {
    await using pair = await Pair.make('slow-keys');
    mkdirSync(pair.path('bin'));
    const slow = `#!/bin/bash\n[ "$1" = test ] && exit\nexec -a "ssh-keygen $*" sleep 60\n`;
    writeFileSync(pair.path('bin', 'ssh-keygen'), slow, { mode: 0o755 });
    const program = pair.start(name, { PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await eventually(() =>
      [...processesWith(pair.directory).values()].some((words) => words.includes('ssh-keygen -t')),
    );
    const started = performance.now();
    expect(await program.stop()).toBe(0);
    expect(performance.now() - started).toBeLessThan(5000);
    await areGone(pair);
    const left = readdirSync(pair.directory, { recursive: true, encoding: 'utf8' });
    expect(left.filter((path) => path.includes('new'))).toEqual([]);
  });

  test('while sshd comes up leaves no sshd', async () => {
    await using pair = await Pair.make('coming-up');
    mkdirSync(pair.path('shared'), { recursive: true });
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', pair.path('shared', 'id_rsa')]);
    const backup = pair.start('start-sshd');
    await backup.shows('启动 SSH 服务...');
    expect(await backup.stop()).toBe(0);
    await areGone(pair);
  });

  test('is possible in every phase of the start', async () => {
    await using pair = await Pair.withKeys('early');
    const waiting = pair.start('rsync-inotify');
    await waiting.shows('目标主机: 127.0.0.1:');
    expect(await waiting.stop()).toBe(0);
    const backup = pair.start('start-sshd', { SHARED_KEYS_DIR: pair.path('empty') });
    await backup.shows('(1/30)');
    expect(await backup.stop()).toBe(0);
    await areGone(pair);
  });
});

describe.concurrent('a backup that goes away', () => {
  test('for ten seconds delays changes and loses none; the log gives code, meaning and the next try', async () => {
    await using pair = await Pair.withKeys('away');
    mkdirSync(pair.path('bin')); // by chance, rsync ends with 12 in place of 255
    const rsync = `#!/bin/sh\n${Bun.which('rsync')} "$@"\nstatus=$?\n[ $status != 255 ] || exit 12\nexit $status\n`;
    writeFileSync(pair.path('bin', 'rsync'), rsync, { mode: 0o755 });
    const PATH = `${pair.path('bin')}:${process.env.PATH}`;
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0', PATH });
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
    const restarted = source.output.length;
    pair.start('start-sshd');
    await pair.isMirrored();
    expect(content(pair.path('backup', 'two'))).toBe('2');
    // Another start of the backup is compared as a whole.
    await eventually(() => count(source.output.slice(restarted), '同步成功') === 2);

    await pair.programs.at(-1)?.stop();
    const again = source.output.length;
    writeFileSync(pair.path('source', 'three'), '3');
    await source.shows(/\[WARN .*\] 1 秒后重试/, again); // a success in between starts the waits anew
  });

  test('in the middle of a transfer takes its sessions along, and is survived', async () => {
    await using pair = await Pair.withKeys('cut');
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av --delete --bwlimit=100' });
    const offset = source.output.length;
    spawnSync('sh', ['-c', 'head -c 3000000 /dev/urandom > "$1"', 'sh', pair.path('source', 'big')]);
    await eventually(() => readdirSync(pair.path('backup')).some((name) => /^\.big\.\w{6}$/.test(name)));
    await backup.stop();
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: (12|20|30|255)\)/, offset);
    expect(source.output.slice(offset)).not.toContain('同步成功');
    writeFileSync(pair.path('source', 'big'), 'small'); // which takes no half minute
    pair.start('start-sshd');
    await pair.isMirrored();
  });
});

describe.concurrent('files that cannot be written', () => {
  test('are told with code 23 and tried again, at the start and later, while others are mirrored', async () => {
    await using pair = await Pair.withKeys('partial');
    mkdirSync(pair.path('backup', 'blocked', 'full'), { recursive: true });
    writeFileSync(pair.path('source', 'blocked'), 'a file where the backup has a directory that is not empty');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av' });
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: 23\)：部分文件传输失败/);
    await source.shows('首次全量同步未能传输全部文件');
    await source.shows('8 秒后重试'); // without a change from outside
    writeFileSync(pair.path('source', 'other'), 'other');
    await eventually(() => content(pair.path('backup', 'other')) === 'other', 4000);
    rmSync(pair.path('backup', 'blocked'), { recursive: true });
    writeFileSync(pair.path('source', 'another'), 'change');
    await pair.isMirrored();
  });

  test('are tried again by themselves', async () => {
    await using pair = await Pair.withKeys('retried');
    mkdirSync(pair.path('backup', 'blocked', 'full'), { recursive: true });
    writeFileSync(pair.path('source', 'blocked'), 'a file');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-av' });
    await source.shows('1 秒后重试');
    rmSync(pair.path('backup', 'blocked'), { recursive: true });
    await pair.isMirrored();
  });
});

describe('files that vanish during a sync', () => {
  test('are no failure', async () => {
    await using pair = await Pair.withKeys('vanished');
    mkdirSync(pair.path('bin'));
    const rsync =
      '#!/bin/sh\ncase "$*" in *--dry-run*) exec /usr/bin/rsync "$@" ;; esac\n/usr/bin/rsync "$@"\nexit 24\n';
    writeFileSync(pair.path('bin', 'rsync'), rsync, { mode: 0o755 });
    const { source } = await pair.run({ SYNC_INTERVAL: '0', PATH: `${pair.path('bin')}:${process.env.PATH}` });
    writeFileSync(pair.path('source', 'file'), '');
    await pair.isMirrored();
    expect(source.output).toContain('首次全量同步完成 ✓');
    expect(source.output).not.toContain('同步失败');
  });
});

describe('a program that cannot be started while the service runs', () => {
  test.each(['rsync', 'inotifywait'])('(%s) is waited for, and nothing is lost', async (name) => {
    await using pair = await Pair.withKeys('gone');
    mkdirSync(pair.path('bin'));
    for (const program of ['rsync', 'inotifywait']) symlinkSync(`/usr/bin/${program}`, pair.path('bin', program));
    for (const program of ['ssh', 'ssh-keygen', 'sh', 'id'])
      symlinkSync(`/usr/bin/${program}`, pair.path('bin', program));
    const { source } = await pair.run({ SYNC_INTERVAL: '0', PATH: pair.path('bin') });
    rmSync(pair.path('bin', name));
    if (name === 'inotifywait') process.kill(watcherOf(pair), 'SIGKILL');
    writeFileSync(pair.path('source', 'file'), 'content');
    if (name === 'rsync') await pair.isMirrored(); // by the one that was waiting
    writeFileSync(pair.path('source', 'next'), 'content');
    await source.shows(`无法启动 ${name}`);
    await source.shows(/[24] 秒后重/);
    symlinkSync(`/usr/bin/${name}`, pair.path('bin', name));
    await pair.isMirrored();
  });
});

describe('the watcher', () => {
  test('is replaced when it is killed, and what happened meanwhile is mirrored', async () => {
    await using pair = await Pair.withKeys('watcher');
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    process.kill(watcherOf(pair), 'SIGKILL');
    await source.shows('inotifywait 意外退出 (退出码: SIGKILL)');
    writeFileSync(pair.path('source', 'unseen'), 'but mirrored');
    await source.shows('监控已恢复');
    await pair.isMirrored();
    writeFileSync(pair.path('source', 'seen'), 'again');
    await pair.isMirrored();
  });

  test('that ends at the start ends the program with status 1', async () => {
    await using pair = await Pair.withKeys('no-watcher');
    mkdirSync(pair.path('bin'));
    const inotifywait = '#!/bin/sh\necho "Failed to watch; upper limit on inotify watches reached!" >&2\nexit 1\n';
    writeFileSync(pair.path('bin', 'inotifywait'), inotifywait, { mode: 0o755 });
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { PATH: `${pair.path('bin')}:${process.env.PATH}` });
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] inotifywait 退出 \(退出码: 1\)：Failed to watch.*max_user_watches/);
  });
});

describe('the shared key', () => {
  test('is in force within 2 s when a new source brings a new one, beside the keys of others', async () => {
    await using pair = await Pair.make('rekey');
    mkdirSync(pair.path('backup-ssh'), { mode: 0o700 });
    const others = Buffer.from('ssh-ed25519 AAAAsomebodyelse andr\xe9\n', 'latin1'); // not UTF-8
    writeFileSync(pair.path('backup-ssh', 'elsewhere'), others, { mode: 0o600 });
    symlinkSync('elsewhere', pair.path('backup-ssh', 'authorized_keys'));
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
    expect(readFileSync(pair.path('backup-ssh', 'elsewhere')).includes(others)).toBe(true);
    expect(lstatSync(pair.path('backup-ssh', 'authorized_keys')).isSymbolicLink()).toBe(true);
    await recreated.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'file'), 'new key');
    await pair.isMirrored();
  });

  test('is refused when broken, told once, and the key in force stays', async () => {
    await using pair = await Pair.withKeys('broken');
    const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
    const good = content(pair.path('shared', 'id_rsa.pub'));
    const broken = ['rubbish', `command="reboot" ${good}`, `${good}${good}`, good.slice(0, 100), 'x'.repeat(100_000)];
    for (const key of broken) {
      writeFileSync(pair.path('shared', 'new'), key);
      renameSync(pair.path('shared', 'new'), pair.path('shared', 'id_rsa.pub')); // never seen empty
      await sleep(700);
    }
    await backup.shows(/\[ERROR .*\] 源端公钥未生效: 公钥文件应为完整的一行/);
    await backup.shows(/\[ERROR .*\] 源端公钥未生效: .*：应为不超过 16384 字节的普通文件/);
    expect(backup.output.split('源端公钥未生效').length - 1).toBe(2);
    writeFileSync(pair.path('source', 'file'), 'still mirrored');
    await pair.isMirrored();
    expect(source.output).not.toContain('同步失败');
  });
});

describe('authorized_keys', () => {
  test('that cannot be written is told, and written as soon as it can', async () => {
    await using pair = await Pair.withKeys('unwritable');
    writeFileSync(pair.path('backup-ssh'), 'a file in the place of the directory');
    const backup = pair.start('start-sshd');
    const source = pair.start('rsync-inotify');
    await backup.shows(/\[ERROR .*\] 源端公钥未生效: 无法写入 .*authorized_keys/);
    rmSync(pair.path('backup-ssh'));
    await source.shows('✓ 服务运行中');
  });
});

describe('sshd', () => {
  test('with a configuration that it refuses ends the backup with status 1', async () => {
    await using pair = await Pair.make('refuses');
    mkdirSync(pair.path('host-keys'));
    for (const type of ['rsa', 'ecdsa', 'ed25519']) {
      writeFileSync(pair.path('host-keys', `ssh_host_${type}_key`), 'rubbish', { mode: 0o600 });
    }
    const backup = pair.start('start-sshd');
    expect(await backup.exited).toBe(1);
    expect(backup.output).toMatch(/\[ERROR .*\] sshd 配置无效：/);
    expect(backup.output).toMatch(/\[ERROR .*\] .*no hostkeys available/);
  });

  test('that dies ends the backup with status 1, and no connection outlives it that the next start knows nothing of', async () => {
    await using pair = await Pair.withKeys('dies');
    const { source, backup } = await pair.run();
    await backup.shows('sshd: Accepted publickey');
    process.kill(sshdPid(backup), 'SIGKILL');
    expect(await backup.exited).toBe(1);
    expect(backup.output).toMatch(/\[ERROR .*\] sshd 意外退出 \(退出码: SIGKILL\)/);
    await source.shows('SSH 连接已断开');
    pair.start('start-sshd');
    writeFileSync(pair.path('source', 'a'), 'a');
    await pair.isMirrored();
  });

  test('that cannot have its port ends the backup with status 1 and its own words', async () => {
    await using pair = await Pair.withKeys('port');
    const server = createServer().listen(pair.port, '127.0.0.1');
    mkdirSync(pair.path('shared'), { recursive: true });
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', pair.path('shared', 'id_rsa')]);
    const backup = pair.start('start-sshd');
    expect(await backup.exited).toBe(1);
    server.close();
    expect(backup.output).toMatch(/\[ERROR .*\] 端口 \d+ 已被占用/);
  });

  test('writes its log into ours', async () => {
    await using pair = await Pair.withKeys('log');
    const { backup } = await pair.run();
    await backup.shows(/\[INFO .*\] sshd: Accepted publickey for \S+ from 127\.0\.0\.1/);
  });
});
