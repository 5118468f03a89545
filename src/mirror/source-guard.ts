/**
 * Watches over the source directory itself: whether it is the one that was mirrored before, over restarts too, and where its
 * path leads.
 *
 *   await guard.admit();                  // at the start: resolves once the source may be mirrored
 *   lifecycle.background(guard.keep());   // from then on
 */
import { statSync } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { lifecycle, shared } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { type Identity, identify, isSameDirectory, isSameFileSystem } from '../service/mounts.ts';
import { touch } from '../service/status.ts';
import { escapeText, t } from '../service/text.ts';
import type { Memory } from './memory.ts';
import { LOST_AND_FOUND, type Source } from './source.ts';

/** After how many beats the running service looks at it again: the look wakes other threads, for its disk may not answer. */
const LOOK_EVERY = 2;

export class SourceGuard {
  /** When the source was found to have moved, ms on the clock of `performance.now()`. */
  movedAt: number | undefined;

  /** @param rewatch has all of the source watched and compared anew */
  constructor(
    private readonly source: Source,
    private readonly memory: Memory,
    private readonly rewatch: () => void,
  ) {}

  /** Resolves once the source may be mirrored: another file system than the remembered one has to be accepted first. */
  async admit(): Promise<void> {
    while (!lifecycle.stopping) {
      const found = await this.identify();
      const { source: known } = this.memory.data;
      if (!known || (found && isSameFileSystem(known, found))) {
        if (this.adopt(found)) return;
      } else if (found) this.refuse();
      else this.noteLoss();
      await lifecycle.nextBeat();
    }
  }

  private refuse(): void {
    if (!this.source.refusal) error('source.refused', this.describeStranger());
    this.source.refusal = this.describeStranger();
    touch();
  }

  /** Whether the source waits for what it was, or for somebody who accepts what is there. */
  get isWaiting(): boolean {
    return this.source.refusal !== undefined || !this.source.isFound;
  }

  /** Takes what is there now for the source, because somebody says so; returns whether it was another one. */
  async accept(): Promise<boolean> {
    if (!this.isWaiting) return false;
    const found = await this.identify();
    if (!found || !this.adopt(found)) return false;
    this.rewatch();
    return true;
  }

  /** Looks at it again and again. */
  async keep(): Promise<void> {
    while (!lifecycle.stopping) {
      await lifecycle.nextBeat(LOOK_EVERY);
      await this.look();
    }
  }

  /** Looks at it once: a path that leads elsewhere by then is followed, where that may be. */
  readonly look = shared(async (): Promise<void> => {
    if (this.source.refusal !== undefined) return;
    if (await this.isBack()) this.noteReturn();
    else await this.followOr(() => this.noteLoss());
  });

  private identify(): Promise<Identity | undefined> {
    return identify(Buffer.from(this.source.directory).toString('latin1'));
  }

  /** Takes what is there for the source, if it is still what was looked at; returns whether it is. */
  private adopt(identity: Identity | undefined): boolean {
    const found = statSync(this.source.directory, { bigint: true, throwIfNoEntry: false });
    if (!found || (identity && identity.inode !== String(found.ino))) return false;
    this.source.adopt();
    const { source: known } = this.memory.data;
    if (known && identity && !isSameDirectory(known, identity)) this.memory.forgetCounts();
    if (identity) this.memory.data.source = identity;
    this.memory.save();
    touch();
    return true;
  }

  /** Follows the path where a link in it was flipped, and leads to no other disk and nothing empty. */
  private async followOr(giveUp: () => void): Promise<void> {
    const [real, found] = await Promise.all([realpath(this.source.directory).catch(() => ''), this.identify()]);
    const { source: known } = this.memory.data;
    const isElsewhere = Buffer.from(real).toString('latin1') !== this.source.realRoot;
    if (!isElsewhere || !found || !known || !isSameFileSystem(known, found)) return giveUp();
    const names = await readdir(this.source.directory).catch(() => []);
    if (!names.some((name) => name !== LOST_AND_FOUND)) return giveUp();
    if (await this.isBack()) return this.noteReturn();
    const before = Buffer.from(this.source.realRoot, 'latin1').toString();
    if (!this.adopt(found)) return; // it was flipped once more, and is looked at again
    this.movedAt = performance.now();
    const now = Buffer.from(this.source.realRoot, 'latin1').toString();
    const where = t`${escapeText(now)}（原为 ${escapeText(before)}）`;
    warn('source.moved', t`源目录 ${escapeText(this.source.directory)} 现在指向 ${where}，重新监控并全量同步`);
    this.rewatch();
  }

  /** Whether the path leads to the source again: it may have been flipped back while it was looked at. */
  private async isBack(): Promise<boolean> {
    const found = await stat(this.source.directory, { bigint: true }).catch(() => undefined);
    return found !== undefined && this.source.is(found);
  }

  private noteLoss(): void {
    if (!this.source.isFound) return;
    this.source.isFound = false;
    error('source.lost', this.source.describeLoss());
    touch();
  }

  private noteReturn(): void {
    if (this.source.isFound) return;
    this.source.isFound = true;
    log('source.restored', t`源目录 ${escapeText(this.source.directory)} 已恢复，重新监控并全量同步 ✓`);
    touch();
    this.rewatch(); // a watcher may be left in what was there before
  }

  private describeStranger(): string {
    const what = t`源目录 ${escapeText(this.source.directory)} 位于另一个文件系统上，不是以前镜像的那一个`;
    return t`${what}：可能是磁盘没有挂载或被更换，为保护备份拒绝同步。请检查挂载，恢复后会自动继续；若是有意更换，请执行 rsync-inotify --accept-deletions`;
  }
}
