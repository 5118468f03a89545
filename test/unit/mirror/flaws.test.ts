import { describe, expect, test } from 'bun:test';
import { Faults } from '../../../src/mirror/faults.ts';
import { Flaws } from '../../../src/mirror/flaws.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { outcome, passSeconds, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** What rsync says where it cannot set owners of these. */
function unowned(...paths: string[]): Faults {
  const faults = new Faults((told) => told);
  for (const path of paths) faults.read(`rsync: [receiver] chown "${path}" failed: Operation not permitted (1)\n`);
  return faults;
}

function make({ interval = 0 } = {}) {
  const state = new TargetState('backup', false);
  const bed = { state, woken: 0, flaws: new Flaws({ state, interval, wake: () => bed.woken++ }) };
  return bed;
}

describe('attributes that a target cannot set', () => {
  test('are told once, with what to do', () => {
    const { flaws, state } = make();
    flaws.note(outcome({ faults: unowned('a', 'b') }));
    flaws.note(outcome({ faults: unowned('c') }));
    expect(log.text.match(/目标上不能设置属主，例如 a：Operation not permitted/g)).toHaveLength(1);
    expect(log.text).toContain('--no-owner');
    expect([...state.unsettable]).toEqual(['owner']);
  });

  test('of the source directory itself are told with a name, too', () => {
    const faults = new Faults(() => '');
    faults.read('rsync: [generator] failed to set permissions on "." (in mirror): Operation not permitted (1)\n');
    make().flaws.note(outcome({ faults }));
    expect(log.text).toContain('目标上不能设置权限，例如 ./：Operation not permitted');
  });

  test('are tried again after 1, 2, 4 s … and at last once in the interval of the regular comparison', async () => {
    const bed = make({ interval: 20 });
    const times: number[] = [];
    const start = performance.now();
    bed.flaws.note(outcome({ faults: unowned('a', 'b') }));
    for (let n = 0; n < 900; n++) {
      await passSeconds(0.1);
      if (!bed.flaws.isDue) continue;
      times.push(Math.round((performance.now() - start) / 1000));
      expect([...bed.flaws.take().keys()]).toEqual(['a', 'b']);
      bed.flaws.note(outcome({ faults: unowned('a', 'b') }));
    }
    expect(times).toEqual([1, 3, 7, 15, 31, 51, 71]);
    expect(bed.woken).toBe(7);
  });

  test('are forgotten where a comparison of all has met with none, and told again from then on', () => {
    const { flaws, state } = make();
    flaws.note(outcome({ faults: unowned('a') }));
    flaws.note(outcome({ faults: unowned() }));
    expect(state.unsettable.size).toBe(1);
    flaws.note(outcome({ mode: 'full', faults: unowned() }));
    expect(state.unsettable.size).toBe(0);
    flaws.note(outcome({ faults: unowned('a') }));
    expect(log.text.match(/目标上不能设置属主/g)).toHaveLength(2);
  });

  test('of many are left to the regular comparison', async () => {
    const { flaws } = make();
    for (let round = 0; round < 3; round++)
      flaws.note(outcome({ faults: unowned(...Array.from({ length: 900 }, (_, n) => `${round}-${n}`)) }));
    await passSeconds(1);
    expect(flaws.take().size).toBe(1000);
    expect(flaws.isDue).toBe(false);
  });

  test('are nothing where an rsync was not let run, or said nothing', async () => {
    const { flaws } = make();
    flaws.note(outcome({ kind: 'failed', status: null }));
    flaws.note(outcome({ faults: unowned() }));
    await passSeconds(10);
    expect(flaws.isDue).toBe(false);
  });
});
