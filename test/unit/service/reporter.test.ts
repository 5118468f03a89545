import { describe, expect, test } from 'bun:test';
import type { Sighting } from '../../../src/service/incidents.ts';
import { parseReceivers } from '../../../src/service/receivers.ts';
import type { Aside } from '../../../src/service/report-words.ts';
import { Reporter } from '../../../src/service/reporter.ts';
import type { Reply, Request } from '../../../src/service/requests.ts';
import { Failure } from '../../../src/service/text.ts';
import { keepLog, settle } from '../mirror/stand-ins.ts';

const START = Date.parse('2026-11-29T04:00:00Z');
const down = (target = 'one'): Sighting => ({ problem: 'target_down', target, text: '无法连接目标' });
const origin = {
  program: 'rsync-inotify',
  version: '1.0.0',
  host: 'web1',
  directory: '/data/',
  place: '源目录: /data/',
};
const [DING, JSON_URL] = [
  'https://oapi.dingtalk.com/robot/send?access_token=topsecret',
  'https://example.org/topsecret',
];
const OK: Reply = { status: 200, body: '{"errcode":0}' };

interface Data {
  incidents: { open: Record<string, never>; closed: never[] };
  next: Record<string, number>;
  saved: number;
}
const nothing = (): Data => ({ incidents: { open: {}, closed: [] }, next: {}, saved: 0 });

/** A reporter on clocks of its own, and what it sends, as second and title. */
function reporting(
  urls: string,
  answer: (request: Request, second: number) => Reply | Promise<Reply> = () => OK,
  data = nothing(),
  start = 0,
) {
  const [sent, texts]: [string[], string[]] = [[], []];
  let [second, saves] = [start, 0];
  const send = async (request: Request) => {
    const { title, text } = JSON.parse(request.body ?? '');
    texts.push(text);
    sent.push(
      `${second} ${request.url.host} ${title ?? text.content.split('\n')[0]}`.replace('rsync-inotify @ web1：', ''),
    );
    return answer(request, second);
  };
  const memory = { data, save: () => saves++ };
  const clocks = { now: () => START + 1000 * second, clock: () => 1000 * second };
  const reporter = new Reporter({
    receivers: parseReceivers(urls),
    after: 120_000,
    origin,
    memory,
    wake: () => {},
    send,
    ...clocks,
  });
  /** Has so many seconds pass, in which this is seen. */
  const pass = async (seconds: number, seen: Sighting[], isPartial = false, aside?: Aside) => {
    for (let n = 0; n < seconds; n++) {
      reporter.observe(seen, isPartial, aside);
      await settle();
      second++;
    }
  };
  return { sent, texts, pass, data, saves: () => saves };
}

describe('reports', () => {
  test('are sent once something has lasted, and once it is well again', async () => {
    using log = keepLog();
    const { sent, pass, saves } = reporting(JSON_URL);
    await pass(1000, [down()]);
    await pass(1000, []);
    expect(sent).toEqual(['120 example.org 故障 target_down', '1120 example.org 恢复 target_down']);
    expect(log.text).toContain('已向 NOTIFY_URL 的第 1 个 (json example.org) 报告 1 个故障、0 个恢复');
    expect(log.text).not.toContain('topsecret');
    expect(saves()).toBeLessThan(30); // it is not written down all the time that something lasts
  });

  test('tell beside it what is to be known when they are sent', async () => {
    using _ = keepLog();
    const { texts, pass } = reporting(JSON_URL);
    await pass(200, [down()], false, { line: '已按要求暂停同步', fields: {} });
    await pass(200, []);
    expect(texts.map((text) => text.split('\n').slice(1))).toEqual([
      ['已按要求暂停同步', '源目录: /data/'],
      ['源目录: /data/'],
    ]);
  });

  test('are one a minute at most, in which all comes that is new', async () => {
    using _ = keepLog();
    const { sent, pass } = reporting(JSON_URL);
    await pass(5, [down('one')]);
    await pass(5, [down('one'), down('two')]);
    await pass(180, [down('one'), down('two'), down('three')]);
    await pass(200, [down('three')]);
    expect(sent).toEqual(['120 example.org 故障 target_down', '180 example.org 2 个故障', '310 example.org 2 个恢复']);
  });

  test('that are refused are sent again, each time after a longer while, and told once', async () => {
    using log = keepLog();
    let isWell = false;
    const { sent, pass } = reporting(DING, () =>
      isWell ? OK : { status: 200, body: '{"errcode":310000,"errmsg":"topsecret"}' },
    );
    await pass(3000, [down()]);
    expect(sent.map((it) => Number(it.split(' ')[0]))).toEqual([120, 180, 300, 540, 1020, 1620, 2220, 2820]);
    expect(log.text.match(/WARN.*/g)).toEqual([
      expect.stringMatching(
        /无法向 NOTIFY_URL 的第 1 个 \(dingtalk oapi\.dingtalk\.com\) 发送报告：HTTP 200 .*310000.*。将继续重试$/,
      ),
    ]);
    expect(log.text).not.toContain('topsecret');
    isWell = true;
    await pass(1000, []);
    expect(sent.slice(8)).toEqual(['3420 oapi.dingtalk.com 恢复 target_down']); // it was never known to be wrong
  });

  test('wait for as long as the service asks', async () => {
    using _ = keepLog();
    const { sent, pass } = reporting(JSON_URL, (_request, second) =>
      second < 400 ? { status: 429, body: '', wait: 300_000 } : OK,
    );
    await pass(1000, [down()]);
    expect(sent.map((it) => Number(it.split(' ')[0]))).toEqual([120, 420]);
  });

  test('go to each receiver by itself: one that hangs or cannot be reached holds up no other', async () => {
    using _ = keepLog();
    const { sent, pass } = reporting(`${DING} ${JSON_URL} https://third.example.org/topsecret`, ({ url }) => {
      if (url.host === 'third.example.org') throw new Failure('连接被拒绝');
      return url.host === 'example.org' ? OK : new Promise<Reply>(() => {});
    });
    await pass(200, [down()]);
    await pass(200, []);
    const of = (host: string) => sent.filter((it) => it.includes(` ${host} `)).map((it) => it.replace(` ${host}`, ''));
    expect(of('example.org')).toEqual(['120 故障 target_down', '320 恢复 target_down']);
    expect(of('oapi.dingtalk.com')).toEqual(['120 故障 target_down']);
    expect(of('third.example.org').length).toBeGreaterThan(1);
  });

  test('keep to a minute over restarts, and to what is known', async () => {
    using _ = keepLog();
    const before = reporting(JSON_URL);
    await before.pass(130, [down()]);
    const data = JSON.parse(JSON.stringify(before.data)) as Data;
    const { sent, pass } = reporting(JSON_URL, undefined, data);
    await pass(200, [down(), down('two')]);
    expect(sent).toEqual(['180 example.org 故障 target_down']); // the clock begins anew here, and the first was sent at 120
    expect(JSON.stringify(data)).not.toContain('topsecret');
  });

  test('come of a service that fails as soon as it starts, again and again', async () => {
    using _ = keepLog();
    const told: string[] = [];
    let data = nothing();
    for (let start = 0; start < 300; start += 35) {
      const { sent, pass } = reporting(JSON_URL, undefined, data, start);
      await pass(1, [{ problem: 'starting', text: '正在启动' }], true);
      told.push(...sent);
      data = JSON.parse(JSON.stringify({ ...data, saved: START + 1000 * start })) as Data;
    }
    expect(told).toEqual(['140 example.org 故障 starting']);
  });

  test('do not count how long a service was stopped', async () => {
    using _ = keepLog();
    const data = nothing();
    await reporting(JSON_URL, undefined, data).pass(60, [down()]);
    data.saved = START + 60_000;
    const { sent, pass } = reporting(JSON_URL, undefined, data, 7200);
    await pass(100, [down()]);
    expect(sent).toEqual(['7261 example.org 故障 target_down']);
  });

  test('are not held up for good by a clock that is set back', async () => {
    using _ = keepLog();
    const data = nothing();
    const [{ id = '' } = {}] = parseReceivers(JSON_URL);
    data.next[id] = START + 86_400_000;
    const { sent, pass } = reporting(JSON_URL, undefined, data);
    await pass(200, [down()]);
    expect(sent).toHaveLength(1);
  });
});
