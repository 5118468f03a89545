/**
 * Asks an SSH server for what no ssh would ask for, each over a connection of its own, and prints what came of it. A
 * program of its own: with ssh2 at work, Bun sometimes stops reading from the other programs that it has started.
 *
 *   bun test/odd-client.ts PORT USER KEY_FILE < requests.json
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Client, type ClientChannel } from 'ssh2';

/** The name of one of ssh2's functions with its arguments. */
export type Request = ['exec' | 'subsys' | 'openssh_forwardOutStreamLocal' | 'forwardIn', ...unknown[]];

/** The exit status and the output, or why there is none. */
export interface Outcome {
  status: number | null;
  said: string;
}

async function outcomeOf(channel: ClientChannel): Promise<Outcome> {
  const outcome: Outcome = { status: null, said: '' };
  channel.on('data', (chunk: Buffer) => {
    outcome.said += chunk;
  });
  channel.stderr.resume();
  channel.on('exit', (code: number | null) => {
    outcome.status = code;
  });
  channel.end();
  await once(channel, 'close');
  return outcome;
}

async function ask([name, ...args]: Request): Promise<Outcome> {
  const [port, username = '', file = ''] = process.argv.slice(2);
  const client = new Client();
  const { promise, resolve, reject } = Promise.withResolvers<ClientChannel>();
  client.on('error', reject).on('close', () => reject(new Error('closed')));
  client.on('ready', () => {
    const call = client[name] as (...all: unknown[]) => unknown;
    call.call(client, ...args, (error: Error | undefined, value: ClientChannel) =>
      error ? reject(error) : resolve(value),
    );
  });
  client.connect({ host: '127.0.0.1', port: Number(port), username, privateKey: readFileSync(file) });
  try {
    return await outcomeOf(await promise);
  } catch (error) {
    return { status: null, said: `${error}` };
  } finally {
    client.end();
  }
}

async function main(): Promise<void> {
  const outcomes: Outcome[] = [];
  for (const request of JSON.parse(await Bun.stdin.text())) outcomes.push(await ask(request));
  process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
}

if (import.meta.main) await main();
