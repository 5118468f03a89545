import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { existsSync, lstatSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
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
const settle = (window?: number) => new Aftermath({ HOST_KEY_DIR: keys }, window).settle(latin1Of(root));
const leave = () => new Aftermath({ HOST_KEY_DIR: keys }).leave(latin1Of(root));

let directory: ReturnType<typeof scratch>;
beforeEach(() => {
  directory = scratch();
  [root, keys] = [join(directory.path, 'backup'), join(directory.path, 'keys')];
  for (const it of [root, keys, join(root, 'd')]) mkdirSync(it);
});
afterEach(() => directory[Symbol.dispose]());

describe('after an end that was not clean', () => {
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
    expect(existsSync(join(keys, 'shutdown.json'))).toBe(false);
  });

  test('it is done again from where it was, where it has not come to its end', async () => {
    put('old');
    await new CleanMark({ HOST_KEY_DIR: keys }).doubt(Date.now() - 1000);
    await sleep(150);
    put('new');
    expect(await settle(100)).toMatchObject({ files: 2 });
    expect(timeOf('old')).toEqual(DAY_BEFORE);
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

  test('another directory, and what beside the keys is none of ours, are not', async () => {
    put('file');
    await leave();
    root = join(root, 'd');
    put('inner');
    expect(await settle()).toMatchObject({ files: 1 });
    for (const text of ['', '{', 'null', '{"word":""}', '{"word":7}', '{"since":"x"}', 'x'.repeat(1000)]) {
      writeFileSync(join(keys, 'shutdown.json'), text);
      expect(await settle()).toMatchObject({ files: 1 });
    }
  });

  test('an older state of the disk is not, which has a mark of its own time', async () => {
    put('file');
    await leave();
    const word = join(keys, 'shutdown.json');
    const earlier = await Bun.file(word).text();
    await settle();
    await leave();
    writeFileSync(word, earlier);
    expect(await settle()).toMatchObject({ files: 1 });
  });
});
