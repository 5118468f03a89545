/** Options of rsync for single targets: who gets which, and what is refused. */
import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { quote } from 'shlex';
import { hostsOf } from '../../../src/mirror/config.ts';
import { readConfig } from '../../../src/mirror/environment.ts';
import { parseWords } from '../../../src/mirror/options.ts';
import { ownOptionsOf, readOwnOptions } from '../../../src/mirror/own-options.ts';

const optionsOf = (DEST_HOSTS: string, DEST_RSYNC_OPTS: string, more: Record<string, string> = {}) =>
  hostsOf(readConfig({ SOURCE_DIR: '/tmp/', DEST_HOSTS, DEST_RSYNC_OPTS, ...more })).map(
    ({ config }) => config.RSYNC_OPTS,
  );

describe('options of single targets', () => {
  test('come behind those for all, quoted as they were, and others have none of them', () => {
    const own = `nas: --no-A --exclude='*.tmp x' pi: --bwlimit=500 --exclude "a: b" --exclude c:`;
    const [nas, pi, other] = optionsOf('nas root@pi:/b other', own, { RSYNC_OPTS: '-avA --delete' });
    expect(parseWords(nas ?? '')).toEqual(['-avA', '--delete', '--no-A', '--exclude=*.tmp x']);
    expect(parseWords(pi ?? '')).toEqual(
      ['-avA', '--delete', '--bwlimit=500', '--exclude', 'a: b', '--exclude', 'c:'], // a value is nobody's name
    );
    expect(other).toBe('-avA --delete');
  });

  test.each([
    ['nas', 'nas', 'nas:'],
    ['me@nas:/b', 'nas', 'me@nas:'],
    ['me@nas:/b', 'me@nas', 'me@nas:/b'],
    ['[::1]:/b', '::1', '[::1]'],
    ['rsync://me@nas/mirror/web/', 'nas', 'rsync://me@nas/mirror/web/'],
    ['2001:db8::1', '2001:db8::1', '2001:db8::1'],
  ])('are those of %s by the name %s and by that of %s', (target, one, other) => {
    for (const name of [one, other])
      expect(optionsOf(target, `${name.replace(/:$/, '')}: -H`)).toEqual(['-avz --delete -H']);
  });

  test('that are for a host are for all its targets', () => {
    expect(optionsOf('nas:/a nas:/b', 'nas: -H')).toEqual(['-avz --delete -H', '-avz --delete -H']);
    expect(optionsOf('nas:/a nas:/b', 'nas:/b: -H')).toEqual(['-avz --delete', '-avz --delete -H']);
  });

  test('make the plan of their target', () => {
    const config = readConfig({
      ...{ SOURCE_DIR: '/tmp/', DEST_HOSTS: 'a b c', RSYNC_OPTS: '-aAx --delete' },
      DEST_RSYNC_OPTS: 'a: --no-A --no-x b: --exclude=x -L',
    });
    expect(hostsOf(config).map(({ plan }) => [plan.method, plan.isOneFileSystem, plan.hasFilters])).toEqual([
      ['list', false, false],
      ['full', true, true],
      ['list', true, false],
    ]);
  });

  test.each([
    ['--no-A', '应以“目标:”开头'],
    ['nas --no-A', '应以“目标:”开头'],
    ['nas: --no-A pi --no-X', '“pi” 不是选项'],
    ['nas: —no-A', '应写作 --no-A'],
    [`nas: --exclude='a`, '引号或反斜杠没有配对'],
    ['elsewhere: -H', '没有名为 elsewhere 的目标，现有目标为 nas、me@pi'],
    ['nas: -H nas: -A', '目标 nas 出现了多次'],
    ['pi: -H me@pi:/b: -A', '目标 me@pi 出现了多次'],
    ['pi: -n', 'me@pi 不能包含 -n'],
    ['pi: --no-r', 'me@pi 没有 -a 或 -r'],
    ['pi: --exclude', 'me@pi --exclude 之后缺少它的值'],
    ['pi: -e rsh', 'me@pi 不能包含 -e'],
  ])('%s are refused: %s', (list, reason) => {
    expect(() => optionsOf('nas me@pi:/b', list)).toThrow(reason);
    expect(() => optionsOf('nas me@pi:/b', list)).toThrow('DEST_RSYNC_OPTS=');
  });

  test('of a target that is not there are refused without the password that somebody has put into its URL', () => {
    const wrong = () => optionsOf('rsync://me@nas/m/', 'rsync://me:secret@nas/m/: -H');
    expect(wrong).toThrow('没有名为 *** 的目标');
    expect(wrong).not.toThrow('secret');
  });

  test('that leave a directory out of reach are a mistake of SOURCE_DIR', () => {
    expect(() => optionsOf('a b', 'b: -R', { SOURCE_DIR: '/tmp/./' })).toThrow('与 -R 一起使用时');
    expect(optionsOf('a b', 'b: --no-R', { SOURCE_DIR: '/tmp/' })).toHaveLength(2);
  });

  test('are read as they were written, whatever they hold', () => {
    const words = fc.array(fc.string({ unit: 'binary' }).filter((word) => !word.includes('\0')));
    fc.assert(
      fc.property(words, (patterns) => {
        const options = patterns.map((pattern) => `--exclude=${pattern}`);
        const own = readOwnOptions(`nas: ${options.map(quote).join(' ')}`);
        const place = { given: 'nas', host: 'nas', directory: '' };
        expect(parseWords(ownOptionsOf(place, own))).toEqual(options);
      }),
    );
  });
});
