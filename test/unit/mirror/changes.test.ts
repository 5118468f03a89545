import { beforeEach, describe, expect, test } from 'bun:test';
import type { Stats } from 'node:fs';
import {
  ALL,
  type Batch,
  type Change,
  Changes,
  changeAfter,
  changeIn,
  isWritten,
  MAX_PENDING,
  oldestOf,
  REGULAR,
  TREE,
} from '../../../src/mirror/changes.ts';
import { KINDS, type Kind } from '../../../src/mirror/events.ts';
import { change, event, statsOf } from './stand-ins.ts';

const SINGLE = statsOf();
const TWO_NAMES = statsOf({ nlink: 2 });
const LINK = statsOf({ type: 'link' });
const DIRECTORY = statsOf({ type: 'directory', nlink: 2 });

/** What is known of a path in letters: open, fresh, shared, replaced, hidden. */
const LETTERS = { O: 'open', F: 'fresh', S: 'shared', R: 'replaced', H: 'hidden' } as const;
type Letter = keyof typeof LETTERS;
const known = (letters: string): Change =>
  change(Object.fromEntries([...letters].map((letter) => [LETTERS[letter as Letter], true])));
const lettersOf = (it: Change) => (Object.keys(LETTERS) as Letter[]).filter((letter) => it[LETTERS[letter]]).join('');

interface Row {
  kind: Kind;
  isDirectory?: boolean;
  found?: Stats;
  isLacking?: boolean;
  /** What was known before, and what is known after the event. */
  become: [before: string, after: string][];
}

const TABLE: Row[] = [
  {
    kind: 'create',
    found: SINGLE,
    become: [
      ['', 'OF'],
      ['O', 'OF'],
      ['F', 'OF'],
      ['S', 'OFS'],
      ['R', 'OFR'],
      ['H', 'OFH'],
      ['SRH', 'OFSRH'],
    ],
  },
  {
    kind: 'create',
    found: SINGLE,
    isLacking: true,
    become: [
      ['', 'OFR'],
      ['S', 'OFSRH'],
      ['R', 'OFR'],
      ['H', 'OFRH'],
    ],
  },
  {
    kind: 'create',
    found: TWO_NAMES,
    become: [
      ['', ''],
      ['OF', ''],
      ['S', 'S'],
      ['OFRH', 'RH'],
    ],
  },
  {
    kind: 'create',
    found: TWO_NAMES,
    isLacking: true,
    become: [
      ['', 'R'],
      ['OF', 'R'],
      ['OFS', 'SRH'],
    ],
  },
  {
    kind: 'create',
    found: LINK,
    become: [
      ['', ''],
      ['OF', ''],
    ],
  },
  { kind: 'create', become: [['OFS', 'S']] }, // it is gone again
  {
    kind: 'create',
    isDirectory: true,
    become: [
      ['', ''],
      ['OF', 'F'],
      ['OFS', 'FS'],
      ['RH', 'RH'],
    ],
  },
  {
    kind: 'create',
    isDirectory: true,
    isLacking: true,
    become: [
      ['', 'R'],
      ['OF', 'FR'],
      ['OFS', 'FSRH'],
    ],
  },
  {
    kind: 'moved_to',
    found: SINGLE,
    become: [
      ['', 'R'],
      ['OF', 'R'],
      ['S', 'SRH'],
      ['OFS', 'SRH'],
      ['H', 'RH'],
    ],
  },
  { kind: 'moved_to', found: SINGLE, isLacking: true, become: [['OFS', 'SRH']] },
  {
    kind: 'moved_to',
    isDirectory: true,
    found: DIRECTORY,
    become: [
      ['', 'R'],
      ['OF', 'FR'],
      ['OFS', 'FSRH'],
    ],
  },
  {
    kind: 'modify',
    become: [
      ['', 'OS'],
      ['O', 'OS'],
      ['F', 'OF'],
      ['OF', 'OF'],
      ['S', 'OS'],
      ['FS', 'OFS'],
      ['RH', 'OSRH'],
    ],
  },
  {
    kind: 'attrib',
    become: [
      ['', 'SR'],
      ['O', 'OSR'],
      ['F', 'FR'],
      ['OF', 'OFR'],
      ['S', 'SR'],
      ['FS', 'FSR'],
      ['H', 'SRH'],
    ],
  },
  {
    kind: 'close_write',
    become: [
      ['', 'S'],
      ['O', 'S'],
      ['F', 'F'],
      ['OF', 'F'],
      ['OS', 'S'],
      ['OFRH', 'FRH'],
    ],
  },
  ...(['delete', 'moved_from', 'delete_self', 'move_self', 'unmount', 'q_overflow'] as const).map((kind): Row => {
    return {
      kind,
      become: [
        ['', ''],
        ['O', ''],
        ['OF', 'F'],
        ['S', 'S'],
        ['R', 'R'],
        ['H', 'H'],
        ['OFSRH', 'FSRH'],
      ],
    };
  }),
  ...(
    [
      ...(['modify', 'attrib', 'close_write', 'delete', 'moved_from'] as const),
      ...(['delete_self', 'move_self', 'unmount', 'q_overflow'] as const),
    ] as const
  ).map((kind): Row => {
    return {
      kind,
      isDirectory: true,
      isLacking: true,
      become: [
        ['', ''],
        ['O', ''],
        ['OF', 'F'],
        ['S', 'S'],
        ['R', 'R'],
        ['OFSRH', 'FSRH'],
      ],
    };
  }),
];

describe('what an event does to what is known of a path', () => {
  const rows = TABLE.flatMap(({ kind, isDirectory = false, found, isLacking = false, become }) =>
    become.map(([before, after]) => {
      const what = isDirectory ? 'a directory' : found?.nlink === 2 ? 'a file with two names' : 'a file';
      return { kind, isDirectory, found, isLacking, before, after, what, lacking: isLacking ? ', lacking' : '' };
    }),
  );

  test.each(rows)('$kind of $what$lacking: $before becomes $after', (row) => {
    const { kind, isDirectory, found, isLacking, before, after } = row;
    const result = changeAfter({ kind, isDirectory }, known(before), found, isLacking);
    expect(lettersOf(result)).toBe(after);
    expect(result).toMatchObject({ kind, isDirectory });
  });

  test('is told for every event, of files and of directories', () => {
    for (const isDirectory of [false, true]) {
      const told = new Set(TABLE.filter((row) => !!row.isDirectory === isDirectory).map(({ kind }) => kind));
      expect([...told].sort()).toEqual([...KINDS].sort());
    }
  });

  test('leaves alone since when it is known, whether it is a tree, and what it was given', () => {
    const before = change({ kind: 'create', since: 7, tree: true });
    const after = changeAfter({ kind: 'delete', isDirectory: true }, before, undefined, false);
    expect(after).toEqual(change({ kind: 'delete', isDirectory: true, since: 7, tree: true }));
    expect(before).toEqual(change({ kind: 'create', since: 7, tree: true }));
  });
});

describe('changes that wait', () => {
  const NEVER = Number.POSITIVE_INFINITY;
  let now = 0;
  let changes = new Changes();
  beforeEach(() => {
    now = 1000;
    changes = new Changes(() => now);
  });
  const note = (path: string, kind: Kind, found?: Stats) => changes.note(path, event(kind), found, false);
  const get = (path: string) => changes.waiting.get(path);

  test('go once nothing has come for 3 ms', () => {
    note('a', 'delete');
    expect(changes.wait(NEVER, 50)).toBe(3);
    now = 1002;
    expect(changes.wait(NEVER, 50)).toBe(1);
    note('b', 'delete');
    expect(changes.wait(NEVER, 50)).toBe(3);
    now = 1005;
    expect(changes.wait(NEVER, 50)).toBe(0);
    now = 1009;
    expect(changes.wait(NEVER, 50)).toBe(0);
  });

  test('wait 30 ms more for the other half of a rename, and no longer once it has come', () => {
    note('a', 'moved_from');
    expect(changes.wait(NEVER, 50)).toBe(33);
    now = 1010;
    expect(changes.wait(NEVER, 50)).toBe(23);
    note('b', 'moved_to', SINGLE);
    expect(changes.wait(NEVER, 50)).toBe(3);
  });

  test('go at the latest when they are told to, however many more come', () => {
    for (; now < 1100; now += 2) {
      note(`${now}`, 'delete');
      expect(changes.wait(1100, 50)).toBe(Math.min(3, 1100 - now));
    }
    expect(changes.wait(1100, 50)).toBe(0);
  });

  test('wait with patience where all files are open, until one is closed', () => {
    note('a', 'create', SINGLE);
    now = 1004;
    note('b', 'modify');
    expect(changes.wait(1010, 500)).toBe(496); // from the first one on, whatever the latest is
    now = 1400;
    expect(changes.wait(1010, 500)).toBe(100);
    note('a', 'close_write');
    expect(changes.wait(NEVER, 500)).toBe(3);
    note('a', 'modify');
    expect(changes.wait(NEVER, 500)).toBe(100);
    note('c', 'delete');
    expect(changes.wait(NEVER, 500)).toBe(3);
    now = 1600;
    expect(changes.wait(NEVER, 500)).toBe(0);
  });

  test('are handed out without the open files that are young, which wait on', () => {
    note('old', 'create', SINGLE);
    now = 1100;
    note('young', 'create', SINGLE);
    note('closed', 'delete');
    now = 1500;
    const batch = changes.take(500);
    expect([...batch.keys()]).toEqual(['old', 'closed']);
    expect([...changes.waiting.keys()]).toEqual(['young']);
    expect(changes.wait(NEVER, 500)).toBe(100); // nothing closed is left
    now = 1600;
    expect([...changes.take(500).keys()]).toEqual(['young']);
    expect(changes.size).toBe(0);
  });

  test('are handed out whole where there is no patience', () => {
    note('a', 'create', SINGLE);
    expect([...changes.take(0).keys()]).toEqual(['a']);
  });

  test('tell each arrival, and whether an event merely repeats the one before', () => {
    let arrived = 0;
    changes.on('arrived', () => arrived++);
    expect(note('a', 'modify')).toBe(true);
    expect(note('a', 'modify')).toBe(false);
    expect(note('a', 'close_write')).toBe(true);
    expect(note('b', 'close_write')).toBe(true);
    expect(changes.note('b', event('close_write', { isDirectory: true }), undefined, false)).toBe(true);
    expect(changes.note('b', event('close_write', { isDirectory: true }), undefined, false)).toBe(false);
    changes.add(new Map([['c', TREE]]));
    expect(arrived).toBe(7);
  });

  test('are known since they were seen first', () => {
    note('a', 'modify');
    now = 1200;
    note('a', 'close_write');
    expect(get('a')?.since).toBe(1000);
  });

  test('may have taken the place of what is lacking, whether that waits too or does not any more', () => {
    note('a', 'create', SINGLE);
    note('b', 'delete');
    note('b', 'create', SINGLE);
    changes.note('c', event('create'), SINGLE, true);
    expect([...changes.waiting.values()].map(lettersOf)).toEqual(['OF', 'OFR', 'OFR']);
  });

  test('come back from a batch that failed beside what is newer: the older time, the newer event, all that is true of either', () => {
    const failed: Batch = new Map([
      ['a', change({ kind: 'delete', since: 400, shared: true, open: true, fresh: true })],
      ['b', change({ kind: 'create', since: 500, tree: true, hidden: true, replaced: true, open: true })],
      ['c', change({ kind: 'modify', since: 3000, dated: 600, at: 3000 })],
      ['d', change({ kind: 'delete', since: 600 })],
    ]);
    changes.add(new Map([['d', TREE]]));
    changes.note('a', event('moved_to', { isDirectory: true }), DIRECTORY, false);
    changes.note('c', event('attrib'), undefined, false, 700);
    now = 2000;
    changes.add(failed);
    expect(get('a')).toEqual(
      change({ kind: 'moved_to', isDirectory: true, since: 400, shared: true, replaced: true, at: 1000 }),
    );
    expect(get('b')).toEqual(change({ since: 500, tree: true, hidden: true, replaced: true }));
    expect(get('c')).toEqual(
      change({ kind: 'attrib', since: 1000, shared: true, replaced: true, dated: 700, at: 1000 }),
    );
    expect(get('d')).toEqual(change({ since: 600, tree: true }));
    expect(changes.wait(NEVER, 500)).toBe(3);
  });

  test('may hold other things than size and time say, and so may all that is below a directory', () => {
    changes.note('a', event('moved_to'), SINGLE, false, 700);
    note('a', 'attrib');
    expect(get('a')).toMatchObject({ dated: 700, replaced: true });
    const batch: Batch = new Map([
      ['d', change({ tree: true, dated: 800 })],
      ['d/e', change({ dated: 0 })],
      ['f', TREE],
    ]);
    expect(['d', 'd/e', 'd/x/y', 'f/y', 'z'].map((path) => changeIn(batch, path)?.dated)).toEqual([
      800,
      0,
      800,
      undefined,
      undefined,
    ]);
  });

  test('that no event has named are known since they were added', () => {
    changes.add(new Map([['a', TREE]]));
    expect(get('a')?.since).toBe(1000);
  });

  test('are waited for by nobody where they are a regular comparison, until an event names them', () => {
    changes.add(REGULAR);
    expect(get('')).toEqual(change({ tree: true, since: NEVER }));
    expect(oldestOf(changes.waiting)).toBe(NEVER);
    note('', 'attrib');
    expect(get('')?.since).toBe(1000);
    expect(get('')?.tree).toBe(true);
  });

  test('become a comparison of all where there are too many, since the oldest of them', () => {
    now = 800;
    note('first', 'create', SINGLE);
    now = 1000;
    for (let n = 1; n < MAX_PENDING; n++) note(`${n}`, 'create', SINGLE);
    expect(changes.size).toBe(MAX_PENDING);
    expect(changes.wait(NEVER, 500)).toBe(300); // all of them are open
    note('1', 'create', SINGLE); // one that waits already
    expect(changes.size).toBe(MAX_PENDING);
    now = 1100;
    note('one more', 'create', SINGLE);
    expect(get('')).toEqual(change({ tree: true, since: 800 }));
    expect([...changes.waiting.keys()]).toEqual(['', 'one more']);
    expect(changes.wait(NEVER, 500)).toBe(3);
    expect([...changes.take(500).keys()]).toEqual(['']);
    expect([...changes.waiting.keys()]).toEqual(['one more']);
  });

  test('that come while all is to be compared are known all the same, and somebody waits for them', () => {
    changes.add(REGULAR);
    note('a', 'delete');
    note('b', 'close_write');
    expect([...changes.waiting.keys()]).toEqual(['', 'a', 'b']);
    expect(oldestOf(changes.waiting)).toBe(1000);
    expect(changes.note('a', event('create'), SINGLE, false, 7)).toBe(true);
    expect(get('a')).toMatchObject({ replaced: true, dated: 7 });
  });

  test('that only content tells outlive those that are too many, and are all of the source where they are most of them', () => {
    const noteDated = (from: number, to: number) => {
      for (let n = from; n < to; n++)
        changes.note(`dated ${n}`, event('moved_to'), SINGLE, false, 7 + (n < MAX_PENDING ? 0 : 1));
    };
    noteDated(0, MAX_PENDING / 2);
    for (let n = MAX_PENDING / 2; n <= MAX_PENDING; n++) note(`${n}`, 'create', SINGLE);
    expect(changes.size).toBe(MAX_PENDING / 2 + 2);
    expect(get('')).toMatchObject({ tree: true, dated: 0 });
    expect([get('dated 0')?.dated, get(`${MAX_PENDING}`)?.kind]).toEqual([7, 'create']);
    noteDated(MAX_PENDING / 2, MAX_PENDING);
    expect(get('')).toMatchObject({ tree: true, dated: 7 });
    expect(changes.size).toBe(3);
    changes.add(ALL);
    expect(get('')).toMatchObject({ tree: true, dated: 7 });
    noteDated(MAX_PENDING, MAX_PENDING + 1);
    for (let n = 0; n < MAX_PENDING; n++) note(`${n}`, 'delete');
    expect(get(`dated ${MAX_PENDING}`)).toMatchObject({ dated: 8 });
    expect(get('dated 0')).toBeUndefined();
  });

  test('tell whether what a file holds may be another than what was sent, whatever it was called and whether that was tried', () => {
    const isIt = () => isWritten(get('a') ?? change());
    note('a', 'attrib');
    expect(isIt()).toBe(false);
    note('a', 'close_write');
    expect(isIt()).toBe(true);
    const batch = changes.take(500);
    expect(isIt()).toBe(false);
    changes.add(batch);
    expect(isIt()).toBe(true);
    note('b', 'moved_to');
    changes.rename('a', 'b');
    expect([isIt(), isWritten(get('b') ?? change())]).toEqual([false, true]);
    note('new', 'create', SINGLE);
    changes.add(changes.take(0));
    expect(isWritten(get('new') ?? change())).toBe(false);
  });

  test('take along, in a rename, that a file may have other names', () => {
    note('a', 'modify');
    note('a', 'moved_from');
    note('b', 'moved_to', SINGLE);
    changes.rename('a', 'b');
    expect(get('a')).toMatchObject({ shared: false });
    expect(get('b')).toMatchObject({ shared: true, hidden: false });
    changes.rename('b', 'unknown');
    expect(get('b')).toMatchObject({ shared: true });
    note('c', 'moved_to', SINGLE);
    changes.rename('a', 'c');
    changes.rename('unknown', 'c');
    expect(get('c')).toMatchObject({ shared: false });
  });
});

test('the oldest of a batch is the first that is known', () => {
  const batch = (...times: number[]): Batch => new Map(times.map((since, n) => [`${n}`, change({ since })]));
  const never = Number.POSITIVE_INFINITY;
  expect(oldestOf(batch(7, 0, 5, never))).toBe(5);
  expect(oldestOf(batch(0, never))).toBe(never);
  expect(oldestOf(batch())).toBe(never);
});
