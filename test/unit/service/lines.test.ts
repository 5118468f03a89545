import { expect, test } from 'bun:test';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { LineCutter, readLines } from '../../../src/service/lines.ts';

const MAX_LINE = 70_000;
const inUtf8 = (bytes: string) => Buffer.from(bytes, 'latin1').toString();

/** The lines that are read of what comes in these pieces. */
async function linesOf(pieces: string[]): Promise<string[]> {
  const stream = new PassThrough();
  const lines: string[] = [];
  readLines(stream, (line) => lines.push(line));
  for (const piece of pieces) stream.write(Buffer.from(piece, 'latin1'));
  stream.end();
  await once(stream, 'end');
  return lines;
}

test('lines are read whatever pieces they come in, the last one without an end too', async () => {
  expect(await linesOf(['a', 'b\ncaf\xe9\r\n\nlast'])).toEqual(['ab', 'caf\xe9', '', 'last']);
  expect(await linesOf(['a\n'])).toEqual(['a']);
  expect(await linesOf([])).toEqual([]);
});

test('a line that is too long is cut, with what it lacks told at its end, and the next one is whole', async () => {
  const piece = 'a'.repeat(30_000);
  const [first = '', ...rest] = await linesOf([piece, piece, piece, piece, '\nnext\n']);
  expect(inUtf8(first)).toBe(`${'a'.repeat(MAX_LINE)}…（此行过长，省略 50000 字节）`);
  expect(rest).toEqual(['next']);
  const [unended = ''] = await linesOf([piece, piece, piece]);
  expect(inUtf8(unended)).toEndWith('（此行过长，省略 20000 字节）');
});

test('what is not too long comes out as it is', () => {
  const pieces = fc.array(fc.string({ unit: fc.constantFrom('a', '\n', '\r'), maxLength: 20 }));
  fc.assert(
    fc.property(pieces, fc.constantFrom('\n' as const, '\r' as const), (all, ends) => {
      const { cut } = new LineCutter(ends);
      expect(all.map(cut).join('')).toBe(all.join(''));
    }),
  );
});

test('of what never ends nothing is kept', () => {
  const { cut } = new LineCutter();
  const piece = 'a'.repeat(65_536);
  const lengths = Array.from({ length: 100 }, () => cut(piece).length);
  expect(lengths.reduce((sum, length) => sum + length)).toBe(MAX_LINE);
});

test('where progress is told without line ends, each piece of it counts by itself', () => {
  const progress = `\r${' '.repeat(100)}`.repeat(2000);
  expect(new LineCutter('\r').cut(progress)).toBe(progress);
  expect(new LineCutter().cut(progress).length).toBe(MAX_LINE);
});
