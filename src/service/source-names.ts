/**
 * The names of sources that mirror to one backup: each is a directory below DEST_DIR, and a file on the shared volume, where others may
 * write, too.
 *
 *   isSourceName('web1'); // true
 *   isSourceName('../web1'); // false
 */

import { t } from './text.ts';

/** Dots and dashes come first in names of our own and of rsync's, and in options. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/;

/** Says what a name is made of. */
export const NAME_FORM = t`1 到 64 个字母、数字和 . _ -，不以 . 或 - 开头`;

/** Ends the name of the file on the shared volume in which a host leaves its key that was refused a name. */
export const CLAIM_END = '.claim';

/** Whether a text may be the name of a source: one component of a path, of at most 64 characters. */
export const isSourceName = (text: string) => NAME.test(text) && !/[\r\n]/.test(text);

/** A command on the backup, which is about one source alone where that has a name. */
export const backupCommand = (flag: '--promote' | '--demote', name?: string | null) =>
  `start-sshd ${flag}${name ? ` --source ${name}` : ''}`;
