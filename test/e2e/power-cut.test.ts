/** The power of the backup is cut: an image of its disk, taken while it receives, is mounted in its place, and nothing of the mirror is lost. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../model.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { isRoot, Pair } from '../pair.ts';
import { eventually, type Program } from '../processes.ts';

setDefaultTimeout(180_000);

const loopDevice = () => spawnSync('losetup', ['-f'], { encoding: 'utf8' }).stdout.trim();
const mayCut = isRoot && mayHaveNamespace() && Bun.which('mkfs.ext4') !== null && loopDevice() !== '';
if (!mayCut)
  console.warn('SKIPPED: a power cut of the backup: needs root, mount namespaces, mkfs.ext4 and a loop device');

/** A pair whose backup lies on a disk of its own. */
class Bed {
  backup!: Program;
  source!: Program;
  private constructor(
    readonly pair: Pair,
    readonly namespace: Namespace,
    private readonly options: string,
    private device: string,
  ) {}

  static async make(name: string, options: string): Promise<Bed> {
    const [pair, namespace] = [await Pair.withKeys(name), await Namespace.make()];
    mkdirSync(pair.path('backup'));
    const make = 'truncate -s 96M "$1"; mkfs.ext4 -q -F "$1"; losetup -f --show "$1"';
    const bed = new Bed(pair, namespace, options, namespace.run(make, pair.path('disk')).trim());
    bed.mount();
    return bed;
  }

  private mount(): void {
    this.namespace.run('mount "$1" "$2"', this.device, this.pair.path('backup'));
  }

  async start(): Promise<void> {
    this.startBackup();
    await this.startSource();
  }

  startBackup(): void {
    this.backup = this.pair.start('start-sshd', {}, this.namespace.wrapper);
  }

  async startSource(): Promise<void> {
    this.source = this.pair.start('rsync-inotify', { RSYNC_OPTS: this.options, SYNC_INTERVAL: '0.1' });
    await this.source.shows('✓ 服务运行中');
  }

  /** What has got to the disk by now, as a machine finds it that is switched on again. */
  takeImage(): void {
    this.namespace.run('cp --sparse=always "$1" "$2"', this.pair.path('disk'), this.pair.path('image'));
  }

  /** Has the disk become the image, on the same device. */
  async swap(): Promise<void> {
    const [backup, image] = [this.pair.path('backup'), this.pair.path('image')];
    const patiently = (command: string) =>
      eventually(() => {
        try {
          this.namespace.run(command, backup, this.device, image);
          return true;
        } catch (cause) {
          if (/busy/.test(String(cause))) return false; // somebody looks at it
          throw cause;
        }
      });
    await patiently('umount "$1"');
    await patiently('losetup -d "$2" || :; losetup "$2" "$3"; mount "$2" "$1"');
  }

  /** Takes the content of a file in the image away but for its size and time, as a cut does that comes between them. */
  damage(path: string): void {
    const [image, place] = [this.pair.path('image'), this.pair.path('repair')];
    const wipe =
      'touch -r "$3" ../time; dd if=/dev/zero of="$3" bs=$(stat -c %s "$3") count=1 conv=notrunc status=none; touch -r ../time "$3"';
    this.namespace.run(`mkdir "$2"; mount -o loop "$1" "$2"; (cd "$2"; ${wipe}); umount "$2"`, image, place, path);
  }

  /** Lists what differs, in content, too. */
  differences(): string[] {
    const [command = '', ...rest] = this.namespace.wrapper;
    const options = ['-rlptDnic', '--delete', '--exclude=/lost+found'];
    const args = [...rest, 'rsync', ...options, `${this.pair.path('source')}/`, `${this.pair.path('backup')}/`];
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    return status === 0 ? stdout.split('\n').filter(Boolean) : [stderr];
  }

  async isMirrored(): Promise<void> {
    await eventually(() => this.differences().length === 0, 60_000).catch((cause) => {
      const outputs = this.pair.programs.map(({ output }) => output.slice(-4000));
      throw new Error(`${cause}\n${this.differences().join('\n')}\n${outputs.join('\n---\n')}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.pair.programs.map((program) => program.stop()));
    this.namespace.run('umount --lazy "$1" || :; losetup -d "$2" || :', this.pair.path('backup'), this.device);
    await this.pair[Symbol.asyncDispose]();
    await this.namespace[Symbol.asyncDispose]();
  }
}

/** Makes a tree, and hundreds of changes in it. */
class Work {
  private readonly random = new Random(7);
  private number = 0;
  constructor(private readonly root: string) {
    for (let d = 0; d < 8; d++) {
      mkdirSync(`${root}/d${d}`);
      for (let f = 0; f < 20; f++) this.write(`${root}/d${d}/f${f}`, 1 + this.random.below(50_000));
    }
  }

  private write(path: string, size: number): void {
    writeFileSync(path, Buffer.alloc(size, `${this.number++} `));
  }

  private any(): string {
    const directory = `${this.root}/d${this.random.below(8)}`;
    return `${directory}/${this.random.pick(readdirSync(directory).filter((name) => !name.endsWith('-link')))}`;
  }

  private writeWithin(path: string, flags: string, size: number, at: number): void {
    const file = openSync(path, flags);
    if (flags === 'w') ftruncateSync(file, 2 * size);
    writeSync(file, Buffer.alloc(size, `${this.number++} `), 0, size, at);
    closeSync(file);
  }

  private readonly steps: ((path: string, fresh: string) => void)[] = [
    (path) => this.writeWithin(path, 'r+', 500, this.random.below(statSync(path).size)),
    (path) => this.writeWithin(path, 'r+', 500, 0),
    (_, fresh) => this.write(fresh, 1 + this.random.below(50_000)),
    (_, fresh) => this.writeWithin(fresh, 'w', 40_000, 20_000),
    (path, fresh) => {
      this.write(fresh, statSync(path).size);
      renameSync(fresh, path);
    },
    (path, fresh) => renameSync(path, fresh),
    (path) => rmSync(path),
    (path) => chmodSync(path, 0o600 + this.random.below(0o100)),
    (_, fresh) => symlinkSync(`to-${this.number}`, `${fresh}-link`),
  ];

  async change(rounds: number): Promise<void> {
    for (let n = 0; n < rounds; n++) {
      for (let k = 0; k < 8; k++)
        this.random.pick(this.steps)(this.any(), `${this.root}/d${this.random.below(8)}/n${this.number++}`);
      await sleep(20);
    }
  }
}

/** Has changes made and mirrored, and the disk imaged that many seconds after that. */
async function cut(bed: Bed, seconds: number): Promise<void> {
  const work = new Work(bed.pair.path('source'));
  writeFileSync(bed.pair.path('source', 'damaged'), 'content');
  await bed.start();
  await bed.isMirrored();
  bed.namespace.run('sync -f "$1"', bed.pair.path('backup'));
  await work.change(60);
  await bed.isMirrored();
  await sleep(seconds * 1000); // which is what this is about
  bed.takeImage();
}

/** The same, and a file is left with its size and time and without its content, as files may be that are written in place. */
async function cutBadly(bed: Bed, seconds: number): Promise<void> {
  await cut(bed, seconds);
  bed.damage('damaged');
}

const METHODS = [
  ['files that are written in place', '-avz --delete --inplace', 1],
  ['files that are written in place', '-avz --delete --inplace', 4],
  ['files with holes', '-avzS --delete', 4],
] as const;

test.skipIf(!mayCut).each(METHODS)('%s are all there again (%s, %d s later)', async (_, options, seconds) => {
  await using bed = await Bed.make('cut', options);
  await cutBadly(bed, seconds);
  await bed.backup.stop();
  await bed.swap();
  bed.startBackup();
  await bed.backup.shows('已把它们的修改时间提前一天');
  await bed.isMirrored();
});

test.skipIf(!mayCut)(
  'files that are put in the place of others are all there again, and none is given another time',
  async () => {
    await using bed = await Bed.make('cut', '-avz --delete');
    await cut(bed, 1);
    await bed.backup.stop('SIGKILL');
    await bed.swap();
    bed.startBackup();
    await bed.isMirrored();
    expect(bed.backup.output).not.toContain('修改时间提前');
  },
);

test.skipIf(!mayCut)('nothing is lost where the source is started anew, too', async () => {
  await using bed = await Bed.make('cut-both', '-avz --delete --inplace');
  await cutBadly(bed, 1);
  await Promise.all([bed.backup.stop('SIGKILL'), bed.source.stop()]);
  await bed.swap();
  bed.startBackup();
  await bed.startSource();
  await bed.isMirrored();
});

test.skipIf(!mayCut)('another image on the same device is noticed without a start of the backup', async () => {
  await using bed = await Bed.make('cut-running', '-avz --delete --inplace');
  await cutBadly(bed, 1);
  writeFileSync(bed.pair.path('source', 'later'), 'later');
  await bed.isMirrored();
  await bed.swap();
  await bed.backup.shows(/的文件系统曾被卸载又重新挂载|又是启动时的目录/);
  await bed.isMirrored();
});

test.skipIf(!mayCut)('a backup that was stopped is taken as it is', async () => {
  await using bed = await Bed.make('no-cut', '-avz --delete');
  new Work(bed.pair.path('source'));
  await bed.start();
  await bed.isMirrored();
  await bed.backup.stop();
  expect(bed.differences()).toEqual([]);
  const offset = bed.source.output.length;
  bed.startBackup();
  await bed.source.shows('同步成功', offset, 60_000);
  expect(bed.backup.output).not.toContain('上次没有正常停止');
  expect(bed.source.output.slice(offset)).not.toContain('d0/f0');
});
