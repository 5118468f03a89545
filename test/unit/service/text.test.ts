import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import {
  decodePath,
  escapeText,
  Failure,
  inUnits,
  lastLine,
  onOneLine,
  printable,
  reasonOf,
  showPath,
  table,
  toJson,
  wordsOf,
} from '../../../src/service/text.ts';

describe('escapeText and showPath', () => {
  test('name what they escape', () => {
    expect(escapeText('a\nb\rc\td\\e')).toBe('a\\nb\\rc\\td\\\\e');
    expect(escapeText('\u001b[31m\u0000\u009b\u202e\u2028')).toBe('\\x1b[31m\\x00\\x9b\\u{202e}\\u{2028}');
    expect(escapeText('\u061c\u00ad\u200b\u2060\ufeff\u{e0041}\ud800')).toBe(
      '\\u{61c}\\xad\\u{200b}\\u{2060}\\u{feff}\\u{e0041}\\u{d800}',
    );
    for (const harmless of ['中文 ✓ 👨‍👩‍👧 é ❤️ 𠮷', 'العربية \u0600٢٠٢٥', 'می‌خواهم'])
      expect(escapeText(harmless)).toBe(harmless);
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

test('toJson and printable leave text readable, but for what controls a terminal', () => {
  expect(toJson({ a: '中\n\u009b\u202e' })).toBe('{"a":"中\\n\\u009b\\u202e"}');
  expect(JSON.parse(toJson('\u009b\u2028\u0000'))).toBe('\u009b\u2028\u0000');
  expect(JSON.parse(toJson('\u{e0041}\ufeff\ud800'))).toBe('\u{e0041}\ufeff\ud800');
  expect(toJson('\u{e0041}')).toBe('"\\udb40\\udc41"');
  expect(printable('中\n\u001b[31m\r')).toBe('中\n\\u001b[31m\\u000d');
  expect(onOneLine('中\\n\t\n\u001b[31m\r')).toBe('中\\n\t\\u000a\\u001b[31m\\u000d');
});

test('decodePath gives a path as it is where it is UTF-8, and shows its bytes otherwise', () => {
  const latin1 = (path: string) => Buffer.from(path).toString('latin1');
  expect(decodePath(latin1('/中\n'))).toBe('/中\n');
  expect(decodePath('/a\xff')).toBe('/a\\xff');
});

describe('the reason of a failure', () => {
  test('is the last line of what a program says, safe to print and without a full stop', () => {
    expect(lastLine('first\n  second.\n\n')).toBe('second');
    expect(lastLine('\u001b[31mone')).toBe('\\x1b[31mone');
    expect(lastLine('')).toBe('');
    const command = (message: string, stderr: string) => Object.assign(new Error(message), { stderr });
    expect(reasonOf(command('exit code: 1', 'Warning\nBad port.\n'))).toBe('Bad port');
    expect(reasonOf(command('spawn ENOENT\n    at caller\n    exit code: 1', ' '))).toBe('spawn ENOENT');
  });

  test('is the message of an error, the text of anything else, and what a failure of ours says as it is', () => {
    expect(reasonOf(new Error('a\nb'))).toBe('a\\nb');
    expect(reasonOf(new Error("EACCES: open '/proc/self/fd/24/a.log'"))).toBe("EACCES: open '…/a.log'");
    expect(reasonOf(' a\nb\n')).toBe('a\\nb');
    expect(reasonOf(new Failure('first\nsecond \\n'))).toBe('first\nsecond \\n');
    expect([new Failure('x').status, new Failure('x', 2).status]).toEqual([1, 2]);
  });
});

test('wordsOf splits at white space and commas', () => {
  expect(wordsOf(' a, b,,c\n\td ')).toEqual(['a', 'b', 'c', 'd']);
  expect(wordsOf(' , ')).toEqual([]);
});

test('inUnits writes an amount with the unit in which it is one to three digits long', () => {
  const amounts: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1_540_000, '1.5 MB'],
    [2_000_000_000, '2.0 GB'],
    [5e12, '5.0 TB'],
    [5e15, '5000.0 TB'],
  ];
  for (const [bytes, text] of amounts) expect(inUnits(bytes)).toBe(text);
});

test('a table has columns as wide as their widest cell, in which a Chinese character is two wide', () => {
  expect(
    table([
      ['目标', '状态'],
      ['a', 'b'],
      ['abcdef', ''],
    ]),
  ).toEqual(['目标    状态', 'a       b', 'abcdef']);
  expect(table([])).toEqual([]);
});
