/** A file that has come and gone before it was sent costs nothing, whatever the backup is; only the time of its directory follows. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Pair } from '../pair.ts';
import { content, eventually, processesWith } from '../processes.ts';

setDefaultTimeout(120_000);

/** How long the time of a directory may wait, ms. */
const LATER_MS = 10_000;

/** The rsyncs of a pair's source that wait for names, and what its helper was told so far, bytes. */
function lineOf(pair: Pair): string {
  const own = [...processesWith(pair.directory)];
  const waiting = own.filter(([, command]) => command.startsWith('rsync ') && command.includes('--files-from=-'));
  const helper = own.find(([, command]) => command.startsWith('ssh ') && command.includes('--errands'));
  const told = helper ? /^wchar: (\d+)$/m.exec(readFileSync(`/proc/${helper[0]}/io`, 'utf8'))?.[1] : 'none';
  return waiting.length > 0 ? `${waiting.map(([pid]) => pid).sort()} ${told}` : '';
}

test.each(['start-sshd', 'sshd'])('temporary files are nothing to a backup that is %s', async (kind) => {
  await using pair = await Pair.withKeys('temporary');
  const [source, backup] = [
    (name: string) => pair.path('source', 'd', name),
    (name: string) => pair.path('backup', 'd', name),
  ];
  mkdirSync(source(''), { recursive: true });
  for (let n = 0; n < 20; n++) writeFileSync(source(`${n}`), 'old');
  if (kind === 'sshd') await pair.startPlainSshd();
  else pair.start('start-sshd');
  const program = pair.start('rsync-inotify', {
    ...{ RSYNC_OPTS: '-a --delete', SYNC_INTERVAL: '0.5', FULL_SYNC_INTERVAL: '0' },
  });
  await program.shows('✓ 服务运行中');
  await eventually(() => existsSync(backup('19')) && lineOf(pair));
  const foreign = backup('foreign'); // what lists the directory would delete it
  /** Has files come and go, and tells whether anything went over the line for that. */
  const isNothing = async (...names: string[]) => {
    writeFileSync(foreign, '');
    const [before, synced] = [lineOf(pair), program.output.split('同步成功').length];
    for (const name of names) writeFileSync(source(name), 'x');
    for (const name of names) rmSync(source(name));
    await eventually(() => program.output.split('同步成功').length > synced);
    return lineOf(pair) === before && before !== '' && existsSync(foreign);
  };
  await Bun.sleep(6000); // soon after the start, a file may have had other names, as far as is known
  await eventually(() => isNothing('.tmp'));
  const started = performance.now();
  let syncs = 0;
  for (let n = 0; n < 6; n++) {
    if (await isNothing(`.tmp-${n}`, '.lock')) continue;
    syncs++; // for the time of the directory; of what comes right after it, it is not certain that all before has been told
    await eventually(() => isNothing(`.next-${n}`));
  }
  expect(syncs).toBeLessThanOrEqual(Math.floor((performance.now() - started) / LATER_MS) + 1); // one may have been due at the start
  expect(existsSync(foreign)).toBe(true);
  await eventually(() => statSync(backup('')).mtimeMs === statSync(source('')).mtimeMs);
  expect(existsSync(foreign)).toBe(true);

  /** Saves a file by a temporary one, and tells whether that was nothing but the file to the backup. */
  const isSavedAlone = async (text: string) => {
    writeFileSync(foreign, '');
    const before = (await eventually(() => lineOf(pair))).split(' ')[1] ?? '';
    writeFileSync(source('.5.new'), text);
    renameSync(source('.5.new'), source('5'));
    await eventually(() => content(backup('5')) === text);
    return existsSync(foreign) && (await eventually(() => lineOf(pair))).split(' ')[1] === before; // the helper has not heard of it
  };
  let saves = 0;
  await eventually(() => isSavedAlone(`new ${saves++}`)); // the last sync may be so young that not all before it has been told
  expect(readdirSync(backup('')).filter((name) => name.startsWith('.'))).toEqual([]);

  rmSync(source('6'));
  await eventually(() => !existsSync(backup('6')));
  expect(existsSync(foreign)).toBe(kind === 'start-sshd');
});
