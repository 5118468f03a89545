import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, docker, dockerObstacle } from '../docker.ts';
import { blockAfter } from '../pages.ts';
import { eventually, freePort } from '../processes.ts';
import { ROOT } from '../project.ts';

setDefaultTimeout(120_000);

const reason = dockerObstacle();
if (reason) console.warn(`SKIPPED: two hosts without a shared volume: ${reason}`);

const NAME = `rsync-inotify-test-hosts-${process.pid}`;
const IMAGE = `${NAME}:latest`;
let port = 0;

/** A host of its own, as far as Docker goes: a clone of the project, volumes and a network that nobody else has. */
class Host {
  readonly directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-host-'));

  constructor(readonly side: 'source' | 'backup') {
    for (const name of ['compose.base.yml', 'compose.yml', `compose.${side}.yml`]) {
      const text = readFileSync(join(ROOT, name), 'utf8');
      writeFileSync(this.path(name), text.replaceAll('rsync-inotify:latest', IMAGE));
    }
    cpSync(join(ROOT, 'keys', '.gitignore'), this.path('keys', '.gitignore'));
    const route = { services: { 'rsync-source': { extra_hosts: ['backup.example.org:host-gateway'] } } };
    writeFileSync(this.path('route.yml'), JSON.stringify(side === 'source' ? route : { services: {} }));
    this.configure('route.yml');
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  configure(...files: string[]): void {
    const settings = {
      COMPOSE_PROJECT_NAME: `${NAME}-${this.side}`,
      COMPOSE_FILE: [`compose.${this.side}.yml`, ...files].join(':'),
      ...(this.side === 'source' ? { DEST_HOST: 'backup.example.org', SYNC_INTERVAL: 0 } : { KEY_RETRIES: 1 }),
      BACKUP_PORT: port,
      NO_COLOR: 1,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(this.path('.env'), lines.join(''));
  }

  compose(...args: string[]): string {
    return docker(['compose', ...args], { cwd: this.directory });
  }

  run(command: string): string {
    return this.compose('exec', '-T', `rsync-${this.side}`, 'bash', '-c', command);
  }

  get log(): string {
    return this.compose('logs', '--no-log-prefix', '--no-color');
  }

  /** Waits until the log has a line more often than it had. */
  async logs(line: string, before = 0): Promise<void> {
    await eventually(() => this.count(line) > before, 60_000).catch((error) => {
      throw new Error(`${error}\n${this.log}`);
    });
  }

  count(line: string): number {
    return this.log.split(line).length - 1;
  }

  down(): void {
    this.compose('down', '--volumes', '--timeout', '5');
  }
}

let source: Host;
let backup: Host;

/** As `scp -r` does between two hosts. */
function carry(from: Host, to: Host, name: string): void {
  cpSync(from.path('keys', name), to.path('keys', name), { recursive: true });
}

async function isMirrored(name: string): Promise<void> {
  source.run(`echo 'content of ${name}' >/data/source/${name}`);
  await arrives(name);
}

async function arrives(name: string): Promise<void> {
  const copy = () => backup.run(`cat /data/backup/${name}`);
  await eventually(() => copy() === `content of ${name}\n`, 60_000).catch((error) => {
    throw new Error(`${error}\n${source.log}\n${backup.log}`);
  });
}

describe.skipIf(reason !== '')('two hosts that share no volume', () => {
  beforeAll(async () => {
    buildImage(IMAGE);
    port = await freePort();
    source = new Host('source');
    backup = new Host('backup');
  });

  afterAll(() => {
    for (const host of [source, backup]) {
      host.down();
      rmSync(host.directory, { recursive: true });
    }
    docker(['image', 'rm', IMAGE]);
  });

  test('take from compose.yml all that two hosts need not have otherwise', () => {
    for (const { side, directory } of [source, backup]) {
      const serviceIn = (file: string) => {
        const { environment, ...service } = JSON.parse(
          docker(['compose', '-f', file, 'config', '--format', 'json'], { cwd: directory }),
        ).services[`rsync-${side}`];
        const { SSH_OPTS: _, ...variables } = environment;
        const differing = ['build', 'container_name', 'depends_on', 'networks', 'ports', 'pull_policy', 'volumes'];
        return { ...service, variables, ...Object.fromEntries(differing.map((key) => [key, null])) };
      };
      expect(serviceIn(`compose.${side}.yml`)).toEqual(serviceIn('compose.yml'));
    }
  });

  test('wait for each other’s keys, of which nothing is trusted before they are carried across', async () => {
    source.compose('up', '-d');
    backup.compose('up', '-d');
    source.run(`echo 'content of first' >/data/source/first`);
    await source.logs('Host key verification failed');
    await backup.logs('没有等到源端公钥，先启动 SSH 服务，公钥出现后自动授权');
    carry(source, backup, 'id_rsa.pub');
    await backup.logs('SSH 免密登录配置完成 ✓');
    const before = source.count('Host key verification failed');
    await source.logs('Host key verification failed', before); // that the backup would let it in is not enough
    expect(backup.run('ls /data/backup')).toBe('');
    expect(backup.log).not.toContain('Accepted publickey');
    carry(backup, source, 'host_keys');
    await arrives('first');
    await isMirrored('second');
    expect(source.log).not.toContain('未能验证它的身份');
  });

  test('need no key carried again after both were started anew, in new containers', async () => {
    backup.compose('up', '-d', '--force-recreate');
    source.compose('up', '-d', '--force-recreate');
    await isMirrored('third');
    expect(source.log).not.toContain('Host key verification failed');
  });

  test('an impostor at the backup’s address is sent nothing, though it would let the source in', async () => {
    backup.down();
    backup.compose('up', '-d'); // with host keys of its own
    source.run(`echo 'content of fourth' >/data/source/fourth`);
    await source.logs('可能有人在冒充备份主机');
    expect(backup.run('ls /data/backup')).toBe('');
    expect(backup.log).not.toContain('Accepted publickey');
    carry(backup, source, 'host_keys');
    await source.logs('SSH 连接已恢复 ✓');
    await arrives('fourth');
  });

  test('mirror with keys that were made beforehand and are mounted as secrets, as docs/two-hosts.md says', async () => {
    for (const host of [source, backup]) {
      host.down();
      rmSync(host.path('keys'), { recursive: true });
    }
    const { status, stderr } = spawnSync(
      'sh',
      ['-ec', blockAfter('make them on a machine that you trust', 'docs/two-hosts')],
      {
        cwd: source.directory,
        encoding: 'utf8',
      },
    );
    expect(status, stderr).toBe(0);
    for (const name of ['keys', 'secrets']) cpSync(source.path(name), backup.path(name), { recursive: true });
    rmSync(backup.path('secrets', 'id_rsa'));
    for (const type of ['rsa', 'ecdsa', 'ed25519']) rmSync(source.path('secrets', `rsync-backup.${type}`));
    writeFileSync(source.path('compose.override.yml'), blockAfter('They are mounted', 'docs/two-hosts'));
    writeFileSync(
      backup.path('compose.override.yml'),
      blockAfter('  id_rsa: {file: secrets/id_rsa}\n```', 'docs/two-hosts'),
    );
    for (const host of [source, backup]) {
      expect(readFileSync(host.path('compose.override.yml'), 'utf8')).toStartWith(
        `# compose.override.yml on the ${host.side}`,
      );
      host.configure('route.yml', 'compose.override.yml');
      host.compose('up', '-d');
    }
    await isMirrored('by-secrets');
    expect(source.log).toContain('SSH 密钥已存在 ✓');
    expect(backup.log).toContain('SSH 主机密钥已存在 ✓');
    expect(source.log + backup.log).not.toMatch(/WARN|ERROR/);
    expect(existsSync(source.path('keys', 'host_keys', 'rsync-backup.rsa.pub'))).toBe(true);
  });

  test('mirror a source with a name, by the commands of docs/several-sources.md', async () => {
    for (const host of [source, backup]) {
      host.down();
      for (const name of ['sources', 'host_keys', 'id_rsa.pub', '../compose.override.yml'])
        rmSync(host.path('keys', name), { recursive: true, force: true });
      host.configure('route.yml');
    }
    writeFileSync(
      source.path('scp'),
      `#!/bin/sh\nexec cp "$1" $(echo "$2 $3" | sed s,backup.example.org:rsync-inotify,$BACKUP,)\n`,
      {
        mode: 0o755,
      },
    );
    backup.compose('up', '-d');
    await eventually(() => existsSync(backup.path('keys', 'host_keys')), 60_000);
    const block = blockAfter('# on the backup\necho', 'docs/several-sources').replace('source.yml', '$&:route.yml');
    const { status, stderr } = spawnSync('sh', ['-ec', block], {
      cwd: source.directory,
      encoding: 'utf8',
      env: { ...process.env, PATH: `${source.directory}:${process.env.PATH}`, BACKUP: backup.directory },
    });
    expect(status, stderr).toBe(0);
    source.run("echo 'content of web1/page' >/data/source/page");
    await arrives('web1/page');
  });
});
