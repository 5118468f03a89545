import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { linkSync, lstatSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Aftermath } from '../../../src/backup/aftermath.ts';
import { CleanMark } from '../../../src/backup/clean-mark.ts';
import { latin1Of } from '../../../src/backup/mount-memory.ts';
import { scratch } from '../service/scratch.ts';

const WRITTEN = new Date('2026-01-02T03:04:05.000Z');
const DAY_BEFORE = new Date('2026-01-01T03:04:05.000Z');
let [root, keys] = ['', ''];
const timeOf = (name: string) => lstatSync(join(root, name)).mtime;
const put = (name: string) => {
  writeFileSync(join(root, name), name);
  utimesSync(join(root, name), WRITTEN, WRITTEN);
};
const mark = () => new CleanMark({ HOST_KEY_DIR: keys }, latin1Of(root));
const aftermath = (window?: number, apart: string[] = []) =>
  new Aftermath(
    { HOST_KEY_DIR: keys },
    latin1Of(root),
    apart.map((name) => latin1Of(join(root, name))),
    window,
  );
const settle = (window?: number, apart: string[] = []) => aftermath(window, apart).settle();
/** Leaves the directory as a source that writes in place does. */
async function leave(): Promise<void> {
  const last = aftermath();
  await last.loosen();
  await last.leave();
}

let directory: ReturnType<typeof scratch>;
beforeEach(() => {
  directory = scratch();
  [root, keys] = [join(directory.path, 'backup'), join(directory.path, 'keys')];
  for (const it of [root, keys, join(root, 'd')]) mkdirSync(it);
});
afterEach(() => directory[Symbol.dispose]());

describe('after an end that was not clean', () => {
  beforeEach(() => aftermath().loosen());

  test('what was written last gets another time, wherever it is, and nothing else does', async () => {
    put('old');
    await sleep(150);
    for (const name of ['new', 'd/中文', 'd/ line\nbreak']) put(name);
    symlinkSync('old', join(root, 'link'));
    const link = timeOf('link');
    expect(await settle(100)).toMatchObject({ files: 3, failed: 0 });
    expect(timeOf('old')).toEqual(WRITTEN);
    for (const name of ['new', 'd/中文', 'd/ line\nbreak']) expect(timeOf(name)).toEqual(DAY_BEFORE);
    expect(timeOf('link')).toEqual(link);
  });

  test('what others write into is left alone, and so are older versions', async () => {
    for (const name of ['.history', 'd/.history', 'd/other/.history']) mkdirSync(join(root, name), { recursive: true });
    for (const name of ['.history', 'd/.history']) writeFileSync(join(root, name, '.start-sshd'), '');
    const left = ['.history/old', 'd/.history/old', 'taken/new'];
    mkdirSync(join(root, 'taken'));
    for (const name of [...left, 'd/new', 'd/other/.history/new']) put(name);
    expect(await settle(60_000, ['taken', 'd/.history'])).toMatchObject({ files: 2 });
    for (const name of left) expect(timeOf(name)).toEqual(WRITTEN);
    for (const name of ['d/new', 'd/other/.history/new']) expect(timeOf(name)).toEqual(DAY_BEFORE);
  });

  test('it is done again from where it was, where it has not come to its end', async () => {
    put('old');
    await mark().doubt(Date.now() - 1000);
    await sleep(150);
    put('new');
    expect(await settle(100)).toMatchObject({ files: 2 });
    expect(timeOf('old')).toEqual(DAY_BEFORE);
  });

  test('one day is all that a file loses, however often that happens', async () => {
    put('file');
    for (const _ of [1, 2, 3]) expect(await settle()).toMatchObject({ files: 1, failed: 0 });
    expect(timeOf('file')).toEqual(DAY_BEFORE);
  });

  test('a file of the first day of 1970 gets another time, too, and not that of the day', async () => {
    for (const seconds of [0, 86_399]) {
      put('file');
      utimesSync(join(root, 'file'), seconds, seconds);
      expect(await settle()).toMatchObject({ files: 1, failed: 0 });
      expect(timeOf('file')).toEqual(new Date((seconds + 86_400) * 1000));
    }
  });

  test('a snapshot by hard links brings no file in doubt that was there before, be it that all got another name', async () => {
    put('old');
    await sleep(150);
    linkSync(join(root, 'old'), join(root, 'd', 'snapshot'));
    put('new');
    linkSync(join(root, 'new'), join(root, 'd', 'new'));
    put('in-place');
    utimesSync(join(root, 'in-place'), new Date(), new Date());
    await sleep(150);
    linkSync(join(root, 'in-place'), join(root, 'd', 'in-place'));
    writeFileSync(join(root, 'd', 'in-place'), 'more');
    put('last');
    expect(await settle(100)).toMatchObject({ failed: 0 });
    expect(timeOf('old')).toEqual(WRITTEN);
    expect(timeOf('last')).toEqual(DAY_BEFORE);
    expect(timeOf('in-place').getTime()).toBeLessThan(Date.now() - 86_000_000);
  });

  test('times stay what they are where nothing was written in place or with holes, on file systems that order that', async () => {
    await mark().open();
    rmSync(mark().file);
    await mark().open();
    put('file');
    expect(await settle()).toBeUndefined();
    await aftermath().loosen();
    expect(await settle()).toMatchObject({ files: 1 });
    expect(await settle()).toMatchObject({ files: 1 }); // that is remembered
  });

  test('an empty directory is in no doubt', async () => {
    expect(await settle()).toBeUndefined();
  });
});

describe('after a clean end', () => {
  test('all is taken as it is, once', async () => {
    put('file');
    await leave();
    expect(await settle()).toBeUndefined();
    expect(timeOf('file')).toEqual(WRITTEN);
    expect(await settle()).toMatchObject({ files: 1 });
  });

  test('a word that is not there too is none, and what beside the keys is none of ours says nothing', async () => {
    put('file');
    await leave();
    root = join(root, 'd');
    put('inner');
    expect(await settle()).toBeUndefined(); // nothing is known of it
    await aftermath().loosen();
    for (const text of ['{"word":"x","isLoose":true}', '{"word":7,"isLoose":true}', '{"since":7}']) {
      writeFileSync(mark().file, text);
      expect(await settle()).toMatchObject({ files: 1 });
    }
    for (const text of ['', '{', 'null', '{"since":"x"}', 'x'.repeat(1000)]) {
      writeFileSync(mark().file, text);
      expect(await settle()).toBeUndefined();
    }
  });

  test('several directories with the same host keys have a mark each', async () => {
    const first = root;
    put('file');
    await leave();
    root = join(first, 'd');
    put('inner');
    await leave();
    root = first;
    expect(await settle()).toBeUndefined();
    root = join(first, 'd');
    expect(await settle()).toBeUndefined();
  });

  test('an older state of the disk is not, which has a mark of its own time', async () => {
    put('file');
    await leave();
    const word = mark().file;
    const earlier = await Bun.file(word).text();
    await settle();
    await leave();
    writeFileSync(word, earlier);
    expect(await settle()).toMatchObject({ files: 1 });
  });
});
