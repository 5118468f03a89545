/**
 * The rule behind the program: once the tree is quiet, the backup is what a plain `rsync $RSYNC_OPTS` would have
 * made of it. Random work on the source, for every kind of options, is followed by a comparison.
 *
 * MODEL_SEED repeats the choices of a run; MODEL_SECONDS is the time of work and comparisons, for all kinds of
 * options together; MODEL_KINDS is how many of the further kinds are tried, which the seed chooses; MODEL_BACKUP is
 * start-sshd, sshd or daemon (an rsync daemon), MODEL_DELAY how long the line takes each way, ms, so that several rsyncs wait on a long one, and
 * MODEL_PAUSES is yes where an operator has nothing sent now and then, or no; the seed chooses them, too, where they are not given.
 */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Relay } from '../../bench/relay.ts';
import { methodFor, parseWords } from '../../src/mirror/options.ts';
import { tellMeanwhile } from '../command.ts';
import { Daemon } from '../daemon.ts';
import { Model, PLAIN_NAMES, Random, SHOWN_BY_STATUS } from '../model.ts';
import { CHEAP_LOGIN, isRoot, Pair } from '../pair.ts';
import type { Program } from '../processes.ts';

const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
const seconds = Number(process.env.MODEL_SECONDS ?? 33);
const further = Number(process.env.MODEL_KINDS ?? 3);

/** What options may depend on: a directory outside of both trees, a file of filter rules, and chance. */
interface Given {
  elsewhere: string;
  rules: string;
  random: Random;
}
type Kinds = Record<string, (given: Given) => string>;

/** Kinds of RSYNC_OPTS. */
const KINDS: Kinds = {
  'the default options': () => '-avz --delete',
  'the default options, and no renames on the target': () => '-avz --delete',
  'no --delete': () => '-avz',
  'excluded names': () => "-avz --delete --exclude=b --exclude='*.tmp'",
  'excluded paths': () => '-avz --delete --exclude=/a/b --exclude=/c/',
  'some names alone included': () => "-avz --delete --include='*/' --include='*.txt' --exclude='*'",
  'hard links kept': () => '-aH --delete',
  'neither modes nor owners': () => '-rlt --delete',
  'files changed in place': () => '-av --delete --inplace',
  'old versions kept': ({ elsewhere }) => `-av --delete --backup --backup-dir='${elsewhere}'`,
  'delayed updates, and what is excluded is deleted': () => '-av --delete-excluded --exclude=*.tmp --delay-updates',
  'a timeout': () => '-av --delete --timeout=5',
};

/** What is in the file of rules. */
const RULES = '# rules\n+ /a/x.txt\r\n; of all sorts\n/a/\nb/*.t??\n\n';
/** Further kinds, some of which are tried each time. */
const MORE_KINDS: Kinds = {
  'rules in a file': ({ rules }) => `-a --delete --exclude-from='${rules}'`,
  'random rules': ({ random }) => `-a --delete ${rulesOf(random, EVEN_RULES)}`,
  'random rules, and what is excluded is deleted': ({ random }) =>
    `-a --delete-excluded ${rulesOf(random, EVEN_RULES)}`,
  'random rules for either side': ({ random }) => `-a --delete ${rulesOf(random, [...EVEN_RULES, ...UNEVEN_RULES])}`,
  'random rules and hard links': ({ random }) => `-aH --delete ${rulesOf(random, EVEN_RULES)}`,
  'random rules, by rules': ({ random }) => `-aF --exclude-from=/dev/null --delete ${rulesOf(random, EVEN_RULES)}`,
  'random rules, by rules, and what is excluded is deleted': ({ random }) =>
    `-aF --exclude-from=/dev/null --delete-excluded ${rulesOf(random, EVEN_RULES)}`,
  'random rules, by comparisons': ({ random }) =>
    `-aF --exclude-from=/dev/null --delete --delay-updates ${rulesOf(random, EVEN_RULES)}`,
  'rules in the tree, and what is excluded is deleted': () => '-aF --delete-excluded',
  'rules of each directory': ({ random }) => `-aF --delete ${rulesOf(random, EVEN_RULES)}`,
  'rules of CVS': () => '-aC --delete',
  'one file system': () => '-ax --delete',
  'delayed updates': () => '-a --delete --delay-updates',
  'a place for what has begun to come': () => '-a --delete --partial-dir=.partial',
  'empty directories left out': () => '-am --delete',
  'random rules, and what they leave empty left out': ({ random }) =>
    `-am ${random.pick(['--delete', '--delete-excluded'])} ${rulesOf(random, [...EVEN_RULES, ...UNEVEN_RULES])}`,
  'options that are taken back': () =>
    '-aAXHcmx --inplace --delete --no-A --no-X --no-H --no-c --no-m --no-x --no-inplace',
  'attributes kept aside': () => '-a --delete -M--fake-super',
  'a checksum seed': () => '-a --delete --checksum-seed=7',
  'contents compared': () => '-ac --delete',
  'deletions afterwards': () => '-a --delete-after --timeout=60',
};

/** Rules that hide all that they keep, and those that do not. */
const EVEN_RULES = [
  ...['--exclude=', '--exclude=', '--exclude=', '--exclude=', '--include=', '--include=', '--filter=- ', '--filter=- '],
  ...[
    '--filter=+_',
    '--filter=-! ',
    '--filter=-p ',
    '--filter=H ',
    '--filter=R ',
    '--filter=hide,! ',
    '--filter=risk ',
  ],
];
const UNEVEN_RULES = [
  ...['--filter=P ', '--filter=S ', '--filter=-s ', '--filter=-r ', '--filter=+s ', '--filter=+,r ', '--filter=P! '],
];
const WILD = [
  '*',
  '**',
  '***',
  '?',
  '[ab]',
  '[!ab]',
  '[[:alpha:]]',
  '*.txt',
  '.*',
  'b*',
  '*b',
  '\\a',
  '*\\~',
  'with space',
];

/** Makes up some filter rules about the names that are worked with, in quotes. */
function rulesOf(random: Random, kinds: readonly string[]): string {
  const name = () => random.pick(random.chance(0.4) ? WILD : PLAIN_NAMES);
  const pattern = () => {
    const names = Array.from({ length: random.pick([1, 1, 1, 2, 3]) }, name).join('/');
    return `${random.chance(0.3) ? '/' : ''}${names}${random.chance(0.25) ? '/' : ''}`;
  };
  const rules = Array.from({ length: 1 + random.below(5) }, () => `'${random.pick(kinds)}${pattern()}'`);
  return rules.join(' ');
}

/** Makes up what is in a file of rules in the tree, whose rules hide all that they keep. */
function linesOf(random: Random): string {
  const line = () => {
    const name = random.pick(random.chance(0.4) ? WILD : PLAIN_NAMES);
    const place = random.pick(['', '', '/']);
    return `${random.pick(['- ', '- ', '-_', '+ ', 'exclude ', 'H ', 'hide,! ', 'R ', 'risk '])}${place}${name}\n`;
  };
  return Array.from({ length: random.below(4) }, line).join('');
}

/** Chooses some of the further kinds. */
function chosenKinds(): [string, Kinds[string]][] {
  const random = new Random(seed);
  const rest = Object.entries(MORE_KINDS);
  const chosen: typeof rest = [];
  while (rest.length > 0 && chosen.length < further) chosen.push(...rest.splice(random.below(rest.length), 1));
  return [...Object.entries(KINDS), ...chosen];
}

/**
 * A daemon takes no place outside of its module; without a root of its own, for which it has to be root, it changes where links lead. And
 * whether it keeps attributes aside is for its own settings to say.
 */
const NOT_FOR_DAEMONS = ['old versions kept', 'attributes kept aside'];

/** How long the work before a comparison is, ms: after long work one change more or less is soon forgotten. */
const ROUNDS = [10, 50, 300, 1000, 2500];
/** A connection that waits for work must outlive `--timeout=5`. */
const IDLE_MS = 6000;
const workMs = (seconds * 1000) / chosenKinds().length;

setDefaultTimeout(workMs + 300_000);
console.log(`MODEL_SEED=${seed}`);

/** A tree that is worked on, and its mirror. */
interface Trial {
  pair: Pair;
  model: Model;
  /** What is done, where that is not everything: what is compared as a whole each time is compared as rsync does. */
  operations: string[] | undefined;
  source: Program;
  /** The same whenever it is asked, but for where `elsewhere` is. */
  options: (elsewhere: string) => string;
}

/** Starts a pair with a tree that is not empty. */
async function start(
  pair: Pair,
  random: Random,
  { BACKUP = 'start-sshd', ...env }: Record<string, string>,
  kind: Kinds[string],
): Promise<Trial> {
  const [rules, state] = [pair.path('rules'), random.below(2 ** 31)];
  const options = (elsewhere: string) => kind?.({ elsewhere, rules, random: new Random(state) }) ?? '';
  mkdirSync(pair.path('outside'));
  writeFileSync(rules, RULES);
  const model = new Model(random.below(2 ** 31), pair.path('source'), pair.path('outside'));
  await model.work(100);
  const RSYNC_OPTS = options(pair.path('elsewhere'));
  if (RSYNC_OPTS === '-aF --delete-excluded') model.rules = linesOf;
  const daemon = BACKUP === 'daemon' ? (await Daemon.start(pair, { 'use chroot': 'yes' })).env : {};
  if (BACKUP === 'sshd') await pair.startPlainSshd();
  if (BACKUP === 'start-sshd') pair.start('start-sshd', { DEST_DIR: pair.directory }); // the place for old versions must be in it too
  const source = pair.start('rsync-inotify', { ...daemon, ...env, RSYNC_OPTS, FULL_SYNC_INTERVAL: '0' });
  await source.shows('✓ 服务运行中');
  const operations = methodFor(parseWords(RSYNC_OPTS)) === 'full' ? SHOWN_BY_STATUS : undefined;
  return { pair, model, operations, source, options };
}

function isMirrored({ pair, model, source, options }: Trial): Promise<void> {
  const scratch = pair.path('expected');
  const places = { source: pair.path('source'), backup: pair.path('backup'), scratch };
  return model.isMirrored(places, options(pair.path('expected', 'elsewhere')), () => source.output);
}

/** Waits until the program has nothing more to say: a sync that still runs would cover what comes next. */
async function isIdle(source: Program): Promise<void> {
  let said = -1;
  while (said !== source.output.length) {
    said = source.output.length;
    await sleep(300);
  }
}

/** Rounds of work, each followed by a comparison. */
async function workInRounds(trial: Trial, random: Random): Promise<void> {
  const end = performance.now() + workMs;
  do {
    await trial.model.work(random.pick(ROUNDS), trial.operations);
    await isMirrored(trial);
  } while (performance.now() < end);
}

/** Has nothing be sent now and then until the work is over: what waits for the end of a pause must not be forgotten, nor sent as it was. */
async function pauseMeanwhile(pair: Pair, random: Random, work: Promise<void>): Promise<void> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  work.then(end, end);
  for (const longest of [50, 400, 1500]) {
    await sleep(random.below(1000));
    if (isOver) break;
    expect((await tellMeanwhile(pair, '--pause', '1h')).status).toBe(0);
    await sleep(random.below(longest));
    expect((await tellMeanwhile(pair, '--resume')).status).toBe(0);
  }
  return isOver ? work : pauseMeanwhile(pair, random, work);
}

/** Does each operation alone; returns how many found something to be done to. */
async function workOneByOne(trial: Trial, random: Random): Promise<number> {
  const rest = [...Model.operations];
  let done = 0;
  while (rest.length > 0) {
    const [operation = ''] = rest.splice(random.below(rest.length), 1);
    await isIdle(trial.source);
    if (!(await trial.model.once(operation))) continue;
    await isMirrored(trial);
    done++;
  }
  return done;
}

/**
 * Files that vanish or change their type under rsync’s hands are no fault; all else is. With -H, rsync itself gives up
 * with code 2 where the names of a file change on the way (https://github.com/RsyncProject/rsync/issues/126).
 */
const failures = ({ source, options }: Trial) =>
  (source.output.match(/同步失败 \(退出码: \d+/g) ?? []).filter(
    (failure) => !failure.endsWith(' 23') && !(failure.endsWith(' 2') && options('').includes('-aH')),
  );

/** Runs a trial, tells how to repeat it, and looks at what the program made of it. */
async function attempt(label: string, trial: Trial, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
    await sleep(1000);
    await isMirrored(trial); // it stays so
  } catch (error) {
    throw new Error(`${label}, after ${trial.model.count} operations:\n${(error as Error).message}`);
  }
  expect(trial.source.running).toBe(true);
  expect(failures(trial)).toEqual([]);
  const renamed = [...trial.source.output.matchAll(/已在目标上重命名 (\d+) 项/g)];
  const renames = renamed.reduce((sum, [, number]) => sum + Number(number), 0);
  console.log(`${label}: ${trial.model.count} operations, ${renames} renames on the target`);
}

describe('random work is mirrored', () => {
  for (const [index, [kind, optionsOf]] of chosenKinds().entries()) {
    const random = new Random(seed * 100 + index);
    const SYNC_INTERVAL = random.pick(['0', '0', '0.3', '1']);
    const mayBeDaemon = isRoot && !NOT_FOR_DAEMONS.includes(kind);
    const chosen = process.env.MODEL_BACKUP ?? random.pick(['start-sshd', 'start-sshd', 'sshd', 'daemon']);
    const BACKUP = chosen === 'daemon' && !mayBeDaemon ? 'sshd' : chosen;
    const delayMs = Number(process.env.MODEL_DELAY ?? random.pick([0, 0, 0, 0, 50]));
    const hasPauses = (process.env.MODEL_PAUSES ?? random.pick(['no', 'no', 'no', 'no', 'yes'])) === 'yes';

    test(`with ${kind}`, async () => {
      await using pair = await Pair.withKeys('model');
      await using line = await Relay.to(pair.port, { delayMs });
      const SSH_OPTS = `-p ${delayMs > 0 ? line.port : pair.port} -o ${CHEAP_LOGIN}`;
      const env = { SYNC_INTERVAL, RENAME_ON_TARGET: String(!kind.includes('no renames')), BACKUP, SSH_OPTS };
      const trial = await start(pair, random, env, optionsOf);
      const pauses = hasPauses ? ', pauses' : '';
      const told = `MODEL_KINDS=${further}, ${BACKUP}, ${delayMs} ms${pauses}, SYNC_INTERVAL=${SYNC_INTERVAL}`;
      const label = `MODEL_SEED=${seed}, ${told}, RSYNC_OPTS=${trial.options('…')}`;
      await attempt(label, trial, async () => {
        const work = workInRounds(trial, random);
        await (hasPauses ? pauseMeanwhile(pair, new Random(seed), work) : work);
        if (!label.includes('--timeout')) return;
        await sleep(IDLE_MS);
        await trial.model.work(200);
        await isMirrored(trial);
      });
    });
  }

  test('one by one, each operation while nothing else changes', async () => {
    const random = new Random(seed * 100 + 99);
    await using pair = await Pair.withKeys('model');
    const trial = await start(pair, random, { SYNC_INTERVAL: '0' }, () => '-avz --delete');
    await attempt(`MODEL_SEED=${seed}, one by one`, trial, async () => {
      await trial.model.work(300);
      await isMirrored(trial);
      expect(await workOneByOne(trial, random)).toBeGreaterThan(30);
    });
  });
});
