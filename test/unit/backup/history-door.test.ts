import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../../src/backup/config.ts';
import { locate } from '../../../src/backup/confinement.ts';
import { hasHistory, Keeping, keepingOf, makeHistory, unkeptOption } from '../../../src/backup/history-door.ts';
import { movesIn } from '../../../src/backup/history-moves.ts';
import { entryOf } from '../../../src/backup/history-names.ts';
import { renameIn, within } from './history-renames.ts';

let root = '';
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'history-')));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));
const path = (...names: string[]) => join(root, ...names);

test('where all was moved into a directory, its history is there, unless DEST_DIR has one, too; a file has none', () => {
  const { START_SSHD_HISTORY } = process.env;
  process.env.START_SSHD_HISTORY = '1';
  try {
    for (const name of ['web1', 'data']) mkdirSync(path(name));
    makeHistory(path('web1'));
    writeFileSync(path('file'), '');
    const kept = (...names: string[]) => keepingOf(root, path(...names))?.guarded?.history;
    expect(kept('web1')).toBe(path('web1', '.history'));
    expect(existsSync(path('.history'))).toBe(false);
    for (const names of [['file'], ['data'], ['web1']]) expect(kept(...names)).toBe(path('.history'));
    expect(hasHistory(path('file'))).toBe(false);
  } finally {
    if (START_SSHD_HISTORY === undefined) delete process.env.START_SSHD_HISTORY;
    else process.env.START_SSHD_HISTORY = START_SSHD_HISTORY;
  }
});

describe('what the source may not name', () => {
  test.each([
    '.history',
    '.history/',
    './.history/',
    '//.history//',
    'd/../.history',
    'way',
    'way/',
    'way/20251009T120000.000Z/x',
    'around/.history',
    '.history/new/deep',
  ])('%s', (word) => {
    makeHistory(root);
    mkdirSync(path('.history', '20251009T120000.000Z'));
    mkdirSync(path('d'));
    symlinkSync('.history', path('way'));
    symlinkSync('..', path('d', 'up'));
    symlinkSync('d/up', path('around'));
    const { real } = locate(`${root}/${word}`, root);
    expect(() => new Keeping(root, true).refuse([real])).toThrow('保存旧版本');
  });

  test('what only has a similar name may be used', () => {
    makeHistory(root);
    mkdirSync(path('d', '.history'), { recursive: true });
    const keeping = new Keeping(root, true);
    keeping.refuse([root, path('d', '.history'), path('.history2'), path('d')], ['-vlogDtpre.iLsfxCvu', '--delete']);
  });

  test.each(['--inplace', '--append', '--backup', '--backup-dir=old', '--suffix=x'])('%s', (option) => {
    expect(unkeptOption(['-vlogDtpre.iLsfxCIvu', option])).toBe(option);
  });

  test('--backup among the letters that rsync sends, which is named as a person would have written it', () => {
    expect(unkeptOption(['-vlogDtpre.iLsfxCIvu', '-vbre.iLsf'])).toBe('--backup (-b, --backup-dir)');
  });

  test('a directory of the source that has the same name is no place for versions', () => {
    mkdirSync(path('.history'));
    writeFileSync(path('.history', 'main.ts'), '');
    expect(() => makeHistory(root)).toThrow('不是 start-sshd 的版本目录');
    expect(hasHistory(root)).toBe(false);
    expect(keepingOf(root)).toBeUndefined();
  });
});

test('a key that may run anything could take versions away', () => {
  const both = { HISTORY_DAYS: '30', ALLOW_SHELL: 'true' };
  expect(() => readConfig(both)).toThrow('HISTORY_DAYS="30"：ALLOW_SHELL=true 时无法保留旧版本');
  expect(() => readConfig({ HISTORY_DAYS: '-1' })).toThrow('HISTORY_DAYS="-1"：应为');
  expect(readConfig({ HISTORY_DAYS: '30' }).HISTORY_DAYS).toBe(30);
});

test('rsync is told to keep versions below the directory that they are of, and protects them at the top only', () => {
  makeHistory(root);
  mkdirSync(path('web'));
  writeFileSync(path('file'), '');
  const name = String.raw`${root}/\.history/now-\d+-\d+`;
  const words = (real: string, isOn = true) => new Keeping(root, isOn).wordsFor(real).join(' ');
  expect(words(root)).toMatch(new RegExp(`^--filter=P /\\.history --backup --backup-dir=${name} --suffix=$`));
  expect(words(path('file'))).toMatch(new RegExp(`^--filter=P /\\.history --backup --backup-dir=${name} --suffix=$`));
  expect(words(path('web'))).toMatch(new RegExp(`^--backup --backup-dir=${name}/web --suffix=$`));
  expect(words(root, false)).toBe('--filter=P /.history');
});

test('what is deleted by name is kept, file by file, and no version is deleted', () => {
  makeHistory(root);
  mkdirSync(path('web', 'd', 'e'), { recursive: true });
  mkdirSync(path('.history', '20251009T120000.000Z'));
  for (const name of ['a', 'd/b', 'd/e/c']) writeFileSync(path('web', name), name);
  const done = within(path('web'), root, (removals) => [
    removals.remove('a', 'file', 10),
    removals.remove('d', 'directory', 10),
  ]);
  expect(done.map(({ isDone }) => isDone)).toEqual([true, true]);
  expect(readdirSync(path('web'))).toEqual([]);
  const [kept = ''] = readdirSync(path('.history')).filter((name) => name.startsWith('done-'));
  for (const name of ['a', 'd/b', 'd/e/c'])
    expect(readFileSync(path('.history', kept, 'web', name), 'utf8')).toBe(name);
  const refused = within(root, root, (removals) => [
    removals.remove('.history', 'directory', 10),
    removals.remove('.history/20251009T120000.000Z', 'directory', 10),
    removals.remove('.history/.start-sshd', 'file', 10),
  ]);
  expect(refused).toEqual(Array(3).fill({ removed: 0, isDone: false }));
});

test('the directories that it was in are kept with their owners and modes, whatever is deleted first', () => {
  makeHistory(root);
  mkdirSync(path('web', 'd', 'e'), { recursive: true });
  for (const name of ['d/b', 'd/e/c']) writeFileSync(path('web', name), name);
  const owner = process.getuid?.() || 33;
  for (const [name, mode] of Object.entries({ web: 0o755, 'web/d': 0o2770, 'web/d/e': 0o711 })) {
    if (process.getuid?.() === 0) chownSync(path(name), owner, 44);
    chmodSync(path(name), mode);
  }
  within(root, root, (removals) => removals.remove('web', 'directory', 10));
  expect(existsSync(path('web'))).toBe(false);
  const [kept = ''] = readdirSync(path('.history')).filter((name) => name.startsWith('done-'));
  const found = ['web', 'web/d', 'web/d/e'].map((name) => statSync(path('.history', kept, name)));
  expect(found.map(({ uid, mode }) => [uid, mode & 0o7777])).toEqual([0o755, 0o2770, 0o711].map((it) => [owner, it]));
});

describe('renames', () => {
  test('keep what they replace, and are written down', () => {
    makeHistory(root);
    mkdirSync(path('web', 'd'), { recursive: true });
    writeFileSync(path('web', 'old'), 'new');
    writeFileSync(path('web', 'd', 'name'), 'replaced');
    expect(renameIn(path('web'), root, [['old', 'd/name']])).toBe(1);
    const [kept = '', journal = ''] = readdirSync(path('.history')).filter(entryOf).sort();
    expect(readFileSync(path('.history', kept, 'web', 'd', 'name'), 'utf8')).toBe('replaced');
    expect(readFileSync(path('web', 'd', 'name'), 'utf8')).toBe('new');
    const [move] = movesIn(readFileSync(path('.history', journal)), 0);
    expect(move).toEqual({ time: expect.any(Number), from: 'web/old', to: 'web/d/name' });
    expect(Math.abs((move?.time ?? 0) - Date.now())).toBeLessThan(10_000);
  });

  test('move nothing out of the versions, or into them', () => {
    makeHistory(root);
    const kept = path('.history', '20251009T120000.000Z');
    mkdirSync(kept);
    writeFileSync(join(kept, 'file'), 'good');
    writeFileSync(path('bad'), 'bad');
    symlinkSync('.history', path('way'));
    const name = '.history/20251009T120000.000Z/file';
    const pairs: [string, string][] = [
      [name, 'gone'],
      ['.history', 'gone'],
      ['bad', name],
      ['bad', '.history/new'],
      ['bad', '.history'],
      [`way/20251009T120000.000Z/file`, 'gone'],
    ];
    expect(renameIn(root, root, pairs)).toBe(0);
    expect(readFileSync(join(kept, 'file'), 'utf8')).toBe('good');
    expect(readdirSync(path('.history')).sort()).toEqual(['.start-sshd', '20251009T120000.000Z']);
  });

  test('what is replaced twice in a batch is kept twice', () => {
    makeHistory(root);
    for (const name of ['a', 'b', 'c']) writeFileSync(path(name), name);
    const pairs: [string, string][] = [
      ['b', 'a'],
      ['c', 'a'],
    ];
    expect(renameIn(root, root, pairs)).toBe(2);
    const kept = readdirSync(path('.history')).filter((name) => entryOf(name) && !name.endsWith('.moves'));
    expect(kept.map((name) => readFileSync(path('.history', name, 'a'), 'utf8')).sort()).toEqual(['a', 'b']);
  });
});
