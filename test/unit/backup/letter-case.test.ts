import { describe, expect, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deletingFirst, foldingBy, foldingOf } from '../../../src/backup/letter-case.ts';
import { deletesLast } from '../../../src/backup/receiver-options.ts';
import { scratch } from '../service/scratch.ts';

describe('whether a directory takes names for one that differ in letter case only', () => {
  test('is known by names that are there in the other case, too', () => {
    const folds = (path: string) => ['/d/Foo', '/d/bar'].some((it) => it.toLowerCase() === path.toLowerCase());
    const tells = (path: string) => ['/d/Foo', '/d/foo', '/d/fOO', '/d/bar'].includes(path);
    expect(foldingBy(['/d/Foo', '/d/bar'], folds)).toBe('yes');
    expect(foldingBy(['/d/Foo', '/d/bar'], tells)).toBe('no');
    expect(foldingBy(['/d/gone', '/d/bar'], folds)).toBe('yes');
    expect(foldingBy([], folds)).toBe('unknown');
  });

  test('is found out from the tree as far down as there are no letters', () => {
    using directory = scratch();
    const { path } = directory;
    expect(foldingOf(path)).toBe('unknown');
    for (const name of ['2024', '2025/01']) mkdirSync(join(path, name), { recursive: true });
    expect(foldingOf(path)).toBe('unknown');
    writeFileSync(join(path, '2025', '01', 'Report'), '');
    expect(foldingOf(path)).toBe('no');
    expect(foldingOf(join(path, 'missing'))).toBe('unknown');
  });

  test('decides when rsync deletes, and nothing else', () => {
    const options = ['-logDtpre.iLsfxCIvu', '--delete-after', '--delete-delay', '--delay-updates', '--delete-excluded'];
    expect(deletesLast(options)).toBe(true);
    const first = ['-logDtpre.iLsfxCIvu', '--delete-during', '--delete-during', '--delay-updates', '--delete-excluded'];
    expect(deletingFirst(options)).toEqual(first);
    expect(deletesLast(first)).toBe(false);
  });
});
