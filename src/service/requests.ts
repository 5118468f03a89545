/**
 * Requests to services outside, which may hang, say too much, or lead elsewhere: one takes seconds at most, and goes where it is meant to
 * go or nowhere.
 *
 *   const { status, body } = await send({ url, method: 'GET' });
 */
import { lifecycle } from './lifecycle.ts';
import { veil } from './secret-urls.ts';
import { Failure, t } from './text.ts';

/** How long a request may take with its answer, ms. */
const PATIENCE_MS = 10_000;
/** How much of an answer is read, bytes. */
const MAX_ANSWER = 65_536;
/** How long an answer may ask us to wait, ms: it shall not silence us for good. */
const MAX_WAIT_MS = 3_600_000;

export interface Request {
  url: URL;
  method: 'GET' | 'POST';
  headers?: Record<string, string>;
  body?: string;
}

export interface Reply {
  status: number;
  body: string;
  /** Where it would lead us, as far as that is no secret. */
  redirect?: string;
  /** How long nothing more is to be sent, ms. */
  wait?: number;
}

/**
 * Sends a request; a request to stop ends it. Proxies are taken from HTTP_PROXY and HTTPS_PROXY, as by other programs.
 * @throws {Failure} where there is no answer; what it says tells nothing of the URL
 */
export async function send({ url, method, headers, body }: Request, patience = PATIENCE_MS): Promise<Reply> {
  const signal = AbortSignal.any([AbortSignal.timeout(patience), lifecycle.signal]);
  const init = { method, headers: { 'Accept-Encoding': 'identity', 'User-Agent': 'rsync-inotify', ...headers } };
  const ours = { redirect: 'manual', keepalive: false, decompress: false, signal } as const;
  try {
    const response = await fetch(url.href, { ...init, ...ours, ...(body === undefined ? {} : { body }) });
    const location = response.headers.get('location');
    return {
      status: response.status,
      body: await readSome(response),
      ...(location && URL.canParse(location, url.href) ? { redirect: new URL(location, url).origin } : {}),
      ...waitOf(response.headers.get('retry-after')),
    };
  } catch (cause) {
    throw new Failure(explain(cause as Error & { code?: unknown }, patience));
  }
}

/** Reads the beginning of an answer; what is sent beyond it is not waited for. */
async function readSome({ body }: Response): Promise<string> {
  const reader = body?.getReader();
  const pieces: Uint8Array[] = [];
  for (let length = 0; reader && length < MAX_ANSWER; ) {
    const { value } = await reader.read();
    if (!value) break;
    pieces.push(value);
    length += value.length;
  }
  reader?.cancel().catch(() => {});
  return Buffer.concat(pieces).toString('utf8', 0, MAX_ANSWER);
}

/** Says what has come back from a URL, without what is secret in that, and without pages for browsers. */
export function describeReply(url: URL, { status, body, redirect }: Reply): string {
  if (redirect && status >= 300 && status < 400)
    return t`HTTP ${status}，重定向到 ${veil(redirect, [url])}；为了不泄露令牌，不跟随重定向，请填写最终的 URL`;
  const said = /^\s*</.test(body) ? '' : veil(body, [url]);
  return `HTTP ${status}${said && ` ${said}`}`;
}

/** Reads Retry-After: seconds, or a date (RFC 9110, 10.2.3). */
export function waitOf(value: string | null, now = Date.now()): { wait?: number } {
  if (!value) return {};
  const ms = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - now;
  return ms > 0 ? { wait: Math.min(ms, MAX_WAIT_MS) } : {};
}

/** Says why there is no answer. What the library says is not passed on: it holds the URL. */
function explain({ name, code }: { name: string; code?: unknown }, patience: number): string {
  const word = typeof code === 'string' && /^\w+$/.test(code) ? code : name;
  if (name === 'TimeoutError') return t`${patience / 1000} 秒内没有完整的应答`;
  if (name === 'AbortError') return t`服务正在停止`;
  if (/^(ENOTFOUND|EAI_AGAIN|EAI_FAIL|DNS\w*)$/.test(word)) return t`找不到主机 (${word})，请检查主机名和 DNS`;
  if (/CERT|SELF_SIGNED|ISSUER|VERIFY|ALTNAME/.test(word))
    return t`无法验证它的证书 (${word})；自建服务的证书可由 NODE_EXTRA_CA_CERTS 指明`;
  if (word === 'ECONNREFUSED') return t`连接被拒绝 (${word})`;
  if (/^(ECONNRESET|ConnectionClosed|EPIPE)$/.test(word)) return t`连接被中断 (${word})`;
  return t`无法发送 (${word})`;
}
