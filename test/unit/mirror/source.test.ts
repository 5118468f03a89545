import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { linkSync, mkdirSync, renameSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Batch, type Change, MAX_PENDING } from '../../../src/mirror/changes.ts';
import { readRules } from '../../../src/mirror/filter-rules.ts';
import { parseOptions } from '../../../src/mirror/rsync-options.ts';
import { LOST_AND_FOUND, Source } from '../../../src/mirror/source.ts';
import { Failure } from '../../../src/service/text.ts';
import { scratch } from '../service/scratch.ts';
import { change } from './stand-ins.ts';

/** A source in a directory of its own: what ends with a slash is a directory, the rest are empty files. Paths are bytes. */
function sourceOf(...paths: string[]) {
  const directory = scratch();
  const at = (path: string) => Buffer.from(join(directory.path, path), 'latin1');
  for (const path of paths) {
    mkdirSync(path.endsWith('/') ? at(path) : Buffer.from(dirname(at(path).toString('latin1')), 'latin1'), {
      recursive: true,
    });
    if (!path.endsWith('/')) writeFileSync(at(path), '');
  }
  const source = new Source(`${directory.path}/`);
  return { source, at, path: directory.path, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

const batchOf = (changes: Record<string, Partial<Change>>): Batch =>
  new Map(Object.entries(changes).map(([path, known]) => [path, change(known)]));
const surveyed = async (source: Source, changes: Record<string, Partial<Change>>) => {
  const scopes = await source.survey(batchOf(changes));
  return scopes && Object.fromEntries(scopes);
};
const TREE = { tree: true };
/** A time after any search for files with several names. */
const LATER = performance.now() + 3_600_000;

describe('what rsync has to look at', () => {
  test('is what is there, whatever it is, and otherwise that it is gone', async () => {
    using it = sourceOf('a/file', 'a/directory/inside');
    symlinkSync('directory', it.at('a/link'));
    symlinkSync('nowhere', it.at('broken'));
    const found = await surveyed(it.source, { 'a/file': {}, 'a/directory': {}, 'a/link': {}, broken: {}, gone: {} });
    expect(found).toEqual({
      'a/file': 'entry',
      'a/directory': 'directory',
      'a/link': 'entry',
      broken: 'entry',
      gone: 'gone',
    });
  });

  test('is the source itself, and its attributes alone where nothing more has changed', async () => {
    using it = sourceOf('a');
    expect(await surveyed(it.source, { '': {} })).toEqual({ '': 'directory' });
  });

  test('is the first directory that is missing, from the root down', async () => {
    using it = sourceOf('a/');
    await it.source.findLinks(); // there are none, or a tree that is gone would need more
    expect(
      await surveyed(it.source, { 'a/b/c/d': {}, 'x/y': {}, 'a/b': {}, 'm/n/o': { ...TREE, since: LATER } }),
    ).toEqual({
      'a/b': 'gone',
      x: 'gone',
      m: 'gone',
    });
  });

  test('is the first that is no directory: a file, or a link wherever it leads', async () => {
    using it = sourceOf('file', 'directory/inside');
    symlinkSync('directory', it.at('link'));
    expect(await surveyed(it.source, { 'file/a/b': {}, 'link/inside': {}, 'link/tree/below': TREE })).toEqual({
      file: 'entry',
      link: 'entry',
    });
  });

  test('is the topmost directory that has become empty, where empty ones are left out, or all if that is the source', async () => {
    using it = sourceOf('a/b/c/', 'a/file', 'd/x.tmp', 'new/directory/', 'e/link');
    const filters = readRules(parseOptions(['--exclude=*.tmp']));
    const look = async (...paths: string[]) => {
      const changes = Object.fromEntries(paths.map((path) => [path, path.endsWith('y') ? TREE : {}]));
      const scopes = await it.source.survey(batchOf(changes), { prunes: true, filters });
      return scopes && Object.fromEntries(scopes);
    };
    expect(await look('a/b/c/gone', 'a/file', 'a/gone', 'd', 'd/gone/too', 'new/directory', 'e')).toEqual({
      'a/b': 'hollow',
      'a/file': 'entry',
      'a/gone': 'gone',
      d: 'hollow',
      new: 'hollow',
      e: 'directory',
    });
    rmSync(it.at('a/file'));
    rmSync(it.at('e/link'));
    expect(await look('a/file')).toBeUndefined();
  });

  test('is every directory of a tree, and no file of it by its name', async () => {
    using it = sourceOf('t/a', 't/d/b', 't/d/e/', 'other/f');
    symlinkSync('../other', it.at('t/link'));
    expect(await surveyed(it.source, { t: TREE })).toEqual({ t: 'tree', 't/d': 'inside', 't/d/e': 'inside' });
    expect(await surveyed(it.source, { other: TREE, 'other/f': TREE })).toEqual({ other: 'tree', 'other/f': 'entry' });
  });

  test('is the same in whatever order a tree and what is in it come', async () => {
    using it = sourceOf('t/d/e/a');
    const all = { t: 'tree', 't/d': 'inside', 't/d/e': 'inside' } as const;
    expect(await surveyed(it.source, { t: TREE, 't/d': TREE, 't/d/e': {} })).toEqual(all);
    expect(await surveyed(it.source, { 't/d': TREE, 't/d/e': {}, t: TREE })).toEqual(all);
    expect(await surveyed(it.source, { 't/d/e': {}, 't/d': TREE })).toEqual({ 't/d/e': 'inside', 't/d': 'tree' });
  });

  test('is found by any name: with a line end in it, with bytes that are not UTF-8, with what looks like a pattern', async () => {
    const names = ['new\nline', '\xff\xfe', 'a\xe4', ' ', '*?[x]\\', '中'].map((name) =>
      name === '中' ? Buffer.from(name).toString('latin1') : name,
    );
    using it = sourceOf(...names.map((name) => `${name}/${name}/`), ...names.map((name) => `${name}/file ${name}`));
    const changes = names.flatMap((name): [string, Partial<Change>][] => [
      [name, TREE],
      [`${name}/file ${name}`, {}],
      [`${name}/not ${name}`, {}],
    ]);
    const expected = names.flatMap((name) => [
      [name, 'tree'],
      [`${name}/${name}`, 'inside'],
      [`${name}/file ${name}`, 'entry'],
      [`${name}/not ${name}`, 'gone'],
    ]);
    expect(await surveyed(it.source, Object.fromEntries(changes))).toEqual(Object.fromEntries(expected));
    for (const name of names) expect(it.source.look(`${name}/file ${name}`)?.isFile()).toBe(true);
  });

  test('is nothing that is too deep to be named', async () => {
    using it = sourceOf('a/');
    const chain = 'cd "$1"; n=$(printf %0250d 0); i=0; while [ $i -lt 18 ]; do mkdir $n; cd -P $n; i=$((i+1)); done';
    spawnSync('bash', ['-c', chain, 'bash', it.at('a').toString()]);
    const found = Object.keys((await surveyed(it.source, { a: TREE })) ?? {});
    expect(found.length).toBeGreaterThan(10);
    expect(Math.max(...found.map((path) => it.path.length + 1 + path.length))).toBeLessThan(4096);
    spawnSync('rm', ['-rf', it.at('a').toString()]);
  });

  test('is nothing to be found where nothing has changed', async () => {
    using it = sourceOf('a');
    expect(await surveyed(it.source, {})).toEqual({});
  });
});

describe('only the whole tree will do', () => {
  test('where a file has several names: named, or in a tree', async () => {
    using it = sourceOf('d/a', 'd/b', 'e/');
    expect(await surveyed(it.source, { d: TREE })).toBeDefined();
    linkSync(it.at('d/a'), it.at('e/a'));
    expect(await surveyed(it.source, { 'd/a': {} })).toBeUndefined();
    expect(await surveyed(it.source, { d: TREE })).toBeUndefined();
    expect(await surveyed(it.source, { '': TREE })).toBeUndefined();
    expect(await surveyed(it.source, { 'd/b': {}, e: {} })).toBeDefined();
    rmSync(it.at('e/a'));
    expect(await surveyed(it.source, { 'd/a': {} })).toBeDefined();
  });

  test('where what is gone, or was there before, may have had other names', async () => {
    using it = sourceOf('here');
    expect(await surveyed(it.source, { gone: { shared: true } })).toBeUndefined();
    expect(await surveyed(it.source, { gone: TREE })).toBeUndefined();
    expect(await surveyed(it.source, { here: { hidden: true } })).toBeUndefined();
    expect(await surveyed(it.source, { gone: {}, here: { shared: true } })).toEqual({ gone: 'gone', here: 'entry' });
  });

  test('but not where no file has other names, until one is seen', async () => {
    using it = sourceOf('a', 'b');
    await it.source.findLinks();
    const suspect = {
      gone: { shared: true, since: LATER },
      lost: { ...TREE, at: LATER },
      a: { hidden: true, since: LATER },
    };
    expect(await surveyed(it.source, suspect)).toEqual({ gone: 'gone', lost: 'gone', a: 'entry' });
    linkSync(it.at('b'), it.at('c'));
    expect(await surveyed(it.source, { c: {} })).toBeUndefined();
    rmSync(it.at('c'));
    expect(await surveyed(it.source, suspect)).toBeUndefined();
  });

  test('where a file had other names when they were looked for', async () => {
    using it = sourceOf('a');
    linkSync(it.at('a'), it.at('b'));
    await it.source.findLinks();
    expect(await surveyed(it.source, { gone: { shared: true, since: LATER } })).toBeUndefined();
  });

  test('where something changed before they were looked for in vain, or meanwhile: it may have been the last one with two names', async () => {
    using it = sourceOf('a', 'bin/');
    writeFileSync(it.at('bin/find'), '#!/bin/sh\nsleep 0.1\n', { mode: 0o755 });
    const { PATH } = process.env;
    process.env.PATH = `${it.at('bin')}:${PATH}`;
    const changed = { gone: { shared: true, since: performance.now() } };
    const searching = it.source.findLinks();
    const meanwhile = { a: { hidden: true, since: performance.now() } };
    await searching.finally(() => {
      process.env.PATH = PATH;
    });
    const late = { gone: { ...TREE, since: performance.now() } };
    for (const changes of [changed, meanwhile, late, { gone: TREE }])
      expect(await surveyed(it.source, changes)).toBeUndefined();
    expect(await surveyed(it.source, { gone: { shared: true, since: LATER } })).toEqual({ gone: 'gone' });
  });

  test('where one was seen while they were looked for elsewhere', async () => {
    using it = sourceOf('a');
    const searching = it.source.findLinks();
    linkSync(it.at('a'), it.at('b'));
    it.source.look('b');
    rmSync(it.at('b'));
    await searching;
    expect(await surveyed(it.source, { gone: { shared: true, since: LATER } })).toBeUndefined();
  });

  test.each([
    ['Permission denied', false],
    ['Input/output error', true],
  ])('where some could not be looked for: %s', async (reason, isPossible) => {
    using it = sourceOf('a', 'bin/');
    writeFileSync(it.at('bin/find'), `#!/bin/sh\necho "find: ‘closed’: ${reason}" >&2\nexit 1\n`, { mode: 0o755 });
    const { PATH } = process.env;
    process.env.PATH = `${it.at('bin')}:${PATH}`;
    try {
      await it.source.findLinks();
    } finally {
      process.env.PATH = PATH;
    }
    const scopes = await surveyed(it.source, { gone: { shared: true, since: LATER } });
    expect(scopes).toEqual(isPossible ? undefined : { gone: 'gone' });
  });

  test('where there is too much to look at', async () => {
    using it = sourceOf('d/');
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`gone ${n}`, {}]));
    expect(Object.keys((await surveyed(it.source, many(MAX_PENDING))) ?? {})).toHaveLength(MAX_PENDING);
    expect(await surveyed(it.source, many(MAX_PENDING + 1))).toBeUndefined();
    expect(await surveyed(it.source, { ...many(MAX_PENDING), d: TREE })).toBeUndefined();
  }, 60_000);
});

describe('the source', () => {
  test('is what it was at the start, however it changes, but not another directory in its place', () => {
    using it = sourceOf('source/a');
    const path = join(it.path, 'source');
    const source = new Source(`${path}/`);
    rmSync(join(path, 'a'));
    writeFileSync(join(path, 'b'), '');
    source.check();
    expect(source.isFound).toBe(true);
    renameSync(path, `${path}.old`);
    expect(() => source.check()).toThrow(Failure);
    expect(() => source.check()).toThrow(`源目录 ${path}/ 不见了，为保护备份拒绝同步`);
    expect(source.isFound).toBe(false);
    mkdirSync(path);
    expect(() => source.check()).toThrow(`源目录 ${path}/ 已不是启动时的目录，为保护备份拒绝同步`);
    expect(() => source.isEmpty()).toThrow('已不是启动时的目录');
    rmdirSync(path);
    renameSync(`${path}.old`, path);
    source.check();
    expect(source.isFound).toBe(true);
  });

  test('is empty with nothing in it but what a new file system holds', () => {
    using it = sourceOf();
    expect(it.source.isEmpty()).toBe(true);
    mkdirSync(it.at(LOST_AND_FOUND));
    expect(it.source.isEmpty()).toBe(true);
    writeFileSync(it.at('.hidden'), '');
    expect(it.source.isEmpty()).toBe(false);
    rmSync(it.at('.hidden'));
    rmdirSync(it.at(LOST_AND_FOUND));
    mkdirSync(it.at('d'));
    expect(it.source.isEmpty()).toBe(false);
  });

  test('is told to rsync by what its end means', async () => {
    using it = sourceOf();
    const path = join(it.path, '源');
    mkdirSync(join(path, 'd'), { recursive: true });
    writeFileSync(join(path, 'd', 'a'), '');
    const bytes = Buffer.from(path).toString('latin1');
    const name = Buffer.from('源').toString('latin1');
    expect(new Source(`${path}/`)).toMatchObject({ root: `${bytes}/`, base: `${path}/`, prefix: '/' });
    expect(new Source(path)).toMatchObject({ root: `${bytes}/`, base: it.path, prefix: `/${name}/` });
    for (const end of ['/', '']) {
      const source = new Source(`${path}${end}`);
      expect(await surveyed(source, { 'd/a': {}, d: TREE })).toEqual({ 'd/a': 'entry', d: 'tree' });
      expect(source.look('d/a')?.isFile()).toBe(true);
      expect(source.look('d/b')).toBeUndefined();
      expect(source.look('d/a/below')).toBeUndefined();
      expect(source.isEmpty()).toBe(false);
      source.check();
    }
  });

  test('cannot be one that is not there', () => {
    using it = sourceOf();
    expect(() => new Source(`${it.path}/missing/`)).toThrow('ENOENT');
  });
});

describe('what filters leave out', () => {
  const filters = readRules(parseOptions(['--exclude=*.tmp', '--exclude=cache/']));
  const seen = async (source: Source, changes: Record<string, Partial<Change>>) => {
    const scopes = await source.survey(batchOf(changes), { filters });
    return scopes && Object.fromEntries(scopes);
  };

  test('has changed the time of its directory, where it may be new or gone', async () => {
    using it = sourceOf('d/a.tmp', 'e/', 'f/b.tmp', 'g/cache/x', 'cache/deep/a.tmp');
    const since = performance.now();
    expect(await seen(it.source, { 'd/a.tmp': { kind: 'modify', since } })).toEqual({ d: 'directory' }); // just now
    const later = since + 60_000;
    const changes: Record<string, Partial<Change>> = {
      'd/a.tmp': { kind: 'close_write', since: later },
      'e/gone.tmp': { kind: 'delete', since: later },
      'f/b.tmp': { kind: 'close_write', fresh: true, since: later },
      'g/cache': { kind: 'attrib', isDirectory: true, since: later },
      'cache/deep/a.tmp': { kind: 'create', since: later },
    };
    await it.source.findLinks();
    expect(await seen(it.source, changes)).toEqual({ e: 'directory', f: 'directory', 'g/cache': 'gone' });
  });

  test('may be another name of what they let in', async () => {
    using it = sourceOf('a', 'cache/');
    await it.source.findLinks();
    linkSync(it.at('a'), it.at('cache/a'));
    expect(await seen(it.source, { 'cache/a': { kind: 'create' } })).toEqual({});
    expect(await seen(it.source, { 'cache/a': { kind: 'close_write', shared: true } })).toBeUndefined();
    rmSync(it.at('cache/a'));
    expect(await seen(it.source, { 'cache/a': { kind: 'delete', shared: true } })).toBeUndefined();
  });
});
