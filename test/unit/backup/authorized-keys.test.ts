import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  authorizedLine,
  commandOption,
  mergeAuthorizedKeys,
  parseSharedKey,
  SharedKey,
} from '../../../src/backup/authorized-keys.ts';
import { readConfig } from '../../../src/backup/config.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN/ rsync-inotify@source';
const OTHER = 'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 admin@desk';

describe('parseSharedKey', () => {
  test('takes one key with or without a comment', () => {
    expect(parseSharedKey(KEY)).toBe(KEY);
    expect(parseSharedKey(KEY.replace(/ \S+$/, ''))).toStartWith('ssh-ed25519 ');
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
    for (const content of wrong) expect(() => parseSharedKey(content)).toThrow('公钥文件应为完整的一行');
  });

  test('never lets a second line through', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (before, after) => {
        try {
          expect(parseSharedKey(`${before}${KEY}${after}`)).not.toMatch(/[\r\n]/);
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

  test('keeps the lines of other sources, each below its marker, and moves a key from one to the other', () => {
    const [one, two] = [KEY, KEY.replace('IAYG', 'IBYG')];
    const line = (key: string, name: string) => authorizedLine(readConfig({}), key, name);
    const both = mergeAuthorizedKeys(
      mergeAuthorizedKeys(`${OTHER}\n`, line(one, 'web1'), one, 'web1'),
      line(two, 'web2'),
      two,
      'web2',
    );
    expect(both.split('\n').map((it) => (it.startsWith('#') ? it.replace(/.*(sources\/\S+) .*/, '$1') : it))).toEqual([
      ...['sources/web2.pub', line(two, 'web2'), 'sources/web1.pub', line(one, 'web1'), OTHER, ''],
    ]);
    expect(line(one, 'web1')).toMatch(/ --forced-command \S+ web1" ssh-ed25519 /);
    const renamed = mergeAuthorizedKeys(both, line(one, 'web3'), one, 'web3');
    expect(renamed).not.toContain('web1');
    expect(renamed.split('\n')).toHaveLength(both.split('\n').length);
    expect(mergeAuthorizedKeys(merge(`${OTHER}\n`), line(one, 'web1'), one, 'web1').split('\n')).toHaveLength(4); // it had no name before
  });

  test('takes no line of others for ours where ours was removed below its marker', () => {
    const left = merge(`${OTHER}\n`)
      .split('\n')
      .filter((line) => line !== LINE)
      .join('\n');
    expect(merge(left)).toEndWith(`${LINE}\n${OTHER}\n`);
    const [marker = ''] = left.split('\n');
    const named = mergeAuthorizedKeys(
      `${marker}\n`,
      `restrict ${KEY.replace('IAYG', 'IBYG')}`,
      KEY.replace('IAYG', 'IBYG'),
      'web1',
    );
    expect(merge(named)).toContain('sources/web1.pub');
    expect(merge(named).split('\n')).toHaveLength(5);
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
    const said = stdout.toString().split('\n');
    expect(said.slice(-3)).toEqual(['--forced-command', expect.stringMatching(/^SHA256:/), '']);
  });

  test('leaves the command to the key only where ALLOW_SHELL says so', () => {
    expect(authorizedLine(allows, KEY)).toBe(`restrict ${KEY}`);
  });
});

/** What sshd makes of the value of an option: only a quotation mark is escaped in it (misc.c, opt_dequote). */
const dequoted = (option: string) => (/^command="((?:\\"|[^"])*)"$/.exec(option)?.[1] ?? '').replaceAll('\\"', '"');

test('the words of a command reach the program as they are, through sshd and a shell', () => {
  const word = fc.string({ unit: fc.constantFrom(...'ab/ -=~\'"$`!#&*()[]{}<>|;?é中'), minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(
      fc.array(fc.array(word, { minLength: 1, maxLength: 4 }), { minLength: 20, maxLength: 40 }),
      (commands) => {
        const script = commands
          .map((words) => dequoted(commandOption(words)).replace(/^exec /, "printf '%s\\0' "))
          .join('\n');
        const { stdout } = Bun.spawnSync(['sh', '-c', script]);
        expect(stdout.toString().split('\0').slice(0, -1)).toEqual(commands.flat());
      },
    ),
    { numRuns: 50 },
  );
});

describe('authorized_keys', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'authorized-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  const place = (name: string, env: NodeJS.ProcessEnv = {}) => {
    const [SHARED_KEYS_DIR, SSH_DIR] = [join(directory, name, 'shared'), join(directory, name, 'ssh')];
    for (const path of [SHARED_KEYS_DIR, SSH_DIR]) mkdirSync(path, { recursive: true });
    const config = readConfig({ SHARED_KEYS_DIR, SSH_DIR, ...env });
    const share = (line: string) => writeFileSync(join(SHARED_KEYS_DIR, 'id_rsa.pub'), line);
    return { config, share, file: join(SSH_DIR, 'authorized_keys') };
  };

  test.each(['true', 'false'])(
    'keeps the bytes of others where a former key is restricted (ALLOW_SHELL=%s)',
    (before) => {
      const { config, share, file } = place(`former-${before}`, { ALLOW_SHELL: before });
      const others = Buffer.from(
        'ssh-ed25519 AAAAsomebodyelse J\xfcrgen\nssh-rsa AAAAthird \xe4\xb8\xad\xff\n',
        'latin1',
      );
      writeFileSync(file, others);
      share(`${KEY} 中文 é`);
      const shared = new SharedKey(config);
      shared.authorize(shared.findNew() ?? '');
      const strict = place(`former-${before}`).config;
      for (let n = 0; n < 2; n++) {
        new SharedKey(strict).restrictFormer();
        const [, ours, ...rest] = readFileSync(file).toString('latin1').split('\n');
        expect(rest.join('\n')).toBe(others.toString('latin1'));
        expect(ours).toStartWith('restrict,command="exec ');
        expect(Buffer.from(ours ?? '', 'latin1').toString()).toEndWith(` ${KEY} 中文 é`);
      }
      new SharedKey(place(`former-${before}`, { ALLOW_SHELL: 'true' }).config).restrictFormer();
      expect(readFileSync(file, 'utf8').split('\n')[1]).toBe(`restrict ${KEY} 中文 é`);
    },
  );

  test('is left alone where there is no former key, and a directory in its place is told', () => {
    const { config, file } = place('none');
    new SharedKey(config).restrictFormer();
    expect(statSync(file, { throwIfNoEntry: false })).toBeUndefined();
    writeFileSync(file, `${OTHER}\n`);
    new SharedKey(config).restrictFormer();
    expect(readFileSync(file, 'utf8')).toBe(`${OTHER}\n`);
    rmSync(file);
    mkdirSync(file);
    expect(() => new SharedKey(config).restrictFormer()).toThrow('EISDIR');
    expect(() => new SharedKey(config).authorize(KEY)).toThrow(`无法写入 ${file}：`);
  });

  test('takes the shared key once, and another one in its place', () => {
    const { config, share, file } = place('shared');
    const shared = new SharedKey(config);
    expect(shared.findNew()).toBeUndefined();
    expect([shared.isInForce, shared.report()]).toEqual([false, null]);
    share(`${KEY}\n`);
    expect(shared.findNew()).toBe(KEY);
    expect([shared.noteSight(KEY), shared.noteSight(KEY)]).toEqual([true, false]);
    shared.authorize(KEY);
    expect(shared.findNew()).toBeUndefined();
    expect(shared.isInForce).toBe(true);
    const { stdout } = spawnSync('ssh-keygen', ['-lf', join(config.SHARED_KEYS_DIR, 'id_rsa.pub')], {
      encoding: 'utf8',
    });
    expect(stdout).toContain(` ${shared.report()} `);
    share(KEY.replace('source', 'another'));
    shared.authorize(shared.findNew() ?? '');
    expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(3);
    expect(readFileSync(file, 'utf8')).toContain('rsync-inotify@another\n');
    share('rubbish');
    expect(() => shared.findNew()).toThrow('公钥文件应为完整的一行');
    expect(['reason', 'reason', '', 'reason'].map((reason) => shared.noteComplaint(reason))).toEqual([
      true,
      false,
      true,
      true,
    ]);
  });

  test.each([1024, 2047, 2048])('takes an RSA key of %i bits only where that is enough', (bits) => {
    const key = join(directory, `rsa-${bits}`);
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-b', `${bits}`, '-N', '', '-f', key]);
    const line = readFileSync(`${key}.pub`, 'utf8').trim();
    if (bits >= 2048) expect(parseSharedKey(line)).toBe(line);
    else expect(() => parseSharedKey(line)).toThrow('RSA 公钥应至少有 2048 位');
  });
});
