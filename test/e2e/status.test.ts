import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { HeldRsync } from '../held-rsync.ts';
import { isRoot, Pair, theOnly, watchersOf } from '../pair.ts';
import { cleanEnv, content, count, eventually, PATIENCE_MS, Program } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

type Name = 'rsync-inotify' | 'start-sshd';
const fileOf = (pair: Pair, name: Name) =>
  pair.path(name === 'rsync-inotify' ? 'source-status.json' : 'backup-status.json');
const statusOf = (pair: Pair, name: Name = 'rsync-inotify') => JSON.parse(readFileSync(fileOf(pair, name), 'utf8'));
const [targetOf, watchOf] = [(pair: Pair) => statusOf(pair).targets[0], (pair: Pair) => statusOf(pair).watch];

/** What a flag prints, and the exit status. No variable but STATUS_FILE is needed. */
function ask(pair: Pair, flag: '--status' | '--healthcheck', name: Name = 'rsync-inotify') {
  const env = { ...cleanEnv(), NO_COLOR: '1', STATUS_FILE: fileOf(pair, name) };
  const { stdout, status } = spawnSync(binary(name), [flag], { encoding: 'utf8', env });
  return { text: stdout, status };
}

const isHealthy = (pair: Pair, name?: Name) => ask(pair, '--healthcheck', name).status === 0;

/** Waits until a check fails for that reason, and returns how long that took, ms. */
async function failsWith(pair: Pair, reason: string | RegExp, name?: Name): Promise<number> {
  const since = performance.now();
  await eventually(() => {
    const { text, status } = ask(pair, '--healthcheck', name);
    expect(text).toMatch(reason);
    return status === 1;
  }, 60_000);
  return performance.now() - since;
}

describe.concurrent('the health of the source', () => {
  test('is told in one line from before the start until after the end', async () => {
    await using pair = await Pair.withKeys('health');
    expect(ask(pair, '--healthcheck')).toMatchObject({
      status: 1,
      text: expect.stringMatching(/^不健康: 无法读取状态文件.*\n$/),
    });
    const source = pair.start('rsync-inotify');
    await failsWith(pair, /^不健康: 正在启动.*\n$/);
    pair.start('start-sshd');
    await source.shows('✓ 服务运行中');
    await eventually(() => ask(pair, '--healthcheck').text === '健康: 正在实时镜像，落后 0 秒\n');
    expect(isHealthy(pair)).toBe(true);
    expect(await source.stop()).toBe(0);
    expect(ask(pair, '--healthcheck')).toEqual({ status: 1, text: '不健康: 服务已停止\n' });
    expect(targetOf(pair).up).toBe(false);
  });

  test('suffers while the backup is away, and no longer', async () => {
    await using pair = await Pair.withKeys('health-target');
    const { backup } = await pair.run();
    await eventually(() => isHealthy(pair));
    await backup.stop();
    expect(await failsWith(pair, `无法连接目标 ${targetOf(pair).target}`)).toBeLessThan(10_000);
    expect(targetOf(pair)).toMatchObject({ up: false, state: 'down' });
    pair.start('start-sshd');
    await eventually(() => isHealthy(pair));
    expect(targetOf(pair).up).toBe(true);
    await eventually(() => targetOf(pair).state === 'idle'); // another start of the backup is compared first
  });

  test('is told as well where ssh can share no connection', async () => {
    await using pair = await Pair.withKeys('health-unshared');
    mkdirSync(pair.path('bin'));
    const ssh = '#!/bin/sh\ncase "$*" in *ControlMaster=yes*) exit 1 ;; esac\nexec /usr/bin/ssh "$@"\n';
    writeFileSync(pair.path('bin', 'ssh'), ssh, { mode: 0o755 });
    const { source, backup } = await pair.run({ PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await source.shows('无法建立共享的 SSH 连接');
    await eventually(() => isHealthy(pair));
    renameSync(pair.path('shared', 'host_keys'), pair.path('host_keys'));
    writeFileSync(pair.path('shared', 'host_keys'), 'a file in its place');
    await failsWith(pair, '无法连接目标');
    rmSync(pair.path('shared', 'host_keys'));
    renameSync(pair.path('host_keys'), pair.path('shared', 'host_keys'));
    await eventually(() => isHealthy(pair), 60_000);
    await backup.stop();
    await failsWith(pair, '无法连接目标');
    pair.start('start-sshd');
    await eventually(() => isHealthy(pair), 60_000);
  });

  test('suffers while there is no watcher, and counts how often that was', async () => {
    await using pair = await Pair.withKeys('health-watcher');
    mkdirSync(pair.path('bin'));
    symlinkSync('/usr/bin/inotifywait', pair.path('bin', 'inotifywait'));
    const { source } = await pair.run({ PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await eventually(() => isHealthy(pair));
    rmSync(pair.path('bin', 'inotifywait'));
    writeFileSync(pair.path('bin', 'inotifywait'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    process.kill(await theOnly(watchersOf, pair), 'SIGKILL');
    await failsWith(pair, '监控进程不在运行');
    expect(watchOf(pair)).toMatchObject({ running: false, directories: 0, restarts: 1 });
    rmSync(pair.path('bin', 'inotifywait'));
    symlinkSync('/usr/bin/inotifywait', pair.path('bin', 'inotifywait'));
    await source.shows('监控已恢复');
    await eventually(() => isHealthy(pair));
    expect(watchOf(pair)).toMatchObject({ running: true, restarts: 1, overflows: 0 });
  });

  test('suffers while a change has waited for too long, but not in the first full sync', async () => {
    await using pair = await Pair.withKeys('health-lag');
    writeFileSync(pair.path('source', 'large'), Buffer.alloc(900_000, 1));
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { MAX_LAG: '1', SYNC_INTERVAL: '0', RSYNC_OPTS: '-av --bwlimit=60' });
    await source.shows('首次全量同步');
    writeFileSync(pair.path('source', 'early'), 'words');
    const lag = () => Date.parse(statusOf(pair).updated) - Date.parse(targetOf(pair).oldest_pending);
    await eventually(() => lag() > 2000);
    expect(ask(pair, '--healthcheck')).toEqual({ status: 0, text: '健康: 正在进行首次全量同步\n' });
    await source.shows('✓ 服务运行中', 0, 40_000);
    await eventually(() => targetOf(pair).pending === 0);
    writeFileSync(pair.path('source', 'second'), Buffer.alloc(600_000, 2));
    await failsWith(pair, /落后 \d+ 秒，超过了 1 秒 \(MAX_LAG/);
    expect(targetOf(pair)).toMatchObject({ pending: 1, up: true, state: 'syncing' });
    await eventually(() => isHealthy(pair));
    expect(targetOf(pair)).toMatchObject({ pending: 0, oldest_pending: null });
  });

  test('suffers while changes fail, be they one or all, and whatever is compared meanwhile', async () => {
    await using pair = await Pair.withKeys('health-failing');
    const { source } = await pair.run({ MAX_LAG: '1', SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '2' });
    const since = Date.now();
    renameSync(pair.path('backup'), pair.path('aside'));
    writeFileSync(pair.path('backup'), 'a file in its place');
    writeFileSync(pair.path('source', 'one'), 'words');
    await failsWith(pair, /落后 \d+ 秒/);
    for (let n = 0; n < 10; n++) {
      writeFileSync(pair.path('source', `file-${n}`), 'words');
      await sleep(500);
      expect(isHealthy(pair)).toBe(false);
    }
    await source.shows('触发定期全量同步');
    expect(Date.parse(targetOf(pair).oldest_pending) - since).toBeLessThan(1000);
    const failures = () => statusOf(pair).errors.find(({ event }: { event: string }) => event === 'sync.failure').count;
    await eventually(() => failures() > 1);
    rmSync(pair.path('backup'));
    renameSync(pair.path('aside'), pair.path('backup'));
    await pair.isMirrored(60_000); // tries may be up to 32 s apart by now
    await eventually(() => isHealthy(pair));
  });

  test('does not suffer from a regular comparison, however long that takes', async () => {
    await using pair = await Pair.withKeys('health-regular');
    const rsync = new HeldRsync(pair);
    const { source } = await pair.run({ ...rsync.env, MAX_LAG: '1', SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '1' });
    await eventually(() => isHealthy(pair));
    rsync.hold();
    await rsync.isHeld();
    await eventually(() => targetOf(pair).state === 'syncing');
    for (const began = performance.now(); performance.now() - began < 3000; await sleep(100)) {
      expect(statusOf(pair).problems).toEqual([]); // though it lasts longer than MAX_LAG
    }
    expect(isHealthy(pair)).toBe(true);
    expect(targetOf(pair).state).toBe('syncing');
    const before = count(source.output, '触发定期全量同步');
    rsync.leave();
    await eventually(() => count(source.output, '触发定期全量同步') > before + 2);
    expect(statusOf(pair).problems).toEqual([]);
  });

  test('suffers while the source directory is gone', async () => {
    await using pair = await Pair.withKeys('health-source');
    await pair.run({ SYNC_INTERVAL: '0' });
    await eventually(() => isHealthy(pair));
    renameSync(pair.path('source'), pair.path('elsewhere'));
    await failsWith(pair, /源目录 .* 不见了或被替换/);
    renameSync(pair.path('elsewhere'), pair.path('source'));
    await eventually(() => isHealthy(pair), 60_000);
  });

  test('is bad when nothing was heard of the service for 30 s, whatever it said last', async () => {
    await using pair = await Pair.withKeys('health-stale');
    const { source } = await pair.run();
    await eventually(() => isHealthy(pair));
    await source.stop('SIGKILL');
    expect(isHealthy(pair)).toBe(true);
    const last = statusOf(pair);
    writeFileSync(fileOf(pair, 'rsync-inotify'), JSON.stringify({ ...last, updated: new Date(Date.now() - 31_000) }));
    await failsWith(pair, /状态已过期 3\d 秒/);
    writeFileSync(fileOf(pair, 'rsync-inotify'), '{"half');
    await failsWith(pair, '无法读取状态文件');
    writeFileSync(fileOf(pair, 'rsync-inotify'), readFileSync(fileOf(pair, 'start-sshd')));
    await failsWith(pair, '是 start-sshd 的状态');
  });

  test('is shown without control codes, whoever wrote its file', async () => {
    await using pair = await Pair.withKeys('health-hostile');
    await pair.run();
    await Promise.all(pair.programs.map((program) => program.stop()));
    for (const name of ['rsync-inotify', 'start-sshd'] as const) {
      const complaint = { time: new Date().toISOString(), level: 'warn', event: '', message: '\u202e\x1b]0;title\x07' };
      const status = { ...statusOf(pair, name), version: '\x1b[2J', errors: [complaint] };
      writeFileSync(fileOf(pair, name), JSON.stringify(status));
      const { text } = ask(pair, '--status', name);
      expect(text).toContain('\\u001b[2J');
      expect(text).not.toMatch(/(?!\n)[\p{Cc}\u202e]/u);
    }
  });

  test('costs less than 50 ms of CPU to ask for', async () => {
    await using pair = await Pair.withKeys('health-cost');
    await pair.run();
    await eventually(() => isHealthy(pair));
    const usage = Array.from({ length: 9 }, () => {
      const env = { ...cleanEnv(), STATUS_FILE: fileOf(pair, 'rsync-inotify') };
      return Bun.spawnSync([binary('rsync-inotify'), '--healthcheck'], { env }).resourceUsage.cpuTime.total;
    });
    expect(Number(usage.sort((a, b) => Number(a - b))[4]) / 1000).toBeLessThan(50);
  });
});

describe.concurrent('the health of the backup', () => {
  test('needs a key that is in force', async () => {
    await using pair = await Pair.withKeys('health-key');
    const backup = pair.start('start-sshd', { KEY_RETRIES: '1' });
    await failsWith(pair, '不健康: 正在启动', 'start-sshd');
    await backup.shows('SSH 服务器就绪');
    await failsWith(pair, '没有源端公钥', 'start-sshd');
    const source = pair.start('rsync-inotify');
    await source.shows('✓ 服务运行中');
    await eventually(() => isHealthy(pair, 'start-sshd'));
    await eventually(() => ask(pair, '--healthcheck', 'start-sshd').text === '健康: SSH 服务运行中，1 个连接\n');
    const { stdout } = spawnSync('ssh-keygen', ['-lf', pair.path('shared', 'id_rsa.pub')], { encoding: 'utf8' });
    expect(stdout).toContain(statusOf(pair, 'start-sshd').key);
    await backup.stop();
    expect(ask(pair, '--healthcheck', 'start-sshd')).toEqual({ status: 1, text: '不健康: 服务已停止\n' });
  });

  test('needs a directory to write to', async () => {
    await using pair = await Pair.withKeys('health-destination');
    const { source } = await pair.run();
    await source.stop();
    await eventually(() => isHealthy(pair, 'start-sshd'));
    rmSync(pair.path('backup'), { recursive: true });
    writeFileSync(pair.path('backup'), 'a file in its place');
    await failsWith(pair, /目标目录 .* 已不是启动时的目录/, 'start-sshd');
  });
});

test.skipIf(!isRoot)('the health of the backup suffers from a full disk', async () => {
  await using pair = await Pair.withKeys('health-disk');
  mkdirSync(pair.path('backup'));
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', pair.path('backup')]);
  try {
    await pair.run();
    await eventually(() => isHealthy(pair, 'start-sshd'));
    spawnSync('truncate', ['-s', '0', pair.path('backup', 'ballast')]);
    spawnSync('dd', ['if=/dev/zero', `of=${pair.path('backup', 'ballast')}`, 'bs=64k'], { stdio: 'ignore' });
    await failsWith(pair, /目标目录 .* 所在的磁盘已满/, 'start-sshd');
    rmSync(pair.path('backup', 'ballast'));
    await eventually(() => isHealthy(pair, 'start-sshd'));
  } finally {
    await Promise.all(pair.programs.map((program) => program.stop()));
    spawnSync('umount', [pair.path('backup')]);
  }
});

describe.concurrent('the status', () => {
  test('agrees with what has happened, in numbers and as a table', async () => {
    await using pair = await Pair.withKeys('status');
    mkdirSync(pair.path('source', 'a', 'b'), { recursive: true });
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    writeFileSync(pair.path('source', 'file'), Buffer.from(crypto.getRandomValues(new Uint8Array(60_000))));
    await pair.isMirrored();
    await eventually(() => targetOf(pair).syncs.incremental.success > 0);
    const { target, syncs, bytes, history, last_success, last_exit_code } = targetOf(pair);
    expect(target).toBe(`${pair.sourceEnv.DEST_HOST}:${pair.sourceEnv.DEST_DIR}`);
    expect(syncs).toMatchObject({ full: { success: 1, failure: 0 }, incremental: { failure: 0 } });
    expect(bytes).toBeWithin(60_000, 70_000);
    expect(history.length).toBe(60);
    const total = (key: string) =>
      history.reduce((sum: number, minute: Record<string, number>) => sum + (minute[key] ?? 0), 0);
    expect(total('syncs')).toBe(1 + syncs.incremental.success);
    expect(total('bytes')).toBe(bytes);
    await eventually(() => count(source.output, '同步成功') === 1 + syncs.incremental.success);
    expect(Date.now() - Date.parse(last_success)).toBeLessThan(60_000);
    expect(last_exit_code).toBe(0);
    expect(watchOf(pair)).toMatchObject({ running: true, directories: 3, restarts: 0 });
    expect(statusOf(pair).changes[0]).toMatchObject({ path: pair.path('source', 'file') });
    const { text, status } = ask(pair, '--status');
    expect(status).toBe(0);
    expect(text).toContain('健康: 正在实时镜像');
    expect(text).toMatch(
      new RegExp(`^${target} +空闲 +0秒 +0 +20\\d\\d-.* ${total('syncs')}/0 +\\d\\d\\.\\d kB$`, 'm'),
    );
    expect(ask(pair, '--status', 'start-sshd').text).toContain(`目标目录    ${pair.path('backup')}\n`);
  });

  test('counts the directories that are watched, as they come and go', async () => {
    await using pair = await Pair.withKeys('status-directories');
    mkdirSync(pair.path('source', 'there', 'deep', 'deeper'), { recursive: true });
    mkdirSync(pair.path('outside', 'one', 'two'), { recursive: true });
    await pair.run({ SYNC_INTERVAL: '0' });
    const directories = (number: number) => eventually(() => watchOf(pair).directories === number);
    await directories(4);
    renameSync(pair.path('outside'), pair.path('source', 'moved-in'));
    await directories(7);
    rmSync(pair.path('source', 'there'), { recursive: true });
    await directories(4);
    renameSync(pair.path('source', 'moved-in'), pair.path('outside'));
    await directories(1);
  });

  test('counts no directory twice that goes while watchers take turns', async () => {
    await using pair = await Pair.withKeys('status-turns');
    await pair.run({ SYNC_INTERVAL: '0' });
    for (let n = 0; n < 300; n++) {
      mkdirSync(pair.path('source', `${n}`));
      if (n >= 20) rmSync(pair.path('source', `${n - 20}`), { recursive: true });
      if (n % 20 === 0) await sleep(100);
    }
    await eventually(() => watchOf(pair).directories === 21);
  });

  test('of a directory for temporary files in the source starts no sync after the other', async () => {
    await using pair = await Pair.withKeys('status-tmpdir');
    mkdirSync(pair.path('source', 'tmp'));
    const { source } = await pair.run({ TMPDIR: pair.path('source', 'tmp'), SYNC_INTERVAL: '0' });
    writeFileSync(pair.path('source', 'file'), 'words');
    await pair.isMirrored();
    await eventually(async () => {
      const before = source.output;
      await sleep(2000);
      return source.output === before;
    });
  });

  test('is always whole, however often it is read', async () => {
    await using pair = await Pair.withKeys('status-whole');
    await pair.run({ SYNC_INTERVAL: '0' });
    let seen = '';
    let versions = 0;
    const began = performance.now();
    const elapsed = () => performance.now() - began;
    for (; elapsed() < 4000 || (versions < 4 && elapsed() < PATIENCE_MS); await sleep(1)) {
      writeFileSync(pair.path('source', 'file'), `${performance.now()}`);
      const { updated } = statusOf(pair);
      versions += Number(updated !== seen);
      seen = updated;
    }
    expect(versions).toBeGreaterThanOrEqual(4);
    expect((versions * 4000) / elapsed()).toBeLessThan(12); // at most so many in 4 s
  });

  test('that cannot be written is told once, and is no reason not to mirror', async () => {
    await using pair = await Pair.withKeys('status-blocked');
    const env = {
      STATUS_FILE: '/proc/no/status.json',
      METRICS_FILE: pair.path('metrics', 'rsync.prom'),
      SYNC_INTERVAL: '0',
    };
    const { source } = await pair.run(env);
    for (let n = 0; n < 3; n++) {
      writeFileSync(pair.path('source', 'file'), `words ${n}`);
      await sleep(700);
    }
    await pair.isMirrored();
    expect(count(source.output, '无法写入 STATUS_FILE=/proc/no/status.json')).toBe(1);
    expect(content(env.METRICS_FILE)).toContain('rsync_target_up');
    rmSync(pair.path('metrics'), { recursive: true });
    writeFileSync(pair.path('metrics'), 'a file in place of the directory');
    await source.shows(`无法写入 METRICS_FILE=${env.METRICS_FILE}`);
    rmSync(pair.path('metrics'));
    await eventually(() => content(env.METRICS_FILE).includes('rsync_target_up'));
  });

  test('tells on port and address what it tells in the file, and mirrors also where the port is taken', async () => {
    await using pair = await Pair.withKeys('status-port');
    const server = Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: () => new Response('taken') });
    const { port } = server;
    const { source } = await pair.run({ METRICS_PORT: String(port), SYNC_INTERVAL: '0' });
    await source.shows(`无法监听 127.0.0.1:${port}`);
    writeFileSync(pair.path('source', 'file'), 'words');
    await pair.isMirrored();
    await server.stop(true);
    const address = `http://127.0.0.1:${port}`;
    await eventually(async () => (await fetch(`${address}/healthz`)).text());
    expect(await (await fetch(`${address}/healthz`)).text()).toBe(ask(pair, '--healthcheck').text);
    expect(count(source.output, '无法监听')).toBe(1);
    await source.shows(`已在 127.0.0.1:${port} 提供状态页和指标`);
  });
});

/** Clears a line on a terminal. */
const WIPE = '\r\x1b[K';

describe.concurrent('the progress of a full sync', () => {
  const slowly = { RSYNC_OPTS: '-av --delete --bwlimit=40', SYNC_INTERVAL: '0' };
  const prepare = (pair: Pair, files: number) => {
    for (let n = 0; n < files; n++) writeFileSync(pair.path('source', `file-${n}`), Buffer.alloc(50_000, n));
  };

  test('is in the log every 10 s, in the status, and nowhere in rsync’s own output', async () => {
    await using pair = await Pair.withKeys('progress');
    prepare(pair, 12);
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', slowly);
    await eventually(() => targetOf(pair).progress?.percent > 10);
    expect(statusOf(pair).phase).toBe('syncing');
    expect(targetOf(pair).progress).toMatchObject({ scanning: false });
    expect(targetOf(pair).progress.bytes_per_second).toBeWithin(1000, 1_000_000);
    expect(ask(pair, '--status').text).toContain('同步进度: ');
    await source.shows('✓ 服务运行中', 0, 40_000);
    expect(source.output).toMatch(/^\[20.*\] 同步进度: [1-9]\d?%，\d+ 个文件，\d+\.\d kB\/s$/m);
    const progress = source.lines.filter((line) => line.includes('同步进度'));
    expect(progress.length).toBeWithin(1, 3);
    expect(source.output).not.toContain('\r');
    const names = Array.from({ length: 12 }, (_, n) => `file-${n}`).sort();
    expect(
      source.output
        .split('\n')
        .filter((line) => /^file-\d+$/.test(line))
        .sort(),
    ).toEqual(names);
    expect(source.output).toMatch(/\n\nsent [\d,]+ bytes {2}received/);
    await eventually(() => targetOf(pair).progress === null);
  });

  test('is one line on a terminal, which leaves nothing behind', async () => {
    await using pair = await Pair.withKeys('progress-terminal');
    prepare(pair, 6);
    pair.start('start-sshd');
    const env = { ...cleanEnv(), ...pair.sourceEnv, ...slowly, NO_COLOR: '1', LOG_FILE: pair.path('log') };
    const terminal = pair.keep(new Program('script', ['-qec', binary('rsync-inotify'), '/dev/null'], { env }));
    await terminal.shows('✓ 服务运行中', 0, 40_000);
    const pieces = terminal.output.split(WIPE);
    expect(
      pieces.filter((piece) => /^同步进度: \d+%，\d+ 个文件，\d+(\.\d)? k?B\/s$/.test(piece)).length,
    ).toBeGreaterThan(2);
    for (const piece of pieces) expect(piece).not.toMatch(/同步进度.*\n/);
    expect(content(pair.path('log'))).not.toMatch(/同步进度|\r/);
    expect(content(pair.path('log'))).toContain('file-0\n');
  });

  test('is rsync’s own where RSYNC_OPTS ask for it', async () => {
    await using pair = await Pair.withKeys('progress-own');
    prepare(pair, 1);
    const { source } = await pair.run({ RSYNC_OPTS: '-avzh --progress' });
    expect(source.output).toMatch(/file-0\n\r? +\S+ +\d+%/);
  });
});
