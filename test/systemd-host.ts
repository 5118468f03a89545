/** Hosts with systemd, each of which is a container of its own: Debian with the programs and units as docs/systemd.md installs them. */

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, docker, dockerObstacle } from './docker.ts';
import { eventually } from './processes.ts';
import { ROOT } from './project.ts';

/** Where control groups of version 2 are, which systemd asks for: some machines have them beside those of version 1. */
const groups = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(join(path, 'cgroup.controllers')),
);

/** Why a test of such hosts cannot be run, or is not. @param variable asks for it */
export function systemdObstacle(variable: string): string {
  if (!process.env[variable]) return `it takes minutes, and is run where ${variable} is set`;
  return dockerObstacle() || (groups ? '' : 'there are no control groups of version 2');
}

/** What systemd needs in a container, and keepalived, and what the units give that no container has by itself. */
const RIGHTS = [
  ...['SYS_ADMIN', 'NET_ADMIN', 'DAC_READ_SEARCH'].flatMap((right) => ['--cap-add', right]),
  ...['--security-opt', 'seccomp=unconfined', '--security-opt', 'apparmor=unconfined'],
  ...['--cgroupns', 'host', '-v', `${groups}:/sys/fs/cgroup:rw`, '--tmpfs', '/run', '--tmpfs', '/tmp'],
];

/**
 * Builds the image of a host, as NAME:latest.
 * @param packages of Debian, besides what the programs need @param more lines of its Dockerfile
 */
export function buildHost(name: string, packages: string[] = [], more = ''): void {
  const programs = `${name}-programs:latest`;
  buildImage(programs);
  const context = mkdtempSync(join(tmpdir(), 'rsync-inotify-host-'));
  for (const file of readdirSync(join(ROOT, 'packaging')).filter((it) => /\.(service|env)$/.test(it)))
    cpSync(join(ROOT, 'packaging', file), join(context, file.replace('@', '-tree'))); // as in a release
  const dockerfile = `FROM ${programs} AS programs
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends rsync openssh-client openssh-server inotify-tools \\
      systemd systemd-sysv dbus iproute2 ${packages.join(' ')} \\
 && rm -rf /var/lib/apt/lists/*
COPY --from=programs /usr/local/bin/rsync-inotify /usr/local/bin/start-sshd /usr/local/bin/
COPY *.service *.env /release/
WORKDIR /release
RUN install -m 644 -t /etc/systemd/system rsync-inotify.service start-sshd.service \\
 && install -D -m 644 -t /etc/rsync-inotify rsync-inotify.env start-sshd.env
${more}
ENV container=docker
CMD ["/sbin/init"]
`;
  writeFileSync(join(context, 'Dockerfile'), dockerfile);
  docker(['build', '-q', '-t', `${name}:latest`, context]);
  rmSync(context, { recursive: true });
}

/** Removes the images of `buildHost`. */
export const removeHost = (name: string) => docker(['image', 'rm', `${name}:latest`, `${name}-programs:latest`]);

/** One of them. */
export class SystemdHost {
  constructor(readonly name: string) {}

  /** @param place further arguments of `docker run` */
  start(image: string, place: string[] = []): void {
    docker(['run', '-d', '--name', this.name, ...place, ...RIGHTS, image]);
  }

  isUp(): Promise<unknown> {
    return eventually(() => /^(running|degraded)/.test(this.run('systemctl is-system-running || true').output), 60_000);
  }

  run(code: string) {
    const shell = spawnSync('docker', ['exec', this.name, 'bash', '-ec', code], { encoding: 'utf8' });
    return { status: shell.status, output: shell.stdout + shell.stderr };
  }

  /** @throws where it fails */
  do(code: string): string {
    const { status, output } = this.run(code);
    if (status !== 0) throw new Error(`${code} (${status})\n${output}\n${this.run('journalctl -n 50').output}`);
    return output;
  }

  end(): void {
    docker(['rm', '-f', this.name]);
  }
}
