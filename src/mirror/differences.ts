/**
 * What differs between source and backup, as rsync itemizes it.
 *
 *   parseDifference('<fcst...... a b'); // { path: 'a b', difference: 'content', attributes: ['size', 'time'] }
 */
import { showPath, t } from '../service/text.ts';

/** What a plain rsync would mend. */
export interface Difference {
  /** Below DEST_DIR, as bytes in a latin1 string; that of a directory ends with a slash. */
  path: string;
  /** Missing is also what is of another type. */
  difference: 'missing' | 'extra' | 'content' | 'attributes';
  attributes: string[];
}
export type Differences = Map<string, Difference>;

/** What a letter of rsync's itemized changes stands for (rsync(1), --itemize-changes). */
const ATTRIBUTES = new Map(
  Object.entries({ s: 'size', t: 'time', p: 'mode', o: 'owner', g: 'group', u: 'atime', a: 'acl', x: 'xattr' }),
);
const WORDS: Record<string, string> = {
  ...{ missing: t`缺少`, extra: t`多余`, content: t`内容不同`, attributes: t`属性不同` },
  ...{ size: t`大小`, time: t`时间`, mode: t`权限`, owner: t`属主`, group: t`属组`, atime: t`访问时间`, acl: 'ACL' },
  ...{ xattr: t`扩展属性`, target: t`链接目标`, device: t`设备号`, links: t`硬链接` },
};

/** Puts the bytes back that rsync shows as `\#ooo`: it escapes what looks like that by itself, too. */
export const unescapeName = (name: string) =>
  name.replace(/\\#([0-3][0-7]{2})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/**
 * Says what a path is called below the source. With -R, some rsyncs tell names that begin with a slash.
 * @param prefix what stands before a path of the source in what rsync tells
 */
export function pathBelow(told: string, prefix: string): string {
  const path = told.replace(/^\//, '');
  if (path === '.' || `${path}/` === prefix) return '';
  return path.startsWith(prefix) ? path.slice(prefix.length) : path;
}

/** Reads `%i %n` of rsync(1). Nothing is different where it only tells that it has looked. */
export function parseDifference(line: string): Difference | undefined {
  const [, sign, type = '', changes = '', name] = /^(.)(.)(.{9}) (.+)$/.exec(line) ?? [];
  if (!name) return undefined;
  const path = unescapeName(name);
  if (sign === '*') return { path, difference: 'extra', attributes: [] };
  if (changes === '+++++++++') return { path, difference: 'missing', attributes: [] };
  const attributes = [...changes].flatMap((letter) => ATTRIBUTES.get(letter) ?? []);
  if (type === 'f' && /[cs]/.test(changes)) return { path, difference: 'content', attributes };
  if (changes.includes('c')) attributes.push(type === 'L' ? 'target' : 'device');
  if (sign === 'h' && attributes.length === 0) attributes.push('links');
  return attributes.length > 0 ? { path, difference: 'attributes', attributes } : undefined;
}

/** Whether rsync may be the reason, while it writes: in a file of its own, in a directory that has another time until then. */
export const mayBeOfRsync = ({ path, difference, attributes }: Difference) =>
  difference === 'extra'
    ? /(^|\/)\.[^/]+\.[A-Za-z0-9]{6}$/.test(path)
    : path.endsWith('/') && String(attributes) === 'time';

/** Says in a line for people what differs. */
export function describeDifference({ path, difference, attributes }: Difference): string {
  const which = attributes.length > 0 ? ` (${attributes.map((name) => WORDS[name]).join(t`、`)})` : '';
  return `${WORDS[difference]}${which} ${showPath(path)}`;
}
