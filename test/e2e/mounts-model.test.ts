/**
 * Random work on a source while file systems in it come and go, a link in its path is flipped, and the backup is restarted,
 * killed and emptied: nothing goes from the backup because of what is missing, and in the end both trees are equal.
 *
 * MODEL_SEED repeats the choices of a run; MODEL_SECONDS is the time of work. All of it runs in a mount namespace of its own,
 * in a process that this test starts: who works in a tree must see what is mounted there.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountsBelow, parseMountinfo } from '../../src/service/mounts.ts';
import { Model, Random, SHOWN_BY_STATUS } from '../model.ts';
import { mayHaveNamespace } from '../namespace.ts';
import { Pair } from '../pair.ts';
import { cleanEnv, content, eventually, Program } from '../processes.ts';
import { ROOT } from '../project.ts';
import { bytes, namesIn, shown } from '../tree.ts';

const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
const seconds = Number(process.env.MODEL_SECONDS ?? 25);
const isInside = process.env.MODEL_NAMESPACE === 'its own';

setDefaultTimeout(seconds * 1000 + 300_000);

const latin1 = (text: string) => Buffer.from(text).toString('latin1');

/** Where the volumes are mounted, below the source: one of them in another one, one in a directory that may be renamed. */
const PLACES = ['disk', 'disk/inner', latin1('outer/a b[x]\\à')];
/** Which volume is mounted at a place: each keeps its name, wherever its directory has been renamed to. */
const volumeOf = (path: string) => PLACES.findIndex((place) => nameOf(place) === nameOf(path));
const nameOf = (path: string) => path.slice(path.lastIndexOf('/') + 1);
/** Options under which a batch is sent as a list, by rules, and by comparing everything. */
const OPTIONS = ['-avz --delete', '-av --delete -F', '-av --delete --checksum-seed=1'];
/** How long the work between two other things is, ms. */
const SLICES = [5, 50, 200, 500, 1000];

/** Calls a program with paths that are bytes in latin1 strings; returns whether it went well. */
function call(command: string, ...paths: string[]): boolean {
  const input = bytes(paths.map((path) => `${path}\0`).join(''));
  return spawnSync('xargs', ['-0', ...command.split(' ')], { input }).status === 0;
}

function statusOf(path: string) {
  try {
    return lstatSync(bytes(path));
  } catch {
    return undefined; // nothing is there, or something above it is no directory
  }
}

const typeOf = (path: string) => {
  const found = statusOf(path);
  if (!found) return undefined;
  return found.isDirectory() ? 'directory' : found.isSymbolicLink() ? 'link' : 'file';
};

/** What lies below a directory, with its type, but for what lies in directories that are left out. */
function contentOf(root: string, without: string[]): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (path: string) => {
    for (const name of namesIn(path)) {
      const below = `${path}/${name}`;
      if (without.includes(below)) continue;
      const type = typeOf(below);
      if (type) found.set(below.slice(root.length + 1), type);
      if (type === 'directory') visit(below);
    }
  };
  visit(root);
  return found;
}

/** The path that the status shows like this. */
const pathOf = (text: string) =>
  latin1(text).replace(/\\(x([0-9a-f]{2})|.)/g, (_, sign: string, hex?: string) =>
    hex ? String.fromCharCode(Number.parseInt(hex, 16)) : ({ n: '\n', r: '\r', t: '\t' }[sign] ?? sign),
  );

class Trial {
  readonly random = new Random(seed);
  readonly options = this.random.pick(OPTIONS);
  readonly env: Record<string, string>;
  readonly model: Model;
  /** What was done when, for those who look for the reason of a failure. */
  private readonly done: string[] = [];
  readonly counts: Record<string, number> = {};
  /** What must stay on the backup: below each mount that is missing, by its place, paths with their types. */
  private readonly kept = new Map<string, Map<string, string>>();
  /** Where each volume was seen last. */
  private readonly places = new Map(PLACES.map((place, volume) => [volume, place]));
  private violation: string | undefined;
  looks = 0;
  keptMost = 0;
  private source: Program | undefined;
  private backup: Program | undefined;

  constructor(readonly pair: Pair) {
    this.env = {
      RSYNC_OPTS: this.options,
      SYNC_INTERVAL: this.random.pick(['0', '0', '0.3']),
      FULL_SYNC_INTERVAL: this.random.pick(['0', '2']),
      MAX_DELETE: 'off',
      SOURCE_DIR: `${pair.path('current')}/`,
    };
    for (const name of ['one', 'two', 'outside', 'volumes']) mkdirSync(pair.path(name));
    this.point('one');
    this.model = new Model(this.random.below(2 ** 31), pair.path('current'), pair.path('outside'));
    for (const volume of PLACES.keys()) {
      mkdirSync(this.volume(volume));
      if (volume !== 2) call('mount -t tmpfs -o size=64m tmpfs', latin1(this.volume(volume)));
      writeFileSync(`${this.volume(volume)}/first`, `${volume}`);
    }
  }

  private volume(number: number): string {
    return this.pair.path('volumes', String(number));
  }

  private get release(): string {
    return readlinkSync(this.pair.path('current'));
  }

  private get root(): string {
    return latin1(this.pair.path(this.release));
  }

  private readonly inBackup = (path: string) => `${latin1(this.pair.path('backup'))}/${path}`;

  // ── What is mounted ──

  /** The paths of what is mounted below the source, with what tells which volume it is. */
  private mounted(root = this.root): Map<string, string> {
    const mounts = mountsBelow(parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')), root);
    return new Map(mounts.map(({ path, device, root: part }) => [path.slice(root.length + 1), `${device} ${part}`]));
  }

  /** Notes where the volumes are by now: their places may have been renamed. */
  private findPlaces(): boolean {
    const stat = parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1'));
    let haveMoved = false;
    for (const [volume, place] of this.places) {
      const own = latin1(this.volume(volume));
      const { device, root: part } = stat.findLast(({ path }) => path === own) ?? {};
      const is = device ? `${device} ${part}` : undefined;
      for (const [path, what] of this.mounted()) {
        const isIt = is ? what === is : what.endsWith(own.slice(own.indexOf('/.rsync')));
        if (!isIt || path === place) continue;
        this.places.set(volume, path);
        haveMoved = true;
      }
    }
    return haveMoved;
  }

  /** Does something by which mounts may come or go, and takes in what must stay of those that have gone. */
  private change(what: string, act: () => void): void {
    this.note(what);
    const before = this.mounted();
    const root = this.root;
    const held = new Map(
      [...before.keys()].map((path) => {
        const inner = [...before.keys()].filter((it) => it !== path).map((it) => `${root}/${it}`);
        return [path, contentOf(`${root}/${path}`, inner)];
      }),
    );
    act();
    const now = this.mounted();
    const gone = [...held].filter(([path]) => !now.has(path));
    const isThere = (path: string) => (entry: [string, string]) =>
      typeOf(this.inBackup(`${path}/${entry[0]}`)) === entry[1];
    for (const [path, entries] of gone) {
      const there = [...entries].filter(isThere(path));
      this.kept.set(path, new Map(there));
      this.note(`  gone: ${shown(path)}, of which ${there.length} must stay`);
    }
    for (const path of now.keys()) this.kept.delete(path);
    this.keptMost = Math.max(this.keptMost, ...[...this.kept.values()].map(({ size }) => size));
  }

  /** Looks whether all is there that must stay. */
  look(): void {
    this.looks++;
    for (const [place, entries] of this.kept)
      for (const [below, type] of entries) {
        const found = typeOf(this.inBackup(`${place}/${below}`));
        if (found !== type) this.violation ??= `${shown(`${place}/${below}`)} is ${found}, not a ${type}`;
      }
    if (this.violation) this.fail(`something was lost while its mount was missing: ${this.violation}`);
  }

  /** Makes a directory at a place, whatever may be in its way. */
  private clear(path: string): void {
    const parts = path.split('/');
    for (let n = 1; n <= parts.length; n++) {
      const above = `${this.root}/${parts.slice(0, n).join('/')}`;
      if (typeOf(above) !== 'directory') call('rm -f', above);
      if (!typeOf(above)) mkdirSync(bytes(above));
    }
  }

  private mount(volume: number, place = this.places.get(volume) ?? ''): void {
    if (this.mounted().has(place)) return;
    this.change(`mount ${volume} at ${shown(place)}`, () => {
      this.clear(place);
      if (!call('mount --bind', latin1(this.volume(volume)), `${this.root}/${place}`)) this.fail('mount');
    });
  }

  private unmount(path: string, isLazy: boolean): void {
    const act = () => {
      const isDone = call(isLazy ? 'umount --lazy' : 'umount', `${this.root}/${path}`);
      this.note(isDone ? '  done' : '  busy');
    };
    this.change(`umount ${isLazy ? '--lazy ' : ''}${shown(path)}`, act);
  }

  private mountAll(): void {
    for (const volume of this.places.keys()) this.mount(volume);
  }

  private unmountAny(isLazy: boolean): void {
    const mounted = [...this.mounted().keys()];
    if (mounted.length > 0) this.unmount(this.random.pick(mounted), isLazy);
  }

  private point(release: string): void {
    symlinkSync(release, this.pair.path('next'));
    renameSync(this.pair.path('next'), this.pair.path('current'));
  }

  // ── What happens ──

  private readonly happenings: Record<string, () => void | Promise<void>> = {
    mount: () => this.mount(this.random.pick([...this.places.keys()])),
    mountAll: () => this.mountAll(),
    unmount: () => this.unmountAny(false),
    unmountLazily: () => this.unmountAny(true),
    blink: async () => {
      const volume = this.random.pick([...this.places.keys()]);
      const place = this.places.get(volume) ?? '';
      if (!this.mounted().has(place)) return;
      if (this.random.chance(0.5)) this.unmount(place, false);
      else this.note(call('umount --lazy', `${this.root}/${place}`) ? `blink ${shown(place)}` : 'busy');
      await sleep(this.random.pick([0, 0, 20, 200, 1500]));
      this.look();
      this.mount(volume);
    },
    stranger: async () => {
      const place = this.random.pick([...this.places.values()]);
      if (this.mounted().has(place) || place.startsWith('disk/')) return;
      this.note(`an empty file system at ${shown(place)}`);
      this.clear(place);
      call('mount -t tmpfs tmpfs', `${this.root}/${place}`);
      await sleep(this.random.pick([0, 300, 1500]));
      this.look();
      call('umount --lazy', `${this.root}/${place}`);
    },
    flip: () => {
      const to = this.release === 'one' ? 'two' : 'one';
      if (namesIn(latin1(this.pair.path(to))).length === 0) writeFileSync(this.pair.path(to, 'a'), '');
      this.change(`flip to ${to}`, () => this.point(to));
    },
    flipAndBack: async () => {
      const { release } = this;
      this.change('flip to nowhere', () => this.point(this.random.pick(['nowhere', 'empty'])));
      await sleep(this.random.pick([0, 300, 1500]));
      this.look();
      this.change('flip back', () => this.point(release));
    },
    restartBackup: async () => {
      await this.stopBackup('SIGTERM');
      await sleep(this.random.pick([0, 500]));
      this.startBackup();
    },
    killBackup: async () => {
      await this.stopBackup('SIGKILL');
      this.startBackup();
    },
    emptyBackup: async () => {
      await this.stopBackup('SIGTERM');
      this.note('empty the backup');
      this.kept.clear();
      for (const name of namesIn(this.inBackup('.')).filter((it) => it !== '.history'))
        call('rm -rf', this.inBackup(name));
      this.startBackup();
    },
    restartSource: async () => {
      this.note('restart the source');
      expect(await this.source?.stop()).toBe(0);
      await this.startSource();
    },
    wait: () => sleep(this.random.pick([500, 2000])),
  };

  /** All of this, what is quick more often than what takes long. */
  private static readonly OFTEN = [
    ...['mount', 'mountAll', 'mountAll', 'unmount', 'unmountLazily', 'blink', 'blink', 'stranger', 'flip', 'wait'],
    ...['mount', 'unmount', 'unmountLazily', 'flip', 'flipAndBack', 'restartBackup', 'killBackup', 'emptyBackup'],
    ...['restartSource', 'mountAll'],
  ];

  startBackup(): void {
    this.backup = this.pair.start('start-sshd');
  }

  private async stopBackup(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.note(`${signal} for the backup`);
    await this.backup?.stop(signal);
  }

  async startSource(): Promise<void> {
    this.source = this.pair.start('rsync-inotify', this.env);
    await this.source.shows('✓ 服务运行中', 0, 60_000);
  }

  /** Fills both releases, and mounts all in one. */
  async begin(): Promise<void> {
    mkdirSync(this.pair.path('empty'));
    for (const release of ['two', 'one']) {
      this.point(release);
      await this.model.work(50);
    }
    this.mountAll();
    await this.model.work(200);
    this.startBackup();
    await this.startSource();
  }

  /** Works, and has other things happen in between. */
  async work(): Promise<void> {
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      await this.model.work(this.random.pick(SLICES), SHOWN_BY_STATUS); // what is missing for a while is compared as rsync does
      this.look();
      if (this.findPlaces()) await sleep(1500); // so that nobody takes it for another one
      await this.happen(this.random.pick(Trial.OFTEN));
      this.look();
      if (!this.source?.running) this.fail('the source has ended');
    }
  }

  private async happen(name: string): Promise<void> {
    await this.happenings[name]?.();
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  /** Has all of it mounted, also where it may have been missed, and waits until both trees are equal. */
  async end(): Promise<void> {
    if (this.release !== 'one') this.change('flip to one', () => this.point('one'));
    this.mountAll();
    if (!this.backup?.running) this.startBackup();
    await eventually(async () => {
      const status = JSON.parse(content(this.pair.path('source-status.json')) || '{}');
      const missing: string[] = (status.mounts ?? []).map(({ path }: { path: string }) => path);
      for (const path of missing.map(pathOf)) this.mount(volumeOf(path), path);
      const isWell = missing.length === 0 && (status.problems ?? []).length === 0 && status.phase === 'mirroring';
      if (!isWell) await sleep(300);
      return isWell;
    }, 60_000).catch((cause) => this.fail(`${cause}\n${content(this.pair.path('source-status.json'))}`));
    const places = {
      source: this.pair.path('one'),
      backup: this.pair.path('backup'),
      scratch: this.pair.path('expected'),
    };
    await this.model
      .isMirrored(places, this.options, () => this.source?.output ?? '')
      .catch((cause) => this.fail(cause.message));
    await sleep(1500);
    await this.model.isMirrored(places, this.options, () => this.source?.output ?? '');
  }

  private note(what: string): void {
    this.done.push(`${new Date().toISOString().slice(11, 23)} ${what}`);
  }

  private fail(why: string): never {
    const said = this.source?.output.split('\n').filter((line) => /^(\[(?!INFO)|rsync|deleting)/.test(line));
    const last = this.source?.running ? '' : this.source?.output.slice(-2000);
    throw new Error([why, ...this.done.slice(-30), ...(said ?? []).slice(-60), last].join('\n'));
  }

  /** Lets go of all that is mounted. */
  [Symbol.dispose](): void {
    for (const { path } of parseMountinfo(readFileSync('/proc/self/mountinfo', 'latin1')).reverse())
      if (path.startsWith(latin1(this.pair.directory))) call('umount --lazy', path);
  }
}

describe.if(isInside)('in a namespace of its own', () => {
  test('random work is mirrored, and nothing is lost with what is missing', async () => {
    await using pair = await Pair.withKeys('mounts-model');
    using trial = new Trial(pair);
    const label = `MODEL_SEED=${seed} ${JSON.stringify(trial.env)}`;
    try {
      await trial.begin();
      const looking = setInterval(() => {
        try {
          trial.look();
        } catch {} // it is thrown again where somebody waits for it
      }, 20);
      await trial.work().finally(() => clearInterval(looking));
      await trial.end();
    } catch (error) {
      throw new Error(`${label}, after ${trial.model.count} operations:\n${(error as Error).message}`);
    }
    expect(trial.looks).toBeGreaterThan(seconds);
    expect(trial.keptMost).toBeGreaterThan(0);
    console.log(`${label}: ${trial.model.count} operations, ${trial.looks} looks, ${JSON.stringify(trial.counts)}`);
  });
});

const isPossible = mayHaveNamespace();
if (!isInside && !isPossible) console.log('SKIPPED: random work with mounts (needs mount namespaces)');

describe.if(!isInside && isPossible)('random work with mounts that come and go', () => {
  test('is mirrored, and nothing is lost with what is missing', async () => {
    const words = ['--mount', '--propagation', 'private', process.execPath, 'test', import.meta.path];
    const env = { ...cleanEnv(), MODEL_NAMESPACE: 'its own', MODEL_SEED: `${seed}`, MODEL_SECONDS: `${seconds}` };
    const inner = new Program('unshare', words, { cwd: ROOT, env });
    const status = await inner.exited;
    const [told = ''] = /^MODEL_SEED=.*$/m.exec(inner.output) ?? [];
    console.log(told);
    expect({ status, output: status === 0 ? '' : inner.output }).toEqual({ status: 0, output: '' });
    expect(told).toContain('operations');
  });
});
