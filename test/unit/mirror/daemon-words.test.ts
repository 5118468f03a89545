import { expect, test } from 'bun:test';
import { reasonOfDaemon, refusalOf, roomIn, saysLittle, withoutLoss } from '../../../src/mirror/daemon-words.ts';
import { Faults, saysOption } from '../../../src/mirror/faults.ts';

test.each([
  ['@ERROR: max connections (2) reached -- try again later', 'max connections = 2'],
  ['@ERROR: auth failed on module web', '模块 web 的用户或密码'],
  ["@ERROR: Unknown module 'web'", '没有模块 web'],
  ['@ERROR: access denied to web from nas (192.0.2.7)', '访问模块 web'],
  ['@ERROR: chroot failed', '(chroot failed)'],
  ['@ERROR: invalid uid nobody2', '(invalid uid nobody2)'],
  ['ERROR: module is read only', 'read only = no'],
  ['ERROR: module is write only', 'write only = no'],
  ['rsync: The server is configured to refuse --delete', 'rsync 选项 --delete'],
  ['@ERROR: something \x1b[31mnew', '拒绝：something \\x1b[31mnew'],
  ["@ERROR: Unknown module '备份'", '没有模块 备份'],
  ['@ERROR: café', '拒绝：café'],
])('%p is put into words', (line, words) => {
  const bytes = Buffer.from(line).toString('latin1');
  expect(refusalOf(bytes)).toContain(words);
  const faults = new Faults(() => undefined);
  faults.read(`${bytes}\n`);
  expect(faults.refusal).toContain(words);
  expect(
    reasonOfDaemon(`${line}\nrsync error: error starting client-server protocol (code 5) at main.c(1)\n`),
  ).toContain(words);
});

test.each([
  '',
  'ERROR: x failed verification -- update discarded.',
  'rsync: [sender] read error: x (104)',
  'file @ERROR: x',
])('%p is no refusal', (line) => expect(refusalOf(line)).toBeUndefined());

test('a refused option is one, so that another way is taken', () => {
  expect(saysOption(refusalOf('rsync: The server is configured to refuse --checksum'))).toBe(true);
  expect(saysOption(refusalOf('@ERROR: chroot failed'))).toBe(false);
});

test('where nothing is refused, the reason is what rsync says first', () => {
  const said =
    'rsync: [sender] failed to connect to nas (192.0.2.7): Connection refused (111)\nrsync error: error in socket IO (code 10)\n';
  expect(reasonOfDaemon(said)).toBe('rsync: [sender] failed to connect to nas (192.0.2.7): Connection refused (111)');
  expect(reasonOfDaemon('')).toBe('');
});

test('how many rsyncs there is room for is told, and nothing of it passed on', () => {
  const said = '@ERROR: max connections (3) reached -- try again later\n';
  expect([roomIn(said), roomIn('@ERROR: max connections (0) reached\n'), roomIn('@ERROR: chroot failed\n')]).toEqual([
    3,
    1,
    undefined,
  ]);
  expect(
    new Faults(() => undefined).read(`${said}rsync error: error starting client-server protocol (code 5) at x\n`),
  ).toBe('');
  expect(saysLittle('@ERROR: auth failed on module web')).toBe(false);
});

test('of a connection that has ended nothing is told, and of all else everything', () => {
  const rest = 'rsync: [sender] link_stat "/x" failed: No such file or directory (2)\n';
  const lost =
    'rsync: [sender] read error: Connection reset by peer (104)\nrsync error: error in socket IO (code 10) at io.c(907)\n';
  expect(withoutLoss(`${lost}${rest}rsync: connection unexpectedly closed (8 bytes received so far) [sender]\n`)).toBe(
    rest,
  );
});
