import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DryRunReader } from '../../../src/mirror/forecast.ts';
import { planFor } from '../../../src/mirror/options.ts';
import { countEntries } from '../../../src/mirror/report.ts';
import { statsFilter, tellingOf } from '../../../src/mirror/rsync.ts';
import { withoutDeleting } from '../../../src/mirror/rsync-options.ts';
import { scratch } from '../service/scratch.ts';

describe('what rsync tells of a dry run', () => {
  /** What is read from lines. */
  function read(lines: string[], prefix = '') {
    const paths: string[] = [];
    const reader = new DryRunReader('mark ', prefix, (path) => paths.push(path));
    for (const line of lines) reader.read(line);
    return { paths, present: reader.present };
  }

  test('is the paths that it would delete, and nothing else that looks like them', () => {
    const lines = [
      'mark *deleting   a/b c',
      'mark *deleting   a/',
      'mark <f+++++++++ new',
      '*deleting   forged',
      'deleting x',
    ];
    expect(read(lines).paths).toEqual(['a/b c', 'a/']);
  });

  test('names paths as bytes, below the source', () => {
    expect(read(['mark *deleting   new\\#012line', 'mark *deleting   caf\xe9\\#134#101']).paths).toEqual([
      'new\nline',
      'caf\xe9\\#101',
    ]);
    expect(read(['mark *deleting   data/a/', 'mark *deleting   data/b'], 'data/').paths).toEqual(['a/', 'b']);
    expect(read(['mark *deleting   /srv/web/a'], 'srv/web/').paths).toEqual(['a']);
  });

  test('says how many files the target holds', () => {
    const statistics = ['Number of files: 1,250 (reg: 1,000, dir: 250)', 'Number of created files: 300 (reg: 300)'];
    expect(read([...statistics, 'mark *deleting   a', 'mark *deleting   b']).present).toBe(952);
    expect(read(['Number of files: 10 (reg: 9, dir: 1)', 'Number of created files: 0']).present).toBe(10);
    expect(read([]).present).toBeUndefined();
  });
});

describe('the options without those that delete', () => {
  test('are all others, in their order', () => {
    expect(withoutDeleting(['-avz', '--delete'])).toEqual(['-avz']);
    const deleting =
      'del delete delete-before delete-during delete-delay delete-after delete-excluded delete-missing-args';
    for (const name of deleting.split(' ')) expect(withoutDeleting(['-a', `--${name}`, '-z'])).toEqual(['-a', '-z']);
    const words = ['--force', '--max-delete=5', '--exclude', 'x', '--max-delete', '7', '--ignore-errors', '-v'];
    expect(withoutDeleting(words)).toEqual(['--exclude', 'x', '-v']);
  });

  test('keep values that look like them', () => {
    const words = ['--exclude', '--delete', '--exclude=--delete', '-e', '--force', '--delay-updates', '--deleted'];
    expect(withoutDeleting(words)).toEqual(words);
  });

  test('delete nothing, as the plan has them', () => {
    const { keepingWords, words } = planFor({
      RSYNC_OPTS: '-avz --delete --force',
      SSH_OPTS: '',
      RENAME_ON_TARGET: true,
    });
    expect(keepingWords).toEqual(['-avz']);
    expect(words).toEqual(['-avz', '--delete', '--force']);
  });
});

/** Runs rsync over a source with something new, something old and something excluded; returns what it prints, without numbers. */
function rsyncWith(options: string[], report?: string) {
  using directory = scratch();
  const place = (name: string) => join(directory.path, name);
  for (const name of ['source', 'backup', 'backup/gone']) mkdirSync(place(name));
  for (const name of ['a', 'b', 'old']) writeFileSync(place(`backup/${name}`), '');
  for (const name of ['a', 'b', 'new', 'x']) writeFileSync(place(`source/${name}`), 'words');
  utimesSync(place('source'), 1, 1); // always another time than that of the backup
  const log = report === undefined ? [] : [`--log-file=${place('log')}`, `--log-file-format=${report}`];
  const { stdout } = spawnSync('rsync', [
    ...options,
    '--delete',
    '--exclude=x',
    ...log,
    `${place('source')}/`,
    `${place('backup')}/`,
  ]);
  const text = log.length > 0 ? spawnSync('cat', [place('log')]).stdout.toString() : '';
  rmSync(place('source'), { recursive: true });
  return { printed: stdout.toString('latin1').replace(/[\d,.]+/g, '#'), entries: countEntries(text) };
}

describe('what rsync reports', () => {
  test('says what it has created and deleted, and with statistics how many files there are', () => {
    expect(rsyncWith(['-a'], '%i').entries).toMatchObject({ created: 1, deleted: 2 });
    expect(rsyncWith(['-av', '--info=stats2'], '').entries).toMatchObject({ deleted: 2, directories: 1, listed: 4 });
    expect(rsyncWith(['-aq', '--info=stats2'], '').entries).toMatchObject({ deleted: 2, directories: 1, listed: 4 });
  });

  test('is not led astray by names', () => {
    const at = '2026/11/22 20:00:00 [7] ';
    expect(countEntries(`${at}deleting x [7] deleting y\n${at}deleting ${at}*deleting z\n`).deleted).toBe(2);
    expect(countEntries('')).toEqual({ created: 0, deleted: 0, directories: 0 });
  });
});

describe('statistics that only we have asked for', () => {
  test.each(['-a', '-av', '-ai', '-aiv'])(
    'are not passed on with %s, whatever the pieces in which they come',
    (options) => {
      const isVerbose = options.includes('v');
      const { printed } = rsyncWith([options, '--info=stats2']);
      const expected = rsyncWith([options]).printed;
      for (const size of [1, 7, 64, 4096]) {
        const filter = statsFilter(isVerbose);
        const pieces = Array.from({ length: Math.ceil(printed.length / size) }, (_, n) =>
          printed.slice(n * size, (n + 1) * size),
        );
        expect(pieces.map(filter).join('')).toBe(expected);
      }
    },
  );

  test('are asked for only where something may be deleted, and nobody else has asked', () => {
    const optionsOf = (RSYNC_OPTS: string) =>
      tellingOf(planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true }), () => {}).options;
    expect(optionsOf('-avz')).toEqual(['--info=progress2']);
    expect(optionsOf('-avz --delete')).toEqual(['--info=progress2', '--info=stats2']);
    expect(optionsOf('-avz --delete --stats')).toEqual(['--info=progress2']);
    expect(optionsOf('-avvz --delete')).toEqual(['--info=progress2']);
  });
});
