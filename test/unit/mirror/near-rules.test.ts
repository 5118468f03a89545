import { expect, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isNearRules } from '../../../src/mirror/near-rules.ts';
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
  ['-aF -L', false],
  ["-a -f ': .rsync-filter'", false],
])('under %s, a list is enough where none is near: %p', (RSYNC_OPTS, isEnough) => {
  const plan = planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true });
  expect(plan.unruled !== undefined).toBe(isEnough);
});
