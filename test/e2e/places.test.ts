/** Files that are mounted into the source by themselves, and directories that are mounted at several places of it. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { HeldRsync } from '../held-rsync.ts';
import { Model } from '../model.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair, theOnly, watchersOf } from '../pair.ts';
import { content, eventually, type Program } from '../processes.ts';

setDefaultTimeout(120_000);

const isPossible = mayHaveNamespace();
if (!isPossible) console.log('SKIPPED: what is mounted at several places of the source (needs mount namespaces)');

const METHODS = [
  ['a list', '-avz --delete'],
  ['rules', '-avz --delete -F'],
  ['comparisons of everything', '-avz --delete --checksum-seed=1'],
] as const;

/** A pair whose source is in a namespace where the test mounts what it likes. */
async function inNamespace(name: string, prepare: (mounts: Bed) => void, env: Record<string, string> = {}) {
  const pair = await Pair.withKeys(name);
  const namespace = await Namespace.make();
  mkdirSync(pair.path('host'));
  const bed = new Bed(pair, namespace);
  prepare(bed);
  bed.backup = pair.start('start-sshd');
  bed.env = { ...bed.env, SYNC_INTERVAL: '0', ...env };
  try {
    bed.source = await bed.start();
  } catch (cause) {
    await bed[Symbol.asyncDispose]();
    throw cause;
  }
  return bed;
}

class Bed implements AsyncDisposable {
  source!: Program;
  backup!: Program;
  env: Record<string, string> = {};

  constructor(
    readonly pair: Pair,
    readonly namespace: Namespace,
  ) {}

  async start(): Promise<Program> {
    const source = this.pair.start('rsync-inotify', this.env, this.namespace.wrapper);
    await source.shows('✓ 服务运行中');
    return source;
  }

  host = (...names: string[]) => this.pair.path('host', ...names);
  of = (...names: string[]) => this.pair.path('source', ...names);
  copy = (...names: string[]) => this.pair.path('backup', ...names);

  /** Writes a file on the host, in place, so that it stays the one that is mounted. */
  write(name: string, text: string): void {
    mkdirSync(dirname(this.host(name)), { recursive: true });
    writeFileSync(this.host(name), text);
  }

  /** Mounts what the host has at a path of the source, where there is an empty one of its kind then. */
  mount(from: string, path: string): void {
    mkdirSync(dirname(this.of(path)), { recursive: true });
    if (statSync(from).isDirectory()) mkdirSync(this.of(path), { recursive: true });
    else appendFileSync(this.of(path), '');
    this.namespace.run('mount --bind "$1" "$2"', from, this.of(path));
  }

  async arrives(path: string, text: string): Promise<void> {
    await eventually(() => content(this.copy(path)) === text).catch((cause) => {
      throw new Error(`${path} ${cause}\n${this.source.output}`);
    });
  }

  /** Waits until every watcher that was to be replaced has been. */
  async isSettled(): Promise<void> {
    await eventually(() => JSON.parse(content(this.pair.path('source-status.json'))).watch.in_doubt === null);
    await theOnly(watchersOf, this.pair);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pair[Symbol.asyncDispose]();
    await this.namespace[Symbol.asyncDispose]();
  }
}

describe.skipIf(!isPossible).concurrent('a file that is mounted into the source', () => {
  test('is followed, whatever its name is, also where it was mounted later', async () => {
    const names = ['app.conf', 'deep/照片 a\\b', '@x'];
    await using bed = await inNamespace('file', (its) => {
      for (const [n, name] of names.entries()) {
        its.write(`${n}`, 'first');
        its.mount(its.host(`${n}`), name);
      }
    });
    await bed.isSettled();
    for (const [n, name] of names.entries()) {
      await bed.arrives(name, 'first');
      bed.write(`${n}`, 'second');
      await bed.arrives(name, 'second');
      appendFileSync(bed.host(`${n}`), ' more');
      await bed.arrives(name, 'second more');
    }
    bed.write('later', 'early');
    bed.mount(bed.host('later'), 'later');
    await bed.arrives('later', 'early');
    await bed.isSettled();
    bed.write('later', 'later on');
    await bed.arrives('later', 'later on');
    renameSync(bed.host('later'), bed.host('gone')); // the container keeps what it has
    writeFileSync(bed.of('beside'), 'beside');
    await bed.arrives('beside', 'beside');
    expect(content(bed.copy('later'))).toBe('later on');
    expect(bed.source.output).not.toContain('意外退出');
  });

  test('is followed also where -x leaves other file systems out', async () => {
    const bed = await inNamespace(
      'file-x',
      (its) => {
        its.write('app.conf', 'first');
        its.mount(its.host('app.conf'), 'app.conf');
      },
      { RSYNC_OPTS: '-avz --delete -x' },
    );
    await using _ = bed;
    await bed.isSettled();
    bed.write('app.conf', 'second');
    await bed.arrives('app.conf', 'second');
  });

  test.each(METHODS)('keeps its copy when it is unmounted, and at the next start too: %s', async (...given) => {
    const [, RSYNC_OPTS] = given;
    await using bed = await inNamespace(
      'file-gone',
      (its) => {
        its.write('app.conf', 'precious');
        its.mount(its.host('app.conf'), 'app.conf');
      },
      { RSYNC_OPTS },
    );
    await bed.arrives('app.conf', 'precious');
    const check = async (text: string) => {
      writeFileSync(bed.of('beside'), text);
      await bed.arrives('beside', text);
      expect(content(bed.copy('app.conf'))).toBe('precious');
    };
    bed.namespace.run('until umount "$1"; do sleep 0.05; done', bed.of('app.conf'));
    await bed.source.shows('挂载点 app.conf 不见了');
    writeFileSync(bed.of('app.conf'), 'what was below');
    await check('one');
    rmSync(bed.of('app.conf'));
    await check('two');
    expect(await bed.source.stop()).toBe(0);
    mkdirSync(bed.of('app.conf'));
    bed.namespace.run('mount -t tmpfs tmpfs "$1"', bed.of('app.conf')); // as Docker does where there is no file
    bed.source = await bed.start();
    await check('three');
    expect(bed.source.output).toContain('挂载点 app.conf 不见了');
    bed.namespace.run('until umount "$1"; do sleep 0.05; done; rmdir "$1"', bed.of('app.conf'));
    bed.write('app.conf', 'back');
    bed.mount(bed.host('app.conf'), 'app.conf');
    await bed.source.shows('挂载点 app.conf 已恢复');
    await bed.arrives('app.conf', 'back');
    bed.write('app.conf', 'again');
    await bed.arrives('app.conf', 'again');
  });

  test.each(METHODS)('keeps its copy when it is unmounted lazily while rsync runs: %s', async (...given) => {
    const [, RSYNC_OPTS] = given;
    let rsync: HeldRsync | undefined;
    await using bed = await inNamespace(
      'file-lazily',
      (its) => {
        rsync = new HeldRsync(its.pair);
        writeFileSync(its.of('beside'), '');
        its.write('app.conf', 'precious');
        its.mount(its.host('app.conf'), 'app.conf');
        its.env = rsync.env;
      },
      { RSYNC_OPTS },
    );
    await bed.arrives('app.conf', 'precious');
    rsync?.hold();
    rmSync(bed.of('beside'));
    await rsync?.isHeld();
    bed.namespace.run('umount --lazy "$1"', bed.of('app.conf'));
    await bed.source.shows('挂载点 app.conf 不见了');
    rsync?.leave();
    await bed.source.shows('为保护备份已中止');
    await eventually(() => !existsSync(bed.copy('beside')));
    expect(content(bed.copy('app.conf'))).toBe('precious');
  });

  test('may be another one at the next start without a word, for editors put new files in the place of old ones', async () => {
    await using bed = await inNamespace('file-other', (its) => {
      its.write('app.conf', 'first');
      its.mount(its.host('app.conf'), 'app.conf');
    });
    await bed.arrives('app.conf', 'first');
    expect(await bed.source.stop()).toBe(0);
    rmSync(bed.host('app.conf'));
    bed.write('app.conf', 'second');
    bed.namespace.run('umount "$1"', bed.of('app.conf'));
    bed.mount(bed.host('app.conf'), 'app.conf');
    bed.source = await bed.start();
    await bed.arrives('app.conf', 'second');
    expect(bed.source.output).not.toMatch(/挂载点 app.conf/);
  });
});

describe.skipIf(!isPossible).concurrent('a directory that is mounted at several places of the source', () => {
  /** Works on a directory and expects it at all its places. */
  async function work(bed: Bed, directory: string, places: string[]): Promise<void> {
    const everywhere = async (check: (place: string) => Promise<void>) => {
      for (const place of places) await check(place);
    };
    const arrives = (path: string, text: string) => everywhere((place) => bed.arrives(`${place}/${path}`, text));
    const goes = (path: string) =>
      everywhere(async (place) => {
        await eventually(() => !existsSync(bed.copy(place, path)));
      });
    writeFileSync(`${directory}/file`, 'one');
    await arrives('file', 'one');
    appendFileSync(`${directory}/file`, ' two');
    await arrives('file', 'one two');
    mkdirSync(`${directory}/new/deep`, { recursive: true });
    writeFileSync(`${directory}/new/deep/file`, 'deep');
    await arrives('new/deep/file', 'deep');
    await bed.isSettled();
    writeFileSync(`${directory}/new/deep/file`, 'deeper');
    await arrives('new/deep/file', 'deeper');
    writeFileSync(`${directory}/big`, 'x'.repeat(400_000));
    await arrives('big', 'x'.repeat(400_000));
    renameSync(`${directory}/big`, `${directory}/new/bigger`);
    await arrives('new/bigger', 'x'.repeat(400_000));
    await goes('big');
    renameSync(`${directory}/new`, `${directory}/renamed`);
    await arrives('renamed/deep/file', 'deeper');
    await goes('new');
    await bed.isSettled();
    writeFileSync(`${directory}/renamed/deep/file`, 'deepest');
    await arrives('renamed/deep/file', 'deepest');
    rmSync(`${directory}/renamed`, { recursive: true });
    rmSync(`${directory}/file`);
    await goes('renamed');
    await goes('file');
    expect(bed.source.lines.filter((line) => /^\[ERROR.*inotifywait/.test(line))).toEqual([]);
  }

  test.each(METHODS)('is followed at each of them: %s', async (...given) => {
    const [, RSYNC_OPTS] = given;
    await using bed = await inNamespace(
      'twice',
      (its) => {
        its.write('volume/before', '');
        for (const place of ['a', 'b', 'c/d']) its.mount(its.host('volume'), place);
      },
      { RSYNC_OPTS },
    );
    await bed.isSettled();
    await work(bed, bed.host('volume'), ['a', 'b', 'c/d']);
  });

  test('is followed where it is one of the source itself, or holds what is mounted elsewhere', async () => {
    await using bed = await inNamespace('nested', (its) => {
      mkdirSync(its.of('real'));
      its.mount(its.of('real'), 'view');
      its.write('parent/child/before', '');
      its.mount(its.host('parent'), 'parent');
      its.mount(its.host('parent/child'), 'child');
    });
    await bed.isSettled();
    await work(bed, bed.of('real'), ['real', 'view']);
    await work(bed, bed.host('parent/child'), ['parent/child', 'child']);
    writeFileSync(bed.host('parent/file'), 'alone');
    await bed.arrives('parent/file', 'alone');
    expect(readdirSync(bed.copy('child'))).toEqual(['before']);
  });

  test('is followed where it was mounted later, and where one of the places is gone', async () => {
    await using bed = await inNamespace('later-twice', (its) => {
      its.write('volume/before', '');
      its.mount(its.host('volume'), 'a');
    });
    bed.mount(bed.host('volume'), 'b');
    await eventually(() => existsSync(bed.copy('b/before')));
    await bed.isSettled();
    await work(bed, bed.host('volume'), ['a', 'b']);
    bed.namespace.run('until umount "$1"; do sleep 0.05; done', bed.of('b'));
    await bed.source.shows('挂载点 b 不见了');
    writeFileSync(bed.host('volume/after'), 'one');
    await bed.arrives('a/after', 'one');
    await bed.isSettled();
    writeFileSync(bed.host('volume/after'), 'two');
    await bed.arrives('a/after', 'two');
    expect(existsSync(bed.copy('b/after'))).toBe(false);
  });

  test('is followed through random work', async () => {
    const seed = Number(process.env.MODEL_SEED ?? Math.floor(Math.random() * 1e6));
    const settings = { SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0', RSYNC_OPTS: '-avz --delete' };
    const bed = await inNamespace(
      'random',
      (its) => {
        for (const directory of ['outside', 'parent/child']) mkdirSync(its.host(directory), { recursive: true });
        its.mount(its.host('parent'), 'parent');
        for (const place of ['a', 'b']) its.mount(its.host('parent/child'), place);
      },
      settings,
    );
    await using _ = bed;
    const model = new Model(seed, bed.host('parent/child'), bed.host('outside'));
    const agrees = (place: string) => {
      const [source, backup, scratch] = [bed.host('parent/child'), bed.copy(place), bed.pair.path('expected')];
      const label = `MODEL_SEED=${seed}, ${place}\n`;
      return model.isMirrored({ source, backup, scratch }, settings.RSYNC_OPTS, () => label + bed.source.output);
    };
    const end = performance.now() + Number(process.env.MODEL_SECONDS ?? 10) * 1000;
    while (performance.now() < end) {
      await model.work(1000);
      for (const place of ['parent/child', 'a', 'b']) await agrees(place);
    }
  });

  test('is followed where it is a file', async () => {
    await using bed = await inNamespace('file-twice', (its) => {
      writeFileSync(its.of('real'), 'first');
      its.mount(its.of('real'), 'view');
      its.write('file', 'first');
      for (const place of ['one', 'two']) its.mount(its.host('file'), place);
    });
    await bed.isSettled();
    writeFileSync(bed.of('real'), 'second');
    writeFileSync(bed.host('file'), 'second');
    for (const place of ['real', 'view', 'one', 'two']) await bed.arrives(place, 'second');
  });
});
