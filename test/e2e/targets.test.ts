/** Several targets: each is mirrored to as if it were the only one, whatever becomes of the others. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model } from '../model.ts';
import { Pair } from '../pair.ts';
import { cleanEnv, content, count, eventually, PATIENCE_MS, type Program } from '../processes.ts';
import { binary } from '../project.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

/** Addresses of this machine: each backup listens on one of its own, all on the same port. */
const addressOf = (n: number) => `127.0.0.${n}`;
const backupOf = (pair: Pair, n: number) => pair.path(`backup${n}`);
const targetOf = (pair: Pair, n: number) => `${addressOf(n)}:${backupOf(pair, n)}/`;
const targetsOf = (pair: Pair, ...numbers: number[]) => numbers.map((n) => targetOf(pair, n)).join(' ');

function startBackup(pair: Pair, n: number, SSHD_LISTEN = addressOf(n)): Program {
  const own = { SSH_DIR: `backup-ssh${n}`, STATUS_FILE: `backup-status${n}.json`, DEST_DIR: `backup${n}/` };
  cpSync(pair.path('source-ssh', 'id_rsa.pub'), pair.path('shared', 'id_rsa.pub')); // a backup is ready once it has it
  const paths = Object.fromEntries(Object.entries(own).map(([name, path]) => [name, pair.path(path)]));
  return pair.start('start-sshd', { ...paths, SSHD_LISTEN });
}

async function startBackups(pair: Pair, ...numbers: number[]): Promise<Program[]> {
  const backups = numbers.map((n) => startBackup(pair, n));
  for (const backup of backups) await backup.shows('SSH 服务器就绪');
  return backups;
}

/** Waits until backups hold what the source does. */
async function areMirrored(pair: Pair, numbers: number[], ms = PATIENCE_MS): Promise<void> {
  const equal = () => numbers.every((n) => expectEqual(pair.path('source'), backupOf(pair, n)));
  await eventually(equal, ms).catch((error) => {
    throw new Error(`${error}\n${pair.programs.map((program) => program.output).join('\n---\n')}`);
  });
}

interface TargetStatus {
  target: string;
  up: boolean;
  state: string;
  pending: number;
  last_success: string | null;
}
const statusOf = (pair: Pair, n: number): TargetStatus =>
  JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).targets.find(({ target }: TargetStatus) =>
    target.endsWith(targetOf(pair, n)),
  );

function health(pair: Pair): string {
  const env = { ...cleanEnv(), STATUS_FILE: pair.path('source-status.json') };
  return spawnSync(binary('rsync-inotify'), ['--healthcheck'], { env, encoding: 'utf8' }).stdout;
}

/** A connection on which little gets through, or nothing. */
class Link implements AsyncDisposable {
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();

  constructor(
    private readonly from: string,
    private readonly to: string,
    private readonly port: number,
    public bytesPerSecond = Number.POSITIVE_INFINITY,
  ) {}

  async up(): Promise<void> {
    const server = createServer((here) => {
      const there = connect({ host: this.to, port: this.port });
      for (const [one, other] of [
        [here, there],
        [there, here],
      ] as const) {
        this.sockets.add(one);
        one.on('error', () => {}).once('close', () => other.destroy());
        one.on('data', (chunk) => {
          one.pause();
          setTimeout(() => other.write(chunk, () => one.resume()), (1000 * chunk.length) / this.bytesPerSecond);
        });
      }
    });
    this.server = server.listen(this.port, this.from);
    await new Promise((listening) => server.once('listening', listening));
  }

  down(): void {
    this.server?.close();
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.down();
  }
}

describe.concurrent('three targets', () => {
  test('have each change, while one is slow and one comes and goes', async () => {
    await using pair = await Pair.withKeys('three');
    const [fast, slow, flapping] = [2, 3, 4];
    await using narrow = new Link(addressOf(slow), addressOf(13), pair.port);
    await using broken = new Link(addressOf(flapping), addressOf(14), pair.port);
    mkdirSync(pair.path('outside'));
    const model = new Model(Date.now() % 1e6, pair.path('source'), pair.path('outside'));
    await model.work(100);
    const backups = [startBackup(pair, fast), startBackup(pair, slow, addressOf(13))];
    backups.push(startBackup(pair, flapping, addressOf(14)));
    for (const backup of backups) await backup.shows('SSH 服务器就绪');
    await Promise.all([narrow.up(), broken.up()]);
    const DEST_HOSTS = targetsOf(pair, fast, slow, flapping);
    const source = pair.start('rsync-inotify', { DEST_HOSTS, SYNC_INTERVAL: '0.2', FULL_SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    await areMirrored(pair, [fast, slow, flapping]);

    narrow.bytesPerSecond = 50_000;
    writeFileSync(pair.path('source', 'big file'), crypto.getRandomValues(Buffer.alloc(8_000_000)));
    const isOnItsWay = () => readdirSync(backupOf(pair, slow)).some((name) => name.startsWith('.big file.'));
    await eventually(isOnItsWay); // before random work removes or renames it
    for (let round = 0; round < 6; round++) {
      if (round % 2 === 0) broken.down();
      else await broken.up();
      await model.work(500);
      const probe = `probe ${round}`; // a new name: random work renames, removes and replaces what is there
      writeFileSync(pair.path('source', probe), probe);
      await eventually(() => content(`${backupOf(pair, fast)}/${probe}`) === probe);
      expect(isOnItsWay()).toBe(true);
    }
    narrow.bytesPerSecond = Number.POSITIVE_INFINITY;
    await areMirrored(pair, [fast, slow, flapping], 90_000);
    expect(source.output).toMatch(/SSH 连接已断开.*\[\S+@127\.0\.0\.4:/);
    expect(source.output).not.toMatch(/SSH 连接已断开.*127\.0\.0\.[23]:/);
  });

  test('are told apart in log, status, metrics and health', async () => {
    await using pair = await Pair.withKeys('told-apart');
    const [, second] = await startBackups(pair, 2, 3);
    const env = { DEST_HOSTS: targetsOf(pair, 2, 3), SYNC_INTERVAL: '0', LOG_FORMAT: 'json' };
    const source = pair.start('rsync-inotify', { ...env, METRICS_FILE: pair.path('metrics.prom') });
    await source.shows('service.ready');
    await areMirrored(pair, [2, 3]);
    await eventually(() => statusOf(pair, 2).state === 'idle' && statusOf(pair, 3).state === 'idle');
    expect(health(pair)).toStartWith('健康: 正在实时镜像');
    await second?.stop();
    await eventually(() => /^不健康: 无法连接目标 root@127\.0\.0\.3:\S+$/m.test(health(pair)), 40_000).catch(
      (cause) => {
        throw new Error(`${cause}\n${health(pair)}\n${JSON.stringify(statusOf(pair, 3))}\n${source.output}`);
      },
    );
    writeFileSync(pair.path('source', 'file'), 'words');
    await areMirrored(pair, [2]);
    await eventually(() => statusOf(pair, 3).pending === 1 && !statusOf(pair, 3).up);
    await eventually(() => expect(statusOf(pair, 2)).toMatchObject({ up: true, pending: 0, state: 'idle' }) ?? true);
    const metrics = () => readFileSync(pair.path('metrics.prom'), 'utf8');
    for (const line of [
      `rsync_target_up{target="root@${targetOf(pair, 2)}"} 1`,
      `rsync_target_up{target="root@${targetOf(pair, 3)}"} 0`,
      `rsync_pending_changes{target="root@${targetOf(pair, 3)}"} 1`,
    ]) {
      await eventually(() => expect(metrics().split('\n')).toContain(line) ?? true); // written a moment after the status
    }
    const entries = source.output.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []));
    for (const n of [2, 3]) {
      const own = entries.filter(({ target }) => target === `root@${targetOf(pair, n)}`).map(({ event }) => event);
      expect(own).toContainValues([
        'ssh.wait',
        'ssh.ready',
        'ssh.tested',
        'sync.first',
        'sync.first_done',
        'sync.success',
      ]);
      expect(own.includes('connection.lost')).toBe(n === 3);
    }
  });

  test('get what still waits when the service is stopped', async () => {
    await using pair = await Pair.withKeys('stopped');
    await startBackups(pair, 2, 3, 4);
    const { DEST_HOSTS, ...env } = { DEST_HOSTS: targetsOf(pair, 2, 3, 4), SYNC_INTERVAL: '60' };
    const source = pair.start('rsync-inotify', { ...env, DEST_HOSTS: DEST_HOSTS.replaceAll(' ', ',') });
    await source.shows('✓ 服务运行中');
    await eventually(() => count(source.output, '首次全量同步完成 ✓') === 3);
    writeFileSync(pair.path('source', 'last'), 'words');
    await sleep(300);
    expect(await source.stop()).toBe(0);
    await areMirrored(pair, [2, 3, 4], 0);
  });
});

describe.concurrent('a target', () => {
  test('that is away at the start is taken in when it comes, and has all that it missed', async () => {
    await using pair = await Pair.withKeys('late');
    writeFileSync(pair.path('source', 'old'), 'words');
    await startBackups(pair, 2);
    const env = { DEST_HOSTS: targetsOf(pair, 2, 3), SYNC_INTERVAL: '0', MAX_RETRIES: '1', FULL_SYNC_INTERVAL: '0' };
    const source = pair.start('rsync-inotify', env);
    await source.shows('✓ 服务运行中');
    await source.shows(/WARN.*SSH 服务未就绪: 127\.0\.0\.3:\d+ .*其他目标照常同步，此目标恢复后自动加入/);
    for (const name of ['a', 'b', 'c']) writeFileSync(pair.path('source', name), name);
    rmSync(pair.path('source', 'a'));
    await areMirrored(pair, [2]);
    expect(statusOf(pair, 3)).toMatchObject({ up: false, last_success: null });
    await startBackups(pair, 3);
    await areMirrored(pair, [2, 3], 60_000);
    await source.shows(/SSH 连接已恢复 ✓ \[root@127\.0\.0\.3:/);
    writeFileSync(pair.path('source', 'new'), 'words');
    await areMirrored(pair, [2, 3]);
  });

  test('that comes while it is still waited for is taken in as usual, and the others do not wait', async () => {
    await using pair = await Pair.withKeys('soon');
    await startBackups(pair, 2);
    const source = pair.start('rsync-inotify', { DEST_HOSTS: targetsOf(pair, 3, 2), SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'file'), 'words');
    await areMirrored(pair, [2]);
    await startBackups(pair, 3);
    await source.shows(/首次全量同步完成 ✓ \[root@127\.0\.0\.3:/);
    await areMirrored(pair, [2, 3]);
    expect(source.output).not.toContain('ERROR');
  });

  test('that refuses the mirror is tried again and again, and the others go on', async () => {
    await using pair = await Pair.withKeys('refusing');
    writeFileSync(pair.path('source', 'file'), 'words');
    await startBackups(pair, 2, 3);
    const DEST_HOSTS = `${targetOf(pair, 2)} ${addressOf(3)}:/elsewhere/`;
    const source = pair.start('rsync-inotify', { DEST_HOSTS, SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    await source.shows(/ERROR.*同步失败 \(退出码: 12\).*\[root@127\.0\.0\.3:\/elsewhere\/\]/);
    await source.shows(/WARN.* 秒后重试.*\[root@127\.0\.0\.3:\/elsewhere\/\]/);
    writeFileSync(pair.path('source', 'new'), 'words');
    await areMirrored(pair, [2]);
    expect(source.running).toBe(true);
  });

  test('that hangs delays no other', async () => {
    await using pair = await Pair.withKeys('hanging');
    const [, hanging] = await startBackups(pair, 2, 3);
    const source = pair.start('rsync-inotify', { DEST_HOSTS: targetsOf(pair, 2, 3), SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    await areMirrored(pair, [2, 3]);
    const group = Number(/PID: (\d+)/.exec(hanging?.output ?? '')?.[1]);
    const freeze = (signal: string) => spawnSync('pkill', [signal, '-s', `${group}`]);
    freeze('-STOP');
    try {
      for (let n = 0; n < 5; n++) {
        writeFileSync(pair.path('source', 'file'), `${n}`);
        await eventually(() => content(`${backupOf(pair, 2)}/file`) === `${n}`, 5000);
      }
    } finally {
      freeze('-CONT');
    }
    await areMirrored(pair, [2, 3], 60_000);
  });

  test('whose source was emptied keeps what it has, as all do', async () => {
    await using pair = await Pair.withKeys('emptied-source');
    await startBackups(pair, 2, 3);
    for (const n of [2, 3]) {
      mkdirSync(backupOf(pair, n), { recursive: true });
      writeFileSync(`${backupOf(pair, n)}/kept`, 'words');
    }
    const source = pair.start('rsync-inotify', { DEST_HOSTS: targetsOf(pair, 2, 3), SYNC_INTERVAL: '0' });
    for (const n of [2, 3]) await source.shows(new RegExp(`源目录为空而备份不为空.*\\[root@127\\.0\\.0\\.${n}:`));
    for (const n of [2, 3]) expect(content(`${backupOf(pair, n)}/kept`)).toBe('words');
    writeFileSync(pair.path('source', 'file'), 'words');
    await areMirrored(pair, [2, 3], 60_000);
  });
});

test('--verify compares with each, and tells them apart', async () => {
  await using pair = await Pair.withKeys('verify');
  const [, second] = await startBackups(pair, 2, 3);
  for (const name of ['a', 'b']) writeFileSync(pair.path('source', name), name);
  const env = { DEST_HOSTS: targetsOf(pair, 2, 3), SYNC_INTERVAL: '0' };
  const source = pair.start('rsync-inotify', env);
  await source.shows('✓ 服务运行中');
  await areMirrored(pair, [2, 3]);
  const verify = () => {
    const environment = { ...cleanEnv(), ...pair.sourceEnv, ...env, LOG_FORMAT: 'json' };
    const { stdout, status } = spawnSync(binary('rsync-inotify'), ['--verify'], { env: environment, encoding: 'utf8' });
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    return { status, lines: lines.filter(({ target }) => target) };
  };
  const [one, other] = [2, 3].map((n) => `root@${targetOf(pair, n)}`);
  const equal = { result: 'equal', differences: 0 };
  expect(verify()).toMatchObject({
    status: 0,
    lines: [
      { target: one, ...equal },
      { target: other, ...equal },
    ],
  });
  writeFileSync(`${backupOf(pair, 3)}/b`, 'B');
  expect(verify()).toMatchObject({
    status: 1,
    lines: [
      { target: one, ...equal },
      { target: other, result: 'different', differences: 1 },
      { target: other, path: 'b', difference: 'content' },
    ],
  });
  await second?.stop();
  expect(verify()).toMatchObject({
    status: 2,
    lines: [
      { target: one, ...equal },
      { target: other, result: 'unknown' },
    ],
  });
});

test('with no target in reach the start fails as with a single one, and says so of each', async () => {
  await using pair = await Pair.withKeys('none');
  const source = pair.start('rsync-inotify', { DEST_HOSTS: targetsOf(pair, 2, 3), MAX_RETRIES: '1' });
  expect(await source.exited).toBe(1);
  for (const n of [2, 3])
    expect(source.output).toMatch(
      new RegExp(`ERROR.*SSH 服务未就绪: 127\\.0\\.0\\.${n}:.*\\[root@127\\.0\\.0\\.${n}:`),
    );
});

test('a single one in DEST_HOSTS is logged as DEST_HOST is, which it takes the place of', async () => {
  await using pair = await Pair.withKeys('single');
  await startBackups(pair, 2);
  const source = pair.start('rsync-inotify', { DEST_HOSTS: `root@${targetOf(pair, 2)}`, DEST_HOST: 'nowhere' });
  await source.shows('✓ 服务运行中');
  expect(source.output).toContain('目标主机: root@127.0.0.2\n');
  expect(source.output).toContain(`目标目录: ${backupOf(pair, 2)}/\n`);
  expect(source.output).not.toContain(`[root@`);
  writeFileSync(pair.path('source', 'file'), 'words');
  truncateSync(pair.path('source', 'file'), 3);
  await areMirrored(pair, [2]);
});

test.each([
  ['one two:/x:y', 'two:/x:y 应为 [user@]host[:dir]'],
  ['one,-oProxyCommand=reboot', '-oProxyCommand=reboot 应为 [user@]host[:dir]'],
  ['2001:db8::7:/data', '2001:db8::7:/data 应为 [user@]host[:dir]'],
  ['one::module', '应写作 rsync://[user@]host[:port]/module/dir，不用 host::module'],
  ['one one', 'root@one:/data/backup/ 和 root@one:/data/backup/ 相同或互相包含'],
  ['one:/a/b/../c one:/a/c/d/', 'root@one:/a/b/../c 和 root@one:/a/c/d/ 相同或互相包含'],
  ['one:~ one:a', 'root@one:~ 和 root@one:a 相同或互相包含'],
  ['one:a root@one:~/a', 'root@one:a 和 root@one:~/a 相同或互相包含'],
])('DEST_HOSTS=%j is refused: %s', async (DEST_HOSTS, reason) => {
  await using pair = await Pair.withKeys('bad');
  const source = pair.start('rsync-inotify', { DEST_HOSTS, DEST_DIR: '/data/backup/' });
  expect(await source.exited).toBe(2);
  expect(source.output).toContain('DEST_HOSTS');
  expect(source.output).toContain(reason);
});

test.each(['one two', 'one:/a one:/ab', 'a@one:x b@one:x', '[::1]:/x,[::1]:/y', '::1 fe80::1%lo'])(
  'DEST_HOSTS=%j is accepted',
  async (DEST_HOSTS) => {
    const env = { ...cleanEnv(), DEST_HOSTS, SOURCE_DIR: '/tmp/' };
    const { status, stdout } = spawnSync(binary('rsync-inotify'), ['--check'], { env, encoding: 'utf8' });
    expect(stdout).toContain('配置有效');
    expect(status).toBe(0);
  },
);
