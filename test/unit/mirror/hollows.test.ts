import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { readRules } from '../../../src/mirror/filter-rules.ts';
import { Hollows } from '../../../src/mirror/hollows.ts';
import { parseOptions } from '../../../src/mirror/rsync-options.ts';
import { scratch } from '../service/scratch.ts';

/** Makes a tree: what ends with a slash is a directory, with an @ a link, the rest are files. */
function make(root: string, paths: readonly string[]): void {
  for (const path of paths) {
    const place = join(root, path);
    mkdirSync(path.endsWith('/') ? place : dirname(place), { recursive: true });
    if (path.endsWith('@')) symlinkSync('nowhere', place);
    else if (!path.endsWith('/')) writeFileSync(place, '');
  }
}

describe('a directory counts as if it were not there', () => {
  test('where no file is below it, and those above it that hold nothing else', () => {
    using directory = scratch();
    make(directory.path, ['a/b/c/', 'a/b/d/', 'a/e/f', 'links/l@', 'top']);
    const hollows = new Hollows(`${directory.path}/`, { prefix: '/' });
    expect(hollows.topmost('a/b/c')).toBe('a/b');
    expect(hollows.topmost('a/b/gone/too')).toBe('a/b');
    for (const path of ['a', 'a/e', 'links', '']) expect(hollows.topmost(path)).toBeUndefined();
    expect(hollows.mayHoldHollow('a')).toBe(true);
    expect(hollows.mayHoldHollow('')).toBe(false);
  });

  test('but that is not said where something is hidden, for its copy stays, or there is too much to look at', () => {
    using directory = scratch();
    make(directory.path, ['a/b/c/', 'top', 'filled/hidden/x', 'filled/y', 'much/']);
    for (let n = 0; n <= 20; n++) mkdirSync(join(directory.path, 'much', `${n}`));
    const isHidden = (it: string) => it === 'a/b/c' || it === 'filled/hidden';
    const hollows = new Hollows(`${directory.path}/`, { prefix: '/', isHidden }, 20);
    expect(hollows.fillingOf('a/b')).toBe('unsure');
    expect(hollows.topmost('a/b')).toBe('');
    expect(hollows.topmost('filled')).toBeUndefined();
    expect(hollows.fillingOf('much')).toBe('unsure');
  });

  const name = fc.constantFrom('a', 'b', 'c', 'x.tmp');
  const path = fc
    .tuple(fc.array(name, { minLength: 1, maxLength: 4 }), fc.constantFrom('/', '/', '/', '', '@'))
    .map(([names, end]) => `${names.map((it) => `d${it}`).join('/')}/${end === '/' ? '' : `f${names[0]}${end}`}`);
  const pattern = fc
    .tuple(fc.constantFrom('', '/'), fc.constantFrom('da', 'db', 'da/db', 'dc/*', 'f*', '*.tmp', 'fa', '*'))
    .map((parts) => parts.join(''));
  const kinds = [
    '--exclude=',
    '--include=',
    '--filter=P ',
    '--filter=H ',
    '--filter=R ',
    '--filter=-s ',
    '--filter=-r ',
  ];
  const rule = fc.tuple(fc.constantFrom(...kinds), pattern, fc.constantFrom('', '/')).map((parts) => parts.join(''));

  test('as rsync itself sees it, whatever filters say', () => {
    fc.assert(
      fc.property(
        fc.array(path, { minLength: 1, maxLength: 8 }),
        fc.array(rule, { maxLength: 3 }),
        fc.constantFrom('--delete', '--delete-excluded'),
        (paths, rules, deleting) => {
          using directory = scratch();
          const [source, target] = [join(directory.path, 's'), join(directory.path, 't')];
          mkdirSync(source);
          make(source, [...new Set(paths)]);
          const { status } = spawnSync('rsync', ['-am', deleting, ...rules, `${source}/`, `${target}/`]);
          expect(status).toBe(0);
          const filters = readRules(parseOptions([deleting, ...rules]));
          const hollows = new Hollows(`${source}/`, { prefix: '/', filters });
          const below = (parent: string): string[] => {
            const { stdout } = spawnSync('find', [
              join(source, parent),
              '-mindepth',
              '1',
              '-maxdepth',
              '1',
              '-type',
              'd',
            ]);
            return `${stdout}`
              .split('\n')
              .filter(Boolean)
              .map((it) => it.slice(source.length + 1))
              .filter((it) => !filters?.isHidden(it, true))
              .flatMap((it) => [it, ...below(it)]);
          };
          for (const it of below(''))
            expect([it, hollows.fillingOf(it)]).toEqual([it, existsSync(join(target, it)) ? 'filled' : 'hollow']);
        },
      ),
      { numRuns: 60 },
    );
  }, 60_000);
});
