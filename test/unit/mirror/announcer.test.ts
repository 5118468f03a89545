import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test';
import { Announcer } from '../../../src/mirror/announcer.ts';
import { keepLog } from './stand-ins.ts';

/** How many changes of a batch the log names, and how many are kept to be looked at. */
const [LISTED, KEPT] = [50, 20];

test('fifty changes of a batch are named, and the others counted before it is sent', () => {
  using kept = keepLog();
  const announcer = new Announcer();
  const named = () => kept.text.match(/检测到文件变化/g)?.length ?? 0;
  for (let n = 0; n < LISTED; n++) announcer.announce(`/data/${n}`, 'CREATE');
  announcer.closeBatch();
  expect(named()).toBe(LISTED);
  expect(kept.text).not.toContain('未逐条列出');
  for (let n = 0; n < LISTED + 7; n++) announcer.announce(`/data/${n}`, 'MODIFY');
  announcer.closeBatch();
  expect(named()).toBe(2 * LISTED);
  expect(kept.text.match(/另有 7 处文件变化未逐条列出/g)).toHaveLength(1);
  announcer.closeBatch();
  expect(kept.text.match(/未逐条列出/g)).toHaveLength(1);
});

test('names are safe to print', () => {
  using kept = keepLog();
  new Announcer().announce('/data/\n[ERROR]\xff', 'CREATE');
  expect(kept.text).toEndWith('检测到文件变化: /data/\\n[ERROR]\\xff CREATE\n');
});

test('the last changes are kept, the newest first, with all that has happened to a path in a row', () => {
  using _ = keepLog();
  const announcer = new Announcer();
  for (let n = 0; n < 30; n++) announcer.announce(`/data/${n}`, 'CREATE');
  announcer.announce('/data/29', 'MODIFY');
  announcer.announce('/data/29', 'CLOSE_WRITE,CLOSE');
  announcer.announce('/data/28', 'DELETE');
  const report = announcer.report();
  expect(report).toHaveLength(KEPT);
  expect(report.slice(0, 3).map(({ path, events }) => [path, events])).toEqual([
    ['/data/28', 'DELETE'],
    ['/data/29', 'CREATE MODIFY CLOSE_WRITE,CLOSE'],
    ['/data/28', 'CREATE'],
  ]);
  for (let n = 0; n < 100; n++) announcer.announce('/data/busy', 'MODIFY');
  expect(announcer.report()[0]?.events).toHaveLength(100);
});

describe('where much goes on', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  /** Has a file change so often each second, for some seconds, a batch each second. */
  function rewrite(announcer: Announcer, { times, seconds }: { times: number; seconds: number }): void {
    for (let second = 0; second < seconds; second++) {
      for (let n = 0; n < times; n++) announcer.announce('/data/hot', n % 2 ? 'CLOSE_WRITE,CLOSE' : 'MODIFY');
      announcer.closeBatch();
      jest.advanceTimersByTime(1000);
    }
  }

  test('what is told again and again is counted and summed up each minute, until it is over', () => {
    using kept = keepLog();
    const announcer = new Announcer();
    rewrite(announcer, { times: 200, seconds: 600 });
    const told = () => kept.text.match(/检测到文件变化: \/data\/hot/g)?.length ?? 0;
    expect(told()).toBeWithin(600, 640); // it has room for as many, and names both once more after ten minutes
    const summaries = [...kept.text.matchAll(/过去 (\d+) 秒未逐条列出：0 次成功的同步 .*、(\d+) 处文件变化、/g)];
    expect(summaries.length).toBeWithin(9, 11);
    for (const [, seconds, changes] of summaries.slice(1)) expect([seconds, changes]).toEqual(['60', '12000']);
    expect(kept.text.match(/变化频繁/g)).toHaveLength(1);
    expect(kept.text.length).toBeLessThan((600 * 50 * 70) / 10); // a tenth of fifty lines for each batch
    announcer.announce('/data/new', 'CREATE');
    expect(kept.text).toEndWith('检测到文件变化: /data/new CREATE\n');

    jest.advanceTimersByTime(180_000);
    expect(kept.text).toEndWith('变化不再频繁，恢复逐条列出\n');
    const sum = [...kept.text.matchAll(/、(\d+) 处文件变化、/g)].reduce((all, [, count]) => all + Number(count), 0);
    const unlisted = [...kept.text.matchAll(/另有 (\d+) 处文件变化未逐条列出/g)].reduce(
      (all, [, n]) => all + Number(n),
      0,
    );
    expect(told() + sum + unlisted).toBe(600 * 200); // nothing is told of that is not counted, nor twice
    expect(announcer.reportOmitted().changes).toBe(sum + unlisted);
    const before = told();
    rewrite(announcer, { times: 10, seconds: 1 });
    expect(told()).toBe(before + 10);
  });

  test('nothing is counted while somebody saves a file every ten seconds', () => {
    using kept = keepLog();
    const announcer = new Announcer();
    for (let n = 0; n < 500; n++) {
      for (const events of ['MODIFY', 'MODIFY', 'CLOSE_WRITE,CLOSE']) announcer.announce('/data/saved', events);
      announcer.closeBatch();
      jest.advanceTimersByTime(10_000);
    }
    expect(kept.text.trimEnd().split('\n')).toHaveLength(1500);
    expect(announcer.reportOmitted()).toEqual({ changes: 0, syncs: 0, lines: 0, tries: 0 });
  });
});
