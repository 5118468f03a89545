import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PublishedSources } from '../../../src/backup/published-sources.ts';
import { complaints } from '../../../src/service/status.ts';
import { eioAt, mayFail } from '../../eio.ts';
import { eventually } from '../../processes.ts';

function volume() {
  const directory = mkdtempSync(join(tmpdir(), 'published-'));
  const sources = join(directory, 'sources');
  const published = new PublishedSources(sources);
  const at = (name: string) => join(sources, name);
  const read = () => {
    const { contents, faults } = published.read();
    return { names: [...contents.keys()], files: faults.map(({ file }) => file) };
  };
  return { directory, sources, published, at, read, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

test('nothing is published where there is no directory, and what comes and changes later is read', () => {
  using it = volume();
  expect(it.read()).toEqual({ names: [], files: [] });
  mkdirSync(it.sources);
  expect(it.read()).toEqual({ names: [], files: [] });
  writeFileSync(it.at('web2.pub'), 'two\n');
  writeFileSync(it.at('.web1.tmp'), 'half');
  expect(it.read()).toEqual({ names: ['web2'], files: [] });
  renameSync(it.at('.web1.tmp'), it.at('web1.pub'));
  writeFileSync(it.at('web2.pub'), 'changed as it is\n'); // which changes no directory
  expect(it.read()).toEqual({ names: ['web1', 'web2'], files: [] });
  expect(it.published.read().contents.get('web2')).toBe('changed as it is');
  rmSync(it.at('web2.pub'));
  expect(it.read()).toEqual({ names: ['web1'], files: [] });
});

test.each<[string, (path: string) => void]>([
  ['a link', (path) => symlinkSync('/etc/passwd', path)],
  ['a directory', (path) => mkdirSync(path)],
  ['a pipe', (path) => spawnSync('mkfifo', [path])],
  ['too large', (path) => writeFileSync(path, 'x'.repeat(10_000_000))],
])('a file that is %s is a fault', (_, make) => {
  using it = volume();
  mkdirSync(it.sources);
  make(it.at('web1.pub'));
  writeFileSync(it.at('web2.pub'), 'two');
  expect(it.read()).toEqual({ names: ['web2'], files: ['web1.pub'] });
});

test('what hosts have left that were refused a name is read with that name, and is a fault in no case', () => {
  using it = volume();
  mkdirSync(it.sources);
  const claims = () => [...it.published.read().claims];
  for (const name of ['web1', 'web2', 'web3']) writeFileSync(it.at(`${name}.pub`), 'key');
  for (const name of ['web1', 'other', '-x', '.']) writeFileSync(it.at(`${name}.claim`), `of ${name}\n`);
  symlinkSync('web1.pub', it.at('web2.claim'));
  writeFileSync(it.at('web3.claim'), 'x'.repeat(1_000_000));
  expect(claims()).toEqual([['web1', 'of web1']]);
  expect(it.read()).toEqual({ names: ['web1', 'web2', 'web3'], files: [] });
  rmSync(it.at('web1.claim'));
  expect(claims()).toEqual([]);
});

test('a directory that is a link is a fault, and not followed', () => {
  using it = volume();
  mkdirSync(join(it.directory, 'elsewhere'));
  writeFileSync(join(it.directory, 'elsewhere', 'web1.pub'), 'one');
  symlinkSync('elsewhere', it.sources);
  expect(it.read()).toEqual({ names: [], files: [''] });
});

test('of very many files only so many are looked at, which is a fault', () => {
  using it = volume();
  mkdirSync(it.sources);
  for (let n = 0; n < 1005; n++) writeFileSync(it.at(`n${String(n).padStart(4, '0')}.pub`), '');
  const { contents, faults } = it.published.read();
  expect(contents.size).toBe(1000);
  expect(faults).toEqual([{ file: '', reason: expect.stringContaining('1005') }]);
});

test('what comes while the time of the directory stays the same is read, for that may count in steps of seconds', () => {
  using it = volume();
  mkdirSync(it.sources);
  const published = new PublishedSources(it.sources, undefined, () => 'the same second');
  for (const names of [['web1'], ['web1', 'web2'], ['web1', 'web2', 'web3']]) {
    writeFileSync(it.at(`${names.at(-1)}.pub`), 'key');
    expect([...published.read().contents.keys()]).toEqual(names);
  }
});

test('a volume that does not answer is told once, until it does', async () => {
  const answers = [true, false, false, true, false];
  const published = new PublishedSources('/volume/sources', { answers: async () => answers.shift() ?? true });
  const told = () =>
    complaints.reduce((sum, { message, count }) => sum + (message.includes('/volume/sources') ? count : 0), 0);
  const seen: [boolean, number][] = [];
  for (const _ of [1, 2, 3, 4, 5]) seen.push([await published.answers(), told()]);
  expect(seen).toEqual([
    [true, 0],
    [false, 1],
    [false, 1],
    [true, 1],
    [false, 2],
  ]);
});

test.skipIf(!mayFail)(
  'a volume that tells what it holds, which may be known without it, and opens nothing does not answer',
  async () => {
    using it = volume();
    using disk = await eioAt(join(it.directory, 'volume'));
    mkdirSync(join(disk.real, 'sources'));
    mkdirSync(join(disk.real, 'sources', 'a'));
    writeFileSync(join(disk.real, 'sources', 'web1.pub'), 'key');
    const published = new PublishedSources(join(it.directory, 'volume', 'sources'));
    expect(await published.answers()).toBe(true);
    expect([...published.read().contents.keys()]).toEqual(['web1']);
    disk.fail('hang open /sources/web1.pub');
    expect(await published.answers()).toBe(false);
    disk.fail();
    await eventually(() => published.answers());
  },
);
