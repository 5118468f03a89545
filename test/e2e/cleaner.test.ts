import { expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pair } from '../pair.ts';
import { count, eventually } from '../processes.ts';

setDefaultTimeout(90_000);

/** Removes all that lies in a directory, as systemd-tmpfiles or tmpreaper do in /tmp with what is old. */
function clean(directory: string): void {
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
}

test('a source whose temporary directory is cleaned makes its connection anew, and says so once', async () => {
  await using pair = await Pair.withKeys('cleaner');
  const TMPDIR = pair.path('tmp');
  mkdirSync(TMPDIR);
  const { source } = await pair.run({ TMPDIR, SYNC_INTERVAL: '0' });
  expect(readdirSync(TMPDIR).length).toBe(1);
  clean(TMPDIR);
  await source.shows('SSH 连接已恢复');
  for (const name of ['one', 'two', 'three']) {
    writeFileSync(pair.path('source', name), name);
    await pair.isMirrored();
  }
  expect(count(source.output, `${TMPDIR}/`)).toBe(1);
  expect(source.output).toContain('被删除，例如被清理临时文件的程序，正在重新连接...');
  expect(source.output).not.toMatch(/同步失败|log-file/);
  expect(await source.stop()).toBe(0);
  await eventually(() => readdirSync(TMPDIR).length === 0);
});
