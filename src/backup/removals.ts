/**
 * Deletes in the backup by name what the source does not have any more, so that rsync need not compare all that lies beside it.
 *
 *   const { removed, isDone } = new Removals(root).remove('web/old.html', 'file', 1000);
 */
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  rmdirSync,
  type Stats,
  statfsSync,
  unlinkSync,
} from 'node:fs';
import { inPlace, type Kept, openPlace, outside, PLACE, walk } from './renames.ts';

/** What is to be deleted: a directory with all that is in it, or anything else. */
export type Kind = 'file' | 'directory';

/** What came of it. */
export interface Removal {
  /** How many entries were deleted, those in a directory among them. */
  removed: number;
  /** Whether nothing is there any more; otherwise rsync has to look. */
  isDone: boolean;
}

/**
 * File systems by their numbers (statfs(2)) that know a name by its bytes, or where a directory was told not to, by what Unicode holds for
 * the same: ext4, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, bcachefs. Others have short names, or drop dots and spaces.
 */
const PLAIN = [0xef53, 0x58465342, 0x9123683e, 0x1021994, 0x794c7630, 0x2fc12fc1, 0xf2f52010, 0xca451a4e];
/** How deep a directory is looked into: each level holds a file open. */
const MAX_DEPTH = 100;

/** Why a directory, or what is in it, stays for rsync to look at. */
class Left extends Error {}

const NOTHING: Removal = { removed: 0, isDone: false };

export class Removals {
  /** Whether the file system with this number of a device is a plain one. */
  private readonly plain = new Map<number, boolean>();

  /** @param root an open directory @param keeping what becomes of older versions */
  constructor(
    private readonly root: number,
    private readonly keeping?: Kept,
    private readonly typeOf = (place: number) => statfsSync(inPlace(place, '.')).type,
  ) {}

  /**
   * Deletes one thing, unless something else is there than is meant. No link is followed on the way, nor looked behind.
   * @param path a relative one, bytes in a latin1 string
   * @param most how many entries may be deleted
   */
  remove(path: string, kind: Kind, most: number): Removal {
    try {
      const { keeping } = this;
      using way = walk(this.root, path, keeping ? outside(keeping, openPlace) : openPlace);
      const found = lstatSync(way.last, { throwIfNoEntry: false });
      if (!found) return { removed: 0, isDone: true };
      if (found.isDirectory() !== (kind === 'directory') || most < 1 || keeping?.isHistory(way.last)) return NOTHING;
      if (!this.isPlain(way.place) || hasOtherName(way.place, way.name, found)) return NOTHING;
      const discard = (at: Buffer, it: string) => (keeping?.keeper ? keeping.keeper.take(at, it) : unlinkSync(at));
      if (kind === 'directory') return removeTree(way.place, way.name, { most, path, discard });
      discard(way.last, path);
      return { removed: 1, isDone: true };
    } catch (cause) {
      return { removed: 0, isDone: (cause as NodeJS.ErrnoException).code === 'ENOENT' };
    }
  }

  private isPlain(place: number): boolean {
    const { dev } = fstatSync(place);
    const known = this.plain.get(dev) ?? PLAIN.includes(this.typeOf(place));
    this.plain.set(dev, known);
    return known;
  }
}

/** Lists names that some directories take for the same as one. */
function namesLike(name: string): string[] {
  const text = Buffer.from(name, 'latin1').toString();
  const [upper, lower] = [text.toUpperCase(), text.toLowerCase()];
  const swapped = [...text].map((it) => (it === it.toLowerCase() ? it.toUpperCase() : it.toLowerCase())).join('');
  const all = [upper, lower, swapped, text.normalize('NFC'), text.normalize('NFD')];
  return [...new Set(all)].map((it) => Buffer.from(it).toString('latin1')).filter((it) => it !== name);
}

/** Whether what is there is there under another name, too, that this directory takes for the same: that one may still be in the source. */
function hasOtherName(place: number, name: string, { ino }: Stats): boolean {
  const isSame = (other: string) => {
    try {
      return lstatSync(inPlace(place, other), { throwIfNoEntry: false })?.ino === ino;
    } catch {
      return false; // it is too long, and so nobody's
    }
  };
  return namesLike(name).some(isSame);
}

/** Deletes a directory with all that is in it, but for a file system that is mounted there; what was deleted before something stays is counted. */
function removeTree(place: number, name: string, terms: Pick<Clearing, 'most' | 'path' | 'discard'>): Removal {
  const count = { removed: 0 };
  try {
    clear(place, name, { ...terms, count, device: fstatSync(place).dev, depth: 0 });
    return { ...count, isDone: true };
  } catch {
    return { ...count, isDone: false };
  }
}

interface Clearing {
  count: { removed: number };
  most: number;
  device: number;
  depth: number;
  /** The path of the directory, bytes in a latin1 string. */
  path: string;
  /** Deletes a file, or keeps it elsewhere. */
  discard: (at: Buffer, path: string) => void;
}

/** @throws where something stays */
function clear(place: number, name: string, clearing: Clearing): void {
  const { count, most, device, depth, path, discard } = clearing;
  const directory = openSync(inPlace(place, name), PLACE);
  try {
    if (fstatSync(directory).dev !== device || depth > MAX_DEPTH) throw new Left();
    for (const entry of readdirSync(inPlace(directory, '.'), { encoding: 'latin1' })) {
      if (lstatSync(inPlace(directory, entry)).isDirectory()) {
        clear(directory, entry, { ...clearing, depth: depth + 1, path: `${path}/${entry}` });
        continue;
      }
      if (count.removed >= most) throw new Left();
      discard(inPlace(directory, entry), `${path}/${entry}`);
      count.removed++;
    }
  } finally {
    closeSync(directory);
  }
  if (count.removed >= most) throw new Left();
  rmdirSync(inPlace(place, name));
  count.removed++;
}
