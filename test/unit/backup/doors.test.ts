import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { configOf, Doors } from '../../../src/backup/doors.ts';
import { isSourceName } from '../../../src/service/source-names.ts';

function home() {
  const directory = mkdtempSync(join(tmpdir(), 'doors-'));
  const config = { HOST_KEY_DIR: directory, DEST_DIR: '/data/backup' };
  const names = () => new Doors(config).list().map(({ name }) => name);
  return { directory, config, names, [Symbol.dispose]: () => rmSync(directory, { recursive: true }) };
}

test.each([
  ...['web1', 'WEB_1', '_', '0', 'a.b-c', 'x'.repeat(64)].map((name) => [name, true] as const),
  ...['', '.', '..', '.history', '.web1', '-web1', 'a/b', 'web 1', 'web1\n', '网站', 'a\0', 'x'.repeat(65)].map(
    (name) => [name, false] as const,
  ),
])('whether %j is the name of a source: %p', (name, is) => {
  expect(isSourceName(name)).toBe(is);
});

test('a service without names has one door, and each name has one of its own, which others see come', () => {
  using it = home();
  const doors = new Doors(it.config);
  const seen: string[] = [];
  doors.onChange(() =>
    seen.push(
      doors
        .list()
        .map(({ name }) => name)
        .join(),
    ),
  );
  expect(doors.list()).toEqual([{ name: '', directory: '/data/backup' }]);
  expect([doors.areNamed, doors.isNameless]).toEqual([false, false]);
  for (const name of ['', 'web1', 'web1', 'web2']) doors.add(name);
  expect(doors.list()).toEqual([
    { name: 'web1', directory: '/data/backup/web1' },
    { name: 'web2', directory: '/data/backup/web2' },
  ]);
  expect([doors.areNamed, doors.isNameless]).toEqual([true, false]);
  doors.remove('web1');
  expect(seen).toEqual(['', 'web1', 'web1,web2', 'web2']);
  expect(configOf({ ...it.config, more: 1 }, doors.list()[0] as never)).toMatchObject({
    ...{ DEST_DIR: '/data/backup/web2', HOST_KEY_DIR: it.directory, more: 1 },
  });
});

test('doors are remembered over restarts, those of each DEST_DIR for itself', () => {
  using it = home();
  const doors = new Doors(it.config);
  for (const name of ['web1', 'web2']) doors.add(name);
  expect(it.names()).toEqual(['web1', 'web2']);
  expect(new Doors({ ...it.config, DEST_DIR: '/data/other' }).list().map(({ name }) => name)).toEqual(['']);
  doors.add('');
  expect(new Doors(it.config).isNameless).toBe(true);
});

test.each(['rubbish', 'null', '{"names":["../x","/etc","web1",7]}', '{"names":["","web1"]}'])(
  'no more is taken from a file that holds %s than names',
  (content) => {
    using it = home();
    new Doors(it.config).add('web1');
    const [file = ''] = [...new Bun.Glob('doors-*.json').scanSync(it.directory)];
    writeFileSync(join(it.directory, file), content);
    const found = new Doors(it.config);
    for (const { name } of found.list()) expect(name === '' || isSourceName(name)).toBe(true);
    expect(found.isNameless).toBe(content.includes('""'));
  },
);
