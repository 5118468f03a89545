/** Many sources of one backup, all from one address. FIFTY=1 takes fifty, which need 3 GB and minutes of both cores, and tells how that went. */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { startedBy } from '../../src/service/processes.ts';
import { Pair } from '../pair.ts';
import { content, eventually, type Program } from '../processes.ts';
import { makeKey } from '../thief.ts';

const MINUTE_MS = 60_000;
setDefaultTimeout(10 * MINUTE_MS);

/** How many sources, and for how long the backup is away: fifty of them for so long that each waits as long as it ever does between tries. */
const { count, awayMs } = process.env.FIFTY ? { count: 50, awayMs: MINUTE_MS } : { count: 8, awayMs: 0 };
const names = Array.from({ length: count }, (_, n) => `web${n}`);

const tell = (what: string) => {
  if (process.env.FIFTY) console.log(`${what}; load ${loadavg()[0]?.toFixed(1)}`);
};

/** The memory of a program with all that it has started, each page that several share counted once (proc_pid_smaps(5)), MB. */
function memoryOf({ pid }: Program): number {
  const withAll = (it: number): number[] => [it, ...startedBy(it).flatMap(withAll)];
  const sizes = withAll(pid).map((it) => /^Pss: +(\d+)/m.exec(content(`/proc/${it}/smaps_rollup`))?.[1]);
  return Math.round(sizes.reduce((sum, size) => sum + Number(size ?? 0), 0) / 1024);
}

function startSource(pair: Pair, name: string): Program {
  const [tree, ssh] = [pair.path(`source-${name}`), pair.path(`ssh-${name}`)];
  for (const directory of [tree, ssh]) mkdirSync(directory);
  makeKey(`${ssh}/id_rsa`);
  writeFileSync(`${tree}/first`, name);
  const places = { SOURCE_DIR: `${tree}/`, SSH_DIR: ssh, STATUS_FILE: pair.path(`${name}.json`) };
  return pair.start('rsync-inotify', { ...places, SOURCE_NAME: name, SYNC_INTERVAL: '0' });
}

/** Waits until a file of each source is mirrored. */
async function arrives(pair: Pair, file: string): Promise<void> {
  const began = performance.now();
  const missing = () => names.filter((name) => !existsSync(pair.path('backup', name, file)));
  const last: string[] = [];
  const isThere = () => {
    last.splice(0, count, ...missing());
    return last.length === 0;
  };
  await eventually(isThere, MINUTE_MS).catch(() => {
    throw new Error(`${file} of ${last} is missing\n${pair.programs.map(({ output }) => output).join('\n---\n')}`);
  });
  tell(`${file}: all ${count} mirrored after ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

test(`${count} sources that start at once, and come at once after a crash of the backup, are mirrored within a minute`, async () => {
  await using pair = await Pair.withKeys('many');
  let backup = pair.start('start-sshd');
  const sources = names.map((name) => startSource(pair, name));
  await arrives(pair, 'first');
  await Promise.all(sources.map((source) => source.shows('✓ 服务运行中', 0, MINUTE_MS)));
  tell(`the backup takes ${memoryOf(backup)} MB`);

  await backup.stop('SIGKILL');
  await Promise.all(sources.map((source) => source.shows('SSH 连接已断开')));
  for (const name of names) writeFileSync(pair.path(`source-${name}`, 'second'), name);
  await sleep(awayMs);
  backup = pair.start('start-sshd');
  await arrives(pair, 'second');
  expect(sources.filter(({ running }) => !running)).toEqual([]);
  expect(backup.output).not.toMatch(/连接过多|达到上限|penalty/i);
  tell(
    `sshd has turned away ${backup.output.match(/sshd: .*(MaxStartups|drop connection|exited MaxStartups)/g)?.length ?? 0} tries`,
  );
});
