import { describe, expect, test } from 'bun:test';
import { Faults } from '../../../src/mirror/faults.ts';
import { locatorFor, namerFor } from '../../../src/mirror/told-paths.ts';
import { statsOf } from './stand-ins.ts';

/** What is in the source. */
const DEEP = `deep/${'d'.repeat(3000)}`;
const HELD = new Set([DEEP, 'deep', 'a', 'd/a', 'd', 'q"u o', 'ab/.f', 'x y', 'caf\xc3\xa9']);
const source = {
  ...{ root: '/s/', realRoot: '/disk/s', prefix: '/web/' },
  look: (path: string) => (HELD.has(path) ? statsOf() : undefined),
  isReadable: () => true,
  isUnknown: () => false,
};
const locate = locatorFor(source, '/data/backup/');

/** What is found in what an rsync says. */
function heard(...lines: string[]) {
  const faults = new Faults(locate);
  const passed = faults.read(lines.map((line) => `${line}\n`).join(''));
  return { faults, passed, list: faults.list.map(({ kind, path, code }) => `${kind} ${path} ${code}`) };
}

test('a directory of the target that cannot be read is no fault of the source', () => {
  const said = (who: string) => heard(`rsync: [${who}] readdir("/data/backup/d"): Input/output error (5)`).faults.list;
  expect(said('generator')).toEqual([
    { path: 'd', kind: 'reading', text: 'Input/output error', code: 5, atTarget: true },
  ]);
  expect(said('sender')).toEqual([{ path: 'd', kind: 'reading', text: 'Input/output error', code: 5 }]);
});

describe('a fault', () => {
  const rows: [line: string, found: string][] = [
    ['rsync: [receiver] write failed on "/data/backup/a": No space left on device (28)', 'content a 28'],
    ['rsync: [receiver] write failed on "/data/backup/q"u o": Disk quota exceeded (122)', 'content q"u o 122'],
    ['rsync: [receiver] mkstemp "/data/backup/d/.a.nfb6ef" failed: Permission denied (13)', 'content d/a 13'],
    ['rsync: [receiver] mkstemp "/data/backup/ab/..f.nfb6ef" failed: File name too long (36)', 'content ab/.f 36'],
    ['rsync: [receiver] rename "/data/backup/.a.x1y2z3" -> "a": Operation not permitted (1)', 'content a 1'],
    ['rsync: [generator] recv_generator: mkdir "/data/backup/d" failed: Read-only file system (30)', 'content d 30'],
    ['rsync: [generator] recv_generator: failed to stat "/data/backup/a": File name too long (36)', 'content a 36'],
    ['rsync: mkstemp "/data/backup/.a.x1y2z3" failed: Permission denied (13)', 'content a 13'],
    ['rsync: [sender] send_files failed to open "/s/a": Permission denied (13)', 'reading a 13'],
    ['rsync: [sender] opendir "/s/d" failed: Permission denied (13)', 'reading d 13'],
    ['rsync: [sender] readlink_stat("/s/d/a") failed: Permission denied (13)', 'reading d/a 13'],
    ['rsync: [sender] read errors mapping "/s/a": Input/output error (5)', 'reading a 5'],
    ['rsync: opendir "/s/d" failed: Permission denied (13)', 'reading d 13'],
    ['rsync: [sender] get_acl: sys_acl_get_file(x y, ACL_TYPE_ACCESS): Input/output error (5)', 'reading x y 5'],
    ['ERROR: d/a failed verification -- update discarded.', 'content d/a undefined'],
    ['ERROR: daemon refused to receive file "d/a"', 'content d/a undefined'],
    ['ERROR: daemon refused to receive directory "web/d"', 'content d undefined'],
    ['ERROR: daemon refused to receive file "q"u o"', 'content q"u o undefined'],
    ['rsync: [receiver] temporary filename too long: d/a', 'content d/a undefined'],
    [`filename overflows max-path len by 130: ${DEEP}/${'e'.repeat(1200)}/f`, `reading ${DEEP} undefined`],
    ['could not make way for new regular file: d', 'content d undefined'],
    [
      '[sender] cannot convert filename: d/a (Invalid or incomplete multibyte or wide character)',
      'reading d/a undefined',
    ],
    ['[sender] cannot convert symlink data for: "/s/a" (Invalid argument)', 'reading a undefined'],
    [
      'rsync: [receiver] write failed on "/data/backup/caf\\#303\\#251": No space left on device (28)',
      'content caf\xc3\xa9 28',
    ],
  ];
  for (const [line, found] of rows)
    test(line, () => {
      const { faults, passed, list } = heard(line);
      expect(list).toEqual([found]);
      expect(faults).toMatchObject({ isComplete: true, isOfAttributes: false });
      expect(passed).toBe(`${line}\n`);
    });

  test('of which the path is not known, or which is not understood, is told apart', () => {
    expect(
      heard('rsync: [generator] delete_file: unlink(gone) failed: Read-only file system (30)').faults.isComplete,
    ).toBe(false);
    expect(heard('rsync: something new').faults.isComplete).toBe(false);
    expect(heard('rsync: [sender] fstat failed: Input/output error (5)').faults.isComplete).toBe(false);
  });

  test('is not what rsync says besides', () => {
    const { faults, list } = heard(
      'rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]',
      'rsync: [sender] write error: Broken pipe (32)',
      'rsync: connection unexpectedly closed (0 bytes received so far) [sender]',
      'file has vanished: "/s/b"',
      'IO error encountered -- skipping file deletion',
      'Warning: Permanently added a host',
    );
    expect(list).toEqual([]);
    expect(faults.isComplete).toBe(true);
    expect(faults.isTold).toBe(false);
    expect(heard('rsync: [sender] opendir "/s/d" failed: Permission denied (13)').faults.isTold).toBe(true);
  });
});

describe('attributes that cannot be set', () => {
  const chown = (path: string) => `rsync: [receiver] chown "/data/backup/${path}" failed: Operation not permitted (1)`;

  test('are told apart from what lacks content, by their kinds', () => {
    const { faults, list } = heard(
      chown('d/.a.x1y2z3'),
      'rsync: [generator] chgrp "/data/backup/d" failed: Operation not permitted (1)',
      'rsync: [generator] failed to set times on "/data/backup/.": Operation not permitted (1)',
      'rsync: [receiver] failed to set permissions on "/data/backup/a": Operation not permitted (1)',
      'rsync: [receiver] rsync_xal_set: lsetxattr("/data/backup/a","user.x") failed: Operation not supported (95)',
      'rsync: [receiver] set_acl: sys_acl_set_file(d/a, ACL_TYPE_ACCESS): Operation not supported (95)',
    );
    expect([...faults.attributes.keys()]).toEqual(['owner', 'group', 'times', 'mode', 'xattr', 'acl']);
    expect(faults.isOfAttributes).toBe(true);
    expect(list).toEqual(['attributes d/a 1', 'attributes d 1', 'attributes  1', 'attributes a 1']);
    expect(
      heard(chown('a'), 'rsync: [receiver] mkstemp "/data/backup/.a.x1y2z3" failed: Permission denied (13)').faults
        .isOfAttributes,
    ).toBe(false);
    expect(heard('rsync: something new', chown('a')).faults.isOfAttributes).toBe(false);
  });

  test('fill no log: a few lines are passed on, and none where they were told before', () => {
    const many = Array.from({ length: 2000 }, () => chown('a'));
    expect(heard(...many).passed.split('\n')).toHaveLength(6);
    const faults = new Faults(locate, new Set(['owner'] as const));
    expect(faults.read(`${chown('a')}\nrsync: other\n`)).toBe('rsync: other\n');
    expect([...faults.attributes.keys()]).toEqual(['owner']);
  });
});

test('of very many faults the first are passed on, that there are more, and all else', () => {
  const lines = Array.from({ length: 500 }, () => 'rsync: [sender] opendir "/s/d" failed: Permission denied (13)');
  const { passed } = heard(...lines, 'IO error encountered -- skipping file deletion', ...lines);
  expect(passed.split('\n')).toHaveLength(203);
  expect(Buffer.from(passed, 'latin1').toString()).toEndWith(
    '不再逐行显示）\nIO error encountered -- skipping file deletion\n',
  );
});

test('memory stays bounded, whatever rsync says', () => {
  const everything = new Faults((told) => told);
  for (let n = 0; n < 3000; n++) everything.read(`rsync: [sender] opendir "${n}" failed: Permission denied (13)\n`);
  expect(everything.list).toHaveLength(1000);
  expect(everything.isComplete).toBe(false);
  const endless = new Faults((told) => told);
  for (let n = 0; n < 100; n++) endless.read('x'.repeat(10_000));
  expect(endless.isComplete).toBe(false);
});

test('what could not be read is told beside however much else, and not hidden by what else has failed there', () => {
  const faults = new Faults((told) => told);
  for (let n = 0; n < 3000; n++) faults.read(`rsync: [receiver] mkstemp "f${n}" failed: Permission denied (13)\n`);
  faults.read('rsync: [sender] opendir "d" failed: Permission denied (13)\n');
  faults.read('rsync: [generator] recv_generator: mkdir "d" failed: Permission denied (13)\n');
  expect(faults.list.filter(({ kind }) => kind === 'reading').map(({ path }) => path)).toEqual(['d']);
  expect(faults.isComplete).toBe(false);
});

describe('what could not be deleted, which the source has no more,', () => {
  const line = (told: string) => `rsync: [generator] delete_file: unlink(${told}) failed: Operation not permitted (1)`;
  const named = (told: string, root = '/s/', prefix = '/') => {
    const faults = new Faults(locate, new Set(), namerFor({ root, prefix }));
    faults.read(`${line(told)}\n`);
    return faults.isComplete ? faults.list.map(({ path, code }) => `${path} ${code}`).join() : 'not known';
  };

  test('is named as the source would call it', () => {
    expect(named('gone/1')).toBe('gone/1 1');
    expect(named('gone (1)')).toBe('gone (1) 1');
    expect(named('d/a')).toBe('d/a 1'); // it is there again
    expect(named('s/gone', '/x/s/', '/s/')).toBe('gone 1');
    expect(named('x/s/gone', '/x/s/', '/')).toBe('gone 1'); // with -R
  });

  test.each(['../gone', '/gone', 'd/../../gone', ''])('but not %j, which lies beside it', (told) => {
    expect(named(told)).toBe('not known');
  });
});

test('why start-sshd refuses is told in its own words, made safe and no longer than they may be', () => {
  const bytes = (text: string) => Buffer.from(text).toString('latin1');
  expect(heard(bytes('start-sshd: 拒绝执行：/x 不在 DEST_DIR 之内')).faults.refusal).toBe(
    '拒绝执行：/x 不在 DEST_DIR 之内',
  );
  const echoed = 'start-sshd: refused: the rsync option -c is not allowed\nstart-sshd: 拒绝执行：不允许该 rsync 选项 ';
  const { faults, passed } = heard(bytes(echoed));
  expect([faults.refusal, passed]).toEqual([
    'refused: the rsync option -c is not allowed',
    bytes(`${echoed.split('\n')[0]}\n`),
  ]);
  expect(heard(`start-sshd: \x1b[2J${'x'.repeat(9000)}`).faults.refusal).toMatch(/^\\x1b\[2Jx{1900,2000}$/);
  expect(heard('rsync error: some files (code 23)').faults.refusal).toBeUndefined();
  expect(heard('rsync: ACLs are not supported on this server').faults.refusal).toBe(
    '的 rsync 不支持 ACLs，请在 RSYNC_OPTS 或只为此目标在 DEST_RSYNC_OPTS 中写 --no-A',
  );
  expect(heard('sudo: a password is required').faults.refusal).toContain('NOPASSWD');
  for (const name of ['rsync: ACLs are not supported on this server x', '[sender] sudo: a password is required'])
    expect(heard(name).faults.refusal).toBeUndefined();
});

test('a line may come in pieces', () => {
  const faults = new Faults(locate);
  const line = 'rsync: [sender] opendir "/s/d" failed: Permission denied (13)\n';
  expect([...line].map((byte) => faults.read(byte)).join('')).toBe(line);
  expect(faults.list).toHaveLength(1);
});

describe('what has no end', () => {
  const chatter = 'of no use\n'.repeat(1000);

  test('is told from what rsync says of many files', () => {
    const { faults } = heard();
    const many = [
      'file has vanished: "/s/x"',
      'cannot delete non-empty directory: d',
      '*** Skipping any contents from this failed directory ***',
      'WARNING: a failed verification -- update discarded (will try again).',
      'debug2: channel 0: window 2031616 sent adjust 65536',
      'rsync: [receiver] chown "/data/backup/a" failed: Operation not permitted (1)',
      'rsync: [receiver] mkstemp "/data/backup/x" failed: Permission denied (13)',
    ];
    const lines = many.map((line) => `${line}\n`).join('');
    for (let n = 0; n < 10_000; n++) faults.read(lines);
    expect(faults.isFlooded).toBe(false);
    for (let n = 0; n < 9; n++) faults.read(chatter);
    expect(faults.isFlooded).toBe(false);
    faults.read(chatter);
    expect(faults.isFlooded).toBe(true);
  });

  test('is passed on up to a limit, and then told once', () => {
    const { faults } = heard();
    const line = 'file has vanished: "/s/x"\n';
    const passed = Array.from({ length: 10_100 }, () => faults.read(line));
    expect(passed.filter((it) => it === line)).toHaveLength(9999);
    expect(passed.filter((it) => it !== line && it !== '')).toHaveLength(1);
  });

  test('is told where it has no line ends', () => {
    const { faults } = heard();
    for (let n = 0; n < 100; n++) faults.read('a'.repeat(20_000));
    expect(faults.isFlooded).toBe(true);
  });

  test('is not looked for on the disk without end', () => {
    let looks = 0;
    const faults = new Faults(() => {
      looks++;
      return undefined;
    });
    const quotes = `rsync: [receiver] mkstemp "${'"'.repeat(60_000)} failed: Permission denied (13)\n`;
    for (let n = 0; n < 20; n++) faults.read(quotes);
    expect(looks).toBeLessThanOrEqual(20 * 2 * 100);
    for (let n = 0; n < 30_000; n++) faults.read('rsync: [receiver] mkstemp "x" failed: Permission denied (13)\n');
    expect(looks).toBeLessThanOrEqual(20_000 + 4000);
    expect(faults.isComplete).toBe(false);
  });
});
