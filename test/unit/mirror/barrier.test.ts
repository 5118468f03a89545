import { beforeEach, describe, expect, test } from 'bun:test';
import { Barrier } from '../../../src/mirror/barrier.ts';
import type { Batch } from '../../../src/mirror/changes.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { change, event, outcome, passSeconds, request, settle, withOwnClock } from './stand-ins.ts';

withOwnClock();
beforeEach(() => passSeconds(1)); // at the very start, times are 0

/** Targets that are well, and a marker that comes back when a test lets it. */
class Bed {
  readonly targets: TargetState[];
  readonly source: { isFound: boolean; refusal: string | undefined } = { isFound: true, refusal: undefined };
  readonly hurried: string[] = [];
  readonly roused: string[] = [];
  readonly gone = new AbortController();
  unseen: string[] = [];
  asked = 0;
  /** Resolves once it is known where the source is, and what is mounted below it. */
  looking: Promise<void> = Promise.resolve();
  private readonly marker = Promise.withResolvers<void>();
  private readonly barrier: Barrier;

  constructor(...names: string[]) {
    this.targets = names.map((name) => Object.assign(new TargetState(name, true), { up: true, mirrored: true }));
    for (const target of this.targets) {
      target.on('hurried', () => this.hurried.push(target.name));
      target.on('roused', () => this.roused.push(target.name));
    }
    const watch = {
      marker: () => {
        this.asked++;
        return this.marker.promise;
      },
      unseen: () => this.unseen,
    };
    this.barrier = new Barrier({ targets: this.targets, watch, source: this.source, look: () => this.looking });
  }

  get one(): TargetState {
    return this.targets[0] as TargetState;
  }

  /** Sends the command; `answer` is what it says, once it does. */
  sync(ms: unknown = 3_600_000): { answer: { isDone: boolean; text: string } | undefined } {
    const sent: ReturnType<Bed['sync']> = { answer: undefined };
    void this.barrier.sync({ command: 'sync', ms }, this.gone.signal).then((reply) => {
      sent.answer = reply;
    });
    return sent;
  }

  async mark(): Promise<void> {
    this.marker.resolve();
    await settle();
  }
}

/** Notes a change of a path. */
const write = (target: TargetState, path: string) => target.note(path, event('close_write'), undefined);

/** Has a target take all that waits on its way. */
function begin(target: TargetState): Batch {
  const batch = target.changes.take(0);
  target.isHurried = false;
  target.begin(batch);
  return batch;
}

test('a sync is done once all that was seen before the marker is there, on every target', async () => {
  const bed = new Bed('one', 'two');
  for (const target of bed.targets) write(target, 'a');
  const sent = bed.sync();
  await passSeconds(1);
  expect([bed.hurried, bed.roused]).toEqual([[], []]);
  write(bed.one, 'b');
  await bed.mark();
  await passSeconds(1);
  expect([bed.hurried, bed.roused]).toEqual([
    ['one', 'two'],
    ['one', 'two'],
  ]);
  for (const target of bed.targets) begin(target);
  write(bed.one, 'a'); // after it
  write(bed.one, 'c');
  await passSeconds(1);
  expect(sent.answer).toBeUndefined();
  bed.one.record(outcome());
  await passSeconds(1);
  expect(sent.answer).toBeUndefined();
  bed.targets[1]?.record(outcome());
  await passSeconds(1);
  expect(sent.answer).toEqual({ isDone: true, text: '此前的变化都已到达每个目标 (耗时: 4秒) ✓' });
  expect([...bed.one.changes.waiting.keys()]).toEqual(['a', 'c']);
});

test('a batch that fails is waited for until another try has sent it', async () => {
  const bed = new Bed('one');
  write(bed.one, 'a');
  const sent = bed.sync();
  await bed.mark();
  const batch = begin(bed.one);
  bed.one.record(outcome({ kind: 'failed', status: 12 }));
  bed.one.changes.add(batch);
  await passSeconds(20);
  expect(sent.answer).toBeUndefined();
  begin(bed.one);
  bed.one.record(outcome());
  await passSeconds(1);
  expect(sent.answer?.isDone).toBe(true);
});

test.each(['beside', 'withheld', 'queued'] as const)('what is %s counts as what waits does', async (kind) => {
  const bed = new Bed('one');
  write(bed.one, 'large');
  const batch = bed.one.changes.take(0);
  if (kind === 'beside') bed.one.beginBeside(batch);
  else if (kind === 'withheld') bed.one.withhold(batch);
  else bed.one.queued.push(batch);
  const sent = bed.sync();
  await bed.mark();
  await passSeconds(1);
  expect(sent.answer).toBeUndefined();
  if (kind === 'queued') bed.one.queued.pop();
  else bed.one.endBeside(new Map());
  begin(bed.one);
  bed.one.record(outcome());
  await passSeconds(1);
  expect(sent.answer?.isDone).toBe(true);
});

test('a target that was not compared as a whole yet has to be', async () => {
  const bed = new Bed('one');
  bed.one.mirrored = false;
  const sent = bed.sync(10_000);
  await bed.mark();
  await passSeconds(11);
  expect(sent.answer).toEqual({ isDone: false, text: '在 10 秒内没有全部到达：\none: 首次全量同步尚未完成' });
  const again = bed.sync();
  bed.one.mirrored = true;
  await passSeconds(1);
  expect(again.answer?.isDone).toBe(true);
});

test('a directory that lacks nothing but its time for what came and went in it before goes at once, and is waited for', async () => {
  const bed = new Bed('one');
  write(bed.one, 'd/gone');
  const sent = bed.sync();
  await bed.mark();
  const [{ since = 0 } = {}] = begin(bed.one).values();
  bed.one.later.defer(['d'], since);
  bed.one.record(outcome());
  await passSeconds(1);
  expect([sent.answer, bed.hurried]).toEqual([undefined, ['one']]);
  expect([...begin(bed.one).keys()]).toEqual(['d']);
  bed.one.later.defer(['e']); // after it
  bed.one.record(outcome());
  await passSeconds(1);
  expect(sent.answer?.isDone).toBe(true);
  expect([...bed.one.later.waiting.keys()]).toEqual(['e']);
});

test('what no event tells of is looked at before the marker is sent: where the source is, and what is mounted', async () => {
  const bed = new Bed('one');
  const looking = Promise.withResolvers<void>();
  bed.looking = looking.promise;
  bed.sync();
  await settle();
  expect(bed.asked).toBe(0);
  looking.resolve();
  await settle();
  expect(bed.asked).toBe(1);
});

test('what is not watched is looked at as well', async () => {
  const bed = new Bed('one', 'two');
  bed.unseen = ['cache', 'secret'];
  bed.sync();
  await bed.mark();
  for (const { changes } of bed.targets)
    expect([...changes.waiting].map(([path, { tree }]) => [path, tree])).toEqual([
      ['cache', true],
      ['secret', true],
    ]);
});

describe('it is said at once', () => {
  test.each([
    ['is down', (target: TargetState) => void Object.assign(target, { up: false }), '无法连接目标'],
    ['has taken over', (target: TargetState) => target.promote(), '备份端已接管，不接收镜像'],
    [
      'is paused',
      (target: TargetState) => void Object.assign(target, { pause: { since: 0, until: Date.now() + 60_000 } }),
      expect.stringMatching(/^two: 已按要求暂停同步，到 \S+ \S+ 为止；请先执行 rsync-inotify --resume$/),
    ],
    [
      'waits for a restore',
      (target: TargetState) => void Object.assign(target, { isRestoring: true }),
      '正在恢复源目录，暂停同步',
    ],
  ])('that one of the targets %s', async (_, bar, reason) => {
    const bed = new Bed('one', 'two');
    const [, two] = bed.targets as [TargetState, TargetState];
    write(bed.one, 'a');
    bar(two);
    const sent = bed.sync();
    await settle();
    expect(sent.answer).toEqual({ isDone: false, text: typeof reason === 'string' ? `two: ${reason}` : reason });
    expect(bed.asked).toBe(0);
  });

  test('also while it waits', async () => {
    const bed = new Bed('one', 'two');
    write(bed.one, 'a');
    const sent = bed.sync();
    await bed.mark();
    await passSeconds(5);
    bed.one.up = false;
    await passSeconds(1);
    expect(sent.answer).toEqual({ isDone: false, text: 'one: 无法连接目标' });
  });

  test('that the source is not what was mirrored', async () => {
    for (const source of [{ isFound: false }, { refusal: '源目录位于另一个文件系统上' }]) {
      const bed = new Bed('one');
      Object.assign(bed.source, source);
      const sent = bed.sync();
      await settle();
      expect(sent.answer).toEqual({ isDone: false, text: 'one: 源目录不见了或被替换，没有在镜像' });
    }
  });

  test('that a duration is none, and that too many wait', async () => {
    const bed = new Bed('one');
    for (const ms of [0, -1, '1', undefined, Number.NaN, 8 * 86_400_000]) {
      const sent = bed.sync(ms === undefined ? null : ms);
      await settle();
      expect(sent.answer).toEqual({ isDone: false, text: '时长无效' });
    }
    const all = Array.from({ length: 49 }, () => bed.sync());
    await settle();
    expect(all.map(({ answer }) => answer?.text).filter(Boolean)).toEqual(['已有 48 个 --sync 在等待，请稍后再试']);
    await bed.mark();
    await passSeconds(1);
    expect(all.filter(({ answer }) => answer?.isDone)).toHaveLength(48);
    expect(bed.sync()).toEqual({ answer: undefined });
  });
});

describe('what fails', () => {
  const fault = { path: 'bad', kind: 'content' as const, text: 'No space left on device', code: 28 };

  test('by itself is named once it was tried again and all else is there', async () => {
    const bed = new Bed('one', 'two');
    bed.one.unmirrored.note(fault, false);
    bed.one.failed.add(new Map([['bad', change()]]));
    write(bed.targets[1] as TargetState, 'a');
    const sent = bed.sync();
    await bed.mark();
    await passSeconds(2);
    bed.one.tries++;
    await passSeconds(5);
    expect(sent.answer).toBeUndefined(); // the other one lacks something
    begin(bed.targets[1] as TargetState);
    bed.targets[1]?.record(outcome());
    await passSeconds(1);
    const text = 'one: 其余变化已到达，有 1 个路径无法同步：bad (No space left on device)';
    expect(sent.answer).toEqual({ isDone: false, text });
  });

  test('by itself only since then is tried once more before it is named', async () => {
    const bed = new Bed('one');
    write(bed.one, 'bad');
    const sent = bed.sync();
    await bed.mark();
    await passSeconds(1);
    begin(bed.one);
    bed.one.tries++; // something else, meanwhile
    bed.one.record(outcome({ kind: 'partial', status: 23 }));
    bed.one.unmirrored.note(fault, false);
    bed.one.failed.add(new Map([['bad', change()]]));
    await passSeconds(5);
    expect(sent.answer).toBeUndefined();
    expect(bed.roused).toEqual(['one', 'one']);
    bed.one.failed.take(0);
    bed.one.unmirrored.settle('bad');
    bed.one.tries++;
    await passSeconds(1);
    expect(sent.answer?.isDone).toBe(true);
  });

  test('by itself and is never tried is not waited for for ever', async () => {
    const bed = new Bed('one');
    bed.one.unmirrored.note(fault, false);
    const sent = bed.sync();
    await bed.mark();
    await passSeconds(29);
    expect(sent.answer).toBeUndefined();
    await passSeconds(3);
    expect(sent.answer?.text).toContain('有 1 个路径无法同步：bad');
  });

  test('again and again as a whole is not waited for for ever', async () => {
    const bed = new Bed('one');
    write(bed.one, 'a');
    const sent = bed.sync();
    await bed.mark();
    bed.one.failingSince = Date.now();
    await passSeconds(29);
    expect(sent.answer).toBeUndefined();
    await passSeconds(3);
    expect(sent.answer).toEqual({ isDone: false, text: 'one: 缺少 1 处变化，同步反复失败，请查看 --status 和日志' });
  });

  test('because deletions are held is said', async () => {
    const bed = new Bed('one');
    bed.one.held = { count: 7, directories: [], since: 1 };
    const sent = bed.sync();
    await bed.mark();
    await passSeconds(1);
    expect(sent.answer?.isDone).toBe(false);
    expect(sent.answer?.text).toContain('暂缓删除 7 个文件；确认后请执行 rsync-inotify --accept-deletions');
  });
});

test('nothing is waited for where nobody waits for it, or the service stops', async () => {
  const bed = new Bed('one');
  write(bed.one, 'a');
  const left = bed.sync();
  await passSeconds(1);
  bed.gone.abort();
  await passSeconds(1);
  expect(left.answer).toEqual({ isDone: false, text: 'one: 尚未得知此前的全部变化' });
  const other = new Bed('one');
  const stopped = other.sync();
  await settle();
  request.stop();
  await settle();
  expect(stopped.answer).toEqual({ isDone: false, text: '服务正在停止，此前的变化尚未全部到达' });
});
