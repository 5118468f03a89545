/**
 * How the state is seen from outside: in STATUS_FILE, and as metrics on METRICS_PORT.
 *
 *   await openViews(config, status);
 */
import { type Metric, registryOf, type Samples } from '../service/metrics.ts';
import { headersFor, pagesOf, serveSite } from '../service/web.ts';
import { type Config, version } from './config.ts';
import { judge, PROBLEMS, problemsOf, type ServiceStatus, type Status } from './status.ts';

const secondsOf = (time: string | null) => (time === null ? null : Date.parse(time) / 1000);

/**
 * The label of what there is for each source: its SOURCE_NAME. Of one without a name it is empty, which to Prometheus is the same as no
 * label, so that nothing has to be asked for otherwise where there is one source alone.
 */
const NAMELESS = { source: '' };

/** Kind, name, meaning, and what it is in the state; null where that is not known. */
type Reading = [kind: 'Counter' | 'Gauge', name: string, meaning: string, value: (status: Status) => number | null];

const OF_SOURCES: Reading[] = [
  [
    'Gauge',
    'last_received_timestamp_seconds',
    'When the source last sent, or made ready to',
    ({ received }) => secondsOf(received),
  ],
  ['Gauge', 'sessions', 'Connections of sources', ({ sessions }) => sessions],
  ['Counter', 'refused_total', 'Commands that were refused', ({ refused }) => refused],
  ['Gauge', 'free_bytes', 'Room that is left for DEST_DIR', ({ destination: it }) => it.size_bytes && it.free_bytes],
  ['Gauge', 'size_bytes', 'Size of the disk of DEST_DIR', ({ destination }) => destination.size_bytes],
  ['Gauge', 'free_files', 'Files that can still be made in DEST_DIR', ({ destination }) => destination.free_files],
  ['Gauge', 'history_bytes', 'Room that older versions take', ({ history }) => history?.bytes ?? null],
  ['Gauge', 'history_versions', 'Older versions that are kept', ({ history }) => history?.versions ?? null],
  ['Gauge', 'promoted', 'Whether the backup has taken over', ({ promoted }) => Number(promoted !== null)],
];

const OF_SERVICE: Reading[] = [
  ['Gauge', 'healthy', 'Whether it can take a mirror', (status) => Number(judge(status).healthy)],
  ['Gauge', 'shell_allowed', 'Whether the source may run any command', ({ shell }) => Number(shell)],
  ['Gauge', 'start_time_seconds', 'When the program was started', ({ started }) => secondsOf(started)],
];

/** Lists the metrics of a state. @param status the one that is shown */
export function metricsOf(status: () => Status): Metric[] {
  const metric = ([kind, name, meaning, value]: Reading, label: string, labels: Record<string, string>): Metric => [
    kind,
    `rsync_backup_${name}`,
    label,
    meaning,
    () => [[value(status()), labels]],
  ];
  const problems = (): Samples => {
    const found = problemsOf(status());
    return PROBLEMS.map((problem) => [Number(found.includes(problem)), { problem }]);
  };
  return [
    ...OF_SOURCES.map((reading) => metric(reading, 'source', NAMELESS)),
    ...OF_SERVICE.map((reading) => metric(reading, '', {})),
    ['Gauge', 'rsync_backup_problem', 'problem', 'What is wrong: 1 where it is', problems],
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
