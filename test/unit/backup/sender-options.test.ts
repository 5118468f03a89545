import { describe, expect, test } from 'bun:test';
import { parseCommand } from '../../../src/backup/forced-command.ts';
import { asksToRead, parseSender } from '../../../src/backup/sender-options.ts';
import { nameOf, optionsOfRsync } from './rsync-help.ts';
import { SENDER_VERDICTS, type SenderVerdict } from './sender-verdicts.ts';

const parse = (words: string) => parseSender(parseCommand(`rsync --server --sender ${words}`));

/** What becomes of an option at the door. */
function verdictOn(option: string): SenderVerdict {
  try {
    return parse(`-re.iLsfxCIvu '${option}' . /data/backup/`).options.includes(option) ? 'let in' : 'refused';
  } catch (cause) {
    expect(String(cause)).toContain('恢复时不允许 rsync 选项');
    return 'refused';
  }
}

describe('the options of a sending rsync', () => {
  const all = SENDER_VERDICTS.flatMap(([options, verdict]) =>
    options.split(/[| ]/).map((option): [string, SenderVerdict] => [option, verdict]),
  );

  test.each(all)('%s: %s', (option, verdict) => {
    expect(verdictOn(option)).toBe(verdict);
  });

  test('are all judged that the rsync of this machine has', () => {
    const judged = new Set(all.map(([option]) => nameOf(option)));
    const names = optionsOfRsync();
    expect(names.length).toBeGreaterThan(200);
    expect(names.filter((name) => !judged.has(name))).toEqual([]);
  });
});

describe('what the source wants to read', () => {
  test('is a directory, or names in one', () => {
    expect(parse('-lr . /data/backup/')).toEqual({ options: ['-lr'], directory: '/data/backup/', names: [] });
    const { directory, names } = parse(`-lrR . /data/backup/./web/a '/data/backup/./b c'`);
    expect({ directory, names }).toEqual({ directory: '/data/backup', names: ['web/a', 'b c'] });
  });

  test.each([
    ['nothing', '-lr .'],
    ['no end of the options', '-lr /data/backup/'],
    ['two directories', '-lr . /data/backup/ /etc/'],
    ['names in two', '-lrR . /data/backup/./a /etc/./b'],
    ['an empty name', '-lrR . /data/backup/./'],
    ['a directory in a name', '-lrR . /data/backup/./a/./b'],
    ['an option behind the directory', '-lr . /data/backup/ -L'],
  ])('is refused: %s', (_, words) => {
    expect(() => parse(words)).toThrow();
  });

  test('is told from what it wants to write', () => {
    expect(asksToRead(['rsync', '--server', '--sender', '-r', '.', '/'])).toBe(true);
    expect(asksToRead(['rsync', '--server', '-r', '--sender', '.', '/'])).toBe(false);
    expect(asksToRead(['cat', '--server', '--sender'])).toBe(false);
  });
});
