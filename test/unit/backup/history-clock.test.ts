import { describe, expect, test } from 'bun:test';
import { join } from 'node:path';
import { HistoryClock } from '../../../src/backup/history-clock.ts';
import { scratch } from '../service/scratch.ts';

const DAY = 86_400_000;

/** A machine whose clock can be set. */
class Machine {
  time = 1_800_000_000_000;
  uptime = 5_000_000;
  boot = 'first';
  readonly sources = { time: () => this.time, uptime: () => this.uptime, boot: () => this.boot };
  pass(ms: number): void {
    this.time += ms;
    this.uptime += ms;
  }
  restart(boot: string): void {
    this.boot = boot;
    this.uptime = 1000;
  }
}

describe('the clock that versions age by', () => {
  const start = (machine: Machine, file: string, newest?: number) => {
    const clock = new HistoryClock(file, machine.sources);
    clock.begin(newest);
    return clock;
  };
  const lag = (clock: HistoryClock) => clock.now().stamp - clock.now().time;

  test('is that of the machine as long as this does not jump, or is only corrected', () => {
    using place = scratch();
    const machine = new Machine();
    const clock = start(machine, join(place.path, 'clock'));
    machine.pass(DAY);
    expect(lag(clock)).toBe(0);
    machine.time += 60_000;
    expect(lag(clock)).toBe(0);
  });

  test.each([400 * DAY, -400 * DAY, 3_600_000])('goes on where that of the machine jumps by %d ms', (jump) => {
    using place = scratch();
    const machine = new Machine();
    const clock = start(machine, join(place.path, 'clock'));
    const { stamp } = clock.now();
    machine.time += jump;
    machine.pass(1000);
    expect(clock.now().stamp).toBe(stamp + 1000);
    clock.save();
    const next = start(machine, join(place.path, 'clock'));
    machine.pass(1000);
    expect(next.now().stamp).toBe(stamp + 2000);
    machine.time -= jump;
    expect(lag(next)).toBe(0);
  });

  test('believes no more than a day of the time that the machine was off', () => {
    using place = scratch();
    const machine = new Machine();
    const file = join(place.path, 'clock');
    const clock = start(machine, file);
    const { stamp } = clock.now();
    clock.save();
    machine.time += 3_600_000;
    machine.restart('second');
    expect(lag(start(machine, file))).toBe(0);
    machine.time += 400 * DAY;
    expect(start(machine, file).now().stamp).toBe(stamp + DAY);
  });

  test('goes by the newest version where nothing else is known', () => {
    using place = scratch();
    const machine = new Machine();
    const newest = machine.time - 300 * DAY;
    expect(start(machine, join(place.path, 'clock'), newest).now().stamp).toBe(newest + DAY);
    expect(lag(start(machine, join(place.path, 'clock'), machine.time - 1000))).toBe(0);
  });
});
