/**
 * The rule behind `--recover`: what it puts together is what the tree held at that time. Random work on the source, with a copy of the
 * tree at random moments, is followed by a recovery of each of them. What is said to be unknown is not compared: directories that are
 * empty, and owners, modes and times that alone were changed later.
 *
 * MODEL_SEED repeats the choices of a run; MODEL_HISTORY_SECONDS is the time of work.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { Model, Random } from '../model.ts';
import { Pair } from '../pair.ts';
import { eventually } from '../processes.ts';
import { binary } from '../project.ts';

const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
const seconds = Number(process.env.MODEL_HISTORY_SECONDS ?? 8);
/** How long the work between two moments is, ms. */
const ROUNDS = [10, 50, 300, 1000];
/** The kernel's clock for files goes in steps, ms. */
const TICK = 30;

setDefaultTimeout(seconds * 10_000 + 60_000);
console.log(`MODEL_SEED=${seed}`);

/** Whether the backup has all, and it stays so. */
async function isMirrored(source: string, backup: string): Promise<boolean> {
  await Bun.sleep(50);
  const args = ['-acin', '--delete', '--exclude=/.history', `${source}/`, `${backup}/`];
  const { stdout, status } = spawnSync('rsync', args, { encoding: 'latin1' });
  return status === 0 && stdout === '';
}

/** Says in which files and links two trees differ, '' where in none. */
function differences(a: string, b: string): string {
  const { stdout, stderr } = spawnSync('rsync', ['-rlcni', '--delete', `${a}/`, `${b}/`], { encoding: 'latin1' });
  const lines = stdout.split('\n').filter((line) => line && !line.endsWith('/'));
  return [...lines, stderr].filter(Boolean).join('\n');
}

test('what is recovered is what was there, at any time', async () => {
  const random = new Random(seed);
  await using pair = await Pair.withKeys('history-model');
  pair.start('start-sshd', { HISTORY_DAYS: '1' });
  mkdirSync(pair.path('outside'));
  const model = new Model(random.below(2 ** 31), pair.path('source'), pair.path('outside'));
  await model.work(100);
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', RSYNC_OPTS: '-a --delete' });
  await source.shows('✓ 服务运行中');
  const moments: { at: string; copy: string }[] = [];
  const end = performance.now() + seconds * 1000;
  do {
    await model.work(random.pick(ROUNDS));
    await eventually(() => isMirrored(pair.path('source'), pair.path('backup')));
    await Bun.sleep(TICK);
    const copy = pair.path(`copy-${moments.length}`);
    spawnSync('cp', ['-a', pair.path('source'), copy]);
    moments.push({ at: new Date().toISOString(), copy });
    await Bun.sleep(TICK);
  } while (performance.now() < end);
  for (const [n, { at, copy }] of moments.entries()) {
    const to = pair.path(`recovered-${n}`);
    const env = { ...process.env, ...pair.backupEnv };
    const { status, stdout } = spawnSync(binary('start-sshd'), ['--recover', '--at', at, '--to', to], {
      env,
      encoding: 'utf8',
    });
    const what = `moment ${n} of ${moments.length}, MODEL_SEED=${seed}`;
    expect([what, status, status === 0 ? '' : stdout, differences(copy, to)]).toEqual([what, 0, '', '']);
  }
  console.log(`${model.count} operations, ${moments.length} moments`);
});
