/**
 * Commands of the source that run on although their connection is gone: an rsync in the midst of its deletions notices that late.
 *
 *   await endGroups(straysOf((admission) => !existsSync(admission))); // those of a service that has ended
 */
import { readdirSync, readFileSync } from 'node:fs';

/** The variable by which a command of the source's key is known: the fingerprint of that key. The commands cannot change it. */
export const KEY_VARIABLE = 'START_SSHD_KEY';

/**
 * Finds the process groups of all commands of the source's key, with or without a connection; not with ALLOW_SHELL, where the key runs
 * what it will.
 * @param isMeant says by the file that lets its sessions in whether a service is meant
 */
export function straysOf(isMeant: (admission: string) => boolean): number[] {
  const found = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const groups = found.flatMap((pid) => {
    const variables = readOrNothing(`/proc/${pid}/environ`).split('\0');
    const find = (name: string) => variables.find((it) => it.startsWith(`${name}=`))?.slice(name.length + 1);
    const admission = find('START_SSHD_ADMISSION');
    return find(KEY_VARIABLE) && admission && isMeant(admission) ? groupOf(pid) : [];
  });
  return [...new Set(groups)];
}

/** Finds the group of a process: proc(5), stat. */
function groupOf(pid: string): number[] {
  const [, group = '0'] = /.*\) \S \d+ (\d+) /s.exec(readOrNothing(`/proc/${pid}/stat`)) ?? [];
  return Number(group) > 1 ? [Number(group)] : [];
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // it has ended, or is not ours
  }
}
