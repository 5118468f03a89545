import { expect, test } from 'bun:test';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { content, eventually } from '../../processes.ts';
import { ROOT } from '../../project.ts';

const MOST = 4;
/** Takes a slot and becomes a cat, or says that there is none. */
const SCRIPT = `
  import { become, takeSlot } from '${join(ROOT, 'src/backup/slots.ts')}';
  if (takeSlot(process.argv[2], ${MOST})) become('/bin/cat', ['cat', '-'], { ...process.env, GIVEN: 'é 中' });
  else console.log('none');`;

test('of many that begin at the same time as many get a slot as there are, and hold it as something else until they are killed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'slots-'));
  const script = join(directory, 'script.ts');
  await Bun.write(script, SCRIPT);
  const started: ChildProcess[] = [];
  const start = () => {
    const child = spawn(process.execPath, [script, join(directory, 'slots')], { stdio: ['pipe', 'pipe', 'inherit'] });
    started.push(child);
    return child;
  };
  const isHolding = ({ pid }: ChildProcess) => content(`/proc/${pid}/cmdline`).startsWith('cat\0');
  const isRunning = (child: ChildProcess) => child.exitCode === null && child.signalCode === null;
  try {
    for (let n = 0; n < 3 * MOST; n++) start();
    await eventually(() => started.filter(isRunning).every(isHolding));
    const holding = started.filter(isRunning);
    expect(holding).toHaveLength(MOST);
    const [first, second] = holding as [ChildProcess, ChildProcess];
    expect(content(`/proc/${first.pid}/environ`)).toContain('GIVEN=é 中\0');
    first.kill('SIGKILL');
    await once(first, 'exit');
    second.stdin?.end();
    await once(second, 'exit');
    const more = [start(), start()];
    await eventually(() => more.every(isHolding));
    const [none] = await once(start().stdout ?? process.stdin, 'data');
    expect(String(none)).toBe('none\n');
  } finally {
    for (const child of started) child.kill('SIGKILL');
    rmSync(directory, { recursive: true });
  }
});
