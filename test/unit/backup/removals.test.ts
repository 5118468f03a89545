import { describe, expect, test } from 'bun:test';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Removals } from '../../../src/backup/removals.ts';
import { PLACE } from '../../../src/backup/renames.ts';
import { scratch } from '../service/scratch.ts';

/** Has things deleted below a directory. */
function within(root: string, typeOf?: () => number) {
  const place = openSync(root, PLACE);
  return { removals: new Removals(place, undefined, typeOf), [Symbol.dispose]: () => closeSync(place) };
}

describe('what is deleted by name', () => {
  test('is that and nothing else, and counted', () => {
    using directory = scratch();
    const at = (...names: string[]) => join(directory.path, ...names);
    mkdirSync(at('d', 'e', 'f'), { recursive: true });
    for (const name of ['a', 'd/b', 'd/e/c']) writeFileSync(at(name), '');
    symlinkSync('d', at('link'));
    symlinkSync('..', at('d', 'up'));
    using it = within(directory.path, () => 0xef53);
    const { removals } = it;
    expect(removals.remove('a', 'file', 10)).toEqual({ removed: 1, isDone: true });
    expect(removals.remove('a', 'file', 10)).toEqual({ removed: 0, isDone: true });
    expect(removals.remove('no/a', 'file', 10)).toEqual({ removed: 0, isDone: true });
    for (const [path, kind] of [
      ['d', 'file'],
      ['link', 'directory'],
      ['link/b', 'file'],
      ['d/up/d', 'directory'],
      ['d/../d', 'directory'],
      ['', 'directory'],
    ] as const)
      expect(removals.remove(path, kind, 10)).toEqual({ removed: 0, isDone: false });
    expect(removals.remove('d/b', 'file', 0)).toEqual({ removed: 0, isDone: false });
    const some = removals.remove('d', 'directory', 3);
    expect(some).toEqual({ removed: 3, isDone: false });
    expect(removals.remove('d', 'directory', 10)).toEqual({ removed: 3, isDone: true });
    expect(readdirSync(directory.path)).toEqual(['link']);
  });

  test('is nothing where a file system may take two names for one', () => {
    using directory = scratch();
    writeFileSync(join(directory.path, 'a'), '');
    using it = within(directory.path, () => 0x4d44); // FAT
    expect(it.removals.remove('a', 'file', 10)).toEqual({ removed: 0, isDone: false });
    expect(existsSync(join(directory.path, 'a'))).toBe(true);
  });

  test('is nothing that is there under another case or form of its name as well', async () => {
    const { linkSync } = await import('node:fs');
    using directory = scratch();
    using it = within(directory.path, () => 0xef53);
    for (const [name, other] of [
      ['Mixed', 'mIXED'],
      ['lower', 'LOWER'],
      ['\u00e9', 'e\u0301'],
      ['\u00fc', '\u00dc'],
    ] as const) {
      writeFileSync(join(directory.path, name), '');
      linkSync(join(directory.path, name), join(directory.path, other)); // as a directory shows it that folds names
      const path = Buffer.from(name).toString('latin1');
      expect(it.removals.remove(path, 'file', 10)).toEqual({ removed: 0, isDone: false });
    }
  });
});
