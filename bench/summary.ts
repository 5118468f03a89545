/** The results in one table, as both READMEs show it: kinds of work by mirrors, with the goals. */
import type { Machine } from './machine.ts';
import { oursAtOnce, oursDefault } from './mirrors.ts';
import type { Goal, Section, Value } from './section.ts';
import { markdown, shown } from './table.ts';

export const LANGUAGES = ['en', 'zh-CN'] as const;
type Language = (typeof LANGUAGES)[number];
type Words = Record<Language, string>;

/** A row: one column of a section, and of its goals the one that is about it. */
interface Kind {
  workload: string;
  key: string;
  ours: string;
  work: Words;
  goal?: { index: number; words: Words };
}

const limitAlone: Words = { en: '≤ {limit}{unit}', 'zh-CN': '≤ {limit}{unit}' };

const KINDS: Kind[] = [
  {
    ...{ workload: 'latency', key: 'p50', ours: oursDefault.name },
    work: { en: 'one file rewritten, default settings', 'zh-CN': '改写一个文件，默认设置' },
    goal: { index: 0, words: limitAlone },
  },
  {
    ...{ workload: 'trees', key: '1000000', ours: oursAtOnce.name },
    work: { en: 'the same in a tree of 1,000,000 files', 'zh-CN': '同上，目录树有 1,000,000 个文件' },
    goal: {
      index: 0,
      words: { en: '≤ {limit} × in 1,000 files: {value}', 'zh-CN': '≤ 1,000 个文件时的 {limit} 倍：{value}' },
    },
  },
  {
    ...{ workload: 'burst', key: 'equal', ours: oursAtOnce.name },
    work: { en: '10,000 small files at once', 'zh-CN': '一次写入 10,000 个小文件' },
    goal: {
      index: 0,
      words: { en: '≤ {limit} × bare rsync: {value}', 'zh-CN': '≤ 直接 rsync 的 {limit} 倍：{value}' },
    },
  },
  {
    ...{ workload: 'moves', key: 'file', ours: oursAtOnce.name },
    work: { en: 'a file of 300 MB renamed', 'zh-CN': '300 MB 的文件改名' },
    goal: { index: 0, words: limitAlone },
  },
  {
    ...{ workload: 'moves', key: 'directory', ours: oursAtOnce.name },
    work: { en: 'a directory of 1,000 files, 300 MB, renamed', 'zh-CN': '1,000 个文件、300 MB 的目录改名' },
    goal: { index: 1, words: limitAlone },
  },
  {
    ...{ workload: 'sustained', key: 'p50', ours: oursAtOnce.name },
    work: { en: '500 changes/s: how old the backup is', 'zh-CN': '每秒 500 处变化：备份落后' },
  },
  {
    ...{ workload: 'sustained', key: 'pss', ours: oursAtOnce.name },
    work: { en: '500 changes/s: memory, at most', 'zh-CN': '每秒 500 处变化：内存峰值' },
  },
  {
    ...{ workload: 'idle', key: 'pss', ours: oursDefault.name },
    work: { en: 'nothing happens: memory', 'zh-CN': '没有变化：内存' },
    goal: { index: 1, words: limitAlone },
  },
  {
    ...{ workload: 'idle', key: 'cpu', ours: oursDefault.name },
    work: { en: 'nothing happens: CPU of a core', 'zh-CN': '没有变化：单核 CPU' },
    goal: { index: 0, words: limitAlone },
  },
  {
    ...{ workload: 'up', key: 'probe', ours: oursAtOnce.name },
    work: { en: 'from the start until changes are mirrored', 'zh-CN': '从启动到开始镜像变化' },
  },
];

const HEAD: Record<Language, string[]> = {
  en: ['', 'rsync-inotify', 'lsyncd', 'plain loop', 'bare rsync', 'goal'],
  'zh-CN': ['', 'rsync-inotify', 'lsyncd', '简单循环', '直接 rsync', '目标'],
};

/** The mirrors of the other columns, by how their names begin; the first that took part counts. */
const OTHERS = [['lsyncd rsyncssh, delay 0'], ['plain loop, interval 0', 'plain loop'], ['bare rsync']];

function cell(value: Value | undefined, unit: string, language: Language): string {
  if (typeof value === 'number') return `${shown(value)}${unit}`;
  if (value === undefined || language === 'en') return value ?? '–';
  return value.replace(/^never \(within (\S+) s\)$/, '$1 秒内没有').replace(/^failed$/, '失败');
}

const goalText = ({ limit, value, met }: Goal, words: string, unit: string) =>
  `${words.replace('{limit}', String(limit)).replace('{unit}', unit).replace('{value}', shown(value))} ${met ? '✓' : '✗'}`;

function rowOf({ key, ours, work, goal }: Kind, { columns, rows, goals }: Section, language: Language): string[] {
  const unitOf = columns.find((column) => column.key === key)?.unit ?? '';
  const unit = unitOf && ` ${unitOf}`;
  const of = (name: string) => rows.find((row) => row.name.startsWith(name))?.values[key];
  const others = OTHERS.map((names) => names.map(of).find((value) => value !== undefined));
  const met = goal && goals[goal.index];
  return [
    work[language],
    ...[of(ours), ...others].map((value) => cell(value, unit, language)),
    met ? goalText(met, goal.words[language], unit) : '–',
  ];
}

const measuredOn = ({ date, cpu, cores, memoryGiB, kernel, fileSystem, versions }: Machine): Words => {
  const programs = Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', ');
  return {
    en: `Measured ${date} UTC on ${cores} cores of ${cpu}, ${memoryGiB} GiB, Linux ${kernel}, ${fileSystem}; ${programs}.`,
    'zh-CN': `测于 ${date} UTC：${cpu} ${cores} 核，${memoryGiB} GiB，Linux ${kernel}，${fileSystem}；${programs}。`,
  };
};

/** The table and where it was measured; a kind of work that was not measured is left out. */
export function summary(machine: Machine, sections: Section[], language: Language): string {
  const body = KINDS.flatMap((kind) => {
    const section = sections.find(({ workload }) => workload === kind.workload);
    return section?.columns.some(({ key }) => key === kind.key) ? [rowOf(kind, section, language)] : [];
  });
  return `${markdown([HEAD[language], ...body])}\n\n${measuredOn(machine)[language]}\n`;
}
