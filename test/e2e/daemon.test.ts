/** Targets that are rsync daemons: what a NAS has that offers no SSH. */

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { Daemon, PASSWORD, type Settings } from '../daemon.ts';
import { isRoot, listedRsyncsOf, Pair, theOnly } from '../pair.ts';
import { cleanEnv, content, eventually, type Program, processesWith } from '../processes.ts';
import { binary } from '../project.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

/** Has the program answer something beside the service. */
function ask(pair: Pair, env: Record<string, string>, ...args: string[]) {
  const all = { ...cleanEnv(), NO_COLOR: '1', ...pair.sourceEnv, ...env };
  const { status, stdout, stderr } = spawnSync(binary('rsync-inotify'), args, { env: all, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

const stateOf = (pair: Pair) => JSON.parse(content(pair.path('source-status.json')) || '{}').targets?.[0];

async function makePair(name: string, settings: Settings = {}, others: Record<string, Settings> = {}) {
  const pair = await Pair.make(name);
  mkdirSync(pair.path('source', 'sub'));
  writeFileSync(pair.path('source', 'sub', 'kept'), 'kept');
  return { pair, daemon: await Daemon.start(pair, settings, others) };
}

async function startSource(pair: Pair, env: Record<string, string>): Promise<Program> {
  const source = pair.start('rsync-inotify', env);
  await source.shows('✓ 服务运行中');
  await pair.isMirrored();
  return source;
}

/** Changes a file again and again, each time once the target has what was before. */
async function write(pair: Pair, texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    writeFileSync(pair.path('source', 'file'), text);
    await eventually(() => content(pair.path('backup', 'file')) === text);
  }
}

const KINDS: [string, Settings][] = [
  ['a password', {}],
  ['no chroot', { 'use chroot': 'no', list: 'no' }],
  ['a chroot', { 'use chroot': isRoot ? 'yes' : 'no' }],
  ['no users', { 'auth users': '' }],
  ['room for two rsyncs', { 'max connections': 2 }],
  ['room for one rsync', { 'max connections': 1 }],
];

test.each(KINDS)('a daemon with %s has every change', async (_, settings) => {
  const { pair, daemon } = await makePair('daemon', settings);
  await using _pair = pair;
  writeFileSync(pair.path('backup', 'stale'), 'stale');
  const source = await startSource(pair, daemon.env);
  await write(pair, ['text 1', 'text 2', 'text 3', 'text 4']);
  renameSync(pair.path('source', 'sub'), pair.path('source', 'renamed'));
  rmSync(pair.path('source', 'file'));
  await pair.isMirrored();
  expect(source.output).not.toMatch(/^\[ERROR/m);
  expect(source.output.match(/^\[WARN.*没有加密/gm)).toHaveLength(1);
  expect(source.output.match(/^\[WARN.*max connections/gm) ?? []).toHaveLength(settings['max connections'] ? 1 : 0);
  expect(ask(pair, daemon.env, '--verify')).toEqual({ status: 0, output: expect.stringContaining('相同') });
});

test('no ssh is started for a daemon, and no key is made', async () => {
  const { pair, daemon } = await makePair('daemon-alone');
  await using _ = pair;
  const source = await startSource(pair, daemon.env);
  expect(source.output).not.toContain('SSH');
  expect([...processesWith(pair.directory).values()].filter((words) => words.startsWith('ssh '))).toEqual([]);
  expect(existsSync(pair.path('shared'))).toBe(false);
  expect(readdirSync(pair.path('source-ssh')).filter((name) => name.startsWith('id_'))).toEqual([]);
});

test('the password is in no log, no status, no page, no command line and no error', async () => {
  const { pair, daemon } = await makePair('daemon-secret');
  await using _ = pair;
  const env = { ...daemon.env, LOG_FILE: pair.path('log') };
  const source = await startSource(pair, env);
  const seen = [source.output, content(pair.path('log')), content(pair.path('source-status.json'))];
  seen.push(...processesWith(pair.directory).values(), ask(pair, env, '--status').output);
  const wrong = { ...env, DEST_HOST: daemon.url().replace('@', `:${PASSWORD}@`) };
  const refused = ask(pair, wrong, '--check');
  expect(refused).toEqual({ status: 2, output: expect.stringContaining('URL 中不能写密码') });
  expect([...seen, refused.output].filter((text) => text.includes(PASSWORD))).toEqual([]);
});

describe('a daemon that refuses', () => {
  const REFUSALS: [string, Settings, Record<string, string>, string][] = [
    ['a user', { 'auth users': 'somebody' }, {}, '不接受模块 mirror 的用户或密码'],
    ['a module that it has not', {}, { module: 'nowhere/' }, '没有模块 nowhere'],
    ['to be written to', { 'read only': 'yes' }, {}, '模块只读'],
    ['this machine', { 'hosts allow': '192.0.2.1' }, {}, '不许本机访问模块 mirror'],
    ['an option', { 'refuse options': 'delete' }, {}, '不接受 rsync 选项 --delete'],
    ['to enter its module', { path: '/nowhere-at-all' }, {}, '不能进入模块'],
  ];

  test.each(REFUSALS)('%s says so', async (_, settings, { module = 'mirror/' }, reason) => {
    const { pair, daemon } = await makePair('daemon-refuses', settings);
    await using _pair = pair;
    const source = pair.start('rsync-inotify', { ...daemon.env, DEST_HOST: daemon.url(module), MAX_RETRIES: '1' });
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(new RegExp(`^\\[ERROR.*${reason}`, 'm'));
  });

  test('a password says so, also one that was right before, and goes on once it is right again', async () => {
    const { pair, daemon } = await makePair('daemon-password');
    await using _ = pair;
    const source = await startSource(pair, daemon.env);
    writeFileSync(pair.path('password'), 'wrong\n');
    await daemon.down();
    await source.shows('正在重新连接');
    await daemon.up();
    writeFileSync(pair.path('source', 'file'), 'late');
    await source.shows(/^\[ERROR.*不接受模块 mirror 的用户或密码/m);
    writeFileSync(pair.path('password'), `${PASSWORD}\n`);
    await pair.isMirrored();
    expect(source.output).not.toContain('wrong\n');
  });

  test('to take a password from its file says so, and goes on once rsync takes it', async () => {
    const { pair, daemon } = await makePair('daemon-password-file');
    await using _ = pair;
    const source = await startSource(pair, daemon.env);
    chmodSync(pair.path('password'), 0o644);
    await daemon.down();
    await source.shows('正在重新连接');
    await daemon.up();
    writeFileSync(pair.path('source', 'file'), 'late');
    await source.shows(/^\[ERROR.*RSYNC_PASSWORD_FILE=.*chmod 600/m);
    expect(source.output).not.toContain('请检查 RSYNC_OPTS');
    chmodSync(pair.path('password'), 0o600);
    await pair.isMirrored();
  });

  test('to let in who has no password says so, and does not ask for one', async () => {
    const { pair, daemon } = await makePair('daemon-unasked');
    await using _ = pair;
    const env = { ...daemon.env, RSYNC_PASSWORD_FILE: '', MAX_RETRIES: '1' };
    const source = pair.start('rsync-inotify', env);
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/^\[ERROR.*不接受模块 mirror 的用户或密码/m);
    const other = pair.start('rsync-inotify', { ...env, RSYNC_PASSWORD: PASSWORD });
    await other.shows('✓ 服务运行中');
    await write(pair, ['by the variable']);
    expect(other.output).not.toContain(PASSWORD);
  });

  test('times to the nanosecond is given whole seconds', async () => {
    const { pair, daemon } = await makePair('daemon-coarse', { 'refuse options': 'modify-window' });
    await using _ = pair;
    const source = await startSource(pair, daemon.env);
    await write(pair, ['text 1', 'text 2', 'text 3']);
    expect(source.output.split('不接受纳秒精度')).toHaveLength(2);
  });
});

test('rsyncs that wait for longer than the daemon lets them are replaced without a word, and no change waits for that', async () => {
  const { pair, daemon } = await makePair('daemon-timeout', { timeout: 3 });
  await using _ = pair;
  const source = await startSource(pair, daemon.env);
  for (const text of ['first', 'second']) {
    const waiting = await theOnly(listedRsyncsOf, pair);
    const ended = daemon.log.split('timeout in data send/receive').length;
    await eventually(() => daemon.log.split('timeout in data send/receive').length > ended);
    await eventually(() => listedRsyncsOf(pair).length === 1 && listedRsyncsOf(pair)[0] !== waiting);
    await write(pair, [text]);
  }
  expect(source.output.match(/^(rsync error|rsync: |\[ERROR).*|^.*正在重新连接/gm)).toBeNull();
});

test('what a daemon leaves out by itself is named, with what to do, and all else is mirrored', async () => {
  const { pair, daemon } = await makePair('daemon-filter', { exclude: '*.tmp' });
  await using _ = pair;
  for (const name of ['one.tmp', 'two']) writeFileSync(pair.path('source', name), name);
  const source = pair.start('rsync-inotify', daemon.env);
  await source.shows(
    '无法同步 one.tmp：daemon refused to receive，守护进程的 rsyncd.conf 以 exclude 或 filter 排除了它',
  );
  await source.shows('✓ 服务运行中');
  writeFileSync(pair.path('source', 'sub', 'three.tmp'), 'three');
  await source.shows('无法同步 sub/three.tmp');
  await write(pair, ['text 1', 'text 2']);
  expect(readdirSync(pair.path('backup')).sort()).toEqual(['file', 'sub', 'two']);
});

test('what a daemon says to people is not in the log', async () => {
  const { pair, daemon } = await makePair('daemon-motd');
  await using _ = pair;
  writeFileSync(pair.path('motd'), 'Welcome to the NAS\n');
  const settings = readFileSync(pair.path('rsyncd.conf'), 'utf8');
  writeFileSync(pair.path('rsyncd.conf'), `motd file = ${pair.path('motd')}\n${settings}`);
  const source = await startSource(pair, daemon.env);
  await write(pair, ['text 1', 'text 2']);
  expect(source.output).not.toContain('Welcome');
  await source.stop();
  const other = await startSource(pair, { ...daemon.env, RSYNC_OPTS: '-avz --delete --motd' }); // it was there to be said
  await write(pair, ['text 3']);
  await other.shows(/Welcome to the NAS\n.*Welcome to the NAS\n/s); // with the change, too
  expect(other.output).not.toContain('每次变化都进行全量同步');
});

test('a daemon that is away is waited for: it is down, told once, and has all that happened meanwhile once it is back', async () => {
  const { pair, daemon } = await makePair('daemon-away');
  await using _ = pair;
  const source = await startSource(pair, daemon.env);
  await daemon.down();
  await source.shows('正在重新连接');
  writeFileSync(pair.path('source', 'meanwhile'), 'meanwhile');
  await eventually(() => stateOf(pair)?.state === 'down' && stateOf(pair)?.pending > 0);
  await source.shows('秒后重试');
  expect(existsSync(pair.path('backup', 'meanwhile'))).toBe(false);
  await daemon.up();
  await pair.isMirrored();
  await eventually(() => stateOf(pair)?.state === 'idle');
  await source.shows('rsync 守护进程的连接已恢复 ✓');
  expect(source.output.split('正在重新连接')).toHaveLength(2);
  await write(pair, ['afterwards']);
});

test('a daemon that comes late is waited for at the start', async () => {
  const { pair, daemon } = await makePair('daemon-late');
  await using _ = pair;
  await daemon.down();
  const source = pair.start('rsync-inotify', daemon.env);
  await source.shows('rsync 守护进程重试... (1/10)');
  await daemon.up();
  await source.shows('✓ 服务运行中');
  await pair.isMirrored();
});

test('a daemon and a backup with SSH have the same, each by its own way', async () => {
  await using pair = await Pair.withKeys('daemon-beside');
  const daemon = await Daemon.start(pair, { path: pair.path('nas') });
  mkdirSync(pair.path('nas'));
  const backup = pair.start('start-sshd');
  const { DEST_HOST = '' } = pair.sourceEnv;
  const env = { ...daemon.env, DEST_HOSTS: `${DEST_HOST} ${daemon.url('mirror/below/')}` };
  const source = pair.start('rsync-inotify', env);
  await backup.shows('SSH 服务器就绪');
  await source.shows('✓ 服务运行中');
  mkdirSync(pair.path('source', 'old'));
  writeFileSync(pair.path('source', 'old', 'file'), 'file');
  const areMirrored = () =>
    eventually(
      () =>
        expectEqual(pair.path('source'), pair.path('backup')) &&
        expectEqual(pair.path('source'), pair.path('nas', 'below')),
    );
  await areMirrored();
  renameSync(pair.path('source', 'old'), pair.path('source', 'new'));
  await areMirrored();
  await daemon.down();
  writeFileSync(pair.path('source', 'later'), 'later');
  await pair.isMirrored();
  await daemon.up();
  await areMirrored();
});

test('a service is paused, resumed, asked to sync and to restore, as with SSH', async () => {
  const others = { closed: { 'write only': 'yes' } };
  const { pair, daemon } = await makePair('daemon-asked', {}, others);
  await using _ = pair;
  mkdirSync(pair.path('source', 'with [odd] *'));
  writeFileSync(pair.path('source', 'with [odd] *', 'näme  1'), 'odd');
  writeFileSync(pair.path('source', 'with [odd] *', 'other'), 'other');
  const source = await startSource(pair, daemon.env);
  expect(ask(pair, daemon.env, '--pause', '1h').status).toBe(0);
  writeFileSync(pair.path('source', 'file'), 'paused');
  await source.shows('检测到文件变化');
  expect(existsSync(pair.path('backup', 'file'))).toBe(false);
  expect(ask(pair, daemon.env, '--resume').status).toBe(0);
  expect(ask(pair, daemon.env, '--sync', '60s').status).toBe(0);
  expect(readFileSync(pair.path('backup', 'file'), 'utf8')).toBe('paused');
  const restore = (to: string, ...paths: string[]) =>
    ask(pair, daemon.env, '--restore', ...paths, '--to', pair.path(to));
  expect(restore('whole')).toEqual({ status: 0, output: expect.stringContaining('与备份相同') });
  expectEqual(pair.path('source'), pair.path('whole'));
  expect(restore('part', 'with [odd] *', 'file').status).toBe(0);
  expect(readdirSync(pair.path('part')).sort()).toEqual(['file', 'with [odd] *']);
  expectEqual(pair.path('source', 'with [odd] *'), pair.path('part', 'with [odd] *'));
  const closed = { ...daemon.env, DEST_HOST: daemon.url('closed/') };
  const refused = ask(pair, closed, '--restore', '--to', pair.path('nothing'));
  expect(refused).toEqual({ status: 1, output: expect.stringContaining('只能写入，不能读取') });
});
