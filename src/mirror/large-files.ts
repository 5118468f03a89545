/**
 * Finds the files of a batch that are large on their way: that would take longer than about a second at the pace seen lately.
 *
 *   const large = new LargeFiles(parts);
 *   large.find(batch);           // their sizes by their paths
 *   large.note(batch, outcome);  // a sync of it has shown the pace
 */
import type { Stats } from 'node:fs';
import { parentOf, withParents } from '../service/files.ts';
import { wordsOf } from '../service/text.ts';
import type { Batch, Change } from './changes.ts';
import { isUntold } from './dating.ts';
import type { Plan } from './options.ts';
import { parseOptions } from './rsync-options.ts';
import type { Source } from './source.ts';

/** How large a file is at least that counts as large, bytes; so many times that where no pace was seen. */
const LEAST_BYTES = 4_000_000;
const UNSEEN_RATIO = 4;
/** How long a file may take that holds the others up, s. */
const MOST_SECONDS = 1.5;
/** Of how many bytes in files a sync says something of the pace, where a file counts from this part of it on. */
const TELLING_BYTES = 1_000_000;
/** How many of the last ones count: the slowest of them, for one may have sent no more than what was new in a file. */
const MAX_PACES = 4;
/** How many changes of a batch are looked at at once; of more, none is large. */
export const MAX_LOOKS = 1000;
/** A directory into which its owner may write, so that no rsync has to change its mode for a while. */
const WRITABLE = 0o300;

/** Options under which it makes no difference in what order files are sent, and whether they are looked at once more afterwards. */
const HARMLESS = new Set(
  wordsOf(
    `-a -r -l -p -t -g -o -D -v -q -h -z -W -S -A -X -E -O -J -i --archive --recursive --links --perms --times --group --owner
    --devices --specials --acls --xattrs --executability --verbose --quiet --human-readable --itemize-changes --compress --whole-file
    --sparse --numeric-ids --omit-dir-times --omit-link-times --delete --del --delete-before --delete-during --delete-delay
    --delete-after --compress-choice --zc --compress-level --zl --skip-compress --chmod --chown --timeout --rsync-path
    -f --filter --exclude --include --exclude-from --include-from`,
  ),
);
const keepsTimes = (names: string[]) => names.some((name) => ['-a', '-t', '--archive', '--times'].includes(name));

/** Whether files may go beside others under such options. */
export function mayGoBeside(words: readonly string[]): boolean {
  const names = parseOptions(words).map(({ name }) => name);
  return names.every((name) => HARMLESS.has(name)) && keepsTimes(names);
}

/** Whether a change is one of what a plain file holds, which rsync notices by its size and time. */
function isPlain({ tree, hidden, isDirectory, dated }: Change, found: Stats): boolean {
  return !tree && !hidden && !isDirectory && !isUntold(found, dated);
}

const isSent = ({ kind }: Change) => kind === 'create' || kind === 'modify' || kind === 'close_write';

interface Parts {
  plan: Pick<Plan, 'method' | 'words' | 'ruleFiles' | 'filters' | 'isOneFileSystem'>;
  source: Pick<Source, 'root' | 'look' | 'reach'>;
  /** Whether all is well with the target, and nothing in the source that needs care, so that files may go beside others now. */
  isReady: () => boolean;
}

export class LargeFiles {
  /** What the last syncs have sent, bytes of files in a second. */
  private paces: number[] = [];
  /** For which options it is known whether files may go beside others, and whether they may. */
  private known: { words: readonly string[]; isHarmless: boolean } | undefined;

  /** @param least how large a file is at least, bytes */
  constructor(
    private readonly parts: Parts,
    private readonly least = LEAST_BYTES,
  ) {}

  /** From which size on a file is large, bytes. */
  private get threshold(): number {
    const { least, paces } = this;
    return paces.length === 0 ? UNSEEN_RATIO * least : Math.max(least, MOST_SECONDS * Math.min(...paces));
  }

  private get isHarmless(): boolean {
    const { method, words } = this.parts.plan;
    if (this.known?.words !== words) this.known = { words, isHarmless: mayGoBeside(words) };
    return method === 'list' && this.known.isHarmless;
  }

  /** Finds the large files of a batch, by their paths, none where they may not go beside others. */
  find(batch: Batch): Batch {
    if (batch.size > MAX_LOOKS || !this.isHarmless || !this.parts.isReady()) return new Map();
    const { threshold } = this;
    return new Map([...batch].filter(([path, change]) => this.isLarge(path, change, threshold)));
  }

  private isLarge(path: string, change: Change, threshold: number): boolean {
    const { plan, source } = this.parts;
    const found = source.look(path);
    if (!found?.isFile() || found.size < threshold || !isPlain(change, found)) return false;
    return this.isSingle(path) && !plan.ruleFiles.includes(source.root + path);
  }

  /** Whether rsync sees a path as a file with one name, in directories that stay as they are while it writes. */
  isSingle(path: string): boolean {
    const { plan, source } = this.parts;
    const { reached, found } = source.reach(path, plan) ?? {};
    if (reached !== path || !found?.isFile() || found.nlink !== 1) return false;
    return withParents(parentOf(path)).every((it) => it === '' || isWritable(source.look(it)));
  }

  /** Takes in how long a sync has taken that has sent a batch, s. */
  note(batch: Batch, seconds: number): void {
    if (batch.size > MAX_LOOKS) return;
    let bytes = 0;
    for (const [path, change] of batch) {
      const found = isSent(change) ? this.parts.source.look(path) : undefined;
      if (found?.isFile() && found.size >= Math.min(TELLING_BYTES, this.least)) bytes += found.size;
    }
    if (bytes > 0 && seconds > 0) this.paces = [...this.paces, bytes / seconds].slice(-MAX_PACES);
  }
}

const isWritable = (found: Stats | undefined) => found?.isDirectory() === true && (found.mode & WRITABLE) === WRITABLE;
