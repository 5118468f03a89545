/** Large files on a slow line: what changes meanwhile is mirrored beside them, and what might touch them afterwards. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { Relay } from '../../bench/relay.ts';
import { Pair, theOnly, watchersOf } from '../pair.ts';
import { eventually } from '../processes.ts';

setDefaultTimeout(240_000);

/** How long all may take until it is mirrored, ms: the machine may be busy, too. */
const MIRRORED_MS = 60_000;

const bytesOf = (length: number) => {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
};

test('a large file holds nothing up, and is mirrored as it is in the end', async () => {
  await using pair = await Pair.withKeys('beside');
  await using relay = await Relay.to(pair.port, { delayMs: 5, bytesPerSecond: 1_500_000 });
  const at = (path: string) => pair.path('source', path);
  const there = (path: string) => pair.path('backup', path);
  mkdirSync(at('dir/inner'), { recursive: true });
  const env = { SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0', RSYNC_OPTS: '-a --delete', SSH_OPTS: `-p ${relay.port}` };
  const { source } = await pair.run(env);
  const isOnItsWay = (path: string) => {
    const directory = there(dirname(path));
    return existsSync(directory) && readdirSync(directory).some((it) => it.startsWith(`.${basename(path)}.`));
  };
  const send = async (path: string, length: number) => {
    const bytes = bytesOf(length);
    const watcher = await theOnly(watchersOf, pair);
    process.kill(watcher, 'SIGSTOP'); // or a busy machine would have it sent before it is large
    writeFileSync(at(path), bytes);
    process.kill(watcher, 'SIGCONT');
    await eventually(() => isOnItsWay(path));
  };
  /** Has a small file mirrored, and says whether the large one is still on its way then. */
  const isBeside = async (name: string, large: string) => {
    writeFileSync(at(name), name);
    await eventually(() => existsSync(there(name)) && readFileSync(there(name), 'utf8') === name);
    return isOnItsWay(large);
  };
  writeFileSync(at('medium'), bytesOf(1_500_000)); // it shows the pace
  await pair.isMirrored(MIRRORED_MS);

  await send('large', 9_000_000);
  expect(await isBeside('small', 'large')).toBe(true);
  const file = openSync(at('large'), 'r+');
  writeSync(file, 'written a second time');
  closeSync(file);
  await pair.isMirrored(MIRRORED_MS);
  expect(readFileSync(there('large')).equals(readFileSync(at('large')))).toBe(true);

  await send('dir/inner/large', 6_000_000);
  writeFileSync(at('next'), 'next');
  renameSync(at('next'), at('dir/inner/large')); // over it
  await pair.isMirrored(MIRRORED_MS);

  await send('dir/inner/new', 9_000_000); // under a name that no sync may still be about
  rmSync(at('dir/inner'), { recursive: true });
  expect(await isBeside('other', 'dir/inner/new')).toBe(true);
  await pair.isMirrored(MIRRORED_MS);

  await send('last', 40_000_000);
  const started = performance.now();
  await source.stop();
  expect(performance.now() - started).toBeLessThan(8000);
  expect(source.output).toContain('1 处变化尚未同步');
  expect(source.output).not.toContain('同步失败');
});
