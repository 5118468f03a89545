import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { costlyOptions, methodFor, namesFiles, parseWords, planFor } from '../../../src/mirror/options.ts';
import { parseOptions } from '../../../src/mirror/rsync-options.ts';

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
    '-avz --exclude=node_modules',
    "-a --exclude '*.tmp' --delete",
    "-a --include='*/' --include=*.txt --exclude=*",
    "-a -f '- x' --filter='+ /y' -f !",
    '-a --exclude-from=/etc/hostname',
    "-a --exclude='*a*b*c*d*e*f*g'",
    '-a --partial-dir=.partial/',
    '-ab --exclude=x',
    '-a --delete-excluded --exclude=x',
    '-a --delete-excluded',
    '-aM--fake-super --remote-option=--fsync',
    '-a --trust-sender --new-compress --old-compress --no-iconv --no-msgs2stderr --max-alloc=2G',
    '-aH',
    '-ax',
    '-a --delay-updates --partial-dir=.partial --timeout=5',
  ])('%s: a list', (options) => expect(method(options)).toBe('list'));

  test.each([
    '-aF',
    '-aF --exclude=x',
    "-a -f '-/ /home/x'",
    '-a --exclude-from=/nowhere',
    '-aF --partial-dir=/elsewhere',
    "-aF -f 'R x'",
  ])('%s: rules', (options) => expect(method(options)).toBe('rules'));

  test.each([
    '-aC',
    '-aM--log-file=/x',
    '-axx',
    '-ax --one-file-system',
    '-axb --delete',
    '-ax --delete --delay-updates',
    '-aH --inplace',
    '-aH --append-verify',
    '-aF --delay-updates',
    '-aF --partial-dir=.partial',
    '-a --partial-dir=../x',
    '-a0 --exclude-from=/etc/hostname',
    '-aL',
    '-ak',
    '-aK',
    '-aR',
    '-am',
    '-an',
    '-lptgoD',
    '-a --no-recursive',
    '-a --files-from=/etc/hostname',
    '-a --remove-source-files',
    '-a --link-dest=/x',
    "-a -f ': .rules'",
    "-a --filter='dir-merge .rules'",
    "-a --filter='. /rules'",
    '-a --an-option-of-the-future',
  ])('%s: only all of the source', (options) => expect(method(options)).toBe('full'));
});

test.each([
  ['-aF --delete-excluded --include=risk', true],
  ["-aF --filter='+ risk' -f '+_r' -f '-r x' -f 'include,s x' -f 'P r'", true],
  ["-aF -f 'R x'", false],
  ["-aF --filter='risk,! x'", false],
  ["-aF --filter='+r x'", false],
  ["-aF --filter='include,!r x'", false],
])('rules behind those of %s keep what they leave out: %p', (RSYNC_OPTS, isKept) => {
  expect(planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true }).mayLeaveOut).toBe(isKept);
});

test.each([
  ['-avz --delete', []],
  ['-avzLk --delete', ['-L', '-k']],
  ['-axx --delete --info=name', ['-x', '-x']],
  ['-avm', ['-m']],
  ['-aH --inplace', ['-H', '--inplace']],
  ['-amx --delete', ['-m', '-x']],
  ['-a --an-option-of-the-future=3 --exclude=x', ['--an-option-of-the-future']],
])('for %s, those of which a change costs a comparison of everything are %p', (options, costly) => {
  expect(costlyOptions(parseWords(options))).toEqual(costly);
  expect(planFor({ RSYNC_OPTS: options, SSH_OPTS: '', RENAME_ON_TARGET: true }).costly).toEqual(costly);
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
  ['-a', '-F config', true],
  ['-a', '-p 2222 -i keys/id', true],
  ['-a', '-o "IdentityFile keys/id"', true],
  ['-a', '-o ProxyCommand=./proxy', true],
])('rsync is started in the source unless options name files from here: %s, %s', (rsync, ssh, isFromHere) => {
  const words = rsync.includes('rules') ? ['-a', '--filter=. rules'] : parseWords(rsync);
  expect(namesFiles(parseOptions(words), ssh)).toBe(isFromHere);
});

describe('the plan', () => {
  const plan = (RSYNC_OPTS: string, more: { SSH_OPTS?: string; RENAME_ON_TARGET?: boolean } = {}) =>
    planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true, ...more });

  test('of the default options is to do all that there is to be done', () => {
    expect(plan('-avz --delete')).toMatchObject({
      words: ['-avz', '--delete'],
      method: 'list',
      deletes: true,
      mayArm: true,
      mayRename: true,
      mayProgress: true,
      mayReport: true,
      isRelative: false,
      errorOptions: [],
      mayPin: true,
      scanOptions: [],
      ruleFiles: [],
    });
  });

  test('is not to delete by names what may be mounted in the backup, where rsync is not to go into that', () => {
    for (const [options, may] of [
      ['-a --delete', true],
      ['-ax', true],
      ['-ax --delete', false],
      ['-am --delete', true],
      ['-am', false],
    ] as const)
      expect(plan(options).mayDeleteByNames).toBe(may);
  });

  test('is to have an rsync wait where it may be given names', () => {
    for (const more of ['--timeout=5', '--exclude=x', '-H', '-F', '-m'])
      expect(plan(`-a --delete ${more}`).mayArm).toBe(true);
    for (const more of ['-F --exclude-from=/x', '-Fm', '-mx', '-mb', '-R'])
      expect(plan(`-a --delete ${more}`).mayArm).toBe(false);
  });

  test.each([
    ...['-a', '-a --delete -F', '-ab --delete', '-au --delete', '-a --delete --existing'],
    ...['-a --delete --ignore-existing', '-a --delete --size-only', '-a --delete --append', '-a --delete -@1'],
    ...['-a --delete --max-delete=5', '-a --delete --max-size=1M', '-a --delete --safe-links'],
  ])('is not to rename on the target with %s', (options) => expect(plan(options).mayRename).toBe(false));

  test('is not to rename on the target where that is not wanted', () => {
    expect(plan('-a --delete', { RENAME_ON_TARGET: false }).mayRename).toBe(false);
    expect(plan('-a --delete-after').mayRename).toBe(true);
  });

  test.each([
    ['-a --delete', Number.POSITIVE_INFINITY],
    ['-a --delete --max-delete=5', 5],
    ['-a --delete --max-delete 7 --max-delete 6', 6],
    ['-a --delete --max-delete=-1', 0],
  ])('knows how much may be deleted with %s', (options, most) => expect(plan(options).maxDelete).toBe(most));

  test.each([
    ['-a --delay-updates', false],
    ['-a --no-delay-updates', false],
    ['-a --max-delete=5', false],
    ['-a --delete-missing-args', false],
    ['-a --delete-missing-args --files-from=/list', true],
    ['-a --exclude --delete', false],
    ['-aT --delete', false],
    ['-a --del', true],
    ['-a --delete-excluded', true],
    ['-a --delete-during', true],
  ])('knows whether %s deletes', (options, deletes) => expect(plan(options).deletes).toBe(deletes));

  test('has the last option count of those that undo each other', () => {
    expect(plan('-axRv --no-x --no-relative --no-v')).toMatchObject({
      isOneFileSystem: false,
      isRelative: false,
      isVerbose: false,
    });
    expect(plan('-a --no-one-file-system --no-R -xvR')).toMatchObject({
      isOneFileSystem: true,
      isRelative: true,
      isVerbose: true,
    });
  });

  test('leaves progress and the log to the user who asks for them', () => {
    const own = [
      '-aP',
      '-a --progress',
      '-aq',
      '-a --quiet',
      '-a --info=progress2',
      '-a --stderr=all',
      '-a --info=name1',
    ];
    expect(own.map((options) => plan(options).mayProgress)).toEqual([false, false, false, false, false, false, true]);
    expect(plan('-a --log-file=/var/log/x').mayReport).toBe(false);
    expect(plan('-a --stderr=all').errorOptions).toEqual(['--stderr=errors']);
    const silent = ['-a --max-size=1G', '-aq', '-a --quiet', '-a --stderr=all'];
    expect(['-av', ...silent].map((options) => plan(options).mayLimitSize)).toEqual([true, false, false, false, false]);
  });

  test('knows what options name files from here, have rsync scan first, or hold rules', () => {
    expect(plan('-a', { SSH_OPTS: '-i keys/id' }).mayPin).toBe(false);
    expect(plan('-aR')).toMatchObject({ isRelative: true, mayPin: false });
    expect(plan('-aH').scanOptions).toEqual(['--no-inc-recursive']);
    expect(plan('-a --exclude-from=/etc/b --include-from /etc/中')).toMatchObject({
      method: 'rules',
      ruleFiles: ['/etc/b', '/etc/\xe4\xb8\xad'],
    });
  });
});

describe('what would turn errors in reading into deletions', () => {
  const wordsOf = (RSYNC_OPTS: string) => planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true });

  test.each([
    ['-av --ignore-errors --delete', ['-av', '--delete']],
    ['-av -M--ignore-errors --delete', ['-av', '--delete']],
    ['-av -M=--ignore-errors --delete', ['-av', '--delete']],
    ['-av -M --ignore-errors --delete', ['-av', '--delete']],
    ['-avM--ignore-errors --delete', ['-av', '--delete']],
    ['-avM --ignore-errors --delete', ['-av', '--delete']],
    ['-av --remote-option=--ignore-errors --delete', ['-av', '--delete']],
    ['-av --remote-option --ignore-errors --delete', ['-av', '--delete']],
  ])('is left out, however it is written: %s', (options, words) => {
    expect(wordsOf(options)).toMatchObject({ words, ignoresErrors: true });
  });

  test.each([
    '-av --delete',
    '-avM--fake-super -M --log-file=/x',
    '-a --exclude=--ignore-errors',
    '-ae M--ignore-errors',
  ])('is not seen in anything else: %s', (options) => {
    expect(wordsOf(options)).toMatchObject({ words: options.split(' '), ignoresErrors: false });
  });
});
