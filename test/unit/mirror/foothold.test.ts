import { describe, expect, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Foothold, leaveRoom, mayFindFiles } from '../../../src/mirror/foothold.ts';
import { LIST_OPTIONS, listOf, type Scope } from '../../../src/mirror/scopes.ts';
import { Source } from '../../../src/mirror/source.ts';
import { Failure } from '../../../src/service/text.ts';
import { answerOf } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';

/** Has an rsync that was started in / copy what scopes mean of a source whose place is taken once there is a foothold. */
async function copy(source: Source, scopes: [string, Scope][], to: string) {
  const rsync = spawn('rsync', ['-a', '--delete', ...LIST_OPTIONS, '/', `${to}/`], { cwd: '/' });
  using foothold = new Foothold(source);
  renameSync(dirname(source.directory), `${to}.moved`);
  mkdirSync(source.directory, { recursive: true });
  const answer = await answerOf(rsync, foothold.locate(listOf(new Map(scopes), source.prefix)));
  return { ...answer, said: foothold.explain(answer.stderr) };
}

describe('an rsync that was started elsewhere', () => {
  test.each([
    ['of the contents', '/', ''],
    ['of the directory', '', 'söurce/'],
  ])('mirrors the source that it is told of, whatever takes its place: names %s', async (_, slash, prefix) => {
    using directory = scratch();
    const [path, to] = [join(directory.path, 'disk', 'söurce'), join(directory.path, 'to')];
    for (const below of [`${path}/sub/deep`, `${path}/.`, `${to}/${prefix}sub/gone`])
      mkdirSync(below, { recursive: true });
    for (const name of ['a\nb', 'sub/c', 'sub/deep/d', 'unlisted']) writeFileSync(join(path, name), name);
    spawnSync('touch', ['-d', '2001-01-01', path]);
    const source = new Source(path + slash);
    const scopes: [string, Scope][] = [
      ['a\nb', 'entry'],
      ['sub/gone', 'gone'],
      ['missing', 'entry'],
    ];
    expect(await copy(source, scopes, to)).toMatchObject({ status: 0, stderr: '' });
    const found = readdirSync(join(to, prefix), { recursive: true, encoding: 'utf8' }).sort();
    expect(found).toEqual(['a\nb', 'sub', 'sub/c', 'sub/deep']);
    const { stdout } = spawnSync('stat', ['-c', '%Y', join(to, prefix)], { encoding: 'utf8' });
    expect(Number(stdout)).toBe(new Date(2001, 0, 1).getTime() / 1000);
  });

  test('is reported with the names that people know', async () => {
    using directory = scratch();
    const [path, to] = [join(directory.path, 'disk', 'source'), join(directory.path, 'to')];
    mkdirSync(join(path, 'sub'), { recursive: true });
    mkdirSync(to);
    writeFileSync(join(path, 'file'), '');
    const { status, said } = await copy(new Source(`${path}/`), [['file/below', 'entry']], to);
    expect(status).toBe(23);
    expect(said).toContain(`link_stat "${path}/file/below" failed`);
  });
});

test('there is no foothold in what has taken the place of the source', () => {
  using directory = scratch();
  const path = join(directory.path, 'source');
  mkdirSync(path);
  const source = new Source(`${path}/`);
  renameSync(path, `${path}.old`);
  expect(() => new Foothold(source)).toThrow('不见了');
  mkdirSync(path);
  expect(() => new Foothold(source)).toThrow(Failure);
});

test('a name that would leave no room for the way to the source is told from others', () => {
  const names = (...lengths: number[]) => Buffer.from(lengths.map((length) => `${'x'.repeat(length)}\0`).join(''));
  expect([names(), names(4000), names(1, 4000, 1)].map(leaveRoom)).toEqual([true, true, true]);
  expect([names(4001), names(1, 4050)].map(leaveRoom)).toEqual([false, false]);
});

test('programs that are started here find what this process holds open', () => {
  expect(mayFindFiles()).toBe(true);
});
