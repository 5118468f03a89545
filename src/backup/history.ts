/**
 * Sees to older versions in DEST_DIR/.history while the service runs: a process of its own names, thins out and removes them, and it is
 * told here what they cost.
 *
 *   const history = new History(config);
 *   await history.look(); // again and again
 *   history.report(); // { days: 30, versions: 1200, bytes: 52428800 }
 */
import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { warn } from '../service/log.ts';
import { exitStatus, limit, start, tailOf } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { escapeText, lastLine, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { HistoryClock } from './history-clock.ts';
import { entryOf, HISTORY } from './history-names.ts';
import { goneOf } from './history-sessions.ts';
import { type Orders, type Outcome, TEND } from './history-tender.ts';

/** How long a process that names them is not started again, ms: it takes 0.1 s of CPU, and a version itself says when it was replaced. */
const SETTLE_MS = 10_000;
/** How often versions are thinned out and removed, and the time is written down, ms; the second where nothing has been kept since, for there may be many sources. */
const [THIN_MS, IDLE_MS] = [600_000, 3_600_000];

export class History {
  private readonly clock: HistoryClock;
  private isBegun = false;
  /** By how much the clock of the machine is behind the time that has really passed, ms. */
  lag = 0;
  private counted: { versions: number; bytes: number } | undefined;
  private thinned: { stamp: number; uptime: number } | undefined;
  private tended = Number.NEGATIVE_INFINITY;
  /** What was told last, of each kind. */
  private readonly told = new Map<string, string>();
  /** What the last process has left of it: when something was made or named there last, and what sessions keep on keeping. */
  private left: Pick<Outcome, 'changed' | 'open'> = { changed: '', open: [] };

  constructor(private readonly config: Pick<Config, 'DEST_DIR' | 'HISTORY_DAYS' | 'HOST_KEY_DIR'>) {
    const name = createHash('sha256').update(config.DEST_DIR).digest('hex').slice(0, 16);
    this.clock = new HistoryClock(join(config.HOST_KEY_DIR, `history-${name}.json`));
  }

  /** Tells what older versions cost; null where none are kept. */
  report() {
    const { HISTORY_DAYS: days } = this.config;
    return days > 0 ? { days, versions: this.counted?.versions ?? null, bytes: this.counted?.bytes ?? null } : null;
  }

  /** Finds the time of the newest version, nothing where there is none. */
  private async newest(): Promise<number | undefined> {
    const names = await readdir(join(this.config.DEST_DIR, HISTORY)).catch((): string[] => []);
    let newest = 0;
    for (const name of names) {
      const entry = entryOf(name);
      if (entry?.kind === 'kept') newest = Math.max(newest, entry.stamp);
    }
    return newest || undefined;
  }

  /** Says when something was made or named there last; nothing where it is not there. */
  private async changed(): Promise<string | undefined> {
    const status = await lstat(join(this.config.DEST_DIR, HISTORY), { bigint: true }).catch(() => undefined);
    return status && String(status.mtimeNs);
  }

  /** Has them tended where there is something to do. */
  async look(): Promise<void> {
    if (!this.isBegun) this.clock.begin(this.clock.isKnown ? undefined : await this.newest());
    this.isBegun = true;
    const changed = await this.changed(); // there may be a million names, which are not listed here
    if (changed === undefined) return;
    const now = this.clock.now();
    const isNew = changed !== this.left.changed || goneOf(this.left.open).length > 0;
    const isDue = !this.thinned || performance.now() - this.thinned.uptime >= (isNew ? THIN_MS : IDLE_MS);
    if (isDue) this.saveTime();
    const isToSettle = performance.now() - this.tended >= SETTLE_MS && isNew;
    if (!(isDue || isToSettle)) return;
    this.lag = now.stamp - now.time;
    const since = isDue ? (this.thinned?.stamp ?? 0) : null;
    const orders = { days: this.config.HISTORY_DAYS, ...now, since, isToCount: !this.counted };
    const outcome = await tend(orders, this.config.DEST_DIR);
    this.tended = performance.now();
    this.left = outcome;
    if (isDue) this.thinned = { stamp: now.stamp, uptime: performance.now() };
    this.take(outcome, orders.isToCount);
  }

  private take(outcome: Outcome, isAll: boolean): void {
    const { versions, bytes, disturbed, foreign, failure } = outcome;
    const former = this.counted ?? { versions: 0, bytes: 0 };
    if (isAll && !failure) this.counted = { versions, bytes };
    else if (this.counted) this.counted = { versions: former.versions + versions, bytes: former.bytes + bytes };
    touch();
    const place = join(this.config.DEST_DIR, HISTORY);
    const advice = t`若不是误操作，源端的密钥可能已被盗用`;
    if (disturbed > 0)
      warn('history.disturbed', t`源端移动了 ${place} 中的 ${disturbed} 个旧版本，已放回原处。${advice}`, {
        disturbed,
      });
    const names = foreign.map(escapeText).join(t`、`);
    const what = t`${place} 中有不属于它的内容: ${names}。请在源端改名或排除名为 ${HISTORY} 的目录`;
    if (this.isNews('foreign', names)) warn('history.foreign', what, { names: foreign });
    if (this.isNews('failure', failure))
      warn('history.failed', t`无法整理 ${place} 中的旧版本：${escapeText(failure)}。请检查权限和磁盘`);
  }

  /** Whether something is to be told: it is there, and was not told last. */
  private isNews(kind: string, text: string): boolean {
    const isNews = text !== '' && this.told.get(kind) !== text;
    this.told.set(kind, text);
    return isNews;
  }

  /** Writes down how late it is, for the next start. */
  saveTime(): void {
    if (!this.isBegun) return;
    try {
      this.clock.save();
    } catch (cause) {
      const reason = reasonOf(cause);
      if (this.isNews('time', reason))
        warn('history.failed', t`无法记下时间，旧版本可能多保留一天：${reason}。请检查 HOST_KEY_DIR`);
    }
  }
}

/** Has a process of its own tend the versions. */
async function tend(orders: Orders, directory: string): Promise<Outcome> {
  const script = Bun.main.startsWith('/$bunfs/') ? [] : ['--no-env-file', Bun.main];
  const program = process.execPath.replace(/ \(deleted\)$/, '');
  const env = { ...process.env, DEST_DIR: directory };
  const child = start(program, [...script, TEND, JSON.stringify(orders)], { stdio: ['ignore', 'pipe', 'pipe'], env });
  limit(child, {});
  const [said, complaint] = [tailOf(child.stdout), tailOf(child.stderr)];
  const status = await exitStatus(child).catch(() => 1);
  try {
    return JSON.parse(said());
  } catch {
    const failure = lastLine(complaint()) || t`退出状态 ${status}`;
    return { versions: 0, bytes: 0, disturbed: 0, foreign: [], failure, changed: '', open: [] };
  }
}
