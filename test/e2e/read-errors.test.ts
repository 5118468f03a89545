/** What cannot be read is no reason to delete its copy: closed directories, broken disks, and files that vanish on the way. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { statusOf } from '../command.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { isRoot, ordinaryUser, Pair } from '../pair.ts';
import { count, eventually, type Program } from '../processes.ts';

setDefaultTimeout(180_000);

/** Options under which a batch is sent as a list, by rules, and by comparing everything. */
const METHODS = [
  ['a list', '-avz --delete'],
  ['rules', '-avz --delete -F'],
  ['comparisons of everything', '-avz --delete --checksum-seed=1'],
] as const;

const FAILED = '同步失败 (退出码: 23)';
const namesIn = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();

/** Makes files below a directory, each with its path in it. */
function fill(root: string, ...paths: string[]): void {
  for (const path of paths) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), path);
  }
}

/** Waits until one more sync has failed for what it could not read, and everything was compared so many times more. */
async function failsAgain(source: Program, times = 2): Promise<void> {
  const counts = () => [count(source.output, FAILED), count(source.output, '触发定期全量同步')] as const;
  const [failed, compared] = counts();
  await eventually(() => counts()[0] > failed && counts()[1] >= compared + times, 70_000).catch((cause) => {
    throw new Error(`${cause}\n${source.output}`);
  });
}

/** Deletes a file where all can be read, and sees that it is deleted on the backup. */
async function deletionIsMirrored(pair: Pair, path: string): Promise<void> {
  expect(namesIn(pair.path('backup'))).toContain(path);
  rmSync(pair.path('source', path));
  await eventually(() => !namesIn(pair.path('backup')).includes(path));
}

const mayBeAnother = isRoot && Bun.which('useradd') !== null;
if (!mayBeAnother) console.log('SKIPPED: directories that cannot be read (needs root and useradd)');

describe.skipIf(!mayBeAnother)('directories that an ordinary user cannot read', () => {
  /** How each is closed: not at all to be entered, its names without its files, its files without its names. */
  const CLOSED = { closed: 0o000, names: 0o444, files: 0o111 };
  const NAMES = Object.keys(CLOSED);
  const close = (pair: Pair) => {
    for (const [name, mode] of Object.entries(CLOSED)) {
      chownSync(pair.path('source', name), 0, 0);
      chmodSync(pair.path('source', name), mode);
    }
  };
  const keptIn = (pair: Pair) => NAMES.map((name) => [name, ...namesIn(pair.path('backup', name))]);

  test.each(METHODS)('keep their copies in all syncs, also with --ignore-errors: %s', async (...given) => {
    const RSYNC_OPTS = `--ignore-errors ${given[1]}`;
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('closed', user);
    fill(pair.path('source'), ...NAMES.flatMap((name) => [`${name}/one`, `${name}/deep/two`]));
    fill(pair.path('source'), 'open/one', 'open/two', 'open/three', 'stays');
    spawnSync('chown', ['-R', `${user.name}:`, pair.path('source')]);
    const env = { RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '2' };
    const { source } = await pair.run(env);
    expect(source.output).toMatch(/\[WARN .*--ignore-errors 未采用/);
    const before = keptIn(pair);
    expect(before).toEqual(NAMES.map((name) => [name, 'deep', 'deep/two', 'one']));

    close(pair);
    await failsAgain(source);
    for (const name of NAMES) {
      rmSync(pair.path('source', name, 'deep'), { recursive: true }); // whoever may
      fill(pair.path('source', name), 'passing');
      rmSync(pair.path('source', name, 'passing'));
    }
    await failsAgain(source, 3);
    expect(keptIn(pair)).toEqual(before);
    await deletionIsMirrored(pair, 'open/one');
    await failsAgain(source);
    expect(keptIn(pair)).toEqual(before);

    expect(await source.stop()).toBe(0);
    const next = pair.start('rsync-inotify', env);
    await next.shows('首次全量同步未能传输全部文件');
    await next.shows('✓ 服务运行中');
    await failsAgain(next);
    await deletionIsMirrored(pair, 'open/two');
    expect(keptIn(pair)).toEqual(before);

    for (const name of NAMES) {
      chownSync(pair.path('source', name), user.uid, user.gid);
      chmodSync(pair.path('source', name), 0o755);
    }
    await pair.isMirrored();
    expect(keptIn(pair)).toEqual(NAMES.map((name) => [name, 'one']));
    expect(namesIn(pair.path('backup', 'open'))).toEqual(['three']);
  });

  test.each(METHODS)('and are moved at once keep their copies until they can be read: %s', async (_, options) => {
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('closed-moved', user);
    fill(pair.path('source'), 'd/closed/a', 'e/secret', 'f/b', 'g/closed/c');
    const { source } = await pair.run({ RSYNC_OPTS: `${options} --no-owner --no-group`, SYNC_INTERVAL: '1' });
    const at = (path: string) => pair.path('source', path);
    chmodSync(at('d/closed'), 0o700);
    chmodSync(at('e/secret'), 0o600);
    for (const name of ['d', 'e']) renameSync(at(name), at(`new-${name}`));
    chmodSync(at('g/closed'), 0o700);
    renameSync(at('f/b'), at('g/closed/b'));
    await source.shows('无法同步 new-d/closed：');
    await source.shows('无法同步 new-e/secret：');
    fill(pair.path('source'), 'last');
    await eventually(() => namesIn(pair.path('backup')).includes('last'));
    const kept = namesIn(pair.path('backup')).filter((path) => /(closed\/.|secret|f\/b)$/.test(path));
    expect(kept.map((path) => path.replace(/^new-/, '')).sort()).toEqual([
      'd/closed/a',
      'e/secret',
      'f/b',
      'g/closed/c',
    ]);
    for (const path of ['new-d/closed', 'new-e/secret', 'g/closed']) chmodSync(at(path), 0o755);
    await eventually(() => namesIn(pair.path('backup')).join() === namesIn(pair.path('source')).join());
  });
});

describe.skipIf(!mayBeAnother)('the root of a disk, for an ordinary user', () => {
  test('has a lost+found that is left out, said once, and is no reason to keep what was deleted', async () => {
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('lost-found', user);
    fill(pair.path('source'), 'one', 'two', 'lost+found/chain');
    fill(pair.path('backup'), 'gone', 'lost+found/kept');
    spawnSync('chown', ['-R', `${user.name}:`, pair.path('source'), pair.path('backup')]);
    spawnSync('chown', ['-R', '0:0', pair.path('source', 'lost+found')]);
    chmodSync(pair.path('source', 'lost+found'), 0o700);
    const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '1' });
    await eventually(() => namesIn(pair.path('backup')).join() === 'lost+found,lost+found/kept,one,two');
    rmSync(pair.path('source', 'two'));
    await eventually(() => !namesIn(pair.path('backup')).includes('two'));
    await eventually(() => count(source.output, '触发定期全量同步') >= 2);
    expect(count(source.output, 'lost+found 是文件系统自用的目录')).toBe(1);
    expect(count(source.output, FAILED)).toBe(0);
    expect(source.output).toContain('首次全量同步完成 ✓');
    expect(source.output).not.toContain('无法同步');
  });
});

/** Whether this machine lets a test have a damaged disk. */
function mayHaveDisk(): boolean {
  if (!mayHaveNamespace() || !Bun.which('debugfs')) return false;
  const directory = mkdtempSync(join(tmpdir(), 'disk-'));
  const script = 'cd "$1"; truncate -s 4M img; mkfs.ext4 -q img; mkdir m; mount -o loop img m';
  const args = ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', directory];
  const { status } = spawnSync('unshare', args);
  rmSync(directory, { recursive: true });
  return status === 0;
}

const isPossible = mayHaveDisk();
if (!isPossible) console.log('SKIPPED: broken disks (needs mount namespaces, loop devices and debugfs)');

describe.skipIf(!isPossible).concurrent('a disk below the source that is broken', () => {
  const FILES = ['broken/deep/two', 'broken/one', 'whole/deep/two', 'whole/one'];
  const PATHS = [...FILES, 'broken', 'broken/deep', 'whole', 'whole/deep'].sort();
  /** A file system that reports a broken directory: without checksums, ext4 shows an empty one in its place, without a word. */
  const MAKE = `truncate -s 16M "$1"; mkfs.ext4 -q -b 1024 -O metadata_csum,dir_index "$1"; mount -o loop "$1" "$2"
    cd "$2"; for file in ${FILES.join(' ')}; do mkdir -p "$(dirname $file)"; echo >$file; done`;
  const BLOCK = `$(debugfs -R 'blocks /broken' "$1" 2>/dev/null | tr -d ' ')`;
  const NOISE = `dd if=/dev/urandom of="$1" bs=1024 seek="${BLOCK}" count=1 conv=notrunc status=none`;
  /** While it is mirrored, it is held; an rsync that has it in a namespace of its own holds it a moment longer. */
  const UNMOUNT =
    'until umount "$2" 2>/dev/null; do sleep 0.05; done; while losetup -j "$1" | grep -q .; do sleep 0.05; done';
  /** How a directory is broken while its disk is not mounted, and what one hears who looks into it. */
  const DAMAGES = {
    names: [`${NOISE}; mount -o loop,errors=continue "$1" "$2"`, 'Bad message'],
    place: [
      'debugfs -w -R "set_inode_field /broken block[0] 0" "$1" >/dev/null 2>&1; mount -o loop,errors=continue "$1" "$2"',
      'Structure needs cleaning',
    ],
    device: [`at=${BLOCK}; mount -o loop,ro "$1" "$2"; truncate -s "$((at * 1024))" "$1"`, 'Input/output error'],
  } as const;

  /** A pair whose source has such a disk, which is mirrored. */
  async function withDisk(options: string) {
    const pair = await Pair.withKeys('broken');
    const namespace = await Namespace.make();
    const [image, disk, copy] = [pair.path('image'), pair.path('source', 'disk'), pair.path('backup', 'disk')];
    mkdirSync(disk);
    fill(pair.path('source'), 'open/one', 'open/two', 'open/three');
    namespace.run(MAKE, image, disk);
    pair.start('start-sshd');
    const RSYNC_OPTS = `${options} --exclude=lost+found --ignore-errors`;
    const env = { RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '2' };
    const start = async () => {
      const program = pair.start('rsync-inotify', env, namespace.wrapper);
      await program.shows('✓ 服务运行中');
      return program;
    };
    const source = await start();
    expect(namesIn(copy)).toEqual(PATHS);
    const damage = ([script, said]: readonly [string, string]) => {
      namespace.run(`${UNMOUNT}; ${script}`, image, disk);
      expect(() => namespace.run('ls "$1"', `${disk}/broken`)).toThrow(said);
    };
    return {
      ...{ pair, namespace, source, start, image, disk, copy, damage },
      async [Symbol.asyncDispose]() {
        await pair[Symbol.asyncDispose]();
        await namespace[Symbol.asyncDispose]();
      },
    };
  }
  const lostOf = (copy: string) => PATHS.filter((path) => path.startsWith('broken') && !namesIn(copy).includes(path));

  test.each(METHODS)('keeps the copies of what it does not tell any more: %s', async (...given) => {
    const [, options] = given;
    await using bed = await withDisk(options);
    const { pair, namespace, source, start, image, disk, copy, damage } = bed;
    damage(DAMAGES.names);
    await failsAgain(source);
    await deletionIsMirrored(pair, 'open/one');
    namespace.run('echo more >"$1/whole/more"; rm "$1/whole/one"', disk);
    await eventually(() => namesIn(copy).includes('whole/more'));
    await failsAgain(source);
    expect(lostOf(copy)).toEqual([]);

    expect(await source.stop()).toBe(0);
    const next = await start();
    await failsAgain(next);
    await deletionIsMirrored(pair, 'open/two');
    expect(lostOf(copy)).toEqual([]);

    namespace.run(`${UNMOUNT}; e2fsck -fy "$1" >/dev/null 2>&1 || true; mount -o loop "$1" "$2"`, image, disk);
    namespace.run('rm -rf "$1/broken"', disk);
    await eventually(() => !namesIn(copy).some((path) => path.startsWith('broken')));
    expect(namesIn(copy)).toEqual(['whole', 'whole/deep', 'whole/deep/two', 'whole/more']);
    expect(namesIn(pair.path('backup', 'open'))).toEqual(['three']);
  });

  test.each(['place', 'device'] as const)('keeps the copy of a directory that has lost its %s', async (what) => {
    await using bed = await withDisk('-av --delete');
    const { pair, source, copy, damage } = bed;
    damage(DAMAGES[what]);
    await failsAgain(source);
    fill(pair.path('source'), 'open/four');
    await eventually(() => namesIn(pair.path('backup')).includes('open/four'));
    rmSync(pair.path('source', 'open', 'four'));
    await failsAgain(source);
    expect(namesIn(copy)).toEqual(PATHS);
  });
});

describe.concurrent('files that vanish while they are read', () => {
  test.each(METHODS)('take nothing along: %s', async (...given) => {
    await using pair = await Pair.withKeys('vanish');
    const at = (name: string) => pair.path('source', 'busy', name);
    const lasting = Array.from({ length: 150 }, (_, n) => `lasting${n}`);
    fill(pair.path('source', 'busy'), ...lasting);
    const RSYNC_OPTS = `${given[1]} --ignore-errors`;
    const env = { RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0.5', MAX_DELETE: 'off' };
    await pair.run(env);
    let lost: string[] = [];
    let passing = 0;
    const end = performance.now() + 8000;
    const syncs = () => {
      const { full, incremental } = statusOf(pair).targets[0].syncs;
      return full.success + incremental.success;
    };
    while (performance.now() < end || passing <= 1000 || syncs() <= 10) {
      for (let n = 0; n < 20; n++) {
        const name = `passing${passing++}`;
        writeFileSync(at(name), name);
        if (n % 4 === 0)
          renameSync(at(name), at(`lasting${passing % lasting.length}`)); // as editors save
        else if (n % 4 === 1) mkdirSync(at(`deep${name}/deeper`), { recursive: true });
        if (passing > 60) rmSync(at(`passing${passing - 60}`), { force: true });
        if (passing > 60) rmSync(at(`deeppassing${passing - 60}`), { force: true, recursive: true });
      }
      await sleep(3);
      const there = new Set(readdirSync(pair.path('backup', 'busy')));
      lost = [...lost, ...lasting.filter((name) => !there.has(name))];
    }
    expect(lost).toEqual([]);
    for (const name of namesIn(at('')).filter((path) => /^(deep)?passing\d+$/.test(path)))
      rmSync(at(name), { recursive: true });
    await pair.isMirrored();
    expect(namesIn(pair.path('backup', 'busy'))).toEqual(lasting.sort());
    unlinkSync(at('lasting0'));
    await eventually(() => !namesIn(pair.path('backup', 'busy')).includes('lasting0'));
  });
});
