/** Where the image comes from: built from mirrors, or not built at all. */

import { afterAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { docker, dockerObstacle } from '../docker.ts';
import { ForwardProxy } from '../forward-proxy.ts';
import { answerOf, eventually, freePort } from '../processes.ts';
import { ROOT } from '../project.ts';
import { Registries } from '../registries.ts';

setDefaultTimeout(300_000);

const reason = dockerObstacle();
if (reason) console.warn(`SKIPPED: where the image comes from: ${reason}`);

const NAME = `rsync-inotify-test-image-${process.pid}`;
const BASE = `${NAME}-base:latest`;
const directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-image-'));

afterAll(() => {
  rmSync(directory, { recursive: true });
  spawnSync('docker', ['image', 'rm', `${NAME}:latest`, BASE]);
});

/** Builds the image, or a part of it. @returns the exit status and all that was said */
async function build(args: Record<string, string>, ...options: string[]) {
  const given = Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  const rest = ['--network=host', '--progress=plain', '-t', NAME, '-f', 'rsync_inotify.dockerfile', '.'];
  const { status, stdout, stderr } = await answerOf(
    spawn('docker', ['build', ...given, ...options, ...rest], { cwd: ROOT }),
  );
  return { status, output: `${stdout}${stderr}` };
}

/** Builds the image as the compose files do, with these settings in .env. @returns the exit status and all that was said */
async function composeBuild(settings: Record<string, string>, ...options: string[]) {
  const [env, override] = [join(directory, 'settings.env'), join(directory, 'override.json')];
  const lines = Object.entries({ ...settings, IMAGE: NAME }).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(env, lines.join(''));
  writeFileSync(override, JSON.stringify({ services: { 'rsync-backup': { build: { network: 'host' } } } }));
  const args = ['compose', '--env-file', env, '-f', 'compose.backup.yml', '-f', override, '--progress=plain', 'build'];
  const { status, stdout, stderr } = await answerOf(spawn('docker', [...args, ...options], { cwd: ROOT }));
  return { status, output: `${stdout}${stderr}` };
}

/** The sources of apt that the images of Debian have, which one that is made here may have not. */
const SOURCES = `Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`;

describe.skipIf(reason !== '')('the image', () => {
  test.each(['linux/arm/v7', 'linux/386'])('is refused for %s, for which there is no Bun', async (platform) => {
    const { status, output } = await build({}, `--platform=${platform}`, '--target=build');
    expect(status).not.toBe(0);
    expect(output).toContain('rsync-inotify runs on amd64 (x86-64) and arm64 only');
  });

  test.each([
    [{ APT_MIRROR: 'mirrors.example.org; reboot' }, 'apt', "APT_MIRROR: no address: 'mirrors.example.org; reboot' has"],
    [{ NPM_REGISTRY: 'registry.example.org' }, 'build', "NPM_REGISTRY: 'registry.example.org' does not begin with"],
  ])('is not built with %j', async (args, target, message) => {
    const { status, output } = await build(args as Record<string, string>, `--target=${target}`);
    expect(status).not.toBe(0);
    expect(output).toContain(message);
  });

  test('is not built where a mirror does not answer, and that is the last that is said', async () => {
    const { status, output } = await build({ APT_MIRROR: 'http://127.0.0.1:9' }, '--target=');
    expect(status).not.toBe(0);
    expect(output).toContain('Could not connect to 127.0.0.1:9');
    expect(output).not.toContain('Unable to locate package');
  });

  test.skipIf(!process.env.IMAGE_MIRRORS)('is built from mirrors alone, and keeps nothing of them', async () => {
    using registries = new Registries();
    writeFileSync(join(directory, 'debian.sources'), SOURCES);
    const base = `FROM debian:trixie-slim\nRUN rm -f /etc/apt/sources.list\nCOPY debian.sources /etc/apt/sources.list.d/\n`;
    writeFileSync(join(directory, 'Dockerfile'), base);
    docker(['build', '-q', '-t', BASE, directory]);
    const args = { ...registries.noOther, BASE_IMAGE: BASE };
    for (const target of ['build', '']) {
      const { status, output } = await build(args, '--no-cache', `--target=${target}`);
      expect(status, output).not.toBe(0); // what is not asked for at the mirrors comes to nothing
    }
    expect(registries.asked).toEqual([]);

    const { status, output } = await composeBuild({
      ...args,
      APT_MIRROR: registries.url,
      NPM_REGISTRY: registries.url,
    });
    expect(status, output).toBe(0);
    for (const path of [
      '/debian/dists/trixie/',
      '/debian-security/dists/trixie-security/',
      '/debian/pool/main/r/rsync/',
    ])
      expect(registries.asked.filter((asked) => asked.startsWith(path))).not.toEqual([]);
    expect(registries.asked.filter((asked) => asked.startsWith('/zx/-/'))).toHaveLength(1);
    const { port } = new URL(registries.url);
    expect(docker(['history', '--no-trunc', NAME])).not.toContain(`:${port}`);
    const inImage = (...command: string[]) => docker(['run', '--rm', NAME, ...command]);
    expect(inImage('cat', '/etc/apt/sources.list.d/debian.sources')).toBe(SOURCES);
    expect(inImage('sh', '-c', `grep -rl :${port} /etc /var /usr/share /root || true`)).toBe('');
    expect(inImage('rsync-inotify', '--check')).toContain('配置有效');

    const foreign = await build({ ...args, NPM_REGISTRY: registries.url }, '--platform=linux/arm64', '--target=build');
    expect(foreign.status, foreign.output).toBe(0);
    expect(registries.asked.at(-1)).toMatch(/^\/@oven\/bun-linux-aarch64\/-\/bun-linux-aarch64-[\d.]+\.tgz$/);
  });

  test.skipIf(!process.env.IMAGE_MIRRORS)('is built through a proxy, which is not left in it', async () => {
    await using proxy = await ForwardProxy.start();
    const args = { HTTP_PROXY: proxy.url, HTTPS_PROXY: proxy.url };
    const { status, output } = await composeBuild(args, '--no-cache');
    expect(status, output).toBe(0);
    expect(proxy.asked.filter((asked) => /^GET http:.*\/pool\/main\/r\/rsync\//.test(asked))).not.toEqual([]);
    expect(proxy.asked.filter((asked) => /^CONNECT .*:443$/.test(asked))).not.toEqual([]);
    const { port } = new URL(proxy.url);
    expect(docker(['history', '--no-trunc', NAME])).not.toContain(`:${port}`);
    expect(docker(['image', 'inspect', NAME])).not.toContain(`:${port}`);
  });

  test('that was loaded is run by the compose files alone, under the name that it has', async () => {
    docker(['build', '-q', '-t', `${NAME}:1.2.3`, '-f', join(ROOT, 'rsync_inotify.dockerfile'), ROOT]);
    const archive = join(directory, 'image.tar');
    docker(['save', '-o', archive, `${NAME}:1.2.3`]);
    docker(['image', 'rm', `${NAME}:1.2.3`]);
    docker(['load', '-i', archive]);
    for (const side of ['source', 'backup']) {
      const host = join(directory, side);
      mkdirSync(host);
      for (const file of readdirSync(ROOT).filter((name) => /^compose\..*yml$/.test(name)))
        cpSync(join(ROOT, file), join(host, file));
      const settings = {
        COMPOSE_PROJECT_NAME: `${NAME}-${side}`,
        COMPOSE_FILE: `compose.${side}.yml`,
        IMAGE: `${NAME}:1.2.3`,
        DEST_HOST: 'backup.example.org',
        BACKUP_PORT: side === 'backup' ? `127.0.0.1:${await freePort()}` : `${await freePort()}`, // published, or asked
      };
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
      writeFileSync(join(host, '.env'), lines.join(''));
      const compose = (...args: string[]) => docker(['compose', ...args], { cwd: host });
      try {
        compose('up', '-d', '--no-build');
        const sign = side === 'backup' ? '等待源端公钥' : '等待 SSH 服务就绪';
        await eventually(() => compose('logs').includes(sign));
        expect(compose('ps', '--format', '{{.Image}} {{.State}}')).toContain(`${NAME}:1.2.3 running`);
      } finally {
        compose('down', '--volumes', '--timeout', '5');
      }
    }
    docker(['image', 'rm', `${NAME}:1.2.3`]);
  });
});
