/**
 * The file systems that are mounted below the source, as far as they are known. One that has gone is no reason to delete its
 * copies: what lies in it stays on the backup until it is back, or somebody says that it went on purpose.
 *
 *   mounts.refresh();                // before anything may be deleted
 *   mounts.isHidden('photos/a.jpg'); // it lies in one that is missing
 *   mounts.rules('/');               // for rsync: --filter=P /photos/***, …
 */
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import { isDirectory, isWithin, withParents } from '../service/files.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import {
  isFile,
  isStill as isStillThere,
  type Mount,
  mountOf,
  mountsBelow,
  nameOfMount,
  parseMountinfo,
  readMountinfo,
} from '../service/mounts.ts';
import { touch } from '../service/status.ts';
import { decodePath, showPath, t } from '../service/text.ts';
import type { Memory, RememberedMount } from './memory.ts';
import { decide, examineMount, type Found, holdsAnything, isOther, type MountState } from './mount-states.ts';
import { hideRules, keepRules } from './scopes.ts';

/** After how many beats it is looked again whether a mount is empty. */
const LOOK_EVERY = 60;
/** How many mounts are remembered at most. */
const MAX_MOUNTS = 10_000;

const NOTHING_SEEN = { root: '', text: '' };

interface Known extends RememberedMount {
  state: MountState;
  /** What the kernel calls it while it is there. */
  id: string | undefined;
}

/** Emits `arrived` with the path of a mount that is there now, and `changed` when what is hidden or kept is other than before. */
export class Mounts extends EventEmitter {
  private readonly known = new Map<string, Known>();
  /** By what the kernel says it is known whether anything has changed: where the source really is, and the text. */
  private seen = NOTHING_SEEN;
  /** Nothing is known of any mount before the start, nor where they are not mirrored. */
  private phase: 'idle' | 'starting' | 'started' = 'idle';
  /** The looks at mounts that are under way. */
  private readonly checks = new Set<Promise<void>>();
  /** Where mounts were forgotten: what is there instead is mirrored, empty or not. */
  private accepted = new Set<string>();

  /**
   * @param realRoot where the source really is, as bytes in a latin1 string
   * @param examine looks at a mount, `isFilled` only into it; stand-ins serve tests
   */
  constructor(
    private readonly memory: Memory,
    private readonly realRoot: () => string,
    private readonly readKernel = readMountinfo,
    private readonly examine = examineMount,
    private readonly isFilled = holdsAnything,
    private readonly isStill = isStillThere,
  ) {
    super();
  }

  /** Finds out what is mounted at the start; resolves when it is known what each mount is. */
  async start(): Promise<void> {
    for (const mount of this.memory.data.mounts)
      this.known.set(mount.path, { ...mount, state: 'missing', id: undefined });
    this.phase = 'starting';
    await Promise.all(this.compareWithKernel());
    this.phase = 'started';
    for (const mount of this.known.values()) if (isWrong(mount)) this.tellMissing(mount);
    this.remember();
  }

  /** Asks the kernel what is mounted; cheap where nothing has changed. */
  refresh(): void {
    if (this.phase === 'idle') return;
    for (const checking of this.compareWithKernel()) {
      this.checks.add(checking);
      lifecycle.background(checking.finally(() => this.checks.delete(checking)));
    }
  }

  /** Resolves once it is known of all that is mounted now what it is, and told of what has arrived. */
  async meetAll(): Promise<void> {
    this.refresh();
    await Promise.all(this.checks);
  }

  /** Makes sure that what is mounted is what was looked at: all that the kernel says of it may be true of another one by now. */
  async verify(): Promise<void> {
    this.refresh();
    if (this.known.size === 0) return;
    for (const mount of this.known.values()) {
      const { identity, path, state } = mount;
      if (state !== 'mounted' || !identity || (await this.isStill(join(this.realRoot(), path), identity))) continue;
      mount.id = undefined;
      this.seen = NOTHING_SEEN;
    }
    this.refresh();
  }

  /** Follows what is mounted from now on. */
  async keep(): Promise<void> {
    for (let n = 1; !lifecycle.stopping; n++) {
      await lifecycle.nextBeat();
      await this.verify();
      await this.lookInside(n % LOOK_EVERY === 0);
    }
  }

  /** Whether a path lies in a mount that cannot be looked into. */
  isHidden(path: string): boolean {
    if (this.known.size === 0) return false;
    return withParents(path).some((above) => {
      const mount = this.known.get(above);
      return mount !== undefined && isInvisible(mount) && !(isFresh(mount) && path === above);
    });
  }

  /** Whether a path may lie in a mount whose copy stays, or hold one. */
  isKept(path: string): boolean {
    return this.kept.some((mount) => isWithin(path, mount.path) || path === '' || isWithin(mount.path, path));
  }

  /** The rules by which rsync leaves copies alone at this moment. @param prefix what stands before a path of the source where rsync starts */
  rules(prefix: string): string[] {
    this.refresh();
    const paths = (mounts: Known[]) => mounts.map(({ path }) => path);
    const [fresh, others] = [this.hidden.filter(isFresh), this.hidden.filter((mount) => !isFresh(mount))];
    const hidden = [...hideRules(paths(others), prefix), ...hideRules(paths(fresh), prefix, ['/**'])];
    return [...keepRules(paths(this.kept), prefix), ...hidden];
  }

  /** The paths of those that are there and mirrored. */
  get mounted(): string[] {
    return [...this.known.values()].filter(({ state }) => state === 'mounted').map(({ path }) => path);
  }

  /** The paths of those that are single files. */
  get files(): string[] {
    const isSingle = ({ identity, state }: Known) => state === 'mounted' && identity !== undefined && isFile(identity);
    return [...this.known.values()].filter(isSingle).map(({ path }) => path);
  }

  private get kept(): Known[] {
    return [...this.known.values()].filter(({ state }) => state !== 'mounted');
  }

  private get hidden(): Known[] {
    return [...this.known.values()].filter(isInvisible);
  }

  /** Forgets the mounts that are gone, and takes those that are other ones for what is to be mirrored; returns their paths. */
  forgetMissing(): string[] {
    const gone = [...this.known.values()].filter(isWrong);
    for (const mount of gone) this.known.delete(mount.path);
    if (gone.length === 0) return [];
    this.accepted = new Set(gone.map(({ path }) => path));
    this.seen = NOTHING_SEEN; // those that are there are met anew
    this.remember();
    this.tellChange();
    this.refresh();
    for (const { path } of gone)
      log('mount.forgotten', t`不再等待挂载点 ${showPath(path)}，随即全量同步`, { path: decodePath(path) });
    return gone.map(({ path }) => path);
  }

  /** Tells of those that are not as they should be. */
  report(): { path: string; state: MountState }[] {
    return [...this.known.values()].filter(isWrong).map(({ path, state }) => ({ path: showPath(path), state }));
  }

  /** Takes in what has changed since the last time; returns the looks at mounts that are under way. */
  private compareWithKernel(): Promise<void>[] {
    const [text, root] = [this.readKernel(), this.realRoot()];
    if (text === this.seen.text && root === this.seen.root) return [];
    this.seen = { root, text };
    const prefix = root === '/' ? '/' : `${root}/`;
    const all = parseMountinfo(text);
    const found = mountsBelow(all, root).filter(({ path }) => path !== root);
    const there = new Map(found.map((mount) => [mount.path.slice(prefix.length), mount]));
    this.followRenames(there);
    const before = this.signature;
    const isAutomatic = ({ path }: Known) => mountOf(all, prefix + path)?.type === 'autofs';
    for (const mount of this.known.values())
      if (!there.has(mount.path)) this.miss(mount, isAutomatic(mount) ? 'resting' : 'missing');
    const checks = [...there].flatMap(([path, mount]) => this.meet(path, mount));
    if (this.signature !== before) this.tellChange();
    return checks;
  }

  /** A mount whose directory was renamed is at another path. The kernel gives the number of one that has gone to the next one, too. */
  private followRenames(there: ReadonlyMap<string, Mount>): void {
    const byId = new Map([...there].map(([path, mount]) => [nameOfMount(mount), path]));
    const placeOf = ({ id, path }: Known) => (id === undefined ? path : (byId.get(id) ?? path));
    const isGone = ({ path }: Known) => !isDirectory(join(this.realRoot(), path));
    const moved = [...this.known.values()].filter((mount) => placeOf(mount) !== mount.path && isGone(mount));
    if (moved.length === 0) return;
    for (const { path } of moved) this.known.delete(path);
    for (const mount of moved) {
      mount.path = placeOf(mount);
      this.known.set(mount.path, mount);
    }
    this.remember();
  }

  /** Takes in a mount that is there; returns the look at it, if it is one that was not there before. */
  private meet(path: string, found: Mount): Promise<void>[] {
    const id = nameOfMount(found);
    const known = this.known.get(path);
    if (found.type === 'autofs') {
      if (known) this.miss(known, 'resting');
      return [];
    }
    if (known?.id === id) return [];
    if (!known && this.known.size >= MAX_MOUNTS) return [];
    const isNew = known === undefined;
    const mount = known ?? { path, identity: undefined, isFilled: false, isReplaced: false, state: 'checking', id };
    this.known.set(path, mount);
    const before = mount.state;
    Object.assign(mount, { state: 'checking', id });
    return [this.check(mount, id, isNew, before)];
  }

  /** Finds out what a mount is, unless it is gone again meanwhile. */
  private async check(mount: Known, id: string, isNew: boolean, before: MountState): Promise<void> {
    const { path } = mount;
    const found = await this.examine(join(this.realRoot(), path));
    if (mount.id !== id || this.known.get(mount.path) !== mount) return;
    if (mount.path !== path) return this.check(mount, id, isNew, before); // its place was renamed meanwhile
    const isAccepted = found.identity !== undefined && this.accepted.delete(path);
    mount.state = isAccepted ? 'mounted' : decide(mount, found);
    mount.isReplaced = mount.state === 'replaced';
    const isChanged = mount.state === 'mounted' && !isAccepted && isOther(mount, found);
    if (mount.state === 'mounted' || mount.state === 'fresh') {
      mount.isFilled = found.isFilled;
      if (mount.state === 'mounted') mount.identity = found.identity;
      if (isChanged) this.tellOther(mount);
      else if (this.phase === 'started') this.tellArrival(mount, isNew, before);
    } else if (this.phase === 'started') this.tellMissing(mount);
    if (this.phase === 'started') this.remember();
    this.tellChange();
    if (!this.isHidden(mount.path)) this.emit('arrived', mount.path);
  }

  private miss(mount: Known, state: 'missing' | 'resting'): void {
    mount.id = undefined;
    const isUnknown = mount.state === 'checking' && mount.identity === undefined && this.phase === 'started';
    if (isFresh(mount) || isUnknown) {
      this.known.delete(mount.path); // nothing was ever mirrored from it
      this.remember();
      return;
    }
    if (mount.state === state) return;
    mount.state = state;
    if (state === 'missing' && this.phase === 'started') this.tellMissing(mount);
  }

  /** Looks whether there is something in empty mounts now; and in all of them, for an empty one that goes takes nothing along. */
  private async lookInside(isThorough: boolean): Promise<void> {
    for (const mount of this.known.values()) {
      const { id, path, state } = mount;
      if (id === undefined || (mount.isFilled && !isThorough)) continue;
      if (state === 'missing' && isThorough) {
        await this.check(mount, id, false, state);
      } else if (state === 'mounted' || state === 'fresh') {
        const place = join(this.realRoot(), path);
        if ((await this.isFilled(place)) === mount.isFilled) continue;
        const found = await this.examine(place);
        const isSame = mount.id === id && mount.path === path;
        if (found.identity && isSame && found.isFilled !== mount.isFilled) this.noteContent(mount, found);
      }
    }
  }

  private noteContent(mount: Known, found: Found): void {
    mount.isFilled = found.isFilled;
    if (found.isFilled && mount.state === 'fresh') {
      Object.assign(mount, { state: 'mounted', identity: found.identity });
      this.tellChange();
      this.emit('arrived', mount.path); // what the backup may have there is compared now
    }
    this.remember();
  }

  private remember(): void {
    const lasting = [...this.known.values()].filter((mount) => !isFresh(mount));
    this.memory.data.mounts = lasting.map(({ path, identity, isFilled, isReplaced }) => {
      return { path, identity, isFilled, isReplaced };
    });
    this.memory.save();
  }

  /** What decides which rules rsync gets. */
  private get signature(): string {
    return JSON.stringify([...this.known.values()].map(({ path, state }) => [path, state]));
  }

  private tellChange(): void {
    touch();
    this.emit('changed');
  }

  private tellMissing({ path, state }: Known): void {
    const what =
      state === 'replaced'
        ? t`源目录下的挂载点 ${showPath(path)} 换成了另一个空的文件系统`
        : t`源目录下的挂载点 ${showPath(path)} 不见了：文件系统没有挂载，或没有应答`;
    const kept = t`为保护备份，其中原有的内容在目标上保持不变，其余照常同步`;
    const advice = t`请检查挂载，恢复后会自动继续；若是有意移除，请执行 rsync-inotify --accept-deletions`;
    error('mount.missing', t`${what}。${kept}。${advice}`, { path: decodePath(path), state });
  }

  private tellOther({ path }: Known): void {
    const what = t`源目录下的挂载点 ${showPath(path)} 换成了另一个文件系统，备份上原有的内容将被它的内容取代`;
    warn('mount.changed', what, { path: decodePath(path) });
  }

  private tellArrival({ path }: Known, isNew: boolean, before: MountState): void {
    if (before === 'resting') return; // it comes and goes on purpose
    const [name, fields] = [showPath(path), { path: decodePath(path) }];
    if (isNew) log('mount.added', t`源目录下有新的挂载点 ${name}，开始监控和同步其中的内容`, fields);
    else log('mount.restored', t`源目录下的挂载点 ${name} 已恢复，重新监控和同步其中的内容 ✓`, fields);
  }
}

const isInvisible = ({ state }: Known) => state !== 'mounted' && state !== 'replaced';
const isFresh = ({ state }: Known) => state === 'fresh';
const isWrong = ({ state }: Known) => state === 'missing' || state === 'replaced';
