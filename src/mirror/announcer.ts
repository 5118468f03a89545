/**
 * Names changes in the log, though not all of many, and keeps the last ones to be looked at.
 *
 *   announcer.announce('/data/source/a', 'CREATE');
 *   announcer.closeBatch();
 */
import { info } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { decodePath, showPath, t } from '../service/text.ts';

/** How many changes of a batch the log names. */
const LISTED_CHANGES = 50;
/** How many changes are kept to be looked at, and how much of the names of their events, characters. */
const MAX_CHANGES = 20;
const MAX_EVENTS = 100;

export class Announcer {
  /** How many changes there were since the last batch. */
  private count = 0;
  /** The last changes, newest first. */
  private readonly recent: { time: number; path: string; events: string }[] = [];

  /** Names a change in the log, unless many were named since the last batch. */
  announce(path: string, events: string): void {
    this.keep(path, events);
    if (this.count++ >= LISTED_CHANGES) return;
    info('file.changed', t`检测到文件变化: ${showPath(path)} ${events}`, { path: decodePath(path), events });
  }

  /** Says how many more changes there were before a batch is sent. */
  closeBatch(): void {
    const unlisted = this.count - LISTED_CHANGES;
    if (unlisted > 0) info('file.omitted', t`另有 ${unlisted} 处文件变化未逐条列出`, { changes: unlisted });
    this.count = 0;
  }

  /** Lists the last changes for the status. */
  report() {
    return this.recent.map(({ time, path, events }) => {
      return { time: new Date(time).toISOString(), path: showPath(path), events };
    });
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
