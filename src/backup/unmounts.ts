/**
 * Notices that the file system of DEST_DIR was unmounted, also where it is mounted again, on the same device, before anybody has
 * looked: what is there then need not be what was there. inotify(7) tells it without keeping the file system in use.
 *
 *   const unmounts = new UnmountWatch();
 *   unmounts.follow(root);
 *   unmounts.hasHappened();
 */
import { ptr } from 'bun:ffi';
import { closeSync, readSync } from 'node:fs';
import { cFunctions } from '../service/libc.ts';

/** Flags of inotify_init1(2): neither waits nor is passed on to what we start. */
const [IN_NONBLOCK, IN_CLOEXEC] = [0x800, 0x80000];
/** Events: the directory itself is gone, for one has to be asked for, and what is always told, that its file system is. */
const [IN_DELETE_SELF, IN_UNMOUNT] = [0x400, 0x2000];
/** The place of the mask in an event, and how long one without a name is, bytes. */
const [MASK_AT, EVENT_BYTES] = [4, 16];

export class UnmountWatch {
  private descriptor = -1;

  /**
   * Watches the file system of a directory, and no other one any more. Where that is not possible, nothing will have happened.
   * @param root bytes in a latin1 string
   */
  follow(root: string): void {
    this.close();
    const calls = cFunctions({
      inotify_init1: { args: ['i32'], returns: 'i32' },
      inotify_add_watch: { args: ['i32', 'ptr', 'u32'], returns: 'i32' },
    });
    this.descriptor = calls?.inotify_init1(IN_NONBLOCK | IN_CLOEXEC) ?? -1;
    if (this.descriptor < 0) return;
    const added = calls?.inotify_add_watch(this.descriptor, ptr(Buffer.from(`${root}\0`, 'latin1')), IN_DELETE_SELF);
    if (added === undefined || added < 0) this.close();
  }

  /** Whether the file system was unmounted since `follow`. Says so once. */
  hasHappened(): boolean {
    if (this.descriptor < 0) return false;
    const events = Buffer.alloc(16 * EVENT_BYTES);
    try {
      const size = readSync(this.descriptor, events);
      for (let at = 0; at + EVENT_BYTES <= size; at += EVENT_BYTES)
        if (events.readUInt32LE(at + MASK_AT) & IN_UNMOUNT) return true;
    } catch {} // nothing has happened: EAGAIN
    return false;
  }

  private close(): void {
    if (this.descriptor >= 0) closeSync(this.descriptor);
    this.descriptor = -1;
  }
}
