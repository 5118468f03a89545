import { describe, expect, test } from 'bun:test';
import { Complaints, Excerpt, FIRST_LINES, KINDS, kindOf, LAST_LINES, OF_A_KIND } from '../../../src/mirror/excerpt.ts';

describe('of what rsync prints', () => {
  test.each([0, 1, FIRST_LINES, FIRST_LINES + 1, FIRST_LINES + LAST_LINES, FIRST_LINES + LAST_LINES + 1, 100_000])(
    'the first and the last of %d lines are told, and how many there were between them',
    (count) => {
      const excerpt = new Excerpt<number>();
      const first = Array.from({ length: count }, (_, n) => n).flatMap((n) => excerpt.take(n));
      const { omitted, last } = excerpt.end();
      expect(first).toHaveLength(Math.min(count, FIRST_LINES));
      const rest = Math.min(LAST_LINES, Math.max(0, count - FIRST_LINES));
      expect(last).toEqual(Array.from({ length: rest }, (_, n) => count - rest + n));
      expect(first.length + omitted + last.length).toBe(count);
    },
  );
});

describe('of what it complains of', () => {
  const line = (text: string) => ({ text });

  test('some of each kind are told, and the others counted', () => {
    const complaints = new Complaints(() => true);
    const told = Array.from({ length: 1000 }, (_, n) => [
      line(`rsync: [sender] send_files failed to open "/data/${n}": Permission denied (13)`),
      line(`file has vanished: "/data/${n}"`),
    ]).flatMap((lines) => lines.flatMap((it) => complaints.take(it)));
    expect(told).toHaveLength(2 * OF_A_KIND);
    expect(complaints.end()).toEqual({ omitted: 2000 - 2 * OF_A_KIND, last: [] });
  });

  test('no more kinds are told apart than there are, whatever the other side says', () => {
    const complaints = new Complaints(() => true);
    const said = Array.from({ length: 100_000 }, (_, n) => String.fromCodePoint(0x4e00 + (n % 20_000)));
    const told = said.flatMap((text) => complaints.take(line(text)));
    expect(told.length).toBeLessThanOrEqual((KINDS + 1) * OF_A_KIND);
  });

  test('what is not to be told now is counted', () => {
    const complaints = new Complaints((kind) => kind !== 'known 0');
    expect(['known 1', 'new', 'known 2'].flatMap((text) => complaints.take(line(text)))).toEqual([line('new')]);
    expect(complaints.end().omitted).toBe(2);
  });

  test.each([
    ['file has vanished: "/a "b" c"', 'file has vanished: "…"'],
    [
      'rsync: [sender] readlink_stat("/a") failed: Input/output error (5)',
      'rsync: [sender] readlink_stat("…") failed: Input/output error (0)',
    ],
    [
      'WARNING: hot.log failed verification -- update discarded (will try again).',
      'WARNING: … failed verification -- update discarded (will try again).',
    ],
    ['ssh: connect to host b port 22: Connection refused', 'ssh: connect to host b port 0: Connection refused'],
    ['ssh: connect to host b port 22: No route to host', 'ssh: connect to host b port 0: No route to host'],
    ['x'.repeat(70_000), 'x'.repeat(200)],
  ])('%# its kind is what it says but for names and numbers', (text, kind) => {
    expect(kindOf(text)).toBe(kind);
  });
});
