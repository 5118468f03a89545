import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { mergeAuthorizedKeys, parsePublicKey, readConfig, sshdArgs } from '../../scripts/start-sshd.ts';

const KEY = 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 rsync-inotify@source';
const OTHER = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther admin@desk';

describe('parsePublicKey', () => {
  test('takes one key with or without a comment', () => {
    expect(parsePublicKey(`${KEY}\n`)).toBe(KEY);
    expect(parsePublicKey('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOther')).toContain('ssh-ed25519');
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
    ];
    for (const content of wrong) expect(() => parsePublicKey(content)).toThrow('公钥文件应为一行');
  });

  test('never lets a second line through', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (before, after) => {
        try {
          expect(parsePublicKey(`${before}${KEY}${after}`)).not.toMatch(/[\r\n]/);
        } catch (error) {
          expect(`${error}`).toContain('公钥文件应为一行');
        }
      }),
    );
  });
});

describe('mergeAuthorizedKeys', () => {
  test('replaces our key and keeps those of others', () => {
    const first = mergeAuthorizedKeys(`${OTHER}\n`, KEY);
    expect(first.split('\n').filter((line) => !line.startsWith('#'))).toEqual([OTHER, KEY, '']);
    const second = mergeAuthorizedKeys(first, KEY.replace('BgQC7', 'BgQD8'));
    expect(second).not.toContain(KEY);
    expect(second).toContain(OTHER);
    expect(second.split('\n')).toHaveLength(first.split('\n').length);
  });

  test('changes nothing the second time, and takes over a line that start-sshd.sh wrote', () => {
    const once = mergeAuthorizedKeys(`${KEY}\n`, KEY);
    expect(once.split(KEY)).toHaveLength(2);
    expect(mergeAuthorizedKeys(once, KEY)).toBe(once);
  });
});

describe('sshdArgs', () => {
  test('leave the machine’s sshd_config alone as an ordinary user, and read it as root', () => {
    const config = readConfig({ SSHD_LISTEN: '127.0.0.1', SSHD_PORT: '2222', SSH_DIR: '/a b/100%' });
    const user = sshdArgs(config, 'me');
    expect(user.slice(0, 4)).toEqual(['-f', '/dev/null', '-p', '2222']);
    expect(user).toContain('UsePAM=no');
    expect(user).toContain('AllowUsers=me');
    expect(user).toContain('AuthorizedKeysFile="/a b/100%%/authorized_keys"');
    expect(sshdArgs(config, 'root')).not.toContain('/dev/null');
  });
});
