/**
 * What sshd starts for the source, whatever it asks for: it answers, becomes the receiving rsync, has a sending one run, or refuses. It is started
 * for each session, so that whatever is imported here is paid by every transfer.
 *
 *   SSH_ORIGINAL_COMMAND='rsync --server -vlogDtpre.iLsfxCIvu . /data/backup/' start-sshd --forced-command SHA256:…
 *   SSH_ORIGINAL_COMMAND='rsync --server -vlogDtpre.iLsfxCIvu . /data/backup/web1/' start-sshd --forced-command SHA256:… web1
 */
import { readlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { isWithin } from '../service/files.ts';
import { escapeText, t } from '../service/text.ts';
import {
  admit,
  admitKey,
  admitUnlessPromoted,
  Barred,
  endConnection,
  KEY_VARIABLE,
  Outdated,
  ownDirectory,
  Promoted,
  readAdmission,
  SOURCE_VARIABLE,
} from './admission.ts';
import { confinedPath, enter, fence, forbidDevices, locate, neededBy, Refusal } from './confinement.ts';
import type { serveErrands } from './errands.ts';
import { keepingOf } from './history-door.ts';
import type { runGuarded } from './history-guard.ts';
import { identify } from './identification.ts';
import { findProgram } from './programs.ts';
import { ReceiptMark } from './receipt-mark.ts';
import {
  countBlockWords,
  DIRECTORIES,
  deletesLast,
  isHarmless,
  NO_DELTA,
  readLong,
  refusalOf,
  refusesDeletions,
  withoutPartsInPlace,
  withWholeFiles,
  writesInPlace,
  writesLoosely,
} from './receiver-options.ts';
import { renameIn } from './renames.ts';
import { asksToRead } from './sender-options.ts';
import { announce, MAX_SHOWN, sendReport } from './session-reports.ts';
import { become, MAX_COMMANDS, MAX_HELPERS, MAX_WAITING, takeSlot } from './slots.ts';

/** What sshd starts this program with, the fingerprint of the key that has logged in, and the name of its source if that has one. */
export const FORCED_COMMAND = '--forced-command';
/** What the source asks for where it has moved something: `start-sshd --rename DIRECTORY`. */
const RENAME = '--rename';
/** The same before it has anything to be renamed or deleted, for batch after batch: `start-sshd --errands DIRECTORY`. */
const ERRANDS = '--errands';
/** What it asks for to know whether it has reached the same backup as before: `start-sshd --identify DIRECTORY`. */
const IDENTIFY = '--identify';
/** What it asks for to know whether another one mirrors there, too: `start-sshd --announce DIRECTORY INSTANCE@HOST`. */
const ANNOUNCE = '--announce';

// ── How commands are answered ────────────────────────────────────────────────────────────────────

/** Answers the source, if that is what the program was started for; returns whether it was. */
export async function answerSource([flag, directory, ...more]: string[]): Promise<boolean> {
  if (flag === FORCED_COMMAND) {
    if (more[0]) process.env[SOURCE_VARIABLE] = more[0];
    await respond(process.env.SSH_ORIGINAL_COMMAND ?? '', (command) => answerTo(command, directory));
  } else if ((flag === RENAME || flag === IDENTIFY || flag === ERRANDS) && directory && more.length === 0)
    await respond(`start-sshd ${flag} ${directory}`, () => answerShell(flag, directory));
  else if (flag === ANNOUNCE && directory && more.length === 1)
    await respond(`start-sshd ${flag} ${directory}`, () => announce(directory, String(more[0])));
  else return false;
  return true;
}

/** Answers the source's shell, which ALLOW_SHELL lets start us as it starts rsync: both may write anywhere. */
async function answerShell(
  flag: typeof RENAME | typeof IDENTIFY | typeof ERRANDS,
  directory: string,
): Promise<string | number> {
  const { DEST_DIR } = process.env;
  const admitHere = () => DEST_DIR && isWithin(resolve(directory), DEST_DIR) && admit();
  admitHere();
  if (flag === ERRANDS) return serve(directory, '/', { admit: admitHere, mayRemove: true });
  return flag === RENAME ? renameIn(directory, '/') : identify(directory, '/', readAdmission());
}

/** Gives the answer to a command, unless it becomes the program that does, or refuses. */
async function respond(command: string, answer: (command: string) => unknown): Promise<void> {
  try {
    writeSync(1, `${await answer(command)}\n`);
  } catch (cause) {
    const reason = (cause instanceof Error ? cause.message : String(cause)).slice(0, MAX_SHOWN);
    const refusal = t`start-sshd: 拒绝执行：${escapeText(reason)}\n`;
    const isForUs = command.startsWith('start-sshd ');
    writeSync(2, `${refusal}${echoOf(refusal, cause instanceof Promoted && isForUs)}`);
    await sendReport(kindOf(cause), t`${reason}。命令: ${command.slice(0, MAX_SHOWN)}`);
    if (cause instanceof Outdated) endConnection();
    process.exit(1);
  }
}

/** What a source knows refusals by that knows Chinese alone, in a line that others leave out. */
const TAKEN_OVER = 'start-sshd: 拒绝执行：备份端已接管\n';
const AN_OPTION = 'start-sshd: 拒绝执行：不允许该 rsync 选项 \n';

/** Says in another language than Chinese once more what the source acts upon. @param isTakeover to be told only where nobody reads it */
function echoOf(refusal: string, isTakeover: boolean): string {
  if (isTakeover) return refusal.includes(TAKEN_OVER.trim()) ? '' : TAKEN_OVER;
  return / rsync option /.test(refusal) ? AN_OPTION : '';
}

/** Why nothing is run, whatever it is: as much as may run does. */
class Crowded extends Refusal {}

/** Says by which kind of refusals the service is told of one. */
function kindOf(cause: unknown) {
  if (cause instanceof Promoted) return 'promoted';
  if (cause instanceof Barred) return 'barred';
  return cause instanceof Crowded ? 'crowded' : 'refused';
}

/** @throws {Crowded} where as many of a kind run as may */
function occupy(kind: 'commands' | 'helpers' | 'waiting', most: number): void {
  const { START_SSHD_ADMISSION: file = '', [SOURCE_VARIABLE]: name } = process.env;
  if (!takeSlot(join(dirname(file), name ? `${kind}@${name}` : kind), most))
    throw new Crowded(t`源端密钥的命令已有 ${most} 个在运行，达到上限，请稍后重试`);
}

/**
 * Lets a command in: of the key that is in force, and no more of them than may run at a time.
 * @throws {Refusal}
 */
function enterService(key: string | undefined): void {
  admitKey(key);
  occupy('commands', MAX_COMMANDS);
  if (key) process.env[KEY_VARIABLE] = key;
}

/**
 * Finds the answer to a command of the source, the test of the connection for example.
 * @param key the fingerprint of the key that has logged in
 * @throws {Refusal}
 */
async function answerTo(command: string, key: string | undefined): Promise<string | number> {
  const { DEST_DIR: served, START_SSHD_REPORTS } = process.env;
  if (!served || !START_SSHD_REPORTS) throw new Refusal(t`只能经由 start-sshd 启动的 sshd 使用`);
  enterService(key);
  if (!command) throw new Refusal(t`不提供 shell`);
  const DEST_DIR = ownDirectory();
  const words = parseCommand(command);
  const [program, option, directory = ''] = words;
  if (program === 'echo') return words.slice(1).join(' ');
  admitUnlessPromoted();
  const asked = program === 'start-sshd' && words.length === 3 ? option : undefined;
  if (program === 'start-sshd' && option === ANNOUNCE && words.length === 4) return announce(directory, words[3] ?? '');
  if (asked === IDENTIFY) return identify(directory, DEST_DIR, admit());
  if (asked === ERRANDS) return waitFor(directory, DEST_DIR, key);
  if (asksToRead(words)) return send(words, DEST_DIR);
  if (asked !== RENAME) return receive(words, DEST_DIR);
  admit();
  occupy('helpers', MAX_HELPERS);
  new ReceiptMark().put();
  return renameIn(directory, DEST_DIR);
}

/**
 * Waits for what the source wants renamed or deleted by name.
 * @throws {Refusal}
 */
async function waitFor(directory: string, allowed: string, key: string | undefined): Promise<never> {
  const admitAgain = () => {
    admitKey(key);
    admit();
  };
  admitAgain();
  occupy('waiting', MAX_WAITING);
  const refused = new Set(process.env.REFUSE_OPTIONS?.split(' '));
  const mayRemove = !refusesDeletions(refused);
  return serve(directory, allowed, { admit: admitAgain, mayRemove });
}

/** Becomes what sends to the source, with what no other command needs. @throws {Refusal} where it may not be read */
async function send(words: string[], allowed: string): Promise<never> {
  occupy('helpers', MAX_HELPERS);
  const session = await import('./sender-session.ts');
  return session.send(words, allowed);
}

/** Serves errands, with what no other command needs. */
async function serve(...how: Parameters<typeof serveErrands>): Promise<never> {
  const errands = await import('./errands.ts');
  return errands.serveErrands(...how);
}

/**
 * Becomes the receiving rsync.
 * @throws {Refusal}
 */
async function receive(words: string[], allowed: string): Promise<never> {
  const refused = new Set(process.env.REFUSE_OPTIONS?.split(' '));
  const { options, directories, destination, hasBlockLength } = parseReceiver(words, refused);
  admit();
  const { real, root } = locate(destination, allowed);
  const named = directories.map((directory) => confinedPath(directory, real, root));
  const keeping = keepingOf(root, real);
  keeping?.refuse([real, ...named], options);
  const kept = keeping?.wordsFor(real) ?? [];
  const rsync = findProgram('rsync');
  if (!rsync) throw new Refusal(t`本机没有 rsync`);
  const rest = enter(real, root);
  new ReceiptMark().put();
  if (writesInPlace(options)) await protectDevices();
  if (writesLoosely(options)) await sendReport('loose', '');
  if (hasBlockLength) await sendReport('unblocked', '');
  const inTime = deletesLast(options) ? await deleteInTime(options) : options;
  const safe = refused.has(NO_DELTA) ? withWholeFiles(inTime) : inTime;
  const isFenced = fence(root, neededBy(rsync));
  // It may wait for days, and not in DEST_DIR, which could not be unmounted then: the fence is around that and no other directory. In
  // the way to one below, the source might put a link meanwhile, and modes and owners of what that leads to are not behind the fence.
  // Without a fence, it sees no other directory at all.
  const isSecluded = !isFenced && (await leaveTheRest(root, rsync));
  const mayLeave = isSecluded || (isFenced && real === root);
  if (mayLeave) process.chdir('/');
  const place = (mayLeave ? real : rest) + (destination.endsWith('/') ? '/' : ''); // a directory to be, for a single file
  const command = ['rsync', '--server', ...safe, ...kept, '.', place];
  if (keeping?.guarded) await guard(rsync, command, keeping.guarded);
  return become(rsync, command, process.env);
}

/** Has rsync take nothing away from older versions, and ends with it, where the kernel can do that. */
async function guard(...how: Parameters<typeof runGuarded>): Promise<void> {
  const { runGuarded: run } = await import('./history-guard.ts');
  const status = await run(...how);
  if (status !== undefined) process.exit(status);
}

const messageOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause));

/** Has rsync see nothing else where there is no fence; where that should be and is not, the service tells it, and rsync runs all the same. */
async function leaveTheRest(root: string, rsync: string): Promise<boolean> {
  try {
    const { seclude } = await import('./seclusion.ts'); // which few need
    return seclude(root, neededBy(rsync));
  } catch (cause) {
    await sendReport('unprotected', t`可能被备份内的链接引到 DEST_DIR 之外：${messageOf(cause)}`);
    return false;
  }
}

/** Has rsync delete first where it would otherwise delete what it has just received: a file that was renamed in letter case only. */
async function deleteInTime(options: string[]): Promise<string[]> {
  const { deletingFirst, foldingOf } = await import('./letter-case.ts'); // which few need
  const folding = foldingOf(Buffer.from(readlinkSync('/proc/self/cwd')).toString('latin1'));
  if (folding === 'no') return options;
  if (folding === 'yes') await sendReport('reordered', '');
  return deletingFirst(options);
}

/** Forbids devices; where the kernel should have done that and has not, the service tells it, and rsync runs all the same. */
async function protectDevices(): Promise<void> {
  try {
    forbidDevices();
  } catch (cause) {
    await sendReport('unprotected', t`可能打开备份内的设备文件：${messageOf(cause)}`);
  }
}

// ── Which commands are let through ───────────────────────────────────────────────────────────────

/** How long a command may be, bytes. */
const MAX_COMMAND_BYTES = 65_536;
/** A run of white space or a part of a word: escaped, in single quotes, in double quotes, plain, or a quote without its end. */
const PART = /( +)|\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|([^ '"\\]+)|(.)/gu;

/**
 * Splits a command into words as a shell would; what only a shell would expand stays as it is. shlex takes other
 * characters for escaped than a shell does, and seconds for a word of many quotes.
 * @throws {Refusal}
 */
export function parseCommand(command: string): string[] {
  if (Buffer.byteLength(command) > MAX_COMMAND_BYTES) throw new Refusal(t`命令超过 ${MAX_COMMAND_BYTES} 字节`);
  if (/[\p{Cc}\ufffd]/u.test(command)) throw new Refusal(t`命令包含控制字符或不是 UTF-8`);
  const words: string[] = [];
  let inWord = false;
  for (const [, space, escaped, single, double, plain, unpaired] of command.matchAll(PART)) {
    if (unpaired) throw new Refusal(t`引号或反斜杠没有配对`);
    if (!space && !inWord) words.push('');
    inWord = !space;
    words[words.length - 1] += escaped ?? single ?? double?.replace(/\\([\\"$`])/g, '$1') ?? plain ?? '';
  }
  return words;
}

interface Receiver {
  options: string[];
  /** The directories that options name. */
  directories: string[];
  destination: string;
  /** Whether the source has said how long blocks shall be, which is left out of the options. */
  hasBlockLength: boolean;
}

/**
 * Takes `rsync --server OPTION... . DESTINATION` apart: known options only.
 * @param refused names of options that the operator refuses
 * @throws {Refusal}
 */
export function parseReceiver([program = '', server, ...words]: string[], refused: ReadonlySet<string>): Receiver {
  if (basename(program) !== 'rsync' || server !== '--server') throw new Refusal(t`只允许 rsync 向本机写入镜像`);
  const found: Receiver = { options: [], directories: [], destination: '', hasBlockLength: false };
  while (words[0] !== '.') {
    const word = words[0];
    if (word === undefined) throw new Refusal(t`rsync 命令不完整`);
    const refusal = refusalOf(word, refused);
    if (refusal) throw new Refusal(t`REFUSE_OPTIONS 不允许 rsync 选项 ${refusal}`);
    takeOption(words, found);
  }
  if (words.length !== 2) throw new Refusal(t`rsync 命令应只有一个目标目录`);
  return { ...found, destination: words[1] ?? '' };
}

/**
 * Takes the first option off the words.
 * @throws {Refusal} where it is not a known one
 */
function takeOption(words: string[], found: Receiver): void {
  const blockWords = countBlockWords(words);
  found.hasBlockLength ||= blockWords > 0;
  if (words.splice(0, blockWords).length > 0) return;
  const word = words.shift() ?? '';
  const { name, value } = readLong(word);
  if (DIRECTORIES.includes(name)) {
    const directory = value ?? words.shift() ?? '';
    found.directories.push(directory);
    found.options.push(`--${name}=${directory}`);
  } else if (isHarmless(word)) found.options.push(withoutPartsInPlace(word));
  else throw new Refusal(t`不允许 rsync 选项 ${word}`);
}
