import { describe, expect, test } from 'bun:test';
import { Tally } from '../../../src/mirror/tally.ts';

/** A tally of what is deleted, in rsync's order: what is in a directory before the directory. */
function tallyOf(paths: string[]): Tally {
  const tally = new Tally();
  for (const path of paths) tally.add(path);
  return tally;
}
const filesIn = (directory: string, count: number) => Array.from({ length: count }, (_, n) => `${directory}${n}`);

describe('a tally', () => {
  test('counts files and directories alike', () => {
    expect(tallyOf([]).count).toBe(0);
    expect(tallyOf([]).largest()).toEqual([]);
    expect(tallyOf(['a', 'b/c', 'b/']).count).toBe(3);
  });

  test('names a directory that goes as a whole with all that is below it, and nothing below it by itself', () => {
    const tally = tallyOf([...filesIn('a/b/c/', 5), 'a/b/c/', 'a/b/x', 'a/b/', ...filesIn('a/d/', 2), 'a/d/', 'a/']);
    expect(tally.count).toBe(12);
    expect(tally.largest()).toEqual([{ path: 'a', count: 12 }]);
  });

  test('names a directory that stays by what is deleted directly in it', () => {
    const tally = tallyOf([...filesIn('kept/gone/', 4), 'kept/gone/', ...filesIn('kept/', 3), 'top']);
    expect(tally.largest()).toEqual([
      { path: 'kept/gone', count: 5 },
      { path: 'kept', count: 3 },
      { path: '', count: 1 },
    ]);
  });

  test('names three, those with the most', () => {
    const tally = tallyOf(['a', 'b', 'c', 'd'].flatMap((name, n) => filesIn(`${name}/`, n + 1)));
    expect(tally.largest()).toEqual([
      { path: 'd', count: 4 },
      { path: 'c', count: 3 },
      { path: 'b', count: 2 },
    ]);
  });

  test('keeps no more than 10,000 directories apart, and counts the others all the same', () => {
    const tally = tallyOf(filesIn('d', 50_000).flatMap((name) => [`${name}/x`, `${name}/y`]));
    expect(tally.count).toBe(100_000);
    expect(tally.largest()).toHaveLength(3);
    const gone = tallyOf(filesIn('d', 50_000).flatMap((name) => [`${name}/x`, `${name}/`]));
    expect(gone.count).toBe(100_000);
    expect(gone.largest()[0]).toEqual({ path: '', count: 80_000 });
    expect(
      Object.values(gone)
        .filter((value) => value instanceof Map)
        .every(({ size }) => size <= 10_000),
    ).toBe(true);
  });
});
