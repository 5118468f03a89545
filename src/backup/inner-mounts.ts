/**
 * What is mounted below DEST_DIR, and what has changed in that.
 *
 *   mountsWithin(readMountinfo(), '/data/backup'); // ['/data/backup/disk\0…']
 */
import { mountsBelow, parseMountinfo } from '../service/mounts.ts';
import { showPath, t } from '../service/text.ts';

/**
 * Lists what is mounted below a real path, each with what tells it from others. An automount comes and goes by itself: whoever
 * looks for what is there has it mounted.
 * @param mountinfo in the form of /proc/self/mountinfo
 */
export function mountsWithin(mountinfo: string, root: string): string[] {
  const mounts = parseMountinfo(mountinfo);
  const automounts = new Set(mounts.filter(({ type }) => type === 'autofs').map(({ id }) => id));
  return mountsBelow(mounts, root)
    .filter(({ path, parent, id }) => path !== root && !automounts.has(parent) && !automounts.has(id))
    .map(({ path, id, device, root: part }) => [path, id, device, part].join('\0'));
}

/** Finds the paths of those mounts that are missing in a list. */
export const pathsMissing = (mounts: string[], list: string[]) =>
  mounts.filter((mount) => !list.includes(mount)).map((mount) => showPath(mount.replace(/\0.*/s, '')));

const MAX_NAMED = 5;

/** Says what was mounted and unmounted. */
export function describeChange(added: string[], removed: string[]): string {
  const name = (paths: string[]) => paths.slice(0, MAX_NAMED).join(t`、`) + (paths.length > MAX_NAMED ? t` 等` : '');
  const parts = [added.length > 0 && t`新挂载 ${name(added)}`, removed.length > 0 && t`已卸载 ${name(removed)}`];
  return parts.filter(Boolean).join(t`；`);
}
