import { afterEach, describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Publisher } from '../../../src/service/status.ts';
import { headersFor, isOwnHost, type Site, serveSite } from '../../../src/service/web.ts';
import { eventually } from '../../processes.ts';

const PAGE = '<style>a</style><script>b</script>';
const publisher = new Publisher(() => ({ state: 'fine' }));
publisher.publish();

const open: { server?: Server; sockets: Socket[] } = { sockets: [] };
afterEach(() => {
  for (const socket of open.sockets.splice(0)) socket.destroy();
  open.server?.close();
});

/** Serves a page, what is followed, and pages of a test's own; returns the port. */
async function served(pages: Site['pages'] = {}): Promise<number> {
  open.server = serveSite({
    port: 0,
    address: '127.0.0.1',
    hosts: ['status.example.org'],
    variable: 'NAMES',
    headers: headersFor(PAGE),
    pages: { '/': ({ send }) => send(200, 'html', PAGE), '/events': ({ follow }) => follow(publisher), ...pages },
  });
  await once(open.server, 'listening');
  return (open.server.address() as AddressInfo).port;
}

/** Opens a connection, sends a text, and keeps what comes. */
async function sent(port: number, text: string) {
  const connection = { socket: connect(port, '127.0.0.1').on('error', () => {}), text: '', isOver: false };
  open.sockets.push(connection.socket);
  connection.socket.setEncoding('utf8').on('data', (data: string) => (connection.text += data));
  connection.socket.once('close', () => (connection.isOver = true));
  await once(connection.socket, 'connect');
  connection.socket.write(text);
  return connection;
}

/** Sends a request and waits for the end of the answer. */
async function asked(port: number, text: string): Promise<string> {
  const connection = await sent(port, text);
  await eventually(() => connection.isOver, 5000);
  return connection.text;
}

const get = (path: string, ...headers: string[]) => [`GET ${path} HTTP/1.1`, ...headers, '', ''].join('\r\n');
const GET = get('/', 'Host: localhost');

describe('a Host', () => {
  test.each([
    '127.0.0.1',
    '10.0.5.10:9873',
    '127.0.0.1.:80',
    '[::1]',
    '[::1]:9873',
    '[fe80::1%eth0]:9873',
    '[fe80::1%25eth0]',
    '[::ffff:127.0.0.1]',
    'localhost',
    'LocalHost:9873',
    'localhost.',
    'localhost:',
    'web1.example.net',
    'WEB1.example.net.:9873',
    'web1',
    'status.example.org',
    'Status.Example.ORG.:443',
  ])('%j is answered', (host) => {
    expect(isOwnHost(host, ['status.example.org'], 'Web1.example.net')).toBe(true);
  });

  test.each([
    '',
    ':80',
    '.',
    'evil.example',
    'localhost.evil.example',
    'evil.localhost',
    'web1.evil.example',
    'web1.example',
    'sub.status.example.org',
    'xstatus.example.org',
    '127.0.0.1.evil.example',
    '127.0.0.1@evil.example',
    'evil.example@127.0.0.1',
    'user@localhost',
    'localhost evil.example',
    'localhost,evil.example',
    'localhost/evil.example',
    'localhost..',
    'localhost:80:80',
    'localhost:x',
    'localhost\tevil',
    '[evil.example]',
    '[localhost]',
    '[127.0.0.1]',
    '[::1]evil.example',
    '::1',
    '127.1',
    '0x7f.1',
    '2130706433',
    'xn--lcalhost-55b',
    'löcalhost',
  ])('%j is not', (host) => {
    expect(isOwnHost(host, ['status.example.org'], 'Web1.example.net')).toBe(false);
  });

  test('is never that of a machine without a name', () => {
    expect(isOwnHost('', [], '')).toBe(false);
    expect(isOwnHost('.', [], '.')).toBe(false);
  });
});

describe('a request', () => {
  test.each<[string, string, number]>([
    ['for an address', get('/', 'Host: 127.0.0.1'), 200],
    ['for a name that is set', get('/?x', 'Host: status.example.org:443'), 200],
    ['of HTTP/1.0 without a Host', 'GET / HTTP/1.0\r\n\r\n', 200],
    ['of HTTP/1.0 for another name', 'GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n', 421],
    ['of HTTP/1.1 without a Host', get('/'), 400],
    ['for another name', get('/', 'Host: evil.example'), 421],
    ['for another name and path', get('/events', 'Host: evil.example'), 421],
    ['for another name and no path of ours', get('/no', 'Host: evil.example'), 421],
    ['for another name, by POST', 'POST / HTTP/1.1\r\nHost: evil.example\r\n\r\n', 421],
    ['for an empty name', get('/', 'Host:'), 421],
    ['for two names', get('/', 'Host: localhost', 'Host: evil.example'), 400],
    ['for a name with a space', get('/', 'Host: localhost evil'), 421],
    ['that was forwarded under a good name', get('/', 'Host: evil.example', 'X-Forwarded-Host: localhost'), 421],
    ['of a proxy', get('http://evil.example/', 'Host: localhost'), 404],
    ['for what every object has', get('/constructor', 'Host: localhost'), 404],
    [
      'of a page of another site',
      get('/', 'Host: localhost', 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors'),
      403,
    ],
    ['of a page on another port', get('/events', 'Host: localhost', 'Sec-Fetch-Site: same-site'), 403],
    ['that goes here', get('/', 'Host: localhost', 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate'), 200],
    ['of the page itself', get('/', 'Host: localhost', 'Sec-Fetch-Site: same-origin'), 200],
    ['that somebody typed', get('/', 'Host: localhost', 'Sec-Fetch-Site: none', 'Sec-Fetch-Mode: navigate'), 200],
    ['by POST', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello', 405],
    ['to become something else', get('/', 'Host: localhost', 'Connection: Upgrade', 'Upgrade: websocket'), 200],
    ['that never ends', `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(100_000)}`, 431],
    ['of a path that never ends', `GET /${'x'.repeat(100_000)}`, 431],
    ['that is none', '\x16\x03\x01\r\n\r\n', 400],
  ])('%s has its answer, and the connection ends', async (_, text, status) => {
    const answer = await asked(await served(), text);
    expect(answer).toStartWith(`HTTP/1.1 ${status} `);
    expect(answer.includes(PAGE)).toBe(status === 200);
    expect(answer.match(/^access-control-/im)).toBeNull();
  });

  test.each([
    [200, GET],
    [404, get('/no', 'Host: localhost')],
    [405, 'POST / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    [421, get('/', 'Host: evil.example')],
    [403, get('/', 'Host: localhost', 'Sec-Fetch-Site: cross-site')],
  ])('comes with all headers under %d', async (status, text) => {
    const answer = await asked(await served(), text);
    expect(answer).toStartWith(`HTTP/1.1 ${status} `);
    for (const [name, value] of Object.entries(headersFor(PAGE))) expect(answer).toContain(`\r\n${name}: ${value}\r\n`);
    expect(/^Allow: GET\r$/m.test(answer)).toBe(status === 405);
  });

  test('for another name is told what to do, with little of the name and nothing that controls a terminal', async () => {
    const answer = await asked(await served(), get('/', `Host: <b>\u202e${'e'.repeat(5000)}`));
    expect(answer).toContain('NAMES');
    expect(answer).toContain('text/plain');
    expect(answer).toContain('"<b>');
    expect(answer).not.toMatch(/e{101}|[\x80-\x9f\u202e]/);
  });

  test('is the only one of its connection: thousands at once are not answered', async () => {
    let count = 0;
    const port = await served({
      '/counted': async ({ send }) => {
        count++;
        await Bun.sleep(10);
        send(200, 'plain', 'x');
      },
    });
    await asked(port, get('/counted', 'Host: localhost').repeat(3000));
    expect(count).toBe(1);
  });

  test('for a page that fails ends, and others are answered', async () => {
    const fail = () => Promise.reject(new Error('broken'));
    const port = await served({ '/broken': fail });
    expect(await asked(port, get('/broken', 'Host: localhost'))).toBe('');
    expect(await asked(port, GET)).toContain(PAGE);
  });
});

describe('whoever holds connections open', () => {
  const LARGE = 'x'.repeat(4_000_000); // more than the kernel takes
  test.each<[string, string, number?]>([
    ['says nothing', ''],
    ['sends slowly', 'GET / HTTP/1.1\r\nHo'],
    ['sends a body that never comes', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n'],
    ['reads nothing of a large answer', get('/large', 'Host: localhost'), 110],
    ['waits for an answer that takes long', get('/slow', 'Host: localhost')],
    ['follows', get('/events', 'Host: localhost')],
  ])('and %s keeps nobody out', async (_, text, count = 400) => {
    const port = await served({
      '/large': ({ send }) => send(200, 'plain', LARGE),
      '/slow': () => new Promise<void>(() => {}),
    });
    const held = await Promise.all(Array.from({ length: count }, () => sent(port, text)));
    for (const { socket } of held) socket.pause();
    expect(await asked(port, GET)).toContain(PAGE); // at the first try: it would be reset where there is no place for it
    const follower = await sent(port, get('/events', 'Host: localhost'));
    await eventually(() => follower.text.includes('{"state":"fine"}'));
    const { promise, resolve } = Promise.withResolvers<number>();
    open.server?.getConnections((_error, number) => resolve(number));
    expect(await promise).toBeLessThanOrEqual(152);
  });

  test('a follower is not taken for one that says nothing, and the oldest of many gives way', async () => {
    const port = await served();
    const followers: Awaited<ReturnType<typeof sent>>[] = [];
    for (let n = 0; n < 50; n++) followers.push(await sent(port, get('/events', 'Host: localhost')));
    await eventually(() => followers.every(({ text }) => text.includes('fine')));
    for (let n = 0; n < 200; n++) await sent(port, 'GET');
    await asked(port, GET);
    expect(followers.filter(({ isOver }) => isOver)).toEqual([]);
    followers.push(await sent(port, get('/events', 'Host: localhost')));
    await eventually(() => followers.at(-1)?.text.includes('fine'));
    await eventually(() => followers[0]?.isOver);
    expect(followers.filter(({ isOver }) => isOver)).toHaveLength(1);
  });
});
