/**
 * When something was received last. Sessions come and go within moments and many of them tell nobody of anything, so each marks the time on
 * a file in the runtime directory, which costs it nothing.
 *
 *   new ReceiptMark('/run/start-sshd-x/admission').put();
 *   receivedAt('/run/start-sshd-x'); // 2026-11-28T18:03:54.123Z
 */
import { constants, futimesSync, openSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SOURCE_VARIABLE } from './admission.ts';

const markIn = (directory: string, name: string) => join(directory, name ? `received@${name}` : 'received');

export class ReceiptMark {
  private readonly file: number | undefined;

  /** Opens it, for the session may be fenced off from it later on. @param admission a file beside it, if there is one @param name of the source, '' for one without */
  constructor(admission = process.env.START_SSHD_ADMISSION, name = process.env[SOURCE_VARIABLE] ?? '') {
    if (!admission) return;
    try {
      this.file = openSync(markIn(dirname(admission), name), constants.O_WRONLY | constants.O_CREAT, 0o600);
    } catch {} // nothing is lost but this
  }

  /** Says that something is received now. */
  put(): void {
    const now = new Date();
    if (this.file !== undefined) futimesSync(this.file, now, now);
  }
}

/** Tells when a session of a source last began to receive something, or made ready to; nothing where none has. */
export const receivedAt = (directory: string, name = ''): Date | undefined =>
  statSync(markIn(directory, name), { throwIfNoEntry: false })?.mtime;
