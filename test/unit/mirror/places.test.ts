import { describe, expect, test } from 'bun:test';
import type { Event } from '../../../src/mirror/events.ts';
import { Overlaps, Places, placesBelow } from '../../../src/mirror/places.ts';
import { parseMountinfo } from '../../../src/service/mounts.ts';
import { event } from './stand-ins.ts';

/** A line of the kernel's: what of a file system is mounted where. */
const line = (id: number, on: number, device: string, root: string, path: string) =>
  `${id} ${on} ${device} ${root} ${path} rw,relatime shared:1 - ext4 /dev/sda1 rw\n`;
const TOP = line(1, 0, '8:1', '/', '/');

/** The other paths of what is at a path of /data/source. */
function othersOf(text: string, path: string, root = '/data/source'): string[] {
  const overlaps = new Overlaps(placesBelow(parseMountinfo(text), root));
  const others = overlaps.othersOf(path).map((other) => other.path);
  for (const other of others) expect(overlaps.othersOf(other).map((it) => it.path)).toContain(path); // and back
  return others;
}

describe('the places of a source', () => {
  test('are the part of the file system that it lies on, and what is mounted below it', () => {
    const text = `${TOP}${line(2, 1, '8:2', '/', '/data')}${line(3, 2, '8:3', '/a\\040b', '/data/source/disk')}`;
    expect(placesBelow(parseMountinfo(text), '/data/source')).toEqual([
      { device: '8:2', inside: '/source', path: '' },
      { device: '8:3', inside: '/a b', path: '/disk' },
    ]);
    expect(placesBelow(parseMountinfo(TOP), '/')).toEqual([{ device: '8:1', inside: '', path: '' }]);
    const below = `${TOP}${line(2, 1, '8:1', '/x', '/disk')}`;
    expect(placesBelow(parseMountinfo(below), '/')[1]).toEqual({ device: '8:1', inside: '/x', path: '/disk' });
    const whole = `${TOP}${line(2, 1, '8:2', '/volumes/v', '/data/source')}`;
    expect(placesBelow(parseMountinfo(whole), '/data/source')).toEqual([
      { device: '8:2', inside: '/volumes/v', path: '' },
    ]);
  });

  test('are not those that are elsewhere, covered, or whose directory was removed', () => {
    const elsewhere = line(2, 1, '8:2', '/', '/data/sourcery');
    const covered = `${line(3, 1, '8:3', '/', '/data/source/c')}${line(4, 3, '8:4', '/', '/data/source/c')}`;
    const removed = line(5, 1, '8:1', '/data/x//deleted', '/data/source/r');
    const places = placesBelow(parseMountinfo(TOP + elsewhere + covered + removed), '/data/source');
    expect(places.map(({ device, path }) => `${device} ${path}`)).toEqual(['8:1 ', '8:4 /c']);
    expect(placesBelow([], '/data/source')).toEqual([]);
  });
});

describe('what is mounted at several places', () => {
  test('has a path at each of them', () => {
    const text = TOP + ['a', 'b', 'c/d'].map((it, n) => line(n + 2, 1, '0:45', '/part', `/data/source/${it}`)).join('');
    expect(othersOf(text, '/a/x/y')).toEqual(['/b/x/y', '/c/d/x/y']);
    expect(othersOf(text, '/c/d')).toEqual(['/a', '/b']);
    for (const path of ['', '/c', '/ab', '/x']) expect(othersOf(text, path)).toEqual([]);
  });

  test('may be a part of the source itself', () => {
    const text = TOP + line(2, 1, '8:1', '/data/source/real', '/data/source/view');
    expect(othersOf(text, '/real/x')).toEqual(['/view/x']);
    expect(othersOf(text, '/view')).toEqual(['/real']);
    expect(othersOf(text, '/real2/x')).toEqual([]);
  });

  test('may be a file', () => {
    const text = TOP + line(2, 1, '8:1', '/data/source/conf/app', '/data/source/app');
    expect(othersOf(text, '/app')).toEqual(['/conf/app']);
    expect(othersOf(text, '/conf/app')).toEqual(['/app']);
    expect(othersOf(text, '/conf/app2')).toEqual([]);
  });

  test('may be the source as a whole, once', () => {
    const text = TOP + line(2, 1, '8:1', '/data/source', '/data/source/loop');
    expect(othersOf(text, '/x')).toEqual(['/loop/x']);
    expect(othersOf(text, '/loop/x')).toEqual(['/x']);
    expect(othersOf(text, '/loop')).toEqual(['']);
    expect(othersOf(text, '/loop/loop/x')).toEqual([]); // of the source that is mounted over
  });

  test('may be the parent of what another place shows, unless something else is mounted over that there', () => {
    const nested = `${TOP}${line(2, 1, '8:2', '/p/c', '/data/source/child')}${line(3, 1, '8:2', '/p', '/data/source/parent')}`;
    expect(othersOf(nested, '/child/x')).toEqual(['/parent/c/x']);
    expect(othersOf(nested, '/parent/c/x')).toEqual(['/child/x']);
    expect(othersOf(nested, '/parent/x')).toEqual([]);
    const over = nested + line(4, 3, '8:3', '/', '/data/source/parent/c');
    expect(othersOf(over, '/child/x')).toEqual([]);
    expect(othersOf(over, '/parent/c/x')).toEqual([]);
    const higher = nested + line(4, 3, '8:3', '/', '/data/source/parent/c/deep');
    expect(othersOf(higher, '/child/deep/x')).toEqual([]);
    expect(othersOf(higher, '/child/x')).toEqual(['/parent/c/x']);
  });

  test('is another thing on another device, and beside it', () => {
    const text = `${TOP}${line(2, 1, '0:45', '/part', '/data/source/a')}${line(3, 1, '0:46', '/part', '/data/source/b')}`;
    expect(othersOf(text, '/a/x')).toEqual([]);
    const beside = `${TOP}${line(2, 1, '8:2', '/part', '/data/source/a')}${line(3, 1, '8:2', '/part2', '/data/source/b')}`;
    expect(othersOf(beside, '/a/x')).toEqual([]);
  });

  test('is known up to a bound', () => {
    const places = Array.from({ length: 2000 }, (_, n) => ({ device: '8:1', inside: '/same', path: `/${n}` }));
    const began = performance.now();
    const overlaps = new Overlaps(places);
    expect(overlaps.othersOf('/0/x').length).toBeGreaterThan(5);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

/** Places of /data/source on a machine that a test makes up. */
function withPlaces(text: string, files: string[] = [], excluded: string[] = []) {
  const machine = { text, files };
  const isFile = async (path: Buffer) => machine.files.includes(path.toString());
  const source = { root: '/data/source/', realRoot: '/data/source' };
  const places = new Places(
    source,
    excluded,
    () => machine.text,
    isFile,
    async (paths) => paths.filter((path) => !path.includes('secret')),
  );
  const told: string[] = [];
  const tell = places.spread(({ path, names, cookie }) => told.push(`${names} ${path} ${cookie}`));
  return { machine, places, told, tell: (kind: Event['kind'], more: Partial<Event>) => tell(event(kind, more)) };
}
const TWICE = `${TOP}${line(2, 1, '8:2', '/d', '/data/source/a')}${line(3, 1, '8:2', '/d', '/data/source/b')}`;

describe('an event', () => {
  test('is told at every place, the halves of a rename under a cookie of that place', async () => {
    const { places, told, tell } = withPlaces(TWICE);
    await places.refresh();
    tell('moved_from', { path: '/data/source/a/x', cookie: '7' });
    tell('moved_to', { path: '/data/source/a/y', cookie: '7' });
    expect(told).toEqual([
      ...['MOVED_FROM /data/source/a/x 7', 'MOVED_FROM /data/source/b/x 7@/b'],
      ...['MOVED_TO /data/source/a/y 7', 'MOVED_TO /data/source/b/y 7@/b'],
    ]);
  });

  test('of what is there once, of a directory itself, or of an overflow, is told once', async () => {
    const { places, told, tell } = withPlaces(TWICE);
    await places.refresh();
    tell('modify', { path: '/data/source/c' });
    tell('delete_self', { path: '/data/source/a/' });
    tell('q_overflow', {});
    tell('modify', { path: '/elsewhere/a/x' });
    expect(told).toHaveLength(4);
  });

  test('of a directory that is watched is told without a slash, and of the source as what it is', async () => {
    const { places, told, tell } = withPlaces(TOP + line(2, 1, '8:1', '/data/source', '/data/source/loop'));
    await places.refresh();
    tell('attrib', { path: '/data/source/loop/', isDirectory: true });
    expect(told.at(-1)).toStartWith('ATTRIB,ISDIR /data/source/ ');
    tell('attrib', { path: '/data/source/', isDirectory: true });
    expect(told.at(-1)).toStartWith('ATTRIB,ISDIR /data/source/loop ');
  });

  test('is not told where nothing is to be watched', async () => {
    const { places, told, tell } = withPlaces(TWICE, [], ['b/logs']);
    await places.refresh();
    tell('modify', { path: '/data/source/a/logs/x' });
    tell('modify', { path: '/data/source/a/logs2/x' });
    expect(told.filter((it) => it.includes('/b/'))).toEqual(['MODIFY /data/source/b/logs2/x @/b']);
  });
});

describe('what is watched otherwise', () => {
  test('is what has come to be at several places, or is no more', async () => {
    const { machine, places } = withPlaces(TOP);
    expect(await places.refresh()).toEqual([]);
    machine.text = TWICE;
    expect(await places.refresh()).toEqual(['a', 'b']);
    expect(await places.refresh()).toEqual([]);
    machine.text += line(4, 1, '8:9', '/', '/data/source/other');
    expect(await places.refresh()).toEqual([]);
    machine.text = TOP;
    expect(await places.refresh()).toEqual(['a', 'b']);
  });

  test('is a file that was mounted by itself, which is an argument from then on', async () => {
    const file = '/data/source/app.conf';
    const { machine, places } = withPlaces(TOP, [file, '/data/source/whole', '/data/source/logs/l']);
    await places.refresh();
    expect(places.files).toEqual([]);
    machine.text = ['app.conf', 'dir', 'logs/l']
      .map((it, n) => line(n + 2, 1, '8:2', `/${it}`, `/data/source/${it}`))
      .join('');
    machine.text = TOP + machine.text + line(9, 1, '8:3', '/', '/data/source/whole');
    expect(await places.refresh()).toEqual(['app.conf', 'logs/l']);
    expect(places.files).toEqual([file, '/data/source/logs/l']);
    machine.text = TOP;
    expect(await places.refresh()).toEqual([]);
    expect(places.files).toEqual([]);
  });

  test('is no file whose name is no UTF-8, or that is not to be watched or may not be', async () => {
    const names = ['caf\\303\\251', 'caf\\351', 'logs/l', 'secret'];
    const text = TOP + names.map((it, n) => line(n + 2, 1, '8:2', `/${n}`, `/data/source/${it}`)).join('');
    const { places } = withPlaces(
      text,
      ['café', 'logs/l', 'secret'].map((it) => `/data/source/${it}`),
      ['logs'],
    );
    await places.refresh();
    expect(places.files).toEqual(['/data/source/café']);
  });
});

describe('the kernel tells of all that becomes of a path', () => {
  const typed = (id: number, path: string, type: string) =>
    line(id, 1, `0:${id}`, '/', path).replace(' - ext4 ', ` - ${type} `);
  const isTold = async (text: string, path: string) => {
    const source = { root: '/data/source/', realRoot: '/data/source' };
    const places = new Places(source, [], () => text);
    expect(places.isTold(path)).toBe(false); // nothing is known yet
    await places.refresh();
    return places.isTold(path);
  };

  test.each(['ext4', 'xfs', 'btrfs', 'tmpfs', 'overlay'])('where it is on %s', async (type) =>
    expect(await isTold(TOP + typed(2, '/data/source', type), 'd/a')).toBe(true),
  );

  test.each(['nfs4', 'cifs', 'fuse.mergerfs', 'fuse', '9p', 'virtiofs', 'ceph', 'new'])(
    'but not where it is on %s, in which others may change it',
    async (type) => expect(await isTold(TOP + typed(2, '/data/source', type), 'd/a')).toBe(false),
  );

  test('whatever is mounted beside it', async () => {
    const text = TOP + typed(2, '/data/source/share', 'nfs') + typed(3, '/elsewhere', 'nfs');
    for (const [path, expected] of [
      ['d/a', true],
      ['sharey', true],
      ['share/a', false],
      ['share', false],
    ] as const)
      expect([path, await isTold(text, path)]).toEqual([path, expected]);
  });
});
