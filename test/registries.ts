/** A stand-in for a mirror of Debian and a registry of npm, which hands on what it is asked for and remembers it. */

import { spawnSync } from 'node:child_process';

const UPSTREAM: [path: RegExp, host: string][] = [
  [/^\/debian(-security)?\//, 'http://deb.debian.org'],
  [/^\//, npmRegistry()],
];

/** The registry that npm is set up for here. */
function npmRegistry(): string {
  return spawnSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8' }).stdout.trim().replace(/\/$/, '');
}

export class Registries implements Disposable {
  /** The paths that were asked for. */
  readonly asked: string[] = [];
  private readonly server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: (request) => this.handOn(request) });

  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  /** An environment in which whatever is not asked for here comes to nothing. */
  get noOther(): Record<string, string> {
    const nowhere = 'http://127.0.0.1:1';
    return { HTTP_PROXY: nowhere, HTTPS_PROXY: nowhere, NO_PROXY: '127.0.0.1' };
  }

  private async handOn({ url, headers }: Request): Promise<Response> {
    const { pathname, search } = new URL(url);
    this.asked.push(pathname);
    const [, host] = UPSTREAM.find(([path]) => path.test(pathname)) ?? [];
    const kept = ['accept', 'if-modified-since', 'range'].map((name) => [name, headers.get(name)]);
    const answer = await fetch(`${host}${pathname}${search}`, {
      headers: Object.fromEntries(kept.filter(([, value]) => value)),
      decompress: false,
    });
    return new Response(answer.body, { status: answer.status, headers: answer.headers });
  }

  [Symbol.dispose](): void {
    this.server.stop(true);
  }
}
