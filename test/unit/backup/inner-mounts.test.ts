import { describe, expect, test } from 'bun:test';
import { mountsWithin } from '../../../src/backup/inner-mounts.ts';

const line = (id: number, parent: number, device: string, root: string, path: string, type = 'ext4', options = 'rw') =>
  `${id} ${parent} ${device} ${root} ${path} ${options} - ${type} /dev/x rw`;
const OUTSIDE = [line(20, 1, '8:1', '/', '/'), line(21, 20, '8:2', '/', '/backup'), line(22, 20, '8:3', '/', '/other')];
const within = (...lines: string[]) => mountsWithin([...OUTSIDE, ...lines].join('\n'), '/backup');
const DISK = line(30, 21, '8:17', '/', '/backup/disk');

describe('what is mounted below DEST_DIR', () => {
  test('is neither what it is mounted on itself nor what lies outside', () => {
    expect(within()).toEqual([]);
    expect(within(DISK)).toHaveLength(1);
    expect(within(line(40, 20, '8:5', '/', '/backup-beside'))).toEqual([]);
  });

  test.each<[string, string]>([
    ['another device that has got the same number of a mount', line(30, 21, '8:33', '/', '/backup/disk')],
    ['the same device mounted anew', line(31, 21, '8:17', '/', '/backup/disk')],
    ['another part of it', line(30, 21, '8:17', '/part', '/backup/disk')],
    ['another place', line(30, 21, '8:17', '/', '/backup/moved')],
  ])('is something else with %s', (_, other) => {
    expect(within(other)).not.toEqual(within(DISK));
    expect(within(other)).toHaveLength(1);
  });

  test('stays what it is where it becomes read-only, or others come and go elsewhere', () => {
    const readOnly = line(30, 21, '8:17', '/', '/backup/disk', 'ext4', 'ro');
    expect(within(readOnly, line(50, 20, '8:6', '/', '/more'))).toEqual(within(DISK));
  });

  test('is nothing that comes by itself when somebody looks', () => {
    const waiting = line(30, 21, '0:40', '/', '/backup/auto', 'autofs');
    expect(within(waiting)).toEqual([]);
    expect(within(waiting, line(31, 30, '8:17', '/', '/backup/auto'))).toEqual([]);
    expect(within(waiting, line(31, 30, '8:17', '/', '/backup/auto/key'))).toEqual([]);
  });

  test('is what can be seen of it', () => {
    expect(within(DISK, line(31, 21, '8:18', '/', '/backup'))).toEqual([]);
    expect(within(DISK, line(31, 30, '8:18', '/', '/backup/disk'))).toHaveLength(1);
  });
});
