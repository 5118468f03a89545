import { expect, test } from 'bun:test';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isAtRisk, isNearRules } from '../../../src/mirror/near-rules.ts';
import { planFor } from '../../../src/mirror/options.ts';
import type { Scope } from '../../../src/mirror/scopes.ts';
import { scratch } from '../service/scratch.ts';

const SCOPES = new Map<string, Scope>([
  ['a/b/file', 'entry'],
  ['a/c/gone', 'gone'],
  ['d/tree', 'tree'],
  ['d/tree/in', 'inside'],
  ['e', 'directory'],
]);

test.each([
  ['', true],
  ['src/', true],
  ['src/a/', true],
  ['src/a/b/', true],
  ['src/a/c/', true],
  ['src/d/tree/', true],
  ['src/d/tree/in/', true],
  ['src/hidden/', true],
  ['src/a/x/', false],
  ['src/d/x/', false],
])('rules in %s are near: %p', (directory, isNear) => {
  using it = scratch();
  const root = `${it.path}/src/`;
  mkdirSync(root);
  const source = { root, realRoot: root.slice(0, -1) };
  expect(isNearRules(source, ['hidden/x'], SCOPES)).toBe(false);
  const path = join(it.path, directory, '.rsync-filter');
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, '');
  expect(isNearRules(source, ['hidden/x'], SCOPES)).toBe(isNear);
});

test('a file of rules is near itself, and so is what is in a directory of that name', () => {
  using it = scratch();
  const source = { root: `${it.path}/`, realRoot: it.path };
  for (const path of ['.rsync-filter', 'a/.rsync-filter', '.rsync-filter/a'])
    expect(isNearRules(source, [path], new Map())).toBe(true);
});

test.each([
  ['-a', false],
  ['-aF --delete', true],
  ['-aFF --exclude=x', true],
  ['-aF --delay-updates', true],
  ['-aF --exclude-from=/x', false],
  ['-aF -C', false],
  ['-aF --filter=! --exclude=x', false],
  ['-a --exclude=! -F', false],
  ['-aF --exclude=!x', true],
  ['-aF -L', false],
  ["-a -f ': .rsync-filter'", false],
])('under %s, a list is enough where none is near: %p', (RSYNC_OPTS, isEnough) => {
  const plan = planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true });
  expect(plan.unruled !== undefined).toBe(isEnough);
});

test.each([
  ['- *.tmp\n+ /risk\n# R x\n\n!\nhide,! y\n', false],
  ['- *.tmp\nR x\n', true],
  ['risk x', true],
  ['+r x', true],
  ['. other', true],
  ['what nobody knows', true],
])('rules %j beside or above let rsync delete what rules behind them leave out: %p', (content, isRisky) => {
  using it = scratch();
  const root = `${it.path}/é/`;
  const source = { root: Buffer.from(root).toString('latin1') };
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'a/b/file'), '');
  for (const [directory, isOnTheWay] of Object.entries({ '': true, 'a/b/': true, 'e/': true, 'a/x/': false })) {
    const path = join(root, directory, '.rsync-filter');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    expect(isAtRisk(source, SCOPES)).toBe(isRisky && isOnTheWay);
    rmSync(path);
    expect(isAtRisk(source, SCOPES)).toBe(false);
  }
});
