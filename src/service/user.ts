/**
 * The user that this program runs as. In a container that need not be one of passwd(5).
 *
 *   const missing = missingUser(); // what to do about it, for people
 */
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { t } from './text.ts';

/** Finds the home directory, `/` where neither HOME nor passwd(5) names one. */
export function homeDirectory(): string {
  try {
    return homedir();
  } catch {
    return '/';
  }
}

/** Says what is missing where the user has no entry in passwd(5): ssh, sshd and ssh-keygen do nothing for such a one. */
export function missingUser(): string[] {
  const { error, status } = spawnSync('id', ['-un'], { cwd: '/', stdio: 'ignore' });
  if (error || status === 0) return [];
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  const line = `mirror:x:${uid}:${gid}::${homeDirectory()}:/bin/sh`;
  const advice = t`请在 /etc/passwd 中加上一行 ${line}（容器中可挂载加了这一行的文件），或以其中已有的用户运行`;
  return [t`运行本程序的用户 (uid ${uid}) 在 /etc/passwd 中没有条目，ssh、sshd 和 ssh-keygen 因此拒绝运行。${advice}`];
}
