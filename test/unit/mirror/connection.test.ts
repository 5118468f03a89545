import { expect, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { Connection, statusOf } from '../../../src/mirror/connection.ts';
import { HostKeys } from '../../../src/mirror/host-keys.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { children, signalGroup } from '../../../src/service/processes.ts';
import { eventually } from '../../processes.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { hostFor, keepLog, request } from './stand-ins.ts';

/** What an exit status of rsync means where a login ends with `login`. */
async function meaningOf(status: number, login: number, route = () => ({})): Promise<number> {
  using directory = scratch();
  using _ = standIn('ssh', directory.path, `exit ${login}`);
  return await statusOf(status, hostFor({}), route); // before both are disposed of
}

test('an rsync whose pipe to ssh has ended could not connect where no login works either, and nothing else', async () => {
  expect(await meaningOf(12, 255)).toBe(255);
  expect(await meaningOf(12, 0)).toBe(12);
  expect(await meaningOf(12, 1)).toBe(12);
  expect(await meaningOf(23, 255)).toBe(23);
  const refuse = () => {
    throw new Error('nothing is known of the host’s keys');
  };
  expect(await meaningOf(12, 255, refuse)).toBe(12);
});

/** Stands for an ssh that has connected: makes its socket, leaves a trace, and stays. */
const CONNECTED = `while [ "$1" != -S ]; do shift; done
echo $$ >"\${0%/*}/$$.pid"; : >"$2"; exec sleep 60`;

test.each([
  ['still stands is told once, before it is kept up', false, ['connected', 'tried']],
  ['has ended meanwhile is told as lost, and the next one as made', true, ['connected', 'lost', 'tried', 'connected']],
])('a connection that was opened ahead and %s', async (_name, isEnded, told) => {
  using directory = scratch();
  using _ssh = standIn('ssh', directory.path, CONNECTED);
  using _log = keepLog();
  request.begin();
  const variables = { SOURCE_DIR: '/usr/', SSH_DIR: directory.path, SHARED_KEYS_DIR: directory.path };
  const [host, state] = [hostFor(variables), new TargetState('backup', false)];
  const connection = new Connection(host, new HostKeys(host.config, state), state);
  const events: string[] = [];
  for (const event of ['tried', 'connected', 'lost']) connection.on(event, () => events.push(event));
  const others = children.size;
  const started = () => readdirSync(directory.path).filter((name) => name.endsWith('.pid'));
  const endAll = () => {
    for (const child of [...children].slice(others)) signalGroup(child, 'SIGKILL');
  };
  await connection.openAhead();
  expect(events).toEqual(['connected']);
  expect(state.up).toBe(false);
  if (isEnded) {
    endAll();
    await eventually(() => children.size === others);
  }
  const keeping = connection.keep();
  await eventually(() => events.length >= told.length);
  expect(events).toEqual(told);
  expect(started()).toHaveLength(isEnded ? 2 : 1);
  lifecycle.stopping = true;
  endAll();
  await keeping;
  expect(events).toEqual([...told, 'lost']);
  request.end();
});
