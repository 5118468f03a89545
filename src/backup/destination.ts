/**
 * DEST_DIR, where the mirror is received: whether it can be written and how much room it has. It may lie on a disk that
 * hangs, so nothing here makes others wait.
 *
 *   const destination = new Destination('/data/backup/');
 *   await destination.inspect();
 *   destination.report(); // { directory: '/data/backup/', writable: true, free_bytes: 52428800, … }
 */
import { access, constants, mkdir, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isWithin, realPath } from '../service/files.ts';
import { warn } from '../service/log.ts';
import { isInTime } from '../service/patience.ts';
import { touch } from '../service/status.ts';
import { reasonOf, t } from '../service/text.ts';
import { isAbsence, type Place, placeOf } from './admission.ts';
import type { Config } from './config.ts';
import { newRoomSurvey, type Room } from './room.ts';

/** A look at the directory that takes longer has not come back, ms. */
const PATIENCE_MS = 10_000;
interface Found extends Room {
  /** Which directory it is: null for none, nothing where that cannot be said. */
  place?: Place | null;
}

const UNSEEN: Room = {
  ...{ writable: false, free_bytes: Number.MAX_SAFE_INTEGER, size_bytes: null, free_files: null, shortage: null },
};

/** What is known of a directory from the last look at it. */
export class Destination {
  private found: Found = UNSEEN;
  /** The look that is under way: of a disk that hangs only one hangs with it. */
  private inspection: Promise<void> | undefined;

  constructor(
    private readonly directory: string,
    private readonly ask: () => Promise<Found> = newLook(directory),
    private readonly patience = PATIENCE_MS,
  ) {}

  /** Looks at the directory, unless that is being done; resolves when that is done, which may be never. */
  inspect(): Promise<void> {
    this.inspection ??= this.inspectOnce().finally(() => {
      this.inspection = undefined;
    });
    return this.inspection;
  }

  private async inspectOnce(): Promise<void> {
    const { place: _, ...room } = this.found;
    const unanswered = { ...room, writable: false };
    const looking = this.ask();
    if (!(await isInTime(looking, this.patience))) this.record(unanswered);
    this.record(await looking);
  }

  /** Records what was found. Room alone comes and goes all the time: that it does is no news. */
  private record(found: Found): void {
    const isNews = found.writable !== this.found.writable || found.shortage !== this.found.shortage;
    this.found = found;
    if (isNews) touch();
  }

  /** Which directory the last look has found: null for none, nothing where that cannot be said. */
  get place(): Place | null | undefined {
    return this.found.place;
  }

  /** Tells what the last look has found. */
  report() {
    const { place: _, ...room } = this.found;
    return { directory: this.directory, ...room };
  }
}

/** Makes what looks at a directory. */
function newLook(directory: string): () => Promise<Found> {
  const survey = newRoomSurvey(directory);
  return async () => {
    const place = await placeAt(directory);
    return { ...(await survey()), ...(place === undefined ? {} : { place }) };
  };
}

/** Finds which directory is there: null for none, nothing where the file system does not say. */
export async function placeAt(path: string): Promise<Place | null | undefined> {
  try {
    return placeOf(await stat(path, { bigint: true }));
  } catch (cause) {
    return isAbsence(cause) ? null : undefined;
  }
}

/**
 * Makes DEST_DIR, and warns where it cannot be used safely.
 * @returns where it really is, nothing where it cannot be made
 */
export async function prepareDestination(config: Config): Promise<string | undefined> {
  const { DEST_DIR } = config;
  let root: string | undefined;
  try {
    await mkdir(DEST_DIR, { recursive: true });
    root = await realpath(DEST_DIR);
    await access(DEST_DIR, constants.W_OK);
    warnOfExposure(config, root);
  } catch (cause) {
    warn('destination.failed', t`目标目录 ${DEST_DIR} 无法写入：${reasonOf(cause)}。请检查 DEST_DIR 和权限`);
  }
  return root;
}

/** Warns where the source may write what is not its own. */
function warnOfExposure({ DEST_DIR, SSH_DIR, HOST_KEY_DIR, LOG_FILE, STATUS_FILE }: Config, root: string): void {
  const isExposed = (path: string) => isWithin(realPath(path), root);
  for (const path of [LOG_FILE, STATUS_FILE].filter((name) => name && isExposed(dirname(name)))) {
    warn('destination.exposed', t`${path} 在 DEST_DIR=${DEST_DIR} 之内：源端可以改写或删除它。请更改其中一个`);
  }
  for (const path of [SSH_DIR, HOST_KEY_DIR].filter(isExposed)) {
    warn('destination.exposed', t`${path} 在 DEST_DIR=${DEST_DIR} 之内：源端可以改写其中的密钥。请更改其中一个`);
  }
}
