/**
 * Which sources mirror into which directory: two at a time overwrite and delete each other's files. Each says who it is now and then.
 *
 *   const sources = new Sources();
 *   sources.note({ directory: '/data/backup/', instance: '4f…', name: 'web1 (10.0.5.10)' }); // the names of others
 */
import { log, warn } from '../service/log.ts';
import { escapeText, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { about, fieldsOf } from './doors.ts';

/** Who is not heard for so long is gone, ms: sources speak every two minutes. */
const FORGET_MS = 300_000;
/** Who is heard so long after another one has begun is there beside it, ms; what speaks later was only late. */
const GRACE_MS = 60_000;
/** How many are kept: a source could name itself anew all the time. */
const MAX_SOURCES = 30;
/** How many lines on that are written an hour. */
const MAX_LINES = 20;
/** How many others a source is told of. */
const MAX_TOLD = 3;

/** What a source says of itself: a name that is random for each start, and one for people. */
export interface Announcement {
  directory: string;
  instance: string;
  name: string;
}

interface Known extends Announcement {
  /** When it was heard for the first and the last time, ms. */
  first: number;
  last: number;
}

export class Sources {
  private known: Known[] = [];
  /** The directories of which it was told that there are two. */
  private readonly told = new Set<string>();
  private readonly ceiling: Ceiling;

  /** @param door the name of those that log in by the same key, which may say of any directory that they mirror into it */
  constructor(
    private readonly door = '',
    private readonly now = () => performance.now(),
  ) {
    this.ceiling = new Ceiling(about(door, t`同时镜像到同一目录的源端`), MAX_LINES);
  }

  /** Takes down that a source lives, tells where there are two, and returns the names of the others. */
  note({ directory, instance, name }: Announcement): string[] {
    const now = this.now();
    const former = this.known.find((it) => it.instance === instance && it.directory === directory);
    const source = { directory, instance, name, first: former?.first ?? now, last: now };
    this.known = [source, ...this.living.filter((it) => it !== former)].slice(0, MAX_SOURCES);
    this.tell();
    const rivals = this.known.filter((it) => areRivals(it, source));
    return rivals.slice(0, MAX_TOLD).map((it) => it.name);
  }

  /** Lists the directories that several sources mirror into, and the sources. */
  report(): { directory: string; sources: string[] }[] {
    const { living } = this;
    const doubled = living.filter((it) => living.some((other) => areRivals(it, other)));
    return [...new Set(doubled.map(({ directory }) => directory))].map((directory) => {
      const here = doubled.filter((it) => it.directory === directory);
      return { directory, sources: here.map(({ name }) => name).sort() };
    });
  }

  private get living(): Known[] {
    const now = this.now();
    return this.known.filter(({ last }) => now - last < FORGET_MS);
  }

  private tell(): void {
    const doubled = this.report();
    for (const { directory, sources } of doubled) {
      if (this.told.has(directory)) continue;
      this.told.add(directory);
      const who = sources.map(escapeText).join(t`、`);
      const what = t`多个 rsync-inotify 同时镜像到 ${escapeText(directory)}：${who}`;
      const turn = this.ceiling.count();
      const advice = t`。它们会互相覆盖和删除，请只保留一个${turn === 'last' ? LAST : ''}`;
      if (turn !== 'omitted')
        warn('mirror.doubled', about(this.door, `${what}${advice}`), { directory, sources, ...fieldsOf(this.door) });
    }
    for (const directory of this.told) {
      if (doubled.some((it) => it.directory === directory)) continue;
      this.told.delete(directory);
      const what = about(this.door, t`只有一个 rsync-inotify 镜像到 ${escapeText(directory)} 了 ✓`);
      if (this.ceiling.count() !== 'omitted') log('mirror.single', what, { directory, ...fieldsOf(this.door) });
    }
  }
}

/** Whether each of two was heard after the other one had begun: a restart is no rival, nor is a connection that was cut. */
function areRivals(one: Known, other: Known): boolean {
  if (one.directory !== other.directory || one.instance === other.instance) return false;
  return one.last > other.first + GRACE_MS && other.last > one.first + GRACE_MS;
}
