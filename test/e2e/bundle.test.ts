import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { split } from 'shlex';
import { Pair, userName } from '../pair.ts';
import { cleanEnv, content, eventually, freePort, Program } from '../processes.ts';
import { bundle, ROOT } from '../project.ts';

setDefaultTimeout(120_000);

const NAMES = ['rsync-inotify', 'start-sshd'] as const;
type Name = (typeof NAMES)[number];
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

/** A directory that holds the two files and nothing else, far from the project and its packages. */
class Place implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'two programs-'));

  constructor() {
    for (const name of NAMES) copyFileSync(bundle(name), this.file(name));
  }

  file(name: Name): string {
    return join(this.directory, `${name}.js`);
  }

  start(pair: Pair, name: Name, env: Record<string, string> = {}): Program {
    const own = name === 'rsync-inotify' ? pair.sourceEnv : pair.backupEnv;
    const options = { cwd: this.directory, env: { ...cleanEnv(), NO_COLOR: '1', ...own, ...env } };
    return pair.keep(new Program(process.execPath, ['run', '--no-env-file', this.file(name)], options));
  }

  /** What a flag prints, and the exit status. */
  ask(name: Name, flag: string, env: Record<string, string> = {}) {
    const options = { cwd: this.directory, env: { ...cleanEnv(), NO_COLOR: '1', ...env } };
    const args = ['run', '--no-env-file', this.file(name), flag];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { ...options, encoding: 'utf8' });
    return { stdout: stdout.trim(), stderr, status };
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true });
  }
}

// Bun fetches what a program lacks from the registry, where no node_modules is near: that it runs says too little.
test.each(NAMES)('%s.js holds all that it needs but what Bun has itself', (name) => {
  const imports = new Bun.Transpiler({ loader: 'js' }).scanImports(content(bundle(name)).replace(/^#!.*/, ''));
  expect(imports.length).toBeGreaterThan(5);
  expect(imports.map(({ path }) => path).filter((path) => !isBuiltin(path))).toEqual([]);
});

test.each(NAMES)('%s.js says its version and its variables where nothing else is', (name) => {
  using place = new Place();
  expect(place.ask(name, '--version')).toEqual({ stdout: `${name} ${version}`, stderr: '', status: 0 });
  const help = place.ask(name, '--help');
  expect(help).toMatchObject({ stderr: '', status: 0 });
  expect(help.stdout).toMatch(/^ {2}SSH_DIR /m);
});

test('the two files alone are the pair: they mirror, rename, fence the key in and tell how they are', async () => {
  using place = new Place();
  await using pair = await Pair.withKeys('bundle');
  const [inSource, inBackup] = ['source', 'backup'].map((side) => (name: string) => pair.path(side, name)) as [
    (name: string) => string,
    (name: string) => string,
  ];
  const large = 'worth a rename '.repeat(20_000);
  writeFileSync(inSource('before'), large);
  const port = await freePort();
  const logFile = pair.path('sync.log');
  const backup = place.start(pair, 'start-sshd', { LOG_FILE: pair.path('sshd.log') });
  const source = place.start(pair, 'rsync-inotify', {
    SYNC_INTERVAL: '0',
    METRICS_PORT: `${port}`,
    LOG_FILE: logFile,
  });
  await source.shows('✓ 服务运行中');
  expect(content(inBackup('before')) === large).toBe(true);

  writeFileSync(inSource('file'), 'a change');
  await eventually(() => content(inBackup('file')) === 'a change');
  const { ino } = statSync(inBackup('before'));
  renameSync(inSource('before'), inSource('renamed'));
  await source.shows('已在目标上重命名 1 项'); // which asks the file for it that the key's line leads to
  await pair.isMirrored();
  expect(statSync(inBackup('renamed')).ino).toBe(ino);
  rmSync(inSource('file'));
  await pair.isMirrored();
  expect(readdirSync(pair.path('backup'))).toEqual(['renamed']);

  const [, command = ''] = /command="([^"]*)"/.exec(content(pair.path('backup-ssh', 'authorized_keys'))) ?? [];
  const started = ['exec', process.execPath, '--no-env-file', place.file('start-sshd'), '--forced-command'];
  expect(split(command)).toEqual([...started, expect.stringMatching(/^SHA256:/)]);
  const key = ['-i', pair.path('source-ssh', 'id_rsa'), '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes'];
  const stranger = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-p', `${pair.port}`];
  const host = `${userName()}@127.0.0.1`;
  const asked = spawnSync('ssh', ['-F', 'none', ...key, ...stranger, host, `touch ${pair.path('taken')}`]);
  expect(asked.status).not.toBe(0);
  await backup.shows(`命令: touch ${pair.path('taken')}`);
  expect(readdirSync(pair.directory)).not.toContain('taken');

  const pageAt = async (path: string) => await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  expect(await pageAt('/')).toContain('<title>rsync-inotify</title>');
  expect(await pageAt('/metrics')).toContain(`rsync_build_info{version="${version}"} 1`);
  for (const [name, env] of [
    ['rsync-inotify', pair.sourceEnv],
    ['start-sshd', pair.backupEnv],
  ] as const) {
    const health = { STATUS_FILE: env.STATUS_FILE ?? '' };
    await eventually(() => place.ask(name, '--healthcheck', health).status === 0);
    expect(place.ask(name, '--healthcheck', health).stdout).toStartWith('健康: ');
    expect(place.ask(name, '--status', health).stdout).toStartWith(`${name} ${version} (PID `);
  }
  expect(await source.stop()).toBe(0);
  expect(await backup.stop()).toBe(0);
  expect(content(logFile)).toContain('服务已停止 ✓');
  expect(readdirSync(place.directory).sort()).toEqual(NAMES.map((name) => `${name}.js`));
});
