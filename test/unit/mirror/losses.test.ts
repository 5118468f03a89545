import { describe, expect, test } from 'bun:test';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Batch, TREE } from '../../../src/mirror/changes.ts';
import { Losses } from '../../../src/mirror/losses.ts';
import { Source } from '../../../src/mirror/source.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { scratch } from '../service/scratch.ts';

/** Counts what would be lost of `photos/a` and `photos/b`, a directory that was moved nobody saw where to. */
async function countOf(root: string, batch: Batch, arrive: (state: TargetState) => void = () => {}) {
  const source = new Source(`${root}/`);
  const state = new TargetState('backup', false);
  arrive(state);
  state.departures.note('photos', 'moved_from');
  const forecast = {
    ask: async (_: unknown, tell: (path: string) => void) => {
      for (const path of ['photos/b', 'photos/a', 'photos/']) tell(path); // in the order of rsync
      return { status: 0, isWhole: true, present: 10 };
    },
  };
  const losses = new Losses({ forecast, look: source.look, survey: (it) => source.survey(it), state });
  const { tally, moved } = await losses.count({ options: [] }, batch, ({ tally: { count } }) => count > 0);
  return { lost: tally.count, moved };
}

test('what lies in a directory that is new is not lost, be it that all is compared, and a path of the batch has gone', async () => {
  using directory = scratch();
  mkdirSync(join(directory.path, 'archive', '2026'), { recursive: true });
  for (const name of ['a', 'b']) writeFileSync(join(directory.path, 'archive', '2026', name), '');
  const batch: Batch = new Map([
    ['', TREE],
    ['photos', TREE],
    ['archive', TREE],
  ]);
  expect(await countOf(directory.path, batch)).toEqual({ lost: 0, moved: 3 });
  expect(await countOf(directory.path, new Map([['', TREE]]))).toEqual({ lost: 3, moved: 0 });
  rmSync(join(directory.path, 'archive'), { recursive: true });
  expect(await countOf(directory.path, batch)).toEqual({ lost: 3, moved: 0 });
});

describe('where a directory that is in doubt holds files of the same names', () => {
  test.each<[string, (state: TargetState) => void, { lost: number; moved: number }]>([
    ['and came nobody knows from where, it may be what has gone', () => {}, { lost: 0, moved: 3 }],
    ['and was made, it is not', ({ departures }) => departures.note('new', 'create'), { lost: 3, moved: 0 }],
    [
      'and was moved there from elsewhere, it is not',
      ({ departures }) => {
        departures.note('old', 'moved_from');
        departures.arrive('old', 'new');
      },
      { lost: 3, moved: 0 },
    ],
  ])('%s', async (_, arrive, expected) => {
    using directory = scratch();
    mkdirSync(join(directory.path, 'new', 'sub'), { recursive: true });
    for (const name of ['a', 'b']) writeFileSync(join(directory.path, 'new', name), '');
    const batch: Batch = new Map([
      ['photos', TREE],
      ['new', TREE],
    ]);
    expect(await countOf(directory.path, batch, arrive)).toEqual(expected);
  });
});

test('what rsync tells the second time counts, unless it cannot read everything by then', async () => {
  using directory = scratch();
  const source = new Source(`${directory.path}/`);
  const state = new TargetState('backup', false);
  const countsOf = async (...answers: [status: number, deleted: number][]) => {
    const forecast = {
      ask: async (_: unknown, tell: (path: string) => void) => {
        const [status, deleted] = answers.shift() ?? [0, 0];
        for (let n = 0; n < deleted; n++) tell(`${n}`);
        return { status, isWhole: status === 0, present: undefined };
      },
    };
    const losses = new Losses({ forecast, look: source.look, survey: (it) => source.survey(it), state });
    const { status, tally } = await losses.count({ options: [] }, new Map(), ({ tally: { count } }) => count > 5);
    return [status, tally.count];
  };
  expect(await countsOf([0, 9], [0, 2])).toEqual([0, 2]);
  expect(await countsOf([0, 9], [23, 2])).toEqual([0, 9]);
  expect(await countsOf([0, 9], [255, 0])).toEqual([255, 0]);
  expect(await countsOf([23, 1])).toEqual([23, 1]);
});
