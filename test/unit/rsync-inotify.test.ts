import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import {
  absoluteSource,
  escapeText,
  fingerprint,
  HostKeys,
  judge,
  listOf,
  methodFor,
  namesFiles,
  parseDifference,
  parseEvent,
  parseOptions,
  parseProgress,
  parsePublicKey,
  parseReport,
  parseTarget,
  parseWords,
  problemsOf,
  progressFilter,
  quoteForRsh,
  readConfig,
  rsyncArgs,
  rulesOf,
  showControls,
  showPath,
  sshArgs,
  unescapeName,
  withoutQuiet,
} from '../../scripts/rsync-inotify.ts';

const SOURCE_DIR = '/tmp/';

describe('parseWords', () => {
  test('splits at spaces, honours quotes, and expands nothing', () => {
    expect(parseWords(`-avz  --exclude='a b' --exclude "c 'd'" e\\ f`)).toEqual([
      '-avz',
      '--exclude=a b',
      '--exclude',
      "c 'd'",
      'e f',
    ]);
    expect(parseWords('; $(reboot) `reboot` $HOME * ~ #x')).toEqual([
      ';',
      '$(reboot)',
      '`reboot`',
      '$HOME',
      '*',
      '~',
      '#x',
    ]);
    expect(parseWords('')).toEqual([]);
    expect(parseWords(`'' ""`)).toEqual(['', '']);
  });

  test('refuses an open quote', () => {
    for (const open of [`'a`, `"a`, 'a\\']) expect(() => parseWords(open)).toThrow('没有配对');
  });

  test('gives back any words that were quoted for a shell', () => {
    const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' })), (words) => {
        expect(parseWords(words.map(quote).join(' '))).toEqual(words);
      }),
    );
  });
});

describe('parseTarget', () => {
  test('knows users, names and addresses', () => {
    expect(parseTarget('rsync-backup')).toEqual({ user: 'root', host: 'rsync-backup' });
    expect(parseTarget('me@192.0.2.7')).toEqual({ user: 'me', host: '192.0.2.7' });
    expect(parseTarget('me@[2001:db8::1]')).toEqual({ user: 'me', host: '2001:db8::1' });
    expect(parseTarget('2001:db8::1')).toEqual({ user: 'root', host: '2001:db8::1' });
    expect(parseTarget('fe80::1%eth0').host).toBe('fe80::1%eth0');
  });

  test('refuses what ssh or rsync could take for something else', () => {
    for (const wrong of [
      '',
      '-oProxyCommand=x',
      'a b',
      'user@',
      '@host',
      'me@-host',
      '-me@host',
      'a/b',
      'a;b',
      'a\nb',
      'h:22:x y',
    ]) {
      expect(() => parseTarget(wrong)).toThrow('[user@]host');
    }
  });

  test('never lets anything through that starts like an option or holds a space', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (value) => {
        try {
          const { user, host } = parseTarget(value);
          expect(`${user} ${host}`).toMatch(/^[^\s-]\S* [^\s-]\S*$/);
        } catch (error) {
          expect(`${error}`).toContain('[user@]host');
        }
      }),
    );
  });
});

test('absoluteSource keeps what the end of a path means to rsync', () => {
  expect(absoluteSource('/data/source/')).toBe('/data/source/');
  expect(absoluteSource('/data/source')).toBe('/data/source');
  expect(absoluteSource('/data/source//')).toBe('/data/source/');
  expect(absoluteSource('/data/source/.')).toBe('/data/source/');
  expect(absoluteSource('/data/source/..')).toBe('/data/');
  expect(absoluteSource('/data/file.')).toBe('/data/file.');
  expect(absoluteSource('.')).toBe(`${resolve('.')}/`);
  expect(absoluteSource('-rf')).toBe(resolve('-rf'));
  expect(absoluteSource('host:dir')).toBe(resolve('host:dir'));
  expect(absoluteSource('/')).toBe('/');
});

describe('escapeText and showPath', () => {
  test('name what they escape', () => {
    expect(escapeText('a\nb\rc\td\\e')).toBe('a\\nb\\rc\\td\\\\e');
    expect(escapeText('\u001b[31m\u0000\u009b\u202e\u2028')).toBe('\\x1b[31m\\x00\\x9b\\u{202e}\\u{2028}');
    expect(escapeText('中文 ✓ 👨‍👩‍👧 é')).toBe('中文 ✓ 👨‍👩‍👧 é');
    const path = (...bytes: number[]) => Buffer.from(bytes).toString('latin1');
    expect(showPath(path(0x2f, 0xe4, 0xb8, 0xad))).toBe('/中');
    expect(showPath(path(0x2f, 0xff, 0x80, 0x5c))).toBe('/\\xff\\x80\\\\');
  });

  test('leave nothing that starts a line or controls a terminal, and keep different paths apart', () => {
    const paths = fc.uint8Array({ min: 1 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
    fc.assert(
      fc.property(paths, paths, (one, other) => {
        expect(showPath(one)).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
        if (one !== other) expect(showPath(one)).not.toBe(showPath(other));
      }),
    );
  });
});

describe('showControls', () => {
  const bytes = fc.uint8Array().map((array) => Buffer.from(array).toString('latin1'));

  test('shows what controls a terminal as rsync does, and nothing else', () => {
    expect(showControls('\x1b[2J\x00\x7f\xc2\x9b')).toBe('\\#033[2J\\#000\\#177\\#302\\#233');
    const harmless = Buffer.from('中文 ✓ é\u00a0\r\n\t\\#033').toString('latin1');
    expect(showControls(harmless)).toBe(harmless);
  });

  test('leaves no control character in any bytes, and everything else as it is', () => {
    const octal = /\\#([0-3][0-7]{2})/g;
    fc.assert(
      fc.property(bytes, (text) => {
        const shown = showControls(text);
        expect(Buffer.from(shown, 'latin1').toString()).not.toMatch(/[^\P{Cc}\n\r\t]/u);
        if (text.includes('\\#')) return; // which looks like what was shown
        expect(shown.replace(octal, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)))).toBe(text);
      }),
    );
  });
});

test('parseEvent takes the first bars, so that a name may hold others', () => {
  expect(parseEvent('0|CLOSE_WRITE,CLOSE|/data/a|b\nc')).toEqual({
    cookie: '0',
    events: 'CLOSE_WRITE,CLOSE',
    path: '/data/a|b\nc',
  });
});

describe('the arguments of ssh and rsync', () => {
  test('let the user’s options win, but not over which connection is shared', () => {
    const args = sshArgs(
      readConfig({
        SOURCE_DIR,
        SSH_OPTS: '-p 2222 -o BatchMode=no -o ControlMaster=auto -o ControlPath=/x -S /y',
        SSH_DIR: '/k',
      }),
    );
    const { stdout } = spawnSync('ssh', ['-G', ...args, 'host'], { encoding: 'utf8' });
    expect(stdout).toContain('\nport 2222\n');
    expect(stdout).toContain('\nbatchmode no\n');
    expect(stdout).toContain('\ncontrolmaster false\n');
    expect(stdout).not.toMatch(/controlpath \/[xy]/);
    expect(stdout).toContain('\nidentityfile /k/id_rsa\n');
    expect(stdout).toContain('\nuserknownhostsfile /k/known_hosts\n');
  });

  test('trust a new host key but no changed one when the user says nothing, and what the user says otherwise', () => {
    const checking = (SSH_OPTS: string) =>
      spawnSync('ssh', ['-G', ...sshArgs(readConfig({ SOURCE_DIR, SSH_OPTS })), 'h'], { encoding: 'utf8' })
        .stdout.split('\n')
        .find((line) => line.startsWith('stricthostkeychecking'));
    expect(checking('-p 2222')).toBe('stricthostkeychecking accept-new');
    expect(checking('')).toBe('stricthostkeychecking false');
    expect(checking('-o StrictHostKeyChecking=yes')).toBe('stricthostkeychecking true');
  });

  test('take no host keys but the published ones, whatever else the user says', () => {
    const settings = (options: string[]) => {
      const config = readConfig({ SOURCE_DIR, SSH_OPTS: options.join(' ') });
      const args = sshArgs(config, { knownHosts: '/a b/100%/known' });
      const { stdout } = spawnSync('ssh', ['-G', ...args, 'host'], { encoding: 'utf8' });
      return stdout
        .split('\n')
        .filter((line) =>
          /hostkeycheck|knownhosts|hostkeydns|localhost|updatehost|checkhostip|gssapikeyexchange/.test(line),
        );
    };
    const strict = settings(['-p 2222']);
    expect(strict).toContain('stricthostkeychecking true');
    expect(strict).toContain('userknownhostsfile /a b/100%/known');
    expect(strict).toContain('globalknownhostsfile /dev/null');
    const weak = fc.constantFrom(
      ...['StrictHostKeyChecking=no', 'StrictHostKeyChecking=accept-new', 'UserKnownHostsFile=/x', 'CheckHostIP=yes'],
      ...['GlobalKnownHostsFile=/x', 'VerifyHostKeyDNS=yes', 'UpdateHostKeys=yes', 'KnownHostsCommand=/x'],
      ...['NoHostAuthenticationForLocalhost=yes', 'GSSAPIKeyExchange=yes', 'HostKeyAlias=x'],
    );
    fc.assert(
      fc.property(fc.array(weak, { minLength: 1 }), (options) => {
        expect(settings(options.map((option) => `-o ${option}`))).toEqual(strict);
      }),
      { numRuns: 30 },
    );
  }, 60_000);

  test('end with source and target, which are never options', () => {
    const args = rsyncArgs(readConfig({ SOURCE_DIR, DEST_HOST: 'me@[::1]', DEST_DIR: '/b c/', RSYNC_OPTS: '-a' }));
    expect(args.slice(0, 2)).toEqual(['--modify-window=-1', '-a']);
    expect(args.slice(-3)).toEqual(['--', '/tmp/', 'me@[::1]:/b c/']);
  });

  test('reach ssh through rsync’s -e unchanged', () => {
    const directory = mkdtempSync(join(tmpdir(), 'rsh-'));
    try {
      const shell = join(directory, 'shell');
      writeFileSync(shell, '#!/bin/sh\nprintf \'%s\\0\' "$@" > "$(dirname "$0")/args"; exit 1\n', { mode: 0o755 });
      const word = fc.string({ unit: fc.constantFrom(...`ab '"\\$;*%{}~é`), minLength: 1, maxLength: 12 });
      fc.assert(
        fc.property(fc.array(word, { maxLength: 6 }), (words) => {
          spawnSync('rsync', ['-e', [shell, ...words].map(quoteForRsh).join(' '), 'host:/x', directory]);
          const args = readFileSync(join(directory, 'args'), 'utf8').split('\0');
          expect(args.slice(0, words.length + 1)).toEqual([...words, 'host']);
        }),
        { numRuns: 60 },
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

/** Calls with a directory of its own, in which there is a key of each type. */
function withKeys(check: (directory: string, keys: string[]) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'keys-'));
  try {
    const keys = ['rsa', 'ecdsa', 'ed25519'].map((type) => {
      const file = join(directory, type);
      spawnSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', '备份 root@host', '-f', file]);
      return readFileSync(`${file}.pub`, 'utf8');
    });
    check(directory, keys);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe('the published host keys', () => {
  test('are one whole line of a known type each, and told by their fingerprints', () => {
    withKeys((directory, keys) => {
      for (const [n, type] of ['rsa', 'ecdsa', 'ed25519'].entries()) {
        const key = keys[n] ?? '';
        expect(parsePublicKey(key)).toBe(key.split(' ').slice(0, 2).join(' '));
        const { stdout } = spawnSync('ssh-keygen', ['-l', '-f', join(directory, type)], { encoding: 'utf8' });
        expect(stdout.split(' ')[1]).toBe(fingerprint(parsePublicKey(key)));
        for (let length = 0; length < key.indexOf(' 备份'); length += 7) {
          expect(() => parsePublicKey(key.slice(0, length))).toThrow('应为完整的一行公钥');
        }
      }
    });
  });

  test('let nothing else into what ssh reads', () => {
    withKeys((_, [key = '', other = '']) => {
      const piece = fc.constantFrom(...key.split(' '), other, '* ', '\n', '\r', '\0', '@revoked ', ' ', '\t', '#', '=');
      fc.assert(
        fc.property(
          fc.oneof(
            fc.string({ unit: 'binary' }),
            fc.array(piece).map((pieces) => pieces.join('')),
          ),
          (text) => {
            try {
              expect([key, other].some((known) => known.startsWith(`${parsePublicKey(text)} `))).toBe(true);
            } catch (error) {
              expect(`${error}`).toContain('应为完整的一行公钥');
            }
          },
        ),
      );
    });
  });

  test('are kept in one file in the order of their names, which is written where it changes', () => {
    withKeys((directory, [rsa = '', ecdsa = '']) => {
      const hostKeys = new HostKeys(
        readConfig({ SOURCE_DIR, SSH_DIR: directory, SHARED_KEYS_DIR: `${directory}/a/b` }),
      );
      expect(hostKeys.refresh()).toBeUndefined();
      const published = join(directory, 'a', 'b', 'host_keys');
      mkdirSync(published, { recursive: true });
      expect(hostKeys.refresh()).toBeUndefined();
      writeFileSync(join(published, 'z.rsa.pub'), rsa);
      writeFileSync(join(published, 'a.ecdsa.pub'), ecdsa);
      writeFileSync(join(published, 'same.pub'), rsa);
      const file = hostKeys.refresh() ?? '';
      expect(file).toBe(join(directory, `known_hosts${directory.replaceAll('/', '-')}-a-b`));
      const lines = [ecdsa, rsa].map((key) => `* ${parsePublicKey(key)}\n`);
      expect(readFileSync(file, 'utf8')).toBe(lines.join(''));
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const { ino } = statSync(file);
      hostKeys.refresh();
      expect(statSync(file).ino).toBe(ino);
      rmSync(join(published, 'a.ecdsa.pub'));
      hostKeys.refresh();
      expect(readFileSync(file, 'utf8')).toBe(lines[1] ?? '');
    });
  });
});

describe('readConfig', () => {
  test('takes an empty variable for one that is not set', () => {
    const config = readConfig({ SOURCE_DIR, SYNC_INTERVAL: '', RSYNC_OPTS: '' });
    expect(config.SYNC_INTERVAL).toBe(5);
    expect(config.RSYNC_OPTS).toBe('-avz --delete');
  });

  test('takes decimals and zero as SYNC_INTERVAL', () => {
    expect(readConfig({ SOURCE_DIR, SYNC_INTERVAL: '0.25' }).SYNC_INTERVAL).toBe(0.25);
    expect(readConfig({ SOURCE_DIR, SYNC_INTERVAL: '0' }).SYNC_INTERVAL).toBe(0);
  });

  test('escapes the values that it complains about', () => {
    expect(() => readConfig({ SOURCE_DIR, MAX_RETRIES: '1\n[ERROR] forged' })).toThrow(
      'MAX_RETRIES="1\\n[ERROR] forged"',
    );
  });
});

describe('what RSYNC_OPTS allow', () => {
  const method = (options: string) => methodFor(parseWords(options));

  test.each([
    '-avz --delete',
    '-a',
    '-rlt --delete-after --bwlimit 100',
    '-avzs -P --info=progress2 --stats',
    '-aAXS --numeric-ids --inplace --partial',
    '-av --backup --backup-dir /old --suffix=.bak',
    '-avT /tmp --chown root:root --no-perms',
    "-a -e 'ssh -v' --timeout=5 --modify-window=0 -@1",
  ])('%s: a list', (options) => expect(method(options)).toBe('list'));

  test.each([
    '-avz --exclude=node_modules',
    "-a --exclude '*.tmp' --delete",
    "-a --include='*/' --include=*.txt --exclude=*",
    '-aF',
    "-a -f '- x' --filter='+ /y'",
    '-a --exclude-from=/etc/hostname',
  ])('%s: rules', (options) => expect(method(options)).toBe('rules'));

  test.each([
    '-aC',
    '-a --partial-dir=.partial',
    '-ab --exclude=x',
    '-aH',
    '-aL',
    '-ak',
    '-aK',
    '-aR',
    '-am',
    '-ax',
    '-an',
    '-lptgoD',
    '-a --no-recursive',
    '-a --delete-excluded --exclude=x',
    '-a --files-from=/etc/hostname',
    '-a --remove-source-files',
    '-a --link-dest=/x',
    "-a -f ': .rules'",
    "-a --filter='dir-merge .rules'",
    "-a --filter='. /rules'",
    '-a --an-option-of-the-future',
  ])('%s: only all of the source', (options) => expect(method(options)).toBe('full'));

  test('names and values are told apart as rsync does', () => {
    expect(parseOptions(parseWords('-avz --delete -T /tmp -B4 -f "- x" --exclude y --chmod=F644 -e=ssh'))).toEqual([
      { name: '-a' },
      { name: '-v' },
      { name: '-z' },
      { name: '--delete' },
      { name: '-T', value: '/tmp' },
      { name: '-B', value: '4' },
      { name: '-f', value: '- x' },
      { name: '--exclude', value: 'y' },
      { name: '--chmod', value: 'F644' },
      { name: '-e', value: 'ssh' },
    ]);
  });
});

describe('what rsync is told to look at', () => {
  test('is a name for what is there, its directory for what is gone, and every directory of a tree', () => {
    const scopes = new Map([
      ['a/file', 'entry'],
      ['a/gone', 'gone'],
      ['gone', 'gone'],
      ['new', 'tree'],
      ['new/below', 'inside'],
      ['\xff#', 'entry'],
    ] as const);
    expect(listOf(scopes, '/').toString('latin1').split('\0')).toEqual([
      './a/file',
      './a/',
      './',
      './new/',
      './new/below/',
      './\xff#',
      '',
    ]);
    expect(listOf(new Map([['x', 'gone']] as const), '/source/').toString()).toBe('/source/\0');
  });

  test('goes in by rules of any name, and nothing else does', () => {
    const directory = mkdtempSync(join(tmpdir(), 'rules-'));
    const at = (...path: string[]) => Buffer.from(join(directory, ...path), 'latin1');
    const name = fc.string({ unit: fc.constantFrom(...'ab*?[]\\ -+#!\n\xff'), minLength: 1, maxLength: 5 });
    try {
      fc.assert(
        fc.property(fc.uniqueArray(name, { minLength: 3, maxLength: 3 }), ([top = '', file = '', other = '']) => {
          rmSync(directory, { recursive: true });
          mkdirSync(at('from', top), { recursive: true });
          writeFileSync(at('from', top, file), '');
          writeFileSync(at('from', top, other), '');
          writeFileSync(at('from', 'else'), '');
          const rules = rulesOf(new Map([[`${top}/${file}`, 'entry'] as const]), '/') ?? [];
          spawnSync('rsync', ['-r', ...rules, `${directory}/from/`, `${directory}/to/`]);
          expect(readdirSync(at('to'), 'latin1')).toEqual([top]);
          const copied = readdirSync(at('to', top), 'latin1');
          expect(copied).toContain(file);
          if (!/\xff/.test(file)) expect(copied).toEqual([file]); // a byte that is no ASCII stands for any
        }),
        { numRuns: 60 },
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }, 60_000);

  test('is everything when there are too many rules', () => {
    const scopes = (path: string) => new Map([[path, 'entry'] as const]);
    expect(rulesOf(scopes('x'.repeat(300_000)), '/')).toBeUndefined();
  });
});

describe('what rsync reports of a transfer', () => {
  const transfer = (options: string[], use: (report: string, output: string) => void) => {
    const directory = mkdtempSync(join(tmpdir(), 'report-'));
    try {
      mkdirSync(join(directory, 'from', 'sub'), { recursive: true });
      for (const name of ['a', 'b', 'sub/c']) writeFileSync(join(directory, 'from', name), name.repeat(50_000));
      writeFileSync(join(directory, 'from', ' sent 9 bytes  received 9 bytes '), '');
      const log = join(directory, 'log');
      const args = [...options, '--whole-file', `--log-file=${log}`, '--log-file-format=%i', 'from/', 'to/'];
      const { stdout } = spawnSync('rsync', args, { cwd: directory, encoding: 'latin1' });
      use(readFileSync(log, 'latin1'), stdout);
    } finally {
      rmSync(directory, { recursive: true });
    }
  };

  test.each(['-a', '-av', '-avh', '-aq', '-avv --stats'])('%s: files and bytes', (options) => {
    transfer(options.split(' '), (report) => {
      const { files, bytes = 0 } = parseReport(report);
      expect(files).toBe(4);
      expect(bytes).toBeWithin(350_000, 353_000); // 350,000 bytes of files
    });
  });

  test('in the manner of a locale, or not at all', () => {
    const line = (sent: string, received: string) =>
      `2026/11/22 20:00:00 [7] sent ${sent} bytes  received ${received} bytes  1.00 bytes/sec\n`;
    expect(parseReport(line('1,234,567', '35')).bytes).toBe(1_234_602);
    expect(parseReport(line('1.234.567', '35')).bytes).toBe(1_234_602);
    expect(parseReport(line('1.23K', '35')).bytes).toBe(1265);
    expect(parseReport(line('1,23M', '1.00K')).bytes).toBe(1_231_000);
    expect(parseReport('2026/11/22 20:00:00 [7] building file list\n')).toEqual({});
  });

  test.each(['-av', '-a', '-avh'])('%s: progress, taken out of the output without a trace', (option) => {
    // How much goes over the wire depends on the times of the moment.
    const withoutRates = (output: string) => output.replace(/^sent .*$/m, (line) => line.replace(/[\d.,KMG]+/g, 'N'));
    let plain = '';
    transfer([option], (_, output) => {
      plain = output;
    });
    transfer([option, '--info=progress2'], (_, output) => {
      expect(output).toContain('\r');
      fc.assert(
        fc.property(fc.array(fc.nat(output.length), { maxLength: 20 }), (cuts) => {
          const bounds = [0, ...cuts.sort((a, b) => a - b), output.length];
          let last: ReturnType<typeof parseProgress>;
          const filter = progressFilter((progress) => {
            last = progress;
          });
          const rest = bounds.map((start, n) => filter(output.slice(start, bounds[n + 1] ?? output.length))).join('');
          expect(withoutRates(rest)).toBe(withoutRates(plain));
          expect(last).toMatchObject({ percent: 100, files: 4, scanning: false });
        }),
      );
    });
  });

  test('of progress, in all its forms', () => {
    expect(parseProgress('\r         32,768   3%    0.00kB/s    0:00:00  ')).toEqual({
      percent: 3,
      files: 0,
      bytes_per_second: 0,
      scanning: false,
    });
    expect(parseProgress('\r  1.24G  42%    5.20MB/s    0:03:10 (xfr#1234, ir-chk=1000/2345)')).toEqual({
      percent: 42,
      files: 1234,
      bytes_per_second: Math.round(5.2 * 1024 ** 2),
      scanning: true,
    });
    const before = { percent: 3, files: 7, bytes_per_second: 1, scanning: true };
    const inTheMiddle = parseProgress('\r  1.24G  42%    5.20MB/s    0:03:10  ', before);
    expect(inTheMiddle).toMatchObject({ percent: 42, files: 7, scanning: true });
    expect(parseProgress('deleting 100% of it')).toBeUndefined();
  });
});

test.each<[string, string, boolean]>([
  ['-avz --delete', '-o StrictHostKeyChecking=no -p 2222', false],
  [
    '-aH --exclude=a/b -f "- /x" --log-file=/var/log/rsync',
    '-i /keys/id -i ~/.ssh/id -o IdentityFile=~/.ssh/id',
    false,
  ],
  ['-a --exclude-from=/etc/excludes', '-oUserKnownHostsFile=/dev/null -F /etc/ssh/config', false],
  ['-a --exclude-from=excludes', '', true],
  ['-a --log-file log', '', true],
  ['-a --filter=. rules', '', true],
  ['-aR', '', true],
  ['-a -e ./ssh', '', true],
  ['-a', '-F config', true],
  ['-a', '-p 2222 -i keys/id', true],
  ['-a', '-o "IdentityFile keys/id"', true],
  ['-a', '-o ProxyCommand=./proxy', true],
])('rsync is started in the source unless options name files from here: %s, %s', (rsync, ssh, isFromHere) => {
  const words = rsync.includes('rules') ? ['-a', '--filter=. rules'] : parseWords(rsync);
  expect(namesFiles(parseOptions(words), ssh)).toBe(isFromHere);
});

describe('what is wrong', () => {
  const now = Date.parse('2026-11-22T20:00:00Z');
  const ago = (seconds: number) => new Date(now - 1000 * seconds).toISOString();
  type Status = Parameters<typeof judge>[0];
  const status = (changes: object = {}, target: object = {}): Status =>
    ({
      updated: ago(0),
      phase: 'mirroring',
      max_lag_seconds: 300,
      source_found: true,
      watch: { running: true },
      targets: [
        { target: 'one', up: true, oldest_pending: null },
        { target: 'two', up: true, oldest_pending: null, ...target },
      ],
      ...changes,
    }) as unknown as Status;
  const problems = (changes?: object, target?: object) => problemsOf(status(changes, target), now);

  test('is nothing while all is well, nor while a change waits within the limit', () => {
    expect(problems()).toEqual([]);
    expect(problems({}, { oldest_pending: ago(299) })).toEqual([]);
    expect(problems({ max_lag_seconds: 0 }, { oldest_pending: ago(99_999) })).toEqual([]);
    expect(judge(status({}, { oldest_pending: ago(12) }), now)).toEqual({
      healthy: true,
      line: '健康: 正在实时镜像，落后 12 秒',
    });
  });

  test('is each thing that is, with the target that it is about', () => {
    const bad = status(
      { source: '/data/', source_found: false, watch: { running: false } },
      { up: false, oldest_pending: ago(301) },
    );
    expect(problemsOf(bad, now)).toEqual([
      { problem: 'source' },
      { problem: 'watcher' },
      { problem: 'target_down', target: 'two' },
      { problem: 'lag', target: 'two' },
    ]);
    expect(judge(bad, now)).toEqual({
      healthy: false,
      line: '不健康: 源目录 /data/ 不见了或被替换；监控进程不在运行，正在重新启动；无法连接目标 two；落后 301 秒，超过了 MAX_LAG=300 two',
    });
  });

  test('is not how long the first comparison of a target takes, but a try that has failed is', () => {
    const first = { oldest_pending: ago(99_999), mirrored: false };
    expect(problems({}, { ...first, state: 'syncing' })).toEqual([]);
    expect(problems({}, { ...first, state: 'retrying' })).toEqual([{ problem: 'lag', target: 'two' }]);
    expect(problems({}, { ...first, state: 'syncing', mirrored: true })).toEqual([{ problem: 'lag', target: 'two' }]);
  });

  test('is the state itself when it is old, but a stop stays a stop', () => {
    expect(problems({ updated: ago(31) })).toEqual([{ problem: 'stale' }]);
    expect(problems({ updated: ago(29) })).toEqual([]);
    expect(problems({ updated: ago(3600), phase: 'stopped' })).toEqual([{ problem: 'stopped' }]);
    expect(problems({ updated: ago(-29) })).toEqual([]); // the clock was set back a little
    expect(problems({ updated: ago(-31) })).toEqual([{ problem: 'stale' }]);
  });
});

describe('what --verify reads', () => {
  /** As rsync's log.c shows names: in any locale what may be a control character, in some also what is not ASCII. */
  const shownBy = (name: string, isPlain: (byte: string) => boolean) =>
    name
      .replace(/\\(?=#\d{3})/g, '\\#134')
      .replace(/[^\t -~]/g, (byte) => (isPlain(byte) ? byte : `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`));
  const likely = fc.constantFrom('\\', '#', '\\#', '0', '1', '134', '\n', '\t', '\xff', 'a', ' ', '/');
  const names = fc.oneof(
    fc.array(likely).map((parts) => parts.join('')),
    fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
  );

  test('is the name, byte for byte', () => {
    for (const isPlain of [() => false, (byte: string) => byte > '\x7f']) {
      fc.assert(fc.property(names, (name) => expect(unescapeName(shownBy(name, isPlain))).toBe(name)));
    }
  });

  test('is what differs, and nothing where nothing does', () => {
    const kinds: Record<string, [string, string[]] | undefined> = {
      '>f+++++++++': ['missing', []],
      'cd+++++++++': ['missing', []],
      '*deleting  ': ['extra', []],
      '>fc........': ['content', []],
      '>fcst......': ['content', ['size', 'time']],
      '>f.st......': ['content', ['size', 'time']],
      '.f..tpogua.': ['attributes', ['time', 'mode', 'owner', 'group', 'atime', 'acl']],
      '.d.......ax': ['attributes', ['acl', 'xattr']],
      '.d........x': ['attributes', ['xattr']],
      'cLc.T......': ['attributes', ['target']],
      'cDc.t......': ['attributes', ['time', 'device']],
      'hf         ': ['attributes', ['links']],
      'hf..t......': ['attributes', ['time']],
      '.f         ': undefined,
      '.d         ': undefined,
    };
    for (const [item, kind] of Object.entries(kinds)) {
      const expected = kind && { path: 'a b/\n', difference: kind[0], attributes: kind[1] };
      expect([item, parseDifference(`${item} a b/\\#012`)]).toEqual([item, expected] as never);
    }
    for (const line of ['', 'sending incremental file list', '>f+++++++++', '>f+++++++++ ']) {
      expect(parseDifference(line)).toBeUndefined();
    }
  });

  test('is said by an rsync that was asked to be quiet', () => {
    expect(parseWords(withoutQuiet(`-aqzq -q --quiet -e 'ssh -q' --exclude -q* -vf -_q -f'- q' -Tq`))).toEqual([
      ...['-az', '-e', 'ssh -q', '--exclude', '-q*', '-vf', '-_q', '-f- q', '-Tq'],
    ]);
  });
});
