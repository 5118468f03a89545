import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { hideRules, listOf, mayReplace, rulesOf, type Scope } from '../../../src/mirror/scopes.ts';
import { scratch } from '../service/scratch.ts';

describe('what rsync is told to look at', () => {
  test('is a name for what is there, its directory for what is gone, and every directory of a tree', () => {
    const scopes = new Map([
      ['a/file', 'entry'],
      ['a/gone', 'gone'],
      ['gone', 'gone'],
      ['new', 'tree'],
      ['new/below', 'inside'],
      ['\xff#', 'entry'],
    ] as const);
    expect(listOf(scopes, '/').toString('latin1').split('\0')).toEqual([
      './a/file',
      './a/',
      './',
      './new/',
      './new/below/',
      './\xff#',
      '',
    ]);
    expect(listOf(new Map([['x', 'gone']] as const), '/source/').toString()).toBe('/source/\0');
  });

  test('names no file of a directory that is listed with what is in it', () => {
    const scopes = new Map([
      ['new/below/file', 'entry'],
      ['new', 'tree'],
      ['new/file', 'entry'],
      ['new/below', 'inside'],
      ['new/below/link/file', 'entry'],
      ['newer', 'entry'],
    ] as const);
    const names = listOf(scopes, '/').toString().split('\0').filter(Boolean);
    expect(names).toEqual(['./new/', './new/below/', './new/below/link/file', './newer']);
  });

  test('goes in by rules of any name, and nothing else does', () => {
    using scratched = scratch();
    const directory = scratched.path;
    const at = (...path: string[]) => Buffer.from(join(directory, ...path), 'latin1');
    const name = fc.string({ unit: fc.constantFrom(...'ab*?[]\\ -+#!\n\xff'), minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 3, maxLength: 3 }), ([top = '', file = '', other = '']) => {
        rmSync(directory, { recursive: true });
        mkdirSync(at('from', top), { recursive: true });
        writeFileSync(at('from', top, file), '');
        writeFileSync(at('from', top, other), '');
        writeFileSync(at('from', 'else'), '');
        const rules = rulesOf(new Map([[`${top}/${file}`, 'entry'] as const]), '/') ?? [];
        spawnSync('rsync', ['-r', ...rules, `${directory}/from/`, `${directory}/to/`]);
        expect(readdirSync(at('to'), 'latin1')).toEqual([top]);
        const copied = readdirSync(at('to', top), 'latin1');
        expect(copied).toContain(file);
        if (!/\xff/.test(file)) expect(copied).toEqual([file]); // a byte that is no ASCII stands for any
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('leaves alone by a rule what any name stands for, and nothing else', () => {
    using scratched = scratch();
    const directory = scratched.path;
    const at = (...path: string[]) => Buffer.from(join(directory, ...path), 'latin1');
    const characters = ['a', '*', '?', '[', ']', '\\', '\\', ' ', '\n', '\xc3\xa9', '\xff'];
    const name = fc.string({ unit: fc.constantFrom(...characters), minLength: 1, maxLength: 4 });
    const names = fc.uniqueArray(name, { minLength: 3, maxLength: 3 });
    fc.assert(
      fc.property(names, fc.constantFrom('', '/***', '/**'), ([hidden = '', ...others], end) => {
        rmSync(directory, { recursive: true });
        mkdirSync(at('to'), { recursive: true });
        for (const it of [hidden, ...others]) {
          mkdirSync(at('from', it), { recursive: true });
          writeFileSync(at('from', it, 'file'), '');
        }
        spawnSync('rsync', ['-r', ...hideRules([hidden], '/', [end]), `${directory}/from/`, `${directory}/to/`]);
        const copied = readdirSync(at('to'), 'latin1');
        expect(copied.includes(hidden)).toBe(end === '/**');
        if (end === '/**') expect(readdirSync(at('to', hidden))).toEqual([]);
        if (!hidden.includes('\xff')) for (const it of others) expect(readdirSync(at('to', it))).toEqual(['file']);
      }),
      { numRuns: 60, examples: ['\xc3\xa9\\', '\xc3\xa9\\\xff', '\\', 'a\\*'].map((it) => [[it, 'a', 'b'], '']) },
    );
  }, 60_000);

  test('is everything when there are too many rules', () => {
    const scopes = (path: string) => new Map([[path, 'entry'] as const]);
    expect(rulesOf(scopes('x'.repeat(300_000)), '/')).toBeUndefined();
  });
});

test.each([
  ['a/b', 'gone', true],
  ['a', 'tree', true],
  ['a/b', 'inside', true],
  ['a/b', 'entry', false],
  ['a', 'directory', false],
  ['ab/c', 'gone', false],
  ['', 'gone', false],
] as [string, Scope, boolean][])('that %p is %s may delete something in a: %p', (path, scope, expected) => {
  expect(mayReplace(new Map([[path, scope]]), ['x', 'a'], [])).toBe(expected);
});

test.each([
  ['d/file', 'entry', true],
  ['d/other', 'gone', true],
  ['d', 'tree', true],
  ['d', 'inside', true],
  ['d/other', 'entry', false],
  ['d', 'directory', false],
  ['d', 'gone', false],
  ['d/e/other', 'gone', false],
  ['', 'gone', false],
] as [string, Scope, boolean][])('that %p is %s may send the file d/file anew: %p', (path, scope, expected) => {
  expect(mayReplace(new Map([[path, scope]]), [], ['d/file'])).toBe(expected);
});

test('what is gone from the top of the source may have a file there sent anew', () => {
  expect(mayReplace(new Map([['other', 'gone']]), [], ['file'])).toBe(true);
});
