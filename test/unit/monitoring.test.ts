import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ALERT_TESTS, ALERTS, DASHBOARDS, DATASOURCES, METRICS, type Panel, queriesOf } from '../monitoring.ts';
import { ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

/** The metrics that an expression names, those of a histogram by the histogram's name. */
const metricsIn = (expression: string) =>
  [...expression.matchAll(/\b(?:rsync_\w+|node_\w+|up|ALERTS)\b(?=[{[ )]|$)/g)].map(([name]) =>
    name.replace(/_bucket$/, ''),
  );

const known = [...Object.keys(METRICS), 'node_textfile_mtime_seconds', 'up', 'ALERTS'];

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
    expect(read('compose.monitoring.yml')).toMatch(new RegExp(`^  ${hostname}:\n[\\s\\S]*?\\}:${port}\n`, 'm'));
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
      const own = [...(METRICS[metric] ?? ['alertname', 'alertstate']), 'instance', 'le'];
      for (const label of [...labels, ...grouping]) expect(own).toContain(label ?? '');
    }
    expect(new Set([...queries, ...definitions].flatMap(metricsIn))).toEqual(
      new Set([...Object.keys(METRICS), 'ALERTS']),
    );
  });

  test('lets the viewer choose the source and the target in each panel that they concern', () => {
    expect(templating.list.map(({ name }) => name)).toEqual(['source', 'target']);
    for (const query of charts.flatMap((panel: Panel) => queriesOf(panel))) {
      const [metric = ''] = metricsIn(query);
      if (metric === 'ALERTS') continue;
      expect(query).toContain('instance=~"$source"');
      expect(query.includes('target=~"$target"')).toBe((METRICS[metric] ?? []).includes('target'));
    }
  });
});

test('one port and one limit are the same wherever they are named', () => {
  const [, port] = /METRICS_PORT: "(\d+)"/.exec(read('compose.monitoring.yml')) ?? [];
  expect(read('monitoring', 'prometheus.yml')).toContain(`targets: ["rsync-source:${port}"]`);
  expect(read('compose.monitoring.yml')).toMatch(new RegExp(`127\\.0\\.0\\.1:\\$\\{STATUS_PORT:-${port}\\}:${port}\n`));
  const [, limit] = /MAX_LAG:-(\d+)/.exec(read('compose.yml')) ?? [];
  expect(ALERTS.find(({ alert }) => alert === 'RsyncLagHigh')?.expr).toStartWith(
    `rsync_oldest_pending_seconds > ${limit} `,
  );
  const interval = /scrape_interval: (\w+)/.exec(read('monitoring', 'prometheus.yml'))?.[1];
  expect(read('monitoring', 'grafana', 'provisioning', 'datasources', 'prometheus.yml')).toContain(
    `timeInterval: ${interval} `,
  );
});

test('compose.monitoring.yml publishes to this machine alone, and .env.example knows its variables', () => {
  const file = read('compose.monitoring.yml');
  for (const [, published = ''] of file.matchAll(/ports:\n +- (.*)/g)) expect(published).toStartWith('127.0.0.1:');
  for (const [, name, value] of file.matchAll(/\$\{(\w+):-([^}]*)\}/g)) {
    expect(read('.env.example')).toContain(`#${name}=${value}\n`);
  }
});
