import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { canAsk } from '../../src/backup/seccomp.ts';
import { startedBy } from '../../src/service/processes.ts';
import { isRoot, Pair } from '../pair.ts';
import { eventually } from '../processes.ts';
import { binary } from '../project.ts';
import { sendAgain } from '../rogue-client.ts';
import { run, Thief } from '../thief.ts';

/** How long it is raced, ms. */
const RACE_MS = 3000;

/** Asks the backup's program about older versions. */
function ask(pair: Pair, ...args: string[]) {
  const env = { ...process.env, ...pair.backupEnv };
  const { status, stdout, stderr } = spawnSync(binary('start-sshd'), args, { env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

const history = (pair: Pair) => pair.path('backup', '.history');
/** All files that are kept, with what is in them. */
const versions = (pair: Pair): string[] =>
  readdirSync(history(pair), { recursive: true, withFileTypes: true, encoding: 'utf8' })
    .filter((it) => it.isFile() && !it.name.startsWith('.'))
    .map((it) => {
      const path = join(it.parentPath, it.name).slice(history(pair).length + 1);
      return `${path.slice(path.indexOf('/') + 1)}=${readFileSync(join(it.parentPath, it.name), 'utf8')}`;
    })
    .sort();
const isSettled = (pair: Pair) =>
  eventually(() => existsSync(history(pair)) && !readdirSync(history(pair)).some((name) => /^(now|done)-/.test(name)));

test('what is overwritten, deleted and renamed comes back as it was at a time', async () => {
  await using pair = await Pair.withKeys('history');
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  const source = pair.path('source');
  const write = (path: string, text: string) => {
    mkdirSync(join(source, path, '..'), { recursive: true });
    writeFileSync(join(source, path), text);
  };
  write('a', 'one');
  write('d/e/f', 'deep');
  symlinkSync('a', join(source, 'link'));
  const mirror = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  await mirror.shows('✓ 服务运行中');
  const moments: { at: string; copy: string }[] = [];
  const work: (() => void)[] = [
    () => {},
    () => write('a', 'two and more'),
    () => renameSync(join(source, 'd'), join(source, 'moved')),
    () => write('moved/e/f', 'deep, changed'),
    () => rmSync(join(source, 'moved'), { recursive: true }),
    () => {
      rmSync(join(source, 'a'));
      write('a/now', 'a directory');
    },
    () => rmSync(join(source, 'link')),
    () => {
      write('b', 'replaced by a rename');
      write('c', 'renamed');
    },
    () => renameSync(join(source, 'c'), join(source, 'b')),
  ];
  for (const [n, step] of work.entries()) {
    step();
    await eventually(() => expectEqualBut(pair));
    await Bun.sleep(30); // the kernel's clock for files goes in steps
    const copy = pair.path(`copy-${n}`);
    spawnSync('cp', ['-a', source, copy]);
    moments.push({ at: new Date().toISOString(), copy });
    await Bun.sleep(30);
  }
  for (const [n, { at, copy }] of moments.entries()) {
    const to = pair.path(`recovered-${n}`);
    const { status, stdout, stderr } = ask(pair, '--recover', '--at', at, '--to', to);
    expect([n, status, stderr, status === 0 ? '' : stdout]).toEqual([n, 0, '', '']);
    expect(stdout).toContain('已把');
    expectFiles(copy, to);
  }
  expect(ask(pair, '--history', 'a').stdout).toMatch(/\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +3 B +a\n/);
  const verified = spawnSync(binary('rsync-inotify'), ['--verify'], {
    env: { ...process.env, ...pair.sourceEnv },
    encoding: 'utf8',
  });
  expect([verified.status, verified.stdout]).toEqual([0, expect.not.stringContaining('.history')]);
  await isSettled(pair);
  await eventually(() => ask(pair, '--status').stdout.includes('保留 1 天'));
  expect(backup.output).not.toContain('history.');
}, 90_000);

/** Whether both hold the same, but for the versions. */
function expectEqualBut(pair: Pair): boolean {
  const { stdout, status } = spawnSync(
    'rsync',
    ['-ain', '--delete', '--exclude=/.history', `${pair.path('source')}/`, `${pair.path('backup')}/`],
    {
      encoding: 'utf8',
    },
  );
  return status === 0 && !stdout.split('\n').some((line) => line && !/^\.d/.test(line));
}

/** Two trees hold the same files; directories that were empty, and their times, are not known. */
function expectFiles(a: string, b: string): void {
  const { stdout } = spawnSync('rsync', ['-rlptgoniOc', '--delete', '-m', `${a}/`, `${b}/`], { encoding: 'utf8' });
  expect(stdout).toBe('');
}

test('a thief destroys no version', async () => {
  await using pair = await Pair.withKeys('history-thief');
  const thief = new Thief(pair);
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  await backup.shows('等待连接');
  const at = `${thief.host}:${pair.path('backup')}`;
  const own = pair.path('own');
  const empty = pair.path('empty');
  mkdirSync(empty);
  mkdirSync(join(own, 'd'), { recursive: true });
  const put = (text: string, path = 'file') => writeFileSync(join(own, path), text);
  put('good');
  put('good', 'd/file');
  expect((await thief.rsync('-a', `${own}/`, `${at}/`)).status).toBe(0);
  for (let n = 0; n < 3; n++) {
    put(`bad ${n}`);
    utimesSync(join(own, 'file'), 4_000_000_000 + n, 4_000_000_000 + n);
    expect((await thief.rsync('-a', `${own}/`, `${at}/`)).status).toBe(0);
  }
  expect(versions(pair)).toContain('file=good');
  for (const how of ['--delete-excluded', '--delete-delay']) {
    const wipe = await thief.rsync('-a', how, '-f', 'R /.history', '--force', '--ignore-errors', `${empty}/`, at);
    expect([how, wipe.status, wipe.stderr]).toEqual([how, 0, '']);
    expect(readdirSync(pair.path('backup'))).toEqual(['.history']);
    expect((await thief.rsync('-a', `${own}/`, `${at}/`)).status).toBe(0);
  }
  expect(versions(pair)).toEqual(expect.arrayContaining(['d/file=good', 'file=good', 'file=bad 1', 'file=bad 2']));
  await isSettled(pair);
  const before = versions(pair);
  symlinkSync('.history', join(own, 'way'));
  expect((await thief.rsync('-a', `${own}/`, `${at}/`)).status).toBe(0);
  for (const there of ['way/', '.history/new']) {
    const { status, stderr } = await thief.rsync('-a', `${own}/`, `${at}/${there}`);
    expect([there, status === 0, stderr]).toEqual([there, false, expect.stringContaining('保存旧版本')]);
  }
  const inPlace = await thief.rsync('-a', '--inplace', `${own}/`, `${at}/`);
  expect(inPlace.stderr).toContain('HISTORY_DAYS');
  expect(before.filter((it) => !versions(pair).includes(it))).toEqual([]);
  // With the path in what is sent, an rsync would write there: it is refused, or what it moves is put back.
  const forged = pair.path('forged');
  for (const name of readdirSync(history(pair)).filter((it) => /^\d/.test(it))) {
    mkdirSync(join(forged, '.history', name), { recursive: true });
    writeFileSync(join(forged, '.history', name, 'file'), 'forged');
  }
  const isGuarded = canAsk();
  expect((await thief.rsync('-aI', `${forged}/`, `${at}/`)).status).toBe(isGuarded ? 23 : 0);
  await isSettled(pair);
  await eventually(() => before.every((it) => versions(pair).includes(it)));
  await backup.shows(isGuarded ? '不能移动、替换或删除' : '已放回原处');
  if (isGuarded) await changeAttributes(pair, thief);
  const words = [...thief.sshOptions, thief.host, 'start-sshd', '--rename', pair.path('backup')];
  const renamed = await run(
    'ssh',
    words,
    `.history/${readdirSync(history(pair)).find((name) => /^\d/.test(name))}/file\0gone\0`,
  );
  expect(renamed).toEqual({ status: 0, stdout: '0\n', stderr: '' });
}, 90_000);

/** What can be changed of versions without writing into them; ctime tells of all else. */
const attributes = (pair: Pair) =>
  readdirSync(history(pair), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('file'))
    .sort()
    .map((name) => [name, lstatSync(join(history(pair), name), { bigint: true }).ctimeNs]);

/** Sends what has size and time of versions, but nothing else of theirs, and gives versions a name elsewhere. */
async function changeAttributes(pair: Pair, thief: Thief): Promise<void> {
  const copy = pair.path('copy');
  spawnSync('rsync', ['-a', '--include=/.history', '--exclude=/*', `${pair.path('backup')}/`, `${copy}/`]);
  rmSync(join(copy, '.history', '.start-sshd'));
  const first = readdirSync(join(copy, '.history')).find((name) => existsSync(join(copy, '.history', name, 'file')));
  linkSync(join(copy, '.history', String(first), 'file'), join(copy, 'second-name'));
  const before = attributes(pair);
  const at = `${thief.host}:${pair.path('backup')}/`;
  expect((await thief.rsync('-aH', `${copy}/`, at)).status).toBe(23);
  spawnSync('chmod', ['-R', '0704', copy]);
  if (isRoot) spawnSync('chown', ['-R', '12345:12345', copy]);
  const changed = await thief.rsync('-a', '--exclude=/second-name', `${copy}/`, at);
  expect([changed.status, changed.stderr]).toEqual([23, expect.stringContaining('Permission denied')]);
  expect(attributes(pair)).toEqual(before);
  expect(lstatSync(history(pair)).mode & 0o777).toBe(0o700);
}

test.skipIf(!canAsk())(
  'a client of its own takes no version away either',
  async () => {
    await using pair = await Pair.withKeys('history-rogue');
    const thief = new Thief(pair);
    const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
    await backup.shows('等待连接');
    const directory = `${pair.path('backup')}/`;
    const now = () => readFileSync(join(directory, 'file'), 'utf8');
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'file'), 'good');
    const contents = ['first', 'second', 'third'];
    await sendAgain(thief, { directory, name: 'file', contents }, () => eventually(() => now() === 'third'));
    await isSettled(pair);
    expect(versions(pair)).toEqual(['file=first', 'file=good', 'file=second']);
    const [kept = ''] = readdirSync(history(pair)).filter((it) => versionIn(pair, it) === 'good');
    const name = `.history/${kept}/file`;
    await sendAgain(thief, { directory, name, contents }, (said) =>
      eventually(() => said().includes('Permission denied')),
    );
    await backup.shows('不能移动、替换或删除');
    const before = attributes(pair);
    const change = { contents: [], options: ['-rpt', '--size-only'], status: { size: 4, mode: 0o100000 } };
    const answer = await sendAgain(thief, { directory, name, ...change }, (it) =>
      eventually(() => it().includes('/file')),
    );
    expect(answer).toContain('Permission denied');
    expect([versionIn(pair, kept), attributes(pair)]).toEqual(['good', before]);
  },
  60_000,
);

const versionIn = (pair: Pair, name: string) => {
  const path = join(history(pair), name, 'file');
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
};

test('a thief who races destroys no version', async () => {
  await using pair = await Pair.withKeys('history-race');
  const thief = new Thief(pair);
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  await backup.shows('等待连接');
  const at = `${thief.host}:${pair.path('backup')}`;
  const [plain, link] = [pair.path('plain'), pair.path('link')];
  for (const directory of [join(plain, 'way', 'x'), link]) mkdirSync(directory, { recursive: true });
  for (const text of ['good', 'bad']) {
    writeFileSync(join(plain, 'file'), text);
    expect((await thief.rsync('-aI', `${plain}/`, `${at}/`)).status).toBe(0);
  }
  await isSettled(pair);
  const [kept = ''] = readdirSync(history(pair)).filter((name) => versionIn(pair, name) === 'good');
  symlinkSync('.history', join(link, 'way'));
  mkdirSync(join(plain, 'way', kept));
  writeFileSync(join(plain, 'way', kept, 'file'), 'forged');
  const end = performance.now() + RACE_MS;
  const repeat = async (...args: string[]) => {
    while (performance.now() < end) await thief.rsync(...args);
  };
  await Promise.all([
    repeat('-a', '--delete', '--force', `${link}/`, `${at}/`),
    repeat('-aI', `${plain}/way`, `${at}/`),
    repeat('-aI', '--delete', `${plain}/way/`, `${at}/way/`),
  ]);
  expect(versionIn(pair, kept)).toBe('good');
}, 60_000);

test.skipIf(!isRoot)('a full disk loses no version, and the mirror goes no further', async () => {
  await using pair = await Pair.withKeys('history-full');
  const thief = new Thief(pair);
  mkdirSync(pair.path('backup'));
  spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', pair.path('backup')]);
  try {
    const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
    await backup.shows('等待连接');
    mkdirSync(pair.path('own'));
    const send = async (text: string) => {
      writeFileSync(pair.path('own', 'file'), text);
      return (await thief.rsync('-a', '--delete', `${pair.path('own')}/`, `${thief.host}:${pair.path('backup')}/`))
        .status;
    };
    expect(await send('good')).toBe(0);
    const bad = 'x'.repeat(900_000);
    const answers = [await send(`1${bad}`), await send(`22${bad}`), await send(`333${bad}`)];
    expect(answers.at(-1)).not.toBe(0);
    await eventually(() => ask(pair, '--healthcheck').status === 1);
    expect(versions(pair)).toContain('file=good');
    expect(readFileSync(pair.path('backup', 'file'), 'utf8')).toMatch(/^(1|22)x+$/);
  } finally {
    await Promise.all(pair.programs.map((program) => program.stop()));
    spawnSync('umount', [pair.path('backup')]);
  }
});

test('what was kept stays protected when nothing more is kept', async () => {
  await using pair = await Pair.withKeys('history-off');
  const thief = new Thief(pair);
  mkdirSync(join(history(pair), '20251009T120000.000Z'), { recursive: true });
  writeFileSync(join(history(pair), '.start-sshd'), '');
  writeFileSync(join(history(pair), '20251009T120000.000Z', 'file'), 'good');
  mkdirSync(pair.path('empty'));
  const backup = pair.start('start-sshd');
  await backup.shows('等待连接');
  const wipe = await thief.rsync('-a', '--delete', `${pair.path('empty')}/`, `${thief.host}:${pair.path('backup')}/`);
  expect(wipe.status).toBe(0);
  expect(versions(pair)).toEqual(['file=good']);
});

test('two sources below one DEST_DIR have versions of their own, and neither touches those of the other', async () => {
  await using pair = await Pair.withKeys('history-two');
  pair.start('start-sshd', { HISTORY_DAYS: '1' });
  const file = (name: string) => pair.path(`source-${name}`, 'd', 'file');
  const there = (name: string) => pair.path('backup', name, 'd', 'file');
  const { DEST_HOST = '' } = pair.sourceEnv;
  const targets = {
    a: { DEST_DIR: pair.path('backup', 'a/') },
    b: { DEST_HOSTS: `${DEST_HOST}:${pair.path('backup', 'b/')}` },
  };
  for (const [name, target] of Object.entries(targets)) {
    mkdirSync(pair.path(`source-${name}`, 'd'), { recursive: true });
    writeFileSync(file(name), `first ${name}`);
    const own = { SOURCE_DIR: pair.path(`source-${name}/`), STATUS_FILE: pair.path(`status-${name}.json`) };
    const source = pair.start('rsync-inotify', { ...own, ...target, SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
  }
  await Bun.sleep(30); // the kernel's clock for files goes in steps
  const at = new Date().toISOString();
  await Bun.sleep(30);
  rmSync(pair.path('source-b', 'd'), { recursive: true });
  await eventually(() => !existsSync(pair.path('backup', 'b', 'd')));
  writeFileSync(file('a'), 'second a, which is longer');
  await eventually(() => readFileSync(there('a'), 'utf8').startsWith('second'));
  expect(versions(pair)).toEqual(['a/d/file=first a', 'b/d/file=first b']);
  const recovered = (...paths: string[]) => {
    const to = pair.path(`recovered-${paths.length}`);
    expect(ask(pair, '--recover', ...paths, '--at', at, '--to', to)).toMatchObject({ status: 0, stderr: '' });
    return ['a', 'b'].map((name) => {
      const path = join(to, name, 'd', 'file');
      return existsSync(path) && readFileSync(path, 'utf8');
    });
  };
  expect(recovered()).toEqual(['first a', 'first b']);
  expect(recovered('b')).toEqual([false, 'first b']);
}, 60_000);

test('what is too old goes while the mirror goes on, also where that takes for ever', async () => {
  await using pair = await Pair.withKeys('history-busy');
  mkdirSync(pair.path('backup'));
  for (let n = 0; n < 40; n++) {
    const old = join(history(pair), `20251009T1200${n + 10}.000Z`);
    mkdirSync(old, { recursive: true });
    for (let file = 0; file < 200; file++) writeFileSync(join(old, `${file}`), 'old');
  }
  writeFileSync(join(history(pair), '.start-sshd'), '');
  const file = pair.path('source', 'file');
  writeFileSync(file, 'one');
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
  let tender: number | undefined;
  for (; !tender; tender = startedBy(backup.pid ?? 0).find(isTender)) await Bun.sleep(2);
  process.kill(tender, 'SIGSTOP');
  const left = versions(pair).length;
  expect(left).toBeGreaterThan(0);
  await source.shows('✓ 服务运行中');
  for (const text of ['two, longer', 'three, even longer']) {
    writeFileSync(file, text);
    await eventually(() => readFileSync(pair.path('backup', 'file'), 'utf8') === text);
  }
  expect(versions(pair).length).toBe(left + 2);
  process.kill(tender, 'SIGCONT');
  await eventually(() => versions(pair).join() === 'file=one,file=two, longer');
}, 60_000);

/** Whether a process tends versions. */
function isTender(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('--tend-history');
  } catch {
    return false; // it has ended
  }
}
