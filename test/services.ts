/** Services that take reports, as far as their documentation says what they do: on 127.0.0.1, in a test's own process. */

import { createHmac } from 'node:crypto';
import { eventually } from './processes.ts';

export interface Taken {
  form: string;
  /** What the report says, as that service shows it. */
  text: string;
  body: Record<string, unknown>;
  /** The path and query that it was sent to. */
  path: string;
  headers: Headers;
  time: number;
}

/** What a service does instead of what it is for. */
export type Mood = (request: Request) => Response | Promise<Response>;

/** Moods of any service. */
export const hangs: Mood = () => new Promise(() => {});
export const isBusy =
  (retryAfter: string): Mood =>
  () =>
    Response.json({ error: 'too many requests' }, { status: 429, headers: { 'Retry-After': retryAfter } });
export const leadsTo =
  (location: string, status = 307): Mood =>
  () =>
    new Response(null, { status, headers: { Location: location } });
/** Sends an answer that never ends. */
export const endless: Mood = () => {
  const piece = new Uint8Array(65_536).fill(32);
  const pull = async (controller: ReadableStreamDefaultController) => {
    controller.enqueue(piece);
    await Bun.sleep(5);
  };
  return new Response(new ReadableStream({ pull }));
};

const [TOKEN, KEY] = ['0a1b2c3d4e5f67890a1b2c3d4e5f6789', '693a91f6-7abc-4bc4-97a0-0ec2sifa5aaa'];
const [SECRET, HOOK, TOPIC, PASSWORD] = [
  'SECthisissecret',
  'c0ffee00-1234-4321-aaaa-0123456789ab',
  'alarmtopic77',
  'tk_secret99',
];
const SLACK = 'T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX';
/** All that may be seen by nobody but the services. */
export const SECRETS = [TOKEN, KEY, SECRET, HOOK, TOPIC, PASSWORD, SLACK, 'XXXXXXXXXXXXXXXXXXXXXXXX', 'plainsecret42'];

const HOUR_MS = 3_600_000;
const sign = (key: string, text: string) => createHmac('sha256', key).update(text).digest('base64');

type Handler = (
  url: URL,
  body: Record<string, never>,
  headers: Headers,
) => Response | { text: string; answer: Response };

const HANDLERS: Record<string, Handler> = {
  dingtalk: ({ searchParams }, body) => {
    const [timestamp, given] = [searchParams.get('timestamp'), searchParams.get('sign')];
    if (searchParams.get('access_token') !== TOKEN)
      return Response.json({ errcode: 300005, errmsg: 'token is not exist' });
    const isNow = Math.abs(Date.now() - Number(timestamp)) < HOUR_MS;
    if (!isNow || given !== sign(SECRET, `${timestamp}\n${SECRET}`) || searchParams.has('secret'))
      return Response.json({ errcode: 310000, errmsg: 'sign not match, more: [https://ding-doc.dingtalk.com/doc]' });
    const { msgtype, text } = body as { msgtype?: string; text?: { content?: string } };
    if (msgtype !== 'text' || !text?.content) return Response.json({ errcode: 40035, errmsg: 'param error' });
    return { text: text.content, answer: Response.json({ errcode: 0, errmsg: 'ok' }) };
  },
  feishu: ({ pathname, searchParams }, body) => {
    if (!pathname.endsWith(`/${HOOK}`) || searchParams.has('secret'))
      return Response.json({ code: 19001, msg: 'param invalid: incoming webhook access token invalid' });
    const { timestamp, sign: given, msg_type, content } = body as Record<string, unknown>;
    const isNow = /^\d{10}$/.test(String(timestamp)) && Math.abs(Date.now() - 1000 * Number(timestamp)) < HOUR_MS;
    if (!isNow || given !== sign(`${timestamp}\n${SECRET}`, ''))
      return Response.json({
        code: 19021,
        msg: 'sign match fail or timestamp is not within one hour from current time',
      });
    const { text } = Object(content);
    if (msg_type !== 'text' || !text) return Response.json({ code: 9499, msg: 'Bad Request', data: {} });
    return {
      text,
      answer: Response.json({ StatusCode: 0, StatusMessage: 'success', code: 0, data: {}, msg: 'success' }),
    };
  },
  wecom: ({ searchParams }, body) => {
    if (searchParams.get('key') !== KEY)
      return Response.json({
        errcode: 93000,
        errmsg: `invalid webhook url, hint: [1], key ${searchParams.get('key')}`,
      });
    const { msgtype, text } = body as { msgtype?: string; text?: { content?: string } };
    if (msgtype !== 'text' || !text?.content) return Response.json({ errcode: 40008, errmsg: 'invalid message type' });
    if (Buffer.byteLength(text.content) > 2048)
      return Response.json({ errcode: 40058, errmsg: 'text.content exceed max length 2048' });
    return { text: text.content, answer: Response.json({ errcode: 0, errmsg: 'ok' }) };
  },
  ntfy: ({ pathname }, body, headers) => {
    const { topic, title, message, priority, tags } = body as Record<string, unknown>;
    const link = 'https://ntfy.sh/docs/publish/';
    if (headers.get('authorization') !== `Basic ${btoa(`:${PASSWORD}`)}` || topic !== TOPIC)
      return Response.json({ code: 40301, http: 403, error: 'forbidden', link }, { status: 403 });
    const isJson = pathname === '/ntfy/' && typeof message === 'string' && Number(priority) <= 5 && Array.isArray(tags);
    if (!isJson)
      return Response.json(
        { code: 40024, http: 400, error: 'invalid request: body must be message JSON' },
        { status: 400 },
      );
    return {
      text: `${title}\n${message}`,
      answer: Response.json({ id: 'hwQ2YpKdmg', event: 'message', topic, title, message }),
    };
  },
  slack: ({ pathname }, body) => {
    const { text } = body as { text?: string };
    if (!pathname.endsWith(SLACK)) return new Response('no_service', { status: 404 });
    if (!text || /<|&(?!amp;|lt;|gt;)/.test(text)) return new Response('invalid_payload', { status: 400 });
    const shown = text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
    return { text: shown, answer: new Response('ok') };
  },
  json: (_, body) => ({ text: String((body as { text?: string }).text), answer: new Response(null, { status: 204 }) }),
};

/** All of the services at a port of their own: `await using services = new Services()`. */
export class Services implements AsyncDisposable {
  readonly taken: Taken[] = [];
  /** How many requests each has got, with those that it refused. */
  readonly asked: Record<string, number> = {};
  readonly moods: Record<string, Mood | undefined> = {};
  private readonly server;

  constructor(tls?: { key: string; cert: string }) {
    const fetch = (request: Request) => this.answer(request);
    this.server = Bun.serve({ port: 0, hostname: '127.0.0.1', idleTimeout: 60, fetch, ...(tls ? { tls } : {}) });
  }

  get origin(): string {
    return this.server.url.origin;
  }

  /** The URLs as they go into NOTIFY_URL, by form. */
  get urls(): Record<string, string> {
    const { origin } = this;
    return {
      dingtalk: `dingtalk+${origin}/dingtalk/robot/send?access_token=${TOKEN}&secret=${SECRET}`,
      feishu: `feishu+${origin}/feishu/open-apis/bot/v2/hook/${HOOK}?secret=${SECRET}`,
      wecom: `wecom+${origin}/wecom/cgi-bin/webhook/send?key=${KEY}`,
      ntfy: `ntfy+${origin.replace('//', `//:${PASSWORD}@`)}/ntfy/${TOPIC}`,
      slack: `slack+${origin}/slack/services/${SLACK}`,
      json: `${origin}/json/plainsecret42`,
    };
  }

  private async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    const [, form = ''] = url.pathname.split('/');
    this.asked[form] = (this.asked[form] ?? 0) + 1;
    const mood = this.moods[form];
    if (mood) return mood(request);
    if (form === 'heartbeat')
      return new Response(request.method === 'GET' ? 'OK' : 'no', { status: request.method === 'GET' ? 200 : 405 });
    const handler = HANDLERS[form];
    if (!handler || request.method !== 'POST') return new Response('404 page not found', { status: 404 });
    const body = (await request.json()) as Record<string, never>;
    const { headers } = request;
    const result = handler(url, body, headers);
    if (result instanceof Response) return result;
    this.taken.push({ form, text: result.text, body, path: url.pathname + url.search, headers, time: Date.now() });
    return result.answer;
  }

  /** Waits until a service has taken a report of which this is true. */
  takes(form: string, check: (report: Taken) => boolean = () => true, ms?: number): Promise<Taken> {
    return eventually(() => this.taken.find((report) => report.form === form && check(report)), ms);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop(true);
  }
}
