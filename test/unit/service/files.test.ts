import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  holdDirectory,
  isWithin,
  parentOf,
  readSmallFile,
  realPath,
  replaceFile,
  withParents,
} from '../../../src/service/files.ts';
import { scratch } from './scratch.ts';

/** What realpath(1) says of paths that need not exist. */
function realpaths(paths: string[]): string[] {
  if (paths.length === 0) return [];
  const { stdout } = spawnSync('realpath', ['-z', '-m', '--', ...paths], { encoding: 'utf8', timeout: 5000 });
  return stdout.split('\0').slice(0, -1);
}

describe('where a path leads', () => {
  test('is told by its links, as far as it exists', () => {
    using directory = scratch();
    const at = (path: string) => join(directory.path, path);
    mkdirSync(at('d/e'), { recursive: true });
    symlinkSync('d/e', at('link'));
    symlinkSync(at('link'), at('d/absolute'));
    symlinkSync('../..', at('d/e/up'));
    const places: Record<string, string> = {
      d: 'd',
      link: 'd/e',
      'link/': 'd/e',
      'link/new': 'd/e/new',
      'link/new/newer': 'd/e/new/newer',
      'link/../new': 'd/new',
      'd/absolute/new': 'd/e/new',
      'd/e/up/new': 'new',
      'new/../other': 'other',
      'new//newer/': 'new/newer',
    };
    for (const [path, place] of Object.entries(places)) {
      expect([path, realPath(`${directory.path}/${path}`)]).toEqual([path, at(place)]);
    }
    expect(realPath('/')).toBe('/');
    expect(realPath('//')).toBe('/');
  });

  test('is nowhere for a link that leads nowhere, or in a circle, with a slash behind it too', () => {
    using directory = scratch();
    const at = (path: string) => `${directory.path}/${path}`;
    symlinkSync('nowhere', at('broken'));
    symlinkSync('circle', at('circle'));
    for (const path of ['broken', 'broken/', 'broken/below', 'circle', 'circle/below'])
      expect(() => realPath(at(path))).toThrow();
  });

  test('is where realpath says, on any tree of directories and links', () => {
    const name = fc.constantFrom('a', 'b', 'c');
    const relative = fc.array(fc.constantFrom('a', 'b', 'c', '..', '.'), { minLength: 1, maxLength: 4 });
    const path = relative.map((parts) => parts.join('/'));
    const places = fc.array(fc.array(name, { minLength: 1, maxLength: 3 }), { maxLength: 4 });
    const links = fc.array(fc.tuple(fc.array(name, { minLength: 1, maxLength: 3 }), path, fc.boolean()), {
      maxLength: 4,
    });
    let known = 0;
    fc.assert(
      fc.property(places, links, fc.array(path, { minLength: 3, maxLength: 3 }), (directories, all, asked) => {
        using directory = scratch();
        const root = join(directory.path, 'x/y/z'); // `..` does not lead out of what is our own
        mkdirSync(root, { recursive: true });
        const tryTo = (make: () => unknown) => {
          try {
            make();
          } catch {} // something else is there already
        };
        for (const parts of directories) tryTo(() => mkdirSync(join(root, ...parts), { recursive: true }));
        for (const [parts, to, isAbsolute] of all)
          tryTo(() => symlinkSync(isAbsolute ? `${root}/${to}` : to, join(root, ...parts)));
        const answers = new Map<string, string>();
        const paths = asked.map((it) => `${root}/${it}`);
        for (const it of paths) tryTo(() => answers.set(it, realPath(it)));
        known += answers.size;
        expect([...answers.values()]).toEqual(realpaths([...answers.keys()]));
        expect(paths.filter((it) => !answers.has(it) && existsSync(it))).toEqual([]);
      }),
      { numRuns: 60 },
    );
    expect(known).toBeGreaterThan(60); // of 180
  }, 60_000);
});

test('a path is within a directory where it is that or lies below', () => {
  for (const [path, root, expected] of [
    ['/a', '/a', true],
    ['/a/b/c', '/a', true],
    ['/a/b', '/a/', true],
    ['/ab', '/a', false],
    ['/', '/a', false],
    ['/a', '/', true],
  ] as const)
    expect([path, root, isWithin(path, root)]).toEqual([path, root, expected]);
});

test('what a path lies below is listed from near to far', () => {
  expect(withParents('a/b/c')).toEqual(['a/b/c', 'a/b', 'a', '']);
  expect(withParents('')).toEqual(['']);
  expect(['a/b/c', 'a', ''].map(parentOf)).toEqual(['a/b', '', '']);
});

describe('a file that is replaced', () => {
  test('is whole, has its mode whatever the umask, and leaves nothing beside it', () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    const umask = process.umask(0o077);
    try {
      replaceFile(path, '中\n', 0o644);
      expect(process.umask()).toBe(0o077);
    } finally {
      process.umask(umask);
    }
    expect(readFileSync(path, 'utf8')).toBe('中\n');
    expect(statSync(path).mode & 0o777).toBe(0o644);
    replaceFile(path, Buffer.from([0xff, 0]), 0o600);
    expect([...readFileSync(path)]).toEqual([0xff, 0]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory.path)).toEqual(['file']);
  });

  test('stays as it is where it holds the same already', () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    writeFileSync(path, '中', { mode: 0o640 });
    const before = statSync(path);
    replaceFile(path, '中', 0o600);
    replaceFile(path, Buffer.from('中'), 0o600);
    const after = statSync(path);
    expect([after.ino, after.mtimeMs, after.mode]).toEqual([before.ino, before.mtimeMs, before.mode]);
    replaceFile(path, '文', 0o600); // as long as before
    expect(readFileSync(path, 'utf8')).toBe('文');
    expect(statSync(path).ino).not.toBe(before.ino);
  });

  test('keeps what other names of it hold, and what a link in its place leads to', () => {
    using directory = scratch();
    const at = (name: string) => join(directory.path, name);
    writeFileSync(at('other'), 'new');
    symlinkSync('other', at('link'));
    linkSync(at('other'), at('hard'));
    replaceFile(at('link'), 'new', 0o600);
    expect(lstatSync(at('link')).isFile()).toBe(true);
    replaceFile(at('hard'), 'newer', 0o600);
    expect([readFileSync(at('other'), 'utf8'), readFileSync(at('hard'), 'utf8')]).toEqual(['new', 'newer']);
    symlinkSync('nowhere', at('broken'));
    replaceFile(at('broken'), 'x', 0o600);
    expect(readdirSync(directory.path).sort()).toEqual(['broken', 'hard', 'link', 'other']);
  });

  test('sets a directory in its place aside', () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    mkdirSync(join(path, 'inside'), { recursive: true });
    replaceFile(path, 'x', 0o600);
    expect(readFileSync(path, 'utf8')).toBe('x');
    const [aside = '', ...others] = readdirSync(directory.path).filter((name) => name !== 'file');
    expect(aside).toMatch(/^file\.\d+\.old$/);
    expect(others).toEqual([]);
    expect(readdirSync(join(directory.path, aside))).toEqual(['inside']);
  });

  test('is not kept from it by what a start that was cut short has left, be it a directory or a link', () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    const temporary = `${path}.${process.pid}.tmp`;
    writeFileSync(join(directory.path, 'victim'), 'safe');
    const remains = [
      () => mkdirSync(join(temporary, 'deep'), { recursive: true }),
      () => symlinkSync('victim', temporary),
      () => writeFileSync(temporary, 'half'),
    ];
    for (const [n, leave] of remains.entries()) {
      leave();
      replaceFile(path, `${n}`, 0o600);
      expect(readFileSync(path, 'utf8')).toBe(`${n}`);
    }
    expect(readFileSync(join(directory.path, 'victim'), 'utf8')).toBe('safe');
    const [aside = '', ...others] = readdirSync(directory.path).filter((name) => name.endsWith('.old'));
    expect(others).toEqual([]); // of the directory, which may hold more than can be removed at once
    rmSync(join(directory.path, aside), { recursive: true });
    expect(readdirSync(directory.path).sort()).toEqual(['file', 'victim']);
  });

  test('takes the place of a pipe, a socket or a huge file without a look into it', async () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    spawnSync('mkfifo', [path]);
    replaceFile(path, 'x', 0o600);
    rmSync(path);
    spawnSync('truncate', ['-s', '10G', path]);
    replaceFile(path, 'x', 0o600);
    rmSync(path);
    const server = createServer().listen(path);
    await once(server, 'listening');
    replaceFile(path, 'x', 0o600);
    expect(readFileSync(path, 'utf8')).toBe('x');
    server.close();
  });

  test('is the old one where it cannot be replaced', () => {
    using directory = scratch();
    expect(() => replaceFile(join(directory.path, 'missing', 'file'), 'x', 0o600)).toThrow('ENOENT');
    const path = join(directory.path, 'file');
    writeFileSync(path, 'old');
    expect(() => replaceFile(join(path, 'below'), 'x', 0o600)).toThrow('ENOTDIR');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(directory.path)).toEqual(['file']);
  });
});

describe('a small file', () => {
  test('is read whole', () => {
    using directory = scratch();
    const path = join(directory.path, 'file');
    writeFileSync(path, '中文');
    chmodSync(path, 0o400);
    expect(readSmallFile(path, 6)).toBe('中文');
    writeFileSync(join(directory.path, 'empty'), '');
    expect(readSmallFile(join(directory.path, 'empty'), 6)).toBe('');
  });

  test('is no large one, no directory, no link and no pipe, which would be waited for', () => {
    using directory = scratch();
    const at = (name: string) => join(directory.path, name);
    writeFileSync(at('large'), 'seven b');
    writeFileSync(at('small'), 'x');
    symlinkSync('small', at('link'));
    spawnSync('mkfifo', [at('pipe')]);
    for (const path of [at('large'), at('link'), at('pipe'), directory.path])
      expect(() => readSmallFile(path, 6)).toThrow('应为不超过 6 字节的普通文件，不能是链接');
    rmSync(at('small'));
    expect(() => readSmallFile(at('small'), 6)).toThrow('ENOENT');
  });
});

test('a directory that is held stays the same, whatever is put in its place, and is no link', () => {
  using directory = scratch();
  const at = (name: string) => join(directory.path, name);
  mkdirSync(at('held'));
  mkdirSync(at('other'));
  {
    using held = holdDirectory(at('held'));
    renameSync(at('held'), at('moved'));
    symlinkSync('other', at('held'));
    replaceFile(held.at('file'), 'x', 0o600);
    expect(readFileSync(held.at('file'), 'utf8')).toBe('x');
  }
  expect(readdirSync(at('moved'))).toEqual(['file']);
  expect(readdirSync(at('other'))).toEqual([]);
  writeFileSync(at('file'), '');
  for (const name of ['held', 'file']) expect(() => holdDirectory(at(name))).toThrow('应为目录，不能是链接');
  expect(() => holdDirectory(at('missing'))).toThrow('ENOENT');
});
