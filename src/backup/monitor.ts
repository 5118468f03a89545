/**
 * How the state is seen from outside: in STATUS_FILE, and as metrics on METRICS_PORT.
 *
 *   await openViews(config, status);
 */
import { type Metric, registryOf, type Samples } from '../service/metrics.ts';
import { headersFor, pagesOf, serveSite } from '../service/web.ts';
import { type Config, version } from './config.ts';
import { PROBLEMS_OF_SOURCES, type SourceStatus } from './source-status.ts';
import { judge, PROBLEMS, type ServiceStatus, type Status, sightingsOf } from './status.ts';

const secondsOf = (time: string | null) => (time === null ? null : Date.parse(time) / 1000);

/** Kind, name, meaning, and what it is in the state of a source, or in that of all; null where that is not known. */
type Reading<S> = [kind: 'Counter' | 'Gauge', name: string, meaning: string, value: (status: S) => number | null];

/**
 * What there is for each source, whose name is in a label. Of one without a name that is empty, which to Prometheus is the same as no
 * label, so that nothing has to be asked for otherwise where there is one source alone.
 */
const OF_SOURCES: Reading<SourceStatus>[] = [
  [
    'Gauge',
    'last_received_timestamp_seconds',
    'When the source last sent, or made ready to',
    ({ received }) => secondsOf(received),
  ],
  ['Gauge', 'sessions', 'Connections of sources', ({ sessions }) => sessions],
  ['Counter', 'refused_total', 'Commands that were refused', ({ refused }) => refused],
  ['Gauge', 'history_bytes', 'Room that older versions take', ({ history }) => history?.bytes ?? null],
  ['Gauge', 'history_versions', 'Older versions that are kept', ({ history }) => history?.versions ?? null],
  ['Gauge', 'promoted', 'Whether the backup has taken over', ({ promoted }) => Number(promoted !== null)],
];

/** What all sources share: its label is empty. */
const OF_DISK: Reading<Status>[] = [
  ['Gauge', 'free_bytes', 'Room that is left for DEST_DIR', ({ destination: it }) => it.size_bytes && it.free_bytes],
  ['Gauge', 'size_bytes', 'Size of the disk of DEST_DIR', ({ destination }) => destination.size_bytes],
  ['Gauge', 'free_files', 'Files that can still be made in DEST_DIR', ({ destination }) => destination.free_files],
];

const OF_SERVICE: Reading<Status>[] = [
  ['Gauge', 'healthy', 'Whether it can take a mirror', (status) => Number(judge(status).healthy)],
  ['Gauge', 'shell_allowed', 'Whether the source may run any command', ({ shell }) => Number(shell)],
  ['Gauge', 'start_time_seconds', 'When the program was started', ({ started }) => secondsOf(started)],
];

/** Says of each problem whether it is there: of those of sources, for each by itself. */
function problemsIn(status: Status): Samples {
  const there = sightingsOf(status).map(({ problem, source = '' }) => `${problem} ${source}`);
  const sample = (problem: string, source: string): Samples[0] => [
    Number(there.includes(`${problem} ${source}`)),
    { problem, source },
  ];
  const named = status.sources.filter(({ name }) => name);
  const isOfSources = (problem: string) => named.length > 0 && PROBLEMS_OF_SOURCES.some((it) => it === problem);
  return PROBLEMS.flatMap((problem) =>
    isOfSources(problem) ? named.map(({ name }) => sample(problem, name)) : [sample(problem, '')],
  );
}

/** Lists the metrics of a state. @param status the one that is shown */
export function metricsOf(status: () => Status): Metric[] {
  const metric = <S>([kind, name, meaning]: Reading<S>, label: string, samples: () => Samples): Metric => [
    kind,
    `rsync_backup_${name}`,
    label,
    meaning,
    samples,
  ];
  const ofSources = (reading: Reading<SourceStatus>) =>
    metric(reading, 'source', () => status().sources.map((it) => [reading[3](it), { source: it.name }]));
  return [
    ...OF_SOURCES.map(ofSources),
    ...OF_DISK.map((reading) => metric(reading, 'source', () => [[reading[3](status()), { source: '' }]])),
    ...OF_SERVICE.map((reading) => metric(reading, '', () => [[reading[3](status())]])),
    [
      'Gauge',
      'rsync_backup_problem',
      'problem source',
      'What is wrong, and with which source: 1 where it is',
      () => problemsIn(status()),
    ],
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
