import { expect, test } from 'bun:test';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Batch, TREE } from '../../../src/mirror/changes.ts';
import { Losses } from '../../../src/mirror/losses.ts';
import { Source } from '../../../src/mirror/source.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { scratch } from '../service/scratch.ts';

/** Counts what would be lost of `photos/a` and `photos/b`, a directory that was moved nobody saw where to. */
async function countOf(root: string, batch: Batch) {
  const source = new Source(`${root}/`);
  const state = new TargetState('backup', false);
  state.departures.leave('photos');
  const forecast = {
    ask: async (_: unknown, tell: (path: string) => void) => {
      for (const path of ['photos/', 'photos/a', 'photos/b']) tell(path);
      return { status: 0, present: 10 };
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
