import { expect, test } from 'bun:test';
import { statusOf } from '../../../src/mirror/connection.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { hostFor } from './stand-ins.ts';

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
