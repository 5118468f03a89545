/**
 * Sees to it that sessions receive into the DEST_DIR of the start and into nothing else: a disk may be mounted over it, or
 * not be mounted where it was, and what is mirrored then is not where it is looked for.
 *
 *   const guard = new Guard({ config, doors, destination, sshd, reports });
 *   await guard.settle();
 *   await guard.watch();
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { identify, isSameDirectory, readMountinfo } from '../service/mounts.ts';
import { touch } from '../service/status.ts';
import { localTime, reasonOf, showPath, t } from '../service/text.ts';
import { isSamePlace, type Place } from './admission.ts';
import { Aftermath, type Doubts } from './aftermath.ts';
import type { Config } from './config.ts';
import { type Destination, placeAt, prepareDestination } from './destination.ts';
import type { Doors } from './doors.ts';
import { Entrance } from './entrance.ts';
import { hasHistory } from './history-door.ts';
import { HISTORY } from './history-names.ts';
import { type Home, moveIn } from './home.ts';
import { describeChange, mountsWithin, pathsMissing } from './inner-mounts.ts';
import { LinkWatch } from './links.ts';
import { latin1Of, MountMemory } from './mount-memory.ts';
import { PromotionMarks } from './promotion-marks.ts';
import type { Reports } from './reports.ts';
import type { Sshd } from './sshd.ts';
import { UnmountWatch } from './unmounts.ts';

/** After how many beats it is looked at again whether DEST_DIR is still the directory that it was. */
const LOOK_EVERY = 2;

/** How long the start waits for the files that may have been damaged to be found, ms; then it goes on, and nothing is received meanwhile. */
const EXAMINE_MS = 2000;

/** Why nothing is received: DEST_DIR is another directory, its disk is not mounted, it cannot be made, or damaged files are looked for. */
export type Trouble = 'replaced' | 'unmounted' | 'failed' | 'unexamined';

interface Parts {
  config: Config;
  doors: Pick<Doors, 'list'>;
  destination: Destination;
  sshd: Sshd;
  reports: Reports;
}

export class Guard {
  private trouble: Trouble | undefined;
  private home: Home | undefined;
  private readonly entrance: Entrance;
  /** What is mounted below DEST_DIR, and the text that this was found in. */
  private below: string[] = [];
  private mountinfo = '';
  /** The look that is under way: of a disk that hangs only one hangs with it. */
  private looking: Promise<void> | undefined;
  private readonly links = new LinkWatch(() => lifecycle.background(this.followLink()));
  private readonly unmounts = new UnmountWatch();
  private readonly memory: MountMemory;
  private readonly promotion: PromotionMarks;
  private aftermath: Aftermath | undefined;
  private readonly name: string;

  constructor(private readonly parts: Parts) {
    this.entrance = new Entrance(() => parts.sshd.sessionFiles.admission);
    this.memory = new MountMemory(parts.config);
    this.promotion = new PromotionMarks(parts.config, parts.doors);
    parts.reports.onLoose(() => this.aftermath?.loosen());
    this.name = `DEST_DIR=${parts.config.DEST_DIR}`;
  }

  /** Prepares DEST_DIR where its disk is mounted, and lets sessions in, or says why not. */
  async settle(): Promise<void> {
    const { config } = this.parts;
    const missing = await this.memory.findMissing();
    if (missing !== undefined) return this.tellUnmounted(missing);
    const root = await prepareDestination(config);
    const home = root === undefined ? undefined : await moveIn(config.DEST_DIR, latin1Of(root));
    if (!home) {
      this.bar('failed', t`${this.name} 无法使用。请检查备份端的 DEST_DIR 和权限`);
      return;
    }
    await this.remember(home);
    const examined = this.examine(home);
    lifecycle.background(examined);
    await Promise.race([examined, lifecycle.pause(EXAMINE_MS)]);
  }

  /** Lets sessions in once files that a power cut may have damaged are known to be in doubt; while others write there, it is not looked for any. */
  private async examine(home: Home): Promise<void> {
    this.home = home;
    this.unmounts.follow(home.root);
    this.bar('unexamined', t`${this.name} 正在核对上次是否正常停止；若没有，先查找断电时可能损坏的文件，然后接收`);
    this.aftermath = this.isPromoted ? undefined : new Aftermath(this.parts.config, home.root, this.findApart(home));
    const doubts = await this.aftermath?.settle();
    if (lifecycle.stopping) return;
    if (doubts) this.tellDoubts(doubts);
    this.open(home); // each session looks whether it is still the same directory
  }

  private get isPromoted(): boolean {
    return this.promotion.sinceOf(this.promotion.whole) !== undefined;
  }

  /** Finds what no source writes into: older versions, and the directories of sources in which others write. */
  private findApart({ root }: Home): string[] {
    const named = this.parts.doors.list().filter(({ name }) => name);
    return named.flatMap((door) => {
      if (this.promotion.sinceOf(door)) return join(root, door.name);
      return hasHistory(door.directory) ? join(root, door.name, HISTORY) : [];
    });
  }

  /** Ends what receives, and leaves DEST_DIR marked as clean; for the end of the program. */
  async leave(): Promise<void> {
    const { trouble, entrance, parts } = this;
    if (trouble || !entrance.isKnown) return;
    entrance.close(t`start-sshd 正在停止`);
    if (await parts.sshd.shutDown()) await this.aftermath?.leave().catch(() => {}); // or the next start looks closer
  }

  /** Leaves DEST_DIR marked as clean once nothing is received any more, for others to write there. */
  async rest(): Promise<void> {
    if (this.trouble) return;
    await this.aftermath?.leave().catch(() => {});
    this.aftermath = undefined;
  }

  /** Begins anew, as another start would, where others have written. */
  async renew(): Promise<void> {
    if (this.home && !this.trouble) await this.examine(this.home);
  }

  /** Has sources begin anew by themselves, as after another start: others have written into their directories. @throws {Failure} */
  async renewFor(names: readonly string[]): Promise<void> {
    this.entrance.renewFor(names);
  }

  private tellDoubts({ since, files, failed }: Doubts): void {
    const what = t`${this.name} 上次没有正常停止或卸载（例如断电），${localTime(since)} 之后写入的 ${files} 个文件可能内容不完整`;
    const done = t`${what}，已把它们的修改时间提前一天，由源端重新核对内容`;
    if (failed === 0) warn('destination.doubted', done, { files, failed });
    else
      warn('destination.doubted', t`${done}；其中 ${failed} 个无法修改，请检查权限，并在源端运行 --verify`, {
        files,
        failed,
      });
  }

  /** Looks at DEST_DIR and at what is mounted below it, as long as the program runs. */
  async watch(): Promise<void> {
    while (!lifecycle.stopping) {
      this.looking ??= this.look()
        .catch((cause) => lifecycle.fail(cause))
        .finally(() => {
          this.looking = undefined;
        });
      await Promise.race([this.looking, lifecycle.nextBeat(LOOK_EVERY)]);
      this.compareMounts();
      await this.restoreFiles();
      await lifecycle.nextBeat(LOOK_EVERY);
    }
  }

  /**
   * Lets in sessions of this key alone from now on, of those of a source, those of connections that there are among them.
   * @param key its fingerprint
   * @param name the name of the source, '' for one without
   * @throws {Failure}
   */
  admitKey(key: string, name = ''): void {
    this.entrance.admitKey(key, name);
  }

  /** Has nothing be received of a source, or again where no reason is given; returns whether that is news. @throws {Failure} */
  barSource = (name: string, reason: string): boolean => this.entrance.bar(name, reason);

  /** Tells why nothing is received. */
  report(): Trouble | null {
    return this.trouble ?? null;
  }

  /** Whether DEST_DIR is at this moment the directory that sessions are let into: it may have gone since it was looked at last. */
  async isAtHome(): Promise<boolean> {
    const place = this.trouble ? null : await placeAt(this.parts.config.DEST_DIR);
    return Boolean(place && this.home && isSamePlace(this.home.place, place));
  }

  // ── Which directory it is ──────────────────────────────────────────────────────────────────────

  private async look(): Promise<void> {
    const { destination } = this.parts;
    await destination.inspect();
    if (this.trouble === 'unmounted' || this.trouble === 'failed') return this.settleAgain();
    if (this.isHome()) return this.comeBack();
    await destination.inspect(); // the look before may have begun before DEST_DIR was made
    if (this.isHome()) return this.comeBack();
    const { place } = destination;
    if (place && (await this.isRemounted(place))) return;
    this.tellReplaced();
  }

  /** Ends sessions at once where DEST_DIR leads elsewhere by now: they would still go to where it has led. The next look tells it. */
  private async followLink(): Promise<void> {
    const place = await placeAt(this.parts.config.DEST_DIR);
    if (place && this.home && !isSamePlace(this.home.place, place)) this.parts.sshd.endSessions();
  }

  /** Whether the last look has found DEST_DIR as it was, or nothing that says otherwise. */
  private isHome(): boolean {
    const { place } = this.parts.destination;
    return place === undefined || (place !== null && this.home !== undefined && isSamePlace(this.home.place, place));
  }

  /** Lets sessions in again where DEST_DIR is back, or its file system, which may have been replaced by another image of it. */
  private async comeBack(): Promise<void> {
    const { home, trouble, parts } = this;
    const isRemounted = !trouble && this.unmounts.hasHappened();
    if (!home || !parts.destination.place || !(isRemounted || trouble === 'replaced')) return;
    await this.examine(home);
    if (isRemounted) warn('destination.remounted', t`${this.name} 的文件系统曾被卸载又重新挂载，已由源端重新比较`);
    else log('destination.restored', t`${this.name} 又是启动时的目录，恢复接收镜像 ✓`);
  }

  /** Goes on with DEST_DIR where its file system has been mounted anew, under another number of its device. */
  private async isRemounted(place: Place): Promise<boolean> {
    const { home, parts } = this;
    if (!home?.identity || !isSamePlace({ ...home.place, device: place.device }, place)) return false;
    const identity = await identify(latin1Of(parts.config.DEST_DIR)).catch(() => undefined);
    if (!identity || !isSameDirectory(home.identity, identity)) return false;
    this.home = { ...home, place: { ...home.place, device: place.device } };
    if (this.trouble) await this.comeBack();
    else await this.examine(this.home); // of a disk that was away nobody knows how it has ended
    return true;
  }

  private tellReplaced(): void {
    const { home } = this;
    if (!home || this.trouble) return;
    const sessions = this.bar('replaced', this.reasonToRefuse(home));
    error('destination.replaced', t`${this.reasonToRefuse(home)}。在此之前拒绝接收镜像`, { sessions });
  }

  /** Says why a session may not use any other directory than this one. */
  private reasonToRefuse({ mount, place }: Home): string {
    const on = mount ? t`挂载点 ${showPath(mount.path)}（${mount.type}），` : '';
    const made =
      place.birth === '0' ? '' : t`，创建于 ${localTime(new Date(Number(BigInt(place.birth) / 1_000_000n)))}`;
    const was = t`启动时: ${on}inode ${place.inode || '–'}${made}`;
    return t`${this.name} 已不是启动时的目录（${was}）。请检查挂载；若是有意更换，请重启 start-sshd`;
  }

  // ── Which file system it is on ─────────────────────────────────────────────────────────────────

  private tellUnmounted(mount: string): void {
    const what = t`${this.name} 所在的磁盘没有挂载：此前位于挂载点 ${showPath(mount)}，现在那里没有挂载任何文件系统`;
    const reason = t`${what}。请挂载，服务随即恢复，否则请重启它；若已不再使用该挂载点，请删除 ${this.memory.file}`;
    if (this.trouble === 'unmounted') return;
    this.bar('unmounted', reason);
    error('destination.unmounted', reason, { mount: showPath(mount) });
  }

  /** Tries whether DEST_DIR can be used by now. */
  private async settleAgain(): Promise<void> {
    if (this.trouble === 'failed' && !(await this.canPrepare())) return;
    await this.settle();
    if (!this.trouble) log('destination.restored', t`${this.name} 可以使用了，开始接收镜像 ✓`);
  }

  private async canPrepare(): Promise<boolean> {
    if ((await this.memory.findMissing()) !== undefined) return true;
    const { DEST_DIR } = this.parts.config;
    return mkdir(DEST_DIR, { recursive: true }).then(
      () => true,
      () => false,
    );
  }

  /** Remembers where DEST_DIR is mounted, and warns where that is another file system than before. */
  private async remember({ mount }: Home): Promise<void> {
    if (!mount || mount.type === 'autofs') return;
    try {
      const former = this.memory.remember(mount.path, await identify(mount.path));
      if (!former) return;
      const places = t`上次: 挂载点 ${showPath(former.mount)}；现在: 挂载点 ${showPath(mount.path)}`;
      warn('destination.changed', t`${this.name} 所在的文件系统与上次启动时不同（${places}）。源端会比较全部文件`);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EROFS') return; // of a container, whose mounts come before it starts
      const advice = t`请检查 HOST_KEY_DIR 的权限和磁盘空间`;
      warn('destination.unremembered', t`无法写入 ${this.memory.file}：${reasonOf(cause)}。${advice}`);
    }
  }

  // ── What is mounted below it ───────────────────────────────────────────────────────────────────

  /** Has the source begin anew where something is mounted below DEST_DIR, or unmounted: rsyncs that wait look at what was there. */
  private compareMounts(): void {
    const text = readMountinfo();
    if (this.trouble || !this.home || text === this.mountinfo) return;
    if (text !== readMountinfo()) return; // it is changing
    this.mountinfo = text;
    const below = mountsWithin(text, this.home.root);
    const [added, removed] = [pathsMissing(below, this.below), pathsMissing(this.below, below)];
    if (added.length + removed.length === 0) return;
    const sessions = this.open(this.home);
    const what = t`${this.name} 之内的挂载有变化（${describeChange(added, removed)}）`;
    warn('destination.mounts_changed', t`${what}，已断开源端，由它重新比较`, { added, removed, sessions });
  }

  // ── Sessions ───────────────────────────────────────────────────────────────────────────────────

  /** Lets sessions in, those of another start than before; ends the others and returns how many there were. */
  private open(home: Home): number {
    this.trouble = undefined;
    this.home = home;
    this.mountinfo = readMountinfo();
    this.below = mountsWithin(this.mountinfo, home.root);
    this.parts.reports.renewBar();
    this.links.follow(this.parts.config.DEST_DIR);
    return this.begin(home.place, this.reasonToRefuse(home));
  }

  /** Lets no session in; ends those that there are and returns how many. */
  private bar(trouble: Trouble, reason: string): number {
    this.trouble = trouble;
    return this.begin(null, reason);
  }

  private begin(place: Place | null, reason: string): number {
    this.entrance.begin(place, reason);
    touch();
    return this.parts.sshd.endSessions();
  }

  /** Writes anew what sessions go by where somebody has removed it, as cleaners of /tmp do; without it nothing would be received. */
  private async restoreFiles(): Promise<void> {
    const { sshd, reports } = this.parts;
    const { admission, reports: socket } = sshd.sessionFiles;
    if (!this.entrance.isKnown || (existsSync(admission) && !reports.isRemoved)) return;
    sshd.restoreDirectory();
    this.entrance.write();
    if (reports.isRemoved) await reports.listen(socket);
    warn('sshd.files_restored', t`${dirname(admission)} 中的文件被删除，例如被清理临时文件的程序，已重新写入`);
  }
}
