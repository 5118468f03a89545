/**
 * Text for people: what comes from outside is made safe to print, and what went wrong is put into words.
 *
 *   warn('key.refused', `忽略了 ${escapeText(name)}：${reasonOf(cause)}`);
 */
import { isUtf8 } from 'node:buffer';

export { t } from './language.ts';

/** A failure that the user can mend: its message, which is safe to print, is all that is shown. `status` is the exit status. */
export class Failure extends Error {
  constructor(
    message: string,
    readonly status = 1,
  ) {
    super(message);
  }
}

/**
 * Characters that end a line, control a terminal, turn text around or cannot be seen, and halves of characters. Formats that words are
 * written with stay: U+200C and U+200D of Persian, Indic and emoji, and the signs that stand before numbers in Arabic, Syriac and Kaithi.
 */
export const UNSAFE =
  /[[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]--[\u200c\u200d\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u{110bd}\u{110cd}]]/gv;
const unicodeEscape = (character: string) =>
  character.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Makes text from outside safe to print: it can neither start a line nor control a terminal. */
export function escapeText(untrusted: string): string {
  const names: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
  const hex = (code: number) => (code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  return untrusted
    .replaceAll('\\', '\\\\')
    .replace(UNSAFE, (character) => names[character] ?? hex(character.codePointAt(0) ?? 0));
}

/** Writes a value as JSON on one line that controls no terminal. */
export const toJson = (value: unknown) => JSON.stringify(value).replace(UNSAFE, unicodeEscape);

/** Puts a text for people on one line that controls no terminal; what is escaped already stays as it is. */
export const onOneLine = (text: string) => text.replace(UNSAFE, (code) => (code === '\t' ? code : unicodeEscape(code)));

/** Takes control codes other than line ends out of a text of several lines, which others may have written in part. */
export const printable = (text: string) => text.replace(UNSAFE, (code) => (code === '\n' ? code : unicodeEscape(code)));

/** How much of a line is told as a reason, characters. */
const MAX_REASON = 1000;

/** Finds the last line of what a program says, which is mostly the reason why it gave up. */
export function lastLine(output: string): string {
  const said = output.trim();
  const line = said.slice(said.lastIndexOf('\n') + 1).trim();
  return escapeText(line.slice(0, MAX_REASON)).replace(/\.$/, '');
}

/** How a directory that is held open is called by the system: another number each time, which tells nobody where it is. */
const HELD = /\/proc\/self\/fd\/\d+\//g;

/** Says what went wrong: of a command its own words, and of errors too, which ssh-keygen-lite throws as strings. */
export function reasonOf(cause: unknown): string {
  if (cause instanceof Failure) return cause.message; // is escaped already
  if (!(cause instanceof Error)) return escapeText(String(cause).trim());
  if (!('stderr' in cause)) return escapeText(cause.message.replaceAll(HELD, '…/'));
  const [unstarted] = cause.message.split('\n'); // zx lists the callers behind that, and its exit code last
  return lastLine(String(cause.stderr).trim() || unstarted || cause.message);
}

/** Shows a path in the log. Paths are bytes, kept as latin1 strings; those that are not UTF-8 are shown as `\xff`. */
export function showPath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  if (isUtf8(bytes)) return escapeText(bytes.toString());
  return escapeText(path).replace(/[\xa0-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

/** Gives programs a path: as it is where that is possible. */
export function decodePath(path: string): string {
  const bytes = Buffer.from(path, 'latin1');
  return isUtf8(bytes) ? bytes.toString() : showPath(path);
}

/** Splits a list at white space and commas. */
export const wordsOf = (list: string) => list.split(/[\s,]+/).filter(Boolean);

/** Writes an amount of bytes with a unit, `1.5 MB`. */
export function inUnits(bytes: number): string {
  const unit = Math.min(4, Math.floor(Math.log(Math.max(1, bytes)) / Math.log(1000)));
  return `${(bytes / 1000 ** unit).toFixed(unit > 0 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`;
}

/** Writes a time as people here read it, `2025-10-09 12:00:00`. */
export const localTime = (time: Date | string) => new Date(time).toLocaleString('sv-SE');

/** Sets rows in columns as wide as their widest cell: a Chinese character is two wide. */
export function table(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, n) => Math.max(...rows.map((row) => Bun.stringWidth(row[n] ?? ''))));
  const pad = (cell: string, n: number) => cell + ' '.repeat((widths[n] ?? 0) - Bun.stringWidth(cell));
  return rows.map((row) => row.map(pad).join('  ').trimEnd());
}
