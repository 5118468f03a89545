import { describe, expect, test } from 'bun:test';
import { mkdirSync, symlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import fc from 'fast-check';
import {
  absoluteSource,
  destinationOf,
  hostsOf,
  isWatched,
  loginOf,
  nameOf,
  parseTarget,
  readConfig,
} from '../../../src/mirror/config.ts';
import { scratch } from '../service/scratch.ts';

const SOURCE_DIR = '/tmp/';

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

describe('the targets', () => {
  const targets = (variables: Record<string, string>) =>
    hostsOf(readConfig({ SOURCE_DIR, DEST_DIR: '/b/', ...variables })).map(destinationOf);

  test('are one, unless several are named, each of which may have a directory of its own', () => {
    expect(targets({ DEST_HOST: 'me@host' })).toEqual(['me@host:/b/']);
    expect(targets({ DEST_HOST: 'x', DEST_HOSTS: 'a, me@b:/c me@[::1]:d  2001:db8::1' })).toEqual([
      ...['root@a:/b/', 'me@b:/c', 'me@[::1]:d', 'root@[2001:db8::1]:/b/'],
    ]);
  });

  test('share what was parsed of the options', () => {
    const [host] = hostsOf(readConfig({ SOURCE_DIR, DEST_HOST: '[::1]', SSH_OPTS: `-p 22 -i 'a b'` }), ['known']);
    expect(host).toMatchObject({ given: '[::1]', user: 'root', host: '::1', sshSettings: ['known'] });
    expect(host?.sshWords).toEqual(['-p', '22', '-i', 'a b']);
    expect(host?.plan).toMatchObject({ method: 'list', words: ['-avz', '--delete'] });
    expect(host && [loginOf(host), nameOf(host)]).toEqual(['root@::1', 'root@[::1]:/data/backup/']);
  });

  test('that are no targets are refused', () => {
    for (const wrong of ['a:b:c', '::1:/dir', '-x', 'a;b', '@a'])
      expect(() => readConfig({ SOURCE_DIR, DEST_HOSTS: `good ${wrong}` })).toThrow('应为 [user@]host[:dir]');
  });
});

test('a file of ours that would be seen as a change is a mistake, unless its directory is not watched', () => {
  using directory = scratch();
  const source = `${directory.path}/source/`;
  mkdirSync(`${source}logs`, { recursive: true });
  symlinkSync('source', `${directory.path}/link`);
  const config = (more: Record<string, string>) => readConfig({ SOURCE_DIR: source, ...more });
  for (const path of [`${source}log`, `${source}logs/log`, `${directory.path}/link/log`])
    expect(() => config({ LOG_FILE: path })).toThrow(`LOG_FILE="${path}"：不能位于 SOURCE_DIR 之内`);
  const excluded = config({ LOG_FILE: `${source}logs/log`, WATCH_EXCLUDE: 'cache:logs' });
  expect(isWatched(excluded, `${source}logs/log`)).toBe(false);
  expect(isWatched(excluded, `${source}log`)).toBe(true);
  expect(isWatched(excluded, `${directory.path}/log`)).toBe(false);
  expect(() => config({ LOG_FILE: '/x/y', METRICS_FILE: '/x/y' })).toThrow('METRICS_FILE="/x/y"：已用于另一个变量');
});
