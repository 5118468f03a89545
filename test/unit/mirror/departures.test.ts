import { describe, expect, test } from 'bun:test';
import { Departures, MAX_DEPARTURES, MAX_EXPLAINED, Search } from '../../../src/mirror/departures.ts';
import { estimate } from '../../../src/mirror/estimate.ts';
import { change, statsOf } from './stand-ins.ts';

/** A source that holds these paths. */
const sourceOf =
  (...paths: string[]) =>
  (path: string) =>
    paths.includes(path) ? statsOf() : undefined;
const nothing = sourceOf();

describe('what was moved', () => {
  test('is found where it is, with all that lay in it, however often it was moved on', () => {
    const departures = new Departures();
    expect(departures.locate('a')).toBeUndefined();
    departures.arrive('a', 'b');
    departures.arrive('b', 'c/d');
    departures.arrive('c', 'e');
    expect(departures.locate('a')).toBe('e/d');
    expect(departures.locate('a/x/y')).toBe('e/d/x/y');
    expect(departures.locate('ab')).toBeUndefined();
    expect(departures.has('a/x', sourceOf('e/d/x'))).toBe(true);
    expect(departures.has('a/y', sourceOf('e/d/x'))).toBe(false);
  });

  test('in a circle is where the last move has brought it', () => {
    const departures = new Departures();
    departures.arrive('a', 'aside');
    departures.arrive('b', 'a');
    departures.arrive('aside', 'b');
    expect(departures.locate('a')).toBe('b');
    expect(departures.locate('b')).toBe('a');
  });

  test('out of the source is lost until it is known where it is, and what was in it as well', () => {
    const departures = new Departures();
    departures.leave('a');
    expect(departures.hasLost('a')).toBe(true);
    expect(departures.lostAbove('a/b/c')).toBe('a');
    departures.arrive('a', 'b');
    expect(departures.hasLost('a')).toBe(false);
    expect(departures.lostAbove('a/b/c')).toBeUndefined();
    departures.leave('b');
    expect(departures.locate('a')).toBeUndefined();
  });

  test('is forgotten once the target has taken it in, unless the path has changed again', () => {
    const departures = new Departures();
    for (const path of ['a', 'b', 'c']) departures.arrive(path, `new/${path}`);
    departures.settle(['a', 'b'], (path) => path === 'b');
    expect(['a', 'b', 'c'].map((path) => departures.locate(path))).toEqual([undefined, 'new/b', 'new/c']);
    departures.settleAll((path) => path === 'c');
    expect(['b', 'c'].map((path) => departures.locate(path))).toEqual([undefined, 'new/c']);
  });

  test('beyond a number is not known of any, until all was compared', () => {
    const departures = new Departures();
    for (let n = 0; n < MAX_DEPARTURES; n++) departures.arrive(`${n}`, `new/${n}`);
    expect(departures.isIncomplete).toBe(false);
    departures.arrive('more', 'new/more');
    expect(departures.isIncomplete).toBe(true);
    expect(departures.locate('1')).toBeUndefined();
    departures.settleAll(() => false);
    expect(departures.isIncomplete).toBe(false);
  });
});

describe('a directory that nobody saw arrive', () => {
  test('is found by what was in it, in a directory that is new', () => {
    const departures = new Departures();
    departures.leave('photos');
    const look = sourceOf('archive', 'archive/2026', 'archive/2026/a', 'archive/2026/deep', 'archive/2026/deep/b');
    const search = new Search(departures, ['archive', 'archive/2026', 'archive/2026/deep'], look);
    const paths = ['photos/deep/b', 'photos/deep', 'photos/a', 'photos/gone', 'photos', 'other/a'];
    expect(paths.map((path) => search.finds(path))).toEqual([true, true, true, false, true, false]);
  });

  test('is found where it was empty, too', () => {
    const departures = new Departures();
    for (const path of ['empty', 'void']) departures.leave(path);
    const search = new Search(departures, ['new', 'new/empty'], sourceOf('new', 'new/empty'));
    expect(['empty', 'void'].map((path) => search.finds(path))).toEqual([true, true]);
  });

  test('is lost where nothing new holds what was in it', () => {
    const departures = new Departures();
    departures.leave('photos');
    expect(new Search(departures, [], sourceOf('photos/a')).finds('photos/a')).toBe(false);
    const search = new Search(departures, ['archive'], sourceOf('archive', 'archive/other'));
    for (let n = 0; n < 100; n++) expect(search.finds(`photos/${n}`)).toBe(false);
    expect(search.finds('photos')).toBe(false);
  });
});

describe('of a directory that has come it is known where from', () => {
  const saying = (...steps: ((departures: Departures) => void)[]) => {
    const departures = new Departures();
    for (const step of steps) step(departures);
    return ['a', 'a/b', 'c', 'c/b'].filter((path) => departures.isExplained(path));
  };
  const made = (path: string) => (departures: Departures) => departures.note(path, 'create');
  const gone = (path: string) => (departures: Departures) => departures.note(path, 'moved_from');
  const came = (from: string, to: string) => (departures: Departures) => departures.arrive(from, to);

  test('where it was made', () => expect(saying(made('a'), made('a/b'))).toEqual(['a', 'a/b']));
  test('where it was moved within the source', () => expect(saying(gone('old'), came('old', 'c'))).toEqual(['c']));
  test('not where a file was', () => expect(saying(came('old', 'c'))).toEqual([]));
  test('not where it was moved from anywhere else', () =>
    expect(saying((departures) => departures.note('c', 'moved_to'))).toEqual([]));
  test('not where that had not long been where it was', () =>
    expect(saying(gone('old'), (departures) => departures.arrive('old', 'c', false))).toEqual([]));
  test('not any more once it, or what it lies in, was moved away', () =>
    expect(saying(made('a'), made('a/b'), made('c'), gone('a'), gone('c/b'))).toEqual(['c']));
  test.each(['delete', 'moved_to'] as const)('not any more after %s', (kind) => {
    const over = (path: string) => (departures: Departures) => departures.note(path, kind);
    expect(saying(made('a'), made('c'), over('a'), over('c/b'))).toEqual(['c']);
  });
  test('of the last ones', () => {
    const more = Array.from({ length: MAX_EXPLAINED - 1 }, (_, n) => made(`${n}`));
    expect(saying(made('a'), made('c'), ...more)).toEqual(['c']);
    expect(saying(made('a'), made('c'), made('a'), ...more)).toEqual(['a']);
  });
});

describe('the deletions that a batch means', () => {
  const directory = { isDirectory: true } as const;
  const isCertain = true;

  test('are the paths that are gone', () => {
    const batch = new Map([
      ['a', change({ kind: 'delete' })],
      ['b', change({ kind: 'moved_from' })],
      ['c', change({ kind: 'close_write' })],
      ['d', change({ kind: 'delete', ...directory })],
      ['d/e', change({ kind: 'delete' })],
    ]);
    expect(estimate(batch, new Departures(), nothing, [])).toEqual({ count: 4, moved: 0, isCertain });
  });

  test('are known of what is tried again by looking', () => {
    const batch = new Map([
      ['here', change()],
      ['gone', change()],
      ['', change()],
    ]);
    expect(estimate(batch, new Departures(), sourceOf('here'), [])).toEqual({ count: 1, moved: 0, isCertain });
  });

  test('are not what was moved within the source', () => {
    const departures = new Departures();
    departures.arrive('a', 'b');
    departures.arrive('c', 'd');
    const batch = new Map([
      ['a', change({ kind: 'moved_from' })],
      ['b', change({ kind: 'moved_to' })],
      ['c', change({ kind: 'moved_from' })],
      ['d', change({ kind: 'delete' })],
    ]);
    expect(estimate(batch, departures, sourceOf('b'), [])).toEqual({ count: 2, moved: 1, isCertain });
    departures.leave('big');
    departures.arrive('big', 'large');
    const moved = new Map([['big', change({ kind: 'moved_from', ...directory })]]);
    const expected = { count: 0, moved: Number.POSITIVE_INFINITY, isCertain };
    expect(estimate(moved, departures, sourceOf('large'), [])).toEqual(expected);
  });

  test('are uncertain where a directory has gone of which nobody knows what was in it', () => {
    const departures = new Departures();
    departures.leave('moved');
    const isUncertain = (path: string, known: object, unwatched: string[] = []) => {
      const batch = new Map([
        ['doubt', change({ tree: true, ...directory })],
        [path, change(known)],
      ]);
      return !estimate(batch, departures, sourceOf('doubt'), unwatched).isCertain;
    };
    expect(isUncertain('moved', { kind: 'moved_from', ...directory })).toBe(true);
    expect(isUncertain('moved', { kind: 'create', ...directory })).toBe(true); // another one in its place
    expect(isUncertain('doubt/a', { kind: 'delete', ...directory })).toBe(true);
    expect(isUncertain('doubt/a', { kind: 'delete' })).toBe(false);
    expect(isUncertain('doubt/a', { kind: undefined })).toBe(true);
    expect(isUncertain('seen', { kind: 'delete', ...directory })).toBe(false);
    expect(isUncertain('cache', { kind: 'delete', ...directory }, ['cache'])).toBe(true);
    expect(isUncertain('seen', { tree: true })).toBe(true);
  });
});
