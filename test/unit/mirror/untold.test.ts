import { describe, expect, test } from 'bun:test';
import type { Batch, Change } from '../../../src/mirror/changes.ts';
import type { Scope } from '../../../src/mirror/scopes.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { Untold } from '../../../src/mirror/untold.ts';
import { change, event, outcome, pass, request, settle, withOwnClock } from './stand-ins.ts';

withOwnClock();

type Told = [path: string, kind: 'delete' | 'moved_from' | 'modify', isDirectory?: boolean];

/** A target that can be reached, and a watcher that tells something when it is asked for a marker. */
class Bed {
  readonly state = new TargetState('one', false);
  readonly untold = new Untold(this.state);
  markers = 0;
  /** What is still to be told; nothing where no marker comes back. */
  late: Told[] | undefined = [];

  constructor() {
    this.state.up = true;
    this.state.unsent.marker = async () => {
      this.markers++;
      if (!this.late) return Promise.withResolvers<void>().promise;
      this.tell(...this.late.splice(0));
    };
  }

  tell(...events: Told[]): void {
    for (const [path, kind, isDirectory = false] of events)
      this.state.note(path, event(kind, { isDirectory }), undefined);
  }

  get waiting(): string[] {
    return [...this.state.changes.waiting.keys()].sort();
  }
}

const WRITTEN = () => change({ kind: 'close_write', since: 5, dated: 7 });
const batchOf = (...paths: string[]): Batch => new Map<string, Change>(paths.map((path) => [path, WRITTEN()]));
const FAULT = { path: 'b', kind: 'content', text: 'Input/output error', code: 5 } as const;
const gone = (...paths: string[]) => new Map<string, Scope>(paths.map((path) => [path, 'gone']));

describe('what is gone before an event has told that', () => {
  test.each<[string, Told]>([
    ['a temporary file that is renamed', ['d/tmp', 'moved_from']],
    ['a file that is deleted', ['d/tmp', 'delete']],
  ])('goes with the next batch: %s', async (_, told) => {
    const bed = new Bed();
    bed.late = [told];
    await pass(10);
    const batch = batchOf('d/tmp', 'd/b');
    expect(await bed.untold.putBack(batch, new Map([...gone('d/tmp'), ['d/b', 'entry']]))).toBe(true);
    expect([...batch.keys()]).toEqual(['d/b']);
    expect(bed.waiting).toEqual(['d/tmp']);
    expect(bed.state.changes.waiting.get('d/tmp')).toMatchObject({ kind: told[1], since: 5, dated: 7 });
  });

  test('goes with all below it, and with nothing beside it', async () => {
    const bed = new Bed();
    bed.late = [
      ['e/f', 'delete', true],
      ['e', 'delete', true],
    ];
    const batch = batchOf('e/f/g', 'e/x', 'ee', 'a');
    expect(await bed.untold.putBack(batch, gone('e', 'a'))).toBe(true);
    expect([...batch.keys()]).toEqual(['ee', 'a']);
    expect(bed.waiting).toEqual(['e', 'e/f', 'e/f/g', 'e/x']);
  });

  test('need not be waited for where it has been told meanwhile', async () => {
    const bed = new Bed();
    bed.tell(['a', 'delete']);
    expect(await bed.untold.putBack(batchOf('a'), gone('a'))).toBe(true);
    expect(bed.markers).toBe(0);
  });

  test('is waited for no longer than a moment', async () => {
    const bed = new Bed();
    bed.late = undefined;
    const batch = batchOf('a');
    const waiting = bed.untold.putBack(batch, gone('a'));
    await pass(99);
    expect(await Promise.race([waiting, settle().then(() => 'waits')])).toBe('waits');
    await pass(1);
    expect(await waiting).toBe(false);
    expect(batch.size).toBe(1);
  });

  test('is not waited for at a stop', async () => {
    const bed = new Bed();
    bed.state.unsent.marker = () => Promise.reject(new Error('the service stops'));
    request.stop();
    expect(await bed.untold.putBack(batchOf('a'), gone('a'))).toBe(false);
  });

  test('is put off once, not for ever where something comes and goes', async () => {
    const bed = new Bed();
    for (const isPutOff of [true, false, true]) {
      bed.late = [['a', 'delete']];
      bed.state.changes.take(0);
      expect(await bed.untold.putBack(batchOf('a'), gone('a'))).toBe(isPutOff);
    }
  });
});

describe('goes on as before', () => {
  test.each<[string, (bed: Bed) => unknown]>([
    [
      'what no event tells',
      (bed) => {
        bed.late = [];
      },
    ],
    [
      'what something else was told of',
      (bed) => {
        bed.late = [['a', 'modify']];
      },
    ],
    [
      'all, where the target cannot be reached',
      ({ state }) => {
        state.up = false;
      },
    ],
    ['all, where the last sync has failed', ({ state }) => state.record(outcome({ kind: 'failed', status: 11 }))],
    ['all, while something is tried again by itself', ({ state }) => state.unmirrored.note(FAULT, false)],
  ])('%s', async (_, arrange) => {
    const bed = new Bed();
    bed.late = [['a', 'delete']];
    arrange(bed);
    const batch = batchOf('a');
    expect(await bed.untold.putBack(batch, gone('a'))).toBe(false);
    expect(batch.size).toBe(1);
  });

  test('what has been told to be gone, or is there', async () => {
    const bed = new Bed();
    const batch: Batch = new Map([
      ['a', change({ kind: 'delete' })],
      ['b', change({ kind: 'moved_from' })],
      ['c', WRITTEN()],
    ]);
    const scopes = new Map<string, Scope>([...gone('a', 'b'), ['c', 'entry'], ['', 'directory']]);
    expect(await bed.untold.putBack(batch, scopes)).toBe(false);
    expect([batch.size, bed.markers]).toEqual([3, 0]);
  });
});
