/**
 * Sends files over an SSH connection of their own, beside what goes over the shared one: that would hold megabytes of them before
 * anything else. Nothing is deleted.
 *
 *   const { status } = await ownLine.carry(['videos/a.mp4']);
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Failure, t } from '../service/text.ts';
import type { Carried } from './beside.ts';
import type { Brake } from './brake.ts';
import type { Host } from './config.ts';
import type { Link } from './link.ts';
import type { Mounts } from './mounts.ts';
import { listOf, type Scope } from './scopes.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import { Transfers } from './transfers.ts';

interface Parts {
  host: Host;
  source: Source;
  mounts: Mounts;
  state: TargetState;
  connection: Link;
  brake: Brake;
  /** Whether rsync sees a path as a file with one name. */
  isSingle: (path: string) => boolean;
}

export class OwnLine {
  private readonly transfers: Transfers;

  constructor(private readonly parts: Parts) {
    const { connection, mounts, state } = parts;
    const { name, unmirrored, unsettable, warn, log, voice } = state;
    this.transfers = new Transfers({
      ...parts,
      state: { name, unmirrored, unsettable, warn, log, voice, stalledSince: undefined },
      connection: new Apart(connection),
    });
    mounts.on('changed', () => this.transfers.checkRunning());
  }

  /** Sends files, told by a status in every case. */
  async carry(paths: string[]): Promise<Carried> {
    const { transfers } = this;
    const status = await transfers
      .run(undefined, () => this.send(paths))
      .then(
        (sent) => sent.status,
        () => undefined, // the ordinary sync of them will say why
      );
    return { status, totals: transfers.done };
  }

  /** @throws {Failure} where they, or the source, are not what they were */
  private send(paths: string[]) {
    const { source, isSingle } = this.parts;
    source.check();
    if (!paths.every(isSingle)) throw new Failure(t`文件已改变`);
    const scopes = new Map(paths.map((path): [string, Scope] => [path, 'entry']));
    const { transfers } = this;
    return transfers.finish(transfers.startComparing(transfers.listOptions), { names: listOf(scopes, source.prefix) });
  }
}

/** What is known of the shared connection, to go another way: reports of rsync lie apart from the others. */
class Apart {
  constructor(private readonly connection: Pick<Link, 'socket' | 'directory' | 'findRoute'>) {}

  get socket(): string | undefined {
    return this.connection.socket;
  }

  get directory(): string | undefined {
    const { directory } = this.connection;
    if (!directory) return undefined;
    const apart = join(directory, 'beside');
    try {
      mkdirSync(apart, { recursive: true });
      return apart;
    } catch {
      return undefined; // the connection has just been lost
    }
  }

  findRoute() {
    const { knownHosts } = this.connection.findRoute();
    return { knownHosts };
  }
}
