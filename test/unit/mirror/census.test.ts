import { describe, expect, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Census } from '../../../src/mirror/census.ts';
import { scratch, standIn } from '../service/scratch.ts';

describe('a census', () => {
  test('counts files, directories and names with line ends once, and not the directory itself', async () => {
    using directory = scratch();
    const census = async () => new Census(directory.path, []).total;
    expect(await census()).toBe(0);
    mkdirSync(join(directory.path, 'a', 'b'), { recursive: true });
    for (const name of ['x', 'two\nlines', 'a/y', 'a/b/.hidden']) writeFileSync(join(directory.path, name), '');
    expect(await census()).toBe(6);
  });

  test('says that there are so many before it has seen all, and that there are not', async () => {
    using directory = scratch();
    for (let n = 0; n < 3000; n++) writeFileSync(join(directory.path, `${n}`), '');
    const census = new Census(directory.path, []);
    expect(await Promise.all([100, 3000, 3001].map((count) => census.reaches(count)))).toEqual([true, true, false]);
    expect(await census.reaches(-5)).toBe(true);
    expect(await census.total).toBe(3000);
  });

  test('that was stopped knows no total', async () => {
    using directory = scratch();
    for (let n = 0; n < 100; n++) writeFileSync(join(directory.path, `${n}`), '');
    const census = new Census(directory.path, []);
    expect(await census.reaches(50)).toBe(true);
    census.stop();
    expect(await census.total).toBeUndefined();
  });

  test('knows nothing of a directory that is not there', async () => {
    const census = new Census('/no/such/directory', []);
    expect(await census.total).toBeUndefined();
    expect(await census.reaches(1)).toBe(false);
  });

  test('gives up on a file system that does not answer', async () => {
    using directory = scratch();
    using _ = standIn('find', directory.path, 'printf ".\\0a\\0"; sleep 60');
    const census = new Census('/', [], 300);
    expect(await census.reaches(1)).toBe(true);
    expect(await census.reaches(2)).toBe(false);
    expect(await census.total).toBeUndefined();
  });

  test('knows no total where the counting was killed', async () => {
    using directory = scratch();
    using _ = standIn('find', directory.path, 'printf ".\\0a\\0b\\0"; kill -9 $$');
    const census = new Census('/', []);
    expect(await census.reaches(2)).toBe(true);
    expect(await census.total).toBeUndefined();
  });
});
