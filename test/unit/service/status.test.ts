import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { error, warn } from '../../../src/service/log.ts';
import {
  ageOf,
  checkHealth,
  complaints,
  describeComplaints,
  NoStatus,
  onShow,
  Publisher,
  readStatusFile,
  StateFile,
  showNow,
  touch,
} from '../../../src/service/status.ts';
import { keepLog } from '../mirror/stand-ins.ts';
import { scratch } from './scratch.ts';

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  log = keepLog();
});
afterEach(() => {
  log[Symbol.dispose]();
  jest.useRealTimers();
});

describe('the state', () => {
  /** A publisher on a clock that stands still: how often it has published, and what. */
  function publishing() {
    jest.useFakeTimers();
    const published: string[] = [];
    const state = { value: 0 };
    const publisher = new Publisher(() => state);
    publisher.on('published', () => published.push(publisher.shown));
    return { published, state, publisher };
  }

  test('is published 500 ms after it has changed, however often it changes, as it is then', () => {
    const { published, state } = publishing();
    for (let n = 1; n <= 499; n++) {
      state.value = n;
      touch();
      jest.advanceTimersByTime(1);
    }
    expect(published).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(published).toEqual(['{"value":499}']);
    jest.advanceTimersByTime(2000);
    expect(published).toHaveLength(1);
    touch();
    jest.advanceTimersByTime(499);
    expect(published).toHaveLength(1);
    jest.advanceTimersByTime(1);
    expect(published).toHaveLength(2);
  });

  test('is on one line, in which nothing controls the terminal of who looks at the file', () => {
    jest.useFakeTimers();
    const publisher = new Publisher(() => ({ name: '\u009b\u202e\u2028' }));
    publisher.publish();
    expect(publisher.shown).toBe('{"name":"\\u009b\\u202e\\u2028"}');
  });

  test('is published every 10 s where nothing changes', () => {
    const { published } = publishing();
    jest.advanceTimersByTime(9999);
    expect(published).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(published).toHaveLength(1);
    jest.advanceTimersByTime(30_000);
    expect(published).toHaveLength(4);
  });

  test('is published at once where that is asked for, and then not once more for the same change', () => {
    const { published, publisher } = publishing();
    touch();
    publisher.publish();
    expect(published).toHaveLength(1);
    jest.advanceTimersByTime(1000);
    expect(published).toHaveLength(1);
  });
});

describe('a file with the state', () => {
  test('has what was changed once somebody has waited for it, but on a disk that hangs for no longer than a second', async () => {
    using directory = scratch();
    let content: string | Promise<string> = 'as it is now';
    const file = new StateFile('STATUS_FILE', join(directory.path, 'status.json'), () => content);
    const end = onShow(() => file.write());
    await showNow();
    expect(readFileSync(join(directory.path, 'status.json'), 'utf8')).toBe('as it is now');
    const hanging = Promise.withResolvers<string>();
    content = hanging.promise;
    const started = performance.now();
    await showNow();
    expect(performance.now() - started).toBeGreaterThan(900); // and it has come back
    end();
    hanging.resolve('late');
    await file.write();
  });

  test('holds the newest state, whole, for everybody to read', async () => {
    using directory = scratch();
    const path = join(directory.path, 'new', 'status.json');
    let content = 'first';
    const file = new StateFile('STATUS_FILE', path, () => content);
    await file.write();
    expect(readFileSync(path, 'utf8')).toBe('first');
    expect(statSync(path).mode & 0o777).toBe(0o644);
    content = 'second';
    const writing = [file.write(), file.write()];
    content = 'third';
    writing.push(file.write());
    await Promise.all(writing);
    expect(readFileSync(path, 'utf8')).toBe('third');
    expect(readdirSync(join(directory.path, 'new'))).toEqual(['status.json']);
  });

  test('is written by one at a time: what comes meanwhile waits for one more', async () => {
    using directory = scratch();
    let asked = 0;
    const gates = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
    const path = join(directory.path, 'metrics');
    const file = new StateFile('METRICS_FILE', path, () => gates[asked++]?.promise ?? 'too many');
    const writing = [file.write(), file.write(), file.write()];
    gates[0]?.resolve('old');
    gates[1]?.resolve('new');
    await Promise.all(writing);
    expect(asked).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('new');
  });

  test('is complained of once, until it works again, and leaves nothing half done', async () => {
    using directory = scratch();
    const inTheWay = join(directory.path, 'run');
    writeFileSync(inTheWay, '');
    const path = join(inTheWay, 'status.json');
    const file = new StateFile('STATUS_FILE', path, () => 'state');
    const told = () => log.text.match(/无法写入 STATUS_FILE=/g)?.length ?? 0;
    await file.write();
    await file.write();
    expect(told()).toBe(1);
    expect(log.text).toContain(`STATUS_FILE=${path}：`);
    expect(log.text).toContain('请检查目录和权限，或更改 STATUS_FILE');
    rmSync(inTheWay);
    await file.write();
    expect(readFileSync(path, 'utf8')).toBe('state');
    expect(told()).toBe(1);
    rmSync(path);
    mkdirSync(path); // a file cannot take the place of a directory
    await file.write();
    await file.write();
    expect(told()).toBe(2);
    expect(readdirSync(inTheWay)).toEqual(['status.json']);
  });

  test('is complained of where there is nothing to write, and the old one stays', async () => {
    using directory = scratch();
    const path = join(directory.path, 'metrics');
    writeFileSync(path, 'old');
    const file = new StateFile('METRICS_FILE', path, () => Promise.reject(new Error('no metrics')));
    await file.write();
    expect(log.text).toContain(`无法写入 METRICS_FILE=${path}：no metrics`);
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(directory.path)).toEqual(['metrics']);
  });
});

describe('warnings and errors', () => {
  test('are kept with how often each has come, the newest first, and no more than 20', () => {
    complaints.length = 0;
    warn('a', 'same');
    error('b', 'other');
    warn('a', 'same');
    warn('a', 'same');
    warn('c', 'same');
    const kept = () => complaints.map(({ event, message, level, count }) => [event, message, level, count]);
    expect(kept()).toEqual([
      ['c', 'same', 'warn', 1],
      ['a', 'same', 'warn', 3],
      ['b', 'other', 'error', 1],
    ]);
    for (let n = 0; n < 30; n++) warn('many', `${n}`);
    expect(complaints).toHaveLength(20);
    expect(complaints.map(({ message }) => Number(message))).toEqual(Array.from({ length: 20 }, (_, n) => 29 - n));
    complaints.length = 0;
  });

  test('are shown to people, five of them', () => {
    const complaint = (n: number) => {
      return { time: '2026-11-22T20:00:00Z', level: n % 2 ? 'warn' : 'error', event: 'x', message: `${n}` } as const;
    };
    expect(describeComplaints([])).toEqual([]);
    const lines = describeComplaints([1, 2, 3, 4, 5, 6].map(complaint));
    expect(lines.slice(0, 2)).toEqual(['', '最近的警告和错误:']);
    expect(lines.slice(2).map((line) => line.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/, 'TIME'))).toEqual([
      '  [WARN TIME] 1',
      '  [ERROR TIME] 2',
      '  [WARN TIME] 3',
      '  [ERROR TIME] 4',
      '  [WARN TIME] 5',
    ]);
  });
});

describe('the status of a service', () => {
  /** Reads what a file holds, which STATUS_FILE names. */
  function read(content: string | undefined | ((path: string) => unknown), below = '') {
    using directory = scratch();
    const path = join(directory.path, 'status.json');
    if (typeof content === 'function') content(path);
    else if (content !== undefined) writeFileSync(path, content);
    const before = process.env.STATUS_FILE;
    process.env.STATUS_FILE = path + below;
    try {
      return readStatusFile('program', '/nowhere');
    } finally {
      if (before === undefined) delete process.env.STATUS_FILE;
      else process.env.STATUS_FILE = before;
    }
  }
  const refusal = (content: Parameters<typeof read>[0], below?: string): NoStatus | undefined => {
    try {
      read(content, below);
      return undefined;
    } catch (cause) {
      return cause instanceof NoStatus ? cause : undefined;
    }
  };

  test('is what its file says', () => {
    expect(read('{"program":"program","pid":7}')).toMatchObject({ program: 'program', pid: 7 });
  });

  test('holds nothing that begins a line or controls a terminal, whoever has written it', () => {
    const names = ['web\n健康: 正在实时镜像\u001b[2J\u202e'];
    const content = JSON.stringify({ program: 'program', doubled: [{ names }] });
    expect(read(content)).toMatchObject({
      doubled: [{ names: ['web\\u000a健康: 正在实时镜像\\u001b[2J\\u202e'] }],
    });
  });

  test('is absent where there is no file, which says that no service runs', () => {
    expect(refusal(undefined)).toMatchObject({ isAbsent: true, status: 1 });
    expect(refusal('a file', '/below')).toMatchObject({ isAbsent: true });
    expect(refusal(undefined)?.message).toContain('服务没有运行，或 STATUS_FILE 不同');
  });

  test('cannot be read where the file holds something else', () => {
    expect(refusal('{"program":"other"}')).toMatchObject({ isAbsent: false });
    expect(refusal('{"program":"other"}')?.message).toContain('是 other 的状态');
    for (const content of ['', '{', 'null']) expect(refusal(content)).toMatchObject({ isAbsent: false });
  });

  test('is not waited for where there is a pipe, and not read where there is a huge file', () => {
    const reason = '应为不超过 64000000 字节的普通文件';
    expect(refusal((path) => spawnSync('mkfifo', [path]))?.message).toContain(reason);
    expect(refusal((path) => spawnSync('truncate', ['-s', '10G', path]))?.message).toContain(reason);
  });

  test('says nothing any more where it is older than 30 s, or comes from the future', () => {
    const now = Date.parse('2026-11-22T20:00:00Z');
    const age = (seconds: number) => {
      const updated = new Date(now - 1000 * seconds).toISOString();
      return ageOf({ program: '', version: '', pid: 1, started: '', updated }, now);
    };
    expect(age(30)).toEqual({ age: 30, isStale: false });
    expect(age(30.1)).toEqual({ age: 30, isStale: true });
    expect(age(-30)).toEqual({ age: -30, isStale: false });
    expect(age(-31)).toEqual({ age: -31, isStale: true });
  });

  test('is judged in a line, by the exit status too, and a missing one is not healthy', () => {
    expect(checkHealth(() => ({ healthy: true, line: 'fine' }))).toEqual({ text: 'fine\n', status: 0 });
    expect(checkHealth(() => ({ healthy: false, line: 'bad' }))).toEqual({ text: 'bad\n', status: 1 });
    const missing = checkHealth(() => {
      throw new NoStatus('nothing', true);
    });
    expect(missing).toEqual({ text: '不健康: nothing\n', status: 1 });
  });
});
