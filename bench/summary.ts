/**
 * The results as pages show them, in one table: kinds of work by mirrors, with the goals, and the most important ones
 * without. On a page it stands between `<!-- bench:all -->` or `<!-- bench:short -->` and `<!-- /bench -->`.
 */
import type { Language } from '../test/pages.ts';
import type { Machine } from './machine.ts';
import { oursAtOnce, oursDefault } from './mirrors.ts';
import type { Goal, Section, Value } from './section.ts';
import { markdown, shown } from './table.ts';

type Words = Record<Language, string>;

/** A row: one column of a section, and of its goals those that are about it, as far as they were measured. */
interface Kind {
  workload: string;
  key: string;
  ours: string;
  work: Words;
  /** Stands in the short table, too. */
  isShort?: true;
  goals?: { index: number; words: Words }[];
}

const limitAlone: Words = { en: '≤ {limit}{unit}', 'zh-CN': '≤ {limit}{unit}' };
const toLsyncd: Words = { en: '≤ {limit} × lsyncd: {value}', 'zh-CN': '≤ lsyncd 的 {limit} 倍：{value}' };
const toBare: Words = { en: '≤ {limit} × bare rsync: {value}', 'zh-CN': '≤ 直接 rsync 的 {limit} 倍：{value}' };
const toDefault: Words = { en: '≤ {limit} × default: {value}', 'zh-CN': '≤ 默认设置的 {limit} 倍：{value}' };
const toSmall: Words = { en: '≤ {limit} × in 1,000 files: {value}', 'zh-CN': '≤ 1,000 个文件时的 {limit} 倍：{value}' };
const inRoundTrips: Words = { en: '≤ {limit} round trips: {value}', 'zh-CN': '≤ {limit} 个往返：{value}' };

const KINDS: Kind[] = [
  {
    ...{ workload: 'latency', key: 'p50', ours: oursDefault.name },
    isShort: true,
    work: { en: 'one file rewritten, default settings', 'zh-CN': '改写一个文件，默认设置' },
    goals: [
      { index: 0, words: limitAlone },
      { index: 1, words: toLsyncd },
    ],
  },
  {
    ...{ workload: 'options', key: '1000', ours: 'rsync-inotify, -H' },
    work: { en: 'the same with `-H` and other options', 'zh-CN': '同上，加 `-H` 等选项' },
    goals: [{ index: 0, words: toDefault }],
  },
  {
    ...{ workload: 'options', key: '60000', ours: 'rsync-inotify, -H' },
    work: { en: 'the same with `-H` among 60,000 files', 'zh-CN': '同上，加 `-H`，60,000 个文件' },
    goals: [{ index: 1, words: toDefault }],
  },
  {
    ...{ workload: 'trees', key: '1000000', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'the same in a tree of 1,000,000 files', 'zh-CN': '同上，目录树有 1,000,000 个文件' },
    goals: [{ index: 0, words: toSmall }],
  },
  {
    ...{ workload: 'history', key: 'ms', ours: `${oursAtOnce.name}, HISTORY_DAYS=30` },
    work: { en: 'the same with `HISTORY_DAYS=30`', 'zh-CN': '同上，`HISTORY_DAYS=30`' },
    goals: [{ index: 0, words: { en: '≤ {limit} × without: {value}', 'zh-CN': '≤ 不保留时的 {limit} 倍：{value}' } }],
  },
  {
    ...{ workload: 'burst', key: 'equal', ours: oursAtOnce.name },
    isShort: true,
    work: { en: '10,000 small files at once', 'zh-CN': '一次写入 10,000 个小文件' },
    goals: [{ index: 0, words: toBare }],
  },
  {
    ...{ workload: 'directories', key: 'delete-1000', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'a file deleted, of 1,000 in a directory', 'zh-CN': '删除一个文件，目录中有 1,000 个' },
    goals: [{ index: 0, words: toLsyncd }],
  },
  {
    ...{ workload: 'directories', key: 'delete-100000', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'the same, of 100,000', 'zh-CN': '同上，100,000 个' },
    goals: [{ index: 1, words: toSmall }],
  },
  {
    ...{ workload: 'directories', key: 'save-1000', ours: oursAtOnce.name },
    work: {
      en: 'a file saved by a rename, of 1,000 in a directory',
      'zh-CN': '以改名方式保存一个文件，目录中有 1,000 个',
    },
    goals: [{ index: 2, words: toLsyncd }],
  },
  {
    ...{ workload: 'directories', key: 'save-100000', ours: oursAtOnce.name },
    work: { en: 'the same, of 100,000', 'zh-CN': '同上，100,000 个' },
    goals: [{ index: 3, words: toSmall }],
  },
  {
    ...{ workload: 'link', key: 'isolated', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'one file rewritten, round trip 100 ms', 'zh-CN': '改写一个文件，往返时间 100 ms' },
    goals: [{ index: 0, words: inRoundTrips }],
  },
  {
    ...{ workload: 'link', key: 'row', ours: oursAtOnce.name },
    work: { en: 'the same, 0.2 s after the last one arrived', 'zh-CN': '同上，上一次到达后 0.2 秒' },
    goals: [{ index: 1, words: inRoundTrips }],
  },
  {
    ...{ workload: 'line', key: 'beside', ours: oursAtOnce.name },
    work: { en: 'a small change beside 40 MB at 2 MB/s', 'zh-CN': '2 MB/s 线路上正传 40 MB 时的小变化' },
    goals: [{ index: 0, words: { en: '≤ {limit} × alone: {value}', 'zh-CN': '≤ 线路空闲时的 {limit} 倍：{value}' } }],
  },
  {
    ...{ workload: 'full', key: 's', ours: 'rsync-inotify, -az' },
    isShort: true,
    work: { en: 'first full sync of 100,000 small files', 'zh-CN': '首次全量同步 100,000 个小文件' },
    goals: [{ index: 1, words: toBare }],
  },
  {
    ...{ workload: 'single', key: 's', ours: 'rsync-inotify, -H' },
    work: { en: 'the same of 30,000, with `-H`: one rsync', 'zh-CN': '同上，30,000 个，加 `-H`：一个 rsync' },
    goals: [{ index: 0, words: toBare }],
  },
  {
    ...{ workload: 'moves', key: 'file', ours: oursAtOnce.name },
    work: { en: 'a file of 300 MB renamed', 'zh-CN': '300 MB 的文件改名' },
    goals: [{ index: 0, words: limitAlone }],
  },
  {
    ...{ workload: 'moves', key: 'directory', ours: oursAtOnce.name },
    work: { en: 'a directory of 1,000 files, 300 MB, renamed', 'zh-CN': '1,000 个文件、300 MB 的目录改名' },
    goals: [{ index: 1, words: limitAlone }],
  },
  {
    ...{ workload: 'sustained', key: 'p50', ours: oursAtOnce.name },
    work: { en: '500 changes/s: how old the backup is', 'zh-CN': '每秒 500 处变化：备份落后' },
    goals: [{ index: 0, words: toLsyncd }],
  },
  {
    ...{ workload: 'sustained', key: 'equal', ours: oursDefault.name },
    work: { en: 'the last of them, default settings', 'zh-CN': '其中最后一处，默认设置' },
    goals: [{ index: 1, words: limitAlone }],
  },
  {
    ...{ workload: 'sustained', key: 'pss', ours: oursAtOnce.name },
    work: { en: '500 changes/s: memory, at most', 'zh-CN': '每秒 500 处变化：内存峰值' },
  },
  {
    ...{ workload: 'cpu', key: 'both', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'CPU time of one sync, both sides', 'zh-CN': '一次同步的 CPU 时间，两端合计' },
    goals: [{ index: 0, words: toLsyncd }],
  },
  {
    ...{ workload: 'idle', key: 'pss', ours: oursDefault.name },
    isShort: true,
    work: { en: 'nothing happens: memory', 'zh-CN': '没有变化：内存' },
    goals: [{ index: 1, words: limitAlone }],
  },
  {
    ...{ workload: 'idle', key: 'cpu', ours: oursDefault.name },
    work: { en: 'nothing happens: CPU of a core', 'zh-CN': '没有变化：单核 CPU' },
    goals: [{ index: 0, words: limitAlone }],
  },
  {
    ...{ workload: 'up', key: 'probe', ours: oursAtOnce.name },
    isShort: true,
    work: { en: 'from the start until changes are mirrored', 'zh-CN': '从启动到开始镜像变化' },
  },
  {
    ...{ workload: 'restart', key: 'probe', ours: oursAtOnce.name },
    work: { en: 'the same at a restart, with equal trees', 'zh-CN': '同上，重启且两端一致' },
    goals: [{ index: 0, words: toLsyncd }],
  },
];

/** The other columns: the mirrors by how their names begin, of which the first that took part counts. */
const OTHERS: { title: Words; names: string[] }[] = [
  { title: { en: 'lsyncd', 'zh-CN': 'lsyncd' }, names: ['lsyncd rsyncssh, delay 0'] },
  { title: { en: 'Unison', 'zh-CN': 'Unison' }, names: ['Unison'] },
  { title: { en: 'Syncthing', 'zh-CN': 'Syncthing' }, names: ['Syncthing'] },
  { title: { en: 'plain loop', 'zh-CN': '简单循环' }, names: ['plain loop, interval 0', 'plain loop'] },
  { title: { en: 'bare rsync', 'zh-CN': '直接 rsync' }, names: ['bare rsync -az', 'bare rsync'] },
];
const GOAL: Words = { en: 'goal', 'zh-CN': '目标' };

/** Those that took part in anything. */
const othersIn = (sections: Section[]) => {
  const names = sections.flatMap(({ rows }) => rows.map(({ name }) => name));
  return OTHERS.filter((other) => names.some((name) => other.names.some((start) => name.startsWith(start))));
};

function cell(value: Value | undefined, unit: string, language: Language): string {
  if (typeof value === 'number') return `${shown(value)}${unit}`;
  if (value === undefined || language === 'en') return value ?? '–';
  return value.replace(/^never \(within (\S+) s\)$/, '$1 秒内没有').replace(/^failed$/, '失败');
}

function goalText({ limit, value, met }: Goal, words: string, unit: string): string {
  if (value === '–') return '–';
  const said = words.replace('{limit}', String(limit)).replace('{unit}', unit).replace('{value}', shown(value));
  return `${said} ${met ? '✓' : '✗'}`;
}

function rowOf(kind: Kind, { columns, rows, goals }: Section, others: typeof OTHERS, language: Language): string[] {
  const { key, ours, work } = kind;
  const unitOf = columns.find((column) => column.key === key)?.unit ?? '';
  const unit = unitOf && ` ${unitOf}`;
  const of = (name: string) => rows.find((row) => row.name.startsWith(name))?.values[key];
  const values = others.map(({ names }) => names.map(of).find((value) => value !== undefined));
  const told = (kind.goals ?? []).flatMap(({ index, words }) => {
    const measured = goals[index];
    return measured ? [goalText(measured, words[language], unit)] : [];
  });
  return [
    work[language],
    ...[of(ours), ...values].map((value) => cell(value, unit, language)),
    told.join(language === 'en' ? '; ' : '；') || '–',
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

type Extent = 'all' | 'short';

/** A table and where it was measured; a kind of work that was not measured is left out, and of the short one the goals. */
function tableOf(extent: Extent, machine: Machine, sections: Section[], language: Language): string {
  const others = othersIn(sections);
  const head = ['', 'rsync-inotify', ...others.map(({ title }) => title[language]), GOAL[language]];
  const body = KINDS.filter(({ isShort }) => isShort || extent === 'all').flatMap((kind) => {
    const section = sections.find(({ workload }) => workload === kind.workload);
    return section?.columns.some(({ key }) => key === kind.key) ? [rowOf(kind, section, others, language)] : [];
  });
  const rows = [head, ...body].map((row) => (extent === 'all' ? row : row.slice(0, -1)));
  return `${markdown(rows)}\n\n${measuredOn(machine)[language]}\n`;
}

/** The pages that show results. */
export const PAGES_WITH_RESULTS = ['README', 'docs/benchmark'];

/** A page with these results in the place of those that it has. */
export const withResults = (page: string, machine: Machine, sections: Section[], language: Language): string =>
  page.replace(
    /(<!-- bench:(all|short) -->\n)[\s\S]*?(?=<!-- \/bench -->)/g,
    (_, mark: string, extent: Extent) => `${mark}\n${tableOf(extent, machine, sections, language)}\n`,
  );
