/** Targets of different kinds for one source: each by a port of its own, which ssh's file says, and with options of its own. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { CHEAP_LOGIN, isRoot, Pair, remoteRsyncsOf, userName } from '../pair.ts';
import { cleanEnv, content, eventually, freePort, processesWith } from '../processes.ts';
import { binary } from '../project.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

/** An rsync that was built without ACLs and extended attributes: it refuses those letters among the options that it is sent. */
function plainRsync(pair: Pair): string {
  const script = `#!/bin/sh
for word; do case $word in -e.*|--*) ;; -*A*|-*X*) echo 'ACLs and xattrs are not supported on this server' >&2; exit 4;; esac; done
exec rsync "$@"
`;
  writeFileSync(pair.path('plain-rsync'), script, { mode: 0o755 });
  return pair.path('plain-rsync');
}

/** Starts two sshds of this machine, and says how to reach them: by names that ssh's file alone knows. */
async function startTwo(pair: Pair, publish = true): Promise<Record<string, string>> {
  const hosts = [
    { name: 'nas', port: pair.port },
    { name: 'pi', port: await freePort() },
  ];
  for (const { name, port } of hosts) {
    await pair.startPlainSshd(port);
    mkdirSync(pair.path(name));
  }
  const entries = hosts.map(({ name, port }) => `Host ${name}\n  HostName 127.0.0.1\n  Port ${port}\n`);
  writeFileSync(pair.path('ssh_config'), entries.join(''), { mode: 0o600 });
  mkdirSync(pair.path('shared', 'host_keys'), { recursive: true });
  const keys = readdirSync(pair.path('host-keys')).filter((name) => publish && name.endsWith('.pub'));
  for (const name of keys) cpSync(pair.path('host-keys', name), pair.path('shared', 'host_keys', name));
  return {
    DEST_HOSTS: hosts.map(({ name }) => `${userName()}@${name}:${pair.path(name)}/`).join(' '),
    SSH_OPTS: `-F ${pair.path('ssh_config')} -o ${CHEAP_LOGIN}`,
    SYNC_INTERVAL: '0',
  };
}

const ask = (pair: Pair, env: Record<string, string>, ...args: string[]) =>
  spawnSync(binary('rsync-inotify'), args, {
    ...{ env: { ...cleanEnv(), NO_COLOR: '1', ...pair.sourceEnv, ...env }, encoding: 'utf8' },
  });

const isAt = (pair: Pair, name: string, options: string[] = []) =>
  eventually(() => expectEqual(pair.path('source'), pair.path(name), options)).catch((cause) => {
    throw new Error(`${cause}\n${pair.programs.map(({ output }) => output).join('\n---\n')}`);
  });

test('targets on ports of their own, by ssh’s file, are waited for, mirrored to, compared and restored from', async () => {
  await using pair = await Pair.withKeys('aliases');
  writeFileSync(pair.path('source', 'old'), 'old');
  const env = await startTwo(pair);
  const source = pair.start('rsync-inotify', env);
  await source.shows('✓ 服务运行中');
  await source.shows(`目标主机: 127.0.0.1:${pair.port}`);
  writeFileSync(pair.path('source', 'new'), 'new');
  rmSync(pair.path('source', 'old'));
  for (const name of ['nas', 'pi']) await isAt(pair, name);
  expect(source.output).not.toMatch(/WARN|ERROR/); // the host keys of both are known, too
  expect(ask(pair, env, '--verify')).toMatchObject({ status: 0 });
  await source.stop();

  rmSync(pair.path('nas'), { recursive: true });
  mkdirSync(pair.path('nas', 'empty'), { recursive: true });
  expect(ask(pair, env, '--verify')).toMatchObject({ status: 1 });
  const DEST_HOSTS = env.DEST_HOSTS?.split(' ')[1] ?? '';
  const { status, stdout } = ask(pair, { ...env, DEST_HOSTS }, '--restore', '--to', pair.path('restored'));
  expect([status, stdout]).toEqual([0, expect.stringContaining('恢复完成，与备份相同')]);
  expectEqual(pair.path('restored'), pair.path('pi'));
});

test('a start-sshd on a port that ssh’s file says renames what was renamed, and knows its source', async () => {
  await using pair = await Pair.withKeys('alias-errands');
  writeFileSync(pair.path('ssh_config'), `Host nas\n  HostName 127.0.0.1\n  Port ${pair.port}\n`);
  writeFileSync(pair.path('source', 'old'), 'worth a rename '.repeat(20_000));
  pair.start('start-sshd');
  const source = pair.start('rsync-inotify', {
    ...{ DEST_HOST: `${userName()}@nas`, SYNC_INTERVAL: '0' },
    SSH_OPTS: `-F ${pair.path('ssh_config')} -o ${CHEAP_LOGIN}`,
  });
  await source.shows('✓ 服务运行中');
  writeFileSync(pair.path('source', 'file'), 'a change');
  await isAt(pair, 'backup');
  renameSync(pair.path('source', 'old'), pair.path('source', 'renamed'));
  await source.shows('已在目标上重命名 1 项');
  await isAt(pair, 'backup');
  expect(source.output).not.toMatch(/WARN|ERROR/);
});

test('a host key that is not published is refused on the port that ssh’s file says', async () => {
  await using pair = await Pair.withKeys('alias-keys');
  const env = await startTwo(pair, false);
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('other')]);
  cpSync(pair.path('other.pub'), pair.path('shared', 'host_keys', 'other.pub'));
  const source = pair.start('rsync-inotify', { ...env, MAX_RETRIES: '1' });
  expect(await source.exited).toBe(1);
  for (const name of ['nas', 'pi'])
    expect(source.output).toMatch(new RegExp(`中公布的不符，.*@${name}:${pair.path(name)}`));
});

test('each target has its own options, and all the same changes', async () => {
  await using pair = await Pair.withKeys('own-options');
  for (const name of ['old', 'a.tmp', 'gone']) writeFileSync(pair.path('source', name), name);
  const env = {
    ...(await startTwo(pair)),
    RSYNC_OPTS: '-avAX --delete',
    DEST_RSYNC_OPTS: `pi: --no-A --no-X --rsync-path=${plainRsync(pair)} --exclude='*.tmp' --bwlimit=9000`,
  };
  const source = pair.start('rsync-inotify', env);
  await source.shows('✓ 服务运行中');
  const filters = ['--exclude=*.tmp'];
  await isAt(pair, 'nas', ['-AX']);
  await isAt(pair, 'pi', filters);
  writeFileSync(pair.path('source', 'b.tmp'), 'new');
  writeFileSync(pair.path('source', 'new'), 'new');
  renameSync(pair.path('source', 'old'), pair.path('source', 'renamed'));
  rmSync(pair.path('source', 'gone'));
  await isAt(pair, 'nas', ['-AX']);
  await isAt(pair, 'pi', filters);
  expect([existsSync(pair.path('nas', 'b.tmp')), readdirSync(pair.path('pi')).sort()]).toEqual([
    true,
    ['new', 'renamed'],
  ]);
  expect(source.output).not.toMatch(/ERROR|全量同步\.\.\./);

  // The rsyncs that wait for the next change there are started with them.
  const commands = () => remoteRsyncsOf(pair).map((pid) => processesWith(pair.directory).get(pid) ?? '');
  const kinds = () =>
    new Set(commands().map((it) => `${[it.includes(pair.path('nas')), /--bwlimit/.test(it), / -\S*A\S*X/.test(it)]}`));
  await eventually(() => [...kinds()].sort().join(' ') === 'false,true,false true,false,true');

  const { targets } = JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8'));
  expect(targets).toMatchObject([
    { rsync_options: null, costly_options: [] },
    { rsync_options: expect.stringContaining('--bwlimit=9000'), costly_options: [] },
  ]);
  expect(ask(pair, env, '--status').stdout).toMatch(/@pi:\S+ 另加的 rsync 选项（DEST_RSYNC_OPTS）: --no-A --no-X/);
  expect(source.output).toMatch(/Rsync 选项: -avAX --delete\n\S+ \S+ +Rsync 选项 \(\S+@pi:\S+\): --no-A --no-X/);
  expect(ask(pair, env, '--verify')).toMatchObject({ status: 0 });
  writeFileSync(pair.path('pi', 'stray'), 'x');
  expect(ask(pair, env, '--verify').stdout).toContain('stray');
});

test('a target without what is mounted below the source does not keep others from having it', async () => {
  if (!isRoot || !mayHaveNamespace()) return console.log('skipped: no mounts are to be had');
  await using pair = await Pair.withKeys('own-mounts');
  await using namespace = await Namespace.make();
  mkdirSync(pair.path('source', 'disk'));
  writeFileSync(pair.path('source', 'disk', 'beneath'), 'beneath');
  namespace.run('mount -t tmpfs tmpfs "$1"; echo one >"$1/one"', pair.path('source', 'disk'));
  const env = { ...(await startTwo(pair)), DEST_RSYNC_OPTS: 'nas: -x' };
  const source = pair.start('rsync-inotify', env, namespace.wrapper);
  await source.shows('✓ 服务运行中');
  await eventually(() => content(pair.path('pi', 'disk', 'one')) === 'one\n' && existsSync(pair.path('nas', 'disk')));
  namespace.run('echo two >"$1/two"; echo beside >"$1/../beside"', pair.path('source', 'disk'));
  await eventually(() => content(pair.path('pi', 'disk', 'two')) === 'two\n' && existsSync(pair.path('nas', 'beside')));
  expect(readdirSync(pair.path('nas', 'disk'))).toEqual([]);

  await eventually(() => namespace.run('umount "$1" || echo busy', pair.path('source', 'disk')) === ''); // while an rsync is in it
  await source.shows('源目录下的挂载点 disk 不见了');
  writeFileSync(pair.path('source', 'disk', 'new'), 'new'); // of another file system than what -x leaves out
  await eventually(() => readdirSync(pair.path('nas', 'disk')).sort().join() === 'beneath,new');
  expect(readdirSync(pair.path('pi', 'disk')).sort()).toEqual(['one', 'two']);
});
