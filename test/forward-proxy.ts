/** A stand-in for the proxy of a network without another way out: on 127.0.0.1, in a test's own process. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';

export class ForwardProxy implements AsyncDisposable {
  /** What was asked for: `GET http://HOST/PATH`, `CONNECT HOST:PORT`. */
  readonly asked: string[] = [];
  private readonly server = createServer((asked, answer) => this.forward(asked, answer));
  private readonly tunnels = new Set<Socket>();

  /** @param hosts where those are that have no name in the DNS: `HOST:PORT` by `HOST` */
  private constructor(private readonly hosts: Record<string, string>) {
    this.server.on('connect', (asked, socket: Socket) => this.tunnel(asked, socket));
  }

  static async start(hosts: Record<string, string> = {}): Promise<ForwardProxy> {
    const proxy = new ForwardProxy(hosts);
    await once(proxy.server.listen(0, '127.0.0.1'), 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private forward(asked: IncomingMessage, answer: ServerResponse): void {
    this.asked.push(`${asked.method} ${asked.url}`);
    const { host, hostname, pathname, search } = new URL(asked.url ?? '');
    const [to, port = '80'] = (this.hosts[hostname] ?? host).split(':');
    const options = { host: to, port, path: pathname + search, method: asked.method, headers: asked.headers };
    const onward = request(options, (reply) => {
      answer.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(answer);
    });
    onward.on('error', () => answer.writeHead(502).end());
    asked.pipe(onward);
  }

  private tunnel(asked: IncomingMessage, socket: Socket): void {
    this.asked.push(`CONNECT ${asked.url}`);
    const [host, port] = asked.url?.split(':') ?? [];
    const onward = connect(Number(port), host, () => socket.write('HTTP/1.1 200 Connection established\r\n\r\n'));
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      this.tunnels.add(from);
      from.on('error', () => to.destroy()).pipe(to);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.tunnels) socket.destroy();
    this.server.closeAllConnections();
    await once(this.server.close(), 'close');
  }
}
