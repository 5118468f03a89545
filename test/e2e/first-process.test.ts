import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { startedBy } from '../../src/service/processes.ts';
import { connectionsOf, Pair, theOnly } from '../pair.ts';
import { eventually, type Program } from '../processes.ts';

setDefaultTimeout(90_000);

/** Makes what it runs the first process of a container, so to say; it ends with it. */
const WRAPPER = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
const mayBeFirst = spawnSync(WRAPPER[0] ?? '', [...WRAPPER.slice(1), 'true']).status === 0;

/** The processes of a container that have ended and that nobody has asked for their exit status. */
function zombiesOf(program: Program): number[] {
  const [first = 0] = startedBy(program.pid);
  return startedBy(first).filter((pid) => / Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
}

test.skipIf(!mayBeFirst)('a program that is the first process of a container leaves no zombies', async () => {
  await using pair = await Pair.withKeys('first-process');
  const backup = pair.start('start-sshd', {}, WRAPPER);
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' }, WRAPPER);
  await source.shows('✓ 服务运行中');
  const former = await theOnly(connectionsOf, pair);
  process.kill(former, 'SIGKILL');
  await eventually(() => connectionsOf(pair).some((pid) => pid !== former));
  mkdirSync(pair.path('source', 'new'));
  writeFileSync(pair.path('source', 'new', 'file'), 'content');
  await pair.isMirrored();
  await eventually(() => zombiesOf(source).length > 0); // they are there for a moment
  for (const program of [source, backup]) await eventually(() => zombiesOf(program).length === 0);
  expect(await Promise.all([source, backup].map((program) => program.stop('SIGKILL')))).toEqual(['SIGKILL', 'SIGKILL']);
});
