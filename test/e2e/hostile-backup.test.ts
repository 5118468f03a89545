/** A backup that says more than there is to say, or nothing: the source bears it, tells it, and mirrors once the backup is honest. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { isRoot, Pair, remoteRsyncsOf } from '../pair.ts';
import { cleanEnv, content, eventually, Program } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(180_000);

/** What the source may need at most, whatever the backup says, kB: a quiet one needs 90,000. */
const MOST_KB = 300_000;

/** How much the log may hold of it, characters. */
const MOST_OUTPUT = 4_000_000;

/** What the backup does to a command, by the mood that it is in. */
const SCRIPT = `mood=$(cat "$0.mood")
case "$mood:$SSH_ORIGINAL_COMMAND" in
login:echo*) exec yes ;;
login-line:echo*) exec tr '\\0' a </dev/zero ;;
login-error:echo*) exec tr '\\0' a </dev/zero >&2 ;;
line:rsync*) tr '\\0' a </dev/zero >&2 & ;;
lines:rsync*) yes 'of no use' >&2 & ;;
progress:rsync*) yes "$(printf 'a\\rb')" | tr -d '\\n' >&2 & ;;
garbage:rsync*) exec yes ;;
greeting:rsync*) exec tr '\\0' a </dev/zero ;;
errors:rsync*) cat "$0.hello"; while cat "$0.$mood"; do :; done; exit ;;
identity:start-sshd*) exec yes ;;
esac
exec sh -c "$SSH_ORIGINAL_COMMAND"
`;

/** A message of rsync's server that is to be told as an error (io.c): its length, its kind and its words, here without a line end. */
const ERROR = Buffer.concat([Buffer.from([0xe8, 3, 0, 7 + 3]), Buffer.alloc(1000, 'e')]);

/** A backup in a mood, which is an sshd that runs the script for all that is asked of it. */
class Hostile implements AsyncDisposable {
  private constructor(private readonly pair: Pair) {}

  static async make(name: string, mood: string): Promise<Hostile> {
    const pair = await Pair.withKeys(name);
    const hostile = new Hostile(pair);
    hostile.be(mood);
    writeFileSync(pair.path('script'), `#!/bin/sh\n${SCRIPT}`, { mode: 0o755 });
    writeFileSync(pair.path('script.hello'), Buffer.from([27, 0, 0, 0, 1, 2, 3, 4])); // an old protocol, and a seed
    writeFileSync(pair.path('script.errors'), Buffer.concat(Array(100).fill(ERROR)));
    mkdirSync(pair.path('shared', 'host_keys'), { recursive: true });
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('host_key')]);
    copyFileSync(pair.path('host_key.pub'), pair.path('shared', 'host_keys', 'host.ed25519.pub'));
    spawnSync('sh', ['-c', `ssh-keygen -y -f ${pair.path('source-ssh', 'id_rsa')} > ${pair.path('authorized')}`]);
    if (isRoot) mkdirSync('/run/sshd', { recursive: true });
    const settings = [
      ...[`HostKey=${pair.path('host_key')}`, `AuthorizedKeysFile=${pair.path('authorized')}`, 'StrictModes=no'],
      ...['ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no', `ForceCommand=${pair.path('script')}`],
    ].flatMap((setting) => ['-o', setting]);
    const args = ['-D', '-e', '-f', '/dev/null', '-p', `${pair.port}`, ...settings];
    await pair.keep(new Program('/usr/sbin/sshd', args, {})).shows('Server listening');
    return hostile;
  }

  /** Resolves once an rsync waits for names, which is in the mood that the backup was in when it came. */
  async isAwaited(): Promise<void> {
    await eventually(() => remoteRsyncsOf(this.pair).length > 0);
  }

  be(mood: string): void {
    writeFileSync(this.pair.path('script.mood'), mood);
  }

  start(env: Record<string, string> = {}): Program {
    return this.pair.start('rsync-inotify', { SYNC_INTERVAL: '0', ...env });
  }

  write(name: string): void {
    writeFileSync(this.pair.path('source', name), name);
  }

  remove(...names: string[]): void {
    for (const name of names) rmSync(this.pair.path('source', name));
  }

  /** Compares by --verify: how that ends, what it tells, and how much memory it has needed, kB. */
  async verify(LOG_FORMAT: string) {
    const env = { ...cleanEnv(), NO_COLOR: '1', ...this.pair.sourceEnv, LOG_FORMAT };
    const child = Bun.spawn([binary('rsync-inotify'), '--verify'], { env, stdout: 'pipe' });
    let peak = 0; // its own: what wait4(2) tells has that of the test in it, from before it became the program
    const looking = setInterval(() => {
      if (child.exitCode === null) peak = Math.max(peak, peakOf(child) || 0); // nothing of one that has just ended
    }, 10);
    const stdout = await new Response(child.stdout).text();
    clearInterval(looking);
    return { status: await child.exited, stdout, peak };
  }

  isMirrored(): Promise<void> {
    return this.pair.isMirrored(60_000);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.pair[Symbol.asyncDispose]();
  }
}

/** The most memory that a program has needed, kB. */
const peakOf = ({ pid }: { pid: number | undefined }) =>
  Number(/^VmHWM:\s+(\d+)/m.exec(content(`/proc/${pid}/status`))?.[1]);

describe.each(['text', 'json'])('a hostile backup and a log as %s', (LOG_FORMAT) => {
  test.each(['login', 'login-line', 'login-error'])('%s: an answer to the login that never ends', async (mood) => {
    await using backup = await Hostile.make('endless-login', mood);
    const source = backup.start({ LOG_FORMAT });
    await source.shows(/SSH 连接重试\.\.\. \(1\/\d+\)：.*超过 1\.0 MB/);
    expect(peakOf(source)).toBeLessThan(MOST_KB);
    backup.be('honest');
    await source.shows('✓ 服务运行中');
    backup.write('afterwards');
    await backup.isMirrored();
  });

  test.each(['line', 'lines', 'progress', 'errors', 'garbage', 'greeting'])(
    '%s: an rsync with endless talk beside it, or in its place',
    async (mood) => {
      await using backup = await Hostile.make('endless-talk', 'honest');
      const source = backup.start({ LOG_FORMAT });
      await source.shows('✓ 服务运行中');
      await backup.isAwaited();
      const offset = source.output.length;
      backup.be(mood);
      backup.write('by the rsync that waits');
      await source.shows(/同步成功/, offset);
      backup.write('by the next one');
      const isOfWords = ['garbage', 'greeting'].includes(mood);
      await source.shows(isOfWords ? /退出码: \d+/ : /备份端的(输出|标准错误)中有/, offset, 60_000);
      expect(peakOf(source)).toBeLessThan(MOST_KB);
      expect(source.output.length).toBeLessThan(MOST_OUTPUT);
      backup.be('honest');
      backup.write('afterwards');
      await backup.isMirrored();
    },
  );

  test('identity: an endless answer to what the backup is', async () => {
    await using backup = await Hostile.make('endless-identity', 'identity');
    const source = backup.start({ LOG_FORMAT });
    await source.shows('✓ 服务运行中');
    backup.write('file');
    await backup.isMirrored();
    expect(peakOf(source)).toBeLessThan(MOST_KB);
  });

  test.each(['line', 'lines', 'errors'])('%s: endless talk to a question what would be deleted', async (mood) => {
    await using backup = await Hostile.make('endless-question', 'honest');
    const source = backup.start({ LOG_FORMAT, MAX_DELETE: '1' });
    for (const name of ['a', 'b', 'c']) backup.write(name);
    await source.shows('✓ 服务运行中');
    await backup.isMirrored();
    const offset = source.output.length;
    backup.be(mood);
    backup.remove('a', 'b', 'c');
    await source.shows(/备份端的(输出|标准错误)中有/, offset, 60_000);
    expect(peakOf(source)).toBeLessThan(MOST_KB);
    expect(source.output.length).toBeLessThan(MOST_OUTPUT);
    backup.be('honest');
    await source.shows(/deletions?\.held|暂缓|保留/, offset, 60_000);
  });

  test.each(['line', 'lines', 'errors'])('%s: endless talk to --verify', async (mood) => {
    await using backup = await Hostile.make('endless-verify', 'honest');
    const source = backup.start({ LOG_FORMAT });
    backup.write('file');
    await source.shows('✓ 服务运行中');
    backup.be(mood);
    const { status, stdout, peak } = await backup.verify(LOG_FORMAT);
    expect(stdout).toMatch(/备份端的(输出|标准错误)中有/);
    expect(status).toBe(2);
    expect(peak).toBeGreaterThan(0);
    expect(peak).toBeLessThan(MOST_KB);
  });
});
