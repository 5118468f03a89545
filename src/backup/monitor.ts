/**
 * How the state is seen from outside: in STATUS_FILE, and as metrics on METRICS_PORT.
 *
 *   await openViews(config, status);
 */
import { type Metric, registryOf } from '../service/metrics.ts';
import { headersFor, pagesOf, serveSite } from '../service/web.ts';
import { type Config, version } from './config.ts';
import { judge, type ServiceStatus, type Status } from './status.ts';

const secondsOf = (time: string | null) => (time === null ? null : Date.parse(time) / 1000);

/** Name, meaning, and what it is in the state; null where that is not known. */
type Reading = [name: string, meaning: string, value: (status: Status) => number | null];

const GAUGES: Reading[] = [
  ['last_received_timestamp_seconds', 'When the source last sent, or made ready to', (it) => secondsOf(it.received)],
  ['sessions', 'Connections of sources', ({ sessions }) => sessions],
  ['free_bytes', 'Room that is left for DEST_DIR', ({ destination }) => destination.free_bytes],
  ['history_bytes', 'Room that older versions take', ({ history }) => history?.bytes ?? null],
  ['history_versions', 'Older versions that are kept', ({ history }) => history?.versions ?? null],
  ['promoted', 'Whether the backup has taken over', ({ promoted }) => Number(promoted !== null)],
  ['healthy', 'Whether it can take a mirror', (status) => Number(judge(status).healthy)],
];

/** Lists the metrics of a state. @param status the one that is shown */
export function metricsOf(status: () => Status): Metric[] {
  return [
    ...GAUGES.map(
      ([name, meaning, value]): Metric => ['Gauge', `rsync_backup_${name}`, '', meaning, () => [[value(status())]]],
    ),
    ['Counter', 'rsync_backup_refused_total', '', 'Commands that were refused', () => [[status().refused]]],
    ['Gauge', 'rsync_backup_build_info', 'version', 'The version, in a label', () => [[1, { version }]]],
  ];
}

/** Shows the state to whoever is to see it, from now on. */
export async function openViews(config: Config, status: ServiceStatus): Promise<void> {
  await status.publishFirst();
  const { METRICS_PORT, METRICS_LISTEN: address, METRICS_HOSTS: hosts } = config;
  if (!METRICS_PORT) return;
  let shown = status.report();
  const registry = await registryOf(metricsOf(() => shown));
  const metrics = () => {
    shown = status.report(); // once for all of them
    return registry.metrics();
  };
  const pages = pagesOf(metrics, () => judge(status.report()));
  serveSite({ port: Number(METRICS_PORT), address, hosts, variable: 'METRICS_HOSTS', headers: headersFor(''), pages });
}
