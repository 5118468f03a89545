/**
 * Puts together the brake of a target.
 *
 *   const brake = brakeFor(host, { source, memory, mounts, state, connection });
 */
import { Allowance } from './allowance.ts';
import { Brake } from './brake.ts';
import type { Batch } from './changes.ts';
import { type Host, parseLimit } from './config.ts';
import { Forecast } from './forecast.ts';
import type { Link } from './link.ts';
import { Losses } from './losses.ts';
import type { Memory } from './memory.ts';
import type { Mounts } from './mounts.ts';
import { RuleFiles } from './rule-files.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';

/** What the brake of a target is made of. */
interface Surroundings {
  source: Source;
  memory: Memory;
  mounts: Mounts;
  state: TargetState;
  connection: Link;
}

/** Makes the brake of a target. */
export function brakeFor(host: Host, { source, memory, mounts, state, connection }: Surroundings): Brake {
  const allowance = new Allowance(parseLimit(host.config.MAX_DELETE), memory.target(state.name));
  const prefix = host.plan.isRelative ? source.root : source.prefix;
  const protection = () => [...mounts.rules(prefix), ...state.unmirrored.rules(prefix)];
  const forecast = new Forecast({ host, source, connection, state, rules: protection });
  const isHidden = (path: string) => mounts.isHidden(path) || state.unmirrored.isHidden(path);
  const survey = (batch: Batch) => source.survey(batch, { ...host.plan, isHidden });
  const losses = new Losses({ forecast, look: source.look, survey, state });
  const { mayReport, hasFilters } = host.plan;
  const willCount = () => mayReport && !hasFilters && !!connection.socket && !!connection.directory;
  const isHiding = () => protection().length > 0;
  const rules = new RuleFiles(host.config);
  return new Brake({ host, source, state, memory, allowance, forecast, losses, rules, willCount, isHiding });
}
