/**
 * The metrics, taken from the objects that they are about when they are asked for.
 *
 *   const registry = await defineMetrics(parts);
 *   await registry.metrics();
 */
import { version } from '../../package.json';
import { type Metric, registryOf, type Samples } from '../service/metrics.ts';
import type { Outcome } from './rsync.ts';
import type { Service } from './status.ts';
import type { TargetState } from './target-state.ts';
import type { Watch } from './watch.ts';

/** What the metrics are about. */
interface Parts {
  service: Service;
  watch: Watch;
  targets: TargetState[];
}

const successTime = ({ lastSuccess }: TargetState) => lastSuccess && lastSuccess.getTime() / 1000;
const lagOfTarget = ({ oldestPending: oldest }: TargetState) => (oldest ? (Date.now() - oldest) / 1000 : 0);

/** All state words of a target. */
const STATES = ['idle', 'waiting', 'syncing', 'retrying', 'down', 'paused', 'promoted'] as const;

const statesOf = (targets: TargetState[]): Samples =>
  targets.flatMap((target) =>
    STATES.map((state): Samples[0] => [Number(target.describe() === state), { target: target.name, state }]),
  );
const pauseOf = (targets: TargetState[]) => targets.find(({ pause }) => pause)?.pause;
const endOfPause = (targets: TargetState[]) => (pauseOf(targets)?.until ?? 0) / 1000;

const failedOn = ({ unmirrored }: TargetState) => unmirrored.size;
const promotedOf = ({ isPromoted }: TargetState) => Number(isPromoted);
const heldOn = ({ held }: TargetState) => held?.count ?? 0;

const syncsByResult = (targets: TargetState[]): Samples =>
  targets.flatMap(({ name: target, syncs }) =>
    (['full', 'incremental'] as const).flatMap((mode) =>
      (['success', 'failure'] as const).map((result): Samples[0] => [syncs[mode][result], { target, mode, result }]),
    ),
  );

/** What tells of a pause, and of what each target is doing. */
const pauseMetrics = (targets: TargetState[]): Metric[] => [
  ['Gauge', 'rsync_target_state', 'target state', '1 for the state that it is in', () => statesOf(targets)],
  ['Gauge', 'rsync_paused', '', 'Whether an operator has paused all', () => [[Number(!!pauseOf(targets))]]],
  [
    'Gauge',
    'rsync_pause_end_timestamp_seconds',
    '',
    'When the pause ends, 0 without one',
    () => [[endOfPause(targets)]],
  ],
];

function metricsOf({ service, watch, targets }: Parts): Metric[] {
  const ofTargets = (value: (target: TargetState) => number | null) => (): Samples =>
    targets.map((target) => [value(target), { target: target.name }]);
  const ofWatch = (name: 'events' | 'overflows' | 'restarts' | 'directories') => (): Samples => [
    [watch.report()[name]],
  ];
  return [
    [
      'Counter',
      'rsync_sync_total',
      'target mode result',
      'Syncs, by what was compared and result',
      () => syncsByResult(targets),
    ],
    ['Counter', 'rsync_events_total', '', 'Events of inotifywait', ofWatch('events')],
    ['Counter', 'rsync_watch_overflows_total', '', 'Overflows of the queue of events', ofWatch('overflows')],
    ['Counter', 'rsync_watch_restarts_total', '', 'Watchers that ended and were replaced', ofWatch('restarts')],
    ['Counter', 'rsync_transferred_bytes_total', 'target', 'Bytes sent and received', ofTargets(({ bytes }) => bytes)],
    ['Gauge', 'rsync_pending_changes', 'target', 'Changes that the target lacks', ofTargets(({ pending }) => pending)],
    ['Gauge', 'rsync_oldest_pending_seconds', 'target', 'How long it has lacked the oldest', ofTargets(lagOfTarget)],
    ['Gauge', 'rsync_last_success_timestamp_seconds', 'target', 'When a sync last succeeded', ofTargets(successTime)],
    ['Gauge', 'rsync_target_up', 'target', 'Whether it can be reached', ofTargets(({ up }) => Number(up))],
    ['Gauge', 'rsync_target_promoted', 'target', 'Whether the backup has taken over', ofTargets(promotedOf)],
    ['Gauge', 'rsync_held_deletions', 'target', 'Deletions held back until accepted', ofTargets(heldOn)],
    ['Gauge', 'rsync_failed_paths', 'target', 'Paths that cannot be mirrored', ofTargets(failedOn)],
    ...pauseMetrics(targets),
    ['Gauge', 'rsync_watched_directories', '', 'Directories that are watched', ofWatch('directories')],
    [
      'Gauge',
      'rsync_start_time_seconds',
      '',
      'When the program was started',
      () => [[service.started.getTime() / 1000]],
    ],
    ['Gauge', 'rsync_unwatched_places', '', 'Places that cannot be watched', () => [[watch.report().unwatched.count]]],
    ['Gauge', 'rsync_missing_mounts', '', 'Gone file systems below the source', () => [[service.missingMounts]]],
    ['Gauge', 'rsync_source_found', '', 'Whether the source is the right one', () => [[Number(service.isSourceFound)]]],
    ['Gauge', 'rsync_build_info', 'version', 'The version, in a label', () => [[1, { version }]]],
  ];
}

/** Defines the metrics. */
export async function defineMetrics(parts: Parts) {
  const registry = await registryOf(metricsOf(parts));
  const { Histogram } = await import('prom-client');
  const duration = new Histogram({
    name: 'rsync_sync_duration_seconds',
    help: 'How long syncs took',
    labelNames: ['target', 'mode'],
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200],
    registers: [registry],
  });
  for (const target of parts.targets) {
    target.on('synced', ({ mode, seconds }: Outcome) => duration.observe({ target: target.name, mode }, seconds));
  }
  return registry;
}
