import { expect, test } from 'bun:test';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleansUp, Remnants } from '../../../src/backup/remnants.ts';
import { mayHaveNamespace } from '../../namespace.ts';
import { content } from '../../processes.ts';
import { keepLog } from '../mirror/stand-ins.ts';

const RECEIVING = ['rsync', '--server', '-vlogDtpre.iLsfxCIvu', '.'];

test.each<[string[], boolean]>([
  [[...RECEIVING, '/data/backup/'], true],
  [['rsync', '--server', '-vlogDtpr', '--delete', '--backup', '--backup-dir=/d/.history/now-1-2', '.', '/d'], true],
  [['rsync', '--server', '-vlogDtpr', '--partial', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--partial-dir', '.parts', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--temp-dir=/tmp', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--delay-updates', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--inplace', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--append', '.', '/d'], false],
  [['rsync', '--server', '-vlogDtpr', '--backup-dir=old', '.', '/d'], false],
  [['rsync', '--server', '-vlogPDtpr', '.', '/d'], false],
  [['rsync', '--server', '--sender', '-vlogDtpr', '.', '/d'], false],
  [['rsync', '--server', '-se.LsfxCIvu'], false],
  [['rsync', '-a', '.', '/d'], false],
  [['cat', '--server', '.', '/d'], false],
])('whether %j leaves nothing on purpose: %p', (words, expected) => {
  expect(cleansUp(words)).toBe(expected);
});

/** A directory in which a receiving rsync waits, with files open as it has them in the midst of its work. */
class Bed implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'remnants-'));
  readonly remnants: Remnants;
  private process: ChildProcess | undefined;
  private readonly log = keepLog();

  constructor() {
    for (const name of ['below', 'other']) mkdirSync(this.at(name));
    this.remnants = new Remnants(() => (this.process?.pid ? [this.process.pid] : []), `${this.directory}/`);
  }

  at(...names: string[]): string {
    return join(this.directory, ...names);
  }

  /** @param opening the words before rsync's that open its files, for the shell */
  async begin(opening: string, ...options: string[]): Promise<void> {
    const script = `exec ${opening} rsync --server -vlogDtpre.iLsfxCIvu "$@"`;
    const args = ['-c', script, 'sh', ...options, '.', this.directory];
    this.process = spawn('/bin/sh', args, { cwd: this.directory, stdio: ['pipe', 'pipe', 'ignore'] });
    await once(this.process.stdout as NodeJS.ReadableStream, 'data');
    await this.remnants.inspect();
  }

  /** Ends it as nothing can be cleaned up. */
  async kill(): Promise<void> {
    this.process?.kill('SIGKILL');
    if (this.process) await once(this.process, 'exit');
    await this.remnants.inspect();
  }

  get told(): string {
    return this.log.text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.log[Symbol.dispose]();
    this.process?.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const NAME = '.big.iso.aB3xY9';

test('what an rsync was writing when it was killed is removed, whatever its name, and told', async () => {
  await using bed = new Bed();
  writeFileSync(bed.at('below', 'big.iso'), 'old');
  writeFileSync(bed.at('below', '.big.iso.backup'), 'of somebody');
  await bed.begin(`3>below/${NAME} 4>'.\n\xff.aaaaaa'`);
  await bed.remnants.inspect();
  expect(existsSync(bed.at('below', NAME))).toBe(true);
  await bed.kill();
  expect(readdirSync(bed.at('below')).sort()).toEqual(['.big.iso.backup', 'big.iso']);
  expect(readdirSync(bed.directory).sort()).toEqual(['below', 'other']);
  expect(bed.told).toContain(`已删除它没有写完的临时文件 ${bed.at('below', NAME)}`);
});

test.if(mayHaveNamespace())('the same where rsync sees DEST_DIR in mounts of its own', async () => {
  await using bed = new Bed();
  const place = `/sys${bed.directory}`;
  const seclude = `mount -t tmpfs tmpfs /sys && mkdir -p ${place} && mount --bind ${bed.directory} ${place}`;
  await bed.begin(`unshare --mount sh -c '${seclude}; exec 3>${place}/below/${NAME}; exec "$@"' sh`);
  expect(existsSync(bed.at('below', NAME))).toBe(true);
  await bed.kill();
  expect(readdirSync(bed.at('below'))).toEqual([]);
  expect(bed.told).toContain(`临时文件 ${bed.at('below', NAME)}`);
});

test.each<[string, (bed: Bed) => void]>([
  ['is complete', (bed) => renameSync(bed.at('below', NAME), bed.at('below', 'big.iso'))],
  [
    'is another file by now',
    (bed) => {
      renameSync(bed.at('below', NAME), bed.at('other', NAME));
      writeFileSync(bed.at('below', NAME), 'of somebody');
    },
  ],
  ['has another name, too', (bed) => linkSync(bed.at('below', NAME), bed.at('other', 'link'))],
  [
    'is found through a link alone',
    (bed) => {
      renameSync(bed.at('below'), bed.at('moved'));
      symlinkSync('moved', bed.at('below'));
    },
  ],
])('what %s stays', async (_, change) => {
  await using bed = new Bed();
  await bed.begin(`3>below/${NAME}`);
  change(bed);
  const before = readdirSync(bed.directory, { recursive: true }).sort();
  await bed.kill();
  expect(readdirSync(bed.directory, { recursive: true }).sort()).toEqual(before);
  expect(bed.told).not.toContain('临时文件');
});

test('an older version stays, also one of a source that has a directory of its own', async () => {
  for (const history of ['.history', 'below/.history']) {
    await using bed = new Bed();
    mkdirSync(bed.at(history));
    await bed.begin(`3>${history}/${NAME}`, '--backup', `--backup-dir=${bed.at(history, 'now-1-2')}`);
    await bed.kill();
    expect(readdirSync(bed.at(history))).toEqual([NAME]);
  }
});

test.each([
  ['is only read', `3<>below/${NAME} 3<below/${NAME}`, []],
  ['has a name of its own', '3>below/.big.iso.part', []],
  ['is kept on purpose', `3>below/${NAME}`, ['--partial']],
  ['is outside of DEST_DIR', `3>"$(mktemp -d)"/${NAME}; readlink /proc/self/fd/3 >below/outside; exec`, []],
])('what %s stays where rsync is killed', async (_, redirections, options) => {
  await using bed = new Bed();
  await bed.begin(redirections, ...options);
  await bed.kill();
  const outside = content(bed.at('below', 'outside')).trim();
  expect(existsSync(outside || bed.at('below', redirections.includes('.part') ? '.big.iso.part' : NAME))).toBe(true);
  expect(bed.told).not.toContain('临时文件');
  if (outside) rmSync(outside);
});
