/**
 * What is remembered of incidents over restarts, so that nobody is told twice of one, and that its end is told, too.
 *
 *   const memory = new IncidentMemory('/root/.ssh/rsync-inotify-1f0e….reports.json');
 *   memory.data.incidents.open; memory.save();
 */
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readSmallFile, replaceFile } from './files.ts';
import type { Incident, Incidents } from './incidents.ts';
import { warn } from './log.ts';
import { escapeText, reasonOf, t } from './text.ts';

/** How large the file may be, bytes. */
const MAX_BYTES = 4_000_000;

interface Remembered {
  incidents: Incidents;
  /** When each receiver may be sent something again, ms since 1970. */
  next: Record<string, number>;
  /** When all of this was written down, ms since 1970. */
  saved: number;
}

const isRecord = (it: unknown): it is Record<string, unknown> =>
  typeof it === 'object' && it !== null && !Array.isArray(it);
const isTexts = (it: unknown) => Array.isArray(it) && it.every((item) => typeof item === 'string');

function isIncident(it: unknown): it is Incident {
  if (!isRecord(it)) return false;
  const { problem, target = '', source = '', text, since, gone = 0, wrong, calm, told } = it;
  const isTime = (item: unknown) => Number.isFinite(item) && Math.abs(Number(item)) < 1e15;
  const isSpan = (item: unknown) => isTime(item) && Number(item) >= 0;
  return (
    isTime(since) &&
    isTime(gone) &&
    isSpan(wrong) &&
    isSpan(calm) &&
    isTexts([problem, target, source, text]) &&
    isTexts(told)
  );
}

/** Whether it has the form of what is remembered. */
function isRemembered(it: unknown): it is Remembered {
  if (!isRecord(it) || !isRecord(it.incidents) || !isRecord(it.next) || !Number.isFinite(it.saved)) return false;
  const { open, closed } = it.incidents;
  if (!isRecord(open) || !Array.isArray(closed)) return false;
  const isClosed = (item: unknown) => isRecord(item) && isIncident(item.incident) && isTexts(item.awaiting);
  return (
    Object.values(open).every(isIncident) && closed.every(isClosed) && Object.values(it.next).every(Number.isFinite)
  );
}

/** Names the file of a service: several may share a directory of keys. @param place what tells them apart */
export function incidentFile(directory: string, program: string, place: string): string {
  const name = new Bun.CryptoHasher('sha256')
    .update(place.replace(/(?<=.)\/$/, ''))
    .digest('hex')
    .slice(0, 16);
  return join(directory, `${program}-${name}.reports.json`);
}

export class IncidentMemory {
  readonly data: Remembered;
  private isBroken = false;

  constructor(private readonly path: string) {
    this.data = this.read() ?? { incidents: { open: {}, closed: [] }, next: {}, saved: 0 };
  }

  private read(): Remembered | undefined {
    try {
      const read: unknown = JSON.parse(readSmallFile(this.path, MAX_BYTES));
      if (isRemembered(read)) return read;
      throw new Error(t`内容不是本程序写入的`);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
        warn('notify.forgotten', t`无法读取 ${escapeText(this.path)}，不记得已报告过的故障：${reasonOf(cause)}`);
      return undefined;
    }
  }

  /** Writes it down. Where that is not possible, it is told once, and nothing is forgotten until the next start. */
  save(): void {
    this.data.saved = Date.now();
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
      replaceFile(this.path, `${JSON.stringify(this.data)}\n`, 0o600);
      this.isBroken = false;
    } catch (cause) {
      const what = t`无法保存 ${escapeText(this.path)}：${reasonOf(cause)}`;
      if (!this.isBroken) warn('notify.forgotten', t`${what}。重启后，仍在持续的故障会再报告一次`);
      this.isBroken = true;
    }
  }
}
