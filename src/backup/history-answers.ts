/**
 * Answers --history and --recover.
 *
 *   answerHistory(['--recover', 'web', '--at', '2025-10-09 12:00:00', '--to', '/restore']); // { text: '已恢复 …', status: 0 }
 */
import { type BigIntStats, mkdirSync, readdirSync, realpathSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { isWithin, realPath } from '../service/files.ts';
import type { Answer } from '../service/lifecycle.ts';
import { isSourceName } from '../service/source-names.ts';
import { escapeText, Failure, localTime, reasonOf, showPath, t } from '../service/text.ts';
import { PROGRAM, readConfig } from './config.ts';
import { doorFor } from './door-choice.ts';
import { Doors } from './doors.ts';
import { Archive, type Version } from './history-archive.ts';
import { hasHistory } from './history-door.ts';
import { Listing } from './history-listing.ts';
import { HISTORY, RECOVERED } from './history-names.ts';
import { type Paths, type Recovered, Recovery } from './history-recover.ts';
import { TEND, tendHistory } from './history-tender.ts';

const usage = (what: string) => new Failure(t`用法错误: ${what}。请参阅 ${PROGRAM} --help`, 2);
const latin1 = (path: string) => Buffer.from(path).toString('latin1');

/**
 * Answers what is asked for about older versions; nothing where something else is asked for.
 * @throws {Failure}
 */
export function answerHistory(args: string[]): Answer | undefined {
  if (args[0] === TEND) return { text: JSON.stringify(tendHistory(args[1] ?? '')), status: 0 };
  if (!args.some((it) => it === '--history' || it === '--recover')) return undefined;
  const { values, positionals } = read(args);
  if (values.history && values.recover) throw usage(t`--history 和 --recover 不能同时使用`);
  if (values.history) return list(positionals, values);
  return recover(positionals, values);
}

function read(args: string[]) {
  const options = {
    history: { type: 'boolean' },
    recover: { type: 'boolean' },
    at: { type: 'string' },
    to: { type: 'string' },
    source: { type: 'string' },
  } as const;
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (cause) {
    throw usage(reasonOf(cause));
  }
}

interface Opened {
  archive: Archive;
  root: string;
  /** The directories of all sources. */
  directories: string[];
}

/**
 * Opens what there is of a source. Where its disk has come from another backup, nothing else is known here of it.
 * @param name of the source @throws {Failure}
 */
function openArchive(name: string | undefined): Opened {
  const config = readConfig(process.env);
  const doors = new Doors(config).list();
  const stray = name && isSourceName(name) && hasHistory(join(config.DEST_DIR, name)) ? name : undefined;
  const isKnown = doors.some((door) => door.name === name);
  const directory = stray && !isKnown ? join(config.DEST_DIR, stray) : doorFor(doors, name).directory;
  try {
    const root = realpathSync(directory);
    return { archive: new Archive(latin1(root)), root, directories: doors.map((door) => door.directory) };
  } catch (cause) {
    throw new Failure(t`无法读取 DEST_DIR=${directory}：${reasonOf(cause)}`);
  }
}

/** Takes a path relative to the directory of a source, or a whole one within it. @throws {Failure} */
function pathWithin(root: string, word: string): string {
  const path = resolve(root, word);
  if (!isWithin(path, root)) throw usage(t`${escapeText(word)} 不在 DEST_DIR=${root} 之内`);
  return latin1(relative(root, path));
}

// ── --history ────────────────────────────────────────────────────────────────────────────────────

interface Wish {
  at?: string;
  to?: string;
  source?: string;
}

function list(words: string[], { at, to, source }: Wish): Answer {
  if (words.length > 1 || at !== undefined || to !== undefined) throw usage(t`应为 --history [路径]`);
  const { archive, root } = openArchive(source);
  using _ = archive;
  const path = pathWithin(root, words[0] ?? '.');
  const isWanted = (it: string) => path === '' || isWithin(it, path) || isWithin(path, it);
  const listing = new Listing();
  const add = ({ path: it, until }: Version, { size }: BigIntStats) => {
    if (path === '' || isWithin(it, path)) listing.add({ until, size: Number(size), path: it });
  };
  archive.visitVersions(Number.NEGATIVE_INFINITY, isWanted, { version: add, former: add, directory: () => {} });
  return listing.length === 0 ? { text: t`没有旧版本\n`, status: 0 } : { text: '', more: listing.pieces(), status: 0 };
}

// ── --recover ────────────────────────────────────────────────────────────────────────────────────

const TIME = /^(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:?\d\d)?$/;

/**
 * Reads a time: local time as the log shows it, or ISO 8601; one that is still to come is now.
 * @throws {Failure}
 */
export function readTime(text: string, now = Date.now()): number {
  const [, year, month, day, hour = '00', minute = '00', second = '00', zone = ''] = TIME.exec(text) ?? [];
  const isDay =
    new Date(`${year}-${month}-${day}T00:00:00Z`).toString() !== 'Invalid Date' && Number(day) <= daysOf(year, month);
  const offset = zone.replace(/^([+-]\d\d)(\d\d)$/, '$1:$2');
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second.padStart(2, '0')}${offset}`);
  if (isDay && !Number.isNaN(time)) return Math.min(time, now);
  throw usage(t`--at ${escapeText(text)} 应为本地时间或 ISO 8601，例如 "2025-10-09 12:00:00" 或 2025-10-09T12:00:00Z`);
}

const daysOf = (year = '', month = '') => new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();

function recover(words: string[], { at, to, source }: Wish): Answer {
  if (!at || !to) throw usage(t`应为 --recover [路径…] --at 时间 --to 目录`);
  const time = readTime(at);
  const { archive, root, directories } = openArchive(source);
  using _ = archive;
  const paths = words.map((word) => pathWithin(root, word)).filter(Boolean);
  const target = prepareTarget(to, root, directories);
  using recovery = new Recovery(archive, { at: time, to: latin1(target), paths });
  const recovered = recovery.run();
  const isEarly = time < (archive.since ?? Number.POSITIVE_INFINITY);
  const lines = describe(recovered, { target, time, isEarly });
  return { text: `${lines.join('\n')}\n`, status: recovered.failed.count > 0 ? 1 : 0 };
}

/** Makes the directory to recover into. @throws {Failure} where it is not empty, or a mirror would delete what is in it */
function prepareTarget(to: string, root: string, directories: readonly string[]): string {
  const path = resolve(to);
  let target: string;
  try {
    const real = realPath(path);
    const place = join(root, HISTORY, RECOVERED);
    const isApart = hasHistory(root) && isWithin(real, place) && real !== place;
    const mirrored = [root, ...directories.map(realPath)].find((directory) => isWithin(real, directory));
    if (mirrored !== undefined && !isApart)
      throw new Failure(t`它在 DEST_DIR=${mirrored} 之内，下一次镜像会删除它（${place} 之下的目录除外）`);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    target = realpathSync(path);
    if (readdirSync(target).length > 0) throw new Failure(t`目录不是空的`);
  } catch (cause) {
    throw new Failure(t`无法恢复到 ${escapeText(path)}：${reasonOf(cause)}。请给出一个空目录`);
  }
  return target;
}

function describe(
  it: Recovered,
  { target, time, isEarly }: { target: string; time: number; isEarly: boolean },
): string[] {
  const done = t`已把 ${localTime(new Date(time))} 时的内容恢复到 ${escapeText(target)}：${it.files} 个文件，${it.directories} 个目录`;
  const early = t`当时的旧版本可能已过期，或尚未开始保留：此后被替换或删除的文件可能缺失或较新`;
  return [
    done,
    ...(isEarly ? [early] : []),
    ...named(it.thinned, t`的版本可能已被精简，恢复的是此前最近的版本，也可能当时并不存在`),
    ...named(it.unborn, t`无法得知当时是否已存在（内层挂载，或文件系统不记录创建时间）`),
    ...named(it.plain, t`的属主、时间或扩展属性未能完全恢复`),
    ...named(it.failed, t`未能恢复`),
    t`无法得知：当时为空、现已不在的目录；其后只改动过的属主、权限和时间`,
  ];
}

function named({ count, first }: Paths, what: string): string[] {
  if (count === 0) return [];
  const more = count > first.length ? [t`  … 另有 ${count - first.length} 个`] : [];
  return [t`${count} 个文件${what}:`, ...first.map((path) => `  ${showPath(path)}`), ...more];
}
