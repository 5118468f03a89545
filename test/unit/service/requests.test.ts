import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Heartbeat } from '../../../src/service/heartbeat.ts';
import { describeReply, type Reply, type Request, send, waitOf } from '../../../src/service/requests.ts';
import { Failure } from '../../../src/service/text.ts';
import { endless, hangs, leadsTo, Services } from '../../services.ts';
import { keepLog, settle } from '../mirror/stand-ins.ts';
import { scratch } from './scratch.ts';

const TOKEN = 'plainsecret42';
let services: Services;
beforeAll(() => {
  services = new Services();
});
afterAll(() => services[Symbol.asyncDispose]());

const urlOf = (origin: string) => new URL(`${origin}/json/${TOKEN}?key=${TOKEN}`);
const post = (origin: string, patience = 5000) => send({ url: urlOf(origin), method: 'POST', body: '{}' }, patience);
/** Why there is no answer. */
const failure = (origin: string, patience?: number): Promise<Failure> =>
  post(origin, patience).then(String, (cause) => cause) as never;

/** A server that says this to whoever connects, and where it is. */
async function saying(say: (socket: Socket) => void): Promise<{ origin: string; server: Server } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket.on('error', () => {}));
    socket.once('data', () => say(socket));
  }).listen(0, '127.0.0.1');
  await new Promise((listening) => server.once('listening', listening));
  const { port } = server.address() as { port: number };
  const end = async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { origin: `http://127.0.0.1:${port}`, server, [Symbol.asyncDispose]: end };
}

describe('a request', () => {
  test('takes no longer than it may, whether nothing is answered or an answer has no end', async () => {
    services.moods.json = hangs;
    expect(await failure(services.origin, 500)).toEqual(new Failure('0.5 秒内没有完整的应答'));
    services.moods.json = endless;
    expect(await post(services.origin, 20_000)).toEqual({ status: 200, body: ' '.repeat(65_536) });
    services.moods.json = undefined;
  });

  test('takes no longer where a line comes now and then, or heads without end', async () => {
    await using slow = await saying((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n');
      setInterval(() => socket.write('x'), 50).unref();
    });
    expect(await failure(slow.origin, 500)).toEqual(new Failure('0.5 秒内没有完整的应答'));
    await using heads = await saying((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      for (let n = 0; n < 100; n++) socket.write(`X-${n}: ${'x'.repeat(10_000)}\r\n`);
    });
    const { message } = await failure(heads.origin, 500);
    expect(message).toMatch(/^(无法发送 \(\w+\)|0\.5 秒内没有完整的应答)$/);
    expect(message).not.toContain(TOKEN);
  });

  test('says why nothing came back, and nothing of the URL', async () => {
    await using closing = await saying((socket) => socket.destroy());
    expect((await failure(closing.origin)).message).toMatch(/^连接被中断 \(\w+\)$/);
    expect((await failure('http://127.0.0.1:1')).message).toMatch(/^连接被拒绝 \(ECONNREFUSED\)$/);
    expect((await failure('http://no-such-host.invalid')).message).toMatch(/^找不到主机 \(\w+\)/);
  });

  test('goes to nobody whose certificate is unknown, unless NODE_EXTRA_CA_CERTS has it', async () => {
    using directory = scratch();
    const [key, cert] = [join(directory.path, 'key.pem'), join(directory.path, 'cert.pem')];
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'];
    spawnSync('openssl', [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '2',
      ...subject,
    ]);
    await using secure = new Services({ key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') });
    const { message } = await failure(secure.origin);
    expect(message).toMatch(/^无法验证它的证书 \(\w+\)；自建服务的证书可由 NODE_EXTRA_CA_CERTS 指明$/);
    expect(secure.asked).toEqual({});
    const script = `const { send } = await import('./src/service/requests.ts');
      console.log((await send({ url: new URL('${secure.origin}/json/x'), method: 'POST', body: '{}' })).status); process.exit()`;
    const trusting = Bun.spawn([process.execPath, '-e', script], {
      env: { ...process.env, NODE_EXTRA_CA_CERTS: cert },
    });
    expect(await new Response(trusting.stdout).text()).toBe('204\n');
  });

  test.each([301, 302, 307, 308])(
    'follows no redirect of status %d, so that no other host gets the token',
    async (status) => {
      let hits = 0;
      const other = createServer((_, response) => {
        hits++;
        response.end('ok');
      }).listen(0, '127.0.0.1');
      await new Promise((listening) => other.once('listening', listening));
      const { port } = other.address() as { port: number };
      services.moods.json = leadsTo(`http://127.0.0.1:${port}/json/${TOKEN}`, status);
      const reply = await post(services.origin);
      services.moods.json = undefined;
      other.close();
      expect(hits).toBe(0);
      expect(reply).toMatchObject({ status, redirect: `http://127.0.0.1:${port}` });
      expect(describeReply(urlOf(services.origin), reply)).not.toContain(TOKEN);
    },
  );

  test('is to be sent again when the other side says so, but within an hour', () => {
    const now = Date.parse('2026-11-29T04:00:00Z');
    expect(waitOf('120', now)).toEqual({ wait: 120_000 });
    expect(waitOf('Sun, 29 Nov 2026 04:05:00 GMT', now)).toEqual({ wait: 300_000 });
    expect(waitOf('99999999', now)).toEqual({ wait: 3_600_000 });
    for (const nothing of [null, '', '0', 'soon', '-5', 'Sun, 29 Nov 2026 03:00:00 GMT'])
      expect(waitOf(nothing, now)).toEqual({});
  });
});

describe('a heartbeat', () => {
  /** One on a clock of its own, whose service answers this. */
  function beating(answer: () => Reply | Promise<Reply> = () => ({ status: 200, body: 'OK' })) {
    const asked: { time: number; request: Request }[] = [];
    let time = 0;
    const ask = async (request: Request) => {
      asked.push({ time, request });
      return answer();
    };
    const heartbeat = new Heartbeat(new URL(`https://phil:pass@hc-ping.com/${TOKEN}`), ask, () => time);
    /** Has so many seconds pass, in which it is looked every 10 s. */
    const pass = async (seconds: number, isHealthy: boolean) => {
      for (let n = 0; n < seconds; n += 10) {
        heartbeat.observe(isHealthy);
        await settle();
        time += 10_000;
      }
    };
    return { asked, pass };
  }

  test('comes once a minute while all is well, and at once when it is well again', async () => {
    const { asked, pass } = beating();
    await pass(300, true);
    expect(asked.map(({ time }) => time / 1000)).toEqual([0, 60, 120, 180, 240]);
    expect(asked[0]?.request).toEqual({
      url: new URL(`https://hc-ping.com/${TOKEN}`),
      headers: { Authorization: `Basic ${btoa('phil:pass')}` },
      method: 'GET',
    });
    await pass(300, false);
    expect(asked).toHaveLength(5);
    await pass(70, true);
    expect(asked.map(({ time }) => time / 1000).slice(5)).toEqual([600, 660]);
  });

  test('that is not answered is told once, without what is secret, and when it is answered again', async () => {
    using log = keepLog();
    let reply: Reply = { status: 404, body: `no check ${TOKEN}` };
    const { asked, pass } = beating(() => reply);
    await pass(180, true);
    expect(log.text.match(/WARN.*/g)).toEqual([
      expect.stringMatching(/无法请求 HEARTBEAT_URL \(hc-ping\.com\)：HTTP 404 no check \*\*\*。每分钟重试$/),
    ]);
    reply = { status: 200, body: '' };
    await pass(120, true);
    expect(log.text).toContain('HEARTBEAT_URL 恢复应答');
    expect(log.text).not.toContain(TOKEN);
    expect(asked).toHaveLength(5);
  });

  test('that hangs is the only one that hangs', async () => {
    const { asked, pass } = beating(() => new Promise(() => {}));
    await pass(300, true);
    expect(asked).toHaveLength(1);
  });
});
