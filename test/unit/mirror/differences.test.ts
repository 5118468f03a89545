import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { parseDifference, unescapeName } from '../../../src/mirror/differences.ts';

describe('what --verify reads', () => {
  /** As rsync's log.c shows names: in any locale what may be a control character, in some also what is not ASCII. */
  const shownBy = (name: string, isPlain: (byte: string) => boolean) =>
    name
      .replace(/\\(?=#\d{3})/g, '\\#134')
      .replace(/[^\t -~]/g, (byte) => (isPlain(byte) ? byte : `\\#${byte.charCodeAt(0).toString(8).padStart(3, '0')}`));
  const likely = fc.constantFrom('\\', '#', '\\#', '0', '1', '134', '\n', '\t', '\xff', 'a', ' ', '/');
  const names = fc.oneof(
    fc.array(likely).map((parts) => parts.join('')),
    fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
  );

  test('is the name, byte for byte', () => {
    for (const isPlain of [() => false, (byte: string) => byte > '\x7f']) {
      fc.assert(fc.property(names, (name) => expect(unescapeName(shownBy(name, isPlain))).toBe(name)));
    }
  });

  test('is what differs, and nothing where nothing does', () => {
    const kinds: Record<string, [string, string[]] | undefined> = {
      '>f+++++++++': ['missing', []],
      'cd+++++++++': ['missing', []],
      '*deleting  ': ['extra', []],
      '>fc........': ['content', []],
      '>fcst......': ['content', ['size', 'time']],
      '>f.st......': ['content', ['size', 'time']],
      '.f..tpogua.': ['attributes', ['time', 'mode', 'owner', 'group', 'atime', 'acl']],
      '.d.......ax': ['attributes', ['acl', 'xattr']],
      '.d........x': ['attributes', ['xattr']],
      'cLc.T......': ['attributes', ['target']],
      'cDc.t......': ['attributes', ['time', 'device']],
      'hf         ': ['attributes', ['links']],
      'hf..t......': ['attributes', ['time']],
      '.f         ': undefined,
      '.d         ': undefined,
    };
    for (const [item, kind] of Object.entries(kinds)) {
      const expected = kind && { path: 'a b/\n', difference: kind[0], attributes: kind[1] };
      expect([item, parseDifference(`${item} a b/\\#012`)]).toEqual([item, expected] as never);
    }
    for (const line of ['', 'sending incremental file list', '>f+++++++++', '>f+++++++++ ']) {
      expect(parseDifference(line)).toBeUndefined();
    }
  });
});
