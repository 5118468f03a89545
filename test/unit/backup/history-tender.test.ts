import { afterEach, beforeEach, expect, test } from 'bun:test';
import {
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { Held } from '../../../src/backup/held-tree.ts';
import { nameOf, slotOf } from '../../../src/backup/history-names.ts';
import { goneOf } from '../../../src/backup/history-sessions.ts';
import { type Orders, sinceThen, Tender } from '../../../src/backup/history-tender.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = 1_800_000_000_000;
let root = '';
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'history-')));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const path = (...names: string[]) => join(root, ...names);
const at = (ago: number) => nameOf({ time: NOW - ago, stamp: NOW - ago });
function put(name: string, file: string, text = `${name} ${file}`): void {
  mkdirSync(dirname(path(name, file)), { recursive: true });
  writeFileSync(path(name, file), text);
}
function tend(change: Partial<Orders> = {}, gone: string[] = [], most?: number) {
  using history = Held.open(root);
  const orders = { days: 30, time: NOW, stamp: NOW, since: 0, isToCount: false, ...change };
  return new Tender(history, orders, false, most ? { remembered: most, listed: most } : undefined).tend(gone);
}
const files = () =>
  readdirSync(root, { recursive: true, withFileTypes: true, encoding: 'utf8' })
    .filter((it) => !it.isDirectory())
    .map((it) => join(it.parentPath, it.name).slice(root.length + 1))
    .sort();

test('what a session has kept gets the name of the time, and empty directories go', () => {
  put('now-1-2', 'd/file');
  mkdirSync(path('now-1-3'));
  writeFileSync(path('now-1-2.moves'), 'x');
  writeFileSync(path('now-1-3.moves'), '');
  const { versions, bytes } = tend({}, ['now-1-2', 'now-1-2.moves', 'now-1-3', 'now-1-3.moves']);
  expect(files()).toEqual([`${at(0)}.moves`, `${at(0)}/d/file`]);
  expect([versions, bytes > 0]).toEqual([1, true]);
  expect(readdirSync(root).length).toBe(2);
  put('now-1-4', 'd/file');
  tend({}, ['now-1-4']);
  expect(files()).toContain(`${at(0)}-2/d/file`);
});

test('a process that runs is not taken for one that has ended', () => {
  const [, start] = /.*\) (?:\S+ ){19}(\d+) /s.exec(readFileSync('/proc/self/stat', 'latin1')) ?? [];
  const running = `now-${process.pid}-${start}`;
  expect(goneOf([running, 'now-999999999-1', 'done-1-2-1', at(0)])).toEqual(['now-999999999-1', 'done-1-2-1']);
});

test('what a session has kept until its end was seen is named by that time, and not by when it was ordered to look', () => {
  const orders = { days: 30, time: NOW, stamp: NOW - DAY, since: null, isToCount: false };
  expect(sinceThen(orders, NOW + 900)).toEqual({ ...orders, time: NOW + 900, stamp: NOW - DAY + 900 });
  expect(sinceThen(orders, NOW - HOUR)).toEqual(orders);
});

test('what is older than it is kept goes with its journal, by its name and not by the times of files', () => {
  for (const ago of [31 * DAY, 29 * DAY]) {
    put(at(ago), 'file');
    writeFileSync(path(`${at(ago)}.moves`), 'x');
    lutimesSync(path(at(ago), 'file'), 1, 1);
  }
  symlinkSync('/etc', path(at(31 * DAY), 'link'));
  expect(tend({ since: null }).versions).toBe(-2);
  expect(files()).toEqual([`${at(29 * DAY)}.moves`, `${at(29 * DAY)}/file`]);
  expect(existsSync('/etc/passwd')).toBe(true);
  writeFileSync(path(`${at(32 * DAY)}.moves`), 'x');
  tend();
  expect(files().length).toBe(2);
});

test('it is remembered until when what was replaced has gone', () => {
  writeFileSync(path('.start-sshd'), '');
  lutimesSync(path('.start-sshd'), 1, (NOW - 40 * DAY) / 1000);
  for (const ago of [31 * DAY, 32 * DAY, 29 * DAY]) put(at(ago), 'file');
  tend({ since: null });
  expect(lstatSync(path('.start-sshd')).mtimeMs).toBe(NOW - 31 * DAY);
  tend();
  expect(lstatSync(path('.start-sshd')).mtimeMs).toBe(NOW - 31 * DAY);
});

test('what has aged counts and not what the clock says', () => {
  const name = nameOf({ time: NOW - 400 * DAY, stamp: NOW - DAY / 2 });
  put(name, 'file');
  tend();
  expect(files()).toEqual([`${name}/file`]);
});

test('the oldest version of a file in each slot stays, also when it is done bit by bit', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 40 * DAY }), fc.constantFrom('a', 'd/a', 'd/b')), { maxLength: 40 }),
      fc.array(fc.integer({ min: 0, max: 40 * DAY }), { maxLength: 4 }),
      fc.constantFrom(undefined, 1, 3),
      (kept, times, most) => {
        rmSync(root, { recursive: true });
        mkdirSync(root);
        for (const [ago, file] of kept) put(at(ago), file);
        const all = files();
        let since = 0;
        for (const later of [...new Set([...times, 40 * DAY])].sort((a, b) => b - a)) {
          tend({ stamp: NOW - later, since, days: 9999 }, [], most);
          since = NOW - later;
        }
        tend({ since, days: 9999 }, [], most);
        const slots = new Map<string, string>();
        const expected = all.filter((it) => {
          const [name = '', ...rest] = it.split('/');
          const stamp = Date.parse(name.replace(/^(....)(..)(..)T(..)(..)/, '$1-$2-$3T$4:$5:'));
          const slot = slotOf(stamp, NOW);
          const key = `${slot?.from} ${slot?.to} ${rest.join('/')}`;
          if (slot && slots.has(key)) return false;
          slots.set(key, it);
          return true;
        });
        expect(files()).toEqual(expected);
        expect(tend({ isToCount: true, days: 9999 }).versions).toBe(expected.length);
      },
    ),
    { numRuns: 40 },
  );
});

test('a file that is written a thousand times drives no earlier version out', () => {
  for (const [ago, times] of [[2 * DAY, 1000] as const, [HOUR / 2, 100] as const])
    for (let n = 0; n < times; n++) put(at(ago - n * 1000), 'file', n === 0 ? 'good' : 'bad');
  tend();
  const versions = files().map((it) => readFileSync(path(it), 'utf8'));
  expect([versions.length, versions[0], versions[1]]).toEqual([101, 'good', 'good']);
});

test('a slot with more files than are remembered is thinned out in parts, and all of it', () => {
  const files1 = Array.from({ length: 40 }, (_, n) => `d${n % 3}/${n}`);
  for (const [n, ago] of [3 * DAY + 3000, 3 * DAY + 2000, 3 * DAY].entries())
    for (const file of files1.slice(5 * n)) put(at(ago), file);
  expect(tend({}, [], 3).versions).toBe(-65);
  expect(files()).toEqual(files1.map((file) => `${at(3 * DAY + 3000)}/${file}`).sort());
});

test('what was done half is done by the next one: it may be killed at any time', () => {
  for (const ago of [40 * DAY, 35 * DAY, 3 * DAY + 3000, 3 * DAY])
    for (const file of ['a', 'd/a', 'd/b']) put(at(ago), file);
  const expected = ['a', 'd/a', 'd/b'].map((file) => `${at(3 * DAY + 3000)}/${file}`);
  rmSync(path(at(40 * DAY), 'd'), { recursive: true }); // killed while it removed what is too old
  rmSync(path(at(3 * DAY), 'd', 'a')); // killed while it thinned out
  mkdirSync(path(at(36 * DAY), 'empty'), { recursive: true }); // killed before it removed a directory
  tend();
  expect(files()).toEqual(expected);
  expect(readdirSync(root)).toEqual([at(3 * DAY + 3000)]);
});

test('what a source has moved is put back, over what it has put there, and nothing else is overwritten', () => {
  put(at(DAY), 'd/file', 'good');
  put(at(DAY), 'other', 'good');
  mkdirSync(path('now-1-2', '.history', at(DAY), 'd'), { recursive: true });
  const moved = path('now-1-2', '.history', at(DAY), 'd', 'file');
  writeFileSync(moved, readFileSync(path(at(DAY), 'd', 'file')));
  rmSync(path(at(DAY), 'd', 'file'));
  Bun.sleepSync(20);
  put(at(DAY), 'd/file', 'forged');
  mkdirSync(path('now-1-2', '.history', at(DAY), 'gone'));
  writeFileSync(path('now-1-2', '.history', at(DAY), 'gone', 'file'), 'good');
  writeFileSync(path('now-1-2', '.history', at(DAY), 'other'), 'a later one');
  symlinkSync('/etc', path(at(DAY), 'way'));
  mkdirSync(path('now-1-2', '.history', at(DAY), 'way'));
  writeFileSync(path('now-1-2', '.history', at(DAY), 'way', 'history-test'), 'through a link');
  expect(tend({}, ['now-1-2']).disturbed).toBe(2);
  const read = (file: string) => readFileSync(path(at(DAY), file), 'utf8');
  expect([read('d/file'), read('gone/file'), read('other')]).toEqual(['good', 'good', 'good']);
  expect(existsSync('/etc/history-test')).toBe(false);
});

test('what is none of ours is told and left alone', () => {
  writeFileSync(path('.start-sshd'), '');
  put('editor', 'main.ts');
  expect(tend().foreign).toEqual(['editor']);
  expect(files()).toEqual(['.start-sshd', 'editor/main.ts']);
});
