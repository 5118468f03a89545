/** Plots for the page of the benchmark, readable on a light and on a dark page: nothing is painted behind them. */
import { type EChartsCoreOption, init } from 'echarts';
import type { Row, Section } from './section.ts';

const GREY = '#848d97';
/** Each mirror has its colour everywhere. */
const COLOURS: [RegExp, string][] = [
  [/^rsync-inotify, default/, '#1f883d'],
  [/^rsync-inotify/, '#2da44e'],
  [/^lsyncd/, '#d9822b'],
  [/^Unison/, '#bf3989'],
  [/^Syncthing/, '#1b7c83'],
  [/^plain/, '#a371f7'],
  [/^bare/, GREY],
];

const colourOf = (name: string) => COLOURS.find(([pattern]) => pattern.test(name))?.[1] ?? GREY;
const textStyle = { color: GREY, fontFamily: 'Arial, Helvetica, sans-serif', fontSize: 13 };
const splitLine = { lineStyle: { color: GREY, opacity: 0.25 } };
const axisLine = { lineStyle: { color: GREY } };
const nameOfAxis = { nameLocation: 'middle', nameGap: 30, nameTextStyle: textStyle, axisLabel: textStyle };

function svg(section: Section, height: number, option: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 760, height });
  const title = { text: section.title, left: 'center', textStyle: { ...textStyle, fontSize: 15 } };
  chart.setOption({ animation: false, backgroundColor: 'transparent', textStyle, title, ...option });
  const text = chart.renderToSVGString();
  chart.dispose();
  return text;
}

const numberOf = (row: Row, key: string) => {
  const value = row.values[key];
  return typeof value === 'number' ? value : undefined;
};

const rounded = (value: number) => Number(value.toPrecision(3)).toLocaleString('en');

/** What stands beside a bar: the number, or why there is none. */
function labelOf(row: Row, key: string, unit: string): string {
  const [value, p99] = [numberOf(row, key), numberOf(row, 'p99')];
  if (value === undefined) return String(row.values[key]);
  return `${rounded(value)} ${unit}${p99 === undefined ? '' : `  (p99 ${rounded(p99)})`}`;
}

/** One bar a mirror, in the order of the table. */
function bars(section: Section, key: string, unit: string): string {
  const rows = section.rows.toReversed();
  const data = rows.map((row) => ({
    value: numberOf(row, key) ?? 0,
    itemStyle: { color: colourOf(row.name) },
    label: { formatter: labelOf(row, key, unit) },
  }));
  const names = rows.map(({ name }) => name);
  return svg(section, 70 + 34 * rows.length, {
    grid: { left: 240, right: 150, top: 40, bottom: 20 },
    xAxis: { type: 'value', show: false },
    yAxis: { type: 'category', data: names, axisLabel: textStyle, axisLine, axisTick: { show: false } },
    series: [{ type: 'bar', data, barWidth: 18, label: { show: true, position: 'right', ...textStyle } }],
  });
}

function lines(
  section: Section,
  pointsOf: (row: Row) => number[][],
  x: object,
  y: object,
  showSymbol: boolean,
): string {
  return svg(section, 420, {
    legend: { bottom: 0, width: 560, itemGap: 24, textStyle },
    grid: { left: 70, right: 40, top: 45, bottom: 105 },
    xAxis: { ...nameOfAxis, axisLine, splitLine: { show: false }, type: 'log', ...x },
    yAxis: { ...nameOfAxis, nameGap: 50, splitLine, ...y },
    series: section.rows.map((row) => ({
      ...{ type: 'line', name: row.name, data: pointsOf(row), showSymbol, symbol: 'circle', symbolSize: 8 },
      ...{
        color: colourOf(row.name),
        lineStyle: { width: 2, type: row.name.includes('default') ? 'dashed' : 'solid' },
      },
    })),
  });
}

function treesPlot(section: Section): string {
  const points = (row: Row) =>
    section.columns.flatMap(({ key }) => {
      const value = numberOf(row, key);
      return value === undefined ? [] : [[Number(key), value]];
    });
  const x = { name: 'files in the tree', min: 'dataMin', max: 'dataMax' };
  return lines(section, points, x, { type: 'log', name: 'ms' }, true);
}

/** How much of the time the backup was at most so old. */
function lagPlot(section: Section): string {
  const points = (row: Row) => {
    const lags = (row.samples?.lag ?? []).toSorted((a, b) => a - b);
    return lags.map((lag, index) => [Math.max(1, lag), (100 * (index + 1)) / lags.length]);
  };
  const y = { type: 'value', name: '% of the time', max: 100 };
  return lines(section, points, { name: 'age of the backup at most, ms' }, y, false);
}

const PLOTS: Record<string, (section: Section) => string> = {
  latency: (section) => bars(section, 'p50', 'ms'),
  burst: (section) => bars(section, 'equal', 's'),
  trees: treesPlot,
  sustained: lagPlot,
};

/** The plots by workload, for those workloads that have one. */
export function plotsOf(sections: Section[]): [string, string][] {
  return sections.flatMap((section): [string, string][] => {
    const plot = PLOTS[section.workload];
    return plot ? [[section.workload, plot(section)]] : [];
  });
}
