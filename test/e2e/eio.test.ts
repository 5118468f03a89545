/** A disk that fails costs what it does not tell, and nothing else: on the source and on the backup. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eioAt, mayFail } from '../eio.ts';
import { Pair } from '../pair.ts';
import { eventually, type Program } from '../processes.ts';

setDefaultTimeout(180_000);

const FILES = ['d1/bad', 'd1/good', 'd2/x', 'top', 'gone', 'later'];
const env = { SYNC_INTERVAL: '0.1', FULL_SYNC_INTERVAL: '3' };

function fill(pair: Pair): void {
  for (const directory of ['d1', 'd2']) mkdirSync(pair.path('source', directory));
  for (const path of FILES) writeFileSync(pair.path('source', path), path);
}

const namesIn = (path: string) => readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
const contentIs = (path: string, content: string) => {
  try {
    return readFileSync(path, 'utf8') === content;
  } catch {
    return false;
  }
};
const until = (source: Program, condition: () => boolean) =>
  eventually(condition, 60_000).catch((cause) => {
    throw new Error(`${cause}\n${source.output}`);
  });
const problemsOf = (pair: Pair): unknown[] =>
  JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).problems;
const lacksNothing = (pair: Pair) =>
  JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).targets[0].failed === null;

const OF_THE_SOURCE = [
  ['getattr /d1/bad', 'd1/bad'],
  ['getattr /d1', 'd1'],
  ['readdir /d1', 'd1'],
  ['read /d1/bad', 'd1/bad'],
] as const;

test.skipIf(!mayFail).each(OF_THE_SOURCE)(
  'a source that fails at %s keeps its copy, and all else goes on',
  async (fault, named) => {
    await using pair = await Pair.withKeys('eio-source');
    using disk = await eioAt(pair.path('source'));
    fill(pair);
    const { source } = await pair.run(env);
    const backup = (path: string) => pair.path('backup', path);
    const all = namesIn(backup(''));
    disk.fail(fault);
    if (fault.startsWith('read ')) writeFileSync(`${disk.real}/d1/bad`, 'changed behind its back');
    await source.shows(`无法同步 ${named}：Input/output error，请检查源目录中它的权限或磁盘`);
    writeFileSync(pair.path('source', 'd2', 'x'), 'changed');
    rmSync(pair.path('source', 'gone'));
    rmSync(`${disk.real}/later`); // which a comparison has to find
    await until(source, () => contentIs(backup('d2/x'), 'changed') && !namesIn(backup('')).includes('later'));
    expect(namesIn(backup(''))).toEqual(all.filter((path) => !['gone', 'later'].includes(path)));
    disk.fail();
    await until(source, () => lacksNothing(pair) && problemsOf(pair).length === 0);
    await pair.isMirrored();
  },
);

const OF_THE_BACKUP = [
  ['readdir /d1', '无法同步 d1：Input/output error，请检查目标上的权限和磁盘'],
  ['getattr /d1/bad', '无法同步 d1/bad：Input/output error，请检查目标上的权限和磁盘'],
  ['unlink /gone', '无法删除目标上的 gone：Input/output error，请检查目标上的权限和磁盘'],
] as const;

test.skipIf(!mayFail).each(OF_THE_BACKUP)('a backup that fails at %s takes all else', async (fault, told) => {
  await using pair = await Pair.withKeys('eio-backup');
  using disk = await eioAt(pair.path('backup'));
  fill(pair);
  const { source } = await pair.run(env);
  disk.fail(fault);
  writeFileSync(pair.path('source', 'd1', 'bad'), 'changed');
  rmSync(pair.path('source', 'gone'));
  writeFileSync(pair.path('source', 'd2', 'x'), 'changed');
  await until(source, () => contentIs(`${disk.real}/d2/x`, 'changed'));
  await source.shows(told);
  expect(namesIn(disk.real)).toEqual(expect.arrayContaining(['d1/bad', 'd1/good', 'd2/x', 'later', 'top']));
  disk.fail();
  await until(source, () => lacksNothing(pair) && problemsOf(pair).length === 0);
  await pair.isMirrored();
});

/** Options under which everything is compared each time, so that what cannot be read is met by each try. */
const COMPARED = { RSYNC_OPTS: '-av --delete --checksum-seed=1', MAX_DELETE: '100', SYNC_INTERVAL: '0.1' };

test.skipIf(!mayFail)('deletions that are held stay held while a source fails that is compared', async () => {
  await using pair = await Pair.withKeys('eio-held');
  using disk = await eioAt(pair.path('source'));
  fill(pair);
  const photos = (root: string) => pair.path(root, 'e', 'photos'); // rsync comes to it after what it cannot read
  mkdirSync(photos('source'), { recursive: true });
  for (let n = 0; n < 150; n++) writeFileSync(join(photos('source'), `${n}`), '');
  const { source } = await pair.run({ ...COMPARED, FULL_SYNC_INTERVAL: '0' });
  process.kill(source.pid, 'SIGSTOP'); // or it might see some go before there are too many
  rmSync(photos('source'), { recursive: true });
  process.kill(source.pid, 'SIGCONT');
  const heldOn = () => JSON.parse(readFileSync(pair.path('source-status.json'), 'utf8')).targets[0].held;
  await until(source, () => heldOn()?.count > 100);
  await source.shows('已暂缓删除');
  disk.fail('readdir /d1');
  for (const content of ['first', 'second']) {
    writeFileSync(pair.path('source', 'top'), content);
    await until(source, () => contentIs(pair.path('backup', 'top'), content));
  }
  const tries = () => source.output.split('同步失败').length;
  const before = tries();
  await until(source, () => tries() > before); // what fails is tried again by itself
  expect(source.output).not.toContain('已没有被暂缓的删除');
  expect(heldOn()?.count).toBeGreaterThan(100);
  disk.fail();
  writeFileSync(pair.path('source', 'top'), 'third'); // what has failed goes with it, however long it would wait by itself
  await until(source, () => lacksNothing(pair));
  expect(source.output).not.toContain('已没有被暂缓的删除');
  expect(namesIn(photos('backup')).length).toBeGreaterThanOrEqual(150 - 100);
});
