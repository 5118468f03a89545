/**
 * Says of deletions that are held back what they are, and how to let them through.
 *
 *   describeDirectories(held.directories); // 'photos (301)、notes (62)'
 */
import { decodePath, showPath, t } from '../service/text.ts';
import type { Held } from './memory.ts';

const COMMAND = 'rsync-inotify --accept-deletions';

/** Names directories with the numbers of files in them. */
export const describeDirectories = (directories: Held['directories']) =>
  directories.map(({ path, count }) => `${showPath(path) || '.'} (${count})`).join(t`、`);

/** Says in a line for people what is held. @param reason why, and what the limit is */
export function describeHeld({ count, directories }: Held, reason: string): string {
  const what = t`目标上有 ${count} 个文件待删除${reason}，已暂缓删除，其他变化照常同步`;
  const compose = t`使用 compose 时: docker compose exec rsync-source ${COMMAND}`;
  const advice = t`若是误删，请在源目录中恢复；若确属有意，请执行 ${COMMAND}（${compose}）`;
  return t`${what}。主要位于 ${describeDirectories(directories)}。${advice}`;
}

/** Names the directories to programs. */
export const directoriesOf = ({ directories }: Held) =>
  directories.map(({ path, count }) => ({ path: decodePath(path), count }));

/** Tells of it in the status. */
export const reportHeld = ({ count, directories, since }: Held) => ({
  count,
  directories: directories.map(({ path, count: files }) => ({ path: showPath(path) || '.', count: files })),
  since: new Date(since).toISOString(),
});
