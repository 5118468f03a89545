import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig as readBackupConfig } from '../../src/backup/config.ts';
import { readConfig as readSourceConfig } from '../../src/mirror/environment.ts';
import { mistakesFoundBy } from '../processes.ts';
import { binary, ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

/** The variables of an environment file, as systemd reads it (systemd.exec(5)). */
function variablesIn(text: string): Record<string, string> {
  const lines = [...text.matchAll(/^#?([A-Z_]+)=(?:"(.*)"|(.*))$/gm)];
  return Object.fromEntries(lines.map(([, name, quoted, plain]) => [name, quoted ?? plain]));
}

const compose = Bun.YAML.parse(read('compose.base.yml')) as { services: Record<string, { cap_add: string[] }> };
const analyse = (...args: string[]) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });
const obstacle = analyse('--version').status === 0 ? '' : ' (skipped: systemd-analyze is not installed)';
if (obstacle) console.warn(`the checks of systemd’s units${obstacle}`);

/** A unit and the file of its variables: of a template, those of the instance `web1`. */
function unitOf(name: string) {
  const unit = read('packaging', `${name}.service`).replaceAll('%i', 'web1');
  const env = variablesIn(read('packaging', `${name}.env`));
  const settingsOf = (key: string) =>
    [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].flatMap(([, value = '']) => value.split(' '));
  return { unit, env, settingsOf };
}

describe.each([
  { unitName: 'rsync-inotify', name: 'rsync-inotify', place: 'rsync-inotify', exposure: 25 },
  { unitName: 'rsync-inotify@', name: 'rsync-inotify', place: 'rsync-inotify@web1', exposure: 25 },
  { unitName: 'start-sshd', name: 'start-sshd', place: 'start-sshd', exposure: 36 },
] as const)('$unitName.service', ({ unitName, name, place, exposure }) => {
  const { env, settingsOf } = unitOf(unitName);

  test('runs the program with the variables of its file, which it knows, where it may write', () => {
    expect(settingsOf('ExecStart')).toEqual([`/usr/local/bin/${name}`]);
    expect(settingsOf('EnvironmentFile')).toEqual([`/etc/rsync-inotify/${place.replace(/.*@/, '')}.env`]);
    expect(settingsOf('AssertPathExists')).toEqual(settingsOf('EnvironmentFile'));
    const help = Bun.spawnSync([binary(name), '--help']).stdout.toString();
    for (const variable of Object.keys(env)) expect(help).toMatch(new RegExp(`^  ${variable} `, 'm'));
    expect(mistakesFoundBy(binary(name), { ...env, SOURCE_DIR: tmpdir() })).toBe('');
    if (name === 'rsync-inotify')
      expect(readSourceConfig({ ...env, SOURCE_DIR: tmpdir() }).DEST_HOST).toBe('backup.example.org');
    else expect(readBackupConfig(env).SSHD_PORT).toBe(2222);

    for (const kind of ['StateDirectory', 'RuntimeDirectory', 'LogsDirectory']) expect(settingsOf(kind)[0]).toBe(place);
    const written = ['SSH_DIR', 'HOST_KEY_DIR', 'SHARED_KEYS_DIR'].flatMap((variable) => env[variable] ?? []);
    for (const path of written)
      expect(`${path}/`).toMatch(new RegExp(`^/var/lib/(${settingsOf('StateDirectory').join('|')})/`));
    expect(env.LOG_FILE).toStartWith(`/var/log/${place}/`);
    const [, usual] = /^ {2}STATUS_FILE +(\S+) /m.exec(help) ?? [];
    expect(env.STATUS_FILE ?? usual).toBe(`/run/${place}/status.json`);
  });

  test('starts it again unless its configuration is bad, and gives it the time that it needs to stop', () => {
    expect(settingsOf('Restart')).toEqual(['on-failure']);
    expect(settingsOf('RestartPreventExitStatus')).toEqual(['2']);
    expect(settingsOf('KillMode')).toEqual(['mixed']); // control-group would end the running rsync at once
    expect(Number(settingsOf('TimeoutStopSec')[0])).toBeGreaterThan(8);
  });

  test('gives it no capability that it does not have in the compose file', () => {
    const capabilities = settingsOf('CapabilityBoundingSet').map((capability) => capability.replace('CAP_', ''));
    // Where all is read-only, it needs to read only; containers do not have that one in general.
    const needed = name === 'start-sshd' ? compose.services['rsync-backup']?.cap_add : ['DAC_READ_SEARCH'];
    expect(capabilities).toEqual(needed ?? []);
    expect(settingsOf('NoNewPrivileges')).toEqual(['yes']);
  });

  test.skipIf(obstacle !== '')(`is a unit that systemd finds no fault with${obstacle}`, () => {
    const directory = mkdtempSync(join(tmpdir(), 'units-'));
    const file = join(directory, `${unitName}.service`);
    writeFileSync(file, read('packaging', `${unitName}.service`).replaceAll('/usr/local/bin/', `${ROOT}/dist/`)); // it looks whether that is there
    expect(analyse('verify', '--man=no', file.replace('@', '@web1'))).toMatchObject({
      status: 0,
      stdout: '',
      stderr: '',
    });
    rmSync(directory, { recursive: true });
  });

  test.skipIf(obstacle !== '')(`leaves little to what breaks into it${obstacle}`, () => {
    const file = join(ROOT, 'packaging', `${unitName}.service`);
    const { status, stdout } = analyse('security', '--offline=true', '--no-pager', `--threshold=${exposure}`, file);
    if (status !== 0) throw new Error(stdout);
  });
});

test.each([
  ['rsync-inotify', 'SOURCE_DIR'],
  ['start-sshd', 'DEST_DIR'],
])('%s.service waits for the disk of %s', (name, dataIn) => {
  const { env, settingsOf } = unitOf(name);
  expect(settingsOf('RequiresMountsFor')).toEqual([env[dataIn]?.replace(/\/$/, '') ?? 'missing']);
});

describe('rsync-inotify@.service', () => {
  const [one, alone] = [unitOf('rsync-inotify@'), unitOf('rsync-inotify')];

  test('is rsync-inotify.service, but for where things are', () => {
    const own =
      /^(#.*|(Description|RequiresMountsFor|AssertPathExists|EnvironmentFile|(State|Runtime|Logs)Directory)=.*)\n/gm;
    expect(one.unit.replace(own, '')).toBe(alone.unit.replace(own, ''));
  });

  test('shares with others nothing but the keys that hosts exchange, and loses nothing when another one stops', () => {
    for (const kind of ['RuntimeDirectory', 'LogsDirectory', 'StateDirectory']) {
      const own = one.settingsOf(kind).filter((directory) => directory !== 'rsync-inotify/keys');
      expect(own).toEqual(['rsync-inotify@web1']); // systemd removes a RuntimeDirectory with all that is below it
    }
    expect(one.env.SHARED_KEYS_DIR).toBe('/var/lib/rsync-inotify/keys');
    expect(alone.env.SHARED_KEYS_DIR).toBe('/var/lib/rsync-inotify/keys');
  });
});
