/** What must never happen: a backup that loses what the source has only seemingly lost. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Model } from '../model.ts';
import { Pair } from '../pair.ts';
import { content, count, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const KEPT = ['deep', 'deep/file', 'file'];
const namesIn = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();

function fill(path: string): void {
  mkdirSync(`${path}/deep`, { recursive: true });
  writeFileSync(`${path}/file`, 'content');
  writeFileSync(`${path}/deep/file`, 'content');
}

describe('an empty source at the start', () => {
  test('does not empty the backup', async () => {
    await using pair = await Pair.withKeys('empty');
    fill(pair.path('backup'));
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify');
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] 源目录为空而备份不为空.*ALLOW_EMPTY_SOURCE=true/);
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
  });

  test('is one that holds no more than each new file system, which counts on the backup as nothing', async () => {
    await using pair = await Pair.make('new-disk');
    fill(pair.path('backup'));
    for (const side of ['source', 'backup']) mkdirSync(pair.path(side, 'lost+found'));
    pair.start('start-sshd');
    expect(await pair.start('rsync-inotify').exited).toBe(1);
    expect(namesIn(pair.path('backup'))).toEqual([...KEPT, 'lost+found']);
    for (const name of ['file', 'deep']) rmSync(pair.path('backup', name), { recursive: true });
    rmSync(pair.path('source', 'lost+found'), { recursive: true });
    await pair.start('rsync-inotify').shows('✓ 服务运行中');
  });

  test('empties it with ALLOW_EMPTY_SOURCE=true', async () => {
    await using pair = await Pair.withKeys('emptied');
    fill(pair.path('backup'));
    await pair.run({ ALLOW_EMPTY_SOURCE: 'true' });
    expect(namesIn(pair.path('backup'))).toEqual([]);
  });

  test.each(['-av', '-av --delay-updates'])('is no obstacle where options delete nothing: %s', async (RSYNC_OPTS) => {
    await using pair = await Pair.withKeys('no-delete');
    fill(pair.path('backup'));
    await pair.run({ RSYNC_OPTS, SYNC_INTERVAL: '0' });
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    writeFileSync(pair.path('source', 'more'), '');
    await eventually(() => namesIn(pair.path('backup')).includes('more'));
    expect(namesIn(pair.path('backup'))).toEqual([...KEPT, 'more']);
  });

  test('ends the start, and says why, where it cannot be known whether the backup is empty', async () => {
    await using pair = await Pair.withKeys('unknown');
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { DEST_DIR: '/elsewhere/' });
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(
      /\[ERROR .*无法确定备份是否为空 \(退出码: 12，start-sshd: 拒绝执行：\/elsewhere\/ 不在/,
    );
  });

  test.each(['empty', 'missing'])('is no obstacle where the backup is %s', async (state) => {
    await using pair = await Pair.withKeys('both-empty');
    if (state === 'empty') mkdirSync(pair.path('backup'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    expect(source.output).not.toMatch(/ERROR|WARN/);
    writeFileSync(pair.path('source', 'file'), 'first');
    await pair.isMirrored();
  });
});

describe('a source directory that is moved away while the service runs', () => {
  test.each([
    ['an empty directory', '已不是启动时的目录'],
    ['nothing', '不见了'],
  ])('leaves the backup as it is with %s in its place, and goes on when it is back', async (replacement, words) => {
    await using pair = await Pair.withKeys('moved');
    fill(pair.path('source'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '1' });
    renameSync(pair.path('source'), pair.path('away'));
    if (replacement !== 'nothing') mkdirSync(pair.path('source'));
    await source.shows(new RegExp(`\\[ERROR .*\\] 源目录 .* ${words}，为保护备份拒绝同步`));
    const offset = source.output.length;
    writeFileSync(pair.path('away', 'meanwhile'), 'content');
    await sleep(2500);
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    expect(source.output.slice(offset)).not.toContain('同步成功');

    if (replacement !== 'nothing') rmdirSync(pair.path('source'));
    renameSync(pair.path('away'), pair.path('source'));
    await eventually(() => content(pair.path('backup', 'meanwhile')) === 'content');
    await source.shows('监控已恢复', offset);
    writeFileSync(pair.path('source', 'deep', 'file'), 'changed afterwards');
    rmSync(pair.path('source', 'file'));
    await pair.isMirrored();
  });
});

describe('a source that is really emptied while the service runs', () => {
  test('is mirrored like any other change, and there is nothing to refuse afterwards', async () => {
    await using pair = await Pair.withKeys('cleared');
    fill(pair.path('source'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '3' });
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    for (const name of readdirSync(pair.path('source'))) rmSync(pair.path('source', name), { recursive: true });
    await eventually(() => namesIn(pair.path('backup')).length === 0);
    const comparisons = count(source.output, '触发定期全量同步');
    await eventually(() => count(source.output, '触发定期全量同步') >= comparisons + 2);
    writeFileSync(pair.path('source', 'file'), 'new');
    await pair.isMirrored();
    expect(source.output).not.toMatch(/ERROR|WARN/);
  });
});

/** Mounts, undone at the end even while they are in use. */
class Mounts implements Disposable {
  private readonly points: string[] = [];

  mount(point: string, ...args: string[]): boolean {
    this.points.push(point);
    return spawnSync('sh', ['-c', 'mount "$@"', 'sh', ...args, point]).status === 0;
  }

  detach(point: string): void {
    spawnSync('sh', ['-c', 'umount -l "$1"', 'sh', point]);
  }

  [Symbol.dispose](): void {
    for (const point of this.points.reverse()) this.detach(point);
  }
}

const TMPFS = ['-t', 'tmpfs', 'tmpfs'];

async function mayMount(): Promise<boolean> {
  await using pair = await Pair.withKeys('mount');
  using mounts = new Mounts();
  return mounts.mount(pair.path('source'), ...TMPFS);
}

describe('a source that is mounted', async () => {
  test.skipIf(!(await mayMount()))('is missed, not mirrored, while it is not (needs mounts)', async () => {
    await using pair = await Pair.withKeys('mounted');
    using mounts = new Mounts();
    const volume = pair.path('volume');
    mkdirSync(volume);
    mounts.mount(volume, ...TMPFS);
    fill(`${volume}/data`);
    mounts.mount(pair.path('source'), '--bind', `${volume}/data`);
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '1' });
    mounts.detach(pair.path('source'));
    await source.shows(/\[ERROR .*\] 源目录 .* 已不是启动时的目录，为保护备份拒绝同步/);
    let offset = source.output.length;
    writeFileSync(`${volume}/data/meanwhile`, 'content');
    await sleep(2500);
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    expect(source.output.slice(offset)).not.toContain('同步成功');

    mounts.mount(pair.path('source'), '--bind', `${volume}/data`);
    await pair.isMirrored();
    rmSync(pair.path('source', 'meanwhile'));
    await pair.isMirrored();

    mounts.detach(pair.path('source'));
    mounts.mount(pair.path('source'), ...TMPFS);
    writeFileSync(pair.path('source', 'other'), 'of another volume');
    await source.shows('已不是启动时的目录', source.output.length);
    offset = source.output.length;
    await sleep(2500);
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    expect(source.output.slice(offset)).not.toContain('同步成功');
    expect(source.running).toBe(true);
  });
});

/** An rsync that begins a full sync only when it may. */
const HELD_RSYNC = (rsync: string, hold: string) => `#!/bin/sh
case "$*" in
  *target.invalid*|*--files-from=-*) ;;
  *) while [ -e '${hold}' ]; do touch '${hold}.on'; sleep 0.05; done ;;
esac
exec ${rsync} "$@"
`;

describe('a source that is replaced', () => {
  test('or gone is told as such, and not by an exit status that rsync has not had', async () => {
    await using pair = await Pair.withKeys('gone');
    fill(pair.path('source'));
    const { source } = await pair.run({ SYNC_INTERVAL: '0' });
    const statusOf = () => JSON.parse(content(pair.path('source-status.json'))).targets[0];
    await eventually(() => statusOf().last_exit_code === 0 && statusOf().syncs.full.success === 1);
    renameSync(pair.path('source'), pair.path('elsewhere'));
    writeFileSync(pair.path('elsewhere', 'file'), 'new');
    await source.shows(/\[ERROR .*\] 源目录 .* 不见了，为保护备份拒绝同步/);
    await eventually(() => statusOf().state === 'retrying');
    expect(statusOf()).toMatchObject({ last_exit_code: null, up: true });
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
    renameSync(pair.path('elsewhere'), pair.path('source'));
    await pair.isMirrored();
    await eventually(() => statusOf().last_exit_code === 0);
  });

  test('after it was checked, when rsync has not looked at it yet, is mirrored as it was', async () => {
    await using pair = await Pair.withKeys('replaced');
    fill(pair.path('source'));
    mkdirSync(pair.path('bin'));
    const hold = pair.path('hold');
    writeFileSync(pair.path('bin', 'rsync'), HELD_RSYNC(Bun.which('rsync') ?? '', hold), { mode: 0o755 });
    const PATH = `${pair.path('bin')}:${process.env.PATH}`;
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0.5', PATH });
    writeFileSync(hold, '');
    await eventually(() => existsSync(`${hold}.on`));
    const offset = source.output.length;
    renameSync(pair.path('source'), pair.path('elsewhere'));
    mkdirSync(pair.path('source'));
    rmSync(hold);
    await source.shows(/同步(成功|失败)/, offset);
    await source.shows(/\[ERROR .*已不是启动时的目录，为保护备份拒绝同步/, offset);
    expect(namesIn(pair.path('backup'))).toEqual(KEPT);
  });
});

/** An rsync that tells when it starts to work, which is when it has all names, and when it ends. */
const TELLING_RSYNC = (rsync: string, log: string) => `#!/bin/sh
case "$*" in
  *target.invalid*) exec ${rsync} "$@" ;;
  *--files-from=-*) names='${log}'.$$; cat > "$names" ;;
  *) names=/dev/null ;;
esac
echo start >> '${log}'
${rsync} "$@" < "$names"
status=$?
echo end >> '${log}'
exit "$status"
`;

describe('rsyncs', () => {
  test('that work for one backup take turns', async () => {
    await using pair = await Pair.withKeys('turns');
    mkdirSync(pair.path('bin'));
    mkdirSync(pair.path('outside'));
    const log = pair.path('log');
    const script = TELLING_RSYNC(Bun.which('rsync') ?? '', log);
    writeFileSync(pair.path('bin', 'rsync'), script, { mode: 0o755 });
    const PATH = `${pair.path('bin')}:${process.env.PATH}`;
    await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0.5', PATH });
    const model = new Model(Date.now() % 1_000_000, pair.path('source'), pair.path('outside'));
    const stepsTaken = () => readFileSync(log, 'utf8').trim().split('\n');
    for (let ms = 0; ms < 6000 || stepsTaken().length <= 20; ms += 2000) await model.work(2000);
    await pair.isMirrored();
    const steps = stepsTaken();
    expect(steps.length).toBeGreaterThan(20);
    expect(steps.filter((step, n) => step !== (n % 2 === 0 ? 'start' : 'end'))).toEqual([]);
  });
});
