/**
 * Asks for HEARTBEAT_URL once a minute while all is well: a service that rings when nothing comes notices a dead host, too.
 *
 *   const heartbeat = new Heartbeat(new URL('https://hc-ping.com/…'));
 *   heartbeat.observe(isHealthy);
 */
import { lifecycle } from './lifecycle.ts';
import { log, warn } from './log.ts';
import { describeReply, type Reply, type Request, send } from './requests.ts';
import { withoutLogin } from './secret-urls.ts';
import { reasonOf, t } from './text.ts';

const INTERVAL_MS = 60_000;

export class Heartbeat {
  private next = Number.NEGATIVE_INFINITY;
  private isBusy = false;
  private isBroken = false;

  constructor(
    private readonly url: URL,
    private readonly ask: (request: Request) => Promise<Reply> = send,
    private readonly clock = () => performance.now(),
  ) {}

  /** Asks, if all is well and a minute has passed. Whoever calls this does so every few seconds: in the mean it is once a minute. */
  observe(isHealthy: boolean): void {
    const { clock } = this;
    if (!isHealthy || this.isBusy || lifecycle.stopping || clock() < this.next) return;
    const isOnTime = clock() - this.next < INTERVAL_MS;
    this.next = (isOnTime ? this.next : clock()) + INTERVAL_MS;
    this.isBusy = true;
    lifecycle.background(this.beat());
  }

  private async beat(): Promise<void> {
    const refusal = await this.refusal();
    this.isBusy = false;
    if (lifecycle.stopping) return;
    if (refusal !== undefined && !this.isBroken)
      warn('heartbeat.failed', t`无法请求 HEARTBEAT_URL (${this.url.host})：${refusal}。每分钟重试`);
    if (refusal === undefined && this.isBroken) log('heartbeat.restored', t`HEARTBEAT_URL 恢复应答`);
    this.isBroken = refusal !== undefined;
  }

  /** Asks; says what is wrong with the answer, nothing where it is one. */
  private async refusal(): Promise<string | undefined> {
    try {
      const { url, headers } = withoutLogin(this.url);
      const reply = await this.ask({ url, headers, method: 'GET' });
      return reply.status >= 200 && reply.status < 300 ? undefined : describeReply(this.url, reply);
    } catch (cause) {
      return reasonOf(cause);
    }
  }
}
