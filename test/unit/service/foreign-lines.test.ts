import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { ForeignLines, showBytes } from '../../../src/service/foreign-lines.ts';

const latin1 = (text: string) => Buffer.from(text).toString('latin1');

/** What comes out of these pieces, bytes in latin1 strings. */
function linesOf(pieces: string[]) {
  const lines = new ForeignLines('rsync');
  return [...pieces.flatMap((piece) => lines.read(piece)), ...lines.end()];
}
const shownOf = (...pieces: string[]) => linesOf(pieces.map(latin1)).map(({ shown }) => shown);

describe('showBytes', () => {
  const bytes = fc.uint8Array().map((array) => Buffer.from(array).toString('latin1'));

  test('shows what is unsafe to print as rsync does, and nothing else', () => {
    expect(showBytes('\x1b[2J\x00\x7f\xc2\x9b\r')).toBe('\\#033[2J\\#000\\#177\\#302\\#233\\#015');
    expect(showBytes(latin1('\u202e\u2028\ufeff\u{e0041}'))).toMatch(/^(\\#[0-3][0-7]{2})+$/);
    expect(showBytes('caf\xe9 \xe4\xb8 \xed\xa0\x80 \xc0\xaf')).toBe(
      'caf\\#351 \\#344\\#270 \\#355\\#240\\#200 \\#300\\#257',
    );
    for (const harmless of ['中文 ✓ é\u00a0\t\\#033', 'العربية ٢٠٢٥', 'می‌خواهم', '👨‍👩‍👧 ❤️', 'नमस्ते', '𠮷'])
      expect(showBytes(latin1(harmless))).toBe(harmless);
  });

  test('leaves nothing in any bytes that ends a line, controls a terminal or turns text around, and all else as it is', () => {
    const octal = /\\#([0-3][0-7]{2})/g;
    fc.assert(
      fc.property(bytes, (text) => {
        const shown = showBytes(text);
        expect(shown).not.toMatch(/[^\P{Cc}\t]|[\p{Zl}\p{Zp}\p{Cs}\ufffd\u202a-\u202e]/u);
        if (text.includes('\\#')) return; // which looks like what was shown
        const told = shown.replace(octal, (_, digits) => `\0${digits}`);
        const back = latin1(told).replace(/\0([0-7]{3})/g, (_, digits) =>
          String.fromCharCode(Number.parseInt(digits, 8)),
        );
        expect(back).toBe(text);
      }),
    );
  });
});

describe('what other programs print', () => {
  test.each([
    '[2025-10-09 12:00:00] 同步成功 (耗时: 1秒) ✓',
    '[ERROR] 同步失败',
    '[id].ts',
    ' \t\u00a0\u3000[x',
    '\u3164\u2800\u200d[x',
    '\u0301[x',
    '［ERROR］',
    '⟦INFO⟧ a',
    '【2025-10-09 12:00:00】 同步成功 ✓',
    '２０２５−１０−０９ １２：００：００ a',
    'rsync-backup  | [2025-10-09 12:00:00] a',
    'rsync-backup  | [WARN] a',
    'א ]12:00:00 2025-10-09[',
  ])('is told from the log where it looks like that: %s', (line) =>
    expect(shownOf(`${line}\n`)).toEqual([`rsync: ${line}`]),
  );

  test.each([
    'sending incremental file list',
    '',
    'sent 1,234 bytes  received 35 bytes  2,538.00 bytes/sec',
    'total size is 1,234  speedup is 0.97',
    '     32,768 100%    1.00MB/s    0:00:00 (xfr#1, to-chk=0/2)',
    '<f+++++++++ a [b] c',
    'rsync: [sender] send_files failed to open "/data/source/x": Permission denied (13)',
    'app/[id].ts',
    '【电影】a.mkv',
    '2025-10-09.log',
    '同步成功 ✓',
    'العربية.txt',
  ])('is shown as it is otherwise: %s', (line) => expect(shownOf(`${line}\n`)).toEqual([line]));

  test('ends its lines by line feeds and carriage returns, in whatever pieces', () => {
    expect(shownOf('a\r', '\nb\r', 'c\r\r\nd\n\re\r')).toEqual(['a', 'b', 'c', '', 'd', 'e']);
    const kinds = linesOf(['a\rb\nc\r\nd']).map(({ text, isOverwritten }) => [text, isOverwritten]);
    expect(kinds).toEqual([
      ['a', true],
      ['b', false],
      ['c', false],
      ['d', false],
    ]);
  });

  test('comes in pieces where a line never ends, and the later ones are told from the log', () => {
    const [first = '', ...others] = shownOf('a', '中'.repeat(100_000), '[x]\nb\n');
    expect(others.at(-1)).toBe('b');
    expect(others.length).toBe(5);
    for (const piece of others.slice(0, -1)) expect(piece).toStartWith('rsync: ');
    const whole =
      first +
      others
        .slice(0, -1)
        .map((piece) => piece.slice('rsync: '.length))
        .join('');
    expect(whole).toBe(`a${'中'.repeat(100_000)}[x]`);
  });

  test('begins no line as the log does, whatever the bytes and the pieces, and loses nothing that is ordinary', () => {
    const parts = [
      '[',
      ']',
      '2025-10-09',
      ' 12:00:00',
      'ERROR ',
      '同步成功 ✓',
      '\r',
      '\n',
      '\r\n',
      '\t',
      ' ',
      '\x1b[32m',
      '\u2028',
    ];
    const more = ['\u202e', '\u200b', '\u3164', '\u0085', '［', 'a', '\u{e0041}'];
    const text = fc.array(
      fc.oneof(
        fc.constantFrom(...parts, ...more).map(latin1),
        fc.uint8Array({ maxLength: 3 }).map((it) => Buffer.from(it).toString('latin1')),
      ),
    );
    const cuts = fc.array(fc.nat({ max: 7 }), { minLength: 1 });
    fc.assert(
      fc.property(text, cuts, (words, lengths) => {
        const bytes = words.join('');
        const pieces: string[] = [];
        for (let at = 0, n = 0; at < bytes.length; n++) {
          const length = 1 + (lengths[n % lengths.length] ?? 0);
          pieces.push(bytes.slice(at, at + length));
          at += length;
        }
        const lines = linesOf(pieces);
        expect(lines).toEqual(linesOf([bytes]));
        for (const { shown } of lines) {
          expect(shown).not.toMatch(/[^\P{Cc}\t]|[\p{Zl}\p{Zp}\u202e\u200b\ufeff]/u);
          expect(shown).not.toMatch(/^[\s\p{M}\u3164]*[[［]/u);
        }
        const ordinary = bytes
          .split(/[\r\n]+/)
          .filter((line) => line && showBytes(line) === Buffer.from(line, 'latin1').toString());
        const texts = lines.map((line) => line.text);
        for (const line of ordinary) expect(texts).toContain(Buffer.from(line, 'latin1').toString());
      }),
      { numRuns: 2000 },
    );
  });
});
