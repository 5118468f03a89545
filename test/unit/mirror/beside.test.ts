import { describe, expect, test } from 'bun:test';
import { Beside, type Carried, Zone } from '../../../src/mirror/beside.ts';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import type { Scope } from '../../../src/mirror/scopes.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { parentOf, withParents } from '../../../src/service/files.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { Random } from '../../model.ts';
import { change, settle, statsOf, withOwnClock } from './stand-ins.ts';

withOwnClock();

const DONE: Carried = { status: 0, totals: { files: 1, bytes: 100, created: 1, deleted: 0 } };
const directory = statsOf({ type: 'directory' });

/** Large files that go beside others when a test says so, in a source where all is there but for what is gone. */
class Bed {
  readonly state = new TargetState('backup', false);
  readonly gone = new Set<string>();
  readonly carried: string[][] = [];
  readonly told: number[] = [];
  private end: (carried: Carried) => void = () => {};
  readonly beside = new Beside({
    state: this.state,
    large: {
      find: (batch) => new Map([...batch].filter(([path]) => path.endsWith('L') && !this.gone.has(path))),
      note: (batch) => this.told.push(batch.size),
    },
    reach: (path) => {
      const missing = withParents(path)
        .reverse()
        .find((it) => this.gone.has(it));
      return missing === undefined ? { reached: path, found: directory } : { reached: missing, found: undefined };
    },
    carry: (paths) => {
      this.carried.push(paths);
      return new Promise((resolve) => {
        this.end = resolve;
      });
    },
  });

  split(...paths: string[]): string[] {
    return [...this.beside.split(batchOf(paths)).keys()];
  }

  /** What is on its way has come to its end. */
  async finish(carried: Carried = DONE): Promise<void> {
    this.end(carried);
    await settle();
  }

  get withheld(): string[] {
    return [...this.state.withheld.keys()];
  }

  get waiting(): string[] {
    return [...this.state.changes.waiting.keys()].sort();
  }
}

const batchOf = (paths: string[], known: Partial<Change> = {}): Batch =>
  new Map(paths.map((path) => [path, change({ kind: 'modify', ...known })]));

describe('large files', () => {
  test('go beside what else is in their batch, and are looked at once more afterwards', async () => {
    const bed = new Bed();
    expect(bed.split('a', 'b/L', 'b/c', 'd/L')).toEqual(['a', 'b/c']);
    expect(bed.carried).toEqual([['b/L', 'd/L']]);
    expect(bed.state.pending).toBe(2);
    expect(bed.split('a')).toEqual(['a']);
    await bed.finish();
    expect(bed.waiting).toEqual(['b/L', 'd/L']);
    expect(bed.split('b/L', 'd/L')).toEqual(['b/L', 'd/L']);
    expect(bed.carried).toHaveLength(1);
    expect(bed.beside.takeTotals()).toEqual(DONE.totals);
    expect(bed.beside.takeTotals().bytes).toBe(0);
    bed.beside.note(batchOf(['b/L']), { kind: 'done', seconds: 1 });
    expect(bed.split('b/L', 'd/L')).toEqual(['d/L']);
  });

  test('that change on their way are sent once more after they have got there, at once where nothing has failed', async () => {
    for (const [status, isAgain] of [
      [0, true],
      [23, false],
      [12, false],
      [undefined, false],
    ] as const) {
      const bed = new Bed();
      bed.split('L');
      expect(bed.split('L', 'a')).toEqual(['a']);
      expect(bed.withheld).toEqual(['L']);
      await bed.finish({ status, totals: {} });
      expect(bed.waiting).toEqual(['L']);
      expect(bed.split('L')).toEqual(isAgain ? [] : ['L']);
    }
  });

  test('wait for those that are on their way', async () => {
    const bed = new Bed();
    bed.split('a/L');
    expect(bed.split('b/L', 'c')).toEqual(['c']);
    await bed.finish();
    expect(bed.waiting).toEqual(['a/L', 'b/L']);
    expect(bed.split('a/L', 'b/L')).toEqual(['a/L']);
    expect(bed.carried).toEqual([['a/L'], ['b/L']]);
  });

  test('go like any other where their batch, or a rename, may touch them, and for a while where no connection could be had', async () => {
    const bed = new Bed();
    expect(bed.split('a/L', 'a')).toEqual(['a/L', 'a']);
    expect(bed.split('a/L', '')).toEqual(['a/L', '']);
    bed.state.moves.add({ from: 'x', to: 'a', cookie: '1', identity: '1:1' });
    expect(bed.split('a/L')).toEqual(['a/L']);
    bed.state.moves.clear();
    bed.split('a/L');
    await bed.finish({ status: 255, totals: {} });
    bed.beside.note(batchOf(['a/L']), { kind: 'done', seconds: 1 });
    expect(bed.split('a/L')).toEqual(['a/L']);
  });
});

describe('while a large file is on its way', () => {
  test.each([
    ['a/b/L', 'it changes once more'],
    ['a/b', 'what it lies in changes'],
    ['a', 'what that lies in changes'],
    ['', 'the source itself changes'],
    ['a/b/L/x', 'it may have become a directory'],
  ])('%p waits: %s', async (path) => {
    const bed = new Bed();
    bed.split('a/b/L');
    expect(bed.split(path, 'other')).toEqual(['other']);
    expect(bed.withheld).toEqual([path]);
    await bed.finish();
    expect(bed.waiting).toContain(path);
    expect(bed.withheld).toEqual([]);
  });

  test('what has gone from a directory above it waits, for that would be compared; not what has gone elsewhere', () => {
    const bed = new Bed();
    bed.split('a/b/L');
    for (const path of ['gone', 'a/gone', 'a/b/gone', 'c/gone', 'a/c/gone']) bed.gone.add(path);
    expect(bed.split('gone/x', 'a/gone', 'a/b/gone/y/z', 'c/gone', 'a/c/gone')).toEqual(['c/gone', 'a/c/gone']);
  });

  test('all waits for a rename of it, of what it lies in, or over it', () => {
    for (const [from, to] of [
      ['a/L', 'x'],
      ['a', 'x'],
      ['x', 'a/L'],
    ] as const) {
      const bed = new Bed();
      bed.split('a/L');
      bed.state.moves.add({ from, to, cookie: '1', identity: '1:1' });
      expect(bed.beside.touchesMoves()).toBe(true);
      expect(bed.split('other')).toEqual([]);
    }
  });

  test('an rsync that would look at it waits, and gives up where a request to stop has cut it off', async () => {
    const bed = new Bed();
    await bed.beside.clear();
    bed.split('a/L');
    await bed.beside.clear(new Map([['b', 'tree']]));
    const isOver: string[] = [];
    const wait = bed.beside.clear().then(() => isOver.push('all'));
    const refused = bed.beside.clear(new Map([['a', 'tree']])).catch(({ message }) => isOver.push(message));
    await settle();
    expect(isOver).toEqual([]);
    await bed.finish();
    await Promise.all([wait, refused]);
    expect(isOver.sort()).toEqual(['all']);
    bed.split('c/L');
    lifecycle.stopping = true;
    const late = bed.beside.clear().catch(({ message }) => message);
    await bed.finish({ status: 20, totals: {} });
    lifecycle.stopping = false;
    expect(await late).toBe('服务正在停止');
  });

  test('what is known of a change that waits stays known, the newest of it', async () => {
    const bed = new Bed();
    bed.split('a/L');
    bed.beside.split(batchOf(['a'], { kind: 'create', since: 5, tree: true }));
    bed.beside.split(batchOf(['a'], { kind: 'delete', since: 7 }));
    await bed.finish();
    expect(bed.state.changes.waiting.get('a')).toMatchObject({ kind: 'delete', since: 5, tree: true });
  });
});

test('a zone is met by what an rsync looks at of it', () => {
  const zone = new Zone(['a/b/L']);
  const meets = (path: string, scope: Scope) => zone.meets(new Map([[path, scope]]));
  for (const scope of ['entry', 'gone', 'tree', 'inside'] as const)
    for (const path of ['a', 'a/b', 'a/b/L', 'a/b/L/x', '']) expect(meets(path, scope)).toBe(true);
  for (const path of ['a', 'a/b', '']) expect(meets(path, 'directory')).toBe(false);
  for (const path of ['a/b/L', 'a/b/L/x']) expect(meets(path, 'directory')).toBe(true);
  for (const path of ['a/b/c', 'a/c', 'c']) {
    expect(meets(path, 'gone')).toBe(true);
    expect(meets(path, 'entry')).toBe(false);
    expect(meets(path, 'tree')).toBe(false);
  }
  expect(meets('c/d', 'gone')).toBe(false);
  expect(new Zone([]).meets(new Map([['', 'tree']]))).toBe(false);
});

/** Paths that lie in, above and beside each other, of which those that end in L are large. */
const PATHS = ['', 'a', 'L', 'b', 'a/L', 'a/b', 'a/b/L', 'a/b/c', 'b/L', 'b/c', 'a/c/d', 'c'];

test('in any order, nothing is sent over what is on its way, and nothing gets lost', async () => {
  for (let seed = 1; seed <= 300; seed++) {
    const [random, bed] = [new Random(seed), new Bed()];
    /** What has changed since it was sent last by an ordinary sync. */
    const lacking = new Set<string>();
    for (let step = 0; step < 60; step++) {
      if (bed.beside.isBusy && random.chance(0.3)) {
        await bed.finish({ status: random.pick([0, 0, 0, 23, 24]), totals: {} });
        expect(bed.withheld).toEqual([]);
      }
      for (const path of random.some(PATHS, 0.2)) {
        lacking.add(path);
        if (random.chance(0.5)) bed.gone.add(path);
        else bed.gone.delete(path);
        bed.state.changes.add(batchOf([path]));
      }
      const rest = bed.beside.split(bed.state.changes.take(0));
      const lot = [...bed.state.beside.keys()];
      for (const path of rest.keys()) {
        for (const one of lot) {
          expect(withParents(path)).not.toContain(one);
          expect(withParents(one)).not.toContain(path);
          const missing = withParents(path).findLast((it) => bed.gone.has(it));
          if (missing !== undefined) expect(withParents(parentOf(one))).not.toContain(parentOf(missing));
        }
        lacking.delete(path);
      }
      bed.beside.note(rest, { kind: 'done', seconds: 1 });
      const known = new Set(bed.state.lacking.flatMap((batch) => [...batch.keys()]));
      for (const path of lacking) expect(known).toContain(path);
    }
    while (bed.beside.isBusy || bed.state.changes.size > 0) {
      if (bed.beside.isBusy) await bed.finish();
      for (const path of bed.beside.split(bed.state.changes.take(0)).keys()) lacking.delete(path);
    }
    expect([...lacking]).toEqual([]);
  }
});
