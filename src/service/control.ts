/**
 * Commands for a running service, over a socket that only its user may enter: one request a connection, one line of JSON each way.
 *
 *   await serve(socketOf(config.STATUS_FILE), { pause: async () => ({ isDone: true, text: '…' }) });
 *   const { isDone, text } = await ask(socketOf(path), { command: 'pause' });
 */
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { escapeText, Failure, reasonOf } from './text.ts';

/** How long a request or a reply may be, bytes. */
const MAX_BYTES = 65_536;
/** How much of a reply is passed on at most, so that it fits in any case, characters. */
const MAX_TEXT = 10_000;
/** How long the other side may take to send its line, unless a command is known to take longer, ms. */
const PATIENCE_MS = 5000;
/** How many may ask at a time. */
const MAX_CONNECTIONS = 16;

/** What a service is asked for. Other fields are for the command. */
export interface Request {
  command: string;
  [field: string]: unknown;
}

/** Whether it was done, and what is to be said to people. */
export interface Reply {
  isDone: boolean;
  text: string;
}

/** Does what it is asked for. `gone` is aborted when nobody waits for the reply any more. */
export type Command = (request: Request, gone: AbortSignal) => Promise<Reply>;

/** Names the socket of the service that has this STATUS_FILE. */
export const socketOf = (statusFile: string) => `${statusFile}.sock`;

/** Opens a directory in which sockets can be named however long its path is: an address has room for 107 bytes (unix(7)). */
function openPlace(directory: string) {
  const O_PATH = 0o10000000;
  const place = openSync(directory, O_PATH | constants.O_DIRECTORY);
  return { name: (entry: string) => `/proc/self/fd/${place}/${entry}`, [Symbol.dispose]: () => closeSync(place) };
}

/**
 * Obeys commands on a socket, which takes the place of one that a killed service has left. Nobody but the user can enter it at any
 * time: it is made in a directory of its own.
 * @returns what ends it
 * @throws where that is not possible
 */
export async function serve(path: string, commands: Record<string, Command>): Promise<() => void> {
  const [directory, entry] = [dirname(path), basename(path)];
  mkdirSync(directory, { recursive: true });
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() === false) throw new Error('不是套接字');
  const workshop = mkdtempSync(join(directory, `.${entry}-`));
  const place = openPlace(workshop); // stays open: at its end the server removes what it has made by that name
  try {
    const server = createServer((socket) => void answer(socket, commands));
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(place.name(entry));
    await once(server, 'listening');
    chmodSync(join(workshop, entry), 0o600);
    renameSync(join(workshop, entry), path);
    const { ino } = lstatSync(path);
    return () => close(server, place, () => lstatSync(path, { throwIfNoEntry: false })?.ino === ino && rmSync(path));
  } catch (cause) {
    place[Symbol.dispose]();
    throw cause;
  } finally {
    rmSync(workshop, { recursive: true, force: true });
  }
}

function close(server: Server, place: Disposable, remove: () => unknown): void {
  remove();
  server.close(() => place[Symbol.dispose]());
}

/** Takes a request and sends what comes of it. */
async function answer(socket: Socket, commands: Record<string, Command>): Promise<void> {
  const gone = new AbortController();
  socket.on('error', () => {}).once('close', () => gone.abort());
  const reply = await obey(socket, commands, gone.signal).catch((cause) => ({ isDone: false, text: reasonOf(cause) }));
  socket.end(`${JSON.stringify({ ...reply, text: reply.text.slice(0, MAX_TEXT) })}\n`);
  await sleep(PATIENCE_MS, undefined, { signal: gone.signal, ref: false }).catch(() => {});
  socket.destroy(); // whoever does not read it has had time to
}

async function obey(socket: Socket, commands: Record<string, Command>, gone: AbortSignal): Promise<Reply> {
  const request = JSON.parse(await readLine(socket, PATIENCE_MS));
  const name = String(request?.command);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new Failure(`正在运行的服务不支持命令 ${escapeText(name)}`);
  return command(request, gone);
}

/** Reads a line. @throws where it is too long, or does not come in time, ms */
function readLine(socket: Socket, ms: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('超时')), ms);
  let line = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    line += chunk;
    const end = line.indexOf('\n');
    if (Buffer.byteLength(line) > MAX_BYTES) reject(new Error(`超过 ${MAX_BYTES} 字节`));
    else if (end >= 0) resolve(line.slice(0, end));
  });
  for (const event of ['end', 'close']) socket.once(event, () => reject(new Error('连接已中断')));
  return promise.finally(() => {
    clearTimeout(timer);
    socket.removeAllListeners('data').resume(); // nothing more is kept
  });
}

/**
 * Asks a running service.
 * @param ms how long the command may take
 * @throws {Failure} where none runs, or it does not answer
 */
export async function ask(path: string, request: Request, ms = PATIENCE_MS): Promise<Reply> {
  let socket: Socket | undefined;
  try {
    using place = openPlace(dirname(path));
    socket = connect({ path: place.name(basename(path)) }).on('error', () => {});
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) });
    socket.write(`${JSON.stringify(request)}\n`);
    const { isDone, text } = JSON.parse(await readLine(socket, ms));
    return { isDone: isDone === true, text: String(text) };
  } catch (cause) {
    throw new Failure(`${explain(cause)} (${escapeText(path)}：${reasonOf(cause)})`);
  } finally {
    socket?.destroy();
  }
}

function explain(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].includes(code)) return '服务没有运行，或 STATUS_FILE 不同';
  if (['EACCES', 'EPERM'].includes(code)) return '无权控制服务，请以运行服务的用户执行';
  return '服务没有应答';
}
