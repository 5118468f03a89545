/**
 * What an rsync daemon says where it does not do what it is asked for, in words for people: why, and what to do.
 *
 *   refusalOf('@ERROR: auth failed on module web'); // '的 rsync 守护进程拒绝登录模块 web …'
 */
import { escapeText, showPath, t } from '../service/text.ts';

/** How much of a line is told, characters. */
const MAX_TOLD = 1000;
/** Where it has no room for another rsync, and how many it has room for. */
const CROWDED = /^@ERROR: max connections \((\d{1,9})\) reached/m;
/** What else it says, each with what it names. */
const REFUSALS: [RegExp, (name: string) => string][] = [
  [
    /^@ERROR: max connections \((.*)\) reached/,
    (count) => t`的 rsync 守护进程没有空余的连接 (max connections = ${count})：请稍候，或在 rsyncd.conf 中调大它`,
  ],
  [
    /^@ERROR: auth failed on module (.*)$/,
    (name) =>
      t`的 rsync 守护进程不接受模块 ${name} 的用户或密码：请检查 URL 中的用户、RSYNC_PASSWORD_FILE，以及那里 secrets file 中的密码和它的权限 (600)`,
  ],
  [
    /^@ERROR: Unknown module '(.*)'$/,
    (name) => t`的 rsync 守护进程没有模块 ${name}：请检查 URL，模块名在 rsyncd.conf 的方括号里`,
  ],
  [
    /^@ERROR: access denied to (.*) from /,
    (name) => t`的 rsync 守护进程不许本机访问模块 ${name}：请检查 rsyncd.conf 的 hosts allow 和 hosts deny`,
  ],
  [
    /^@ERROR: ((?:chroot|chdir) failed|invalid [ug]id .*|set(?:gid|uid|groups) failed)/,
    (what) => t`的 rsync 守护进程不能进入模块 (${what})：请检查 rsyncd.conf 的 path、use chroot、uid 和 gid`,
  ],
  [/^(?:@ERROR|ERROR): module is read only/, () => t`的模块只读：请在 rsyncd.conf 中为它设置 read only = no`],
  [
    /^(?:@ERROR|ERROR): module is write only/,
    () => t`的模块只能写入，不能读取：请在 rsyncd.conf 中为它设置 write only = no`,
  ],
  [
    /^(?:@ERROR: |ERROR: )?(?:rsync: )?The server is configured to refuse (\S+)/,
    (option) =>
      t`的 rsync 守护进程不接受 rsync 选项 ${option} (refuse options)：请在 rsyncd.conf 中放行，若是 RSYNC_OPTS 中的也可去掉`,
  ],
  [/^@ERROR: (.*)$/, (what) => t`的 rsync 守护进程拒绝：${what}`],
];

/** Says why a daemon refuses, to be read behind the name of who does; nothing where a line is no such answer. @param line bytes in a latin1 string */
export function refusalOf(line: string): string | undefined {
  if (!/^(@?ERROR: |rsync: The server is )/.test(line)) return undefined;
  const said = line.slice(0, MAX_TOLD).replace(/\r$/, '');
  for (const [form, tell] of REFUSALS) {
    const found = form.exec(said);
    if (found) return tell(showPath(found[1] ?? ''));
  }
  return undefined;
}

/** Whether a line says no more than that there is no room for another one, or that there was an answer which says why. */
export const saysLittle = (line: string) =>
  CROWDED.test(line) || line.startsWith('rsync error: error starting client-server protocol');

/** What an rsync says whose connection has ended, and nothing else. */
const LOST =
  /^(rsync: (\[sender\] )?((read|write) error: |connection unexpectedly closed)|rsync error: error in (socket IO|rsync protocol data stream) ).*\n/gm;

/** Takes out of what an rsync says that its connection has ended. @param said whole lines */
export const withoutLoss = (said: string) => said.replace(LOST, '');

/** How many rsyncs a daemon has room for at a time, nothing where it does not say that these are there. */
export function roomIn(said: string): number | undefined {
  const [, count] = CROWDED.exec(said) ?? [];
  return count === undefined ? undefined : Math.max(1, Number(count));
}

/** Finds in what an rsync says why it could not log in to a daemon, '' where it says nothing. @param said text */
export function reasonOfDaemon(said: string): string {
  const lines = said.split(/\r?\n/).filter((line) => line.trim() !== '');
  const refusal = lines.map((line) => refusalOf(Buffer.from(line).toString('latin1'))).find((it) => it !== undefined);
  if (refusal !== undefined) return t`备份端${refusal}`;
  return escapeText((lines.find((line) => !line.startsWith('rsync error: ')) ?? '').slice(0, MAX_TOLD));
}
