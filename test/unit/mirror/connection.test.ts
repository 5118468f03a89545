import { expect, spyOn, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { Connection, statusOf } from '../../../src/mirror/connection.ts';
import { HostKeys } from '../../../src/mirror/host-keys.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { signalGroup } from '../../../src/service/processes.ts';
import { eventually } from '../../processes.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { hostFor, keepLog, request, startedFromNow } from './stand-ins.ts';

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

/** A connection by an ssh that is this script, of a host that there is none of. */
function connectionBy(directory: string): { connection: Connection; state: TargetState } {
  const variables = { SOURCE_DIR: '/usr/', SSH_DIR: directory, SHARED_KEYS_DIR: directory };
  const [host, state] = [hostFor(variables), new TargetState('backup', false)];
  return { connection: new Connection(host, new HostKeys(host.config, state), state), state };
}

test('a connection whose ssh ends and takes its time is lost, and nobody has removed its socket', async () => {
  using directory = scratch();
  using _ssh = standIn(
    'ssh',
    directory.path,
    `while [ "$1" != -S ]; do shift; done; : >"$2"; sleep 0.5; rm "$2"; sleep 0.9; exit 255`,
  );
  using log = keepLog();
  request.begin();
  const { connection } = connectionBy(directory.path);
  let losses = 0;
  connection.on('lost', () => losses++);
  const keeping = connection.keep();
  await eventually(() => losses === 3);
  lifecycle.stopping = true;
  await keeping;
  request.end();
  const told = [...log.text.matchAll(/WARN.*/g)].map(([line]) => line);
  expect(told).toHaveLength(3);
  for (const line of told) expect(line).toContain('SSH 连接已断开，正在重新连接');
});

test.each([
  ['still stands is told once, before it is kept up', false, ['connected', 'tried']],
  ['has ended meanwhile is told as lost, and the next one as made', true, ['connected', 'lost', 'tried', 'connected']],
])('a connection that was opened ahead and %s', async (_name, isEnded, told) => {
  using directory = scratch();
  using _ssh = standIn('ssh', directory.path, CONNECTED);
  using _log = keepLog();
  request.begin();
  const { connection, state } = connectionBy(directory.path);
  const events: string[] = [];
  for (const event of ['tried', 'connected', 'lost']) connection.on(event, () => events.push(event));
  const programs = startedFromNow();
  const started = () => readdirSync(directory.path).filter((name) => name.endsWith('.pid'));
  const endAll = () => {
    for (const child of programs()) signalGroup(child, 'SIGKILL');
  };
  await connection.openAhead();
  expect(events).toEqual(['connected']);
  expect(state.up).toBe(false);
  if (isEnded) {
    endAll();
    await eventually(() => programs().length === 0);
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

test('a connection that was opened ahead is opened anew where it is asked for, and one that was not is not opened', async () => {
  using directory = scratch();
  using _ssh = standIn('ssh', directory.path, CONNECTED);
  using _log = keepLog();
  request.begin();
  const { connection } = connectionBy(directory.path);
  const events: string[] = [];
  for (const event of ['connected', 'lost']) connection.on(event, () => events.push(event));
  const programs = startedFromNow();
  await connection.renewAhead();
  expect([events, programs()]).toEqual([[], []]);
  await connection.openAhead();
  const { socket } = connection;
  await connection.renewAhead();
  expect(events).toEqual(['connected', 'lost', 'connected']);
  expect(connection.socket).not.toBe(socket as string);
  await eventually(() => programs().length === 1); // the former one has been ended
  for (const child of programs()) signalGroup(child, 'SIGKILL');
  await eventually(() => programs().length === 0);
  request.end();
});

test('a backup that stays away is looked for at least every 20 s, but not by all of its sources at the same moments', async () => {
  using directory = scratch();
  using _ssh = standIn('ssh', directory.path, 'exit 255');
  using _log = keepLog();
  request.begin();
  const waitsOf = async () => {
    const waits: number[] = [];
    const pausing = spyOn(lifecycle, 'pause').mockImplementation(async (ms) => {
      waits.push(ms);
      lifecycle.stopping = waits.length === 8;
    });
    await connectionBy(directory.path).connection.keep();
    pausing.mockRestore();
    lifecycle.stopping = false;
    return waits;
  };
  const [one, other] = [await waitsOf(), await waitsOf()];
  for (const waits of [one, other])
    for (const [n, most] of [1, 2, 4, 8, 16, 20, 20, 20].entries()) {
      expect(waits[n]).toBeLessThanOrEqual(most * 1000);
      expect(waits[n]).toBeGreaterThanOrEqual(most * 500);
    }
  expect(one).not.toEqual(other);
  request.end();
});
