/**
 * Notices sessions that have come to a stand: somebody has stopped a process of theirs, their disk does not answer, or both
 * sides wait for each other. Nothing of that ends by itself, nor by rsync's --timeout, and the source would wait for ever.
 *
 *   const stalls = new Stalls(() => sshd.commands());
 *   lifecycle.background(stalls.keep());
 */
import { lifecycle } from '../service/lifecycle.ts';
import { log, warn } from '../service/log.ts';
import { commandLineOf, type Doing, endGroups, observe, startedBy } from '../service/processes.ts';
import { touch } from '../service/status.ts';
import { t } from '../service/text.ts';
import { FORCED_COMMAND } from './forced-command.ts';

/** After how many beats it is looked at again. */
const LOOK_EVERY = 5;
/** How long a session may stand still because a process of it is stopped, or waits for a disk, ms: a full one may write out its cache for some time. */
const STOPPED_MS = 30_000;
const DISK_MS = 60_000;
/** How long a receiving rsync may wait for the source in the midst of its work, ms; for ever where that reads whole files first. */
const SILENT_MS = 900_000;
/**
 * How fast a source reads at least, bytes per ms. Of a large file that has hardly changed it sends nothing until it has read all of it
 * (-z), not even which file it is; the receiver had to read as much before.
 */
const LEAST_SPEED = 10_000;

/** A process that runs for a session. */
export interface Activity {
  state: Doing;
  /** Whether it receives a mirror, or is about to; with ALLOW_SHELL people may run anything, and stop it. */
  isReceiving: boolean;
  /** Whether it receives what the source need not read before. */
  isPrompt: boolean;
  /** How much it has read so far, bytes; 0 where that is nobody's to know. */
  read: number;
  /** What it has done so far, in any form: the same as long as it does nothing. */
  work: string;
}

/** A command that runs for the source, and since when it has done nothing. */
interface Standing {
  work: string;
  since: number;
  isTold: boolean;
}

export class Stalls {
  private standing = new Map<number, Standing>();

  /**
   * @param commands lists the processes that lead what runs for sessions
   * @param look finds what they and all that they have started do; a stand-in serves tests
   * @param end ends such a command
   */
  constructor(
    private readonly commands: () => number[],
    private readonly look = activitiesOf,
    private readonly end = (pid: number) => lifecycle.background(endGroups([pid])),
  ) {}

  /** Looks again and again, until the program ends. */
  async keep(): Promise<void> {
    while (!lifecycle.stopping) {
      this.inspect(performance.now());
      await lifecycle.nextBeat(LOOK_EVERY);
    }
  }

  /** Looks once. @param now ms on the clock of `performance.now()` */
  inspect(now: number): void {
    const before = this.standing;
    this.standing = new Map();
    for (const pid of this.commands()) {
      const activities = this.look(pid);
      if (!activities.some(({ isReceiving }) => isReceiving)) continue;
      const work = activities.map((activity) => activity.work).join(' ');
      const known = before.get(pid);
      const standing = known?.work === work ? known : { work, since: now, isTold: false };
      this.standing.set(pid, standing);
      if (standing !== known && known?.isTold) this.tellMoving(pid);
      this.judge(pid, activities, standing, now - standing.since);
    }
  }

  /** Tells of a session that has stood still for too long, and ends it where that helps: a disk that hangs holds it all the same. */
  private judge(pid: number, activities: Activity[], standing: Standing, ms: number): void {
    const is = (state: Doing) => activities.some((activity) => activity.state === state);
    const seconds = Math.round(ms / 1000);
    if (is('stopped') && ms >= STOPPED_MS) {
      warn('session.stalled', t`接收镜像的进程 ${pid} 已被暂停 ${seconds} 秒，已结束它，由源端重试`, { pid, seconds });
      this.end(pid);
    } else if (is('disk') && ms >= DISK_MS && !standing.isTold) {
      standing.isTold = true;
      const what = t`接收镜像的进程 ${pid} 等待磁盘已 ${seconds} 秒。请检查 DEST_DIR 所在的磁盘；它应答后镜像自动继续`;
      warn('session.stalled', what, { pid, seconds });
      touch();
    } else if (isDeserted(activities) && ms >= patienceFor(activities)) {
      warn('session.stalled', t`接收镜像的进程 ${pid} 等待源端已 ${seconds} 秒，已结束它，由源端重试`, {
        pid,
        seconds,
      });
      this.end(pid);
    }
  }

  private tellMoving(pid: number): void {
    log('session.resumed', t`接收镜像的进程 ${pid} 又有进展 ✓`, { pid });
    touch();
  }

  /** Tells how many sessions wait for a disk that does not answer. */
  report(): number {
    return [...this.standing.values()].filter(({ isTold }) => isTold).length;
  }
}

/** Whether the two processes that an rsync has once it has its list wait for the source, or for each other; before them there may be one that guards older versions. */
const isDeserted = (activities: Activity[]) =>
  [2, 3].includes(activities.length) &&
  activities.every(({ state }) => state === 'waiting') &&
  activities.slice(-2).every(({ isPrompt }) => isPrompt);

/** Says how long they may wait, ms: the source may have to read as much as they have. */
const patienceFor = (activities: Activity[]) => activities.reduce((ms, { read }) => ms + read / LEAST_SPEED, SILENT_MS);

/** Lists what a process and all that it has started do. One that ends meanwhile is left out. */
function activitiesOf(pid: number): Activity[] {
  const activity = activityOf(pid);
  return [...(activity ? [activity] : []), ...startedBy(pid).flatMap(activitiesOf)];
}

/**
 * Whether a word has the source read whole files before it sends anything, to compare them or, twice there, what is to be appended to:
 * short options stand together, and what stands behind the e says other things.
 */
const mayKeepWaiting = (word: string) => /^-[^\We]*c|^--checksum$|^--append$/.test(word);

/** Finds what a process does: nothing where it has ended. */
export function activityOf(pid: number): Activity | undefined {
  const found = observe(pid);
  if (!found) return undefined;
  const words = commandLineOf(pid);
  const isRsync = words[0] === 'rsync' && words.includes('--server');
  const isPrompt = isRsync && !words.some(mayKeepWaiting);
  const isReceiving = isRsync || words.some((word) => word.includes(FORCED_COMMAND));
  return {
    state: found.doing,
    work: found.done,
    isReceiving,
    isPrompt,
    read: Number(/\brchar: (\d+)/.exec(found.done)?.[1] ?? 0),
  };
}
