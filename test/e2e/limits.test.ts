import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pair, remoteRsyncsOf } from '../pair.ts';
import { content, count, eventually, Program, processesWith } from '../processes.ts';
import { run, Thief } from '../thief.ts';

setDefaultTimeout(120_000);

const [MAX_COMMANDS, MAX_HELPERS, MAX_CONNECTIONS] = [64, 16, 32];

/** Somebody with the key of a source that mirrors. */
function thiefOf(pair: Pair): Thief {
  const thief = new Thief(pair);
  for (const end of ['', '.pub']) copyFileSync(pair.path('source-ssh', `id_rsa${end}`), `${thief.key}${end}`);
  copyFileSync(`${thief.key}.pub`, pair.path('shared', 'id_rsa.pub'));
  return thief;
}

/** What runs a command again whenever it ends, as long as the connection `socket` is there. */
const AGAIN = 'socket=$1; shift; while [ -e "$socket" ]; do ssh -S "$socket" "$@"; done';

/**
 * Has the thief run a command so often at a time, ten over each connection, and each one once or again and again;
 * returns what ends all of them.
 */
async function hold(
  pair: Pair,
  thief: Thief,
  command: string,
  times: number,
  again = false,
): Promise<() => Promise<unknown>> {
  const masters: Program[] = [];
  for (let n = 0; n < times; n += 10) {
    const socket = pair.path(`control-${n}`);
    const master = pair.keep(new Program('ssh', [...thief.sshOptions, '-M', '-N', '-S', socket, thief.host], {}));
    masters.push(master);
    await eventually(() => existsSync(socket));
    const words = [...thief.sshOptions, thief.host, command];
    for (let each = n; each < Math.min(times, n + 10); each++) {
      const [file, args] = again ? ['sh', ['-c', AGAIN, 'sh', socket, ...words]] : ['ssh', ['-S', socket, ...words]];
      spawn(file, args, { stdio: ['pipe', 'ignore', 'ignore'] });
    }
  }
  return () => Promise.all(masters.map((master) => master.stop()));
}

const statusOf = (pair: Pair) => JSON.parse(content(pair.path('backup-status.json')));

test('no more commands of the key run than may, the source says why it waits, and goes on by itself', async () => {
  await using pair = await Pair.withKeys('commands');
  const thief = thiefOf(pair);
  const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
  const command = `rsync --server -re.iLsfxCIvu . ${pair.path('backup')}/`;
  const release = await hold(pair, thief, command, MAX_COMMANDS + 6, true); // takes what the source leaves for a moment, too
  const told = `源端密钥的命令已有 ${MAX_COMMANDS} 个在运行，达到上限，请稍后重试`;
  await backup.shows(`拒绝执行源端的命令：${told}。命令: `);
  await eventually(() => remoteRsyncsOf(pair).length >= MAX_COMMANDS - 1); // and what waits for the source to rename and delete
  const { status, stderr } = await thief.ssh(thief.host, 'echo in');
  expect({ status, stderr }).toEqual({ status: 1, stderr: `start-sshd: 拒绝执行：${told}\n` });
  await eventually(async () => {
    writeFileSync(pair.path('source', `${performance.now()}`), 'content');
    await sleep(300);
    return source.output.includes(told);
  });
  expect(remoteRsyncsOf(pair).length).toBeLessThanOrEqual(MAX_COMMANDS);
  await release();
  await pair.isMirrored();
  expect(statusOf(pair).refused).toBeGreaterThanOrEqual(7);
});

test('no more renames of the key wait than may, and transfers go on beside them', async () => {
  await using pair = await Pair.withKeys('helpers');
  const thief = thiefOf(pair);
  await pair.run({ SYNC_INTERVAL: '0' });
  const waiting = () => [...processesWith('--forced-command').values()].filter((words) => words.includes(pair.path()));
  await hold(pair, thief, `start-sshd --rename ${pair.path('backup')}/`, MAX_HELPERS + 4);
  await eventually(() => statusOf(pair).refused === 4);
  expect(waiting().length).toBeLessThanOrEqual(MAX_HELPERS);
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
});

test('no more connections of the key stay than may', async () => {
  await using pair = await Pair.withKeys('connections');
  const thief = thiefOf(pair);
  const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
  const all: Program[] = [];
  for (let n = 0; n < MAX_CONNECTIONS + 8; n++) {
    all.push(pair.keep(new Program('ssh', [...thief.sshOptions, '-N', thief.host], {})));
    await eventually(() => count(backup.output, 'Accepted publickey') >= n + 2);
  }
  await backup.shows(/\[WARN .*连接多达 \d+ 个，超过上限 32 个，已断开其中 \d+ 个/);
  await eventually(() => statusOf(pair).sessions <= MAX_CONNECTIONS);
  writeFileSync(pair.path('source', 'file'), 'content');
  await pair.isMirrored();
  expect(source.output).not.toContain('SSH 连接已断开');
});

test('what anybody can have sshd say is written for a while, and then counted', async () => {
  await using pair = await Pair.withKeys('scanned');
  const thief = thiefOf(pair);
  const backup = pair.start('start-sshd');
  await backup.shows('SSH 服务器就绪');
  const knock = async () => {
    const socket = connect({ host: '127.0.0.1', port: pair.port }).on('error', () => {});
    socket.end('GET / HTTP/1.1\r\n\r\n').resume();
    await new Promise((closed) => socket.once('close', closed));
  };
  for (let n = 0; n < 250; n++) await knock();
  await backup.shows('（此类记录一小时内不再逐条写入，只计数）');
  expect((await thief.ssh(thief.host, 'echo in')).stdout).toBe('in\n');
  await backup.shows('sshd: Accepted publickey for'); // which is counted apart
  expect(count(backup.output, '] sshd: ')).toBeLessThanOrEqual(202);
  await backup.stop();
  expect(backup.output).toMatch(/\[WARN .*\] sshd 的其他输出：另有 \d+ 条未逐条记录（首次 .*，末次 .*）/);
});

test('strangers who hold all that one address may hold do not lock a source of another address out', async () => {
  await using pair = await Pair.withKeys('strangers');
  const thief = thiefOf(pair);
  await pair.run({ SYNC_INTERVAL: '0' });
  const strangers: Socket[] = [];
  let [greeted, turned] = [0, 0];
  for (let n = 0; n < 50; n++) {
    const socket = connect({ host: '127.0.0.1', port: pair.port, localAddress: '127.0.0.9' });
    strangers.push(socket);
    socket
      .on('data', (data) => (greeted += data.includes('SSH-') ? 1 : 0)) // who is turned away may be told why
      .on('close', () => turned++)
      .on('error', () => {});
  }
  await eventually(() => greeted + turned === 50);
  expect(turned).toBeGreaterThanOrEqual(20);
  for (let n = 0; n < 5; n++) expect((await thief.ssh(thief.host, 'echo in')).stdout).toBe('in\n');
  for (const stranger of strangers) stranger.destroy();
});

test('what one source among several runs and holds takes nothing from another one, and is told apart', async () => {
  await using pair = await Pair.withKeys('each-for-itself');
  const thief = new Thief(pair, undefined, 'web1');
  const backup = pair.start('start-sshd');
  await backup.shows('SSH 服务器就绪');
  const command = `rsync --server -re.iLsfxCIvu . ${pair.path('backup', 'web1')}/`;
  const begin = (socket: string) =>
    spawn('ssh', [...thief.sshOptions, '-S', socket, thief.host, command], { stdio: ['pipe', 'ignore', 'ignore'] });
  for (let n = 0; n < MAX_CONNECTIONS + 2; n++) {
    const socket = pair.path(`control-${n}`);
    pair.keep(new Program('ssh', [...thief.sshOptions, '-M', '-N', '-S', socket, thief.host], {}));
    await eventually(() => existsSync(socket));
    begin(socket);
  }
  await backup.shows(/\[WARN .*源端 web1：连接多达 \d+ 个，超过上限 32 个，已断开其中 \d+ 个/);
  for (let n = 0; n < MAX_COMMANDS; n++) begin(pair.path(`control-${n % 10}`));
  const told = `源端密钥的命令已有 ${MAX_COMMANDS} 个在运行，达到上限，请稍后重试`;
  await backup.shows(`源端 web1：拒绝执行源端的命令：${told}`);
  for (let n = 0; n < 25; n++) await thief.ssh('-S', pair.path('control-0'), thief.host, 'id'); // beyond what is told an hour
  const source = pair.start('rsync-inotify', { SOURCE_NAME: 'web2', SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  writeFileSync(pair.path('source', 'file'), 'content');
  await eventually(() => existsSync(pair.path('backup', 'web2', 'file')));
  expect(source.output).not.toMatch(/SSH 连接已断开|达到上限|\[ERROR/);
  expect((await run('ssh', refusedWords(pair, thief))).stderr).toContain('不提供 shell');
  await backup.shows('源端 web2：拒绝执行源端的命令：不提供 shell');
});

/** Words of ssh by which the source web2 itself asks for a shell. */
const refusedWords = (pair: Pair, thief: Thief) => [
  ...thief.sshOptions.map((word) => word.replace(thief.key, pair.path('source-ssh', 'id_rsa'))),
  thief.host,
];

test('sources that look whether sshd is there do not have their address turned away, however many are behind it', async () => {
  await using pair = await Pair.withKeys('behind-one-address');
  const thief = thiefOf(pair);
  const backup = pair.start('start-sshd');
  await backup.shows('SSH 服务器就绪');
  for (let n = 0; n < 50; n++) {
    const socket = connect({ host: '127.0.0.1', port: pair.port }).setEncoding('latin1');
    const [greeting] = await once(socket, 'data');
    socket.destroy();
    expect({ n, greeting }).toEqual({ n, greeting: expect.stringMatching(/^SSH-/) });
  }
  expect((await thief.ssh(thief.host, 'echo in')).stdout).toBe('in\n');
});
