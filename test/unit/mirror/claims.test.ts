import { expect, test } from 'bun:test';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { claimName, describeTaken, leaveNames } from '../../../src/mirror/claims.ts';
import { Failure } from '../../../src/service/text.ts';

const OURS = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN/ rsync-inotify@web1\n';
const THEIRS =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN+ rsync-inotify@\u001b[2Jother\n'.replace(
    '\u001b',
    '',
  );

function volume() {
  const shared = mkdtempSync(join(tmpdir(), 'claims-'));
  const at = (...names: string[]) => join(shared, ...names);
  return { shared, at, [Symbol.dispose]: () => rmSync(shared, { recursive: true }) };
}

test('a name that is free is taken whole and for all to read, and is ours at the next start', () => {
  using it = volume();
  for (const _ of [1, 2]) claimName(it.shared, 'web1', OURS);
  expect(readdirSync(it.at('sources'))).toEqual(['web1.pub']);
  expect(readFileSync(it.at('sources', 'web1.pub'), 'utf8')).toBe(OURS);
  expect(statSync(it.at('sources', 'web1.pub')).mode & 0o777).toBe(0o644);
  expect(describeTaken(it.shared, 'web1', OURS)).toBeUndefined();
  claimName(it.shared, 'web1', OURS.replace('@web1', '@renamed-host')); // the same key
  expect(readFileSync(it.at('sources', 'web1.pub'), 'utf8')).toBe(OURS);
});

test('one that another key has is left as it is, with words on whose it is and what to do', () => {
  using it = volume();
  mkdirSync(it.at('sources'));
  writeFileSync(it.at('sources', 'web1.pub'), THEIRS);
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow(Failure);
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow(
    /SOURCE_NAME=web1 已被占用: .*web1\.pub 中是另一个源端的公钥 SHA256:\S+（rsync-inotify@\[2Jother），本机的是 SHA256:\S+。请改用另一个 SOURCE_NAME/,
  );
  expect(readFileSync(it.at('sources', 'web1.pub'), 'utf8')).toBe(THEIRS);
  expect(readdirSync(it.at('sources')).sort()).toEqual(['web1.claim', 'web1.pub']);
  expect(readFileSync(it.at('sources', 'web1.claim'), 'utf8')).toBe(OURS); // for the backup to tell of
  rmSync(it.at('sources', 'web1.pub'));
  claimName(it.shared, 'web1', OURS);
  leaveNames(it.shared, 'web1', OURS);
  expect(readdirSync(it.at('sources'))).toEqual(['web1.pub']);
});

test('one that is refused is so, too, where nothing can be left of it, and nothing is written through a link', () => {
  using it = volume();
  mkdirSync(it.at('sources'));
  writeFileSync(it.at('sources', 'web1.pub'), THEIRS);
  writeFileSync(it.at('elsewhere'), 'as it was');
  symlinkSync('../elsewhere', it.at('sources', 'web1.claim'));
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow('已被占用');
  expect(readFileSync(it.at('elsewhere'), 'utf8')).toBe('as it was');
  rmSync(it.at('sources', 'web1.claim'));
  mkdirSync(it.at('sources', `web1.claim.${process.pid}.tmp`)); // where it would be written first
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow('已被占用');
});

test.each<[string, (path: string) => void]>([
  ['rubbish', (path) => writeFileSync(path, 'rubbish')],
  ['nothing', (path) => writeFileSync(path, '')],
  ['a link to our key', (path) => symlinkSync('../ours', path)],
  ['a link that leads nowhere', (path) => symlinkSync('nowhere', path)],
  ['a directory', (path) => mkdirSync(path)],
])('a file of our name that holds %s is not replaced either', (_, make) => {
  using it = volume();
  mkdirSync(it.at('sources'));
  writeFileSync(it.at('ours'), OURS);
  make(it.at('sources', 'web1.pub'));
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow('不是公钥文件。请改用另一个 SOURCE_NAME');
  expect(readdirSync(it.at('sources')).sort()).toEqual(['web1.claim', 'web1.pub']);
});

test('nothing is written through a link in the place of the directory', () => {
  using it = volume();
  mkdirSync(it.at('elsewhere'));
  symlinkSync('elsewhere', it.at('sources'));
  expect(() => claimName(it.shared, 'web1', OURS)).toThrow('应为目录，不能是链接');
  expect(readdirSync(it.at('elsewhere'))).toEqual([]);
});

test('our key goes from where it was before, and no other key does', () => {
  using it = volume();
  mkdirSync(it.at('sources'));
  for (const [file, line] of [
    ['id_rsa.pub', OURS],
    ['sources/web1.pub', OURS],
    ['sources/former.pub', OURS.replace('@web1', '@before')],
    ['sources/web2.pub', THEIRS],
    ['sources/web2.claim', OURS],
    ['sources/web3.claim', THEIRS],
    ['sources/notes.txt', OURS],
  ] as const)
    writeFileSync(it.at(file), line);
  leaveNames(it.shared, 'web1', OURS);
  expect(existsSync(it.at('id_rsa.pub'))).toBe(false);
  expect(readdirSync(it.at('sources')).sort()).toEqual(['notes.txt', 'web1.pub', 'web2.pub', 'web3.claim']);
  writeFileSync(it.at('id_rsa.pub'), THEIRS);
  leaveNames(it.shared, 'web1', OURS);
  expect(readFileSync(it.at('id_rsa.pub'), 'utf8')).toBe(THEIRS);
  leaveNames(it.shared, '', OURS); // as a source that has no name any more
  expect(readdirSync(it.at('sources')).sort()).toEqual(['notes.txt', 'web2.pub', 'web3.claim']);
});

test('a source without a name minds no volume that has no names', () => {
  using it = volume();
  leaveNames(it.shared, '', OURS);
  expect(readdirSync(it.shared)).toEqual([]);
});
