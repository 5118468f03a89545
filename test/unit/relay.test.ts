/** The line that the bench and the tests put between a source and its backup. */
import { expect, test } from 'bun:test';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { Relay } from '../../bench/relay.ts';

/** Sends all back. */
async function echoServer() {
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]: () => {
      server.close();
    },
  };
}

/** What comes back until the end. */
async function echoOf(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  socket.end(bytes);
  await once(socket, 'end');
  return Buffer.concat(pieces);
}

const bytesOf = (length: number) => crypto.getRandomValues(Buffer.alloc(length));

test('a line passes on what it is given, and the end of it, and takes its time', async () => {
  using server = await echoServer();
  await using relay = await Relay.to(server.port, { delayMs: 40 });
  const bytes = bytesOf(60_000);
  const started = performance.now();
  expect(await echoOf(relay.port, bytes)).toEqual(bytes);
  expect(performance.now() - started).toBeGreaterThanOrEqual(79);
});

test('connections share what a line carries, and a short one need not wait for a long one', async () => {
  using server = await echoServer();
  await using relay = await Relay.to(server.port, { delayMs: 0, bytesPerSecond: 1_000_000 });
  const bytes = bytesOf(600_000);
  const started = performance.now();
  const ends: string[] = [];
  const long = echoOf(relay.port, bytes).finally(() => ends.push('long'));
  const short = echoOf(relay.port, bytesOf(1000)).finally(() => ends.push('short'));
  expect(await long).toEqual(bytes);
  expect(performance.now() - started).toBeGreaterThanOrEqual(570); // but for a timer that may be late
  await short;
  expect(ends).toEqual(['short', 'long']);
});
