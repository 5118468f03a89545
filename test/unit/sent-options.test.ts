import { expect, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseCommand, parseReceiver } from '../../src/backup/forced-command.ts';
import { complaintsAbout } from '../../src/mirror/rsync-options.ts';
import { LIST_OPTIONS } from '../../src/mirror/scopes.ts';
import { rsyncArgs } from '../../src/mirror/ssh.ts';
import { answerOf } from '../processes.ts';
import { VERDICTS } from './backup/verdicts.ts';
import { hostFor } from './mirror/stand-ins.ts';

/** What RSYNC_OPTS may hold and the backup refuses, and why that is so. The source tells it by name at the first sync. */
const REFUSED: Record<string, string> = {
  '-s': 'hides words from the door',
  '--secluded-args': 'as -s',
  '--protect-args': 'as -s',
  '-K': 'follows links in the backup',
  '--keep-dirlinks': 'as -K',
  '--no-implied-dirs': 'follows links in the backup',
  '--no-i-d': 'as --no-implied-dirs',
  '--write-devices': 'writes to devices',
  '--rsync-path': 'starts something else than rsync; one that is called rsync is let in, and the backup starts its own',
  '-M-K': 'as -K',
  '-M--log-file=/tmp/x': 'writes a file elsewhere',
};

/** Values that make sense. Other options have none. */
const VALUES: Record<string, string[]> = {
  number: namesIn(
    '--contimeout --timeout --max-delete --modify-window --compress-level --zl --compress-threads --zt --port -@',
  ),
  '1k': namesIn('-B --block-size --max-size --min-size --max-alloc --bwlimit'),
  below: namesIn('--backup-dir --compare-dest --copy-dest --link-dest --partial-dir --temp-dir -T --suffix'),
  md5: namesIn('--checksum-choice --cc'),
  zlib: namesIn('--compress-choice --zc'),
  '*:0': namesIn('--usermap --groupmap'),
  '0:0': namesIn('--chown'),
  'u+w': namesIn('--chmod'),
  '%i %n': namesIn('--out-format --log-format --log-file-format'),
  '/dev/null': namesIn('--exclude-from --include-from --log-file --early-input --password-file --files-from'),
  '- x': namesIn('--filter -f'),
  x: namesIn('--exclude --include --skip-compress --address --sockopts --rsync-path'),
  'UTF-8': namesIn('--iconv'),
  all: namesIn('--info --debug --stderr'),
  L: namesIn('--outbuf'),
  '7': namesIn('--checksum-seed --stop-after --time-limit'),
  '31': namesIn('--protocol'),
  '--fake-super': namesIn('-M --remote-option'),
};

function namesIn(list: string): string[] {
  return list.split(' ');
}

/** Every option as the user may write it. */
const ALL = [
  ...new Set(
    VERDICTS.flatMap(([option]) =>
      option.split(/[| ]/).map((it) => (it.startsWith('--') ? it.replace(/=.*/, '') : it.slice(0, 2))),
    ),
  ),
].map((name) => {
  const [value] = Object.entries(VALUES).find(([, names]) => names.includes(name)) ?? [];
  return value === undefined ? [name] : [name, value.replace('number', '60')];
});
/** What only counts together with others, or in other words. */
const TOGETHER = [
  '-aP',
  '-aHAXSx',
  '-avvv',
  '-aR --no-implied-dirs',
  '-aR --no-i-d',
  '-a --inplace -S --no-whole-file',
  '-ab --backup-dir=old',
].concat(
  ...[
    '-az --zc=zstd',
    '-az --zc=lz4 --zl=3',
    '-aD --no-devices',
    '-a --append-verify',
    '-aAAXXUU',
    '-ayy',
    '-a --delete-delay',
  ],
  ...[
    '-a -M-K',
    '-a -M--log-file=/tmp/x',
    '-a -M--fake-super -M--super',
    '-a --stderr=client',
    '-a --no-owner --no-g -O -J',
  ],
);

/** Asks the rsync of this machine what it sends to the backup with options, nothing where it refuses them by itself. */
async function sentWith(words: string[], directory: string): Promise<string | undefined> {
  const args = rsyncArgs(hostFor({}), {}, [], directory, words);
  const at = args.indexOf('-e');
  const own = args.with(at + 1, join(directory, 'tell'));
  const rsync = spawn('rsync', own, { cwd: directory, env: { PATH: process.env.PATH } }); // --write-batch takes a word for a file's name
  const { stdout, stderr } = await answerOf(rsync, '');
  return /^SENT (.*)$/m.exec(stdout + stderr)?.[1];
}

/** What the door says to a command. */
function refusalOf(command: string): string {
  try {
    parseReceiver(parseCommand(command), new Set());
    return '';
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause);
  }
}

test('what RSYNC_OPTS may hold is let in by the backup, but for what is listed with the reason', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'sent-'));
  try {
    const tell = join(directory, 'tell'); // on stderr: what is on stdout is for rsync
    writeFileSync(tell, '#!/bin/sh\n[ "$1" = -l ] && shift 2\nshift\necho "SENT $*" >&2\nexit 1\n');
    chmodSync(tell, 0o755);
    const given = [...ALL.map((words) => ['-a', ...words]), ...TOGETHER.map((line) => line.split(' '))];
    const accepted = given.filter((words) => complaintsAbout(words).length === 0);
    const all = [...accepted, ['-a', ...LIST_OPTIONS], ['-a', '--delete', ...LIST_OPTIONS]];
    const sent: string[] = [];
    const refused: string[] = [];
    for (const words of all) {
      const command = await sentWith(words, directory);
      if (command === undefined) continue;
      sent.push(command);
      if (refusalOf(command)) refused.push(words.filter((word) => word in REFUSED).join() || words.join(' '));
    }
    expect(sent.length).toBeGreaterThan(150);
    expect([...new Set(refused)].sort()).toEqual(Object.keys(REFUSED).sort());
  } finally {
    rmSync(directory, { recursive: true });
  }
});
