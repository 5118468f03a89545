import { expect, test } from 'bun:test';
import { parseDuration } from '../../../src/service/duration.ts';

test.each([
  ['90s', 90_000],
  ['10m', 600_000],
  ['2h', 7_200_000],
  ['1d', 86_400_000],
  ['7d', 604_800_000],
  ['0s', 0],
])('%s is %i ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(['', '1', 'h', '-1h', '1.5h', '8d', '1w', '1h ', '1hs', '999999999d', '10 m'])('“%s” is refused', (text) => {
  expect(() => parseDuration(text)).toThrow('90s、10m、2h 或 1d');
});
