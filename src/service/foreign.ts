/**
 * Files in directories in which other users may write: what they put there leads us nowhere else, whatever we are allowed to.
 *
 *   await using place = await makePlace('/home/web/log/status.json');
 *   await rename(place.at('status.json.tmp'), place.at('status.json'));
 */
import { constants, readFileSync, type Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { O_PATH } from './files.ts';
import { t } from './text.ts';

/** How many links are followed on a way, as the kernel does. */
const MAX_LINKS = 40;
/** The bit of a mode that lets everybody write. */
const WORLD_WRITABLE = 0o002;
const DIRECTORY = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** A directory that stays the one that was found, and a name in it that need not be there. */
export interface Place extends AsyncDisposable {
  /** Where something in it is, whatever becomes of the path that led there. */
  at(name: string): string;
  /** What the path names in it. */
  name: string;
  /** What others may do there, for people; '' where nobody but root and our own user may write. */
  concern: string;
  directory: Stats;
}

let strangers: number[] | undefined;

/** Users of which nothing is known in a user namespace: that is whose the outside is, be it root's (user_namespaces(7)). */
function outsiders(): number[] {
  strangers ??= /^\s*0\s+0\s+4294967295$/m.test(readFileSync('/proc/self/uid_map', 'latin1')) ? [] : [65534];
  return strangers;
}

/** Whether a user is root, or the one that we are: others are not to lead us anywhere. */
export const isTrusted = (uid: number) => uid === 0 || uid === process.getuid?.() || outsiders().includes(uid);

function concernOf({ uid, mode }: Stats): string {
  if (mode & WORLD_WRITABLE) return t`所有用户都可以写入`;
  return isTrusted(uid) ? '' : t`属于用户 ${uid}`;
}

/** Finds the directory that a file is in. @param path absolute @throws where it is not there, or somebody else may lead us elsewhere */
export const findPlace = (path: string) => walk(`${dirname(path)}/.`, (_, cause) => Promise.reject(cause));

/** Finds the directory that a file is in, and makes what is missing of it. @throws as `findPlace` does */
export const makePlace = (path: string) => walk(`${dirname(path)}/.`, make);

const make = (path: string) => mkdir(path, { recursive: true }); // which is done where somebody else has just made it

/** Looks at what a name is: nothing where it is not there. */
const look = (path: string) =>
  lstat(path).catch((cause) => (cause.code === 'ENOENT' ? undefined : Promise.reject(cause)));

/**
 * Goes along a path name by name. A link is followed where nobody but root and our own user can have put it there.
 * @param miss is called with a directory that is missing
 */
async function walk(path: string, miss: (path: string, cause: Error) => Promise<unknown>): Promise<Place> {
  await using opened = new AsyncDisposableStack();
  const enter = async (name: string) => opened.use(await open(name, DIRECTORY));
  let here = await enter('/');
  const at = (name: string) => `/proc/self/fd/${here.fd}/${name}`;
  let links = 0;
  for (let names = namesOf(path); ; ) {
    const [name = '.', ...rest] = names;
    const found = await look(at(name));
    if (found?.isSymbolicLink()) {
      if (++links > MAX_LINKS) throw new Error(t`${path} 经过的链接太多`);
      const concern = concernOf(await here.stat());
      if (concern) throw new Error(t`不跟随 ${path} 中的链接 ${name}：它所在的目录${concern}`);
      const leads = await readlink(at(name));
      if (leads.startsWith('/')) here = await enter('/');
      names = [...namesOf(leads), ...rest];
    } else if (rest.length === 0) {
      const [directory, { fd }, held] = [await here.stat(), here, opened.move()];
      const inside = (it: string) => `/proc/self/fd/${fd}/${it}`;
      return {
        at: inside,
        name,
        directory,
        concern: concernOf(directory),
        [Symbol.asyncDispose]: () => held.disposeAsync(),
      };
    } else {
      if (!found) await miss(at(name), Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' }));
      here = await enter(at(name));
      names = rest;
    }
  }
}

const namesOf = (path: string) => path.split('/').filter(Boolean);

/**
 * Opens a file to append to it, which is made with its directory where it is missing.
 * @param path absolute
 * @returns it, and what others may do there
 * @throws where it is none of ours although it may seem so: a link or a name of another file that somebody else has put there
 */
export async function openToAppend(path: string): Promise<{ file: FileHandle; concern: string }> {
  await using place = await walk(path, make);
  const spot = place.at(place.name);
  const before = await look(spot);
  if (before) refuse(before, place); // before anything waits for the other end of a pipe
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
  const file = await open(spot, flags | constants.O_NONBLOCK, 0o666);
  try {
    refuse(await file.stat(), place);
    return { file, concern: place.concern };
  } catch (cause) {
    await file.close();
    throw cause;
  }
}

/** @throws where a file is none to be written to as it is */
function refuse(file: Stats, { concern, directory }: Place): void {
  if (!file.isFile()) throw new Error(t`不是普通文件`);
  if (!concern) return;
  if (file.nlink > 1) throw new Error(t`有 ${file.nlink} 个硬链接，而目录${concern}`);
  const isAnybodys = (directory.mode & WORLD_WRITABLE) !== 0 && file.uid !== directory.uid;
  if (isAnybodys && !isTrusted(file.uid)) throw new Error(t`属于用户 ${file.uid}，而目录${concern}`);
}
