import { describe, expect, test } from 'bun:test';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { absoluteSource, parseTarget, readConfig } from '../../../src/mirror/config.ts';

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
