/**
 * What is told of a target while it is waited for and the login is tested: of one that ssh leads to, and of an rsync daemon.
 *
 *   const { wait } = loginWordsOf(host);
 */
import { t } from '../service/text.ts';
import { type Host, isDaemon } from './config.ts';

const SSH = {
  wait: t`等待 SSH 服务就绪`,
  unready: (where: string) => t`SSH 服务未就绪: ${where}。请检查备份端是否运行、主机名和端口是否正确`,
  ready: t`SSH 服务已就绪 ✓`,
  again: (attempt: number, most: number) => t`SSH 连接重试... (${attempt}/${most})`,
  test: t`测试 SSH 连接`,
  failed: (status: string | number | null, why: string) =>
    t`SSH 免密登录测试失败 (退出码: ${status})：${why}。请检查密钥、用户和备份端日志`,
  retry: (attempt: number, most: number, why: string) => t`SSH 连接重试... (${attempt}/${most})：${why}`,
  tested: t`SSH 免密登录测试成功 ✓`,
};

const DAEMON: typeof SSH = {
  wait: t`等待 rsync 守护进程就绪`,
  unready: (where) => t`rsync 守护进程未就绪: ${where}。请检查它是否运行、主机名和端口是否正确`,
  ready: t`rsync 守护进程已就绪 ✓`,
  again: (attempt, most) => t`rsync 守护进程重试... (${attempt}/${most})`,
  test: t`测试登录 rsync 守护进程`,
  failed: (status, why) => t`登录 rsync 守护进程的测试失败 (退出码: ${status})：${why}`,
  retry: (attempt, most, why) => t`rsync 守护进程重试... (${attempt}/${most})：${why}`,
  tested: t`登录 rsync 守护进程的测试成功 ✓`,
};

/** Finds the words for a target, and what its events of the log are called. */
export const loginWordsOf = (host: Host) =>
  isDaemon(host) ? { ...DAEMON, kind: 'daemon' as const } : { ...SSH, kind: 'ssh' as const };
