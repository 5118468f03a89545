import { describe, expect, jest, test } from 'bun:test';
import { existsSync, readdirSync } from 'node:fs';
import { describeDirectories, describeHeld, directoriesOf, reportHeld } from '../../../src/mirror/held.ts';
import { Memory } from '../../../src/mirror/memory.ts';
import { judge, problemsOf } from '../../../src/mirror/status.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { scratch } from '../service/scratch.ts';

const held = {
  count: 363,
  directories: [
    { path: 'photos', count: 301 },
    { path: 'caf\xc3\xa9\n\x1b[31m', count: 60 },
    { path: '', count: 2 },
  ],
  since: Date.parse('2026-11-22T20:00:00Z'),
};

describe('deletions that are held', () => {
  test('are described with their number, the directories and the command, and no name controls the terminal', () => {
    const line = describeHeld(held, '，超出一小时内的限额 100 个 (MAX_DELETE=100)');
    expect(line).toStartWith(
      '目标上有 363 个文件待删除，超出一小时内的限额 100 个 (MAX_DELETE=100)，已暂缓删除，其他变化照常同步',
    );
    expect(line).toContain('主要位于 photos (301)、café\\n\\x1b[31m (60)、. (2)');
    expect(line).toContain('docker compose exec rsync-source rsync-inotify --accept-deletions');
    expect(describeDirectories([])).toBe('');
    expect(directoriesOf(held)[1]).toEqual({ path: 'café\n\x1b[31m', count: 60 });
    expect(reportHeld(held)).toEqual({
      count: 363,
      directories: [
        { path: 'photos', count: 301 },
        { path: 'café\\n\\x1b[31m', count: 60 },
        { path: '.', count: 2 },
      ],
      since: '2026-11-22T20:00:00.000Z',
    });
  });

  test('are a problem of their target', () => {
    const state = new TargetState('one', true);
    expect(state.report().held).toBeNull();
    state.held = held;
    const updated = '2026-11-22T20:00:00Z';
    const status = {
      ...{
        updated,
        phase: 'mirroring',
        max_lag_seconds: 300,
        source_found: true,
        watch: { running: true },
        mounts: [],
      },
      targets: [
        { ...state.report(), up: true },
        { target: 'two', up: true, oldest_pending: null, held: null },
        { target: 'of an older version', up: true, oldest_pending: null },
      ],
    } as unknown as Parameters<typeof judge>[0];
    expect(problemsOf(status)).toEqual([{ problem: 'deletions', target: 'one' }]);
    expect(judge(status)).toEqual({
      healthy: false,
      line: '不健康: 删除过多，已暂缓，确认后请执行 rsync-inotify --accept-deletions: one',
    });
  });
});

test('what changes with each batch is written down before long, once', () => {
  using directory = scratch();
  jest.useFakeTimers();
  try {
    const memory = new Memory({ SSH_DIR: directory.path, SOURCE_DIR: '/data/' });
    for (let n = 0; n < 100; n++) memory.saveSoon();
    expect(readdirSync(directory.path)).toEqual([]);
    jest.advanceTimersByTime(2000);
    const [name = ''] = readdirSync(directory.path);
    expect(existsSync(`${directory.path}/${name}`)).toBe(true);
    memory.target('one').growth = 7;
    memory.saveSoon();
    memory.save();
    expect(new Memory({ SSH_DIR: directory.path, SOURCE_DIR: '/data/' }).target('one').growth).toBe(7);
    expect(jest.getTimerCount()).toBe(0);
  } finally {
    jest.useRealTimers();
  }
});
