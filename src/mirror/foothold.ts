/**
 * How an rsync that has waited elsewhere gets to the source. It must not wait there: nobody could unmount the source then.
 *
 *   using foothold = new Foothold(source);
 *   rsync.stdin.end(foothold.locate(names));
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readlinkSync, statSync } from 'node:fs';
import { O_PATH } from '../service/files.ts';
import type { Source } from './source.ts';

/** Where the files that this process holds open are found by others (proc(5)). */
const FILES = `/proc/${process.pid}/fd`;

/** How long a name may be so that there is room before it for the way to the source, bytes: rsync cuts what is longer than PATH_MAX. */
const MAX_NAME = 4000;

/** Whether each of these names, with a zero byte behind it, leaves room for the way to the source. */
export function leaveRoom(names: Buffer): boolean {
  for (let start = 0; start < names.length; ) {
    const end = names.indexOf(0, start);
    if (end - start > MAX_NAME) return false;
    start = end + 1;
  }
  return true;
}

/** Holds on to what names of the source are relative to, whatever is mounted in its place meanwhile. */
export class Foothold implements Disposable {
  private readonly file: number;
  /** The same place as rsync finds it, and as people know it, from the root of all: bytes in latin1 strings. */
  private readonly path: string;
  private readonly name: string;

  /** @throws {Failure} where the source is not what it was */
  constructor(source: Pick<Source, 'base' | 'prefix' | 'is' | 'check' | 'refuse'>) {
    source.check();
    this.file = openIn(source);
    this.path = `${FILES}/${this.file}`.slice(1);
    this.name = readlinkSync(`/${this.path}`, 'latin1').slice(1);
    if (this.isOf(source)) return;
    this[Symbol.dispose]();
    source.refuse();
  }

  private isOf(source: Pick<Source, 'prefix' | 'is'>): boolean {
    try {
      return source.is(statSync(Buffer.from(`/${this.path}${source.prefix}`, 'latin1'), { bigint: true }));
    } catch {
      return false; // it has gone this moment
    }
  }

  /** Says of names, each with a zero byte behind it, where they are; rsync keeps of each what stands behind the first dot. */
  locate(names: Buffer): Buffer {
    const list = names.toString('latin1').replace(/[^\0]+\0/g, (name) => `${this.path}/./${name}`);
    return Buffer.from(list, 'latin1');
  }

  /** Puts the name that people know into what rsync says; bytes are latin1. */
  readonly explain = (bytes: string): string => bytes.replaceAll(this.path, this.name);

  [Symbol.dispose](): void {
    closeSync(this.file);
  }
}

/** Opens what names are relative to. @throws {Failure} where it has gone this moment */
function openIn(source: Pick<Source, 'base' | 'refuse'>): number {
  try {
    return openSync(source.base, O_PATH | constants.O_DIRECTORY);
  } catch {
    source.refuse();
  }
}

let mayFollow: boolean | undefined;

/** Whether programs that are started find the files that this process holds open; where /proc is restricted, they may not. */
export function mayFindFiles(): boolean {
  if (mayFollow !== undefined) return mayFollow;
  const file = openSync('/', O_PATH | constants.O_DIRECTORY);
  mayFollow = spawnSync('sh', ['-c', 'cd -- "$0"', `${FILES}/${file}`], { stdio: 'ignore' }).status === 0;
  closeSync(file);
  return mayFollow;
}
