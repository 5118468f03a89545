/**
 * The keys of all sources: one without a name, or those of sources that have one, each for the door of its own.
 *
 *   const keys = new SourceKeys({ config, doors, guard, sshd });
 *   keys.restrictFormer();
 *   await keys.adopt(); // authorises what is new on the shared volume, and ends the sessions of what it replaces
 *   await keys.keep();
 */
import { lifecycle } from '../service/lifecycle.ts';
import { error, log, warn } from '../service/log.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { bodyOf, formerNames, readSharedKey, SharedKey, sourcesDirectory } from './authorized-keys.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { Claimants } from './claimants.ts';
import type { Config } from './config.ts';
import { DoorMounts } from './door-mounts.ts';
import { DoorRooms } from './door-rooms.ts';
import { about, type Door, type Doors, fieldsOf, MAX_DOORS } from './doors.ts';
import type { Guard } from './guard.ts';
import { KeySessions } from './key-sessions.ts';
import { PromotionMarks } from './promotion-marks.ts';
import { type Published, PublishedSources } from './published-sources.ts';
import type { Sshd } from './sshd.ts';

/** How soon authorized_keys is looked at once more where it is in doubt, ms. */
const DOUBT_MS = 200;
/** How many files of keys that are refused are told an hour. */
const MAX_TOLD = 50;

interface Parts {
  config: Config;
  doors: Doors;
  guard: Pick<Guard, 'admitKey' | 'report' | 'isAtHome' | 'barSource'>;
  sshd: Pick<Sshd, 'endSessions' | 'endSessionsOf'>;
}

/** The key of one source, and the sessions of it. */
interface Entry {
  key: SharedKey;
  sessions: KeySessions;
}

export class SourceKeys {
  private readonly entries = new Map<string, Entry>();
  private readonly marks: PromotionMarks;
  private readonly published: PublishedSources;
  private readonly rooms: DoorRooms;
  private readonly claimants = new Claimants();
  private readonly ceiling = new Ceiling(t`未生效的源端公钥`, MAX_TOLD);
  /** What was told of files that hold no key of a source, and when a key was found for two names, which is no mistake while one is renamed. */
  private complaints = new Set<string>();
  private readonly twofold = new Map<string, string>();
  private unremembered = '';
  /** What was told last of the directory of each door. */
  private readonly roomless = new Map<string, string>();

  constructor(private readonly parts: Parts) {
    const { config, doors, guard } = parts;
    this.marks = new PromotionMarks(config, doors);
    this.published = new PublishedSources(sourcesDirectory(config));
    const restart = (door: Door) => this.entry(door.name).sessions.restart(door.directory);
    this.rooms = new DoorRooms(guard, new DoorMounts(config), restart);
    for (const { name } of doors.list()) this.entry(name);
  }

  private entry(name: string): Entry {
    const known = this.entries.get(name);
    if (known) return known;
    const { config, guard, sshd } = this.parts;
    const key = new SharedKey(config, name);
    const sessions = new KeySessions({
      ...{ key, name },
      guard: { admitKey: (fingerprint) => guard.admitKey(fingerprint, name) },
      sshd: { endSessions: (fingerprint) => (name ? sshd.endSessionsOf(fingerprint) : sshd.endSessions()) },
    });
    const fresh = { key, sessions };
    this.entries.set(name, fresh);
    return fresh;
  }

  // ── What others ask ────────────────────────────────────────────────────────────────────────────

  /** Whether any key can log in that is on the shared volume. */
  get isInForce(): boolean {
    return [...this.entries.values()].some(({ key }) => key.isInForce);
  }

  /** Whether the shared volume answers. */
  async answers(): Promise<boolean> {
    return (await this.entry('').key.answers()) && (await this.published.answers());
  }

  /** Tells the fingerprint of the key of a source, of the first one where none is named; null where there is none. */
  report(name?: string): string | null {
    if (name !== undefined) return this.entries.get(name)?.key.report() ?? null;
    for (const { key } of this.entries.values()) if (key.isInForce) return key.report();
    return null;
  }

  /** Tells the fingerprint of the key by which a source can log in, '' where there is none. */
  fingerprintOf(name: string): string {
    return this.entries.get(name)?.key.fingerprint ?? '';
  }

  /** Tells the names of sources by the fingerprints of their keys; of one without a name there is nothing to tell. */
  names(): ReadonlyMap<string, string> {
    const named = this.parts.doors.areNamed ? [...this.entries.values()].filter(({ key }) => key.name) : [];
    return new Map(named.flatMap(({ key }) => (key.fingerprint ? [[key.fingerprint, key.name]] : [])));
  }

  /** Gives the keys that can log in what they are given now. @throws {Failure} */
  restrict(): void {
    for (const { key } of this.entries.values()) key.restrict();
  }

  // ── What earlier starts have left ──────────────────────────────────────────────────────────────

  /** Gives the keys of an earlier start no more than this start does, and none to those that must not stand beside others. @throws */
  restrictFormer(): void {
    const { config, doors } = this.parts;
    const names = formerNames(config);
    const areNamed = doors.areNamed || (!doors.isNameless && !names.includes(''));
    const kept = names.filter((name) => areNamed === (name !== '')).slice(0, MAX_DOORS);
    for (const name of kept) this.remember(name);
    for (const name of names)
      if (doors.find(name)) this.entry(name).key.restrictFormer();
      else new SharedKey(config, name).withdraw();
    if (doors.areNamed) this.entry('').sessions.close();
  }

  /** Adds a door; where it cannot be remembered over restarts, that is told once, but not of host keys that an operator has handed out. */
  private remember(name: string): void {
    try {
      this.parts.doors.add(name);
      this.unremembered = '';
    } catch (cause) {
      const reason = reasonOf(cause);
      const isReadOnly = (cause as NodeJS.ErrnoException).code === 'EROFS';
      if (name && !isReadOnly && reason !== this.unremembered)
        warn('key.unremembered', t`无法记下源端的名称：${reason}。请检查 HOST_KEY_DIR 的权限和磁盘空间`);
      this.unremembered = reason;
    }
  }

  // ── What is on the shared volume ───────────────────────────────────────────────────────────────

  /** Authorises keys that are new; what is refused, told once, changes nothing. */
  async adopt(): Promise<void> {
    const found = this.published.read();
    this.tellFaults(found);
    await this.adoptNameless(found);
    for (const [name, content] of await this.inTurn(found)) await this.adoptNamed(name, content, found);
    for (const [name, { sessions }] of this.entries)
      if (this.parts.doors.find(name)) sessions.follow();
      else if (name && !found.contents.has(name)) this.entries.delete(name); // it was refused, and is gone
    if (this.parts.doors.areNamed) await this.tend(found);
    this.claimants.tell(found.claims, (name) => this.fingerprintOf(name));
  }

  private async adoptNameless(found: Published): Promise<void> {
    const { key, sessions } = this.entry('');
    try {
      const content = readSharedKey(this.parts.config);
      const isNamed = [...found.contents.values()].some((other) => bodyOf(other) === bodyOf(content));
      if (content && !isNamed && (await this.mayBeNameless(found))) this.authorize(key, content);
      if (!content || !isNamed) key.noteComplaint('');
    } catch (cause) {
      this.complain(key, reasonOf(cause));
    }
    if (!this.parts.doors.areNamed) sessions.follow();
  }

  private async adoptNamed(name: string, content: string, found: Published): Promise<void> {
    const { key } = this.entry(name);
    try {
      const line = key.findNew(content);
      if (line) {
        if (this.isTwofold(name, line, found)) return;
        this.refuseBeside(name, line);
        if (!this.parts.doors.find(name)) await this.rooms.prepare(this.parts.doors.doorOf(name));
        this.makeWay(name, line);
        this.authorize(key, content);
      }
      key.noteComplaint('');
    } catch (cause) {
      this.complain(key, reasonOf(cause));
    }
  }

  /** Authorises the shared key where it is new. @throws {Failure} */
  private authorize(key: SharedKey, content: string): void {
    const line = key.findNew(content);
    if (!line) return;
    const { name } = key;
    if (key.noteSight(line)) log('key.found', about(name, t`发现源端公钥，配置授权...`), fieldsOf(name));
    key.authorize(line);
    this.remember(name);
    log('key.authorized', about(name, t`SSH 免密登录配置完成 ✓`), { fingerprint: key.report(), ...fieldsOf(name) });
  }

  private complain(key: SharedKey, reason: string): void {
    if (!key.noteComplaint(reason)) return;
    const what = about(key.name, t`源端公钥未生效: ${reason}`);
    const turn = key.name ? this.ceiling.count() : 'told';
    if (turn !== 'omitted') error('key.refused', turn === 'last' ? `${what}${LAST}` : what, fieldsOf(key.name));
  }

  /** Tells of files in the directory that are no key of a source, each once. */
  private tellFaults({ faults }: Published): void {
    const directory = sourcesDirectory(this.parts.config);
    const texts = faults.map(({ file, reason }) => t`忽略了 ${escapeText(`${directory}/${file}`)}：${reason}`);
    for (const text of texts.filter((it) => !this.complaints.has(it))) {
      const turn = this.ceiling.count();
      if (turn !== 'omitted') error('key.refused', turn === 'last' ? `${text}${LAST}` : text);
    }
    this.complaints = new Set(texts);
  }

  // ── Which sources may stand beside each other ──────────────────────────────────────────────────

  /**
   * Has a source without a name be the only one: what it deletes would be all that the others have mirrored. Of those that are forgotten,
   * for HOST_KEY_DIR is read-only or was lost, it is seen by their files and directories that they are there.
   * @throws {Failure} where there are others
   */
  private async mayBeNameless({ contents }: Published): Promise<boolean> {
    const { doors, config } = this.parts;
    const named = doors.areNamed ? doors.list() : [];
    if (doors.isNameless || named.length + contents.size === 0) return true;
    const shared = named.filter(({ name }) => contents.has(name));
    const published = [...contents.keys()].map((name) => doors.doorOf(name));
    const busy = shared.length > 0 ? shared : await this.rooms.findUsed([...named, ...published]);
    if (busy.length > 0) throw new Failure(describeNameless(busy, config.DEST_DIR));
    if (!(await this.rooms.isAtHome(doors.doorOf('')))) return false; // what there is of the others cannot be seen
    for (const { name } of named) this.close(name, t`源端 ${name} 的目录已移走，由没有名字的源端取代`);
    return true;
  }

  /** Puts those first who were there before, as far as that is known or can be seen: no other one takes a key or a name from them. */
  private async inTurn({ contents }: Published): Promise<[string, string][]> {
    const { doors } = this.parts;
    const isKnown = doors.areNamed || doors.isNameless;
    const published = () => [...contents.keys()].map((name) => doors.doorOf(name));
    const former = new Set((isKnown ? doors.list() : await this.rooms.findUsed(published())).map(({ name }) => name));
    const rank = ([name]: [string, string]) => Number(!former.has(name));
    return [...contents].sort((a, b) => rank(a) - rank(b));
  }

  /** @throws {Failure} where a source cannot stand beside those that there are */
  private refuseBeside(name: string, line: string): void {
    const { doors, config } = this.parts;
    const others = doors.areNamed ? doors.list().filter((door) => door.name !== name) : [];
    const alike = others.find((door) => onAnyDisk(door.name) === onAnyDisk(name));
    if (alike)
      throw new Failure(
        t`与源端 ${alike.name} 只有大小写或末尾的点不同，在 exFAT 等磁盘上是同一个目录。请改用另一个 SOURCE_NAME`,
      );
    if (others.length >= MAX_DOORS) throw new Failure(t`源端已有 ${MAX_DOORS} 个，达到上限`);
    if (!doors.isNameless) return;
    const content = readSharedKey(config);
    if (content && bodyOf(content) !== bodyOf(line)) throw new Failure(describeNamed(config.DEST_DIR));
  }

  /**
   * Whether a key is in force for another name whose file holds it still. While a source is renamed, that is so for a moment.
   * @throws {Failure} where it has been so before
   */
  private isTwofold(name: string, line: string, { contents }: Published): boolean {
    const other = [...this.entries].find(([it, { key }]) => it && it !== name && key.holds(line));
    const isStill = other && bodyOf(contents.get(other[0]) ?? '') === bodyOf(line);
    const before = this.twofold.get(name);
    if (!isStill) this.twofold.delete(name);
    else this.twofold.set(name, line);
    if (isStill && before === line)
      throw new Failure(t`该公钥已用于源端 ${other[0]}。每个源端须有自己的密钥对（SSH_DIR），不能复制`);
    return Boolean(isStill);
  }

  /** Closes the doors that a source had before, by the same key, or without a name. @throws {Failure} */
  private makeWay(name: string, line: string): void {
    const { doors } = this.parts;
    if (doors.isNameless) this.close('', t`没有名字的源端改用名称 ${name}`);
    for (const [other, { key }] of this.entries) {
      if (!other || other === name || !key.holds(line)) continue;
      this.marks.inherit(doors.doorOf(other), doors.doorOf(name)); // first: once the key is closed, another start would know nothing of it
      this.close(other, t`源端 ${other} 改用名称 ${name}`);
    }
  }

  /** Lets a key in no longer. @param why says of which source, for people @throws {Failure} */
  private close(name: string, why: string): void {
    const { key, sessions } = this.entry(name);
    const former = key.fingerprint;
    const count = sessions.close();
    key.withdraw();
    const what = t`${why}：公钥 ${former || '–'} 不再用于它，已断开 ${count} 个连接`;
    warn('key.closed', what, { former, sessions: count, ...fieldsOf(name) });
  }

  /** Sees to the directories of the doors, and forgets those whose file and directory are gone. */
  private async tend({ contents }: Published): Promise<void> {
    const { doors } = this.parts;
    for (const door of doors.list()) {
      const isShared = contents.has(door.name) && this.entry(door.name).key.isInForce;
      try {
        if (isShared) await this.rooms.prepare(door);
        await this.rooms.look(door);
        this.roomless.delete(door.name);
        const hasKey = this.fingerprintOf(door.name) !== '';
        if (contents.has(door.name) || !(await (hasKey ? this.rooms.isGone(door) : this.rooms.isEmpty(door)))) continue;
        if (hasKey) this.close(door.name, t`源端 ${door.name} 的公钥文件和目录都已移走`);
        doors.remove(door.name);
      } catch (cause) {
        this.complainOfRoom(door.name, reasonOf(cause));
      }
    }
  }

  private complainOfRoom(name: string, reason: string): void {
    if (this.roomless.get(name) === reason) return;
    this.roomless.set(name, reason);
    error('destination.refused', about(name, reason), fieldsOf(name));
  }

  /** Looks at authorized_keys again and again, whether or not the shared volume answers, until the program ends. @throws {Failure} */
  async keep(): Promise<void> {
    while (!lifecycle.stopping) {
      for (const { sessions } of this.entries.values()) sessions.look();
      const isInDoubt = [...this.entries.values()].some(({ key }) => key.isInDoubt);
      await (isInDoubt ? lifecycle.pause(DOUBT_MS) : lifecycle.nextBeat());
    }
  }
}

/** What remains of a name on a disk that knows no letter case, and no dots at the end. */
const onAnyDisk = (name: string) => name.toLowerCase().replace(/\.+$/, '');

/** Says why a source without a name is refused. */
function describeNameless(doors: readonly Door[], directory: string): string {
  const names = doors.slice(0, 5).map(({ name }) => name);
  const who = names.join(t`、`) + (doors.length > names.length ? '…' : '');
  const what = t`没有名字的源端会删除具名源端（${who}）在 ${directory} 之下的备份`;
  return t`${what}。请给它设置 SOURCE_NAME；若要改为只有它一个，请先删除共享卷中 sources/ 里的公钥文件，并移走这些名称的目录`;
}

/** Says why a source with a name is refused. */
const describeNamed = (directory: string) =>
  t`已有一个没有名字的源端镜像到 ${directory}，它会删除具名源端的备份。请给它也设置 SOURCE_NAME；若它已不再使用，请删除共享卷中的 id_rsa.pub`;
