/** What the files in monitoring/ hold, for the tests of them. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './project.ts';

export const MONITORING = join(ROOT, 'monitoring');
const yaml = (...path: string[]) => Bun.YAML.parse(readFileSync(join(MONITORING, ...path), 'utf8'));

/** The metrics of rsync-inotify, with the labels that they have besides those of the scrape. */
export const METRICS: Record<string, string[]> = {
  rsync_sync_total: ['target', 'mode', 'result'],
  rsync_events_total: [],
  rsync_watch_overflows_total: [],
  rsync_watch_restarts_total: [],
  rsync_transferred_bytes_total: ['target'],
  rsync_sync_duration_seconds: ['target', 'mode'],
  rsync_pending_changes: ['target'],
  rsync_oldest_pending_seconds: ['target'],
  rsync_last_success_timestamp_seconds: ['target'],
  rsync_target_up: ['target'],
  rsync_watched_directories: [],
  rsync_held_deletions: ['target'],
  rsync_target_promoted: ['target'],
  rsync_target_state: ['target', 'state'],
  rsync_paused: [],
  rsync_pause_end_timestamp_seconds: [],
  rsync_failed_paths: ['target'],
  rsync_unwatched_places: [],
  rsync_missing_mounts: [],
  rsync_source_found: [],
  rsync_start_time_seconds: [],
  rsync_build_info: ['version'],
};

/** Those of start-sshd. */
export const BACKUP_METRICS: Record<string, string[]> = {
  rsync_backup_last_received_timestamp_seconds: ['source'],
  rsync_backup_sessions: ['source'],
  rsync_backup_refused_total: ['source'],
  rsync_backup_free_bytes: ['source'],
  rsync_backup_size_bytes: ['source'],
  rsync_backup_free_files: ['source'],
  rsync_backup_history_bytes: ['source'],
  rsync_backup_history_versions: ['source'],
  rsync_backup_promoted: ['source'],
  rsync_backup_healthy: [],
  rsync_backup_problem: ['problem', 'source'],
  rsync_backup_shell_allowed: [],
  rsync_backup_start_time_seconds: [],
  rsync_backup_build_info: ['version'],
};

interface Alert {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}

const alertsIn = (name: string) =>
  (yaml(name) as { groups: { rules: Alert[] }[] }).groups.flatMap(({ rules }) => rules);

export const SOURCE_ALERTS = alertsIn('alerts.yml');
export const BACKUP_ALERTS = alertsIn('backup-alerts.yml');
export const ALERTS = [...SOURCE_ALERTS, ...BACKUP_ALERTS];

interface AlertTest {
  alert_rule_test: { alertname: string; exp_alerts?: object[] }[];
}

export const ALERT_TESTS = ['alerts.test.yml', 'backup-alerts.test.yml'].flatMap((name) =>
  (yaml(name) as { tests: AlertTest[] }).tests.flatMap((group) => group.alert_rule_test),
);

interface Datasource {
  type: string;
  uid: string;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  datasource?: Datasource;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { refId: string; datasource: Datasource; expr: string }[];
  fieldConfig?: { defaults: { unit: string; thresholds: { steps: { value: number | null }[] } } };
}

interface Dashboard {
  uid: string;
  schemaVersion: number;
  panels: Panel[];
  templating: { list: { name: string; definition: string; datasource: Datasource }[] };
}

const dashboards = join(MONITORING, 'grafana', 'dashboards');

export const DASHBOARDS = readdirSync(dashboards).map(
  (name) => JSON.parse(readFileSync(join(dashboards, name), 'utf8')) as Dashboard,
);

export const DATASOURCES = (
  yaml('grafana', 'provisioning', 'datasources', 'prometheus.yml') as { datasources: (Datasource & { url: string })[] }
).datasources;

export const queriesOf = ({ targets = [] }: Panel) => targets.map(({ expr }) => expr);
