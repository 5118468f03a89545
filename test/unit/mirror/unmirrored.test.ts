import { describe, expect, test } from 'bun:test';
import type { Fault } from '../../../src/mirror/faults.ts';
import { isLostAndFound, Unmirrored } from '../../../src/mirror/unmirrored.ts';

const fault = (path: string, text = 'No space left on device'): Fault => ({ path, kind: 'content', text, code: 28 });

/** What is known with these set aside, those that end with a slash as directories. */
function withAside(...paths: string[]): Unmirrored {
  const unmirrored = new Unmirrored();
  for (const path of paths) {
    unmirrored.note(fault(path.replace(/\/$/, '')), path.endsWith('/'));
    unmirrored.setAside(path.replace(/\/$/, ''));
  }
  return unmirrored;
}

describe('a path that fails', () => {
  test('is new once, and once more for another reason, and has failed since it was new', () => {
    const unmirrored = new Unmirrored();
    expect(unmirrored.note(fault('a'), false)).toBe(true);
    const { since } = unmirrored;
    expect(unmirrored.note(fault('a'), false)).toBe(false);
    expect(unmirrored.note(fault('a', 'Read-only file system'), false)).toBe(true);
    expect(unmirrored).toMatchObject({ size: 1, since });
    expect(unmirrored.first(5)).toEqual([{ path: 'a', text: 'Read-only file system' }]);
    unmirrored.settle('a');
    expect(unmirrored).toMatchObject({ size: 0, since: undefined });
  });

  test('stays set aside where it fails again, and is seen where it is settled', () => {
    const unmirrored = withAside('a');
    unmirrored.note(fault('a', 'other'), false);
    expect(unmirrored.isAside('a')).toBe(true);
    unmirrored.settle('a');
    expect(unmirrored.isHidden('a')).toBe(false);
    expect(unmirrored.rules('/')).toEqual([]);
  });

  test('is one of a thousand at most', () => {
    const unmirrored = withAside(...Array.from({ length: 1500 }, (_, n) => `file-${n}`));
    expect(unmirrored.size).toBe(1000);
    expect(unmirrored.isAside('file-999')).toBe(true);
    expect(unmirrored.setAside('file-1000')).toBe(false);
    expect(unmirrored.note(fault('file-5', 'other'), false)).toBe(true);
  });
});

describe('what is set aside', () => {
  test('is hidden with all that is in it, but nothing else', () => {
    const unmirrored = withAside('d/', 'e/f');
    for (const path of ['d', 'd/x', 'd/x/y', 'e/f', 'e/f/g']) expect(unmirrored.isHidden(path)).toBe(true);
    for (const path of ['', 'da', 'e', 'e/fg', 'x/d']) expect(unmirrored.isHidden(path)).toBe(false);
    unmirrored.unhide('d');
    expect(unmirrored.isHidden('d/x')).toBe(false);
    expect(unmirrored.has('d')).toBe(true);
    expect(unmirrored.others).toEqual(['d']);
  });

  test('is hidden from rsync, which keeps the copy', () => {
    const unmirrored = withAside('d/', 'e/[f]');
    expect(unmirrored.rules('/')).toEqual([
      '--filter=P /d/***',
      '--filter=H /d/***',
      '--filter=P /e/\\[f]',
      '--filter=H /e/\\[f]',
    ]);
    expect(unmirrored.rules('/source/')[0]).toBe('--filter=P /source/d/***');
  });

  test('is never the source itself, nor what is not known', () => {
    const unmirrored = withAside('');
    expect(unmirrored.setAside('')).toBe(false);
    expect(unmirrored.setAside('a')).toBe(false);
    expect(unmirrored.isHidden('a')).toBe(false);
    expect(withAside('a').setAside('a')).toBe(false);
  });

  test('fits on a command line', () => {
    const unmirrored = withAside(...Array.from({ length: 900 }, (_, n) => `${'x'.repeat(200)}${n}`));
    expect(unmirrored.size).toBe(900);
    expect(unmirrored.rules('/').join('').length).toBeLessThanOrEqual(100_000);
    expect(unmirrored.allAside.length).toBeGreaterThan(200);
    expect(unmirrored.others.length).toBe(900 - unmirrored.allAside.length);
  });

  test('takes turns: what fails again comes last', () => {
    const unmirrored = withAside('a', 'b', 'c');
    unmirrored.unhide('a');
    unmirrored.setAside('a');
    expect(unmirrored.allAside.map(({ path }) => path)).toEqual(['b', 'c', 'a']);
  });

  test('has its place, wherever it is moved, by itself or with what it is in', () => {
    const unmirrored = withAside('d/a', 'da');
    unmirrored.move('d', 'e');
    unmirrored.move('e/a', 'f/a');
    unmirrored.move('f', 'g');
    unmirrored.move('x', 'y');
    expect(unmirrored.allAside.map(({ path, place }) => [path, place])).toEqual([
      ['d/a', 'g/a'],
      ['da', undefined],
    ]);
  });

  test('is set aside in its old place where it was moved and cannot be read, until that is mirrored', () => {
    const unmirrored = new Unmirrored();
    unmirrored.move('d', 'e');
    unmirrored.move('e', 'f');
    unmirrored.move('x', 'y');
    const find = (place: string) => [{ path: `${place}/closed`, isDirectory: true }];
    unmirrored.keepMoved(
      (path) => path === 'f',
      find,
      (path) => path === 'e/closed',
    );
    const aside = () => unmirrored.allAside.map(({ path, place, kind }) => [path, place, kind]);
    expect(aside()).toEqual([['d/closed', 'f/closed', 'reading']]);
    expect(unmirrored.rules('/')).toEqual(['--filter=P /d/closed/***', '--filter=H /d/closed/***']);
    for (const path of unmirrored.allAside.map((it) => it.path)) unmirrored.settle(path);
    unmirrored.keepMoved(
      () => false,
      find,
      () => false,
    );
    unmirrored.keepMoved(
      () => true,
      find,
      () => false,
    );
    expect(aside()).toEqual([]);
  });
});

test('what a file system keeps for itself is left out for good, and fails nowhere', () => {
  const unmirrored = new Unmirrored();
  expect(unmirrored.ignore('lost+found')).toBe(true);
  expect(unmirrored.ignore('lost+found')).toBe(false);
  expect(unmirrored.isHidden('lost+found/x')).toBe(true);
  expect(unmirrored.rules('/')).toEqual(['--filter=P /lost+found/***', '--filter=H /lost+found/***']);
  expect(unmirrored.size).toBe(0);
  const own = { uid: 0, isDirectory: () => true };
  expect(isLostAndFound('disk/lost+found', own)).toBe(process.getuid?.() !== 0);
  expect(isLostAndFound('disk/lost+found', { ...own, uid: 1000 })).toBe(false);
  expect(isLostAndFound('disk/lost', own)).toBe(false);
  expect(isLostAndFound('lost+found', undefined)).toBe(false);
});
