/**
 * Has NOTIFY_URL and HEARTBEAT_URL follow what a program publishes of itself; and --notify-test, which sends a report that tells of nothing.
 *
 *   startReporting(publisher, { config, origin, file, look: (status) => ({ sightings, isHealthy, isPartial }) });
 */
import type { ValidatorSpec } from 'envalid';
import { Heartbeat } from './heartbeat.ts';
import { IncidentMemory } from './incident-memory.ts';
import type { Sighting } from './incidents.ts';
import { type Answer, lifecycle } from './lifecycle.ts';
import { SECRETS } from './processes.ts';
import { parseReceivers, type Receiver, refusalOf, requestFor } from './receivers.ts';
import { type Aside, type Origin, writeTest } from './report-words.ts';
import { Reporter } from './reporter.ts';
import { describeReply, send } from './requests.ts';
import { parseSecretUrl } from './secret-urls.ts';
import { type Publisher, touch } from './status.ts';
import { Failure, reasonOf, t } from './text.ts';
import { readVariables, refuseMistakes, type Specs } from './variables.ts';

interface Config {
  NOTIFY_URL: string;
  NOTIFY_AFTER: number;
  HEARTBEAT_URL: string;
}

/** What is seen of a state that was published. */
interface View {
  sightings: Sighting[];
  isHealthy: boolean;
  /** Whether more may be wrong than can be seen. */
  isPartial: boolean;
  /** What is to be known beside it. */
  aside?: Aside | undefined;
}

interface Parts<S extends object> {
  config: Config;
  origin: Origin;
  /** Where is remembered what was reported. */
  file: string;
  look: (status: S) => View;
}

/** Follows what is published, until the program is to stop. No other program gets to know the tokens from now on. */
export function startReporting<S extends object>(
  publisher: Publisher<S>,
  { config, origin, file, look }: Parts<S>,
): void {
  for (const name of SECRETS) delete process.env[name];
  const receivers = parseReceivers(config.NOTIFY_URL);
  const heartbeat = config.HEARTBEAT_URL ? new Heartbeat(parseSecretUrl(config.HEARTBEAT_URL)) : undefined;
  if (receivers.length === 0 && !heartbeat) return;
  const memory = new IncidentMemory(file);
  const reporter = new Reporter({ receivers, after: 1000 * config.NOTIFY_AFTER, origin, memory, wake: touch });
  publisher.on('published', (status: S) => {
    if (lifecycle.stopping) return;
    const { sightings, isHealthy, isPartial, aside } = look(status);
    if (receivers.length > 0) reporter.observe(sightings, isPartial, aside);
    heartbeat?.observe(isHealthy);
  });
  if (receivers.length > 0) lifecycle.onExit(() => memory.save());
}

/** Sends a test to each receiver, and says what came back. @throws {Failure} where there is none, or a bad one (status 2) */
export async function answerTest(specs: Specs, origin: Origin): Promise<Answer> {
  const { mistakes } = readVariables({ NOTIFY_URL: specs.NOTIFY_URL as ValidatorSpec<unknown> }, process.env);
  refuseMistakes(specs, mistakes);
  const receivers = parseReceivers(process.env.NOTIFY_URL ?? '');
  if (receivers.length === 0) throw new Failure(t`没有设置 NOTIFY_URL，没有可以发送测试报告的地方`, 2);
  const answers = await Promise.all(receivers.map((receiver) => tryOut(receiver, origin)));
  const lines = answers.map(({ isTaken, line }) => `${isTaken ? '✓' : '✗'} ${line}\n`);
  return { text: lines.join(''), status: answers.every(({ isTaken }) => isTaken) ? 0 : 1 };
}

async function tryOut(receiver: Receiver, origin: Origin): Promise<{ isTaken: boolean; line: string }> {
  const { name } = receiver;
  try {
    const now = Date.now();
    const reply = await send(requestFor(receiver, writeTest(origin, now), now));
    const refusal = refusalOf(receiver, reply);
    if (refusal !== undefined) return { isTaken: false, line: t`${name} 没有接受测试报告：${refusal}` };
    return { isTaken: true, line: t`${name} 已接受测试报告：${describeReply(receiver.given, reply)}` };
  } catch (cause) {
    return { isTaken: false, line: t`${name} 没有接受测试报告：${reasonOf(cause)}` };
  }
}
