/** The brake: deletions that are too many to be meant wait for somebody who lets them through. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { HeldRsync } from '../held-rsync.ts';
import { Pair } from '../pair.ts';
import { cleanEnv, content, count, eventually, type Program } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

const LIMITED = { MAX_DELETE: '100', SYNC_INTERVAL: '0' };

/** Makes directories of so many small files. */
function fill(path: string, directories: Record<string, number>): void {
  for (const [name, files] of Object.entries(directories)) {
    mkdirSync(`${path}/${name}`, { recursive: true });
    for (let n = 0; n < files; n++) writeFileSync(`${path}/${name}/file-${n}`, `${name} ${n}`);
  }
}

const filesIn = (path: string) => (existsSync(path) ? readdirSync(path, { recursive: true }).length : 0);
const remove = (pair: Pair, name: string) => rmSync(pair.path('source', name), { recursive: true });
/** Moves a directory out of the source, which goes in one batch however busy the machine is. */
const moveOut = (pair: Pair, name: string) => renameSync(pair.path('source', name), pair.path(`${name}-elsewhere`));

interface TargetStatus {
  target: string;
  held: { count: number; directories: { path: string; count: number }[]; since: string } | null;
}

interface Status {
  updated: string;
  targets: TargetStatus[];
  problems: { problem: string; target?: string }[];
  watch: { in_doubt: string | null };
}

function statusOf(pair: Pair): Status {
  return JSON.parse(content(pair.path('source-status.json')));
}
const heldOn = (pair: Pair, n = 0) => statusOf(pair).targets[n]?.held;
const isHeld = (pair: Pair, files: number) => eventually(() => heldOn(pair)?.count === files);

/** Runs the program with a flag beside the service of a pair. */
function tell(pair: Pair, flag: string) {
  const env = { ...cleanEnv(), ...pair.sourceEnv, NO_COLOR: '1' };
  const { status, stdout, stderr } = spawnSync(binary('rsync-inotify'), [flag], { env, encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** Waits until a new file has arrived: what was changed before it has been dealt with by then. */
async function passes(pair: Pair, name: string, backup = 'backup'): Promise<void> {
  writeFileSync(pair.path('source', name), name);
  await eventually(() => content(pair.path(backup, name)) === name).catch((error) => {
    throw new Error(`${error}\n${pair.programs.map(({ output }) => output).join('\n---\n')}`);
  });
}

/** Waits until a watcher has its watches that was started after the last directory came: none is in doubt that may hold what is lost. */
async function isWatched(pair: Pair): Promise<void> {
  await passes(pair, `looked at ${performance.now()}`);
  const since = Date.now();
  await eventually(() => Date.parse(statusOf(pair).updated) > since && statusOf(pair).watch.in_doubt === null);
  await passes(pair, `looked at ${performance.now()}`);
}

const timesHeld = (source: Program) => count(source.output, '已暂缓删除');

describe('most of a tree that is deleted', () => {
  test.each([
    ['as a list', {}],
    ['by rules', { RSYNC_OPTS: '-avz --delete -F' }],
    ['where everything is compared each time', { RSYNC_OPTS: '-avz --delete --checksum-seed=1' }],
  ])('stays on the target while all else is mirrored, %s, until it is let through', async (_, options) => {
    await using pair = await Pair.withKeys('held');
    fill(pair.path('source'), { photos: 300, 'notes/old': 60, music: 40 });
    const { source } = await pair.run({ ...LIMITED, ...options });
    await pair.isMirrored();
    const before = filesIn(pair.path('backup'));
    for (const name of ['photos', 'notes']) remove(pair, name);
    await source.shows(
      /\[ERROR .*\] 目标上有 \d+ 个文件待删除，超出一小时内的限额 100 个.* \(MAX_DELETE=100\)，已暂缓删除/,
    );
    expect(source.output).toMatch(/主要位于 photos \(\d+\).*rsync-inotify --accept-deletions/);
    expect(source.output).toContain('docker compose exec rsync-source rsync-inotify --accept-deletions');
    await passes(pair, 'new');
    writeFileSync(pair.path('source', 'music', 'file-1'), 'changed');
    rmSync(pair.path('source', 'music', 'file-2'));
    await eventually(() => content(pair.path('backup', 'music', 'file-1')) === 'changed');
    await passes(pair, 'newer');
    // What came first may have gone in time, but never more than may.
    expect(filesIn(pair.path('backup'))).toBeGreaterThanOrEqual(before + 2 - 100);
    expect(existsSync(pair.path('backup', 'music', 'file-2'))).toBe(true);

    await eventually(() => (heldOn(pair)?.count ?? 0) >= 200); // all is counted again before long
    expect(heldOn(pair)?.directories[0]?.path).toBe('photos');
    const [{ target } = { target: '' }] = statusOf(pair).targets;
    expect(statusOf(pair).problems).toEqual([{ problem: 'deletions', target }]);
    const health = tell(pair, '--healthcheck');
    expect(health.status).toBe(1);
    expect(health.output).toContain('删除过多，已暂缓，确认后请执行 rsync-inotify --accept-deletions');
    expect(tell(pair, '--status').output).toMatch(/起暂缓删除 \d+ 个文件，主要位于 photos \(\d+\)/);

    const accepted = tell(pair, '--accept-deletions');
    expect(accepted.output).toMatch(/放行 \d+ 个文件的删除，主要位于 photos \(\d+\)/);
    expect(accepted.status).toBe(0);
    await pair.isMirrored();
    await source.shows('已没有被暂缓的删除，恢复正常同步 ✓');
    await eventually(() => tell(pair, '--healthcheck').status === 0);
    expect(heldOn(pair)).toBeNull();
  });

  test('is told once, and again what is deleted by mistake afterwards', async () => {
    await using pair = await Pair.withKeys('again');
    fill(pair.path('source'), { one: 200, two: 200, three: 50 });
    const { source } = await pair.run(LIMITED);
    moveOut(pair, 'one');
    await isHeld(pair, 201);
    for (const name of ['a', 'b', 'c']) await passes(pair, name);
    expect(timesHeld(source)).toBe(1);
    expect(tell(pair, '--accept-deletions').status).toBe(0);
    await pair.isMirrored();
    remove(pair, 'three'); // what was accepted does not count
    await pair.isMirrored();
    moveOut(pair, 'two');
    await isHeld(pair, 201);
    await passes(pair, 'd');
    expect(filesIn(pair.path('backup', 'two'))).toBe(200);
    await source.shows('（已删除 51 个）');
    expect(timesHeld(source)).toBe(2);
  });

  test('while the service is down is held by the comparison at the start, and over restarts', async () => {
    await using pair = await Pair.withKeys('down');
    fill(pair.path('source'), { photos: 300, notes: 20 });
    const { source } = await pair.run(LIMITED);
    await source.stop();
    remove(pair, 'photos');
    for (const times of [1, 2]) {
      const again = pair.start('rsync-inotify', LIMITED);
      await again.shows('✓ 服务运行中');
      await passes(pair, `after-start-${times}`);
      await again.shows('目标上有 301 个文件待删除');
      expect(filesIn(pair.path('backup', 'photos'))).toBe(300);
      await isHeld(pair, 301);
      await again.stop();
    }
    const last = pair.start('rsync-inotify', LIMITED);
    await last.shows('✓ 服务运行中');
    expect(tell(pair, '--accept-deletions').status).toBe(0);
    await pair.isMirrored();
  });

  test('by and by adds up within an hour, over a restart too', async () => {
    await using pair = await Pair.withKeys('sum');
    fill(pair.path('source'), { a: 40, b: 40, c: 40, d: 40 });
    const { source } = await pair.run(LIMITED);
    await pair.isMirrored();
    for (const name of ['a', 'b']) {
      remove(pair, name);
      await pair.isMirrored();
    }
    expect(timesHeld(source)).toBe(0);
    await source.stop();
    const again = pair.start('rsync-inotify', LIMITED);
    await again.shows('✓ 服务运行中');
    moveOut(pair, 'c');
    await again.shows('（已删除 82 个）');
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'c'))).toBe(40);
    expect(filesIn(pair.path('backup', 'a'))).toBe(0);
  });

  test('and comes back is let go by the next comparison, which says so', async () => {
    await using pair = await Pair.withKeys('restored');
    fill(pair.path('source'), { photos: 300, notes: 20 });
    const { source } = await pair.run({ ...LIMITED, FULL_SYNC_INTERVAL: '2' });
    await pair.isMirrored();
    moveOut(pair, 'photos');
    await source.shows('目标上有 301 个文件待删除');
    fill(pair.path('source'), { photos: 300 });
    await source.shows('已没有被暂缓的删除，恢复正常同步 ✓');
    remove(pair, 'notes');
    await pair.isMirrored();
  });

  test('is counted anew when more has gone, and let go when all is back, without waiting for the regular comparison', async () => {
    await using pair = await Pair.withKeys('recount');
    fill(pair.path('source'), { photos: 300, notes: 20, music: 5 });
    const { source } = await pair.run({ ...LIMITED, FULL_SYNC_INTERVAL: '0' });
    await pair.isMirrored();
    moveOut(pair, 'photos');
    await isHeld(pair, 301);
    moveOut(pair, 'notes');
    await isHeld(pair, 322);
    for (const name of ['photos', 'notes']) renameSync(pair.path(`${name}-elsewhere`), pair.path('source', name));
    await source.shows('已没有被暂缓的删除，恢复正常同步 ✓');
    await pair.isMirrored();
  });

  test('is deleted at once with MAX_DELETE=off, and where a percentage means no fewer than 1,000 files', async () => {
    for (const MAX_DELETE of ['off', '1%']) {
      await using pair = await Pair.withKeys('off');
      fill(pair.path('source'), { photos: 300, notes: 20 });
      const { source } = await pair.run({ MAX_DELETE, SYNC_INTERVAL: '0' });
      await pair.isMirrored();
      remove(pair, 'photos');
      await pair.isMirrored();
      expect(source.output).not.toMatch(/ERROR|WARN/);
    }
  });
});

describe('a directory', () => {
  test('that is moved out of the source is counted with all that was in it', async () => {
    await using pair = await Pair.withKeys('moved-out');
    fill(pair.path('source'), { photos: 300, notes: 20 });
    const { source } = await pair.run(LIMITED);
    await pair.isMirrored();
    moveOut(pair, 'photos');
    await source.shows('目标上有 301 个文件待删除');
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'photos'))).toBe(300);
    renameSync(pair.path('photos-elsewhere'), pair.path('source', 'photos'));
    await pair.isMirrored();
  });

  test.each([
    // With --out-format nothing is deleted by name.
    [
      'names are sent',
      { RSYNC_OPTS: '-a --delete --out-format=%n' },
      (pair: Pair) => rmSync(pair.path('source', 'photos', 'file-0')),
    ],
    ['all is compared', { FULL_SYNC_INTERVAL: '2' }, () => {}],
  ])(
    'that is emptied while %s is emptied on the target as far as the hour allows, and no further',
    async (_, options, start) => {
      await using pair = await Pair.withKeys('meanwhile');
      fill(pair.path('source'), { photos: 300, notes: 20 });
      const rsync = new HeldRsync(pair);
      const { source } = await pair.run({ ...LIMITED, ...options, ...rsync.env });
      await pair.isMirrored();
      rsync.hold();
      start(pair);
      await rsync.isHeld();
      for (const name of readdirSync(pair.path('source', 'photos'))) rmSync(pair.path('source', 'photos', name));
      rsync.leave();
      await source.shows('待删除的内容比预计的多，已删除 100 个后停下，重新统计');
      await source.shows('目标上有 200 个文件待删除，超出一小时内的限额 100 个（已删除 100 个）');
      await passes(pair, 'new');
      expect(filesIn(pair.path('backup', 'photos'))).toBe(200);
      expect(tell(pair, '--accept-deletions').status).toBe(0);
      await pair.isMirrored();
    },
  );

  test('that is replaced by an empty one is counted as well', async () => {
    await using pair = await Pair.withKeys('replaced');
    fill(pair.path('source'), { photos: 300, notes: 20 });
    const { source } = await pair.run(LIMITED);
    await pair.isMirrored();
    moveOut(pair, 'photos');
    mkdirSync(pair.path('source', 'photos'));
    await source.shows('目标上有 300 个文件待删除');
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'photos'))).toBe(300);
  });

  test('that is replaced by a file is counted, and what else has changed is mirrored', async () => {
    await using pair = await Pair.withKeys('replaced-by-file');
    fill(pair.path('source'), { photos: 300, notes: 20 });
    const { source } = await pair.run(LIMITED);
    await pair.isMirrored();
    moveOut(pair, 'photos');
    writeFileSync(pair.path('source', 'photos'), 'a file');
    await source.shows('目标上有 300 个文件待删除');
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'photos'))).toBe(300);
    expect(tell(pair, '--accept-deletions').status).toBe(0);
    await pair.isMirrored();
  });

  test('that nobody watches is counted when it goes', async () => {
    await using pair = await Pair.withKeys('unwatched');
    fill(pair.path('source'), { cache: 300, notes: 20 });
    const { source } = await pair.run({ ...LIMITED, WATCH_EXCLUDE: 'cache' });
    await pair.isMirrored();
    remove(pair, 'cache');
    await source.shows('目标上有 301 个文件待删除');
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'cache'))).toBe(300);
  });

  test.each([
    ['as it is on the target', {}],
    ['also where the target does not rename', { RENAME_ON_TARGET: 'false' }],
    ['also by rules', { RSYNC_OPTS: '-avz --delete -F' }],
  ])('that is renamed within the source holds nothing, %s', async (_, options) => {
    await using pair = await Pair.withKeys('renamed');
    fill(pair.path('source'), { photos: 300, 'photos/deep': 50, notes: 20 });
    const { source } = await pair.run({ ...LIMITED, ...options });
    await pair.isMirrored();
    renameSync(pair.path('source', 'photos'), pair.path('source', 'pictures'));
    await pair.isMirrored();
    mkdirSync(pair.path('source', 'archive'));
    renameSync(pair.path('source', 'pictures'), pair.path('source', 'archive', '2026'));
    await pair.isMirrored();
    await isWatched(pair);
    for (const name of readdirSync(pair.path('source', 'archive', '2026')))
      renameSync(pair.path('source', 'archive', '2026', name), pair.path('source', name));
    await pair.isMirrored();
    expect(source.output).not.toMatch(/\[ERROR/);
    expect(heldOn(pair)).toBeNull();
    fill(pair.path('source'), { few: 90 });
    await pair.isMirrored();
    await isWatched(pair); // none is in doubt any more that holds files of the same names
    moveOut(pair, 'few');
    await pair.isMirrored(); // moves have used nothing up
    await isWatched(pair);
    moveOut(pair, 'notes');
    await source.shows(/目标上有 \d+ 个文件待删除，超出一小时内的限额 100 个（已删除 \d+ 个）/);
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup', 'notes'))).toBeGreaterThanOrEqual(20 - 9); // a batch on its way may have seen it go
  });
});

describe('a source that was never seen', () => {
  test('and is nearly empty does not empty a backup that is not', async () => {
    await using pair = await Pair.withKeys('unmounted');
    fill(pair.path('backup'), { photos: 190, notes: 8 });
    writeFileSync(pair.path('source', '.gitkeep'), '');
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    expect(source.output).toMatch(/\[ERROR .*\] 目标上有 200 个文件待删除，而源目录首次见到且几乎为空，可能没有挂载/);
    await passes(pair, 'new');
    expect(filesIn(pair.path('backup'))).toBe(202);
    expect(tell(pair, '--accept-deletions').status).toBe(0);
    await pair.isMirrored();
  });

  test.each([
    ['holds most of what the backup holds', { photos: 150 }],
    ['meets an empty backup', {}],
  ])('and %s is mirrored', async (_, backup) => {
    await using pair = await Pair.withKeys('first');
    fill(pair.path('backup'), backup);
    fill(pair.path('source'), { photos: 30 });
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    await pair.isMirrored();
    expect(source.output).not.toMatch(/\[ERROR/);
  });
});

test('each of two targets has a limit, a count and a state of its own', async () => {
  await using pair = await Pair.withKeys('two');
  fill(pair.path('source'), { photos: 120, notes: 20 });
  const places = ['backup/one', 'backup/two'];
  const DEST_HOSTS = places.map((name) => `${pair.sourceEnv.DEST_HOST}:${pair.path(name)}/`).join(' ');
  fill(pair.path('backup', 'two'), { more: 400 });
  const { source } = await pair.run({ ...LIMITED, DEST_HOSTS });
  await source.shows(/目标上有 401 个文件待删除.* \[.*two\/\]/);
  await passes(pair, 'new', 'backup/one');
  await passes(pair, 'new', 'backup/two');
  await eventually(() => heldOn(pair, 1)?.count === 401);
  expect(heldOn(pair, 0)).toBeNull();
  await eventually(
    () => filesIn(pair.path('backup/two/notes')) === 20 && filesIn(pair.path('backup/two/photos')) === 120,
  );
  remove(pair, 'notes');
  await eventually(() => filesIn(pair.path('backup/one/notes')) === 0);
  await passes(pair, 'newer', 'backup/two');
  expect(filesIn(pair.path('backup/two/notes'))).toBe(20);
  expect(filesIn(pair.path('backup/two/more'))).toBe(400);
  const [one = '', two = ''] = statusOf(pair).targets.map(({ target }) => target);
  const accepted = tell(pair, '--accept-deletions');
  expect(accepted.output).toContain(`${two}: 放行`);
  expect(accepted.output).not.toContain(`${one}: 放行`);
  await eventually(() => !existsSync(pair.path('backup/two/more')) && !existsSync(pair.path('backup/two/notes')));
});

test('a comparison of all is not asked about before where the last one has told what there is', async () => {
  await using pair = await Pair.withKeys('known');
  fill(pair.path('source'), { photos: 150, notes: 20 });
  const log = pair.path('asked');
  mkdirSync(pair.path('bin'));
  const asks = 'case "$*" in *target.invalid*) ;; *--dry-run*)'; // the first one checks the options alone
  const script = `#!/bin/sh\n${asks} echo asked >>'${log}' ;; esac\nexec ${Bun.which('rsync')} "$@"\n`;
  writeFileSync(pair.path('bin', 'rsync'), script, { mode: 0o755 });
  const env = { ...LIMITED, PATH: `${pair.path('bin')}:${process.env.PATH}` };
  const { source } = await pair.run(env);
  await source.stop();
  const first = count(content(log), 'asked');
  expect(first).toBeGreaterThan(0);
  for (let times = 0; times < 2; times++) {
    writeFileSync(pair.path('backup', 'stray'), '');
    const again = pair.start('rsync-inotify', env);
    await again.shows('✓ 服务运行中');
    await again.stop();
  }
  expect(count(content(log), 'asked')).toBe(first);
});

describe('--accept-deletions', () => {
  test('says so where nothing is held', async () => {
    await using pair = await Pair.withKeys('nothing');
    await pair.run();
    expect(tell(pair, '--accept-deletions')).toEqual({ status: 0, output: '没有被暂缓的删除\n' });
    expect(statSync(pair.path('source-status.json.sock')).mode & 0o777).toBe(0o600);
  });

  test('ends with status 1 where no service runs, also where one was killed, whose socket the next one replaces', async () => {
    await using pair = await Pair.withKeys('nobody');
    expect(tell(pair, '--accept-deletions').status).toBe(1);
    expect(tell(pair, '--accept-deletions').output).toContain('服务没有运行，或 STATUS_FILE 不同');
    const { source } = await pair.run();
    await source.stop('SIGKILL');
    expect(existsSync(pair.path('source-status.json.sock'))).toBe(true);
    expect(tell(pair, '--accept-deletions').status).toBe(1);
    const again = pair.start('rsync-inotify');
    await again.shows('✓ 服务运行中');
    expect(tell(pair, '--accept-deletions').status).toBe(0);
    expect(await again.stop()).toBe(0);
    expect(existsSync(pair.path('source-status.json.sock'))).toBe(false);
    expect(tell(pair, '--accept-deletions').status).toBe(1);
  });
});
