import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { confinedPath } from '../../../src/backup/confinement.ts';
import { canFence } from '../../../src/service/landlock.ts';
import { isRoot } from '../../pair.ts';
import { ROOT } from '../../project.ts';

describe('confinedPath', () => {
  const part = fc.constantFrom('a', 'b', 'c', '..', '..', '.', 'new', '');
  const path = fc.array(part, { maxLength: 6 }).map((parts) => parts.join('/'));
  const target = fc.tuple(fc.constantFrom('', 'TOP/', 'TOP/root/', 'TOP/outside/'), path).map((two) => two.join(''));
  const entry = fc.tuple(path, fc.oneof(fc.constant('directory'), target));

  test('is within the root, whatever links there are, and says where the kernel goes', () => {
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 8 }),
        fc.array(path, { minLength: 10, maxLength: 20 }),
        (entries, words) => {
          const top = realpathSync(mkdtempSync(join(tmpdir(), 'confined-')));
          const root = join(top, 'root');
          try {
            for (const name of ['root/a/b', 'outside/a/b']) mkdirSync(join(top, name), { recursive: true });
            for (const [name, kind] of entries) plant(join(root, name.replaceAll('..', 'c')), kind.replace('TOP', top));
            const given = words.flatMap((word) => [word, `${root}/${word}`, `${top}/${word}`]);
            const letThrough = given.map((word) => allowed(word, root)).filter((pair) => pair !== undefined);
            const { stdout } = Bun.spawnSync(['realpath', '-m', '--physical', '/', ...letThrough.map(([raw]) => raw)]);
            expect(stdout.toString().trim().split('\n').slice(1)).toEqual(letThrough.map(([, real]) => real));
          } finally {
            rmSync(top, { recursive: true });
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  const plant = (full: string, kind: string) => {
    try {
      if (kind === 'directory') mkdirSync(full, { recursive: true });
      else symlinkSync(kind, full);
    } catch {} // something is there
  };

  /** The word and its path, nothing where it is refused. */
  const allowed = (word: string, root: string): [string, string] | undefined => {
    let confined: string;
    try {
      confined = confinedPath(word, root, root);
    } catch (error) {
      expect(`${error}`).toContain('之内');
      return undefined;
    }
    expect(`${confined}/`).toStartWith(`${root}/`);
    return [word.startsWith('/') ? word : `${root}/${word}`, confined];
  };
});

/** Has the kernel answer a system call by itself from now on: with an error, or with 0, as if it had done what was asked. */
const PRETEND = `
  import { dlopen, ptr } from 'bun:ffi';
  import { existsSync } from 'node:fs';
  const isMusl = existsSync('/etc/alpine-release');
  const library = isMusl ? \`libc.musl-\${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1\` : 'libc.so.6';
  const { prctl } = dlopen(library, { prctl: { args: ['i32', 'i64', 'i64', 'i64', 'i64'], returns: 'i32' } }).symbols;
  const rule = (code, ifSo, ifNot, number) => {
    const bytes = Buffer.from([code, 0, ifSo, ifNot, 0, 0, 0, 0]);
    bytes.writeUInt32LE(number, 4);
    return bytes;
  };
  const pretend = (call, errno) => {
    const rules = Buffer.concat([
      rule(0x20, 0, 0, 0), // load the number of the call
      rule(0x15, 0, 1, call),
      rule(0x06, 0, 0, 0x50000 + errno),
      rule(0x06, 0, 0, 0x7fff0000), // allow
    ]);
    const filter = new BigUint64Array([BigInt(rules.length / 8), BigInt(ptr(rules))]);
    if (prctl(38, 1, 0, 0, 0) || prctl(22, 2, ptr(filter), 0, 0)) throw new Error('seccomp');
  };`;

/** Runs lines of code in a process of its own, which may be fenced in; returns what they tell. */
function inProcess(code: string): string[] {
  const module = join(ROOT, 'src', 'backup', 'confinement.ts');
  const script = `${PRETEND}
  import { spawnSync } from 'node:child_process';
  import { openSync, readFileSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
  import { fence, fenceForReading, forbidDevices, neededBy } from '${module}';
  const tell = (act) => {
    try {
      act();
      writeSync(1, 'done\\n');
    } catch (cause) {
      writeSync(1, \`\${cause.code ?? cause.message}\\n\`);
    }
  };
  ${code}
  process.exit(0);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--no-env-file', '-e', script], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout.trim().split('\n');
}

if (!canFence()) console.warn('SKIPPED: the fence: the kernel has no Landlock');
describe.skipIf(!canFence())('the fence', () => {
  const RESTRICT_SELF = 446;

  test('lets a directory be written, what is needed be read, and nothing else be touched', () => {
    const [inside, outside] = [mkdtempSync(join(tmpdir(), 'inside-')), mkdtempSync(join(tmpdir(), 'outside-'))];
    try {
      const told = inProcess(`
        tell(() => fence('${inside}', ['/usr']));
        tell(() => writeFileSync('${inside}/file', ''));
        tell(() => openSync('/usr', 'r'));
        tell(() => writeFileSync('${outside}/file', ''));
        tell(() => openSync('${outside}', 'r'));
        tell(() => readFileSync('/etc/hostname'));`);
      expect(told).toEqual(['done', 'done', 'done', 'EACCES', 'EACCES', 'EACCES']);
    } finally {
      for (const path of [inside, outside]) rmSync(path, { recursive: true });
    }
  });

  test('that is only for reading lets nothing be written, and one thing not be read, whoever is started behind it', () => {
    const [inside, outside] = [mkdtempSync(join(tmpdir(), 'inside-')), mkdtempSync(join(tmpdir(), 'outside-'))];
    try {
      for (const name of ['shown/deep', '.history']) mkdirSync(join(inside, name), { recursive: true });
      for (const name of ['file', 'shown/deep/file', '.history/file']) writeFileSync(join(inside, name), '');
      writeFileSync(join(outside, 'file'), '');
      symlinkSync(outside, join(inside, 'link'));
      const told = inProcess(`
        const read = (path) => tell(() => readFileSync(path));
        tell(() => fenceForReading('${inside}', '.history', neededBy('/bin/cat')));
        for (const path of ['file', 'shown/deep/file', '.history/file', 'link/file']) read('${inside}/' + path);
        tell(() => writeFileSync('${inside}/file', ''));
        tell(() => writeFileSync('${inside}/new', ''));
        tell(() => unlinkSync('${inside}/file'));
        for (const path of ['file', '.history/file', 'link/file'])
          writeSync(1, spawnSync('cat', ['${inside}/' + path]).status + '\\n');`);
      expect(told).toEqual([
        ...['done', 'done', 'done', 'EACCES', 'EACCES', 'EACCES', 'EACCES', 'EACCES'],
        '0',
        '1',
        '1',
      ]);
    } finally {
      for (const path of [inside, outside]) rmSync(path, { recursive: true });
    }
  });

  test('leaves rsync what it takes the names of its temporary files from', () => {
    const told = inProcess(
      `tell(() => fence('/tmp', neededBy('/bin/sh'))); tell(() => openSync('/dev/urandom', 'r'));`,
    );
    expect(told).toEqual(['done', 'done']);
  });

  test('that does not stand is found out', () => {
    expect(inProcess(`pretend(${RESTRICT_SELF}, 0); tell(() => fence('/tmp', ['/usr']));`)).toEqual([
      'Landlock 没有生效',
    ]);
    expect(inProcess(`pretend(${RESTRICT_SELF}, 1); tell(() => fence('/tmp', ['/usr']));`)).toEqual(['Landlock']);
  });

  test('is not missed where nothing is outside of it', () => {
    expect(inProcess(`tell(() => fence('/')); tell(() => openSync('/etc', 'r'));`)).toEqual(['done', 'done']);
  });
});

const canMountAnew = isRoot && spawnSync('unshare', ['-m', 'true']).status === 0;
if (!canMountAnew) console.warn('SKIPPED: devices: need root and mounts of its own');
describe.skipIf(!canMountAnew)('devices', () => {
  const MOUNT_SETATTR = 442;
  const UNSHARE = process.arch === 'arm64' ? 97 : 272;
  const opened = "tell(() => openSync('/dev/zero', 'r'));";

  test('cannot be opened once that is forbidden', () => {
    expect(inProcess(`tell(forbidDevices); ${opened}`)).toEqual(['done', 'EACCES']);
  });

  test('that can still be opened are told, whatever the kernel says', () => {
    const [refused] = inProcess(`pretend(${MOUNT_SETATTR}, 1); tell(forbidDevices);`);
    expect(refused).toContain('mount_setattr');
    expect(inProcess(`pretend(${MOUNT_SETATTR}, 0); tell(forbidDevices);`)).toEqual(['挂载点 / 上的设备文件仍可打开']);
  });

  test('are left as they are where no mounts of our own are allowed, as in a container', () => {
    expect(inProcess(`pretend(${UNSHARE}, 1); tell(forbidDevices); ${opened}`)).toEqual(['done', 'done']);
  });
});
