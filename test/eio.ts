/**
 * A file system that shows a directory and fails with EIO where a test wants it to, as a disk does that is about to die.
 *
 *   using disk = await eioAt(pair.path('source'));
 *   disk.fail('getattr /d1/bad', 'readdir /d2');
 *   disk.fail();
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { isRoot } from './pair.ts';
import { eventually } from './processes.ts';

/** The Python that Debian's python3-fusepy is for. */
const PYTHON = '/usr/bin/python3';

/** Whether this machine lets a test have one. */
export const mayFail = isRoot && existsSync('/dev/fuse') && spawnSync(PYTHON, ['-c', 'import fusepy']).status === 0;
if (!mayFail) console.warn('SKIPPED: a disk that fails: needs root, /dev/fuse and python3-fusepy');

const PROGRAM = `
import errno, os, sys, time, fusepy
root, place, faults = sys.argv[1:4]
class Disk(fusepy.Operations):
    def __call__(self, op, path, *args):
        while f'hang {op} {path}' in open(faults).read().split('\\n'): time.sleep(0.02)
        if f'{op} {path}' in open(faults).read().split('\\n'): raise fusepy.FuseOSError(errno.EIO)
        try: return getattr(self, op)(root + path, *args)
        except OSError as cause: raise fusepy.FuseOSError(cause.errno)
    def getattr(self, path, fh=None):
        found = os.lstat(path)
        return {key: getattr(found, key) for key in dir(found) if key[:3] == 'st_' and key[-3:] != '_ns'}
    def readdir(self, path, fh): return ['.', '..'] + os.listdir(path)
    def readlink(self, path): return os.readlink(path)
    def chmod(self, path, mode): return os.chmod(path, mode)
    def chown(self, path, uid, gid): return os.lchown(path, uid, gid)
    def mkdir(self, path, mode): return os.mkdir(path, mode)
    def rmdir(self, path): return os.rmdir(path)
    def unlink(self, path): return os.unlink(path)
    def rename(self, old, new): return os.rename(old, root + new)
    def utimens(self, path, times=None): os.utime(path, times, follow_symlinks=False)
    def open(self, path, flags): return os.open(path, flags & ~os.O_APPEND)
    def create(self, path, mode, info=None): return os.open(path, os.O_RDWR | os.O_CREAT, mode)
    def read(self, path, size, offset, fh): return os.pread(fh, size, offset)
    def write(self, path, data, offset, fh): return os.pwrite(fh, data, offset)
    def truncate(self, path, length, fh=None): os.truncate(path, length)
    def release(self, path, fh): return os.close(fh)
    def statfs(self, path):
        found = os.statvfs(path)
        return {key: getattr(found, key) for key in dir(found) if key[:2] == 'f_' and key != 'f_fsid'}
fusepy.FUSE(Disk(), place, foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0, use_ino=True)
`;

/** Mounts one at a directory until it is disposed of. */
export async function eioAt(place: string) {
  const [real, faults] = [`${place}-disk`, `${place}-faults`];
  for (const directory of [real, place]) mkdirSync(directory, { recursive: true });
  const fail = (...these: string[]) => writeFileSync(faults, these.join('\n'));
  fail();
  const server = spawn(PYTHON, ['-c', PROGRAM, real, place, faults], { stdio: 'inherit' });
  await eventually(() => spawnSync('mountpoint', ['-q', place]).status === 0);
  return {
    /** What is on the disk, for those who know the way past it. */
    real,
    /** Has these operations fail from now on, and no others: `readdir /d`, or come back once they are not named any more: `hang open /f`. */
    fail,
    /** Has it answer nothing any more, until it is disposed of. */
    hang: () => server.kill('SIGSTOP'),
    [Symbol.dispose]() {
      server.kill('SIGCONT');
      spawnSync('umount', ['--lazy', place]);
      server.kill();
    },
  };
}
