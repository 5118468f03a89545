import { expect, test } from 'bun:test';
import { closeSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isLocked, lockDirectory, lockFile } from '../../../src/service/locks.ts';

test('a directory is locked by one at a time, until that has closed it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lock-'));
  try {
    expect(isLocked(directory)).toBe(false);
    const lock = lockDirectory(directory);
    expect(isLocked(directory)).toBe(true);
    expect(lockDirectory(directory)).toBeUndefined();
    expect(isLocked(join(directory, '..'))).toBe(false);
    closeSync(Number(lock));
    expect(isLocked(directory)).toBe(false);
    closeSync(Number(lockDirectory(directory)));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a file is locked in the same way, and nobody else can read it', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lock-'));
  const file = join(directory, 'file');
  try {
    const lock = lockFile(file);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect([isLocked(file), isLocked(directory), lockFile(file)]).toEqual([true, false, undefined]);
    closeSync(Number(lock));
    expect(isLocked(file)).toBe(false);
    closeSync(Number(lockFile(file)));
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('what is not there is not locked', () => {
  expect(isLocked('/nowhere/at/all')).toBe(false);
});
