import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  answersWithin,
  greeted,
  knownSettings,
  quoteForRsh,
  reasonOfSsh,
  rsyncArgs,
  sshArgs,
  tryLogin,
} from '../../../src/mirror/ssh.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { hostFor } from './stand-ins.ts';

describe('the reason why ssh could not connect', () => {
  const ENDED =
    'kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n';

  test('is what it says last', () => {
    expect(reasonOfSsh('banner\nPermission denied (publickey).\r\n')).toBe('Permission denied (publickey)');
    expect(reasonOfSsh('')).toBe('');
  });

  test('is that of the jump host where that has failed', () => {
    const via = (said: string) =>
      reasonOfSsh(`${said}\r\n${ENDED}`).replace('经由跳板机或 ProxyCommand 连接失败：', '> ');
    expect(via('ssh: connect to host bastion port 22: Connection refused')).toBe(
      '> ssh: connect to host bastion port 22: Connection refused',
    );
    expect(via('channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed')).toBe(
      '> channel 0: open failed: connect failed: Connection refused',
    );
    expect(reasonOfSsh(ENDED)).toEndWith('Connection closed by UNKNOWN port 65535');
  });
});

describe('a login', () => {
  /** What is told of one where this takes the place of ssh. */
  async function reasonFrom(script: string, ms?: number): Promise<string> {
    using directory = scratch();
    using _ = standIn('ssh', directory.path, script);
    const { exitCode, stderr } = await tryLogin(hostFor({}), {}, ms);
    expect(exitCode).not.toBe(0);
    return reasonOfSsh(stderr);
  }

  test('that is answered without end has failed', async () => {
    for (const script of ['exec yes', "exec tr '\\0' a < /dev/zero >&2", 'yes banner >&2'])
      expect(await reasonFrom(script)).toBe('答复超过 1.0 MB，不是所要的答复，已中止');
  });

  test('has failed where the shell says something that rsync would take for the other rsync', async () => {
    const said = await reasonFrom('echo Welcome; echo to the NAS; echo ok');
    expect(said).toContain('备份端的登录 shell 在执行命令时自己也输出内容（to the NAS），rsync 因此无法工作');
  });

  test('that is never answered has failed', async () => {
    expect(await reasonFrom('echo banner >&2; exec sleep 1000', 100)).toBe('在 0 秒内没有答复完，已中止');
  });

  test('is told by no more than fits in a line, and at once, whatever the backup says', async () => {
    const started = performance.now();
    const long = await reasonFrom("head -c 900000 /dev/zero | tr '\\0' a >&2; exit 255");
    expect(long).toHaveLength(1000);
    const ended = 'UNKNOWN port 65535 '.repeat(20_000);
    expect(reasonOfSsh(`${ended}${' '.repeat(400_000)}\n x`)).toBe('x');
    expect(performance.now() - started).toBeLessThan(5000); // the time that a regular expression takes may grow by the square
  });
});

test('a server that never comes to its greeting is none, and is not listened to for long', async () => {
  const server = createServer((socket) => {
    const talk = () => {
      while (socket.writable && socket.write('a'.repeat(65_536)));
    };
    socket.on('drain', talk).on('error', () => {});
    talk();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const before = process.memoryUsage.rss();
  expect(await answersWithin(1000, '127.0.0.1', (server.address() as { port: number }).port)).toBe(false);
  expect(process.memoryUsage.rss() - before).toBeLessThan(100_000_000);
  server.close();
});

test('a server that goes on to talk behind its greeting is hung up on', async () => {
  const server = createServer((socket) => {
    const talk = () => {
      while (socket.writable && socket.write('a'.repeat(65_536)));
    };
    socket.on('drain', talk).on('error', () => {});
    socket.write('@RSYNCD: 31.0\n');
    setTimeout(talk, 50);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const ours = await greeted('127.0.0.1', port, 2000, /^@RSYNCD: /m);
  expect(ours).toBeDefined();
  if (ours && !ours.destroyed) await once(ours, 'close');
  server.close();
});

describe('the arguments of ssh and rsync', () => {
  test('let the user’s options win, but not over which connection is shared', () => {
    const SSH_OPTS = '-p 2222 -o BatchMode=no -o ControlMaster=auto -o ControlPath=/x -S /y';
    const args = sshArgs(hostFor({ SSH_OPTS, SSH_DIR: '/k' }));
    const { stdout } = spawnSync('ssh', ['-G', ...args, 'host'], { encoding: 'utf8' });
    expect(stdout).toContain('\nport 2222\n');
    expect(stdout).toContain('\nbatchmode no\n');
    expect(stdout).toContain('\ncontrolmaster false\n');
    expect(stdout).not.toMatch(/controlpath \/[xy]/);
    expect(stdout).toContain('\nidentityfile /k/id_rsa\n');
    expect(stdout).toContain('\nuserknownhostsfile /k/known_hosts\n');
  });

  test('trust a new host key but no changed one when the user says nothing, and what the user says otherwise', () => {
    const checking = (SSH_OPTS: string) =>
      spawnSync('ssh', ['-G', ...sshArgs(hostFor({ SSH_OPTS })), 'h'], { encoding: 'utf8' })
        .stdout.split('\n')
        .find((line) => line.startsWith('stricthostkeychecking'));
    expect(checking('-p 2222')).toBe('stricthostkeychecking accept-new');
    expect(checking('')).toBe('stricthostkeychecking false');
    expect(checking('-o StrictHostKeyChecking=yes')).toBe('stricthostkeychecking true');
  });

  test('take no host keys but the published ones, whatever else the user says', async () => {
    const known = await knownSettings();
    const settings = (options: string[]) => {
      const host = hostFor({ SSH_OPTS: options.join(' ') }, known);
      const args = sshArgs(host, { knownHosts: '/a b/100%/known' });
      const { stdout } = spawnSync('ssh', ['-G', ...args, 'host'], { encoding: 'utf8' });
      return stdout
        .split('\n')
        .filter((line) =>
          /hostkeycheck|knownhosts|hostkeydns|localhost|updatehost|checkhostip|gssapikeyexchange/.test(line),
        );
    };
    const strict = settings(['-p 2222']);
    expect(strict).toContain('stricthostkeychecking true');
    expect(strict).toContain('userknownhostsfile /a b/100%/known');
    expect(strict).toContain('globalknownhostsfile /dev/null');
    const weak = fc.constantFrom(
      ...['StrictHostKeyChecking=no', 'StrictHostKeyChecking=accept-new', 'UserKnownHostsFile=/x', 'CheckHostIP=yes'],
      ...['GlobalKnownHostsFile=/x', 'VerifyHostKeyDNS=yes', 'UpdateHostKeys=yes', 'KnownHostsCommand=/x'],
      ...['NoHostAuthenticationForLocalhost=yes', 'HostKeyAlias=x'],
      ...(known.includes('GSSAPIKeyExchange=no') ? ['GSSAPIKeyExchange=yes'] : []), // or ssh ends at it
    );
    fc.assert(
      fc.property(fc.array(weak, { minLength: 1 }), (options) => {
        expect(settings(options.map((option) => `-o ${option}`))).toEqual(strict);
      }),
      { numRuns: 30 },
    );
  }, 60_000);

  test('leave out no setting because ssh has not said whether it knows it', async () => {
    using directory = scratch();
    using _ = standIn('ssh', directory.path, 'echo no memory >&2; exit 255');
    await expect(knownSettings()).rejects.toThrow('no memory');
  });

  test('hold no setting that this ssh does not know', async () => {
    using directory = scratch();
    const said = 'command-line: line 0: Bad configuration option: knownhostscommand';
    using _ = standIn('ssh', directory.path, `case "$*" in *KnownHostsCommand*) echo '${said}' >&2; exit 255; esac`);
    expect(await knownSettings()).toEqual(['GSSAPIKeyExchange=no']);
  });

  test('end with source and target, which are never options', () => {
    const args = rsyncArgs(hostFor({ DEST_HOST: 'me@[::1]', DEST_DIR: '/b c/', RSYNC_OPTS: '-a' }));
    expect(args.slice(0, 2)).toEqual(['--modify-window=-1', '-a']);
    expect(args.slice(-3)).toEqual(['--', '/tmp/', 'me@[::1]:/b c/']);
  });

  test('reach a daemon within a time, and without what it says to people, unless the user says otherwise', () => {
    const args = rsyncArgs(hostFor({ DEST_HOST: 'rsync://nas/m/', RSYNC_OPTS: '-a --motd --contimeout=60' }));
    expect(args.slice(1, 6)).toEqual(['--no-motd', '--contimeout=15', '-a', '--motd', '--contimeout=60']);
    expect(args.slice(-3)).toEqual(['--', '/tmp/', 'rsync://nas/m/']);
  });

  test('reach ssh through rsync’s -e unchanged', () => {
    using directory = scratch();
    const shell = join(directory.path, 'shell');
    writeFileSync(shell, '#!/bin/sh\nprintf \'%s\\0\' "$@" > "$(dirname "$0")/args"; exit 1\n', { mode: 0o755 });
    const word = fc.string({ unit: fc.constantFrom(...`ab '"\\$;*%{}~é`), minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (words) => {
        spawnSync('rsync', ['-e', [shell, ...words].map(quoteForRsh).join(' '), 'host:/x', directory.path]);
        const args = readFileSync(join(directory.path, 'args'), 'utf8').split('\0');
        expect(args.slice(0, words.length + 1)).toEqual([...words, 'host']);
      }),
      { numRuns: 60 },
    );
  });
});
