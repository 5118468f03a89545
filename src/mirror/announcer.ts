/**
 * Names changes in the log, though not all of many, sums up what is left out, and keeps the last ones to be looked at.
 *
 *   announcer.announce('/data/source/a', 'CREATE');
 *   announcer.closeBatch();
 */
import { lifecycle } from '../service/lifecycle.ts';
import { info } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { decodePath, inUnits, showPath, t } from '../service/text.ts';
import { type Omitted, Spell } from './spell.ts';

/** How many changes of a batch the log names. */
const LISTED_CHANGES = 50;
/** How many changes are kept to be looked at, and how much of the names of their events, characters. */
const MAX_CHANGES = 20;
const MAX_EVENTS = 100;
/** How often it is summed up what was left out, ms: while much goes on, and while no target can be reached. */
const [SUMMARY_MS, AWAY_SUMMARY_MS] = [60_000, 300_000];

export class Announcer {
  readonly spell: Spell;
  /** How many changes there were since the last batch, but for those that are counted elsewhere. */
  private count = 0;
  /** The last changes, newest first. */
  private readonly recent: { time: number; path: string; events: string }[] = [];
  private timer: NodeJS.Timeout | undefined;
  /** Since when it is summed up, ms on the clock of `performance.now()`. */
  private since = 0;
  private isThinned = false;

  /** @param targets how many there are */
  constructor(targets = 1) {
    this.spell = new Spell(targets);
    this.spell.onOmitted = () => this.schedule();
  }

  /** Names a change in the log, unless many were named since the last batch or it is known. */
  announce(path: string, events: string): void {
    this.keep(path, events);
    const { spell } = this;
    const now = performance.now();
    const isListed = this.count < LISTED_CHANGES;
    if (!isListed && spell.isThin(now)) spell.omit({ changes: 1 }, now);
    else if (!isListed) this.count++;
    if (!isListed || !spell.tellsChange(`${path} ${events}`, now)) return;
    this.count++;
    info('file.changed', t`检测到文件变化: ${showPath(path)} ${events}`, { path: decodePath(path), events });
  }

  /** Says how many more changes there were before a batch is sent. */
  closeBatch(): void {
    const unlisted = this.count - LISTED_CHANGES;
    this.count = 0;
    if (unlisted <= 0) return;
    info('file.omitted', t`另有 ${unlisted} 处文件变化未逐条列出`, { changes: unlisted });
    this.spell.count({ changes: unlisted });
  }

  /** Lists the last changes for the status. */
  report() {
    return this.recent.map(({ time, path, events }) => {
      return { time: new Date(time).toISOString(), path: showPath(path), events };
    });
  }

  /** Tells what the log has left out since the start. */
  reportOmitted() {
    const { changes, syncs, lines, tries } = this.spell.total;
    return { changes, syncs, lines, tries };
  }

  /** Has what is left out summed up after a while. */
  private schedule(): void {
    if (this.spell.isBusy && !this.isThinned) {
      this.isThinned = true;
      info(
        'log.thinned',
        t`变化频繁：重复的变化和成功的同步不再逐条列出，每分钟汇总一次；新的文件、失败和警告照常列出`,
      );
    }
    if (this.timer) return;
    if (this.since === 0) lifecycle.onStop(async () => this.summarise());
    this.since = performance.now();
    this.timer = setTimeout(() => this.summarise(), this.spell.isAway() ? AWAY_SUMMARY_MS : SUMMARY_MS).unref();
  }

  /** Sums up what was left out, or says that all is told again. */
  private summarise(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const now = performance.now();
    const omitted = this.spell.summarise();
    if (omitted) tellOmitted(omitted, Math.round((now - this.since) / 1000));
    if (this.isThinned && !this.spell.isThin(now)) {
      this.isThinned = false;
      info('log.detailed', t`变化不再频繁，恢复逐条列出`);
    } else if (this.isThinned || omitted) this.schedule();
    touch();
  }

  /** Keeps one entry for all that happens to a path in a row. */
  private keep(path: string, events: string): void {
    const [last] = this.recent;
    const before = last?.path === path ? `${this.recent.shift()?.events} ` : '';
    this.recent.unshift({ time: Date.now(), path, events: `${before}${events}`.slice(-MAX_EVENTS) });
    this.recent.splice(MAX_CHANGES);
    touch();
  }
}

/** Tells what was left out within some seconds. */
function tellOmitted({ changes, syncs, files, bytes, seconds: work, lines }: Omitted, seconds: number): void {
  const counts = { changes, syncs, files, bytes, sync_seconds: Math.round(work * 10) / 10, lines };
  const synced = t`${syncs} 次成功的同步 (${files} 个文件，${inUnits(bytes)}，共 ${counts.sync_seconds} 秒)`;
  const rest = t`${changes} 处文件变化、${lines} 行 rsync 输出`;
  info('log.summary', t`过去 ${seconds} 秒未逐条列出：${synced}、${rest}`, { seconds, ...counts });
}
