import { expect, test } from 'bun:test';
import type { Move } from '../../../src/mirror/moves.ts';
import { RemoteRenames } from '../../../src/mirror/remote-renames.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { aloud, hostFor } from './stand-ins.ts';

const MOVES = [{ from: 'a', to: 'b' }] as Move[];

/** What is told of renames where this answers them, and which the backup could not be asked for. */
async function repeat(script: string) {
  using directory = scratch();
  using _ = standIn('ssh', directory.path, script);
  const told: string[] = [];
  const tell = (event: string, message: string) => void told.push(`${event} ${message}`);
  const state = { log: tell, warn: tell, stalledSince: undefined, voice: aloud() };
  const errands = { isReady: false, ask: async () => undefined };
  const host = hostFor({ DEST_HOST: 'me@backup', DEST_DIR: '/b/' });
  const renames = new RemoteRenames({ host, state, connection: { findRoute: () => ({}) }, errands, prefix: '/' });
  const attempt = { unrepeated: [] as Move[] };
  await renames.repeat(MOVES, attempt);
  await renames.repeat(MOVES, attempt);
  return { told, unrepeated: attempt.unrepeated };
}

test('renames are told where they were done, and asked for again where nobody could be asked', async () => {
  const done = '已在目标上重命名 1 项，无需再次传输';
  expect(await repeat('cat >/dev/null; echo 1')).toEqual({
    told: Array(2).fill(`sync.renamed ${done}`),
    unrepeated: [],
  });
  expect(await repeat('exit 255')).toEqual({ told: [], unrepeated: MOVES });
});

test('a backup without start-sshd is told of in words that are the same whatever its shell says', async () => {
  const { told, unrepeated } = await repeat('echo ^~~~~^ >&2; exit 127');
  expect(told).toEqual(['sync.rename_refused 目标不支持重命名 (备份端没有 start-sshd)，移动的内容将再次传输']);
  expect(unrepeated).toEqual([]);
});

test.each(['exec yes', "tr '\\0' a < /dev/zero >&2"])('an answer without end is a refusal: %s', async (script) => {
  const { told, unrepeated } = await repeat(script);
  const why = '答复超过 1.0 MB，不是所要的答复，已中止';
  expect(told).toEqual([`sync.rename_refused 目标不支持重命名 (${why})，移动的内容将再次传输`]);
  expect(unrepeated).toEqual([]);
});
