/**
 * What a program says, line by line. Others may have written it, so that no line is kept whole that is longer than any there is.
 *
 *   readLines(rsync.stdout, (line) => reader.read(line)); // bytes in a latin1 string
 */
import type { Readable } from 'node:stream';
import { t } from './text.ts';

/** How much of a line is taken in, characters: rsync names two paths at most, each byte as `\#ooo`. */
const MAX_LINE = 70_000;

/** Says how much a line lacks, as bytes in a latin1 string. */
const noteOf = (lacking: number) => Buffer.from(t`…（此行过长，省略 ${lacking} 字节）`).toString('latin1');

/** Cuts off lines that are too long: at the end of one, what it lacks is told instead. */
export class LineCutter {
  /** How long the line is that has not ended yet. */
  private length = 0;

  /** @param ends what ends a line, besides a line feed */
  constructor(private readonly ends: '\n' | '\r' = '\n') {}

  /** Takes in what comes next, bytes in a latin1 string; returns what is left of it. */
  readonly cut = (chunk: string): string => {
    const last = Math.max(chunk.lastIndexOf('\n'), chunk.lastIndexOf(this.ends));
    const length = last < 0 ? this.length + chunk.length : chunk.length - last - 1;
    if (this.length + chunk.length > MAX_LINE) return this.cutLines(chunk);
    this.length = length;
    return chunk;
  };

  private cutLines(chunk: string): string {
    const pieces = chunk.split(this.ends === '\n' ? /(?<=\n)/ : /(?<=[\r\n])/);
    return pieces.map((piece) => this.cutPiece(piece)).join('');
  }

  private cutPiece(piece: string): string {
    const end = ['\n', this.ends].includes(piece.at(-1) as string) ? piece.slice(-1) : '';
    const text = piece.slice(0, piece.length - end.length);
    const kept = text.slice(0, Math.max(0, MAX_LINE - this.length));
    this.length += text.length;
    const lacking = this.length - MAX_LINE;
    if (end) this.length = 0;
    return end && lacking > 0 ? `${kept}${noteOf(lacking)}${end}` : kept + end;
  }
}

/** Hands on each line that a program says, without its end, as bytes in a latin1 string. */
export function readLines(stream: Readable | null, take: (line: string) => void): void {
  const { cut } = new LineCutter();
  let rest = '';
  const tell = (line: string) => take(line.replace(/\r$/, ''));
  stream?.setEncoding('latin1').on('data', (chunk: string) => {
    const lines = (rest + cut(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) tell(line);
  });
  stream?.once('end', () => {
    const last = rest + cut('\n').slice(0, -1);
    if (last) tell(last);
  });
}
