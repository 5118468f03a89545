import { describe, expect, test } from 'bun:test';
import { asideOf, judge, problemsOf, sightingsOf } from '../../../src/mirror/status.ts';
import { localTime } from '../../../src/service/text.ts';

describe('what is wrong', () => {
  const now = Date.parse('2026-11-22T20:00:00Z');
  const ago = (seconds: number) => new Date(now - 1000 * seconds).toISOString();
  type Status = Parameters<typeof judge>[0];
  const status = (changes: object = {}, target: object = {}): Status =>
    ({
      updated: ago(0),
      phase: 'mirroring',
      max_lag_seconds: 300,
      source_found: true,
      watch: { running: true },
      targets: [
        { target: 'one', up: true, oldest_pending: null },
        { target: 'two', up: true, oldest_pending: null, ...target },
      ],
      ...changes,
    }) as unknown as Status;
  const problems = (changes?: object, target?: object) => problemsOf(status(changes, target), now);

  test('is nothing while all is well, nor while a change waits within the limit', () => {
    expect(problems()).toEqual([]);
    expect(problems({}, { oldest_pending: ago(299) })).toEqual([]);
    expect(problems({ max_lag_seconds: 0 }, { oldest_pending: ago(99_999) })).toEqual([]);
    expect(judge(status({}, { oldest_pending: ago(12) }), now)).toEqual({
      healthy: true,
      line: '健康: 正在实时镜像，落后 12 秒',
    });
  });

  test('is each thing that is, with the target that it is about', () => {
    const bad = status(
      { source: '/data/', source_found: false, watch: { running: false } },
      { up: false, oldest_pending: ago(301) },
    );
    expect(problemsOf(bad, now)).toEqual([
      { problem: 'source' },
      { problem: 'watcher' },
      { problem: 'target_down', target: 'two' },
      { problem: 'lag', target: 'two' },
    ]);
    expect(judge(bad, now)).toEqual({
      healthy: false,
      line: '不健康: 源目录 /data/ 不见了或被替换；监控进程不在运行，正在重新启动；无法连接目标 two；落后 301 秒，超过了 300 秒 (MAX_LAG + SYNC_INTERVAL): two',
    });
  });

  test('is told apart by target and by mount, of which the words hold neither', () => {
    const bad = status({ mounts: [{ path: 'photos' }, { path: 'films' }] }, { up: false });
    expect(sightingsOf(bad, now)).toEqual([
      { problem: 'mount', target: undefined, part: 'photos', text: '挂载点不见了，它在备份上的内容保持不变:' },
      { problem: 'mount', target: undefined, part: 'films', text: '挂载点不见了，它在备份上的内容保持不变:' },
      { problem: 'target_down', target: 'two', part: undefined, text: '无法连接目标' },
    ]);
  });

  test('is not how long the first comparison of a target takes, but a try that has failed is', () => {
    const first = { oldest_pending: ago(99_999), mirrored: false };
    expect(problems({}, { ...first, state: 'syncing' })).toEqual([]);
    expect(problems({}, { ...first, state: 'retrying' })).toEqual([{ problem: 'lag', target: 'two' }]);
    expect(problems({}, { ...first, state: 'syncing', mirrored: true })).toEqual([{ problem: 'lag', target: 'two' }]);
  });

  test('is that a backup has taken over, and not that it lags behind', () => {
    const promoted = { oldest_pending: ago(99_999), mirrored: true, state: 'promoted', promoted: ago(3600) };
    expect(problems({}, promoted)).toEqual([{ problem: 'promoted', target: 'two' }]);
    expect(judge(status({}, promoted), now).line).toBe(
      '不健康: 备份端已接管，不接收镜像，直到在备份端执行 start-sshd --demote: two',
    );
  });

  test('is no pause until it should have ended, nor what has waited for its end', () => {
    const pause = (until: number) => ({ pause: { since: ago(9999), until: ago(until) }, oldest_pending: ago(9000) });
    for (const state of ['paused', 'syncing']) {
      const paused = { ...pause(-60), state, mirrored: true };
      expect(problems({}, paused)).toEqual([]);
      expect(judge(status({}, paused), now)).toEqual({
        healthy: true,
        line: expect.stringMatching(/^健康: 已按要求暂停同步，到 \S+ \S+ 为止，继续监控$/),
      });
      expect(problems({}, { ...paused, ...pause(30) })).toEqual([]);
      expect(problems({}, { ...paused, ...pause(31) })).toEqual([{ problem: 'pause', target: 'two' }]);
      expect(problems({}, { ...paused, up: false })).toEqual([{ problem: 'target_down', target: 'two' }]);
      expect(asideOf(status({}, paused))).toEqual({
        line: `已按要求暂停同步，到 ${localTime(ago(-60))} 为止，继续监控`,
        fields: { paused_since: ago(9999), paused_until: ago(-60) },
      });
    }
    const late = (resumed: number) => ({
      oldest_pending: ago(9000),
      mirrored: true,
      state: 'waiting',
      resumed: ago(resumed),
    });
    expect(asideOf(status({}, late(300)))).toBeUndefined();
    expect(problems({}, late(300))).toEqual([]);
    expect(problems({}, late(301))).toEqual([{ problem: 'lag', target: 'two' }]);
    expect(problems({}, { ...late(9999), oldest_pending: ago(299) })).toEqual([]);
  });

  test('is the state itself when it is old, but a stop stays a stop', () => {
    expect(problems({ updated: ago(31) })).toEqual([{ problem: 'stale' }]);
    expect(problems({ updated: ago(29) })).toEqual([]);
    expect(problems({ updated: ago(3600), phase: 'stopped' })).toEqual([{ problem: 'stopped' }]);
    expect(problems({ updated: ago(-29) })).toEqual([]); // the clock was set back a little
    expect(problems({ updated: ago(-31) })).toEqual([{ problem: 'stale' }]);
  });
});
