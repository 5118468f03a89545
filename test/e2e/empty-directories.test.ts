/** --prune-empty-dirs: directories without any file below them are not on the backup, and a change costs what it weighs. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Pair } from '../pair.ts';
import { eventually, type Program } from '../processes.ts';

setDefaultTimeout(120_000);

function write(pair: Pair, ...names: string[]): void {
  for (const name of names) {
    mkdirSync(dirname(pair.path('source', name)), { recursive: true });
    writeFileSync(pair.path('source', name), name);
  }
}

/** How many entries each rsync has looked at. */
const looked = (source: Program) =>
  [...source.output.matchAll(/^Number of files: ([\d,]+)/gm)].map(([, n]) => Number(n?.replaceAll(',', '')));

test('what becomes empty goes from the backup, and what is new and empty does not get there', async () => {
  await using pair = await Pair.withKeys('empty-directories');
  const isOnBackup = (name: string) => existsSync(pair.path('backup', name));
  const arrives = (name: string) => eventually(() => isOnBackup(name));
  const goes = (name: string) => eventually(() => !isOnBackup(name));
  write(pair, ...Array.from({ length: 50 }, (_, n) => `web/${n}`), 'a/b/c/file', 'a/top', 'd/e/f', 'moved/x');
  mkdirSync(pair.path('source', 'a/empty/at/first'), { recursive: true });
  const RSYNC_OPTS = '-am --delete --stats';
  const { source } = await pair.run({ SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0', RSYNC_OPTS });
  await pair.deletesByName('web'); // the first full sync is over, and so is what was in doubt
  const before = looked(source).length;
  mkdirSync(pair.path('source', 'a/new/and/empty'), { recursive: true });
  mkdirSync(pair.path('source', 'empty'));
  rmSync(pair.path('source', 'd/e/f'));
  await goes('d');
  rmSync(pair.path('source', 'a/b/c/file'));
  await goes('a/b');
  renameSync(pair.path('source', 'moved/x'), pair.path('source', 'web/x'));
  await goes('moved');
  write(pair, 'web/last', 'a/empty/at/last');
  await arrives('web/last');
  await arrives('a/empty/at/last');
  for (const name of ['a/new', 'a/empty/at/first', 'empty', 'd', 'a/b', 'moved']) expect(isOnBackup(name)).toBe(false);
  for (const name of ['a/top', 'web/1', 'web/x']) expect(isOnBackup(name)).toBe(true);
  await eventually(() => looked(source).length > before + 3); // it says so once the files are there
  expect(Math.max(...looked(source).slice(before))).toBeLessThan(20);
});
