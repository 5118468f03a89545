import { describe, expect, test } from 'bun:test';
import { chmodSync, writeFileSync } from 'node:fs';
import { watchable } from '../../../src/mirror/watchable.ts';
import { eventually } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog, startedFromNow } from './stand-ins.ts';

describe('inotifywait', () => {
  test('may watch files but for some, which are told, and goes on to run for none of it', async () => {
    using directory = scratch();
    using log = keepLog();
    const programs = startedFromNow();
    const paths = ['one', 'none', 'new\nline', 'gone\nline', '-e', '@x'].map((name) => `${directory.path}/${name}`);
    for (const path of paths) if (!/none|gone/.test(path)) writeFileSync(path, '');
    expect(await watchable(paths)).toEqual(paths.filter((path) => !/none|gone/.test(path)));
    expect(log.text).toContain(`Couldn't watch ${directory.path}/none: No such file or directory\n`);
    expect(log.text).toContain('gone\\nline: No such file');
    expect(await watchable([])).toEqual([]);
    await eventually(() => programs().length === 0);
  });

  test.skipIf(process.getuid?.() === 0)('may not watch what we may not read', async () => {
    using directory = scratch();
    using _ = keepLog();
    const path = `${directory.path}/secret`;
    writeFileSync(path, '');
    chmodSync(path, 0);
    expect(await watchable([path])).toEqual([]);
  });
});
