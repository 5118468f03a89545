/**
 * The web pages of a service. They have no login, so they answer under the machine's own names alone, and nobody who
 * holds connections open keeps them from others.
 *
 *   serveSite({ port: 9873, address: '127.0.0.1', hosts: ['status.example.org'], variable: 'METRICS_HOSTS', headers, pages });
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIPv4, isIPv6, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { error, log, warn } from './log.ts';
import { HEARTBEAT_MS, type Publisher } from './status.ts';
import { escapeText, reasonOf, t } from './text.ts';

/** How many connections there may be besides those that follow: each takes a descriptor, without which no rsync starts. */
const MAX_VISITORS = 100;
/** How many may follow what is published at a time. */
const MAX_FOLLOWERS = 50;
/** How long a connection may take for its request and the answer together, ms. */
const VISIT_MS = 30_000;
/** How many names that are refused are told in the log, and how much is shown of each, characters. */
const MAX_TOLD = 5;
const MAX_SHOWN = 100;

/** One request of a reader. */
interface Visit {
  /** Sends an answer, whole, of the type `text/…`. */
  send(status: number, type: string, body: string): void;
  /** Sends what is published, now and whenever it is published anew. */
  follow(publisher: Publisher): void;
}

export interface Site {
  port: number;
  address: string;
  /** Names besides those of the machine under which it is asked, in small letters, and the variable that has them. */
  hosts: readonly string[];
  variable: string;
  /** Sent with each answer, also with those that refuse. */
  headers: Record<string, string>;
  /** What is answered under a path. */
  pages: Record<string, (visit: Visit) => void | Promise<void>>;
}

/** Says what the policy lets in: the page's own element of that name, by its content. */
const hashOf = (element: string, page: string) => {
  const [, content = ''] = new RegExp(`<${element}>(.*)</${element}>`, 's').exec(page) ?? [];
  return `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
};

/** Builds the headers for a page that holds all that it needs, may load nothing else and may not be reached from another one. */
export const headersFor = (page: string) => ({
  'Content-Security-Policy': [
    `default-src 'none'; script-src ${hashOf('script', page)}; style-src ${hashOf('style', page)}; connect-src 'self'`,
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ].join('; '),
  'X-Frame-Options': 'DENY',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store',
});

/**
 * Whether a `Host` is an address or a name that only this machine has. Under any other name, a browser may have been led here by
 * the DNS of a web site, which could then read everything.
 */
export function isOwnHost(host: string, hosts: readonly string[], machine = hostname()): boolean {
  const [, bracketed = '', plain = ''] = /^(?:\[([^\]]+)\]|([^:[\]]+?)\.?)(?::\d*)?$/.exec(host.toLowerCase()) ?? [];
  if (isIPv6(bracketed) || isIPv4(plain)) return true;
  const name = machine.toLowerCase().replace(/\.$/, '');
  return plain !== '' && ['localhost', name, name.split('.')[0], ...hosts].includes(plain);
}

/** Whether a browser says that another site asks, though not for a page to go to. */
const isForAnotherSite = ({ headers }: IncomingMessage) =>
  !['same-origin', 'none', undefined].includes(headers['sec-fetch-site']?.toString()) &&
  headers['sec-fetch-mode'] !== 'navigate';

/** Connections of which there may be so many: one more ends the oldest, so that nobody finds the place taken. */
class Crowd {
  private readonly members = new Set<Socket>();
  constructor(private readonly most: number) {}

  has(socket: Socket): boolean {
    return this.members.has(socket);
  }

  add(socket: Socket): void {
    this.members.add(socket);
    socket.once('close', () => this.members.delete(socket));
    const [oldest] = this.members;
    if (this.members.size <= this.most || !oldest) return;
    this.members.delete(oldest);
    oldest.destroy();
  }

  delete(socket: Socket): void {
    this.members.delete(socket);
  }
}

/** Gives the pages that are for programs: the metrics, and whether all is well. */
export const pagesOf = (
  metrics: () => Promise<string>,
  judge: () => { healthy: boolean; line: string },
): Site['pages'] => ({
  '/metrics': async ({ send }) => send(200, 'plain; version=0.0.4', await metrics()),
  '/healthz': ({ send }) => {
    const { healthy, line } = judge();
    send(healthy ? 200 : 503, 'plain', `${line}\n`);
  },
});

/** Serves pages, as soon as the port is to be had. */
export function serveSite(site: Site): Server {
  const [visitors, followers] = [new Crowd(MAX_VISITORS), new Crowd(MAX_FOLLOWERS)];
  const [misdirected, asked] = [misdirections(site.variable), new WeakSet<Socket>()];
  const server = createServer((request, response) => {
    const { socket } = request;
    if (asked.has(socket)) return socket.destroy(); // Bun would have thousands of requests at once answered all at once
    asked.add(socket);
    response.shouldKeepAlive = false;
    if (request.method !== 'GET') response.setHeader('Allow', 'GET');
    const visit: Visit = {
      send: (status, type, body) =>
        response.writeHead(status, { ...site.headers, 'Content-Type': `text/${type}; charset=utf-8` }).end(body),
      follow: (publisher) => {
        visitors.delete(socket);
        followers.add(socket);
        follow(publisher, response.writeHead(200, { ...site.headers, 'Content-Type': 'text/event-stream' }));
      },
    };
    answer(site, request, visit, misdirected).catch(() => socket.destroy());
  });
  server.on('connection', (socket: Socket) => {
    visitors.add(socket);
    const timer = setTimeout(() => visitors.has(socket) && socket.destroy(), VISIT_MS);
    socket.once('close', () => clearTimeout(timer));
  });
  keepListening(server, site.port, site.address);
  return server;
}

/** Answers a request, or says why not. */
async function answer(
  { hosts, pages }: Site,
  request: IncomingMessage,
  visit: Visit,
  misdirected: (host: string) => string,
): Promise<void> {
  const refuse = (status: number, reason = '') => visit.send(status, 'plain', `${status}${reason}\n`);
  const [host, another] = request.headersDistinct.host ?? []; // only HTTP/1.0 may have none, which no browser speaks
  if (another !== undefined) return refuse(400, t`：请求有多个 Host`);
  if (host !== undefined && !isOwnHost(host, hosts)) return refuse(421, misdirected(host));
  if (isForAnotherSite(request)) return refuse(403, t`：其他网站不能读取这里的内容`);
  const path = request.url?.replace(/\?.*/s, '') ?? '';
  const page = Object.hasOwn(pages, path) && pages[path];
  if (!page) return refuse(404);
  if (request.method !== 'GET') return refuse(405, t`：只回应 GET`);
  await page(visit);
}

/**
 * Says that a name is not answered, why, and what is to be done. The log says it once for each of the first names, for whoever
 * scrapes metrics gets to see nothing but the status.
 */
function misdirections(variable: string): (host: string) => string {
  const told = new Set<string>();
  return (host) => {
    const name = escapeText(host.replace(/:\d*$/, '').slice(0, MAX_SHOWN));
    const reason = t`不以主机名 "${name}" 应答，否则其他网站可借 DNS 重绑定读取状态`;
    const advice = t`请使用 IP 地址、localhost 或本机的主机名；若此名称确实属于本机（反向代理、Prometheus 等），请将它加入 ${variable}`;
    if (!told.has(name) && told.size < MAX_TOLD) warn('http.refused', t`状态页和指标${reason}。${advice}`);
    if (told.size < MAX_TOLD) told.add(name);
    return t`：${reason}。${advice}`;
  };
}

/** Listens, again and again where a port is not to be had: that is no reason to do nothing else. */
function keepListening(server: Server, port: number, address: string): void {
  const where = `${address}:${port}`;
  const listen = () => server.listen(port, address);
  let isTold = false;
  server.on('listening', () => isTold && log('http.restored', t`已在 ${where} 提供状态页和指标`));
  server.on('error', (cause) => {
    if (!isTold)
      error('http.failed', t`无法监听 ${where}：${reasonOf(cause)}。状态页和指标不可用，将继续重试；镜像不受影响`);
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
