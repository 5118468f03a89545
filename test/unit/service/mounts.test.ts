import { describe, expect, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  holdOpen,
  type Identity,
  identify,
  isSameDirectory,
  isSameFileSystem,
  keepMounted,
  type Mount,
  mountOf,
  mountsBelow,
  parseMountinfo,
  readMountinfo,
} from '../../../src/service/mounts.ts';
import { Random } from '../../model.ts';
import { mayHaveNamespace, Namespace } from '../../namespace.ts';
import { eventually } from '../../processes.ts';
import { ROOT } from '../../project.ts';
import { bytes } from '../../tree.ts';
import { scratch } from './scratch.ts';

/** Text as bytes in a latin1 string. */
const latin1 = (text: string) => Buffer.from(text).toString('latin1');

describe('the kernel’s text', () => {
  test('is read with all that it tells of a mount, with and without optional fields', () => {
    const text = [
      '29 1 8:1 / / rw,relatime - ext4 /dev/root rw',
      '36 29 0:45 /part/of\\040it /data/source rw,noatime shared:1 master:2 propagate_from:3 - fuse.sshfs user@host:/x rw',
      '',
    ].join('\n');
    expect(parseMountinfo(text)).toEqual([
      { id: 29, parent: 1, device: '8:1', root: '/', path: '/', type: 'ext4' },
      { id: 36, parent: 29, device: '0:45', root: '/part/of it', path: '/data/source', type: 'fuse.sshfs' },
    ]);
  });

  test('is read with names that hold what it escapes, and what looks like its own signs', () => {
    const line = (path: string) => `36 29 0:45 / ${path} rw - tmpfs tmpfs rw`;
    const pathOf = (path: string) => parseMountinfo(line(path))[0]?.path;
    expect(pathOf('/a\\040b\\011c\\012d\\134e\\043f')).toBe('/a b\tc\nd\\e#f');
    expect(pathOf('/\\134040')).toBe('/\\040');
    expect(pathOf('/a-b/-')).toBe('/a-b/-');
    expect(pathOf('/\xff\xfe')).toBe('/\xff\xfe');
    for (const sign of ['\r', '\v', '\f', '\xa0', '\x85', latin1('à'), latin1('\ufeff'), latin1('\u2028')])
      expect(pathOf(`/${sign}/a${sign}b`)).toBe(`/${sign}/a${sign}b`); // what is white space elsewhere
  });

  test('is read also where a file system has no source, and what is no mount is left out', () => {
    expect(parseMountinfo('36 29 0:45 / /a rw - tmpfs  rw\nnonsense\n\n')).toMatchObject([
      { path: '/a', type: 'tmpfs' },
    ]);
    expect(parseMountinfo('')).toEqual([]);
  });

  test('of this machine holds the root and what /proc is', () => {
    const mounts = parseMountinfo(readMountinfo());
    expect(mountOf(mounts, '/')?.path).toBe('/');
    expect(mountOf(mounts, '/proc/self')).toMatchObject({ path: '/proc', type: 'proc' });
  });
});

/** Mounts by what stands in the list: `id parent path`. */
const listed = (...lines: string[]) =>
  parseMountinfo(
    lines.map((line) => line.replace(/^(\d+) (\d+) (\S+)$/, '$1 $2 0:$1 / $3 rw - tmpfs tmpfs rw')).join('\n'),
  );
const idsOf = (mounts: Mount[]) => mounts.map(({ id }) => id);

describe('what is mounted below a directory', () => {
  test('is what lies in it, not what has a name that begins alike, and the directory itself', () => {
    const mounts = listed('1 0 /', '2 1 /data', '3 2 /data/a', '4 1 /database', '5 3 /data/a/b');
    expect(idsOf(mountsBelow(mounts, '/data'))).toEqual([2, 3, 5]);
    expect(idsOf(mountsBelow(mounts, '/data/a'))).toEqual([3, 5]);
    expect(idsOf(mountsBelow(mounts, '/'))).toEqual([1, 2, 3, 4, 5]);
    expect(mountsBelow(mounts, '/data/none')).toEqual([]);
  });

  test('is of two at one place the upper one, and nothing that the upper one hides', () => {
    const stacked = listed('1 0 /', '2 1 /data', '3 2 /data/a', '4 2 /data', '5 4 /data/b');
    expect(idsOf(mountsBelow(stacked, '/'))).toEqual([1, 4, 5]);
    expect(mountOf(stacked, '/data/a/file')?.id).toBe(4);
    expect(mountOf(stacked, '/data/b/file')?.id).toBe(5);
    const reversed = listed('5 4 /data/b', '4 2 /data', '3 2 /data/a', '2 1 /data', '1 0 /');
    expect(idsOf(mountsBelow(reversed, '/'))).toEqual([5, 4, 1]);
  });

  test('is what lies on the upper one of two also where something hidden was mounted above it, up to the root', () => {
    const mounts = listed('1 0 /', '2 1 /data/a', '3 1 /data', '4 3 /data/a/b');
    expect(idsOf(mountsBelow(mounts, '/data'))).toEqual([3, 4]);
    expect(mountOf(mounts, '/data/a')?.id).toBe(3);
    const roots = listed('1 1 /', '2 1 /data', '3 1 /', '4 3 /data/a');
    expect(idsOf(mountsBelow(roots, '/'))).toEqual([3, 4]);
    expect(mountOf(roots, '/data/b')?.id).toBe(3);
  });

  test('is found for the path of a mount itself and for what lies deep in it', () => {
    const mounts = listed('1 0 /', '2 1 /data', '3 2 /data/a');
    expect(mountOf(mounts, '/data/a')?.id).toBe(3);
    expect(mountOf(mounts, '/data/ab/c')?.id).toBe(2);
    expect(mountOf([], '/data')).toBeUndefined();
  });
});

const isPossible = mayHaveNamespace();

test.skipIf(!isPossible)(
  'what the kernel says of mounts is what it says now, however long, unless it may be older',
  async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    const script = `import { spawnSync } from 'node:child_process';
    import { readMountinfo } from '${ROOT}/src/service/mounts.ts';
    const count = (age) => readMountinfo(age).split(' ${directory.path} ').length - 1;
    const mount = (times) => spawnSync('sh', ['-c', 'for n in $(seq ' + times + '); do mount -t tmpfs none ${directory.path}; done']);
    const counts = [count(0)];
    for (const times of [1, 300]) {
      mount(times);
      counts.push(count(60_000), count(0), count(60_000));
    }
    console.log(counts.join());`;
    const told = namespace.run('exec "$@"', process.execPath, '-e', script);
    expect(told.trim()).toBe('0,0,1,1,1,301,301');
  },
);
if (!isPossible) console.log('SKIPPED: what the kernel says of mounts (needs mount namespaces)');

/** Where this process, which is not in the namespace, sees a path of it. */
function seenFromHere(namespace: Namespace, path: string): string {
  const [, pid = ''] = /proc\/(\d+)\//.exec(namespace.wrapper.join(' ')) ?? [];
  return `/proc/${pid}/root${path}`;
}

/** The number that the kernel gives the mount of each path, NaN where nothing is there. */
const ID_OF = `for path; do {
  while read -r key value; do case $key in mnt_id:) echo "$value" ;; esac; done </proc/self/fdinfo/3
} 3<"$path" || echo none; done`;

describe.skipIf(!isPossible)('the mounts of a namespace', () => {
  /** Names that the kernel escapes, or that begin alike. */
  const NAMES = ['a', 'ab', 'a b', 'back\\slash', 'new\nline', '#', 'voilà', 'cr\r'];

  test('are seen as the kernel itself sees them, however they are stacked, moved and hidden', async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    const random = new Random(7);
    const root = realpathSync(directory.path);
    const places = [root, ...NAMES.flatMap((name) => [join(root, name), ...NAMES.map((it) => join(root, name, it))])];
    const fill =
      'for name in "a" "ab" "a b" "back\\\\slash" "new\nline" "#" "voilà" "cr\r"; do mkdir -p "./$name"; done';
    const make = (path: string) => namespace.run(`cd "$1"; ${fill}; for it in *; do (cd "./$it"; ${fill}); done`, path);
    make(root);
    let seen = 0;
    let hidden = 0;
    for (let n = 0; n < 60; n++) {
      const [path, other] = [random.chance(0.05) ? root : random.pick(places), random.pick(places)];
      const isTried = 'if test -d "$1" && test -d "$2"; then';
      if (random.chance(0.55)) {
        namespace.run(`${isTried} mount -t tmpfs tmpfs "$1" -o size=1m; fi`, path, other);
        namespace.run(`if test -d "$1"; then cd "$1"; ${fill}; fi`, path);
      } else if (random.chance(0.6)) namespace.run(`${isTried} mount --bind "$2" "$1"; fi`, path, other);
      else namespace.run('umount --lazy "$1" 2>&1 || true', path);
      if (n % 3 > 0) continue;

      const mounts = parseMountinfo(latin1(namespace.run('cat /proc/self/mountinfo')));
      const inside = mounts.filter((mount) => bytes(mount.path).toString().startsWith(root));
      const paths = [...new Set([...places, ...inside.map((mount) => bytes(mount.path).toString())])];
      const answers = namespace.run(`${ID_OF} 2>/dev/null`, ...paths).split('\n');
      const ids = new Map(paths.map((it, index) => [latin1(it), Number(answers[index])]));
      const there = paths.map(latin1).filter((it) => !Number.isNaN(ids.get(it)));
      expect(there.map((it) => [it, mountOf(mounts, it)?.id])).toEqual(there.map((it) => [it, ids.get(it)]));
      const visible = inside.filter((mount) => ids.get(mount.path) === mount.id);
      expect(mountsBelow(mounts, latin1(root))).toEqual(visible);
      seen += visible.length;
      hidden += inside.length - visible.length;
    }
    expect(seen).toBeGreaterThan(100);
    expect(hidden).toBeGreaterThan(50);
  }, 60_000);

  test('are told apart although device and inode are the same, and known again when they come back', async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    const point = join(directory.path, 'disk');
    mkdirSync(point);
    const image = (name: string) => join(directory.path, `${name}.img`);
    for (const name of ['one', 'two']) namespace.run('truncate -s 4M "$1"; mkfs.ext4 -q "$1"', image(name));
    /** Mounts an image, looks at it, and lets it go again. */
    const look = async (name: string) => {
      namespace.run('mount -o loop,ro "$1" "$2"', image(name), point);
      const found = await identify(seenFromHere(namespace, point));
      namespace.run('umount "$1"', point);
      if (!found) throw new Error(`${name} was not identified`);
      return found;
    };
    const [one, two, again] = [await look('one'), await look('two'), await look('one')];
    expect(one).toMatchObject({ type: 'ef53', inode: '2' });
    expect(two).toMatchObject({ type: 'ef53', inode: '2' });
    expect(isSameFileSystem(one, two)).toBe(false);
    expect(again).toEqual(one);
    expect(isSameDirectory(one, again)).toBe(true);
  }, 60_000);

  test('below a directory stay with a program that keeps them, also after they were unmounted by force, and no others do', async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    namespace.run('mount --make-rshared /'); // as it is where systemd runs
    const root = join(directory.path, 'a b\n\\');
    const places = ['source/one', 'source/two\xe9', 'other'].map((name) => `${latin1(root)}/${name}`);
    for (const place of places) {
      mkdirSync(bytes(place), { recursive: true });
      writeFileSync(bytes(`${place}/below`), '');
    }
    const everywhere = (script: string) => namespace.run(`for path in "$1"/*/*/ "$1"/other; do ${script}; done`, root);
    everywhere('mount -t tmpfs tmpfs "$path"; touch "$path/inside"');
    const look = 'echo ready; read line; for path in one/ two*/ ../other; do ls "$path"; done';
    const [source, kept] = [join(root, 'source'), places.slice(0, 2)];
    const words = keepMounted(latin1(source), kept, source, ['sh', '-c', look]);
    const [command = '', ...args] = [...namespace.wrapper, ...words];
    const program = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    let said = '';
    program.stdout.setEncoding('utf8').on('data', (chunk) => {
      said += chunk;
    });
    await eventually(() => said === 'ready\n');
    everywhere('umount --lazy "$path"');
    expect(everywhere('ls "$path"')).toBe('below\nbelow\nbelow\n');
    program.stdin.end('go on\n');
    await once(program, 'close');
    expect(said).toBe('ready\ninside\ninside\nbelow\n');
    const late = spawnSync(command, args);
    expect([late.status, late.stdout.toString()]).toEqual([126, '']);
  });

  test('are held by those who hold them open, and only by these', async () => {
    using directory = scratch();
    await using namespace = await Namespace.make();
    const point = join(directory.path, 'disk');
    mkdirSync(point);
    namespace.run('mount -t tmpfs tmpfs "$1"', point);
    const seen = seenFromHere(namespace, point);
    {
      using _ = holdOpen([join(directory.path, 'none'), seen]);
      expect(() => namespace.run('umount "$1"', point)).toThrow(/busy/);
    }
    namespace.run('umount "$1"', point);
  });
});

describe('a directory', () => {
  test('is told from any other one, and known again under another name and through a link', async () => {
    using directory = scratch();
    const at = (name: string) => join(directory.path, name);
    for (const name of ['one', 'two']) mkdirSync(at(name));
    symlinkSync('one', at('link'));
    const one = (await identify(at('one'))) as Identity;
    const two = (await identify(at('two'))) as Identity;
    expect(one.inode).toMatch(/^\d+$/);
    expect(isSameFileSystem(one, two)).toBe(true);
    expect(isSameDirectory(one, two)).toBe(false);
    expect(await identify(at('link'))).toEqual(one);
    writeFileSync(join(at('one'), 'file'), '');
    chmodSync(at('one'), 0o700);
    renameSync(at('one'), at('other'));
    expect(await identify(at('other'))).toEqual(one);
    expect(await identify(at('one'))).toBeUndefined();
    expect(await identify(at('link'))).toBeUndefined();
  });

  test('is another one where it was made anew, although it may have the number of the first', async () => {
    using directory = scratch();
    const path = join(directory.path, 'it');
    const identities: Identity[] = [];
    for (let n = 0; n < 5; n++) {
      mkdirSync(path);
      identities.push((await identify(path)) as Identity);
      rmSync(path, { recursive: true });
    }
    const pairs = identities.flatMap((one, n) => identities.slice(n + 1).map((other) => isSameDirectory(one, other)));
    expect(pairs).toHaveLength(10);
    expect(new Set(pairs)).toEqual(new Set([false]));
  });

  test.each([
    ' ',
    '-',
    '--',
    'trailing\n\n',
    `quo'te"$(x)`,
    '\\053',
    '%s',
    '\xff\xfe',
    latin1('中文'),
    'n'.repeat(255),
  ])('is found under any name: %p', async (name) => {
    using directory = scratch();
    const path = `${directory.path}/${name}`;
    mkdirSync(bytes(path));
    mkdirSync(`${directory.path}/other`);
    const found = await identify(path);
    expect(found?.inode).toMatch(/^\d+$/);
    expect(found).not.toEqual(await identify(`${directory.path}/other`));
  });
});

describe('a file system', () => {
  const known: Identity = { fileSystem: 'abc', type: 'ef53', inode: '2', birth: '17' };

  test('is the same by its number and type, whatever directory it is', () => {
    expect(isSameFileSystem(known, { ...known, inode: '3', birth: '18' })).toBe(true);
    expect(isSameFileSystem(known, { ...known, fileSystem: 'abd' })).toBe(false);
    expect(isSameFileSystem(known, { ...known, type: '1021994' })).toBe(false);
    expect(isSameDirectory(known, { ...known, inode: '3' })).toBe(false);
    expect(isSameDirectory(known, { ...known, birth: '18' })).toBe(false);
    expect(isSameDirectory(known, { ...known })).toBe(true);
  });

  test('is with XFS, whose number may be another one after the next boot, known by its directory too', () => {
    const xfs = { ...known, type: '58465342' };
    expect(isSameFileSystem(xfs, { ...xfs, fileSystem: 'abd' })).toBe(true);
    expect(isSameDirectory(xfs, { ...xfs, fileSystem: 'abd' })).toBe(true);
    expect(isSameFileSystem(xfs, { ...xfs, fileSystem: 'abd', birth: '18' })).toBe(false);
    expect(isSameFileSystem(xfs, { ...xfs, fileSystem: 'abd', inode: '3' })).toBe(false);
    expect(isSameFileSystem(xfs, { ...known, fileSystem: 'abd' })).toBe(false);
  });
});
