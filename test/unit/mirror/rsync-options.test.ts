import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { parseWords } from '../../../src/mirror/options.ts';
import {
  complaintsAbout,
  complaintsAboutSource,
  parseOptions,
  withoutDeleting,
  withoutOptions,
  withoutQuiet,
  withoutUndone,
} from '../../../src/mirror/rsync-options.ts';

const complaints = (options: string) => complaintsAbout(parseWords(options));

describe('the options in words', () => {
  test('have the names and values that they have to rsync', () => {
    const words = parseWords(
      '-avz --delete -T /tmp -B4 -f "- x" --exclude y --chmod=F644 -e=ssh -T= --out-format= --info',
    );
    expect(parseOptions(words)).toEqual([
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
      { name: '-T', value: '' },
      { name: '--out-format', value: '' },
      { name: '--info' },
    ]);
  });

  test('do not reach beyond a value, whatever that looks like', () => {
    expect(parseOptions(parseWords('--exclude --delete -avT -n --link-dest -x -M--fake-super'))).toEqual([
      { name: '--exclude', value: '--delete' },
      { name: '-a' },
      { name: '-v' },
      { name: '-T', value: '-n' },
      { name: '--link-dest', value: '-x' },
      { name: '-M', value: '--fake-super' },
    ]);
  });

  test('are taken out with their values, and other words stay as they are', () => {
    const without = (options: string, ...names: string[]) =>
      withoutOptions(parseWords(options), ({ name }) => names.includes(name));
    expect(without('-avqT/tmp -q --exclude -q', '-q')).toEqual(['-avT', '/tmp', '--exclude', '-q']);
    expect(without('-avT /tmp -T=/a --temp-dir /b', '-T', '--temp-dir')).toEqual(['-av']);
  });

  test('are taken out where later ones undo them, and others are not', () => {
    const left = (options: string) => withoutUndone(parseWords(options)).join(' ');
    expect(left('-aAX --delete --no-A')).toBe('-aX --delete');
    expect(left('-aA --acls --no-acls -A')).toBe('-a -A');
    expect(left('-a --bwlimit 5 --bwlimit=6 --no-bwlimit -x --no-x')).toBe('-a');
    expect(left('-rlt -A --no-A')).toBe('-rlt -A --no-A'); // -A has set -p, which stays
    expect(left('-az --no-o --no-z --no-r -r')).toBe('-az --no-o --no-z --no-r -r');
    expect(left('-a --exclude --no-A -A')).toBe('-a --exclude --no-A -A');
  });

  test('that are left say the same to rsync', () => {
    const sent = (words: string[]) => {
      const args = [...words, '-e', 'echo >&2', '--', '/dev/null', 'host:/x'];
      return spawnSync('rsync', args, { encoding: 'utf8' })
        .stderr.split('\n')
        .find((line) => line.startsWith('host'));
    };
    const names = fc.constantFrom(
      ...'-A -X -H -O -J -S -c -i -m -x -y --acls --append --append-verify --bwlimit=5 --delay-updates --force'.split(
        ' ',
      ),
      ...'--ignore-errors --inplace --mkpath --numeric-ids --timeout=5 --no-A --no-acls --no-X --no-xattrs --no-H'.split(
        ' ',
      ),
      ...'--no-O --no-J --no-S --no-c --no-checksum --no-i --no-m --no-x --no-y --no-append --no-bwlimit -p --no-p'.split(
        ' ',
      ),
      ...'--no-delay-updates --no-force --no-ignore-errors --no-inplace --no-mkpath --no-numeric-ids --no-timeout'.split(
        ' ',
      ),
    );
    const lists = fc.array(names, { minLength: 2, maxLength: 12 });
    const kinds = fc.constantFrom('-a', '-rlt');
    fc.assert(
      fc.property(kinds, lists, (kind, options) => {
        const words = [kind, '--delete', ...options];
        expect(sent(withoutUndone(words))).toBe(sent(words));
      }),
      { numRuns: 200 },
    );
  });

  test('that delete are taken out, and those stay that only look like them', () => {
    const words = '-a --delete-after --max-delete 5 --del --max-delete=5 --delay-updates --exclude --delete --force';
    expect(withoutDeleting(parseWords(words))).toEqual(['-a', '--delay-updates', '--exclude', '--delete']);
  });
});

test('an rsync that was asked to be quiet speaks, and whatever merely looks like that request stays', () => {
  expect(withoutQuiet(parseWords(`-aqzq -q --quiet -e 'ssh -q' --exclude -q* -vf -_q -f'- q' -Tq`))).toEqual([
    ...['-az', '-e', 'ssh -q', '--exclude', '-q*', '-vf', '-_q', '-f- q', '-Tq'],
  ]);
});

describe('what makes a mirror is taken', () => {
  test.each([
    '-avz --delete',
    '-rlt',
    '--no-r -a',
    '-lptgoD -d',
    '-a --old-dirs',
    '-lt --files-from=/list',
    '-avz -e ssh --rsh=/usr/bin/ssh',
    '-avze ssh --delete',
    '-rave "ssh"',
    "-avz --delete -e 'ssh -o StrictHostKeyChecking=no'",
    '--rsh="ssh -Tq -x -oStrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null" -a',
    '-a --exclude -n --exclude=--dry-run --out-format --list-only',
    "-a --exclude '–x' --include '' --filter '- –'",
    '-a --existing',
    '-a --ignore-existing',
    '-a --write-batch=/var/batch',
    '-a --rsync-path="sudo rsync" -M--fake-super -M --log-file=/x',
    '-a --port=2222 --sockopts=x --address=::1',
    '-a --link-dest /old --compare-dest /older --log-format %n --partial-dir .part --iconv utf8 --stop-after 5',
    '-a --info=progress2 --debug=hlink -F --exclude-from /x/-',
  ])('%s', (options) => expect(complaints(options)).toEqual([]));
});

describe('what makes no mirror is refused by name', () => {
  test.each([
    ['-avzn --delete', '不能包含 -n：只是演练'],
    ['-a --dry-run', '不能包含 --dry-run：只是演练'],
    ['-a --list-only', '不能包含 --list-only：只列出文件'],
    ['-a --only-write-batch=/x', '不能包含 --only-write-batch：只写批处理文件'],
    ['-a --read-batch /x', '不能包含 --read-batch：不能用于远程目标'],
    ['-a --help', '不能包含 --help：只显示信息'],
    ['-avV', '不能包含 -V：只显示信息'],
    ['-a --info=name,HELP', '不能包含 --info：help 只显示信息'],
    ['-a --debug help', '不能包含 --debug：help 只显示信息'],
    ['-a --daemon', '不能包含 --daemon：会让 rsync 作为服务端运行'],
    ['-a --server', '不能包含 --server：会让 rsync 作为服务端运行'],
    ['-a --remove-source-files', '不能包含 --remove-source-files：会删除源目录中已经传输的文件'],
    ['-a --remove-sent-files', '不能包含 --remove-sent-files：会删除源目录中已经传输的文件'],
    ['-avze "ssh -p 2222"', '不能包含 -e：连接总是由 ssh 建立'],
    ['-a -e "ssh -T -o StrictHostKeyChecking=no -i /key"', '不能包含 -e：连接总是由 ssh 建立'],
    ['-a -e "ssh -A"', '不能包含 -e：连接总是由 ssh 建立'],
    ['-a -e "ssh -o StrictHostKeyChecking=nothing"', '不能包含 -e：连接总是由 ssh 建立'],
    ['-a -e "ssh -o StrictHostKeyChecking=no; rm"', '不能包含 -e：连接总是由 ssh 建立'],
    ['-a -e "ssh -p 2222"', '不能包含 -e：连接总是由 ssh 建立，这里的命令不会采用；ssh 的选项请写入 SSH_OPTS'],
    ['-a --rsh=rsh', '不能包含 --rsh：'],
    ['-a --files-from=-', '不能包含 --files-from：“-” 指标准输入'],
    ['-a --exclude-from -', '不能包含 --exclude-from：“-” 指标准输入'],
    ['-a -f "merge -"', '不能包含 -f：“-” 指标准输入'],
    ['-a -M--list-only', '不能包含 -M：只让备份端的 rsync 采用 --list-only'],
    ['-a --remote-option=--delete', '不能包含 --remote-option：只让备份端的 rsync 采用 --delete'],
    ['-v --times', '没有 -a 或 -r'],
    ['-a --no-r', '没有 -a 或 -r'],
    ['-lt -d --no-d', '没有 -a 或 -r'],
    ['--delete', '没有 -a 或 -r'],
    ['-a --existing --ignore-existing', '--existing 与 --ignore-existing 合用时不传输任何内容'],
    ['-av -delete', '“-delete” 应以两个连字符开头：--delete'],
    ['-av -exclude=.git', '“-exclude=.git” 应以两个连字符开头：--exclude=.git'],
    ['-a --exclude .git node_modules', '“node_modules” 不是选项，rsync 会将它当作另一个要镜像的文件'],
    ['avz --delete', '“avz” 不是选项'],
    ['-avz -', '“-” 不是选项'],
    ["-avz ''", '“” 不是选项'],
    ['-avz --', '“--” 不是选项'],
    ['-avz –delete', '“–delete” 开头的长横线不是连字符（可能被编辑器替换），应写作 --delete'],
    ['-avz —delete', '应写作 --delete'],
    ['−a', '应写作 -a'],
    ['—avz --delete', '应写作 -avz'],
    ['-avz －－delete', '应写作 --delete'],
  ])('%s', (options, expected) => {
    const found = complaints(options);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(expected);
  });

  test('all at once', () => {
    expect(complaints('-an --list-only x')).toHaveLength(3);
  });

  test('with nothing in it that could start a line', () => {
    expect(complaintsAbout(['-a', 'x\n[ERROR] forged', '—\n']).join()).not.toContain('\n');
  });

  test('says that the value of the last option is missing, for which rsync would take a word of ours', () => {
    for (const option of ['--exclude', '--max-delete', '--write-batch', '-T', '-f'])
      expect(complaints(`-a ${option}`)).toEqual([`${option} 之后缺少它的值；请补上，或去掉这个选项`]);
    expect(complaints('-avT')).toEqual(['-T 之后缺少它的值；请补上，或去掉这个选项']);
    expect(complaints("-a --suffix= --exclude '' -T /tmp --timeout 5")).toEqual([]);
  });
});

describe('a source', () => {
  const about = (options: string, source: string) => complaintsAboutSource(parseWords(options), source).join();

  test.each([
    ['-aR', '/x/./y/'],
    ['-aR', 'x/y/'],
    ['-a --no-R --relative', '/./x'],
  ])('under %s, %s, would lie on the target where nobody looks for it', (options, source) =>
    expect(about(options, source)).toContain('与 -R 一起使用时应为不含 /./ 的完整路径'),
  );

  test.each([
    ['-d', '/x'],
    ['-a --old-dirs', '/x'],
    ['-a --no-r -d', '/x/y'],
  ])('under %s, %s, would be an empty directory on the target', (options, source) =>
    expect(about(options, source)).toContain('请加上结尾的斜杠'),
  );

  test.each([
    ['-aR', '/x/y/'],
    ['-aR --no-R', '/x/./y/'],
    ['-a', '/x/./y'],
    ['-aR --files-from=/list', '/x/./y/'],
    ['-d', '/x/'],
    ['-d', '/x/.'],
    ['-ad', '/x'],
  ])('under %s, %s, is mirrored as one expects', (options, source) => expect(about(options, source)).toBe(''));
});

/** How rsync ends once it has read its options: it cannot connect, or it says how it is used where words are left over. */
function readByRsync(words: string[]): 'options' | 'files' | 'wrong' {
  const more = ['--files-from=/dev/null', '--log-file=/dev/null', '-n', '-e', 'false', '/', 'target.invalid:/'];
  const { status, stderr } = spawnSync('rsync', [...words, ...more], { encoding: 'utf8' });
  if (status === 12) return 'options';
  return status === 1 && stderr.startsWith('rsync  version') ? 'files' : 'wrong';
}

test('a word counts as a file where it does to rsync', () => {
  const word = fc.oneof(
    fc.constantFrom(
      ...[
        '-a',
        '-av',
        '-T',
        '-avT',
        '-T/tmp',
        '-T=x',
        '-f',
        '-f- x',
        '-M',
        '-M--fake-super',
        '-@',
        '-@1',
        '-B',
        '4',
        '5',
      ],
      ...[
        '--exclude',
        '--exclude=x',
        '--delete',
        '--timeout',
        '--timeout=5',
        '--partial-dir',
        '--link-dest',
        '--suffix',
      ],
      ...[
        '--log-format',
        '--files-from',
        '/dev/null',
        '--no-whole-file',
        '--chmod',
        'F644',
        '--info',
        'name',
        '--bwlimit',
      ],
      ...[
        '-',
        '',
        'x',
        '–delete',
        '- x',
        '--port',
        '--iconv',
        '.',
        '--copy-dest',
        '--out-format',
        '--usermap',
        '-e',
        '--zl',
      ],
    ),
  );
  const seen = { options: 0, files: 0, wrong: 0 };
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
      const read = readByRsync(['-r', ...words]);
      seen[read]++;
      // What is left over at the end would take its value from what comes behind.
      if (read === 'wrong' || parseOptions([...words, 'END']).at(-1)?.value === 'END') return;
      const files = complaintsAbout(['-r', ...words]).filter((complaint) => complaint.includes('只能包含选项'));
      expect([words, files.length > 0]).toEqual([words, read === 'files']);
    }),
    { numRuns: 300 },
  );
  expect(Math.min(seen.options, seen.files)).toBeGreaterThan(10);
});
