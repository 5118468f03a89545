/**
 * Warns at the start of what RSYNC_OPTS, or the targets, ask for and had better not.
 *
 *   warnOfOptions(hosts);
 */
import { posix } from 'node:path';
import { isWithin } from '../service/files.ts';
import { warn } from '../service/log.ts';
import { t } from '../service/text.ts';
import { type Host, isDaemon } from './config.ts';

const DROPPED = t`RSYNC_OPTS 中的 --ignore-errors 未采用：读取出错时，它会让 rsync 删除备份中没能读到的内容`;
const NESTED = t`RSYNC_OPTS 中的 --backup-dir 位于目标目录之内：除非排除它，带 --delete 的全量同步会把其中的旧版本再移入更深一层并互相覆盖，源端的密钥也能删除它们。请去掉它，改在备份端设置 HISTORY_DAYS（例如 HISTORY_DAYS=30）`;

const CLEAR_TEXT = t`rsync:// 目标的连接没有加密：文件内容和名称以明文经过网络，只有密码以质询应答的方式核对，也无法验证对方的身份。请改用 ssh 目标，或让它经由 VPN 或加密隧道`;

/** Warns once of each, whatever the number of targets. */
export function warnOfOptions(hosts: readonly Pick<Host, 'plan' | 'directory' | 'daemonPort'>[]): void {
  if (hosts.some(isDaemon)) warn('daemon.clear_text', CLEAR_TEXT);
  if (hosts.some(({ plan }) => plan.ignoresErrors)) warn('sync.option_dropped', DROPPED);
  if (hosts.some(keepsVersionsWithin)) warn('sync.backup_dir', NESTED);
}

/**
 * Whether rsync keeps older versions below what it mirrors into. A relative directory is relative to that; where links lead on the target
 * is not known here.
 */
export function keepsVersionsWithin({ plan, directory }: Pick<Host, 'plan' | 'directory'>): boolean {
  const { backupDirectory } = plan;
  if (!backupDirectory || (posix.isAbsolute(backupDirectory) && !posix.isAbsolute(directory))) return false;
  const root = posix.resolve('/', directory);
  return isWithin(posix.resolve(root, backupDirectory), root);
}
