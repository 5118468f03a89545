import { expect, test } from 'bun:test';
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
