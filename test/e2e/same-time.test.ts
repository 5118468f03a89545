/** Files whose content is another one although size and time are what they were: no rsync sees that, but events tell where it may be so. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, renameSync, rmSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { statusOf } from '../command.ts';
import { exchange } from '../model.ts';
import { Pair } from '../pair.ts';
import { eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const OLD = new Date('2001-02-03T04:05:06Z');
const TO_COME = new Date('2099-02-03T04:05:06Z');

/** How large a file is that is renamed on the backup, bytes. */
const MOVED = 300_000;

/** What can be done in the source of a pair, by paths below it. */
function hands(pair: Pair) {
  const at = (path: string) => pair.path('source', path);
  /** Writes a file of the usual size, and gives it the usual time. */
  const write = (path: string, word: string) => {
    mkdirSync(dirname(at(path)), { recursive: true });
    writeFileSync(at(path), word.padEnd(8));
    utimesSync(at(path), OLD, OLD);
  };
  const move = (from: string, to: string) => renameSync(at(from), at(to));
  const remove = (path: string) => rmSync(at(path), { recursive: true });
  return { at, write, move, remove };
}

type Hands = ReturnType<typeof hands>;

/** What other programs do, each in a directory of its own, after what it finds there. */
const WORK: Record<string, [prepare: (it: Hands) => void, work: (it: Hands) => void]> = {
  'a file that is as new as the one in whose place it comes': [
    ({ at, write }) => {
      for (const name of ['i', 'j']) write(name, name);
      const now = new Date();
      for (const name of ['i', 'j']) utimesSync(at(name), now, now);
    },
    ({ move }) => move('j', 'i'),
  ],
  'an older copy takes the place of a file': [
    ({ write }) => {
      for (const name of ['a', 'b']) write(name, name);
    },
    ({ move }) => move('b', 'a'),
  ],
  'a file whose time is still to come takes the place of another one': [
    ({ at, write }) => {
      for (const name of ['k', 'l']) {
        write(name, name);
        utimesSync(at(name), TO_COME, TO_COME);
      }
    },
    ({ move }) => move('l', 'k'),
  ],
  'a file is written, renamed, and given its old time': [
    ({ at }) => {
      writeFileSync(at('m'), Buffer.alloc(MOVED, 'm'));
      utimesSync(at('m'), OLD, OLD);
    },
    ({ at, move }) => {
      writeFileSync(at('m'), Buffer.alloc(MOVED, 'M'));
      move('m', 'n');
      utimesSync(at('n'), OLD, OLD);
    },
  ],
  'cp -p over a file': [({ write }) => write('cp', 'one'), ({ write }) => write('cp', 'two')],
  'tar over a former version': [
    ({ write }) => write('tar/a', 'one'),
    ({ at, write }) => {
      unlinkSync(at('tar/a'));
      write('tar/a', 'two');
    },
  ],
  'npm over a former version': [
    ({ write }) => {
      for (const name of ['a', 'lib/b']) write(`npm/${name}`, 'one');
    },
    ({ write, remove }) => {
      remove('npm');
      for (const name of ['a', 'lib/b']) write(`npm/${name}`, 'two');
    },
  ],
  'a build beside, and three renames': [
    ({ write }) => {
      for (const name of ['a', 'lib/b']) write(`site/${name}`, 'one');
    },
    ({ write, move, remove }) => {
      for (const name of ['a', 'lib/b']) write(`site.new/${name}`, 'two');
      move('site', 'site.old');
      move('site.new', 'site');
      remove('site.old');
    },
  ],
  'three renames that swap two directories': [
    ({ write }) => {
      for (const name of ['x', 'y']) write(`${name}/deep/a`, name);
    },
    ({ move }) => {
      move('x', 'z');
      move('y', 'x');
      move('z', 'y');
    },
  ],
  'two files are exchanged': [
    ({ write }) => {
      for (const name of ['e', 'f']) write(name, name);
    },
    ({ at }) => exchange(at('e'), at('f')),
  ],
  'two directories are exchanged': [
    ({ write }) => {
      for (const name of ['g', 'h']) write(`${name}/deep/a`, name);
    },
    ({ at }) => exchange(at('g'), at('h')),
  ],
};

test('what takes the place of something of the same size and time is mirrored', async () => {
  await using pair = await Pair.withKeys('same-time');
  const it = hands(pair);
  const { source } = await pair.run({ FULL_SYNC_INTERVAL: '0', SYNC_INTERVAL: '0' });
  for (const [prepare] of Object.values(WORK)) prepare(it);
  await pair.isMirrored();
  for (const [what, [, work]] of Object.entries(WORK)) {
    work(it);
    await pair.isMirrored().catch((error) => {
      throw new Error(`${what}: ${error}`);
    });
    await sleep(50);
  }
  expect(source.running).toBe(true);
});

test('so it is where the backup was away meanwhile, also if all was to be compared by then', async () => {
  await using pair = await Pair.withKeys('same-time-away');
  const { at, write, remove } = hands(pair);
  const { source, backup } = await pair.run({ FULL_SYNC_INTERVAL: '1', SYNC_INTERVAL: '0' });
  for (const name of ['a', 'b', 'npm/lib/c']) write(name, 'one');
  await pair.isMirrored();
  /** Resolves when the backup was tried in vain once more: the log lists the first times, and the status counts the others. */
  const tryAgain = async () => {
    const tries = () => source.output.split('秒后重试').length + (statusOf(pair).omitted?.tries ?? 0);
    const before = tries();
    await eventually(() => tries() > before);
  };
  await backup.stop();
  await tryAgain(); // all of the source waits
  unlinkSync(at('a'));
  writeFileSync(at('b'), 'two'.padEnd(8));
  remove('npm');
  await tryAgain(); // so do these, and have been tried
  write('a', 'two');
  write('npm/lib/c', 'two');
  utimesSync(at('b'), OLD, OLD);
  pair.start('start-sshd');
  await pair.isMirrored();
});
