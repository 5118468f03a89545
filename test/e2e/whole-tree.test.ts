import { expect, setDefaultTimeout, test } from 'bun:test';
import { chmodSync, mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { Pair } from '../pair.ts';
import { count } from '../processes.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

test('a tree of thousands of files is compared by two rsyncs, which leave it as one does', async () => {
  await using pair = await Pair.withKeys('parts');
  const make = (side: string, name: string, files: number) => {
    mkdirSync(pair.path(side, name), { recursive: true });
    for (let n = 0; n < files; n++) writeFileSync(pair.path(side, name, `${n}`), name);
  };
  for (let n = 0; n < 52; n++) make('source', `all/in-${n}`, 100);
  for (const name of ['all/in-7', 'all/gone-1', 'all/gone-2', 'gone']) make('backup', `${name}/before`, 2);
  chmodSync(pair.path('source', 'all', 'in-3'), 0o750);
  for (const name of ['all/in-3', 'all/in-4', 'all', '.'])
    utimesSync(pair.path('source', name), 1_000_000_000, 1_000_000_000);

  const { source } = await pair.run();
  expectEqual(pair.path('source'), pair.path('backup'));
  const rsyncs = count(source.output, 'sending incremental file list');
  expect(rsyncs).toBe(availableParallelism() > 1 ? 3 : 1); // directories were deleted, which may be some of the other one's
  await source.stop();

  for (const n of [1, 2, 3]) rmSync(pair.path('source', `all/in-${n}`), { recursive: true });
  await pair.start('rsync-inotify').shows('✓ 服务运行中');
  expectEqual(pair.path('source'), pair.path('backup'));
});
