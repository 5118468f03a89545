/**
 * Random work on three sources with names at once, while the backup, they and the shared volume go through what may befall them: restarts,
 * kills, a new container, lost memory, new keys, new names, files of strangers. Nobody loses anything or gets what is another one's, and a
 * fourth source to which nothing happens keeps its copy as it is.
 *
 * MODEL_SEED repeats the choices of a run; MODEL_SECONDS is the time of work.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Member } from '../member.ts';
import { Model, Random, SHOWN_BY_STATUS } from '../model.ts';
import { Pair } from '../pair.ts';
import type { Program } from '../processes.ts';
import { makeKey } from '../thief.ts';
import { expectEqual } from '../tree.ts';

const seed = Number(process.env.MODEL_SEED ?? Date.now() % 1_000_000);
const seconds = Number(process.env.MODEL_SECONDS ?? 20);
setDefaultTimeout(seconds * 1000 + 300_000);

/** How long the work between two happenings is, ms. */
const SLICES = [5, 50, 300, 1000];
const OPTIONS = '-avz --delete';

/** A source that is worked on. */
class Worked {
  readonly model: Model;
  private readonly source: Member;
  private program: Program | undefined;
  name: string;

  constructor(
    readonly pair: Pair,
    id: string,
    random: Random,
  ) {
    this.source = new Member(pair, id);
    this.name = id;
    mkdirSync(this.source.path('outside'));
    this.model = new Model(random.below(2 ** 31), this.source.path('source'), this.source.path('outside'));
  }

  async start(): Promise<void> {
    this.program = this.source.start({ SOURCE_NAME: this.name, MAX_RETRIES: '1000', RSYNC_OPTS: OPTIONS });
    await this.program.shows('公钥已共享 ✓');
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    await this.program?.stop(signal);
  }

  /** Starts it where it has ended, as those do whose first sync the end of the backup has cut off: a service is started again. */
  async revive(): Promise<void> {
    if (!this.program?.running) await this.start();
  }

  async changeKey(): Promise<void> {
    await this.stop();
    rmSync(this.pair.path('shared', 'sources', `${this.name}.pub`), { force: true });
    for (const half of ['', '.pub']) rmSync(`${this.source.key}${half}`);
    makeKey(this.source.key);
    await this.start();
  }

  async changeName(name: string): Promise<void> {
    await this.stop();
    const [from, to] = [this.pair.path('backup', this.name), this.pair.path('backup', name)];
    if (existsSync(from) && !existsSync(to)) renameSync(from, to);
    this.name = name;
    await this.start();
  }

  isMirrored(): Promise<void> {
    const places = {
      source: this.source.path('source'),
      backup: this.pair.path('backup', this.name),
      scratch: this.pair.path(`expected-${this.source.id}`),
    };
    const said = () => {
      const others = this.pair.programs.filter(({ running, output }) => running && output.includes('SSH 服务器 -'));
      return [this.program, ...others]
        .map((it) =>
          it?.lines
            .filter((line) => !line.startsWith('[INFO'))
            .slice(-20)
            .join('\n'),
        )
        .join('\n');
    };
    return this.model.isMirrored(places, OPTIONS, said);
  }
}

class Trial {
  readonly random = new Random(seed);
  readonly worked: Worked[];
  readonly quiet: Member;
  private backup: Program | undefined;
  private kept: string[] = [];
  readonly counts: Record<string, number> = {};

  constructor(readonly pair: Pair) {
    this.worked = ['web1', 'web2', 'db'].map((id) => new Worked(pair, id, this.random));
    this.quiet = new Member(pair, 'quiet');
    for (let n = 0; n < 200; n++) this.quiet.write(`file-${n}`);
  }

  private at = (...names: string[]) => this.pair.path(...names);
  private shared = (file: string) => this.at('shared', 'sources', file);

  startBackup(): void {
    this.backup = this.pair.start('start-sshd', { KEY_RETRIES: '1' });
  }

  private async restart(signal: 'SIGTERM' | 'SIGKILL', ...lost: string[]): Promise<void> {
    await this.backup?.stop(signal);
    for (const name of lost) rmSync(this.at(name), { recursive: true, force: true });
    this.startBackup();
  }

  private get memory(): string[] {
    return readdirSync(this.at('host-keys'))
      .filter((name) => name.startsWith('doors-'))
      .map((name) => `host-keys/${name}`);
  }

  /** What a copy is known by that nobody has touched. */
  private get copy(): string[] {
    return readdirSync(this.quiet.copy)
      .sort()
      .map((name) => `${name} ${lstatSync(this.at('backup', 'quiet', name)).ino}`);
  }

  private readonly happenings: Record<string, () => void | Promise<void>> = {
    restart: () => this.restart('SIGTERM'),
    kill: () => this.restart('SIGKILL'),
    newContainer: () => this.restart('SIGKILL', 'backup-ssh'),
    lostMemory: () => this.restart('SIGTERM', ...this.memory),
    newMachine: () => this.restart('SIGKILL', 'backup-ssh', ...this.memory),
    restartSource: async () => {
      const one = this.random.pick(this.worked);
      await one.stop(this.random.pick(['SIGTERM', 'SIGKILL']));
      await one.start();
    },
    newKey: () => this.random.pick(this.worked).changeKey(),
    newName: () => this.random.pick(this.worked).changeName(`name${this.random.below(1000)}`),
    nameless: () => {
      makeKey(this.at(`stranger-${this.random.below(1e9)}`));
      const keys = readdirSync(this.at('.')).filter((name) => /^stranger-.*\.pub$/.test(name));
      copyFileSync(this.at(this.random.pick(keys)), this.at('shared', 'id_rsa.pub'));
    },
    strangers: () => {
      const names = readdirSync(this.at('shared', 'sources')).filter((name) => name.endsWith('.pub'));
      const [file, key] = [this.random.pick(names), readFileSync(this.shared('quiet.pub'))]; // of others, nobody could tell who was first where all is lost
      writeFileSync(this.shared(`copy-${this.random.below(1000)}.pub`), key);
      writeFileSync(this.shared(`${file.replace('.pub', '')}..pub`), key);
      writeFileSync(this.shared(`a${file.toUpperCase().replace('.PUB', '.pub')}`), 'rubbish');
      rmSync(this.shared('.new'), { force: true });
    },
    tidyUp: () => {
      for (const name of readdirSync(this.at('shared', 'sources')).filter((it) => /^copy-|^a[A-Z]|\.\.pub$/.test(it)))
        rmSync(this.shared(name));
      rmSync(this.at('shared', 'id_rsa.pub'), { force: true });
    },
    volumeAway: async () => {
      renameSync(this.at('shared', 'sources'), this.at('shared', 'away'));
      await sleep(this.random.pick([0, 300, 1500]));
      for (const name of existsSync(this.shared('')) ? readdirSync(this.shared('')) : [])
        renameSync(this.shared(name), this.at('shared', 'away', name));
      rmSync(this.shared(''), { recursive: true, force: true });
      renameSync(this.at('shared', 'away'), this.at('shared', 'sources'));
    },
    sortKeys: () => {
      const file = this.at('backup-ssh', 'authorized_keys');
      if (!existsSync(file)) return;
      writeFileSync(`${file}.new`, readFileSync(file, 'utf8').split('\n').sort().join('\n'), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    },
    directoryAway: async () => {
      const { name } = this.random.pick(this.worked);
      if (!existsSync(this.at('backup', name))) return;
      renameSync(this.at('backup', name), this.at(`aside-${this.random.below(1e9)}`));
      await sleep(this.random.pick([0, 1500]));
    },
  };

  async begin(): Promise<void> {
    await Promise.all(this.worked.map(({ model }) => model.work(100, SHOWN_BY_STATUS)));
    this.startBackup();
    await Promise.all([this.quiet.run({ MAX_RETRIES: '1000' }), ...this.worked.map((it) => it.start())]);
    await this.quiet.isMirrored();
    for (const one of this.worked) await one.isMirrored();
    this.kept = this.copy;
  }

  async work(): Promise<void> {
    // Sources that are started anew compare sizes and times: what has another content with the same ones is nothing to them.
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      const what = this.random.pick(Object.keys(this.happenings));
      this.counts[what] = (this.counts[what] ?? 0) + 1;
      const working = this.worked.map(({ model }) => model.work(this.random.pick(SLICES), SHOWN_BY_STATUS));
      await Promise.all([this.happenings[what]?.(), ...working]);
      expect(this.copy, `after ${what}`).toEqual(this.kept);
    }
  }

  async compare(): Promise<void> {
    await this.happenings.tidyUp?.();
    for (const one of this.worked) await one.revive();
    for (const one of this.worked) await one.isMirrored();
    this.quiet.write('last');
    await this.quiet.isMirrored();
    expectEqual(this.quiet.path('source'), this.quiet.copy);
    expect(this.copy.filter((it) => !it.startsWith('last'))).toEqual(this.kept);
  }
}

test('random work on three sources is mirrored, whatever befalls the backup, the shared volume and them', async () => {
  await using pair = await Pair.withKeys('sources-model');
  const trial = new Trial(pair);
  try {
    await trial.begin();
    await trial.work();
    await trial.compare();
  } catch (error) {
    throw new Error(`MODEL_SEED=${seed}, ${JSON.stringify(trial.counts)}:\n${(error as Error).message}`);
  }
  const operations = trial.worked.reduce((sum, { model }) => sum + model.count, 0);
  console.log(`MODEL_SEED=${seed}: ${operations} operations, ${JSON.stringify(trial.counts)}`);
});
