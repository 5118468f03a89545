import { describe, expect, test } from 'bun:test';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  authorizedLine,
  mergeAuthorizedKeys,
  parsePublicKey,
  readConfig,
  serverOptions,
  sessionOptions,
  strictModesFor,
} from '../../scripts/start-sshd.ts';

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
  const LINE = `restrict ${KEY}`;
  const merge = (content: string, line = LINE) => mergeAuthorizedKeys(content, line, KEY);

  test('replaces our key, before those of others, and keeps these', () => {
    const first = merge(`${OTHER}\n`);
    expect(first.split('\n').filter((line) => !line.startsWith('#'))).toEqual([LINE, OTHER, '']);
    const second = merge(first, LINE.replace(/.{6} rsync/, 'BgQD8A rsync'));
    expect(second).not.toContain(KEY);
    expect(second).toContain(OTHER);
    expect(second.split('\n')).toHaveLength(first.split('\n').length);
  });

  test('changes nothing the second time, and takes over a line that start-sshd.sh wrote', () => {
    const once = merge(`${KEY}\n`);
    expect(once.split(KEY)).toHaveLength(2);
    expect(merge(once)).toBe(once);
  });

  test('leaves a line that gives our key to somebody with restrictions as it is, behind ours', () => {
    const restricted = `from="192.0.2.7" ${KEY}`;
    expect(merge(`${restricted}\n`)).toEndWith(`${LINE}\n${restricted}\n`);
  });
});

describe('authorizedLine', () => {
  const allows = readConfig({ ALLOW_SHELL: 'true' });

  test('takes everything from the key but this program, as a word of the shell that sshd starts it by', () => {
    const line = authorizedLine(readConfig({}), KEY);
    const [, command = ''] = /^restrict,command="(.*)" ssh-ed25519 /.exec(line) ?? [];
    expect(line).toEndWith(KEY);
    const { stdout } = Bun.spawnSync(['sh', '-c', command.replace(/^exec /, 'printf "%s\\n" ').replaceAll('\\"', '"')]);
    expect(stdout.toString().split('\n').slice(-2)).toEqual(['--forced-command', '']);
  });

  test('leaves the command to the key only where ALLOW_SHELL says so', () => {
    expect(authorizedLine(allows, KEY)).toBe(`restrict ${KEY}`);
  });
});

describe("sshd's configuration", () => {
  const config = readConfig({ SSHD_LISTEN: '127.0.0.1', SSH_DIR: '/a b/100%', HOST_KEY_DIR: '/back\\\\slash' });

  test('quotes what a path may hold', () => {
    expect(sessionOptions(config, 'me')).toContain('AuthorizedKeysFile "/a b/100%%/authorized_keys"');
    expect(serverOptions(config, 'me', 'yes')).toContain('HostKey "/back\\\\\\\\slash/ssh_host_rsa_key"');
  });

  test('lets one user in, root for the forced command only unless all are allowed', () => {
    expect(sessionOptions(config, 'me')).toContain('AllowUsers me');
    expect(sessionOptions(config, 'root')).toContain('PermitRootLogin forced-commands-only');
    expect(sessionOptions(readConfig({ ALLOW_SHELL: 'true' }), 'root')).toContain('PermitRootLogin prohibit-password');
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
