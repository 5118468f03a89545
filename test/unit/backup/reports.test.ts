import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Reports } from '../../../src/backup/reports.ts';
import { announce, sendReport } from '../../../src/backup/session-reports.ts';
import { complaints } from '../../../src/service/status.ts';
import { eventually } from '../../processes.ts';

/** Commands that are all refused for the same reason are told once, until that is over, and all are counted. */
async function isToldOnce(reports: Reports): Promise<void> {
  const tellings = () => complaints.filter(({ message }) => message.includes('barred')).map(({ count }) => count);
  for (const name of ['first', 'second', 'third']) await sendReport('barred', `barred, ${name}`);
  await eventually(() => reports.report() === 5);
  expect(tellings()).toEqual([1]);
  expect(complaints[0]?.message).toBe('拒绝执行源端的命令：barred, first（同样原因的不再逐条记录）');
  reports.renewBar();
  await sendReport('barred', 'barred, again');
  await eventually(() => tellings().length === 2);
  await sendReport('promoted', 'taken over'); // as all are, and nobody has done wrong
  expect(reports.report()).toBe(6);
}

/** Many are counted, and those that are refused because too many run are told apart from those that are refused for what they are. */
async function isToldUpTo(reports: Reports, most: number): Promise<void> {
  const toldOf = (name: string) => complaints.filter(({ message }) => message.includes(name)).length;
  for (let n = 0; n < most + 5; n++) await sendReport('refused', `one of many, ${n}`);
  await eventually(() => reports.report() === 6 + most + 5);
  expect(complaints[0]?.message).toEndWith('（此类记录一小时内不再逐条写入，只计数）');
  expect(toldOf('one of many')).toBe(most - 2); // two were refused before
  await sendReport('crowded', 'too many');
  await eventually(() => toldOf('too many') === 1);
}

test('reports of sessions are told, and only commands that were refused are counted as such', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'reports-'));
  const { START_SSHD_REPORTS } = process.env;
  process.env.START_SSHD_REPORTS = join(directory, 'reports');
  const told = (event: string, message: string) =>
    eventually(() => complaints[0]?.event === event && complaints[0].message === message);
  try {
    await sendReport('refused', 'nobody listens');
    const reports = new Reports();
    await reports.listen(join(directory, 'reports'));
    await sendReport('refused', 'no shell\nforged\u001b[2J');
    await told('command.refused', '拒绝执行源端的命令：no shell\\nforged\\x1b[2J');
    expect(reports.report()).toBe(1);
    await sendReport('unprotected', '可能打开备份内的设备文件：mount_setattr');
    await told('command.unprotected', '源端的命令可能打开备份内的设备文件：mount_setattr');
    expect(reports.report()).toBe(1);
    for (let n = 0; n < 3; n++) await sendReport('reordered', '');
    await eventually(() => complaints[0]?.event === 'command.reordered');
    expect(complaints[0]?.count).toBe(1);
    await sendReport('refused', 'x'.repeat(1_000_000));
    await eventually(() => reports.report() === 2);
    expect(complaints[0]?.message.length).toBeLessThan(2100);
    await isToldOnce(reports);
    expect(await announce('/data/backup', 'one@web1')).toBe('[]');
    expect(announce('/data/backup', 'one@web 1')).rejects.toThrow('源端的名称无效');
    expect(reports.report()).toBe(6);
    await isToldUpTo(reports, 20);
  } finally {
    process.env.START_SSHD_REPORTS = START_SSHD_REPORTS ?? '';
    rmSync(directory, { recursive: true });
  }
});

test('what one source says is not told of another one: neither who mirrors where, nor what was refused', () => {
  const reports = new Reports();
  for (let n = 0; n < 50; n++) reports.of('web1').complain('refused', `flood of web1, ${n}`);
  reports.of('web2').complain('refused', 'the only one of web2');
  const told = (text: string) => complaints.filter(({ message }) => message.includes(text)).length;
  expect(told('flood of web1')).toBeLessThanOrEqual(20);
  expect(told('源端 web2：拒绝执行源端的命令：the only one of web2')).toBe(1);
  expect([reports.of('web1').refused, reports.of('web2').refused, reports.of().refused, reports.report()]).toEqual([
    50, 1, 0, 51,
  ]);
  expect(reports.of('web1').greet('one thief (192.0.2.1) /data/backup/web2')).toBe('[]');
  expect(reports.of('web2').greet('two web2 (192.0.2.2) /data/backup/web2')).toBe('[]');
  expect(reports.of('no name')).toBe(reports.of());
});

test('sources that are there no more take no place from those that come later, of which each may read by its own leave', () => {
  const reports = new Reports();
  reports.of().leave.give(60_000);
  for (let n = 0; n < 1000; n++) {
    reports.of(`web${n}`).leave.give(60_000);
    reports.keepOnly([`web${n}`]);
  }
  expect(reports.of('web999').leave.report()).not.toBeNull();
  expect(reports.of('web1000').leave.report()).toBeNull();
  expect(reports.of().leave.report()).not.toBeNull();
  reports.keepOnly(['']);
  expect(reports.of('web999').leave.report()).toBeNull();
  reports.of().leave.give(0);
});
