import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { Pair, userName } from '../pair.ts';
import { cleanEnv, eventually, freePort, Program } from '../processes.ts';
import { copyMonitoring, Prometheus, rewrite } from '../prometheus.ts';

setDefaultTimeout(120_000);

const missing = ['prometheus', 'prometheus-alertmanager'].filter((name) => !Bun.which(name));
if (missing.length > 0) console.warn(`SKIPPED: alerts that are sent: ${missing.join(' and ')} not installed`);

const TOKEN = 'token-of-the-receiver';

/** Whether Alertmanager keeps the receiver's URL out of its log, as the one of compose.monitoring.yml does; those before 0.28 do not. */
function hidesUrls(): boolean {
  const { stdout } = spawnSync('prometheus-alertmanager', ['--version'], { encoding: 'utf8' });
  const [, major = 0, minor = 0] = /version (\d+)\.(\d+)/.exec(stdout) ?? [];
  const hides = Number(major) > 0 || Number(minor) >= 28;
  if (!hides) console.warn(`SKIPPED: that no URL is logged: this is Alertmanager ${major}.${minor}`);
  return hides;
}

interface Alert {
  status: 'firing' | 'resolved';
  labels: Record<string, string>;
  annotations: Record<string, string>;
}

/** Takes what Alertmanager sends, but for the first message, at which it hangs up: that has to be sent once more. */
class Receiver implements Disposable {
  readonly alerts: Alert[] = [];
  private hasHungUp = false;
  private readonly server = createServer(async (request, response) => {
    if (!this.hasHungUp) {
      this.hasHungUp = true;
      return request.socket.destroy();
    }
    const { alerts } = (await json(request)) as { alerts: Alert[] };
    if (request.url === `/hook?key=${TOKEN}`) this.alerts.push(...alerts);
    return response.end('ok');
  });

  static async start(): Promise<Receiver> {
    const receiver = new Receiver();
    receiver.server.listen(0, '127.0.0.1');
    await once(receiver.server, 'listening');
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/hook?key=${TOKEN}`;
  }

  /** Waits until an alert has come. */
  async gets(name: string, status: Alert['status'], others: Program[]): Promise<Alert> {
    return eventually(() =>
      this.alerts.find((alert) => alert.labels.alertname === name && alert.status === status),
    ).catch((error) => {
      const told = others.map(({ output }) => output).join('\n---\n');
      throw new Error(`${name} is not ${status}: ${error}\n${JSON.stringify(this.alerts)}\n${told}`);
    });
  }

  [Symbol.dispose](): void {
    this.server.closeAllConnections();
    this.server.close();
  }
}

/** Has minutes and hours be seconds in the files that a test runs with. */
function hasten(directory: string): void {
  rewrite(join(directory, 'backup-alerts.yml'), [
    [/for: \d+[mhd]$/gm, 'for: 1s'],
    ['[15m]', '[3s]'],
    ['> 9000', '> 4'],
  ]);
  rewrite(join(directory, 'alertmanager.yml'), [
    [/(group_wait|group_interval): \w+/g, '$1: 1s'],
    ['repeat_interval: 4h', 'repeat_interval: 1h'],
  ]);
}

/** Starts the Alertmanager of monitoring/, as compose.monitoring.yml does. */
async function startAlertmanager(pair: Pair, directory: string, url: string): Promise<[Program, string]> {
  const address = `127.0.0.1:${await freePort()}`;
  const program = pair.keep(
    new Program(
      'sh',
      [
        ...[join(directory, 'alertmanager.sh'), 'prometheus-alertmanager', `--web.listen-address=${address}`],
        ...[`--storage.path=${pair.path('alertmanager')}`, '--cluster.listen-address=', '--log.level=debug'],
      ],
      { env: { ...cleanEnv(), TMPDIR: pair.directory, ALERT_WEBHOOK_URL: url } },
    ),
  );
  await program.shows('Listening on');
  return [program, address];
}

test.skipIf(missing.length > 0)(
  'with the source dead, the backup’s alerts reach a receiver that is one variable, and so does their end',
  async () => {
    await using pair = await Pair.withKeys('alerting');
    using receiver = await Receiver.start();
    const port = await freePort();
    const backup = pair.start('start-sshd', { METRICS_PORT: `${port}` });
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await source.shows('✓ 服务运行中');
    const directory = copyMonitoring(pair);
    hasten(directory);
    const [alertmanager, address] = await startAlertmanager(pair, directory, receiver.url);
    const addresses = { backup: `127.0.0.1:${port}`, alertmanager: address };
    const prometheus = await Prometheus.start(pair, addresses, directory);
    const programs = [backup, alertmanager, prometheus.program];
    await eventually(async () => (await prometheus.value('rsync_backup_sessions')) > 0);

    await source.stop('SIGKILL'); // as far as the backup can tell, its host is dead
    const instance = `127.0.0.1:${port}`;
    const { labels, annotations } = await receiver.gets('RsyncBackupNothingReceived', 'firing', programs);
    expect(labels).toMatchObject({ severity: 'critical', job: 'start-sshd', instance });
    expect(annotations.summary).toMatch(/^The backup at 127\.0\.0\.1:\d+ has received nothing for \d+/);
    await eventually(async () => (await prometheus.samples('ALERTS{alertname="RsyncBackupNoSession"}')).length === 1);

    const key = ['-i', pair.path('source-ssh', 'id_rsa'), '-p', String(pair.port), '-o', 'BatchMode=yes'];
    const stranger = ['-F', 'none', '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'];
    const words = [...stranger, ...key, `${userName()}@127.0.0.1`, 'cat /etc/passwd'];
    const asking = setInterval(() => spawn('ssh', words, { stdio: 'ignore' }), 500); // an alert that is over at once is not sent
    await receiver.gets('RsyncBackupCommandsRefused', 'firing', programs).finally(() => clearInterval(asking));

    const again = pair.start('rsync-inotify', { SYNC_INTERVAL: '0' });
    await again.shows('✓ 服务运行中');
    await receiver.gets('RsyncBackupNothingReceived', 'resolved', [...programs, again]);
    const known = ['RsyncBackupNothingReceived', 'RsyncBackupNoSession', 'RsyncBackupCommandsRefused'];
    const ofThisMachine = ['RsyncBackupDiskNearlyFull', 'RsyncBackupInodesLow', 'RsyncBackupDiskFull'];
    for (const { labels: its } of receiver.alerts) expect([...known, ...ofThisMachine]).toContain(its.alertname ?? '');
    expect(alertmanager.output).toContain('will retry later'); // the first message was not taken
    if (hidesUrls()) expect(alertmanager.output).not.toContain(TOKEN);
  },
);
