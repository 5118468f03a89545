import { expect, test } from 'bun:test';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formerNames } from '../../../src/backup/authorized-keys.ts';
import { readConfig } from '../../../src/backup/config.ts';
import { Doors } from '../../../src/backup/doors.ts';
import { PromotionMark } from '../../../src/backup/promotion-mark.ts';
import { SourceKeys } from '../../../src/backup/source-keys.ts';
import { content } from '../../processes.ts';
import { makeKey } from '../../thief.ts';

/** A backup without an sshd: what is on its disks, and who is let in. */
class Backup {
  readonly base = mkdtempSync(join(tmpdir(), 'source-keys-'));
  isAtHome = true;
  /** Stands for an end of the program where sessions are ended. */
  isKilled = false;
  admitted: Record<string, string> = {};
  doors = new Doors(this.config);
  private keys = this.start();

  constructor() {
    for (const name of ['backup', 'shared/sources', 'own']) mkdirSync(this.path(name), { recursive: true });
  }

  path(...names: string[]): string {
    return join(this.base, ...names);
  }

  get config() {
    return readConfig({
      ...{ DEST_DIR: this.path('backup'), SHARED_KEYS_DIR: this.path('shared') },
      ...{ SSH_DIR: this.path('ssh'), HOST_KEY_DIR: this.path('host-keys') },
    });
  }

  private start(): SourceKeys {
    mkdirSync(this.path('host-keys'), { recursive: true });
    this.admitted = {};
    this.doors = new Doors(this.config);
    const end = () => {
      if (this.isKilled) throw new Error('killed');
      return 0;
    };
    const keys = new SourceKeys({
      ...{ config: this.config, doors: this.doors },
      guard: {
        admitKey: (key, name = '') => {
          this.admitted[name] = key;
        },
        report: () => null,
        isAtHome: async () => this.isAtHome,
        barSource: () => false,
      },
      sshd: { endSessions: end, endSessionsOf: end },
    });
    keys.restrictFormer();
    return keys;
  }

  /** @param lost what the next start does not find any more */
  restart(...lost: string[]): void {
    for (const name of lost) rmSync(this.path(name), { recursive: true });
    this.keys = this.start();
  }

  /** Puts a key on the shared volume, which is made where there is none. */
  publish(file: string, id: string): void {
    if (!existsSync(this.path('own', id))) makeKey(this.path('own', id));
    cpSync(this.path('own', `${id}.pub`), this.path('shared', file));
  }

  write(...names: string[]): void {
    mkdirSync(this.path('backup', ...names.slice(0, -1)), { recursive: true });
    writeFileSync(this.path('backup', ...names), 'mirrored');
  }

  /** Looks at the shared volume twice, for a name that is another one's for a moment may be in the midst of a change. */
  async adopt(): Promise<string[]> {
    for (const _ of [1, 2]) await this.keys.adopt();
    return this.names;
  }

  /** Whose keys are authorised. */
  get names(): string[] {
    return formerNames(this.config).sort();
  }

  get file(): string {
    return this.path('ssh', 'authorized_keys');
  }

  /** Says by which door a key is let in, as sshd is told. */
  doorOf(id: string): string[] {
    const [, body = ''] = content(`${this.path('own', id)}.pub`).split(' ');
    const lines = readFileSync(this.file, 'utf8').split('\n');
    return lines
      .filter((line) => line.includes(body))
      .map((line) => / --forced-command \S+?(?: (\S+))?" /.exec(line)?.[1] ?? '');
  }

  [Symbol.dispose](): void {
    rmSync(this.base, { recursive: true });
  }
}

test.each([
  ['whose keys are authorised still', ['host-keys']],
  ['of which nothing is known any more', ['host-keys', 'ssh']],
])('a source without a name that was refused is so after the names were lost of sources %s', async (_, lost) => {
  using it = new Backup();
  for (const name of ['web1', 'web2']) it.publish(`sources/${name}.pub`, name);
  expect(await it.adopt()).toEqual(['web1', 'web2']);
  it.write('web1', 'file');
  it.publish('id_rsa.pub', 'nameless');
  expect(await it.adopt()).toEqual(['web1', 'web2']);
  it.restart(...lost);
  expect(await it.adopt()).toEqual(['web1', 'web2']);
  expect(it.doorOf('nameless')).toEqual([]);
});

test('a source without a name that was first stays the one after that was lost, for nobody has mirrored by the name of another one', async () => {
  using it = new Backup();
  it.publish('id_rsa.pub', 'nameless');
  expect(await it.adopt()).toEqual(['']);
  it.write('directory', 'file');
  it.publish('sources/web1.pub', 'web1');
  expect(await it.adopt()).toEqual(['']);
  it.restart('host-keys', 'ssh');
  expect(await it.adopt()).toEqual(['']);
});

test('nobody is forgotten, and nobody comes in their place, while DEST_DIR is not there, whose disk has gone since it was looked at', async () => {
  using it = new Backup();
  it.publish('sources/web1.pub', 'web1');
  await it.adopt();
  it.write('web1', 'file');
  rmSync(it.path('shared', 'sources'), { recursive: true });
  it.publish('id_rsa.pub', 'nameless');
  it.isAtHome = false;
  rmSync(it.path('backup', 'web1'), { recursive: true });
  expect(await it.adopt()).toEqual(['web1']);
  it.isAtHome = true;
  it.write('web1', 'file');
  expect(await it.adopt()).toEqual(['web1']);
  rmSync(it.path('backup', 'web1'), { recursive: true });
  expect(await it.adopt()).toEqual(['']);
});

test('who was refused comes in nobody’s place after a restart that has found no keys, be it with the same key or a name alike', async () => {
  using it = new Backup();
  for (const name of ['web1', 'web2', 'web3']) it.publish(`sources/${name}.pub`, name);
  await it.adopt();
  it.publish('sources/a-copy.pub', 'web1');
  it.publish('sources/WEB2.pub', 'other');
  it.publish('sources/web3..pub', 'another');
  for (const name of ['web1', 'web2', 'web3']) it.write(name, 'file');
  for (const lost of [[], ['ssh'], ['ssh', 'host-keys']]) {
    it.restart(...lost);
    expect(await it.adopt()).toEqual(['web1', 'web2', 'web3']);
    expect(['web1', 'web2', 'web3'].map((id) => it.doorOf(id))).toEqual([['web1'], ['web2'], ['web3']]);
  }
  expect(readdirSync(it.path('backup')).sort()).toEqual(['web1', 'web2', 'web3']);
});

test('each key stays that of its source where somebody has sorted authorized_keys, also over a restart and a change of another key', async () => {
  using it = new Backup();
  const names = ['web1', 'web2', 'web3'];
  for (const name of names) it.publish(`sources/${name}.pub`, name);
  await it.adopt();
  const doors = () => names.map((id) => it.doorOf(id));
  const sort = (way: (lines: string[]) => string[]) =>
    writeFileSync(it.file, way(readFileSync(it.file, 'utf8').split('\n').filter(Boolean)).join('\n'));
  for (const way of [(lines: string[]) => lines.sort(), (lines: string[]) => lines.sort().reverse()]) {
    sort(way);
    const away = it.path('shared', 'away');
    cpSync(it.path('shared', 'sources'), away, { recursive: true });
    it.restart('shared/sources'); // what the file says counts alone
    expect(doors()).toEqual([['web1'], ['web2'], ['web3']]);
    cpSync(away, it.path('shared', 'sources'), { recursive: true });
    expect(await it.adopt()).toEqual(names);
    expect(doors()).toEqual([['web1'], ['web2'], ['web3']]);
  }
  sort((lines) => lines.sort());
  it.publish('sources/web2.pub', 'next');
  await it.adopt();
  expect([...doors(), it.doorOf('next')]).toEqual([['web1'], [], ['web3'], ['web2']]);
});

test('a source that the backup has taken over is kept off under another name, also where the program is killed while that changes', async () => {
  using it = new Backup();
  it.publish('sources/web1.pub', 'web1');
  await it.adopt();
  new PromotionMark({ ...it.config, DEST_DIR: it.path('backup', 'web1') }).put();
  rmSync(it.path('shared', 'sources', 'web1.pub'));
  it.publish('sources/web2.pub', 'web1');
  it.isKilled = true;
  await it.adopt();
  it.isKilled = false;
  it.restart('ssh');
  expect(await it.adopt()).toContain('web2');
  expect(new PromotionMark({ ...it.config, DEST_DIR: it.path('backup', 'web2') }).since).toBeDefined();
});

test('two sources whose files are exchanged have exchanged their doors, and none has both', async () => {
  using it = new Backup();
  for (const name of ['web1', 'web2']) it.publish(`sources/${name}.pub`, name);
  await it.adopt();
  const { web1 = '', web2 = '' } = it.admitted;
  it.publish('sources/web1.pub', 'web2');
  it.publish('sources/web2.pub', 'web1');
  expect(await it.adopt()).toEqual(['web1', 'web2']);
  expect([it.doorOf('web1'), it.doorOf('web2')]).toEqual([['web2'], ['web1']]);
  expect(it.admitted).toEqual({ web1: web2, web2: web1 });
});

test('a name that a source had is forgotten with its directory, though that was made anew while all was moved', async () => {
  using it = new Backup();
  it.publish('sources/web1.pub', 'web1');
  await it.adopt();
  it.write('web1', 'file');
  renameSync(it.path('backup', 'web1'), it.path('backup', 'web2'));
  await it.adopt();
  expect(readdirSync(it.path('backup'))).toEqual(['web1', 'web2']);
  it.publish('sources/web2.pub', 'web1');
  rmSync(it.path('shared', 'sources', 'web1.pub'));
  expect(await it.adopt()).toEqual(['web2']);
  expect(it.doors.list().map(({ name }) => name)).toEqual(['web2']);
});
