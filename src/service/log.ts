/**
 * The log: on stdout in colours or as JSON, and in LOG_FILE.
 *
 *   log('sync.success', '同步成功 (耗时: 1秒) ✓', { duration_ms: 1042 });
 */
import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Chalk } from 'chalk';
import type { RotatingFileStream } from 'rotating-file-stream';
import { openToAppend } from './foreign.ts';
import { escapeText, localTime, onOneLine, reasonOf, t, toJson } from './text.ts';

/** How much of the log may wait for a reader who has stalled, bytes; beyond, it is left out and counted. */
const MAX_UNREAD = 8_000_000;
/** How often it is looked at whether LOG_FILE is still the file that was opened, ms. */
const LOOK_MS = 1000;
/** How long the start waits for it, ms: a file system may hang. */
const OPEN_MS = 1000;
/** How often it is looked at whether the readers have taken all, ms. */
const DRAIN_MS = 5;

type Level = 'log' | 'info' | 'warn' | 'error';
type Fields = Record<string, unknown>;
/** Writes one entry: the message is for people, `event` and `fields` are for programs. */
export type Entry = (event: string, message: string, fields?: Fields) => void;

const colour = new Chalk({ level: process.env.NO_COLOR ? 0 : 1 });
const COLOURS = { log: colour.green, info: colour.blue, warn: colour.yellow, error: colour.red };
export const RULE = '='.repeat(42);
/** Whether the log is for programs: an entry is a JSON object. */
export const isJson = process.env.LOG_FORMAT === 'json';

export const log: Entry = (event, message, fields) => record('log', event, message, fields);
export const info: Entry = (event, message, fields) => record('info', event, message, fields);
export const warn: Entry = (event, message, fields) => record('warn', event, message, fields);
export const error: Entry = (event, message, fields) => record('error', event, message, fields);

/** Writes a line that says to people what the fields of an entry say to programs. */
export function detail(message: string): void {
  if (!isJson) log('', message);
}

/** Writes a title between two rules. */
export const heading: Entry = (event, title, fields) => {
  detail(RULE);
  log(event, title, fields);
  detail(RULE);
};

/** A warning or an error. */
export interface Complaint {
  /** When it came last, as ISO 8601. */
  time: string;
  level: Level;
  event: string;
  message: string;
}

const listeners: ((complaint: Complaint) => void)[] = [];

/** Calls `listener` with each warning and error. */
export function onComplaint(listener: (complaint: Complaint) => void): void {
  listeners.push(listener);
}

/** Only its own entries begin a line with a bracket: whatever a message holds, it begins no line. */
function record(level: Level, event: string, text: string, fields: Fields = {}): void {
  const time = new Date();
  const message = onOneLine(text);
  if (level === 'warn' || level === 'error') {
    for (const listener of listeners) listener({ time: time.toISOString(), level, event, message });
  }
  if (isJson) {
    const entry = { time: time.toISOString(), level: level === 'log' ? 'info' : level, event, message, ...fields };
    writeLine(toJson(entry));
  } else {
    const prefix = `[${level === 'log' ? '' : `${level.toUpperCase()} `}${localTime(time)}]`;
    writeLine(`${prefix} ${message}`, `${COLOURS[level](prefix)} ${message}`);
  }
}

/** Whether a line is drawn on the terminal that the next text has to wipe out. */
let isDrawn = false;
const WIPE = '\r\x1b[K';
/** What the reader of the log has not taken yet, bytes. */
let unread = 0;
let omitted = 0;

/** Whether stdout is a terminal that people look at, on which lines can be drawn. */
export const drawsLines = () => process.stdout.isTTY && !isJson;

/** Draws a line on the terminal in place of the one before; whatever is written next takes its place. */
export function drawLine(line: string): void {
  print(`${WIPE}${line}`);
  isDrawn = true;
}

/** Writes a line, to stdout perhaps with colours. A reader who has stalled must not make it pile up in memory. */
export function writeLine(line: string, coloured = line): void {
  logFile?.write(`${line}\n`);
  const length = Buffer.byteLength(coloured) + 1;
  if (unread > MAX_UNREAD) {
    omitted += length;
    return;
  }
  if (isDrawn) print(WIPE);
  isDrawn = false;
  print(`${coloured}\n`);
  if (omitted === 0) return;
  const lost = omitted;
  omitted = 0;
  warn('log.omitted', t`日志读取过慢，省略了 ${lost} 字节`, { bytes: lost });
}

/** What is gathered of it is written when it is as long, characters. */
const MAX_GATHERED = 65_536;
let gathered: string | undefined;

/** Has what is written to stdout meanwhile go out in few writes, each of which costs as much as many lines do. */
export function writeTogether(write: () => void): void {
  gathered ??= '';
  try {
    write();
  } finally {
    const text = gathered;
    gathered = undefined;
    if (text) print(text);
  }
}

/** Writes text to stdout as it is. */
export function print(text: string): void {
  if (gathered !== undefined && gathered.length < MAX_GATHERED) {
    gathered += text;
    return;
  }
  const all = `${gathered ?? ''}${text}`;
  if (gathered) gathered = '';
  const length = Buffer.byteLength(all);
  unread += length;
  process.stdout.write(all, () => {
    unread -= length;
  });
}

/** Resolves when all that was printed has been taken by its readers, or they are gone. */
export async function printed(): Promise<void> {
  while (unread > 0 && process.stdout.writable) await sleep(DRAIN_MS);
}

/** LOG_FILE: the log without colours. What goes wrong with it is told once, and is tried again. */
class LogFile {
  private stream: RotatingFileStream | undefined;
  private inode: bigint | undefined;
  private isBroken = false;
  private missing = 0;
  /** When the file is looked at next, ms on the clock of `performance.now()`. */
  private next = 0;

  constructor(
    private readonly path: string,
    private readonly create: () => RotatingFileStream,
  ) {}

  /** Opens it at once, within OPEN_MS: what is watched later does not tell then that it was made. */
  async open(): Promise<void> {
    this.reopen();
    const { stream } = this;
    const events = stream
      ? (['open', 'error'] as const).map((event) => new Promise((seen) => stream.once(event, seen)))
      : [];
    await Promise.race([...events, sleep(OPEN_MS)]);
  }

  write(text: string): void {
    if (performance.now() > this.next) this.reopen();
    const { stream } = this;
    if (!stream || stream.writableLength > MAX_UNREAD) {
      this.missing++;
      return;
    }
    stream.write(text, (cause) => {
      if (cause) this.missing++;
      // What the file before still took says nothing of the one that is to be written now.
      else if (stream === this.stream && (this.isBroken || this.missing > 0)) this.tellRecovery();
    });
  }

  /** Opens the file, anew where it is no longer the one that was opened: it was moved or removed, or its directory was. */
  private reopen(): void {
    this.next = performance.now() + LOOK_MS;
    const inode = inodeOf(this.path);
    if (this.stream && (inode === this.inode || this.inode === undefined)) return;
    this.stream?.end();
    const stream = this.create();
    if (this.isBroken && inode !== undefined) stream.write('\n'); // what was written last may have been cut off
    this.stream = stream;
    this.inode = undefined;
    stream.on('rotation', () => {
      this.inode = undefined; // it is opened anew
    });
    stream.on('open', () => {
      this.inode = inodeOf(this.path);
    });
    stream.on('error', (cause) => this.tellFault(stream, cause));
  }

  private tellFault(stream: RotatingFileStream, cause: Error): void {
    if (this.stream === stream) this.stream = undefined;
    if (this.isBroken) return;
    this.isBroken = true;
    error(
      'log.file_failed',
      t`无法写入日志文件 ${escapeText(this.path)}：${reasonOf(cause)}。请检查磁盘空间、目录和权限`,
    );
  }

  private tellRecovery(): void {
    this.isBroken = false;
    const { missing } = this;
    this.missing = 0;
    warn('log.file_restored', t`日志文件已恢复写入，其中最多缺少 ${missing} 条日志`, { missing });
  }

  /** Resolves when all is written that can be. */
  async end(): Promise<void> {
    const { stream } = this;
    if (stream) await new Promise<void>((ended) => stream.once('error', () => ended()).end(ended));
  }
}

function inodeOf(path: string): bigint | undefined {
  try {
    return statSync(path, { bigint: true }).ino;
  } catch {
    return undefined;
  }
}

let logFile: LogFile | undefined;

/** Appends the log to LOG_FILE from now on, if there is one. The library is loaded only here: what starts often has no use for it. */
export async function openLogFile(config: {
  LOG_FILE: string;
  LOG_MAX_SIZE: string;
  LOG_MAX_FILES: number;
}): Promise<void> {
  const { LOG_FILE, LOG_MAX_SIZE: size, LOG_MAX_FILES: rotate } = config;
  if (!LOG_FILE) return;
  const { createStream } = await import('rotating-file-stream');
  logFile = new LogFile(LOG_FILE, () => {
    const stream = createStream(LOG_FILE, { size, rotate });
    const reopen = async (length: number) => {
      const { file, concern } = await openToAppend(LOG_FILE);
      Object.assign(stream, { file, size: length });
      warnOfOthers('LOG_FILE', LOG_FILE, concern);
      stream.emit('open', LOG_FILE);
    };
    return Object.assign(stream, { reopen }); // the library's own would write through a link that somebody has put there
  });
  await logFile.open();
}

const exposed = new Set<string>();

/** Tells once of a file of ours that others may replace. @param concern what they may do, '' for nothing */
export function warnOfOthers(name: string, path: string, concern: string): void {
  if (!concern || exposed.has(name)) return;
  exposed.add(name);
  const what = t`${name}=${escapeText(path)} 所在的目录${concern}：其内容可能被改写或伪造`;
  warn('file.exposed', t`${what}。其中的链接不会被跟随；如需避免，请使用只有本服务可写的目录`);
}

/** Resolves when all that was written has been taken by its readers, which may be never. */
export async function closeLog(): Promise<void> {
  await logFile?.end();
  while (unread > 0) await sleep(DRAIN_MS); // the callback of one more write would come before those of the others
}
