import { expect, test } from 'bun:test';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { leftovers } from '../../../src/backup/strays.ts';
import { mayHaveNamespace } from '../../namespace.ts';
import { eventually } from '../../processes.ts';

const DIRECTORY = '/run/start-sshd-that-is-not-here';
/** Seems to be a command of the source's key, and ends when its standard input does. */
const COMMAND = 'echo READY; exec cat >/dev/null';
const VARIABLES = ['START_SSHD_KEY=SHA256:key', `START_SSHD_ADMISSION=${DIRECTORY}/admission`];

async function command(script: string, wrapper: string[] = []): Promise<ChildProcess & AsyncDisposable> {
  const [program = '', ...args] = [...wrapper, 'env', ...VARIABLES, 'sh', '-ec', script];
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], detached: true });
  await once(child.stdout, 'data');
  const end = async () => {
    child.stdin.end();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  };
  return Object.assign(child, { [Symbol.asyncDispose]: end });
}

test('a command whose service is gone is a leftover', async () => {
  await eventually(async () => {
    await using child = await command(COMMAND); // any start-sshd that starts meanwhile ends it
    return leftovers().includes(Number(child.pid));
  });
});

test.if(mayHaveNamespace())('one of a service in a container is none, where the host sees it', async () => {
  const unshare = ['unshare', '--mount', '--propagation', 'private'];
  await using here = await command(`mount -t tmpfs tmpfs /run; mkdir ${DIRECTORY}; ${COMMAND}`, unshare);
  expect(leftovers()).not.toContain(Number(here.pid));
  await using apart = await command(COMMAND, [...unshare, '--pid', '--fork']); // be it that it sees nothing
  expect(leftovers()).not.toContain(Number(apart.pid));
});

test.if(mayHaveNamespace())('one that sees nothing of its service is none, where what it comes from does', async () => {
  const unshare = ['unshare', '--mount', '--propagation', 'private'];
  const blind = `${unshare.join(' ')} sh -ec 'mount -t tmpfs tmpfs /run; ${COMMAND}'; true`;
  await using child = await command(`mount -t tmpfs tmpfs /run; mkdir ${DIRECTORY}; ${blind}`, unshare);
  expect(leftovers()).not.toContain(Number(child.pid));
});
