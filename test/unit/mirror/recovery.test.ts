import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { type Batch, TREE, UNKNOWN } from '../../../src/mirror/changes.ts';
import { withParents } from '../../../src/service/files.ts';
import { FailingTarget, type Poison } from './failing-target.ts';
import { outcome, pass, passSeconds, request, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** A target that has all of a source with these files. */
async function mirrored(
  files: string[],
  ...given: ConstructorParameters<typeof FailingTarget>
): Promise<FailingTarget> {
  const bed = new FailingTarget(...given);
  for (const path of files) bed.write(path, path);
  bed.run();
  await passSeconds(5);
  expect(bed.differences()).toEqual([]);
  expect(bed.isIdle).toBe(true);
  return bed;
}

const numbered = (count: number, start = 'f') => Array.from({ length: count }, (_, n) => `${start}${n}`);
const POISONS: Poison[] = ['unnamed', 'reading', 'content', 'room'];

describe('what fails costs itself only', () => {
  test.each(POISONS)('at the start, and is mirrored once it can be: %s', async (kind) => {
    const bed = new FailingTarget();
    for (const path of ['a', 'd/one', 'd/bad', 'd/deep/two', 'z']) bed.write(path, path);
    for (const path of ['gone', 'd/gone', 'd/deep/gone']) bed.backup.set(path, { content: path });
    for (const path of ['d', 'd/deep']) bed.backup.set(path, {});
    bed.poison.set('d/bad', kind);
    bed.run();
    await passSeconds(20);
    expect(bed.differences(['d/bad'])).toEqual([]);
    expect(log.text).toContain('无法同步 d/bad');
    expect(bed.state.pending).toBeGreaterThan(0);
    bed.poison.clear();
    await passSeconds(90);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
    expect(log.text).toContain('d/bad 已同步 ✓');
  });

  test.each(POISONS)('later, as does one that comes soon after another: %s', async (kind) => {
    const bed = await mirrored(numbered(20));
    for (const name of ['first', 'second', 'third']) {
      bed.poison.set(name, kind);
      for (const path of [...numbered(5, `${name}-`), name]) bed.write(path, path);
      await passSeconds(10);
      expect(bed.differences(bed.poison.keys())).toEqual([]);
      expect(log.text).toContain(`无法同步 ${name}`);
    }
    bed.poison.clear();
    await passSeconds(150);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('although there is more of it than parts are sent at a time', async () => {
    const bed = await mirrored(['a']);
    for (const path of numbered(200)) bed.write(path, path);
    for (let n = 0; n < 200; n += 5) bed.poison.set(`f${n}`, 'unnamed');
    await passSeconds(600);
    expect(bed.differences(bed.poison.keys())).toEqual([]);
    bed.poison.clear();
    await passSeconds(120);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('although rsync does not name all of it', async () => {
    const bed = new FailingTarget();
    for (const path of numbered(50)) bed.write(path, path);
    for (const path of numbered(40)) bed.poison.set(path, 'reading');
    bed.backup.set('gone', { content: '' });
    bed.named = 10;
    bed.run();
    await passSeconds(60);
    expect(bed.differences(bed.poison.keys())).toEqual([]);
    bed.poison.clear();
    await passSeconds(600);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('although something else cannot be read, and is tried at the same pace', async () => {
    const bed = await mirrored(['a', 'closed/x']);
    bed.poison.set('closed', 'reading');
    bed.write('closed/y', 'y');
    await passSeconds(100);
    bed.poison.set('bad', 'unnamed');
    for (const path of ['b', 'bad', 'c']) bed.write(path, path);
    await passSeconds(30);
    expect(bed.differences(['closed', 'bad'])).toEqual([]);
  });
});

describe('nothing is lost', () => {
  test('of what rsync did not see: a file that has become a directory, by the time that it is tried again', async () => {
    for (const kind of POISONS) {
      const bed = await mirrored(['a', 'p']);
      bed.poison.set('p', kind);
      bed.write('p', 'other');
      await passSeconds(20);
      bed.remove('p');
      bed.poison.clear();
      for (const path of ['p/one', 'p/deep/two']) bed.write(path, path);
      await passSeconds(90);
      expect(bed.differences()).toEqual([]);
      expect(bed.isIdle).toBe(true);
    }
  });

  test('of a directory that is tried again: what was deleted in it meanwhile is deleted there, although something in it fails', async () => {
    const bed = await mirrored(['d/one', 'd/two', 'd/bad', 'd/e/three']);
    bed.poison.set('d', 'unnamed');
    bed.state.changes.add(new Map([['d', TREE]]));
    await passSeconds(20);
    expect(bed.state.unmirrored.isAside('d')).toBe(true);
    for (const path of ['d/two', 'd/e']) bed.remove(path);
    await passSeconds(1);
    bed.poison.clear();
    bed.poison.set('d/bad', 'unnamed');
    bed.write('d/bad', 'new');
    await passSeconds(120);
    expect(bed.differences(['d/bad'])).toEqual([]);
    expect(bed.state.unmirrored.isAside('d')).toBe(false);
  });

  test.each(POISONS)('of a deletion: neither of what fails nor of what it lies in: %s', async (kind) => {
    const bed = await mirrored(['a', 'd/bad', 'd/one', 'bad']);
    for (const path of ['d/bad', 'bad']) {
      bed.poison.set(path, kind);
      bed.write(path, 'new');
    }
    await passSeconds(20);
    bed.remove('d');
    bed.remove('bad');
    await passSeconds(90);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('where the connection is lost while it is tried again', async () => {
    const bed = await mirrored(['a', 'bad']);
    bed.poison.set('bad', 'unnamed');
    bed.write('bad', 'new');
    await passSeconds(5);
    bed.isReachable = false;
    await passSeconds(60);
    bed.write('b', 'b');
    await passSeconds(60);
    bed.isReachable = true;
    await passSeconds(61);
    expect(bed.differences(['bad'])).toEqual([]);
    expect(bed.state.unmirrored.isAside('bad')).toBe(true);
    bed.poison.clear();
    await passSeconds(90);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('where all of the source is tried again besides', async () => {
    const bed = await mirrored(['a', 'bad']);
    bed.poison.set('bad', 'unnamed');
    bed.write('bad', 'new');
    await passSeconds(5);
    bed.state.failed.add(new Map([['', TREE]])); // as where rsync has named too many
    bed.state.failed.add(new Map([['b', UNKNOWN]]));
    expect([...bed.state.failed.waiting.keys()]).toEqual(['bad', '', 'b']);
    await passSeconds(90);
    bed.poison.clear();
    await passSeconds(90);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('of what lies in something else that fails', async () => {
    const bed = await mirrored(['d/x', 'd/y']);
    bed.poison.set('d/x', 'content');
    bed.write('d/x', 'new');
    await passSeconds(2);
    bed.poison.set('d', 'unnamed');
    bed.write('d/y', 'new');
    await passSeconds(90);
    expect(log.text).not.toContain('已同步');
    bed.poison.clear();
    await passSeconds(90);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('where more cannot be read than can be set aside', async () => {
    const bed = await mirrored(['a', 'gone', ...numbered(1200)]);
    for (const path of numbered(1200)) {
      bed.poison.set(path, 'reading');
      bed.write(path, 'new');
    }
    bed.remove('gone');
    bed.write('b', 'b');
    await passSeconds(60);
    expect(bed.differences([...bed.poison.keys(), 'gone'])).toEqual([]);
    expect(bed.state.pending).toBeGreaterThan(0);
    bed.poison.clear();
    await passSeconds(300);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  }, 60_000);

  test('by a request to stop, which is obeyed while parts wait, and names what is left', async () => {
    const bed = await mirrored(['a']);
    bed.poison.set('bad', 'unnamed');
    for (const path of ['bad', ...numbered(30)]) bed.write(path, path);
    let isDivided = false;
    bed.onSync = () => {
      isDivided ||= bed.state.queued.length > 0;
      if (isDivided) request.stop();
    };
    await passSeconds(5);
    expect(isDivided).toBe(true);
    expect(bed.isOver).toBe(true);
    expect(log.text).toContain('下次启动时的全量同步会包含它们');
  });

  test('while a batch is divided: the target counts as lacking it', async () => {
    const bed = await mirrored(['a']);
    bed.poison.set('bad', 'unnamed');
    for (const path of ['bad', ...numbered(8)]) bed.write(path, path);
    const lacking = () => bed.state.lacking.some((batch) => batch.has('bad') || batch.get('')?.tree);
    for (let n = 0; n < 4000; n++) {
      await pass(1);
      if (!lacking()) throw new Error(`at ${n}`);
    }
  });
});

describe('the only copy of something', () => {
  const KEEPING = POISONS.filter((kind) => kind !== 'content'); // where rsync goes on, it deletes
  test.each(KEEPING)(
    'that was moved and cannot be mirrored at its new place stays at the old one: %s',
    async (kind) => {
      const bed = await mirrored(['a', 'x/closed/one', 'file']);
      for (const path of ['x/closed', 'file']) bed.poison.set(path, kind);
      bed.write('x/closed/one', 'new');
      bed.write('file', 'new');
      await passSeconds(20);
      bed.move('x', 'y');
      bed.move('file', 'other');
      await passSeconds(200);
      expect(bed.backup.get('x/closed/one')?.content).toBe('x/closed/one');
      expect(bed.backup.get('file')?.content).toBe('file');
      bed.poison.clear();
      await passSeconds(200);
      expect(bed.differences()).toEqual([]);
      expect(bed.isIdle).toBe(true);
    },
  );

  test('goes with what was moved once that is gone', async () => {
    const bed = await mirrored(['a', 'closed/one']);
    bed.poison.set('closed', 'reading');
    bed.write('closed/one', 'new');
    await passSeconds(20);
    bed.move('closed', 'other');
    await passSeconds(20);
    bed.remove('other');
    await passSeconds(120);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });
});

describe('no quick loops', () => {
  const syncsIn10Minutes = async (bed: FailingTarget) => {
    const before = bed.syncs;
    await passSeconds(600);
    return bed.syncs - before;
  };

  test.each(POISONS)('where something fails on and on: %s', async (kind) => {
    const bed = await mirrored(['a', 'd/one']);
    for (const path of ['bad', 'd/bad', 'd/worse']) {
      bed.poison.set(path, kind);
      bed.write(path, path);
    }
    await passSeconds(60);
    const told = log.text.match(/无法同步/g)?.length;
    expect(told).toBe(3);
    expect(await syncsIn10Minutes(bed)).toBeLessThan(60);
    expect(log.text.match(/无法同步/g)).toHaveLength(3);
  });

  test('where there is no room for many files', async () => {
    const bed = await mirrored(['a']);
    bed.room = 100;
    bed.seconds = 0.1;
    for (const path of numbered(30)) bed.write(path, path, 1000 + path.length);
    for (const path of numbered(30, 'small')) bed.write(path, path, 10);
    await passSeconds(5);
    expect(bed.differences(numbered(30))).toEqual([]);
    await passSeconds(55);
    expect(await syncsIn10Minutes(bed)).toBeLessThan(100);
    bed.room = 2000;
    await passSeconds(120);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('where there is no room for files whose size may not be limited, nor for empty ones', async () => {
    for (const mayLimitSize of [false, true]) {
      const bed = await mirrored(['a'], { mayLimitSize });
      bed.room = -1;
      for (const path of numbered(300)) bed.write(path, path, 0);
      await passSeconds(60);
      expect(await syncsIn10Minutes(bed)).toBeLessThan(mayLimitSize ? 100 : 1000);
      bed.room = 1;
      await passSeconds(300);
      expect(bed.differences()).toEqual([]);
      expect(bed.isIdle).toBe(true);
    }
  });

  test('where every sync fails although the target answers: little is taken for what fails, and all goes once it works', async () => {
    const bed = await mirrored(numbered(200));
    bed.isBroken = true;
    for (const path of numbered(200)) bed.write(path, 'new');
    expect(await syncsIn10Minutes(bed)).toBeLessThan(150);
    expect(bed.state.unmirrored.size).toBeLessThan(20);
    bed.isBroken = false;
    await passSeconds(120);
    expect(bed.differences()).toEqual([]);
    expect(bed.isIdle).toBe(true);
  });

  test('where only the whole fails: it is tried apart, and all else goes', async () => {
    const bed = await mirrored(numbered(8));
    bed.poison.set('', 'unnamed');
    bed.state.changes.add(new Map([['', TREE]]));
    await passSeconds(20);
    expect(await syncsIn10Minutes(bed)).toBeLessThan(40);
    bed.poison.clear();
    await passSeconds(120);
    expect(bed.isIdle).toBe(true);
  });

  test('a target that takes long rests for long', async () => {
    const bed = await mirrored(['a']);
    bed.poison.set('bad', 'content');
    bed.seconds = 30;
    bed.write('bad', 'bad');
    await passSeconds(10);
    expect(await syncsIn10Minutes(bed)).toBeLessThanOrEqual(3);
  });

  test('where a part cannot be sent by itself, nothing is taken for what fails', async () => {
    const bed = await mirrored(['a'], { mayDivide: false });
    bed.poison.set('bad', 'unnamed');
    for (const path of ['bad', 'b']) bed.write(path, path);
    expect(await syncsIn10Minutes(bed)).toBeLessThan(30);
    expect(log.text).not.toContain('无法同步');
    bed.poison.clear();
    await passSeconds(61);
    expect(bed.isIdle).toBe(true);
  });
});

describe('a batch for which all was compared', () => {
  test('has the whole searched, and a part of that is not blamed', async () => {
    const bed = await mirrored(['a', 'b', 'c']);
    const failed = outcome({ kind: 'failed', status: 13, mode: 'full' });
    const batch: Batch = new Map([['a', UNKNOWN]]);
    expect(await bed.recovery.settle(batch, failed)).toBe(false);
    expect(await bed.recovery.settle(batch, failed)).toBe(true);
    const parts = bed.state.queued.map((it) => [...it.keys()]);
    expect(parts).toEqual([['a', 'b'], ['c'], ['']]);
    const part = bed.recovery.next() as Batch;
    expect(await bed.recovery.settle(part, failed)).toBe(true);
    expect(bed.state.unmirrored.size).toBe(0);
    expect([...bed.state.failed.waiting.keys()]).toEqual(['a', 'b']);
  });
});

/** What may be in a source: paths with two levels. */
const PATHS = ['a', 'b', 'c', 'd/1', 'd/2', 'd/e/3', 'd/e/4', 'f/5', 'f/6', 'g'];
const POISONABLE = [...PATHS, 'd', 'd/e', 'f'];
const path = fc.constantFrom(...PATHS);
const steps = fc.oneof(
  fc.record({ act: fc.constant('write' as const), path, to: path }),
  fc.record({ act: fc.constant('remove' as const), path: fc.constantFrom(...POISONABLE), to: path }),
  fc.record({ act: fc.constant('wait' as const), path, to: path }),
  fc.record({ act: fc.constant('heal' as const), path: fc.constantFrom(...POISONABLE), to: path }),
  fc.record({ act: fc.constant('cut' as const), path, to: path }),
  fc.record({
    act: fc.constant('move' as const),
    path: fc.constantFrom(...POISONABLE),
    to: fc.constantFrom('h', 'f/i', 'd/e/k'),
  }),
  fc.record({
    act: fc.constant('poison' as const),
    path: fc.constantFrom(...POISONABLE),
    to: path,
    kind: fc.constantFrom(...POISONS),
  }),
);

test('whatever fails in whatever way while the source changes, all else is mirrored, and all at last', async () => {
  const poisons = fc.dictionary(fc.constantFrom(...POISONABLE), fc.constantFrom(...POISONS), { maxKeys: 4 });
  const property = fc.asyncProperty(
    fc.subarray(PATHS, { minLength: 2 }),
    fc.subarray(PATHS),
    poisons,
    fc.array(steps, { maxLength: 12 }),
    fc.boolean(),
    fc.constantFrom(1, 2, 1000),
    async (files, stale, poison, work, mayLimitSize, named) => {
      request.begin();
      const bed = new FailingTarget({ mayLimitSize });
      bed.named = named;
      for (const it of files) bed.write(it, it);
      for (const it of stale)
        for (const parent of withParents(it).slice(0, -1))
          bed.backup.set(parent, parent === it ? { content: 'old' } : {});
      for (const [it, kind] of Object.entries(poison)) bed.poison.set(it, kind);
      bed.run();
      let count = 0;
      for (const step of work) {
        const { act, path: it, to } = step;
        const isFree =
          withParents(to)
            .slice(1)
            .every((above) => bed.source.get(above)?.content === undefined) && !bed.source.has(to);
        const mayMove =
          isFree && bed.source.has(it) && !withParents(to).includes(it) && bed.source.has(withParents(to)[1] ?? '');
        if (act === 'write' && bed.source.get(it)?.content === undefined && bed.source.has(it)) continue;
        if (
          act === 'write' &&
          withParents(it)
            .slice(1)
            .every((above) => bed.source.get(above)?.content === undefined)
        )
          bed.write(it, `${count++}`);
        if (act === 'move' && mayMove) bed.move(it, to);
        if (act === 'poison') bed.poison.set(it, step.kind);
        if (act === 'remove') bed.remove(it);
        if (act === 'wait') await passSeconds(3);
        if (act === 'heal') bed.poison.delete(it);
        if (act === 'cut') {
          bed.isReachable = false;
          await passSeconds(2);
          bed.isReachable = true;
          bed.connection.emit('connected');
        }
      }
      await passSeconds(150);
      // What the only copy of something lies in stays with it.
      const holdsPoison = (it: string) =>
        [...bed.poison.keys()].some((other) => other.startsWith(it.replace('=/', '/')));
      expect(bed.differences(bed.poison.keys()).filter((it) => !holdsPoison(it))).toEqual([]);
      const isTold = (it: string) =>
        withParents(it).some((above) => bed.state.unmirrored.has(above) || (above !== it && bed.poison.has(above)));
      const isLacking = (it: string) =>
        bed.source.has(it) && bed.source.get(it)?.content !== bed.backup.get(it)?.content;
      if (named === 1000) expect([...bed.poison.keys()].filter((it) => isLacking(it) && !isTold(it))).toEqual([]);
      bed.poison.clear();
      await passSeconds(200);
      expect(bed.differences()).toEqual([]);
      expect(bed.isIdle).toBe(true);
      expect(bed.syncs).toBeLessThan(400);
      request.stop();
      await settle();
      request.end();
      await settle();
    },
  );
  await fc.assert(property, { numRuns: Number(process.env.RUNS ?? 30) });
}, 120_000);
