import { describe, expect, test } from 'bun:test';
import { carriedWords, keepsOwners, placeOn, placesIn, readWish } from '../../../src/mirror/restore-wish.ts';

const wishOf = (...args: string[]) => readWish(['--restore', ...args], '/srv/web/');

describe('what is wished for', () => {
  test('is all, or paths below the source by whatever name', () => {
    expect(wishOf()).toEqual({ paths: [], from: undefined, to: undefined });
    expect(wishOf('a/b', '/srv/web/c/', './d//e', '.', '--to', 'x').paths).toEqual(['a/b', 'c', 'd/e', '']);
    expect(wishOf('--', '-x').paths).toEqual(['-x']);
  });

  test.each(['../etc', '/etc', 'a/../../b', '', '--to', '--to=', '--from=', '--verify', '--restore=1'])(
    'is refused: %p',
    (word) => {
      expect(() => wishOf(word)).toThrow('用法错误');
    },
  );

  test('is named to rsync as it is, whatever a shell would make of it', () => {
    expect(placesIn('/backup/', wishOf())).toEqual(['/backup/']);
    expect(placesIn('/backup/', wishOf('a', '.'))).toEqual(['/backup/']);
    expect(placesIn('/backup/', wishOf('a b', 'c[1]*'))).toEqual(['/backup/./a b', '/backup/./c\\[1]\\*']);
    expect(() => placesIn('/backup/', wishOf('x'.repeat(61_000)))).toThrow('路径太多');
  });

  test('lies where the mirror has put it', () => {
    const host = { directory: '/backup/web/' };
    expect(placeOn(host, wishOf(), '/')).toBe('/backup/web/');
    expect(placeOn(host, wishOf(), '/www/')).toBe('/backup/web/www/');
    expect(placeOn(host, wishOf('--from', '.history/recovered/x'), '/')).toBe('/backup/web/.history/recovered/x/');
    expect(placeOn(host, wishOf('--from', '/backup/other'), '/www/')).toBe('/backup/other/www/');
  });
});

describe('of RSYNC_OPTS', () => {
  test.each([
    ['-avz --delete', '-avz'],
    ['-aHAX --numeric-ids --bwlimit=100', '-aHAX --numeric-ids --bwlimit=100'],
    ['-rlptu --exclude=x -f P_y --max-size 1k --inplace --partial-dir=p -P', '-rlpt'],
    ['-aR --chown=a:b --remove-source-files --trust-sender --no-o', '-a --no-o'],
    ['-a -M--fake-super -M--log-file=/x --link-dest=/y --timeout=9', '-a -M--fake-super'],
  ])('%s leaves %s', (given, carried) => {
    expect(carriedWords(given.split(' ')).join(' ')).toBe(carried);
  });

  test('it follows whether owners count', () => {
    expect([['-a'], ['-rt'], ['-a', '--no-o'], ['-rto']].map(keepsOwners)).toEqual([true, false, false, true]);
  });
});
