/**
 * The places in the source that cannot be watched, why, and since when. What happens there is seen by comparisons of all alone;
 * whether they can be watched by now is tried with growing pauses.
 *
 *   unwatched.update(new Map([['secret', 'EACCES']])); // told once
 *   unwatched.covers('secret/a');
 *   unwatched.report(); // for the status
 */
import { EventEmitter } from 'node:events';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { withParents } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { log, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { decodePath, reasonOf, showPath, t } from '../service/text.ts';

/** How long the first pause between two tries is, and the longest, ms. */
const FIRST_PAUSE_MS = 5000;
const LAST_PAUSE_MS = 600_000;
/** How many places are known by name, so that memory stays bounded, how many the log tells of at once, and how many the status. */
const MAX_PLACES = 10_000;
const MAX_TOLD = 10;
const MAX_REPORTED = 20;

/** The reason of a place with so many others that it is left out as a whole. */
export const CROWDED = 'CROWDED';

/** What is wrong with a place, and what is to be done, by the error of the system. */
const REASONS: Record<string, [reason: string, advice: string]> = {
  EACCES: [
    t`没有进入的权限`,
    t`请让运行本服务的用户可以读取和进入；若不需要它，请用 --exclude 排除并列入 WATCH_EXCLUDE`,
  ],
  ENAMETOOLONG: [t`路径超过了 4095 字节`, t`请缩短路径，或移走其中嵌套过深的目录`],
  EMFILE: [t`目录嵌套过深`, t`请移走它，或提高 ulimit -n`],
  ENOTCONN: [t`它的文件系统已断开`, t`请重新挂载，例如提供它的 FUSE 进程已经退出`],
  ESTALE: [t`它的网络文件系统已失效`, t`请重新挂载`],
  EIO: [t`读取错误`, t`请检查磁盘和文件系统`],
  EUCLEAN: [t`文件系统已损坏`, t`请用 fsck 检查和修复`],
  EBADMSG: [t`文件系统已损坏`, t`请用 fsck 检查和修复`],
  [CROWDED]: [t`其中无法监控的位置过多`, t`请清理其中嵌套过深或无法读取的目录`],
};

interface Place {
  reason: string;
  since: Date;
  /** When it is tried again, ms on the clock of `performance.now()`, and how long the pause after that is, ms. */
  due: number;
  pause: number;
}

/** Emits `open` with a place that can be entered by now. */
export class Unwatched extends EventEmitter {
  private readonly places = new Map<string, Place>();
  /** How many there are that are not known by name. */
  private others = 0;

  /** @param look opens a place; it throws where that cannot be watched. A stand-in serves tests */
  constructor(
    private readonly root: string,
    private readonly look = openDirectory,
  ) {
    super();
  }

  get size(): number {
    return this.places.size + this.others;
  }

  get paths(): string[] {
    return [...this.places.keys()];
  }

  has(path: string): boolean {
    return this.places.has(path) || this.others > 0;
  }

  /** Whether a path is one of them, or lies in one. */
  covers(path: string): boolean {
    return withParents(path).some((it) => this.places.has(it));
  }

  /** Takes in which there are now, with the errors of the system; tells of those that are new, and of those that are watched by now. */
  update(found: ReadonlyMap<string, string>): void {
    for (const path of this.paths) if (!found.has(path)) this.forget(path);
    let told = 0;
    for (const [path, reason] of found) {
      const known = this.places.get(path);
      if (known?.reason === reason) continue;
      if (!known && this.places.size >= MAX_PLACES) continue;
      const due = performance.now() + FIRST_PAUSE_MS;
      this.places.set(path, { since: new Date(), due, pause: FIRST_PAUSE_MS, ...known, reason });
      if (told++ < MAX_TOLD) tell(path, reason);
    }
    this.others = found.size - this.places.size;
    if (told > MAX_TOLD) {
      const count = told - MAX_TOLD;
      warn('watch.unwatched', t`另有 ${count} 处无法监控，见 rsync-inotify --status`, { count });
    }
    if (this.places.size > 0) this.emit('found');
    touch();
  }

  private forget(path: string): void {
    this.places.delete(path);
    log('watch.regained', t`路径 ${showPath(path)} 已可监控，或已不存在 ✓`, { path: decodePath(path) });
  }

  /** Tries one place at once, for something about it has changed. */
  async retry(path: string): Promise<void> {
    if (this.has(path) && (await this.isOpen(path))) this.emit('open', path);
  }

  /** Tries all of them again and again. */
  async keep(): Promise<void> {
    while (!lifecycle.signal.aborted) {
      if (this.places.size === 0) {
        await lifecycle.waitFor(this, 'found');
        continue;
      }
      const next = Math.min(...[...this.places.values()].map(({ due }) => due));
      await lifecycle.pauseOr(Math.max(0, next - performance.now()), this, 'found');
      for (const [path, place] of this.places) {
        if (lifecycle.signal.aborted) return;
        if (place.due > performance.now()) continue;
        place.pause = Math.min(LAST_PAUSE_MS, 2 * place.pause);
        place.due = performance.now() + place.pause;
        await this.retry(path);
      }
    }
  }

  private async isOpen(path: string): Promise<boolean> {
    try {
      await this.look(this.root + path);
      return true;
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      return code === 'ENOENT' || code === 'ENOTDIR'; // there is nothing left that could not be watched
    }
  }

  report() {
    const places = [...this.places].slice(0, MAX_REPORTED);
    return {
      count: this.size,
      places: places.map(([path, { reason, since }]) => {
        return { path: showPath(path), reason, since: since.toISOString() };
      }),
    };
  }
}

/** Says for people why a place cannot be watched. */
export const describeReason = (reason: string) => REASONS[reason]?.[0] ?? reasonOf(reason);

function tell(path: string, reason: string): void {
  const advice = REASONS[reason]?.[1] ?? t`请检查它所在的文件系统`;
  const rest = t`其余照常监控和同步；它会定期重试，恢复后自动监控`;
  const fields = { path: decodePath(path), reason };
  warn('watch.unwatched', t`无法监控 ${showPath(path)}：${describeReason(reason)}。${rest}。${advice}`, fields);
}

async function openDirectory(path: string): Promise<void> {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(Buffer.from(path, 'latin1'), flags);
  await file.close();
}
