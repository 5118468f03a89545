import { describe, expect, test } from 'bun:test';
import { locatorFor, pathsIn } from '../../../src/mirror/told-paths.ts';
import { statsOf } from './stand-ins.ts';

/** What is in the source. */
const HELD = new Set(['a', '../beside', 'd/../../beside', 'd/a', 'd', 'data/backup/a', 'closed']);
const source = {
  ...{ root: '/s/', realRoot: '/disk/s', prefix: '/web/' },
  look: (path: string) => (HELD.has(path) ? statsOf() : undefined),
  isReadable: (path: string) => path !== 'closed',
  isUnknown: (path: string) => path === 'd/broken',
};
const locate = locatorFor(source, '/data/backup/');

describe('a path that rsync tells', () => {
  const rows: [told: string, path: string | undefined][] = [
    ['/s/a', 'a'],
    ['/disk/s/d/a', 'd/a'],
    ['/data/backup/a', 'a'],
    ['/data/backup/', ''],
    ['/data/backup/.', ''],
    ['/srv/copy/d/a', 'd/a'],
    ['d/a', 'd/a'],
    ['./d/a', 'd/a'],
    ['d/', 'd'],
    ['/data/backup/../beside', undefined],
    ['../beside', undefined],
    ['d/../../beside', undefined],
    ['/s/../beside', undefined],
    ['/srv/../beside', undefined],
    ['/data/backup/gone', undefined],
    ['/data/backup/gone/a', undefined],
    ['gone/a', undefined],
    ['web/d/a', 'd/a'],
    ['s/d/a', 'd/a'],
    ['/data/backup/web/d/a', 'd/a'],
    ['/s/closed/a/b', 'closed'],
    ['/s/d/gone', undefined],
    ['/s/d/broken', 'd/broken'],
    ['', undefined],
  ];
  for (const [told, path] of rows) test(`${told} is ${path ?? 'not known'}`, () => expect(locate(told)).toBe(path));
});

test('names in what rsync says are found although they may hold quotes and brackets', () => {
  expect(pathsIn('mkstemp "/b/.a.x1y2z3" failed')).toEqual(['/b/.a.x1y2z3']);
  expect(pathsIn('write failed on "/b/q"u o"')).toEqual(['/b/q', '/b/q"u o']);
  expect(pathsIn('delete_file: unlink(a)b/c) failed')).toEqual(['a', 'a)b/c']);
  expect(pathsIn('set_acl: sys_acl_set_file(d/a, ACL_TYPE_ACCESS)')[0]).toBe('d/a');
  expect(pathsIn('fstat failed')).toEqual([]);
});
