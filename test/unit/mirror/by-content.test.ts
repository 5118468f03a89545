import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ByContent, forgetDates, joined } from '../../../src/mirror/by-content.ts';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import { Faults } from '../../../src/mirror/faults.ts';
import type { Sent } from '../../../src/mirror/rsync.ts';
import { Source } from '../../../src/mirror/source.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { change, hostFor, nothingBeside } from './stand-ins.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'by-content-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Makes files, each with its time, s. */
function make(files: Record<string, number>): void {
  for (const [path, seconds] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), '');
    utimesSync(join(directory, path), seconds, seconds);
  }
}

/** Sends a batch in place of rsync with what is answered; tells what it would have been started with and given. */
async function sent(batch: Record<string, Partial<Change>>, RSYNC_OPTS = '-a --delete', answers: Sent[] = []) {
  const host = hostFor({ SOURCE_DIR: `${directory}/`, RSYNC_OPTS });
  const state = new TargetState('', false);
  state.departures.leave('old');
  state.departures.arrive('old', 'new');
  const told: { way: string; names: string[] }[] = [];
  const transfers = {
    startComparing: ([way = '']: readonly string[]) => ({ way }) as never,
    finish: (transfer: unknown, { names }: { names?: Buffer | undefined } = {}) => {
      told.push({ way: (transfer as { way: string }).way, names: `${names ?? ''}`.split('\0').filter(Boolean).sort() });
      return Promise.resolve(answers.shift() ?? { status: 0 });
    },
  };
  const isHidden = (path: string) => path.endsWith('hidden');
  const byContent = new ByContent({
    host,
    source: new Source(`${directory}/`),
    state,
    transfers,
    beside: nothingBeside,
    isHidden,
  });
  const changes: Batch = new Map(Object.entries(batch).map(([path, known]) => [path, change(known)]));
  return { sent: await byContent.send(changes), told, byContent, changes };
}

const OLD = { dated: 500_000 };

describe('files are compared by content', () => {
  test('that are not later than what is known, alone or below a directory, and that rsync sees', async () => {
    make({ a: 500, b: 501, c: 1, 'd/e/f': 1, 'd/g': 600, 'd/hidden': 1, 'new/a': 1 });
    const { told } = await sent({ a: OLD, b: OLD, c: {}, d: OLD, gone: OLD, 'old/a': OLD });
    expect(told).toEqual([{ way: '--checksum', names: ['./a', './d/e/f', './new/a'] }]);
  });

  test('wherever they are, if nothing more is known', async () => {
    make({ a: 500, b: 501, 'd/e/f': 1 });
    expect((await sent({ '': { ...OLD, tree: true } })).told).toEqual([
      { way: '--checksum', names: ['./a', './d/e/f'] },
    ]);
  });

  test('by no rsync where there are none, and where all are compared by content anyway, or by size alone', async () => {
    make({ a: 500 });
    expect((await sent({ a: {} })).told).toEqual([]);
    for (const options of ['-ac --delete', '-aI', '-a --size-only'])
      expect((await sent({ a: OLD }, options)).told).toEqual([]);
  });

  test('by whatever their times are where both sides must go on talking, or the backup refuses the other way', async () => {
    make({ a: 500 });
    expect((await sent({ a: OLD }, '-a --timeout=9')).told.map(({ way }) => way)).toEqual(['--ignore-times']);
    const refusedWith = (reason: string) => {
      const faults = new Faults(() => undefined);
      faults.read(Buffer.from(`start-sshd: 拒绝执行：${reason}\n`).toString('latin1'));
      return { status: 12, faults };
    };
    const refused = refusedWith('REFUSE_OPTIONS 不允许 rsync 选项 checksum');
    const barred = refusedWith('DEST_DIR=/backup 已不是启动时的目录');
    const other = await sent({ a: OLD }, '-a', [barred]);
    expect([other.told.length, other.sent]).toEqual([1, barred]); // which is about no option
    const twice = await sent({ a: OLD }, '-a', [refused]);
    expect(twice.told.map(({ way }) => way)).toEqual(['--checksum', '--ignore-times']);
    const never = await sent({ a: OLD }, '-a', [refused, refused]);
    expect(never.sent).toBeUndefined();
    await never.byContent.send(never.changes);
    expect(never.told).toHaveLength(2);
    never.byContent.reset();
    await never.byContent.send(never.changes);
    expect(never.told).toHaveLength(3);
  });
});

test('what has moved along is not compared', () => {
  const batch: Batch = new Map([
    ['a', change(OLD)],
    ['b', change(OLD)],
  ]);
  forgetDates(batch, ['a', 'c']);
  expect([...batch]).toEqual([
    ['a', change()],
    ['b', change(OLD)],
  ]);
});

test.each<[number, number, number]>([
  [0, 0, 0],
  [0, 23, 23],
  [23, 0, 23],
  [24, 0, 24],
  [0, 24, 24],
  [25, 23, 23],
  [25, 0, 25],
  [23, 255, 255],
  [0, 12, 12],
])('of two rsyncs with %i and %i, what counts is %i', (first, second, both) => {
  expect(joined({ status: first }, { status: second }).status).toBe(both);
});

test('what both have complained of counts', () => {
  const [one, other] = [new Faults((told) => told), new Faults((told) => told)];
  one.read('rsync: [sender] send_files failed to open "a": Permission denied (13)\n');
  other.read('rsync: [receiver] mkstemp "b" failed: No space left on device (28)\n');
  const { faults } = joined({ status: 23, faults: one }, { status: 23, faults: other });
  expect(faults?.list.map(({ path }) => path)).toEqual(['a', 'b']);
});
