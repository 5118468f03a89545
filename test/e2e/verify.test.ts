import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { isRoot, ordinaryUser, Pair } from '../pair.ts';
import { eventually, processesWith } from '../processes.ts';
import { bytes, namesIn } from '../tree.ts';

setDefaultTimeout(120_000);

const start = (pair: Pair, env: Record<string, string> = {}) =>
  pair.start('rsync-inotify', env, ['sh', '-c', 'exec "$0" --verify']);

/** Runs a comparison: its exit status, its first line and those that follow, which tell the differences. */
async function verify(pair: Pair, env: Record<string, string> = {}) {
  const program = start(pair, env);
  const status = await program.exited;
  const [headline = '', ...differences] = program.output.trimEnd().split('\n');
  return { status, headline, differences };
}

const nameOf = ({ sourceEnv: { DEST_HOST, DEST_DIR } }: Pair) => `${DEST_HOST}:${DEST_DIR}`;

/** A source, the backup that a plain rsync makes of it, and a host that serves the backup. No service mirrors anything. */
async function mirrored(name: string, fill: (pair: Pair) => void, env = {}): Promise<Pair> {
  const pair = await Pair.withKeys(name);
  for (const directory of ['backup', 'shared']) mkdirSync(pair.path(directory));
  fill(pair);
  spawnSync('rsync', ['-aH', `${pair.path('source')}/`, `${pair.path('backup')}/`]);
  const publicKey = spawnSync('ssh-keygen', ['-y', '-f', pair.path('source-ssh', 'id_rsa')]).stdout;
  writeFileSync(pair.path('shared', 'id_rsa.pub'), publicKey);
  await pair.start('start-sshd', env).shows('SSH 服务器就绪');
  return pair;
}

/** All that can be seen of both trees, but when they were read. */
function stateOf(pair: Pair): string[] {
  const visit = (path: string): string[] => {
    const { ino, mode, uid, size, nlink, mtimeNs, ctimeNs } = lstatSync(bytes(path), { bigint: true });
    const names = (mode & 0o170000n) === 0o040000n ? namesIn(path) : [];
    return [
      [path, ino, mode, uid, size, nlink, mtimeNs, ctimeNs].join(' '),
      ...names.flatMap((name) => visit(`${path}/${name}`)),
    ];
  };
  return ['source', 'backup'].flatMap((root) => visit(pair.path(root)));
}

/** When all that the tests prepare was changed last, s since 1970. */
const THEN = 1_000_000_000;

function age(...paths: string[]): void {
  spawnSync('find', [...paths, '-exec', 'touch', '--no-dereference', `--date=@${THEN}`, '{}', '+']);
}

/** Changes what a file holds, but neither its size nor its time. */
function damage(path: string | Buffer): void {
  writeFileSync(path, Buffer.alloc(statSync(path).size, '!'));
  utimesSync(path, THEN, THEN);
}

/** Does that again and again until it is disposed of. */
function meanwhile(work: (n: number) => void): Disposable {
  let n = 0;
  const timer = setInterval(() => work(n++), 10);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

/** Says what a service would say of its target, again and again. */
const pretend = (pair: Pair, tell: (n: number) => object) =>
  meanwhile((n) => {
    const target = { target: nameOf(pair), up: true, mirrored: true, oldest_pending: null, ...tell(n) };
    const status = { program: 'rsync-inotify', phase: 'mirroring', source_found: true, updated: new Date() };
    const where = { source: pair.sourceEnv.SOURCE_DIR, watch: { running: true, in_doubt: null }, targets: [target] };
    writeFileSync(pair.path('new-status'), JSON.stringify({ ...status, ...where }));
    renameSync(pair.path('new-status'), pair.path('source-status.json'));
  });

/** Names as bytes, and as they are shown. */
const ODD_NAMES = {
  'line\nbreak': 'line\\nbreak',
  '\\#012 as it is': '\\\\#012 as it is',
  ' space ': ' space ',
  'tab\t': 'tab\\t',
  'no \xff\xfe': 'no \\xff\\xfe',
  '\x1b[31mred': '\\x1b[31mred',
  '\xe4\xb8\xad': '中',
};

/** Differences of all kinds. */
function differ(pair: Pair): string[] {
  const backup = (name: string) => pair.path('backup', name);
  damage(backup('content'));
  writeFileSync(backup('longer'), 'more words');
  rmSync(backup('missing'));
  rmSync(backup('tree'), { recursive: true });
  mkdirSync(backup('extra'));
  writeFileSync(backup('extra/deep'), '');
  chmodSync(backup('mode'), 0o600);
  utimesSync(backup('time'), 1, 1);
  rmSync(backup('type'));
  mkdirSync(backup('type'));
  rmSync(backup('link'));
  symlinkSync('elsewhere', backup('link'));
  age(backup('link'));
  if (isRoot) chownSync(backup('owner'), 1, 0);
  for (const name of Object.keys(ODD_NAMES)) damage(bytes(backup(name)));
  utimesSync(pair.path('backup'), THEN, THEN);
  return [
    ...[
      '内容不同 content',
      '内容不同 (大小、时间) longer',
      '缺少 missing',
      '缺少 tree/',
      '缺少 tree/deep',
      '多余 extra/',
      '多余 extra/deep',
    ],
    ...['属性不同 (权限) mode', '属性不同 (时间) time', '缺少 type', '属性不同 (链接目标) link'],
    ...(isRoot ? ['属性不同 (属主) owner'] : []),
    ...Object.values(ODD_NAMES).map((name) => `内容不同 ${name}`),
  ].map((line) => `  ${line}`);
}

function fillForAll(pair: Pair): void {
  const source = (...path: string[]) => pair.path('source', ...path);
  const names = ['same', 'content', 'longer', 'missing', 'mode', 'time', 'type', 'owner'];
  for (const name of names) writeFileSync(source(name), name);
  for (const name of Object.keys(ODD_NAMES)) writeFileSync(bytes(source(name)), 'words');
  mkdirSync(source('tree'));
  writeFileSync(source('tree', 'deep'), 'words');
  symlinkSync('somewhere', source('link'));
  age(source());
}

describe.concurrent('beside the running service', () => {
  /** Rewrites files, makes and removes others, and renames them to and fro. */
  const churn = (pair: Pair) => {
    mkdirSync(pair.path('source', 'busy'));
    return meanwhile((n) => {
      const at = (name: string | number) => pair.path('source', 'busy', String(name));
      writeFileSync(at('log'), `${n}\n`, { flag: 'a' });
      writeFileSync(at(n % 50), `words ${n}`);
      writeFileSync(at('new.tmp'), `${n}`);
      if (n % 3 === 0) renameSync(at('new.tmp'), at('new'));
      if (n % 7 === 0) rmSync(at((n + 20) % 50), { force: true });
      writeFileSync(pair.path('source', `top-${n % 5}`), `${n}`);
    });
  };
  const fill = (pair: Pair) => {
    for (let n = 0; n < 50; n++) writeFileSync(pair.path('source', `quiet-${n}`), `words ${n}`);
  };

  /** Waits until a file that goes is taken for no name of another one: until then each one has all compared, which mends damage. */
  const knowsNames = (pair: Pair) =>
    eventually(async () => {
      const at = (tree: string) => pair.path(tree, 'calm', 'gone');
      writeFileSync(at('source'), 'words');
      await eventually(() => existsSync(at('backup')));
      writeFileSync(pair.path('backup', 'extra'), 'not from us');
      writeFileSync(at('source'), 'other words');
      rmSync(at('source'));
      await eventually(() => !existsSync(at('backup')));
      return existsSync(pair.path('backup', 'extra'));
    });

  test('changes on their way are no differences, however often one looks', async () => {
    await using pair = await Pair.withKeys('verify-busy');
    fill(pair);
    await pair.run({ SYNC_INTERVAL: '3' });
    using _ = churn(pair);
    for (let n = 0; n < 2; n++) {
      const { status, headline, differences } = await verify(pair, { SYNC_INTERVAL: '3' });
      expect({ status, headline, differences }).toMatchObject({ status: 0, differences: [] });
    }
  });

  test('a change that the watcher has missed is none either, until the next watcher has come', async () => {
    await using pair = await Pair.withKeys('verify-missed');
    const first = pair.path('first');
    const watcher = [
      '#!/bin/sh',
      'case "$*" in *" -r "*) ;; *) exec /usr/bin/inotifywait "$@" ;; esac', // it is asked first what may be watched
      `if mkdir '${first}' 2>/dev/null; then /usr/bin/inotifywait "$@" | sed -zu /unseen/d; exit; fi`,
      'sleep 14; exec /usr/bin/inotifywait "$@"',
    ];
    mkdirSync(pair.path('bin'));
    writeFileSync(pair.path('bin', 'inotifywait'), watcher.join('\n'), { mode: 0o755 });
    await pair.run({ SYNC_INTERVAL: '0', PATH: `${pair.path('bin')}:${process.env.PATH}` });
    mkdirSync(pair.path('source', 'new'));
    await eventually(() => existsSync(pair.path('backup', 'new')));
    writeFileSync(pair.path('source', 'new', 'unseen'), 'words');
    const { status, headline, differences } = await verify(pair);
    expect({ status, headline, differences }).toMatchObject({ status: 0, differences: [] });
    expect(existsSync(pair.path('backup', 'new', 'unseen'))).toBe(true);
  });

  const cases = [
    [2, 'nothing can be told', () => {}, []],
    [1, 'damage is still damage', (pair: Pair) => damage(pair.path('backup', 'content')), ['  内容不同 content']],
  ] as const;
  test.each(cases)('that gets nowhere, exit status %i: %s', async (expected, _, change, listed) => {
    await using pair = await mirrored('verify-stuck', fillForAll);
    const since = Date.now() + 1500;
    await eventually(() => Date.now() > since); // the service may tell of a change a second late
    writeFileSync(pair.path('source', 'same'), 'changed');
    change(pair);
    using _service = pretend(pair, () => ({ state: 'retrying', oldest_pending: new Date(since).toISOString() }));
    await eventually(() => existsSync(pair.path('source-status.json')));
    const { status, headline, differences } = await verify(pair, { SYNC_INTERVAL: '0' });
    expect({ status, differences }).toEqual({ status: expected, differences: [...listed] });
    expect(headline).toEndWith('：1 处差异未列出，可能是服务还没有同步的变化，请用 --status 查看');
  });

  test('that writes all the time, damage is told, but not the times of directories, which change with each sync', async () => {
    await using pair = await mirrored('verify-syncing', fillForAll);
    damage(pair.path('backup', 'content'));
    utimesSync(pair.path('backup', 'tree'), 1, 1);
    using _service = pretend(pair, (n) => ({ state: n % 2 ? 'syncing' : 'idle', syncs: n }));
    await eventually(() => existsSync(pair.path('source-status.json')));
    const { status, headline, differences } = await verify(pair, { SYNC_INTERVAL: '0' });
    expect({ status, differences }).toEqual({ status: 1, differences: ['  内容不同 content'] });
    expect(headline).toEndWith('：另有 1 个路径一直在变化，未作判断');
  });

  test('damage is told, and nothing else', async () => {
    await using pair = await Pair.withKeys('verify-damage');
    fill(pair);
    mkdirSync(pair.path('source', 'calm'));
    await pair.run({ SYNC_INTERVAL: '0.5' });
    await knowsNames(pair);
    const { mtime } = statSync(pair.path('backup', 'quiet-7'));
    writeFileSync(pair.path('backup', 'quiet-7'), 'WORDS 7');
    spawnSync('touch', ['-r', pair.path('source', 'quiet-7'), pair.path('backup', 'quiet-7')]);
    expect(statSync(pair.path('backup', 'quiet-7')).mtime).toEqual(mtime);
    rmSync(pair.path('backup', 'quiet-8'));
    writeFileSync(pair.path('backup', 'extra'), 'not from us');
    spawnSync('touch', ['-r', pair.path('source'), pair.path('backup')]);
    using _ = churn(pair);
    const { status, differences } = await verify(pair, { SYNC_INTERVAL: '0.5' });
    expect({ status, differences }).toEqual({
      status: 1,
      differences: ['  多余 extra', '  内容不同 quiet-7', '  缺少 quiet-8'],
    });
  });
});

describe.concurrent('a comparison', () => {
  test('tells that all is equal, and makes it no different', async () => {
    await using pair = await mirrored('verify-equal', fillForAll);
    const before = stateOf(pair);
    const { status, headline, differences } = await verify(pair);
    expect({ status, differences }).toEqual({ status: 0, differences: [] });
    expect(headline).toMatch(/ 相同 \(19 个文件，耗时: \d+秒\)$/);
    expect(headline).toStartWith(nameOf(pair));
    expect(stateOf(pair)).toEqual(before);
    expect(existsSync(pair.path('source-status.json'))).toBe(false);
  });

  test('finds differences of all kinds, whatever rsync is asked to say and do, and makes them no different', async () => {
    await using pair = await mirrored('verify-kinds', fillForAll);
    const expected = differ(pair);
    const before = stateOf(pair);
    for (const options of [
      '-avz --delete',
      '-aqz --delete --quiet',
      '-avvviiPh8 --delete --stats --info=all4 --debug=all2 --out-format=%n%L',
      '-av --delete --msgs2stderr',
      '-a --delete --stderr all',
      '-aW --delete-delay --delay-updates --backup --backup-dir=old --max-delete=1 --timeout=1 --fsync',
      "-a --delete --ignore-times --exclude='/no*such*'",
    ]) {
      const { status, headline, differences } = await verify(pair, { RSYNC_OPTS: options });
      expect([options, differences.sort()]).toEqual([options, expected.sort()]);
      expect(headline).toContain(` 不同 (${expected.length} 处差异，19 个文件，`);
      expect(status).toBe(1);
    }
    expect(stateOf(pair)).toEqual(before);
  });

  const rules: [string, string, (pair: Pair) => void, string[]][] = [
    ['no extra files without --delete', '-a', ({ path }) => writeFileSync(path('backup', 'extra'), ''), []],
    [
      'nothing that is excluded',
      "-a --delete --exclude='*.tmp'",
      ({ path }) => {
        for (const name of ['source/a.tmp', 'backup/b.tmp']) writeFileSync(path(name), 'words');
        writeFileSync(path('backup', 'b'), 'words');
      },
      ['  多余 b'],
    ],
    [
      'neither times nor modes where these are not kept',
      '-rl --delete',
      ({ path }) => {
        chmodSync(path('backup', 'same'), 0o600);
        utimesSync(path('backup', 'mode'), 1, 1);
        damage(path('backup', 'time'));
      },
      ['  内容不同 time'],
    ],
    [
      'names of one file that have become two not',
      '-a --delete',
      ({ path }) => {
        rmSync(path('backup', 'linked'));
        copyFileSync(path('backup', 'same'), path('backup', 'linked'));
        age(path('backup'));
      },
      [],
    ],
    ['no names of one file that are still one with -H', '-aHii --delete', () => {}, []],
    [
      'them with -H',
      '-aH --delete',
      ({ path }) => {
        rmSync(path('backup', 'linked'));
        copyFileSync(path('backup', 'same'), path('backup', 'linked'));
        age(path('backup'));
      },
      ['  属性不同 (硬链接) same'],
    ],
  ];
  test.each(rules)('counts %s', async (_, options, change, expected) => {
    await using pair = await mirrored('verify-rules', (empty) => {
      for (const name of ['same', 'mode', 'time']) writeFileSync(empty.path('source', name), name);
      linkSync(empty.path('source', 'same'), empty.path('source', 'linked'));
      age(empty.path('source'));
    });
    change({ path: (...names) => pair.path(...names) } as Pair);
    age(pair.path('source'));
    utimesSync(pair.path('backup'), THEN, THEN);
    const { status, differences } = await verify(pair, { RSYNC_OPTS: options });
    expect({ status, differences }).toEqual({ status: Number(expected.length > 0), differences: expected });
  });

  test('writes to no log, neither the user’s nor rsync’s, and knows a source without a slash', async () => {
    await using pair = await mirrored('verify-logs', fillForAll);
    const move = 'mkdir source; find . -mindepth 1 -maxdepth 1 ! -name source -exec mv -t source {} +';
    spawnSync('sh', ['-ec', move], { cwd: pair.path('backup') });
    spawnSync('touch', [`--reference=${pair.path('source')}`, pair.path('backup', 'source')]);
    damage(pair.path('backup', 'source', 'content'));
    const env = {
      SOURCE_DIR: pair.path('source'),
      RSYNC_OPTS: `-a --delete --log-file=${pair.path('rsync.log')} --out-format=%n`,
      LOG_FILE: pair.path('our.log'),
      METRICS_FILE: pair.path('metrics'),
    };
    const { status, differences } = await verify(pair, env);
    expect({ status, differences }).toEqual({ status: 1, differences: ['  内容不同 source/content'] });
    for (const name of ['rsync.log', 'our.log', 'metrics', 'source-status.json']) {
      expect(existsSync(pair.path(name))).toBe(false);
    }
  });

  test('tells programs the same', async () => {
    await using pair = await mirrored('verify-json', fillForAll);
    differ(pair);
    const [text, json] = await Promise.all([verify(pair), verify(pair, { LOG_FORMAT: 'json' })]);
    expect(json.status).toBe(1);
    const target = nameOf(pair);
    expect(JSON.parse(json.headline)).toEqual({
      ...{ target, result: 'different', differences: text.differences.length, files: 19, seconds: expect.any(Number) },
    });
    const entries = json.differences.map((line) => JSON.parse(line));
    expect(entries.length).toBe(text.differences.length);
    expect(entries).toContainEqual({ target, path: 'line\nbreak', difference: 'content' });
    expect(entries).toContainEqual({ target, path: 'no \\xff\\xfe', difference: 'content' });
    expect(entries).toContainEqual({ target, path: 'mode', difference: 'attributes', attributes: ['mode'] });
    const words: Record<string, string> = {
      missing: '缺少',
      extra: '多余',
      content: '内容不同',
      attributes: '属性不同',
    };
    expect(entries.map(({ difference }) => words[difference] ?? '')).toEqual(
      text.differences.map((line) => line.trim().replace(/ .*/, '')),
    );
  });

  test('of an empty source tells all that is in the backup, and of no backup all that is in the source', async () => {
    await using pair = await mirrored('verify-empty', (empty) => writeFileSync(empty.path('source', 'file'), 'words'));
    renameSync(pair.path('backup', 'file'), pair.path('file'));
    expect((await verify(pair)).differences).toContain('  缺少 file');
    renameSync(pair.path('file'), pair.path('backup', 'file'));
    rmSync(pair.path('source', 'file'));
    const { status, differences } = await verify(pair);
    expect(status).toBe(1);
    expect(differences).toContain('  多余 file');
    expect(existsSync(pair.path('backup', 'file'))).toBe(true);
  });
});

describe.concurrent('that nothing can be told', () => {
  test('is said of a backup that is away, of a source that is not there and of a wrong variable', async () => {
    await using pair = await mirrored('verify-away', fillForAll);
    expect(await verify(pair, { SSH_OPTS: '-p 1' })).toMatchObject({
      status: 2,
      headline: expect.stringMatching(/ 无法判断 \(耗时: \d+秒\)：.* \(退出码: (12|255)\)：.*Connection refused$/),
      differences: [],
    });
    expect(await verify(pair, { SOURCE_DIR: '/no/such' })).toMatchObject({
      status: 2,
      headline: expect.stringContaining('配置错误: SOURCE_DIR'),
    });
    expect(await verify(pair, { RSYNC_OPTS: 'x' })).toMatchObject({ status: 2 });
  });

  test('is said of a difference where the status of a service is there and cannot be read', async () => {
    await using pair = await mirrored('verify-status', fillForAll);
    writeFileSync(pair.path('source', 'new'), '');
    const STATUS_FILE = pair.path('status.json');
    expect(await verify(pair, { STATUS_FILE })).toMatchObject({ status: 1 }); // none is there: no service runs
    writeFileSync(STATUS_FILE, '{"program":');
    expect(await verify(pair, { STATUS_FILE })).toMatchObject({
      status: 2,
      headline: expect.stringMatching(/ 无法判断 .*：无法读取状态文件 /),
      differences: [],
    });
    rmSync(pair.path('source', 'new'));
    spawnSync('touch', [`--reference=${pair.path('backup')}`, pair.path('source')]);
    expect(await verify(pair, { STATUS_FILE })).toMatchObject({ status: 0 }); // nothing differs that could be on its way
  });

  test('is said on a signal, which leaves nothing behind', async () => {
    await using pair = await mirrored('verify-signal', fillForAll);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const program = start(pair, { SSH_OPTS: "-o 'ProxyCommand=sleep 60'" });
      await eventually(() => [...processesWith(pair.directory).values()].some((words) => /^rsync -/.test(words)));
      expect(await program.stop(signal)).toBe(2);
      expect(program.output).toBe('');
      await eventually(() => ![...processesWith(pair.directory).values()].some((words) => /^(rsync|ssh) /.test(words)));
    }
  });

  test('is said on a signal while the service is waited for', async () => {
    await using pair = await mirrored('verify-waiting', fillForAll);
    damage(pair.path('backup', 'content'));
    using _service = pretend(pair, () => ({ oldest_pending: new Date(0).toISOString() }));
    await eventually(() => existsSync(pair.path('source-status.json')));
    mkdirSync(pair.path('bin'));
    const rsync = `${Bun.which('rsync')} "$@"; status=$?; case " $* " in *" --checksum "*) : >'${pair.path('compared')}' ;; esac; exit $status`;
    writeFileSync(pair.path('bin', 'rsync'), `#!/bin/sh\n${rsync}\n`, { mode: 0o755 });
    const program = start(pair, { PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await eventually(() => existsSync(pair.path('compared')));
    expect(await program.stop('SIGTERM')).toBe(2);
    expect(program.output).toBe('');
  });
});

test('a target that ssh cannot reach is told as that whatever rsync ends with', async () => {
  await using pair = await Pair.withKeys('verify-away');
  mkdirSync(pair.path('bin'));
  const rsync = `case " $* " in *" --version "*) exit 0 ;; esac; exit 12`;
  writeFileSync(pair.path('bin', 'rsync'), `#!/bin/sh\n${rsync}\n`, { mode: 0o755 });
  const { status, headline } = await verify(pair, { PATH: `${pair.path('bin')}:${process.env.PATH}` });
  expect(status).toBe(2);
  expect(headline).toContain('SSH 连接失败，请检查 SSH 服务、密钥配置 (退出码: 255)');
});

test.skipIf(!isRoot)('that nothing can be told is said where files cannot be read', async () => {
  using user = ordinaryUser();
  await using pair = await Pair.withKeys('verify-unreadable', user);
  const { source } = await pair.run();
  await source.stop();
  writeFileSync(pair.path('source', 'secret'), 'words', { mode: 0 });
  spawnSync('cp', [pair.path('source', 'secret'), pair.path('backup')]);
  chmodSync(pair.path('backup', 'secret'), 0o644);
  age(pair.path('source'), pair.path('backup'));
  const untold = { status: 2, headline: expect.stringMatching(/无法判断.*无法读取 .*secret/), differences: [] };
  expect(await verify(pair, { RSYNC_OPTS: '-rlt' })).toMatchObject(untold);
  writeFileSync(pair.path('backup', 'secret'), 'WORDS');
  spawnSync('chown', ['--reference', pair.path('source', 'secret'), pair.path('backup', 'secret')]);
  chmodSync(pair.path('backup', 'secret'), 0); // now neither side can
  age(pair.path('source'), pair.path('backup'));
  expect(await verify(pair, { RSYNC_OPTS: '-rlt' })).toMatchObject(untold);
  // BusyBox' find knows no -readable.
  const find = `case " $* " in *readable*) exit 1 ;; esac; exec ${Bun.which('find')} "$@"`;
  mkdirSync(pair.path('bin'));
  writeFileSync(pair.path('bin', 'find'), `#!/bin/sh\n${find}\n`, { mode: 0o755 });
  const PATH = `${pair.path('bin')}:${process.env.PATH}`;
  expect(await verify(pair, { RSYNC_OPTS: '-rlt', PATH })).toMatchObject(untold);
  expect(await verify(pair, { RSYNC_OPTS: '-rltq --exclude=other' })).toMatchObject(untold);
  expect(await verify(pair, { RSYNC_OPTS: '-rlt --exclude=/secret' })).toMatchObject({ status: 0 });
  for (const name of ['secret', 'readable']) writeFileSync(pair.path(name), `${name}\n`);
  for (const place of ['source', 'backup']) {
    writeFileSync(pair.path(place, 'readable'), '');
    chmodSync(pair.path(place, 'readable'), 0o644);
    age(pair.path(place));
  }
  const listed = (name: string) => verify(pair, { RSYNC_OPTS: `-rlt --files-from=${pair.path(name)}` });
  expect(await listed('readable')).toMatchObject({ status: 0 });
  expect(await listed('secret')).toMatchObject(untold);
});
