/**
 * Tells what fails on a target, path by path, why and what to do about it: when it is new, and not all of many.
 *
 *   tellFailures(faults.list, { state, look }); // 无法同步 a：No space left on device，请检查目标的磁盘空间和 inode。其余照常同步，它将单独重试
 */
import type { Stats } from 'node:fs';
import { decodePath, escapeText, showPath, t } from '../service/text.ts';
import type { Fault } from './faults.ts';
import type { TargetState } from './target-state.ts';

/** How many paths of a sync are told. */
const TOLD = 20;

interface Parts {
  state: Pick<TargetState, 'unmirrored' | 'error'>;
  look: (path: string) => Stats | undefined;
}

/** Notes what fails, and tells what of that is new. */
export function tellFailures(faults: Fault[], { state, look }: Parts): void {
  const fresh = faults.filter((fault) => state.unmirrored.note(fault, look(fault.path)?.isDirectory() ?? false));
  for (const fault of fresh.slice(0, TOLD)) {
    const name = fault.path === '' ? t`源目录` : showPath(fault.path);
    const what = look(fault.path) || fault.kind === 'reading' ? t`同步 ${name}` : t`删除目标上的 ${name}`;
    const why = `${escapeText(fault.text)}${adviceFor(fault)}`;
    const fields = { path: decodePath(fault.path), reason: fault.text };
    state.error('file.failed', t`无法${what}：${why}。其余照常同步，它将单独重试`, fields);
  }
  if (fresh.length <= TOLD) return;
  const more = fresh.length - TOLD;
  state.error('file.failed_more', t`另有 ${more} 个路径无法同步，未逐条列出`, { count: more });
}

/** Says what to do about a fault, where that is known. */
function adviceFor({ kind, text, code = 0, atTarget }: Fault): string {
  if (text.startsWith('filename overflows')) return t`，其中有过长的路径，请缩短路径，或移走嵌套过深的目录`;
  if (text.startsWith('daemon refused'))
    return t`，守护进程的 rsyncd.conf 以 exclude 或 filter 排除了它，请在 RSYNC_OPTS 中也排除`;
  if (kind === 'reading' && !atTarget) return t`，请检查源目录中它的权限或磁盘`;
  if (code === 28) return t`，请检查目标的磁盘空间和 inode`;
  if (code === 122) return t`，请检查目标的磁盘配额`;
  if (code === 27) return t`，目标的文件系统放不下这么大的文件`;
  if (code === 30) return t`，目标是只读的`;
  if (code === 36) return t`，目标的文件系统不支持这么长的名称`;
  if (code === 22) return t`，目标的文件系统不支持这样的名称`;
  return code > 0 ? t`，请检查目标上的权限和磁盘` : '';
}
