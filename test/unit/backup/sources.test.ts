import { describe, expect, spyOn, test } from 'bun:test';
import { Sources } from '../../../src/backup/sources.ts';
import { complaints } from '../../../src/service/status.ts';

/** Sources by a clock of their own, which speak where a test has them do so. */
class Bed {
  seconds = 0;
  readonly sources = new Sources('', () => this.seconds * 1000);

  /** Has a source speak at a time, s; returns the names of others that it is told. */
  speak(seconds: number, instance: string, directory = '/backup'): string[] {
    this.seconds = seconds;
    return this.sources.note({ directory, instance, name: `host-${instance}` });
  }
}

describe('two sources of one directory', () => {
  test('are told to both, to the log once, and no more when one has gone', () => {
    const told = () => complaints.filter(({ event }) => event === 'mirror.doubled');
    const before = told().length;
    using output = spyOn(process.stdout, 'write').mockImplementation(() => true);
    const bed = new Bed();
    expect([bed.speak(0, 'a'), bed.speak(20, 'b')]).toEqual([[], []]);
    expect([bed.speak(120, 'a'), bed.speak(140, 'b')]).toEqual([[], ['host-a']]);
    expect([bed.speak(240, 'a'), bed.speak(260, 'b')]).toEqual([['host-b'], ['host-a']]);
    expect(bed.sources.report()).toEqual([{ directory: '/backup', sources: ['host-a', 'host-b'] }]);
    expect(told().slice(0, told().length - before)).toMatchObject([
      { count: 1, message: expect.stringContaining('同时镜像到 /backup：host-a、host-b') },
    ]);
    for (const seconds of [380, 500]) bed.speak(seconds, 'b');
    expect(bed.speak(620, 'b')).toEqual([]);
    expect(bed.sources.report()).toEqual([]);
    expect(String(output.mock.calls.at(-1)?.[0])).toContain('只有一个 rsync-inotify 镜像到 /backup 了 ✓');
  });

  test('are none after a restart, however soon, nor where the last word of the former one comes late', () => {
    const bed = new Bed();
    bed.speak(0, 'a');
    bed.speak(120, 'a');
    expect([bed.speak(121, 'b'), bed.speak(125, 'a'), bed.speak(241, 'b')]).toEqual([[], [], []]);
    expect(bed.sources.report()).toEqual([]);
  });

  test('are none where one connects anew again and again, or each has a directory of its own', () => {
    const bed = new Bed();
    for (let seconds = 0; seconds < 600; seconds += 7) {
      expect(bed.speak(seconds, 'a')).toEqual([]);
      expect(bed.speak(seconds, 'b', '/other')).toEqual([]);
    }
    expect(bed.sources.report()).toEqual([]);
  });

  test('are known again soon after the backup was restarted', () => {
    const bed = new Bed();
    const words = [0, 120, 240].flatMap((seconds) => [bed.speak(seconds, 'a'), bed.speak(seconds + 1, 'b')]);
    expect(words.at(-1)).toEqual(['host-a']);
  });

  test('do not make what is kept grow without end', () => {
    const bed = new Bed();
    for (let n = 0; n < 1000; n++) bed.speak(n / 10, `i${n}`);
    bed.speak(200, 'a');
    expect(JSON.stringify(bed.sources).length).toBeLessThan(20_000);
  });
});
