import { describe, expect, test } from 'bun:test';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { IncidentMemory, incidentFile } from '../../../src/service/incident-memory.ts';
import { IncidentLog, type Incidents, type Sighting } from '../../../src/service/incidents.ts';
import { describeDuration, type Origin, writeReport, writeTest } from '../../../src/service/report-words.ts';
import { localTime } from '../../../src/service/text.ts';
import { keepLog } from '../mirror/stand-ins.ts';
import { scratch } from './scratch.ts';

const START = Date.parse('2026-11-29T04:00:00Z');
const DOWN: Sighting = { problem: 'target_down', target: 'root@backup:/data/', text: '无法连接目标' };
const LAG: Sighting = { problem: 'lag', target: 'root@backup:/data/', text: '落后 400 秒' };

/** A log of incidents on a clock of its own, that is looked at every second. */
function story(after = 120, receivers = ['a'], data?: Incidents) {
  const log = new IncidentLog(1000 * after, receivers, data);
  let seconds = 0;
  let isFirst = true;
  const news = (receiver = 'a') => {
    const { begun, ended } = log.newsFor(receiver);
    log.confirm(receiver, { begun, ended });
    return [...begun.map(({ problem }) => `+${problem}`), ...ended.map(({ problem }) => `-${problem}`)];
  };
  /** Has so many seconds pass in which this is seen; lists what becomes known meanwhile, and when. */
  const pass = (count: number, seen: Sighting[], isPartial = false) => {
    const told: string[] = [];
    for (let n = 0; n < count; n++) {
      log.observe(seen, { now: START + 1000 * seconds, passed: isFirst ? 0 : 1000, isPartial });
      isFirst = false;
      told.push(...news().map((it) => `${seconds} ${it}`));
      seconds++;
    }
    return told;
  };
  return { log, pass, news };
}

describe('an incident', () => {
  test('is told once it has lasted, once, and that it is over when it has stayed away', () => {
    const { pass } = story();
    expect(pass(10, [])).toEqual([]);
    expect(pass(500, [DOWN])).toEqual(['130 +target_down']);
    expect(pass(500, [])).toEqual(['630 -target_down']);
  });

  test('is not told where it is over before', () => {
    const { pass, log } = story();
    expect(pass(110, [DOWN])).toEqual([]);
    expect(pass(300, [])).toEqual([]);
    expect(log.data).toEqual({ open: {}, closed: [] });
  });

  test('is one as long as it comes and goes, however often', () => {
    const { pass } = story();
    const told: string[] = [];
    for (let n = 0; n < 30; n++) told.push(...pass(60, [DOWN]), ...pass(30, []));
    expect(told).toEqual(['180 +target_down']); // once it is seen again after 60 s and 60 s
    expect(pass(200, [])).toEqual(['2790 -target_down']);
  });

  test('is another one after it was over', () => {
    const { pass } = story();
    const told = [...pass(200, [DOWN]), ...pass(200, []), ...pass(200, [DOWN])];
    expect(told.map((it) => it.split(' ')[1])).toEqual(['+target_down', '-target_down', '+target_down']);
  });

  test('is apart from those of other problems, targets and parts', () => {
    const mount = (part: string): Sighting => ({ problem: 'mount', part, text: '挂载点不见了' });
    const other = { ...DOWN, target: 'root@other:/data/' };
    const { pass } = story(5);
    expect(pass(6, [DOWN, LAG])).toEqual(['5 +target_down', '5 +lag']);
    expect(pass(6, [DOWN, LAG, other, mount('a'), mount('b')])).toEqual(['11 +target_down', '11 +mount', '11 +mount']);
  });

  test('is told at once where nothing is to be waited for, and is one nevertheless while it comes and goes', () => {
    const { pass } = story(0);
    const told: string[] = [];
    for (let n = 0; n < 20; n++) told.push(...pass(1, [DOWN]), ...pass(8, []));
    expect(told).toEqual(['0 +target_down']);
    expect(pass(20, [])).toEqual(['182 -target_down']);
  });

  test('neither ends nor goes on where nothing can be seen', () => {
    const { pass } = story();
    expect(pass(200, [DOWN])).toEqual(['120 +target_down']);
    const starting = { problem: 'starting', text: '正在启动' };
    expect(pass(1000, [starting], true)).toEqual(['320 +starting']);
    expect(pass(100, [DOWN])).toEqual([]);
    expect(pass(200, []).map((it) => it.split(' ')[1])).toEqual(['-starting', '-target_down']);
  });

  test('of which a receiver did not get to know in time is told as over, with how long it lasted', () => {
    const { pass, log } = story(120, ['a', 'slow']);
    pass(300, [DOWN]);
    pass(300, []);
    const { begun, ended } = log.newsFor('slow');
    expect(begun).toEqual([]);
    expect(ended).toMatchObject([{ problem: 'target_down', since: START, gone: START + 300_000 }]);
    log.confirm('slow', { begun, ended });
    expect(log.data.closed).toEqual([]);
  });

  test('says when there will be news', () => {
    const { log } = story(120);
    expect(log.due).toBeUndefined();
    log.observe([DOWN], { now: START, passed: 0 });
    expect(log.due).toBe(120_000);
    log.observe([DOWN], { now: START, passed: 50_000 });
    expect(log.due).toBe(70_000);
    log.observe([], { now: START, passed: 1000 });
    expect(log.due).toBe(120_000);
  });

  test('is one of so many at most', () => {
    const { log } = story(0);
    const many = Array.from({ length: 1000 }, (_, n): Sighting => ({ problem: 'mount', part: String(n), text: '' }));
    log.observe(many, { now: START, passed: 0 });
    expect(Object.keys(log.data.open)).toHaveLength(200);
    log.observe([], { now: START, passed: 0 });
    log.observe([], { now: START, passed: 200_000 });
    expect(log.data.closed).toHaveLength(100);
  });
});

describe('a restart', () => {
  const again = (data: Incidents) => JSON.parse(JSON.stringify(data)) as Incidents;

  test('has nobody told twice, and the end told as well', () => {
    const before = story();
    before.pass(200, [DOWN]);
    const { pass } = story(120, ['a'], again(before.log.data));
    expect(pass(5, [{ problem: 'starting', text: '' }], true)).toEqual([]);
    expect(pass(300, [DOWN])).toEqual([]);
    expect(pass(300, [])).toEqual(['425 -target_down']);
  });

  test('after restart does not keep a start that never succeeds from being told', () => {
    let data: Incidents | undefined;
    const told: string[] = [];
    for (let n = 0; n < 4; n++) {
      const { pass, log } = story(120, ['a'], data);
      told.push(...pass(50, [{ problem: 'starting', text: '正在启动' }], true));
      data = again(log.data);
    }
    expect(told).toEqual(['22 +starting']); // in the third one
  });

  test('with another receiver has that told what is wrong, and forgets one that is gone', () => {
    const before = story(120, ['a', 'slow']);
    before.pass(300, [DOWN, LAG]);
    before.pass(300, [LAG]);
    const { log, news } = story(120, ['a', 'new'], again(before.log.data));
    expect(log.data.closed).toEqual([]);
    expect(news('new')).toEqual([]); // it is not known yet whether it is there
    log.observe([LAG], { now: START, passed: 0 });
    expect(news('a')).toEqual([]);
    expect(news('new')).toEqual(['+lag']);
  });
});

describe('what is remembered', () => {
  test('is in a file that nobody else can read, one for each service', () => {
    using directory = scratch();
    const path = incidentFile(directory.path, 'rsync-inotify', '/data/source/');
    expect(path).toBe(incidentFile(directory.path, 'rsync-inotify', '/data/source'));
    expect(path).not.toBe(incidentFile(directory.path, 'start-sshd', '/data/source'));
    const memory = new IncidentMemory(path);
    new IncidentLog(0, ['a'], memory.data.incidents).observe([DOWN], { now: START, passed: 0 });
    memory.data.next.a = START;
    memory.save();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(new IncidentMemory(path).data).toEqual(memory.data);
    expect(Object.values(new IncidentMemory(path).data.incidents.open)).toMatchObject([DOWN]);
  });

  test.each([
    '',
    '{',
    '[]',
    '{"incidents":{"open":{"x":{}},"closed":[]},"next":{},"saved":0}',
    '{"incidents":{"open":{},"closed":[{}]},"next":{},"saved":0}',
    '{"incidents":{"open":{},"closed":[]},"next":{"a":"b"},"saved":0}',
    '{"incidents":{"open":{},"closed":[]},"next":{}}',
    ...['"wrong":-1,"calm":0', '"wrong":0,"calm":-9e14'].map(
      (spans) =>
        `{"incidents":{"open":{"x":{"problem":"lag","text":"x","since":0,"told":[],${spans}}},"closed":[]},"next":{},"saved":0}`,
    ),
  ])('is nothing where the file holds %p, with a word', (content) => {
    using directory = scratch();
    using log = keepLog();
    const path = join(directory.path, 'reports.json');
    writeFileSync(path, content);
    expect(new IncidentMemory(path).data).toEqual({ incidents: { open: {}, closed: [] }, next: {}, saved: 0 });
    expect(log.text).toContain('不记得已报告过的故障');
  });

  test('that cannot be written down is told once', () => {
    using directory = scratch();
    using log = keepLog();
    writeFileSync(join(directory.path, 'file'), '');
    const memory = new IncidentMemory(join(directory.path, 'file', 'reports.json'));
    for (let n = 0; n < 3; n++) memory.save();
    expect(log.text.match(/无法保存/g)).toHaveLength(1);
    expect(readFileSync(join(directory.path, 'file'), 'utf8')).toBe('');
  });
});

describe('a report', () => {
  const origin: Origin = {
    ...{ program: 'rsync-inotify', version: '1.0.0', host: 'web1', directory: '/data/source/' },
    place: '源目录: /data/source/',
  };
  const incident = (seconds: number, sighting = DOWN) => ({
    ...{ problem: sighting.problem, target: sighting.target, text: sighting.text },
    ...{ since: START, wrong: 0, calm: 0, told: [], gone: START + 1000 * seconds },
  });
  const at = (seconds: number) => localTime(new Date(START + 1000 * seconds));

  test('says what is wrong, since when, for how long, with what, and who says so', () => {
    const { title, text, data, isAlarm } = writeReport(origin, { begun: [incident(0)], ended: [] }, START + 123_000);
    expect(title).toBe('rsync-inotify @ web1：故障 target_down');
    expect(text).toBe(
      `【故障】target_down 无法连接目标 root@backup:/data/，自 ${at(0)} 起，已持续 2 分 3 秒\n源目录: /data/source/`,
    );
    expect(isAlarm).toBe(true);
    expect(data).toEqual({
      ...{ program: 'rsync-inotify', version: '1.0.0', host: 'web1', directory: '/data/source/' },
      ...{ time: '2026-11-29T04:02:03.000Z', title, text },
      reports: [
        {
          ...{ event: 'problem', problem: 'target_down', target: 'root@backup:/data/', text: '无法连接目标' },
          ...{ since: '2026-11-29T04:00:00.000Z', seconds: 123 },
        },
      ],
    });
  });

  test('has for programs what is wrong without the colon behind which it is said with what', () => {
    const failed = { problem: 'failed', target: 'root@backup:/data/', text: 'something cannot be mirrored:' };
    const { text, data } = writeReport(origin, { begun: [incident(0, failed)], ended: [] }, START);
    expect(text).toStartWith('【故障】failed something cannot be mirrored: root@backup:/data/，');
    expect(data).toMatchObject({ reports: [{ text: 'something cannot be mirrored', target: 'root@backup:/data/' }] });
  });

  test('says as well what is to be known beside it', () => {
    const aside = { line: '已按要求暂停同步', fields: { paused_until: '2026-11-29T05:00:00.000Z' } };
    const { text, data } = writeReport(origin, { begun: [incident(0)], ended: [] }, START, aside);
    expect(text.split('\n').slice(1)).toEqual(['已按要求暂停同步', '源目录: /data/source/']);
    expect(data).toMatchObject({ text, paused_until: '2026-11-29T05:00:00.000Z' });
  });

  test('says what is well again, and how long it was not', () => {
    const { title, text, data, isAlarm } = writeReport(origin, { begun: [], ended: [incident(493)] }, START + 600_000);
    expect(title).toBe('rsync-inotify @ web1：恢复 target_down');
    expect(text).toStartWith(
      `【恢复】target_down 无法连接目标 root@backup:/data/，${at(0)} 至 ${at(493)}，持续 8 分 13 秒\n`,
    );
    expect(isAlarm).toBe(false);
    expect(data).toMatchObject({ reports: [{ event: 'recovered', until: '2026-11-29T04:08:13.000Z', seconds: 493 }] });
  });

  test('names no more than ten things in its text, and all of them for programs', () => {
    const many = Array.from({ length: 12 }, () =>
      incident(0, { problem: 'mount', part: 'secret', text: '挂载点不见了:' }),
    );
    const { title, text, data } = writeReport(origin, { begun: many, ended: [incident(1)] }, START);
    expect(title).toBe('rsync-inotify @ web1：12 个故障，恢复 target_down');
    expect(text.split('\n')).toHaveLength(12);
    expect(text).toContain('…另有 3 条，见 --status\n');
    expect(text).toContain('【故障】mount 挂载点不见了，自');
    expect(data).toMatchObject({ reports: Array(13).fill({}) });
    expect(JSON.stringify(data)).not.toContain('secret');
  });

  test('that is a test says so', () => {
    const { title, text, data } = writeTest(origin, START);
    expect([title, text]).toEqual(['rsync-inotify @ web1：测试 test', expect.stringMatching(/^【测试】test /)]);
    expect(data).toMatchObject({ reports: [{ event: 'test' }] });
  });

  test.each([
    [-5, '0 秒'],
    [400, '0 秒'],
    [59_400, '59 秒'],
    [60_000, '1 分'],
    [3_723_000, '1 小时 2 分'],
    [90_000_000, '1 天 1 小时'],
    [86_400_000 + 5000, '1 天'],
  ])('says of %d ms that they are %s', (ms, expected) => {
    expect(describeDuration(ms)).toBe(expected);
  });
});
