/**
 * --verify: compares the source with every target by checksum. What differs is looked at again once the service has mirrored
 * what may have been on its way.
 *
 *   const { status } = await verify();
 */
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { isJson } from '../service/log.ts';
import { decodePath, Failure, onOneLine, reasonOf, showPath, t, toJson } from '../service/text.ts';
import { checkConfig } from './check.ts';
import { Comparison } from './comparison.ts';
import { type Host, nameOf } from './config.ts';
import { type Difference, type Differences, describeDifference, mayBeOfRsync } from './differences.ts';
import { type Horizon, horizonOf } from './horizon.ts';
import { Memory } from './memory.ts';
import { findUnreadable, isReadable } from './readability.ts';
import { Source } from './source.ts';

/** How often differences are looked at again that may be changes on their way. */
const MAX_ROUNDS = 3;
/** How long to wait, beyond `SYNC_INTERVAL`, for a service that gets nowhere, ms. */
const PATIENCE_MS = 20_000;
/** How often its state is looked at meanwhile, ms. */
const GLANCE_MS = 50;

/** A difference that may be a change on its way. */
interface Suspect {
  /** What was there on the source when it was looked at last. */
  print: string;
  /** When that or a directory above it has last changed, and when it was looked at, ms since 1970. */
  changed: number;
  seen: number;
}
type Suspects = Map<string, Suspect>;

type Result = 'equal' | 'different' | 'unknown';
const RESULTS: Record<Result, string> = { equal: t`相同`, different: t`不同`, unknown: t`无法判断` };

/** The comparison of the source with a target, in rounds. */
class Verification {
  private readonly name: string;
  private readonly comparison: Comparison;
  private readonly differences: Differences = new Map();
  /** Differences that may be changes on their way, and paths that kept changing. */
  private pending = 0;
  private changing = 0;
  private readonly unreadable = new Set<string>();
  private seconds = 0;

  constructor(
    private readonly host: Host,
    private readonly source: Source,
    missing: string[],
  ) {
    this.name = nameOf(host);
    this.comparison = new Comparison(host, source, missing);
  }

  /** Compares, and again what may be on its way; what goes wrong is a reason why it cannot be told. */
  async run(): Promise<this> {
    const started = performance.now();
    try {
      const found = await this.comparison.run();
      await this.findUnreadable();
      await this.examine(found);
    } catch (cause) {
      this.comparison.reasons.add(reasonOf(cause));
    }
    this.seconds = Math.round((performance.now() - started) / 1000);
    return this;
  }

  /** Looks again at what was found until it is a difference or is gone, in a few rounds. */
  private async examine(first: Differences): Promise<void> {
    let found = first;
    for (let round = 1; found.size > 0; round++) {
      const suspects: Suspects = new Map([...found.keys()].map((path) => [path, this.suspectAt(path)]));
      const { syncs } = horizonOf(this.host);
      const hasCaughtUp = await this.waitForService(suspects);
      const horizon = horizonOf(this.host);
      found = await this.comparison.run(suspects);
      const after = horizonOf(this.host);
      const isBusy = after.isSyncing || after.syncs !== syncs;
      for (const [path, suspect] of suspects) this.decide(path, suspect, found, horizon, isBusy);
      if (hasCaughtUp && round < MAX_ROUNDS) continue;
      this[hasCaughtUp ? 'changing' : 'pending'] = found.size;
      return;
    }
  }

  /** Takes what was found a second time for a difference, unless it may still be on its way. */
  private decide(path: string, before: Suspect, found: Differences, { mirrored }: Horizon, isBusy: boolean): void {
    const difference = found.get(path);
    if (!difference) return;
    const { print, changed } = this.suspectAt(path);
    const isMirrored = changed < mirrored || (print === before.print && before.seen < mirrored);
    if (!isMirrored || (isBusy && mayBeOfRsync(difference))) return;
    found.delete(path);
    if (difference.difference === 'content' && !isReadable(this.placeOf(path)))
      this.unreadable.add(showPath(this.placeOf(path)));
    else this.differences.set(path, difference);
  }

  /** Looks for a file that cannot be read: rsync gives such a one a checksum of its own, the same on both sides, and says nothing. */
  private async findUnreadable(): Promise<void> {
    const found = await findUnreadable(this.host, (told) => this.placeOf(told));
    if (found !== undefined) this.unreadable.add(showPath(this.placeOf(found)));
  }

  /** Says where a file is that rsync has named. */
  private placeOf(told: string): string {
    return this.source.root + this.comparison.below(told);
  }

  /** Notes what is on the source at a path, so that a change of it is seen. */
  private suspectAt(path: string): Suspect {
    const parts = this.comparison.below(path).split('/');
    const names = ['', ...parts.map((_, n) => parts.slice(0, n + 1).join('/'))];
    const found = names.map((name) => this.source.look(name));
    const last = found.at(-1);
    const print = `${found.map((stats) => stats?.ino ?? '')}:${last?.ctimeMs ?? ''}`;
    return { print, changed: Math.max(0, ...found.map((stats) => stats?.ctimeMs ?? 0)), seen: Date.now() };
  }

  /** Waits while the service may have to mirror one of these; resolves with whether it has, or gets nowhere. */
  private async waitForService(suspects: Suspects): Promise<boolean> {
    const patience = this.host.config.SYNC_INTERVAL * 1000 + PATIENCE_MS;
    let reached = Number.NEGATIVE_INFINITY;
    let latest = performance.now() + patience;
    while (true) {
      const { mirrored, isSyncing } = horizonOf(this.host);
      const mayBeOnItsWay = ({ changed, seen }: Suspect) => mirrored <= changed && mirrored <= seen;
      if (![...suspects.values()].some(mayBeOnItsWay)) return true;
      if (mirrored > reached || isSyncing) latest = performance.now() + patience;
      if (performance.now() > latest) return false;
      reached = mirrored;
      await lifecycle.pause(GLANCE_MS);
      // What comes and goes must not seem to have been absent all the time.
      for (const [path, suspect] of suspects)
        if (this.suspectAt(path).print !== suspect.print) suspect.print = 'changed';
    }
  }

  get result(): Result {
    if (this.comparison.reasons.size + this.unreadable.size > 0) return 'unknown';
    if (this.differences.size > 0) return 'different';
    return this.pending + this.comparison.untold > 0 ? 'unknown' : 'equal';
  }

  /** All that was found out. */
  get report(): string {
    const differences = [...this.differences.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    return (isJson ? this.forPrograms(differences) : this.forPeople(differences))
      .map((line) => `${onOneLine(line)}\n`)
      .join('');
  }

  private forPrograms(differences: Difference[]): string[] {
    const { name: target, result, seconds, reason } = this;
    const { files } = this.comparison;
    const total = { target, result, differences: differences.length, files, seconds, reason: reason || undefined };
    const entries = differences.map(({ path, difference, attributes }) => {
      return { target, path: decodePath(path), difference, attributes: attributes[0] ? attributes : undefined };
    });
    return [total, ...entries].map(toJson);
  }

  private forPeople(differences: Difference[]): string[] {
    const { name, result, seconds, reason } = this;
    const { files } = this.comparison;
    const facts = [
      ...(differences.length > 0 ? [t`${differences.length} 处差异`] : []),
      ...(files === undefined ? [] : [t`${files} 个文件`]),
      t`耗时: ${seconds}秒`,
    ];
    const lines = differences.map((difference) => `  ${describeDifference(difference)}`);
    return [`${name} ${RESULTS[result]} (${facts.join(t`，`)})${reason && t`：${reason}`}`, ...lines];
  }

  /** Why not everything can be told, nothing where it can. */
  private get reason(): string {
    const { pending, changing, unreadable } = this;
    const { untold, reasons } = this.comparison;
    return [
      ...reasons,
      ...(unreadable.size > 0 ? [t`无法读取 ${unreadable.size} 个文件，例如 ${[...unreadable][0]}`] : []),
      ...(pending > 0 ? [t`${pending} 处差异未列出，可能是服务还没有同步的变化，请用 --status 查看`] : []),
      ...(changing > 0 ? [t`另有 ${changing} 个路径一直在变化，未作判断`] : []),
      ...(untold > 0 ? [t`差异过多，另有 ${untold} 处未再次核对`] : []),
    ].join(t`；`);
  }
}

/** Compares the source with every target and tells what differs: exit status 0 equal, 1 different, 2 could not tell. */
export async function verify(): Promise<Answer> {
  lifecycle.abandonOnSignal(2);
  try {
    const { config, hosts } = await checkConfig();
    const source = new Source(config.SOURCE_DIR);
    const missing = new Memory(config).missingMounts(source.realRoot);
    const verifications = hosts.map((host) => new Verification(host, source, missing));
    const running = verifications.map((verification) => verification.run());
    for (const finished of running) {
      const { report } = await finished;
      if (!lifecycle.stopping) await new Promise((written) => process.stdout.write(report, written));
    }
    const results = verifications.map(({ result }) => result);
    return { text: '', status: results.includes('unknown') ? 2 : Number(results.includes('different')) };
  } catch (cause) {
    throw new Failure(reasonOf(cause), 2); // 1 would say that they differ
  }
}
