/**
 * What other programs print, line by line: whoever has them print it, none of it can be taken for a line of the log.
 *
 *   const lines = new ForeignLines('rsync');
 *   lines.read('[2025-10-09 12:00:00] a file\n'); // shown as 'rsync: [2025-10-09 12:00:00] a file'
 */
import { UNSAFE } from './text.ts';

/** A line of another program. */
export interface ForeignLine {
  /** What it says, safe to print. */
  text: string;
  /** The same, with the name of the program in front where it could be taken for a line of the log. */
  shown: string;
  /** Whether a carriage return ends it: a terminal shows the next one in its place. */
  isOverwritten: boolean;
}

/** How long a line may become before it is passed on in pieces, bytes: rsync names two paths at most, each byte as `\#ooo`. */
const MAX_LINE = 70_000;
/** A character in UTF-8 whose end is missing. */
const CUT_CHARACTER = /[\xc0-\xff][\x80-\xbf]{0,2}$/;

/** Splits what a program prints, bytes in latin1 strings in whatever pieces. */
export class ForeignLines {
  private rest = '';
  /** Whether what comes next goes on with a line that was too long. */
  private isMidLine = false;

  constructor(private readonly program: string) {}

  /** Takes in a piece; returns the lines that end in it. */
  read(bytes: string): ForeignLine[] {
    // Behind a carriage return at the very end, a line feed may follow in the next piece.
    const parts = `${this.rest}${bytes}`.split(/(\r\n|\n|\r(?!$))/);
    this.rest = parts.pop() ?? '';
    const lines: ForeignLine[] = [];
    for (let n = 0; n < parts.length; n += 2) {
      const [line = '', end] = parts.slice(n, n + 2);
      if (line !== '' || end !== '\r') lines.push(this.take(line, end === '\r')); // rsync begins with one what is to be overwritten
      this.isMidLine = false;
    }
    return [...lines, ...this.cut()];
  }

  /** Returns what was not ended by a line end. */
  end(): ForeignLine[] {
    const rest = this.rest.replace(/\r$/, '');
    this.rest = '';
    return rest ? [this.take(rest, false)] : [];
  }

  /** Takes what is long enough out of a line whose end has not come. */
  private cut(): ForeignLine[] {
    const pieces: ForeignLine[] = [];
    while (this.rest.length > MAX_LINE) {
      const piece = this.rest.slice(0, MAX_LINE).replace(CUT_CHARACTER, '');
      this.rest = this.rest.slice(piece.length);
      pieces.push(this.take(piece, false));
      this.isMidLine = true;
    }
    return pieces;
  }

  private take(line: string, isOverwritten: boolean): ForeignLine {
    const text = showBytes(line);
    const shown = this.isMidLine || looksOurs(text) ? `${this.program}: ${text}` : text;
    return { text, shown, isOverwritten };
  }
}

const octal = (bytes: string) =>
  bytes.replace(/./gs, (byte) => `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`);

/** Characters in UTF-8 that are not in ASCII (Unicode, table 3-7), or else a byte that belongs to none. */
const BEYOND_ASCII =
  /(?:[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+|[\x80-\xff]/g;

/**
 * Shows bytes, a latin1 string, as text: what ends lines, controls a terminal, turns text around or is no UTF-8 as rsync shows such
 * bytes, `\#033`. Tabs stay.
 */
export function showBytes(bytes: string): string {
  const text = bytes.replace(BEYOND_ASCII, (it) => (it.length > 1 ? Buffer.from(it, 'latin1').toString() : octal(it)));
  return text.replace(UNSAFE, (it) => (it === '\t' ? it : octal(Buffer.from(it).toString('latin1'))));
}

/** Begins with a bracket, whatever blanks stand before it. */
const BRACKET = /^[[^\p{L}\p{N}\p{P}\p{S}]\p{Default_Ignorable_Code_Point}\u2800]*[\[⁅❲⟦〔〚]/v;
/** A day and a time as they stand in the brackets of the log, in whatever order: Arabic text turns them round. */
const [DAY, TIME] = [
  /\p{Nd}{4}[\p{Pd}−]\p{Nd}\p{Nd}[\p{Pd}−]\p{Nd}\p{Nd}/u,
  /\p{Nd}\p{Nd}[:∶꞉]\p{Nd}\p{Nd}[:∶꞉]\p{Nd}\p{Nd}/u,
];
const LEVEL = /[[⁅❲⟦〔〚](INFO|WARN|ERROR)\b/;

/** Whether a person or a program could take a line for one of the log. */
function looksOurs(line: string): boolean {
  const plain = line.normalize('NFKC'); // full-width brackets and digits are read as the usual ones
  return BRACKET.test(plain) || LEVEL.test(plain) || (DAY.test(plain) && TIME.test(plain));
}
