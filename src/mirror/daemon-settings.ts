/**
 * What targets need that are rsync daemons, and what is wrong with it: the file with the password, of which nothing is told that it holds, is
 * to be one that rsync takes.
 *
 *   mistakesInSettings(process.env, '/run/secrets/rsync-password', '-avz', [{ own: '' }]); // [] where all is well
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { t } from '../service/text.ts';
import { type Mistake, mistake } from '../service/variables.ts';
import { parseWords } from './options.ts';
import { parseOptions } from './rsync-options.ts';

/** How much of it rsync reads, bytes. */
const MAX_READ = 4096;
/** Permissions of others that rsync takes for a leak (authenticate.c). */
const OF_OTHERS = 0o006;

/** What a target takes: times in whole seconds only; so many rsyncs at a time, each so long after another one, ms; and how often it had no room. */
export interface Limits {
  isCoarse: boolean;
  room: number;
  settleMs: number;
  refusals: number;
}

/** What one takes of which nothing has been heard. */
export const withoutLimits = (): Limits => ({
  isCoarse: false,
  room: Number.POSITIVE_INFINITY,
  settleMs: 0,
  refusals: 0,
});

/** What rsync would be led elsewhere by than where we look whether a daemon answers. */
const PROXIES = ['RSYNC_PROXY', 'RSYNC_CONNECT_PROG'];

/** Options that would lead it elsewhere, too, and why not. */
const LEADING_AWAY: Record<string, string> = {
  '-e': t`不能包含 -e：rsync:// 目标不经由 ssh`,
  '--rsh': t`不能包含 -e：rsync:// 目标不经由 ssh`,
  '--port': t`不能包含 --port：rsync:// 目标的端口写在 URL 里，例如 rsync://nas:8730/mirror/`,
};

/** Says which of the options would lead rsync elsewhere. */
const complaintsAboutWay = (options: string) =>
  parseOptions(parseWords(options)).flatMap(({ name }) => LEADING_AWAY[name] ?? []);

/** Finds what is wrong. @param path the file with the password, '' if none @param options RSYNC_OPTS @param daemons with those of each alone */
export function mistakesInSettings(
  env: NodeJS.ProcessEnv,
  path: string,
  options: string,
  daemons: readonly { own: string }[],
): Mistake[] {
  const complaint = path && complaintAboutPasswordFile(path);
  const inOptions = (name: string, value: string) => complaintsAboutWay(value).map((it) => mistake(name, value, it));
  const proxies = PROXIES.filter((name) => env[name]);
  return [
    ...(complaint ? [mistake('RSYNC_PASSWORD_FILE', path, complaint)] : []),
    ...inOptions('RSYNC_OPTS', options),
    ...daemons.flatMap(({ own }) => inOptions('DEST_RSYNC_OPTS', own)),
    ...proxies.map((name) => ({ name, message: t`配置错误: ${name} 不能与 rsync:// 目标一起使用，请去掉它` })),
  ];
}

/** Says why rsync would not take a file for one with a password, and what to do; nothing where it would. */
export function complaintAboutPasswordFile(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK); // nobody may ever write into a pipe
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return t`文件不存在；请建立它（只有一行密码，chmod 600），容器中还要挂载它`;
    return t`当前用户不能读取它 (${code})；请 chown 给运行服务的用户并 chmod 600`;
  }
  try {
    const stats = fstatSync(file);
    const { mode, uid } = stats;
    if (!stats.isFile()) return t`应为普通文件，不能是目录或设备`;
    if ((mode & OF_OTHERS) !== 0) return t`其他用户可以读写它，rsync 因此拒绝使用；请 chmod 600`;
    if (process.getuid?.() === 0 && uid !== 0)
      return t`它属于用户 ${uid}，以 root 运行的 rsync 只用属于 root 的；请 chown root`;
    const [first] = readStart(file)
      .split(/[\r\n]/)
      .filter(Boolean);
    return first === undefined ? t`文件中没有密码；请写入一行密码` : undefined;
  } finally {
    closeSync(file);
  }
}

function readStart(file: number): string {
  const buffer = Buffer.alloc(MAX_READ);
  return buffer.toString('latin1', 0, readSync(file, buffer));
}
