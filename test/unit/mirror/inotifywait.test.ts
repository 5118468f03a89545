import { afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Doubts } from '../../../src/mirror/doubts.ts';
import type { Event } from '../../../src/mirror/events.ts';
import type { Watcher } from '../../../src/mirror/inotifywait.ts';
import { startInotifywait } from '../../../src/mirror/inotifywait.ts';
import { argumentsFor, Inotifywaits } from '../../../src/mirror/inotifywaits.ts';
import { Markers } from '../../../src/mirror/markers.ts';
import { prepareProbe } from '../../../src/mirror/vigil.ts';
import { children, signalGroup } from '../../../src/service/processes.ts';
import { eventually } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog } from './stand-ins.ts';

setDefaultTimeout(60_000);
beforeAll(prepareProbe);

/** The watchers of a test. */
const started: Watcher[] = [];
afterEach(() => {
  for (const watcher of started.splice(0)) watcher.end();
});

interface Watched {
  watcher: Watcher;
  told: Event[];
  /** Sends a signal to the first of its processes. */
  signalFirst: (signal: NodeJS.Signals) => void;
}

/** Starts what watches trees of a directory, each in a process of its own, and keeps what it tells. */
async function watch(directory: string, trees: string[]): Promise<Watched> {
  const told: Event[] = [];
  const terrain = { plan: async () => undefined, explore: async () => false, calm: () => {}, limitDepth: () => {} };
  const config = { SOURCE_DIR: directory, WATCH_EXCLUDE: [] };
  const commands = () =>
    trees.flatMap((tree) => argumentsFor(config, directory, { exclusions: [], alone: [], trees: [tree] }));
  const watcher = new Inotifywaits(terrain, commands, (words) => startInotifywait(words, (it) => told.push(it)));
  started.push(watcher);
  const others = new Set(children);
  await watcher.established;
  const [first] = [...children].filter((child) => !others.has(child));
  return { watcher, told, signalFirst: (signal) => void (first && signalGroup(first, signal)) };
}

const made = (told: Event[]) => told.filter(({ kind }) => kind === 'create').length;

describe('a mark', () => {
  test('comes back when all has been told that had happened before, each time, from each of several processes', async () => {
    using directory = scratch();
    for (const name of ['a', 'b']) mkdirSync(join(directory.path, name));
    const { watcher, told } = await watch(`${directory.path}/`, ['a', 'b']);
    for (let round = 1; round <= 5; round++) {
      for (let n = 0; n < 40; n++) writeFileSync(join(directory.path, n % 2 ? 'a' : 'b', `${round}-${n}`), '');
      expect(await watcher.mark()).toBe(true);
      expect(made(told)).toBe(40 * round);
    }
    expect(told.map(({ path }) => path).filter((path) => !path.startsWith(directory.path))).toEqual([]);
    expect(await watcher.countWatches()).toBe(2);
  });

  test('that many ask for costs as little as one', async () => {
    using directory = scratch();
    const { watcher, told } = await watch(`${directory.path}/`, ['']);
    const marks = Array.from({ length: 2000 }, () => watcher.mark());
    writeFileSync(join(directory.path, 'a'), '');
    const last = watcher.mark();
    expect(new Set(await Promise.all(marks))).toEqual(new Set([true]));
    expect([await last, made(told)]).toEqual([true, 1]);
  });

  test('does not come back from one that is stopped until it goes on, nor at all where it ends', async () => {
    using directory = scratch();
    using _ = keepLog();
    for (const name of ['a', 'b']) mkdirSync(join(directory.path, name));
    const { watcher, told, signalFirst } = await watch(`${directory.path}/`, ['a', 'b']);
    expect(await watcher.mark()).toBe(true);
    signalFirst('SIGSTOP');
    await eventually(() => watcher.isStopped);
    for (const name of ['a', 'b']) writeFileSync(join(directory.path, name, 'file'), '');
    let mark: boolean | undefined;
    const marking = watcher.mark().then((isTold) => {
      mark = isTold;
    });
    await eventually(() => made(told) === 1);
    await Bun.sleep(700);
    expect(mark).toBeUndefined();
    signalFirst('SIGCONT');
    await marking;
    expect([mark, made(told)]).toEqual([true, 2]);
    signalFirst('SIGKILL');
    expect(await watcher.mark()).toBe(false);
    expect(await watcher.mark()).toBe(false);
  });

  test('that an overflow may have swallowed is lost, and so are all after it', async () => {
    using directory = scratch();
    const { watcher, told, signalFirst } = await watch(`${directory.path}/`, ['']);
    expect(await watcher.mark()).toBe(true);
    signalFirst('SIGSTOP');
    await eventually(() => watcher.isStopped);
    const most = Number(await Bun.file('/proc/sys/fs/inotify/max_queued_events').text());
    for (let n = 0; n < most / 2 + 100; n++) {
      writeFileSync(join(directory.path, 'a'), '');
      rmSync(join(directory.path, 'a'));
    }
    const mark = watcher.mark();
    signalFirst('SIGCONT');
    expect(await mark).toBe(false);
    expect(told.map(({ kind }) => kind)).toContain('q_overflow');
    expect(await watcher.mark()).toBe(false);
  });
});

test('markers come back in the midst of work, with one watcher after the other', async () => {
  using directory = scratch();
  const told = new Set<string>();
  const markers = new Markers(new Doubts(), () => {});
  let old: Watcher | undefined;
  for (let round = 1; round <= 5; round++) {
    const { watcher, told: events } = await watch(`${directory.path}/`, ['']);
    markers.add(watcher, round);
    for (let n = 0; n < 50; n++) writeFileSync(join(directory.path, `${round}-${n}`), '');
    const passed = markers.pass();
    if (old && (await old.waitForSilence(100, 5000))) markers.release(old);
    old?.end();
    old = watcher;
    await passed;
    for (const { path } of events) told.add(path);
    expect(told.size).toBe(readdirSync(directory.path).length);
  }
});
