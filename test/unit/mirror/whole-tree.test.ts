import { expect, test } from 'bun:test';
import { NOTHING, type Sent, type Totals } from '../../../src/mirror/rsync.ts';
import type { Source } from '../../../src/mirror/source.ts';
import type { TargetState } from '../../../src/mirror/target-state.ts';
import type { Transfer, Transfers } from '../../../src/mirror/transfers.ts';
import { WholeTree } from '../../../src/mirror/whole-tree.ts';
import { hostFor } from './stand-ins.ts';

/** What an rsync of a test does. */
type Run = Partial<Sent & Totals> | Error;

/** A source of 6,000 files in four directories, of which none is on a disk. */
const entryOf = (name: string, isDirectory: boolean) => ({ name, isDirectory: () => isDirectory });
const inDirectory = Array.from({ length: 1500 }, (_, n) => entryOf(`${n}`, false));
const source = {
  prefix: '/',
  list: (path: string) => (path === '' ? ['a', 'b', 'c', 'd'].map((name) => entryOf(name, true)) : inDirectory),
  look: () => ({ isDirectory: () => true, mode: 0o40755 }),
  check: () => {},
} as unknown as Source;

/** Compares it by rsyncs that do what is said of them, one after the other. */
async function compare(
  runs: Run[],
  { limit = Number.POSITIVE_INFINITY, isUnhindered = true, options = '-a --delete' } = {},
) {
  const started: { share: number; rules: string[] }[] = [];
  let abandoned = 0;
  const transfers = {
    ...{ done: NOTHING, limit, isUnhindered },
    start: (extra: string[], { share = 1 }) => {
      const run = runs[started.length] ?? {};
      started.push({ share, rules: extra.filter((it) => /^--(exclude|include|filter)/.test(it)) });
      return {
        run,
        totals: run instanceof Error ? {} : { listed: run.listed, directories: 0, ...run },
      } as unknown as Transfer;
    },
    finish: async (transfer: Transfer): Promise<Sent> => {
      const { run } = transfer as unknown as { run: Run };
      await Bun.sleep(1);
      if (run instanceof Error) throw run;
      return { status: 0, isCut: false, ...run };
    },
    abandonAll: () => abandoned++,
  };
  const host = hostFor({ RSYNC_OPTS: options });
  const state = { progress: null, advance: () => {}, logProgress: () => {} } as unknown as TargetState;
  const parts = { host, source, state, transfers: transfers as unknown as Transfers };
  const tree = new WholeTree({ ...parts, cores: 2 });
  const sent = await tree.send().catch((cause: Error) => cause);
  return { sent, started: started.map(({ share }) => share), abandoned, done: transfers.done };
}

test('a tree is compared by two rsyncs, which share what may be deleted and add up what they have listed', async () => {
  const { sent, started, done } = await compare([{ listed: 3003 }, { listed: 3003 }], { limit: 1000 });
  expect(sent).toMatchObject({ status: 0 });
  expect(started).toEqual([2, 2]);
  expect(done.listed).toBe(6005); // both have listed the source itself
});

test('how many there are is not known where one of them has not told', async () => {
  expect((await compare([{ listed: 3003 }, {}])).done.listed).toBeUndefined();
});

test.each([{ directories: 1 }, { directories: undefined }])(
  'where a part may have deleted a directory, one rsync compares all: it may be what the other part calls otherwise (%o)',
  async (run) => {
    expect((await compare([{}, run])).started).toEqual([2, 2, 1]);
    expect((await compare([run, {}], { options: '-a' })).started).toEqual([2, 2]);
  },
);

test('files that have vanished in one part are told as in all', async () => {
  const { sent, started } = await compare([{ status: 24 }, {}]);
  expect(sent).toMatchObject({ status: 24 });
  expect(started).toEqual([2, 2]);
});

test.each([23, 11, 255, 12, 1])(
  'where a part fails with %d, one rsync compares all and says what that means',
  async (status) => {
    const { sent, started } = await compare([{}, { status }, { status: 23 }]);
    expect(sent).toMatchObject({ status: 23 });
    expect(started).toEqual([2, 2, 1]);
  },
);

test('where nobody answers, none is tried once more', async () => {
  const { sent, started } = await compare([{ status: 255 }, { status: 12 }]);
  expect(sent).toMatchObject({ status: 255 });
  expect(started).toEqual([2, 2]);
});

test('where one may delete no more, that is told of both', async () => {
  const { sent, started } = await compare([{}, { status: 25, isCut: true }], { limit: 1000 });
  expect(sent).toMatchObject({ status: 25, isCut: true });
  expect(started).toEqual([2, 2]);
});

test('what one must not go on with ends the other one, too', async () => {
  const { sent, started, abandoned } = await compare([{}, new Error('swapped')]);
  expect(sent).toMatchObject({ message: 'swapped' });
  expect({ started, abandoned }).toEqual({ started: [2, 2], abandoned: 1 });
});

test.each([
  ['something is to be left alone', { isUnhindered: false }],
  ['more deletions are known of than each of two may do', { limit: 5000 }],
  ['fewer may be done', { limit: 10 }],
  ['options tie its parts together', { options: '-aH --delete' }],
])('it is compared by one where %s', async (_, how) => {
  expect((await compare([], how)).started).toEqual([1]);
});
