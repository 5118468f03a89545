/**
 * Sees to the older versions of all sources while the service runs, of one after the other: there may be many, and a disk is tended by one
 * process at a time.
 *
 *   const histories = new Histories({ config, doors, guard });
 *   await histories.keep();
 *   histories.of(door).report(); // { days: 30, versions: 1200, bytes: 52428800 }
 */
import { lifecycle } from '../service/lifecycle.ts';
import { warn } from '../service/log.ts';
import { isInTime } from '../service/patience.ts';
import { localTime, t } from '../service/text.ts';
import type { Config } from './config.ts';
import type { Door, Doors } from './doors.ts';
import type { Guard } from './guard.ts';
import { History } from './history.ts';
import { canAsk } from './seccomp.ts';

/** After how many beats it is looked again for sessions that have kept something and have ended. */
const LOOK_EVERY = 2;
/** How long the others wait for one, ms: its disk may hang, where it has one of its own. */
const PATIENCE_MS = 60_000;
/** How many that take longer go on beside the others. */
const MAX_LATE = 3;

const UNGUARDED = t`内核不支持 seccomp 的通知（Linux 5.19 起），或被容器占用或禁止（Docker 23 以前）：不是 rsync 的客户端可能使一次传输丢掉它自己刚保留的旧版本。请升级内核或容器引擎，或另做 DEST_DIR 的快照`;

interface Parts {
  config: Pick<Config, 'HISTORY_DAYS' | 'HOST_KEY_DIR'>;
  doors: Pick<Doors, 'list'>;
  /** Says whether DEST_DIR is the one that it should be. */
  guard: Pick<Guard, 'report'>;
}

/** Adds what is known; null where nothing is. */
const sumOf = (all: (number | null)[]) =>
  all.reduce<number | null>((sum, it) => (it === null ? sum : (sum ?? 0) + it), null);

type One = Pick<History, 'look' | 'report' | 'saveTime' | 'lag'>;

export class Histories {
  private readonly all = new Map<string, One>();
  /** The looks that are under way, by the directory. */
  private readonly looking = new Map<string, Promise<unknown>>();
  /** By how many hours the clock was said to be wrong last. */
  private hours = 0;

  /** @param make makes what sees to one directory; a stand-in serves tests */
  constructor(
    private readonly parts: Parts,
    private readonly make = (directory: string): One => new History({ ...parts.config, DEST_DIR: directory }),
    private readonly patience = PATIENCE_MS,
  ) {}

  /** What sees to the versions of a door. */
  of({ directory }: Door): Pick<One, 'report'> {
    return this.find(directory);
  }

  /** Tells what those of all sources cost together, as far as that is known; null where none are kept. */
  report() {
    const known = this.parts.doors.list().flatMap((door) => this.of(door).report() ?? []);
    const [{ days } = { days: 0 }] = known;
    if (days === 0) return null;
    return { days, versions: sumOf(known.map((it) => it.versions)), bytes: sumOf(known.map((it) => it.bytes)) };
  }

  private find(directory: string): One {
    const found = this.all.get(directory) ?? this.make(directory);
    this.all.set(directory, found);
    return found;
  }

  /** Sees to them as long as the program runs. */
  async keep(): Promise<void> {
    if (this.parts.config.HISTORY_DAYS === 0) return;
    if (!canAsk()) warn('history.unguarded', UNGUARDED);
    lifecycle.onStop(async () => {
      for (const history of this.all.values()) history.saveTime();
    });
    while (!lifecycle.stopping) {
      if (this.parts.guard.report() === null) await this.lookAtAll();
      await lifecycle.nextBeat(LOOK_EVERY);
    }
  }

  /** Looks at one after the other. */
  async lookAtAll(): Promise<void> {
    for (const { directory } of this.parts.doors.list()) {
      if (lifecycle.stopping) return;
      if (!this.looking.has(directory)) await this.lookAt(directory);
    }
    this.tellClock();
  }

  /** Looks at one, and waits for that, but not for long, unless too many have not come back. */
  private async lookAt(directory: string): Promise<void> {
    const look = this.find(directory)
      .look()
      .catch((cause) => lifecycle.fail(cause))
      .finally(() => this.looking.delete(directory));
    this.looking.set(directory, look);
    await isInTime(look, this.patience);
    while (this.looking.size > MAX_LATE && !lifecycle.stopping) await Promise.race(this.looking.values());
  }

  private tellClock(): void {
    const lags = [...this.all.values()].map((it) => it.lag).sort((a, b) => Math.abs(b) - Math.abs(a));
    const hours = Math.round((lags[0] ?? 0) / 3_600_000);
    if (hours === this.hours) return;
    this.hours = hours;
    if (hours === 0) return;
    const what = t`本机时钟与实际经过的时间相差约 ${Math.abs(hours)} 小时（现在显示 ${localTime(new Date())}）`;
    warn('history.clock', t`${what}：旧版本按实际经过的时间保留，不会因此提前删除。请检查时钟`, { hours });
  }
}
