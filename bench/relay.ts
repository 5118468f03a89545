/**
 * A long or a slow line on this machine: what a program sends to its port arrives at another port later, and no faster
 * than the line carries. All connections share the line, each direction by itself, and each gets the same part of it.
 *
 *   await using relay = await Relay.to(sshdPort, { delayMs: 50 });
 *   await using slow = await Relay.to(sshdPort, { delayMs: 10, bytesPerSecond: 2_000_000 });
 *   relay.port; // what the source connects to
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { cFunctions } from '../src/service/libc.ts';

interface LineOptions {
  /** How long each byte takes on its way, one way, ms. */
  delayMs: number;
  /** What the line carries in each direction, of all connections together; without it, all that comes. */
  bytesPerSecond?: number;
}

/** What a connection may send in its turn: 2 ms of a line of 2 MB/s. */
const TURN_BYTES = 4096;
/** How much of a connection waits for its turn here, and as much again in the kernel: more would be a queue of its own. */
const WAITING_BYTES = 16_384;
/** How much of a connection may be on its way where the line has no rate. */
const FLYING_BYTES = 16_777_216;
/** A timer that is late by less than this takes nothing from the rate, ms. */
const LATENESS_MS = 20;

const [SOL_SOCKET, SO_RCVBUF] = [1, 8];

/** Has the kernel keep no more of a socket than `bytes`, and of those that a listening socket accepts. */
function limitBuffer(socket: Server | Socket, bytes: number): void {
  const { _handle } = socket as unknown as { _handle?: { fd: number } };
  const libc = cFunctions({ setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' } });
  if (_handle && libc) libc.setsockopt(_handle.fd, SOL_SOCKET, SO_RCVBUF, new Int32Array([bytes]), 4);
}

/** One direction of a connection. */
class Flow {
  private readonly waiting: Buffer[] = [];
  private readonly flying: { at: number; piece: Buffer | undefined }[] = [];
  private waitingBytes = 0;
  private flyingBytes = 0;
  private timer: Timer | undefined;
  private isEnding = false;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    private readonly line: Line,
  ) {
    from.on('data', (bytes: Buffer) => this.take(bytes));
    from.on('end', () => this.take(undefined));
    to.on('drain', () => this.deliver());
  }

  /** Takes what has come in, or that nothing more will come. */
  private take(bytes: Buffer | undefined): void {
    for (let start = 0; bytes && start < bytes.length; start += TURN_BYTES)
      this.waiting.push(bytes.subarray(start, start + TURN_BYTES));
    this.waitingBytes += bytes?.length ?? 0;
    if (!bytes) this.isEnding = true;
    this.hold();
    this.line.offer(this);
  }

  private hold(): void {
    const isFull = this.waitingBytes >= WAITING_BYTES || this.flyingBytes >= FLYING_BYTES;
    if (isFull) this.from.pause();
    else this.from.resume();
  }

  /** The next piece that waits for its turn; nothing where only the end is left. */
  next(): Buffer | undefined {
    const piece = this.waiting.shift();
    this.waitingBytes -= piece?.length ?? 0;
    return piece;
  }

  get isWaiting(): boolean {
    return this.waiting.length > 0 || this.isEnding;
  }

  /** Sends a piece, or the end, on its way, to arrive at a time (`performance.now`). */
  send(piece: Buffer | undefined, at: number): void {
    if (!piece) this.isEnding = false;
    this.flying.push({ at, piece });
    this.flyingBytes += piece?.length ?? 0;
    this.hold();
    this.deliver();
  }

  /** Hands over what has arrived, while the other side takes it. */
  private deliver(): void {
    clearTimeout(this.timer);
    while (this.flying[0] && !this.to.writableNeedDrain && !this.to.destroyed) {
      const { at, piece } = this.flying[0];
      const left = at - performance.now();
      if (left > 0) {
        this.timer = setTimeout(() => this.deliver(), left);
        return;
      }
      this.flying.shift();
      this.flyingBytes -= piece?.length ?? 0;
      if (piece) this.to.write(piece);
      else this.to.end();
      this.hold();
    }
  }
}

/** One direction of the line, which all connections share: they take turns. */
class Line {
  private readonly turns: Flow[] = [];
  private freeAt = 0;
  private timer: Timer | undefined;

  constructor(private readonly options: LineOptions) {}

  offer(flow: Flow): void {
    if (!this.turns.includes(flow) && flow.isWaiting) this.turns.push(flow);
    if (!this.timer) this.carry();
  }

  /** Sends what waits, a piece of each in turn, until the line is taken. */
  private carry(): void {
    this.timer = undefined;
    for (let flow = this.turns.shift(); flow; flow = this.turns.shift()) {
      const piece = flow.next();
      const now = performance.now();
      const { bytesPerSecond = Number.POSITIVE_INFINITY, delayMs } = this.options;
      this.freeAt = Math.max(this.freeAt, now - LATENESS_MS) + ((piece?.length ?? 0) * 1000) / bytesPerSecond;
      flow.send(piece, Math.max(now, this.freeAt) + delayMs);
      if (flow.isWaiting && !this.turns.includes(flow)) this.turns.push(flow);
      if (this.freeAt > now) {
        this.timer = setTimeout(() => this.carry(), this.freeAt - now);
        return;
      }
    }
  }
}

export class Relay implements AsyncDisposable {
  private readonly sockets = new Set<Socket>();
  private readonly there: Line;
  private readonly back: Line;

  private constructor(
    private readonly server: Server,
    private readonly target: number,
    private readonly options: LineOptions,
  ) {
    this.there = new Line(options);
    this.back = new Line(options);
    server.on('connection', (socket: Socket) => this.join(socket));
  }

  /** Opens a line on loopback to a port, where somebody need not listen yet. */
  static async to(target: number, options: LineOptions): Promise<Relay> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    if (options.bytesPerSecond) limitBuffer(server, WAITING_BYTES);
    return new Relay(server, target, options);
  }

  /** The port at which the line begins. */
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  private join(near: Socket): void {
    const far = connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    if (this.options.bytesPerSecond) far.on('connect', () => limitBuffer(far, WAITING_BYTES));
    new Flow(near, far, this.there);
    new Flow(far, near, this.back);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', (hadError) => {
        this.sockets.delete(one);
        if (hadError) other.destroy();
      });
    }
  }

  /** Cuts all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (!this.server.listening) return;
    this.server.close();
    await once(this.server, 'close');
  }
}
