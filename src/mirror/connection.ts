/**
 * The SSH connection that all that goes to a backup host shares: a master of ssh in the foreground, as a child of ours.
 *
 *   connection.on('connected', () => sender.arm());
 *   lifecycle.background(connection.keep());
 */
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lifecycle, newBackoff } from '../service/lifecycle.ts';
import { children, signalGroup, startOnLeash, tailOf } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { Failure, reasonOf, t } from '../service/text.ts';
import { type Host, isWatched, loginOf } from './config.ts';
import { type HostKeys, temporaryDirectory } from './host-keys.ts';
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

/** Emits `tried` after each try to connect, `connected` and `lost`. */
export class Connection extends EventEmitter {
  /** Where it is shared, while it stands. */
  socket: string | undefined;
  /** A directory that goes with it, in which files may be put down that nobody watches. */
  directory: string | undefined;
  private hasStood = false;
  /** What was opened before it is kept up. */
  private ahead: ChildProcess | undefined;

  constructor(
    private readonly host: Host,
    private readonly hostKeys: HostKeys,
    private readonly state: TargetState,
  ) {
    super();
  }

  /** Finds how ssh gets to the backup. Where nothing is shared, it connects by itself: the host keys are read anew. @throws {Failure} */
  findRoute(): Route {
    const { socket, hostKeys } = this;
    return { socket, knownHosts: socket ? hostKeys.file : hostKeys.refresh() };
  }

  /**
   * Opens it before it is kept up: the test of the login then needs no login of its own, and what waits for work gets ready meanwhile.
   * Where that fails, the test says why.
   */
  async openAhead(): Promise<void> {
    this.ahead = await this.open().catch(() => undefined);
    if (this.ahead) this.emit('connected');
  }

  /** Takes what was opened ahead, if it still stands. */
  private takeAhead(): ChildProcess | undefined {
    const { ahead } = this;
    this.ahead = undefined;
    if (ahead && !children.has(ahead)) this.emit('lost');
    return ahead && children.has(ahead) ? ahead : undefined;
  }

  /** Opens it, and anew whenever it ends; tries again soon after the backup has come or gone. */
  async keep(): Promise<void> {
    let backoff = newBackoff();
    let wasUp = false;
    for (let isLost = false; !lifecycle.stopping; isLost = true) {
      await this.hostKeys.look();
      const open = () =>
        this.open().catch((cause) => {
          if (isLost || lifecycle.stopping) return;
          this.state.warn('connection.failed', t`无法建立共享的 SSH 连接，将自动重试：${reasonOf(cause)}`);
        });
      const ahead = this.takeAhead();
      const ssh = ahead ?? (await open());
      if (ssh) this.state.up = this.hasStood = true;
      else if (this.state.up || !this.hasStood) this.state.up = await this.answers().catch(() => false);
      touch();
      this.emit('tried');
      if (this.state.up !== wasUp) backoff = newBackoff();
      wasUp = this.state.up;
      if (ssh) {
        if (isLost) this.state.log('connection.restored', t`SSH 连接已恢复 ✓`);
        this.state.voice.noteReached();
        this.hostKeys.forgetRefusal();
        if (!ahead) this.emit('connected');
        await this.outlast(ssh, this.socket ?? '');
      } else {
        await lifecycle.pause(backoff.next().value);
      }
    }
  }

  /** Whether a login works without it. @throws {Failure} where nothing is known any more of the host's keys */
  private async answers(): Promise<boolean> {
    return (await tryLogin(this.host, this.findRoute())).exitCode === 0;
  }

  /** Says what an rsync's exit status means where ssh could not connect. */
  async statusOf(status: number): Promise<number> {
    return this.socket ? status : statusOf(status, this.host, () => this.findRoute());
  }

  /** Resolves when it has ended, or is to be made anew. */
  private async outlast(ssh: ChildProcess, socket: string): Promise<void> {
    const isRemoved = await this.isRemoved(ssh, socket);
    this.socket = undefined;
    this.state.up = false;
    this.emit('lost');
    signalGroup(ssh, 'SIGTERM');
    if (lifecycle.stopping) return;
    const what = isRemoved ? t`共享的 SSH 连接的套接字 ${socket} 被删除，例如被清理临时文件的程序` : t`SSH 连接已断开`;
    this.state.absence.begin(performance.now());
    this.state.warn('connection.lost', t`${what}，正在重新连接...`);
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
  private async open(): Promise<ChildProcess> {
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
    this.hostKeys.explain(said());
    throw new Failure(reasonOfSsh(said()) || t`超时`);
  }
}
