/**
 * How far a comparison of the whole tree has come, as rsync tells it by --info=progress2.
 *
 *   const filter = progressFilter((progress) => log('sync.progress', describeProgress(progress)));
 *   process.stdout.write(filter(chunk));
 */
import { inUnits, t } from '../service/text.ts';

/** While rsync is scanning, there may be more to come. */
export interface Progress {
  percent: number;
  files: number;
  bytes_per_second: number;
  scanning: boolean;
}

/** Reads what rsync says of its progress; in the middle of a file it does not repeat all that it said before. */
export function parseProgress(text: string, before?: Progress): Progress | undefined {
  const form = /\r *[\d.,']+[KMGTP]? +(\d+)% +([\d.,]+)([kMGT]?)B\/s +\S+(?: +\(xfr#(\d+), (ir|to)-chk=)?/;
  const [piece, percent, rate = '', unit = '', files, scan] = form.exec(text) ?? [];
  if (!piece) return undefined;
  const bytes = Number(rate.replace(',', '.')) * 1024 ** ' kMGT'.indexOf(unit || ' ');
  return {
    percent: Number(percent),
    files: Number(files ?? before?.files ?? 0),
    bytes_per_second: Math.round(bytes),
    scanning: scan ? scan === 'ir' : !!before?.scanning,
  };
}

/** Output may follow on the same line: where rsync reports an error, it ends the line on another stream. */
const PROGRESS = /\r *[\d.,']+[KMGTP]? +\d+% +\S+B\/s +[\d:?]+ *(\(xfr#\d+, \w+-chk=\d+\/\d+\))?( *\n)?/g;

/** Takes progress out of rsync's output, in which a carriage return comes before each piece of it, and tells the last. */
export function progressFilter(tell: (progress: Progress) => void): (bytes: string) => string {
  let held = '';
  let before: Progress | undefined;
  return (chunk) => {
    const bytes = held + chunk;
    const last = bytes.lastIndexOf('\r');
    const progress = parseProgress(bytes.slice(Math.max(0, last)), before);
    if (progress) tell(progress);
    before = progress ?? before;
    const end = last < 0 || bytes.includes('\n', last) ? bytes.length : last;
    held = bytes.slice(end);
    return bytes.slice(0, end).replace(PROGRESS, '');
  };
}

/** Adds up how far several rsyncs have come that do parts of the same work. */
export class SumOfProgress {
  private readonly latest = new Map<number, Progress>();

  constructor(
    private readonly count: number,
    private readonly tell: (sum: Progress) => void,
  ) {}

  /** Takes in how far one of them has come. */
  add(part: number, progress: Progress): void {
    this.latest.set(part, progress);
    const all = [...this.latest.values()];
    const add = (key: 'percent' | 'files' | 'bytes_per_second') => all.reduce((sum, it) => sum + it[key], 0);
    this.tell({
      percent: Math.floor(add('percent') / this.count),
      files: add('files'),
      bytes_per_second: add('bytes_per_second'),
      scanning: all.length < this.count || all.some(({ scanning }) => scanning),
    });
  }
}

/** Says for people how far it has come, and how fast. */
function describeRate({ percent, files, bytes_per_second, scanning }: Progress): string {
  const rate = t`${files} 个文件，${inUnits(bytes_per_second)}/s`;
  return t`${percent}%，${rate}${scanning ? t`，仍在扫描` : ''}`;
}

/** Says in a line for people how far a sync has come. */
export const describeProgress = (progress: Progress) => t`同步进度: ${describeRate(progress)}`;

/** Says the same of a restore. */
export const describeRestore = (progress: Progress) => t`恢复进度: ${describeRate(progress)}`;
