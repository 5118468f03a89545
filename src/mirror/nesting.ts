/**
 * Finds a target that lies within the source on this very machine, and would be mirrored into itself without end, or around it,
 * where the source itself is what rsync would delete.
 *
 *   await refuseNested(host, connection); // throws where that is sure
 */
import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { quote } from 'shlex';
import { isWithin, realPath } from '../service/files.ts';
import { run } from '../service/processes.ts';
import { escapeText, Failure, t } from '../service/text.ts';
import { askBackup, askRemote } from './backup-guard.ts';
import { type Host, isDaemon, nameOf } from './config.ts';
import type { Connection } from './connection.ts';
import { filterWords } from './options.ts';
import { rulesOf } from './scopes.ts';

type Route = Pick<Connection, 'findRoute'>;

/** The kernel's name of this boot, which containers share with their host. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** OverlayFS, by its number of statfs(2): a directory of an image is in all containers of it, and looks the same in all. */
const OVERLAY = '794c7630:';

/**
 * Refuses a target whose copy lies within the source, or the source within it where that deletes. By its path alone it may as
 * well be a directory of a container with the same address: the target has to say that it is the one that is here, too.
 * @throws {Failure} with exit status 2
 */
export async function refuseNested(host: Host, connection: Route): Promise<void> {
  if (isDaemon(host)) return; // where its module lies is not known
  const reason = await reasonToRefuse(host, connection).catch(() => undefined); // the source may be gone this moment
  if (!reason) return;
  throw new Failure(t`配置错误: ${nameOf(host)} 就在本机上，${reason}。请更改 DEST_DIR 或 SOURCE_DIR`, 2);
}

/** Says what would become of a copy on this machine, nothing where it would be well, or is not known to be here. */
async function reasonToRefuse(host: Host, connection: Route): Promise<string | undefined> {
  const destination = await localPath(host);
  const reason = destination && (await reasonAgainst(host, destination));
  return reason && (await isOnTarget(nearestIn(destination), host, connection)) ? reason : undefined;
}

/** Where a path of the target leads if the target is this machine, nothing where that user has no home here. */
async function localPath({ directory, user }: Host): Promise<string | undefined> {
  if (isAbsolute(directory)) return directory;
  const { stdout } = await run`getent passwd ${user}`;
  const home = stdout.split(':')[5];
  return home && join(home, directory.replace(/^~(\/|$)/, ''));
}

/** Says what would become of a copy that lies there, nothing where all is well. */
async function reasonAgainst(host: Host, destination: string): Promise<string | undefined> {
  const { config, plan } = host;
  const { SOURCE_DIR: given } = config;
  const below = plan.isRelative ? given : given.endsWith('/') ? '' : basename(given);
  const [source, place] = [realPath(given), placeOf(join(destination, below))];
  if (!place) return undefined;
  if (isWithin(place, source)) {
    if (place !== source && (await isLeftOut(host, place, source))) return undefined;
    return t`位于源目录 ${escapeText(given)} 之内，镜像会不断把自己再镜像一遍`;
  }
  if (!plan.deletes || !isWithin(source, place)) return undefined;
  return t`源目录 ${escapeText(given)} 位于其中，同步时的删除会删掉源目录本身`;
}

/** Where a path really leads, nothing where that is nowhere. */
function placeOf(path: string): string | undefined {
  try {
    return realPath(path);
  } catch {
    return undefined;
  }
}

/** Finds the last directory on the way to a path that is there. */
function nearestIn(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) || path === '/' ? path : nearestIn(dirname(path));
}

/** Whether rsync leaves a directory of the source out, or may do so as far as can be told. */
async function isLeftOut({ config, plan }: Host, place: string, source: string): Promise<boolean> {
  if (plan.isOneFileSystem && statSync(nearestIn(place)).dev !== statSync(source).dev) return true;
  const filters = filterWords(plan.words);
  if (filters.length === 0) return false;
  const { SOURCE_DIR: given } = config;
  const prefix = plan.isRelative ? join(given, '/') : given.endsWith('/') ? '/' : `/${basename(given)}/`;
  const path = place.slice(join(source, '/').length);
  const rules = rulesOf(new Map([[Buffer.from(path).toString('latin1'), 'directory']]), prefix) ?? [];
  const relative = plan.isRelative ? ['-R'] : [];
  const options = [...filters, ...rules, ...relative, '-rn8', '--out-format=%n'];
  const { stdout } = await run`rsync ${options} -- ${given} ${`${join(dirname(source), '.rsync-inotify-nowhere')}/`}`;
  return !stdout.includes(`${`${prefix}${path}`.slice(1)}/\n`);
}

/** Whether a directory that is here is there on the target, too. */
async function isOnTarget(path: string, host: Host, connection: Route): Promise<boolean> {
  const boot = readFileSync(BOOT_ID, 'utf8').trim();
  const { dev, ino, birthtimeNs: birth } = statSync(path, { bigint: true });
  const told = await askBackup(host, connection);
  if (told === undefined) {
    const said = await askRemote(host, connection, `cat ${BOOT_ID} && stat -Lc %d:%i -- ${quote(path)}`);
    return said === `${boot}\n${dev}:${ino}\n`;
  }
  const [, theirBoot, directory = ''] = told.split(' ');
  const { stdout: fileSystem } = await run`stat -fc %t:%i -- ${path}`;
  const isCertain = birth > 0n && !fileSystem.startsWith(OVERLAY);
  const isSame = directory.replace(/^above:/, '') === `${fileSystem.trim()}:${ino}:${birth}`;
  return isCertain && isSame && theirBoot === boot;
}
