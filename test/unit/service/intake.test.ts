/** What programs say that say much: with shells that write line by line. */
import { expect, test } from 'bun:test';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { startHeard } from '../../../src/service/intake.ts';
import { children, exitStatus, limit, start, startOnLeash } from '../../../src/service/processes.ts';

const LINES = 20_000;
const COUNT = `i=0; while [ $i -lt ${LINES} ]; do echo $i; i=$((i+1)); done`;
const EXPECTED = Array.from({ length: LINES }, (_, n) => `${n}\n`).join('');

const shell = (script: string) =>
  startHeard((stdout) => start('sh', ['-c', script], { stdio: ['pipe', stdout, 'pipe'] }));

test('all of it is read, in few pieces, before the program counts as ended', async () => {
  const started = performance.now();
  const child = shell(`${COUNT}; exit 3`);
  const pieces: string[] = [];
  child.stdout?.setEncoding('latin1').on('data', (piece) => pieces.push(piece));
  expect(await exitStatus(child)).toBe(3);
  expect(pieces.join('')).toBe(EXPECTED);
  expect(pieces.length).toBeLessThanOrEqual(8 * ((performance.now() - started) / 5 + 1));
});

test('little is read where nobody takes it, and all of it once somebody does', async () => {
  const child = shell(`head -c 10000000 /dev/zero; ${COUNT}`);
  await sleep(300);
  expect(child.exitCode).toBeNull();
  expect(child.stdout?.readableLength).toBeLessThan(2_000_000);
  let length = 0;
  child.stdout?.on('data', (piece: Buffer) => {
    length += piece.length;
  });
  expect(await exitStatus(child)).toBe(0);
  expect(length).toBe(10_000_000 + EXPECTED.length);
});

test('a program that nobody listens to any more ends by what it says, and one that says too much is ended', async () => {
  const [deaf, loud] = [shell('exec yes'), shell('exec yes')];
  deaf.stdout?.destroy();
  expect(await exitStatus(deaf)).toBeOneOf([1, 128 + 13]); // where SIGPIPE is ignored, yes says that it cannot write
  limit(loud, { bytes: 1_000_000 });
  expect(await exitStatus(loud)).toBe(128 + 9);
});

test('a program on a leash is heard, too, and one that cannot be started leaves nothing', async () => {
  const child = startHeard((stdout) => startOnLeash(['echo', 'a word'], stdout));
  expect(`${(await once(child.stdout ?? child, 'data'))[0]}`).toBe('a word\n');
  const none = startHeard((stdout) => start('/nowhere', [], { stdio: ['pipe', stdout, 'pipe'] }));
  expect(exitStatus(none)).rejects.toThrow('ENOENT');
  await once(none.stdout ?? none, 'close');
  expect(children.has(none)).toBeFalse();
});
