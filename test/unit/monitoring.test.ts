import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  ALERT_TESTS,
  ALERTS,
  BACKUP_ALERTS,
  BACKUP_METRICS,
  DASHBOARDS,
  DATASOURCES,
  METRICS,
  type Panel,
  queriesOf,
  SOURCE_ALERTS,
} from '../monitoring.ts';
import { ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

/** The metrics that an expression names, those of a histogram by the histogram's name. */
const metricsIn = (expression: string) =>
  [...expression.matchAll(/\b(?:rsync_\w+|node_\w+|up|ALERTS)\b(?=[{[ )]|$)/g)].map(([name]) =>
    name.replace(/_bucket$/, ''),
  );

const ALL_METRICS = { ...METRICS, ...BACKUP_METRICS };
const known = [...Object.keys(ALL_METRICS), 'node_textfile_mtime_seconds', 'up', 'ALERTS'];

describe('the alerts', () => {
  test.each(ALERTS)('$alert says how bad it is, what is wrong and what to do', ({ expr, labels, annotations }) => {
    expect(labels.severity).toMatch(/^(critical|warning)$/);
    expect(annotations.summary.length).toBeGreaterThan(20);
    expect(annotations.description).toMatch(/`.+`|targets page/); // a command or a place
    expect(metricsIn(expr).length).toBeGreaterThan(0);
    for (const metric of metricsIn(expr)) expect(known).toContain(metric);
  });

  test.each(ALERTS)('$alert has a test in which it fires, and one in which it does not', ({ alert }) => {
    const expected = ALERT_TESTS.filter(({ alertname }) => alertname === alert).map(
      (one) => one.exp_alerts?.length ?? 0,
    );
    expect(expected.some((count) => count > 0)).toBe(true);
    expect(expected).toContain(0);
  });

  test('of the source ask for nothing of the backup, nor the reverse: each can be loaded alone', () => {
    const isOfBackup = (metric: string) => metric.startsWith('rsync_backup_');
    for (const { expr } of SOURCE_ALERTS) expect(metricsIn(expr).filter(isOfBackup)).toEqual([]);
    for (const { alert, expr } of BACKUP_ALERTS) {
      expect(alert).toStartWith('RsyncBackup');
      expect(expr).not.toContain('job="rsync-inotify"');
      expect(metricsIn(expr).filter((metric) => metric !== 'up' && !isOfBackup(metric))).toEqual([]);
    }
  });

  test('have names of their own', () => {
    expect(new Set(ALERTS.map(({ alert }) => alert)).size).toBe(ALERTS.length);
  });
});

describe.each(DASHBOARDS)('the dashboard $uid', ({ panels, schemaVersion, templating }) => {
  const charts = panels.filter(({ type }) => type !== 'row');

  test('has panels with ids and places of their own, within the width of the grid', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const taken = new Map<string, string>();
    for (const { title, gridPos } of panels) {
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.get(`${x} ${y}`) ?? title).toBe(title);
          expect(taken.has(`${x} ${y}`)).toBe(false);
          taken.set(`${x} ${y}`, title);
        }
      }
    }
    const bottom = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
    expect(taken.size).toBe(24 * bottom); // and no holes
  });

  test('has a description, a unit and thresholds for each panel', () => {
    expect(schemaVersion).toBeGreaterThanOrEqual(38);
    for (const { description = '', fieldConfig } of charts) {
      expect(description).toMatch(/^[A-Z].{20,}\.$/);
      expect(fieldConfig?.defaults.unit).toBeTruthy();
      expect(fieldConfig?.defaults.thresholds.steps[0]?.value).toBeNull();
    }
  });

  test('asks the datasource that is provisioned, which asks the service of the compose file', () => {
    const [{ type, uid, url } = { type: '', uid: '', url: '' }] = DATASOURCES;
    for (const { datasource, targets = [] } of charts) {
      for (const one of [datasource, ...targets.map((target) => target.datasource)]) expect(one).toEqual({ type, uid });
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
    }
    for (const { datasource } of templating.list) expect(datasource).toEqual({ type, uid });
    const { hostname, port } = new URL(url);
    expect(read('compose.monitoring-base.yml')).toMatch(new RegExp(`^  ${hostname}:\n[\\s\\S]*?\\}:${port}\n`, 'm'));
  });

  test('names metrics that there are, with labels that they have, and shows each of them', () => {
    const queries = charts.flatMap((panel: Panel) => queriesOf(panel));
    const definitions = templating.list.map(({ definition }) =>
      definition.replace(/^label_values\((.*), \w+\)$/, '$1'),
    );
    for (const query of [...queries, ...definitions]) {
      const [metric = '', ...others] = metricsIn(query);
      expect(others).toEqual([]);
      expect(known).toContain(metric);
      const labels = [...query.matchAll(/(\w+)=~?"/g)].map(([, label]) => label);
      const grouping = [...query.matchAll(/by \(([\w, ]+)\)/g)].flatMap(([, list = '']) => list.split(', '));
      const own = [...(ALL_METRICS[metric] ?? ['alertname', 'alertstate']), 'instance', 'le'];
      for (const label of [...labels, ...grouping]) expect(own).toContain(label ?? '');
    }
    expect(new Set([...queries, ...definitions].flatMap(metricsIn))).toEqual(
      new Set([...Object.keys(ALL_METRICS), 'ALERTS']),
    );
  });

  test('lets the viewer choose the source, the target and the backup in each panel that they concern', () => {
    expect(templating.list.map(({ name }) => name)).toEqual(['source', 'target', 'backup']);
    for (const query of charts.flatMap((panel: Panel) => queriesOf(panel))) {
      const [metric = ''] = metricsIn(query);
      if (metric === 'ALERTS') continue;
      expect(query).toContain(`instance=~"$${metric in BACKUP_METRICS ? 'backup' : 'source'}"`);
      expect(query.includes('target=~"$target"')).toBe((METRICS[metric] ?? []).includes('target'));
    }
  });
});

test('one port and one limit are the same wherever they are named', () => {
  const [, port = ''] = /METRICS_PORT: "(\d+)"/.exec(read('compose.monitoring.yml')) ?? [];
  for (const file of ['compose.monitoring.yml', 'compose.backup-monitoring.yml'])
    for (const [, other = ''] of read(file).matchAll(/METRICS_PORT: "(\d+)"/g)) expect(other).toBe(port);
  expect(read('monitoring', 'prometheus.yml')).toContain(`targets: ["rsync-source:${port}"]`);
  for (const file of ['prometheus.yml', 'prometheus-backup.yml'])
    expect(read('monitoring', file)).toContain(`targets: ["rsync-backup:${port}"]`);
  expect(read('compose.monitoring.yml')).toMatch(new RegExp(`127\\.0\\.0\\.1:\\$\\{STATUS_PORT:-${port}\\}:${port}\n`));
  const [, limit] = /MAX_LAG:-(\d+)/.exec(read('compose.base.yml')) ?? [];
  expect(ALERTS.find(({ alert }) => alert === 'RsyncLagHigh')?.expr).toStartWith(
    `rsync_oldest_pending_seconds > ${limit} `,
  );
  const interval = /scrape_interval: (\w+)/.exec(read('monitoring', 'prometheus.yml'))?.[1];
  expect(read('monitoring', 'grafana', 'provisioning', 'datasources', 'prometheus.yml')).toContain(
    `timeInterval: ${interval} `,
  );
});

test.each(['compose.monitoring-base.yml', 'compose.monitoring.yml', 'compose.backup-monitoring.yml'])(
  '%s publishes to this machine alone, and .env.example knows its variables',
  (name) => {
    const file = read(name);
    for (const [, published = ''] of file.matchAll(/ports:\n +- (.*)/g)) expect(published).toStartWith('127.0.0.1:');
    for (const [, variable, value] of file.matchAll(/\$\{(\w+):-([^}]*)\}/g)) {
      expect(read('.env.example')).toContain(`#${variable}=${value}\n`);
    }
  },
);

interface PrometheusConfig {
  scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[];
  alerting: { alertmanagers: { static_configs: { targets: string[] }[] }[] };
}

test.each([
  ['prometheus.yml', ['rsync-inotify', 'start-sshd'], ['alerts.yml', 'backup-alerts.yml']],
  ['prometheus-backup.yml', ['start-sshd'], ['backup-alerts.yml']],
])('%s scrapes under the names that its rules know, and tells Alertmanager', (name, jobs, rules) => {
  const config = Bun.YAML.parse(read('monitoring', name)) as PrometheusConfig & { rule_files: string[] };
  expect(config.scrape_configs.map(({ job_name }) => job_name)).toEqual(jobs);
  expect(config.rule_files).toEqual(rules);
  const named = rules.flatMap((file) =>
    [...read('monitoring', file).matchAll(/job="([\w-]+)"/g)].map(([, job]) => job),
  );
  expect(new Set(named)).toEqual(new Set(jobs));
  const [receiver = ''] = config.alerting.alertmanagers.flatMap(({ static_configs: [it] }) => it?.targets ?? []);
  const [service = '', port] = receiver.split(':');
  expect(read('compose.monitoring-base.yml')).toMatch(new RegExp(`^  ${service}:\n[\\s\\S]*?\\}:${port}\n`, 'm'));
});
