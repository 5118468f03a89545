/** Whom the source talks to: the backup whose host keys are published in the shared volume, and nobody else. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { statusOf } from '../command.ts';
import { isRoot, Pair } from '../pair.ts';
import { content, count, eventually, freePort, Program } from '../processes.ts';

setDefaultTimeout(120_000);

const NOW = { SYNC_INTERVAL: '0' };
const IMPERSONATED = '可能有人在冒充备份主机';

function makeKey(path: string): void {
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path]);
}

const hostKey = (pair: Pair, host: string) => pair.path(host, 'ssh_host_ed25519_key');

/** Starts an sshd with a host key of its own, made at the first start, that lets the source in. */
async function startHost(pair: Pair, host: string, ...settings: string[]): Promise<Program> {
  mkdirSync(pair.path(host), { recursive: true });
  if (!existsSync(hostKey(pair, host))) makeKey(hostKey(pair, host));
  if (isRoot) mkdirSync('/run/sshd', { recursive: true });
  const options = [
    `HostKey=${hostKey(pair, host)}`,
    `AuthorizedKeysFile=${pair.path('source-ssh', 'id_rsa.pub')} ${pair.path('shared', 'id_rsa.pub')}`,
    ...['ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no', 'LogLevel=DEBUG2', 'SetEnv=SHLVL=1', ...settings],
  ];
  const args = ['-D', '-e', '-f', '/dev/null', '-p', `${pair.port}`, ...options.flatMap((option) => ['-o', option])];
  const sshd = pair.keep(new Program('/usr/sbin/sshd', args, {}));
  await sshd.shows('Server listening');
  return sshd;
}

/** Starts an impostor, which keeps all that it is sent. */
function startImpostor(pair: Pair): Promise<Program> {
  return startHost(pair, 'impostor', `ForceCommand=cat >> ${pair.path('impostor', 'caught')}; echo ok`);
}

/** It was talked to, but nobody logged in, or even tried to, and nothing was sent. */
async function expectNothingCaught(pair: Pair, impostor: Program): Promise<void> {
  await impostor.shows(/Connection (closed|reset) by .*\[preauth\]/); // it may tell later than the source does
  expect(impostor.output).not.toMatch(/userauth-request|Accepted|Starting session|Received SIGCHLD/);
  expect(existsSync(pair.path('impostor', 'caught'))).toBe(false);
}

/** Stops a host with its sessions, which would outlive their sshd. */
async function stopHost(host: Program): Promise<void> {
  const sessions = content(`/proc/${host.pid}/task/${host.pid}/children`).split(' ').filter(Boolean);
  host.signal('SIGTERM');
  spawnSync('kill', sessions); // some of which have ended with it
  await host.exited;
}

/** Publishes something as a host key, as start-sshd does: whole. */
function publish(pair: Pair, text: string | Buffer, name = 'backup.ed25519.pub'): void {
  mkdirSync(pair.path('shared', 'host_keys'), { recursive: true });
  const file = pair.path('shared', 'host_keys', name);
  writeFileSync(`${file}.tmp`, text);
  renameSync(`${file}.tmp`, file);
}

const publishKeyOf = (pair: Pair, host: string) => publish(pair, content(`${hostKey(pair, host)}.pub`));

function fingerprintOf(pair: Pair, host: string): string {
  const { stdout } = spawnSync('ssh-keygen', ['-l', '-f', hostKey(pair, host)], { encoding: 'utf8' });
  return stdout.split(' ')[1] ?? '';
}

/** Starts the backup, its key published, and the source; waits until that watches. */
async function run(pair: Pair, env: Record<string, string> = {}, wrapper: string[] = []) {
  const backup = await startHost(pair, 'host');
  publishKeyOf(pair, 'host');
  const source = pair.start('rsync-inotify', { ...NOW, ...env }, wrapper);
  await source.shows('✓ 服务运行中');
  return { backup, source };
}

const writeAndWait = async (pair: Pair, name: string) => {
  writeFileSync(pair.path('source', name), name);
  await pair.isMirrored();
};

const knownHosts = (pair: Pair) =>
  pair.path('source-ssh', readdirSync(pair.path('source-ssh')).find((name) => name.startsWith('known_hosts-')) ?? '');

/** What a user may have written against questions of ssh. */
const WEAK = (pair: Pair) =>
  [
    `-p ${pair.port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o VerifyHostKeyDNS=yes`,
    `-o GlobalKnownHostsFile=${pair.path('weak')} -o NoHostAuthenticationForLocalhost=yes -o UpdateHostKeys=yes`,
    `-o CheckHostIP=no -o HostKeyAlias=elsewhere -o 'KnownHostsCommand=/bin/cat ${pair.path('weak')}'`,
    `-F ${pair.path('config')}`,
  ].join(' ');

/** Lets the files that these options name trust the impostor. */
function weaken(pair: Pair): void {
  const known = `* ${content(`${hostKey(pair, 'impostor')}.pub`)}`;
  for (const name of ['weak', 'source-ssh/known_hosts']) writeFileSync(pair.path(name), known);
  writeFileSync(pair.path('config'), `Host *\n  UserKnownHostsFile ${pair.path('weak')}\n  StrictHostKeyChecking no\n`);
}

describe.concurrent('a backup that has published its host keys', () => {
  test('is known by them from the start, which the log does not mention', async () => {
    await using pair = await Pair.withKeys('known');
    const { source } = await run(pair);
    expect(source.output).not.toMatch(/WARN|ERROR/);
    const [type, key] = content(`${hostKey(pair, 'host')}.pub`).split(' ');
    expect(content(knownHosts(pair))).toBe(`* ${type} ${key}\n`);
    const { ino } = statSync(knownHosts(pair));
    expect(await source.stop()).toBe(0);
    await pair.start('rsync-inotify').shows('✓ 服务运行中');
    expect(statSync(knownHosts(pair)).ino).toBe(ino); // written only where it changes
    expect(readdirSync(pair.path('source-ssh')).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  test('is not taken for an impostor at the start, whatever the user’s options and files say', async () => {
    await using pair = await Pair.withKeys('start');
    await stopHost(await startHost(pair, 'host'));
    publishKeyOf(pair, 'host');
    const impostor = await startImpostor(pair);
    weaken(pair);
    writeFileSync(pair.path('source', 'secret'), 'secret');
    const source = pair.start('rsync-inotify', { SSH_OPTS: WEAK(pair), MAX_RETRIES: '1' });
    expect(await source.exited).toBe(1);
    expect(source.lines.filter((line) => line.includes(IMPERSONATED))).toHaveLength(1);
    expect(source.output).toMatch(/\[ERROR .*\] 备份主机的密钥与 .*host_keys 中公布的不符.*没有发送任何数据/);
    expect(source.output).toContain(`应为 ${fingerprintOf(pair, 'host')}。`);
    expect(source.output).toContain('SSH 连接重试... (1/1)：Host key verification failed');
    expect(source.output).toMatch(/\[ERROR .*\] SSH 免密登录测试失败 \(退出码: 255\)：Host key verification failed。/);
    await expectNothingCaught(pair, impostor);
    await stopHost(impostor);
    await startHost(pair, 'host');
    await pair.start('rsync-inotify', { SSH_OPTS: WEAK(pair) }).shows('✓ 服务运行中');
  });

  test('is not taken for an impostor that comes later, and mirroring goes on when it is back', async () => {
    await using pair = await Pair.withKeys('later');
    const { backup, source } = await run(pair, { SSH_OPTS: `-p ${pair.port} -o StrictHostKeyChecking=no` });
    await writeAndWait(pair, 'before');
    await stopHost(backup);
    const impostor = await startImpostor(pair);
    writeFileSync(pair.path('source', 'secret'), 'secret');
    await source.shows(IMPERSONATED);
    // Of the tries with one that is away, the log lists the first, and the status counts the others.
    const tries = () => count(source.output, '同步失败') + (statusOf(pair).omitted?.tries ?? 0);
    await eventually(() => count(impostor.output, '[preauth]') >= 6 && tries() >= 3);
    expect(count(source.output, IMPERSONATED)).toBe(1);
    await expectNothingCaught(pair, impostor);
    await stopHost(impostor);
    await startHost(pair, 'host');
    await pair.isMirrored();
    await source.shows('SSH 连接已恢复 ✓');
  });

  test('is known by its new keys when it was made anew, from their publication on, and no longer by the old ones', async () => {
    await using pair = await Pair.withKeys('anew');
    const { backup, source } = await run(pair);
    await stopHost(backup);
    const anew = await startHost(pair, 'other');
    await source.shows(IMPERSONATED);
    expect(anew.output).not.toContain('Accepted');
    publishKeyOf(pair, 'other');
    await writeAndWait(pair, 'published');
    await source.shows('SSH 连接已恢复 ✓');
    await stopHost(anew);
    const old = await startHost(pair, 'host');
    await eventually(() => count(source.output, IMPERSONATED) === 2); // another outage
    expect(old.output).not.toContain('Accepted');
    expect(source.output).toContain(`应为 ${fingerprintOf(pair, 'other')}。`);
  });

  test('is accepted at the start as soon as its keys are published', async () => {
    await using pair = await Pair.withKeys('soon');
    await startHost(pair, 'host');
    makeKey(pair.path('old'));
    publish(pair, content(pair.path('old.pub')));
    const source = pair.start('rsync-inotify');
    await source.shows(IMPERSONATED);
    publishKeyOf(pair, 'host');
    await source.shows('✓ 服务运行中');
  });

  test('is not trusted any more once nothing is published', async () => {
    await using pair = await Pair.withKeys('removed');
    const { backup, source } = await run(pair, { SSH_OPTS: `-p ${pair.port} -o StrictHostKeyChecking=no` });
    rmSync(pair.path('shared', 'host_keys'), { recursive: true });
    await stopHost(backup);
    const again = await startHost(pair, 'host');
    await source.shows(/\[ERROR .*\] .*host_keys 中没有有效的主机密钥.*拒绝连接/);
    expect(again.output).not.toContain('Accepted');
    publishKeyOf(pair, 'host');
    await writeAndWait(pair, 'file');
  });
});

describe.concurrent('a backup that has published nothing', () => {
  test.each(['no', 'accept-new'])('is trusted as SSH_OPTS say (%s), with a warning', async (checking) => {
    await using pair = await Pair.withKeys('none');
    await startHost(pair, 'host');
    const SSH_OPTS = `-p ${pair.port} -o StrictHostKeyChecking=${checking}`;
    const source = pair.start('rsync-inotify', { ...NOW, SSH_OPTS });
    await source.shows('✓ 服务运行中');
    expect(source.lines.filter((line) => /WARN|ERROR/.test(line))).toHaveLength(1);
    expect(source.output).toMatch(/\[WARN .*\] 备份端没有在共享卷中公布主机密钥，未能验证它的身份/);
    await writeAndWait(pair, 'file');
  });

  test('is refused where SSH_OPTS say so; an impostor would be let in where they do not', async () => {
    await using pair = await Pair.withKeys('decide');
    await startImpostor(pair);
    const strict = { SSH_OPTS: `-p ${pair.port} -o StrictHostKeyChecking=yes`, MAX_RETRIES: '1' };
    const source = pair.start('rsync-inotify', strict);
    expect(await source.exited).toBe(1);
    expect(source.output).toContain('Host key verification failed');
    expect(source.output).not.toContain(IMPERSONATED);
    expect(existsSync(pair.path('impostor', 'caught'))).toBe(false);
    pair.start('rsync-inotify');
    await eventually(() => existsSync(pair.path('impostor', 'caught')));
  });
});

/** Publishes what a broken or hostile backup might, none of which is a key; returns the names. */
function publishRubbish(pair: Pair, key: string): string[] {
  const [type = '', body = ''] = key.split(' ');
  const directory = pair.path('shared', 'host_keys');
  const texts: [string, string][] = [
    ['authority.pub', `@cert-authority * ${key}`],
    ['revoked.pub', `@revoked * ${key}`],
    ['lines.pub', `${key}${key}`],
    ['options.pub', `command="reboot" ${key}`],
    ['pattern.pub', `* ${key}`],
    ['half.pub', `${type} ${body.slice(0, 40)}`],
    ['type.pub', `ssh-rsa ${body} comment\n`],
    ['unknown.pub', `ssh-dss ${body} comment\n`],
    ['return.pub', `${type} ${body} a\r* ${key}`],
    ['nul.pub', `${type} ${body}\0\n`],
    ['long.pub', `${type} ${body} ${'x'.repeat(1_000_000)}\n`],
    ['empty.pub', ''],
    ['name\n[ERROR] forged\u001b[31m.pub', 'rubbish'],
  ];
  for (const [name, text] of texts) publish(pair, text, name);
  writeFileSync(pair.path('key'), key);
  symlinkSync(pair.path('key'), join(directory, 'link.pub'));
  spawnSync('sh', ['-c', 'mkfifo "$0"', join(directory, 'fifo.pub')]);
  mkdirSync(join(directory, 'directory.pub'));
  publish(pair, key, 'not-yet.pub.tmp');
  return readdirSync(directory).filter((name) => name.endsWith('.pub'));
}

describe.concurrent('published files that are no keys', () => {
  test('are named once each and ignored', async () => {
    await using pair = await Pair.withKeys('rubbish');
    await startImpostor(pair).then(stopHost);
    const names = publishRubbish(pair, content(`${hostKey(pair, 'impostor')}.pub`));
    const { backup, source } = await run(pair);
    const complaints = () => source.lines.filter((line) => line.includes('忽略了公布的主机密钥'));
    expect(complaints()).toHaveLength(names.length);
    for (const name of names.filter((text) => !text.includes('\n'))) expect(source.output).toContain(` ${name}：`);
    expect(source.output).toContain('忽略了公布的主机密钥 name\\n[ERROR] forged\\x1b[31m.pub：');
    expect(content(knownHosts(pair)).trim().split('\n')).toHaveLength(1);
    await stopHost(backup);
    const impostor = await startImpostor(pair);
    await source.shows(IMPERSONATED);
    await expectNothingCaught(pair, impostor);
    expect(complaints()).toHaveLength(names.length);
  });

  test('and nothing beside them: nobody is trusted', async () => {
    await using pair = await Pair.withKeys('only-rubbish');
    const impostor = await startImpostor(pair);
    publishRubbish(pair, content(`${hostKey(pair, 'impostor')}.pub`));
    const source = pair.start('rsync-inotify', { MAX_RETRIES: '1' });
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] .*host_keys 中没有有效的主机密钥，无法确认备份主机的身份。已拒绝连接/);
    expect(source.output).not.toContain(IMPERSONATED);
    await expectNothingCaught(pair, impostor);
  });

  test('that cannot even be listed end the start', async () => {
    await using pair = await Pair.withKeys('unlisted');
    await startHost(pair, 'host');
    mkdirSync(pair.path('shared'));
    writeFileSync(pair.path('shared', 'host_keys'), 'a file in the place of the directory');
    const source = pair.start('rsync-inotify');
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] 无法读取公布的主机密钥 .*：应为目录，不能是链接。请检查共享卷/);
  });
});

const UNSHARE = ['unshare', ...(isRoot ? [] : ['--map-root-user', '--user']), '--mount'];
/** Runs a program where commands have prepared its mounts, which nobody else sees: `$1` is the directory of the pair. */
const mounted = (pair: Pair, commands: string) => [
  ...UNSHARE,
  ...['sh', '-c', `set -e; ${commands}; shift; exec "$@"`, 'sh', pair.directory],
];
const READ_ONLY = (name: string) => `mount --bind "$1/${name}" "$1/${name}"; mount -o remount,bind,ro "$1/${name}"`;
const FULL = `mkdir -p "$1/shared"; mount -t tmpfs -o size=8k tmpfs "$1/shared"; mkdir "$1/shared/host_keys"
  cp "$1/published/"* "$1/shared/host_keys"; [ ! -e "$1/right" ] || cp "$1/source-ssh/id_rsa.pub" "$1/shared"
  cat /dev/zero > "$1/shared/zeros" 2>/dev/null || :`;
const TRIAL = ['-c', '"$@"', 'sh', ...UNSHARE, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'];
const mayMount = spawnSync('sh', TRIAL).status === 0;
if (!mayMount) console.warn('SKIPPED: read-only and full volumes: mount namespaces may not be made here');

describe('a volume', () => {
  test.if(mayMount)('SSH_DIR that is read-only is no obstacle; a private directory goes with the program', async () => {
    await using pair = await Pair.withKeys('ro');
    rmSync(pair.path('source-ssh', 'id_rsa.pub'));
    mkdirSync(pair.path('tmp'));
    const wrapper = mounted(pair, READ_ONLY('source-ssh'));
    const { backup, source } = await run(pair, { TMPDIR: pair.path('tmp') }, wrapper);
    expect(readdirSync(pair.path('source-ssh'))).toEqual(['id_rsa']);
    const own = readdirSync(pair.path('tmp')).find((name) => existsSync(pair.path('tmp', name, 'known_hosts'))) ?? '';
    expect(statSync(pair.path('tmp', own)).mode & 0o777).toBe(0o700);
    expect(statSync(pair.path('tmp', own, 'known_hosts')).mode & 0o777).toBe(0o600);
    rmSync(pair.path('tmp', own), { recursive: true }); // as a job that cleans /tmp would
    await stopHost(backup);
    await startHost(pair, 'host');
    await writeAndWait(pair, 'file');
    expect(await source.stop()).toBe(0);
    expect(source.output).not.toMatch(/ERROR .*\] (无法|备份主机)/);
    expect(readdirSync(pair.path('tmp'))).toEqual([]);
  });

  test.if(mayMount)('SHARED_KEYS_DIR that is read-only is enough where it holds the right key', async () => {
    await using pair = await Pair.withKeys('ro-shared');
    mkdirSync(pair.path('shared'));
    const [type, key] = content(pair.path('source-ssh', 'id_rsa.pub')).split(' ');
    writeFileSync(pair.path('shared', 'id_rsa.pub'), `${type} ${key} another comment\n`);
    const { source } = await run(pair, {}, mounted(pair, READ_ONLY('shared')));
    expect(source.output).not.toMatch(/WARN|ERROR/);
    await source.stop();
    makeKey(pair.path('other'));
    writeFileSync(pair.path('shared', 'id_rsa.pub'), content(pair.path('other.pub')));
    const refused = pair.start('rsync-inotify', {}, mounted(pair, READ_ONLY('shared')));
    expect(await refused.exited).toBe(1);
    expect(refused.output).toMatch(/\[ERROR .*\] 无法写入 SHARED_KEYS_DIR=.*EROFS/);
  });

  test.if(mayMount)('SHARED_KEYS_DIR that is full, too', async () => {
    await using pair = await Pair.withKeys('full');
    await startHost(pair, 'host');
    mkdirSync(pair.path('published'));
    copyFileSync(`${hostKey(pair, 'host')}.pub`, pair.path('published', 'host.pub'));
    const refused = pair.start('rsync-inotify', {}, mounted(pair, FULL));
    expect(await refused.exited).toBe(1);
    expect(refused.output).toMatch(/\[ERROR .*\] 无法写入 SHARED_KEYS_DIR=.*ENOSPC/);
    writeFileSync(pair.path('right'), '');
    const source = pair.start('rsync-inotify', {}, mounted(pair, FULL));
    await source.shows('✓ 服务运行中');
    expect(source.output).not.toMatch(/WARN|ERROR/);
  });
});

describe('the shared public key', () => {
  test('is not written through a link that is in its place, or in that of its temporary file', async () => {
    await using pair = await Pair.withKeys('link');
    mkdirSync(pair.path('shared'));
    writeFileSync(pair.path('precious'), 'untouched');
    symlinkSync(pair.path('precious'), pair.path('shared', 'id_rsa.pub'));
    const script = 'ln -s "$0" "$1.$$.tmp"; shift; exec "$@"';
    await run(pair, {}, ['sh', '-c', script, pair.path('precious'), pair.path('shared', 'id_rsa.pub')]);
    expect(content(pair.path('precious'))).toBe('untouched');
    expect(readdirSync(pair.path('shared')).sort()).toEqual(['host_keys', 'id_rsa.pub']);
    expect(lstatSync(pair.path('shared', 'id_rsa.pub')).isFile()).toBe(true);
  });

  test('takes the place of a directory, which is kept', async () => {
    await using pair = await Pair.withKeys('directory');
    mkdirSync(pair.path('shared', 'id_rsa.pub'), { recursive: true });
    writeFileSync(pair.path('shared', 'id_rsa.pub', 'kept'), '');
    await run(pair);
    expect(content(pair.path('shared', 'id_rsa.pub'))).toBe(content(pair.path('source-ssh', 'id_rsa.pub')));
    const kept = readdirSync(pair.path('shared')).find((name) => name.endsWith('.old')) ?? '';
    expect(readdirSync(pair.path('shared', kept))).toEqual(['kept']);
  });
});

describe('whatever the umask', () => {
  test.each(['000', '077'])('(%s) secrets are private, public keys are public', async (umask) => {
    await using pair = await Pair.make('umask');
    const wrapper = ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'];
    const mode = (...names: string[]) => (statSync(pair.path(...names)).mode & 0o777).toString(8);
    const made = pair.start('rsync-inotify', {}, wrapper);
    await made.shows('公钥已共享 ✓');
    expect(mode('shared')).toBe(umask === '000' ? '755' : '700');
    expect(mode('shared', 'id_rsa.pub')).toBe('644');
    expect([mode('source-ssh'), mode('source-ssh', 'id_rsa')]).toEqual(['700', '600']);
    await made.stop();
    const key = content(pair.path('source-ssh', 'id_rsa'));
    rmSync(pair.path('source-ssh', 'id_rsa.pub'));
    await run(pair, {}, wrapper);
    expect(mode('source-ssh', 'id_rsa.pub')).toBe('644');
    expect(mode('source-ssh', basename(knownHosts(pair)))).toBe('600');
    expect(content(pair.path('source-ssh', 'id_rsa'))).toBe(key);
  });
});

describe('a hostile backup', () => {
  test('cannot control the terminal of who reads the log', async () => {
    await using pair = await Pair.withKeys('hostile');
    const script = `#!/bin/sh
printf '\\033[2J\\302\\233\\302' >&2; sleep 0.2; printf '\\2335n\\000\\177\\r\\tend 中文\\n' >&2
sh -c "$SSH_ORIGINAL_COMMAND"
status=$?
printf '\\033]0;title\\007\\033[31mlast words' >&2
exit "$status"
`;
    writeFileSync(pair.path('script'), script, { mode: 0o755 });
    await startHost(pair, 'host', `ForceCommand=${pair.path('script')}`);
    publishKeyOf(pair, 'host');
    const source = pair.start('rsync-inotify', NOW);
    await source.shows('✓ 服务运行中');
    expect(source.output).toContain('\\#033[2J\\#302\\#233\\#302\\#2335n\\#000\\#177\n\tend 中文\n');
    expect(source.output).toContain('\\#033]0;title\\#007\\#033[31mlast words\n');
    await writeAndWait(pair, '中\u009b文');
    expect(source.output).not.toMatch(/[^\P{Cc}\n\r\t]/u);
    rmSync(pair.path('script'));
    writeFileSync(pair.path('script'), script.replace('exit "$status"', 'exit 1'), { mode: 0o755 });
    const refused = pair.start('rsync-inotify', { MAX_RETRIES: '1', STATUS_FILE: pair.path('other.json') });
    await refused.shows('SSH 连接重试... (1/1)：\\x1b]0;title\\x07\\x1b[31mlast words');
    expect(refused.output).not.toMatch(/[^\P{Cc}\n\r\t]/u);
  });
});

/** Starts an sshd on the way to the backup, which lets the source in by its key; returns the options that lead through it. */
async function startJump(pair: Pair): Promise<string> {
  const port = await freePort();
  mkdirSync(pair.path('jump'));
  makeKey(hostKey(pair, 'jump'));
  const settings = [`HostKey=${hostKey(pair, 'jump')}`, `AuthorizedKeysFile=${pair.path('source-ssh', 'id_rsa.pub')}`];
  const options = ['ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no', ...settings].flatMap((it) => ['-o', it]);
  const sshd = new Program('/usr/sbin/sshd', ['-D', '-e', '-f', '/dev/null', '-p', `${port}`, ...options], {});
  await pair.keep(sshd).shows('Server listening');
  const files = [
    `IdentityFile ${pair.path('source-ssh', 'id_rsa')}`,
    `UserKnownHostsFile ${pair.path('jump', 'known')}`,
  ];
  const config = ['Host jump', 'HostName 127.0.0.1', `Port ${port}`, 'StrictHostKeyChecking yes', ...files, ''];
  writeFileSync(pair.path('jump', 'config'), config.join('\n'));
  writeFileSync(pair.path('jump', 'line'), `[127.0.0.1]:${port} ${content(`${hostKey(pair, 'jump')}.pub`)}`);
  return `-F ${pair.path('jump', 'config')} -J jump -p ${pair.port}`;
}

test('a jump host that is not known is told as that, and the mirror begins once it is', async () => {
  await using pair = await Pair.withKeys('jump');
  await startHost(pair, 'host');
  publishKeyOf(pair, 'host');
  const SSH_OPTS = await startJump(pair);
  const source = pair.start('rsync-inotify', { ...NOW, SSH_OPTS });
  await source.shows(/\[ERROR .*跳板机 jump 的主机密钥未知，或已改变/);
  await source.shows(
    /SSH 连接重试\.\.\. \(1\/10\)：经由跳板机或 ProxyCommand 连接失败：.*Host key verification failed/,
  );
  expect(source.output).not.toContain(IMPERSONATED);
  renameSync(pair.path('jump', 'line'), pair.path('jump', 'known'));
  await source.shows('✓ 服务运行中');
  await writeAndWait(pair, 'through the jump host');
  expect(count(source.output, '跳板机 jump')).toBe(1);
});
