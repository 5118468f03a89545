/**
 * What says whether a target can be reached, and is made anew whenever it ends: the SSH connection that all shares, or what stands in its
 * place where there is none.
 *
 *   link.on('connected', () => sender.arm());
 *   lifecycle.background(link.keep());
 */
import { EventEmitter } from 'node:events';
import { lifecycle, newBackoff } from '../service/lifecycle.ts';
import { touch } from '../service/status.ts';
import { reasonOf } from '../service/text.ts';
import type { Host } from './config.ts';
import { type Route, tryLogin } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/** How long is waited at most until the next try, ms: whom a backup turns away because many come at once, it lets in within a minute nevertheless. */
const LONGEST_WAIT_MS = 20_000;
/** Spreads waits, ms: all sources of a backup that is restarted lose it at the same moment, and would come back at the same one. */
const spread = (ms: number) => ms * (0.5 + Math.random() / 2);

/** What is told of it, in words for people. */
export interface Words {
  failed: (why: string) => string;
  lost: (what: string) => string;
  restored: string;
}

/** Emits `tried` after each try to connect, `connected` and `lost`. */
export abstract class Link<Opened = unknown> extends EventEmitter {
  /** What tells it from those before and after it, while it stands: of SSH, where it is shared. */
  socket: string | undefined;
  /** A directory that goes with it, in which files may be put down that nobody watches. */
  directory: string | undefined;
  private hasStood = false;
  /** What was opened before it is kept up. */
  private ahead: Opened | undefined;
  protected abstract readonly words: Words;

  constructor(
    protected readonly host: Host,
    protected readonly state: TargetState,
  ) {
    super();
  }

  /** Finds how an rsync gets to the target. @throws {Failure} */
  abstract findRoute(): Route;

  /** Says what an rsync's exit status means where it could not connect. */
  abstract statusOf(status: number): Promise<number>;

  /** Resolves once it stands. @throws {Failure} with why it does not */
  protected abstract open(): Promise<Opened>;

  protected abstract stands(opened: Opened): boolean;

  /** Resolves when it has ended, or is to be made anew, with what has come of it. */
  protected abstract outlast(opened: Opened): Promise<string>;

  /** Ends what is left of it. */
  protected abstract close(opened: Opened): void;

  /** Looks around before it is opened. */
  protected async prepare(): Promise<void> {}

  /** Tells why the other side lets nobody in, as far as that is known, by what was said of a try. */
  async explain(_said: string): Promise<void> {}

  /** Takes in that it stands. */
  protected settle(): void {}

  /**
   * Opens it before it is kept up: the test of the login then needs no login of its own, and what waits for work gets ready meanwhile.
   * Where that fails, the test says why.
   */
  async openAhead(): Promise<void> {
    this.ahead = await this.open().catch(() => undefined);
    if (this.ahead) this.emit('connected');
  }

  /** Opens anew what was opened ahead: what a key may do, and by which name it is known, is settled when it logs in. */
  async renewAhead(): Promise<void> {
    const { ahead } = this;
    if (!ahead) return;
    this.ahead = this.socket = undefined;
    this.emit('lost');
    this.close(ahead);
    await this.openAhead();
  }

  /** Takes what was opened ahead, if it still stands. */
  private takeAhead(): Opened | undefined {
    const { ahead } = this;
    this.ahead = undefined;
    if (ahead && !this.stands(ahead)) this.emit('lost');
    return ahead && this.stands(ahead) ? ahead : undefined;
  }

  /** Opens it, and anew whenever it ends; tries again soon after the backup has come or gone. */
  async keep(): Promise<void> {
    let backoff = newBackoff(LONGEST_WAIT_MS);
    let wasUp = false;
    for (let isLost = false; !lifecycle.stopping; isLost = true) {
      await this.prepare();
      const ahead = this.takeAhead();
      const opened = ahead ?? (await this.openOrTell(isLost));
      if (opened) this.state.up = this.hasStood = true;
      else if (this.state.up || !this.hasStood) this.state.up = await this.answers().catch(() => false);
      touch();
      this.emit('tried');
      if (this.state.up !== wasUp) backoff = newBackoff(LONGEST_WAIT_MS);
      wasUp = this.state.up;
      if (opened) {
        if (isLost) this.state.log('connection.restored', this.words.restored);
        this.state.voice.noteReached();
        this.settle();
        if (!ahead) this.emit('connected');
        this.tellLost(opened, await this.outlast(opened));
      } else {
        await lifecycle.pause(spread(backoff.next().value));
      }
    }
  }

  private openOrTell(isLost: boolean): Promise<Opened | undefined> {
    return this.open().catch((cause) => {
      if (isLost || lifecycle.stopping) return undefined;
      this.state.warn('connection.failed', this.words.failed(reasonOf(cause)));
    });
  }

  private tellLost(opened: Opened, what: string): void {
    this.socket = undefined;
    this.state.up = false;
    this.emit('lost');
    this.close(opened);
    if (lifecycle.stopping) return;
    this.state.absence.begin(performance.now());
    this.state.warn('connection.lost', this.words.lost(what));
  }

  /** Whether a login works without it. @throws {Failure} where nothing is known any more of the host's keys */
  protected async answers(): Promise<boolean> {
    return (await tryLogin(this.host, this.findRoute())).exitCode === 0;
  }
}
