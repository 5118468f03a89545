import { describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { mergeAuthorizedKeys, parsePublicKey, readConfig, sshdArgs, strictModesFor } from '../../scripts/start-sshd.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN/ rsync-inotify@source';
const OTHER = 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 admin@desk';

describe('parsePublicKey', () => {
  test('takes one key with or without a comment', () => {
    expect(parsePublicKey(KEY)).toBe(KEY);
    expect(parsePublicKey(KEY.replace(/ \S+$/, ''))).toStartWith('ssh-ed25519 ');
  });

  test('refuses everything else', () => {
    const wrong = [
      '',
      'rubbish',
      'ssh-rsa',
      'ssh-rsa !!!!',
      `${KEY}\n${OTHER}`,
      `command="id" ${KEY}`,
      `${KEY}\u001b[31m`,
      `# ${KEY}`,
      KEY.slice(0, 60),
      KEY.replace('ssh-ed25519', 'ssh-rsa'),
    ];
    for (const content of wrong) expect(() => parsePublicKey(content)).toThrow('公钥文件应为完整的一行');
  });

  test('never lets a second line through', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (before, after) => {
        try {
          expect(parsePublicKey(`${before}${KEY}${after}`)).not.toMatch(/[\r\n]/);
        } catch (error) {
          expect(`${error}`).toContain('公钥文件应为完整的一行');
        }
      }),
    );
  });
});

describe('mergeAuthorizedKeys', () => {
  test('replaces our key and keeps those of others', () => {
    const first = mergeAuthorizedKeys(`${OTHER}\n`, KEY);
    expect(first.split('\n').filter((line) => !line.startsWith('#'))).toEqual([OTHER, KEY, '']);
    const second = mergeAuthorizedKeys(first, KEY.replace(/.{6} rsync/, 'BgQD8A rsync'));
    expect(second).not.toContain(KEY);
    expect(second).toContain(OTHER);
    expect(second.split('\n')).toHaveLength(first.split('\n').length);
  });

  test('changes nothing the second time, and takes over a line that start-sshd.sh wrote', () => {
    const once = mergeAuthorizedKeys(`${KEY}\n`, KEY);
    expect(once.split(KEY)).toHaveLength(2);
    expect(mergeAuthorizedKeys(once, KEY)).toBe(once);
  });

  test('leaves a line that gives our key to somebody with restrictions as it is', () => {
    const restricted = `from="192.0.2.7" ${KEY}`;
    expect(mergeAuthorizedKeys(`${restricted}\n`, KEY)).toContain(`${restricted}\n`);
  });
});

describe('sshdArgs', () => {
  const config = readConfig({ SSHD_LISTEN: '127.0.0.1', SSHD_PORT: '2222', SSH_DIR: '/a b/100%' });

  test('are the whole configuration, and let one user in by key alone', () => {
    const args = sshdArgs(config, 'me', 'yes');
    expect(args.slice(0, 4)).toEqual(['-f', '/dev/null', '-p', '2222']);
    expect(args).toContain('AuthorizedKeysFile="/a b/100%%/authorized_keys"');
    expect(args).toContain('ListenAddress=127.0.0.1');
    for (const option of ['AllowUsers=me', 'PasswordAuthentication=no', 'KbdInteractiveAuthentication=no']) {
      expect(args).toContain(option);
    }
  });

  test('use PAM as root only', () => {
    expect(sshdArgs(config, 'me', 'yes')).toContain('UsePAM=no');
    expect(sshdArgs(config, 'root', 'yes')).toContain('UsePAM=yes');
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
