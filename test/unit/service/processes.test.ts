/** Programs that say more than there is to say, or never end: with stand-ins for what runs on another machine. */
import { describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { limit, run, runWithin, start } from '../../../src/service/processes.ts';
import { reasonOf } from '../../../src/service/text.ts';
import { startedFromNow } from '../mirror/stand-ins.ts';

/** Has a shell run a script within limits; returns how it has ended, and of which limit it was told. */
async function runLimited(script: string, limits: Omit<Parameters<typeof limit>[1], 'told'>) {
  const child = start('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  const told: string[] = [];
  limit(child, { ...limits, told: (excess) => told.push(excess) });
  const [code, signal] = await once(child, 'close');
  return { end: code ?? signal, told };
}

describe('what runs once', () => {
  test.each(["exec tr '\\0' a < /dev/zero", 'exec yes', "exec tr '\\0' a < /dev/zero >&2", 'yes & wait'])(
    'is ended where it says too much, and little of that is kept: %s',
    async (script) => {
      const before = process.memoryUsage.rss();
      const programs = startedFromNow();
      const answer = await run`sh -c ${script}`;
      expect(answer.exitCode).toBeNull();
      expect(reasonOf(answer)).toBe('答复超过 1.0 MB，不是所要的答复，已中止');
      expect(answer.stdout.length + answer.stderr.length).toBeLessThan(3_000_000);
      expect(process.memoryUsage.rss() - before).toBeLessThan(100_000_000);
      expect(programs()).toEqual([]);
    },
  );

  test('is ended where it takes too long, with all that it has started', async () => {
    const answer = await runWithin(200)`sh -c ${'echo $$; sleep 1000 & wait'}`;
    expect(reasonOf(answer)).toBe('在 0 秒内没有答复完，已中止');
    expect(() => process.kill(-Number(answer.stdout), 0)).toThrow('ESRCH');
  });

  test('says what it says within that', async () => {
    const { exitCode, stdout, stderr } = await runWithin(
      60_000,
    )`sh -c ${'head -c 900000 /dev/zero; echo 中 >&2; exit 3'}`;
    expect([exitCode, stdout.length, stderr]).toEqual([3, 900_000, '中\n']);
  });
});

describe('a program', () => {
  test('may have any amount of lines, but none without end', async () => {
    const limits = { bytes: Number.POSITIVE_INFINITY, line: 100_000 };
    expect(await runLimited('yes | head -c 3000000', limits)).toEqual({ end: 0, told: [] });
    const progress = "yes \"$(printf '\\ra')\" | tr -d '\\n' | head -c 3000000";
    expect(await runLimited(progress, limits)).toEqual({ end: 0, told: [] });
    const told = ['的输出中有一行超过 100.0 kB 仍未结束，不是 rsync 的输出，已中止'];
    expect(await runLimited("tr '\\0' a < /dev/zero >&2", limits)).toEqual({ end: 'SIGKILL', told });
  });

  test('that has ended, and whose pipes others hold open, is waited for no longer', async () => {
    const { end, told } = await runLimited('setsid sleep 5 & exit 0', { ms: 300 });
    expect([end, told.length]).toEqual([0, 1]);
  });
});

test('what is started gets to know no token, whatever environment it is given', async () => {
  const env = {
    ...process.env,
    NOTIFY_URL: 'https://ntfy.sh/topsecret',
    HEARTBEAT_URL: 'https://hc-ping.com/topsecret',
  };
  Object.assign(process.env, env);
  try {
    const { stdout } = await run`env`;
    expect(stdout).toContain('PATH=');
    expect(stdout).not.toContain('topsecret');
    const child = start('env', [], { stdio: ['ignore', 'pipe', 'ignore'], env });
    let said = '';
    child.stdout?.on('data', (chunk) => {
      said += chunk;
    });
    await once(child, 'close');
    expect([said.includes('PATH='), said.includes('topsecret')]).toEqual([true, false]);
  } finally {
    for (const name of ['NOTIFY_URL', 'HEARTBEAT_URL']) delete process.env[name];
  }
});
