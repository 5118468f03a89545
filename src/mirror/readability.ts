/**
 * Whether the source's files can be read: of two that neither side can read, rsync says that they are equal.
 *
 *   const path = await findUnreadable(host, below); // 'web/secret', if there is one
 */
import { accessSync, constants } from 'node:fs';
import { readLines } from '../service/lines.ts';
import { exitStatus, signalGroup, start, tailOf } from '../service/processes.ts';
import { Failure, lastLine, t } from '../service/text.ts';
import type { Host } from './config.ts';
import { unescapeName } from './differences.ts';
import { withoutQuiet } from './rsync-options.ts';

/** What rsync is told after the user's options: to tell what it would look at, and nothing else. */
const LIST_OPTIONS = [
  ...['--list-only', '--dry-run', '--no-human-readable', '--info=none', '--debug=none', '--log-file=/dev/null'],
  ...['--no-checksum', '--timeout=0', '--no-iconv', '--temp-dir=.'],
];
/** A file among what it tells, one line each: its mode, size, date and time, and its name. */
const LISTED_FILE = /^-[rwxsStT-]{9}\+? +\S+ \S+ \S+ (.+)$/;

/** Says why a file cannot be read, by the name of an error; nothing where it can. @param path bytes in a latin1 string */
function obstacleTo(path: string): string | undefined {
  try {
    accessSync(Buffer.from(path, 'latin1'), constants.R_OK);
    return undefined;
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code ?? 'unknown';
  }
}

/** Whether a file is there and can be read. @param path bytes in a latin1 string */
export const isReadable = (path: string) => obstacleTo(path) === undefined;

const mayBeRead = (path: string) => [undefined, 'ENOENT', 'ENOTDIR'].includes(obstacleTo(path)); // or it has gone since

/**
 * Looks for a file that cannot be read among those that rsync looks at: filters may leave it out. rsync lists them itself, so that
 * this means the same with whatever options and on whatever system.
 * @param place says where a file is that rsync has named
 * @throws {Failure} where they could not all be listed
 */
export async function findUnreadable(host: Host, place: (told: string) => string): Promise<string | undefined> {
  const args = [...withoutQuiet(host.plan.words), ...LIST_OPTIONS, ...host.plan.errorOptions];
  const { SOURCE_DIR } = host.config; // in place of a target, too, without which --files-from is refused
  const rsync = start('rsync', [...args, '--', SOURCE_DIR, SOURCE_DIR], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = tailOf(rsync.stderr);
  let found: string | undefined;
  readLines(rsync.stdout, (line) => {
    const [, name] = LISTED_FILE.exec(line) ?? [];
    if (!name || found !== undefined || mayBeRead(place(unescapeName(name)))) return;
    found = unescapeName(name);
    signalGroup(rsync, 'SIGKILL');
  });
  const status = await exitStatus(rsync);
  if (found === undefined && status !== 0)
    throw new Failure(t`无法得知哪些文件可读 (rsync 退出码: ${status})：${lastLine(said())}`);
  return found;
}
