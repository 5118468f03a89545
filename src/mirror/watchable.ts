/**
 * Which files inotifywait may watch by themselves: it ends at the first one that it may not, whatever else it watches.
 *
 *   await watchable(['/data/source/app.conf', '/data/source/secret']); // ['/data/source/app.conf']
 */
import { warn } from '../service/log.ts';
import { signalGroup, startOnLeash } from '../service/processes.ts';
import { escapeText } from '../service/text.ts';

/** How long an answer may take, ms. */
const PATIENCE_MS = 10_000;

/** Has inotifywait try to watch files; resolves with those that it may, and tells of the others. @param file a descriptor that it gets as its number 4 */
export async function watchable(paths: readonly string[], file?: number): Promise<string[]> {
  let rest = [...paths];
  while (rest.length > 0) {
    const said = await complaintAbout(rest, file);
    const refused = rest.find((path) => said.includes(`Couldn't watch ${path}: `));
    if (refused === undefined) break; // what else may be wrong is told where all is watched
    warn('watch.complaint', `inotifywait: ${escapeText(said.trim())}`);
    rest = rest.filter((path) => path !== refused);
  }
  return rest;
}

/** Resolves with what inotifywait says against watching files, '' for nothing. */
function complaintAbout(paths: readonly string[], file: number | undefined): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const child = startOnLeash(['inotifywait', '-m', '-e', 'unmount', '--', ...paths], 'ignore', '', file);
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk.replace('Setting up watches.\n', '');
    if (said.endsWith('Watches established.\n')) resolve('');
  });
  child.once('error', () => resolve(''));
  child.once('close', () => resolve(said));
  const timer = setTimeout(resolve, PATIENCE_MS, '');
  return promise.finally(() => {
    clearTimeout(timer);
    signalGroup(child, 'SIGKILL');
  });
}
