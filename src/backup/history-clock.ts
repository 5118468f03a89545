/**
 * The clock that older versions age by. It goes on with the time that has really passed: where the clock of the machine jumps, nothing
 * becomes old by that. What has passed while the service did not run is believed for a day at most; the rest is kept longer.
 *
 *   const clock = new HistoryClock('/etc/ssh/history-5f….json');
 *   clock.begin(newestStamp);
 *   clock.now(); // { time: 1795889034123, stamp: 1795889034123 }
 */
import { readFileSync } from 'node:fs';
import { readSmallFile, replaceFile } from '../service/files.ts';
import { DAY_MS, type Moment } from './history-names.ts';

/** Up to what difference the two clocks are set to the same, ms: clocks are corrected a little all the time. */
const SNAP_MS = 300_000;
const MAX_BYTES = 4096;

/** What a start leaves for the next one. */
interface Left extends Moment {
  boot: string;
  /** How long the machine had run, ms. */
  uptime: number;
}

/** What tells the time. */
export interface Sources {
  time: () => number;
  /** How long the machine has run, with the time that it has slept, ms. */
  uptime: () => number;
  boot: () => string;
}

const MACHINE: Sources = {
  time: () => Date.now(),
  uptime: () => Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 1000,
  boot: () => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim(),
};

export class HistoryClock {
  private anchor = { stamp: 0, uptime: 0 };

  constructor(
    private readonly file: string,
    private readonly sources: Sources = MACHINE,
  ) {}

  /** Whether a start before has left something; where none has, the newest version has to say how late it was. */
  get isKnown(): boolean {
    return this.read() !== undefined;
  }

  /** Begins with what the start before has left. @param newest the time of the newest version by this clock, if there is one */
  begin(newest: number | undefined): void {
    const time = this.sources.time();
    const uptime = this.sources.uptime();
    const left = this.read();
    const believed = (from: number, since: number) => from + Math.min(Math.max(0, time - since), DAY_MS);
    let stamp = newest === undefined ? time : believed(newest, newest);
    if (left && left.boot === this.sources.boot() && uptime >= left.uptime) stamp = left.stamp + uptime - left.uptime;
    else if (left) stamp = believed(left.stamp, left.time);
    this.anchor = { stamp, uptime };
  }

  /** Tells the time by both clocks. */
  now(): Moment {
    const time = Math.round(this.sources.time());
    const uptime = this.sources.uptime();
    const stamp = Math.round(this.anchor.stamp + uptime - this.anchor.uptime);
    if (Math.abs(stamp - time) > SNAP_MS) return { time, stamp };
    this.anchor = { stamp: time, uptime };
    return { time, stamp: time };
  }

  /** Writes down how late it is. @throws where that is not possible */
  save(): void {
    const left: Left = { ...this.now(), boot: this.sources.boot(), uptime: this.sources.uptime() };
    replaceFile(this.file, `${JSON.stringify(left)}\n`, 0o600);
  }

  private read(): Left | undefined {
    try {
      const { time, stamp, boot, uptime } = JSON.parse(readSmallFile(this.file, MAX_BYTES));
      return [time, stamp, uptime].every(Number.isFinite) ? { time, stamp, boot, uptime } : undefined;
    } catch {
      return undefined;
    }
  }
}
