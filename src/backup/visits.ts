/**
 * Which of the sessions that come and go all the time are told: those of a peer that has not come for a while, and of one that comes often
 * the first. What strangers bring about is none of that.
 *
 *   const visits = new Visits();
 *   visits.judge('Accepted publickey for root from 10.0.5.10 port 4711 ssh2: RSA SHA256:…', now); // 'told'
 *   visits.summarise(); // [{ peer: '10.0.5.10', count: 58, … }]
 */
import { info } from '../service/log.ts';
import { escapeText, localTime, t } from '../service/text.ts';

/** How many sessions of a peer that have come and gone are told at once, and after how long another one is, ms. */
export const VISITS_AT_ONCE = 20;
const ANOTHER_MS = 60_000;
/** How long none must have been left out until all are told again, ms. */
export const REST_MS = 600_000;
/** How many peers are known, and how many open sessions of each. A key may come from anywhere. */
const [MAX_PEERS, MAX_OPEN] = [30, 64];

const LOGIN = /^Accepted publickey for \S+ from (\S+) port (\d+) ssh2: \S+ (SHA256:\S+)$/;
const FAREWELL = /^Received disconnect from (\S+) port (\d+):\d+: /;
const END = /^(?:Disconnected from|Connection (?:closed|reset) by) (?:user \S+ )?(\S+) port (\d+)$/;
/** What sshd says of each login of root. It names no peer. */
const ROOT_LOGIN = /^Root login accepted for forced command\.( \[preauth\])?$/;

/** What becomes of a record: it is told, it is counted, or it is the affair of others. */
export type Verdict = 'told' | 'counted' | 'foreign';

/** Sessions that were not told. */
export interface Counted {
  peer: string;
  count: number;
  first: Date;
  last: Date;
}

/** One that has logged in, by its address and its key. */
class Peer {
  readonly open = new Set<string>();
  /** Whether its sessions are counted only. */
  isFrequent = false;
  counted: Counted | undefined;
  private left = VISITS_AT_ONCE;
  private at: number | undefined;
  private lastCounted = 0;

  constructor(readonly address: string) {}

  /** Notes that it has logged in; returns whether that is told. */
  enter(port: string, now: number): boolean {
    this.refill(now);
    if (this.open.size < MAX_OPEN) this.open.add(port);
    if (this.isFrequent && now - this.lastCounted >= REST_MS) this.isFrequent = false;
    if (!this.isFrequent) return true;
    const last = new Date();
    const { count, first } = this.counted ?? { count: 0, first: last };
    this.counted = { peer: this.address, count: count + 1, first, last };
    this.lastCounted = now;
    return false;
  }

  /** Notes that a session has ended. */
  leave(port: string, now: number): void {
    this.refill(now);
    this.open.delete(port);
    this.left--;
    if (this.left > 0 || this.isFrequent) return;
    this.isFrequent = true;
    this.lastCounted = now;
  }

  private refill(now: number): void {
    this.left = Math.min(VISITS_AT_ONCE, this.left + (now - (this.at ?? now)) / ANOTHER_MS);
    this.at = now;
  }
}

export class Visits {
  /** How many logins were not told since the start. */
  total = 0;
  /** The peers, those that have come last at the end. */
  private readonly peers = new Map<string, Peer>();

  /**
   * Decides what becomes of a record of sshd.
   * @param now ms on the clock of `performance.now()`
   * @param alive how many connections there are
   */
  judge(words: string, now: number, alive = Number.POSITIVE_INFINITY): Verdict {
    const [, from, port, key] = LOGIN.exec(words) ?? [];
    if (from && port) this.settle(alive, now);
    if (from && port) return this.enter(`${from} ${key}`, from, port, now);
    if (ROOT_LOGIN.test(words)) return this.isAnyFrequent ? 'counted' : 'foreign';
    const ended = END.exec(words);
    const [, address, number = ''] = ended ?? FAREWELL.exec(words) ?? [];
    const peer = [...this.peers.values()].find((it) => it.address === address && it.open.has(number));
    if (!peer) return 'foreign';
    const verdict = peer.isFrequent ? 'counted' : 'told';
    if (ended) peer.leave(number, now);
    return verdict;
  }

  /** Hands out the sessions that were not told, by peer, since the last time. */
  summarise(): Counted[] {
    const counted = [...this.peers.values()].flatMap((peer) => peer.counted ?? []);
    for (const peer of this.peers.values()) peer.counted = undefined;
    return counted;
  }

  /** Takes the oldest for ended where there are fewer than known: of a client that was killed sshd does not say that it has gone. */
  private settle(alive: number, now: number): void {
    const all = [...this.peers.values()].flatMap((peer) => [...peer.open].map((port) => ({ peer, port })));
    for (const { peer, port } of all.slice(0, Math.max(0, all.length - alive))) peer.leave(port, now);
  }

  private enter(name: string, address: string, port: string, now: number): Verdict {
    const peer = this.peers.get(name) ?? new Peer(address);
    this.peers.delete(name);
    this.peers.set(name, peer);
    const [oldest] = this.peers.keys();
    if (this.peers.size > MAX_PEERS && oldest !== undefined) this.peers.delete(oldest);
    if (peer.enter(port, now)) return 'told';
    this.total++;
    return 'counted';
  }

  private get isAnyFrequent(): boolean {
    return [...this.peers.values()].some(({ isFrequent }) => isFrequent);
  }
}

/** How often it is told how many sessions were not told, ms. */
const SUMMARY_MS = 300_000;

/** Tells now and then what the log does not. */
export class VisitLog {
  private readonly visits = new Visits();
  private timer: NodeJS.Timeout | undefined;

  /** How many logins were not told since the start. */
  get total(): number {
    return this.visits.total;
  }

  /** Whether a record of sshd is only counted. @param alive how many connections there are, as far as that is known */
  counts(words: string, alive?: number): boolean {
    if (this.visits.judge(words, performance.now(), alive) !== 'counted') return false;
    this.timer ??= setTimeout(() => this.summarise(), SUMMARY_MS).unref();
    return true;
  }

  /** Tells how many there were. */
  summarise(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (const { peer, count, first, last } of this.visits.summarise()) {
      const when = t`首次 ${localTime(first)}，末次 ${localTime(last)}`;
      const fields = { peer, count, first: first.toISOString(), last: last.toISOString() };
      info('sshd.visits', t`来自 ${escapeText(peer)} 的会话频繁，另有 ${count} 次登录未逐条记录（${when}）`, fields);
    }
  }
}
