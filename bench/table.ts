/** The results as a Markdown document, which reads well in a terminal too. */
import type { Machine } from './machine.ts';
import { type Column, type Goal, type Row, ratio, type Section, type Value } from './section.ts';

/** Three digits at most, one where the number is very small. */
export function shown(value: Value | undefined): string {
  if (typeof value !== 'number') return value ?? '–';
  if (value > 0 && value < 0.095) return value.toPrecision(1);
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return Number(value.toFixed(digits)).toLocaleString('en', { maximumFractionDigits: digits });
}

const heading = ({ title, unit }: Column): string => (unit === '' ? title : `${title}, ${unit}`);
const times = (value: Value): string => (typeof value === 'number' ? `${shown(value)} ×` : value);

/** Lays cells out in columns: the first to the left, numbers to the right. */
export function markdown([head = [], ...body]: string[][]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((row) => (row[column] ?? '').length)));
  const line = (cells: string[]) =>
    `| ${cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(head), line(rule), ...body.map(line)].join('\n');
}

interface RatioColumn {
  title: string;
  of(row: Row): string;
}

/** Ours to the floor, where there is one, and the peers to ours. */
function ratioColumns({ rows, ratioOf, base }: Section): RatioColumn[] {
  const floors = rows.filter(({ role }) => role === 'floor');
  const ours = rows.find(({ name }) => name === base);
  const floorOf = (row: Row) => floors.find(({ name }) => name === row.floor) ?? floors[0];
  const column = (title: string, roles: Row['role'][], toOf: (row: Row) => Row | undefined): RatioColumn => ({
    title,
    of: (row) => (roles.includes(row.role) ? times(ratio(row.values[ratioOf], toOf(row)?.values[ratioOf])) : '–'),
  });
  return [
    ...(floors.length > 0 ? [column('÷ floor', ['ours', 'peer'], floorOf)] : []),
    column('÷ ours', ['peer'], () => ours),
  ];
}

const verdict = ({ value, met }: Goal): string => {
  if (met) return '✓ met';
  return value === '–' ? '? not measured' : '✗ missed';
};

/** All goals in one table. */
function goalsOf(sections: Section[]): string[] {
  const body = sections.flatMap(({ title, goals }) =>
    goals.map((each) => [`${title}: ${each.text}`, shown(each.value), `≤ ${each.limit}`, verdict(each)]),
  );
  return body.length > 0 ? ['### Goals', markdown([['', 'measured', 'goal', ''], ...body])] : [];
}

function tableOf(section: Section): string {
  const { columns, rows } = section;
  const of = columns.find(({ key }) => key === section.ratioOf)?.title;
  const ratios = ratioColumns(section);
  const head = ['', ...columns.map(heading), ...ratios.map(({ title }) => title)];
  const body = rows.map((row) => [
    row.name,
    ...columns.map(({ key }) => shown(row.values[key])),
    ...ratios.map((each) => each.of(row)),
  ]);
  const goals = section.goals.map(
    (each) => `- ${verdict(each)}: ${each.text}: ${shown(each.value)} (goal: ≤ ${each.limit})`,
  );
  const took = section.seconds === undefined ? '' : ` Took ${section.seconds} s.`;
  const note = `${section.note}${took} Ratios are of “${of}”; peers are compared with ${section.base}.`;
  return [
    `### ${section.title}`,
    note,
    markdown([head, ...body]),
    ...(goals.length > 0 ? [goals.join('\n')] : []),
  ].join('\n\n');
}

function machineLine({ date, cpu, cores, memoryGiB, kernel, fileSystem, versions }: Machine): string {
  const programs = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `Measured ${date} UTC on ${cores} cores of ${cpu}, ${memoryGiB} GiB, Linux ${kernel}, ${fileSystem}; ${programs.join(', ')}.`;
}

/** The whole document; `leftOut` names the peers that could not take part. */
export function document(machine: Machine, sections: Section[], leftOut: string[]): string {
  const missing = leftOut.map((name) => `Left out: ${name}, which is not installed.`);
  return `${[machineLine(machine), ...missing, ...goalsOf(sections), ...sections.map(tableOf)].join('\n\n')}\n`;
}
