import { describe, expect, test } from 'bun:test';
import { SizeLimit } from '../../../src/mirror/size-limit.ts';

const limit = (locate = (told: string): string | undefined => told) => new SizeLimit(1000, locate);

describe('files that are too large for now', () => {
  test('are left out by rsync, which tells them', () => {
    expect(limit().options).toEqual(['--max-size=1000B', '--info=skip1']);
  });

  test('are heard, and taken out of what it prints', () => {
    const size = limit();
    const output =
      'sending incremental file list\nbig is over max-size\nd/sm\\#303\\#244ll\nd/\\#303\\#244 is over max-size\n\ndone\n';
    expect([...output].map((byte) => size.filter(byte)).join('')).toBe(
      'sending incremental file list\nd/sm\\#303\\#244ll\n\ndone\n',
    );
    expect(size.leftOut).toEqual(['big', 'd/\xc3\xa4']);
  });

  test('are not known where a line does not end, which is not kept', () => {
    const size = limit();
    const chunk = 'x'.repeat(50_000);
    expect([size.filter(chunk), size.filter(chunk).length, size.filter('\n')]).toEqual(['', 100_000, '\n']);
    expect(size.leftOut).toBe('many');
  });

  test('are too many to be named where one is not known, or there are thousands', () => {
    const unknown = limit(() => undefined);
    unknown.filter('a is over max-size\n');
    expect(unknown.leftOut).toBe('many');
    const size = limit();
    for (let n = 0; n < 1000; n++) size.filter(`${n} is over max-size\n`);
    expect(size.leftOut).toHaveLength(1000);
    size.filter('more is over max-size\n');
    expect(size.leftOut).toBe('many');
  });
});
