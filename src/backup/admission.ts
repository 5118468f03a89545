/**
 * What lets sessions in: which start of the service they belong to, and which directory DEST_DIR was then. The service
 * writes it beside its socket, and each session reads it.
 *
 *   writeAdmission(file, { start: randomUUID(), boot, place, reason });
 *   const { start } = admit(); // in a session; throws where DEST_DIR is another directory by now
 */
import { type BigIntStats, lstatSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from '../service/files.ts';
import { backupCommand } from '../service/source-names.ts';
import { Failure, reasonOf, t } from '../service/text.ts';
import { Refusal } from './confinement.ts';
import { MARK_VARIABLE, promotedIn } from './promotion-mark.ts';

/** What tells a directory from any other one as long as its file system is mounted. */
export interface Place {
  device: string;
  /** '' where the file system gives the same directory another number after a while. */
  inode: string;
  /** When the directory was made, ns since 1970; 0 where the file system does not tell. */
  birth: string;
}

/** What a session needs to know of the service. */
export interface Admission {
  /** A random name of this start; it is another one as well after DEST_DIR, or what is mounted in it, has changed. */
  start: string;
  /** The kernel's name of this boot. */
  boot: string;
  /** DEST_DIR as it was at the start; null while nothing can be received. */
  place: Place | null;
  /** Why nothing can be received, or would not be if DEST_DIR were another directory than `place`. */
  reason: string;
  /**
   * The fingerprint of the key whose sessions are let in, by the name of its source. Of the one without a name it does not count where it is
   * '' or missing.
   */
  keys: Record<string, string>;
  /** Why nothing is received of a source, whose directory is not what it should be; by its name. */
  barred?: Record<string, string>;
  /** How often each source has been let in again by itself, where it was: to it, that is another start. */
  turns?: Record<string, number>;
}

/** The variable by which a command of the source's key is known: the fingerprint of that key. The commands cannot change it. */
export const KEY_VARIABLE = 'START_SSHD_KEY';

/** The variable by which a session knows the name of its source, which has one. It comes from authorized_keys, never from the client. */
export const SOURCE_VARIABLE = 'START_SSHD_SOURCE';

/** Why nothing is received into DEST_DIR as it is: the source will ask again and again. */
export class Barred extends Refusal {}

/** Why nothing is run at all: the backup has taken over. The source knows it by the first words. */
export class Promoted extends Refusal {
  constructor() {
    const how = backupCommand('--demote', process.env[SOURCE_VARIABLE]);
    super(t`备份端已接管 (start-sshd --promote)，不接收镜像，直到在备份端执行 ${how}`);
  }
}

/** Why nothing is run over this connection any more: the login that it has begun with does not count. */
export class Outdated extends Refusal {}

/** Ends the connection of this session: over another one its key may be let in, by the name that its source has now. */
export function endConnection(): void {
  try {
    const isSshd = readFileSync(`/proc/${process.ppid}/comm`, 'latin1').startsWith('sshd');
    if (isSshd) process.kill(process.ppid, 'SIGTERM');
  } catch {} // it has ended
}

/** Takes from the status of a directory what tells it from others. */
export const placeOf = ({ dev, ino, birthtimeNs }: BigIntStats): Place => ({
  device: String(dev),
  inode: String(ino),
  birth: String(birthtimeNs),
});

/** Whether an error says that nothing is there, and not that it cannot be known what is. */
export const isAbsence = (cause: unknown) =>
  ['ENOENT', 'ENOTDIR', 'ELOOP'].includes((cause as NodeJS.ErrnoException).code ?? '');

/** Whether a directory is the one that is known. */
export const isSamePlace = (known: Place, found: Place) =>
  known.device === found.device && known.birth === found.birth && ['', found.inode].includes(known.inode);

/**
 * Has all sessions that begin from now on go by this.
 * @throws {Failure}
 */
export function writeAdmission(file: string, admission: Admission): void {
  try {
    replaceFile(file, JSON.stringify(admission), 0o600);
  } catch (cause) {
    throw new Failure(t`无法写入 ${file}：${reasonOf(cause)}。请检查磁盘空间`);
  }
}

/**
 * Reads what the service lets this session do.
 * @throws {Refusal} where there is no service @throws {Outdated} where there is none any more, for another one may be reached by another connection
 */
export function readAdmission(): Admission {
  const { START_SSHD_ADMISSION: file } = process.env;
  if (!file) throw new Refusal(t`只能经由 start-sshd 启动的 sshd 使用`);
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw isAbsence(cause) ? new Outdated(t`这个连接所属的 start-sshd 已停止`) : cause;
  }
}

/**
 * Lets this session go on if it has logged in by the key that is in force now: another one may have taken its place since, while the
 * connection stood.
 * @param key the fingerprint of the key of this session
 * @throws {Outdated}
 */
export function admitKey(key: string | undefined): void {
  const { [SOURCE_VARIABLE]: name = '' } = process.env;
  const inForce = new Map(Object.entries(readAdmission().keys ?? {})).get(name);
  const isIn = name ? key && key === inForce : !key || !inForce || key === inForce;
  if (!isIn) throw new Outdated(t`登录所用的公钥已不再有效`);
}

/**
 * Lets this session go on unless the backup has taken over.
 * @throws {Promoted}
 */
export function admitUnlessPromoted(): void {
  const { [MARK_VARIABLE]: mark } = process.env;
  if (mark && promotedIn(mark, ownDirectory())) throw new Promoted();
}

/**
 * Lets this session use DEST_DIR.
 * @throws {Barred} where it is not the directory that it was at the start
 * @throws {Promoted} where the backup has taken over
 */
export function admit(): Admission {
  admitUnlessPromoted();
  const admission = readAdmission();
  const { place, reason } = admission;
  const found = place && findPlace(process.env.DEST_DIR ?? '');
  if (!found || !isSamePlace(place, found)) throw new Barred(reason);
  admitDirectory();
  const { [SOURCE_VARIABLE]: name = '' } = process.env;
  const bar = new Map(Object.entries(admission.barred ?? {})).get(name);
  if (bar) throw new Barred(bar);
  const turn = new Map(Object.entries(admission.turns ?? {})).get(name);
  return turn ? { ...admission, start: `${admission.start}-${turn}` } : admission;
}

/** Where this session may write: DEST_DIR, or what is in it for a source that has a name. */
export function ownDirectory(): string {
  const { DEST_DIR = '', [SOURCE_VARIABLE]: name } = process.env;
  return name ? join(DEST_DIR, name) : DEST_DIR;
}

/**
 * Lets this session use the directory of its source: nobody but the service makes it, and it leads nowhere else.
 * @throws {Barred}
 */
function admitDirectory(): void {
  if (!process.env[SOURCE_VARIABLE]) return;
  const directory = ownDirectory();
  if (lstatSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
  throw new Barred(t`${directory} 不存在或不是目录，不接收镜像：请在备份端检查，移走占用此名称的文件或链接`);
}

function findPlace(path: string): Place | undefined {
  try {
    return placeOf(statSync(path, { bigint: true }));
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}
