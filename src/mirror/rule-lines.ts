/**
 * Reads a file of filter rules line by line, as rsync does, but none that rsync would refuse to read: what is in it is shown to all
 * users of this machine, among the arguments of a process.
 *
 *   readRuleLines('/etc/excludes'); // ['*.tmp', '/cache/']
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** How large a file may be, bytes: its rules become arguments. */
export const MAX_RULES_BYTES = 100_000;
/** How many links may lead to one (MAXSYMLINKS). */
const MAX_LINKS = 40;

/** Lists the lines that hold a rule. */
const linesOf = (content: string) => content.split(/[\n\r]/).filter((line) => line !== '' && !/^[#;]/.test(line));

/**
 * Follows the links on the way to a file, of which none may be somebody else's (open_no_attacker_symlinks in rsync).
 * @throws where one is
 */
function follow(path: string, links = MAX_LINKS): string {
  for (let end = path.indexOf('/', 1); ; end = path.indexOf('/', end + 1)) {
    const reached = end < 0 ? path : path.slice(0, end);
    const found = lstatSync(reached);
    if (found.isSymbolicLink()) {
      const isTrusted = found.uid === 0 || found.uid === process.geteuid?.();
      if (links === 0 || !isTrusted) throw new Error(`${reached} leads elsewhere`);
      return follow(resolve(dirname(reached), readlinkSync(reached), `.${path.slice(reached.length)}`), links - 1);
    }
    if (end < 0) return path;
  }
}

/**
 * Reads the rules in a file.
 * @param path an absolute path
 * @throws where it is not there, is no plain file, is too large, or may be what somebody else has put in its place
 */
export function readRuleLines(path: string): string[] {
  const place = follow(path);
  const fd = openSync(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const found = fstatSync(fd);
    if (readlinkSync(`/proc/self/fd/${fd}`) !== place) throw new Error(`${place} has been replaced`);
    if (!found.isFile() || found.size > MAX_RULES_BYTES) throw new Error(`${place} is no file of rules`);
    return linesOf(readFileSync(fd, 'latin1'));
  } finally {
    closeSync(fd);
  }
}
