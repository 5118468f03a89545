/**
 * What an rsync puts down of its work in a log of its own, which goes with the connection. rsync puts down there, too, what the
 * backup has it say.
 *
 *   const report = new Report('/run/rsync-inotify-Xy/1.log');
 *   start('rsync', ['--log-file=/run/rsync-inotify-Xy/1.log', …]).once('close', () => report.take());
 */
import { closeSync, openSync, readSync, rmSync, statSync, truncateSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { lifecycle } from '../service/lifecycle.ts';
import type { Entries, Totals } from './rsync.ts';

/** How large it may become, bytes, in what may be memory: a million files that were sent take 60 MB. */
const MAX_REPORT = 100_000_000;
/** How often it is looked at once a request to stop has ended the beats, ms. */
const LOOK_MS = 1000;

export class Report {
  private isTaken = false;
  private isTooLong = false;

  /** @param most how large it may become, bytes; then it is emptied, and what it has told until then is not known */
  constructor(
    private readonly path: string,
    most = MAX_REPORT,
  ) {
    lifecycle.background(this.watch(most));
  }

  private async watch(most: number): Promise<void> {
    while (!this.isTaken) {
      await (lifecycle.signal.aborted ? sleep(LOOK_MS, undefined, { ref: false }) : lifecycle.nextBeat());
      if (!this.isTaken) this.keepShort(most);
    }
  }

  private keepShort(most: number): void {
    try {
      if (statSync(this.path).size <= most) return;
      truncateSync(this.path); // rsync writes on at its end, which is then its beginning
      this.isTooLong = true;
    } catch {} // it is not there yet, or has gone with the connection
  }

  /** Reads it to its end, and removes it. How many files there are, rsync tells last, so that it is known of any number of them. */
  take(): Totals {
    this.isTaken = true;
    const totals = takeReport(this.path);
    if (!this.isTooLong) return totals;
    return totals.listed === undefined ? {} : { listed: totals.listed };
  }
}

/** How much of a report is read at a time, bytes: it holds what the backup says, too, and may be long. */
const BLOCK = 1_000_000;

/** Reads a report, and removes it. */
export function takeReport(path: string): Totals {
  try {
    const totals = { files: 0, created: 0, deleted: 0, directories: 0 };
    let end = '';
    for (const block of blocksOf(path)) {
      const { created = 0, deleted = 0, directories = 0 } = countEntries(block);
      totals.files += countFiles(block);
      totals.created += created;
      totals.deleted += deleted;
      totals.directories += directories;
      end = `${end}${block}`.slice(-BLOCK);
    }
    rmSync(path);
    const { listed } = countEntries(end);
    const { bytes } = parseReport(end);
    const { files, ...entries } = totals;
    return {
      ...entries,
      ...(listed === undefined ? {} : { listed }),
      ...(bytes === undefined ? {} : { files, bytes }),
    };
  } catch {
    return {}; // it is gone with the connection
  }
}

/** Reads a file in blocks of whole lines, bytes in latin1 strings; a line that is longer than a block comes in parts. */
function* blocksOf(path: string): Generator<string> {
  const file = openSync(path, 'r');
  const bytes = Buffer.alloc(BLOCK);
  let rest = '';
  try {
    for (let length = readSync(file, bytes); length > 0; length = readSync(file, bytes)) {
      const text = rest + bytes.toString('latin1', 0, length);
      const end = rest.length > BLOCK ? text.length : text.lastIndexOf('\n') + 1;
      rest = text.slice(end);
      yield text.slice(0, end);
    }
    yield rest;
  } finally {
    closeSync(file);
  }
}

const countFiles = (report: string) => report.match(/\] [<>]f/g)?.length ?? 0;

/** Counts the files that were sent, one line each, and the bytes that went over the network, both ways. */
export function parseReport(report: string): Totals {
  const [, sent, received] = /^\S+ \S+ \[\d+\] sent (\S+) bytes +received (\S+) bytes/m.exec(report) ?? [];
  return sent && received ? { files: countFiles(report), bytes: parseAmount(sent) + parseAmount(received) } : {};
}

/** Counts what was created and deleted, one line each, and reads how many there are where the statistics say so. */
export function countEntries(report: string): Entries {
  const created = report.match(/^\S+ \S+ \[\d+\] [<>ch.][fdLDS]\+{9}/gm)?.length ?? 0;
  const deleted = report.match(/^\S+ \S+ \[\d+\] \*?deleting /gm)?.length ?? 0;
  const directories = report.match(/^\S+ \S+ \[\d+\] \*?deleting .*\/$/gm)?.length ?? 0;
  const [, listed] = /^\S+ \S+ \[\d+\] Number of files: (\S+)/m.exec(report) ?? [];
  return { created, deleted, directories, ...(listed === undefined ? {} : { listed: parseAmount(listed) }) };
}

/** Reads a number as rsync writes it: `1,234`, or with -h `1.23K`. */
function parseAmount(text: string): number {
  const [, number = '', unit = ''] = /^([\d.,']+)([KMGTP]?)$/.exec(text) ?? [];
  if (!unit) return Number(number.replace(/\D/g, ''));
  return Math.round(Number(number.replace(',', '.')) * 1000 ** ('KMGTP'.indexOf(unit) + 1));
}
