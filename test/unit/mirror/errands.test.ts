import { expect, test } from 'bun:test';
import { existsSync } from 'node:fs';
import { Errands, parseAnswer } from '../../../src/mirror/errands.ts';
import { eventually } from '../../processes.ts';
import { scratch, standIn } from '../service/scratch.ts';
import { hostFor } from './stand-ins.ts';

function errandsFor(RSYNC_OPTS = '-a --delete') {
  const host = hostFor({ DEST_HOST: 'me@backup', DEST_DIR: '/b/', RSYNC_OPTS });
  const state = { log: () => {}, warn: () => {}, stalledSince: undefined };
  return new Errands({ host, state, connection: { findRoute: () => ({}), socket: '/socket' } });
}

/** Waits until a stand-in for ssh has answered, or has ended. */
async function settled(errands: Errands): Promise<Errands> {
  await eventually(() => errands.isReady || !Reflect.get(errands, 'helper'));
  return errands;
}

test('answers are read, and nothing else', () => {
  expect(parseAnswer('1 2 - -')).toEqual({ renamed: 1, removed: 2, left: new Set(), absent: new Set() });
  expect(parseAnswer('0 0 0,2 1')).toEqual({ renamed: 0, removed: 0, left: new Set([0, 2]), absent: new Set([1]) });
  for (const line of ['', 'ready', '1 2', '1 2 -', '-1 2 - -', '1 2 - - -', '1 2 x -', ' 1 2 - -'])
    expect(parseAnswer(line)).toBeUndefined();
});

test('one waits for batch after batch, and each is answered', async () => {
  using directory = scratch();
  using _ = standIn(
    'ssh',
    directory.path,
    'exec bash -c \'echo ready; while IFS= read -r -d "" word; do [ "$word" ] || echo 0 1 - -; done\'',
  );
  const errands = errandsFor();
  errands.arm();
  await settled(errands);
  for (let n = 0; n < 3; n++) expect(await errands.ask(['fa', 'db'], 10)).toMatchObject({ removed: 1 });
  errands.disarm();
  expect(await errands.ask(['fa'], 10)).toBeUndefined();
});

test.each([
  ['an older backup, or a plain sshd', 'echo refused >&2; exit 1'],
  ['one that says something else', 'echo hello; sleep 100'],
  ['one that says too much', 'exec yes'],
  ['one whose line has no end', "exec tr '\\0' a < /dev/zero"],
])('%s is not asked again until it is connected to anew', async (_name, script) => {
  using directory = scratch();
  using _ = standIn('ssh', directory.path, script);
  const errands = errandsFor();
  errands.arm();
  await settled(errands);
  expect(await errands.ask(['fa'], 10)).toBeUndefined();
  errands.arm();
  expect(errands).toMatchObject({ helper: undefined, isReady: false });
});

test.each(['exec yes "0 0 - -"', "exec tr '\\0' a < /dev/zero", 'echo 0 0 - -; exec sleep 100'])(
  'one that talks unasked is ended, and not started again until it is connected to anew: %s',
  async (script) => {
    using directory = scratch();
    using _ = standIn('ssh', directory.path, `echo ready; sleep 0.2; ${script}`);
    const errands = errandsFor();
    errands.arm();
    const pid: number = Reflect.get(errands, 'helper').pid;
    await eventually(() => !existsSync(`/proc/${pid}`));
    expect(errands).toMatchObject({ helper: undefined, isReady: false });
    errands.arm();
    expect(errands).toMatchObject({ helper: undefined });
    expect(await errands.ask(['fa'], 10)).toBeUndefined();
  },
);

test.each([
  'read -r _; exit 1',
  'head -c 1 >/dev/null; echo no answer; sleep 100',
  'head -c 1 >/dev/null; echo 0 11 - -; sleep 100', // more than it may
])('where no answer comes, it is not known what was done: %s', async (script) => {
  using directory = scratch();
  using _ = standIn('ssh', directory.path, `echo ready; ${script}`);
  const errands = errandsFor();
  errands.arm();
  await settled(errands);
  expect(errands.isReady).toBe(true);
  const asking = errands.ask(['fa\n'], 10);
  expect(await asking).toBeUndefined();
  expect(errands.isReady).toBe(false);
  errands.disarm();
});

test('there is none where nothing is deleted nor renamed', () => {
  const errands = errandsFor('-a');
  errands.arm();
  expect(errands).toMatchObject({ helper: undefined });
});
