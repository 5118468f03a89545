/**
 * Lists the directories of a tree in a process of its own, so that a file system that does not answer holds up nothing.
 * Paths are relative to it, as bytes in latin1 strings.
 *
 *   await listByFind('/data/source/', ['cache']); // ['', 'a', 'a/b']
 */
import { once } from 'node:events';
import { signalGroup, start } from '../service/processes.ts';

/** How long find(1) may say nothing, ms. */
const SILENCE_MS = 30_000;
/** How long a path may be, bytes (PATH_MAX): GNU find goes on beyond, where each name of an endless chain is told with all above it. */
const MAX_PATH = 4096;

/**
 * Lists what find(1) tells; nothing where it falls silent, is ended, or knows nothing.
 * @param excluded directories that are left out, with all that is in them
 * @returns `beyond` where there are paths that no program can use
 */
export async function listByFind(root: string, excluded: readonly string[]): Promise<string[] | undefined | 'beyond'> {
  const text = (path: string) => Buffer.from(root + path, 'latin1').toString();
  const prunes = excluded.flatMap((path) => ['-path', text(path).replace(/[\\*?[]/g, '\\$&'), '-prune', '-o']);
  const find = start('find', [text(''), ...prunes, '-type', 'd', '-print0'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const { promise: givenUp, resolve: giveUp } = Promise.withResolvers<'hung' | 'beyond'>();
  const timer = setTimeout(() => giveUp('hung'), SILENCE_MS);
  const found: string[] = [];
  let rest = '';
  find.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
    timer.refresh();
    const paths = (rest + chunk).split('\0');
    rest = paths.pop() ?? '';
    for (const path of paths) found.push(path.slice(root.length));
    if (rest.length > MAX_PATH || paths.some(({ length }) => length > MAX_PATH)) giveUp('beyond');
  });
  const ended = once(find, 'close').then(([, signal]) => (signal ? 'killed' : 'done'));
  const end = await Promise.race([givenUp, ended.catch(() => 'killed')]);
  clearTimeout(timer);
  signalGroup(find, 'SIGKILL');
  if (end === 'beyond') return 'beyond';
  return end !== 'done' || found.length === 0 ? undefined : found;
}
