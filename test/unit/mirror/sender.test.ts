import { describe, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { brakeFor } from '../../../src/mirror/brakes.ts';
import { ALL, type Batch, TREE } from '../../../src/mirror/changes.ts';
import { Connection } from '../../../src/mirror/connection.ts';
import { HostKeys } from '../../../src/mirror/host-keys.ts';
import { Memory } from '../../../src/mirror/memory.ts';
import type { Mounts } from '../../../src/mirror/mounts.ts';
import { Sender } from '../../../src/mirror/sender.ts';
import { Source } from '../../../src/mirror/source.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { scratch } from '../service/scratch.ts';
import { change, event, hostFor, keepLog, nothingBeside, settle } from './stand-ins.ts';

/** Nothing is mounted below the source. */
function noMounts(): Mounts {
  const nothing = {
    mounted: [],
    files: [],
    rules: () => [],
    refresh: () => {},
    verify: async () => {},
    isHidden: () => false,
    isKept: () => false,
  };
  return Object.assign(new EventEmitter(), nothing) as unknown as Mounts;
}

/** A sender for a source in a directory, with all that belongs to it, none of which has ever been used. */
function senderFor(directory: string, variables: Record<string, string> = {}) {
  const host = hostFor({ SOURCE_DIR: `${directory}/`, SSH_DIR: directory, SHARED_KEYS_DIR: directory, ...variables });
  const state = new TargetState('backup', false);
  const hostKeys = new HostKeys(host.config, state);
  const connection = new Connection(host, hostKeys, state);
  const [source, mounts] = [new Source(host.config.SOURCE_DIR), noMounts()];
  const brake = brakeFor(host, { source, memory: new Memory(host.config), mounts, state, connection });
  return { sender: new Sender(host, source, mounts, state, connection, brake, nothingBeside), state, connection };
}

const BATCH: Batch = new Map([['a', change()]]);

describe('a sync that is not let run', () => {
  test('for the source is not what it was is told with the reason, and not as an exit status of rsync', async () => {
    using directory = scratch();
    const source = join(directory.path, 'source');
    mkdirSync(source);
    const { sender } = senderFor(source);
    renameSync(source, `${source}.old`);
    const missing = await sender.send(BATCH);
    expect(missing).toMatchObject({ kind: 'failed', status: null, mode: 'incremental', unrepeated: [] });
    expect(missing.reason).toBe(`源目录 ${source}/ 不见了，为保护备份拒绝同步。请检查挂载；若是有意更换，请重启服务`);
    mkdirSync(source);
    const replaced = await sender.send(ALL);
    expect(replaced).toMatchObject({ kind: 'failed', status: null, mode: 'full' });
    expect(replaced.reason).toStartWith(`源目录 ${source}/ 已不是启动时的目录，`);
    expect(replaced.seconds).toBeGreaterThanOrEqual(0);
  });

  test('for it would empty the backup is told with the reason too', async () => {
    using directory = scratch();
    using _ = keepLog();
    const { sender } = senderFor(directory.path, { DEST_HOST: 'root@127.0.0.1', SSH_OPTS: '-F none -p 1' });
    const { kind, status, reason } = await sender.send(ALL);
    expect({ kind, status }).toEqual({ kind: 'failed', status: null });
    expect(reason).toMatch(/^源目录为空，且无法确定备份是否为空 \(退出码: 255，.*\)，拒绝同步：SSH 连接失败/);
  });

  test('for a program fails otherwise is told as one that could not be started', async () => {
    using directory = scratch();
    const { sender, connection } = senderFor(directory.path, { ALLOW_EMPTY_SOURCE: 'true' });
    connection.findRoute = () => {
      throw new Error('no\nmemory');
    };
    expect(await sender.send(ALL)).toMatchObject({
      kind: 'failed',
      status: 126,
      reason: '无法启动 rsync：no\\nmemory',
    });
  });
});

test('a batch with all of the source in it, or one that cannot be listed, is a full sync', async () => {
  using directory = scratch();
  const source = join(directory.path, 'source');
  mkdirSync(source);
  const modeOf = async (batch: Batch, RSYNC_OPTS: string) => {
    const { sender } = senderFor(source, { RSYNC_OPTS });
    renameSync(source, `${source}.old`); // so that nothing is sent
    const { mode } = await sender.send(batch);
    renameSync(`${source}.old`, source);
    return mode;
  };
  expect(await modeOf(BATCH, '-a')).toBe('incremental');
  expect(await modeOf(BATCH, '-aR')).toBe('full');
  expect(await modeOf(new Map([['d', TREE]]), '-a')).toBe('incremental');
  expect(await modeOf(new Map([['', TREE]]), '-a')).toBe('full');
  expect(await modeOf(new Map([['', change()]]), '-a')).toBe('incremental');
});

describe('a name that came and went', () => {
  async function attempt(isUp: boolean) {
    using directory = scratch();
    const source = join(directory.path, 'source');
    mkdirSync(join(source, 'd'), { recursive: true });
    const variables = { DEST_HOST: 'root@127.0.0.1', SSH_OPTS: '-F none -p 1', RSYNC_OPTS: '-a --delete' };
    const { sender, state } = senderFor(source, variables);
    state.unsent.marker = () => Promise.resolve();
    state.unsent.end({ mode: 'full', kind: 'done' }, true);
    await settle();
    state.up = isUp;
    for (const kind of ['create', 'delete'] as const) state.note('d/a', event(kind), undefined, true);
    const { kind } = await sender.send(state.changes.take(0));
    return [kind, [...state.later.waiting.keys()]];
  }

  test('needs nothing but the time of its directory, some time', async () =>
    expect(await attempt(true)).toEqual(['done', ['d']]));

  test('does not pass for a sync with a backup that is away', async () =>
    expect(await attempt(false)).toEqual(['unreachable', []]));
});
