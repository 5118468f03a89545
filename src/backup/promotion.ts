/**
 * Has the backup take over, and be a backup again: --promote and --demote, while the service runs, for all of DEST_DIR or for one source of
 * several. The marks are what counts, whoever makes them; what is seen to here is that nothing goes on that was let in before.
 *
 *   const promotion = new Promotion({ config, doors, guard, keys, sshd, reports });
 *   await promotion.keep();
 *   await promotion.commands.promote({ command: 'promote' }, gone); // { isDone: true, text: '备份端已接管 …' }
 */
import type { Command, Reply, Request } from '../service/control.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { backupCommand } from '../service/source-names.ts';
import { touch } from '../service/status.ts';
import { reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { doorFor } from './door-choice.ts';
import { type Doors, fieldsOf } from './doors.ts';
import type { Guard } from './guard.ts';
import { PromotionMarks, type Scope } from './promotion-marks.ts';
import type { Reports } from './reports.ts';
import type { SourceKeys } from './source-keys.ts';
import type { Sshd } from './sshd.ts';

/** How long --demote waits until DEST_DIR can be received into; then that goes on without it, ms. */
const RENEW_MS = 2000;

interface Parts {
  config: Pick<Config, 'DEST_DIR' | 'HOST_KEY_DIR'>;
  doors: Pick<Doors, 'list'>;
  guard: Pick<Guard, 'rest' | 'renew' | 'renewFor'>;
  keys: Pick<SourceKeys, 'restrict' | 'fingerprintOf'>;
  sshd: Pick<Sshd, 'endSessionsForGood'>;
  reports: Pick<Reports, 'renewBar'>;
}

/** What --allow-restore says meanwhile: the order in which nothing is overwritten. */
const describeUnreadable = (name: string) =>
  t`备份端已接管，源端的一切命令都被拒绝，也不能恢复。请先停止源端的服务，再执行 ${backupCommand('--demote', name)}，然后重新执行本命令；或从本机用 rsync-inotify 镜像到源端`;

/** What --promote says where something of the source would not end. */
export const describeUnfinished = (name: string) =>
  t`接管标记已写入，但源端的命令还没有全部结束（例如磁盘没有应答），仍可能写入。请稍后再次执行 ${backupCommand('--promote', name)}`;

/** Takes the source that is named in a request, as somebody may have sent it. */
export const sourceIn = ({ source }: Request) => (source === undefined ? undefined : String(source));

export class Promotion {
  private readonly marks: PromotionMarks;
  /** What the backup has taken over and since when, as far as that is known here. */
  private promoted: Map<string, { scope: Scope; since: Date }>;
  private turn: Promise<unknown> = Promise.resolve();
  private hasFailed = false;
  private readonly promotedAtStart: Scope[];

  readonly commands: Record<'promote' | 'demote', Command> = {
    promote: (request) => this.inTurn(() => this.promote(sourceIn(request))),
    demote: (request) => this.inTurn(() => this.demote(sourceIn(request))),
  };

  /** @throws where it cannot be known whether the backup has taken over */
  constructor(private readonly parts: Parts) {
    this.marks = new PromotionMarks(parts.config, parts.doors);
    this.promoted = this.read();
    this.promotedAtStart = [...this.promoted.values()].map(({ scope }) => scope); // nothing has been let in
  }

  /** Follows the marks, which may also be made while the service cannot be asked, as long as the program runs. */
  async keep(): Promise<void> {
    for (const scope of this.promotedAtStart) this.tell(scope);
    while (!lifecycle.stopping) {
      await this.inTurn(() => this.follow());
      await lifecycle.nextBeat();
    }
  }

  /** Has a command of an operator refused while the backup has taken over, for what it lets the source do would be. */
  unlessPromoted(command: Command): Command {
    return async (request, gone) => {
      const door = doorFor(this.parts.doors.list(), sourceIn(request));
      return this.report(door) ? { isDone: false, text: describeUnreadable(door.name) } : command(request, gone);
    };
  }

  /** Tells since when the backup has taken over a directory, all of DEST_DIR where none is given; null where it has not. */
  report({ directory }: Scope = this.marks.whole): string | null {
    const { promoted, marks } = this;
    const found = promoted.get(marks.whole.directory) ?? promoted.get(directory);
    return found?.since.toISOString() ?? null;
  }

  /** Does one thing at a time. */
  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done.catch(() => {});
    return done;
  }

  private read(): Map<string, { scope: Scope; since: Date }> {
    const found = this.marks.scopes.map((scope) => ({ scope, since: this.marks.of(scope).since }));
    return new Map(found.flatMap(({ scope, since }) => (since ? [[scope.directory, { scope, since }] as const] : [])));
  }

  /** Looks for the marks; returns what has got one since the last look, and what has lost its own and is not forgotten. */
  private look(): { begun: Scope[]; ended: Scope[] } {
    const former = this.promoted;
    this.promoted = this.read();
    const missingIn = (some: typeof former, others: typeof former) =>
      [...some.values()].map(({ scope }) => scope).filter(({ directory }) => !others.has(directory));
    const gone = missingIn(former, this.promoted);
    const ended = gone.filter((scope) => !this.marks.of(scope).since); // of what is not listed any more, the mark stays
    const changes = { begun: missingIn(this.promoted, former), ended };
    if (changes.begun.length + changes.ended.length > 0) touch();
    return changes;
  }

  private async follow(): Promise<void> {
    try {
      const { begun, ended } = this.look();
      this.hasFailed = false;
      for (const scope of begun) {
        this.tell(scope);
        await this.begin(scope);
      }
      for (const scope of ended) await this.end(scope);
    } catch (cause) {
      const what = t`无法得知备份端是否已接管，或无法照此执行：${reasonOf(cause)}。请检查 HOST_KEY_DIR 和 SSH_DIR`;
      if (!this.hasFailed) error('promotion.failed', what);
      this.hasFailed = true;
    }
  }

  /** @throws where the mark cannot be made, or the key not be restricted */
  private async promote(name: string | undefined): Promise<Reply> {
    const { marks } = this;
    const scope = marks.find(name);
    marks.of(scope).put();
    for (const begun of this.look().begun) this.tell(begun);
    const isOver = await this.begin(scope);
    const since = new Date(this.report(scope) ?? Date.now());
    return { isDone: isOver, text: isOver ? marks.describePromoted(scope, since) : describeUnfinished(scope.name) };
  }

  /** @throws where a mark cannot be removed */
  private async demote(name: string | undefined): Promise<Reply> {
    const { marks } = this;
    const scope = marks.find(name);
    if (!marks.isMarked(scope)) return { isDone: true, text: marks.describeNoMark(scope) };
    marks.remove(scope);
    const { ended } = this.look();
    await this.end(scope, ended);
    return { isDone: true, text: marks.describeDemoted(scope) };
  }

  private tell(scope: Scope): void {
    const since = this.promoted.get(scope.directory)?.since ?? new Date();
    const fields = { since: since.toISOString(), ...fieldsOf(scope.name) };
    warn('promotion.begun', this.marks.describePromoted(scope, since), fields);
  }

  /** Ends what was let in before; resolves with whether nothing of it is left. @throws {Failure} */
  private async begin({ name }: Scope): Promise<boolean> {
    const { keys, sshd, guard, reports } = this.parts;
    reports.renewBar();
    const restricting = Promise.try(() => keys.restrict()); // with ALLOW_SHELL, it may run nothing else from now on
    const [{ isOver }] = await Promise.all([
      sshd.endSessionsForGood(name ? keys.fingerprintOf(name) : undefined),
      restricting,
    ]);
    if (!name) await guard.rest();
    return isOver;
  }

  /**
   * Lets the source in again, as another start would.
   * @param ended what has lost its mark: where that is all of DEST_DIR, it begins anew as a whole
   * @throws {Failure}
   */
  private async end(scope: Scope, ended: readonly Scope[] = [scope]): Promise<void> {
    const { keys, guard, reports } = this.parts;
    log('promotion.ended', this.marks.describeDemoted(scope), fieldsOf(scope.name));
    reports.renewBar();
    const isWhole = ended.some(({ name }) => !name);
    const renewing = isWhole ? guard.renew() : guard.renewFor(ended.map(({ name }) => name));
    lifecycle.background(renewing);
    keys.restrict();
    await Promise.race([renewing, lifecycle.pause(RENEW_MS)]);
  }
}
