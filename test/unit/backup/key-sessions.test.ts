import { describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SharedKey } from '../../../src/backup/authorized-keys.ts';
import { readConfig } from '../../../src/backup/config.ts';
import { KeySessions } from '../../../src/backup/key-sessions.ts';

/** What is done to the sessions, in its order. */
function sessionsOf(shared: { fingerprint: string; findChange: () => 'removed' | 'edited' | undefined }) {
  const done: string[] = [];
  const key = Object.assign(shared, { isInDoubt: false, isWithdrawn: false });
  const guard = { admitKey: (admitted: string) => void done.push(`admit ${admitted}`) };
  const sshd = { endSessions: () => done.push('end') };
  return { done, key, sessions: new KeySessions({ key, guard, sshd }) };
}

test('the sessions of a key end once another one is in force, and not before there was one, nor with the same', () => {
  const key = { fingerprint: '', findChange: () => undefined };
  const { done, sessions } = sessionsOf(key);
  sessions.follow();
  for (const fingerprint of ['one', 'one', 'two', 'two']) {
    key.fingerprint = fingerprint;
    sessions.follow();
    sessions.look();
  }
  expect(done).toEqual(['admit one', 'admit two', 'end']);
});

test.each(['removed', 'edited'] as const)('they end where the line of the key was %s', (change) => {
  let found: typeof change | undefined = change;
  const { done, sessions } = sessionsOf({ fingerprint: 'one', findChange: () => found });
  sessions.follow();
  sessions.look();
  found = undefined;
  sessions.look();
  expect(done).toEqual(['admit one', change === 'removed' ? 'admit withdrawn' : 'admit one', 'end']);
});

test('a key that was withdrawn is let in once it is authorised anew, be it the same with another comment, and not before', () => {
  const changes = ['removed'] as ('removed' | undefined)[];
  const { done, key, sessions } = sessionsOf({ fingerprint: 'one', findChange: () => changes.shift() });
  sessions.follow();
  sessions.look();
  key.isWithdrawn = true;
  sessions.follow();
  expect(done).toEqual(['admit one', 'admit withdrawn', 'end']);
  key.isWithdrawn = false;
  for (const _ of [1, 2]) sessions.follow();
  expect(done).toEqual(['admit one', 'admit withdrawn', 'end', 'admit one']);
});

describe('a change of authorized_keys', () => {
  const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN/ rsync-inotify@source';
  const authorised = () => {
    const directory = mkdtempSync(join(tmpdir(), 'key-sessions-'));
    const key = new SharedKey(readConfig({ SHARED_KEYS_DIR: directory, SSH_DIR: directory }));
    key.authorize(KEY);
    const file = join(directory, 'authorized_keys');
    const looks = (count: number) => Array.from({ length: count }, () => key.findChange());
    return { key, file, looks, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
  };

  test('by us, or of the lines of others, is none', () => {
    using it = authorised();
    expect(it.looks(3)).toEqual([undefined, undefined, undefined]);
    writeFileSync(it.file, 'ssh-ed25519 AAAAother admin\n', { flag: 'a' });
    it.key.authorize(KEY.replace('source', 'another'));
    expect(it.looks(3)).toEqual([undefined, undefined, undefined]);
  });

  test('counts at the second look, once: an editor may have put the file aside', () => {
    using it = authorised();
    renameSync(it.file, `${it.file}~`);
    expect([...it.looks(1), it.key.isInDoubt]).toEqual([undefined, true]);
    renameSync(`${it.file}~`, it.file);
    expect([...it.looks(2), it.key.isInDoubt]).toEqual([undefined, undefined, false]);
    rmSync(it.file);
    expect(it.looks(4)).toEqual([undefined, 'removed', undefined, undefined]);
    expect([it.key.isWithdrawn, it.key.isInForce, it.key.report()]).toEqual([true, false, null]);
  });

  test.each([
    ['removed', ''],
    ['removed', `# restrict ${KEY}\n`],
    ['edited', `restrict,from="192.0.2.1" ${KEY}\n`],
  ])('is that it was %s where it holds %j', (change, content) => {
    using it = authorised();
    writeFileSync(it.file, content);
    expect(it.looks(3)).toEqual([undefined, change, undefined] as never);
    expect(it.key.isWithdrawn).toBe(change === 'removed');
    writeFileSync(it.file, `restrict ${KEY}\n`);
    expect(it.looks(3)).toEqual([undefined, 'edited', undefined]);
    expect(it.key.report()).toStartWith('SHA256:');
  });

  test('is none where nobody can tell', () => {
    using it = authorised();
    rmSync(it.file);
    mkdirSync(it.file);
    expect(it.looks(3)).toEqual([undefined, undefined, undefined]);
  });
});

test('the key of a source with a name that is closed is let in no more, and is authorised anew without a word of another one', () => {
  const shared = { fingerprint: 'one', findChange: () => undefined, isWithdrawn: false };
  const done: string[] = [];
  const guard = { admitKey: (admitted: string) => void done.push(`admit ${admitted}`) };
  const sshd = { endSessions: (key: string) => done.push(`end ${key}`) };
  const sessions = new KeySessions({ key: shared, guard, sshd, name: 'web1' });
  sessions.follow();
  sessions.close();
  shared.fingerprint = ''; // as it is once its line is withdrawn
  sessions.follow();
  shared.fingerprint = 'two';
  sessions.follow();
  shared.fingerprint = 'three';
  sessions.follow();
  expect(done).toEqual(['admit one', 'admit withdrawn', 'end one', 'admit two', 'admit three', 'end two']);
});
