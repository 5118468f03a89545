import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  admit,
  admitKey,
  Barred,
  isSamePlace,
  Outdated,
  ownDirectory,
  placeOf,
  readAdmission,
  SOURCE_VARIABLE,
  writeAdmission,
} from '../../../src/backup/admission.ts';
import { Refusal } from '../../../src/backup/confinement.ts';
import { hasLastingInodes } from '../../../src/service/files.ts';

describe('a place', () => {
  const known = { device: '8', inode: '2', birth: '3' };

  test.each<[string, Partial<typeof known>, Partial<typeof known>, boolean]>([
    ['is the same with the same numbers', {}, {}, true],
    ['is another one on another device', {}, { device: '9' }, false],
    ['is another one with another number', {}, { inode: '3' }, false],
    ['is another one where the number is used again', {}, { birth: '4' }, false],
    ['goes by no number where that does not last', { inode: '' }, { inode: '77' }, true],
    ['goes by the rest then', { inode: '' }, { inode: '77', birth: '4' }, false],
  ])('%s', (_, change, foundChange, isSame) => {
    expect(isSamePlace({ ...known, ...change }, { ...known, ...foundChange })).toBe(isSame);
  });

  test('has a number that lasts on most file systems', () => {
    for (const type of ['ef53', '58465342', '9123683e', '1021994', '6969']) expect(hasLastingInodes(type)).toBe(true);
    for (const type of ['4d44', '2011bab0', '65735546', 'fe534d42']) expect(hasLastingInodes(type)).toBe(false);
  });
});

describe('a session', () => {
  let directory: string;
  const { DEST_DIR, START_SSHD_ADMISSION } = process.env;
  const path = (name: string) => join(directory, name);
  const write = (place: Parameters<typeof writeAdmission>[1]['place']) =>
    writeAdmission(path('admission'), {
      start: 'start',
      boot: 'boot',
      place,
      reason: 'barred',
      keys: { '': 'SHA256:one', web1: 'SHA256:web1' },
    });
  const settle = () => write(placeOf(statSync(path('backup'), { bigint: true })));
  const outcome = () => {
    try {
      return admit().start;
    } catch (cause) {
      return cause instanceof Barred ? cause.message : cause;
    }
  };

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'admission-'));
    mkdirSync(path('backup'));
    Object.assign(process.env, { DEST_DIR: path('backup'), START_SSHD_ADMISSION: path('admission') });
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
    Object.assign(process.env, { DEST_DIR: DEST_DIR ?? '', START_SSHD_ADMISSION: START_SSHD_ADMISSION ?? '' });
  });

  test('is let in as long as DEST_DIR is what it was, whatever is in it', () => {
    settle();
    expect(statSync(path('admission')).mode & 0o777).toBe(0o600);
    writeFileSync(path('backup/file'), '');
    expect(outcome()).toBe('start');
    renameSync(path('backup'), path('aside'));
    expect(outcome()).toBe('barred');
    symlinkSync('aside', path('backup'));
    expect(outcome()).toBe('start');
  });

  test.each<[string, () => void]>([
    ['is gone', () => {}],
    ['was made anew', () => mkdirSync(path('backup'))],
    ['is a file', () => writeFileSync(path('backup'), '')],
    ['leads nowhere', () => symlinkSync('nowhere', path('backup'))],
  ])('is barred where DEST_DIR %s', (_, replace) => {
    settle();
    rmSync(path('backup'), { recursive: true });
    replace();
    expect(outcome()).toBe('barred');
  });

  test('is barred while nothing can be received, wherever DEST_DIR may be', () => {
    write(null);
    expect(outcome()).toBe('barred');
    process.env.DEST_DIR = path('admission/below');
    expect(outcome()).toBe('barred');
  });

  test('goes on only with the key that is in force, where that is known', () => {
    settle();
    for (const key of ['SHA256:one', undefined, '']) admitKey(key);
    expect(() => admitKey('SHA256:two')).toThrow(Refusal);
  });

  describe('of a source with a name', () => {
    beforeEach(() => {
      process.env[SOURCE_VARIABLE] = 'web1';
    });
    afterEach(() => {
      delete process.env[SOURCE_VARIABLE];
    });

    test('goes on only with the key that is in force for it, and never where none is', () => {
      settle();
      admitKey('SHA256:web1');
      for (const key of ['SHA256:one', undefined, '']) expect(() => admitKey(key)).toThrow(Refusal);
      for (const name of ['web2', '__proto__', 'constructor']) {
        process.env[SOURCE_VARIABLE] = name;
        expect(() => admitKey('SHA256:web1')).toThrow(Refusal);
        expect(() => admitKey(undefined)).toThrow(Refusal);
      }
    });

    test.each<[string, (place: string) => void]>([
      ['there is none', () => {}],
      ['it is a file', (place) => writeFileSync(place, '')],
      ['a link leads elsewhere', (place) => symlinkSync('..', place)],
    ])('is barred from its directory where %s', (_, make) => {
      settle();
      make(path('backup/web1'));
      expect(() => admit()).toThrow(`${path('backup/web1')} 不存在或不是目录`);
      rmSync(path('backup/web1'), { recursive: true, force: true });
      mkdirSync(path('backup/web1'));
      expect(outcome()).toBe('start');
      expect(ownDirectory()).toBe(path('backup/web1'));
      rmSync(path('backup'), { recursive: true });
      expect(outcome()).toBe('barred');
    });
  });

  test('ends its connection where the service that had let it in is there no more', () => {
    settle();
    admitKey('SHA256:one');
    rmSync(path('admission'));
    expect(readAdmission).toThrow(Outdated);
    expect(() => admitKey('SHA256:one')).toThrow(Outdated);
  });

  test('is refused without a service', () => {
    process.env.START_SSHD_ADMISSION = '';
    expect(readAdmission).toThrow(Refusal);
  });
});
