import { beforeEach, describe, expect, test } from 'bun:test';
import { chmodSync, linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import { LargeFiles, mayGoBeside } from '../../../src/mirror/large-files.ts';
import { parseWords, planFor } from '../../../src/mirror/options.ts';
import { Source } from '../../../src/mirror/source.ts';
import { scratch } from '../service/scratch.ts';
import { change } from './stand-ins.ts';

describe('files go beside others', () => {
  test.each(['-avz --delete', '-a', '-rt --delete-after', "-av --exclude='*.tmp' --timeout=5", '-rlptgoD'])(
    'with %p',
    (words) => {
      expect(mayGoBeside(parseWords(words))).toBe(true);
    },
  );
  test.each([
    ...[
      '--bwlimit=100',
      '-H',
      '--delay-updates',
      '--partial-dir=.p',
      '--append',
      '--inplace',
      '-P',
      '--partial',
      '-b',
      '-u',
    ],
    ...[
      '-x',
      '-c',
      '-I',
      '--size-only',
      '--ignore-existing',
      '--existing',
      '-T /tmp',
      '--fuzzy',
      '-R',
      '--log-file=/l',
      '--no-t',
      '--modify-window=1',
    ],
  ])('not with %p', (option) => {
    expect(mayGoBeside(parseWords(`-a ${option}`))).toBe(false);
  });
  test('not where their times are not kept, by which it is known that they are there', () => {
    expect(mayGoBeside(parseWords('-rl --delete'))).toBe(false);
  });
});

/** Large are 1000 bytes, and 4000 where no pace was seen. */
const LEAST = 1000;
const SENT: Partial<Change> = { kind: 'close_write' };

describe('a file is large', () => {
  let root: ReturnType<typeof scratch>;
  let large: LargeFiles;
  let isReady = true;
  beforeEach(() => {
    root = scratch();
    isReady = true;
    large = largeFor('-a --delete');
  });

  function largeFor(options: string): LargeFiles {
    const plan = planFor({ RSYNC_OPTS: options, SSH_OPTS: '', RENAME_ON_TARGET: true });
    return new LargeFiles({ plan, source: new Source(`${root.path}/`), isReady: () => isReady }, LEAST);
  }

  function make(path: string, size: number): string {
    mkdirSync(dirname(join(root.path, path)), { recursive: true });
    writeFileSync(join(root.path, path), Buffer.alloc(size));
    return join(root.path, path);
  }

  const found = (path: string, known: Partial<Change> = {}, of = large) =>
    [...of.find(new Map([[path, change({ ...SENT, ...known })]])).keys()].length > 0;
  const batchOf = (...paths: string[]): Batch => new Map(paths.map((path) => [path, change(SENT)]));

  test('that takes longer than a second at the pace of the slowest of the last syncs', () => {
    make('a', 3999);
    make('b', 4000);
    expect([found('a'), found('b')]).toEqual([false, true]);
    large.note(batchOf('b'), 2); // 2000 bytes a second
    expect(found('a')).toBe(true);
    make('c', 1999);
    expect(found('c')).toBe(false);
    large.note(batchOf('b'), 0.01);
    expect(found('a')).toBe(true);
    for (let n = 0; n < 4; n++) large.note(batchOf('b'), 0.1); // 40,000
    expect(found('b')).toBe(false);
    large.note(batchOf('b'), 1000); // next to nothing, but what is small holds nothing up
    make('d', 999);
    expect([found('c'), found('d')]).toEqual([true, false]);
  });

  test('and not where only its attributes have changed, or it is small, does that say anything of the pace', () => {
    make('b', 4000);
    large.note(new Map([['b', change({ kind: 'attrib' })]]), 1000);
    make('c', 10);
    large.note(batchOf('c'), 1000);
    make('a', 3999);
    expect(found('a')).toBe(false);
  });

  test('if it is a plain file with one name, in directories that may be written to', () => {
    make('dir/a', 5000);
    expect(found('dir/a')).toBe(true);
    for (const known of [{ tree: true }, { hidden: true }, { isDirectory: true }])
      expect(found('dir/a', known)).toBe(false);
    symlinkSync('dir', join(root.path, 'link'));
    for (const path of ['dir', 'link', 'link/a', 'gone', '']) expect(found(path)).toBe(false);
    chmodSync(join(root.path, 'dir'), 0o500);
    expect(found('dir/a')).toBe(false);
    chmodSync(join(root.path, 'dir'), 0o700);
    linkSync(join(root.path, 'dir/a'), join(root.path, 'other'));
    expect(found('dir/a')).toBe(false);
  });

  test('unless only its content may tell it from what the target has', () => {
    const path = make('a', 5000);
    utimesSync(path, 500, 500);
    expect(found('a', { dated: 499_000 })).toBe(true);
    expect(found('a', { dated: 500_000 })).toBe(false);
  });

  test('that filters let in, and that does not hold them', () => {
    const rules = make('rules', 0);
    writeFileSync(rules, `# ${'x'.repeat(5000)}\n- *.tmp\n`);
    make('a.tmp', 5000);
    make('a', 5000);
    const filtered = largeFor(`-a --delete --exclude-from=${rules}`);
    expect(['a', 'a.tmp', 'rules'].map((path) => found(path, {}, filtered))).toEqual([true, false, false]);
  });

  test('where options allow it, the batch is not too long, and all is well', () => {
    make('a', 5000);
    for (const options of ['-aH --delete', '-aF --delete', '-a --inplace'])
      expect(found('a', {}, largeFor(options))).toBe(false);
    const names = Array.from({ length: 1000 }, (_, n) => `${n}`);
    expect(large.find(batchOf('a', ...names)).size).toBe(0);
    isReady = false;
    expect(found('a')).toBe(false);
  });
});
