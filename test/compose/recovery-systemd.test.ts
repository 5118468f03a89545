/** The commands of docs/recovery.md for two hosts with systemd, each of which is a container of its own here. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { docker } from '../docker.ts';
import { eventually } from '../processes.ts';
import { type Side, stepsOf } from '../recovery-page.ts';
import { begin, type Hosts, play, tellStories } from '../recovery-stories.ts';
import { buildHost, removeHost, SystemdHost, systemdObstacle } from '../systemd-host.ts';

setDefaultTimeout(240_000);

const reason = systemdObstacle('RECOVERY_SYSTEMD');
if (reason) console.warn(`SKIPPED: docs/recovery.md with systemd: ${reason}`);

const NAME = `rsync-inotify-test-systemd-${process.pid}`;
const SIDES = ['source', 'backup'] as const;
/** The network that the page has for keepalived. */
const NETWORK = { subnet: '192.0.2.0/24', source: '192.0.2.11', backup: '192.0.2.12', moving: '192.0.2.10' };

/** Root may log in from one host to the other. */
const MORE = `RUN install -d -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519 \\
 && cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys \\
 && echo "*.example.org $(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)" >/etc/ssh/ssh_known_hosts
RUN mkdir -p /data/source /data/backup && echo SYNC_INTERVAL=0 >>/etc/rsync-inotify/rsync-inotify.env`;

class Machines implements Hosts {
  readonly kind = 'systemd';
  private readonly hosts = {
    source: new SystemdHost(`${NAME}-source`),
    backup: new SystemdHost(`${NAME}-backup`),
  };

  async boot(): Promise<void> {
    docker(['network', 'create', '--subnet', NETWORK.subnet, NAME]);
    for (const side of SIDES) {
      const place = ['--network', NAME, '--ip', NETWORK[side], '--network-alias', `${side}.example.org`];
      this.hosts[side].start(`${NAME}:latest`, ['--hostname', side, ...place]);
    }
    for (const side of SIDES) await this.hosts[side].isUp();
    this.do('backup', "sed -i 's,^#HISTORY_DAYS=,HISTORY_DAYS=,' /etc/rsync-inotify/start-sshd.env");
  }

  name(side: Side): string {
    return this.hosts[side].name;
  }

  run(side: Side, code: string) {
    return this.hosts[side].run(code);
  }

  /** @throws where it fails */
  do(side: Side, code: string): string {
    return this.hosts[side].do(code);
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
    for (const side of SIDES) this.hosts[side].end();
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
    buildHost(NAME, ['keepalived'], MORE);
    await hosts.boot();
    await begin(hosts);
  });

  afterAll(() => {
    hosts.end();
    removeHost(NAME);
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
