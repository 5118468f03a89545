import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { newRoomSurvey, type Room, shortageOf } from '../../../src/backup/room.ts';
import { mayHaveNamespace, Namespace } from '../../namespace.ts';
import { isRoot } from '../../pair.ts';
import { ROOT } from '../../project.ts';
import { scratch } from '../service/scratch.ts';

const GB = 1_000_000_000;

describe('what there is too little of', () => {
  test.each<[ReturnType<typeof shortageOf>, { size: number; bytes: number; files: number | null }, string]>([
    [undefined, { size: 100 * GB, bytes: GB, files: 1000 }, ''],
    [undefined, { size: 100 * GB, bytes: GB, files: null }, ''],
    ['nearly_full', { size: 100 * GB, bytes: 99_000_000, files: 1000 }, ''],
    [undefined, { size: GB, bytes: 99_000_000, files: 1000 }, ''],
    ['nearly_full', { size: GB, bytes: 9_000_000, files: 1000 }, ''],
    ['full', { size: GB, bytes: 999_999, files: 1000 }, ''],
    ['full', { size: GB, bytes: GB, files: 1000 }, 'ENOSPC'],
    ['no_files', { size: GB, bytes: GB, files: 0 }, ''],
    ['no_files', { size: GB, bytes: GB, files: 0 }, 'ENOSPC'],
    ['quota', { size: GB, bytes: GB, files: 1000 }, 'EDQUOT'],
    ['read_only', { size: GB, bytes: 0, files: 0 }, 'EROFS'],
  ])('%s: %o %s', (shortage, figures, refusal) => expect(shortageOf(figures, refusal)).toBe(shortage));
});

test('a directory at rest stays as it is', async () => {
  using directory = scratch();
  const { mtimeMs } = statSync(directory.path);
  const survey = newRoomSurvey(directory.path);
  for (let look = 0; look < 3; look++) expect(await survey()).toMatchObject({ writable: true, shortage: null });
  expect(statSync(directory.path).mtimeMs).toBe(mtimeMs);
  expect(readdirSync(directory.path)).toEqual([]);
  expect(await newRoomSurvey(join(directory.path, 'none'))()).toMatchObject({
    ...{ writable: false, size_bytes: null, shortage: null },
  });
});

describe.skipIf(!isRoot || !mayHaveNamespace())('a file system of its own', () => {
  /** Looks at a directory before and after something is done to it. */
  async function look(options: string, script: string): Promise<Room[]> {
    using directory = scratch();
    await using namespace = await Namespace.make();
    chmodSync(directory.path, 0o755);
    mkdirSync(join(directory.path, 'disk'), { mode: 0o777 });
    namespace.run('mount -t tmpfs -o "$1" tmpfs "$2"', `mode=777,${options}`, join(directory.path, 'disk'));
    const code = `
      import { newRoomSurvey } from '${ROOT}/src/backup/room.ts';
      import { spawnSync } from 'node:child_process';
      const survey = newRoomSurvey('${directory.path}/disk/');
      const before = await survey();
      spawnSync('sh', ['-c', ${JSON.stringify(script)}], { cwd: '${directory.path}' });
      console.log(JSON.stringify([before, await survey()]));`;
    writeFileSync(join(directory.path, 'look.ts'), code);
    const [command = '', ...args] = [...namespace.wrapper, process.execPath, 'run', join(directory.path, 'look.ts')];
    const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (!stdout) throw new Error(stderr);
    return JSON.parse(stdout);
  }

  test('without inodes is seen to have none', async () => {
    const [before, after] = await look('size=20m,nr_inodes=30', 'for i in $(seq 40); do : >disk/$i; done');
    expect(before).toMatchObject({ writable: true, free_files: expect.any(Number), shortage: null });
    expect(after).toMatchObject({ writable: true, free_files: 0, shortage: 'no_files' });
  });

  test('that is full is seen to be', async () => {
    const [before, after] = await look('size=20m', 'head -c 30m /dev/zero >disk/file');
    expect(before).toMatchObject({ size_bytes: 20 * 1024 ** 2, shortage: null });
    expect(after).toMatchObject({ writable: true, free_bytes: 0, size_bytes: 20 * 1024 ** 2, shortage: 'full' });
  });

  test('that becomes read-only is seen to be', async () => {
    const [before, after] = await look('size=20m', 'mount -o remount,ro "$PWD/disk"');
    expect(before?.writable).toBe(true);
    expect(after).toMatchObject({ writable: false, shortage: 'read_only' });
  });
});
