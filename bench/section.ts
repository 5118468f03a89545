/** What a workload has to tell: a table of mirrors by measured values, with goals. */
import type { Mirror } from './mirrors.ts';
import { tell } from './progress.ts';
import { limited, TimeOver } from './scope.ts';

/** A number, or why there is none. */
export type Value = number | string;

export interface Row {
  name: string;
  role: Mirror['role'];
  /** The name of the row that it is compared with as its floor, where that is not the first one. */
  floor?: string;
  values: Record<string, Value>;
  /** What the values were taken from, where they are more than one number. */
  samples?: Record<string, number[]>;
}

export interface Column {
  key: string;
  title: string;
  unit: 'ms' | 's' | 'MiB' | '%' | '';
}

export interface Goal {
  text: string;
  value: Value;
  limit: number;
  met: boolean;
}

export interface Section {
  workload: string;
  /** How long it took to measure, s. */
  seconds?: number;
  title: string;
  note: string;
  columns: Column[];
  rows: Row[];
  /** The column whose ratios are shown: ours to the floor, the peers to `base`. */
  ratioOf: string;
  /** The name of our row that the peers are compared with. */
  base: string;
  goals: Goal[];
}

/** Adds a sample to those that there are under a name. */
export function append(samples: Record<string, number[]>, key: string, value: number): void {
  samples[key] = [...(samples[key] ?? []), value];
}

export function goal(text: string, value: Value, limit: number): Goal {
  return { text, value, limit, met: typeof value === 'number' && value <= limit };
}

export const never = (ms: number): string => `never (within ${ms / 1000} s)`;

export function ratio(value: Value | undefined, base: Value | undefined): Value {
  return typeof value === 'number' && typeof base === 'number' ? value / base : '–';
}

/** The value below or at which the share `p` of the samples lies; of few samples, p99 is the slowest. */
export function percentile(samples: number[], p: number): Value {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * p) - 1)] ?? '–';
}

/** What stands in the place of a value that could not be measured; says on standard error what has happened. */
export function failureOf(error: unknown): string {
  console.error(error);
  return error instanceof TimeOver ? never(error.ms) : 'failed';
}

/** The row of a mirror that could not be measured. */
export function failedRow({ name, role }: Mirror, columns: Column[], error: unknown): Row {
  const failure = failureOf(error);
  tell(`  ${name} is left out`);
  return { name, role, values: Object.fromEntries(columns.map(({ key }) => [key, failure])) };
}

/** What takes a mirror longer hangs, ms. */
const ROW_MS = 300_000;

/** Measures a mirror; one that fails or hangs does not keep the others from being measured. */
export async function rowOf(
  mirror: Mirror,
  columns: Column[],
  measure: () => Promise<Pick<Row, 'values' | 'samples'>>,
): Promise<Row> {
  tell(`  ${mirror.name}`);
  try {
    return { name: mirror.name, role: mirror.role, ...(await limited(ROW_MS, measure)) };
  } catch (error) {
    return failedRow(mirror, columns, error);
  }
}
