/**
 * Has the backup rename what was renamed in the source, so that it need not be sent once more.
 *
 *   const { renamed } = await renameOnTarget(host, route, '/', moves);
 */
import { once } from 'node:events';
import { quote } from 'shlex';
import { start, tailOf } from '../service/processes.ts';
import { lastLine } from '../service/text.ts';
import { type Host, loginOf } from './config.ts';
import type { Move } from './moves.ts';
import { UNREACHABLE } from './rsync.ts';
import { type Route, sshArgs } from './ssh.ts';

/** What came of it: ssh's exit status, how many renames could be done, and the last words of the other side. */
interface Answer {
  status: number;
  renamed: number;
  said: string;
}

/** Asks start-sshd on the backup. @param prefix what stands before a path of the source in the backup, with a slash before it */
export async function renameOnTarget(host: Host, route: Route, prefix: string, moves: Move[]): Promise<Answer> {
  const command = `start-sshd --rename ${quote(host.directory)}`;
  const ssh = start('ssh', [...sshArgs(host, route), loginOf(host), command], {});
  const names = moves.flatMap(({ from, to }) => [from, to]).map((path) => `${prefix.slice(1)}${path}\0`);
  ssh.stdin?.end(names.join(''), 'latin1');
  const [renamed, said] = [tailOf(ssh.stdout), tailOf(ssh.stderr)];
  const [code] = await once(ssh, 'close');
  return { status: code ?? UNREACHABLE, renamed: Number(renamed()), said: lastLine(said()) };
}
