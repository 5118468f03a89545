import { expect, test } from 'bun:test';
import { keepsVersionsWithin, warnOfOptions } from '../../../src/mirror/option-warnings.ts';
import { hostFor, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

test.each<[string, string, boolean]>([
  ['-a --delete', '/data/backup/', false],
  ['-a --backup', '/data/backup/', false],
  ['-a --backup-dir=.older', '/data/backup/', true],
  ['-a -b --backup-dir .older/now', '/data/backup', true],
  ['-a --backup-dir=/data/backup/.older', '/data/backup/', true],
  ['-a --backup-dir=/data/older', '/data/backup/', false],
  ['-a --backup-dir=/data/backup2', '/data/backup', false],
  ['-a --backup-dir=../older', '/data/backup/', false],
  ['-a --backup-dir=../older --backup-dir=older', '/data/backup/', true],
  ['-a --backup-dir=older', 'backup', true],
  ['-a --backup-dir=/backup/older', 'backup', false], // nobody knows here where that is
])('%s into %s keeps versions within it: %p', (RSYNC_OPTS, DEST_DIR, isWithin) => {
  expect(keepsVersionsWithin(hostFor({ RSYNC_OPTS, DEST_DIR }))).toBe(isWithin);
});

test('that is told once, with what to do instead', () => {
  const host = hostFor({ RSYNC_OPTS: '-a --delete --backup-dir=.older' });
  warnOfOptions([host, host]);
  expect(log.text.match(/\[WARN.*--backup-dir.*HISTORY_DAYS/g)).toHaveLength(1);
  warnOfOptions([hostFor({})]);
  expect(log.text.split('\n')).toHaveLength(2);
});
