/** The log of a source on which much goes on, and of one whose backup is away. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pair } from '../pair.ts';
import { content, count, eventually, type Program } from '../processes.ts';

setDefaultTimeout(120_000);

/** Rewrites a file all the time until the object is disposed of. */
function rewrite(path: string): Disposable {
  let n = 0;
  const timer = setInterval(() => writeFileSync(path, `${n++}`.repeat(100)), 5);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

type Entry = Record<string, unknown> & { event: string; message: string };
const entriesOf = (program: Program): Entry[] =>
  program.output.split('\n').flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? JSON.parse(line) : []));
const statusOf = (pair: Pair) => JSON.parse(content(pair.path('source-status.json')));

describe.concurrent('a file that is written all the time', () => {
  test('is counted, while what is new is told from the first line to the last', async () => {
    await using pair = await Pair.withKeys('hot');
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    {
      using _ = rewrite(pair.path('source', 'hot'));
      await source.shows('变化频繁：重复的变化和成功的同步不再逐条列出');
      await sleep(1000); // what was under way is over
      const offset = source.output.length;
      await sleep(1000);
      const told = source.output.slice(offset);
      expect(told.length).toBeLessThan(1000); // some 60 kB before that
      writeFileSync(pair.path('source', 'new'), 'new');
      const isToldAt = () => source.output.indexOf(`检测到文件变化: ${pair.path('source', 'new')} CREATE`, offset);
      await eventually(() => isToldAt() > 0);
      await source.shows(/触发批量同步\.\.\.\n.*^new\n.*同步成功 \(耗时: \d+秒\) ✓/ms, isToldAt());
      rmSync(pair.path('source', 'new'));
      await source.shows(`检测到文件变化: ${pair.path('source', 'new')} DELETE`, offset);
    }
    await pair.isMirrored();
    await eventually(() => statusOf(pair).omitted.changes > 100);
    expect(statusOf(pair).omitted.syncs).toBeGreaterThan(0);
    await source.stop();
    expect(source.output).toMatch(
      /过去 \d+ 秒未逐条列出：[1-9]\d* 次成功的同步 \([1-9]\d* 个文件，.*、[1-9]\d* 处文件变化、[1-9]\d* 行 rsync 输出\n/,
    );
  });

  test('is in the counts of the log for programs', async () => {
    await using pair = await Pair.withKeys('hot-json');
    const { source } = await pair.run({ SYNC_INTERVAL: '0', LOG_FORMAT: 'json' }, '"event":"service.ready"');
    {
      using _ = rewrite(pair.path('source', 'hot'));
      await source.shows('"event":"log.thinned"');
      await sleep(1500);
    }
    await pair.isMirrored();
    await eventually(() => statusOf(pair).targets[0].state === 'idle');
    const { syncs } = statusOf(pair).targets[0];
    await source.stop();
    const entries = entriesOf(source);
    const sum = (event: string, field: string) =>
      entries.filter((it) => it.event === event).reduce((all, it) => all + Number(it[field]), 0);
    const listed = entries.filter(({ event, mode }) => event === 'sync.success' && mode === 'incremental');
    expect(listed.length + sum('log.summary', 'syncs')).toBe(syncs.incremental.success);
    expect(sum('log.summary', 'files')).toBeGreaterThan(0);
    expect(sum('log.summary', 'bytes')).toBeGreaterThan(0);
  });
});

test('a target that is away is told of once, and when it is back, with how long it was away', async () => {
  await using pair = await Pair.withKeys('away-log');
  const { source, backup } = await pair.run({ SYNC_INTERVAL: '0' });
  await backup.stop();
  const offset = source.output.length;
  {
    using _ = rewrite(pair.path('source', 'hot'));
    await source.shows(/\[WARN .*\] 2 秒后重试，1 处变化等待同步。恢复之前不再逐次记录，每 5 分钟报告一次/, offset);
    await eventually(() => statusOf(pair).omitted.tries >= 2);
  }
  const told = source.output.slice(offset);
  expect(count(told, '同步失败 (退出码: 255)')).toBe(1);
  expect(count(told, '触发批量同步')).toBe(1);
  expect(told).not.toContain('4 秒后重试');
  expect(told.length).toBeLessThan(16_000); // a hundred changes beside it: those before it was noticed, and those that wait
  pair.start('start-sshd');
  await source.shows(/\] 目标恢复连接，此前 \d+ 秒无法连接，重试了 \d+ 次 ✓/, offset);
  const back = source.output.lastIndexOf('目标恢复连接');
  await pair.isMirrored();
  await source.shows('同步成功', back);
});
