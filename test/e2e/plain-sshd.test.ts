/** Backups without start-sshd: what any sshd with an rsync is good for. */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';

import { Pair } from '../pair.ts';
import { cleanEnv, eventually } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(180_000);

const COARSE = '不接受纳秒精度';

/** An rsync that knows no more than one before 3.1.3, or such a one itself where OLD_RSYNC names it. */
function oldRsync(pair: Pair): string {
  if (process.env.OLD_RSYNC) return process.env.OLD_RSYNC;
  const script = `#!/bin/sh
for word; do case $word in -@-1) echo 'rsync: -@-1: unknown option' >&2; exit 1;; esac; done
exec rsync "$@"
`;
  writeFileSync(pair.path('old-rsync'), script, { mode: 0o755 });
  return pair.path('old-rsync');
}

const RRSYNC = Bun.which('rrsync');

interface Kind {
  name: string;
  needs?: string | null;
  sshd?: (pair: Pair) => { confinement?: string; more?: string[] };
  env?: (pair: Pair) => Record<string, string>;
  isCoarse?: boolean;
}

const KINDS: Kind[] = [
  {
    name: 'a shell, a banner and one session a connection',
    sshd: (pair) => {
      writeFileSync(pair.path('banner'), 'Authorised use only.\n[ERROR] not a line of ours\n');
      return { more: ['MaxSessions=1', `Banner=${pair.path('banner')}`] };
    },
  },
  {
    name: 'a key that rrsync confines',
    needs: RRSYNC,
    sshd: (pair) => ({ confinement: `restrict,command="${RRSYNC} -wo -no-lock ${pair.path('backup')}"` }),
    env: () => ({ DEST_DIR: '/' }),
    isCoarse: true,
  },
  {
    name: 'an rsync before 3.1.3',
    env: (pair) => ({ RSYNC_OPTS: `-avz --delete --rsync-path=${oldRsync(pair)}` }),
    isCoarse: true,
  },
];

test.each(KINDS)('a backup with $name has every change', async ({ needs = '', sshd, env, isCoarse = false }) => {
  if (needs === null) return console.log('skipped: it is not installed here');
  await using pair = await Pair.withKeys('plain-sshd');
  mkdirSync(pair.path('source', 'sub'));
  mkdirSync(pair.path('backup'));
  writeFileSync(pair.path('source', 'sub', 'kept'), 'kept');
  writeFileSync(pair.path('backup', 'stale'), 'stale');
  await pair.startPlainSshd(pair.port, sshd?.(pair));
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', ...env?.(pair) });
  await source.shows('✓ 服务运行中');
  await pair.isMirrored();
  const write = (text: string) => {
    writeFileSync(pair.path('source', 'file'), text);
    utimesSync(pair.path('source', 'file'), 1_000_000_000.25, 1_000_000_000.25 + Number(text.at(-1)) / 10);
  };
  for (const text of ['text 1', 'text 2', 'text 3']) {
    write(text);
    await eventually(async () => (await Bun.file(pair.path('backup', 'file')).text()) === text);
  }
  renameSync(pair.path('source', 'sub'), pair.path('source', 'renamed'));
  rmSync(pair.path('source', 'file'));
  await pair.isMirrored();
  expect(source.output.split(COARSE)).toHaveLength(isCoarse ? 2 : 1);
  expect(source.output).not.toMatch(/^\[ERROR/m);
  const environment = { ...cleanEnv(), ...pair.sourceEnv, ...env?.(pair) };
  const { status, stdout } = spawnSync(binary('rsync-inotify'), ['--verify'], { env: environment, encoding: 'utf8' });
  expect([status, stdout]).toEqual([0, expect.stringContaining('相同')]);
});
