import { afterEach, describe, expect, jest, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Backoff, lifecycle, newBackoff, shared } from '../../../src/service/lifecycle.ts';
import { cleanEnv, Program } from '../../processes.ts';
import { ROOT } from '../../project.ts';
import { scratch } from './scratch.ts';

setDefaultTimeout(60_000);

/** What every program below begins with. */
const BEGINNING = `
import { setTimeout as sleep } from 'node:timers/promises';
import { lifecycle } from '${ROOT}/src/service/lifecycle.ts';
import { start } from '${ROOT}/src/service/processes.ts';
import { Failure } from '${ROOT}/src/service/text.ts';
const say = (text) => process.stdout.write(text + '\\n');
lifecycle.handleSignals();
`;

/** Runs a program until it says that it is ready, if it is to, sends it signals, and returns its end and what it has printed. */
async function run(code: string, ...signals: NodeJS.Signals[]): Promise<{ status: number | string; lines: string[] }> {
  using directory = scratch();
  const file = join(directory.path, 'program.ts');
  writeFileSync(file, `${BEGINNING}${code}`);
  const program = new Program(process.execPath, ['run', file], { env: { ...cleanEnv(), NO_COLOR: '1' } });
  try {
    if (signals.length > 0) await program.shows('ready\n');
    for (const signal of signals) program.signal(signal);
    const status = await program.exited;
    const lines = program.output.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, 'TIME').split('\n');
    return { status, lines: lines.filter(Boolean) };
  } finally {
    if (program.running) program.signal('SIGKILL');
  }
}

/** Runs a program whose reader takes a rest after the first line; returns the last line that came through. */
function lastLineOf(code: string, seconds = 0.4): string {
  using directory = scratch();
  const file = join(directory.path, 'program.ts');
  writeFileSync(file, `${BEGINNING}${code}`);
  const command = `"$0" run "$1" | (read -r first; sleep ${seconds}; tail -n 1)`;
  const { stdout } = spawnSync('/bin/sh', ['-c', command, process.execPath, file], { encoding: 'utf8' });
  return stdout.trimEnd();
}

describe('a signal to stop', () => {
  const WORK = `
    lifecycle.onStop(async () => { await sleep(50); say('first hook, waiting goes on: ' + !lifecycle.signal.aborted); });
    lifecycle.onStop(async () => say('second hook'));
    lifecycle.onExit(() => say('exit hook'));
    const work = async () => {
      say('ready');
      await lifecycle.pause(60_000);
      say('the wait is over, stopping: ' + lifecycle.stopping);
      await sleep(200);
      say('the work is done');
    };
    lifecycle.background(lifecycle.finishFirst(work()));`;

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
    'has hooks run, then waits end, then work finish: %s',
    async (signal) => {
      expect(await run(WORK, signal)).toEqual({
        status: 0,
        lines: [
          'ready',
          `[TIME] 收到 ${signal}，正在停止服务...`,
          'first hook, waiting goes on: true',
          'second hook',
          'the wait is over, stopping: true',
          'the work is done',
          '[TIME] 服务已停止 ✓',
          'exit hook',
        ],
      });
    },
  );

  test('that comes again changes nothing', async () => {
    const { status, lines } = await run(WORK, 'SIGTERM', 'SIGINT', 'SIGTERM');
    expect(status).toBe(0);
    expect(lines.filter((line) => line.includes('收到'))).toHaveLength(1);
    expect(lines.slice(-3)).toEqual(['the work is done', '[TIME] 服务已停止 ✓', 'exit hook']);
  });

  test('ends the programs that were started, and work that does not end by itself', async () => {
    const { status, lines } = await run(
      `const child = start('sleep', ['1000'], { stdio: 'ignore' });
      child.once('exit', (code, signal) => say('child: ' + signal));
      say('pid ' + child.pid);
      lifecycle.background(lifecycle.finishFirst(new Promise(() => {})));
      setInterval(() => {}, 1000);
      say('ready');`,
      'SIGTERM',
    );
    expect(status).toBe(0);
    const pid = Number(lines[0]?.replace('pid ', ''));
    expect(pid).toBeGreaterThan(1);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect(lines.slice(1)).toEqual([
      'ready',
      '[TIME] 收到 SIGTERM，正在停止服务...',
      'child: SIGTERM',
      '[TIME] 服务已停止 ✓',
    ]);
  });

  test('ends programs that are started while the others end, too', async () => {
    const { status, lines } = await run(
      `lifecycle.onExit(() => say('pid ' + start('sleep', ['1000'], { stdio: 'ignore' }).pid));
      lifecycle.background(lifecycle.pause(60_000));
      say('ready');`,
      'SIGTERM',
    );
    expect(status).toBe(0);
    const pid = Number(lines.at(-1)?.replace('pid ', ''));
    expect(pid).toBeGreaterThan(1);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });

  test('ends a program that is to be abandoned with its own status, and without a word', async () => {
    const code = `lifecycle.abandonOnSignal(2); say('ready'); lifecycle.background(lifecycle.pause(60_000));`;
    expect(await run(code, 'SIGTERM')).toEqual({ status: 2, lines: ['ready'] });
  });
});

describe('a failure', () => {
  test('that the user can mend is told line by line, with its status, once', async () => {
    const { status, lines } = await run(
      `lifecycle.onExit(() => say('exit hook'));
      lifecycle.background(Promise.reject(new Failure('first\\nsecond', 2)));
      lifecycle.background(Promise.reject(new Failure('no more', 3)));
      setInterval(() => {}, 1000);`,
    );
    expect(lines).toEqual(['[ERROR TIME] first', '[ERROR TIME] second', 'exit hook']);
    expect(status).toBe(2);
  });

  test('of the program itself is told with where it came from, safe to print: status 1', async () => {
    const { status, lines } = await run(`lifecycle.background(Promise.reject(new Error('bad \\x1b[31m thing')));`);
    expect(status).toBe(1);
    expect(lines[0]).toBe('[ERROR TIME] Error: bad \\x1b[31m thing');
    expect(lines.slice(1).join('\n')).toContain('program.ts');
    for (const line of lines) expect(line).toStartWith('[ERROR TIME] ');
  });
});

describe('an end', () => {
  const answering = (text: string) => `lifecycle.background(lifecycle.answer({ text: ${text}, status: 3 }));`;

  test('comes with an answer, without what controls a terminal, and with its status', async () => {
    const answer = await run(answering(`'one\\n\\x1b[31mtwo\\n'`));
    expect(answer).toEqual({ status: 3, lines: ['one', '\\u001b[31mtwo'] });
  });

  // Bun calls back for an empty write before what was written earlier has gone: process.exit cuts that off.
  test('comes with all of an answer, though its reader is slow', () => {
    const lines = `Array.from({ length: 20_000 }, (_, n) => 'line ' + n + '\\n').join('')`;
    expect(lastLineOf(answering(lines))).toBe('line 19999');
  });

  test('comes with all that follows it, piece by piece, though its reader is slower than an exit may be', () => {
    const pieces = `Array.from({ length: 20 }, (_, n) => 'x'.repeat(50_000) + '\\nline ' + n + '\\n')`;
    const answer = `lifecycle.background(lifecycle.answer({ text: '', more: ${pieces}, status: 0 }));`;
    expect(lastLineOf(answer, 1.5)).toBe('line 19');
  });

  test('comes with the last words of the log, though its reader is slow', () => {
    const logging = `for (let n = 0; n < 5000; n++) log('x', 'line ' + n); lifecycle.background(lifecycle.exit(0));`;
    const last = lastLineOf(`import { log } from '${ROOT}/src/service/log.ts';\n${logging}`);
    expect(last).toEndWith('line 4999');
  });

  test('is not held back by a hook that hangs, nor by one that fails', async () => {
    const hanging = `lifecycle.onExit(() => new Promise(() => {})); lifecycle.onExit(() => say('the other hook'));`;
    expect(await run(`${hanging} setInterval(() => {}, 1000); lifecycle.background(lifecycle.exit(4));`)).toEqual({
      status: 4,
      lines: ['the other hook'],
    });
  });
});

describe('a wait', () => {
  afterEach(() => {
    jest.useRealTimers();
    Reflect.deleteProperty(lifecycle, 'signal');
  });

  /** Has waits be ended by a signal of our own, and time stand still. */
  function prepare() {
    jest.useFakeTimers();
    const request = new AbortController();
    Object.defineProperty(lifecycle, 'signal', { configurable: true, get: () => request.signal });
    const over: string[] = [];
    const follow = (name: string, wait: Promise<void>) => void wait.then(() => over.push(name));
    const settle = async () => {
      for (let n = 0; n < 20; n++) await Promise.resolve();
      return over.splice(0);
    };
    return { request, follow, settle, emitter: new EventEmitter() };
  }

  test('is over when its time is', async () => {
    const { follow, settle, emitter } = prepare();
    follow('none', lifecycle.pause(0));
    follow('negative', lifecycle.pause(-5));
    follow('pause', lifecycle.pause(100));
    follow('either', lifecycle.pauseOr(200, emitter, 'event'));
    expect(await settle()).toEqual(['none', 'negative']);
    jest.advanceTimersByTime(99);
    expect(await settle()).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(await settle()).toEqual(['pause']);
    jest.advanceTimersByTime(100);
    expect(await settle()).toEqual(['either']);
    expect(emitter.listenerCount('event')).toBe(0);
  });

  test('for the next beat is over at the same moment for all, a second after the first one has begun', async () => {
    const { request, follow, settle } = prepare();
    follow('first', lifecycle.nextBeat());
    follow('every second one', lifecycle.nextBeat(2));
    jest.advanceTimersByTime(999);
    follow('late', lifecycle.nextBeat());
    expect(await settle()).toEqual([]);
    jest.advanceTimersByTime(1);
    expect((await settle()).sort()).toEqual(['first', 'late']);
    jest.advanceTimersByTime(300);
    follow('next', lifecycle.nextBeat());
    jest.advanceTimersByTime(700);
    expect((await settle()).sort()).toEqual(['every second one', 'next']);
    follow('stopped', lifecycle.nextBeat(5));
    request.abort();
    expect(await settle()).toEqual(['stopped']);
    follow('at once', lifecycle.nextBeat());
    expect(await settle()).toEqual(['at once']);
  });

  test('is over at its event', async () => {
    const { follow, settle, emitter } = prepare();
    follow('event', lifecycle.waitFor(emitter, 'event'));
    follow('either', lifecycle.pauseOr(60_000, emitter, 'event'));
    emitter.emit('other');
    expect(await settle()).toEqual([]);
    emitter.emit('event');
    expect((await settle()).sort()).toEqual(['either', 'event']);
  });

  test('is over at a request to stop, and at once after one', async () => {
    const { request, follow, settle, emitter } = prepare();
    const begin = () => {
      follow('pause', lifecycle.pause(60_000));
      follow('event', lifecycle.waitFor(emitter, 'event'));
      follow('either', lifecycle.pauseOr(60_000, emitter, 'event'));
    };
    begin();
    expect(await settle()).toEqual([]);
    request.abort();
    expect((await settle()).sort()).toEqual(['either', 'event', 'pause']);
    begin();
    expect((await settle()).sort()).toEqual(['either', 'event', 'pause']);
    expect(emitter.listenerCount('event')).toBe(0);
  });
});

test('waits between tries grow from a second to a minute, or as far as is told', () => {
  const waitsOf = (backoff: Backoff) => Array.from({ length: 9 }, () => backoff.next().value / 1000);
  expect(waitsOf(newBackoff())).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
  expect(waitsOf(newBackoff(20_000))).toEqual([1, 2, 4, 8, 16, 20, 20, 20, 20]);
});

describe('work that many ask for', () => {
  test('begins anew for those who ask while it is under way, once for all of them', async () => {
    const ends: (() => void)[] = [];
    const ask = shared(async () => {
      const number = ends.length + 1;
      await new Promise<void>((resolve) => ends.push(resolve));
      return number;
    });
    const all = [ask(), ask(), ask()];
    expect(ends).toHaveLength(1);
    ends[0]?.();
    expect(await all[0]).toBe(1);
    all.push(ask()); // the second one may have begun
    await Bun.sleep(0);
    for (let n = 1; n < ends.length + 1; n++, await Bun.sleep(0)) ends[n]?.();
    expect((await Promise.all(all)).slice(0, 3)).toEqual([1, 2, 2]);
    expect(await all[3]).toBeGreaterThanOrEqual(2);
  });

  test('that fails is begun anew for those who have asked meanwhile', async () => {
    let times = 0;
    const ask = shared(async () => {
      await Bun.sleep(0);
      if (++times === 1) throw new Error('first');
      return times;
    });
    const [one, two] = [ask(), ask()];
    expect(one).rejects.toThrow('first');
    expect(await two).toBe(2);
    expect(await ask()).toBe(3);
  });
});
