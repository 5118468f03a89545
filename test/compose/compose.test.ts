import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, normalize } from 'node:path';
import { docker } from '../docker.ts';
import { Model } from '../model.ts';
import { blockBelow } from '../pages.ts';
import { eventually, freePort } from '../processes.ts';
import { ROOT } from '../project.ts';

setDefaultTimeout(120_000);

/** Why the compose project cannot be tried on this machine, if it cannot. */
function obstacle(): string {
  if (spawnSync('docker', ['compose', 'version']).status !== 0) return 'docker compose v2 is not installed';
  if (spawnSync('docker', ['info']).status !== 0) return 'no Docker engine runs';
  const { stdout } = spawnSync('docker', ['ps', '-a', '--format', '{{.Names}}'], { encoding: 'utf8' });
  if (/^rsync-(source|backup)2?$/m.test(stdout)) return 'containers named rsync-source or rsync-backup exist already';
  return '';
}

const reason = obstacle();
if (reason) console.warn(`SKIPPED: the compose tests: ${reason}`);

/** Why the files of a volume cannot be reached from here, if they cannot: the engine may run on another machine. */
function distance(): string {
  const volume = docker(['volume', 'create']).trim();
  const isHere = existsSync(docker(['volume', 'inspect', '--format', '{{.Mountpoint}}', volume]).trim());
  docker(['volume', 'rm', volume]);
  return isHere ? '' : 'the volumes of the Docker engine are not within reach';
}

const distant = reason || distance();
if (distant && !reason) console.warn(`SKIPPED: random work on the volume: ${distant}`);

/** Why Prometheus and Alertmanager cannot be tried beside the pair, if they cannot: their images are made of the programs on this machine. */
const monitors = { prometheus: 'prometheus', alertmanager: 'prometheus-alertmanager' };
const absent = Object.values(monitors).filter((name) => !Bun.which(name));
const unmonitored = reason || (absent.length === 0 ? '' : `${absent.join(' and ')} not installed`);
if (unmonitored && !reason) console.warn(`SKIPPED: Prometheus in a container: ${unmonitored}`);

/** What `docker compose config` says of a service. */
interface Service {
  image: string;
  environment: Record<string, string>;
  ports?: { target: number; host_ip: string }[];
}

/** What `docker compose config` makes of files. */
const services = (...files: string[]) =>
  JSON.parse(compose(...files.flatMap((file) => ['-f', file]), 'config', '--format', 'json')).services;

/** A copy of what a user clones, so that a .env of the tests touches nobody's. */
let project = '';

/** What has become of the containers: one that ends takes along what was started in it (137). */
const describeEnd = () =>
  ['ps -a', 'logs --timestamps --tail 40']
    .map((args) => spawnSync('docker', ['compose', ...args.split(' ')], { cwd: project, encoding: 'utf8' }).stdout)
    .join('\n');

/** Runs `docker compose …` in the project, as a user does. */
function compose(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync('docker', ['compose', ...args], { cwd: project, encoding: 'utf8' });
  if (status !== 0)
    throw new Error(
      `docker compose ${args.join(' ')} (${status})\n${stdout}${stderr}${status === 137 ? describeEnd() : ''}`,
    );
  return stdout + stderr;
}

// The containers have the names of their services: asking the engine for one of them costs a third of what `docker compose` takes.
const inService = (service: string, command: string) => docker(['exec', service, 'bash', '-c', command]);
const inSource = (command: string) => inService('rsync-source', command);
const inBackup = (command: string) => inService('rsync-backup', command);
const logsOf = (service: string) => docker(['logs', service]);
const count = (text: string, part: string) => text.split(part).length - 1;

/** Waits until a service has logged a line more often than it had; with its log when it does not. */
async function logs(service: string, line: string, before = 0): Promise<void> {
  await eventually(() => count(logsOf(service), line) > before).catch((error) => {
    throw new Error(`${error}\n${logsOf(service)}`);
  });
}

function inspect(service: string, format: string): string {
  return spawnSync('docker', ['inspect', '--format', format, service], { encoding: 'utf8' }).stdout.trim();
}

/** The name of a service's volume, or where its files are on this machine. */
function volumeOf(service: string, destination: string, field: 'Name' | 'Source'): string {
  return inspect(service, `{{range .Mounts}}{{if eq .Destination "${destination}"}}{{.${field}}}{{end}}{{end}}`);
}

/** Runs a command in a container with an engine's usual capabilities that has the volumes of both services. */
function beside(command: string): string {
  const volumes = ['--volumes-from', 'rsync-source', '--volumes-from', 'rsync-backup'];
  const args = ['run', '--rm', '-i', ...volumes, 'rsync-inotify:latest', 'bash', '-e'];
  const { stdout, stderr, status } = spawnSync('docker', args, { input: command, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} (${status})\n${stdout}${stderr}`);
  return stdout;
}

/** What only root may make: files of any owner, mode and kind, with what hangs on them. */
const ODD_FILES = `
  attribute() { # PATH NAME HEX: no program in the image sets one
    case $(uname -m) in x86_64) call=188 ;; *) call=5 ;; esac
    perl -e '($call, $path, $name, $hex) = @ARGV; $value = pack "H*", $hex;
      syscall(0 + $call, $path, $name, $value, length $value, 0) == 0 or die "$path: $!\\n"' $call "$@"
  }
  net_bind_service=0100000200040000000000000000000000000000
  user_1002_reads=0200000001000600ffffffff02000400ea03000004000400ffffffff10000400ffffffff20000000ffffffff
  mkdir /data/source/odd
  cd /data/source/odd
  mkdir private readonly shared sticky
  for name in private/{file,gone} hidden setuid setgid both readonly/{file,gone} shared/file sticky/{file,gone} hard \
    capable acl; do echo $name >$name; done
  chown -R 1000:1000 private readonly hard acl sticky/*
  chown 1001:1002 hidden setuid setgid capable shared
  mknod char c 1 3; mknod block b 7 200; mkfifo fifo; ln -s /nowhere link; ln hard hard2
  chown -h 1000:1001 char fifo link
  chmod 4755 setuid; chmod 2755 setgid; chmod 6711 both; chmod 2770 shared; chmod 1777 sticky
  chmod 0 hidden; chmod 600 private/* char; chmod 400 readonly/* hard
  attribute readonly/file user.note 6e6f7465
  attribute capable security.capability $net_bind_service
  attribute acl system.posix_acl_access $user_1002_reads
  chmod 700 private; chmod 500 readonly
  chown 1000:1000 /data/source; chmod 700 /data/source`;

const CHANGES = `
  cd /data/source/odd
  for name in private/file hidden readonly/file hard; do echo more >>$name; done
  rm */gone char
  mknod char c 1 5
  chown 1005:1006 setuid setgid; chmod 4711 setuid; chmod 2711 setgid
  rsync -aX capable readonly/new`;

async function isMirrored(name: string, content: string): Promise<void> {
  inSource(`echo '${content}' > '/data/source/${name}'`);
  await eventually(() => inBackup(`cat '/data/backup/${name}'`).trim() === content).catch((error) => {
    throw new Error(`${error}\n${compose('logs')}`);
  });
}

/** The differences between source and backup that a plain rsync sees, by content too. */
const differences = () => beside('rsync -aHAXnic --delete /data/source/ /data/backup/');

const RUNNING = '✓ 服务运行中，实时监控文件变化...';

describe.skipIf(reason !== '')('docker compose', () => {
  beforeAll(() => {
    project = mkdtempSync(join(tmpdir(), 'rsync-inotify-compose-'));
    for (const name of [
      'compose.base.yml',
      'compose.yml',
      'compose.monitoring-base.yml',
      'compose.monitoring.yml',
      'compose.backup.yml',
      'compose.backup-monitoring.yml',
      'compose.multi.yml',
      'compose.sources.yml',
      'compose.reversed-source.yml',
      'monitoring',
      'rsync_inotify.dockerfile',
      '.dockerignore',
      'packaging',
      'package.json',
      'bun.lockb',
      'bunfig.toml',
      'scripts',
      'src',
      'LICENSE',
      'THIRD_PARTY_NOTICES.txt',
    ]) {
      cpSync(join(ROOT, name), join(project, name), { recursive: true });
    }
    compose('build');
  });

  afterAll(() => {
    compose('down', '--volumes', '--timeout', '5');
    rmSync(project, { recursive: true });
  });

  test('builds an image with all that both services need and nothing that it need not hold', () => {
    const shell = (command: string) =>
      spawnSync('docker', ['run', '--rm', 'rsync-inotify:latest', 'bash', '-c', command], { encoding: 'utf8' }).stdout;
    const keysAndHistory = `-name 'ssh_host_*' -o -path '/root/.ssh/*' -o -name '*_history'`;
    expect(shell(`find / -xdev ${keysAndHistory} -o -perm /6000`)).toBe('');
    expect(shell('find /var/lib/apt/lists /var/cache /var/log -type f')).toBe('');
    expect(shell('readlink -f /scripts/rsync-inotify.sh /scripts/start-sshd.sh')).toBe(
      '/usr/local/bin/rsync-inotify\n/usr/local/bin/start-sshd\n',
    );
    expect(shell('ls /usr/local/bin')).toBe('rsync-inotify\nstart-sshd\n');
    expect(shell('ls /usr/share/doc/rsync-inotify')).toBe('LICENSE\nTHIRD_PARTY_NOTICES.txt\n');
    const programs = ['rsync', 'inotifywait', 'ssh', 'ssh-keygen', 'sshd', 'nc', 'ps', 'bash'];
    expect(
      shell(`for p in ${programs.join(' ')}; do command -v $p; done`)
        .trim()
        .split('\n'),
    ).toHaveLength(programs.length);
    expect(shell('/scripts/rsync-inotify.sh --check; /scripts/start-sshd.sh --check')).toBe(
      '配置有效，所需程序齐全 ✓\n'.repeat(2),
    );
  });

  test('builds the binaries for arm64 too', () => {
    const args = ['buildx', 'build', '--platform=linux/arm64', '--target=build', '--output=type=tar,dest=/dev/null'];
    const { stderr } = spawnSync('docker', [...args, '--progress=plain', '-f', 'rsync_inotify.dockerfile', '.'], {
      cwd: project,
      encoding: 'utf8',
    });
    expect(stderr).toMatch(/compile +dist\/start-sshd bun-linux-aarch64|CACHED[\s\S]*exporting to client/);
  });

  test('up -d mirrors without a step by hand, and the guide’s commands work', async () => {
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    await logs('rsync-backup', 'SSH 服务器就绪，等待连接...');
    expect(logsOf('rsync-backup')).toContain('  IP 地址: 10.0.5.11');
    expect(logsOf('rsync-source')).toContain('  目标主机: rsync-backup\n');

    const running = compose('ps', '--format', '{{.Name}} {{.Image}} {{.Status}}');
    expect(running).toMatch(/^rsync-backup rsync-inotify:latest Up/m);
    expect(running).toMatch(/^rsync-source rsync-inotify:latest Up/m);

    await isMirrored('test.txt', 'Hello Auto Sync');
    expect(inBackup('cat /data/backup/test.txt')).toBe('Hello Auto Sync\n');
    await logs('rsync-source', '检测到文件变化: /data/source/test.txt CLOSE_WRITE,CLOSE');
    expect(logsOf('rsync-source')).toMatch(/同步成功 \(耗时: \d+秒\) ✓/);

    expect(compose('exec', '-T', 'rsync-source', 'nc', '-zv', 'rsync-backup', '22')).toContain('succeeded');
    expect(compose('exec', '-T', 'rsync-source', 'ls', '-l', '/shared-keys/')).toContain('id_rsa.pub');
    expect(compose('exec', '-T', 'rsync-backup', 'ls', '-l', '/root/.ssh/authorized_keys')).toContain('-rw-------');
    expect(compose('exec', '-T', 'rsync-source', 'ps', 'aux')).toContain('inotifywait -m -r');
    const byHand = ['rsync', '-avz', '/data/source/', 'root@rsync-backup:/data/backup/'];
    expect(compose('exec', '-T', 'rsync-source', ...byHand)).toContain('total size is');
    expect(compose('logs', '--tail=100')).toContain('rsync-backup');
    expect(compose('logs', '-t', 'rsync-source')).toMatch(/\d{4}-\d\d-\d\dT.*服务运行中/);
  });

  test('ps shows both healthy while changes are mirrored', async () => {
    const healthy = () => count(compose('ps', '--format', '{{.Name}} {{.Status}}'), '(healthy)') === 2;
    await eventually(healthy);
    expect(compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--status')).toContain('健康: 正在实时镜像');
    expect(compose('exec', '-T', 'rsync-backup', 'start-sshd', '--status')).toContain('健康: SSH 服务运行中');
  });

  test('the page’s archive of the backup holds all that happened before, and nothing changes meanwhile', () => {
    const write = 'for n in {1..400}; do date +%N >/data/source/hot; sleep 0.05; done';
    compose('exec', '-d', 'rsync-source', 'bash', '-c', write);
    inSource('mkdir /data/source/archived; cd /data/source/archived; for n in {1..300}; do echo $n >$n; done');
    const { status, stdout, stderr } = spawnSync('sh', ['-c', blockBelow('Sync and pause')], {
      cwd: project,
      encoding: 'utf8',
    });
    expect([status, stdout + stderr]).toEqual([
      0,
      expect.stringMatching(/此前的变化都已到达每个目标[\s\S]*已暂停同步[\s\S]*已结束自/),
    ]);
    const archive = join(project, 'backup.tar');
    const tar = (...args: string[]) => spawnSync('tar', args, { encoding: 'utf8' }).stdout;
    expect(tar('-tf', archive).match(/^\.\/archived\/\d+$/gm)).toHaveLength(300);
    expect(tar('-xOf', archive, './archived/300')).toBe('300\n');
    inSource('rm -r /data/source/archived');
  });

  test('both containers may do no more than they need', () => {
    const allowed = {
      'rsync-source': ['DAC_OVERRIDE'],
      'rsync-backup': 'CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD SETFCAP SETGID SETUID SYS_CHROOT'.split(' '),
    };
    for (const [service, capabilities] of Object.entries(allowed)) {
      expect(inspect(service, '{{.HostConfig.ReadonlyRootfs}}')).toBe('true');
      expect(inspect(service, '{{.HostConfig.Privileged}}')).toBe('false');
      expect(inspect(service, '{{.HostConfig.SecurityOpt}}')).toBe('[no-new-privileges:true]');
      expect(inspect(service, '{{.HostConfig.CapDrop}}')).toBe('[ALL]');
      const added = inspect(service, '{{range .HostConfig.CapAdd}}{{.}} {{end}}').replaceAll('CAP_', '');
      expect(added.split(' ').sort()).toEqual(capabilities);

      const shell = (command: string) => inService(service, command);
      const status = shell('cat /proc/1/status');
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      const [, bits = ''] = /^CapBnd:\t(\w+)$/m.exec(status) ?? [];
      expect(count(BigInt(`0x${bits}`).toString(2), '1')).toBe(capabilities.length);
      for (const place of ['/', '/root', '/etc/ssh', '/usr/local/bin', '/var/log', '/data', '/scripts']) {
        expect(shell(`touch ${place}/file 2>&1 || true`)).toContain('Read-only file system');
      }
      expect(shell('touch /run/file /tmp/file && rm /run/file /tmp/file')).toBe('');
    }
  });

  test('the source’s key cannot lead the image’s rsync out of the backup by links that it has planted', async () => {
    inSource('ln -s /etc /data/source/etc; ln -s /etc/shadow /data/source/.f');
    await eventually(() => inBackup('readlink /data/backup/.f || true') === '/etc/shadow\n');
    const attack = (command: string) =>
      inSource(`mkdir -p /tmp/own/etc; cd /tmp/own; echo >etc/new; ${command} 2>&1 || true`);
    const backup = 'root@rsync-backup:/data/backup/';
    expect(attack(`rsync -rlR --no-implied-dirs ./etc/new ${backup}`)).toContain('拒绝执行：不允许 rsync 选项');
    expect(attack(`rsync -r /tmp/own/etc/ ${backup}etc/`)).toContain(
      '/data/backup/etc/ 不在 DEST_DIR=/data/backup 之内',
    );
    // Rules come in the protocol, where no command shows them: the kernel keeps rsync from the file.
    const rules = (dirMerge: string) =>
      `mkdir -p /tmp/empty; rsync -rn --delete --filter=': .f' ${dirMerge} 2>&1 || true`;
    const unfenced = inBackup(
      `printf 'shift\n"$@"' >/tmp/rsh; ${rules(`-e 'sh /tmp/rsh' /tmp/empty/ host:/data/backup/`)}`,
    );
    expect(unfenced).toContain('Unknown filter rule'); // it does read the file, and may quote it
    expect(inSource(rules(`/tmp/empty/ ${backup}`))).toBe('');
    expect(inBackup('ls /etc')).not.toContain('new');
    inSource('rm /data/source/etc /data/source/.f');
  });

  test('an address from which many fail to log in is not shut out, for sources may share it', async () => {
    const fail = 'ssh -n -i /tmp/unknown/key -o IdentitiesOnly=yes -o StrictHostKeyChecking=no root@rsync-backup 2>&1';
    const tries = `mkdir -p /tmp/unknown; [ -e /tmp/unknown/key ] || ssh-keygen -q -t ed25519 -N '' -f /tmp/unknown/key
      for n in {1..10}; do nc -z rsync-backup 22; ${fail} || true; done`;
    expect(count(inSource(tries), 'Permission denied (publickey)')).toBe(10); // more than OpenSSH 9.8 and later bear by themselves
    await isMirrored('by-another', 'of the same address');
    compose('restart', '--timeout', '5', 'rsync-source'); // logs in anew
    await isMirrored('by-another', 'that logs in');
  });

  test('a restart of either container loses nothing', async () => {
    compose('restart', 'rsync-backup');
    await isMirrored('after-backup-restart', 'one');
    const before = count(logsOf('rsync-source'), RUNNING);
    compose('restart', 'rsync-source');
    await logs('rsync-source', RUNNING, before);
    await isMirrored('after-source-restart', 'two');
  });

  test('keys outlive their containers; a side that has lost them makes new ones, and they are taken', async () => {
    const key = () => inBackup('cat /root/.ssh/authorized_keys');
    const hostKeys = () => inBackup('cat /root/.ssh/host_keys/*.pub');
    const [oldKey, oldHostKeys] = [key(), hostKeys()];
    expect(count(oldHostKeys, 'root@rsync-backup')).toBe(3);
    compose('up', '-d', '--force-recreate');
    await logs('rsync-source', RUNNING);
    await isMirrored('after-new-containers', 'three');
    expect([key(), hostKeys()]).toEqual([oldKey, oldHostKeys]);

    const loseKeys = (service: string) => {
      const volume = volumeOf(service, '/root/.ssh', 'Name');
      compose('rm', '--stop', '--force', service);
      spawnSync('docker', ['volume', 'rm', volume]);
      compose('up', '-d', '--no-deps', service);
    };
    loseKeys('rsync-source');
    await logs('rsync-source', RUNNING);
    expect(key()).not.toBe(oldKey);
    await isMirrored('after-new-source', 'four');
    loseKeys('rsync-backup');
    await logs('rsync-backup', 'SSH 服务器就绪，等待连接...');
    expect(hostKeys()).not.toBe(oldHostKeys);
    await isMirrored('after-new-backup', 'five');
  });

  test('a .env file sets the variables', async () => {
    writeFileSync(join(project, '.env'), 'SYNC_INTERVAL=1\nRSYNC_OPTS=-avz\nMAX_RETRIES=20\n');
    compose('down');
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    for (const line of ['  Rsync 选项: -avz\n', '  同步间隔: 1秒\n', '  最大重试: 20次\n']) {
      expect(logsOf('rsync-source')).toContain(line);
    }
    await isMirrored('kept', 'without --delete');
    inSource('rm /data/source/kept');
    await isMirrored('next', 'change');
    expect(inBackup('cat /data/backup/kept')).toBe('without --delete\n');
  });

  test('log and metrics are kept in files, by a variable and a volume each', async () => {
    const override = {
      services: {
        'rsync-source': { volumes: ['./logs:/var/log/rsync', './metrics:/var/metrics'] },
        'rsync-backup': { volumes: ['./backup-logs:/var/log/rsync'] },
      },
    };
    writeFileSync(join(project, 'compose.override.yml'), JSON.stringify(override));
    const files = ['LOG_FILE=/var/log/rsync/sync.log', 'BACKUP_LOG_FILE=/var/log/rsync/sshd.log'];
    writeFileSync(join(project, '.env'), [...files, 'METRICS_FILE=/var/metrics/rsync.prom', ''].join('\n'));
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    await isMirrored('logged', 'in a file');
    const held = (...path: string[]) => readFileSync(join(project, ...path), 'utf8');
    await eventually(() => held('logs', 'sync.log').includes('检测到文件变化: /data/source/logged CLOSE_WRITE'));
    expect(held('logs', 'sync.log')).toContain(RUNNING);
    expect(held('logs', 'sync.log')).not.toContain('\x1b');
    expect(held('backup-logs', 'sshd.log')).toContain('SSH 服务器就绪');
    await eventually(() =>
      /rsync_sync_total\{.*mode="incremental",result="success"\} [1-9]/.test(held('metrics', 'rsync.prom')),
    );
    rmSync(join(project, 'compose.override.yml'));
  });

  test('a .env file moves sshd to another port', async () => {
    writeFileSync(join(project, '.env'), 'SSH_OPTS=-p 2222\nSSHD_PORT=2222\nNO_COLOR=1\n');
    compose('up', '-d');
    await logs('rsync-source', '目标主机: rsync-backup:2222');
    await logs('rsync-source', RUNNING);
    await isMirrored('by-2222', 'six');
  });

  test('a login that takes too long leaves no process behind', async () => {
    compose('exec', '-d', 'rsync-source', 'bash', '-c', '(echo SSH-2.0-test; sleep 60) | nc rsync-backup 2222');
    const strangers = () => inBackup('pgrep -u sshd || true').trim();
    const stranger = await eventually(strangers);
    inBackup(`kill -ALRM $(ps -o ppid= ${stranger})`); // as when the time is over
    await eventually(() => strangers() === '');
  });

  test('files of any owner, mode and kind are mirrored, with their links, ACLs and capabilities', async () => {
    writeFileSync(join(project, '.env'), 'RSYNC_OPTS=-aHAX --delete\nSYNC_INTERVAL=0\nNO_COLOR=1\n');
    compose('create');
    beside(ODD_FILES);
    const isEqual = () =>
      eventually(() => expect(differences()).toBe('') ?? true).catch((error) => {
        throw new Error(`${error}\n${compose('logs')}`);
      });
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    await isEqual();
    beside(CHANGES);
    await isEqual();
    await isMirrored('beside-odd-files', 'seven'); // in a directory of another user
    beside('rm -r /data/source/odd; chown root: /data/source; chmod 755 /data/source');
    await isEqual();
  });

  test.skipIf(distant !== '')('random work on the volume of the source is mirrored', async () => {
    writeFileSync(join(project, '.env'), 'SYNC_INTERVAL=0\nFULL_SYNC_INTERVAL=0\nNO_COLOR=1\n');
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    const source = volumeOf('rsync-source', '/data/source', 'Source');
    const places = {
      source,
      backup: volumeOf('rsync-backup', '/data/backup', 'Source'),
      scratch: join(project, 'expected'),
    };
    const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
    const outside = join(source, '..', 'outside'); // beside the files, in the directory that goes with the volume
    mkdirSync(outside);
    const model = new Model(seed, source, outside);
    for (const ms of [50, 300, 1000, 2500, 300, 50, 2500, 2500, 1000]) {
      await model.work(ms);
      await model
        .isMirrored(places, '-avz --delete', () => logsOf('rsync-source'))
        .catch((error) => {
          throw new Error(`MODEL_SEED=${seed}, after ${model.count} operations:\n${error.message}`);
        });
    }
    console.log(`MODEL_SEED=${seed}: ${model.count} operations`);
  });

  test('the source is unhealthy within a minute after its network was cut without a word', async () => {
    const health = () => inspect('rsync-source', '{{.State.Health.Status}}');
    await eventually(() => health() === 'healthy', 60_000);
    const [network = ''] = Object.keys(JSON.parse(inspect('rsync-backup', '{{json .NetworkSettings.Networks}}')));
    spawnSync('docker', ['network', 'disconnect', network, 'rsync-backup']);
    await eventually(() => health() === 'unhealthy', 60_000);
    const said = JSON.parse(inspect('rsync-source', '{{json .State.Health.Log}}')).at(-1).Output;
    expect(said).toBe('不健康: 无法连接目标 root@rsync-backup:/data/backup/\n');
    spawnSync('docker', ['network', 'connect', '--ip', '10.0.5.11', network, 'rsync-backup']);
    compose('restart', 'rsync-backup'); // the rest is as after any loss of the backup
  });

  test('stop takes less than 5 s also in the middle of a transfer, and both end with status 0', async () => {
    writeFileSync(join(project, '.env'), 'RSYNC_OPTS=-av --bwlimit=50\nSYNC_INTERVAL=0\n');
    compose('up', '-d');
    await logs('rsync-source', RUNNING);
    inSource('head -c 20000000 /dev/urandom > /data/source/big');
    await logs('rsync-source', '触发批量同步...');
    const started = performance.now();
    compose('stop');
    expect(performance.now() - started).toBeLessThan(5000);
    expect(compose('ps', '-a', '--format', '{{.Name}} {{.ExitCode}}').trim().split('\n').sort()).toEqual([
      'rsync-backup 0',
      'rsync-source 0',
    ]);
  });

  test('compose.monitoring.yml is valid, and leaves what compose.yml says as it is', () => {
    writeFileSync(join(project, '.env'), '');
    const { prometheus, alertmanager, grafana, ...pair } = services('compose.yml', 'compose.monitoring.yml');
    const before = services('compose.yml');
    expect(Object.keys(pair)).toEqual(Object.keys(before));
    for (const [name, { environment, ports, ...rest }] of Object.entries(pair as Record<string, Service>)) {
      const { environment: environmentBefore, ...restBefore } = before[name];
      expect(rest).toEqual(restBefore);
      expect(environment).toEqual({ ...environmentBefore, METRICS_PORT: '9873', METRICS_LISTEN: '0.0.0.0' });
      expect(ports?.map(({ target }) => target)).toEqual(name === 'rsync-source' ? [9873] : undefined);
    }
    const besides: Service[] = [prometheus, alertmanager, grafana];
    for (const service of besides) {
      expect(service).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
      expect(service.image).toMatch(/:v?\d+\.\d+\.\d+$/);
      expect(service.ports).toHaveLength(1);
    }
    for (const { ports = [] } of [...besides, pair['rsync-source']])
      for (const { host_ip } of ports) expect(host_ip).toBe('127.0.0.1');
  });

  test('compose.backup-monitoring.yml watches the backup on its own host as compose.monitoring.yml does, and asks no source', () => {
    const watched = ['compose.backup.yml', 'compose.backup-monitoring.yml'];
    writeFileSync(join(project, '.env'), '');
    const { 'rsync-backup': backup, prometheus, alertmanager, grafana, ...others } = services(...watched);
    expect(others).toEqual({});
    const { prometheus: usual, ...pair } = services('compose.yml', 'compose.monitoring.yml');
    const network = { networks: { default: null } }; // the backup's, and no other
    for (const service of [backup, prometheus]) expect(service).toMatchObject(network);
    expect(alertmanager).toEqual({ ...pair.alertmanager, ...network });
    expect(grafana).toEqual({ ...pair.grafana, ...network });
    const { command, extra_hosts, ...rest } = prometheus;
    const { command: usualCommand, ...usualRest } = usual;
    expect(rest).toEqual({ ...usualRest, ...network });
    const configured = usualCommand.with(0, '--config.file=/etc/prometheus/prometheus-backup.yml');
    expect([command, extra_hosts]).toEqual([configured, ['rsync-source=127.0.0.1']]);
    const { environment, ...backupRest } = services('compose.backup.yml')['rsync-backup'];
    const metrics = { METRICS_PORT: '9873', METRICS_LISTEN: '0.0.0.0', METRICS_HOSTS: 'rsync-backup ' };
    expect(backup).toEqual({ ...backupRest, environment: { ...environment, ...metrics } });
    writeFileSync(join(project, '.env'), 'PROMETHEUS_CONFIG=prometheus.yml\nSOURCE_ADDRESS=192.0.2.10\n');
    const both = services(...watched).prometheus;
    expect([both.command, both.extra_hosts]).toEqual([usualCommand, ['rsync-source=192.0.2.10']]);
    writeFileSync(join(project, '.env'), '');
  });

  test('compose.multi.yml adds a second backup: each gets every change, whatever becomes of the other', async () => {
    compose('down', '--volumes', '--timeout', '5');
    writeFileSync(join(project, '.env'), 'COMPOSE_FILE=compose.yml:compose.multi.yml\nSYNC_INTERVAL=0\nNO_COLOR=1\n');
    const inSecond = (command: string) => inService('rsync-backup2', command);
    const isInSecond = (name: string, content: string) =>
      eventually(() => inSecond(`cat '/data/backup/${name}'`).trim() === content, 60_000).catch((error) => {
        throw new Error(`${error}\n${compose('logs')}`);
      });
    try {
      compose('up', '-d', 'rsync-source'); // and what it needs
      await logs('rsync-source', RUNNING);
      await isMirrored('alone', 'the second one does not run yet');
      compose('up', '-d');
      expect(inspect('rsync-backup2', '{{.Image}}')).toBe(inspect('rsync-backup', '{{.Image}}'));
      await isInSecond('alone', 'the second one does not run yet');
      await isMirrored('both', 'run');
      await isInSecond('both', 'run');

      compose('stop', 'rsync-backup2');
      await isMirrored('missed', 'by one');
      inSource('rm /data/source/alone');
      await eventually(() => inBackup('ls /data/backup') === 'both\nmissed\n');
      compose('start', 'rsync-backup2');
      await isInSecond('missed', 'by one');
      expect(inSecond('ls /data/backup')).toBe('both\nmissed\n');
      await eventually(() => compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--healthcheck')); // throws if not

      await logs('rsync-source', '备份端已重新启动，或目标目录已更换，立即进行一次全量比较'); // in which nothing is renamed
      inSource('head -c 1000000 /dev/urandom >/data/source/large');
      await eventually(() => inSecond('ls /data/backup').includes('large'));
      await eventually(
        () => compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--status').match(/空闲/g)?.length === 2,
      );
      const inode = inSecond('stat -c %i /data/backup/large');
      inSource('mv /data/source/large /data/source/renamed');
      await logs('rsync-source', '已在目标上重命名 1 项', 1);
      expect(inSecond('stat -c %i /data/backup/renamed')).toBe(inode);
      expect(compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--verify').match(/相同/g)).toHaveLength(2);
    } finally {
      compose('down', '--volumes', '--timeout', '5');
      writeFileSync(join(project, '.env'), '');
    }
  });

  test('compose.sources.yml adds a second source: each is mirrored by itself, and `down -v` leaves nothing of either', async () => {
    compose('down', '--volumes', '--timeout', '5');
    writeFileSync(join(project, '.env'), 'COMPOSE_FILE=compose.yml:compose.sources.yml\nSYNC_INTERVAL=0\nNO_COLOR=1\n');
    const inSecond = (command: string) => inService('rsync-source2', command);
    const allOfProject = () =>
      [
        ['ps', '-a'],
        ['volume', 'ls'],
        ['network', 'ls'],
      ]
        .flatMap((list) => docker([...list, '--format', '{{.Labels}}']).split('\n'))
        .filter((labels) =>
          labels.split(',').includes(`com.docker.compose.project=${basename(project).toLowerCase()}`),
        );
    const arrives = (path: string) =>
      eventually(() => inBackup(`cat /data/backup/${path}`).trim() === path, 60_000).catch((error) => {
        throw new Error(`${error}\n${compose('logs')}`);
      });
    try {
      compose('up', '-d');
      expect(inspect('rsync-source2', '{{.Image}}')).toBe(inspect('rsync-source', '{{.Image}}'));
      for (const service of ['rsync-source', 'rsync-source2']) await logs(service, RUNNING);
      inSource('echo web1/page >/data/source/page');
      inSecond('echo web2/page >/data/source/page; mkdir /data/source/own; echo web2/own/file >/data/source/own/file');
      await Promise.all(['web1/page', 'web2/page', 'web2/own/file'].map(arrives));
      expect(inBackup('ls -A /data/backup')).toBe('web1\nweb2\n');
      expect(allOfProject()).toHaveLength(3 + 7 + 1); // containers, volumes and the network

      compose('stop', 'rsync-source');
      inSecond('echo web2/more >/data/source/more; rm -r /data/source/own');
      await arrives('web2/more');
      await eventually(() => inBackup('ls /data/backup/web2') === 'more\npage\n');
      expect(inBackup('cat /data/backup/web1/page')).toBe('web1/page\n');
      compose('start', 'rsync-source');
      await eventually(() => compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--healthcheck')); // throws if not
      for (const [service, name] of [
        ['rsync-source', 'web1'],
        ['rsync-source2', 'web2'],
      ] as const)
        expect(compose('exec', '-T', service, 'rsync-inotify', '--verify')).toContain(`/data/backup/${name}/ 相同`);
    } finally {
      compose('down', '--volumes', '--timeout', '5');
      expect(allOfProject()).toEqual([]);
      writeFileSync(join(project, '.env'), '');
    }
  });

  test('docs/several-sources.md gives the one source a name, sends nothing again, and retires one of two', async () => {
    const files = () =>
      inBackup("cd /data/backup; find . -name .history -prune -o -type f -printf '%i %f\\n' | sort").trim();
    const ask = (service: string, ...args: string[]) => compose('exec', '-T', service, ...args);
    const isHealthy = (service: string) => eventually(() => ask(service, 'rsync-inotify', '--healthcheck'), 60_000);
    const follow = (title: string) => {
      const { status, output } = shell(blockBelow(title));
      if (status !== 0) throw new Error(`${title} (${status})\n${output}\n${compose('logs')}`);
    };
    const shell = (code: string) => {
      const { status, stdout, stderr } = spawnSync('bash', ['-ec', code], { cwd: project, encoding: 'utf8' });
      return { status, output: stdout + stderr };
    };
    compose('down', '--volumes', '--timeout', '5');
    writeFileSync(join(project, '.env'), 'SYNC_INTERVAL=0\nHISTORY_DAYS=1\nNO_COLOR=1\n');
    try {
      compose('up', '-d');
      await logs('rsync-source', RUNNING);
      for (const content of ['first', 'second']) {
        inSource(`mkdir -p /data/source/dir; echo ${content} >/data/source/page; echo of all >/data/source/dir/file`);
        ask('rsync-source', 'rsync-inotify', '--sync');
      }
      const before = files();
      follow('Existing data');
      await isHealthy('rsync-source');
      expect(ask('rsync-source', 'rsync-inotify', '--verify')).toContain('/data/backup/web1/ 相同');
      expect(files()).toBe(before);
      expect(ask('rsync-backup', 'start-sshd', '--history', '--source', 'web1')).toContain(' page\n');
      expect(inBackup('ls -A /data/backup')).toBe('web1\n');

      writeFileSync(join(project, '.env'), 'COMPOSE_FILE=compose.yml:compose.sources.yml\n', { flag: 'a' });
      compose('up', '-d');
      await isHealthy('rsync-source2');
      expect(inBackup('start-sshd --status; cat ~/.ssh/authorized_keys')).toContain('web2');
      follow('When a source goes');
      await eventually(() => !inBackup('cat ~/.ssh/authorized_keys; ls /data/backup').includes('web2'), 60_000);
      expect(inBackup('ls /data/backup/.retired')).toBe('web2\n');
      inSource('echo after >/data/source/page');
      await eventually(() => inBackup('cat /data/backup/web1/page') === 'after\n');
    } finally {
      compose('down', '--volumes', '--timeout', '5');
      writeFileSync(join(project, '.env'), '');
    }
  });

  test('compose.reversed-source.yml mirrors back what the backup has of the source that .env names', () => {
    const environmentWith = (lines: string) => {
      writeFileSync(join(project, '.env'), lines);
      return services('compose.reversed-source.yml')['reversed-source'].environment;
    };
    const placeWith = (lines: string) => normalize(environmentWith(lines).SOURCE_DIR);
    try {
      expect(placeWith('')).toBe('/data/backup/');
      expect(placeWith('SOURCE_NAME=web1\n')).toBe('/data/backup/web1/');
      expect(placeWith('SOURCE_NAME=web1\nDEST_DIR=/mnt/disk\n')).toBe('/mnt/disk/web1/');
      expect(environmentWith('SOURCE_NAME=web1\n')).toMatchObject({ SOURCE_NAME: '', DEST_DIR: '/data/source/' });
    } finally {
      writeFileSync(join(project, '.env'), '');
    }
  });

  test('the recipe’s several trees are mirrored side by side, and one that is not mounted empties no copy', async () => {
    const [recipe, volume] = [blockBelow('Several trees'), `rsync-inotify-test-photos-${process.pid}`];
    const ours = recipe.replace('/srv/www', './www').replace('album_photos', volume);
    const useOverride = (text: string) => writeFileSync(join(project, 'compose.override.yml'), text);
    const copy = () => inBackup('cd /data/backup && find . -mindepth 1 -type f | sort').trim().split('\n');
    const tells = async (line: RegExp) => {
      await logs('rsync-source', RUNNING);
      expect(logsOf('rsync-source')).toMatch(line);
      await eventually(() => inSource('rsync-inotify --healthcheck || true').includes('不健康: 挂载点不见了'));
    };
    writeFileSync(join(project, '.env'), 'SYNC_INTERVAL=0\nNO_COLOR=1\n');
    mkdirSync(join(project, 'www'));
    writeFileSync(join(project, 'www', 'index.html'), 'page');
    docker(['volume', 'create', volume]);
    try {
      useOverride(ours);
      compose('up', '-d');
      await logs('rsync-source', RUNNING);
      inSource('echo photo >/data/source/photos/1.jpg');
      await eventually(() => `${copy()}` === './photos/1.jpg,./www/index.html');

      useOverride(ours.replace('"photos:/data/source/photos"', ''));
      compose('up', '-d');
      await tells(/\[ERROR .*\] 源目录下的挂载点 photos 不见了/);
      inSource('echo more >/data/source/www/more.html');
      await eventually(() => copy().includes('./www/more.html'));
      expect(copy()).toEqual(['./photos/1.jpg', './www/index.html', './www/more.html']);

      compose('stop', 'rsync-source');
      rmSync(join(project, 'www'), { recursive: true }); // as if its disk were not mounted: Docker makes an empty one
      useOverride(ours);
      compose('up', '-d');
      await tells(/\[ERROR .*\] 源目录下的挂载点 www 换成了另一个空的文件系统/);
      inSource('rm /data/source/photos/1.jpg; echo photo >/data/source/photos/2.jpg');
      await eventually(() => copy().includes('./photos/2.jpg') && !copy().includes('./photos/1.jpg'));
      expect(copy()).toEqual(['./photos/2.jpg', './www/index.html', './www/more.html']);
      expect(compose('exec', '-T', 'rsync-source', 'rsync-inotify', '--accept-deletions')).toContain('www');
      await eventually(() => `${copy()}` === './photos/2.jpg');
    } finally {
      rmSync(join(project, 'compose.override.yml'));
      compose('down', '--volumes', '--timeout', '5');
      docker(['volume', 'rm', volume]);
      writeFileSync(join(project, '.env'), '');
    }
  });

  /** Builds an image as prom/NAME is: the user, the places and the entry point. */
  function buildMonitor(name: keyof typeof monitors): string {
    const image = `rsync-inotify-test-${name}:latest`;
    const directory = mkdtempSync(join(tmpdir(), `rsync-inotify-${name}-`));
    cpSync(Bun.which(monitors[name]) ?? '', join(directory, name), { dereference: true });
    const share = `/usr/share/prometheus/${name}`; // where Debian's have their templates
    mkdirSync(join(directory, 'share'));
    if (existsSync(share)) cpSync(share, join(directory, 'share'), { recursive: true, dereference: true });
    writeFileSync(
      join(directory, 'Dockerfile'),
      `FROM debian:trixie-slim
       COPY ${name} /bin/${name}
       COPY share ${share}
       RUN install -d -o nobody -g nogroup /${name}
       USER nobody
       WORKDIR /${name}
       ENTRYPOINT ["/bin/${name}"]`,
    );
    const built = spawnSync('docker', ['build', '-t', image, directory], { encoding: 'utf8' });
    rmSync(directory, { recursive: true });
    expect(built.status, built.stderr).toBe(0);
    return image;
  }

  test.skipIf(unmonitored !== '')('Prometheus beside the pair sees both, and tells Alertmanager', async () => {
    const [status, api, sender] = [await freePort(), await freePort(), await freePort()];
    const images = { PROMETHEUS_IMAGE: buildMonitor('prometheus'), ALERTMANAGER_IMAGE: buildMonitor('alertmanager') };
    const settings = { COMPOSE_FILE: 'compose.yml:compose.monitoring.yml', NO_COLOR: 1 };
    const ports = { STATUS_PORT: status, PROMETHEUS_PORT: api, ALERTMANAGER_PORT: sender };
    const receiver = { ALERT_WEBHOOK_URL: "https://example.org/it's?key=a&b" };
    const variables = Object.entries({ ...settings, ...images, ...ports, ...receiver });
    writeFileSync(join(project, '.env'), variables.map(([name, setting]) => `${name}="${setting}"\n`).join(''));
    const value = async (query: string, time = Date.now() / 1000) => {
      const parameters = new URLSearchParams({ query, time: String(time) });
      const answer = await fetch(`http://127.0.0.1:${api}/api/v1/query?${parameters}`);
      const { data } = (await answer.json()) as { data: { result: { value: [number, string] }[] } };
      return Number(data.result[0]?.value[1]);
    };
    const shows = (query: string) =>
      eventually(async () => (await value(query)) > 0, 45_000).catch((error) => {
        throw new Error(`${query}: ${error}\n${compose('logs')}`);
      });
    try {
      compose('up', '-d', 'rsync-backup', 'rsync-source', 'prometheus', 'alertmanager'); // Grafana’s image is no test’s to fetch
      await logs('rsync-source', RUNNING);
      expect((await fetch(`http://127.0.0.1:${status}/healthz`)).status).toBe(200);
      const askedAs = async (Host: string) =>
        (await fetch(`http://127.0.0.1:${status}/metrics`, { headers: { Host } })).status;
      expect([await askedAs('rsync-source:9873'), await askedAs('evil.example')]).toEqual([200, 421]);
      await isMirrored('counted', 'once');
      await shows('up{job="rsync-inotify", instance="rsync-source:9873"}');
      await shows('rsync_target_up{target="root@rsync-backup:/data/backup/"}');
      await shows('rsync_sync_total{mode="full", result="success"}');
      await shows('rsync_sync_total{mode="incremental", result="success"}');
      await shows('rsync_events_total');
      const rules = await (await fetch(`http://127.0.0.1:${api}/api/v1/rules`)).text();
      expect(rules).toContain('RsyncTargetDown');
      expect(rules).toContain('RsyncBackupNothingReceived');
      await shows('up{job="start-sshd", instance="rsync-backup:9873"}');
      await shows('rsync_backup_sessions{source=""}');
      await shows('rsync_backup_last_received_timestamp_seconds');
      const told = await (await fetch(`http://127.0.0.1:${api}/api/v1/alertmanagers`)).text();
      expect(told).toContain('"activeAlertmanagers":[{"url":"http://alertmanager:9093/');
      const state = () => fetch(`http://127.0.0.1:${sender}/api/v2/status`).then((answer) => answer.text());
      await eventually(async () => (await state()).includes('webhook_configs:')).catch((error) => {
        throw new Error(`${error}\n${compose('logs', 'alertmanager')}`);
      });
      expect(compose('exec', '-T', 'alertmanager', 'sh', '-c', 'cat /tmp/alertmanager-*')).toEndWith(
        "    webhook_configs:\n      - url: 'https://example.org/it''s?key=a&b'\n",
      );
      expect(compose('logs', 'alertmanager')).not.toContain('example.org');
      for (const service of Object.keys(monitors)) {
        const container = compose('ps', '-q', service).trim();
        expect(inspect(container, '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}')).toBe('true [ALL]');
        expect(compose('exec', '-T', service, 'cat', '/proc/1/status')).toMatch(/^NoNewPrivs:\t1$/m);
      }
      const then = Date.now() / 1000;
      compose('up', '-d', '--force-recreate', '--no-deps', 'prometheus');
      await eventually(async () => (await value('rsync_target_up', then)) === 1); // its data outlive it
    } finally {
      compose('down', '--volumes', '--timeout', '5');
      spawnSync('docker', ['image', 'rm', ...Object.values(images)]);
    }
  });
});
