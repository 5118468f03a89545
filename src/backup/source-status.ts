/**
 * What the service tells of each of its sources, and how that is told to people where they have names.
 *
 *   sourcesOf(parts); // [{ name: 'web1', directory: '/data/backup/web1', key: 'SHA256:…', sessions: 1, … }]
 */
import type { Sighting } from '../service/incidents.ts';
import { backupCommand } from '../service/source-names.ts';
import { inUnits, localTime, t, table } from '../service/text.ts';
import type { Config } from './config.ts';
import type { Doors } from './doors.ts';
import type { Histories } from './histories.ts';
import type { Promotion } from './promotion.ts';
import type { Reports } from './reports.ts';
import type { SourceKeys } from './source-keys.ts';
import type { Sshd } from './sshd.ts';

interface Parts {
  config: Pick<Config, 'ALLOW_SHELL'>;
  doors: Pick<Doors, 'list'>;
  keys: Pick<SourceKeys, 'report' | 'fingerprintOf'>;
  sshd: Pick<Sshd, 'owned' | 'countSessions' | 'receivedOf'>;
  reports: Pick<Reports, 'of'>;
  history: Pick<Histories, 'of'>;
  promotion: Pick<Promotion, 'report'>;
}

/** Tells of each source by itself. */
export function sourcesOf({ config, doors, keys, sshd, reports, history, promotion }: Parts) {
  const owners = [...sshd.owned().values()];
  const countOf = (owner: string) => (config.ALLOW_SHELL ? null : owners.filter((it) => it === owner).length); // with a shell, nobody can tell whose they are
  return doors.list().map((door) => {
    const { name, directory } = door;
    const [own, told] = [keys.fingerprintOf(name), reports.of(name)];
    return {
      name,
      directory,
      key: keys.report(name),
      sessions: name ? countOf(own) : sshd.countSessions(),
      received: sshd.receivedOf(name)?.toISOString() ?? null,
      refused: told.refused,
      restore: told.leave.report(),
      doubled: told.sources.report(),
      history: history.of(door).report(),
      promoted: promotion.report(door),
    };
  });
}

export type SourceStatus = ReturnType<typeof sourcesOf>[number];

/** Finds the time of what came last; null where nothing did. */
export const latestOf = (times: (string | null)[]): string | null =>
  times.reduce((latest, time) => (time !== null && (latest === null || time > latest) ? time : latest), null);

/** Tells until when some source may read, and how many sessions do; null where none may. */
export function restoreOf(sources: readonly SourceStatus[]): SourceStatus['restore'] {
  const leaves = sources.flatMap(({ restore }) => restore ?? []);
  const until = latestOf(leaves.map((leave) => leave.until));
  return until === null ? null : { until, reading: leaves.reduce((sum, { reading }) => sum + reading, 0) };
}

/** What may be wrong with one source, and what that is for people. */
export const PROBLEMS_OF_SOURCES = ['no_key', 'doubled'] as const;

/** Lists what is wrong with sources that have names. @param describeDoubled says where there are several, and which */
export function sightingsOfSources(
  sources: readonly SourceStatus[],
  describeDoubled: (doubled: SourceStatus['doubled'][0]) => string,
): Sighting[] {
  return sources.flatMap(({ name, directory, key, doubled }) => {
    const who = { source: name };
    const without = t`没有源端 ${name} 的公钥，它无法登录（若已不再使用，请移走 ${directory}）`;
    const twice = t`多个名为 ${name} 的 rsync-inotify 同时镜像到 ${doubled.map(describeDoubled).join(t`、`)}，请只保留一个`;
    return [
      ...(key === null ? [{ problem: 'no_key', text: without, ...who }] : []),
      ...(doubled.length > 0 ? [{ problem: 'doubled', text: twice, ...who }] : []),
    ];
  });
}

/** Says of a source that the backup has taken over what it mirrors. */
export const promotionSighting = ({ name }: SourceStatus): Sighting => ({
  ...{ problem: 'promoted', source: name },
  text: t`备份端已接管源端 ${name}，不接收它的镜像，直到执行 ${backupCommand('--demote', name)}`,
});

function stateOf({ key, doubled, promoted, restore }: SourceStatus): string {
  const states = [
    ...(promoted ? [t`已接管，自 ${localTime(promoted)} 起`] : []),
    ...(key ? [] : [t`没有公钥`]),
    ...(doubled.length > 0 ? [t`重复`] : []),
    ...(restore ? [t`允许恢复，到 ${localTime(restore.until)} 为止`] : []),
  ];
  return states.join(t`；`) || t`正常`;
}

function versionsOf({ history }: SourceStatus): string {
  if (!history) return '–';
  return history.versions === null ? t`正在统计` : `${history.versions} (${inUnits(history.bytes ?? 0)})`;
}

/** Says in a few words what is to be known of sources that have names, '' where there are none. */
export function aboutSources(sources: readonly SourceStatus[]): string {
  if (sources.length === 0) return '';
  const promoted = sources.filter((source) => source.promoted).length;
  return `${t`，${sources.length} 个源端`}${promoted > 0 ? t`，其中 ${promoted} 个已被接管` : ''}`;
}

/** Describes sources that have names as a table for people. */
export function describeSources(sources: readonly SourceStatus[]): string[] {
  if (sources.length === 0) return [];
  const rows = sources.map((source) => [
    ...[source.name, String(source.sessions ?? '–'), source.received ? localTime(source.received) : '–'],
    ...[String(source.refused), versionsOf(source), stateOf(source), source.key ?? '–'],
  ]);
  return ['', ...table([[t`源端`, t`连接`, t`最近接收`, t`拒绝的命令`, t`旧版本`, t`状态`, t`公钥`], ...rows])];
}
