import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { ALERTS, BACKUP_METRICS, DASHBOARDS, METRICS, MONITORING, queriesOf } from '../monitoring.ts';
import { Pair } from '../pair.ts';
import { cleanEnv, content, eventually, freePort, Program } from '../processes.ts';

setDefaultTimeout(120_000);

const missing = ['prometheus', 'promtool'].filter((name) => !Bun.which(name));
if (missing.length > 0) console.warn(`SKIPPED: the Prometheus tests: ${missing.join(' and ')} not installed`);

/** Runs promtool and returns what it says; fails with that when it is not content. */
function promtool(args: string[], input = ''): string {
  const { stdout, stderr, status } = spawnSync('promtool', args, { cwd: MONITORING, input, encoding: 'utf8' });
  if (status !== 0) throw new Error(`promtool ${args.join(' ')} (${status})\n${stdout}${stderr}`);
  return stdout + stderr;
}

interface Sample {
  metric: Record<string, string>;
  value: [number, string];
}

/** A Prometheus with the configuration of monitoring/ that scrapes a source on this machine each second. */
class Prometheus {
  private constructor(
    readonly program: Program,
    private readonly url: string,
  ) {}

  static async start(pair: Pair, target: string): Promise<Prometheus> {
    const directory = pair.path('prometheus');
    mkdirSync(directory);
    copyFileSync(join(MONITORING, 'alerts.yml'), join(directory, 'alerts.yml'));
    const config = readFileSync(join(MONITORING, 'prometheus.yml'), 'utf8')
      .replace('"rsync-source:9873"', `"${target}"`)
      .replace(/_interval: 15s/g, '_interval: 1s');
    expect(config).toContain(target);
    writeFileSync(join(directory, 'prometheus.yml'), config);
    const address = `127.0.0.1:${await freePort()}`;
    const options = ['--config.file=prometheus.yml', '--storage.tsdb.path=data', `--web.listen-address=${address}`];
    const program = pair.keep(new Program('prometheus', options, { cwd: directory, env: cleanEnv() }));
    await program.shows('Server is ready to receive web requests');
    return new Prometheus(program, `http://${address}/api/v1`);
  }

  async get(path: string, parameters: Record<string, string> = {}): Promise<unknown> {
    const answer = await fetch(`${this.url}/${path}?${new URLSearchParams(parameters)}`);
    const { status, data, error } = (await answer.json()) as { status: string; data: unknown; error?: string };
    if (status !== 'success') throw new Error(`${parameters.query ?? path}: ${error}`);
    return data;
  }

  async samples(query: string): Promise<Sample[]> {
    return ((await this.get('query', { query })) as { result: Sample[] }).result;
  }

  /** The value of a query that has one. */
  async value(query: string): Promise<number> {
    const samples = await this.samples(query);
    if (samples.length !== 1) throw new Error(`${query}: ${JSON.stringify(samples)}`);
    return Number(samples[0]?.value[1]);
  }
}

describe.skipIf(missing.length > 0)('Prometheus', () => {
  test('accepts the configuration and the rules, and each alert fires when it should and not before', () => {
    expect(promtool(['check', 'config', 'prometheus.yml'])).toContain(`${ALERTS.length} rules found`);
    promtool(['check', 'rules', 'alerts.yml']);
    expect(promtool(['test', 'rules', 'alerts.test.yml'])).toContain('SUCCESS');
  });

  test('scrapes a source, and what it tells is what has happened; the files’ expressions find it', async () => {
    await using pair = await Pair.withKeys('prometheus');
    const port = await freePort();
    mkdirSync(pair.path('source', 'directory'));
    const { source } = await pair.run({ METRICS_PORT: `${port}`, SYNC_INTERVAL: '0' });
    const prometheus = await Prometheus.start(pair, `127.0.0.1:${port}`);
    const has = (query: string, value: number) =>
      eventually(async () => (await prometheus.value(query)) === value).catch((error) => {
        throw new Error(`${error}\n${source.output}\n${prometheus.program.output}`);
      });
    await has('up{job="rsync-inotify"}', 1);
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
      await pair.isMirrored();
    }
    await eventually(async () => (await batches()) >= 3);
    expect(await prometheus.value('rsync_events_total')).toBeGreaterThanOrEqual(3);
    expect(await prometheus.value('rsync_transferred_bytes_total')).toBeGreaterThan(before);
    expect(await prometheus.value('rsync_pending_changes')).toBe(0);
    expect(await prometheus.value('rsync_oldest_pending_seconds')).toBe(0);
    const age = await prometheus.value('time() - rsync_last_success_timestamp_seconds');
    expect(age).toBeGreaterThanOrEqual(0);
    expect(age).toBeLessThan(30);
    for (const mode of ['full', 'incremental']) {
      const syncs = await prometheus.value(`sum(rsync_sync_total{mode="${mode}"})`);
      await has(`rsync_sync_duration_seconds_count{mode="${mode}"}`, syncs);
      expect(await prometheus.value(`rsync_sync_duration_seconds_sum{mode="${mode}"}`)).toBeGreaterThan(0);
    }

    for (const { expr } of ALERTS) expect(await prometheus.samples(expr)).toEqual([]);
    const { groups } = (await prometheus.get('rules')) as { groups: { rules: { health: string; state: string }[] }[] };
    for (const { health, state } of groups.flatMap(({ rules }) => rules)) {
      expect(health).not.toBe('err');
      expect(state).toBe('inactive');
    }
    const chosen = (query: string) =>
      query.replaceAll('$source', '.+').replaceAll('$target', '.+').replaceAll('$__rate_interval', '1m');
    for (const { panels, templating } of DASHBOARDS) {
      for (const query of panels.flatMap(queriesOf)) {
        await eventually(async () => (await prometheus.samples(chosen(query))).length > 0);
      }
      for (const { definition } of templating.list) {
        const [, series = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? [];
        const values = await prometheus.get(`label/${label}/values`, { 'match[]': chosen(series) });
        expect(values).toEqual([label === 'target' ? target : `127.0.0.1:${port}`]);
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
    const prometheus = await Prometheus.start(pair, `127.0.0.1:${port}`);
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
    Number(new RegExp(`^rsync_backup_${name} (.*)$`, 'm').exec(await (await ask('/metrics')).text())?.[1]);
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
  expect(types.sort()).toEqual(BACKUP_METRICS.toSorted());
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
