import { describe, expect, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { type Activity, activityOf, Stalls } from '../../../src/backup/stalls.ts';
import { eventually } from '../../processes.ts';
import { keepLog } from '../mirror/stand-ins.ts';

const activity = (changes: Partial<Activity> = {}): Activity => ({
  ...{ state: 'waiting', isReceiving: true, isPrompt: true, read: 0, work: '1' },
  ...changes,
});

/** What becomes of a session, 10 s apart, that does at each time what it is told to; as many seconds until it is ended. */
function become(moments: number, does: (moment: number) => Activity[]) {
  using log = keepLog();
  let moment = 0;
  const ended: number[] = [];
  const stalls = new Stalls(
    () => [7],
    () => does(moment),
    () => ended.push(moment * 10),
  );
  const reported: number[] = [];
  for (; moment <= moments && ended.length === 0; moment++) {
    stalls.inspect(moment * 10_000);
    reported.push(stalls.report());
  }
  return { ended: ended[0], reported, log: log.text };
}

describe('a session that stands still', () => {
  test('because a process of it was stopped is ended', () => {
    const { ended, log } = become(10, () => [activity(), activity({ state: 'stopped' })]);
    expect(ended).toBe(30);
    expect(log).toContain('接收镜像的进程 7 已被暂停 30 秒，已结束它，由源端重试');
  });

  test('because its disk does not answer is told once and not ended, and told when it goes on', () => {
    const { ended, reported, log } = become(20, (n) => [activity({ state: 'disk', work: n < 15 ? '1' : '2' })]);
    expect(ended).toBeUndefined();
    expect(reported).toEqual(Array.from({ length: 21 }, (_, n) => Number(n >= 6 && n < 15)));
    expect(log.match(/等待磁盘已 60 秒。请检查 DEST_DIR 所在的磁盘/g)).toHaveLength(1);
    expect(log).toContain('接收镜像的进程 7 又有进展 ✓');
  });

  test('in the midst of its work, for nobody sends it anything, is ended much later', () => {
    const { ended, log } = become(200, () => [activity(), activity()]);
    expect(ended).toBe(900);
    expect(log).toContain('等待源端已 900 秒');
  });

  test('for its source reads a large file, of which it sends nothing, is given the time that this takes', () => {
    const { ended } = become(300, () => [activity({ read: 10_000_000_000 }), activity()]);
    expect(ended).toBe(1900);
  });

  test.each<[string, (moment: number) => Activity[]]>([
    ['waits for names', () => [activity()]],
    ['waits for a source that may have a huge file to read', () => [activity(), activity({ isPrompt: false })]],
    ['is a shell of somebody who has stopped what he runs', () => [activity({ state: 'stopped', isReceiving: false })]],
    ['works', () => [activity({ state: 'working' }), activity()]],
    ['goes on now and then', (n) => [activity({ state: 'disk', work: String(n >> 2) })]],
    ['is gone', () => []],
  ])('is left alone where it %s', (_, does) => {
    const { ended, reported } = become(300, does);
    expect({ ended, told: Math.max(...reported) }).toEqual({ ended: undefined, told: 0 });
  });
});

describe('what a process does', () => {
  test('is found, and that it was stopped', async () => {
    const child = spawn('sleep', ['100']);
    const pid = child.pid ?? 0;
    await eventually(() => activityOf(pid)?.state === 'waiting');
    const before = activityOf(pid)?.work;
    child.kill('SIGSTOP');
    await eventually(() => activityOf(pid)?.state === 'stopped');
    expect(activityOf(pid)).toEqual({
      state: 'stopped',
      isReceiving: false,
      isPrompt: false,
      read: activityOf(pid)?.read ?? 0,
      work: before ?? '',
    });
    child.kill('SIGKILL');
    await eventually(() => activityOf(pid) === undefined || activityOf(pid)?.state === 'working');
  });

  test('tells how much it has read', async () => {
    const child = spawn('sh', ['-c', 'while :; do read -r line </proc/version; done']);
    await eventually(() => (activityOf(child.pid ?? 0)?.read ?? 0) > 100_000);
    child.kill('SIGKILL');
  });

  test('changes its work while it does something', async () => {
    const child = spawn('sh', ['-c', 'while :; do :; done']);
    const before = activityOf(child.pid ?? 0)?.work;
    await eventually(() => activityOf(child.pid ?? 0)?.work !== before);
    child.kill('SIGKILL');
  });

  test.each([
    [['--server', '-vlogDtpre.iLsfxCIvu', '.', '/x'], true],
    [['--server', '-vlogDtprce.iLsfxIvu', '.', '/x'], false],
    [['--server', '--checksum', '-vre.iLsf'], false],
    [['--server', '-vlogDtpre.iLsfxCIvu', '--append', '--append', '.', '/x'], false],
    [['-r', 'a', 'b'], false],
  ])('is receiving what comes at once: rsync %p', async (words, isPrompt) => {
    const child = spawn('sh', ['-s', '--', ...words], { argv0: 'rsync' });
    await eventually(() => activityOf(child.pid ?? 0)?.state === 'waiting');
    expect(activityOf(child.pid ?? 0)).toMatchObject({ isPrompt, isReceiving: words.includes('--server') });
    child.kill('SIGKILL');
  });
});
