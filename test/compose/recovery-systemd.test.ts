/** The commands of docs/recovery.md for two hosts with systemd, each of which is a container of its own here. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildImage, docker, dockerObstacle } from '../docker.ts';
import { eventually } from '../processes.ts';
import { ROOT } from '../project.ts';
import { type Side, stepsOf } from '../recovery-page.ts';
import { begin, type Hosts, play, tellStories } from '../recovery-stories.ts';

setDefaultTimeout(240_000);

/** Where control groups of version 2 are, which systemd asks for: some machines have them beside those of version 1. */
const groups = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) =>
  existsSync(join(path, 'cgroup.controllers')),
);
const reason = process.env.RECOVERY_SYSTEMD
  ? dockerObstacle() || (groups ? '' : 'there are no control groups of version 2')
  : 'it takes minutes, and is run where RECOVERY_SYSTEMD is set';
if (reason) console.warn(`SKIPPED: docs/recovery.md with systemd: ${reason}`);

const NAME = `rsync-inotify-test-systemd-${process.pid}`;
const IMAGE = `${NAME}:latest`;
const PROGRAMS = `${NAME}-programs:latest`;
const SIDES = ['source', 'backup'] as const;
/** The network that the page has for keepalived. */
const NETWORK = { subnet: '192.0.2.0/24', source: '192.0.2.11', backup: '192.0.2.12', moving: '192.0.2.10' };

/** Debian with the programs and units as README.md installs them, where root may log in from one host to the other. */
const HOST = `FROM ${PROGRAMS} AS programs
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends rsync openssh-client openssh-server inotify-tools \\
      systemd systemd-sysv dbus iproute2 keepalived \\
 && rm -rf /var/lib/apt/lists/*
RUN install -d -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 \\
 && cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys \\
 && echo "*.example.org $(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >/etc/ssh/ssh_known_hosts
COPY --from=programs /usr/local/bin/rsync-inotify /usr/local/bin/start-sshd /usr/local/bin/
COPY *.service /etc/systemd/system/
COPY *.env /etc/rsync-inotify/
RUN mkdir -p /data/source /data/backup && echo SYNC_INTERVAL=0 >>/etc/rsync-inotify/rsync-inotify.env
ENV container=docker
CMD ["/sbin/init"]
`;

function buildHost(): void {
  buildImage(PROGRAMS);
  const context = mkdtempSync(join(tmpdir(), 'rsync-inotify-host-'));
  for (const name of ['rsync-inotify', 'start-sshd'].flatMap((it) => [`${it}.service`, `${it}.env`]))
    cpSync(join(ROOT, 'packaging', name), join(context, name));
  writeFileSync(join(context, 'Dockerfile'), HOST);
  docker(['build', '-q', '-t', IMAGE, context]);
  rmSync(context, { recursive: true });
}

/** What systemd needs in a container, and keepalived, and what the units give that no container has by itself. */
const RIGHTS = [
  ...['SYS_ADMIN', 'NET_ADMIN', 'DAC_READ_SEARCH'].flatMap((right) => ['--cap-add', right]),
  ...['--security-opt', 'seccomp=unconfined', '--security-opt', 'apparmor=unconfined'],
  ...['--cgroupns', 'host', '-v', `${groups}:/sys/fs/cgroup:rw`, '--tmpfs', '/run', '--tmpfs', '/tmp'],
];

class Machines implements Hosts {
  readonly kind = 'systemd';

  async boot(): Promise<void> {
    docker(['network', 'create', '--subnet', NETWORK.subnet, NAME]);
    for (const side of SIDES) {
      const place = ['--network', NAME, '--ip', NETWORK[side], '--network-alias', `${side}.example.org`];
      docker(['run', '-d', '--name', this.name(side), '--hostname', side, ...place, ...RIGHTS, IMAGE]);
    }
    for (const side of SIDES) await this.isUp(side);
    this.do('backup', "sed -i 's,^#HISTORY_DAYS=,HISTORY_DAYS=,' /etc/rsync-inotify/start-sshd.env");
  }

  name(side: Side): string {
    return `${NAME}-${side}`;
  }

  isUp(side: Side): Promise<unknown> {
    return eventually(
      () => /^(running|degraded)/.test(this.run(side, 'systemctl is-system-running || true').output),
      60_000,
    );
  }

  run(side: Side, code: string) {
    const shell = spawnSync('docker', ['exec', this.name(side), 'bash', '-ec', code], { encoding: 'utf8' });
    return { status: shell.status, output: shell.stdout + shell.stderr };
  }

  /** @throws where it fails */
  do(side: Side, code: string): string {
    const { status, output } = this.run(side, code);
    if (status !== 0) throw new Error(`${code} (${status})\n${output}\n${this.run(side, 'journalctl -n 50').output}`);
    return output;
  }

  inTree(side: Side, script: string): string {
    return this.do(side, `cd /data/${side}; ${script}`);
  }

  async start(side: Side): Promise<void> {
    this.do(side, `systemctl enable --now ${side === 'source' ? 'rsync-inotify' : 'start-sshd'}`);
    const hasKeys = () => this.run(side, 'test -e /var/lib/start-sshd/keys/host_keys').status === 0;
    if (side === 'backup') await eventually(hasKeys);
  }

  replaceDisk(): void {
    this.do('source', 'mount -t tmpfs none /data/source');
  }

  replaceSource(): void {
    const old = '/var/lib/rsync-inotify /data/source';
    this.do('source', `systemctl disable --now rsync-inotify; umount /data/source; rm -r ${old}; mkdir /data/source`);
  }

  end(): void {
    docker(['rm', '-f', ...SIDES.map((side) => this.name(side))]);
    docker(['network', 'rm', NAME]);
  }
}

describe.skipIf(reason !== '')('docs/recovery.md with systemd', () => {
  const hosts = new Machines();
  const addressesOf = (side: Side) => hosts.run(side, 'ip -4 address').output;
  const hasAddress = (side: Side) =>
    eventually(() => addressesOf(side).includes(NETWORK.moving), 60_000).catch((error) => {
      throw new Error(`${error}\n${hosts.run(side, 'journalctl -u keepalived').output}`);
    });

  beforeAll(async () => {
    buildHost();
    await hosts.boot();
    await begin(hosts);
  });

  afterAll(() => {
    hosts.end();
    docker(['image', 'rm', IMAGE, PROGRAMS]);
  });

  tellStories(hosts);

  test('keepalived has the backup take over when the source is dead, and not before', async () => {
    const [onSource, onBackup, look] = stepsOf('On both hosts', 'docker').map((step) => [step]);
    await play(hosts, [...stepsOf('keepalived', 'systemd'), ...(onSource ?? [])]);
    await hasAddress('source');
    await play(hosts, onBackup ?? [], { '/bin/sleep 60': '/bin/sleep 1' });
    await Bun.sleep(6000); // longer than it waits for the source
    expect(hosts.run('backup', 'cat /var/log/take-over.log').status).not.toBe(0);
    docker(['pause', hosts.name('source')]);
    await hasAddress('backup');
    await play(hosts, look ?? []);
    expect(hosts.do('backup', 'start-sshd --healthcheck')).toContain('备份端已接管');

    docker(['unpause', hosts.name('source')]);
    await eventually(() => !addressesOf('source').includes(NETWORK.moving), 60_000);
    expect(addressesOf('backup')).toContain(NETWORK.moving);
    await play(hosts, stepsOf('Afterwards', 'docker'));
    await hasAddress('source');
  });
});
