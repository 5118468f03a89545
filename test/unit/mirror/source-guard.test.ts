import { afterEach, beforeEach, describe, expect, jest, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Memory } from '../../../src/mirror/memory.ts';
import { Source } from '../../../src/mirror/source.ts';
import { SourceGuard } from '../../../src/mirror/source-guard.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog, request } from './stand-ins.ts';

setDefaultTimeout(60_000);

let log: ReturnType<typeof keepLog>;
/** What runs until the program is to stop. */
let running: Promise<unknown>[] = [];
beforeEach(() => {
  jest.useFakeTimers();
  request.begin();
  log = keepLog();
});
afterEach(async () => {
  running = [];
  request.end();
  log[Symbol.dispose]();
  jest.useRealTimers();
});

/** Lets the guard look once more: its clock goes a second on, and the programs that it asks take their time. */
async function look(): Promise<void> {
  jest.advanceTimersByTime(1000);
  await Bun.spawn(['sleep', '0.02']).exited; // no timer of this process runs
}

/** Has the guard look until something is so. */
async function until(check: () => boolean): Promise<void> {
  for (let n = 0; !check(); n++) {
    if (n > 500) throw new Error(`it never came to be so: ${check}\n${log.text}`);
    await look();
  }
}

/** Has the guard look so often that it would have noticed. */
async function oftenEnough(): Promise<void> {
  for (let n = 0; n < 25; n++) await look();
}

/** A source in a directory, `current`, a link that leads to `one` beside it. */
class Bed {
  readonly scratch = scratch();
  readonly source: Source;
  memory: Memory;
  guard: SourceGuard;
  /** How often all was to be watched anew. */
  rewatched = 0;
  isAdmitted = false;

  constructor() {
    for (const name of ['one', 'two']) this.make(name);
    symlinkSync('one', this.path('current'));
    this.source = new Source(`${this.path('current')}/`);
    [this.memory, this.guard] = this.create();
  }

  private create(): [Memory, SourceGuard] {
    const memory = new Memory({ SSH_DIR: this.path('keys'), SOURCE_DIR: `${this.path('current')}/` });
    return [memory, new SourceGuard(this.source, memory, () => this.rewatched++)];
  }

  path(...names: string[]): string {
    return join(this.scratch.path, ...names);
  }

  make(name: string): void {
    mkdirSync(this.path(name));
    writeFileSync(this.path(name, 'file'), name);
  }

  flip(to: string): void {
    symlinkSync(to, this.path('next'));
    renameSync(this.path('next'), this.path('current'));
  }

  /** Begins to wait for the source, as at the start of the program. */
  admit(): void {
    this.isAdmitted = false;
    const admitting = this.guard.admit().then(() => {
      this.isAdmitted = true;
    });
    running.push(admitting);
  }

  /** Has the source admitted and looked at again and again. */
  async run(): Promise<void> {
    this.admit();
    await until(() => this.isAdmitted);
    running.push(this.guard.keep());
  }

  /** Has what is remembered be of another file system. */
  forge(): void {
    const { source } = this.memory.data;
    if (!source) throw new Error('nothing is remembered');
    this.memory.data.source = { ...source, fileSystem: `${source.fileSystem}0` };
  }

  /** Begins anew with what is remembered. */
  restart(): void {
    this.memory.save();
    [this.memory, this.guard] = this.create();
  }

  get mayMirror(): boolean {
    try {
      this.source.check();
      return true;
    } catch {
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    request.stop();
    await Promise.all(running);
    this.scratch[Symbol.dispose]();
  }
}

const errors = () => log.text.match(/\[ERROR.*/g) ?? [];

describe('at the start', () => {
  test('a source that was never seen is admitted and remembered', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    expect(bed.memory.data.source?.inode).toMatch(/^\d+$/);
    bed.restart();
    const remembered = bed.memory.data.source;
    bed.admit();
    await until(() => bed.isAdmitted);
    expect(bed.memory.data.source).toEqual(remembered);
    expect(log.text).toBe('');
  });

  test('one on the same file system is admitted, also where it is another directory', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    const { source: before } = bed.memory.data;
    bed.flip('two');
    bed.restart();
    bed.admit();
    await until(() => bed.isAdmitted);
    expect(bed.mayMirror).toBe(true);
    expect(bed.memory.data.source?.inode).not.toBe(before?.inode);
  });

  test('one on another file system is refused and told once, and admitted when the other is back', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    const { source: known } = bed.memory.data;
    bed.forge();
    bed.restart();
    bed.admit();
    await until(() => errors().length > 0);
    await oftenEnough();
    expect(bed.isAdmitted).toBe(false);
    expect(bed.mayMirror).toBe(false);
    expect(errors()).toHaveLength(1);
    expect(errors()[0]).toMatch(/位于另一个文件系统上.*--accept-deletions/);
    bed.memory.data.source = known;
    await until(() => bed.isAdmitted);
    expect(bed.mayMirror).toBe(true);
    expect(bed.rewatched).toBe(0); // nothing is watched yet
  });

  test('one that is not there is waited for, and no other one is taken for it', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    bed.restart();
    bed.flip('nowhere');
    bed.admit();
    await until(() => errors().length > 0);
    expect(errors()[0]).toContain('不见了');
    expect(await bed.guard.accept()).toBe(false); // there is nothing to be accepted
    await oftenEnough();
    expect(bed.isAdmitted).toBe(false);
    bed.forge();
    bed.flip('one');
    await until(() => errors().length > 1);
    expect(errors()[1]).toContain('位于另一个文件系统上');
    await oftenEnough();
    expect(bed.isAdmitted).toBe(false);
  });

  test('the wait ends when the program does', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    bed.forge();
    bed.admit();
    await until(() => errors().length > 0);
    request.stop();
    await until(() => bed.isAdmitted);
    expect(bed.mayMirror).toBe(false);
  });
});

describe('somebody who accepts what is there', () => {
  test('has it admitted, watched and remembered, over a restart too', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    bed.forge();
    bed.admit();
    await until(() => errors().length > 0);
    expect(await bed.guard.accept()).toBe(true);
    expect(bed.mayMirror).toBe(true);
    expect(bed.rewatched).toBe(1);
    await until(() => bed.isAdmitted);
    bed.restart();
    bed.admit();
    await until(() => bed.isAdmitted);
    expect(errors()).toHaveLength(1);
  });

  test('has one that was replaced mirrored without a restart', async () => {
    await using bed = new Bed();
    await bed.run();
    bed.make('other');
    rmSync(bed.path('current'));
    renameSync(bed.path('other'), bed.path('current'));
    bed.forge();
    await until(() => errors().length > 0);
    expect(bed.mayMirror).toBe(false);
    expect(await bed.guard.accept()).toBe(true);
    expect(bed.mayMirror).toBe(true);
    await oftenEnough();
    expect(errors()).toHaveLength(1);
  });

  test('changes nothing where nothing is wrong', async () => {
    await using bed = new Bed();
    await bed.run();
    expect(await bed.guard.accept()).toBe(false);
    expect(bed.rewatched).toBe(0);
  });
});

describe('a link in the path', () => {
  test('is followed where it was flipped, told, and watched from then on, with the place remembered', async () => {
    await using bed = new Bed();
    await bed.run();
    const [before, asked] = [bed.source.realRoot, performance.now()];
    bed.flip('two');
    expect(bed.mayMirror).toBe(false); // until it is known where it leads
    await until(() => bed.rewatched === 1);
    expect(bed.mayMirror).toBe(true);
    expect([before, bed.source.realRoot]).toEqual([bed.path('one'), bed.path('two')]);
    expect(bed.guard.movedAt).toBeGreaterThan(asked);
    expect(log.text).toMatch(/\[WARN.*现在指向 \S+\/two（原为 \S+\/one）/);
    const memory = new Memory({ SSH_DIR: bed.path('keys'), SOURCE_DIR: bed.path('current') });
    expect(memory.data.source).toEqual(bed.memory.data.source);
    bed.flip('one');
    await until(() => bed.rewatched === 2);
    expect(bed.source.realRoot).toBe(bed.path('one'));
    expect(errors()).toEqual([]);
  });

  test('is followed by the time that somebody has had it looked at, as is a source that is lost', async () => {
    await using bed = new Bed();
    bed.admit();
    await until(() => bed.isAdmitted);
    await bed.guard.look();
    expect(bed.rewatched).toBe(0);
    bed.flip('two');
    await Promise.all([bed.guard.look(), bed.guard.look()]);
    expect([bed.rewatched, bed.source.realRoot]).toEqual([1, bed.path('two')]);
    bed.flip('nowhere');
    await bed.guard.look();
    expect([bed.rewatched, bed.source.isFound]).toEqual([1, false]);
  });

  test('is followed also where it is flipped all the time, and nothing breaks', async () => {
    await using bed = new Bed();
    await bed.run();
    for (let n = 0; n < 60; n++) {
      bed.flip(['one', 'two', 'nowhere', 'two'][n % 4] ?? '');
      await look();
    }
    bed.flip('two');
    await until(() => bed.mayMirror && bed.source.realRoot === bed.path('two'));
    expect(lifecycle.stopping).toBe(false);
  });

  test.each([
    ['nowhere', '不见了'],
    ['empty', '已不是启动时的目录'],
    ['new', '已不是启动时的目录'],
    ['file', '不见了'],
  ])('is not followed to what is no tree to mirror: %s', async (where, said) => {
    await using bed = new Bed();
    await bed.run();
    mkdirSync(bed.path('empty'));
    mkdirSync(bed.path('new', 'lost+found'), { recursive: true });
    writeFileSync(bed.path('file'), '');
    bed.flip(where);
    await until(() => errors().length > 0);
    await oftenEnough();
    expect(errors()).toHaveLength(1);
    expect(errors()[0]).toContain(said);
    expect(bed.mayMirror).toBe(false);
    expect(bed.source.realRoot).toBe(bed.path('one'));
    expect(bed.rewatched).toBe(0);
    bed.flip('one');
    await until(() => bed.rewatched === 1);
    expect(bed.mayMirror).toBe(true);
    expect(log.text).toContain('已恢复');
  });

  test('is not followed to another file system', async () => {
    await using bed = new Bed();
    await bed.run();
    bed.forge();
    bed.flip('two');
    await until(() => errors().length > 0);
    await oftenEnough();
    expect(bed.mayMirror).toBe(false);
    expect(bed.source.realRoot).toBe(bed.path('one'));
  });
});

test('a directory in the place of the source is not it, whatever is in it', async () => {
  await using bed = new Bed();
  await bed.run();
  renameSync(bed.path('one'), bed.path('old'));
  bed.make('one');
  await until(() => errors().length > 0);
  await oftenEnough();
  expect(errors()).toHaveLength(1);
  expect(bed.mayMirror).toBe(false);
  rmSync(bed.path('one'), { recursive: true });
  renameSync(bed.path('old'), bed.path('one'));
  await until(() => bed.rewatched === 1);
  expect(bed.mayMirror).toBe(true);
});
