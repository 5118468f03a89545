import { describe, expect, test } from 'bun:test';
import { ALL, type Batch, type Change } from '../../../src/mirror/changes.ts';
import { planFor } from '../../../src/mirror/options.ts';
import type { Scope } from '../../../src/mirror/scopes.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { leaveOut, looksAround, Unsent } from '../../../src/mirror/unsent.ts';
import { Random } from '../../model.ts';
import { change, event, keepLog, outcome, settle } from './stand-ins.ts';

const FULL = { mode: 'full', kind: 'done' } as const;
const SOME = { mode: 'incremental', kind: 'done' } as const;
const NONE: Batch = new Map();

/** A target that was compared as a whole, and whose markers come back when a test says so. */
class Bed {
  readonly unsent = new Unsent();
  private readonly markers: (() => void)[] = [];

  constructor() {
    this.unsent.marker = () => new Promise((resolve) => this.markers.push(resolve));
  }

  async mark(): Promise<void> {
    for (const resolve of this.markers.splice(0)) resolve();
    await settle();
  }

  static async certain(): Promise<Bed> {
    const bed = new Bed();
    bed.unsent.cover();
    bed.unsent.end(FULL, true);
    await bed.mark();
    return bed;
  }

  isUnsent = (born: number, known: Partial<Change> = {}) =>
    this.unsent.isUnsent(change({ kind: 'delete', ...known, born }));
}

const batchOf = (...paths: string[]): Batch => new Map(paths.map((path) => [path, change({ kind: 'delete' })]));

describe('what has come and gone', () => {
  test('was never sent, where all was compared and told before it came', async () => {
    const { unsent, isUnsent } = await Bed.certain();
    const born = unsent.now('d/a', [NONE]);
    expect(isUnsent(born)).toBe(true);
    expect(isUnsent(born, { kind: 'moved_from' })).toBe(true);
    for (const kind of ['create', 'modify', 'close_write', 'moved_to', undefined] as const)
      expect(isUnsent(born, { kind })).toBe(false);
    expect(isUnsent(0)).toBe(false);
    expect(unsent.isUnsent(undefined)).toBe(false);
  });

  test.each<[string, (bed: Bed) => unknown]>([
    [
      'before a marker has told that all is told which a comparison may have seen',
      ({ unsent }) => {
        unsent.cover();
        unsent.end(SOME, true);
      },
    ],
    [
      'before the whole was compared again, where a sync has failed',
      async (bed) => {
        bed.unsent.end({ mode: 'incremental', kind: 'failed' }, true);
        await bed.mark();
      },
    ],
    [
      'where some of it has failed',
      async (bed) => {
        bed.unsent.end({ mode: 'incremental', kind: 'partial' }, true);
        await bed.mark();
        bed.unsent.end(SOME, true);
        await bed.mark();
      },
    ],
    [
      'where rsync has not deleted all',
      async (bed) => {
        bed.unsent.end({ mode: 'full', kind: 'limited' }, true);
        await bed.mark();
      },
    ],
    [
      'where deletions are held, or something is set aside',
      async (bed) => {
        bed.unsent.cover();
        bed.unsent.end(FULL, false);
        await bed.mark();
      },
    ],
    ['where others may have written there', ({ unsent }) => unsent.doubt()],
    ['where a sync runs that looks at directories', ({ unsent }) => unsent.cover()],
    [
      'where a sync has named it of which not all is told',
      ({ unsent }) => {
        unsent.name(batchOf('d/a'), NONE);
        unsent.end(SOME, true);
      },
    ],
    [
      'where so many syncs have ended that nobody knows what they have named',
      ({ unsent }) => {
        for (let n = 0; n < 20; n++) {
          unsent.name(batchOf('d/a'), NONE);
          unsent.end(SOME, true);
        }
        unsent.name(batchOf('d/b'), NONE);
        unsent.end(SOME, true);
      },
    ],
  ])('may have been sent %s', async (_, prepare) => {
    const bed = await Bed.certain();
    await prepare(bed);
    expect(bed.isUnsent(bed.unsent.now('d/a', [NONE]))).toBe(false);
  });

  test.each([['d/a'], ['d'], ['']])('may have been sent where the target lacks something about %p', async (path) => {
    const { unsent } = await Bed.certain();
    expect(unsent.now('d/a', [NONE, batchOf(path)])).toBe(0);
    expect(unsent.now('e/a', [NONE, batchOf('d/a', 'd')])).not.toBe(0);
  });

  test('may have been sent where a sync has begun since that looks at directories, also once that is over', async () => {
    const bed = await Bed.certain();
    const born = bed.unsent.now('d/a', [NONE]);
    bed.unsent.cover();
    expect(bed.isUnsent(born)).toBe(false);
    bed.unsent.end(SOME, true);
    await bed.mark();
    expect(bed.isUnsent(born)).toBe(false);
    expect(bed.isUnsent(bed.unsent.now('d/a', [NONE]))).toBe(true);
  });

  test('may have been sent where a sync names it that begins after it has come', async () => {
    const bed = await Bed.certain();
    const waiting: Batch = new Map([
      ['d/a', change({ kind: 'create', born: bed.unsent.now('d/a', [NONE]) })],
      ['d/b', change({ kind: 'create', born: bed.unsent.now('d/b', [NONE]) })],
    ]);
    bed.unsent.name(batchOf('d/a'), waiting);
    expect(['d/a', 'd/b'].map((path) => bed.isUnsent(waiting.get(path)?.born ?? 0))).toEqual([false, true]);
  });

  test('was not sent by a sync that has named other things only, nor by one that was cut off and is tried again', async () => {
    const bed = await Bed.certain();
    const born = bed.unsent.now('d/a', [NONE]);
    bed.unsent.name(batchOf('d/b'), NONE);
    bed.unsent.end(SOME, true);
    bed.unsent.name(batchOf('d/b'), NONE);
    bed.unsent.end({ mode: 'incremental', kind: 'unreachable' }, true);
    expect(bed.isUnsent(born)).toBe(true);
    expect(bed.unsent.now('d/b', [NONE])).toBe(0);
    await bed.mark();
    expect(bed.isUnsent(bed.unsent.now('d/b', [NONE]))).toBe(true);
  });

  test('may have been sent for as long as markers do not come back', async () => {
    const bed = new Bed();
    bed.unsent.marker = () => Promise.reject(new Error('stopping'));
    bed.unsent.end(FULL, true);
    await settle();
    expect(bed.unsent.now('d/a', [NONE])).toBe(0);
  });
});

describe('a target', () => {
  async function certain(): Promise<TargetState> {
    const state = new TargetState('one', false);
    state.unsent.marker = () => Promise.resolve();
    state.unsent.end(FULL, true);
    await settle();
    return state;
  }
  const CREATE = event('create');

  test.each<[string, [kind: Parameters<typeof event>[0], isSure?: boolean][], boolean]>([
    ['came and went', [['create'], ['modify'], ['close_write'], ['delete']], true],
    ['came and was moved away', [['create'], ['close_write'], ['moved_from']], true],
    ['came and went twice', [['create'], ['delete'], ['create'], ['attrib'], ['delete']], true],
    ['is there', [['create'], ['close_write']], false],
    ['was there before', [['modify'], ['delete']], false],
    ['was there before, went, came and went', [['delete'], ['create'], ['delete']], false],
    ['was moved there', [['moved_to'], ['delete']], false],
    ['came and was replaced by what was moved there', [['create'], ['moved_to'], ['delete']], false],
    ['came and went, and what was moved there went', [['create'], ['delete'], ['moved_to'], ['delete']], false],
    ['came, as one of two watchers says', [['create', false], ['delete']], false],
    ['went, as one of two watchers says', [['create'], ['delete', false]], false],
    [
      'came and went, and did so once more, as one of two watchers says',
      [['create'], ['delete'], ['create', false], ['delete']],
      false,
    ],
  ])('knows of a name that %s whether it was sent', async (_, events, expected) => {
    const state = await certain();
    for (const [kind, isSure = true] of events) state.note('d/a', event(kind), undefined, isSure);
    expect(state.unsent.isUnsent(state.changes.waiting.get('d/a'))).toBe(expected);
  });

  test('does not know it any more of what is put back after it was taken', async () => {
    const state = await certain();
    const bear = () => {
      for (const kind of ['create', 'delete'] as const) state.note('d/a', event(kind), undefined, true);
      return state.changes.take(0);
    };
    state.changes.add(bear());
    expect(state.unsent.isUnsent(state.changes.waiting.get('d/a'))).toBe(false);
    state.changes.take(0);
    state.changes.restore(bear());
    expect(state.unsent.isUnsent(state.changes.waiting.get('d/a'))).toBe(false);
  });

  test('may have what came into being while the same name was on its way', async () => {
    const state = await certain();
    state.begin(batchOf('d/a'));
    state.note('d/a', CREATE, undefined, true);
    expect(state.changes.waiting.get('d/a')?.born).toBe(0);
    using _ = keepLog();
    state.promote();
    state.note('d/b', CREATE, undefined, true);
    expect(state.changes.waiting.get('d/b')?.born).toBe(0);
  });
});

describe('what is left out', () => {
  async function attempt(RSYNC_OPTS: string, scopes: [string, Scope][], prefix = '/') {
    const { unsent } = await Bed.certain();
    const born = unsent.now('x', [NONE]);
    const batch: Batch = new Map(scopes.map(([path]) => [path, change({ kind: 'delete', born })]));
    const plan = planFor({ RSYNC_OPTS, SSH_OPTS: '', RENAME_ON_TARGET: true });
    const left = leaveOut(unsent, { plan, prefix }, batch, new Map(scopes));
    return { scopes: [...left.scopes], paths: [...left.batch.keys()] };
  }
  const GONE: [string, Scope] = ['d/a', 'gone'];
  const DIRECTORY = { scopes: [['d', 'directory']], paths: [] };

  test.each([
    '-avz --delete',
    '-avz',
    '-aH --delete',
    '-ax --delete',
    "-a --delete --exclude='*.tmp'",
    '-a --delete --delay-updates',
  ])('is a name, but not the time of its directory, with %s', async (options) =>
    expect((await attempt(options, [GONE])) as unknown).toEqual(DIRECTORY),
  );

  test.each([
    '-a --delete --exclude=a',
    "-a --delete --filter='P a'",
    '-aF --delete',
    '-a --delete --max-delete=5',
    '-a --delete --backup --backup-dir=old',
  ])('is nothing where the target may keep what is gone, with %s', async (options) =>
    expect((await attempt(options, [GONE])).scopes).toEqual([GONE]),
  );

  test('is what is in the source itself, if a name can stand for that without what is in it', async () => {
    expect((await attempt('-a --delete', [['a', 'gone']])).scopes).toEqual([['.rsync-inotify-nothing', 'entry']]);
    expect((await attempt('-a --delete', [['a', 'gone']], '/source/')).scopes).toEqual([['a', 'gone']]);
  });

  test('is not what is in the source itself where only its time is another one', async () => {
    const { unsent } = await Bed.certain();
    const plan = planFor({ RSYNC_OPTS: '-a --delete', SSH_OPTS: '', RENAME_ON_TARGET: true });
    const scopesFor = (known: Partial<Change>, prefix: string) => {
      const batch: Batch = new Map([['', change({ isDirectory: true, ...known })]]);
      return [...leaveOut(unsent, { plan, prefix }, batch, new Map([['', 'directory']])).scopes.keys()];
    };
    expect(scopesFor({}, '/')).toEqual(['.rsync-inotify-nothing']);
    expect(scopesFor({ kind: 'attrib' }, '/')).toEqual(['']);
    expect(scopesFor({}, '/source/')).toEqual(['']);
  });

  test('is no directory that is looked at anyway, and nothing that is there', async () => {
    const rest: [string, Scope][] = [
      ['d', 'tree'],
      ['e/a', 'entry'],
      ['f', 'directory'],
    ];
    const left = await attempt('-a --delete', [...rest, GONE, ['f/a', 'gone']]);
    expect(left).toEqual({ scopes: rest, paths: ['d', 'e/a', 'f'] });
  });

  test('is all below a directory that was never sent', async () => {
    const { unsent } = await Bed.certain();
    const born = unsent.now('d', [NONE]);
    const batch: Batch = new Map([
      ['d', change({ kind: 'delete', isDirectory: true, tree: true, born })],
      ['d/a', change({ kind: 'delete' })],
      ['da', change({ kind: 'delete' })],
    ]);
    const plan = planFor({ RSYNC_OPTS: '-a --delete', SSH_OPTS: '', RENAME_ON_TARGET: true });
    const scopes = new Map<string, Scope>([
      ['d', 'gone'],
      ['da', 'gone'],
    ]);
    expect([...leaveOut(unsent, { plan, prefix: '/' }, batch, scopes).batch.keys()]).toEqual(['da']);
  });

  test('is nothing that may have changed under its old name in a directory that was renamed, and may look as before', async () => {
    const { unsent } = await Bed.certain();
    const born = unsent.now('d', [NONE]);
    const batch: Batch = new Map([
      ['d', change({ kind: 'moved_from', isDirectory: true, tree: true, born, dated: 7 })],
      ['d/a', change({ kind: 'moved_to', dated: 7 })],
      ['d/b', change({ kind: 'close_write' })],
    ]);
    const plan = planFor({ RSYNC_OPTS: '-a --delete', SSH_OPTS: '', RENAME_ON_TARGET: true });
    const left = leaveOut(unsent, { plan, prefix: '/' }, batch, new Map([['d', 'gone']]));
    expect([...left.batch.keys()]).toEqual(['d/a']);
  });

  test('says that an rsync does not look around where it is given names of what is there alone', () => {
    const around = (...scopes: [string, Scope][]) => looksAround(new Map(scopes));
    expect(around(['a', 'entry'], ['d', 'directory'])).toBe(false);
    for (const scope of ['gone', 'tree', 'inside', 'hollow'] as const) expect(around(['a', scope])).toBe(true);
    expect(around(['', 'directory'])).toBe(true);
  });
});

/** Events that are told late, and syncs that see what is there at some moment of their own: what is left out, the target must not have. */
class Play {
  readonly source = new Set<string>();
  readonly backup = new Set<string>();
  readonly state = new TargetState('one', false);
  readonly left: string[] = [];
  private readonly queue: (() => void)[] = [];
  private readonly plan = planFor({ RSYNC_OPTS: '-a --delete', SSH_OPTS: '', RENAME_ON_TARGET: true });
  /** What is still to be done of the sync that is under way. */
  private steps: (() => void)[] = [];

  constructor(private readonly random: Random) {
    this.state.unsent.marker = () => new Promise((resolve) => this.queue.push(resolve));
    this.state.changes.add(ALL);
  }

  private name = () => `d/${this.random.pick(['a', 'b', 'c', 'e', 'f'])}`;
  private happen = (kind: Parameters<typeof event>[0], path: string) =>
    this.queue.push(() => this.state.note(path, event(kind), undefined, true));

  work(): void {
    const path = this.name();
    if (this.source.has(path) && this.random.chance(0.15)) {
      const to = this.name();
      if (to === path) return;
      this.happen('moved_from', path);
      this.happen('moved_to', to);
      this.source.delete(path);
      this.source.add(to);
    } else if (this.source.delete(path)) this.happen('delete', path);
    else {
      this.source.add(path);
      this.happen('create', path);
    }
  }

  async tell(): Promise<void> {
    this.queue.shift()?.();
    await settle();
  }

  /** Does the next step of a sync. */
  async sync(): Promise<void> {
    if (this.steps.length === 0 && this.state.changes.size > 0) {
      const batch = this.state.changes.take(0);
      this.steps = [() => this.begin(batch)];
      return;
    }
    this.steps.shift()?.();
    await settle();
  }

  private begin(batch: Batch): void {
    const { state } = this;
    state.begin(batch);
    state.unsent.name(batch, state.changes.waiting);
    if (batch.has('')) {
      state.unsent.cover();
      this.steps = [() => this.copyAll(), () => this.end(batch, 'full')];
      return;
    }
    const found = new Map(
      [...batch.keys()].map((path): [string, Scope] => [path, this.source.has(path) ? 'entry' : 'gone']),
    );
    const { scopes } = leaveOut(state.unsent, { plan: this.plan, prefix: '/' }, batch, found);
    for (const path of found.keys()) if (!scopes.has(path)) this.leave(path);
    const isAsked = this.random.chance(0.5);
    const gone = isAsked ? [...scopes].flatMap(([path, scope]) => (scope === 'gone' ? [path] : [])) : [];
    const rest = new Map([...scopes].filter(([path]) => !gone.includes(path)));
    this.steps = [
      () => gone.forEach((path) => void (this.source.has(path) || this.backup.delete(path))),
      () => this.nameRest(rest),
      () => this.look(rest),
      () => this.end(batch, 'incremental'),
    ];
  }

  private leave(path: string): void {
    this.left.push(path);
    expect([path, this.backup.has(path)]).toEqual([path, false]);
  }

  private nameRest(scopes: Map<string, Scope>): void {
    this.state.unsent.name(scopes, this.state.changes.waiting);
    if (looksAround(scopes)) this.state.unsent.cover();
  }

  private look(scopes: Map<string, Scope>): void {
    if (looksAround(scopes)) this.copyAll();
    for (const [path] of scopes) if (this.source.has(path)) this.backup.add(path);
  }

  private copyAll(): void {
    this.backup.clear();
    for (const path of this.source) this.backup.add(path);
  }

  private end(batch: Batch, mode: 'full' | 'incremental'): void {
    const kind = this.random.chance(0.04) ? this.random.pick(['unreachable', 'failed'] as const) : 'done';
    this.state.unsent.end({ mode, kind }, true);
    this.state.record(outcome({ mode, kind }));
    if (kind !== 'done') this.state.changes.add(batch);
    if (this.random.chance(0.1)) this.state.changes.add(ALL);
  }

  async drain(): Promise<void> {
    while (this.queue.length > 0 || this.steps.length > 0 || this.state.changes.size > 0) {
      await this.tell();
      await this.sync();
    }
  }
}

test('whatever happens in whatever order, nothing is left out that the target has, and in the end it has what there is', async () => {
  let left = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const random = new Random(seed);
    const play = new Play(random);
    const [late, busy] = [random.pick([0.3, 0.6, 0.95]), random.pick([0.1, 0.3])];
    for (let n = 0; n < 600; n++) {
      if (random.chance(busy)) play.work();
      if (random.chance(late)) await play.tell();
      if (random.chance(random.pick([0.1, 0.6]))) await play.sync();
    }
    await play.drain();
    expect([seed, ...[...play.backup].sort()]).toEqual([seed, ...[...play.source].sort()]);
    left += play.left.length;
  }
  expect(left).toBeGreaterThan(50);
});
