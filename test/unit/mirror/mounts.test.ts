import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test';
import { isUtf8 } from 'node:buffer';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { Memory } from '../../../src/mirror/memory.ts';
import { Mounts } from '../../../src/mirror/mounts.ts';
import { withParents } from '../../../src/service/files.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import type { Identity } from '../../../src/service/mounts.ts';
import { bytes } from '../../tree.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog, passSeconds, request, settle } from './stand-ins.ts';

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  jest.useFakeTimers();
  request.begin();
  log = keepLog();
});
afterEach(async () => {
  request.stop();
  await settle(); // until nothing goes on behind the test
  request.end();
  log[Symbol.dispose]();
  jest.useRealTimers();
});

/** A file system of that name, with something in it unless told otherwise. */
const disk = (name: string, isFilled = true) => ({
  identity: { fileSystem: name, type: 'ef53', inode: '2', birth: '1' } as Identity | undefined,
  isFilled,
});
type Disk = ReturnType<typeof disk>;
/** One that does not answer. */
const HUNG: Disk = { identity: undefined, isFilled: false };

/** The rules by which rsync neither deletes nor looks at what is missing at a path, be it a file or a directory. */
const rulesFor = (path: string) =>
  ['P', 'H'].flatMap((kind) => ['', '/***'].map((end) => `--filter=${kind} ${path}${end}`));

/** The mounts below /source of a machine that a test makes up, and how they change. */
class Bed {
  readonly directory = scratch();
  memory = this.readMemory();
  mounts = this.create();
  root = '/source';
  /** What was told to those who listen. */
  readonly arrived: string[] = [];
  changes = 0;
  /** How often a mount was looked at. */
  looks = 0;
  /** Answers to looks come when this has resolved. */
  answering: Promise<unknown> = Promise.resolve();
  private readonly mounted = new Map<string, { id: number; on: number; type: string }>();
  private readonly disks = new Map<string, Disk>();
  private ids = 10;

  private readMemory() {
    return new Memory({ SSH_DIR: this.directory.path, SOURCE_DIR: '/source/' });
  }

  private create() {
    return new Mounts(
      this.memory,
      () => this.root,
      () => this.mountinfo,
      async (path) => {
        this.looks++;
        await this.answering;
        return this.disks.get(path) ?? HUNG;
      },
      async (path) => this.disks.get(path)?.isFilled ?? false,
      async (path, { fileSystem }) => this.disks.get(path)?.identity?.fileSystem === fileSystem,
    );
  }

  /** Has the program find out what is mounted, and listens from then on. */
  async start(): Promise<void> {
    await this.mounts.start();
    this.mounts.on('arrived', (path: string) => this.arrived.push(path));
    this.mounts.on('changed', () => this.changes++);
  }

  /** Has something mounted at a path of the source. */
  mount(path: string, what: Disk = disk(path), id = this.ids++, type = 'ext4'): void {
    this.put(path, what);
    const on = withParents(path).flatMap((above) => this.mounted.get(`${this.root}/${above}`) ?? []);
    this.mounted.set(`${this.root}/${path}`, { id, on: on[0]?.id ?? 1, type });
  }

  unmount(path: string): void {
    this.mounted.delete(`${this.root}/${path}`);
    this.disks.delete(`${this.root}/${path}`);
  }

  /** What is mounted, as the kernel writes it. */
  private get mountinfo(): string {
    const escaped = (path: string) =>
      path.replace(/[\s\\]/g, (it) => `\\${it.charCodeAt(0).toString(8).padStart(3, '0')}`);
    const lines = [...this.mounted].map(
      ([path, { id, on, type }]) => `${id} ${on} 8:1 / ${escaped(path)} rw - ${type} /dev/sda rw`,
    );
    return ['1 0 8:1 / / rw - ext4 /dev/root rw', ...lines].join('\n');
  }

  /** Has looks at what is mounted there find this from now on. */
  put(path: string, what: Disk): void {
    this.disks.set(`${this.root}/${path}`, what);
  }

  /** Has what is mounted there hold something, or nothing. */
  fill(path: string, isFilled = true): void {
    this.put(path, { ...(this.disks.get(`${this.root}/${path}`) ?? HUNG), isFilled });
  }

  /** Has the program look at what is mounted, and waits until it knows. */
  async refresh(): Promise<void> {
    this.mounts.refresh();
    await settle();
  }

  /** Has the program end, and begin anew with what it remembers. */
  async restart(meanwhile = async () => {}): Promise<void> {
    this.memory = this.readMemory();
    this.mounts = this.create();
    await meanwhile();
    await this.start();
  }

  get states(): Record<string, string> {
    return Object.fromEntries(this.mounts.report().map(({ path, state }) => [path, state]));
  }

  get remembered(): string[] {
    return this.readMemory()
      .data.mounts.map(({ path }) => path)
      .sort();
  }

  [Symbol.dispose](): void {
    this.directory[Symbol.dispose]();
  }
}

/** A bed where these disks are mounted when the program starts. */
async function bedWith(...paths: string[]): Promise<Bed> {
  const bed = new Bed();
  for (const path of paths) bed.mount(path);
  await bed.start();
  return bed;
}

const errors = () => log.text.match(/\[ERROR.*/g) ?? [];

describe('a mount below the source', () => {
  test('that is there is mirrored like all else, and remembered', async () => {
    using bed = await bedWith('disk', 'a/b');
    expect(bed.mounts.mounted.sort()).toEqual(['a/b', 'disk']);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.mounts.isHidden('disk/file')).toBe(false);
    expect(bed.mounts.isKept('disk')).toBe(false);
    expect(bed.states).toEqual({});
    expect(bed.remembered).toEqual(['a/b', 'disk']);
    expect(log.text).toBe('');
  });

  test('that goes is told once, hidden, and kept with all below it, until it is back', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    await bed.refresh();
    await bed.refresh();
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(errors()).toHaveLength(1);
    expect(errors()[0]).toContain('挂载点 disk 不见了');
    expect(bed.changes).toBe(1);
    for (const path of ['disk', 'disk/file', 'disk/a/b']) expect(bed.mounts.isHidden(path)).toBe(true);
    for (const path of ['', 'diskette', 'other/disk', 'dis']) expect(bed.mounts.isHidden(path)).toBe(false);
    expect(bed.mounts.rules('/')).toEqual(rulesFor('/disk'));
    expect(bed.mounts.rules('/source/')).toEqual(rulesFor('/source/disk'));
    expect(bed.mounts.mounted).toEqual([]);

    bed.mount('disk');
    bed.mounts.refresh();
    expect(bed.mounts.isHidden('disk/file')).toBe(true); // until it is known what it is
    await settle();
    expect(bed.states).toEqual({});
    expect(bed.mounts.isHidden('disk/file')).toBe(false);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.arrived).toEqual(['disk']);
    expect(log.text).toContain('挂载点 disk 已恢复');
    expect(errors()).toHaveLength(1);
  });

  test('that is missing at the start is told then, and not before', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    await bed.restart(async () => {
      await bed.refresh();
      expect(bed.states).toEqual({});
      expect(errors()).toEqual([]);
    });
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(errors()).toHaveLength(1);
    expect(bed.remembered).toEqual(['disk']);
  });

  test('whose paths are told apart from what lies above and beside it', async () => {
    using bed = await bedWith('a/disk');
    bed.unmount('a/disk');
    await bed.refresh();
    for (const path of ['', 'a', 'a/disk', 'a/disk/file']) expect(bed.mounts.isKept(path)).toBe(true);
    for (const path of ['a/disks', 'b', 'a/b', 'a/disk2/file']) expect(bed.mounts.isKept(path)).toBe(false);
  });

  test('that has just come is met by whoever asks for all, before its disk has answered', async () => {
    using bed = await bedWith();
    const answer = Promise.withResolvers<void>();
    bed.answering = answer.promise;
    bed.mount('new');
    bed.mounts.refresh();
    let isMet = false;
    for (let n = 0; n < 2; n++)
      void bed.mounts.meetAll().then(() => {
        isMet = true;
      });
    await settle();
    expect(isMet).toBe(false);
    answer.resolve();
    await settle();
    expect([isMet, bed.arrived, bed.looks]).toEqual([true, ['new'], 1]);
    await bed.mounts.meetAll();
  });

  test('that comes after the start is told, and mirrored once it is known what it is', async () => {
    using bed = await bedWith();
    bed.mount('new');
    bed.mounts.refresh();
    expect(bed.mounts.isHidden('new/file')).toBe(true);
    await settle();
    expect(bed.mounts.isHidden('new/file')).toBe(false);
    expect(bed.arrived).toEqual(['new']);
    expect(log.text).toContain('有新的挂载点 new');
    expect(errors()).toEqual([]);
    expect(bed.remembered).toEqual(['new']);
  });

  test('is looked at once, however often the kernel is asked', async () => {
    using bed = await bedWith('disk');
    expect(bed.looks).toBe(1);
    for (let n = 0; n < 5; n++) await bed.refresh();
    bed.mount('other');
    await bed.refresh();
    expect(bed.looks).toBe(2);
  });

  test('in another one goes and comes with it', async () => {
    using bed = await bedWith('outer', 'outer/inner');
    bed.unmount('outer/inner');
    bed.unmount('outer');
    await bed.refresh();
    expect(bed.states).toEqual({ outer: 'missing', 'outer/inner': 'missing' });
    bed.mount('outer');
    await bed.refresh();
    expect(bed.states).toEqual({ 'outer/inner': 'missing' });
    expect(bed.mounts.isHidden('outer/file')).toBe(false);
    expect(bed.mounts.isHidden('outer/inner/file')).toBe(true);
    bed.mount('outer/inner');
    await bed.refresh();
    expect(bed.states).toEqual({});
  });

  test('that came and went while it was looked at is as if it had never been there', async () => {
    using bed = await bedWith();
    const { promise, resolve } = Promise.withResolvers();
    bed.answering = promise;
    bed.mount('brief');
    await bed.refresh();
    bed.unmount('brief');
    await bed.refresh();
    resolve(undefined);
    await settle();
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(errors()).toEqual([]);
    expect(bed.remembered).toEqual([]);
  });

  test('that goes while it is looked at stays missing, whatever the look finds', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    await bed.refresh();
    const { promise, resolve } = Promise.withResolvers();
    bed.answering = promise;
    bed.mount('disk');
    await bed.refresh();
    bed.unmount('disk');
    await bed.refresh();
    resolve(undefined);
    await settle();
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(bed.arrived).toEqual([]);
  });
});

test('where no mount is mirrored, none is looked at, missed or kept', async () => {
  using bed = await bedWith('disk');
  bed.unmount('disk');
  await bed.restart(async () => {
    bed.mount('other');
    const { looks } = bed;
    await bed.refresh();
    expect(bed.looks).toBe(looks);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.mounts.isHidden('disk')).toBe(false);
  });
});

describe('in the place of a mount', () => {
  test('another file system that is empty is mirrored and told, and what was there before stays, over restarts too', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    await bed.refresh();
    bed.mount('disk', disk('another', false));
    await bed.refresh();
    const check = () => {
      expect(bed.states).toEqual({ disk: 'replaced' });
      expect(bed.mounts.isHidden('disk/file')).toBe(false);
      expect(bed.mounts.isKept('disk/file')).toBe(true);
      expect(bed.mounts.rules('/')).toEqual(rulesFor('/disk').slice(0, 2));
      expect(bed.mounts.mounted).toEqual([]);
    };
    check();
    expect(bed.arrived).toEqual(['disk']);
    expect(errors().at(-1)).toContain('挂载点 disk 换成了另一个空的文件系统');
    bed.fill('disk');
    const told = errors().length;
    await bed.restart();
    check();
    expect(errors()).toHaveLength(told + 1);
    bed.unmount('disk');
    bed.mount('disk');
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual([]);
  });

  test('an empty one is told also where the one before it was filled only a moment ago', async () => {
    using bed = await bedWith('disk');
    lifecycle.background(bed.mounts.keep());
    bed.fill('disk', false);
    await passSeconds(61);
    bed.fill('disk');
    await passSeconds(2);
    bed.unmount('disk');
    bed.mount('disk', disk('another', false));
    await passSeconds(1.5);
    expect(bed.states).toEqual({ disk: 'replaced' });
  });

  test('another file system with something in it is what is to be mirrored', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    bed.mount('disk', disk('another'));
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(errors()).toEqual([]);
    expect(bed.memory.data.mounts[0]?.identity?.fileSystem).toBe('another');
  });

  test('an empty one takes nothing away where the one before it was empty, too', async () => {
    using bed = await bedWith('disk');
    lifecycle.background(bed.mounts.keep());
    bed.fill('disk', false);
    await passSeconds(61);
    expect(bed.memory.data.mounts[0]?.isFilled).toBe(false);
    bed.unmount('disk');
    bed.mount('disk', disk('another', false));
    await passSeconds(1);
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(errors()).toEqual([]);
  });
});

describe('a file that is mounted by itself', () => {
  const file = (fileSystem: string, isFilled = true): Disk => {
    return { identity: { fileSystem, type: 'ef53', inode: '0', birth: '0' }, isFilled };
  };

  test('is hidden and kept when it is gone, and where an empty directory is in its place', async () => {
    using bed = new Bed();
    bed.mount('app.conf', file('one'));
    await bed.start();
    expect(bed.states).toEqual({});
    bed.unmount('app.conf');
    await bed.refresh();
    expect(bed.states).toEqual({ 'app.conf': 'missing' });
    expect(bed.mounts.rules('/')).toEqual(rulesFor('/app.conf'));
    expect(bed.mounts.isHidden('app.conf')).toBe(true);
    bed.mount('app.conf', disk('one', false));
    await bed.restart();
    expect(bed.states).toEqual({ 'app.conf': 'missing' });
    bed.mount('app.conf', disk('one'));
    await bed.refresh();
    expect(bed.states).toEqual({});
  });

  test('may be another one of the same file system, and empty', async () => {
    using bed = new Bed();
    bed.mount('app.conf', file('one'));
    await bed.start();
    bed.mount('app.conf', file('one', false));
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(log.text).not.toContain('另一个');
  });
});

describe('a mount that is new and empty', () => {
  test('keeps what the backup may have there until there is something in it', async () => {
    using bed = await bedWith();
    bed.mount('fresh', disk('fresh', false));
    await bed.refresh();
    lifecycle.background(bed.mounts.keep());
    const check = () => {
      expect(bed.mounts.rules('/')).toEqual([...rulesFor('/fresh').slice(0, 2), '--filter=H /fresh/**']);
      expect(bed.mounts.isHidden('fresh/file')).toBe(true); // what is not known to be there cannot be missed either
      expect(bed.mounts.isHidden('fresh')).toBe(false);
      expect(bed.states).toEqual({}); // nothing is wrong
    };
    check();
    await passSeconds(3);
    check();
    expect(bed.arrived).toEqual(['fresh']);
    bed.fill('fresh');
    await passSeconds(1.5);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.mounts.mounted).toEqual(['fresh']);
    expect(bed.arrived).toEqual(['fresh', 'fresh']);
    expect(errors()).toEqual([]);
    bed.unmount('fresh');
    await passSeconds(1.5);
    expect(bed.states).toEqual({ fresh: 'missing' });
  });

  test('is not missed when it goes, neither at once nor over a restart', async () => {
    using bed = await bedWith();
    for (const name of ['one', 'two']) bed.mount(name, disk(name, false));
    await bed.refresh();
    expect(bed.mounts.rules('/')).toHaveLength(6);
    bed.unmount('one');
    await bed.refresh();
    expect(bed.mounts.rules('/')).toHaveLength(3);
    expect(bed.states).toEqual({});
    bed.unmount('two');
    await bed.restart();
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(errors()).toEqual([]);
    expect(bed.remembered).toEqual([]);
  });
});

describe('an automount', () => {
  test('that rests is hidden and kept, and nothing is wrong; it comes and goes without a word', async () => {
    using bed = await bedWith('home');
    bed.unmount('home');
    bed.mount('home', HUNG, 5, 'autofs');
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(bed.mounts.rules('/')).toEqual(rulesFor('/home'));
    const before = log.text;
    bed.unmount('home');
    bed.mount('home');
    await bed.refresh();
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.arrived).toEqual(['home']);
    bed.unmount('home');
    bed.mount('home', HUNG, 5, 'autofs');
    await bed.restart();
    expect(bed.mounts.isHidden('home/file')).toBe(true);
    expect(log.text).toBe(before);
    expect(errors()).toEqual([]);
    bed.unmount('home');
    await bed.refresh();
    expect(bed.states).toEqual({ home: 'missing' });
  });

  test('that is made below the automounter’s own directory rests as well when it is gone', async () => {
    using bed = await bedWith();
    bed.mount('home', HUNG, 5, 'autofs');
    bed.mount('home/user', disk('user'));
    await bed.refresh();
    expect(bed.mounts.mounted).toEqual(['home/user']);
    bed.unmount('home/user');
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(bed.mounts.isKept('home/user/file')).toBe(true);
    expect(errors()).toEqual([]);
  });

  test('that has never been anything else is left alone', async () => {
    using bed = await bedWith();
    bed.mount('home', HUNG, 5, 'autofs');
    await bed.refresh();
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.looks).toBe(0);
  });
});

describe('a mount that does not answer', () => {
  test('counts as missing, and is looked at again each minute until it does', async () => {
    using bed = await bedWith('disk');
    bed.unmount('disk');
    bed.mount('disk', HUNG);
    await bed.refresh();
    lifecycle.background(bed.mounts.keep());
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(bed.mounts.isHidden('disk/file')).toBe(true);
    await passSeconds(50);
    const { looks } = bed;
    bed.put('disk', disk('disk'));
    expect(bed.states).toEqual({ disk: 'missing' });
    await passSeconds(12);
    expect(bed.looks).toBeGreaterThan(looks);
    expect(bed.states).toEqual({});
    expect(bed.arrived).toEqual(['disk']);
  });

  test('holds up none of the others', async () => {
    using bed = await bedWith('disk', 'other');
    bed.answering = new Promise(() => {});
    bed.mount('hung');
    bed.unmount('other');
    await bed.refresh();
    expect(bed.states).toEqual({ other: 'missing' });
    expect(bed.mounts.isHidden('hung/file')).toBe(true);
    expect(bed.mounts.isHidden('disk/file')).toBe(false);
  });
});

test('another file system in the place of a mount is told, and mirrored unless it is empty', async () => {
  using bed = await bedWith('disk');
  bed.unmount('disk');
  bed.mount('disk', disk('another'));
  await bed.refresh();
  expect(log.text).toContain('源目录下的挂载点 disk 换成了另一个文件系统');
  expect(log.text).not.toContain('已恢复');
  expect(bed.mounts.mounted).toEqual(['disk']);
});

describe('a mount whose place was renamed', () => {
  test('is followed with all that is known of it, and nothing is missed', async () => {
    using bed = await bedWith('old/disk', 'old/disk/inner');
    for (const path of ['old/disk/inner', 'old/disk']) bed.unmount(path);
    bed.mount('new/disk', disk('old/disk'), 10);
    bed.mount('new/disk/inner', disk('old/disk/inner'), 11);
    await bed.refresh();
    expect(bed.mounts.mounted.sort()).toEqual(['new/disk', 'new/disk/inner']);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.looks).toBe(2);
    expect(bed.remembered).toEqual(['new/disk', 'new/disk/inner']);
    expect(log.text).toBe('');
    bed.unmount('new/disk/inner');
    await bed.refresh();
    expect(bed.states).toEqual({ 'new/disk/inner': 'missing' });
  });

  test('is found out about where it is now, if it was renamed while it was looked at', async () => {
    using bed = await bedWith();
    const { promise, resolve } = Promise.withResolvers();
    bed.answering = promise;
    bed.mount('old/disk', disk('it'));
    await bed.refresh();
    bed.unmount('old/disk');
    bed.mount('new/disk', disk('it'), 10);
    await bed.refresh();
    resolve(undefined);
    await settle();
    expect(bed.mounts.mounted).toEqual(['new/disk']);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.states).toEqual({});
  });

  test('is not one that has gone, and whose number the kernel has given to another one since', async () => {
    using bed = new Bed();
    bed.root = `${bed.directory.path}/source`;
    mkdirSync(`${bed.root}/disk`, { recursive: true });
    bed.mount('disk', disk('disk'), 10);
    await bed.start();
    bed.unmount('disk');
    bed.mount('other', disk('other'), 10);
    await bed.refresh();
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(bed.mounts.mounted).toEqual(['other']);
    expect(bed.mounts.isKept('disk/file')).toBe(true);
  });

  test('is not taken for one that has got its place, its number and its device since, once something is sent', async () => {
    using bed = await bedWith('disk');
    bed.put('disk', disk('another', false));
    await bed.refresh();
    expect(bed.mounts.mounted).toEqual(['disk']); // the kernel says the same of it
    await bed.mounts.verify();
    expect(bed.mounts.mounted).toEqual([]); // it is not known yet what it is
    expect(bed.mounts.isKept('disk/file')).toBe(true);
    await settle();
    expect(bed.states).toEqual({ disk: 'replaced' });
  });

  test('is told from another one that it has changed places with', async () => {
    using bed = await bedWith('a/disk', 'b/disk');
    for (const path of ['a/disk', 'b/disk']) bed.unmount(path);
    bed.mount('a/disk', disk('b/disk'), 11);
    bed.mount('b/disk', disk('a/disk'), 10);
    await bed.refresh();
    expect(bed.looks).toBe(2);
    expect(bed.mounts.mounted.sort()).toEqual(['a/disk', 'b/disk']);
    const fileSystemOf = (path: string) => bed.memory.data.mounts.find((it) => it.path === path)?.identity?.fileSystem;
    expect([fileSystemOf('a/disk'), fileSystemOf('b/disk')]).toEqual(['b/disk', 'a/disk']);
    expect(log.text).toBe('');
  });

  test('is not confused with one that lies elsewhere now that the source itself does', async () => {
    using bed = await bedWith('disk');
    bed.root = '/next';
    await bed.refresh(); // the kernel has nothing new to tell
    expect(bed.states).toEqual({ disk: 'missing' });
    expect(bed.mounts.isHidden('disk/file')).toBe(true);
    bed.mount('disk');
    await bed.refresh();
    expect(bed.states).toEqual({});
    bed.root = '/source';
    await bed.refresh();
    expect(bed.states).toEqual({});
    expect(bed.mounts.mounted).toEqual(['disk']);
  });
});

describe('those that went on purpose', () => {
  test('are forgotten when somebody says so, and others are taken for what is to be mirrored', async () => {
    using bed = await bedWith('gone', 'replaced', 'there');
    bed.unmount('gone');
    bed.unmount('replaced');
    bed.mount('replaced', disk('another', false));
    await bed.refresh();
    expect(bed.states).toEqual({ gone: 'missing', replaced: 'replaced' });
    const { changes } = bed;
    expect(bed.mounts.forgetMissing().sort()).toEqual(['gone', 'replaced']);
    await settle();
    expect(bed.changes).toBeGreaterThan(changes);
    expect(bed.states).toEqual({});
    expect(bed.remembered).toEqual(['replaced', 'there']);
    expect(bed.mounts.rules('/')).toEqual([]);
    expect(bed.arrived).toEqual(['replaced', 'replaced']);
    expect(bed.mounts.forgetMissing()).toEqual([]);
    await bed.restart();
    expect(bed.states).toEqual({});
  });
});

test('no more mounts are remembered than 10,000, and asking for them stays cheap', async () => {
  using bed = new Bed();
  for (let n = 0; n < 10_100; n++) bed.mount(`disk${n}`);
  const began = process.cpuUsage().user;
  await bed.start();
  bed.mount('one-more');
  await bed.refresh();
  expect(process.cpuUsage().user - began).toBeLessThan(2_000_000);
  expect(bed.mounts.mounted).toHaveLength(10_000);
  expect(bed.remembered).toHaveLength(10_000);
}, 60_000);

describe('the rules for rsync', () => {
  const NAMES = [
    'plain',
    'a*b',
    '**',
    '?',
    '[x]',
    '[',
    ']',
    'back\\slash',
    '\\*',
    'new\nline',
    ' ',
    '- x',
    '#',
    '\xff\xfe',
  ];
  const latin1 = (text: string) => Buffer.from(text).toString('latin1');

  /** Mirrors a source where a disk of this name, which is missing, lies beside others, and tells what the backup then holds. */
  async function mirror(name: string, beside: string[], words: string[] = []) {
    using bed = await bedWith(`top/${name}`);
    bed.unmount(`top/${name}`);
    await bed.refresh();
    const at = (...path: string[]) => bytes([bed.directory.path, ...path].join('/'));
    for (const tree of ['source', 'backup']) {
      mkdirSync(at(tree, 'top', name, 'deep'), { recursive: true });
      writeFileSync(at(tree, 'top', name, 'deep', `of the ${tree}`), '');
    }
    for (const other of beside) {
      mkdirSync(at('source', 'top', other, 'deep'), { recursive: true });
      writeFileSync(at('source', 'top', other, 'deep', 'of the source'), '');
      mkdirSync(at('backup', 'top', other), { recursive: true });
      writeFileSync(at('backup', 'top', other, 'of the backup'), '');
    }
    const rules = bed.mounts.rules('/');
    const places = ['source', 'backup'].map((tree) => `${bed.directory.path}/${tree}/`);
    const args = [...rules, '-a', '--delete', ...words, ...rules, ...places];
    const { status, stderr } = spawnSync('rsync', args, { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const there = readdirSync(at('backup'), { encoding: 'latin1', recursive: true }).sort();
    const below = (path: string) => there.filter((it) => it.startsWith(path)).map((it) => it.slice(path.length));
    return (of: string) => below(`top/${of}/`);
  }

  const KEPT = ['deep', 'deep/of the backup'];
  const MIRRORED = ['deep', 'deep/of the source'];

  test.each([...NAMES, latin1('照片'), latin1('é')])(
    'leave a missing disk alone and all else is mirrored: %p',
    async (name) => {
      const beside = ['other', 'aXb', 'x', 'xx', `${name}2`, 'photos', 'ab'];
      if (isUtf8(bytes(name))) beside.push(latin1('音乐'), latin1('è')); // other bytes stand for all that are no ASCII
      const holds = await mirror(
        name,
        beside.filter((other) => other !== name),
      );
      expect(holds(name)).toEqual(KEPT);
      for (const other of beside) if (other !== name) expect([other, ...holds(other)]).toEqual([other, ...MIRRORED]);
    },
  );

  test.each(['--delete-excluded', '--filter=!', '--exclude=none --filter=!', '--delete --include=*', '-F'])(
    'hold with options that could undo them: %s',
    async (words) => {
      const holds = await mirror('disk', ['other'], words.split(' '));
      expect(holds('disk')).toEqual(KEPT);
      expect(holds('other')).toEqual(MIRRORED);
    },
  );
});
