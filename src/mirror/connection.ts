/**
 * The SSH connection that all that goes to a backup host shares: a master of ssh in the foreground, as a child of ours.
 *
 *   connection.on('connected', () => sender.arm());
 *   lifecycle.background(connection.keep());
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lifecycle } from '../service/lifecycle.ts';
import { children, signalGroup, startOnLeash, tailOf } from '../service/processes.ts';
import { Failure, t } from '../service/text.ts';
import { describeTaken } from './claims.ts';
import { type Host, loginOf } from './config.ts';
import { isWatched } from './environment.ts';
import { type HostKeys, temporaryDirectory } from './host-keys.ts';
import { keyFile, publicHalfOf } from './keys.ts';
import { Link } from './link.ts';
import { type Route, reasonOfSsh, sshArgs, tryLogin, UNREACHABLE } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How long it may take to connect, ms. */
const CONNECT_MS = 30_000;

/** The exit status of an rsync whose pipe to the other side has ended. */
const PIPE_ENDED = 12;

/**
 * Says what an rsync's exit status means where ssh could not connect for it alone: rsync ends with 255 or with 12, by whether it
 * notices the end of ssh or that of the pipe to it first.
 */
export async function statusOf(status: number, host: Host, findRoute: () => Route): Promise<number> {
  if (status !== PIPE_ENDED || lifecycle.stopping) return status;
  const answer = await Promise.try(findRoute)
    .then((route) => tryLogin(host, route))
    .catch(() => undefined);
  return answer?.exitCode === UNREACHABLE ? UNREACHABLE : status;
}

export class Connection extends Link<ChildProcess> {
  protected readonly words = {
    failed: (why: string) => t`无法建立共享的 SSH 连接，将自动重试：${why}`,
    lost: (what: string) => t`${what}，正在重新连接...`,
    restored: t`SSH 连接已恢复 ✓`,
  };
  /** Whether it was told that another one has our name. */
  private isTakenTold = false;

  constructor(
    host: Host,
    private readonly hostKeys: HostKeys,
    state: TargetState,
  ) {
    super(host, state);
  }

  /** Finds how ssh gets to the backup. Where nothing is shared, it connects by itself: the host keys are read anew. @throws {Failure} */
  findRoute(): Route {
    const { socket, hostKeys } = this;
    return { socket, knownHosts: socket ? hostKeys.file : hostKeys.refresh() };
  }

  protected override prepare(): Promise<void> {
    return this.hostKeys.look();
  }

  protected override settle(): void {
    this.hostKeys.forgetRefusal();
    this.isTakenTold = false;
  }

  protected stands(ssh: ChildProcess): boolean {
    return children.has(ssh);
  }

  /** Says what an rsync's exit status means where ssh could not connect. */
  async statusOf(status: number): Promise<number> {
    return this.socket ? status : statusOf(status, this.host, () => this.findRoute());
  }

  protected async outlast(ssh: ChildProcess): Promise<string> {
    const { socket = '' } = this;
    const isRemoved = await this.isRemoved(ssh, socket);
    return isRemoved ? t`共享的 SSH 连接的套接字 ${socket} 被删除，例如被清理临时文件的程序` : t`SSH 连接已断开`;
  }

  protected close(ssh: ChildProcess): void {
    signalGroup(ssh, 'SIGTERM');
  }

  /**
   * Resolves when it has ended, with false, or with true once its socket is gone, without which each rsync would connect by itself and
   * could not report. An ssh that ends removes it itself, a moment before it is gone. A sync that is under way is let finish.
   */
  private isRemoved(ssh: ChildProcess, socket: string): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = async () => {
      let wasMissing = false;
      while (children.has(ssh) && !lifecycle.signal.aborted) {
        await lifecycle.nextBeat();
        const isMissing = !existsSync(socket);
        if (isMissing && wasMissing && !this.state.syncing) resolve(true);
        wasMissing = isMissing;
      }
    };
    if (children.has(ssh)) ssh.once('exit', () => resolve(false));
    else resolve(false);
    lifecycle.background(look());
    return promise;
  }

  /** Resolves once it stands. @throws {Failure} with the last words of ssh */
  protected async open(): Promise<ChildProcess> {
    const knownHosts = this.hostKeys.refresh();
    const directory = temporaryDirectory(this.host.config);
    const socket = join(directory, 'ssh');
    const options = ['-N', '-o', 'ControlMaster=yes', '-o', 'ControlPersist=no'];
    const args = [...options, ...sshArgs(this.host, { socket, knownHosts }), loginOf(this.host)];
    const ssh = startOnLeash(['ssh', ...args], 'ignore', directory);
    ssh.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    const said = tailOf(ssh.stderr);
    const latest = performance.now() + CONNECT_MS;
    while (children.has(ssh) && performance.now() < latest) {
      if (existsSync(socket)) {
        this.socket = socket;
        this.directory = isWatched(this.host.config, socket) ? undefined : dirname(socket);
        return ssh;
      }
      await sleep(10);
    }
    signalGroup(ssh, 'SIGKILL');
    await this.explain(said());
    throw new Failure(reasonOfSsh(said()) || t`超时`);
  }

  /** Tells, once until a connection stands, why the backup is not trusted, or does not take our key, as far as that is known. */
  override async explain(said: string): Promise<void> {
    this.hostKeys.explain(said);
    const { SHARED_KEYS_DIR, SOURCE_NAME } = this.host.config;
    if (!SOURCE_NAME || this.isTakenTold || !said.includes('Permission denied')) return;
    const line = await publicHalfOf(keyFile(this.host.config)).catch(() => undefined);
    const taken = line && describeTaken(SHARED_KEYS_DIR, SOURCE_NAME, line);
    if (!taken || this.isTakenTold) return;
    this.isTakenTold = true;
    this.state.error('key.taken', taken, { source: SOURCE_NAME });
  }
}
