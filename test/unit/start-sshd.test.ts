import { describe, expect, test } from 'bun:test';
import {
  chmodSync,
  closeSync,
  type Dirent,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import {
  authorizedLine,
  confinedPath,
  mergeAuthorizedKeys,
  parseCommand,
  parsePublicKey,
  parseReceiver,
  readConfig,
  renameBelow,
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

/** What rsync-inotify, rsync 3.1 to 3.5 by hand and backup tools send. */
const REAL = [
  'rsync --server -vlogDtprze.iLsfxCIvu --delete . /data/backup/',
  'rsync --server -vlogDtprze.LsfxCIvu --log-format=%i --delete-during --timeout=60 . "/data/back up/"',
  "rsync --server -lHogDtpAXre.iLsfxCIvu -@-1 -B2048 --delete --backup-dir=old --partial-dir .p . /data/backup/'a b'",
  'rsync --server -ve.LsfxCIvu --usermap=*:root --iconv=UTF-8 --compress-choice=zstd --suffix=~ . /data/back\\ up',
  '/usr/bin/rsync --server -bvlogDtpRe.iLsfxCIvu --fake-super --info=PROGRESS2 --bwlimit=100 . ~/x',
];

/** Near misses: parts of real commands, in a different order, with something else between. */
const nearly = fc
  .tuple(
    fc.constantFrom(...REAL),
    fc.array(
      fc.tuple(
        fc.nat(200),
        fc.nat(12),
        fc.oneof(
          fc.constantFrom(
            ' --sender',
            ' --daemon',
            ' -s',
            ' . ',
            ' --server',
            " '",
            '"',
            '\\',
            '$(id)',
            '`',
            ';',
            '\n',
            '\0',
            '..',
            '~',
            '-e',
            ' -K',
            '=',
            ' --files-from=-',
            ' --log-file=/x',
            ' --rsync-path=x',
            '-',
            '\ufffd',
          ),
          fc.string({ unit: 'binary', maxLength: 6 }),
        ),
      ),
      { maxLength: 4 },
    ),
  )
  .map(([command, edits]) =>
    edits.reduce((text, [at, length, insert]) => text.slice(0, at) + insert + text.slice(at + length), command),
  );

/** What is let through, nothing for what is refused with a reason; any other error is thrown. */
function received(command: string) {
  try {
    return parseReceiver(parseCommand(command));
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'Refusal' && error.message) return undefined;
    throw error;
  }
}

describe('the commands of the source', () => {
  const ALLOWED = /^(-[A-Za-z]*(e\d*\.\w*)?|-[@B]-?\d+|--[a-zA-Z0-9-]+(=.*)?)$/su;
  const FORBIDDEN =
    /^(--(sender|server|daemon|config|rsh|rsync-path|remote-option|files-from|log-file|write-devices|copy-devices|secluded-args|protect-args|remove-source-files|remove-sent-files|no-implied-dirs|read-batch|write-batch|only-write-batch|exclude-from|include-from|password-file|copy-dirlinks|keep-dirlinks|copy-links)(=|$)|-[A-Za-df-z]*[KLkMTfsP])/s;

  const isHarmless = (command: string) => {
    const receiver = received(command);
    if (!receiver) return;
    for (const option of receiver.options) {
      expect(option).toMatch(ALLOWED);
      expect(option).not.toMatch(FORBIDDEN);
    }
    expect(parseCommand(command).at(-1)).toBe(receiver.destination);
    expect(parseCommand(command)[1]).toBe('--server');
  };

  test('that mirror are let through', () => {
    for (const command of REAL) expect(received(command)?.options.length).toBeGreaterThan(0);
    expect(received(REAL[2] ?? '')).toEqual({
      options: ['-lHogDtpAXre.iLsfxCIvu', '-@-1', '-B2048', '--delete', '--backup-dir=old', '--partial-dir=.p'],
      directories: ['old', '.p'],
      destination: '/data/backup/a b',
    });
  });

  test('are an allowed rsync or refused, whatever is done to them', () => {
    fc.assert(fc.property(nearly, isHarmless), { numRuns: 5000 });
    fc.assert(fc.property(fc.string({ unit: 'binary' }), isHarmless));
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(...REAL.join(' ').split(' ')))), (words) =>
        isHarmless(['rsync', '--server', ...words].join(' ')),
      ),
      { numRuns: 2000 },
    );
  });

  test('are read as a shell reads them, however they are quoted', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab -=./~\'"\\$`!#%&*()[]{}<>|;?é中'), maxLength: 12 });
    const escaped = text.map((part) => part.replace(/[^\w]/gu, '\\$&'));
    const single = text.map((part) => `'${part.replaceAll("'", '')}'`);
    const double = text.map((part) => `"${part.replace(/["\\$`]/g, '\\$&')}"`);
    const loose = text.map((part) => `"${part.replace(/["$`]/g, '').replace(/\\$/, '').replace(/\\\\/g, '\\')}x"`);
    const plain = fc.string({ unit: fc.constantFrom(...'abc=./-,:@%+é'), maxLength: 5 });
    const word = fc.array(fc.oneof(escaped, single, double, loose, plain), { minLength: 1, maxLength: 5 });
    const command = fc
      .array(
        word.map((parts) => parts.join('')),
        { maxLength: 5 },
      )
      .map((words) => words.join('  '));
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 20 }), (commands) => {
        const script = commands.map((one) => `printf '%s\\0' x ${one}; printf '\\n\\0'`).join('\n');
        const { stdout } = Bun.spawnSync(['sh', '-c', script]);
        const words = commands.flatMap((one) => ['x', ...parseCommand(one), '\n']);
        expect(stdout.toString().split('\0').slice(0, -1)).toEqual(words);
      }),
      { numRuns: 200 },
    );
  });

  test('take no time, however long and however quoted', () => {
    const parts = ['a', '"', "'", '\\', ' ', '""', "''", `'"'"`, '\\"', '"\\', "$'", '-', '--', ' -e', ' .', '"a'];
    for (const part of parts) {
      for (const bytes of [60_000, 65_536, 1_048_576]) {
        const command = `rsync --server ${part.repeat(bytes / part.length)}`;
        const started = performance.now();
        received(command);
        received(`${command}"`);
        received(`rsync --server "${part.repeat(bytes / part.length - 2)}`);
        expect(`${part} ${performance.now() - started < 1000}`).toBe(`${part} true`);
      }
    }
  });
});

describe('confinedPath', () => {
  const part = fc.constantFrom('a', 'b', 'c', '..', '..', '.', 'new', '');
  const path = fc.array(part, { maxLength: 6 }).map((parts) => parts.join('/'));
  const target = fc.tuple(fc.constantFrom('', 'TOP/', 'TOP/root/', 'TOP/outside/'), path).map((two) => two.join(''));
  const entry = fc.tuple(path, fc.oneof(fc.constant('directory'), target));

  test('is within the root, whatever links there are, and says where the kernel goes', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 8 }),
        fc.array(path, { minLength: 10, maxLength: 20 }),
        (entries, words) => {
          const top = realpathSync(mkdtempSync(join(tmpdir(), 'confined-')));
          const root = join(top, 'root');
          try {
            for (const name of ['root/a/b', 'outside/a/b']) mkdirSync(join(top, name), { recursive: true });
            for (const [name, kind] of entries) plant(join(root, name.replaceAll('..', 'c')), kind.replace('TOP', top));
            const given = words.flatMap((word) => [word, `${root}/${word}`, `${top}/${word}`]);
            const letThrough = given.map((word) => allowed(word, root)).filter((pair) => pair !== undefined);
            const { stdout } = Bun.spawnSync(['realpath', '-m', '--physical', '/', ...letThrough.map(([raw]) => raw)]);
            expect(stdout.toString().trim().split('\n').slice(1)).toEqual(letThrough.map(([, path]) => path));
          } finally {
            rmSync(top, { recursive: true });
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  const plant = (path: string, kind: string) => {
    try {
      if (kind === 'directory') mkdirSync(path, { recursive: true });
      else symlinkSync(kind, path);
    } catch {} // something is there
  };

  /** The word and its path, nothing where it is refused. */
  const allowed = (word: string, root: string): [string, string] | undefined => {
    let confined: string;
    try {
      confined = confinedPath(word, root, root);
    } catch (error) {
      expect(`${error}`).toContain('之内');
      return undefined;
    }
    expect(`${confined}/`).toStartWith(`${root}/`);
    return [word.startsWith('/') ? word : `${root}/${word}`, confined];
  };
});

/** A directory by its names, a file by what it holds, a link by where it leads. */
type Node = Map<string, Node> | string;

/** What rename(2) does below a directory when links on the way are no directories, in a model of the directory. */
function renameInModel(root: Map<string, Node>, from: string, to: string): boolean {
  const [source, target] = [from.split('/'), to.split('/')];
  if ([...source, ...target].some((name) => ['', '.', '..'].includes(name))) return false;
  const [sourceName, targetName] = [source.pop() ?? '', target.pop() ?? ''];
  let [sourcePlace, targetPlace]: [Node | undefined, Node] = [root, root];
  for (const name of source) sourcePlace = sourcePlace instanceof Map ? sourcePlace.get(name) : undefined;
  const moved = sourcePlace instanceof Map ? sourcePlace.get(sourceName) : undefined;
  if (!(sourcePlace instanceof Map) || moved === undefined) return false;
  let isIntoItself = false;
  for (const name of target) {
    const next: Node = targetPlace.get(name) ?? new Map();
    if (!(next instanceof Map)) return false;
    targetPlace.set(name, next);
    targetPlace = next;
    isIntoItself ||= next === moved;
  }
  const replaced = targetPlace.get(targetName);
  if (sourcePlace === targetPlace && sourceName === targetName) return true;
  if (isIntoItself || (replaced instanceof Map && replaced.size > 0)) return false;
  if (replaced !== undefined && replaced instanceof Map !== moved instanceof Map) return false;
  sourcePlace.delete(sourceName);
  targetPlace.set(targetName, moved);
  return true;
}

/** A directory as it is on the disk. */
function modelOf(directory: string): Map<string, Node> {
  const nodeOf = (entry: Dirent): Node => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return modelOf(path);
    return entry.isSymbolicLink() ? `-> ${readlinkSync(path)}` : readFileSync(path, 'utf8');
  };
  return new Map(readdirSync(directory, { withFileTypes: true }).map((entry) => [entry.name, nodeOf(entry)]));
}

describe('renameBelow', () => {
  const part = fc.constantFrom('a', 'a', 'a', 'b', 'b', 'c', 'd');
  const plain = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const odd = fc
    .array(fc.constantFrom('a', 'b', 'c', '.', '..', '', 'outside'), { maxLength: 4 })
    .map((parts) => parts.join('/'));
  const path = fc.oneof({ arbitrary: plain, weight: 4 }, odd);
  const target = fc.constantFrom('.', '..', 'a', '../a', '../../outside', '../outside/a', 'TOP/outside', 'TOP/root/a');
  const what = fc.oneof(fc.constant('directory'), fc.constant('file'), target);
  const tree = fc.array(fc.tuple(plain, what), { minLength: 2, maxLength: 12 });

  test('does what rename(2) does where no link is, follows none, and changes nothing outside', () => {
    let renamed = 0;
    const isRight = (entries: [string, string][], moves: [string, string][]) => {
      const top = mkdtempSync(join(tmpdir(), 'start-sshd-test-'));
      const [inside, outside] = [join(top, 'root'), join(top, 'outside')];
      mkdirSync(inside);
      for (const name of ['a', 'b']) mkdirSync(join(outside, 'a', name), { recursive: true });
      writeFileSync(join(outside, 'b'), 'secret');
      for (const [name, kind] of entries) plant(join(inside, name), kind.replace('TOP', top), name);
      const before = modelOf(top);
      const model = before.get('root') as Map<string, Node>;
      const root = openSync(inside, 'r');
      try {
        for (const [from, to] of moves) {
          const isDone = renameInModel(model, from, to);
          expect(renameBelow(root, from, to)).toBe(isDone);
          if (isDone) renamed++;
        }
        expect(modelOf(top)).toEqual(before);
      } finally {
        closeSync(root);
        rmSync(top, { recursive: true });
      }
    };
    const plant = (full: string, kind: string, content: string) => {
      try {
        mkdirSync(kind === 'directory' ? full : dirname(full), { recursive: true });
        if (kind === 'file') writeFileSync(full, content, { flag: 'wx' });
        else if (kind !== 'directory') symlinkSync(kind, full);
      } catch {} // something else is there
    };
    fc.assert(fc.property(tree, fc.array(fc.tuple(path, path), { minLength: 5, maxLength: 20 }), isRight), {
      numRuns: 200,
    });
    expect(renamed).toBeGreaterThan(100);
  }, 30_000);

  test('leaves nothing open', () => {
    const top = mkdtempSync(join(tmpdir(), 'start-sshd-test-'));
    const root = openSync(top, 'r');
    mkdirSync(join(top, 'a'));
    symlinkSync('.', join(top, 'link'));
    const open = () => readdirSync('/proc/self/fd').length;
    const before = open();
    for (const [from, to] of ['a x/y/a', 'x/y/a b', 'b link/c', 'link/b c', 'no/no b', '../x b', 'b x/link/../c'].map(
      (two) => two.split(' ') as [string, string],
    ))
      renameBelow(root, from, to);
    const [after, names] = [open(), readdirSync(top).sort()];
    closeSync(root);
    rmSync(top, { recursive: true });
    expect(after).toBe(before);
    expect(names).toEqual(['b', 'link', 'x']);
  });
});
