import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { escapeText } from '../../src/service/text.ts';
import type { Request } from '../odd-client.ts';
import { isRoot, ordinaryUser, Pair, userName } from '../pair.ts';
import { type Answer, content, count, eventually, Program, processesWith } from '../processes.ts';
import { ROOT } from '../project.ts';
import { PLANTED, RECEIVE, REFUSED } from '../refused.ts';
import { makeKey, run, Thief } from '../thief.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

describe('a stolen key', () => {
  let pair: Pair;
  let thief: Thief;
  let backup: Program;
  let before: string[];

  beforeAll(async () => {
    pair = await Pair.withKeys('trust');
    thief = new Thief(pair);
    mkdirSync(pair.path('backup'));
    for (const [name, leads] of Object.entries(PLANTED)) symlinkSync(leads, pair.path('backup', name));
    before = thief.outside;
    backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    // One connection for all commands: each is a session of its own.
    pair.keep(new Program('ssh', [...thief.sshOptions, '-M', '-N', '-S', pair.path('control'), thief.host], {}));
    await eventually(() => existsSync(pair.path('control')));
  });
  afterAll(() => pair[Symbol.asyncDispose]());

  /** How many commands the backup says that it has refused. */
  const refusals = (): number => JSON.parse(content(pair.path('backup-status.json'))).refused;

  const isRefused = async (command: string, reason: string) => {
    const given = command.replaceAll('DEST', pair.path('backup')).replaceAll('OUT', pair.path('outside'));
    const { status, stdout, stderr } = await thief.ssh('-S', pair.path('control'), thief.host, '--', given);
    const [told = ''] = stderr.match(/^start-sshd: .*$/m) ?? []; // the user's shell may say something, too
    expect(told).toStartWith('start-sshd: 拒绝执行：');
    expect(told).toContain(reason);
    expect(told).not.toMatch(/\p{Cc}/u);
    expect({ command, status, stdout }).toEqual({ command, status: 1, stdout: '' });
    expect(thief.outside).toEqual(before);
  };

  test('is told so in one line each, the first 20 of them, and all are counted', async () => {
    const reasons = [...new Set(REFUSED.map(([, reason]) => reason))];
    const commands = reasons.flatMap((reason) => REFUSED.filter(([, why]) => why === reason).slice(-5)).slice(-25);
    for (const [command, reason] of commands) await isRefused(command, reason);
    await eventually(() => refusals() === 25);
    const told = backup.output.split('\n').filter((line) => line.includes('拒绝执行'));
    expect(told).toHaveLength(20);
    for (const [n, line] of told.entries()) {
      const command = (commands[n]?.[0] ?? '')
        .replaceAll('DEST', pair.path('backup'))
        .replaceAll('OUT', pair.path('outside'));
      const ends = n === 19 ? '（此类记录一小时内不再逐条写入，只计数）' : '';
      expect(line).toMatch(/^\[WARN [-\d]{10} [:\d]{8}\] 拒绝执行源端的命令：/);
      expect(line).toEndWith(`命令: ${escapeText(command.slice(0, 500))}${ends}`);
      expect(line).not.toMatch(/[\p{Cc}\u2028\u202e]/u);
    }
  });

  test.each([...new Set(REFUSED.map(([, reason]) => reason))])('is refused what is told with: %s', async (reason) => {
    const commands = REFUSED.filter(([, why]) => why === reason).map(([command]) => command);
    const atOnce = Array.from({ length: 5 }, async () => {
      for (let command = commands.pop(); command !== undefined; command = commands.pop())
        await isRefused(command, reason);
    });
    await Promise.all(atOnce);
  });

  test('is refused a shell', async () => {
    const { status, stderr } = await thief.ssh('-S', pair.path('control'), thief.host);
    expect(stderr).toContain('start-sshd: 拒绝执行：不提供 shell');
    expect(status).toBe(1);
  });

  test('is refused files by sftp and scp, in both protocols', async () => {
    const options = thief.sshOptions.map((word) => (word === '-p' ? '-P' : word));
    for (const scp of [['-O'], ['-s'], []]) {
      for (const paths of [
        [pair.path('stolen'), `${thief.host}:${pair.path('backup')}/`],
        [`${thief.host}:${pair.path('outside', 'secret')}`, pair.path('got')],
      ]) {
        const told = refusals();
        expect((await run('scp', [...options, ...scp, ...paths])).status).not.toBe(0);
        await eventually(() => refusals() > told);
      }
    }
    expect((await run('sftp', [...options, '-b', '-', thief.host], 'ls /\n')).status).not.toBe(0);
    expect(existsSync(pair.path('got'))).toBe(false);
    expect(existsSync(pair.path('backup', 'stolen'))).toBe(false);
  });

  test('opens no way to other hosts and sockets, in no direction', async () => {
    const socket = pair.path('socket');
    const through = await thief.ssh('-W', `127.0.0.1:${pair.port}`, thief.host); // as -L and -D do
    expect(through.stderr).toContain('stdio forwarding failed');
    expect(through.status).toBe(255);
    for (const way of ['0:127.0.0.1:22', '0', `${socket}:127.0.0.1:22`]) {
      const { status, stderr } = await thief.ssh('-N', '-o', 'ExitOnForwardFailure=yes', '-R', way, thief.host);
      expect(stderr).toContain('remote port forwarding failed');
      expect(status).toBe(255);
    }
    expect(existsSync(socket)).toBe(false);
    const [streamLocal, forwardIn] = await thief.ask(
      ['openssh_forwardOutStreamLocal', '/run/docker.sock'],
      ['forwardIn', '127.0.0.1', 0],
    );
    expect(streamLocal?.said).toContain('open failed');
    expect(forwardIn?.said).toContain('Unable to bind');
  });

  test('gets no terminal and no display', async () => {
    const { stderr } = await thief.ssh('-tt', thief.host, 'echo terminal');
    expect(stderr).toContain('PTY allocation request failed');
    const [terminal, display] = await thief.ask(['exec', 'echo x', { pty: true }], ['exec', 'echo x', { x11: true }]);
    expect(terminal?.said).toContain('pseudo-terminal');
    expect(display?.said).toContain('X11');
  });

  test('sets no variable, neither where the backup is nor what is run', async () => {
    const sets = ['DEST_DIR=/', `LD_PRELOAD=${pair.path('x.so')}`, 'BUN_OPTIONS=--version', `HOME=${pair.directory}`];
    const options = sets.flatMap((set) => ['-o', `SetEnv=${set}`]).concat('-o', 'SendEnv=*');
    const { stderr } = await thief.ssh(...options, thief.host, `${RECEIVE} . ${pair.path('outside')}`);
    expect(stderr).toContain(`不在 DEST_DIR=${pair.path('backup')} 之内`);
  });

  test('is of no use with a password, as somebody else, or where it is another key', async () => {
    const isComplete = async () => {
      const { length } = backup.output;
      await sleep(700); // sshd's words come into the log now and then
      return backup.output.length === length;
    };
    await eventually(isComplete);
    const offset = backup.output.length;
    const methods = ['-o', 'PubkeyAuthentication=no', '-o', 'PreferredAuthentications=password,keyboard-interactive'];
    const withPassword = await thief.ssh(...methods, thief.host, 'echo in');
    expect(withPassword.stderr).toContain('Permission denied (publickey).'); // nothing else is offered
    expect((await thief.ssh('nobody@127.0.0.1', 'echo in')).stderr).toContain('Permission denied (publickey).');
    await backup.shows(/User nobody from 127\.0\.0\.1 not allowed because not listed in AllowUsers/, offset);
    makeKey(pair.path('another'));
    const another = thief.sshOptions.map((word) => word.replace(thief.key, pair.path('another')));
    expect((await run('ssh', [...another, thief.host, 'echo in'])).stderr).toContain('Permission denied (publickey).');
    expect(backup.output.slice(offset)).not.toContain('Accepted p');
  });

  test('is cut off or refused with what no ssh would send', async () => {
    const commands = ['id\0', `${RECEIVE} . ${pair.path('outside')}\0`, 'x'.repeat(1_048_576), 'x'.repeat(200_000)];
    const names = ['sftp', 'internal-sftp', 'netconf', '', 'sftp\0', '../bin/sh', 'x'.repeat(100_000)];
    const outcomes = await thief.ask(
      ...commands.map((command): Request => ['exec', command]),
      ...names.map((name): Request => ['subsys', name]),
    );
    expect(outcomes).toHaveLength(commands.length + names.length);
    for (const { status, said } of outcomes) {
      expect(status).not.toBe(0);
      if (status !== null) expect(said).toBe('');
    }
    expect((await thief.ssh(thief.host, 'echo still there')).stdout).toBe('still there\n');
    expect(thief.outside).toEqual(before);
  });

  test('may answer the test of the connection, and nothing in it is run', async () => {
    for (const [command, answer] of [
      ['echo "SSH 连接成功"', 'SSH 连接成功'],
      ['echo', ''],
      [`echo x; touch ${pair.path('outside', 'new')}`, `x; touch ${pair.path('outside', 'new')}`],
      ['echo $(id) `id` $HOME', '$(id) `id` $HOME'],
    ] as const) {
      expect(await thief.ssh('-S', pair.path('control'), thief.host, '--', command)).toEqual({
        status: 0,
        stdout: `${answer}\n`,
        stderr: '',
      });
    }
    expect(thief.outside).toEqual(before);
  });

  test('cannot bring the log to an end, nor have others write into it', async () => {
    const [runtime = ''] = /\S*\/start-sshd-[^/\s]+/.exec(commandLine(backup)) ?? [];
    expect(statSync(runtime).mode & 0o777).toBe(0o700);
    const told = refusals();
    const offset = backup.output.length;
    await Promise.all(
      Array.from({ length: 5 }, (_, n) => thief.ssh('-S', pair.path('control'), thief.host, `flood ${n}`)),
    );
    await eventually(() => refusals() >= told + 5); // those before may still be counted
    expect(backup.output.slice(offset)).not.toContain('flood');
  });
});

/** The command line of the sshd of a backup. */
function commandLine(backup: Program): string {
  return content(`/proc/${/PID: (\d+)/.exec(backup.output)?.[1]}/cmdline`)
    .replaceAll('\0', ' ')
    .trim();
}

// ── Inside rsync's own protocol ──

/** An rsync that still follows links on the way (before 3.5.0), to show that it is fenced in too. */
const { OLD_RSYNC } = process.env;
const canMountAnew = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0;
if (!canMountAnew) console.warn('SKIPPED: tests with mounts of their own: need root and unshare');
if (!OLD_RSYNC) console.warn('SKIPPED: an older rsync at the backup: OLD_RSYNC names none');

/** A command that runs its arguments where files stand in for others. */
const withMounts = (...mounts: [file: string, over: string][]) => {
  const commands = mounts.map(([file, over]) => `mount --bind '${file}' '${over}' && `).join('');
  return ['unshare', '-m', 'sh', '-c', `${commands}exec "$@"`, 'sh'];
};

const servers: [string, string][] = [['this rsync', '']];
if (canMountAnew && OLD_RSYNC) servers.push(['an older rsync', OLD_RSYNC]);

/** Where the kernel has no Landlock, root's rsync is kept in mounts of its own. */
const kernels: [string, string[]][] = [['with Landlock', []]];
if (canMountAnew)
  kernels.push(['without Landlock', [process.execPath, '--no-env-file', join(ROOT, 'test', 'without-landlock.ts')]]);

describe.concurrent.each(servers)('a client of one’s own, with %s at the backup,', (_, older) => {
  const start = async (name: string, wrapper: string[] = []) => {
    const pair = await Pair.withKeys(name);
    const thief = new Thief(pair);
    mkdirSync(pair.path('backup'));
    const backup = pair.start('start-sshd', {}, [
      ...(older ? withMounts([older, Bun.which('rsync') ?? '']) : []),
      ...wrapper,
    ]);
    await backup.shows('SSH 服务器就绪');
    const target = `${thief.host}:${pair.path('backup')}/`;
    expect(await thief.rsync('-a', `${pair.path('source')}/`, target)).toMatchObject({ status: 0 }); // it does run there
    return { pair, thief, target, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
  };
  const dropping = (option: string) =>
    `for n in "\${!words[@]}"; do [ "\${words[n]}" = '${option}' ] && unset "words[n]"; done; words=("\${words[@]}")`;

  test('writes and changes nothing behind a planted link, with -R and its option for the backup left out', async () => {
    await using started = await start('relative');
    const { pair, thief, target } = started;
    symlinkSync('../outside', pair.path('backup', 'link'));
    mkdirSync(pair.path('source', 'link', 'deep'), { recursive: true });
    for (const name of ['new', 'secret', 'deep/new']) writeFileSync(pair.path('source', 'link', name), 'overwritten');
    const before = thief.outside;
    for (const options of [['-aR'], ['-rR', '--inplace'], ['-aR', '--delete'], ['-aRH', '--append']]) {
      const names = ['new', 'secret', 'deep/new'].map((name) => `${pair.path('source')}/./link/${name}`);
      await thief.rsyncThrough(dropping('--no-implied-dirs'), ...options, '--no-implied-dirs', ...names, target);
      expect(thief.outside).toEqual(before);
      rmSync(pair.path('backup', 'link'), { recursive: true });
      symlinkSync('../outside', pair.path('backup', 'link'));
    }
  });

  test('writes nothing through links in the place of files, directories and temporary names', async () => {
    await using started = await start('places');
    const { pair, thief, target } = started;
    writeFileSync(pair.path('source', 'file'), 'overwritten');
    for (const name of ['one', '.p', 'old']) mkdirSync(pair.path('source', name));
    writeFileSync(pair.path('source', 'one', 'file'), 'overwritten');
    const before = thief.outside;
    const plant = () => {
      for (const name of readdirSync(pair.path('backup'))) rmSync(pair.path('backup', name), { recursive: true });
      for (const name of ['one', '.p', 'old', 't']) symlinkSync('../outside', pair.path('backup', name));
      symlinkSync('../outside/secret', pair.path('backup', 'file'));
    };
    for (const options of [
      ['-a'],
      ['-a', '--inplace'],
      ['-rb', '--suffix=~'],
      ['-a', '--delay-updates'],
      ['-a', '--append'],
    ]) {
      plant();
      await thief.rsync(...options, `${pair.path('source')}/`, target);
      expect(thief.outside).toEqual(before);
    }
  });

  test.each(kernels)(
    '%s reads no line of a file that a planted link makes a list of rules',
    async (_kernel, wrapper) => {
      await using started = await start('rules', wrapper);
      const { pair, thief, target } = started;
      mkdirSync(pair.path('source', 'below'));
      writeFileSync(pair.path('source', 'below', 'file'), '');
      mkdirSync(pair.path('backup', 'below'));
      for (const name of ['.f', 'below/.f']) symlinkSync(pair.path('outside', 'secret'), pair.path('backup', name));
      writeFileSync(pair.path('backup', 'below', 'victim'), '');
      for (const filter of [': .f', 'dir-merge,n .f', ':C .f', `: ${pair.path('backup', '.f')}`]) {
        const { stdout, stderr } = await thief.rsync(
          '-avv',
          '--delete',
          '-f',
          filter,
          `${pair.path('source')}/`,
          target,
        );
        expect(stdout + stderr).not.toMatch(/SECRETWORD|of the backup/);
        for (const name of ['.f', 'below/.f']) {
          rmSync(pair.path('backup', name), { force: true });
          symlinkSync(pair.path('outside', 'secret'), pair.path('backup', name));
        }
      }
    },
  );

  test.each(kernels)('%s writes nothing behind a directory that becomes a link meanwhile', async (_kernel, wrapper) => {
    await using started = await start('swap', wrapper);
    const { pair, thief, target } = started;
    for (const name of ['source/one', 'planted']) mkdirSync(pair.path(name));
    symlinkSync('../outside', pair.path('planted', 'one'));
    writeFileSync(pair.path('source', 'one', 'a'), Buffer.alloc(600_000, 'x'));
    for (const name of ['new', 'secret']) writeFileSync(pair.path('source', 'one', name), 'overwritten');
    const before = thief.outside;
    const words = ['-a', '--inplace', '--bwlimit=100', `${pair.path('source')}/`, target];
    const slow = thief.rsync(...words);
    await eventually(() => existsSync(pair.path('backup', 'one', 'a')));
    await sleep(1000); // the backup asks for those behind a
    const [sender = 0] = processesWith(words.join(' ')).keys();
    process.kill(sender, 'SIGSTOP');
    const swap = await thief.rsync('-a', '--delete', '--force', `${pair.path('planted')}/`, target);
    expect(swap).toMatchObject({ status: 0, stderr: '' });
    expect(lstatSync(pair.path('backup', 'one')).isSymbolicLink()).toBe(true);
    process.kill(sender, 'SIGCONT');
    expect((await slow).status).toBe(23);
    expect(thief.outside).toEqual(before);
  });

  test.if(isRoot).each([
    ['--inplace', ''],
    ['--append', ''],
    ['--partial-dir=.p', '.p'],
    ['--delay-updates', '.~tmp~'],
  ])('cannot open a device that it has planted where a file is expected, with %s', async (option, directory) => {
    await using started = await start('device');
    const { pair, thief, target } = started;
    for (const side of ['planted', 'backup']) mkdirSync(pair.path(side, directory), { recursive: true });
    const [device, expected] = ['planted', 'backup'].map((side) => pair.path(side, directory, 'b'));
    expect(spawnSync('mknod', [device ?? '', 'c', '1', '7']).status).toBe(0); // /dev/full: it would tell
    if (directory) writeFileSync(expected ?? '', 'a part');
    writeFileSync(pair.path('source', 'a'), Buffer.alloc(600_000, 'x'));
    writeFileSync(pair.path('source', 'b'), 'to the disk');
    const words = ['-a', option, '--bwlimit=100', `${pair.path('source')}/`, target];
    const slow = thief.rsync(...words);
    await eventually(() =>
      readdirSync(pair.path('backup'), { recursive: true }).some((name) => /a[^/]*$/.test(String(name))),
    );
    await sleep(1000); // the backup asks for b, which comes behind a
    const [sender = 0] = processesWith(words.join(' ')).keys();
    process.kill(sender, 'SIGSTOP');
    expect(await thief.rsync('-a', `${pair.path('planted')}/`, target)).toMatchObject({ status: 0, stderr: '' });
    expect(lstatSync(expected ?? '').isCharacterDevice()).toBe(true);
    process.kill(sender, 'SIGCONT');
    const { stderr, status } = await slow;
    expect(stderr).not.toContain('No space left');
    if (directory) {
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' }); // there is no part that it could open: it makes a new file
      expect(content(pair.path('backup', 'b'))).toBe('to the disk');
      return;
    }
    expect(stderr).toContain('Permission denied');
    expect(status).toBe(23);
  });
});
if (!isRoot) console.warn('SKIPPED: devices in the backup: only root can make them');

// ── What goes on working ──

const ALLOWED: [string, string[]][] = [
  ['a plain mirror', ['-avz', '--delete']],
  ['all that a file can have', ['-aHAX', '--numeric-ids', '--delete', '--fsync']],
  ['old versions within', ['-aHAX', '--delete', '--backup', '--backup-dir=old', '--partial-dir=.p', '--temp-dir=.']],
  ['what it says', ['-avv', '--info=progress2', '--stats', '--out-format=%i %n', '--human-readable']],
  ['its pace', ['-a', '--bwlimit=9000', '--timeout=60', '--block-size=2048', '--max-alloc=200M']],
  ['its compression and checksums', ['-az', '--compress-choice=zlib', '--compress-level=3', '--checksum-choice=md5']],
  ['names in another character set', ['-a', '--iconv=UTF-8,UTF-8']],
  ['owners', ['-a', '--usermap=*:0', '--groupmap=*:0']],
  ['owners in extended attributes', ['-a', '-M--fake-super']],
  ['a mirror in place', ['-a', '--inplace', '--no-whole-file', '--append-verify', '--preallocate']],
  ['late deletions', ['-a', '--delete-delay', '--delete-excluded', '--max-delete=5', '--force', '--exclude=*.tmp']],
  [
    'what is chosen',
    ['-acu', '--existing', '--ignore-errors', '--min-size=1', '--max-size=1G', '-m', '-y', '-S', '-x'],
  ],
  ['relative names', ['-aR', '--delay-updates', '--modify-window=-1', '--safe-links', '--munge-links', '--no-D']],
];

/** The checksums of blocks that a stock rsync has got from the backup: where each block began, how long it was, its rolling checksum. */
const blocksIn = ({ stdout }: Answer) =>
  [...stdout.matchAll(/^chunk\[\d+\] len=(\d+) offset=([\d,]+) sum1=(\w+)/gm)].map(([, length, at, sum]) => ({
    ...{ length: Number(length), at: Number(at?.replaceAll(',', '')), sum },
  }));

describe.concurrent('what the backup holds', () => {
  /** A backup with a file that the thief wants to know, and asks for over one of another content. */
  const start = async (name: string, env: Record<string, string> = {}) => {
    const pair = await Pair.withKeys(name);
    const thief = new Thief(pair);
    const held = Buffer.from(Array.from({ length: 2000 }, (_, n) => 65 + ((n * n) % 53)));
    mkdirSync(pair.path('backup'));
    writeFileSync(pair.path('source', 'file'), 'x'.repeat(2000));
    const backup = pair.start('start-sshd', env);
    await backup.shows('SSH 服务器就绪');
    const ask = (...options: string[]) => {
      writeFileSync(pair.path('backup', 'file'), held);
      return thief.rsync(...options, `${pair.path('source')}/`, `${thief.host}:${pair.path('backup')}/`);
    };
    return { pair, backup, ask, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
  };

  test('is told by no block whose length the source has chosen, and who asks for one is mirrored all the same', async () => {
    await using started = await start('blocks');
    const { pair, backup, ask } = started;
    const own = blocksIn(await ask('-aI', '--debug=deltasum3'));
    expect(own.map(({ length }) => length)).toEqual([700, 700, 600]);
    for (const words of ['-B1', '-B701', '--block-size=512', '-M-B1', '-M--block-size=1']) {
      const answer = await ask('-aI', '--debug=deltasum3', words);
      expect({ words, status: answer.status, blocks: blocksIn(answer) }).toEqual({ words, status: 0, blocks: own });
      expectEqual(pair.path('source'), pair.path('backup'));
    }
    await backup.shows('未采用源端的 --block-size');
    expect(count(backup.output, '未采用源端的 --block-size')).toBe(1);
  });

  test('is kept by a hard-linked snapshot, whatever the source calls a part of a file', async () => {
    await using started = await start('parts');
    const { pair, ask } = started;
    for (const options of [['--partial-dir=parts'], ['--delay-updates', '--partial-dir=parts'], ['--partial']]) {
      mkdirSync(pair.path('backup', 'parts'), { recursive: true });
      writeFileSync(pair.path('backup', 'parts', 'file'), 'of the backup');
      linkSync(pair.path('backup', 'parts', 'file'), pair.path('snapshot'));
      expect(await ask('-aI', ...options)).toMatchObject({ status: 0, stderr: '' });
      expect(content(pair.path('backup', 'file'))).toBe('x'.repeat(2000));
      expect(content(pair.path('snapshot'))).toBe('of the backup');
      for (const name of ['snapshot', 'backup/parts']) rmSync(pair.path(name), { recursive: true, force: true });
    }
  });

  test('is told by no block at all where the operator refuses delta transfer, and mirrored all the same', async () => {
    await using started = await start('whole', { REFUSE_OPTIONS: 'no-whole-file' });
    const { pair, backup, ask } = started;
    const all = [['-aI'], ['-aI', '--inplace', '-S', '--no-whole-file'], ['-aI', '-M--no-W'], ['-aI', '-y', '-B1']];
    for (const words of all) {
      const answer = await ask('--debug=deltasum3', '--stats', ...words);
      expect({ words, status: answer.status, blocks: blocksIn(answer) }).toEqual({ words, status: 0, blocks: [] });
      expect(answer.stdout).toContain('Literal data: 2,000 bytes');
      expectEqual(pair.path('source'), pair.path('backup'));
    }
    for (const option of ['--append', '--append-verify']) {
      const { stderr, status } = await ask('-aI', option);
      expect(stderr).toContain('start-sshd: 拒绝执行：REFUSE_OPTIONS 不允许 rsync 选项 --append');
      expect(status).not.toBe(0);
    }
    await backup.shows(
      /\[WARN .*\] 拒绝执行源端的命令：REFUSE_OPTIONS 不允许 rsync 选项 --append.*命令: rsync --server/,
    );
  });

  test('is kept from options that the operator refuses, which the logs of both sides name', async () => {
    await using started = await start('refused', { REFUSE_OPTIONS: 'inplace,c hard-links delete-*' });
    const { pair, backup, ask } = started;
    for (const [words, named] of [
      [['-a', '--inplace'], '--inplace'],
      [['-ac'], '-c（--checksum）'],
      [['-aH'], '-H（--hard-links）'],
      [['-a', '--delete-delay'], '--delete-delay'],
      [['-a', '-M--delete-after'], '--delete-after'],
    ] as const) {
      const offset = backup.output.length;
      const { stderr, status } = await ask(...words);
      expect(stderr).toContain(`start-sshd: 拒绝执行：REFUSE_OPTIONS 不允许 rsync 选项 ${named}`);
      expect(status).not.toBe(0);
      await backup.shows(`REFUSE_OPTIONS 不允许 rsync 选项 ${named}`, offset);
    }
    expect(await ask('-aI')).toMatchObject({ status: 0, stderr: '' });
    const source = pair.start('rsync-inotify', { RSYNC_OPTS: '-a --inplace', MAX_RETRIES: '1' });
    await source.shows(/start-sshd: 拒绝执行：REFUSE_OPTIONS 不允许 rsync 选项 --inplace/);
  });

  test('is mirrored with all options refused that RSYNC_OPTS do not hold', async () => {
    await using pair = await Pair.withKeys('least');
    writeFileSync(pair.path('source', 'file'), 'content');
    const backup = pair.start('start-sshd', { REFUSE_OPTIONS: '* !a !v !z !delete !delete-during no-whole-file' });
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    mkdirSync(pair.path('source', 'below'));
    writeFileSync(pair.path('source', 'below', 'another'), 'content');
    await pair.isMirrored();
    renameSync(pair.path('source', 'below'), pair.path('source', 'beneath'));
    rmSync(pair.path('source', 'file'));
    await pair.isMirrored();
    expect(backup.output).not.toContain('[WARN');
  });
});

describe.concurrent('the source’s key', () => {
  test('of an earlier start gets no more than this start gives, even while none is shared', async () => {
    await using pair = await Pair.withKeys('former');
    const shared = pair.path('shared', 'id_rsa.pub');
    const line = () => content(pair.path('backup-ssh', 'authorized_keys')).split('\n')[1];
    mkdirSync(pair.path('shared'));
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', pair.path('id_rsa')]);
    copyFileSync(pair.path('id_rsa.pub'), shared);
    const first = pair.start('start-sshd', { ALLOW_SHELL: 'true' });
    await first.shows('SSH 服务器就绪');
    await first.stop();
    const key = content(shared).trim();
    expect(line()).toBe(`restrict ${key}`);
    rmSync(shared);
    await pair.start('start-sshd').shows('(1/30)');
    expect(line()).toMatch(/^restrict,command="exec .* --forced-command '?SHA256:\S+" ssh-rsa AAAA/);
    expect(line()).toEndWith(key);
  });

  test('is not safe from the source where it may write the keys, which every start tells', async () => {
    await using pair = await Pair.withKeys('exposed');
    const backup = pair.start('start-sshd', { DEST_DIR: pair.directory });
    for (const name of ['backup-ssh', 'host-keys']) {
      await backup.shows(new RegExp(`WARN .*${name} 在 DEST_DIR=.* 之内：源端可以改写其中的密钥`));
    }
  });

  test('mirrors by hand with all that rsync can do, into the backup and below it', async () => {
    await using pair = await Pair.withKeys('by-hand');
    const thief = new Thief(pair);
    mkdirSync(pair.path('source', 'below'));
    writeFileSync(pair.path('source', 'file'), 'content');
    writeFileSync(pair.path('source', 'below', 'é 中 文'), 'content');
    const backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    for (const [name, options] of ALLOWED) {
      const target = `${thief.host}:${pair.path('backup')}/${name}/`;
      const { status, stderr } = await thief.rsync(...options, `${pair.path('source')}/`, target);
      expect({ name, status, stderr }).toEqual({ name, status: 0, stderr: '' });
      if (!options.includes('--existing') && !options.includes('-aR'))
        expectEqual(pair.path('source'), pair.path('backup', name));
    }
    const one = pair.path('source', 'file');
    for (const [target, file] of [
      ['file', 'file'], // as a new name
      ['file', 'file'], // as a file that is there
      ['directory/', 'directory/file'],
      ['directory', 'directory/file'],
    ] as const) {
      expect((await thief.rsync('-a', one, `${thief.host}:${pair.path('backup', target)}`)).status).toBe(0);
      expect(statSync(pair.path('backup', file)).isFile()).toBe(true);
    }
    expect((await thief.rsync('-a', '--mkpath', one, `${thief.host}:${pair.path('backup')}/x/y/z/`)).status).toBe(0);
    expect(content(pair.path('backup', 'x', 'y', 'z', 'file'))).toBe('content');
    expect(backup.output).not.toContain('[WARN');
  });

  test('mirrors through a link into a directory whose name a shell would take apart', async () => {
    await using pair = await Pair.withKeys('odd');
    const DEST_DIR = `${pair.path("real's $(id) `中文` & é")}/`;
    mkdirSync(pair.path('elsewhere'));
    symlinkSync(pair.path('elsewhere'), DEST_DIR.slice(0, -1));
    writeFileSync(pair.path('source', 'file'), 'content');
    const backup = pair.start('start-sshd', { DEST_DIR });
    const source = pair.start('rsync-inotify', { DEST_DIR, SYNC_INTERVAL: '0', RSYNC_OPTS: '-aHAXvz --delete' });
    await source.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'another'), 'content');
    await eventually(() => content(pair.path('elsewhere', 'another')) === 'content');
    expect(backup.output).not.toContain('拒绝');
  });

  test.if(isRoot && Bun.which('useradd') !== null)(
    'is held to the same as an ordinary user, whose rc is not run',
    async () => {
      using user = ordinaryUser();
      await using pair = await Pair.withKeys('user', user);
      const thief = new Thief(pair, user.name);
      for (const name of ['shared', 'outside']) chownSync(pair.path(name), user.uid, user.gid);
      mkdirSync(`${user.home}/.ssh`);
      writeFileSync(`${user.home}/.ssh/rc`, `touch ${user.home}/rc-was-run\n`);
      chownSync(`${user.home}/.ssh`, user.uid, user.gid);
      const backup = pair.start('start-sshd');
      await backup.shows('SSH 服务器就绪');
      const { stderr, status } = await thief.ssh(thief.host, `touch ${user.home}/new`);
      expect(stderr).toContain('start-sshd: 拒绝执行：只允许 rsync');
      expect(status).toBe(1);
      await backup.shows(/\[WARN .*\] 拒绝执行源端的命令：.*touch/);
      writeFileSync(pair.path('source', 'file'), 'content');
      expect((await thief.rsync('-a', `${pair.path('source')}/`, `${thief.host}:${pair.path('backup')}/`)).status).toBe(
        0,
      );
      expect((await thief.rsync('-a', `${pair.path('source')}/`, `${thief.host}:${user.home}/`)).status).not.toBe(0);
      expect(readdirSync(user.home).filter((name) => !name.startsWith('.'))).toEqual([]);
    },
  );

  test('runs any command where ALLOW_SHELL says so, which every start tells, and still gets nothing else', async () => {
    await using pair = await Pair.withKeys('shell');
    const thief = new Thief(pair);
    for (const round of [1, 2]) {
      const backup = pair.start('start-sshd', { ALLOW_SHELL: 'true', REFUSE_OPTIONS: 'inplace' });
      await backup.shows(/\[WARN .*\] ALLOW_SHELL=true.*REFUSE_OPTIONS 因此不起作用/);
      await backup.shows('SSH 服务器就绪');
      expect((await thief.ssh(thief.host, `echo ${round} && echo $((1 + 1))`)).stdout).toBe(`${round}\n2\n`);
      const sets = ['LD_PRELOAD=/x.so', 'LANG=x', 'LC_ALL=x', 'BUN_OPTIONS=x', 'MINE=x'];
      const options = sets.flatMap((set) => ['-o', `SetEnv=${set}`]);
      const { stdout } = await thief.ssh('-A', '-tt', ...options, thief.host, 'env; tty');
      expect(stdout).not.toMatch(/=x$|^LD_PRELOAD|^SSH_AUTH_SOCK|^SSH_TTY|\/dev\/pts/m);
      expect((await thief.ssh('-W', `127.0.0.1:${pair.port}`, thief.host)).status).toBe(255);
      expect(await backup.stop()).toBe(0);
    }
    const strict = pair.start('start-sshd');
    await strict.shows('SSH 服务器就绪');
    expect((await thief.ssh(thief.host, 'id')).status).toBe(1);
  });
});

// ── sshd's configuration ──

/** Where the configuration is that is in force. */
const configOf = (backup: Program) => / -f (\S+)/.exec(commandLine(backup))?.[1] ?? '';

/** What sshd makes of it for a login. */
function effective(backup: Program, address = '127.0.0.1'): string[] {
  const spec = `user=${userName()},host=localhost,addr=${address},laddr=127.0.0.1,lport=22`;
  return spawnSync('sshd', ['-T', '-C', spec, '-f', configOf(backup)], {
    encoding: 'utf8',
    env: { PATH: `${process.env.PATH}:/usr/sbin` },
  })
    .stdout.trim()
    .split('\n')
    .map((line) => line.replace(/^\S+/, (name) => name.toLowerCase())); // OpenSSH 10.6 writes names as the manual does
}

const REQUIRED = [
  ...['pubkeyauthentication yes', 'authenticationmethods publickey', 'passwordauthentication no'],
  ...['kbdinteractiveauthentication no', 'hostbasedauthentication no', 'permitemptypasswords no'],
  ...['disableforwarding yes', 'allowtcpforwarding no', 'allowstreamlocalforwarding no', 'allowagentforwarding no'],
  ...['x11forwarding no', 'gatewayports no', 'permittunnel no', 'permittty no', 'permituserrc no'],
  ...['permituserenvironment no', 'acceptenv NONE', 'permitrootlogin forced-commands-only', `allowusers ${userName()}`],
  ...['authorizedkeyscommand none', 'trustedusercakeys none', 'maxauthtries 3', 'logingracetime 20'],
  ...['maxstartups 60:50:120', 'clientaliveinterval 10', 'clientalivecountmax 2'],
];
const WEAK =
  /sha1(?!\d)|md5|-cbc|3des|arcfour|ssh-dss|ssh-rsa(,|$)|group1-|group14|group-exchange|nistp.*kex|umac-64|ecdh-sha2/;

/** Expects all that is required and nothing weak. */
function isStrict(options: string[]): void {
  expect(REQUIRED.filter((option) => !options.includes(option))).toEqual([]);
  for (const name of ['allowusers', 'acceptenv']) expect(count(options.join('\n'), `${name} `)).toBe(1);
  const algorithms = options.filter((option) =>
    /^(kexalgorithms|ciphers|macs|hostkeyalgorithms|pubkeyacc)/.test(option),
  );
  expect(algorithms).toHaveLength(5);
  for (const line of algorithms) expect(line).not.toMatch(WEAK);
}

const WEAKENED: [string, string][] = [
  ['Match all\n  PasswordAuthentication yes\n  AcceptEnv *', 'acceptenv'],
  ['Match User root\n  AllowUsers *', 'allowusers'],
  ['AcceptEnv LD_* BASH_ENV\nAllowUsers nobody', ''],
  ['ListenAddress 127.0.0.2', 'listenaddress'],
  ['Port 2222', ''],
  ['HostKey /etc/ssh/other', ''],
  ['PasswordAuthentication', 'line 1'],
  ['NoSuchOption yes', 'NoSuchOption'],
  ['AuthenticationMethods any', 'AuthenticationMethods'], // newer sshds, as 10.0, take it and stay at ours, which comes first
];

test.concurrent.if(canMountAnew)(
  'the machine’s sshd_config is followed where it adds, and not where it weakens',
  async () => {
    await using pair = await Pair.withKeys('machine');
    const thief = new Thief(pair);
    const start = async (text: string) => {
      writeFileSync(pair.path('sshd_config'), text);
      const backup = pair.start('start-sshd', {}, withMounts([pair.path('sshd_config'), '/etc/ssh/sshd_config']));
      await backup.shows('SSH 服务器就绪');
      return backup;
    };
    for (const [text, named] of WEAKENED) {
      const backup = await start(
        `${text}\nForceCommand id\nPermitRootLogin yes\nAuthorizedKeysFile ${pair.path('all')}\n`,
      );
      isStrict(effective(backup));
      const isIncluded = content(configOf(backup)).includes('Include /etc/ssh/sshd_config');
      const isKept = isIncluded && text === 'AuthenticationMethods any';
      if (named && !isKept)
        expect(backup.output).toMatch(new RegExp(`\\[WARN .*未采用 /etc/ssh/sshd_config：.*${named}`, 'i'));
      expect((await thief.ssh(thief.host, 'echo served')).stdout).toBe('served\n');
      expect((await thief.ssh(thief.host, 'id')).stderr).toContain('拒绝执行');
      expect(await backup.stop()).toBe(0);
    }
    writeFileSync(pair.path('banner'), 'this is a backup\n');
    const weaker = 'PasswordAuthentication yes\nX11Forwarding yes\nPermitTTY yes\nForceCommand id';
    const matched = 'Match Address 127.0.0.0/8\n  SetEnv DEST_DIR=/ PATH=/tmp\n  ForceCommand id\n  PermitTTY yes\n';
    const backup = await start(
      `Banner ${pair.path('banner')}\n${weaker}\nCiphers 3des-cbc\nMatch User root\n${matched}`,
    );
    isStrict(effective(backup));
    const { stdout, stderr } = await run('ssh', [
      '-o',
      'LogLevel=INFO',
      ...thief.sshOptions,
      thief.host,
      'echo served',
    ]);
    expect(stderr).toContain('this is a backup');
    expect(stdout).toBe('served\n');
    expect((await thief.ssh(thief.host, `${RECEIVE} . ${pair.path('outside')}`)).stderr).toContain('不在 DEST_DIR=');
  },
);

// ── The shared key ──

test.concurrent('of the shared key only one plain line of a strong key is taken, and the one in force stays until then', async () => {
  await using pair = await Pair.make('key');
  new Thief(pair);
  const [file, authorized] = [pair.path('shared', 'id_rsa.pub'), pair.path('backup-ssh', 'authorized_keys')];
  mkdirSync(pair.path('backup-ssh'), { mode: 0o700 });
  const others = 'from="192.0.2.7" ssh-ed25519 AAAAsomebodyelse admin\n';
  writeFileSync(authorized, others, { mode: 0o644 });
  makeKey(pair.path('spare'));
  let [good, spare] = [content(file).trim(), content(pair.path('spare.pub')).trim()];
  makeKey(pair.path('next'));
  const next = content(pair.path('next.pub')).trim();
  spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', '1024', '-N', '', '-f', pair.path('weak')]);
  makeKey(pair.path('ca'));
  spawnSync('ssh-keygen', ['-q', '-s', pair.path('ca'), '-I', 'id', '-n', 'root', pair.path('next.pub')]);
  const backup = pair.start('start-sshd');
  await backup.shows('SSH 服务器就绪');
  const inForce = () => content(authorized);

  const [body = ''] = / \S+/.exec(next) ?? [];
  const wrong: (string | (() => void))[] = [
    `command="id" ${next}`,
    `environment="A=b" ${next}`,
    `cert-authority ${next}`,
    `${next}\n${good}`,
    `${next}\u001b[2J`,
    `${next}\r${good}`,
    next.slice(0, 40),
    `ssh-dss${body}`,
    `ssh-unknown${body}`,
    `ssh-rsa${body}`,
    'x'.repeat(1_048_576),
    content(pair.path('weak.pub')),
    content(pair.path('next-cert.pub')),
    '# a comment',
    () => symlinkSync(pair.path('next.pub'), file),
    () => mkdirSync(file),
    () => spawnSync('mkfifo', [file]),
  ];
  for (const [n, make] of wrong.entries()) {
    rmSync(file, { recursive: true, force: true });
    const offset = backup.output.length;
    if (typeof make === 'string') {
      writeFileSync(`${file}.new`, make);
      renameSync(`${file}.new`, file);
    } else make();
    await backup.shows(/\[ERROR .*\] 源端公钥未生效/, offset).catch((error) => {
      throw new Error(`wrong key ${n}: ${error}`);
    });
    expect(inForce()).toContain(good);
    expect(inForce()).not.toContain(body);
    rmSync(file, { recursive: true, force: true });
    [good, spare] = [spare, good];
    writeFileSync(file, good);
    await eventually(() => inForce().includes(good)); // what was told is forgotten
  }
  expect(count(backup.output, '源端公钥未生效')).toBe(wrong.length);

  const offset = backup.output.length;
  rmSync(file);
  writeFileSync(file, '');
  for (const letter of next) {
    writeFileSync(file, letter, { flag: 'a' });
    expect(inForce()).toMatch(new RegExp(`${good.split(' ')[1]}|${body.trim()}`.replaceAll('+', '\\+')));
    await sleep(10);
  }
  await eventually(() => inForce().includes(next), 2000);
  expect(count(backup.output.slice(offset), '源端公钥未生效')).toBeLessThan(3);
  expect(inForce()).toContain(others);
  expect(inForce()).not.toContain(good);
  expect(statSync(authorized).mode & 0o777).toBe(0o600);
});

test.concurrent('authorized_keys is never seen without a key of the source while that changes', async () => {
  await using pair = await Pair.make('atomic');
  new Thief(pair);
  const [file, authorized] = [pair.path('shared', 'id_rsa.pub'), pair.path('backup-ssh', 'authorized_keys')];
  const keys = [0, 1].map((n) => {
    makeKey(pair.path(`key-${n}`));
    return content(pair.path(`key-${n}.pub`)).trim();
  });
  const backup = pair.start('start-sshd');
  await backup.shows('SSH 服务器就绪');
  let looking = true;
  const bodies = [...keys, content(`${pair.path('stolen')}.pub`)].map((key) => key.split(' ')[1] ?? '');
  const wrong: string[] = [];
  const look = async () => {
    while (looking) {
      const text = content(authorized);
      if (!text.endsWith('\n') || !bodies.some((body) => text.includes(body))) wrong.push(text);
      await sleep(1);
    }
  };
  const looked = look();
  for (let n = 0; n < 50; n++) {
    const key = keys[n % 2] ?? '';
    writeFileSync(`${file}.new`, `${key}\n`);
    renameSync(`${file}.new`, file);
    await eventually(() => content(authorized).includes(key), 5000);
  }
  looking = false;
  await looked;
  expect(wrong).toEqual([]);
  expect(readdirSync(pair.path('backup-ssh'))).toEqual(['authorized_keys']);
});

describe.concurrent('the host keys', () => {
  test('are published whole, under the name of the host, before anybody can connect', async () => {
    await using pair = await Pair.make('published');
    new Thief(pair);
    const backup = pair.start('start-sshd');
    await backup.shows('启动 SSH 服务...');
    const names = ['ecdsa', 'ed25519', 'rsa'].map((type) => `${hostname()}.${type}.pub`);
    expect(readdirSync(pair.path('shared', 'host_keys')).sort()).toEqual(names);
    for (const type of ['ecdsa', 'ed25519', 'rsa']) {
      const [published, made] = [`shared/host_keys/${hostname()}.${type}.pub`, `host-keys/ssh_host_${type}_key.pub`];
      expect(content(pair.path(published)).split(' ')[1]).toBe(content(pair.path(made)).split(' ')[1]?.trim());
    }
  });

  test('are written through no link and into no pipe that the source has put there', async () => {
    await using pair = await Pair.make('planted');
    const thief = new Thief(pair);
    const before = thief.outside;
    const published = (type: string) => pair.path('shared', 'host_keys', `${hostname()}.${type}.pub`);
    mkdirSync(pair.path('shared', 'host_keys'));
    symlinkSync(pair.path('outside', 'secret'), published('rsa'));
    symlinkSync(pair.path('outside', 'new'), published('ecdsa'));
    spawnSync('mkfifo', [published('ed25519')]);
    const backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    for (const type of ['rsa', 'ecdsa', 'ed25519']) expect(lstatSync(published(type)).isFile()).toBe(true);
    await backup.stop();
    rmSync(pair.path('shared', 'host_keys'), { recursive: true });
    symlinkSync(pair.path('outside'), pair.path('shared', 'host_keys'));
    await pair.start('start-sshd').shows(/WARN .*公布主机密钥.*不能是链接/);
    expect(thief.outside).toEqual(before);
  });

  test.if(canMountAnew).each(['ro', 'size=4k,nr_inodes=3'])(
    'that cannot be (%s) are no reason not to serve',
    async (how) => {
      await using pair = await Pair.make('full');
      const thief = new Thief(pair);
      const key = content(`${thief.key}.pub`);
      const script = `mount -t tmpfs -o size=8k tmpfs '${pair.path('shared')}' && echo '${key.trim()}' > '${pair.path('shared', 'id_rsa.pub')}' && mount -o 'remount,${how}' tmpfs '${pair.path('shared')}'; exec "$@"`;
      const backup = pair.start('start-sshd', {}, ['unshare', '-m', 'sh', '-c', script, 'sh']);
      await backup.shows('SSH 服务器就绪');
      expect(backup.output).toMatch(/\[WARN .*\] 无法在 .*host_keys 公布主机密钥.*(EROFS|ENOSPC)/);
      expect((await thief.ssh(thief.host, 'echo served')).stdout).toBe('served\n');
    },
  );
});
