/**
 * Divides a tree into two parts that two rsyncs compare side by side: one of them is bound by one core on each side.
 *
 *   const division = await divisionOf(source);        // { shared: ['', 'a'], apart: ['a/b/', 'a/*[0-4]/'] }
 *   const [rest, apart] = rulesOfParts(division, source.prefix);
 *
 * Both list the directories above those that are apart, and leave them as they are to be whichever of them is done last. In these,
 * only directories are apart: what an rsync writes there is a file until it is whole, which the other one would delete.
 */
import { isUtf8 } from 'node:buffer';
import { availableParallelism } from 'node:os';
import { wordsOf } from '../service/text.ts';
import type { Plan } from './options.ts';
import { parseOptions } from './rsync-options.ts';
import { patternOf } from './scopes.ts';
import { breather, type Source } from './source.ts';

/** How a tree is divided. Paths are below the source, bytes in latin1 strings. */
export interface Division {
  /** The directories that both list, from the root down: '' is the source itself. */
  shared: string[];
  /** The directories in them that the second rsync compares, with all below them: names, or patterns by how names begin or end. */
  apart: Apart[];
}

interface Apart {
  /** The directory that they are in. */
  parent: string;
  /** Their name, or what stands for several as a pattern. */
  name: string;
  isPattern: boolean;
}

/** Options under which each part is compared as it is in a comparison of all. */
const DIVISIBLE = new Set(
  wordsOf(`-a -r -l -p -t -g -o -D -v -q -h -z -W -c -u -S -I -A -X -E -O -J -x -8 -4 -6
  --archive --recursive --links --perms --times --group --owner --devices --specials --acls --xattrs --executability
  --verbose --quiet --human-readable --8-bit-output --no-motd --compress --whole-file --checksum --update --inplace
  --partial --sparse --preallocate --fsync --numeric-ids --super --fake-super --omit-dir-times --omit-link-times
  --ignore-times --size-only --one-file-system --delete --del --delete-during --safe-links --munge-links --blocking-io
  --ipv4 --ipv6 --open-noatime --secluded-args --protect-args --compress-choice --zc --compress-level --zl
  --compress-threads --zt --skip-compress --checksum-choice --cc --modify-window --block-size --timeout --contimeout
  --rsync-path --rsh -e -B -M --remote-option --chown --usermap --groupmap`),
);
const NEGATED = /^--no-(perms|p|owner|o|group|g|times|t|devices|specials|D|links|l|compress|z|whole-file|W|verbose|v)$/;

/** Whether a comparison of all may be divided: as far as options go, and where there are cores for it. */
export const mayDivide = ({ words, method }: Pick<Plan, 'words' | 'method'>, cores = availableParallelism()) =>
  cores > 1 && method === 'list' && parseOptions(words).every(({ name }) => DIVISIBLE.has(name) || NEGATED.test(name));

/** How many entries a tree has at least that is divided. */
const LEAST = 5000;
/** How long it is looked for parts, ms, and at how many entries: what was not seen until then is taken for the average. */
const LOOK_MS = 400;
const MOST = 1_000_000;
/** How large a directory may be that is listed, bytes: all of its names are held at a time, and nothing else is done meanwhile. */
const MAX_LISTED = 4_000_000;
/** What a name takes in a directory, about, bytes. */
const NAME_BYTES = 40;
/** How many names are listed at most: rsync looks at all of them for each path. */
const MAX_NAMES = 16;
/** How deep a directory may lie in which something is apart. */
const MAX_DEPTH = 8;
/** Which part of all is apart at best, by how much less it may be, and how much it is at least. */
const HALF = 0.5;
const TOLERANCE = 0.04;
const LEAST_SHARE = 0.2;

/** A directory. */
interface Node {
  path: string;
  /** How many entries it has itself, but for directories; -1 where that is not known. */
  own: number;
  /** How many it has altogether, itself among them. */
  weight: number;
  children: Node[];
}

/** Finds parts of about the same size; nothing where the tree is small, or one directory holds most of it. */
export async function divisionOf(source: Pick<Source, 'list' | 'look'>, least = LEAST): Promise<Division | undefined> {
  const nodes = await walk(source);
  const [root] = nodes;
  const total = weigh(nodes);
  if (!root || total < least) return undefined;
  const division: Division = { shared: [], apart: [] };
  let need = total * HALF;
  for (let node: Node | undefined = root; node && need > total * TOLERANCE; ) {
    const { path } = node;
    if (division.shared.length > MAX_DEPTH || !isOpen(source, path)) break;
    division.shared.push(path);
    const { taken, rest } = choose(node, need, MAX_NAMES - division.apart.length);
    division.apart.push(...taken.map(({ name, isPattern }) => ({ parent: path, name, isPattern })));
    need -= taken.reduce((sum, { weight }) => sum + weight, 0);
    node = rest;
  }
  while (division.shared.length > 0 && !holdsApart(division, division.shared.at(-1))) division.shared.pop();
  const share = HALF - need / total;
  return division.apart.length > 0 && share >= LEAST_SHARE ? division : undefined;
}

/** Whether something is apart in a directory itself. */
const holdsApart = ({ apart }: Division, path: string | undefined) => apart.some(({ parent }) => parent === path);

/** Whether a division is one of the tree as it is now. */
export const isStillThere = ({ shared, apart }: Division, source: Pick<Source, 'look'>) =>
  shared.every((path) => isOpen(source, path)) &&
  apart.every(({ parent, name, isPattern }) => isPattern || source.look(below(parent, name))?.isDirectory());

/** Whether two rsyncs may write in a directory at a time: without rights of its owner, one would take away what the other needs. */
function isOpen({ look }: Pick<Source, 'look'>, path: string): boolean {
  const found = look(path);
  return found?.isDirectory() === true && (found.mode & 0o700) === 0o700;
}

const below = (parent: string, name: string) => (parent ? `${parent}/${name}` : name);
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);

/** Lists the directories of a tree, each before those in it, until that takes too long. */
async function walk({ list, look }: Pick<Source, 'list' | 'look'>): Promise<Node[]> {
  const nodes: Node[] = [{ path: '', own: -1, weight: 0, children: [] }];
  const [breathe, until] = [breather(), performance.now() + LOOK_MS];
  let seen = 0;
  for (const node of nodes) {
    await breathe();
    if (seen > MOST || performance.now() > until) break;
    const { size = 0 } = look(node.path) ?? {};
    if (size > MAX_LISTED) {
      node.own = size / NAME_BYTES;
      continue;
    }
    const entries = list(node.path);
    const directories = entries.filter((entry) => entry.isDirectory());
    node.own = entries.length - directories.length;
    seen += entries.length;
    for (const entry of directories) {
      const child = { path: below(node.path, entry.name), own: -1, weight: 0, children: [] };
      node.children.push(child);
      nodes.push(child);
    }
  }
  return nodes;
}

/** Puts down how much each directory holds; returns how much that is of all. */
function weigh(nodes: Node[]): number {
  const known = nodes.filter(({ own }) => own >= 0);
  const average = known.reduce((sum, { own }) => sum + own, 0) / Math.max(1, known.length);
  for (const node of nodes.toReversed()) {
    const inner = node.children.reduce((sum, { weight }) => sum + weight, 0);
    node.weight = 1 + (node.own < 0 ? average : node.own) + inner;
  }
  return nodes[0]?.weight ?? 0;
}

interface Choice {
  name: string;
  isPattern: boolean;
  weight: number;
}

/** Chooses directories in one of them that hold no more than is needed, and the one in which the rest may be found. */
function choose({ children }: Node, need: number, most: number): { taken: Choice[]; rest: Node | undefined } {
  const named = children.filter(isWritable);
  const largest = named.reduce<Node | undefined>(
    (best, it) => (it.weight > (best?.weight ?? 0) ? it : best),
    undefined,
  );
  if (largest && largest.weight > need && children.length > most) return { taken: [], rest: largest };
  const candidates = children.length > most ? groupsOf(children) : named.map(asChoice);
  const taken: Choice[] = [];
  let left = need;
  for (const choice of candidates.sort((a, b) => b.weight - a.weight)) {
    if (taken.length >= most || choice.weight > left) continue;
    taken.push(choice);
    left -= choice.weight;
  }
  const isInside =
    largest &&
    largest.weight > left &&
    children.length <= most &&
    taken.every(({ name }) => name !== nameOf(largest.path));
  return { taken: joined(taken), rest: isInside ? largest : undefined };
}

const asChoice = ({ path, weight }: Node): Choice => ({ name: nameOf(path), isPattern: false, weight });

/** Whether a name can be in a pattern that stands for it alone. */
const isExact = (name: string) => isUtf8(Buffer.from(name, 'latin1')) && !/[\\\p{Cc}]/u.test(name);
const isWritable = ({ path }: Node) => isExact(nameOf(path));

/** Puts directories together whose names end, or begin, with the same character, whichever makes parts of them that are more alike. */
function groupsOf(children: Node[]): Choice[] {
  const [byEnd, byStart] = [/([0-9A-Za-z])$/, /^([0-9A-Za-z])/].map((form) => {
    const weights = new Map<string, number>();
    for (const { path, weight } of children) {
      const [, character] = form.exec(nameOf(path)) ?? [];
      if (character) weights.set(character, (weights.get(character) ?? 0) + weight);
    }
    return weights;
  }) as [Map<string, number>, Map<string, number>];
  const isByEnd = byEnd.size >= byStart.size;
  return [...(isByEnd ? byEnd : byStart)].map(([character, weight]) => ({
    name: isByEnd ? `*[${character}]` : `[${character}]*`,
    isPattern: true,
    weight,
  }));
}

/** Makes one pattern of those that differ in the character only. */
function joined(choices: Choice[]): Choice[] {
  const [first] = choices;
  if (!first?.isPattern) return choices;
  const characters = choices.map(({ name }) => name.replace(/[*[\]]/g, '')).join('');
  const weight = choices.reduce((sum, it) => sum + it.weight, 0);
  return [{ name: first.name.replace(/\[.*\]/, `[${characters}]`), isPattern: true, weight }];
}

/**
 * Writes the rules under which each of two rsyncs compares its part, and leaves what is in the other one as it is.
 * @param prefix what stands before a path of the source where rsync starts
 */
export function rulesOfParts({ shared, apart }: Division, prefix: string): [rest: string[], apart: string[]] {
  const patterns = apart.map(({ parent, name, isPattern }) => {
    const start = `${prefix}${parent}${parent && '/'}`;
    // A pattern is for directories alone: of files that it would be for, the other rsync does not know.
    return isPattern
      ? { rest: [patternOf(start, `${name}/`)], apart: [patternOf(start, `${name}/***`)] }
      : { rest: [patternOf(start + name)], apart: [patternOf(start + name), patternOf(start + name, '/***')] };
  });
  const above = new Set(
    [...shared.map((path) => prefix + path), prefix].flatMap(withRoots).map((path) => patternOf(path)),
  );
  return [
    patterns.flatMap(({ rest }) => rest.map((text) => `--exclude=${text}`)),
    [
      ...[...above].flatMap((text) => [`--filter=P ${text}/`, `--include=${text}/`]),
      ...patterns.flatMap((it) => it.apart.map((text) => `--include=${text}`)),
      '--exclude=*',
    ],
  ];
}

/** Lists a path below where rsync starts and those above it, without that place itself. */
function withRoots(path: string): string[] {
  const parts = path.split('/').filter(Boolean);
  return parts.map((_, n) => `/${parts.slice(0, n + 1).join('/')}`);
}
