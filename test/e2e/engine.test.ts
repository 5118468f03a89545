/** What the sync engine promises, also while the processes that it works with die, stall or run into limits. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model, SHOWN_BY_STATUS } from '../model.ts';
import { connectionsOf, listedRsyncsOf, Pair, remoteRsyncsOf, theOnly, userName, watchersOf } from '../pair.ts';
import { cleanEnv, content, count, eventually, Program, signalAll } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(240_000);

/** Every change at once, and no regular comparison that would mend what was missed. */
const AT_ONCE = { SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0' };

/** Writes a file and waits until the backup has it. */
async function arrives(pair: Pair, name: string, text = name): Promise<void> {
  writeFileSync(pair.path('source', name), text);
  await eventually(() => content(pair.path('backup', name)) === text).catch((error) => {
    throw new Error(`${error}\n${pair.programs.map(({ output }) => output).join('\n---\n')}`);
  });
}

/** Waits until every sync has ended well. */
const areDone = (source: Program) => eventually(() => !/触发(?!.*同步成功)/s.test(source.output));

/** Waits until every sync has ended well and each rsync of the next ones stands at the backup; returns the process id of one. */
async function isArmed(pair: Pair, source: Program, processes = listedRsyncsOf): Promise<number> {
  await areDone(source);
  return eventually(() => {
    const [waiting, there] = [processes(pair), remoteRsyncsOf(pair)];
    return waiting.length === there.length ? waiting[0] : 0;
  });
}

/** Random work in the source of the pair. */
function modelOf(pair: Pair): Model {
  mkdirSync(pair.path('outside'));
  return new Model(Date.now() % 1_000_000, pair.path('source'), pair.path('outside'));
}

/** Several megabytes that cannot be compressed. */
const writeBig = (path: string, bytes: number) =>
  spawnSync('sh', ['-c', `head -c ${bytes} /dev/urandom > "$1"`, 'sh', path]);

describe('the watcher', () => {
  test('that fell so far behind that the kernel dropped events is replaced, and nothing is lost', async () => {
    await using pair = await Pair.withKeys('overflow');
    const file = (n: number) => pair.path('source', `${n}`);
    for (let n = 0; n < 100; n++) writeFileSync(file(n), 'old');
    const { source } = await pair.run(AT_ONCE);
    const watcher = await theOnly(watchersOf, pair);
    process.kill(watcher, 'SIGSTOP');
    const most = Number(readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'));
    for (let n = 100; n < Math.max(20_000, most); n++) writeFileSync(file(n), '');
    for (let n = 0; n < 50; n++) rmSync(file(n));
    for (let n = 50; n < 100; n++) writeFileSync(file(n), 'new');
    process.kill(watcher, 'SIGCONT');
    await source.shows('inotify 事件队列溢出');
    await source.shows('监控已恢复');
    await pair.isMirrored();
    expect(source.output).not.toContain('同步失败');
    await arrives(pair, 'afterwards');
  });

  test('that is killed again and again during random work is replaced, and nothing is lost', async () => {
    await using pair = await Pair.withKeys('watcher');
    const { source } = await pair.run(AT_ONCE);
    const model = modelOf(pair);
    for (let n = 0; n < 3; n++) {
      const offset = source.output.length;
      const work = model.work(1500, SHOWN_BY_STATUS); // what nobody watches is compared as rsync does
      await sleep(500);
      await eventually(() => {
        signalAll(watchersOf(pair), 'SIGKILL');
        return source.output.includes('意外退出', offset);
      });
      await work;
      await source.shows('监控已恢复', offset);
    }
    await pair.isMirrored();
    expect(source.output).toMatch(/\[ERROR .*\] inotifywait 意外退出 \(退出码: SIGKILL\)，正在重新启动监控/);
    await arrives(pair, 'afterwards');
  });

  test.concurrent('that was stopped is told of within a minute and replaced, and nothing is lost', async () => {
    await using pair = await Pair.withKeys('hung');
    const { source } = await pair.run(AT_ONCE);
    const watcher = await theOnly(watchersOf, pair);
    process.kill(watcher, 'SIGSTOP');
    mkdirSync(pair.path('source', 'unseen'));
    writeFileSync(pair.path('source', 'unseen', 'file'), 'unseen');
    await source.shows(/\[ERROR .*\] inotifywait 没有应答/, 0, 60_000);
    await source.shows('监控已恢复');
    await pair.isMirrored();
    await eventually(() => !watchersOf(pair).includes(watcher));
    await arrives(pair, 'afterwards');
    expect(source.output).not.toContain('/proc/self/fd');
    process.kill(await theOnly(watchersOf, pair), 'SIGSTOP');
    expect(await source.stop()).toBe(0);
    expect(watchersOf(pair)).toEqual([]);
  });

  test.concurrent('that runs but tells nothing any more is noticed as well', async () => {
    await using pair = await Pair.withKeys('mute');
    mkdirSync(pair.path('bin'));
    const mute = `perl -e '$| = 1; while (sysread STDIN, $_, 4096) { sleep 1000 if unlink "${pair.path('mute')}"; print }'`;
    const script = `#!/bin/bash\nexec -a inotifywait ${Bun.which('inotifywait')} "$@" > >(${mute})\n`;
    writeFileSync(pair.path('bin', 'inotifywait'), script, { mode: 0o755 });
    const { source } = await pair.run({ ...AT_ONCE, PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await arrives(pair, 'before');
    writeFileSync(pair.path('mute'), '');
    writeFileSync(pair.path('source', 'unseen'), 'unseen');
    await source.shows(/\[ERROR .*\] inotifywait 没有应答/, 0, 60_000);
    await source.shows('监控已恢复');
    await pair.isMirrored();
    await arrives(pair, 'afterwards');
  });

  test.each([
    ['dies', 'SIGKILL', 'inotifywait 意外退出'],
    ['is stopped', 'SIGSTOP', 'inotifywait 没有应答'],
  ] as const)(
    'that %s before it has told all to the one in its place may have lost something',
    async (_, signal, said) => {
      await using pair = await Pair.withKeys('relieved');
      const { source } = await pair.run(AT_ONCE);
      const old = await theOnly(watchersOf, pair);
      const talk = setInterval(() => writeFileSync(pair.path('source', 'file'), ''), 5); // or it would soon be ended
      try {
        mkdirSync(pair.path('source', 'new'));
        await eventually(() => watchersOf(pair).length === 2);
        process.kill(old, signal);
        await source.shows(said);
      } finally {
        clearInterval(talk);
      }
      await source.shows('监控已恢复');
      await pair.isMirrored();
      await eventually(() => !watchersOf(pair).includes(old));
    },
  );
});

/** Runs a program in a user namespace of its own, in which it may watch that many files and directories. */
const withWatches = (limit: number) => {
  const script = `echo ${limit} > /proc/sys/user/max_inotify_watches && exec "$0"`;
  return ['unshare', '--user', '--map-root-user', 'sh', '-c', script];
};
const mayLimitWatches = spawnSync('sh', ['-c', '"$@"', 'sh', ...withWatches(40), 'true']).status === 0;

describe.skipIf(!mayLimitWatches)('a limit on watches (set in a user namespace, where these are allowed)', () => {
  const ADVICE = /\[ERROR .*\] inotifywait 退出 .*sysctl fs\.inotify\.max_user_watches/;

  /** A pair whose source has 30 directories, and may have 40 watches. */
  async function run(pair: Pair): Promise<Program> {
    for (let n = 1; n < 30; n++) mkdirSync(pair.path('source', `${n}`));
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', AT_ONCE, withWatches(40));
    await source.shows('✓ 服务运行中');
    return source;
  }

  test('that leaves no room for two watchers at a time is told, and one does the work of both', async () => {
    await using pair = await Pair.withKeys('tight');
    const source = await run(pair);
    mkdirSync(pair.path('source', 'new', 'deep'), { recursive: true });
    writeFileSync(pair.path('source', 'new', 'deep', 'file'), 'content');
    await source.shows(ADVICE);
    await source.shows('监控已恢复');
    await pair.isMirrored();
    await arrives(pair, 'new/deep/another');
    await arrives(pair, '1/file');
    mkdirSync(pair.path('source', 'newer'));
    await arrives(pair, 'newer/file');
    await arrives(pair, 'newer/another');
    expect(watchersOf(pair)).toHaveLength(1);
    expect(source.output).not.toContain('同步失败');
  });

  test('that is exceeded is told, the tree is compared now and then, and watched again when it fits', async () => {
    await using pair = await Pair.withKeys('exceeded');
    const source = await run(pair);
    const fill = (n: number) => {
      mkdirSync(pair.path('source', `more-${n}`));
      writeFileSync(pair.path('source', `more-${n}`, 'file'), 'content');
    };
    for (let n = 0; n < 40; n++) fill(n);
    await source.shows(ADVICE);
    await pair.isMirrored(60_000);
    await source.shows(/秒后重新启动监控/);
    appendFileSync(pair.path('source', 'more-39', 'file'), ' and more');
    writeFileSync(pair.path('source', 'file'), 'content');
    await pair.isMirrored(60_000);
    for (let n = 0; n < 40; n++) rmSync(pair.path('source', `more-${n}`), { recursive: true });
    const offset = source.output.length;
    await source.shows('监控已恢复', offset, 60_000);
    await pair.isMirrored();
    await arrives(pair, '1/file');
  });
});

describe.concurrent('the rsync that waits for the next batch', () => {
  test('is replaced when it is killed, and nobody is bothered with that', async () => {
    await using pair = await Pair.withKeys('armed');
    const { source } = await pair.run(AT_ONCE);
    await arrives(pair, 'before');
    const waiting = await isArmed(pair, source);
    process.kill(waiting, 'SIGKILL');
    await eventually(() => !listedRsyncsOf(pair).includes(waiting));
    await arrives(pair, 'with none');
    expect(await isArmed(pair, source)).not.toBe(waiting);
    await arrives(pair, 'with the next one');
    expect(source.output).not.toMatch(/ERROR|WARN/);
  });

  test('is replaced when its half at the backup is killed, by the next change at the latest', async () => {
    await using pair = await Pair.withKeys('remote');
    const { source } = await pair.run(AT_ONCE);
    for (const name of ['one', 'two', 'three']) {
      await isArmed(pair, source);
      signalAll(remoteRsyncsOf(pair), 'SIGKILL');
      await eventually(() => remoteRsyncsOf(pair).length === 0);
      await arrives(pair, name);
    }
    await isArmed(pair, source);
    expect(source.output).not.toMatch(/ERROR|WARN/);
  });

  test.concurrent('outlives an idle time beyond --timeout', async () => {
    await using pair = await Pair.withKeys('timeout');
    const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-av --delete --timeout=5' });
    for (const name of ['one', 'two']) {
      await sleep(8000);
      await arrives(pair, name);
    }
    expect(source.output).not.toMatch(/ERROR|WARN/);
  });

  const dropsIdleSessions = ['-o', 'ChannelTimeout=session:*=4s'];
  test.concurrent.skipIf(!sshdAccepts(dropsIdleSessions))(
    'is replaced when the backup’s sshd drops idle sessions (ChannelTimeout: OpenSSH 9.2 or later)',
    async () => {
      await using pair = await Pair.withKeys('idle');
      const source = pair.start('rsync-inotify', AT_ONCE);
      await startSshd(pair, dropsIdleSessions);
      await source.shows('✓ 服务运行中');
      let n = 0;
      await eventually(async () => {
        await arrives(pair, `${++n}`); // each change arms another one; until this is seen, it may have been dropped
        return await eventually(() => remoteRsyncsOf(pair).length === 1, 3000);
      });
      await eventually(() => remoteRsyncsOf(pair).length === 0);
      await arrives(pair, 'when it was gone');
      for (const ms of [2000, 3900, 4000, 4100, 9000]) {
        await sleep(ms);
        await arrives(pair, `after ${ms} ms`);
      }
      await pair.isMirrored();
      expect(source.output).not.toMatch(/ERROR|WARN/);
    },
  );
});

/** Whether this machine's sshd knows the options. */
function sshdAccepts(options: string[]): boolean {
  const key = '/dev/null'; // no key at all is its only complaint, and comes after the options
  return !/config|[Uu]nsupported|deprecated/i.test(
    spawnSync('/usr/sbin/sshd', ['-t', '-f', '/dev/null', '-h', key, ...options], { encoding: 'utf8' }).stderr,
  );
}

/** An sshd of the machine's own in the place of start-sshd, its key published, once the source has shared its own. */
async function startSshd(pair: Pair, options: string[]): Promise<void> {
  await eventually(() => existsSync(pair.path('shared', 'id_rsa.pub')));
  mkdirSync(pair.path('backup-ssh'), { mode: 0o700 });
  copyFileSync(pair.path('shared', 'id_rsa.pub'), pair.path('backup-ssh', 'authorized_keys'));
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('host_key')]);
  mkdirSync(pair.path('shared', 'host_keys'));
  copyFileSync(pair.path('host_key.pub'), pair.path('shared', 'host_keys', 'host.ed25519.pub'));
  if (userName() === 'root') mkdirSync('/run/sshd', { recursive: true });
  const files = [
    `HostKey=${pair.path('host_key')}`,
    `AuthorizedKeysFile=${pair.path('backup-ssh', 'authorized_keys')}`,
  ];
  const settings = [...files, 'ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no'].flatMap((line) => ['-o', line]);
  const args = ['-D', '-e', '-f', '/dev/null', '-p', `${pair.port}`, ...settings, ...options];
  pair.keep(new Program('/usr/sbin/sshd', args, {}));
}

describe.concurrent('an rsync that is killed while it transfers', () => {
  test('is told with its code and what that means, and its batch is tried again', async () => {
    await using pair = await Pair.withKeys('killed');
    const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-av --delete --bwlimit=1500' });
    writeBig(pair.path('big'), 3_000_000);
    const offset = source.output.length;
    renameSync(pair.path('big'), pair.path('source', 'big')); // as a whole, in one batch
    await source.shows('触发批量同步', offset);
    await eventually(() => readdirSync(pair.path('backup')).some((it) => it.startsWith('.big.')));
    signalAll(listedRsyncsOf(pair), 'SIGKILL');
    await source.shows(/\[ERROR .*\] 同步失败 \(退出码: 137\)：rsync 被信号 9 终止/, offset);
    await source.shows(/\[WARN .*\] 1 秒后重试，\d+ 处变化等待同步/, offset);
    expect(source.output.slice(offset)).not.toContain('同步成功');
    await pair.isMirrored();
    await source.shows('同步成功', offset);
  });
});

test.concurrent('an rsync that is killed at the backup leaves nothing there, without --delete either', async () => {
  await using pair = await Pair.withKeys('remnant');
  const { backup } = await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-a --bwlimit=1500' });
  const written = () => readdirSync(pair.path('backup')).filter((it) => /^\.big\.\w{6}$/.test(it));
  writeBig(pair.path('big'), 6_000_000);
  renameSync(pair.path('big'), pair.path('source', 'big'));
  const remnant = await eventually(() => written().find((it) => statSync(pair.path('backup', it)).size > 3_000_000));
  const receiving = remoteRsyncsOf(pair);
  signalAll(receiving, 'SIGSTOP');
  expect(written()).toEqual([remnant]); // it has not come to its end meanwhile
  signalAll(receiving, 'SIGKILL');
  await backup.shows(`已删除它没有写完的临时文件 ${pair.path('backup', remnant)}`);
  await pair.isMirrored();
  expect(written()).toEqual([]);
});

describe.concurrent('the shared SSH connection', () => {
  test('is made anew when it is killed; changes arrive before, meanwhile and after', async () => {
    await using pair = await Pair.withKeys('connection');
    const { source, backup } = await pair.run(AT_ONCE);
    await arrives(pair, 'before');
    for (let n = 1; n <= 3; n++) {
      await isArmed(pair, source);
      process.kill(await theOnly(connectionsOf, pair), 'SIGKILL');
      await arrives(pair, `meanwhile ${n}`);
      await eventually(() => count(source.output, 'SSH 连接已恢复') >= n);
      await arrives(pair, `after ${n}`);
    }
    expect(count(source.output, 'SSH 连接已断开')).toBe(3);
    await pair.isMirrored();

    const waiting = await isArmed(pair, source);
    /** Counts them once sshd's words of the last one are in the log, which reads them now and then. */
    const countLogins = async () => {
      let [seen, before] = [0, -1];
      await eventually(async () => {
        before = seen;
        seen = count(backup.output, 'Accepted publickey');
        await sleep(700);
        return seen === before;
      });
      return seen;
    };
    const logins = await countLogins();
    process.kill(await theOnly(connectionsOf, pair), 'SIGKILL');
    await eventually(() => count(source.output, 'SSH 连接已恢复') >= 4);
    await eventually(() => !listedRsyncsOf(pair).includes(waiting));
    await isArmed(pair, source);
    expect(await countLogins()).toBe(logins + 1); // for all that goes over it
    expect(source.output).not.toContain('同步失败');
  });

  test('that is killed leaves nothing that looks like a connection while the backup is away', async () => {
    await using pair = await Pair.withKeys('stale');
    const { source, backup } = await pair.run(AT_ONCE);
    const connection = await theOnly(connectionsOf, pair);
    const offset = source.output.length;
    process.kill(connection, 'SIGSTOP'); // else it would notice, and tidy up
    await backup.stop();
    process.kill(connection, 'SIGKILL');
    await source.shows('SSH 连接已断开', offset);
    await sleep(2000);
    expect(source.output.slice(offset)).not.toContain('SSH 连接已恢复');
    expect(count(source.output, 'SSH 连接已断开')).toBe(1);
    pair.start('start-sshd');
    await source.shows('SSH 连接已恢复', offset);
    await arrives(pair, 'afterwards');
  });

  test('comes back with an sshd that was away for 20 s, and nothing that happened meanwhile is lost', async () => {
    await using pair = await Pair.withKeys('away');
    const { source, backup } = await pair.run(AT_ONCE);
    const model = modelOf(pair);
    await model.work(500);
    const offset = source.output.length;
    await backup.stop();
    const stopped = performance.now();
    while (performance.now() - stopped < 20_000) {
      await model.work(200);
      await sleep(1500);
    }
    const away = source.output.slice(offset);
    expect(away).toMatch(/\[WARN .*\] SSH 连接已断开/);
    expect(away).toMatch(/\[ERROR .*\] 同步失败 \(退出码: 255\)：SSH 连接失败/);
    expect(away).not.toContain('SSH 连接已恢复');
    pair.start('start-sshd');
    await source.shows('SSH 连接已恢复', offset, 40_000);
    await pair.isMirrored();
    await arrives(pair, 'afterwards');
  });
});

/** Two network namespaces with a cable between them; nothing of the machine's own network takes part. */
class Cable implements Disposable {
  readonly near = `rsync-inotify-near-${process.pid}`;
  readonly far = `rsync-inotify-far-${process.pid}`;
  readonly isLaid: boolean;

  constructor() {
    const end = (name: string, address: string) => `
      ip -n ${name} address add ${address}/24 dev cable && ip -n ${name} link set cable up`;
    const script = `ip netns add ${this.near} && ip netns add ${this.far} &&
      ip -n ${this.near} link add cable type veth peer name cable netns ${this.far} &&
      ${end(this.near, '192.0.2.1')} && ${end(this.far, '192.0.2.2')}`;
    this.isLaid = spawnSync('sh', ['-c', script]).status === 0;
  }

  /** Runs a program at one end. */
  at = (name: string) => ['ip', 'netns', 'exec', name];

  /** What is sent over a cable that is cut vanishes, and nobody is told. */
  set(state: 'up' | 'down'): void {
    spawnSync('sh', ['-c', `ip -n ${this.far} link set cable ${state}`]);
  }

  [Symbol.dispose](): void {
    spawnSync('sh', ['-c', `ip netns delete ${this.near}; ip netns delete ${this.far}`]);
  }
}

function mayLayCables(): boolean {
  using cable = new Cable();
  return cable.isLaid;
}

describe.concurrent('a network', () => {
  test.skipIf(!mayLayCables())(
    'that is cut without a word is noticed, and made up for when it is back (needs network namespaces)',
    async () => {
      using cable = new Cable();
      await using pair = await Pair.withKeys('cut');
      pair.start('start-sshd', { SSHD_LISTEN: '192.0.2.2' }, cable.at(cable.far));
      const address = { DEST_HOST: `${userName()}@192.0.2.2` };
      const source = pair.start('rsync-inotify', { ...AT_ONCE, ...address }, cable.at(cable.near));
      await source.shows('✓ 服务运行中');
      await arrives(pair, 'before');
      const offset = source.output.length;
      cable.set('down');
      writeFileSync(pair.path('source', 'meanwhile'), 'meanwhile');
      await source.shows('SSH 连接已断开', offset, 45_000);
      await source.shows(/\[ERROR .*\] 同步失败 \(退出码: \d+\)/, offset, 45_000);
      expect(existsSync(pair.path('backup', 'meanwhile'))).toBe(false);
      cable.set('up');
      await pair.isMirrored(45_000);
      await source.shows('SSH 连接已恢复', offset, 45_000);
      await arrives(pair, 'afterwards');
    },
  );
});

describe('a file that is being written', () => {
  test('is mirrored as it is when that takes longer than SYNC_INTERVAL', async () => {
    await using pair = await Pair.withKeys('open');
    await pair.run({ SYNC_INTERVAL: '1', FULL_SYNC_INTERVAL: '0' });
    const file = openSync(pair.path('source', 'file'), 'w');
    for (const text of ['one', 'one two', 'one two three']) {
      writeSync(file, text, 0);
      await eventually(() => content(pair.path('backup', 'file')) === text, 5000);
    }
    closeSync(file);
    await pair.isMirrored();
  });

  test('goes in one batch, when it is closed, where that takes less', async () => {
    await using pair = await Pair.withKeys('pieces');
    const { source } = await pair.run({ SYNC_INTERVAL: '3', FULL_SYNC_INTERVAL: '0' });
    await sleep(3000); // so that a batch would start at once
    const offset = source.output.length;
    const file = openSync(pair.path('source', 'file'), 'w');
    for (let n = 0; n < 10; n++) {
      writeSync(file, `${n}`);
      await sleep(100);
      expect(existsSync(pair.path('backup', 'file'))).toBe(false);
    }
    closeSync(file);
    await eventually(() => content(pair.path('backup', 'file')) === '0123456789', 1500);
    await pair.isMirrored();
    await sleep(1000);
    expect(count(source.output.slice(offset), '触发批量同步')).toBe(1);
  });

  test('counts as changed though it has the size and the second of the version before', async () => {
    await using pair = await Pair.withKeys('same');
    await pair.run(AT_ONCE);
    for (let n = 0; n < 20; n++) await arrives(pair, 'file', n % 2 === 0 ? 'a' : 'b');
  });
});

describe('a batch', () => {
  test('takes what is written in one go', async () => {
    await using pair = await Pair.withKeys('burst');
    const { source } = await pair.run(AT_ONCE);
    await isArmed(pair, source);
    const offset = source.output.length;
    const watcher = await theOnly(watchersOf, pair);
    process.kill(watcher, 'SIGSTOP'); // or a busy machine would pause between two of them
    for (let n = 0; n < 200; n++) writeFileSync(pair.path('source', `${n}`), `${n}`);
    process.kill(watcher, 'SIGCONT');
    await pair.isMirrored();
    const batches = count(source.output.slice(offset), '触发批量同步');
    expect(batches).toBeGreaterThanOrEqual(1);
    expect(batches).toBeLessThanOrEqual(4);
  });

  test.each(['-av --delete --stats', '-av --delete --stats -F'])(
    'has rsync look at what has changed, and not at the tree (%s)',
    async (RSYNC_OPTS) => {
      await using pair = await Pair.withKeys('tree');
      for (let n = 0; n < 3000; n++) {
        const directory = `${n % 30}`;
        mkdirSync(pair.path('source', directory), { recursive: true });
        writeFileSync(pair.path('source', directory, `${n}`), 'content');
      }
      const { source } = await pair.run({ ...AT_ONCE, RSYNC_OPTS });
      const looked = () => [...source.output.matchAll(/^Number of files: ([\d,]+)/gm)].map(([, n]) => n);
      expect(looked()).toEqual(['3,031']);
      await arrives(pair, '1/1', 'changed');
      await arrives(pair, '2/new');
      await pair.isMirrored();
      await areDone(source);
      expect(looked().length).toBeGreaterThanOrEqual(3);
      for (const number of looked().slice(1)) expect(Number(number)).toBeLessThanOrEqual(4);
    },
  );

  test('of more than 100,000 changes while the backup is away becomes a comparison of all, in bounded memory', async () => {
    await using pair = await Pair.withKeys('flood');
    const directories = Array.from({ length: 110 }, (_, n) => pair.path('source', `${n}`));
    for (const directory of [...directories, pair.path('source', 'untouched')]) mkdirSync(directory);
    const { source, backup } = await pair.run({ ...AT_ONCE, RSYNC_OPTS: '-a --delete' });
    await backup.stop();
    writeFileSync(pair.path('backup', 'untouched', 'foreign'), 'what no change would remove');
    const status = () => JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8'));
    for (const [made, directory] of directories.entries()) {
      // The kernel's queue shall not overflow, however slow what reads it is.
      if (made % 10 === 0) await eventually(() => status().watch.events >= made * 1000, 60_000);
      // Links, for these are made and copied sooner than files.
      for (let n = 0; n < 1000; n++) symlinkSync('nowhere', join(directory, `${n}`));
    }
    await eventually(() => status().targets[0].pending === 10_001, 60_000); // all of the source, and what has come since
    pair.start('start-sshd');
    await eventually(() => !existsSync(pair.path('backup', 'untouched', 'foreign')), 120_000);
    await pair.isMirrored(60_000);
    const memory = readFileSync(`/proc/${source.pid}/status`, 'utf8');
    const megabytes = Number(/^VmHWM:\s+(\d+) kB/m.exec(memory)?.[1]) / 1024;
    console.log(`110,000 changes: ${Math.round(megabytes)} MB at most`);
    expect(megabytes).toBeLessThan(250);
    expect(source.output).not.toContain('队列溢出');
    await arrives(pair, '0/afterwards');
  });
});

describe('a directory', () => {
  test('that is new is mirrored and watched as deep as it goes', async () => {
    await using pair = await Pair.withKeys('deep');
    const { source } = await pair.run(AT_ONCE);
    const deep = (n: number) => pair.path('source', `${n}`, 'a', 'b', 'c', 'd');
    for (let n = 0; n < 50; n++) {
      mkdirSync(deep(n), { recursive: true });
      writeFileSync(`${deep(n)}/file`, 'made');
    }
    for (let n = 0; n < 50; n++) writeFileSync(`${deep(n)}/file`, 'changed at once');
    await pair.isMirrored();
    for (let n = 0; n < 50; n++) writeFileSync(`${deep(n)}/file`, 'changed later');
    await pair.isMirrored();
    expect(source.output).not.toContain('同步失败');
  });

  test('that is renamed, moved out or moved in keeps nothing back', async () => {
    await using pair = await Pair.withKeys('renamed');
    const path = (...names: string[]) => pair.path('source', ...names);
    for (const name of ['one', 'two', 'three']) {
      mkdirSync(path(name, 'deep'), { recursive: true });
      writeFileSync(path(name, 'deep', 'file'), name);
    }
    mkdirSync(pair.path('outside', 'deep'), { recursive: true });
    writeFileSync(pair.path('outside', 'deep', 'file'), 'from outside');
    await pair.run(AT_ONCE);
    renameSync(path('one'), path('renamed'));
    renameSync(path('renamed'), path('renamed twice'));
    writeFileSync(path('renamed twice', 'deep', 'file'), 'changed at once');
    renameSync(path('two'), pair.path('gone'));
    renameSync(pair.path('outside'), path('two'));
    writeFileSync(path('two', 'deep', 'file'), 'changed at once');
    renameSync(path('three'), pair.path('gone too'));
    renameSync(pair.path('gone'), path('returned'));
    writeFileSync(pair.path('gone too', 'deep', 'file'), 'changed outside');
    await pair.isMirrored();
    for (const name of ['renamed twice', 'two', 'returned']) await arrives(pair, `${name}/deep/file`, 'changed later');
    await pair.isMirrored();
  });
});

describe.concurrent('the regular comparison', () => {
  test('mends a backup that was damaged, and never runs beside a batch', async () => {
    await using pair = await Pair.withKeys('regular');
    writeFileSync(pair.path('source', 'file'), 'content');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '2' });
    for (let n = 0; n < 2; n++) {
      rmSync(pair.path('backup', 'file'));
      const offset = source.output.length;
      await eventually(() => content(pair.path('backup', 'file')) === 'content', 6000);
      await source.shows('触发定期全量同步', offset);
    }
    const model = modelOf(pair);
    await model.work(5000);
    await pair.isMirrored();
    // Of one that begins aloud, it is told how it went; of others that only where they fail.
    const steps = source.output.match(/触发批量|触发定期|同步成功|同步失败/g) ?? [];
    const isBegin = (step = '') => step.startsWith('触发');
    expect(steps.filter((step, n) => isBegin(step) && isBegin(steps[n + 1]))).toEqual([]);
  });

  test('does not take place with FULL_SYNC_INTERVAL=0', async () => {
    await using pair = await Pair.withKeys('never');
    writeFileSync(pair.path('source', 'file'), 'content');
    const { source } = await pair.run(AT_ONCE);
    rmSync(pair.path('backup', 'file'));
    await arrives(pair, 'another');
    await sleep(3000);
    expect(existsSync(pair.path('backup', 'file'))).toBe(false);
    expect(source.output).not.toContain('触发定期全量同步');
  });
});

describe.concurrent('WATCH_EXCLUDE', () => {
  test('lets changes in some directories wait for the regular comparison', async () => {
    await using pair = await Pair.withKeys('exclude');
    for (const name of ['skip', 'deep/skip', 'skipped']) mkdirSync(pair.path('source', name), { recursive: true });
    const env = { SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '5', WATCH_EXCLUDE: 'skip:deep/skip/' };
    const { source } = await pair.run(env);
    await source.shows('触发定期全量同步');
    await areDone(source);
    const offset = source.output.length;
    for (const name of ['skip/file', 'deep/skip/file']) writeFileSync(pair.path('source', name), name);
    await sleep(1000);
    expect(source.output.slice(offset)).toBe('');
    await arrives(pair, 'skipped/file');
    await arrives(pair, 'deep/file');
    expect(existsSync(pair.path('backup', 'skip', 'file'))).toBe(false);
    await source.shows('触发定期全量同步', offset);
    await pair.isMirrored();
  });

  test.each(['/abs', '../x', 'a//b', 'a/./b', 'ok:..', '.'])('refuses %s', (value) => {
    const env = { ...cleanEnv(), NO_COLOR: '1', SOURCE_DIR: '/tmp', WATCH_EXCLUDE: value };
    const { stdout, status } = spawnSync(binary('rsync-inotify'), ['--check'], { encoding: 'utf8', env });
    expect(stdout).toContain(`配置错误: WATCH_EXCLUDE="${value}"：应为 SOURCE_DIR 下目录的相对路径`);
    expect(status).toBe(2);
  });
});
