import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Doors } from '../../../src/backup/doors.ts';
import { Held, removeTree, walkTree } from '../../../src/backup/held-tree.ts';
import { answerHistory, readTime } from '../../../src/backup/history-answers.ts';
import { Archive } from '../../../src/backup/history-archive.ts';
import { keepingOf } from '../../../src/backup/history-door.ts';
import { nameOf } from '../../../src/backup/history-names.ts';
import { Recovery } from '../../../src/backup/history-recover.ts';
import { Failure } from '../../../src/service/text.ts';
import { scratch } from '../service/scratch.ts';

const HOUR = 3_600_000;

/** A DEST_DIR with versions. */
function world() {
  const place = scratch();
  const root = join(place.path, 'backup');
  mkdirSync(join(root, '.history'), { recursive: true });
  writeFileSync(join(root, '.history', '.start-sshd'), '');
  const put = (path: string, text = path) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  /** Has what is at a path replaced or deleted, as rsync does it. */
  const keep = (name: string, path: string) => {
    mkdirSync(dirname(join(root, '.history', name, path)), { recursive: true });
    renameSync(join(root, path), join(root, '.history', name, path));
  };
  const recover = (at: number, paths: string[] = [], now = Date.now(), most?: number, name = 'to') => {
    const to = join(place.path, name, `${at}-${paths}-${most}`);
    mkdirSync(to, { recursive: true });
    using archive = new Archive(root, now);
    using recovery = new Recovery(archive, { at, to, paths }, most);
    return { ...recovery.run(), to };
  };
  return { root, place: place.path, put, keep, recover, [Symbol.dispose]: () => place[Symbol.dispose]() };
}

const tick = async () => {
  await Bun.sleep(25);
  const now = Date.now();
  await Bun.sleep(25);
  return now;
};
/** Waits until what is made now is later than what was made before, by the clock of the file system: that goes by ticks, which may be late. */
async function clockOfFilesPasses(directory: string): Promise<void> {
  const probe = join(directory, 'clock');
  const now = () => {
    writeFileSync(probe, '');
    return lstatSync(probe, { bigint: true }).ctimeNs;
  };
  for (const before = now(); now() <= before; ) await Bun.sleep(1);
}
const listing = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();

test('owners, modes, times, links, hard links and attributes come back', async () => {
  using it = world();
  it.put('d/file', 'content');
  const file = join(it.root, 'd', 'file');
  const script = `chmod 4751 ${file}; touch -d '2001-02-03 04:05:06.123456789' ${file}; setfattr -n user.x -v y ${file}; mkfifo ${it.root}/d/pipe`;
  spawnSync('sh', ['-c', script]);
  if (process.getuid?.() === 0) spawnSync('chown', ['-h', '33:44', file]);
  linkSync(file, join(it.root, 'd', 'second'));
  symlinkSync('nowhere', join(it.root, 'd', 'link'));
  mkdirSync(join(it.root, 'empty'), { mode: 0o711 });
  const before = join(it.place, 'before');
  spawnSync('cp', ['-a', it.root, before]);
  const at = await tick();
  for (const name of ['file', 'second', 'link', 'pipe']) it.keep('now-1-2', `d/${name}`);
  const { to, files, failed, plain } = it.recover(at);
  expect([files, failed.count, plain.count]).toEqual([4, 0, 0]);
  const { stdout } = spawnSync('rsync', ['-aHXincO', '--exclude=/.history', '--delete', `${before}/`, `${to}/`], {
    encoding: 'utf8',
  });
  expect(stdout).toBe('');
  expect(lstatSync(join(to, 'd', 'file'), { bigint: true }).mtimeNs % 1_000_000_000n).toBe(123_456_789n);
});

test('paths are recovered by themselves, and what was made later is left out', async () => {
  using it = world();
  it.put('web/a');
  it.put('web2/b');
  const at = await tick();
  it.put('web/later');
  expect(listing(it.recover(at, ['web']).to)).toEqual(['web', 'web/a']);
});

test('a directory that is gone has the mode that it had when something in it was replaced next', async () => {
  using it = world();
  for (const name of ['a', 'b']) it.put(`d/${name}`);
  chmodSync(join(it.root, 'd'), 0o750);
  const at = await tick();
  it.keep('done-1-2-1', 'd/a');
  chmodSync(join(it.root, '.history', 'done-1-2-1', 'd'), 0o750);
  it.keep('done-1-2-2', 'd/b');
  chmodSync(join(it.root, '.history', 'done-1-2-2', 'd'), 0o700);
  rmdirSync(join(it.root, 'd'));
  const { to } = it.recover(at);
  expect(lstatSync(join(to, 'd')).mode & 0o777).toBe(0o750);
});

test('it has that mode in whatever order what sessions have kept is met', async () => {
  using it = world();
  const sessions = Array.from({ length: 12 }, (_, n) => n + 1);
  for (const n of sessions) it.put(`d/${n}`);
  const at = await tick();
  for (const n of sessions) {
    it.keep(`done-1-2-${n}`, `d/${n}`);
    chmodSync(join(it.root, '.history', `done-1-2-${n}`, 'd'), n === 1 ? 0o750 : 0o700);
    await clockOfFilesPasses(it.place); // they were made one after the other by that, too
  }
  rmdirSync(join(it.root, 'd'));
  const mode = () => lstatSync(join(it.recover(at, [], Date.now(), undefined, `${named}`).to, 'd')).mode & 0o777;
  let named = 0;
  expect(mode()).toBe(0o750);
  for (const n of sessions) {
    const name = `${nameOf({ time: Date.now(), stamp: Date.now() })}-${sessions.length + 2 - n}`;
    renameSync(join(it.root, '.history', `done-1-2-${n}`), join(it.root, '.history', name));
    named = n;
  }
  expect(mode()).toBe(0o750);
});

test('of what all is kept that was replaced since is said, and that it may not be where it is not', async () => {
  using it = world();
  it.put('file');
  await tick();
  const { DEST_DIR, START_SSHD_HISTORY } = process.env;
  process.env.DEST_DIR = it.root;
  const ask = (at: number, to: string) =>
    answerHistory(['--recover', '--at', new Date(at).toISOString(), '--to', join(it.place, to)])?.text;
  try {
    const at = await tick();
    it.keep('done-1-2-1', 'file');
    expect(ask(at, 'unnamed')).not.toContain('可能已过期');
    renameSync(
      join(it.root, '.history', 'done-1-2-1'),
      join(it.root, '.history', nameOf({ time: Date.now(), stamp: Date.now() })),
    );
    expect(ask(at, 'named')).not.toContain('可能已过期');
    expect(ask(at - HOUR, 'before')).toContain('可能已过期');
    delete process.env.START_SSHD_HISTORY;
    keepingOf(it.root); // a session that keeps nothing
    expect(ask(at, 'off')).toContain('可能已过期');
    expect(ask(await tick(), 'after')).not.toContain('可能已过期');
  } finally {
    if (DEST_DIR === undefined) delete process.env.DEST_DIR;
    else process.env.DEST_DIR = DEST_DIR;
    if (START_SSHD_HISTORY !== undefined) process.env.START_SSHD_HISTORY = START_SSHD_HISTORY;
  }
});

test('a directory that was replaced by a file, and a file by a directory', async () => {
  using it = world();
  it.put('x/deep');
  it.put('y');
  const at = await tick();
  it.keep('now-1-2', 'x/deep');
  rmSync(join(it.root, 'x'), { recursive: true });
  it.put('x', 'a file');
  it.keep('now-1-2', 'y');
  it.put('y/deep');
  const later = await tick();
  expect(listing(it.recover(at).to)).toEqual(['x', 'x/deep', 'y']);
  expect(listing(it.recover(later).to)).toEqual(['x', 'y', 'y/deep']);
});

test('where versions were thinned out, the last one before is taken, and that is said', async () => {
  using it = world();
  it.put('file', 'first');
  it.put('sure');
  const end = await tick();
  it.keep(nameOf({ time: end, stamp: end }), 'file');
  const at = await tick();
  const now = (Math.floor(end / HOUR) + 1) * HOUR + HOUR - 1; // in the same hour, which is thinned out by now
  const { thinned, to } = it.recover(at, [], now);
  if (now - end >= HOUR) {
    expect([thinned.first, readFileSync(join(to, 'file'), 'utf8')]).toEqual([['file'], 'first']);
    expect(listing(it.recover(at + 2 * HOUR, [], now + 4 * HOUR).to)).toEqual(['sure']);
  }
  expect(listing(it.recover(at + 1).to)).toEqual(['sure']); // of the last hour all is known
});

test('what gets its name in the midst of a look is found all the same, and what was replaced meanwhile', async () => {
  using it = world();
  for (const name of ['a', 'b', 'c', 'moved/d']) it.put(name);
  writeFileSync(join(it.root, '.history', 'now-1-2.moves'), `${'0'.repeat(15)}9\0d\0e\0`);
  const at = await tick();
  it.keep('now-1-2', 'a');
  using archive = new Archive(it.root);
  const visited: string[] = [];
  const rename = (from: string, to: string) =>
    renameSync(join(it.root, '.history', from), join(it.root, '.history', to));
  const name = nameOf({ time: Date.now(), stamp: Date.now() });
  rename('now-1-2', name);
  rename('now-1-2.moves', `${name}-2.moves`);
  expect(archive.moves()).toEqual([{ time: 9, from: 'd', to: 'e' }]);
  const visit = (version: { path: string }) => void visited.push(version.path);
  archive.visitVersions(at, () => true, { version: visit, former: visit, directory: () => {} });
  expect(visited).toEqual(['a']);
  it.keep('now-3-4', 'b');
  archive.refresh();
  archive.visitVersions(at, () => true, { version: visit, former: visit, directory: () => {} });
  expect(visited.sort()).toEqual(['a', 'a', 'b']);
});

test('what is renamed between a look and the copy is found under its new name', async () => {
  using it = world();
  for (const name of ['a', 'b', 'deep/c']) it.put(`d/${name}`);
  it.put('sure');
  chmodSync(join(it.root, 'd'), 0o751);
  const at = await tick();
  const to = join(it.place, 'to');
  mkdirSync(to);
  using archive = new Archive(it.root);
  const open = archive.open.bind(archive);
  let journal = '';
  const rename = (from: string, name: string) => {
    renameSync(join(it.root, from), join(it.root, name));
    journal += `${String(at + 10 + journal.length).padStart(16, '0')}\0${from}\0${name}\0`;
    writeFileSync(join(it.root, '.history', 'now-1-2.moves'), journal);
  };
  archive.open = (origin, use) => {
    if (!journal) rename('d', 'e');
    else if (origin.isDirectory && journal.length < 30) rename('e', 'f');
    return open(origin, use);
  };
  using recovery = new Recovery(archive, { at, to, paths: [] });
  const { files, failed, plain } = recovery.run();
  expect([files, failed.count, plain.count]).toEqual([4, 0, 0]);
  expect(listing(to)).toEqual(['d', 'd/a', 'd/b', 'd/deep', 'd/deep/c', 'sure']);
  expect([lstatSync(join(to, 'd')).mode & 0o777, listing(it.root)]).toEqual([0o751, expect.arrayContaining(['f/a'])]);
});

test('what is replaced in the midst of its copy is taken from among the versions', async () => {
  using it = world();
  for (const name of ['a', 'b', 'c']) it.put(name, 'before');
  linkSync(join(it.root, 'a'), join(it.root, 'd'));
  const at = await tick();
  const to = join(it.place, 'to');
  mkdirSync(to);
  using archive = new Archive(it.root);
  const open = archive.open.bind(archive);
  const change: Record<string, () => void> = {
    a: () => it.put('a', 'after'),
    b: () => it.put('b', 'after'),
    c: () => {}, // and nothing is in its place yet
  };
  archive.open = (origin, use) =>
    open(origin, (place, status) => {
      const { [origin.location]: put } = change;
      if (put) it.keep('now-1-2', origin.location);
      put?.();
      return use(place, status);
    });
  using recovery = new Recovery(archive, { at, to, paths: [] });
  const { files, failed, plain } = recovery.run();
  expect([files, failed.count, plain.count]).toEqual([4, 0, 0]);
  expect(listing(to).map((name) => readFileSync(join(to, name), 'utf8'))).toEqual(Array(4).fill('before'));
  expect(lstatSync(join(to, 'a')).ino).toBe(lstatSync(join(to, 'd')).ino);
});

test('many paths are recovered part by part, as all at once', async () => {
  using it = world();
  const names = Array.from({ length: 60 }, (_, n) => `d${n % 7}/e${n % 3}/file${n}`);
  for (const name of names) it.put(name);
  spawnSync('chmod', ['711', join(it.root, 'd1'), join(it.root, 'd2', 'e0')]);
  const before = join(it.place, 'before');
  spawnSync('cp', ['-a', it.root, before]);
  const at = await tick();
  for (const name of names.filter((_, n) => n % 2)) it.keep('now-1-2', name);
  for (const name of names.filter((_, n) => n % 4 === 1)) it.put(name, 'later');
  const { to, files, failed, plain } = it.recover(at, [], Date.now(), 5);
  expect([files, failed.count, plain.count]).toEqual([60, 0, 0]);
  const args = ['-rlpgonic', '--exclude=/.history', '--delete', `${before}/`, `${to}/`];
  expect(spawnSync('rsync', args, { encoding: 'utf8' }).stdout).toBe('');
});

test('names and paths are as long as they may be', async () => {
  using it = world();
  const long = Array.from({ length: 15 }, (_, n) => String(n % 10).repeat(255)).join('/'); // 3839 bytes
  const inside = (path: string, ...words: string[]) => spawnSync(words[0] ?? '', words.slice(1), { cwd: path });
  inside(it.root, 'mkdir', '-p', long);
  inside(it.root, 'sh', '-c', `echo content > ${long}/file`);
  const at = await tick();
  inside(join(it.root, '.history'), 'mkdir', '-p', `now-1-2/${long}`);
  inside(it.root, 'mv', `${long}/file`, `.history/now-1-2/${long}/file`);
  const place = 'p'.repeat(240); // with which it is longer than the kernel takes
  const { files, failed, to } = it.recover(at, [], Date.now(), undefined, place);
  expect([files, failed.count]).toEqual([1, 0]);
  expect(inside(to, 'cat', `${long}/file`).stdout.toString()).toBe('content\n');
});

test('a tree is walked as deep as a path may lead', () => {
  using it = world();
  spawnSync('mkdir', ['-p', Array.from({ length: 1500 }, () => 'd').join('/')], { cwd: it.root });
  using top = Held.open(it.root);
  let deepest = 0;
  walkTree(top, ({ path }) => {
    deepest = Math.max(deepest, path.split('/').length);
  });
  expect(deepest).toBe(1500);
  removeTree(top, 'd', () => {});
  expect(readdirSync(it.root)).toEqual(['.history']);
});

test('what a source has put among the versions is none', async () => {
  using it = world();
  it.put('sure');
  const at = await tick();
  const early = nameOf({ time: at - 1000, stamp: at - 1000 });
  it.put(`.history/${early}/forged`);
  expect(listing(it.recover(at - 2000).to)).toEqual([]);
});

test('times are read as the log shows them, and in ISO 8601', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  expect(readTime('2025-10-09 12:00:05', now)).toBe(new Date(2025, 9, 9, 12, 0, 5).getTime());
  expect(readTime('2025-10-09 12:00', now)).toBe(new Date(2025, 9, 9, 12, 0).getTime());
  expect(readTime('2025-10-09', now)).toBe(new Date(2025, 9, 9).getTime());
  expect(readTime('2025-10-09T12:00:05.250Z', now)).toBe(Date.UTC(2025, 9, 9, 12, 0, 5, 250));
  expect(readTime('2025-10-09T12:00:05+0800', now)).toBe(Date.UTC(2025, 9, 9, 4, 0, 5));
  expect(readTime('2999-01-01', now)).toBe(now);
  for (const wrong of ['', 'now', '2025-02-30', '2025-13-01', '2025-10-09 25:00', '12:00'])
    expect(() => readTime(wrong, now)).toThrow('应为本地时间');
});

test.each([
  [['--recover', '--at', '2025-10-09']],
  [['--recover', '--to', '/tmp/x']],
  [['--recover', '--history']],
  [['--history', 'a', 'b']],
  [['--history', '/etc']],
  [['--history', '--at', '2025-10-09']],
  [['--recover', '--wrong']],
])('%p is a mistake of usage', (args) => {
  using it = world();
  const { DEST_DIR } = process.env;
  process.env.DEST_DIR = it.root;
  try {
    answerHistory(args);
    expect('nothing').toBe('a failure');
  } catch (cause) {
    expect([cause instanceof Failure, (cause as Failure).status]).toEqual([true, 2]);
  } finally {
    if (DEST_DIR === undefined) delete process.env.DEST_DIR;
    else process.env.DEST_DIR = DEST_DIR;
  }
});

test('nothing is recovered into a directory that is not empty, or into the backup', () => {
  using it = world();
  const { DEST_DIR } = process.env;
  process.env.DEST_DIR = it.root;
  try {
    const ask = (to: string) => () => answerHistory(['--recover', '--at', '2025-10-09', '--to', to]);
    expect(ask(it.place)).toThrow('请给出一个空目录');
    expect(ask(join(it.root, 'new'))).toThrow('请给出一个空目录');
    expect(ask(join(it.place, 'new'))).not.toThrow();
  } finally {
    if (DEST_DIR === undefined) delete process.env.DEST_DIR;
    else process.env.DEST_DIR = DEST_DIR;
  }
});

test('of several sources one is named, and nothing is recovered into the directory of any of them', () => {
  using it = world();
  const { DEST_DIR, HOST_KEY_DIR } = process.env;
  Object.assign(process.env, { DEST_DIR: it.place, HOST_KEY_DIR: it.place });
  const doors = new Doors({ DEST_DIR: it.place, HOST_KEY_DIR: it.place });
  const own = basename(it.root);
  const ask = (...args: string[]) => {
    const failure = (cause: unknown) => (cause as Failure).message;
    try {
      return answerHistory(args)?.text ?? '';
    } catch (cause) {
      return failure(cause);
    }
  };
  const recover = (to: string) => ask('--recover', '--source', own, '--at', '2025-10-09', '--to', to);
  try {
    mkdirSync(join(it.place, 'web2'));
    it.put('web/file');
    it.keep('done-1-2-1', 'web/file');
    expect(ask('--history', '--source', own)).not.toContain('没有名为'); // that of a disk from elsewhere
    for (const name of [own, 'web2']) doors.add(name);
    expect(ask('--history')).toContain(`请用 --source 指明一个：${[own, 'web2'].join('、')}`);
    expect(ask('--history', '--source', 'web3')).toContain(`没有名为 web3 的源端。已知的源端：${own}、web2`);
    for (const wrong of ['..', '../place', 'web2/..', ''])
      expect(ask('--history', '--source', wrong)).toContain('没有名为');
    expect(ask('--history', '--source', 'web2')).toBe('没有旧版本\n');
    expect(ask('--history', join(it.place, 'web2'), '--source', own)).toContain('不在 DEST_DIR');
    expect(answerHistory(['--history', 'web', '--source', own])?.text).toBe('');
    for (const to of ['web2/new', `${own}/new`]) expect(recover(join(it.place, to))).toContain('下一次镜像会删除它');
    expect(recover(join(it.place, 'new'))).toContain('已把');
    doors.remove('web2');
    expect(answerHistory(['--history'])?.text).toBe(''); // of the only one
  } finally {
    for (const [name, value] of Object.entries({ DEST_DIR, HOST_KEY_DIR }))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  }
});

test('other flags are left to others', () => {
  expect(answerHistory(['--status'])).toBeUndefined();
  expect(answerHistory([])).toBeUndefined();
});
