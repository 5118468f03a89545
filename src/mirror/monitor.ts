/**
 * How the state is seen from outside: in STATUS_FILE and METRICS_FILE, and on a page with metrics on METRICS_PORT.
 *
 *   await openViews(config, { service, watch, targets });
 */
import { incidentFile } from '../service/incident-memory.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { startReporting } from '../service/reporting.ts';
import { onShow, Publisher, StateFile } from '../service/status.ts';
import { headersFor, pagesOf, serveSite } from '../service/web.ts';
import { type Config, originOf } from './config.ts';
import { defineMetrics } from './metrics.ts';
import { asideOf, judge, problemsOf, type Service, type Status, sightingsOf } from './status.ts';
import type { TargetState } from './target-state.ts';
import type { Watch } from './watch.ts';

/** What is shown. */
interface Parts {
  service: Service;
  watch: Watch;
  targets: TargetState[];
}

/** Sees of a state what is to be reported. At the start nothing is known of targets. */
const look = (status: Status) => ({
  sightings: sightingsOf(status),
  isHealthy: judge(status).healthy,
  isPartial: problemsOf(status).some(({ problem }) => problem === 'starting'),
  aside: asideOf(status),
});

/** Shows the state to whoever is to see it, and at the exit that the service has stopped. */
export async function openViews(config: Config, parts: Parts): Promise<void> {
  const { METRICS_FILE, METRICS_PORT, STATUS_FILE } = config;
  const { service, targets } = parts;
  const publisher = new Publisher(() => service.report());
  const files = [new StateFile('STATUS_FILE', STATUS_FILE, () => publisher.shown)];
  const metrics = METRICS_FILE || METRICS_PORT ? await defineMetrics(parts) : undefined;
  if (metrics && METRICS_FILE) files.push(new StateFile('METRICS_FILE', METRICS_FILE, () => metrics.metrics()));
  if (metrics && METRICS_PORT) await serve(config, service, publisher, () => metrics.metrics());
  const remembered = incidentFile(config.SSH_DIR, 'rsync-inotify', config.SOURCE_DIR);
  startReporting(publisher, { config, origin: originOf(config), file: remembered, look });
  publisher.on('published', () => {
    for (const file of files) void file.write();
  });
  const show = () => {
    publisher.publish();
    return Promise.all(files.map((file) => file.write()));
  };
  onShow(show);
  lifecycle.onExit(() => {
    service.phase = 'stopped';
    for (const target of targets) target.up = false;
    return show();
  });
  publisher.publish();
}

/** Serves the page and the metrics. */
async function serve(
  { METRICS_PORT, METRICS_LISTEN, METRICS_HOSTS }: Config,
  service: Service,
  publisher: Publisher,
  metrics: () => Promise<string>,
): Promise<void> {
  const { default: asset } = await import('./status.html', { with: { type: 'text' } });
  const page = String(asset);
  serveSite({
    port: Number(METRICS_PORT),
    address: METRICS_LISTEN,
    hosts: METRICS_HOSTS,
    variable: 'METRICS_HOSTS',
    headers: headersFor(page),
    pages: {
      '/': ({ send }) => send(200, 'html', page),
      ...pagesOf(metrics, () => judge(service.describe())),
      '/events': ({ follow }) => follow(publisher),
    },
  });
}
