/**
 * A mount namespace of a test's own: what is mounted there is seen by nobody else, and goes with it.
 *
 *   await using namespace = await Namespace.make();
 *   namespace.run('mount -t tmpfs tmpfs "$1"', pair.path('source', 'disk'));
 *   pair.start('rsync-inotify', {}, namespace.wrapper);
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** Says READY once the namespace is its own, and lives until its standard input ends. */
const HOLD = 'echo READY; exec cat >/dev/null';

export class Namespace {
  private constructor(private readonly holder: ChildProcess) {}

  static async make(): Promise<Namespace> {
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', HOLD], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const isReady = await Promise.race([
      once(holder.stdout as NonNullable<typeof holder.stdout>, 'data').then(() => true),
      once(holder, 'exit').then(() => false),
    ]);
    if (!isReady) throw new Error('no mount namespace is to be had');
    return new Namespace(holder);
  }

  /** The command that starts another one in the namespace. */
  get wrapper(): string[] {
    return ['nsenter', `--mount=/proc/${this.holder.pid}/ns/mnt`, '--'];
  }

  /** Runs a script there with its arguments as $1 and on; throws what it says where it fails. */
  run(script: string, ...args: string[]): string {
    const [command = '', ...rest] = [...this.wrapper, 'sh', '-ec', script, 'sh', ...args];
    const { status, stdout, stderr } = spawnSync(command, rest, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${script}: ${stderr}`);
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.holder, 'exit');
    this.holder.stdin?.end();
    await ended;
  }
}

/** Whether this machine lets the test have one. */
export const mayHaveNamespace = (): boolean =>
  spawnSync('unshare', ['--mount', '--propagation', 'private', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0;
