import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig as readBackupConfig } from '../../src/backup/config.ts';
import { readConfig as readSourceConfig } from '../../src/mirror/config.ts';
import { mistakesFoundBy } from '../processes.ts';
import { binary, ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

/** The variables of an environment file, as systemd reads it (systemd.exec(5)). */
function variablesIn(text: string): Record<string, string> {
  const lines = [...text.matchAll(/^#?([A-Z_]+)=(?:"(.*)"|(.*))$/gm)];
  return Object.fromEntries(lines.map(([, name, quoted, plain]) => [name, quoted ?? plain]));
}

const compose = Bun.YAML.parse(read('compose.yml')) as { services: Record<string, { cap_add: string[] }> };
const analyse = (...args: string[]) => spawnSync('systemd-analyze', args, { encoding: 'utf8' });
const obstacle = analyse('--version').status === 0 ? '' : ' (skipped: systemd-analyze is not installed)';
if (obstacle) console.warn(`the checks of systemd’s units${obstacle}`);

describe.each([
  { name: 'rsync-inotify', dataIn: 'SOURCE_DIR', exposure: 25 },
  { name: 'start-sshd', dataIn: 'DEST_DIR', exposure: 36 },
] as const)('$name.service', ({ name, dataIn, exposure }) => {
  const unit = read('packaging', `${name}.service`);
  const settingsOf = (key: string) =>
    [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].flatMap(([, value = '']) => value.split(' '));
  const env = variablesIn(read('packaging', `${name}.env`));

  test('runs the program with the variables of its file, which it knows, where it may write', () => {
    expect(settingsOf('ExecStart')).toEqual([`/usr/local/bin/${name}`]);
    expect(settingsOf('EnvironmentFile')).toEqual([`/etc/rsync-inotify/${name}.env`]);
    const help = Bun.spawnSync([binary(name), '--help']).stdout.toString();
    for (const variable of Object.keys(env)) expect(help).toMatch(new RegExp(`^  ${variable} `, 'm'));
    expect(mistakesFoundBy(binary(name), { ...env, SOURCE_DIR: tmpdir() })).toBe('');
    if (name === 'rsync-inotify')
      expect(readSourceConfig({ ...env, SOURCE_DIR: tmpdir() }).DEST_HOST).toBe('backup.example.org');
    else expect(readBackupConfig(env).SSHD_PORT).toBe(2222);

    for (const variable of ['SSH_DIR', 'HOST_KEY_DIR', 'SHARED_KEYS_DIR'])
      if (env[variable]) expect(env[variable]).toStartWith(`/var/lib/${settingsOf('StateDirectory')[0]}/`);
    expect(env.LOG_FILE).toStartWith(`/var/log/${settingsOf('LogsDirectory')[0]}/`);
    expect(help).toMatch(new RegExp(`^  STATUS_FILE +/run/${settingsOf('RuntimeDirectory')[0]}/status.json `, 'm'));
    expect(settingsOf('RequiresMountsFor')).toEqual([env[dataIn]?.replace(/\/$/, '') ?? 'missing']);
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
    const place = mkdtempSync(join(tmpdir(), 'units-'));
    const file = join(place, `${name}.service`);
    writeFileSync(file, unit.replaceAll('/usr/local/bin/', `${ROOT}/dist/`)); // it looks whether that is there
    expect(analyse('verify', '--man=no', file)).toMatchObject({ status: 0, stdout: '', stderr: '' });
    rmSync(place, { recursive: true });
  });

  test.skipIf(obstacle !== '')(`leaves little to what breaks into it${obstacle}`, () => {
    const file = join(ROOT, 'packaging', `${name}.service`);
    const { status, stdout } = analyse('security', '--offline=true', '--no-pager', `--threshold=${exposure}`, file);
    if (status !== 0) throw new Error(stdout);
  });
});
