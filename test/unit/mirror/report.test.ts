import { describe, expect, test } from 'bun:test';
import { appendFileSync, existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseReport, Report, takeReport } from '../../../src/mirror/report.ts';
import { eventually } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';
import { transfer } from './transfer.ts';

describe('what rsync reports of a transfer', () => {
  test.each(['-a', '-av', '-avh', '-aq', '-avv --stats'])('%s: files and bytes', (options) => {
    transfer(options.split(' '), (report) => {
      const { files, bytes = 0 } = parseReport(report);
      expect(files).toBe(4);
      expect(bytes).toBeWithin(350_000, 353_000); // 350,000 bytes of files
    });
  });

  test('in the manner of a locale, or not at all', () => {
    const line = (sent: string, received: string) =>
      `2026/11/22 20:00:00 [7] sent ${sent} bytes  received ${received} bytes  1.00 bytes/sec\n`;
    expect(parseReport(line('1,234,567', '35')).bytes).toBe(1_234_602);
    expect(parseReport(line('1.234.567', '35')).bytes).toBe(1_234_602);
    expect(parseReport(line('1.23K', '35')).bytes).toBe(1265);
    expect(parseReport(line('1,23M', '1.00K')).bytes).toBe(1_231_000);
    expect(parseReport('2026/11/22 20:00:00 [7] building file list\n')).toEqual({});
  });
});

test('the report of an rsync is read once, and is nothing where it has gone with the connection', () => {
  using directory = scratch();
  const path = join(directory.path, '1.log');
  const sent = '2026/11/22 20:00:00 [7] sent 1,000 bytes  received 35 bytes  1.00 bytes/sec';
  writeFileSync(path, `2026/11/22 20:00:00 [7] <f+++++++++\n${sent}\n`);
  expect(takeReport(path)).toEqual({ files: 1, bytes: 1035, created: 1, deleted: 0, directories: 0 });
  expect(existsSync(path)).toBe(false);
  expect(takeReport(path)).toEqual({});
});

test('the report of an rsync is read in pieces, however much the backup has had it write down', () => {
  using directory = scratch();
  const path = join(directory.path, '1.log');
  const head = '2026/11/22 20:00:00 [7]';
  const entries = `${head} <f+++++++++\n${head} *deleting   x\n${head} deleting y/\n`.repeat(30_000);
  const end = `${head} Number of files: 1,250 (reg: 1,000)\n${head} sent 1,000 bytes  received 35 bytes  1.00 bytes/sec\n`;
  writeFileSync(path, `${entries}${head} ${'e'.repeat(3_000_000)}\n${end}`);
  const counts = { files: 30_000, created: 30_000, deleted: 60_000, directories: 30_000 };
  expect(takeReport(path)).toEqual({ ...counts, bytes: 1035, listed: 1250 });
});

test('a report that has become too long is emptied, and says nothing but how many files there are', async () => {
  using directory = scratch();
  const path = join(directory.path, '1.log');
  const line = '2026/11/22 20:00:00 [7] *deleting   x\n';
  const report = new Report(path, 1000);
  writeFileSync(path, line.repeat(100));
  await eventually(() => statSync(path).size === 0);
  appendFileSync(path, line);
  expect(report.take()).toEqual({});
  expect(existsSync(path)).toBe(false);
  writeFileSync(path, line);
  expect(new Report(path, 1000).take()).toEqual({ created: 0, deleted: 1, directories: 0 });
  const long = new Report(path, 1000);
  writeFileSync(path, line.repeat(100));
  await eventually(() => statSync(path).size === 0);
  appendFileSync(path, `${line}2026/11/22 20:00:00 [7] Number of files: 3,000,001 (reg: 3,000,000, dir: 1)\n`);
  expect(long.take()).toEqual({ listed: 3_000_001 });
});
