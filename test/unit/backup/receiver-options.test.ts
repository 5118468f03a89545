import { describe, expect, test } from 'bun:test';
import { readConfig } from '../../../src/backup/config.ts';
import {
  countBlockWords,
  isHarmless,
  refusalOf,
  refusedBy,
  withoutPartsInPlace,
  withWholeFiles,
  writesInPlace,
} from '../../../src/backup/receiver-options.ts';

const PLAIN = '-vlogDtprze.iLsfxCIvu';
/** What is refused of words by REFUSE_OPTIONS. */
const refused = (list: string, ...words: string[]) => words.map((word) => refusalOf(word, new Set(refusedBy(list))));

describe('REFUSE_OPTIONS', () => {
  test('takes names and letters, by spaces or commas, with or without dashes', () => {
    expect(refusedBy('')).toEqual([]);
    expect(refusedBy('inplace, append\tc  H')).toEqual(['inplace', 'append', 'checksum', 'hard-links']);
    expect(refusedBy('--inplace -c cc B del append-verify')).toEqual(
      'inplace checksum checksum-choice block-size delete-during append'.split(' '),
    );
  });

  test('takes wild cards, and what comes later counts', () => {
    expect(refusedBy('delete-* !delete-during').sort()).toEqual(
      'delete-after delete-before delete-delay delete-excluded delete-missing-args'.split(' '),
    );
    expect(refusedBy('inplace !inplace')).toEqual([]);
    expect(refusedBy('!inplace inplace')).toEqual(['inplace']);
    expect(refusedBy('[cl]*-dest')).toEqual(['compare-dest', 'copy-dest', 'link-dest']);
    expect(refusedBy('?attrs')).toEqual(['xattrs']);
    const most = refusedBy('* !a !v !z');
    for (const name of ['inplace', 'checksum', 'delete', 'link-dest', 'iconv']) expect(most).toContain(name);
    for (const name of ['recursive', 'rsh', 'links', 'verbose', 'no-whole-file']) expect(most).not.toContain(name);
  });

  test('says what is wrong with it', () => {
    const complaint = (REFUSE_OPTIONS: string) => {
      try {
        return readConfig({ REFUSE_OPTIONS }) && '';
      } catch (cause) {
        return String(cause);
      }
    };
    expect(complaint('inplace')).toBe('');
    for (const wrong of ['in-place', 'sender', 'é', '!', '-', 'nothing*', '[', 'inplace=1', 'K', 'inplace;c'])
      expect(complaint(wrong)).toContain(`REFUSE_OPTIONS="${wrong}"：“`);
    for (const needed of ['r', 'recursive', 'e', 'out-format', 'relative', 'n', 'max-delete'])
      expect(complaint(needed)).toContain('每次镜像都需要它');
  });

  test('refuses an option however it is written, and names it', () => {
    expect(refused('c inplace', PLAIN, '-logDtprce.iLsfxCIvu', '--inplace', '--append')).toEqual([
      undefined,
      '-c（--checksum）',
      '--inplace',
      '--append', // which writes in place, too
    ]);
    expect(refused('z', PLAIN, '--compress-choice=zstd', '--new-compress', '--compress-level=3')).toEqual([
      '-z（--compress）',
      '--compress-choice',
      '--new-compress',
      undefined, // which comes with one of those
    ]);
    expect(refused('delete', '--delete-during', '--delete-excluded', '--max-delete=5')).toEqual([
      '--delete-during',
      '--delete-excluded',
      undefined,
    ]);
    expect(refused('block-size', '-B700', '-B', '--block-size=1')).toEqual(['-B', '-B', '--block-size']);
    expect(refused('partial', '--partial-dir', '--partial-dir=x', '--delay-updates')).not.toContain(undefined);
    expect(refused('a', '-e.iLsfxCIvu', '-re.iLsfxCIvu', '--specials', '-D')).toEqual([
      undefined,
      undefined,
      '--specials',
      '-D（--devices）',
    ]);
  });

  test('has whole files sent instead of refusing anything but what sends parts of them', () => {
    expect(refused('no-whole-file', PLAIN, '--no-W', '--inplace', '--append')).toEqual([
      undefined,
      undefined, // but left out
      undefined,
      '--append',
    ]);
    expect(refused('* no-whole-file', '-W', '--append')).toEqual([undefined, '--append']);
    expect(withWholeFiles(['-lSe.', '--inplace', '--no-W'])).toEqual(['-lSe.', '--inplace', '--whole-file']);
  });
});

test('an rsync that writes into files as they are is known, and no other is agreed on to do so for parts', () => {
  for (const option of ['--inplace', '--append']) expect(writesInPlace(['-a', option])).toBe(true);
  for (const option of ['--partial', '--partial-dir=.p', '--delay-updates'])
    expect(writesInPlace([option])).toBe(false);
  expect(withoutPartsInPlace('-vIlogDtpre.iLsfxCIvu')).toBe('-vIlogDtpre.iLsfxCvu');
  expect(withoutPartsInPlace('-e31.14IIfI')).toBe('-e31.14f');
  for (const word of ['-I', '-Ir', '-e.', '--iconv=e.I', '--suffix=.I', '--INFO'])
    expect(withoutPartsInPlace(word)).toBe(word);
});

test('how long blocks are is no option that rsync gets, in whatever form', () => {
  for (const word of ['-B1', '-B', '-B-1', '--block-size=1', '--block-size=', '--block-size', '-vB1'])
    expect(isHarmless(word)).toBe(false);
  for (const words of [
    ['-B', '1'],
    ['--block-size', '1'],
    ['-B', '--sender'],
  ])
    expect(countBlockWords(words)).toBe(2);
  for (const words of [['-B1', '1'], ['--block-size=1', '1'], ['-B', '.'], ['-B-1']])
    expect(countBlockWords(words)).toBe(1);
  for (const words of [['-vB1'], ['-B0x1'], ['--block-sizes=1'], [], ['.']]) expect(countBlockWords(words)).toBe(0);
});
