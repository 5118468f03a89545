/** What the backup says of itself, and that it receives into the DEST_DIR of its start alone, whatever is mounted or replaced. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Namespace } from '../namespace.ts';
import { CHEAP_LOGIN, isRoot, Pair, remoteRsyncsOf, theOnly, userName } from '../pair.ts';
import { type Answer, answerOf, cleanEnv, count, eventually, type Program } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

const canMount = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0;
if (!canMount) console.warn('SKIPPED: what is mounted over, below and beneath the backup: needs root and unshare');

/** Has a program run with mounts of its own, some of which are there before it starts. */
const withMounts = (...commands: string[]) => {
  const script = [...commands, 'exec "$@"'].join(' && ');
  return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', script, 'sh'];
};

interface Identity {
  start: string;
  boot: string;
  directory: string;
}

/** A backup, and a source's key that may use it. */
class Backup {
  program: Program;
  private constructor(
    readonly pair: Pair,
    private readonly env: Record<string, string>,
    wrapper: string[],
  ) {
    this.program = pair.start('start-sshd', env, wrapper);
  }

  static async start(name: string, env: (pair: Pair) => Record<string, string> = () => ({})): Promise<Backup> {
    return Backup.startMounted(name, () => [], env);
  }

  static async startMounted(
    name: string,
    wrapper: (pair: Pair) => string[],
    env: (pair: Pair) => Record<string, string> = () => ({}),
  ): Promise<Backup> {
    const pair = await Pair.withKeys(name);
    for (const directory of ['shared', 'volume', 'disk', 'backup']) mkdirSync(pair.path(directory));
    copyFileSync(pair.path('source-ssh', 'id_rsa.pub'), pair.path('shared', 'id_rsa.pub'));
    const backup = new Backup(pair, env(pair), wrapper(pair));
    await backup.program.shows('SSH 服务器就绪');
    return backup;
  }

  /** Ends the program, if it still runs, and starts it anew. */
  async restart(wrapper: string[] = []): Promise<void> {
    await this.program.stop();
    this.program = this.pair.start('start-sshd', this.env, wrapper);
    await this.program.shows('SSH 服务器就绪');
  }

  /** Runs a command with the mounts of the program. */
  inside(script: string): void {
    const { status, stderr } = spawnSync('nsenter', ['-t', `${this.program.pid}`, '-m', 'sh', '-c', script], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`${script}: ${stderr}`);
  }

  private get sshWords(): string[] {
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
    const all = [...options, CHEAP_LOGIN, `IdentityFile=${this.pair.path('source-ssh', 'id_rsa')}`];
    return ['-F', 'none', '-p', `${this.pair.port}`, ...all.flatMap((option) => ['-o', option])];
  }

  private readonly host = `${userName()}@127.0.0.1`;

  /** Asks for a command as the source would. */
  ask(command: string, input = ''): Promise<Answer> {
    return answerOf(spawn('ssh', [...this.sshWords, this.host, '--', command]), input);
  }

  async identify(directory = this.pair.path('backup')): Promise<Identity> {
    const { status, stdout, stderr } = await this.ask(`start-sshd --identify '${directory}/'`);
    if (status !== 0) throw new Error(stderr);
    expect(stdout).toMatch(/^\{"start":"[\w-]{1,64}","boot":"[\w-]{1,64}","directory":"[\w:./ -]{1,200}"\}\n$/);
    return JSON.parse(stdout);
  }

  /** Starts an rsync that waits for the names of what it shall mirror; returns what gives it these, and waits for its end. */
  async beginRsync(directory = this.pair.path('backup')): Promise<(names: string) => Promise<Answer>> {
    const shell = ['ssh', ...this.sshWords].map((word) => `'${word}'`).join(' ');
    const words = ['-a', '--files-from=-', '-e', shell, `${this.pair.path('source')}/`, `${this.host}:${directory}/`];
    const rsync = spawn('rsync', words);
    const answer = answerOf(rsync); // it may end at any time from now on
    await theOnly(remoteRsyncsOf, this.pair);
    return (names) => {
      rsync.stdin.end(names);
      return answer;
    };
  }

  /** Asks rsync to mirror all, to its end. */
  mirror(directory = this.pair.path('backup')): Promise<Answer> {
    const shell = ['ssh', ...this.sshWords].map((word) => `'${word}'`).join(' ');
    return answerOf(
      spawn('rsync', ['-a', '-e', shell, `${this.pair.path('source')}/`, `${this.host}:${directory}/`]),
      '',
    );
  }

  get health(): string {
    const env = { ...cleanEnv(), STATUS_FILE: this.pair.path('backup-status.json') };
    return spawnSync(binary('start-sshd'), ['--healthcheck'], { env, encoding: 'utf8' }).stdout;
  }

  get status() {
    return JSON.parse(readFileSync(this.pair.path('backup-status.json'), 'utf8'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.pair[Symbol.asyncDispose]();
  }
}

const REPLACED = '已不是启动时的目录';

describe.concurrent('the backup says what it is', () => {
  test('the same over another connection, and another start after it was started anew', async () => {
    await using backup = await Backup.start('identity');
    const path = backup.pair.path('backup');
    const first = await backup.identify();
    expect(await backup.identify()).toEqual(first);
    writeFileSync(`${path}/file`, 'changes nothing');
    expect(await backup.identify()).toEqual(first);
    expect(first.boot).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    const { ino, birthtimeNs } = statSync(path, { bigint: true });
    const fileSystem = spawnSync('stat', ['-f', '-c', '%t:%i', path], { encoding: 'utf8' }).stdout.trim();
    expect(first.directory).toBe(`${fileSystem}:${ino}:${birthtimeNs}`);

    await backup.restart();
    const second = await backup.identify();
    expect(second).toEqual({ ...first, start: second.start });
    expect(second.start).not.toBe(first.start);
  });

  test('of each directory below, and of one to be what it will lie in', async () => {
    await using backup = await Backup.start('identity-below');
    const { pair } = backup;
    const whole = await backup.identify();
    const missing = await backup.identify(pair.path('backup', 'one', 'two'));
    expect(missing).toEqual({ ...whole, directory: `above:${whole.directory}` });
    expect(readdirSync(pair.path('backup'))).toEqual([]);
    mkdirSync(pair.path('backup', 'one', 'two'), { recursive: true });
    const there = await backup.identify(pair.path('backup', 'one', 'two'));
    expect(there).toMatchObject({ start: whole.start, boot: whole.boot });
    expect(there.directory).not.toContain(whole.directory);
    rmSync(pair.path('backup', 'one', 'two'), { recursive: true });
    mkdirSync(pair.path('backup', 'one', 'two'));
    expect((await backup.identify(pair.path('backup', 'one', 'two'))).directory).not.toBe(there.directory);
  });

  test('of nothing outside, and to nobody whom sshd has not let in', async () => {
    await using backup = await Backup.start('identity-outside');
    symlinkSync('../volume', backup.pair.path('backup', 'link'));
    for (const path of [backup.pair.path('volume'), '/', backup.pair.path('backup', 'link'), '.', '~']) {
      const { status, stdout, stderr } = await backup.ask(`start-sshd --identify '${path}'`);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toContain('不在 DEST_DIR=');
    }
    for (const words of ['--identify', `--identify / x`, `--identify ''`])
      expect((await backup.ask(`start-sshd ${words}`)).status).toBe(1);
    const byHand = spawnSync(binary('start-sshd'), ['--identify', '/'], { env: cleanEnv(), encoding: 'utf8' });
    expect(byHand).toMatchObject({ status: 1, stdout: '' });
    expect(byHand.stderr).toContain('只能经由 start-sshd 启动的 sshd 使用');
  });

  test('to a shell, too, which may ask for any directory', async () => {
    await using backup = await Backup.start('identity-shell', () => ({ ALLOW_SHELL: 'true' }));
    const { pair } = backup;
    const ask = async (path: string) => {
      const found = `PATH='${dirname(binary('start-sshd'))}':/usr/bin:/bin start-sshd`;
      return backup.ask(`${found} --identify '${path}'`);
    };
    const inside = JSON.parse((await ask(pair.path('backup'))).stdout);
    const outside = JSON.parse((await ask(pair.path('volume'))).stdout);
    expect(outside).toMatchObject({ start: inside.start, boot: inside.boot });
    expect(outside.directory).not.toBe(inside.directory);
    rmSync(pair.path('backup'), { recursive: true });
    await backup.program.shows(REPLACED);
    await eventually(() => backup.status.sessions === 0);
    expect((await ask(pair.path('backup'))).stderr).toContain(REPLACED);
    expect((await ask(pair.path('volume'))).status).toBe(0);
  });
});

describe.concurrent('DEST_DIR', () => {
  /** What is done to it, and undone. */
  const REPLACEMENTS: [string, (pair: Pair) => void, (pair: Pair) => void][] = [
    [
      'removed',
      (pair) => renameSync(pair.path('backup'), pair.path('aside')),
      (pair) => renameSync(pair.path('aside'), pair.path('backup')),
    ],
    [
      'made anew',
      (pair) => {
        renameSync(pair.path('backup'), pair.path('aside'));
        mkdirSync(pair.path('backup'));
      },
      (pair) => {
        rmSync(pair.path('backup'), { recursive: true });
        renameSync(pair.path('aside'), pair.path('backup'));
      },
    ],
    [
      'a link elsewhere',
      (pair) => {
        renameSync(pair.path('backup'), pair.path('aside'));
        symlinkSync('volume', pair.path('backup'));
      },
      (pair) => {
        rmSync(pair.path('backup'));
        renameSync(pair.path('aside'), pair.path('backup'));
      },
    ],
  ];

  test.each(REPLACEMENTS)('that is %s takes nothing until it is back', async (_, replace, undo) => {
    await using backup = await Backup.start('replaced');
    const { pair, program } = backup;
    writeFileSync(pair.path('source', 'file'), 'words');
    const first = await backup.identify();
    const send = await backup.beginRsync();
    replace(pair);
    await program.shows(
      new RegExp(`\\[ERROR .*DEST_DIR=${pair.path('backup')} ${REPLACED}（启动时: .*inode \\d+，创建于 `),
    );
    const { status } = await send('file\n');
    expect(status).not.toBe(0);
    await eventually(() => backup.health === `不健康: 目标目录 ${pair.path('backup')} ${REPLACED}\n`);
    expect(backup.status).toMatchObject({ problems: ['destination'], destination: { trouble: 'replaced' } });

    for (const command of ['--identify', '--rename', '--identify']) {
      const { stderr, stdout } = await backup.ask(`start-sshd ${command} '${pair.path('backup')}'`);
      expect(stdout).toBe('');
      expect(stderr).toContain(`${REPLACED}（启动时: `);
      expect(stderr).toContain('请检查挂载；若是有意更换，请重启 start-sshd');
    }
    expect((await backup.mirror()).stderr).toContain(REPLACED);
    expect((await backup.ask('echo in')).stdout).toBe('in\n');
    await eventually(() => backup.status.refused === 4);
    expect(count(program.output, '拒绝执行源端的命令')).toBe(1);
    expect(count(program.output, '[ERROR')).toBe(1);
    for (const name of ['aside', 'volume', 'backup'])
      if (existsSync(pair.path(name))) expect(readdirSync(pair.path(name))).toEqual([]);

    const offset = program.output.length;
    undo(pair);
    await program.shows('又是启动时的目录，恢复接收镜像 ✓', offset);
    await eventually(() => backup.health.startsWith('健康: '));
    expect(await backup.mirror()).toMatchObject({ status: 0, stderr: '' });
    const back = await backup.identify();
    expect(back).toEqual({ ...first, start: back.start });
    expect(back.start).not.toBe(first.start);
    expect(count(program.output, 'Server listening')).toBe(0);
  });

  test('that is a link is left at once by what waits when that leads elsewhere', async () => {
    for (let n = 0; n < 3; n++) {
      await using backup = await Backup.start('flipped', (its) => {
        symlinkSync('backup', its.path('current'));
        return { DEST_DIR: `${its.path('current')}/` };
      });
      const { pair } = backup;
      writeFileSync(pair.path('source', 'file'), 'words');
      const send = await backup.beginRsync(pair.path('current'));
      symlinkSync('volume', pair.path('next'));
      renameSync(pair.path('next'), pair.path('current'));
      await sleep(500); // a look alone comes within a second or two
      expect((await send('file\n')).status).not.toBe(0);
      await backup.program.shows(REPLACED);
      for (const name of ['backup', 'volume']) expect(readdirSync(pair.path(name))).toEqual([]);
    }
  });

  test('that was replaced on purpose is taken by the next start, as another one', async () => {
    await using backup = await Backup.start('replaced-on-purpose');
    const { pair } = backup;
    const first = await backup.identify();
    rmSync(pair.path('backup'), { recursive: true });
    await backup.program.shows(REPLACED);
    await backup.restart();
    expect((await backup.identify()).directory).not.toBe(first.directory);
    expect(await backup.mirror()).toMatchObject({ status: 0 });
  });

  test('that cannot be made is made as soon as that is possible', async () => {
    await using backup = await Backup.start('unmade', (of) => {
      writeFileSync(of.path('blocked'), 'a file in its place');
      return { DEST_DIR: of.path('blocked', 'backup') };
    });
    const { pair, program } = backup;
    expect(program.output).toContain('无法写入：ENOTDIR');
    const path = pair.path('blocked', 'backup');
    expect((await backup.mirror(path)).stderr).toContain(`DEST_DIR=${path} 无法使用`);
    rmSync(pair.path('blocked'));
    await program.shows('可以使用了，开始接收镜像 ✓');
    expect(await backup.mirror(path)).toMatchObject({ status: 0 });
    expect(count(program.output, '无法写入')).toBe(1);
  });
});

type Four = [string, string, string, string];

describe.skipIf(!canMount).concurrent('what is mounted', () => {
  const ownMounts = () => withMounts('true');
  /** Where something is as the program sees it. */
  const seen = (backup: Backup, ...names: string[]) => `/proc/${backup.program.pid}/root${backup.pair.path(...names)}`;

  test('over DEST_DIR while an rsync waits gets no batch, and neither does what it hides', async () => {
    await using backup = await Backup.startMounted('mounted-over', ownMounts);
    const { pair, program } = backup;
    writeFileSync(pair.path('source', 'file'), 'words');
    const first = await backup.identify();
    const send = await backup.beginRsync();
    const listener = /PID: (\d+)/.exec(program.output)?.[1];
    backup.inside(`mount -t tmpfs tmpfs '${pair.path('backup')}'`);
    await program.shows(REPLACED);
    await eventually(() => remoteRsyncsOf(pair).length === 0);
    expect((await send('file\n')).status).not.toBe(0);
    expect((await backup.mirror()).stderr).toContain(REPLACED);
    for (const path of [pair.path('backup'), seen(backup, 'backup')]) expect(readdirSync(path)).toEqual([]);
    expect(existsSync(`/proc/${listener}`)).toBe(true);

    backup.inside(`umount '${pair.path('backup')}'`);
    await program.shows('又是启动时的目录');
    expect(await backup.mirror()).toMatchObject({ status: 0 });
    expect(readdirSync(pair.path('backup'))).toEqual(['file']);
    expect((await backup.identify()).start).not.toBe(first.start);
    expect(program.output).not.toContain('之内的挂载有变化');
  });

  test('over DEST_DIR of a mirror holds up the source, which loses nothing', async () => {
    await using backup = await Backup.startMounted('mirror-held', ownMounts);
    const { pair, program } = backup;
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'before'), 'words');
    await pair.isMirrored();
    backup.inside(`mount -t tmpfs tmpfs '${pair.path('backup')}'`);
    await program.shows(REPLACED);
    await eventually(() => remoteRsyncsOf(pair).length === 0);
    writeFileSync(pair.path('source', 'meanwhile'), 'words');
    await source.shows(REPLACED);
    expect(readdirSync(pair.path('backup'))).toEqual(['before']);
    expect(readdirSync(seen(backup, 'backup'))).toEqual([]);
    backup.inside(`umount '${pair.path('backup')}'`);
    await pair.isMirrored(60_000); // tries may be some seconds apart by now
  });

  test('below DEST_DIR, or unmounted there, has the source begin anew', async () => {
    await using backup = await Backup.startMounted('mounted-below', ownMounts);
    const { pair, program } = backup;
    mkdirSync(pair.path('backup', 'disk'));
    let { start } = await backup.identify();
    for (const [command, told] of [
      [`mount -t tmpfs tmpfs '${pair.path('backup', 'disk')}'`, `新挂载 ${pair.path('backup', 'disk')}`],
      [
        `umount '${pair.path('backup', 'disk')}' && mount --bind '${pair.path('volume')}' '${pair.path('backup', 'disk')}'`,
        `新挂载 ${pair.path('backup', 'disk')}；已卸载 ${pair.path('backup', 'disk')}`,
      ],
      [`umount '${pair.path('backup', 'disk')}'`, `已卸载 ${pair.path('backup', 'disk')}`],
    ] as const) {
      const offset = program.output.length;
      const send = await backup.beginRsync();
      program.signal('SIGSTOP'); // or it might look between two of the commands
      backup.inside(command);
      program.signal('SIGCONT');
      await program.shows(`之内的挂载有变化（${told}），已断开源端`, offset);
      expect((await send('')).status).not.toBe(0);
      const now = await backup.identify();
      expect(now.start).not.toBe(start);
      ({ start } = now);
    }
    backup.inside(`mount -t tmpfs tmpfs '${pair.path('disk')}'`);
    await Bun.sleep(2500);
    expect((await backup.identify()).start).toBe(start);
    expect(backup.health).toStartWith('健康: ');
  });

  const onDisk = (of: Pair) => ({ DEST_DIR: of.path('disk', 'backup') });
  const mountDisk = (of: Pair) => `mount --bind '${of.path('volume')}' '${of.path('disk')}'`;
  const mounted = (of: Pair) => withMounts(mountDisk(of));
  const memoryOf = (of: Pair) => of.path('host-keys', 'destination.json');

  test('not any more where DEST_DIR was gets no directory, and the backup waits for it', async () => {
    await using backup = await Backup.startMounted('unmounted', mounted, onDisk);
    const { pair } = backup;
    const path = pair.path('disk', 'backup');
    writeFileSync(pair.path('source', 'file'), 'words');
    expect(await backup.mirror(path)).toMatchObject({ status: 0 });
    const first = await backup.identify(path);
    expect(statSync(memoryOf(pair)).mode & 0o777).toBe(0o600);

    await backup.restart(withMounts('true'));
    const { program } = backup;
    expect(program.output).toMatch(/\[ERROR .*所在的磁盘没有挂载：此前位于挂载点 .*\/disk，现在那里没有挂载/);
    expect(program.output).toContain(`请删除 ${memoryOf(pair)}`);
    await eventually(() => backup.health === `不健康: 目标目录 ${path} 所在的磁盘没有挂载\n`);
    for (let n = 0; n < 3; n++) expect((await backup.mirror(path)).stderr).toContain('所在的磁盘没有挂载');
    expect((await backup.ask(`start-sshd --identify '${path}'`)).stderr).toContain('所在的磁盘没有挂载');
    expect(readdirSync(pair.path('disk'))).toEqual([]);
    await eventually(() => backup.status.refused === 4);
    expect(count(program.output, '拒绝执行源端的命令')).toBe(1);

    const mountedAt = performance.now();
    backup.inside(mountDisk(pair));
    await program.shows('可以使用了，开始接收镜像 ✓');
    expect(performance.now() - mountedAt).toBeLessThan(5000);
    const back = await backup.identify(path);
    expect(back).toMatchObject({ boot: first.boot, directory: first.directory });
    expect(await backup.mirror(path)).toMatchObject({ status: 0, stderr: '' });
    await eventually(() => backup.health.startsWith('健康: '));
    expect(program.output).not.toContain('与上次启动时不同');
    expect(readdirSync(pair.path('disk'))).toEqual([]);
  });

  test('over itself, as systemd does with what a service may write, is no disk', async () => {
    await using backup = await Backup.startMounted('over-itself', mounted, onDisk);
    const { pair } = backup;
    const itself = `mount --bind '${pair.path('disk')}' '${pair.path('disk')}'`;
    await backup.restart(withMounts(mountDisk(pair), itself));
    expect(backup.program.output).not.toMatch(/WARN|ERROR/);
    await backup.restart(withMounts(itself));
    expect(backup.program.output).toContain('所在的磁盘没有挂载');
    expect(readdirSync(pair.path('disk'))).toEqual([]);
  });

  test('at the same place is taken as a new disk, and told', async () => {
    await using backup = await Backup.startMounted('another-disk', mounted, onDisk);
    const { pair } = backup;
    const path = pair.path('disk', 'backup');
    const first = await backup.identify(path);
    await backup.restart(withMounts(`mount -t tmpfs tmpfs '${pair.path('disk')}'`));
    expect(backup.program.output).toMatch(/\[WARN .*所在的文件系统与上次启动时不同（上次: 挂载点 .*；现在: 挂载点 /);
    expect((await backup.identify(path)).directory).not.toBe(first.directory);
    expect(await backup.mirror(path)).toMatchObject({ status: 0 });
  });

  test('not any more, and forgotten on purpose, is not waited for', async () => {
    await using backup = await Backup.startMounted('forgotten', mounted, onDisk);
    const { pair } = backup;
    await backup.restart(withMounts('true'));
    rmSync(memoryOf(pair));
    await backup.program.shows('可以使用了，开始接收镜像 ✓');
    expect(await backup.mirror(pair.path('disk', 'backup'))).toMatchObject({ status: 0 });
    expect(readdirSync(pair.path('disk'))).toEqual(['backup']);
  });

  test.each([1, 4])(
    'that comes back from a power cut %d s after the last change without it is completed at once',
    async (seconds) => {
      await using pair = await Pair.withKeys('power-cut');
      await using namespace = await Namespace.make();
      const [disk, image, cut, boot] = ['disk', 'image', 'cut', 'boot'].map((name) => pair.path(name)) as Four;
      mkdirSync(disk);
      // Without a commit of its own the file system writes nothing down but what it must.
      namespace.run('truncate -s 32M "$1"; mkfs.ext4 -q "$1"; mount -o loop,commit=300 "$1" "$2"', image, disk);
      writeFileSync(pair.path('source', 'before'), 'words');
      const DEST_DIR = pair.path('disk', 'backup');
      const backup = pair.start('start-sshd', { DEST_DIR }, namespace.wrapper);
      const source = pair.start('rsync-inotify', { DEST_DIR, SYNC_INTERVAL: '0' });
      await source.shows('✓ 服务运行中');
      namespace.run('sync -f "$1"', DEST_DIR);
      const offset = source.output.length;
      writeFileSync(pair.path('source', 'after'), 'words');
      await source.shows('同步成功', offset);
      await Bun.sleep(seconds * 1000);
      namespace.run('cp "$1" "$2"', image, cut);

      await backup.stop();
      writeFileSync(boot, `${randomUUID()}\n`);
      await eventually(() => namespace.run('umount "$1"', disk) === ''); // what was ended may need a moment to go
      namespace.run('mount -o loop "$2" "$1"', disk, cut);
      expect(namespace.run('ls "$1"', DEST_DIR)).toBe('before\n');
      namespace.run('mount --bind "$1" /proc/sys/kernel/random/boot_id', boot);
      const again = pair.start('start-sshd', { DEST_DIR }, namespace.wrapper);
      await again.shows('SSH 服务器就绪');
      await source.shows(/\[WARN .*备份端已重新启动/, offset, 60_000);
      await eventually(() => namespace.run('ls "$1"', DEST_DIR) === 'after\nbefore\n');
      expect(namespace.run('cat "$1/after"', DEST_DIR)).toBe('words');
      await source.stop();
      await again.stop();
    },
  );
});
