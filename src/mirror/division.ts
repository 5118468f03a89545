/**
 * Divides a batch that fails as a whole, so that what fails is found: into halves, and a directory into what is in it.
 *
 *   divide(new Map([['a', UNKNOWN], ['b', UNKNOWN]]), list); // [Map { 'a' }, Map { 'b' }]
 */
import { type Batch, type Change, TREE, UNKNOWN } from './changes.ts';

/** Lists what is directly in a directory of the source. */
export type List = (path: string) => { name: string; isDirectory(): boolean }[];

/** Divides a batch, in two or three; nothing where it is a single thing. */
export function divide(batch: Batch, list: List): Batch[] | undefined {
  const all = batch.get('');
  if (all?.tree && batch.size > 1) return [new Map([['', all]]), new Map([...batch].filter(([it]) => it !== ''))];
  if (batch.size > 1) return halves([...batch]);
  const [path, change] = [...batch][0] ?? [];
  if (path === undefined || !change?.tree) return undefined;
  const { dated, since } = change;
  const children = list(path).map((entry): [string, Change] => [
    path === '' ? entry.name : `${path}/${entry.name}`,
    { ...(entry.isDirectory() ? TREE : UNKNOWN), dated, since },
  ]);
  if (children.length === 0) return undefined;
  const itself: Batch = new Map([[path, { ...UNKNOWN, isDirectory: true, since }]]);
  return path === '' ? halves(children) : [itself, ...halves(children)];
}

function halves(changes: [string, Change][]): Batch[] {
  const middle = Math.ceil(changes.length / 2);
  return [changes.slice(0, middle), changes.slice(middle)]
    .filter((half) => half.length > 0)
    .map((half) => new Map(half));
}
