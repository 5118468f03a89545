import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { IncidentMemory, incidentFile } from '../../src/service/incident-memory.ts';
import { parseReceivers } from '../../src/service/receivers.ts';
import { Pair, watchersOf } from '../pair.ts';
import { cleanEnv, eventually, freePort } from '../processes.ts';
import { binary } from '../project.ts';
import { endless, hangs, isBusy, SECRETS, Services } from '../services.ts';

setDefaultTimeout(120_000);

/** What a program answers to a flag. */
function ask(name: 'rsync-inotify' | 'start-sshd', flag: string, env: Record<string, string>) {
  const { stdout, stderr, status } = spawnSync(binary(name), [flag], {
    ...{ encoding: 'utf8', env: { ...cleanEnv(), NO_COLOR: '1', ...env } },
  });
  return { text: `${stdout}${stderr}`, status };
}

/** Has the source remember what was wrong, and that a receiver knows it. */
function remember(pair: Pair, url: string, since: number, problems: { problem: string; target?: string }[]): void {
  const { SSH_DIR = '', SOURCE_DIR = '' } = pair.sourceEnv;
  const memory = new IncidentMemory(incidentFile(SSH_DIR, 'rsync-inotify', SOURCE_DIR));
  const told = parseReceivers(url).map(({ id }) => id);
  for (const { problem, target } of problems)
    memory.data.incidents.open[`${problem}\n${target ?? ''}\n`] = {
      ...{ problem, target, text: '无法连接目标', since, wrong: 300_000, calm: 0, told },
    };
  memory.save();
}

describe('reports', () => {
  test('come in the form of each service, whatever the others do, and hold up no mirror', async () => {
    await using pair = await Pair.withKeys('reports');
    await using services = new Services();
    await using broken = new Services();
    await using former = new Services();
    Object.assign(broken.moods, { json: hangs, slack: endless, wecom: isBusy('3600') });
    const target = `${pair.sourceEnv.DEST_HOST}:${pair.sourceEnv.DEST_DIR}`;
    const since = Date.now() - 493_000;
    const start = new Date(since).toISOString();
    remember(pair, former.urls.json ?? '', since, [{ problem: 'starting' }, { problem: 'target_down', target }]);
    const { json = '', slack = '', wecom = '' } = broken.urls;
    const NOTIFY_URL = [json, slack, wecom, ...Object.values(services.urls), former.urls.json].join(' ');
    const [port, heartbeat] = [await freePort(), `${services.origin}/heartbeat/plainsecret42`];
    const views = { METRICS_PORT: String(port), METRICS_FILE: pair.path('metrics'), LOG_FORMAT: 'json' };
    const source = pair.start('rsync-inotify', { NOTIFY_URL, NOTIFY_AFTER: '1', HEARTBEAT_URL: heartbeat, ...views });

    const forms = Object.keys(services.urls);
    for (const { text } of await Promise.all(forms.map((form) => services.takes(form))))
      expect(text).toMatch(
        /【故障】starting 正在启动，还没有开始镜像，自 [-\d]+ [:\d]+ 起，已持续 8 分( \d+ 秒)?\n源目录: \//,
      );
    const { body } = await services.takes('json');
    expect(body).toMatchObject({
      ...{ program: 'rsync-inotify', host: hostname(), directory: pair.sourceEnv.SOURCE_DIR },
      ...{
        title: `rsync-inotify @ ${hostname()}：故障 starting`,
        reports: [{ event: 'problem', problem: 'starting', since: start }],
      },
    });
    await eventually(() => ['json', 'slack', 'wecom'].every((form) => broken.asked[form]));
    expect(services.asked.heartbeat).toBeUndefined(); // it is not well yet

    const backup = pair.start('start-sshd', {
      ...{ NOTIFY_URL: `${former.origin}/ding/x ${former.origin}/json/plainsecret42`, NOTIFY_AFTER: '0' },
      ...{ HEARTBEAT_URL: `${heartbeat}/backup` },
    });
    await source.shows('"event":"service.ready"');
    writeFileSync(pair.path('source', 'secret-file-name'), 'mirrored while a report hangs');
    await pair.isMirrored();
    await eventually(() => services.asked.heartbeat === 2); // of each one
    expect((await former.takes('json')).body).toMatchObject({
      program: 'start-sshd',
      reports: [{ problem: 'starting' }],
    });
    const { body: recovered } = await former.takes('json', ({ text }) => text.includes('恢复'));
    expect(recovered).toMatchObject({ program: 'rsync-inotify', title: `rsync-inotify @ ${hostname()}：2 个恢复` });
    expect((recovered as { reports: object[] }).reports).toContainEqual(
      expect.objectContaining({ event: 'recovered', problem: 'target_down', target, since: start }),
    );

    const environment = watchersOf(pair)
      .map((pid) => readFileSync(`/proc/${pid}/environ`, 'utf8'))
      .join();
    expect(environment).toContain('SOURCE_DIR=');
    const [page, metrics] = await Promise.all(
      ['', 'metrics'].map(async (path) => (await fetch(`http://127.0.0.1:${port}/${path}`)).text()),
    );
    const status = ask('rsync-inotify', '--status', pair.sourceEnv).text;
    const names = ['source-status.json', 'backup-status.json', 'metrics'];
    const files = names.map((name) => readFileSync(pair.path(name), 'utf8'));
    for (const form of ['json', 'slack', 'wecom'])
      expect(source.output).toMatch(new RegExp(`"notify.failed".*\\(${form} `));
    const seen = [source.output, backup.output, environment, page, metrics, status, ...files].join('\n');
    for (const secret of SECRETS) expect(seen).not.toContain(secret);
    expect(services.taken).toHaveLength(forms.length); // and no other one of the same fault
    const told = JSON.stringify([...services.taken, ...former.taken].map((it) => it.body));
    expect(told).not.toContain('secret-file-name');
  });

  test('that hang hold up no end', async () => {
    await using pair = await Pair.withKeys('reports-end');
    await using services = new Services();
    Object.assign(services.moods, { json: hangs, heartbeat: hangs });
    const HEARTBEAT_URL = `${services.origin}/heartbeat/x`;
    const backup = pair.start('start-sshd', { NOTIFY_URL: services.urls.json ?? '', NOTIFY_AFTER: '0', HEARTBEAT_URL });
    await eventually(() => services.asked.json);
    expect(await backup.stop()).toBe(0);
    expect(backup.output).not.toContain('NOTIFY_URL');
  });

  test('are tried out by --notify-test, which says what came back, and not by --check', async () => {
    await using services = new Services();
    await using broken = new Services();
    const NOTIFY_URL = Object.values(services.urls).join(' ');
    expect(ask('rsync-inotify', '--check', { NOTIFY_URL, SOURCE_DIR: '/tmp/' }).text).toContain('配置有效');
    expect(services.asked).toEqual({});
    const run = (name: 'rsync-inotify' | 'start-sshd', env: Record<string, string>) => {
      const child = Bun.spawn([binary(name), '--notify-test'], {
        env: { ...cleanEnv(), NO_COLOR: '1', ...env },
        stderr: 'pipe',
      });
      return Promise.all([new Response(child.stdout).text(), child.exited]);
    };
    const [text, code] = await run('rsync-inotify', { NOTIFY_URL, SOURCE_DIR: '/srv/web' });
    expect(text.split('\n').filter((line) => line.startsWith('✓ '))).toHaveLength(6);
    expect(text).toContain('的第 1 个 (dingtalk');
    expect(text).toContain('HTTP 200 {"errcode":0,"errmsg":"ok"}');
    expect(code).toBe(0);
    for (const { text: said } of services.taken) expect(said).toContain('【测试】test ');
    for (const { body } of services.taken.filter(({ form }) => form === 'json'))
      expect(body).toMatchObject({ program: 'rsync-inotify', directory: '/srv/web', reports: [{ event: 'test' }] });
    broken.moods.wecom = () => Response.json({ errcode: 93000, errmsg: 'invalid webhook url' });
    const [told, status] = await run('start-sshd', { NOTIFY_URL: `${services.urls.json} ${broken.urls.wecom}` });
    expect(told).toMatch(/^✓ .*\n✗ .*的第 2 个 \(wecom 127\.0\.0\.1:\d+\) 没有接受测试报告：HTTP 200 .*93000.*\n$/);
    expect(status).toBe(1);
    for (const secret of SECRETS) expect(`${text}${told}`).not.toContain(secret);
    const [, missing] = await run('rsync-inotify', {});
    expect(missing).toBe(2);
  });
});
