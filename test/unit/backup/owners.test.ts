import { expect, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { KEY_VARIABLE } from '../../../src/backup/admission.ts';
import { Owners } from '../../../src/backup/owners.ts';
import { keyOf } from '../../../src/backup/strays.ts';
import { eventually } from '../../processes.ts';

test('the key of a connection is known once something has run over it, and as long as it stands', () => {
  const commands = new Map<number, number[]>();
  const keys: Record<number, string> = { 11: 'SHA256:one', 22: 'SHA256:two' };
  const owners = new Owners(
    (pid) => commands.get(pid) ?? [],
    (pid) => keys[pid],
  );
  expect([...owners.look([1, 2])]).toEqual([]);
  commands.set(1, [10, 11]);
  expect([...owners.look([1, 2])]).toEqual([[1, 'SHA256:one']]);
  commands.clear();
  expect([...owners.look([1, 2])]).toEqual([[1, 'SHA256:one']]);
  expect([...owners.look([2])]).toEqual([]);
  commands.set(1, [22]); // another connection with the same number
  expect([...owners.look([1])]).toEqual([[1, 'SHA256:two']]);
});

test('a command says its key by how it was started and by what it has become, of which the latter counts', async () => {
  const start = (env: Record<string, string>) =>
    spawn('sh', ['-c', 'exec sleep "$1"', 'sh', '60', '--forced-command', 'SHA256:argument'], {
      env: { ...process.env, ...env },
    });
  const script = 'read x; :';
  const asked = spawn('sh', ['-c', script, '--forced-command', 'SHA256:argument', 'web1']);
  const became = start({ [KEY_VARIABLE]: 'SHA256:variable' });
  try {
    await eventually(() => keyOf(asked.pid ?? 0) === 'SHA256:argument');
    await eventually(() => keyOf(became.pid ?? 0) === 'SHA256:variable');
    expect(keyOf(process.pid)).toBeUndefined();
  } finally {
    for (const child of [asked, became]) child.kill('SIGKILL');
  }
});
