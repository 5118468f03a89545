/** The commands of docs/several-sources.md for several trees of one host with systemd, which is a container here, and is its own backup. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../processes.ts';
import { ROOT } from '../project.ts';
import { buildHost, removeHost, SystemdHost, systemdObstacle } from '../systemd-host.ts';

setDefaultTimeout(120_000);

const reason = systemdObstacle('TREES_SYSTEMD');
if (reason) console.warn(`SKIPPED: several trees of a host with systemd: ${reason}`);

const NAME = `rsync-inotify-test-trees-${process.pid}`;

/** The commands of the page, for a host that is its own backup and has nobody to edit a file. */
const blocks = [
  ...readFileSync(join(ROOT, 'docs', 'several-sources.md'), 'utf8')
    .replace(/[\s\S]*^## Several trees of one host$/m, '')
    .matchAll(/^```bash\n([\s\S]*?)^```/gm),
].map(([, block = '']) =>
  block
    .replaceAll('scp -r', 'cp -r')
    .replaceAll(/(root@)?backup\.example\.org:/g, '')
    .replace(/^editor (.*)/m, 'for file in $1; do echo SYNC_INTERVAL=0 >>$$file; done')
    .replace(' -f\n', ' -n 5 --no-pager\n'),
);
const [install = '', carry = '', operate = ''] = blocks;
const naming = blocks.find((block) => block.startsWith('systemctl stop rsync-inotify ')) ?? '';
/** Asks the instance of a tree, as the page does. */
const ask = (name: string, flag: string) =>
  `systemd-run -q --pipe --wait -p EnvironmentFile=/etc/rsync-inotify/${name}.env rsync-inotify ${flag}`;

describe.skipIf(reason !== '')('several trees of a host with systemd', () => {
  const host = new SystemdHost(NAME);
  const propertyOf = (name: string, property: string) =>
    host.do(`systemctl show --value -p ${property} rsync-inotify@${name}`).trim();
  const arrives = (path: string, on = host) =>
    eventually(() => on.run(`cat /data/backup/${path}`).output === `${path}\n`).catch((error) => {
      throw new Error(`${error}\n${on.run('journalctl --no-pager -n 100').output}`);
    });
  const isMirrored = async (path: string) => {
    host.do(`echo ${path} >/srv/${path}`);
    await arrives(path);
  };

  beforeAll(async () => {
    buildHost(NAME);
    host.start(`${NAME}:latest`, ['--add-host', 'backup.example.org:127.0.0.1']);
    await host.isUp();
    host.do('mkdir -p /data/backup /srv/www /srv/photos /srv/my-site.1; systemctl start start-sshd');
    host.do(install);
    await eventually(() => host.run('ls /var/lib/rsync-inotify/keys/sources/{www,photos}.pub').status === 0);
    await eventually(() => host.run('ls /var/lib/start-sshd/keys/host_keys/*.ed25519.pub').status === 0);
    host.do(carry);
  });

  afterAll(() => {
    host.end();
    removeHost(NAME);
  });

  test('are mirrored side by side, each into a directory of its own, and the page’s commands find each', async () => {
    await Promise.all(['www/page', 'photos/1.jpg'].map(isMirrored));
    expect(host.do('ls /data/backup')).toBe('photos\nwww\n');
    expect(host.do(operate)).toMatch(
      /rsync-inotify@photos\.service[\s\S]*rsync-inotify@www\.service[\s\S]*健康: 正在实时镜像/,
    );
    for (const name of ['www', 'photos']) {
      await eventually(() => host.run(ask(name, '--healthcheck')).status === 0);
      expect(host.do(ask(name, '--verify'))).toMatch(new RegExp(`:/data/backup/${name}/? 相同`));
    }
    expect(host.do('cmp /var/lib/rsync-inotify@{www,photos}/ssh/id_rsa || echo differ')).toContain('differ');
  });

  test('one is stopped and started again, and the other one does not notice', async () => {
    const began = propertyOf('photos', 'InvocationID');
    host.do('systemctl stop rsync-inotify@www');
    expect(host.run('ls -d /run/rsync-inotify@*').output).toBe('/run/rsync-inotify@photos\n');
    expect(host.run(ask('www', '--healthcheck')).status).toBe(1);
    expect(host.do(ask('photos', '--healthcheck'))).toContain('健康');
    host.do('echo www/missed >/srv/www/missed');
    await isMirrored('photos/2.jpg');
    expect(host.run('ls /data/backup/www').output).toBe('page\n');
    host.do('systemctl start rsync-inotify@www');
    await arrives('www/missed');
    await isMirrored('photos/3.jpg');
    expect(propertyOf('photos', 'InvocationID')).toBe(began);
    expect(host.do('journalctl --no-pager -u rsync-inotify@photos -o cat')).not.toMatch(/连接已断开|ERROR/);
  });

  test('one is paused, and the other one is mirrored', async () => {
    host.do(ask('www', '--pause 10m'));
    host.do('echo www/later >/srv/www/later');
    await isMirrored('photos/4.jpg');
    expect(host.run('ls /data/backup/www').output).not.toContain('later');
    host.do(ask('www', '--resume'));
    await arrives('www/later');
  });

  test('a name with hyphens and dots is taken as it is', async () => {
    host.do(
      install
        .replaceAll('www photos', 'my-site.1')
        .replaceAll('www.env', 'my-site.1.env')
        .replace('@www rsync-inotify@photos', '@my-site.1'),
    );
    await eventually(() => host.run('ls /var/lib/rsync-inotify/keys/sources/my-site.1.pub').status === 0);
    host.do(carry);
    await isMirrored('my-site.1/page');
  });

  test('a name without a file of variables is refused once, not tried again and again', () => {
    expect(host.run('systemctl start rsync-inotify@wwv')).toMatchObject({
      status: 1,
      output: expect.stringContaining('Assertion'),
    });
    expect([propertyOf('wwv', 'ActiveState'), propertyOf('wwv', 'NRestarts')]).toEqual(['inactive', '0']);
  });

  test('the one source of a host gets a name, and nothing is sent again', async () => {
    const one = new SystemdHost(`${NAME}-one`);
    try {
      one.start(`${NAME}:latest`, ['--add-host', 'backup.example.org:127.0.0.1']);
      await one.isUp();
      one.do(`mkdir -p /data/backup /data/source; echo page >/data/source/page; systemctl start start-sshd rsync-inotify
        until [ -e /var/lib/rsync-inotify/keys/id_rsa.pub -a -e /var/lib/start-sshd/keys/host_keys ]; do sleep 1; done
        cp -r /var/lib/start-sshd/keys/host_keys /var/lib/rsync-inotify/keys/
        cp /var/lib/rsync-inotify/keys/id_rsa.pub /var/lib/start-sshd/keys/`);
      await arrives('page', one);
      const inode = one.do('stat -c %i /data/backup/page');
      one.do(naming);
      one.do('mkdir /data/source/web1; echo web1/web1/more >/data/source/web1/more');
      await arrives('web1/web1/more', one);
      expect(one.do('ls /data/backup; stat -c %i /data/backup/web1/page')).toBe(`web1\n${inode}`);
    } finally {
      one.end();
    }
  });
});
