/**
 * What a report says: what is wrong or well again, since when and for how long, of which program on which host.
 *
 *   const { title, text, data } = writeReport(origin, { begun, ended }, Date.now());
 */
import type { Incident } from './incidents.ts';
import type { Report } from './receivers.ts';
import { localTime, onOneLine, t } from './text.ts';

/** Who reports. */
export interface Origin {
  program: string;
  version: string;
  host: string;
  /** The directory that the program is about, and what that is to it, for people. */
  directory: string;
  place: string;
}

/** What is to be known of the state beside what is wrong: a line for people, and fields for programs. */
export interface Aside {
  line: string;
  fields: Record<string, string>;
}

/** How many incidents are told in full by a message; programs get all of them. */
const MAX_TOLD = 10;

const UNITS: [number, string][] = [
  [86_400, t`天`],
  [3600, t`小时`],
  [60, t`分`],
  [1, t`秒`],
];

/** Says how long something has lasted, by its two largest units. @param ms */
export function describeDuration(ms: number): string {
  let rest = Math.max(0, Math.round(ms / 1000));
  const parts = UNITS.map(([size, unit]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return { count, unit };
  });
  const first = parts.findIndex(({ count }) => count > 0);
  if (first < 0) return t`0 秒`;
  const shown = parts.slice(first, first + 2).filter(({ count }) => count > 0);
  return shown.map(({ count, unit }) => `${count} ${unit}`).join(' ');
}

/** Leaves out the colon behind which it would be said with what something is wrong. */
const alone = (text: string) => text.replace(/[:\uff1a]$/, '');

/** Says what is wrong, and with what. */
const aboutOf = ({ text, target }: Incident) => onOneLine(target ? `${text} ${target}` : alone(text));

function lineOfBegun(incident: Incident, now: number): string {
  const lasting = describeDuration(now - incident.since);
  const since = localTime(new Date(incident.since));
  return t`【故障】${incident.problem} ${aboutOf(incident)}，自 ${since} 起，已持续 ${lasting}`;
}

function lineOfEnded(incident: Incident, now: number): string {
  const { problem, since, gone = now } = incident;
  const times = t`${localTime(new Date(since))} 至 ${localTime(new Date(gone))}`;
  return t`【恢复】${problem} ${aboutOf(incident)}，${times}，持续 ${describeDuration(gone - since)}`;
}

function titleOf({ program, host }: Origin, begun: Incident[], ended: Incident[]): string {
  const who = `${program} @ ${host}`;
  const counts = [
    ...(begun.length > 0 ? [begun.length === 1 ? t`故障 ${begun[0]?.problem}` : t`${begun.length} 个故障`] : []),
    ...(ended.length > 0 ? [ended.length === 1 ? t`恢复 ${ended[0]?.problem}` : t`${ended.length} 个恢复`] : []),
  ];
  return t`${who}：${counts.join(t`，`)}`;
}

const iso = (time: number) => new Date(time).toISOString();

/** What programs get of an incident. */
function entryOf({ problem, target, source, text, since, gone }: Incident, isOver: boolean, now: number) {
  const end = isOver ? (gone ?? now) : now;
  return {
    event: isOver ? 'recovered' : 'problem',
    problem,
    ...(target ? { target } : {}),
    ...(source ? { source } : {}),
    text: alone(text),
    since: iso(since),
    ...(isOver ? { until: iso(end) } : {}),
    seconds: Math.max(0, Math.round((end - since) / 1000)),
  };
}

/** Puts a message together. */
function compose(
  origin: Origin,
  title: string,
  lines: string[],
  entries: object[],
  now: number,
  aside?: Aside,
): Omit<Report, 'isAlarm'> {
  const { program, version, host, directory, place } = origin;
  const text = [...lines, ...(aside ? [aside.line] : []), place].join('\n');
  const about = { program, version, host, directory, time: iso(now), ...aside?.fields };
  return { title, text, data: { ...about, title, text, reports: entries } };
}

/** Writes what has begun and what has ended. @param now ms since 1970 */
export function writeReport(
  origin: Origin,
  news: { begun: Incident[]; ended: Incident[] },
  now: number,
  aside?: Aside,
): Report {
  const { begun, ended } = news;
  const lines = [
    ...begun.map((incident) => lineOfBegun(incident, now)),
    ...ended.map((incident) => lineOfEnded(incident, now)),
  ];
  const more = lines.length - MAX_TOLD;
  const told = more > 0 ? [...lines.slice(0, MAX_TOLD), t`…另有 ${more} 条，见 --status`] : lines;
  const entries = [
    ...begun.map((incident) => entryOf(incident, false, now)),
    ...ended.map((incident) => entryOf(incident, true, now)),
  ];
  return { ...compose(origin, titleOf(origin, begun, ended), told, entries, now, aside), isAlarm: begun.length > 0 };
}

/** Writes a report that tells of nothing. */
export function writeTest(origin: Origin, now: number): Report {
  const { program, host } = origin;
  const line = t`【测试】test 这是一条测试报告，一切照常，${localTime(new Date(now))}`;
  const entries = [{ event: 'test', problem: 'test', text: line, since: iso(now), seconds: 0 }];
  return { ...compose(origin, t`${program} @ ${host}：测试 test`, [line], entries, now), isAlarm: false };
}
