/**
 * What a session tells the service, in whose log it belongs. Each session pays for what is imported here.
 *
 *   await sendReport('refused', '不提供 shell。命令: ');
 */
import { once } from 'node:events';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { t } from '../service/text.ts';
import { SOURCE_VARIABLE } from './admission.ts';
import { Refusal } from './confinement.ts';

/** How much is told of a command that is refused, characters. */
export const MAX_SHOWN = 500;
/** How long a session waits for the service to take its report, ms. */
const SEND_MS = 1000;

/**
 * What a report is about: a command that was refused, for what it is, as all are, because the backup has taken over, or because too many
 * run; one with less protection than it should have, one that deletes sooner than it was to, one whose length of blocks is left out, one that writes files in place or with holes, or a
 * source that says who it is.
 */
type Kind =
  | 'loose'
  | 'refused'
  | 'barred'
  | 'promoted'
  | 'crowded'
  | 'unprotected'
  | 'reordered'
  | 'unblocked'
  | 'announced';

/** Begins a report: what it is about, and from which source if that has a name. */
export function headOf(kind: Kind | 'sending'): string {
  const { [SOURCE_VARIABLE]: name } = process.env;
  return `${name ? `${kind}@${name}` : kind}\n`;
}

/**
 * Tells the service; returns what it answers, '' where it does not.
 * node:net is loaded only here: it takes half as long as all that a session does without it.
 */
export async function sendReport(kind: Kind, message: string): Promise<string> {
  const { START_SSHD_REPORTS: service } = process.env;
  if (!service) return '';
  const { connect } = await import('node:net');
  const socket = connect(service)
    .setEncoding('utf8')
    .end(`${headOf(kind)}${message}`);
  let answer = '';
  socket.on('data', (chunk: string) => {
    answer = `${answer}${chunk}`.slice(0, 4 * MAX_SHOWN);
  });
  await Promise.race([once(socket, 'close'), sleep(SEND_MS)]).catch(() => {}); // without the service there is no log
  return answer;
}

/**
 * Tells the service which source mirrors into a directory; returns the names of others that do, as JSON. The directory is not
 * looked at: on a disk that hangs, one session after the other would hang with it.
 * @param who INSTANCE@HOST, by which the source calls itself
 * @throws {Refusal} where that is none
 */
export async function announce(directory: string, who: string): Promise<string> {
  const [, instance, host] = /^([\w-]{1,64})@([\w.-]{1,64})$/.exec(who) ?? [];
  if (!instance) throw new Refusal(t`源端的名称无效`);
  const address = process.env.SSH_CONNECTION?.split(' ')[0] ?? '';
  return sendReport('announced', `${instance} ${host} (${address}) ${resolve(homedir(), directory)}`);
}
