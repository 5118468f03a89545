/**
 * What a program tells of itself: its parts say when they have changed, and whoever looks sees it soon afterwards.
 *
 *   const publisher = new Publisher(() => ({ program: 'start-sshd', … }));
 *   publisher.on('published', () => statusFile.write());
 *   touch();
 */
import { EventEmitter } from 'node:events';
import { realpathSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readSmallFile } from './files.ts';
import { makePlace, type Place } from './foreign.ts';
import type { Answer } from './lifecycle.ts';
import { type Complaint, onComplaint, warn, warnOfOthers } from './log.ts';
import { escapeText, Failure, localTime, onOneLine, reasonOf, t, toJson } from './text.ts';

/** How soon a change of the state can be seen from outside, and how often it is told that nothing has changed, ms. */
const PUBLISH_MS = 500;
export const HEARTBEAT_MS = 10_000;
/** How long anybody waits for the state to be written, ms: the disk may hang. */
const HANG_MS = 1000;
/** A state that is older says nothing about a running service, ms. */
const STALE_MS = 30_000;
/** How large a status may be, bytes. */
const MAX_STATUS_BYTES = 64_000_000;
/** How many warnings and errors are kept to be looked at. */
const MAX_COMPLAINTS = 20;

/** The last warnings and errors, newest first, and how often each has come. */
export const complaints: (Complaint & { count: number })[] = [];

onComplaint((complaint) => {
  const isSame = ({ event, message }: Complaint) => event === complaint.event && message === complaint.message;
  const known = complaints.findIndex(isSame);
  const count = (known >= 0 ? (complaints.splice(known, 1)[0]?.count ?? 0) : 0) + 1;
  complaints.unshift({ ...complaint, count });
  complaints.splice(MAX_COMPLAINTS);
  touch();
});

const changes = new EventEmitter();

/** Says that something has changed that the status tells. */
export function touch(): void {
  changes.emit('changed');
}

/** Has the state be shown whenever somebody waits for that; returns what ends it. */
export function onShow(show: () => Promise<unknown>): () => void {
  const listener = (shown: Promise<unknown>[]) => shown.push(show());
  changes.on('awaited', listener);
  return () => changes.off('awaited', listener);
}

/** Shows the state at once: whoever looks after that sees what was changed by now, if the disk answers. */
export async function showNow(): Promise<void> {
  const shown: Promise<unknown>[] = [];
  changes.emit('awaited', shown);
  if (shown.length > 0) await Promise.race([Promise.all(shown), sleep(HANG_MS, undefined, { ref: false })]);
}

/** Publishes the state as it is, at most once every PUBLISH_MS, and at least once every HEARTBEAT_MS. Emits `published` with it. */
export class Publisher<S extends object = object> extends EventEmitter {
  /** The state as it was published last, as JSON. */
  shown = '';
  /** The next time that it is published, if it has changed. */
  private next: NodeJS.Timeout | undefined;

  constructor(private readonly report: () => S) {
    super();
    this.setMaxListeners(0);
    changes.on('changed', () => {
      this.next ??= setTimeout(() => this.publish(), PUBLISH_MS);
    });
    setInterval(() => this.publish(), HEARTBEAT_MS);
  }

  publish(): void {
    clearTimeout(this.next);
    this.next = undefined;
    const state = this.report();
    this.shown = toJson(state);
    this.emit('published', state);
  }
}

/** A file that always holds the newest state, replaced whole. What goes wrong with it is told once until it works again. */
export class StateFile {
  private isBroken = false;
  private isOld = false;
  private writing: Promise<void> | undefined;

  constructor(
    private readonly name: 'STATUS_FILE' | 'METRICS_FILE',
    private readonly path: string,
    private readonly content: () => string | Promise<string>,
  ) {}

  /** Writes the newest state. Where the disk hangs, one write hangs with it, and nothing else. */
  write(): Promise<void> {
    this.isOld = true;
    this.writing ??= this.keepUp().finally(() => {
      this.writing = undefined;
    });
    return this.writing;
  }

  private async keepUp(): Promise<void> {
    while (this.isOld) {
      this.isOld = false;
      await this.replace();
    }
  }

  private async replace(): Promise<void> {
    try {
      await using place = await makePlace(this.path);
      warnOfOthers(this.name, this.path, place.concern);
      await replaceIn(place, basename(this.path), await this.content());
      this.isBroken = false;
    } catch (cause) {
      const what = t`无法写入 ${this.name}=${escapeText(this.path)}：${reasonOf(cause)}`;
      if (!this.isBroken) warn('status.failed', t`${what}。请检查目录和权限，或更改 ${this.name}`);
      this.isBroken = true;
    }
  }
}

/** Writes a file whole or not at all, for everybody to read. */
async function replaceIn(place: Place, name: string, content: string): Promise<void> {
  const temporary = place.at(`${name}.${process.pid}.tmp`);
  await rm(temporary, { force: true });
  try {
    await using file = await open(temporary, 'wx');
    await file.chmod(0o644); // whatever the umask
    await file.writeFile(content);
    await rename(temporary, place.at(name));
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {});
    throw cause;
  }
}

/** What the status of any program tells. */
interface AnyStatus {
  program: string;
  version: string;
  pid: number;
  started: string;
  updated: string;
}

/** Why the status of a service cannot be read: `isAbsent` where there is no such file. */
export class NoStatus extends Failure {
  constructor(
    message: string,
    readonly isAbsent: boolean,
  ) {
    super(message);
  }
}

/**
 * Reads what the running service of a program says of itself; no other variable counts.
 * @throws {NoStatus}
 */
export function readStatusFile<S extends AnyStatus>(program: string, fallback: string): S {
  const path = resolve(process.env.STATUS_FILE || fallback);
  try {
    const status = JSON.parse(readSmallFile(realpathSync(path), MAX_STATUS_BYTES), (_, value) =>
      typeof value === 'string' ? onOneLine(value) : value,
    );
    if (status.program !== program) throw new Error(t`是 ${status.program} 的状态`);
    return status;
  } catch (cause) {
    const isAbsent = ['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '');
    const what = t`无法读取状态文件 ${escapeText(path)}：${reasonOf(cause)}`;
    throw new NoStatus(t`${what}。服务没有运行，或 STATUS_FILE 不同`, isAbsent);
  }
}

/** Says how old a status is, seconds, and whether it says nothing any more. The clock may have been set back since. */
export function ageOf({ updated }: AnyStatus, now: number): { age: number; isStale: boolean } {
  const age = now - Date.parse(updated);
  return { age: Math.round(age / 1000), isStale: Math.abs(age) > STALE_MS };
}

/** Answers --healthcheck with what `judge` says of the status, or why there is none. */
export function checkHealth(judge: () => { healthy: boolean; line: string }): Answer {
  try {
    const { healthy, line } = judge();
    return { text: `${line}\n`, status: healthy ? 0 : 1 };
  } catch (cause) {
    return { text: t`不健康: ${reasonOf(cause)}\n`, status: 1 };
  }
}

/** Writes the first line of --status. */
export const describeProgram = ({ program, version, pid, started }: AnyStatus) =>
  t`${program} ${version} (PID ${pid})，启动于 ${localTime(started)}`;

/** Writes the last lines of --status. */
export function describeComplaints(errors: Complaint[]): string[] {
  if (errors.length === 0) return [];
  const latest = errors.slice(0, 5);
  const lines = latest.map(({ time, level, message }) => `  [${level.toUpperCase()} ${localTime(time)}] ${message}`);
  return ['', t`最近的警告和错误:`, ...lines];
}
