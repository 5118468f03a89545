/**
 * Compares by content the files of a batch whose size and time may not say what they hold (`Dating`): in rsyncs apart from the others,
 * which delete nothing.
 *
 *   const sent = joined(await sendTheRest(), await byContent.send(batch));
 */

import type { Beside } from './beside.ts';
import { type Batch, UNKNOWN } from './changes.ts';
import type { Host } from './config.ts';
import { isUntold } from './dating.ts';
import { saysOption } from './faults.ts';
import { hasRun, type Sent } from './rsync.ts';
import { LIST_OPTIONS, listOf, rulesOf, type Scope } from './scopes.ts';
import { breather, MAX_PATH, type Sight, type Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import type { Transfers } from './transfers.ts';

/** How many files are compared by an rsync, as names and as rules, which are arguments. */
const MAX_NAMES = 50_000;
const MAX_RULES = 100;
/** What both sides do to know whether files are the same: they read both of them; or they send it in any case, and talk all the while. */
const BY_CHECKSUM = '--checksum';
const WHATEVER_THEIR_TIMES = '--ignore-times';

/** What it works with. */
interface Parts {
  host: Host;
  source: Pick<Source, 'root' | 'prefix' | 'reach' | 'look' | 'list' | 'isEntered'>;
  state: Pick<TargetState, 'departures' | 'unmirrored' | 'failed'>;
  transfers: Pick<Transfers, 'startComparing' | 'finish'>;
  beside: Pick<Beside, 'clear'>;
  /** Whether rsync is not to see a path. */
  isHidden: (path: string) => boolean;
}

export class ByContent {
  /** How files may be compared, unless the backup refuses that. */
  private ways: string[] = [];

  constructor(private readonly parts: Parts) {
    this.reset();
  }

  /** Has what was refused tried again: the backup may be another one. Where a side must say something in time, it cannot read long. */
  reset(): void {
    const ways = [BY_CHECKSUM, WHATEVER_THEIR_TIMES];
    this.ways = this.parts.host.plan.timesOut ? ways.reverse() : ways;
  }

  /** Sends the files of a batch that differ; resolves with nothing where there is nothing to compare. @throws {Failure} */
  async send(batch: Batch): Promise<Sent | undefined> {
    const { plan } = this.parts.host;
    if (!plan.trustsTimes || plan.method === 'full') return undefined;
    let sent: Sent | undefined;
    for await (const paths of inLots(this.find(batch), plan.method === 'list' ? MAX_NAMES : MAX_RULES)) {
      const next = await this.compare(paths);
      sent = sent ? joined(sent, next) : next;
      if (sent && !hasRun(sent.status)) return sent;
    }
    return sent;
  }

  /** Compares files by one of the ways that the backup does not refuse. @throws {Failure} */
  private async compare(paths: string[]): Promise<Sent | undefined> {
    const { transfers, host, source } = this.parts;
    const scopes = new Map(paths.map((path): [string, Scope] => [path, 'entry']));
    await this.parts.beside.clear(scopes);
    const isList = host.plan.method === 'list';
    const told = isList ? LIST_OPTIONS : rulesOf(scopes, source.prefix);
    const names = isList ? listOf(scopes, source.prefix) : undefined;
    for (let way = this.ways[0]; way && told; way = this.ways[0]) {
      const sent = await transfers.finish(transfers.startComparing([way, ...told]), { names, isPrompt: false });
      if (hasRun(sent.status) || !saysOption(sent.faults?.refusal)) return sent;
      this.ways.shift();
    }
    return undefined;
  }

  /** Finds the files of a batch whose size and time may not say what they hold. */
  private async *find(batch: Batch): AsyncGenerator<string> {
    const { source, state, host, isHidden } = this.parts;
    const sight = { ...host.plan, isHidden };
    const breathe = breather();
    for (const [path, change] of batch) {
      const { dated } = change;
      if (dated === 0) continue;
      await breathe();
      if (state.unmirrored.isHidden(path)) state.failed.add(new Map([[path, change]])); // until it is seen again
      // What has changed in a directory that was renamed may be told under its old name.
      const place = source.look(path) ? path : (state.departures.locate(path) ?? path);
      const { reached, found } = source.reach(place, sight) ?? {};
      if (!found || reached !== place) continue;
      if (found.isFile() && isUntold(found, dated)) yield place;
      if (found.isDirectory() && source.isEntered(found, sight)) yield* this.findBelow(place, dated, sight);
    }
  }

  private async *findBelow(top: string, dated: number, sight: Sight): AsyncGenerator<string> {
    const { source } = this.parts;
    const breathe = breather();
    for (const rest = [top]; rest.length > 0; ) {
      const directory = rest.pop() ?? '';
      for (const { name } of source.list(directory)) {
        await breathe();
        const path = directory === '' ? name : `${directory}/${name}`;
        if (sight.isHidden?.(path) || source.root.length + path.length > MAX_PATH) continue;
        const found = source.look(path);
        if (found?.isFile() && isUntold(found, dated)) yield path;
        if (!found?.isDirectory() || sight.filters?.isHidden(source.prefix.slice(1) + path, true)) continue;
        if (source.isEntered(found, sight)) rest.push(path);
      }
    }
  }
}

/** Forgets that paths may hold other things than the target's: it has moved along what it had. */
export function forgetDates(batch: Batch, paths: string[]): void {
  for (const path of paths) if (batch.has(path)) batch.set(path, { ...UNKNOWN, ...batch.get(path), dated: 0 });
}

/** Puts together what has come of two rsyncs of the same sync: what failed, failed. */
export function joined(first: Sent, second: Sent | undefined): Sent {
  if (!second) return first;
  const isWorse = [second, first].find(({ status }) => !hasRun(status)) ?? [first, second].find(isPartial);
  const told = isWorse ?? (first.status === 0 ? second : first);
  const faults = first.faults && second.faults ? first.faults.join(second.faults) : (first.faults ?? second.faults);
  return { ...first, status: told.status, ...(faults && { faults }) };
}

const isPartial = ({ status }: Sent) => status === 23;

/** Puts together what comes one by one, in lots of so many. */
async function* inLots<T>(all: AsyncIterable<T>, most: number): AsyncGenerator<T[]> {
  let lot: T[] = [];
  for await (const one of all) {
    if (lot.push(one) < most) continue;
    yield lot;
    lot = [];
  }
  if (lot.length > 0) yield lot;
}
