import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { findPlace, makePlace, openToAppend } from '../../../src/service/foreign.ts';
import { StateFile } from '../../../src/service/status.ts';
import { isRoot } from '../../pair.ts';
import { keepLog } from '../mirror/stand-ins.ts';
import { scratch } from './scratch.ts';

/** Somebody else, who may write in a directory. */
const OTHER = 1234;

/** A directory of ours, one of somebody else in it, and a file of ours that they would like to have changed. */
function strange() {
  const directory = scratch();
  const at = (...names: string[]) => join(directory.path, ...names);
  for (const name of ['theirs', 'ours']) mkdirSync(at(name));
  if (isRoot) chownSync(at('theirs'), OTHER, OTHER);
  writeFileSync(at('ours', 'victim'), 'safe');
  return { at, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

/** Appends a line as LOG_FILE is appended to. */
async function append(path: string): Promise<void> {
  const { file } = await openToAppend(path);
  await file.write('line\n');
  await file.close();
}

const contentOf = (path: string) => readFileSync(path, 'utf8');

describe.if(isRoot)('in a directory of somebody else', () => {
  test('a file is made, appended to and replaced as anywhere', async () => {
    using place = strange();
    const log = place.at('theirs', 'new', 'sync.log');
    for (let n = 0; n < 2; n++) await append(log);
    expect(contentOf(log)).toBe('line\nline\n');
    const theirs = place.at('theirs', 'theirs.log');
    writeFileSync(theirs, 'first\n');
    chownSync(theirs, OTHER, OTHER); // made beforehand for the service
    await append(theirs);
    expect(contentOf(theirs)).toBe('first\nline\n');
    await using found = await findPlace(theirs);
    expect(found.concern).toBe(`属于用户 ${OTHER}`);
  });

  test('no link is followed, no pipe waited for, no other name of a file written to', async () => {
    using place = strange();
    const log = place.at('theirs', 'sync.log');
    const plants: [() => void, string][] = [
      [() => symlinkSync('../ours/victim', log), '不跟随'],
      [() => symlinkSync('../ours/new', log), '不跟随'],
      [() => linkSync(place.at('ours', 'victim'), log), '有 2 个硬链接'],
      [() => spawnSync('mkfifo', [log]), '不是普通文件'],
      [() => mkdirSync(log), '不是普通文件'],
    ];
    for (const [plant, reason] of plants) {
      plant();
      lchownSync(log, lstatSync(log).nlink > 1 ? 0 : OTHER, 0);
      await expect(append(log)).rejects.toThrow(reason);
      spawnSync('rm', ['-r', log]);
    }
    expect(contentOf(place.at('ours', 'victim'))).toBe('safe');
    expect(readdirSync(place.at('ours'))).toEqual(['victim']);
  });

  test('none is followed on the way either, and nothing is made behind it', async () => {
    using place = strange();
    mkdirSync(place.at('theirs', 'log'));
    await append(place.at('theirs', 'log', 'victim'));
    renameSync(place.at('theirs', 'log'), place.at('theirs', 'moved'));
    symlinkSync(place.at('ours'), place.at('theirs', 'log'));
    const reason = `中的链接 log：它所在的目录属于用户 ${OTHER}`;
    await expect(append(place.at('theirs', 'log', 'victim'))).rejects.toThrow(reason);
    await expect(makePlace(place.at('theirs', 'log', 'new', 'status.json'))).rejects.toThrow(reason);
    expect(readdirSync(place.at('ours'))).toEqual(['victim']);
    expect(contentOf(place.at('ours', 'victim'))).toBe('safe');
  });

  test('a place stays where it was found', async () => {
    using place = strange();
    mkdirSync(place.at('theirs', 'state'));
    await using found = await findPlace(place.at('theirs', 'state', 'status.json'));
    renameSync(place.at('theirs', 'state'), place.at('theirs', 'moved'));
    symlinkSync(place.at('ours'), place.at('theirs', 'state'));
    writeFileSync(found.at('status.json'), '');
    expect(readdirSync(place.at('theirs', 'moved'))).toEqual(['status.json']);
  });

  test('the state is written over what they have put there, and told of once', async () => {
    using place = strange();
    using log = keepLog();
    const path = place.at('theirs', 'status.json');
    symlinkSync('../ours/victim', path);
    symlinkSync('../ours/victim', `${path}.${process.pid}.tmp`);
    const file = new StateFile('STATUS_FILE', path, () => '{}');
    for (let n = 0; n < 2; n++) await file.write();
    expect(contentOf(path)).toBe('{}');
    expect(contentOf(place.at('ours', 'victim'))).toBe('safe');
    expect(readdirSync(place.at('theirs'))).toEqual(['status.json']);
    expect(log.text.split('STATUS_FILE=')).toHaveLength(2);
  });
});

describe('in a directory in which everybody may write', () => {
  test.if(isRoot)('a file of somebody else is none of ours', async () => {
    using place = strange();
    const log = place.at('ours', 'sync.log');
    chmodSync(place.at('ours'), 0o1777);
    await append(log);
    chownSync(log, OTHER, OTHER);
    await expect(append(log)).rejects.toThrow(/EACCES|属于用户 1234，而目录所有用户都可以写入/);
  });
});

describe('in a directory of our own', () => {
  test('links are followed, as far as nobody else may have made them', async () => {
    using place = strange();
    symlinkSync('ours', place.at('link'));
    symlinkSync(place.at('link', 'sync.log'), place.at('ours', 'other.log'));
    await append(place.at('link', 'other.log'));
    expect(readdirSync(place.at('ours')).sort()).toEqual(['other.log', 'sync.log', 'victim']);
    linkSync(place.at('ours', 'sync.log'), place.at('ours', 'snapshot'));
    await append(place.at('link', '..', 'ours', 'sync.log'));
    expect(contentOf(place.at('ours', 'snapshot'))).toBe('line\nline\n');
    await using found = await makePlace(place.at('link', 'new', 'file'));
    expect([found.concern, lstatSync(place.at('ours', 'new')).isDirectory()]).toEqual(['', true]);
  });

  test('links in a circle have an end, and what is missing is not made where it is only looked for', async () => {
    using place = strange();
    symlinkSync('circle', place.at('circle'));
    await expect(append(place.at('circle'))).rejects.toThrow('经过的链接太多');
    await expect(append(place.at('circle', 'below'))).rejects.toThrow('经过的链接太多');
    await expect(findPlace(place.at('missing', 'file'))).rejects.toThrow('ENOENT');
    await expect(findPlace(place.at('ours', 'victim', 'file'))).rejects.toThrow('ENOTDIR');
    expect(readdirSync(place.at('.')).sort()).toEqual(['circle', 'ours', 'theirs']);
  });
});
