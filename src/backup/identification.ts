/**
 * Tells the source which backup it has reached, so that it knows when what it has mirrored may not be there any more.
 *
 *   identify('/data/backup/web/', DEST_DIR, admission); // '{"start":"…","boot":"…","directory":"ef53:a7336dee:131:1760011200000000000"}'
 */
import { ptr } from 'bun:ffi';
import { statSync, writeSync } from 'node:fs';
import { hasLastingInodes } from '../service/files.ts';
import { cFunctions } from '../service/libc.ts';
import { type Admission, placeOf } from './admission.ts';
import { enter, locate } from './confinement.ts';
import { HISTORY_VARIABLE } from './history-door.ts';

/** Marks the answer for a directory that is not there yet: it is that of the last one on the way that is. */
const ABOVE = 'above:';

/**
 * Identifies the backup to the source, and the directory that it mirrors to, which need not be there yet. Beside that, it says on standard
 * error for how many days it keeps older versions.
 * @throws {Refusal}
 */
export function identify(directory: string, allowed: string, { start, boot }: Admission): string {
  const { real, root } = locate(directory, allowed);
  // Sources that know nothing of it take no answer but the one that they know, and ignore this.
  writeSync(2, `start-sshd: history ${process.env[HISTORY_VARIABLE] ?? 0}\n`);
  const mark = enter(real, root) === './' ? '' : ABOVE;
  return JSON.stringify({ start, boot, directory: `${mark}${identifyHere()}` });
}

/** Identifies the working directory by its file system, its number in it, and when it was made. */
function identifyHere(): string {
  const { device, inode, birth } = placeOf(statSync('.', { bigint: true }));
  const { type, fileSystem } = fileSystemHere() ?? { type: 'device', fileSystem: device };
  return [type, fileSystem, hasLastingInodes(type) ? inode : '', birth].join(':');
}

/** Asks for the type and the own number of the file system, in hexadecimal, as stat(1) shows them: statfs(2). */
function fileSystemHere(): { type: string; fileSystem: string } | undefined {
  const calls = cFunctions({ statfs: { args: ['ptr', 'ptr'], returns: 'i32' } });
  const answer = Buffer.alloc(256);
  if (calls?.statfs(ptr(Buffer.from('.\0')), ptr(answer)) !== 0) return undefined;
  const number = (BigInt(answer.readUInt32LE(56)) << 32n) | BigInt(answer.readUInt32LE(60));
  return { type: answer.readBigUInt64LE(0).toString(16), fileSystem: number.toString(16) };
}
