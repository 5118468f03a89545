import { afterEach, beforeEach, expect, jest, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { Leave } from '../../../src/backup/leave.ts';
import { keepLog } from '../mirror/stand-ins.ts';

/** The connection of a session. */
class StandInSocket extends EventEmitter {
  said = '';
  isOver = false;
  write(text: string): void {
    this.said += text;
  }
  end(text = ''): void {
    this.said += text;
    this.isOver = true;
  }
  destroy(): void {
    this.isOver = true;
    this.emit('close');
  }
}

const attend = (leave: Leave) => {
  const socket = new StandInSocket();
  leave.attend(socket as unknown as Socket, '/data/backup');
  return socket;
};

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  jest.useFakeTimers();
  log = keepLog();
});
afterEach(() => {
  log[Symbol.dispose]();
  jest.useRealTimers();
});

test('nobody reads unless somebody has allowed it', () => {
  const leave = new Leave();
  const session = attend(leave);
  expect([session.said, session.isOver, leave.report()]).toEqual(['forbidden\n', true, null]);
});

test('it ends by itself, with the sessions that read then', () => {
  const leave = new Leave();
  leave.give(60_000);
  const [one, other] = [attend(leave), attend(leave)];
  expect(one.said).toBe('allowed\n');
  expect(leave.report()?.reading).toBe(2);
  other.destroy();
  expect(leave.report()?.reading).toBe(1);
  jest.advanceTimersByTime(59_000);
  expect(one.isOver).toBe(false);
  jest.advanceTimersByTime(2000);
  expect(one.isOver).toBe(true);
  expect(leave.report()).toBeNull();
  expect(log.text).toContain('恢复的许可已到期：源端不能再读取 DEST_DIR，已中断 1 个正在进行的读取');
});

test('the last word counts', async () => {
  const leave = new Leave();
  leave.give(60_000);
  leave.give(600_000);
  const session = attend(leave);
  jest.advanceTimersByTime(61_000);
  expect(session.isOver).toBe(false);
  const gone = new AbortController().signal;
  expect(await leave.allow({ command: 'allow-restore', ms: 0 }, gone)).toMatchObject({ isDone: true });
  expect(session.isOver).toBe(true);
  expect(attend(leave).said).toBe('forbidden\n');
});

test.each([undefined, '1h', -1, Number.NaN, 1e12])('a duration of %p is refused', async (ms) => {
  const leave = new Leave();
  const gone = new AbortController().signal;
  expect(await leave.allow({ command: 'allow-restore', ms }, gone)).toMatchObject({ isDone: false });
  expect(leave.report()).toBeNull();
});
