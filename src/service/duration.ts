/**
 * How long something is to last, as people write it.
 *
 *   parseDuration('90s'); // 90000
 */
import { escapeText, Failure, t } from './text.ts';

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** How long it may be, ms: what is temporary ends within a week. */
export const MAX_DURATION_MS = 7 * 86_400_000;

/** Reads `90s`, `10m`, `2h` or `1d`; returns ms. @throws {Failure} on anything else, or more than a week (status 2) */
export function parseDuration(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const ms = Number(number || Number.NaN) * (UNITS[unit] ?? Number.NaN);
  if (ms <= MAX_DURATION_MS) return ms;
  throw new Failure(
    t`用法错误: ${escapeText(text)} 应为整数加单位 s、m、h 或 d，不超过 7d，例如 90s、10m、2h 或 1d`,
    2,
  );
}
