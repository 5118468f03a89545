import { expect, test } from 'bun:test';
import { Peer } from '../../../src/mirror/peer.ts';
import type { OutcomeKind } from '../../../src/mirror/rsync.ts';
import { noteLimits } from '../../../src/mirror/ssh.ts';
import { hostFor } from './stand-ins.ts';

const CROWDED = '@ERROR: max connections (2) reached -- try again later';

/** Sends to a daemon that says this, one after the other, and then nothing more; tells what came of it. */
async function sendTo(answers: string[], host = hostFor({ DEST_HOST: 'rsync://nas/m/' })) {
  const [told, rest] = [[] as string[], [...answers]];
  let [tries, ended] = [0, 0];
  const peer = new Peer({
    host,
    state: { warn: (event) => void told.push(event) },
    endWaiting: () => void ended++,
  });
  const send = async (): Promise<{ kind: OutcomeKind }> => {
    tries++;
    const said = rest.shift();
    if (said) noteLimits(host, said);
    return { kind: said ? 'unreachable' : 'done' };
  };
  const { kind } = await peer.sendWithin(send);
  return { kind, tries, ended, told, room: host.peer.room };
}

test('what a daemon has no room for is sent once more, when no rsync waits any more', async () => {
  expect(await sendTo([])).toMatchObject({ kind: 'done', tries: 1, ended: 0, told: [] });
  expect(await sendTo([CROWDED, CROWDED])).toEqual({
    kind: 'done',
    tries: 3,
    ended: 2,
    told: ['daemon.crowded'],
    room: 2,
  });
});

test('one that has no room for long is not asked for ever, and one with much room is not spoken of', async () => {
  const answers = Array.from({ length: 9 }, () => '@ERROR: max connections (20) reached -- try again later');
  expect(await sendTo(answers)).toMatchObject({ kind: 'unreachable', tries: 6, told: [], room: 20 });
});

test('after each rsync is waited for less and less once there is room: others had taken it', async () => {
  for (const [room, least] of [
    [20, 0],
    [1, 100],
  ]) {
    const host = hostFor({ DEST_HOST: 'rsync://nas/m/' });
    await sendTo(
      Array.from({ length: 3 }, () => `@ERROR: max connections (${room}) reached -- try again later`),
      host,
    );
    const waits = [host.peer.settleMs];
    for (let n = 0; n < 10; n++) {
      await sendTo([], host);
      waits.push(host.peer.settleMs);
    }
    expect(waits).toEqual([...waits].sort((a, b) => b - a));
    expect(waits[0]).toBeGreaterThan(100);
    expect(waits.at(-1)).toBe(least);
  }
});

test('what fails otherwise is not sent once more', async () => {
  expect(await sendTo(['@ERROR: chroot failed'])).toMatchObject({ kind: 'unreachable', tries: 1, ended: 0, told: [] });
});
