import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { escapeText, showPath } from '../../../src/service/text.ts';

describe('escapeText and showPath', () => {
  test('name what they escape', () => {
    expect(escapeText('a\nb\rc\td\\e')).toBe('a\\nb\\rc\\td\\\\e');
    expect(escapeText('\u001b[31m\u0000\u009b\u202e\u2028')).toBe('\\x1b[31m\\x00\\x9b\\u{202e}\\u{2028}');
    expect(escapeText('中文 ✓ 👨‍👩‍👧 é')).toBe('中文 ✓ 👨‍👩‍👧 é');
    const path = (...bytes: number[]) => Buffer.from(bytes).toString('latin1');
    expect(showPath(path(0x2f, 0xe4, 0xb8, 0xad))).toBe('/中');
    expect(showPath(path(0x2f, 0xff, 0x80, 0x5c))).toBe('/\\xff\\x80\\\\');
  });

  test('leave nothing that starts a line or controls a terminal, and keep different paths apart', () => {
    const paths = fc.uint8Array({ min: 1 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
    fc.assert(
      fc.property(paths, paths, (one, other) => {
        expect(showPath(one)).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
        if (one !== other) expect(showPath(one)).not.toBe(showPath(other));
      }),
    );
  });
});
