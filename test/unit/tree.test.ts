import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Expectation } from '../tree.ts';

let directory = '';
const source = (...names: string[]) => join(directory, 'source', ...names);
const backup = (...names: string[]) => join(directory, 'backup', ...names);
const places = () => ({ source: source(), backup: backup(), scratch: join(directory, 'scratch') });
const found = (options: string) => new Expectation(places(), options).differences().map(({ path }) => path);

/** Does something to an entry of the backup and keeps the time of the directory. */
function damage(path: string, harm: (path: string) => void): void {
  const { mtimeMs } = statSync(backup());
  harm(backup(path));
  utimesSync(backup(), mtimeMs / 1000, mtimeMs / 1000);
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-tree-'));
  mkdirSync(source('directory'), { recursive: true });
  writeFileSync(source('file'), 'content');
  writeFileSync(source('other'), 'content');
  linkSync(source('file'), source('second name'));
  symlinkSync('file', source('link'));
  for (const name of ['directory', 'file', 'other', '.']) utimesSync(source(name), 1e9, 1e9);
  lutimesSync(source('link'), 1e9, 1e9);
  spawnSync('rsync', ['-aH', `${source()}/`, `${backup()}/`]);
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('the comparison that the model test rests on', () => {
  test('finds nothing where nothing is', () => {
    for (const options of ['-aH --delete', '-avz --delete', '-rlt --delete', '-avz'])
      expect(found(options)).toEqual([]);
  });

  test('leaves out what rsync keeps with --delay-updates, and that alone', () => {
    damage('.~tmp~', (path) => {
      mkdirSync(path);
      writeFileSync(join(path, 'file'), 'a part');
    });
    expect(found('-a --delete --delay-updates')).toEqual([]);
    expect(found('-a --delete')).toContain('.~tmp~/file');
    damage('beside', (path) => writeFileSync(path, ''));
    expect(found('-a --delete --delay-updates')).toEqual(['beside']);
  });

  test('sees one byte, even where size and time are right', () => {
    damage('file', (path) => {
      writeFileSync(path, 'CONTENT');
      utimesSync(path, 1e9, 1e9);
    });
    for (const options of ['-avz --delete', '-avz']) expect(found(options)).toContain('file');
  });

  test('sees a time within the same second', () => {
    for (const name of ['file', 'directory', '.']) utimesSync(backup(name), 1e9, 1e9 + 0.000_5);
    lutimesSync(backup('link'), 1e9, 1e9 + 0.5);
    for (const options of ['-avz --delete', '-rlt --delete', '-avz']) {
      expect(found(options)).toContain('file');
      expect(found(options)).toContain('link');
      expect(found(options)).toContain('directory');
      expect(found(options)).toContain('.');
    }
  });

  test('sees what is missing, what is too much, and what is of another type', () => {
    damage('other', (path) => rmSync(path));
    damage('extra', (path) => writeFileSync(path, ''));
    damage('directory', (path) => {
      rmSync(path, { recursive: true });
      symlinkSync('file', path);
    });
    expect(found('-avz --delete').sort()).toEqual(['directory', 'extra', 'other']);
    expect(found('-avz')).toContain('other');
    expect(found('-avz')).not.toContain('extra');
  });

  test('sees modes where they count', () => {
    damage('file', (path) => chmodSync(path, 0o600));
    expect(found('-avz --delete')).toContain('file');
    expect(found('-rlt --delete')).toEqual([]);
  });

  test('sees where a link leads', () => {
    damage('link', (path) => {
      rmSync(path);
      symlinkSync('other', path);
      lutimesSync(path, 1e9, 1e9);
    });
    expect(found('-avz --delete')).toEqual(['link']);
  });

  test('sees hard links where they count', () => {
    damage('second name', (path) => {
      rmSync(path);
      copyFileSync(backup('file'), path);
      utimesSync(path, 1e9, 1e9);
    });
    expect(found('-aH --delete')).toContain('second name');
    expect(found('-a --delete')).toEqual([]);
  });

  test('expects nothing of what the options exclude', () => {
    writeFileSync(source('new.tmp'), '');
    utimesSync(source(), 1e9, 1e9);
    expect(found('-a --delete')).toEqual(['new.tmp']);
    expect(found("-a --delete --exclude='*.tmp'")).toEqual([]);
  });
});
