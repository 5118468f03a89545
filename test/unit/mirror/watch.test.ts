import { describe, expect, test } from 'bun:test';
import type { Stats } from 'node:fs';
import { Announcer } from '../../../src/mirror/announcer.ts';
import { Doubts } from '../../../src/mirror/doubts.ts';
import type { Event } from '../../../src/mirror/events.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { Unwatched } from '../../../src/mirror/unwatched.ts';
import { Watch } from '../../../src/mirror/watch.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { Failure } from '../../../src/service/text.ts';
import {
  event,
  pass,
  passSeconds,
  request,
  StandInCoverage,
  StandInWatcher,
  settle,
  standInPlaces,
  statsOf,
  withOwnClock,
} from './stand-ins.ts';

const ROOT = '/data/source/';
/** How large a file is at least that is worth a rename, bytes. */
const LARGE = 262_144;
const NO_ROOM = 'inotifywait 退出 (退出码: 1)：Failed to watch /data/source/; upper limit on inotify watches reached!';

const log = withOwnClock();

/** A watch whose watchers say what a test has them say. */
class Bed {
  readonly doubts = new Doubts();
  readonly targets = [new TargetState('one', true), new TargetState('two', true)];
  readonly announcer = new Announcer();
  readonly watchers: StandInWatcher[] = [];
  /** What is in the source, by its path there. */
  readonly things: Record<string, Stats> = {};
  /** Makes the next watcher. */
  make = () => new StandInWatcher();
  readonly coverage = new StandInCoverage();
  /** The errors with which places in the source are opened now. */
  readonly faults: Record<string, string> = {};
  readonly unwatched = new Unwatched(ROOT, async (path) => {
    const code = this.faults[path.slice(ROOT.length)];
    if (code) throw Object.assign(new Error(code), { code });
  });
  checks = 0;
  /** What is wrong with the source when it is looked at. */
  fault: Failure | undefined;
  readonly watch: Watch;
  private readonly tells: ((event: Event) => void)[] = [];

  constructor() {
    for (const target of this.targets) target.mirrored = true;
    const source = {
      root: ROOT,
      look: (path: string) => this.things[path],
      check: () => {
        this.checks++;
        if (this.fault) throw this.fault;
      },
    };
    const { doubts, targets, announcer } = this;
    const { coverage, unwatched } = this;
    this.watch = new Watch(
      { source, doubts, targets, announcer, coverage, unwatched, places: standInPlaces },
      (tell) => {
        const watcher = this.make();
        this.watchers.push(watcher);
        this.tells.push(tell);
        return watcher;
      },
    );
  }

  /** A watch that stands, and replaces its watchers. */
  static async watching(): Promise<Bed> {
    const bed = new Bed();
    await bed.watch.start();
    lifecycle.background(bed.watch.keep());
    await settle();
    return bed;
  }

  /** Has a watcher, the last one unless told otherwise, tell of something in the source. */
  tell(kind: Event['kind'], path: string, more: Partial<Event> = {}, watcher = this.tells.length - 1): void {
    this.tells[watcher]?.(event(kind, { path: `${ROOT}${path}`, ...more }));
  }

  /** The changes that wait for both targets. */
  get waiting(): string[] {
    const [one, two] = this.targets.map(({ changes }) => [...changes.waiting.keys()]);
    expect(one).toEqual(two as string[]);
    return one ?? [];
  }

  waitingAt = (path: string) => this.targets[0]?.changes.waiting.get(path);

  /** Forgets the changes that wait. */
  clear(): void {
    for (const { changes } of this.targets) changes.take(0);
  }

  get renames(): string[] {
    return [...(this.targets[1]?.moves.values() ?? [])].map(({ from, to }) => `${from} > ${to}`);
  }

  rename(from: string, to: string, found: Stats, cookie = '7', isDirectory = false): void {
    this.things[to] = found;
    this.tell('moved_from', from, { cookie, isDirectory });
    this.tell('moved_to', to, { cookie, isDirectory });
  }
}

const DIRECTORY = { isDirectory: true };

describe('an event', () => {
  test('is a change for every target, and is named in the log', async () => {
    const bed = await Bed.watching();
    bed.tell('modify', 'd/a');
    expect(bed.waiting).toEqual(['d/a']);
    expect(bed.waitingAt('d/a')).toMatchObject({ kind: 'modify', open: true });
    expect(log.text).toContain(`检测到文件变化: ${ROOT}d/a MODIFY\n`);
    bed.tell('modify', 'd/a');
    bed.tell('modify', 'b');
    expect(bed.watch.report()).toMatchObject({ running: true, events: 3 });
    expect(bed.announcer.report().map(({ path }) => path)).toEqual([`${ROOT}b`, `${ROOT}d/a`]);
    expect(bed.doubts.size).toBe(0);
  });

  test('of the source itself is a change of the source', async () => {
    const bed = await Bed.watching();
    bed.tell('attrib', '', DIRECTORY);
    expect(bed.waiting).toEqual(['']);
    expect(bed.doubts.size).toBe(0);
  });

  test('of a file that has come looks what it is, so that one with a single name is waited for', async () => {
    const bed = await Bed.watching();
    bed.things.single = statsOf();
    bed.things.several = statsOf({ nlink: 2 });
    bed.tell('create', 'single');
    bed.tell('create', 'several');
    expect(bed.waitingAt('single')).toMatchObject({ open: true, fresh: true });
    expect(bed.waitingAt('several')).toMatchObject({ open: false, fresh: false });
  });

  test('whose path is too long to be told has the directory looked into that holds it', async () => {
    const bed = await Bed.watching();
    bed.tell('close_write', 'long/dddd', { isCut: true });
    expect(bed.waiting).toEqual(['long']);
    expect(bed.waitingAt('long')).toMatchObject({ tree: true });
    expect(bed.doubts.size).toBe(0);
  });

  test('outside of the source is none, whatever it is called', async () => {
    const bed = await Bed.watching();
    const [tell] = (bed as unknown as { tells: ((event: Event) => void)[] }).tells;
    for (const path of ['/data/sourcery/a', '/data/sourc', '/data/', '', 'a', '/other/data/source/a'])
      tell?.(event('create', { path, isDirectory: true }));
    expect(bed.waiting).toEqual([]);
    expect(bed.doubts.size).toBe(0);
    expect(bed.watch.report().events).toBe(0);
  });

  test('that something was deleted or moved itself says what its parent has said already', async () => {
    const bed = await Bed.watching();
    bed.tell('delete_self', 'd/');
    bed.tell('move_self', 'd');
    expect(bed.waiting).toEqual([]);
    expect(bed.doubts.size).toBe(0);
    expect(bed.watch.report().events).toBe(0);
  });
});

describe('in doubt', () => {
  test.each([
    ['create', ['new']],
    ['moved_to', ['new']],
    ['moved_from', ['new']],
    ['delete', []],
    ['modify', []],
    ['attrib', []],
    ['close_write', []],
  ] as const)('after %s of a directory: %j', async (kind, expected) => {
    const bed = await Bed.watching();
    bed.tell(kind, 'new', DIRECTORY);
    expect(bed.doubts.paths).toEqual([...expected]);
    expect(bed.waiting).toEqual(['new']);
    bed.tell(kind, 'file');
    expect(bed.doubts.paths).toEqual([...expected]);
  });

  test.each([
    ['move_self', '', ['']],
    ['delete_self', '', ['']],
    ['unmount', '', ['']],
    ['unmount', 'd', ['d']],
    ['move_self', 'd', []],
    ['delete_self', 'd', []],
  ] as const)('after %s of %j: %j', async (kind, path, expected) => {
    const bed = await Bed.watching();
    bed.tell(kind, path);
    expect(bed.doubts.paths).toEqual([...expected]);
  });
});

describe('a new directory', () => {
  test('is in doubt until a second watcher stands, is then looked into once more, and the first is ended when it is silent', async () => {
    const bed = await Bed.watching();
    const [first] = bed.watchers;
    if (!first) throw new Error('there is no watcher');
    const silence = Promise.withResolvers<boolean>();
    first.silence = silence.promise;
    const standing = Promise.withResolvers<void>();
    bed.make = () => new StandInWatcher(standing.promise);
    bed.tell('create', 'new', DIRECTORY);
    bed.clear();
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    expect(bed.doubts.paths).toEqual(['new']);
    expect(bed.waiting).toEqual([]);
    expect(first.isEnded).toBe(false);

    standing.resolve();
    await settle();
    expect(bed.doubts.paths).toEqual([]);
    expect(bed.waiting).toEqual(['new']);
    expect(bed.waitingAt('new')).toMatchObject({ tree: true });
    expect(first.asked).toEqual([[100, 5000]]);
    expect(first.isEnded).toBe(false);

    bed.tell('modify', 'seen by the first', {}, 0);
    bed.tell('modify', 'seen by the second', {}, 1);
    expect(bed.waiting).toEqual(['new', 'seen by the first', 'seen by the second']);
    silence.resolve(true);
    await settle();
    expect(first.isEnded).toBe(true);
    expect(bed.watchers[1]?.isEnded).toBe(false);
    expect(bed.watch.report()).toMatchObject({ running: true, restarts: 0, overflows: 0, in_doubt: null });
    expect(log.text).not.toContain('意外退出');
    await passSeconds(60);
    expect(bed.watchers).toHaveLength(2);
  });

  test('is waited for from when it came to be in doubt', async () => {
    const bed = await Bed.watching();
    await pass(50);
    const began = performance.now();
    bed.tell('create', 'new', DIRECTORY);
    bed.clear();
    await passSeconds(1);
    expect(bed.waiting).toEqual(['new']);
    expect(Math.abs((bed.waitingAt('new')?.since ?? 0) - began)).toBeLessThan(5); // by another clock
  });

  test('that comes while the next watcher is being started is in doubt until one more stands', async () => {
    const bed = await Bed.watching();
    const standing = Promise.withResolvers<void>();
    bed.make = () => new StandInWatcher(standing.promise);
    bed.tell('create', 'one', DIRECTORY);
    await passSeconds(1);
    bed.tell('create', 'two', DIRECTORY, 0);
    bed.make = () => new StandInWatcher();
    standing.resolve();
    await settle();
    expect(bed.doubts.paths).toEqual(['two']);
    await passSeconds(10);
    expect(bed.watchers).toHaveLength(3);
    expect(bed.doubts.paths).toEqual([]);
    expect(bed.watchers.map(({ isEnded }) => isEnded)).toEqual([true, true, false]);
  });

  test('has all of the source follow where the old watcher was stopped: what it has not told is lost', async () => {
    const bed = await Bed.watching();
    const [old] = bed.watchers;
    if (old) Object.assign(old, { isStopped: true, silence: Promise.resolve(false) });
    bed.tell('create', 'new', DIRECTORY);
    await passSeconds(0.3);
    expect(bed.watch.report()).toMatchObject({ running: true, restarts: 1 });
    await passSeconds(5);
    expect(bed.watchers).toHaveLength(3);
    expect(bed.waiting).toEqual(['new', '']);
    expect(log.text).toContain('监控已恢复');
  });

  test('has a watcher follow after 100 ms, and later where it takes its time: a tenth of all is spent on it', async () => {
    const bed = await Bed.watching();
    const standing = Promise.withResolvers<void>();
    bed.make = () => new StandInWatcher(standing.promise);
    bed.tell('create', 'a', DIRECTORY);
    await pass(99);
    expect(bed.watchers).toHaveLength(1);
    await pass(2);
    expect(bed.watchers).toHaveLength(2);
    await pass(398);
    standing.resolve();
    bed.make = () => new StandInWatcher();
    await settle();
    bed.tell('create', 'b', DIRECTORY);
    await passSeconds(3.5); // 9 times 0.4 s
    expect(bed.watchers).toHaveLength(2);
    await passSeconds(0.3);
    expect(bed.watchers).toHaveLength(3);
  });
});

describe('what a watcher has missed', () => {
  test('is in doubt until the next one stands', async () => {
    const bed = new Bed();
    bed.coverage.missed = ['passed over'];
    await bed.watch.start();
    await settle();
    expect(bed.doubts.paths).toEqual(['passed over']);
    bed.coverage.missed = [];
    lifecycle.background(bed.watch.keep());
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    expect(bed.doubts.paths).toEqual([]);
    expect(bed.waitingAt('passed over')).toMatchObject({ tree: true });
  });

  test('for it may not be entered is in no doubt, and is watched at once when it may', async () => {
    const bed = await Bed.watching();
    bed.faults.closed = 'EACCES';
    bed.unwatched.update(new Map([['closed', 'EACCES']]));
    bed.tell('attrib', 'closed', DIRECTORY);
    await passSeconds(1);
    expect(bed.doubts.paths).toEqual([]);
    expect(bed.watchers).toHaveLength(1);
    expect(bed.watch.report().unwatched).toMatchObject({ count: 1, places: [{ path: 'closed', reason: 'EACCES' }] });
    delete bed.faults.closed;
    bed.tell('attrib', 'closed', DIRECTORY);
    await settle();
    expect(bed.doubts.paths).toEqual(['closed']);
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    expect(bed.waitingAt('closed')).toMatchObject({ tree: true });
  });

  test('takes along what nobody has seen when it goes', async () => {
    const bed = await Bed.watching();
    bed.unwatched.update(new Map([['closed', 'EACCES']]));
    bed.tell('delete', 'closed', DIRECTORY);
    bed.tell('delete', 'other', DIRECTORY);
    expect(bed.waitingAt('closed')).toMatchObject({ kind: 'delete', tree: true });
    expect(bed.waitingAt('other')).toMatchObject({ kind: 'delete', tree: false });
  });
});

describe('a watcher that dies', () => {
  test('has lost changes: all is in doubt, another one is started, and all is compared', async () => {
    const bed = await Bed.watching();
    let lost = 0;
    bed.watch.on('lost', () => lost++);
    bed.watchers[0]?.emit('exit', 1, null);
    expect(bed.watch.report()).toMatchObject({ running: false, restarts: 1, directories: 0 });
    expect(bed.watch.report().in_doubt).not.toBeNull();
    expect(bed.doubts.paths).toEqual(['']);
    expect(lost).toBe(1);
    expect(log.text).toContain('inotifywait 意外退出 (退出码: 1)，正在重新启动监控');
    await passSeconds(1.2);
    expect(bed.watchers).toHaveLength(2);
    expect(bed.waiting).toEqual(['']);
    expect(bed.waitingAt('')).toMatchObject({ tree: true });
    expect(bed.watch.report()).toMatchObject({ running: true, restarts: 1, in_doubt: null });
    expect(log.text).toContain('监控已恢复，将进行一次全量同步');
    await passSeconds(20);
    expect(bed.watchers).toHaveLength(2);
  });

  test('by a signal is told with its name', async () => {
    const bed = await Bed.watching();
    bed.watchers[0]?.emit('exit', null, 'SIGKILL');
    expect(log.text).toContain('inotifywait 意外退出 (退出码: SIGKILL)');
  });

  test('is replaced within a second, however long the rest would have been', async () => {
    const bed = await Bed.watching();
    const standing = Promise.withResolvers<void>();
    bed.make = () => new StandInWatcher(standing.promise);
    bed.tell('create', 'a', DIRECTORY);
    await passSeconds(2);
    standing.resolve();
    bed.make = () => new StandInWatcher();
    await settle();
    bed.tell('create', 'b', DIRECTORY); // the next one would come after some 17 s
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    bed.watchers[1]?.emit('exit', 1, null);
    await passSeconds(1.1);
    expect(bed.watchers).toHaveLength(3);
  });

  test('at a request to stop is no news', async () => {
    const bed = await Bed.watching();
    request.stop();
    expect(bed.watchers[0]?.isEnded).toBe(true); // it is ended with everything
    await settle();
    expect(bed.watch.report()).toMatchObject({ running: false, restarts: 0, in_doubt: null });
    expect(log.text).not.toContain('意外退出');
  });
});

describe('a full queue of the kernel', () => {
  test('is counted once a watcher, has all in doubt, and all is compared', async () => {
    const bed = await Bed.watching();
    const overflow = (watcher: number) => bed.tell('q_overflow', '', { path: '' }, watcher);
    overflow(0);
    overflow(0);
    expect(bed.watch.report()).toMatchObject({ overflows: 1, events: 0 });
    expect(bed.doubts.paths).toEqual(['']);
    expect(log.text.match(/inotify 事件队列溢出/g)).toHaveLength(1);
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    expect(bed.waiting).toEqual(['']);
    expect(bed.waitingAt('')).toMatchObject({ tree: true });
    expect(log.text).toContain('监控已恢复');
    overflow(1);
    expect(bed.watch.report()).toMatchObject({ overflows: 2, running: true });
  });
});

describe('a start that fails', () => {
  const failing = (message: string) => () => {
    const watcher = new StandInWatcher(Promise.reject(new Failure(message)));
    watcher.established.catch(() => {});
    return watcher;
  };

  test('is told, is tried again after 1, 2, 4 s, and what is in doubt is looked into meanwhile', async () => {
    const bed = await Bed.watching();
    bed.make = failing('无法启动 inotifywait：nothing');
    bed.tell('create', 'new', DIRECTORY);
    bed.clear();
    const starts: number[] = [];
    for (let n = 0; n < 90; n++) {
      const before = bed.watchers.length;
      await pass(100);
      if (bed.watchers.length > before) starts.push(n);
    }
    const [first = 0, ...others] = starts;
    expect(first).toBeLessThanOrEqual(1);
    expect(others.map((at) => Math.round((at - first) / 10))).toEqual([1, 3, 7]);
    expect(bed.waiting).toEqual(['new']);
    expect(bed.doubts.paths).toEqual(['new']);
    expect(bed.watch.report()).toMatchObject({ running: true, restarts: 0 }); // the first one goes on
    expect(bed.watchers[0]?.isEnded).toBe(false);
    expect(log.text).toContain('无法启动 inotifywait：nothing');
    bed.make = () => new StandInWatcher();
    await passSeconds(10);
    expect(bed.doubts.paths).toEqual([]);
    expect(bed.watchers[0]?.isEnded).toBe(true);
  });

  test('for lack of room has the first one ended before the second: from then on there is one at a time', async () => {
    const bed = await Bed.watching();
    const order: string[] = [];
    const [first] = bed.watchers;
    first?.once('exit', () => order.push('first ends'));
    bed.make = () => {
      order.push('no room');
      bed.make = () => {
        order.push('second starts');
        return new StandInWatcher();
      };
      return failing(NO_ROOM)();
    };
    bed.tell('create', 'new', DIRECTORY);
    await pass(110);
    expect(order).toEqual(['no room', 'first ends', 'second starts']);
    expect(first?.asked[0]).toEqual([100, 5000]);
    expect(bed.waiting).toContain(''); // nobody has watched in between
    expect(bed.watch.report()).toMatchObject({ running: true, restarts: 0, in_doubt: null });
    expect(log.text).not.toContain('意外退出');

    order.length = 0;
    bed.clear();
    bed.tell('create', 'other', DIRECTORY);
    await passSeconds(59); // each one costs a comparison of all
    expect(order).toEqual([]);
    await passSeconds(2);
    expect(order).toEqual(['second starts']);
    expect(bed.waiting).toContain('');
  });

  test('for the source is not what it was leaves no watcher behind, before or after', async () => {
    const bed = new Bed();
    bed.fault = new Failure('源目录不见了');
    expect(bed.watch.start()).rejects.toThrow('源目录不见了');
    await settle();
    expect(bed.watchers).toHaveLength(0);
    bed.fault = undefined;
    const standing = Promise.withResolvers<void>();
    bed.make = () => new StandInWatcher(standing.promise);
    const start = bed.watch.start();
    await settle();
    bed.fault = new Failure('源目录被替换');
    standing.resolve();
    expect(start).rejects.toThrow('源目录被替换');
    await settle();
    expect(bed.watchers.map(({ isEnded }) => isEnded)).toEqual([true]);
    expect(bed.watch.report().running).toBe(false);
  });
});

describe('a rename', () => {
  test('of a large file or of a directory is one for the targets, of a small file or a link is none', async () => {
    const bed = await Bed.watching();
    bed.rename('a', 'large', statsOf({ size: LARGE }), '1');
    bed.rename('b', 'small', statsOf({ size: LARGE - 1, ino: 2 }), '2');
    bed.rename('c', 'link', statsOf({ type: 'link', size: LARGE, ino: 3 }), '3');
    bed.rename('d', 'directory', statsOf({ type: 'directory', ino: 4 }), '4', true);
    expect(bed.renames).toEqual(['a > large', 'd > directory']);
    expect(bed.targets[0]?.moves.get('large')).toMatchObject({ cookie: '1', identity: '1:1' });
    expect(bed.waiting).toEqual(['a', 'large', 'b', 'small', 'c', 'link', 'd', 'directory']);
  });

  test('of what is in doubt, or into what is in doubt, is none: names may be wrong there', async () => {
    const bed = await Bed.watching();
    const large = statsOf({ size: LARGE });
    bed.tell('create', 'new', DIRECTORY);
    bed.rename('new/a', 'b', large, '1');
    bed.rename('c', 'new/d', large, '2');
    bed.rename('e', 'f', large, '3');
    expect(bed.renames).toEqual(['e > f']);
    bed.rename('d', 'moved', statsOf({ type: 'directory' }), '4', true);
    bed.rename('moved', 'twice', statsOf({ type: 'directory' }), '5', true);
    expect(bed.renames).toEqual(['e > f', 'd > moved']);
  });

  test('is forgotten when something else comes to its new place', async () => {
    const bed = await Bed.watching();
    bed.rename('a', 'b', statsOf({ size: LARGE }), '1');
    bed.tell('moved_to', 'b', { cookie: '1' }); // the second watcher tells the same
    expect(bed.renames).toEqual(['a > b']);
    bed.tell('create', 'b');
    expect(bed.renames).toEqual([]);
  });

  test('of a directory tells where that is now, though the second watcher tells its first half once more', async () => {
    const bed = await Bed.watching();
    const [{ departures } = new TargetState('none', true)] = bed.targets;
    bed.tell('create', 'new', DIRECTORY);
    bed.rename('d', 'moved', statsOf({ type: 'directory' }), '4', true);
    for (const cookie of ['4', '5']) {
      bed.tell('moved_from', 'd', { cookie, ...DIRECTORY });
      expect(departures.locate('d/a')).toBe(cookie === '4' ? 'moved/a' : undefined); // the other one is of another directory
    }
    expect(departures.hasLost('d')).toBe(true);
    bed.rename('new/photos', 'photos', statsOf({ type: 'directory' }), '6', true); // what has come into it is not known
    bed.tell('moved_to', 'stranger', { cookie: '7', ...DIRECTORY });
    bed.rename('stranger', 'friend', statsOf({ type: 'directory' }), '8', true);
    const paths = ['new', 'moved', 'd', 'photos', 'stranger', 'friend'];
    expect(paths.filter((path) => departures.isExplained(path))).toEqual(['new', 'moved']);
  });

  test('takes along that a file may have other names', async () => {
    const bed = await Bed.watching();
    bed.tell('modify', 'a');
    bed.rename('a', 'b', statsOf(), '1');
    expect(bed.waitingAt('a')).toMatchObject({ shared: false });
    expect(bed.waitingAt('b')).toMatchObject({ shared: true });
  });

  test('out of the source or into it is half a one', async () => {
    const bed = await Bed.watching();
    bed.tell('moved_from', 'a', { cookie: '1' });
    bed.things.b = statsOf({ size: LARGE });
    bed.tell('moved_to', 'b', { cookie: '2' });
    expect(bed.renames).toEqual([]);
    expect(bed.waiting).toEqual(['a', 'b']);
  });
});

describe('the watches', () => {
  test('are counted at the start, and a second after directories were deleted', async () => {
    const bed = new Bed();
    const watcher = new StandInWatcher();
    watcher.watches = 12;
    bed.make = () => watcher;
    await bed.watch.start();
    await settle();
    expect(bed.watch.report().directories).toBe(12);
    watcher.watches = 10;
    bed.tell('delete', 'd/e', DIRECTORY);
    bed.tell('delete', 'd', DIRECTORY);
    await pass(990);
    expect(bed.watch.report().directories).toBe(12);
    await pass(20);
    expect(bed.watch.report().directories).toBe(10);
  });

  test('are left as they were counted where the watcher ends while it is asked', async () => {
    const bed = await Bed.watching();
    const [watcher] = bed.watchers;
    if (watcher) watcher.countWatches = () => Promise.reject(new Error('ENOENT'));
    bed.tell('delete', 'd', DIRECTORY);
    await passSeconds(2);
    expect(bed.watch.report().directories).toBe(1);
  });
});

test('whether there is something left to be said is asked of the watcher', async () => {
  const bed = new Bed();
  expect(await bed.watch.waitForSilence(800)).toBe(true); // nobody watches
  await bed.watch.start();
  const [watcher] = bed.watchers;
  expect(await bed.watch.waitForSilence(800)).toBe(true);
  if (watcher) watcher.silence = Promise.resolve(false);
  expect(await bed.watch.waitForSilence(800)).toBe(false);
  expect(watcher?.asked).toEqual([
    [50, 800],
    [50, 800],
  ]);
});

describe('a marker', () => {
  /** Asks for one; whether it has come back. */
  async function ask(bed: Bed) {
    const marker = { hasCome: false };
    lifecycle.background(
      bed.watch.marker().then(() => {
        marker.hasCome = true;
      }),
    );
    await settle();
    return marker;
  }

  test('comes back at once where nothing is in doubt, and has nothing sent', async () => {
    const bed = await Bed.watching();
    expect(await ask(bed)).toEqual({ hasCome: true });
    expect(bed.waiting).toEqual([]);
  });

  test('has what is in doubt be looked at once more by each target', async () => {
    const bed = await Bed.watching();
    bed.tell('create', 'd', DIRECTORY);
    bed.clear();
    await ask(bed);
    expect(bed.waitingAt('d')).toMatchObject({ tree: true });
  });

  test('comes back only after another watcher stands where one has died, with all compared after that', async () => {
    const bed = await Bed.watching();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    bed.watchers[0]?.marks.push(promise);
    const marker = await ask(bed);
    bed.watchers[0]?.emit('exit', 1, null);
    resolve(false);
    await settle();
    expect(marker.hasCome).toBe(false);
    await passSeconds(2);
    expect([bed.watchers.length, marker.hasCome]).toEqual([2, true]);
    expect(bed.waitingAt('')).toMatchObject({ tree: true });
  });

  test('does the same after an overflow, though the watcher lives', async () => {
    const bed = await Bed.watching();
    bed.watchers[0]?.marks.push(Promise.resolve(false));
    bed.tell('q_overflow', '');
    const marker = await ask(bed);
    expect(marker.hasCome).toBe(false);
    await passSeconds(2);
    expect([bed.watchers.length, marker.hasCome]).toEqual([2, true]);
    expect(bed.waitingAt('')).toMatchObject({ tree: true });
  });

  test('comes back where a watcher is relieved that has nothing to say', async () => {
    const bed = await Bed.watching();
    bed.watchers[0]?.marks.push(new Promise((resolve) => bed.watchers[0]?.once('exit', () => resolve(false))));
    const marker = await ask(bed);
    bed.watch.distrust('d');
    await passSeconds(2);
    expect([bed.watchers.length, marker.hasCome]).toEqual([2, true]);
    expect(bed.doubts.size).toBe(0);
    expect(bed.waiting).toEqual(['d']);
  });
});

describe('what is told is surely about a path', () => {
  /** Whether the second target trusts that what an event tells of has come into being. */
  async function trusts(bed: Bed, tell: () => void, path = 'd/a'): Promise<boolean> {
    for (const { unsent } of bed.targets) unsent.end({ mode: 'full', kind: 'done' }, true);
    await settle();
    tell();
    return (bed.waitingAt(path)?.born ?? 0) > 0;
  }

  test('where one watcher alone tells, and nothing is in doubt there', async () => {
    const bed = await Bed.watching();
    expect(await trusts(bed, () => bed.tell('create', 'd/a'))).toBe(true);
    expect(await trusts(bed, () => bed.tell('create', 'd/b', DIRECTORY), 'd/b')).toBe(true);
    expect(await trusts(bed, () => bed.tell('create', 'd/b/a'), 'd/b/a')).toBe(false); // d/b is new
    bed.clear();
    bed.watch.distrust('d');
    expect(await trusts(bed, () => bed.tell('create', 'd/c'), 'd/c')).toBe(false);
    expect(await trusts(bed, () => bed.tell('create', 'e'), 'e')).toBe(true);
  });

  test('not while one takes the place of another, whichever tells, nor of the one before later on', async () => {
    const bed = await Bed.watching();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const [old] = bed.watchers;
    if (old) old.silence = promise;
    bed.watch.distrust('e');
    await passSeconds(1);
    expect(bed.watchers).toHaveLength(2);
    bed.clear();
    expect(await trusts(bed, () => bed.tell('create', 'd/a'))).toBe(false);
    resolve(true);
    await passSeconds(1);
    bed.clear();
    expect(await trusts(bed, () => bed.tell('create', 'd/b', {}, 0), 'd/b')).toBe(false);
    expect(await trusts(bed, () => bed.tell('create', 'd/c'), 'd/c')).toBe(true);
  });
});

test('a marker has the times of directories sent that could wait', async () => {
  const bed = await Bed.watching();
  for (const { later } of bed.targets) later.defer(['d']);
  await bed.watch.marker();
  expect(bed.waiting).toEqual(['d']);
});
