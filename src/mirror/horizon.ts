/**
 * How far the running service has come, so that a change on its way is not taken for a difference.
 *
 *   const { mirrored } = horizonOf(host); // what has changed before is at the target
 */
import { existsSync } from 'node:fs';
import { NoStatus } from '../service/status.ts';
import { type Host, nameOf } from './config.ts';
import { problemsOf, readStatus, type Status } from './status.ts';

/** How much later than a change the service may tell of it, ms. */
const EVENT_MS = 1000;

export interface Horizon {
  /** What has changed before is at the target, ms since 1970. Where no service runs, nothing is on its way. */
  mirrored: number;
  /** Other than before where syncs took place meanwhile. */
  syncs: string;
  isSyncing: boolean;
}

const NOBODY: Horizon = { mirrored: Number.POSITIVE_INFINITY, syncs: '', isSyncing: false };

/** Reads it from the status. @throws {Failure} where there is a status that cannot be read: a service may run */
export function horizonOf(host: Host): Horizon {
  const status = statusIfAny();
  const target = status?.targets.find((other) => other.target === nameOf(host));
  if (!status || !target || status.source !== host.config.SOURCE_DIR) return NOBODY;
  const hasEnded = problemsOf(status, Date.now()).some(({ problem }) => problem === 'stopped' || problem === 'stale');
  if (hasEnded && !mayBeAlive(status)) return NOBODY;
  if (hasEnded) return { ...NOBODY, mirrored: Number.NEGATIVE_INFINITY };
  const isKnown = status.phase === 'mirroring' && target.mirrored && status.watch.running && status.source_found;
  const { updated } = status;
  const open = [updated, target.oldest_pending ?? updated, status.watch.in_doubt ?? updated].map(Date.parse);
  const since = Math.min(...open) - EVENT_MS;
  return {
    mirrored: isKnown ? since : Number.NEGATIVE_INFINITY,
    syncs: JSON.stringify([target.state, target.syncs]),
    isSyncing: target.state === 'syncing',
  };
}

function statusIfAny(): Status | undefined {
  try {
    return readStatus();
  } catch (cause) {
    if (cause instanceof NoStatus && cause.isAbsent) return undefined;
    throw cause;
  }
}

/** Whether a service whose state is old may still run: its clock may have been set back. */
const mayBeAlive = ({ phase, pid }: Status) => phase !== 'stopped' && existsSync(`/proc/${pid}`);
