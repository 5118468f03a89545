/**
 * Whether an rsync daemon can be reached. There is no connection that others share: one of ours waits before any module is chosen, so that
 * it is none of those that `max connections` counts, and tells when the daemon ends or the network is silent.
 *
 *   const link = new DaemonLink(host, state);
 */
import { rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { lifecycle } from '../service/lifecycle.ts';
import { children, signalGroup } from '../service/processes.ts';
import { escapeText, Failure, t } from '../service/text.ts';
import { mistake } from '../service/variables.ts';
import { destinationOf, type Host } from './config.ts';
import { complaintAboutPasswordFile } from './daemon-settings.ts';
import { isWatched } from './environment.ts';
import { temporaryDirectory } from './host-keys.ts';
import { Link } from './link.ts';
import { answersWithin, greeted, greetingOf, type Route } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How long a greeting may take, ms. */
const GREETING_MS = 2000;
/** After how long a silence the network is asked whether it still leads there, ms; after ten seconds without an answer it does not. */
const KEEP_ALIVE_MS = 20_000;
/** How long it is not looked whether the daemon is there where it lets none wait, ms. */
const REST_MS = 300_000;
/** One that is closed sooner than this is not opened again at once, ms. */
const SHORT_LIFE_MS = 5000;
/** Exit statuses of an rsync that has lost a daemon, or was ended for that, and that of one that cannot reach it (`error in socket IO`). */
const CUT_OFF = [12, 20, 30, 137];
const NO_SOCKET = 10;
/** That of one that does not like what it was given, its password file for example. */
const USAGE = 1;

export class DaemonLink extends Link<Socket> {
  protected readonly words = {
    failed: (why: string) => t`无法连接 rsync 守护进程，将自动重试：${why}`,
    lost: (what: string) => t`${what}，正在重新连接...`,
    restored: t`rsync 守护进程的连接已恢复 ✓`,
  };

  constructor(host: Host, state: TargetState) {
    super(host, state);
    process.once('exit', () => this.close());
  }

  /** There is none to be found: rsync connects by itself. */
  findRoute(): Route {
    return {};
  }

  /** Opens nothing: an rsync that waits might take the only connection that there is from the test of the login. */
  override async openAhead(): Promise<void> {}

  protected stands(socket: Socket): boolean {
    return !socket.destroyed;
  }

  /** @throws {Failure} where rsync has not begun because of the file with the password */
  async statusOf(status: number): Promise<number> {
    const { RSYNC_PASSWORD_FILE: path } = this.host.config;
    const complaint = status === USAGE && path && complaintAboutPasswordFile(path);
    if (complaint) throw new Failure(mistake('RSYNC_PASSWORD_FILE', path, complaint).message);
    if (!CUT_OFF.includes(status) || lifecycle.stopping) return status;
    return this.socket && (await this.answers()) ? status : NO_SOCKET;
  }

  protected async open(): Promise<Socket> {
    const socket = await this.greet();
    if (!socket) throw new Failure(t`${escapeText(destinationOf(this.host))} 没有应答`);
    const directory = await Promise.try(temporaryDirectory, this.host.config).catch((cause) => {
      socket.destroy(); // or one more would stand open after each try
      throw cause;
    });
    this.socket = directory;
    this.directory = isWatched(this.host.config, `${directory}/report`) ? undefined : directory;
    Object.assign(this.host.peer, { room: Number.POSITIVE_INFINITY, settleMs: 0 }); // it may have been given more
    return socket;
  }

  protected override answers(): Promise<boolean> {
    const { host, daemonPort = 0 } = this.host;
    return answersWithin(GREETING_MS, host, daemonPort, greetingOf(this.host));
  }

  private async greet(): Promise<Socket | undefined> {
    const { host, daemonPort = 0 } = this.host;
    const socket = await greeted(host, daemonPort, GREETING_MS, greetingOf(this.host));
    socket?.setKeepAlive(true, KEEP_ALIVE_MS);
    socket?.unref();
    return socket;
  }

  /**
   * Resolves once the daemon is gone. That one connection ends says nothing where another one is made at once: since 3.5, a daemon lets none
   * wait for longer than a minute that has chosen no module.
   */
  protected async outlast(first: Socket): Promise<string> {
    for (let socket: Socket | undefined = first; socket; socket = await this.greet()) {
      const since = performance.now();
      const isSilent = await hasFallenSilent(socket);
      if (isSilent) this.endAll();
      if (isSilent || lifecycle.stopping || !(await this.answers())) break;
      if (performance.now() - since < SHORT_LIFE_MS) await lifecycle.pause(SHORT_LIFE_MS);
      await this.rest();
    }
    return t`与 rsync 守护进程的连接已断开`;
  }

  /** Leaves the daemon alone for a while where nothing is sent, and it may have a disk that sleeps, and a log on it. */
  private async rest(): Promise<void> {
    const { state } = this;
    const end = performance.now() + REST_MS;
    while (state.up && !state.isSending && !lifecycle.signal.aborted && performance.now() < end)
      await lifecycle.nextBeat();
  }

  /** Ends the rsyncs that talk to a daemon from which nothing comes any more: they would wait for a quarter of an hour. */
  private endAll(): void {
    const place = destinationOf(this.host);
    for (const child of children) if (child.spawnargs.at(-1) === place) signalGroup(child, 'SIGKILL'); // by SIGTERM, it still tries to say goodbye
  }

  protected close(): void {
    const { directory } = this;
    this.directory = undefined;
    if (directory) rmSync(directory, { recursive: true, force: true });
  }
}

/** Resolves when a connection has ended, with whether that is because nothing comes any more, and nobody has ended it. */
async function hasFallenSilent(socket: Socket): Promise<boolean> {
  let isSilent = false;
  socket.once('error', ({ code }: NodeJS.ErrnoException) => {
    isSilent = code === 'ETIMEDOUT' || code === 'EHOSTUNREACH';
  });
  if (!socket.destroyed) await new Promise((ended) => socket.once('close', ended));
  return isSilent;
}
