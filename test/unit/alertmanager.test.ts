import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { MONITORING } from '../monitoring.ts';
import { scratch } from './service/scratch.ts';

const amtool = Bun.which('amtool');
if (!amtool) console.warn('SKIPPED: what Alertmanager thinks of its configuration: amtool is not installed');

interface Started {
  status: number | null;
  said: string;
  /** What the program is started with, if it is. */
  config: string;
  mode: number;
  arguments: string[];
  environment: string[];
}

/** Starts what stands for Alertmanager, which notes what it is given. */
function start(ALERT_WEBHOOK_URL: string | undefined, env: Record<string, string> = {}): Started {
  using directory = scratch();
  const note = 'printf "%s\\n" "$@" >"$0/arguments"; env >"$0/environment"';
  const script = join(MONITORING, 'alertmanager.sh');
  const variables = ALERT_WEBHOOK_URL === undefined ? {} : { ALERT_WEBHOOK_URL };
  const { status, stdout, stderr } = spawnSync(
    'sh',
    [script, 'sh', '-c', note, directory.path, '--storage.path=/a directory'],
    { env: { PATH: process.env.PATH, TMPDIR: directory.path, ...variables, ...env }, encoding: 'utf8' },
  );
  const noted = (name: string) => {
    const file = join(directory.path, name);
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  };
  const words = noted('arguments');
  const file = words.at(-1)?.replace('--config.file=', '') ?? '';
  if (file && amtool) {
    const checked = spawnSync(amtool, ['check-config', file], { encoding: 'utf8' });
    expect(checked.status, checked.stdout + checked.stderr).toBe(0);
  }
  return {
    ...{ status, said: stdout + stderr, arguments: words, environment: noted('environment') },
    ...{ config: file && readFileSync(file, 'utf8'), mode: file ? statSync(file).mode & 0o777 : 0 },
  };
}

const receiversIn = (config: string) =>
  (Bun.YAML.parse(config) as { receivers: Record<string, unknown>[] }).receivers.map((receiver) =>
    Object.fromEntries(
      Object.entries(receiver).map(([kind, list]) => [
        kind,
        Array.isArray(list) ? list.map(({ url, api_url, webhook_url }) => url ?? api_url ?? webhook_url) : list,
      ]),
    ),
  );

describe('Alertmanager is started', () => {
  test('with a receiver for each address, in the form that it understands, which nobody else can read', () => {
    const urls = [
      "https://example.org/hook?token=a'b&c=%20#:{x}",
      'https://hooks.slack.com/services/T0/B0/secret',
      'http://[::1]:8080/$HOME/`id`/$(id)/\\n',
      'https://discord.com/api/webhooks/1/secret',
      'slack+https://mattermost.example.org/hooks/secret',
      'https://:tk_secret@ntfy.sh/topic',
      'ntfy+https://push.example.org/topic?template=own',
    ];
    const ntfy = [
      'https://:tk_secret@ntfy.sh/topic?template=alertmanager',
      'https://push.example.org/topic?template=own',
    ];
    const started = start(` ${urls.join('  ')}\n`);
    expect([started.status, started.said]).toEqual([0, '']);
    expect(receiversIn(started.config)).toEqual([
      {
        name: 'operator',
        webhook_configs: [urls[0], urls[2], ...ntfy],
        slack_configs: [urls[1], 'https://mattermost.example.org/hooks/secret'],
        discord_configs: [urls[3]],
      },
    ]);
    expect(started.mode).toBe(0o600);
    expect(started.arguments.slice(0, -1)).toEqual(['--storage.path=/a directory']);
    expect(started.environment.join()).not.toContain('secret');
  });

  test('with all of alertmanager.yml, whatever the receiver is', () => {
    const { receivers: _, ...rest } = Bun.YAML.parse(start('https://example.org/').config) as { receivers: object };
    const { receivers, ...file } = Bun.YAML.parse(readFileSync(join(MONITORING, 'alertmanager.yml'), 'utf8')) as {
      receivers: object;
    };
    expect(rest).toEqual(file);
    expect(receivers).toEqual([{ name: 'operator' }]);
    expect(file).toMatchObject({ route: { receiver: 'operator' } });
  });

  test.each([undefined, '', '  '])('without an address, told so, and tells nobody: %p', (url) => {
    const { status, said, config } = start(url);
    expect(status).toBe(0);
    expect(said).toBe('alertmanager.sh: 没有设置 ALERT_WEBHOOK_URL：告警只显示在页面上，不发给任何人\n');
    expect(receiversIn(config)).toEqual([{ name: 'operator' }]);
    expect(start(url, { LOG_LANG: 'en' }).said).toBe(
      'alertmanager.sh: ALERT_WEBHOOK_URL is not set: alerts are shown on its page and sent to nobody\n',
    );
  });

  test.each([
    ['secret.example.org/hook', '应以 http:// 或 https:// 开头', 'is to begin with http:// or https://'],
    ['ftp://secret.example.org/', '应以 http:// 或 https:// 开头', 'is to begin with http:// or https://'],
    ['slack+secret', '应以 http:// 或 https:// 开头', 'is to begin with http:// or https://'],
    ['https:///secret', '应以 http:// 或 https:// 开头', 'is to begin with http:// or https://'],
    ['https://example.org/secret/ü', '含有不能出现在 URL 中的字符', 'holds characters that no URL may hold'],
    ['https://example.org/secret\x07', '含有不能出现在 URL 中的字符', 'holds characters that no URL may hold'],
    ['https://oapi.dingtalk.com/robot/send?access_token=secret', '是钉钉、飞书或企业微信的机器人', 'NOTIFY_URL'],
    ['https://open.feishu.cn/open-apis/bot/v2/hook/secret', '是钉钉、飞书或企业微信的机器人', 'NOTIFY_URL'],
    ['https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=secret', 'NOTIFY_URL', 'put a bridge between'],
  ])('not at all with an address that would get nothing, of which nothing is printed: %p', (url, chinese, english) => {
    for (const [language, words] of [
      ['zh', `ALERT_WEBHOOK_URL 中的第 2 个地址${chinese.startsWith('NOTIFY') ? '' : chinese}`],
      ['en', 'URL 2 of ALERT_WEBHOOK_URL '],
    ] as const) {
      const { status, said, arguments: words2 } = start(`https://example.org/first ${url}`, { LOG_LANG: language });
      expect([status, words2]).toEqual([2, []]);
      expect(said).toStartWith(`alertmanager.sh: ${words}`);
      expect(said).toContain(language === 'zh' ? chinese : english);
      expect(said).not.toMatch(/secret|example/);
    }
  });
});
