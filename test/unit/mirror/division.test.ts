import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { type Batch, TREE, UNKNOWN } from '../../../src/mirror/changes.ts';
import { divide } from '../../../src/mirror/division.ts';
import { change } from './stand-ins.ts';

const file = (name: string) => ({ name, isDirectory: () => false });
const directory = (name: string) => ({ name, isDirectory: () => true });
const nothing = () => [];

describe('a batch that fails is divided', () => {
  test('into halves, with what is known of each change', () => {
    const changes: [string, ReturnType<typeof change>][] = [
      ['a', change({ kind: 'delete' })],
      ['b', change({ tree: true })],
      ['c', change({ shared: true })],
    ];
    const parts = divide(new Map(changes), nothing);
    expect(parts).toEqual([new Map(changes.slice(0, 2)), new Map(changes.slice(2))]);
  });

  test('where it is all of the source, into that and what is known of changes besides', () => {
    const rest: Batch = new Map(['a', 'b'].map((path) => [path, change({ dated: 7 })]));
    expect(divide(new Map([...rest, ['', TREE]]), nothing)).toEqual([new Map([['', TREE]]), rest]);
  });

  test('where it is a directory, into that and the halves of what is in it', () => {
    const list = (path: string) => (path === 'd' ? [file('a'), directory('b'), file('c')] : []);
    expect(divide(new Map([['d', TREE]]), list)).toEqual([
      new Map([['d', { ...UNKNOWN, isDirectory: true }]]),
      new Map([
        ['d/a', UNKNOWN],
        ['d/b', TREE],
      ]),
      new Map([['d/c', UNKNOWN]]),
    ]);
  });

  test('where it is the source, into the halves of what is in that', () => {
    expect(divide(new Map([['', TREE]]), () => [directory('a'), file('b')])).toEqual([
      new Map([['a', TREE]]),
      new Map([['b', UNKNOWN]]),
    ]);
  });

  test('not at all where it is one thing', () => {
    expect(divide(new Map([['a', UNKNOWN]]), () => [file('x')])).toBeUndefined();
    expect(divide(new Map([['d', TREE]]), nothing)).toBeUndefined();
    expect(divide(new Map(), nothing)).toBeUndefined();
  });

  test('into parts that are smaller and together are all of it', () => {
    const paths = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 2, maxLength: 50 });
    fc.assert(
      fc.property(paths, (names) => {
        const batch: Batch = new Map(names.map((name) => [name, UNKNOWN]));
        const parts = divide(batch, nothing) ?? [];
        expect(new Map(parts.flatMap((part) => [...part]))).toEqual(batch);
        for (const { size } of parts) expect(size).toBeLessThan(batch.size);
        for (const { size } of parts) expect(size).toBeGreaterThan(0);
      }),
    );
  });
});
