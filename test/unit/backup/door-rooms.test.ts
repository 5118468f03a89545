import { expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DoorRooms } from '../../../src/backup/door-rooms.ts';
import type { Trouble } from '../../../src/backup/guard.ts';

function home() {
  const base = mkdtempSync(join(tmpdir(), 'rooms-'));
  let trouble: Trouble | null = null;
  const others: string[] = [];
  const bars: string[] = [];
  const barSource = (_: string, reason: string) => {
    const isNews = reason !== (bars.at(-1) ?? '');
    if (isNews) bars.push(reason);
    return isNews;
  };
  const guard = { report: () => trouble, isAtHome: async () => trouble === null, barSource };
  let missing = '';
  const mounts = { findMissing: async () => missing };
  const rooms = new DoorRooms(guard, mounts, ({ name }) => others.push(name));
  const lack = (what: string) => {
    missing = what;
  };
  const door = { name: 'web1', directory: join(base, 'web1') };
  const set = (next: Trouble | null) => {
    trouble = next;
  };
  return { base, rooms, door, others, set, bars, lack, [Symbol.dispose]: () => rmSync(base, { recursive: true }) };
}

test('the directory of a source is made where DEST_DIR is the one that it should be, and not on a disk that is not mounted', async () => {
  using it = home();
  it.set('unmounted');
  await it.rooms.prepare(it.door);
  expect(readdirSync(it.base)).toEqual([]);
  expect(await it.rooms.isGone(it.door)).toBe(false);
  it.set(null);
  expect(await it.rooms.isGone(it.door)).toBe(true);
  for (const _ of [1, 2]) await it.rooms.prepare(it.door);
  expect(readdirSync(it.base)).toEqual(['web1']);
  expect(await it.rooms.isGone(it.door)).toBe(false);
});

test('it is vacant until something is in it', async () => {
  using it = home();
  expect(await it.rooms.isVacant(it.door)).toBe(true);
  await it.rooms.prepare(it.door);
  expect(await it.rooms.isVacant(it.door)).toBe(true);
  const isGone = () => Promise.all([it.rooms.isGone(it.door), it.rooms.isEmpty(it.door)]);
  expect(await isGone()).toEqual([false, true]);
  writeFileSync(join(it.door.directory, 'file'), '');
  expect(await it.rooms.isVacant(it.door)).toBe(false);
  expect(await isGone()).toEqual([false, false]);
});

test.each([
  ['a link to a directory', (path: string, base: string) => symlinkSync(base, path)],
  ['a link that leads nowhere', (path: string) => symlinkSync('nowhere', path)],
  ['a file', (path: string) => writeFileSync(path, '')],
])('%s in its place is refused', async (_, make) => {
  using it = home();
  make(it.door.directory, it.base);
  expect(it.rooms.prepare(it.door)).rejects.toThrow('是链接或文件，不是目录。请在备份端移走它');
});

test('another one in its place is told once, and not while DEST_DIR itself is in trouble', async () => {
  using it = home();
  for (const _ of [1, 2]) await it.rooms.prepare(it.door).then(() => it.rooms.look(it.door));
  expect(it.others).toEqual([]);
  renameSync(it.door.directory, join(it.base, 'aside'));
  await it.rooms.look(it.door);
  expect(it.others).toEqual([]); // it is not there
  mkdirSync(it.door.directory);
  it.set('replaced');
  await it.rooms.look(it.door);
  expect(it.others).toEqual([]);
  it.set(null);
  for (const _ of [1, 2]) await it.rooms.look(it.door);
  expect(it.others).toEqual(['web1']);
});

test('nothing is received while a disk of its own is missing, which is told by its sessions once', async () => {
  using it = home();
  await it.rooms.prepare(it.door);
  await it.rooms.look(it.door);
  it.lack('the disk is not mounted');
  for (const _ of [1, 2])
    expect(await it.rooms.look(it.door).catch(({ message }) => message)).toBe('the disk is not mounted');
  expect([it.bars, it.others]).toEqual([['the disk is not mounted'], ['web1']]);
  it.lack('');
  await it.rooms.look(it.door);
  expect([it.bars, it.others]).toEqual([['the disk is not mounted', ''], ['web1']]);
});
