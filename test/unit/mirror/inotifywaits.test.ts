import { describe, expect, test } from 'bun:test';
import { argumentsFor, Inotifywaits } from '../../../src/mirror/inotifywaits.ts';
import type { WatchPlan } from '../../../src/mirror/terrain.ts';
import { Failure } from '../../../src/service/text.ts';
import { StandInWatcher, settle } from './stand-ins.ts';

const CONFIG = { SOURCE_DIR: '/data/source/', WATCH_EXCLUDE: ['cache'] };
const inOctal = (text: string) =>
  [...Buffer.from(text, 'latin1')].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('');

describe('the commands', () => {
  const commands = (plan?: WatchPlan) => argumentsFor(CONFIG, '/data/source/', plan);

  test('are one that watches all, but for what is excluded', () => {
    const [words = [], ...others] = commands();
    expect(others).toEqual([]);
    expect(words.slice(0, 2)).toEqual(['-m', '-r']);
    expect(words.slice(-3)).toEqual(['@/data/source/cache', '--', '/data/source/']);
  });

  test('are one for trees and one for directories without what is in them, whatever bytes are in their names', () => {
    const [trees = [], alone = [], ...others] = commands({
      exclusions: ['\xff'],
      alone: ['\xff'],
      trees: ['', '\xff/d'],
    });
    expect(others).toEqual([]);
    const exclusions = ['@/data/source/cache', inOctal('@/data/source/\xff')];
    expect(trees.slice(-5)).toEqual([...exclusions, '--', inOctal('/data/source/'), inOctal('/data/source/\xff/d')]);
    expect(alone).not.toContain('-r');
    expect(alone.slice(-2)).toEqual(['--', inOctal('/data/source/\xff')]);
  });

  test('are more where there are more trees than one takes', () => {
    const trees = Array.from({ length: 1001 }, (_, n) => `d${n}`);
    expect(commands({ exclusions: [], alone: [''], trees })).toHaveLength(4);
  });
});

/** A group of watchers, each try of which has the next fate: nothing, or what its watcher gives up with. */
function group(...fates: (string | undefined)[]) {
  const learnt: string[] = [];
  const started: StandInWatcher[] = [];
  const terrain = {
    plan: () => Promise.resolve(undefined),
    explore: () => Promise.resolve(learnt.push('explore') > 0),
    calm: (path: string) => learnt.push(`calm ${path}`),
    limitDepth: () => learnt.push('limit'),
  };
  const watchers = new Inotifywaits(
    terrain,
    () => [['one'], ['two']],
    () => {
      const fate = started.length % 2 === 0 ? fates[started.length / 2] : undefined;
      const watcher = new StandInWatcher(fate ? Promise.reject(new Failure(fate)) : Promise.resolve());
      watcher.established.catch(() => {});
      started.push(watcher);
      return watcher;
    },
  );
  return { watchers, started, learnt };
}

const gaveUp = (reason: string) => `inotifywait 退出 (退出码: 1)：Couldn't watch /data/source/: ${reason}`;

test.each([
  ['File name too long', ['explore']],
  ['Transport endpoint is not connected', ['explore']],
  ['Input/output error', ['explore']],
  ['Too many open files', ['limit', 'explore']],
  ['No such file or directory', []],
])('where one gives up with %s, it is tried in another way', async (reason, expected) => {
  const { watchers, started, learnt } = group(gaveUp(reason));
  await watchers.established;
  expect(learnt).toEqual(expected);
  expect(started.map(({ isEnded }) => isEnded)).toEqual([true, true, false, false]);
});

test('where files go again and again while it looks, it does not look at what is in the source itself', async () => {
  const reason = gaveUp('No such file or directory');
  const { watchers, learnt } = group(reason, reason);
  await watchers.established;
  expect(learnt).toEqual(['calm ']);
});

test.each([
  'inotifywait 退出 (退出码: 1)：Failed to watch /data/source/; upper limit on inotify watches reached!',
  "inotifywait 退出 (退出码: 1)：Couldn't initialize inotify: Too many open files",
])('where there is no other way, its last words are told: %s', async (reason) => {
  const { watchers, started } = group(reason);
  expect(watchers.established).rejects.toThrow(reason);
  await settle();
  expect(started.map(({ isEnded }) => isEnded)).toEqual([true, true]);
});

test('all end where one does, and that is told once', async () => {
  const { watchers, started } = group();
  await watchers.established;
  const ends: unknown[] = [];
  watchers.on('exit', (...how) => ends.push(how));
  started[1]?.emit('exit', 1, null);
  expect(ends).toEqual([[1, null]]);
  expect(started[0]?.isEnded).toBe(true);
  watchers.end();
  expect(ends).toHaveLength(1);
});

test('they are silent where each of them is', async () => {
  const { watchers, started } = group();
  await watchers.established;
  expect(await watchers.waitForSilence(50, 800)).toBe(true);
  if (started[1]) started[1].silence = Promise.resolve(false);
  expect(await watchers.waitForSilence(50, 800)).toBe(false);
});

test('they have told all once each of them has, and not where one has ended meanwhile', async () => {
  const { watchers, started } = group();
  expect(await watchers.mark()).toBe(false); // there is none yet
  await watchers.established;
  expect(await watchers.mark()).toBe(true);
  started[1]?.marks.push(Promise.resolve(false));
  expect(await watchers.mark()).toBe(false);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  started[0]?.marks.push(promise);
  const marked = watchers.mark();
  started[1]?.emit('exit', 1, null);
  resolve(true);
  expect(await marked).toBe(false);
});
