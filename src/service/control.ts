/**
 * Commands for a running service, over a socket that only its user may enter: one request a connection, one line of JSON each way.
 *
 *   await serveAlone(config.STATUS_FILE, { pause: async () => ({ isDone: true, text: '…' }) });
 *   const { isDone, text } = await ask(socketOf(path), { command: 'pause' });
 */
import { once } from 'node:events';
import { chmodSync, lstatSync, mkdtempSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { lstat, mkdir, rm } from 'node:fs/promises';
import type { Server, Socket } from 'node:net'; // which is loaded where it is used: sessions of sshd do without it
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { holdDirectory } from './files.ts';
import { findPlace, isTrusted, makePlace } from './foreign.ts';
import { lifecycle } from './lifecycle.ts';
import { warn } from './log.ts';
import { showNow } from './status.ts';
import { escapeText, Failure, reasonOf, t } from './text.ts';

/** How long a request or a reply may be, bytes. */
const MAX_BYTES = 65_536;
/** How much of a reply is passed on at most, so that it fits in any case, characters. */
const MAX_TEXT = 10_000;
/** How long the other side may take to send its line, unless a command is known to take longer, ms. */
const PATIENCE_MS = 5000;
/** How many may ask at a time. */
const MAX_CONNECTIONS = 64;
/** How long another service may take to end, ms: a container that is made anew may still be ending, and a service takes 8 s at most. */
const GRACE_MS = 10_000;
/** How often it is looked whether it has, ms. */
const POLL_MS = 200;
/** How long the disk may take to answer, ms. */
const HANG_MS = 1000;

/** What a service is asked for. Other fields are for the command. */
export interface Request {
  command: string;
  [field: string]: unknown;
}

/** Whether it was done, and what is to be said to people. */
export interface Reply {
  isDone: boolean;
  text: string;
  /** Whether it was not, because it was asked for in a wrong way. */
  isMistaken?: boolean;
}

/** What a program prints of a reply, and the status that it ends with. */
export const answerOf = ({ isDone, isMistaken, text }: Reply) => ({
  text: `${text}\n`,
  status: isDone ? 0 : isMistaken ? 2 : 1,
});

/** Does what it is asked for. `gone` is aborted when nobody waits for the reply any more. */
export type Command = (request: Request, gone: AbortSignal) => Promise<Reply>;

/** Names the socket of the service that has this STATUS_FILE. */
export const socketOf = (statusFile: string) => `${statusFile}.sock`;

/**
 * Obeys commands on a socket, which takes the place of one that a killed service has left. Nobody but the user can enter it at any
 * time: it is made in a directory of its own.
 * @returns what ends it
 * @throws where that is not possible
 */
export async function serve(path: string, commands: Record<string, Command>): Promise<() => Promise<void>> {
  const entry = basename(path);
  await using place = await makePlace(path); // by which sockets can be named however long its path is: an address has 107 bytes (unix(7))
  if (lstatSync(place.at(entry), { throwIfNoEntry: false })?.isSocket() === false) throw new Error(t`不是套接字`);
  const name = mkdtempSync(place.at(`.${entry}-`));
  const workshop = holdDirectory(name); // for longer: at its end the server removes what it has made by that name
  try {
    const { createServer } = await import('node:net');
    const server = createServer((socket) => void answer(socket, commands));
    server.maxConnections = MAX_CONNECTIONS;
    server.listen(workshop.at(entry));
    await once(server, 'listening');
    chmodSync(workshop.at(entry), 0o600);
    renameSync(workshop.at(entry), place.at(entry));
    const { ino } = lstatSync(place.at(entry));
    return () => close(server, workshop, path, ino);
  } catch (cause) {
    rmSync(workshop.at(entry), { force: true });
    workshop[Symbol.dispose]();
    throw cause;
  } finally {
    if (lstatSync(name, { throwIfNoEntry: false })?.isDirectory()) rmdirSync(name);
  }
}

/** Ends a server; its socket is removed where it is still its own. Where the disk hangs, this does, and nothing else. */
async function close(server: Server, workshop: Disposable, path: string, inode: number): Promise<void> {
  server.close(() => workshop[Symbol.dispose]());
  const found = await lstat(path).catch(() => undefined);
  if (found?.ino === inode) await rm(path, { force: true });
}

/**
 * Obeys commands as the one service that has this STATUS_FILE; two would take each other's state for their own. Another one that
 * lives is waited for: it may be ending.
 * @param ms how long
 * @returns what ends it; nothing is served where we are to end meanwhile
 * @throws {Failure} where it does not end, or has come at the same moment
 * @throws where no socket can be made
 */
export async function serveAlone(
  statusFile: string,
  commands: Record<string, Command>,
  ms = GRACE_MS,
): Promise<() => Promise<void>> {
  const path = socketOf(statusFile);
  const isReady = await Promise.race([mkdir(dirname(path), { recursive: true }).then(() => true), sleep(HANG_MS)]);
  if (!isReady) throw new Error(t`磁盘没有应答`);
  const deadline = performance.now() + ms;
  for (let isTold = false; (await isServed(path)) && !lifecycle.stopping; isTold = true) {
    if (performance.now() > deadline) throw taken(statusFile);
    if (!isTold) warn('service.waiting', t`另一个服务使用同一个 STATUS_FILE=${escapeText(statusFile)}，等待它结束...`);
    await lifecycle.pause(POLL_MS);
  }
  if (lifecycle.stopping) return async () => {};
  const end = await serve(path, commands);
  lifecycle.background(failIfReplaced(statusFile, lstatSync(path).ino));
  return end;
}

/** Ends the program where another one has taken the same place at the same moment. @throws {Failure} */
async function failIfReplaced(statusFile: string, inode: number): Promise<void> {
  const path = socketOf(statusFile);
  await lifecycle.pause(5 * POLL_MS);
  const isReplaced = lstatSync(path, { throwIfNoEntry: false })?.ino !== inode;
  if (isReplaced && !lifecycle.stopping && (await isServed(path))) throw taken(statusFile);
}

function taken(statusFile: string): Failure {
  const what = t`另一个服务正在运行，并使用同一个 STATUS_FILE=${escapeText(statusFile)}`;
  return new Failure(t`${what}。请先停止它；若两个服务各有用处，请为每个服务设置各自的 STATUS_FILE`);
}

/** Whether a service of ours listens on a socket; one that has been killed has left it behind, and other users keep us from nothing. */
export async function isServed(path: string): Promise<boolean> {
  try {
    if (!isTrusted((await lstat(path)).uid)) return false;
    (await enter(path)).destroy();
    return true;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === 'EAGAIN'; // more ask than it takes
  }
}

/** Connects to a socket. @throws where nobody listens on it, or somebody who may only have put it there */
async function enter(path: string): Promise<Socket> {
  const { connect } = await import('node:net');
  await using place = await findPlace(path);
  const [name, { uid: owner }] = [place.at(basename(path)), place.directory];
  const { uid } = await lstat(name);
  if (!isTrusted(uid) && uid !== owner) throw new Error(t`套接字属于用户 ${uid}，不是服务的`);
  const socket = connect({ path: name }).on('error', () => {});
  await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) });
  return socket;
}

/** Takes a request and sends what comes of it. */
async function answer(socket: Socket, commands: Record<string, Command>): Promise<void> {
  const gone = new AbortController();
  socket.on('error', () => {}).once('close', () => gone.abort());
  const reply = await obey(socket, commands, gone.signal).catch(describeFailure);
  await showNow(); // what was done is seen by whoever looks once he has the reply
  socket.end(`${JSON.stringify({ ...reply, text: reply.text.slice(0, MAX_TEXT) })}\n`);
  await sleep(PATIENCE_MS, undefined, { signal: gone.signal, ref: false }).catch(() => {});
  socket.destroy(); // whoever does not read it has had time to
}

const describeFailure = (cause: unknown): Reply => ({
  isDone: false,
  text: reasonOf(cause),
  isMistaken: cause instanceof Failure && cause.status === 2,
});

async function obey(socket: Socket, commands: Record<string, Command>, gone: AbortSignal): Promise<Reply> {
  const request = JSON.parse(await readLine(socket, PATIENCE_MS));
  const name = String(request?.command);
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new Failure(t`正在运行的服务不支持命令 ${escapeText(name)}`);
  return command(request, gone);
}

/** Reads a line. @throws where it is too long, or does not come in time, ms */
function readLine(socket: Socket, ms: number): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(t`超时`)), ms);
  let line = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    line += chunk;
    const end = line.indexOf('\n');
    if (Buffer.byteLength(line) > MAX_BYTES) reject(new Error(t`超过 ${MAX_BYTES} 字节`));
    else if (end >= 0) resolve(line.slice(0, end));
  });
  for (const event of ['end', 'close']) socket.once(event, () => reject(new Error(t`连接已中断`)));
  return promise.finally(() => {
    clearTimeout(timer);
    socket.removeAllListeners('data').resume(); // nothing more is kept
  });
}

/** Why a service cannot be asked: none listens there. */
export class NoService extends Failure {}

/**
 * Asks a running service.
 * @param ms how long the command may take
 * @throws {NoService} where none runs
 * @throws {Failure} where it does not answer
 */
export async function ask(path: string, request: Request, ms = PATIENCE_MS): Promise<Reply> {
  let socket: Socket | undefined;
  try {
    socket = await enter(path);
    socket.write(`${JSON.stringify(request)}\n`);
    const { isDone, isMistaken, text } = JSON.parse(await readLine(socket, ms));
    return { isDone: isDone === true, ...(isMistaken === true ? { isMistaken } : {}), text: String(text) };
  } catch (cause) {
    const what = t`${explain(cause)} (${escapeText(path)}：${reasonOf(cause)})`;
    throw isAbsence(cause) ? new NoService(what) : new Failure(what);
  } finally {
    socket?.destroy();
  }
}

const isAbsence = (cause: unknown) =>
  ['ENOENT', 'ENOTDIR', 'ECONNREFUSED'].includes((cause as NodeJS.ErrnoException).code ?? '');

function explain(cause: unknown): string {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (isAbsence(cause)) return t`服务没有运行，或 STATUS_FILE 不同`;
  if (['EACCES', 'EPERM'].includes(code)) return t`无权控制服务，请以运行服务的用户执行`;
  return t`服务没有应答`;
}
