import { expect, test } from 'bun:test';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { constants as machine } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { HistoryGuard } from '../../../src/backup/history-guard.ts';
import { Errno } from '../../../src/backup/seccomp.ts';
import { scratch } from '../service/scratch.ts';

const { EACCES, EDQUOT, EEXIST, EINVAL, EISDIR, ENOENT } = machine.errno;
type Entry = ConstructorParameters<typeof HistoryGuard>[0] extends { unlink: (entry: infer E) => void } ? E : never;

const targetOf = ({ place, name }: Entry) => ({ at: `/proc/self/fd/${place}`, name: name.subarray(0, -1) });

/** A DEST_DIR with a version of an earlier session, and a guard of one that keeps in `now-1-2`. */
function world({ canSpare = true } = {}) {
  const place = scratch();
  const root = join(place.path, 'backup');
  const history = join(root, '.history');
  const put = (path: string, text: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  put('.history/20251009T120000.000Z/file', 'good');
  put('.history/now-1-2/d/file', 'first');
  const at = ({ place: it, name }: Entry) => Buffer.concat([Buffer.from(`/proc/self/fd/${it}/`), name.subarray(0, -1)]);
  const filter = {
    rename(from: Entry, to: Entry, flags = 0) {
      if (flags && !canSpare) throw new Errno(EINVAL);
      if (flags && existsSync(at(to))) throw new Errno(EEXIST);
      renameSync(at(from), at(to));
    },
    unlink: (it: Entry) => unlinkSync(at(it)),
  };
  const guard = new HistoryGuard(filter, { history, name: 'now-1-2' });
  const files: number[] = [];
  const entry = (path: string): Entry => {
    files.push(openSync(join(root, dirname(path)), constants.O_RDONLY));
    return { place: files.at(-1) ?? -1, name: Buffer.from(`${basename(path)}\0`) };
  };
  /** Has it do something; returns why not. */
  const ask = (from: string, to?: string) => {
    try {
      guard.work({ from: entry(from), to: to === undefined ? undefined : entry(to), flags: 0 });
      return 0;
    } catch (cause) {
      return Math.abs((cause as Errno).errno);
    }
  };
  /** Has it let attributes be changed, or a link be made; returns why not. */
  const letBe = (path: string, to?: string) => {
    try {
      const [from, other] = [path, to].map((it) => (it === undefined ? undefined : targetOf(entry(it))));
      if (from && other) guard.letLink(from, other);
      else if (from) guard.letChange(from);
      return 0;
    } catch (cause) {
      return Math.abs((cause as Errno).errno);
    }
  };
  /** The same for an open file. */
  const letBeOpen = (path: string) => {
    files.push(openSync(join(root, path), constants.O_RDONLY));
    try {
      guard.letChange({ at: `/proc/self/fd/${files.at(-1)}`, name: Buffer.alloc(0) });
      return 0;
    } catch (cause) {
      return Math.abs((cause as Errno).errno);
    }
  };
  const read = (path: string) => readFileSync(join(root, path), 'utf8');
  const end = () => {
    for (const file of files) closeSync(file);
    place[Symbol.dispose]();
  };
  return { put, ask, letBe, letBeOpen, read, guard, names: () => readdirSync(history).sort(), [Symbol.dispose]: end };
}

test.each([true, false])(
  'what is in the way of a version is moved aside (renames that replace nothing: %p)',
  (canSpare) => {
    using it = world({ canSpare });
    it.put('file', 'second');
    expect(it.ask('file', '.history/now-1-2/d/file')).toBe(0);
    expect([it.read('.history/now-1-2/d/file'), it.read('.history/now-1-2-1/d/file')]).toEqual(['second', 'first']);
    expect(it.ask('.history/now-1-2/d/file')).toBe(0);
    expect(it.read('.history/now-1-2-2/d/file')).toBe('second');
    expect([it.ask('.history/now-1-2/d/file'), it.ask('.history/now-1-2/d')]).toEqual([ENOENT, EISDIR]);
    expect(it.guard.hasNews).toBe(false);
  },
);

test('nothing else among the versions is touched, and that is told once', () => {
  using it = world();
  it.put('file', 'bad');
  const version = '.history/20251009T120000.000Z/file';
  const attempts: [from: string, to?: string][] = [
    [version],
    [version, 'gone'],
    [version, '.history/now-1-2/file'],
    ['file', version],
    ['file', '.history/20251009T120000.000Z/new'],
    ['file', '.history/new'],
    ['.history', 'gone'],
    ['.history/now-1-2/d/file', 'gone'],
    ['.history/now-1-2', 'gone'],
    ['.history/now-1-2', '.history/20251009T120000.000Z/d'],
  ];
  for (const [from, to] of attempts) expect([from, to, it.ask(from, to)]).toEqual([from, to, EACCES]);
  expect(it.read(version)).toBe('good');
  expect(it.guard.news().map(([kind]) => kind)).toEqual(['refused']);
  expect(it.ask(version)).toBe(EACCES);
  expect(it.guard.hasNews).toBe(false);
});

test('the mirror itself is none of its business', () => {
  using it = world();
  for (const name of ['a', 'b', 'd/.history/c']) it.put(name, name);
  expect([it.ask('a', 'b'), it.ask('d/.history/c', 'c'), it.ask('c'), it.ask('nothing')]).toEqual([0, 0, 0, ENOENT]);
  expect(it.read('b')).toBe('a');
});

test('attributes of what other sessions have kept are not changed, by no name and by no open file', () => {
  using it = world();
  it.put('file', 'now');
  it.put('d/.history/c', 'none of ours');
  const kept = ['.history', '.history/20251009T120000.000Z', '.history/20251009T120000.000Z/file', '.history/new'];
  for (const path of kept) expect([path, it.letBe(path)]).toEqual([path, EACCES]);
  for (const path of kept.slice(0, 3)) expect([path, it.letBeOpen(path)]).toEqual([path, EACCES]);
  const free = ['file', 'd', 'd/.history/c', '.history/now-1-2', '.history/now-1-2/d', '.history/now-1-2/d/file'];
  for (const path of free) expect([path, it.letBe(path), it.letBeOpen(path)]).toEqual([path, 0, 0]);
  expect([it.letBe('nothing'), it.letBeOpen('.')]).toEqual([0, 0]);
  expect(it.guard.news().map(([kind]) => kind)).toEqual(['refused']);
});

test('no version has a second name, under which it could be changed', () => {
  using it = world();
  it.put('file', 'now');
  const links: [from: string, to: string][] = [
    ['.history/20251009T120000.000Z/file', 'link'],
    ['.history/now-1-2/d/file', 'link'],
    ['file', '.history/20251009T120000.000Z/link'],
  ];
  for (const [from, to] of links) expect([from, to, it.letBe(from, to)]).toEqual([from, to, EACCES]);
  expect([it.letBe('file', 'link'), it.letBe('file', '.history/now-1-2/file')]).toEqual([0, 0]);
});

test('one transfer leaves no end of versions', () => {
  using it = world();
  const outcomes = Array.from({ length: 102 }, (_, n) => {
    it.put('.history/now-1-2/file', String(n));
    return it.ask('.history/now-1-2/file');
  });
  expect([outcomes.slice(0, 100).every((code) => code === 0), ...outcomes.slice(100)]).toEqual([true, EDQUOT, EDQUOT]);
  expect(it.names().length).toBe(102);
});
