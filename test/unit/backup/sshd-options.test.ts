import { describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../../src/backup/config.ts';
import { serverOptions, sessionOptions, strictModesFor } from '../../../src/backup/sshd-options.ts';

describe("sshd's configuration", () => {
  const FILES = { reports: '/run/x/reports', admission: '/run/x/admission' };
  const config = readConfig({ SSHD_LISTEN: '127.0.0.1', SSH_DIR: '/a b/100%', HOST_KEY_DIR: '/back\\\\slash' });

  test('quotes what a path may hold', () => {
    expect(sessionOptions(config, 'me', FILES)).toContain('AuthorizedKeysFile "/a b/100%%/authorized_keys"');
    expect(serverOptions(config, 'me', 'yes')).toContain('HostKey "/back\\\\\\\\slash/ssh_host_rsa_key"');
  });

  test('lets one user in, root for the forced command only unless all are allowed', () => {
    expect(sessionOptions(config, 'me', FILES)).toContain('AllowUsers me');
    expect(sessionOptions(config, 'root', FILES)).toContain('PermitRootLogin forced-commands-only');
    expect(sessionOptions(readConfig({ ALLOW_SHELL: 'true' }), 'root', FILES)).toContain(
      'PermitRootLogin prohibit-password',
    );
  });

  test('tells sessions where the backup is, and what lets them in', () => {
    const variables = sessionOptions(config, 'me', FILES).find((line) => line.startsWith('SetEnv '));
    expect(variables).toContain('"DEST_DIR=/data/backup"');
    expect(variables).toContain('"START_SSHD_REPORTS=/run/x/reports" "START_SSHD_ADMISSION=/run/x/admission"');
  });

  test('uses PAM as root only, and listens where it is told', () => {
    expect(serverOptions(config, 'me', 'yes')).toContain('UsePAM no');
    expect(serverOptions(config, 'root', 'yes')).toContain('UsePAM yes');
    expect(serverOptions(config, 'me', 'yes')).toContain('ListenAddress 127.0.0.1');
    expect(serverOptions(readConfig({}), 'me', 'yes').join()).not.toContain('ListenAddress');
  });
});

test('strictModesFor lets sshd check, but for a directory of ours below a sticky one', () => {
  const uid = process.getuid?.() ?? 0;
  const directory = mkdtempSync(join(tmpdir(), 'strict-'));
  try {
    expect(strictModesFor(join(directory, 'ssh'), uid)).toBe('no');
    chmodSync(directory, 0o770);
    expect(strictModesFor(join(directory, 'ssh'), uid)).toBe('yes'); // a group may replace it
    expect(strictModesFor('/', uid)).toBe('yes'); // nothing to object to
    expect(strictModesFor('/proc/none', uid)).toBe('yes');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
