/**
 * How the state is seen from outside: in STATUS_FILE and METRICS_FILE, and on a page with metrics on METRICS_PORT.
 *
 *   await openViews(config, { service, watch, targets });
 */
import { createHash } from 'node:crypto';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log } from '../service/log.ts';
import { HEARTBEAT_MS, Publisher, StateFile } from '../service/status.ts';
import { reasonOf } from '../service/text.ts';
import type { Config } from './config.ts';
import { defineMetrics } from './metrics.ts';
import { judge, type Service } from './status.ts';
import type { TargetState } from './target-state.ts';
import type { Watch } from './watch.ts';

/** How many connections there may be: each takes a descriptor, without which no rsync starts. */
const MAX_CONNECTIONS = 200;
/** How many readers may follow the page at a time. */
const MAX_FOLLOWERS = 50;

/** What is shown. */
interface Parts {
  service: Service;
  watch: Watch;
  targets: TargetState[];
}

/** Shows the state to whoever is to see it, and at the exit that the service has stopped. */
export async function openViews(config: Config, parts: Parts): Promise<void> {
  const { METRICS_FILE, METRICS_PORT, STATUS_FILE } = config;
  const { service, targets } = parts;
  const publisher = new Publisher(() => service.report());
  const files = [new StateFile('STATUS_FILE', STATUS_FILE, () => publisher.shown)];
  const metrics = METRICS_FILE || METRICS_PORT ? await defineMetrics(parts) : undefined;
  if (metrics && METRICS_FILE) files.push(new StateFile('METRICS_FILE', METRICS_FILE, () => metrics.metrics()));
  if (metrics && METRICS_PORT) await serve(config, service, publisher, () => metrics.metrics());
  publisher.on('published', () => {
    for (const file of files) void file.write();
  });
  lifecycle.onExit(() => {
    service.phase = 'stopped';
    for (const target of targets) target.up = false;
    publisher.publish();
    return Promise.all(files.map((file) => file.write()));
  });
  publisher.publish();
}

/** Says what the policy lets in: the page's own element of that name, by its content. */
const hashOf = (element: string, page: string) => {
  const [, content = ''] = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(page) ?? [];
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
};

/** Builds the headers of the page, which holds all that it needs, may load nothing else and may not be shown inside of another. */
const securityHeaders = (page: string) => ({
  'Content-Security-Policy': [
    `default-src 'none'; script-src ${hashOf('script', page)}; style-src ${hashOf('style', page)}; connect-src 'self'`,
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
});

/** Serves the page and the metrics. */
async function serve(
  { METRICS_PORT, METRICS_LISTEN }: Config,
  service: Service,
  publisher: Publisher,
  metrics: () => Promise<string>,
): Promise<void> {
  const { default: asset } = await import('./status.html', { with: { type: 'text' } });
  const page = String(asset);
  const headers = securityHeaders(page);
  const send = (response: ServerResponse, status: number, type: string, body: string) =>
    response.writeHead(status, { ...headers, 'Content-Type': `${type}; charset=utf-8` }).end(body);
  const answers: Record<string, (response: ServerResponse) => Promise<unknown>> = {
    '/': async (response) => send(response, 200, 'text/html', page),
    '/metrics': async (response) => send(response, 200, 'text/plain; version=0.0.4', await metrics()),
    '/healthz': async (response) => {
      const { healthy, line } = judge(service.describe());
      send(response, healthy ? 200 : 503, 'text/plain', `${line}\n`);
    },
    '/events': async (response) => {
      if (publisher.listenerCount('published') > MAX_FOLLOWERS) return send(response, 503, 'text/plain', '');
      follow(publisher, response.writeHead(200, { ...headers, 'Content-Type': 'text/event-stream' }));
    },
  };
  const server = createServer(({ url = '', method }, response) => {
    const path = url.replace(/\?.*/s, '');
    const answer = Object.hasOwn(answers, path) && answers[path];
    if (!answer) return send(response, 404, 'text/plain', '404\n');
    if (method === 'GET') return answer(response).catch(() => response.destroy());
    response.setHeader('Allow', 'GET');
    send(response, 405, 'text/plain', '405\n');
  });
  server.maxConnections = MAX_CONNECTIONS;
  keepListening(server, Number(METRICS_PORT), METRICS_LISTEN);
}

/** Listens, again and again where a port is not to be had: that is no reason not to mirror. */
function keepListening(server: Server, port: number, address: string): void {
  const where = `${address}:${port}`;
  const listen = () => server.listen(port, address);
  let isTold = false;
  server.on('listening', () => isTold && log('http.restored', `已在 ${where} 提供状态页和指标`));
  server.on('error', (cause) => {
    if (!isTold)
      error('http.failed', `无法监听 ${where}：${reasonOf(cause)}。状态页和指标不可用，将继续重试；镜像不受影响`);
    isTold = true;
    setTimeout(listen, HEARTBEAT_MS).unref();
  });
  listen();
}

/** Sends the state whenever it has changed, unless the reader has not taken the last one yet. */
function follow(publisher: Publisher, response: ServerResponse): void {
  let isTaken = true;
  const tell = () => {
    if (!isTaken) return;
    isTaken = response.write(`data: ${publisher.shown}\n\n`);
    if (!isTaken) response.once('drain', () => (isTaken = true));
  };
  publisher.on('published', tell);
  response.once('close', () => publisher.off('published', tell)).on('error', () => {});
  tell();
}
