import { afterEach, beforeEach, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Brake } from '../../../src/mirror/brake.ts';
import type { Connection } from '../../../src/mirror/connection.ts';
import type { Mounts } from '../../../src/mirror/mounts.ts';
import { Source } from '../../../src/mirror/source.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { Transfers } from '../../../src/mirror/transfers.ts';
import { signalGroup } from '../../../src/service/processes.ts';
import { scratch } from '../service/scratch.ts';
import { hostFor } from './stand-ins.ts';

const { PATH } = process.env;
let directory: ReturnType<typeof scratch>;

/** An rsync that does nothing, and waits for its input to end. */
beforeEach(() => {
  directory = scratch();
  const rsync = join(directory.path, 'rsync');
  writeFileSync(rsync, '#!/bin/sh\nexec cat\n');
  chmodSync(rsync, 0o755);
  process.env.PATH = `${directory.path}:${PATH}`;
});

afterEach(() => {
  process.env.PATH = PATH;
  directory[Symbol.dispose]();
});

function transfersFor(source: string): Transfers {
  mkdirSync(source);
  const host = hostFor({ SOURCE_DIR: `${source}/`, DEST_HOST: 'root@127.0.0.1' });
  const nothing = { mounted: [], files: [], rules: () => [], refresh: () => {}, verify: async () => {} };
  const mounts = Object.assign(new EventEmitter(), nothing) as unknown as Mounts;
  const connection = { findRoute: () => ({}) } as Connection;
  const brake = { words: ['-a'], limit: Number.POSITIVE_INFINITY, suits: () => true } as unknown as Brake;
  return new Transfers({
    ...{ host, source: new Source(`${source}/`), mounts, connection, brake, state: new TargetState('backup', false) },
  });
}

test('one that waits leaves out nothing that is too large for one sync alone, which another one does', async () => {
  const transfers = transfersFor(join(directory.path, 'source'));
  const waiting = transfers.startWaiting();
  await transfers.run(1000, async () => {
    const limited = transfers.startList();
    expect(limited.rsync.spawnargs).toContain('--max-size=1000B');
    expect(transfers.isUpToDate(waiting)).toBe(false);
    const next = transfers.startWaiting();
    expect(next.rsync.spawnargs).not.toContain('--max-size=1000B');
    for (const { rsync } of [limited, next]) signalGroup(rsync, 'SIGKILL');
    return { status: 0 };
  });
  const after = transfers.startWaiting();
  expect(after.rsync.spawnargs).not.toContain('--max-size=1000B');
  await transfers.run(undefined, async () => {
    for (const it of [waiting, after]) expect(transfers.isUpToDate(it)).toBe(true);
    return { status: 0 };
  });
  for (const { rsync } of [waiting, after]) signalGroup(rsync, 'SIGKILL');
});
