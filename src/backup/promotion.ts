/**
 * Has the backup take over, and be a backup again: --promote and --demote, while the service runs. The mark is what counts, whoever makes
 * it; what is seen to here is that nothing goes on that was let in before.
 *
 *   const promotion = new Promotion({ config, guard, key, sshd, reports });
 *   await promotion.keep();
 *   await promotion.commands.promote(); // { isDone: true, text: '备份端已接管 …' }
 */
import type { Command, Reply } from '../service/control.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { localTime, reasonOf, t } from '../service/text.ts';
import type { SharedKey } from './authorized-keys.ts';
import type { Config } from './config.ts';
import type { Guard } from './guard.ts';
import { PromotionMark } from './promotion-mark.ts';
import type { Reports } from './reports.ts';
import type { Sshd } from './sshd.ts';

/** How long --demote waits until DEST_DIR can be received into; then that goes on without it, ms. */
const RENEW_MS = 2000;

interface Parts {
  config: Pick<Config, 'DEST_DIR' | 'HOST_KEY_DIR'>;
  guard: Pick<Guard, 'rest' | 'renew'>;
  key: Pick<SharedKey, 'restrict'>;
  sshd: Pick<Sshd, 'endSessionsForGood'>;
  reports: Pick<Reports, 'renewBar'>;
}

/** What --allow-restore says meanwhile: the order in which nothing is overwritten. */
const UNREADABLE = t`备份端已接管，源端的一切命令都被拒绝，也不能恢复。请先停止源端的服务，再执行 start-sshd --demote，然后重新执行本命令；或从本机用 rsync-inotify 镜像到源端`;

/** What --promote says where something of the source would not end. */
export const UNFINISHED = t`接管标记已写入，但源端的命令还没有全部结束（例如磁盘没有应答），仍可能写入。请稍后再次执行 start-sshd --promote`;

/** What it says where nothing of the source is left. */
export const describePromoted = (directory: string, since: Date) =>
  t`备份端已接管 DEST_DIR=${directory}，自 ${localTime(since)} 起：不接收镜像，直到 start-sshd --demote`;

export const describeDemoted = (directory: string) =>
  t`DEST_DIR=${directory} 重新接收镜像：源端随即比较全部内容，并以源端的内容为准`;

export const describeNoMark = (directory: string) => t`DEST_DIR=${directory} 没有被接管，照常接收镜像`;

export class Promotion {
  private readonly mark: PromotionMark;
  /** Since when the backup has taken over, as far as that is known here. */
  private since: Date | undefined;
  private turn: Promise<unknown> = Promise.resolve();
  private hasFailed = false;
  private readonly promotedAtStart: Date | undefined;

  readonly commands: Record<'promote' | 'demote', Command> = {
    promote: () => this.inTurn(() => this.promote()),
    demote: () => this.inTurn(() => this.demote()),
  };

  /** @throws where it cannot be known whether the backup has taken over */
  constructor(private readonly parts: Parts) {
    this.mark = new PromotionMark(parts.config);
    this.promotedAtStart = this.since = this.mark.since; // nothing has been let in
  }

  /** Follows the mark, which may also be made while the service cannot be asked, as long as the program runs. */
  async keep(): Promise<void> {
    if (this.promotedAtStart) this.tell();
    while (!lifecycle.stopping) {
      await this.inTurn(() => this.follow());
      await lifecycle.nextBeat();
    }
  }

  /** Has a command of an operator refused while the backup has taken over, for what it lets the source do would be. */
  unlessPromoted(command: Command): Command {
    return async (request, gone) => (this.since ? { isDone: false, text: UNREADABLE } : command(request, gone));
  }

  /** Tells since when the backup has taken over; null where it has not. */
  report(): string | null {
    return this.since?.toISOString() ?? null;
  }

  /** Does one thing at a time. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => {});
    return done;
  }

  /** Looks for the mark; returns whether what is known of it has changed. */
  private look(): boolean {
    const { since } = this.mark;
    const isNew = Boolean(since) !== Boolean(this.since);
    this.since = since;
    if (isNew) touch();
    return isNew;
  }

  private async follow(): Promise<void> {
    try {
      const isNew = this.look();
      this.hasFailed = false;
      if (!isNew) return;
      if (this.since) this.tell();
      await (this.since ? this.begin() : this.end());
    } catch (cause) {
      const what = t`无法得知备份端是否已接管，或无法照此执行：${reasonOf(cause)}。请检查 HOST_KEY_DIR 和 SSH_DIR`;
      if (!this.hasFailed) error('promotion.failed', what);
      this.hasFailed = true;
    }
  }

  /** @throws where the mark cannot be made, or the key not be restricted */
  private async promote(): Promise<Reply> {
    const { mark, parts } = this;
    mark.put();
    if (this.look()) this.tell();
    const isOver = await this.begin();
    const text = isOver ? describePromoted(parts.config.DEST_DIR, this.since ?? new Date()) : UNFINISHED;
    return { isDone: isOver, text };
  }

  /** @throws where the mark cannot be removed */
  private async demote(): Promise<Reply> {
    const { mark, parts } = this;
    const { DEST_DIR } = parts.config;
    if (!mark.since) return { isDone: true, text: describeNoMark(DEST_DIR) };
    mark.remove();
    this.look();
    await this.end();
    return { isDone: true, text: describeDemoted(DEST_DIR) };
  }

  private tell(): void {
    const [{ DEST_DIR }, since = new Date()] = [this.parts.config, this.since];
    warn('promotion.begun', describePromoted(DEST_DIR, since), { since: since.toISOString() });
  }

  /** Ends what was let in before; resolves with whether nothing of it is left. @throws {Failure} */
  private async begin(): Promise<boolean> {
    const { key, sshd, guard, reports } = this.parts;
    reports.renewBar();
    const restricting = Promise.try(() => key.restrict()); // with ALLOW_SHELL, it may run nothing else from now on
    const [{ isOver }] = await Promise.all([sshd.endSessionsForGood(), restricting]);
    await guard.rest();
    return isOver;
  }

  /** Lets the source in again, as another start would. @throws {Failure} */
  private async end(): Promise<void> {
    const { config, key, guard, reports } = this.parts;
    log('promotion.ended', describeDemoted(config.DEST_DIR));
    reports.renewBar();
    const renewing = guard.renew();
    lifecycle.background(renewing);
    key.restrict();
    await Promise.race([renewing, lifecycle.pause(RENEW_MS)]);
  }
}
