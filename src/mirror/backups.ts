/**
 * Puts together what works for each backup host.
 *
 *   const backups = backupsFor(hosts, { source, memory, mounts, doubts, announcer });
 */
import { lifecycle } from '../service/lifecycle.ts';
import { backupCommand } from '../service/source-names.ts';
import type { Announcer } from './announcer.ts';
import { askBackup, BackupGuard } from './backup-guard.ts';
import { Beside } from './beside.ts';
import type { Brake } from './brake.ts';
import { brakeFor } from './brakes.ts';
import { ALL } from './changes.ts';
import type { LocatedHost } from './check.ts';
import { isDaemon, nameOf } from './config.ts';
import { Connection } from './connection.ts';
import { DaemonLink } from './daemon-link.ts';
import type { Doubts } from './doubts.ts';
import { HostKeys } from './host-keys.ts';
import { LargeFiles } from './large-files.ts';
import type { Link } from './link.ts';
import type { Memory } from './memory.ts';
import { Mounts } from './mounts.ts';
import { refuseNested } from './nesting.ts';
import { OwnLine } from './own-line.ts';
import { Pause } from './pause.ts';
import { Recovery } from './recovery.ts';
import { Restoring } from './restoring.ts';
import { Rivals } from './rivals.ts';
import { Sender } from './sender.ts';
import type { Source } from './source.ts';
import { Target } from './target.ts';
import { TargetState } from './target-state.ts';
import { MIN_ROOM } from './transfers.ts';

/** A backup host with all that works for it. */
export interface Backup {
  host: LocatedHost;
  state: TargetState;
  hostKeys: HostKeys;
  connection: Link;
  brake: Brake;
  target: Target;
  restoring: Restoring;
  pause: Pause;
}

/** What the work for all backup hosts shares. */
interface Shared {
  source: Source;
  memory: Memory;
  mounts: Mounts;
  doubts: Doubts;
  announcer: Announcer;
}

/** Makes what works for each of them. */
export function backupsFor(hosts: LocatedHost[], { source, memory, mounts: all, doubts, announcer }: Shared): Backup[] {
  const { spell } = announcer;
  const demotionOf = ({ config }: LocatedHost) => backupCommand('--demote', config.SOURCE_NAME);
  const states = hosts.map((host) => new TargetState(nameOf(host), hosts.length > 1, spell, demotionOf(host)));
  spell.isAway = () => states.every(({ absence }) => absence.isKnown);
  const deletes = hosts.some(({ plan }) => plan.deletes);
  const restoring = new Restoring({ directory: source.directory, memory, targets: states, deletes });
  const pause = new Pause({ memory, targets: states, restoring });
  const nothing = new Mounts(memory, () => source.realRoot); // which is not told of what is mounted
  return hosts.map((host, n) => {
    const state = states[n] as TargetState;
    const mounts = host.plan.isOneFileSystem ? nothing : all;
    state.ownOptions = host.own || null;
    const hostKeys = new HostKeys(host.config, state, host.address.jump);
    const connection = isDaemon(host) ? new DaemonLink(host, state) : new Connection(host, hostKeys, state);
    const brake = brakeFor(host, { source, memory, mounts, state, connection });
    state.costlyOptions = () => host.plan.costly;
    state.mayHoldMore = () => brake.isHolding || mayLeaveMore(host.plan);
    const beside = besideFor(host, { source, mounts, state, connection, brake });
    const sender = new Sender(host, source, mounts, state, connection, brake, beside);
    const recovery = recoveryFor(host, { source, state, sender });
    const parts = { state, connection, sender, recovery, beside, doubts, announcer, pause };
    const target = new Target(host.config, parts);
    // One that comes late was not there to be asked at the start, as one is that is not up yet.
    connection.on('connected', () => state.up && lifecycle.background(refuseNested(host, connection)));
    const guarding = {
      ...{ host, state, connection, remembered: memory.target(state.name) },
      save: () => memory.save(),
      compareAll: () => {
        brake.distrust();
        state.changes.add(ALL);
      },
    };
    new BackupGuard(guarding, isDaemon(host) ? nobody : askBackup);
    if (!isDaemon(host)) new Rivals({ host, state, connection });
    return { host, state, hostKeys, connection, brake, target, restoring, pause };
  });
}

/** Stands for the answer of a target that can be asked nothing. */
const nobody = async () => undefined;

/** Whether rsync leaves things on a target that the source does not have any more, and would send. */
const mayLeaveMore = ({ deletes, maxDelete, hasFilters }: LocatedHost['plan']) =>
  !deletes || hasFilters || maxDelete < Number.POSITIVE_INFINITY;

/** Makes what sends large files beside all else, while nothing fails and nothing is mounted below the source. */
function besideFor(
  host: LocatedHost,
  parts: { source: Source; mounts: Mounts; state: TargetState; connection: Link; brake: Brake },
): Beside {
  const { source, mounts, state, connection } = parts;
  const isWell = () => state.mirrored && state.unmirrored.size === 0 && state.failed.size === 0 && !state.held;
  const isBare = () => mounts.mounted.length === 0 && mounts.files.length === 0 && mounts.rules('/').length === 0;
  const isOpen = () => connection.socket !== undefined && host.peer.room >= MIN_ROOM;
  const isReady = () => !lifecycle.stopping && isOpen() && isWell() && isBare();
  const large = new LargeFiles({ plan: host.plan, source, isReady });
  const line = new OwnLine({ host, ...parts, isSingle: (path) => large.isSingle(path) });
  return new Beside({
    ...{ state, large },
    reach: (path) => source.reach(path, {}),
    carry: (paths) => line.carry(paths),
  });
}

/** Makes what finds out what fails on a target. */
function recoveryFor(
  host: LocatedHost,
  { source, state, sender }: { source: Source; state: TargetState; sender: Sender },
) {
  return new Recovery({
    ...{
      state,
      sender,
      look: source.look,
      list: source.list,
      isReadable: source.isReadable,
      isUnknown: source.isUnknown,
    },
    mayLimitSize: host.plan.mayLimitSize,
    mayDivide: host.plan.method !== 'full',
    interval: host.config.FULL_SYNC_INTERVAL,
    wake: () => state.changes.emit('arrived'),
  });
}
