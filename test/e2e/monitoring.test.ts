import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { once } from 'node:events';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { ALERTS, BACKUP_ALERTS, BACKUP_METRICS, DASHBOARDS, METRICS, queriesOf, SOURCE_ALERTS } from '../monitoring.ts';
import { Pair } from '../pair.ts';
import { content, eventually, freePort } from '../processes.ts';
import { Prometheus, promtool } from '../prometheus.ts';

setDefaultTimeout(120_000);

type Rule = Record<'health' | 'state' | 'query', string>;

const missing = ['prometheus', 'promtool'].filter((name) => !Bun.which(name));
if (missing.length > 0) console.warn(`SKIPPED: the Prometheus tests: ${missing.join(' and ')} not installed`);

describe.skipIf(missing.length > 0)('Prometheus', () => {
  test('accepts the configuration and the rules, and each alert fires when it should and not before', () => {
    const both = [SOURCE_ALERTS, BACKUP_ALERTS].map(({ length }) => `${length} rules found`);
    const found = (name: string) => [...promtool(['check', 'config', name]).matchAll(/\d+ rules found/g)].flat();
    expect(found('prometheus.yml')).toEqual(both);
    expect(found('prometheus-backup.yml')).toEqual(both.slice(1));
    promtool(['check', 'rules', 'alerts.yml', 'backup-alerts.yml']);
    for (const name of ['alerts.test.yml', 'backup-alerts.test.yml'])
      expect(promtool(['test', 'rules', name])).toContain('SUCCESS');
  });

  test('scrapes a pair, and what it tells is what has happened; the files’ expressions find it', async () => {
    await using pair = await Pair.withKeys('prometheus');
    const [port, backupPort] = [await freePort(), await freePort()];
    mkdirSync(pair.path('source', 'directory'));
    pair.start('start-sshd', { METRICS_PORT: `${backupPort}`, HISTORY_DAYS: '1' });
    const source = pair.start('rsync-inotify', { METRICS_PORT: `${port}`, SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    const prometheus = await Prometheus.start(pair, { source: `127.0.0.1:${port}`, backup: `127.0.0.1:${backupPort}` });
    const has = (query: string, value: number) =>
      eventually(async () => (await prometheus.value(query)) === value).catch((error) => {
        throw new Error(`${error}\n${source.output}\n${prometheus.program.output}`);
      });
    await has('up{job="rsync-inotify"}', 1);
    await has('up{job="start-sshd"}', 1);
    await has('rsync_sync_total{mode="full", result="success"}', 1);
    const target = `${pair.sourceEnv.DEST_HOST}:${pair.path('backup')}/`;
    expect((await prometheus.samples('rsync_target_up'))[0]?.metric).toMatchObject({ target, job: 'rsync-inotify' });
    expect(await prometheus.value('rsync_target_up')).toBe(1);
    expect(await prometheus.value('rsync_watched_directories')).toBe(2);
    const { version } = (await prometheus.samples('rsync_build_info'))[0]?.metric ?? {};
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);

    const before = await prometheus.value('rsync_transferred_bytes_total');
    const batches = async () => prometheus.value('rsync_sync_total{mode="incremental", result="success"}');
    for (const number of [1, 2, 3]) {
      writeFileSync(pair.path('source', `file-${number}`), Buffer.alloc(10_000, crypto.randomUUID()));
      await eventually(() => content(pair.path('backup', `file-${number}`)).length === 10_000);
    }
    await eventually(async () => (await batches()) >= 3);
    expect(await prometheus.value('rsync_events_total')).toBeGreaterThanOrEqual(3);
    expect(await prometheus.value('rsync_transferred_bytes_total')).toBeGreaterThan(before);
    await has('rsync_pending_changes', 0); // the time of the directory may follow a little later
    await has('rsync_oldest_pending_seconds', 0);
    const age = await prometheus.value('time() - rsync_last_success_timestamp_seconds');
    expect(age).toBeGreaterThanOrEqual(0);
    expect(age).toBeLessThan(30);
    for (const mode of ['full', 'incremental']) {
      const syncs = await prometheus.value(`sum(rsync_sync_total{mode="${mode}"})`);
      await has(`rsync_sync_duration_seconds_count{mode="${mode}"}`, syncs);
      expect(await prometheus.value(`rsync_sync_duration_seconds_sum{mode="${mode}"}`)).toBeGreaterThan(0);
    }

    const ofThisMachine = /free_(bytes|files)|disk_full/; // its disk may be as full as it will
    for (const { expr } of ALERTS.filter((alert) => !ofThisMachine.test(alert.expr)))
      expect(await prometheus.samples(expr)).toEqual([]);
    const findRules = async () => {
      const { groups } = (await prometheus.get('rules')) as { groups: { rules: Rule[] }[] };
      return groups.flatMap(({ rules }) => rules);
    };
    expect((await findRules()).filter(({ health }) => health === 'err')).toEqual([]);
    const isAtRest = ({ state, query }: Rule) => state === 'inactive' || ofThisMachine.test(query);
    // each is looked at once a second: what was so before the first sync is still pending until then
    await eventually(async () => (await findRules()).every(isAtRest));
    const chosen = (query: string) =>
      query.replaceAll('$__rate_interval', '1m').replaceAll(/\$(source|target|backup)\b/g, '.+');
    for (const { panels, templating } of DASHBOARDS) {
      for (const query of panels.flatMap(queriesOf)) {
        await eventually(async () => (await prometheus.samples(chosen(query))).length > 0);
      }
      const choices: Record<string, string> = {
        source: `127.0.0.1:${port}`,
        target,
        backup: `127.0.0.1:${backupPort}`,
      };
      for (const { name, definition } of templating.list) {
        const [, series = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
        const values = await prometheus.get(`label/${label}/values`, { 'match[]': chosen(series) });
        expect(values).toEqual([choices[name]]);
      }
    }

    await source.stop();
    await has('up{job="rsync-inotify"}', 0);
    await eventually(async () => (await prometheus.samples('ALERTS{alertname="RsyncSourceDown"}')).length === 1);
  });

  test('sees a connection that is down, changes that wait, and syncs that fail', async () => {
    await using pair = await Pair.withKeys('prometheus-failure');
    const port = await freePort();
    const { source, backup } = await pair.run({ METRICS_PORT: `${port}`, SYNC_INTERVAL: '0' });
    const prometheus = await Prometheus.start(pair, { source: `127.0.0.1:${port}` });
    const becomes = (query: string, is: (value: number) => boolean) =>
      eventually(async () => is(await prometheus.value(query))).catch((error) => {
        throw new Error(`${query}: ${error}\n${source.output}`);
      });
    const pending = (alert: string) => becomes(`count(ALERTS{alertname="${alert}"})`, (count) => count === 1);
    await becomes('rsync_target_up', (up) => up === 1);
    await backup.stop();
    await becomes('rsync_target_up', (up) => up === 0);
    await pending('RsyncTargetDown');
    writeFileSync(pair.path('source', 'waiting'), 'for the backup');
    await becomes('rsync_pending_changes', (count) => count === 1);
    await becomes('rsync_oldest_pending_seconds', (seconds) => seconds > 1);

    pair.start('start-sshd');
    await becomes('rsync_pending_changes', (count) => count === 0);
    await becomes('rsync_oldest_pending_seconds', (seconds) => seconds === 0);
    const failures = await prometheus.value('sum(rsync_sync_total{result="failure"})');
    renameSync(pair.path('backup'), pair.path('aside'));
    writeFileSync(pair.path('backup'), 'no directory');
    writeFileSync(pair.path('source', 'refused'), 'by the backup');
    await becomes('sum(rsync_sync_total{result="failure"})', (count) => count > failures + 1);
    expect(await prometheus.value('rsync_pending_changes')).toBeGreaterThan(0);
    rmSync(pair.path('backup'));
    renameSync(pair.path('aside'), pair.path('backup'));
    await becomes('rsync_pending_changes', (count) => count === 0);
    expect(content(pair.path('backup', 'refused'))).toBe('by the backup');
    expect(await source.stop()).toBe(0); // before the backup, which might else be asked for its directory to the end
  });

  test('finds the names and types of /metrics and METRICS_FILE good, and in them all that there should be', async () => {
    await using pair = await Pair.withKeys('metrics');
    const [port, file] = [await freePort(), pair.path('rsync.prom')];
    await pair.run({ METRICS_PORT: `${port}`, METRICS_FILE: file, SYNC_INTERVAL: '0' });
    writeFileSync(pair.path('source', 'file'), 'content');
    await eventually(() => /^rsync_sync_total\{.*mode="incremental".*\} [1-9]/m.test(content(file)));
    const answer = await fetch(`http://127.0.0.1:${port}/metrics`);
    expect(answer.headers.get('content-type')).toStartWith('text/plain; version=0.0.4'); // Prometheus 3 asks for it
    const page = await answer.text();
    for (const text of [page, content(file)]) {
      expect(promtool(['check', 'metrics'], text)).toBe('');
      const types = [...text.matchAll(/^# TYPE (rsync_\w+) \w+$/gm)].map(([, name = '']) => name);
      expect(types.sort()).toEqual(Object.keys(METRICS).sort());
    }
  });
});

test('the backup tells of itself: when something was received, what is refused, what older versions cost', async () => {
  await using pair = await Pair.withKeys('backup-metrics');
  const port = await freePort();
  const ask = async (path: string, host = 'localhost') =>
    fetch(`http://127.0.0.1:${port}${path}`, { headers: { Host: host } });
  pair.start('start-sshd', { METRICS_PORT: `${port}`, HISTORY_DAYS: '1' });
  const file = pair.path('source', 'file');
  writeFileSync(file, 'old');
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  const since = Date.now() / 1000;
  writeFileSync(file, 'new words');
  await eventually(() => content(pair.path('backup', 'file')) === 'new words');
  const metric = async (name: string) =>
    Number(new RegExp(`^rsync_backup_${name}{source=""} (.*)$`, 'm').exec(await (await ask('/metrics')).text())?.[1]);
  await eventually(async () => (await metric('last_received_timestamp_seconds')) >= since);
  await eventually(async () => (await metric('history_versions')) === 1);
  expect(await metric('history_bytes')).toBeGreaterThan(0);
  expect(await metric('sessions')).toBeGreaterThan(0);
  expect(await metric('promoted')).toBe(0);
  const health = await ask('/healthz');
  expect([health.status, await health.text()]).toEqual([
    200,
    expect.stringMatching(/^健康: SSH 服务运行中，\d+ 个连接\n$/),
  ]);
  expect((await ask('/metrics', 'rebound.example')).status).toBe(421);
  expect((await ask('/')).status).toBe(404);
  const text = await (await ask('/metrics')).text();
  if (missing.length === 0) expect(promtool(['check', 'metrics'], text)).toBe('');
  const types = [...text.matchAll(/^# TYPE (\w+) \w+$/gm)].map(([, name = '']) => name);
  expect(types.sort()).toEqual(Object.keys(BACKUP_METRICS).sort());
  expect(text).toContain('rsync_backup_healthy 1\n');
  expect(await metric('size_bytes')).toBeGreaterThan(await metric('free_bytes'));
});

test('whoever holds hundreds of connections open keeps nobody from the page, and nothing from the mirror', async () => {
  await using pair = await Pair.withKeys('crowd');
  const port = await freePort();
  const { source } = await pair.run({ METRICS_PORT: `${port}`, SYNC_INTERVAL: '0' });
  const held: Socket[] = [];
  await using _ = {
    async [Symbol.asyncDispose]() {
      for (const socket of held) socket.destroy();
    },
  };
  for (const words of ['', 'GET / HTTP/1.1\r\nHo', 'GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n']) {
    for (let n = 0; n < 200; n++) {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      held.push(socket);
      await once(socket, 'connect');
      socket.pause().write(words);
    }
    const since = performance.now();
    for (const host of ['127.0.0.1', 'localhost', hostname()]) {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { Host: host } });
      expect(answer.status).toBe(200);
    }
    expect(performance.now() - since).toBeLessThan(3000);
    writeFileSync(pair.path('source', `file ${held.length}`), 'words');
    await pair.isMirrored();
  }
  expect(readdirSync(`/proc/${source.pid}/fd`).length).toBeLessThan(250);
  expect(source.output).not.toContain('ERROR');
});
