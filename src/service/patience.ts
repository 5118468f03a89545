/**
 * How long something may take. Only time in which this process runs counts: after a stop, as with `docker pause`, or a moment in which it was
 * not let run, the answer may long be there, and only not be taken in yet.
 *
 *   if (!(await isInTime(lstat(path), 2000))) throw new Failure('the disk does not answer');
 */
import { setTimeout as sleep } from 'node:timers/promises';

/** Into how many parts a wait is cut: a stop counts as one of them. */
const PARTS = 4;

/** Resolves with whether work is over, well or not, within so many ms; what takes longer goes on. */
export async function isInTime(work: Promise<unknown>, ms: number): Promise<boolean> {
  const waiting = new AbortController();
  const wait = async () => {
    for (let n = 0; n < PARTS; n++) await sleep(ms / PARTS, undefined, { signal: waiting.signal });
    return false;
  };
  const isOver = () => true;
  return Promise.race([work.then(isOver, isOver), wait().catch(isOver)]).finally(() => waiting.abort());
}
