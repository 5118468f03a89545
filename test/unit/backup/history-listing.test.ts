import { expect, test } from 'bun:test';
import { Listing } from '../../../src/backup/history-listing.ts';
import { localTime } from '../../../src/service/text.ts';

test('many versions are listed by time, piece by piece, with paths of any length', () => {
  const listing = new Listing();
  const count = 2500;
  const pathOf = (n: number) => `${n}/${'d'.repeat((n * 7) % 4000)}`;
  for (let n = 0; n < count; n++) listing.add({ until: 1e12 + ((n * 1999) % count) * 1000, size: n, path: pathOf(n) });
  expect(listing.length).toBe(count);
  const pieces = [...listing.pieces()];
  expect(pieces.length).toBe(3);
  const [head = '', ...lines] = pieces.join('').trimEnd().split('\n');
  expect(head).toMatch(/^被替换或删除于 +大小 +路径$/);
  const rows = lines.map((line) => /^(\S+ \S+) {2}(\S+ \S+) +(.*)$/.exec(line) ?? []);
  expect(rows.map(([, time]) => time)).toEqual(
    Array.from({ length: count }, (_, n) => localTime(new Date(1e12 + n * 1000))),
  );
  expect(rows.map(([, , , path]) => path).sort()).toEqual(Array.from({ length: count }, (_, n) => pathOf(n)).sort());
});

test('what has the same time stays in the order in which it was found', () => {
  const listing = new Listing();
  for (const path of ['b', 'a', 'c']) listing.add({ until: 5, size: 1, path });
  const lines = [...listing.pieces()].join('').split('\n').slice(1, 4);
  expect(lines.map((line) => line.slice(-1)).join('')).toBe('bac');
});
