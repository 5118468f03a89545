/**
 * Notices that a disk which the directory of a source had for itself is not mounted: what would be mirrored then would fill the disk below
 * it, which is that of the others, and nobody would find it again.
 *
 *   const mounts = new DoorMounts(config);
 *   await mounts.findMissing(door); // 'DEST_DIR/web1 所在的磁盘没有挂载：…'
 */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { identify, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { showPath, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { configOf, type Door } from './doors.ts';
import { homeMount, latin1Of, MountMemory } from './mount-memory.ts';

export class DoorMounts {
  /** What was found of each door, and the text of all mounts by which it was. */
  private readonly found = new Map<string, { text: string; reason: string }>();

  constructor(private readonly config: Pick<Config, 'HOST_KEY_DIR' | 'DEST_DIR'>) {}

  /** Says what is missing, '' where nothing is; remembers beside the host keys what is there. */
  async findMissing(door: Door): Promise<string> {
    const text = readMountinfo();
    const former = this.found.get(door.name);
    if (former?.text === text) return former.reason;
    const memory = new MountMemory(configOf(this.config, door), undefined, nameFor(door)); // one that is not needed any more can be deleted by itself
    const missing = await memory.findMissing();
    if (missing === undefined) await remember(memory, door.directory, text);
    const reason = missing === undefined ? '' : describe(door, missing, memory.file);
    this.found.set(door.name, { text, reason });
    return reason;
  }
}

const nameFor = ({ directory }: Door) =>
  `destination-${createHash('sha256').update(directory).digest('hex').slice(0, 16)}.json`;

/** Remembers a mount that a directory has for itself: one that it shares is the affair of the guard. */
async function remember(memory: MountMemory, directory: string, mountinfo: string): Promise<void> {
  try {
    const path = latin1Of(await realpath(directory));
    const mount = homeMount(parseMountinfo(mountinfo), path);
    if (mount?.path === path && mount.type !== 'autofs') memory.remember(path, await identify(path));
  } catch {} // it is not there, or the host keys are read-only, as those of containers may be, whose mounts come before they start
}

function describe({ directory }: Door, mount: string, file: string): string {
  const what = t`${directory} 所在的磁盘没有挂载：此前位于挂载点 ${showPath(mount)}，现在那里没有挂载任何文件系统`;
  return t`${what}。请挂载，服务随即恢复，否则请重启它；若已不再使用该挂载点，请删除 ${file}`;
}
