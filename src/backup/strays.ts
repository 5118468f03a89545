/**
 * Commands of the source that run on although their connection is gone: an rsync in the midst of its deletions notices that late.
 *
 *   await endGroups(straysOf((admission) => admission === '/run/start-sshd-x/admission'));
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { warn } from '../service/log.ts';
import { endGroups } from '../service/processes.ts';
import { t } from '../service/text.ts';
import { KEY_VARIABLE } from './admission.ts';
import { FORCED_COMMAND } from './forced-command.ts';

/** When it is looked for what another service has left behind, once more, ms: its sshd and its directory may be about to go. */
const ONCE_MORE_MS = 5000;

/**
 * Finds the process groups of all commands of the source's key, with or without a connection; not with ALLOW_SHELL, where the key runs
 * what it will.
 * @param isMeant says by the file that lets its sessions in, and by one of them, whether a service is meant
 */
export function straysOf(isMeant: (admission: string, pid: string) => boolean): number[] {
  const found = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const groups = found.flatMap((pid) => {
    const variables = readOrNothing(`/proc/${pid}/environ`).split('\0');
    const find = (name: string) => variables.find((it) => it.startsWith(`${name}=`))?.slice(name.length + 1);
    const admission = find('START_SSHD_ADMISSION');
    return find(KEY_VARIABLE) && admission && isMeant(admission, pid) ? groupOf(pid) : [];
  });
  return [...new Set(groups)];
}

/** Finds the fingerprint of the key that a command runs for: what it has become knows it, and it was started with it. Nothing where it is none. */
export function keyOf(pid: number): string | undefined {
  const known = readOrNothing(`/proc/${pid}/environ`)
    .split('\0')
    .find((it) => it.startsWith(`${KEY_VARIABLE}=`));
  if (known) return known.slice(KEY_VARIABLE.length + 1);
  const words = readOrNothing(`/proc/${pid}/cmdline`).split('\0');
  const at = words.indexOf(FORCED_COMMAND);
  return at < 0 ? undefined : words[at + 1];
}

/** Finds the group of a process, and the one that has started it: proc(5), stat. */
function relativesOf(pid: string): { group: number; parent: string } {
  const [, parent = '0', group = '0'] = /.*\) \S (\d+) (\d+) /s.exec(readOrNothing(`/proc/${pid}/stat`)) ?? [];
  return { group: Number(group), parent };
}

function groupOf(pid: string): number[] {
  const { group } = relativesOf(pid);
  return group > 1 ? [group] : [];
}

/** Lists a process and those that it comes from, up to the first one of all. */
function lineageOf(pid: string): string[] {
  const { parent } = relativesOf(pid);
  return Number(parent) > 1 ? [pid, ...lineageOf(parent)] : [pid];
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return ''; // it has ended, or is not ours
  }
}

/**
 * Whether the directory of a service is gone. That of one in a container, whose processes a host sees among its own, is there where they
 * see it, and what it has left is for its next start to end. A service may have a `/run` of its own without a container, and an rsync that
 * sees nothing but DEST_DIR: then those see it that the rsync comes from.
 */
function isGone(directory: string, pid: string): boolean {
  try {
    const isElsewhere = readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync('/proc/self/ns/pid');
    const roots = ['', ...lineageOf(pid).map((it) => `/proc/${it}/root`)];
    return !isElsewhere && roots.every((root) => !existsSync(root + directory));
  } catch {
    return false; // it has ended
  }
}

/** Whether a process of one of these groups has not ended; one that only waits to be asked for its exit status has. */
export function haveMembers(groups: readonly number[]): boolean {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.some((pid) => {
    const [, state = 'X', group = '0'] = /.*\) (\S) \d+ (\d+) /s.exec(readOrNothing(`/proc/${pid}/stat`)) ?? [];
    return !'ZX'.includes(state) && groups.includes(Number(group));
  });
}

/** Finds what still runs for sessions of services that have ended, whose directories are gone with them. */
export const leftovers = () => straysOf((admission, pid) => isGone(dirname(admission), pid));

/** Ends that. */
export async function endLeftovers(): Promise<void> {
  for (const ms of [0, ONCE_MORE_MS]) {
    await lifecycle.pause(ms);
    const groups = leftovers();
    const count = groups.length;
    await endGroups(groups);
    if (count > 0) warn('session.stray', t`已结束上次运行遗留的 ${count} 个源端命令：其连接已不在`, { count });
  }
}
