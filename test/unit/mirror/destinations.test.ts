import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { destinationOf, hostsOf, isDaemon, placeOnTarget } from '../../../src/mirror/config.ts';
import { parseDestination, parseOne, parseTarget } from '../../../src/mirror/destinations.ts';
import { readConfig } from '../../../src/mirror/environment.ts';

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

describe('parseDestination', () => {
  test('knows rsync daemons', () => {
    expect(parseDestination('rsync://me@nas/mirror/web/')).toEqual({
      ...{ given: 'rsync://me@nas', user: 'me', host: 'nas', directory: 'mirror/web/', daemonPort: 873 },
    });
    expect(parseDestination('rsync://nas:8730/mirror')).toEqual({
      ...{ given: 'rsync://nas:8730', user: '', host: 'nas', directory: 'mirror', daemonPort: 8730 },
    });
    expect(parseDestination('RSYNC://[2001:db8::1]:874/m/')).toEqual({
      ...{ given: 'RSYNC://[2001:db8::1]:874', user: '', host: '2001:db8::1', directory: 'm/', daemonPort: 874 },
    });
    expect(parseOne('rsync://nas/a module/dir')).toMatchObject({ directory: 'a module/dir' });
  });

  test.each([
    ['rsync://nas', '缺少模块名'],
    ['rsync://nas/', '缺少模块名'],
    ['rsync://nas//dir', '缺少模块名'],
    ['rsync:///mirror/', '应为 rsync://'],
    ['rsync:nas/mirror/', '应为 rsync://'],
    ['rsync://-nas/mirror/', '应为 rsync://'],
    ['rsync://a b/mirror/', '应为 rsync://'],
    ['rsync://2001:db8::1/mirror/', '方括号'],
    ['rsync://[nas]/mirror/', '方括号'],
    ['rsync://nas:0/mirror/', '端口'],
    ['rsync://nas:65536/mirror/', '端口'],
    ['rsync://nas/mirror/a\nb', '控制字符'],
    ['rsync://nas/mirror/*', '通配符'],
    ['rsync://nas/mirror/../other', '.. 一级'],
    ['rsync://nas/./', '.. 一级'],
    ['rsync://nas/mirror/-x/', '不能以 - 开头'],
    ['rsync://nas/mirror//--delete', '不能以 - 开头'],
    ['nas::mirror/web', 'rsync://[user@]host[:port]/module/dir'],
    ['me@nas::mirror', 'rsync://[user@]host[:port]/module/dir'],
    ['[2001:db8::1]::mirror', 'rsync://[user@]host[:port]/module/dir'],
  ])('refuses %p, and says why', (value, why) => {
    expect(() => parseDestination(value)).toThrow(why);
    expect(() => parseOne(value)).toThrow(why);
  });

  test.each([
    'rsync://me:se/cret@nas/mirror',
    'rsync://me:secret@nas/mirror',
    'rsync://me:12345@nas/mirror',
    'rsync://:secret@nas/mirror',
    'rsync:me:secret@nas',
    'rsync://me:s e cret@nas/mirror',
    'RSYNC://me:secret@[::1]:873/mirror nas2',
  ])('refuses a password, and never shows it: %p', (value) => {
    for (const name of ['DEST_HOST', 'DEST_HOSTS']) {
      const said = () => readConfig({ SOURCE_DIR: '/tmp/', [name]: value });
      expect(said).toThrow(`${name}=***`);
      expect(said).not.toThrow(/s ?e\/? ?cret|12345/);
    }
  });

  test('names to rsync what it was told, and to its daemon what lies in the module', () => {
    const hosts = hostsOf(
      readConfig({ SOURCE_DIR: '/tmp/', DEST_HOSTS: 'rsync://me@nas/m/a/ rsync://[::1]:99/m me@nas' }),
    );
    expect(hosts.map(destinationOf)).toEqual(['rsync://me@nas/m/a/', 'rsync://[::1]:99/m', 'me@nas:/data/backup/']);
    expect(hosts.map(placeOnTarget)).toEqual(['/a/', '/', '/data/backup/']);
    expect(hosts.map(({ plan }) => plan.mayRename || plan.mayRemove)).toEqual([false, false, true]);
    expect(hosts.map(isDaemon)).toEqual([true, true, false]);
  });

  test('appends the name of the source to a URL as well', () => {
    const [host] = hostsOf(readConfig({ SOURCE_DIR: '/tmp/', DEST_HOST: 'rsync://nas/m/a', SOURCE_NAME: 'web1' }));
    expect(host && destinationOf(host)).toBe('rsync://nas/m/a/web1/');
  });
});
