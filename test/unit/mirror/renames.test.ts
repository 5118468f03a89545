import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { Renames } from '../../../src/mirror/renames.ts';

/** How many first halves wait, and how many cookies are remembered. */
const [HALVES, TOLD] = [1000, 20_000];

describe('the two halves of a rename', () => {
  test('are paired by their cookie, whatever comes between', () => {
    const renames = new Renames();
    renames.begin('7', 'a', true);
    renames.begin('8', 'b', false);
    expect(renames.complete('9')).toBeUndefined();
    expect(renames.complete('8')).toEqual({ from: 'b', isCertain: false });
    expect(renames.complete('7')).toEqual({ from: 'a', isCertain: true });
    expect(renames.complete('7')).toBeUndefined();
  });

  test('are one rename, though a second watcher tells both once more', () => {
    const renames = new Renames();
    renames.begin('7', 'a', true);
    renames.complete('7');
    expect(renames.begin('7', 'a', true)).toBe(false);
    expect(renames.begin('7', 'renamed/a', true)).toBe(true); // by the name that it really had
    expect(renames.complete('7')).toBeUndefined();
  });

  test('are each told once, however the two watchers fall into each other’s word', () => {
    const cookies = fc.uniqueArray(fc.nat({ max: 50 }).map(String), { maxLength: 12 });
    fc.assert(
      fc.property(cookies, fc.infiniteStream(fc.boolean()), (order, whose) => {
        const renames = new Renames();
        const story = order.flatMap((cookie) => [`from ${cookie}`, `to ${cookie}`]);
        const rest = [[...story], [...story]];
        const paired: string[] = [];
        while (rest[0]?.length || rest[1]?.length) {
          const turn = whose.next().value ? 0 : 1;
          const [half, cookie = ''] = (rest[turn]?.shift() ?? '').split(' ');
          if (half === 'from') renames.begin(cookie, `old ${cookie}`, true);
          const pair = half === 'to' ? renames.complete(cookie) : undefined;
          if (pair) paired.push(`${cookie}: ${pair.from}`);
        }
        expect(paired.sort()).toEqual(order.map((cookie) => `${cookie}: old ${cookie}`).sort());
      }),
    );
  });

  test('wait for each other, but no more than a thousand do: the oldest goes first', () => {
    const renames = new Renames();
    for (let n = 0; n <= HALVES; n++) renames.begin(`${n}`, `old ${n}`, true);
    expect(renames.complete('0')).toBeUndefined();
    expect(renames.complete('1')).toMatchObject({ from: 'old 1' });
    expect(renames.complete(`${HALVES}`)).toMatchObject({ from: `old ${HALVES}` });
  });

  test('are remembered for long, but not forever', () => {
    const renames = new Renames();
    const rename = (n: number) => {
      renames.begin(`${n}`, `old ${n}`, true);
      return renames.complete(`${n}`);
    };
    for (let n = 0; n < TOLD; n++) rename(n);
    expect(rename(0)).toBeUndefined();
    rename(TOLD);
    expect(rename(0)).toMatchObject({ from: 'old 0' });
    expect(rename(2)).toBeUndefined();
  });
});
