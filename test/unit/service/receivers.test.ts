import { describe, expect, test } from 'bun:test';
import {
  clip,
  parseReceivers,
  type Receiver,
  type Report,
  refusalOf,
  reportVariables,
  requestFor,
} from '../../../src/service/receivers.ts';
import { send } from '../../../src/service/requests.ts';
import { readVariables } from '../../../src/service/variables.ts';
import { SECRETS, Services } from '../../services.ts';

const REPORT: Report = {
  title: 'rsync-inotify @ web1：故障 target_down',
  text: '【故障】target_down 无法连接目标 <me&you>@backup:/data/',
  isAlarm: true,
  data: { program: 'rsync-inotify', reports: [] },
};
const NOW = 1_760_000_000_000;

const only = (value: string) => parseReceivers(value)[0] as Receiver;
const sent = (value: string, report = REPORT) => {
  const { url, headers, body } = requestFor(only(value), report, NOW);
  return { url: url.href, headers, body: JSON.parse(body ?? '') };
};

describe('a report', () => {
  const said = `${REPORT.title}\n${REPORT.text}`;

  test('goes to DingTalk with its signature in the URL, by the time in ms and the secret, which stays here', () => {
    const { url, body } = sent('https://oapi.dingtalk.com/robot/send?access_token=abc&secret=SECthisissecret');
    expect(new URL(url).searchParams.get('sign')).toBe('Bx+lgUvSaPQiuk5wKshWu53dUmNjqgFEWJ9kqnfJwQU=');
    expect(url).toBe(
      'https://oapi.dingtalk.com/robot/send?access_token=abc&timestamp=1760000000000&sign=Bx%2BlgUvSaPQiuk5wKshWu53dUmNjqgFEWJ9kqnfJwQU%3D',
    );
    expect(body).toEqual({ msgtype: 'text', text: { content: said } });
    const unsigned = sent('https://oapi.dingtalk.com/robot/send?access_token=abc');
    expect(unsigned.url).toBe('https://oapi.dingtalk.com/robot/send?access_token=abc');
  });

  test('goes to Feishu with another signature in the body, by the time in s', () => {
    for (const host of ['open.feishu.cn', 'open.larksuite.com']) {
      const { url, body } = sent(`https://${host}/open-apis/bot/v2/hook/abc-def?secret=SECthisissecret`);
      expect(url).toBe(`https://${host}/open-apis/bot/v2/hook/abc-def`);
      expect(body).toEqual({
        timestamp: '1760000000',
        sign: 'aP8YNCZ0tSU9ftE1NtKjcIcsxGxnQTWLx8H2e1ocEdI=',
        msg_type: 'text',
        content: { text: said },
      });
    }
    const unsigned = sent('https://open.feishu.cn/open-apis/bot/v2/hook/abc-def');
    expect(unsigned.body).toEqual({ msg_type: 'text', content: { text: said } });
  });

  test('goes to WeCom, which takes 2,048 bytes of it', () => {
    const value = 'https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abc';
    expect(sent(value)).toMatchObject({ url: value, body: { msgtype: 'text', text: { content: said } } });
    const long = sent(value, { ...REPORT, text: '故障'.repeat(2000) });
    expect(Buffer.byteLength(long.body.text.content)).toBeWithin(1990, 2001);
    expect(long.body.text.content).toMatch(/故?障?…$/);
  });

  test('goes to ntfy at the root of the server, with the topic in the body, and a login in a header', () => {
    const { url, body, headers } = sent('https://ntfy.sh/mytopic');
    expect(url).toBe('https://ntfy.sh/');
    expect(body).toEqual({
      ...{ topic: 'mytopic', title: REPORT.title, message: REPORT.text },
      ...{ priority: 4, tags: ['warning'] },
    });
    expect(headers).not.toHaveProperty('Authorization');
    const own = sent('ntfy+https://phil:p%40ss@push.example.org/base/mytopic/?x=1', { ...REPORT, isAlarm: false });
    expect(own.url).toBe('https://push.example.org/base/?x=1');
    expect(own.headers?.Authorization).toBe(`Basic ${btoa('phil:p@ss')}`);
    expect(own.body).toMatchObject({ topic: 'mytopic', priority: 3, tags: ['white_check_mark'] });
    expect(sent('https://ntfy.sh//mytopic')).toMatchObject({ url: 'https://ntfy.sh//', body: { topic: 'mytopic' } });
    expect(sent('https://ntfy.sh//evil.example.org/x').url).toBe('https://ntfy.sh//evil.example.org/');
  });

  test('goes to Slack as plain text, in which nothing is a link or a mention', () => {
    const { url, body } = sent('https://hooks.slack.com/services/T0/B0/X');
    expect(url).toBe('https://hooks.slack.com/services/T0/B0/X');
    expect(body).toEqual({
      text: `${REPORT.title}\n【故障】target_down 无法连接目标 &lt;me&amp;you&gt;@backup:/data/`,
      mrkdwn: false,
    });
  });

  test('calls nobody by a name that a peer has a say in', () => {
    const text = 'a <at user_id="all">x</at> <@U1> <!channel> @all @Everyone root@here @channels user@allotment';
    const expected =
      'a ＜at user_id="all">x＜/at> ＜@U1> ＜!channel> @\u200ball @\u200bEveryone root@\u200bhere @channels user@allotment';
    for (const [value, shown] of [
      ['https://oapi.dingtalk.com/robot/send?access_token=abc', expected],
      ['https://open.feishu.cn/open-apis/bot/v2/hook/abc', expected],
      ['https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abc', expected],
      ['slack+https://discord.example.org/slack', expected.replaceAll('>', '&gt;')],
    ] as const)
      expect(JSON.stringify(sent(value, { ...REPORT, text }).body)).toContain(JSON.stringify(shown).slice(1, -1));
  });

  test('goes to any other host as JSON', () => {
    const value = 'https://alerts.example.org/hook?token=abc&secret=stays';
    expect(sent(value)).toMatchObject({ url: value, body: REPORT.data });
    expect(sent(value).headers).toMatchObject({ 'Content-Type': 'application/json; charset=utf-8' });
  });

  test('goes to a host of one’s own in the form that is in front', () => {
    const value = 'dingtalk+http://proxy.example.org/ding https://ntfy.sh/a json+https://ntfy.sh/b';
    expect(parseReceivers(value).map(({ name }) => name)).toEqual([
      'NOTIFY_URL 的第 1 个 (dingtalk proxy.example.org)',
      'NOTIFY_URL 的第 2 个 (ntfy ntfy.sh)',
      'NOTIFY_URL 的第 3 个 (json ntfy.sh)',
    ]);
  });

  test('is cut off between characters, by bytes', () => {
    expect(clip('故障', 6)).toBe('故障');
    expect(clip('故障恢复', 8)).toBe('故…');
    expect(clip('a😀😀', 8)).toBe('a😀…');
  });
});

describe('what a service answers', () => {
  const refusal = (value: string, status: number, body: string) => refusalOf(only(value), { status, body });
  const [dingtalk, feishu] = [
    'https://oapi.dingtalk.com/robot/send?access_token=abc',
    'https://open.feishu.cn/open-apis/bot/v2/hook/abc',
  ];
  const [wecom, ntfy] = ['https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=abc', 'https://ntfy.sh/mytopic'];
  const [slack, json] = ['https://hooks.slack.com/services/T0/B0/X', 'https://example.org/x'];

  test.each([
    [dingtalk, 200, '{"errcode":0,"errmsg":"ok"}'],
    [feishu, 200, '{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}'],
    [feishu, 200, '{"Extra":null,"StatusCode":0,"StatusMessage":"success"}'],
    [wecom, 200, '{"errcode":0,"errmsg":"ok"}'],
    [ntfy, 200, '{"id":"hwQ2YpKdmg","time":1635528741,"event":"message","topic":"mytopic","message":"x"}'],
    [slack, 200, 'ok'],
    [`slack+${json}`, 200, '{"success":true}'],
    [json, 200, ''],
    [json, 204, ''],
    [json, 200, '{"code":200,"msg":"success"}'],
  ])('is that it has taken a report: %s %d %s', (value, status, body) => {
    expect(refusal(value, status, body)).toBeUndefined();
  });

  test.each([
    [dingtalk, 200, '{"errcode":310000,"errmsg":"sign not match"}', /^HTTP 200 .*310000.*sign not match/],
    [dingtalk, 200, '', /^HTTP 200$/],
    [dingtalk, 200, '<html>Sign in to the hotel</html>', /^HTTP 200$/],
    [feishu, 200, '{"code":19021,"msg":"sign match fail"}', /19021/],
    [wecom, 200, '{"errcode":93000,"errmsg":"invalid webhook url"}', /93000/],
    [wecom, 200, '{"errcode":45009,"errmsg":"api freq out of limit"}', /45009/],
    [ntfy, 403, '{"code":40301,"http":403,"error":"forbidden"}', /^HTTP 403 .*forbidden/],
    [ntfy, 200, '<html></html>', /^HTTP 200$/],
    [slack, 404, 'no_service', /^HTTP 404 no_service$/],
    [slack, 200, '{"ok":false,"error":"channel_not_found"}', /channel_not_found/],
    [json, 500, 'oops', /^HTTP 500 oops$/],
    [json, 200, '{"errcode":7}', /errcode/],
    [json, 200, '{"success":false}', /success/],
    [json, 200, 'null', undefined],
  ])('is that it has not, be it with status 200: %s %d %s', (value, status, body, expected) => {
    const said = refusal(value, status, body);
    if (expected) expect(said).toMatch(expected);
    else expect(said).toBeUndefined();
  });

  test('is not passed on where it holds what is secret in the URL, in whichever way', () => {
    const value = 'https://phil:p%40ss@alerts.example.org/hook/t0k%2Ben?key=a%20b%2Bc';
    const body = `p@ss p%40ss t0k+en t0k%2Ben "a b+c" a%20b%2Bc a+b%2Bc ${btoa('phil:p@ss')} phil`;
    const said = refusal(value, 400, body) ?? '';
    for (const secret of ['p@ss', 'p%40ss', 't0k', 'a b+c', 'a%20b', btoa('phil:p@ss'), 'phil'])
      expect([secret, said]).not.toEqual([secret, expect.stringContaining(secret)]);
    expect(said).toStartWith('HTTP 400 ');
    expect(refusal(value, 400, `\u001b[2J${'x'.repeat(5000)}\n[ERROR]`)?.length).toBeLessThan(300);
  });

  test('is not passed on where it holds a value as it is written in the URL, as a form, as JSON, or without a name', () => {
    const value = 'https://alerts.example.org/hook?key=a+b%2fcd&loner42&empty42=&sig=x%7Ey!z';
    const body = String.raw`a+b%2fcd a%20b%2Fcd a+b%2Fcd "a b/cd" "a b\/cd" loner42 empty42 x~y!z x%7Ey%21z x%7ey!z key=`;
    expect(refusal(value, 400, body)).toBe('HTTP 400 *** *** *** "***" "***" *** *** *** *** *** key=');
  });

  test('leads nowhere else: where it would is told without what is secret there', () => {
    const reply = { status: 302, body: '', redirect: 'https://evil.example.org' };
    expect(refusalOf(only(json), reply)).toMatch(/^HTTP 302.*https:\/\/evil\.example\.org；/);
  });
});

describe('a bad value', () => {
  const told = (env: Record<string, string>) =>
    readVariables(reportVariables('镜像'), env).mistakes.map(({ message }) => message);

  test.each([
    [
      'ftp://example.org/topsecret',
      /^配置错误: NOTIFY_URL=\*\*\*：第 1 个 URL 应为以 http:\/\/ 或 https:\/\/ 开头的完整 URL$/,
    ],
    ['https://ntfy.sh/a topsecret', /第 2 个 URL 应为/],
    ['topsecret+https://ntfy.sh/a', /第 1 个 URL 的格式前缀应为 dingtalk、feishu、wecom、ntfy、slack、json 之一$/],
    ['https://oapi.dingtalk.com/robot/send?token=topsecret', /第 1 个 URL 应含有 access_token=…$/],
    ['https://qyapi.weixin.qq.com/cgi-bin/webhook/send?topsecret', /第 1 个 URL 应含有 key=…$/],
    ['https://topsecret@ntfy.sh/', /第 1 个 URL 应以主题名结尾$/],
    ['ntfy+https://topsecret@push.example.org', /第 1 个 URL 应以主题名结尾$/],
    ['https://open.feishu.cn/topsecret', /第 1 个 URL 应以 \/hook\/ 和令牌结尾$/],
    [Array(11).fill('https://example.org/topsecret').join(' '), /最多 10 个 URL$/],
  ])('of NOTIFY_URL is told without being shown: %s', (value, expected) => {
    const [message = ''] = told({ NOTIFY_URL: value });
    expect(message).toMatch(expected);
    expect(message).not.toContain('topsecret');
  });

  test('of HEARTBEAT_URL is not shown either', () => {
    expect(told({ HEARTBEAT_URL: 'hc-ping.com/topsecret' })).toEqual([
      '配置错误: HEARTBEAT_URL=***：应为以 http:// 或 https:// 开头的完整 URL',
    ]);
    expect(told({ HEARTBEAT_URL: 'https://hc-ping.com/topsecret https://hc-ping.com/topsecret' })).toHaveLength(1);
    expect(told({ HEARTBEAT_URL: 'https://hc-ping.com/topsecret', NOTIFY_AFTER: '0.5' })).toEqual([]);
  });
});

test('services that do as they document take reports in their forms, and what they refuse is told without their tokens', async () => {
  await using services = new Services();
  const receivers = parseReceivers(Object.values(services.urls).join(' '));
  for (const receiver of receivers) {
    const reply = await send(requestFor(receiver, REPORT, Date.now()));
    expect([receiver.name, refusalOf(receiver, reply)]).toEqual([receiver.name, undefined]);
  }
  expect(services.taken.map(({ form }) => form)).toEqual(Object.keys(services.urls));
  const isWrong = (url: string) => SECRETS.reduce((it, secret) => it.replace(secret, `wrong${secret.slice(5)}`), url);
  const { json: _, ...urls } = services.urls;
  const wrong = parseReceivers(Object.values(urls).map(isWrong).join(' '));
  for (const receiver of wrong) {
    const reply = await send(requestFor(receiver, REPORT, Date.now()));
    const said = refusalOf(receiver, reply) ?? '';
    expect([receiver.name, said]).toEqual([receiver.name, expect.stringMatching(/^HTTP (200|403|404) \S/)]);
    for (const part of receiver.given.href.split(/[/?&=]/).filter((it) => it.length > 12))
      expect(said).not.toContain(part);
    for (const secret of SECRETS) expect(said).not.toContain(secret);
  }
});
