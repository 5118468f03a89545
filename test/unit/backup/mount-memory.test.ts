import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../../src/backup/config.ts';
import { homeMount, MountMemory } from '../../../src/backup/mount-memory.ts';
import { parseMountinfo } from '../../../src/service/mounts.ts';

/** A line of /proc/self/mountinfo. */
const line = (id: number, parent: number, device: string, root: string, path: string, type = 'ext4') =>
  `${id} ${parent} ${device} ${root} ${path} rw,relatime shared:1 - ${type} /dev/x rw`;
const mountsOf = (...lines: string[]) => parseMountinfo(lines.join('\n'));
const ROOT_LINE = line(20, 1, '8:1', '/', '/');

describe('the mount that a directory is on', () => {
  test.each<[string, string, string[], string]>([
    ['is the root where nothing is mounted', '/data/backup', [], '/'],
    ['is a disk', '/mnt/disk/backup', [line(30, 20, '8:17', '/', '/mnt/disk')], '/mnt/disk'],
    ['is a volume of a container', '/data/backup', [line(30, 20, '8:2', '/volumes/x', '/data/backup')], '/data/backup'],
    ['is not what is mounted over itself', '/data/backup', [line(30, 20, '8:1', '/data/backup', '/data/backup')], '/'],
    [
      'is the disk of which a part is mounted over itself',
      '/mnt/disk/backup',
      [line(30, 20, '8:17', '/', '/mnt/disk'), line(31, 30, '8:17', '/backup', '/mnt/disk/backup')],
      '/mnt/disk',
    ],
    [
      'is the disk that is mounted over itself',
      '/mnt/disk',
      [line(30, 20, '8:17', '/', '/mnt/disk'), line(31, 30, '8:17', '/', '/mnt/disk')],
      '/mnt/disk',
    ],
    [
      'is the root where that is mounted over itself, and a disk beneath',
      '/mnt/disk',
      [line(30, 20, '8:17', '/', '/mnt/disk'), line(31, 30, '8:1', '/mnt/disk', '/mnt/disk')],
      '/',
    ],
    [
      'is where another part of the same disk is mounted',
      '/data/backup',
      [line(30, 20, '8:1', '/elsewhere', '/data/backup')],
      '/data/backup',
    ],
  ])('%s', (_, directory, lines, path) => {
    expect(homeMount(mountsOf(ROOT_LINE, ...lines), directory)?.path).toBe(path);
  });
});

describe('the memory of the mount', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'mount-memory-'));
    mkdirSync(join(directory, 'keys'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const disk = () => join(directory, 'disk');
  const memoryOf = (DEST_DIR: string, ...lines: string[]) =>
    new MountMemory(readConfig({ HOST_KEY_DIR: join(directory, 'keys'), DEST_DIR }), () =>
      mountsOf(ROOT_LINE, ...lines),
    );
  const mounted = () => line(30, 20, '8:17', '/', disk());
  const IDENTITY = { fileSystem: 'ab', type: 'ef53', inode: '2', birth: '1' };

  test('misses a mount point that is none any more, and makes nothing there', async () => {
    const DEST_DIR = join(disk(), 'backup');
    expect(await memoryOf(DEST_DIR).findMissing()).toBeUndefined();
    memoryOf(DEST_DIR).remember(disk(), IDENTITY);
    expect(await memoryOf(DEST_DIR, mounted()).findMissing()).toBeUndefined();
    expect(await memoryOf(DEST_DIR).findMissing()).toBe(disk());
    const overItself = line(30, 20, '8:1', disk(), disk());
    expect(await memoryOf(DEST_DIR, overItself).findMissing()).toBe(disk());
    expect(existsSync(disk())).toBe(false);
    rmSync(join(directory, 'keys', 'destination.json'));
    expect(await memoryOf(DEST_DIR).findMissing()).toBeUndefined();
  });

  test('misses one to which a link leads, but not where the link leads elsewhere by now', async () => {
    const DEST_DIR = join(directory, 'backup');
    symlinkSync(join(disk(), 'backup'), DEST_DIR);
    memoryOf(DEST_DIR).remember(disk(), IDENTITY);
    expect(await memoryOf(DEST_DIR).findMissing()).toBe(disk());
    rmSync(DEST_DIR);
    symlinkSync(join(directory, 'keys'), DEST_DIR);
    expect(await memoryOf(DEST_DIR).findMissing()).toBeUndefined();
  });

  test('misses nothing where no disk was mounted', async () => {
    const memory = memoryOf('/data/backup');
    memory.remember('/', IDENTITY);
    expect(await memory.findMissing()).toBeUndefined();
  });

  test('is of each DEST_DIR by itself, private, and tells of another file system', () => {
    const [one, other] = [memoryOf('/one'), memoryOf('/other')];
    expect(one.remember('/mnt/one', IDENTITY)).toBeUndefined();
    expect(one.remember('/mnt/one', { ...IDENTITY, inode: '3' })).toBeUndefined();
    expect(other.remember('/mnt/one', { ...IDENTITY, fileSystem: 'cd' })).toBeUndefined();
    expect(one.remember('/mnt/two', undefined)).toBeUndefined();
    expect(one.remember('/mnt/one', IDENTITY)).toBeUndefined();
    expect(one.remember('/mnt/two', { ...IDENTITY, fileSystem: 'cd' })).toEqual({
      mount: '/mnt/one',
      identity: IDENTITY,
    });
    expect(statSync(one.file).mode & 0o777).toBe(0o600);
    expect(Object.keys(JSON.parse(readFileSync(one.file, 'utf8')))).toEqual(['/other', '/one']);
  });

  test('is bounded, and begins anew where the file is none of ours', () => {
    for (let n = 0; n < 60; n++) memoryOf(`/${n}`).remember('/mnt', IDENTITY);
    const { file } = memoryOf('/x');
    expect(Object.keys(JSON.parse(readFileSync(file, 'utf8'))).length).toBeLessThanOrEqual(50);
    for (const rubbish of ['{', 'null', 'x'.repeat(100_000)]) {
      writeFileSync(file, rubbish);
      memoryOf('/x').remember('/mnt', IDENTITY);
      expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ '/x': { mount: '/mnt', identity: IDENTITY } });
    }
  });
});
