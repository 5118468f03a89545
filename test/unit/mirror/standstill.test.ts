import { expect, jest, test } from 'bun:test';
import { Standstill } from '../../../src/mirror/standstill.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { start } from '../../../src/service/processes.ts';
import { passSeconds, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** An rsync that does what it is told to; how often it was ended. */
function stand(isPrompt: boolean) {
  const state = new TargetState('backup', false);
  const rsync = start('sleep', ['1000'], { stdio: 'ignore' });
  const kill = jest.spyOn(process, 'kill').mockImplementation(() => true);
  const bed = { state, work: 'one', ended: () => kill.mock.calls.length };
  const standstill = new Standstill(rsync, { state, isPrompt, look: () => bed.work });
  return Object.assign(bed, {
    [Symbol.dispose]() {
      standstill[Symbol.dispose]();
      kill.mockRestore();
      rsync.kill('SIGKILL');
    },
  });
}

test('an rsync in which nothing happens is told once, as is that it goes on', async () => {
  using bed = stand(true);
  for (let n = 0; n < 20; n++) {
    bed.work = `${n}`;
    await passSeconds(60);
  }
  expect(log.text).toBe('');
  await passSeconds(600);
  expect(log.text.match(/同步已 12\d 秒没有任何进展/g)).toHaveLength(1);
  expect(bed.state.report().stalled).not.toBeNull();
  bed.work = 'two';
  await passSeconds(10);
  expect(log.text).toContain('同步又有进展 ✓');
  expect(bed.state.report().stalled).toBeNull();
  expect(bed.ended()).toBe(0);
});

test('it is ended after half an hour', async () => {
  using bed = stand(true);
  await passSeconds(1790);
  expect(bed.ended()).toBe(0);
  await passSeconds(20);
  expect(bed.ended()).toBe(1);
  expect(log.text).toContain('已中止，将重试');
});

test('one that compares by checksum may take as long as it needs, though not without a word', async () => {
  using bed = stand(false);
  await passSeconds(1790);
  expect(log.text).toBe('');
  await passSeconds(5000);
  expect(log.text).toContain('没有任何进展');
  expect(bed.ended()).toBe(0);
});

test('what was told of it is forgotten with it', async () => {
  const bed = stand(true);
  await passSeconds(200);
  expect(bed.state.report().stalled).not.toBeNull();
  bed[Symbol.dispose]();
  expect(bed.state.report().stalled).toBeNull();
});
