import { afterAll, beforeAll, describe, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../../src/backup/config.ts';
import { Destination, prepareDestination } from '../../../src/backup/destination.ts';
import type { Room } from '../../../src/backup/room.ts';
import { complaints } from '../../../src/service/status.ts';
import { eventually } from '../../processes.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'destination-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

describe('a destination', () => {
  test('is what the last look has found', async () => {
    const path = join(directory, 'backup');
    const destination = new Destination(path);
    await destination.inspect();
    expect(destination.report()).toMatchObject({ directory: path, writable: false });
    mkdirSync(path);
    expect(destination.report().writable).toBe(false);
    await destination.inspect();
    expect(destination.report()).toMatchObject({ directory: path, writable: true, free_bytes: expect.any(Number) });
    rmSync(path, { recursive: true });
    writeFileSync(path, 'a file in its place');
    await destination.inspect();
    expect(destination.report().writable).toBe(false);
  });

  test('that hangs is asked once, counts as not writable after a while, and as it is found when it comes back', async () => {
    const room = {
      writable: true,
      free_bytes: 5_000_000,
      size_bytes: 9_000_000,
      free_files: 7,
      shortage: null,
    } as const;
    const answers: Promise<Room>[] = [Promise.resolve(room)];
    const slow = Promise.withResolvers<Room>();
    answers.push(slow.promise);
    let asked = 0;
    const ask = () => answers[asked++] ?? Promise.reject(new Error('asked once more'));
    const destination = new Destination('/hangs', ask, 50);
    await destination.inspect();
    const looks = Array.from({ length: 5 }, () => destination.inspect());
    expect(destination.report()).toEqual({ directory: '/hangs', ...room });
    await eventually(() => !destination.report().writable);
    expect(destination.report()).toEqual({ directory: '/hangs', ...room, writable: false });
    expect(asked).toBe(2);
    slow.resolve({ ...room, free_bytes: 0, shortage: 'full' });
    await Promise.all(looks);
    expect(destination.report()).toEqual({ directory: '/hangs', ...room, free_bytes: 0, shortage: 'full' });
  });
});

describe('what is prepared', () => {
  const SAFE = { SSH_DIR: '/nowhere/ssh', HOST_KEY_DIR: '/nowhere/keys', STATUS_FILE: '/nowhere/status.json' };

  test('is made with all that it lies in', async () => {
    const DEST_DIR = join(directory, 'one', 'two');
    const before = complaints.length;
    await prepareDestination(readConfig({ ...SAFE, DEST_DIR }));
    const destination = new Destination(DEST_DIR);
    await destination.inspect();
    expect(destination.report().writable).toBe(true);
    expect(complaints.length).toBe(before);
  });

  test('is told where it cannot be, and where the source could write what is not its own', async () => {
    writeFileSync(join(directory, 'file'), '');
    await prepareDestination(readConfig({ ...SAFE, DEST_DIR: join(directory, 'file', 'below') }));
    expect(complaints[0]?.message).toContain('无法写入：ENOTDIR');
    const within = { STATUS_FILE: join(directory, 'status.json'), SSH_DIR: join(directory, 'new', 'ssh') };
    await prepareDestination(readConfig({ ...SAFE, ...within, DEST_DIR: directory }));
    const told = complaints.slice(0, 2).map(({ message }) => message);
    expect(told[0]).toStartWith(`${within.SSH_DIR} 在 DEST_DIR=${directory} 之内：源端可以改写其中的密钥`);
    expect(told[1]).toStartWith(`${within.STATUS_FILE} 在 DEST_DIR=${directory} 之内：源端可以改写或删除它`);
  });
});
