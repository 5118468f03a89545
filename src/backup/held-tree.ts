/**
 * Walks trees in which others may put links and rename directories meanwhile: each directory is opened in the one before, and no link is
 * followed.
 *
 *   using top = Held.open('/data/backup/.history');
 *   for (const name of top.names()) top.statusOf(name); // bytes in latin1 strings
 */
import { ptr } from 'bun:ffi';
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { O_PATH } from '../service/files.ts';
import { cFunctions } from '../service/libc.ts';

const PLACE = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** The number of getdents64(2), how much of a directory is read at a time, bytes, and where an entry has its length and its name. */
const GET_ENTRIES = process.arch === 'arm64' ? 61 : 217;
const CHUNK = 65_536;
const [LENGTH, NAME] = [16, 19];

/** All read into the same place, and take the names from there at once. */
let chunk: Buffer | undefined;
let calls: ReturnType<typeof systemCalls> | undefined;
const systemCalls = () => cFunctions({ syscall: { args: ['i64', 'i64', 'ptr', 'i64'], returns: 'i32' } });

/** After how many names what they have left behind is collected: by itself it piles up to several times what is in use. */
const COLLECT = 20_000;
let uncollected = 0;

/** Finds the names in what the kernel has said of a directory. */
function namesIn(entries: Buffer, length: number): string[] {
  const names: string[] = [];
  for (let from = 0; from < length; from += entries.readUInt16LE(from + LENGTH)) {
    const name = entries.toString('latin1', from + NAME, entries.indexOf(0, from + NAME));
    if (name !== '.' && name !== '..') names.push(name);
  }
  uncollected += names.length;
  if (uncollected < COLLECT) return names;
  uncollected = 0;
  Bun.gc(true);
  return names;
}

/** Reads a directory piece by piece; once its end was read it is not open any more. */
class Reader implements Disposable {
  private file: number | undefined;

  constructor(path: Buffer) {
    this.file = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  /** Reads the next names, nothing at its end. @throws where the disk does not say them */
  next(): string[] | undefined {
    if (this.file === undefined) return undefined;
    chunk ??= Buffer.alloc(CHUNK);
    const length = calls?.syscall(GET_ENTRIES, this.file, ptr(chunk), CHUNK) ?? -1;
    if (length > 0) return namesIn(chunk, length);
    const isThere = length === 0 || fstatSync(this.file).nlink > 0; // or it was removed meanwhile
    this[Symbol.dispose]();
    if (length < 0 && isThere) throw Object.assign(new Error('EIO'), { code: 'EIO' });
    return undefined;
  }

  [Symbol.dispose](): void {
    if (this.file !== undefined) closeSync(this.file);
    this.file = undefined;
  }
}

/** A directory that is held open. */
export class Held implements Disposable {
  private constructor(readonly fd: number) {}

  /** Opens a directory by its real path. @throws where there is none */
  static open(path: string): Held {
    return new Held(openSync(Buffer.from(path, 'latin1'), PLACE));
  }

  /** Names an entry for the kernel, wherever the directory has been moved meanwhile. */
  at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }

  /** Opens a directory in this one. @throws where there is none, be it a link to one */
  enter(name: string): Held {
    return new Held(openSync(this.at(name), PLACE));
  }

  /** Opens a directory by a relative path, nothing where it is not there. */
  find(path: string): Held | undefined {
    let place: Held = this.enter('.');
    try {
      for (const name of path.split('/').filter(Boolean)) {
        using above = place;
        place = above.enter(name);
      }
      return place;
    } catch {
      return undefined; // what was open is closed
    }
  }

  /**
   * Opens a directory by a relative path, which is made as far as it is not there.
   * @param made is told of each that was made, with how many names lead to it
   * @throws where something else is in the way
   */
  make(path: string, made: (at: Buffer, depth: number) => void = () => {}): Held {
    let place: Held = this.enter('.');
    for (const [n, name] of path.split('/').filter(Boolean).entries()) {
      using above = place;
      try {
        place = above.enter(name);
      } catch {
        mkdirSync(above.at(name), 0o700);
        made(above.at(name), n + 1);
        place = above.enter(name);
      }
    }
    return place;
  }

  /** Lists the names of the entries. */
  names(): string[] {
    return readdirSync(this.at('.'), { encoding: 'latin1' });
  }

  /**
   * Lists the names one after the other, in memory that is the same however many there are. What comes and goes meanwhile may be among
   * them or not; what was read to its end is not held open.
   */
  *entries(): Generator<string> {
    calls ??= systemCalls();
    if (!calls) return yield* this.names();
    using reader = new Reader(this.at('.'));
    for (let names = reader.next(), more: typeof names; names; names = more) {
      more = reader.next(); // which closes it at its end: a walk that goes deep needs its files
      yield* names;
    }
  }

  /** Looks at an entry, nothing where it is gone. */
  statusOf(name: string): BigIntStats | undefined {
    try {
      return lstatSync(this.at(name), { bigint: true });
    } catch {
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Something that was met on a walk. */
export interface Met {
  place: Held;
  name: string;
  /** Its path from where the walk has begun. */
  path: string;
  status: BigIntStats;
}

/** How deep a tree is walked, as deep as a path may be: each level holds a file open. */
const MAX_DEPTH = 2048;

/**
 * Visits all below a directory, a directory before what is in it.
 * @param visit returns what keeps a directory from being entered: `skip`
 * @param leave is told of each directory once all in it was visited
 */
export function walkTree(top: Held, visit: (met: Met) => unknown, leave: (met: Met) => unknown = () => {}): void {
  const walk = (place: Held, above: string, depth: number) => {
    for (const name of place.entries()) {
      const status = place.statusOf(name);
      if (!status) continue;
      const met = { place, name, path: above + name, status };
      if (visit(met) === 'skip' || !status.isDirectory() || depth >= MAX_DEPTH) continue;
      const inside = place.find(name);
      if (!inside) continue;
      try {
        walk(inside, `${met.path}/`, depth + 1);
      } finally {
        inside[Symbol.dispose]();
      }
      leave(met);
    }
  };
  walk(top, '', 0);
}

/** Removes a directory that is empty; returns whether it was. */
export function removeEmpty(place: Held, name: string): boolean {
  try {
    rmdirSync(place.at(name));
    return true;
  } catch {
    return false;
  }
}

/** Removes an entry with all that is in it, as far as that is possible. @param removed is told of each that is no directory */
export function removeTree(place: Held, name: string, removed: (status: BigIntStats) => void): void {
  const status = place.statusOf(name);
  if (!status) return;
  if (status.isDirectory()) {
    using inside = place.enter(name);
    for (const it of inside.entries()) removeTree(inside, it, removed);
    removeEmpty(place, name);
  } else {
    unlinkSync(place.at(name));
    removed(status);
  }
}
