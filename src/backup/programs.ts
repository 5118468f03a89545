/**
 * The programs that the backup needs, and where they are.
 *
 *   const rsync = findProgram('rsync'); // '/usr/bin/rsync'
 */

/** The programs that are needed and their packages; it is sshd that starts rsync. */
export const PROGRAMS = { sshd: 'openssh-server', 'ssh-keygen': 'openssh-client', rsync: 'rsync' };

/** Finds the path of a program: sshd must be started by an absolute one, and is rarely on an ordinary user's PATH. */
export function findProgram(program: string): string | null {
  return Bun.which(program, { PATH: `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` });
}
