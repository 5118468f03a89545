import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { parseProgress, progressFilter } from '../../../src/mirror/progress.ts';
import { transfer } from './transfer.ts';

describe('the progress that rsync tells', () => {
  test.each(['-av', '-a', '-avh'])('%s: is taken out of the output without a trace', (option) => {
    // How much goes over the wire depends on the times of the moment.
    const withoutRates = (output: string) => output.replace(/^sent .*$/m, (line) => line.replace(/[\d.,KMG]+/g, 'N'));
    let plain = '';
    transfer([option], (_, output) => {
      plain = output;
    });
    transfer([option, '--info=progress2'], (_, output) => {
      expect(output).toContain('\r');
      fc.assert(
        fc.property(fc.array(fc.nat(output.length), { maxLength: 20 }), (cuts) => {
          const bounds = [0, ...cuts.sort((a, b) => a - b), output.length];
          let last: ReturnType<typeof parseProgress>;
          const filter = progressFilter((progress) => {
            last = progress;
          });
          const rest = bounds.map((start, n) => filter(output.slice(start, bounds[n + 1] ?? output.length))).join('');
          expect(withoutRates(rest)).toBe(withoutRates(plain));
          expect(last).toMatchObject({ percent: 100, files: 4, scanning: false });
        }),
      );
    });
  });

  test('leaves no blank line where rsync fills up its last line with a blank', () => {
    const filter = progressFilter(() => {});
    expect(filter('a\n\r        620,000  77%   15.89MB/s    0:00:00 (xfr#31, to-chk=9/41) \nb\n')).toBe('a\nb\n');
  });

  test('is read in all its forms', () => {
    expect(parseProgress('\r         32,768   3%    0.00kB/s    0:00:00  ')).toEqual({
      percent: 3,
      files: 0,
      bytes_per_second: 0,
      scanning: false,
    });
    expect(parseProgress('\r  1.24G  42%    5.20MB/s    0:03:10 (xfr#1234, ir-chk=1000/2345)')).toEqual({
      percent: 42,
      files: 1234,
      bytes_per_second: Math.round(5.2 * 1024 ** 2),
      scanning: true,
    });
    const before = { percent: 3, files: 7, bytes_per_second: 1, scanning: true };
    const inTheMiddle = parseProgress('\r  1.24G  42%    5.20MB/s    0:03:10  ', before);
    expect(inTheMiddle).toMatchObject({ percent: 42, files: 7, scanning: true });
    expect(parseProgress('deleting 100% of it')).toBeUndefined();
  });
});
