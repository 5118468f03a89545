/** The commands of docs/recovery.md for two hosts with containers. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, docker, dockerObstacle } from '../docker.ts';
import { content, eventually, freePort } from '../processes.ts';
import { ROOT } from '../project.ts';
import { type Side, stepsOf } from '../recovery-page.ts';
import { begin, type Hosts, play, tellStories } from '../recovery-stories.ts';

setDefaultTimeout(240_000);

const reason = dockerObstacle();
if (reason) console.warn(`SKIPPED: docs/recovery.md with containers: ${reason}`);

const NAME = `rsync-inotify-test-recovery-${process.pid}`;
const IMAGE = `${NAME}:latest`;
const SIDES = ['source', 'backup'] as const;
/** A volume on a file system of its own, which is there as long as a container has it. */
const DISK = `${NAME}-disk`;
const OWN_FILE_SYSTEM = ['--opt', 'type=tmpfs', '--opt', 'device=tmpfs'];

/** How the hosts find each other: by their published ports. */
const ROUTES = '    extra_hosts: ["source.example.org:host-gateway", "backup.example.org:host-gateway"]\n';

/** As scp does between two hosts, whose directories lie side by side. */
const SCP = `#!/bin/sh
for word; do
  shift
  case $word in *.example.org:rsync-inotify/*) word=$HOSTS/\${word%%.*}/\${word#*:rsync-inotify/} ;; esac
  set -- "$@" "$word"
done
exec cp "$@"
`;

const projectOf = (side: Side) => `${NAME}-${side}`;
const volumeOf = (side: Side) => `${projectOf(side)}_${side}-data`;

/** Two hosts, as far as Docker goes: a clone of the project for each, with volumes and a network that nobody else has. */
class Containers implements Hosts {
  readonly kind = 'docker';
  private directory = '';
  private ports = {};
  /** The trees that were looked at, each of which has a container beside those of its host, with an engine's usual rights. */
  private readonly visited = new Set<Side>();
  /** The volumes that hold the trees. */
  private readonly trees = { source: volumeOf('source'), backup: volumeOf('backup') };

  async prepare(): Promise<void> {
    this.directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-recovery-'));
    this.ports = { BACKUP_PORT: await freePort(), REVERSED_PORT: await freePort() };
    mkdirSync(this.path('bin'));
    writeFileSync(this.path('bin', 'scp'), SCP, { mode: 0o755 });
    for (const side of SIDES) this.clone(side);
    this.set('backup', 'COMPOSE_FILE=compose.backup.yml\nHISTORY_DAYS=30\n');
  }

  private set(side: Side, lines: string): void {
    writeFileSync(this.path(side, '.env'), lines, { flag: 'a' });
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  private clone(side: Side): void {
    for (const name of readdirSync(ROOT).filter((it) => /^compose\..*yml$/.test(it))) {
      const text = readFileSync(join(ROOT, name), 'utf8').replaceAll('rsync-inotify:latest', IMAGE);
      mkdirSync(this.path(side, 'keys'), { recursive: true });
      writeFileSync(this.path(side, name), text.replace(/^ +extends: .*service: rsync-source.*\n/gm, `$&${ROUTES}`));
    }
    cpSync(join(ROOT, 'keys', '.gitignore'), this.path(side, 'keys', '.gitignore'));
    const settings = { COMPOSE_PROJECT_NAME: projectOf(side), SYNC_INTERVAL: 0, KEY_RETRIES: 1, ...this.ports };
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    this.set(side, lines.join(''));
  }

  private compose(side: Side, ...args: string[]): string {
    return docker(['compose', ...args], { cwd: this.path(side) });
  }

  run(side: Side, code: string) {
    const env = { ...process.env, PATH: `${this.path('bin')}:${process.env.PATH}`, HOSTS: this.directory };
    const shell = spawnSync('bash', ['-ec', code], {
      cwd: this.path(side),
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return { status: shell.status, output: shell.stdout + shell.stderr };
  }

  log(side: Side): string {
    return this.compose(side, 'logs', '--no-log-prefix', '--no-color');
  }

  inTree(side: Side, script: string): string {
    const name = `${projectOf(side)}-tree`;
    const place = ['-v', `${this.trees[side]}:/tree`, '-w', '/tree'];
    if (!this.visited.has(side)) docker(['run', '-d', '--init', '--name', name, ...place, IMAGE, 'sleep', 'infinity']);
    this.visited.add(side);
    return docker(['exec', name, 'bash', '-ec', script]);
  }

  /** Ends the container by which a tree was reached. */
  private leave(side: Side): void {
    if (this.visited.delete(side)) docker(['rm', '-f', `${projectOf(side)}-tree`]);
  }

  async start(side: Side): Promise<void> {
    this.compose(side, 'up', '-d');
    if (side === 'backup') await eventually(() => existsSync(this.path('backup', 'keys', 'host_keys')), 60_000);
  }

  replaceDisk(): void {
    this.leave('source');
    docker(['volume', 'create', ...OWN_FILE_SYSTEM, DISK]);
    this.trees.source = DISK;
    this.inTree('source', 'chmod 755 .');
    this.edit('compose.source.yml', 'source-data:/data/source', 'disk:/data/source');
    this.edit('compose.source.yml', /^volumes:\n/m, `$&  disk: { external: true, name: ${DISK} }\n`);
  }

  private edit(name: string, from: string | RegExp, to: string): void {
    const file = this.path('source', name);
    writeFileSync(file, readFileSync(file, 'utf8').replace(from, to));
  }

  replaceSource(): void {
    this.leave('source');
    this.down('source', 'compose.source.yml');
    docker(['volume', 'rm', '--force', DISK, volumeOf('source')]);
    rmSync(this.path('source'), { recursive: true });
    this.clone('source');
    this.trees.source = volumeOf('source');
  }

  private down(side: Side, ...files: string[]): void {
    this.compose(side, ...files.flatMap((file) => ['-f', file]), 'down', '--volumes', '--timeout', '5');
  }

  end(): void {
    for (const side of SIDES) this.leave(side);
    this.set('source', 'DEST_HOST=backup.example.org\n');
    this.down('source', 'compose.source.yml', 'compose.reversed-backup.yml');
    this.down('backup', 'compose.backup.yml', 'compose.reversed-source.yml');
    rmSync(this.directory, { recursive: true });
  }
}

describe.skipIf(reason !== '')('docs/recovery.md with containers', () => {
  const hosts = new Containers();

  beforeAll(async () => {
    buildImage(IMAGE);
    await hosts.prepare();
    await begin(hosts);
  });

  afterAll(() => {
    hosts.end();
    docker(['image', 'rm', IMAGE]);
  });

  tellStories(hosts);

  test('where older versions cannot be guarded, the backup has told it at its start, and no session tells it again', () => {
    expect(hosts.log('backup')).not.toContain('内核不允许查看 rsync 的请求');
  });

  test('what keepalived calls returns once the backup has taken over', async () => {
    const log = hosts.path('take-over.log');
    await play(hosts, stepsOf('keepalived', 'docker'), {
      '/etc/keepalived': hosts.path(),
      '/var/log/take-over.log': log,
      '/root/rsync-inotify': hosts.path('backup'),
    });
    const { status, output } = hosts.run('backup', hosts.path('take-over'));
    expect(status, output).toBe(0);
    expect(content(log)).toContain('备份端已接管 DEST_DIR=/data/backup');
  });
});
