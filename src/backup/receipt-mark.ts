/**
 * When something was received last. Sessions come and go within moments and many of them tell nobody of anything, so each marks the time on
 * a file in the runtime directory, which costs it nothing.
 *
 *   new ReceiptMark('/run/start-sshd-x/admission').put();
 *   receivedAt('/run/start-sshd-x'); // 2026-11-28T18:03:54.123Z
 */
import { constants, futimesSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const markIn = (directory: string) => join(directory, 'received');

export class ReceiptMark {
  private readonly file: number | undefined;

  /** Opens it, for the session may be fenced off from it later on. @param admission a file beside it, if there is one */
  constructor(admission = process.env.START_SSHD_ADMISSION) {
    try {
      if (admission) this.file = openSync(markIn(dirname(admission)), constants.O_WRONLY | constants.O_CREAT, 0o600);
    } catch {} // nothing is lost but this
  }

  /** Says that something is received now. */
  put(): void {
    const now = new Date();
    if (this.file !== undefined) futimesSync(this.file, now, now);
  }
}

/** Tells when a session last began to receive something, or made ready to; nothing where none has. */
export const receivedAt = (directory: string): Date | undefined =>
  statSync(markIn(directory), { throwIfNoEntry: false })?.mtime;
