/**
 * How much room there is in DEST_DIR: free bytes, files that can still be made, and whether a write really works, which alone
 * tells of a quota.
 *
 *   const ask = newRoomSurvey('/data/backup/');
 *   await ask(); // { writable: true, free_bytes: 52428800, size_bytes: 107374182400, free_files: 1310720, shortage: null }
 */
import { access, constants, open, statfs } from 'node:fs/promises';
import { join } from 'node:path';

/** Why nothing, or not much, can be written. */
export type Shortage = 'read_only' | 'full' | 'nearly_full' | 'no_files' | 'quota';

export interface Room {
  writable: boolean;
  /** Any amount where the file system does not tell. */
  free_bytes: number;
  /** How large the disk is; null where the file system does not tell. */
  size_bytes: number | null;
  /** Files and directories that can still be made; null where the file system sets no limit, or does not tell. */
  free_files: number | null;
  shortage: Shortage | null;
}

/** With less room, a disk is full, bytes. */
const LEAST_FREE = 1_000_000;
/** With less than a hundredth of it, but this much, it is nearly full, bytes. */
const LITTLE_FREE = 100_000_000;
/** How much is written to try whether that works, bytes. */
const TRIAL_BYTES = 65_536;
/** After how much has been written a quota may be reached: until then nothing is tried, so that a disk at rest stays so. */
const TRIAL_AFTER = { bytes: 1_000_000, files: 16 };

interface Figures {
  size: number;
  bytes: number;
  files: number | null;
}

const UNKNOWN: Figures = { size: 0, bytes: Number.MAX_SAFE_INTEGER, files: null };

/** Makes what finds how much room a directory has; it remembers how much there was when it last tried to write. */
export function newRoomSurvey(directory: string): () => Promise<Room> {
  let most: Figures | undefined;
  let refusal: string | undefined;
  return async () => {
    const figures = await figuresOf(directory);
    if (!most || refusal || hasShrunk(most, figures)) {
      refusal = await refusalOf(directory);
      most = figures;
    } else most = { ...figures, bytes: Math.max(most.bytes, figures.bytes), files: largest(most.files, figures.files) };
    const obstacle = await obstacleTo(directory);
    const shortage = shortageOf(figures, obstacle ?? refusal) ?? null;
    const size_bytes = figures === UNKNOWN ? null : figures.size;
    return { writable: !obstacle, free_bytes: figures.bytes, size_bytes, free_files: figures.files, shortage };
  };
}

/** Says what there is too little of, by the figures and by the error of a write. */
export function shortageOf({ size, bytes, files }: Figures, refusal?: string): Shortage | undefined {
  if (refusal === 'EROFS') return 'read_only';
  if (files === 0) return 'no_files';
  if (bytes < LEAST_FREE) return 'full';
  if (refusal === 'EDQUOT') return 'quota';
  if (refusal === 'ENOSPC') return 'full';
  return bytes < Math.min(LITTLE_FREE, size / 100) ? 'nearly_full' : undefined;
}

const largest = (a: number | null, b: number | null) => (a === null || b === null ? b : Math.max(a, b));

function hasShrunk(before: Figures, now: Figures): boolean {
  const files = before.files !== null && now.files !== null ? before.files - now.files : 0;
  return before.bytes - now.bytes >= TRIAL_AFTER.bytes || files >= TRIAL_AFTER.files;
}

/** Asks for the room that is left for us on the disk of a directory. */
async function figuresOf(directory: string): Promise<Figures> {
  try {
    const { bavail, bfree, blocks, bsize, files, ffree } = await statfs(directory);
    if (blocks === 0) return UNKNOWN;
    const bytes = bsize * (process.getuid?.() === 0 ? bfree : bavail);
    return { size: blocks * bsize, bytes, files: files > 0 ? ffree : null };
  } catch {
    return UNKNOWN;
  }
}

/** Says why nothing can be written in a directory, by the error of the kernel; nothing where it may be. */
function obstacleTo(directory: string): Promise<string | undefined> {
  return access(join(directory, '/'), constants.W_OK | constants.X_OK).then(
    () => undefined,
    (cause) => String(cause.code),
  );
}

/** A file without a name (open(2), O_TMPFILE): nothing of it is seen in the directory, nor in its times. */
const NAMELESS = 0o20200000;

/** Tries to write, as rsync would; returns the error of the kernel where there is no room, nothing where it works or cannot be tried. */
async function refusalOf(directory: string): Promise<string | undefined> {
  try {
    await using file = await open(directory, NAMELESS | constants.O_RDWR, 0o600);
    await file.write(Buffer.alloc(TRIAL_BYTES, 1));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    if (['ENOSPC', 'EDQUOT'].includes(code)) return code;
  }
  return undefined;
}
