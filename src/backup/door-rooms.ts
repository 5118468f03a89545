/**
 * The directories of sources with names, below DEST_DIR: they are made, and it is noticed when another one comes in the place of one.
 *
 *   const rooms = new DoorRooms(guard, mounts, (door) => endSessionsOf(door));
 *   await rooms.prepare(door);
 *   await rooms.look(door);
 */
import { lstat, mkdir, readdir, statfs } from 'node:fs/promises';
import { hasLastingInodes } from '../service/files.ts';
import { mountOf, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { isInTime } from '../service/patience.ts';
import { Failure, reasonOf, t } from '../service/text.ts';
import { isAbsence, isSamePlace, type Place, placeOf } from './admission.ts';
import type { DoorMounts } from './door-mounts.ts';
import type { Door } from './doors.ts';
import type { Guard } from './guard.ts';
import { latin1Of } from './mount-memory.ts';

/** How long the disk may take to answer, ms. */
const PATIENCE_MS = 2000;

export class DoorRooms {
  private readonly places = new Map<string, Place>();
  /** The mounts from which a look has not come back yet: of a disk that hangs only one hangs with it, and none on another disk. */
  private readonly hung = new Set<number>();

  /**
   * @param guard says whether DEST_DIR is the directory that it should be: else nothing is made and nothing is missed
   * @param mounts says whether a disk of its own that a directory had is there
   * @param onOther is called with a door whose directory is another one than before
   */
  constructor(
    private readonly guard: Pick<Guard, 'report' | 'isAtHome' | 'barSource'>,
    private readonly mounts: Pick<DoorMounts, 'findMissing'>,
    private readonly onOther: (door: Door) => void,
  ) {}

  /**
   * Makes the directory of a door, if DEST_DIR can be used: else its sessions are refused until then.
   * @throws {Failure} where something else is in its place, or the disk does not answer
   */
  async prepare({ directory }: Door): Promise<void> {
    if (this.guard.report() !== null) return;
    await this.inTime(directory, async () => {
      const found = await lstat(directory).catch(() => undefined);
      if (!found) await mkdir(directory);
      else if (!found.isDirectory())
        throw new Failure(t`${directory} 是链接或文件，不是目录。请在备份端移走它，或改用另一个 SOURCE_NAME`);
    });
  }

  /**
   * Notices that the directory of a door is another one than before. What else is mounted below DEST_DIR is the affair of the guard.
   * @throws {Failure} where the disk does not answer, or one that the directory had for itself is not mounted: nothing is received then
   */
  async look(door: Door): Promise<void> {
    const found = await this.find(door);
    if (this.guard.report() !== null || !found) return;
    const missing = await this.inTime(door.directory, () => this.mounts.findMissing(door));
    const isNews = this.guard.barSource(door.name, missing);
    if (missing && isNews) this.onOther(door);
    if (missing) throw new Failure(missing);
    const former = this.places.get(door.name);
    const isOther = former?.device === found.device && !isSamePlace(former, found);
    if (!former || isOther || former.device !== found.device)
      this.places.set(door.name, await this.lasting(door, found));
    if (isOther) this.onOther(door);
  }

  /** Leaves out the number of a directory where the file system gives it another one after a while. */
  private lasting({ directory }: Door, place: Place): Promise<Place> {
    return this.inTime(directory, async () => {
      const { type } = await statfs(directory);
      return hasLastingInodes(type.toString(16)) ? place : { ...place, inode: '' };
    });
  }

  /** Whether there is no such directory, in a DEST_DIR that can be used. @throws {Failure} where the disk does not answer */
  async isGone(door: Door): Promise<boolean> {
    return (await this.find(door)) === null && this.isAtHome(door);
  }

  /** The same, or there is one in which nothing is: it was made anew while all of it was moved. @throws {Failure} where the disk does not answer */
  async isEmpty(door: Door): Promise<boolean> {
    return (await this.isVacant(door)) && this.isAtHome(door);
  }

  /** Whether DEST_DIR is at this moment the one that it should be. @throws {Failure} where the disk does not answer */
  isAtHome({ directory }: Door): Promise<boolean> {
    return this.inTime(directory, () => this.guard.isAtHome());
  }

  /** Whether nothing is in the directory of a door. @throws {Failure} where the disk does not answer */
  isVacant({ directory }: Door): Promise<boolean> {
    return this.inTime(directory, async () => {
      const names = await readdir(directory).catch((cause) => (isAbsence(cause) ? [] : [reasonOf(cause)]));
      return names.length === 0;
    });
  }

  /** Finds the doors by which something is mirrored, or may be, for their disk does not answer. */
  async findUsed(doors: readonly Door[]): Promise<Door[]> {
    const used: Door[] = [];
    for (const door of doors) if (!(await this.isVacant(door).catch(() => false))) used.push(door);
    return used;
  }

  /** Finds which directory it is, null for none, nothing where the file system does not say. */
  private find({ directory }: Door): Promise<Place | null | undefined> {
    return this.inTime(directory, () =>
      lstat(directory, { bigint: true }).then(placeOf, (cause) => (isAbsence(cause) ? null : undefined)),
    );
  }

  private async inTime<T>(directory: string, work: () => Promise<T>): Promise<T> {
    const late = new Failure(t`${directory} 没有应答，请检查磁盘`);
    if (this.hung.size > 0 && this.hung.has(mountAt(directory))) throw late;
    const done = work();
    if (await isInTime(done, PATIENCE_MS)) return done;
    const mount = mountAt(directory);
    const forget = () => this.hung.delete(mount);
    this.hung.add(mount);
    void done.then(forget, forget);
    throw late;
  }
}

/** Says on which mount a directory is, as the kernel numbers them; of one that a link leads to, where that link is. No disk is asked. */
const mountAt = (directory: string) => mountOf(parseMountinfo(readMountinfo()), latin1Of(directory))?.id ?? 0;
