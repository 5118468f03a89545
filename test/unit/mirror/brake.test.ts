import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Allowance } from '../../../src/mirror/allowance.ts';
import { Brake } from '../../../src/mirror/brake.ts';
import { ALL, type Batch } from '../../../src/mirror/changes.ts';
import { Commands, commandsFor } from '../../../src/mirror/commands.ts';
import { parseLimit } from '../../../src/mirror/config.ts';
import { Faults } from '../../../src/mirror/faults.ts';
import type { Count } from '../../../src/mirror/losses.ts';
import type { RememberedTarget } from '../../../src/mirror/memory.ts';
import { Source } from '../../../src/mirror/source.ts';
import { UNREACHABLE } from '../../../src/mirror/ssh.ts';
import { Tally } from '../../../src/mirror/tally.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { ask, socketOf } from '../../../src/service/control.ts';
import { scratch } from '../service/scratch.ts';
import { change, event, hostFor, keepLog, outcome } from './stand-ins.ts';

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  log = keepLog();
});
afterEach(() => log[Symbol.dispose]());

const QUESTION = { options: [] };
const deletions = (count: number, name = 'f') =>
  new Map(Array.from({ length: count }, (_, n) => [`${name}${n}`, change({ kind: 'delete' })])) as Batch;

/** A tally of so many files in a directory that stays. */
function tallyOf(count: number): Tally {
  const tally = new Tally();
  for (let n = 0; n < count; n++) tally.add(`photos/${n}`);
  return tally;
}

const placeOf = (directory: string) => {
  const { ino, birthtimeNs } = statSync(directory, { bigint: true });
  return `${ino}:${birthtimeNs}`;
};

interface Circumstances {
  remembered?: Partial<RememberedTarget>;
  variables?: Record<string, string>;
  /** How many files the source holds. */
  files?: number;
}

/** A brake whose rsync says what a test has it say. */
function brakeIn(directory: string, { remembered = {}, variables = {}, files = 0 }: Circumstances = {}) {
  mkdirSync(directory, { recursive: true });
  for (let n = 0; n < files; n++) writeFileSync(join(directory, `file-${n}`), '');
  const host = hostFor({ SOURCE_DIR: `${directory}/`, MAX_DELETE: '100', ...variables });
  const known: RememberedTarget = {
    ...{ files: 5000, sourceFiles: 5000, deletions: [], held: undefined, backup: undefined, growth: 0 },
    options: host.config.RSYNC_OPTS,
    place: placeOf(directory),
    ...remembered,
  };
  const rsync = {
    losses: 0,
    moved: 0,
    status: 0,
    isWhole: true,
    present: 5000 as number | undefined,
    isEmpty: false,
    asked: 0,
    willCount: false,
    options: host.config.RSYNC_OPTS,
    isHiding: false,
  };
  const clock = { now: Date.now() };
  const state = new TargetState('backup', false);
  const count = async (): Promise<Count> => {
    rsync.asked++;
    const { status, isWhole, losses, moved, present } = rsync;
    return { status, isWhole, tally: tallyOf(losses), moved, present: isWhole ? present : undefined };
  };
  const brake = new Brake({
    ...{ host, state, source: new Source(host.config.SOURCE_DIR), losses: { count } },
    memory: { target: () => known, save: () => true, saveSoon: () => {} },
    allowance: new Allowance(parseLimit(host.config.MAX_DELETE), known, () => clock.now),
    forecast: { isEmpty: async () => rsync.isEmpty, checkNotEmptied: async () => {}, faults: undefined },
    rules: { describe: async () => rsync.options },
    willCount: () => rsync.willCount,
    isHiding: () => rsync.isHiding,
  });
  /** Has a batch weighed and sent. */
  const send = async (batch: Batch, deleted = batch.size) => {
    await brake.weigh(batch, QUESTION);
    await brake.record(batch, outcome({ created: 0, deleted: brake.isHolding ? 0 : deleted }));
  };
  const compareAll = async (deleted = 0) => {
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', deleted: brake.isHolding ? 0 : deleted }));
  };
  return { brake, state, rsync, clock, known, send, compareAll };
}

const holding = { count: 300, directories: [{ path: 'photos', count: 300 }], since: 1_700_000_000_000 };

describe('a batch', () => {
  test('that deletes little is let through without asking, until an hour’s allowance is used up', async () => {
    using directory = scratch();
    const { brake, rsync, known, send } = brakeIn(directory.path);
    await send(deletions(60));
    await send(deletions(40, 'g'));
    expect(rsync.asked).toBe(0);
    expect(known.deletions.map(({ count }) => count)).toEqual([100]);
    rsync.losses = 1;
    await send(deletions(1));
    expect(rsync.asked).toBe(1);
    expect(brake.isHolding).toBe(true);
    expect(log.text).toContain('超出一小时内的限额 100 个（已删除 100 个） (MAX_DELETE=100)');
  });

  test('is weighed against what was deleted in the last hour, not before', async () => {
    using directory = scratch();
    const { brake, rsync, clock, send } = brakeIn(directory.path);
    await send(deletions(90));
    clock.now += 3_600_000;
    await send(deletions(90, 'g'));
    expect([rsync.asked, brake.isHolding]).toEqual([0, false]);
  });

  test('that deletes too much by its paths is held only if rsync says so as well', async () => {
    using directory = scratch();
    const { brake, rsync, known, send } = brakeIn(directory.path);
    rsync.losses = 3; // the others the target never had
    await send(deletions(500), 3);
    expect([rsync.asked, brake.isHolding]).toEqual([1, false]);
    expect(known.deletions.map(({ count }) => count)).toEqual([3]);
    rsync.losses = 500;
    await send(deletions(500));
    expect(brake.isHolding).toBe(true);
  });

  test('is not asked about where the target holds no more than may be deleted', async () => {
    using directory = scratch();
    const small = { files: 60, sourceFiles: 60, growth: 30 };
    const { brake, rsync, state, send } = brakeIn(directory.path, { remembered: small });
    state.departures.leave('d');
    await send(new Map([['d', change({ kind: 'moved_from', isDirectory: true })]]), 50);
    expect([rsync.asked, brake.isHolding]).toEqual([0, false]);
  });

  test('with a directory that has left the source is asked about', async () => {
    using directory = scratch();
    const { brake, rsync, state, known, send } = brakeIn(directory.path);
    const moved = event('moved_from', { isDirectory: true });
    state.departures.note('d', moved.kind);
    state.note('d', moved, undefined);
    state.changes.take(0);
    rsync.losses = 80;
    await send(new Map([['d', change({ kind: 'moved_from', isDirectory: true })]]), 80);
    expect([rsync.asked, brake.isHolding]).toEqual([1, false]);
    expect(known.deletions[0]?.count).toBe(80);
    expect(state.departures.hasLost('d')).toBe(false); // it is dealt with
  });

  test('of which rsync cannot tell is not sent', async () => {
    using directory = scratch();
    const { brake, rsync, known } = brakeIn(directory.path);
    rsync.status = UNREACHABLE;
    const batch = deletions(500);
    expect(await brake.weigh(batch, QUESTION)).toBe(UNREACHABLE);
    await brake.record(batch, outcome({ kind: 'unreachable', status: UNREACHABLE }));
    expect([brake.isHolding, known.deletions.length]).toEqual([false, 0]);
  });

  test.each([
    [300, false],
    [1000, false],
    [1900, true],
    [2600, false],
  ])(
    'is not held for want of knowledge: of a target of %d files, a batch of 1,200 deletions is held: %p',
    async (present, isHeld) => {
      using directory = scratch();
      const variables = { MAX_DELETE: '50%' };
      const { brake, rsync, known, send } = brakeIn(directory.path, { variables, remembered: { growth: undefined } });
      Object.assign(known, { files: 300 });
      Object.assign(rsync, { losses: 1200, present });
      await send(deletions(1200));
      expect([rsync.asked, brake.isHolding]).toEqual([2, isHeld]);
      expect(known.files).toBe(present);
    },
  );

  test('is let through whatever it deletes with MAX_DELETE=off, or where nothing is ever deleted', async () => {
    for (const variables of [{ MAX_DELETE: 'off' }, { RSYNC_OPTS: '-a' }]) {
      using directory = scratch();
      const { brake, rsync, known, send } = brakeIn(directory.path, { variables, remembered: { held: holding } });
      await send(deletions(5000));
      expect([rsync.asked, brake.isHolding, known.held, known.sourceFiles]).toEqual([0, false, undefined, undefined]);
    }
  });
});

describe('what is deleted', () => {
  test('counts as rsync tells it, without what was only moved', async () => {
    const cases = [
      { moves: 0, deleted: 10, expected: 10 },
      { moves: 0, deleted: 4, expected: 4 },
      { moves: 30, deleted: 40, expected: 10 },
      { moves: 30, deleted: 10, expected: 10 },
      { moves: 0, deleted: 60, expected: 60 }, // more was gone by the time that rsync looked
    ];
    for (const { moves, deleted, expected } of cases) {
      using directory = scratch();
      const { state, known, send } = brakeIn(directory.path, { files: 50 });
      const batch = deletions(10);
      for (let n = 0; n < moves; n++) {
        state.departures.arrive(`old-${n}`, `file-${n}`);
        batch.set(`old-${n}`, change({ kind: 'moved_from' }));
      }
      await send(batch, deleted);
      expect(known.deletions.map(({ count }) => count)).toEqual([expected]);
    }
  });

  test('counts as far as it is known where a sync has failed on its way', async () => {
    using directory = scratch();
    const { brake, known } = brakeIn(directory.path);
    const batch = deletions(50);
    await brake.weigh(batch, QUESTION);
    await brake.record(batch, outcome({ kind: 'failed', status: 12, deleted: 20 }));
    expect(known.deletions.map(({ count }) => count)).toEqual([20]);
  });

  test('or made without that being told leaves the number unknown, which is no small one', async () => {
    using directory = scratch();
    const variables = { MAX_DELETE: '50%' };
    const { brake, rsync, known } = brakeIn(directory.path, {
      variables,
      remembered: { files: 100, sourceFiles: 100 },
    });
    await brake.weigh(new Map(), QUESTION);
    await brake.record(new Map(), outcome({ kind: 'failed', status: 12, created: undefined, deleted: 0 }));
    expect(known.growth).toBeUndefined();
    rsync.losses = 8000;
    await brake.weigh(deletions(8000), QUESTION);
    expect(brake.isHolding).toBe(true);
  });

  test('and made is kept count of', async () => {
    using directory = scratch();
    const { brake, known } = brakeIn(directory.path);
    await brake.weigh(new Map(), QUESTION);
    await brake.record(new Map(), outcome({ created: 7, deleted: 2 }));
    expect(known.growth).toBe(5);
    await brake.record(new Map(), outcome({}));
    expect(known.growth).toBeUndefined(); // it is not known any more
  });
});

describe('a comparison of all', () => {
  test.each([
    ['in which something was hidden', { isHiding: true }, {}],
    ['that could not read everything', {}, { kind: 'partial', status: 23 } as const],
  ])('%s says nothing of what it has not seen, which stays on the target', async (_, circumstances, how) => {
    using directory = scratch();
    const remembered = { files: 5102, sourceFiles: 5102, growth: 0 };
    const { brake, rsync, known, compareAll } = brakeIn(directory.path, { files: 102, remembered });
    Object.assign(rsync, circumstances);
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', listed: 103, deleted: 2, ...how }));
    expect(known).toMatchObject({ files: 5100, sourceFiles: 5102, growth: 0 });
    expect(known.deletions.map(({ count }) => count)).toEqual([2]);
    rsync.isHiding = false;
    rsync.losses = 5000;
    await compareAll();
    expect(brake.isHolding).toBe(true);
  });

  test('in which something was hidden does not count what the target holds, where that is not known', async () => {
    using directory = scratch();
    const variables = { MAX_DELETE: '50%' };
    const remembered = { files: 5102, sourceFiles: 5102, growth: undefined };
    const { brake, rsync, known, send } = brakeIn(directory.path, { files: 102, variables, remembered });
    Object.assign(rsync, { isHiding: true, present: 102 });
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', listed: 103, deleted: 0 }));
    expect(known).toMatchObject({ files: 5102, growth: undefined });
    rsync.losses = 5000;
    await send(deletions(5000));
    expect(brake.isHolding).toBe(true);
  });

  test('is not asked about while the source holds enough of what it held', async () => {
    using directory = scratch();
    const { rsync, known, compareAll } = brakeIn(directory.path, {
      files: 950,
      remembered: { files: 1000, sourceFiles: 1000, growth: 50 },
    });
    await compareAll();
    expect(rsync.asked).toBe(0);
    expect(known).toMatchObject({ files: 950, sourceFiles: 950, growth: 0 });
  });

  test('takes the number of files from rsync where that tells it, and knows nothing where it has not', async () => {
    using directory = scratch();
    const { brake, rsync, known } = brakeIn(directory.path, {
      files: 950,
      remembered: { files: 1000, sourceFiles: 1000, growth: 0 },
    });
    rsync.willCount = true;
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', deleted: 50, listed: 951 }));
    expect([rsync.asked, known.files, known.sourceFiles, known.growth]).toEqual([0, 950, 950, 0]);
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full' }));
    expect([known.sourceFiles, known.growth]).toEqual([950, undefined]);
    await brake.weighAll();
    expect(rsync.asked).toBe(1); // for want of better knowledge
  });

  test('is held where the source has lost too much, and counts what is held as being on the target', async () => {
    using directory = scratch();
    const { brake, state, rsync, known, compareAll } = brakeIn(directory.path, {
      files: 650,
      remembered: { files: 1000, sourceFiles: 1000 },
    });
    rsync.losses = 350;
    await compareAll();
    expect([rsync.asked, brake.isHolding]).toEqual([1, true]);
    expect(brake.words).not.toContain('--delete');
    expect(known).toMatchObject({ files: 1000, sourceFiles: 650, held: { count: 350 } });
    expect(state.report().held).toMatchObject({ count: 350, directories: [{ path: 'photos', count: 350 }] });
  });

  test.each(['100', 'off'])(
    'is held after a restore until nothing is left to be deleted, with MAX_DELETE=%s',
    async (most) => {
      using directory = scratch();
      const mark = { count: 0, directories: [], since: 1 };
      const { brake, state, rsync, known, compareAll } = brakeIn(directory.path, {
        variables: { MAX_DELETE: most },
        remembered: { held: mark },
      });
      expect(brake.words).not.toContain('--delete');
      expect([state.report().held, brake.accept()]).toEqual([null, undefined]);
      rsync.losses = 1;
      await compareAll();
      expect(known.held?.count).toBe(1);
      rsync.losses = 0;
      await compareAll();
      expect([brake.isHolding, known.held]).toEqual([false, undefined]);
      Object.assign(known, { held: { ...mark } });
      rsync.losses = 2;
      await compareAll();
      expect(brake.accept()?.count).toBe(2);
      await compareAll();
      expect([brake.isHolding, known.held]).toEqual([false, undefined]);
    },
  );

  test('is asked about with other options than the last one, and where the target may be another one', async () => {
    using directory = scratch();
    const { brake, rsync, compareAll } = brakeIn(directory.path, {
      files: 1000,
      remembered: { files: 1000, sourceFiles: 1000, options: '-a' },
    });
    await compareAll();
    await compareAll();
    expect(rsync.asked).toBe(1);
    brake.distrust();
    await compareAll();
    expect(rsync.asked).toBe(2);
    rsync.options = 'the same, of which a file says something else';
    await compareAll();
    expect(rsync.asked).toBe(3);
    await compareAll();
    expect(rsync.asked).toBe(3);
  });

  test.each([
    [49, 1, false],
    [50, 1, true],
    [200, 1, true],
    [90, 9, true],
    [90, 10, false],
    [101, 90, true],
  ])('that was never made is held where it deletes %d files from a source of %d: %p', async (losses, files, isHeld) => {
    using directory = scratch();
    const { brake, rsync, compareAll } = brakeIn(directory.path, {
      files,
      remembered: { files: undefined, sourceFiles: undefined, growth: undefined },
    });
    Object.assign(rsync, { losses, present: losses + files });
    await compareAll(losses);
    expect(brake.isHolding).toBe(isHeld);
  });

  test('of another directory than the last one is asked about, and held where that is nearly empty', async () => {
    for (const [files, isHeld] of [
      [50, false],
      [5, true],
    ] as const) {
      using directory = scratch();
      const { brake, rsync, compareAll } = brakeIn(directory.path, {
        files,
        remembered: { files: 60, sourceFiles: 60, place: '7:1' },
      });
      rsync.losses = 60;
      await compareAll(60);
      expect([rsync.asked, brake.isHolding]).toEqual([1, isHeld]);
    }
  });

  test('that was never made is not asked about where the backup is empty, nor held with ALLOW_EMPTY_SOURCE', async () => {
    using directory = scratch();
    const unknown = { files: undefined, sourceFiles: undefined, growth: undefined };
    const first = brakeIn(directory.path, { remembered: { ...unknown } });
    first.rsync.isEmpty = true;
    await first.compareAll();
    expect(first.rsync.asked).toBe(0);
    const allowed = brakeIn(directory.path, { remembered: { ...unknown }, variables: { ALLOW_EMPTY_SOURCE: 'true' } });
    allowed.rsync.losses = 90;
    await allowed.compareAll(90);
    expect(allowed.brake.isHolding).toBe(false);
  });

  test('knows a percentage of what the target holds, also where it was never made', async () => {
    using directory = scratch();
    const { brake, rsync, compareAll } = brakeIn(directory.path, {
      files: 1000,
      variables: { MAX_DELETE: '50%' },
      remembered: { files: undefined, sourceFiles: undefined, growth: undefined },
    });
    Object.assign(rsync, { losses: 1500, present: 4000 });
    await compareAll(1500);
    expect(brake.isHolding).toBe(false);
  });
});

describe('deletions that are held', () => {
  test('stay undone over a restart, are told once for each number, and end by themselves when none is left', async () => {
    using directory = scratch();
    const { brake, state, rsync, known, send, compareAll } = brakeIn(directory.path, { remembered: { held: holding } });
    expect(state.held).toEqual(holding);
    await send(deletions(5000));
    expect([rsync.asked, brake.isHolding]).toEqual([0, true]);
    const told = () => log.text.split('已暂缓删除').length - 1;
    for (const [losses, times] of [
      [300, 1],
      [300, 1],
      [310, 2],
      [310, 2],
    ] as const) {
      rsync.losses = losses;
      await compareAll();
      expect(told()).toBe(times);
    }
    expect(known.held).toMatchObject({ count: 310, since: holding.since });
    rsync.losses = 0;
    await compareAll();
    expect([brake.isHolding, state.held, known.held]).toEqual([false, undefined, undefined]);
    expect(log.text).toContain('已没有被暂缓的删除，恢复正常同步 ✓');
  });

  test('are let through by one comparison of all, and the hour begins anew', async () => {
    using directory = scratch();
    const { brake, state, rsync, known, compareAll } = brakeIn(directory.path, {
      files: 150,
      remembered: { held: holding, deletions: [{ time: Date.now(), count: 90 }] },
    });
    expect(brake.accept()).toEqual(holding);
    expect(state.changes.waiting.get('')?.tree).toBe(true);
    expect([brake.isHolding, brake.words.includes('--delete')]).toEqual([false, true]);
    expect(known.held).toEqual(holding); // until it is done
    await compareAll(300);
    expect([rsync.asked, known.held, known.deletions]).toEqual([0, undefined, []]);
    expect(brake.accept()).toBeUndefined();
    rsync.losses = 200;
    await brake.weigh(deletions(200), QUESTION);
    expect(brake.isHolding).toBe(true);
  });

  test('are not let through by a comparison that was under way, or that fails', async () => {
    using directory = scratch();
    const { brake, rsync, known, compareAll } = brakeIn(directory.path, { remembered: { held: holding } });
    rsync.losses = 300;
    await brake.weighAll();
    brake.accept();
    await brake.record(ALL, outcome({ mode: 'full', deleted: 0 }));
    expect(known.held?.count).toBe(300);
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', kind: 'unreachable', status: UNREACHABLE }));
    expect(known.held?.count).toBe(300);
    await compareAll(300);
    expect(known.held).toBeUndefined();
  });

  test('have the rsync that waits started anew when they begin and end', async () => {
    using directory = scratch();
    const { brake, rsync, compareAll, send } = brakeIn(directory.path);
    let changes = 0;
    brake.on('changed', () => changes++);
    rsync.losses = 200;
    await send(deletions(200));
    expect(changes).toBe(1);
    await compareAll();
    expect(changes).toBe(1);
    brake.accept();
    expect(changes).toBe(2);
  });
});

/** What an rsync says that has met with an error in reading, so that it has deleted nothing from then on. */
const BLIND = { status: 23, isWhole: false, losses: 0 };
const unread = () => {
  const faults = new Faults((path) => path);
  faults.read('rsync: [sender] opendir "closed" failed: Input/output error (5)\n');
  return { kind: 'partial', status: 23, deleted: 0, faults } as const;
};

describe('an rsync that cannot read everything says nothing of deletions, so that', () => {
  test('those that are held stay held, as they are, until one has seen all', async () => {
    using directory = scratch();
    const { brake, rsync, known, compareAll } = brakeIn(directory.path, { remembered: { held: { ...holding } } });
    for (const losses of [0, 7, 400]) {
      Object.assign(rsync, { ...BLIND, losses });
      await compareAll();
      expect([brake.isHolding, known.held]).toEqual([true, holding]);
    }
    expect(log.text).toBe('');
    Object.assign(rsync, { status: 0, isWhole: true, losses: 310 });
    await compareAll();
    expect(known.held?.count).toBe(310);
    rsync.losses = 0;
    await compareAll();
    expect(known.held).toBeUndefined();
  });

  test('what a restore has not brought stays held', async () => {
    using directory = scratch();
    const mark = { count: 0, directories: [], since: 1 };
    const { brake, rsync, compareAll } = brakeIn(directory.path, { remembered: { held: mark } });
    Object.assign(rsync, BLIND);
    await compareAll();
    expect(brake.isHolding).toBe(true);
  });

  test('no more may be deleted than where nothing was foreseen, and what it has told of is too much all the same', async () => {
    using directory = scratch();
    const variables = { MAX_DELETE: '50%' };
    const remembered = { files: 100_000, sourceFiles: 100_000 };
    const { brake, rsync, state } = brakeIn(directory.path, { variables, remembered });
    state.departures.leave('d');
    const batch: Batch = new Map([['d', change({ kind: 'moved_from', isDirectory: true })]]);
    Object.assign(rsync, { ...BLIND, losses: 3000 });
    await brake.weigh(batch, QUESTION);
    expect([brake.isHolding, brake.limit]).toEqual([false, 1000]);
    rsync.losses = 60_000;
    await brake.weigh(batch, QUESTION);
    expect(brake.isHolding).toBe(true);
  });

  test('it does not say how many files there are: a backup that nobody knows is not small for that', async () => {
    using directory = scratch();
    const nothing = { files: undefined, sourceFiles: undefined, growth: undefined };
    const variables = { MAX_DELETE: '50%' };
    const { brake, rsync, known } = brakeIn(directory.path, { files: 60, variables, remembered: nothing });
    Object.assign(rsync, { ...BLIND, present: 60 });
    await brake.weighAll();
    await brake.record(ALL, outcome({ mode: 'full', listed: 61, ...unread() }));
    expect(known.sourceFiles).toBeUndefined();
    Object.assign(rsync, { status: 0, isWhole: true, isHiding: true, losses: 100_000, present: 100_060 });
    await brake.weighAll();
    expect(brake.isHolding).toBe(true);
  });

  test.each([
    ['that was never seen', { place: undefined, sourceFiles: undefined, files: undefined, growth: undefined }],
    ['that is another one than before', { place: '7:1', files: 400, sourceFiles: 400 }],
  ])('nothing is deleted for a source %s until one has seen all, nor is it known by that', async (_, remembered) => {
    using directory = scratch();
    const { brake, rsync, state, known } = brakeIn(directory.path, {
      files: 2,
      remembered,
      variables: { MAX_DELETE: '50%' },
    });
    Object.assign(rsync, { ...BLIND, options: 'others' });
    await brake.weighAll();
    expect([brake.isHolding, brake.words.includes('--delete')]).toEqual([false, false]);
    await brake.record(ALL, outcome({ mode: 'full', listed: 3, ...unread() }));
    expect(brake.words).toContain('--delete');
    expect(known.place).toBe(remembered.place);
    expect(state.changes.size).toBe(0); // what fails is tried again
    Object.assign(rsync, { status: 0, isWhole: true, isHiding: true, losses: 400, present: 402 });
    await brake.weighAll();
    expect([brake.isHolding, log.text.includes('首次见到且几乎为空')]).toEqual([true, true]);
  });

  test('a known source goes on as ever', async () => {
    using directory = scratch();
    const { brake, rsync } = brakeIn(directory.path, { files: 1, remembered: { options: 'others' } });
    Object.assign(rsync, BLIND);
    await brake.weighAll();
    expect([brake.isHolding, brake.words.includes('--delete'), brake.limit]).toEqual([false, true, 100]);
  });

  test('what was let through stays so for one more, and not for ever', async () => {
    using directory = scratch();
    const { brake, known, rsync } = brakeIn(directory.path, { remembered: { held: { ...holding } } });
    const compare = async (how: Parameters<typeof outcome>[0]) => {
      await brake.weighAll();
      const mayDelete = brake.words.includes('--delete');
      await brake.record(ALL, outcome({ mode: 'full', deleted: 0, ...how }));
      return [mayDelete, known.held?.count];
    };
    brake.accept();
    expect(await compare(unread())).toEqual([true, 300]);
    expect(await compare({ deleted: 300 })).toEqual([true, undefined]);
    known.held = { ...holding };
    brake.accept();
    expect(await compare(unread())).toEqual([true, 300]);
    expect(await compare(unread())).toEqual([true, undefined]);
    Object.assign(known, { files: 5000, sourceFiles: 5000, growth: 0 });
    rsync.losses = 300;
    await brake.weighAll();
    expect(brake.isHolding).toBe(true); // counted anew
  });
});

describe('an rsync', () => {
  const big = { files: 100_000, sourceFiles: 100_000 };
  const unlimited = Number.POSITIVE_INFINITY;

  test('may delete what was foreseen, a little more where the hour allows it, and never more than that', async () => {
    for (const [MAX_DELETE, count, waiting, limit] of [
      ['50%', 10, 1000, 1000],
      ['50%', 3000, 1000, 3000],
      ['200', 10, 180, 200],
    ] as const) {
      using directory = scratch();
      const { brake } = brakeIn(directory.path, { variables: { MAX_DELETE }, remembered: big });
      expect(brake.limit).toBe(waiting); // as one is started that waits
      await brake.weigh(deletions(count), QUESTION);
      expect(brake.limit).toBe(limit);
    }
  });

  test('may delete so much less as was deleted by name before, and one that waited leaves room for some of that', async () => {
    using directory = scratch();
    const { brake } = brakeIn(directory.path, { variables: { MAX_DELETE: '200' }, remembered: big });
    await brake.weigh(deletions(30), QUESTION);
    brake.noteRemoved(20);
    expect([brake.limit, brake.suits(180)]).toEqual([180, true]);
    brake.noteRemoved(1);
    expect([brake.limit, brake.suits(180)]).toEqual([179, false]);
    await brake.record(new Map(), outcome({ deleted: 21 }));
    expect(brake.limit).toBe(179 - 17);
  });

  test('may delete as well what was only moved, where that is known', async () => {
    using directory = scratch();
    const { brake, state } = brakeIn(directory.path, { files: 50, remembered: big });
    const batch = deletions(100);
    for (let n = 0; n < 30; n++) {
      state.departures.arrive(`old-${n}`, `file-${n}`);
      batch.set(`old-${n}`, change({ kind: 'moved_from' }));
    }
    await brake.weigh(batch, QUESTION);
    expect(brake.limit).toBe(130);
    batch.set('old-0', change({ kind: 'moved_from', isDirectory: true }));
    await brake.weigh(batch, QUESTION);
    expect(brake.limit).toBe(100); // the target has renamed it
  });

  test('may delete all where nothing is limited, nothing can be too much, or it was let through', async () => {
    for (const circumstances of [
      { variables: { MAX_DELETE: 'off' } },
      { variables: { RSYNC_OPTS: '-a' } },
      { variables: { MAX_DELETE: '50%' }, remembered: { files: 900 } },
      { remembered: { files: 90 } },
      { remembered: { held: holding } }, // it does not delete at all
    ]) {
      using directory = scratch();
      const { brake } = brakeIn(directory.path, circumstances);
      expect(brake.limit).toBe(unlimited);
    }
    using directory = scratch();
    const { brake } = brakeIn(directory.path, { remembered: { held: holding } });
    brake.accept();
    await brake.weighAll();
    expect(brake.limit).toBe(unlimited);
  });

  test('that waits is of use to a batch that needs no more, and if it may not delete more than now is left', async () => {
    using directory = scratch();
    const { brake } = brakeIn(directory.path, { variables: { MAX_DELETE: '5000' }, remembered: big });
    await brake.weigh(deletions(1500), QUESTION);
    expect([1000, 1500, 5001, unlimited].map((limit) => brake.suits(limit))).toEqual([false, true, false, false]);
    await brake.record(deletions(1500), outcome({ created: 0, deleted: 1500 }));
    await brake.weigh(deletions(10), QUESTION);
    expect([9, 10, 1000, 3501].map((limit) => brake.suits(limit))).toEqual([false, true, true, false]);
  });

  test('that would have deleted more is followed by one that was asked about, and all that both did counts once', async () => {
    using directory = scratch();
    const { brake, rsync, known } = brakeIn(directory.path);
    const batch = deletions(10);
    await brake.weigh(batch, QUESTION);
    brake.reconsider({ created: 7, deleted: 60 });
    expect(log.text).toContain('待删除的内容比预计的多，已删除 60 个后停下，重新统计');
    rsync.losses = 50;
    await brake.weigh(batch, QUESTION);
    expect([rsync.asked, brake.isHolding]).toEqual([1, true]); // 40 are left
    expect(log.text).toContain('目标上有 50 个文件待删除，超出一小时内的限额 100 个（已删除 60 个）');
    expect(known.deletions).toEqual([]);
    await brake.record(batch, outcome({ created: 7, deleted: 60 }));
    expect(known.growth).toBe(-53);
    expect(known.deletions.map(({ count }) => count)).toEqual([60]);
  });

  test('that moves what the target cannot rename uses nothing up, also where it is stopped on its way', async () => {
    using directory = scratch();
    const { brake, state, rsync, known } = brakeIn(directory.path, { files: 1 });
    state.departures.arrive('old', 'file-0');
    const batch: Batch = new Map([['old', change({ kind: 'moved_from', isDirectory: true })]]);
    await brake.weigh(batch, QUESTION);
    brake.reconsider({ created: 3001, deleted: 100 });
    Object.assign(rsync, { losses: 0, moved: 2901 });
    await brake.weigh(batch, QUESTION);
    expect([brake.isHolding, brake.limit]).toEqual([false, 2901]);
    await brake.record(batch, outcome({ created: 3001, deleted: 3001 }));
    expect([known.deletions, known.growth]).toEqual([[], 0]);
  });

  test.each([
    ['goes on where as much has come as has gone', 950, [0, false]],
    ['is followed by one that was asked about where the source has lost too much since', 700, [1, true]],
  ] as const)('that compares all and would have deleted more %s', async (_, left, [asked, isHeld]) => {
    using directory = scratch();
    const remembered = { files: 1000, sourceFiles: 1000, growth: 0 };
    const { brake, rsync } = brakeIn(directory.path, { files: 950, remembered });
    rsync.losses = 150;
    await brake.weighAll();
    expect(brake.limit).toBe(100);
    for (let n = left; n < 950; n++) rmSync(join(directory.path, `file-${n}`));
    brake.reconsider({ created: 50, deleted: 100 });
    await brake.weighAll();
    expect([rsync.asked, brake.isHolding]).toEqual([asked, isHeld]);
    expect(brake.limit).toBe(unlimited);
    await brake.record(ALL, outcome({ mode: 'full', deleted: 0 }));
    await brake.weighAll();
    expect(brake.limit).toBe(isHeld ? unlimited : 50); // the next one is foreseen anew
  });
});

describe('--accept-deletions', () => {
  /** Commands of a service that holds something of some kinds, and what of that was accepted. */
  function serviceThatHolds(kinds: { source?: boolean; deletions?: boolean; mounts?: string[] }) {
    const accepted: string[] = [];
    const held = new Set(Object.keys(kinds));
    const accept = (kind: string) => {
      accepted.push(kind);
      held.delete(kind);
    };
    const targetOf = (name: string, of: typeof holding | undefined) => {
      const brake = {
        get isHolding() {
          return of !== undefined && held.has('deletions');
        },
        accept() {
          accept('deletions');
          return of;
        },
      };
      const never = async () => ({ isDone: false, text: '' });
      return {
        ...{ brake, state: new TargetState(name, true), restoring: { pause: never, complete: never } },
        pause: { pause: never, resume: never },
      };
    };
    const backups = [targetOf('one', kinds.deletions ? holding : undefined), targetOf('two', undefined)];
    const guard = {
      get isWaiting() {
        return held.has('source');
      },
      async accept() {
        accept('source');
        return true;
      },
      look: async () => {},
    };
    const mounts = {
      report: () =>
        held.has('mounts') ? (kinds.mounts ?? []).map((path) => ({ path, state: 'missing' as const })) : [],
      forgetMissing() {
        accept('mounts');
        return kinds.mounts ?? [];
      },
      meetAll: async () => {},
    };
    const unwatched = {
      source: { isFound: true, refusal: undefined },
      watch: { marker: async () => {}, unseen: () => [] },
    };
    return { commands: commandsFor({ backups, guard, mounts, ...unwatched }), accepted, backups };
  }

  test('lets through one kind of what is held at a time, says what, and that there is more', async () => {
    using directory = scratch();
    const service = serviceThatHolds({ source: true, deletions: true, mounts: ['disk'] });
    await service.commands.listen(join(directory.path, 'status'));
    const answer = () => ask(socketOf(join(directory.path, 'status')), { command: 'accept-deletions' });
    const more = '\n另有内容也在等待确认，这次没有放行：请查看 --status，若同样有意，请再次执行';
    expect(await answer()).toEqual({ isDone: true, text: `源目录: 以现在的目录为准${more}` });
    const released = 'one: 放行 300 个文件的删除，主要位于 photos (300)，随即全量同步';
    expect(await answer()).toEqual({ isDone: true, text: `${released}${more}` });
    expect([...new Set(service.accepted)]).toEqual(['source', 'deletions']);
    expect(service.backups.map(({ state }) => state.changes.size)).toEqual([0, 0]);
    const mount = '挂载点 disk: 不再保留其在备份上的内容，随即全量同步';
    expect(await answer()).toEqual({ isDone: true, text: mount });
    expect(service.backups.map(({ state }) => state.changes.waiting.get('')?.tree)).toEqual([true, true]);
    expect(await answer()).toEqual({ isDone: true, text: '没有被暂缓的删除' });
  });

  test('is not done where that fails', async () => {
    using directory = scratch();
    const kind = { isPending: () => true, accept: () => Promise.reject(new Error('why')) };
    await new Commands([kind]).listen(join(directory.path, 'status'));
    const answer = await ask(socketOf(join(directory.path, 'status')), { command: 'accept-deletions' });
    expect(answer).toEqual({ isDone: false, text: 'why' });
  });

  test('is not to be had where no socket can be made, which is told', async () => {
    using directory = scratch();
    mkdirSync(join(directory.path, 'status.sock'));
    await new Commands([]).listen(join(directory.path, 'status'));
    expect(log.text).toContain(
      'status.sock：不是套接字。--accept-deletions、--sync、--pause 和 --resume 不可用，镜像不受影响',
    );
  });
});
