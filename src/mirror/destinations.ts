/**
 * What DEST_HOST and DEST_HOSTS say: where a target is, as words.
 *
 *   parseDestination('me@[2001:db8::1]:/data/'); // { given: 'me@[2001:db8::1]', user: 'me', host: '2001:db8::1', directory: '/data/' }
 *   parseDestination('rsync://me@nas/backup/web/'); // { given: 'rsync://me@nas', …, directory: 'backup/web/', daemonPort: 873 }
 */
import { isIPv6 } from 'node:net';
import { escapeText, t } from '../service/text.ts';
import { showsPassword } from '../service/variables.ts';

/** Where a target is. */
export interface Destination {
  /** What was said, without a directory. */
  given: string;
  /** Who logs in; nobody where that is '', as an rsync daemon may have it. */
  user: string;
  /** A name or an address without brackets. */
  host: string;
  /** On the target, below a module where that is an rsync daemon; '' where nothing was said. */
  directory: string;
  /** The port of the rsync daemon, nothing where ssh leads there. */
  daemonPort?: number;
}

/** Where a daemon listens that was told nothing else. */
export const DAEMON_PORT = 873;

const isDaemonUrl = (value: string) => /^rsync:/i.test(value);

/** Reads `[user@]host`, where the host may be an IPv6 address with or without brackets. @throws on anything else */
export function parseTarget(value: string): { user: string; host: string } {
  const form = /^(?:([\w.][\w.-]*)@)?(?:\[([^\]]+)\]|([\w.:%][\w.:%-]*))$/;
  const [, user = 'root', bracketed, plain = ''] = form.exec(value) ?? [];
  const host = bracketed ?? plain;
  const isName = /^[\w.-]+$/.test(plain);
  if (!isName && !isIPv6(host.replace(/%\w+$/, ''))) {
    if (isOfDaemon(value))
      throw new Error(t`rsync 守护进程应写作 rsync://[user@]host[:port]/module/dir，不用 host::module`);
    throw new Error(t`应为 [user@]host，例如 root@rsync-backup 或 192.0.2.7；端口写在 SSH_OPTS 里`);
  }
  return { user, host };
}

/** Whether a word is what rsync itself knows besides for a daemon, `[user@]host::module`. */
const isOfDaemon = (value: string) => /^(?:[^@:[\]]+@)?(?:\[[^\]]+\]|[^@:[\]]+)::[^:]/.test(value);

/** Reads what DEST_HOST says: `[user@]host`, or the URL of an rsync daemon. @throws on anything else */
export function parseOne(value: string): Destination {
  return isDaemonUrl(value) ? parseDaemon(value) : { given: value, ...parseTarget(value), directory: '' };
}

/**
 * Reads `[user@]host[:dir]`, where an IPv6 address needs brackets before a directory, or the URL of an rsync daemon.
 * @throws on anything else
 */
export function parseDestination(word: string): Destination {
  if (isDaemonUrl(word)) return parseDaemon(word);
  const form = /^((?:[^@:[\]]+@)?(?:\[[^\]]+\]|[^@:[\]]+)):([^:]+)$/;
  const [, given = word, path = ''] = form.exec(word) ?? [];
  try {
    return { given, ...parseTarget(given), directory: path };
  } catch (cause) {
    if (isOfDaemon(word)) throw cause;
    throw new Error(
      t`${escapeText(word)} 应为 [user@]host[:dir]，例如 root@rsync-backup:/data/backup/；IPv6 地址须加方括号`,
    );
  }
}

/** What an rsync daemon's URL may look like: user, host, port, module, and a directory in it. */
const DAEMON_URL = /^rsync:\/\/(?:([\w.][\w.+-]*)@)?(?:\[([^\]]+)\]|([\w.-]+))(?::(\d+))?(?:\/([^/]*)(\/.*)?)?$/is;

/** Reads `rsync://[user@]host[:port]/module[/dir]`. @throws on anything else; of a password, nothing is told */
function parseDaemon(url: string): Destination {
  if (showsPassword(url) && url.includes('@'))
    throw new Error(t`URL 中不能写密码：请写入文件，由 RSYNC_PASSWORD_FILE 指明`);
  const [, user = '', bracketed, name = '', digits, module = '', path = ''] = DAEMON_URL.exec(url) ?? [];
  const host = bracketed ?? name;
  const port = Number(digits ?? DAEMON_PORT);
  const form = t`应为 rsync://[user@]host[:port]/module[/dir]，例如 rsync://backup@nas/mirror/web/`;
  if (!host || host.startsWith('-') || (bracketed !== undefined && !isIPv6(bracketed.replace(/%\w+$/, ''))))
    throw new Error(t`${form}；IPv6 地址须加方括号`);
  if (port < 1 || port > 65535) throw new Error(t`${form}；端口应在 1 到 65535 之间`);
  if (!module) throw new Error(t`${form}；缺少模块名，它是守护进程的 rsyncd.conf 中方括号里的名称`);
  if (/[\p{Cc}*?[\\]|\/\.{1,2}(\/|$)/u.test(`/${module}${path}`))
    throw new Error(t`${form}；模块和目录不能包含通配符 *?[、反斜杠、控制字符，也不能有 . 或 .. 一级`);
  if (/^\/+-/.test(path)) throw new Error(t`${form}；模块中的目录不能以 - 开头，守护进程会把它当作选项`);
  const given = url.slice(0, url.indexOf('/', 'rsync://'.length));
  return { given, user, host, directory: module + path, daemonPort: port };
}
