import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Memory } from '../../../src/mirror/memory.ts';
import { mayHaveNamespace, Namespace } from '../../namespace.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog } from './stand-ins.ts';

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  log = keepLog();
});
afterEach(() => log[Symbol.dispose]());

const SOURCE_DIR = '/data/source/';
const memoryIn = (SSH_DIR: string, of = SOURCE_DIR) => new Memory({ SSH_DIR, SOURCE_DIR: of });
const identity = { fileSystem: 'abc', type: 'ef53', inode: '2', birth: '1' };
const mount = { path: 'caf\xe9\n', identity, isFilled: true, isReplaced: false };
const warnings = () => log.text.match(/\[WARN.*/g) ?? [];

describe('what is remembered', () => {
  test('is there at the next start, in a file for nobody else, also where its directory was not there', () => {
    using directory = scratch();
    const place = join(directory.path, 'not', 'there');
    const memory = memoryIn(place);
    expect(memory.data).toEqual({ source: undefined, mounts: [], targets: {} });
    memory.data.source = identity;
    memory.data.mounts.push(mount);
    memory.target('root@backup:/data/').backup = 'start boot directory';
    memory.save();
    const next = memoryIn(place);
    expect(next.data).toEqual(memory.data);
    expect(next.target('root@backup:/data/').backup).toBe('start boot directory');
    const names = readdirSync(place);
    expect(names).toHaveLength(1);
    expect(statSync(join(place, names[0] ?? '')).mode & 0o777).toBe(0o600);
    expect(log.text).toBe('');
  });

  test('of a target that is new is nothing, and stays with it', () => {
    using directory = scratch();
    const memory = memoryIn(directory.path);
    const target = memory.target('one');
    expect(target).toMatchObject({ deletions: [] });
    expect(target.backup).toBeUndefined();
    target.backup = 'it';
    expect(memory.target('one')).toBe(target);
    expect(memory.target('other').backup).toBeUndefined();
    expect(memoryIn(directory.path).data.targets).toEqual({}); // it was not written down
  });

  test('of two sources is kept apart, and of one it does not matter whether a slash ends it', () => {
    using directory = scratch();
    const [one, other] = [memoryIn(directory.path, '/data/one/'), memoryIn(directory.path, '/data/other/')];
    one.data.mounts.push(mount);
    one.save();
    other.save();
    expect(readdirSync(directory.path)).toHaveLength(2);
    expect(memoryIn(directory.path, '/data/one').data.mounts).toEqual([mount]);
    expect(memoryIn(directory.path, '/data/other/').data.mounts).toEqual([]);
    expect(memoryIn(directory.path, '/').data.mounts).toEqual([]);
  });

  test('and changes often is written down once, before long', () => {
    using directory = scratch();
    jest.useFakeTimers();
    const memory = memoryIn(directory.path);
    for (let n = 0; n < 3; n++) {
      memory.target('one').backup = `${n}`;
      memory.saveSoon();
    }
    expect(readdirSync(directory.path)).toEqual([]);
    jest.advanceTimersByTime(3000);
    jest.useRealTimers();
    expect(memoryIn(directory.path).target('one').backup).toBe('2');
  });
});

describe('a memory', () => {
  const fileIn = (directory: string) => {
    memoryIn(directory).save();
    return join(directory, readdirSync(directory)[0] ?? '');
  };

  const pauses = ['{}', '{"since":1}', '{"since":1,"until":"2"}', '{"since":1,"until":1e16}', 'null', '[1,2]'];
  const texts = ['', '{', '\xff\xfe', 'null', '5', '[]', '{"mounts":null}', '{"mounts":5,"targets":[],"source":"x"}'];
  test.each([...texts, ...pauses.map((pause) => `{"pause":${pause}}`)])(
    'that holds what it should not counts as none, and is written anew: %p',
    (text) => {
      using directory = scratch();
      const file = fileIn(directory.path);
      writeFileSync(file, text);
      const memory = memoryIn(directory.path);
      expect(memory.data).toEqual({ source: undefined, mounts: [], targets: {} });
      expect(warnings()).toHaveLength(1);
      expect(warnings()[0]).toContain('视为首次启动');
      memory.data.mounts.push(mount);
      memory.save();
      expect(memoryIn(directory.path).data.mounts).toEqual([mount]);
    },
  );

  test('of an older version is read with what it knows', () => {
    using directory = scratch();
    const file = fileIn(directory.path);
    writeFileSync(file, JSON.stringify({ mounts: [mount] }));
    expect(memoryIn(directory.path).data).toEqual({ source: undefined, mounts: [mount], targets: {} });
    expect(warnings()).toEqual([]);
  });

  test('that cannot be read is told, with the reason', () => {
    using directory = scratch();
    const file = fileIn(directory.path);
    rmSync(file);
    mkdirSync(file);
    expect(memoryIn(directory.path).data.mounts).toEqual([]);
    expect(warnings()).toHaveLength(1);
    expect(warnings()[0]).toMatch(/无法读取 .*EISDIR/);
  });

  test('that cannot be written is told once, and again once it could be written meanwhile', () => {
    using directory = scratch();
    const place = join(directory.path, 'keys');
    writeFileSync(place, 'in the way of the directory');
    const memory = memoryIn(place);
    const before = warnings().length;
    for (let n = 0; n < 3; n++) memory.save();
    expect(warnings()).toHaveLength(before + 1);
    expect(warnings().at(-1)).toMatch(/无法保存 .*。重启后将不记得/);
    rmSync(place);
    memory.data.mounts.push(mount);
    memory.save();
    expect(memoryIn(place).data.mounts).toEqual([mount]);
    rmSync(place, { recursive: true });
    writeFileSync(place, '');
    memory.save();
    expect(warnings()).toHaveLength(before + 2);
  });
});

const isPossible = mayHaveNamespace();
if (!isPossible) console.log('SKIPPED: a read-only directory of keys (needs mount namespaces)');

test.skipIf(!isPossible)(
  'on a read-only volume what is remembered is read, and that nothing can be is told once',
  async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    const memory = memoryIn(directory.path);
    memory.data.mounts.push(mount);
    memory.save();
    const [file = ''] = readdirSync(directory.path);
    const script = `
    import { Memory } from '${join(import.meta.dir, '../../../src/mirror/memory.ts')}';
    const memory = new Memory({ SSH_DIR: '${directory.path}', SOURCE_DIR: '${SOURCE_DIR}' });
    memory.save(); // as it is
    console.log(memory.data.mounts.length);
    memory.data.mounts = [];
    for (let n = 0; n < 3; n++) memory.save();`;
    namespace.run('mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"', directory.path);
    const [command = '', ...words] = [...namespace.wrapper, process.execPath, '-e', script];
    const { stdout, stderr, status } = spawnSync(command, words, { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toStartWith('1\n');
    expect(stdout.match(/\[WARN.*无法保存 .*EROFS/g)).toHaveLength(1);
    expect(readFileSync(join(directory.path, file), 'utf8')).toContain('caf');
  },
);
