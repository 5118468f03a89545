import { describe, expect, test } from 'bun:test';
import { mkdirSync, symlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { absoluteSource, destinationOf, hostsOf, loginOf, nameOf, originOf } from '../../../src/mirror/config.ts';
import { isWatched, readConfig } from '../../../src/mirror/environment.ts';
import { scratch } from '../service/scratch.ts';

const SOURCE_DIR = '/tmp/';

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

  test('have a directory of the source below their own where it has a name, which reports tell, too', () => {
    const SOURCE_NAME = 'web1';
    expect(targets({ SOURCE_NAME, DEST_HOST: 'host' })).toEqual(['root@host:/b/web1/']);
    expect(targets({ SOURCE_NAME, DEST_HOSTS: 'a a:/c a:d/ a:~ rsync://nas/m/x/' })).toEqual([
      ...['root@a:/b/web1/', 'root@a:/c/web1/', 'root@a:d/web1/', 'root@a:~/web1/', 'rsync://nas/m/x/web1/'],
    ]);
    expect(originOf({ SOURCE_DIR, SOURCE_NAME }).place).toBe('源目录: /tmp/，源端名称: web1');
    expect(originOf({ SOURCE_DIR, SOURCE_NAME: '' }).place).toBe('源目录: /tmp/');
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
