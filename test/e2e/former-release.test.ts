/** A former release on either side, before an upgrade, between its two halves, and after a downgrade: FORMER_RELEASE is where its binaries are. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tell } from '../command.ts';
import { Pair } from '../pair.ts';
import { content, eventually, type Program } from '../processes.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(180_000);

const FORMER = process.env.FORMER_RELEASE ?? '';

/** Has a pair start the program of the former release. */
const FORMERLY = ['sh', '-c', 'exec "$0/$(basename "$1")"', FORMER];

type Release = 'former' | 'new';

/** A pair of which each side may be of another release. */
class Mixed {
  private turn = 0;

  constructor(readonly pair: Pair) {}

  startBackup(release: Release, env: Record<string, string> = {}): Program {
    return this.pair.start('start-sshd', env, release === 'former' ? FORMERLY : []);
  }

  async startSource(release: Release, env: Record<string, string> = {}): Promise<Program> {
    const given = { SYNC_INTERVAL: '0.2', FULL_SYNC_INTERVAL: '0', ...env };
    const source = this.pair.start('rsync-inotify', given, release === 'former' ? FORMERLY : []);
    await source.shows('✓ 服务运行中');
    return source;
  }

  /** Does some of what is done in a tree, and waits until the backup is the same. */
  async work(): Promise<void> {
    const { pair } = this;
    const at = (name: string) => pair.path('source', name);
    const turn = ++this.turn;
    mkdirSync(at(`d${turn}/sub`), { recursive: true });
    for (const name of ['one', 'two', 'sub/three']) writeFileSync(at(`d${turn}/${name}`), `${name} ${turn}`);
    await this.isMirrored();
    renameSync(at(`d${turn}`), at(`renamed${turn}`));
    writeFileSync(at(`renamed${turn}/one`), 'written again');
    rmSync(at(`renamed${turn}/two`));
    await this.isMirrored();
  }

  /** Waits until both sides are the same, but for older versions, which a former release does not know. */
  isMirrored(): Promise<true> {
    const { pair } = this;
    return eventually(() => expectEqual(pair.path('source'), pair.path('backup'), ['--exclude=/.history']));
  }

  /** What makes the two sides know each other: none of it may ever be made anew. */
  keys(): Record<string, string> {
    const places = ['source-ssh', 'host-keys', 'backup-ssh'].map((name) => this.pair.path(name));
    const files = places.flatMap((place) => readdirSync(place).map((name) => `${place}/${name}`));
    const keys = files.filter((file) => /\/(id_rsa|ssh_host_\w+_key)(\.pub)?$/.test(file));
    return Object.fromEntries(keys.map((file) => [file, readFileSync(file, 'utf8')]));
  }
}

const faultsOf = (program: Program) => program.lines.filter((line) => line.startsWith('[ERROR'));

describe.skipIf(FORMER === '')('a former release', () => {
  test('is followed by this one in its place, and follows it again: nothing is lost, and no key is made anew', async () => {
    await using pair = await Pair.make('former');
    const mixed = new Mixed(pair);
    let keys: Record<string, string> | undefined;
    for (const release of ['former', 'new', 'former', 'new'] as const) {
      const backup = mixed.startBackup(release);
      const source = await mixed.startSource(release);
      await mixed.isMirrored(); // what has changed while neither ran
      await mixed.work();
      keys ??= mixed.keys();
      expect(Object.keys(keys).length).toBeGreaterThanOrEqual(8);
      expect(mixed.keys()).toEqual(keys);
      expect(await source.stop()).toBe(0);
      expect(await backup.stop()).toBe(0);
      expect([...faultsOf(source), ...faultsOf(backup)]).toEqual([]);
      rmSync(pair.path('source', 'renamed1'), { recursive: true, force: true });
      writeFileSync(pair.path('source', 'meanwhile'), release);
    }
    expect(content(pair.path('backup', 'renamed4', 'one'))).toBe('written again');
  });

  test.each([
    ['source', 'former', 'new'],
    ['backup', 'new', 'former'],
  ] as const)('as the %s works with this one at the other side', async (_, sourceRelease, backupRelease) => {
    await using pair = await Pair.make('former-mixed');
    const mixed = new Mixed(pair);
    const backup = mixed.startBackup(backupRelease);
    const source = await mixed.startSource(sourceRelease);
    await mixed.work();
    await mixed.work();
    expect([...faultsOf(source), ...faultsOf(backup)]).toEqual([]);
    if (sourceRelease === 'new') expect(tell(pair, '--verify').status).toBe(0);
  });

  test('is replaced on the backup, and there alone, while its source runs on, and back', async () => {
    await using pair = await Pair.make('former-rolling');
    const mixed = new Mixed(pair);
    let backup = mixed.startBackup('former');
    await mixed.startSource('former');
    await mixed.work();
    for (const release of ['new', 'former', 'new'] as const) {
      await backup.stop();
      writeFileSync(pair.path('source', 'meanwhile'), release);
      backup = mixed.startBackup(release);
      await mixed.work();
      expect(content(pair.path('backup', 'meanwhile'))).toBe(release);
    }
  });

  test('finds in its place what this one has left, where many deletions wait: they wait no longer, and all else is as ever', async () => {
    await using pair = await Pair.make('former-held');
    const mixed = new Mixed(pair);
    for (let n = 0; n < 30; n++) writeFileSync(pair.path('source', `many${n}`), '');
    let backup = mixed.startBackup('new', { HISTORY_DAYS: '3' });
    let source = await mixed.startSource('new', { MAX_DELETE: '10' });
    await mixed.work();
    for (let n = 0; n < 30; n++) rmSync(pair.path('source', `many${n}`));
    await source.shows('已暂缓');
    await source.stop();
    await backup.stop();
    backup = mixed.startBackup('new', { HISTORY_DAYS: '3' });
    source = await mixed.startSource('new', { MAX_DELETE: '10' });
    await source.shows('已暂缓');
    expect(readdirSync(pair.path('backup')).filter((name) => name.startsWith('many'))).toHaveLength(30);
    await source.stop();
    await backup.stop();
    mixed.startBackup('former');
    await mixed.startSource('former');
    await eventually(() => !readdirSync(pair.path('backup')).some((name) => name.startsWith('many')));
    await mixed.work();
    expect(existsSync(pair.path('backup', '.history'))).toBe(false); // which the page on upgrades warns of
  });
});

test.skipIf(FORMER === '')('the former release is another one', () => {
  const { stdout } = spawnSync(`${FORMER}/start-sshd`, ['--version'], { encoding: 'utf8' });
  expect(stdout).toMatch(/^start-sshd \d+\.\d+\.\d+\n$/);
});
