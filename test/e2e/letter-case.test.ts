import { expect, setDefaultTimeout, test } from 'bun:test';
import { readdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from 'node:fs';
import { exfatAt, mayHaveExfat } from '../exfat.ts';
import { Pair } from '../pair.ts';
import { count, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

/** Whether the backup has these names, and a file holds what it should. */
function holds(pair: Pair, names: string[], [name, content]: [name: string, content: string]): true {
  expect(readdirSync(pair.path('backup')).sort()).toEqual(names);
  expect(readFileSync(pair.path('backup', name), 'utf8')).toBe(content);
  return true;
}

test.skipIf(!mayHaveExfat).each(['--delete', '--delete-after', '--delete-delay'])(
  'a file that is renamed in letter case only is kept where the backup tells no case, with %s',
  async (option) => {
    await using pair = await Pair.withKeys('letter-case');
    using _ = exfatAt(pair.path('backup'));
    const write = (name: string) => {
      writeFileSync(pair.path('source', name), name);
      utimesSync(pair.path('source', name), 1e9, 1e9);
    };
    for (const name of ['First', 'Second', 'Third', 'same']) write(name);
    const env = { RSYNC_OPTS: `-rt ${option}`, SYNC_INTERVAL: '0', RENAME_ON_TARGET: 'false' };
    const { source, backup } = await pair.run(env);
    expect(readdirSync(pair.path('backup')).sort()).toEqual(['First', 'Second', 'Third', 'same']);
    renameSync(pair.path('source', 'First'), pair.path('source', 'first'));
    await eventually(() => holds(pair, ['Second', 'Third', 'first', 'same'], ['first', 'First']));
    await source.stop();
    renameSync(pair.path('source', 'Second'), pair.path('source', 'second')); // a comparison of all finds that
    const again = pair.start('rsync-inotify', { ...env, RENAME_ON_TARGET: 'true' });
    await again.shows('✓ 服务运行中');
    holds(pair, ['Third', 'first', 'same', 'second'], ['second', 'Second']);
    renameSync(pair.path('source', 'Third'), pair.path('source', 'third'));
    await eventually(() => holds(pair, ['first', 'same', 'second', 'third'], ['third', 'Third']));
    expect(count(backup.output, '按 --delete-during 执行')).toBe(option === '--delete' ? 0 : 1);
  },
);
