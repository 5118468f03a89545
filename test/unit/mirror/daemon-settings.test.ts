import { expect, test } from 'bun:test';
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { complaintAboutPasswordFile } from '../../../src/mirror/daemon-settings.ts';
import { readEnvironment } from '../../../src/mirror/environment.ts';
import { run } from '../../../src/service/processes.ts';
import { scratch } from '../service/scratch.ts';

const isRoot = process.getuid?.() === 0;
const DAEMON = { SOURCE_DIR: '/tmp/', DEST_HOST: 'rsync://me@127.0.0.1:1/m/' };

const mistakesWith = (env: Record<string, string>) =>
  readEnvironment({ ...DAEMON, ...env }).mistakes.map(({ message }) => message);

interface Kind {
  name: string;
  make?: (path: string) => void;
  says?: string;
}
const write = (text: string, mode: number) => (path: string) => {
  writeFileSync(path, text);
  chmodSync(path, mode);
};
const KINDS: Kind[] = [
  { name: 'of one line', make: write('secret\n', 0o600) },
  { name: 'that a group may read', make: write('secret', 0o640) },
  { name: 'with empty lines before', make: write('\r\n\nsecret\n', 0o400) },
  { name: 'that is not there', says: '不存在' },
  { name: 'that is empty', make: write('', 0o600), says: '没有密码' },
  { name: 'that holds no more than line ends', make: write('\n\r\n', 0o600), says: '没有密码' },
  { name: 'that others may read', make: write('secret\n', 0o644), says: 'chmod 600' },
  { name: 'that others may write', make: write('secret\n', 0o602), says: 'chmod 600' },
  ...(isRoot
    ? [
        {
          name: 'of somebody else',
          make: (path: string) => {
            write('secret\n', 0o600)(path);
            chownSync(path, 1234, 1234);
          },
          says: '属于用户 1234',
        },
      ]
    : [{ name: 'that may not be read', make: write('secret\n', 0o200), says: 'EACCES' }]),
];

test.each(KINDS)('a file with the password $name is what rsync says it is', async ({ make, says }) => {
  using directory = scratch();
  const path = join(directory.path, 'password');
  make?.(path);
  const mistakes = mistakesWith({ RSYNC_PASSWORD_FILE: path });
  expect(mistakes).toEqual(says ? [expect.stringMatching(new RegExp(`^配置错误: RSYNC_PASSWORD_FILE=.*${says}`))] : []);
  expect(mistakes.join()).not.toContain('secret');
  using daemon = listen();
  const url = `rsync://me@127.0.0.1:${daemon.port}/m/`;
  const { stderr } = await run`rsync --password-file=${path} ${url}`;
  expect(/password file|password from/.test(stderr)).toBe(says !== undefined); // rsync itself
});

/** A daemon that asks for a password, and hears no answer. */
function listen() {
  const server = Bun.listen({
    hostname: '127.0.0.1',
    port: 0,
    socket: {
      open: (socket) => void socket.write('@RSYNCD: 31.0 md5\n'),
      data: (socket, said) => {
        if (said.toString().includes('m\n')) socket.write('@RSYNCD: AUTHREQD challenge\n');
        if (/^me /m.test(said.toString())) socket.end('@ERROR: auth failed on module m\n');
      },
    },
  });
  return { port: server.port, [Symbol.dispose]: () => server.stop(true) };
}

test('one that has become a pipe, in which nobody writes, is not waited for', async () => {
  using directory = scratch();
  const path = join(directory.path, 'password');
  await run`mkfifo ${path}`;
  expect(complaintAboutPasswordFile(path)).toContain('普通文件');
});

test('it may not be a directory, and is not looked at where no daemon is a target', () => {
  using directory = scratch();
  mkdirSync(join(directory.path, 'password'));
  expect(mistakesWith({ RSYNC_PASSWORD_FILE: join(directory.path, 'password') }).join()).toContain('普通文件');
  expect(mistakesWith({ RSYNC_PASSWORD_FILE: '/nowhere/at/all', DEST_HOST: 'me@host' })).toEqual([]);
});

test('what would lead rsync elsewhere is refused, and nothing of it is shown', () => {
  expect(mistakesWith({ RSYNC_OPTS: '-av -e ssh' }).join()).toContain('不能包含 -e');
  expect(mistakesWith({ RSYNC_OPTS: '-av -e ssh', DEST_HOST: 'me@host' })).toEqual([]);
  for (const port of ['--port=8730', '--port 8730']) {
    expect(mistakesWith({ RSYNC_OPTS: `-av ${port}` })).toEqual([
      expect.stringMatching(/^配置错误: RSYNC_OPTS=.*不能包含 --port：.*写在 URL 里/),
    ]);
    expect(mistakesWith({ DEST_RSYNC_OPTS: `127.0.0.1: ${port}` })).toEqual([
      expect.stringMatching(/^配置错误: DEST_RSYNC_OPTS=.*不能包含 --port/),
    ]);
  }
  expect(mistakesWith({ RSYNC_OPTS: '-av --port=8730', DEST_HOST: 'me@host' })).toEqual([]);
  expect(mistakesWith({ RSYNC_OPTS: '-av --password-file=/x' }).join()).toContain('RSYNC_PASSWORD_FILE');
  const mistakes = mistakesWith({ RSYNC_PROXY: 'me:secret@proxy:8080' });
  expect(mistakes).toEqual([expect.stringContaining('RSYNC_PROXY 不能与 rsync:// 目标一起使用')]);
  expect(mistakes.join()).not.toContain('secret');
});
