/**
 * Whether a watcher that says nothing would say something: one that was stopped, or hangs, runs all the same. It also watches a
 * file of ours that nobody else can reach, so that it can be asked at any time, also whether it has told all that has happened.
 *
 *   if (await hangs(watcher, ended)) replace(watcher);
 */
import { closeSync, constants, fstatSync, ftruncateSync, futimesSync, openSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { watchable } from './watchable.ts';

/** How long a watcher may say nothing before it is asked, ms. */
const QUIET_MS = 20_000;
/** How often it is looked for its answer, and how long to wait each time, ms. */
const LOOKS = 15;
const LOOK_MS = 1000;
/** When a look is late, ms: then we were not let run ourselves, so that it says nothing of the watcher. */
const LATE_MS = 2 * LOOK_MS;

/** What is asked whether it still tells of what happens. */
export interface Talker {
  /** How often it has said something: all that it says is a sign of life. */
  readonly told: number;
  /** Whether it has ever told of the file of ours: where it cannot be seen to change, no answer is no sign of anything. */
  readonly hasAnswered: boolean;
  /** Whether it was stopped by a signal. */
  readonly isStopped: boolean;
  /** Does something of which it is to tell; returns whether that could be done. */
  ask(): boolean;
}

/** Resolves with true once a watcher hangs, with false when it has ended. */
export async function hangs(talker: Talker, ended: AbortSignal): Promise<boolean> {
  while (!ended.aborted && !lifecycle.stopping) {
    const { told } = talker;
    await lifecycle.pause(QUIET_MS, ended);
    if (ended.aborted || talker.told !== told) continue;
    const isAsked = talker.ask();
    const isSilent = await staysSilent(talker, told, ended);
    if (isSilent && ((isAsked && talker.hasAnswered) || talker.isStopped)) return true;
  }
  return false;
}

/** Resolves with whether a watcher says nothing more than it had told for as long as an answer may take. */
async function staysSilent(talker: Talker, told: number, ended: AbortSignal): Promise<boolean> {
  for (let looks = 0; looks < LOOKS; ) {
    const began = performance.now();
    await lifecycle.pause(LOOK_MS, ended);
    if (ended.aborted || talker.told !== told) return false;
    if (performance.now() - began < LATE_MS) looks++;
  }
  return true;
}

/** The file that a watcher watches to that end, each its own, which has no name: nobody removes it, and it is gone when we are. */
export interface Probe {
  /** Its descriptor. */
  readonly file: number;
  /** Its inode in hexadecimal. */
  readonly inode: string;
  /** Has the watcher tell of a new time of it; returns whether that could be done. */
  touch(): boolean;
  /** Has the watcher tell of new content of it, after all that has happened before; returns whether that could be done. */
  mark(): boolean;
  close(): void;
}
/** As a watcher knows it, which has it open. */
export const PROBE = '/proc/self/fd/4';

/** Where such files can be made and watched. */
let place: string | undefined;

/** Finds such a place, in memory if possible, so that no disk has to run for it. */
export async function prepareProbe(): Promise<void> {
  place = undefined;
  for (const directory of ['/dev/shm', '/run', tmpdir(), '/tmp']) {
    const probe = makeProbe(directory);
    if (!probe) continue;
    if ((await watchable([PROBE], probe.file)).length > 0) place = directory;
    probe.close();
    return;
  }
}

/** Makes such a file, where there is a place for it. */
export const newProbe = () => (place === undefined ? undefined : makeProbe(place));

function makeProbe(directory: string): Probe | undefined {
  const path = join(directory, `.rsync-inotify-${crypto.randomUUID()}`);
  try {
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    unlinkSync(path);
    const inode = fstatSync(file, { bigint: true }).ino.toString(16);
    let isOpen = true;
    const touch = () => isOpen && succeeds(() => futimesSync(file, new Date(), new Date()));
    const mark = () => isOpen && succeeds(() => ftruncateSync(file, 0)); // that needs no room, and is an event each time
    const close = () => {
      if (isOpen) closeSync(file);
      isOpen = false;
    };
    return { file, inode, touch, mark, close };
  } catch {
    return undefined; // it may be read-only, for example
  }
}

function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false; // its file system may have become read-only
  }
}
