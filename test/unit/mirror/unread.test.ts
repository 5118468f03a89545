import { expect, test } from 'bun:test';
import { findUnread, mayBeThere } from '../../../src/mirror/unread.ts';
import { statsOf } from './stand-ins.ts';

/** What is there: directories with what is in them, and files. */
const TREE: Record<string, string[] | 'file'> = {
  d: ['a', 'open', 'closed', 'link'],
  ...{ 'd/a': 'file', 'd/open': ['secret'], 'd/open/secret': 'file', 'd/closed': ['x'], 'd/closed/x': 'file' },
};
const source = {
  look: (path: string) =>
    TREE[path] && { ...statsOf(), isDirectory: () => TREE[path] !== 'file', isFile: () => TREE[path] === 'file' },
  list: (path: string) => [TREE[path] ?? []].flat().map((name) => ({ name })),
  isReadable: (path: string) => !/(closed|secret|link)$/.test(path),
};

test('what cannot be read is found with what is in it, as far down as there may be some', () => {
  const find = (path: string, left: number, isDeep: boolean) =>
    findUnread(path, source, { left }, isDeep).map((it) => `${it.path} ${it.isDirectory}`);
  expect(find('d', 100, true)).toEqual(['d/closed true', 'd/open/secret false']);
  expect(find('d', 100, false)).toEqual([]);
  expect(find('d/closed', 100, false)).toEqual(['d/closed true']);
  expect(find('d', 1, true)).toEqual([]);
  expect(find('gone', 100, true)).toEqual([]);
  expect(find('d/closed/gone', 100, true)).toEqual(['d/closed/gone false']);
});

test('what lies in a directory that may not be entered may be there', () => {
  const seen = ['d/a', 'd/closed/gone/x', 'd/gone', 'd/open/secret/gone', 'gone'].map((it) => mayBeThere(it, source));
  expect(seen).toEqual([true, true, false, false, false]);
});
