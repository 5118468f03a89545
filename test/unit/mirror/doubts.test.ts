import { describe, expect, test } from 'bun:test';
import { Doubts } from '../../../src/mirror/doubts.ts';

/** How many directories are in doubt at most. */
const MOST = 10_000;
const NOW = new Date('2026-11-22T20:00:00Z');

describe('doubts', () => {
  test('cover a directory and all below it, and nothing beside it', () => {
    const doubts = new Doubts();
    expect(doubts.covers('a/new/b')).toBe(false);
    doubts.add('a/new', 1);
    expect(['a/new', 'a/new/b', 'a/new/b/c'].map((path) => doubts.covers(path))).toEqual([true, true, true]);
    expect(['', 'a', 'a/newer', 'new', 'b/a/new'].map((path) => doubts.covers(path))).toEqual(Array(5).fill(false));
    doubts.add('', 1);
    expect(doubts.covers('anything')).toBe(true);
  });

  test('are told, each time, and since when there are some', () => {
    const doubts = new Doubts();
    let added = 0;
    doubts.on('added', () => added++);
    expect(doubts.since).toBeUndefined();
    doubts.add('a', 1);
    const { since } = doubts;
    expect(since).toBeInstanceOf(Date);
    doubts.add('b', 1);
    doubts.add('a', 1);
    expect(added).toBe(3);
    expect(doubts.since).toBe(since);
    expect([doubts.size, doubts.paths]).toEqual([2, ['a', 'b']]);
  });

  test('end where a later watcher has its watches, but not those that it or a later one has seen itself', () => {
    const doubts = new Doubts();
    doubts.add('first', 1);
    doubts.add('second', 2);
    doubts.add('third', 3);
    expect(doubts.settle(1, NOW)).toEqual([]);
    expect(doubts.paths).toEqual(['first', 'second', 'third']);
    expect(doubts.settle(2, NOW)).toEqual(['first']);
    expect(doubts.paths).toEqual(['second', 'third']);
    expect(doubts.since).toBe(NOW); // what is left has come since that watcher was started
    expect(doubts.settle(4, NOW)).toEqual(['second', 'third']);
    expect([doubts.size, doubts.since]).toEqual([0, undefined]);
  });

  test('stay where a later watcher has seen the same again', () => {
    const doubts = new Doubts();
    doubts.add('a', 1);
    doubts.add('a', 2);
    expect(doubts.settle(2, NOW)).toEqual([]);
    expect(doubts.settle(3, NOW)).toEqual(['a']);
  });

  test('say which watcher has seen that all is in doubt', () => {
    const doubts = new Doubts();
    expect(doubts.isAllSeenBy(1)).toBe(false);
    doubts.add('a', 1);
    expect(doubts.isAllSeenBy(1)).toBe(false);
    doubts.add('', 1);
    expect([1, 2].map((watcher) => doubts.isAllSeenBy(watcher))).toEqual([true, false]);
  });

  test('are one, about all of the source, where there are too many', () => {
    const doubts = new Doubts();
    for (let n = 0; n < MOST; n++) doubts.add(`${n}`, 1);
    expect(doubts.size).toBe(MOST);
    doubts.add('one more', 2);
    expect(doubts.paths).toEqual(['']);
    expect(doubts.isAllSeenBy(2)).toBe(true);
    expect(doubts.covers('0')).toBe(true);
    expect(doubts.settle(3, NOW)).toEqual(['']);
  });
});
